#include "train/borrowed_experts.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "train/loops.h"
#include "train/parallel.h"
#include "train/picked.h"

namespace moiety::train {
namespace {

constexpr size_t kMatrices = 3;  // of an expert

// Of one expert, as they travel.
template <class T>
std::array<T*, kMatrices> matrices(const ExpertStack<T>& stack, size_t expert) {
  const size_t at = expert * stack.hidden * stack.width;
  return {stack.gate + at, stack.up + at, stack.down + at};
}

}  // namespace

BorrowedExperts::BorrowedExperts(comm::Group& group, comm::Exchange& exchange, moe::Placement placement, moe::BorrowPlan lending,
                                 const moe::LayerPlan& plan, Lendable lendable)
    : group_(group),
      exchange_(exchange),
      placement_(std::move(placement)),
      lending_(std::move(lending)),
      lendable_(std::move(lendable)),
      any_(!lending_.is_empty()) {
  if (!any_) return;
  visits_ = moe::visits_to(plan, lending_.experts_W[static_cast<size_t>(group_.rank())], 0, plan.routing.num_tokens());
  plan_ = moe::plan_dispatch(visits_.routing);
}

// Of this rank's experts, numbered from its first.
std::vector<size_t> BorrowedExperts::lent_to(int borrower) const {
  std::vector<size_t> lent;
  for (const int expert : lending_.experts_W[static_cast<size_t>(borrower)]) {
    if (placement_.owner(expert) == group_.rank()) lent.push_back(static_cast<size_t>(placement_.place(expert)));
  }
  return lent;
}

// Which of the borrowed experts parcels hold one after the other: owner by owner.
std::vector<size_t> BorrowedExperts::in_parcels() const {
  const std::vector<int>& borrowed = lending_.experts_W[static_cast<size_t>(group_.rank())];
  std::vector<size_t> order(borrowed.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return placement_.owner(borrowed[i]); });
  return order;
}

// From owners to borrowers, or home.
Matrix<size_t> BorrowedExperts::bytes(bool home) const {
  const size_t ranks = lending_.experts_W.size();
  Matrix<size_t> bytes_WW(ranks, ranks);
  for (size_t borrower = 0; borrower < ranks; ++borrower) {
    for (const int expert : lending_.experts_W[borrower]) {
      const size_t owner = static_cast<size_t>(placement_.owner(expert));
      (home ? bytes_WW.row(borrower)[owner] : bytes_WW.row(owner)[borrower]) += kMatrices * matrix_size() * sizeof(float);
    }
  }
  return bytes_WW;
}

// Of what is borrowed.
template <class Number>
ExpertStack<Number> BorrowedExperts::stack(Number* first) const {
  const size_t experts = static_cast<size_t>(visits_.routing.num_experts), size = experts * matrix_size();
  return {experts, lendable_.own.value.width, lendable_.own.value.hidden, first, first + size, first + 2 * size};
}

void BorrowedExperts::send() {
  if (!any_) return;
  const Matrix<size_t> bytes_WW = bytes(/*home=*/false);
  comm::Parcels parcels(bytes_WW.row(static_cast<size_t>(group_.rank())));
  for (int to = 0; to < group_.size(); ++to) {
    std::byte* at = parcels.of(to).data();
    for (const size_t expert : lent_to(to)) {
      for (const float* const matrix : matrices(lendable_.own.value, expert)) {
        std::memcpy(at, matrix, matrix_size() * sizeof(float));
        at += matrix_size() * sizeof(float);
      }
    }
  }
  coming_ = exchange_.start(std::move(parcels), bytes_WW);
}

void BorrowedExperts::forward(std::span<const float> mix_N, MatrixView<const float> x_TD, MatrixView<float> out_TD) {
  if (!any_) return;
  const comm::Parcels parcels = coming_->finish();
  const size_t experts = static_cast<size_t>(visits_.routing.num_experts);
  values_ = Buffer(kMatrices * experts, matrix_size());
  gradients_ = Buffer(kMatrices * experts, matrix_size());
  const std::byte* const all = parcels.memory.flat().data();
  const std::vector<size_t> travels = in_parcels();
  parallel_tasks(kMatrices * experts, [&](size_t i) {
    const std::span<float> to = values_.row(i % kMatrices * experts + travels[i / kMatrices]);
    std::memcpy(to.data(), all + i * to.size_bytes(), to.size_bytes());
  });
  if (experts == 0) return;
  experts_ = lendable_.make({stack<const float>(values_.view().data()), stack<float>(gradients_.view().data())});
  experts_forward(experts_, plan_, picked(mix_N, visits_.visit_V), x_TD, out_TD);
}

void BorrowedExperts::backward(std::span<const float> mix_N, MatrixView<const float> x_TD, MatrixView<const float> dout_TD,
                               MatrixView<float> dx_TD, std::span<float> dmix_N) {
  if (!any_) return;
  const size_t experts = static_cast<size_t>(visits_.routing.num_experts);
  if (experts > 0) {
    parallel_tasks(kMatrices * experts, [&](size_t i) { std::ranges::fill(gradients_.row(i), 0.0f); });
    std::vector<float> dmix_V(visits_.visit_V.size());
    experts_backward(experts_, plan_, picked(mix_N, visits_.visit_V), x_TD, dout_TD, dx_TD, dmix_V);
    for (size_t v = 0; v < dmix_V.size(); ++v) dmix_N[static_cast<size_t>(visits_.visit_V[v])] = dmix_V[v];
  }
  const Matrix<size_t> bytes_WW = bytes(/*home=*/true);
  comm::Parcels parcels(bytes_WW.row(static_cast<size_t>(group_.rank())));
  std::byte* const all = parcels.memory.flat().data();
  const std::vector<size_t> travels = in_parcels();
  parallel_tasks(kMatrices * experts, [&](size_t i) {
    const std::span<const float> from = gradients_.row(i % kMatrices * experts + travels[i / kMatrices]);
    std::memcpy(all + i * from.size_bytes(), from.data(), from.size_bytes());
  });
  coming_ = exchange_.start(std::move(parcels), bytes_WW);
  experts_.clear();
  values_ = {};
  gradients_ = {};
}

void BorrowedExperts::take_gradients() {
  if (!any_) return;
  const comm::Parcels parcels = coming_->finish();
  for (int from = 0; from < group_.size(); ++from) {
    const std::vector<size_t> lent = lent_to(from);
    const std::byte* const parcel = parcels.of(from).data();
    parallel_tasks(kMatrices * lent.size(), [&](size_t i) {
      std::vector<float> gradient(matrix_size());
      std::memcpy(gradient.data(), parcel + i * matrix_size() * sizeof(float), matrix_size() * sizeof(float));
      add(gradient, std::span(matrices(lendable_.own.gradient, lent[i / kMatrices])[i % kMatrices], matrix_size()));
    });
  }
}

}  // namespace moiety::train
