// Numbers that GGUF's reader and writer share.
#pragma once

#include <cstdint>

#include "format/gguf.h"

namespace moiety::format {

constexpr uint32_t kGgufMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kGgufAlignment = 32;      // unless general.alignment says otherwise

// What general.alignment says. Throws Error(Input) unless it is a power of two up to a mebibyte.
uint64_t alignment_of(const GgufMetadata& metadata);

// The types of metadata values, by their numbers in the file.
enum class GgufKind : uint32_t { U8, I8, U16, I16, U32, I32, F32, Bool, String, Array, U64, I64, F64 };

}  // namespace moiety::format
