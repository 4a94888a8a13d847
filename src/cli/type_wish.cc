#include "cli/type_wish.h"

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "format/elements.h"

namespace moiety::cli {

spec::ElementType parse_type(const std::string& name, const std::string& option) {
  std::string upper = name;
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  const auto type = spec::from_name(upper);
  if (!type || !format::can_write(*type)) {
    fail(ErrorKind::Usage, "{}: {} is none of {}", option, upper, format::writable_type_names());
  }
  return *type;
}

format::TypeWish parse_type_wish(const std::string& text, bool whole_numbers) {
  const size_t equals = text.rfind('=');
  if (equals == text.npos || equals == 0) fail(ErrorKind::Usage, "--tensor {}: expected PATTERN=TYPE", text);
  const spec::ElementType type = parse_type(text.substr(equals + 1), "--tensor " + text);
  const std::string pattern = text.substr(0, equals);
  try {
    return {text, std::regex(whole_numbers ? "(?:" + pattern + ")(?![0-9])" : pattern), type};
  } catch (const std::regex_error&) {
    fail(ErrorKind::Usage, "--tensor {}: {} is no regular expression", text, pattern);
  }
}

}  // namespace moiety::cli
