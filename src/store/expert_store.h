// Where experts live while a model runs. The engine asks for those that a layer's tokens chose and is handed them as they are
// there; whether they always were, or came from the disk a moment ago, is the store's affair.
#pragma once

#include <functional>
#include <span>

#include "store/cache_policy.h"

namespace moiety::store {

class ExpertStore {
 public:
  // Told of some of the experts that were asked for, or of none, all of them in memory until it returns.
  using Use = std::function<void(std::span<const int> experts)>;

  virtual ~ExpertStore() = default;
  // Hands over each of the experts that a step of so many tokens asks for exactly once, in parts: at once those that are there,
  // if any. Throws what `use` throws, and Error(Io) if an expert can't be read; the store is as good as before then.
  virtual void visit(int layer, std::span<const Demand> demands, size_t tokens, const Use& use) = 0;
  // A hint: of this layer, the next one to be visited, these are likely to be asked for, the likeliest first.
  virtual void expect(int layer, std::span<const int> experts) = 0;
  // Whether it would be handed over at once.
  virtual bool has(ExpertId id) const = 0;
};

// All experts are in memory.
class ResidentStore : public ExpertStore {
 public:
  void visit(int layer, std::span<const Demand> demands, size_t tokens, const Use& use) override;
  void expect(int, std::span<const int>) override {}
  bool has(ExpertId) const override { return true; }
};

}  // namespace moiety::store
