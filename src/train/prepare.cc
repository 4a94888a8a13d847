#include "train/prepare.h"

#include <xxhash.h>

#include <algorithm>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "corpus/documents.h"
#include "format/tokenizer_json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_trainer.h"

namespace moiety::train {
namespace {

// Where a domain's validation text is held out of its training text, longer documents are cut at a line's end, so that
// one big file has something to hold out too.
constexpr size_t kHeldOutPiece = 16 << 10;
constexpr size_t kBatchBytes = 4 << 20;  // of text that is tokenised at once

enum class Part { Train, Valid };
const char* name_of(Part part) { return part == Part::Train ? "train" : "valid"; }

uint64_t hash_text(std::string_view text, uint64_t seed) { return XXH64(text.data(), text.size(), seed); }

using Visit = std::function<void(std::string_view)>;

void for_each_piece(std::string_view document, const Visit& visit) {
  while (document.size() > kHeldOutPiece) {
    const size_t newline = document.find('\n', kHeldOutPiece);
    if (newline == document.npos) break;
    visit(document.substr(0, newline + 1));
    document.remove_prefix(newline + 1);
  }
  if (!document.empty()) visit(document);
}

// The documents of one part of a domain.
void for_each_document(const DomainConfig& domain, Part part, double held_out, const Visit& visit) {
  if (!domain.valid.empty()) {
    corpus::for_each_document(part == Part::Train ? domain.train : domain.valid, visit);
    return;
  }
  const auto for_each = [&](const Visit& body) {
    corpus::for_each_document(domain.train, [&](std::string_view document) { for_each_piece(document, body); });
  };
  // By hash, so that a piece stays where it is when text is added; at least the one with the smallest hash.
  uint64_t smallest = UINT64_MAX;
  for_each([&](std::string_view piece) { smallest = std::min(smallest, hash_text(piece, 0)); });
  const auto limit = static_cast<uint64_t>(held_out * 10000);
  for_each([&](std::string_view piece) {
    const uint64_t hash = hash_text(piece, 0);
    const bool is_valid = hash == smallest || hash % 10000 < limit;
    if (is_valid == (part == Part::Valid)) visit(piece);
  });
}

uint64_t size_of(const fs::path& path) {
  uint64_t bytes = 0;
  for (const fs::path& file : corpus::list_files(path)) bytes += fs::file_size(file);
  return bytes;
}

// Of all bytes of a file or folder.
uint64_t fingerprint_of(const fs::path& path) {
  uint64_t hash = 0;
  for (const fs::path& file : corpus::list_files(path)) hash = hash_text(MappedFile(file).text(), hash);
  return hash;
}

uint64_t combine(uint64_t hash, uint64_t with) { return XXH64(&with, sizeof with, hash); }

uint64_t fingerprint_of(const DomainConfig& domain, Part part, double held_out) {
  const bool own_file = part == Part::Valid && !domain.valid.empty();
  const uint64_t hash = combine(fingerprint_of(fs::path(own_file ? domain.valid : domain.train)),
                                static_cast<uint64_t>(part));
  return domain.valid.empty() ? combine(hash, static_cast<uint64_t>(held_out * 10000)) : hash;
}

// A sample of every domain's training text, each as large as the others if it has so much.
std::string train_new_tokenizer(const TrainConfig& config, int threads) {
  const size_t budget = static_cast<size_t>(config.tokenizer.sample_mb) << 20;
  std::vector<std::string> sample;
  size_t bytes = 0;
  for (const DomainConfig& domain : config.domains) {
    const double share = static_cast<double>(budget / config.domains.size()) /
                         std::max(1.0, static_cast<double>(size_of(domain.train)));
    for_each_document(domain, Part::Train, config.validate.held_out, [&](std::string_view document) {
      for_each_piece(document, [&](std::string_view piece) {
        if (static_cast<double>(hash_text(piece, 1) >> 11) * 0x1p-53 >= share) return;
        sample.emplace_back(piece);
        bytes += piece.size();
      });
    });
  }
  require(bytes > 0, "the domains hold no text");

  std::optional<Progress> progress;
  std::string shown;
  const std::vector<std::string_view> texts(sample.begin(), sample.end());
  const text::TrainerOptions options{.vocab_size = static_cast<int>(config.tokenizer.vocab_size),
                                     .special_tokens = {config.tokenizer.end_of_text},
                                     .threads = threads};
  return format::write_tokenizer_json(
      text::train_tokenizer(texts, options, [&](std::string_view stage, double done, double total) {
        if (shown != stage) progress.emplace(shown = stage, total, stage == "count words" ? "B" : "tokens");
        progress->update(done);
      }));
}

void prepare_tokenizer(const TrainConfig& config, const fs::path& path, int threads) {
  if (!config.tokenizer.file.empty()) {
    const std::string text = read_file(config.tokenizer.file);
    if (!fs::exists(path) || read_file(path) != text) write_file(path, text);
    return;
  }
  uint64_t hash = combine(static_cast<uint64_t>(config.tokenizer.vocab_size),
                          static_cast<uint64_t>(config.tokenizer.sample_mb));
  for (const DomainConfig& domain : config.domains) {
    hash = combine(hash, fingerprint_of(domain, Part::Train, config.validate.held_out));
  }
  // Beside the tokenizer lies what it was made from.
  const fs::path origin = path.parent_path() / "data" / "tokenizer.origin";
  const std::string mark = fmt::format("{:016x}\n", hash);
  if (fs::exists(path) && fs::exists(origin) && read_file(origin) == mark) return;
  write_file(path, train_new_tokenizer(config, threads));
  write_file(origin, mark);
}

// Tokenises a few megabytes at a time on all threads; documents keep their order.
class ShardMaker {
 public:
  ShardMaker(const text::Tokenizer& tokenizer, int end_of_text, ShardWriter& writer, ThreadPool& pool)
      : tokenizer_(tokenizer), end_of_text_(end_of_text), writer_(writer), pool_(pool) {}

  void add(std::string_view document) {
    bytes_ += document.size();
    documents_.emplace_back(document);
    if (bytes_ >= kBatchBytes) flush();
  }
  void flush() {
    std::vector<std::vector<int32_t>> ids(documents_.size());
    pool_.parallel_for(documents_.size(), [&](size_t i) { ids[i] = tokenizer_.encode(documents_[i], false); });
    for (size_t i = 0; i < ids.size(); ++i) writer_.add_document(end_of_text_, ids[i], documents_[i].size());
    documents_.clear();
    bytes_ = 0;
  }

 private:
  const text::Tokenizer& tokenizer_;
  int end_of_text_;
  ShardWriter& writer_;
  ThreadPool& pool_;
  std::vector<std::string> documents_;
  size_t bytes_ = 0;
};

class ShardBuilder {
 public:
  ShardBuilder(const TrainConfig& config, const text::Tokenizer& tokenizer, uint64_t tokenizer_hash, int end_of_text,
               ThreadPool& pool)
      : config_(config), tokenizer_(tokenizer), tokenizer_hash_(tokenizer_hash), end_of_text_(end_of_text),
        pool_(pool) {}

  std::unique_ptr<Shard> shard(const DomainConfig& domain, Part part) const {
    const fs::path path =
        fs::path(config_.run.dir) / "data" / fmt::format("{}.{}.tokens", domain.name, name_of(part));
    const double held_out = config_.validate.held_out;
    const uint64_t fingerprint = combine(tokenizer_hash_, fingerprint_of(domain, part, held_out));
    if (shard_fingerprint(path) != fingerprint) build(domain, part, path, fingerprint);
    auto shard = std::make_unique<Shard>(path);
    if (part == Part::Valid) shard->check_tokens();  // scores are of all of it
    return shard;
  }

 private:
  void build(const DomainConfig& domain, Part part, const fs::path& path, uint64_t fingerprint) const {
    const std::string source = part == Part::Valid && !domain.valid.empty() ? domain.valid : domain.train;
    Progress progress("tokens of " + domain.name, static_cast<double>(size_of(source)), "B");
    ShardWriter writer(path, {fingerprint, static_cast<uint64_t>(tokenizer_.vocab_size())});
    ShardMaker maker(tokenizer_, end_of_text_, writer, pool_);
    size_t bytes = 0;
    for_each_document(domain, part, config_.validate.held_out, [&](std::string_view document) {
      maker.add(document);
      progress.update(static_cast<double>(bytes += document.size()));
    });
    maker.flush();
    writer.commit();
  }

  const TrainConfig& config_;
  const text::Tokenizer& tokenizer_;
  uint64_t tokenizer_hash_;
  int end_of_text_;
  ThreadPool& pool_;
};

}  // namespace

PreparedData prepare_data(const TrainConfig& config, int threads) {
  require(!config.domains.empty(), "the configuration names no text: it needs at least one [[domain]]");
  const fs::path dir = config.run.dir;
  fs::create_directories(dir / "data");

  PreparedData data{.tokenizer = dir / "tokenizer.json"};
  prepare_tokenizer(config, data.tokenizer, threads);
  const std::string text = read_file(data.tokenizer);
  const text::Tokenizer tokenizer(format::read_tokenizer_json(text, data.tokenizer.string()));
  data.vocab_size = tokenizer.vocab_size();
  const std::optional<int32_t> end_of_text = tokenizer.find(config.tokenizer.end_of_text);
  require(end_of_text.has_value(), "{}: the tokenizer has no token \"{}\" (tokenizer.end_of_text)",
          data.tokenizer.string(), config.tokenizer.end_of_text);
  data.end_of_text = *end_of_text;

  ThreadPool pool(threads);
  const ShardBuilder builder(config, tokenizer, hash_text(text, 0), data.end_of_text, pool);
  for (const DomainConfig& domain : config.domains) {
    data.domains.push_back(
        {domain.name, domain.weight, builder.shard(domain, Part::Train), builder.shard(domain, Part::Valid)});
  }
  return data;
}

}  // namespace moiety::train
