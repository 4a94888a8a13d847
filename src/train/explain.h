// What this machine and the links between ranks do, what a step should take by that, and what the first steps took.
#pragma once

#include <string>
#include <vector>

#include "base/activity.h"
#include "comm/group.h"
#include "spec/model_spec.h"
#include "train/gemm.h"
#include "train/pipeline_schedule.h"

namespace moiety::train {

// Products of one shape on the way forth; each comes twice more on the way back.
struct ProductShape {
  std::string name;
  size_t count = 0;              // a pass
  size_t rows = 0, out = 0, depth = 0;
  bool is_parallel = false;      // one a thread, as experts have it; otherwise all threads share each
  double flops() const { return 3 * 2.0 * static_cast<double>(count) * static_cast<double>(rows) * static_cast<double>(out) * static_cast<double>(depth); }
};
// Of a pass of so many sequences, with the load of experts even.
std::vector<ProductShape> products_of(const spec::ModelSpec& spec, size_t sequences, size_t length);

// seconds = start + bytes * each_byte, of a collective of so many bytes on each rank.
struct LinkLaw {
  double start = 0, each_byte = 0;
  double seconds(double bytes) const { return start + bytes * each_byte; }
};
// Through two measurements.
LinkLaw law_through(double few_bytes, double few_seconds, double many_bytes, double many_seconds);

struct StepTimes {
  double passes = 0, exchanges = 0, optimizer = 0, whole = 0;
};

class Explainer {
 public:
  // Collective, some seconds long. `sequences`: of this rank in a pass; `step`: its passes, and the stages that share the layers, taken as
  // equally long.
  Explainer(const spec::ModelSpec& spec, GemmType type, size_t sequences, size_t length, const PipelineShape& step, comm::Group* ranks);

  // True once enough steps have been seen to compare.
  bool step_ended(const Activity& activity, double seconds);
  std::string text() const;

 private:
  double measure_products(GemmType type);
  void measure_links(comm::Group& ranks);
  double measure_memory() const;

  std::vector<ProductShape> shapes_;
  std::vector<double> seconds_;  // by shape, a pass
  LinkLaw sum_, gather_, exchange_;
  int ranks_;
  double parameters_, bytes_per_second_ = 0;
  StepTimes predicted_;
  std::vector<StepTimes> measured_;
};

}  // namespace moiety::train
