#include "train/state_stream.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace moiety::train {
namespace {

constexpr auto whole_pages = PageBuffer::whole_pages;

double seconds_of(const auto& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

std::vector<bool> resident_groups(std::span<const size_t> bytes_G, size_t budget) {
  const size_t groups = bytes_G.size(), all = std::accumulate(bytes_G.begin(), bytes_G.end(), size_t{0});
  if (all <= budget || groups <= kStreamPlaces) return std::vector<bool>(groups, true);
  const size_t largest = whole_pages(std::ranges::max(bytes_G)), places = kStreamPlaces * largest;
  const size_t fit = std::min(budget > places ? (budget - places) / largest : 0, groups - kStreamPlaces);
  std::vector<bool> resident(groups);
  for (size_t g = 0; g < groups; ++g) resident[g] = (g + 1) * fit / groups > g * fit / groups;
  return resident;
}

const char* StreamTimes::binding() const {
  constexpr double kShare = 0.1;
  if (waited <= kShare * visits) return "update";
  return read >= write ? "read" : "write";
}

// A file without a name, past the page cache where the file system allows it.
class StateStream::File {
 public:
  File(const fs::path& folder, size_t bytes) : name_((folder / ".optimizer-state.XXXXXX").string()) {
    fs::create_directories(folder);
    // A name of its own: ranks share the folder.
    const std::string pattern = name_;
    descriptor_ = ::mkostemp(name_.data(), O_CLOEXEC | O_DIRECT);
    if (descriptor_ < 0 && errno == EINVAL) {
      name_ = pattern;
      descriptor_ = ::mkostemp(name_.data(), O_CLOEXEC);
    }
    if (descriptor_ < 0) fail(ErrorKind::Io, "{}: cannot open: {}", name_, std::strerror(errno));
    ::unlink(name_.c_str());
    // Room is taken now rather than found missing in the middle of a step.
    if (const int error = ::posix_fallocate(descriptor_, 0, static_cast<off_t>(bytes)); error != 0) {
      ::close(descriptor_);
      fail(ErrorKind::Io, "{}: no room for {} bytes of optimizer state: {}", name_, bytes, std::strerror(error));
    }
  }
  ~File() { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  void read(size_t offset, std::span<std::byte> to) const {
    transfer("read", offset, to.data(), to.size(), [&](std::byte* at, size_t size, off_t from) { return ::pread(descriptor_, at, size, from); });
  }
  void write(size_t offset, std::span<const std::byte> from) const {
    transfer("write", offset, from.data(), from.size(),
             [&](const std::byte* at, size_t size, off_t to) { return ::pwrite(descriptor_, at, size, to); });
  }

 private:
  template <class Byte, class Call>
  void transfer(const char* what, size_t offset, Byte* at, size_t left, const Call& call) const {
    while (left > 0) {
      const ssize_t done = call(at, left, static_cast<off_t>(offset));
      if (done < 0 && errno == EINTR) continue;
      if (done < 0) fail(ErrorKind::Io, "{}: cannot {} optimizer state: {}", name_, what, std::strerror(errno));
      if (done == 0) fail(ErrorKind::Io, "{}: {} of optimizer state ended {} bytes early", name_, what, left);
      at += done;
      left -= static_cast<size_t>(done);
      offset += static_cast<size_t>(done);
    }
  }

  std::string name_;
  int descriptor_ = -1;
};

StateStream::StateStream(const std::vector<size_t>& bytes_G, size_t budget, const fs::path& folder, Transfers transfers)
    : resident_(bytes_G.size()), transfers_(transfers) {
  const std::vector<bool> resident = resident_groups(bytes_G, budget);
  size_t file_bytes = 0, largest = 0;
  for (size_t g = 0; g < bytes_G.size(); ++g) {
    groups_.push_back({bytes_G[g], resident[g], streamed_.size(), file_bytes});
    if (resident[g]) {
      resident_[g] = Matrix<std::byte>(1, bytes_G[g]);
    } else {
      streamed_.push_back(g);
      file_bytes += whole_pages(bytes_G[g]);
      largest = std::max(largest, whole_pages(bytes_G[g]));
    }
  }
  if (streamed_.empty()) return;
  file_ = std::make_unique<File>(folder, file_bytes);

  // The first of them are in their places.
  assert(streamed_.size() >= kStreamPlaces);
  for (size_t i = 0; i < kStreamPlaces; ++i) places_.push_back({PageBuffer(largest), streamed_[i], {}});
}

StateStream::~StateStream() = default;  // waits for what is on its way

size_t StateStream::memory_bytes() const {
  size_t bytes = 0;
  for (const Place& place : places_) bytes += place.memory.bytes().size();
  for (const Matrix<std::byte>& group : resident_) bytes += group.cols();
  return bytes;
}

void StateStream::visit(const std::function<void(size_t, std::span<std::byte>)>& update) {
  times_.visits += seconds_of([&] {
    for (size_t i = 0; i < groups_.size(); ++i) {
      const size_t g = backwards_ ? groups_.size() - 1 - i : i;
      const Group& group = groups_[g];
      if (group.is_resident) {
        update(g, resident_[g].flat());
        continue;
      }
      update(g, arrive(group));
      // Its place is the next one's that has the same; the last ones of a visit stay, for the next visit begins with them.
      const bool stays = backwards_ ? group.turn < kStreamPlaces : group.turn + kStreamPlaces >= streamed_.size();
      if (stays) continue;
      const size_t next = backwards_ ? group.turn - kStreamPlaces : group.turn + kStreamPlaces;
      exchange(places_[group.turn % kStreamPlaces], g, streamed_[next]);
      if (transfers_ == Transfers::Blocking) arrive(groups_[streamed_[next]]);
    }
  });
  backwards_ = !backwards_;
}

std::span<std::byte> StateStream::arrive(const Group& group) {
  Place& place = places_[group.turn % kStreamPlaces];
  assert(place.group == streamed_[group.turn]);
  if (place.coming.valid()) {
    Exchange times;
    times_.waited += seconds_of([&] { times = place.coming.get(); });
    times_.read += times.read;
    times_.write += times.write;
  }
  return place.memory.bytes().first(group.bytes);
}

void StateStream::exchange(Place& place, size_t leaves, size_t comes) {
  const auto pages_of = [&](size_t g) { return place.memory.bytes().first(whole_pages(groups_[g].bytes)); };
  times_.bytes_written += groups_[leaves].bytes;
  times_.bytes_read += groups_[comes].bytes;
  place.group = comes;
  place.coming = std::async(std::launch::async, [this, leaves, comes, from = pages_of(leaves), to = pages_of(comes)] {
    Exchange times;
    times.write = seconds_of([&] { file_->write(groups_[leaves].offset, from); });
    times.read = seconds_of([&] { file_->read(groups_[comes].offset, to); });
    return times;
  });
}

void StateStream::read(size_t group, std::span<std::byte> bytes) const {
  const Group& from = groups_[group];
  assert(bytes.size() == from.bytes);
  if (from.is_resident) {
    std::ranges::copy(resident_[group].flat(), bytes.begin());
  } else if (const Place& place = places_[from.turn % kStreamPlaces]; place.group == group) {
    std::ranges::copy(place.memory.bytes().first(from.bytes), bytes.begin());
  } else {
    const PageBuffer pages(whole_pages(from.bytes));
    file_->read(from.offset, pages.bytes());
    std::ranges::copy(pages.bytes().first(from.bytes), bytes.begin());
  }
}

void StateStream::write(size_t group, std::span<const std::byte> bytes) {
  const Group& to = groups_[group];
  assert(bytes.size() == to.bytes);
  if (to.is_resident) {
    std::ranges::copy(bytes, resident_[group].flat().begin());
  } else if (const Place& place = places_[to.turn % kStreamPlaces]; place.group == group) {
    std::ranges::copy(bytes, place.memory.bytes().begin());
  } else {
    const PageBuffer pages(whole_pages(to.bytes));
    std::ranges::copy(bytes, pages.bytes().begin());
    file_->write(to.offset, pages.bytes());
  }
}

}  // namespace moiety::train
