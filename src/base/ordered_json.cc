#include "base/ordered_json.h"

#include <algorithm>
#include <string>
#include <vector>

namespace moiety {
namespace {

constexpr size_t kDeepest = 100, kMostValues = 1'000'000;

// Builds the document from the parser's events. Members are appended without a look at those before, which in an object with a
// hundred thousand keys would take hours; an object that ends is looked through for names that come twice.
class Builder : public OrderedJson::json_sax_t {
 public:
  explicit Builder(std::string_view name) : name_(name) {}

  OrderedJson root;

  bool null() override { return add(nullptr); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(number_integer_t value) override { return add(value); }
  bool number_unsigned(number_unsigned_t value) override { return add(value); }
  bool number_float(number_float_t value, const string_t&) override { return add(value); }
  bool string(string_t& value) override { return add(std::move(value)); }
  bool binary(binary_t&) override { return false; }
  bool key(string_t& value) override {
    key_ = std::move(value);
    return true;
  }
  bool start_object(size_t) override { return begin(OrderedJson::object()); }
  bool start_array(size_t) override { return begin(OrderedJson::array()); }
  bool end_object() override {
    check_names(open_.back()->get_ref<const OrderedJson::object_t&>());
    open_.pop_back();
    return true;
  }
  bool end_array() override {
    open_.pop_back();
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    // nlohmann's sentence starts with its own error number in brackets; what follows says where and what.
    const std::string_view what = error.what();
    const size_t bracket = what.find("] ");
    fail(ErrorKind::Input, "{}: not valid JSON: {}", name_, bracket == what.npos ? what : what.substr(bracket + 2));
  }

 private:
  bool begin(OrderedJson container) {
    require(open_.size() < kDeepest, "{}: JSON nested deeper than {} levels", name_, kDeepest);
    add(std::move(container));
    open_.push_back(last_);
    return true;
  }

  // `last_` becomes where the value lies; it stays there while it is open, for only the innermost container grows.
  bool add(OrderedJson value) {
    require(++values_ <= kMostValues, "{}: more than {} values", name_, kMostValues);
    if (open_.empty()) {
      root = std::move(value);
      last_ = &root;
    } else if (open_.back()->is_array()) {
      auto& items = open_.back()->get_ref<OrderedJson::array_t&>();
      items.push_back(std::move(value));
      last_ = &items.back();
    } else {
      auto& members = static_cast<OrderedJson::object_t::Container&>(open_.back()->get_ref<OrderedJson::object_t&>());
      members.emplace_back(std::move(key_), std::move(value));
      last_ = &members.back().second;
    }
    return true;
  }

  void check_names(const OrderedJson::object_t& object) const {
    std::vector<std::string_view> names;
    names.reserve(object.size());
    for (const auto& member : object) names.push_back(member.first);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) fail(ErrorKind::Input, "{}: \"{}\" is there twice in one object", name_, twice->substr(0, 60));
  }

  std::string_view name_;
  std::vector<OrderedJson*> open_;
  OrderedJson* last_ = nullptr;
  std::string key_;
  size_t values_ = 0;
};

}  // namespace

OrderedJson parse_ordered_json(std::string_view text, std::string_view name) {
  Builder builder(name);
  OrderedJson::sax_parse(text.begin(), text.end(), &builder);
  return std::move(builder.root);
}

std::string to_text(const OrderedJson& json) { return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace); }

}  // namespace moiety
