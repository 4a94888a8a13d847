// Rewrites text before it is split: a tokenizer's normalisation steps, one after the other.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spec/tokenizer_spec.h"
#include "text/added_tokens.h"
#include "text/charsmap.h"
#include "text/replace.h"

namespace moiety::text {

class Normalizer {
 public:
  // Throws Error(Input) for a pattern or table that can't be used. SentencePiece steps leave
  // `kept`, the user-defined tokens, as they are written.
  explicit Normalizer(const std::vector<spec::Normalizer>& steps,
                      const std::vector<spec::AddedToken>& kept = {});

  struct Scratch {
    RegexScratch regex;
    std::string text, next;
  };
  // What the text becomes: itself or text in the scratch. `text` must be valid UTF-8 and not lie in
  // the scratch.
  std::string_view run(std::string_view text, Scratch& scratch) const;

 private:
  struct Step {
    spec::Normalizer spec;
    std::optional<Replacement> replacement;
    std::optional<Charsmap> charsmap;
  };
  // Appends what the step makes of the text; false if that is the text itself.
  bool apply(const Step& step, std::string_view text, RegexScratch& regex, std::string& out) const;

  std::vector<Step> steps_;
  AddedTokens kept_;
};

}  // namespace moiety::text
