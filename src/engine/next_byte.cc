#include "engine/next_byte.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace moiety::engine {
namespace {

bool before(std::string_view a, std::string_view b) {
  const int order = std::memcmp(a.data(), b.data(), std::min(a.size(), b.size()));
  return order != 0 ? order < 0 : a.size() < b.size();
}

}  // namespace

void ByteAccuracy::add(const ByteAccuracy& other) {
  all.right += other.all.right;
  all.all += other.all.all;
  first.right += other.first.right;
  first.all += other.first.all;
}

ByteVocabulary::ByteVocabulary(std::vector<std::string_view> bytes_V) : bytes_V_(std::move(bytes_V)) {
  for (size_t id = 0; id < bytes_V_.size(); ++id) {
    if (!bytes_V_[id].empty()) sorted_.push_back(static_cast<int32_t>(id));
  }
  std::ranges::sort(sorted_, [&](int32_t a, int32_t b) {
    const std::string_view x = bytes_V_[static_cast<size_t>(a)], y = bytes_V_[static_cast<size_t>(b)];
    return x == y ? a < b : before(x, y);
  });
}

ByteAccuracy ByteVocabulary::score(std::span<const float> logits_V, int32_t token) const {
  ByteAccuracy result;
  const auto id = static_cast<size_t>(token);
  if (id >= bytes_V_.size()) return result;
  const std::string_view bytes = bytes_V_[id];

  // Sums of the weights of all tokens up to one, in the order of their bytes.
  float largest = -std::numeric_limits<float>::infinity();
  for (const int32_t t : sorted_) {
    if (static_cast<size_t>(t) < logits_V.size()) largest = std::max(largest, logits_V[static_cast<size_t>(t)]);
  }
  std::vector<double> sum_up_to(sorted_.size() + 1, 0);
  for (size_t i = 0; i < sorted_.size(); ++i) {
    const auto t = static_cast<size_t>(sorted_[i]);
    sum_up_to[i + 1] = sum_up_to[i] + (t < logits_V.size() ? std::exp(static_cast<double>(logits_V[t] - largest)) : 0);
  }

  // sorted_[low, high) begin with the bytes so far.
  size_t low = 0, high = sorted_.size();
  const auto byte_at = [&](size_t place, size_t i) { return static_cast<unsigned char>(bytes_V_[static_cast<size_t>(sorted_[place])][i]); };
  for (size_t i = 0; i < bytes.size(); ++i) {
    while (bytes_V_[static_cast<size_t>(sorted_[low])].size() == i) ++low;  // these end here
    double most = -1;
    unsigned char likeliest = 0;
    size_t own_low = low, own_high = high;
    for (size_t begin = low; begin < high;) {
      const unsigned char byte = byte_at(begin, i);
      size_t left = begin, right = high;  // the first token whose byte is another
      while (left < right) {
        const size_t middle = left + (right - left) / 2;
        if (byte_at(middle, i) <= byte) {
          left = middle + 1;
        } else {
          right = middle;
        }
      }
      const double weight = sum_up_to[left] - sum_up_to[begin];
      if (weight > most) {
        most = weight;
        likeliest = byte;
      }
      if (byte == static_cast<unsigned char>(bytes[i])) {
        own_low = begin;
        own_high = left;
      }
      begin = left;
    }
    const bool is_right = likeliest == static_cast<unsigned char>(bytes[i]);
    result.all.add(is_right);
    if (i == 0) result.first.add(is_right);
    low = own_low;
    high = own_high;
  }
  return result;
}

}  // namespace moiety::engine
