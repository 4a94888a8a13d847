// The table of short texts in which ranks meet: one process keeps it, all others reach it over TCP. Any thread may call.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "comm/place.h"

namespace c10d {
class Store;
}

namespace moiety::comm {

class Store {
 public:
  // Kept by this process, on a free port of the loopback.
  explicit Store(int ranks);
  // As the place says: kept by this process at its port, or wherever it is; who keeps it is waited for. Throws Error(Io) if the port
  // is taken, nobody keeps a store there, or what answers is none.
  Store(const Place& place, std::chrono::milliseconds patience);
  ~Store();

  int port() const;

  // All of these throw Error(Io) once the store is gone.
  void set(const std::string& key, std::string_view text);
  // Only if nobody has said anything under this key.
  void set_first(const std::string& key, std::string_view text);
  std::optional<std::string> find(const std::string& key);
  // Waits for it.
  std::string get(const std::string& key, std::chrono::milliseconds patience);
  int64_t add(const std::string& key, int64_t number);
  void remove(const std::string& key);

  c10d::Store& wire();

 private:
  struct Wire;
  std::unique_ptr<Wire> wire_;
};

// What libtorch throws goes on with a list of addresses.
std::string first_line(const std::exception& error);

}  // namespace moiety::comm
