#include "comm/place.h"

#include <charconv>
#include <cstring>

#include "base/error.h"

namespace moiety::comm {
namespace {

// How a launcher names what it tells its processes.
struct Names {
  const char *rank, *ranks, *local_ranks;
};
constexpr Names kLaunchers[] = {
    {"RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"},
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS"},
    {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_TASKS_PER_NODE"},
};
constexpr int kMostRanks = 1 << 20, kPort = 29500;

int number(const char* name, const char* text, int least, int most) {
  int value = 0;
  const char* const end = text + std::strlen(text);
  const auto [stopped, error] = std::from_chars(text, end, value);
  // Slurm writes "4(x2)" for four tasks on each of two machines.
  const bool is_whole = stopped == end || *stopped == '(' || *stopped == ',';
  require(error == std::errc() && is_whole && value >= least && value <= most, "the variable {} is '{}'; a number from {} to {} is expected", name,
          text, least, most);
  return value;
}

bool is_this_machine(const std::string& address) { return address == "localhost" || address.starts_with("127."); }

}  // namespace

std::optional<Place> place_in(const Environment& environment) {
  for (const Names& names : kLaunchers) {
    const char *const rank = environment(names.rank), *const ranks = environment(names.ranks);
    if (rank == nullptr || ranks == nullptr) continue;
    Place place{.ranks = number(names.ranks, ranks, 1, kMostRanks)};
    place.rank = number(names.rank, rank, 0, place.ranks - 1);
    if (place.ranks == 1) return std::nullopt;

    const char *const address = environment("MASTER_ADDR"), *const port = environment("MASTER_PORT"), *const local = environment(names.local_ranks);
    place.local_ranks = local != nullptr ? number(names.local_ranks, local, 1, kMostRanks) : 0;
    require(address != nullptr || place.local_ranks == place.ranks,
            "rank {} of {}: MASTER_ADDR must say on which machine rank 0 is", place.rank, place.ranks);
    place.address = address != nullptr ? address : "127.0.0.1";
    if (place.local_ranks == 0) place.local_ranks = is_this_machine(place.address) ? place.ranks : 1;
    place.port = port != nullptr ? number("MASTER_PORT", port, 1, 65535) : kPort;
    const char *const agent = environment("TORCHELASTIC_USE_AGENT_STORE"), *const generation = environment("TORCHELASTIC_RESTART_COUNT");
    place.hosts_store = place.rank == 0 && (agent == nullptr || std::strcmp(agent, "True") != 0);
    if (generation != nullptr) place.generation = generation;
    if (const char* const worker = environment(kWorker)) place.worker = number(kWorker, worker, 0, kMostRanks);
    return place;
  }
  return std::nullopt;
}

}  // namespace moiety::comm
