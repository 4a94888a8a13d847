#include "comm/exchange.h"

#include <fmt/core.h>

#include <algorithm>
#include <cassert>
#include <future>
#include <numeric>

#include "base/error.h"

namespace moiety::comm {
namespace {

std::vector<size_t> column(const Matrix<size_t>& bytes_WW, int to) {
  std::vector<size_t> bytes;
  for (size_t from = 0; from < bytes_WW.rows(); ++from) bytes.push_back(bytes_WW.row(from)[static_cast<size_t>(to)]);
  return bytes;
}

class AllToAll : public Exchange {
 public:
  explicit AllToAll(Group& group) : group_(group) {}

  std::unique_ptr<Arrival> start(Parcels out, const Matrix<size_t>& bytes_WW) override {
    auto way = std::make_unique<OnTheirWay>();
    const std::vector<size_t> from_W = column(bytes_WW, group_.rank());
    way->out = std::move(out);
    way->in = Parcels(from_W);
    way->pending = group_.all_to_all(way->out.memory.flat(), bytes_WW.row(static_cast<size_t>(group_.rank())), way->in.memory.flat(), from_W);
    return way;
  }

 private:
  struct OnTheirWay : Arrival {
    Parcels out, in;
    Pending pending;  // ends first
    Parcels finish() override {
      pending.wait();
      return std::move(in);
    }
  };
  Group& group_;
};

class AllGather : public Exchange {
 public:
  explicit AllGather(Group& group) : group_(group) {}

  std::unique_ptr<Arrival> start(Parcels out, const Matrix<size_t>& bytes_WW) override {
    size_t largest = 0;
    for (size_t from = 0; from < bytes_WW.rows(); ++from) {
      largest = std::max(largest, std::accumulate(bytes_WW.row(from).begin(), bytes_WW.row(from).end(), size_t{0}));
    }
    auto way = std::make_unique<OnTheirWay>(bytes_WW, group_.rank());
    way->out = Matrix<std::byte>(1, largest);
    std::ranges::copy(out.memory.flat(), way->out.flat().begin());
    way->in = Matrix<std::byte>::uninitialised(bytes_WW.rows(), largest);
    way->pending = group_.all_gather(way->out.flat(), way->in.flat());
    return way;
  }

 private:
  struct OnTheirWay : Arrival {
    OnTheirWay(const Matrix<size_t>& bytes_WW, int me) : mine(column(bytes_WW, me)) {
      for (size_t from = 0; from < bytes_WW.rows(); ++from) {
        const auto row = bytes_WW.row(from).first(static_cast<size_t>(me));
        begin.push_back(std::accumulate(row.begin(), row.end(), size_t{0}));
      }
    }
    std::vector<size_t> mine, begin;  // in each rank's bytes
    Matrix<std::byte> out, in;
    Pending pending;
    Parcels finish() override {
      pending.wait();
      Parcels parcels(mine);
      for (size_t from = 0; from < mine.size(); ++from) {
        if (mine[from] > 0) std::ranges::copy(in.row(from).subspan(begin[from], mine[from]), parcels.of(static_cast<int>(from)).begin());
      }
      return parcels;
    }
  };
  Group& group_;
};

// One exchange after the other: the second half of each has to be started by somebody.
class TwoLevel : public Exchange {
 public:
  TwoLevel(Group& group, int local) : rank_(group.rank()), local_(local), nodes_(group.size() / local) {
    std::vector<int> same_node, same_place;
    for (int i = 0; i < local_; ++i) same_node.push_back(node() * local_ + i);
    for (int i = 0; i < nodes_; ++i) same_place.push_back(i * local_ + place());
    within_ = std::make_unique<Group>(group, same_node, fmt::format("node{}", node()));
    across_ = std::make_unique<Group>(group, same_place, fmt::format("place{}", place()));
  }

  std::unique_ptr<Arrival> start(Parcels out, const Matrix<size_t>& bytes_WW) override {
    auto shared = std::make_shared<Parcels>(std::move(out));
    Matrix<size_t> bytes(bytes_WW.rows(), bytes_WW.cols());
    std::ranges::copy(bytes_WW.flat(), bytes.flat().begin());
    auto sizes = std::make_shared<Matrix<size_t>>(std::move(bytes));
    auto way = std::make_unique<OnTheirWay>();
    const auto result = std::make_shared<std::promise<Parcels>>();
    way->parcels = result->get_future();
    last_ = std::async(std::launch::async, [this, shared, sizes, result, before = last_] {
              if (before.valid()) before.wait();
              try {
                result->set_value(deliver(*shared, *sizes));
              } catch (...) {
                result->set_exception(std::current_exception());
              }
            }).share();
    return way;
  }

 private:
  struct OnTheirWay : Arrival {
    std::future<Parcels> parcels;
    Parcels finish() override { return parcels.get(); }
  };

  int node() const { return rank_ / local_; }
  int place() const { return rank_ % local_; }

  Parcels deliver(const Parcels& out, const Matrix<size_t>& bytes_WW) {
    const auto bytes = [&](int from, int to) { return bytes_WW.row(static_cast<size_t>(from))[static_cast<size_t>(to)]; };
    const auto rank_at = [&](int node, int place) { return node * local_ + place; };

    // To each place of this node what goes to that place of any node
    std::vector<size_t> out_L(static_cast<size_t>(local_)), in_L(out_L);
    for (int l = 0; l < local_; ++l) {
      for (int n = 0; n < nodes_; ++n) {
        out_L[static_cast<size_t>(l)] += bytes(rank_, rank_at(n, l));
        in_L[static_cast<size_t>(l)] += bytes(rank_at(node(), l), rank_at(n, place()));
      }
    }
    Parcels near_out(out_L), near(in_L);
    for (int l = 0; l < local_; ++l) {
      auto to = near_out.of(l).begin();
      for (int n = 0; n < nodes_; ++n) to = std::ranges::copy(out.of(rank_at(n, l)), to).out;
    }
    within_->all_to_all(near_out.memory.flat(), out_L, near.memory.flat(), in_L).wait();

    // To each node what its rank of this place gets from anybody here
    std::vector<size_t> out_N(static_cast<size_t>(nodes_)), in_N(out_N);
    for (int n = 0; n < nodes_; ++n) {
      for (int l = 0; l < local_; ++l) {
        out_N[static_cast<size_t>(n)] += bytes(rank_at(node(), l), rank_at(n, place()));
        in_N[static_cast<size_t>(n)] += bytes(rank_at(n, l), rank_);
      }
    }
    Parcels far_out(out_N);
    std::vector<size_t> read_L(static_cast<size_t>(local_));
    for (int n = 0; n < nodes_; ++n) {
      auto to = far_out.of(n).begin();
      for (int l = 0; l < local_; ++l) {
        size_t& read = read_L[static_cast<size_t>(l)];
        const size_t size = bytes(rank_at(node(), l), rank_at(n, place()));
        to = std::ranges::copy(near.of(l).subspan(read, size), to).out;
        read += size;
      }
    }
    Parcels in(column(bytes_WW, rank_));  // of each node its ranks in their order: as they come
    across_->all_to_all(far_out.memory.flat(), out_N, in.memory.flat(), in_N).wait();
    return in;
  }

  int rank_, local_, nodes_;
  std::unique_ptr<Group> within_, across_;
  std::shared_future<void> last_;  // ends before the groups do
};

}  // namespace

Parcels::Parcels(std::span<const size_t> bytes_W) : begin_W1{0} {
  for (const size_t bytes : bytes_W) begin_W1.push_back(begin_W1.back() + bytes);
  memory = Matrix<std::byte>::uninitialised(1, begin_W1.back());
}

std::span<std::byte> Parcels::of(int rank) {
  const size_t begin = begin_W1[static_cast<size_t>(rank)];
  return memory.flat().subspan(begin, begin_W1[static_cast<size_t>(rank) + 1] - begin);
}
std::span<const std::byte> Parcels::of(int rank) const {
  const size_t begin = begin_W1[static_cast<size_t>(rank)];
  return memory.flat().subspan(begin, begin_W1[static_cast<size_t>(rank) + 1] - begin);
}

std::unique_ptr<Exchange> make_exchange(std::string_view kind, Group& group, int local) {
  if (kind == "all_gather") return std::make_unique<AllGather>(group);
  if (kind == "all_to_all") return std::make_unique<AllToAll>(group);
  assert(kind == "two_level");
  local = std::min(local, group.size());
  require(group.size() % local == 0, "ranks.dispatch is \"two_level\": nodes of {} ranks do not divide {} ranks that share experts", local, group.size());
  return std::make_unique<TwoLevel>(group, local);
}

}  // namespace moiety::comm
