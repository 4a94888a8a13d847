#include "comm/store.h"

#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace moiety::comm {
namespace {

using std::chrono::milliseconds;

std::vector<uint8_t> bytes_of(std::string_view text) { return {text.begin(), text.end()}; }

std::string prefix(const std::string& generation) { return "moiety" + generation; }

template <class Call>
auto asked(const Call& call) {
  try {
    return call();
  } catch (const std::exception& error) {
    fail(ErrorKind::Io, "the store where ranks meet is gone: {}", first_line(error));
  }
}

}  // namespace

std::string first_line(const std::exception& error) {
  const std::string_view what = error.what();
  return std::string(what.substr(0, what.find('\n')));
}

struct Store::Wire {
  Wire(const std::string& address, const c10d::TCPStoreOptions& options, const std::string& generation)
      : tcp(c10::make_intrusive<c10d::TCPStore>(address, options)), keys(c10::make_intrusive<c10d::PrefixStore>(prefix(generation), tcp)) {}

  c10::intrusive_ptr<c10d::TCPStore> tcp;
  c10::intrusive_ptr<c10d::PrefixStore> keys;
};

Store::Store(int ranks) {
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.isServer = true;
  options.numWorkers = static_cast<size_t>(ranks);
  options.waitWorkers = false;
  wire_ = std::make_unique<Wire>("127.0.0.1", options, "");
}

Store::Store(const Place& place, milliseconds patience) {
  constexpr milliseconds kAnswersWithin{10'000};  // a store does at once
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(place.port);
  options.isServer = place.hosts_store;
  options.numWorkers = static_cast<size_t>(place.ranks);
  options.waitWorkers = false;
  options.timeout = patience;
  try {
    wire_ = std::make_unique<Wire>(place.address, options, place.generation);
  } catch (const std::exception& error) {
    if (place.hosts_store) fail(ErrorKind::Io, "rank 0 of {} cannot keep the store where ranks meet: port {} is taken, or not this machine's: {}", place.ranks, place.port, first_line(error));
    fail(ErrorKind::Io, "rank {} of {} found nobody at {}:{} within {} s; rank 0 or the launcher keeps a store there", place.rank, place.ranks, place.address,
         place.port, patience.count() / 1000);
  }
  try {
    const std::string key = "called/" + std::to_string(place.rank);
    wire_->keys->set(key, bytes_of("x"));
    wire_->keys->wait({key}, std::min(patience, kAnswersWithin));
  } catch (const std::exception& error) {
    fail(ErrorKind::Io, "rank {} of {}: what answers at {}:{} is not the store where ranks meet; is the port another program's? ({})", place.rank, place.ranks,
         place.address, place.port, first_line(error));
  }
}

Store::~Store() = default;

int Store::port() const { return wire_->tcp->getPort(); }
c10d::Store& Store::wire() { return *wire_->keys; }

void Store::set(const std::string& key, std::string_view text) {
  asked([&] { wire_->keys->set(key, bytes_of(text)); });
}

void Store::set_first(const std::string& key, std::string_view text) {
  asked([&] { wire_->keys->compareSet(key, {}, bytes_of(text)); });
}

std::optional<std::string> Store::find(const std::string& key) {
  return asked([&]() -> std::optional<std::string> {
    if (!wire_->keys->check({key})) return std::nullopt;
    const std::vector<uint8_t> text = wire_->keys->get(key);
    return std::string(text.begin(), text.end());
  });
}

std::string Store::get(const std::string& key, milliseconds patience) {
  return asked([&] {
    wire_->keys->wait({key}, patience);
    const std::vector<uint8_t> text = wire_->keys->get(key);
    return std::string(text.begin(), text.end());
  });
}

int64_t Store::add(const std::string& key, int64_t number) {
  return asked([&] { return wire_->keys->add(key, number); });
}

void Store::remove(const std::string& key) {
  asked([&] { wire_->keys->deleteKey(key); });
}

}  // namespace moiety::comm
