// For tests of the engine: a small random model, and requests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/random.h"
#include "engine/engine.h"
#include "engine/generate.h"
#include "support/heard.h"
#include "support/random_model.h"

namespace moiety::engine {

using test::Heard;

struct Model {
  explicit Model(spec::ModelSpec spec = wide_context(), int threads = 2)
      : folder(make(spec)), file(folder), pool(threads), compute{*kernel::available_kernels()[0], pool, kernel::Arithmetic::Fast}, transformer(file, compute) {}
  static spec::ModelSpec wide_context() {
    spec::ModelSpec spec = test::small_spec();
    spec.max_positions = 2048;
    return spec;
  }
  static fs::path make(const spec::ModelSpec& spec) {
    static int number = 0;
    const fs::path folder = fs::path(testing::TempDir()) / ("engine_test" + std::to_string(getpid()) + "." + std::to_string(number++));
    test::write_random_checkpoint(spec, folder);
    return folder;
  }
  ~Model() { fs::remove_all(folder); }

  std::vector<int32_t> alone(const Request& request) {
    GenerateOptions options{.max_new_tokens = request.max_new_tokens, .sampling = request.sampling, .stop_tokens = request.stop_tokens};
    return generate(transformer, request.prompt, options).tokens;
  }

  fs::path folder;
  format::ModelFile file;
  ThreadPool pool;
  kernel::Compute compute;
  model::Transformer transformer;
};

inline std::vector<int32_t> random_tokens(size_t count, Random& random) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>(3 + random.below(47)));
  return tokens;
}

inline Request random_request(Random& random) {
  Request request;
  request.prompt = random_tokens(1 + random.below(300), random);
  request.max_new_tokens = 1 + random.below(40);
  request.sampling.temperature = random.below(3) == 0 ? 0.0f : 0.7f;
  request.sampling.seed = random.next();
  request.priority = static_cast<int>(random.below(3));
  request.client = std::to_string(random.below(3));
  if (random.below(2) == 0) request.stop_tokens = {5};
  return request;
}

inline Request copy_of(const Request& r) {
  Request copy;
  copy.prompt = r.prompt;
  copy.max_new_tokens = r.max_new_tokens;
  copy.sampling = r.sampling;
  copy.stop_tokens = r.stop_tokens;
  copy.router = r.router;
  copy.priority = r.priority;
  copy.client = r.client;
  return copy;
}

inline Request request_of(std::vector<int32_t> prompt, size_t tokens) {
  Request request;
  request.prompt = std::move(prompt);
  request.max_new_tokens = tokens;
  request.sampling.temperature = 0;
  return request;
}

}  // namespace moiety::engine
