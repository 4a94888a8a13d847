#include "grammar/ordered_json.h"

#include <vector>

#include "base/error.h"

namespace moiety::grammar {
namespace {

constexpr size_t kLongest = 1 << 20, kDeepest = 64, kMostKeys = 1000;

}  // namespace

OrderedJson parse_ordered_json(std::string_view text, std::string_view name) {
  require(text.size() <= kLongest, "{}: {} bytes of JSON; at most {} are read", name, text.size(), kLongest);
  std::vector<size_t> keys;  // of the objects that are open
  const auto watch = [&](int, OrderedJson::parse_event_t event, OrderedJson&) {
    using Event = OrderedJson::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      keys.push_back(0);
      require(keys.size() <= kDeepest, "{}: JSON nested deeper than {} levels", name, kDeepest);
    } else if (event == Event::object_end || event == Event::array_end) {
      keys.pop_back();
    } else if (event == Event::key) {
      require(++keys.back() <= kMostKeys, "{}: a JSON object of more than {} keys", name, kMostKeys);
    }
    return true;
  };
  try {
    return OrderedJson::parse(text.begin(), text.end(), watch);
  } catch (const OrderedJson::exception& error) {
    // nlohmann's sentence starts with its own error number in brackets; what follows says where and what.
    const std::string_view what = error.what();
    const size_t bracket = what.find("] ");
    fail(ErrorKind::Input, "{}: not valid JSON: {}", name, bracket == what.npos ? what : what.substr(bracket + 2));
  }
}

}  // namespace moiety::grammar
