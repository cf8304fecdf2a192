// The fixed-point equations of ridge regression on spiked random features (THEORY sections 3 to 5;
// CPD24, result 3.2).
//
//   w(k) = 1/(unit + u1 V1 + u2 V2),  a' = alpha/beta,  A = lam + a' E[u2 w],  B = a' E[u1 w],
//   (V1, V2) = (<D/S>, <1/S>)
//
// unit = 1 is ridge regression. The ridgeless limit below the interpolation threshold is the same
// system for v = lam V with unit = 0 and lam = 1 (THEORY section 3). Everything here is a pure
// function of one point, written for a scalar type V: double, SIMD lanes (one point a lane),
// complex numbers.
#pragma once

#include "srfx/bulk/bulk.hpp"
#include "srfx/gaussian/coefficients.hpp"

namespace srfx {

/// A node's coefficients as the scalar at hand. Kinds of nodes: NodeSet, those that move
/// (gradient.hpp, step_gradient.hpp).
template <class V> struct NodeValues {
  V u1, u2, mu0, column, kmu1, mu1, h, h1, rest, mu1h1;
};

/// The nodes that a point averages over, with E u1 and E u2 on them. Their weights sum to one: the
/// position of the interpolation threshold hangs on it.
struct NodeSet {
  std::vector<Node> nodes;
  double mean_u1 = 0, mean_u2 = 0;
  double kappa = 0;  ///< E mu0 k mu1/E mu0^2: Node::column = k mu1 - kappa mu0
  int n_across = 0;  ///< directions of the target beyond the first, and their h1: size x n_across
  std::vector<double> h1_across;
  std::vector<double> across_moves{};  ///< their derivatives; none: they stay

  NodeSet() = default;
  NodeSet(const Level& level, Index n)
      : nodes(level.nodes.begin(), level.nodes.begin() + n),
        n_across(level.n_across),
        h1_across(level.across.begin(), level.across.begin() + n * level.n_across) {
    double mass = 0, square = 0, product = 0;
    for (const Node& node : nodes) {
      mass += node.weight;
      square += node.weight * node.mu0 * node.mu0;
      product += node.weight * node.mu0 * node.kmu1;
    }
    if (square > 0) kappa = product / square;
    double left = 0, size = 0;
    for (Node& node : nodes) {
      node.column = node.kmu1 - kappa * node.mu0;
      left += node.weight * node.column * node.column;
      size += node.weight * (node.mu0 * node.mu0 + node.u1 + node.u2);
    }
    // Coefficients are known to some 1e-15 of rms(sigma).
    const double dust = 1e-29 * (1 + kappa * kappa) * size;
    for (Node& node : nodes) {
      if (left < dust)
        node.column = 0;  // k mu1 is a multiple of mu0 (linear sigma): what is left is rounding
      node.weight /= mass;
      mean_u1 += node.weight * node.u1;
      mean_u2 += node.weight * node.u2;
    }
  }
  Index size() const { return static_cast<Index>(nodes.size()); }
  double weight(Index i) const { return nodes[i].weight; }
  template <class V> SRFX_INLINE NodeValues<V> at(Index i) const {
    const Node& x = nodes[i];
    return {V(x.u1),  V(x.u2), V(x.mu0), V(x.column), V(x.kmu1),
            V(x.mu1), V(x.h),  V(x.h1),  V(x.rest),   V(x.mu1h1)};
  }
  /// h1 of direction m + 2.
  double across(Index i, int m) const { return h1_across[i * n_across + m]; }
  double across_move(Index i, int m) const {
    return across_moves.empty() ? 0 : across_moves[i * n_across + m];
  }
};

/// E[u_i w] and E[u_i u_j w^2].
template <class V> struct MapSums {
  V e1, e2, e11, e12, e22;
};

/// All averages that the map and its Newton system are made of, at one V.
template <class V> struct Averages : MapSums<V> {
  V w, u1w2, u2w2;  ///< E w, E[u1 w^2], E[u2 w^2]
};

/// The map V -> (<D/S>, <1/S>) at V, the spectral averages there and its Newton step.
template <class V> struct MapValue {
  SpectralAverages<V> bulk;
  MapSums<V> sums;
  V j11, j12, j21, j22, determinant;  ///< I - T M

  /// Solves (I - T M) x = b.
  void solve(V b1, V b2, V& x1, V& x2) const {
    const V inverse = V(1) / determinant;
    x1 = (j22 * b1 - j12 * b2) * inverse;
    x2 = (j11 * b2 - j21 * b1) * inverse;
  }
};

/// The averages at V over nodes of any kind, and whatever else each(i, node, w, weight w) gathers
/// on the way.
template <class V, class Nodes, class Each>
SRFX_INLINE Averages<V> averages_at(const Nodes& nodes, const V& unit, const V& v1, const V& v2,
                                    Each&& each) {
  const V zero(0);
  Averages<V> s{{zero, zero, zero, zero, zero}, zero, zero, zero};
  for (Index i = 0; i < nodes.size(); ++i) {
    const NodeValues<V> node = nodes.template at<V>(i);
    const V w = V(1) / (unit + node.u1 * v1 + node.u2 * v2);
    const V a = node.u1 * w, b = node.u2 * w, ww = times(nodes.weight(i), w);
    const V wa = times(nodes.weight(i), a), wb = times(nodes.weight(i), b);
    if constexpr (!carries_slope<V>) s.w += ww;  // for the step only
    s.e1 += wa;
    s.e2 += wb;
    s.u1w2 += wa * w;
    s.u2w2 += wb * w;
    s.e11 += wa * a;
    s.e12 += wa * b;
    s.e22 += wb * b;
    each(i, node, w, ww);
  }
  return s;
}
template <class V, class Nodes>
SRFX_INLINE MapSums<V> map_sums(const Nodes& nodes, const V& unit, const V& v1, const V& v2) {
  return averages_at(nodes, unit, v1, v2, [](Index, const NodeValues<V>&, const V&, const V&) {});
}

template <class V, class Bulk>
SRFX_INLINE MapValue<V> map_value(const Bulk& bulk, const Point<V>& p, const MapSums<V>& s) {
  const V ratio = p.ratio;
  MapValue<V> out;
  out.sums = s;
  out.bulk = bulk.averages(p.lam + ratio * s.e2, ratio * s.e1, p.beta);
  const SpectralAverages<V>& t = out.bulk;
  out.j11 = V(1) - ratio * (t.t11 * s.e11 + t.t12 * s.e12);
  out.j12 = -ratio * (t.t11 * s.e12 + t.t12 * s.e22);
  out.j21 = -ratio * (t.t12 * s.e11 + t.t22 * s.e12);
  out.j22 = V(1) - ratio * (t.t12 * s.e12 + t.t22 * s.e22);
  out.determinant = out.j11 * out.j22 - out.j12 * out.j21;
  return out;
}

/// The system (I - T M) x = c at the fixed point V, with all its digits even where I - T M is
/// nearly singular (small lam near the interpolation threshold).
///
/// With Vh = a' (E[u1 w], E[u2 w]), n = unit a' E[u w^2] and t2 = (t12, t22): M V = Vh - n because
/// w (unit + u V) = 1, and V = T Vh + lam t2 because S = A + B D. Hence (I - T M) V = lam t2 + T n
/// =: g, a sum of positive terms. The off-diagonal elements are -o12 and -o21, positive sums too,
/// and so are
///   j11 = (g1 + o12 V2)/V1,  j22 = (g2 + o21 V1)/V2,
///   det = (g1 g2 + g1 o21 V1 + g2 o12 V2)/(V1 V2):
/// no digit is lost to the cancellation in 1 - t11 M11 - t12 M12, nor in x for c > 0.
///
/// The Newton step (I - T M)^-1 F, F = y - V, is found from two combinations of the rows. Along Vh,
/// the left null vector of the singular limit: Vh^T (I - T M) = n + lam M t2 and Vh^T F = (1 - a')
/// + unit a' E[w] - lam y2, whose terms are small at the threshold where V and y are large. Across:
/// row 1/V1 - row 2/V2.
///
/// Numbers that carry a slope (V then moves as the solution does) go through the same sums, but
/// take no step.
template <class V> struct BalancedSystem {
  V j11, j22, o12, o21, inverse;
  V step1, step2;
  V amplification;  ///< what a relative error of the averages does to V, at most about

  BalancedSystem() = default;
  BalancedSystem(const Point<V>& p, const MapValue<V>& map, const V& v1, const V& v2,
                 const Averages<V>& s) {
    const SpectralAverages<V>& t = map.bulk;
    const V n1 = p.unit * p.ratio * s.u1w2, n2 = p.unit * p.ratio * s.u2w2;
    const V g1 = p.lam * t.t12 + t.t11 * n1 + t.t12 * n2,
            g2 = p.lam * t.t22 + t.t12 * n1 + t.t22 * n2;
    o12 = -map.j12, o21 = -map.j21;
    const V r1 = V(1) / v1, r2 = V(1) / v2;
    j11 = (g1 + o12 * v2) * r1;
    j22 = (g2 + o21 * v1) * r2;
    inverse = v1 * v2 / (g1 * g2 + g1 * o21 * v1 + g2 * o12 * v2);
    if constexpr (!carries_slope<V>) {
      const V vh1 = p.ratio * s.e1, vh2 = p.ratio * s.e2, f1 = t.y1 - v1, f2 = t.y2 - v2;
      const V a1 = n1 + p.lam * p.ratio * (s.e11 * t.t12 + s.e12 * t.t22);
      const V a2 = n2 + p.lam * p.ratio * (s.e12 * t.t12 + s.e22 * t.t22);
      const V b1 = j11 * r1 + o21 * r2, b2 = o12 * r1 + j22 * r2;  // across: (b1, -b2)
      const V excess = V(1) - p.ratio, free = p.unit * p.ratio * s.w, ridge = p.lam * t.y2;
      const V size = vh1 * v1 + vh2 * v2;
      const auto near_threshold = simd::abs(excess) + free + ridge < size;
      const V along = simd::select(near_threshold, excess + free - ridge, vh1 * f1 + vh2 * f2);
      const V across = f1 * r1 - f2 * r2;
      const V scale = V(1) / (a1 * b2 + a2 * b1);
      step1 = (along * b2 + a2 * across) * scale;
      step2 = (along * b1 - a1 * across) * scale;
      const V rounded = simd::min(free + ridge, size);
      amplification = scale * simd::max(rounded * b2 * r1 + a2 * r1, rounded * b1 * r2 + a1 * r2);
    }
  }

  void solve(const V& c1, const V& c2, V& x1, V& x2) const {
    x1 = (j22 * c1 + o12 * c2) * inverse;
    x2 = (j11 * c2 + o21 * c1) * inverse;
  }
};

}  // namespace srfx
