// Where a server listens and what it puts up with.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace moiety::server {

// Of a server's life: requests are taken in the second.
enum class Phase { Loading, Ready, Draining };

struct HttpOptions {
  using Time = std::chrono::milliseconds;

  std::string host = "127.0.0.1";
  uint16_t port = 8080;          // 0: one that is free
  std::string unix_socket;       // a path; in place of host and port
  std::string certificate, key;  // PEM files; both: TLS
  std::string keys;              // a file of API keys (api_keys.h); empty: everybody may ask
  std::vector<std::string> allow_origins;  // of web pages that may ask beside our own; "*": any

  size_t max_header = 16 << 10;  // bytes, the request's line with it
  size_t max_body = 8 << 20;     // bytes
  size_t max_bodies = 64 << 20;  // bytes, of all connections together
  size_t max_connections = 512;
  size_t send_buffer = 256 << 10;  // bytes on their way to a client that doesn't read; 0: what the system thinks

  Time header_time = std::chrono::seconds(10);  // from a request's first byte to the end of its head; of a TLS handshake
  Time body_time = std::chrono::seconds(20);    // for each 64 KiB of it
  Time idle_time = std::chrono::seconds(75);    // between requests
  Time write_time = std::chrono::seconds(30);   // for each 64 KiB of an answer
  Time linger_time = std::chrono::seconds(2);   // after the last answer, for the client to take it
  Time drain_time = std::chrono::seconds(30);   // for requests that run, once the server is to end

  bool log_prompts = false;
  bool handle_signals = false;  // SIGTERM and SIGINT: the first drains, the second stops
};

}  // namespace moiety::server
