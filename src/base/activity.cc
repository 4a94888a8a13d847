#include "base/activity.h"

#include <utility>

namespace moiety {

namespace {
double seconds(Activity::Clock::duration time) { return std::chrono::duration<double>(time).count(); }
}  // namespace

Activity::Span::Span(Activity* activity, std::string_view name, int64_t index) : activity_(activity) {
  if (activity_ != nullptr) activity_->open(name, index);
}

Activity::Span::~Span() {
  if (activity_ != nullptr) activity_->close();
}

void Activity::open(std::string_view name, int64_t index) {
  std::string whole(name);
  if (index >= 0) whole += " " + std::to_string(index);
  const std::lock_guard lock(mutex_);
  thread_ = std::this_thread::get_id();
  open_.push_back({std::move(whole), Clock::now(), waited_});
}

void Activity::close() {
  const auto end = Clock::now();
  const std::lock_guard lock(mutex_);
  Open span = std::move(open_.back());
  open_.pop_back();
  busy_[span.name] += seconds(end - span.begin) - (waited_ - span.waited);
  keep({std::move(span.name), span.begin, end});
}

void Activity::exchanged(std::string name, int64_t number, uint64_t bytes, Clock::time_point begin, Clock::time_point end, double waited) {
  const std::lock_guard lock(mutex_);
  if (std::this_thread::get_id() == thread_) waited_ += waited;
  keep({std::move(name), begin, end, /*is_exchange=*/true, number, bytes});
}

void Activity::keep(Event event) {
  if (events_.size() < most_events_) events_.push_back(std::move(event));
}

std::string Activity::now() const {
  const std::lock_guard lock(mutex_);
  std::string all;
  for (const Open& span : open_) all += (all.empty() ? "" : ", ") + span.name;
  return all;
}

void Activity::begin_count() {
  const std::lock_guard lock(mutex_);
  for (Open& span : open_) span.waited -= waited_;
  waited_ = 0;
  busy_.clear();
}

double Activity::waited() const {
  const std::lock_guard lock(mutex_);
  return waited_;
}

double Activity::busy(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = busy_.find(name);
  return found == busy_.end() ? 0 : found->second;
}

void Activity::keep_events(size_t most) {
  const std::lock_guard lock(mutex_);
  most_events_ = most;
}

std::vector<Activity::Event> Activity::take_events() {
  const std::lock_guard lock(mutex_);
  return std::exchange(events_, {});
}

}  // namespace moiety
