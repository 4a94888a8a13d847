#include "engine/cache_room.h"

#include <algorithm>

#include "engine/prompt_file.h"

namespace moiety::engine {
namespace {

using model::KvCache;
using model::KvPage;

constexpr size_t kMostKnown = 1024;
// Fewer tokens than these are not worth remembering.
constexpr size_t kLeastKnown = 16;

bool is_same(const std::shared_ptr<const model::RouterOverride>& a, const std::shared_ptr<const model::RouterOverride>& b) {
  return a == b || (a && b && *a == *b);
}

size_t same_at_first(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

}  // namespace

CacheRoom::CacheRoom(const spec::ModelSpec& spec, const Options& options)
    : spec_(spec), options_(options), pool_(model::kv_shape(spec, options.kv), KvPage::count_for(options.cache_tokens)) {}

// An empty one.
KvCache CacheRoom::cache_for(const Sequence& sequence) const {
  return {pool_, spec_, model::KvOptions{sequence.most_tokens(options_.context), options_.kv, sequence.prompt()}};
}

CacheRoom::Terms CacheRoom::terms_of(const Sequence& sequence) const {
  const size_t original = static_cast<size_t>(spec_.attention.rope.scaling.original_positions);
  return {sequence.prompt(), sequence.most_tokens(options_.context) > original, sequence.request.router};
}

// Of these tokens, how many a sequence whose cache is this may take over; one at least is left for it to compute, so that there are logits.
size_t CacheRoom::in_common(const Sequence& sequence, const KvCache& cache, std::span<const int32_t> tokens, const Terms& terms) const {
  const bool wants_all = sequence.request.prompt_logprobs || sequence.request.kind == Request::Kind::Embed;
  if (!options_.share_prefixes || wants_all) return 0;
  const Terms own = terms_of(sequence);
  if (terms.is_long != own.is_long || !is_same(terms.router, own.router)) return 0;
  const size_t same = std::min(same_at_first(tokens, sequence.tokens), sequence.tokens.size() - 1);
  return cache.adoptable(same, terms.prompt);
}

CacheRoom::Match CacheRoom::best_match(const Sequence& sequence, const KvCache& cache, const Running& running) const {
  Match best;
  for (auto known = known_.begin(); known != known_.end(); ++known) {
    const size_t tokens = in_common(sequence, cache, known->tokens, known->terms);
    if (tokens > best.tokens) best = {tokens, known->pages, known};
  }
  for (const auto& other : running) {
    const size_t tokens = in_common(sequence, cache, std::span(other->tokens).first(other->computed()), terms_of(*other));
    if (tokens > best.tokens) best = {tokens, other->cache->pages(), {}};
  }
  return best;
}

size_t CacheRoom::known(const Sequence& sequence, const Running& running) const {
  return best_match(sequence, cache_for(sequence), running).tokens;
}

size_t CacheRoom::shareable(const Sequence& sequence, const Sequence& other) const {
  return in_common(sequence, cache_for(sequence), other.request.prompt, terms_of(other));
}

bool CacheRoom::admit(Sequence& sequence, const Running& running) {
  KvCache cache = cache_for(sequence);
  const Match match = best_match(sequence, cache, running);
  cache.adopt(match.pages, match.tokens);
  if (match.known) known_.splice(known_.end(), known_, *match.known);
  // All of it must fit, or it would soon be put aside again.
  if (!reserve(cache, sequence.tokens.size() - cache.length())) return false;
  sequence.cache.emplace(std::move(cache));
  return true;
}

bool CacheRoom::grow(Sequence& sequence, size_t tokens) { return reserve(*sequence.cache, tokens); }

bool CacheRoom::reserve(KvCache& cache, size_t tokens) {
  while (!cache.reserve(tokens)) {
    if (!forget_a_page()) return false;
  }
  return true;
}

// The last page of what was not used for longest, of those whose memory is nobody else's if there are any. False if nothing is
// known any more.
bool CacheRoom::forget_a_page() {
  if (known_.empty()) return false;
  auto oldest = std::ranges::find_if(known_, [](const Known& known) { return known.pages.back().use_count() == 1; });
  if (oldest == known_.end()) oldest = known_.begin();
  oldest->pages.pop_back();
  oldest->tokens.resize(std::min(oldest->tokens.size(), oldest->pages.size() * KvPage::kPositions));
  if (oldest->pages.empty()) known_.erase(oldest);
  return true;
}

void CacheRoom::put_aside(Sequence& sequence) {
  if (options_.share_prefixes) learn(sequence);
  sequence.cache.reset();
}

void CacheRoom::learn(const Sequence& sequence) {
  const size_t computed = sequence.computed();
  if (computed < kLeastKnown) return;
  Known fresh{.terms = terms_of(sequence)};
  fresh.tokens.assign(sequence.tokens.begin(), sequence.tokens.begin() + static_cast<std::ptrdiff_t>(computed));
  fresh.pages.assign(sequence.cache->pages().begin(), sequence.cache->pages().end());
  // What it goes on from need not be known by itself.
  std::erase_if(known_, [&](const Known& old) {
    return old.terms.is_long == fresh.terms.is_long && is_same(old.terms.router, fresh.terms.router) &&
           old.terms.prompt <= fresh.terms.prompt && same_at_first(old.tokens, fresh.tokens) == old.tokens.size();
  });
  known_.push_back(std::move(fresh));
  if (known_.size() > kMostKnown) known_.pop_front();
}

void CacheRoom::save(const fs::path& file, const std::string& model) const {
  std::vector<SavedPrompt> prompts;
  // Those used last first: what does not fit when it is read are the last.
  for (auto known = known_.rbegin(); known != known_.rend(); ++known) {
    if (!known->terms.router) prompts.push_back({known->tokens, known->pages, known->terms.prompt, known->terms.is_long});
  }
  write_prompts(file, model, pool_.layout().shape, prompts);
}

void CacheRoom::load(const fs::path& file, const std::string& model) {
  for (SavedPrompt& saved : read_prompts(file, model, pool_)) {
    known_.push_front({std::move(saved.tokens), std::move(saved.pages), {saved.prompt, saved.is_long, nullptr}});
  }
}

}  // namespace moiety::engine
