#include "model/streamed_experts.h"

#include <malloc.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "model/step_memory.h"
#include "moe/gate.h"

namespace moiety::model {
namespace {

using kernel::Projection;
using kernel::WeightView;
using Bytes = std::span<const std::byte>;

constexpr size_t kLine = 64;
// Experts on their way that a wave of a prompt has beside those that a token has.
constexpr size_t kMoreReads = 24;

size_t whole_lines(size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

Bytes bytes_of(const WeightView& matrix) { return {matrix.data, matrix.row(matrix.rows - 1) + matrix.row_bytes()}; }
Bytes scales_of(const WeightView& matrix) {
  if (matrix.scales.data == nullptr) return {};
  const size_t rows = (matrix.rows + matrix.scales.block_rows - 1) / matrix.scales.block_rows;
  return {matrix.scales.data, rows * matrix.scales.row_stride};
}

// Sorted, and as one where they touch or overlap.
std::vector<Bytes> merged(std::vector<Bytes> runs) {
  std::ranges::sort(runs, {}, [](Bytes run) { return run.data(); });
  std::vector<Bytes> out;
  for (const Bytes run : runs) {
    if (out.empty() || run.data() > out.back().data() + out.back().size()) {
      out.push_back(run);
    } else {
      out.back() = {out.back().data(), std::max(out.back().data() + out.back().size(), run.data() + run.size())};
    }
  }
  return out;
}

// Where bytes of a run were copied to; others stay where they are.
const std::byte* moved(const std::byte* at, const std::vector<Bytes>& runs, std::span<const std::byte* const> to) {
  for (size_t r = 0; r < runs.size(); ++r) {
    if (at >= runs[r].data() && at < runs[r].data() + runs[r].size()) return to[r] + (at - runs[r].data());
  }
  return at;
}

// The matrix there.
Projection moved(Projection matrix, const std::vector<Bytes>& runs, std::span<const std::byte* const> to) {
  matrix.data = moved(matrix.data, runs, to);
  matrix.scales.data = moved(matrix.scales.data, runs, to);
  matrix.packed.data = moved(matrix.packed.data, runs, to);
  return matrix;
}

}  // namespace

StreamedExperts::StreamedExperts(const format::ModelFile& file, const kernel::Compute& compute, Weights& weights)
    : file_(file), compute_(compute), weights_(weights), is_packed_file_(file.packed() != nullptr), in_planes_(is_packed_file_ && file.packed()->are_in_planes()) {
  using enum format::PackedCopy;
  const std::vector<format::PackedCopy> all = in_planes_ ? std::vector{Upper, Lower} : std::vector{First}, low = {in_planes_ ? Upper : Low};
  for (size_t l = 0; l < weights.layers.size(); ++l) {
    std::vector<Source>& sources = sources_LE_.emplace_back();
    const MoeWeights& moe = weights.layers[l].moe;
    count_ += moe.experts_E.size();
    for (const auto& [experts_E, copies] : {std::pair(&moe.experts_E, &all), std::pair(&moe.low_E, &low)}) {
      for (size_t e = 0; e < experts_E->size(); ++e) {
        const ExpertWeights& expert = (*experts_E)[e];
        sources.push_back(is_packed_file_ ? packed_source_of(expert, static_cast<int>(l), static_cast<int>(e), *copies) : source_of(expert));
        Source& source = sources.back();
        const size_t as_read = store::bytes_as_read(source.parts);
        source.bytes = DirectFile::whole_pages(reads_in_place() ? as_read : bytes_in_memory(source));
        most_bytes_ = std::max(most_bytes_, source.bytes);
        most_bytes_as_read_ = std::max(most_bytes_as_read_, as_read);
        if (experts_E != &moe.experts_E) continue;
        bytes_ += source.bytes;
        bytes_as_read_ += as_read;
      }
    }
  }
}

size_t StreamedExperts::room_for(size_t experts) const { return count_ == 0 ? 0 : (experts * bytes_ + count_ - 1) / count_; }

size_t StreamedExperts::experts_in(size_t room) const { return bytes_ == 0 ? 0 : std::min(room, bytes_) * count_ / bytes_; }

StreamedExperts::Source StreamedExperts::source_of(const ExpertWeights& expert) const {
  Source source;
  std::vector<Bytes> runs;
  for (size_t i = 0; i < 3; ++i) {
    source.matrices[i] = expert.matrices[i];
    runs.push_back(bytes_of(source.matrices[i]));
    require(file_.place_of(runs.back().data()).has_value(),
            "{}: its experts are turned around when they are read and can't be streamed; moiety pack makes a file whose can",
            file_.path().string());
    const Bytes scales = scales_of(source.matrices[i]);
    if (!scales.empty() && file_.place_of(scales.data())) runs.push_back(scales);
  }
  source.runs = merged(std::move(runs));
  for (const Bytes run : source.runs) {
    const auto place = *file_.place_of(run.data());
    source.parts.push_back({place.file, place.offset, run.size()});
  }
  return source;
}

// The slabs of a copy follow one another, from page to page.
StreamedExperts::Source StreamedExperts::packed_source_of(const ExpertWeights& expert, int layer, int number,
                                                          std::span<const format::PackedCopy> copies) const {
  Source source;
  for (size_t i = 0; i < 3; ++i) source.matrices[i] = expert.matrices[i];
  for (const format::PackedCopy copy : copies) {
    for (const spec::Role role : spec::kExpertMatrices) source.slabs.push_back(*file_.packed_expert({role, layer, number}, copy));
    const format::PackedSlab &first = source.slabs[source.slabs.size() - 3], &last = source.slabs.back();
    source.runs.push_back({first.bytes.data(), last.bytes.data() + last.bytes.size()});
    source.parts.push_back({first.place.file, first.place.offset, source.runs.back().size()});
  }
  return source;
}

ExpertWeights& StreamedExperts::weights_of(store::ExpertId id) const {
  MoeWeights& moe = weights_.layers[static_cast<size_t>(id.layer)].moe;
  const size_t e = static_cast<size_t>(id.expert), experts = moe.experts_E.size();
  return e < experts ? moe.experts_E[e] : moe.low_E[e - experts];
}

bool StreamedExperts::is_low(store::ExpertId id) const {
  return static_cast<size_t>(id.expert) >= weights_.layers[static_cast<size_t>(id.layer)].moe.experts_E.size();
}

bool StreamedExperts::is_packed(const WeightView& matrix) const {
  return compute_.arithmetic == kernel::Arithmetic::Fast && kernel::packed_type(matrix.type) != nullptr;
}

// Packed matrices, then, if others need them, the runs as they were read.
size_t StreamedExperts::bytes_in_memory(const Source& source) const {
  size_t bytes = 0;
  bool raw = false;
  for (const WeightView& matrix : source.matrices) {
    if (!is_packed(matrix)) raw = true;
    else bytes += whole_lines(kernel::PackedView{kernel::packed_type(matrix.type), nullptr, matrix.rows, matrix.cols}.bytes());
  }
  for (const Bytes run : source.runs) bytes += raw ? whole_lines(run.size()) : 0;
  return bytes;
}

void StreamedExperts::open(const Options& options) {
  std::vector<std::vector<std::vector<store::FilePart>>> parts_LE;
  std::vector<std::vector<size_t>> bytes_LE;
  for (const auto& layer : sources_LE_) {
    auto& parts_E = parts_LE.emplace_back();
    auto& bytes_E = bytes_LE.emplace_back();
    for (const Source& source : layer) {
      parts_E.push_back(source.parts);
      bytes_E.push_back(source.bytes);
    }
  }
  store::ExpertHost& host = *this;
  options_ = options;
  if (options.predictor == store::Predictor::Caller && moe::chooses_ahead(file_.spec().moe.router)) {
    options_.predictor = store::Predictor::Certain;
  }
  store_ = std::make_unique<store::TieredStore>(file_.files(), std::move(parts_LE), host,
                                                store::TieredStore::Options{.room = options.room,
                                                                            .bytes_LE = std::move(bytes_LE),
                                                                            .in_place = reads_in_place(),
                                                                            .policy = options.policy,
                                                                            .pinned = options.pinned,
                                                                            .reads = options.reads,
                                                                            .more_reads = kMoreReads,
                                                                            .predictor = options_.predictor,
                                                                            .engine = options.engine,
                                                                            .has_low = is_packed_file_ && file_.packed()->low_copy(),
                                                                            .in_planes = in_planes_});
}

size_t StreamedExperts::room_beside(size_t tokens, size_t logits) const {
  const size_t bytes = step_bytes(file_.spec(), tokens, logits), more = bytes - std::min(bytes, options_.step_bytes);
  return options_.room - std::min(options_.room, more + room_for_reads(tokens));
}

void StreamedExperts::make_room(size_t tokens, size_t logits) {
  const size_t room = room_beside(tokens, logits);
  if (room == store_->cache().room()) return;
  if (room > store_->cache().room()) ::malloc_trim(0);  // what the larger step held
  store_->use_room(room, room_for_reads(tokens));
}

// A wave computes with each expert for as long as the next ones take to read, and with its attention meanwhile for as long as a
// dozen take.
size_t StreamedExperts::room_for_reads(size_t tokens) const {
  constexpr size_t kWave = 64;
  return tokens < kWave ? 0 : std::min(options_.room / 2, kMoreReads * store_->bytes_a_read());
}

size_t StreamedExperts::prompt_chunk(size_t prompt) const {
  constexpr size_t kMost = 4096, kLeast = 32;
  size_t best = kLeast, least_reads = SIZE_MAX;
  for (size_t tokens = kLeast; tokens <= kMost; tokens *= 2) {
    const size_t bytes = step_bytes(file_.spec(), tokens, 1);
    if (tokens > kLeast && bytes - std::min(bytes, options_.room) > options_.step_bytes) break;
    // Every wave reads what is not in memory; what left it to make room comes back later.
    const size_t stay = experts_in(room_beside(tokens, 1)), waves = (prompt + tokens - 1) / tokens;
    const size_t reads = waves * (count_ - stay) + experts_in(options_.room) - stay;
    if (reads < least_reads) best = tokens, least_reads = reads;
    if (tokens >= prompt) break;
  }
  return best;
}

void StreamedExperts::arrive(std::span<const store::Arrival> arrivals) {
  if (!is_packed_file_) return pack(arrivals);
  check(arrivals);
  in_planes_ ? take_planes(arrivals) : take_slabs(arrivals);
}

// Whether what was read is whole: of each arrival the slabs of the last parts, which were read.
void StreamedExperts::check(std::span<const store::Arrival> arrivals) const {
  struct Slab {
    store::ExpertId id;
    const format::PackedSlab* slab;
    const std::byte* at;
    bool is_whole = false;
  };
  std::vector<Slab> slabs;
  for (const auto& [id, parts, slot] : arrivals) {
    const Source& source = source_of(id);
    const size_t before = source.parts.size() - parts.size();
    for (size_t n = 3 * before; n < source.slabs.size(); ++n) {
      const format::PackedSlab& slab = source.slabs[n];
      slabs.push_back({id, &slab, parts[n / 3 - before] + (slab.bytes.data() - source.runs[n / 3].data())});
    }
  }
  compute_.threads.parallel_for(slabs.size(), [&](size_t n) {
    slabs[n].is_whole = format::slab_checksum({slabs[n].at, slabs[n].slab->bytes.size()}) == slabs[n].slab->checksum;
  });
  const auto broken = std::ranges::find(slabs, false, &Slab::is_whole);
  if (broken == slabs.end()) return;
  const auto& [layer, number] = broken->id;
  const size_t experts = weights_.layers[static_cast<size_t>(layer)].moe.experts_E.size();
  fail(ErrorKind::Io, "{}: what was read of layer {}'s expert {} is not what was written (its checksum differs); moiety pack --verify checks the whole file",
       file_.path().string(), layer, static_cast<size_t>(number) % experts);
}

// What was read is computed with as it is.
void StreamedExperts::take_slabs(std::span<const store::Arrival> arrivals) {
  for (const store::Arrival& arrival : arrivals) {
    const Source& source = source_of(arrival.id);
    for (size_t i = 0; i < 3; ++i) weights_of(arrival.id).matrices[i] = moved(source.matrices[i], source.runs, arrival.parts);
  }
}

// Upper planes alone go to their slots as they are. Those that came with the lower ones, or were in memory before, are merged with
// them there.
void StreamedExperts::take_planes(std::span<const store::Arrival> arrivals) {
  struct Copying {
    Bytes from;
    std::byte* to;
  };
  std::vector<Copying> copies;
  std::vector<kernel::Packing> merges;
  for (const auto& [id, read, slot] : arrivals) {
    const auto& parts = read;
    const Source& source = source_of(id);
    ExpertWeights& weights = weights_of(id);
    std::byte* to = slot;
    for (size_t i = 0; i < 3; ++i) {
      const Projection& matrix = source.matrices[i];
      kernel::PackedView& packed = weights.matrices[i].packed;
      const auto in_part = [&](size_t plane, size_t part) {
        return parts[part] + (source.slabs[3 * plane + i].bytes.data() - source.runs[plane].data());
      };
      packed = {kernel::packed_type(matrix.type), to, matrix.rows, matrix.cols};
      if (is_low(id)) {
        copies.push_back({{in_part(0, 0), packed.bytes()}, to});
      } else {
        const bool is_here = parts.size() == 1;
        const ExpertWeights& low = weights_.layers[static_cast<size_t>(id.layer)].moe.low_E[static_cast<size_t>(id.expert)];
        const std::byte* const upper = is_here ? low.matrices[i].packed.data : in_part(0, 0);
        merges.push_back({&matrix, packed, to, {upper, in_part(1, is_here ? 0 : 1)}});
      }
      to += whole_lines(packed.bytes());
    }
  }
  compute_.threads.parallel_for(copies.size(), [&](size_t n) { std::memcpy(copies[n].to, copies[n].from.data(), copies[n].from.size()); });
  kernel::pack(compute_.threads, merges);
}

void StreamedExperts::pack(std::span<const store::Arrival> arrivals) {
  std::vector<WeightView> read;
  read.reserve(3 * arrivals.size());
  std::vector<kernel::Packing> packings;
  for (const auto& [id, parts, slot] : arrivals) {
    const Source& source = source_of(id);
    ExpertWeights& weights = weights_of(id);
    std::byte* to = slot;
    for (size_t i = 0; i < 3; ++i) {
      const WeightView& view = read.emplace_back(moved(source.matrices[i], source.runs, parts));
      if (!is_packed(view)) continue;
      const kernel::PackedView packed{kernel::packed_type(view.type), to, view.rows, view.cols};
      packings.push_back({&view, packed, to});
      weights.matrices[i].packed = packed;
      to += whole_lines(packed.bytes());
    }
    if (std::ranges::all_of(source.matrices, [&](const WeightView& matrix) { return is_packed(matrix); })) continue;
    std::vector<const std::byte*> runs;
    for (size_t r = 0; r < source.runs.size(); ++r) {
      std::memcpy(to, parts[r], source.runs[r].size());
      runs.push_back(to);
      to += whole_lines(source.runs[r].size());
    }
    for (size_t i = 0; i < 3; ++i) {
      static_cast<WeightView&>(weights.matrices[i]) = moved(source.matrices[i], source.runs, runs);
    }
  }
  kernel::pack(compute_.threads, packings);
}

void StreamedExperts::leave(store::ExpertId id) {
  for (size_t i = 0; i < 3; ++i) weights_of(id).matrices[i] = source_of(id).matrices[i];
}

}  // namespace moiety::model
