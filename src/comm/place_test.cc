#include "comm/place.h"

#include <gtest/gtest.h>

#include <map>

#include "base/error.h"

namespace moiety::comm {
namespace {

std::optional<Place> place(const std::map<std::string, std::string>& variables) {
  return place_in([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST(Place, ProcessesOfNoLauncherAreAlone) {
  EXPECT_FALSE(place({}));
  EXPECT_FALSE(place({{"RANK", "0"}}));
  EXPECT_FALSE(place({{"RANK", "0"}, {"WORLD_SIZE", "1"}}));
  EXPECT_FALSE(place({{"SLURM_PROCID", "0"}}));  // in a script of sbatch
}

TEST(Place, OfTorchrun) {
  const auto found = place({{"RANK", "3"}, {"WORLD_SIZE", "4"}, {"LOCAL_WORLD_SIZE", "2"}, {"MASTER_ADDR", "node0"}, {"MASTER_PORT", "1234"},
                            {"TORCHELASTIC_USE_AGENT_STORE", "True"}, {"TORCHELASTIC_RESTART_COUNT", "1"}});
  ASSERT_TRUE(found);
  EXPECT_EQ(found->rank, 3);
  EXPECT_EQ(found->ranks, 4);
  EXPECT_EQ(found->local_ranks, 2);
  EXPECT_EQ(found->address, "node0");
  EXPECT_EQ(found->port, 1234);
  EXPECT_FALSE(found->hosts_store);
  EXPECT_EQ(found->generation, "1");
}

TEST(Place, OfSlurmAndOfMpi) {
  const auto slurm = place({{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "8"}, {"SLURM_STEP_TASKS_PER_NODE", "4(x2)"}, {"MASTER_ADDR", "a"}});
  ASSERT_TRUE(slurm);
  EXPECT_EQ(slurm->local_ranks, 4);
  EXPECT_TRUE(slurm->hosts_store);
  const auto mpi = place({{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}});
  ASSERT_TRUE(mpi);
  EXPECT_EQ(mpi->address, "127.0.0.1");
  EXPECT_FALSE(mpi->hosts_store);
}

TEST(Place, OfASupervisorsWorker) {
  const auto worker = place({{"RANK", "5"}, {"WORLD_SIZE", "6"}, {"MASTER_ADDR", "127.0.0.1"}, {"MOIETY_WORKER", "5"}});
  ASSERT_TRUE(worker);
  EXPECT_EQ(worker->worker, 5);
  EXPECT_FALSE(place({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}})->worker);
}

TEST(Place, WhatMakesNoSenseIsRefused) {
  EXPECT_THROW(place({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MOIETY_WORKER", "x"}}), Error);
  EXPECT_THROW(place({{"RANK", "4"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "a"}}), Error);
  EXPECT_THROW(place({{"RANK", "-1"}, {"WORLD_SIZE", "4"}, {"MASTER_ADDR", "a"}}), Error);
  EXPECT_THROW(place({{"RANK", "0"}, {"WORLD_SIZE", "two"}, {"MASTER_ADDR", "a"}}), Error);
  EXPECT_THROW(place({{"RANK", "0"}, {"WORLD_SIZE", "2"}}), Error);  // on which machine?
  EXPECT_THROW(place({{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "0"}}), Error);
}

}  // namespace
}  // namespace moiety::comm
