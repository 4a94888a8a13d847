// Cuts text into the pieces that byte-pair encoding works on, by a tokenizer's pre-tokenizer steps.
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
  // Throws Error(Input) for a pattern that can't be compiled and for an order of steps that means
  // nothing.
  explicit Splitter(const std::vector<spec::PreTokenizer>& steps);

  struct Scratch {
    RegexScratch regex;
    std::vector<std::string_view> pieces, next;
    std::vector<Regex::Match> matches;
    std::string padded, printable, bytes;
  };
  // The pieces in order, none of them empty. They look into `text` or the scratch. `text` must be
  // valid UTF-8.
  std::span<const std::string_view> split(std::string_view text, Scratch& scratch) const;

 private:
  struct Step {
    spec::PreTokenizer spec;
    std::unique_ptr<Regex> regex;  // of Split, Digits and a ByteLevel that splits
  };
  void run(const Step& step, Scratch& scratch) const;
  void cut(const Step& step, std::string_view piece, Scratch& scratch) const;

  std::vector<Step> steps_;
  bool maps_early_ = false;  // steps after ByteLevel look at its printable characters
};

}  // namespace moiety::text
