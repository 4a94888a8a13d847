// How much each column of each weight matrix matters: the mean square of what it is multiplied by on some text. Files are
// llama.cpp's, so that either side can use the other's: the GGUF form, and the older binary one to read.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"

namespace moiety::format {

// Of one tensor: of its only matrix, or of a stack of experts' one after the other.
struct InputSums {
  std::vector<double> squares;  // [matrices, columns]: sums over the tokens that came
  std::vector<double> counts;   // [matrices]: how many came; one number if as many came to each
};

struct Importance {
  std::map<std::string, InputSums> tensors;  // by the name of the tensor in GGUF files
  std::vector<std::string> datasets;         // where the text came from
  int64_t chunks = 0;                        // pieces of text
  int64_t chunk_tokens = 0;                  // tokens a piece
  std::string where;                         // the file's name, for errors

  // Mean squares of the columns of matrix `matrix` of a tensor that is a stack of `matrices`; empty: nothing is known. A matrix
  // that no token came to has the means over the others. Throws Error(Input) if the tensor's sums are of other sizes.
  std::vector<float> of(const std::string& tensor, size_t matrix, size_t matrices, size_t columns) const;
  // The matrices of the tensor that no token came to.
  std::vector<size_t> unvisited(const std::string& tensor) const;
};

// Throws Error(Input) for what is neither form, or claims what can't be.
Importance read_importance(const fs::path& path);
Importance parse_importance(std::span<const std::byte> bytes, const std::string& name);

void write_importance(const fs::path& path, const Importance& importance);

}  // namespace moiety::format
