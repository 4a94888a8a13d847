#include "train/whole_tensors.h"

#include <algorithm>
#include <cassert>
#include <memory>

#include "train/part_exchange.h"
#include "train/tensor_reader.h"

namespace moiety::train {
namespace {

constexpr size_t kMessage = 1 << 18;  // numbers of the whole that travel together

// Numbers that a rank sends, one after the other in what it has, too.
struct Run {
  size_t begin, size;  // in the whole
  int rank;
  size_t at;  // among that rank's numbers
  size_t end() const { return begin + size; }
};

// From whom each number of the whole comes, ascending.
std::vector<Run> runs_of(size_t whole, const std::vector<Part>& part_W) {
  std::vector<Run> runs;
  Part lacking({{0, whole}});
  for (size_t rank = 0; rank < part_W.size(); ++rank) {
    const Part given = lacking.with(part_W[rank]);
    lacking = lacking.without(given);
    PlacesIn places(part_W[rank]);
    for (const Stretch& stretch : given.stretches()) runs.push_back({stretch.begin, stretch.size, static_cast<int>(rank), places(stretch.begin)});
  }
  assert(lacking.size() == 0);
  std::ranges::sort(runs, {}, &Run::begin);
  return runs;
}

// body(runs) for those of each stretch of kMessage numbers of the whole, cut at its ends.
template <class Body>
void for_each_message(std::span<const Run> runs, const Body& body) {
  const size_t whole = runs.empty() ? 0 : runs.back().end();
  size_t next = 0;
  for (size_t begin = 0; begin < whole; begin += kMessage) {
    const size_t end = std::min(whole, begin + kMessage);
    std::vector<Run> inside;
    for (size_t i = next; i < runs.size() && runs[i].begin < end; ++i) {
      const size_t from = std::max(begin, runs[i].begin), to = std::min(end, runs[i].end());
      inside.push_back({from, to - from, runs[i].rank, runs[i].at + from - runs[i].begin});
      if (runs[i].end() <= end) next = i + 1;
    }
    body(inside);
  }
}

size_t numbers_from(std::span<const Run> runs, int rank) {
  size_t numbers = 0;
  for (const Run& run : runs) numbers += run.rank == rank ? run.size : 0;
  return numbers;
}

// `runs` lie together in the whole.
std::vector<float> receive(const std::vector<Run>& runs, TensorReader& mine, comm::Group& group) {
  const size_t begin = runs.front().begin;
  std::vector<float> numbers(runs.back().end() - begin);
  std::vector<std::vector<float>> from_W(static_cast<size_t>(group.size()));
  for (int rank = 1; rank < group.size(); ++rank) {
    auto& from = from_W[static_cast<size_t>(rank)];
    from.resize(numbers_from(runs, rank));
    if (!from.empty()) group.receive(rank, from);
  }
  std::vector<size_t> read_W(from_W.size(), 0);
  for (const Run& run : runs) {
    const auto to = std::span(numbers).subspan(run.begin - begin, run.size);
    if (run.rank == 0) {
      mine.read(run.at, to);
    } else {
      size_t& read = read_W[static_cast<size_t>(run.rank)];
      std::ranges::copy(std::span(from_W[static_cast<size_t>(run.rank)]).subspan(read, run.size), to.begin());
      read += run.size;
    }
  }
  return numbers;
}

void send(const std::vector<Run>& runs, TensorReader& mine, comm::Group& group) {
  std::vector<float> numbers(numbers_from(runs, group.rank()));
  size_t sent = 0;
  for (const Run& run : runs) {
    if (run.rank != group.rank()) continue;
    mine.read(run.at, std::span(numbers).subspan(sent, run.size));
    sent += run.size;
  }
  if (!numbers.empty()) group.send(0, numbers);
}

}  // namespace

std::vector<format::TensorSource> whole_tensors(const std::vector<TensorPart>& mine, comm::Group* group) {
  std::vector<format::TensorSource> all;
  if (group == nullptr) {
    for (const TensorPart& tensor : mine) all.push_back(tensor.here);
    return all;
  }
  std::vector<Part> my_parts;
  for (const TensorPart& tensor : mine) my_parts.push_back(tensor.part);
  const std::vector<std::vector<Part>> part_NW = gather_parts(my_parts, *group);
  for (size_t i = 0; i < mine.size(); ++i) {
    const std::vector<Run> runs = runs_of(mine[i].here.elements(), part_NW[i]);
    const auto reader = std::make_shared<TensorReader>(mine[i].here);
    if (!group->is_first()) {
      for_each_message(runs, [&](const std::vector<Run>& message) { send(message, *reader, *group); });
      continue;
    }
    format::TensorSource& whole = all.emplace_back();
    whole.name = mine[i].here.name;
    whole.shape = mine[i].here.shape;
    for_each_message(runs, [&](const std::vector<Run>& message) {
      whole.made.push_back([message, reader, group] { return receive(message, *reader, *group); });
    });
  }
  return all;
}

}  // namespace moiety::train
