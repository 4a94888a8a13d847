#include "text/decoder.h"

#include <algorithm>
#include <utility>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace moiety::text {
namespace {

using Kind = spec::Decoder::Kind;

std::string replaced(std::string_view text, std::string_view what, std::string_view with) {
  std::string out;
  size_t done = 0;
  if (!what.empty()) {
    for (size_t at; (at = text.find(what, done)) != text.npos; done = at + what.size())
      out.append(text, done, at - done).append(with);
  }
  return out.append(text, done);
}

// Spaces that English has not before punctuation.
std::string cleaned_up(std::string text) {
  constexpr std::pair<const char*, const char*> kRules[] = {
      {" .", "."},     {" ?", "?"},     {" !", "!"},           {" ,", ","},
      {" ' ", "'"},    {" n't", "n't"}, {" 'm", "'m"},         {" do not", " don't"},
      {" 's", "'s"},   {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) text = replaced(text, from, to);
  return text;
}

std::string_view stripped(std::string_view text, const spec::Decoder& step) {
  for (int i = 0; i < step.start && !step.content.empty() && text.starts_with(step.content); ++i)
    text.remove_prefix(step.content.size());
  for (int i = 0; i < step.stop && !step.content.empty() && text.ends_with(step.content); ++i)
    text.remove_suffix(step.content.size());
  return text;
}

}  // namespace

Decoder::Decoder(const std::vector<spec::Decoder>& steps) {
  bool fused = false;
  for (const spec::Decoder& step : steps) {
    if (fused && step.kind == Kind::ByteFallback) continue;  // there are no tokens any more
    Step compiled{.spec = step, .fused = fused};
    if (step.kind == Kind::Replace)
      compiled.replacement.emplace(step.pattern, step.is_regex, step.content);
    fused |= step.kind == Kind::Fuse || step.kind == Kind::ByteLevel;
    steps_.push_back(std::move(compiled));
  }
}

std::string Decoder::bytes_of(const std::string& token) const {
  std::string bytes = token;
  for (const Step& step : steps_) {
    const int byte = step.spec.kind == Kind::ByteFallback ? spec::byte_of_token(bytes) : -1;
    if (byte >= 0) return std::string(1, static_cast<char>(byte));
    if (step.spec.kind == Kind::Strip && step.fused) continue;
    bytes = transformed(step, std::move(bytes), false);
  }
  return bytes;
}

// What a step makes of a token that depends on nothing but whether it is the first.
std::string Decoder::transformed(const Step& step, std::string token, bool is_first) {
  const spec::Decoder& spec = step.spec;
  switch (spec.kind) {
    case Kind::ByteLevel:
      return from_printable(token).value_or(token);
    case Kind::Replace: {
      std::string out;
      if (step.replacement->is_regex()) {
        RegexScratch scratch;
        step.replacement->append(token, &scratch, out);
      } else {
        step.replacement->append(token, nullptr, out);
      }
      return out;
    }
    case Kind::Strip:
      return std::string(stripped(token, spec));
    case Kind::Metaspace:
      return replaced(token, spec.content, is_first && spec.drops_first ? "" : " ");
    case Kind::WordPiece:
      if (!is_first) {
        const bool goes_on = !spec.content.empty() && token.starts_with(spec.content);
        token = goes_on ? token.substr(spec.content.size()) : " " + token;
      }
      return spec.cleanup ? cleaned_up(std::move(token)) : token;
    case Kind::WordEnd:
      return replaced(token, spec.content, " ");
    case Kind::Spaces:
      return is_first ? token : " " + token;
    case Kind::ByteFallback:
    case Kind::Fuse:
      break;
  }
  return token;
}

// Whether a step does the same to a text in parts.
bool Decoder::looks_at_characters(const Step& step) {
  return step.spec.kind == Kind::Replace ? step.replacement->is_one_character()
                                         : !step.spec.cleanup;
}

void Decoder::feed(size_t at, std::string token, Stream& stream) const {
  if (at == steps_.size()) {
    stream.bytes_ += token;
    return;
  }
  const Step& step = steps_[at];
  Stream::Memory& memory = stream.memories_[at];
  switch (step.spec.kind) {
    case Kind::ByteFallback:
      return feed_bytes(at, token, stream);
    case Kind::Strip:
      if (!step.fused) break;
      return feed_strip(at, token, stream);
    case Kind::Replace:
    case Kind::WordPiece:
      if (!step.fused || looks_at_characters(step)) break;
      memory.held += token;  // a match may lie across parts
      return;
    case Kind::WordEnd:
      if (step.fused) {
        memory.held += token;
        memory.any = true;
        return;
      }
      std::swap(memory.held, token);  // the last one is another matter
      if (!std::exchange(memory.any, true)) return;
      break;
    default:
      break;
  }
  const bool is_first = step.fused || !std::exchange(memory.any, true);
  feed(at + 1, transformed(step, std::move(token), is_first), stream);
}

void Decoder::end(size_t at, Stream& stream) const {
  if (at == steps_.size()) return;
  const Step& step = steps_[at];
  Stream::Memory& memory = stream.memories_[at];
  if (step.spec.kind == Kind::ByteFallback) {
    end_bytes(at, stream);
  } else if ((step.spec.kind == Kind::Replace || step.spec.kind == Kind::WordPiece) &&
             !memory.held.empty()) {
    feed(at + 1, transformed(step, std::move(memory.held), true), stream);
  } else if (step.spec.kind == Kind::Strip && !memory.held.empty()) {
    spec::Decoder at_end = step.spec;
    at_end.start = 0;
    feed(at + 1, std::string(stripped(memory.held, at_end)), stream);
  } else if (step.spec.kind == Kind::WordEnd && memory.any) {
    feed(at + 1, replaced(memory.held, step.spec.content, ""), stream);
  }
  memory = {};
  end(at + 1, stream);
}

void Decoder::feed_bytes(size_t at, const std::string& token, Stream& stream) const {
  const int byte = spec::byte_of_token(token);
  if (byte < 0) {
    end_bytes(at, stream);
    return feed(at + 1, token, stream);
  }
  std::string& held = stream.memories_[at].held;
  held += static_cast<char>(byte);
  if (steps_[at].spec.spoils_run) return;
  // Whole characters can go; a byte that begins none is U+FFFD.
  while (!held.empty()) {
    const Utf8Char next = utf8_char(held, 0);
    if (next.kind == Utf8Char::Kind::Cut) return;
    const bool valid = next.kind == Utf8Char::Kind::Valid;
    const size_t bytes = valid ? next.bytes : 1;
    feed(at + 1, valid ? held.substr(0, bytes) : std::string(kReplacement), stream);
    held.erase(0, bytes);
  }
}

void Decoder::end_bytes(size_t at, Stream& stream) const {
  std::string& held = stream.memories_[at].held;
  if (held.empty()) return;
  const std::string run = std::exchange(held, {});
  if (is_valid_utf8(run)) return feed(at + 1, run, stream);
  for (size_t i = 0; i < run.size(); ++i) feed(at + 1, std::string(kReplacement), stream);
}

// The text comes in parts: takes away from its beginning, and keeps back what may be its end.
void Decoder::feed_strip(size_t at, std::string_view part, Stream& stream) const {
  const spec::Decoder& step = steps_[at].spec;
  Stream::Memory& memory = stream.memories_[at];
  while (!memory.any && memory.stripped < step.start && !step.content.empty() &&
         part.starts_with(step.content)) {
    part.remove_prefix(step.content.size());
    ++memory.stripped;
  }
  if (part.empty()) return;
  memory.any = true;
  memory.held += part;
  const size_t kept = std::min(memory.held.size(), step.content.size() * static_cast<size_t>(step.stop));
  std::string out = memory.held.substr(0, memory.held.size() - kept);
  memory.held.erase(0, out.size());
  feed(at + 1, std::move(out), stream);
}

Decoder::Stream::Stream(const Decoder& decoder)
    : decoder_(&decoder), memories_(decoder.steps_.size()) {}

void Decoder::Stream::push(const std::string& token, std::string& out) {
  decoder_->feed(0, token, *this);
  // Only the last character can be cut off; what looks cut before it is invalid.
  size_t complete = 0;
  bool valid = true;
  while (complete < bytes_.size()) {
    const Utf8Char next = utf8_char(bytes_, complete);
    if (next.kind == Utf8Char::Kind::Cut) break;
    valid &= next.kind == Utf8Char::Kind::Valid;
    complete += next.bytes;
  }
  const std::string_view text = std::string_view(bytes_).substr(0, complete);
  out += valid ? std::string(text) : replace_invalid(text);
  bytes_.erase(0, complete);
}

void Decoder::Stream::finish(std::string& out) {
  decoder_->end(0, *this);
  out += replace_invalid(bytes_);
  bytes_.clear();
}

}  // namespace moiety::text
