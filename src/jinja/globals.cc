// Functions that every template has: range, namespace, dict, cycler, joiner, raise_exception, strftime_now.
#include <fmt/core.h>

#include "base/error.h"
#include "jinja/functions.h"

namespace moiety::jinja {
namespace {

Value range(const Call& c) {
  const int64_t first = c.integer(0, 0);
  const int64_t start = c.has(1) ? first : 0, stop = c.has(1) ? c.integer(1, 0) : first, step = c.integer(2, 1);
  if (step == 0) c.run.fault("range() arg 3 must not be zero");
  List* made = c.run.heap.list(List::Kind::Range);
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    if (static_cast<int64_t>(made->items.size()) == c.run.budget.limits.range) {
      c.run.budget.spent("range", static_cast<uint64_t>(c.run.budget.limits.range), "elements");
    }
    c.run.heap.add(*made, Value::of_int(i));
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  c.run.budget.step(made->items.size());
  return Value(made);
}

// dict(mapping or pairs, **named)
Dict* dict_from(const Call& c) {
  const Value made(c.run.heap.dict());
  call(*find_method(made, "update"), c.run, made, c.all);
  return made.dict;
}

Value make_dict(const Call& c) { return Value(dict_from(c)); }
Value make_namespace(const Call& c) { return Value(c.run.heap.object<Namespace>(dict_from(c))); }

Value raise_exception(const Call& c) { throw Fault{FaultKind::Refused, c.run.budget.line, c.text(0, "")}; }

Value strftime_now(const Call& c) {
  try {
    return c.run.text(format_date_time(c.run.now, c.string(0)));
  } catch (const Error& error) {
    c.run.fault(error.what());
  }
}

// Returns its items one after the other, and again from the first.
class Cycler : public Object {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {}
  const char* type_name() const override { return "Cycler"; }
  std::optional<Value> attribute(Run& run, std::string_view name) override {
    if (name == "current") return items_[at_];
    if (name == "next") return Value(run.heap.object<Step>(*this, true));
    if (name == "reset") return Value(run.heap.object<Step>(*this, false));
    return std::nullopt;
  }

 private:
  class Step : public Object {
   public:
    Step(Cycler& of, bool forward) : of_(of), forward_(forward) {}
    const char* type_name() const override { return "method"; }
    bool is_callable() const override { return true; }
    Value call(Run&, const Arguments&) override {
      const Value current = forward_ ? of_.items_[of_.at_] : Value::none();
      of_.at_ = forward_ ? (of_.at_ + 1) % of_.items_.size() : 0;
      return current;
    }

   private:
    Cycler& of_;
    bool forward_;
  };

  std::vector<Value> items_;
  size_t at_ = 0;
};

Value make_cycler(const Call& c) {
  if (c.all.positional.empty()) c.run.fault("cycler: at least one item has to be provided");
  c.run.budget.allocate(c.all.positional.size() * sizeof(Value));
  return Value(c.run.heap.object<Cycler>(c.all.positional));
}

// Returns nothing the first time and its separator from then on.
class Joiner : public Object {
 public:
  explicit Joiner(Value separator) : separator_(separator) {}
  const char* type_name() const override { return "Joiner"; }
  bool is_callable() const override { return true; }
  Value call(Run& run, const Arguments&) override {
    if (std::exchange(used_, true)) return separator_;
    return run.text("");
  }

 private:
  Value separator_;
  bool used_ = false;
};

Value make_joiner(const Call& c) { return Value(c.run.heap.object<Joiner>(c.has(0) ? c.at(0) : c.run.text(", "))); }

constexpr Builtin kGlobals[] = {
    {"cycler", make_cycler, "*"},
    {"dict", make_dict, "*"},
    {"joiner", make_joiner, "sep"},
    {"namespace", make_namespace, "*"},
    {"raise_exception", raise_exception, "message", 1},
    {"range", range, "start stop step", 1},
    {"strftime_now", strftime_now, "format", 1},
};

}  // namespace

std::optional<Value> global(Run& run, std::string_view name) {
  for (const Builtin& builtin : kGlobals) {
    if (name == builtin.name) return Value(run.heap.object<Method>(Value(), builtin));
  }
  return std::nullopt;
}

}  // namespace moiety::jinja
