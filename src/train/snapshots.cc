#include "train/snapshots.h"

#include <cassert>
#include <cstdlib>
#include <new>

#include "train/part_exchange.h"
#include "train/tensor_reader.h"

namespace moiety::train {
namespace {

// Of what is here of a tensor the numbers `part`.
void read_part(const TensorPart& tensor, const Part& part, std::vector<float>& to) {
  to.resize(part.size());
  TensorReader reader(tensor.here);
  PlacesIn places(tensor.part);
  size_t read = 0;
  for (const Stretch& stretch : part.stretches()) {
    reader.read(places(stretch.begin), std::span(to).subspan(read, stretch.size));
    read += stretch.size;
  }
}

// Pages of it that nobody writes to are not there.
std::shared_ptr<float> zeros(size_t count) {
  auto* const memory = static_cast<float*>(std::calloc(std::max<size_t>(1, count), sizeof(float)));
  if (memory == nullptr) throw std::bad_alloc();
  return {memory, [](float* numbers) { std::free(numbers); }};
}

}  // namespace

void Snapshots::lay_out(const std::vector<TensorPart>& state, comm::Group& ranks) {
  std::vector<Part> mine;
  for (const TensorPart& tensor : state) mine.push_back(tensor.part);
  plan_ = plan_snapshot(gather_parts(mine, ranks), ranks.rank());
  int64_t travels = 0;
  for (const Part& part : plan_.to_next_N) travels += static_cast<int64_t>(part.size());
  any_travel_ = std::ranges::any_of(ranks.gather(std::array{travels}), [](int64_t numbers) { return numbers > 0; });
}

void Snapshots::commit(int64_t step, const std::vector<TensorPart>& state, const Json& where, comm::Group& ranks) {
  Snapshot& snapshot = snapshots_[0].step < snapshots_[1].step ? snapshots_[0] : snapshots_[1];
  snapshot.step = -1;
  snapshot.where = where;
  snapshot.own.part_N = plan_.own_N;
  snapshot.guests.part_N = plan_.from_previous_N;
  snapshot.own.numbers_N.resize(state.size());
  snapshot.guests.numbers_N.resize(state.size());
  std::vector<float> out;
  size_t coming = 0;
  for (size_t n = 0; n < state.size(); ++n) {
    read_part(state[n], plan_.own_N[n], snapshot.own.numbers_N[n]);
    const size_t before = out.size();
    out.resize(before + plan_.to_next_N[n].size());
    copy_part(plan_.to_next_N[n], plan_.own_N[n], std::span<const float>(snapshot.own.numbers_N[n]), plan_.to_next_N[n], std::span(out).subspan(before));
    coming += plan_.from_previous_N[n].size();
  }
  if (any_travel_) {
    const auto count = static_cast<size_t>(ranks.size()), rank = static_cast<size_t>(ranks.rank());
    std::vector<float> in(coming);
    std::vector<size_t> out_W(count, 0), in_W(count, 0);
    out_W[(rank + 1) % count] = out.size() * sizeof(float);
    in_W[(rank + count - 1) % count] = in.size() * sizeof(float);
    ranks.all_to_all(std::as_bytes(std::span(out)), out_W, std::as_writable_bytes(std::span(in)), in_W).wait();
    auto next = in.cbegin();
    for (size_t n = 0; n < state.size(); ++n) {
      const auto end = next + static_cast<ptrdiff_t>(plan_.from_previous_N[n].size());
      snapshot.guests.numbers_N[n].assign(next, end);
      next = end;
    }
  }
  snapshot.step = step;
}

std::vector<int64_t> Snapshots::steps() const {
  std::vector<int64_t> steps;
  for (const Snapshot& snapshot : snapshots_) {
    if (snapshot.step >= 0) steps.push_back(snapshot.step);
  }
  return steps;
}

std::optional<Snapshots::Restored> Snapshots::restore(int64_t step, const std::vector<TensorPart>& wanted, comm::Group& ranks) const {
  // Both may be of this step, the second laid out anew, which not all ranks had come to.
  const Snapshot* found = nullptr;
  std::vector<std::vector<HeldPart>> have_NK(wanted.size(), std::vector<HeldPart>(2 * snapshots_.size()));
  for (size_t s = 0; s < snapshots_.size(); ++s) {
    const Snapshot& snapshot = snapshots_[s];
    if (snapshot.step != step) continue;
    found = &snapshot;
    for (size_t n = 0; n < wanted.size(); ++n) {
      have_NK[n][2 * s] = {snapshot.own.part_N[n], snapshot.own.numbers_N[n]};
      have_NK[n][2 * s + 1] = {snapshot.guests.part_N[n], snapshot.guests.numbers_N[n]};
    }
  }
  std::vector<std::vector<float>> here_N;
  std::vector<WantedPart> want_N;
  for (const TensorPart& tensor : wanted) here_N.emplace_back(tensor.part.size());
  for (size_t n = 0; n < wanted.size(); ++n) want_N.push_back({wanted[n].part, here_N[n]});
  if (!exchange_parts(have_NK, want_N, ranks)) return std::nullopt;

  Restored restored;
  assert(!ranks.is_first() || found != nullptr);
  restored.where = parse_json(ranks.tell("where", ranks.is_first() ? found->where.dump() : ""), "where a step ended");
  for (size_t n = 0; n < wanted.size(); ++n) {
    const size_t size = wanted[n].here.elements();
    const std::span<float> whole(restored.memory.emplace_back(zeros(size)).get(), size);
    wanted[n].part.put(std::span<const float>(here_N[n]), whole);
    here_N[n] = {};
    restored.tensors.push_back({wanted[n].here.name, spec::ElementType::F32, wanted[n].here.shape, std::as_bytes(whole)});
  }
  return restored;
}

}  // namespace moiety::train
