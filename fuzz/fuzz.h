// What every fuzz target does with its input: hands it to a reader, which may refuse it with an Error and may do nothing
// else that is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace moiety::fuzz {

template <class Read>
int refuse_or(Read read) {
  try {
    read();
  } catch (const Error&) {
  }
  return 0;
}

inline std::span<const std::byte> bytes_of(const uint8_t* data, size_t size) {
  return std::as_bytes(std::span(data, size));
}
inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace moiety::fuzz
