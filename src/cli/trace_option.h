// --trace FILE: the routing of what a command computes is added to a trace.
#pragma once

#include <optional>
#include <string>

#include "cli/open_model.h"
#include "trace/trace_recorder.h"

namespace moiety::cli {

class TraceOption {
 public:
  // `what` of the computation is recorded, for the help.
  void add_to(CLI::App& app, const std::string& what);

  bool is_given() const { return !path_.empty(); }

  // nullptr if the command line doesn't name a file. `name` is the model's, as the trace keeps it. Throws Error as
  // trace::TraceWriter does.
  trace::TraceRecorder* open(const spec::ModelSpec& spec, const std::string& name);

 private:
  std::string path_;
  std::optional<trace::TraceWriter> writer_;
  std::optional<trace::TraceRecorder> recorder_;
};

}  // namespace moiety::cli
