#include "train/ring_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "train/loops.h"
#include "train/parallel.h"
#include "train/scratch.h"

namespace moiety::train {
namespace {

// Queries a block, as in attention.cc.
constexpr size_t kBlock = 64;

// To the next rank of the ring, from the one before.
comm::Pending pass_on(comm::Group& group, MatrixView<const float> out, MatrixView<float> in) {
  const auto ranks = static_cast<size_t>(group.size()), rank = static_cast<size_t>(group.rank());
  std::vector<size_t> out_R(ranks, 0), in_R(ranks, 0);
  out_R[(rank + 1) % ranks] = out.flat().size_bytes();
  in_R[(rank + ranks - 1) % ranks] = in.flat().size_bytes();
  return group.all_to_all(std::as_bytes(out.flat()), out_R, std::as_writable_bytes(in.flat()), in_R);
}

// A part of a document here and the parts of it in the keys that are here now.
struct Meeting {
  std::vector<Segment> queries, keys;
};
std::vector<Meeting> meetings(const std::vector<Segment>& queries, const std::vector<Segment>& keys) {
  std::map<int, Meeting> by_document;
  for (const Segment& part : queries) by_document[part.document].queries.push_back(part);
  for (const Segment& part : keys) {
    if (const auto found = by_document.find(part.document); found != by_document.end()) found->second.keys.push_back(part);
  }
  std::vector<Meeting> found;
  for (auto& [document, meeting] : by_document) {
    if (!meeting.keys.empty()) found.push_back(std::move(meeting));
  }
  return found;
}

// Of a part of keys, how many the query at this place of its part sees.
size_t seen(const Segment& queries, size_t at, const Segment& keys) {
  const int64_t last = queries.position + static_cast<int64_t>(at) - keys.position;
  return static_cast<size_t>(std::clamp<int64_t>(last + 1, 0, keys.length));
}

// body(first query's row, queries, keys) by blocks of the queries that see any of the keys; `keys` are those that the last query sees.
template <class Body>
void for_blocks(const Segment& queries, const Segment& keys, const Body& body) {
  const auto length = static_cast<size_t>(queries.length);
  for (size_t first = 0; first < length; first += kBlock) {
    const size_t count = std::min(kBlock, length - first), most = seen(queries, first + count - 1, keys);
    if (most > 0) body(first, count, most);
  }
}

// Keys and values of a rank's tokens side by side: [T, 2 K].
Matrix<float> keys_and_values(const HeadLayout& layout, MatrixView<const float> rotated_TQ, MatrixView<const float> value_TK) {
  Matrix<float> both(rotated_TQ.rows(), 2 * layout.key_width());
  parallel_ranges(both.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      std::ranges::copy(rotated_TQ.row(t).subspan(layout.query_width(), layout.key_width()), both.row(t).begin());
      std::ranges::copy(value_TK.row(t), both.row(t).begin() + static_cast<ptrdiff_t>(layout.key_width()));
    }
  });
  return both;
}

// body(owner, keys and values of the owner's tokens) for each rank, from this one on backwards; the next ones come meanwhile.
template <class Body>
void for_each_owner(const Ring& ring, Matrix<float> own, const Body& body) {
  const auto ranks = static_cast<size_t>(ring.group.size()), rank = static_cast<size_t>(ring.group.rank());
  Matrix<float> here = std::move(own);
  for (size_t step = 0; step < ranks; ++step) {
    const size_t owner = (rank + ranks - step) % ranks, next = (owner + ranks - 1) % ranks;
    Matrix<float> coming(step + 1 < ranks ? ring.tokens_R[next] : 0, here.cols());
    comm::Pending passing;
    if (step + 1 < ranks) passing = pass_on(ring.group, here.view(), coming.view());
    body(owner, std::as_const(here).view());
    passing.wait();
    here = std::move(coming);
  }
}

// Tokens [begin, end) of a pass.
struct Stretch {
  int begin, end;
};

// A rank's of a pass, in their order.
std::vector<Stretch> stretches_of(const Batch& whole, int rank, int ranks) {
  const size_t length = whole.sequence > 0 ? whole.sequence : whole.tokens_T.size(), stretches = 2 * static_cast<size_t>(ranks);
  std::vector<Stretch> own;
  for (size_t sequence = 0; sequence < whole.tokens_T.size(); sequence += length) {
    for (const size_t nth : {static_cast<size_t>(rank), stretches - 1 - static_cast<size_t>(rank)}) {
      own.push_back({static_cast<int>(sequence + length * nth / stretches), static_cast<int>(sequence + length * (nth + 1) / stretches)});
    }
  }
  return own;
}

size_t tokens_in(const std::vector<Stretch>& stretches) {
  size_t tokens = 0;
  for (const auto& [begin, end] : stretches) tokens += static_cast<size_t>(end - begin);
  return tokens;
}

// What these have of each document, when they lie one after the other.
std::vector<Segment> segments_in(const Batch& whole, const std::vector<Stretch>& stretches) {
  std::vector<Segment> parts;
  int at = 0;
  for (const auto& [begin, end] : stretches) {
    for (size_t document = 0; document < whole.segments.size(); ++document) {
      const Segment& segment = whole.segments[document];
      const int from = std::max(begin, segment.begin), to = std::min(end, segment.begin + segment.length);
      if (from >= to) continue;
      parts.push_back({at + from - begin, to - from, segment.domain, segment.position + from - segment.begin, static_cast<int>(document),
                       segment.at < 0 ? -1 : segment.at + from - segment.begin});
    }
    at += end - begin;
  }
  return parts;
}

}  // namespace

Batch part_of_ring(const Batch& whole, comm::Group& group) {
  const auto ring = std::make_shared<Ring>(Ring{group, {}, {}});
  for (int rank = 0; rank < group.size(); ++rank) {
    const std::vector<Stretch> stretches = stretches_of(whole, rank, group.size());
    ring->segments_R.push_back(segments_in(whole, stretches));
    ring->tokens_R.push_back(tokens_in(stretches));
  }
  Batch part{.first_token = whole.first_token, .ring = ring, .draw = whole.draw};
  for (const auto& [begin, end] : stretches_of(whole, group.rank(), group.size())) {
    part.tokens_T.insert(part.tokens_T.end(), whole.tokens_T.begin() + begin, whole.tokens_T.begin() + end);
    part.targets_T.insert(part.targets_T.end(), whole.targets_T.begin() + begin, whole.targets_T.begin() + end);
  }
  part.segments = ring->segments_R[static_cast<size_t>(group.rank())];
  return part;
}

void ring_forward(const Ring& ring, const RingSettings& settings, MatrixView<const float> rotated_TQ, MatrixView<const float> value_TK,
                  MatrixView<float> out_TD, MatrixView<float> log_sum_HT) {
  const auto& [layout, factor, type] = settings;
  const size_t head_dim = layout.head_dim, heads_per_kv = layout.heads / layout.kv_heads;
  // Until the end outputs are relative to the largest score so far, and undivided.
  Matrix<float> largest_HT(layout.heads, rotated_TQ.rows()), sum_HT(layout.heads, rotated_TQ.rows());
  std::ranges::fill(largest_HT.flat(), -std::numeric_limits<float>::infinity());
  for (size_t t = 0; t < out_TD.rows(); ++t) std::ranges::fill(out_TD.row(t), 0.0f);

  const auto& mine = ring.segments_R[static_cast<size_t>(ring.group.rank())];
  for_each_owner(ring, keys_and_values(layout, rotated_TQ, value_TK), [&, factor = factor, type = type, &layout = layout](size_t owner, MatrixView<const float> kv) {
    const std::vector<Meeting> met = meetings(mine, ring.segments_R[owner]);
    parallel_tasks(met.size() * layout.heads, [&](size_t task) {
      const Meeting& meeting = met[task / layout.heads];
      const size_t head = task % layout.heads, key_at = head / heads_per_kv * head_dim;
      thread_local Scratch score_memory, part_memory;
      for (const Segment& queries : meeting.queries) {
        const auto begin = static_cast<size_t>(queries.begin);
        for (const Segment& keys : meeting.keys) {
          const auto of_keys = kv.middle_rows(static_cast<size_t>(keys.begin), static_cast<size_t>(keys.length));
          for_blocks(queries, keys, [&](size_t first, size_t count, size_t most) {
            const MatrixView<float> p(score_memory.get<float>(count * most), count, most), part(part_memory.get<float>(count * head_dim), count, head_dim);
            multiply_nt(type, rotated_TQ.middle_rows(begin + first, count).middle_cols(head * head_dim, head_dim),
                        of_keys.middle_rows(0, most).middle_cols(key_at, head_dim), p);
            Exponentials row[kBlock];
            for (size_t i = 0; i < count; ++i) {
              const size_t sees = seen(queries, first + i, keys);
              row[i] = sees > 0 ? exponentials(factor, p.row(i).first(sees)) : Exponentials{-std::numeric_limits<float>::infinity(), 0};
              std::ranges::fill(p.row(i).subspan(sees), 0.0f);
            }
            multiply_nn(type, p, of_keys.middle_rows(0, most).middle_cols(layout.key_width() + key_at, head_dim), part);
            for (size_t i = 0; i < count; ++i) {
              if (row[i].sum == 0) continue;
              const size_t t = begin + first + i;
              float &largest = largest_HT.row(head)[t], &sum = sum_HT.row(head)[t];
              const float together = std::max(largest, row[i].largest), before = std::exp(largest - together), now = std::exp(row[i].largest - together);
              const auto out = out_TD.row(t).subspan(head * head_dim, head_dim);
              scale(before, out);
              add_scaled(now, part.row(i), out);
              sum = before * sum + now * row[i].sum;
              largest = together;
            }
          });
        }
      }
    });
  });
  parallel_ranges(out_TD.rows(), [&, &layout = layout](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      for (size_t head = 0; head < layout.heads; ++head) {
        scale(1 / sum_HT.row(head)[t], out_TD.row(t).subspan(head * head_dim, head_dim));
        log_sum_HT.row(head)[t] = largest_HT.row(head)[t] + std::log(sum_HT.row(head)[t]);
      }
    }
  });
}

void ring_backward(const Ring& ring, const RingSettings& settings, MatrixView<const float> rotated_TQ, MatrixView<const float> value_TK,
                   MatrixView<const float> out_TD, MatrixView<const float> log_sum_HT, MatrixView<const float> dout_TD,
                   MatrixView<float> drotated_TQ, MatrixView<float> dvalue_TK) {
  const HeadLayout layout = settings.layout;
  const GemmType type = settings.type;
  const float factor = settings.factor;
  const size_t head_dim = layout.head_dim, heads_per_kv = layout.heads / layout.kv_heads, key_width = layout.key_width();
  // A softmax's gradient subtracts the mean of its weights' gradients, which is <dout, out>.
  Matrix<float> mean_HT(layout.heads, out_TD.rows());
  parallel_ranges(out_TD.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t t = begin; t < end; ++t) {
      std::ranges::fill(drotated_TQ.row(t), 0.0f);
      for (size_t head = 0; head < layout.heads; ++head) {
        mean_HT.row(head)[t] = dot(out_TD.row(t).subspan(head * head_dim, head_dim), dout_TD.row(t).subspan(head * head_dim, head_dim));
      }
    }
  });

  const auto ranks = static_cast<size_t>(ring.group.size());
  const auto& mine = ring.segments_R[static_cast<size_t>(ring.group.rank())];
  // Gradients of the owner's keys and values that the ranks before have made, and those made here, which go to the next rank.
  Matrix<float> coming, going;
  comm::Pending passing;
  for_each_owner(ring, keys_and_values(layout, rotated_TQ, value_TK), [&](size_t owner, MatrixView<const float> kv) {
    Matrix<float> dkv(kv.rows(), kv.cols());
    const std::vector<Meeting> met = meetings(mine, ring.segments_R[owner]);
    // A task is all query heads of one key-value head, since they add to the same gradients.
    parallel_tasks(met.size() * layout.kv_heads, [&](size_t task) {
      const Meeting& meeting = met[task / layout.kv_heads];
      const size_t kv_head = task % layout.kv_heads, key_at = kv_head * head_dim;
      thread_local Scratch score_memory, dscore_memory;
      for (const Segment& keys : meeting.keys) {
        const auto rows_of = [&](auto all) { return all.middle_rows(static_cast<size_t>(keys.begin), static_cast<size_t>(keys.length)); };
        const auto of_keys = rows_of(kv);
        const auto dof_keys = rows_of(dkv.view());
        for (const Segment& queries : meeting.queries) {
          const auto begin = static_cast<size_t>(queries.begin);
          for (size_t head = kv_head * heads_per_kv; head < (kv_head + 1) * heads_per_kv; ++head) {
            for_blocks(queries, keys, [&](size_t first, size_t count, size_t most) {
              const MatrixView<float> p(score_memory.get<float>(count * most), count, most), dp(dscore_memory.get<float>(count * most), count, most);
              const auto query = rotated_TQ.middle_rows(begin + first, count).middle_cols(head * head_dim, head_dim);
              const auto dout = dout_TD.middle_rows(begin + first, count).middle_cols(head * head_dim, head_dim);
              const auto key = of_keys.middle_rows(0, most).middle_cols(key_at, head_dim), value = of_keys.middle_rows(0, most).middle_cols(key_width + key_at, head_dim);
              multiply_nt(type, query, key, p);
              multiply_nt(type, dout, value, dp);
              for (size_t i = 0; i < count; ++i) {
                const size_t sees = seen(queries, first + i, keys), t = begin + first + i;
                softmax_again(factor, log_sum_HT.row(head)[t], p.row(i).first(sees));
                softmax_backward(p.row(i).first(sees), mean_HT.row(head)[t], factor, dp.row(i).first(sees));
                std::ranges::fill(p.row(i).subspan(sees), 0.0f);
                std::ranges::fill(dp.row(i).subspan(sees), 0.0f);
              }
              multiply_tn(type, p, dout, dof_keys.middle_rows(0, most).middle_cols(key_width + key_at, head_dim), Into::Add);
              multiply_tn(type, dp, query, dof_keys.middle_rows(0, most).middle_cols(key_at, head_dim), Into::Add);
              multiply_nn(type, dp, key, drotated_TQ.middle_rows(begin + first, count).middle_cols(head * head_dim, head_dim), Into::Add);
            });
          }
        }
      }
    });
    passing.wait();
    if (coming.rows() > 0) add(coming.flat(), dkv.flat());
    going = std::move(dkv);
    coming = Matrix<float>(ring.tokens_R[(owner + ranks - 1) % ranks], going.cols());
    passing = pass_on(ring.group, std::as_const(going).view(), coming.view());
  });
  passing.wait();
  for (size_t t = 0; t < coming.rows(); ++t) {
    std::ranges::copy(coming.row(t).first(key_width), drotated_TQ.row(t).subspan(layout.query_width()).begin());
    std::ranges::copy(coming.row(t).subspan(key_width), dvalue_TK.row(t).begin());
  }
}

}  // namespace moiety::train
