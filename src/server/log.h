// What a server says of itself while it runs: JSON, a line at a time. Never what was asked or answered, unless it was told to.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace moiety::server {

struct RequestRecord {
  std::string id, method, path, client;
  int status = 0;       // 499: the client left before the answer was through
  double seconds = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
  std::string problem;  // what went wrong, if anything did
  std::string body;     // empty unless prompts are logged
};

class Log {
 public:
  using Sink = std::function<void(std::string_view line)>;  // called by any thread, with the line's end

  Log();  // to stderr
  explicit Log(Sink sink) : sink_(std::move(sink)) {}

  void request(const RequestRecord& record);
  void warn(std::string_view message);
  void note(std::string_view message);

 private:
  void say(std::string_view level, std::string_view message);

  Sink sink_;
};

}  // namespace moiety::server
