#include "format/sentencepiece.h"

#include <algorithm>

#include "base/json.h"
#include "format/protobuf.h"
#include "format/sentencepiece_steps.h"

namespace moiety::format {
namespace {

using spec::TokenizerSpec;
using spec::TokenType;

// Numbers of github.com/google/sentencepiece, src/sentencepiece_model.proto.
namespace field {
constexpr uint32_t kPiece = 1, kTrainer = 2, kNormalizer = 3;                    // of the file
constexpr uint32_t kText = 1, kScore = 2, kType = 3;                             // of a piece
constexpr uint32_t kModelType = 3, kSpaceAsSuffix = 24, kByteFallback = 35;      // of the trainer
constexpr uint32_t kCharsmap = 2, kDummyPrefix = 3, kTrims = 4, kEscapes = 5;    // of the normaliser
}  // namespace field

enum ModelType : uint64_t { kUnigram = 1, kBpe = 2, kWord = 3, kCharacters = 4 };

void read_piece(std::string_view bytes, const std::string& where, TokenizerSpec& spec) {
  ProtobufReader reader(bytes, where);
  ProtobufReader::Field f;
  std::string text;
  float score = 0;
  uint64_t type = 1;
  while (reader.next(f)) {
    if (f.number == field::kText) text = f.bytes;
    if (f.number == field::kScore) score = f.real;
    if (f.number == field::kType) type = f.integer;
  }
  require(type >= 1 && type <= 6, "{}: piece {} (\"{}\") has type {}", where, spec.tokens.size(),
          text, type);
  require(spec.tokens.size() < static_cast<size_t>(spec::kMostTokens),
          "{}: more than {} pieces", where, spec::kMostTokens);
  spec.tokens.push_back(std::move(text));
  spec.scores.push_back(score);
  spec.types.push_back(static_cast<TokenType>(type));
}

void read_trainer(std::string_view bytes, const std::string& where, TokenizerSpec& spec,
                  SentencepieceSteps& steps) {
  ProtobufReader reader(bytes, where);
  ProtobufReader::Field f;
  uint64_t type = kUnigram;
  while (reader.next(f)) {
    if (f.number == field::kModelType) type = f.integer;
    if (f.number == field::kSpaceAsSuffix) steps.treat_whitespace_as_suffix = f.integer != 0;
    if (f.number == field::kByteFallback) spec.byte_fallback = f.integer != 0;
  }
  require(type == kUnigram || type == kBpe,
          "{}: sentencepiece's {} model is not supported; BPE and Unigram are", where,
          type == kWord         ? "word"
          : type == kCharacters ? "character"
                                : "unknown");
  if (type == kUnigram) return;
  spec.model = TokenizerSpec::Model::BytePairs;
  spec.merges_by_score = true;
}

void read_normalizer(std::string_view bytes, const std::string& where, SentencepieceSteps& steps) {
  ProtobufReader reader(bytes, where);
  ProtobufReader::Field f;
  while (reader.next(f)) {
    if (f.number == field::kCharsmap) steps.charsmap = f.bytes;
    if (f.number == field::kDummyPrefix) steps.add_dummy_prefix = f.integer != 0;
    if (f.number == field::kTrims) steps.remove_extra_whitespaces = f.integer != 0;
    if (f.number == field::kEscapes) steps.escape_whitespaces = f.integer != 0;
  }
}

// Control symbols are cut out of the text as it is written, user-defined ones after normalisation;
// Unigram finds the latter on its paths.
void add_symbols(TokenizerSpec& spec) {
  for (int32_t id = 0; id < static_cast<int32_t>(spec.tokens.size()); ++id) {
    const TokenType type = spec.types[id];
    if (spec.tokens[id].empty()) continue;
    if (type == TokenType::Unknown && spec.unknown < 0) spec.unknown = id;
    const bool special = type == TokenType::Control || type == TokenType::Unknown;
    const bool is_bpe = spec.model == TokenizerSpec::Model::BytePairs;
    if (special || (type == TokenType::UserDefined && is_bpe)) {
      spec.added.push_back({.id = id,
                            .content = spec.tokens[id],
                            .special = special,
                            .normalized = !special});
    }
  }
}

const int32_t* find_token(const TokenizerSpec& spec, std::string_view text) {
  const auto added = std::find_if(spec.added.begin(), spec.added.end(),
                                  [&](const auto& token) { return token.content == text; });
  return added == spec.added.end() ? nullptr : &added->id;
}

}  // namespace

TokenizerSpec read_sentencepiece(std::string_view bytes, const std::string& where) {
  TokenizerSpec spec;
  spec.model = TokenizerSpec::Model::Unigram;
  spec.like_sentencepiece = true;
  spec.fuse_unknown = true;
  SentencepieceSteps steps{.remove_extra_whitespaces = true};
  ProtobufReader reader(bytes, where);
  ProtobufReader::Field f;
  while (reader.next(f)) {
    if (f.number == field::kPiece) read_piece(f.bytes, where, spec);
    if (f.number == field::kTrainer) read_trainer(f.bytes, where, spec, steps);
    if (f.number == field::kNormalizer) read_normalizer(f.bytes, where, steps);
  }
  require(!spec.tokens.empty(), "{}: not a sentencepiece model: it has no pieces", where);

  set_sentencepiece_steps(steps, spec);
  add_symbols(spec);

  const bool is_bpe = spec.model == TokenizerSpec::Model::BytePairs;
  if (const int32_t* bos = find_token(spec, "<s>"); bos && is_bpe) spec.prefix = {*bos};
  if (const int32_t* eos = find_token(spec, "</s>"); eos && !is_bpe) spec.suffix = {*eos};
  check(spec, where);
  return spec;
}

namespace {

// "<s>", or {"content": "<s>", …}
std::string content_of(const Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  const auto content = found->is_object() ? found->find("content") : found->end();
  return found->is_object() && content != found->end() && content->is_string()
             ? content->get<std::string>()
             : std::string();
}

void add_around(const JsonObject& config, const char* flag, const char* key,
                std::vector<int32_t>& around, const TokenizerSpec& spec) {
  if (!config.has(flag)) return;
  around.clear();
  if (!config.boolean(flag, false)) return;
  const std::string text = content_of(config.json(), key);
  const int32_t* id = find_token(spec, text);
  require(id != nullptr, "{}: {} is true, but {} \"{}\" is no special token", config.where(), flag,
          key, text);
  around = {*id};
}

// {"32000": {"content": "<|im_end|>", "special": true, …}}
void add_token(const std::string& number, const JsonObject& object, TokenizerSpec& spec) {
  const bool is_id = !number.empty() && number.size() <= 7 &&
                     std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
  require(is_id, "{}: \"{}\" is no token id", object.where(), number);
  const auto id = static_cast<size_t>(std::stoi(number));
  require(id < static_cast<size_t>(spec::kMostTokens), "{}: id {} is too large", object.where(), id);
  if (id >= spec.tokens.size()) {
    spec.tokens.resize(id + 1);
    spec.scores.resize(id + 1);
    spec.types.resize(id + 1, TokenType::Unused);
  }
  const std::string content = object.text("content");
  // What the model itself has is known better from there.
  if (!spec.tokens[id].empty() || content.empty()) return;
  spec.tokens[id] = content;
  const bool special = object.boolean("special", false);
  spec.types[id] = TokenType::Control;
  spec.added.push_back({.id = static_cast<int32_t>(id),
                        .content = content,
                        .special = special,
                        .lstrip = object.boolean("lstrip", false),
                        .rstrip = object.boolean("rstrip", false),
                        .single_word = object.boolean("single_word", false)});
}

}  // namespace

void apply_tokenizer_config(std::string_view text, const std::string& where, TokenizerSpec& spec) {
  const Json json = parse_json(text, where);
  const JsonObject config(json, where);
  if (config.has("added_tokens_decoder")) {
    const JsonObject tokens = config.object("added_tokens_decoder");
    for (const auto& [number, token] : tokens.json().items())
      add_token(number, JsonObject(token, tokens.where()), spec);
  }
  add_around(config, "add_bos_token", "bos_token", spec.prefix, spec);
  add_around(config, "add_eos_token", "eos_token", spec.suffix, spec);
  check(spec, where);
}

}  // namespace moiety::format
