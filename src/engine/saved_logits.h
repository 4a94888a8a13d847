// Predictions of a model on a text in a file, so that others can be compared with them without the model.
//
// The file, little-endian: "MOIETYLP", u32 version 1, u32 vocabulary V, u32 window (EvaluateOptions); then of each prediction i32 the token that came, f32
// the largest log probability, f32 a step, and V u16 of which each stands for a log probability of largest - step * u16.
// What is less likely than the likeliest by more than 32 nats counts as 32. 2 V + 12 bytes a prediction.
#pragma once

#include <cstdint>
#include <span>

#include "base/file.h"

namespace moiety::engine {

class LogitsWriter {
 public:
  LogitsWriter(const fs::path& path, int vocab_size, size_t window);
  void add(std::span<const float> log_probabilities_V, int32_t token);
  void commit() { file_.commit(); }

 private:
  AtomicFile file_;
};

class SavedLogits {
 public:
  // Throws Error(Input) if it is no such file or its size does not fit.
  explicit SavedLogits(const fs::path& path);
  static bool is_such(const fs::path& path);

  const fs::path& path() const { return file_.path(); }
  int vocab_size() const { return vocab_size_; }
  size_t window() const { return window_; }
  size_t size() const { return count_; }  // predictions
  int32_t token(size_t i) const;
  // The log probabilities of prediction i; they sum to 1. Throws Error(Input) if they can't be any.
  void read(size_t i, std::span<float> out_V) const;

 private:
  const std::byte* row(size_t i) const;

  MappedFile file_;
  int vocab_size_ = 0;
  size_t window_ = 0, count_ = 0, row_bytes_ = 0;
};

}  // namespace moiety::engine
