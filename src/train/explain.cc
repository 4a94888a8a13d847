#include "train/explain.h"

#include <fmt/core.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <numeric>

#include "base/matrix.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

using Clock = std::chrono::steady_clock;
constexpr size_t kSteps = 10, kFirst = 2;      // are looked at, but for the first ones, in which memory is new
constexpr double kOptimizerBytes = 28;         // a parameter: reads value, gradient and two moments, writes all but the gradient
constexpr size_t kFewBytes = 1024, kManyBytes = 4 << 20;

// The fastest of some: whatever else runs only slows.
double seconds_of(int times, const auto& act) {
  double fastest = std::numeric_limits<double>::infinity();
  for (int i = 0; i < times; ++i) {
    const auto start = Clock::now();
    act();
    fastest = std::min(fastest, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return fastest;
}

// All products of a shape, forth and back.
double measure(const ProductShape& shape, GemmType type) {
  constexpr int kTimes = 3;
  const size_t different = shape.is_parallel ? static_cast<size_t>(omp_get_max_threads()) : 1;
  std::vector<Matrix<float>> x, w, y;
  for (size_t i = 0; i < different; ++i) {
    x.emplace_back(shape.rows, shape.depth);
    w.emplace_back(shape.out, shape.depth);
    y.emplace_back(shape.rows, shape.out);
  }
  const auto forth_and_back = [&](size_t i) {
    multiply_nt(type, x[i].view(), Operand(w[i].view()), y[i].view());
    multiply_nn(type, y[i].view(), Operand(w[i].view()), x[i].view());
    multiply_tn(type, y[i].view(), x[i].view(), w[i].view(), Into::Add);
  };
  const double seconds = seconds_of(kTimes, [&] {
    if (shape.is_parallel) {
      parallel_tasks(different, forth_and_back);
    } else {
      forth_and_back(0);
    }
  });
  return seconds * static_cast<double>(shape.count) / static_cast<double>(different);
}

LinkLaw measure_link(const auto& collective) {
  constexpr int kTimes = 5;
  const double few = seconds_of(4 * kTimes, [&] { collective(kFewBytes); }), many = seconds_of(kTimes, [&] { collective(kManyBytes); });
  return law_through(kFewBytes, few, kManyBytes, many);
}

std::string describe(const char* name, const LinkLaw& law) {
  return fmt::format("  {:<12} {:>8.3f} ms and {:>8.3f} ms a MiB\n", name, 1e3 * law.start, 1e3 * law.each_byte * (1 << 20));
}

double median(const std::vector<StepTimes>& steps, const auto& of) {
  std::vector<double> numbers;
  for (const StepTimes& step : steps) numbers.push_back(of(step));
  const auto middle = numbers.begin() + static_cast<ptrdiff_t>(numbers.size() / 2);
  std::ranges::nth_element(numbers, middle);
  return *middle;
}

}  // namespace

LinkLaw law_through(double few_bytes, double few_seconds, double many_bytes, double many_seconds) {
  const double each = std::max(0.0, (many_seconds - few_seconds) / (many_bytes - few_bytes));
  return {std::max(0.0, few_seconds - each * few_bytes), each};
}

std::vector<ProductShape> products_of(const spec::ModelSpec& spec, size_t sequences, size_t length) {
  const size_t tokens = sequences * length, width = static_cast<size_t>(spec.width), layers = static_cast<size_t>(spec.num_layers);
  const size_t moe_layers = static_cast<size_t>(spec.moe_layers()), experts = static_cast<size_t>(spec.moe.router.num_experts);
  const size_t head = static_cast<size_t>(spec.attention.head_dim), heads = static_cast<size_t>(spec.attention.num_heads),
               kv_heads = static_cast<size_t>(spec.attention.num_kv_heads);
  const size_t rows = experts == 0 ? 0 : tokens * static_cast<size_t>(spec.moe.router.experts_per_token) / experts;
  const size_t hidden = static_cast<size_t>(spec.moe.expert_hidden), shared = static_cast<size_t>(spec.moe.shared_hidden),
               dense = static_cast<size_t>(spec.dense_hidden), vocabulary = static_cast<size_t>(spec.vocab_size);
  std::vector<ProductShape> all{
      {"query to value", layers, tokens, (heads + 2 * kv_heads) * head, width},
      {"scores", layers * sequences * heads, length, (length + 1) / 2, head, true},
      {"of values", layers * sequences * heads, length, head, (length + 1) / 2, true},
      {"attention out", layers, tokens, width, heads * head},
      {"router", moe_layers, tokens, experts, width},
      {"expert up", moe_layers * experts, rows, 2 * hidden, width, true},
      {"expert down", moe_layers * experts, rows, width, hidden, true},
      {"shared up", moe_layers, tokens, 2 * shared, width},
      {"shared down", moe_layers, tokens, width, shared},
      {"dense up", layers - moe_layers, tokens, 2 * dense, width},
      {"dense down", layers - moe_layers, tokens, width, dense},
      {"head", 1, tokens, vocabulary, width},
  };
  std::erase_if(all, [](const ProductShape& shape) { return shape.flops() == 0; });
  return all;
}

Explainer::Explainer(const spec::ModelSpec& spec, GemmType type, size_t sequences, size_t length, const PipelineShape& step, comm::Group* ranks)
    : shapes_(products_of(spec, sequences, length)), ranks_(ranks == nullptr ? 1 : ranks->size()), parameters_(static_cast<double>(spec.parameters()) / step.stages) {
  predicted_.passes = measure_products(type) * step.micro_batches / step.stages;
  bytes_per_second_ = measure_memory();
  predicted_.optimizer = kOptimizerBytes * parameters_ / bytes_per_second_;
  if (ranks != nullptr) measure_links(*ranks);
  if (ranks_ > step.stages) predicted_.exchanges = sum_.seconds(4 * parameters_);
  const PipelineTimes times = pipeline_times(step);
  predicted_.exchanges += predicted_.passes * (times.all - times.busy) / times.busy;  // waits for the other stages
  predicted_.whole = predicted_.passes + predicted_.exchanges + predicted_.optimizer;
}

// Of a pass.
double Explainer::measure_products(GemmType type) {
  for (const ProductShape& shape : shapes_) seconds_.push_back(measure(shape, type));
  return std::accumulate(seconds_.begin(), seconds_.end(), 0.0);
}

void Explainer::measure_links(comm::Group& ranks) {
  const size_t size = static_cast<size_t>(ranks.size());
  std::vector<std::byte> out(kManyBytes), in(kManyBytes * size);
  sum_ = measure_link([&](size_t bytes) { ranks.sum(std::span(reinterpret_cast<float*>(out.data()), bytes / sizeof(float))); });
  gather_ = measure_link([&](size_t bytes) { ranks.all_gather(std::span(out).first(bytes), std::span(in).first(bytes * size)).wait(); });
  exchange_ = measure_link([&](size_t bytes) {
    const std::vector<size_t> each(size, bytes / size);
    ranks.all_to_all(std::span(out).first(bytes / size * size), each, std::span(in).first(bytes / size * size), each).wait();
  });
}

// Bytes read and written a second by a sum over arrays that no cache holds, all threads together.
double Explainer::measure_memory() const {
  constexpr size_t kNumbers = 8 << 20;
  std::vector<float> a(kNumbers, 1), b(kNumbers, 1);
  const size_t pieces = 64, piece = kNumbers / pieces;
  const double seconds = seconds_of(3, [&] {
    parallel_tasks(pieces, [&](size_t p) {
      for (size_t i = p * piece; i < (p + 1) * piece; ++i) a[i] += b[i];
    });
  });
  return 3 * sizeof(float) * static_cast<double>(kNumbers) / seconds;
}

bool Explainer::step_ended(const Activity& activity, double seconds) {
  measured_.push_back({.passes = activity.busy("forward") + activity.busy("backward"),
                       .exchanges = activity.waited(),
                       .optimizer = activity.busy("optimizer"),
                       .whole = seconds});
  return measured_.size() == kSteps;
}

std::string Explainer::text() const {
  double best = 0;
  for (size_t i = 0; i < shapes_.size(); ++i) best = std::max(best, shapes_[i].flops() / seconds_[i]);
  std::string all = fmt::format("products of a pass, forth and back{:>12}{:>24}{:>9}{:>10}\n", "count", "rows x out x depth", "GFLOP/s", "ms");
  for (size_t i = 0; i < shapes_.size(); ++i) {
    const ProductShape& shape = shapes_[i];
    const double rate = shape.flops() / seconds_[i];
    all += fmt::format("  {:<32}{:>12}{:>24}{:>9.1f}{:>10.3f}  {:.0f} % of the best\n", shape.name, shape.count,
                       fmt::format("{} x {} x {}", shape.rows, shape.out, shape.depth), rate / 1e9, 1e3 * seconds_[i], 100 * rate / best);
  }
  all += fmt::format("memory: {:.1f} GB/s\n", bytes_per_second_ / 1e9);
  if (ranks_ > 1) {
    all += fmt::format("between {} ranks, by the bytes of each\n", ranks_);
    all += describe("sum", sum_) + describe("all-gather", gather_) + describe("all-to-all", exchange_);
  }
  const std::vector<StepTimes> later(measured_.begin() + static_cast<ptrdiff_t>(std::min(kFirst, measured_.size())), measured_.end());
  all += fmt::format("a step, ms{:>20}{:>12}\n", "predicted", "measured");
  const auto line = [&](const char* name, const auto& of) {
    all += fmt::format("  {:<18}{:>10.2f}{:>12.2f}\n", name, 1e3 * of(predicted_), later.empty() ? 0.0 : 1e3 * median(later, of));
  };
  line("passes", [](const StepTimes& step) { return step.passes; });
  line("exchanges", [](const StepTimes& step) { return step.exchanges; });
  line("optimizer", [](const StepTimes& step) { return step.optimizer; });
  line("together", [](const StepTimes& step) { return step.whole; });
  return all;
}

}  // namespace moiety::train
