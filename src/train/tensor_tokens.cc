#include "train/tensor_tokens.h"

#include <algorithm>
#include <array>

#include "comm/stretches.h"

namespace moiety::train {
namespace {

constexpr size_t kNumbers = 5;  // of a segment, to be told

bool goes_on(const Segment& before, const Segment& next) {
  return next.position > 0 && next.document == before.document && next.position == before.position + before.length;
}

std::vector<size_t> in_numbers(const TensorTokens& tokens, size_t cols) {
  std::vector<size_t> begin_R1 = tokens.begin_R1;
  for (size_t& begin : begin_R1) begin *= cols;
  return begin_R1;
}

Tensor gather(const Tensor& mine_TD, const TensorTokens& tokens) {
  const auto all = static_cast<int64_t>(tokens.begin_R1.back()), first = static_cast<int64_t>(tokens.begin_R1[static_cast<size_t>(tokens.group.rank())]);
  const Tensor all_TD = torch::empty({all, mine_TD.size(1)});
  all_TD.narrow(0, first, mine_TD.size(0)).copy_(mine_TD.detach());
  comm::share_stretches(tokens.group, flat(all_TD), in_numbers(tokens, static_cast<size_t>(mine_TD.size(1))));
  return all_TD;
}

// What is in summand_TD is of no use afterwards.
Tensor sum(const Tensor& summand_TD, const TensorTokens& tokens) {
  comm::sum_stretches(tokens.group, flat(summand_TD), in_numbers(tokens, static_cast<size_t>(summand_TD.size(1))));
  const auto first = static_cast<int64_t>(tokens.begin_R1[static_cast<size_t>(tokens.group.rank())]);
  return summand_TD.narrow(0, first, static_cast<int64_t>(tokens.own())).clone();
}

}  // namespace

std::shared_ptr<const TensorTokens> bring_together(comm::Group& group, const Batch& mine) {
  const auto ranks = static_cast<size_t>(group.size());
  const std::vector<int64_t> counts = group.gather(std::array{static_cast<int64_t>(mine.num_tokens()), static_cast<int64_t>(mine.segments.size())});
  size_t most = 0;
  for (size_t r = 0; r < ranks; ++r) most = std::max(most, static_cast<size_t>(counts[2 * r + 1]));
  std::vector<int64_t> told;
  for (const Segment& s : mine.segments) told.insert(told.end(), {s.begin, s.length, s.domain, s.position, s.document});
  told.resize(most * kNumbers);
  const std::vector<int64_t> all = group.gather(told);

  TensorTokens tokens{group, {0}, {}};
  for (size_t r = 0; r < ranks; ++r) {
    const size_t first = tokens.begin_R1.back();
    for (size_t i = 0; i < static_cast<size_t>(counts[2 * r + 1]); ++i) {
      const int64_t* const n = all.data() + (r * most + i) * kNumbers;
      const auto number = [&](size_t at) { return static_cast<int>(n[at]); };
      const Segment next{static_cast<int>(first) + number(0), number(1), number(2), number(3), number(4)};
      if (!tokens.segments.empty() && goes_on(tokens.segments.back(), next)) tokens.segments.back().length += next.length;
      else tokens.segments.push_back(next);
    }
    tokens.begin_R1.push_back(first + static_cast<size_t>(counts[2 * r]));
  }
  return std::make_shared<const TensorTokens>(std::move(tokens));
}

Tensor gather_tokens(const Tensor& mine_TD, const std::shared_ptr<const TensorTokens>& tokens) {
  if (tokens == nullptr) return mine_TD;
  return record({mine_TD}, {gather(mine_TD, *tokens)}, [=](const tensor_list& dall) -> tensor_list { return {sum(dall[0].clone(), *tokens)}; })[0];
}

Tensor sum_tokens(const Tensor& summand_TD, const std::shared_ptr<const TensorTokens>& tokens) {
  if (tokens == nullptr) return summand_TD;
  return record({summand_TD}, {sum(summand_TD.detach().clone(), *tokens)},
                [=](const tensor_list& dmine) -> tensor_list { return {gather(dmine[0], *tokens)}; })[0];
}

Tensor add_linear_slice(const Tensor& residual_TD, const Tensor& x, const WeightMatrix& weight, GemmType type,
                        const std::shared_ptr<const TensorTokens>& tokens) {
  return tokens == nullptr ? add_linear(residual_TD, x, weight, type) : residual_TD + sum_tokens(linear(x, weight, type), tokens);
}

}  // namespace moiety::train
