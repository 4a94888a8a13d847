// Somebody who listens to an answer of the engine.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "engine/request.h"

namespace moiety::test {

// Keeps what it is told; wait() returns when all is said.
class Heard : public engine::Listener {
 public:
  explicit Heard(size_t enough = SIZE_MAX) : enough_(enough) {}

  void on_prompt(std::span<const engine::NewToken> of_prompt) override { prompt.assign(of_prompt.begin(), of_prompt.end()); }
  bool on_token(const engine::NewToken& token) override {
    const std::lock_guard lock(mutex_);
    tokens.push_back(token.token);
    all.push_back(token);
    changed_.notify_all();
    return tokens.size() < enough_;
  }
  void on_end(const engine::Outcome& o) override {
    const std::lock_guard lock(mutex_);
    outcome = o;
    ++ends;
    changed_.notify_all();
  }
  const Heard& wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ends > 0; });
    return *this;
  }
  void wait_for_tokens(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return tokens.size() >= count || ends > 0; });
  }

  size_t count() {
    const std::lock_guard lock(mutex_);
    return tokens.size();
  }

  std::vector<int32_t> tokens;  // to be read when all is said
  std::vector<engine::NewToken> all, prompt;
  engine::Outcome outcome;
  int ends = 0;

 private:
  size_t enough_;
  std::mutex mutex_;
  std::condition_variable changed_;
};

}  // namespace moiety::test
