#include "comm/watch.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "base/json.h"
#include "base/say.h"

namespace moiety::comm {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kBeat{500}, kPause{20}, kListen{1800};  // a live rank says something three times while others listen
constexpr size_t kTold = 8;                                    // exchanges in the table

std::string key_of(int rank) { return "at/" + std::to_string(rank); }

Json json_of(const Flight& flight) {
  return {{"group", flight.group}, {"number", flight.number}, {"kind", flight.kind},   {"numbers", flight.numbers},
          {"equal", flight.is_equal}, {"done", flight.is_done}, {"doing", flight.doing}};
}

Flight flight_of(const Json& json) {
  return {.group = json.at("group"), .number = json.at("number"), .kind = json.at("kind"), .doing = json.at("doing"),
          .numbers = json.at("numbers"), .is_equal = json.at("equal"), .is_done = json.at("done")};
}

Seen seen_of(int rank, const Json& json) {
  Seen seen{.rank = rank, .is_heard = true, .has_stopped = json.at("stopped"), .has_left = json.at("left"), .doing = json.at("doing")};
  for (const Json& flight : json.at("flights")) seen.newest.push_back(flight_of(flight));
  return seen;
}

}  // namespace

void say_gone(Store& store, const Gone& gone) { store.set_first("gone", Json{{"rank", gone.rank}, {"how", gone.how}}.dump()); }

std::optional<Gone> find_gone(Store& store) {
  const auto text = store.find("gone");
  if (!text) return std::nullopt;
  const Json json = parse_json(*text, "the word of a rank's end");
  return Gone{json.at("rank"), json.at("how")};
}

Watch::Watch(Store& store, int rank, int ranks, const Activity& activity, const FlightRecorder& recorder, std::chrono::seconds slow)
    : store_(store), rank_(rank), ranks_(ranks), activity_(activity), recorder_(recorder), slow_(slow), thread_([this] { beat(); }) {}

Watch::~Watch() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  wake_.notify_all();
  thread_.join();
  try {
    say(has_stopped_, !has_stopped_);
  } catch (const std::exception&) {  // nobody to tell
  }
}

void Watch::beat() {
  std::unique_lock lock(mutex_);
  while (!ends_) {
    ++beats_;
    const bool has_stopped = has_stopped_;
    lock.unlock();
    try {
      say(has_stopped, false);
      const auto waiting = recorder_.oldest_waited_for();
      if (waiting && !has_stopped && Flight::Clock::now() - *waiting->waited_since > slow_) warn(*waiting);
    } catch (const std::exception&) {
      return;  // the store is gone; exchanges tell, each its own way
    }
    lock.lock();
    wake_.wait_for(lock, kBeat, [this] { return ends_; });
  }
}

void Watch::say(bool has_stopped, bool has_left) {
  Json flights = Json::array();
  for (const Flight& flight : recorder_.newest_of_groups()) flights.push_back(json_of(flight));
  const Json json = {{"beat", beats_.load()}, {"stopped", has_stopped}, {"left", has_left}, {"doing", activity_.now()}, {"flights", std::move(flights)}};
  store_.set(key_of(rank_), json.dump());
}

std::vector<int> Watch::others_of(const Flight& flight) const {
  std::vector<int> others;
  if (flight.members != nullptr) {
    others = *flight.members;
  } else {
    others.resize(static_cast<size_t>(ranks_));
    std::iota(others.begin(), others.end(), 0);
  }
  std::erase(others, rank_);
  return others;
}

// Listens until all have stopped or ended, but no longer than it takes a live one to say something.
std::vector<Seen> Watch::ask(std::span<const int> ranks) {
  std::map<int, int64_t> first_beats;
  std::vector<Seen> seen;
  const auto began = Flight::Clock::now();
  for (;;) {
    seen.clear();
    bool all_said = true;
    for (const int rank : ranks) {
      const auto text = store_.find(key_of(rank));
      if (!text) {
        seen.push_back({.rank = rank});
        all_said = false;
        continue;
      }
      const Json json = parse_json(*text, "where a rank is");
      seen.push_back(seen_of(rank, json));
      const int64_t beats = json.at("beat"), first = first_beats.try_emplace(rank, beats).first->second;
      seen.back().is_silent = beats == first && !seen.back().has_stopped && !seen.back().has_left;
      all_said = all_said && (seen.back().has_stopped || seen.back().has_left);
    }
    const auto gone = find_gone(store_);
    const bool is_explained = gone && std::ranges::all_of(seen, [&](const Seen& one) { return one.has_stopped || one.rank == gone->rank; });
    if (all_said || is_explained || Flight::Clock::now() - began > kListen) return seen;
    std::this_thread::sleep_for(kPause);
  }
}

Watch::Findings Watch::look_around(const Flight& stopped) {
  {
    const std::lock_guard lock(mutex_);
    has_stopped_ = true;
  }
  Findings findings;
  const std::string mine = fmt::format("the last exchanges of rank {}:\n", rank_);
  const auto last = [&] {
    std::vector<Flight> flights = recorder_.last();
    flights.erase(flights.begin(), flights.end() - static_cast<ptrdiff_t>(std::min(flights.size(), kTold)));
    return mine + table(flights, Flight::Clock::now());
  };
  try {
    say(true, false);
    const std::vector<Seen> others = ask(others_of(stopped));
    const auto gone = find_gone(store_);
    findings.culprit = find_culprit(stopped, others, gone);
    const auto is_left = [&](const Seen& one) { return one.has_stopped && one.rank < rank_; };
    if (std::ranges::none_of(others, is_left)) findings.table = "where the other ranks are:\n" + table(others, gone) + last();
  } catch (const std::exception&) {
    findings.table = "the store where ranks meet is gone too\n" + last();
  }
  return findings;
}

void Watch::warn(const Flight& waiting) {
  if (warned_group_ == waiting.group && warned_ == waiting.number) return;
  const std::vector<Seen> others = ask(others_of(waiting));
  warned_group_ = waiting.group;
  warned_ = waiting.number;
  const auto still = recorder_.oldest_waited_for();
  if (!still || still->number != waiting.number || still->group != waiting.group) return;
  // The first of those who wait says it.
  const auto waits_too = [&](const Seen& one) {
    return one.rank < rank_ && std::ranges::any_of(one.newest, [&](const Flight& flight) { return flight.group == waiting.group && flight.number == waiting.number && !flight.is_done; });
  };
  if (std::ranges::any_of(others, waits_too)) return;
  const auto culprit = find_culprit(waiting, others, find_gone(store_));
  const double seconds = std::chrono::duration<double>(Flight::Clock::now() - *waiting.waited_since).count();
  moiety::say("rank {} has waited {:.0f} s in {}{}\n", rank_, seconds, describe(waiting),
      culprit ? fmt::format(" for rank {}: {}", culprit->rank, culprit->deed) : "");
}

}  // namespace moiety::comm
