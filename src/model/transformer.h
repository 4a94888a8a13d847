// The forward pass: token ids to logits, for any model that a ModelSpec describes.
#pragma once

#include <functional>
#include <span>

#include "base/matrix.h"
#include "format/model_file.h"
#include "kernel/linear.h"
#include "model/kv_cache.h"
#include "model/step.h"
#include "model/weights.h"
#include "moe/route.h"

namespace moiety::model {

// Told of every sparse layer's routing as it is decided: layer number, routing of this step's tokens.
using RoutingObserver = std::function<void(int layer, const moe::Routing&)>;

class Transformer {
 public:
  // `file` and what `compute` refers to must outlive it. In fast arithmetic each weight is packed when it is first needed.
  // Threads may not share one Transformer's forward().
  Transformer(const format::ModelFile& file, const kernel::Compute& compute);

  const spec::ModelSpec& spec() const { return file_.spec(); }
  const format::ModelFile& file() const { return file_; }

  enum class LogitsOf {
    LastTokens,  // one row a chunk: its last token's
    AllTokens,   // one row a token
  };
  // Runs the chunks' tokens through all layers, appends to their caches, returns logits [rows, V]. A chunk's numbers are
  // the same bits whatever other chunks are there and however a sequence was cut into chunks. Token ids must be in the
  // vocabulary, caches have room. Throws Error(Input) naming the tensor if the model turns out to hold NaNs.
  Matrix<float> forward(std::span<const Chunk> chunks, LogitsOf which, const RoutingObserver& observe = {});

 private:
  Matrix<float> embed(std::span<const Chunk> chunks) const;
  Matrix<float> norm(MatrixView<const float> x_TD, const NormWeights& weights) const;
  void add_to_stream(MatrixView<const float> y_TD, MatrixView<float> x_TD) const;  // x += residual scale * y
  void layer(int number, const Step& step, Matrix<float>& x_TD, const RoutingObserver& observe);
  Matrix<float> head(std::span<const Chunk> chunks, MatrixView<const float> x_TD, LogitsOf which) const;
  void refuse_nans(MatrixView<const float> logits) const;

  const format::ModelFile& file_;
  kernel::PackedMemory packed_;
  kernel::Compute compute_;
  Weights weights_;
  Frequencies frequencies_;
};

}  // namespace moiety::model
