// The packed kernels in plain C++, the definition of correct.
#include "base/bytes.h"
#include "kernel/packed_tile.h"

namespace moiety::kernel {
namespace {

template <class T>
T load_as(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
int byte_at(const std::byte* p) { return static_cast<int>(*p); }

// The packed kernels' vectors as arrays of a strip's sixteen rows.
struct PlainPacked {
  struct Bytes {
    uint8_t b[64];
  };
  struct Ints {
    int32_t i[16];
  };
  struct Floats {
    float f[16];
  };
  static constexpr int kRows = 16;
  static constexpr bool kManyRegisters = false;
  static constexpr bool kMovesSigned = false;

  template <class Body>
  static Ints each_int(Body body) {
    Ints out;
    for (int r = 0; r < 16; ++r) out.i[r] = body(r);
    return out;
  }
  template <class Body>
  static Floats each_float(Body body) {
    Floats out;
    for (int r = 0; r < 16; ++r) out.f[r] = body(r);
    return out;
  }
  template <class Body>
  static Bytes each_byte(Body body) {
    Bytes out;
    for (int i = 0; i < 64; ++i) out.b[i] = static_cast<uint8_t>(body(i));
    return out;
  }

  static Bytes load(const std::byte* vector, int) { return load_as<Bytes>(vector); }
  static void store(std::byte* vector, int, const Bytes& b) { std::memcpy(vector, &b, sizeof b); }
  template <int kFrom, int kTo, int kMask>
  static Bytes bits(const Bytes& b) { return each_byte([&](int i) { return (b.b[i] >> kFrom & kMask) << kTo; }); }
  static Bytes either(const Bytes& a, const Bytes& b) { return each_byte([&](int i) { return a.b[i] | b.b[i]; }); }
  static Bytes minus_32(const Bytes& b) { return each_byte([&](int i) { return b.b[i] - 32; }); }
  static Bytes look_up(const uint8_t* table, const Bytes& nibbles) {
    return each_byte([&](int i) { return table[nibbles.b[i]]; });
  }

  static Ints no_ints() { return {}; }
  static Ints all_ints(const std::byte* p) { return each_int([x = load_as<int32_t>(p)](int) { return x; }); }
  template <bool kSigned>
  static Ints four_products(const Ints& sum, const Bytes& w, const std::byte* a) {
    int values[4];
    for (int c = 0; c < 4; ++c) values[c] = static_cast<int8_t>(a[c]);
    return each_int([&](int r) {
      const uint8_t* four = w.b + 4 * r;
      return sum.i[r] + four[0] * values[0] + four[1] * values[1] + four[2] * values[2] + four[3] * values[3];
    });
  }
  static Ints two_products(const Ints& sum, const Ints& pairs, const std::byte* a) {
    const auto first = [](int32_t pair) { return static_cast<int32_t>(static_cast<int16_t>(pair & 0xffff)); };
    const int32_t both = load_as<int32_t>(a);
    return each_int([&](int r) { return sum.i[r] + first(pairs.i[r]) * first(both) + (pairs.i[r] >> 16) * (both >> 16); });
  }
  static Ints multiply(const Ints& a, const Ints& b) { return each_int([&](int r) { return a.i[r] * b.i[r]; }); }
  static Ints plus(const Ints& a, const Ints& b) { return each_int([&](int r) { return a.i[r] + b.i[r]; }); }
  static Ints minus(const Ints& a, const Ints& b) { return each_int([&](int r) { return a.i[r] - b.i[r]; }); }
  template <int kPower>
  static Ints times_power(const Ints& a) { return each_int([&](int r) { return a.i[r] * (1 << kPower); }); }
  static Ints unsigned_bytes(const std::byte* p, int) { return each_int([&](int r) { return byte_at(p + r); }); }
  static Ints signed_bytes(const std::byte* p, int) { return each_int([&](int r) { return load_as<int8_t>(p + r); }); }
  static Ints unsigned_pairs(const std::byte* p, const std::byte* q, int) {
    return each_int([&](int r) { return byte_at(p + r) | byte_at(q + r) << 16; });
  }
  static Ints signed_pairs(const std::byte* p, const std::byte* q, int) {
    return each_int([&](int r) {
      return static_cast<int32_t>(static_cast<uint16_t>(load_as<int8_t>(p + r)) |
                                  static_cast<uint32_t>(load_as<int8_t>(q + r)) << 16);
    });
  }

  static Floats no_floats() { return {}; }
  static Floats to_floats(const Ints& a) { return each_float([&](int r) { return static_cast<float>(a.i[r]); }); }
  static Floats halves(const std::byte* p, int) { return each_float([&](int r) { return half_to_float(load_as<uint16_t>(p + 2 * r)); }); }
  static Floats half_powers_of_two(const std::byte* p, int) {
    return each_float([&](int r) { return 0.5f * e8m0_to_float(static_cast<uint8_t>(p[r])); });
  }
  static Floats all_floats(const std::byte* p) { return each_float([x = load_as<float>(p)](int) { return x; }); }
  static Floats times(const Floats& a, const Floats& b) { return each_float([&](int r) { return a.f[r] * b.f[r]; }); }
  static Floats plus_product(const Floats& sum, const Floats& a, const Floats& b) {
    return each_float([&](int r) { return __builtin_fmaf(a.f[r], b.f[r], sum.f[r]); });
  }
  static Floats minus_product(const Floats& sum, const Floats& a, const Floats& b) {
    return each_float([&](int r) { return __builtin_fmaf(-a.f[r], b.f[r], sum.f[r]); });
  }
  static void store_floats(float* p, const Floats& a) { std::memcpy(p, &a, sizeof a); }
  // The second of each pair first.
  static Floats bf16_products(const Floats& sum, const Bytes& w, const std::byte* a) {
    const auto bf16_at = [](const void* p, int i) {
      return bf16_to_float(load_as<uint16_t>(static_cast<const std::byte*>(p) + 2 * i));
    };
    return each_float([&](int r) {
      const float second = __builtin_fmaf(bf16_at(w.b, 2 * r + 1), bf16_at(a, 1), sum.f[r]);
      return __builtin_fmaf(bf16_at(w.b, 2 * r), bf16_at(a, 0), second);
    });
  }
};

}  // namespace

void packed_linear_scalar(const PackedView& w, size_t first_strip, size_t strips, const std::byte* const* rows, size_t tokens,
                       float* y, size_t y_stride) noexcept {
  PackedKernels<PlainPacked>::packed_linear(w, first_strip, strips, rows, tokens, y, y_stride);
}

}  // namespace moiety::kernel
