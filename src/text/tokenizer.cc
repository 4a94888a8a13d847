#include "text/tokenizer.h"

#include <mutex>

#include "base/error.h"
#include "text/byte_alphabet.h"
#include "text/normalize.h"
#include "text/utf8.h"

namespace moiety::text {
namespace {

std::string normalize_all(std::string text, const std::vector<spec::Normalizer>& forms) {
  for (const spec::Normalizer form : forms) {
    if (may_need_normalizing(text, form)) text = normalize(text, form);
  }
  return text;
}

}  // namespace

struct Tokenizer::Scratch {
  Splitter::Scratch splitter;
  Bpe::Scratch bpe;
  std::string normalized;
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

  ids_.reserve(count);
  bytes_begin_.reserve(count + 1);
  std::unordered_map<std::string_view, int32_t> whole_pieces;
  std::vector<int32_t> byte_strings;  // tokens wholly in the printable alphabet
  for (size_t id = 0; id < count; ++id) {
    const std::string& token = spec_.tokens[id];
    bytes_begin_.push_back(bytes_.size());
    if (token.empty()) continue;
    ids_.emplace(token, static_cast<int32_t>(id));
    const std::optional<std::string> bytes = from_printable(token);
    bytes_ += bytes ? *bytes : token;
    if (bytes) byte_strings.push_back(static_cast<int32_t>(id));
  }
  bytes_begin_.push_back(bytes_.size());
  if (spec_.ignore_merges) {
    for (const int32_t id : byte_strings) whole_pieces.emplace(token_bytes(id), id);
  }
  bpe_ = std::make_unique<Bpe>(spec_, std::move(whole_pieces));
  splitter_ = std::make_unique<Splitter>(spec_.pre_tokenizers);

  std::vector<spec::AddedToken> as_written, normalized;
  for (spec::AddedToken added : spec_.added) {
    if (added.normalized)
      added.content = normalize_all(std::move(added.content), spec_.normalizers);
    (added.normalized ? normalized : as_written).push_back(std::move(added));
  }
  added_ = std::make_unique<AddedTokens>(std::move(as_written));
  added_normalized_ = std::make_unique<AddedTokens>(std::move(normalized));
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  require(text.size() < UINT32_MAX, "a text of {} bytes; at most 4 GiB are encoded at once",
          text.size());
  if (!is_valid_utf8(text)) return encode(replace_invalid(text), add_special);

  std::vector<int32_t> ids;
  if (add_special) ids = spec_.prefix;
  std::unique_ptr<Scratch> scratch = pool_->take();
  scratch->parts.clear();
  added_->split(text, scratch->parts);
  for (const AddedTokens::Part& part : scratch->parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      encode_ordinary(part.text, *scratch, ids);
    }
  }
  pool_->give_back(std::move(scratch));
  if (add_special) ids.insert(ids.end(), spec_.suffix.begin(), spec_.suffix.end());
  return ids;
}

void Tokenizer::encode_ordinary(std::string_view text, Scratch& scratch,
                                std::vector<int32_t>& ids) const {
  for (const spec::Normalizer form : spec_.normalizers) {
    if (!may_need_normalizing(text, form)) continue;
    scratch.normalized = normalize(text, form);
    text = scratch.normalized;
  }
  scratch.normalized_parts.clear();
  added_normalized_->split(text, scratch.normalized_parts);
  for (const AddedTokens::Part& part : scratch.normalized_parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    for (const std::string_view piece : splitter_->split(part.text, scratch.splitter))
      bpe_->encode(piece, scratch.bpe, ids);
  }
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  std::string bytes;
  for (const int32_t id : ids) {
    if (!skip_special || !is_special(id)) bytes += token_bytes(id);
  }
  return is_valid_utf8(bytes) ? bytes : replace_invalid(bytes);
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  return std::string_view(bytes_).substr(bytes_begin_[id], bytes_begin_[id + 1] - bytes_begin_[id]);
}

std::optional<int32_t> Tokenizer::find(std::string_view token) const {
  const auto it = ids_.find(token);
  return it == ids_.end() ? std::nullopt : std::optional(it->second);
}

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && special_[id];
}

}  // namespace moiety::text
