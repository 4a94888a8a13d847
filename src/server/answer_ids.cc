#include "server/answer_ids.h"

namespace moiety::server {

void AnswerIds::add(const std::string& request, uint64_t answer) {
  const std::scoped_lock lock(mutex_);
  const auto [found, is_new] = answers_.try_emplace(request);
  found->second.push_back(answer);
  if (!is_new) return;
  order_.push_back(request);
  if (order_.size() <= kMost) return;
  answers_.erase(order_.front());
  order_.pop_front();
}

std::vector<uint64_t> AnswerIds::find(const std::string& request) const {
  const std::scoped_lock lock(mutex_);
  const auto found = answers_.find(request);
  return found == answers_.end() ? std::vector<uint64_t>() : found->second;
}

}  // namespace moiety::server
