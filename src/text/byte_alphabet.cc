#include "text/byte_alphabet.h"

#include <array>

#include "text/utf8.h"

namespace moiety::text {
namespace {

constexpr char32_t kFirstStandIn = 0x100;

constexpr bool stands_for_itself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

// Bytes that can't be seen get the characters from U+0100 on, in order.
constexpr std::array<char32_t, 256> kChars = [] {
  std::array<char32_t, 256> chars{};
  char32_t stand_in = kFirstStandIn;
  for (int byte = 0; byte < 256; ++byte) {
    chars[byte] = stands_for_itself(byte) ? static_cast<char32_t>(byte) : stand_in++;
  }
  return chars;
}();

constexpr size_t kCodes = kFirstStandIn + 68;

constexpr std::array<int16_t, kCodes> kBytes = [] {
  std::array<int16_t, kCodes> bytes{};
  for (int16_t& byte : bytes) byte = -1;
  for (int byte = 0; byte < 256; ++byte) bytes[kChars[byte]] = static_cast<int16_t>(byte);
  return bytes;
}();

}  // namespace

char32_t printable_char(uint8_t byte) { return kChars[byte]; }

std::optional<uint8_t> byte_of(char32_t printable) {
  if (printable >= kCodes || kBytes[printable] < 0) return std::nullopt;
  return static_cast<uint8_t>(kBytes[printable]);
}

std::string to_printable(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(text, kChars[static_cast<uint8_t>(byte)]);
  return text;
}

std::optional<std::string> from_printable(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const Utf8Char next = utf8_char(text, at);
    if (next.kind != Utf8Char::Kind::Valid) return std::nullopt;
    const std::optional<uint8_t> byte = byte_of(next.code);
    if (!byte) return std::nullopt;
    bytes += static_cast<char>(*byte);
    at += next.bytes;
  }
  return bytes;
}

}  // namespace moiety::text
