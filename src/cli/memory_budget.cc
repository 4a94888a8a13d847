#include "cli/memory_budget.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/block_memory.h"
#include "base/error.h"
#include "base/progress.h"
#include "base/say.h"
#include "base/system_memory.h"
#include "cli/past_visits.h"
#include "model/step_memory.h"
#include "store/replay.h"

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

// So many of the experts that were used most in the trace that the command line names.
std::vector<store::ExpertId> pinned_by(const ModelArguments& arguments, const spec::ModelSpec& spec, size_t count) {
  if (arguments.pin.empty()) return {};
  const PastVisits past = read_past_visits(arguments.pin, false);
  const trace::TraceHeader of_model = trace::header_of(spec, past.header.model);
  require(past.header == of_model, "--pin {}: a trace of {}, whose layers and experts are not those of {}", arguments.pin,
          past.header.model, arguments.model);
  return store::hot_set(past.experts_L, past.visits, count);
}

size_t cache_bytes(const spec::ModelSpec& spec, kernel::KvType kv, const RunMemory& run) {
  size_t bytes = 0;
  for (const size_t tokens : run.sequences) bytes += model::KvCache::bytes(spec, {.capacity = tokens, .type = kv});
  return bytes;
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
  const size_t chunk = std::min(run.prompt, model::prompt_chunk(spec));
  const size_t largest_step = model::step_bytes(spec, chunk, run.logits);
  if (spec.moe_layers() == 0) {
    if (asked) fail(ErrorKind::Usage, "--memory: {} is a dense model and has no experts to leave on the disk", arguments.model);
    return keep_blocks(largest_step);
  }
  const size_t budget = asked ? parse_bytes(arguments.memory)
                              : static_cast<size_t>(kShareOfFree * static_cast<double>(available_memory())) + resident_memory();
  const size_t run_bytes = cache_bytes(spec, model.kv, run) + run.other;
  size_t weight_bytes = 0;
  for (const format::TensorView& tensor : model.file.tensors()) {
    if (!tensor.name.ends_with(".low")) weight_bytes += tensor.bytes.size();
  }
  if (arguments.lossy.low_precision > 0) {
    require(model.file.packed() != nullptr && model.file.packed()->low_copy(),
            "--low-precision: {} has no experts in low precision; moiety pack with --low TYPE or --planes makes a file that has",
            arguments.model);
  }
  if (!asked && weight_bytes + run_bytes + largest_step + resident_memory() <= budget) return keep_blocks(largest_step);

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

  if (resident_memory() + run_bytes + largest_step + experts.bytes() <= budget) return keep_blocks(largest_step);
  const size_t held = resident_memory() + run_bytes + small_step;
  if (budget < held + experts.reading_bytes()) refuse(resident_memory());
  // On their way: enough to keep the disk busy through a layer's attention, little beside those that stay.
  const size_t for_experts = budget - held;
  const size_t reads = std::clamp<size_t>(for_experts / kShareOnTheWay / experts.reading_bytes(), 1, kMostReads);
  const size_t room = for_experts - reads * experts.reading_bytes(), stay = experts.experts_in(room);
  experts.open({.room = room,
                .reads = reads,
                .step_bytes = small_step,
                .policy = store::policy_named(arguments.cache_policy).value(),
                .pinned = pinned_by(arguments, spec, stay / 2),
                .predictor = predictor_of(arguments.read_ahead)});
  model.transformer.set_lossy(arguments.lossy);
  const double rate = experts.store().measure_read_rate(0.1);
  const double visits = static_cast<double>(spec.moe_layers()) * spec.moe.router.experts_per_token;
  const double misses = visits * (1 - static_cast<double>(stay) / static_cast<double>(experts.count()));
  say("moiety: {} of memory: {} of {} experts stay in it, the others are read when tokens choose them, at {:.2f} GB/s: about "
             "{:.1f} tokens/s if all are chosen alike\n",
             gib(budget), stay, experts.count(), rate / 1e9, rate / (misses * static_cast<double>(experts.bytes_as_read())));
  if (static_cast<double>(stay) < visits) {
    say("moiety: that is less than the {:.0f} a token visits: nearly all will be read again and again; {} would hold them\n",
        visits, enough_gib(held + reads * experts.reading_bytes() + experts.room_for(static_cast<size_t>(visits))));
  }
}

}  // namespace moiety::cli
