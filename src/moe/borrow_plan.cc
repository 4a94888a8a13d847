#include "moe/borrow_plan.h"

#include <algorithm>
#include <optional>
#include <tuple>

namespace moiety::moe {
namespace {

struct Loan {
  size_t expert, owner, borrower;
};

// How ranks' times change by loans.
class Ledger {
 public:
  Ledger(const Matrix<int64_t>& visits_WE, const Placement& placement, const BorrowCosts& costs)
      : visits_WE_(visits_WE), costs_(costs), time_W_(visits_WE.rows()), is_lent_WE_(visits_WE.rows(), visits_WE.cols()) {
    for (size_t expert = 0; expert < visits_WE.cols(); ++expert) owner_E_.push_back(static_cast<size_t>(placement.owner(static_cast<int>(expert))));
    for (size_t rank = 0; rank < visits_WE.rows(); ++rank) {
      for (size_t expert = 0; expert < visits_WE.cols(); ++expert) {
        const double visits = visits_of(rank, expert);
        const size_t owner = owner_E_[expert];
        time_W_[owner] += visits * costs.visit;
        if (owner == rank) continue;
        time_W_[owner] += visits * costs.row;
        time_W_[rank] += visits * costs.row;
      }
    }
  }

  const std::vector<double>& times() const { return time_W_; }
  size_t slowest() const { return static_cast<size_t>(std::ranges::max_element(time_W_) - time_W_.begin()); }

  // The owner's time and the borrower's, after a loan.
  std::pair<double, double> after(const Loan& loan) const {
    const double visits = visits_of(loan.borrower, loan.expert), ways = costs_.expert - visits * costs_.row;
    return {time_W_[loan.owner] + ways - visits * costs_.visit, time_W_[loan.borrower] + ways + visits * costs_.visit};
  }
  void add(const Loan& loan) {
    std::tie(time_W_[loan.owner], time_W_[loan.borrower]) = after(loan);
    is_lent_WE_.row(loan.borrower)[loan.expert] = 1;
  }

  // Nothing, if none makes the slowest rank faster and no other as slow.
  std::optional<Loan> best() const {
    const size_t slowest = this->slowest();
    double least = time_W_[slowest];
    std::optional<Loan> best;
    const auto consider = [&](const Loan& loan) {
      if (visits_of(loan.borrower, loan.expert) == 0 || is_lent_WE_.row(loan.borrower)[loan.expert] != 0) return;
      const auto [owners, borrowers] = after(loan);
      if (std::max(owners, borrowers) < least) least = std::max(owners, borrowers), best = loan;
    };
    for (size_t expert = 0; expert < owner_E_.size(); ++expert) {
      const size_t owner = owner_E_[expert];
      for (size_t rank = 0; rank < time_W_.size(); ++rank) {
        if (rank != owner && (owner == slowest || rank == slowest)) consider({expert, owner, rank});
      }
    }
    return best;
  }

  BorrowPlan plan() const {
    BorrowPlan plan{std::vector<std::vector<int>>(time_W_.size())};
    for (size_t rank = 0; rank < time_W_.size(); ++rank) {
      for (size_t expert = 0; expert < owner_E_.size(); ++expert) {
        if (is_lent_WE_.row(rank)[expert] != 0) plan.experts_W[rank].push_back(static_cast<int>(expert));
      }
    }
    return plan;
  }

 private:
  double visits_of(size_t rank, size_t expert) const { return static_cast<double>(visits_WE_.row(rank)[expert]); }

  const Matrix<int64_t>& visits_WE_;
  BorrowCosts costs_;
  std::vector<size_t> owner_E_;
  std::vector<double> time_W_;
  Matrix<char> is_lent_WE_;
};

}  // namespace

bool BorrowPlan::is_empty() const {
  return std::ranges::all_of(experts_W, [](const std::vector<int>& experts) { return experts.empty(); });
}

std::vector<double> predicted_times(const Matrix<int64_t>& visits_WE, const Placement& placement, const BorrowPlan& plan, const BorrowCosts& costs) {
  Ledger ledger(visits_WE, placement, costs);
  for (size_t rank = 0; rank < plan.experts_W.size(); ++rank) {
    for (const int expert : plan.experts_W[rank]) ledger.add({static_cast<size_t>(expert), static_cast<size_t>(placement.owner(expert)), rank});
  }
  return ledger.times();
}

BorrowPlan borrow_all(const Matrix<int64_t>& visits_WE, const Placement& placement) {
  BorrowPlan plan{std::vector<std::vector<int>>(visits_WE.rows())};
  for (size_t rank = 0; rank < visits_WE.rows(); ++rank) {
    for (size_t expert = 0; expert < visits_WE.cols(); ++expert) {
      const bool is_own = placement.owner(static_cast<int>(expert)) == static_cast<int>(rank);
      if (!is_own && visits_WE.row(rank)[expert] > 0) plan.experts_W[rank].push_back(static_cast<int>(expert));
    }
  }
  return plan;
}

BorrowPlan borrow_hot(const Matrix<int64_t>& visits_WE, const Placement& placement, const BorrowCosts& costs) {
  Ledger ledger(visits_WE, placement, costs);
  while (const auto loan = ledger.best()) ledger.add(*loan);
  BorrowPlan all = borrow_all(visits_WE, placement);
  const auto slowest = [](const std::vector<double>& times) { return std::ranges::max(times); };
  return slowest(predicted_times(visits_WE, placement, all, costs)) < slowest(ledger.times()) ? all : ledger.plan();
}

}  // namespace moiety::moe
