// Unicode normal forms, in time linear in the text (a long run of combining marks included).
#pragma once

#include <string>
#include <string_view>

#include "spec/tokenizer_spec.h"

namespace moiety::text {

// `text` must be valid UTF-8.
std::string normalize(std::string_view text, spec::NormalForm form);

// Whether normalize() could change the text; a cheap look that may err on the side of true.
bool may_need_normalizing(std::string_view text, spec::NormalForm form);

}  // namespace moiety::text
