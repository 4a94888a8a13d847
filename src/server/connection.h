// A connection that is read from all the time, so that it is noticed when the client leaves, and written to within time limits.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "server/event.h"
#include "server/http_options.h"
#include "server/stream.h"

namespace moiety::server {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(const boost::asio::any_io_executor& executor, std::unique_ptr<Stream> stream, const HttpOptions& options);

  // Shakes hands if there is need to and begins to read. Whether it went well.
  Task<bool> begin();

  // What came and wasn't taken yet: a bounded amount, more stays with the system.
  std::string_view incoming() const { return std::string_view(incoming_).substr(taken_); }
  void take(size_t bytes);
  bool incoming_is_full() const;

  bool has_ended() const { return has_ended_; }   // by the client, by a fault, or closed
  bool reads_slowly() const { return is_slow_; }  // which is why it was closed
  bool is_late() const { return is_late_; }       // the deadline is over
  void set_deadline(HttpOptions::Time time);
  void clear_deadline();

  // Notified whenever any of the above has changed.
  Event changed;
  // Called once when the connection ends.
  std::function<void()> on_end;

  // Throws boost::system::system_error if the client has left, or reads too slowly: then it is closed.
  Task<> write(std::string_view bytes);
  // Whether the last write() went through, so that what was written ends where it should.
  bool is_intact() const { return is_intact_; }

  // Says that nothing more comes and lets the client read the rest in peace, for a moment: what it still sends is thrown away
  // (closing with bytes unread would take the answer back from it).
  Task<> finish();
  void close();

 private:
  Task<> read_all();
  void after(boost::asio::steady_timer& timer, HttpOptions::Time time, void (Connection::*act)());
  void become_late();
  void give_up_writing();

  std::unique_ptr<Stream> stream_;
  const HttpOptions& options_;
  std::string incoming_;
  size_t taken_ = 0;  // of incoming_
  Event room_;
  boost::asio::steady_timer deadline_, write_deadline_;
  bool has_ended_ = false, is_slow_ = false, is_late_ = false, is_intact_ = true, throws_away_ = false;
};

}  // namespace moiety::server
