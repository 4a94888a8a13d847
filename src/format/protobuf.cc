#include "format/protobuf.h"

#include <cstring>

#include "base/error.h"

namespace moiety::format {

enum WireType : uint64_t { kVarint = 0, k64Bits = 1, kBytes = 2, k32Bits = 5 };

bool ProtobufReader::next(Field& field) {
  if (bytes_.empty()) return false;
  field = {};
  const uint64_t tag = varint();
  require(tag >> 3 != 0 && tag >> 3 < 1u << 29, "{}: not a protobuf: field number {}", where_,
          tag >> 3);
  field.number = static_cast<uint32_t>(tag >> 3);
  switch (tag & 7) {
    case kVarint:
      field.integer = varint();
      break;
    case k64Bits:
      take(8);
      break;
    case kBytes:
      field.bytes = take(varint());
      break;
    case k32Bits:
      std::memcpy(&field.real, take(4).data(), 4);
      break;
    default:
      fail(ErrorKind::Input, "{}: not a protobuf: wire type {}", where_, tag & 7);
  }
  return true;
}

uint64_t ProtobufReader::varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = static_cast<uint8_t>(take(1)[0]);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return value;
  }
  fail(ErrorKind::Input, "{}: not a protobuf: an integer of more than ten bytes", where_);
}

std::string_view ProtobufReader::take(uint64_t count) {
  require(count <= bytes_.size(), "{}: truncated: {} bytes wanted, {} left", where_, count,
          bytes_.size());
  const std::string_view part = bytes_.substr(0, count);
  bytes_.remove_prefix(count);
  return part;
}

}  // namespace moiety::format
