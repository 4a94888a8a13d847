// Ends a text where the first of some strings begins. Text comes in pieces of any size; what could be the beginning of such a
// string is held back, and no more.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moiety::server {

class StopStrings {
 public:
  // None may be empty.
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // The text that is certain not to be part of a stop string; nothing once one has been found.
  std::string push(std::string_view text);
  // The rest.
  std::string finish();

  // The one that was found: where two end at once, the one that begins first.
  const std::optional<std::string>& found() const { return found_; }

 private:
  std::vector<std::string> strings_;
  std::string held_;
  std::optional<std::string> found_;
};

}  // namespace moiety::server
