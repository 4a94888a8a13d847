// Which type each tensor of a GGUF file gets when a model is quantised: a mix of types, and what the user wants otherwise.
#pragma once

#include <cstdint>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/tensor.h"
#include "spec/model_spec.h"

namespace moiety::format {

// Matrices whose name contains `part` get `type`, in layers where more bits pay. "output" is the head, which is the embedding
// where the two are tied.
struct MixRule {
  enum Layers {
    All,
    FirstSixteenth,
    FirstEighth,
    Sensitive,  // the first and the last eighth, and every third between
  };
  std::string_view part;
  spec::ElementType type;
  Layers layers = All;
};

// A type for all matrices, and the rules that make exceptions; of several that fit the last one counts. Those with the names
// of llama.cpp's mixes are close to them.
struct Mix {
  std::string_view name;
  spec::ElementType type;
  int64_t file_type;  // GGUF's general.file_type
  std::span<const MixRule> rules;
};
std::span<const Mix> mixes();
// Lower case will do. nullptr: there is none.
const Mix* mix_named(std::string_view name);

// What the user wants: tensors in whose name `pattern` is found get `type`. Of several that fit the last one counts.
struct TypeWish {
  std::string text;  // as it was written
  std::regex pattern;
  spec::ElementType type;
};

// `type`, or where rows of so many columns are not whole blocks of it one with blocks of 32 and at least as many bits, else F16.
spec::ElementType type_that_fits(spec::ElementType type, int64_t cols);

struct PlannedTensor {
  std::string name;
  std::vector<int64_t> shape;
  spec::ElementType from, to;
  std::optional<spec::ElementType> wanted;  // where rows are not whole blocks of it, `to` is another one
};

// Sets the type of every tensor. Vectors, norms, biases and routers stay F32 whatever is wished. Throws Error(Usage) for a wish
// that fits no tensor.
std::vector<PlannedTensor> choose_types(const Mix& mix, std::span<const TypeWish> wishes, const spec::ModelSpec& spec,
                                        std::vector<TensorSource>& tensors);

}  // namespace moiety::format
