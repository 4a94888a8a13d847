// How bytes get from each rank of a group to each other one. Kinds differ in the way the bytes take, never in what arrives.
#pragma once

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/matrix.h"
#include "comm/group.h"

namespace moiety::comm {

// Bytes by rank, those for (or from) rank 0 first.
struct Parcels {
  Parcels() = default;
  explicit Parcels(std::span<const size_t> bytes_W);

  std::span<std::byte> of(int rank);
  std::span<const std::byte> of(int rank) const;

  std::vector<size_t> begin_W1;
  Matrix<std::byte> memory;
};

// Parcels on their way.
class Arrival {
 public:
  virtual ~Arrival() = default;
  // Those that came, when all have. Once.
  virtual Parcels finish() = 0;
};

class Exchange {
 public:
  virtual ~Exchange() = default;
  // Collective. bytes_WW[from][to] is the same on every rank. Several may be on their way; they are finished in any order.
  virtual std::unique_ptr<Arrival> start(Parcels out, const Matrix<size_t>& bytes_WW) = 0;
};

// "all_to_all": every rank sends each other one its own. "all_gather": all get everything, and keep what is theirs. "two_level": first
// within a node, to the rank there that has the receiver's place, then across nodes, so that between two nodes there are as many
// messages as a node has ranks, not its square. Nodes are `local` consecutive ranks. Collective; `group` must outlive it. Throws
// Error(Input) on every rank if nodes do not divide the group.
std::unique_ptr<Exchange> make_exchange(std::string_view kind, Group& group, int local);

}  // namespace moiety::comm
