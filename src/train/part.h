// Which of a tensor's numbers a rank holds: stretches of the whole, in its order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "format/tensor.h"

namespace moiety::train {

struct Stretch {
  size_t begin = 0, size = 0;
  size_t end() const { return begin + size; }
};

class Part {
 public:
  Part() = default;
  explicit Part(std::vector<Stretch> stretches) : stretches_(std::move(stretches)) {}
  // Of a tensor of this shape the slices `kept` along `axis`, ascending.
  static Part slices(std::span<const int64_t> shape, size_t axis, std::span<const Stretch> kept) {
    size_t outer = 1, inner = 1;
    for (size_t i = 0; i < axis; ++i) outer *= static_cast<size_t>(shape[i]);
    for (size_t i = axis + 1; i < shape.size(); ++i) inner *= static_cast<size_t>(shape[i]);
    const size_t row = static_cast<size_t>(shape[axis]) * inner;
    Part part;
    for (size_t o = 0; o < outer; ++o) {
      for (const Stretch& slice : kept) part.add({o * row + slice.begin * inner, slice.size * inner});
    }
    return part;
  }

  // Behind all others.
  void add(Stretch stretch) {
    if (stretch.size == 0) return;
    if (!stretches_.empty() && stretches_.back().end() == stretch.begin) stretches_.back().size += stretch.size;
    else stretches_.push_back(stretch);
  }
  const std::vector<Stretch>& stretches() const& { return stretches_; }
  std::vector<Stretch> stretches() && { return std::move(stretches_); }
  size_t size() const {
    size_t size = 0;
    for (const Stretch& stretch : stretches_) size += stretch.size;
    return size;
  }
  // Of the numbers that are here those from `begin` on, so many.
  Part middle(size_t begin, size_t size) const {
    Part part;
    size_t at = 0;
    for (const Stretch& stretch : stretches_) {
      const size_t from = std::max(begin, at), to = std::min(begin + size, at + stretch.size);
      if (from < to) part.add({stretch.begin + from - at, to - from});
      at += stretch.size;
    }
    return part;
  }

  // What both hold; and what this one holds and the other does not.
  Part with(const Part& other) const;
  Part without(const Part& other) const;

  // Between the whole and what is here, which is as long as size().
  template <class T>
  void take(std::span<const T> whole, std::span<T> here) const {
    for (const Stretch& stretch : stretches_) {
      std::ranges::copy(whole.subspan(stretch.begin, stretch.size), here.begin());
      here = here.subspan(stretch.size);
    }
  }
  template <class T>
  void put(std::span<const T> here, std::span<T> whole) const {
    for (const Stretch& stretch : stretches_) {
      std::ranges::copy(here.first(stretch.size), whole.subspan(stretch.begin).begin());
      here = here.subspan(stretch.size);
    }
  }

 private:
  std::vector<Stretch> stretches_;
};

inline Part Part::with(const Part& other) const {
  Part both;
  for (size_t i = 0, j = 0; i < stretches_.size() && j < other.stretches_.size();) {
    const Stretch &a = stretches_[i], &b = other.stretches_[j];
    const size_t from = std::max(a.begin, b.begin), to = std::min(a.end(), b.end());
    if (from < to) both.add({from, to - from});
    ++(a.end() < b.end() ? i : j);
  }
  return both;
}

inline Part Part::without(const Part& other) const {
  Part rest;
  size_t j = 0;
  for (const Stretch& stretch : stretches_) {
    size_t from = stretch.begin;
    while (j < other.stretches_.size() && other.stretches_[j].end() <= from) ++j;
    for (size_t k = j; k < other.stretches_.size() && other.stretches_[k].begin < stretch.end(); ++k) {
      if (from < other.stretches_[k].begin) rest.add({from, other.stretches_[k].begin - from});
      from = std::max(from, other.stretches_[k].end());
    }
    if (from < stretch.end()) rest.add({from, stretch.end() - from});
  }
  return rest;
}

// Where numbers of the whole, asked for in their order, lie among those of a part that holds them. The part must outlive it.
class PlacesIn {
 public:
  explicit PlacesIn(const Part& part) : stretches_(part.stretches()) {}
  size_t operator()(size_t at) {
    while (stretches_[next_].end() <= at) before_ += stretches_[next_++].size;
    return before_ + at - stretches_[next_].begin;
  }

 private:
  const std::vector<Stretch>& stretches_;
  size_t next_ = 0, before_ = 0;
};

// Numbers `which`, that both parts hold, from where the one's lie to where the other's do.
template <class From, class To>
void copy_part(const Part& which, const Part& from_part, From from, const Part& to_part, To to) {
  PlacesIn in_from(from_part), in_to(to_part);
  for (const Stretch& stretch : which.stretches()) {
    std::ranges::copy(from.subspan(in_from(stretch.begin), stretch.size), to.subspan(in_to(stretch.begin)).begin());
  }
}

// An f32 tensor with the whole's shape, and of its numbers those that are here, in their order.
struct TensorPart {
  format::TensorSource here;
  Part part;
};

}  // namespace moiety::train
