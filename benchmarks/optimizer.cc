// One step of each optimizer over a model's weights: its time and its bytes. Below that, AdamW's update without the gradient's norm and
// with its state in a file: interleaved, and the blocking way, in which the same reads and writes are waited for.
//
//   optimizer_benchmark [--json] [MILLIONS [FOLDER]]
//
// Of about so many million weights (24 without), with files in FOLDER (the present one without). Cases take turns; medians, least, most.
#include <fmt/core.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
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

// State of so many weights in a stream of groups, and AdamW over it as the optimizer does it.
class StreamedAdam {
 public:
  StreamedAdam(size_t weights, size_t budget, const fs::path& folder, Transfers transfers)
      : weights_(weights), stream_(std::vector<size_t>(weights / kGroup, kGroup * 8), budget, folder, transfers) {}

  void step(Floats gradient, Floats weight) {
    stream_.visit([&](size_t group, std::span<std::byte> state) {
      const Floats first = moment_in_place(MomentForm::F32, Moment::First, kGroup, state),
                   second = moment_in_place(MomentForm::F32, Moment::Second, kGroup, state);
      const AdamStep adam{1e-3f, 0.9f, 0.95f, 1e-8f, 0.1f, 1.0f, 0.1f, 0.05f};
#pragma omp parallel for schedule(dynamic, 1)
      for (size_t at = 0; at < kGroup; at += kPiece) {
        const auto part = [&](Floats x, size_t from) { return x.subspan(from, kPiece); };
        adamw(adam, part(gradient, group * kGroup + at), part(weight, group * kGroup + at), part(first, at), part(second, at));
      }
    });
  }
  OptimizerFigures figures() const {
    return {weights_, weights_ * 8, stream_.memory_bytes(), stream_.groups(), stream_.streamed(), stream_.times()};
  }

  static constexpr size_t kGroup = 1 << 20, kPiece = 1 << 15;

 private:
  size_t weights_;
  StateStream stream_;
};

struct Case {
  const char* name;
  std::function<void()> step;
  std::function<OptimizerFigures()> figures;
  std::vector<double> seconds = {};
};

void print(bool json, const Case& c) {
  const OptimizerFigures figures = c.figures();
  const double seconds = median(c.seconds), least = std::ranges::min(c.seconds), most = std::ranges::max(c.seconds);
  const char* binds = figures.streamed_groups > 0 ? figures.times.binding() : "update";
  if (json) {
    fmt::print("{{\"optimizer\":\"{}\",\"parameters\":{},\"threads\":{},\"seconds\":{},\"least\":{},\"most\":{},\"state_bytes\":{},"
               "\"memory_bytes\":{},\"binds\":\"{}\"}}\n",
               c.name, figures.parameters, omp_get_max_threads(), seconds, least, most, figures.state_bytes, figures.memory_bytes, binds);
  } else {
    fmt::print("{:28} {:8.1f} ms ({:.1f} to {:.1f})  {:5.2f} bytes a parameter  {:6.1f} MiB in memory  {} binds\n", c.name, seconds * 1e3,
               least * 1e3, most * 1e3, static_cast<double>(figures.state_bytes) / static_cast<double>(figures.parameters),
               static_cast<double>(figures.memory_bytes) / 0x1p20, binds);
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  const bool json = std::erase(words, "--json") > 0;
  const unsigned long millions = words.empty() ? 24 : std::strtoul(words[0].c_str(), nullptr, 10);
  if (words.size() > 2 || millions < 16 || millions > 100000) {
    fmt::print(stderr, "optimizer_benchmark [--json] [MILLIONS [FOLDER]], MILLIONS at least 16\n");
    return 2;
  }
  const fs::path folder = words.size() == 2 ? words[1] : ".";

  const size_t layers = std::max<size_t>(1, millions / 13);  // one of 16 experts has 13 million
  const spec::ModelSpec spec = model_spec(parse_config("", "benchmark", {fmt::format("model.layers={}", layers), "model.width=512",
                                                                         "model.heads=8", "model.head_dim=64", "model.experts=16",
                                                                         "model.expert_hidden=512"}), 4096, 0);
  Weights weights(spec);
  const size_t streamed = weights.values().size() / StreamedAdam::kGroup * StreamedAdam::kGroup;

  std::vector<Case> cases;
  int64_t steps = 0;
  const auto add_form = [&](const char* name, const TrainConfig::Optimizer& settings) {
    const auto optimizer = std::make_shared<Optimizer>(settings, weights);
    cases.push_back({name, [=, &steps] { optimizer->step(steps, 1e-3); }, [=] { return optimizer->figures(); }});
  };
  const auto add_stream = [&](const char* name, size_t budget, Transfers transfers) {
    const auto adam = std::make_shared<StreamedAdam>(streamed, budget, folder, transfers);
    cases.push_back({name, [=, &weights] { adam->step(weights.gradients(), weights.values()); }, [=] { return adam->figures(); }});
  };
  add_form("f32", {});
  add_form("int8", {.state = "int8"});
  add_form("factored", {.state = "factored"});
  add_form("factored, no first moment", {.beta1 = 0, .state = "factored"});
  add_stream("update alone, f32", SIZE_MAX, Transfers::Interleaved);
  add_stream("  half in a file", streamed * 8 / 2, Transfers::Interleaved);
  add_stream("  half in a file, blocking", streamed * 8 / 2, Transfers::Blocking);
  add_stream("  in a file", 0, Transfers::Interleaved);
  add_stream("  in a file, blocking", 0, Transfers::Blocking);

  // Every round has every case, so that what else goes on meets all alike; the first is memory coming into being.
  constexpr int kRounds = 8;
  for (int round = 0; round < kRounds; ++round, ++steps) {
    for (size_t i = 0; i < cases.size(); ++i) {
      Case& c = cases[(i + static_cast<size_t>(round)) % cases.size()];
      float x = 1e-4f;
      for (float& gradient : weights.gradients()) gradient = x = -x;
      const double seconds = seconds_of(c.step);
      if (round > 0) c.seconds.push_back(seconds);
    }
  }
  for (const Case& c : cases) print(json, c);
  return 0;
}
