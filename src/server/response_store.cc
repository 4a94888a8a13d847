#include "server/response_store.h"

namespace moiety::server {

void ResponseStore::put(const std::string& id, const OrderedJson& messages) {
  Kept kept{id, to_text(messages)};
  const std::lock_guard lock(mutex_);
  if (kept.bytes() > most_bytes_ || most_ == 0) return;
  bytes_ += kept.bytes();
  latest_.push_front(std::move(kept));
  by_id_[id] = latest_.begin();
  while (latest_.size() > most_ || bytes_ > most_bytes_) {
    bytes_ -= latest_.back().bytes();
    by_id_.erase(latest_.back().id);
    latest_.pop_back();
  }
}

std::optional<OrderedJson> ResponseStore::find(const std::string& id) const {
  std::string text;
  {
    const std::lock_guard lock(mutex_);
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) return std::nullopt;
    text = found->second->messages;
  }
  return parse_ordered_json(text, "a stored conversation");
}

}  // namespace moiety::server
