// How many answers may be in the house, those that are written and those that wait for their turn. Whose turn it is says the
// engine's scheduler.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>

#include "server/exchange.h"

namespace moiety::server {

// Used on the server's executor alone.
class Admission {
 public:
  // A request's place; given back when it goes.
  class Ticket {
   public:
    // Throws as check() does. A request that finds room may bring as many answers as it likes.
    Ticket(Admission& admission, size_t answers);
    Ticket(const Ticket&) = delete;
    ~Ticket();

   private:
    Admission& admission_;
    size_t answers_;
    std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  };

  explicit Admission(size_t room) : room_(room) {}  // answers

  // Throws HttpError(429) if the house is full.
  void check() const;
  // 429, with Retry-After: the time that requests have been in the house of late.
  HttpError refusal(const std::string& why) const;
  size_t answers() const { return answers_; }

 private:
  size_t room_;
  size_t answers_ = 0;
  double mean_seconds_ = 1;
};

}  // namespace moiety::server
