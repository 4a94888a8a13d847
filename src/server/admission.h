// How many requests are worked on at a time, and how many may wait for that, how long.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "server/exchange.h"

namespace moiety::server {

class Admission;

// The right to be worked on; whoever holds it gives it back by destroying it.
class Ticket {
 public:
  Ticket(Ticket&& other) noexcept;
  Ticket& operator=(Ticket&&) = delete;
  ~Ticket();

 private:
  friend class Admission;
  Ticket(Admission& admission, std::string client);

  Admission* admission_;
  std::string client_;
  std::chrono::steady_clock::time_point since_;
};

struct AdmissionOptions {
  size_t max_concurrent = 16;
  size_t max_queue = 64;
  std::chrono::milliseconds queue_time = std::chrono::minutes(2);
};

// Outlives the server whose handlers pass through it; used on that server's executor alone.
class Admission {
 public:
  explicit Admission(const AdmissionOptions& options);
  ~Admission();

  // Waits for its turn: a higher priority first, then the client who has the least running, then who came first. Throws
  // HttpError(429) with Retry-After if the queue is full, or it waited too long.
  Task<Ticket> enter(const HttpRequest& request);

  size_t running() const { return running_; }
  size_t waiting() const { return waiters_.size(); }

 private:
  friend class Ticket;
  struct Waiter;
  class Place;

  Ticket admit(const std::string& client);
  void leave(const std::string& client, double seconds);
  void call_next();
  HttpError refusal(const std::string& why) const;

  AdmissionOptions options_;
  size_t running_ = 0;
  double mean_seconds_ = 1;  // that a ticket is held, of late
  std::map<std::string, size_t> running_of_;  // clients
  std::list<Waiter*> waiters_;                // in the order in which they came
};

// The same routes; those that make text or embeddings pass through `admission` first.
std::vector<Route> behind(Admission& admission, std::vector<Route> routes);

}  // namespace moiety::server
