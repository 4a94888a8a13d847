// Which tokens end a chat answer, and which are part of its text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "text/chat_template.h"
#include "text/reply.h"
#include "text/tokenizer.h"

namespace moiety::text {

// All that the configuration names (`ends`), and what the template closes a turn with: GGUF files name only one end.
std::vector<int32_t> stop_tokens(std::span<const int32_t> ends, const ChatTemplate& chat_template, const ReplyFormat& format,
                                 const Tokenizer& tokenizer);

// Special tokens are not part of an answer, unless they mark its parts.
bool is_shown(int32_t token, const ReplyFormat& format, const Tokenizer& tokenizer);

}  // namespace moiety::text
