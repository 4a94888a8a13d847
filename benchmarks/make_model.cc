// Writes a model with random weights in a published shape, to measure with: its routing is close to uniform.
#include <fmt/core.h>

#include <cstring>

#include "base/random.h"
#include "format/families.h"
#include "format/gguf_config.h"
#include "spec/weight.h"

namespace {

using namespace moiety;

struct Shape {
  const char* name;
  spec::ModelSpec spec;
};

spec::ModelSpec sparse(const char* family, int layers, int width, int vocabulary, spec::AttentionSpec attention,
                       spec::MoeSpec moe) {
  spec::ModelSpec s{.family = family, .num_layers = layers, .width = width, .vocab_size = vocabulary, .max_positions = 4096};
  s.attention = attention;
  s.moe = moe;
  s.feed_forward.assign(static_cast<size_t>(layers), spec::FeedForward::Moe);
  return s;
}

std::vector<Shape> shapes() {
  using spec::QkNorm;
  const spec::AttentionSpec olmoe{.num_heads = 16, .num_kv_heads = 16, .head_dim = 128, .qk_norm = QkNorm::Whole};
  const spec::AttentionSpec qwen{.num_heads = 32, .num_kv_heads = 4, .head_dim = 128, .qk_norm = QkNorm::PerHead};
  return {
      {"olmoe", sparse("olmoe", 16, 2048, 50304, olmoe,
                       {.router = {.num_experts = 64, .experts_per_token = 8, .renormalise = false}, .expert_hidden = 1024})},
      {"olmoe-4", sparse("olmoe", 4, 2048, 50304, olmoe,
                         {.router = {.num_experts = 64, .experts_per_token = 8, .renormalise = false}, .expert_hidden = 1024})},
      {"qwen3-moe-12", sparse("qwen3_moe", 12, 2048, 151936, qwen,
                              {.router = {.num_experts = 128, .experts_per_token = 8}, .expert_hidden = 768})},
  };
}

// Every tensor is cut out of one pool of random numbers, so that writing gigabytes needs little memory.
class Pool {
 public:
  Pool() : values_(size_t{1} << 24) {
    Random random(1);
    for (float& value : values_) value = static_cast<float>(random.normal()) * 0.02f;
  }
  std::vector<format::TensorView> parts(size_t elements, size_t cols) {
    std::vector<format::TensorView> parts;
    const size_t most = values_.size() / cols * cols;
    for (size_t done = 0; done < elements; done += parts.back().bytes.size() / sizeof(float)) {
      const size_t count = std::min(most, elements - done);
      parts.push_back({"pool", spec::ElementType::F32, {static_cast<int64_t>(count)},
                       std::as_bytes(std::span(values_).first(count))});
    }
    return parts;
  }

 private:
  std::vector<float> values_;
};

int run(const std::string& name, const std::string& out, spec::ElementType type) {
  for (const Shape& shape : shapes()) {
    if (shape.name != name) continue;
    const format::Family& family = format::closest_family(shape.spec, format::FileKind::Gguf);
    format::GgufMetadata metadata;
    format::add_gguf_config(shape.spec, family, type, name, metadata);
    Pool pool;
    std::vector<format::TensorSource> tensors;
    for (const spec::Weight& weight : spec::weights_of(shape.spec, false)) {
      format::TensorSource tensor;
      tensor.name = format::name_of(*family.gguf.names.rows(weight.role).front(), weight);
      tensor.shape = spec::shape_of(shape.spec, weight.role);
      if (spec::is_expert(weight.role)) tensor.shape.insert(tensor.shape.begin(), shape.spec.moe.router.num_experts);
      tensor.type = tensor.shape.size() == 1 || weight.role == spec::Role::Router ? spec::ElementType::F32 : type;
      tensor.parts = pool.parts(tensor.elements(), static_cast<size_t>(tensor.shape.back()));
      tensors.push_back(std::move(tensor));
    }
    format::write_gguf(out, metadata, tensors);
    return 0;
  }
  fail(ErrorKind::Usage, "no shape \"{}\"", name);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const auto type = argc == 4 ? spec::from_name(argv[3]) : std::nullopt;
    if (!type) fail(ErrorKind::Usage, "usage: make_model SHAPE OUT.gguf F32|F16|BF16|Q8_0");
    return run(argv[1], argv[2], *type);
  } catch (const std::exception& error) {
    fmt::print(stderr, "make_model: {}\n", error.what());
    for (const Shape& shape : shapes()) fmt::print(stderr, "  shape {}\n", shape.name);
    return 1;
  }
}
