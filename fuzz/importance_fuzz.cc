#include "format/importance.h"

#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moiety;
  return fuzz::refuse_or([&] {
    const format::Importance importance = format::parse_importance(fuzz::bytes_of(data, size), "fuzz");
    for (const auto& tensor : importance.tensors) {
      importance.unvisited(tensor.first);
      const size_t matrices = tensor.second.counts.size(), columns = tensor.second.squares.size() / matrices;
      fuzz::refuse_or([&] { importance.of(tensor.first, matrices - 1, matrices, columns); });
    }
  });
}
