#include "server/operation.h"

#include <sys/resource.h>

#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/system_memory.h"
#include "engine/engine.h"

namespace moiety::server {
namespace {

Task<> answer_health(Exchange& exchange, Phase phase) {
  const bool is_ready = phase == Phase::Ready;
  nlohmann::ordered_json json = {{"status", is_ready ? "ok" : "unavailable"}};
  if (phase == Phase::Loading) json["reason"] = "the model is being loaded";
  if (phase == Phase::Draining) json["reason"] = "the server is about to end";
  Headers headers = {{"Cache-Control", "no-store"}};
  if (!is_ready) headers.emplace_back("Retry-After", "5");
  co_await exchange.answer(is_ready ? 200 : 503, "application/json", json.dump(), std::move(headers));
}

size_t open_files() {
  std::error_code ignored;
  const std::filesystem::directory_iterator files("/proc/self/fd", ignored);
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

std::string process_metrics() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec); };
  return metric_text("process_resident_memory_bytes", "gauge", "Memory of the process.", static_cast<double>(resident_memory())) +
         metric_text("process_cpu_seconds_total", "counter", "Processor time of the process.", seconds(usage.ru_utime) + seconds(usage.ru_stime)) +
         metric_text("process_open_fds", "gauge", "Open files and sockets.", static_cast<double>(open_files()));
}

std::string server_metrics(const HttpServer& server) {
  return metric_text("moiety_connections", "gauge", "Open connections.", static_cast<double>(server.connections())) +
         metric_text("moiety_requests_in_flight", "gauge", "Requests that are being answered, this one among them.",
                     static_cast<double>(server.running())) +
         metric_text("moiety_ready", "gauge", "1 if requests are taken.", server.phase() == Phase::Ready ? 1 : 0);
}

}  // namespace

std::string engine_metrics(const engine::EngineStatistics& s) {
  struct Row {
    const char *name, *type, *help;
    double value;
  };
  const auto number = [](auto value) { return static_cast<double>(value); };
  const Row rows[] = {
      {"moiety_engine_running", "gauge", "Sequences that the engine computes.", number(s.running)},
      {"moiety_engine_waiting", "gauge", "Sequences that wait for the engine.", number(s.waiting)},
      {"moiety_engine_requests_total", "counter", "Sequences that the engine was asked for.", number(s.requests)},
      {"moiety_engine_preemptions_total", "counter", "Sequences put off because memory ran short.", number(s.preemptions)},
      {"moiety_engine_steps_total", "counter", "Steps through the model.", number(s.steps)},
      {"moiety_engine_busy_seconds_total", "counter", "Time in steps.", s.busy_seconds},
      {"moiety_engine_idle_seconds_total", "counter", "Time between steps while there was something to do.", s.idle_seconds},
      {"moiety_prompt_tokens_total", "counter", "Tokens of prompts.", number(s.prompt_tokens)},
      {"moiety_cached_tokens_total", "counter", "Tokens of prompts that had been computed before.", number(s.cached_tokens)},
      {"moiety_generated_tokens_total", "counter", "Tokens generated.", number(s.new_tokens)},
      {"moiety_drafted_tokens_total", "counter", "Tokens drafted by speculation.", number(s.drafted)},
      {"moiety_accepted_tokens_total", "counter", "Drafted tokens that were right.", number(s.accepted)},
      {"moiety_generated_tokens_per_second", "gauge", "Of the last seconds.", s.new_tokens_per_second},
      {"moiety_prompt_tokens_per_second", "gauge", "Of the last seconds.", s.prompt_tokens_per_second},
      {"moiety_cache_tokens", "gauge", "Tokens whose keys and values there is room for.", number(s.cache_tokens)},
      {"moiety_cache_tokens_used", "gauge", "Of running sequences.", number(s.cache_tokens_used)},
      {"moiety_cache_tokens_shared", "gauge", "Kept for prompts to come.", number(s.cache_tokens_shared)},
      {"moiety_expert_hits_total", "counter", "Visits to experts that were in memory; 0 if all stay there.", number(s.expert_hits)},
      {"moiety_expert_misses_total", "counter", "Visits to experts that were read from the disk.", number(s.expert_misses)},
      {"moiety_expert_read_bytes_total", "counter", "Bytes of experts read from the disk.", number(s.expert_bytes_read)},
      {"moiety_expert_slots", "gauge", "Experts that memory has room for; 0 if all stay there.", number(s.expert_slots)},
  };
  std::string text;
  for (const Row& row : rows) text += metric_text(row.name, row.type, row.help, row.value);
  return text;
}

std::vector<Route> operation_routes(const HttpServer& server, const Metrics& metrics, std::function<std::string()> more_metrics) {
  const auto route = [](const char* path, Handler handle, bool needs_key) {
    return Route{.method = "GET", .path = path, .handle = std::move(handle), .needs_key = needs_key, .always = true};
  };
  const Handler ready = [&server](Exchange& exchange) { return answer_health(exchange, server.phase()); };
  const Handler live = [](Exchange& exchange) { return answer_health(exchange, Phase::Ready); };
  const Handler count = [&server, &metrics, more_metrics](Exchange& exchange) {
    std::string text = metrics.text() + server_metrics(server) + process_metrics();
    if (more_metrics) text += more_metrics();
    return exchange.answer(200, "text/plain; version=0.0.4; charset=utf-8", std::move(text));
  };
  return {route("/health", ready, false), route("/health/ready", ready, false), route("/health/live", live, false), route("/metrics", count, true)};
}

}  // namespace moiety::server
