#include "text/tokenizer_trainer.h"

#include <algorithm>
#include <queue>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "text/byte_alphabet.h"
#include "text/word_count.h"

namespace moiety::text {
namespace {

using spec::TokenizerSpec;

uint64_t key_of(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

struct KeyHash {
  size_t operator()(uint64_t key) const { return key * 0x9e3779b97f4a7c15u >> 16; }
};

struct Candidate {
  int64_t count;
  int32_t left, right;
  // For a heap whose top is the most frequent, among equals the one of smaller ids.
  bool operator<(const Candidate& other) const {
    if (count != other.count) return count < other.count;
    return key_of(left, right) > key_of(other.left, other.right);
  }
};

// The words of the corpus as ids, and every pair of neighbours with its count.
class PairCounts {
 public:
  void add_word(const std::vector<int32_t>& ids, int64_t count) {
    const uint32_t word = static_cast<uint32_t>(words_.size());
    words_.push_back({ids_.size(), ids.size(), count});
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    for (size_t i = 0; i + 1 < ids.size(); ++i) add(ids[i], ids[i + 1], word);
  }

  int64_t count(int32_t left, int32_t right) const {
    const auto it = pairs_.find(key_of(left, right));
    return it == pairs_.end() ? 0 : it->second.count;
  }

  std::vector<Candidate> candidates() const {
    std::vector<Candidate> all;
    for (const auto& [key, pair] : pairs_)
      all.push_back({pair.count, static_cast<int32_t>(key >> 32), static_cast<int32_t>(key)});
    return all;
  }

  // Puts `result` in the place of the pair wherever it stands. Returns the pairs that this made,
  // all with `result`.
  std::vector<Candidate> join(int32_t left, int32_t right, int32_t result) {
    const auto joined = pairs_.extract(key_of(left, right));
    made_.clear();
    for (const uint32_t word : joined.mapped().words) join_in_word(word, left, right, result);

    std::vector<Candidate> made;
    for (const uint64_t key : made_) {
      const auto it = pairs_.find(key);
      if (it != pairs_.end() && it->second.count > 0)
        made.push_back(
            {it->second.count, static_cast<int32_t>(key >> 32), static_cast<int32_t>(key)});
    }
    return made;
  }

 private:
  struct Word {
    size_t begin, length;
    int64_t count;
  };
  struct Pair {
    int64_t count = 0;
    std::vector<uint32_t> words;  // where it stands or has stood, each once
  };

  void add(int32_t left, int32_t right, uint32_t word) {
    Pair& pair = pairs_[key_of(left, right)];
    if (pair.words.empty()) made_.push_back(key_of(left, right));
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
    pair.count += words_[word].count;
  }

  void remove(int32_t left, int32_t right, uint32_t word) {
    const auto it = pairs_.find(key_of(left, right));
    if (it == pairs_.end()) return;  // the pair being joined
    it->second.count -= words_[word].count;
    if (it->second.count == 0) pairs_.erase(it);
  }

  void join_in_word(uint32_t index, int32_t left, int32_t right, int32_t result) {
    Word& word = words_[index];
    int32_t* ids = ids_.data() + word.begin;
    size_t kept = 0;
    for (size_t i = 0; i < word.length;) {
      if (ids[i] != left || i + 1 == word.length || ids[i + 1] != right) {
        ids[kept++] = ids[i++];
        continue;
      }
      if (kept > 0) {
        remove(ids[kept - 1], left, index);
        add(ids[kept - 1], result, index);
      }
      if (i + 2 < word.length) {
        remove(right, ids[i + 2], index);
        add(result, ids[i + 2], index);
      }
      ids[kept++] = result;
      i += 2;
    }
    word.length = kept;
  }

  std::vector<int32_t> ids_;  // of all words, one after the other
  std::vector<Word> words_;
  std::unordered_map<uint64_t, Pair, KeyHash> pairs_;
  std::vector<uint64_t> made_;
};

void add_special_tokens(TokenizerSpec& spec, const std::vector<std::string>& contents) {
  for (const std::string& content : contents) {
    require(!content.empty(), "a special token can't be empty");
    require(std::find(spec.tokens.begin(), spec.tokens.end(), content) == spec.tokens.end(),
            "special token \"{}\" is named twice", content);
    const int32_t id = static_cast<int32_t>(spec.tokens.size());
    spec.added.push_back({.id = id, .content = content, .special = true});
    spec.tokens.push_back(content);
  }
}

// In the order of the printable characters, as GPT-2's vocabulary has them. Returns the id of each
// byte.
std::vector<int32_t> add_bytes(TokenizerSpec& spec) {
  std::vector<int> order(256);
  for (int byte = 0; byte < 256; ++byte) order[byte] = byte;
  std::sort(order.begin(), order.end(), [](int a, int b) {
    return printable_char(static_cast<uint8_t>(a)) < printable_char(static_cast<uint8_t>(b));
  });
  std::vector<int32_t> ids(256);
  for (const int byte : order) {
    ids[byte] = static_cast<int32_t>(spec.tokens.size());
    spec.tokens.push_back(to_printable(std::string(1, static_cast<char>(byte))));
    require(std::find(spec.tokens.begin(), spec.tokens.end() - 1, spec.tokens.back()) ==
                spec.tokens.end() - 1,
            "special token \"{}\" is the name of a byte", spec.tokens.back());
  }
  return ids;
}

PairCounts count_pairs(const WordCounts& words, const std::vector<int32_t>& byte_ids) {
  PairCounts pairs;
  std::vector<int32_t> ids;
  for (const auto& [word, count] : words) {
    ids.clear();
    for (const char c : word) ids.push_back(byte_ids[static_cast<uint8_t>(c)]);
    if (ids.size() > 1) pairs.add_word(ids, count);
  }
  return pairs;
}

void learn_merges(TokenizerSpec& spec, PairCounts& pairs, const TrainerOptions& options,
                  const TrainerProgress& progress) {
  std::unordered_set<std::string> known(spec.tokens.begin(), spec.tokens.end());
  const size_t wanted = static_cast<size_t>(options.vocab_size);
  std::priority_queue<Candidate> heap({}, pairs.candidates());
  while (spec.tokens.size() < wanted && !heap.empty() && heap.top().count >= options.min_count) {
    Candidate best = heap.top();
    heap.pop();
    // Counts only fall after a pair was made, so an old one is too high: put it back where it
    // belongs now.
    const int64_t count_now = pairs.count(best.left, best.right);
    if (count_now != best.count) {
      best.count = count_now;
      if (count_now > 0) heap.push(best);
      continue;
    }
    std::string text = spec.tokens[best.left] + spec.tokens[best.right];
    if (!known.insert(text).second) continue;

    const int32_t result = static_cast<int32_t>(spec.tokens.size());
    spec.tokens.push_back(std::move(text));
    spec.merges.push_back({best.left, best.right, result});
    for (const Candidate& made : pairs.join(best.left, best.right, result)) heap.push(made);
    if (progress)
      progress("learn tokens", static_cast<double>(spec.tokens.size()), options.vocab_size);
  }
}

}  // namespace

TokenizerSpec train_tokenizer(std::span<const std::string_view> documents,
                              const TrainerOptions& options, const TrainerProgress& progress) {
  const int least = 256 + static_cast<int>(options.special_tokens.size());
  require(options.vocab_size >= least && options.vocab_size <= spec::kMostTokens,
          "vocab_size must be from {} (256 bytes and {} special tokens) to {}, found {}", least,
          options.special_tokens.size(), spec::kMostTokens, options.vocab_size);
  TokenizerSpec spec;
  spec.pre_tokenizers = options.pre_tokenizers;
  add_special_tokens(spec, options.special_tokens);
  const std::vector<int32_t> byte_ids = add_bytes(spec);

  double total = 0;
  for (const std::string_view document : documents) total += static_cast<double>(document.size());
  const WordCounts words =
      count_words(documents, options.pre_tokenizers, options.threads, [&](size_t done) {
        if (progress) progress("count words", static_cast<double>(done), total);
      });
  PairCounts pairs = count_pairs(words, byte_ids);
  learn_merges(spec, pairs, options, progress);
  return spec;
}

}  // namespace moiety::text
