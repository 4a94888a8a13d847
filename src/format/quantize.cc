#include "format/quantize.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "format/elements.h"
#include "format/fit_blocks.h"

namespace moiety::format {
namespace {

constexpr size_t kBatch = 1 << 22;  // elements decoded at a time

// The matrices a tensor is a stack of, and the rows of one.
struct Stack {
  size_t matrices, rows, cols;

  explicit Stack(const TensorSource& tensor) {
    cols = tensor.shape.empty() ? 1 : static_cast<size_t>(tensor.shape.back());
    rows = tensor.shape.size() < 2 ? 1 : static_cast<size_t>(tensor.shape[tensor.shape.size() - 2]);
    matrices = tensor.elements() / (rows * cols);
  }
};

// Rows of floats into the tensor's type, in the order in which they come.
class RowWriter {
 public:
  RowWriter(const Quantizer& quantizer, AtomicFile& file, const TensorSource& tensor)
      : quantizer_(quantizer), file_(file), tensor_(tensor), stack_(tensor), row_bytes_(spec::bytes_of(tensor.type, stack_.cols)) {}

  size_t batch_rows() const { return std::max<size_t>(1, kBatch / stack_.cols); }
  size_t cols() const { return stack_.cols; }

  // `row_of(i, floats)` fills in row i of the next `count`; any thread may call it.
  template <class RowOf>
  void write(size_t count, RowOf row_of) {
    bytes_.resize(count * row_bytes_);
    for (size_t row = next_; row < next_ + count; ++row) know_columns(row / stack_.rows);
    const size_t step = std::max<size_t>(1, (size_t{1} << 15) / stack_.cols);
    quantizer_.threads.parallel_for((count + step - 1) / step, [&](size_t task) {
      std::vector<float> floats(stack_.cols);
      for (size_t i = task * step; i < std::min(count, (task + 1) * step); ++i) {
        row_of(i, std::span(floats));
        encode(floats, next_ + i, std::span(bytes_).subspan(i * row_bytes_, row_bytes_));
      }
    });
    file_.write(bytes_);
    next_ += count;
    if (quantizer_.progress) quantizer_.progress(count * stack_.cols);
  }

 private:
  void know_columns(size_t matrix) {
    if (quantizer_.importance == nullptr || matrix < columns_.size()) return;
    columns_.push_back(quantizer_.importance->of(tensor_.name, matrix, stack_.matrices, stack_.cols));
  }

  void encode(std::span<const float> row, size_t number, std::span<std::byte> out) const {
    const size_t matrix = number / stack_.rows;
    encode_row(tensor_.type, row, matrix < columns_.size() ? columns_[matrix] : std::span<const float>(), tensor_.name, out);
  }

  const Quantizer& quantizer_;
  AtomicFile& file_;
  const TensorSource& tensor_;
  const Stack stack_;
  const size_t row_bytes_;
  size_t next_ = 0;                          // row to write
  std::vector<std::vector<float>> columns_;  // by matrix: their importance
  std::vector<std::byte> bytes_;
};

// A row of a tensor that is a part of the one to be written.
struct PartRow {
  const TensorView* part;
  size_t row;

  void to_floats(std::span<float> out) const {
    const size_t row_bytes = spec::bytes_of(part->type, out.size());
    const size_t stride = part->row_stride != 0 ? part->row_stride : row_bytes;
    row_to_floats(part->type, part->bytes.data() + row * stride, part->scales, row, out);
  }
};

}  // namespace

void encode_row(spec::ElementType type, std::span<const float> row, std::span<const float> importance, const std::string& tensor,
                std::span<std::byte> out) {
  require(std::all_of(row.begin(), row.end(), [](float x) { return std::isfinite(x); }),
          "tensor {}: it holds a NaN or an infinity; the model is broken", tensor);
  if (!can_fit(type)) return from_floats(type, row, out);
  fit_blocks(type, row, importance, out);
}

void Quantizer::write(AtomicFile& file, const TensorSource& tensor) const {
  const bool untouched = std::all_of(tensor.parts.begin(), tensor.parts.end(), [&](const TensorView& part) {
    return part.type == tensor.type && part.scales.data == nullptr;
  });
  if (untouched && tensor.made.empty()) {
    write_elements(file, tensor);
    if (progress) progress(tensor.elements());
    return;
  }

  RowWriter writer(*this, file, tensor);
  std::vector<PartRow> batch;
  const auto flush = [&] {
    writer.write(batch.size(), [&](size_t i, std::span<float> floats) { batch[i].to_floats(floats); });
    batch.clear();
  };
  for (const TensorView& part : tensor.parts) {
    const size_t rows = static_cast<size_t>(part.elements()) / writer.cols();
    for (size_t row = 0; row < rows; ++row) {
      batch.push_back({&part, row});
      if (batch.size() == writer.batch_rows()) flush();
    }
  }
  if (!batch.empty()) flush();
  for (const auto& make : tensor.made) {
    const std::vector<float> floats = make();
    writer.write(floats.size() / writer.cols(), [&](size_t i, std::span<float> row) {
      std::copy_n(floats.begin() + static_cast<ptrdiff_t>(i * row.size()), row.size(), row.begin());
    });
  }
}

}  // namespace moiety::format
