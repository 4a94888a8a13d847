// Memory for keys and values: gives sequences their caches, with what is known of their tokens already.
//
// What a sequence has computed stays known when it ends, as long as there is memory, and is shared as it runs: another one that
// begins with the same tokens, any number of them, takes over their pages (model/kv_cache.h). Memory that runs short is taken from
// what was not used for longest, its last page first, so that what many begin with goes last.
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <span>
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

  using Running = std::vector<std::unique_ptr<Sequence>>;

  // Gives a sequence a cache with room for all it has said, and what is known of it from others before it, and those that run.
  // False if there is no memory.
  bool admit(Sequence& sequence, const Running& running);
  // Room to compute its next `tokens` tokens.
  bool grow(Sequence& sequence, size_t tokens);
  // Takes the cache away. What it holds stays known as long as there is memory.
  void put_aside(Sequence& sequence);

  // How many of its first tokens are known.
  size_t known(const Sequence& sequence, const Running& running) const;
  // How many it could take over of another's prompt once that is computed.
  size_t shareable(const Sequence& sequence, const Sequence& other) const;

  const model::KvPool& pool() const { return pool_; }

  // What is known, as a file and back (prompt_file.h), but for what was computed with routers of its own. `model` says whose
  // numbers they are.
  void save(const fs::path& file, const std::string& model) const;
  void load(const fs::path& file, const std::string& model);

 private:
  // How some tokens were computed.
  struct Terms {
    size_t prompt = 0;     // so many of them were a prompt (KvCache::adoptable)
    bool is_long = false;  // in a sequence that may grow beyond the model's original positions
    std::shared_ptr<const model::RouterOverride> router;
  };
  struct Known {
    std::vector<int32_t> tokens;
    std::vector<std::shared_ptr<model::KvPage>> pages;
    Terms terms;
  };
  // The most that can be taken over.
  struct Match {
    size_t tokens = 0;
    std::span<const std::shared_ptr<model::KvPage>> pages = {};
    std::optional<std::list<Known>::const_iterator> known = {};
  };

  model::KvCache cache_for(const Sequence& sequence) const;
  Terms terms_of(const Sequence& sequence) const;
  size_t in_common(const Sequence& sequence, const model::KvCache& cache, std::span<const int32_t> tokens, const Terms& terms) const;
  Match best_match(const Sequence& sequence, const model::KvCache& cache, const Running& running) const;
  bool reserve(model::KvCache& cache, size_t tokens);
  bool forget_a_page();
  void learn(const Sequence& sequence);

  const spec::ModelSpec& spec_;
  Options options_;
  model::KvPool pool_;
  std::list<Known> known_;  // the least recently used first
};

}  // namespace moiety::engine
