#include "engine/reference.h"

#include <algorithm>
#include <memory>

#include "base/error.h"

namespace moiety::engine {
namespace {

Matrix<float> scored_rows(const Window& window, MatrixView<const float> logits_TV) {
  Matrix<float> out(window.tokens.size() - window.first_scored, logits_TV.cols());
  for (size_t i = 0; i < out.rows(); ++i) {
    const auto row = logits_TV.row(window.first_scored - 1 + i);
    std::copy(row.begin(), row.end(), out.row(i).begin());
  }
  return out;
}

}  // namespace

Matrix<float> log_probabilities(const Window& window, ThreadPool& threads) {
  Matrix<float> out = scored_rows(window, window.logits_TV);
  threads.parallel_for(out.rows(), [&](size_t i) { to_log_probabilities(out.row(i)); });
  return out;
}

Reference model_reference(model::Transformer& transformer, kernel::KvType kv) {
  return [&transformer, kv](const Window& window) {
    const size_t size = window.tokens.size();
    model::KvCache cache(transformer.spec(), {size, kv, size});
    const model::Chunk chunk{&cache, window.tokens.first(size - 1), size - 1};
    const Matrix<float> logits = transformer.forward({&chunk, 1});
    Matrix<float> out = scored_rows(window, logits.view());
    for (size_t i = 0; i < out.rows(); ++i) to_log_probabilities(out.row(i));
    return out;
  };
}

Reference saved_reference(SavedLogits saved) {
  return [saved = std::make_shared<SavedLogits>(std::move(saved)), next = size_t{0}](const Window& window) mutable {
    const size_t count = window.tokens.size() - window.first_scored;
    Matrix<float> out(count, static_cast<size_t>(saved->vocab_size()));
    for (size_t i = 0; i < count; ++i, ++next) {
      const int32_t token = window.tokens[window.first_scored + i];
      const std::string where = saved->path().string();
      require(next < saved->size(), "{}: it holds {} predictions, the text has more", where, saved->size());
      require(saved->token(next) == token,
              "{}: prediction {} is of token {}, the text has token {}: another text, tokenizer or --window", where, next,
              saved->token(next), token);
      saved->read(next, out.row(i));
    }
    return out;
  };
}

Divergence compare(const Window& window, const Reference& reference, ThreadPool& threads) {
  const Matrix<float> log_p = reference(window), log_q = log_probabilities(window, threads);
  require(log_p.cols() == log_q.cols(), "the reference has a vocabulary of {}, the model one of {}", log_p.cols(), log_q.cols());
  std::vector<TokenDivergence> tokens(log_q.rows());
  threads.parallel_for(tokens.size(), [&](size_t i) {
    tokens[i] = compare(log_p.row(i), log_q.row(i), window.tokens[window.first_scored + i]);
  });
  Divergence out;
  for (const TokenDivergence& token : tokens) out.add(token);
  return out;
}

}  // namespace moiety::engine
