// Ranks that compute one thing together, over c10d: Gloo between processors, its TCPStore to meet in. All calls but those of one
// rank's own are collective: every rank makes the same ones in the same order with as many numbers, and waits until all have.
//
// A rank that is gone ends its peers' calls within some tens of milliseconds, one that hangs after `patience`: as Error(Io), in
// one sentence that names the call and whom it was lost to, after which the group is of no use.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/activity.h"
#include "comm/place.h"
#include "comm/store.h"

namespace moiety::comm {

// An exchange that goes on until it is waited for; whose memory it is about must live so long. Given up without a wait, it is still
// waited for, and how it ends is not said.
class Pending {
 public:
  Pending();
  ~Pending();
  Pending(Pending&&) noexcept;
  Pending& operator=(Pending&&) noexcept;

  void wait();

 private:
  friend class Group;
  struct Call;
  explicit Pending(std::unique_ptr<Call> call);
  std::unique_ptr<Call> call_;
};

struct Patience {
  std::chrono::seconds to_meet{60}, in_exchange{300};
  bool asks_around = true;  // when an exchange breaks, whom it was lost to; else it ends at once
};

// Sums are the same to the bit on every rank; their order depends on the number of ranks alone.
class Group {
 public:
  // Waits for the others, as long as said. `alike`: as in meet(). Throws Error(Io) if the port is taken or somebody does not come,
  // Error(Input) if ranks differ.
  Group(const Place& place, const Patience& patience, const std::string& alike = "a process");
  // Some ranks of another group, this one among them, in the order of `members`: whoever is first there is rank 0 here. Only they
  // call this, all with the same name, which no other part of `whole` has.
  Group(const Group& whole, std::span<const int> members, const std::string& name);
  ~Group();
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  int rank() const { return place_.rank; }
  int size() const { return place_.ranks; }
  bool is_first() const { return place_.rank == 0; }
  const Place& place() const { return place_; }

  // Every rank's numbers become the sums over all ranks.
  void sum(std::span<float> numbers);
  void sum(std::span<double> numbers);

  // Every rank's numbers, as many of each, in the order of ranks.
  std::vector<int64_t> gather(std::span<const int64_t> mine);

  // To each rank the next so many bytes of `out`; from each the next so many of `in`. Any of them may be none.
  Pending all_to_all(std::span<const std::byte> out, std::span<const size_t> out_W, std::span<std::byte> in, std::span<const size_t> in_W);
  // Every rank's bytes, as many of each, in the order of ranks.
  Pending all_gather(std::span<const std::byte> out, std::span<std::byte> in);

  // Between two ranks alone, by lane in their order: what is sent first is received first.
  Pending start_send(int to, std::span<const float> numbers, int lane = 0);
  Pending start_receive(int from, std::span<float> numbers, int lane = 0);

  // Rank 0's text, once rank 0 has said it under this name, however long that takes; Error(Io) if a rank ends meanwhile.
  std::string tell(const std::string& name, std::string_view text_of_first);

  // What this process is doing; exchanges are noted there.
  Activity& activity();
  // So far to each rank of the whole. Sums and all-gathers go round a ring, as Gloo does them.
  std::vector<uint64_t> bytes_sent() const;
  // Where ranks of the whole meet.
  Store& store();
  // The others hear that this rank ends by a failure of its own, and how. Nothing if an exchange has failed.
  void leave(const std::string& how);
  // After an exchange has failed: where ranks were, and what this one did last; empty on all but the first that is left.
  std::string last_words() const;

 private:
  struct Wire;
  struct Whole;
  friend class Pending;
  template <class Number>
  void sum_of(std::span<Number> numbers);
  // All exchanges begin here, and end in Pending::wait: numbered, recorded, and told of when they fail.
  struct Kind;
  struct Pair;
  template <class Begin>
  Pending start(const Kind& kind, size_t numbers, size_t bytes, const Begin& begin);
  void count(int to, size_t bytes);
  int of_whole(int rank) const;

  Place place_;
  std::string who_;  // this rank, in sentences
  std::unique_ptr<Wire> wire_;
};

}  // namespace moiety::comm
