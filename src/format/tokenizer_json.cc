#include "format/tokenizer_json.h"

#include <algorithm>
#include <unordered_map>

#include "format/tokenizer_json_names.h"
#include "format/tokenizer_json_parser.h"

namespace moiety::format {
namespace {

using spec::AddedToken;
using spec::Normalizer;
using spec::PreTokenizer;
using spec::TokenizerSpec;

constexpr int kMostSteps = 64;  // of a Sequence, nested ones included

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

std::vector<Normalizer> read_normalizers(const JsonObject& file) {
  std::vector<Normalizer> normalizers;
  for (const JsonObject& step : steps_of(file, "normalizer", "normalizers")) {
    const std::string type = step.text("type");
    const Normalizer* normalizer = by_name(kNormalizers, type);
    require(normalizer != nullptr,
            "{}: \"{}\" is not supported; byte-level BPE has NFC, NFD, NFKC or NFKD", step.where(),
            type);
    normalizers.push_back(*normalizer);
  }
  return normalizers;
}

PreTokenizer::Behavior read_behavior(const JsonObject& step) {
  const std::string name = step.text("behavior", "Isolated");
  const PreTokenizer::Behavior* behavior = by_name(kBehaviors, name);
  require(behavior != nullptr, "{}: unknown behavior \"{}\"", step.where(), name);
  return *behavior;
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

PreTokenizer read_split(const JsonObject& step) {
  const JsonObject pattern = step.object("pattern");
  PreTokenizer split{.kind = PreTokenizer::Kind::Split,
                     .pattern = pattern.has("String") ? pattern_for(pattern.text("String"))
                                                      : pattern.text("Regex"),
                     .behavior = read_behavior(step),
                     .invert = step.boolean("invert", false)};
  require(!split.pattern.empty(), "{}: an empty pattern", step.where());
  return split;
}

PreTokenizer read_pre_tokenizer(const JsonObject& step) {
  const std::string type = step.text("type");
  if (type == "Split") return read_split(step);
  if (type == "Digits") {
    return {.kind = PreTokenizer::Kind::Digits,
            .individual_digits = step.boolean("individual_digits", false)};
  }
  if (type == "Punctuation") {
    return {.kind = PreTokenizer::Kind::Split,
            .pattern = kPunctuation,
            .behavior = read_behavior(step)};
  }
  if (type == "ByteLevel") {
    return {.kind = PreTokenizer::Kind::ByteLevel,
            .add_prefix_space = step.boolean("add_prefix_space", true),
            .use_regex = step.boolean("use_regex", true)};
  }
  fail(ErrorKind::Input, "{}: \"{}\" is not supported; only byte-level BPE tokenizers are",
       step.where(), type);
}

std::vector<PreTokenizer> read_pre_tokenizers(const JsonObject& file) {
  std::vector<PreTokenizer> steps;
  int byte_levels = 0;
  for (const JsonObject& step : steps_of(file, "pre_tokenizer", "pretokenizers")) {
    steps.push_back(read_pre_tokenizer(step));
    byte_levels += steps.back().kind == PreTokenizer::Kind::ByteLevel;
  }
  require(byte_levels == 1,
          "{}: expected one ByteLevel pre-tokenizer, found {}; only byte-level BPE tokenizers are "
          "supported",
          file.where(), byte_levels);
  return steps;
}

void check_decoder(const JsonObject& file) {
  for (const JsonObject& step : steps_of(file, "decoder", "decoders")) {
    const std::string type = step.text("type");
    require(type == "ByteLevel" || type == "Fuse",
            "{}: \"{}\" is not supported; only byte-level BPE tokenizers are", step.where(), type);
  }
}

// Token texts to ids, while the file is read.
class Vocabulary {
 public:
  Vocabulary(const std::vector<std::pair<std::string, int32_t>>& vocab, const Json* added_list,
             const std::string& where)
      : where_(where) {
    ids_.reserve(vocab.size() * 2);
    for (const auto& [text, id] : vocab) insert(text, id);
    if (added_list == nullptr) return;
    for (const Json& entry : *added_list) {
      const JsonObject object(entry, where + ": added_tokens");
      added_texts_.push_back(object.text("content"));
    }
    size_t i = 0;
    for (const Json& entry : *added_list) {
      const std::string& text = added_texts_[i++];
      if (text.empty()) continue;
      const JsonObject object(entry, fmt::format("{}: added token \"{}\"", where, text));
      read_added(object, text);
    }
  }

  const int32_t* find(std::string_view text) const {
    const auto it = ids_.find(text);
    return it == ids_.end() ? nullptr : &it->second;
  }
  std::vector<std::string> take_tokens() const {
    std::vector<std::string> tokens(static_cast<size_t>(greatest_ + 1));
    for (const auto& [text, id] : ids_) tokens[id] = text;
    return tokens;
  }

  std::vector<AddedToken> added;

 private:
  void insert(std::string_view text, int32_t id) {
    require(!text.empty(), "{}: the token of id {} is empty", where_, id);
    const auto [it, is_new] = ids_.emplace(text, id);
    require(is_new, "{}: token \"{}\" has two ids, {} and {}", where_, text, it->second, id);
    if (static_cast<size_t>(id) >= used_.size()) used_.resize(static_cast<size_t>(id) * 3 / 2 + 1);
    require(!used_[id], "{}: id {} is given to two tokens, the second is \"{}\"", where_, id, text);
    used_[id] = true;
    greatest_ = std::max(greatest_, id);
  }

  void read_added(const JsonObject& object, const std::string& text) {
    const bool special = object.boolean("special", false);
    const AddedToken token{
        .id = static_cast<int32_t>(object.integer("id", 0, spec::kMostTokens - 1)),
        .content = text,
        .special = special,
        .lstrip = object.boolean("lstrip", false),
        .rstrip = object.boolean("rstrip", false),
        .single_word = object.boolean("single_word", false),
        .normalized = object.boolean("normalized", !special)};
    const int32_t* known = find(text);
    if (known == nullptr) {
      insert(text, token.id);
    } else {
      require(*known == token.id, "{}: its id is {}, but the vocabulary says {}", object.where(),
              token.id, *known);
    }
    added.push_back(token);
  }

  const std::string& where_;
  std::unordered_map<std::string_view, int32_t>
      ids_;  // the keys look into the parsed file and added_texts_
  std::vector<std::string> added_texts_;
  std::vector<bool> used_;
  int32_t greatest_ = -1;
};

std::vector<TokenizerSpec::Merge> read_merges(
    const std::vector<std::pair<std::string, std::string>>& texts, const Vocabulary& vocabulary,
    const std::string& where) {
  std::vector<TokenizerSpec::Merge> merges;
  merges.reserve(texts.size());
  std::string joined;
  for (const auto& [left, right] : texts) {
    joined.assign(left).append(right);
    int32_t ids[3];
    int i = 0;
    for (const std::string* text : {&left, &right, static_cast<const std::string*>(&joined)}) {
      const int32_t* id = vocabulary.find(*text);
      require(id != nullptr,
              "{}: merge {} (\"{}\" and \"{}\") needs token \"{}\", which is not in the vocabulary",
              where, merges.size() + 1, left, right, *text);
      ids[i++] = *id;
    }
    merges.push_back({ids[0], ids[1], ids[2]});
  }
  return merges;
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
      require(type == "ByteLevel", "{}: \"{}\" is not supported", step.where(), type);
    }
    if (before.empty() && after.empty()) continue;
    require(spec.prefix.empty() && spec.suffix.empty(),
            "{}: two steps that put tokens around the text are not supported", step.where());
    spec.prefix = before;
    spec.suffix = after;
  }
}

void check_model(const JsonObject& model) {
  const std::string type = model.text("type", "BPE");
  require(type == "BPE", "{}: type \"{}\" is not supported; only byte-level BPE tokenizers are",
          model.where(), type);
  require(!model.boolean("byte_fallback", false),
          "{}: byte_fallback is not supported; only byte-level BPE tokenizers are", model.where());
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    require(model.text(key, "").empty(), "{}: \"{}\" is not supported", model.where(), key);
  require(model.number("dropout", 0) == 0, "{}: \"dropout\" would make the ids random",
          model.where());
}

}  // namespace

TokenizerSpec read_tokenizer_json(std::string_view text, const std::string& where) {
  const TokenizerJson parsed = parse_tokenizer_json(text, where);
  const JsonObject file(parsed.rest, where);
  const JsonObject model = file.object("model");
  check_model(model);
  require(!parsed.vocab.empty(), "{}: model: \"vocab\" is missing or empty", where);
  require(!model.has("merges"), "{}: model: \"merges\" must be a list", where);  // a list is in parsed.merges

  TokenizerSpec spec;
  spec.normalizers = read_normalizers(file);
  spec.pre_tokenizers = read_pre_tokenizers(file);
  check_decoder(file);

  const Json* added = file.has("added_tokens") ? &file.array("added_tokens") : nullptr;
  Vocabulary vocabulary(parsed.vocab, added, where);
  spec.merges = read_merges(parsed.merges, vocabulary, where);
  spec.ignore_merges = model.boolean("ignore_merges", false);
  if (model.has("unk_token")) {
    const int32_t* unknown = vocabulary.find(model.text("unk_token"));
    require(unknown != nullptr, "{}: unk_token \"{}\" is no token", model.where(),
            model.text("unk_token"));
    spec.unknown = *unknown;
    spec.fuse_unknown = model.boolean("fuse_unk", false);
  }
  spec.tokens = vocabulary.take_tokens();
  spec.added = std::move(vocabulary.added);
  read_post_processors(file, spec);
  check(spec, where);
  return spec;
}

}  // namespace moiety::format
