#include "upcycle/made_model.h"

#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "format/convert.h"
#include "format/elements.h"
#include "format/weight_names.h"
#include "spec/expert_kind.h"

namespace moiety::upcycle {
namespace {

using spec::Role;
using spec::RopePairs;
using spec::Weight;

std::vector<float> in_order(const std::vector<float>& values, const std::vector<int64_t>& rows) {
  const size_t cols = values.size() / rows.size();
  std::vector<float> out;
  out.reserve(values.size());
  for (const int64_t row : rows) {
    const auto begin = values.begin() + row * static_cast<int64_t>(cols);
    out.insert(out.end(), begin, begin + static_cast<int64_t>(cols));
  }
  return out;
}

}  // namespace

MadeModel model_of(const format::ModelFile& file) {
  MadeModel model{.spec = file.spec()};
  model.spec.family = "moiety";
  const spec::AttentionSpec& attention = file.spec().attention;
  const RopePairs pairs = attention.rope.pairs;
  const bool turn = !attention.latent && pairs != RopePairs::Halves;
  require(!turn || attention.qk_norm == spec::QkNorm::None,
          "{}: norms of queries whose neighbours are turned in pairs are not supported", file.path().string());
  if (turn) model.spec.attention.rope.pairs = RopePairs::Halves;

  // Copies of a weight are asked for one after the other: the last one is kept.
  struct Last {
    Weight weight;
    std::vector<float> values;
  };
  model.make = [&file, turn, pairs, last = std::make_shared<Last>()](const Weight& weight) {
    const bool known = !last->values.empty() && last->weight.role == weight.role && last->weight.layer == weight.layer &&
                       last->weight.expert == weight.expert;
    if (known) return last->values;
    format::OwnedBytes owned;
    std::vector<float> values = format::to_floats(file.weight(weight, owned));
    if (turn && format::is_rotated(weight.role)) {
      const spec::AttentionSpec& a = file.spec().attention;
      const int64_t heads = weight.role == Role::Query || weight.role == Role::QueryBias ? a.num_heads : a.num_kv_heads;
      values = in_order(values, format::row_order(heads * a.head_dim, a.head_dim, a.rope_dim(), pairs, RopePairs::Halves));
    }
    *last = {weight, values};
    return values;
  };
  return model;
}

std::vector<format::TensorSource> tensors_of(const MadeModel& model) {
  std::vector<format::TensorSource> tensors;
  for (const Weight& weight : spec::weights_of(model.spec, false)) {
    format::TensorSource& tensor = tensors.emplace_back();
    tensor.name = format::our_name(weight);
    tensor.shape = spec::shape_of(model.spec, weight.role, weight.layer);
    if (!spec::is_expert(weight.role)) {
      tensor.made.push_back([&model, weight] { return model.make(weight); });
      continue;
    }
    const int experts = spec::experts_with(model.spec, weight.layer, weight.role);
    tensor.shape.insert(tensor.shape.begin(), experts);
    for (int expert = 0; expert < experts; ++expert) {
      tensor.made.push_back([&model, one = Weight{weight.role, weight.layer, expert}] { return model.make(one); });
    }
  }
  return tensors;
}

void write_model(const MadeModel& model, const fs::path& folder, const std::function<void(size_t elements)>& written) {
  std::vector<format::TensorSource> tensors = tensors_of(model);
  for (format::TensorSource& tensor : tensors) {
    for (auto& make : tensor.made) {
      make = [make, &written] {
        std::vector<float> values = make();
        if (written) written(values.size());
        return values;
      };
    }
  }
  format::write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
  write_file(folder / "config.json", spec::to_json(model.spec).dump(2) + "\n");
  write_file(folder / "generation_config.json", Json{{"eos_token_id", model.spec.eos_tokens}}.dump(2) + "\n");
}

}  // namespace moiety::upcycle
