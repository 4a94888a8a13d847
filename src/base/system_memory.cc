#include "base/system_memory.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/file.h"

namespace moiety {
namespace {

std::optional<size_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  size_t number = 0;
  if (!(file >> number)) return std::nullopt;  // "max", or no such file
  return number;
}

// What the control groups of this process still allow, in the first and the second version of them: lines of
// /proc/self/cgroup are "4:memory:/a/b" and "0::/a/b".
size_t free_in_group() {
  struct Version {
    const char *line, *root, *most, *now;
  };
  constexpr Version kVersions[] = {{":memory:/", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"},
                                   {"0::/", "/sys/fs/cgroup", "memory.max", "memory.current"}};
  std::ifstream file("/proc/self/cgroup");
  size_t free = std::numeric_limits<size_t>::max();
  for (std::string line; std::getline(file, line);) {
    for (const Version& version : kVersions) {
      const size_t at = line.find(version.line);
      if (at == std::string::npos) continue;
      const fs::path root = version.root;
      fs::path group = root / line.substr(at + std::string_view(version.line).size());
      for (; group.string().size() > root.string().size(); group = group.parent_path()) {
        const auto most = number_in(group / version.most), now = number_in(group / version.now);
        if (most && now) free = std::min(free, *most > *now ? *most - *now : 0);
      }
    }
  }
  return free;
}

}  // namespace

size_t available_memory() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  size_t free = std::numeric_limits<size_t>::max();
  for (size_t kibibytes = 0; file >> key >> kibibytes >> unit;) {
    if (key == "MemAvailable:") free = kibibytes * 1024;
  }
  return std::min(free, free_in_group());
}

size_t resident_memory() {
  std::ifstream file("/proc/self/statm");
  size_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

size_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10) << 10;
  }
  return 0;
}

void forget_peak_memory() { std::ofstream("/proc/self/clear_refs") << "5"; }

size_t allocated_memory() {
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

}  // namespace moiety
