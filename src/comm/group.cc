#include "comm/group.h"

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <mutex>
#include <optional>
#include <thread>

#include "base/error.h"
#include "comm/meeting.h"
#include "comm/watch.h"

namespace moiety::comm {
namespace {

using std::chrono::milliseconds;

c10::intrusive_ptr<c10d::ProcessGroupGloo> open_gloo(const Place& place, const c10::intrusive_ptr<c10d::Store>& store, milliseconds patience) {
  const auto options = c10d::ProcessGroupGloo::Options::create(patience);
  const bool stays_here = place.local_ranks == place.ranks;  // a machine's name may lead nowhere, its loopback does not
  options->devices.push_back(stays_here ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1") : c10d::ProcessGroupGloo::createDefaultDevice());
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, place.rank, place.ranks, options);
}

}  // namespace

// What all parts of a group share with it.
struct Group::Whole {
  Whole(const Place& place, const Patience& patience, const std::string& alike)
      : store(place, patience.to_meet), sent(static_cast<size_t>(place.ranks)), asks_around(patience.asks_around) {
    meet(store, place, alike, patience.to_meet);
    watch.emplace(store, place.rank, place.ranks, activity, recorder);
  }

  Store store;
  Activity activity;
  FlightRecorder recorder;
  std::vector<std::atomic<uint64_t>> sent;  // bytes by rank
  const bool asks_around;
  std::atomic<bool> is_broken = false;
  std::mutex mutex;
  std::string last_words;  // guarded by mutex
  std::optional<Watch> watch;  // ends first
};

struct Group::Wire {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> gloo;
  milliseconds patience;
  std::string name;                                 // empty: the whole
  std::shared_ptr<const std::vector<int>> members;  // as ranks of the whole; null: all
  std::shared_ptr<Whole> whole;
};

// Two ranks of the group, of which one sends; numbered by themselves.
struct Group::Pair {
  int from, to, lane;
};

struct Group::Kind {
  const char* name;
  bool is_equal = true;  // as many numbers on every rank
  std::optional<Pair> pair = {};  // none: every rank of the group takes part
};

struct Pending::Call {
  std::string who;
  std::shared_ptr<Group::Whole> whole;
  Flight flight;
  std::vector<at::Tensor> tensors;  // c10d looks into them meanwhile
  std::vector<std::vector<at::Tensor>> outputs;
  c10::intrusive_ptr<c10d::Work> work;

  [[noreturn]] void lost(const std::exception& error) const {
    whole->is_broken = true;
    if (!whole->asks_around) fail(ErrorKind::Io, "{} lost another one in {}: {}", who, describe(flight), first_line(error));
    Watch::Findings found = whole->watch->look_around(flight);
    {
      const std::lock_guard lock(whole->mutex);
      if (whole->last_words.empty()) whole->last_words = std::move(found.table);
    }
    if (found.culprit) fail(ErrorKind::Io, "{} lost rank {} in {}: {}", who, found.culprit->rank, describe(flight), found.culprit->deed);
    fail(ErrorKind::Io, "{} lost another one in {}: {}", who, describe(flight), first_line(error));
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
  const auto stood_still = Flight::Clock::now();
  call->whole->recorder.wait_begins(call->flight.group, call->flight.number);
  try {
    call->work->wait();
  } catch (const std::exception& error) {
    call->lost(error);
  }
  const Flight flight = call->whole->recorder.end(call->flight.group, call->flight.number);
  const double waited = std::chrono::duration<double>(flight.done - stood_still).count();
  call->whole->activity.exchanged(flight.group.empty() ? flight.kind : flight.kind + " of " + flight.group, flight.number, flight.bytes, flight.begun,
                                  flight.done, waited);
}

Group::Group(const Place& place, const Patience& patience, const std::string& alike)
    : place_(place), who_(fmt::format("rank {} of {}", place.rank, place.ranks)), wire_(std::make_unique<Wire>()) {
  wire_->patience = patience.in_exchange;
  wire_->whole = std::make_shared<Whole>(place, patience, alike);
  wire_->store = c10::intrusive_ptr<c10d::Store>::unsafe_reclaim_from_nonowning(&wire_->whole->store.wire());
  try {
    wire_->gloo = open_gloo(place_, wire_->store, wire_->patience);
  } catch (const std::exception& error) {
    const auto gone = find_gone(wire_->whole->store);
    fail(ErrorKind::Io, "{} did not meet the others at {}:{}: {}", who_, place_.address, place_.port,
         gone ? fmt::format("rank {} {}", gone->rank, gone->how) : first_line(error));
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
  wire_->whole = whole.wire_->whole;
  wire_->name = name;
  std::vector<int> of_whole;
  for (const int member : members) of_whole.push_back(whole.of_whole(member));
  wire_->members = std::make_shared<const std::vector<int>>(std::move(of_whole));
  wire_->store = c10::make_intrusive<c10d::PrefixStore>(name, whole.wire_->store);
  try {
    wire_->gloo = open_gloo(place_, wire_->store, wire_->patience);
  } catch (const std::exception& error) {
    fail(ErrorKind::Io, "{} did not meet the {} others of \"{}\": {}", who_, members.size() - 1, name, first_line(error));
  }
}

Group::~Group() = default;

template <class Begin>
Pending Group::start(const Kind& kind, size_t numbers, size_t bytes, const Begin& begin) {
  Flight flight{.group = wire_->name,
                .members = wire_->members,
                .kind = kind.name,
                .doing = wire_->whole->activity.now(),
                .numbers = numbers,
                .bytes = bytes,
                .is_equal = kind.is_equal};
  if (kind.pair) {
    const auto [from, to, lane] = *kind.pair;
    flight.group += fmt::format("{}{} to {}{}", flight.group.empty() ? "" : " ", from, to, lane == 0 ? "" : fmt::format(" lane {}", lane));
    flight.members = std::make_shared<const std::vector<int>>(std::vector{of_whole(from), of_whole(to)});
  }
  flight.number = wire_->whole->recorder.begin(flight);
  auto call = std::make_unique<Pending::Call>(Pending::Call{who_, wire_->whole, std::move(flight), {}, {}, {}});
  call->flight.begun = Flight::Clock::now();
  try {
    call->work = begin(*call);
  } catch (const std::exception& error) {
    call->lost(error);
  }
  return Pending(std::move(call));
}

void Group::count(int to, size_t bytes) {
  if (to == rank()) return;
  wire_->whole->sent[static_cast<size_t>(of_whole(to))].fetch_add(bytes, std::memory_order_relaxed);
}

int Group::of_whole(int rank) const { return wire_->members == nullptr ? rank : (*wire_->members)[static_cast<size_t>(rank)]; }

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
  const size_t ranks = static_cast<size_t>(size());
  count((rank() + size() - 1) % size(), 2 * (ranks - 1) * numbers.size_bytes() / ranks);
  start({"sum"}, numbers.size(), numbers.size_bytes(), [&](Pending::Call& call) {
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
  for (int to = 0; to < size(); ++to) count(to, out_W[static_cast<size_t>(to)]);
  return start({.name = "all-to-all", .is_equal = false}, out.size(), out.size(), [&](Pending::Call& call) {
    std::vector<int64_t> out_splits(out_W.begin(), out_W.end()), in_splits(in_W.begin(), in_W.end());
    call.tensors = {tensor_over(std::span<const std::byte>(in)), tensor_over(out)};
    return wire_->gloo->alltoall_base(call.tensors[0], call.tensors[1], in_splits, out_splits);
  });
}

Pending Group::all_gather(std::span<const std::byte> out, std::span<std::byte> in) {
  assert(in.size() == out.size() * static_cast<size_t>(size()));
  if (out.empty()) return {};
  count((rank() + 1) % size(), out.size() * static_cast<size_t>(size() - 1));
  return start({"all-gather"}, out.size(), out.size(), [&](Pending::Call& call) {
    call.tensors = {tensor_over(out)};
    call.outputs.resize(1);
    for (size_t rank = 0; rank < static_cast<size_t>(size()); ++rank) {
      call.outputs[0].push_back(tensor_over(std::span<const std::byte>(in.subspan(rank * out.size(), out.size()))));
    }
    return wire_->gloo->allgather(call.outputs, call.tensors);
  });
}

Pending Group::start_send(int to, std::span<const float> numbers, int lane) {
  count(to, numbers.size_bytes());
  return start({.name = "message", .pair = Pair{rank(), to, lane}}, numbers.size(), numbers.size_bytes(), [&](Pending::Call& call) {
    call.tensors = {tensor_over(numbers)};
    return wire_->gloo->send(call.tensors, to, lane);
  });
}

Pending Group::start_receive(int from, std::span<float> numbers, int lane) {
  return start({.name = "message", .pair = Pair{from, rank(), lane}}, numbers.size(), numbers.size_bytes(), [&](Pending::Call& call) {
    call.tensors = {tensor_over(numbers)};
    return wire_->gloo->recv(call.tensors, from, lane);
  });
}

std::string Group::tell(const std::string& name, std::string_view text_of_first) {
  constexpr milliseconds kPause{20};
  Store& store = wire_->whole->store;
  const std::string key = "told/" + wire_->name + "/" + name;
  try {
    if (is_first()) {
      store.set(key, text_of_first);
      return std::string(text_of_first);
    }
    for (;;) {
      if (auto text = store.find(key)) return *text;
      if (const auto gone = find_gone(store)) fail(ErrorKind::Io, "{} waits for rank {} in vain: it {}", who_, gone->rank, gone->how);
      std::this_thread::sleep_for(kPause);
    }
  } catch (const Error& error) {
    fail(ErrorKind::Io, "{}", std::string(error.what()).starts_with(who_) ? error.what() : fmt::format("{}: {}", who_, error.what()));
  }
}

Activity& Group::activity() { return wire_->whole->activity; }
Store& Group::store() { return wire_->whole->store; }

std::vector<uint64_t> Group::bytes_sent() const { return {wire_->whole->sent.begin(), wire_->whole->sent.end()}; }

std::string Group::last_words() const {
  const std::lock_guard lock(wire_->whole->mutex);
  return wire_->whole->last_words;
}

void Group::leave(const std::string& how) {
  if (wire_->whole->is_broken) return;  // by another one's failure
  try {
    say_gone(wire_->whole->store, {of_whole(rank()), how});
  } catch (const std::exception&) {  // nobody to tell
  }
}

}  // namespace moiety::comm
