#include <algorithm>

#include "base/json.h"
#include "format/base64.h"
#include "format/tokenizer_json.h"
#include "format/tokenizer_json_names.h"
#include "format/sentencepiece_steps.h"
#include "spec/merges.h"

namespace moiety::format {
namespace {

using spec::Normalizer;
using spec::PreTokenizer;
using spec::TokenizerSpec;

// Null for none, the step itself for one, a Sequence for more.
Json sequence_of(const char* list, std::vector<Json> steps) {
  if (steps.empty()) return nullptr;
  if (steps.size() == 1) return std::move(steps[0]);
  return Json{{"type", "Sequence"}, {list, std::move(steps)}};
}

Json pattern_json(const std::string& pattern, bool is_regex) {
  return {{is_regex ? "Regex" : "String", pattern}};
}

// What sentencepiece does in one step, in the library's steps.
void add_sentencepiece(const Normalizer& step, std::vector<Json>& out) {
  const auto replace = [&](const char* pattern, bool is_regex, const char* content) {
    out.push_back({{"type", "Replace"},
                   {"pattern", pattern_json(pattern, is_regex)},
                   {"content", content}});
  };
  require(!step.treat_whitespace_as_suffix || !step.add_dummy_prefix,
          "tokenizer.json can't say that a space is put behind the text");
  if (!step.charsmap.empty())
    out.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(step.charsmap)}});
  if (step.remove_extra_whitespaces) {
    replace(kTrimPattern, true, "");
    replace(" {2,}", true, " ");
  }
  if (step.add_dummy_prefix) out.push_back({{"type", "Prepend"}, {"prepend", " "}});
  if (step.escape_whitespaces) replace(" ", false, "▁");
}

void add_normalizer(const Normalizer& step, std::vector<Json>& out) {
  if (step.kind == Normalizer::Kind::Unicode)
    return out.push_back({{"type", name_of(kNormalForms, step.form)}});
  if (step.kind == Normalizer::Kind::SentencePiece) return add_sentencepiece(step, out);
  Json json = {{"type", name_of(kNormalizers, step.kind)}};
  switch (step.kind) {
    case Normalizer::Kind::Strip:
      json["strip_left"] = step.left;
      json["strip_right"] = step.right;
      break;
    case Normalizer::Kind::Prepend:
      json["prepend"] = step.content;
      break;
    case Normalizer::Kind::Replace:
      json["pattern"] = pattern_json(step.pattern, step.is_regex);
      json["content"] = step.content;
      break;
    case Normalizer::Kind::Charsmap:
      json["precompiled_charsmap"] = to_base64(step.charsmap);
      break;
    case Normalizer::Kind::Bert:
      json["clean_text"] = step.clean_text;
      json["handle_chinese_chars"] = step.separate_chinese;
      json["strip_accents"] = step.strip_accents;
      json["lowercase"] = step.lowercase;
      break;
    default:
      break;
  }
  out.push_back(std::move(json));
}

Json normalizer_json(const TokenizerSpec& spec) {
  std::vector<Json> steps;
  for (const Normalizer& step : spec.normalizers) add_normalizer(step, steps);
  return sequence_of("normalizers", std::move(steps));
}

Json step_json(const PreTokenizer& step) {
  switch (step.kind) {
    case PreTokenizer::Kind::Split:
      return {{"type", "Split"},
              {"pattern", {{"Regex", step.pattern}}},
              {"behavior", name_of(kBehaviors, step.behavior)},
              {"invert", step.invert}};
    case PreTokenizer::Kind::Digits:
      return {{"type", "Digits"}, {"individual_digits", step.individual_digits}};
    case PreTokenizer::Kind::Metaspace:
      return {{"type", "Metaspace"},
              {"replacement", step.replacement},
              {"prepend_scheme", name_of(kPrependSchemes, step.prepend)},
              {"split", step.split}};
    case PreTokenizer::Kind::ByteLevel:
      break;
  }
  return {{"type", "ByteLevel"},
          {"add_prefix_space", step.add_prefix_space},
          {"trim_offsets", true},
          {"use_regex", step.use_regex}};
}

Json pre_tokenizer_json(const TokenizerSpec& spec) {
  std::vector<Json> steps;
  for (const PreTokenizer& step : spec.pre_tokenizers) steps.push_back(step_json(step));
  return sequence_of("pretokenizers", std::move(steps));
}

Json decoder_json(const spec::Decoder& step) {
  Json json = {{"type", name_of(kDecoders, step.kind)}};
  switch (step.kind) {
    case spec::Decoder::Kind::ByteLevel:
      json.update({{"add_prefix_space", true}, {"trim_offsets", true}, {"use_regex", true}});
      break;
    case spec::Decoder::Kind::Replace:
      json["pattern"] = pattern_json(step.pattern, step.is_regex);
      json["content"] = step.content;
      break;
    case spec::Decoder::Kind::Strip:
      json.update({{"content", step.content}, {"start", step.start}, {"stop", step.stop}});
      break;
    case spec::Decoder::Kind::Metaspace:
      json.update({{"replacement", step.content},
                   {"prepend_scheme", step.drops_first ? "always" : "never"},
                   {"split", true}});
      break;
    case spec::Decoder::Kind::WordPiece:
      json.update({{"prefix", step.content}, {"cleanup", step.cleanup}});
      break;
    case spec::Decoder::Kind::WordEnd:
      json["suffix"] = step.content;
      break;
    default:
      break;
  }
  return json;
}

Json decoders_json(const TokenizerSpec& spec) {
  std::vector<Json> steps;
  for (const spec::Decoder& step : spec.decoders) {
    if (step.kind != spec::Decoder::Kind::Spaces) steps.push_back(decoder_json(step));
  }
  return sequence_of("decoders", std::move(steps));
}

Json template_json(const TokenizerSpec& spec) {
  if (spec.prefix.empty() && spec.suffix.empty()) return nullptr;
  Json single = Json::array(), pair, names = Json::object();
  const auto add_ids = [&](const std::vector<int32_t>& ids) {
    for (const int32_t id : ids) {
      const std::string& name = spec.tokens[id];
      single.push_back({{"SpecialToken", {{"id", name}, {"type_id", 0}}}});
      names[name] = {{"id", name}, {"ids", {id}}, {"tokens", {name}}};
    }
  };
  add_ids(spec.prefix);
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  add_ids(spec.suffix);
  pair = single;
  pair.push_back({{"Sequence", {{"id", "B"}, {"type_id", 1}}}});
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", names}};
}

Json added_json(const TokenizerSpec& spec) {
  std::vector<spec::AddedToken> added = spec.added;
  std::sort(added.begin(), added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  // What sentencepiece looks for after its normalisation the library would normalise too.
  const bool as_written =
      std::any_of(spec.normalizers.begin(), spec.normalizers.end(), [](const Normalizer& step) {
        return step.kind == Normalizer::Kind::SentencePiece;
      });
  Json list = Json::array();
  for (const spec::AddedToken& token : added) {
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", token.single_word},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", token.normalized && !as_written},
                    {"special", token.special}});
  }
  return list;
}

std::string quoted(const std::string& text) { return Json(text).dump(); }

// Written by hand: one line a token, and no tree of Json values that would be slow to build.
void append_vocabulary(std::string& out, const TokenizerSpec& spec) {
  const char* separator = "";
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id].empty()) continue;
    out += fmt::format("{}\n      {}: {}", separator, quoted(spec.tokens[id]), id);
    separator = ",";
  }
}

// Unigram's list is by id and can have no gaps.
void append_scores(std::string& out, const TokenizerSpec& spec) {
  const char* separator = "";
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    out += fmt::format("{}\n      [{}, {}]", separator, quoted(spec.tokens[id]),
                       Json(spec.scores[id]).dump());
    separator = ",";
  }
}

// As "a b", which every version of the library reads, unless a token has a space in it.
void append_merges(std::string& out, const TokenizerSpec& spec) {
  const std::vector<spec::RankedMerge> merges = spec::ranked_merges(spec);
  const auto has_space = [](const std::string& token) { return token.find(' ') != token.npos; };
  const bool plain = std::none_of(merges.begin(), merges.end(), [&](const auto& m) {
    return has_space(spec.tokens[m.merge.left]) || has_space(spec.tokens[m.merge.right]);
  });
  const char* separator = "";
  for (const auto& [merge, rank] : merges) {
    const std::string &left = spec.tokens[merge.left], &right = spec.tokens[merge.right];
    out += separator;
    out += "\n      ";
    out +=
        plain ? quoted(left + " " + right) : fmt::format("[{}, {}]", quoted(left), quoted(right));
    separator = ",";
  }
}

std::string text_or_null(const std::string& text) { return text.empty() ? "null" : quoted(text); }

std::string unknown_text(const TokenizerSpec& spec) {
  return text_or_null(spec.unknown < 0 ? "" : spec.tokens[spec.unknown]);
}

void append_bpe(std::string& out, const TokenizerSpec& spec) {
  out += fmt::format("\"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": {}",
                     unknown_text(spec));
  out += fmt::format(
      ",\n    \"continuing_subword_prefix\": {},\n    \"end_of_word_suffix\": {}",
      text_or_null(spec.word_prefix), text_or_null(spec.word_suffix));
  out += fmt::format(
      ",\n    \"fuse_unk\": {},\n    \"byte_fallback\": {},\n    \"ignore_merges\": {}",
      spec.fuse_unknown, spec.byte_fallback, spec.ignore_merges);
  out += ",\n    \"vocab\": {";
  append_vocabulary(out, spec);
  out += "\n    },\n    \"merges\": [";
  append_merges(out, spec);
  out += "\n    ]";
}

void append_unigram(std::string& out, const TokenizerSpec& spec) {
  out += fmt::format("\"type\": \"Unigram\",\n    \"unk_id\": {},\n    \"byte_fallback\": {}",
                     spec.unknown < 0 ? "null" : std::to_string(spec.unknown), spec.byte_fallback);
  out += ",\n    \"vocab\": [";
  append_scores(out, spec);
  out += "\n    ]";
}

void append_word_piece(std::string& out, const TokenizerSpec& spec) {
  out += fmt::format(
      "\"type\": \"WordPiece\",\n    \"unk_token\": {},\n    \"continuing_subword_prefix\": {},\n"
      "    \"max_input_chars_per_word\": {},\n    \"vocab\": {{",
      unknown_text(spec), quoted(spec.word_prefix), spec.longest_word);
  append_vocabulary(out, spec);
  out += "\n    }";
}

}  // namespace

std::string write_tokenizer_json(const TokenizerSpec& spec) {
  std::string out = "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null";
  const auto member = [&](const char* key, const Json& value) {
    out += fmt::format(",\n  \"{}\": {}", key, value.dump());
  };
  member("added_tokens", added_json(spec));
  member("normalizer", normalizer_json(spec));
  member("pre_tokenizer", pre_tokenizer_json(spec));
  member("post_processor", template_json(spec));
  member("decoder", decoders_json(spec));

  out += ",\n  \"model\": {\n    ";
  switch (spec.model) {
    case TokenizerSpec::Model::BytePairs:
      append_bpe(out, spec);
      break;
    case TokenizerSpec::Model::Unigram:
      append_unigram(out, spec);
      break;
    case TokenizerSpec::Model::WordPiece:
      append_word_piece(out, spec);
      break;
  }
  out += "\n  }\n}\n";
  return out;
}

}  // namespace moiety::format
