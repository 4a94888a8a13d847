#include <algorithm>

#include "base/json.h"
#include "format/tokenizer_json.h"
#include "format/tokenizer_json_names.h"

namespace moiety::format {
namespace {

using spec::PreTokenizer;
using spec::TokenizerSpec;

// Null for none, the step itself for one, a Sequence for more.
Json sequence_of(const char* list, std::vector<Json> steps) {
  if (steps.empty()) return nullptr;
  if (steps.size() == 1) return std::move(steps[0]);
  return Json{{"type", "Sequence"}, {list, std::move(steps)}};
}

Json normalizer_json(const TokenizerSpec& spec) {
  std::vector<Json> steps;
  for (const spec::Normalizer normalizer : spec.normalizers)
    steps.push_back({{"type", name_of(kNormalizers, normalizer)}});
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
  Json list = Json::array();
  for (const spec::AddedToken& token : added) {
    list.push_back({{"id", token.id},
                    {"content", token.content},
                    {"single_word", token.single_word},
                    {"lstrip", token.lstrip},
                    {"rstrip", token.rstrip},
                    {"normalized", token.normalized},
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

// As "a b", which every version of the library reads, unless a token has a space in it.
void append_merges(std::string& out, const TokenizerSpec& spec) {
  const bool plain = std::none_of(spec.merges.begin(), spec.merges.end(), [&](const auto& merge) {
    return (spec.tokens[merge.left] + spec.tokens[merge.right]).find(' ') != std::string::npos;
  });
  const char* separator = "";
  for (const TokenizerSpec::Merge& merge : spec.merges) {
    const std::string &left = spec.tokens[merge.left], &right = spec.tokens[merge.right];
    out += separator;
    out += "\n      ";
    out +=
        plain ? quoted(left + " " + right) : fmt::format("[{}, {}]", quoted(left), quoted(right));
    separator = ",";
  }
}

}  // namespace

std::string write_tokenizer_json(const TokenizerSpec& spec) {
  const Json decoder = {{"type", "ByteLevel"},
                        {"add_prefix_space", true},
                        {"trim_offsets", true},
                        {"use_regex", true}};
  std::string out = "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null";
  const auto member = [&](const char* key, const Json& value) {
    out += fmt::format(",\n  \"{}\": {}", key, value.dump());
  };
  member("added_tokens", added_json(spec));
  member("normalizer", normalizer_json(spec));
  member("pre_tokenizer", pre_tokenizer_json(spec));
  member("post_processor", template_json(spec));
  member("decoder", decoder);

  out += ",\n  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null";
  out += fmt::format(",\n    \"unk_token\": {}",
                     spec.unknown < 0 ? "null" : quoted(spec.tokens[spec.unknown]));
  out += ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null";
  out += fmt::format(
      ",\n    \"fuse_unk\": {},\n    \"byte_fallback\": false,\n    \"ignore_merges\": {}",
      spec.fuse_unknown, spec.ignore_merges);
  out += ",\n    \"vocab\": {";
  append_vocabulary(out, spec);
  out += "\n    },\n    \"merges\": [";
  append_merges(out, spec);
  out += "\n    ]\n  }\n}\n";
  return out;
}

}  // namespace moiety::format
