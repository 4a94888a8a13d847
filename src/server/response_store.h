// What /v1/responses remembers for requests that go on from an earlier response: the conversation so far. In memory, the latest
// ones only.
#pragma once

#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/ordered_json.h"

namespace moiety::server {

// Any number of threads may use it.
class ResponseStore {
 public:
  ResponseStore(size_t most, size_t most_bytes) : most_(most), most_bytes_(most_bytes) {}

  // `messages` is the conversation with the answer in it.
  void put(const std::string& id, const OrderedJson& messages);
  // Nothing if there is none of this name (any more).
  std::optional<OrderedJson> find(const std::string& id) const;

 private:
  struct Kept {
    std::string id, messages;  // as JSON
    size_t bytes() const { return id.size() + messages.size(); }
  };
  const size_t most_, most_bytes_;
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::list<Kept> latest_;  // the latest first
  std::unordered_map<std::string, std::list<Kept>::iterator> by_id_;
  size_t bytes_ = 0;
};

}  // namespace moiety::server
