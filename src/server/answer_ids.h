// Under which numbers the engine knows what a request asked it for.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace moiety::server {

// Of the latest requests. May be called by any thread.
class AnswerIds {
 public:
  // Once for each of the request's answers. The request that has been known longest is forgotten if there are too many.
  void add(const std::string& request, uint64_t answer);
  std::vector<uint64_t> find(const std::string& request) const;

 private:
  static constexpr size_t kMost = 256;

  mutable std::mutex mutex_;
  std::map<std::string, std::vector<uint64_t>> answers_;  // guarded by mutex_
  std::deque<std::string> order_;                         // guarded by mutex_; the oldest first
};

}  // namespace moiety::server
