// moiety bench: how fast a model runs here, and how much of what this machine can do that is.
#include <algorithm>
#include <chrono>

#include "base/json.h"
#include "base/progress.h"
#include "base/random.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/open_model.h"
#include "engine/generate.h"

namespace moiety::cli {
namespace {

constexpr const char* kHelp =
    "Prefill and decode speed of a model with random tokens, beside two limits of the machine measured in the same run:\n"
    "how fast all threads read memory, and what the matrix kernel reaches on data in the cache.\n\n"
    "example: moiety bench model.gguf --prompt 512 --new 64";

constexpr size_t kReadBytes = size_t{512} << 20;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

template <class Body>
double seconds_of(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Bytes a second that all threads read together from memory, far larger than the caches.
double read_bandwidth(const kernel::Compute& compute, const Matrix<float>& memory) {
  constexpr size_t kPiece = 1 << 16;  // floats
  const auto values = memory.flat();
  const size_t half = values.size() / 2, pieces = half / kPiece;
  std::vector<float> sums(pieces);
  const double seconds = seconds_of([&] {
    compute.threads.parallel_for(pieces, [&](size_t i) {
      sums[i] = compute.kernels.dot(&values[i * kPiece], &values[half + i * kPiece], kPiece);
    });
  });
  return static_cast<double>(2 * pieces * kPiece * sizeof(float)) / seconds;
}

// FLOP a second of the matrix kernel in f32 on operands that stay in the first-level cache.
double kernel_peak(const kernel::Compute& compute) {
  constexpr size_t kTokens = 12, kRows = 16, kCols = 256, kRounds = 4000;
  const size_t threads = static_cast<size_t>(compute.threads.size());
  std::vector<Matrix<float>> x, w, y;
  for (size_t i = 0; i < threads; ++i) x.emplace_back(kTokens, kCols), w.emplace_back(kRows, kCols), y.emplace_back(kTokens, kRows);
  const double seconds = seconds_of([&] {
    compute.threads.parallel_for(threads, [&](size_t i) {
      const kernel::WeightView view{spec::ElementType::F32, reinterpret_cast<const std::byte*>(w[i].flat().data()), kRows, kCols};
      const float* rows[kTokens];
      for (size_t t = 0; t < kTokens; ++t) rows[t] = x[i].row(t).data();
      for (size_t round = 0; round < kRounds; ++round) {
        compute.kernels.linear(rows, kTokens, view, 0, kRows, y[i].flat().data(), kRows);
      }
    });
  });
  return 2.0 * kTokens * kRows * kCols * kRounds * static_cast<double>(threads) / seconds;
}

// Bytes of weights that one token at batch 1 reads.
double bytes_per_token(const format::ModelFile& file) {
  const spec::ModelSpec& spec = file.spec();
  double bytes = 0;
  for (const spec::Weight& weight : spec::weights_of(spec, true)) {
    if (weight.role == spec::Role::Embedding && !spec.tied_embeddings) continue;
    const double size = static_cast<double>(file.weight(weight).bytes.size());
    const double share = static_cast<double>(spec.moe.router.experts_per_token) / std::max(1, spec.moe.router.num_experts);
    bytes += spec::is_expert(weight.role) ? size * share : size;
  }
  return bytes;
}

// FLOP of one token of a prompt, whose logits nobody asks for.
double prefill_flops(const spec::ModelSpec& spec) {
  return 2.0 * static_cast<double>(spec.active_parameters() - int64_t{spec.vocab_size} * spec.width);
}

struct Measured {
  double prefill = 0, decode = 0;      // tokens/s
  double bandwidth = 0, peak = 0;      // bytes/s, FLOP/s
};

Measured measure(OpenModel& model, size_t prompt_tokens, size_t new_tokens, int runs) {
  const spec::ModelSpec& spec = model.file.spec();
  Random random(1);
  std::vector<int32_t> prompt(prompt_tokens);
  for (int32_t& token : prompt) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size)));
  const engine::GenerateOptions options{.max_new_tokens = new_tokens + 1, .sampling = {.temperature = 1, .seed = 1}, .kv = model.kv};

  Matrix<float> memory(kReadBytes / sizeof(float) / 1024, 1024);
  std::vector<double> prefill, decode, bandwidth, peak;
  Progress progress("bench", runs + 1, "runs");
  for (int run = 0; run <= runs; ++run) {  // the first warms up and does not count
    progress.update(run);
    const auto result = engine::generate(model.transformer, prompt, options);
    const double read = read_bandwidth(model.compute, memory), flops = kernel_peak(model.compute);
    if (run == 0) continue;
    prefill.push_back(static_cast<double>(prompt_tokens) / result.prefill_seconds);
    decode.push_back(static_cast<double>(result.tokens.size() - 1) / result.decode_seconds);
    bandwidth.push_back(read);
    peak.push_back(flops);
  }
  return {median(prefill), median(decode), median(bandwidth), median(peak)};
}

}  // namespace

int bench(int argc, char** argv) {
  ModelArguments arguments;
  size_t prompt_tokens = 512, new_tokens = 64;
  int runs = 3;
  bool json = false;
  CLI::App app(kHelp, "moiety bench");
  arguments.add_to(app);
  const auto* prompt_option = app.add_option("--prompt", prompt_tokens, "tokens of the prompt")->capture_default_str()->check(CLI::Range(1, 1 << 20));
  app.add_option("--new", new_tokens, "tokens to decode")->capture_default_str()->check(CLI::Range(1, 1 << 20));
  app.add_option("--runs", runs, "the median of so many runs, after one to warm up")->capture_default_str()->check(CLI::Range(1, 100));
  app.add_flag("--json", json, "one JSON object");
  if (const auto status = parse(app, argc, argv)) return *status;

  OpenModel model(arguments);
  const spec::ModelSpec& spec = model.file.spec();
  // The default makes room for the new tokens in a small model's context.
  const size_t room = static_cast<size_t>(std::max(0, spec.max_positions - 1));
  if (prompt_option->empty() && room > new_tokens) prompt_tokens = std::min(prompt_tokens, room - new_tokens);
  require(prompt_tokens + new_tokens < static_cast<size_t>(spec.max_positions),
          "{} tokens of prompt and {} new ones do not fit the model's context of {}; lower --prompt or --new", prompt_tokens,
          new_tokens, spec.max_positions);
  const Measured m = measure(model, prompt_tokens, new_tokens, runs);
  const double token_bytes = bytes_per_token(model.file), token_flops = prefill_flops(spec);
  const double decode_share = m.decode * token_bytes / m.bandwidth, prefill_share = m.prefill * token_flops / m.peak;

  if (json) {
    fmt::print("{}\n", Json{{"model", arguments.model},
                            {"kernels", model.compute.kernels.name},
                            {"threads", model.threads.size()},
                            {"prompt_tokens", prompt_tokens},
                            {"new_tokens", new_tokens},
                            {"prefill_tokens_per_second", m.prefill},
                            {"decode_tokens_per_second", m.decode},
                            {"bytes_per_token", token_bytes},
                            {"read_bytes_per_second", m.bandwidth},
                            {"decode_share_of_bandwidth", decode_share},
                            {"flop_per_token", token_flops},
                            {"kernel_flop_per_second", m.peak},
                            {"prefill_share_of_kernel_peak", prefill_share}}
                           .dump());
    return 0;
  }
  fmt::print("{}: {} parameters, {} active; {} kernels, {} threads, median of {} runs\n", arguments.model,
             short_number(static_cast<double>(spec.parameters())), short_number(static_cast<double>(spec.active_parameters())),
             model.compute.kernels.name, model.threads.size(), runs);
  fmt::print("prefill {:5} tokens {:>10.1f} tokens/s  {:>8}FLOP/s, {:.0f} % of the kernel's {}FLOP/s in cache\n", prompt_tokens,
             m.prefill, short_number(m.prefill * token_flops), 100 * prefill_share, short_number(m.peak));
  fmt::print("decode  {:5} tokens {:>10.1f} tokens/s  {:>8}B/s, {:.0f} % of the {}B/s that memory gives\n", new_tokens, m.decode,
             short_number(m.decode * token_bytes), 100 * decode_share, short_number(m.bandwidth));
  return 0;
}

}  // namespace moiety::cli
