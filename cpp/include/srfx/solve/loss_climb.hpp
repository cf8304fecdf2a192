// A point solved from nowhere with another loss than the square (THEORY section 19): on the coarsest
// rules, by continuation in lam where it must be, and from there to rules that are dense enough.
#pragma once

#include "srfx/solve/loss_path.hpp"
#include "srfx/solve/loss_rare.hpp"

#include <algorithm>
#include <memory>
#include <vector>

namespace srfx {

namespace detail {

/// So often panels are made anew where a solution moved on them: they are dense where it bends.
constexpr int most_rounds = 5;

/// Nodes of panels of its own for a solution at x. Panels are judged by the averages and by what
/// fresh labels are met by, on a coarse rule in z.
inline std::shared_ptr<const LossNodes> adapted_nodes(const Loss& loss, LossRules& rules,
                                                      int rung_z, const LossVector& x,
                                                      const Point<double>& p, double& error) {
  constexpr int judged = 1, judged_narrow = 4, final_narrow = 6, missed = n_loss_unknowns,
                square = n_loss_unknowns + 2;
  if (rules.atoms) rung_z = std::max(rung_z, 4);
  using List = std::array<double, n_loss_unknowns + 3>;
  const LossNodes& coarse = rules.find(0, 0);
  const bool narrow = rules.narrow_in_z();
  const BendsOf bends = [&](const LossNode& at) {
    const LossField field = field_at(coarse, at, x);
    const double curve = loss.kappa + field.v;
    LossBends out{field.mean, field.tilt, std::sqrt(field.variance), {}, 0};
    if (loss.bounded_below()) out.at[out.count++] = curve * loss.lo;
    if (loss.bounded_above()) out.at[out.count++] = curve * loss.hi;
    return out;
  };
  const auto value_on = [&](const LossNodes& nodes) {
    const LossAverages averages = averages_of(loss, nodes, x);
    const FreshLabel fresh = fresh_label(loss, nodes, x);
    List out;
    std::copy(averages.value.begin(), averages.value.end(), out.begin());
    out[missed] = fresh.missed, out[missed + 1] = fresh.loss, out[square] = averages.square;
    return out;
  };
  const auto value = [&](const LossPanel& panel) {
    return narrow ? value_on(rules.make(panel, judged_narrow, bends))
                  : value_on(rules.find(panel, judged));
  };
  // An average that vanishes, by symmetry or where the loss is straight, has the size of what it
  // stands beside.
  const auto enlarge = [&](List& size) {
    static constexpr int of[3] = {at_m, at_theta, at_chi};
    for (int j = 0; j < 3; ++j)
      size[of[j]] = std::max(size[of[j]], std::sqrt(coarse.gram[j][j] * size[square]));
    size[at_psi] = std::max(size[at_psi], std::sqrt(coarse.mean_u1 * size[square]));
    for (int j : {at_v1, at_v2}) size[j] = std::max(size[j], p.lam / p.ratio);
    size[missed] = 1;
  };
  auto out = std::make_shared<LossNodes>();
  const std::vector<LossPanel> panels = halved_panels(rules.first_panels(), value, enlarge, error);
  for (const LossPanel& panel : panels) {
    if (narrow) out->append(rules.make(panel, final_narrow, bends));
    else out->append(rules.find(panel, rung_z));
  }
  out->size0 = out->gram[0][0];
  if (narrow) {  // the rules in z are too: each was judged on a coarser one
    List coarser{};
    for (const LossPanel& panel : panels) {
      const List part = value(panel);
      for (std::size_t j = 0; j < part.size(); ++j) coarser[j] += part[j];
    }
    const List finer = value_on(*out);
    List size = finer;
    for (double& of : size) of = std::abs(of);
    enlarge(size);
    double moved = 0;
    for (std::size_t j = 0; j < size.size(); ++j)
      if (size[j] > 0) moved = std::max(moved, std::abs(finer[j] - coarser[j]) / size[j]);
    error += 0.1 * moved;
  }
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
  const bool narrow = rules.narrow_in_z() && left_z > enough;
  const bool adapts = left_k > enough || narrow;
  for (int round = 0; round < (adapts ? most_rounds : 1); ++round) {
    if (adapts) {  // what is narrow is met by panels
      out.adapted = adapted_nodes(loss, rules, out.rungs.z, x, p, out.error);
      if (!narrow) out.error += left_z;
      out.nodes = out.adapted.get();
    }
    at = loss_newton(loss, *out.nodes, map, x, 1e-11, 40);
    iterations += at.iterations;
    if (!at.converged || apart(*out.nodes, at.x, x) < rules.steady()) break;
    x = at.x;
  }
  out.iterations = iterations;
  out.x = at.x, out.residual = at.residual, out.tail = at.tail, out.good = at.converged;
  return out;
}

/// On panels of its own, for a point that is all but solved on rules that are not dense enough.
/// Yields the last move.
template <class Map>
double to_panels(const Loss& loss, LossRules& rules, const Point<double>& p, Map& map,
                 LossFound& at) {
  const double before = at.error;
  double by = infinity;
  for (int round = 0; round < most_rounds; ++round) {
    const LossVector start = at.x;
    at.adapted = adapted_nodes(loss, rules, at.rungs.z, at.x, p, at.error);
    at.error += before;
    at.nodes = at.adapted.get();
    by = infinity;
    for (int pass = 0; pass < 4 && !(by < 1e-7); ++pass)
      by = newton_step(loss, *at.nodes, map, at, true);
    if (!(by < 3) || apart(*at.nodes, at.x, start) < rules.steady()) break;
  }
  at.residual = 10 * by * by;
  at.good = by < 1e-7;
  return by;
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

/// A point at a large lam from one at a smaller.
template <class MakeMap>
LossFound from_smaller_lam(const Loss& loss, LossRules& rules, const Point<double>& p,
                           MakeMap&& make) {
  return from_smaller_lam(
      p,
      [&](const Point<double>& q) {
        LossFound at = climb(loss, rules, q, make, nullptr);
        if (!at.good) return at;
        auto map = make(q);
        newton_step(loss, *at.nodes, map, at, true);
        return at;
      },
      [](LossFound at, double from, double to) {
        for (int j = 0; j < n_loss_unknowns; ++j) {  // by powers of lam
          const double power = at.by_lam[j] * from / at.x[j];
          if (std::abs(power) < 4) at.x[j] *= std::pow(to / from, power);
        }
        return at;
      },
      [&](const Point<double>& q, LossFound& at) {
        auto map = make(q);
        at.error = 0;
        return to_panels(loss, rules, q, map, at);
      });
}

/// Whether a solution hangs on labels that no sample of n has: whether fresh labels are met by
/// something else once those are left out.
template <class Map>
bool hangs_on_rare(const Loss& loss, const LossNodes& nodes, Map& map, const LossVector& x,
                   double all) {
  const double part = rare_part(loss, map.point());
  if (part == 0) return false;
  std::vector<std::pair<double, double>> labels;
  const auto each = [&](auto&& work) {
    for (const LossNode& at : nodes.nodes)
      for (Index i = at.first; i < at.last; ++i) work(at, i, at.density * nodes.density[i]);
  };
  each([&](const LossNode& at, Index i, double density) {
    labels.emplace_back(density, at.weight * nodes.w[i]);
  });
  const double rare = rare_density(std::move(labels), part);
  LossNodes often = nodes;
  often.series.reset();
  each([&](const LossNode&, Index i, double density) {
    if (density < rare) often.w[i] = 0;
  });
  if (all - averages_of(loss, often, x).square < small_part * all) return false;
  LossFound moved;
  moved.x = x;
  double by = 0;
  for (int pass = 0; pass < 3; ++pass) by = newton_step(loss, often, map, moved);
  const FreshLabel with = fresh_label(loss, nodes, x), without = fresh_label(loss, nodes, moved.x);
  return !(by < 3) || shows(with.missed, without.missed) || shows(with.loss, without.loss);
}

}  // namespace detail

}  // namespace srfx
