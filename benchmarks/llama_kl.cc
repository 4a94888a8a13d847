// How far llama.cpp's predictions with a GGUF file are from saved ones, as `moiety eval MODEL --kl FILE` says of moiety's.
// Built by hand against a llama.cpp that is there; benchmarks/divergence.py does it:
//
//   g++ -std=c++20 -O2 llama_kl.cc -I LLAMA/include -I LLAMA/ggml/include -L LLAMA/build/bin -lllama -lggml -lggml-base
//   llama_kl MODEL.gguf FIRST_TOKEN FILE…
//
// Each FILE is of --save-logits and of one text that fits one window; FIRST_TOKEN is what starts texts.
#include <llama.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

template <class T>
T read(const std::vector<char>& bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

std::vector<double> log_softmax(const float* logits, size_t count) {
  std::vector<double> out(logits, logits + count);
  const double largest = *std::max_element(out.begin(), out.end());
  double sum = 0;
  for (const double x : out) sum += std::exp(x - largest);
  for (double& x : out) x -= largest + std::log(sum);
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::fprintf(stderr, "llama_kl MODEL.gguf FIRST_TOKEN FILE...\n"), 1;
  llama_log_set([](ggml_log_level, const char*, void*) {}, nullptr);
  llama_backend_init();
  llama_model* model = llama_model_load_from_file(argv[1], llama_model_default_params());
  if (model == nullptr) return std::fprintf(stderr, "%s: llama.cpp does not open it\n", argv[1]), 1;

  double kl = 0;
  size_t count = 0, same = 0;
  for (int file = 3; file < argc; ++file) {
    // "MOIETYLP", version, vocabulary, window; then token, largest, step and u16 a word (engine/saved_logits.h)
    std::ifstream in(argv[file], std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
    const size_t vocabulary = read<uint32_t>(bytes, 12), row = 12 + 2 * vocabulary, predictions = (bytes.size() - 20) / row;
    const size_t window = std::min<size_t>(read<uint32_t>(bytes, 16), static_cast<size_t>(llama_model_n_ctx_train(model)));
    if (predictions > window) return std::fprintf(stderr, "%s: more than one window of %zu\n", argv[file], window), 1;

    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = params.n_ubatch = 4096;
    params.n_threads = params.n_threads_batch = 2;
    llama_context* context = llama_init_from_model(model, params);
    llama_batch batch = llama_batch_init(static_cast<int32_t>(predictions), 0, 1);
    batch.n_tokens = static_cast<int32_t>(predictions);
    for (size_t i = 0; i < predictions; ++i) {
      batch.token[i] = i == 0 ? std::atoi(argv[2]) : read<int32_t>(bytes, 20 + (i - 1) * row);
      batch.pos[i] = static_cast<llama_pos>(i);
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = 0;
      batch.logits[i] = 1;
    }
    if (llama_decode(context, batch) != 0) return std::fprintf(stderr, "llama.cpp does not decode %s\n", argv[file]), 1;

    for (size_t i = 0; i < predictions; ++i) {
      const size_t at = 20 + i * row;
      const float largest = read<float>(bytes, at + 4), step = read<float>(bytes, at + 8);
      std::vector<float> reference(vocabulary);
      for (size_t v = 0; v < vocabulary; ++v) {
        reference[v] = largest - step * static_cast<float>(read<uint16_t>(bytes, at + 12 + 2 * v));
      }
      const auto p = log_softmax(reference.data(), vocabulary);
      const auto q = log_softmax(llama_get_logits_ith(context, static_cast<int32_t>(i)), vocabulary);
      for (size_t v = 0; v < vocabulary; ++v) kl += std::exp(p[v]) * (p[v] - q[v]);
      same += std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin();
      ++count;
    }
    llama_batch_free(batch);
    llama_free(context);
  }
  std::printf("{\"kl\": %.9g, \"same_top\": %.9g, \"predictions\": %zu}\n", kl / static_cast<double>(count),
              static_cast<double>(same) / static_cast<double>(count), count);
}
