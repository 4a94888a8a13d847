#include "model/transformer.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <cstring>
#include <functional>

#include "format/elements.h"
#include "model/attention.h"
#include "model/elementwise.h"
#include "model/experts.h"
#include "model/latent_attention.h"
#include "model/moe_layer.h"
#include "model/norm.h"
#include "model/step_memory.h"

namespace moiety::model {
namespace {

// What a matrix is computed with, from wherever it is mapped.
void page_in(ThreadPool& threads, const kernel::Projection& matrix) {
  constexpr size_t kPage = 4096;
  const auto touch = [](const std::byte* bytes, size_t count) {
    for (size_t b = 0; b < count; b += kPage) static_cast<void>(*static_cast<const volatile std::byte*>(bytes + b));
  };
  const kernel::PackedView& packed = matrix.packed;
  if (packed.empty()) {
    threads.parallel_for(matrix.rows, [&](size_t r) { touch(matrix.row(r), matrix.row_bytes()); });
  } else {
    threads.parallel_for(packed.strips(), [&](size_t s) { touch(packed.strip(s), packed.strip_bytes()); });
  }
}

}  // namespace

Transformer::Transformer(const format::ModelFile& file, const kernel::Compute& compute)
    : file_(file),
      packed_{{}, [&file](std::span<const std::byte> bytes) { file.done_with(bytes); }},
      compute_{compute.kernels, compute.threads, compute.arithmetic, &packed_, compute.inputs},
      weights_(load_weights(file, compute.arithmetic)),
      frequencies_(frequencies_of(file.spec().attention)) {
  for (int layer = 0; layer <= file.spec().num_layers; ++layer) {
    states_before_L1_.push_back(static_cast<size_t>(spec::state_before(file.spec(), layer)));
  }
}

void Transformer::pin_dense(const std::function<void(size_t done, size_t all)>& progress) {
  DenseMatrices matrices = dense_matrices(weights_);
  const auto bytes_of = [](const kernel::WeightView* matrix) { return matrix->rows * matrix->row_bytes(); };
  // The largest first, while there is most room for it twice
  std::ranges::stable_sort(matrices.multiplied, std::greater(), bytes_of);
  size_t done = 0, all = 0;
  for (const kernel::Projection* matrix : matrices.multiplied) all += bytes_of(matrix);
  for (kernel::WeightView* matrix : matrices.as_they_lie) keep_a_copy(*matrix);
  for (kernel::Projection* matrix : matrices.multiplied) {
    kernel::pack(compute_, std::array<const kernel::Projection*, 1>{matrix});
    if (matrix->packed.empty()) keep_a_copy(*matrix);
    done += bytes_of(matrix);
    if (progress) progress(done, all);
  }
}

void Transformer::prepare(const std::function<void(size_t done, size_t all)>& progress) {
  std::vector<kernel::Projection*> matrices = dense_matrices(weights_).multiplied;
  if (!streamed_ || !streamed_->is_open()) std::ranges::copy(expert_matrices(weights_), std::back_inserter(matrices));
  size_t done = 0, all = 0;
  for (const kernel::Projection* matrix : matrices) all += matrix->rows * matrix->row_bytes();
  for (const kernel::Projection* matrix : matrices) {
    kernel::pack(compute_, std::array{matrix});
    page_in(compute_.threads, *matrix);
    done += matrix->rows * matrix->row_bytes();
    if (progress) progress(done, all);
  }
}

size_t Transformer::dense_bytes() {
  const DenseMatrices matrices = dense_matrices(weights_);
  size_t bytes = 0;
  for (const kernel::WeightView* matrix : matrices.multiplied) bytes += matrix->rows * matrix->row_bytes();
  for (const kernel::WeightView* matrix : matrices.as_they_lie) bytes += matrix->rows * matrix->row_bytes();
  return bytes;
}

// Of a matrix that is computed with as it lies in the file.
void Transformer::keep_a_copy(kernel::WeightView& matrix) {
  const size_t stride = matrix.row_bytes();
  std::byte* const copy = packed_.memory.allocate(matrix.rows * stride);
  compute_.threads.parallel_for(matrix.rows, [&](size_t r) { std::memcpy(copy + r * stride, matrix.row(r), stride); });
  if (matrix.row_stride == 0) file_.done_with({matrix.data, matrix.rows * stride});
  matrix.data = copy;
  matrix.row_stride = 0;
}

StreamedExperts& Transformer::streamed_experts() {
  if (!streamed_) streamed_ = std::make_unique<StreamedExperts>(file_, compute_, weights_);
  return *streamed_;
}

const store::StoreStatistics* Transformer::expert_statistics() const {
  return streamed_ && streamed_->is_open() ? &streamed_->store().statistics() : nullptr;
}

const store::ExpertCache* Transformer::expert_cache() const {
  return streamed_ && streamed_->is_open() ? &streamed_->store().cache() : nullptr;
}

std::string Transformer::arithmetic_name() const {
  std::string name = compute_.arithmetic == kernel::Arithmetic::Fast ? "fast" : "exact";
  if (lossy_.is_on()) name += fmt::format(" {} {} {}", lossy_.prefer_resident, lossy_.skip_missing, lossy_.low_precision);
  return name;
}

size_t Transformer::prompt_chunk(size_t prompt) const {
  return streamed_ && streamed_->is_open() ? streamed_->prompt_chunk(prompt) : model::prompt_chunk(spec());
}

Matrix<float> Transformer::embed(std::span<const Chunk> chunks) const {
  size_t tokens = 0;
  for (const Chunk& chunk : chunks) tokens += chunk.tokens.size();
  const kernel::WeightView& table_VD = weights_.embedding_VD;
  Matrix<float> x_TD(tokens, table_VD.cols);
  size_t t = 0;
  for (const Chunk& chunk : chunks) {
    for (const int32_t token : chunk.tokens) {
      assert(token >= 0 && static_cast<size_t>(token) < table_VD.rows);
      const size_t row = static_cast<size_t>(token);
      const auto x_D = x_TD.row(t++);
      format::row_to_floats(table_VD.type, table_VD.row(row), table_VD.scales, row, x_D);
      if (spec().embedding_scale == 1) continue;
      for (float& x : x_D) x *= spec().embedding_scale;
    }
  }
  return x_TD;
}

Matrix<float> Transformer::norm(MatrixView<const float> x_TD, const NormWeights& weights) const {
  return model::norm(compute_.threads, x_TD, weights, spec().norm_eps);
}

void Transformer::add_to_stream(MatrixView<const float> y_TD, MatrixView<float> x_TD) const {
  compute_.threads.parallel_for(x_TD.rows(), [&](size_t t) {
    compute_.kernels.add_scaled(spec().residual_scale, y_TD.row(t).data(), x_TD.row(t).data(), x_TD.cols());
  });
}

void Transformer::layer(int number, const Step& step, StepGate& gate, LayerMomentum& momentum, Matrix<float>& x_TD,
                        const RoutingObserver& observe) {
  const LayerWeights& w = weights_.layers[number];
  const auto attention_of_kind = spec().attention.latent ? latent_attention : attention;

  const Matrix<float> attention_in = norm(x_TD.view(), w.attention.norm);
  add_to_stream(attention_of_kind(compute_, spec().attention, spec().norm_eps, w.attention, number, attention_in.view(), step)
                    .view(),
                x_TD.view());

  const Matrix<float> feed_forward_in = norm(x_TD.view(), w.feed_forward_norm);
  if (spec().feed_forward[number] == spec::FeedForward::Dense) {
    add_to_stream(feed_forward(compute_, w.dense, feed_forward_in.view()).view(), x_TD.view());
    return;
  }
  store::ExpertStore& experts = streams() ? static_cast<store::ExpertStore&>(streamed_->store()) : all_experts_;
  Matrix<float> logits_TE = gate.logits(number, feed_forward_in.view());
  const size_t first_state = states_before_L1_[static_cast<size_t>(number)];
  const ExpertStates states(step.parts, first_state, states_before_L1_[static_cast<size_t>(number) + 1] - first_state);
  MoeOutput moe = moe_layer(compute_, spec().moe, w.moe, experts, number, feed_forward_in.view(), std::move(logits_TE), states, lossy_,
                            [&] {
    if (streams() && streamed_->wants_predictions()) expect_next(number, step, gate, x_TD.view());
  });
  momentum.turn(compute_.threads, moe.out_TD.view());
  add_to_stream(std::as_const(moe.out_TD).view(), x_TD.view());
  if (observe) observe(number, moe.routing);
}

// Tells the store which experts a layer with these logits will want: a chain's first iteration, of which it is known.
void Transformer::expect(int layer, Matrix<float> logits_TE, std::span<const StepPart> parts) {
  const MoeWeights& w = weights_.layers[static_cast<size_t>(layer)].moe;
  std::vector<store::Demand> demands = demands_of(route(spec().moe, w, layer, 0, logits_TE.view(), parts));
  std::ranges::stable_sort(demands, std::greater(), [](const store::Demand& d) { return std::pair(d.tokens, d.weight); });
  std::vector<int> experts;
  for (const store::Demand& demand : demands) experts.push_back(demand.expert);
  streamed_->store().expect(layer, experts);
}

// … and those that all layers from this one on will want, as far as that is certain.
void Transformer::expect_known(const Step& step, const StepGate& gate, int from) {
  for (int layer = from; layer < spec().num_layers; ++layer) {
    if (spec().feed_forward[layer] == spec::FeedForward::Moe && gate.knows(layer)) expect(layer, gate.known_logits(layer), step.parts);
  }
}

// … and the next layer: what its choice is, if that has been made; else going by what its gate makes of what this layer starts from,
// as what an MoE layer adds is little beside what it is added to.
void Transformer::expect_next(int number, const Step& step, const StepGate& gate, MatrixView<const float> x_TD) {
  int next = number + 1;
  while (next < spec().num_layers && spec().feed_forward[next] != spec::FeedForward::Moe) ++next;
  if (next == spec().num_layers) return;
  if (gate.knows(next)) return expect(next, gate.known_logits(next), step.parts);
  const LayerWeights& w = weights_.layers[next];
  expect(next, gate.likely_logits(next, norm(x_TD, w.feed_forward_norm).view()), {});
}

// Of the rows whose logits are wanted; hands out states on the way.
Matrix<float> Transformer::head(std::span<const Chunk> chunks, MatrixView<const float> x_TD) const {
  size_t rows = 0, end = 0;
  for (const Chunk& chunk : chunks) rows += chunk.logits;
  Matrix<float> wanted(rows, x_TD.cols());
  rows = 0;
  for (const Chunk& chunk : chunks) {
    if (chunk.states_TD != nullptr) *chunk.states_TD = norm(x_TD.middle_rows(end, chunk.tokens.size()), weights_.final_norm);
    end += chunk.tokens.size();
    for (size_t t = end - chunk.logits; t < end; ++t) std::ranges::copy(x_TD.row(t), wanted.row(rows++).begin());
  }
  const Matrix<float> normed_TD = norm(wanted.view(), weights_.final_norm);
  auto logits_TV = Matrix<float>::uninitialised(rows, weights_.head_VD.rows);
  if (rows == 0) return logits_TV;
  kernel::linear(compute_, normed_TD.view(), weights_.head_VD, logits_TV.view());
  for (size_t t = 0; t < logits_TV.rows(); ++t) {
    add(weights_.head_bias_V, logits_TV.row(t));
    if (spec().logit_scale == 1) continue;
    for (float& logit : logits_TV.row(t)) logit *= spec().logit_scale;
  }
  return logits_TV;
}

void Transformer::refuse_nans(MatrixView<const float> logits) const {
  const auto values = logits.flat();
  if (std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) return;
  const std::string tensor = find_broken_tensor(file_);
  require(tensor.empty(), "{}: tensor {} holds a NaN or an infinity; the model is broken", file_.path().string(), tensor);
  fail(ErrorKind::Input, "{}: the model's weights are finite but so large that its output overflows",
       file_.path().string());
}

Matrix<float> Transformer::forward(std::span<const Chunk> chunks, const RoutingObserver& observe) {
  if (streams()) {
    size_t tokens = 0, logits = 0;
    for (const Chunk& chunk : chunks) {
      tokens += chunk.tokens.size();
      logits += chunk.logits;
    }
    streamed_->make_room(tokens, logits);
  }
  Matrix<float> x_TD = embed(chunks);
  const Step step = make_step(spec().attention, frequencies_, chunks);
  StepGate gate(compute_, spec(), weights_, step, x_TD.view());
  LayerMomentum momentum(spec().moe.momentum);
  if (streams() && streamed_->wants_certainties()) expect_known(step, gate, 0);
  for (int number = 0; number < spec().num_layers; ++number) layer(number, step, gate, momentum, x_TD, observe);
  for (const Chunk& chunk : chunks) chunk.cache->advance(chunk.tokens.size());
  Matrix<float> logits = head(chunks, x_TD.view());
  refuse_nans(logits.view());
  return logits;
}

}  // namespace moiety::model
