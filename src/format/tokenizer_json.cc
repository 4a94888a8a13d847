#include "format/tokenizer_json.h"

#include <algorithm>

#include "base/text_index.h"
#include "format/tokenizer_json_parser.h"
#include "format/tokenizer_json_steps.h"

namespace moiety::format {
namespace {

using spec::AddedToken;
using spec::TokenizerSpec;

// Token texts to ids, while the file is read.
class Vocabulary {
 public:
  Vocabulary(const TokenizerJson& parsed, const Json* added_list, const std::string& where)
      : parsed_(parsed), where_(where), ids_(parsed.vocab.size() + parsed.scored.size()) {
    for (const auto& [text, id] : parsed.vocab) insert(text, id);
    insert_scored();
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

  const int32_t* find(std::string_view text) const { return ids_.find(text); }
  std::vector<std::string> take_tokens() const {
    std::vector<std::string> tokens(static_cast<size_t>(greatest_ + 1));
    for (size_t id = 0; id < parsed_.scored.size(); ++id) tokens[id] = parsed_.scored[id].first;
    for (const auto& [text, id] : parsed_.vocab) tokens[id] = text;
    for (const AddedToken& token : added) tokens[token.id] = token.content;
    return tokens;
  }

  std::vector<AddedToken> added;

 private:
  void insert(std::string_view text, int32_t id) {
    require(!text.empty(), "{}: the token of id {} is empty", where_, id);
    const auto [known, is_new] = ids_.insert(text, id);
    require(is_new, "{}: token \"{}\" has two ids, {} and {}", where_, text, *known, id);
    if (static_cast<size_t>(id) >= used_.size()) used_.resize(static_cast<size_t>(id) * 3 / 2 + 1);
    require(!used_[id], "{}: id {} is given to two tokens, the second is \"{}\"", where_, id, text);
    used_[id] = true;
    greatest_ = std::max(greatest_, id);
  }

  // Unigram's list may have a token twice; then the last is known by its text.
  void insert_scored() {
    require(parsed_.scored.size() <= spec::kMostTokens, "{}: {} tokens; at most {} are allowed",
            where_, parsed_.scored.size(), spec::kMostTokens);
    for (size_t id = 0; id < parsed_.scored.size(); ++id) {
      if (!parsed_.scored[id].first.empty())
        *ids_.insert(parsed_.scored[id].first, 0).first = static_cast<int32_t>(id);
    }
    if (parsed_.scored.empty()) return;
    used_.assign(parsed_.scored.size(), true);
    greatest_ = std::max(greatest_, static_cast<int32_t>(parsed_.scored.size()) - 1);
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

  const TokenizerJson& parsed_;
  const std::string& where_;
  TextIndex ids_;  // the texts lie in the parsed file and added_texts_
  std::vector<std::string> added_texts_;
  std::vector<bool> used_;
  int32_t greatest_ = -1;
};

// The second part of a merge may carry the prefix of what goes on inside a word.
std::vector<TokenizerSpec::Merge> read_merges(
    const std::vector<std::pair<std::string, std::string>>& texts, const Vocabulary& vocabulary,
    const std::string& prefix, const std::string& where) {
  std::vector<TokenizerSpec::Merge> merges;
  merges.reserve(texts.size());
  std::string joined;
  for (const auto& [left, right] : texts) {
    const size_t skipped = right.starts_with(prefix) ? prefix.size() : 0;
    joined.assign(left).append(right, skipped);
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

// Old files don't say which model they have.
TokenizerSpec::Model read_model_type(const JsonObject& model, const TokenizerJson& parsed) {
  const char* otherwise = !parsed.scored.empty()  ? "Unigram"
                          : !parsed.has_merges ? "WordPiece"
                                               : "BPE";
  const std::string type = model.text("type", otherwise);
  if (type == "Unigram") return TokenizerSpec::Model::Unigram;
  if (type == "WordPiece") return TokenizerSpec::Model::WordPiece;
  require(type == "BPE", "{}: type \"{}\" is not supported; BPE, Unigram, WordPiece are",
          model.where(), type);
  return TokenizerSpec::Model::BytePairs;
}

void read_unknown(const JsonObject& model, const Vocabulary& vocabulary, TokenizerSpec& spec) {
  if (!model.has("unk_token")) return;
  const int32_t* unknown = vocabulary.find(model.text("unk_token"));
  require(unknown != nullptr, "{}: unk_token \"{}\" is no token", model.where(),
          model.text("unk_token"));
  spec.unknown = *unknown;
}

void read_bpe(const JsonObject& model, const TokenizerJson& parsed, const Vocabulary& vocabulary,
              const std::string& where, TokenizerSpec& spec) {
  require(!model.has("merges"), "{}: \"merges\" must be a list", model.where());  // a list is in parsed.merges
  require(model.number("dropout", 0) == 0, "{}: \"dropout\" would make the ids random",
          model.where());
  spec.byte_fallback = model.boolean("byte_fallback", false);
  spec.fuse_unknown = model.boolean("fuse_unk", false);
  spec.ignore_merges = model.boolean("ignore_merges", false);
  spec.word_prefix = model.text("continuing_subword_prefix", "");
  spec.word_suffix = model.text("end_of_word_suffix", "");
  spec.merges = read_merges(parsed.merges, vocabulary, spec.word_prefix, where);
  read_unknown(model, vocabulary, spec);
}

void read_unigram(const JsonObject& model, const TokenizerJson& parsed, TokenizerSpec& spec) {
  spec.scores.resize(spec.tokens.size());
  for (size_t id = 0; id < parsed.scored.size(); ++id) spec.scores[id] = parsed.scored[id].second;
  if (model.has("unk_id")) {
    spec.unknown = static_cast<int32_t>(
        model.integer("unk_id", 0, static_cast<int64_t>(parsed.scored.size()) - 1));
  }
  spec.fuse_unknown = true;
  spec.byte_fallback = model.boolean("byte_fallback", false);
}

// Tokens that were only added are none that splitting finds.
void mark_added_only(const TokenizerJson& parsed, TokenizerSpec& spec) {
  spec.types.assign(spec.tokens.size(), spec::TokenType::Control);
  for (const auto& [text, id] : parsed.vocab) spec.types[id] = spec::TokenType::Normal;
  for (size_t id = 0; id < parsed.scored.size(); ++id) spec.types[id] = spec::TokenType::Normal;
}

void read_word_piece(const JsonObject& model, const Vocabulary& vocabulary, TokenizerSpec& spec) {
  spec.word_prefix = model.text("continuing_subword_prefix", "##");
  spec.longest_word =
      static_cast<int32_t>(model.integer("max_input_chars_per_word", 0, 1 << 20, 100));
  read_unknown(model, vocabulary, spec);
}

}  // namespace

TokenizerSpec read_tokenizer_json(std::string_view text, const std::string& where) {
  const TokenizerJson parsed = parse_tokenizer_json(text, where);
  const JsonObject file(parsed.rest, where);
  const JsonObject model = file.object("model");
  TokenizerSpec spec;
  spec.model = read_model_type(model, parsed);
  const bool is_unigram = spec.model == TokenizerSpec::Model::Unigram;
  require(!(is_unigram ? parsed.scored.empty() : parsed.vocab.empty()),
          "{}: model: \"vocab\" is missing or empty", where);

  read_steps(file, spec);
  const Json* added = file.has("added_tokens") ? &file.array("added_tokens") : nullptr;
  Vocabulary vocabulary(parsed, added, where);
  if (spec.model == TokenizerSpec::Model::BytePairs)
    read_bpe(model, parsed, vocabulary, where, spec);
  if (spec.model == TokenizerSpec::Model::WordPiece) read_word_piece(model, vocabulary, spec);
  spec.tokens = vocabulary.take_tokens();
  mark_added_only(parsed, spec);
  if (is_unigram) read_unigram(model, parsed, spec);
  spec.added = std::move(vocabulary.added);
  check(spec, where);
  return spec;
}

}  // namespace moiety::format
