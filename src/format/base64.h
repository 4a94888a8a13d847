// Base64, in which tokenizer.json holds a table of bytes.
#pragma once

#include <string>
#include <string_view>

namespace moiety::format {

// Throws Error(Input) for characters that are none of base64's. `where` says whose they are.
std::string from_base64(std::string_view text, const std::string& where);
std::string to_base64(std::string_view bytes);

}  // namespace moiety::format
