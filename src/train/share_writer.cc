#include "train/share_writer.h"

#include <algorithm>

#include "base/error.h"
#include "train/part_exchange.h"
#include "train/snapshot_plan.h"
#include "train/tensor_reader.h"

namespace moiety::train {
namespace {

constexpr size_t kChunk = 1 << 16;  // numbers

}  // namespace

ShareWriter::ShareWriter(std::vector<WrittenFile> files, bool may_copy) : files_(std::move(files)), may_copy_(may_copy), thread_([this] { run(); }) {}

ShareWriter::~ShareWriter() {
  is_over_ = true;
  thread_.join();
}

void ShareWriter::run() {
  try {
    write();
  } catch (const std::exception& error) {
    failure_ = error.what();
  }
  const std::lock_guard lock(mutex_);
  has_let_go_ = has_ended_ = true;
  changed_.notify_all();
}

void ShareWriter::write() {
  std::vector<SharedFile> open;
  std::vector<Kept> kept;
  std::vector<float> numbers;
  const auto put = [&](size_t file, size_t at, std::span<const float> some) {
    if (is_over_) fail(ErrorKind::Io, "{}: given up", files_[file].path.string());
    open[file].write(at, std::as_bytes(some));
  };
  for (size_t f = 0; f < files_.size(); ++f) {
    open.emplace_back(files_[f].path).write(0, std::as_bytes(std::span(files_[f].text)));
    for (const WrittenTensor& share : files_[f].tensors) {
      TensorReader reader(share.tensor.here);
      PlacesIn places(share.tensor.part);
      for (const Stretch& stretch : share.numbers.stretches()) {
        for (size_t begin = stretch.begin; begin < stretch.end(); begin += kChunk) {
          numbers.resize(std::min(kChunk, stretch.end() - begin));
          reader.read(places(begin), numbers);
          const size_t at = share.begin + begin * sizeof(float);
          if (is_to_copy_ && !is_over_) kept.push_back({f, at, std::move(numbers)});
          else put(f, at, numbers);
        }
      }
    }
  }
  {
    const std::lock_guard lock(mutex_);
    has_let_go_ = true;
    changed_.notify_all();
  }
  for (Kept& chunk : kept) {
    put(chunk.file, chunk.at, chunk.numbers);
    chunk.numbers = {};
  }
  for (SharedFile& file : open) file.flush();
}

void ShareWriter::let_go() {
  if (may_copy_) is_to_copy_ = true;
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return has_let_go_; });
}

void ShareWriter::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return has_ended_.load(); });
}

std::vector<Part> share_of(const std::vector<TensorPart>& tensors, comm::Group* ranks) {
  std::vector<Part> mine;
  for (const TensorPart& tensor : tensors) mine.push_back(tensor.part);
  return ranks == nullptr ? mine : plan_writing(gather_parts(mine, *ranks), ranks->rank());
}

}  // namespace moiety::train
