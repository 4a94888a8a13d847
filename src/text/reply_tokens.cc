#include "text/reply_tokens.h"

#include <string>

namespace moiety::text {

std::vector<int32_t> stop_tokens(std::span<const int32_t> ends, const ChatTemplate& chat_template, const ReplyFormat& format,
                                 const Tokenizer& tokenizer) {
  std::vector<int32_t> stops(ends.begin(), ends.end());
  const auto add = [&](const std::string& token) {
    const auto id = tokenizer.find(token);
    if (id && tokenizer.is_special(*id)) stops.push_back(*id);
  };
  const auto& tokens = chat_template.tokens();
  if (const auto end = tokens.find("eos_token"); end != tokens.end()) add(end->second);
  std::vector<std::string> turn_ends = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|return|>", "<|call|>"};
  if (!format.channels) turn_ends.push_back("<|end|>");
  for (const std::string& token : turn_ends) {
    if (chat_template.source(false).find(token) != std::string::npos) add(token);
  }
  return stops;
}

bool is_shown(int32_t token, const ReplyFormat& format, const Tokenizer& tokenizer) {
  return !tokenizer.is_special(token) || format.is_marker(tokenizer.token_bytes(token));
}

}  // namespace moiety::text
