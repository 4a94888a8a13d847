// A model opened for inference by a command: file, threads, kernels, forward pass, tokenizer.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "format/model_file.h"
#include "kernel/linear.h"
#include "model/transformer.h"
#include "text/tokenizer.h"

namespace moiety::cli {

// What a command was asked for, else MOIETY_THREADS, else 0: one a core. Throws Error(Usage).
int thread_count(int asked);

struct ModelArguments {
  std::string model;
  int threads = 0;      // 0: MOIETY_THREADS, else one a core
  std::string kernels;  // empty: MOIETY_KERNELS, else the fastest
  std::string kv;       // empty: what the arithmetic computes with
  bool exact = false;   // kernel::Arithmetic::Exact
  // Of what fit_memory() does (cli/memory_budget.h):
  std::string memory;   // what the process may hold; empty: what is free
  std::string cache_policy = "auto", read_ahead = "router", pin;
  model::Lossy lossy;

  // Adds MODEL, --threads, --kernels, --kv and --exact.
  void add_to(CLI::App& app);
  // Adds --memory and what belongs to it, for commands that call fit_memory().
  void add_memory_to(CLI::App& app);
};

struct OpenModel {
  explicit OpenModel(const ModelArguments& arguments);

  format::ModelFile file;
  ThreadPool threads;
  kernel::Compute compute;
  kernel::KvType kv;  // what keys and values are kept in
  model::Transformer transformer;
  std::optional<text::Tokenizer> tokenizer;  // nothing if the model comes without one

  // Throws Error(Input) if there is none.
  const text::Tokenizer& need_tokenizer() const;
};

// "1,2,3" -> ids. Throws Error(Usage).
std::vector<int32_t> parse_token_list(const std::string& text);

}  // namespace moiety::cli
