// How fast attention runs, against what the processor multiplies in registers and what memory gives, measured in between.
//
//   attention_benchmark [--threads N] [--runs N] [--depth N,N,…] [--kv f32,f16,bf16,q8] [--shape NAME,…]
//
// Prefill: 512 tokens of one sequence after `depth` others; work is 2 * (key dim + value dim) FLOP for a head of a token and a
// position it sees. Decode: one token after `depth` others; bytes are those of all keys and values. Then a whole layer of
// latent attention of DeepSeek-V2-Lite's sizes, its projections included, in its two ways (model/latent_attention.h).
#include <fmt/core.h>
#include <immintrin.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>

#include "base/bytes.h"
#include "base/random.h"
#include "model/attend.h"
#include "model/latent_attention.h"

namespace {

using namespace moiety;
using kernel::KvType;

struct Shape {
  const char* name;
  size_t heads, kv_heads, key_dim, value_dim;
};
constexpr Shape kShapes[] = {
    {"olmoe 16/16x128", 16, 16, 128, 128},
    {"qwen3-moe 32/4x128", 32, 4, 128, 128},
    {"gpt-oss 64/8x64", 64, 8, 64, 64},
    {"latent 16/1x576/512", 16, 1, 576, 512},
};
constexpr std::pair<const char*, KvType> kTypes[] = {
    {"f32", KvType::F32}, {"f16", KvType::F16}, {"bf16", KvType::BF16}, {"q8", KvType::Q8}};
constexpr size_t kPrompt = 512;
constexpr size_t kSums = 20;  // independent sums that hide the latency of a multiplication

template <class Body>
double seconds_of(const Body& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// kSums multiplications of two vectors in registers, `rounds` times; returns their FLOP.
__attribute__((target("avx512f,avx512bf16"))) double multiply_bf16(size_t rounds) {
  __m512 sums[kSums];
#pragma GCC unroll 20
  for (size_t k = 0; k < kSums; ++k) sums[k] = _mm512_setzero_ps();
  const __m512i bits = _mm512_set1_epi32(0x3f803f80);
  __m512bh one;
  std::memcpy(&one, &bits, sizeof one);
  for (size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 20
    for (size_t k = 0; k < kSums; ++k) {
      sums[k] = _mm512_dpbf16_ps(sums[k], one, one);
      asm volatile("" : "+v"(sums[k]));
    }
  }
  return static_cast<double>(rounds) * kSums * 64;
}
__attribute__((target("avx512f"))) double multiply_f32(size_t rounds) {
  __m512 sums[kSums];
  const __m512 one = _mm512_set1_ps(1);
#pragma GCC unroll 20
  for (size_t k = 0; k < kSums; ++k) sums[k] = one;
  for (size_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 20
    for (size_t k = 0; k < kSums; ++k) {
      sums[k] = _mm512_fmadd_ps(one, one, sums[k]);
      asm volatile("" : "+v"(sums[k]));
    }
  }
  return static_cast<double>(rounds) * kSums * 32;
}

// FLOP a second in registers.
double peak(ThreadPool& threads, bool bf16) {
  constexpr size_t kPieces = 16, kRounds = 20000;
  double flops = 0;
  const double seconds = seconds_of([&] {
    threads.parallel_for(kPieces, [&](size_t i) {
      const double done = bf16 ? multiply_bf16(kRounds) : multiply_f32(kRounds);
      if (i == 0) flops = done * kPieces;
    });
  });
  return flops / seconds;
}

__attribute__((target("avx512f"))) float read(std::span<const float> x) {
  __m512i sums[4] = {};
  for (size_t i = 0; i + 64 <= x.size(); i += 64) {
    for (size_t k = 0; k < 4; ++k) sums[k] = _mm512_xor_si512(sums[k], _mm512_loadu_si512(&x[i + 16 * k]));
  }
  return static_cast<float>(_mm512_reduce_or_epi32(_mm512_or_si512(_mm512_or_si512(sums[0], sums[1]), _mm512_or_si512(sums[2], sums[3]))));
}

// Bytes a second that all threads read from memory.

double bandwidth(ThreadPool& threads, std::span<const float> memory) {
  constexpr size_t kPiece = 1 << 18;
  std::vector<float> sums(memory.size() / kPiece);
  const double seconds = seconds_of([&] {
    threads.parallel_for(sums.size(), [&](size_t i) { sums[i] = read(memory.subspan(i * kPiece, kPiece)); });
  });
  return static_cast<double>(sums.size() * kPiece * sizeof(float)) / seconds;
}

struct Cache {
  model::KvCache kv;
  Matrix<float> query, mixed;
  Cache(ThreadPool& threads, const Shape& s, KvType type, size_t positions)
      : kv({type, 1, s.kv_heads, s.key_dim, s.value_dim}, positions),
        query(kPrompt, s.heads * s.key_dim),
        mixed(kPrompt, s.heads * s.value_dim) {
    kv.reserve(positions);
    Random random(1);
    std::vector<float> numbers(1 << 16);
    for (float& x : numbers) x = static_cast<float>(random.normal());
    for (size_t i = 0; i < query.flat().size(); ++i) query.flat()[i] = numbers[i * 7 % numbers.size()];
    threads.parallel_for(s.kv_heads, [&](size_t h) {
      for (size_t p = 0; p < positions; ++p) {
        const auto at = [&](size_t n, size_t salt) {
          return std::span(numbers).subspan((p * 1237 + h * 4099 + salt) % (numbers.size() - n), n);
        };
        kv.layer(0).put(h, p, at(s.key_dim, 0), at(s.value_dim, 17));
      }
    });
  }
};

double attend_seconds(const kernel::Compute& compute, const Shape& s, Cache& cache, size_t first, size_t tokens) {
  const model::AttendOptions options{.heads = s.heads, .scale = 0.1f};
  const model::AttendRun run{0, tokens, first, cache.kv.layer(0)};
  return seconds_of([&] {
    model::attend(compute, options, {&run, 1}, std::as_const(cache.query).view().middle_rows(0, tokens),
                  cache.mixed.view().middle_rows(0, tokens));
  });
}

double cache_bytes(const Shape& s, KvType type, size_t positions) {
  const double scales = type == KvType::Q8 ? 4.0 * static_cast<double>((s.key_dim + 127) / 128 + 1) : 0;
  const double numbers = static_cast<double>((s.key_dim + s.value_dim) * kernel::bytes_of(type));
  return static_cast<double>(positions * s.kv_heads) * (numbers + scales);
}

void measure(const kernel::Compute& compute, const Shape& s, const char* type_name, KvType type, size_t depth, int runs,
             std::span<const float> memory) {
  Cache cache(compute.threads, s, type, depth + kPrompt);
  const bool is_bf16 = kernel::pair_of(type) == 2;
  const double seen = static_cast<double>(kPrompt) * (static_cast<double>(depth) + (kPrompt + 1) / 2.0);
  const double flops = 2.0 * seen * static_cast<double>(s.heads * (s.key_dim + s.value_dim));
  std::vector<double> prefill, decode, peaks, reads;
  for (int run = 0; run <= runs; ++run) {
    peaks.push_back(peak(compute.threads, is_bf16));
    prefill.push_back(flops / attend_seconds(compute, s, cache, depth, kPrompt));
    if (depth == 0) continue;
    reads.push_back(bandwidth(compute.threads, memory));
    decode.push_back(cache_bytes(s, type, depth) / attend_seconds(compute, s, cache, depth - 1, 1));
  }
  fmt::print("{:<20} {:<5} {:>6}  {:7.1f} GFLOP/s {:4.0f} % of {:5.0f}", s.name, type_name, depth, median(prefill) / 1e9,
             100 * median(prefill) / median(peaks), median(peaks) / 1e9);
  if (depth > 0) {
    fmt::print("  {:6.1f} GB/s {:4.0f} % of {:5.1f}", median(decode) / 1e9, 100 * median(decode) / median(reads),
               median(reads) / 1e9);
  }
  fmt::print("\n");
  std::fflush(stdout);
}

// One layer of DeepSeek-V2-Lite.
struct LatentLayer {
  spec::ModelSpec spec;
  std::deque<std::vector<uint16_t>> bytes;
  model::AttentionWeights weights;
  kernel::PackedMemory packed;
  kernel::Compute compute;

  LatentLayer(const kernel::Kernels& kernels, ThreadPool& threads)
      : compute{kernels, threads, kernel::Arithmetic::Fast, &packed} {
    spec = {.family = "deepseek_v2", .num_layers = 1, .width = 2048, .vocab_size = 2, .max_positions = 1 << 17};
    spec.attention = {.num_heads = 16, .num_kv_heads = 16, .head_dim = 192};
    spec.attention.latent = {.kv_rank = 512, .plain_dim = 128, .rope_dim = 64, .value_dim = 128};
    weights.query = matrix(16 * 192, 2048);
    weights.latent.kv_down = matrix(576, 2048);
    weights.latent.key_up = matrix(16 * 512, 128);
    weights.latent.value_up = matrix(16 * 128, 512);
    weights.output = matrix(2048, 16 * 128);
    weights.latent.kv_down_norm.assign(512, 1);
  }
  kernel::WeightView matrix(size_t rows, size_t cols) {
    Random random(rows);
    std::vector<uint16_t>& m = bytes.emplace_back(rows * cols);
    for (uint16_t& x : m) x = float_to_bf16(static_cast<float>(random.uniform() - 0.5) * 0.1f);
    return {spec::ElementType::BF16, reinterpret_cast<const std::byte*>(m.data()), rows, cols};
  }

  // Seconds of `tokens` tokens after `depth` others, all of them the prompt or none.
  double seconds(KvType type, size_t depth, size_t tokens, bool is_prompt) {
    model::KvCache cache(spec, {depth + tokens, type, is_prompt ? depth + tokens : 0});
    Random random(3);
    Matrix<float> x_TD(tokens, 2048);
    for (float& x : x_TD.flat()) x = static_cast<float>(random.uniform() - 0.5);
    cache.reserve(depth);
    for (size_t p = 0; p < depth; ++p) {
      const auto row = x_TD.row(p % tokens);
      cache.layer(0).put(0, p, row.first(576), row.first(512));
    }
    cache.advance(depth);
    const std::vector<int32_t> ids(tokens);
    const model::Chunk chunk{&cache, ids};
    const model::Step step = model::make_step(spec.attention, model::frequencies_of(spec.attention), {&chunk, 1});
    const auto run = [&] {
      model::latent_attention(compute, spec.attention, 1e-6f, weights, 0, std::as_const(x_TD).view(), step);
    };
    run();
    return seconds_of(run);
  }
};

void measure_latent(LatentLayer& layer, KvType type, size_t depth, int runs) {
  for (const size_t tokens : {size_t{1}, kPrompt, 4 * kPrompt}) {
    std::vector<double> expanded, absorbed;
    for (int run = 0; run < runs; ++run) {
      expanded.push_back(layer.seconds(type, depth, tokens, true));
      absorbed.push_back(layer.seconds(type, depth, tokens, false));
    }
    fmt::print("{:<26} {:>6}  {:5} tokens {:8.2f} ms expanded {:8.2f} ms absorbed\n", "deepseek-v2-lite layer", depth,
               tokens, 1e3 * median(expanded), 1e3 * median(absorbed));
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 0, runs = 5;
  std::vector<size_t> depths = {0, 2048, 8192, 32768};
  std::vector<std::string> types = {"bf16", "q8", "f16", "f32"}, shapes;
  std::string kernels;
  CLI::App app("How fast attention runs, against the limits of the machine.", "attention");
  app.add_option("--threads", threads);
  app.add_option("--runs", runs);
  app.add_option("--depth", depths)->delimiter(',');
  app.add_option("--kv", types)->delimiter(',');
  app.add_option("--shape", shapes, "only shapes whose names begin so")->delimiter(',');
  app.add_option("--kernels", kernels);
  CLI11_PARSE(app, argc, argv);

  ThreadPool pool(threads);
  const kernel::Kernels* table = kernels.empty() ? kernel::available_kernels()[0] : kernel::find_kernels(kernels);
  if (table == nullptr || !__builtin_cpu_supports("avx512bf16")) {
    fmt::print(stderr, "attention: no such kernels, or a processor without AVX-512 BF16\n");
    return 1;
  }
  const kernel::Compute compute{*table, pool};
  Matrix<float> memory(1, size_t{1} << 27);
  fmt::print("{} kernels, {} threads, median of {} runs\n", table->name, pool.size(), runs);
  fmt::print("{:<20} {:<5} {:>6}  {:<36}  {}\n", "heads / kv heads x dim", "kv", "depth", "prefill of 512, of the peak", "decode, of reads");
  for (const Shape& shape : kShapes) {
    const std::string_view name = shape.name;
    if (!shapes.empty() && std::ranges::none_of(shapes, [&](const auto& s) { return name.starts_with(s); })) continue;
    for (const auto& [type_name, type] : kTypes) {
      if (std::ranges::find(types, type_name) == types.end()) continue;
      for (const size_t depth : depths) measure(compute, shape, type_name, type, depth, runs, memory.flat());
    }
  }
  if (!shapes.empty() && std::ranges::find(shapes, "deepseek") == shapes.end()) return 0;
  LatentLayer layer(*table, pool);
  for (const size_t depth : depths) measure_latent(layer, KvType::BF16, depth, runs);
}
