// A point solved from nowhere with another loss than the square (THEORY section 19): on the coarsest
// rules, by continuation in lam where it must be, and from there to rules that are dense enough.
#pragma once

#include "srfx/solve/loss_path.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace srfx {

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
  constexpr int judged = 1;          // rung in z
  constexpr std::size_t most = 160;  // panels
  if (rules.atoms) rung_z = std::max(rung_z, 4);
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
void to_panels(const Loss& loss, LossRules& rules, const Point<double>& p, Map& map, LossFound& at,
               double& by) {
  double error = 0;
  at.adapted = adapted_nodes(loss, rules, at.rungs.z, at.x, p, error);
  at.error += error;
  at.nodes = at.adapted.get();
  by = infinity;
  for (int pass = 0; pass < 4 && !(by < 1e-7); ++pass)
    by = newton_step(loss, *at.nodes, map, at, true);
  at.residual = 10 * by * by;
  at.good = by < 1e-7;
}

template <class Map>
void to_panels(const Loss& loss, LossRules& rules, const Point<double>& p, Map& map,
               LossFound& at) {
  double by = 0;
  to_panels(loss, rules, p, map, at, by);
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

/// A point at a large lam from one at a smaller, on panels of its own all the way: as lam grows the
/// field's scatter vanishes beside the bends of a loss, and no rule is dense enough but where they
/// are.
template <class MakeMap>
LossFound from_smaller_lam(const Loss& loss, LossRules& rules, const Point<double>& p,
                           MakeMap&& make) {
  Point<double> q = p;
  LossFound at;
  int iterations = 0;
  for (q.lam = std::min(1.0, 0.3 * p.lam); q.lam > 1e-3; q.lam *= 0.3) {
    at = climb(loss, rules, q, make, nullptr);
    iterations += at.iterations;
    if (at.good) break;
  }
  if (!at.good) return at;
  {
    auto map = make(q);
    newton_step(loss, *at.nodes, map, at, true);
  }
  double factor = 2;
  for (int pass = 0; pass < 80 && q.lam < p.lam; ++pass) {
    Point<double> next = q;
    next.lam = std::min(p.lam, q.lam * factor);
    LossFound trial = at;
    for (int j = 0; j < n_loss_unknowns; ++j) {  // by powers of lam
      const double power = at.by_lam[j] * q.lam / at.x[j];
      if (std::abs(power) < 4) trial.x[j] *= std::pow(next.lam / q.lam, power);
    }
    auto map = make(next);
    double by = infinity;
    for (int round = 0; round < 8 && !(by < 1e-7); ++round) {
      trial.error = 0;
      to_panels(loss, rules, next, map, trial, by);
      if (!(by < 3)) break;
    }
    iterations += trial.iterations, trial.iterations = 0;
    if (by < 1e-7) at = trial, q = next, factor = std::min(4.0, factor * factor);
    else if ((factor = std::sqrt(factor)) < 1.02) break;
  }
  at.good = q.lam == p.lam;
  at.iterations = iterations;
  return at;
}

/// The part of E g^2 that labels of less than this density have.
inline double rare_square(const Loss& loss, const LossNodes& nodes, const LossVector& x,
                          double rare) {
  using V = LossLanes;
  double out = 0;
  for (const LossNode& at : nodes.nodes) {
    const LossField field = field_at(nodes, at, x);
    const double sd = std::sqrt(field.variance);
    for (Index i = at.first; i < at.last; i += 8) {
      const auto seldom = V::load(&nodes.density[i]) * V(at.density) < V(rare);
      if (!simd::any(seldom)) continue;
      const V f = simd::fma(V(field.tilt), V::load(&nodes.z[i]), V(field.mean));
      const V m = V::load(&nodes.e[i]) - V::load(&nodes.sign[i]) * f;
      const V gg = moments_of(loss, loss.kappa + field.v, sd, m).gg * V::load(&nodes.w[i]);
      out += at.weight * lane_total(simd::select(seldom, gg, V(0.0)));
    }
  }
  return out;
}

/// Whether a solution hangs on labels that no sample of n has, n = alpha d or a million at d = inf:
/// whether it moves by a tenth once those are left out whose density is below 1/n of the largest. At
/// tiny lam a strong spike makes labels against its sense very rare, and g for them large: theory
/// without them is what samples of n show.
template <class Map>
bool hangs_on_rare(const Loss& loss, const LossNodes& nodes, Map& map, const LossVector& x,
                   double all) {
  constexpr double bearable = 0.1;
  const Point<double>& p = map.point();
  const double rare = p.inverse_d > 0 ? p.inverse_d / p.alpha : 1e-6;
  if (!loss.margin || loss.logistic() || loss.square() || p.lam > 1e-3) return false;
  // Seldom: only where what is rare makes more than a hundredth of E g^2.
  if (rare_square(loss, nodes, x, rare) < 1e-2 * all) return false;
  LossNodes often = nodes;
  often.series.reset();
  for (const LossNode& at : often.nodes)
    for (Index i = at.first; i < at.last; ++i)
      if (at.density * often.density[i] < rare) often.w[i] = 0;
  LossFound moved;
  moved.x = x;
  double by = 0;
  for (int pass = 0; pass < 3; ++pass) by = newton_step(loss, often, map, moved);
  return !(apart(nodes, moved.x, x) < bearable) || !(by < 3);
}

}  // namespace detail

}  // namespace srfx
