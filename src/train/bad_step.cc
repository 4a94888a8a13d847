#include "train/bad_step.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace moiety::train {
namespace {

double median(std::vector<double> numbers) {
  const auto middle = numbers.begin() + static_cast<ptrdiff_t>(numbers.size() / 2);
  std::ranges::nth_element(numbers, middle);
  return *middle;
}

double spread(const std::vector<double>& numbers, double median) {
  std::vector<double> distances;
  for (const double number : numbers) distances.push_back(std::abs(number - median));
  return 1.4826 * train::median(std::move(distances));
}

void keep_last(size_t count, double number, std::deque<double>& numbers) {
  numbers.push_back(number);
  while (numbers.size() > count) numbers.pop_front();
}

std::deque<double> numbers_of(const JsonObject& state, const char* key) {
  std::deque<double> numbers;
  for (const Json& number : state.array(key)) {
    require(number.is_number(), "{}: {} holds {}, expected numbers", state.where(), key, number.dump());
    numbers.push_back(number.get<double>());
  }
  return numbers;
}

}  // namespace

std::string in_words(double number) { return std::isnan(number) ? "NaN" : fmt::format("{:.4g}", number); }

const char* name_of(Trouble trouble) {
  switch (trouble) {
    case Trouble::None: return "none";
    case Trouble::Damage: return "damaged data";
    case Trouble::LossNoNumber: return "loss is no number";
    case Trouble::NormNoNumber: return "gradient is no number";
    case Trouble::LossSpike: return "loss spike";
    case Trouble::NormSpike: return "gradient spike";
  }
  return "";
}

std::string describe(const Verdict& verdict) {
  const StepFigures& is = verdict.figures;
  switch (verdict.trouble) {
    case Trouble::None: return "all is well";
    case Trouble::Damage: return "its data is damaged";
    case Trouble::LossNoNumber: return "the loss is " + in_words(is.loss);
    case Trouble::NormNoNumber: return "the gradient's norm is " + in_words(is.norm);
    case Trouble::LossSpike: return fmt::format("the loss is {}, usually {}", in_words(is.loss), in_words(verdict.usual));
    case Trouble::NormSpike: return fmt::format("the gradient's norm is {}, usually {}", in_words(is.norm), in_words(verdict.usual));
  }
  return "";
}

Verdict StepJudge::judge(const StepFigures& figures) {
  Verdict verdict{.figures = figures};
  if (figures.is_damaged) verdict.trouble = Trouble::Damage;
  else if (!std::isfinite(figures.loss)) verdict.trouble = Trouble::LossNoNumber;
  else if (!std::isfinite(figures.norm)) verdict.trouble = Trouble::NormNoNumber;
  else look_for_spike(verdict);

  for (int64_t& ago : bad_) ++ago;
  while (!bad_.empty() && bad_.front() >= config_.window) bad_.pop_front();
  if (verdict.is_bad()) {
    bad_.push_back(0);
  } else {
    keep_last(window(), figures.loss, losses_);
    keep_last(window(), figures.norm, norms_);
  }
  return verdict;
}

void StepJudge::look_for_spike(Verdict& verdict) const {
  if (losses_.size() < kAtLeast) return;
  const std::vector<double> losses(losses_.begin(), losses_.end());
  const double loss = median(losses);
  const double loss_spreads = (verdict.figures.loss - loss) / std::max(spread(losses, loss), kSmallestOfLoss * loss);
  if (config_.loss > 0 && loss_spreads > config_.loss) {
    verdict.trouble = Trouble::LossSpike;
    verdict.usual = loss;
    verdict.spreads = loss_spreads;
    return;
  }

  const auto log_of = [](double norm) { return std::log(std::max(norm, 1e-30)); };  // it may be zero
  std::vector<double> logs;
  for (const double norm : norms_) logs.push_back(log_of(norm));
  const double log_norm = median(logs);
  const double norm_spreads = (log_of(verdict.figures.norm) - log_norm) / std::max(spread(logs, log_norm), kSmallestOfNorm);
  if (config_.norm > 0 && norm_spreads > config_.norm) {
    verdict.trouble = Trouble::NormSpike;
    verdict.usual = std::exp(log_norm);
    verdict.spreads = norm_spreads;
  }
}

bool StepJudge::has_seen_enough() const { return bad_ones() > config_.most; }

int64_t StepJudge::bad_ones() const { return static_cast<int64_t>(bad_.size()); }

void StepJudge::forget_usual() {
  losses_.clear();
  norms_.clear();
}

Json StepJudge::state() const { return {{"losses", losses_}, {"norms", norms_}, {"bad", bad_}}; }

void StepJudge::restore(const Json& state, const std::string& where) {
  restore_usual(state, where);
  bad_.clear();
  if (state.is_null()) return;
  for (const double ago : numbers_of(JsonObject(state, where), "bad")) bad_.push_back(static_cast<int64_t>(ago));
}

void StepJudge::restore_usual(const Json& state, const std::string& where) {
  if (state.is_null()) return forget_usual();
  const JsonObject object(state, where);
  std::deque<double> losses = numbers_of(object, "losses"), norms = numbers_of(object, "norms");
  require(losses.size() == norms.size(), "{}: {} losses and {} norms, expected as many", where, losses.size(), norms.size());
  losses_ = std::move(losses);
  norms_ = std::move(norms);
}

}  // namespace moiety::train
