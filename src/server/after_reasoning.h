// A model that thinks before it answers is held to a grammar only when it answers.
#pragma once

#include <memory>

#include "engine/request.h"
#include "server/output_rule.h"
#include "text/reply.h"
#include "text/tokenizer.h"

namespace moiety::server {

// `constraint` from where the reasoning ends, if an answer of this format begins in it; else `constraint` itself. Calls are
// marked by themselves where there are channels, and held to their grammar from the beginning.
std::unique_ptr<engine::TokenConstraint> after_reasoning(std::unique_ptr<engine::TokenConstraint> constraint, const OutputRule& rule,
                                                         const text::ReplyFormat& format, const text::Tokenizer& tokenizer);

}  // namespace moiety::server
