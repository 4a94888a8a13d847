#include "server/connection.h"

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

namespace moiety::server {
namespace {

constexpr size_t kPiece = 64 << 10;    // bytes of a write that have one time limit
constexpr size_t kReadSize = 16 << 10;

}  // namespace

Connection::Connection(const boost::asio::any_io_executor& executor, std::unique_ptr<Stream> stream, const HttpOptions& options)
    : changed(executor), stream_(std::move(stream)), options_(options), room_(executor), deadline_(executor), write_deadline_(executor) {}

Task<bool> Connection::begin() {
  after(write_deadline_, options_.header_time, &Connection::give_up_writing);
  const bool well = co_await stream_->handshake();
  write_deadline_.cancel();
  if (!well || is_slow_) co_return false;
  const auto executor = co_await boost::asio::this_coro::executor;
  boost::asio::co_spawn(executor, [self = shared_from_this()] { return self->read_all(); }, boost::asio::detached);
  co_return true;
}

bool Connection::incoming_is_full() const { return incoming().size() >= options_.max_header + kPiece; }

Task<> Connection::read_all() {
  std::array<char, kReadSize> buffer;
  for (;;) {
    while (incoming_is_full() && !has_ended_) co_await room_.wait();
    const size_t count = has_ended_ ? 0 : co_await stream_->read_some(buffer);
    if (count == 0) break;
    if (!throws_away_) incoming_.append(buffer.data(), count);
    changed.notify();
  }
  has_ended_ = true;
  changed.notify();
  if (const auto act = std::exchange(on_end, nullptr)) act();
}

void Connection::take(size_t bytes) {
  taken_ += bytes;
  if (taken_ == incoming_.size() || taken_ >= kPiece) {
    incoming_.erase(0, taken_);
    taken_ = 0;
  }
  // An idle connection keeps no memory for the request that was.
  if (incoming_.empty() && incoming_.capacity() > kReadSize) incoming_.shrink_to_fit();
  room_.notify();
}

void Connection::after(boost::asio::steady_timer& timer, HttpOptions::Time time, void (Connection::*act)()) {
  timer.expires_after(time);
  timer.async_wait([weak = weak_from_this(), &timer, act](const boost::system::error_code& error) {
    const auto self = weak.lock();
    // The timer may have been set anew while this was on its way.
    if (self && !error && timer.expiry() <= std::chrono::steady_clock::now()) (*self.*act)();
  });
}

void Connection::set_deadline(HttpOptions::Time time) {
  is_late_ = false;
  after(deadline_, time, &Connection::become_late);
}

void Connection::clear_deadline() {
  is_late_ = false;
  deadline_.expires_at(std::chrono::steady_clock::time_point::max());
}

void Connection::become_late() {
  is_late_ = true;
  changed.notify();
}

void Connection::give_up_writing() {
  is_slow_ = true;
  close();
}

Task<> Connection::write(std::string_view bytes) {
  is_intact_ = false;
  struct Disarm {
    boost::asio::steady_timer& timer;
    ~Disarm() { timer.expires_at(std::chrono::steady_clock::time_point::max()); }
  } disarm{write_deadline_};
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kPiece);
    after(write_deadline_, options_.write_time, &Connection::give_up_writing);
    co_await stream_->write(piece);
    bytes.remove_prefix(piece.size());
  }
  is_intact_ = true;
}

Task<> Connection::finish() {
  if (has_ended_) co_return;
  throws_away_ = true;
  take(incoming().size());
  after(write_deadline_, options_.linger_time, &Connection::close);
  co_await stream_->finish();
  while (!has_ended_) co_await changed.wait();
}

void Connection::close() {
  has_ended_ = true;
  stream_->close();
  room_.notify();
  changed.notify();
}

}  // namespace moiety::server
