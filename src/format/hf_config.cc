#include "format/hf_config.h"

#include <algorithm>
#include <cmath>

namespace moiety::format {
namespace {

using spec::ModelSpec;
using spec::RopeScaling;
using spec::RopeScalingKind;

constexpr int64_t kMany = 1 << 24;

// eos_token_id may be a number, a list, or null.
void add_eos(const JsonObject& config, ModelSpec& spec) {
  if (!config.has("eos_token_id")) return;
  const Json& eos = config.at("eos_token_id");
  const auto add = [&](const Json& id) {
    require(id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < kMany,
            "{}: \"eos_token_id\" must be a token id or a list of them", config.where());
    const int token = id.get<int>();
    if (std::find(spec.eos_tokens.begin(), spec.eos_tokens.end(), token) == spec.eos_tokens.end()) {
      spec.eos_tokens.push_back(token);
    }
  };
  if (eos.is_array()) {
    for (const Json& id : eos) add(id);
  } else {
    add(eos);
  }
}

std::vector<float> factors(const JsonObject& c, const char* key) {
  std::vector<float> values;
  for (const Json& value : c.array(key)) {
    require(value.is_number(), "{}: {} must be a list of numbers", c.where(), key);
    values.push_back(value.get<float>());
  }
  return values;
}

// YaRN's amplitude: given, or from two weights of it, or its own.
float yarn_amplitude(const JsonObject& c, float factor) {
  if (c.has("attention_factor")) return static_cast<float>(c.number("attention_factor"));
  const float weight = static_cast<float>(c.number("mscale", 0)), all = static_cast<float>(c.number("mscale_all_dim", 0));
  if (weight != 0 && all != 0) return spec::yarn_amplitude(factor, weight) / spec::yarn_amplitude(factor, all);
  return spec::yarn_amplitude(factor);
}

// LongRoPE's: given, or by how far the model was stretched; Phi-3.5-MoE gives one for short contexts and one for long.
void read_long_rope(const JsonObject& c, int max_positions, RopeScaling& s) {
  s.kind = RopeScalingKind::Factors;
  s.short_factors = factors(c, "short_factor");
  s.long_factors = factors(c, "long_factor");
  const double stretch = c.has("factor") ? c.number("factor") : static_cast<double>(max_positions) / s.original_positions;
  double amplitude = stretch > 1 ? std::sqrt(1 + std::log(stretch) / std::log(s.original_positions)) : 1;
  amplitude = c.number("attention_factor", amplitude);
  s.factor = 1;
  s.amplitude = static_cast<float>(c.number("short_mscale", amplitude));
  s.long_amplitude = static_cast<float>(c.number("long_mscale", amplitude));
}

void read_rope_scaling(const JsonObject& c, int max_positions, RopeScaling& s) {
  const std::string type = c.has("rope_type") ? c.text("rope_type") : c.text("type", "default");
  if (type == "default") return;
  s.original_positions = static_cast<int>(c.integer("original_max_position_embeddings", 1, INT32_MAX, max_positions));
  if (type == "longrope" || type == "su") return read_long_rope(c, max_positions, s);
  const bool ratio_known = type == "yarn" && c.has("original_max_position_embeddings");
  s.factor = static_cast<float>(ratio_known ? c.number("factor", static_cast<double>(max_positions) / s.original_positions)
                                            : c.number("factor"));
  if (type == "linear") {
    s.kind = RopeScalingKind::Linear;
  } else if (type == "llama3") {
    s.kind = RopeScalingKind::Llama3;
    s.low_frequency = static_cast<float>(c.number("low_freq_factor"));
    s.high_frequency = static_cast<float>(c.number("high_freq_factor"));
  } else if (type == "yarn") {
    s.kind = RopeScalingKind::Yarn;
    s.beta_fast = static_cast<float>(c.number("beta_fast", 32));
    s.beta_slow = static_cast<float>(c.number("beta_slow", 1));
    s.truncate = c.boolean("truncate", true);
    s.amplitude = s.long_amplitude = yarn_amplitude(c, s.factor);
  } else {
    fail(ErrorKind::Input, "{}: rope_type \"{}\" is not supported, expected default, linear, llama3, yarn or longrope",
         c.where(), type);
  }
}

Json rope_scaling_to_json(const RopeScaling& s) {
  switch (s.kind) {
    case RopeScalingKind::None:
      return {};
    case RopeScalingKind::Linear:
      return {{"rope_type", "linear"}, {"factor", s.factor}};
    case RopeScalingKind::Llama3:
      return {{"rope_type", "llama3"},
              {"factor", s.factor},
              {"low_freq_factor", s.low_frequency},
              {"high_freq_factor", s.high_frequency},
              {"original_max_position_embeddings", s.original_positions}};
    case RopeScalingKind::Yarn:
      return {{"rope_type", "yarn"},
              {"factor", s.factor},
              {"beta_fast", s.beta_fast},
              {"beta_slow", s.beta_slow},
              {"truncate", s.truncate},
              {"attention_factor", s.amplitude},
              {"original_max_position_embeddings", s.original_positions}};
    case RopeScalingKind::Factors:
      return {{"rope_type", "longrope"},
              {"short_factor", s.short_factors},
              {"long_factor", s.long_factors},
              {"attention_factor", s.amplitude},
              {"original_max_position_embeddings", s.original_positions}};
  }
  return {};
}

ModelSpec read_common(const JsonObject& c) {
  ModelSpec s;
  const auto size = [&](const char* key) { return static_cast<int>(c.integer(key, 1, kMany)); };
  s.num_layers = static_cast<int>(c.integer("num_hidden_layers", 1, 4096));
  s.width = size("hidden_size");
  s.vocab_size = size("vocab_size");
  s.max_positions = static_cast<int>(c.integer("max_position_embeddings", 1, INT32_MAX, 2048));
  s.norm_eps = static_cast<float>(c.number("rms_norm_eps", 1e-5));
  s.tied_embeddings = c.boolean("tie_word_embeddings", false);
  // JetMoE's are its key-value heads' number times the experts that a token has.
  s.attention.num_heads = size(c.has("num_attention_heads") ? "num_attention_heads" : "num_key_value_heads");
  s.attention.num_kv_heads = static_cast<int>(c.integer("num_key_value_heads", 1, kMany, s.attention.num_heads));
  s.attention.head_dim = static_cast<int>(c.integer("head_dim", 2, 65536, s.width / s.attention.num_heads));
  s.attention.rope.theta = static_cast<float>(c.number("rope_theta", 10000));
  // rope_parameters is what newer versions of the library write for both.
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!c.has(key)) continue;
    const JsonObject rope = c.object(key);
    s.attention.rope.theta = static_cast<float>(rope.number("rope_theta", s.attention.rope.theta));
    read_rope_scaling(rope, s.max_positions, s.attention.rope.scaling);
  }
  s.feed_forward.assign(s.num_layers, spec::FeedForward::Moe);
  s.bos_token = static_cast<int>(c.integer("bos_token_id", -1, kMany, -1));
  add_eos(c, s);

  const std::string activation = c.text("hidden_act", "silu");
  require(activation == "silu" || activation == "swish", "{}: hidden_act \"{}\" is not supported, expected \"silu\"",
          c.where(), activation);
  return s;
}

// How the checkpoint's weights are quantised, if they are.
void check_quantization(const JsonObject& c) {
  if (!c.has("quantization_config")) return;
  const JsonObject q = c.object("quantization_config");
  const std::string method = q.text("quant_method", "none");
  require(method == "fp8" || method == "mxfp4" || method == "none",
          "{}: quant_method \"{}\" is not supported, expected \"fp8\" (in blocks) or \"mxfp4\"", q.where(), method);
}

}  // namespace

ModelSpec parse_hf_config(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  const JsonObject config(json, where);

  ModelSpec s;
  const std::string type = config.text("model_type");
  if (type == "moiety") {
    s = spec::model_spec_from_json(json, where);
  } else {
    const Family* family = family_of_hf(type);
    if (family == nullptr) {
      std::string known;
      for (const Family& f : families()) known += fmt::format("{}{}", known.empty() ? "" : ", ", f.hf.model_type);
      fail(ErrorKind::Input, "{}: model_type \"{}\" is not one that moiety reads ({})", where, type, known);
    }
    check_quantization(config);
    s = read_common(config);
    s.family = family->name;
    s.attention.rope.pairs = family->hf.rope_pairs;
    family->hf.read(config, s);
  }
  spec::check(s, where);
  return s;
}

ModelSpec read_hf_config(const fs::path& folder) {
  const fs::path path = folder / "config.json", generation = folder / "generation_config.json";
  ModelSpec s = parse_hf_config(read_file(path), path.string());
  if (fs::exists(generation)) {
    const Json extra = parse_json(read_file(generation), generation.string());
    add_eos(JsonObject(extra, generation.string()), s);
    spec::check(s, path.string());
  }
  return s;
}

std::pair<int64_t, int64_t> fp8_block(const fs::path& folder) {
  constexpr std::pair<int64_t, int64_t> kUsual{128, 128};
  const std::string where = (folder / "config.json").string();
  const Json json = parse_json(read_file(where), where);
  const JsonObject config(json, where);
  if (!config.has("quantization_config")) return kUsual;
  const JsonObject quantization = config.object("quantization_config");
  if (!quantization.has("weight_block_size")) return kUsual;
  const Json& size = quantization.array("weight_block_size");
  const auto good = [](const Json& n) {
    return n.is_number_integer() && n.get<int64_t>() >= 16 && n.get<int64_t>() <= kMany && n.get<int64_t>() % 16 == 0;
  };
  require(size.size() == 2 && good(size[0]) && good(size[1]),
          "{}: weight_block_size is {}, expected two multiples of 16", where, size.dump());
  return {size[0].get<int64_t>(), size[1].get<int64_t>()};
}

Json hf_generation_config(const ModelSpec& s) {
  Json c = Json::object();
  if (s.bos_token >= 0) c["bos_token_id"] = s.bos_token;
  if (s.eos_tokens.size() == 1) c["eos_token_id"] = s.eos_tokens[0];
  if (s.eos_tokens.size() > 1) c["eos_token_id"] = s.eos_tokens;
  return c;
}

Json hf_config(const ModelSpec& s, const Family& family, spec::ElementType type) {
  Json c = {{"architectures", {family.hf.architecture}},
            {"model_type", family.hf.model_type},
            {"hidden_act", "silu"},
            {"hidden_size", s.width},
            {"num_hidden_layers", s.num_layers},
            {"vocab_size", s.vocab_size},
            {"max_position_embeddings", s.max_positions},
            {"rms_norm_eps", s.norm_eps},
            {"tie_word_embeddings", s.tied_embeddings},
            {"num_attention_heads", s.attention.num_heads},
            {"num_key_value_heads", s.attention.num_kv_heads},
            {"head_dim", s.attention.head_dim},
            {"attention_bias", s.attention.qkv_bias},
            {"rope_theta", s.attention.rope.theta},
            {"rope_scaling", rope_scaling_to_json(s.attention.rope.scaling)}};
  family.hf.write(s, c);
  c["torch_dtype"] = type == spec::ElementType::BF16 ? "bfloat16" : type == spec::ElementType::F16 ? "float16" : "float32";
  c.update(hf_generation_config(s));
  return c;
}

}  // namespace moiety::format
