// moiety train: starts moiety-train, which links libtorch, the way git starts its subcommands.
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "cli/command.h"

namespace moiety::cli {
namespace {

// Beside this program, or in ../libexec when a packager keeps what nobody starts by hand there.
fs::path find_trainer() {
  const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
  const fs::path places[] = {here / "moiety-train", here.parent_path() / "libexec" / "moiety-train"};
  for (const fs::path& place : places) {
    if (::access(place.c_str(), X_OK) == 0) return place;
  }
  fail(ErrorKind::Io, "{}: not found (nor in {}); was moiety built with MOIETY_TRAIN=OFF?", places[0].string(),
       places[1].parent_path().string());
}

void set_default(const char* name, const char* value) { ::setenv(name, value, /*overwrite=*/0); }

}  // namespace

int train(int argc, char** argv) {
  const fs::path trainer = find_trainer();
  // Threads that wait for the next loop spin for some microseconds and then sleep. Spinning longer gains little where
  // the cores are free, and makes training several times slower where somebody else needs one of them.
  set_default("GOMP_SPINCOUNT", "2000");
  // Weights, gradients and states are walked from end to end every step: in huge pages, where the kernel gives them to who asks.
  set_default("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");

  std::vector<char*> arguments(argv, argv + argc);
  arguments.push_back(nullptr);
  ::execv(trainer.c_str(), arguments.data());
  fail(ErrorKind::Io, "{}: cannot start: {}", trainer.string(), std::strerror(errno));
}

}  // namespace moiety::cli
