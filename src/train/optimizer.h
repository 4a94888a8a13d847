// AdamW over all weights at once, with clipping by the norm of the whole gradient. A step is two passes over the gradient: its norm, after
// which it may be passed over; and, on all threads, clipping, moments, decay and the weights' change together. Its state, the moments, has one of the forms of
// optimizer.state, and lies in memory or, in part, in a file. Of several ranks each has the moments of its own stretch of the weights, sums
// and updates these, and gets the others' (Rajbhandari et al. 2020, "ZeRO", stage 1, with gradients summed as in stage 2).
#pragma once

#include <optional>

#include "comm/mesh.h"
#include "format/tensor.h"
#include "train/config.h"
#include "train/factored_moment.h"
#include "train/moments.h"
#include "train/state_stream.h"
#include "train/weights.h"

namespace moiety::train {

// Of the state, for people.
struct OptimizerFigures {
  size_t parameters = 0, state_bytes = 0, memory_bytes = 0;  // memory_bytes: without what lies in a file
  size_t groups = 0, streamed_groups = 0;
  StreamTimes times;
};

// Of the step that `step` others came before, without decay or clipping.
AdamStep adam_step(const TrainConfig::Optimizer& config, int64_t step, double learning_rate);

class Optimizer {
 public:
  // `folder` is where a file of offloaded state is made. With `ranks` all calls but figures() and read_state() are collective.
  Optimizer(const TrainConfig::Optimizer& config, Weights& weights, const fs::path& folder = {}, comm::Mesh* ranks = nullptr);

  // A step is measure(), and then update() or pass_over(). The first sums the gradients, of which `ranks` have parts that add up, and returns
  // the sums' norm, each weight counted once, before clipping: the same on every rank.
  double measure();
  // Uses and clears the gradients, whose norm must be a number. `step` counts from 0.
  void update(int64_t step, double learning_rate);
  // Clears the gradients; weights and state stay as they are, to the bit.
  void pass_over();
  // measure() and update(); throws if the norm is no number. Returns the norm.
  double step(int64_t step, double learning_rate);

  // After measure(), of what this rank updates: body(entry, place in it, gradients, second moments or nothing, share), where ranks that update
  // the same weights have equal shares of them.
  void for_each_own(const std::function<void(size_t entry, size_t begin, ConstFloats gradient, ConstFloats second_moment, double share)>& body);

  // Experts of a layer change places, and their moments with them: to each comes the one that `from_E` says. Moments of 8 bits are
  // rounded again.
  void move_experts(int layer, const std::vector<int32_t>& from_E);

  // The state for a checkpoint: f32 tensors named after the weights, whatever form the moments have here, and what this rank has of them.
  // They look into this object and are made when they are written, from first to last. read_state() wants them whole, and throws unless
  // all are there with their shapes.
  std::vector<TensorPart> state_tensors();
  void read_state(const std::vector<format::TensorView>& tensors, const std::string& where);
  // Of one of state_tensors() what this rank has of it, in that order.
  void put_state(const std::string& name, ConstFloats here);

  OptimizerFigures figures() const;

 private:
  // A stretch of weights treated alike, short enough to be one thread's task.
  struct Piece {
    size_t begin, size;
    bool decays;
    MomentForm form;
    std::optional<size_t> factored;  // its number among the factored moments' pieces
    size_t region = 0;
    size_t group = 0, at = 0;        // where its state is: bytes of a group of the stream
  };
  // The pieces of one of the Weights' entries, and its first matrix among the factored moments.
  struct Range {
    size_t first = 0, count = 0;
    std::optional<size_t> matrix;
  };
  // Weights that the same ranks hold, neighbours in memory.
  struct Region {
    size_t begin = 0, size = 0;
    comm::Group* ranks = nullptr;     // nullptr: only this one
    std::vector<size_t> begin_R1 = {};  // of the region, where each rank's own begin; empty: all update all
    bool is_shared_out() const { return !begin_R1.empty(); }
  };

  void add_pieces(const Weights::Entry& entry);
  void share_out();
  void sum_gradients();
  void share_out(Region& region);
  double gradient_norm();
  bool is_own(const Piece& piece) const;
  int holders_of(const Piece& piece) const;
  void cut_groups(const fs::path& folder);
  void take_from_others(Floats values);
  void update(const Piece& piece, AdamStep step, std::span<float> weight, std::span<std::byte> group_state);
  void move_moment(const Range& range, Moment which, const std::vector<int32_t>& from_E);
  void put_moment(const Range& range, Moment which, ConstFloats own);
  std::vector<float> moment_of(const Piece& piece, Moment which);
  void read_group(size_t group);
  void forget_read_group();
  TensorPart moment_tensor(size_t entry, Moment which);
  bool has_tensor(size_t entry, Moment which) const;
  // body(entry, name, shape, numbers) for what stands for second moments, by row and by column.
  void for_each_factor(const std::function<void(const Weights::Entry&, const std::string&, const std::vector<int64_t>& whole_shape, Floats)>& body);

  TrainConfig::Optimizer config_;
  Weights& weights_;
  std::vector<Piece> pieces_;
  comm::Mesh* ranks_;                 // nullptr: alone
  std::vector<Region> regions_;
  std::vector<size_t> own_;           // the pieces that this rank updates
  std::vector<Range> entries_;        // as the Weights' entries
  std::vector<Range> groups_;         // own pieces by group
  FactoredMoments factored_;
  std::unique_ptr<StateStream> stream_;
  size_t state_bytes_ = 0;
  double norm_ = 0;  // measured last

  // The group that a checkpoint read last: its next tensor piece is likely to be there too.
  std::optional<size_t> read_group_;
  std::vector<std::byte> read_bytes_;
};

}  // namespace moiety::train
