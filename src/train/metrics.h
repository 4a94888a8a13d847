// metrics.jsonl: one JSON object a line, each step exactly once however often the run was interrupted.
#pragma once

#include <string>

#include "base/file.h"
#include "base/json.h"

namespace moiety::train {

class Metrics {
 public:
  // Keeps the lines of the steps up to `step`; what a killed run wrote after its last checkpoint is made again.
  Metrics(const fs::path& path, int64_t step);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // On a full disk lines wait for the next call.
  void add(const Json& line);
  // Throws Error(Io) if some still wait.
  void finish();

 private:
  fs::path path_;
  int fd_ = -1;
  std::string waiting_;
};

}  // namespace moiety::train
