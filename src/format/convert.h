// A model from one kind of file to another: our checkpoint, a Hugging Face folder, a GGUF file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "format/model_file.h"

namespace moiety::format {

// The tensors of `model` as `family` names them in a Hugging Face folder or a GGUF file. Matrices become `type` (their own
// type if none is given); norms, biases and the router stay f32 in GGUF, as llama.cpp wants them. Rows of queries and keys
// are reordered where the two kinds of file turn different pairs.
std::vector<TensorSource> hf_tensors(const ModelFile& model, const Family& family, std::optional<spec::ElementType> type);
std::vector<TensorSource> gguf_tensors(const ModelFile& model, const Family& family,
                                       std::optional<spec::ElementType> type);

// The same for a packed file: GGUF's without the matrices of experts.
std::vector<TensorSource> dense_gguf_tensors(const ModelFile& model, const Family& family);

// Which row of a query or key matrix goes where, so that `to` pairs turn what `from` pairs turned. Of each head's rows the
// first `dim` are turned: pair i is rows (i, i + dim/2) as halves and (2i, 2i + 1) as neighbours.
std::vector<int64_t> row_order(int64_t rows, int64_t head_dim, int64_t dim, spec::RopePairs from, spec::RopePairs to);
// Whether its rows are turned by the rotary embedding.
bool is_rotated(spec::Role role);

// The type of GGUF files that holds numbers of this one: itself as a rule, MXFP4 for its planes, BF16, nearly, for FP8 under its
// scales.
spec::ElementType gguf_type(spec::ElementType type);

// The type that most of the model's matrices get in such a file, as far as one can name one.
spec::ElementType main_type(const ModelFile& model, bool is_gguf);

}  // namespace moiety::format
