#include "comm/group.h"

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <cstddef>
#include <thread>
#include <vector>

#include "base/error.h"

namespace moiety::comm {
namespace {

using std::chrono::milliseconds;

// What libtorch throws goes on with a list of addresses.
std::string first_line(const std::exception& error) {
  const std::string_view what = error.what();
  return std::string(what.substr(0, what.find('\n')));
}

c10::intrusive_ptr<c10d::Store> open_store(const Place& place, milliseconds patience) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = place.hosts_store;
  options.numWorkers = static_cast<size_t>(place.ranks);
  options.waitWorkers = false;
  options.timeout = patience;
  const auto store = c10::make_intrusive<c10d::TCPStore>(place.address, options);
  return c10::make_intrusive<c10d::PrefixStore>("moiety" + place.generation, store);
}

c10::intrusive_ptr<c10d::ProcessGroupGloo> open_gloo(const Place& place, const c10::intrusive_ptr<c10d::Store>& store, milliseconds patience) {
  const auto options = c10d::ProcessGroupGloo::Options::create(patience);
  const bool stays_here = place.local_ranks == place.ranks;  // a machine's name may lead nowhere, its loopback does not
  options->devices.push_back(stays_here ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1") : c10d::ProcessGroupGloo::createDefaultDevice());
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, place.rank, place.ranks, options);
}

template <class Number>
at::Tensor tensor_of(std::span<Number> numbers) {
  return at::from_blob(numbers.data(), {static_cast<int64_t>(numbers.size())}, c10::CppTypeToScalarType<Number>::value);
}

// Numbers of a stretch that go out at once: what an exchange takes of memory is this times the number of ranks.
constexpr size_t kAtOnce = 1 << 20;

// Where in `numbers` each rank's part of the n-th exchange lies.
std::vector<std::span<float>> parts_of(std::span<float> numbers, std::span<const size_t> begin_R1, size_t n) {
  std::vector<std::span<float>> parts;
  for (size_t r = 0; r + 1 < begin_R1.size(); ++r) {
    const size_t begin = std::min(begin_R1[r + 1], begin_R1[r] + n * kAtOnce), end = std::min(begin_R1[r + 1], begin + kAtOnce);
    parts.push_back(numbers.subspan(begin, end - begin));
  }
  return parts;
}
size_t exchanges(std::span<const size_t> begin_R1) {
  size_t longest = 0;
  for (size_t r = 0; r + 1 < begin_R1.size(); ++r) longest = std::max(longest, begin_R1[r + 1] - begin_R1[r]);
  return (longest + kAtOnce - 1) / kAtOnce;
}

}  // namespace

struct Group::Wire {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  int64_t calls = 0;
};

Group::Group(const Place& place, std::chrono::seconds patience) : place_(place), wire_(std::make_unique<Wire>()) {
  try {
    wire_->store = open_store(place_, patience);
    wire_->gloo = open_gloo(place_, wire_->store, patience);
  } catch (const std::exception& error) {
    fail(ErrorKind::Io, "rank {} of {} did not meet the others at {}:{} within {} s: {}", place_.rank, place_.ranks, place_.address, place_.port,
         patience.count(), first_line(error));
  }
}

Group::~Group() = default;

template <class Call>
void Group::exchange(const char* what, size_t numbers, const Call& call) {
  ++wire_->calls;
  try {
    call(*wire_->gloo);
  } catch (const std::exception& error) {
    fail(ErrorKind::Io, "rank {} of {} lost another one in exchange {}, {} of {} numbers: {}", place_.rank, place_.ranks, wire_->calls, what,
         numbers, first_line(error));
  }
}

template <class Number>
void Group::sum_of(std::span<Number> numbers) {
  exchange("a sum", numbers.size(), [&](c10d::ProcessGroupGloo& gloo) {
    if (numbers.empty()) return;
    std::vector<at::Tensor> tensors{tensor_of(numbers)};
    gloo.allreduce(tensors)->wait();
  });
}

void Group::sum(std::span<float> numbers) { sum_of(numbers); }
void Group::sum(std::span<double> numbers) { sum_of(numbers); }

void Group::sum_stretches(std::span<float> numbers, std::span<const size_t> begin_R1) {
  std::vector<float> out, in;
  for (size_t n = 0; n < exchanges(begin_R1); ++n) {
    const auto parts = parts_of(numbers, begin_R1, n);
    const std::span<float> mine = parts[static_cast<size_t>(rank())];
    std::vector<int64_t> out_R, in_R(parts.size(), static_cast<int64_t>(mine.size()));
    out.clear();
    for (const std::span<float> part : parts) {
      out_R.push_back(static_cast<int64_t>(part.size()));
      out.insert(out.end(), part.begin(), part.end());
    }
    in.resize(mine.size() * parts.size());
    exchange("a sum by stretches", numbers.size(), [&](c10d::ProcessGroupGloo& gloo) {
      at::Tensor to = tensor_of(std::span(in)), from = tensor_of(std::span(out));
      gloo.alltoall_base(to, from, in_R, out_R)->wait();
    });
    for (size_t i = 0; i < mine.size(); ++i) {
      float sum = 0;
      for (size_t r = 0; r < parts.size(); ++r) sum += in[r * mine.size() + i];
      mine[i] = sum;
    }
  }
}

void Group::share_stretches(std::span<float> numbers, std::span<const size_t> begin_R1) {
  std::vector<float> out, in;
  for (size_t n = 0; n < exchanges(begin_R1); ++n) {
    const auto parts = parts_of(numbers, begin_R1, n);
    // All send as much as the longest part.
    const size_t longest = std::ranges::max(parts, {}, [](const auto& part) { return part.size(); }).size();
    const std::span<float> mine = parts[static_cast<size_t>(rank())];
    out.assign(mine.begin(), mine.end());
    out.resize(longest);
    in.resize(longest * parts.size());
    exchange("a sharing of stretches", numbers.size(), [&](c10d::ProcessGroupGloo& gloo) {
      std::vector<at::Tensor> from{tensor_of(std::span(out))};
      std::vector<std::vector<at::Tensor>> to(1);
      for (size_t r = 0; r < parts.size(); ++r) to[0].push_back(tensor_of(std::span(in).subspan(r * longest, longest)));
      gloo.allgather(to, from)->wait();
    });
    for (size_t r = 0; r < parts.size(); ++r) std::copy_n(in.begin() + static_cast<ptrdiff_t>(r * longest), parts[r].size(), parts[r].begin());
  }
}

void Group::hand_to_first(std::span<float> numbers, int from) {
  if (from == 0 || numbers.empty() || (rank() != 0 && rank() != from)) return;
  exchange("a hand-over", numbers.size(), [&](c10d::ProcessGroupGloo& gloo) {
    std::vector<at::Tensor> tensors{tensor_of(numbers)};
    (is_first() ? gloo.recv(tensors, from, 0) : gloo.send(tensors, 0, 0))->wait();
  });
}

std::string Group::tell(const std::string& name, std::string_view text_of_first) {
  constexpr milliseconds kPause{20};
  try {
    if (is_first()) {
      wire_->store->set(name, std::vector<uint8_t>(text_of_first.begin(), text_of_first.end()));
      return std::string(text_of_first);
    }
    // The store itself is asked again and again, so that one that is gone is noticed.
    while (!wire_->store->check({name})) std::this_thread::sleep_for(kPause);
    const std::vector<uint8_t> text = wire_->store->get(name);
    return {text.begin(), text.end()};
  } catch (const std::exception& error) {
    fail(ErrorKind::Io, "rank {} of {} lost the store where ranks meet: {}", place_.rank, place_.ranks, first_line(error));
  }
}

}  // namespace moiety::comm
