#include "model/kv_pool.h"

namespace moiety::model {

KvPool::KvPool(const KvShape& shape, size_t limit) : books_(std::make_shared<Books>(KvLayout(shape), limit)) {}

size_t KvPool::bytes(const KvShape& shape, size_t pages) { return HugeMemory::bytes(pages, KvLayout(shape).bytes()); }

std::shared_ptr<KvPage> KvPool::take() {
  Books& books = *books_;
  if (books.limit > 0 && books.in_use == books.limit) return nullptr;
  if (books.free.empty()) {
    books.free.reserve(books.pages.size() + 1);  // so that giving back can't fail
    books.free.push_back(&books.pages.emplace_back(books.layout, books.memory.allocate(books.layout.bytes())));
  }
  KvPage* const page = books.free.back();
  books.free.pop_back();
  ++books.in_use;
  return {page, [books = books_](KvPage* unused) {
            books->free.push_back(unused);
            --books->in_use;
          }};
}

}  // namespace moiety::model
