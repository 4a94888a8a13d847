// The routed experts of a layer that are spread over several ranks (expert parallelism): tokens go to the ranks that hold the experts
// they visit, and what these give comes back. Who visits whom is decided by the token's rank, once; the owner makes an ordinary
// dispatch plan of what it receives, and the ordinary experts compute. Experts that cost nothing never travel.
//
// A token goes once to each rank, with its visits there and their mixing weights, and one row comes back: the weighted sum. On the
// way back its output's gradient goes out, and the gradients of its input and of its mixing weights come home (as in SonicMoE: Guo
// et al. 2025): of a received token its input is kept and nothing else that the experts don't.
//
// Tokens may go in chunks: while one is computed with, the next is on its way here and the results of the one before on theirs
// (as in Tutel: Hwang et al. 2023). What a rank's tokens visit at home is computed while the first chunk comes and the last returns.
//
// Experts that many visit may be borrowed instead (train/borrowed_experts.h): their weights are on their way while all else is computed.
//
// Plain arithmetic on matrices: no torch, no graph. All ranks make the same calls, with whatever tokens they have, or none.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "comm/exchange.h"
#include "moe/shipment.h"
#include "train/batch.h"
#include "train/borrowed_experts.h"
#include "train/buffer.h"
#include "train/experts.h"

namespace moiety::train {

// Which experts' weights travel instead of tokens: none's, those by which the slowest rank is expected to be faster, all visited ones'.
enum class Lend { Nothing, Hot, All };

// Ranks that share the experts of each layer, and how tokens get to them.
struct ExpertRanks {
  comm::Group& group;
  comm::Exchange& exchange;
  int chunks = 1;
  bool bf16 = false;  // rows travel rounded to bf16
  Lend lend = Lend::Nothing;
  double flops_a_byte = 100;  // what a rank computes while it sends a byte, for Lend::Hot
};

// The experts of a layer that this rank holds, numbered from 0, for one pass over tokens whose documents are `segments`.
using MakeExperts = std::function<LayerExperts(std::span<const Segment> segments)>;

// What experts need of documents: nothing, or all of a document's tokens at once.
enum class Documents { NoMatter, Whole };

// One pass there and back.
class SpreadExperts {
 public:
  // What it refers to must outlive it. `segments` cover all tokens in their order.
  SpreadExperts(const ExpertRanks& ranks, std::shared_ptr<const moe::LayerPlan> plan, moe::Placement placement, MakeExperts make,
                std::span<const Segment> segments, Documents documents, Lendable lendable);

  // As experts_forward and experts_backward (train/experts.h).
  void forward(std::span<const float> mix_N, MatrixView<const float> x_TD, MatrixView<float> out_TD);
  void backward(std::span<const float> mix_N, MatrixView<const float> x_TD, MatrixView<const float> dout_TD, MatrixView<float> dx_TD,
                std::span<float> dmix_N);

 private:
  // Tokens of this rank at its own experts.
  struct Home {
    size_t first = 0, tokens = 0;
    std::vector<int32_t> visit_V;
    moe::DispatchPlan plan;
    LayerExperts experts;
  };
  // Tokens of other ranks at this one's experts.
  struct Guests {
    Buffer x_RD;
    std::vector<float> mix_V;
    moe::DispatchPlan plan;
    LayerExperts experts;
  };
  // Some of each rank's tokens: what goes out and what comes in.
  struct Chunk {
    moe::Shipment shipment;
    Matrix<size_t> rows_WW, visits_WW;  // from, to
    Guests guests;
  };

  void borrow(Lendable lendable);
  std::span<const int> borrowed() const;
  moe::BorrowPlan plan_loans(const Lendable& lendable) const;
  void add_home(size_t first, size_t end);
  void tell_counts();
  size_t guest_rows(const Chunk& chunk) const;
  size_t cut(size_t tokens, size_t part, size_t parts) const;
  int32_t document_of(int32_t token) const;
  std::unique_ptr<comm::Arrival> send_tokens(const Chunk& chunk, std::span<const float> mix_N, MatrixView<const float> x_TD) const;
  void receive_tokens(Chunk& chunk, const comm::Parcels& parcels) const;
  std::unique_ptr<comm::Arrival> send_rows(const Chunk& chunk, MatrixView<const float> from_TD) const;
  void receive_rows(const comm::Parcels& parcels, MatrixView<float> to_RD) const;
  std::unique_ptr<comm::Arrival> return_rows(const Chunk& chunk, MatrixView<const float> from_RD,
                                             const std::optional<std::vector<float>>& dmix_V) const;
  void take_back(const Chunk& chunk, const comm::Parcels& parcels, MatrixView<float> to_TD, std::span<float> dmix_N) const;

  // send(chunk) starts what goes out; compute(chunk, parcels) computes with what came and starts what returns; take(chunk, parcels)
  // takes it back; at_home(home) computes what stays; early() is while the first are on their way, late() while the last return.
  template <class Send, class Compute, class Take, class AtHome, class Early, class Late>
  void run(const Send& send, const Compute& compute, const Take& take, const AtHome& at_home, const Early& early, const Late& late);

  ExpertRanks ranks_;
  std::shared_ptr<const moe::LayerPlan> plan_;
  moe::Placement placement_;
  MakeExperts make_;
  std::vector<Segment> segments_;
  Documents documents_;
  std::vector<Chunk> chunks_;
  std::vector<Home> homes_;
  moe::BorrowPlan loans_;
  std::optional<BorrowedExperts> borrowed_;
};

}  // namespace moiety::train
