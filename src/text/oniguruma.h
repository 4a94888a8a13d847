// The regular expressions in tokenizer.json are Oniguruma's (Ruby's); ours are run by PCRE2. This
// rewrites the few things that the two understand differently.
#pragma once

#include <string>
#include <string_view>

namespace moiety::text {

// Throws Error(Input) naming what can't be expressed.
std::string pcre2_from_oniguruma(std::string_view pattern);

}  // namespace moiety::text
