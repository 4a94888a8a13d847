#include "server/response_store.h"

namespace moiety::server {

void ResponseStore::put(const std::string& id, const OrderedJson& messages, const OrderedJson& response) {
  Kept kept{id, to_text(messages), to_text(response)};
  const std::lock_guard lock(mutex_);
  if (kept.bytes() > most_bytes_ || most_ == 0) return;
  bytes_ += kept.bytes();
  latest_.push_front(std::move(kept));
  by_id_[id] = latest_.begin();
  while (latest_.size() > most_ || bytes_ > most_bytes_) forget(std::prev(latest_.end()));
}

std::optional<OrderedJson> ResponseStore::messages(const std::string& id) const {
  const std::optional<std::string> found = text(id, &Kept::messages);
  if (!found) return std::nullopt;
  return parse_ordered_json(*found, "a stored conversation");
}

std::optional<std::string> ResponseStore::response(const std::string& id) const { return text(id, &Kept::response); }

bool ResponseStore::remove(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return false;
  forget(found->second);
  return true;
}

std::optional<std::string> ResponseStore::text(const std::string& id, std::string Kept::*part) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? std::nullopt : std::optional((*found->second).*part);
}

void ResponseStore::forget(std::list<Kept>::iterator kept) {
  bytes_ -= kept->bytes();
  by_id_.erase(kept->id);
  latest_.erase(kept);
}

}  // namespace moiety::server
