// Batches of solves with a loss that is not the square, or with labels of +1 and -1 (THEORY section
// 19), for the isotropic bulk, the actual step and given weights.
//
// A point follows its neighbours (loss_path.hpp) or, where there are none or they lead nowhere,
// climbs from nowhere (loss_climb.hpp).
#pragma once

#include "srfx/data/loss_slopes.hpp"
#include "srfx/solve/anisotropic.hpp"
#include "srfx/solve/loss_climb.hpp"

#include <memory>
#include <mutex>

namespace srfx {

/// What a loss's solve yields for each point.
struct LossOutput {
  double *train_loss, *test_loss, *classification_error, *test_error, *train_error;
  double *m, *theta, *psi, *chi, *q1, *q2, *v1, *v2, *r, *c, *gamma;
  double *residual, *quadrature_error;
  std::int8_t* status;
  std::int32_t* iterations;
  /// Derivatives by lam and by alpha of train_loss, test_loss, test_error, classification_error, in
  /// rows of n_points each; null: not asked for.
  double* slopes = nullptr;
};

/// One point: `rules` of its set, make(Point) a map of its bulk, `path` the points solved before.
template <class MakeMap>
void solve_loss_point(const Loss& loss, LossRules& rules, LossPath& path,
                      const Point<double>& point, MakeMap&& make, const LossOutput& out, Index i,
                      Index n_points) {
  Point<double> p = point;
  if (loss.hard()) p.lam = 1;  // V goes as 1/lam, the readout does not know it
  auto map = make(p);
  LossObservables seen;
  LossVector start;
  const LossFound* const neighbour = path.start(p, start);
  LossFound found;
  double residual = infinity;
  const auto observe = [&] {
    residual = found.residual;
    if (!found.good) return;
    seen = loss_observables(loss, *found.nodes, found.x);
    FreshLabel fresh;
    if (found.adapted == nullptr && !detail::settle_fresh(loss, rules, found, fresh)) {
      found.error = 0;
      detail::to_panels(loss, rules, p, map, found);
      seen = loss_observables(loss, *found.nodes, found.x);
    }
    if (found.adapted != nullptr) fresh = fresh_label(loss, *found.nodes, found.x);
    seen.classification_error = fresh.missed;
    if (!loss.logistic() && !loss.hard()) seen.test_loss = fresh.loss;
    if (loss.margin && loss.square()) seen.test_error = fresh.loss;  // they are one
    const double pull = p.lam / p.ratio * found.x[at_q2];
    // E [g x] is a sum of terms of either sign: a thousandth of their size is what it is known by.
    const double size = 1e-3 * std::sqrt(seen.square * field_square(*found.nodes, found.x));
    residual = std::max(residual, std::abs(seen.pull - pull) /
                                      std::max({std::abs(pull), std::abs(seen.pull), size}));
  };
  int before = 0;
  if (neighbour != nullptr) {
    found = detail::follow(loss, rules, map, start, *neighbour);
    if (!found.good && found.near) detail::to_panels(loss, rules, p, map, found);
    before = found.iterations;
    observe();
    if (!(residual < 1e-9)) found.good = false;
  }
  if (!found.good) {
    found = detail::climb(loss, rules, p, make, neighbour != nullptr ? &start : nullptr);
    found.iterations += before;
    observe();
  }
  if (!found.good && !loss.logistic() && !loss.hard() && !loss.square() && p.lam > 0.3) {
    before = found.iterations;
    found = detail::from_smaller_lam(loss, rules, p, make);
    found.iterations += before;
    observe();
  }
  const LossNodes& nodes = *found.nodes;
  const LossVector& x = found.x;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Status status = Status::converged;
  bool finite = found.good;
  if (found.good) {
    for (const double value : x) finite = finite && std::isfinite(value);
    finite = finite && std::isfinite(seen.train_loss) && std::isfinite(seen.test_error);
  }
  if (!found.good) {
    const bool grown = x[at_q2] * nodes.mean_u2 + x[at_q1] * nodes.mean_u1 > 1e8;
    status = grown || loss.hard() ? Status::diverged : Status::max_iterations;
  } else if (!finite) {
    status = Status::non_finite;
  } else if (!(residual <= 1e-8)) {  // the identity sees the quadrature too
    status = Status::max_iterations;
  } else if (found.error > 0.1) {  // no rule resolves it
    status = Status::max_iterations;
  } else if ((found.tail > 1e-3 && !loss.square()) ||
             (loss.hard() &&
              rare_share(loss, nodes, x, averages_of(loss, nodes, x).value) > 1e-3) ||
             detail::hangs_on_rare(loss, nodes, map, x, seen.square)) {
    status = Status::diverged;
  }
  const bool good = status == Status::converged;
  const double v_scale = loss.hard() ? 1 / point.lam : 1;
  const auto put = [&](double* where, double value) { where[i] = good ? value : nan; };
  put(out.train_loss, seen.train_loss), put(out.test_loss, seen.test_loss);
  put(out.classification_error, loss.margin ? seen.classification_error : nan);
  put(out.test_error, seen.test_error), put(out.train_error, seen.train_error);
  put(out.m, x[at_m]), put(out.theta, x[at_theta]), put(out.psi, x[at_psi]);
  put(out.chi, x[at_chi]), put(out.q1, x[at_q1]), put(out.q2, x[at_q2]);
  put(out.v1, x[at_v1] * v_scale), put(out.v2, x[at_v2] * v_scale);
  put(out.quadrature_error, found.error + nodes.error);
  if (out.slopes) {
    std::array<std::array<double, 2>, n_loss_unknowns> moves;
    bool solved = good;
    if (good) {
      const LossSystem system(loss, nodes, map, x);
      for (int j = 0; j < n_loss_unknowns; ++j)
        moves[j] = {system.by_lam[j], system.by_ratio[j] / point.alpha};
      solved = system.solve<2>(moves);
    }
    // Slopes are sums over the atoms, which need a denser rule in z where series made the solution.
    const LossNodes& atoms = nodes.series != nullptr && found.adapted == nullptr
                                 ? rules.find(found.seen.k, std::max(found.seen.z, 4))
                                 : nodes;
    const LossSlopes by = good ? loss_slopes(loss, atoms, x) : LossSlopes{};
    const LossVector* const rows[4] = {&by.train_loss, &by.test_loss, &by.test_error,
                                       &by.classification_error};
    for (int observable = 0; observable < 4; ++observable)
      for (int direction = 0; direction < 2; ++direction) {
        double slope = solved ? 0 : nan;
        for (int j = 0; solved && j < n_loss_unknowns; ++j)
          slope += (*rows[observable])[j] * moves[j][direction];
        if (loss.hard() && direction == 0 && solved) slope = 0;
        out.slopes[(2 * observable + direction) * n_points + i] = slope;
      }
  }
  out.residual[i] = residual;
  out.status[i] = static_cast<std::int8_t>(status);
  out.iterations[i] = found.iterations;
  if (good) {
    if (found.by_lam == LossVector{}) {
      LossFound moved = found;
      detail::newton_step(loss, nodes, map, moved, true);
      found.by_lam = moved.by_lam, found.by_ratio = moved.by_ratio;
    }
    path.add(p, found);
  }
}

/// Solves every point of a batch, lam > 0. A Source yields for each set its labels, its spike, and
/// maps of its bulk.
template <class Source>
void solve_losses(const Source& source, const Loss& loss, const BatchInput& in,
                  const LossOutput& out, Interrupt& interrupt) {
  struct State {
    std::mutex mutex;
    CoefficientScratch scratch;
    std::unique_ptr<typename Source::Shared> shared;
    std::optional<Coefficients> coefficients;
    std::unique_ptr<LossRules> rules;
  };
  const Index n_sets = source.size();
  PointsBySet by_set(in, n_sets);
  const int n_threads = std::max(1, in.n_threads);
  const Index chunk = std::min<Index>(n_sets, 16 * n_threads);
  std::vector<PointBlock> blocks;
  for (Index first = 0; first < n_sets; first += chunk) {
    std::vector<State> states(chunk);
    blocks.clear();
    for (Index set = first; set < std::min(first + chunk, n_sets); ++set)
      cut_nearby(by_set, set, in, blocks);
    parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index j, int) {
      const PointBlock& block = blocks[j];
      State& state = states[block.set - first];
      {
        const std::lock_guard<std::mutex> lock(state.mutex);
        if (!state.rules) {
          state.shared = source.shared(block.set);
          state.coefficients.emplace(*in.sigma, *in.target, state.shared->spike(), state.scratch);
          state.rules = std::make_unique<LossRules>(*state.coefficients, loss,
                                                    source.labels(block.set), Source::row_norms);
          state.rules->atoms = out.slopes != nullptr;
        }
      }
      LossPath path;
      for (Index at = block.begin; at < block.end; ++at) {
        const Index i = by_set.order[at];
        const Point<double> p = point_of(in, i);
        solve_loss_point(
            loss, *state.rules, path, p,
            [&](const Point<double>& q) { return state.shared->map(q); }, out, i, in.n_points);
        const SpikeParameters& spike = state.shared->spike();
        out.r[i] = spike.r, out.c[i] = spike.c, out.gamma[i] = spike.gamma;
      }
    });
  }
}

/// Spiked models: distinct (r, c, gamma) and the noise of their labels.
class IsotropicLossSource {
 public:
  static constexpr bool row_norms = false;
  IsotropicLossSource(std::vector<SpikeParameters> sets, std::vector<Labels> labels)
      : sets_(std::move(sets)),
        labels_(std::move(labels)) {}
  Index size() const { return static_cast<Index>(sets_.size()); }
  const Labels& labels(Index set) const { return labels_[set]; }

  class Shared {
   public:
    explicit Shared(const SpikeParameters& spike) : spike_(spike) {}
    const SpikeParameters& spike() const { return spike_; }
    IsotropicLossMap map(const Point<double>& p) const { return IsotropicLossMap(p); }

   private:
    SpikeParameters spike_;
  };
  std::unique_ptr<Shared> shared(Index set) const { return std::make_unique<Shared>(sets_[set]); }

 private:
  std::vector<SpikeParameters> sets_;
  std::vector<Labels> labels_;
};

/// Actual one-step networks.
class OneStepLossSource {
 public:
  static constexpr bool row_norms = true;
  OneStepLossSource(OneStepSource source, const Labels& labels)
      : source_(std::move(source)),
        labels_(labels) {}
  Index size() const { return source_.size(); }
  Labels labels(Index set) const { return Labels::of(labels_.kind, source_.parameters(set).noise); }

  class Shared {
    using Bulk = OneStepBulk<std::complex<double>>;

   public:
    explicit Shared(std::unique_ptr<OneStepSource::Shared> step) : step_(std::move(step)) {}
    const SpikeParameters& spike() const { return step_->spike(); }
    AnisotropicLossMap<Bulk> map(const Point<double>& p) const {
      return {p, Bulk(step_->step, step_->nodes), Bulk(step_->step, step_->nodes)};
    }

   private:
    std::unique_ptr<OneStepSource::Shared> step_;
  };
  std::unique_ptr<Shared> shared(Index set) const {
    return std::make_unique<Shared>(source_.shared(set));
  }

 private:
  OneStepSource source_;
  Labels labels_;
};

/// Given weights: one set for each law of the labels.
class EmpiricalLossSource {
 public:
  static constexpr bool row_norms = true;
  EmpiricalLossSource(const MeasuredWeights& weights, std::vector<Labels> labels)
      : weights_(&weights),
        labels_(std::move(labels)) {}
  Index size() const { return static_cast<Index>(labels_.size()); }
  const Labels& labels(Index set) const { return labels_[set]; }

  class Shared {
    using Bulk = EmpiricalBulk<std::complex<double>>;

   public:
    explicit Shared(const MeasuredWeights& weights) : weights_(&weights) {}
    const SpikeParameters& spike() const { return weights_->spike; }
    AnisotropicLossMap<Bulk> map(const Point<double>& p) const {
      return {p, Bulk(*weights_), Bulk(*weights_)};
    }

   private:
    const MeasuredWeights* weights_;
  };
  std::unique_ptr<Shared> shared(Index) const { return std::make_unique<Shared>(*weights_); }

 private:
  const MeasuredWeights* weights_;
  std::vector<Labels> labels_;
};

// Compiled once: cpp/src/losses.cpp.
extern template void solve_losses(const IsotropicLossSource&, const Loss&, const BatchInput&,
                                  const LossOutput&, Interrupt&);
extern template void solve_losses(const OneStepLossSource&, const Loss&, const BatchInput&,
                                  const LossOutput&, Interrupt&);
extern template void solve_losses(const EmpiricalLossSource&, const Loss&, const BatchInput&,
                                  const LossOutput&, Interrupt&);

}  // namespace srfx
