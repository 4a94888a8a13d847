#include "train/optimizer.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cmath>
#include <map>
#include <mutex>

#include "base/random.h"
#include "format/safetensors.h"
#include "support/rank_threads.h"
#include "train/parallel.h"
#include "train/share_writer.h"
#include "train/tensor_reader.h"
#include "train/torch.h"

namespace moiety::train {
namespace {

// Of one process's state.
std::vector<format::TensorSource> wholes(Optimizer& optimizer) {
  std::vector<format::TensorSource> tensors;
  for (TensorPart& tensor : optimizer.state_tensors()) tensors.push_back(std::move(tensor.here));
  return tensors;
}

// Moving experts between two steps is the same as beginning with them moved.
TEST(Optimizer, ExpertsMoveWithTheirMoments) {
  const TrainConfig config = parse_config("", "c", {"model.width=16", "model.layers=2", "model.experts=4", "model.expert_hidden=24"});
  const spec::ModelSpec spec = model_spec(config, 300, 0);
  const std::vector<int32_t> from{2, 0, 3, 1};
  const auto moved = [&](Weights& weights, std::vector<float> x) {
    for (const Weights::Entry& entry : weights.entries()) {
      if (!spec::is_expert(entry.weight.role) || entry.weight.layer != 1) continue;
      const size_t size = entry.size / 4;
      const std::vector<float> old(x.begin() + static_cast<ptrdiff_t>(entry.begin), x.begin() + static_cast<ptrdiff_t>(entry.begin + entry.size));
      for (size_t e = 0; e < 4; ++e) std::copy_n(old.begin() + static_cast<ptrdiff_t>(from[e] * size), size, x.begin() + static_cast<ptrdiff_t>(entry.begin + e * size));
    }
    return x;
  };
  for (const char* state : {"f32", "factored", "int8"}) {
    Weights moves(spec), stays(spec);
    moves.initialise(spec, 1);
    std::ranges::copy(moved(stays, {moves.values().begin(), moves.values().end()}), stays.values().begin());
    const TrainConfig::Optimizer settings{.state = state};
    Optimizer mine(settings, moves), theirs(settings, stays);
    Random random(3);
    for (int64_t step = 0; step < 4; ++step) {
      std::vector<float> gradient(moves.values().size());
      for (float& x : gradient) x = static_cast<float>(random.normal());
      if (step == 2) mine.move_experts(1, from);
      std::ranges::copy(moved(stays, gradient), stays.gradients().begin());
      if (step >= 2) gradient = moved(stays, gradient);
      std::ranges::copy(gradient, moves.gradients().begin());
      // The norm is a sum in another order.
      EXPECT_NEAR(mine.step(step, 1e-2), theirs.step(step, 1e-2), 1e-3);
    }
    for (size_t i = 0; i < moves.values().size(); ++i) {
      ASSERT_NEAR(moves.values()[i], stays.values()[i], std::string(state) == "int8" ? 5e-3 : 1e-6) << state << " " << i;
    }
  }
}

// Ranks that share the work do what one does alone with the sum of their gradients, also from a checkpoint of other ranks on.
TEST(Optimizer, RanksThatShareItsStateAreAsOne) {
  const TrainConfig config = parse_config("", "c", {"model.width=64", "model.layers=2", "model.experts=8", "model.expert_hidden=96"});
  const spec::ModelSpec spec = model_spec(config, 500, 0);
  const auto part_of = [&](int64_t step, int rank, std::span<float> to) {
    Random random(5, static_cast<uint64_t>(step), static_cast<uint64_t>(rank) << 32);
    for (float& x : to) x = static_cast<float>(random.normal());
  };
  struct Form {
    const char *state, *offload;
  };
  for (const Form form : {Form{"f32", "none"}, {"f32", "ssd"}, {"int8", "none"}, {"factored", "none"}}) {
    TrainConfig::Optimizer settings{.state = form.state, .offload = form.offload, .group = 4000};
    const fs::path here = fs::temp_directory_path();
    for (const int ranks : {2, 3, 7}) {
      constexpr int64_t kBefore = 3, kAfter = 2;
      Weights alone(spec);
      alone.initialise(spec, 1);
      Optimizer one(settings, alone, here);
      std::vector<float> part(alone.values().size());
      const auto step_alone = [&](int64_t step) {
        for (int rank = 0; rank < ranks; ++rank) {
          part_of(step, rank, part);
          for (size_t i = 0; i < part.size(); ++i) alone.gradients()[i] += part[i];
        }
        return one.step(step, 1e-2);
      };
      std::vector<double> norms;
      for (int64_t step = 0; step < kBefore + kAfter; ++step) norms.push_back(step_alone(step));

      std::vector<std::vector<float>> values(static_cast<size_t>(ranks));
      std::map<std::string, std::vector<float>> saved;
      std::mutex mutex;
      size_t bytes = 0;
      test::on_ranks(ranks, [&](comm::Group& group) {
        Weights weights(spec);
        weights.initialise(spec, 1);
        comm::Mesh mesh(group, {});
        Optimizer optimizer(settings, weights, here, &mesh);
        for (int64_t step = 0; step < kBefore; ++step) {
          part_of(step, group.rank(), weights.gradients());
          EXPECT_NEAR(optimizer.step(step, 1e-2), norms[static_cast<size_t>(step)], 1e-3);
          for (const float gradient : weights.gradients()) ASSERT_EQ(gradient, 0);
        }
        const std::vector<TensorPart> mine = optimizer.state_tensors();
        const std::vector<Part> share_N = share_of(mine, &group);
        for (size_t n = 0; n < mine.size(); ++n) {
          const format::TensorSource& tensor = mine[n].here;
          std::vector<float> numbers(mine[n].part.size());
          TensorReader(tensor).read(0, numbers);
          const std::lock_guard lock(mutex);
          std::vector<float>& whole = saved[tensor.name];
          whole.resize(tensor.elements());
          copy_part(share_N[n], mine[n].part, std::span(std::as_const(numbers)), Part({{0, whole.size()}}), std::span(whole));
        }
        if (group.is_first()) bytes = optimizer.figures().state_bytes;
        values[static_cast<size_t>(group.rank())] = {weights.values().begin(), weights.values().end()};
      });
      for (const auto& of_rank : values) EXPECT_EQ(of_rank, values[0]);
      constexpr size_t kLargestPiece = 8 * (1 << 15);  // bytes
      EXPECT_LE(bytes, std::string(form.state) == "factored" ? bytes : one.figures().state_bytes / static_cast<size_t>(ranks) + kLargestPiece);

      // Another number of ranks goes on.
      test::on_ranks(ranks + 1, [&](comm::Group& group) {
        Weights weights(spec);
        std::ranges::copy(values[0], weights.values().begin());
        comm::Mesh mesh(group, {});
        Optimizer optimizer(settings, weights, here, &mesh);
        std::vector<format::TensorView> tensors;
        for (const TensorPart& wanted : Optimizer(settings, weights, here).state_tensors()) {
          tensors.push_back({wanted.here.name, spec::ElementType::F32, wanted.here.shape, std::as_bytes(std::span(saved.at(wanted.here.name)))});
        }
        optimizer.read_state(tensors, "saved");
        for (int64_t step = kBefore; step < kBefore + kAfter; ++step) {
          if (group.rank() < ranks) part_of(step, group.rank(), weights.gradients());
          optimizer.step(step, 1e-2);
        }
        // A sum in another order may round a moment of 8 bits to another level.
        const bool is_rounded = std::string(form.state) == "int8";
        double distance = 0;
        for (size_t i = 0; i < weights.values().size(); ++i) {
          ASSERT_NEAR(weights.values()[i], alone.values()[i], is_rounded ? 3e-2 : 1e-4) << form.state << " " << i;
          distance += std::abs(weights.values()[i] - alone.values()[i]);
        }
        EXPECT_LT(distance / static_cast<double>(weights.values().size()), is_rounded ? 1e-4 : 1e-6) << form.state;
      });
    }
  }
}

TEST(Optimizer, OldExpertsStayAndNewOnesLearnAsIfNobodyHadStayed) {
  const TrainConfig config = parse_config("", "c", {"model.width=16", "model.layers=2", "model.experts=4", "model.expert_hidden=24"});
  const spec::ModelSpec spec = model_spec(config, 300, 0);
  for (const char* state : {"f32", "factored", "int8"}) {
    Weights some(spec), all(spec);
    some.initialise(spec, 1);
    const std::vector<float> before(some.values().begin(), some.values().end());
    std::ranges::copy(before, all.values().begin());
    some.freeze_old(3, 0);
    const TrainConfig::Optimizer settings{.clip = 0, .state = state};
    const auto mine = std::make_unique<Optimizer>(settings, some), theirs = std::make_unique<Optimizer>(settings, all);
    Random random(3);
    for (int64_t step = 0; step < 3; ++step) {
      for (size_t i = 0; i < before.size(); ++i) some.gradients()[i] = all.gradients()[i] = static_cast<float>(random.normal());
      mine->step(step, 1e-2);
      theirs->step(step, 1e-2);
    }
    for (const Weights::Entry& entry : some.entries()) {
      const bool learns = entry.weight.role == spec::Role::Router || spec::is_expert(entry.weight.role);
      const size_t old = spec::is_expert(entry.weight.role) ? entry.size / 4 * 3 : learns ? 0 : entry.size;
      for (size_t i = 0; i < entry.size; ++i) {
        const float wanted = i < old ? before[entry.begin + i] : all.values()[entry.begin + i];
        // Blocks of eight bits begin elsewhere
        ASSERT_NEAR(some.values()[entry.begin + i], wanted, i < old || std::string(state) != "int8" ? 0 : 5e-3) << state << " " << entry.name;
      }
    }
  }
}

TEST(Optimizer, IsTorchsAdamWWithClipping) {
  const TrainConfig config = parse_config("", "c", {"model.width=16", "model.layers=1", "balance.bias_rate=0.1"});
  const spec::ModelSpec spec = model_spec(config, 300, 0);
  Weights weights(spec);
  weights.initialise(spec, 1);
  const TrainConfig::Optimizer settings{.weight_decay = 0.1, .clip = 0.5};
  Optimizer optimizer(settings, weights);

  std::vector<torch::Tensor> matrices, others, all;
  std::vector<std::pair<size_t, size_t>> places;
  for (const Weights::Entry& entry : weights.entries()) {
    if (entry.weight.role == spec::Role::SelectionBias) continue;
    torch::Tensor leaf = torch::from_blob(weights.values().data() + entry.begin, {static_cast<int64_t>(entry.size)})
                             .clone().set_requires_grad(true);
    (entry.is_matrix() ? matrices : others).push_back(leaf);
    all.push_back(leaf);
    places.emplace_back(entry.begin, entry.size);
  }
  const auto options = [](double decay) {
    auto o = std::make_unique<torch::optim::AdamWOptions>(1e-2);
    o->betas({0.9, 0.95}).eps(1e-8).weight_decay(decay);
    return o;
  };
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(matrices, options(0.1));
  groups.emplace_back(others, options(0));
  torch::optim::AdamW theirs(groups, *options(0));

  Random random(3);
  for (int64_t step = 0; step < 4; ++step) {
    for (size_t i = 0; i < all.size(); ++i) {
      torch::Tensor gradient = torch::empty_like(all[i]);
      for (size_t k = 0; k < places[i].second; ++k) {
        const float value = static_cast<float>(random.normal() * (step == 3 ? 1e-5 : 1));  // the last isn't clipped
        gradient.data_ptr<float>()[k] = value;
        weights.gradients()[places[i].first + k] = value;
      }
      all[i].mutable_grad() = gradient;
    }
    const double their_norm = torch::nn::utils::clip_grad_norm_(all, 0.5);
    theirs.step();
    const double norm = optimizer.step(step, 1e-2);
    EXPECT_NEAR(norm, their_norm, 1e-5 * their_norm);
  }
  for (size_t i = 0; i < all.size(); ++i) {
    for (size_t k = 0; k < places[i].second; ++k) {
      ASSERT_NEAR(weights.values()[places[i].first + k], all[i].data_ptr<float>()[k], 2e-6);
    }
  }
  // Used up
  for (const float gradient : weights.gradients()) ASSERT_EQ(gradient, 0.0f);
  // No gradient moves the selection bias.
  for (const float bias : weights.vector(spec::Role::SelectionBias, 0).value) EXPECT_EQ(bias, 0.0f);
}

// A small model, its weights, and gradients by chance.
struct Training {
  explicit Training(const TrainConfig::Optimizer& settings, const fs::path& folder = {})
      : weights(spec), optimizer(settings, weights, folder) {
    weights.initialise(spec, 1);
  }
  void steps(int64_t first, int64_t end, double size = 1) {
    for (int64_t step = first; step < end; ++step) {
      Random random(static_cast<uint64_t>(100 + step));
      for (float& gradient : weights.gradients()) gradient = static_cast<float>(size * random.normal());
      optimizer.step(step, 1e-2);
    }
  }
  // The state as a checkpoint has it.
  std::map<std::string, std::vector<float>> state() {
    const fs::path path = fs::temp_directory_path() / fmt::format("moiety-state-{}", ::getpid());
    format::write_safetensors(path, wholes(optimizer));
    std::map<std::string, std::vector<float>> state;
    const format::SafetensorsFile file(path);
    for (const format::TensorView& tensor : file.tensors()) {
      const auto* from = reinterpret_cast<const float*>(tensor.bytes.data());
      state[tensor.name] = {from, from + tensor.elements()};
    }
    fs::remove(path);
    return state;
  }
  void take_state_of(Training& other) {
    const fs::path path = fs::temp_directory_path() / fmt::format("moiety-state-{}", ::getpid());
    format::write_safetensors(path, wholes(other.optimizer));
    optimizer.read_state(format::SafetensorsFile(path).tensors(), "state");
    std::ranges::copy(other.weights.values(), weights.values().begin());
    fs::remove(path);
  }

  spec::ModelSpec spec = model_spec(parse_config("", "c", {"model.width=48", "model.layers=2", "model.expert_hidden=96",
                                                            "balance.bias_rate=0.1"}), 300, 0);
  Weights weights;
  Optimizer optimizer;
};

std::vector<float> values_of(const Training& training) {
  return {training.weights.values().begin(), training.weights.values().end()};
}

struct ScratchFolder {
  ~ScratchFolder() { fs::remove_all(folder_); }
  fs::path folder_ = fs::temp_directory_path() / fmt::format("moiety-optimizer-{}", ::getpid());
};
class OptimizerForms : public testing::TestWithParam<TrainConfig::Optimizer>, public ScratchFolder {};
class OffloadedOptimizer : public testing::Test, public ScratchFolder {};

TEST_P(OptimizerForms, GoesOnFromACheckpointToTheSameBits) {
  Training whole(GetParam(), folder_), before(GetParam(), folder_), after(GetParam(), folder_);
  whole.steps(0, 7);
  before.steps(0, 3);
  after.take_state_of(before);
  EXPECT_TRUE(after.state() == before.state());
  after.steps(3, 7);
  EXPECT_TRUE(values_of(after) == values_of(whole));
  EXPECT_TRUE(after.state() == whole.state());
}

TEST_P(OptimizerForms, IsTheSameWhateverTheNumberOfThreads) {
  const int threads = omp_get_max_threads();
  Training one(GetParam(), folder_), three(GetParam(), folder_);
  omp_set_num_threads(1);
  one.steps(0, 3);
  omp_set_num_threads(3);
  three.steps(0, 3);
  omp_set_num_threads(threads);
  EXPECT_TRUE(values_of(one) == values_of(three));
}

TEST_P(OptimizerForms, MovesNoBiasAndUsesGradientsUp) {
  Training training(GetParam(), folder_);
  training.steps(0, 2);
  for (const Weights::Entry& entry : training.weights.entries()) {
    const bool is_bias = entry.weight.role == spec::Role::SelectionBias;
    const auto numbers = (is_bias ? training.weights.values() : training.weights.gradients()).subspan(entry.begin, entry.size);
    for (const float x : numbers) ASSERT_EQ(x, 0.0f) << entry.name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, OptimizerForms,
                         testing::Values(TrainConfig::Optimizer{.state = "f32"}, TrainConfig::Optimizer{.state = "int8"},
                                         TrainConfig::Optimizer{.state = "factored"},
                                         TrainConfig::Optimizer{.beta1 = 0, .state = "factored"},
                                         TrainConfig::Optimizer{.state = "f32", .offload = "ssd", .group = 1000},
                                         TrainConfig::Optimizer{.state = "int8", .offload = "ssd", .group = 1000}),
                         [](const auto& test) { return test.param.state + "_" + test.param.offload + (test.param.beta1 > 0 ? "" : "_no_first"); });

TEST_F(OffloadedOptimizer, GivesTheBitsOfStateInMemory) {
  for (const char* state : {"f32", "int8"}) {
    Training in_memory({.state = state}, folder_);
    in_memory.steps(0, 6);
    for (const auto& [memory_mb, group] : {std::pair{0, 1}, {0, 30000}, {1, 20000}, {1, 100}, {1000, 1000}}) {
      Training offloaded({.state = state, .offload = "ssd", .memory_mb = memory_mb, .group = group}, folder_);
      offloaded.steps(0, 6);
      EXPECT_EQ(offloaded.optimizer.figures().streamed_groups == 0, memory_mb == 1000 || (*state == 'i' && memory_mb == 1));
      EXPECT_TRUE(values_of(offloaded) == values_of(in_memory)) << state << " " << memory_mb << " " << group;
      EXPECT_TRUE(offloaded.state() == in_memory.state());
    }
  }
}

// The definition in double, matrix by matrix.
TEST(Optimizer, FactoredSecondMomentsAreAdafactors) {
  for (const double beta1 : {0.9, 0.0}) {
    const TrainConfig::Optimizer settings{.beta1 = beta1, .weight_decay = 0.1, .clip = 0, .state = "factored"};
    Training training(settings);
    const Weights::Entry& entry = *std::ranges::find_if(training.weights.entries(), [](const Weights::Entry& e) {
      return e.weight.role == spec::Role::ExpertUp;  // a stack of matrices, of more rows than a piece has
    });
    const auto rows = static_cast<size_t>(entry.shape[1]), cols = static_cast<size_t>(entry.shape[2]), size = rows * cols;
    const size_t begin = entry.begin + size;  // the second expert's
    std::vector<double> weight(training.weights.values().begin() + static_cast<ptrdiff_t>(begin),
                               training.weights.values().begin() + static_cast<ptrdiff_t>(begin + size));
    std::vector<double> m(size), row(rows), col(cols);
    for (int64_t step = 0; step < 4; ++step) {
      Random random(static_cast<uint64_t>(7 + step));
      for (float& gradient : training.weights.gradients()) gradient = static_cast<float>(random.normal());
      const std::vector<double> g(training.weights.gradients().begin() + static_cast<ptrdiff_t>(begin),
                                  training.weights.gradients().begin() + static_cast<ptrdiff_t>(begin + size));
      training.optimizer.step(step, 1e-2);

      for (double& x : row) x *= 0.95;
      for (double& x : col) x *= 0.95;
      for (size_t i = 0; i < size; ++i) {
        row[i / cols] += 0.05 * g[i] * g[i] / static_cast<double>(cols);
        col[i % cols] += 0.05 * g[i] * g[i] / static_cast<double>(rows);
        m[i] = beta1 * m[i] + (1 - beta1) * g[i];
      }
      double mean = 0;
      for (const double x : row) mean += x / static_cast<double>(rows);
      const double correction1 = beta1 > 0 ? 1 - std::pow(0.9, step + 1) : 1, correction2 = 1 - std::pow(0.95, step + 1);
      for (size_t i = 0; i < size; ++i) {
        const double v = row[i / cols] * col[i % cols] / mean / correction2;
        weight[i] -= 1e-2 * 0.1 * weight[i] + 1e-2 * m[i] / correction1 / (std::sqrt(v) + 1e-8);
      }
    }
    for (size_t i = 0; i < size; ++i) ASSERT_NEAR(training.weights.values()[begin + i], weight[i], 2e-6);
  }
}

// A matrix whose squares are of rank one has nothing to lose: as AdamW itself.
TEST(Optimizer, FactoredMomentsOfRankOneAreAdamWs) {
  Training full({.clip = 0}), factored({.clip = 0, .state = "factored"});
  for (int64_t step = 0; step < 3; ++step) {
    for (Training* training : {&full, &factored}) {
      std::ranges::fill(training->weights.gradients(), static_cast<float>(step) - 0.7f);
      training->optimizer.step(step, 1e-2);
    }
  }
  for (size_t i = 0; i < full.weights.values().size(); ++i) {
    ASSERT_NEAR(factored.weights.values()[i], full.weights.values()[i], 2e-6);
  }
}

TEST(Optimizer, WhereNoGradientComesNothingBecomesANaN) {
  for (const char* state : {"f32", "int8", "factored"}) {
    Training training({.weight_decay = 0, .state = state});
    const std::vector<float> before = values_of(training);
    training.optimizer.step(0, 1e-2);
    EXPECT_TRUE(values_of(training) == before) << state;
  }
}

// The first step goes by the sign of the gradient alone, in 8 bits too; later ones stay near.
TEST(Optimizer, EightBitsStayNearAdamW) {
  Training full({.clip = 0}), int8({.clip = 0, .state = "int8"});
  full.steps(0, 20);
  int8.steps(0, 20);
  const std::vector<float> start = values_of(Training({}));
  double moved = 0, apart = 0;
  for (size_t i = 0; i < start.size(); ++i) {
    const double a = full.weights.values()[i] - start[i], b = int8.weights.values()[i] - start[i];
    moved += a * a;
    apart += (a - b) * (a - b);
  }
  EXPECT_GT(apart, 0);
  EXPECT_LT(std::sqrt(apart / moved), 0.1);
}

TEST(Optimizer, BytesAParameter) {
  const auto bytes = [](const char* state, double beta1) {
    const OptimizerFigures figures = Training({.beta1 = beta1, .state = state}).optimizer.figures();
    return static_cast<double>(figures.state_bytes) / static_cast<double>(figures.parameters);
  };
  EXPECT_EQ(bytes("f32", 0.9), 8);
  EXPECT_LT(bytes("int8", 0.9), 2.6);  // the embedding's and the norms' are f32
  EXPECT_LT(bytes("factored", 0.9), 4.3);
  EXPECT_LT(bytes("factored", 0), 0.3);
}

TEST(Weights, InitialValuesDoNotDependOnTheNumberOfThreads) {
  const spec::ModelSpec spec = model_spec(parse_config("", "c", {}), 300, 0);
  const int threads = omp_get_max_threads();
  Weights one(spec), four(spec);
  omp_set_num_threads(1);
  one.initialise(spec, 9);
  omp_set_num_threads(4);
  four.initialise(spec, 9);
  omp_set_num_threads(threads);
  EXPECT_TRUE(std::ranges::equal(one.values(), four.values()));
}

}  // namespace
}  // namespace moiety::train
