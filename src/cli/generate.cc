// moiety generate: a prompt in, its continuation out.
#include "engine/generate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <random>

#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/open_model.h"
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
  bool greedy = false, ignore_end = false, json = false;
  std::optional<uint64_t> seed;
  engine::SamplingOptions sampling{.temperature = 0.8f, .top_p = 0.95f};
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

void print_json(const Arguments& a, const OpenModel& model, size_t prompt_tokens, const Generated& result) {
  Json json = {{"tokens", result.tokens}};
  json["text"] = model.tokenizer ? Json(model.tokenizer->decode(result.tokens, true)) : Json();
  json["stop"] = name_of(result.stop);
  if (a.sampling.temperature > 0) json["seed"] = a.sampling.seed;
  json["timings"] = {{"prompt_tokens", prompt_tokens},
                     {"prefill_seconds", result.prefill_seconds},
                     {"prefill_tokens_per_second", rate(prompt_tokens, result.prefill_seconds)},
                     {"new_tokens", result.tokens.size()},
                     {"decode_seconds", result.decode_seconds},
                     {"decode_tokens_per_second", rate(decoded(result), result.decode_seconds)},
                     {"kernels", model.compute.kernels.name},
                     {"threads", model.compute.threads.size()}};
  fmt::print("{}\n", json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void print_timings(size_t prompt_tokens, const Generated& result) {
  fmt::print(stderr, "\n[prompt {} tokens, {:.1f}/s; new {} tokens, {:.1f}/s; stopped: {}]\n", prompt_tokens,
             rate(prompt_tokens, result.prefill_seconds), result.tokens.size(),
             rate(decoded(result), result.decode_seconds), name_of(result.stop));
}

void add_sampling(CLI::App& app, Arguments& a) {
  app.add_flag("--greedy", a.greedy, "always the likeliest token (same as --temperature 0)");
  app.add_option("--temperature", a.sampling.temperature, "0: greedy")->capture_default_str();
  app.add_option("--top-k", a.sampling.top_k, "only the k likeliest tokens (0: all)")->capture_default_str();
  app.add_option("--top-p", a.sampling.top_p, "only the likeliest tokens that have this probability together")
      ->capture_default_str();
  app.add_option("--min-p", a.sampling.min_p, "only tokens at least this share as likely as the likeliest")
      ->capture_default_str();
  app.add_option("--repetition-penalty", a.sampling.repetition_penalty, "more than 1 discourages tokens seen")
      ->capture_default_str();
  app.add_option("--presence-penalty", a.sampling.presence_penalty, "off the logit of tokens generated")
      ->capture_default_str();
  app.add_option("--frequency-penalty", a.sampling.frequency_penalty, "… once for each time")->capture_default_str();
  app.add_option("--seed", a.seed, "the same seed gives the same text (default: a new one each time)");
}

}  // namespace

int generate(int argc, char** argv) {
  Arguments a;
  CLI::App app(kHelp, "moiety generate");
  a.model.add_to(app);
  auto* prompt = app.add_option("-p,--prompt", a.prompt, "the text to continue; without it the model starts one");
  app.add_option("--tokens", a.tokens, "the prompt as token ids, taken as they are; generation goes on past the end token")
      ->excludes(prompt);
  app.add_option("-n", a.count, "tokens to generate at most")->capture_default_str();
  add_sampling(app, a);
  app.add_flag("--ignore-eos", a.ignore_end, "go on past the end-of-text token");
  app.add_flag("--json", a.json, "one JSON object: tokens (the new ids), text, timings");
  if (const auto status = parse(app, argc, argv)) return *status;
  if (a.greedy) a.sampling.temperature = 0;
  a.sampling.seed = a.seed.value_or(std::random_device()());
  engine::check(a.sampling);

  OpenModel model(a.model);
  std::vector<int32_t> ids = a.tokens ? parse_token_list(*a.tokens) : model.need_tokenizer().encode(a.prompt, true);
  if (ids.empty() && !a.tokens) ids.push_back(engine::start_token(model.file.spec()));
  engine::GenerateOptions options{.max_new_tokens = a.count, .sampling = a.sampling};
  if (!a.tokens && !a.ignore_end) {
    options.stop_tokens.assign(model.file.spec().eos_tokens.begin(), model.file.spec().eos_tokens.end());
  }

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
    print_json(a, model, ids.size(), result);
    return 0;
  }
  if (stream) {
    fmt::print("{}\n", stream->finish());
  } else {
    fmt::print("{}\n", fmt::join(result.tokens, ","));
  }
  print_timings(ids.size(), result);
  return 0;
}

}  // namespace moiety::cli
