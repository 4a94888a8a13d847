// Memory of one thread that is kept between calls, for what is gone when the call ends.
#pragma once

#include <cstddef>

#include "base/matrix.h"

namespace moiety::train {

class Scratch {
 public:
  // 64-byte aligned, of any content; what was got before is gone.
  template <class T = std::byte>
  T* get(size_t count) {
    const size_t bytes = count * sizeof(T);
    if (bytes > memory_.cols()) memory_ = Matrix<std::byte>::uninitialised(1, bytes);
    return reinterpret_cast<T*>(memory_.view().data());
  }

 private:
  Matrix<std::byte> memory_;
};

}  // namespace moiety::train
