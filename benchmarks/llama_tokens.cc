// llama.cpp, or ik_llama.cpp, fed the very token ids that `moiety bench --save-tokens` wrote, timed as moiety bench times its own
// runs. Built by hand against either; benchmarks/streaming.py does it:
//
//   g++ -std=c++20 -O2 llama_tokens.cc -I LLAMA/include -I LLAMA/ggml/include -L … -lllama -lggml
//   llama_tokens MODEL.gguf TOKENS [--threads N] [--ubatch N] [--prefetch-experts] [--defer-experts]
//
// The file is mapped, never repacked: repacking copies the weights into memory that can't be given back, which ends the process
// where less is allowed than the model needs. The last two options are ik_llama.cpp's.
#include <llama.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Options {
  std::string model, tokens;
  int threads = 2, ubatch = 512;
  bool prefetch_experts = false, defer_experts = false;
};

// Sequences that run side by side, all of the same length.
struct Case {
  int round = 0, number = 0;
  bool prefill = false;
  std::vector<std::vector<llama_token>> sequences;

  size_t length() const { return sequences[0].size(); }
  size_t tokens() const { return sequences.size() * length(); }
};

Options parse(int argc, char** argv) {
  Options options;
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--threads" && i + 1 < argc) {
      options.threads = std::atoi(argv[++i]);
    } else if (word == "--ubatch" && i + 1 < argc) {
      options.ubatch = std::atoi(argv[++i]);
    } else if (word == "--prefetch-experts") {
      options.prefetch_experts = true;
    } else if (word == "--defer-experts") {
      options.defer_experts = true;
    } else {
      names.emplace_back(word);
    }
  }
  if (names.size() != 2) throw std::runtime_error("usage: llama_tokens MODEL.gguf TOKENS [--threads N] [--ubatch N] [--prefetch-experts] [--defer-experts]");
  options.model = names[0];
  options.tokens = names[1];
  return options;
}

// Lines "round case phase id id …", one a sequence.
std::vector<Case> read_cases(const std::string& path) {
  std::vector<Case> cases;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    Case read;
    std::string phase;
    words >> read.round >> read.number >> phase;
    read.prefill = phase == "prefill";
    std::vector<llama_token>& ids = read.sequences.emplace_back();
    for (llama_token id; words >> id;) ids.push_back(id);
    if (ids.empty()) throw std::runtime_error(path + ": a line without token ids");
    const bool goes_on = !cases.empty() && cases.back().round == read.round && cases.back().number == read.number;
    if (!goes_on) {
      cases.push_back(read);
    } else if (ids.size() == cases.back().length()) {
      cases.back().sequences.push_back(ids);
    } else {
      throw std::runtime_error(path + ": sequences of one case with different lengths");
    }
  }
  if (cases.empty()) throw std::runtime_error(path + ": there are no token ids in it");
  return cases;
}

// The two programs, and their versions, name things differently: what one does not have is passed over.
template <class Params>
Params model_params(const Options& options, Params params) {
  if constexpr (requires { params.load_mode; }) params.load_mode = static_cast<decltype(params.load_mode)>(1);  // mmap
  if constexpr (requires { params.use_mmap; }) params.use_mmap = true;
  if constexpr (requires { params.use_extra_bufts; }) params.use_extra_bufts = false;  // they repack
  if constexpr (requires { params.repack_tensors; }) params.repack_tensors = false;
  if constexpr (requires { params.defer_experts; }) params.defer_experts = options.defer_experts;
  return params;
}

template <class Params>
Params context_params(const Options& options, const std::vector<Case>& cases, Params params) {
  size_t most_tokens = 0, most_sequences = 0, longest_prompt = 0;
  for (const Case& run : cases) {
    most_tokens = std::max(most_tokens, run.tokens());
    most_sequences = std::max(most_sequences, run.sequences.size());
    if (run.prefill) longest_prompt = std::max(longest_prompt, run.tokens());
  }
  params.n_ctx = static_cast<uint32_t>((most_tokens + 255) / 256 * 256);
  params.n_batch = static_cast<uint32_t>(std::max({longest_prompt, most_sequences, static_cast<size_t>(options.ubatch)}));
  params.n_ubatch = static_cast<uint32_t>(options.ubatch);
  params.n_seq_max = static_cast<uint32_t>(most_sequences);
  params.n_threads = params.n_threads_batch = options.threads;
  if constexpr (requires { params.n_outputs_max; }) params.n_outputs_max = static_cast<uint32_t>(most_sequences);
  if constexpr (requires { params.kv_unified; }) params.kv_unified = true;  // room for the tokens there are, not for each sequence's most
  if constexpr (requires { params.flash_attn_type; }) params.flash_attn_type = static_cast<decltype(params.flash_attn_type)>(1);  // on
  if constexpr (requires { params.flash_attn; }) params.flash_attn = true;
  if constexpr (requires { params.fused_moe_up_gate; }) params.fused_moe_up_gate = true;
  if constexpr (requires { params.prefetch_experts; }) params.prefetch_experts = options.prefetch_experts;
  return params;
}

template <class Context>
void forget(Context* context) {
  if constexpr (requires { llama_get_memory(context); }) {
    llama_memory_clear(llama_get_memory(context), true);
  } else {
    llama_kv_cache_clear(context);
  }
}

template <class Model>
int vocabulary_of(const Model* model) {
  if constexpr (requires { llama_model_get_vocab(model); }) {
    return llama_vocab_n_tokens(llama_model_get_vocab(model));
  } else {
    return llama_n_vocab(model);
  }
}

// A number of a file of lines "name: number …"; 0 if it is not there.
double number_in(const char* path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(name)) return std::atof(line.c_str() + name.size());
  }
  return 0;
}

// One step: of each sequence the tokens from `at` on, and the logits of the last ones.
void step(llama_context* context, int vocabulary, const Case& run, size_t at, size_t count) {
  llama_batch batch = llama_batch_init(static_cast<int32_t>(run.sequences.size() * count), 0, 1);
  for (size_t s = 0; s < run.sequences.size(); ++s) {
    for (size_t i = at; i < at + count; ++i) {
      const int32_t n = batch.n_tokens++;
      batch.token[n] = run.sequences[s][i];
      batch.pos[n] = static_cast<llama_pos>(i);
      batch.n_seq_id[n] = 1;
      batch.seq_id[n][0] = static_cast<llama_seq_id>(s);
      batch.logits[n] = i + 1 == at + count;
    }
  }
  if (llama_decode(context, batch) != 0) throw std::runtime_error("llama_decode failed");
  for (size_t s = 1; s <= run.sequences.size(); ++s) {
    const float* const logits = llama_get_logits_ith(context, static_cast<int32_t>(s * count) - 1);
    const bool finite = logits != nullptr && std::all_of(logits, logits + vocabulary, [](float x) { return std::isfinite(x); });
    if (!finite) throw std::runtime_error("its logits are not finite");
  }
  llama_batch_free(batch);
}

std::string run_case(llama_context* context, int vocabulary, const Case& run) {
  forget(context);
  const double read_before = number_in("/proc/self/io", "read_bytes:");
  const auto begin = std::chrono::steady_clock::now();
  const size_t count = run.prefill ? run.length() : 1;
  for (size_t at = 0; at < run.length(); at += count) step(context, vocabulary, run, at, count);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double tokens = static_cast<double>(run.tokens());
  char line[400];
  std::snprintf(line, sizeof line,
                "{\"round\": %d, \"case\": %d, \"phase\": \"%s\", \"batch\": %zu, \"tokens\": %zu, \"seconds\": %.6g, "
                "\"tokens_per_second\": %.6g, \"bytes_read\": %.0f}",
                run.round, run.number, run.prefill ? "prefill" : "decode", run.sequences.size(), run.length(), seconds,
                tokens / seconds, number_in("/proc/self/io", "read_bytes:") - read_before);
  return line;
}

void measure(const Options& options) {
  const std::vector<Case> cases = read_cases(options.tokens);
  llama_log_set([](ggml_log_level level, const char* text, void*) { if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr); }, nullptr);
  llama_backend_init();
  llama_model* const model = llama_model_load_from_file(options.model.c_str(), model_params(options, llama_model_default_params()));
  if (model == nullptr) throw std::runtime_error(options.model + ": it can't be loaded");
  llama_context* const context = llama_init_from_model(model, context_params(options, cases, llama_context_default_params()));
  if (context == nullptr) throw std::runtime_error(options.model + ": there is no context for it");

  std::string results;
  for (const Case& run : cases) {
    const std::string line = run_case(context, vocabulary_of(model), run);
    if (run.round > 0) results += (results.empty() ? "" : ",\n  ") + line;  // the first round warms up
  }
  std::printf("{\"peak_resident_bytes\": %.0f, \"results\": [\n  %s]}\n", 1024 * number_in("/proc/self/status", "VmHWM:"), results.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    measure(parse(argc, argv));
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "llama_tokens: %s\n", error.what()), 1;
  }
}
