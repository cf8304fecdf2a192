// Batches of solves with a loss that is not the square, or with labels of +1 and -1 (THEORY section
// 19), for the isotropic bulk, the actual step and given weights.
//
// A point is solved on the coarsest rules first. Then one Newton step each on ever denser rules in
// z, and in k, tells how far each of them has to go: the errors of the two add. On the rules chosen
// so it is solved to the end. What a point meets depends on the point alone.
#pragma once

#include "srfx/data/loss_slopes.hpp"
#include "srfx/solve/anisotropic.hpp"
#include "srfx/solve/loss_solver.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <tuple>

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

/// Nodes of one coefficient set, made when first asked for.
class LossRules {
 public:
  LossRules(Coefficients& coefficients, const Loss& loss, const Labels& labels, bool row_norms)
      : maker_(coefficients, loss, labels, row_norms),
        edges_(maker_.panel_edges()) {}

  const LossNodes& find(int rung_k, int rung_z) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<LossNodes>& out = made_[{rung_k, rung_z}];
    if (!out) out = std::make_unique<LossNodes>(maker_.make(rung_k, rung_z));
    return *out;
  }

  /// Panels in k that are halved again and again; the first ones have depth 0.
  struct Panel {
    int first, depth;
    long place;  ///< among the 2^depth parts of the first
    std::pair<Panel, Panel> halves() const {
      return {{first, depth + 1, 2 * place}, {first, depth + 1, 2 * place + 1}};
    }
  };
  int first_panels() const { return static_cast<int>(edges_.size()) - 1; }
  const LossNodes& find(const Panel& panel, int rung_z) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<LossNodes>& out = panels_[{panel.first, panel.depth, panel.place, rung_z}];
    if (!out) {
      const double from = edges_[panel.first],
                   width = std::ldexp(edges_[panel.first + 1] - from, -panel.depth);
      out = std::make_unique<LossNodes>(
          maker_.make_panel(from + width * static_cast<double>(panel.place),
                            from + width * static_cast<double>(panel.place + 1), rung_z));
    }
    return *out;
  }

 private:
  std::mutex mutex_;
  LossNodesMaker maker_;
  std::vector<double> edges_;
  std::map<std::pair<int, int>, std::unique_ptr<LossNodes>> made_;
  std::map<std::tuple<int, int, long, int>, std::unique_ptr<LossNodes>> panels_;
};

namespace detail {

/// How far two solutions are apart: V and q relative, the features in units of the field.
inline double apart(const LossNodes& nodes, const LossVector& x, const LossVector& y) {
  double field = nodes.mean_u1 * x[at_q1] + nodes.mean_u2 * x[at_q2], change = 0;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      static constexpr int at[3] = {at_m, at_theta, at_chi};
      field += nodes.gram[i][j] * x[at[i]] * x[at[j]];
      change += nodes.gram[i][j] * (x[at[i]] - y[at[i]]) * (x[at[j]] - y[at[j]]);
    }
  double out = std::sqrt(std::max(change, 0.0) / field);
  out = std::max(out, std::abs(x[at_psi] - y[at_psi]) * std::sqrt(nodes.mean_u1 / field));
  for (int i : {at_v1, at_v2, at_q1, at_q2}) out = std::max(out, std::abs(x[i] / y[i] - 1));
  return out;
}

/// What the halving of a panel in k is judged by: the averages and the classification error.
struct PanelValue {
  std::array<double, n_loss_unknowns + 1> value{};
  double square = 0;  ///< E g^2
  PanelValue() = default;
  PanelValue(const Loss& loss, const LossNodes& nodes, const LossVector& x) {
    const LossAverages averages = averages_of(loss, nodes, x);
    std::copy(averages.value.begin(), averages.value.end(), value.begin());
    square = averages.square;
    if (loss.margin) value[n_loss_unknowns] = classification_error(loss, nodes, x);
  }
};

/// Nodes of panels in k that are halved where that moves the averages at x: where labels change or
/// the loss bends between nodes, for a field that is narrow there. They are judged on a coarse rule
/// in z. `error` is what further halvings would have moved, relative.
inline LossNodes adapted_nodes(const Loss& loss, LossRules& rules, int rung_z, const LossVector& x,
                               const Point<double>& p, double& error) {
  constexpr double enough = 5e-11;
  constexpr int judged = 1;          // rung in z
  constexpr std::size_t most = 160;  // panels
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
      if (moved > enough && leaves.size() + open.size() + next.size() < most) {
        next.insert(next.end(), halves, halves + 2);
        continue;
      }
      error += moved;
      leaves.push_back(at.panel);
    }
  LossNodes out;
  for (const LossRules::Panel& panel : leaves) out.append(rules.find(panel, rung_z));
  out.size0 = out.gram[0][0];
  return out;
}

/// A point solved on one rule.
template <class MakeMap>
LossSolution solve_on(const Loss& loss, const LossNodes& nodes, const Point<double>& p,
                      MakeMap&& make, double tolerance) {
  return solve_by_continuation<LossVector>(
      loss, p,
      [&](const Loss& of, const Point<double>& at, const LossVector& from, double until,
          int limit) {
        auto map = make(at);
        return loss_newton(of, nodes, map, from, until, limit);
      },
      [](double v) { return LossVector{v, v, 0, 0, 0, 0, 0.5, 0.5}; }, tolerance);
}

}  // namespace detail

/// One point: `rules` of its set, make(Point) a map of its bulk.
template <class MakeMap>
void solve_loss_point(const Loss& loss, LossRules& rules, const Point<double>& point,
                      MakeMap&& make, const LossOutput& out, Index i, Index n_points) {
  constexpr int top = LossNodesMaker::n_rungs - 1;
  constexpr double enough = 1e-10;
  Point<double> p = point;
  if (loss.hard()) p.lam = 1;  // V goes as 1/lam, the readout does not know it
  Status status = Status::converged;
  int rung_k = 0, rung_z = 0, base = 0;
  LossSolution at = detail::solve_on(loss, rules.find(0, 0), p, make, 1e-3);
  int iterations = at.iterations;
  if (!at.converged) {  // perhaps the rules are too coarse for a solution
    base = 2;
    at = detail::solve_on(loss, rules.find(2, 1), p, make, 1e-3);
    iterations += at.iterations;
  }
  auto map = make(p);
  double error = 0;
  LossVector x = at.x;
  LossNodes adapted;
  const LossNodes* chosen = &rules.find(base, base / 2);
  if (at.converged) {
    // Down one ladder: the first rung whose successor would not move the solution.
    const auto descend = [&](bool in_k, LossVector& from, double& left) {
      double previous = 0, classes = -1;
      int rung = in_k ? base : base / 2;
      while (rung < (in_k ? base + 3 : top)) {
        ++rung;
        const LossNodes& nodes = in_k ? rules.find(rung, base / 2) : rules.find(base, rung);
        const LossSystem system(loss, nodes, map, from);
        ++iterations;
        std::array<std::array<double, 1>, n_loss_unknowns> step;
        for (int j = 0; j < n_loss_unknowns; ++j) step[j][0] = system.defect[j];
        if (!(system.size < 0.5) || !system.solve<1>(step)) {
          left = 1;
          continue;
        }
        LossVector by;
        for (int j = 0; j < n_loss_unknowns; ++j) by[j] = step[j][0];
        const LossVector next = detail::moved(nodes, system, from, by, 1);
        double move = detail::apart(nodes, next, from);
        if (loss.margin && in_k) {
          const double now = classification_error(loss, nodes, next);
          if (classes >= 0) move = std::max(move, std::abs(now - classes));
          classes = now;
        }
        from = next;
        // What the next rung would move: less by the last ratio, at least. Of the first move alone
        // the power by which a trapezoid gains from rung to rung.
        left = previous > 0 ? move * std::min(1.0, move / previous) : std::pow(move, 1.4);
        if (left < enough) break;
        previous = move;
      }
      return rung;
    };
    double left_k = 0, left_z = 0;
    LossVector along_z = x;
    rung_z = descend(false, along_z, left_z);
    rung_k = descend(true, x, left_k);
    error = left_k + left_z;
    const LossVector both = x;
    for (int j = 0; j < n_loss_unknowns; ++j) x[j] += along_z[j] - at.x[j];
    for (int j : {at_v1, at_v2, at_q1, at_q2})
      if (!(x[j] > 0)) x[j] = both[j];
    chosen = &rules.find(rung_k, rung_z);
    if (left_k > enough) {  // what is narrow in k is met by panels
      adapted = detail::adapted_nodes(loss, rules, rung_z, x, p, error);
      error += left_z;
      chosen = &adapted;
    }
    at = loss_newton(loss, *chosen, map, x, 1e-11, 40);
    iterations += at.iterations;
    x = at.x;
  }
  const LossNodes& nodes = *chosen;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  LossObservables seen;
  double residual = at.residual;
  bool finite = at.converged;
  if (at.converged) {
    seen = loss_observables(loss, nodes, x);
    const double pull = p.lam / p.ratio * x[at_q2];
    residual = std::max(residual,
                        std::abs(seen.pull - pull) / std::max(std::abs(pull), std::abs(seen.pull)));
    for (const double value : x) finite = finite && std::isfinite(value);
    finite = finite && std::isfinite(seen.train_loss) && std::isfinite(seen.test_error);
  }
  if (!at.converged) {
    const bool grown = x[at_q2] * nodes.mean_u2 + x[at_q1] * nodes.mean_u1 > 1e8;
    status = grown || loss.hard() ? Status::diverged : Status::max_iterations;
  } else if (!finite) {
    status = Status::non_finite;
  } else if (!(residual <= 1e-8)) {  // the identity sees the quadrature too
    status = Status::max_iterations;
  } else if (at.tail > 1e-3 ||
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
  put(out.quadrature_error, error + nodes.error);
  if (out.slopes) {
    std::array<std::array<double, 2>, n_loss_unknowns> moves;
    bool solved = good;
    if (good) {
      const LossSystem system(loss, nodes, map, x);
      for (int j = 0; j < n_loss_unknowns; ++j)
        moves[j] = {system.by_lam[j], system.by_ratio[j] / point.alpha};
      solved = system.solve<2>(moves);
    }
    const LossSlopes by = good ? loss_slopes(loss, nodes, x) : LossSlopes{};
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
  out.iterations[i] = iterations;
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
  const PointsBySet by_set(in, n_sets);
  const int n_threads = std::max(1, in.n_threads);
  const Index chunk = std::min<Index>(n_sets, 16 * n_threads);
  std::vector<PointBlock> blocks;
  for (Index first = 0; first < n_sets; first += chunk) {
    std::vector<State> states(chunk);
    blocks.clear();
    for (Index set = first; set < std::min(first + chunk, n_sets); ++set)
      cut_set(by_set, set, 16, blocks);
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
            loss, *state.rules, p, [&](const Point<double>& q) { return state.shared->map(q); },
            out, i, in.n_points);
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
