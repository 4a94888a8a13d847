// What sentencepiece makes of a text before it splits it: its table of replacements, white space
// that is trimmed, a space put before it, spaces written as ▁.
#pragma once

#include <string>
#include <string_view>

#include "spec/tokenizer_spec.h"
#include "text/added_tokens.h"
#include "text/charsmap.h"

namespace moiety::text {

// `kept` stay as they are written. `text` must be valid UTF-8.
void append_like_sentencepiece(const spec::Normalizer& step, const Charsmap& charsmap,
                               const AddedTokens& kept, std::string_view text, std::string& out);

}  // namespace moiety::text
