#include "train/part_exchange.h"

#include <array>
#include <optional>

namespace moiety::train {
namespace {

constexpr size_t kTogether = size_t{1} << 23;  // numbers that travel in one exchange, of several tensors

// Of one tensor.
struct Move {
  int from, to;
  size_t piece;  // of the sender's
  Part part;
};

// What a rank lacks comes from the next that has it; nothing if nobody does.
std::optional<std::vector<Move>> plan_moves(const std::vector<std::vector<Part>>& have_KW, const std::vector<Part>& want_W) {
  std::vector<Move> moves;
  for (size_t to = 0; to < want_W.size(); ++to) {
    Part lacking = want_W[to];
    const auto take = [&](size_t from) {
      for (size_t piece = 0; piece < have_KW.size() && lacking.size() > 0; ++piece) {
        Part part = lacking.with(have_KW[piece][from]);
        if (part.size() == 0) continue;
        lacking = lacking.without(part);
        moves.push_back({static_cast<int>(from), static_cast<int>(to), piece, std::move(part)});
      }
    };
    for (size_t i = 0; i < want_W.size(); ++i) take((to + i) % want_W.size());
    if (lacking.size() > 0) return std::nullopt;
  }
  return moves;
}

}  // namespace

std::vector<std::vector<Part>> gather_parts(const std::vector<Part>& mine_N, comm::Group& group) {
  std::vector<int64_t> told;
  for (const Part& part : mine_N) {
    told.push_back(static_cast<int64_t>(part.stretches().size()));
    for (const Stretch& stretch : part.stretches()) told.insert(told.end(), {static_cast<int64_t>(stretch.begin), static_cast<int64_t>(stretch.size)});
  }
  const std::vector<int64_t> lengths = group.gather(std::array{static_cast<int64_t>(told.size())});
  told.resize(static_cast<size_t>(std::ranges::max(lengths)));
  const std::vector<int64_t> all = group.gather(told);
  std::vector<std::vector<Part>> part_NW(mine_N.size(), std::vector<Part>(lengths.size()));
  for (size_t rank = 0; rank < lengths.size(); ++rank) {
    const int64_t* next = all.data() + rank * told.size();
    for (std::vector<Part>& part_W : part_NW) {
      for (int64_t stretches = *next++; stretches > 0; --stretches, next += 2) {
        part_W[rank].add({static_cast<size_t>(next[0]), static_cast<size_t>(next[1])});
      }
    }
  }
  return part_NW;
}

bool exchange_parts(const std::vector<std::vector<HeldPart>>& have_NK, const std::vector<WantedPart>& want_N, comm::Group& group) {
  const size_t tensors = want_N.size(), pieces = have_NK.empty() ? 0 : have_NK[0].size(), ranks = static_cast<size_t>(group.size());
  const int self = group.rank();
  const auto gathered = [&](const auto& part_of) {
    std::vector<Part> mine_N;
    for (size_t n = 0; n < tensors; ++n) mine_N.push_back(part_of(n));
    return gather_parts(mine_N, group);
  };
  std::vector<std::vector<std::vector<Part>>> have_KNW;
  for (size_t k = 0; k < pieces; ++k) have_KNW.push_back(gathered([&](size_t n) { return have_NK[n][k].part; }));
  const auto want_NW = gathered([&](size_t n) { return want_N[n].part; });

  std::vector<std::vector<Move>> moves_N;
  for (size_t n = 0; n < tensors; ++n) {
    std::vector<std::vector<Part>> have_KW;
    for (size_t k = 0; k < pieces; ++k) have_KW.push_back(have_KNW[k][n]);
    auto moves = plan_moves(have_KW, want_NW[n]);
    if (!moves) return false;
    moves_N.push_back(std::move(*moves));
  }
  for (size_t first = 0, end = 0; first < tensors; first = end) {
    for (size_t numbers = 0; end < tensors && (end == first || numbers < kTogether); ++end) {
      for (const Part& part : want_NW[end]) numbers += part.size();
    }
    std::vector<std::vector<float>> out_W(ranks);
    std::vector<size_t> in_W(ranks, 0), out_bytes_W;
    const auto for_each_move = [&](const auto& body) {
      for (size_t n = first; n < end; ++n) {
        for (const Move& move : moves_N[n]) body(n, move);
      }
    };
    for_each_move([&](size_t n, const Move& move) {
      if (move.from == self && move.to == self) {
        copy_part(move.part, have_NK[n][move.piece].part, have_NK[n][move.piece].numbers, want_N[n].part, want_N[n].numbers);
      } else if (move.from == self) {
        std::vector<float>& out = out_W[static_cast<size_t>(move.to)];
        const size_t before = out.size();
        out.resize(before + move.part.size());
        copy_part(move.part, have_NK[n][move.piece].part, have_NK[n][move.piece].numbers, move.part, std::span(out).subspan(before));
      } else if (move.to == self) {
        in_W[static_cast<size_t>(move.from)] += move.part.size() * sizeof(float);
      }
    });
    std::vector<float> out;
    for (const std::vector<float>& to : out_W) {
      out.insert(out.end(), to.begin(), to.end());
      out_bytes_W.push_back(to.size() * sizeof(float));
    }
    size_t coming = 0;
    for (const size_t bytes : in_W) coming += bytes;
    std::vector<float> in(coming / sizeof(float));
    group.all_to_all(std::as_bytes(std::span(out)), out_bytes_W, std::as_writable_bytes(std::span(in)), in_W).wait();
    std::vector<size_t> next_W(ranks, 0);
    for (size_t rank = 1; rank < ranks; ++rank) next_W[rank] = next_W[rank - 1] + in_W[rank - 1] / sizeof(float);
    for_each_move([&](size_t n, const Move& move) {
      if (move.to != self || move.from == self) return;
      size_t& next = next_W[static_cast<size_t>(move.from)];
      copy_part(move.part, move.part, std::span<const float>(in).subspan(next, move.part.size()), want_N[n].part, want_N[n].numbers);
      next += move.part.size();
    });
  }
  return true;
}

}  // namespace moiety::train
