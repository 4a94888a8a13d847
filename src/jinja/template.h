// A Jinja template as published chat templates use it: the language of jinja2 3.1 with transformers' settings and additions
// (trim_blocks, lstrip_blocks, break and continue, generation blocks, its tojson, raise_exception, strftime_now).
// Rendering is bounded in time, memory and depth, whatever the template says.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "jinja/budget.h"
#include "jinja/context.h"
#include "jinja/date_time.h"

namespace moiety::jinja {

// One sentence with the template's name and line.
class TemplateError : public Error {
 public:
  TemplateError(FaultKind fault, int line, const std::string& message)
      : Error(ErrorKind::Input, message), fault_(fault), line_(line) {}
  FaultKind fault() const { return fault_; }
  int line() const { return line_; }

 private:
  FaultKind fault_;
  int line_;
};

struct Syntax;

// Any number of threads may render one Template at the same time.
class Template {
 public:
  // `name` is for error sentences. Throws TemplateError(Syntax).
  Template(std::string_view source, std::string name);
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  // Throws TemplateError.
  std::string render(const Context& context, const DateTime& now, const Limits& limits = {}) const;

 private:
  std::string name_;
  std::unique_ptr<const Syntax> syntax_;
};

}  // namespace moiety::jinja
