#include "base/topology.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <thread>

#include "base/error.h"

namespace moiety {
namespace {

// The first line; empty if there is none.
std::string line_of(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "0-3,8" -> 0 1 2 3 8, as the kernel writes sets of processors. Nothing if that is not what the text is.
std::vector<int> parse_cpu_list(const std::string& text) {
  constexpr int kMost = 1 << 16;
  std::vector<int> cpus;
  std::istringstream in(text);
  for (int first = 0, last = 0; in >> first;) {
    last = first;
    if (!in.eof() && in.peek() == '-') in.ignore() >> last;
    if (in.fail() || first < 0 || last >= kMost) return {};
    for (int cpu = first; cpu <= last; ++cpu) cpus.push_back(cpu);
    if (!in.eof() && in.peek() == ',') in.ignore();
  }
  return in.eof() ? cpus : std::vector<int>();
}

std::vector<int> common(std::span<const int> a, std::span<const int> b) {
  std::vector<int> both;
  std::copy_if(a.begin(), a.end(), std::back_inserter(both), [&](int x) { return std::find(b.begin(), b.end(), x) != b.end(); });
  return both;
}

std::vector<std::vector<int>> read_nodes(const fs::path& folder, std::span<const int> allowed) {
  std::vector<std::vector<int>> nodes;
  for (const int number : parse_cpu_list(line_of(folder / "online"))) {
    auto cpus = common(allowed, parse_cpu_list(line_of(folder / fmt::format("node{}", number) / "cpulist")));
    if (!cpus.empty()) nodes.push_back(std::move(cpus));  // a node may have memory only
  }
  // Not all processors are in a node, or one is in two: whatever this is, placing by it would be wrong.
  std::vector<int> all;
  for (const auto& cpus : nodes) all.insert(all.end(), cpus.begin(), cpus.end());
  std::sort(all.begin(), all.end());
  if (!std::equal(all.begin(), all.end(), allowed.begin(), allowed.end())) return {{allowed.begin(), allowed.end()}};
  return nodes;
}

// The lowest processor of the core that `cpu` belongs to: the same for all that share the core.
int first_of_core(const fs::path& folder, int cpu) {
  const fs::path topology = folder / fmt::format("cpu{}", cpu) / "topology";
  std::vector<int> siblings = parse_cpu_list(line_of(topology / "core_cpus_list"));
  if (siblings.empty()) siblings = parse_cpu_list(line_of(topology / "thread_siblings_list"));  // Linux before 5.3
  return siblings.empty() ? cpu : *std::min_element(siblings.begin(), siblings.end());
}

// A limit holds for all groups below it, so the smallest on the way to our group is ours.
double read_quota(const fs::path& root) {
  std::string group;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.starts_with("0::/")) group = line.substr(4);
  }
  double smallest = 0;
  fs::path folder = root / "sys/fs/cgroup";
  const auto take = [&] {
    std::istringstream words(line_of(folder / "cpu.max"));
    double quota = 0, period = 0;  // microseconds; the first is the word "max" where there is no limit
    if (!(words >> quota >> period) || quota <= 0 || period <= 0) return;
    smallest = smallest == 0 ? quota / period : std::min(smallest, quota / period);
  };
  take();
  for (const fs::path& part : fs::path(group)) {
    folder /= part;
    take();
  }
  return smallest;
}

}  // namespace

int Topology::default_threads() const {
  const int all = static_cast<int>(cores.size());
  if (quota == 0) return all;
  return std::clamp(static_cast<int>(std::ceil(std::min(quota, 1e6))), 1, all);
}

Topology read_topology(const fs::path& root, std::span<const int> allowed) {
  const fs::path devices = root / "sys/devices/system";
  Topology topology{.nodes = read_nodes(devices / "node", allowed), .quota = read_quota(root)};
  for (int node = 0; node < topology.num_nodes(); ++node) {
    std::map<int, int> cpu_of_core;
    for (const int cpu : topology.nodes[static_cast<size_t>(node)]) cpu_of_core.try_emplace(first_of_core(devices / "cpu", cpu), cpu);
    for (const auto& [core, cpu] : cpu_of_core) topology.cores.push_back({cpu, node});
  }
  return topology;
}

Topology this_machine() {
  std::vector<int> allowed;
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &mask)) allowed.push_back(cpu);
    }
  }
  if (allowed.empty()) {  // more processors than the mask has bits for
    for (unsigned cpu = 0; cpu < std::max(1u, std::thread::hardware_concurrency()); ++cpu) allowed.push_back(static_cast<int>(cpu));
  }
  return read_topology("/", allowed);
}

}  // namespace moiety
