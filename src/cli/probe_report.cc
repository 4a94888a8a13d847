#include "cli/probe_report.h"

#include <algorithm>

#include "base/progress.h"
#include "corpus/synthetic.h"
#include "engine/continuations.h"

namespace moiety::cli {
namespace {

constexpr double kChance = 1.0 / corpus::kChoices;

// The end of the line belongs to an answer: nothing may follow it. As likely as another is not right.
bool answers_right(OpenModel& model, const std::string& prompt, const corpus::Instance& instance) {
  std::vector<std::string> answers{instance.answer + "\n"};
  for (const std::string& wrong : instance.wrong) answers.push_back(wrong + "\n");
  const auto scores = engine::score_continuations(model.transformer, model.need_tokenizer(), prompt, answers, model.kv);
  return std::all_of(scores.begin() + 1, scores.end(), [&](double other) { return other < scores[0]; });
}

}  // namespace

std::vector<ProbeResult> run_probes(OpenModel& model, const ProbeOptions& options) {
  std::vector<ProbeResult> results;
  for (const std::string& kind : options.kinds) {
    Progress progress("probe " + kind, options.questions, "questions");
    // A stream of its own a kind: what is asked doesn't depend on what else is.
    const auto names = corpus::synthetic_kinds();
    Random random(options.seed, static_cast<uint64_t>(std::ranges::find(names, kind) - names.begin()));
    ProbeResult result{kind};
    for (int i = 0; i < options.questions; ++i) {
      const std::string shots = corpus::few_shots(kind, options.shots, random);
      const corpus::Instance instance = corpus::make_instance(kind, corpus::Use::Probe, random);
      result.accuracy.add(answers_right(model, shots + instance.question, instance));
      progress.update(i + 1);
    }
    progress.finish();
    results.push_back(result);
  }
  return results;
}

void print_probes(const std::vector<ProbeResult>& results, const ProbeOptions& options) {
  fmt::print("{:<16}{:>10}{:>12}{:>20}{:>10}\n", "probe", "questions", "right", "95 % interval", "chance");
  for (const ProbeResult& result : results) {
    const auto [low, high] = result.accuracy.interval();
    fmt::print("{:<16}{:>10}{:>10.1f} %{:>20}{:>8.0f} %\n", result.kind, result.accuracy.all, 100 * result.accuracy.share(),
               fmt::format("{:.1f} to {:.1f} %", 100 * low, 100 * high), 100 * kChance);
  }
  fmt::print("the likeliest of {} answers after {} examples; seed {}\n", corpus::kChoices, options.shots, options.seed);
}

Json probes_json(const std::vector<ProbeResult>& results) {
  Json json = Json::array();
  for (const ProbeResult& result : results) {
    const auto [low, high] = result.accuracy.interval();
    json.push_back({{"probe", result.kind},
                    {"questions", result.accuracy.all},
                    {"right", result.accuracy.right},
                    {"accuracy", result.accuracy.share()},
                    {"low", low},
                    {"high", high},
                    {"chance", kChance}});
  }
  return json;
}

}  // namespace moiety::cli
