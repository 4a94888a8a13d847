#include "trace/trace_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace moiety::trace {
namespace {

constexpr std::string_view kMagic = "moietyRT";
constexpr uint32_t kMostBytes = 1u << 30;  // of a record
constexpr size_t kReadAhead = 1 << 16;

struct Frame {
  uint32_t bytes = 0, check = 0;
};

uint32_t check_of(uint32_t bytes) { return static_cast<uint32_t>(XXH3_64bits(&bytes, sizeof bytes)); }

template <class T>
std::span<std::byte> bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

std::string framed(const std::string& content) {
  require(content.size() <= kMostBytes, "a step of {} bytes; a trace's record holds {}", content.size(), kMostBytes);
  const auto bytes = static_cast<uint32_t>(content.size());
  const Frame frame{bytes, check_of(bytes)};
  const uint64_t hash = XXH3_64bits(content.data(), content.size());
  std::string record(reinterpret_cast<const char*>(&frame), sizeof frame);
  record.append(content);
  return record.append(reinterpret_cast<const char*>(&hash), sizeof hash);
}

[[noreturn]] void fail_errno(const fs::path& path, const char* what) {
  fail(ErrorKind::Io, "{}: {}: {}", path.string(), what, std::strerror(errno));
}

uint64_t size_of(int fd, const fs::path& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) fail_errno(path, "cannot open");
  if (!S_ISREG(status.st_mode)) fail(ErrorKind::Io, "{}: not a regular file", path.string());
  return static_cast<uint64_t>(status.st_size);
}

void add_all(int fd, std::string_view bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_errno(path, "cannot write");
    bytes.remove_prefix(static_cast<size_t>(put));
  }
}

}  // namespace

std::string model_name(const fs::path& path) {
  const fs::path whole = fs::absolute(path).lexically_normal();
  return (whole.has_filename() ? whole : whole.parent_path()).filename().string();
}

TraceReader::TraceReader(fs::path path) : path_(std::move(path)), ahead_(kReadAhead), file_(std::fopen(path_.c_str(), "rbe")) {
  if (!file_) fail_errno(path_, "cannot open");
  std::setvbuf(file_.get(), ahead_.data(), _IOFBF, ahead_.size());
  size_ = size_of(::fileno(file_.get()), path_);

  std::string magic(kMagic.size(), '\0');
  require(read(std::as_writable_bytes(std::span(magic))) && magic == kMagic, "{}: not a routing trace", path_.string());
  position_ = magic.size();
  require(next_record(), "{}: a routing trace that ends before its header does", path_.string());
  header_ = decode_header(record_, fmt::format("{}: the header", path_.string()));
  position_ = magic.size() + sizeof(Frame) + record_.size() + sizeof(uint64_t);
}

bool TraceReader::next(StepTrace& step) {
  if (!next_record()) return false;
  decode_step(record_, place(), header_, domains_, step);
  position_ += sizeof(Frame) + record_.size() + sizeof(uint64_t);
  return true;
}

// False if there is none that is whole.
bool TraceReader::next_record() {
  Frame frame;
  if (!read(bytes_of(frame))) return false;
  if (frame.check != check_of(frame.bytes)) {
    // Bytes that the machine never came to write, for example because the power failed, are read as zeros.
    require(frame.bytes == 0 && frame.check == 0 && is_zero_to_the_end(), "{} is broken", place());
    return false;
  }
  const uint64_t end = position_ + sizeof frame + frame.bytes + sizeof(uint64_t);
  if (end > size_) return false;
  require(frame.bytes <= kMostBytes, "{} is of {} bytes, expected at most {}", place(), frame.bytes, kMostBytes);

  uint64_t hash = 0;
  record_.resize(frame.bytes);
  if (!read(record_) || !read(bytes_of(hash))) return false;
  if (hash == XXH3_64bits(record_.data(), record_.size())) return true;
  require(end == size_, "{} is broken: its checksum is wrong", place());
  return false;
}

// False at the end of the file.
bool TraceReader::read(std::span<std::byte> bytes) {
  const size_t got = std::fread(bytes.data(), 1, bytes.size(), file_.get());
  if (got < bytes.size() && std::ferror(file_.get())) fail_errno(path_, "cannot read");
  return got == bytes.size();
}

bool TraceReader::is_zero_to_the_end() {
  int byte = 0;
  while ((byte = std::getc(file_.get())) == 0) {
  }
  return byte == EOF;
}

TraceWriter::TraceWriter(fs::path path, TraceHeader header) : path_(std::move(path)), header_(std::move(header)) {
  check(header_);
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_errno(path_, "cannot open");
  try {
    bytes_ = size_of(fd_, path_);
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) fail(ErrorKind::Io, "{}: another process is writing it", path_.string());
    go_on();
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

TraceWriter::~TraceWriter() { ::close(fd_); }

// Brings the file to where the next record begins.
void TraceWriter::go_on() {
  const std::string beginning = std::string(kMagic) + framed(encode_header(header_));
  if (bytes_ < beginning.size() && beginning.starts_with(read_file(path_))) {
    // Nothing, or what a writer had done that was killed at once.
    add_all(fd_, std::string_view(beginning).substr(bytes_), path_);
    bytes_ = beginning.size();
    return;
  }
  TraceReader reader(path_);
  const TraceHeader& there = reader.header();
  require(there == header_, "{}: a trace of {} ({} layers, {} experts), not of {} ({} layers, {} experts)", path_.string(),
          there.model, there.sparse_layers.size(), there.num_experts, header_.model, header_.sparse_layers.size(),
          header_.num_experts);
  StepTrace step;
  while (reader.next(step)) {
    for (const Part& part : step.parts) next_sequence_ = std::max(next_sequence_, part.sequence + 1);
  }
  domains_ = reader.domains();
  if (reader.position() < bytes_ && ::ftruncate(fd_, static_cast<off_t>(reader.position())) != 0) {
    fail_errno(path_, "cannot cut off what is not whole");
  }
  bytes_ = reader.position();
}

void TraceWriter::add(const StepTrace& step) {
  const size_t domains_before = domains_.size();
  try {
    const std::string record = framed(encode_step(header_, step, domains_));
    append(record);
  } catch (...) {
    domains_.resize(domains_before);
    throw;
  }
  for (const Part& part : step.parts) next_sequence_ = std::max(next_sequence_, part.sequence + 1);
}

void TraceWriter::append(const std::string& record) {
  try {
    add_all(fd_, record, path_);
  } catch (const Error&) {
    // Half a record would be in the way of the next. If this fails as well a reader still stops before it.
    if (::ftruncate(fd_, static_cast<off_t>(bytes_)) != 0) fail_errno(path_, "cannot cut off what is not whole");
    throw;
  }
  bytes_ += record.size();
}

}  // namespace moiety::trace
