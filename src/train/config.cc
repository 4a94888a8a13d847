#include "train/config.h"

#include <fmt/ranges.h>
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/error.h"

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
  v.integer("round_tokens", c.train.round_tokens, 0, 1 << 16);

  v.section("ranks");
  v.integer("experts", c.ranks.experts, 1, 1 << 20);
  v.choice("dispatch", c.ranks.dispatch, {"all_to_all", "all_gather", "two_level"});
  v.integer("chunks", c.ranks.chunks, 1, 1024);
  v.choice("payload", c.ranks.payload, {"f32", "bf16"});
  v.integer("node", c.ranks.node, 0, 1 << 20);

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

void check_routing(const TrainConfig& c, const std::string& where) {
  require(c.train.receive_budget == 0 || (c.model.select != "expert_choice" && c.model.weigh != "sparse_mixer"),
          "{}: train.receive_budget goes by choices that a token makes by itself, not with model.select = \"expert_choice\" or "
          "model.weigh = \"sparse_mixer\"", where);
  require((c.balance.concentration == 0 && c.balance.mutual_information == 0) || c.train.receive_budget == 0,
          "{}: balance.concentration and balance.mutual_information are of all tokens of a pass, which train.receive_budget may take apart",
          where);
  require(c.balance.mutual_information == 0 || c.model.select != "tsallis",
          "{}: balance.mutual_information is of Shannon's entropy; model.select = \"tsallis\" has another", where);
  const TrainConfig::Anneal& a = c.anneal;
  const bool freezes = c.train.frozen_experts + c.train.frozen_attention_experts > 0;
  require(!freezes || (a.search_steps == 0 && a.spawn_step == 0),
          "{}: train.frozen_experts are the first ones, which anneal.search_steps and anneal.spawn_step move", where);
  require((!freezes && a.search_steps == 0) || c.model.gru_experts == 0,
          "{}: train.frozen_experts and anneal.search_steps are about experts of one kind, not with model.gru_experts", where);
  const int64_t experts = c.model.experts + c.model.gru_experts;
  require(a.experts_from <= experts, "{}: anneal.experts_from ({}) is more than model.experts ({})", where, a.experts_from, experts);
  require(a.spawn_step == 0 || c.model.gru_experts == 0,
          "{}: anneal.spawn_step makes experts copies of the first, which model.gru_experts can't be", where);
  const bool open_ended = (a.experts_from > 0 && a.experts_steps == 0) || (a.temperature_from > 0 && a.temperature_steps == 0);
  require(c.train.minutes == 0 || !open_ended,
          "{}: with train.minutes nobody knows where the run ends: anneal.experts_steps and anneal.temperature_steps must say how long",
          where);
  require(c.train.minutes > 0 || a.spawn_step < c.train.steps, "{}: anneal.spawn_step ({}) is not before the end, train.steps ({})",
          where, a.spawn_step, c.train.steps);
  require(a.search_steps == 0 || (c.model.iterations == 1 && c.train.capacity == 0 && c.train.receive_budget == 0),
          "{}: anneal.search_steps sends tokens to experts that no router chose: it does not go with model.iterations, train.capacity or "
          "train.receive_budget", where);
  require(a.search_steps == 0 || c.train.minutes > 0 || a.spawn_step + a.search_steps < c.train.steps,
          "{}: the search of anneal.search_steps ({}) does not end before the run, train.steps ({})", where, a.search_steps, c.train.steps);
  require(c.train.receive_sets <= experts, "{}: train.receive_sets ({}) is more than model.experts ({})", where,
          c.train.receive_sets, experts);
  require(c.train.receive_budget == 0 || c.train.capacity == 0,
          "{}: train.capacity turns visits away and train.receive_budget takes them all in smaller pieces; set one of them", where);
  const int64_t a_token = std::min(std::max(c.model.experts_per_token, a.experts_from),
                                   (experts + c.train.receive_sets - 1) / c.train.receive_sets);
  require(c.train.receive_budget == 0 || c.train.receive_budget >= a_token * c.train.sequence,
          "{}: train.receive_budget is {}, expected at least the {} rows that one sequence may need", where, c.train.receive_budget,
          a_token * c.train.sequence);
}

// What spec::check can't know, or says without the keys' names.
void check_router(const TrainConfig& c, const std::string& where) {
  const TrainConfig::Model& m = c.model;
  const int64_t choices = m.experts + m.gru_experts + m.null_experts + m.zero_experts + m.copy_experts + m.constant_experts;
  require(m.experts_per_token <= choices, "{}: model.experts_per_token ({}) is more than model.experts ({}){}", where,
          m.experts_per_token, m.experts, choices > m.experts ? ", GRUs and those that cost nothing together" : "");
  require(m.groups_per_token <= m.groups, "{}: model.groups_per_token ({}) is more than model.groups ({})", where,
          m.groups_per_token, m.groups);
  require(m.select != "grouped" || m.groups > 1, "{}: model.select = \"grouped\" needs model.groups above 1", where);
  require(m.score == "softmax" || (m.select != "top_p" && m.select != "tsallis"),
          "{}: model.select = \"{}\" adds up scores, which must be softmax's, not \"{}\"", where, m.select, m.score);
  require(m.weigh != "sparse_mixer" || (m.score == "logits" && !m.renormalise),
          "{}: model.weigh = \"sparse_mixer\" needs model.score = \"logits\" and model.renormalise = false", where);
  require(m.score != "logits" || !m.renormalise, "{}: model.score = \"logits\" needs model.renormalise = false: logits have no sum to divide by",
          where);
  require(m.select != "expert_choice" || c.balance.bias_rate == 0,
          "{}: balance.bias_rate with model.select = \"expert_choice\", whose bias holds the experts' cut-offs", where);
}

// A layer is computed again by itself, from its input and its routing.
void check_recompute(const TrainConfig& c, const std::string& where) {
  const TrainConfig::Model& m = c.model;
  const bool passes_state = m.gate == "recurrent" || m.gate == "ahead" || m.gate == "decoupled" || m.gating_residual || m.momentum != "none";
  require(c.train.recompute == "none" || (!passes_state && c.balance.consistency == 0),
          "{}: train.recompute = \"layers\" needs layers that hand on nothing but their output: no recurrent, ahead or decoupled gate, no "
          "gating residual, no momentum, no consistency", where);
  const bool is_plain = m.null_experts + m.zero_experts + m.copy_experts + m.constant_experts == 0 && m.weigh == "scores" &&
                        m.select != "expert_choice";
  require(c.train.round_tokens == 0 || is_plain,
          "{}: train.round_tokens changes the choice that tokens make among real experts: it does not go with experts that cost nothing, "
          "sparse_mixer or expert_choice", where);
  require(c.train.round_tokens == 0 || c.train.receive_budget == 0,
          "{}: train.round_tokens is of a whole pass, which train.receive_budget takes apart", where);
}

void check_ranks(const TrainConfig& c, const std::string& where) {
  const auto together = [&](bool is_asked, std::string_view key) {
    require(c.ranks.experts == 1 || !is_asked, "{}: {} looks at all experts of a layer at once, which ranks.experts = {} spreads over ranks",
            where, key, c.ranks.experts);
  };
  together(c.anneal.search_steps > 0, "anneal.search_steps");
  together(c.anneal.spawn_step > 0, "anneal.spawn_step");
  together(c.train.frozen_experts + c.train.frozen_attention_experts > 0, "train.frozen_experts");
}

// After the first dense layers every moe_every-th has experts.
bool is_moe_layer(const TrainConfig::Model& m, int64_t layer) {
  return layer >= m.dense_layers && (layer - m.dense_layers) % m.moe_every == m.moe_offset;
}

int64_t count_moe_layers(const TrainConfig::Model& m) {
  int64_t count = 0;
  for (int64_t layer = 0; layer < m.layers; ++layer) count += is_moe_layer(m, layer);
  return count;
}

void check(const TrainConfig& c, const std::string& where) {
  double weight = 0;
  for (const DomainConfig& domain : c.domains) weight += domain.weight;
  require(c.domains.empty() || weight > 0, "{}: all domains have weight 0", where);
  require(c.model.heads % c.model.kv_heads == 0, "{}: model.heads ({}) must be a multiple of model.kv_heads ({})",
          where, c.model.heads, c.model.kv_heads);
  require(c.model.head_dim % 2 == 0, "{}: model.head_dim is {}, expected an even number", where, c.model.head_dim);
  check_router(c, where);
  require(c.model.router_trained || c.model.gate == "linear", "{}: model.router_trained = false needs model.gate = \"linear\", found \"{}\"",
          where, c.model.gate);
  require(c.balance.consistency == 0 || c.train.receive_budget == 0,
          "{}: balance.consistency passes a batch twice, which train.receive_budget can't take apart", where);
  require(c.balance.consistency == 0 || c.model.gate == "random",
          "{}: balance.consistency is of two passes that visit different experts, which takes model.gate = \"random\", found \"{}\"",
          where, c.model.gate);
  require(c.model.dense_layers <= c.model.layers, "{}: model.dense_layers ({}) is more than model.layers ({})", where,
          c.model.dense_layers, c.model.layers);
  check_routing(c, where);
  check_recompute(c, where);
  check_ranks(c, where);
  require(c.optimizer.offload == "none" || c.optimizer.state != "factored",
          "{}: optimizer.offload is \"{}\", expected \"none\" with optimizer.state \"factored\"", where, c.optimizer.offload);
  const int64_t moe_layers = count_moe_layers(c.model);
  require(c.model.experts_by_layer.empty() || static_cast<int64_t>(c.model.experts_by_layer.size()) == moe_layers,
          "{}: model.experts holds {} numbers, but {} of the layers have experts", where, c.model.experts_by_layer.size(), moe_layers);
  require(c.model.moe_offset < c.model.moe_every, "{}: model.moe_offset ({}) must be less than model.moe_every ({})", where,
          c.model.moe_offset, c.model.moe_every);
  require(c.train.batch * c.train.sequence <= (1 << 24), "{}: train.batch * train.sequence is {}, expected at most {}",
          where, c.train.batch * c.train.sequence, 1 << 24);
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

namespace {

// Names that Reader has let through.
spec::LogitActivation logit_activation_named(std::string_view name) {
  using enum spec::LogitActivation;
  return name == "tanh" ? Tanh : name == "sigmoid" ? Sigmoid : name == "silu" ? Silu : None;
}
spec::Score score_named(std::string_view name) {
  using enum spec::Score;
  return name == "sigmoid" ? Sigmoid : name == "logits" ? Logits : Softmax;
}
spec::Select select_named(std::string_view name) {
  using enum spec::Select;
  return name == "grouped"         ? Grouped
         : name == "top_p"         ? TopP
         : name == "threshold"     ? Threshold
         : name == "expert_choice" ? ExpertChoice
         : name == "tsallis"       ? Tsallis
                                   : TopK;
}

}  // namespace

namespace {

spec::Gate gate_named(const std::string& name) {
  using spec::Gate;
  constexpr std::pair<const char*, Gate> kGates[] = {{"linear", Gate::Linear},       {"cosine", Gate::Cosine}, {"hash", Gate::Hash},
                                                     {"random", Gate::Random},       {"recurrent", Gate::Recurrent},
                                                     {"tree", Gate::Tree},           {"ahead", Gate::Ahead},
                                                     {"decoupled", Gate::Decoupled}};
  return std::ranges::find(kGates, name, [](const auto& row) { return std::string(row.first); })->second;
}

// What a gate has no use for stays as it is by default.
void set_gate(const TrainConfig::Model& m, spec::RouterRule& rule) {
  using spec::Gate;
  rule.gate = gate_named(m.gate);
  const bool has_width = rule.gate == Gate::Cosine || rule.gate == Gate::Recurrent || rule.gate == Gate::Decoupled;
  if (has_width) rule.gate_width = static_cast<int>(m.gate_width);
  if (rule.gate == Gate::Cosine) {
    rule.gate_temperature = static_cast<float>(m.gate_temperature);
    rule.gate_learns_temperature = m.gate_learns_temperature;
  }
  if (rule.gate == Gate::Tree) rule.gate_step = static_cast<float>(m.gate_step);
  if (!rule.is_learnt()) rule.gate_seed = m.gate_seed;
}

}  // namespace

spec::ModelSpec model_spec(const TrainConfig& config, int vocab_size, int end_of_text) {
  const TrainConfig::Model& m = config.model;
  const auto as_int = [](int64_t value) { return static_cast<int>(value); };
  spec::ModelSpec s{.family = "moiety"};
  s.num_layers = as_int(m.layers);
  s.width = as_int(m.width);
  s.vocab_size = vocab_size;
  s.max_positions = as_int(m.max_positions > 0 ? m.max_positions : config.train.sequence);
  s.norm_eps = static_cast<float>(m.norm_eps);
  s.tied_embeddings = m.tied_embeddings;
  s.attention = {.num_heads = as_int(m.heads),
                 .num_kv_heads = as_int(m.kv_heads),
                 .head_dim = as_int(m.head_dim),
                 .qk_norm = m.qk_norm == "none"       ? spec::QkNorm::None
                            : m.qk_norm == "per_head" ? spec::QkNorm::PerHead
                                                      : spec::QkNorm::Whole,
                 .weigh = m.attention_weights == "softmax" ? spec::AttentionWeigh::Softmax : spec::AttentionWeigh::StickBreaking,
                 .rope = {.theta = static_cast<float>(m.rope_theta)}};
  if (m.attention_experts > 0) {
    s.attention.experts = spec::AttentionExperts{as_int(m.attention_experts), as_int(m.attention_experts_per_token)};
  }
  s.moe.router = {.num_experts = as_int(m.experts + m.gru_experts),
                  .experts_per_token = as_int(m.experts_per_token),
                  .logit_activation = logit_activation_named(m.logit_activation),
                  .temperature = static_cast<float>(m.temperature),
                  .score = score_named(m.score),
                  .gating_residual = m.gating_residual,
                  .select = select_named(m.select),
                  .has_selection_bias = config.balance.bias_rate > 0 || m.select == "expert_choice",
                  .num_groups = as_int(m.groups),
                  .groups_per_token = as_int(m.groups_per_token == 0 ? m.groups : m.groups_per_token),
                  .group_score = m.group_score == "best" ? spec::GroupScore::Best : spec::GroupScore::BestTwo,
                  .top_p = static_cast<float>(m.top_p),
                  .threshold = static_cast<float>(m.threshold),
                  .tsallis_q = static_cast<float>(m.tsallis_q),
                  .soft_entropy = static_cast<float>(m.soft_entropy),
                  .null_experts = as_int(m.null_experts),
                  .zero_experts = as_int(m.zero_experts),
                  .copy_experts = as_int(m.copy_experts),
                  .constant_experts = as_int(m.constant_experts),
                  .weigh = m.weigh == "scores" ? spec::Weigh::Scores : spec::Weigh::SparseMixer,
                  .renormalise = m.renormalise,
                  .scale = static_cast<float>(m.scale)};
  set_gate(m, s.moe.router);
  s.moe.expert_hidden = as_int(m.expert_hidden);
  s.moe.shared_hidden = as_int(m.shared_hidden);
  s.moe.shared_gate = m.shared_gate;
  s.dense_hidden = as_int(m.dense_hidden);
  s.moe.shared_mix = m.shared_mix;
  s.moe.iterations = as_int(m.iterations);
  s.moe.expert_width = as_int(m.expert_width);
  s.moe.ternary_experts = m.ternary_experts;
  s.moe.gru_experts = as_int(m.gru_experts);
  s.moe.gru_hidden = m.gru_experts > 0 ? as_int(m.gru_hidden) : 0;
  s.moe.momentum = {.kind = m.momentum == "heavy_ball" ? spec::Momentum::HeavyBall
                            : m.momentum == "adam"     ? spec::Momentum::Adam
                                                       : spec::Momentum::None,
                    .decay = static_cast<float>(m.momentum_decay),
                    .square_decay = static_cast<float>(m.momentum_square_decay),
                    .step = static_cast<float>(m.momentum_step)};
  size_t moe_layer = 0;
  for (int64_t layer = 0; layer < m.layers; ++layer) {
    const bool is_moe = is_moe_layer(m, layer);
    s.feed_forward.push_back(is_moe ? spec::FeedForward::Moe : spec::FeedForward::Dense);
    if (!m.experts_by_layer.empty()) s.moe.experts_L.push_back(is_moe ? as_int(m.experts_by_layer[moe_layer++] + m.gru_experts) : 0);
  }
  s.eos_tokens = {end_of_text};
  spec::check(s, "the configuration");
  return s;
}

}  // namespace moiety::train
