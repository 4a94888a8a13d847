#include "fuzz.h"
#include "train/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety;
  return fuzz::refuse_or([&] {
    const auto config = train::parse_config(fuzz::text_of(data, size), "fuzz", {});
    train::model_spec(config, 1000, 0);
    train::parse_config(train::print_config(config), "printed", {});
  });
}
