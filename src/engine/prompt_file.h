// What a cache room knows, as a file: a line that names the format, a JSON header (which model and kind of numbers; of each
// text its tokens and the numbers of its pages), the pages' bytes one after the other, and a checksum (XXH3) of all that.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "model/kv_pool.h"

namespace moiety::engine {

struct SavedPrompt {
  std::vector<int32_t> tokens;
  std::vector<std::shared_ptr<model::KvPage>> pages;  // of these tokens
  size_t prompt = 0;
  bool is_long = false;
};

// `model` says whose numbers they are. Pages that several hold are written once.
void write_prompts(const fs::path& file, const std::string& model, const model::KvShape& shape, std::span<const SavedPrompt> prompts);

// Into pages of `pool`: of what does not fit into it the last prompts, and the pages that only they hold, are left out. Throws Error(Input) if the file
// is not of this model and shape, or not as it was written.
std::vector<SavedPrompt> read_prompts(const fs::path& file, const std::string& model, model::KvPool& pool);

}  // namespace moiety::engine
