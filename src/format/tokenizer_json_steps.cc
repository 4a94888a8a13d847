#include "format/tokenizer_json_steps.h"

#include "format/base64.h"
#include "format/tokenizer_json_names.h"

namespace moiety::format {
namespace {

using spec::Decoder;
using spec::Normalizer;
using spec::PreTokenizer;
using spec::TokenizerSpec;

constexpr int kMostSteps = 64;  // of a Sequence, nested ones included
constexpr int kMostStripped = 1 << 20;

// The steps of a {"type": "Sequence", list: […]}, or the object itself; none of a null. Depth is
// bounded by the parser.
std::vector<JsonObject> steps_of(const JsonObject& parent, const char* key, const char* list) {
  std::vector<JsonObject> steps;
  const auto add = [&](const auto& self, const JsonObject& step) -> void {
    require(steps.size() < kMostSteps, "{}: more than {} steps", step.where(), kMostSteps);
    if (step.text("type") != "Sequence") return steps.push_back(step);
    for (const Json& inner : step.array(list)) self(self, JsonObject(inner, step.where()));
  };
  if (parent.has(key)) add(add, parent.object(key));
  return steps;
}

// A pattern that matches the text itself.
std::string pattern_for(std::string_view text) {
  constexpr std::string_view kSpecial = "\\^$.|?*+()[]{}";
  std::string pattern;
  for (const char c : text) {
    if (kSpecial.find(c) != kSpecial.npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// {"String": "…"} or {"Regex": "…"}
template <class Step>
void read_pattern(const JsonObject& step, Step& out) {
  const JsonObject pattern = step.object("pattern");
  out.is_regex = !pattern.has("String");
  out.pattern = pattern.text(out.is_regex ? "Regex" : "String");
  require(!out.pattern.empty(), "{}: an empty pattern", step.where());
}

Normalizer read_normalizer(const JsonObject& step) {
  const std::string type = step.text("type");
  if (const spec::NormalForm* form = by_name(kNormalForms, type)) return {.form = *form};
  const Normalizer::Kind* kind = by_name(kNormalizers, type);
  require(kind != nullptr, "{}: normalizer \"{}\" is not supported; Sequence, {}, {} are",
          step.where(), type, names(kNormalForms), names(kNormalizers));
  Normalizer normalizer{.kind = *kind};
  switch (*kind) {
    case Normalizer::Kind::Strip:
      normalizer.left = step.boolean("strip_left", true);
      normalizer.right = step.boolean("strip_right", true);
      break;
    case Normalizer::Kind::Prepend:
      normalizer.content = step.text("prepend");
      break;
    case Normalizer::Kind::Replace:
      read_pattern(step, normalizer);
      normalizer.content = step.text("content");
      break;
    case Normalizer::Kind::Charsmap:
      normalizer.charsmap = from_base64(step.text("precompiled_charsmap", ""), step.where());
      break;
    case Normalizer::Kind::Bert:
      normalizer.clean_text = step.boolean("clean_text", true);
      normalizer.separate_chinese = step.boolean("handle_chinese_chars", true);
      normalizer.lowercase = step.boolean("lowercase", true);
      normalizer.strip_accents = step.boolean("strip_accents", normalizer.lowercase);
      break;
    default:
      break;
  }
  return normalizer;
}

PreTokenizer::Behavior read_behavior(const JsonObject& step) {
  const std::string name = step.text("behavior", "Isolated");
  const PreTokenizer::Behavior* behavior = by_name(kBehaviors, name);
  require(behavior != nullptr, "{}: unknown behavior \"{}\"; {} are known", step.where(), name,
          names(kBehaviors));
  return *behavior;
}

// Files older than prepend_scheme have add_prefix_space.
PreTokenizer::Prepend read_prepend(const JsonObject& step) {
  const bool adds = step.boolean("add_prefix_space", true);
  const std::string name = step.text("prepend_scheme", adds ? "always" : "never");
  const PreTokenizer::Prepend* prepend = by_name(kPrependSchemes, name);
  require(prepend != nullptr, "{}: unknown prepend_scheme \"{}\"; {} are known", step.where(), name,
          names(kPrependSchemes));
  return *prepend;
}

PreTokenizer split_by(std::string pattern, PreTokenizer::Behavior behavior, bool invert = false) {
  return {.kind = PreTokenizer::Kind::Split,
          .pattern = std::move(pattern),
          .behavior = behavior,
          .invert = invert};
}

PreTokenizer read_split(const JsonObject& step) {
  Normalizer pattern;
  read_pattern(step, pattern);
  return split_by(pattern.is_regex ? pattern.pattern : pattern_for(pattern.pattern),
                  read_behavior(step), step.boolean("invert", false));
}

// One step may be two of ours.
void read_pre_tokenizer(const JsonObject& step, std::vector<PreTokenizer>& out) {
  using Behavior = PreTokenizer::Behavior;
  const std::string type = step.text("type");
  if (type == "Split") {
    out.push_back(read_split(step));
  } else if (type == "Digits") {
    out.push_back({.kind = PreTokenizer::Kind::Digits,
                   .individual_digits = step.boolean("individual_digits", false)});
  } else if (type == "Punctuation") {
    out.push_back(split_by(kPunctuation, read_behavior(step)));
  } else if (type == "ByteLevel") {
    out.push_back({.kind = PreTokenizer::Kind::ByteLevel,
                   .add_prefix_space = step.boolean("add_prefix_space", true),
                   .use_regex = step.boolean("use_regex", true)});
  } else if (type == "Metaspace") {
    out.push_back({.kind = PreTokenizer::Kind::Metaspace,
                   .replacement = step.text("replacement", "▁"),
                   .prepend = read_prepend(step),
                   .split = step.boolean("split", true)});
    require(!out.back().replacement.empty(), "{}: an empty replacement", step.where());
  } else if (type == "Whitespace") {
    // Joiners are word characters to the library here, but not to Oniguruma.
    out.push_back(split_by("[\\w\\x{200c}\\x{200d}]+|[^\\w\\s\\x{200c}\\x{200d}]+", Behavior::Removed,
                           true));
  } else if (type == "WhitespaceSplit") {
    out.push_back(split_by("\\s", Behavior::Removed));
  } else if (type == "BertPreTokenizer") {
    out.push_back(split_by("\\s", Behavior::Removed));
    out.push_back(split_by(kPunctuation, Behavior::Isolated));
  } else if (type == "CharDelimiterSplit") {
    const std::string delimiter = step.text("delimiter");
    require(!delimiter.empty(), "{}: an empty delimiter", step.where());
    out.push_back(split_by(pattern_for(delimiter), Behavior::Removed));
  } else {
    fail(ErrorKind::Input,
         "{}: pre-tokenizer \"{}\" is not supported; Sequence, Split, Digits, Punctuation, "
         "ByteLevel, Metaspace, Whitespace, WhitespaceSplit, BertPreTokenizer, CharDelimiterSplit "
         "are",
         step.where(), type);
  }
}

Decoder read_decoder(const JsonObject& step) {
  const std::string type = step.text("type");
  const Decoder::Kind* kind = by_name(kDecoders, type);
  require(kind != nullptr, "{}: decoder \"{}\" is not supported; Sequence, {} are", step.where(),
          type, names(kDecoders));
  Decoder decoder{.kind = *kind};
  switch (*kind) {
    case Decoder::Kind::Replace:
      read_pattern(step, decoder);
      decoder.content = step.text("content");
      break;
    case Decoder::Kind::Strip:
      decoder.content = step.text("content");
      decoder.start = static_cast<int>(step.integer("start", 0, kMostStripped, 0));
      decoder.stop = static_cast<int>(step.integer("stop", 0, kMostStripped, 0));
      break;
    case Decoder::Kind::Metaspace:
      decoder.content = step.text("replacement", "▁");
      decoder.drops_first = read_prepend(step) != PreTokenizer::Prepend::Never;
      break;
    case Decoder::Kind::WordPiece:
      decoder.content = step.text("prefix", "##");
      decoder.cleanup = step.boolean("cleanup", true);
      break;
    case Decoder::Kind::WordEnd:
      decoder.content = step.text("suffix", "</w>");
      break;
    default:
      break;
  }
  return decoder;
}

int32_t read_id(const Json& value, const std::string& where) {
  const bool fits =
      value.is_number_unsigned() && value.get<uint64_t>() < uint64_t{spec::kMostTokens};
  require(fits, "{}: expected a token id, found {}", where,
          value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60));
  return value.get<int32_t>();
}

// {"single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], "special_tokens":
// {"<s>": {"ids": [1]}}}
void read_template(const JsonObject& step, std::vector<int32_t>& before,
                   std::vector<int32_t>& after) {
  bool seen_text = false;
  for (const Json& item : step.array("single")) {
    const JsonObject piece(item, step.where());
    if (piece.has("Sequence")) {
      require(!seen_text, "{}: the text stands twice in the template", step.where());
      seen_text = true;
      continue;
    }
    const std::string name = piece.object("SpecialToken").text("id");
    const JsonObject special = step.object("special_tokens").object(name.c_str());
    for (const Json& id : special.array("ids"))
      (seen_text ? after : before).push_back(read_id(id, special.where()));
  }
  require(seen_text, "{}: the template leaves the text out", step.where());
}

// {"sep": ["</s>", 2]}
int32_t read_named_id(const JsonObject& step, const char* key) {
  const Json& pair = step.array(key);
  require(pair.size() == 2, "{}: \"{}\" must be a token and its id", step.where(), key);
  return read_id(pair[1], step.where());
}

// Each step puts its tokens around what the steps before it made.
void read_post_processors(const JsonObject& file, TokenizerSpec& spec) {
  for (const JsonObject& step : steps_of(file, "post_processor", "processors")) {
    const std::string type = step.text("type");
    std::vector<int32_t> before, after;
    if (type == "TemplateProcessing") {
      read_template(step, before, after);
    } else if (type == "RobertaProcessing" || type == "BertProcessing") {
      before = {read_named_id(step, "cls")};
      after = {read_named_id(step, "sep")};
    } else {
      require(type == "ByteLevel",
              "{}: post-processor \"{}\" is not supported; Sequence, TemplateProcessing, "
              "RobertaProcessing, BertProcessing, ByteLevel are",
              step.where(), type);
    }
    spec.prefix.insert(spec.prefix.begin(), before.begin(), before.end());
    spec.suffix.insert(spec.suffix.end(), after.begin(), after.end());
  }
}

}  // namespace

void read_steps(const JsonObject& file, TokenizerSpec& spec) {
  for (const JsonObject& step : steps_of(file, "normalizer", "normalizers"))
    spec.normalizers.push_back(read_normalizer(step));
  for (const JsonObject& step : steps_of(file, "pre_tokenizer", "pretokenizers"))
    read_pre_tokenizer(step, spec.pre_tokenizers);

  spec.decoders.clear();
  for (const JsonObject& step : steps_of(file, "decoder", "decoders"))
    spec.decoders.push_back(read_decoder(step));
  if (!file.has("decoder")) spec.decoders.push_back({.kind = Decoder::Kind::Spaces});
  read_post_processors(file, spec);
}

}  // namespace moiety::format
