#include "comm/supervisor.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <map>
#include <optional>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/say.h"
#include "comm/crew.h"
#include "comm/processes.h"
#include "comm/watch.h"

namespace moiety::comm {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kSilentAtLeast = 1;   // seconds without a sign after which a worker is lost
constexpr double kSilentSteps = 2.5;   // or so many steps, if they take longer
constexpr std::chrono::milliseconds kLook{5}, kLookIntoStore{50};
constexpr std::chrono::seconds kAnswersWithin{10};

class Supervisor {
 public:
  Supervisor(const Supervision& supervision)
      : of_(supervision), server_(supervision.ranks), store_(crew::meeting_place(place()), std::chrono::seconds(10)) {
    std::vector<int> first;
    for (int i = 0; i < of_.ranks; ++i) first.push_back(start());
    members_ = first;
    announce({.workers = first});
    if (!of_.card.empty()) write_file(of_.card, Json{{"port", server_.port()}, {"pid", ::getpid()}}.dump() + "\n");
  }
  ~Supervisor() {
    if (!of_.card.empty()) std::remove(of_.card.c_str());
    for (const auto& [worker, child] : running_) ::kill(child.process, SIGKILL);
  }

  int run(const std::function<int()>& signal) {
    bool told = false;
    for (auto looked_at = Clock::time_point(); !running_.empty();) {
      collect();
      if (const auto now = Clock::now(); now - looked_at >= kLookIntoStore) {
        looked_at = now;
        give_up_silent_ones();
        hear_requests();
        welcome();
      }
      if (next_) decide();
      if (signal() != 0 && !told) {
        for (const auto& [worker, child] : running_) ::kill(child.process, SIGTERM);
        told = true;
      }
      std::this_thread::sleep_for(kLook);
    }
    return has_finished_ ? 0 : status_;
  }

 private:
  struct Child {
    pid_t process = 0;
    std::string beat;
    Clock::time_point heard{};
    double step_seconds = 0;
  };

  Place place() const {
    return {.rank = 0, .ranks = of_.ranks, .local_ranks = of_.ranks, .address = "127.0.0.1", .port = server_.port(), .hosts_store = false};
  }

  int start() {
    const int worker = next_worker_++;
    Variables variables = rank_variables(worker, std::max(2, worker + 1), server_.port());  // one is no job of several
    variables.emplace_back(kWorker, std::to_string(worker));
    running_[worker].process = start_process(of_.words, variables, /*is_silent=*/false);  // whoever is first at the end speaks
    return worker;
  }

  void collect() {
    for (auto it = running_.begin(); it != running_.end();) {
      const auto& [worker, child] = *it;
      const Ended ended = look_after(child.process);
      if (!ended.has_ended) {
        ++it;
        continue;
      }
      const int gone = worker;
      it = running_.erase(it);
      if (ended.status == 0 && !retiring_.contains(gone)) has_finished_ = true;
      if (ended.status != 0) status_ = ended.status;
      if (ended.status == 0 || !is_member(gone)) continue;
      lose(gone, ended.how);
    }
  }

  void lose(int worker, const std::string& how) {
    std::erase(members_, worker);
    const auto rank = static_cast<int>(std::ranges::find(generation_.workers, worker) - generation_.workers.begin());
    if (has_finished_) return;  // whoever ends late spoils nothing
    lost_at_ = crew::now();
    Place here = place();
    here.generation = std::to_string(generation_.number);
    Store of_generation(here, std::chrono::seconds(10));
    say_gone(of_generation, {rank, how});
    want(fmt::format("worker {} (rank {}) {}", worker, rank, how));
    if (of_.replaces) start();
  }

  // Only those that have given one; who starts is looked after by nobody but its own patience.
  void give_up_silent_ones() {
    for (auto& [worker, child] : running_) {
      const auto beat = store_.find(crew::beat_of(worker));
      if (!beat) continue;
      if (*beat != child.beat) {
        child.beat = *beat;
        child.heard = Clock::now();
        child.step_seconds = std::stod(beat->substr(beat->find(' ') + 1));
        continue;
      }
      const double silent = std::chrono::duration<double>(Clock::now() - child.heard).count();
      if (silent < std::max(kSilentAtLeast, kSilentSteps * child.step_seconds)) continue;
      say("worker {} has given no sign for {:.1f} s: it is ended\n", worker, silent);
      ::kill(child.process, SIGKILL);
      child.heard = Clock::now();
    }
  }

  bool is_member(int worker) const { return std::ranges::find(members_, worker) != members_.end(); }

  void want(const std::string& why) {
    const int64_t number = generation_.number + 1;
    next_.emplace(Generation{.number = number, .why = next_ ? next_->why + "; " + why : why});
    store_.set(crew::kWanted, std::to_string(number));
  }

  // New workers that have come.
  void welcome() {
    for (const auto& [worker, child] : running_) {
      if (is_member(worker) || retiring_.contains(worker) || coming_.contains(worker) || !store_.find(crew::joins(worker))) continue;
      coming_.insert(worker);
      want(fmt::format("worker {} joins", worker));
    }
  }

  // When all that are left have said what they have.
  void decide() {
    std::set<int64_t> common;
    bool is_first = true;
    for (const int worker : members_) {
      const auto said = store_.find(crew::said_by(next_->number, worker));
      if (!said) return;
      const std::vector<int64_t> steps = parse_json(*said, "what a worker has kept");
      std::set<int64_t> mine(steps.begin(), steps.end()), both;
      std::ranges::set_intersection(common, mine, std::inserter(both, both.end()));
      common = is_first ? mine : both;
      is_first = false;
    }
    Generation next = *next_;
    next.step = common.empty() ? -1 : *common.rbegin();
    next.lost_at = lost_at_;
    std::erase_if(members_, [&](int worker) { return retiring_.contains(worker); });
    std::erase_if(coming_, [&](int worker) { return !running_.contains(worker); });
    members_.insert(members_.end(), coming_.begin(), coming_.end());
    next.workers = members_;
    next.is_resting = static_cast<int>(members_.size()) < of_.at_least;
    if (members_.empty()) return;
    announce(next);
    say("{}: {} {}{}\n", next.why, next.workers.size(), next.workers.size() == 1 ? "rank" : "ranks",
        next.is_resting ? fmt::format(" left, of {} at least, which wait for others", of_.at_least)
        : next.step >= 0 ? fmt::format(" go on from step {}", next.step)
                         : " go on");
    coming_.clear();
    lost_at_ = 0;
    next_.reset();
  }

  void announce(const Generation& generation) {
    generation_ = generation;
    store_.set(crew::generation_key(generation.number), crew::text_of(generation));
  }

  void hear_requests() {
    const int64_t asked = store_.add("asked", 0);
    for (; heard_ < asked; ++heard_) {
      const auto request = store_.find(fmt::format("request/{}", heard_));
      if (!request) return;
      store_.set(fmt::format("answer/{}", heard_), answer(*request));
    }
  }

  std::string answer(const std::string& request) {
    if (request == "status") {
      Json workers = Json::array();
      for (const auto& [worker, child] : running_) {
        const auto rank = std::ranges::find(generation_.workers, worker);
        workers.push_back({{"worker", worker}, {"pid", child.process}, {"step_seconds", child.step_seconds}});
        if (rank != generation_.workers.end()) workers.back()["rank"] = rank - generation_.workers.begin();
      }
      return Json{{"generation", generation_.number}, {"workers", workers}}.dump(2);
    }
    if (request == "add") return fmt::format("worker {} is started; it joins between two steps", start());
    if (!request.starts_with("retire")) return fmt::format("error: \"{}\" is no request: add, retire, retire WORKER, status", request);
    int worker = members_.empty() ? -1 : members_.back();
    if (request.size() > 7) {
      try {
        worker = std::stoi(request.substr(7));
      } catch (const std::exception&) {
        worker = -1;
      }
    }
    if (!is_member(worker) || retiring_.contains(worker)) return "error: there is no such worker";
    if (members_.size() == 1) return "error: this is the only worker";
    retiring_.insert(worker);
    want(fmt::format("worker {} retires", worker));
    return fmt::format("worker {} leaves after this step", worker);
  }

  const Supervision of_;
  Store server_;
  Store store_;
  std::map<int, Child> running_;  // by worker
  std::vector<int> members_;      // of the generation, those that are left
  std::set<int> coming_, retiring_;
  Generation generation_;
  std::optional<Generation> next_;
  int next_worker_ = 0;
  int64_t heard_ = 0;
  double lost_at_ = 0;
  int status_ = 1;
  bool has_finished_ = false;
};

}  // namespace

int supervise(const Supervision& supervision, const std::function<int()>& signal) { return Supervisor(supervision).run(signal); }

std::string tell_supervisor(const std::string& card, const std::string& request) {
  const Json json = parse_json(read_file(card), card);
  const JsonObject object(json, card);
  const Place place{.rank = 0, .ranks = 1, .address = "127.0.0.1", .port = static_cast<int>(object.integer("port", 1, 65535)), .hosts_store = false};
  Store store(crew::meeting_place(place), kAnswersWithin);
  const int64_t number = store.add("asked", 1) - 1;
  store.set(fmt::format("request/{}", number), request);
  std::string answer = store.get(fmt::format("answer/{}", number), kAnswersWithin);
  require(!answer.starts_with("error: "), "{}", answer.substr(7));
  return answer;
}

}  // namespace moiety::comm
