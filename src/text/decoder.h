// From the texts of tokens to text, by a tokenizer's decoding steps. Token by token: what is
// certain comes out at once.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spec/tokenizer_spec.h"
#include "text/replace.h"

namespace moiety::text {

class Decoder {
 public:
  // Throws Error(Input) for a pattern that can't be compiled.
  explicit Decoder(const std::vector<spec::Decoder>& steps);

  // The bytes that a token stands for where it is neither the first nor the last.
  std::string bytes_of(const std::string& token) const;

  // What the steps remember from token to token.
  class Stream {
   public:
    // The decoder must outlive the stream.
    explicit Stream(const Decoder& decoder);

    // Appends what is complete now: never half a character.
    void push(const std::string& token, std::string& out);
    // The rest; U+FFFD if the text ends inside a character. The stream begins anew.
    void finish(std::string& out);

   private:
    friend class Decoder;
    struct Memory {
      std::string held;
      bool any = false;  // a token, or text that stays, has been here
      int stripped = 0;
    };
    const Decoder* decoder_;
    std::vector<Memory> memories_;  // one a step
    std::string bytes_;             // that left the last step
  };

 private:
  struct Step {
    spec::Decoder spec;
    std::optional<Replacement> replacement;
    bool fused = false;  // there is but one text here, which comes in parts
  };
  void feed(size_t at, std::string token, Stream& stream) const;
  void end(size_t at, Stream& stream) const;

  static std::string transformed(const Step& step, std::string token, bool is_first);
  static bool looks_at_characters(const Step& step);
  void feed_bytes(size_t at, const std::string& token, Stream& stream) const;
  void end_bytes(size_t at, Stream& stream) const;
  void feed_strip(size_t at, std::string_view part, Stream& stream) const;

  std::vector<Step> steps_;
};

}  // namespace moiety::text
