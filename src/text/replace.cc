#include "text/replace.h"

#include "text/utf8.h"

namespace moiety::text {

Replacement::Replacement(std::string pattern, bool is_regex, std::string content)
    : pattern_(std::move(pattern)), content_(std::move(content)) {
  if (is_regex) {
    regex_ = std::make_unique<Regex>(pattern_);
  } else {
    one_character_ = pattern_.empty() || utf8_char(pattern_, 0).bytes == pattern_.size();
  }
}

void Replacement::append(std::string_view text, RegexScratch* scratch, std::string& out) const {
  size_t done = 0;
  if (regex_) {
    std::vector<Regex::Match> matches;
    if (!text.empty()) regex_->find_all(text, *scratch, matches);
    for (const Regex::Match& match : matches) {
      out.append(text, done, match.begin - done).append(content_);
      done = match.end;
    }
  } else if (!pattern_.empty()) {
    for (size_t at; (at = text.find(pattern_, done)) != text.npos; done = at + pattern_.size())
      out.append(text, done, at - done).append(content_);
  }
  out.append(text, done);
}

}  // namespace moiety::text
