// How skewed a model's routing is along one text: of random token ids from one topic after the other (moiety bench --tokens
// topics), layer by layer.
//
//   build/release/bin/routing MODEL [TOKENS]
#include <fmt/core.h>

#include <cstdlib>
#include <thread>

#include "base/error.h"
#include "bench/skew.h"
#include "bench/tokens.h"
#include "model/transformer.h"

namespace moiety {
namespace {

void print_routing(const char* path, size_t tokens) {
  const format::ModelFile file(path);
  const spec::ModelSpec& spec = file.spec();
  ThreadPool threads(static_cast<int>(std::thread::hardware_concurrency()));
  model::Transformer transformer(file, {*kernel::available_kernels()[0], threads, kernel::Arithmetic::Fast});
  require(tokens > 1 && tokens < static_cast<size_t>(spec.max_positions), "{} tokens do not fit the model's context of {}", tokens,
          spec.max_positions);

  bench::SkewCounter counter(spec.num_layers, spec.moe.router.num_experts);
  model::KvCache cache(spec, tokens);
  constexpr size_t kStep = 512;
  const auto ids = bench::draw_tokens(bench::TokenKind::Topics, spec.vocab_size, {}, tokens);
  for (size_t at = 0; at < tokens; at += kStep) {
    const model::Chunk chunk{&cache, std::span(ids).subspan(at, std::min(kStep, tokens - at))};
    transformer.forward({&chunk, 1},
                        [&](int layer, const moe::Routing& routing) { counter.add_routing(layer, routing); });
  }

  fmt::print("layer  exponent  experts of the token before  by chance  ratio\n");
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    if (spec.feed_forward[static_cast<size_t>(layer)] != spec::FeedForward::Moe) continue;
    const bench::Skew skew = counter.skew_of(layer);
    fmt::print("{:>5} {:>9.2f} {:>26.1f} % {:>8.1f} % {:>6.2f}\n", layer, skew.exponent, 100 * skew.repeats,
               100 * skew.repeats_by_chance, skew.repeats / skew.repeats_by_chance);
  }
}

}  // namespace
}  // namespace moiety

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) return fmt::print(stderr, "routing MODEL [TOKENS]\n"), 2;
  try {
    moiety::print_routing(argv[1], argc == 3 ? std::strtoull(argv[2], nullptr, 10) : 4096);
  } catch (const moiety::Error& error) {
    return fmt::print(stderr, "routing: {}\n", error.what()), 1;
  }
}
