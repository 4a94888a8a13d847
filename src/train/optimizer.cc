#include "train/optimizer.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cmath>
#include <limits>
#include <map>

#include "base/error.h"
#include "comm/stretches.h"
#include "train/loops.h"
#include "train/parallel.h"

namespace moiety::train {
namespace {

constexpr size_t kPiece = 1 << 15;
constexpr size_t kAlignment = 64;  // of a piece's state

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

const char* prefix_of(Moment which) { return which == Moment::First ? "first_moment." : "second_moment."; }

// Vectors are few numbers; rows of the embedding, whose gradients come seldom, lose most by 8 bits (the paper's "stable embedding").
MomentForm form_of(const TrainConfig::Optimizer& config, const Weights::Entry& entry) {
  if (!entry.is_matrix() || config.state == "f32") return MomentForm::F32;
  if (config.state == "factored") return config.beta1 > 0 ? MomentForm::First : MomentForm::None;
  return entry.weight.role == spec::Role::Embedding ? MomentForm::F32 : MomentForm::Int8;
}

// Of factored moments, which are so few for each of a stack's experts.
Part factor_part(const Weights::Entry& weight, std::span<const int64_t> shape) {
  if (weight.size == 0) return {};
  const bool is_all_here = !weight.is_stack() || weight.frozen > 0;
  return is_all_here ? Part::slices(shape, 0, std::array{Stretch{0, static_cast<size_t>(shape[0])}}) : weight.part_of(shape);
}

// To each of the equal parts comes the one that `from` says.
void permute_parts(const std::vector<int32_t>& from, Floats parts) {
  const std::vector<float> old(parts.begin(), parts.end());
  const size_t size = parts.size() / from.size();
  for (size_t i = 0; i < from.size(); ++i) {
    std::ranges::copy(std::span(old).subspan(static_cast<size_t>(from[i]) * size, size), parts.subspan(i * size, size).begin());
  }
}

}  // namespace

AdamStep adam_step(const TrainConfig::Optimizer& config, int64_t step, double learning_rate) {
  const double t = static_cast<double>(step + 1);
  return {.learning_rate = static_cast<float>(learning_rate),
          .beta1 = static_cast<float>(config.beta1),
          .beta2 = static_cast<float>(config.beta2),
          .eps = static_cast<float>(config.eps),
          .weight_decay = 0,
          .gradient_scale = 1,
          .bias_correction1 = static_cast<float>(1 - std::pow(config.beta1, t)),
          .bias_correction2 = static_cast<float>(1 - std::pow(config.beta2, t))};
}

Optimizer::Optimizer(const TrainConfig::Optimizer& config, Weights& weights, const fs::path& folder, comm::Mesh* ranks)
    : config_(config), weights_(weights), ranks_(ranks) {
  const auto add = [this](Stretch held, comm::Group* holders) { regions_.push_back({.begin = held.begin, .size = held.size, .ranks = holders}); };
  add(weights.dense(Holders::EveryStage), ranks == nullptr ? nullptr : &ranks->all());
  add(weights.dense(Holders::BothEnds), ranks == nullptr ? nullptr : ranks->both_ends());
  add(weights.dense(Holders::OneStage), ranks == nullptr ? nullptr : ranks->same_dense());
  add(weights.sliced(), ranks == nullptr ? nullptr : ranks->same_tensor());
  add(weights.experts(), ranks == nullptr ? nullptr : ranks->same_experts());
  for (const Weights::Entry& entry : weights.entries()) add_pieces(entry);
  for (Region& region : regions_) share_out(region);
  for (size_t i = 0; i < pieces_.size(); ++i) {
    if (is_own(pieces_[i])) own_.push_back(i);
  }
  cut_groups(folder);
}

// Neighbouring pieces for each rank, about as many weights as for any other. Factored moments are of whole matrices, and small: all have
// all.
void Optimizer::share_out(Region& region) {
  if (region.size == 0 || region.ranks == nullptr || region.ranks->size() == 1 || !config_.shared || config_.state == "factored") return;
  std::vector<const Piece*> pieces;
  size_t all = 0, so_far = 0;
  for (const Piece& piece : pieces_) {
    if (&regions_[piece.region] != &region) continue;
    pieces.push_back(&piece);
    all += piece.size;
  }
  std::ranges::sort(pieces, {}, &Piece::begin);
  const auto ranks = static_cast<size_t>(region.ranks->size());
  region.begin_R1 = {0};
  for (const Piece* piece : pieces) {
    while (region.begin_R1.size() < ranks && so_far * ranks >= all * region.begin_R1.size()) region.begin_R1.push_back(piece->begin - region.begin);
    so_far += piece->size;
  }
  region.begin_R1.resize(ranks + 1, region.size);
}

bool Optimizer::is_own(const Piece& piece) const {
  const Region& region = regions_[piece.region];
  if (!region.is_shared_out()) return true;
  const auto rank = static_cast<size_t>(region.ranks->rank());
  const size_t at = piece.begin - region.begin;
  return region.begin_R1[rank] <= at && at < region.begin_R1[rank + 1];
}

// Afterwards the gradients of the pieces that this rank updates are those of all ranks that have the same weights.
void Optimizer::sum_gradients() {
  if (ranks_ == nullptr) return;
  const Activity::Span span(&ranks_->all().activity(), "gradients");
  for (const Region& region : regions_) {
    if (region.ranks == nullptr) continue;
    const Floats gradients = weights_.gradients().subspan(region.begin, region.size);
    if (region.is_shared_out()) comm::sum_stretches(*region.ranks, gradients, region.begin_R1);
    else if (!gradients.empty()) region.ranks->sum(gradients);
  }
}

void Optimizer::add_pieces(const Weights::Entry& entry) {
  Range& range = entries_.emplace_back(Range{pieces_.size(), 0, {}});
  if (!entry.trained || entry.frozen == entry.size) return;
  const MomentForm form = form_of(config_, entry);
  const auto holds = [&](const Region& region) { return entry.begin >= region.begin && entry.begin < region.begin + region.size; };
  const auto region = static_cast<size_t>(std::ranges::find_if(regions_, holds) - regions_.begin());
  const size_t packed_together = weights_.packed_together(entry);
  const bool is_factored = !has_moment(form, Moment::Second);
  if (!is_factored && packed_together == 0) {
    for (size_t at = entry.frozen; at < entry.size; at += kPiece) {
      pieces_.push_back({entry.begin + at, std::min(kPiece, entry.size - at), entry.is_matrix(), form, {}, region});
    }
  } else {
    const size_t cols = static_cast<size_t>(entry.shape.back()), rows = static_cast<size_t>(entry.shape[entry.shape.size() - 2]);
    const size_t together = std::max<size_t>(1, packed_together), rows_a_piece = std::max<size_t>(1, kPiece / cols / together) * together;
    for (size_t begin = entry.frozen; begin < entry.size; begin += rows * cols) {
      const size_t matrix = is_factored ? factored_.add(rows, cols) : 0;
      if (is_factored && !range.matrix) range.matrix = matrix;
      for (size_t row = 0; row < rows; row += rows_a_piece) {
        const size_t count = std::min(rows_a_piece, rows - row);
        Piece& piece = pieces_.emplace_back(Piece{entry.begin + begin + row * cols, count * cols, true, form, {}, region});
        if (is_factored) piece.factored = factored_.add_piece(matrix, row, count);
      }
    }
  }
  range.count = pieces_.size() - range.first;
}

// Groups of neighbouring pieces of this rank; and their state, all in memory unless it is offloaded.
void Optimizer::cut_groups(const fs::path& folder) {
  std::vector<size_t> bytes_G;
  size_t weights = 0;
  for (size_t n = 0; n < own_.size(); ++n) {
    const size_t i = own_[n];
    if (groups_.empty() || weights + pieces_[i].size > static_cast<size_t>(config_.group)) {
      groups_.push_back({n, 0, {}});
      bytes_G.push_back(0);
      weights = 0;
    }
    const size_t bytes = train::state_bytes(pieces_[i].form, pieces_[i].size);
    pieces_[i].group = groups_.size() - 1;
    pieces_[i].at = bytes_G.back();
    bytes_G.back() += aligned(bytes);
    weights += pieces_[i].size;
    ++groups_.back().count;
    state_bytes_ += bytes;
  }
  state_bytes_ += factored_.bytes();
  const size_t budget = config_.offload == "none" ? std::numeric_limits<size_t>::max() : static_cast<size_t>(config_.memory_mb) << 20;
  stream_ = std::make_unique<StateStream>(bytes_G, budget, folder);
}

// Ranks that update it.
int Optimizer::holders_of(const Piece& piece) const {
  const Region& region = regions_[piece.region];
  return region.ranks == nullptr || region.is_shared_out() ? 1 : region.ranks->size();
}

void Optimizer::for_each_own(const std::function<void(size_t, size_t, ConstFloats, ConstFloats, double)>& body) {
  for (size_t entry = 0; entry < entries_.size(); ++entry) {
    for (size_t i = entries_[entry].first; i < entries_[entry].first + entries_[entry].count; ++i) {
      const Piece& piece = pieces_[i];
      if (!is_own(piece)) continue;
      const std::vector<float> second = has_moment(piece.form, Moment::Second) ? moment_of(piece, Moment::Second) : std::vector<float>();
      body(entry, piece.begin - weights_.entries()[entry].begin, weights_.gradients().subspan(piece.begin, piece.size), second, 1.0 / holders_of(piece));
    }
  }
  forget_read_group();
}

// Summed piece by piece in their order, so that it doesn't depend on the number of threads.
double Optimizer::gradient_norm() {
  std::vector<double> squares(own_.size());
  parallel_tasks(own_.size(), [&](size_t i) {
    const Piece& piece = pieces_[own_[i]];
    const auto gradient = weights_.gradients().subspan(piece.begin, piece.size);
    squares[i] = piece.factored ? factored_.measure(*piece.factored, gradient) : sum_of_squares(gradient);
  });
  double of_all = 0;
  std::array of_some{0.0};  // of pieces that some ranks update and others don't
  for (size_t i = 0; i < own_.size(); ++i) {
    const int all = ranks_ == nullptr ? 1 : ranks_->all().size(), holders = holders_of(pieces_[own_[i]]);
    (holders == all ? of_all : of_some[0]) += squares[i] / (holders == all ? 1 : holders);
  }
  const bool is_same_everywhere = std::ranges::all_of(regions_, [&](const Region& region) {
    return ranks_ != nullptr && region.ranks == &ranks_->all() && !region.is_shared_out();
  });
  if (ranks_ != nullptr && !is_same_everywhere) ranks_->all().sum(of_some);
  return std::sqrt(of_all + of_some[0]);
}

double Optimizer::measure() {
  sum_gradients();
  return norm_ = gradient_norm();
}

void Optimizer::pass_over() { std::ranges::fill(weights_.gradients(), 0.0f); }

double Optimizer::step(int64_t step, double learning_rate) {
  const double norm = measure();
  require(std::isfinite(norm), "step {}: the gradient's norm is {}; a lower optimizer.lr may help", step + 1, norm);
  update(step, learning_rate);
  return norm;
}

void Optimizer::update(int64_t step, double learning_rate) {
  assert(std::isfinite(norm_));
  const bool clipped = config_.clip > 0 && norm_ > config_.clip;
  AdamStep adam = adam_step(config_, step, learning_rate);
  if (clipped) adam.gradient_scale = static_cast<float>(config_.clip / norm_);
  factored_.move_on(adam);
  const std::span<float> values = weights_.values();
  stream_->visit([&](size_t group, std::span<std::byte> state) {
    const Range& range = groups_[group];
    parallel_tasks(range.count, [&](size_t i) {
      const Piece& piece = pieces_[own_[range.first + i]];
      update(piece, adam, values.subspan(piece.begin, piece.size), state);
      weights_.pack(piece.begin, piece.size);  // while it is in cache
    });
  });
  if (std::ranges::any_of(regions_, &Region::is_shared_out)) take_from_others(values);
  weights_.set_packed();
  forget_read_group();
}

// Weights that other ranks have updated; their gradients are done with.
void Optimizer::take_from_others(Floats values) {
  const Activity::Span span(&ranks_->all().activity(), "weights");
  for (const Region& region : regions_) {
    if (region.is_shared_out()) comm::share_stretches(*region.ranks, values.subspan(region.begin, region.size), region.begin_R1);
  }
  parallel_tasks(pieces_.size(), [&](size_t i) {
    const Piece& piece = pieces_[i];
    if (is_own(piece)) return;
    weights_.pack(piece.begin, piece.size);
    std::ranges::fill(weights_.gradients().subspan(piece.begin, piece.size), 0.0f);
  });
}

void Optimizer::update(const Piece& piece, AdamStep step, std::span<float> weight, std::span<std::byte> group_state) {
  step.weight_decay = piece.decays ? static_cast<float>(config_.weight_decay) : 0.0f;
  const auto gradient = weights_.gradients().subspan(piece.begin, piece.size);
  const auto state = group_state.subspan(piece.at, train::state_bytes(piece.form, piece.size));
  if (piece.factored) {
    factored_.adamw(*piece.factored, step, gradient, weight, moment_in_place(piece.form, Moment::First, piece.size, state));
  } else {
    adamw(piece.form, step, gradient, weight, state);
  }
  std::ranges::fill(gradient, 0.0f);
}

void Optimizer::read_group(size_t group) {
  if (read_group_ == group) return;
  read_bytes_.resize(stream_->bytes_of(group));
  stream_->read(group, read_bytes_);
  read_group_ = group;
}

std::vector<float> Optimizer::moment_of(const Piece& piece, Moment which) {
  read_group(piece.group);
  std::vector<float> numbers(piece.size);
  unpack_moment(piece.form, which, std::span(read_bytes_).subspan(piece.at), numbers);
  return numbers;
}

void Optimizer::move_experts(int layer, const std::vector<int32_t>& from_E) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Weights::Entry& entry = weights_.entries()[i];
    if (!spec::is_expert(entry.weight.role) || entry.weight.layer != layer) continue;
    permute_parts(from_E, weights_.values().subspan(entry.begin, entry.size));
    const Range& range = entries_[i];
    if (range.count == 0) continue;
    for (const Moment which : {Moment::First, Moment::Second}) {
      if (has_moment(pieces_[range.first].form, which)) move_moment(range, which, from_E);
    }
    if (range.matrix) {
      permute_parts(from_E, factored_.rows(*range.matrix, from_E.size()));
      permute_parts(from_E, factored_.columns(*range.matrix, from_E.size()));
    }
  }
}

void Optimizer::move_moment(const Range& range, Moment which, const std::vector<int32_t>& from_E) {
  std::vector<float> all;
  for (size_t i = range.first; i < range.first + range.count; ++i) {
    const std::vector<float> numbers = moment_of(pieces_[i], which);
    all.insert(all.end(), numbers.begin(), numbers.end());
  }
  permute_parts(from_E, all);
  put_moment(range, which, all);
}

// The numbers of the pieces that this rank updates; each group is written when its last has come.
void Optimizer::put_moment(const Range& range, Moment which, ConstFloats own) {
  forget_read_group();
  for (size_t i = range.first; i < range.first + range.count; ++i) {
    const Piece& piece = pieces_[i];
    if (!is_own(piece)) continue;
    if (read_group_ && read_group_ != piece.group) stream_->write(*read_group_, read_bytes_);
    read_group(piece.group);
    pack_moment(piece.form, which, own.first(piece.size), std::span(read_bytes_).subspan(piece.at));
    own = own.subspan(piece.size);
  }
  if (read_group_) stream_->write(*read_group_, read_bytes_);
  forget_read_group();
}

void Optimizer::put_state(const std::string& name, ConstFloats here) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    for (const Moment which : {Moment::First, Moment::Second}) {
      if (name == prefix_of(which) + weights_.entries()[i].name) return put_moment(entries_[i], which, here);
    }
  }
  for_each_factor([&](const Weights::Entry&, const std::string& factor, const std::vector<int64_t>&, Floats numbers) {
    if (factor == name) std::ranges::copy(here, numbers.begin());
  });
}

// Zeros for what is not trained.
TensorPart Optimizer::moment_tensor(size_t entry, Moment which) {
  const Weights::Entry& weight = weights_.entries()[entry];
  const Range& range = entries_[entry];
  format::TensorSource tensor;
  tensor.name = prefix_of(which) + weight.name;
  tensor.shape = weight.whole_shape;
  const Part part = weight.part();
  Part here;
  const auto add = [&](size_t begin, size_t size, std::function<std::vector<float>()> make) {
    tensor.made.push_back(std::move(make));
    for (const Stretch& stretch : part.middle(begin, size).stretches()) here.add(stretch);
  };
  const auto zeros = [&](size_t size) { add(0, size, [size] { return std::vector<float>(size, 0.0f); }); };
  if (range.count == 0) zeros(weight.size);
  else if (weight.frozen > 0) zeros(weight.frozen);
  for (size_t i = range.first; i < range.first + range.count; ++i) {
    const Piece& piece = pieces_[i];
    if (is_own(piece)) add(piece.begin - weight.begin, piece.size, [this, &piece, which] { return moment_of(piece, which); });
  }
  return {std::move(tensor), std::move(here)};
}

std::vector<TensorPart> Optimizer::state_tensors() {
  std::vector<TensorPart> tensors;
  for (const Moment which : {Moment::First, Moment::Second}) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      if (has_tensor(i, which)) tensors.push_back(moment_tensor(i, which));
    }
  }
  for_each_factor([&](const Weights::Entry& weight, const std::string& name, const std::vector<int64_t>& whole_shape, Floats numbers) {
    TensorPart& tensor = tensors.emplace_back(TensorPart{format::TensorView{name, spec::ElementType::F32, whole_shape, std::as_bytes(numbers)}, {}});
    tensor.part = factor_part(weight, whole_shape);
  });
  return tensors;
}

// The same on every rank, whichever experts are there; what is not trained has zeros for both.
bool Optimizer::has_tensor(size_t entry, Moment which) const {
  const Weights::Entry& weight = weights_.entries()[entry];
  const bool is_updated = weight.trained && (weight.size == 0 || weight.frozen < weight.size);
  return !is_updated || has_moment(form_of(config_, weight), which);
}

void Optimizer::for_each_factor(const std::function<void(const Weights::Entry&, const std::string&, const std::vector<int64_t>&, Floats)>& body) {
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (has_tensor(i, Moment::Second)) continue;
    const Weights::Entry& weight = weights_.entries()[i];
    std::vector<int64_t> rows(weight.whole_shape.begin(), weight.whole_shape.end() - 1), columns = rows;
    columns.back() = weight.whole_shape.back();
    const size_t matrices = (weight.size - weight.frozen) / static_cast<size_t>(rows.back() * columns.back());
    if (weight.frozen > 0) rows[0] = columns[0] = static_cast<int64_t>(matrices);  // of the others in the stack
    const bool is_empty = matrices == 0;
    body(weight, "second_moment_rows." + weight.name, rows, is_empty ? Floats() : factored_.rows(*entries_[i].matrix, matrices));
    body(weight, "second_moment_columns." + weight.name, columns, is_empty ? Floats() : factored_.columns(*entries_[i].matrix, matrices));
  }
}

void Optimizer::read_state(const std::vector<format::TensorView>& tensors, const std::string& where) {
  std::map<std::string, const format::TensorView*> by_name;
  for (const format::TensorView& tensor : tensors) by_name[tensor.name] = &tensor;
  const auto numbers_of = [&](const std::string& name, const std::vector<int64_t>& shape) -> ConstFloats {
    const auto it = by_name.find(name);
    require(it != by_name.end(), "{}: tensor {} is missing; optimizer.state is \"{}\" and was another when the checkpoint was written",
            where, name, config_.state);
    const format::TensorView& tensor = *it->second;
    require(tensor.type == spec::ElementType::F32 && tensor.shape == shape, "{}: tensor {} has another type or shape than the model calls for",
            where, name);
    return {reinterpret_cast<const float*>(tensor.bytes.data()), tensor.bytes.size() / sizeof(float)};
  };

  // By piece, group by group
  struct Cut {
    ConstFloats whole;
    Part part;
  };
  std::vector<Cut> first(pieces_.size()), second(pieces_.size());
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Weights::Entry& weight = weights_.entries()[i];
    const Part part = weight.part();
    const auto cut = [&](Moment which, std::vector<Cut>& by_piece) {
      for (size_t p = entries_[i].first; p < entries_[i].first + entries_[i].count; ++p) {
        if (!has_moment(pieces_[p].form, which)) continue;
        by_piece[p] = {numbers_of(prefix_of(which) + weight.name, weight.whole_shape), part.middle(pieces_[p].begin - weight.begin, pieces_[p].size)};
      }
    };
    cut(Moment::First, first);
    cut(Moment::Second, second);
  }
  const auto numbers_at = [](const Cut& cut) {
    std::vector<float> numbers(cut.part.size());
    cut.part.take(cut.whole, std::span(numbers));
    return numbers;
  };
  for (size_t g = 0; g < groups_.size(); ++g) {
    std::vector<std::byte> state(stream_->bytes_of(g));
    for (size_t n = groups_[g].first; n < groups_[g].first + groups_[g].count; ++n) {
      const size_t p = own_[n];
      const auto mine = std::span(state).subspan(pieces_[p].at);
      if (first[p].part.size() > 0) pack_moment(pieces_[p].form, Moment::First, numbers_at(first[p]), mine);
      if (second[p].part.size() > 0) pack_moment(pieces_[p].form, Moment::Second, numbers_at(second[p]), mine);
    }
    stream_->write(g, state);
  }
  for_each_factor([&](const Weights::Entry& weight, const std::string& name, const std::vector<int64_t>& whole_shape, Floats numbers) {
    factor_part(weight, whole_shape).take(numbers_of(name, whole_shape), numbers);
  });
  forget_read_group();
}

void Optimizer::forget_read_group() {
  read_group_.reset();
  read_bytes_ = {};
}

OptimizerFigures Optimizer::figures() const {
  OptimizerFigures figures{.state_bytes = state_bytes_,
                           .memory_bytes = stream_->memory_bytes() + factored_.bytes(),
                           .groups = stream_->groups(),
                           .streamed_groups = stream_->streamed(),
                           .times = stream_->times()};
  for (const Piece& piece : pieces_) figures.parameters += piece.size;
  return figures;
}

}  // namespace moiety::train
