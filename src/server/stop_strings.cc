#include "server/stop_strings.h"

#include <algorithm>
#include <utility>

namespace moiety::server {
namespace {

// How many bytes at the end of the text begin one of the strings.
size_t begun_bytes(std::string_view text, const std::vector<std::string>& strings) {
  size_t most = 0;
  for (const std::string& string : strings) {
    for (size_t bytes = std::min(string.size() - 1, text.size()); bytes > most; --bytes) {
      if (text.ends_with(std::string_view(string).substr(0, bytes))) most = bytes;
    }
  }
  return most;
}

}  // namespace

std::string StopStrings::push(std::string_view text) {
  if (found_) return {};
  held_ += text;
  // The one that is complete first ends the text, as if it came byte by byte; so pieces make no difference.
  size_t begin = held_.npos, end = held_.npos;
  for (const std::string& string : strings_) {
    const size_t at = held_.find(string);
    if (at == held_.npos) continue;
    const size_t its_end = at + string.size();
    if (its_end < end || (its_end == end && at < begin)) begin = at, end = its_end, found_ = string;
  }
  const size_t certain = found_ ? begin : held_.size() - begun_bytes(held_, strings_);
  std::string out = held_.substr(0, certain);
  held_.erase(0, found_ ? held_.size() : certain);
  return out;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

}  // namespace moiety::server
