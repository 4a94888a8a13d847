#include "format/safetensors.h"

#include "format/elements.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety;
  return fuzz::refuse_or([&] {
    const auto file = format::parse_safetensors(fuzz::bytes_of(data, size), "fuzz");
    for (const auto& tensor : file.tensors) {
      if (spec::info(tensor.type).is_weight) format::to_floats(tensor);
    }
  });
}
