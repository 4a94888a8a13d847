// Ranks that compute one thing together, over c10d: Gloo between processors, its TCPStore to meet in. All calls but those of one
// rank's own are collective: every rank makes the same ones in the same order with as many numbers, and waits until all have.
//
// A rank that is gone ends its peers' calls within some tens of milliseconds, one that hangs after `patience`: as Error(Io), in
// one sentence with the number and the kind of the call, after which the group is of no use.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "comm/place.h"

namespace moiety::comm {

// Sums are the same to the bit on every rank; their order depends on the number of ranks alone.
class Group {
 public:
  // Waits for the others, at most for `patience`. Throws Error(Io) if the port is taken or somebody does not come.
  Group(const Place& place, std::chrono::seconds patience);
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

  // Of numbers that lie alike on all ranks, rank r has the stretch [begin_R1[r], begin_R1[r + 1]). Its own becomes the sum over all
  // ranks, in their order; the others are of no more use.
  void sum_stretches(std::span<float> numbers, std::span<const size_t> begin_R1);
  // Each rank's stretch comes to all.
  void share_stretches(std::span<float> numbers, std::span<const size_t> begin_R1);
  // Rank `from`'s numbers come to rank 0. Of these two alone.
  void hand_to_first(std::span<float> numbers, int from);

  // Rank 0's text, once rank 0 has said it under this name, however long that takes.
  std::string tell(const std::string& name, std::string_view text_of_first);

 private:
  struct Wire;
  template <class Number>
  void sum_of(std::span<Number> numbers);
  // Counts a call and says what it was if it fails.
  template <class Call>
  void exchange(const char* what, size_t numbers, const Call& call);

  Place place_;
  std::unique_ptr<Wire> wire_;
};

}  // namespace moiety::comm
