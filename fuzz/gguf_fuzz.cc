#include "format/gguf.h"

#include "format/elements.h"
#include "format/gguf_config.h"
#include "format/gguf_tokenizer.h"
#include "format/packed_experts.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety;
  return fuzz::refuse_or([&] {
    const format::GgufFile file(format::parse_gguf(fuzz::bytes_of(data, size), "fuzz"));
    for (const auto& tensor : file.tensors()) {
      if (spec::info(tensor.type).is_weight) format::to_floats(tensor);
    }
    fuzz::refuse_or([&] { format::read_gguf_tokenizer(file.metadata()); });
    const spec::ModelSpec spec = format::read_gguf_config(file);
    if (format::PackedExperts::are_in(file.metadata())) format::PackedExperts(file, spec);
  });
}
