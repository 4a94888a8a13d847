// Whole model folders that lie, and conversion that must not change a number.
#include "format/model_file.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "base/random.h"
#include "format/convert.h"
#include "format/elements.h"
#include "format/gguf_config.h"
#include "format/hf_config.h"
#include "support/fixtures.h"
#include "support/random_model.h"

namespace moiety::format {
namespace {

using spec::ElementType;
using spec::FeedForward;
using spec::ModelSpec;
using spec::QkNorm;
using spec::RopePairs;
using spec::Weight;

// A spec that the family expresses.
ModelSpec spec_for(const std::string& family) {
  ModelSpec s = test::small_spec();
  s.family = family;
  if (family == "olmoe") {
    s.attention.qk_norm = QkNorm::Whole;
    s.attention.num_kv_heads = s.attention.num_heads;
    s.moe.router.renormalise = false;
  }
  if (family == "qwen3_moe" || family == "qwen3" || family == "dots1") s.attention.qk_norm = QkNorm::PerHead;
  if (family == "qwen2_moe") s.moe.router.renormalise = false, s.moe.shared_hidden = 64, s.moe.shared_gate = true, s.attention.qkv_bias = true;
  if (family == "glm4_moe" || family == "deepseek_v3" || family == "dots1") {
    s.moe.router = {.num_experts = 4, .experts_per_token = 2, .score = spec::Score::Sigmoid, .has_selection_bias = true, .scale = 2};
    s.moe.shared_hidden = 64;
    s.dense_hidden = 64;
    s.feed_forward[0] = FeedForward::Dense;
  }
  if (family == "glm4_moe") s.attention.qk_norm = QkNorm::PerHead, s.attention.rope.dim = s.attention.head_dim / 2;
  if (family == "deepseek_v3" || family == "deepseek_v2") {
    const bool v3 = family == "deepseek_v3";
    s.attention.latent = spec::LatentSpec{.query_rank = v3 ? 32 : 0, .kv_rank = 64, .plain_dim = 32, .rope_dim = 8, .value_dim = 16};
    s.attention.head_dim = 40;
    s.attention.num_kv_heads = s.attention.num_heads;
    s.attention.rope.pairs = spec::RopePairs::Neighbours;
    if (v3) {
      s.moe.router.num_groups = 2, s.moe.router.groups_per_token = 1, s.moe.router.group_score = spec::GroupScore::BestTwo;
      s.attention.rope.scaling = {.kind = spec::RopeScalingKind::Yarn, .factor = 4, .original_positions = 32};
      s.attention.score_scale = std::pow(spec::yarn_amplitude(4), 2.0f) / std::sqrt(40.0f);
    }
  }
  if (family == "minimax_m2") {
    s.moe.router = {.num_experts = 4, .experts_per_token = 2, .score = spec::Score::Sigmoid, .has_selection_bias = true};
    s.attention.qk_norm = QkNorm::Whole, s.attention.rope.dim = s.attention.head_dim / 2;
  }
  if (family == "granitemoe") {
    s.attention.score_scale = 0.125f;
    s.embedding_scale = 12, s.residual_scale = 0.5f, s.logit_scale = 0.25f;
  }
  if (family == "jetmoe") {
    s.attention.num_heads = 2 * s.attention.num_kv_heads;
    s.attention.experts = spec::AttentionExperts{s.moe.router.num_experts, 2};
    s.moe.router.experts_per_token = 2;
    s.attention.output_bias = s.moe.output_bias = true;
  }
  if (family == "gpt_oss") {
    s.attention.sliding_window = 16;
    s.attention.windowed = {true, false};
    s.attention.sinks = s.attention.qkv_bias = s.attention.output_bias = s.moe.router_bias = s.moe.expert_bias = true;
    s.moe.activation = spec::Activation::ClampedSwiGlu;
    s.attention.rope.scaling = {.kind = spec::RopeScalingKind::Yarn, .factor = 8, .original_positions = 64, .truncate = false};
    s.attention.rope.scaling.amplitude = s.attention.rope.scaling.long_amplitude = spec::yarn_amplitude(8);
  }
  if (family == "phimoe") {
    s.norm = spec::Norm::Layer;
    s.head_bias = s.attention.qkv_bias = s.attention.output_bias = true;
    s.moe.router.score = spec::Score::Logits, s.moe.router.weigh = spec::Weigh::SparseMixer, s.moe.router.renormalise = false;
    s.attention.rope.scaling = {.kind = spec::RopeScalingKind::Factors, .original_positions = 32};
    s.attention.rope.scaling.short_factors.assign(s.attention.head_dim / 2, 1.5f);
    s.attention.rope.scaling.long_factors.assign(s.attention.head_dim / 2, 2.5f);
    s.attention.rope.scaling.long_amplitude = 1.25f;
  }
  if (family == "mistral") s.attention.sliding_window = 16;
  if (family == "llama" || family == "mistral" || family == "qwen3") {
    s.moe = {};
    s.dense_hidden = 64;
    s.feed_forward.assign(s.num_layers, FeedForward::Dense);
  }
  return s;
}

class ModelFolder : public testing::Test {
 protected:
  // One of our checkpoints with random weights.
  fs::path make(const ModelSpec& spec) {
    test::write_random_checkpoint(spec, folder_ / "ours");
    return folder_ / "ours";
  }
  void write_hf(const ModelFile& model, const Family& family, const fs::path& out) {
    fs::create_directories(out);
    write_safetensors(out / "model.safetensors", hf_tensors(model, family, {}));
    test::write_bytes(out / "config.json", hf_config(model.spec(), family, ElementType::F32).dump());
  }
  void write_gguf_model(const ModelFile& model, const Family& family, const fs::path& out) {
    GgufMetadata metadata;
    add_gguf_config(model.spec(), family, ElementType::F32, "test", metadata);
    metadata.set("tokenizer.ggml.bos_token_id", int64_t{1});
    metadata.set("tokenizer.ggml.eos_token_id", int64_t{2});
    write_gguf(out, metadata, gguf_tensors(model, family, {}));
  }
  static std::string message_of(const fs::path& path) {
    try {
      ModelFile model(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "opened";
  }
  // The config.json of a good folder with one thing changed.
  std::string with_config(const std::function<void(Json&)>& change) {
    const fs::path ours = make(spec_for("mixtral"));
    const fs::path path = folder_ / "hf";
    write_hf(ModelFile(ours), *family_named("mixtral"), path);
    Json config = parse_json(read_file(path / "config.json"), "x");
    change(config);
    test::write_bytes(path / "config.json", config.dump());
    std::string text = message_of(path);
    const std::string prefix = path.string() + "/config.json: ";
    return text.starts_with(prefix) ? text.substr(prefix.size()) : text;
  }
  test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path();
};

void expect_same_weights(const ModelFile& a, const ModelFile& b) {
  for (const Weight& w : spec::weights_of(a.spec(), a.spec().moe_layers() > 0)) {
    ASSERT_EQ(to_floats(a.weight(w)), to_floats(b.weight(w))) << "role " << static_cast<int>(w.role) << " layer " << w.layer;
  }
}

// But for what has no bearing: the family's name, the order of pairs where rows were reordered, rounding of scales.
Json bare(ModelSpec s) {
  s.family = "";
  s.attention.rope.pairs = RopePairs::Halves;
  if (s.moe_layers() == s.num_layers) s.dense_hidden = 0;
  if (s.moe_layers() == 0) s.moe = {};
  if (s.attention.score_scale > 0) s.attention.score_scale = std::round(s.attention.score_scale * 1e5f) / 1e5f;
  return to_json(s);
}

void expect_same_model(const ModelFile& a, const ModelFile& b) {
  EXPECT_EQ(bare(a.spec()), bare(b.spec()));
  if (a.spec().attention.rope.pairs == b.spec().attention.rope.pairs) expect_same_weights(a, b);
}

TEST_F(ModelFolder, EveryFamilyGoesToHuggingFaceToGgufAndBackWithoutANumberChanged) {
  for (const Family& family : families()) {
    SCOPED_TRACE(family.name);
    const ModelFile ours(make(spec_for(family.name)));
    ModelSpec named = ours.spec();
    named.family = family.name;
    EXPECT_STREQ(closest_family(named, FileKind::HuggingFace).name, family.name);
    write_hf(ours, family, folder_ / "hf");
    const ModelFile hf(folder_ / "hf");
    expect_same_model(ours, hf);
    if (family.gguf.architecture == nullptr) continue;
    write_gguf_model(hf, family, folder_ / "x.gguf");
    const ModelFile gguf(folder_ / "x.gguf");
    expect_same_model(hf, gguf);
    write_hf(gguf, family, folder_ / "back");
    expect_same_model(hf, ModelFile(folder_ / "back"));
  }
}

// Before llama.cpp learnt to absorb them, keys and values came out of one matrix.
TEST_F(ModelFolder, OlderGgufFilesOfLatentAttentionOpenToo) {
  const ModelFile ours(make(spec_for("deepseek_v2")));
  const Family& family = *family_named("deepseek_v2");
  write_hf(ours, family, folder_ / "hf");
  const ModelFile hf(folder_ / "hf");
  std::vector<TensorSource> tensors = gguf_tensors(ours, family, {});
  std::erase_if(tensors, [](const TensorSource& t) { return t.name.find("attn_k_b") != t.name.npos || t.name.find("attn_v_b") != t.name.npos; });
  for (const TensorView& tensor : hf.tensors()) {
    if (tensor.name.find("kv_b_proj") == tensor.name.npos) continue;
    TensorSource joined = tensor;
    joined.name = "blk." + tensor.name.substr(std::string("model.layers.").size(), 1) + ".attn_kv_b.weight";
    tensors.push_back(joined);
  }
  GgufMetadata newer, older;
  add_gguf_config(ours.spec(), family, ElementType::F32, "test", newer);
  for (const std::string& key : newer.keys()) {
    if (!key.ends_with("_mla")) older.set(key, newer.value(key));
  }
  older.set("deepseek2.attention.key_length", int64_t{40});
  older.set("deepseek2.attention.value_length", int64_t{16});
  older.set("tokenizer.ggml.bos_token_id", int64_t{1});
  older.set("tokenizer.ggml.eos_token_id", int64_t{2});
  write_gguf(folder_ / "x.gguf", older, tensors);
  expect_same_model(ours, ModelFile(folder_ / "x.gguf"));
}

TEST_F(ModelFolder, OlderGgufFilesWithEveryExpertByItselfOpenToo) {
  const ModelFile ours(make(spec_for("mixtral")));
  write_gguf_model(ours, *family_named("mixtral"), folder_ / "stacked.gguf");
  const GgufFile stacked(folder_ / "stacked.gguf");
  std::vector<TensorSource> tensors;
  for (const TensorView& tensor : stacked.tensors()) {
    const size_t suffix = tensor.name.find("_exps.weight");
    if (suffix == tensor.name.npos) {
      tensors.push_back(tensor);
      continue;
    }
    const size_t bytes = tensor.bytes.size() / static_cast<size_t>(tensor.shape[0]);
    for (int64_t e = 0; e < tensor.shape[0]; ++e) {
      TensorView expert{fmt::format("{}.{}.weight", tensor.name.substr(0, suffix), e), tensor.type,
                        {tensor.shape[1], tensor.shape[2]}, tensor.bytes.subspan(bytes * static_cast<size_t>(e), bytes)};
      tensors.push_back(expert);
    }
  }
  write_gguf(folder_ / "single.gguf", stacked.metadata(), tensors);
  expect_same_model(ModelFile(folder_ / "stacked.gguf"), ModelFile(folder_ / "single.gguf"));
}

// llama.cpp has no parameters for it, only the divisors that they come to.
TEST_F(ModelFolder, Llama3RopeScalingGoesToGgufAsDivisors) {
  ModelSpec s = spec_for("llama");
  s.attention.rope.scaling = {.kind = spec::RopeScalingKind::Llama3, .factor = 8, .original_positions = 64};
  const ModelFile ours(make(s));
  write_gguf_model(ours, *family_named("llama"), folder_ / "x.gguf");
  const ModelFile gguf(folder_ / "x.gguf");
  write_hf(gguf, closest_family(gguf.spec(), FileKind::HuggingFace), folder_ / "back");
  const auto wanted = spec::frequencies(s.attention.rope, s.attention.head_dim, true);
  for (const ModelSpec& found : {gguf.spec(), ModelFile(folder_ / "back").spec()}) {
    const auto frequencies = spec::frequencies(found.attention.rope, s.attention.head_dim, true);
    for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(frequencies[i] / wanted[i], 1, 1e-6);
  }
}

TEST_F(ModelFolder, AModelThatNoFamilyExpressesIsRefusedWithTheReasons) {
  ModelSpec s = spec_for("mixtral");
  s.moe.router.score = spec::Score::Sigmoid;
  try {
    closest_family(s, FileKind::HuggingFace);
    FAIL();
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("mixtral cannot express sigmoid scores"), text.npos) << text;
    EXPECT_NE(text.find("glm4_moe cannot express a model without shared experts"), text.npos) << text;
  }
}

TEST_F(ModelFolder, EachLieInTheConfigGetsItsSentence) {
  EXPECT_EQ(with_config([](Json&) {}), "opened");
  EXPECT_EQ(with_config([](Json& c) { c.erase("hidden_size"); }), "\"hidden_size\" is missing");
  EXPECT_EQ(with_config([](Json& c) { c["model_type"] = "gpt5"; }),
            "model_type \"gpt5\" is not one that moiety reads (llama, mistral, qwen3, mixtral, olmoe, qwen3_moe, qwen2_moe, glm4_moe, dots1, "
            "minimax_m2, deepseek_v3, deepseek_v2, granitemoe, jetmoe, gpt_oss, phimoe)");
  EXPECT_EQ(with_config([](Json& c) { c["num_hidden_layers"] = 1000000000; }),
            "\"num_hidden_layers\" must be an integer from 1 to 4096, found 1000000000");
  EXPECT_EQ(with_config([](Json& c) { c["num_experts_per_tok"] = 5; }), "experts per token is 5, expected 1 to 4");
  EXPECT_EQ(with_config([](Json& c) { c["hidden_size"] = -4; }), "\"hidden_size\" must be an integer from 1 to 16777216, found -4");
  EXPECT_EQ(with_config([](Json& c) { c["rope_theta"] = "big"; }), "\"rope_theta\" must be a finite number, found \"big\"");
  EXPECT_EQ(with_config([](Json& c) { c["rope_scaling"] = {{"type", "yarn"}}; }), "rope_scaling: \"factor\" is missing");
  EXPECT_EQ(with_config([](Json& c) { c["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2}}; }),
            "rope_scaling: rope_type \"dynamic\" is not supported, expected default, linear, llama3, yarn or longrope");
  EXPECT_EQ(with_config([](Json& c) { c["quantization_config"] = {{"quant_method", "gptq"}}; }),
            "quantization_config: quant_method \"gptq\" is not supported, expected \"fp8\" (in blocks) or \"mxfp4\"");
  EXPECT_EQ(with_config([](Json& c) { c["eos_token_id"] = {1, "x"}; }), "\"eos_token_id\" must be a token id or a list of them");
  EXPECT_EQ(with_config([](Json& c) { c = Json::array(); }), "expected a JSON object, found array");
  EXPECT_NE(with_config([](Json& c) { c["num_hidden_layers"] = 4096, c["num_local_experts"] = 65536; }).find("has the shape"),
            std::string::npos);
  // A config that is right by itself and wrong about the weights
  const std::string text = with_config([](Json& c) { c["intermediate_size"] = 64; });
  EXPECT_NE(text.find("has the shape [32 x 32], the config calls for [64 x 32]"), text.npos) << text;
  const std::string more_experts = with_config([](Json& c) { c["num_local_experts"] = 5; });
  EXPECT_NE(more_experts.find("has the shape [4 x 32], the config calls for [5 x 32]"), more_experts.npos) << more_experts;
}

TEST_F(ModelFolder, AConfigWithAnyBytesChangedOpensOrSaysWhyNot) {
  const fs::path ours = make(spec_for("mixtral")), hf = folder_ / "hf";
  write_hf(ModelFile(ours), *family_named("mixtral"), hf);
  for (const fs::path& folder : {ours, hf}) {
    const std::string good = read_file(folder / "config.json");
    Random random(1);
    for (int trial = 0; trial < 150; ++trial) {
      std::string bad = good;
      for (uint64_t n = 1 + random.below(3); n > 0; --n) bad[random.below(bad.size())] = static_cast<char>(random.below(256));
      test::write_bytes(folder / "config.json", bad);
      message_of(folder);
    }
  }
}

TEST_F(ModelFolder, MissingFilesAndTensorsAreNamed) {
  EXPECT_NE(message_of(folder_ / "none").find("no such file or folder"), std::string::npos);
  EXPECT_NE(message_of(folder_).find("neither a Hugging Face folder"), std::string::npos);
  const fs::path ours = make(spec_for("mixtral"));
  const ModelFile model(ours);
  std::vector<TensorView> tensors = model.tensors();
  tensors.erase(tensors.begin() + 3);
  write_safetensors(folder_ / "fewer", tensors);
  fs::rename(folder_ / "fewer", ours / "model.safetensors");
  EXPECT_NE(message_of(ours).find("tensor layers.0.attention.key.weight is missing"), std::string::npos) << message_of(ours);
  fs::remove(ours / "model.safetensors");
  EXPECT_NE(message_of(ours).find("no model.safetensors"), std::string::npos);
}

TEST_F(ModelFolder, ATensorOfAnotherTypeThanWeightsIsRefused) {
  const fs::path ours = make(spec_for("mixtral"));
  const ModelFile model(ours);
  std::vector<TensorView> tensors = model.tensors();
  const std::vector<int32_t> integers(50 * 32);
  tensors[0] = {tensors[0].name, ElementType::I32, tensors[0].shape, std::as_bytes(std::span(integers))};
  write_safetensors(folder_ / "other", tensors);
  fs::rename(folder_ / "other", ours / "model.safetensors");
  EXPECT_NE(message_of(ours).find("is I32; moiety computes with F32, F16"), std::string::npos) << message_of(ours);
}

TEST_F(ModelFolder, ShardsAreJoinedAndTheirIndexMayNotLeadOutOfTheFolder) {
  const fs::path ours = make(spec_for("mixtral"));
  write_hf(ModelFile(ours), *family_named("mixtral"), folder_ / "hf");
  const fs::path sharded = folder_ / "sharded";
  fs::create_directories(sharded);
  fs::copy(folder_ / "hf/config.json", sharded / "config.json");
  const ModelFile whole(folder_ / "hf");
  const size_t half = whole.tensors().size() / 2;
  write_safetensors(sharded / "model-1.safetensors", std::vector(whole.tensors().begin(), whole.tensors().begin() + half));
  write_safetensors(sharded / "model-2.safetensors", std::vector(whole.tensors().begin() + half, whole.tensors().end()));
  test::write_bytes(sharded / "model.safetensors.index.json", R"({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})");
  expect_same_weights(whole, ModelFile(sharded));
  test::write_bytes(sharded / "model.safetensors.index.json", R"({"weight_map": {"a": "../hf/model.safetensors"}})");
  EXPECT_NE(message_of(sharded).find("is not the name of a file in this folder"), std::string::npos);
}

TEST_F(ModelFolder, ARunFolderMeansItsNewestCompleteCheckpoint) {
  const fs::path ours = make(spec_for("mixtral"));
  const fs::path run = folder_ / "run/checkpoints";
  fs::create_directories(run / "step-00000030");  // torn: no weights
  fs::copy(ours, run / "step-00000010");
  fs::copy(ours, run / "step-00000020");
  EXPECT_EQ(ModelFile(folder_ / "run").path(), run / "step-00000020");
}

}  // namespace
}  // namespace moiety::format
