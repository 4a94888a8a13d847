// A grammar as the engine sees it: which tokens may come next, stop tokens exactly where the text may end.
#pragma once

#include <memory>
#include <vector>

#include "engine/request.h"
#include "grammar/compiled_grammar.h"

namespace moiety::server {

class TokenGrammar : public engine::TokenConstraint {
 public:
  // Throws Error(Input) if there is no stop token: a text that is complete could not end.
  TokenGrammar(std::shared_ptr<grammar::CompiledGrammar> grammar, std::vector<int32_t> stop_tokens);

  // All three throw Error(Input), which ends the request: an ambiguous grammar that takes too long, a vocabulary that can't
  // write what must come.
  bool allows(int32_t token) override;
  void mask(std::span<float> logits_V) override;
  void accept(int32_t token) override;

  // Whether the text is, or may be, over.
  bool may_end() const { return position_.may_end(); }

 private:
  bool is_stop(int32_t token) const;

  grammar::CompiledGrammar::Position position_;
  const std::vector<int32_t> stop_tokens_;
};

}  // namespace moiety::server
