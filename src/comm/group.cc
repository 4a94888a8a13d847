#include "comm/group.h"

#include <ATen/ATen.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <thread>

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

template <class Number>
void Group::sum_of(std::span<Number> numbers) {
  ++wire_->calls;
  if (numbers.empty()) return;
  std::vector<at::Tensor> tensors{at::from_blob(numbers.data(), {static_cast<int64_t>(numbers.size())}, c10::CppTypeToScalarType<Number>::value)};
  try {
    wire_->gloo->allreduce(tensors)->wait();
  } catch (const std::exception& error) {
    fail(ErrorKind::Io, "rank {} of {} lost another one in exchange {}, a sum of {} numbers: {}", place_.rank, place_.ranks, wire_->calls,
         numbers.size(), first_line(error));
  }
}

void Group::sum(std::span<float> numbers) { sum_of(numbers); }
void Group::sum(std::span<double> numbers) { sum_of(numbers); }

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
