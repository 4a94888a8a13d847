#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/byte_alphabet.h"
#include "text/normalize.h"
#include "text/sentencepiece_normalizer.h"
#include "text/utf8.h"

namespace moiety::text {
namespace {

using Kind = spec::Normalizer::Kind;

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<uint8_t>(c) < 0x80; });
}

// Calls body(character, its bytes) for each character of valid UTF-8.
template <class Body>
void for_each_char(std::string_view text, Body body) {
  for (size_t at = 0; at < text.size();) {
    const Utf8Char next = utf8_char(text, at);
    body(next.code, text.substr(at, next.bytes));
    at += next.bytes;
  }
}

utf8proc_category_t category(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

void append_lowercase(std::string_view text, std::string& out) {
  for_each_char(text, [&](char32_t code, std::string_view) {
    if (code == 0x130) {
      out += "i\u0307";  // the one capital whose small letter is two characters
    } else {
      append_utf8(out, static_cast<char32_t>(
                           utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
    }
  });
}

std::string_view stripped(std::string_view text, bool left, bool right) {
  while (left && !text.empty()) {
    const Utf8Char first = utf8_char(text, 0);
    if (!is_white_space(first.code)) break;
    text.remove_prefix(first.bytes);
  }
  while (right && !text.empty()) {
    size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<uint8_t>(text[begin]) & 0xc0) == 0x80) --begin;
    if (!is_white_space(utf8_char(text, begin).code)) break;
    text = text.substr(0, begin);
  }
  return text;
}

void append_without_marks(std::string_view text, bool all_marks, std::string& out) {
  for_each_char(text, [&](char32_t code, std::string_view bytes) {
    const utf8proc_category_t c = category(code);
    const bool is_mark = c == UTF8PROC_CATEGORY_MN ||
                         (all_marks && (c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME));
    if (!is_mark) out += bytes;
  });
}

bool nmt_removes(char32_t c) {
  return (c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f ||
         c == 0x9f;
}

bool nmt_is_space(char32_t c) {
  return c == '\t' || c == '\n' || c == 0xc || c == '\r' || c == 0x1680 ||
         (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 || c == 0x2581 ||
         c == 0xfeff || c == 0xfffd;
}

void append_nmt(std::string_view text, std::string& out) {
  for_each_char(text, [&](char32_t code, std::string_view bytes) {
    if (nmt_is_space(code)) {
      out += ' ';
    } else if (!nmt_removes(code)) {
      out += bytes;
    }
  });
}

// The end of the extended grapheme cluster that begins at `at`.
size_t grapheme_end(std::string_view text, size_t at) {
  Utf8Char next = utf8_char(text, at);
  at += next.bytes;
  utf8proc_int32_t state = 0;
  while (at < text.size()) {
    const auto before = static_cast<utf8proc_int32_t>(next.code);
    next = utf8_char(text, at);
    if (utf8proc_grapheme_break_stateful(before, static_cast<utf8proc_int32_t>(next.code), &state))
      break;
    at += next.bytes;
  }
  return at;
}

// Short clusters are looked up whole, all others character by character; of what is found the
// shortest counts, and it replaces all that was looked up.
void append_mapped(const Charsmap& charsmap, std::string_view text, std::string& out) {
  constexpr size_t kShort = 6;
  for (size_t at = 0; at < text.size();) {
    const size_t end = grapheme_end(text, at);
    const std::string_view cluster = text.substr(at, end - at);
    at = end;
    if (cluster.size() < kShort) {
      if (const auto match = charsmap.shortest(cluster)) {
        out += match->text;
        continue;
      }
    }
    for_each_char(cluster, [&](char32_t, std::string_view bytes) {
      const auto match = charsmap.shortest(bytes);
      out += match ? match->text : bytes;
    });
  }
}

bool is_chinese(char32_t c) {
  return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
         (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
         (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
         (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

bool bert_removes(char32_t c) {
  if (c == 0 || c == 0xfffd) return true;
  if (c == '\t' || c == '\n' || c == '\r') return false;
  switch (category(c)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
      return true;
    default:
      return false;
  }
}

void append_bert(const spec::Normalizer& step, std::string_view text, std::string& out) {
  std::string cleaned;
  for_each_char(text, [&](char32_t code, std::string_view bytes) {
    if (step.clean_text && bert_removes(code)) return;
    if (step.clean_text && is_white_space(code)) {
      cleaned += ' ';
    } else if (step.separate_chinese && is_chinese(code)) {
      cleaned.append(" ").append(bytes).append(" ");
    } else {
      cleaned += bytes;
    }
  });
  if (step.strip_accents) {
    std::string plain;
    append_without_marks(normalize(cleaned, spec::NormalForm::Nfd), false, plain);
    cleaned.swap(plain);
  }
  if (step.lowercase) {
    append_lowercase(cleaned, out);
  } else {
    out += cleaned;
  }
}

}  // namespace

Normalizer::Normalizer(const std::vector<spec::Normalizer>& steps,
                       const std::vector<spec::AddedToken>& kept)
    : kept_(kept) {
  for (const spec::Normalizer& step : steps) {
    Step compiled{.spec = step};
    if (step.kind == Kind::Replace)
      compiled.replacement.emplace(step.pattern, step.is_regex, step.content);
    if (step.kind == Kind::Charsmap || step.kind == Kind::SentencePiece)
      compiled.charsmap.emplace(step.charsmap);
    steps_.push_back(std::move(compiled));
  }
}

std::string_view Normalizer::run(std::string_view text, Scratch& scratch) const {
  for (const Step& step : steps_) {
    if (text.empty()) break;
    scratch.next.clear();
    if (!apply(step, text, scratch.regex, scratch.next)) continue;
    scratch.text.swap(scratch.next);
    text = scratch.text;
  }
  return text;
}

bool Normalizer::apply(const Step& step, std::string_view text, RegexScratch& regex,
                       std::string& out) const {
  switch (step.spec.kind) {
    case Kind::Unicode:
      if (!may_need_normalizing(text, step.spec.form)) return false;
      out = normalize(text, step.spec.form);
      break;
    case Kind::Lowercase:
      append_lowercase(text, out);
      break;
    case Kind::Strip:
      out = stripped(text, step.spec.left, step.spec.right);
      break;
    case Kind::StripAccents:
      if (is_ascii(text)) return false;
      append_without_marks(text, true, out);
      break;
    case Kind::Prepend:
      out.append(step.spec.content).append(text);
      break;
    case Kind::Replace:
      step.replacement->append(text, &regex, out);
      break;
    case Kind::Nmt:
      append_nmt(text, out);
      break;
    case Kind::Charsmap:
      append_mapped(*step.charsmap, text, out);
      break;
    case Kind::Bert:
      append_bert(step.spec, text, out);
      break;
    case Kind::ByteLevel:
      out = to_printable(text);
      break;
    case Kind::SentencePiece:
      append_like_sentencepiece(step.spec, *step.charsmap, kept_, text, out);
      break;
  }
  return true;
}

}  // namespace moiety::text
