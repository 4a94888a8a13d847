#include "text/word_count.h"

#include <algorithm>

#include "base/thread_pool.h"
#include "text/splitter.h"
#include "text/utf8.h"

namespace moiety::text {
namespace {

constexpr size_t kBlockBytes = size_t{1} << 20;
// Blocks counted in parallel before they are added up: a number of its own, so that what is
// forgotten when there are too many words does not depend on the number of threads.
constexpr size_t kBlocksPerRound = 16;

// Documents cut at line ends into parts of about a block.
std::vector<std::string_view> parts_of(std::span<const std::string_view> documents) {
  std::vector<std::string_view> parts;
  for (std::string_view document : documents) {
    while (document.size() > kBlockBytes) {
      const size_t line_end = document.find('\n', kBlockBytes);
      if (line_end == document.npos) break;
      parts.push_back(document.substr(0, line_end + 1));
      document.remove_prefix(line_end + 1);
    }
    if (!document.empty()) parts.push_back(document);
  }
  return parts;
}

// Consecutive parts of about a block each: where every block begins, and the end.
std::vector<size_t> block_begins(const std::vector<std::string_view>& parts) {
  std::vector<size_t> begins = {0};
  size_t bytes = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    bytes += parts[i].size();
    if (bytes < kBlockBytes && i + 1 < parts.size()) continue;
    begins.push_back(i + 1);
    bytes = 0;
  }
  return begins;
}

void add(WordCounts& counts, std::string_view word, int64_t count) {
  if (const auto known = counts.find(word); known != counts.end()) {
    known->second += count;
  } else {
    counts.emplace(word, count);
  }
}

WordCounts count_block(std::span<const std::string_view> parts, const Splitter& splitter) {
  WordCounts counts;
  Splitter::Scratch scratch;
  for (const std::string_view part : parts) {
    const std::string repaired = is_valid_utf8(part) ? std::string() : replace_invalid(part);
    for (std::string_view word : splitter.split(repaired.empty() ? part : repaired, true, scratch)) {
      for (; word.size() > kLongestWord; word.remove_prefix(kLongestWord))
        add(counts, word.substr(0, kLongestWord), 1);
      add(counts, word, 1);
    }
  }
  return counts;
}

// Keeps the most frequent words; among equals the first in byte order.
void forget_rarest(WordCounts& counts) {
  std::vector<std::pair<int64_t, std::string_view>> order;
  for (const auto& [word, count] : counts) order.emplace_back(-count, word);
  std::nth_element(order.begin(), order.begin() + kMostWords, order.end());
  WordCounts kept;
  for (size_t i = 0; i < kMostWords; ++i) kept.emplace(order[i].second, -order[i].first);
  counts = std::move(kept);
}

}  // namespace

WordCounts count_words(std::span<const std::string_view> documents,
                       const std::vector<spec::PreTokenizer>& steps, int threads,
                       const std::function<void(size_t done)>& progress) {
  const Splitter splitter(steps);
  const std::vector<std::string_view> parts = parts_of(documents);
  const std::vector<size_t> begins = block_begins(parts);
  const size_t blocks = begins.size() - 1;

  ThreadPool pool(threads);
  WordCounts counts;
  size_t done = 0;
  for (size_t first = 0; first < blocks; first += kBlocksPerRound) {
    std::vector<WordCounts> round(std::min(kBlocksPerRound, blocks - first));
    pool.parallel_for(round.size(), [&](size_t i) {
      const size_t begin = begins[first + i], end = begins[first + i + 1];
      round[i] = count_block(std::span(parts).subspan(begin, end - begin), splitter);
    });
    for (const WordCounts& block : round) {
      for (const auto& [word, count] : block) add(counts, word, count);
    }
    if (counts.size() > 2 * kMostWords) forget_rarest(counts);
    for (size_t i = begins[first]; i < begins[first + round.size()]; ++i) done += parts[i].size();
    progress(done);
  }
  if (counts.size() > kMostWords) forget_rarest(counts);
  return counts;
}

}  // namespace moiety::text
