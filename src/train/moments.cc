#include "train/moments.h"

#include <algorithm>
#include <cassert>

#include "train/quantised_moment.h"

namespace moiety::train {
namespace {

// Scales before codes: they want to be aligned.
template <class Byte>
struct QuantisedMoment {
  using Scale = std::conditional_t<std::is_const_v<Byte>, const float, float>;
  using Code = std::conditional_t<std::is_const_v<Byte>, const uint8_t, uint8_t>;

  QuantisedMoment(Moment which, size_t count, std::span<Byte> state)
      : scales(reinterpret_cast<Scale*>(state.data()) + (which == Moment::Second ? quantised_blocks(count) : 0), quantised_blocks(count)),
        codes(reinterpret_cast<Code*>(state.data()) + 2 * quantised_blocks(count) * sizeof(float) + (which == Moment::Second ? count : 0),
              count) {}

  std::span<Scale> scales;
  std::span<Code> codes;
};

MomentSign sign_of(Moment which) { return which == Moment::First ? MomentSign::Either : MomentSign::Positive; }

template <class T>
std::span<T> block_of(std::span<T> x, size_t block) {
  const size_t first = block * kQuantisedBlock;
  return x.subspan(first, std::min(kQuantisedBlock, x.size() - first));
}

void adamw_int8(const AdamStep& step, ConstFloats gradient, Floats weight, std::span<std::byte> state) {
  const QuantisedMoment<std::byte> first(Moment::First, weight.size(), state), second(Moment::Second, weight.size(), state);
  float first_memory[kQuantisedBlock], second_memory[kQuantisedBlock];
  for (size_t block = 0; block < first.scales.size(); ++block) {
    const Floats w = block_of(weight, block), m(first_memory, w.size()), v(second_memory, w.size());
    dequantise_block(MomentSign::Either, block_of(first.codes, block), first.scales[block], m);
    dequantise_block(MomentSign::Positive, block_of(second.codes, block), second.scales[block], v);
    adamw(step, block_of(gradient, block), w, m, v);
    first.scales[block] = quantise_block(MomentSign::Either, m, block_of(first.codes, block));
    second.scales[block] = quantise_block(MomentSign::Positive, v, block_of(second.codes, block));
  }
}

}  // namespace

size_t state_bytes(MomentForm form, size_t weights) {
  switch (form) {
    case MomentForm::F32: return 2 * weights * sizeof(float);
    case MomentForm::Int8: return 2 * weights + 2 * quantised_blocks(weights) * sizeof(float);
    case MomentForm::First: return weights * sizeof(float);
    case MomentForm::None: return 0;
  }
  return 0;
}

bool has_moment(MomentForm form, Moment which) {
  return form != MomentForm::None && (which == Moment::First || form != MomentForm::First);
}

Floats moment_in_place(MomentForm form, Moment which, size_t weights, std::span<std::byte> state) {
  if (form == MomentForm::Int8 || !has_moment(form, which)) return {};
  return {reinterpret_cast<float*>(state.data()) + (which == Moment::Second ? weights : 0), weights};
}

void adamw(MomentForm form, const AdamStep& step, ConstFloats gradient, Floats weight, std::span<std::byte> state) {
  assert(form == MomentForm::F32 || form == MomentForm::Int8);
  if (form == MomentForm::Int8) return adamw_int8(step, gradient, weight, state);
  adamw(step, gradient, weight, moment_in_place(form, Moment::First, weight.size(), state),
        moment_in_place(form, Moment::Second, weight.size(), state));
}

void unpack_moment(MomentForm form, Moment which, std::span<const std::byte> state, Floats numbers) {
  if (form == MomentForm::Int8) {
    const QuantisedMoment<const std::byte> moment(which, numbers.size(), state);
    for (size_t block = 0; block < moment.scales.size(); ++block) {
      dequantise_block(sign_of(which), block_of(moment.codes, block), moment.scales[block], block_of(numbers, block));
    }
  } else {
    const float* const from = reinterpret_cast<const float*>(state.data()) + (which == Moment::Second ? numbers.size() : 0);
    std::copy_n(from, numbers.size(), numbers.begin());
  }
}

void pack_moment(MomentForm form, Moment which, ConstFloats numbers, std::span<std::byte> state) {
  if (form == MomentForm::Int8) {
    const QuantisedMoment<std::byte> moment(which, numbers.size(), state);
    for (size_t block = 0; block < moment.scales.size(); ++block) {
      moment.scales[block] = quantise_block(sign_of(which), block_of(numbers, block), block_of(moment.codes, block));
    }
  } else {
    std::ranges::copy(numbers, moment_in_place(form, which, numbers.size(), state).begin());
  }
}

}  // namespace moiety::train
