#include "spec/tokenizer_spec.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace moiety::spec {
namespace {

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void check_lists(const TokenizerSpec& spec, const std::string& where) {
  const size_t count = spec.tokens.size();
  require(count <= kMostTokens, "{}: {} tokens; at most {} are allowed", where, count, kMostTokens);
  require(spec.types.empty() || spec.types.size() == count, "{}: {} token types for {} tokens",
          where, spec.types.size(), count);
  const bool needs_scores = spec.model == TokenizerSpec::Model::Unigram || spec.merges_by_score;
  require(spec.scores.size() == count || (spec.scores.empty() && !needs_scores),
          "{}: {} scores for {} tokens", where, spec.scores.size(), count);
  require(std::all_of(spec.scores.begin(), spec.scores.end(),
                      [](double score) { return std::isfinite(score); }),
          "{}: a token's score is no finite number", where);
}

}  // namespace

bool is_byte_level(const TokenizerSpec& spec) {
  const auto has = [&](PreTokenizer::Kind kind) {
    return std::any_of(spec.pre_tokenizers.begin(), spec.pre_tokenizers.end(),
                       [&](const PreTokenizer& step) { return step.kind == kind; });
  };
  return spec.model == TokenizerSpec::Model::BytePairs && !spec.byte_fallback &&
         spec.word_prefix.empty() && spec.word_suffix.empty() &&
         has(PreTokenizer::Kind::ByteLevel) && !has(PreTokenizer::Kind::Metaspace);
}

std::string describe(const TokenizerSpec& spec) {
  switch (spec.model) {
    case TokenizerSpec::Model::Unigram:
      return spec.byte_fallback ? "Unigram with byte fallback" : "Unigram";
    case TokenizerSpec::Model::WordPiece:
      return "WordPiece";
    case TokenizerSpec::Model::BytePairs:
      break;
  }
  if (is_byte_level(spec)) return "byte-level BPE";
  return spec.byte_fallback ? "BPE with byte fallback" : "BPE";
}

int byte_of_token(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const int high = hex_digit(token[3]), low = hex_digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

void check(const TokenizerSpec& spec, const std::string& where) {
  check_lists(spec, where);
  const auto is_token = [&](int32_t id) {
    return id >= 0 && static_cast<size_t>(id) < spec.tokens.size() && !spec.tokens[id].empty();
  };
  for (const TokenizerSpec::Merge& merge : spec.merges) {
    require(is_token(merge.left) && is_token(merge.right) && is_token(merge.result),
            "{}: a merge of {} and {} to {}, not all of which are tokens", where, merge.left,
            merge.right, merge.result);
  }
  for (const AddedToken& added : spec.added) {
    require(is_token(added.id) && spec.tokens[added.id] == added.content,
            "{}: added token \"{}\" is not the token of its id {}", where, added.content, added.id);
  }
  require(spec.unknown == -1 || is_token(spec.unknown), "{}: the unknown token's id {} is no token",
          where, spec.unknown);
  for (const std::vector<int32_t>* ids : {&spec.prefix, &spec.suffix}) {
    for (const int32_t id : *ids)
      require(is_token(id), "{}: the special id {} that is put around the text is no token", where,
              id);
  }
}

}  // namespace moiety::spec
