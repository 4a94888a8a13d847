// Experts of other ranks that this one borrows for a pass of a layer (moe/borrow_plan.h), and those that it lends: weights come here
// instead of tokens going there (Hecate's sparse materialisation, FasterMoE's shadows), and their gradients go home, where the owner adds
// them rank after rank, so that sums are the same in every run.
//
// Weights and gradients travel in f32, an expert's three matrices one after the other, all of a pair of ranks in one parcel. What came
// is kept for the way back: 4 bytes a weight, and as many for gradients while they are made; a layer that is computed again borrows
// again. In bf16 it is laid out in each product and not kept packed.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "comm/exchange.h"
#include "moe/borrow_plan.h"
#include "moe/shipment.h"
#include "train/buffer.h"
#include "train/experts.h"
#include "train/feed_forward_experts.h"

namespace moiety::train {

// A layer's feed-forward experts as ranks lend them to each other.
struct Lendable {
  size_t experts = 0;  // of the layer, its first; others are not lent
  ExpertWeights own;  // that this rank has, as the optimizer sees them
  // The experts of such weights, some or all of them borrowed.
  std::function<LayerExperts(const ExpertWeights&)> make;
};

class BorrowedExperts {
 public:
  // What it refers to must outlive it. `lending` is the same on all ranks.
  BorrowedExperts(comm::Group& group, comm::Exchange& exchange, moe::Placement placement, moe::BorrowPlan lending, const moe::LayerPlan& plan,
                  Lendable lendable);

  // Collective, and nothing if nobody borrows; in this order. Weights go out; this rank's visits to what it borrowed are computed, as
  // experts_forward does; gradients of experts go out, when those of tokens are computed; what comes is added to this rank's own.
  void send();
  void forward(std::span<const float> mix_N, MatrixView<const float> x_TD, MatrixView<float> out_TD);
  void backward(std::span<const float> mix_N, MatrixView<const float> x_TD, MatrixView<const float> dout_TD, MatrixView<float> dx_TD,
                std::span<float> dmix_N);
  void take_gradients();

 private:
  std::vector<size_t> lent_to(int borrower) const;
  std::vector<size_t> in_parcels() const;
  size_t matrix_size() const { return lendable_.own.value.width * lendable_.own.value.hidden; }
  Matrix<size_t> bytes(bool home) const;
  template <class Number>
  ExpertStack<Number> stack(Number* first) const;

  comm::Group& group_;
  comm::Exchange& exchange_;
  moe::Placement placement_;
  moe::BorrowPlan lending_;
  Lendable lendable_;
  bool any_;
  moe::OwnVisits visits_;
  moe::DispatchPlan plan_;
  Buffer values_, gradients_;  // rows: gates of all, ups of all, downs of all
  LayerExperts experts_;
  std::unique_ptr<comm::Arrival> coming_;
};

}  // namespace moiety::train
