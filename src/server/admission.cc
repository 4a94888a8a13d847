#include "server/admission.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <cmath>
#include <tuple>

namespace moiety::server {
namespace asio = boost::asio;

struct Admission::Waiter {
  asio::steady_timer timer;
  int priority = 0;
  std::string client;
  bool called = false;  // it has been counted as running
};

// A place in the queue, which is left when it is destroyed; whoever was called but can't come any more lets the next one in.
class Admission::Place {
 public:
  Place(Admission& admission, Waiter& waiter)
      : admission_(admission), waiter_(waiter), at_(admission.waiters_.insert(admission.waiters_.end(), &waiter)) {}
  ~Place() {
    if (!waiter_.called) admission_.waiters_.erase(at_);
  }

 private:
  Admission& admission_;
  Waiter& waiter_;
  std::list<Waiter*>::iterator at_;
};

Ticket::Ticket(Admission& admission, std::string client)
    : admission_(&admission), client_(std::move(client)), since_(std::chrono::steady_clock::now()) {}

Ticket::Ticket(Ticket&& other) noexcept
    : admission_(std::exchange(other.admission_, nullptr)), client_(std::move(other.client_)), since_(other.since_) {}

Ticket::~Ticket() {
  if (admission_ == nullptr) return;
  admission_->leave(client_, std::chrono::duration<double>(std::chrono::steady_clock::now() - since_).count());
}

Admission::Admission(const AdmissionOptions& options) : options_(options) {}
Admission::~Admission() = default;

Task<Ticket> Admission::enter(const HttpRequest& request) {
  if (running_ < options_.max_concurrent && waiters_.empty()) co_return admit(request.client);
  if (waiters_.size() >= options_.max_queue) throw refusal("too many requests wait already");

  const auto executor = co_await asio::this_coro::executor;
  Waiter waiter{asio::steady_timer(executor, options_.queue_time), request.priority, request.client};
  {
    const Place place(*this, waiter);
    co_await waiter.timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  if (waiter.called) co_return Ticket(*this, request.client);
  const auto state = co_await asio::this_coro::cancellation_state;
  if (state.cancelled() != asio::cancellation_type::none) throw boost::system::system_error(asio::error::operation_aborted);
  throw refusal("its turn did not come in time");
}

Ticket Admission::admit(const std::string& client) {
  ++running_;
  ++running_of_[client];
  return Ticket(*this, client);
}

void Admission::leave(const std::string& client, double seconds) {
  mean_seconds_ += 0.1 * (seconds - mean_seconds_);
  --running_;
  if (--running_of_[client] == 0) running_of_.erase(client);
  call_next();
}

void Admission::call_next() {
  if (running_ >= options_.max_concurrent || waiters_.empty()) return;
  const auto rank = [&](const Waiter* waiter) {
    const auto running = running_of_.find(waiter->client);
    return std::tuple(-waiter->priority, running == running_of_.end() ? 0 : running->second);
  };
  const auto next = std::min_element(waiters_.begin(), waiters_.end(), [&](const Waiter* a, const Waiter* b) { return rank(a) < rank(b); });
  Waiter& waiter = **next;
  waiters_.erase(next);
  waiter.called = true;
  ++running_;
  ++running_of_[waiter.client];
  waiter.timer.cancel();
}

HttpError Admission::refusal(const std::string& why) const {
  const double seconds = mean_seconds_ * static_cast<double>(waiters_.size() + 1) / static_cast<double>(std::max<size_t>(options_.max_concurrent, 1));
  HttpError error(429, "the server has more to do than it can: " + why, "rate_limit_exceeded");
  error.headers = {{"Retry-After", std::to_string(static_cast<int>(std::clamp(std::ceil(seconds), 1.0, 60.0)))}};
  return error;
}

namespace {

Task<> handle_in_turn(Admission& admission, const Handler& handle, Exchange& exchange) {
  const Ticket ticket = co_await admission.enter(exchange.request());
  co_await handle(exchange);
}

bool is_work(const Route& route) {
  constexpr std::string_view kPaths[] = {"/chat/completions", "/completions", "/completion", "/responses", "/messages", "/embeddings"};
  std::string_view path = route.path;
  if (path.starts_with("/v1/")) path.remove_prefix(3);
  return route.method == "POST" && std::find(std::begin(kPaths), std::end(kPaths), path) != std::end(kPaths);
}

}  // namespace

std::vector<Route> behind(Admission& admission, std::vector<Route> routes) {
  for (Route& route : routes) {
    if (!is_work(route)) continue;
    route.handle = [&admission, handle = std::move(route.handle)](Exchange& exchange) { return handle_in_turn(admission, handle, exchange); };
  }
  return routes;
}

}  // namespace moiety::server
