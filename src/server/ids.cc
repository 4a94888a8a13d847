#include "server/ids.h"

#include <openssl/rand.h>

#include <array>

#include "base/error.h"

namespace moiety::server {

std::string make_id(std::string_view prefix) {
  std::array<unsigned char, 16> bytes;
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) fail(ErrorKind::Io, "no random bytes can be had");
  std::string id(prefix);
  for (const unsigned char byte : bytes) id += fmt::format("{:02x}", byte);
  return id;
}

}  // namespace moiety::server
