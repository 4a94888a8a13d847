// moiety template: a conversation as JSON in, the prompt that the model's chat template makes of it out.
#include <fmt/core.h>

#include <chrono>
#include <cstdio>

#include "base/json.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/open_chat_template.h"

namespace moiety::cli {
namespace {

constexpr const char* kHelp =
    "Render a chat template: a JSON object with messages (and tools, documents, add_generation_prompt, bos_token, …) on\n"
    "standard input, the prompt on standard output. Tokens that the object does not name come from the model.\n\n"
    "examples:\n"
    "  echo '{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}], \"add_generation_prompt\": true}' \\\n"
    "    | moiety template path/to/model\n"
    "  moiety template chat_template.jinja --now 2025-01-15T12:00:00 < context.json";

std::string read_standard_input() {
  std::string text;
  char buffer[65536];
  while (const size_t count = std::fread(buffer, 1, sizeof buffer, stdin)) text.append(buffer, count);
  return text;
}

text::ChatTemplate open(const fs::path& path) {
  const std::string extension = path.extension().string();
  if (extension == ".jinja" || extension == ".jinja2" || extension == ".j2") {
    return text::ChatTemplate({{"default", read_file(path)}}, {}, path.string());
  }
  return open_chat_template(path);
}

// How long one rendering takes, over about a second.
int print_speed(const text::ChatTemplate& chat, const jinja::Context& context, const jinja::DateTime& now) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  size_t renders = 0, bytes = 0;
  double seconds = 0;
  while (seconds < 1) {
    bytes = chat.render(context, now).size();
    ++renders;
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  }
  const double rate = static_cast<double>(renders) / seconds;
  fmt::print("{}\n", Json{{"renders_per_second", rate}, {"microseconds", 1e6 / rate}, {"prompt_bytes", bytes}}.dump());
  return 0;
}

}  // namespace

int template_(int argc, char** argv) {
  std::string model, now;
  bool speed = false;
  CLI::App app(kHelp, "moiety template");
  app.add_option("MODEL", model, "a Hugging Face folder, a training run, a GGUF file, or a template (X.jinja)")->required();
  app.add_option("--now", now, "the time that strftime_now prints, such as 2025-01-15T12:00:00 (default: now)");
  app.add_flag("--speed", speed, "print how many renderings a second, as JSON, instead of the prompt");
  if (const auto status = parse(app, argc, argv)) return *status;

  const jinja::DateTime time = now.empty() ? jinja::current_date_time() : jinja::parse_date_time(now);
  const text::ChatTemplate chat = open(model);
  const jinja::Context context = jinja::Context::parse(read_standard_input(), "standard input");
  if (speed) return print_speed(chat, context, time);
  const std::string prompt = chat.render(context, time);
  std::fwrite(prompt.data(), 1, prompt.size(), stdout);
  return 0;
}

}  // namespace moiety::cli
