// One step of each optimizer over a model's weights: its time and its bytes. State in a file is also timed the blocking way: a group is
// read, updated and written before the next one is looked at.
//
//   optimizer_benchmark [--json] [MILLIONS [FOLDER]]
//
// Of about so many million weights (48 without), with files in FOLDER (the present one without); medians.
#include <fmt/core.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "train/optimizer.h"

using namespace moiety;
using namespace moiety::train;

namespace {

double seconds_of(const auto& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> x) {
  std::ranges::sort(x);
  return x[x.size() / 2];
}

struct Case {
  const char* name;
  TrainConfig::Optimizer settings;
};

void print(bool json, const char* name, double seconds, const OptimizerFigures& figures) {
  const double parameters = static_cast<double>(figures.parameters);
  if (json) {
    fmt::print("{{\"optimizer\":\"{}\",\"parameters\":{},\"threads\":{},\"seconds\":{},\"state_bytes\":{},\"memory_bytes\":{},\"binds\":\"{}\"}}\n",
               name, figures.parameters, omp_get_max_threads(), seconds, figures.state_bytes, figures.memory_bytes, figures.times.binding());
  } else {
    fmt::print("{:22} {:8.1f} ms  {:5.2f} bytes a parameter  {:7.1f} MiB in memory  {}\n", name, seconds * 1e3,
               static_cast<double>(figures.state_bytes) / parameters, static_cast<double>(figures.memory_bytes) / 0x1p20,
               figures.streamed_groups > 0 ? std::string(figures.times.binding()) + " binds" : "");
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  const bool json = std::erase(words, "--json") > 0;
  const unsigned long millions = words.empty() ? 48 : std::strtoul(words[0].c_str(), nullptr, 10);
  if (words.size() > 2 || millions == 0 || millions > 100000) {
    fmt::print(stderr, "optimizer_benchmark [--json] [MILLIONS [FOLDER]]\n");
    return 2;
  }
  const fs::path folder = words.size() == 2 ? words[1] : ".";

  // A layer of 16 experts has 12.6 million.
  const size_t layers = std::max<size_t>(1, millions * 10 / 126);
  const spec::ModelSpec spec = model_spec(parse_config("", "benchmark", {fmt::format("model.layers={}", layers), "model.width=512",
                                                                         "model.heads=8", "model.head_dim=64", "model.experts=16",
                                                                         "model.expert_hidden=512"}), 4096, 0);
  const size_t all_mb = static_cast<size_t>(millions) * 8 / 2;
  const std::vector<Case> cases{{"f32", {}},
                                {"int8", {.state = "int8"}},
                                {"factored", {.state = "factored"}},
                                {"factored, no first", {.beta1 = 0, .state = "factored"}},
                                {"f32, half in a file", {.offload = "ssd", .memory_mb = static_cast<int64_t>(all_mb)}},
                                {"f32 in a file", {.offload = "ssd"}},
                                {"int8 in a file", {.state = "int8", .offload = "ssd"}}};
  constexpr int64_t kSteps = 5;
  for (const Case& one : cases) {
    Weights weights(spec);
    weights.initialise(spec, 1);
    Optimizer optimizer(one.settings, weights, folder);
    std::vector<double> seconds;
    for (int64_t step = 0; step < kSteps; ++step) {
      float x = 1e-4f;
      for (float& gradient : weights.gradients()) gradient = x = -x;
      const double time = seconds_of([&] { optimizer.step(step, 1e-3); });
      if (step > 0) seconds.push_back(time);
    }
    print(json, one.name, median(seconds), optimizer.figures());
  }

  // The blocking way: the bytes of f32 state through the same file, one group after the other.
  constexpr size_t kGroup = 1 << 20;
  const size_t groups = static_cast<size_t>(millions);
  StateStream stream(std::vector<size_t>(groups, kGroup * 8), 0, folder);
  std::vector<float> weight(kGroup), gradient(kGroup, 1e-4f);
  std::vector<std::byte> state(kGroup * 8);
  std::vector<double> seconds;
  for (int step = 0; step < 3; ++step) {
    seconds.push_back(seconds_of([&] {
      for (size_t g = 0; g < groups; ++g) {
        stream.read(g, state);
        const Floats first = moment_in_place(MomentForm::F32, Moment::First, kGroup, state),
                     second = moment_in_place(MomentForm::F32, Moment::Second, kGroup, state);
        const AdamStep adam{1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 1.0f, 0.1f, 0.05f};
#pragma omp parallel for
        for (size_t at = 0; at < kGroup; at += 1 << 15) {
          const auto part = [&](auto x) { return x.subspan(at, 1 << 15); };
          adamw(adam, part(ConstFloats(gradient)), part(Floats(weight)), part(first), part(second));
        }
        stream.write(g, state);
      }
    }));
  }
  print(json, "f32 in a file, blocking", median(seconds), {.parameters = groups * kGroup, .state_bytes = groups * kGroup * 8,
                                                           .memory_bytes = stream.memory_bytes()});
  return 0;
}
