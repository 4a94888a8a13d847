// The files by which Linux tells of processors, in a temporary folder: machines that tests can make up.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "base/file.h"
#include "support/fixtures.h"

namespace moiety::test {

class FakedMachine {
 public:
  // The next node, of cores that are each a list of logical processors.
  FakedMachine& add_node(const std::vector<std::vector<int>>& cores) {
    std::vector<int> of_node;
    for (const auto& core : cores) {
      of_node.insert(of_node.end(), core.begin(), core.end());
      for (const int cpu : core) write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/core_cpus_list", list(core));
    }
    write("sys/devices/system/node/node" + std::to_string(nodes_) + "/cpulist", list(of_node));
    write("sys/devices/system/node/online", "0-" + std::to_string(nodes_++));
    cpus_.insert(cpus_.end(), of_node.begin(), of_node.end());
    std::sort(cpus_.begin(), cpus_.end());
    return *this;
  }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root() / path).parent_path());
    write_bytes(root() / path, text);
  }
  fs::path root() const { return folder_.path(); }
  const std::vector<int>& cpus() const { return cpus_; }

 private:
  static std::string list(const std::vector<int>& cpus) {
    std::string text;
    for (const int cpu : cpus) text += (text.empty() ? "" : ",") + std::to_string(cpu);
    return text + "\n";
  }

  TemporaryFolder folder_;
  int nodes_ = 0;
  std::vector<int> cpus_;
};

}  // namespace moiety::test
