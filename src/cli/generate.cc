// moiety generate: a prompt in, its continuation out.
#include "base/say.h"
#include "engine/generate.h"

#include <fmt/ranges.h>

#include <cstdio>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/expert_report.h"
#include "cli/memory_budget.h"
#include "cli/open_model.h"
#include "cli/sampling_arguments.h"
#include "cli/trace_option.h"
#include "text/text_stream.h"

namespace moiety::cli {
namespace {

using engine::Generated;

constexpr const char* kHelp =
    "Continue a text.\n\n"
    "examples:\n"
    "  moiety generate quick/run -p \"The router\" -n 100\n"
    "  moiety generate model.gguf --tokens 1,2,3 -n 32 --greedy --json";

struct Arguments {
  ModelArguments model;
  std::string prompt;
  std::optional<std::string> tokens;
  size_t count = 256;
  bool ignore_end = false, json = false;
  SamplingArguments sampling;
  TraceOption trace;
};

const char* name_of(Generated::Stop stop) {
  switch (stop) {
    case Generated::Stop::Length:
      return "length";
    case Generated::Stop::StopToken:
      return "end_of_text";
    case Generated::Stop::ContextFull:
      return "context_full";
    case Generated::Stop::Caller:
      return "cancelled";
  }
  return "";
}

double rate(size_t tokens, double seconds) { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }

// The first new token comes out of the prefill, so decoding made one fewer.
size_t decoded(const Generated& result) { return result.tokens.empty() ? 0 : result.tokens.size() - 1; }

void print_json(const engine::SamplingOptions& sampling, const OpenModel& model, size_t prompt_tokens, const Generated& result) {
  Json json = {{"tokens", result.tokens}};
  json["text"] = model.tokenizer ? Json(model.tokenizer->decode(result.tokens, true)) : Json();
  json["stop"] = name_of(result.stop);
  if (result.stop_token >= 0) json["stop_token"] = result.stop_token;
  if (sampling.temperature > 0) json["seed"] = sampling.seed;
  json["timings"] = {{"prompt_tokens", prompt_tokens},
                     {"prefill_seconds", result.prefill_seconds},
                     {"prefill_tokens_per_second", rate(prompt_tokens, result.prefill_seconds)},
                     {"new_tokens", result.tokens.size()},
                     {"decode_seconds", result.decode_seconds},
                     {"decode_tokens_per_second", rate(decoded(result), result.decode_seconds)},
                     {"kernels", model.compute.kernels.name},
                     {"threads", model.compute.threads.size()}};
  if (const Json experts = expert_statistics_json(model); !experts.is_null()) json["experts"] = experts;
  fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void print_timings(size_t prompt_tokens, const Generated& result) {
  say("\n[prompt {} tokens, {:.1f}/s; new {} tokens, {:.1f}/s; stopped: {}]\n", prompt_tokens,
      rate(prompt_tokens, result.prefill_seconds), result.tokens.size(),
      rate(decoded(result), result.decode_seconds), name_of(result.stop));
}

}  // namespace

int generate(int argc, char** argv) {
  Arguments a;
  CLI::App app(kHelp, "moiety generate");
  a.model.add_to(app);
  a.model.add_memory_to(app);
  auto* prompt = app.add_option("-p,--prompt", a.prompt, "the text to continue; without it the model starts one");
  app.add_option("--tokens", a.tokens, "the prompt as token ids, taken as they are; generation goes on past the end token")
      ->excludes(prompt);
  app.add_option("-n", a.count, "tokens to generate at most")->capture_default_str();
  a.sampling.add_to(app);
  app.add_flag("--ignore-eos", a.ignore_end, "go on past the end-of-text token");
  a.trace.add_to(app, "the prompt and the new tokens");
  app.add_flag("--json", a.json, "one JSON object: tokens (the new ids), text, timings");
  if (const auto status = parse(app, argc, argv)) return *status;
  const engine::SamplingOptions sampling = a.sampling.options();

  OpenModel model(a.model);
  std::vector<int32_t> ids = a.tokens ? parse_token_list(*a.tokens) : model.need_tokenizer().encode(a.prompt, true);
  if (ids.empty() && !a.tokens) ids.push_back(engine::start_token(model.file.spec()));
  engine::GenerateOptions options{.max_new_tokens = a.count, .sampling = sampling, .kv = model.kv};
  if (!a.tokens && !a.ignore_end) {
    options.stop_tokens.assign(model.file.spec().eos_tokens.begin(), model.file.spec().eos_tokens.end());
  }

  options.trace = a.trace.open(model.file.spec(), trace::model_name(a.model.model));
  fit_memory(model, a.model, {.sequences = {ids.size() + a.count}, .prompt = ids.size()});
  std::optional<text::TextStream> stream;
  if (!a.json && model.tokenizer) stream.emplace(*model.tokenizer, true);
  if (stream) fmt::print("{}", a.prompt);
  const Generated result = engine::generate(model.transformer, ids, options, [&](int32_t token) {
    if (stream) {
      fmt::print("{}", stream->push(token));
      std::fflush(stdout);
    }
    return true;
  });

  if (a.json) {
    print_json(sampling, model, ids.size(), result);
    return 0;
  }
  if (stream) {
    fmt::print("{}\n", stream->finish());
  } else {
    fmt::print("{}\n", fmt::join(result.tokens, ","));
  }
  print_timings(ids.size(), result);
  if (const std::string experts = expert_statistics_text(model); !experts.empty()) say("[{}]\n", experts);
  return 0;
}

}  // namespace moiety::cli
