// What a server has counted since it started, in Prometheus' text format (prometheus.io/docs/instrumenting/exposition_formats).
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moiety::server {

// Counts of values by size: of each upper bound, how many were no larger, and the sum of all.
class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds);  // ascending; looks
  void add(double value);
  // "NAME_bucket{…}", "NAME_sum", "NAME_count"; `labels` is empty or like `route="/health"`.
  std::string text(std::string_view name, const std::string& labels) const;

 private:
  std::span<const double> bounds_;
  std::vector<uint64_t> counts_;  // one more than bounds: the rest
  double sum_ = 0;
};

// "# HELP", "# TYPE" and the one value of a metric that has no labels.
std::string metric_text(std::string_view name, std::string_view type, std::string_view help, double value);
// A label's value between quotes, escaped.
std::string label_text(std::string_view name, std::string_view value);

// Of requests. Any thread may call it.
class Metrics {
 public:
  Metrics();

  void request_ended(const std::string& route, int status, double seconds);
  void first_token(double seconds);  // since it was asked for
  void next_token(double seconds);   // since the one before

  std::string text() const;

 private:
  mutable std::mutex mutex_;
  // Guarded by mutex_:
  std::map<std::pair<std::string, int>, uint64_t> requests_;  // by route and status
  std::map<std::string, Histogram> seconds_;                  // by route
  Histogram first_token_, next_token_;
};

}  // namespace moiety::server
