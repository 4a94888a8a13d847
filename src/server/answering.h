// The way that all protocols take from a body to an answer.
#pragma once

#include <boost/asio/this_coro.hpp>

#include "server/answers.h"
#include "server/fields.h"
#include "server/workers.h"

namespace moiety::server {

// Reads the body on a worker, asks the engine for what it wants, and lets a Protocol(service, request) answer, or stream if the
// request wants that.
template <class Protocol, class Request>
Task<> answer_by(Service& service, Exchange& exchange, Request (*read)(const Service&, const OrderedJson&)) {
  service.admission->check();  // before anything is done for it
  const auto work = [&service, read, body = exchange.request().body] { return read(service, parse_body(body)); };
  Request request = co_await done_by(*service.workers, work);
  set_client(request.answer, exchange.request());
  if constexpr (requires { request.stream; }) request.answer.calls_in_pieces = request.stream;
  Answers answers(service, request.answer, co_await boost::asio::this_coro::executor);
  Protocol protocol(service, request);
  if constexpr (requires { request.stream; }) {
    if (request.stream) {
      co_await protocol.stream(exchange, answers);
      co_return;
    }
  }
  co_await protocol.answer(exchange, answers);
}

// The tokens that a body's conversation takes, counted on a worker, in a protocol's words.
inline Task<> answer_count(Service& service, Exchange& exchange, size_t (*count)(const Service&, const OrderedJson&),
                           OrderedJson (*words)(size_t tokens)) {
  const auto work = [&service, count, body = exchange.request().body] { return count(service, parse_body(body)); };
  const size_t tokens = co_await done_by(*service.workers, work);
  const std::string answer = to_text(words(tokens));
  co_await exchange.answer(200, "application/json", answer);
}

}  // namespace moiety::server
