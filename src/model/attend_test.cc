#include "model/attend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/bytes.h"
#include "base/random.h"
#include "model/kv_cache.h"

namespace moiety::model {
namespace {

using kernel::KvType;

constexpr KvType kTypes[] = {KvType::F32, KvType::F16, KvType::BF16, KvType::Q8};
const char* name_of(KvType type) {
  constexpr const char* kNames[] = {"f32", "f16", "bf16", "q8"};
  return kNames[static_cast<int>(type)];
}

struct Shape {
  size_t heads, kv_heads, key_dim, value_dim, positions, window = 0;
  bool sinks = false;
  float query_size = 1;  // of a standard deviation
  bool breaks_stick = false;

  friend void PrintTo(const Shape& s, std::ostream* out) {
    *out << s.heads << "/" << s.kv_heads << " heads of " << s.key_dim << "/" << s.value_dim << ", " << s.positions
         << " positions, window " << s.window << ", sinks " << s.sinks << ", queries " << s.query_size << (s.breaks_stick ? ", a stick" : "");
  }
};

Matrix<float> random_matrix(Random& random, size_t rows, size_t cols, float size = 1) {
  Matrix<float> m(rows, cols);
  for (float& x : m.flat()) x = static_cast<float>(random.normal()) * size;
  return m;
}

// A sequence with random keys, values and queries.
struct Sequence {
  Shape shape;
  KvCache cache;
  Matrix<float> query, key, value;
  std::vector<float> sinks_H;
  AttendOptions options;

  Sequence(const Shape& s, KvType type, uint64_t seed)
      : shape(s), cache({type, 1, s.kv_heads, s.key_dim, s.value_dim}, s.positions) {
    cache.reserve(s.positions);
    Random random(seed);
    query = random_matrix(random, s.positions, s.heads * s.key_dim, s.query_size);
    key = random_matrix(random, s.positions, s.kv_heads * s.key_dim);
    value = random_matrix(random, s.positions, s.kv_heads * s.value_dim);
    if (s.sinks) {
      for (size_t h = 0; h < s.heads; ++h) sinks_H.push_back(static_cast<float>(random.normal()) * 2);
    }
    options = {s.heads, s.window, 1 / std::sqrt(static_cast<float>(s.key_dim)), s.breaks_stick, sinks_H};
    for (size_t p = 0; p < s.positions; ++p) {
      for (size_t h = 0; h < s.kv_heads; ++h) {
        kv().put(h, p, key.row(p).subspan(h * s.key_dim, s.key_dim), value.row(p).subspan(h * s.value_dim, s.value_dim));
      }
    }
  }

  KvHeads kv() const { return cache.layer(0); }
  // Of tokens at positions [first, first + count).
  Matrix<float> attend(const kernel::Kernels& kernels, ThreadPool& threads, size_t first, size_t count) const {
    Matrix<float> mixed(count, shape.heads * shape.value_dim);
    const AttendRun run{0, count, first, kv()};
    model::attend({kernels, threads}, options, {&run, 1}, query.view().middle_rows(first, count), mixed.view());
    return mixed;
  }

  double key_at(size_t head, size_t position, size_t d) const {
    std::vector<float> numbers(shape.key_dim);
    kv().get_key(head, position, numbers);
    return numbers[d];
  }
  double value_at(size_t head, size_t position, size_t d) const {
    const kernel::KvView view = kv().block(head, position / kernel::kAttendBlock);
    const double x = kernel::kv_number(view.type, view.values, view.value_at(position % kernel::kAttendBlock, d));
    return x * value_scale(head, position);
  }
  double value_scale(size_t head, size_t position) const {
    const float* scales = kv().block(head, position / kernel::kAttendBlock).value_scales;
    return scales != nullptr ? scales[position % kernel::kAttendBlock] : 1;
  }
};

// What one head of one token should be, in double, from the numbers that the cache holds or from those put into it; and how
// far from it a sum in f32 of weights rounded to the type may be.
struct Expected {
  std::vector<double> mixed, slack;
};
Expected expected_of(const Sequence& s, size_t position, size_t head, bool rounded) {
  const auto& [shape, cache, query, key, value, sinks, options] = s;
  const size_t kv_head = head / (shape.heads / shape.kv_heads);
  const KvType type = cache.options().type;
  const bool is_bf16 = type == KvType::BF16, is_q8 = type == KvType::Q8;
  constexpr double kHalfUnit = 0.5 / 32767;  // of numbers rounded to 16 bits, against the largest
  const size_t first = shape.window > 0 && position + 1 > shape.window ? position + 1 - shape.window : 0;

  std::vector<double> weights;
  double largest = sinks.empty() ? -INFINITY : sinks[head] / std::log(2.0), magnitude = 0, largest_query = 0, keys = 0;
  std::vector<float> numbers(shape.key_dim);
  for (size_t p = first; p <= position; ++p) {
    s.kv().get_key(kv_head, p, numbers);
    double sum = 0, size = 0, key_size = 0;
    for (size_t d = 0; d < shape.key_dim; ++d) {
      float q = query.row(position)[head * shape.key_dim + d] * (options.scale * 1.44269504088896341f);
      if (rounded && is_bf16) q = bf16_to_float(float_to_bf16(q));
      const double k = rounded ? numbers[d] : key.row(p)[kv_head * shape.key_dim + d];
      sum += q * k;
      size += std::abs(q * k);
      key_size += std::abs(k);
      largest_query = std::max(largest_query, double{std::abs(q)});
    }
    keys = std::max(keys, key_size);
    weights.push_back(sum);
    largest = std::max(largest, sum);
    magnitude = std::max(magnitude, size);
  }
  double sum = sinks.empty() ? 0 : std::exp2(sinks[head] / std::log(2.0) - largest);
  for (double& w : weights) sum += w = shape.breaks_stick ? w : std::exp2(w - largest);
  if (shape.breaks_stick) {
    sum = 1;  // nothing is divided by
    double left = 1;
    for (size_t i = weights.size(); i-- > 0;) {
      const double part = 1 / (1 + std::exp2(-weights[i]));
      weights[i] = part * left;
      left *= 1 - part;
    }
  }

  double score_error = 0x1p-22 + magnitude * 0x1p-21;
  if (is_q8) score_error += keys * largest_query * kHalfUnit;
  // Of a stick every later position's error adds to an earlier one's.
  const double weight_error = (is_bf16 ? 0x1p-9 : 0) + score_error * (shape.breaks_stick ? static_cast<double>(weights.size()) : 1);
  double largest_scaled = 0;  // weight of a byte
  for (size_t i = 0; is_q8 && i < weights.size(); ++i) {
    largest_scaled = std::max(largest_scaled, weights[i] / sum * s.value_scale(kv_head, first + i));
  }
  Expected expected{std::vector<double>(shape.value_dim), std::vector<double>(shape.value_dim)};
  for (size_t d = 0; d < shape.value_dim; ++d) {
    for (size_t i = 0; i < weights.size(); ++i) {
      const double v = rounded ? s.value_at(kv_head, first + i, d) : value.row(first + i)[kv_head * shape.value_dim + d];
      expected.mixed[d] += weights[i] / sum * v;
      expected.slack[d] += weights[i] / sum * std::abs(v) * weight_error;
      if (is_q8) expected.slack[d] += std::abs(v) / s.value_scale(kv_head, first + i) * largest_scaled * kHalfUnit;
    }
    expected.slack[d] = 2 * expected.slack[d] + 1e-7;
  }
  return expected;
}

class Attend : public testing::TestWithParam<std::tuple<const kernel::Kernels*, KvType>> {
 protected:
  const kernel::Kernels& kernels() const { return *std::get<0>(GetParam()); }
  KvType type() const { return std::get<1>(GetParam()); }
};

// Odd sizes, tails, grouped heads, latent attention's dims, windows and sinks, several blocks.
const Shape kShapes[] = {
    {1, 1, 1, 1, 5},
    {2, 1, 7, 3, 33},
    {4, 2, 8, 8, 40, 0, true},
    {3, 3, 16, 16, 70, 16},
    {8, 1, 64, 64, 300},
    {4, 2, 80, 80, 270, 100, true},
    {5, 1, 96, 96, 17},
    {16, 2, 128, 128, 530},
    {2, 2, 129, 65, 260, 257},
    {7, 1, 192, 128, 50},
    {2, 1, 256, 256, 40},
    {16, 1, 576, 512, 20},
    {6, 2, 32, 32, 600, 1, true},
    {2, 1, 7, 3, 33, 0, false, 1, true},
    {8, 2, 64, 64, 600, 0, false, 1, true},
    {3, 3, 16, 40, 1300, 0, false, 0.2f, true},
    {4, 1, 128, 128, 300, 100, false, 3, true},
};

TEST_P(Attend, EqualsASoftmaxInDouble) {
  ThreadPool threads(2);
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::PrintToString(shape));
    const Sequence sequence(shape, type(), shape.positions);
    for (size_t position = 0; position < shape.positions; position += 1 + position / 2) {
      const size_t company = std::min<size_t>(position, 40 / (shape.heads / shape.kv_heads));
      const Matrix<float> mixed = sequence.attend(kernels(), threads, position - company, company + 1);
      for (size_t head = 0; head < shape.heads; ++head) {
        const Expected expected = expected_of(sequence, position, head, true);
        for (size_t d = 0; d < shape.value_dim; ++d) {
          ASSERT_NEAR(mixed.row(company)[head * shape.value_dim + d], expected.mixed[d], expected.slack[d])
              << "position " << position << " head " << head << " dim " << d;
        }
      }
    }
  }
}

TEST_P(Attend, ScoresOfAnySizeDoNotOverflow) {
  ThreadPool threads(1);
  for (const float size : {0.0f, 1e-30f, 300.0f, 3000.0f}) {
    const Sequence sequence({2, 1, 64, 32, 300, 0, true, size}, type(), 3);
    const Matrix<float> mixed = sequence.attend(kernels(), threads, 290, 10);
    for (size_t head = 0; head < 2; ++head) {
      const Expected expected = expected_of(sequence, 299, head, true);
      for (size_t d = 0; d < 32; ++d) {
        ASSERT_NEAR(mixed.row(9)[head * 32 + d], expected.mixed[d], expected.slack[d]) << size;
      }
    }
  }
}

TEST_P(Attend, WhatIsNotANumberIsNotLost) {
  ThreadPool threads(1);
  Sequence sequence({1, 1, 16, 16, 300}, type(), 3);
  std::vector<float> broken(16, 1.0f);
  broken[3] = NAN;
  sequence.kv().put(0, 270, broken, sequence.value.row(270));
  EXPECT_TRUE(std::isnan(sequence.attend(kernels(), threads, 299, 1).flat()[0]));
  EXPECT_FALSE(std::isnan(sequence.attend(kernels(), threads, 269, 1).flat()[0]));
  sequence.kv().put(0, 270, sequence.key.row(270), broken);
  EXPECT_TRUE(std::isnan(sequence.attend(kernels(), threads, 299, 1).flat()[3]));
}

// What a longer sequence left behind, even if it was no number, is not seen.
TEST_P(Attend, OnlyPositionsUpToItsOwnAreSeen) {
  ThreadPool threads(1);
  const Shape shape{2, 1, 16, 16, 40};
  Sequence used(shape, type(), 3), fresh(shape, type(), 3);
  const std::vector<float> broken(16, NAN);
  for (size_t p = 0; p < 40; ++p) used.kv().put(0, p, broken, broken);
  for (size_t p = 0; p < 21; ++p) {
    used.kv().put(0, p, used.key.row(p), used.value.row(p));
    const auto of = [&](const Sequence& s) { return s.attend(kernels(), threads, p, 1); };
    EXPECT_TRUE(std::ranges::equal(of(used).flat(), of(fresh).flat())) << p;
  }
}

TEST_P(Attend, ATokensBitsDoNotDependOnItsCompanyOrTheThreads) {
  Random random(1);
  for (const Shape& shape : {Shape{4, 2, 16, 16, 700}, Shape{4, 1, 24, 16, 700, 300, true}, Shape{2, 2, 33, 17, 530, 40},
                             Shape{4, 2, 16, 16, 2100, 0, false, 0.1f, true}}) {
    const Sequence sequence(shape, type(), 9);
    ThreadPool one(1);
    const Matrix<float> whole = sequence.attend(kernels(), one, 0, shape.positions);
    for (int threads = 1; threads <= 4; ++threads) {
      ThreadPool pool(threads);
      for (int trial = 0; trial < 10; ++trial) {
        const size_t first = random.below(shape.positions);
        const size_t count = std::min<size_t>(shape.positions - first, trial % 2 == 0 ? 1 : 1 + random.below(90));
        const Matrix<float> part = sequence.attend(kernels(), pool, first, count);
        for (size_t t = 0; t < count; ++t) ASSERT_TRUE(std::ranges::equal(part.row(t), whole.row(first + t))) << first + t;
      }
    }
  }
}

// Root of the mean squared difference to the softmax of what was put in, against that of the result itself.
TEST_P(Attend, RoundingTheCacheCostsWhatTheTypeSays) {
  constexpr double kMost[] = {1e-6, 1e-3, 8e-3, 2e-2};
  ThreadPool threads(1);
  const Shape shape{4, 1, 128, 128, 512};
  const Sequence sequence(shape, type(), 5);
  const Matrix<float> mixed = sequence.attend(kernels(), threads, 500, 12);
  double squares = 0, errors = 0;
  for (size_t t = 0; t < 12; ++t) {
    for (size_t head = 0; head < shape.heads; ++head) {
      const Expected expected = expected_of(sequence, 500 + t, head, false);
      for (size_t d = 0; d < 128; ++d) {
        const double error = mixed.row(t)[head * 128 + d] - expected.mixed[d];
        squares += expected.mixed[d] * expected.mixed[d];
        errors += error * error;
      }
    }
  }
  EXPECT_LT(std::sqrt(errors / squares), kMost[static_cast<int>(type())]);
  RecordProperty("relative_error", std::to_string(std::sqrt(errors / squares)));
}

INSTANTIATE_TEST_SUITE_P(Kernels, Attend,
                         testing::Combine(testing::ValuesIn(kernel::available_kernels().begin(),
                                                            kernel::available_kernels().end()),
                                          testing::ValuesIn(kTypes)),
                         [](const auto& param) {
                           return std::string(std::get<0>(param.param)->name) + "_" + name_of(std::get<1>(param.param));
                         });

}  // namespace
}  // namespace moiety::model
