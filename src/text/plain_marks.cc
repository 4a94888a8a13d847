#include "text/plain_marks.h"

#include <sys/random.h>

#include <array>

#include "base/error.h"

namespace moiety::text {

std::string make_mark() {
  std::array<unsigned char, 32> bytes;
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) fail(ErrorKind::Io, "no random bytes can be had");
  std::string mark;
  for (const unsigned char byte : bytes) mark += static_cast<char>('0' + byte % 10);
  return mark;
}

OrderedJson PlainMarks::put(const OrderedJson& json) const {
  if (json.is_string()) return put(std::string_view(json.get_ref<const std::string&>()));
  if (json.is_array()) {
    OrderedJson list = OrderedJson::array();
    for (const OrderedJson& item : json) list.push_back(put(item));
    return list;
  }
  if (!json.is_object()) return json;
  OrderedJson object = OrderedJson::object();
  for (const auto& [name, value] : json.items()) object[put(std::string_view(name))] = put(value);
  return object;
}

std::string PlainMarks::put(std::string_view text) const {
  std::string marked;
  size_t done = 0;
  for (const size_t at : tokenizer_.special_texts(text)) {
    marked += text.substr(done, at - done);
    marked += mark_;
    done = at;
  }
  return marked += text.substr(done);
}

PlainMarked PlainMarks::take(std::string_view prompt) const {
  PlainMarked out;
  size_t done = 0;
  for (size_t at; (at = prompt.find(mark_, done)) != prompt.npos; done = at + mark_.size()) {
    out.text += prompt.substr(done, at - done);
    out.plain.push_back(out.text.size());
  }
  out.text += prompt.substr(done);
  return out;
}

}  // namespace moiety::text
