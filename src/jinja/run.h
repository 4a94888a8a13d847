// One rendering, as functions see it: what it may still use, where new values go, what time it is.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "jinja/date_time.h"
#include "jinja/print.h"
#include "jinja/value.h"

namespace moiety::jinja {

class Run {
 public:
  Run(const Limits& limits, const DateTime& time) : budget(limits), heap(budget), now(time) {}
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;

  [[noreturn]] void fault(std::string what) const { budget.fault(std::move(what)); }

  Value call(const Value& function, const Arguments& arguments);
  // A filter or test by name, as map() and select() use them.
  Value filter(std::string_view name, const Value& input, const Arguments& arguments);
  bool test(std::string_view name, const Value& input, const Arguments& arguments);

  // str(): of undefined the empty text.
  std::string str(const Value& value);
  std::string repr(const Value& value);
  Value text(std::string text, bool markup = false) { return heap.text(std::move(text), markup); }

  // What a loop over the value visits. Uses an iterator up; throws Fault for what cannot be walked over.
  std::vector<Value> items(const Value& value);
  int64_t length(const Value& value);

  Budget budget;
  Heap heap;
  const DateTime now;
};

}  // namespace moiety::jinja
