// Who may ask: API keys from a file, one a line, read again when it changes.
//
//     # NAME KEY or NAME sha256:HEX, and if wanted a priority, higher goes first, and the highest that a request may ask for
//     alice  sk-3f6a… max-priority=10
//     nightly sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 priority=-5
#pragma once

#include <array>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/file_version.h"

namespace moiety::server {

struct ApiKey {
  std::string name;
  std::array<unsigned char, 32> sha256{};
  int priority = 0;      // of requests that don't say
  int max_priority = 0;  // that a request may ask for; at least `priority`
};

// Throws Error(Input) with the line that can't be read; a file without a key is one, too.
std::vector<ApiKey> parse_api_keys(std::string_view text, const std::string& where);

class ApiKeys {
 public:
  // `warn` is told, once a change, of a new file that can't be read: the old keys stay. Throws as parse_api_keys and read_file do.
  ApiKeys(fs::path file, std::function<void(const std::string&)> warn);

  // Whose key it is. Compares hashes, all of them, in constant time.
  const ApiKey* find(std::string_view key);
  // The same for what a request's headers say: "authorization: Bearer KEY" or "x-api-key: KEY".
  const ApiKey* find(const std::map<std::string, std::string>& headers);

 private:
  void reread();

  fs::path file_;
  std::function<void(const std::string&)> warn_;
  std::optional<FileVersion> seen_;
  std::vector<ApiKey> keys_;
};

}  // namespace moiety::server
