// Memory for the pages of many sequences, up to a limit. One thread uses a pool and whatever has pages of it.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "base/huge_memory.h"
#include "model/kv_page.h"

namespace moiety::model {

// Copies are the same pool.
class KvPool {
 public:
  // `limit` in pages that are held at a time; 0: none.
  explicit KvPool(const KvShape& shape, size_t limit = 0);
  // What that many pages take once they are written, at most.
  static size_t bytes(const KvShape& shape, size_t pages);

  // A page for whoever holds it, whose numbers are those of some page before it; nullptr if `limit` pages are held. When nobody
  // holds it any more its memory is the pool's, and used again. It may outlive the pool. Throws std::bad_alloc.
  std::shared_ptr<KvPage> take();

  size_t limit() const { return books_->limit; }
  size_t in_use() const { return books_->in_use; }  // pages that somebody holds
  const KvLayout& layout() const { return books_->layout; }

 private:
  struct Books {
    Books(KvLayout of, size_t most) : layout(std::move(of)), limit(most) {}
    KvLayout layout;
    size_t limit = 0, in_use = 0;
    HugeMemory memory;
    std::deque<KvPage> pages = {};
    std::vector<KvPage*> free = {};  // those that nobody holds
  };
  std::shared_ptr<Books> books_;  // pages keep it, too
};

}  // namespace moiety::model
