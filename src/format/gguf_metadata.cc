#include "base/error.h"
#include "format/gguf.h"

namespace moiety::format {

template <class T>
const T& GgufMetadata::get(const std::string& key, const char* kind) const {
  const auto it = values_.find(key);
  require(it != values_.end(), "{}: the metadata has no {}", where, key);
  const T* value = std::get_if<T>(&it->second);
  require(value != nullptr, "{}: metadata {} must be {}", where, key, kind);
  return *value;
}

int64_t GgufMetadata::integer(const std::string& key) const { return get<int64_t>(key, "an integer"); }
bool GgufMetadata::boolean(const std::string& key) const { return get<bool>(key, "true or false"); }
const std::string& GgufMetadata::text(const std::string& key) const { return get<std::string>(key, "a string"); }
const std::vector<int64_t>& GgufMetadata::integers(const std::string& key) const {
  return get<std::vector<int64_t>>(key, "a list of integers");
}
std::vector<uint64_t> GgufMetadata::hashes(const std::string& key) const {
  const auto it = values_.find(key);
  if (it != values_.end() && std::holds_alternative<std::vector<uint64_t>>(it->second)) return get<std::vector<uint64_t>>(key, "");
  const std::vector<int64_t>& small = integers(key);
  return {small.begin(), small.end()};
}
const std::vector<double>& GgufMetadata::numbers(const std::string& key) const {
  return get<std::vector<double>>(key, "a list of numbers");
}
const std::vector<std::string>& GgufMetadata::texts(const std::string& key) const {
  return get<std::vector<std::string>>(key, "a list of strings");
}

double GgufMetadata::number(const std::string& key) const {
  const auto it = values_.find(key);
  if (it != values_.end() && std::holds_alternative<int64_t>(it->second)) {
    return static_cast<double>(std::get<int64_t>(it->second));
  }
  return get<double>(key, "a number");
}

void GgufMetadata::set(const std::string& key, GgufValue value) {
  if (values_.insert_or_assign(key, std::move(value)).second) keys_.push_back(key);
}

const GgufValue& GgufMetadata::value(const std::string& key) const { return values_.at(key); }

}  // namespace moiety::format
