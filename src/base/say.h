// Sentences for people, to stderr.
#pragma once

#include <fmt/core.h>

#include <cstdio>

namespace moiety {

// Whether anybody can read them (a closed pipe, a log on a full disk) is no reason to end.
template <class... Args>
void say(fmt::format_string<Args...> format, Args&&... args) {
  std::fputs(fmt::format(format, std::forward<Args>(args)...).c_str(), stderr);
}

}  // namespace moiety
