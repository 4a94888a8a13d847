// Files: read whole, map, and write so that a reader sees either the old file or the complete new one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace moiety {

namespace fs = std::filesystem;

// A read-only memory map of a whole file. Throws Error(Io) if it can't be opened.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return bytes_; }
  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()};
  }
  const fs::path& path() const { return path_; }
  bool holds(const std::byte* at) const { return at >= bytes_.data() && at < bytes_.data() + bytes_.size(); }

  // Lets the system take back the memory of these bytes, as far as they are in the map; they can be read again, at a price.
  void done_with(std::span<const std::byte> bytes) const noexcept;

 private:
  fs::path path_;
  std::span<const std::byte> bytes_;
};

std::string read_file(const fs::path& path);

// Writes beside `path`; commit() flushes to disk and renames over it. Without commit() nothing is left behind.
class AtomicFile {
 public:
  explicit AtomicFile(fs::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  // In place of bytes that were written before, all of them, at `offset`.
  void overwrite(size_t offset, std::string_view text);
  void commit();
  size_t bytes_written() const { return written_; }

 private:
  void flush();

  fs::path path_, beside_;
  int fd_ = -1;
  std::string buffer_;
  size_t written_ = 0;
};

void write_file(const fs::path& path, std::string_view text);

// A file of which several processes each write some bytes, in any order; it is there once the first has opened it.
class SharedFile {
 public:
  explicit SharedFile(fs::path path);
  ~SharedFile();
  SharedFile(SharedFile&& other) noexcept;
  SharedFile& operator=(SharedFile&&) = delete;

  void write(size_t offset, std::span<const std::byte> bytes);
  // What this process has written is on disk.
  void flush();

 private:
  fs::path path_;
  int fd_ = -1;
};

// A folder written beside its final place: fill path(), then commit() flushes and renames it. A folder of the same
// name is replaced. Without commit() nothing is left behind.
class AtomicFolder {
 public:
  explicit AtomicFolder(fs::path path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const fs::path& path() const { return beside_; }
  // The same of a folder that the process `pid` has begun, for others that fill it, too.
  static fs::path path_of(const fs::path& path, int64_t pid);
  void commit();

 private:
  fs::path path_, beside_;
  bool committed_ = false;
};

}  // namespace moiety
