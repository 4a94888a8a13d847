#include "base/json.h"

#include <cmath>

namespace moiety {
namespace {

constexpr int kDeepest = 100;

}  // namespace

Json parse_json(std::string_view text, std::string_view name) {
  int depth = 0;
  const auto watch_depth = [&](int, Json::parse_event_t event, Json&) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      require(++depth <= kDeepest, "{}: JSON nested deeper than {} levels", name, kDeepest);
    } else if (event == Event::object_end || event == Event::array_end) {
      --depth;
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch_depth);
  } catch (const Json::exception& error) {  // a syntax error, or a number too large for a double
    // nlohmann's sentence starts with its own error number in brackets; what follows says where and what.
    const std::string_view what = error.what();
    const size_t bracket = what.find("] ");
    fail(ErrorKind::Input, "{}: not valid JSON: {}", name, bracket == what.npos ? what : what.substr(bracket + 2));
  }
}

JsonObject::JsonObject(const Json& value, std::string where) : value_(&value), where_(std::move(where)) {
  require(value.is_object(), "{}: expected a JSON object, found {}", where_, value.type_name());
}

bool JsonObject::has(const char* key) const {
  const auto it = value_->find(key);
  return it != value_->end() && !it->is_null();
}

const Json& JsonObject::at(const char* key) const {
  require(has(key), "{}: \"{}\" is missing", where_, key);
  return *value_->find(key);
}

int64_t JsonObject::integer(const char* key, int64_t low, int64_t high) const {
  const Json& value = at(key);
  // A value beyond int64 is unsigned or floating in the parser and can't be in range.
  const bool fits = value.is_number_integer() &&
                    !(value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX});
  require(fits && value.get<int64_t>() >= low && value.get<int64_t>() <= high,
          "{}: \"{}\" must be an integer from {} to {}, found {}", where_, key, low, high,
          value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60));
  return value.get<int64_t>();
}

int64_t JsonObject::integer(const char* key, int64_t low, int64_t high, int64_t otherwise) const {
  return has(key) ? integer(key, low, high) : otherwise;
}

double JsonObject::number(const char* key) const {
  const Json& value = at(key);
  require(value.is_number() && std::isfinite(value.get<double>()),
          "{}: \"{}\" must be a finite number, found {}", where_, key,
          value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 60));
  return value.get<double>();
}

double JsonObject::number(const char* key, double otherwise) const {
  return has(key) ? number(key) : otherwise;
}

bool JsonObject::boolean(const char* key, bool otherwise) const {
  if (!has(key)) return otherwise;
  require(at(key).is_boolean(), "{}: \"{}\" must be true or false", where_, key);
  return at(key).get<bool>();
}

std::string JsonObject::text(const char* key) const {
  require(at(key).is_string(), "{}: \"{}\" must be a string, found {}", where_, key, at(key).type_name());
  return at(key).get<std::string>();
}

std::string JsonObject::text(const char* key, std::string_view otherwise) const {
  return has(key) ? text(key) : std::string(otherwise);
}

const Json& JsonObject::array(const char* key) const {
  require(at(key).is_array(), "{}: \"{}\" must be a list, found {}", where_, key, at(key).type_name());
  return at(key);
}

JsonObject JsonObject::object(const char* key) const {
  return JsonObject(at(key), where_ + ": " + key);
}

}  // namespace moiety
