#include "model/attend.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moiety::model {
namespace {

using kernel::AttendState;
using kernel::kAttendBlock;
using kernel::kAttendPiece;
using kernel::kAttendRows;

constexpr float kLog2E = 1.44269504088896341f;

// Queries that one task computes: so many that reading keys and values costs little, so few that all threads get some and
// that what is known of them stays in the second-level cache.
constexpr size_t kRowsPerTask = 192, kNumbersPerTask = 1 << 15;
// Fewer tasks a thread than this, and long sequences are shared out by piece.
constexpr size_t kTasksPerThread = 8;

// Some tokens of a run against one head of its keys.
struct Tile {
  const AttendRun* run;
  size_t first, tokens;  // of the run
  size_t head;           // of the keys
};

// The rows of a tile, a token's heads after each other, and what is known of them.
class Rows {
 public:
  Rows(const AttendOptions& options, const Tile& tile, MatrixView<const float> query)
      : value_stride_(tile.run->kv.shape().padded_value_dim()), breaks_stick_(options.breaks_stick) {
    const size_t sharers = options.heads / tile.run->kv.heads(), key_dim = tile.run->kv.shape().key_dim;
    for (size_t t = 0; t < tile.tokens; ++t) {
      const size_t end = tile.run->first_position + tile.first + t + 1;
      const size_t first = options.window > 0 && end > options.window ? end - options.window : 0;
      const auto heads = query.row(tile.run->first_token + tile.first + t);
      for (size_t h = tile.head * sharers; h < (tile.head + 1) * sharers; ++h) {
        query_.push_back(heads.data() + h * key_dim);
        first_.push_back(first);
        end_.push_back(end);
      }
    }
  }

  size_t count() const { return query_.size(); }
  size_t first_piece() const { return first_.front() / kAttendPiece; }
  size_t end_piece() const { return (end_.back() + kAttendPiece - 1) / kAttendPiece; }
  // What AttendState wants of `count` rows, one after the other.
  size_t state_floats() const { return count() * (value_stride_ + 2); }
  AttendState state_in(std::span<float> floats) const {
    float* rest = floats.data() + count() * value_stride_;
    return {rest, rest + count(), floats.data(), value_stride_, breaks_stick_};
  }
  AttendState empty_state_in(std::span<float> floats) const {
    const AttendState state = state_in(floats);
    std::fill_n(state.mixed, count() * value_stride_, 0.0f);
    std::fill_n(state.largest, count(), -std::numeric_limits<float>::infinity());
    std::fill_n(state.sum, count(), breaks_stick_ ? kernel::kWholeStick : 0.0f);
    return state;
  }

  // Folds a piece of the positions of a head into a state.
  void attend(const kernel::Kernels& kernels, const KvHeads& kv, size_t head, float scale, size_t piece, const AttendState& state,
              float* scratch) const {
    constexpr size_t kBlocks = kAttendPiece / kAttendBlock;
    const size_t last = (end_.back() + kAttendBlock - 1) / kAttendBlock, end = std::min((piece + 1) * kBlocks, last);
    for (size_t block = std::max(piece * kBlocks, first_.front() / kAttendBlock); block < end; ++block) {
      const bool goes_on = block + 1 < last;
      const kernel::KvView view = kv.block(head, block), next = kv.block(head, goes_on ? block + 1 : block);
      for (size_t r = 0; r < count(); r += kAttendRows) {
        const kernel::AttendRows rows{std::min(kAttendRows, count() - r), &query_[r], &first_[r], &end_[r], scale,
                                      goes_on ? &next : nullptr};
        kernels.attend(view, block, rows,
                       {state.largest + r, state.sum + r, state.mixed + r * state.stride, state.stride, breaks_stick_}, scratch);
      }
    }
  }
  void fold(const kernel::Kernels& kernels, const AttendState& from, const AttendState& into) const {
    kernels.fold(from, into, count(), value_stride_);
  }

 private:
  size_t value_stride_;
  bool breaks_stick_;
  std::vector<const float*> query_;
  std::vector<size_t> first_, end_;
};

// What the rows found, divided by their sums.
void finish(const AttendOptions& options, const Tile& tile, const AttendState& state, MatrixView<float> mixed) {
  const size_t sharers = options.heads / tile.run->kv.heads(), value_dim = tile.run->kv.shape().value_dim;
  for (size_t r = 0; r < tile.tokens * sharers; ++r) {
    const size_t head = tile.head * sharers + r % sharers;
    float factor = 1, sum = state.sum[r];
    if (!options.sinks_H.empty()) {
      const float sink = options.sinks_H[head] * kLog2E, largest = std::max(sink, state.largest[r]);
      factor = std::exp2(state.largest[r] - largest);
      sum = sum * factor + std::exp2(sink - largest);
    }
    factor = options.breaks_stick ? 1 : factor / sum;
    const float* from = state.mixed + r * state.stride;
    float* to = mixed.row(tile.run->first_token + tile.first + r / sharers).data() + head * value_dim;
    for (size_t d = 0; d < value_dim; ++d) to[d] = from[d] * factor;
  }
}

std::vector<Tile> cut(const AttendOptions& options, std::span<const AttendRun> runs) {
  std::vector<Tile> tiles;
  for (const AttendRun& run : runs) {
    const size_t rows = std::min(kRowsPerTask, kNumbersPerTask / run.kv.shape().padded_value_dim());
    const size_t step = std::max<size_t>(1, rows * run.kv.heads() / options.heads);
    // The last tokens have most to do and come first, so that what is left at the end is small.
    for (size_t at = (run.tokens + step - 1) / step; at-- > 0;) {
      for (size_t head = 0; head < run.kv.heads(); ++head) {
        tiles.push_back({&run, at * step, std::min(step, run.tokens - at * step), head});
      }
    }
  }
  return tiles;
}

size_t scratch_floats(const Tile& tile) {
  return kernel::attend_scratch(tile.run->kv.shape().key_dim, tile.run->kv.shape().value_dim);
}

// Memory that a thread keeps from task to task: to give it back and take it again costs page faults.
std::span<float> workspace(size_t floats) {
  thread_local Matrix<float> memory;
  if (memory.cols() < floats) memory = Matrix<float>(1, floats);
  return memory.flat().first(floats);
}

// A task a tile.
void attend_whole(const kernel::Compute& compute, const AttendOptions& options, std::span<const Tile> tiles,
                  MatrixView<const float> query, MatrixView<float> mixed) {
  compute.threads.parallel_for(tiles.size(), [&](size_t i) {
    const Tile& tile = tiles[i];
    const Rows rows(options, tile, query);
    const size_t each = rows.state_floats();
    const auto floats = workspace(2 * each + scratch_floats(tile));
    const AttendState state = rows.empty_state_in(floats);
    for (size_t piece = rows.first_piece(); piece < rows.end_piece(); ++piece) {
      const AttendState part = rows.empty_state_in(floats.subspan(each));
      rows.attend(compute.kernels, tile.run->kv, tile.head, options.scale * kLog2E, piece, part, floats.data() + 2 * each);
      rows.fold(compute.kernels, part, state);
    }
    finish(options, tile, state, mixed);
  });
}

// A task a piece of a tile; then the fold over these.
void attend_by_piece(const kernel::Compute& compute, const AttendOptions& options, std::span<const Tile> tiles,
                     MatrixView<const float> query, MatrixView<float> mixed) {
  struct Piece {
    size_t tile, number;
    size_t state;  // where it begins, in floats
  };
  std::vector<Rows> rows;
  std::vector<Piece> pieces;
  std::vector<size_t> first_T1 = {0};  // of each tile's pieces
  size_t floats = 0;
  for (size_t i = 0; i < tiles.size(); ++i) {
    rows.emplace_back(options, tiles[i], query);
    for (size_t piece = rows[i].first_piece(); piece < rows[i].end_piece(); ++piece) {
      pieces.push_back({i, piece, floats});
      floats += rows[i].state_floats();
    }
    first_T1.push_back(pieces.size());
  }

  std::vector<float> states(floats);
  const auto floats_of = [&](const Piece& piece) {
    return std::span(states).subspan(piece.state, rows[piece.tile].state_floats());
  };
  compute.threads.parallel_for(pieces.size(), [&](size_t p) {
    const Piece& piece = pieces[p];
    const Tile& tile = tiles[piece.tile];
    const Rows& r = rows[piece.tile];
    r.attend(compute.kernels, tile.run->kv, tile.head, options.scale * kLog2E, piece.number,
             r.empty_state_in(floats_of(piece)), workspace(scratch_floats(tile)).data());
  });
  compute.threads.parallel_for(tiles.size(), [&](size_t i) {
    const Rows& r = rows[i];
    const AttendState state = r.empty_state_in(workspace(r.state_floats()));
    for (size_t p = first_T1[i]; p < first_T1[i + 1]; ++p) {
      r.fold(compute.kernels, r.state_in(floats_of(pieces[p])), state);
    }
    finish(options, tiles[i], state, mixed);
  });
}

}  // namespace

void attend(const kernel::Compute& compute, const AttendOptions& options, std::span<const AttendRun> runs,
            MatrixView<const float> query, MatrixView<float> mixed) {
  const std::vector<Tile> tiles = cut(options, runs);
  const size_t enough = kTasksPerThread * static_cast<size_t>(compute.threads.size());
  if (tiles.size() >= enough || compute.threads.size() == 1) {
    attend_whole(compute, options, tiles, query, mixed);
  } else {
    attend_by_piece(compute, options, tiles, query, mixed);
  }
}

}  // namespace moiety::model
