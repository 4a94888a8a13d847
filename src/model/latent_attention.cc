#include "model/latent_attention.h"

#include <algorithm>
#include <new>

#include "base/bytes.h"
#include "format/elements.h"
#include "model/attend.h"
#include "model/elementwise.h"

namespace moiety::model {
namespace {

using kernel::Compute;
using spec::LatentSpec;

// [T, heads * (plain + rope)]
Matrix<float> queries(const Compute& compute, float norm_eps, const LatentWeights& w, const kernel::Projection& direct,
                      MatrixView<const float> x_TD) {
  if (w.query_down.empty()) {
    Matrix<float> query(x_TD.rows(), direct.rows);
    kernel::linear(compute, x_TD, direct, query.view());
    return query;
  }
  Matrix<float> small(x_TD.rows(), w.query_down.rows), query(x_TD.rows(), w.query_up.rows);
  kernel::linear(compute, x_TD, w.query_down, small.view());
  for (size_t t = 0; t < small.rows(); ++t) rms_norm(small.row(t), w.query_down_norm, norm_eps, small.row(t));
  kernel::linear(compute, small.view(), w.query_up, query.view());
  return query;
}

// Each head's columns of the tokens' rows through its own rows of `weight` [heads * out, in], into y.
void per_head(const Compute& compute, const kernel::WeightView& weight, size_t heads, std::span<const float* const> rows,
              size_t x_step, MatrixView<float> y, size_t y_step) {
  const size_t out = weight.rows / heads;
  compute.threads.parallel_for(heads, [&](size_t h) {
    std::vector<const float*> of_head(rows.begin(), rows.end());
    for (const float*& row : of_head) row += h * x_step;
    compute.kernels.linear(of_head.data(), of_head.size(), weight, h * out, out, y.data() + h * y_step, y.stride());
  });
}

// The first tokens of a part that belong to the prompt of fast arithmetic, or the others.
StepPart of_prompt(const Compute& compute, const StepPart& part, bool inside) {
  const size_t prompt = compute.arithmetic == kernel::Arithmetic::Fast ? part.cache->options().prompt : 0;
  const size_t count = prompt > part.first_position ? std::min(part.tokens, prompt - part.first_position) : 0;
  if (inside) return {part.cache, part.first_token, count, part.first_position};
  return {part.cache, part.first_token + count, part.tokens - count, part.first_position + count};
}

// What the two ways of one layer have in common.
struct Layer {
  const Compute& compute;
  const spec::AttentionSpec& spec;
  const LatentWeights& w;
  int number;
  AttendOptions options;

  size_t heads = static_cast<size_t>(spec.num_heads), rank = static_cast<size_t>(spec.latent->kv_rank);
  size_t plain = static_cast<size_t>(spec.latent->plain_dim), rope = static_cast<size_t>(spec.latent->rope_dim);
  size_t value_dim = static_cast<size_t>(spec.latent->value_dim);
};

// Queries carried into the latent's space, attention over latents, values out of what it gives.
void attend_absorbed(const Layer& l, std::span<const StepPart> parts, MatrixView<const float> query,
                     MatrixView<float> values) {
  if (parts.empty()) return;
  const size_t head_dim = l.plain + l.rope, key_dim = l.rank + l.rope;
  std::vector<const float*> query_rows;
  std::vector<AttendRun> runs;
  std::vector<size_t> tokens;
  for (const StepPart& part : parts) {
    runs.push_back({tokens.size(), part.tokens, part.first_position, part.cache->layer(l.number)});
    for (size_t i = 0; i < part.tokens; ++i) {
      tokens.push_back(part.first_token + i);
      query_rows.push_back(query.row(tokens.back()).data());
    }
  }

  Matrix<float> absorbed(tokens.size(), l.heads * key_dim), mixed(tokens.size(), l.heads * l.rank);
  per_head(l.compute, l.w.key_up, l.heads, query_rows, head_dim, absorbed.view(), key_dim);
  for (size_t t = 0; t < tokens.size(); ++t) {
    for (size_t h = 0; h < l.heads; ++h) {
      std::copy_n(query_rows[t] + h * head_dim + l.plain, l.rope, absorbed.row(t).data() + h * key_dim + l.rank);
    }
  }
  attend(l.compute, l.options, runs, std::as_const(absorbed).view(), mixed.view());

  std::vector<const float*> mixed_rows;
  for (size_t t = 0; t < tokens.size(); ++t) mixed_rows.push_back(mixed.row(t).data());
  Matrix<float> out(tokens.size(), l.heads * l.value_dim);
  per_head(l.compute, l.w.value_up, l.heads, mixed_rows, l.rank, out.view(), l.value_dim);
  for (size_t t = 0; t < tokens.size(); ++t) std::ranges::copy(out.row(t), values.row(tokens[t]).begin());
}

// key_up the other way around, [heads * plain, rank], packed: what makes keys of latents. Made when it is first needed.
const kernel::Projection& key_of_latent(const Layer& l) {
  kernel::Projection& turned = l.w.key_of_latent;
  if (!turned.empty()) return turned;
  Matrix<uint16_t> bits(l.heads * l.plain, l.rank);
  l.compute.threads.parallel_for(l.heads, [&](size_t h) {
    std::vector<float> row(l.plain);
    for (size_t r = 0; r < l.rank; ++r) {
      const size_t at = h * l.rank + r;
      format::row_to_floats(l.w.key_up.type, l.w.key_up.row(at), l.w.key_up.scales, at, row);
      for (size_t p = 0; p < l.plain; ++p) bits.row(h * l.plain + p)[r] = float_to_bf16(row[p]);
    }
  });
  const auto* bytes = reinterpret_cast<const std::byte*>(bits.flat().data());
  turned = kernel::WeightView{spec::ElementType::BF16, bytes, bits.rows(), l.rank, 2 * l.rank};
  const kernel::Projection* const one = &turned;
  kernel::pack(l.compute, {&one, 1});
  turned.data = nullptr;  // only what is packed stays
  return turned;
}

// Keys and values of every head for positions [0, count) of a sequence, out of its latents.
KvCache expand(const Layer& l, const KvHeads& latents, size_t count) {
  constexpr size_t kAtOnce = 512;
  // Eight bits are for what is kept; rounding once is enough.
  const kernel::KvType kept = latents.shape().type, type = kept == kernel::KvType::Q8 ? kernel::KvType::BF16 : kept;
  KvCache expanded({type, 1, l.heads, l.plain + l.rope, l.value_dim}, count);
  if (!expanded.reserve(count)) throw std::bad_alloc();
  const KvHeads kv = expanded.layer(0);
  for (size_t first = 0; first < count; first += kAtOnce) {
    const size_t positions = std::min(kAtOnce, count - first);
    auto latent = Matrix<float>::uninitialised(positions, l.rank + l.rope);
    l.compute.threads.parallel_for(positions, [&](size_t i) { latents.get_key(0, first + i, latent.row(i)); });

    auto keys = Matrix<float>::uninitialised(positions, l.heads * l.plain);
    auto values = Matrix<float>::uninitialised(positions, l.heads * l.value_dim);
    kernel::Activations rows(std::as_const(latent).view().middle_cols(0, l.rank));
    const kernel::Product products[] = {{key_of_latent(l), keys.view()}, {l.w.value_up, values.view()}};
    kernel::linear(l.compute, rows, products);

    // By group of positions, whose keys lie together
    const size_t groups = (positions + kernel::kKvLanes - 1) / kernel::kKvLanes;
    l.compute.threads.parallel_for(groups * l.heads, [&](size_t task) {
      const size_t h = task % l.heads, begin = task / l.heads * kernel::kKvLanes;
      std::vector<float> key(l.plain + l.rope);
      for (size_t i = begin; i < std::min(positions, begin + kernel::kKvLanes); ++i) {
        std::copy_n(keys.row(i).data() + h * l.plain, l.plain, key.begin());
        std::copy_n(latent.row(i).data() + l.rank, l.rope, key.begin() + static_cast<std::ptrdiff_t>(l.plain));
        kv.put(h, first + i, key, values.row(i).subspan(h * l.value_dim, l.value_dim));
      }
    });
  }
  return expanded;
}

// Attention as of many heads.
void attend_expanded(const Layer& l, std::span<const StepPart> parts, MatrixView<const float> query,
                     MatrixView<float> values) {
  for (const StepPart& part : parts) {
    const KvCache kv = expand(l, part.cache->layer(l.number), part.first_position + part.tokens);
    const AttendRun run{part.first_token, part.tokens, part.first_position, kv.layer(0)};
    attend(l.compute, l.options, {&run, 1}, query, values);
  }
}

}  // namespace

Matrix<float> latent_attention(const Compute& compute, const spec::AttentionSpec& spec, float norm_eps,
                               const AttentionWeights& weights, int layer, MatrixView<const float> x_TD,
                               const Step& step) {
  const LatentWeights& w = weights.latent;
  const AttendOptions options{static_cast<size_t>(spec.num_heads), static_cast<size_t>(spec.window(layer)), spec.scale(),
                              /*breaks_stick=*/false, weights.sinks_H};
  const Layer l{compute, spec, w, layer, options};
  const size_t tokens = x_TD.rows(), head_dim = l.plain + l.rope;

  // What is cached: the normed latent and the rotated key
  Matrix<float> key(tokens, l.rank + l.rope), query = queries(compute, norm_eps, w, weights.query, x_TD);
  kernel::linear(compute, x_TD, w.kv_down, key.view());
  for_each_token(compute, step, [&](const StepPart& part, size_t t, size_t position) {
    const auto turn = [&](std::span<float> numbers) {
      rotate(spec.rope.pairs, step.cos_TR.row(t), step.sin_TR.row(t), numbers);
    };
    const auto row = key.row(t);
    rms_norm(row.first(l.rank), w.kv_down_norm, norm_eps, row.first(l.rank));
    turn(row.subspan(l.rank));
    part.cache->layer(layer).put(0, position, row, row.first(l.rank));
    for (size_t h = 0; h < l.heads; ++h) turn(query.row(t).subspan(h * head_dim + l.plain, l.rope));
  });

  // Each query against the cache
  std::vector<StepPart> expanded, absorbed;
  for (const StepPart& part : step.parts) {
    for (const bool inside : {true, false}) {
      const StepPart some = of_prompt(compute, part, inside);
      if (some.tokens > 0) (inside ? expanded : absorbed).push_back(some);
    }
  }
  Matrix<float> values(tokens, l.heads * l.value_dim), out_TD(tokens, x_TD.cols());
  attend_expanded(l, expanded, std::as_const(query).view(), values.view());
  attend_absorbed(l, absorbed, std::as_const(query).view(), values.view());

  kernel::linear(compute, std::as_const(values).view(), weights.output, out_TD.view());
  for (size_t t = 0; t < tokens; ++t) add(weights.output_bias, out_TD.row(t));
  return out_TD;
}

}  // namespace moiety::model
