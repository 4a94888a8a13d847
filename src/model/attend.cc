#include "model/attend.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moiety::model {
namespace {

using kernel::AttendState;
using kernel::kAttendBlock;
using kernel::kAttendRows;

constexpr float kLog2E = 1.44269504088896341f;

// Queries that one task computes: so many that reading keys and values costs little, so few that all threads get some.
constexpr size_t kRowsPerTask = 96;
// Fewer tasks a thread than this, and long sequences are shared out by block.
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
      : value_stride_(tile.run->kv->head(0).padded_value_dim()) {
    const size_t sharers = options.heads / tile.run->kv->heads(), key_dim = tile.run->kv->key_dim();
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
  size_t first_block() const { return first_.front() / kAttendBlock; }
  size_t end_block() const { return (end_.back() + kAttendBlock - 1) / kAttendBlock; }
  // What AttendState wants of `count` rows, one after the other.
  size_t state_floats() const { return count() * (value_stride_ + 2); }
  AttendState state_in(std::span<float> floats) const {
    float* rest = floats.data() + count() * value_stride_;
    return {rest, rest + count(), floats.data(), value_stride_};
  }
  AttendState empty_state_in(std::span<float> floats) const {
    const AttendState state = state_in(floats);
    std::fill_n(state.mixed, count() * value_stride_, 0.0f);
    std::fill_n(state.largest, count(), -std::numeric_limits<float>::infinity());
    std::fill_n(state.sum, count(), 0.0f);
    return state;
  }

  void attend(const kernel::Kernels& kernels, const kernel::KvView& kv, float scale, size_t block,
              const AttendState& state, float* scratch) const {
    for (size_t r = 0; r < count(); r += kAttendRows) {
      const kernel::AttendRows rows{std::min(kAttendRows, count() - r), &query_[r], &first_[r], &end_[r], scale};
      kernels.attend(kv, block, rows, {state.largest + r, state.sum + r, state.mixed + r * state.stride, state.stride},
                     scratch);
    }
  }
  void fold(const kernel::Kernels& kernels, const AttendState& from, const AttendState& into) const {
    kernels.fold(from, into, count(), value_stride_);
  }

 private:
  size_t value_stride_;
  std::vector<const float*> query_;
  std::vector<size_t> first_, end_;
};

// What the rows found, divided by their sums.
void finish(const AttendOptions& options, const Tile& tile, const AttendState& state, MatrixView<float> mixed) {
  const size_t sharers = options.heads / tile.run->kv->heads(), value_dim = tile.run->kv->value_dim();
  for (size_t r = 0; r < tile.tokens * sharers; ++r) {
    const size_t head = tile.head * sharers + r % sharers;
    float factor = 1, sum = state.sum[r];
    if (!options.sinks_H.empty()) {
      const float sink = options.sinks_H[head] * kLog2E, largest = std::max(sink, state.largest[r]);
      factor = std::exp2(state.largest[r] - largest);
      sum = sum * factor + std::exp2(sink - largest);
    }
    factor /= sum;
    const float* from = state.mixed + r * state.stride;
    float* to = mixed.row(tile.run->first_token + tile.first + r / sharers).data() + head * value_dim;
    for (size_t d = 0; d < value_dim; ++d) to[d] = from[d] * factor;
  }
}

std::vector<Tile> cut(const AttendOptions& options, std::span<const AttendRun> runs) {
  std::vector<Tile> tiles;
  for (const AttendRun& run : runs) {
    const size_t step = std::max<size_t>(1, kRowsPerTask * run.kv->heads() / options.heads);
    // The last tokens have most to do and come first, so that what is left at the end is small.
    for (size_t at = (run.tokens + step - 1) / step; at-- > 0;) {
      for (size_t head = 0; head < run.kv->heads(); ++head) {
        tiles.push_back({&run, at * step, std::min(step, run.tokens - at * step), head});
      }
    }
  }
  return tiles;
}

size_t scratch_floats(const Tile& tile) {
  return kernel::attend_scratch(tile.run->kv->key_dim(), tile.run->kv->value_dim());
}

// A task a tile: the fold over its blocks.
void attend_whole(const kernel::Compute& compute, const AttendOptions& options, std::span<const Tile> tiles,
                  MatrixView<const float> query, MatrixView<float> mixed) {
  compute.threads.parallel_for(tiles.size(), [&](size_t i) {
    const Tile& tile = tiles[i];
    const Rows rows(options, tile, query);
    const kernel::KvView kv = tile.run->kv->head(tile.head);
    Matrix<float> floats(1, rows.state_floats()), scratch(1, scratch_floats(tile));
    const AttendState state = rows.empty_state_in(floats.flat());
    for (size_t block = rows.first_block(); block < rows.end_block(); ++block) {
      rows.attend(compute.kernels, kv, options.scale * kLog2E, block, state, scratch.flat().data());
    }
    finish(options, tile, state, mixed);
  });
}

// A task a block of a tile, each into a state of its own; then the fold over these.
void attend_by_block(const kernel::Compute& compute, const AttendOptions& options, std::span<const Tile> tiles,
                     MatrixView<const float> query, MatrixView<float> mixed) {
  struct Piece {
    size_t tile, block, state;  // where its state begins
  };
  std::vector<Rows> rows;
  std::vector<Piece> pieces;
  std::vector<size_t> first_piece = {0};
  size_t floats = 0;
  for (size_t i = 0; i < tiles.size(); ++i) {
    rows.emplace_back(options, tiles[i], query);
    for (size_t block = rows[i].first_block(); block < rows[i].end_block(); ++block) {
      pieces.push_back({i, block, floats});
      floats += rows[i].state_floats();
    }
    first_piece.push_back(pieces.size());
  }

  std::vector<float> states(floats);
  const auto state_of = [&](const Piece& piece) {
    return std::span(states).subspan(piece.state, rows[piece.tile].state_floats());
  };
  compute.threads.parallel_for(pieces.size(), [&](size_t p) {
    const Tile& tile = tiles[pieces[p].tile];
    Matrix<float> scratch(1, scratch_floats(tile));
    const Rows& r = rows[pieces[p].tile];
    r.attend(compute.kernels, tile.run->kv->head(tile.head), options.scale * kLog2E, pieces[p].block,
             r.empty_state_in(state_of(pieces[p])), scratch.flat().data());
  });
  compute.threads.parallel_for(tiles.size(), [&](size_t i) {
    const AttendState state = rows[i].state_in(state_of(pieces[first_piece[i]]));
    for (size_t p = first_piece[i] + 1; p < first_piece[i + 1]; ++p) {
      rows[i].fold(compute.kernels, rows[i].state_in(state_of(pieces[p])), state);
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
    attend_by_block(compute, options, tiles, query, mixed);
  }
}

}  // namespace moiety::model
