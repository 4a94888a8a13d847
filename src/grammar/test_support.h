// For the tests of this folder and of server: texts run through grammars byte by byte.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "grammar/matcher.h"

namespace moiety::grammar {

inline Matcher matcher_of(const Grammar& grammar) {
  return Matcher(std::make_shared<const Automaton>(compile(grammar)));
}

// Whether the grammar has exactly this text, and whether it has one that begins so.
inline bool accepts(Matcher& matcher, std::string_view text, bool whole = true) {
  Matcher::State state = matcher.start();
  for (const char c : text) state = matcher.step(state, static_cast<uint8_t>(c));
  return whole ? matcher.may_end(state) : state != Matcher::kDead;
}
inline bool accepts(const Grammar& grammar, std::string_view text) {
  Matcher matcher = matcher_of(grammar);
  return accepts(matcher, text);
}

// A text of the grammar by chance, of some `length` bytes: behind them bytes that lead to an end are preferred, so that it ends.
inline std::string random_text_of(Matcher& matcher, Random& random, size_t length, size_t most = 20'000) {
  static constexpr std::string_view kEnders = "\"}],:0123456789 aeZ-";
  std::string text;
  Matcher::State state = matcher.start();
  while (text.size() < most) {
    std::vector<uint8_t> next;
    for (int byte = 0; byte < 256; ++byte) {
      if (matcher.step(state, static_cast<uint8_t>(byte)) != Matcher::kDead) next.push_back(static_cast<uint8_t>(byte));
    }
    if (matcher.may_end(state) && (next.empty() || text.size() >= length || random.below(4) == 0)) return text;
    if (next.empty()) return text + "<stuck>";
    uint8_t byte = next[random.below(next.size())];
    if (text.size() >= length) {
      for (const char ender : kEnders) {
        if (matcher.step(state, static_cast<uint8_t>(ender)) == Matcher::kDead) continue;
        byte = static_cast<uint8_t>(ender);
        break;
      }
    }
    text += static_cast<char>(byte);
    state = matcher.step(state, byte);
  }
  return text + "<endless>";
}

}  // namespace moiety::grammar
