// Names for requests, answers, calls and what else a client may want to refer to.
#pragma once

#include <string>
#include <string_view>

namespace moiety::server {

// The prefix and 32 hexadecimal digits that nobody can guess.
std::string make_id(std::string_view prefix);

}  // namespace moiety::server
