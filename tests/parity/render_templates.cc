// A line in, {"template": …, "context": {…}, "now": …}; a line out, {"text": …} or {"error": kind, "message": …}. What the
// programs that compare templates with other implementations run.
#include <iostream>

#include "jinja/print.h"
#include "jinja/run.h"
#include "jinja/template.h"

using namespace moiety;

namespace {

constexpr const char* kKinds[] = {"syntax", "refused", "operation", "budget"};

Json answer(const std::string& line) {
  const jinja::Context all = jinja::Context::parse(line, "line");
  const jinja::Value* source = all.values().find("template");
  const jinja::Value* given = all.values().find("context");
  const jinja::Value* now = all.values().find("now");
  require(source != nullptr && source->is_string() && given != nullptr, "expected a template and a context");

  // The context's own text, so that its order stays.
  jinja::Run run({}, {});
  std::string json;
  jinja::append_json(json, *given, {}, run.budget);
  try {
    const jinja::Template parsed(source->text(), "template");
    const auto time = now == nullptr ? jinja::DateTime{} : jinja::parse_date_time(now->text());
    return {{"text", parsed.render(jinja::Context::parse(json, "context"), time)}};
  } catch (const jinja::TemplateError& error) {
    return {{"error", kKinds[static_cast<int>(error.fault())]}, {"message", error.what()}};
  }
}

}  // namespace

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    std::cout << answer(line).dump(-1, ' ', false, Json::error_handler_t::replace) << '\n' << std::flush;
  }
}
