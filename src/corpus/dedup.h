// Cuts paragraphs that were there before: licence texts, boilerplate of manuals, files packaged
// twice.
#pragma once

#include <string>

#include "corpus/hash_set.h"

namespace moiety::corpus {

// A paragraph is a run of lines that aren't blank. Shorter ones may repeat: `return 0;\n}` is no
// boilerplate.
inline constexpr size_t kParagraphBytes = 200;

class ParagraphDedup {
 public:
  // Cuts from `text` (normalised) every long paragraph that this or an earlier call has seen.
  // Returns the bytes cut.
  size_t cut_repeats(std::string& text);

 private:
  HashSet seen_;
};

}  // namespace moiety::corpus
