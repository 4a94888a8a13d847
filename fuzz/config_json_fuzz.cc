#include "format/hf_config.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety;
  return fuzz::refuse_or([&] {
    const spec::ModelSpec spec = format::parse_hf_config(fuzz::text_of(data, size), "fuzz");
    // What was believed survives being written as our own.
    const Json json = spec::to_json(spec);
    if (spec::to_json(spec::model_spec_from_json(json, "own")) != json) __builtin_trap();
  });
}
