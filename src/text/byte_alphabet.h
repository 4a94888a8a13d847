// GPT-2's printable alphabet: one visible character for each byte, so that byte strings can stand
// in text files
// (" the" is written "Ġthe").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moiety::text {

char32_t printable_char(uint8_t byte);
// Nothing for a character outside the alphabet.
std::optional<uint8_t> byte_of(char32_t printable);

std::string to_printable(std::string_view bytes);
// Nothing if any character is outside the alphabet, or the text isn't UTF-8.
std::optional<std::string> from_printable(std::string_view text);

}  // namespace moiety::text
