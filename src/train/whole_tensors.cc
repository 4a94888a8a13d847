#include "train/whole_tensors.h"

#include <algorithm>
#include <cassert>
#include <cstring>

namespace moiety::train {
namespace {

constexpr size_t kMessage = 1 << 18;  // numbers

// body(numbers) for the tensor's numbers in messages of kMessage, the last one shorter.
template <class Body>
void for_each_message(const format::TensorSource& tensor, const Body& body) {
  std::vector<float> waiting;
  const auto add = [&](std::span<const float> numbers) {
    while (!numbers.empty()) {
      const size_t count = std::min(numbers.size(), kMessage - waiting.size());
      waiting.insert(waiting.end(), numbers.begin(), numbers.begin() + static_cast<ptrdiff_t>(count));
      numbers = numbers.subspan(count);
      if (waiting.size() < kMessage) continue;
      body(waiting);
      waiting.clear();
    }
  };
  for (const format::TensorView& part : tensor.parts) {
    add({reinterpret_cast<const float*>(part.bytes.data()), part.bytes.size() / sizeof(float)});
  }
  for (const auto& make : tensor.made) add(make());
  if (!waiting.empty()) body(waiting);
}

// A whole stack, written piece by piece.
format::TensorSource whole_stack(const format::TensorSource& mine, std::span<const int64_t> experts_W, comm::Group& group) {
  format::TensorSource whole;
  whole.name = mine.name;
  whole.shape = mine.shape;
  whole.made = mine.made;
  for (const format::TensorView& part : mine.parts) {
    const auto* const numbers = reinterpret_cast<const float*>(part.bytes.data());
    whole.made.push_back([numbers, count = part.bytes.size() / sizeof(float)] { return std::vector<float>(numbers, numbers + count); });
  }
  size_t an_expert = 1;
  for (size_t axis = 1; axis < mine.shape.size(); ++axis) an_expert *= static_cast<size_t>(mine.shape[axis]);
  for (size_t rank = 1; rank < experts_W.size(); ++rank) {
    whole.shape[0] += experts_W[rank];
    for (size_t left = static_cast<size_t>(experts_W[rank]) * an_expert; left > 0;) {
      const size_t count = std::min(left, kMessage);
      whole.made.push_back([&group, rank, count] {
        std::vector<float> numbers(count);
        group.receive(static_cast<int>(rank), numbers);
        return numbers;
      });
      left -= count;
    }
  }
  return whole;
}

}  // namespace

bool is_stack(const format::TensorSource& tensor, const std::set<std::string>& stacks) {
  return stacks.contains(tensor.name) || stacks.contains(tensor.name.substr(tensor.name.find('.') + 1));
}

std::vector<format::TensorSource> whole_tensors(std::vector<format::TensorSource> mine, const std::set<std::string>& stacks, comm::Group& group) {
  std::vector<int64_t> experts;
  for (const format::TensorSource& tensor : mine) experts.push_back(is_stack(tensor, stacks) ? tensor.shape[0] : 0);
  const std::vector<int64_t> all = group.gather(experts);
  if (!group.is_first()) return mine;
  for (size_t i = 0; i < mine.size(); ++i) {
    if (!is_stack(mine[i], stacks)) continue;
    std::vector<int64_t> experts_W;
    for (size_t rank = 0; rank < static_cast<size_t>(group.size()); ++rank) experts_W.push_back(all[rank * mine.size() + i]);
    mine[i] = whole_stack(mine[i], experts_W, group);
  }
  return mine;
}

void send_tensors(const std::vector<format::TensorSource>& mine, const std::set<std::string>& stacks, comm::Group& group) {
  assert(!group.is_first());
  for (const format::TensorSource& tensor : mine) {
    if (is_stack(tensor, stacks)) for_each_message(tensor, [&](const std::vector<float>& numbers) { group.send(0, numbers); });
  }
}

}  // namespace moiety::train
