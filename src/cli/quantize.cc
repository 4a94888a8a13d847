// moiety quantize: a model into a GGUF file whose matrices have fewer bits.
#include <algorithm>
#include <map>

#include "base/json.h"
#include "base/progress.h"
#include "base/say.h"
#include "cli/arguments.h"
#include "cli/command.h"
#include "cli/gguf_metadata.h"
#include "cli/open_model.h"
#include "cli/type_wish.h"
#include "format/convert.h"
#include "format/quantize.h"
#include "format/quantize_plan.h"
#include "format/tensor_groups.h"

namespace moiety::cli {
namespace {

using format::PlannedTensor;
using spec::ElementType;

constexpr const char* kHelp =
    "Write a model as a GGUF file whose matrices have fewer bits. Norms, biases and routers stay as they are.\n\n"
    "examples:\n"
    "  moiety quantize model/ model-Q4_K_M.gguf --type Q4_K_M\n"
    "  moiety quantize model/ model.gguf --type Q3_K_M --importance importance.gguf --tensor 'ffn_down_exps=Q4_K'\n"
    "  moiety quantize model/ model.gguf --type Q8_0 --dry-run";

std::string mix_names() {
  std::string names;
  for (const format::Mix& mix : format::mixes()) names.append(names.empty() ? "" : ", ").append(mix.name);
  return names;
}

size_t elements_of(const PlannedTensor& t) {
  size_t elements = 1;
  for (const int64_t size : t.shape) elements *= static_cast<size_t>(size);
  return elements;
}
size_t bytes_of(const PlannedTensor& t) { return spec::bytes_of(t.to, elements_of(t)); }

struct Total {
  size_t elements = 0, bytes = 0, bytes_before = 0;
  double bits() const { return 8.0 * static_cast<double>(bytes) / static_cast<double>(std::max<size_t>(1, elements)); }
};
Total total_of(const std::vector<PlannedTensor>& plan) {
  Total total;
  for (const PlannedTensor& t : plan) {
    total.elements += elements_of(t);
    total.bytes += bytes_of(t);
    total.bytes_before += elements_of(t) / spec::info(t.from).block_elements * spec::info(t.from).block_bytes;
  }
  return total;
}

// Tensors that differ only in their numbers as a line.
void print_plan(const std::vector<PlannedTensor>& plan) {
  std::vector<std::pair<ElementType, std::vector<format::TensorView>>> by_old_type;
  for (const PlannedTensor& t : plan) {
    auto it = std::find_if(by_old_type.begin(), by_old_type.end(), [&](const auto& group) { return group.first == t.from; });
    if (it == by_old_type.end()) it = by_old_type.insert(it, {t.from, {}});
    it->second.push_back({t.name, t.to, t.shape});
  }
  fmt::print("{:<44}{:>24}  {:<6} {:<7} {:>6}{:>12}\n", "tensor", "shape", "from", "to", "count", "bytes");
  for (const auto& [from, tensors] : by_old_type) {
    for (const format::TensorGroup& group : format::group_tensors(tensors)) {
      const size_t each = bytes_of({"", group.shape, from, group.type, std::nullopt});
      fmt::print("{:<44}{:>24}  {:<6} {:<7} {:>6}{:>12}\n", group.name, format::shape_text(group.shape), spec::name(from),
                 spec::name(group.type), group.count, short_number(static_cast<double>(each * group.count)));
    }
  }
}

// What one might not expect, a line each.
std::vector<std::string> remarks(const std::vector<PlannedTensor>& plan, const format::Importance* importance) {
  std::map<std::pair<ElementType, ElementType>, size_t> replaced;
  size_t coarse = 0, without = 0, unvisited = 0;
  std::string first_coarse, first_without, first_unvisited;
  for (const PlannedTensor& t : plan) {
    const auto count = [&](size_t& number, std::string& first, size_t more) {
      if (number == 0) first = t.name;
      number += more;
    };
    const bool is_blocks = spec::info(t.to).block_elements > 1, changes = t.to != t.from;
    if (t.wanted) ++replaced[{*t.wanted, t.to}];
    if (changes && is_blocks && spec::info(t.from).block_elements > 1) count(coarse, first_coarse, 1);
    if (importance == nullptr || !changes || !is_blocks) continue;
    if (!importance->tensors.contains(t.name)) count(without, first_without, 1);
    if (const size_t none = importance->unvisited(t.name).size()) count(unvisited, first_unvisited, none);
  }
  std::vector<std::string> lines;
  for (const auto& [types, number] : replaced) {
    const auto [wanted, to] = types;
    lines.push_back(fmt::format("{} tensors became {}: their rows are not whole blocks of {} numbers, as {} wants",
                                number, spec::name(to), spec::info(wanted).block_elements, spec::name(wanted)));
  }
  if (coarse > 0) {
    lines.push_back(fmt::format("{} tensors were rounded before ({} and so on): a quantisation of the original is better", coarse,
                                first_coarse));
  }
  if (without > 0) lines.push_back(fmt::format("{} tensors are not in the importance file ({} and so on)", without, first_without));
  if (unvisited > 0) {
    lines.push_back(fmt::format("{} matrices of experts saw no text ({} and so on): they take the mean of their layer", unvisited,
                                first_unvisited));
  }
  return lines;
}

// Throws Error(Input) if the sums are another model's.
void check_sizes(const format::Importance& importance, const std::vector<PlannedTensor>& plan) {
  for (const PlannedTensor& t : plan) {
    const size_t dimensions = t.shape.size();
    if (dimensions < 2 || !importance.tensors.contains(t.name)) continue;
    const size_t rows = static_cast<size_t>(t.shape[dimensions - 2]), cols = static_cast<size_t>(t.shape[dimensions - 1]);
    importance.of(t.name, 0, elements_of(t) / (rows * cols), cols);
  }
}

void print_json(const std::string& out, const std::vector<PlannedTensor>& plan, const std::vector<std::string>& lines) {
  Json tensors = Json::array();
  for (const PlannedTensor& t : plan) {
    tensors.push_back({{"name", t.name}, {"shape", t.shape}, {"from", spec::name(t.from)}, {"to", spec::name(t.to)},
                       {"bytes", bytes_of(t)}});
    if (t.wanted) tensors.back()["wanted"] = spec::name(*t.wanted);
  }
  const Total total = total_of(plan);
  fmt::print("{}\n", Json{{"out", out}, {"bytes", total.bytes}, {"bytes_before", total.bytes_before},
                          {"bits_per_weight", total.bits()}, {"remarks", lines}, {"tensors", tensors}}
                         .dump());
}

}  // namespace

int quantize(int argc, char** argv) {
  std::string in, out, type_name, importance_path;
  std::vector<std::string> wish_texts;
  int threads_asked = 0;
  bool dry_run = false, json = false;
  CLI::App app(kHelp, "moiety quantize");
  app.add_option("MODEL", in, "a Hugging Face folder, a training run or checkpoint, or a GGUF file")->required();
  app.add_option("OUT", out, "the .gguf file to write")->required();
  app.add_option("--type", type_name, "a type for all matrices or a mix of types: " + mix_names())->required();
  app.add_option("--tensor", wish_texts,
                 "PATTERN=TYPE: matrices in whose GGUF name the regular expression is found get this type; may be given several "
                 "times, the last that fits counts")
      ->allow_extra_args(false);
  app.add_option("--importance", importance_path, "what moiety importance or llama-imatrix wrote: columns that matter are rounded with more care");
  app.add_option("--threads", threads_asked, "threads to compute with (default: all cores)")->check(CLI::Range(1, 1024));
  app.add_flag("--dry-run", dry_run, "only say what each tensor would become");
  app.add_flag("--json", json, "say it as JSON");
  if (const auto status = parse(app, argc, argv)) return *status;
  const format::Mix* mix = format::mix_named(type_name);
  if (mix == nullptr) fail(ErrorKind::Usage, "--type {}: expected one of {}", type_name, mix_names());
  if (fs::path(out).extension() != ".gguf") fail(ErrorKind::Usage, "{}: what is written is a GGUF file; name it something.gguf", out);
  std::vector<format::TypeWish> wishes;
  for (const std::string& text : wish_texts) wishes.push_back(parse_type_wish(text));

  const format::ModelFile model(in);
  require(!fs::exists(out) || !fs::equivalent(out, model.path()), "{}: MODEL and OUT are the same", out);
  std::optional<format::Importance> importance;
  if (!importance_path.empty()) importance = format::read_importance(importance_path);

  const format::Family& family = format::closest_family(model.spec(), format::FileKind::Gguf);
  std::vector<format::TensorSource> tensors = format::gguf_tensors(model, family, std::nullopt);
  const auto plan = format::choose_types(*mix, wishes, model.spec(), tensors);
  if (importance) check_sizes(*importance, plan);
  const Total total = total_of(plan);
  if (!dry_run) {
    format::GgufMetadata metadata = gguf_metadata(model, family, mix->type, out);
    metadata.set("general.file_type", mix->file_type);
    ThreadPool threads(thread_count(threads_asked));
    Progress progress("quantize", static_cast<double>(total.elements), "weights");
    size_t done = 0;
    const format::Quantizer quantizer{threads, importance ? &*importance : nullptr, [&](size_t elements) {
                                        done += elements;
                                        progress.update(static_cast<double>(done));
                                      }};
    format::write_gguf(out, metadata, tensors, [&](AtomicFile& file, const auto& tensor) { quantizer.write(file, tensor); });
  }

  const auto lines = remarks(plan, importance ? &*importance : nullptr);
  if (json) {
    print_json(out, plan, lines);
    return 0;
  }
  if (dry_run) print_plan(plan);
  for (const std::string& line : lines) say("quantize: {}\n", line);
  fmt::print("{}: {}B to {}B, {:.2f} bits a weight{}\n", out, short_number(static_cast<double>(total.bytes_before)),
             short_number(static_cast<double>(total.bytes)), total.bits(), dry_run ? " (nothing was written)" : "");
  return 0;
}

}  // namespace moiety::cli
