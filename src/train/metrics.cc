#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace moiety::train {
namespace {

// Lines of steps up to `step`, in their order. What a kill cut short is left out, and so is what a run says when it ends:
// it will say it again.
std::string kept_lines(const std::string& text, int64_t step) {
  std::string kept;
  size_t begin = 0;
  for (size_t end = text.find('\n'); end != text.npos; begin = end + 1, end = text.find('\n', begin)) {
    const Json line = Json::parse(text.begin() + static_cast<ptrdiff_t>(begin),
                                  text.begin() + static_cast<ptrdiff_t>(end), nullptr, false);
    if (line.is_object() && line.contains("step") && line["step"].is_number_integer() &&
        line["step"].get<int64_t>() <= step && !line.contains("final")) {
      kept.append(text, begin, end - begin + 1);
    }
  }
  return kept;
}

}  // namespace

Metrics::Metrics(const fs::path& path, int64_t step) : path_(path) {
  if (fs::exists(path)) write_file(path, kept_lines(read_file(path), step));
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail(ErrorKind::Io, "{}: cannot open: {}", path.string(), std::strerror(errno));
}

Metrics::~Metrics() { ::close(fd_); }

void Metrics::add(const Json& line) {
  waiting_ += line.dump() + "\n";
  size_t done = 0;
  while (done < waiting_.size()) {
    const ssize_t put = ::write(fd_, waiting_.data() + done, waiting_.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && (errno == ENOSPC || errno == EDQUOT)) break;
    if (put < 0) fail(ErrorKind::Io, "{}: cannot write: {}", path_.string(), std::strerror(errno));
    done += static_cast<size_t>(put);
  }
  waiting_.erase(0, done);
}

void Metrics::finish() {
  if (!waiting_.empty()) fail(ErrorKind::Io, "{}: no space is left on the disk for its last lines", path_.string());
}

}  // namespace moiety::train
