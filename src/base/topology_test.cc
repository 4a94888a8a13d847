#include "base/topology.h"

#include <gtest/gtest.h>

#include "support/faked_machine.h"

namespace moiety {
namespace {

using test::FakedMachine;
using List = std::vector<int>;

TEST(Topology, HyperthreadsAreOneCore) {
  FakedMachine machine;
  machine.add_node({{0, 4}, {1, 5}}).add_node({{2, 6}, {3, 7}});
  const Topology topology = read_topology(machine.root(), machine.cpus());
  EXPECT_EQ(topology.nodes, (std::vector<List>{{0, 1, 4, 5}, {2, 3, 6, 7}}));
  ASSERT_EQ(topology.cores.size(), 4u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(topology.cores[static_cast<size_t>(i)].cpu, i);
    EXPECT_EQ(topology.cores[static_cast<size_t>(i)].node, i / 2);
  }
  EXPECT_EQ(topology.default_threads(), 4);
}

TEST(Topology, WhatTheAffinityMaskForbidsIsNotThere) {
  FakedMachine machine;
  machine.add_node({{0, 4}, {1, 5}}).add_node({{2, 6}, {3, 7}});
  const Topology topology = read_topology(machine.root(), List{6, 7});
  EXPECT_EQ(topology.nodes, (std::vector<List>{{6, 7}}));
  ASSERT_EQ(topology.cores.size(), 2u);
  EXPECT_EQ(topology.cores[0].cpu, 6);
  EXPECT_EQ(topology.cores[1].node, 0);
}

TEST(Topology, ANodeOfMemoryOnlyIsNotCounted) {
  FakedMachine machine;
  machine.add_node({{0}}).add_node({}).add_node({{1}});
  EXPECT_EQ(read_topology(machine.root(), machine.cpus()).nodes, (std::vector<List>{{0}, {1}}));
}

TEST(Topology, WithoutFilesEveryProcessorIsACoreOfOneNode) {
  FakedMachine machine;
  const Topology topology = read_topology(machine.root(), List{0, 1, 2});
  EXPECT_EQ(topology.nodes, (std::vector<List>{{0, 1, 2}}));
  EXPECT_EQ(topology.cores.size(), 3u);
  EXPECT_EQ(topology.quota, 0);
}

TEST(Topology, FilesThatMakeNoSenseAreTakenAsAbsent) {
  for (const char* text : {"", "x", "0-", "0-999999999", "-1", "0-1;2", "99999999999"}) {
    FakedMachine machine;
    machine.add_node({{0, 1}}).add_node({{2, 3}});
    machine.write("sys/devices/system/node/node0/cpulist", text);
    machine.write("sys/devices/system/cpu/cpu0/topology/core_cpus_list", text);
    const Topology topology = read_topology(machine.root(), List{0, 1, 2, 3});
    EXPECT_EQ(topology.nodes, (std::vector<List>{{0, 1, 2, 3}})) << text;
    EXPECT_EQ(topology.cores.size(), 2u) << text;
  }
}

TEST(Topology, TheSmallestQuotaOnTheWayToOurGroupCounts) {
  FakedMachine machine;
  machine.add_node({{0}, {1}, {2}, {3}});
  machine.write("proc/self/cgroup", "4:memory:/other\n0::/a/b\n");
  machine.write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
  machine.write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
  const Topology topology = read_topology(machine.root(), machine.cpus());
  EXPECT_EQ(topology.quota, 1.5);
  EXPECT_EQ(topology.default_threads(), 2);
}

TEST(Topology, AQuotaOfAPartOfAProcessorLeavesOneThread) {
  FakedMachine machine;
  machine.add_node({{0}, {1}});
  machine.write("sys/fs/cgroup/cpu.max", "20000 100000\n");
  EXPECT_EQ(read_topology(machine.root(), machine.cpus()).default_threads(), 1);
}

TEST(Topology, ThisMachineHasACoreAndANode) {
  const Topology topology = this_machine();
  EXPECT_GE(topology.default_threads(), 1);
  EXPECT_GE(topology.num_nodes(), 1);
}

}  // namespace
}  // namespace moiety
