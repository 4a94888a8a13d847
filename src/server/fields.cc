#include "server/fields.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>

#include "server/exchange.h"
#include "text/utf8.h"

namespace moiety::server {

void wrong_field(const std::string& param, const std::string& sentence, const std::string& code) {
  throw HttpError(400, sentence, code, param);
}

OrderedJson parse_body(std::string_view body) {
  try {
    OrderedJson json = parse_ordered_json(body, "the request's body");
    if (!json.is_object()) wrong_field("", fmt::format("the request's body must be a JSON object, found {}", json.type_name()));
    return json;
  } catch (const Error& error) {
    // The sentence may quote the body, which need not be UTF-8.
    throw HttpError(400, text::replace_invalid(error.what()), "invalid_json");
  }
}

std::string shown(const OrderedJson& value) {
  if (value.is_structured()) return value.is_object() ? "an object" : "a list";
  constexpr size_t kMost = 60;
  if (value.is_string() && value.get_ref<const std::string&>().size() > kMost) {
    std::string_view text = value.get_ref<const std::string&>();
    text = text.substr(0, kMost);
    while (!text.empty() && !text::is_valid_utf8(text)) text.remove_suffix(1);
    return fmt::format("\"{}…\"", text);
  }
  return to_text(value);
}

Fields::Fields(const OrderedJson& object, FieldTable table, std::string where)
    : object_(&object), table_(table), where_(std::move(where)) {
  if (!object.is_object()) wrong_field(where_, fmt::format("'{}' must be an object, found {}", where_, shown(object)));
}

std::string Fields::param(std::string_view name) const {
  return where_.empty() ? std::string(name) : fmt::format("{}.{}", where_, name);
}

void Fields::wrong(std::string_view name, std::string_view rest) const {
  wrong_field(param(name), fmt::format("'{}' {}", param(name), rest));
}

const Field& Fields::row(const char* name) const {
  const auto found = std::find_if(table_.begin(), table_.end(), [&](const Field& f) { return std::strcmp(f.name, name) == 0; });
  assert(found != table_.end() && "a field is read that its table does not describe");
  return *found;
}

const OrderedJson* Fields::find(const char* name) const {
  row(name);
  const auto found = object_->find(name);
  return found == object_->end() || found->is_null() ? nullptr : &*found;
}

std::optional<std::string> Fields::text(const char* name) const {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) wrong(name, fmt::format("must be a string, found {}", shown(*value)));
  return value->get<std::string>();
}

double Fields::in_range(const Field& field, const OrderedJson& value) const {
  const bool is_integer = field.type == FieldType::Integer;
  const char* kind = is_integer ? "an integer" : "a number";
  const double number = value.is_number() ? value.get<double>() : 0;
  // 3.0 is an integer in JSON, and some clients write it so.
  const bool right = value.is_number() && std::isfinite(number) && (!is_integer || number == std::floor(number));
  if (right && number >= field.low && number <= field.high) return number;
  const bool has_low = field.low != std::numeric_limits<double>::lowest(), has_high = field.high != std::numeric_limits<double>::max();
  std::string range;
  if (has_low && has_high) range = fmt::format(" from {} to {}", field.low, field.high);
  if (has_low && !has_high) range = fmt::format(" of at least {}", field.low);
  wrong(field.name, fmt::format("must be {}{}, found {}", kind, range, shown(value)));
}

std::optional<int64_t> Fields::integer(const char* name) const {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  // Beyond 2^53 doubles are no longer exact, and near 2^63 the cast would not fit.
  const double number = in_range(row(name), *value);
  if (std::abs(number) > 0x1p53) {
    if (value->is_number_unsigned() && value->get<uint64_t>() > uint64_t{INT64_MAX}) return INT64_MAX;
    if (!value->is_number_integer()) wrong(name, fmt::format("must be an integer of 64 bits, found {}", shown(*value)));
    return value->get<int64_t>();
  }
  return static_cast<int64_t>(number);
}

std::optional<double> Fields::number(const char* name) const {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  return in_range(row(name), *value);
}

std::optional<bool> Fields::flag(const char* name) const {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) wrong(name, fmt::format("must be true or false, found {}", shown(*value)));
  return value->get<bool>();
}

const OrderedJson* Fields::list(const char* name) const {
  const OrderedJson* value = find(name);
  if (value != nullptr && !value->is_array()) wrong(name, fmt::format("must be a list, found {}", shown(*value)));
  return value;
}

const OrderedJson* Fields::object(const char* name) const {
  const OrderedJson* value = find(name);
  if (value != nullptr && !value->is_object()) wrong(name, fmt::format("must be an object, found {}", shown(*value)));
  return value;
}

const OrderedJson* Fields::any(const char* name) const { return find(name); }

std::vector<std::string> Fields::texts(const char* name) const {
  const OrderedJson* value = find(name);
  if (value == nullptr) return {};
  if (value->is_string()) return {value->get<std::string>()};
  if (!value->is_array()) wrong(name, fmt::format("must be a string or a list of strings, found {}", shown(*value)));
  std::vector<std::string> texts;
  for (const OrderedJson& item : *value) {
    if (!item.is_string()) wrong(name, fmt::format("must be a string or a list of strings, found {} in it", shown(item)));
    texts.push_back(item.get<std::string>());
  }
  return texts;
}

std::string Fields::need_text(const char* name) const {
  need(name);
  return *text(name);
}

const OrderedJson& Fields::need(const char* name) const {
  const OrderedJson* value = find(name);
  if (value == nullptr) wrong(name, "is missing");
  return *value;
}

}  // namespace moiety::server
