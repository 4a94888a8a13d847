// Holds block types to ggml's own library, which is opened at run time (a libggml-base.so; tests/fetch_npm.sh brings one):
//   ggml_blocks LIBRARY                    compares reading and writing of every type; status 1 if any differs or is worse
//   ggml_blocks LIBRARY --write FILE       writes random blocks and what ggml reads from them, for tests/fixtures
#include <dlfcn.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/random.h"
#include "format/blocks.h"
#include "format/elements.h"
#include "format/fit_blocks.h"
#include "format/safetensors.h"

namespace {

using namespace moiety;
using spec::ElementType;

// ggml's interface, as far as it is used here.
struct Ggml {
  explicit Ggml(const char* path) : library(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (library == nullptr) fail(ErrorKind::Io, "{}: {}", path, dlerror());
    find("ggml_quantize_chunk", quantize_chunk);
  }
  template <class Function>
  void find(const std::string& name, Function& function) const {
    function = reinterpret_cast<Function>(dlsym(library, name.c_str()));
    if (function == nullptr) fail(ErrorKind::Input, "the library has no {}", name);
  }

  // Bytes, of n numbers, to floats.
  using Read = void (*)(const void* bytes, float* out, int64_t n);
  Read reader(ElementType type) const {
    std::string name = "dequantize_row_";
    for (const char c : spec::name(type)) name += c == 'K' ? c : static_cast<char>(std::tolower(c));
    Read read;
    find(name, read);
    return read;
  }

  void* library;
  size_t (*quantize_chunk)(int type, const float* x, void* out, int64_t first, int64_t rows, int64_t cols, const float* importance);
};

std::vector<ElementType> block_types() {
  std::vector<ElementType> types;
  for (const auto& row : spec::element_types()) {
    if (format::block_decoder(row.type) != nullptr) types.push_back(row.type);
  }
  return types;
}

std::vector<std::byte> random_blocks(ElementType type, size_t elements) {
  Random random(static_cast<uint64_t>(type) + 1);
  std::vector<std::byte> bytes(spec::bytes_of(type, elements));
  std::vector<float> floats(elements);
  const auto& info = spec::info(type);
  for (size_t b = 0; b < elements / info.block_elements; ++b) {
    const std::span block(&bytes[b * info.block_bytes], info.block_bytes);
    const std::span values(&floats[b * info.block_elements], info.block_elements);
    do {  // until its scales are finite
      for (std::byte& byte : block) byte = static_cast<std::byte>(random.below(256));
      format::to_floats(type, block, values);
    } while (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }));
  }
  return bytes;
}

void write_fixture(const Ggml& ggml, const char* path) {
  constexpr size_t kElements = 512;
  std::vector<format::TensorSource> tensors;
  for (const ElementType type : block_types()) {
    format::TensorSource bytes, floats;
    const auto blocks = std::make_shared<std::vector<std::byte>>(random_blocks(type, kElements));
    const auto values = std::make_shared<std::vector<float>>(kElements);
    ggml.reader(type)(blocks->data(), values->data(), kElements);
    const std::string name(spec::name(type));
    tensors.push_back({format::TensorView{name + ".blocks", ElementType::U8, {int64_t(blocks->size())}, *blocks}});
    tensors.push_back({format::TensorView{name + ".floats", ElementType::F32, {int64_t(kElements)},
                                          std::as_bytes(std::span(*values))}});
    static std::vector<std::shared_ptr<void>> kept;
    kept.insert(kept.end(), {blocks, values});
  }
  format::write_safetensors(path, tensors);
}

bool reads_alike(const Ggml& ggml, ElementType type) {
  constexpr size_t kElements = 1 << 20;
  const auto blocks = random_blocks(type, kElements);
  std::vector<float> ours(kElements), theirs(kElements);
  format::to_floats(type, blocks, ours);
  ggml.reader(type)(blocks.data(), theirs.data(), kElements);
  return ours == theirs;  // to the bit, but that MXFP4's minus zero is ggml's zero
}

// Data to round
constexpr size_t kRows = 64, kCols = 4096;
struct Data {
  const char* name;
  std::vector<float> x;
};
std::vector<Data> data() {
  Random random(7);
  std::vector<Data> sets = {{"gaussian", {}}, {"heavy tails", {}}, {"uneven columns", {}}};
  for (size_t i = 0; i < kRows * kCols; ++i) {
    sets[0].x.push_back(static_cast<float>(0.02 * random.normal()));
    // Student's t with 4 degrees of freedom
    double chi2 = 0;
    for (int k = 0; k < 4; ++k) chi2 += std::pow(random.normal(), 2);
    sets[1].x.push_back(static_cast<float>(0.02 * random.normal() / std::sqrt(chi2 / 4)));
    sets[2].x.push_back(static_cast<float>(0.02 * random.normal() * (1 + i % kCols % 7) + (i % 64 < 32 ? 0.02 : 0)));
  }
  return sets;
}
std::vector<float> importance() {
  Random random(9);
  std::vector<float> w(kCols);
  for (float& value : w) value = static_cast<float>(std::exp(1.5 * random.normal()));
  return w;
}

double error_of(ElementType type, const std::vector<float>& x, const std::vector<std::byte>& bytes, const std::vector<float>& w) {
  std::vector<float> back(x.size());
  format::to_floats(type, bytes, back);
  double sum = 0, of = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double weight = w.empty() ? 1 : w[i % kCols];
    sum += weight * std::pow(double{x[i]} - back[i], 2);
    of += weight * std::pow(double{x[i]}, 2);
  }
  return std::sqrt(sum / of);
}

bool writes_as_well(const Ggml& ggml, ElementType type) {
  bool as_well = true;
  for (const Data& set : data()) {
    for (const std::vector<float>& w : {std::vector<float>(), importance()}) {
      std::vector<std::byte> ours(spec::bytes_of(type, set.x.size())), theirs(ours.size());
      const auto time = [](auto run) {
        const auto start = std::chrono::steady_clock::now();
        run();
        return kRows * kCols / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / 1e6;
      };
      const double our_rate = time([&] {
        for (size_t r = 0; r < kRows; ++r) {
          const size_t row_bytes = spec::bytes_of(type, kCols);
          format::fit_blocks(type, std::span(set.x).subspan(r * kCols, kCols), w, std::span(ours).subspan(r * row_bytes, row_bytes));
        }
      });
      const double their_rate = time([&] {
        ggml.quantize_chunk(spec::info(type).ggml_id, set.x.data(), theirs.data(), 0, kRows, kCols, w.empty() ? nullptr : w.data());
      });
      const double our_error = error_of(type, set.x, ours, w), their_error = error_of(type, set.x, theirs, w);
      fmt::print("{:8} {:15} {:9} {:8.5f} {:8.5f} {:6.3f}   {:6.1f} {:6.1f}\n", spec::name(type), set.name,
                 w.empty() ? "plain" : "weighted", our_error, their_error, our_error / their_error, our_rate, their_rate);
      as_well = as_well && our_error <= their_error * 1.0005;
    }
  }
  return as_well;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string_view option = argc > 2 ? argv[2] : "";
  if (argc != 2 && !(argc == 4 && option == "--write")) {
    fmt::print(stderr, "usage: ggml_blocks LIBRARY [--write FILE]\n");
    return 2;
  }
  const Ggml ggml(argv[1]);
  if (argc == 4) {
    write_fixture(ggml, argv[3]);
    return 0;
  }
  bool good = true;
  for (const ElementType type : block_types()) {
    const bool alike = reads_alike(ggml, type);
    fmt::print("{:8} is read {}\n", spec::name(type), alike ? "to the same floats" : "DIFFERENTLY");
    good = good && alike;
  }
  fmt::print("\nerror relative to the numbers: ours, ggml's, their ratio; and millions of numbers a second and thread\n");
  for (const ElementType type : block_types()) {
    if (format::can_fit(type)) good = writes_as_well(ggml, type) && good;
  }
  return good ? 0 : 1;
} catch (const moiety::Error& error) {
  fmt::print(stderr, "ggml_blocks: {}\n", error.what());
  return 1;
}
