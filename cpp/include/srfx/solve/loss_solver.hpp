// Newton's method on the eight order parameters of a readout with another loss (THEORY section 19).
//
// The data's side yields hats, the weights' side order parameters from them: x = map(hats(x)). Both
// have exact derivatives. Newton steps move V and q on a log scale and are damped by what they do
// to the field; where they fail a plain step is taken: V and q by the map, the features together by
// their own block of the Jacobian.
#pragma once

#include "srfx/core/small_solve.hpp"
#include "srfx/data/loss_observables.hpp"
#include "srfx/solve/loss_map.hpp"

namespace srfx {

/// The averages of a loss at x.
inline LossAverages averages_of(const Loss& loss, const LossNodes& nodes, const LossVector& x) {
  if (loss.logistic())
    return loss_averages(nodes, x, [&](const LossNode& at, const LossField& field) {
      return logistic_sums(nodes, at, field);
    });
  return loss_averages(nodes, x, PiecewiseSums(loss, nodes, x));
}

/// The system at one x: its defects and its Jacobian, d(x - map)/dx; of m the defect of its hat.
struct LossSystem {
  using Matrix = std::array<LossVector, n_loss_unknowns>;
  LossVector defect{};  ///< map - x
  Matrix jacobian{};
  LossVector by_lam{};    ///< of the defect
  LossVector by_ratio{};  ///< of the defect, by log a'
  double size = 0;        ///< largest defect, relative
  double field = 0;       ///< rms of the field
  double tail = 0;        ///< the share of |k| > 6 in what V and q are made of

  template <class Map>
  LossSystem(const Loss& loss, const LossNodes& nodes, Map& map, const LossVector& x) {
    const LossAverages data = averages_of(loss, nodes, x);
    const Point<double>& p = map.point();
    const double ratio = p.ratio;
    LossVector hat;
    for (int i = 0; i < n_loss_unknowns; ++i) hat[i] = ratio * data.value[i];
    const LossMapValue to = map(hat, x[at_m]);
    const double resolvent = p.lam / ratio + data.value[at_v1] + data.value[at_v2];
    for (int i : {at_v1, at_v2}) tail = std::max(tail, data.beyond[i] / resolvent);
    for (int i : {at_q1, at_q2})
      if (data.value[i] > 0) tail = std::max(tail, data.beyond[i] / data.value[i]);
    for (int i = 0; i < n_loss_unknowns; ++i) {
      LossVector& row = jacobian[i];
      LossVector by = to.by_hat[i];  // of the map's output
      if (i == at_m) by[at_m] = -1;
      for (int j = 0; j < n_loss_unknowns; ++j) {
        const double f = -ratio * by[j];
        if (f == 0) continue;
        for (int u = 0; u < n_loss_unknowns; ++u) row[u] += f * data.slope[j][u];
        by_ratio[i] += by[j] * hat[j];
      }
      row[at_m] -= to.by_m[i];
      by_lam[i] = to.by_hat[i][at_v2];
      if (i != at_m) {
        row[i] += 1;
        defect[i] = to.value[i] - x[i];
      } else {  // what m asks for less the hat
        defect[i] = to.value[i] - hat[i];
      }
    }
    if (nodes.size0 == 0) {
      jacobian[at_m] = LossVector{};
      jacobian[at_m][at_m] = 1;
      defect[at_m] = -x[at_m];
      by_lam[at_m] = by_ratio[at_m] = 0;
    }
    field = std::sqrt(field_square(nodes, x));
    for (int i : {at_v1, at_v2, at_q1, at_q2}) size = std::max(size, std::abs(defect[i] / x[i]));
    const double unit = 1 / field;
    size = std::max(size, std::abs(defect[at_theta]) * std::sqrt(nodes.gram[1][1]) * unit);
    size = std::max(size, std::abs(defect[at_chi]) * std::sqrt(nodes.gram[2][2]) * unit);
    size = std::max(size, std::abs(defect[at_psi]) * std::sqrt(nodes.mean_u1) * unit);
    if (nodes.size0 > 0)
      size = std::max(size, std::abs(defect[at_m]) /
                                (ratio * std::sqrt(nodes.gram[0][0] * data.square) + 1e-300));
    size = std::max(size, to.defect);
    double sum = 0;  // max() does not see what is no number
    for (const double value : defect) sum += value;
    if (!std::isfinite(sum + field)) size = infinity;
  }

  /// The solutions of jacobian step = right.
  template <int columns>
  bool solve(std::array<std::array<double, columns>, n_loss_unknowns>& right) const {
    Matrix a = jacobian;
    return solve_in_place<n_loss_unknowns, columns>(a, right);
  }

  bool newton_step(LossVector& step) const {
    std::array<std::array<double, 1>, n_loss_unknowns> right;
    for (int i = 0; i < n_loss_unknowns; ++i) right[i][0] = defect[i];
    const bool solved = solve<1>(right);
    for (int i = 0; i < n_loss_unknowns; ++i) step[i] = right[i][0];
    return solved;
  }
  /// V and q as the map says, the features by their own block of the Jacobian.
  LossVector plain_step(const LossVector& x) const {
    static constexpr int block[4] = {at_m, at_theta, at_psi, at_chi};
    std::array<std::array<double, 4>, 4> a;
    std::array<std::array<double, 1>, 4> b;
    for (int i = 0; i < 4; ++i) {
      for (int j = 0; j < 4; ++j) a[i][j] = jacobian[block[i]][block[j]];
      b[i][0] = defect[block[i]];
    }
    LossVector step = defect;
    if (solve_in_place<4, 1>(a, b))
      for (int i = 0; i < 4; ++i) step[block[i]] = b[i][0];
    else step[at_m] = 0;
    for (int i : {at_v1, at_v2, at_q1, at_q2})
      step[i] = x[i] * std::log(std::max(1 + defect[i] / x[i], 0.1));
    return step;
  }
};

namespace detail {

/// x moved by a step of which `share` is taken; V and q on a log scale. Steps that would change the
/// field by more than half, or V and q by more than e^1.5, are shortened.
inline LossVector moved(const LossNodes& nodes, const LossSystem& at, const LossVector& x,
                        const LossVector& step, double share) {
  double change = 0, longest = 0;
  const double c[3] = {step[at_m], step[at_theta], step[at_chi]};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) change += nodes.gram[i][j] * c[i] * c[j];
  change = std::sqrt(std::max(change, nodes.mean_u1 * step[at_psi] * step[at_psi]));
  share *= std::min(1.0, 0.7 * std::max(at.field, 0.02) / std::max(change, 1e-300));
  for (int i : {at_v1, at_v2, at_q1, at_q2}) longest = std::max(longest, std::abs(step[i] / x[i]));
  share *= std::min(1.0, 1.5 / std::max(longest, 1e-300));
  LossVector out;
  for (int i = 0; i < n_loss_unknowns; ++i) {
    const bool positive = i == at_v1 || i == at_v2 || i == at_q1 || i == at_q2;
    out[i] = positive ? x[i] * std::exp(share * step[i] / x[i]) : x[i] + share * step[i];
  }
  const double most = 0.98 * std::sqrt(out[at_q1]);  // psi^2 < q1
  const double before = std::abs(x[at_psi]) / std::sqrt(x[at_q1]);
  if (std::abs(out[at_psi]) > most && before < 0.98) out[at_psi] = std::copysign(most, out[at_psi]);
  return out;
}

}  // namespace detail

template <class Vector> struct SolutionOf {
  Vector x{};
  double residual = infinity, tail = 0;
  int iterations = 0;
  bool converged = false;
};
using LossSolution = SolutionOf<LossVector>;

/// From x on; stops where the defect is below `tolerance` or moves no more. system(x) has the
/// equations there, moved(system, x, step, share) where a step leads.
template <class Vector, class MakeSystem, class Move>
SolutionOf<Vector> damped_newton(MakeSystem&& system, Move&& moved, const Vector& from,
                                 double tolerance, int limit) {
  SolutionOf<Vector> out;
  out.x = from;
  auto at = system(out.x);
  out.iterations = 1;
  out.residual = at.size;
  int failures = 0;
  for (; out.iterations < limit && std::isfinite(at.size);) {
    if (at.size <= tolerance) break;
    bool accepted = false;
    Vector step = out.x;
    if (at.newton_step(step)) {
      for (double share = 1; share > 0.1 && out.iterations < limit; share *= 0.4) {
        const Vector x = moved(at, out.x, step, share);
        auto next = system(x);
        ++out.iterations;
        if (next.size < (at.size < 1e-6 ? 1.0 : 0.95) * at.size) {
          out.x = x, at = std::move(next);
          accepted = true;
          break;
        }
        if (at.size < 1e-9) break;  // rounding decides
      }
    }
    if (accepted) {
      out.residual = at.size;
      continue;
    }
    if (at.size < 1e-9) break;
    if (++failures > 12) break;
    for (int plain = 0; plain < 4 && out.iterations < limit; ++plain) {
      out.x = moved(at, out.x, at.plain_step(out.x), 1.0);
      at = system(out.x);
      ++out.iterations;
      if (!std::isfinite(at.size)) break;
    }
    out.residual = at.size;
  }
  out.tail = at.tail;
  out.converged = at.size <= std::max(tolerance, 1e-10);
  return out;
}

template <class Map>
LossSolution loss_newton(const Loss& loss, const LossNodes& nodes, Map& map, const LossVector& from,
                         double tolerance, int limit) {
  return damped_newton([&](const LossVector& x) { return LossSystem(loss, nodes, map, x); },
                       [&](const LossSystem& at, const LossVector& x, const LossVector& step,
                           double share) { return detail::moved(nodes, at, x, step, share); },
                       from, tolerance, limit);
}

/// Solves by continuation in lam where Newton's method does not get there at once.
/// newton(loss, point, x, tolerance, limit) is that method, start(V) a point to begin with.
template <class Vector, class Newton, class Start>
SolutionOf<Vector> solve_by_continuation(const Loss& loss, const Point<double>& p, Newton&& newton,
                                         Start&& start_at, double tolerance) {
  // From the square loss.
  Point<double> start = p;
  start.lam = std::max(p.lam, 0.01);
  Loss square;
  square.margin = loss.margin;
  SolutionOf<Vector> at = newton(square, start, start_at(1 / start.lam), 1e-2, 80);
  int iterations = at.iterations;
  const auto finish = [&](SolutionOf<Vector> x) {
    x.iterations += iterations;
    return x;
  };
  SolutionOf<Vector> direct = newton(loss, p, at.x, tolerance, 60);
  if (direct.converged) return finish(direct);
  iterations += direct.iterations;
  // From larger lam, where every loss is nearly flat on the scale of the field.
  double lam = std::max(1.0, p.lam), factor = 0.1;
  SolutionOf<Vector> next;
  for (int attempt = 0; attempt < 6; ++attempt, lam *= 10) {
    start.lam = lam;
    at = newton(square, start, start_at(1 / lam), 1e-2, 80);
    next = newton(loss, start, at.x, 1e-3, 80);
    iterations += at.iterations + next.iterations;
    if (next.converged) break;
  }
  while (next.converged && iterations < 800) {
    at = next;
    const double target = std::max(p.lam, lam * factor);
    start.lam = target;
    next = newton(loss, start, at.x, target == p.lam ? tolerance : 1e-3, 40);
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

}  // namespace srfx
