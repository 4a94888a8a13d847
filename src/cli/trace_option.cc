#include "cli/trace_option.h"

namespace moiety::cli {

void TraceOption::add_to(CLI::App& app, const std::string& what) {
  app.add_option("--trace", path_, "record which experts " + what + " visit in this file, or add to what is in it (see moiety trace)");
}

trace::TraceRecorder* TraceOption::open(const spec::ModelSpec& spec, const std::string& name) {
  if (path_.empty()) return nullptr;
  writer_.emplace(path_, trace::header_of(spec, name));
  return &recorder_.emplace(*writer_);
}

}  // namespace moiety::cli
