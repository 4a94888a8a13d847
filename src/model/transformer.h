// The forward pass: token ids to logits, for any model that a ModelSpec describes.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "base/matrix.h"
#include "format/model_file.h"
#include "kernel/linear.h"
#include "model/gate.h"
#include "model/kv_cache.h"
#include "model/lossy.h"
#include "model/momentum.h"
#include "model/step.h"
#include "model/streamed_experts.h"
#include "model/weights.h"
#include "moe/route.h"

namespace moiety::model {

// Told of every sparse layer's routing as it is decided: layer number, routing of this step's tokens; of a chain of experts once,
// all iterations' visits.
using RoutingObserver = std::function<void(int layer, const moe::Routing&)>;

class Transformer {
 public:
  // `file` and what `compute` refers to must outlive it. In fast arithmetic each weight is packed when it is first needed.
  // Threads may not share one Transformer's forward().
  Transformer(const format::ModelFile& file, const kernel::Compute& compute);

  const spec::ModelSpec& spec() const { return file_.spec(); }
  const format::ModelFile& file() const { return file_; }
  ThreadPool& threads() const { return compute_.threads; }
  // "fast" or "exact", and what may be given up for speed: what its numbers depend on beside the model.
  std::string arithmetic_name() const;

  // Runs the chunks' tokens through all layers, appends to their caches, returns the logits that they want, [rows, V]. A chunk's numbers are
  // the same bits whatever other chunks are there and however a sequence was cut into chunks. Token ids must be in the
  // vocabulary, caches have room. Throws Error(Input) naming the tensor if the model turns out to hold NaNs.
  // Error(Io) if an expert can't be read; the caches then are what they were.
  Matrix<float> forward(std::span<const Chunk> chunks, const RoutingObserver& observe = {});

  // Takes everything but the experts into memory, as it is computed with, instead of when it is first needed: none of it is
  // paged from then on. `progress` is told the bytes done, and of how many.
  void pin_dense(const std::function<void(size_t done, size_t all)>& progress = {});
  // Packs every weight, experts too, and pages in what is computed with as it lies in the file, instead of when it is first needed:
  // a server's first requests are then as fast as its later ones. Of experts that are streamed nothing.
  void prepare(const std::function<void(size_t done, size_t all)>& progress = {});
  // Bytes of what pin_dense() takes, as they are in the file.
  size_t dense_bytes();
  // What experts take, and how to have only some of them in memory: open() it, or leave it, and all stay as they are needed.
  // Throws Error(Input) if this file's can't be streamed.
  StreamedExperts& streamed_experts();
  // How many of a prompt's tokens are best computed at once.
  size_t prompt_chunk(size_t prompt) const;
  // From now on experts that are not in memory may be done without so far.
  void set_lossy(const Lossy& lossy) { lossy_ = lossy; }
  const Lossy& lossy() const { return lossy_; }
  // What reading experts has been so far; nullptr if all stay in memory.
  const store::StoreStatistics* expert_statistics() const;
  const store::ExpertCache* expert_cache() const;

 private:
  Matrix<float> embed(std::span<const Chunk> chunks) const;
  Matrix<float> norm(MatrixView<const float> x_TD, const NormWeights& weights) const;
  void add_to_stream(MatrixView<const float> y_TD, MatrixView<float> x_TD) const;  // x += residual scale * y
  void layer(int number, const Step& step, StepGate& gate, LayerMomentum& momentum, Matrix<float>& x_TD, const RoutingObserver& observe);
  bool streams() const { return streamed_ && streamed_->is_open(); }
  void expect(int layer, Matrix<float> logits_TE, std::span<const StepPart> parts);
  void expect_known(const Step& step, const StepGate& gate, int from);
  void expect_next(int number, const Step& step, const StepGate& gate, MatrixView<const float> x_TD);
  Matrix<float> head(std::span<const Chunk> chunks, MatrixView<const float> x_TD) const;
  void refuse_nans(MatrixView<const float> logits) const;
  void keep_a_copy(kernel::WeightView& matrix);

  const format::ModelFile& file_;
  kernel::PackedMemory packed_;
  kernel::Compute compute_;
  Weights weights_;
  Frequencies frequencies_;
  std::vector<size_t> states_before_L1_;  // where a layer's numbers begin among those that experts keep of a position
  store::ResidentStore all_experts_;
  Lossy lossy_;
  std::unique_ptr<StreamedExperts> streamed_;
};

}  // namespace moiety::model
