#include "text/tokenizer.h"

#include <algorithm>
#include <mutex>

#include "base/error.h"
#include "text/bpe.h"
#include "text/byte_alphabet.h"
#include "text/characters.h"
#include "text/unigram.h"
#include "text/utf8.h"
#include "text/word_piece.h"

namespace moiety::text {
namespace {

// A content that is looked for after normalisation is written so. What sentencepiece adds around a
// text is no part of it, and it leaves such tokens as they are.
std::string normalized_content(const spec::AddedToken& added, const spec::TokenizerSpec& spec) {
  const auto keeps = [](const spec::Normalizer& step) {
    return step.kind == spec::Normalizer::Kind::SentencePiece;
  };
  if (std::any_of(spec.normalizers.begin(), spec.normalizers.end(), keeps)) return added.content;
  Normalizer::Scratch scratch;
  return std::string(Normalizer(spec.normalizers).run(added.content, scratch));
}

std::vector<spec::AddedToken> user_defined(const spec::TokenizerSpec& spec) {
  std::vector<spec::AddedToken> tokens;
  for (size_t id = 0; id < spec.types.size(); ++id) {
    if (spec.types[id] == spec::TokenType::UserDefined)
      tokens.push_back({.id = static_cast<int32_t>(id), .content = spec.tokens[id]});
  }
  return tokens;
}

}  // namespace

struct Tokenizer::Scratch {
  Normalizer::Scratch normalizer;
  Splitter::Scratch splitter;
  PieceModel::Scratch model;
  std::vector<AddedTokens::Part> parts, normalized_parts;
};

// Scratch space goes from call to call, so that what one call learns of common words serves the
// next.
class Tokenizer::ScratchPool {
 public:
  std::unique_ptr<Scratch> take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Scratch>();
    auto scratch = std::move(free_.back());
    free_.pop_back();
    return scratch;
  }
  void give_back(std::unique_ptr<Scratch> scratch) {
    std::lock_guard lock(mutex_);
    if (free_.size() < kMostKept) free_.push_back(std::move(scratch));
  }

 private:
  static constexpr size_t kMostKept = 64;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> free_;  // guarded by mutex_
};

Tokenizer::Tokenizer(spec::TokenizerSpec spec) : spec_(std::move(spec)), pool_(new ScratchPool) {
  const size_t count = spec_.tokens.size();
  special_.resize(count);
  for (const spec::AddedToken& added : spec_.added) special_[added.id] = added.special;

  decoder_ = std::make_unique<Decoder>(spec_.decoders);
  ids_ = TextIndex(count);
  bytes_begin_.reserve(count + 1);
  bytes_.reserve(count * 8 + 64);  // never inside the string itself: views must survive a move
  for (size_t id = 0; id < count; ++id) {
    const std::string& token = spec_.tokens[id];
    bytes_begin_.push_back(bytes_.size());
    if (token.empty()) continue;
    ids_.insert(token, static_cast<int32_t>(id));
    bytes_ += decoder_->bytes_of(token);
  }
  bytes_begin_.push_back(bytes_.size());
  model_ = make_model();
  splitter_ = std::make_unique<Splitter>(spec_.pre_tokenizers, spec::is_byte_level(spec_));

  std::vector<spec::AddedToken> as_written, normalized, special;
  for (spec::AddedToken added : spec_.added) {
    if (added.special) special.push_back(added);
    if (added.normalized) added.content = normalized_content(added, spec_);
    (added.normalized ? normalized : as_written).push_back(std::move(added));
  }
  normalizer_ = std::make_unique<Normalizer>(spec_.normalizers, user_defined(spec_));
  added_ = std::make_unique<AddedTokens>(std::move(as_written));
  added_normalized_ = std::make_unique<AddedTokens>(std::move(normalized));
  special_texts_ = std::make_unique<AddedTokens>(std::move(special));
}

std::unique_ptr<PieceModel> Tokenizer::make_model() const {
  if (spec_.model == spec::TokenizerSpec::Model::Unigram) return std::make_unique<Unigram>(spec_);
  if (spec_.model == spec::TokenizerSpec::Model::WordPiece)
    return std::make_unique<WordPiece>(spec_);

  TextIndex whole_pieces;
  const bool of_bytes = spec::is_byte_level(spec_);
  for (int32_t id = 0; spec_.ignore_merges && id < vocab_size(); ++id) {
    const std::string& token = spec_.tokens[id];
    if (!is_found_in_text(spec_, id)) continue;
    if (!of_bytes) {
      whole_pieces.insert(token, id);
    } else if (from_printable(token)) {
      whole_pieces.insert(token_bytes(id), id);
    }
  }
  return std::make_unique<Bpe>(spec_, std::move(whole_pieces));
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special,
                                       std::span<const size_t> plain) const {
  require(text.size() < UINT32_MAX, "a text of {} bytes; at most 4 GiB are encoded at once",
          text.size());
  if (!is_valid_utf8(text)) {
    std::string valid;
    std::vector<size_t> moved;
    size_t done = 0;
    for (const size_t at : plain) {
      valid += replace_invalid(text.substr(done, at - done));
      moved.push_back(valid.size());
      done = at;
    }
    return encode(valid += replace_invalid(text.substr(done)), add_special, moved);
  }

  std::vector<int32_t> ids;
  if (add_special) ids = spec_.prefix;
  std::unique_ptr<Scratch> scratch = pool_->take();
  scratch->parts.clear();
  added_->split(text, plain, scratch->parts);
  for (const AddedTokens::Part& part : scratch->parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    // Normalising moves what stands behind: where tokens are looked for after it, the text is cut.
    const auto begin = static_cast<size_t>(part.text.data() - text.data());
    size_t done = 0;
    if (!added_normalized_->empty()) {
      for (auto at = std::ranges::upper_bound(plain, begin); at != plain.end() && *at < begin + part.text.size(); ++at) {
        encode_ordinary(part.text.substr(done, *at - begin - done), begin + done == 0, *scratch, ids);
        done = *at - begin;
      }
    }
    encode_ordinary(part.text.substr(done), begin + done == 0, *scratch, ids);
  }
  pool_->give_back(std::move(scratch));
  if (add_special) ids.insert(ids.end(), spec_.suffix.begin(), spec_.suffix.end());
  return ids;
}

std::vector<size_t> Tokenizer::special_texts(std::string_view text) const {
  std::vector<size_t> inside;
  for (size_t at = 0; at < text.size() && !special_texts_->empty(); ++at) {
    const size_t length = special_texts_->longest_length_at(text, at);
    const size_t first = length == 0 ? 0 : utf8_char(text, at).bytes;
    if (first < length) inside.push_back(at + first);
  }
  return inside;
}

void Tokenizer::encode_ordinary(std::string_view text, bool at_start, Scratch& scratch,
                                std::vector<int32_t>& ids) const {
  text = normalizer_->run(text, scratch.normalizer);
  scratch.normalized_parts.clear();
  added_normalized_->split(text, {}, scratch.normalized_parts);
  for (const AddedTokens::Part& part : scratch.normalized_parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    const bool first = at_start && part.text.data() == text.data();
    for (const std::string_view piece : splitter_->split(part.text, first, scratch.splitter))
      model_->encode(piece, scratch.model, ids);
  }
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string text;
  Decoder::Stream stream(*decoder_);
  for (const int32_t id : ids) {
    const std::string* known = token(id);
    if (known != nullptr && !(skip_special && is_special(id))) stream.push(*known, text);
  }
  stream.finish(text);
  return text;
}

const std::string* Tokenizer::token(int32_t id) const {
  return id < 0 || id >= vocab_size() || spec_.tokens[id].empty() ? nullptr : &spec_.tokens[id];
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return std::string_view(bytes_).substr(bytes_begin_[id], bytes_begin_[id + 1] - bytes_begin_[id]);
}

std::optional<int32_t> Tokenizer::find(std::string_view token) const {
  const int32_t* id = ids_.find(token);
  return id == nullptr ? std::nullopt : std::optional(*id);
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && special_[id];
}

}  // namespace moiety::text
