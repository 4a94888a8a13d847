#include "comm/flight_recorder.h"

#include <fmt/core.h>

#include <algorithm>

namespace moiety::comm {

int64_t FlightRecorder::begin(Flight flight) {
  const std::lock_guard lock(mutex_);
  flight.number = ++numbers_[flight.group];
  flight.begun = Flight::Clock::now();
  if (flights_.size() == kept_) flights_.pop_front();
  flights_.push_back(std::move(flight));
  return flights_.back().number;
}

// Null if more began since than are kept.
Flight* FlightRecorder::find(const std::string& group, int64_t number) {
  const auto found = std::ranges::find_if(flights_, [&](const Flight& flight) { return flight.group == group && flight.number == number; });
  return found == flights_.end() ? nullptr : &*found;
}

void FlightRecorder::wait_begins(const std::string& group, int64_t number) {
  const std::lock_guard lock(mutex_);
  if (Flight* const found = find(group, number)) found->waited_since = Flight::Clock::now();
}

Flight FlightRecorder::end(const std::string& group, int64_t number) {
  const std::lock_guard lock(mutex_);
  Flight* const found = find(group, number);
  if (found == nullptr) return {.group = group, .number = number};
  found->is_done = true;
  found->done = Flight::Clock::now();
  return *found;
}

std::vector<Flight> FlightRecorder::last() const {
  const std::lock_guard lock(mutex_);
  return {flights_.begin(), flights_.end()};
}

std::vector<Flight> FlightRecorder::newest_of_groups() const {
  std::map<std::string, Flight> newest;
  for (Flight& flight : last()) newest[flight.group] = std::move(flight);
  std::vector<Flight> all;
  for (auto& [group, flight] : newest) all.push_back(std::move(flight));
  return all;
}

std::optional<Flight> FlightRecorder::oldest_waited_for() const {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(flights_, [](const Flight& flight) { return !flight.is_done && flight.waited_since; });
  return found == flights_.end() ? std::nullopt : std::optional(*found);
}

std::string describe(const Flight& flight) {
  const std::string group = flight.group.empty() ? "" : fmt::format(" of \"{}\"", flight.group);
  return fmt::format("exchange {}{} ({} of {} numbers{}{})", flight.number, group, flight.kind, flight.numbers, flight.doing.empty() ? "" : "; ", flight.doing);
}

std::string table(const std::vector<Flight>& flights, Flight::Clock::time_point now) {
  const auto seconds = [](Flight::Clock::duration time) { return std::chrono::duration<double>(time).count(); };
  std::string text;
  for (const Flight& flight : flights) {
    text += fmt::format("  {:>8}  {:<10} {:<10} {:>12} bytes  {:>9.3f} s ago  {:<13}  {}\n", flight.number, flight.group.empty() ? "all" : flight.group,
                        flight.kind, flight.bytes, seconds(now - flight.begun),
                        flight.is_done ? fmt::format("took {:.4f} s", seconds(flight.done - flight.begun)) : "never ended", flight.doing);
  }
  return text;
}

}  // namespace moiety::comm
