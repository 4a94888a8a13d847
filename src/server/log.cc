#include "server/log.h"

#include <fmt/chrono.h>
#include <fmt/core.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace moiety::server {
namespace {

using Line = nlohmann::ordered_json;

Line begin_line() {
  const auto now = std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const auto milliseconds = now.time_since_epoch().count() % 1000;
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  return {{"time", fmt::format("{:%FT%T}.{:03}Z", fmt::gmtime(seconds), milliseconds)}};
}

std::string end_line(const Line& line) { return line.dump(-1, ' ', false, Line::error_handler_t::replace) + "\n"; }

}  // namespace

// One write a line, so that lines of several threads do not mix.
Log::Log() : sink_([](std::string_view line) { std::fwrite(line.data(), 1, line.size(), stderr); }) {}

void Log::request(const RequestRecord& r) {
  Line line = begin_line();
  line["id"] = r.id;
  line["method"] = r.method;
  line["path"] = r.path;
  line["status"] = r.status;
  line["seconds"] = std::round(r.seconds * 1e6) / 1e6;
  line["client"] = r.client;
  if (r.prompt_tokens > 0) {
    line["prompt_tokens"] = r.prompt_tokens;
    line["cached_tokens"] = r.cached_tokens;
    line["generated_tokens"] = r.generated_tokens;
  }
  if (!r.problem.empty()) line["problem"] = r.problem;
  if (!r.body.empty()) line["body"] = r.body;
  sink_(end_line(line));
}

void Log::warn(std::string_view message) { say("warning", message); }
void Log::note(std::string_view message) { say("note", message); }

void Log::say(std::string_view level, std::string_view message) {
  Line line = begin_line();
  line["level"] = level;
  line["message"] = message;
  sink_(end_line(line));
}

}  // namespace moiety::server
