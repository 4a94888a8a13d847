// What a process is doing and has done: named spans of time, one inside another, and exchanges with others that it waited for. One thread
// opens and closes spans; any thread may ask what it is in.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace moiety {

class Activity {
 public:
  using Clock = std::chrono::steady_clock;

  struct Event {
    std::string name;
    Clock::time_point begin, end;
    bool is_exchange = false;
    int64_t number = 0;  // of an exchange
    uint64_t bytes = 0;
  };

  // From here to the end of the scope. Nothing if there is no activity to note it in.
  class Span {
   public:
    Span(Activity* activity, std::string_view name, int64_t index = -1);
    ~Span();
    Span(const Span&) = delete;
    Span& operator=(const Span&) = delete;

   private:
    Activity* activity_;
  };

  // An exchange that has ended, for which the calling thread stood still for `waited` seconds; they count if it is the one with the spans.
  void exchanged(std::string name, int64_t number, uint64_t bytes, Clock::time_point begin, Clock::time_point end, double waited);

  // The spans that are open, outermost first: "step 12, backward, layer 3"; empty if none is.
  std::string now() const;

  // Since the last call of begin_count, in seconds: waited in exchanges; in spans of that name that have ended, without the waiting.
  void begin_count();
  double waited() const;
  double busy(const std::string& name) const;

  // From now on events are kept until they are taken, at most so many; 0: none, as in the beginning.
  void keep_events(size_t most);
  std::vector<Event> take_events();

 private:
  struct Open {
    std::string name;
    Clock::time_point begin;
    double waited;
  };
  void open(std::string_view name, int64_t index);
  void close();
  void keep(Event event);

  mutable std::mutex mutex_;  // guards all that follows
  std::thread::id thread_;  // that opened the last span
  std::vector<Open> open_;
  double waited_ = 0;
  std::map<std::string, double> busy_;
  size_t most_events_ = 0;
  std::vector<Event> events_;
};

}  // namespace moiety
