// Memory of one thread that is kept between calls, for what is gone when the call ends.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace moiety::train {

class Scratch {
 public:
  // 64-byte aligned, of any content; what was got before is gone.
  template <class T = std::byte>
  T* get(size_t count) {
    const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    if (bytes > size_) {
      memory_.reset();
      size_ = 0;
      memory_.reset(static_cast<std::byte*>(std::aligned_alloc(64, bytes)));
      if (memory_ == nullptr) throw std::bad_alloc();
      size_ = bytes;
    }
    return reinterpret_cast<T*>(memory_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  size_t size_ = 0;
};

}  // namespace moiety::train
