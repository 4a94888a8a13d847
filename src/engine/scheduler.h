// Decides whose tokens the next step computes.
//
// Answers come before prompts: each sequence that is answering gets its next token in every step, and what the step may take
// beside them goes to prompts, a chunk at a time, those that were begun first. Among those that wait a higher priority goes first,
// then the client who has been served least (fair queueing by tokens: Sheng et al. 2024, "Fairness in serving large language
// models"), then who came first. When memory for keys and values runs out, the sequence that was begun last, of the lowest
// priority, is put aside and begun again later; its text goes on as if nothing had happened.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/cache_room.h"
#include "engine/turn.h"

namespace moiety::engine {

class Scheduler {
 public:
  struct Options {
    size_t max_running = 16;
    size_t step_tokens = 512;
    bool speculate = true;
  };
  Scheduler(CacheRoom& room, const Options& options) : room_(room), options_(options) {}

  void add(std::unique_ptr<Sequence> sequence);
  // nullptr if there is none.
  Sequence* find(uint64_t id) const;
  // Takes a sequence out, wherever it is; nullptr if there is none.
  std::unique_ptr<Sequence> remove(uint64_t id);

  // All turns of the next step; the caches have room for them. Empty if nobody has anything to do.
  std::vector<Turn> next(SpeculationWatch& watch);
  // So many tokens were computed for a client.
  void charge(const std::string& client, size_t tokens) { served_[client] += static_cast<double>(tokens); }

  bool idle() const { return running_.empty() && waiting_.empty(); }
  const std::vector<std::unique_ptr<Sequence>>& running() const { return running_; }
  const std::vector<std::unique_ptr<Sequence>>& waiting() const { return waiting_; }
  uint64_t preemptions() const { return preemptions_; }

 private:
  std::vector<int32_t> draft(Sequence& sequence, size_t answering, SpeculationWatch& watch) const;
  bool make_room(Sequence& sequence, size_t tokens, std::vector<Turn>& turns);
  void put_aside(Sequence& sequence, std::vector<Turn>& turns);
  Sequence* begin_next();
  bool worth_waiting(const Sequence& sequence) const;

  CacheRoom& room_;
  Options options_;
  std::vector<std::unique_ptr<Sequence>> running_, waiting_;  // in the order in which they were begun; in which they came
  std::map<std::string, double> served_;                      // tokens, by client; of those who have something here
  uint64_t preemptions_ = 0;
};

}  // namespace moiety::engine
