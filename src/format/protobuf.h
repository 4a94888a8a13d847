// Reads the wire format of protocol buffers, field by field, from bytes that may lie.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moiety::format {

class ProtobufReader {
 public:
  // `where` says whose bytes these are, for errors.
  ProtobufReader(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  struct Field {
    uint32_t number = 0;
    uint64_t integer = 0;    // of a varint
    float real = 0;          // of 32 bits
    std::string_view bytes;  // of text, bytes or a message
  };
  // False at the end. Throws Error(Input) for what is no protobuf.
  bool next(Field& field);

 private:
  uint64_t varint();
  std::string_view take(uint64_t count);

  std::string_view bytes_;
  const std::string& where_;
};

}  // namespace moiety::format
