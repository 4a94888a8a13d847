// A routing trace: as a file whose checksums will hardly ever be right, and as the content of records, one after the other, each
// after two bytes that say how long it is.
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"
#include "trace/trace_file.h"

namespace {

using namespace moiety;

void read_file_of(std::span<const std::byte> bytes) {
  const int fd = ::memfd_create("trace", 0);
  if (fd < 0 || ::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) __builtin_trap();
  const fs::path path = "/proc/self/fd/" + std::to_string(fd);
  fuzz::refuse_or([&] {
    trace::TraceReader reader(path);
    for (trace::StepTrace step; reader.next(step);) {
    }
  });
  ::close(fd);
}

std::span<const std::byte> next_record(std::span<const std::byte>& bytes) {
  if (bytes.size() < 2) return {};
  const size_t wanted = std::to_integer<size_t>(bytes[0]) | std::to_integer<size_t>(bytes[1]) << 8;
  const auto record = bytes.subspan(2, std::min(wanted, bytes.size() - 2));
  bytes = bytes.subspan(2 + record.size());
  return record;
}

void read_records(std::span<const std::byte> bytes) {
  const trace::TraceHeader header = trace::decode_header(next_record(bytes), "fuzz");
  trace::check(header);
  // What was believed survives being written again.
  const std::string again = trace::encode_header(header);
  if (!(trace::decode_header(std::as_bytes(std::span(again)), "again") == header)) __builtin_trap();
  trace::DomainTable domains, written, read;
  trace::StepTrace step, copy;
  while (!bytes.empty()) {
    trace::decode_step(next_record(bytes), "fuzz", header, domains, step);
    const std::string bytes_again = trace::encode_step(header, step, written);
    trace::decode_step(std::as_bytes(std::span(bytes_again)), "again", header, read, copy);
    bool same = copy.parts == step.parts;
    for (size_t layer = 0; layer < step.by_sparse_layer.size(); ++layer) {
      same = same && copy.by_sparse_layer[layer].begin_T1 == step.by_sparse_layer[layer].begin_T1 &&
             copy.by_sparse_layer[layer].experts_N == step.by_sparse_layer[layer].experts_N;
    }
    if (!same) __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = fuzz::bytes_of(data, size);
  read_file_of(bytes);
  return fuzz::refuse_or([&] { read_records(bytes); });
}
