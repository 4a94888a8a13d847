#include "train/gemm.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "base/random.h"
#include "train/experts.h"
#include "train/feed_forward_experts.h"

namespace moiety::train {
namespace {

// A matrix inside a wider one; a seed's are the same.
struct Inner {
  Inner(uint64_t seed, size_t rows, size_t cols) : whole(rows, cols + 5), cols_(cols) {
    Random random(seed);
    for (float& value : whole.flat()) value = static_cast<float>(random.normal());
  }
  MatrixView<float> view() { return whole.view().middle_cols(2, cols_); }

  Matrix<float> whole;

 private:
  size_t cols_;
};

float as_computed(GemmType type, float x) { return type == GemmType::F32 ? x : bf16_to_float(float_to_bf16(x)); }

using Multiply = void (*)(GemmType, MatrixView<const float>, const Operand&, MatrixView<float>, Into);

// Whether the operands lie turned, and so how many rows and columns they have in memory.
struct Form {
  const char* name;
  Multiply multiply;
  bool a_is_turned, b_is_turned;
};
void multiply_tn_operand(GemmType type, MatrixView<const float> a_KM, const Operand& b_KN, MatrixView<float> c_MN, Into into) {
  multiply_tn(type, a_KM, b_KN.values, c_MN, into);
}
constexpr Form kForms[] = {{"nt", multiply_nt, false, true}, {"nn", multiply_nn, false, false}, {"tn", multiply_tn_operand, true, false}};

// More columns than a task takes, and a depth of more than one piece, odd.
constexpr size_t kM = 300, kN = 150, kK = 2049;

bool same(const Matrix<float>& a, const Matrix<float>& b) {
  return a.rows() * a.cols() == b.rows() * b.cols() && std::memcmp(a.view().data(), b.view().data(), a.rows() * a.cols() * sizeof(float)) == 0;
}

class Threads {
 public:
  explicit Threads(int count) : before_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before_); }

 private:
  int before_;
};

TEST(TrainGemm, ProductsAreThoseOfDoublesAndTheSameOnAnyNumberOfThreads) {
  for (const Form& form : kForms) {
    for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
      for (const Into into : {Into::Overwrite, Into::Add}) {
        Inner a(1, form.a_is_turned ? kK : kM, form.a_is_turned ? kM : kK), b(2, form.b_is_turned ? kN : kK, form.b_is_turned ? kK : kN);
        Inner one(3, kM, kN), before(3, kM, kN), three(3, kM, kN);
        {
          const Threads threads(1);
          form.multiply(type, a.view(), b.view(), one.view(), into);
        }
        {
          const Threads threads(3);
          form.multiply(type, a.view(), b.view(), three.view(), into);
        }
        EXPECT_TRUE(same(one.whole, three.whole)) << form.name;
        for (size_t m = 0; m < kM; m += 17) {
          for (size_t n = 0; n < kN; ++n) {
            double sum = into == Into::Add ? before.view().row(m)[n] : 0, size = std::abs(sum) + 1;
            for (size_t k = 0; k < kK; ++k) {
              const float x = form.a_is_turned ? a.view().row(k)[m] : a.view().row(m)[k], y = form.b_is_turned ? b.view().row(n)[k] : b.view().row(k)[n];
              const double product = static_cast<double>(as_computed(type, x)) * as_computed(type, y);
              sum += product;
              size += std::abs(product);
            }
            ASSERT_NEAR(one.view().row(m)[n], sum, 1e-5 * size) << form.name << " at " << m << ", " << n;
          }
          // What lies beside it stays
          for (const size_t col : {0, 1}) ASSERT_EQ(one.whole.row(m)[col], before.whole.row(m)[col]);
          for (size_t col = kN + 2; col < kN + 5; ++col) ASSERT_EQ(one.whole.row(m)[col], before.whole.row(m)[col]);
        }
      }
    }
  }
}

std::vector<std::byte> pack(MatrixView<const float> x, size_t rows_at_once) {
  std::vector<std::byte> packed(packed_bytes(x.rows(), x.cols()), std::byte{0x55});
  for (size_t r = 0; r < x.rows(); r += rows_at_once) {
    pack_rows(x.middle_rows(r, std::min(rows_at_once, x.rows() - r)), r, x.rows(), packed.data(), kernel::GemmTo::Cache);
  }
  return packed;
}

TEST(TrainGemm, APackedOperandGivesTheSameBits) {
  for (const Form& form : {kForms[0], kForms[1]}) {
    for (const size_t rows_at_once : {size_t{16}, size_t{4096}}) {
      Inner a(1, kM, kK), b(2, form.b_is_turned ? kN : kK, form.b_is_turned ? kK : kN), plain(3, kM, kN), found(3, kM, kN);
      const std::vector<std::byte> bytes = pack(b.view(), rows_at_once);
      form.multiply(GemmType::Bf16, a.view(), b.view(), plain.view(), Into::Add);
      form.multiply(GemmType::Bf16, a.view(), {b.view(), {bytes.data(), b.view().rows(), b.view().cols()}}, found.view(), Into::Add);
      EXPECT_TRUE(same(plain.whole, found.whole)) << form.name;
    }
  }
}

TEST(TrainGemm, NothingTimesSomethingIsZero) {
  Inner c(1, 4, 6);
  const Inner before(1, 4, 6);
  const MatrixView<const float> a(nullptr, 4, 0), b(nullptr, 6, 0);
  multiply_nt(GemmType::F32, a, b, c.view(), Into::Add);
  EXPECT_TRUE(same(c.whole, before.whole));
  multiply_nt(GemmType::F32, a, b, c.view());
  for (size_t r = 0; r < 4; ++r) {
    for (const float value : c.view().row(r)) EXPECT_EQ(value, 0);
  }
}

struct ExpertsOutcome {
  Matrix<float> out, dx, dgate, dup, ddown;
  std::vector<float> dmix;
};

ExpertsOutcome run_experts(const Mode& mode, int num_threads, bool is_packed = false) {
  const Threads threads(num_threads);
  constexpr size_t kTokens = 1300, kExperts = 5, kWidth = 24, kHidden = 140;
  Random random(3);
  const auto matrix = [&](size_t rows, size_t cols) {
    Matrix<float> x(rows, cols);
    for (float& value : x.flat()) value = static_cast<float>(random.normal());
    return x;
  };
  std::vector<float> scores(kTokens * kExperts);
  for (float& score : scores) score = static_cast<float>(random.normal());
  for (size_t t = 0; t < kTokens; ++t) scores[t * kExperts] += 2;  // more rows at the first than are worked on at once
  const moe::Routing routing = moe::route({.num_experts = kExperts, .experts_per_token = 2}, scores, {});
  const moe::DispatchPlan plan = moe::plan_dispatch(routing);
  Matrix<float> gate = matrix(kExperts * kHidden, kWidth), up = matrix(kExperts * kHidden, kWidth), down = matrix(kExperts * kWidth, kHidden);
  const Matrix<float> x = matrix(kTokens, kWidth), dout = matrix(kTokens, kWidth);
  ExpertsOutcome o{Matrix<float>(kTokens, kWidth), Matrix<float>(kTokens, kWidth), Matrix<float>(kExperts * kHidden, kWidth),
                   Matrix<float>(kExperts * kHidden, kWidth), Matrix<float>(kExperts * kWidth, kHidden), std::vector<float>(routing.weights_N.size())};
  const ExpertStack<const float> weights{kExperts, kWidth, kHidden, gate.view().data(), up.view().data(), down.view().data()};
  std::vector<std::byte> packed_memory[3];
  const auto pack_all = [&](Matrix<float>& stack, size_t i) -> PackedMatrix {
    const size_t rows = stack.rows() / kExperts;
    for (size_t e = 0; e < kExperts; ++e) {
      const std::vector<std::byte> one = pack(stack.view().middle_rows(e * rows, rows), 32);
      packed_memory[i].insert(packed_memory[i].end(), one.begin(), one.end());
    }
    return {packed_memory[i].data(), rows, stack.cols()};
  };
  PackedExperts packed;
  if (is_packed) packed = {pack_all(gate, 0), pack_all(up, 1), pack_all(down, 2)};
  const ExpertStack<float> gradients{kExperts, kWidth, kHidden, o.dgate.view().data(), o.dup.view().data(), o.ddown.view().data()};
  const LayerExperts experts{feed_forward_experts(mode, {weights, gradients, packed})};
  experts_forward(experts, plan, routing.weights_N, x.view(), o.out.view());
  experts_backward(experts, plan, routing.weights_N, x.view(), dout.view(), o.dx.view(), o.dmix);
  return o;
}

void expect_same(const ExpertsOutcome& a, const ExpertsOutcome& b) {
  EXPECT_TRUE(same(a.out, b.out));
  EXPECT_TRUE(same(a.dx, b.dx));
  EXPECT_TRUE(same(a.dgate, b.dgate));
  EXPECT_TRUE(same(a.dup, b.dup));
  EXPECT_TRUE(same(a.ddown, b.ddown));
  EXPECT_EQ(a.dmix, b.dmix);
}

TEST(Experts, HaveTheSameBitsOnAnyNumberOfThreads) {
  for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
    for (const Keep keep : {Keep::Products, Keep::Inputs}) expect_same(run_experts({type, keep}, 1), run_experts({type, keep}, 3));
  }
}

TEST(Experts, HaveTheSameBitsWhenTheirWeightsArePacked) {
  for (const Keep keep : {Keep::Products, Keep::Inputs}) {
    const Mode mode{GemmType::Bf16, keep};
    expect_same(run_experts(mode, 2), run_experts(mode, 2, true));
  }
}

TEST(Experts, WhatIsComputedAgainIsWhatWasKept) {
  for (const GemmType type : {GemmType::F32, GemmType::Bf16}) {
    expect_same(run_experts({type, Keep::Products}, 2), run_experts({type, Keep::Inputs}, 2));
  }
}

}  // namespace
}  // namespace moiety::train
