#include "cli/memory_budget.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"
#include "base/system_memory.h"
#include "bench/work.h"
#include "model/step_memory.h"

namespace moiety::cli {
namespace {

// Experts on their way from the disk at a time: of the memory for experts one part in so many, and no more than so many experts.
constexpr size_t kShareOnTheWay = 16, kMostReads = 12;
// Tokens.
constexpr size_t kSmallStep = 32;
// Of what is free; the rest is for what isn't counted, and for others.
constexpr double kShareOfFree = 0.9;

std::string gib(size_t bytes) { return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / 1073741824.0); }
// An amount that is enough: up to the next hundredth.
std::string enough_gib(size_t bytes) { return fmt::format("{:.2f} GiB", std::ceil(static_cast<double>(bytes) / 0x1p30 * 100) / 100); }

store::Predictor predictor_of(const std::string& name) {
  return name == "none"     ? store::Predictor::None
         : name == "path"     ? store::Predictor::Path
         : name == "previous" ? store::Predictor::Previous
                              : store::Predictor::Caller;
}

// Each layer's keys and values of a sequence lie together, in huge pages where the system gives them.
size_t cache_bytes(const spec::ModelSpec& spec, kernel::KvType kv, const RunMemory& run) {
  constexpr size_t kHugePage = size_t{2} << 20;
  size_t pages = 0;
  for (const size_t tokens : run.sequences) {
    pages += static_cast<size_t>(static_cast<double>(tokens) * bench::cache_bytes_per_token(spec.attention, kv)) / kHugePage + 1;
  }
  return static_cast<size_t>(spec.num_layers) * pages * kHugePage;
}

}  // namespace

size_t parse_bytes(const std::string& text, const std::string& flag) {
  double number = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  std::string unit(rest, text.data() + text.size());
  std::transform(unit.begin(), unit.end(), unit.begin(), [](unsigned char c) { return std::tolower(c); });
  constexpr std::pair<const char*, double> kUnits[] = {{"", 1},       {"b", 1},        {"k", 1e3},     {"kb", 1e3},
                                                       {"m", 1e6},    {"mb", 1e6},     {"g", 1e9},     {"gb", 1e9},
                                                       {"kib", 0x1p10}, {"mib", 0x1p20}, {"gib", 0x1p30}};
  for (const auto& [name, factor] : kUnits) {
    if (error == std::errc() && unit == name && number > 0 && number * factor < 0x1p62) return static_cast<size_t>(number * factor);
  }
  fail(ErrorKind::Usage, "{} {}: expected an amount such as 6GiB, 800MB or 2.5GB", flag, text);
}

void fit_memory(OpenModel& model, const ModelArguments& arguments, const RunMemory& run) {
  const spec::ModelSpec& spec = model.file.spec();
  const bool asked = !arguments.memory.empty();
  if (spec.moe_layers() == 0) {
    if (asked) fail(ErrorKind::Usage, "--memory: {} is a dense model and has no experts to leave on the disk", arguments.model);
    return;
  }
  const size_t budget = asked ? parse_bytes(arguments.memory)
                              : static_cast<size_t>(kShareOfFree * static_cast<double>(available_memory())) + resident_memory();
  const size_t run_bytes = cache_bytes(spec, model.kv, run) + run.other;
  const size_t chunk = std::min(run.prompt, model::prompt_chunk(spec));
  const size_t largest_step = model::step_bytes(spec, chunk, run.logits);
  size_t weight_bytes = 0;
  for (const format::TensorView& tensor : model.file.tensors()) {
    if (!tensor.name.ends_with(".low")) weight_bytes += tensor.bytes.size();
  }
  if (arguments.lossy.low_precision > 0) {
    require(model.file.packed() != nullptr && model.file.packed()->has_low(),
            "--low-precision: {} has no experts in low precision; moiety pack --low TYPE makes a file that has", arguments.model);
  }
  if (!asked && weight_bytes + run_bytes + largest_step + resident_memory() <= budget) return;

  model::StreamedExperts& experts = model.transformer.streamed_experts();
  // A step of a token of each sequence always has its room; that of a prompt takes it from experts while it lasts.
  const size_t small_step = model::step_bytes(spec, std::min(chunk, std::max(run.sequences.size(), kSmallStep)), run.logits);
  const auto refuse = [&](size_t weights) {
    const size_t least = weights + run_bytes + small_step + experts.reading_bytes();
    fail(ErrorKind::Input, "{}: runs in no less than {} of memory here, of which {} are weights that all tokens need; {}",
         arguments.model, enough_gib(least), gib(weights),
         asked ? fmt::format("--memory {} is less", arguments.memory) : fmt::format("{} are free", gib(budget)));
  };
  // There may not even be the memory to take them; as they are computed with they may be a little larger than in the file.
  const size_t dense = model.transformer.dense_bytes();
  if (resident_memory() + dense > budget) refuse(resident_memory() + dense + dense / 50);
  Progress progress("weights that all tokens need", 0, "B");
  model.transformer.pin_dense([&](size_t done, size_t all) {
    progress.set_total(static_cast<double>(all));
    progress.update(static_cast<double>(done));
  });
  progress.finish();

  if (resident_memory() + run_bytes + largest_step + experts.count() * experts.slot_bytes() <= budget) return;
  const size_t held = resident_memory() + run_bytes + small_step;
  if (budget < held + experts.reading_bytes()) refuse(resident_memory());
  // On their way: enough to keep the disk busy through a layer's attention, little beside those that stay.
  const size_t for_experts = budget - held;
  const size_t reads = std::clamp<size_t>(for_experts / kShareOnTheWay / experts.reading_bytes(), 1, kMostReads);
  const size_t slots = (for_experts - reads * experts.reading_bytes()) / experts.slot_bytes();
  bool known = false;
  experts.open({.slots = slots,
                .reads = reads,
                .step_bytes = small_step,
                .policy = store::policy_named(arguments.cache_policy, known),
                .predictor = predictor_of(arguments.read_ahead)});
  model.transformer.set_lossy(arguments.lossy);
  const double rate = experts.store().measure_read_rate(0.1);
  const double visits = static_cast<double>(spec.moe_layers()) * spec.moe.router.experts_per_token;
  const double misses = visits * (1 - static_cast<double>(slots) / static_cast<double>(experts.count()));
  fmt::print(stderr,
             "moiety: {} of memory: {} of {} experts stay in it, the others are read when tokens choose them, at {:.2f} GB/s: about "
             "{:.1f} tokens/s if all are chosen alike\n",
             gib(budget), slots, experts.count(), rate / 1e9, rate / (misses * static_cast<double>(experts.bytes_as_read())));
  if (static_cast<double>(slots) < visits) {
    fmt::print(stderr, "moiety: that is less than the {:.0f} a token visits: nearly all will be read again and again; {} would hold them\n",
               visits, enough_gib(held + reads * experts.reading_bytes() + static_cast<size_t>(visits) * experts.slot_bytes()));
  }
}

Json expert_statistics_json(const OpenModel& model) {
  const store::StoreStatistics* s = model.transformer.expert_statistics();
  if (s == nullptr) return {};
  const model::Lossy& lossy = model.transformer.lossy();
  return {{"hits", s->hits},
          {"misses", s->misses},
          {"bytes_read", s->bytes_read},
          {"seconds_waited", s->seconds_waited},
          {"slots", model.transformer.expert_cache()->slots()},
          {"policy", store::name(model.transformer.expert_cache()->policy())},
          {"expected", s->expected},
          {"expected_right", s->expected_right},
          {"expected_and_missing", s->expected_missing},
          {"read_ahead", s->read_ahead},
          {"bytes_wasted", s->bytes_wasted},
          {"lossy", lossy.is_on()},
          {"prefer_resident", lossy.prefer_resident},
          {"skip_missing", lossy.skip_missing},
          {"low_precision", lossy.low_precision}};
}

std::string expert_statistics_text(const OpenModel& model) {
  const store::StoreStatistics* s = model.transformer.expert_statistics();
  if (s == nullptr || s->hits + s->misses == 0) return {};
  const auto percent = [](uint64_t part, uint64_t all) { return 100.0 * static_cast<double>(part) / static_cast<double>(std::max<uint64_t>(all, 1)); };
  std::string text = fmt::format("experts: {:.1f} % of visits found them in memory (policy {}); {:.2f} GB were read, and {:.1f} s spent waiting for nothing else",
                                 percent(s->hits, s->hits + s->misses), store::name(model.transformer.expert_cache()->policy()),
                                 static_cast<double>(s->bytes_read) / 1e9, s->seconds_waited);
  if (s->expected > 0) {
    text += fmt::format("; of those expected {:.0f} % came, of those that came {:.0f} % were expected, {} were read ahead, {:.2f} GB of it for nothing",
                        percent(s->expected_right, s->expected), percent(s->expected_right, s->expected_missing), s->read_ahead,
                        static_cast<double>(s->bytes_wasted) / 1e9);
  }
  const model::Lossy& lossy = model.transformer.lossy();
  if (lossy.is_on()) {
    text += fmt::format("; LOSSY: prefer-resident {}, skip-missing {}, low-precision {}", lossy.prefer_resident, lossy.skip_missing, lossy.low_precision);
  }
  return text;
}

}  // namespace moiety::cli
