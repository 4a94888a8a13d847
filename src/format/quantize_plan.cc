#include "format/quantize_plan.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "base/error.h"

namespace moiety::format {
namespace {

using spec::ElementType;
using enum spec::ElementType;

constexpr MixRule kHead[] = {{"output.", Q6_K}};
constexpr MixRule kQ2K[] = {{"attn_v.", Q4_K}, {"attn_output.", Q3_K}, {"ffn_down", Q3_K}, {"output.", Q6_K}};
constexpr MixRule kQ3KM[] = {{"attn_v.", Q4_K},
                             {"attn_v.", Q5_K, MixRule::FirstSixteenth},
                             {"attn_output.", Q4_K},
                             {"ffn_down", Q4_K},
                             {"ffn_down", Q5_K, MixRule::FirstSixteenth},
                             {"output.", Q6_K}};
constexpr MixRule kQ3KL[] = {{"attn_v.", Q5_K}, {"attn_output.", Q5_K}, {"ffn_down", Q5_K}, {"output.", Q6_K}};
constexpr MixRule kSmall[] = {{"attn_v.", Q5_K, MixRule::FirstEighth}, {"ffn_down", Q5_K, MixRule::FirstEighth}, {"output.", Q6_K}};
constexpr MixRule kMedium[] = {{"attn_v.", Q6_K, MixRule::Sensitive}, {"ffn_down", Q6_K, MixRule::Sensitive}, {"output.", Q6_K}};
constexpr MixRule kIq4[] = {{"attn_v.", Q5_K}, {"ffn_down", Q5_K, MixRule::FirstEighth}, {"output.", Q6_K}};
constexpr MixRule kExpertsMxfp4[] = {{"_exps.", MXFP4}};

// The numbers are llama.cpp's.
constexpr Mix kMixes[] = {
    {"F32", F32, 0, {}},
    {"F16", F16, 1, {}},
    {"BF16", BF16, 32, {}},
    {"Q8_0", Q8_0, 7, {}},
    {"Q6_K", Q6_K, 18, {}},
    {"Q5_K_M", Q5_K, 17, kMedium},
    {"Q5_K_S", Q5_K, 16, kHead},
    {"Q5_K", Q5_K, 16, {}},
    {"Q5_1", Q5_1, 9, kHead},
    {"Q5_0", Q5_0, 8, kHead},
    {"Q4_K_M", Q4_K, 15, kMedium},
    {"Q4_K_S", Q4_K, 14, kSmall},
    {"Q4_K", Q4_K, 14, {}},
    {"Q4_1", Q4_1, 3, kHead},
    {"Q4_0", Q4_0, 2, kHead},
    {"IQ4_NL", IQ4_NL, 25, kIq4},
    {"IQ4_XS", IQ4_XS, 30, kIq4},
    {"MXFP4_MOE", Q8_0, 38, kExpertsMxfp4},
    {"MXFP4", MXFP4, 38, {}},
    {"Q3_K_L", Q3_K, 13, kQ3KL},
    {"Q3_K_M", Q3_K, 12, kQ3KM},
    {"Q3_K_S", Q3_K, 11, kHead},
    {"Q3_K", Q3_K, 11, {}},
    {"Q2_K", Q2_K, 10, kQ2K},
};

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

// Matrices that products are made with; small ones that decide much are not among them.
bool may_be_quantised(const TensorSource& tensor) {
  const size_t dimensions = tensor.shape.size();
  return dimensions >= 2 && tensor.shape[dimensions - 1] > 1 && tensor.shape[dimensions - 2] > 1 &&
         tensor.name.ends_with(".weight") && !contains(tensor.name, "norm") && !contains(tensor.name, "ffn_gate_inp");
}

// -1: it belongs to no layer.
int layer_of(std::string_view name) {
  int layer = -1;
  if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
  return layer;
}

bool is_among(MixRule::Layers layers, int layer, int count) {
  const int eighth = count / 8;
  switch (layers) {
    case MixRule::All:
      return true;
    case MixRule::FirstSixteenth:
      return layer < count / 16;
    case MixRule::FirstEighth:
      return layer < eighth;
    case MixRule::Sensitive:
      return layer < eighth || layer >= 7 * count / 8 || (layer - eighth) % 3 == 2;
  }
  return false;
}

ElementType type_in(const Mix& mix, const spec::ModelSpec& spec, const std::string& name) {
  const bool is_head = name == "output.weight" || (spec.tied_embeddings && name == "token_embd.weight");
  ElementType type = mix.type;
  for (const MixRule& rule : mix.rules) {
    const bool fits = rule.part == "output." ? is_head : contains(name, rule.part);
    if (fits && is_among(rule.layers, layer_of(name), spec.num_layers)) type = rule.type;
  }
  return type;
}

}  // namespace

ElementType type_that_fits(ElementType type, int64_t cols) {
  const auto fits = [&](ElementType t) { return cols % static_cast<int64_t>(spec::info(t).block_elements) == 0; };
  if (fits(type)) return type;
  constexpr std::pair<ElementType, ElementType> kSmaller[] = {{Q2_K, IQ4_NL}, {Q3_K, IQ4_NL}, {IQ4_XS, IQ4_NL},
                                                              {Q4_K, Q5_0},   {Q5_K, Q5_1},   {Q6_K, Q8_0}};
  for (const auto& [large, small] : kSmaller) {
    if (large == type && fits(small)) return small;
  }
  return F16;
}

std::span<const Mix> mixes() { return kMixes; }

const Mix* mix_named(std::string_view name) {
  const auto same = [](char a, char b) { return std::toupper(static_cast<unsigned char>(a)) == b; };
  for (const Mix& mix : kMixes) {
    if (std::equal(name.begin(), name.end(), mix.name.begin(), mix.name.end(), same)) return &mix;
  }
  return nullptr;
}

std::vector<PlannedTensor> choose_types(const Mix& mix, std::span<const TypeWish> wishes, const spec::ModelSpec& spec,
                                        std::vector<TensorSource>& tensors) {
  std::vector<bool> was_used(wishes.size());
  std::vector<PlannedTensor> plan;
  for (TensorSource& tensor : tensors) {
    PlannedTensor& planned = plan.emplace_back(PlannedTensor{tensor.name, tensor.shape, tensor.type, F32, std::nullopt});
    if (may_be_quantised(tensor)) {
      ElementType wanted = type_in(mix, spec, tensor.name);
      for (size_t i = 0; i < wishes.size(); ++i) {
        if (!std::regex_search(tensor.name, wishes[i].pattern)) continue;
        wanted = wishes[i].type;
        was_used[i] = true;
      }
      planned.to = type_that_fits(wanted, tensor.shape.back());
      if (planned.to != wanted) planned.wanted = wanted;
    }
    tensor.type = planned.to;
  }
  for (size_t i = 0; i < wishes.size(); ++i) {
    if (!was_used[i]) fail(ErrorKind::Usage, "--tensor {}: no matrix has a name like that", wishes[i].text);
  }
  return plan;
}

}  // namespace moiety::format
