// Which of how many processes this one is, as launchers say it.
#pragma once

#include <functional>
#include <optional>
#include <string>

namespace moiety::comm {

struct Place {
  int rank = 0, ranks = 1;
  int local_ranks = 1;      // of them on this machine
  std::string address;      // where rank 0's machine is
  int port = 0;             // of the store in which ranks meet
  bool hosts_store = true;  // rank 0: no launcher does
  std::string generation;   // of a job that its launcher starts again
  std::optional<int> worker = {};  // which one, of a supervisor's (comm/crew.h)
};

// By which a supervisor tells a worker its number.
inline constexpr const char* kWorker = "MOIETY_WORKER";

// The value of a variable; nullptr if there is none.
using Environment = std::function<const char*(const char* name)>;

// From RANK and WORLD_SIZE (torchrun, Kubernetes), or what Slurm's srun, Open MPI and MPICH set, with MASTER_ADDR and MASTER_PORT;
// nothing if no launcher started this process, or it started only this one. Throws Error(Input) if a number is none, or
// if there are several machines and nobody says where they meet.
std::optional<Place> place_in(const Environment& environment);

}  // namespace moiety::comm
