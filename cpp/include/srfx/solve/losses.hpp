// Batches of solves with a loss that is not the square, or with labels of +1 and -1 (THEORY section
// 19), for the isotropic bulk, the actual step and given weights.
//
// A point is solved on the coarsest rules first. Then one Newton step each on ever denser rules in
// z, and in k, tells how far each of them has to go: the errors of the two add. On the rules chosen
// so it is solved to the end. What a point meets depends on the point alone.
#pragma once

#include "srfx/data/loss_slopes.hpp"
#include "srfx/solve/anisotropic.hpp"
#include "srfx/solve/loss_path.hpp"

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

namespace detail {

/// What the halving of a panel in k is judged by: the averages and what fresh labels are met by.
struct PanelValue {
  std::array<double, n_loss_unknowns + 2> value{};
  double square = 0;  ///< E g^2
  PanelValue() = default;
  PanelValue(const Loss& loss, const LossNodes& nodes, const LossVector& x) {
    const LossAverages averages = averages_of(loss, nodes, x);
    std::copy(averages.value.begin(), averages.value.end(), value.begin());
    square = averages.square;
    const FreshLabel fresh = fresh_label(loss, nodes, x);
    value[n_loss_unknowns] = fresh.missed, value[n_loss_unknowns + 1] = fresh.loss;
  }
};

/// Nodes of panels in k that are halved where that moves the averages at x: where labels change or
/// the loss bends between nodes, for a field that is narrow there. They are judged on a coarse rule
/// in z. `error` is what further halvings would have moved, relative.
inline std::shared_ptr<const LossNodes> adapted_nodes(const Loss& loss, LossRules& rules,
                                                      int rung_z, const LossVector& x,
                                                      const Point<double>& p, double& error) {
  constexpr double enough = 4e-10;
  constexpr int judged = 1;                         // rung in z
  constexpr std::size_t most = 160;                 // panels
  if (!rules.real()) rung_z = std::max(rung_z, 4);  // for what is no series
  struct Part {
    LossRules::Panel panel;
    PanelValue value;
  };
  std::vector<Part> open, next;
  std::vector<LossRules::Panel> leaves;
  PanelValue size;
  for (int i = 0; i < rules.first_panels(); ++i) {
    const LossRules::Panel panel{i, 0, 0};
    open.push_back({panel, PanelValue(loss, rules.find(panel, judged), x)});
    for (std::size_t j = 0; j < size.value.size(); ++j)
      size.value[j] += std::abs(open.back().value.value[j]);
    size.square += open.back().value.square;
  }
  // An average that vanishes, by symmetry or where the loss is straight, has the size of what it
  // stands beside.
  const LossNodes& coarse = rules.find(0, 0);
  const double features[3] = {coarse.gram[0][0], coarse.gram[1][1], coarse.gram[2][2]};
  static constexpr int of[3] = {at_m, at_theta, at_chi};
  for (int j = 0; j < 3; ++j)
    size.value[of[j]] = std::max(size.value[of[j]], std::sqrt(features[j] * size.square));
  size.value[at_psi] = std::max(size.value[at_psi], std::sqrt(coarse.mean_u1 * size.square));
  for (int j : {at_v1, at_v2}) size.value[j] = std::max(size.value[j], p.lam / p.ratio);
  size.value[n_loss_unknowns] = 1;
  error = 0;
  for (; !open.empty(); open.swap(next), next.clear())
    for (const Part& at : open) {
      const auto [left, right] = at.panel.halves();
      const Part halves[2] = {{left, PanelValue(loss, rules.find(left, judged), x)},
                              {right, PanelValue(loss, rules.find(right, judged), x)}};
      double moved = 0;
      for (std::size_t j = 0; j < size.value.size(); ++j)
        if (size.value[j] > 0)
          moved = std::max(moved, std::abs(halves[0].value.value[j] + halves[1].value.value[j] -
                                           at.value.value[j]) /
                                      size.value[j]);
      if (moved > enough && leaves.size() / 2 + open.size() + next.size() < most) {
        next.insert(next.end(), halves, halves + 2);
        continue;
      }
      // The halves are nearer by far where the integrand is resolved, and by a digit where it is
      // not.
      error += 0.1 * moved;
      leaves.push_back(left), leaves.push_back(right);
    }
  auto out = std::make_shared<LossNodes>();
  for (const LossRules::Panel& panel : leaves) out->append(rules.find(panel, rung_z));
  out->size0 = out->gram[0][0];
  return out;
}

/// A point solved on one rule, by continuation in lam where Newton's method does not get there.
template <class MakeMap>
LossSolution solve_on(const Loss& loss, const LossNodes& nodes, const Point<double>& p,
                      MakeMap&& make, double tolerance) {
  // From the square loss.
  Point<double> start = p;
  start.lam = std::max(p.lam, 0.01);
  Loss square;
  square.margin = loss.margin;
  auto square_map = make(start);
  const double v = 1 / start.lam;
  LossSolution at = loss_newton(square, nodes, square_map, {v, v, 0, 0, 0, 0, 0.5, 0.5}, 1e-2, 80);
  int iterations = at.iterations;
  const auto finish = [&](LossSolution x) {
    x.iterations += iterations;
    return x;
  };
  auto map = make(p);
  LossSolution direct = loss_newton(loss, nodes, map, at.x, tolerance, 60);
  if (direct.converged) return finish(direct);
  iterations += direct.iterations;
  // From larger lam, where every loss is nearly flat on the scale of the field.
  double lam = std::max(1.0, p.lam), factor = 0.1;
  LossSolution next;
  for (int attempt = 0; attempt < 6; ++attempt, lam *= 10) {
    start.lam = lam;
    auto far_square = make(start);
    at = loss_newton(square, nodes, far_square, {1 / lam, 1 / lam, 0, 0, 0, 0, 0.5, 0.5}, 1e-2, 80);
    auto far = make(start);
    next = loss_newton(loss, nodes, far, at.x, 1e-3, 80);
    iterations += at.iterations + next.iterations;
    if (next.converged) break;
  }
  while (next.converged && iterations < 800) {
    at = next;
    const double target = std::max(p.lam, lam * factor);
    start.lam = target;
    auto closer = make(start);
    next = loss_newton(loss, nodes, closer, at.x, target == p.lam ? tolerance : 1e-3, 40);
    if (next.converged) {
      if (target == p.lam) return finish(next);
      iterations += next.iterations;
      lam = target, factor = std::max(0.01, factor * factor);
    } else {
      iterations += next.iterations;
      next = at;
      factor = std::sqrt(factor);
      if (factor > 0.98) break;
    }
  }
  direct.residual = infinity;
  direct.converged = false;
  direct.x = at.x;
  return finish(direct);
}

/// From nowhere: the point on the coarsest rules, then one Newton step each on ever denser rules in
/// z, and in k, which tells how far each of them has to go.
template <class MakeMap>
LossFound climb(const Loss& loss, LossRules& rules, const Point<double>& p, MakeMap&& make,
                const LossVector* start) {
  constexpr int top = LossNodesMaker::n_rungs - 1;
  constexpr double enough = 3e-11;
  LossFound out;
  int base = 0;
  auto map = make(p);
  LossSolution at;
  if (start != nullptr) at = loss_newton(loss, rules.find(0, 0), map, *start, 1e-3, 20);
  int iterations = at.iterations;
  const auto from_nowhere = [&](int rung) {
    at = solve_on(loss, rules.find(rung, rung / 2), p, make, 1e-3);
    iterations += at.iterations;
  };
  if (!at.converged) from_nowhere(0);
  if (!at.converged) from_nowhere(base = 2);  // perhaps the rules are too coarse for a solution
  out.x = at.x;
  out.nodes = &rules.find(base, base / 2);
  out.iterations = iterations;
  if (!at.converged) return out;
  // Down one ladder: the first rung whose successor would not move the solution.
  double rate[2] = {1, 1};
  const auto descend = [&](bool in_k, LossVector& from, double& left) {
    double previous = 0;
    int rung = in_k ? base : base / 2;
    while (rung < (in_k ? std::max(rules.most_k(), base + 3) : top)) {
      ++rung;
      const LossNodes& denser = in_k ? rules.find(rung, base / 2) : rules.find(base, rung);
      const LossSystem system(loss, denser, map, from);
      ++iterations;
      std::array<std::array<double, 1>, n_loss_unknowns> step;
      for (int j = 0; j < n_loss_unknowns; ++j) step[j][0] = system.defect[j];
      if (!(system.size < 0.5) || !system.solve<1>(step)) {
        left = 1;
        continue;
      }
      LossVector by;
      for (int j = 0; j < n_loss_unknowns; ++j) by[j] = step[j][0];
      const LossVector next = moved(denser, system, from, by, 1);
      const double move = apart(denser, next, from);
      from = next;
      // What the next rung would move: less by the last ratio, at least. Of the first move alone
      // the power by which a trapezoid gains from rung to rung.
      rate[in_k] = std::min(1.0, previous > 0 ? move / previous : std::pow(move, 0.4));
      left = move * rate[in_k];
      if (left < enough) break;
      previous = move;
    }
    return rung;
  };
  double left_k = 0, left_z = 0;
  LossVector x = at.x, along_z = x;
  out.rungs.z = descend(false, along_z, left_z);
  out.rungs.k = descend(true, x, left_k);
  out.error = left_k + left_z;
  out.rate = std::clamp(std::max(rate[0], rate[1]), 1e-4, 1.0);
  const LossVector both = x;
  for (int j = 0; j < n_loss_unknowns; ++j) x[j] += along_z[j] - at.x[j];
  for (int j : {at_v1, at_v2, at_q1, at_q2})
    if (!(x[j] > 0)) x[j] = both[j];
  out.on = out.rungs;
  out.nodes = &rules.find(out.rungs.k, out.rungs.z);
  if (left_k > enough) {  // what is narrow in k is met by panels
    out.adapted = adapted_nodes(loss, rules, out.rungs.z, x, p, out.error);
    out.error += left_z;
    out.nodes = out.adapted.get();
  }
  at = loss_newton(loss, *out.nodes, map, x, 1e-11, 40);
  out.iterations = iterations + at.iterations;
  out.x = at.x, out.residual = at.residual, out.tail = at.tail, out.good = at.converged;
  return out;
}

/// On panels of its own, for a point that is all but solved on rules that are not dense enough.
template <class Map>
void to_panels(const Loss& loss, LossRules& rules, const Point<double>& p, Map& map,
               LossFound& at) {
  double error = 0;
  at.adapted = adapted_nodes(loss, rules, at.rungs.z, at.x, p, error);
  at.error += error;
  at.nodes = at.adapted.get();
  double by = infinity;
  for (int pass = 0; pass < 3 && !(by < 1e-7); ++pass)
    by = newton_step(loss, *at.nodes, map, at, true);
  at.residual = 10 * by * by;
  at.good = by < 1e-7;
}

/// What fresh labels are met by at a solution, on rungs of its own: where the field is narrow beside
/// its mean, or V large, it takes denser rules than the equations. False where none is dense enough.
inline bool settle_fresh(const Loss& loss, LossRules& rules, LossFound& at, FreshLabel& now) {
  constexpr double enough = 3e-11;
  const auto on = [&](LossRungs rungs) {
    return fresh_label(loss, rules.find(rungs.k, rungs.z), at.x);
  };
  FreshLabel before = on(at.on.below(1));
  at.seen = at.on, now = on(at.on);
  double move = 0, rate = std::max(at.rate, 1e-3);
  const auto judge = [&] {
    move = std::max(std::abs(now.missed - before.missed),
                    std::abs(now.loss - before.loss) / std::max(now.loss, 1e-300));
  };
  judge();
  while (move * rate > enough && at.seen.k < rules.most_k() + 1) {
    ++at.seen.k;
    if (rules.real()) at.seen.z = std::min(at.seen.z + 1, LossNodesMaker::n_rungs - 1);
    const double last = move;
    before = now, now = on(at.seen);
    judge();
    rate = std::min(1.0, move / last);
  }
  at.error += move * rate;
  return move * rate <= enough;
}

}  // namespace detail

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
    const double pull = p.lam / p.ratio * found.x[at_q2];
    residual = std::max(residual,
                        std::abs(seen.pull - pull) / std::max(std::abs(pull), std::abs(seen.pull)));
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
  } else if (found.tail > 1e-3 ||
             (loss.hard() &&
              rare_share(loss, nodes, x, averages_of(loss, nodes, x).value) > 1e-3)) {
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
        }
      }
      LossPath path;
      for (Index at = block.begin; at < block.end; ++at) {
        const Index i = by_set.order[at];
        const Point<double> p{in.alpha[i],
                              in.beta[i],
                              in.lam[i],
                              in.noise[i],
                              in.inverse_d[i],
                              1,
                              in.alpha[i] / in.beta[i]};
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
  Labels labels(Index set) const {
    return {labels_.kind, source_.parameters(set).noise, labels_.slope};
  }

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
