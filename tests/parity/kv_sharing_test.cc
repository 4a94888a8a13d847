// Sequences that begin with what others have computed, take tokens back, copy what they share, run out of pages, are dropped and
// read again from bytes: each of their logits has the bits that the sequence has alone and from scratch. By chance, for every
// kind of attention, cache and arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/random.h"
#include "model/transformer.h"
#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::model {
namespace {

using kernel::Arithmetic;
using kernel::KvType;

constexpr size_t kLength = 620, kDocuments = 4;  // tokens of a document: two pages and some
constexpr size_t kPages = 9;                     // three documents fill them
constexpr int kSteps = 200;

// Two layers of every kind of attention; experts that keep something of a sequence.
std::vector<spec::ModelSpec> specs() {
  spec::ModelSpec grouped = test::small_spec(), windowed = grouped, latent = grouped;
  windowed.attention.sliding_window = 200;
  windowed.attention.windowed = {true, false};
  windowed.attention.sinks = true;
  latent.attention.num_kv_heads = latent.attention.num_heads;
  latent.attention.latent = spec::LatentSpec{.kv_rank = 16, .plain_dim = 8, .rope_dim = 4, .value_dim = 8};
  latent.attention.head_dim = 12;
  return {grouped, windowed, latent, test::small_spec_with_grus()};
}

// Token ids, of which the first `prompt` are its prompt, and the logits after each.
struct Document {
  std::vector<int32_t> tokens;
  size_t prompt = 0;
  Matrix<float> logits_TV;
};

struct Live {
  size_t document;
  KvCache cache;
};

// What is kept of a sequence that goes on or is dropped.
struct Kept {
  size_t document, tokens;
  std::vector<std::shared_ptr<KvPage>> pages;  // none: they are in `bytes` only
  std::vector<std::vector<std::byte>> bytes;   // of each page, as they were when it was kept
};

struct Seen {
  int adopted = 0, cut = 0, refused = 0, copied = 0, restored = 0, taken_back = 0;
};

std::vector<std::byte> bytes_of(const KvPage& page, size_t positions) {
  std::vector<std::byte> all;
  for (const auto part : page.bytes_of(positions)) all.insert(all.end(), part.begin(), part.end());
  return all;
}

size_t positions_in(size_t page, size_t tokens) { return std::min(tokens - page * KvPage::kPositions, KvPage::kPositions); }

class World {
 public:
  World(const format::ModelFile& file, Arithmetic arithmetic, KvType type, uint64_t seed)
      : file_(file), type_(type), compute_{*kernel::available_kernels()[0], threads_, arithmetic}, transformer_(file, compute_),
        pool_(kv_shape(file.spec(), type), kPages), random_(seed) {
    for (size_t d = 0; d < kDocuments; ++d) {
      // It begins as another, and has the same prompt or not.
      Document document;
      if (d > 0) {
        const Document& other = documents_[random_.below(d)];
        document.tokens.assign(other.tokens.begin(), other.tokens.begin() + static_cast<std::ptrdiff_t>(random_.below(kLength)));
        document.prompt = other.prompt;
      }
      if (random_.below(3) > 0) document.prompt = random_.below(kLength);
      while (document.tokens.size() < kLength) {
        document.tokens.push_back(static_cast<int32_t>(random_.below(static_cast<uint64_t>(file.spec().vocab_size))));
      }
      KvCache alone(file.spec(), options_of(document));
      const Chunk chunk{&alone, document.tokens, document.tokens.size()};
      document.logits_TV = transformer_.forward({&chunk, 1});
      documents_.push_back(std::move(document));
    }
  }

  void run(Seen& seen) {
    for (int step = 0; step < kSteps && !testing::Test::HasFatalFailure(); ++step) {
      switch (random_.below(10)) {
        case 0:
          begin(seen);
          break;
        case 1:
          if (!live_.empty()) keep(some(live_));
          break;
        case 2:
          if (!live_.empty()) take_back(some(live_), seen);
          break;
        case 3:
          drop(live_);
          break;
        case 4:
          drop(kept_);
          break;
        default:
          feed(seen);
      }
    }
    for (const Kept& kept : kept_) expect_untouched(kept);
    live_.clear();
    kept_.clear();
    EXPECT_EQ(pool_.in_use(), 0u);
  }

 private:
  KvOptions options_of(const Document& document) const { return {kLength, type_, document.prompt}; }
  template <class T>
  T& some(std::vector<T>& of) {
    return of[random_.below(of.size())];
  }

  template <class T>
  void drop(std::vector<T>& of) {
    if (of.size() > 2) of.erase(of.begin() + static_cast<std::ptrdiff_t>(random_.below(of.size())));
  }

  // How many tokens of `other` a document begins with.
  size_t shared(size_t document, size_t other) const {
    const auto &a = documents_[document].tokens, &b = documents_[other].tokens;
    return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
  }

  // A new sequence, from nothing, or as far as it likes with what another or something kept has.
  void begin(Seen& seen) {
    const size_t d = random_.below(kDocuments);
    Live live{d, KvCache(pool_, file_.spec(), options_of(documents_[d]))};
    const auto adopt = [&](size_t other, std::span<const std::shared_ptr<KvPage>> pages, size_t tokens) {
      const size_t most = live.cache.adoptable(std::min(tokens, shared(d, other)), documents_[other].prompt);
      const size_t wanted = random_.below(3) == 0 ? most : random_.below(most + 1);
      live.cache.adopt(pages, wanted);
      seen.adopted += wanted > 0;
      seen.cut += wanted % KvPage::kPositions > 0;
    };
    if (random_.below(2) == 0 && !live_.empty()) {
      const Live& other = some(live_);
      adopt(other.document, other.cache.pages(), other.cache.length());
    } else if (!kept_.empty()) {
      const Kept& kept = some(kept_);
      if (!kept.pages.empty()) {
        adopt(kept.document, kept.pages, kept.tokens);
      } else if (const auto pages = restore(kept); !pages.empty()) {
        adopt(kept.document, pages, kept.tokens);
        ++seen.restored;
      }
    }
    live_.push_back(std::move(live));
  }

  void keep(const Live& live) {
    Kept kept{live.document, live.cache.length(), {}, {}};
    const auto pages = live.cache.pages();
    for (size_t p = 0; p < pages.size(); ++p) kept.bytes.push_back(bytes_of(*pages[p], positions_in(p, kept.tokens)));
    if (random_.below(2) == 0) kept.pages.assign(pages.begin(), pages.end());
    kept_.push_back(std::move(kept));
  }

  // Empty if there are not enough pages.
  std::vector<std::shared_ptr<KvPage>> restore(const Kept& kept) {
    std::vector<std::shared_ptr<KvPage>> pages;
    for (size_t p = 0; p < kept.bytes.size(); ++p) {
      pages.push_back(pool_.take());
      if (pages.back() == nullptr) return {};
      const std::byte* from = kept.bytes[p].data();
      for (const auto part : pages.back()->bytes_of(positions_in(p, kept.tokens))) {
        std::memcpy(part.data(), from, part.size());
        from += part.size();
      }
    }
    return pages;
  }

  void expect_untouched(const Kept& kept) {
    for (size_t p = 0; p < kept.pages.size(); ++p) {
      EXPECT_EQ(bytes_of(*kept.pages[p], positions_in(p, kept.tokens)), kept.bytes[p]) << "page " << p;
    }
  }

  void take_back(Live& live, Seen& seen) {
    const size_t length = random_.below(live.cache.length() + 1);
    seen.taken_back += length < live.cache.length();
    live.cache.truncate(length);
    EXPECT_EQ(live.cache.length(), length);
  }

  // Some next tokens of some sequences at once, as far as there are pages. If there are not, something goes.
  void feed(Seen& seen) {
    std::vector<Chunk> chunks;
    std::vector<const Live*> fed;
    for (Live& live : live_) {
      if (random_.below(3) == 0 || live.cache.length() == kLength) continue;
      const size_t left = kLength - live.cache.length(), at = live.cache.length();
      const size_t count = random_.below(3) == 0 ? 1 : 1 + random_.below(std::min<size_t>(left, 300));
      const size_t wanted = live.cache.pages_wanted(count), before = pool_.in_use();
      const bool is_shared = at % KvPage::kPositions > 0 && live.cache.pages().back().use_count() > 1;
      if (live.cache.reserve(count)) {
        chunks.push_back({&live.cache, std::span(documents_[live.document].tokens).subspan(at, count), count});
        fed.push_back(&live);
        seen.copied += is_shared;
      } else {
        ++seen.refused;
        EXPECT_GT(before + wanted, kPages);
        EXPECT_EQ(live.cache.length(), at);
        EXPECT_EQ(pool_.in_use(), before);
      }
    }
    if (chunks.empty()) {
      drop(kept_);
      drop(live_);
      return;
    }
    const Matrix<float> logits = transformer_.forward(chunks);
    size_t row = 0;
    for (size_t c = 0; c < chunks.size(); ++c) {
      const Document& document = documents_[fed[c]->document];
      for (size_t p = fed[c]->cache.length() - chunks[c].tokens.size(); p < fed[c]->cache.length(); ++p, ++row) {
        const auto got = logits.row(row), wanted = document.logits_TV.row(p);
        ASSERT_EQ(std::memcmp(got.data(), wanted.data(), got.size_bytes()), 0)
            << "position " << p << " of document " << fed[c]->document << ", prompt " << document.prompt;
      }
    }
  }

  const format::ModelFile& file_;
  KvType type_;
  ThreadPool threads_{2};
  kernel::Compute compute_;
  Transformer transformer_;
  KvPool pool_;
  Random random_;
  std::vector<Document> documents_;
  std::vector<Live> live_;
  std::vector<Kept> kept_;
};

TEST(KvSharing, GivesTheBitsOfASequenceAlone) {
  uint64_t seed = 0;
  Seen seen;
  for (const spec::ModelSpec& spec : specs()) {
    const test::TemporaryFolder folder;
    test::write_random_checkpoint(spec, folder.path() / "model");
    const format::ModelFile file(folder.path() / "model");
    for (const KvType type : {KvType::F32, KvType::F16, KvType::BF16, KvType::Q8}) {
      for (const Arithmetic arithmetic : {Arithmetic::Exact, Arithmetic::Fast}) {
        SCOPED_TRACE(testing::Message() << "seed " << ++seed << ", cache type " << static_cast<int>(type) << ", latent "
                                        << spec.attention.latent.has_value());
        World(file, arithmetic, type, seed).run(seen);
        if (HasFatalFailure()) return;
      }
    }
  }
  // All of it has happened, many times.
  const std::array all = {seen.adopted, seen.cut, seen.refused, seen.copied, seen.restored, seen.taken_back};
  for (const int times : all) EXPECT_GT(times, 50) << testing::PrintToString(all);
}

}  // namespace
}  // namespace moiety::model
