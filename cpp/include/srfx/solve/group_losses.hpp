// Batches of solves with a loss that is not the square, or with labels of +1 and -1, of K groups,
// any spikes and directions (THEORY section 19).
//
// A point is solved on coarse rules first. Then one Newton step each on ever denser rules in z, and
// in k, tells how far each of them has to go, as in losses.hpp. What a point meets depends on the
// point alone.
#pragma once

#include "srfx/solve/group_loss_panels.hpp"
#include "srfx/solve/groups.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <tuple>

namespace srfx {

/// As GroupBatchOutput, and what a loss is asked for beside it.
struct GroupLossOutput {
  GroupBatchOutput common;
  double *train_loss, *test_loss, *classification_error;
  /// Of bulks with overlaps: the spikes of each point, of one direction gamma of each group, of
  /// several that with each direction; and what is fitted along the row norms.
  double *r = nullptr, *c = nullptr, *gamma = nullptr, *chi = nullptr;
  /// As in LossOutput; null: not asked for.
  double* slopes = nullptr;
};

/// What a point's solution is.
struct GroupLossPoint {
  Status status = Status::max_iterations;
  dense::Vector x;
  LossObservables seen;
  double residual = infinity, quadrature_error = 0;
  int iterations = 0;
  const GroupLossNodes* nodes = nullptr;
  std::shared_ptr<const GroupLossNodes> own;  ///< they, if they are of this point alone
  dense::Matrix slopes;  ///< of the four observables (group_loss_slopes) by lam and alpha
};

namespace detail {

/// From nowhere: the point on coarse rules, then ever denser ones in z and in k.
template <class MakeMap>
GroupLossFound climb(const Loss& loss, GroupLossRules& rules, const std::vector<double>& shares,
                     const Point<double>& p, MakeMap&& make) {
  constexpr double enough = 1e-10;
  const bool penalised = p.inverse_d > 0;
  GroupLossFound out;
  const auto solve_on = [&](const GroupLossNodes& nodes, double tolerance) {
    const GroupLossLayout& l = nodes.layout;
    return solve_by_continuation<dense::Vector>(
        loss, p,
        [&](const Loss& of, const Point<double>& at, const dense::Vector& from, double until,
            int limit) {
          auto map = make(at);
          return group_loss_newton(of, nodes, map, from, until, limit);
        },
        [&](double v) {
          dense::Vector x = dense::Vector::Zero(l.size());
          for (int g = 0; g < l.groups; ++g) {
            x(index(l.groups, g, g)) = x(l.pairs() + g) = v * shares[g];
            x(l.q() + index(l.groups, g, g)) = x(l.q() + l.pairs() + g) = 0.5 * shares[g];
          }
          return x;
        },
        tolerance);
  };
  int base_k = 0, base_z = 0;
  GroupLossSolution at = solve_on(rules.find(0, 0, penalised), 1e-3);
  out.iterations = at.iterations;
  if (!at.converged) {  // perhaps the rules are too coarse for a solution
    base_k = 2, base_z = 1;
    at = solve_on(rules.find(base_k, base_z, penalised), 1e-3);
    out.iterations += at.iterations;
  }
  out.nodes = &rules.find(base_k, base_z, penalised);
  auto map = make(p);
  if (at.converged) {
    // Down one ladder, then the other: the first rung whose successor would not move the solution.
    // Rules in k are judged where that in z is good: a coarse one changes abruptly with k.
    int rung_k = base_k, rung_z = base_z;
    const GroupLossNodes* on = out.nodes;  // what `from` is in the features of
    const auto descend = [&](int& rung, int top, dense::Vector& from) {
      double previous = 0, classes = -1, left = 0;
      while (rung < top) {
        ++rung;
        if (!rules.affordable(rung_k, rung_z)) {
          --rung;
          break;
        }
        const GroupLossNodes& nodes = rules.find(rung_k, rung_z, penalised);
        from = carried(*on, nodes, from);
        on = &nodes;
        const GroupLossSystem system(loss, nodes, map, from);
        ++out.iterations;
        dense::Vector step;
        if (!(system.size < 0.5) || !system.newton_step(step)) {
          left = 1;
          continue;
        }
        const dense::Vector next = moved(nodes, system, from, step, 1);
        double move = apart(nodes, system, next, from);
        if (loss.margin) {
          const double now = group_loss_observables(loss, nodes, next, true).classification_error;
          if (classes >= 0) move = std::max(move, std::abs(now - classes));
          classes = now;
        }
        from = next;
        left = previous > 0 ? move * std::min(1.0, move / previous) : std::pow(move, 1.4);
        if (left < enough) break;
        previous = move;
      }
      return left;
    };
    dense::Vector x = at.x;
    double left_k = 0, left_z = 0;
    if (out.nodes->layout.across > 0 || loss.logistic())
      left_z = descend(rung_z, GroupLossNodesMaker::n_rungs_z - 1, x);
    left_k = descend(rung_k, rules.n_rungs_k() - 1, x);
    out.error = left_k + left_z, out.rung_z = rung_z;
    out.nodes = &rules.find(rung_k, rung_z, penalised);
    out.x = x = carried(*on, *out.nodes, x);
    if (left_k > 10 * enough && rules.takes_panels()) {  // what is narrow in k is met by panels
      out.error = left_z;
      to_panels(loss, rules, p, map, out);
      x = out.x;
    }
    const GroupLossLayout& l = out.nodes->layout;
    bool usable = true;
    for (int block : {0, l.q()})
      for (int g = 0; g < l.groups && usable; ++g)
        usable = x(block + index(l.groups, g, g)) > 0 && x(block + l.pairs() + g) > 0;
    if (usable) {
      at = group_loss_newton(loss, *out.nodes, map, x, 1e-11, 40);
      out.iterations += at.iterations;
    }
    if (!usable || !at.converged) {
      at = solve_on(*out.nodes, 1e-11);
      out.iterations += at.iterations;
    }
  }
  out.x = at.x, out.residual = at.residual, out.tail = at.tail, out.good = at.converged;
  return out;
}

}  // namespace detail

/// Solves one point: `rules` of its set, make(Point) a map of its bulk.
template <class MakeMap>
GroupLossPoint solve_group_loss_point(const Loss& loss, GroupLossRules& rules,
                                      const std::vector<double>& shares, const Point<double>& point,
                                      bool slopes, MakeMap&& make) {
  Point<double> p = point;
  if (loss.hard()) p.lam = 1;  // V goes as 1/lam, the readout does not know it
  auto map = make(p);
  GroupLossPoint out;
  GroupLossFound found;
  const auto observe = [&] {
    out.residual = found.residual;
    if (!found.good) return;
    const GroupLossLayout& l = found.nodes->layout;
    const double q2 = found.x.segment(l.q() + l.pairs(), l.groups).sum();
    out.seen = group_loss_observables(loss, *found.nodes, found.x);
    const double pull = p.lam / p.ratio * q2;
    out.residual = std::max(out.residual, std::abs(out.seen.pull - pull) /
                                              std::max(std::abs(pull), std::abs(out.seen.pull)));
  };
  found = detail::climb(loss, rules, shares, p, make);
  observe();
  const bool resolved = found.good && out.residual <= 1e-8 && found.error < 1e-6;
  if (!resolved && rules.takes_panels() && !loss.logistic() && !loss.hard() && !loss.square() &&
      p.lam > 0.3) {
    const int before = found.iterations;
    GroupLossFound other = from_smaller_lam(
        p,
        [&](const Point<double>& q) {
          GroupLossFound at = detail::climb(loss, rules, shares, q, make);
          auto there = make(q);
          if (at.good) at.good = detail::newton_step(loss, there, at) < 1e-3;
          return at;
        },
        [](const GroupLossFound& at, double from, double to) {
          return detail::ahead(at, from, to);
        },
        [&](const Point<double>& q, GroupLossFound& at) {
          auto there = make(q);
          at.error = 0;
          return detail::to_panels(loss, rules, q, there, at);
        });
    if (other.good || !found.good) found = std::move(other);
    found.iterations += before;
    observe();
  }
  const GroupLossNodes& nodes = *found.nodes;
  const GroupLossLayout& l = nodes.layout;
  out.x = found.x, out.iterations = found.iterations;
  out.nodes = found.nodes, out.own = found.adapted;
  out.quadrature_error = found.error + nodes.error;
  double scale = 0;
  for (int g = 0; g < l.groups; ++g)
    for (const int i : {detail::index(l.groups, g, g), l.pairs() + g})
      scale += nodes.mean_e[i] * found.x(l.q() + i);
  if (!found.good)
    out.status = scale > 1e8 || loss.hard() ? Status::diverged : Status::max_iterations;
  else if (!std::isfinite(found.x.sum() + out.seen.train_loss + out.seen.test_error))
    out.status = Status::non_finite;
  else if (!(out.residual <= 1e-8) || found.error > 0.1)  // no rule resolves the latter
    out.status = Status::max_iterations;
  else if (found.tail > 1e-3 || (loss.hard() && detail::rare_share(loss, nodes, found.x) > 1e-3) ||
           detail::hangs_on_rare(loss, map, found))
    out.status = Status::diverged;
  else out.status = Status::converged;
  if (slopes && out.status == Status::converged) {
    auto fresh = make(p);  // whose derivatives are those here
    const GroupLossSystem system(loss, nodes, fresh, found.x);
    dense::Matrix moves(l.size(), 2);
    moves.col(0) = system.solve(system.by_lam);
    moves.col(1) = system.solve(system.by_ratio) / point.alpha;
    if (loss.hard()) moves.col(0).setZero();
    out.slopes = group_loss_slopes(loss, nodes, found.x).lazyProduct(moves);
  }
  if (loss.hard())
    for (int i = 0; i < l.packed(); ++i) out.x(i) /= point.lam;
  return out;
}

/// What a batch is solved with beside its points: labels of each set, whose noise is theirs.
struct GroupLossInput : GroupBatchInput {
  Loss loss;
  std::vector<Labels> labels;
};

/// Solves every point of a batch, lam > 0: spiked models.
void solve_group_losses(const GroupLossInput& in, const GroupLossOutput& out, Interrupt& interrupt);

struct GroupStepInput;
/// The same of actual steps with several readout values: `steps` has what `sets` would have.
void solve_group_step_losses(const GroupStepInput& steps, const GroupLossInput& in,
                             const GroupLossOutput& out, Interrupt& interrupt);

class LayerSource;
/// The same after several steps, or one towards a target of several directions; no `sets`.
void solve_layer_losses(const LayerSource& source, const GroupLossInput& in,
                        const GroupLossOutput& out, Interrupt& interrupt);

struct MeasuredWeights;
/// The same of given weights, a set for each law of the labels.
void solve_weights_losses(const MeasuredWeights& weights, const GroupLossInput& in,
                          const GroupLossOutput& out, Interrupt& interrupt);

}  // namespace srfx
