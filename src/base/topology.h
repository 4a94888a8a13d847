// Which processors this process may use, and how they lie: the logical processors of one physical core share its
// arithmetic units; the cores of one NUMA node share its memory. Read from Linux's /sys; elsewhere every processor counts
// as a core of one node.
#pragma once

#include <span>
#include <vector>

#include "base/file.h"

namespace moiety {

struct Core {
  int cpu = 0;   // the first of its logical processors that may be used
  int node = 0;  // index into Topology::nodes
};

struct Topology {
  std::vector<Core> cores;              // at least one; all of node 0 first
  std::vector<std::vector<int>> nodes;  // the logical processors of each node that may be used; none is empty
  // What the control group grants, in processors (cgroup v2, cpu.max); 0: as much as there is.
  double quota = 0;

  int num_nodes() const { return static_cast<int>(nodes.size()); }
  // One a physical core, no more than the quota can keep busy; at least 1.
  int default_threads() const;
};

// `allowed`: the logical processors this process may use, ascending, at least one. What is missing or unreadable under
// `root` (normally "/") is taken as absent: no quota, one node, one core a processor. Nodes keep their order but
// are numbered without gaps.
Topology read_topology(const fs::path& root, std::span<const int> allowed);

// The machine, as the calling thread's affinity mask lets it be used.
Topology this_machine();

}  // namespace moiety
