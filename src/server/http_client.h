// Asks a server that speaks HTTP, and reads its answer as it comes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace moiety::server {

class HttpClient {
 public:
  // `url`: "http://HOST[:PORT][/BASE]" or https://. `key`, unless it is empty, goes along as an API key. Throws Error(Usage) for
  // what is no such URL.
  HttpClient(const std::string& url, std::string key);

  // Posts JSON to base + path and calls `on_event` with the data of each server-sent event that comes back, until the answer ends or it
  // returns false: then the connection is closed. Throws Error(Io) if the server can't be reached or breaks off, Error(Input)
  // with what it says if it answers with another status than 200.
  void post_for_events(std::string_view path, std::string body, const std::function<bool(std::string_view data)>& on_event) const;

 private:
  template <class Stream>
  void exchange(Stream& stream, std::string_view path, std::string body, const std::function<bool(std::string_view data)>& on_event) const;

  std::string url_, host_, port_, base_, key_;
  bool is_tls_ = false;
};

}  // namespace moiety::server
