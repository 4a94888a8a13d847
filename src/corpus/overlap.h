// How much of a held-out document was there to be learned by heart: the share of its 13-word
// sequences that training text has too (13 as in Brown et al. 2020, appendix C). Words are what
// white space parts, in lower case.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "corpus/hash_set.h"

namespace moiety::corpus {

inline constexpr size_t kOverlapWords = 13;

class OverlapCheck {
 public:
  // Looks at the texts again in shares(); they must live as long.
  explicit OverlapCheck(std::vector<std::string_view> held_out);

  void see_training_text(std::string_view text);
  // A share for each held-out text; 0 for one of fewer than 13 words.
  std::vector<double> shares() const;

 private:
  std::vector<std::string_view> held_out_;
  HashSet sequences_;
  std::vector<uint8_t> seen_;  // by slot of sequences_
};

}  // namespace moiety::corpus
