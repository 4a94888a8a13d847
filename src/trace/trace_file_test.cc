#include "trace/trace_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include "support/fixtures.h"
#include "support/random_trace.h"
#include "trace/trace_recorder.h"

namespace moiety::trace {
namespace {

using test::same;

std::vector<StepTrace> read_all(const fs::path& path) {
  TraceReader reader(path);
  std::vector<StepTrace> steps;
  for (StepTrace step; reader.next(step);) steps.push_back(step);
  return steps;
}

void write_all(const fs::path& path, const TraceHeader& header, std::span<const StepTrace> steps) {
  TraceWriter writer(path, header);
  for (const StepTrace& step : steps) writer.add(step);
}

// The first so many of `whole`.
bool is_beginning(const std::vector<StepTrace>& steps, const std::vector<StepTrace>& whole) {
  return steps.size() <= whole.size() &&
         std::equal(steps.begin(), steps.end(), whole.begin(), [](const StepTrace& a, const StepTrace& b) { return same(a, b); });
}

std::string message(const std::function<void()>& run, ErrorKind kind = ErrorKind::Input) {
  try {
    run();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  return "nothing was thrown";
}

// Two steps of three experts: one sequence of two tokens, then one token of another beside it.
const TraceHeader kSmall{"small", 3, {0, 2}, 3, 2};
std::vector<StepTrace> small_steps() {
  const moe::Routing two{3, {0, 2, 4}, {0, 1, 2, 1}, {0.5f, 0.25f, 1, 2}}, one{3, {0, 2, 3}, {1, 2, 0}, {}};
  return {{{{7, 0, 2, "code"}}, {two, two}}, {{{7, 2, 1, "code"}, {8, 0, 1, ""}}, {one, one}}};
}

TEST(TraceFile, WhatIsWrittenIsRead) {
  const test::TemporaryFolder folder;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const TraceHeader header = test::random_header(random);
    const auto steps = test::random_steps(random, header, random.below(20), 1 + random.below(6));
    const fs::path path = folder.path() / std::to_string(seed);
    write_all(path, header, steps);
    EXPECT_EQ(TraceReader(path).header(), header);
    const auto found = read_all(path);
    EXPECT_EQ(found.size(), steps.size());
    EXPECT_TRUE(is_beginning(found, steps));
  }
}

TEST(TraceFile, WeightsAreRoundedToBfloat16) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "t";
  const moe::Routing routing{3, {0, 1}, {2}, {0.333333f}};
  write_all(path, kSmall, std::vector<StepTrace>{{{{0, 0, 1, ""}}, {routing, routing}}});
  EXPECT_EQ(read_all(path).at(0).by_sparse_layer[0].weights_N[0], 0.333984375f);
}

TEST(TraceFile, AVisitTakesThreeBytes) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "t";
  Random random(1);
  const TraceHeader header{"m", 1, {0}, 128, 8};
  TraceWriter writer(path, header);
  const uint64_t before = writer.bytes();
  writer.add({{{0, 0, 1000, ""}}, {test::random_routing(random, 128, 1000, 8, false, true)}});
  EXPECT_LE(writer.bytes() - before, 8 * 1000 * 3 + 40);
  EXPECT_EQ(writer.bytes(), fs::file_size(path));
}

TEST(TraceFile, GoesOnWhereItWas) {
  const test::TemporaryFolder folder;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    const TraceHeader header = test::random_header(random);
    const auto steps = test::random_steps(random, header, 9, 5);
    const fs::path path = folder.path() / std::to_string(seed);
    write_all(path, header, std::span(steps).first(4));
    write_all(path, header, std::span(steps).subspan(4, 0));
    write_all(path, header, std::span(steps).subspan(4));
    const auto found = read_all(path);
    EXPECT_EQ(found.size(), steps.size());
    EXPECT_TRUE(is_beginning(found, steps));

    // Domains are named once, however often the file was opened.
    const fs::path in_one = folder.path() / "whole";
    fs::remove(in_one);
    write_all(in_one, header, steps);
    EXPECT_EQ(read_file(in_one), read_file(path));
  }
}

TEST(TraceFile, NewSequencesAreAboveThoseOfTheFile) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "t";
  write_all(path, kSmall, small_steps());
  TraceWriter writer(path, kSmall);
  EXPECT_EQ(writer.next_sequence(), 9u);
  TraceRecorder recorder(writer);
  EXPECT_EQ(recorder.new_sequence(), 9u);
  EXPECT_EQ(recorder.new_sequence(), 10u);
}

TEST(TraceFile, CutAnywhereItGivesTheWholeStepsAndGoesOn) {
  const test::TemporaryFolder folder;
  Random random(3);
  const TraceHeader header{"cut", 3, {0, 2}, 300, 2};
  const auto steps = test::random_steps(random, header, 5, 3);
  const fs::path path = folder.path() / "whole", cut = folder.path() / "cut";
  std::vector<uint64_t> ends;
  {
    TraceWriter writer(path, header);
    ends.push_back(writer.bytes());
    for (const StepTrace& step : steps) {
      writer.add(step);
      ends.push_back(writer.bytes());
    }
  }
  const std::string bytes = read_file(path);
  for (size_t size = 0; size <= bytes.size(); ++size) {
    SCOPED_TRACE(size);
    test::write_bytes(cut, std::string_view(bytes).substr(0, size));
    const auto whole = static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), size) - ends.begin());
    if (whole == 0) {
      EXPECT_NE(message([&] { TraceReader reader(cut); }), "nothing was thrown");
    } else {
      const auto found = read_all(cut);
      ASSERT_EQ(found.size(), whole - 1);
      ASSERT_TRUE(is_beginning(found, steps));
    }

    // What was lost is written again, and the file is what it would have been.
    const size_t there = whole == 0 ? 0 : whole - 1;
    write_all(cut, header, std::span(steps).subspan(there));
    ASSERT_EQ(read_file(cut), bytes);
  }
}

TEST(TraceFile, AnyByteThatIsWrongIsNoticed) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "t";
  auto steps = small_steps();
  steps.push_back(steps[1]);
  write_all(path, kSmall, steps);
  const std::string good = read_file(path);
  // The last record begins where a trace without it ends.
  const fs::path shorter = folder.path() / "shorter";
  write_all(shorter, kSmall, std::span(steps).first(2));
  const size_t last = fs::file_size(shorter);

  for (size_t at = 0; at < good.size(); ++at) {
    for (const int flip : {1, 2, 0x80, 0xff}) {
      SCOPED_TRACE(fmt::format("byte {} xor {}", at, flip));
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ flip);
      test::write_bytes(path, bad);
      try {
        const auto found = read_all(path);
        EXPECT_GE(at, last);
        EXPECT_EQ(found.size(), 2u);
        EXPECT_TRUE(is_beginning(found, steps));
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::Input);
      }
      // A writer refuses it as well, or takes the last record for one that was not finished.
      if (flip != 1) continue;
      try {
        TraceWriter writer(path, kSmall);
        EXPECT_GE(at, last);
        EXPECT_EQ(writer.bytes(), last);
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::Input);
        EXPECT_EQ(read_file(path), bad);
      }
    }
  }
}

TEST(TraceFile, ABrokenRecordIsNamedByItsPlace) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "t", first = folder.path() / "first";
  write_all(path, kSmall, small_steps());
  write_all(first, kSmall, {});
  const size_t begin = fs::file_size(first);
  std::string bytes = read_file(path);
  bytes[begin + 12] = static_cast<char>(bytes[begin + 12] ^ 1);
  test::write_bytes(path, bytes);
  EXPECT_EQ(message([&] { read_all(path); }),
            fmt::format("{}: the record at byte {} is broken: its checksum is wrong", path.string(), begin));
}

TEST(TraceFile, ZerosAtTheEndWereNeverWritten) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "t";
  write_all(path, kSmall, small_steps());
  const std::string good = read_file(path);
  test::write_bytes(path, good + std::string(5000, '\0'));
  EXPECT_EQ(read_all(path).size(), 2u);
  { TraceWriter writer(path, kSmall); }
  EXPECT_EQ(read_file(path), good);
  test::write_bytes(path, good + std::string(5000, '\0') + "x");
  EXPECT_NE(message([&] { read_all(path); }).find("is broken"), std::string::npos);
}

TEST(TraceFile, WhatIsNoTraceOrOfAnotherModelIsLeftAsItIs) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "t";
  test::write_bytes(path, "dear diary, today the experts were busy");
  EXPECT_NE(message([&] { TraceWriter(path, kSmall); }).find("not a routing trace"), std::string::npos);
  EXPECT_EQ(read_file(path), "dear diary, today the experts were busy");

  fs::remove(path);
  write_all(path, kSmall, small_steps());
  TraceHeader other = kSmall;
  other.num_experts = 4;
  EXPECT_NE(message([&] { TraceWriter(path, other); }).find("a trace of small (2 layers, 3 experts), not of small (2 layers, 4 experts)"),
            std::string::npos);
  other = kSmall;
  other.sparse_layers.clear();
  EXPECT_EQ(message([&] { TraceWriter(folder.path() / "dense", other); }), "small: a dense model has no routing to trace");
  EXPECT_FALSE(fs::exists(folder.path() / "dense"));
  message([&] { TraceWriter(folder.path(), kSmall); }, ErrorKind::Io);
  message([&] { TraceWriter("/dev/null", kSmall); }, ErrorKind::Io);
  message([&] { TraceReader(folder.path() / "none"); }, ErrorKind::Io);
}

TEST(TraceFile, AModelIsCalledByTheLastOfItsPath) {
  EXPECT_EQ(model_name("quick/run/"), "run");
  EXPECT_EQ(model_name("quick/run"), "run");
  EXPECT_EQ(model_name("models/../olmoe.gguf"), "olmoe.gguf");
}

TEST(TraceFile, OnlyOneMayWrite) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "t";
  const TraceWriter writer(path, kSmall);
  EXPECT_NE(message([&] { TraceWriter(path, kSmall); }, ErrorKind::Io).find("another process is writing it"), std::string::npos);
}

// Records with right checksums and wrong content.
TEST(TraceFile, ContentIsCheckedAsWell) {
  using namespace std::string_literals;
  DomainTable domains;
  StepTrace step;
  const auto decode = [&](const std::string& bytes) {
    domains = {""};
    decode_step(std::as_bytes(std::span(bytes)), "x", kSmall, domains, step);
  };
  // One part: sequence 5, position 0, one token, domain 0; two layers of one visit without weights.
  decode("\1\1\5\0\1\0\2\1\0\2\1\2"s);
  EXPECT_EQ(step.by_sparse_layer[1].experts_N, std::vector<int32_t>{2});
  EXPECT_EQ(message([&] { decode("\0\1\5\0\1\0\2\1\0\2\1\2"s); }), "x: expected a step");
  EXPECT_EQ(message([&] { decode("\1\1\5\0\1\0\2\1\3\2\1\2"s); }), "x: expert 3 of 3");
  EXPECT_EQ(message([&] { decode("\1\1\5\0\1\0\2\2\1\1\2\1\2"s); }), "x: a token visits expert 1 twice");
  EXPECT_EQ(message([&] { decode("\1\1\5\0\1\0\2\4\0\2\1\2"s); }), "x: experts of a token is 4, expected 1 to 3");
  EXPECT_EQ(message([&] { decode("\1\1\5\0\1\2\2\1\0\2\1\2"s); }), "x: a domain is 2, expected 0 to 1");
  EXPECT_EQ(message([&] { decode("\1\1\5\0\1\0\2\1\0\2\1\2\0"s); }), "x: 1 bytes too many");
  EXPECT_EQ(message([&] { decode("\1\1\5\0\1\0\4\1\0\2\1\2"s); }), "x: unknown flags 4");
  EXPECT_EQ(message([&] { decode("\1\1\5\0\xff\xff\xff\7\0\2\1\0\2\1\2"s); }), "x: 16777215 tokens in 5 bytes");
  EXPECT_EQ(message([&] { decode("\1\1\xff\xff\xff\xff\xff\xff\xff\xff\xff\2\0\1\0\2\1\0\2\1\2"s); }),
            "x: a sequence: a number of more than 64 bits");
  const auto header = [&](const std::string& bytes) { decode_header(std::as_bytes(std::span(bytes)), "x"); };
  header("\0\1\2\1\1\x8\2\1m"s);
  EXPECT_EQ(message([&] { header("\0\2\2\1\1\x8\2\1m"s); }), "x: the version is 2, expected 1 to 1");
  EXPECT_EQ(message([&] { header("\0\1\2\1\2\x8\2\1m"s); }), "x: a sparse layer is 2, expected 0 to 1");
  EXPECT_EQ(message([&] { header("\0\1\2\2\1\1\x8\2\1m"s); }), "x: a sparse layer is 1, expected 2 to 1");
  EXPECT_EQ(message([&] { header("\0\1\2\1\1\x8\x9\1m"s); }), "x: experts per token is 9, expected 1 to 8");
}

TEST(TraceRecorder, KeepsThePassWithoutWhatIsSkipped) {
  const test::TemporaryFolder folder;
  const fs::path path = folder.path() / "t";
  {
    TraceWriter writer(path, kSmall);
    TraceRecorder recorder(writer);
    recorder.set_domain("german");
    const moe::Routing routing{3, {0, 2, 3, 5}, {0, 1, 2, 1, 0}, {1, 2, 3, 4, 5}};
    recorder.begin({{0, 0, 3, ""}});
    recorder.add(0, routing);
    recorder.begin({{0, 0, 3, ""}});  // the first pass came to nothing
    recorder.add(0, routing);
    recorder.add(2, routing);
    recorder.end();
    recorder.begin({{1, 5, 2, "code"}}, 1);
    const auto observe = recorder.observer();
    observe(0, routing);
    observe(2, routing);
    recorder.end();
    EXPECT_EQ(recorder.steps(), 2u);
    EXPECT_EQ(recorder.tokens(), 5u);
  }
  const auto steps = read_all(path);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_EQ(steps[0].parts[0].domain, "german");
  EXPECT_EQ(steps[0].num_tokens(), 3);
  EXPECT_EQ(steps[1].parts[0], (Part{1, 5, 2, "code"}));
  EXPECT_TRUE(same(steps[1].by_sparse_layer[1], moe::Routing{3, {0, 1, 3}, {2, 1, 0}, {3, 4, 5}}));
}

}  // namespace
}  // namespace moiety::trace
