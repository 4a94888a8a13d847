#include "train/spread_experts.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "train/loops.h"
#include "train/parallel.h"
#include "train/picked.h"

namespace moiety::train {
namespace {

constexpr int kCounts = 2;  // rows and visits

// Of rows of so many numbers, in a parcel.
size_t row_bytes(bool bf16, size_t width) { return width * (bf16 ? sizeof(Bf16) : sizeof(float)); }

void pack_row(bool bf16, std::span<const float> row, std::byte* to) {
  if (!bf16) return void(std::memcpy(to, row.data(), row.size_bytes()));
  thread_local std::vector<Bf16> rounded;
  rounded.resize(row.size());
  round(row, rounded);
  std::memcpy(to, rounded.data(), rounded.size() * sizeof(Bf16));
}

void unpack_row(bool bf16, const std::byte* from, std::span<float> row) {
  if (!bf16) return void(std::memcpy(row.data(), from, row.size_bytes()));
  for (size_t i = 0; i < row.size(); ++i) {
    Bf16 bits;
    std::memcpy(&bits, from + i * sizeof bits, sizeof bits);
    row[i] = std::bit_cast<float>(uint32_t{bits} << 16);
  }
}

template <class T>
std::byte* put(std::byte* at, std::span<const T> numbers) {
  if (!numbers.empty()) std::memcpy(at, numbers.data(), numbers.size_bytes());
  return at + numbers.size_bytes();
}
template <class T>
const std::byte* get(const std::byte* at, std::span<T> numbers) {
  if (!numbers.empty()) std::memcpy(numbers.data(), at, numbers.size_bytes());
  return at + numbers.size_bytes();
}

// Bytes of parcels with so much a row and a visit; `returns`: back from where the rows went.
Matrix<size_t> bytes_of(const Matrix<size_t>& rows_WW, const Matrix<size_t>& visits_WW, size_t a_row, size_t a_visit, bool returns) {
  Matrix<size_t> bytes_WW(rows_WW.rows(), rows_WW.cols());
  for (size_t from = 0; from < rows_WW.rows(); ++from) {
    for (size_t to = 0; to < rows_WW.cols(); ++to) {
      const size_t bytes = rows_WW.row(from)[to] * a_row + visits_WW.row(from)[to] * a_visit;
      (returns ? bytes_WW.row(to)[from] : bytes_WW.row(from)[to]) = bytes;
    }
  }
  return bytes_WW;
}

std::vector<Segment> part_of(std::span<const Segment> segments, size_t first, size_t end) {
  std::vector<Segment> part;
  for (const Segment& segment : segments) {
    if (segment.begin >= static_cast<int>(first) && segment.begin < static_cast<int>(end)) {
      part.push_back({segment.begin - static_cast<int>(first), segment.length, segment.domain});
    }
  }
  return part;
}

}  // namespace

SpreadExperts::SpreadExperts(const ExpertRanks& ranks, std::shared_ptr<const moe::LayerPlan> plan, moe::Placement placement, MakeExperts make,
                             std::span<const Segment> segments, Documents documents, Lendable lendable)
    : ranks_(ranks),
      plan_(std::move(plan)),
      placement_(std::move(placement)),
      make_(std::move(make)),
      segments_(segments.begin(), segments.end()),
      documents_(documents),
      chunks_(static_cast<size_t>(ranks.chunks)) {
  if (ranks_.lend != Lend::Nothing) borrow(std::move(lendable));
  const size_t tokens = static_cast<size_t>(plan_->routing.num_tokens());
  for (size_t c = 0; c < chunks_.size(); ++c) {
    const size_t first = cut(tokens, c, chunks_.size()), end = cut(tokens, c + 1, chunks_.size());
    chunks_[c].shipment = moe::plan_shipment(*plan_, placement_, ranks_.group.rank(), static_cast<int>(first), static_cast<int>(end), borrowed());
  }
  // Half of what stays hides the first chunk's way here, half the last one's way back.
  const size_t homes = chunks_.size() > 1 ? 2 : 1;
  for (size_t h = 0; h < homes; ++h) add_home(cut(tokens, h, homes), cut(tokens, h + 1, homes));
  tell_counts();
}

// Everybody learns how many visits from whom to whom there are, and makes the same plan of it.
void SpreadExperts::borrow(Lendable lendable) {
  loans_ = plan_loans(lendable);
  borrowed_.emplace(ranks_.group, ranks_.exchange, placement_, loans_, *plan_, std::move(lendable));
}

moe::BorrowPlan SpreadExperts::plan_loans(const Lendable& lendable) const {
  std::vector<int64_t> mine_E = moe::visits_by_expert(*plan_);
  mine_E.resize(lendable.experts);
  const std::vector<int64_t> all = ranks_.group.gather(mine_E);
  Matrix<int64_t> visits_WE(static_cast<size_t>(ranks_.group.size()), mine_E.size());
  std::ranges::copy(all, visits_WE.flat().begin());
  if (ranks_.lend == Lend::All) return moe::borrow_all(visits_WE, placement_);
  const auto [experts, width, hidden, gate, up, down] = lendable.own.value;
  const double weights = 3.0 * static_cast<double>(width) * static_cast<double>(hidden);
  // A multiplication and an addition a weight, once forward and twice backward; four rows, of which each end sends two; weights and gradients.
  return moe::borrow_hot(visits_WE, placement_,
                         {.visit = 6 * weights,
                          .row = 2 * static_cast<double>(row_bytes(ranks_.bf16, width)) * ranks_.flops_a_byte,
                          .expert = weights * sizeof(float) * ranks_.flops_a_byte});
}

std::span<const int> SpreadExperts::borrowed() const {
  return borrowed_ ? std::span<const int>(loans_.experts_W[static_cast<size_t>(ranks_.group.rank())]) : std::span<const int>();
}

// Where the part begins; experts that need whole documents get them.
size_t SpreadExperts::cut(size_t tokens, size_t part, size_t parts) const {
  const size_t at = tokens * part / parts;
  if (documents_ == Documents::NoMatter || at == 0) return at;
  const auto next = std::ranges::lower_bound(segments_, static_cast<int>(at), {}, &Segment::begin);
  return next == segments_.end() ? tokens : static_cast<size_t>(next->begin);
}

int32_t SpreadExperts::document_of(int32_t token) const {
  return static_cast<int32_t>(std::ranges::upper_bound(segments_, token, {}, &Segment::begin) - segments_.begin());
}

void SpreadExperts::add_home(size_t first, size_t end) {
  moe::OwnVisits own = moe::own_visits(*plan_, placement_, ranks_.group.rank(), static_cast<int>(first), static_cast<int>(end));
  homes_.push_back({first, end - first, std::move(own.visit_V), moe::plan_dispatch(own.routing), make_(part_of(segments_, first, end))});
}

// Everybody learns how much goes from whom to whom.
void SpreadExperts::tell_counts() {
  const size_t ranks = static_cast<size_t>(ranks_.group.size());
  std::vector<int64_t> mine;
  for (const Chunk& chunk : chunks_) {
    for (int to = 0; to < ranks_.group.size(); ++to) {
      mine.push_back(chunk.shipment.rows(to));
      mine.push_back(chunk.shipment.visits(to));
    }
  }
  const std::vector<int64_t> all = ranks_.group.gather(mine);
  for (size_t c = 0; c < chunks_.size(); ++c) {
    Matrix<size_t> rows_WW(ranks, ranks), visits_WW(ranks, ranks);
    for (size_t from = 0; from < ranks; ++from) {
      for (size_t to = 0; to < ranks; ++to) {
        const int64_t* const counts = &all[from * mine.size() + (c * ranks + to) * kCounts];
        rows_WW.row(from)[to] = static_cast<size_t>(counts[0]);
        visits_WW.row(from)[to] = static_cast<size_t>(counts[1]);
      }
    }
    chunks_[c].rows_WW = std::move(rows_WW);
    chunks_[c].visits_WW = std::move(visits_WW);
  }
}

size_t SpreadExperts::guest_rows(const Chunk& chunk) const {
  size_t rows = 0;
  for (size_t from = 0; from < chunk.rows_WW.rows(); ++from) rows += chunk.rows_WW.row(from)[static_cast<size_t>(ranks_.group.rank())];
  return rows;
}

template <class Send, class Compute, class Take, class AtHome, class Early, class Late>
void SpreadExperts::run(const Send& send, const Compute& compute, const Take& take, const AtHome& at_home, const Early& early, const Late& late) {
  std::vector<std::unique_ptr<comm::Arrival>> coming, returning;
  for (Chunk& chunk : chunks_) coming.push_back(send(chunk));
  early();
  if (homes_.size() > 1) at_home(homes_[0]);
  for (size_t c = 0; c < chunks_.size(); ++c) returning.push_back(compute(chunks_[c], coming[c]->finish()));
  if (homes_.size() > 1) at_home(homes_[1]);
  late();
  for (size_t c = 0; c < chunks_.size(); ++c) take(chunks_[c], returning[c]->finish());
  if (homes_.size() == 1) at_home(homes_[0]);
}

void SpreadExperts::forward(std::span<const float> mix_N, MatrixView<const float> x_TD, MatrixView<float> out_TD) {
  if (borrowed_) borrowed_->send();
  run([&](const Chunk& chunk) { return send_tokens(chunk, mix_N, x_TD); },
      [&](Chunk& chunk, const comm::Parcels& parcels) {
        Guests& guests = chunk.guests;
        guests.x_RD = Buffer(guest_rows(chunk), x_TD.cols());
        receive_tokens(chunk, parcels);
        Buffer y_RD(guest_rows(chunk), x_TD.cols());
        for (size_t r = 0; r < y_RD.view().rows(); ++r) std::ranges::fill(y_RD.row(r), 0.0f);
        experts_forward(guests.experts, guests.plan, guests.mix_V, guests.x_RD.view(), y_RD.view());
        return return_rows(chunk, y_RD.view(), std::nullopt);
      },
      [&](const Chunk& chunk, const comm::Parcels& parcels) { take_back(chunk, parcels, out_TD, {}); },
      [&](Home& home) {
        experts_forward(home.experts, home.plan, picked(mix_N, home.visit_V), x_TD.middle_rows(home.first, home.tokens),
                        out_TD.middle_rows(home.first, home.tokens));
      },
      [] {},
      [&] {
        if (borrowed_) borrowed_->forward(mix_N, x_TD, out_TD);
      });
}

void SpreadExperts::backward(std::span<const float> mix_N, MatrixView<const float> x_TD, MatrixView<const float> dout_TD,
                             MatrixView<float> dx_TD, std::span<float> dmix_N) {
  std::ranges::fill(dmix_N, 0.0f);
  run([&](const Chunk& chunk) { return send_rows(chunk, dout_TD); },
      [&](Chunk& chunk, const comm::Parcels& parcels) {
        Guests& guests = chunk.guests;
        Buffer dy_RD(guest_rows(chunk), x_TD.cols()), dx_RD(guest_rows(chunk), x_TD.cols());
        receive_rows(parcels, dy_RD.view());
        for (size_t r = 0; r < dx_RD.view().rows(); ++r) std::ranges::fill(dx_RD.row(r), 0.0f);
        std::vector<float> dmix_V(guests.mix_V.size());
        experts_backward(guests.experts, guests.plan, guests.mix_V, guests.x_RD.view(), dy_RD.view(), dx_RD.view(), dmix_V);
        auto returning = return_rows(chunk, dx_RD.view(), dmix_V);
        guests = {};
        return returning;
      },
      [&](const Chunk& chunk, const comm::Parcels& parcels) { take_back(chunk, parcels, dx_TD, dmix_N); },
      [&](Home& home) {
        std::vector<float> dmix_V(home.visit_V.size());
        experts_backward(home.experts, home.plan, picked(mix_N, home.visit_V), x_TD.middle_rows(home.first, home.tokens),
                         dout_TD.middle_rows(home.first, home.tokens), dx_TD.middle_rows(home.first, home.tokens), dmix_V);
        for (size_t v = 0; v < dmix_V.size(); ++v) dmix_N[static_cast<size_t>(home.visit_V[v])] = dmix_V[v];
      },
      [&] {
        if (borrowed_) borrowed_->backward(mix_N, x_TD, dout_TD, dx_TD, dmix_N);
      },
      [] {});
  if (borrowed_) borrowed_->take_gradients();
}

// A parcel of tokens: their rows; for each how many visits it makes and, if that matters, its document; experts and mixing weights
// of the visits.
std::unique_ptr<comm::Arrival> SpreadExperts::send_tokens(const Chunk& chunk, std::span<const float> mix_N, MatrixView<const float> x_TD) const {
  const moe::Shipment& s = chunk.shipment;
  const size_t row = row_bytes(ranks_.bf16, x_TD.cols()), words = documents_ == Documents::Whole ? 2 : 1;
  const Matrix<size_t> bytes_WW =
      bytes_of(chunk.rows_WW, chunk.visits_WW, row + words * sizeof(int32_t), sizeof(int32_t) + sizeof(float), /*returns=*/false);
  comm::Parcels parcels(bytes_WW.row(static_cast<size_t>(ranks_.group.rank())));
  for (int rank = 0; rank < ranks_.group.size(); ++rank) {
    const size_t first = static_cast<size_t>(s.first_row_W1[static_cast<size_t>(rank)]), rows = static_cast<size_t>(s.rows(rank));
    const size_t first_visit = static_cast<size_t>(s.first_visit(rank)), visits = static_cast<size_t>(s.visits(rank));
    const auto tokens_R = std::span(s.token_of_row_R).subspan(first, rows);
    std::byte* at = parcels.of(rank).data();
    parallel_ranges(rows, [&](size_t begin, size_t end, size_t) {
      for (size_t r = begin; r < end; ++r) pack_row(ranks_.bf16, x_TD.row(static_cast<size_t>(tokens_R[r])), at + r * row);
    });
    at += rows * row;
    std::vector<int32_t> counts_R, documents_R;
    for (size_t r = 0; r < rows; ++r) counts_R.push_back(s.first_visit_R1[first + r + 1] - s.first_visit_R1[first + r]);
    at = put<int32_t>(at, counts_R);
    if (documents_ == Documents::Whole) {
      for (const int32_t token : tokens_R) documents_R.push_back(document_of(token));
      at = put<int32_t>(at, documents_R);
    }
    at = put<int32_t>(at, std::span(s.expert_V).subspan(first_visit, visits));
    put<float>(at, picked(mix_N, std::span(s.visit_V).subspan(first_visit, visits)));
  }
  return ranks_.exchange.start(std::move(parcels), bytes_WW);
}

void SpreadExperts::receive_tokens(Chunk& chunk, const comm::Parcels& parcels) const {
  Guests& guests = chunk.guests;
  const size_t me = static_cast<size_t>(ranks_.group.rank()), width = guests.x_RD.view().cols(), row = row_bytes(ranks_.bf16, width);
  moe::Routing routing{.num_experts = placement_.count(ranks_.group.rank())};
  std::vector<Segment> segments;
  size_t first = 0;
  for (int from = 0; from < ranks_.group.size(); ++from) {
    const size_t rows = chunk.rows_WW.row(static_cast<size_t>(from))[me], visits = chunk.visits_WW.row(static_cast<size_t>(from))[me];
    const std::byte* at = parcels.of(from).data();
    parallel_ranges(rows, [&](size_t begin, size_t end, size_t) {
      for (size_t r = begin; r < end; ++r) unpack_row(ranks_.bf16, at + r * row, guests.x_RD.row(first + r));
    });
    at += rows * row;
    std::vector<int32_t> counts_R(rows), documents_R(rows), experts_V(visits);
    std::vector<float> mix_V(visits);
    at = get<int32_t>(at, counts_R);
    for (const int32_t count : counts_R) routing.begin_T1.push_back(routing.begin_T1.back() + count);
    if (documents_ == Documents::Whole) {
      at = get<int32_t>(at, documents_R);
      for (size_t r = 0; r < rows; ++r) {
        if (r == 0 || documents_R[r] != documents_R[r - 1]) segments.push_back({.begin = static_cast<int>(first + r)});
        ++segments.back().length;
      }
    }
    at = get<int32_t>(at, experts_V);
    get<float>(at, mix_V);
    routing.experts_N.insert(routing.experts_N.end(), experts_V.begin(), experts_V.end());
    guests.mix_V.insert(guests.mix_V.end(), mix_V.begin(), mix_V.end());
    first += rows;
  }
  guests.plan = moe::plan_dispatch(routing);
  guests.experts = make_(segments);
}

// Rows of the same tokens, once more.
std::unique_ptr<comm::Arrival> SpreadExperts::send_rows(const Chunk& chunk, MatrixView<const float> from_TD) const {
  const moe::Shipment& s = chunk.shipment;
  const size_t row = row_bytes(ranks_.bf16, from_TD.cols());
  const Matrix<size_t> bytes_WW = bytes_of(chunk.rows_WW, chunk.visits_WW, row, 0, /*returns=*/false);
  comm::Parcels parcels(bytes_WW.row(static_cast<size_t>(ranks_.group.rank())));
  std::byte* const at = parcels.memory.flat().data();
  parallel_ranges(s.token_of_row_R.size(), [&](size_t begin, size_t end, size_t) {
    for (size_t r = begin; r < end; ++r) pack_row(ranks_.bf16, from_TD.row(static_cast<size_t>(s.token_of_row_R[r])), at + r * row);
  });
  return ranks_.exchange.start(std::move(parcels), bytes_WW);
}

void SpreadExperts::receive_rows(const comm::Parcels& parcels, MatrixView<float> to_RD) const {
  const size_t row = row_bytes(ranks_.bf16, to_RD.cols());
  const std::byte* const at = parcels.memory.flat().data();
  parallel_ranges(to_RD.rows(), [&](size_t begin, size_t end, size_t) {
    for (size_t r = begin; r < end; ++r) unpack_row(ranks_.bf16, at + r * row, to_RD.row(r));
  });
}

// A row for each token that came; with gradients of its visits' mixing weights, if there are any.
std::unique_ptr<comm::Arrival> SpreadExperts::return_rows(const Chunk& chunk, MatrixView<const float> from_RD,
                                                           const std::optional<std::vector<float>>& dmix_V) const {
  const size_t me = static_cast<size_t>(ranks_.group.rank()), row = row_bytes(ranks_.bf16, from_RD.cols());
  const Matrix<size_t> bytes_WW = bytes_of(chunk.rows_WW, chunk.visits_WW, row, dmix_V ? sizeof(float) : 0, /*returns=*/true);
  comm::Parcels parcels(bytes_WW.row(me));
  size_t first = 0, first_visit = 0;
  for (int to = 0; to < ranks_.group.size(); ++to) {
    const size_t rows = chunk.rows_WW.row(static_cast<size_t>(to))[me], visits = chunk.visits_WW.row(static_cast<size_t>(to))[me];
    std::byte* const at = parcels.of(to).data();
    parallel_ranges(rows, [&](size_t begin, size_t end, size_t) {
      for (size_t r = begin; r < end; ++r) pack_row(ranks_.bf16, from_RD.row(first + r), at + r * row);
    });
    if (dmix_V) put<float>(at + rows * row, std::span(*dmix_V).subspan(first_visit, visits));
    first += rows;
    first_visit += visits;
  }
  return ranks_.exchange.start(std::move(parcels), bytes_WW);
}

// Rank after rank, so that sums are the same in every run.
void SpreadExperts::take_back(const Chunk& chunk, const comm::Parcels& parcels, MatrixView<float> to_TD, std::span<float> dmix_N) const {
  const moe::Shipment& s = chunk.shipment;
  const size_t row = row_bytes(ranks_.bf16, to_TD.cols());
  for (int rank = 0; rank < ranks_.group.size(); ++rank) {
    const size_t first = static_cast<size_t>(s.first_row_W1[static_cast<size_t>(rank)]), rows = static_cast<size_t>(s.rows(rank));
    const std::byte* const at = parcels.of(rank).data();
    parallel_ranges(rows, [&](size_t begin, size_t end, size_t) {
      std::vector<float> unpacked(to_TD.cols());
      for (size_t r = begin; r < end; ++r) {
        unpack_row(ranks_.bf16, at + r * row, unpacked);
        add(unpacked, to_TD.row(static_cast<size_t>(s.token_of_row_R[first + r])));
      }
    });
    if (dmix_N.empty()) continue;
    std::vector<float> dmix_V(static_cast<size_t>(s.visits(rank)));
    get<float>(at + rows * row, dmix_V);
    const auto visit_V = std::span(s.visit_V).subspan(static_cast<size_t>(s.first_visit(rank)), dmix_V.size());
    for (size_t v = 0; v < dmix_V.size(); ++v) dmix_N[static_cast<size_t>(visit_V[v])] = dmix_V[v];
  }
}

}  // namespace moiety::train
