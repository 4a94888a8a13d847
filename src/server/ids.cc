#include "server/ids.h"

#include <sys/random.h>

#include <array>

#include "base/error.h"

namespace moiety::server {

std::string make_id(std::string_view prefix) {
  std::array<unsigned char, 16> bytes;
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) fail(ErrorKind::Io, "no random bytes can be had");
  std::string id(prefix);
  for (const unsigned char byte : bytes) id += fmt::format("{:02x}", byte);
  return id;
}

}  // namespace moiety::server
