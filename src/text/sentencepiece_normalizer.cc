#include "text/sentencepiece_normalizer.h"

#include <cstdint>

#include "text/utf8.h"

namespace moiety::text {
namespace {

constexpr std::string_view kSpaceSign = "▁";

// What the beginning of the text becomes, and how much of it that is.
struct Normalized {
  std::string_view text;
  size_t consumed;
};

Normalized normalize_prefix(const Charsmap& charsmap, const AddedTokens& kept,
                            std::string_view text, size_t at) {
  if (const size_t length = kept.longest_length_at(text, at); length > 0)
    return {text.substr(at, length), length};
  if (const auto match = charsmap.longest(text, at)) return {match->text, match->length};
  const size_t bytes = utf8_char(text, at).bytes;
  return {text.substr(at, bytes), bytes};
}

void append_escaped(std::string_view text, std::string_view space, std::string& out) {
  for (size_t at = 0; at < text.size();) {
    const size_t next = std::min(text.find(' ', at), text.size());
    out += text.substr(at, next - at);
    if (next < text.size()) out += space;
    at = next + 1;
  }
}

}  // namespace

void append_like_sentencepiece(const spec::Normalizer& step, const Charsmap& charsmap,
                               const AddedTokens& kept, std::string_view text, std::string& out) {
  const bool trims = step.remove_extra_whitespaces;
  const std::string_view space = step.escape_whitespaces ? kSpaceSign : " ";
  size_t at = 0;
  while (trims && at < text.size()) {
    const Normalized next = normalize_prefix(charsmap, kept, text, at);
    if (next.text != " ") break;
    at += next.consumed;
  }
  if (at == text.size()) return;

  const size_t first = out.size();
  if (!step.treat_whitespace_as_suffix && step.add_dummy_prefix) out += space;
  bool after_space = trims;
  while (at < text.size()) {
    const Normalized next = normalize_prefix(charsmap, kept, text, at);
    std::string_view piece = next.text;
    while (after_space && piece.starts_with(' ')) piece.remove_prefix(1);
    if (!piece.empty()) {
      append_escaped(piece, space, out);
      after_space = trims && piece.ends_with(' ');
    }
    at += next.consumed;
  }
  if (trims) {
    while (out.size() >= first + space.size() && out.ends_with(space))
      out.resize(out.size() - space.size());
  }
  if (step.treat_whitespace_as_suffix && step.add_dummy_prefix) out += space;
}

}  // namespace moiety::text
