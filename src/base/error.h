// One exception for everything the world does wrong: what, where, what was found and what was expected.
// A mistake of ours is an assert; an absence that is normal is a std::optional.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>

namespace moiety {

enum class ErrorKind {
  Usage,  // the command line is wrong: exit status 2
  Input,  // a file, config or request says something wrong: exit status 1
  Io,     // the operating system refused: exit status 1
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

template <class... Args>
[[noreturn]] void fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(kind, fmt::format(format, std::forward<Args>(args)...));
}

// Throws Error(Input) with the formatted sentence unless `ok`.
template <class... Args>
void require(bool ok, fmt::format_string<Args...> format, Args&&... args) {
  if (!ok) fail(ErrorKind::Input, format, std::forward<Args>(args)...);
}

}  // namespace moiety
