#include "format/sentencepiece_steps.h"

namespace moiety::format {
namespace {

using spec::Decoder;
using spec::Normalizer;
using spec::PreTokenizer;

bool is_replacement(const Normalizer& step, std::string_view pattern, std::string_view content) {
  return step.kind == Normalizer::Kind::Replace && step.pattern == pattern &&
         step.content == content;
}

// Runs of spaces to one, in whichever words.
bool collapses_spaces(const Normalizer& step) {
  return step.kind == Normalizer::Kind::Replace && step.is_regex && step.pattern == " {2,}" &&
         (step.content == " " || step.content == "▁");
}

// One step of a tokenizer.json; false if it is none of those that these tokenizers have.
bool read_step(const Normalizer& step, SentencepieceSteps& steps) {
  if (step.kind == Normalizer::Kind::Charsmap) {
    steps.charsmap = step.charsmap;
  } else if (step.kind == Normalizer::Kind::Prepend &&
             (step.content == "▁" || step.content == " ")) {
    steps.add_dummy_prefix = true;
  } else if (is_replacement(step, " ", "▁") && !step.is_regex) {
    steps.escape_whitespaces = true;
  } else if (collapses_spaces(step)) {
    steps.remove_extra_whitespaces = true;
  } else {
    // What trims the ends goes along with what collapses.
    return step.kind == Normalizer::Kind::Strip || is_replacement(step, kTrimPattern, "");
  }
  return true;
}

// False for a pre-tokenizer that does anything but write ▁.
bool read_step(const PreTokenizer& step, SentencepieceSteps& steps) {
  if (step.kind == PreTokenizer::Kind::Metaspace && step.replacement == "▁") {
    steps.escape_whitespaces = true;
    steps.add_dummy_prefix = step.prepend != PreTokenizer::Prepend::Never;
    return true;
  }
  // Where every space is ▁ already, this splits nothing.
  if (step.kind == PreTokenizer::Kind::Split && step.pattern == " ")
    return steps.escape_whitespaces;
  return step.kind == PreTokenizer::Kind::Split && step.pattern == "\\s" &&
         step.behavior == PreTokenizer::Behavior::Removed;
}

}  // namespace

void set_sentencepiece_steps(const SentencepieceSteps& steps, spec::TokenizerSpec& spec) {
  spec.normalizers = {{.kind = Normalizer::Kind::SentencePiece,
                       .charsmap = steps.charsmap,
                       .add_dummy_prefix = steps.add_dummy_prefix,
                       .remove_extra_whitespaces = steps.remove_extra_whitespaces,
                       .escape_whitespaces = steps.escape_whitespaces,
                       .treat_whitespace_as_suffix = steps.treat_whitespace_as_suffix}};
  spec.decoders = {{.kind = Decoder::Kind::Replace, .pattern = "▁", .content = " "},
                   {.kind = Decoder::Kind::ByteFallback, .spoils_run = false},
                   {.kind = Decoder::Kind::Fuse}};
  // A space behind the text stays, as sentencepiece leaves it.
  constexpr int kAll = 1 << 16;
  const int stripped = steps.remove_extra_whitespaces ? kAll : steps.add_dummy_prefix ? 1 : 0;
  if (stripped > 0)
    spec.decoders.push_back({.kind = Decoder::Kind::Strip, .content = " ", .start = stripped});
}

std::optional<SentencepieceSteps> sentencepiece_steps_of(const spec::TokenizerSpec& spec) {
  SentencepieceSteps steps{.add_dummy_prefix = false, .escape_whitespaces = false};
  if (spec.normalizers.size() == 1 &&
      spec.normalizers[0].kind == Normalizer::Kind::SentencePiece) {
    const Normalizer& step = spec.normalizers[0];
    if (!spec.pre_tokenizers.empty() || step.treat_whitespace_as_suffix) return std::nullopt;
    steps = {step.charsmap, step.add_dummy_prefix, step.remove_extra_whitespaces,
             step.escape_whitespaces};
  } else {
    for (const Normalizer& step : spec.normalizers) {
      if (!read_step(step, steps)) return std::nullopt;
    }
    for (const PreTokenizer& step : spec.pre_tokenizers) {
      if (!read_step(step, steps)) return std::nullopt;
    }
  }
  return steps.escape_whitespaces ? std::optional(steps) : std::nullopt;
}

}  // namespace moiety::format
