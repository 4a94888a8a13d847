#include "pack/pack_model.h"

#include <algorithm>
#include <cassert>

#include "base/error.h"
#include "format/convert.h"
#include "format/elements.h"
#include "pack/slab.h"

namespace moiety::pack {
namespace {

using format::ModelFile;
using format::PackedCopy;
using format::TensorSource;
using spec::ElementType;
using spec::kExpertMatrices;
using spec::Role;
using spec::Weight;

// Calls visit(layer, expert) for all, in the order of the file.
template <class Visit>
void for_each_expert(const spec::ModelSpec& spec, Visit visit) {
  for (int layer = 0; layer < spec.num_layers; ++layer) {
    if (spec.feed_forward[static_cast<size_t>(layer)] != spec::FeedForward::Moe) continue;
    for (int expert = 0; expert < spec.moe.router.num_experts; ++expert) visit(layer, expert);
  }
}

// What is known of the columns of an expert's matrix.
std::vector<float> columns_of(const format::Importance* importance, const spec::ModelSpec& spec, const Weight& weight) {
  if (importance == nullptr) return {};
  const format::Family& family = format::closest_family(spec, format::FileKind::Gguf);
  const size_t cols = static_cast<size_t>(spec::shape_of(spec, weight.role)[1]);
  return importance->of(format::name_of(*family.gguf.names.rows(weight.role).front(), weight), static_cast<size_t>(weight.expert),
                        static_cast<size_t>(spec.moe.router.num_experts), cols);
}

void set_lists(std::span<const PlannedSlab> plan, PackedCopy copy, std::span<const uint64_t> checksums,
               format::GgufMetadata& metadata) {
  std::vector<int64_t> types;
  std::vector<uint64_t> sums;
  for (size_t i = 0; i < plan.size(); ++i) {
    if (plan[i].copy != copy) continue;
    types.push_back(spec::info(format::whole_type(plan[i].to)).ggml_id);
    sums.push_back(checksums[i]);
  }
  if (types.empty()) return;
  metadata.set(format::keys_of(copy).types, std::move(types));
  metadata.set(format::keys_of(copy).checksums, std::move(sums));
}

}  // namespace

std::vector<PlannedSlab> plan_slabs(const ModelFile& model, std::span<const format::TypeWish> wishes, const Copies& copies) {
  assert(!copies.in_planes || !copies.low);
  const spec::ModelSpec& spec = model.spec();
  const std::string where = model.path().string();
  require(model.packed() == nullptr, "{}: it is packed already; use the file that it was packed from", where);
  require(spec.moe_layers() > 0, "{}: a dense model, which has no experts to pack", where);

  std::vector<bool> was_used(wishes.size());
  std::vector<PlannedSlab> plan;
  const auto add = [&](const Weight& weight, PackedCopy copy, ElementType from, ElementType wanted) {
    const auto shape = spec::shape_of(spec, weight.role);
    PlannedSlab slab{weight, copy, from, format::type_that_fits(wanted, shape[1])};
    if (slab.to != wanted) slab.wanted = wanted;
    if (copies.in_planes) {
      require(slab.to == ElementType::Q8_0, "{}: {} is {}, but only Q8_0 has planes{}", where, format::slab_name(weight),
              spec::name(slab.to), slab.wanted ? ", and its rows are not whole blocks of it" : "; --tensor 'ffn=q8_0' would make it so");
      slab.to = copy == PackedCopy::Upper ? ElementType::Q8_0_UPPER : ElementType::Q8_0_LOWER;
    }
    slab.bytes = *format::slab_bytes(slab.to, static_cast<size_t>(shape[0]), static_cast<size_t>(shape[1]));
    plan.push_back(slab);
  };
  for_each_expert(spec, [&](int layer, int expert) {
    for (const Role role : kExpertMatrices) {
      const Weight weight{role, layer, expert};
      const ElementType from = model.type_of(weight);
      ElementType to = format::gguf_type(from);
      const std::string name = format::slab_name(weight);
      for (size_t i = 0; i < wishes.size(); ++i) {
        if (!std::regex_search(name, wishes[i].pattern)) continue;
        to = wishes[i].type;
        was_used[i] = true;
      }
      add(weight, copies.in_planes ? PackedCopy::Upper : PackedCopy::First, from, to);
    }
    for (size_t i = 0; (copies.low || copies.in_planes) && i < std::size(kExpertMatrices); ++i) {
      const PlannedSlab first = plan[plan.size() - std::size(kExpertMatrices)];
      if (copies.low) add(first.weight, PackedCopy::Low, first.from, *copies.low);
      else add(first.weight, PackedCopy::Lower, first.from, ElementType::Q8_0);
    }
  });
  for (size_t i = 0; i < wishes.size(); ++i) {
    if (was_used[i]) continue;
    fail(ErrorKind::Usage, "--tensor {}: no expert's matrix has a name like that, such as blk.3.ffn_gate.17", wishes[i].text);
  }
  return plan;
}

void Packer::write(const fs::path& path, const ModelFile& model, format::GgufMetadata metadata,
                   std::span<const PlannedSlab> plan) const {
  const spec::ModelSpec& spec = model.spec();
  std::vector<TensorSource> tensors = format::dense_gguf_tensors(model, format::closest_family(spec, format::FileKind::Gguf));
  const size_t dense = tensors.size();
  size_t done = 0, all = 0;
  for (const TensorSource& tensor : tensors) all += spec::bytes_of(tensor.type, tensor.elements());
  for (const PlannedSlab& slab : plan) {
    TensorSource& tensor = tensors.emplace_back();
    tensor.name = format::slab_name(slab.weight, slab.copy);
    tensor.type = ElementType::I8;
    tensor.shape = {static_cast<int64_t>(slab.bytes)};
    all += slab.bytes;
  }

  std::vector<uint64_t> checksums(plan.size());
  const auto write_slab = [&](AtomicFile& file, size_t number) {
    const PlannedSlab& slab = plan[number];
    format::OwnedBytes turned;
    const format::TensorView from = model.weight(slab.weight, turned);
    const std::vector<std::byte> bytes = make_slab(threads, from, slab.to, columns_of(importance, spec, slab.weight));
    checksums[number] = format::slab_checksum(bytes);
    file.write(bytes);
    if (from.row_stride == 0) model.done_with(from.bytes);
  };

  metadata.set("general.alignment", static_cast<int64_t>(format::kSlabAlignment));
  const bool in_planes = std::ranges::any_of(plan, [](const PlannedSlab& slab) { return slab.copy == PackedCopy::Upper; });
  metadata.set(format::kPackVersionKey, in_planes ? format::kPlanesVersion : format::kPackVersion);
  const auto set_all_lists = [&](format::GgufMetadata& m) {
    for (const PackedCopy copy : format::kPackedCopies) set_lists(plan, copy, checksums, m);
  };
  set_all_lists(metadata);
  const auto write_one = [&](AtomicFile& file, const TensorSource& tensor) {
    const size_t number = static_cast<size_t>(&tensor - tensors.data());
    if (number < dense) {
      format::write_elements(file, tensor);
      for (const format::TensorView& part : tensor.parts) model.done_with(part.bytes);
    } else {
      write_slab(file, number - dense);
    }
    done += spec::bytes_of(tensor.type, tensor.elements());
    if (progress) progress(done, all);
  };
  format::write_gguf(path, std::move(metadata), tensors, write_one, set_all_lists);
}

std::optional<std::string> find_broken_slab(const ModelFile& file, ThreadPool& threads,
                                            const std::function<void(size_t done, size_t all)>& progress) {
  struct Slab {
    Weight weight;
    PackedCopy copy;
    format::PackedSlab slab;
    bool is_whole = false;
  };
  std::vector<Slab> slabs;
  size_t done = 0, all = 0;
  for_each_expert(file.spec(), [&](int layer, int expert) {
    for (const PackedCopy copy : format::kPackedCopies) {
      for (const Role role : kExpertMatrices) {
        const Weight weight{role, layer, expert};
        if (const auto slab = file.packed_expert(weight, copy)) slabs.push_back({weight, copy, *slab}), all += slab->bytes.size();
      }
    }
  });

  constexpr size_t kAtOnce = 64;
  for (size_t first = 0; first < slabs.size(); first += kAtOnce) {
    const std::span<Slab> some = std::span(slabs).subspan(first, std::min(kAtOnce, slabs.size() - first));
    threads.parallel_for(some.size(), [&](size_t i) {
      some[i].is_whole = format::slab_checksum(some[i].slab.bytes) == some[i].slab.checksum;
      file.done_with(some[i].slab.bytes);
    });
    for (const Slab& slab : some) {
      if (!slab.is_whole) return format::slab_name(slab.weight, slab.copy);
      done += slab.slab.bytes.size();
    }
    if (progress) progress(done, all);
  }
  return std::nullopt;
}

}  // namespace moiety::pack
