// Routing traces on disk: written step by step, so that a process that is killed loses at most the step in flight, and gone on
// with later; read step by step, in little memory.
//
//   file    "moietyRT", then records: the header, then the steps (trace_codec.h has what is in them)
//   record  u32 n: the bytes of its content; u32: the lower half of XXH3-64 of these four bytes; n bytes; u64: their XXH3-64
//
// All numbers are little-endian. A visit takes 1 byte and 2 of weight (2 and 2 where a layer has more than 256 experts), a step
// of one sequence about 25 and 2 a layer.
#pragma once

#include <cstdio>
#include <memory>

#include "base/file.h"
#include "trace/trace_codec.h"

namespace moiety::trace {

// What a trace calls the model at `path`: "quick/run/" -> "run", "models/olmoe.gguf" -> "olmoe.gguf".
std::string model_name(const fs::path& path);

// A trace that is there, from its beginning. What another process adds while it is open is not seen.
class TraceReader {
 public:
  // Throws Error(Io) if the file can't be read, Error(Input) if it is no trace.
  explicit TraceReader(fs::path path);

  const TraceHeader& header() const { return header_; }

  // The next step; false at the end. A last record that is not whole (its writer was killed, or the machine) counts as not there.
  // Throws Error(Input) that names the byte where the trace is broken before that.
  bool next(StepTrace& step);

  // Bytes of the whole records read so far.
  uint64_t position() const { return position_; }
  uint64_t size() const { return size_; }
  const DomainTable& domains() const { return domains_; }  // named so far

 private:
  bool next_record();
  bool read(std::span<std::byte> bytes);
  bool is_zero_to_the_end();
  std::string place() const { return fmt::format("{}: the record at byte {}", path_.string(), position_); }

  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  fs::path path_;
  std::vector<char> ahead_;  // what was read ahead
  std::unique_ptr<std::FILE, Close> file_;
  uint64_t size_ = 0, position_ = 0;
  std::vector<std::byte> record_;  // the content of the last one read
  TraceHeader header_;
  DomainTable domains_;
};

// Adds steps to a trace. Only one process at a time may.
class TraceWriter {
 public:
  // Begins a trace at `path`, or goes on with the one there, which is read to its end: a record that is not whole is cut off.
  // Throws Error(Input) if what is there is something else, is broken, or is the trace of another model; Error(Io) if it can't be
  // written.
  TraceWriter(fs::path path, TraceHeader header);
  ~TraceWriter();
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  const TraceHeader& header() const { return header_; }
  // Above all sequences that the file names.
  uint64_t next_sequence() const { return next_sequence_; }
  uint64_t bytes() const { return bytes_; }  // of the file

  // In one write. The step must fit the header. Throws Error(Io), and leaves the file as it was, if the disk is full.
  void add(const StepTrace& step);

 private:
  void go_on();
  void append(const std::string& bytes);

  fs::path path_;
  TraceHeader header_;
  DomainTable domains_;
  uint64_t next_sequence_ = 0, bytes_ = 0;
  int fd_ = -1;
};

}  // namespace moiety::trace
