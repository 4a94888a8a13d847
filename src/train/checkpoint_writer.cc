#include "train/checkpoint_writer.h"

#include <unistd.h>

#include <chrono>
#include <utility>

#include "base/say.h"
#include "format/safetensors.h"

namespace moiety::train {
namespace {

// Adds what passes in this scope.
class Stall {
 public:
  explicit Stall(double& seconds) : seconds_(seconds) {}
  ~Stall() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }
  Stall(const Stall&) = delete;
  Stall& operator=(const Stall&) = delete;

 private:
  double& seconds_;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

std::vector<format::TensorSource> wholes_of(std::span<const TensorPart> tensors) {
  std::vector<format::TensorSource> wholes;
  for (const TensorPart& tensor : tensors) wholes.emplace_back(format::TensorView{tensor.here.name, tensor.here.type, tensor.here.shape});
  return wholes;
}

// `numbers_N`: those of each tensor that this rank writes.
WrittenFile my_share_of(const fs::path& path, std::span<const TensorPart> tensors, std::span<const Part> numbers_N, bool begins_it,
                     const std::map<std::string, std::string>& metadata = {}) {
  format::SafetensorsHeader header = format::safetensors_header(path.string(), wholes_of(tensors), metadata);
  WrittenFile file{path, begins_it ? std::move(header.bytes) : ""};
  for (size_t n = 0; n < tensors.size(); ++n) file.tensors.push_back({tensors[n], numbers_N[n], header.begin_N[n]});
  return file;
}

}  // namespace

CheckpointWriter::CheckpointWriter(CheckpointFiles files, int64_t keep, const spec::ModelSpec& spec, comm::Group* ranks)
    : files_(std::move(files)), keep_(keep), spec_(spec), ranks_(ranks) {}

double CheckpointWriter::sum(double mine) {
  if (ranks_ != nullptr) ranks_->sum(std::span(&mine, 1));
  return mine;
}

void CheckpointWriter::begin(const Weights& weights, Optimizer& optimizer, const RunState& state, const std::vector<format::TensorView>& more_state) {
  const Stall stall(figures_.stalled);
  settle();
  step_ = state.step;
  state_ = to_json(state);
  const fs::path path = checkpoint_path(files_.folder, step_);
  std::string failure;
  if (is_first()) {
    try {
      folder_.emplace(path);
    } catch (const Error& error) {
      failure = error.what();
    }
  }
  // The others write into the first one's folder, and only once it is there.
  const auto pid = static_cast<int64_t>(sum(is_first() && folder_ ? static_cast<double>(::getpid()) : 0.0));
  if (pid == 0) {
    if (is_first()) say("{}\n", because(failure));
    return;
  }

  std::vector<TensorPart> tensors = state_tensors(weights, optimizer);
  for (const format::TensorView& tensor : more_state) {
    tensors.push_back({tensor, Part({{0, static_cast<size_t>(tensor.elements())}})});
  }
  if (numbers_N_.size() != tensors.size()) numbers_N_ = share_of(tensors, ranks_);
  const size_t values = weights.entries().size();
  const fs::path folder = AtomicFolder::path_of(path, pid);
  const auto all = std::span(std::as_const(tensors));
  const auto numbers_N = std::span(std::as_const(numbers_N_));
  share_ = std::make_unique<ShareWriter>(
      std::vector{my_share_of(folder / "model.safetensors", all.first(values), numbers_N.first(values), is_first(), {{"format", "pt"}}),
                  my_share_of(folder / "optimizer.safetensors", all.subspan(values), numbers_N.subspan(values), is_first())},
      /*may_copy=*/optimizer.figures().streamed_groups == 0);
  is_ended_ = false;
}

void CheckpointWriter::settle() {
  if (const End end = this->end(); end.failure) say("{}\n", *end.failure);
}

void CheckpointWriter::let_go() {
  if (!share_) return;
  const Stall stall(figures_.stalled);
  share_->let_go();
}

CheckpointWriter::News CheckpointWriter::news() const {
  if (!share_ || !share_->has_ended()) return {};
  return {1, share_->failure() ? 1.0 : 0.0};
}

std::string CheckpointWriter::because(const std::string& why) const {
  const std::string who = ranks_ == nullptr ? "" : fmt::format("rank {}: ", ranks_->rank());
  return fmt::format("step {}: its checkpoint could not be written, those before it stay: {}{}", step_, who, why);
}

std::optional<std::string> CheckpointWriter::hear(const News& of_all) {
  if (share_ && of_all.written == (ranks_ == nullptr ? 1 : ranks_->size())) {
    const std::optional<std::string> mine = share_->failure();
    share_.reset();
    if (of_all.failed == 0) {
      if (is_first()) commit_ = std::async(std::launch::async, [this] { commit(); });
      return std::nullopt;
    }
    is_ended_ = true;
    folder_.reset();
    if (mine) return because(*mine);
    return is_first() ? std::optional(because("another one says why")) : std::nullopt;
  }
  if (!commit_.valid() || commit_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return std::nullopt;
  try {
    commit_.get();
    ++figures_.complete;
  } catch (const std::exception& error) {
    folder_.reset();
    return because(error.what());
  }
  return std::nullopt;
}

CheckpointWriter::End CheckpointWriter::end() {
  if (is_ended_) return {};
  std::optional<std::string> failure;
  if (share_) {
    share_->wait();
    failure = hear({ranks_ == nullptr ? 1.0 : ranks_->size(), sum(news().failed)});
  }
  if (commit_.valid()) {
    commit_.wait();
    failure = hear({});
  }
  is_ended_ = true;
  return {sum(failure ? 1 : 0) > 0, failure};
}

void CheckpointWriter::finish() {
  if (const End end = this->end(); end.is_lost) throw Error(ErrorKind::Io, end.failure.value_or(because("another one says why")));
}

void CheckpointWriter::commit() {
  seal_checkpoint(*folder_, files_, spec_, state_);
  folder_.reset();
  remove_old_checkpoints(files_.folder, keep_);
}

}  // namespace moiety::train
