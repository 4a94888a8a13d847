// What `moiety trace` can do: one function and one file each; trace.cc has the table.
#pragma once

namespace moiety::cli {

// As the commands of command.h.
int trace_record(int argc, char** argv);
int trace_report(int argc, char** argv);
int trace_replay(int argc, char** argv);

}  // namespace moiety::cli
