#include "format/synthetic.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "base/error.h"
#include "base/random.h"
#include "format/elements.h"
#include "format/families.h"
#include "format/gguf_config.h"

namespace moiety::format {
namespace {

using spec::AttentionSpec;
using spec::ElementType;
using spec::MoeSpec;
using spec::ModelSpec;
using spec::QkNorm;
using spec::Role;

// Longer than some published contexts, so that every shape can be measured at depth.
constexpr int kPositions = 32768;

ModelSpec sparse(const char* family, int layers, int width, int vocabulary, AttentionSpec attention, MoeSpec moe) {
  ModelSpec s{.family = family, .num_layers = layers, .width = width, .vocab_size = vocabulary, .max_positions = kPositions};
  s.attention = std::move(attention);
  s.moe = moe;
  s.feed_forward.assign(static_cast<size_t>(layers), spec::FeedForward::Moe);
  return s;
}

ModelSpec olmoe(int layers) {
  return sparse("olmoe", layers, 2048, 50304, {.num_heads = 16, .num_kv_heads = 16, .head_dim = 128, .qk_norm = QkNorm::Whole},
                {.router = {.num_experts = 64, .experts_per_token = 8, .renormalise = false}, .expert_hidden = 1024});
}

// For programs that don't know OLMoE: the same sizes, the norms and the router of Qwen3.
ModelSpec olmoe_as_qwen3moe(int layers) {
  ModelSpec s = olmoe(layers);
  s.family = "qwen3_moe";
  s.attention.qk_norm = QkNorm::PerHead;
  s.moe.router.renormalise = true;
  return s;
}

ModelSpec qwen3_moe(int layers) {
  return sparse("qwen3_moe", layers, 2048, 151936,
                {.num_heads = 32, .num_kv_heads = 4, .head_dim = 128, .qk_norm = QkNorm::PerHead, .rope = {.theta = 1e6f}},
                {.router = {.num_experts = 128, .experts_per_token = 8}, .expert_hidden = 768});
}

ModelSpec mixtral(int layers) {
  return sparse("mixtral", layers, 4096, 32000, {.num_heads = 32, .num_kv_heads = 8, .head_dim = 128, .rope = {.theta = 1e6f}},
                {.router = {.num_experts = 8, .experts_per_token = 2}, .expert_hidden = 14336});
}

ModelSpec deepseek_v2_lite(int layers) {
  AttentionSpec attention{.num_heads = 16, .num_kv_heads = 16, .head_dim = 192};
  attention.latent = spec::LatentSpec{.kv_rank = 512, .plain_dim = 128, .rope_dim = 64, .value_dim = 128};
  attention.rope.pairs = spec::RopePairs::Neighbours;
  attention.rope.scaling = {.kind = spec::RopeScalingKind::Yarn, .factor = 40, .original_positions = 4096};
  const float sharper = spec::yarn_amplitude(40, 0.707f);
  attention.score_scale = sharper * sharper / std::sqrt(192.0f);
  ModelSpec s = sparse("deepseek_v2", layers, 2048, 102400, attention,
                       {.router = {.num_experts = 64, .experts_per_token = 6, .renormalise = false},
                        .expert_hidden = 1408, .shared_hidden = 2 * 1408});
  s.dense_hidden = 10944;
  s.feed_forward[0] = spec::FeedForward::Dense;
  return s;
}

ModelSpec gpt_oss(int layers) {
  AttentionSpec attention{.num_heads = 64, .num_kv_heads = 8, .head_dim = 64, .qkv_bias = true, .output_bias = true, .sinks = true};
  attention.rope.theta = 150000;
  attention.rope.scaling = {.kind = spec::RopeScalingKind::Yarn, .factor = 32, .original_positions = 4096, .truncate = false};
  attention.rope.scaling.amplitude = attention.rope.scaling.long_amplitude = spec::yarn_amplitude(32);
  attention.sliding_window = 128;
  for (int layer = 0; layer < layers; ++layer) attention.windowed.push_back(layer % 2 == 0);
  return sparse("gpt_oss", layers, 2880, 201088, attention,
                {.router = {.num_experts = 32, .experts_per_token = 4}, .router_bias = true, .expert_hidden = 2880,
                 .expert_bias = true, .activation = spec::Activation::ClampedSwiGlu});
}

constexpr Shape kShapes[] = {
    {"olmoe-1b-7b", "Q4_K_M", 16, 16, olmoe},
    {"olmoe-as-qwen3moe", "Q4_K_M", 16, 16, olmoe_as_qwen3moe},
    {"qwen3-30b-a3b", "Q4_K_M", 12, 48, qwen3_moe},
    {"mixtral-8x7b", "Q4_K_M", 4, 32, mixtral},
    {"deepseek-v2-lite", "Q4_K_M", 27, 27, deepseek_v2_lite},  // llama.cpp knows it by its 27 layers
    {"gpt-oss-20b", "MXFP4_MOE", 12, 24, gpt_oss},
};

// How the numbers of a weight are spread: so that activations stay near one from layer to layer, and a token is told from
// its neighbours by its own embedding more than by what attention mixes in from all.
struct Spread {
  double mean = 0, deviation = 0.02;
  auto operator<=>(const Spread&) const = default;
};

// How many blocks make about a million elements: a prime.
size_t blocks_of_a_million(size_t block_elements) {
  return block_elements == 1 ? 1048573 : block_elements == 32 ? 32749 : 4093;
}

// Random numbers in blocks of one type, encoded once and cut out again and again: gigabytes of weights are written at the
// speed of the disk. The number of blocks is prime and each tensor begins elsewhere, so that no two experts are alike.
class Pool {
 public:
  Pool(ElementType type, Spread spread) : type_(type), block_(spec::info(type).block_elements) {
    std::vector<float> values(block_ * blocks_of_a_million(block_));
    for (float& value : values) value = static_cast<float>(spread.mean + spread.deviation * random_.normal());
    bytes_.resize(spec::bytes_of(type, values.size()));
    from_floats(type, values, bytes_);
  }

  std::vector<TensorView> parts(size_t elements) {
    const size_t all = bytes_.size() / spec::info(type_).block_bytes;
    size_t block = random_.below(all);
    std::vector<TensorView> parts;
    for (size_t left = elements / block_; left > 0;) {
      const size_t count = std::min(left, all - block);
      const auto bytes = std::span(bytes_).subspan(block * spec::info(type_).block_bytes, count * spec::info(type_).block_bytes);
      parts.push_back({"random", type_, {static_cast<int64_t>(count * block_)}, bytes});
      left -= count;
      block = 0;
    }
    return parts;
  }

 private:
  ElementType type_;
  size_t block_;
  Random random_{1};
  std::vector<std::byte> bytes_;
};

Spread spread_of(Role role) {
  switch (role) {
    case Role::Embedding:
      return {.deviation = 1};
    case Role::FinalNorm:
    case Role::AttentionNorm:
    case Role::QueryNorm:
    case Role::KeyNorm:
    case Role::QueryDownNorm:
    case Role::KvDownNorm:
    case Role::FeedForwardNorm:
      return {.mean = 1};
    default:
      return {};
  }
}

// The numbers of a tensor that skewed routing comes from, as pieces to be made; none of any other. `skewed` must outlive them.
std::vector<std::function<std::vector<float>()>> skewed_pieces(const ModelSpec& spec, const SkewedRouting& skewed,
                                                               const spec::Weight& weight) {
  constexpr int kRows = 4096;
  std::vector<std::function<std::vector<float>()>> pieces;
  if (weight.role == Role::Router) pieces.push_back([&skewed, weight] { return skewed.router(weight.layer); });
  if (weight.role == Role::Embedding) {
    for (int begin = 0; begin < spec.vocab_size; begin += kRows) {
      const int end = std::min(spec.vocab_size, begin + kRows);
      pieces.push_back([&skewed, begin, end] { return skewed.embedding(begin, end); });
    }
  }
  return pieces;
}

}  // namespace

std::span<const Shape> shapes() { return kShapes; }

const Shape* shape_named(std::string_view name) {
  for (const Shape& shape : kShapes) {
    if (shape.name == name) return &shape;
  }
  return nullptr;
}

void write_synthetic(const fs::path& path, const ModelSpec& spec, const Mix& mix, SyntheticRouting routing,
                     const std::function<void(size_t bytes, size_t all)>& written) {
  const Family& family = closest_family(spec, FileKind::Gguf);
  GgufMetadata metadata;
  metadata.where = path.string();
  add_gguf_config(spec, family, mix.type, path.stem().string(), metadata);
  metadata.set("general.file_type", mix.file_type);
  metadata.set("tokenizer.ggml.model", std::string("none"));

  const std::vector<spec::Weight> weights = spec::weights_of(spec, false);
  std::vector<TensorSource> tensors;
  for (const spec::Weight& weight : weights) {
    const WeightName& row = *family.gguf.names.rows(weight.role).front();
    TensorSource& tensor = tensors.emplace_back();
    tensor.name = name_of(row, weight);
    tensor.shape = stored_shape(spec, weight.role, row.layout);
    if (spec::is_expert(weight.role)) tensor.shape.insert(tensor.shape.begin(), spec.moe.router.num_experts);
  }
  choose_types(mix, {}, spec, tensors);

  std::optional<SkewedRouting> skewed;
  if (routing == SyntheticRouting::Skewed) skewed.emplace(spec);
  std::map<std::pair<ElementType, Spread>, Pool> pools;
  size_t all = 0, done = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    TensorSource& tensor = tensors[i];
    const Spread spread = spread_of(weights[i].role);
    if (skewed) tensor.made = skewed_pieces(spec, *skewed, weights[i]);
    if (tensor.made.empty()) {
      tensor.parts = pools.try_emplace({tensor.type, spread}, tensor.type, spread).first->second.parts(tensor.elements());
    }
    all += spec::bytes_of(tensor.type, tensor.elements());
  }
  write_gguf(path, metadata, tensors, [&](AtomicFile& file, const TensorSource& tensor) {
    for (const TensorView& part : tensor.parts) file.write(part.bytes);
    if (!tensor.made.empty()) write_elements(file, tensor);
    done += spec::bytes_of(tensor.type, tensor.elements());
    if (written) written(done, all);
  });
}

}  // namespace moiety::format
