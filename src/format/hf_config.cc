#include "format/hf_config.h"

#include <algorithm>

namespace moiety::format {
namespace {

using spec::ModelSpec;

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

ModelSpec read_common(const JsonObject& c) {
  ModelSpec s;
  const auto size = [&](const char* key) { return static_cast<int>(c.integer(key, 1, kMany)); };
  s.num_layers = static_cast<int>(c.integer("num_hidden_layers", 1, 4096));
  s.width = size("hidden_size");
  s.vocab_size = size("vocab_size");
  s.max_positions = static_cast<int>(c.integer("max_position_embeddings", 1, INT32_MAX, 2048));
  s.norm_eps = static_cast<float>(c.number("rms_norm_eps", 1e-5));
  s.tied_embeddings = c.boolean("tie_word_embeddings", false);
  s.attention.num_heads = size("num_attention_heads");
  s.attention.num_kv_heads = static_cast<int>(c.integer("num_key_value_heads", 1, kMany, s.attention.num_heads));
  s.attention.head_dim = static_cast<int>(c.integer("head_dim", 2, 65536, s.width / s.attention.num_heads));
  s.attention.qkv_bias = c.boolean("attention_bias", false);
  s.attention.rope_theta = static_cast<float>(c.number("rope_theta", 10000));
  s.feed_forward.assign(s.num_layers, spec::FeedForward::Moe);
  s.bos_token = static_cast<int>(c.integer("bos_token_id", -1, kMany, -1));
  add_eos(c, s);

  require(!c.has("rope_scaling"), "{}: rope_scaling is not supported", c.where());
  const std::string activation = c.text("hidden_act", "silu");
  require(activation == "silu", "{}: hidden_act \"{}\" is not supported, expected \"silu\"", c.where(), activation);
  return s;
}

}  // namespace

ModelSpec read_hf_config(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  const std::string where = path.string();
  const Json json = parse_json(read_file(path), where);
  const JsonObject config(json, where);

  ModelSpec s;
  const std::string type = config.text("model_type");
  if (type == "moiety") {
    s = spec::model_spec_from_json(json, where);
  } else {
    const Family* family = family_of_hf(type);
    if (family == nullptr) {
      std::string known;
      for (const Family& f : families()) known += fmt::format("{}{}", known.empty() ? "" : ", ", f.hf_model_type);
      fail(ErrorKind::Input, "{}: model_type \"{}\" is not one that moiety reads ({})", where, type, known);
    }
    s = read_common(config);
    s.family = family->name;
    family->read_hf(config, s);
  }

  const fs::path generation = folder / "generation_config.json";
  if (fs::exists(generation)) {
    const Json extra = parse_json(read_file(generation), generation.string());
    add_eos(JsonObject(extra, generation.string()), s);
  }
  spec::check(s, where);
  return s;
}

Json hf_generation_config(const ModelSpec& s) {
  Json c = Json::object();
  if (s.bos_token >= 0) c["bos_token_id"] = s.bos_token;
  if (s.eos_tokens.size() == 1) c["eos_token_id"] = s.eos_tokens[0];
  if (s.eos_tokens.size() > 1) c["eos_token_id"] = s.eos_tokens;
  return c;
}

Json hf_config(const ModelSpec& s, const Family& family, spec::ElementType type) {
  Json c = {{"architectures", {family.hf_architecture}},
            {"model_type", family.hf_model_type},
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
            {"rope_theta", s.attention.rope_theta}};
  family.write_hf(s, c);
  c["torch_dtype"] = type == spec::ElementType::BF16 ? "bfloat16" : type == spec::ElementType::F16 ? "float16" : "float32";
  c.update(hf_generation_config(s));
  return c;
}

}  // namespace moiety::format
