// Loss on held-out text, by domain: in nats a token, and in bits a byte of text, which can be compared across
// tokenizers and with compressors.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "train/prepare.h"
#include "train/routing_figures.h"
#include "train/transformer.h"

namespace moiety::train {

struct DomainScore {
  std::string name;
  double nats_per_token = 0, bits_per_byte = 0;
  uint64_t tokens = 0;
  RoutingFigures routing;  // which experts the domain's text visited
};

// Which windows are whose: of every `ranks` passes the `rank`-th.
struct Share {
  size_t rank = 0, ranks = 1;
  bool has_loss = true;  // the model's last layers are here
  SumOverRanks sum_over_ranks;
};

// Without a graph.
using ForwardPass = std::function<Losses(const Batch&, Routes*, const PassOrder&)>;

// `windows` sequences a domain, spread evenly over its text; 0: all. `sequences` at once. Nobody is turned away. `order` gives
// the rules. With several ranks each scores its share, and all get the scores of the whole.
std::vector<DomainScore> validate(const ForwardPass& forward, const spec::ModelSpec& spec, const PreparedData& data, const PassOrder& order, size_t sequence,
                                  size_t sequences, size_t windows, const Share& share = {});

// For metrics.jsonl, and for people.
Json report_of(const std::vector<DomainScore>& scores);
std::string describe(const std::vector<DomainScore>& scores);

}  // namespace moiety::train
