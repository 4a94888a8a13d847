// Token shards: the text of one domain as token ids in one file, memory-mapped by training. Every document begins with
// the end-of-text token, so that one document's last target is the next one's first token and a model has something
// to begin from.
//
// Layout: ids (u16 or u32), zero padding to 8 bytes, the documents' beginnings (u64 each), the trailer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/file.h"

namespace moiety::train {

struct ShardInfo {
  uint64_t fingerprint = 0;  // of the tokenizer, the text and how it was cut
  uint64_t vocab_size = 0;
  uint64_t text_bytes = 0;
};

class ShardWriter {
 public:
  ShardWriter(const fs::path& path, const ShardInfo& info);

  // `ids` without the end-of-text token, which is put before them.
  void add_document(int32_t end_of_text, std::span<const int32_t> ids, size_t text_bytes);
  // Throws Error(Input) if nothing was added.
  void commit();

 private:
  void put(int32_t id);

  fs::path path_;
  AtomicFile file_;
  ShardInfo info_;
  std::string buffer_;
  uint64_t tokens_ = 0;
  std::vector<uint64_t> begins_;
};

class Shard {
 public:
  // Throws Error(Input) unless the file is complete and says what a shard says. Tokens are looked at when they are read (is_token): a file
  // that is damaged in one place is of use in others.
  explicit Shard(const fs::path& path);
  // Throws Error(Input) if one of its tokens is none of the vocabulary.
  void check_tokens() const;

  const ShardInfo& info() const { return info_; }
  const fs::path& path() const { return file_.path(); }
  bool is_token(int32_t id) const { return id >= 0 && static_cast<uint64_t>(id) < info_.vocab_size; }
  uint64_t byte_of(uint64_t at) const { return at * (wide_ ? 4 : 2); }  // in the file
  size_t document_of(uint64_t at) const;  // that this token is of
  uint64_t num_tokens() const { return num_tokens_; }
  size_t num_documents() const { return begins_.size(); }
  uint64_t document_begin(size_t document) const { return begins_[document]; }
  uint64_t document_end(size_t document) const {
    return document + 1 < begins_.size() ? begins_[document + 1] : num_tokens_;
  }
  int32_t token(uint64_t at) const {
    return wide_ ? static_cast<int32_t>(reinterpret_cast<const uint32_t*>(ids_)[at])
                 : static_cast<int32_t>(reinterpret_cast<const uint16_t*>(ids_)[at]);
  }

 private:
  MappedFile file_;
  ShardInfo info_;
  uint64_t num_tokens_ = 0;
  bool wide_ = false;
  const std::byte* ids_ = nullptr;
  std::span<const uint64_t> begins_;
};

// The fingerprint of a shard that is there and whole.
std::optional<uint64_t> shard_fingerprint(const fs::path& path);

}  // namespace moiety::train
