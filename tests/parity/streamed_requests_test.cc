// Many requests over experts that are read from the disk: a read that fails is the matter of those who need it.
#include <gtest/gtest.h>

#include <fstream>

#include "engine/engine.h"
#include "support/fixtures.h"
#include "support/heard.h"
#include "support/packed_file.h"

namespace moiety::engine {
namespace {

using test::Heard;

constexpr int kLayer = 1, kExpert = 2;  // whose bytes go bad

struct Model {
  explicit Model(size_t slots)
      : threads(2), compute{*kernel::available_kernels()[0], threads, kernel::Arithmetic::Fast}, file(packed()), transformer(file, compute) {
    model::StreamedExperts& experts = transformer.streamed_experts();
    experts.open({.room = experts.room_for(slots)});
  }
  format::ModelFile packed() const {
    test::write_packed(format::ModelFile(*test::fixture("models/olmoe/bf16")), path);
    return format::ModelFile(path);
  }
  // Turns a bit of the expert's weights, or turns it back, as a disk does: the file's time tells nothing.
  void flip() const {
    const auto time = test::fs::last_write_time(path);
    const auto place = file.packed_expert({spec::Role::ExpertUp, kLayer, kExpert})->place;
    std::fstream stream(path, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(static_cast<std::streamoff>(place.offset + 100));
    const char byte = static_cast<char>(stream.get() ^ 1);
    stream.seekp(static_cast<std::streamoff>(place.offset + 100));
    stream.put(byte);
    stream.close();
    test::fs::last_write_time(path, time);
  }
  // One that always visits the expert, or never.
  Request request(int number, bool visits_it) const {
    Request request;
    for (int i = 0; i < 20 + 7 * number; ++i) request.prompt.push_back(3 + (5 * i + 11 * number) % 40);
    request.max_new_tokens = 40;
    request.sampling.temperature = 0.9f;
    request.sampling.seed = static_cast<uint64_t>(number);
    const spec::ModelSpec& spec = file.spec();
    auto router = std::make_shared<model::RouterOverride>();
    router->bias_LE.resize(static_cast<size_t>(spec.num_layers * spec.moe.router.num_experts));
    router->bias_LE[static_cast<size_t>(kLayer * spec.moe.router.num_experts + kExpert)] = visits_it ? 1000.0f : -1000.0f;
    request.router = std::move(router);
    return request;
  }

  test::TemporaryFolder folder;
  test::fs::path path = folder.path() / "packed.gguf";
  ThreadPool threads;
  kernel::Compute compute;
  format::ModelFile file;
  model::Transformer transformer;
};

constexpr int kRequests = 6;
bool visits(int number) { return number % 3 == 1; }  // the bad expert

std::vector<std::shared_ptr<Heard>> ask_all(Engine& engine, const Model& model) {
  std::vector<std::shared_ptr<Heard>> heard;
  for (int i = 0; i < kRequests; ++i) engine.submit(model.request(i, visits(i)), heard.emplace_back(std::make_shared<Heard>()));
  for (const auto& one : heard) one->wait();
  return heard;
}

TEST(StreamedRequests, AReadThatFailsEndsThoseWhoNeedItAndNobodyElse) {
  std::vector<std::vector<int32_t>> alone;
  {
    const Model whole(0);
    Model one(0);
    Engine engine(one.transformer, {.context = 256, .max_running = 1, .share_prefixes = false});
    for (const auto& heard : ask_all(engine, whole)) alone.push_back(heard->tokens);
  }
  for (const size_t slots : {0, 5, 12}) {
    Model model(slots);
    model.flip();
    Engine engine(model.transformer, {.context = 256, .max_running = 4, .step_tokens = 40});
    for (int round = 0; round < 3; ++round) {
      if (round == 2) model.flip();  // and the disk is well again
      const auto heard = ask_all(engine, model);
      for (int i = 0; i < kRequests; ++i) {
        const bool fails = visits(i) && round < 2;
        EXPECT_EQ(heard[i]->outcome.stop, fails ? Outcome::Stop::Failed : Outcome::Stop::Length) << "request " << i << " with " << slots << " slots, round " << round << ": " << heard[i]->outcome.error;
        if (fails) {
          EXPECT_NE(heard[i]->outcome.error.find("layer 1's expert 2"), std::string::npos) << heard[i]->outcome.error;
        } else {
          EXPECT_EQ(heard[i]->tokens, alone[i]) << "request " << i << " with " << slots << " slots, round " << round;
        }
      }
    }
  }
}

}  // namespace
}  // namespace moiety::engine
