// A model as its spec and a way to make each of its weights. Every way of upcycling takes such models and gives one; nothing is
// read or computed before a weight is asked for, so that a model may be larger than memory.
#pragma once

#include <functional>
#include <vector>

#include "format/model_file.h"

namespace moiety::upcycle {

struct MadeModel {
  spec::ModelSpec spec;
  // The numbers of one weight of spec::weights_of(spec, true), row after row: experts are made one by one.
  std::function<std::vector<float>(const spec::Weight&)> make;
};

// The model of a file in our own terms: queries and keys are turned as halves, names are ours. `file` must outlive it.
MadeModel model_of(const format::ModelFile& file);

// All its tensors under the names of training checkpoints, f32, each made when it is written. Expert roles are stacks.
std::vector<format::TensorSource> tensors_of(const MadeModel& model);

// config.json, generation_config.json and model.safetensors into `folder`: a model that training begins with, and that
// inference opens. `written` is told of elements as they are made.
void write_model(const MadeModel& model, const fs::path& folder, const std::function<void(size_t elements)>& written = {});

}  // namespace moiety::upcycle
