#include "train/config.h"

#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"
#include "train/config_check.h"

namespace moiety::train {
namespace {

// Calls visitor.section(name) and then, for each key of the section, visitor.key(name, field, limits…): the one list
// of keys that reading and printing share.
template <class Config, class Visitor>
void visit(Config& c, Visitor& v) {
  constexpr int64_t kMany = 1'000'000'000;
  v.section("run");
  v.text("dir", c.run.dir);
  v.text("from", c.run.from);
  v.integer("seed", c.run.seed, 0, INT64_MAX);
  v.integer("threads", c.run.threads, 0, 1024);

  v.section("tokenizer");
  v.integer("vocab_size", c.tokenizer.vocab_size, 257, 1 << 20);
  v.text("file", c.tokenizer.file);
  v.integer("sample_mb", c.tokenizer.sample_mb, 1, 1 << 20);
  v.text("end_of_text", c.tokenizer.end_of_text);

  v.section("model");
  v.integer("layers", c.model.layers, 1, 1024);
  v.integer("width", c.model.width, 1, 1 << 16);
  v.integer("heads", c.model.heads, 1, 4096);
  v.integer("kv_heads", c.model.kv_heads, 1, 4096);
  v.integer("head_dim", c.model.head_dim, 2, 4096);
  v.counts("experts", c.model.experts, c.model.experts_by_layer, 1, 1 << 14);
  v.integer("experts_per_token", c.model.experts_per_token, 1, 1 << 14);
  v.integer("expert_hidden", c.model.expert_hidden, 1, 1 << 18);
  v.integer("shared_hidden", c.model.shared_hidden, 0, 1 << 18);
  v.boolean("shared_gate", c.model.shared_gate);
  v.boolean("shared_mix", c.model.shared_mix);
  v.integer("iterations", c.model.iterations, 1, 64);
  v.integer("expert_width", c.model.expert_width, 0, 1 << 16);
  v.boolean("ternary_experts", c.model.ternary_experts);
  v.integer("gru_experts", c.model.gru_experts, 0, 1 << 14);
  v.integer("gru_hidden", c.model.gru_hidden, 1, 1 << 16);
  v.choice("momentum", c.model.momentum, {"none", "heavy_ball", "adam"});
  v.number("momentum_decay", c.model.momentum_decay, 0, 0.999999);
  v.number("momentum_square_decay", c.model.momentum_square_decay, 0, 0.999999);
  v.number("momentum_step", c.model.momentum_step, 1e-6, 1e6);
  v.integer("attention_experts", c.model.attention_experts, 0, 1 << 14);
  v.integer("attention_experts_per_token", c.model.attention_experts_per_token, 1, 1 << 14);
  v.boolean("router_trained", c.model.router_trained);
  v.choice("gate", c.model.gate, {"linear", "cosine", "hash", "random", "recurrent", "tree", "ahead", "decoupled"});
  v.integer("gate_width", c.model.gate_width, 1, 1 << 16);
  v.integer("gate_seed", c.model.gate_seed, 0, INT64_MAX);
  v.number("gate_temperature", c.model.gate_temperature, 1e-6, 1e6);
  v.boolean("gate_learns_temperature", c.model.gate_learns_temperature);
  v.number("gate_step", c.model.gate_step, 1e-6, 1e6);
  v.choice("logit_activation", c.model.logit_activation, {"none", "tanh", "sigmoid", "silu"});
  v.number("temperature", c.model.temperature, 1e-6, 1e6);
  v.choice("score", c.model.score, {"softmax", "sigmoid", "logits"});
  v.boolean("gating_residual", c.model.gating_residual);
  v.choice("select", c.model.select, {"top_k", "grouped", "top_p", "threshold", "expert_choice", "tsallis"});
  v.integer("groups", c.model.groups, 1, 1 << 14);
  v.integer("groups_per_token", c.model.groups_per_token, 0, 1 << 14);
  v.choice("group_score", c.model.group_score, {"best", "best_two"});
  v.number("top_p", c.model.top_p, 1e-6, 1);
  v.number("threshold", c.model.threshold, -1e6, 1e6);
  v.number("tsallis_q", c.model.tsallis_q, 0.01, 100);
  v.number("soft_entropy", c.model.soft_entropy, 0, 1);
  v.integer("null_experts", c.model.null_experts, 0, 1 << 14);
  v.integer("zero_experts", c.model.zero_experts, 0, 1 << 14);
  v.integer("copy_experts", c.model.copy_experts, 0, 1 << 14);
  v.integer("constant_experts", c.model.constant_experts, 0, 1 << 14);
  v.choice("weigh", c.model.weigh, {"scores", "sparse_mixer"});
  v.boolean("renormalise", c.model.renormalise);
  v.number("scale", c.model.scale, 1e-6, 1e6);
  v.choice("attention_weights", c.model.attention_weights, {"softmax", "stick_breaking"});
  v.choice("qk_norm", c.model.qk_norm, {"none", "per_head", "whole"});
  v.number("rope_theta", c.model.rope_theta, 1, 1e12);
  v.number("norm_eps", c.model.norm_eps, 1e-12, 1e-1);
  v.boolean("tied_embeddings", c.model.tied_embeddings);
  v.integer("dense_layers", c.model.dense_layers, 0, 1024);
  v.integer("dense_hidden", c.model.dense_hidden, 1, 1 << 18);
  v.integer("moe_every", c.model.moe_every, 1, 1024);
  v.integer("moe_offset", c.model.moe_offset, 0, 1023);
  v.integer("max_positions", c.model.max_positions, 0, 1 << 24);

  v.section("balance");
  v.choice("scope", c.balance.scope, {"micro", "sequence", "global"});
  v.number("aux_loss", c.balance.aux_loss, 0, 100);
  v.number("zero_cost", c.balance.zero_cost, 0, 1);
  v.number("z_loss", c.balance.z_loss, 0, 100);
  v.number("bias_rate", c.balance.bias_rate, 0, 1);
  v.number("entropy_loss", c.balance.entropy_loss, 0, 100);
  v.number("concentration", c.balance.concentration, 0, 100);
  v.number("mutual_information", c.balance.mutual_information, 0, 100);
  v.number("cut_off_rate", c.balance.cut_off_rate, 1e-6, 1);
  v.number("consistency", c.balance.consistency, 0, 100);

  v.section("anneal");
  v.integer("experts_from", c.anneal.experts_from, 0, 1 << 14);
  v.integer("experts_steps", c.anneal.experts_steps, 0, kMany);
  v.number("lower_later", c.anneal.lower_later, 0, 1);
  v.number("temperature_from", c.anneal.temperature_from, 0, 1e6);
  v.integer("temperature_steps", c.anneal.temperature_steps, 0, kMany);
  v.integer("spawn_step", c.anneal.spawn_step, 0, kMany);
  v.number("spawn_noise", c.anneal.spawn_noise, 0, 10);
  v.integer("search_steps", c.anneal.search_steps, 0, kMany);
  v.number("search_temperature", c.anneal.search_temperature, 1e-6, 100);
  v.number("search_noise", c.anneal.search_noise, 0, 100);
  v.number("search_entropy", c.anneal.search_entropy, 0, 100);

  v.section("optimizer");
  v.number("lr", c.optimizer.lr, 0, 100);
  v.number("beta1", c.optimizer.beta1, 0, 0.999999);
  v.number("beta2", c.optimizer.beta2, 0, 0.999999);
  v.number("eps", c.optimizer.eps, 0, 1);
  v.number("weight_decay", c.optimizer.weight_decay, 0, 100);
  v.number("clip", c.optimizer.clip, 0, 1e9);
  v.choice("state", c.optimizer.state, {"f32", "int8", "factored"});
  v.boolean("shared", c.optimizer.shared);
  v.choice("offload", c.optimizer.offload, {"none", "ssd"});
  v.integer("memory_mb", c.optimizer.memory_mb, 0, 1 << 24);
  v.integer("group", c.optimizer.group, 1, 1 << 30);

  v.section("schedule");
  v.choice("kind", c.schedule.kind, {"cosine", "wsd"});
  v.integer("warmup", c.schedule.warmup, 0, kMany);
  v.number("min_lr", c.schedule.min_lr, 0, 1);
  v.number("decay", c.schedule.decay, 0, 1);

  v.section("train");
  v.integer("steps", c.train.steps, 1, kMany);
  v.number("minutes", c.train.minutes, 0, 1e6);
  v.integer("sequence", c.train.sequence, 2, 1 << 20);
  v.integer("batch", c.train.batch, 0, 1 << 16);
  v.integer("accumulate", c.train.accumulate, 1, 1 << 16);
  v.integer("frozen_experts", c.train.frozen_experts, 0, 1 << 14);
  v.integer("frozen_attention_experts", c.train.frozen_attention_experts, 0, 1 << 14);
  v.choice("precision", c.train.precision, {"f32", "bf16"});
  v.boolean("packed", c.train.packed);
  v.choice("keep", c.train.keep, {"products", "inputs"});
  v.number("capacity", c.train.capacity, 0, 1e6);
  v.integer("receive_budget", c.train.receive_budget, 0, int64_t{1} << 40);
  v.integer("receive_sets", c.train.receive_sets, 1, 1 << 14);
  v.choice("recompute", c.train.recompute, {"none", "layers"});
  v.number("cluster_tokens", c.train.cluster_tokens, 0.001, 1);
  v.boolean("cluster_residual", c.train.cluster_residual);
  v.integer("round_tokens", c.train.round_tokens, 0, 1 << 16);

  v.section("ranks");
  v.integer("stages", c.ranks.stages, 1, 1 << 16);
  v.integer("virtual", c.ranks.virtual_stages, 1, 1 << 16);
  v.integer("sequence", c.ranks.sequence, 1, 1 << 16);
  v.integer("tensor", c.ranks.tensor, 1, 1 << 16);
  v.integer("experts", c.ranks.experts, 1, 1 << 20);
  v.choice("dispatch", c.ranks.dispatch, {"all_to_all", "all_gather", "two_level"});
  v.integer("chunks", c.ranks.chunks, 1, 1024);
  v.choice("payload", c.ranks.payload, {"f32", "bf16"});
  v.choice("lend", c.ranks.lend, {"none", "hot", "all"});
  v.number("flops_a_byte", c.ranks.flops_a_byte, 0, 1e9);
  v.integer("rebalance", c.ranks.rebalance, 0, kMany);
  v.integer("node", c.ranks.node, 0, 1 << 20);

  v.section("bad_steps");
  v.choice("policy", c.bad_steps.policy, {"skip", "roll_back", "stop"});
  v.number("loss", c.bad_steps.loss, 0, 1e6);
  v.number("norm", c.bad_steps.norm, 0, 1e6);
  v.integer("window", c.bad_steps.window, 20, 1 << 20);
  v.integer("most", c.bad_steps.most, 0, 1 << 20);
  v.integer("back", c.bad_steps.back, 0, kMany);

  v.section("validate");
  v.integer("every", c.validate.every, 0, kMany);
  v.integer("batches", c.validate.batches, 0, kMany);
  v.number("held_out", c.validate.held_out, 0.0001, 0.5);

  v.section("checkpoint");
  v.integer("every", c.checkpoint.every, 0, kMany);
  v.number("minutes", c.checkpoint.minutes, 0, 1e6);
  v.integer("keep", c.checkpoint.keep, 1, 1 << 20);

  v.section("trace");
  v.text("file", c.trace.file);
  v.integer("every", c.trace.every, 1, kMany);
}

template <class Visitor>
void visit_domain(auto& domain, Visitor& v) {
  v.text("name", domain.name);
  v.text("train", domain.train);
  v.text("valid", domain.valid);
  v.number("weight", domain.weight, 0, 1e9);
}

std::string kind_of(const toml::node& node) {
  if (node.is_string()) return "a string";
  if (node.is_integer()) return "an integer";
  if (node.is_floating_point()) return "a number";
  if (node.is_boolean()) return "true or false";
  if (node.is_array()) return "a list";
  if (node.is_table()) return "a table";
  return "a date";
}

// Fills fields from one table at a time and remembers which keys it was asked for; finish() refuses the others.
class Reader {
 public:
  Reader(const toml::table& root, std::string where) : root_(root), where_(std::move(where)) {}

  void section(const char* name) {
    finish();
    sections_.insert(name);
    name_ = name;
    table_ = nullptr;
    if (const toml::node* node = root_.get(name)) {
      require(node->is_table(), "{}: {} must be a table ([{}])", place(*node), name, name);
      table_ = node->as_table();
    }
  }
  void table(std::string name, const toml::table& table) {
    finish();
    name_ = std::move(name);
    table_ = &table;
  }

  void text(const char* key, std::string& field) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    expect(node->is_string(), *node, key, "a string");
    field = node->as_string()->get();
  }
  void boolean(const char* key, bool& field) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    expect(node->is_boolean(), *node, key, "true or false");
    field = node->as_boolean()->get();
  }
  void integer(const char* key, int64_t& field, int64_t low, int64_t high) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    expect(node->is_integer(), *node, key, "an integer");
    const int64_t value = node->as_integer()->get();
    require(value >= low && value <= high, "{}: {}.{} is {}, expected {} to {}", place(*node), name_, key, value, low,
            high);
    field = value;
  }
  // One number, or a list of them, of which the field is the largest.
  void counts(const char* key, int64_t& field, std::vector<int64_t>& list, int64_t low, int64_t high) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    if (!node->is_array()) {
      list.clear();
      return integer(key, field, low, high);
    }
    expect(!node->as_array()->empty(), *node, key, "an integer or a list of integers that is not empty");
    list.clear();
    for (const toml::node& entry : *node->as_array()) {
      expect(entry.is_integer(), entry, key, "an integer or a list of integers");
      const int64_t value = entry.as_integer()->get();
      require(value >= low && value <= high, "{}: {}.{} holds {}, expected {} to {}", place(*node), name_, key, value, low, high);
      list.push_back(value);
    }
    field = *std::ranges::max_element(list);
  }
  void number(const char* key, double& field, double low, double high) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    expect(node->is_number(), *node, key, "a number");
    const double value = *node->value<double>();
    // A NaN is in no range.
    require(value >= low && value <= high, "{}: {}.{} is {}, expected {} to {}", place(*node), name_, key, value, low,
            high);
    field = value;
  }
  void choice(const char* key, std::string& field, std::initializer_list<const char*> allowed) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    text(key, field);
    std::string list;
    for (const char* name : allowed) {
      if (field == name) return;
      list += (list.empty() ? "\"" : ", \"") + std::string(name) + "\"";
    }
    fail(ErrorKind::Input, "{}: {}.{} is \"{}\", expected one of {}", place(*node), name_, key, field, list);
  }

  // Refuses what the current table holds beyond the keys that were asked for.
  void finish() {
    if (table_ != nullptr) {
      for (const auto& [key, node] : *table_) {
        require(keys_.contains(std::string(key.str())), "{}: {} has no key \"{}\"; it knows {}", place(node), name_,
                key.str(), listed(keys_));
      }
    }
    table_ = nullptr;
    keys_.clear();
  }
  void finish_root() {
    finish();
    for (const auto& [key, node] : root_) {
      require(sections_.contains(std::string(key.str())), "{}: there is no section \"{}\"; there are {}", place(node),
              key.str(), listed(sections_));
    }
  }

  // What came from the command line says so itself.
  std::string place(const toml::node& node) const {
    const toml::source_region& source = node.source();
    if (source.path && source.path->starts_with("--set")) return *source.path;
    return fmt::format("{}:{}", where_, source.begin.line);
  }
  void known_section(const char* name) { sections_.insert(name); }

 private:
  static std::string listed(const std::set<std::string>& names) {
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
    return list;
  }
  const toml::node* find(const char* key) {
    keys_.insert(key);
    return table_ == nullptr ? nullptr : table_->get(key);
  }
  void expect(bool ok, const toml::node& node, const char* key, const char* expected) const {
    require(ok, "{}: {}.{} is {}, expected {}", place(node), name_, key, kind_of(node), expected);
  }

  const toml::table& root_;
  std::string where_, name_;
  const toml::table* table_ = nullptr;
  std::set<std::string> sections_, keys_;
};

void read_domains(const toml::table& root, Reader& reader, std::vector<DomainConfig>& domains) {
  reader.known_section("domain");
  const toml::node* node = root.get("domain");
  if (node == nullptr) return;
  require(node->is_array_of_tables(), "{}: domain must be a list of tables ([[domain]])", reader.place(*node));
  std::set<std::string> names;
  for (const toml::node& entry : *node->as_array()) {
    DomainConfig domain;
    reader.table("domain", *entry.as_table());
    visit_domain(domain, reader);
    reader.finish();
    require(!domain.name.empty() && !domain.train.empty(), "{}: a domain needs \"name\" and \"train\"",
            reader.place(entry));
    // Names become file names of token shards.
    require(domain.name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
                    std::string::npos && domain.name.size() <= 64,
            "{}: domain.name is \"{}\", expected at most 64 letters, digits, - and _", reader.place(entry),
            domain.name);
    require(names.insert(domain.name).second, "{}: domain.name \"{}\" stands twice", reader.place(entry),
            domain.name);
    domains.push_back(std::move(domain));
  }
}

toml::table parse_toml(std::string_view text, const std::string& where) {
  // The parser recurses; a config has no use for depth.
  int depth = 0;
  for (const char c : text) {
    depth += c == '[' || c == '{' ? 1 : c == ']' || c == '}' ? -1 : c == '\n' && depth < 0 ? -depth : 0;
    require(depth <= 64, "{}: nested deeper than 64 levels", where);
  }
  try {
    return toml::parse(text, where);
  } catch (const toml::parse_error& error) {
    fail(ErrorKind::Input, "{}:{}: not valid TOML: {}", where, error.source().begin.line, error.description());
  }
}

void apply_override(toml::table& root, const std::string& text) {
  const size_t equals = text.find('='), dot = text.find('.');
  if (equals == std::string::npos || dot == std::string::npos || dot > equals) {
    fail(ErrorKind::Usage, "--set {}: expected section.key=value", text);
  }
  const std::string section = text.substr(0, dot), key = text.substr(dot + 1, equals - dot - 1);
  const std::string value = text.substr(equals + 1);
  const std::string where = "--set " + text;
  // A word without quotes is meant as a string: --set run.dir=/tmp/x
  toml::table parsed;
  try {
    parsed = toml::parse("v = " + value, where);
  } catch (const toml::parse_error&) {
    std::string quoted = "v = \"";
    for (const char c : value) quoted += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
    try {
      parsed = toml::parse(quoted + "\"", where);
    } catch (const toml::parse_error& error) {
      fail(ErrorKind::Usage, "{}: not a value: {}", where, error.description());
    }
  }
  if (parsed.size() != 1) fail(ErrorKind::Usage, "{}: expected one value", where);
  if (!root.contains(section)) root.insert(section, toml::table{});
  require(root.get(section)->is_table(), "{}: {} is not a section", where, section);
  root.get(section)->as_table()->insert_or_assign(key, std::move(*parsed.get("v")));
}

// Writes what Reader reads.
class Printer {
 public:
  void section(const char* name) { text_ += fmt::format("{}[{}]\n", text_.empty() ? "" : "\n", name); }
  void text(const char* key, const std::string& value) {
    std::string quoted;
    for (const char c : value) {
      if (c == '"' || c == '\\') quoted += '\\';
      quoted += c;
    }
    text_ += fmt::format("{} = \"{}\"\n", key, quoted);
  }
  void boolean(const char* key, bool value) { text_ += fmt::format("{} = {}\n", key, value); }
  void integer(const char* key, int64_t value, int64_t, int64_t) { text_ += fmt::format("{} = {}\n", key, value); }
  void counts(const char* key, int64_t value, const std::vector<int64_t>& list, int64_t low, int64_t high) {
    if (list.empty()) return integer(key, value, low, high);
    text_ += fmt::format("{} = [{}]\n", key, fmt::join(list, ", "));
  }
  void number(const char* key, double value, double, double) { text_ += fmt::format("{} = {}\n", key, value); }
  void choice(const char* key, const std::string& value, std::initializer_list<const char*>) { text(key, value); }

  std::string text_;
};

// The same as JSON, flat.
class Flattener {
 public:
  void section(const std::string& name) { name_ = name; }
  void text(const char* key, const std::string& value) { add(key, value); }
  void boolean(const char* key, bool value) { add(key, value); }
  void integer(const char* key, int64_t value, int64_t, int64_t) { add(key, value); }
  void counts(const char* key, int64_t value, const std::vector<int64_t>& list, int64_t, int64_t) {
    list.empty() ? add(key, value) : add(key, list);
  }
  void number(const char* key, double value, double, double) { add(key, value); }
  void choice(const char* key, const std::string& value, std::initializer_list<const char*>) { add(key, value); }

  Json json_ = Json::object();

 private:
  void add(const char* key, const Json& value) { json_[name_ + "." + key] = value; }
  std::string name_;
};

}  // namespace

TrainConfig parse_config(std::string_view toml, const std::string& where, const std::vector<std::string>& overrides) {
  toml::table root = parse_toml(toml, where);
  for (const std::string& text : overrides) apply_override(root, text);
  TrainConfig config;
  Reader reader(root, where);
  visit(config, reader);
  read_domains(root, reader, config.domains);
  reader.finish_root();
  check(config, where);
  return config;
}

std::string print_config(const TrainConfig& config) {
  Printer printer;
  visit(config, printer);
  for (const DomainConfig& domain : config.domains) {
    printer.text_ += "\n[[domain]]\n";
    visit_domain(domain, printer);
  }
  return printer.text_;
}

Json flat_config(const TrainConfig& config) {
  Flattener flattener;
  visit(config, flattener);
  for (const DomainConfig& domain : config.domains) {
    flattener.section("domain." + domain.name);
    visit_domain(domain, flattener);
  }
  return flattener.json_;
}

}  // namespace moiety::train
