// Generated tasks with one right answer: text to train on, and questions to probe a model with. Whether a question belongs to training
// or to probing is a function of the question alone (its hash), so that no seed ever puts one into both.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/random.h"

namespace moiety::corpus {

enum class Use {
  Train,
  Probe,  // a fifth of all questions
};

// A line of text: question + answer + "\n". Answers begin with a space.
struct Instance {
  std::string question, answer;
  std::vector<std::string> wrong;  // kChoices - 1 other answers, of the same length, all different
};
inline constexpr int kChoices = 4;

// "arithmetic" (sums of numbers below 100), "copy" (letters), "brackets" (closing what is open), "recall" (a value by its key).
std::span<const std::string_view> synthetic_kinds();
bool is_synthetic_kind(std::string_view kind);

Use use_of(std::string_view question);
Instance make_instance(std::string_view kind, Use use, Random& random);

// Lines of `shots` questions of training with their answers.
std::string few_shots(std::string_view kind, int shots, Random& random);

struct SyntheticOptions {
  size_t bytes = 2'000'000;  // of training text, a kind
  uint64_t seed = 1;
};
// OUT/<kind>.train.txt, of training's questions, and a tenth as much of <kind>.valid.txt, of those for probing: documents of sixteen
// lines, as `moiety corpus` parts them.
void write_synthetic(const fs::path& out, std::span<const std::string> kinds, const SyntheticOptions& options);

}  // namespace moiety::corpus
