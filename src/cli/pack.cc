// moiety pack: a model into a file whose experts lie as they are computed with.
#include <chrono>
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
#include "pack/pack_model.h"

namespace moiety::cli {
namespace {

using format::PackedCopy;
using pack::PlannedSlab;
using spec::ElementType;

constexpr const char* kHelp =
    "Write a model as a GGUF file in which every expert lies on pages of its own, in the layout that is computed with: nothing is\n"
    "repacked when it is opened, and an expert that is read from the disk is ready. The output is the same to the bit.\n\n"
    "examples:\n"
    "  moiety pack model-Q4_K_M.gguf model-packed.gguf\n"
    "  moiety pack model/ model-packed.gguf --tensor 'blk\\.3\\.ffn_(gate|up|down)\\.17=Q8_0' --low q2_k\n"
    "  moiety pack model-Q8_0.gguf model-planes.gguf --planes\n"
    "  moiety pack --verify model-packed.gguf";

std::string bytes_text(size_t bytes) { return short_number(static_cast<double>(bytes)) + "B"; }

// Bytes of a copy of all experts by type.
std::map<std::string, size_t> bytes_by_type(const std::vector<PlannedSlab>& plan, PackedCopy copy) {
  std::map<std::string, size_t> bytes;
  for (const PlannedSlab& slab : plan) {
    if (slab.copy == copy) bytes[std::string(spec::name(slab.to))] += slab.bytes;
  }
  return bytes;
}

std::string types_text(const std::map<std::string, size_t>& bytes) {
  std::string text;
  for (const auto& [type, size] : bytes) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", type, bytes_text(size));
  return text;
}

// What one might not expect, a line each.
std::vector<std::string> remarks(const std::vector<PlannedSlab>& plan) {
  std::map<std::pair<ElementType, ElementType>, size_t> replaced;
  size_t coarse = 0, fp8 = 0;
  for (const PlannedSlab& slab : plan) {
    if (slab.copy == PackedCopy::Lower) continue;  // what there is to say was said of the upper plane
    const bool changes = format::whole_type(slab.to) != format::gguf_type(slab.from), was_rounded = spec::info(slab.from).block_elements > 1;
    if (slab.wanted) ++replaced[{*slab.wanted, slab.to}];
    coarse += changes && was_rounded && spec::info(slab.to).block_elements > 1;
    fp8 += slab.from == ElementType::F8_E4M3 && slab.to == ElementType::BF16;
  }
  std::vector<std::string> lines;
  for (const auto& [types, number] : replaced) {
    const auto [wanted, to] = types;
    lines.push_back(fmt::format("{} matrices became {}: their rows are not whole blocks of {} numbers, as {} wants", number,
                                spec::name(to), spec::info(wanted).block_elements, spec::name(wanted)));
  }
  if (coarse > 0) lines.push_back(fmt::format("{} matrices were rounded before: packing the original is better", coarse));
  if (fp8 > 0) lines.push_back(fmt::format("{} matrices in FP8 became BF16, which rounds their scaled numbers", fp8));
  return lines;
}

int verify(const std::string& path, int threads_asked, bool json) {
  const format::ModelFile file(path);
  require(file.packed() != nullptr, "{}: not a packed file", path);
  ThreadPool threads(thread_count(threads_asked));
  Progress progress("verify", 0, "B");
  const auto broken = pack::find_broken_slab(file, threads, [&](size_t done, size_t all) {
    progress.set_total(static_cast<double>(all));
    progress.update(static_cast<double>(done));
  });
  progress.finish();
  require(!broken, "{}: {} is not what was written (its checksum differs): the file is damaged", path, broken.value_or(""));
  if (json) {
    fmt::print("{}\n", Json{{"path", path}, {"intact", true}}.dump());
  } else {
    fmt::print("{}: every expert is as it was written\n", path);
  }
  return 0;
}

}  // namespace

int pack(int argc, char** argv) {
  std::string in, out, low_name, importance_path;
  std::vector<std::string> wish_texts;
  int threads_asked = 0;
  bool in_planes = false, verifies = false, json = false;
  CLI::App app(kHelp, "moiety pack");
  app.add_option("MODEL", in, "a Hugging Face folder, a training run or checkpoint, or a GGUF file")->required();
  auto* out_option = app.add_option("OUT", out, "the .gguf file to write");
  auto* low_option = app.add_option("--low", low_name, "a second copy of every expert beside the first, in a type of fewer bits such as q2_k");
  app.add_flag("--planes", in_planes,
               "experts in Q8_0 in two planes, of which the upper one alone is an expert of low precision: no byte is there twice")
      ->excludes(low_option);
  app.add_option("--tensor", wish_texts,
                 "PATTERN=TYPE: experts' matrices in whose name, such as blk.3.ffn_gate.17, the regular expression is found get "
                 "this type instead of their own; may be given several times, the last that fits counts")
      ->allow_extra_args(false);
  app.add_option("--importance", importance_path,
                 "what moiety importance or llama-imatrix wrote: columns that matter are rounded with more care");
  app.add_option("--threads", threads_asked, "threads to pack with (default: all cores)")->check(CLI::Range(1, 1024));
  app.add_flag("--verify", verifies, "MODEL is a packed file: read all of its experts and hold them to their checksums")
      ->excludes(out_option);
  app.add_flag("--json", json, "say it as JSON");
  if (const auto status = parse(app, argc, argv)) return *status;
  if (verifies) return verify(in, threads_asked, json);
  if (fs::path(out).extension() != ".gguf") {
    fail(ErrorKind::Usage, "OUT {}: what is written is a GGUF file; name it something.gguf", out);
  }
  std::vector<format::TypeWish> wishes;
  for (const std::string& text : wish_texts) wishes.push_back(parse_type_wish(text, true));
  std::optional<ElementType> low;
  if (!low_name.empty()) low = parse_type(low_name, "--low");

  const auto start = std::chrono::steady_clock::now();
  const format::ModelFile model(in);
  require(!fs::exists(out) || !fs::equivalent(out, model.path()), "{}: MODEL and OUT are the same", out);
  std::optional<format::Importance> importance;
  if (!importance_path.empty()) importance = format::read_importance(importance_path);
  const std::vector<PlannedSlab> plan = pack::plan_slabs(model, wishes, {low, in_planes});
  const format::Family& family = format::closest_family(model.spec(), format::FileKind::Gguf);
  ThreadPool threads(thread_count(threads_asked));
  Progress progress("pack", 0, "B");
  const pack::Packer packer{threads, importance ? &*importance : nullptr, [&](size_t done, size_t all) {
                              progress.set_total(static_cast<double>(all));
                              progress.update(static_cast<double>(done));
                            }};
  packer.write(out, model, gguf_metadata(model, family, format::main_type(model, true), out), plan);
  progress.finish();

  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const size_t bytes = fs::file_size(out);
  auto first = bytes_by_type(plan, PackedCopy::First);
  const auto second = bytes_by_type(plan, PackedCopy::Low);
  for (const PackedCopy plane : {PackedCopy::Upper, PackedCopy::Lower}) first.merge(bytes_by_type(plan, plane));
  const auto lines = remarks(plan);
  if (json) {
    fmt::print("{}\n", Json{{"out", out}, {"bytes", bytes}, {"seconds", seconds}, {"slabs", plan.size()}, {"bytes_by_type", first},
                            {"low_bytes_by_type", second}, {"remarks", lines}}.dump());
    return 0;
  }
  for (const std::string& line : lines) say("pack: {}\n", line);
  const std::string time = seconds < 60 ? fmt::format("{:.1f} s", seconds) : short_time(seconds);
  fmt::print("{}: {} in {}; experts {}{}\n", out, bytes_text(bytes), time, types_text(first), second.empty() ? "" : "; low " + types_text(second));
  return 0;
}

}  // namespace moiety::cli
