#include "text/chat_template.h"

#include <cassert>

namespace moiety::text {

ChatTemplate::ChatTemplate(const std::map<std::string, std::string>& sources, std::map<std::string, std::string> tokens,
                           const std::string& where)
    : tokens_(std::move(tokens)) {
  assert(!sources.empty());
  for (const auto& [name, source] : sources) {
    const std::string title = name == "default" ? where : where + " (" + name + ")";
    templates_.emplace(name, Named{source, jinja::Template(source, title)});
  }
}

const ChatTemplate::Named& ChatTemplate::chosen(bool with_tools) const {
  const auto with = templates_.find("tool_use");
  if (with_tools && with != templates_.end()) return with->second;
  const auto plain = templates_.find("default");
  return plain != templates_.end() ? plain->second : templates_.begin()->second;
}

const std::string& ChatTemplate::source(bool with_tools) const { return chosen(with_tools).source; }

std::string ChatTemplate::render(const jinja::Context& context, const jinja::DateTime& now) const {
  jinja::Context full;
  full.assign(context);
  for (const auto& [name, text] : tokens_) {
    if (!full.has(name)) full.set_text(name, text);
  }
  for (const char* name : {"tools", "documents"}) {
    if (!full.has(name)) full.set(name, Json());
  }
  return chosen(full.has_something("tools")).parsed.render(full, now);
}

}  // namespace moiety::text
