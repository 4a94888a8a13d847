#include "base/progress.h"

#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace moiety {
namespace {

constexpr auto kTerminalEvery = std::chrono::milliseconds(100);
constexpr auto kLogEvery = std::chrono::seconds(15);

struct Screen {
  size_t columns = 100, lines = 24;
};

Screen terminal() {
  winsize size{};
  Screen screen;
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0) return screen;
  if (size.ws_col > 20) screen.columns = size.ws_col;
  if (size.ws_row > 2) screen.lines = size.ws_row;
  return screen;
}

// By characters, not bytes: a wrapped line could not be overwritten.
std::string_view cut(std::string_view line, size_t columns) {
  size_t end = 0, seen = 0;
  for (; end < line.size(); ++end) {
    if ((line[end] & 0xC0) != 0x80 && ++seen > columns) break;
  }
  return line.substr(0, end);
}

std::string bar(double share, int cells) {
  const int full = static_cast<int>(std::lround(std::clamp(share, 0.0, 1.0) * cells));
  std::string text;
  for (int i = 0; i < cells; ++i) text += i < full ? "█" : "░";
  return text;
}

}  // namespace

std::string short_number(double value) {
  const char* suffix = "";
  for (const char* next : {" k", " M", " G", " T"}) {
    if (std::abs(value) < 999.5) break;
    value /= 1000;
    suffix = next;
  }
  const int decimals = *suffix == 0 && value == std::floor(value) ? 0 : value < 10 ? 2 : value < 100 ? 1 : 0;
  return fmt::format("{:.{}f}{}", value, decimals, suffix);
}

std::string short_time(double seconds) {
  const long whole = std::lround(std::clamp(seconds, 0.0, 3.6e6));
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

Progress::Progress(std::string title, double total, std::string unit)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(total),
      start_(Clock::now()),
      drawn_(start_),
      terminal_(isatty(STDERR_FILENO)) {}

Progress::~Progress() { finish(); }

void Progress::update(double done, std::string_view note) {
  if (first_ < 0) first_ = done;  // what an earlier run did doesn't count for the rate
  done_ = done;
  note_ = note;
  const auto now = Clock::now();
  if (now - start_ < std::chrono::seconds(1)) return;
  if (shown_ && now - drawn_ < (terminal_ ? Clock::duration(kTerminalEvery) : Clock::duration(kLogEvery))) return;
  drawn_ = now;
  draw(false);
}

void Progress::draw(bool last) {
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const double rate = elapsed > 0 ? (done_ - std::max(first_, 0.0)) / elapsed : 0;
  std::string line = fmt::format("{:<18}", title_);
  if (total_ > 0) {
    const double share = done_ / total_;
    line += fmt::format(" {} {:3.0f} %", bar(share, 24), 100 * std::min(share, 1.0));
  }
  line += fmt::format("  {} {}  {}/s", short_number(done_), unit_, short_number(rate));
  if (last) {
    line += "  in " + short_time(elapsed);
  } else if (total_ > 0 && rate > 0) {
    line += "  " + short_time((total_ - done_) / rate) + " left";
  }
  if (!note_.empty()) line += "  " + note_;

  if (terminal_) {
    const Screen screen = terminal();
    std::string all = fmt::format("\r\x1b[J{}", cut(line, screen.columns - 1));  // from here to the end of the screen anew
    const size_t rows = last ? 0 : std::min(rows_.size(), screen.lines - 2);
    for (size_t i = 0; i < rows; ++i) all += fmt::format("\n{}", cut(rows_[i], screen.columns - 1));
    if (rows > 0) all += fmt::format("\x1b[{}A", rows);
    if (last) all += "\n";
    std::fputs(all.c_str(), stderr);
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  std::fflush(stderr);
  shown_ = true;
}

void Progress::print(std::string_view line) {
  if (terminal_ && shown_) std::fputs("\r\x1b[J", stderr);
  std::fprintf(stderr, "%.*s\n", static_cast<int>(line.size()), line.data());
  if (terminal_ && shown_) draw(false);
}

void Progress::finish() {
  if (finished_) return;
  finished_ = true;
  if (shown_) draw(true);
}

}  // namespace moiety
