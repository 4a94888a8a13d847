#include "jinja/date_time.h"

#include <fmt/core.h>

#include <chrono>
#include <ctime>

#include "base/error.h"

namespace moiety::jinja {
namespace {

bool is_valid(const DateTime& t) {
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (t.year < 1 || t.month < 1 || t.month > 12) return false;
  const bool leap = (t.year % 4 == 0 && t.year % 100 != 0) || t.year % 400 == 0;
  const int days = kDays[t.month - 1] + (leap && t.month == 2);
  return t.day >= 1 && t.day <= days && t.hour < 24 && t.minute < 60 && t.second < 60;
}

// Reads exactly `digits` digits after `mark` (0: no mark).
bool take(std::string_view& text, char mark, size_t digits, int& number) {
  if (mark != '\0') {
    if (text.empty() || text[0] != mark) return false;
    text.remove_prefix(1);
  }
  if (text.size() < digits) return false;
  number = 0;
  for (size_t i = 0; i < digits; ++i) {
    if (text[i] < '0' || text[i] > '9') return false;
    number = number * 10 + (text[i] - '0');
  }
  text.remove_prefix(digits);
  return true;
}

bool read(std::string_view text, DateTime& t) {
  if (!take(text, '\0', 4, t.year) || !take(text, '-', 2, t.month) || !take(text, '-', 2, t.day)) return false;
  if (text.empty()) return true;
  if (text[0] != 'T' && text[0] != ' ') return false;
  if (!take(text, text[0], 2, t.hour) || !take(text, ':', 2, t.minute)) return false;
  if (text.empty()) return true;
  if (!take(text, ':', 2, t.second)) return false;
  if (text.empty()) return true;
  const size_t digits = text.size() - 1;
  if (digits < 1 || digits > 6 || !take(text, '.', digits, t.microsecond)) return false;
  for (size_t i = digits; i < 6; ++i) t.microsecond *= 10;
  return true;
}

// 0 = Monday 1 January 1 in days.
int64_t days_before(const DateTime& t) {
  using namespace std::chrono;
  return sys_days(year(t.year) / t.month / t.day).time_since_epoch().count();
}

std::tm to_tm(const DateTime& t) {
  std::tm tm{};
  tm.tm_year = t.year - 1900;
  tm.tm_mon = t.month - 1;
  tm.tm_mday = t.day;
  tm.tm_hour = t.hour;
  tm.tm_min = t.minute;
  tm.tm_sec = t.second;
  const int64_t days = days_before(t);
  tm.tm_wday = static_cast<int>(((days + 4) % 7 + 7) % 7);  // 1 January 1970 was a Thursday
  tm.tm_yday = static_cast<int>(days - days_before({.year = t.year}));
  tm.tm_isdst = -1;
  return tm;
}

}  // namespace

DateTime parse_date_time(std::string_view text) {
  DateTime time;
  const bool ok = read(text, time) && is_valid(time);
  require(ok, "\"{}\" is no time; expected one such as 2025-01-15T12:00:00", text.substr(0, 60));
  return time;
}

DateTime current_date_time() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  std::tm tm{};
  localtime_r(&seconds, &tm);
  const auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now).count() % 1'000'000;
  return {tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, static_cast<int>(micros)};
}

std::string format_date_time(const DateTime& time, std::string_view format) {
  std::string c_format;
  for (size_t i = 0; i < format.size(); ++i) {
    const char next = i + 1 < format.size() ? format[i + 1] : '\0';
    if (format[i] != '%') {
      c_format += format[i];
    } else if (next == 'f') {
      c_format += fmt::format("{:06}", time.microsecond);
      ++i;
    } else if (next == 'z' || next == 'Z') {
      ++i;  // a time without zone
    } else {
      c_format += '%';
      if (next != '\0') c_format += format[++i];
    }
  }
  if (c_format.empty()) return {};
  const std::tm tm = to_tm(time);
  char buffer[4096];
  c_format += '.';  // so that an empty result is told from one too long
  const size_t size = std::strftime(buffer, sizeof buffer, c_format.c_str(), &tm);
  require(size > 0, "the time's format is too long");
  return std::string(buffer, size - 1);
}

}  // namespace moiety::jinja
