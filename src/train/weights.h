// All weights of a model in one piece of memory, their gradients in another of the same layout. Whoever computes a
// gradient adds it there; the optimizer and the checkpoint walk the whole. Of ranks that share each layer's experts every one has
// some of them here; of stages each has its layers', of ranks that share dense matrices some slices of each, and of all the rest everything.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "base/matrix.h"
#include "format/tensor.h"
#include "moe/placement.h"
#include "spec/weight.h"
#include "train/packed.h"
#include "train/part.h"
#include "train/slices.h"
#include "train/stage_share.h"

namespace moiety::train {

struct WeightMatrix {
  MatrixView<float> value, gradient;
  PackedMatrix packed = {};  // empty unless it is kept

  WeightMatrix middle_rows(size_t first, size_t count) const {
    return {value.middle_rows(first, count), gradient.middle_rows(first, count)};
  }
};
struct WeightVector {
  std::span<float> value, gradient;
};

// Which of the ranks that share each layer's experts this is.
struct ExpertShare {
  int rank = 0, ranks = 1;
};

class Weights {
 public:
  // Sets everything to zero.
  explicit Weights(const spec::ModelSpec& spec, const ExpertShare& share = {}, const StageShare& stages = {}, const TensorShare& tensor = {});

  struct Entry {
    spec::Weight weight;
    std::string name;            // in model.safetensors
    std::vector<int64_t> shape;        // of what is here; of experts, of their stack
    std::vector<int64_t> whole_shape;  // on all ranks together
    size_t axis = 0;                   // what is here are these slices of the whole along this axis
    std::vector<Stretch> kept;
    size_t first_expert = 0;  // of a stack: a layer numbers its experts kind by kind, and this kind's from here
    size_t begin = 0, size = 0;  // in the flat memory
    bool trained = true;         // the optimizer leaves it alone otherwise
    size_t frozen = 0;           // it leaves so many first numbers alone: the first experts of a stack
    bool is_stack() const { return spec::is_expert(weight.role); }
    // Of the whole, or of something that the whole has so much of for each slice.
    Part part() const { return part_of(whole_shape); }
    Part part_of(std::span<const int64_t> like_whole) const { return Part::slices(like_whole, axis, kept); }
    bool is_matrix() const { return shape.size() > (spec::is_expert(weight.role) ? 2 : 1); }
  };
  const std::vector<Entry>& entries() const { return entries_; }
  bool is_here(spec::Role role, int layer = -1) const { return find(role, layer).size > 0; }
  bool has_all_experts() const { return share_.ranks == 1; }
  const TensorShare& tensor_share() const { return tensor_; }
  // Of a layer's experts that have a weight of this role, so many are here.
  size_t experts_here(spec::Role role, int layer) const { return static_cast<size_t>(find(role, layer).shape[0]); }

  // The homes of a layer's experts among the ranks that share them: at first neighbours, as many on each.
  const moe::Placement& placement(int layer) const { return placement_L_[static_cast<size_t>(layer)]; }
  // Other homes, for as many experts of each kind on each rank as before. Says whose numbers are here, and moves none (train/expert_homes.h).
  void place(int layer, moe::Placement placement);

  // The weights of this role stay as they are.
  void freeze(spec::Role role);
  // All but experts and routers, and of each layer's experts the first so many, stay as they are.
  void freeze_old(int experts, int attention_experts);

  // Whoever asks for the values to change them makes what is packed stale.
  std::span<float> values() {
    packed_is_stale_ = true;
    return values_.flat();
  }
  std::span<float> gradients() { return gradients_.flat(); }
  // Those of one kind of holders lie together: first what each rank has whole, then slices of what is shared out, last experts where they
  // are spread.
  Stretch dense(Holders holders) const { return dense_[static_cast<size_t>(holders)]; }
  Stretch sliced() const { return sliced_; }
  Stretch experts() const { return {sliced_.end(), values().size() - sliced_.end()}; }
  std::span<const float> values() const { return values_.flat(); }

  bool has(spec::Role role, int layer = -1) const;
  WeightVector vector(spec::Role role, int layer = -1);
  WeightMatrix matrix(spec::Role role, int layer = -1) { return joined(role, role, layer); }
  // The matrices from `first` to `last` lie one after the other: as one matrix with all their rows.
  WeightMatrix joined(spec::Role first, spec::Role last, int layer);

  // From now on matrices of products in bf16 are kept packed as well, for another 4 bytes a weight. Stale ones are packed again when the
  // next is asked for, or by who has just changed them.
  void keep_packed(const spec::ModelSpec& spec);
  // Of a role's matrix, or of its first expert's; empty if it is not kept.
  PackedMatrix packed(spec::Role role, int layer);
  // How many rows of this entry's matrices pack() takes a multiple of; 0: it is not packed.
  size_t packed_together(const Entry& entry) const;
  // Packs rows of one matrix, which are values [begin, begin + size). Others may be packed meanwhile.
  void pack(size_t begin, size_t size);
  // All have been packed since the values were changed.
  void set_packed() { packed_is_stale_ = false; }

  // The values under their names in files, for writing.
  std::vector<TensorPart> tensors() const;

  // The same numbers whatever the number of threads and of ranks: each weight has its own random stream.
  void initialise(const spec::ModelSpec& spec, uint64_t seed);
  // Fills `flat` from a file's tensors, which hold all experts; throws unless every weight is there, f32 and of its shape.
  void read(const std::vector<format::TensorView>& tensors, const std::string& where, std::span<float> flat) const;

 private:
  // Matrices that lie one after the other, and where they are packed.
  struct Packed {
    size_t begin, count, rows, cols;
    size_t at;  // bytes
    size_t size() const { return count * rows * cols; }
  };

  const Entry& find(spec::Role role, int layer) const;
  const Packed* find_packed(size_t begin) const;
  PackedMatrix packed_at(size_t begin, size_t rows);
  void pack_all();

  ExpertShare share_;
  std::vector<moe::Placement> placement_L_;
  TensorShare tensor_;
  std::vector<Entry> entries_;
  std::array<Stretch, kHolders> dense_;  // numbers of all that is no expert's and not sliced
  Stretch sliced_;
  Matrix<float> values_, gradients_;
  std::vector<Packed> packed_;  // as they lie in memory
  Matrix<std::byte> packed_memory_;
  bool packed_is_stale_ = true;
};

}  // namespace moiety::train
