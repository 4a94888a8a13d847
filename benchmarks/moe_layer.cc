// One MoE layer of training, forward and backward, without its router: what the experts' products reach of the machine's peak.
//
//   moe_layer_benchmark [--json] [--keep-inputs] [T E k D F [f32|bf16]]
//
// Without a shape several are measured. The routing is uneven as a young model's: scores are normal, each expert has a normal bias of
// 0.3. FLOP are 18 T k D F, what the visits need. Peaks are measured in between; medians. In bf16 weights are packed, as the optimizer
// leaves them; what packing takes by itself is said beside.
#include <fmt/core.h>
#include <omp.h>
#include <time.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/random.h"
#include "kernel/peaks.h"
#include "moe/dispatch_plan.h"
#include "train/experts.h"
#include "train/feed_forward_experts.h"
#include "train/keep_memory.h"
#include "train/parallel.h"

using namespace moiety;
using namespace moiety::train;

namespace {

// One thread is measured in processor time, which a busy machine disturbs less.
double now() {
  timespec time;
  clock_gettime(omp_get_max_threads() == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double seconds_of(const auto& body) {
  const double start = now();
  body();
  return now() - start;
}

double median(std::vector<double> x) {
  std::ranges::sort(x);
  return x[x.size() / 2];
}

// FLOP a second of all threads.
double peak(GemmType type) {
  const kernel::Kernels& kernels = *kernel::available_kernels()[0];
  const kernel::Peaks& peaks = kernel::peaks_of(kernels);
  const auto loop = type == GemmType::Bf16 && peaks.bf16 != nullptr ? peaks.bf16 : peaks.f32;
  double done = 0;
  const double seconds = seconds_of([&] {
#pragma omp parallel reduction(+ : done)
    done += loop(200000);
  });
  return done / seconds;
}

struct Shape {
  size_t tokens, experts, chosen, width, hidden;
};

Matrix<float> random_matrix(Random& random, size_t rows, size_t cols, double size) {
  Matrix<float> x(rows, cols);
  for (float& value : x.view().flat()) value = static_cast<float>(size * random.normal());
  return x;
}

moe::Routing routing_of(Random& random, const Shape& shape) {
  std::vector<float> bias_E(shape.experts), scores_TE(shape.tokens * shape.experts);
  for (float& bias : bias_E) bias = static_cast<float>(0.3 * random.normal());
  for (size_t i = 0; i < scores_TE.size(); ++i) scores_TE[i] = bias_E[i % shape.experts] + static_cast<float>(random.normal());
  const spec::RouterRule rule{.num_experts = static_cast<int>(shape.experts), .experts_per_token = static_cast<int>(shape.chosen)};
  return moe::route(rule, scores_TE, {});
}

void measure(const Shape& shape, const Mode& mode, bool json) {
  const GemmType type = mode.type;
  Random random(1);
  const auto [tokens, experts, chosen, width, hidden] = shape;
  const moe::Routing routing = routing_of(random, shape);
  const moe::DispatchPlan plan = moe::plan_dispatch(routing);
  const double size = 1 / std::sqrt(static_cast<double>(width));
  Matrix<float> gate = random_matrix(random, experts * hidden, width, size), up = random_matrix(random, experts * hidden, width, size),
                down = random_matrix(random, experts * width, hidden, size);
  Matrix<float> dgate(experts * hidden, width), dup(experts * hidden, width), ddown(experts * width, hidden);
  const Matrix<float> x = random_matrix(random, tokens, width, 1), dout = random_matrix(random, tokens, width, 1);
  Matrix<float> out(tokens, width), dx(tokens, width);
  std::vector<float> dmix(routing.weights_N.size());
  const ExpertStack<const float> weights{experts, width, hidden, gate.view().data(), up.view().data(), down.view().data()};
  const ExpertStack<float> gradients{experts, width, hidden, dgate.view().data(), dup.view().data(), ddown.view().data()};

  // The optimizer packs what it changes, so a step pays for it once, whatever its passes.
  const size_t bytes = packed_bytes(hidden, width);
  Matrix<std::byte> packed_memory(type == GemmType::Bf16 ? 3 * experts : 0, bytes);
  const auto pack = [&](size_t i) {
    const size_t e = i / 3;
    const MatrixView<const float> from = i % 3 == 0 ? weights.gate_FD(e) : i % 3 == 1 ? weights.up_FD(e) : weights.down_DF(e);
    pack_rows(from, 0, from.rows(), packed_memory.row(i % 3 * experts + e).data(), kernel::GemmTo::Memory);
  };
  PackedExperts packed;
  if (type == GemmType::Bf16) {
    packed = {{packed_memory.row(0).data(), hidden, width},
              {packed_memory.row(experts).data(), hidden, width},
              {packed_memory.row(2 * experts).data(), width, hidden}};
  }

  std::vector<double> packing, forward, both, peaks;
  size_t kept = 0;
  for (int round = 0; round < 8; ++round) {
    const LayerExperts all{feed_forward_experts(mode, {weights, gradients, packed})};
    const double p = seconds_of([&] { parallel_tasks(packed_memory.rows(), pack); });
    const double f = seconds_of([&] { experts_forward(all, plan, routing.weights_N, x.view(), out.view()); });
    kept = all[0]->kept_bytes();
    const double b = seconds_of([&] {
      experts_backward(all, plan, routing.weights_N, x.view(), dout.view(), dx.view(), dmix);
    });
    if (round == 0) continue;  // memory comes into being
    packing.push_back(p);
    forward.push_back(f);
    both.push_back(f + b);
    peaks.push_back(peak(type));
  }
  const double flop = 18.0 * static_cast<double>(tokens * chosen * width * hidden), seconds = median(both);
  int most = 0;
  for (int e = 0; e < plan.num_experts(); ++e) most = std::max(most, plan.rows_of(e));
  const double uneven = most * static_cast<double>(experts) / static_cast<double>(plan.num_rows());
  // What autograd keeps of the layer written plainly: gathered inputs, gate, up, silu(gate), their product, results.
  const size_t element = type == GemmType::F32 ? 4 : 2, plain = plan.num_rows() * (2 * width + 4 * hidden) * element;
  kept += tokens * width * 4;  // the inputs
  const char* name = type == GemmType::F32 ? "f32" : "bf16";
  if (json) {
    fmt::print("{{\"tokens\":{},\"experts\":{},\"chosen\":{},\"width\":{},\"hidden\":{},\"type\":\"{}\",\"threads\":{},\"forward\":{},"
               "\"packing\":{},\"seconds\":{},\"flops\":{},\"peak\":{},\"kept_bytes\":{},\"plain_bytes\":{}}}\n",
               tokens, experts, chosen, width, hidden, name, omp_get_max_threads(), median(forward), median(packing), seconds, flop / seconds, median(peaks),
               kept, plain);
  } else {
    fmt::print("T {:5} E {:3} k {} D {:4} F {:4} {:4}  forward {:7.1f} ms  with backward {:7.1f} ms  (packing {:.1f}) {:6.0f} GFLOP/s, {:3.0f} % of {:.0f}  "
               "kept {:5.1f} MiB, {:.0f} % of plain autograd's  busiest {:.1f} x the mean\n",
               tokens, experts, chosen, width, hidden, name, median(forward) * 1e3, seconds * 1e3, median(packing) * 1e3, flop / seconds / 1e9,
               100 * flop / seconds / median(peaks), median(peaks) / 1e9, static_cast<double>(kept) / 0x1p20,
               100.0 * static_cast<double>(kept) / static_cast<double>(plain), uneven);
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  keep_memory();
  std::vector<std::string> words(argv + 1, argv + argc);
  const bool json = std::erase(words, "--json") > 0;
  const Keep keep = std::erase(words, "--keep-inputs") > 0 ? Keep::Inputs : Keep::Products;
  std::vector<Shape> shapes{{2048, 8, 1, 512, 2048}, {2048, 8, 2, 512, 1024}, {2048, 32, 4, 512, 1024}, {2048, 64, 8, 512, 256},
                            {2048, 64, 8, 512, 1024}, {8192, 32, 4, 512, 1024}};
  if (words.size() >= 5) {
    const auto number = [&](size_t i) { return std::strtoul(words[i].c_str(), nullptr, 10); };
    shapes = {{number(0), number(1), number(2), number(3), number(4)}};
    const Shape& s = shapes[0];
    if (s.tokens == 0 || s.chosen == 0 || s.chosen > s.experts || s.width == 0 || s.hidden == 0) words.resize(1);
  }
  if (words.size() != 0 && words.size() != 5 && words.size() != 6) {
    fmt::print(stderr, "moe_layer_benchmark [--json] [--keep-inputs] [T E k D F [f32|bf16]]\n");
    return 2;
  }
  for (const Shape& shape : shapes) {
    for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
      if (words.size() == 6 && (words[5] == "f32") != (type == GemmType::F32)) continue;
      measure(shape, {type, keep}, json);
    }
  }
}
