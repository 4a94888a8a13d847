#include "engine/cache_room.h"

namespace moiety::engine {

CacheRoom::CacheRoom(const spec::ModelSpec& spec, const Options& options) : spec_(spec), options_(options) {}

bool CacheRoom::admit(Sequence& sequence) {
  sequence.cache.emplace(spec_, model::KvOptions{sequence.most_tokens(options_.context), options_.kv, sequence.prompt()});
  return true;
}

size_t CacheRoom::known(const Sequence&) const { return 0; }

bool CacheRoom::may_share(const Sequence&, const Sequence&) const { return false; }

bool CacheRoom::grow(Sequence&, size_t) { return true; }

void CacheRoom::put_aside(Sequence& sequence) { sequence.cache.reset(); }

}  // namespace moiety::engine
