// Weight types that come in blocks, one block to floats and back. Rounding is that of ggml's reference quantisers, so that a
// file converted here holds the bytes that llama.cpp's own tools would write.
#pragma once

#include <cstddef>

#include "spec/element_type.h"

namespace moiety::format {

// One block's elements, info(type).block_elements of them.
using DecodeBlock = void (*)(const std::byte* block, float* out);
using EncodeBlock = void (*)(const float* x, std::byte* block);

// nullptr: the type has no blocks, or keeps its scales apart.
DecodeBlock block_decoder(spec::ElementType type);
// nullptr: no such rounding is simple; format/fit_blocks.h finds good blocks.
EncodeBlock block_encoder(spec::ElementType type);

}  // namespace moiety::format
