// A batch's way from point to point with another loss than the square (THEORY section 19): a point
// starts where a solved neighbour leads by its derivatives, and on the neighbour's rules.
//
// Newton's method then takes a step or two on a rule two rungs below, on the one below, and on the
// rule itself. The last move is what the rule below was wrong by, which tells how far the rule itself
// is; if that is too much it is replaced by a denser one.
#pragma once

#include "srfx/solve/loss_rules.hpp"
#include "srfx/solve/loss_solver.hpp"
#include "srfx/solve/scan.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

namespace srfx {

/// The rungs of the rules in k and in z that a point was solved on.
struct LossRungs {
  int k = 0, z = 0;
  LossRungs below(int by) const { return {std::max(k - by, 0), std::max(z - by, 0)}; }
};

/// A solution on the rule of some rungs, and what is known of it.
struct LossFound {
  LossVector x{}, by_lam{}, by_ratio{};  ///< by lam and by log a'
  LossRungs on, rungs, seen;  ///< it was solved on, neighbours start on, it was observed on
  double residual = infinity, error = infinity, tail = 0;
  double rate = 1;  ///< what a rung more makes of an error, in k or z
  int iterations = 0;
  bool good = false;
  bool near = false;                         ///< not good, for want of a denser rule in k alone
  const LossNodes* nodes = nullptr;          ///< that it was solved on
  std::shared_ptr<const LossNodes> adapted;  ///< they, if they are its own
};

/// The solved points of one block.
class LossPath {
 public:
  void clear() { known_.clear(); }
  void add(const Point<double>& p, const LossFound& found) {
    known_.push_back({p, found});
    known_.back().found.adapted.reset();
  }

  /// The nearest neighbour and where it leads; null where there is none.
  const LossFound* start(const Point<double>& p, LossVector& x) const {
    const Known* best = nullptr;
    double least = 1.5;  // farther ones are no help
    for (const Known& known : known_)
      if (const double distance = apart(known.p, p); distance < least)
        least = distance, best = &known;
    if (best == nullptr) return nullptr;
    const double log_lam = std::log(p.lam / best->p.lam) * best->p.lam,
                 log_ratio = std::log(p.ratio / best->p.ratio);
    for (int i = 0; i < n_loss_unknowns; ++i) {
      const double from = best->found.x[i],
                   shift = best->found.by_lam[i] * log_lam + best->found.by_ratio[i] * log_ratio;
      const bool positive = i == at_v1 || i == at_v2 || i == at_q1 || i == at_q2;
      x[i] = positive ? from * std::exp(std::clamp(shift / from, -1.0, 1.0)) : from + shift;
    }
    return x[at_psi] * x[at_psi] < x[at_q1] ? &best->found : nullptr;
  }

 private:
  struct Known {
    Point<double> p;
    LossFound found;
  };
  static double apart(const Point<double>& a, const Point<double>& b) {
    const auto log_ratio = [](double x, double y) { return std::abs(std::log(x / y)); };
    // What the derivatives do not follow counts for more.
    return 0.3 * log_ratio(a.lam, b.lam) + log_ratio(a.ratio, b.ratio) +
           3 * log_ratio(a.beta, b.beta) + std::abs(a.noise - b.noise) +
           (a.inverse_d == b.inverse_d ? 0 : 0.5);
  }
  std::vector<Known> known_;
};

namespace detail {

/// How far two solutions are apart: V and q relative, the features in units of the field.
inline double apart(const LossNodes& nodes, const LossVector& x, const LossVector& y) {
  const double field = field_square(nodes, x);
  const double c[3] = {x[at_m] - y[at_m], x[at_theta] - y[at_theta], x[at_chi] - y[at_chi]};
  double change = 0;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) change += nodes.gram[i][j] * c[i] * c[j];
  double out = std::sqrt(std::max(change, 0.0) / field);
  out = std::max(out, std::abs(x[at_psi] - y[at_psi]) * std::sqrt(nodes.mean_u1 / field));
  for (int i : {at_v1, at_v2, at_q1, at_q2}) out = std::max(out, std::abs(x[i] / y[i] - 1));
  return out;
}

/// One step of Newton's method; yields how far it moved, or infinity.
template <class Map>
double newton_step(const Loss& loss, const LossNodes& nodes, Map& map, LossFound& at,
                   bool derivatives = false) {
  const LossSystem system(loss, nodes, map, at.x);
  ++at.iterations;
  at.tail = system.tail;
  if (!(system.size < 3)) return infinity;
  std::array<std::array<double, 3>, n_loss_unknowns> moves;
  for (int j = 0; j < n_loss_unknowns; ++j)
    moves[j] = {system.defect[j], system.by_lam[j], system.by_ratio[j]};
  if (!system.solve<3>(moves)) return infinity;
  LossVector step;
  for (int j = 0; j < n_loss_unknowns; ++j) {
    step[j] = moves[j][0];
    if (derivatives) at.by_lam[j] = moves[j][1], at.by_ratio[j] = moves[j][2];
  }
  const LossVector next = moved(nodes, system, at.x, step, 1);
  const double by = apart(nodes, next, at.x);
  at.x = next;
  return by;
}

/// Steps until one moves by less than `until`: false where they do not get there.
template <class Map>
bool approach(const Loss& loss, const LossNodes& nodes, Map& map, LossFound& at, double until) {
  double before = infinity;
  for (int pass = 0; pass < 6; ++pass) {
    const double by = newton_step(loss, nodes, map, at);
    if (by < until) return true;
    if (!(by < 0.7 * before)) return false;
    before = by;
  }
  return false;
}

/// From a start that is near, by what a neighbour knows of rungs: not good where that does not get
/// there, or no rule is dense enough.
template <class Map>
LossFound follow(const Loss& loss, LossRules& rules, Map& map, const LossVector& start,
                 const LossFound& neighbour) {
  constexpr double enough = 3e-11;
  LossFound out;
  out.x = start;
  LossRungs rungs = neighbour.rungs;
  const auto on = [&](LossRungs at) -> const LossNodes& { return rules.find(at.k, at.z); };
  if (!approach(loss, on(rungs.below(2)), map, out, 1e-2) ||
      !approach(loss, on(rungs.below(1)), map, out, 1e-4))
    return out;
  double by = newton_step(loss, on(rungs), map, out, true);
  double left_k = by * neighbour.rate, left_z = 0, rate_k = neighbour.rate, rate_z = 0;
  out.rungs = rungs;  // for those who start here
  if (left_k < 1e-3 * enough) out.rungs = {std::max(rungs.k - 1, 1), std::max(rungs.z - 1, 1)};
  // Too coarse in k or in z: a rung more of each tells.
  const auto denser = [&](int& rung, int& kept, int most, double before, double& left,
                          double& rate) {
    if (rung >= most) return false;
    ++rung;
    by = newton_step(loss, on(rungs), map, out, true);
    rate = std::clamp(by / before, 1e-4, 1.0);
    left = by * rate;
    if (by > enough) kept = rung;
    return true;
  };
  const double joint = by;
  const auto in_k = [&] {
    return denser(rungs.k, out.rungs.k, rules.most_k(), left_z == 0 ? joint : left_k / rate_k,
                  left_k, rate_k);
  };
  const auto in_z = [&] {
    return denser(rungs.z, out.rungs.z, LossNodesMaker::n_rungs - 1,
                  left_z == 0 ? joint : left_z / rate_z, left_z, rate_z);
  };
  bool more_k = true;
  if (!(left_k < enough)) {
    more_k = in_k();
    if (!in_z()) return out;
  }
  for (int pass = 0; !(left_k + left_z < enough); ++pass) {
    if (!(by < 1e-2) || pass > 12) return out;
    if (more_k && left_k >= left_z) more_k = in_k();
    else if (!(left_z < 0.5 * enough)) {
      if (!in_z()) return out;
    } else if (!more_k) {
      out.near = by < 1e-4, out.error = left_z, out.rate = std::max(rate_k, rate_z);
      out.rungs.z = rungs.z;
      return out;
    } else more_k = in_k();
  }
  out.error = left_k + left_z, out.rate = std::max(rate_k, rate_z);
  out.residual = 10 * by * by;
  out.on = rungs, out.nodes = &on(rungs);
  out.good = true;
  return out;
}

}  // namespace detail

/// Appends the points of a set in blocks of neighbours: the set is halved across its longest side
/// again and again.
inline void cut_nearby(PointsBySet& points, Index set, const BatchInput& in,
                       std::vector<PointBlock>& blocks) {
  constexpr Index most = 64;
  const auto sides = [&](Index i) {
    return std::array<double, 5>{0.3 * std::log(in.lam[i]), std::log(in.alpha[i]),
                                 3 * std::log(in.beta[i]), in.noise[i], in.inverse_d[i]};
  };
  const auto halve = [&](const auto& self, Index begin, Index end) -> void {
    if (end - begin < 2) return;
    std::array<double, 5> low = sides(points.order[begin]), high = low;
    for (Index j = begin + 1; j < end; ++j) {
      const auto at = sides(points.order[j]);
      for (int s = 0; s < 5; ++s)
        low[s] = std::min(low[s], at[s]), high[s] = std::max(high[s], at[s]);
    }
    int longest = 0;
    for (int s = 1; s < 5; ++s)
      if (high[s] - low[s] > high[longest] - low[longest]) longest = s;
    const auto begins = points.order.begin();
    const Index middle = begin + (end - begin) / 2;
    std::nth_element(begins + begin, begins + middle, begins + end, [&](Index a, Index b) {
      const double x = sides(a)[longest], y = sides(b)[longest];
      return x < y || (x == y && a < b);
    });
    self(self, begin, middle), self(self, middle, end);
  };
  const Index begin = points.begin[set], end = points.begin[set + 1];
  halve(halve, begin, end);
  const Index count = (end - begin + most - 1) / most;
  for (Index j = 0; j < count; ++j)
    blocks.push_back(
        {set, begin + (end - begin) * j / count, begin + (end - begin) * (j + 1) / count});
}

}  // namespace srfx
