// Something that tasks of one executor wait for.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "server/exchange.h"

namespace moiety::server {

class Event {
 public:
  explicit Event(const boost::asio::any_io_executor& executor) : timer_(executor, Clock::time_point::max()) {}

  // Wakes all that wait now; nobody who comes later.
  void notify() { timer_.cancel(); }
  // Returns after the next notify(). If the waiting task is cancelled that is thrown where it waits next.
  Task<> wait() { co_await timer_.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable)); }

 private:
  using Clock = std::chrono::steady_clock;
  boost::asio::steady_timer timer_;
};

}  // namespace moiety::server
