#include "train/gru_experts.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "train/buffer.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

using View = MatrixView<float>;
using ConstView = MatrixView<const float>;

// Rows of an expert whose tokens are one document's: its state goes from each to the next, and is 0 before the first.
struct Run {
  size_t expert, first, count;
};

// Runs of one expert that advance together, so that a row of its state's weights serves them all.
using Runs = std::span<const Run>;
constexpr size_t kTogether = 16;

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

void add_rows(ConstView from, std::span<float> to) {
  for (size_t r = 0; r < from.rows(); ++r) add(from.row(r), to);
}

void scale_into(float factor, std::span<const float> x, std::span<float> y) {
  for (size_t i = 0; i < x.size(); ++i) y[i] = factor * x[i];
}

class GruExperts : public ExpertsOfKind {
 public:
  GruExperts(GemmType type, size_t first, const GruStack<const float>& value, const GruStack<float>& gradient,
             std::span<const Segment> segments)
      : type_(type), first_(first), value_(value), gradient_(gradient), segments_(segments.begin(), segments.end()) {}

  void forward(const moe::DispatchPlan& plan, ConstView x_TD, View y_ND) override {
    find_runs(plan);
    const size_t rows = end_row(plan) - begin_row(plan), hidden = value_.hidden;
    gates_R3G_ = Buffer(rows, 3 * hidden);
    candidate_back_RG_ = Buffer(rows, hidden);
    hidden_RG_ = Buffer(rows, hidden);
    rows_ = rows;

    const Buffer x_RD = gathered(plan, x_TD);
    for_each_expert(plan, [&](size_t e, size_t first, size_t count) {
      multiply_nt(type_, x_RD.view().middle_rows(first, count), value_.input_3GD(e), gates_R3G_.view().middle_rows(first, count));
    });
    for_runs_together([&](Runs runs) { advance(runs); });
    for_each_expert(plan, [&](size_t e, size_t first, size_t count) {
      multiply_nt(type_, hidden_RG_.view().middle_rows(first, count), value_.output_DG(e),
                  y_ND.middle_rows(begin_row(plan) + first, count));
    });
  }

  void backward(const moe::DispatchPlan& plan, std::span<const float> mix_N, ConstView x_TD, ConstView dout_TD, View dx_ND,
                std::span<float> dmix_N) override {
    const size_t hidden = value_.hidden, begin = begin_row(plan);
    const Buffer x_RD = gathered(plan, x_TD), dout_RD = gathered(plan, dout_TD);
    Buffer dhidden_RG(rows_, hidden), mixed_RG(rows_, hidden), din_R3G(rows_, 3 * hidden), dback_R3G(rows_, 3 * hidden);

    // Of the output. The mixing weight comes in after the product, so that it serves that weight's gradient too.
    for_each_expert(plan, [&](size_t e, size_t first, size_t count) {
      multiply_nn(type_, dout_RD.view().middle_rows(first, count), value_.output_DG(e), dhidden_RG.view().middle_rows(first, count));
    });
    parallel_ranges(rows_, [&](size_t from, size_t to, size_t) {
      for (size_t r = from; r < to; ++r) {
        const int32_t visit = plan.visit_of_row_N[begin + r];
        dmix_N[visit] = dot(dhidden_RG.row(r), hidden_RG_.row(r));
        scale(mix_N[visit], dhidden_RG.row(r));
        scale_into(mix_N[visit], hidden_RG_.row(r), mixed_RG.row(r));
      }
    });

    for_runs_together([&](Runs runs) { go_back(runs, dhidden_RG.view(), din_R3G.view(), dback_R3G.view()); });

    const Buffer before_RG = states_before();
    for_each_expert(plan, [&](size_t e, size_t first, size_t count) {
      const auto of = [&](const Buffer& rows) { return rows.view().middle_rows(first, count); };
      multiply_tn(type_, of(dout_RD), of(mixed_RG), gradient_.output_DG(e), Into::Add);
      multiply_tn(type_, of(din_R3G), of(x_RD), gradient_.input_3GD(e), Into::Add);
      multiply_tn(GemmType::F32, of(dback_R3G), of(before_RG), gradient_.state_3GG(e), Into::Add);
      add_rows(of(din_R3G), gradient_.input_bias_3G(e));
      add_rows(of(dback_R3G), gradient_.state_bias_3G(e));
      multiply_nn(type_, of(din_R3G), value_.input_3GD(e), dx_ND.middle_rows(begin + first, count));
    });
  }

  size_t kept_bytes() const override { return rows_ * 5 * value_.hidden * sizeof(float); }

 private:
  size_t begin_row(const moe::DispatchPlan& plan) const { return static_cast<size_t>(plan.begin_E1[first_]); }
  size_t end_row(const moe::DispatchPlan& plan) const { return static_cast<size_t>(plan.begin_E1[first_ + value_.num_experts]); }

  // body(own expert, its first row among the rows of all of them, how many) for those that are visited.
  template <class Body>
  void for_each_expert(const moe::DispatchPlan& plan, const Body& body) const {
    for (size_t e = 0; e < value_.num_experts; ++e) {
      const size_t begin = static_cast<size_t>(plan.begin_E1[first_ + e]), end = static_cast<size_t>(plan.begin_E1[first_ + e + 1]);
      if (begin < end) body(e, begin - begin_row(plan), end - begin);
    }
  }

  void find_runs(const moe::DispatchPlan& plan) {
    runs_.clear();
    for_each_expert(plan, [&](size_t e, size_t first, size_t count) {
      int end_of_segment = 0;
      for (size_t row = first; row < first + count; ++row) {
        const int token = plan.token_of_row_N[begin_row(plan) + row];
        if (row == first || token >= end_of_segment) {
          const auto after = std::ranges::upper_bound(segments_, token, {}, &Segment::begin);
          end_of_segment = std::prev(after)->begin + std::prev(after)->length;
          runs_.push_back({e, row, 0});
        }
        ++runs_.back().count;
      }
    });
    std::ranges::stable_sort(runs_, [](const Run& a, const Run& b) { return std::pair(a.expert, b.count) < std::pair(b.expert, a.count); });
  }

  // Longest runs first, so that those that still advance are the first ones.
  template <class Body>
  void for_runs_together(const Body& body) const {
    std::vector<Runs> groups;
    for (size_t first = 0; first < runs_.size();) {
      size_t count = 1;
      while (count < kTogether && first + count < runs_.size() && runs_[first + count].expert == runs_[first].expert) ++count;
      groups.push_back(Runs(runs_).subspan(first, count));
      first += count;
    }
    parallel_tasks(groups.size(), [&](size_t g) { body(groups[g]); });
  }
  static Runs longer_than(Runs runs, size_t step) {
    return runs.first(static_cast<size_t>(std::ranges::find_if(runs, [=](const Run& run) { return run.count <= step; }) - runs.begin()));
  }

  // From what the input gives, which becomes the gates; a step a visit.
  void advance(Runs runs) {
    const size_t hidden = value_.hidden, expert = runs[0].expert;
    const ConstView state_3GG = value_.state_3GG(expert);
    const auto input_bias = value_.input_bias_3G(expert), state_bias = value_.state_bias_3G(expert);
    Buffer back(runs.size(), 3 * hidden);
    const Buffer nothing = zeros(1, hidden);
    for (size_t step = 0; step < runs[0].count; ++step) {
      const Runs now = longer_than(runs, step);
      for (size_t j = 0; j < 3 * hidden; ++j) {
        for (size_t i = 0; i < now.size(); ++i) {
          back.row(i)[j] = state_bias[j] + (step == 0 ? 0.0f : dot(state_3GG.row(j), hidden_RG_.row(now[i].first + step - 1)));
        }
      }
      for (size_t i = 0; i < now.size(); ++i) {
        const size_t row = now[i].first + step;
        const auto before = step == 0 ? nothing.row(0) : std::as_const(hidden_RG_).row(row - 1);
        next_state(input_bias, back.row(i), before, gates_R3G_.row(row), candidate_back_RG_.row(row), hidden_RG_.row(row));
      }
    }
  }

  static void next_state(std::span<const float> input_bias, std::span<const float> back, std::span<const float> before,
                         std::span<float> gates, std::span<float> candidate_back, std::span<float> state) {
    const size_t hidden = state.size();
    for (size_t g = 0; g < hidden; ++g) {
      const size_t u = hidden + g, c = 2 * hidden + g;
      gates[g] = sigmoid(gates[g] + input_bias[g] + back[g]);
      gates[u] = sigmoid(gates[u] + input_bias[u] + back[u]);
      gates[c] = std::tanh(gates[c] + input_bias[c] + gates[g] * back[c]);
      candidate_back[g] = back[c];
      state[g] = (1 - gates[u]) * gates[c] + gates[u] * before[g];
    }
  }

  // From the last visit to the first; `dhidden` are the gradients from the output alone.
  void go_back(Runs runs, ConstView dhidden_RG, View din_R3G, View dback_R3G) const {
    const size_t hidden = value_.hidden;
    const ConstView state_3GG = value_.state_3GG(runs[0].expert);
    Buffer later = zeros(runs.size(), hidden);  // the gradient that comes from the next visit
    const Buffer nothing = zeros(1, hidden);
    for (size_t step = runs[0].count; step-- > 0;) {
      const Runs now = longer_than(runs, step);
      for (size_t i = 0; i < now.size(); ++i) {
        const size_t row = now[i].first + step;
        const auto before = step == 0 ? nothing.row(0) : hidden_RG_.row(row - 1);
        state_backward(dhidden_RG.row(row), gates_R3G_.row(row), candidate_back_RG_.row(row), before, later.row(i), din_R3G.row(row),
                       dback_R3G.row(row));
      }
      for (size_t j = 0; step > 0 && j < 3 * hidden; ++j) {
        for (size_t i = 0; i < now.size(); ++i) add_scaled(dback_R3G.row(now[i].first + step)[j], state_3GG.row(j), later.row(i));
      }
    }
  }

  // Of `later` leaves what goes past the gates to the state before.
  static void state_backward(std::span<const float> dhidden, std::span<const float> gates, std::span<const float> candidate_back,
                             std::span<const float> before, std::span<float> later, std::span<float> din, std::span<float> dback) {
    const size_t hidden = dhidden.size();
    for (size_t g = 0; g < hidden; ++g) {
      const size_t u = hidden + g, c = 2 * hidden + g;
      const float reset = gates[g], update = gates[u], candidate = gates[c], d = dhidden[g] + later[g];
      const float dcandidate = d * (1 - update) * (1 - candidate * candidate);
      din[g] = dback[g] = dcandidate * candidate_back[g] * reset * (1 - reset);
      din[u] = dback[u] = d * (before[g] - candidate) * update * (1 - update);
      din[c] = dcandidate;
      dback[c] = dcandidate * reset;
      later[g] = d * update;
    }
  }

  Buffer gathered(const moe::DispatchPlan& plan, ConstView from_TD) const {
    Buffer to_RD(rows_, from_TD.cols());
    parallel_ranges(rows_, [&](size_t begin, size_t end, size_t) {
      for (size_t r = begin; r < end; ++r) std::ranges::copy(from_TD.row(plan.token_of_row_N[begin_row(plan) + r]), to_RD.row(r).begin());
    });
    return to_RD;
  }

  Buffer states_before() const {
    Buffer before_RG(rows_, value_.hidden);
    for (const Run& run : runs_) {
      std::ranges::fill(before_RG.row(run.first), 0.0f);
      for (size_t row = run.first + 1; row < run.first + run.count; ++row) {
        std::ranges::copy(hidden_RG_.row(row - 1), before_RG.row(row).begin());
      }
    }
    return before_RG;
  }

  static Buffer zeros(size_t rows, size_t cols) {
    Buffer x(rows, cols);
    std::ranges::fill(x.view().flat(), 0.0f);
    return x;
  }

  GemmType type_;
  size_t first_;
  GruStack<const float> value_;
  GruStack<float> gradient_;
  std::vector<Segment> segments_;

  // Kept, by rows of all these experts:
  std::vector<Run> runs_;
  size_t rows_ = 0;
  Buffer gates_R3G_, candidate_back_RG_, hidden_RG_;  // reset, update, candidate; what the state gives the candidate; the state
};

}  // namespace

std::shared_ptr<ExpertsOfKind> gru_experts(GemmType type, size_t first, const GruStack<const float>& value,
                                           const GruStack<float>& gradient, std::span<const Segment> segments) {
  return std::make_shared<GruExperts>(type, first, value, gradient, segments);
}

}  // namespace moiety::train
