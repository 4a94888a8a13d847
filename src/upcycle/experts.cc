#include "upcycle/experts.h"

#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "base/random.h"
#include "upcycle/matrices.h"

namespace moiety::upcycle {
namespace {

using spec::FeedForward;
using spec::ModelSpec;
using spec::Role;
using spec::Weight;

constexpr int kUsualCopies = 8;

void check_sources(const std::vector<MadeModel>& models) {
  const ModelSpec& first = models.front().spec;
  require(first.moe_layers() == 0, "the model has experts already; what becomes experts are the feed-forwards of a dense one");
  for (const MadeModel& model : models) {
    ModelSpec spec = model.spec;
    // These may differ: they say nothing of the weights.
    spec.max_positions = first.max_positions, spec.bos_token = first.bos_token, spec.eos_tokens = first.eos_tokens;
    spec.moe = first.moe;  // of no layer
    const Json found = spec::to_json(spec), wanted = spec::to_json(first);
    for (const auto& [key, value] : wanted.items()) {
      require(found.at(key) == value, "the models don't fit each other: \"{}\" is {} in the first and {} in another", key,
              value.dump(), found.at(key).dump());
    }
  }
}

// How much of the dense output comes back when a token's experts have equal scores: what their weights must be scaled up by.
double scale_of(const spec::RouterRule& rule, int parts) {
  if (rule.renormalise) return parts / static_cast<double>(rule.scale);
  const double score = rule.score == spec::Score::Softmax ? 1.0 / rule.num_experts : 0.5;
  return parts / (score * rule.experts_per_token * static_cast<double>(rule.scale));
}

ModelSpec spec_of(const std::vector<MadeModel>& models, const Copies& how) {
  ModelSpec s = models.front().spec;
  const int sources = static_cast<int>(models.size());
  const int copies = how.copies > 0 ? how.copies : sources == 1 ? kUsualCopies : sources;
  require(copies % sources == 0, "{} copies can't be made evenly of {} models", copies, sources);
  require(how.parts > 0 && s.dense_hidden % how.parts == 0, "a feed-forward of {} hidden units can't be divided into {} experts",
          s.dense_hidden, how.parts);
  const int per_token = how.experts_per_token > 0 ? how.experts_per_token : std::min(copies, 2) * how.parts;
  require(per_token <= copies * how.parts, "{} experts per token, of {} copies in {} parts", per_token, copies, how.parts);
  s.moe = {.router = {.num_experts = copies * how.parts,
                      .experts_per_token = per_token,
                      .gate = how.gate.kind,
                      .gate_width = how.gate.width,
                      .score = how.score,
                      .renormalise = how.renormalise},
           .ternary_experts = how.ternary,
           .expert_hidden = s.dense_hidden / how.parts,
           .shared_hidden = how.keep_dense ? s.dense_hidden : 0};
  if (const int taken = how.attention_experts_per_token; taken > 0) {
    require(sources > 1, "attention becomes experts where there are several models, one of each");
    require(taken <= sources, "{} attention experts per token, of {}", taken, sources);
    s.attention.experts = spec::AttentionExperts{sources, taken};
    s.attention.num_heads *= taken;
  }
  require(how.dense_layers < s.num_layers && how.every >= 1, "{} layers stay dense, of {}", how.dense_layers, s.num_layers);
  for (int layer = how.dense_layers; layer < s.num_layers; ++layer) {
    const bool is_sparse = (layer - how.dense_layers) % how.every == how.every - 1;
    if (is_sparse) s.feed_forward[static_cast<size_t>(layer)] = FeedForward::Moe;
  }
  require(s.moe_layers() > 0, "no layer gets experts: the first {} of {} stay dense, and all but every {}th", how.dense_layers,
          s.num_layers, how.every);
  spec::check(s, "the mixture");
  return s;
}

class Mixture {
 public:
  Mixture(std::vector<MadeModel> models, const Copies& how, const ModelSpec& spec)
      : models_(std::move(models)), how_(how), spec_(spec), scale_(std::sqrt(scale_of(spec.moe.router, how.parts))) {}

  std::vector<float> make(const Weight& weight) const {
    if (auto own = router_weight(spec_, weight, how_.gate, how_.parts, how_.seed)) return std::move(*own);
    switch (weight.role) {
      case Role::ExpertGate:
      case Role::ExpertUp:
      case Role::ExpertDown:
        return with_noise(weight, expert(weight));
      case Role::AttentionExpertQuery:
        return stack(Role::Query, weight.layer);
      case Role::AttentionExpertOutput:
        return stack(Role::AttentionOutput, weight.layer);
      case Role::SharedGate:
        return mean({Role::DenseGate, weight.layer});
      case Role::SharedUp:
        return mean({Role::DenseUp, weight.layer});
      case Role::SharedDown:
        return mean({Role::DenseDown, weight.layer});
      default:
        return mean(weight);
    }
  }

 private:
  std::vector<float> mean(const Weight& weight) const {
    std::vector<float> sum = models_[0].make(weight);
    if (models_.size() == 1) return sum;
    for (size_t m = 1; m < models_.size(); ++m) {
      const std::vector<float> other = models_[m].make(weight);
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += other[i];
    }
    for (float& x : sum) x /= static_cast<float>(models_.size());
    return sum;
  }

  // One model's matrix after the other's.
  std::vector<float> stack(Role role, int layer) const {
    std::vector<float> all;
    for (const MadeModel& model : models_) {
      const std::vector<float> one = model.make({role, layer});
      all.insert(all.end(), one.begin(), one.end());
    }
    return all;
  }

  std::vector<float> expert(const Weight& weight) const {
    const size_t hidden = static_cast<size_t>(spec_.moe.expert_hidden), width = static_cast<size_t>(spec_.width);
    const int copy = weight.expert / how_.parts;
    const size_t begin = static_cast<size_t>(weight.expert % how_.parts) * hidden;
    const MadeModel& model = models_[static_cast<size_t>(copy) % models_.size()];
    if (weight.role == Role::ExpertDown) {
      if (how_.keep_dense) return std::vector<float>(width * hidden);
      return scaled(cols_of(model.make({Role::DenseDown, weight.layer}), static_cast<size_t>(spec_.dense_hidden), begin, hidden),
                    scale_);
    }
    const bool is_gate = weight.role == Role::ExpertGate;
    std::vector<float> rows =
        rows_of(model.make({is_gate ? Role::DenseGate : Role::DenseUp, weight.layer}), width, begin, hidden);
    return is_gate ? rows : scaled(std::move(rows), scale_);
  }

  // A stream of random numbers for each matrix.
  std::vector<float> with_noise(const Weight& weight, std::vector<float> values) const {
    if (how_.noise == 0) return values;
    const uint64_t role = static_cast<uint64_t>(weight.role) - static_cast<uint64_t>(Role::ExpertGate);
    const uint64_t layer = static_cast<uint64_t>(weight.layer), experts = static_cast<uint64_t>(spec_.moe.router.num_experts);
    Random random(how_.seed, (1 + role + 3 * (layer * experts + static_cast<uint64_t>(weight.expert))) << 40);
    const double deviation = how_.noise * root_mean_square(values);
    for (float& x : values) x += static_cast<float>(deviation * random.normal());
    return values;
  }

  std::vector<MadeModel> models_;
  Copies how_;
  ModelSpec spec_;
  float scale_;  // of up's rows and of down's columns
};

}  // namespace

MadeModel mix_experts(std::vector<MadeModel> models, const Copies& how) {
  assert(!models.empty());
  check_sources(models);
  const ModelSpec spec = spec_of(models, how);
  const auto mixture = std::make_shared<const Mixture>(std::move(models), how, spec);
  return {spec, [mixture](const Weight& weight) { return mixture->make(weight); }};
}

bool mixing_preserves(const MadeModel& mixture, size_t models, const Copies& how) {
  if (models != 1) return false;
  if (how.keep_dense) return true;  // noise is a share of nothing where it would be heard
  return how.noise == 0 && !how.ternary && how.renormalise && mixture.spec.moe.router.experts_per_token % how.parts == 0;
}

}  // namespace moiety::upcycle
