#include "corpus/dedup.h"

#include <xxhash.h>

#include <algorithm>
#include <string_view>

namespace moiety::corpus {

size_t ParagraphDedup::cut_repeats(std::string& text) {
  const std::string_view before = text;
  std::string kept;
  kept.reserve(before.size());
  for (size_t begin = 0; begin < before.size();) {
    // A paragraph reaches to the first empty line; the empty lines after it go or stay with it.
    const size_t blank = before.find("\n\n", begin);
    const size_t end = blank == before.npos ? before.size() : blank + 1;
    const size_t next = std::min(before.find_first_not_of('\n', end), before.size());
    const std::string_view paragraph = before.substr(begin, end - begin);
    const bool repeats = paragraph.size() >= kParagraphBytes &&
                         !seen_.insert(XXH64(paragraph.data(), paragraph.size(), 0));
    if (!repeats) kept += before.substr(begin, next - begin);
    begin = next;
  }
  while (kept.ends_with("\n\n")) kept.pop_back();

  const size_t cut = before.size() - kept.size();
  if (cut > 0) text = std::move(kept);
  return cut;
}

}  // namespace moiety::corpus
