// One stage's work in a pipeline: chunks of layers, what comes from the stage before and goes to the one after, and gradients the other way
// round, in the order of train/pipeline_schedule.h. Nobody waits for what he sends to be taken; what comes next is on its way while
// something is computed.
#pragma once

#include <deque>
#include <map>
#include <span>
#include <utility>

#include "comm/mesh.h"
#include "train/micro_batch.h"
#include "train/pipeline_schedule.h"

namespace moiety::train {

class Pipeline {
 public:
  // Both must outlive it. Throws Error(Input) if the model has not a layer for each part.
  Pipeline(Transformer& model, comm::Mesh& mesh, const StageShare& share);

  // A micro-batch, of which all ranks of this one's place have the same sequences.
  struct Pass {
    Batch batch;
    LossWeights weights;
  };
  // What one chunk's layers have of a pass, when it has gone forth.
  using Passed = std::function<void(size_t pass, const TrainedMicroBatch& of_chunk)>;

  // Collective, as is forward(). Adds `share` times the gradients of the passes' losses to those of the weights that are here. With
  // BalanceScope::Global a pass goes by the visits of those before it, as if they came one after the other: in each layer they do.
  void train(std::span<const Pass> passes, const PassOrder& order, float share, const Passed& passed);

  // Without a graph; the losses are this rank's share of the whole.
  Losses forward(const Batch& batch, Routes* routes, const PassOrder& order);

 private:
  enum Lane { kForward = 1, kBackward = 2 };  // of messages between two ranks
  struct Message {
    std::vector<int64_t> widths;
    int64_t tokens = 0;
    std::vector<float> numbers;
    comm::Pending pending;  // ends first
  };
  struct InFlight {
    LayersPass pass;
    moe::Load others;
  };

  bool is_last_part(int chunk) const { return share_.part(chunk) == share_.parts() - 1; }
  LayerRange layers(int chunk) const { return share_.layers(model_.spec().num_layers, chunk); }
  int rank_of(int part) const { return mesh_.rank_in(part % share_.stages); }
  Message expect(bool is_backward, int chunk, const Batch& batch);
  Handed take(Message message) const;
  void send(Lane lane, int to_part, const Handed& handed);
  LayersPass pass_on(int chunk, const Batch& batch, Message came, const LossWeights& weights, const PassOrder& order);
  void finish_sending();

  Transformer& model_;
  comm::Mesh& mesh_;
  StageShare share_;
  size_t most_sent_ = 1;                                   // by lane: the receiver takes the one before them without this rank's doing more
  std::map<Lane, std::deque<std::unique_ptr<Message>>> sent_;
};

}  // namespace moiety::train
