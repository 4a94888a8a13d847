#include "grammar/tool_grammar.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "grammar/json_text.h"
#include "text/utf8.h"

namespace moiety::grammar {
namespace {

class Builder {
 public:
  Builder(const ToolFormat& format, const ToolGrammarOptions& options) : format_(format), options_(options), json_(grammar_) {}

  Grammar build(std::span<const Tool> tools) {
    require(!tools.empty(), "tools: there is none to call");
    require(!options_.text_before || !format_.open.empty(), "tools: without a marker before it no call can follow a text");
    std::vector<Expr> ways;
    for (const Tool& tool : tools) ways.push_back(call_of(tool));
    const Expr call = grammar_.rule("call", grammar_.choice(std::move(ways)));

    const Expr first = inside(call);
    const Expr block = grammar_.sequence({marker(format_.open), first});
    // Without a marker between them two calls would not be JSON.
    const bool repeats = options_.several && !format_.is_list && !format_.open.empty();
    const Expr others = repeats ? grammar_.repeat(grammar_.sequence({json_.space(), block}), 0) : grammar_.empty();
    const RuleId root = grammar_.add_rule("tools");
    const Expr after_open = grammar_.rule("calls", grammar_.sequence({first, others}));
    grammar_.define(root, options_.text_before ? text_until_open(after_open) : grammar_.sequence({block, others}));
    grammar_.set_root(root);
    return std::move(grammar_);
  }

 private:
  Expr arguments_of(const Tool& tool) {
    if (tool.parameters.is_null() || tool.parameters.empty()) return json_.object();
    return json_schema(json_, tool.parameters, options_.schemas);
  }

  Expr call_of(const Tool& tool) {
    const Expr arguments = arguments_of(tool);
    if (!format_.separator.empty()) return grammar_.sequence({grammar_.text(tool.name), marker(format_.separator), arguments});
    return grammar_.sequence({grammar_.text("{"), json_.space(),
                              json_.member(json_.string_of(format_.name_key), json_.string_of(tool.name)), json_.comma(),
                              json_.member(json_.string_of(format_.arguments_key), arguments), json_.space(), grammar_.text("}")});
  }

  // What follows the opening marker, the closing one included.
  Expr inside(Expr call) {
    const Expr calls = format_.is_list ? json_.list("[", call, "]", 1, options_.several ? kUnlimited : 1) : call;
    if (format_.open.empty() && format_.close.empty()) return calls;
    const Expr before = format_.open.empty() ? grammar_.empty() : json_.space();
    const Expr after = format_.close.empty() ? grammar_.empty() : json_.space();
    return grammar_.sequence({before, calls, after, marker(format_.close)});
  }

  // The longest special token that the text begins with; empty if there is none.
  std::string_view special_at(std::string_view text) const {
    std::string_view longest;
    for (const std::string& token : options_.special_tokens) {
      if (token.size() > longest.size() && text.starts_with(token)) longest = token;
    }
    return longest;
  }

  Expr marker(std::string_view text) {
    std::vector<Expr> parts;
    for (std::string_view rest = text; !rest.empty();) {
      const std::string_view special = special_at(rest);
      if (special.empty()) {
        parts.push_back(grammar_.text(rest.substr(0, 1)));
      } else {
        parts.push_back(grammar_.choice({grammar_.text(special), grammar_.special_token(special)}));
      }
      rest.remove_prefix(std::max<size_t>(special.size(), 1));
    }
    return grammar_.sequence(std::move(parts));
  }

  // Text up to the first marker, then what comes after it: the automaton of Knuth, Morris and Pratt (1977), a rule for each number
  // of characters of the marker that the text ends with.
  Expr text_until_open(Expr after) {
    std::u32string open;
    for (size_t at = 0; at < format_.open.size();) {
      const text::Utf8Char c = text::utf8_char(format_.open, at);
      open += c.code;
      at += c.bytes;
    }
    const std::set<char32_t> letters(open.begin(), open.end());
    std::vector<CodeRange> known;
    for (const char32_t letter : letters) known.push_back({letter, letter});
    const Expr others = grammar_.set(CodeSet(std::move(known)).complement());

    bool has_special = false;
    for (size_t at = 0; at < format_.open.size(); ++at) has_special |= !special_at(std::string_view(format_.open).substr(at)).empty();
    std::vector<RuleId> matched;
    for (size_t i = 0; i < open.size(); ++i) matched.push_back(grammar_.add_rule("text"));
    for (size_t i = 0; i < open.size(); ++i) {
      std::vector<Expr> ways = {grammar_.sequence({others, grammar_.call(matched[0])})};
      if (has_special) ways.push_back(grammar_.sequence({marker(format_.open), after}));
      for (const char32_t letter : letters) {
        const size_t next = longest_end(open.substr(0, i) + letter, open);
        const Expr here = grammar_.set(CodeSet(letter, letter));
        ways.push_back(grammar_.sequence({here, next == open.size() ? after : grammar_.call(matched[next])}));
      }
      grammar_.define(matched[i], grammar_.choice(std::move(ways)));
    }
    return grammar_.call(matched[0]);
  }

  // How much of the beginning of `open` the text ends with.
  static size_t longest_end(const std::u32string& text, const std::u32string& open) {
    size_t length = std::min(text.size(), open.size());
    while (!text.ends_with(open.substr(0, length))) --length;
    return length;
  }

  const ToolFormat& format_;
  const ToolGrammarOptions& options_;
  Grammar grammar_;
  JsonText json_;
};

}  // namespace

Grammar tool_grammar(std::span<const Tool> tools, const ToolFormat& format, const ToolGrammarOptions& options) {
  return Builder(format, options).build(tools);
}

}  // namespace moiety::grammar
