#include "server/metrics.h"

#include <fmt/core.h>

#include <algorithm>

namespace moiety::server {
namespace {

// Seconds.
constexpr double kOfRequests[] = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600};
constexpr double kOfFirstTokens[] = {0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160};
constexpr double kOfNextTokens[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5};

std::string in_braces(const std::string& labels) { return labels.empty() ? "" : "{" + labels + "}"; }

std::string heading(std::string_view name, std::string_view type, std::string_view help) {
  return fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

}  // namespace

Histogram::Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}

void Histogram::add(double value) {
  ++counts_[static_cast<size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin())];
  sum_ += value;
}

std::string Histogram::text(std::string_view name, const std::string& labels) const {
  const std::string before = labels.empty() ? "" : labels + ",";
  std::string text;
  uint64_t count = 0;
  for (size_t i = 0; i < bounds_.size(); ++i) {
    count += counts_[i];
    text += fmt::format("{}_bucket{{{}le=\"{}\"}} {}\n", name, before, bounds_[i], count);
  }
  count += counts_.back();
  text += fmt::format("{}_bucket{{{}le=\"+Inf\"}} {}\n", name, before, count);
  text += fmt::format("{}_sum{} {}\n{}_count{} {}\n", name, in_braces(labels), sum_, name, in_braces(labels), count);
  return text;
}

std::string metric_text(std::string_view name, std::string_view type, std::string_view help, double value) {
  return heading(name, type, help) + fmt::format("{} {}\n", name, value);
}

std::string label_text(std::string_view name, std::string_view value) {
  std::string text = fmt::format("{}=\"", name);
  for (const char c : value) {
    if (c == '\\' || c == '"') text += '\\';
    if (c == '\n') {
      text += "\\n";
    } else {
      text += c;
    }
  }
  return text + "\"";
}

Metrics::Metrics() : first_token_(kOfFirstTokens), next_token_(kOfNextTokens) {}

void Metrics::request_ended(const std::string& route, int status, double seconds) {
  const std::lock_guard lock(mutex_);
  ++requests_[{route, status}];
  seconds_.try_emplace(route, kOfRequests).first->second.add(seconds);
}

void Metrics::first_token(double seconds) {
  const std::lock_guard lock(mutex_);
  first_token_.add(seconds);
}

void Metrics::next_token(double seconds) {
  const std::lock_guard lock(mutex_);
  next_token_.add(seconds);
}

std::string Metrics::text() const {
  const std::lock_guard lock(mutex_);
  std::string text = heading("moiety_requests_total", "counter", "Requests that ended, by route and status (499: the client left).");
  for (const auto& [key, count] : requests_) {
    text += fmt::format("moiety_requests_total{{{},status=\"{}\"}} {}\n", label_text("route", key.first), key.second, count);
  }
  text += heading("moiety_request_seconds", "histogram", "From a request's first byte to its answer's last.");
  for (const auto& [route, seconds] : seconds_) text += seconds.text("moiety_request_seconds", label_text("route", route));
  text += heading("moiety_time_to_first_token_seconds", "histogram", "From when a text was asked for to its first token.");
  text += first_token_.text("moiety_time_to_first_token_seconds", "");
  text += heading("moiety_time_between_tokens_seconds", "histogram", "From one token of a text to the next.");
  text += next_token_.text("moiety_time_between_tokens_seconds", "");
  return text;
}

}  // namespace moiety::server
