// JSON from files that may lie: parsed with a bound on depth, read with sentences that name the key.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace moiety {

// Keys are kept sorted: a file with a hundred thousand of them takes no longer a key than one with ten.
using Json = nlohmann::json;

// `name` is the file's name, for the error sentence.
Json parse_json(std::string_view text, std::string_view name);

// An object of a JSON file and the words that say where it is ("model/config.json: rope_scaling").
class JsonObject {
 public:
  // Throws unless `value` is an object.
  JsonObject(const Json& value, std::string where);

  bool has(const char* key) const;  // present and not null
  const std::string& where() const { return where_; }
  const Json& json() const { return *value_; }

  // Without a default a missing key is an error; a null counts as missing.
  int64_t integer(const char* key, int64_t low, int64_t high) const;
  int64_t integer(const char* key, int64_t low, int64_t high, int64_t otherwise) const;
  double number(const char* key) const;  // finite
  double number(const char* key, double otherwise) const;
  bool boolean(const char* key, bool otherwise) const;
  std::string text(const char* key) const;
  std::string text(const char* key, std::string_view otherwise) const;
  const Json& array(const char* key) const;
  JsonObject object(const char* key) const;
  const Json& at(const char* key) const;

 private:
  const Json* value_;  // looks; the document outlives this
  std::string where_;
};

}  // namespace moiety
