// From any thread to one task of an executor, which may go away at any time.
#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "server/exchange.h"

namespace moiety::server {

template <class T>
class Mailbox : public std::enable_shared_from_this<Mailbox<T>> {
 public:
  explicit Mailbox(const boost::asio::any_io_executor& executor) { timer_.emplace(executor, boost::asio::steady_timer::time_point::max()); }

  // By any thread. What comes after close() is dropped.
  void push(T item) {
    const std::lock_guard lock(mutex_);
    if (!timer_) return;
    items_.push_back(std::move(item));
    if (!std::exchange(is_waiting_, false)) return;
    // By the time this runs the task sleeps: both run on the executor, one at a time.
    boost::asio::post(timer_->get_executor(), [self = this->shared_from_this()] {
      const std::lock_guard wake_lock(self->mutex_);
      if (self->timer_) self->timer_->cancel();
    });
  }

  // By the task. Throws system_error if the task is cancelled while it waits.
  Task<T> next() {
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        if (!items_.empty()) {
          T item = std::move(items_.front());
          items_.pop_front();
          co_return item;
        }
        is_waiting_ = true;
      }
      co_await timer_->async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
      const boost::asio::cancellation_state state = co_await boost::asio::this_coro::cancellation_state;
      const bool is_cancelled = state.cancelled() != boost::asio::cancellation_type::none;
      if (is_cancelled) throw boost::system::system_error(boost::asio::error::operation_aborted);
    }
  }

  // By the task, before it goes: nothing of the executor is touched from then on.
  void close() {
    const std::lock_guard lock(mutex_);
    timer_.reset();
    items_.clear();
  }

 private:
  std::mutex mutex_;
  std::optional<boost::asio::steady_timer> timer_;  // changed under the mutex; nothing: nobody listens any more
  std::deque<T> items_;                             // guarded by mutex_
  bool is_waiting_ = false;                         // guarded by mutex_
};

}  // namespace moiety::server
