// The fixed-point equations of ridge regression on spiked random features (THEORY sections 3 to 5; CPD24, result 3.2).
//
//   w(k) = 1/(unit + u1 V1 + u2 V2),  a' = alpha/beta,  A = lam + a' E[u2 w],  B = a' E[u1 w],  (V1, V2) = (<D/S>, <1/S>)
//
// unit = 1 is ridge regression. The ridgeless limit below the interpolation threshold is the same system for
// v = lam V with unit = 0 and lam = 1 (THEORY section 3). Everything here is a pure function of one point, written for a
// scalar type V: double, SIMD lanes (one point a lane), complex numbers.
#pragma once

#include "bulk.hpp"
#include "coefficients.hpp"

namespace srfx {

/// One point of parameter space.
template <class V> struct Point {
  V alpha, beta, lam, noise, inverse_d;
  V unit;   ///< 1; 0 for the ridgeless limit in v = lam V
  V ratio;  ///< a' = alpha/beta
};

/// The nodes that a point averages over, with E u1 and E u2 on them. Their weights sum to one: the position of the
/// interpolation threshold hangs on it.
struct NodeSet {
  std::vector<Node> nodes;
  double mean_u1 = 0, mean_u2 = 0;
  double kappa = 0;  ///< E mu0 k mu1/E mu0^2: Node::column = k mu1 - kappa mu0

  NodeSet() = default;
  NodeSet(const Level& level, Index n) : nodes(level.nodes.begin(), level.nodes.begin() + n) {
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
      if (left < dust) node.column = 0;  // k mu1 is a multiple of mu0 (linear sigma): what is left is rounding
      node.weight /= mass;
      mean_u1 += node.weight * node.u1;
      mean_u2 += node.weight * node.u2;
    }
  }
  Index size() const { return static_cast<Index>(nodes.size()); }
};

/// E[u_i w] and E[u_i u_j w^2].
template <class V> struct MapSums {
  V e1, e2, e11, e12, e22;
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

template <class V> SRFX_INLINE MapSums<V> map_sums(const NodeSet& set, V unit, V v1, V v2) {
  MapSums<V> s{V(0), V(0), V(0), V(0), V(0)};
  for (const Node& node : set.nodes) {
    const V w = V(1) / (unit + V(node.u1) * v1 + V(node.u2) * v2);
    const V a = V(node.u1) * w, b = V(node.u2) * w;
    const V wa = V(node.weight) * a, wb = V(node.weight) * b;
    s.e1 += wa;
    s.e2 += wb;
    s.e11 += wa * a;
    s.e12 += wa * b;
    s.e22 += wb * b;
  }
  return s;
}

template <class V, class Bulk> SRFX_INLINE MapValue<V> map_value(const Bulk& bulk, const Point<V>& p, const MapSums<V>& s) {
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

/// The system (I - T M) x = c at the fixed point V, with all its digits even where I - T M is nearly singular (small lam
/// near the interpolation threshold).
///
/// With Vh = a' (E[u1 w], E[u2 w]), n = unit a' E[u w^2] and t2 = (t12, t22): M V = Vh - n because w (unit + u V) = 1, and
/// V = T Vh + lam t2 because S = A + B D. Hence (I - T M) V = lam t2 + T n =: g, a sum of positive terms. The
/// off-diagonal elements are -o12 and -o21, positive sums too, and so are
///   j11 = (g1 + o12 V2)/V1,  j22 = (g2 + o21 V1)/V2,  det = (g1 g2 + g1 o21 V1 + g2 o12 V2)/(V1 V2):
/// no digit is lost to the cancellation in 1 - t11 M11 - t12 M12, nor in x for c > 0.
///
/// The Newton step (I - T M)^-1 F, F = y - V, is found from two combinations of the rows. Along Vh, the left null vector
/// of the singular limit: Vh^T (I - T M) = n + lam M t2 and Vh^T F = (1 - a') + unit a' E[w] - lam y2, whose terms are
/// small at the threshold where V and y are large. Across: row 1/V1 - row 2/V2.
template <class V> struct BalancedSystem {
  V j11, j22, o12, o21, inverse;
  V step1, step2;
  V amplification;  ///< what a relative error of the averages does to V, at most about

  BalancedSystem() = default;
  BalancedSystem(const Point<V>& p, const MapValue<V>& map, V v1, V v2, V mean_w, V mean_u1w2, V mean_u2w2) {
    const SpectralAverages<V>& t = map.bulk;
    const MapSums<V>& s = map.sums;
    const V n1 = p.unit * p.ratio * mean_u1w2, n2 = p.unit * p.ratio * mean_u2w2;
    const V g1 = p.lam * t.t12 + t.t11 * n1 + t.t12 * n2, g2 = p.lam * t.t22 + t.t12 * n1 + t.t22 * n2;
    o12 = -map.j12, o21 = -map.j21;
    const V r1 = V(1) / v1, r2 = V(1) / v2;
    j11 = (g1 + o12 * v2) * r1;
    j22 = (g2 + o21 * v1) * r2;
    inverse = v1 * v2 / (g1 * g2 + g1 * o21 * v1 + g2 * o12 * v2);

    const V vh1 = p.ratio * s.e1, vh2 = p.ratio * s.e2, f1 = t.y1 - v1, f2 = t.y2 - v2;
    const V a1 = n1 + p.lam * p.ratio * (s.e11 * t.t12 + s.e12 * t.t22);
    const V a2 = n2 + p.lam * p.ratio * (s.e12 * t.t12 + s.e22 * t.t22);
    const V b1 = j11 * r1 + o21 * r2, b2 = o12 * r1 + j22 * r2;  // across: (b1, -b2)
    const V excess = V(1) - p.ratio, free = p.unit * p.ratio * mean_w, ridge = p.lam * t.y2;
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

  void solve(V c1, V c2, V& x1, V& x2) const {
    x1 = (j22 * c1 + o12 * c2) * inverse;
    x2 = (j11 * c2 + o21 * c1) * inverse;
  }
};

/// What a solve yields at one point, in the unit-bulk convention of THEORY section 3.
template <class V> struct Order {
  V test_error, train_error, m, theta, psi, q1, q2, v1, v2;
  V residual;  ///< largest relative defect of the undamped equations, and relative Newton step, at this solution
  V amplification;  ///< >= 1: how much a relative error of the averages grows in V
};

/// The linear part at given V: order parameters, errors, and how well the whole system is satisfied.
///
/// (m, theta) minimise E[w (h - mu0 m - k mu1 theta)^2] + theta^2/(alpha y2) [+ m^2/(alpha d y2)]. The columns mu0 and
/// k mu1 are nearly parallel at small r, where the normal equations would lose all digits: the second column is k mu1 less
/// its projection on mu0 at w = 1 (NodeSet::column), and where the weights w tilt it back, Gram-Schmidt on the node values.
/// The noise-free error at a node is R' = rest + (h - C)^2 + (h1 - mu1 psi)^2 + u1 q1' + u2 q2 with q1' = q1 - psi^2:
/// every term is non-negative, so small errors keep their digits. `weights` is room for one value a node.
template <class V, class Bulk>
Order<V> linear_part(const Bulk& bulk, const Point<V>& p, const NodeSet& set, V v1, V v2, V* weights) {
  MapSums<V> s;
  V s00, s01, s11, s0h, s1h, sh1, f0, f1, f2;
  const auto average = [&] {
    s = {V(0), V(0), V(0), V(0), V(0)};
    s00 = s01 = s11 = s0h = s1h = sh1 = f0 = f1 = f2 = V(0);
    for (Index i = 0; i < set.size(); ++i) {
      const Node& node = set.nodes[i];
      const V w = V(1) / (p.unit + V(node.u1) * v1 + V(node.u2) * v2);
      weights[i] = w;
      const V a = V(node.u1) * w, b = V(node.u2) * w;
      const V ww = V(node.weight) * w;
      const V wa = V(node.weight) * a, wb = V(node.weight) * b;
      f0 += ww;
      s.e1 += wa;
      s.e2 += wb;
      f1 += wa * w;
      f2 += wb * w;
      s.e11 += wa * a;
      s.e12 += wa * b;
      s.e22 += wb * b;
      const V w0 = ww * V(node.mu0), w1 = ww * V(node.column);
      s00 += w0 * V(node.mu0);
      s01 += w0 * V(node.column);
      s0h += w0 * V(node.h);
      s11 += w1 * V(node.column);
      s1h += w1 * V(node.h);
      sh1 += ww * V(node.mu1h1);
    }
  };
  MapValue<V> map;
  BalancedSystem<V> system;
  const auto step_size = [&] { return simd::max(simd::abs(system.step1) / v1, simd::abs(system.step2) / v2); };
  // The balanced step sees errors of V that cancellation hid from the iteration: take it where it is worth it. All passes
  // share one piece of code: a second copy may be rounded otherwise, and the other lanes of a pack decide on the passes.
  for (int pass = 0;; ++pass) {
    average();
    map = map_value(bulk, p, s);
    system = BalancedSystem<V>(p, map, v1, v2, f0, f1, f2);
    const V step = step_size();
    const auto worth = (step > V(2e-13)) & (step < V(0.1));
    if (pass == 4 || !simd::any(worth)) break;
    v1 = simd::select(worth, v1 + system.step1, v1);
    v2 = simd::select(worth, v2 + system.step2, v2);
  }
  const SpectralAverages<V>& t = map.bulk;
  const V ratio = p.ratio;
  const V ridge_theta = V(1) / (p.alpha * t.y2);
  const V ridge_m = p.inverse_d * ridge_theta;

  // In terms of m0 = m + lean theta the penalties are those of two columns made orthogonal: mu0, and column - slope mu0
  // with n11 its square and n1h its product with what mu0 leaves of h.
  const V norm0 = s00 + ridge_m;
  const V inverse0 = simd::select(norm0 > V(0), V(1) / norm0, V(0));  // mu0 = 0: no mean component
  const V slope = (s01 - V(set.kappa) * ridge_m) * inverse0, m0 = s0h * inverse0;
  V n11 = s11 - slope * (V(2) * s01 - slope * s00), n1h = s1h - slope * s0h - m0 * (s01 - slope * s00);
  const auto tilted = n11 < V(1e-2) * s11;
  if (simd::any(tilted)) {
    V e11(0), e1h(0);
    for (Index i = 0; i < set.size(); ++i) {
      const Node& node = set.nodes[i];
      const V column = V(node.column) - slope * V(node.mu0);
      const V wc = V(node.weight) * weights[i] * column;
      e11 += wc * column;
      e1h += wc * (V(node.h) - m0 * V(node.mu0));
    }
    n11 = simd::select(tilted, e11, n11);
    n1h = simd::select(tilted, e1h, n1h);
  }
  Order<V> out;
  out.v1 = v1;
  out.v2 = v2;
  const V lean = (s01 + V(set.kappa) * s00) * inverse0;  // slope + kappa; m = m0 - lean theta
  out.theta = (n1h + lean * m0 * ridge_m) / (n11 + lean * lean * ridge_m + ridge_theta);
  out.m = m0 - lean * out.theta;
  const V psi_hat = ratio * sh1;
  out.psi = p.beta * t.y1 * psi_hat;

  V r0(0), r1(0), r2(0), error(0), loss(0), g0(0), g1(0);
  for (Index i = 0; i < set.size(); ++i) {
    const Node& node = set.nodes[i];
    const V w = weights[i], omega(node.weight);
    const V column = V(node.column) - slope * V(node.mu0);
    const V e = V(node.h) - m0 * V(node.mu0) - out.theta * column;
    const V f = V(node.h1) - V(node.mu1) * out.psi;
    const V r = V(node.rest) + e * e + f * f;
    const V ww = omega * w, w2 = ww * w, noisy = r + p.noise;
    error += omega * r;
    const V w2r = w2 * noisy;
    r0 += w2r;
    r1 += V(node.u1) * w2r;
    r2 += V(node.u2) * w2r;
    loss += ww * noisy;
    const V we = ww * e;
    g0 += we * V(node.mu0);
    g1 += we * column;
  }
  // (I - T M)(q1', q2) = T (a' E[u1 R0' w^2], a' E[u2 R0' w^2] + theta_hat^2 beta + ..) + (beta psi_hat^2 t11c, beta psi_hat^2 t12)
  const V inverse_y2 = V(1) / t.y2;
  const V psi_source = p.beta * psi_hat * psi_hat;
  const V n1 = ratio * r1;
  const V n2 = ratio * r2 + (out.theta * out.theta + p.inverse_d * out.m * out.m) * inverse_y2 * inverse_y2 / p.beta;
  V q1c, q2;
  system.solve(t.t11 * n1 + t.t12 * n2 + t.t11c * psi_source, t.t12 * (n1 + psi_source) + t.t22 * n2, q1c, q2);
  out.q1 = q1c + out.psi * out.psi;
  out.q2 = q2;
  out.test_error = error + V(set.mean_u1) * q1c + V(set.mean_u2) * q2;
  const V train = r0 + f1 * q1c + f2 * q2;
  out.train_error = p.unit * train;

  // Defects, relative: the two nonlinear equations; the stationarity of (m, theta) and the energy identity
  // E[R w^2] + (lam/a') q2 = E[w (hh - C h - h1 mu1 psi)], in units of the terms that cancel in it.
  const V pull_m = out.m * ridge_m, explained = out.psi * (sh1 - out.psi * s.e1);
  const V energy = loss + m0 * g0 + out.theta * g1 + explained;
  const V defect_energy = simd::abs(out.train_error + p.lam / ratio * q2 - energy);
  const V defect_linear = simd::abs(m0 * (g0 - pull_m)) + simd::abs(out.theta * (g1 - out.theta * ridge_theta + lean * pull_m));
  const V size = loss + simd::abs(m0 * s0h) + simd::abs(out.theta * n1h) + simd::abs(out.psi * sh1) + s.e1 * q1c + s.e2 * q2;
  const V defect_map = simd::max(simd::abs(t.y1 - v1) / v1, simd::abs(t.y2 - v2) / v2);
  out.amplification = simd::max(V(1), system.amplification);
  out.residual = simd::max(simd::max(defect_map, step_size()), simd::max(defect_energy, defect_linear) / size);
  return out;
}

}  // namespace srfx
