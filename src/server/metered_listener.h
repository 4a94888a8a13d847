// An engine's listener that counts and times the tokens which another one is told of.
#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include "engine/request.h"
#include "server/exchange.h"
#include "server/metrics.h"

namespace moiety::server {

class MeteredListener : public engine::Listener {
 public:
  // `metrics` outlives it; `tally` is the HTTP request's. To be made when the request goes to the engine.
  MeteredListener(Metrics& metrics, std::shared_ptr<TokenTally> tally, std::shared_ptr<engine::Listener> listener)
      : metrics_(metrics), tally_(std::move(tally)), listener_(std::move(listener)) {}

  void on_prompt(std::span<const engine::NewToken> tokens) override { listener_->on_prompt(tokens); }
  bool on_token(const engine::NewToken& token) override {
    const auto now = std::chrono::steady_clock::now();
    const double seconds = std::chrono::duration<double>(now - std::exchange(last_, now)).count();
    if (std::exchange(is_first_, false)) {
      metrics_.first_token(seconds);
    } else {
      metrics_.next_token(seconds);
    }
    ++tally_->generated;
    return listener_->on_token(token);
  }
  void on_end(const engine::Outcome& outcome) override {
    tally_->prompt += outcome.prompt_tokens;
    tally_->cached += outcome.cached_tokens;
    listener_->on_end(outcome);
  }

 private:
  Metrics& metrics_;
  std::shared_ptr<TokenTally> tally_;
  std::shared_ptr<engine::Listener> listener_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  bool is_first_ = true;
};

}  // namespace moiety::server
