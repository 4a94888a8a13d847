#include "comm/group.h"

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <cassert>
#include <thread>

#include <fmt/core.h>

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

}  // namespace

struct Group::Wire {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  milliseconds patience;
  int64_t calls = 0;
};

struct Pending::Call {
  std::string who;
  const char* kind;
  int64_t number;
  size_t numbers;
  std::vector<at::Tensor> tensors;  // c10d looks into them meanwhile
  std::vector<std::vector<at::Tensor>> outputs;
  c10::intrusive_ptr<c10d::Work> work;

  [[noreturn]] void lost(const std::exception& error) const {
    fail(ErrorKind::Io, "{} lost another one in exchange {}, {} of {} numbers: {}", who, number, kind, numbers, first_line(error));
  }
};

Pending::Pending() = default;
Pending::Pending(std::unique_ptr<Call> call) : call_(std::move(call)) {}
Pending::Pending(Pending&&) noexcept = default;
Pending& Pending::operator=(Pending&&) noexcept = default;
Pending::~Pending() {
  try {
    wait();
  } catch (const std::exception&) {  // whoever goes on finds out
  }
}

void Pending::wait() {
  const std::unique_ptr<Call> call = std::move(call_);
  if (call == nullptr) return;
  try {
    call->work->wait();
  } catch (const std::exception& error) {
    call->lost(error);
  }
}

Group::Group(const Place& place, std::chrono::seconds patience)
    : place_(place), who_(fmt::format("rank {} of {}", place.rank, place.ranks)), wire_(std::make_unique<Wire>()) {
  wire_->patience = patience;
  try {
    wire_->store = open_store(place_, patience);
    wire_->gloo = open_gloo(place_, wire_->store, patience);
  } catch (const std::exception& error) {
    fail(ErrorKind::Io, "{} did not meet the others at {}:{} within {} s: {}", who_, place_.address, place_.port, patience.count(), first_line(error));
  }
}

Group::Group(const Group& whole, std::span<const int> members, const std::string& name)
    : place_(whole.place_), who_(whole.who_), wire_(std::make_unique<Wire>()) {
  const auto me = std::ranges::find(members, whole.rank());
  assert(me != members.end());
  place_.rank = static_cast<int>(me - members.begin());
  place_.ranks = static_cast<int>(members.size());
  // On one machine if the whole is.
  place_.local_ranks = whole.place_.local_ranks == whole.place_.ranks ? place_.ranks : std::min(whole.place_.local_ranks, place_.ranks);
  wire_->patience = whole.wire_->patience;
  wire_->store = c10::make_intrusive<c10d::PrefixStore>(name, whole.wire_->store);
  try {
    wire_->gloo = open_gloo(place_, wire_->store, wire_->patience);
  } catch (const std::exception& error) {
    fail(ErrorKind::Io, "{} did not meet the {} others of \"{}\": {}", who_, members.size() - 1, name, first_line(error));
  }
}

Group::~Group() = default;

template <class Begin>
Pending Group::start(const char* kind, size_t numbers, const Begin& begin) {
  auto call = std::make_unique<Pending::Call>(Pending::Call{who_, kind, ++wire_->calls, numbers, {}, {}, {}});
  try {
    call->work = begin(*call);
  } catch (const std::exception& error) {
    call->lost(error);
  }
  return Pending(std::move(call));
}

namespace {

template <class Number>
at::Tensor tensor_over(std::span<Number> numbers) {
  using Plain = std::remove_const_t<Number>;
  return at::from_blob(const_cast<Plain*>(numbers.data()), {static_cast<int64_t>(numbers.size())}, c10::CppTypeToScalarType<Plain>::value);
}
at::Tensor tensor_over(std::span<const std::byte> bytes) {
  return at::from_blob(const_cast<std::byte*>(bytes.data()), {static_cast<int64_t>(bytes.size())}, at::kByte);
}

}  // namespace

template <class Number>
void Group::sum_of(std::span<Number> numbers) {
  if (numbers.empty()) return;
  start("a sum", numbers.size(), [&](Pending::Call& call) {
    call.tensors = {tensor_over(numbers)};
    return wire_->gloo->allreduce(call.tensors);
  }).wait();
}

void Group::sum(std::span<float> numbers) { sum_of(numbers); }
void Group::sum(std::span<double> numbers) { sum_of(numbers); }

std::vector<int64_t> Group::gather(std::span<const int64_t> mine) {
  std::vector<int64_t> all(mine.size() * static_cast<size_t>(size()));
  all_gather(std::as_bytes(mine), std::as_writable_bytes(std::span(all))).wait();
  return all;
}

Pending Group::all_to_all(std::span<const std::byte> out, std::span<const size_t> out_W, std::span<std::byte> in, std::span<const size_t> in_W) {
  assert(out_W.size() == static_cast<size_t>(size()) && in_W.size() == out_W.size());
  return start("an all-to-all", out.size(), [&](Pending::Call& call) {
    std::vector<int64_t> out_splits(out_W.begin(), out_W.end()), in_splits(in_W.begin(), in_W.end());
    call.tensors = {tensor_over(std::span<const std::byte>(in)), tensor_over(out)};
    return wire_->gloo->alltoall_base(call.tensors[0], call.tensors[1], in_splits, out_splits);
  });
}

Pending Group::all_gather(std::span<const std::byte> out, std::span<std::byte> in) {
  assert(in.size() == out.size() * static_cast<size_t>(size()));
  if (out.empty()) return {};
  return start("an all-gather", out.size(), [&](Pending::Call& call) {
    call.tensors = {tensor_over(out)};
    call.outputs.resize(1);
    for (size_t rank = 0; rank < static_cast<size_t>(size()); ++rank) {
      call.outputs[0].push_back(tensor_over(std::span<const std::byte>(in.subspan(rank * out.size(), out.size()))));
    }
    return wire_->gloo->allgather(call.outputs, call.tensors);
  });
}

void Group::send(int to, std::span<const float> numbers) {
  start("a message", numbers.size(), [&](Pending::Call& call) {
    call.tensors = {tensor_over(numbers)};
    return wire_->gloo->send(call.tensors, to, 0);
  }).wait();
}

void Group::receive(int from, std::span<float> numbers) {
  start("a message", numbers.size(), [&](Pending::Call& call) {
    call.tensors = {tensor_over(numbers)};
    return wire_->gloo->recv(call.tensors, from, 0);
  }).wait();
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
    fail(ErrorKind::Io, "{} lost the store where ranks meet: {}", who_, first_line(error));
  }
}

}  // namespace moiety::comm
