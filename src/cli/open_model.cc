#include "cli/open_model.h"

#include <charconv>
#include <cstdlib>

#include "base/error.h"
#include "cli/open_tokenizer.h"

namespace moiety::cli {
namespace {

const kernel::Kernels& choose_kernels(std::string name) {
  const char* named = std::getenv("MOIETY_KERNELS");
  if (name.empty() && named != nullptr) name = named;
  if (name.empty()) return *kernel::available_kernels()[0];
  const kernel::Kernels* found = kernel::find_kernels(name);
  if (found == nullptr) {
    std::string names;
    for (const kernel::Kernels* k : kernel::available_kernels()) names += fmt::format(" {}", k->name);
    fail(ErrorKind::Usage, "kernels \"{}\" are not available on this processor; these are:{}", name, names);
  }
  return *found;
}

kernel::KvType choose_kv(const std::string& name, kernel::Arithmetic arithmetic) {
  using kernel::KvType;
  if (name.empty()) return arithmetic == kernel::Arithmetic::Exact ? KvType::F32 : KvType::BF16;
  return name == "f32" ? KvType::F32 : name == "f16" ? KvType::F16 : name == "q8" ? KvType::Q8 : KvType::BF16;
}

}  // namespace

int thread_count(int asked) {
  if (asked > 0) return asked;
  const char* named = std::getenv("MOIETY_THREADS");
  if (named == nullptr) return 0;
  const int threads = std::atoi(named);
  if (threads < 1 || threads > 1024) fail(ErrorKind::Usage, "MOIETY_THREADS={}: expected 1 to 1024", named);
  return threads;
}

void ModelArguments::add_to(CLI::App& app) {
  app.add_option("MODEL", model, "a Hugging Face folder, a training run or checkpoint, or a GGUF file")->required();
  app.add_option("--threads", threads, "threads to compute with (default: all cores)")->check(CLI::Range(1, 1024));
  app.add_option("--kernels", kernels, "force an instruction set: avx512, avx2, scalar");
  app.add_option("--kv", kv, "what keys and values are kept in: f32, f16, bf16 or q8, 8 bits (default: bf16, f32 where arithmetic is exact)")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "q8"}));
  app.add_flag("--exact", exact, "activations stay in f32 and weights as they lie in the file: slower, for judging");
}

void ModelArguments::add_memory_to(CLI::App& app) {
  app.add_option("--memory", memory,
                 "hold no more than this, such as 6GiB: experts that don't fit are read from the disk when tokens choose them "
                 "(default: most of what is free)");
  constexpr const char* kGroup = "Experts on the disk";
  app.add_option("--cache-policy", cache_policy, "which experts stay in memory: auto (the one that would have found most so far), lru, lfu, weight, distance, blend")
      ->check(CLI::IsMember({"auto", "lru", "lfu", "weight", "distance", "blend"}))->capture_default_str()->group(kGroup);
  app.add_option("--pin", pin, "half of the experts in memory are those that this routing trace used most, for good")->group(kGroup);
  app.add_option("--read-ahead", read_ahead, "who says what to read while the disk has nothing to do: the next layer's router, path, previous, none")
      ->check(CLI::IsMember({"router", "path", "previous", "none"}))->capture_default_str()->group(kGroup);
  const auto share = CLI::Range(0.0, 1.0);
  app.add_option("--prefer-resident", lossy.prefer_resident, "changes the output: an expert in memory instead of one whose score is higher by up to this share")
      ->check(share)->group(kGroup);
  app.add_option("--skip-missing", lossy.skip_missing, "changes the output: an expert that isn't in memory is left out if it weighs less than this share of the token's heaviest")
      ->check(share)->group(kGroup);
  app.add_option("--low-precision", lossy.low_precision, "changes the output: of one that weighs no more than this share the copy of low precision is read, in files packed with --low")
      ->check(share)->group(kGroup);
}

OpenModel::OpenModel(const ModelArguments& arguments)
    : file(arguments.model),
      threads(thread_count(arguments.threads)),
      compute{choose_kernels(arguments.kernels), threads,
              arguments.exact ? kernel::Arithmetic::Exact : kernel::Arithmetic::Fast},
      kv(choose_kv(arguments.kv, compute.arithmetic)),
      transformer(file, compute),
      tokenizer(find_tokenizer(file.path())) {}

const text::Tokenizer& OpenModel::need_tokenizer() const {
  require(tokenizer.has_value(), "{}: the model comes without a tokenizer", file.path().string());
  return *tokenizer;
}

std::vector<int32_t> parse_token_list(const std::string& text) {
  std::vector<int32_t> tokens;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    int32_t token = 0;
    const auto [next, error] = std::from_chars(at, end, token);
    const bool separated = next == end || (*next == ',' && next + 1 < end);
    if (error != std::errc() || !separated) {
      fail(ErrorKind::Usage, "--tokens {}: expected token ids separated by commas, as in --tokens 1,2,3", text);
    }
    tokens.push_back(token);
    at = next + (next < end);
  }
  return tokens;
}

}  // namespace moiety::cli
