#include "pack/pack_model.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/error.h"
#include "base/random.h"
#include "format/convert.h"
#include "format/elements.h"
#include "format/quantize.h"
#include "kernel/linear.h"
#include "pack/slab.h"
#include "support/fixtures.h"
#include "support/packed_file.h"
#include "support/random_model.h"

namespace moiety::pack {
namespace {

using format::ModelFile;
using format::PackedCopy;
using format::PackedSlab;
using format::TensorView;
using spec::ElementType;
using spec::Role;
using Bytes = std::vector<std::byte>;

constexpr Role kMatrices[] = {Role::ExpertGate, Role::ExpertUp, Role::ExpertDown};

// What each type can be packed from.
std::vector<ElementType> writable_types() {
  std::vector<ElementType> types;
  for (const auto& row : spec::element_types()) {
    if (row.is_weight && format::can_write(row.type)) types.push_back(row.type);
  }
  return types;
}

// Row by row, on one thread.
Bytes plain_encoding(ElementType type, std::span<const float> numbers, size_t cols) {
  Bytes bytes(spec::bytes_of(type, numbers.size()));
  const size_t row = spec::bytes_of(type, cols);
  for (size_t r = 0; r < numbers.size() / cols; ++r) {
    format::encode_row(type, numbers.subspan(r * cols, cols), {}, "x", std::span(bytes).subspan(r * row, row));
  }
  return bytes;
}

// The slab that the kernels' own packing makes of rows.
Bytes plain_slab(ElementType type, const Bytes& rows_bytes, size_t rows, size_t cols) {
  const kernel::PackedType* packed = kernel::packed_type(type);
  if (packed == nullptr) return rows_bytes;
  const kernel::WeightView from{type, rows_bytes.data(), rows, cols};
  kernel::PackedView to{packed, nullptr, rows, cols};
  Bytes slab(to.bytes());
  for (size_t strip = 0; strip < to.strips(); ++strip) kernel::pack_strip(from, strip, to, slab.data() + strip * to.strip_bytes());
  return slab;
}

std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "fine";
}

TEST(Slab, HasTheKernelsLayoutForEveryTypeAndSize) {
  Random random(1);
  ThreadPool threads(3);
  const auto types = writable_types();
  for (int attempt = 0; attempt < 120; ++attempt) {
    const ElementType from = types[random.below(types.size())], to = random.below(2) == 0 ? from : types[random.below(types.size())];
    const size_t rows = 1 + random.below(70), cols = 256 * (1 + random.below(2));
    std::vector<float> numbers(rows * cols);
    for (float& x : numbers) x = static_cast<float>(random.normal());
    const Bytes source = plain_encoding(from, numbers, cols);
    TensorView tensor{"x", from, {static_cast<int64_t>(rows), static_cast<int64_t>(cols)}, source};
    const Bytes rows_bytes = from == to ? source : plain_encoding(to, format::to_floats(tensor), cols);

    const Bytes slab = make_slab(threads, tensor, to, {});
    ASSERT_EQ(slab, plain_slab(to, rows_bytes, rows, cols)) << spec::name(from) << " to " << spec::name(to) << ", " << rows << " x " << cols;
    ASSERT_EQ(slab.size(), format::slab_bytes(to, rows, cols));
  }
}

TEST(Slab, ANanIsRefused) {
  ThreadPool threads(1);
  std::vector<float> numbers(64, 1.0f);
  numbers[40] = NAN;
  const TensorView tensor{"blk.0.x", ElementType::F32, {2, 32}, std::as_bytes(std::span(numbers))};
  for (const ElementType to : {ElementType::F32, ElementType::Q8_0}) {
    EXPECT_EQ(message_of([&] { make_slab(threads, tensor, to, {}); }),
              "tensor blk.0.x: it holds a NaN or an infinity; the model is broken");
  }
}

class Packed : public testing::Test {
 protected:
  // A model in F32 that GGUF has an architecture for.
  spec::ModelSpec spec_with(int layers, int experts, int width, int hidden) {
    spec::ModelSpec spec = test::small_spec();
    spec.num_layers = layers;
    spec.feed_forward.assign(static_cast<size_t>(layers), spec::FeedForward::Moe);
    spec.width = width;
    spec.moe.router.num_experts = experts;
    spec.moe.expert_hidden = hidden;
    return spec;
  }
  ModelFile source(const spec::ModelSpec& spec, uint64_t seed = 1) {
    test::write_random_checkpoint(spec, folder_ / "source", seed);
    return ModelFile(folder_ / "source");
  }

  test::TemporaryFolder temporary_;
  const fs::path folder_ = temporary_.path(), path_ = folder_ / "packed.gguf";
};

// Every slab of the file: aligned, adjacent, of the bytes that the kernels would make, under its checksum.
void check_slabs(const ModelFile& source, const ModelFile& packed, std::span<const PlannedSlab> plan) {
  const MappedFile& map = packed.gguf()->maps()[0];
  const std::byte* expected_at = nullptr;
  for (const PlannedSlab& planned : plan) {
    const PackedSlab slab = packed.packed_expert(planned.weight, planned.copy).value();
    const auto floats = format::to_floats(source.weight(planned.weight));
    ASSERT_EQ(slab.type, planned.to);
    const Bytes expected = plain_slab(slab.type, plain_encoding(slab.type, floats, slab.cols), slab.rows, slab.cols);
    ASSERT_TRUE(std::ranges::equal(slab.bytes, expected)) << format::slab_name(planned.weight, planned.copy);
    EXPECT_EQ(slab.checksum, format::slab_checksum(slab.bytes));
    EXPECT_EQ(slab.place.offset % format::kSlabAlignment, 0u);
    EXPECT_EQ(map.bytes().data() + slab.place.offset, slab.bytes.data());
    EXPECT_TRUE(expected_at == nullptr || slab.bytes.data() == expected_at);
    expected_at = slab.bytes.data() + (slab.bytes.size() + 4095) / 4096 * 4096;
  }
  EXPECT_EQ(map.bytes().data() + map.bytes().size(), expected_at) << "the last one is filled up";
}

TEST_F(Packed, WhatIsReadBackIsWhatTheKernelsPack) {
  Random random(3);
  const auto types = writable_types();
  ThreadPool threads(2);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const auto size = [&](int most) { return static_cast<int>(32 * (1 + random.below(static_cast<uint64_t>(most)))); };
    spec::ModelSpec spec = spec_with(1 + static_cast<int>(random.below(3)), 2 + static_cast<int>(random.below(5)), random.below(2) ? 256 : size(4), size(4));
    const ModelFile model = source(spec, random.next());
    const std::string expert = fmt::format("\\.{}", random.below(static_cast<uint64_t>(spec.moe.router.num_experts)));
    const std::vector<format::TypeWish> wishes = {{"a", std::regex("ffn_(gate|up)"), types[random.below(types.size())]},
                                                  {"b", std::regex(expert + "$"), types[random.below(types.size())]}};
    std::optional<ElementType> low;
    if (random.below(2) == 0) low = types[random.below(types.size())];
    const auto plan = plan_slabs(model, wishes, {.low = low});
    test::write_packed(model, path_, {wishes, low, 1 + static_cast<int>(random.below(3))});
    const ModelFile packed(path_);
    check_slabs(model, packed, plan);
    EXPECT_EQ(find_broken_slab(packed, threads), std::nullopt);
    EXPECT_EQ(packed.packed()->low_copy().has_value(), low.has_value());
    EXPECT_EQ(packed.packed_expert({Role::ExpertUp, 0, 0}, PackedCopy::Low).has_value(), low.has_value());
  }
}

TEST_F(Packed, OnlyWhatWasAskedForChangesItsType) {
  const ModelFile model = source(spec_with(2, 12, 32, 32));
  const std::vector<format::TypeWish> wishes = {{"x", std::regex("(?:blk\\.1\\.ffn_(gate|down)\\.1)(?![0-9])"), ElementType::Q4_0}};
  for (const PlannedSlab& slab : plan_slabs(model, wishes, {})) {
    const bool asked = slab.weight.layer == 1 && slab.weight.expert == 1 && slab.weight.role != Role::ExpertUp;
    EXPECT_EQ(slab.to, asked ? ElementType::Q4_0 : ElementType::F32) << format::slab_name(slab.weight);
  }
  const std::vector<format::TypeWish> nothing = {{"blk.7=Q4_0", std::regex("blk\\.7"), ElementType::Q4_0}};
  EXPECT_EQ(message_of([&] { plan_slabs(model, nothing, {}); }),
            "--tensor blk.7=Q4_0: no expert's matrix has a name like that, such as blk.3.ffn_gate.17");
}

TEST_F(Packed, RowsThatFillNoBlocksTakeSmallerOnes) {
  const ModelFile model = source(spec_with(1, 2, 32, 64));
  const auto plan = plan_slabs(model, {}, {.low = ElementType::Q4_K});
  EXPECT_EQ(plan.back().to, ElementType::Q5_0);
  EXPECT_EQ(plan.back().wanted, ElementType::Q4_K);
}

TEST_F(Packed, PlanesAreWhatTheKernelsCutAndNothingElseIsThere) {
  Random random(11);
  ThreadPool threads(2);
  const std::vector<format::TypeWish> all = {{"a", std::regex("ffn"), ElementType::Q8_0}};
  for (int attempt = 0; attempt < 6; ++attempt) {
    const auto size = [&] { return static_cast<int>(32 * (1 + random.below(5))); };
    const ModelFile model = source(spec_with(1 + static_cast<int>(random.below(2)), 3, size(), size()), random.next());
    test::write_packed(model, path_, {.wishes = all, .in_planes = true});
    test::write_packed(model, folder_ / "whole.gguf", {.wishes = all});
    const ModelFile planes(path_), whole(folder_ / "whole.gguf");
    EXPECT_EQ(planes.packed()->low_copy(), PackedCopy::Upper);
    EXPECT_EQ(find_broken_slab(planes, threads), std::nullopt);
    const std::byte* expected_at = nullptr;
    for (const PlannedSlab& planned : plan_slabs(model, all, {.in_planes = true})) {
      const PackedSlab slab = planes.packed_expert(planned.weight, planned.copy).value();
      EXPECT_TRUE(expected_at == nullptr || slab.bytes.data() == expected_at) << format::slab_name(planned.weight, planned.copy);
      expected_at = slab.bytes.data() + (slab.bytes.size() + 4095) / 4096 * 4096;
      EXPECT_EQ(slab.checksum, format::slab_checksum(slab.bytes));
      EXPECT_EQ(planes.type_of(planned.weight), ElementType::Q8_0);
      EXPECT_FALSE(planes.packed_expert(planned.weight).has_value());
      if (planned.copy == PackedCopy::Lower) continue;

      const PackedSlab lower = planes.packed_expert(planned.weight, PackedCopy::Lower).value();
      const PackedSlab expected = whole.packed_expert(planned.weight).value();
      kernel::PackedView to{kernel::packed_type(ElementType::Q8_0), nullptr, slab.rows, slab.cols};
      Bytes merged(to.bytes());
      for (size_t s = 0; s < to.strips(); ++s) {
        kernel::merge_strip({slab.bytes.data(), lower.bytes.data()}, s, to, &merged[s * to.strip_bytes()]);
      }
      EXPECT_TRUE(std::ranges::equal(merged, expected.bytes));
    }
  }
}

TEST_F(Packed, PlanesAreOfQ8_0Alone) {
  const ModelFile model = source(spec_with(1, 2, 32, 32));
  const std::vector<format::TypeWish> some = {{"a", std::regex("gate"), ElementType::Q8_0}};
  EXPECT_EQ(message_of([&] { plan_slabs(model, some, {.in_planes = true}); }),
            model.path().string() + ": blk.0.ffn_up.0 is F32, but only Q8_0 has planes; --tensor 'ffn=q8_0' would make it so");
}

TEST_F(Packed, ASlabThatChangedIsNamed) {
  const ModelFile model = source(spec_with(2, 4, 32, 32));
  const std::vector<format::TypeWish> all = {{"a", std::regex("ffn"), ElementType::Q8_0}};
  ThreadPool threads(2);
  for (const auto& [weight, copy] : {std::pair{spec::Weight{Role::ExpertUp, 1, 2}, PackedCopy::First},
                                     std::pair{spec::Weight{Role::ExpertGate, 0, 3}, PackedCopy::Low},
                                     std::pair{spec::Weight{Role::ExpertDown, 1, 0}, PackedCopy::Upper},
                                     std::pair{spec::Weight{Role::ExpertUp, 0, 1}, PackedCopy::Lower}}) {
    if (copy == PackedCopy::First) test::write_packed(model, path_, {.low = ElementType::Q4_0});
    if (copy == PackedCopy::Upper) test::write_packed(model, path_, {.wishes = all, .in_planes = true});
    std::string bytes = read_file(path_);
    const uint64_t offset = ModelFile(path_).packed_expert(weight, copy)->place.offset;
    bytes[offset + 5] = static_cast<char>(bytes[offset + 5] ^ 1);
    test::write_bytes(folder_ / "broken.gguf", bytes);
    EXPECT_EQ(find_broken_slab(ModelFile(folder_ / "broken.gguf"), threads), format::slab_name(weight, copy));
  }
}

TEST_F(Packed, RowsOfExpertsCantBeHad) {
  test::write_packed(source(spec_with(1, 2, 32, 32)), path_);
  const ModelFile packed(path_);
  EXPECT_EQ(packed.type_of({Role::ExpertUp, 0, 1}), ElementType::F32);
  EXPECT_FALSE(packed.packed_expert({Role::Router, 0}).has_value());
  const std::string sentence = path_.string() + ": its experts are packed and can only be computed with in fast arithmetic; use the file that it was packed from";
  EXPECT_EQ(message_of([&] { packed.weight({Role::ExpertUp, 0, 1}); }), sentence);
  EXPECT_EQ(message_of([&] { format::gguf_tensors(packed, format::closest_family(packed.spec(), format::FileKind::Gguf), {}); }), sentence);
  EXPECT_EQ(message_of([&] { plan_slabs(packed, {}, {}); }), path_.string() + ": it is packed already; use the file that it was packed from");
}

TEST_F(Packed, NothingIsLeftWhereItCantBeWritten) {
  const ModelFile model = source(spec_with(1, 2, 32, 32));
  EXPECT_NE(message_of([&] { test::write_packed(model, folder_ / "none" / "x.gguf"); }), "fine");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1) << "the source alone";
}

// A good packed file, and what becomes of it.
class HostilePacked : public Packed {
 protected:
  void SetUp() override { test::write_packed(source(spec_with(1, 2, 32, 32)), path_, {.low = ElementType::Q8_0}); }

  void write_planes() {
    const std::vector<format::TypeWish> all = {{"a", std::regex("ffn"), ElementType::Q8_0}};
    test::write_packed(ModelFile(folder_ / "source"), path_, {.wishes = all, .in_planes = true});
  }
  std::string with(const std::function<void(format::GgufMetadata&, std::vector<format::TensorSource>&)>& change) {
    const format::GgufFile good(path_);
    format::GgufMetadata metadata = good.metadata();
    std::vector<format::TensorSource> tensors(good.tensors().begin(), good.tensors().end());
    change(metadata, tensors);
    const fs::path bad = folder_ / "bad.gguf";
    format::write_gguf(bad, metadata, tensors);
    const std::string message = message_of([&] { ModelFile file(bad); });
    return message.starts_with(bad.string() + ": ") ? message.substr(bad.string().size() + 2) : message;
  }
  static format::TensorSource& named(std::vector<format::TensorSource>& tensors, const std::string& name) {
    return *std::ranges::find(tensors, name, &format::TensorSource::name);
  }
};

TEST_F(HostilePacked, Metadata) {
  using Tensors = std::vector<format::TensorSource>;
  const auto set = [&](const char* key, format::GgufValue value) {
    return with([&](format::GgufMetadata& m, Tensors&) { m.set(key, value); });
  };
  EXPECT_EQ(with([](auto&, auto&) {}), "fine");
  EXPECT_EQ(set("moiety.pack.version", int64_t{2}),
            "the metadata has no moiety.pack.upper_checksums");
  EXPECT_EQ(set("moiety.pack.version", int64_t{3}),
            "experts packed in version 3 of the form, this moiety reads versions 1 and 2: take a newer moiety or pack the model again");
  EXPECT_EQ(set("moiety.pack.version", std::string("1")), "metadata moiety.pack.version must be an integer");
  EXPECT_EQ(set("general.alignment", int64_t{64}), "general.alignment is 64, packed experts want a multiple of 4096");
  EXPECT_EQ(set("moiety.pack.types", std::vector<int64_t>(5)),
            "metadata moiety.pack.types has 5 numbers and moiety.pack.checksums has 6, expected one for each of 6 matrices of experts");
  EXPECT_EQ(set("moiety.pack.low_checksums", std::vector<uint64_t>(7)),
            "metadata moiety.pack.low_types has 6 numbers and moiety.pack.low_checksums has 7, expected one for each of 6 matrices of experts");
  EXPECT_TRUE(set("moiety.pack.types", std::vector<int64_t>{0, 0, 999, 0, 0, 0})
                  .starts_with("metadata moiety.pack.types has type 999 at place 2, which is none that moiety computes with (F32, "));
  EXPECT_TRUE(set("moiety.pack.types", std::vector<int64_t>{0, 0, 0, 0, 24, 0}).starts_with("metadata moiety.pack.types has type 24 at place 4"));
  EXPECT_TRUE(set("moiety.pack.types", std::vector<int64_t>{0, 0, 0, 0, -1, 0}).starts_with("metadata moiety.pack.types has type -1 at place 4"));
  EXPECT_EQ(set("moiety.pack.types", std::vector<int64_t>{0, 1, 0, 0, 0, 0}),
            "tensor blk.0.ffn_up.0.packed has 4096 bytes, but 32 x 32 numbers of F16 take 2048");
  EXPECT_EQ(set("moiety.pack.types", std::vector<int64_t>{12, 0, 0, 0, 0, 0}),
            "tensor blk.0.ffn_gate.0.packed: rows of 32 numbers are no whole blocks of Q4_K");
  EXPECT_EQ(set("moiety.pack.types", std::string("F32")), "metadata moiety.pack.types must be a list of integers");
}

TEST_F(HostilePacked, Planes) {
  using Tensors = std::vector<format::TensorSource>;
  write_planes();
  EXPECT_EQ(with([](auto&, auto&) {}), "fine");
  EXPECT_EQ(with([](auto& m, Tensors&) { m.set("moiety.pack.version", int64_t{1}); }), "the metadata has no moiety.pack.checksums");
  EXPECT_EQ(with([](auto& m, Tensors&) { m.set("moiety.pack.types", std::vector<int64_t>{8, 8, 8, 8, 2, 8}); }),
            "metadata moiety.pack.types has type Q4_0 at place 4, but planes are of Q8_0 alone");
  EXPECT_EQ(with([](auto& m, Tensors&) { m.set("moiety.pack.lower_checksums", std::vector<uint64_t>(5)); }),
            "metadata moiety.pack.types has 6 numbers and moiety.pack.lower_checksums has 5, expected one for each of 6 matrices of experts");
  EXPECT_EQ(with([](auto&, Tensors& t) { t.pop_back(); }), "tensor blk.0.ffn_down.1.lower is missing");
  EXPECT_EQ(with([](auto&, Tensors& t) { std::erase_if(t, [](const auto& tensor) { return tensor.name.ends_with(".lower"); }); }),
            "tensor blk.0.ffn_gate.1.upper lies where blk.0.ffn_gate.0.lower should");
}

TEST_F(HostilePacked, Slabs) {
  using Metadata = format::GgufMetadata;
  using Tensors = std::vector<format::TensorSource>;
  EXPECT_EQ(with([](Metadata&, Tensors& t) { t.pop_back(); }), "tensor blk.0.ffn_down.1.low is missing");
  EXPECT_EQ(with([](Metadata&, Tensors& t) { named(t, "blk.0.ffn_up.1.packed").name = "blk.0.ffn_up.2.packed"; }),
            "tensor blk.0.ffn_up.2.packed lies where blk.0.ffn_up.1.packed should");
  EXPECT_EQ(with([](Metadata&, Tensors& t) { std::swap(t[t.size() - 1], t[t.size() - 2]); }),
            "tensor blk.0.ffn_down.1.low lies where blk.0.ffn_up.1.low should");
  EXPECT_EQ(with([](Metadata&, Tensors& t) { t.push_back(t.back()), t.back().name = "blk.7.ffn_up.0.low"; }),
            "tensor blk.7.ffn_up.0.low is of no expert that the model has");
  EXPECT_EQ(with([](Metadata&, Tensors& t) {
              const auto slab = std::ranges::find(t, "blk.0.ffn_up.1.packed", &format::TensorSource::name);
              t.insert(slab, t.front()), t[static_cast<size_t>(std::ranges::find(t, "blk.0.ffn_up.1.packed", &format::TensorSource::name) - t.begin()) - 1].name = "between";
            }),
            "tensor blk.0.ffn_up.1.packed does not follow the one before it");
}

TEST_F(HostilePacked, AnyCutAndAnyChangedByteIsRefusedOrOpens) {
  const fs::path bad = folder_ / "bad.gguf";
  Random random(5);
  const auto try_it = [&](const std::string& bytes) {
    test::write_bytes(bad, bytes);
    const std::string message = message_of([&] { ModelFile file(bad); });
    EXPECT_EQ(message.find('\n'), message.npos) << message;
    return message;
  };
  for (const bool in_planes : {false, true}) {
    if (in_planes) write_planes();
    const std::string good = read_file(path_);
    const PackedCopy first = in_planes ? PackedCopy::Upper : PackedCopy::First;
    const size_t header = ModelFile(path_).packed_expert({Role::ExpertGate, 0, 0}, first)->place.offset;
    for (int attempt = 0; attempt < 60; ++attempt) EXPECT_NE(try_it(good.substr(0, random.below(good.size() - 4096))), "fine");
    for (int attempt = 0; attempt < 600; ++attempt) {
      std::string bytes = good;
      for (uint64_t changes = 1 + random.below(3); changes > 0; --changes) bytes[random.below(header)] = static_cast<char>(random.below(256));
      try_it(bytes);
    }
  }
}

}  // namespace
}  // namespace moiety::pack
