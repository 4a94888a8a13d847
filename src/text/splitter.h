// Cuts text into the pieces that become tokens each by itself, by a tokenizer's pre-tokenizer steps.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spec/tokenizer_spec.h"
#include "text/regex.h"

namespace moiety::text {

class Splitter {
 public:
  // `gives_bytes`: pieces are bytes, not ByteLevel's printable characters. Throws Error(Input) for a
  // pattern that can't be compiled and for steps that mean nothing.
  explicit Splitter(const std::vector<spec::PreTokenizer>& steps, bool gives_bytes = true);

  struct Scratch {
    RegexScratch regex;
    std::vector<std::string_view> pieces, next;
    std::vector<Regex::Match> matches;
    std::string padded, printable, bytes, spaced;
  };
  // The pieces in order, none of them empty. They look into `text` or the scratch. `text` must be
  // valid UTF-8. `at_start`: nothing stands before it.
  std::span<const std::string_view> split(std::string_view text, bool at_start,
                                          Scratch& scratch) const;

 private:
  struct Step {
    spec::PreTokenizer spec;
    std::unique_ptr<Regex> regex;  // of Split, Digits and a ByteLevel that splits
  };
  void run(const Step& step, bool at_start, Scratch& scratch) const;
  void write_metaspaces(const spec::PreTokenizer& step, bool at_start, Scratch& scratch) const;
  void cut(const Step& step, std::string_view piece, Scratch& scratch) const;

  std::vector<Step> steps_;
  bool maps_ = false;       // ByteLevel writes printable characters
  bool maps_back_ = false;  // … which are bytes again in the end
};

}  // namespace moiety::text
