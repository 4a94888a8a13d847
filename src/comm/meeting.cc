#include "comm/meeting.h"

#include <fmt/core.h>

#include <thread>

#include "base/error.h"
#include "base/say.h"
#include "comm/watch.h"

namespace moiety::comm {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
constexpr milliseconds kPause{20}, kSaysAfter{5000};
constexpr milliseconds kLastWords{300};  // the store stays so long, that others hear why it goes
constexpr size_t kNamed = 8;

std::string card_of(int rank) { return "card/" + std::to_string(rank); }

std::string missing(Store& store, int ranks) {
  std::vector<int> absent;
  for (int rank = 0; rank < ranks; ++rank) {
    if (!store.find(card_of(rank))) absent.push_back(rank);
  }
  std::string names;
  for (size_t i = 0; i < std::min(absent.size(), kNamed); ++i) names += fmt::format("{} {}", i == 0 ? (absent.size() > 1 ? "ranks" : "rank") : ",", absent[i]);
  return absent.size() > kNamed ? fmt::format("{} and {} more", names, absent.size() - kNamed) : names;
}

class Meeting {
 public:
  Meeting(Store& store, const Place& place, milliseconds patience) : store_(store), place_(place), patience_(patience), began_(Clock::now()) {}

  void come_once() {
    if (store_.add("came/" + std::to_string(place_.rank), 1) > 1) {
      leave(ErrorKind::Io, fmt::format("two processes say that they are rank {} of {} at {}:{}", place_.rank, place_.ranks, place_.address, place_.port));
    }
  }

  void show(const std::string& alike) {
    const std::string mine = fmt::format("{}, one of {} ranks", alike, place_.ranks);
    store_.set(card_of(place_.rank), mine);
    wait_for([&] { return store_.find(card_of(0)).has_value(); }, [&] { return std::string(" rank 0"); });
    const std::string of_first = *store_.find(card_of(0));
    if (mine != of_first) leave(ErrorKind::Input, fmt::format("rank {} is {}; rank 0 is {}: all ranks must be alike", place_.rank, mine, of_first));
  }

  void wait_for_all() {
    store_.add("alike", 1);
    wait_for([&] { return store_.add("alike", 0) >= place_.ranks; }, [&] { return " " + missing(store_, place_.ranks); });
  }

 private:
  template <class Done, class Whom>
  void wait_for(const Done& done, const Whom& whom) {
    bool has_said = false;
    while (!done()) {
      if (const auto gone = find_gone(store_)) {
        linger();
        fail(ErrorKind::Io, "rank {} of {} waits for rank {} in vain: it {}", place_.rank, place_.ranks, gone->rank, gone->how);
      }
      const auto waited = Clock::now() - began_;
      if (waited > patience_) {
        fail(ErrorKind::Io, "rank {} of {} waited {} s at {}:{}, and{} did not come", place_.rank, place_.ranks, patience_.count() / 1000, place_.address,
             place_.port, whom());
      }
      if (waited > kSaysAfter && !has_said && place_.rank == 0) {
        say("rank 0 of {} waits at {}:{} for{}\n", place_.ranks, place_.address, place_.port, whom());
        has_said = true;
      }
      std::this_thread::sleep_for(kPause);
    }
  }

  [[noreturn]] void leave(ErrorKind kind, const std::string& sentence) {
    try {
      say_gone(store_, {place_.rank, "ended: " + sentence});
    } catch (const std::exception&) {  // who keeps the store heard it, and left before it could answer
    }
    linger();
    throw Error(kind, sentence);
  }

  void linger() const {
    if (place_.hosts_store) std::this_thread::sleep_for(kLastWords);
  }

  Store& store_;
  const Place& place_;
  milliseconds patience_;
  Clock::time_point began_;
};

}  // namespace

void meet(Store& store, const Place& place, const std::string& alike, milliseconds patience) {
  Meeting meeting(store, place, patience);
  meeting.come_once();
  meeting.show(alike);
  meeting.wait_for_all();
}

}  // namespace moiety::comm
