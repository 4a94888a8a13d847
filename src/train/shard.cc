#include "train/shard.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace moiety::train {
namespace {

constexpr char kMagic[8] = {'M', 'O', 'I', 'E', 'T', 'O', 'K', '1'};

struct Trailer {
  uint64_t fingerprint, vocab_size, text_bytes, tokens, documents, bytes_per_id;
  char magic[8];
};

size_t padded(size_t bytes) { return (bytes + 7) / 8 * 8; }

Trailer read_trailer(const MappedFile& file) {
  const std::string name = file.path().string();
  require(file.bytes().size() >= sizeof(Trailer), "{}: not a token shard: {} bytes", name, file.bytes().size());
  Trailer trailer;
  std::memcpy(&trailer, file.bytes().data() + file.bytes().size() - sizeof trailer, sizeof trailer);
  require(std::memcmp(trailer.magic, kMagic, sizeof kMagic) == 0, "{}: not a token shard, or cut short", name);
  const uint64_t size = file.bytes().size();
  require((trailer.bytes_per_id == 2 || trailer.bytes_per_id == 4) && trailer.tokens <= size &&
              trailer.documents > 0 && trailer.documents <= trailer.tokens &&
              padded(trailer.tokens * trailer.bytes_per_id) + 8 * trailer.documents + sizeof trailer == size,
          "{}: {} tokens and {} documents don't make a file of {} bytes", name, trailer.tokens, trailer.documents,
          size);
  return trailer;
}

}  // namespace

ShardWriter::ShardWriter(const fs::path& path, const ShardInfo& info) : path_(path), file_(path), info_(info) {
  info_.text_bytes = 0;
}

void ShardWriter::put(int32_t id) {
  require(id >= 0 && static_cast<uint64_t>(id) < info_.vocab_size, "{}: token {} with a vocabulary of {}",
          path_.string(), id, info_.vocab_size);
  const auto wide = static_cast<uint32_t>(id);
  const auto narrow = static_cast<uint16_t>(id);
  if (info_.vocab_size > 65536) {
    buffer_.append(reinterpret_cast<const char*>(&wide), sizeof wide);
  } else {
    buffer_.append(reinterpret_cast<const char*>(&narrow), sizeof narrow);
  }
  ++tokens_;
}

void ShardWriter::add_document(int32_t end_of_text, std::span<const int32_t> ids, size_t text_bytes) {
  begins_.push_back(tokens_);
  info_.text_bytes += text_bytes;
  put(end_of_text);
  for (const int32_t id : ids) put(id);
  file_.write(buffer_);
  buffer_.clear();
}

void ShardWriter::commit() {
  require(!begins_.empty(), "{}: there is no text for it", path_.string());
  file_.write(std::string(padded(file_.bytes_written()) - file_.bytes_written(), '\0'));
  file_.write(std::as_bytes(std::span(begins_)));
  Trailer trailer{info_.fingerprint, info_.vocab_size,  info_.text_bytes,
                  tokens_,           begins_.size(), info_.vocab_size > 65536 ? 4u : 2u, {}};
  std::memcpy(trailer.magic, kMagic, sizeof kMagic);
  file_.write(std::as_bytes(std::span(&trailer, 1)));
  file_.commit();
}

Shard::Shard(const fs::path& path) : file_(path) {
  const std::string name = path.string();
  const Trailer trailer = read_trailer(file_);
  info_ = {trailer.fingerprint, trailer.vocab_size, trailer.text_bytes};
  num_tokens_ = trailer.tokens;
  wide_ = trailer.bytes_per_id == 4;
  ids_ = file_.bytes().data();
  begins_ = {reinterpret_cast<const uint64_t*>(ids_ + padded(num_tokens_ * trailer.bytes_per_id)),
             static_cast<size_t>(trailer.documents)};

  require(begins_[0] == 0, "{}: the first document begins at token {}", name, begins_[0]);
  for (size_t d = 0; d < begins_.size(); ++d) {
    require(document_begin(d) < document_end(d) && document_end(d) <= num_tokens_,
            "{}: document {} has tokens {} to {}", name, d, document_begin(d), document_end(d));
  }
}

void Shard::check_tokens() const {
  for (uint64_t at = 0; at < num_tokens_; ++at) {
    require(is_token(token(at)), "{}: token {} at byte {} with a vocabulary of {}: the file is damaged, delete it to have it made again", path().string(),
            static_cast<uint32_t>(token(at)), byte_of(at), info_.vocab_size);
  }
}

size_t Shard::document_of(uint64_t at) const { return static_cast<size_t>(std::ranges::upper_bound(begins_, at) - begins_.begin()) - 1; }

std::optional<uint64_t> shard_fingerprint(const fs::path& path) {
  std::error_code error;
  if (!fs::is_regular_file(path, error)) return std::nullopt;
  try {
    return read_trailer(MappedFile(path)).fingerprint;
  } catch (const Error&) {
    return std::nullopt;  // half a shard is no shard
  }
}

}  // namespace moiety::train
