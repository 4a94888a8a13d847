// Work that may take long, such as reading a request of megabytes, apart from the thread that serves the network.
#pragma once

#include <boost/asio/thread_pool.hpp>
#include <exception>

#include "server/mailbox.h"

namespace moiety::server {

// What `work` returns or throws, once a worker has done it. It must own what it uses, or use what outlives the workers: the task may
// go before it is through. (Name it before the expression with co_await: exchange.h says why.)
template <class Work>
Task<std::invoke_result_t<Work&>> done_by(boost::asio::thread_pool& workers, Work work) {
  struct Outcome {
    std::optional<std::invoke_result_t<Work&>> result;
    std::exception_ptr error;
  };
  const auto box = std::make_shared<Mailbox<Outcome>>(co_await boost::asio::this_coro::executor);
  struct CloseAtEnd {
    Mailbox<Outcome>& box;
    ~CloseAtEnd() { box.close(); }
  } const close_at_end{*box};

  boost::asio::post(workers, [box, work = std::move(work)]() mutable {
    Outcome outcome;
    try {
      outcome.result = work();
    } catch (...) {
      outcome.error = std::current_exception();
    }
    box->push(std::move(outcome));
  });
  Outcome outcome = co_await box->next();
  if (outcome.error) std::rethrow_exception(outcome.error);
  co_return std::move(*outcome.result);
}

}  // namespace moiety::server
