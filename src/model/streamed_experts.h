// A model's experts in less memory than they need: what the store reads becomes weights that can be computed with, packed in
// fast arithmetic, and goes again when its memory is given to others.
#pragma once

#include <memory>
#include <vector>

#include "format/model_file.h"
#include "kernel/linear.h"
#include "model/weights.h"
#include "store/tiered_store.h"

namespace moiety::model {

class StreamedExperts : private store::ExpertHost {
 public:
  // The weights, the file that they are views of and what `compute` refers to must outlive it. Throws Error(Input) if the
  // file's experts are not computed with as they lie.
  StreamedExperts(const format::ModelFile& file, const kernel::Compute& compute, Weights& weights);

  size_t count() const { return count_; }  // of all experts
  size_t bytes() const { return bytes_; }  // of all of them in memory
  size_t bytes_as_read() const { return count_ == 0 ? 0 : bytes_as_read_ / count_; }  // of one, from the disk, on average
  size_t reading_bytes() const { return most_bytes_ + (reads_in_place() ? 0 : most_bytes_as_read_); }  // that each one on its way takes
  // Room for so many experts of average size, and how many there is room for.
  size_t room_for(size_t experts) const;
  size_t experts_in(size_t room) const;

  // From here on those that are in memory take no more than `room`, and no more than `reads` are on their way. To be called once,
  // before the first visit.
  struct Options {
    size_t room = 0;  // bytes
    size_t reads = 4;
    size_t step_bytes = SIZE_MAX;  // a step that holds more takes of the room while it runs
    store::CachePolicy policy = store::CachePolicy::Auto;
    std::vector<store::ExpertId> pinned = {};
    store::Predictor predictor = store::Predictor::Caller;
    ReadEngine engine = ReadEngine::Best;
  };
  void open(const Options& options);
  // Room that is left while a step of so many tokens, and so many rows of logits, runs.
  size_t room_beside(size_t tokens, size_t logits) const;
  // Before such a step.
  void make_room(size_t tokens, size_t logits);
  // How many of a prompt's tokens are best computed at once: each wave of them reads the experts that it needs once.
  size_t prompt_chunk(size_t prompt) const;
  bool is_open() const { return store_ != nullptr; }
  store::TieredStore& store() { return *store_; }  // once it is open
  // Whether somebody should tell the store what to expect.
  bool wants_predictions() const { return options_.predictor == store::Predictor::Caller || wants_certainties(); }
  // … who can tell it for certain.
  bool wants_certainties() const { return options_.predictor == store::Predictor::Certain; }

 private:
  // The matrices of an expert as views into the file's map, the runs of bytes that they make up together, and where these lie;
  // in a packed file also what is known of each slab. Of an expert in planes the upper one is the first run, and its slabs come
  // before those of the lower one.
  struct Source {
    kernel::Projection matrices[3];
    std::vector<std::span<const std::byte>> runs;
    std::vector<store::FilePart> parts;
    std::vector<format::PackedSlab> slabs;
    size_t bytes = 0;  // in memory, whole pages
  };

  Source source_of(const ExpertWeights& expert) const;
  Source packed_source_of(const ExpertWeights& expert, int layer, int number, std::span<const format::PackedCopy> copies) const;
  const Source& source_of(store::ExpertId id) const { return sources_LE_[static_cast<size_t>(id.layer)][static_cast<size_t>(id.expert)]; }
  ExpertWeights& weights_of(store::ExpertId id) const;
  size_t room_for_reads(size_t tokens) const;
  bool is_packed(const kernel::WeightView& matrix) const;
  size_t bytes_in_memory(const Source& source) const;
  bool reads_in_place() const { return is_packed_file_ && !in_planes_; }
  bool is_low(store::ExpertId id) const;
  void arrive(std::span<const store::Arrival> arrivals) override;
  void check(std::span<const store::Arrival> arrivals) const;
  void take_slabs(std::span<const store::Arrival> arrivals);
  void take_planes(std::span<const store::Arrival> arrivals);
  void pack(std::span<const store::Arrival> arrivals);
  void leave(store::ExpertId id) override;

  const format::ModelFile& file_;
  kernel::Compute compute_;
  Weights& weights_;
  bool is_packed_file_, in_planes_;
  std::vector<std::vector<Source>> sources_LE_;  // by expert, then its copies of low precision
  size_t count_ = 0, bytes_ = 0, bytes_as_read_ = 0;  // of all but copies of low precision
  size_t most_bytes_ = 0, most_bytes_as_read_ = 0;    // of one
  Options options_;
  std::unique_ptr<store::TieredStore> store_;
};

}  // namespace moiety::model
