#include "runs/run.h"

#include <algorithm>
#include <cmath>

namespace moiety::runs {
namespace {

double number(const Json& line, const char* key, double otherwise = 0) {
  const auto found = line.find(key);
  if (found == line.end() || !found->is_number()) return otherwise;
  return found->get<double>();
}

std::string word(const Json& line, const char* key) {
  const auto found = line.find(key);
  return found == line.end() || !found->is_string() ? "" : found->get<std::string>();
}

// Lines that are no object of a step are passed over.
std::vector<Json> read_lines(const fs::path& path) {
  const std::string text = read_file(path);
  std::vector<Json> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    try {
      Json line = parse_json(std::string_view(text).substr(begin, end - begin), path.string());
      if (line.is_object() && number(line, "step") >= 1) lines.push_back(std::move(line));
    } catch (const Error&) {
    }
    begin = end + 1;
  }
  return lines;
}

Load mean_load(const Json& layers) {
  Load load;
  double count = 0;
  for (const Json& layer : layers) {
    if (!layer.is_object()) continue;
    load.max_over_mean += number(layer, "max_over_mean");
    load.entropy += number(layer, "entropy");
    load.idle += number(layer, "idle");
    ++count;
  }
  if (count == 0) return load;
  return {load.max_over_mean / count, load.entropy / count, load.idle / count};
}

Validation read_validation(const Json& line) {
  Validation validation{static_cast<int64_t>(number(line, "step")), line.contains("final")};
  for (const Json& domain : line["validation"]) {
    if (!domain.is_object()) continue;
    validation.scores.push_back({word(domain, "name"), number(domain, "nats_per_token"), number(domain, "bits_per_byte")});
  }
  return validation;
}

void add_step(const Json& line, Run& run) {
  const auto later = [](const std::vector<Step>& steps, Step than) { return !steps.empty() && steps.back().step > than.step ? steps.back() : than; };
  const Step before = later(run.bad, later(run.steps, {}));
  Step step{static_cast<int64_t>(number(line, "step")), number(line, "tokens"), 0, number(line, "loss", std::nan("")), number(line, "balance_loss"),
            number(line, "lr")};
  // Runs of before there were seconds say how fast a step was.
  const double speed = number(line, "tokens_per_s");
  const double seconds = number(line, "seconds", speed > 0 ? (step.tokens - before.tokens) / speed : 0);
  step.seconds = before.seconds + seconds;
  if (step.step <= before.step || step.tokens <= before.tokens) return;
  if (line.contains("bad")) run.bad.push_back(step);
  else if (std::isfinite(step.loss)) run.steps.push_back(step);
}

void read_record(const fs::path& path, Run& run) {
  if (!fs::exists(path)) return;
  const Json json = parse_json(read_file(path), path.string());
  const JsonObject record(json, path.string());
  if (record.has("config")) run.config = record.object("config").json();
  run.parameters = record.integer("parameters", 0, INT64_MAX, 0);
  run.active_parameters = record.integer("active_parameters", 0, INT64_MAX, 0);
  run.vocabulary = record.integer("vocabulary", 0, INT64_MAX, 0);
  run.flops_per_token = record.number("flops_per_token", 0);
  run.lr = record.number("lr", 0);
}

bool is_run(const fs::path& folder) { return fs::exists(folder / "metrics.jsonl"); }

}  // namespace

double Validation::bits_per_byte() const {
  double sum = 0;
  for (const Score& score : scores) sum += score.bits_per_byte;
  return sum / static_cast<double>(std::max<size_t>(1, scores.size()));
}

Run read_run(const fs::path& folder) {
  require(fs::is_directory(folder), "{}: no such folder", folder.string());
  require(is_run(folder), "{}: not a training run: it has no metrics.jsonl", folder.string());
  Run run{.path = folder};
  const fs::path whole = fs::weakly_canonical(folder);
  run.name = whole.filename().string();
  read_record(folder / "run.json", run);
  for (const Json& line : read_lines(folder / "metrics.jsonl")) {
    if (line.contains("validation")) {
      Validation validation = read_validation(line);
      run.finished = run.finished || validation.final;
      if (!validation.scores.empty()) run.validations.push_back(std::move(validation));
    } else {
      add_step(line, run);
      if (line.contains("load")) run.load = mean_load(line["load"]);
    }
  }
  require(!run.steps.empty(), "{}: the run has not finished a step yet", folder.string());
  return run;
}

std::vector<fs::path> find_runs(const fs::path& folder) {
  require(fs::is_directory(folder), "{}: no such folder", folder.string());
  if (is_run(folder)) return {folder};
  std::vector<fs::path> found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && is_run(entry.path())) found.push_back(entry.path());
  }
  require(!found.empty(), "{}: neither a training run nor a folder of them: there is no metrics.jsonl", folder.string());
  std::ranges::sort(found);
  return found;
}

}  // namespace moiety::runs
