#include "server/api_keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <sstream>

#include "base/error.h"

namespace moiety::server {
namespace {

std::array<unsigned char, 32> sha256_of(std::string_view text) {
  std::array<unsigned char, 32> hash{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data());
  return hash;
}

std::optional<std::array<unsigned char, 32>> parse_hash(std::string_view hex) {
  std::array<unsigned char, 32> hash{};
  if (hex.size() != 2 * hash.size()) return std::nullopt;
  for (size_t i = 0; i < hash.size(); ++i) {
    const char* at = hex.data() + 2 * i;
    if (std::from_chars(at, at + 2, hash[i], 16).ptr != at + 2) return std::nullopt;
  }
  return hash;
}

// NAME=-1000 to 1000; nothing if that isn't what the word is.
std::optional<int> number_after(std::string_view name, std::string_view word) {
  if (!word.starts_with(name) || word.size() == name.size()) return std::nullopt;
  int number = 0;
  const bool is_number = std::from_chars(word.data() + name.size(), word.data() + word.size(), number).ptr == word.data() + word.size();
  return is_number && std::abs(number) <= 1000 ? std::optional(number) : std::nullopt;
}

}  // namespace

std::vector<ApiKey> parse_api_keys(std::string_view text, const std::string& where) {
  std::vector<ApiKey> keys;
  std::set<std::string> names;
  std::istringstream lines{std::string(text)};
  size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string place = fmt::format("{}:{}", where, ++number);
    std::istringstream words(line);
    std::string name, key, more;
    if (!(words >> name) || name.starts_with('#')) continue;
    require(static_cast<bool>(words >> key), "{}: expected a name and a key", place);

    ApiKey entry{.name = name};
    constexpr std::string_view kHashed = "sha256:";
    if (key.starts_with(kHashed)) {
      const auto hash = parse_hash(std::string_view(key).substr(kHashed.size()));
      require(hash.has_value(), "{}: expected 64 hexadecimal digits behind sha256:", place);
      entry.sha256 = *hash;
    } else {
      entry.sha256 = sha256_of(key);
    }
    std::optional<int> highest;
    while (words >> more) {
      if (const auto priority = number_after("priority=", more)) {
        entry.priority = *priority;
      } else {
        highest = number_after("max-priority=", more);
        require(highest.has_value(), "{}: expected nothing behind the key but priority= and max-priority=, each -1000 to 1000", place);
      }
    }
    entry.max_priority = highest.value_or(entry.priority);
    require(entry.max_priority >= entry.priority, "{}: expected a max-priority that is not below the priority", place);
    require(names.insert(name).second, "{}: the name \"{}\" stands twice", place, name);
    keys.push_back(std::move(entry));
  }
  require(!keys.empty(), "{}: there is no key in it", where);
  return keys;
}

ApiKeys::ApiKeys(fs::path file, std::function<void(const std::string&)> warn) : file_(std::move(file)), warn_(std::move(warn)) {
  seen_ = file_version(file_);
  keys_ = parse_api_keys(read_file(file_), file_.string());
}

void ApiKeys::reread() {
  const std::optional<FileVersion> now = file_version(file_);
  if (now == seen_) return;
  seen_ = now;
  try {
    keys_ = parse_api_keys(read_file(file_), file_.string());
  } catch (const Error& error) {
    warn_(fmt::format("the old API keys stay: {}", error.what()));
  }
}

const ApiKey* ApiKeys::find(std::string_view key) {
  reread();
  const auto hash = sha256_of(key);
  const ApiKey* found = nullptr;
  for (const ApiKey& entry : keys_) {
    if (CRYPTO_memcmp(entry.sha256.data(), hash.data(), hash.size()) == 0) found = &entry;
  }
  return found;
}

const ApiKey* ApiKeys::find(const std::map<std::string, std::string>& headers) {
  if (const auto header = headers.find("x-api-key"); header != headers.end()) return find(header->second);
  const auto header = headers.find("authorization");
  if (header == headers.end()) return nullptr;
  std::string_view value = header->second;
  constexpr std::string_view kBearer = "bearer ";
  const bool is_bearer = value.size() > kBearer.size() && std::equal(kBearer.begin(), kBearer.end(), value.begin(), [](char a, char b) {
    return a == (b >= 'A' && b <= 'Z' ? static_cast<char>(b | 0x20) : b);
  });
  if (!is_bearer) return nullptr;
  value.remove_prefix(kBearer.size());
  while (value.starts_with(' ')) value.remove_prefix(1);
  return find(value);
}

}  // namespace moiety::server
