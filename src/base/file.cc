#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cassert>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace moiety {
namespace {

constexpr size_t kBufferBytes = 1 << 20;

[[noreturn]] void fail_errno(const fs::path& path, const char* what) {
  fail(ErrorKind::Io, "{}: {}: {}", path.string(), what, std::strerror(errno));
}

int open_to_read(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail_errno(path, "cannot open");
  return fd;
}

// Renames are on disk only when the folder that holds the name is.
void sync_path(const fs::path& path) {
  const int fd = open_to_read(path);
  const int result = ::fsync(fd);
  ::close(fd);
  if (result != 0) fail_errno(path, "cannot flush to disk");
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

fs::path beside(const fs::path& path, int64_t pid = ::getpid()) {
  return folder_of(path) / fmt::format(".{}.{}.tmp", path.filename().string(), pid);
}

void write_at(int fd, size_t offset, std::string_view bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_errno(path, "cannot write");
    bytes.remove_prefix(static_cast<size_t>(put));
    offset += static_cast<size_t>(put);
  }
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const int fd = open_to_read(path);
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(fd);
    fail(ErrorKind::Io, "{}: not a regular file", path.string());
  }
  const size_t size = static_cast<size_t>(status.st_size);
  if (size > 0) {
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      ::close(fd);
      fail_errno(path, "cannot map into memory");
    }
    bytes_ = {static_cast<const std::byte*>(data), size};
  }
  ::close(fd);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

void MappedFile::done_with(std::span<const std::byte> bytes) const noexcept {
  constexpr uintptr_t kPage = 4096;
  const auto address = [](const std::byte* p) { return reinterpret_cast<uintptr_t>(p); };
  if (bytes.data() < bytes_.data() || bytes.data() + bytes.size() > bytes_.data() + bytes_.size()) return;
  const uintptr_t begin = (address(bytes.data()) + kPage - 1) / kPage * kPage;
  const uintptr_t end = address(bytes.data() + bytes.size()) / kPage * kPage;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

std::string read_file(const fs::path& path) {
  const int fd = open_to_read(path);
  std::string text;
  char chunk[1 << 16];
  for (;;) {
    const ssize_t got = ::read(fd, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      ::close(fd);
      fail_errno(path, "cannot read");
    }
    if (got == 0) break;
    text.append(chunk, static_cast<size_t>(got));
  }
  ::close(fd);
  return text;
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)), beside_(beside(path_)) {
  fd_ = ::open(beside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_errno(path_, "cannot create");
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(beside_.c_str());
}

void AtomicFile::flush() {
  size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t put = ::write(fd_, buffer_.data() + done, buffer_.size() - done);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_errno(path_, "cannot write");
    done += static_cast<size_t>(put);
  }
  buffer_.clear();
}

void AtomicFile::write(std::string_view text) {
  buffer_.append(text);
  written_ += text.size();
  if (buffer_.size() >= kBufferBytes) flush();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

void AtomicFile::overwrite(size_t offset, std::string_view text) {
  assert(offset + text.size() <= written_);
  flush();
  write_at(fd_, offset, text, path_);
}

void AtomicFile::commit() {
  flush();
  if (::fsync(fd_) != 0) fail_errno(path_, "cannot flush to disk");
  if (::close(std::exchange(fd_, -1)) != 0) fail_errno(path_, "cannot close");
  if (::rename(beside_.c_str(), path_.c_str()) != 0) fail_errno(path_, "cannot rename into place");
  sync_path(folder_of(path_));
}

void write_file(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

SharedFile::SharedFile(fs::path path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd_ < 0) fail_errno(path_, "cannot create");
}

SharedFile::~SharedFile() {
  if (fd_ >= 0) ::close(fd_);
}

SharedFile::SharedFile(SharedFile&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

void SharedFile::write(size_t offset, std::span<const std::byte> bytes) {
  write_at(fd_, offset, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path_);
}

void SharedFile::flush() {
  if (::fsync(fd_) != 0) fail_errno(path_, "cannot flush to disk");
}

fs::path AtomicFolder::path_of(const fs::path& path, int64_t pid) { return beside(path, pid); }

AtomicFolder::AtomicFolder(fs::path path) : path_(std::move(path)) {
  if (!path_.has_filename()) path_ = path_.parent_path();  // "out/" means "out"
  beside_ = beside(path_);
  std::error_code error;
  fs::remove_all(beside_, error);
  if (!fs::create_directories(beside_, error)) {
    fail(ErrorKind::Io, "{}: cannot create the folder: {}", path_.string(), error.message());
  }
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!committed_) fs::remove_all(beside_, ignored);
}

void AtomicFolder::commit() {
  for (const auto& entry : fs::recursive_directory_iterator(beside_)) sync_path(entry.path());
  sync_path(beside_);
  std::error_code error;
  if (fs::exists(path_)) {
    // Two renames, so that at no moment is there half a folder under the final name.
    const fs::path old = beside_.string() + ".old";
    fs::rename(path_, old, error);
    if (!error) fs::rename(beside_, path_, error);
    if (!error) fs::remove_all(old, error);
  } else {
    fs::rename(beside_, path_, error);
  }
  if (error) fail(ErrorKind::Io, "{}: cannot rename into place: {}", path_.string(), error.message());
  committed_ = true;
  sync_path(folder_of(path_));
}

}  // namespace moiety
