// What /v1/responses remembers: responses, for whoever fetches them, and the conversations so far, for requests that go on from
// them. In memory, the latest ones only.
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

  // `messages` is the conversation with the answer in it, `response` what its client was sent.
  void put(const std::string& id, const OrderedJson& messages, const OrderedJson& response);
  // Nothing if there is none of this name (any more).
  std::optional<OrderedJson> messages(const std::string& id) const;
  std::optional<std::string> response(const std::string& id) const;  // as JSON
  // Whether there was one.
  bool remove(const std::string& id);

 private:
  struct Kept {
    std::string id, messages, response;  // as JSON
    size_t bytes() const { return id.size() + messages.size() + response.size(); }
  };
  std::optional<std::string> text(const std::string& id, std::string Kept::*part) const;
  void forget(std::list<Kept>::iterator kept);

  const size_t most_, most_bytes_;
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::list<Kept> latest_;  // the latest first
  std::unordered_map<std::string, std::list<Kept>::iterator> by_id_;
  size_t bytes_ = 0;
};

}  // namespace moiety::server
