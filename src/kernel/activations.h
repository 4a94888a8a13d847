// Activations as the packed kernels multiply them: rounded once a row, whatever matrices the row then meets.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moiety::kernel {

enum class ActivationForm : uint8_t {
  F32,        // as they are
  Bf16,       // rounded to bf16
  Int8By32,   // blocks of 32 under one scale: q = round(x * 127 / max|x|)
  Int8By256,  // blocks of 256
};

struct ActivationFormat {
  ActivationForm form = ActivationForm::F32;
  int offset = 0;  // of Int8By32: what the weights' bytes are above their values

  bool operator==(const ActivationFormat&) const = default;
  size_t block() const { return form == ActivationForm::Int8By256 ? 256 : 32; }
};

// Where the parts of one row lie, in bytes from its beginning. `cols` is a multiple of the format's block but for Bf16, whose
// rows end in zeros.
struct ActivationRow {
  size_t cols;

  // Int8By32: int8 q[cols], then for each block
  size_t scale() const { return cols; }                             // float: x is about scale * q
  size_t correction() const { return cols + 4 * (cols / 32); }      // int32: -offset * sum of q
  size_t scaled_sum() const { return cols + 8 * (cols / 32); }      // float: scale * sum of q
  // Int8By256: int8 q[cols], float scale a block, then for each 32 and each 16
  size_t sums_of_32() const { return cols + cols / 64; }            // int16
  size_t sums_of_16() const { return sums_of_32() + cols / 16; }    // int16
};

inline size_t activation_row_bytes(ActivationFormat format, size_t cols) {
  size_t bytes = 0;
  switch (format.form) {
    case ActivationForm::F32:
      bytes = 4 * cols;
      break;
    case ActivationForm::Bf16:
      bytes = 2 * ((cols + 31) / 32 * 32);
      break;
    case ActivationForm::Int8By32:
      bytes = cols + 12 * (cols / 32);
      break;
    case ActivationForm::Int8By256:
      bytes = cols + cols / 64 + cols / 16 + cols / 8;
      break;
  }
  return (bytes + 63) / 64 * 64;
}

}  // namespace moiety::kernel
