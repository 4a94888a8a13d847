// A progress bar with rate and time left on a terminal; a plain line now and then elsewhere. Writes to stderr.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moiety {

class Progress {
 public:
  // `total` in `unit`s, 0 when unknown. Nothing is shown for what ends within a second.
  Progress(std::string title, double total, std::string unit);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // For what is known only later.
  void set_total(double total) { total_ = total; }
  // `note` stands at the end of the line, for example "loss 3.21".
  void update(double done, std::string_view note = {});
  // Lines below the bar, on a terminal; drawn with the next update.
  void set_rows(std::vector<std::string> rows) { rows_ = std::move(rows); }
  // Prints a line above the bar.
  void print(std::string_view line);
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void draw(bool last);

  std::string title_, unit_, note_;
  std::vector<std::string> rows_;
  double total_, done_ = 0, first_ = -1;
  Clock::time_point start_, drawn_;
  bool terminal_, shown_ = false, finished_ = false;
};

// 1234567 -> "1.23 M"; seconds -> "3:07".
std::string short_number(double value);
std::string short_time(double seconds);

}  // namespace moiety
