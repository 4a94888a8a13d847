#include "train/timeline.h"

#include <fmt/core.h>

#include <algorithm>

namespace moiety::train {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
constexpr milliseconds kPatience{20'000}, kWriteEvery{250};
constexpr int kWriteShare = 20;  // writing takes less than a twentieth of the time
constexpr int kFirstExchangeTrack = 1;

double microseconds(Activity::Clock::duration time) { return std::chrono::duration<double, std::micro>(time).count(); }

std::string key_of(int rank, int64_t step) { return fmt::format("timeline/{}/{}", rank, step); }

std::string track_name(int rank, int track) {
  const std::string name = track == 0 ? "spans" : track == kFirstExchangeTrack ? "exchanges" : fmt::format("exchanges {}", track);
  return Json{{"name", "thread_name"}, {"ph", "M"}, {"pid", rank}, {"tid", track}, {"args", {{"name", name}}}}.dump();
}

}  // namespace

std::string trace_events(int rank, const std::vector<Activity::Event>& events, Activity::Clock::time_point begin) {
  std::vector<const Activity::Event*> exchanges;
  std::string text;
  const auto add = [&](const Activity::Event& event, int track) {
    Json json = {{"name", event.name},
                 {"ph", "X"},
                 {"pid", rank},
                 {"tid", track},
                 {"ts", microseconds(event.begin - begin)},
                 {"dur", microseconds(event.end - event.begin)}};
    if (event.is_exchange) json["args"] = {{"number", event.number}, {"bytes", event.bytes}};
    if (!text.empty()) text += ",\n";
    text += json.dump();
  };
  for (const Activity::Event& event : events) {
    if (event.is_exchange) {
      exchanges.push_back(&event);
    } else {
      add(event, 0);
    }
  }
  // The first track that is free
  std::ranges::sort(exchanges, {}, [](const Activity::Event* event) { return event->begin; });
  std::vector<Activity::Clock::time_point> busy_until;
  for (const Activity::Event* event : exchanges) {
    auto track = std::ranges::find_if(busy_until, [&](auto until) { return until <= event->begin; });
    if (track == busy_until.end()) track = busy_until.insert(track, Activity::Clock::time_point{});
    *track = event->end;
    add(*event, kFirstExchangeTrack + static_cast<int>(track - busy_until.begin()));
  }
  return text;
}

Timeline::Timeline(const fs::path& file, int64_t steps, Activity& activity, comm::Group* ranks)
    : file_(file), steps_left_(steps), activity_(activity), ranks_(ranks), begin_(Clock::now()), heard_(ranks == nullptr ? 1 : static_cast<size_t>(ranks->size())) {
  if (ranks_ != nullptr) align();
  activity_.keep_events(kMostEvents);
  for (int rank = 0; is_first() && rank < static_cast<int>(heard_.size()); ++rank) {
    if (!events_.empty()) events_ += ",\n";
    events_ += Json{{"name", "process_name"}, {"ph", "M"}, {"pid", rank}, {"args", {{"name", fmt::format("rank {}", rank)}}}}.dump();
    events_ += ",\n" + track_name(rank, 0) + ",\n" + track_name(rank, kFirstExchangeTrack);
  }
}

Timeline::~Timeline() {
  try {
    end(/*wait=*/false);
  } catch (const std::exception&) {  // the run has failed of something else
  }
}

// A rank asks rank 0 for its time, some times over; the quickest answer was half way when it was given (Cristian 1989).
void Timeline::align() {
  constexpr int kRounds = 8;
  comm::Store& store = ranks_->store();
  const auto key = [](const char* what, int rank, int round) { return fmt::format("clock/{}/{}/{}", what, rank, round); };
  const auto now = [] { return std::chrono::duration_cast<nanoseconds>(Clock::now().time_since_epoch()).count(); };
  const int64_t begin = begin_.time_since_epoch().count();
  if (is_first()) {
    for (int rank = 1; rank < ranks_->size(); ++rank) {
      for (int round = 0; round < kRounds; ++round) {
        store.get(key("asks", rank, round), kPatience);
        store.set(key("is", rank, round), fmt::format("{} {}", now(), begin));
      }
    }
    return;
  }
  int64_t quickest = 0;
  for (int round = 0; round < kRounds; ++round) {
    const int64_t asked = now();
    store.set(key("asks", ranks_->rank(), round), "?");
    const std::string answer = store.get(key("is", ranks_->rank(), round), kPatience * ranks_->size());
    const int64_t took = now() - asked;
    if (round == 1) quickest = took + 1;  // the first one waits for rank 0's turn
    if (round == 0 || took >= quickest) continue;
    quickest = took;
    const size_t space = answer.find(' ');
    const int64_t theirs = std::stoll(answer.substr(0, space)), their_begin = std::stoll(answer.substr(space + 1));
    begin_ = Clock::time_point(nanoseconds(their_begin + asked + took / 2 - theirs));
  }
}

void Timeline::tell() {
  const std::string mine = trace_events(ranks_ == nullptr ? 0 : ranks_->rank(), activity_.take_events(), begin_);
  if (is_first()) {
    if (!mine.empty()) events_ += ",\n" + mine;
  } else {
    ranks_->store().set(key_of(ranks_->rank(), told_), mine);
  }
  ++told_;
}

// What is there of the others, or all of as many steps as this rank has told.
void Timeline::collect(bool wait) {
  const auto until = Clock::now() + std::chrono::seconds(5);
  for (int rank = 1; rank < static_cast<int>(heard_.size()); ++rank) {
    for (int64_t& step = heard_[static_cast<size_t>(rank)]; step < told_; ++step) {
      const std::string key = key_of(rank, step);
      const auto left = std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(until - Clock::now()));
      const auto text = wait ? std::optional(ranks_->store().get(key, left)) : ranks_->store().find(key);
      if (!text) break;
      if (!text->empty()) events_ += ",\n" + *text;
      ranks_->store().remove(key);
    }
  }
}

void Timeline::write() {
  const auto start = Clock::now();
  write_file(file_, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n" + events_ + "\n]}\n");
  next_write_ = Clock::now() + std::max<Clock::duration>(kWriteEvery, kWriteShare * (Clock::now() - start));
}

void Timeline::step_ended() {
  if (is_finished_) return;
  tell();
  if (--steps_left_ == 0) return finish();
  if (!is_first() || Clock::now() < next_write_) return;
  collect(/*wait=*/false);
  write();
}

void Timeline::finish() { end(/*wait=*/true); }

void Timeline::end(bool wait) {
  if (is_finished_) return;
  is_finished_ = true;
  if (steps_left_ > 0) tell();
  activity_.keep_events(0);
  if (!is_first()) return;
  collect(wait);
  write();
}

}  // namespace moiety::train
