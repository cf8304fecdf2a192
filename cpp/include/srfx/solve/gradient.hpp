// Exact derivatives of the errors in every parameter, by implicit differentiation at the solution
// (no differences).
//
// At the fixed point V = y(V, p): (I - T M) dV = dy at fixed V; then the linear part in dual
// numbers (scalar.hpp) at (V, dV). The coefficients are differentiated under the integral: by
// Stein's lemma every derivative is again a moment of sigma itself, e = sigma - mu0 - mu1 z, u2 = E
// e^2 (kinks and jumps are harmless, no sigma' is needed):
//
//   d/dr:  mu0' = (k/s) mu1            mu1' = (k/s) E (z^2-1) sigma             u2' = (k/s) E z
//   e^2,           s = sqrt(c) d/dc:  mu0' = E (z^2-1) sigma/2c   mu1' = E (z^3-2z) sigma/2c
//          u2' = E (z^2-1) e^2/2c d/dgamma: h' = (k/rho) h1 - (gamma/rho^2) E (z^2-1) s*, h1' =
//          (k/rho) E (z^2-1) s* - (gamma/rho^2) E (z^3-2z) s*,
//             rest' = (k/rho) E z e^2 - (gamma/rho^2) E (z^2-1) e^2,            e = s* - h - h1 z
//
// Of a target of several directions the alignment's length moves: what the others do with the first
// axis are functions of it (marginal.hpp), whose means move like h.
//
// h' loses digits like rho^-2: for rho < 0.01 and a smooth target it is k E s*' - gamma E s*''
// (heat_slope below). The errors depend on h1 through squares only, h1^2 = rho^2 (E s*')^2: at rho
// = 0 the derivative from the inside is that of a tiny h1 = rho E s*'.
#pragma once

#include "srfx/gaussian/higher_moments.hpp"
#include "srfx/solve/scan.hpp"

namespace srfx {

/// What can be differentiated by. The first four leave the coefficients alone.
enum class Direction : std::int8_t {
  lam = 0,
  alpha = 1,
  beta = 2,
  noise = 3,
  r = 4,
  c = 5,
  gamma = 6
};

/// Derivatives of the coefficients at one node.
struct NodeTangent {
  double mu0 = 0, mu1 = 0, k_mu1 = 0, u2 = 0, h = 0, h1 = 0, rest = 0;
};

namespace detail {

/// The folding of Coefficients::append for the target's part, differentiated.
inline void fold_target(const Coefficients& coefficients, const Dual<double> t[3],
                        const Dual<double> q[3], NodeTangent& out) {
  const double parity = coefficients.sigma_shape().parity;
  const auto half_sum = [](Dual<double> a, Dual<double> b) { return Dual<double>(0.5) * (a + b); };
  const auto half_difference = [](Dual<double> a, Dual<double> b) {
    return Dual<double>(0.5) * (a - b);
  };
  const Dual<double> p(parity), q0 = p * q[0], q1 = p * q[1];
  out.h = half_sum(t[0], q0).d;
  out.h1 = half_difference(t[1], q1).d;
  const Dual<double> other = half_difference(t[0], q0), other1 = half_sum(t[1], q1);
  out.rest = (half_sum(t[2], q[2]) + other * other + other1 * other1).d;
}

}  // namespace detail

/// The smallest rho at which the errors can be differentiated in gamma, for a target that is not
/// smooth.
inline constexpr double least_rho = 1e-4;

/// Derivatives of the coefficients of a rule's nodes along r, c or gamma; h1 of the nodes may be
/// replaced (see above), and the h1 of further directions get theirs.
inline std::vector<NodeTangent> node_tangents(const Coefficients& coefficients, const Level& level,
                                              Direction direction, NodeSet& set) {
  const Index n = set.size();
  const SpikeParameters& p = coefficients.parameters();
  std::vector<NodeTangent> out(n);
  std::vector<double> means(n);
  std::vector<HigherMoments> moments;
  if (direction == Direction::r || direction == Direction::c) {
    const double sd = p.sd();
    for (Index i = 0; i < n; ++i) means[i] = p.r * level.k[i];
    higher_moments(coefficients.sigma(), coefficients.sigma_rule(), sd, means, moments);
    bool no_mean = true;  // counts as zero: stays zero
    for (const Node& node : set.nodes) no_mean = no_mean && node.mu0 == 0;
    for (Index i = 0; i < n; ++i) {
      const HigherMoments& m = moments[i];
      const double along = level.k[i] / sd, across = 0.5 / p.c;
      if (direction == Direction::r)
        out[i].mu0 = along * set.nodes[i].mu1, out[i].mu1 = along * m.second,
        out[i].u2 = along * m.skew;
      else
        out[i].mu0 = across * m.second, out[i].mu1 = across * m.third,
        out[i].u2 = across * m.spread;
      out[i].k_mu1 = level.k[i] * out[i].mu1;
      if (no_mean) out[i].mu0 = 0;
      if (set.nodes[i].u2 == 0) out[i].u2 = 0;
    }
    return out;
  }
  const double rho = p.rho(), gamma = p.gamma;
  const Shape& shape = coefficients.target_shape();
  const bool narrow = shape.smooth && rho < 0.01;
  if (!narrow && rho < least_rho)
    throw std::domain_error("the derivative in gamma at |gamma| = 1 needs a smooth target");
  const double width = std::max(rho, 1e-8);
  // Moments of a function of the target's argument and their derivatives at slope gamma times k.
  const auto duals = [&](const Function& f, double sign,
                         std::vector<std::array<Dual<double>, 3>>& values) {
    values.resize(n);
    for (Index i = 0; i < n; ++i) means[i] = gamma * sign * level.k[i];
    std::vector<double> slope, curvature;
    if (narrow) heat_slope(f, rho, means, slope, curvature);
    if (rho > 1e-6) {
      higher_moments(f, coefficients.target_rule(), rho, means, moments);
    } else {
      std::vector<double> at(n);
      f.evaluate(means.data(), at.data(), n);
      moments.assign(n, {});
      for (Index i = 0; i < n; ++i) moments[i].m0 = at[i];
    }
    for (Index i = 0; i < n; ++i) {
      const HigherMoments& m = moments[i];
      const double k = sign * level.k[i], along = k / width, across = gamma / (width * width);
      std::array<Dual<double>, 3>& v = values[i];
      v[0] = {m.m0,
              narrow ? k * slope[i] - gamma * curvature[i] : along * m.m1 - across * m.second};
      if (rho > 1e-6) {
        v[1] = {m.m1, along * m.second - across * m.third};
        v[2] = {m.m2, along * m.skew - across * m.spread};
      } else {
        v[1] = {width * slope[i], -gamma / width * slope[i]};
        v[2] = {0, 0};
      }
    }
  };
  std::vector<std::array<Dual<double>, 3>> t, q;
  duals(coefficients.target(), 1, t);
  if (coefficients.folded()) duals(coefficients.target(), -1, q);
  for (Index i = 0; i < n; ++i) {
    Node& node = set.nodes[i];
    if (coefficients.folded()) {
      detail::fold_target(coefficients, t[i].data(), q[i].data(), out[i]);
      if (rho <= 1e-6) node.h1 = 0.5 * (t[i][1].v - coefficients.sigma_shape().parity * q[i][1].v);
    } else {
      out[i].h = t[i][0].d, out[i].h1 = t[i][1].d, out[i].rest = t[i][2].d;
      if (rho <= 1e-6) node.h1 = t[i][1].v;
    }
    node.mu1h1 = node.mu1 * node.h1;
  }
  const int n_across = coefficients.n_across();
  const Dual<double> half(0.5), parity(coefficients.sigma_shape().parity);
  set.across_moves.assign(static_cast<std::size_t>(n * n_across), 0.0);
  for (int m = 0; m <= n_across && n_across > 0; ++m) {
    duals(coefficients.part(m), 1, t);
    if (coefficients.folded()) duals(coefficients.part(m), -1, q);
    for (Index i = 0; i < n; ++i) {
      const auto square = [](const std::array<Dual<double>, 3>& x) { return x[1] * x[1] + x[2]; };
      Dual<double> rest = m == n_across ? t[i][0] : square(t[i]), mean = t[i][0];
      if (coefficients.folded()) {
        rest = half * (rest + (m == n_across ? q[i][0] : square(q[i])));
        const Dual<double> lost = half * (t[i][0] + parity * q[i][0]);
        if (m < n_across) rest = rest + lost * lost;
        mean = half * (t[i][0] - parity * q[i][0]);
      }
      out[i].rest += rest.d;
      if (m < n_across) set.across_moves[i * n_across + m] = mean.d;
    }
  }
  return out;
}

/// A rule's nodes whose coefficients move; still without `tangents`. Their second column is k mu1 -
/// kappa mu0, derivatives too, for the kappa that makes it orthogonal to mu0 at the point at hand,
/// penalties included: near r = 0 that of the rule is of order 1/r.
template <class V> struct MovingNodeSet {
  const NodeSet& set;
  const NodeTangent* tangents;
  V turn, kappa;  ///< from the column of the rule, and from k mu1
  Dual<V> mean_u1, mean_u2;
  int n_across;

  MovingNodeSet(const NodeSet& nodes, const NodeTangent* moves)
      : set(nodes),
        tangents(moves),
        turn(0),
        kappa(nodes.kappa),
        mean_u1(V(nodes.mean_u1)),
        mean_u2(V(nodes.mean_u2)),
        n_across(nodes.n_across) {
    double moved1 = 0, moved2 = 0;
    for (Index i = 0; i < (tangents ? size() : 0); ++i)
      moved1 += weight(i) * 2 * set.nodes[i].mu1 * tangents[i].mu1,
          moved2 += weight(i) * tangents[i].u2;
    mean_u1.d = V(moved1), mean_u2.d = V(moved2);
  }
  Index size() const { return set.size(); }
  double weight(Index i) const { return set.weight(i); }
  Dual<V> across(Index i, int m) const {
    return {V(set.across(i, m)), V(tangents ? set.across_move(i, m) : 0.0)};
  }
  template <class D> SRFX_INLINE NodeValues<D> at(Index i) const {
    const Node& x = set.nodes[i];
    NodeValues<D> out = set.at<D>(i);
    out.column = V(x.column) - turn * V(x.mu0);
    if (!tangents) return out;
    const NodeTangent& t = tangents[i];
    out.u1.d = V(2 * x.mu1 * t.mu1), out.u2.d = V(t.u2), out.mu0.d = V(t.mu0), out.mu1.d = V(t.mu1),
    out.kmu1.d = V(t.k_mu1);
    out.column.d = V(t.k_mu1) - kappa * V(t.mu0);
    out.h.d = V(t.h), out.h1.d = V(t.h1), out.rest.d = V(t.rest),
    out.mu1h1.d = V(x.mu1 * t.h1 + t.mu1 * x.h1);
    return out;
  }
};

/// Derivatives of the errors along one direction.
template <class V> struct ErrorTangent {
  V test_error, train_error;
};

/// Derivatives along one direction at the solution (v1, v2). `p` carries the derivatives of the
/// parameters, `tangents` those of the coefficients (or none); `weights` is room for one dual value
/// a node.
template <class V, class Bulk>
ErrorTangent<V> errors_along(const Bulk& bulk, const Point<Dual<V>>& p, const NodeSet& set,
                             const NodeTangent* tangents, V v1, V v2, Dual<V>* weights) {
  using D = Dual<V>;
  MovingNodeSet<V> nodes(set, tangents);
  // The fixed point: I - T M with all its digits, and dy at fixed V.
  const Point<V> at{p.alpha.v, p.beta.v, p.lam.v, p.noise.v, p.inverse_d.v, p.unit.v, p.ratio.v};
  V s00(0), s01(0), d1(0), d2(0);
  const Averages<V> s = averages_at(
      set, at.unit, v1, v2, [&](Index i, const NodeValues<V>& node, const V& w, const V& ww) {
        s00 += ww * node.mu0 * node.mu0, s01 += ww * node.mu0 * node.column;
        if (!tangents) return;
        const NodeValues<D> moving = nodes.template at<D>(i);
        const D at_fixed(ww, -(ww * w) * (moving.u1.d * v1 + moving.u2.d * v2));
        d1 += (at_fixed * moving.u1).d, d2 += (at_fixed * moving.u2).d;
      });
  const D e1(s.e1, d1), e2(s.e2, d2);
  const MapValue<V> map = map_value(bulk, at, s);
  const BalancedSystem<V> system(at, map, v1, v2, s);
  const V ridge_m = at.inverse_d / (at.alpha * map.bulk.y2),
          inverse0 = simd::select(s00 > V(0), V(1) / (s00 + ridge_m), V(0));
  nodes.turn = (s01 - V(set.kappa) * ridge_m) * inverse0;
  nodes.kappa = (s01 + V(set.kappa) * s00) * inverse0;
  const SpectralAverages<D> y = bulk.averages(p.lam + p.ratio * e2, p.ratio * e1, p.beta);
  V dv1, dv2;
  system.solve(y.y1.d, y.y2.d, dv1, dv2);
  const Order<D> moving = linear_part(bulk, p, nodes, D(v1, dv1), D(v2, dv2), weights);
  return {moving.test_error.d, moving.train_error.d};
}

/// Where derivatives go: one column of n_points a direction.
struct GradientOutput {
  std::vector<double*> test_error, train_error;
};

namespace detail {

/// A point that moves along one direction.
template <class V> Point<Dual<V>> moving_point(const Point<V>& p, Direction along) {
  const V one(1), zero(0);
  const auto at = [&](V value, Direction d) { return Dual<V>(value, along == d ? one : zero); };
  Point<Dual<V>> out{at(p.alpha, Direction::alpha),
                     at(p.beta, Direction::beta),
                     at(p.lam, Direction::lam),
                     at(p.noise, Direction::noise),
                     {p.inverse_d},
                     {p.unit},
                     {p.ratio}};
  out.ratio.d = (out.alpha / out.beta).d;
  return out;
}

}  // namespace detail

/// The nodes of a rule and, as they are asked for, their derivatives.
struct TangentRule {
  const Level* level = nullptr;
  std::array<NodeSet, 7> nodes;
  std::array<std::vector<NodeTangent>, 7> tangents;

  const NodeTangent* find(const Coefficients& coefficients, const NodeSet& set, Direction along) {
    const auto i = static_cast<std::size_t>(along);
    if (nodes[i].nodes.empty()) {
      nodes[i] = set;
      if (along >= Direction::r) tangents[i] = node_tangents(coefficients, *level, along, nodes[i]);
    }
    return along >= Direction::r ? tangents[i].data() : nullptr;
  }
};

/// Derivatives of both errors at the solutions (v1, v2) of a batch, along several directions.
/// Points whose V is not finite and positive get NaN.
template <class Bulk>
void gradient_batch(const Bulk& bulk, const BatchInput& in, const double* v1, const double* v2,
                    const std::vector<Direction>& directions, const GradientOutput& out,
                    Interrupt& interrupt) {
  const PointsBySet by_set(in);
  std::vector<PointBlock> blocks;
  for (Index set = 0; set < static_cast<Index>(in.sets.size()); ++set)
    cut_set(by_set, set, 16384, blocks);
  const int n_threads = std::max(1, in.n_threads);
  struct Room {
    CoefficientScratch scratch;
    std::vector<Dual<Pack>> weights;
    std::vector<std::pair<int, Index>> points;
  };
  std::vector<Room> rooms(n_threads);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  parallel_for(
      static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index which, int thread) {
        const PointBlock& block = blocks[which];
        Room& room = rooms[thread];
        SetCoefficients own;
        own.make(*in.sigma, in, block.set, in.sets[block.set], room.scratch);
        Coefficients& coefficients = *own.of;
        LevelTable table(coefficients);
        room.points.clear();
        for (Index j = block.begin; j < block.end; ++j) {
          const Index i = by_set.order[j];
          const bool usable = v1[i] > 0 && v2[i] > 0 && v1[i] < infinity && v2[i] < infinity;
          if (usable) {
            room.points.emplace_back(class_of(v1[i], v2[i]), i);
          } else {
            for (std::size_t d = 0; d < directions.size(); ++d)
              out.test_error[d][i] = out.train_error[d][i] = nan;
          }
        }
        std::stable_sort(room.points.begin(), room.points.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
        for (std::size_t from = 0; from < room.points.size();) {
          std::size_t to = from;
          while (to < room.points.size() && room.points[to].first == room.points[from].first) ++to;
          const Selection& rule = table.find(room.points[from].first);
          TangentRule tangents;
          tangents.level = rule.level;
          if (static_cast<Index>(room.weights.size()) < rule.nodes.size())
            room.weights.resize(rule.nodes.size());
          for (std::size_t first = from; first < to; first += Pack::size) {
            Index points[Pack::size];
            const int count = static_cast<int>(std::min<std::size_t>(Pack::size, to - first));
            for (int lane = 0; lane < count; ++lane)
              points[lane] = room.points[first + lane].second;
            const Point<Pack> p = gather<Pack>(in, points, count);
            const Pack w1 = gather<Pack>(v1, points, count), w2 = gather<Pack>(v2, points, count);
            for (std::size_t d = 0; d < directions.size(); ++d) {
              const NodeTangent* of_nodes = tangents.find(coefficients, rule.nodes, directions[d]);
              const ErrorTangent<Pack> slope =
                  errors_along(bulk, detail::moving_point(p, directions[d]),
                               tangents.nodes[static_cast<std::size_t>(directions[d])], of_nodes,
                               w1, w2, room.weights.data());
              for (int lane = 0; lane < count; ++lane) {
                out.test_error[d][points[lane]] = slope.test_error[lane];
                out.train_error[d][points[lane]] = slope.train_error[lane];
              }
            }
          }
          from = to;
        }
      });
}

// Compiled once: cpp/src/isotropic.cpp.
extern template void gradient_batch(const MarchenkoPastur&, const BatchInput&, const double*,
                                    const double*, const std::vector<Direction>&,
                                    const GradientOutput&, Interrupt&);

}  // namespace srfx
