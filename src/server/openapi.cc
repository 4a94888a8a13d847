#include "server/openapi.h"

namespace moiety::server {
namespace {

OrderedJson object_schema(FieldTable table);

OrderedJson schema_of(const Field& field) {
  const auto bound = [&](OrderedJson json) {
    if (field.low != std::numeric_limits<double>::lowest()) json["minimum"] = field.low;
    if (field.high != std::numeric_limits<double>::max()) json["maximum"] = field.high;
    return json;
  };
  const OrderedJson text = {{"type", "string"}};
  OrderedJson list = {{"type", "array"}}, object = {{"type", "object"}};
  if (field.members != nullptr) object = object_schema(field.members());
  if (field.members != nullptr) list["items"] = object;
  switch (field.type) {
    case FieldType::Text:
      return text;
    case FieldType::Integer:
      return bound({{"type", "integer"}});
    case FieldType::Number:
      return bound({{"type", "number"}});
    case FieldType::Flag:
      return {{"type", "boolean"}};
    case FieldType::List:
      return list;
    case FieldType::Object:
      return object;
    case FieldType::TextOrList:
      return {{"anyOf", OrderedJson::array({text, list})}};
    case FieldType::TextOrObject:
      return {{"anyOf", OrderedJson::array({text, object})}};
    case FieldType::Any:
      return OrderedJson::object();
  }
  return OrderedJson::object();
}

OrderedJson object_schema(FieldTable table) {
  OrderedJson properties = OrderedJson::object();
  for (const Field& field : table) {
    OrderedJson schema = schema_of(field);
    schema["description"] = field.says;
    properties[field.name] = std::move(schema);
  }
  return {{"type", "object"}, {"properties", std::move(properties)}};
}

OrderedJson operation(const Endpoint& endpoint) {
  OrderedJson json = {{"summary", endpoint.says}};
  if (std::string_view(endpoint.path).ends_with('*')) {
    json["parameters"] = OrderedJson::array();
    json["parameters"].push_back({{"name", "name"}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}});
  }
  if (endpoint.fields != nullptr) {
    json["requestBody"] = {{"required", true}, {"content", {{"application/json", {{"schema", object_schema(endpoint.fields())}}}}}};
  }
  OrderedJson content = {{"application/json", OrderedJson::object()}};
  if (endpoint.streams) content["text/event-stream"] = OrderedJson::object();
  json["responses"] = {{"200", {{"description", "the answer"}, {"content", std::move(content)}}},
                       {"default", {{"description", "an error, in the protocol's own shape"}, {"content", {{"application/json", OrderedJson::object()}}}}}};
  return json;
}

}  // namespace

std::string openapi_json(std::span<const Endpoint> endpoints) {
  OrderedJson paths = OrderedJson::object();
  for (const Endpoint& endpoint : endpoints) {
    std::string path = endpoint.path, method = endpoint.method;
    if (path.ends_with('*')) path.replace(path.size() - 1, 1, "{name}");
    for (char& c : method) c = static_cast<char>(c - 'A' + 'a');
    paths[path][method] = operation(endpoint);
  }
  return to_text({{"openapi", "3.1.0"}, {"info", {{"title", "moiety"}, {"version", "1"}}}, {"paths", std::move(paths)}});
}

}  // namespace moiety::server
