#include "spec/tokenizer_spec.h"

#include "base/error.h"

namespace moiety::spec {

void check(const TokenizerSpec& spec, const std::string& where) {
  require(spec.tokens.size() <= kMostTokens, "{}: {} tokens; at most {} are allowed", where,
          spec.tokens.size(), kMostTokens);
  const auto is_token = [&](int32_t id) {
    return id >= 0 && static_cast<size_t>(id) < spec.tokens.size() && !spec.tokens[id].empty();
  };
  for (const TokenizerSpec::Merge& merge : spec.merges) {
    require(is_token(merge.left) && is_token(merge.right) && is_token(merge.result),
            "{}: a merge of {} and {} to {}, not all of which are tokens", where, merge.left,
            merge.right, merge.result);
  }
  for (const AddedToken& added : spec.added) {
    require(is_token(added.id) && spec.tokens[added.id] == added.content,
            "{}: added token \"{}\" is not the token of its id {}", where, added.content, added.id);
  }
  require(spec.unknown == -1 || is_token(spec.unknown), "{}: the unknown token's id {} is no token",
          where, spec.unknown);
  for (const std::vector<int32_t>* ids : {&spec.prefix, &spec.suffix}) {
    for (const int32_t id : *ids)
      require(is_token(id), "{}: the special id {} that is put around the text is no token", where,
              id);
  }
}

}  // namespace moiety::spec
