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

Splitter::Splitter(const std::vector<PreTokenizer>& steps, bool gives_bytes) {
  for (const PreTokenizer& step : steps) {
    const bool by_regex = step.kind == PreTokenizer::Kind::Split ||
                          step.kind == PreTokenizer::Kind::Digits ||
                          (step.kind == PreTokenizer::Kind::ByteLevel && step.use_regex);
    Step compiled{.spec = step};
    if (by_regex) compiled.regex = std::make_unique<Regex>(pattern_of(step));
    steps_.push_back(std::move(compiled));
  }
  const auto is_byte_level = [](const PreTokenizer& step) {
    return step.kind == PreTokenizer::Kind::ByteLevel;
  };
  const auto byte_levels = std::count_if(steps.begin(), steps.end(), is_byte_level);
  require(byte_levels <= 1 && (byte_levels == 1 || !gives_bytes),
          "a byte-level tokenizer has one ByteLevel among its pre-tokenizers, found {}",
          byte_levels);
  require(std::count_if(steps.begin(), steps.end(),
                        [](const PreTokenizer& step) {
                          return step.kind == PreTokenizer::Kind::Metaspace;
                        }) <= 1,
          "two Metaspace steps among the pre-tokenizers; one is supported");
  // Steps after it look at the printable characters.
  maps_ = byte_levels == 1 && (!gives_bytes || !is_byte_level(steps.back()));
  maps_back_ = maps_ && gives_bytes;
}

std::span<const std::string_view> Splitter::split(std::string_view text, bool at_start,
                                                  Scratch& scratch) const {
  scratch.pieces.clear();
  if (text.empty()) return {};
  scratch.pieces.push_back(text);
  for (const Step& step : steps_) {
    const char* begin = scratch.pieces.empty() ? nullptr : scratch.pieces[0].data();
    run(step, at_start, scratch);
    // What stood first may have been removed.
    if (step.spec.kind == PreTokenizer::Kind::Split)
      at_start = at_start && !scratch.pieces.empty() && scratch.pieces[0].data() == begin;
  }
  if (maps_back_) {
    rewrite_pieces(scratch.pieces, scratch.bytes, [](std::string_view piece, std::string& out) {
      out += from_printable(piece).value();
    });
  }
  return scratch.pieces;
}

void Splitter::run(const Step& step, bool at_start, Scratch& scratch) const {
  if (step.spec.kind == PreTokenizer::Kind::Metaspace)
    return write_metaspaces(step.spec, at_start, scratch);
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
  if (byte_level && maps_) {
    rewrite_pieces(scratch.pieces, scratch.printable,
                   [](std::string_view piece, std::string& out) { out += to_printable(piece); });
  }
}

void Splitter::write_metaspaces(const PreTokenizer& step, bool at_start, Scratch& scratch) const {
  const std::string_view sign = step.replacement;
  bool is_first = at_start;
  rewrite_pieces(scratch.pieces, scratch.spaced, [&](std::string_view piece, std::string& out) {
    const bool wants = step.prepend == PreTokenizer::Prepend::Always ||
                       (step.prepend == PreTokenizer::Prepend::First && is_first);
    if (wants && !piece.starts_with(' ') && !piece.starts_with(sign)) out += sign;
    for (const char c : piece) {
      if (c == ' ') {
        out += sign;
      } else {
        out += c;
      }
    }
    is_first = false;
  });
  if (!step.split) return;

  scratch.next.clear();
  for (const std::string_view piece : scratch.pieces) {
    size_t begin = 0;
    for (size_t at = 1; (at = piece.find(sign, at)) != piece.npos; at += sign.size()) {
      if (at == begin) continue;
      scratch.next.push_back(piece.substr(begin, at - begin));
      begin = at;
    }
    scratch.next.push_back(piece.substr(begin));
  }
  scratch.pieces.swap(scratch.next);
}

void Splitter::cut(const Step& step, std::string_view piece, Scratch& scratch) const {
  Cutter cutter(piece, step.spec, scratch.next);
  step.regex->find_all(piece, scratch.regex, scratch.matches);
  size_t done = 0;
  for (const Regex::Match& match : scratch.matches) {
    if (match.begin > done) cutter.add(match.begin, false);
    cutter.add(match.end, true);
    done = match.end;
  }
  if (done < piece.size()) cutter.add(piece.size(), false);
  cutter.flush();
}

}  // namespace moiety::text
