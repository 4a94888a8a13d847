#include "text/splitter.h"

#include <algorithm>

#include "base/error.h"
#include "text/byte_alphabet.h"

namespace moiety::text {
namespace {

using spec::PreTokenizer;
using Behavior = PreTokenizer::Behavior;

constexpr const char* kGpt2Pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
constexpr const char* kDigitPattern = "\\p{N}";

std::string pattern_of(const PreTokenizer& step) {
  if (step.kind == PreTokenizer::Kind::Split) return step.pattern;
  return step.kind == PreTokenizer::Kind::Digits ? kDigitPattern : kGpt2Pattern;
}

Behavior behavior_of(const PreTokenizer& step) {
  if (step.kind == PreTokenizer::Kind::Split) return step.behavior;
  const bool runs = step.kind == PreTokenizer::Kind::Digits && !step.individual_digits;
  return runs ? Behavior::Contiguous : Behavior::Isolated;
}

// Collects pieces that lie one after the other in a text.
class Cutter {
 public:
  Cutter(std::string_view text, const PreTokenizer& step, std::vector<std::string_view>& pieces)
      : text_(text), behavior_(behavior_of(step)), invert_(step.invert), pieces_(pieces) {}

  // The next stretch of the text, matched by the pattern or not.
  void add(size_t end, bool matched) {
    matched ^= invert_;
    if (joins_previous(matched)) {
      end_ = end;
    } else {
      flush();
      begin_ = end_;
      end_ = end;
      if (behavior_ == Behavior::Removed && matched) begin_ = end_;
    }
    first_ = false;
    previous_matched_ = matched;
  }
  void flush() const {
    if (begin_ < end_) pieces_.push_back(text_.substr(begin_, end_ - begin_));
  }

 private:
  bool joins_previous(bool matched) const {
    switch (behavior_) {
      case Behavior::Contiguous:
        return !first_ && matched == previous_matched_;
      case Behavior::MergedWithPrevious:
        return !first_ && matched && !previous_matched_;
      case Behavior::MergedWithNext:
        return !first_ && !matched && previous_matched_;
      default:
        return false;
    }
  }

  std::string_view text_;
  Behavior behavior_;
  bool invert_;
  std::vector<std::string_view>& pieces_;
  size_t begin_ = 0, end_ = 0;
  bool first_ = true, previous_matched_ = false;
};

// Lets `write` append each piece in another form to `buffer`, then points the pieces there.
template <class Write>
void rewrite_pieces(std::vector<std::string_view>& pieces, std::string& buffer, Write write) {
  buffer.clear();
  std::vector<size_t> ends;
  ends.reserve(pieces.size());
  for (const std::string_view piece : pieces) {
    write(piece, buffer);
    ends.push_back(buffer.size());
  }
  size_t begin = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    pieces[i] = std::string_view(buffer).substr(begin, ends[i] - begin);
    begin = ends[i];
  }
}

}  // namespace

Splitter::Splitter(const std::vector<PreTokenizer>& steps) {
  for (const PreTokenizer& step : steps) {
    const bool byte_level = step.kind == PreTokenizer::Kind::ByteLevel;
    Step compiled{.spec = step};
    if (!byte_level || step.use_regex) compiled.regex = std::make_unique<Regex>(pattern_of(step));
    steps_.push_back(std::move(compiled));
  }
  const auto is_byte_level = [](const PreTokenizer& step) {
    return step.kind == PreTokenizer::Kind::ByteLevel;
  };
  require(std::count_if(steps.begin(), steps.end(), is_byte_level) == 1,
          "a byte-level tokenizer has one ByteLevel among its pre-tokenizers, found {}",
          std::count_if(steps.begin(), steps.end(), is_byte_level));
  maps_early_ = !is_byte_level(steps.back());
}

std::span<const std::string_view> Splitter::split(std::string_view text, Scratch& scratch) const {
  scratch.pieces.clear();
  if (text.empty()) return {};
  scratch.pieces.push_back(text);
  for (const Step& step : steps_) run(step, scratch);
  if (maps_early_) {
    rewrite_pieces(scratch.pieces, scratch.bytes, [](std::string_view piece, std::string& out) {
      out += from_printable(piece).value();
    });
  }
  return scratch.pieces;
}

void Splitter::run(const Step& step, Scratch& scratch) const {
  const bool byte_level = step.spec.kind == PreTokenizer::Kind::ByteLevel;
  if (byte_level && step.spec.add_prefix_space) {
    rewrite_pieces(scratch.pieces, scratch.padded, [](std::string_view piece, std::string& out) {
      if (!piece.starts_with(' ')) out += ' ';
      out += piece;
    });
  }
  if (step.regex) {
    scratch.next.clear();
    for (const std::string_view piece : scratch.pieces) cut(step, piece, scratch);
    scratch.pieces.swap(scratch.next);
  }
  if (byte_level && maps_early_) {
    rewrite_pieces(scratch.pieces, scratch.printable,
                   [](std::string_view piece, std::string& out) { out += to_printable(piece); });
  }
}

void Splitter::cut(const Step& step, std::string_view piece, Scratch& scratch) const {
  Cutter cutter(piece, step.spec, scratch.next);
  size_t from = 0, last_end = 0;
  bool any = false;
  while (from <= piece.size()) {
    const auto match = step.regex->find(piece, from, scratch.regex);
    if (!match) break;
    if (match->begin == match->end && any && match->end == last_end) {
      // An empty match right behind a match doesn't count; go on one character later.
      do ++from;
      while (from < piece.size() && (static_cast<unsigned char>(piece[from]) & 0xc0) == 0x80);
      continue;
    }
    if (match->begin > last_end) cutter.add(match->begin, false);
    cutter.add(match->end, true);
    from = last_end = match->end;
    any = true;
  }
  if (last_end < piece.size()) cutter.add(piece.size(), false);
  cutter.flush();
}

}  // namespace moiety::text
