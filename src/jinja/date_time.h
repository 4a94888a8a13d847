// The wall clock's time, which templates print with strftime_now.
#pragma once

#include <string>
#include <string_view>

namespace moiety::jinja {

struct DateTime {
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0, microsecond = 0;
};

// "2025-01-15", "2025-01-15T12:00", "2025-01-15 12:00:00.5". Throws Error(Input).
DateTime parse_date_time(std::string_view text);
// Local time.
DateTime current_date_time();
// As C's strftime in the C locale, with %f for microseconds; no time zone.
std::string format_date_time(const DateTime& time, std::string_view format);

}  // namespace moiety::jinja
