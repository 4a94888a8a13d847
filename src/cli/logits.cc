// moiety logits: what a model computes, as files for other programs.
#include <algorithm>

#include "base/json.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/open_model.h"
#include "engine/generate.h"
#include "format/npy.h"

namespace moiety::cli {
namespace {

constexpr const char* kHelp =
    "Write a model's logits at every position of some tokens as a NumPy file, f32 [T, vocabulary].\n\n"
    "example: moiety logits model --tokens 1,2,3 --out logits.npy --routes routes.json";

// One layer's routing: for each token the experts' ids and mixing weights, falling.
Json to_json(int layer, const moe::Routing& routing) {
  Json experts = Json::array(), weights = Json::array();
  for (int t = 0; t < routing.num_tokens(); ++t) {
    const auto begin = routing.begin_T1[t], end = routing.begin_T1[t + 1];
    experts.push_back(std::vector(routing.experts_N.begin() + begin, routing.experts_N.begin() + end));
    weights.push_back(std::vector(routing.weights_N.begin() + begin, routing.weights_N.begin() + end));
  }
  return {{"layer", layer}, {"experts", experts}, {"weights", weights}};
}

}  // namespace

int logits(int argc, char** argv) {
  ModelArguments arguments;
  std::string tokens, out, routes_path;
  CLI::App app(kHelp, "moiety logits");
  arguments.add_to(app);
  app.add_option("--tokens", tokens, "token ids, taken as they are: 1,2,3")->required();
  app.add_option("--out", out, "the .npy file to write")->required();
  app.add_option("--routes", routes_path, "also write expert ids and weights by layer and token, as JSON");
  if (const auto status = parse(app, argc, argv)) return *status;

  OpenModel model(arguments);
  const spec::ModelSpec& spec = model.file.spec();
  const std::vector<int32_t> ids = parse_token_list(tokens);
  engine::check_tokens(ids, spec);
  require(!ids.empty(), "--tokens: give at least one token id");
  require(ids.size() <= static_cast<size_t>(spec.max_positions), "{} tokens, the model's context holds {}", ids.size(),
          spec.max_positions);

  Json layers = Json::array();
  model::KvCache cache(spec, {ids.size(), model.kv, ids.size()});
  const model::Chunk chunk{&cache, ids, ids.size()};
  const Matrix<float> result =
      model.transformer.forward({&chunk, 1},
                                [&](int layer, const moe::Routing& routing) { layers.push_back(to_json(layer, routing)); });
  format::write_npy(out, result.flat(), {static_cast<int64_t>(result.rows()), static_cast<int64_t>(result.cols())});
  if (!routes_path.empty()) write_file(routes_path, Json{{"tokens", ids}, {"layers", layers}}.dump() + "\n");
  return 0;
}

}  // namespace moiety::cli
