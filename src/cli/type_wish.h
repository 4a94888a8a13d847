// Types as command lines name them: for all, or for tensors in whose name a pattern is found.
#pragma once

#include <string>

#include "format/quantize_plan.h"

namespace moiety::cli {

// "q4_k" -> Q4_K. Throws Error(Usage) that begins with `option` unless moiety writes it.
spec::ElementType parse_type(const std::string& name, const std::string& option);

// "PATTERN=TYPE" of --tensor. With `whole_numbers` no match ends within a number: blk\.1 is not found in blk.17. Throws
// Error(Usage).
format::TypeWish parse_type_wish(const std::string& text, bool whole_numbers = false);

}  // namespace moiety::cli
