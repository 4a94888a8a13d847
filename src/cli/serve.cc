// moiety serve: a model behind HTTP, for programs that speak OpenAI's or Anthropic's protocol.
#include <fmt/core.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <ctime>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <thread>

#include "base/ordered_json.h"
#include "base/progress.h"
#include "base/say.h"
#include "base/system_memory.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/config_file.h"
#include "cli/memory_budget.h"
#include "cli/open_chat_template.h"
#include "cli/open_model.h"
#include "cli/sampling_arguments.h"
#include "cli/service_manager.h"
#include "cli/trace_option.h"
#include "engine/engine.h"
#include "server/api.h"
#include "server/http_server.h"
#include "server/live.h"
#include "server/operation.h"
#include "server/page.h"

namespace moiety::cli {
namespace {

using Time = server::HttpOptions::Time;

constexpr const char* kHelp =
    "Answer programs and browsers over HTTP. Without flags it listens on http://127.0.0.1:8080 for this machine alone.\n"
    "docs/serve.md has the whole story.\n\n"
    "examples:\n"
    "  moiety serve path/to/model\n"
    "  moiety serve model.gguf --host 0.0.0.0 --keys keys.txt --tls-cert cert.pem --tls-key key.pem\n"
    "  moiety serve --config moiety.toml";

// Of a sequence, unless --context says another number: what most conversations never reach.
constexpr size_t kContext = 32768;

constexpr const char* kAnyName = "*";

struct Arguments {
  ModelArguments model;
  engine::EngineOptions engine;
  bool no_prefix_cache = false, no_speculation = false;
  TraceOption trace;
  server::HttpOptions http;
  server::Limits limits;
  SamplingArguments sampling;
  std::string max_body = "8MiB", config, template_settings, prompt_cache;
  std::vector<std::string> names;  // the first is the one in answers
  double drain_seconds = 30;

  void add_to(CLI::App& app);
  void finish(CLI::App& app);
};

void Arguments::add_to(CLI::App& app) {
  model.add_to(app);
  app.get_option("MODEL")->required(false);  // the configuration may name it
  model.add_memory_to(app);
  app.add_option("--config", config, "a TOML file of these names without --, such as: port = 8081; what stands here goes first");

  app.add_option("--host", http.host, "the address to listen on; 0.0.0.0: all")->capture_default_str()->group("Network");
  app.add_option("--port", http.port, "0: one that is free")->capture_default_str()->group("Network");
  app.add_option("--unix", http.unix_socket, "listen on a Unix socket with this path instead")->group("Network");
  app.add_option("--tls-cert", http.certificate, "TLS with this certificate (PEM, with its chain)")->group("Network");
  app.add_option("--tls-key", http.key, "the certificate's key (PEM)")->group("Network");
  app.add_option("--keys", http.keys, "a file of API keys, one a line: NAME KEY, or NAME sha256:HEX; read again when it changes")->group("Network");
  app.add_option("--allow-origin", http.allow_origins, "an origin of web pages that may ask, such as https://example.org, or *; can be repeated")
      ->allow_extra_args(false)->group("Network");
  app.add_option("--alias", names, "the model's name in answers (default: its file's); can be repeated: further names it may be asked by, *: any")
      ->allow_extra_args(false)->group("Network");

  app.add_option("--max-body", max_body, "of a request's body, such as 8MiB: beyond it 413")->capture_default_str()->group("Limits");
  app.add_option("--max-prompt", limits.prompt_tokens, "tokens of a prompt (default: what --context leaves)")->group("Limits");
  app.add_option("--max-connections", http.max_connections, "at a time: beyond it 503")
      ->check(CLI::Range(1, 100000))->capture_default_str()->group("Limits");
  app.add_option("--max-queue", limits.max_queue, "answers that wait for others to end: beyond it 429")->capture_default_str()->group("Limits");
  app.add_option("--queue-seconds", limits.queue_seconds, "that a request waits at most: then 429")->check(CLI::Range(0.0, 1e6))->capture_default_str()->group("Limits");

  app.add_option("--context", engine.context, fmt::format("tokens of a prompt and its answer (default: what the model can, up to {})", kContext))
      ->group("Engine");
  app.add_option("--sequences", engine.max_running, "texts written at a time")->check(CLI::Range(1, 1024))->capture_default_str()->group("Engine");
  app.add_option("--step-tokens", engine.step_tokens, "computed at a time at most (default: what suits the model)")->group("Engine");
  app.add_option("--cache-tokens", engine.cache_tokens, "whose keys and values are kept (default: 2048 a sequence, at least the context)")->group("Engine");
  app.add_flag("--no-prefix-cache", no_prefix_cache, "what prompts have in common is computed for each")->group("Engine");
  app.add_flag("--no-speculation", no_speculation, "no tokens are drafted from what was said before")->group("Engine");
  app.add_option("--prompt-cache", prompt_cache, "a file that prompts' keys and values are kept in from one start to the next")->group("Engine");
  trace.add_to(app, "all requests");

  sampling.add_to(app, "Answers, where a request says nothing else");
  app.add_option("--max-tokens", limits.new_tokens, "of an answer (default: what --context leaves)")->group("Answers, where a request says nothing else");
  app.add_option("--chat-template-kwargs", template_settings, "names for the chat template as JSON, such as {\"enable_thinking\": false}")
      ->group("Answers, where a request says nothing else");

  app.add_option("--drain-seconds", drain_seconds, "for requests that run when the server is to end (SIGTERM, Ctrl-C)")
      ->check(CLI::Range(0.0, 1e6))->capture_default_str()->group("Operation");
  app.add_flag("--log-prompts", http.log_prompts, "log the bodies of requests, too")->group("Operation");
}

void Arguments::finish(CLI::App& app) {
  if (!config.empty()) apply_config(app, config);
  if (model.model.empty()) fail(ErrorKind::Usage, "moiety serve: expected a MODEL (see moiety serve --help)");
  http.max_body = parse_bytes(max_body, "--max-body");
  http.drain_time = Time(static_cast<int64_t>(drain_seconds * 1e3));
  http.handle_signals = true;
  engine.share_prefixes = !no_prefix_cache;
  engine.speculate = !no_speculation;
  if (names.empty() || names[0] == kAnyName) names.insert(names.begin(), trace::model_name(model.model));
}

// What the engine would fill in, and what memory is kept for.
void fill_in(engine::EngineOptions& options, OpenModel& model) {
  const auto positions = static_cast<size_t>(model.file.spec().max_positions);
  if (options.context == 0) options.context = std::min(positions, kContext);
  if (options.cache_tokens == 0) options.cache_tokens = std::max(options.context, options.max_running * std::min<size_t>(2048, options.context));
  options.kv = model.kv;
}

OrderedJson read_template_settings(const std::string& text) {
  if (text.empty()) return OrderedJson::object();
  OrderedJson settings = parse_ordered_json(text, "--chat-template-kwargs");
  if (!settings.is_object()) fail(ErrorKind::Usage, "--chat-template-kwargs: expected a JSON object, such as {{\"enable_thinking\": false}}");
  return settings;
}

// What else a request may call the model.
std::vector<std::string> other_names(const Arguments& a) {
  std::vector<std::string> names = {trace::model_name(a.model.model)};
  std::copy_if(a.names.begin() + 1, a.names.end(), std::back_inserter(names), [](const std::string& name) { return name != kAnyName; });
  return names;
}

void warn_of_strangers(const server::HttpOptions& http) {
  const bool is_local = !http.unix_socket.empty() || http.host == "localhost" || http.host.starts_with("127.") || http.host == "::1";
  if (is_local) return;
  if (http.keys.empty()) say("moiety: whoever reaches {} may ask: --keys FILE lets only those in who have a key\n", http.host);
  if (http.certificate.empty()) say("moiety: what is asked and answered can be read on the way: --tls-cert and --tls-key prevent it\n");
}

void say_ready(const Arguments& a, const server::HttpServer& server) {
  const std::string where = a.http.unix_socket.empty() ? server.address() : "--unix-socket " + a.http.unix_socket + " http://localhost";
  const char* key = a.http.keys.empty() ? "" : " -H \"Authorization: Bearer $KEY\"";
  say("moiety: {} is ready at {}, in {:.2f} GiB of memory. Try:\n"
             "  curl {}/v1/chat/completions{} -H \"Content-Type: application/json\" \\\n"
             "    -d '{{\"messages\": [{{\"role\": \"user\", \"content\": \"What is a mixture of experts?\"}}]}}'\n",
             a.names[0], server.address(), static_cast<double>(resident_memory()) / 0x1p30, where, key);
}

// Whoever asks first shall not wait for what others then have.
void prepare(model::Transformer& transformer) {
  Progress progress("preparing weights", 0, "B");
  transformer.prepare([&](size_t done, size_t all) {
    progress.set_total(static_cast<double>(all));
    progress.update(static_cast<double>(done));
  });
  progress.finish();
}

// A model without one completes texts and does not chat.
std::optional<text::ChatTemplate> find_template(const OpenModel& model) {
  if (find_chat_template(model.file.path()).sources.empty()) return std::nullopt;
  return open_chat_template(model.file.path());
}

// Prompts that were computed in an earlier life are worth having, but not worth failing for.
void load_prompts(engine::Engine& engine, const std::string& file, server::Log& log) {
  if (file.empty() || !fs::exists(file)) return;
  try {
    engine.load_prompts(file);
  } catch (const Error& error) {
    log.warn(fmt::format("prompts are computed anew: {}", error.what()));
  }
}

void save_prompts(engine::Engine& engine, const std::string& file) {
  if (file.empty()) return;
  // What was cancelled ends with the step that it is in.
  for (auto now = engine.statistics(); now.running + now.waiting > 0; now = engine.statistics()) {
    std::this_thread::sleep_for(Time(10));
  }
  engine.save_prompts(file);
}

}  // namespace

int serve(int argc, char** argv) {
  Arguments a;
  CLI::App app(kHelp, "moiety serve");
  a.add_to(app);
  if (const auto status = parse(app, argc, argv)) return *status;
  a.finish(app);
  const OrderedJson template_settings = read_template_settings(a.template_settings);
  std::signal(SIGPIPE, SIG_IGN);  // whoever reads the log may leave

  server::Log log;
  server::Metrics metrics;
  std::optional<server::HttpServer> server(std::in_place, a.http, std::vector<server::Route>{}, log, metrics);
  server->add_routes(server::operation_routes(*server, metrics));
  server->add_routes(server::page_routes());
  std::atomic<bool> is_loading = true;
  server->on_drain([] { tell_service_manager("STOPPING=1"); });
  server->on_end([&is_loading] {
    if (is_loading) std::_Exit(0);  // a model that is being read can't be told to stop
  });
  warn_of_strangers(a.http);
  say("moiety: listening on {}; {} is being loaded\n", server->address(), a.names[0]);

  OpenModel model(a.model);
  fill_in(a.engine, model);
  a.engine.trace = a.trace.open(model.file.spec(), trace::model_name(a.model.model));
  fit_memory(model, a.model, {.sequences = {a.engine.cache_tokens}, .prompt = a.engine.context, .logits = a.engine.max_running});
  prepare(model.transformer);
  engine::Engine engine(model.transformer, a.engine);
  load_prompts(engine, a.prompt_cache, log);

  const auto more_metrics = [&] { return server::engine_metrics(engine.statistics()); };
  server->add_routes(server::operation_routes(*server, metrics, more_metrics));
  const std::optional<text::ChatTemplate> chat_template = find_template(model);
  server::Service service{.engine = engine,
                          .tokenizer = model.need_tokenizer(),
                          .chat_template = chat_template ? &*chat_template : nullptr,
                          .model = a.names[0],
                          .other_names = other_names(a),
                          .path = a.model.model,
                          .takes_any_name = std::find(a.names.begin(), a.names.end(), kAnyName) != a.names.end(),
                          .created = std::time(nullptr),
                          .sampling = a.sampling.options(),
                          .seed = a.sampling.seed,
                          .template_settings = template_settings,
                          .limits = a.limits,
                          .memory_budget = a.model.memory.empty() ? 0 : parse_bytes(a.model.memory),
                          .metrics = &metrics};
  server->add_routes(server::api_routes(service));
  server->add_routes(server::live_routes(service));
  is_loading = false;
  server->set_ready();
  tell_service_manager("READY=1");
  say_ready(a, *server);

  const bool was_drained = server->wait();
  server.reset();
  if (was_drained) save_prompts(engine, a.prompt_cache);
  return 0;
}

}  // namespace moiety::cli
