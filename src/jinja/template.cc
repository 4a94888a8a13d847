#include "jinja/template.h"

#include <algorithm>

#include "jinja/interpreter.h"
#include "jinja/parser.h"

namespace moiety::jinja {
namespace {

const char* words_for(FaultKind kind) {
  switch (kind) {
    case FaultKind::Syntax:
      return "the template has a syntax error";
    case FaultKind::Refused:
      return "the template refuses";
    case FaultKind::Operation:
      return "the template fails";
    case FaultKind::Budget:
      return "the template is stopped";
  }
  return "";
}

[[noreturn]] void say(const std::string& name, Fault fault) {
  std::replace(fault.what.begin(), fault.what.end(), '\n', ' ');
  constexpr size_t kLongest = 1000;
  if (fault.what.size() > kLongest) fault.what.resize(kLongest);
  throw TemplateError(fault.kind, fault.line,
                      fmt::format("{}, line {}: {}: {}", name, fault.line, words_for(fault.kind), fault.what));
}

}  // namespace

Template::Template(std::string_view source, std::string name) : name_(std::move(name)) {
  auto syntax = std::make_unique<Syntax>();
  try {
    parse(source, *syntax);
  } catch (Fault& fault) {
    say(name_, std::move(fault));
  }
  syntax_ = std::move(syntax);
}

Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

std::string Template::render(const Context& context, const DateTime& now, const Limits& limits) const {
  // Methods such as append() change values; the context is given for reading.
  Context own;
  own.assign(context);
  Run run(limits, now);
  try {
    return Interpreter(*syntax_, own.values(), run).render();
  } catch (Fault& fault) {
    say(name_, std::move(fault));
  }
}

}  // namespace moiety::jinja
