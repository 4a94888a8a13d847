#include "comm/crew.h"

#include <algorithm>

#include "base/error.h"
#include "base/json.h"

namespace moiety::comm {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kBeat{100}, kPause{5};

}  // namespace

namespace crew {

Place meeting_place(const Place& place) {
  Place of_crew = place;
  of_crew.generation = "crew";
  return of_crew;
}
std::string said_by(int64_t generation, int worker) { return fmt::format("said/{}/{}", generation, worker); }
std::string joins(int worker) { return fmt::format("joins/{}", worker); }
std::string beat_of(int worker) { return fmt::format("beat/{}", worker); }
std::string generation_key(int64_t number) { return fmt::format("generation/{}", number); }

std::string text_of(const Generation& generation) {
  return Json{{"number", generation.number}, {"workers", generation.workers},       {"step", generation.step},
              {"why", generation.why},       {"resting", generation.is_resting},    {"lost_at", generation.lost_at}}.dump();
}
Generation generation_of(const std::string& text) {
  const Json json = parse_json(text, "a generation");
  return {json.at("number"), json.at("workers"), json.at("step"), json.at("why"), json.at("resting"), json.at("lost_at")};
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace crew

Crew::Crew(const Place& place, const Patience& patience, const std::string& alike)
    : place_(place),
      patience_{patience.to_meet, patience.in_exchange, /*asks_around=*/false},
      alike_(alike),
      store_(crew::meeting_place(place), patience.to_meet),
      beating_([this] { beat(); }) {
  try {
    store_.set(crew::joins(*place.worker), alike);
    join(0, {});
  } catch (...) {
    ends_ = true;
    beating_.join();
    throw;
  }
}

Crew::~Crew() {
  ends_ = true;
  beating_.join();
}

void Crew::beat() {
  try {
    Store store(crew::meeting_place(place_), patience_.to_meet);  // of its own: nobody's long question holds it up
    for (int64_t beats = 0; !ends_; ++beats) {
      store.set(crew::beat_of(*place_.worker), fmt::format("{} {}", beats, step_seconds_.load()));
      std::this_thread::sleep_for(kBeat);
    }
  } catch (const std::exception&) {  // the supervisor is gone; others find out
  }
}

bool Crew::is_change_wanted() {
  const auto wanted = store_.find(crew::kWanted);
  return wanted && std::stoll(*wanted) > generation_.number;
}

bool Crew::regroup(std::span<const int64_t> steps) {
  left_at_ = crew::now();
  group_.reset();  // those who still wait for this rank hear of it
  return join(generation_.number + 1, steps);
}

// The first generation from `number` on to which this worker belongs, or, if it has belonged to one, the very next.
Generation Crew::wait_for(int64_t number) {
  for (;; std::this_thread::sleep_for(kPause)) {
    const auto text = store_.find(crew::generation_key(number));
    if (!text) continue;
    Generation generation = crew::generation_of(*text);
    const bool belongs = std::ranges::find(generation.workers, *place_.worker) != generation.workers.end();
    if (belongs || !generation_.workers.empty()) return generation;
    ++number;
  }
}

bool Crew::join(int64_t number, std::span<const int64_t> steps) {
  for (;; number = generation_.number + 1) {
    if (!generation_.workers.empty()) {
      store_.set(crew::said_by(number, *place_.worker), Json(std::vector<int64_t>(steps.begin(), steps.end())).dump());
    }
    generation_ = wait_for(number);
    const auto me = std::ranges::find(generation_.workers, *place_.worker);
    if (me == generation_.workers.end()) return false;
    Place place = place_;
    place.rank = static_cast<int>(me - generation_.workers.begin());
    place.ranks = place.local_ranks = static_cast<int>(generation_.workers.size());
    place.generation = std::to_string(generation_.number);
    try {
      group_ = std::make_unique<Group>(place, patience_, alike_);
      met_at_ = crew::now();
      return true;
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::Input || !is_change_wanted()) throw;  // ranks that differ don't get alike
      group_.reset();
    }
  }
}

}  // namespace moiety::comm
