#include "upcycle/width.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "upcycle/matrices.h"

namespace moiety::upcycle {
namespace {

using spec::ModelSpec;
using spec::Role;
using spec::Weight;

// One dimension of a model's matrices, grown: which old neuron each new one is a copy of, and how many copies that has.
struct Axis {
  std::vector<int> source;
  std::vector<int> copies;  // of source[i], by i
  size_t old_size = 0;

  size_t size() const { return source.size(); }
  bool grows() const { return size() > old_size; }
};

// The old ones stay where they are; then come copies of all in a random order, again and again.
Axis grow(int from, int to, uint64_t seed, uint64_t stream) {
  Axis axis{.old_size = static_cast<size_t>(from)};
  axis.source.resize(static_cast<size_t>(from));
  std::iota(axis.source.begin(), axis.source.end(), 0);
  std::vector<int> order = axis.source;
  Random random(seed, stream);
  while (static_cast<int>(axis.source.size()) < to) {
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
    const size_t count = std::min(order.size(), static_cast<size_t>(to) - axis.source.size());
    axis.source.insert(axis.source.end(), order.begin(), order.begin() + static_cast<ptrdiff_t>(count));
  }
  std::vector<int> counts(static_cast<size_t>(from));
  for (const int source : axis.source) ++counts[static_cast<size_t>(source)];
  for (const int source : axis.source) axis.copies.push_back(counts[static_cast<size_t>(source)]);
  return axis;
}

// Every neuron of `axis` is so many of this one.
Axis times(const Axis& axis, int each) {
  Axis fine{.old_size = axis.old_size * static_cast<size_t>(each)};
  for (size_t i = 0; i < axis.size(); ++i) {
    for (int k = 0; k < each; ++k) {
      fine.source.push_back(axis.source[i] * each + k);
      fine.copies.push_back(axis.copies[i]);
    }
  }
  return fine;
}

enum class Along { Fixed, Stream, Hidden, Heads, Queries, Keys };
enum class Use {
  Written,   // each entry makes one neuron
  Read,      // each entry reads one neuron
  Norm,      // each entry scales one neuron of the stream after its norm
  HeadNorm,  // the same of all heads' queries or keys, which are copied whole
};
struct Side {
  Along along = Along::Fixed;
  Use use = Use::Written;
};
// Rows and columns of a matrix; a vector is one column.
struct Sides {
  Side rows, cols;
};

Sides sides_of(Role role, const ModelSpec& spec) {
  constexpr Side kFixed, kReadsStream{Along::Stream, Use::Read}, kWritesStream{Along::Stream, Use::Written};
  constexpr Side kHidden{Along::Hidden, Use::Written}, kReadsHidden{Along::Hidden, Use::Read};
  constexpr Side kQueries{Along::Queries, Use::Written}, kKeys{Along::Keys, Use::Written};
  const bool whole = spec.attention.qk_norm == spec::QkNorm::Whole;
  switch (role) {
    case Role::Embedding:
      return {kFixed, kWritesStream};
    case Role::Head:
    case Role::Router:
    case Role::SharedScale:
    case Role::SharedGate:
    case Role::SharedUp:
    case Role::ExpertGate:
    case Role::ExpertUp:
      return {kFixed, kReadsStream};
    case Role::SharedDown:
    case Role::ExpertDown:
    case Role::AttentionOutputBias:
    case Role::ExpertDownBias:
      return {kWritesStream, kFixed};
    case Role::AttentionNorm:
    case Role::FeedForwardNorm:
    case Role::FinalNorm:
      return {{Along::Stream, Use::Norm}, kFixed};
    case Role::Query:
      return {kQueries, kReadsStream};
    case Role::Key:
    case Role::Value:
      return {kKeys, kReadsStream};
    case Role::QueryBias:
      return {kQueries, kFixed};
    case Role::KeyBias:
    case Role::ValueBias:
      return {kKeys, kFixed};
    case Role::QueryNorm:
      return {whole ? Side{Along::Queries, Use::HeadNorm} : kFixed, kFixed};
    case Role::KeyNorm:
      return {whole ? Side{Along::Keys, Use::HeadNorm} : kFixed, kFixed};
    case Role::Sinks:
      return {{Along::Heads, Use::Written}, kFixed};
    case Role::AttentionOutput:
      return {kWritesStream, {Along::Queries, Use::Read}};
    case Role::DenseGate:
    case Role::DenseUp:
      return {kHidden, kReadsStream};
    case Role::DenseDown:
      return {kWritesStream, kReadsHidden};
    case Role::HeadBias:
    case Role::RouterBias:
    case Role::SelectionBias:
    case Role::ExpertGateBias:
    case Role::ExpertUpBias:
      return {};
    default:
      fail(ErrorKind::Input,
           "the model has weights that growing in width doesn't know (latent attention, a layer norm, GRU experts or another gate "
           "than a linear one)");
  }
}

int grown(const char* what, int from, int to) {
  require(to == 0 || to >= from, "{} is {}, more than the {} that it is to grow to", what, from, to);
  return to == 0 ? from : to;
}

class Wider {
 public:
  Wider(MadeModel model, const Width& how) : model_(std::move(model)), how_(how), spec_(model_.spec) {
    const ModelSpec& old = model_.spec;
    require(old.moe.expert_width == 0, "the experts have a width of their own: growing in width doesn't know that");
    for (const Weight& weight : spec::weights_of(old, false)) sides_of(weight.role, old);  // knows them all
    const spec::AttentionSpec& a = old.attention;
    const int group = a.num_heads / a.num_kv_heads;
    spec_.width = grown("the model's width", old.width, how.width);
    spec_.attention.num_kv_heads = grown("the number of key-value heads", a.num_kv_heads, how.kv_heads);
    spec_.attention.num_heads = group * spec_.attention.num_kv_heads;
    stream_ = grow(old.width, spec_.width, how.seed, 0);
    const Axis kv_heads = grow(a.num_kv_heads, spec_.attention.num_kv_heads, how.seed, 1);
    heads_ = times(kv_heads, group);
    keys_ = times(kv_heads, a.head_dim);
    queries_ = times(kv_heads, group * a.head_dim);
    if (old.moe_layers() < old.num_layers) {
      spec_.dense_hidden = grown("the hidden width", old.dense_hidden, how.dense_hidden);
      hidden_ = grow(old.dense_hidden, spec_.dense_hidden, how.seed, 2);
    } else {
      require(how.dense_hidden == 0, "no layer is dense: there is no hidden width that could grow");
    }
    // The mean of squares is over more numbers and as long a stream.
    spec_.norm_eps = old.norm_eps * static_cast<float>(old.width) / static_cast<float>(spec_.width);
    spec_.attention.score_scale = a.score_scale;
    spec::check(spec_, "the wider model");
  }

  const ModelSpec& spec() const { return spec_; }

  std::vector<float> make(const Weight& weight) const {
    const Sides sides = sides_of(weight.role, spec_);
    const Axis* rows = axis(sides.rows.along);
    const Axis* cols = axis(sides.cols.along);
    std::vector<float> values = model_.make(weight);
    if (rows != nullptr) values = with_rows(weight, sides, *rows, std::move(values));
    if (cols != nullptr) values = with_cols(weight, sides.cols, *cols, values);
    return values;
  }

 private:
  const Axis* axis(Along along) const {
    const Axis* axis = along == Along::Stream    ? &stream_
                       : along == Along::Hidden  ? &hidden_
                       : along == Along::Heads   ? &heads_
                       : along == Along::Queries ? &queries_
                       : along == Along::Keys    ? &keys_
                                                 : nullptr;
    return axis != nullptr && axis->grows() ? axis : nullptr;
  }

  // What an entry is multiplied by. Written and read again, a neuron of the stream with c copies gives c / sqrt(c)^2 of itself,
  // one of the others c / c.
  float factor(const Side& side, const Axis& axis, size_t i) const {
    const float copies = static_cast<float>(axis.copies[i]);
    const float share = static_cast<float>(axis.old_size) / static_cast<float>(axis.size());
    switch (side.use) {
      case Use::Written:
        return side.along == Along::Stream ? 1 / std::sqrt(copies) : whole_norm(side.along) ? 1 / std::sqrt(copies) : 1;
      case Use::Read:
        return side.along == Along::Stream ? 1 / std::sqrt(copies) : 1 / copies;
      case Use::Norm:
        return std::sqrt(share);
      case Use::HeadNorm:
        return std::sqrt(share * copies);
    }
    return 1;
  }
  // Of queries and keys: a norm over all heads makes them as long as they were.
  bool whole_norm(Along along) const {
    return (along == Along::Queries || along == Along::Keys) && spec_.attention.qk_norm == spec::QkNorm::Whole;
  }

  std::vector<float> with_rows(const Weight& weight, const Sides& sides, const Axis& axis, std::vector<float> values) const {
    const size_t cols = values.size() / axis.old_size;
    const bool is_value = weight.role == Role::Value || weight.role == Role::ValueBias;
    std::vector<float> out = rows_of(values, cols, axis.source);
    if (how_.neurons == NewNeurons::NextLayer && sides.rows.use == Use::Written && next_has(weight)) {
      values = model_.make({weight.role, weight.layer + 1, weight.expert});
      const std::vector<float> next = rows_of(values, cols, axis.source);
      std::copy(next.begin() + static_cast<ptrdiff_t>(axis.old_size * cols), next.end(),
                out.begin() + static_cast<ptrdiff_t>(axis.old_size * cols));
    }
    for (size_t i = 0; i < axis.size(); ++i) {
      const float by = is_value ? 1 : factor(sides.rows, axis, i);
      for (float& x : std::span(out).subspan(i * cols, cols)) x *= by;
    }
    return out;
  }

  bool next_has(const Weight& weight) const {
    const auto& kinds = spec_.feed_forward;
    const size_t next = static_cast<size_t>(weight.layer) + 1;
    return weight.layer >= 0 && next < kinds.size() && kinds[next] == kinds[next - 1];
  }

  std::vector<float> with_cols(const Weight& weight, const Side& side, const Axis& axis, const std::vector<float>& values) const {
    std::vector<float> out = cols_of(values, axis.old_size, axis.source);
    for (size_t begin = 0; begin < out.size(); begin += axis.size()) {
      for (size_t i = 0; i < axis.size(); ++i) out[begin + i] *= factor(side, axis, i);
    }
    if (side.use == Use::Read && how_.noise > 0) part_copies(weight, axis, out);
    return out;
  }

  // Noise on the columns that read copies of one neuron, whose sum over them is zero.
  void part_copies(const Weight& weight, const Axis& axis, std::vector<float>& matrix) const {
    const double deviation = how_.noise * root_mean_square(matrix);
    const uint64_t layer = static_cast<uint64_t>(weight.layer + 1), expert = static_cast<uint64_t>(weight.expert + 1);
    Random random(how_.seed, ((layer * 256 + static_cast<uint64_t>(weight.role)) * 65537 + expert) * 4 + 3);
    std::vector<double> noise(axis.size()), sum(axis.old_size);
    for (size_t begin = 0; begin < matrix.size(); begin += axis.size()) {
      std::ranges::fill(sum, 0);
      for (size_t i = 0; i < axis.size(); ++i) {
        noise[i] = axis.copies[i] > 1 ? deviation * random.normal() : 0;
        sum[static_cast<size_t>(axis.source[i])] += noise[i];
      }
      for (size_t i = 0; i < axis.size(); ++i) {
        matrix[begin + i] += static_cast<float>(noise[i] - sum[static_cast<size_t>(axis.source[i])] / axis.copies[i]);
      }
    }
  }

  MadeModel model_;
  Width how_;
  ModelSpec spec_;
  Axis stream_, hidden_, heads_, queries_, keys_;
};

}  // namespace

MadeModel grow_width(MadeModel model, const Width& how) {
  const auto wider = std::make_shared<const Wider>(std::move(model), how);
  return {wider->spec(), [wider](const Weight& weight) { return wider->make(weight); }};
}

}  // namespace moiety::upcycle
