#include "jinja/context.h"

namespace moiety::jinja {
namespace {

constexpr size_t kDeepest = 100;

// Builds values as nlohmann's parser comes upon them: in linear time, and in the order of the text.
class Builder : public Json::json_sax_t {
 public:
  Builder(Heap& heap, std::string_view name) : heap_(heap), name_(name) {}
  Value result() const { return result_; }

  bool null() override { return add(Value::none()); }
  bool boolean(bool b) override { return add(Value::of_bool(b)); }
  bool number_integer(int64_t n) override { return add(Value::of_int(n)); }
  bool number_unsigned(uint64_t n) override {
    return add(n <= uint64_t{INT64_MAX} ? Value::of_int(static_cast<int64_t>(n)) : Value::of_float(static_cast<double>(n)));
  }
  bool number_float(double n, const std::string&) override { return add(Value::of_float(n)); }
  bool string(std::string& text) override { return add(heap_.text(std::move(text))); }
  bool binary(Json::binary_t&) override { return false; }
  bool start_object(size_t) override { return open(Value(heap_.dict())); }
  bool start_array(size_t) override { return open(Value(heap_.list())); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& text) override {
    open_.back().key = heap_.text(std::move(text));
    return true;
  }
  bool parse_error(size_t, const std::string&, const Json::exception& error) override {
    const std::string_view what = error.what();
    const size_t bracket = what.find("] ");
    fail(ErrorKind::Input, "{}: not valid JSON: {}", name_, bracket == what.npos ? what : what.substr(bracket + 2));
  }

 private:
  struct Open {
    Value value, key;
  };

  bool add(const Value& value) {
    if (open_.empty()) {
      result_ = value;
    } else if (open_.back().value.is(Type::List)) {
      heap_.add(*open_.back().value.list, value);
    } else {
      heap_.set(*open_.back().value.dict, open_.back().key, value);
    }
    return true;
  }
  bool open(const Value& value) {
    require(open_.size() < kDeepest, "{}: JSON nested deeper than {} levels", name_, kDeepest);
    add(value);
    open_.push_back({value, {}});
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  Heap& heap_;
  std::string_view name_;
  std::vector<Open> open_;
  Value result_;
};

Value copy_value(const Value& value, Heap& heap) {
  if (value.is(Type::Dict)) return Value(copy(*value.dict, heap));
  if (!value.is(Type::List)) return value;
  List* made = heap.list(value.list->kind);
  for (const Value& item : value.list->items) heap.add(*made, copy_value(item, heap));
  return Value(made);
}

constexpr Limits kNoLimits{.steps = UINT64_MAX, .bytes = SIZE_MAX};

}  // namespace

Value parse_json_value(std::string_view text, std::string_view name, Heap& heap) {
  Builder builder(heap, name);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.result();
}

Dict* copy(const Dict& dict, Heap& heap) {
  Dict* made = heap.dict();
  for (const auto& [key, value] : dict.entries()) heap.set(*made, key, copy_value(value, heap));
  return made;
}

Context::Context()
    : budget_(std::make_unique<Budget>(kNoLimits)), heap_(std::make_unique<Heap>(*budget_)), root_(heap_->dict()) {}

Context Context::parse(std::string_view text, std::string_view name) {
  Context context;
  const Value value = parse_json_value(text, name, *context.heap_);
  require(value.is(Type::Dict), "{}: expected a JSON object such as {{\"messages\": […]}}, found {}", name,
          type_name(value));
  context.root_ = value.dict;
  return context;
}

bool Context::has_something(std::string_view name) const {
  const Value* found = root_->find(name);
  return found != nullptr && is_true(*found);
}

void Context::set_text(const std::string& name, std::string_view text) {
  heap_->set(*root_, name, heap_->text(std::string(text)));
}

void Context::set_flag(const std::string& name, bool value) { heap_->set(*root_, name, Value::of_bool(value)); }
void Context::set(const std::string& name, const Json& value) { heap_->set(*root_, name, from(value)); }
void Context::set_json(const std::string& name, std::string_view text) {
  heap_->set(*root_, name, parse_json_value(text, name, *heap_));
}

Value Context::from(const Json& json) {
  return parse_json_value(json.dump(-1, ' ', false, Json::error_handler_t::replace), "JSON", *heap_);
}

}  // namespace moiety::jinja
