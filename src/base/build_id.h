// Which build of a program this is.
#pragma once

#include <string>

namespace moiety {

// The first half of what the linker wrote into the program to tell its builds apart, in hexadecimal; "unknown" if it wrote nothing.
std::string build_id();

}  // namespace moiety
