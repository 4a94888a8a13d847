// A model written as a packed file, without its tokenizer.
#pragma once

#include "format/convert.h"
#include "format/gguf_config.h"
#include "pack/pack_model.h"

namespace moiety::test {

inline format::GgufMetadata gguf_metadata_of(const format::ModelFile& model) {
  format::GgufMetadata metadata;
  format::add_gguf_config(model.spec(), format::closest_family(model.spec(), format::FileKind::Gguf),
                          format::main_type(model, true), "model", metadata);
  if (model.spec().bos_token >= 0) metadata.set("tokenizer.ggml.bos_token_id", int64_t{model.spec().bos_token});
  return metadata;
}

struct PackAs {
  std::vector<format::TypeWish> wishes = {};
  std::optional<spec::ElementType> low = {};
  int threads = 2;
  bool in_planes = false;
};

inline void write_packed(const format::ModelFile& model, const fs::path& path, const PackAs& as = {}) {
  ThreadPool threads(as.threads);
  pack::Packer{threads}.write(path, model, gguf_metadata_of(model), pack::plan_slabs(model, as.wishes, {as.low, as.in_planes}));
}

}  // namespace moiety::test
