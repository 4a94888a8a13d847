// Memory for keys and values: gives sequences their caches, with what is known of their prompts already.
#pragma once

#include <memory>
#include <vector>

#include "base/file.h"
#include "engine/sequence.h"
#include "model/kv_cache.h"

namespace moiety::engine {

class CacheRoom {
 public:
  struct Options {
    size_t context = 0;       // tokens of a sequence at most
    size_t cache_tokens = 0;  // of all together
    kernel::KvType kv = kernel::KvType::F32;
    bool share_prefixes = true;
  };
  CacheRoom(const spec::ModelSpec& spec, const Options& options);

  // Gives a sequence a cache with room for all it has said, and what others have computed of it. False if there is no memory.
  bool admit(Sequence& sequence);
  // How many of its first tokens admit() would find computed.
  size_t known(const Sequence& sequence) const;
  // Whether the numbers of one serve the other, where their tokens are the same.
  bool may_share(const Sequence& a, const Sequence& b) const;
  // Room to compute its next `tokens` tokens.
  bool grow(Sequence& sequence, size_t tokens);
  // Takes the cache away. What it holds stays known as long as there is memory.
  void put_aside(Sequence& sequence);

 private:
  const spec::ModelSpec& spec_;
  Options options_;
};

}  // namespace moiety::engine
