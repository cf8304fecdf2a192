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
  V unit;  ///< 1; 0 for the ridgeless limit in v = lam V
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

template <class V> MapSums<V> map_sums(const Node* nodes, Index n, V unit, V v1, V v2) {
  MapSums<V> s{V(0), V(0), V(0), V(0), V(0)};
  for (Index i = 0; i < n; ++i) {
    const Node& node = nodes[i];
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

template <class V, class Bulk> MapValue<V> map_value(const Bulk& bulk, const Point<V>& p, const MapSums<V>& s) {
  const V ratio = p.alpha / p.beta;
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

/// What a solve yields at one point, in the unit-bulk convention of THEORY section 3.
template <class V> struct Order {
  V test_error, train_error, m, theta, psi, q1, q2, v1, v2;
  V residual;  ///< largest relative defect of the undamped equations at this solution
};

/// The linear part at given V: order parameters, errors, and how well the whole system is satisfied.
///
/// (m, theta) minimise E[w (h - mu0 m - k mu1 theta)^2] + theta^2/(alpha y2) [+ m^2/(alpha d y2)], by Gram-Schmidt on the
/// node values (the normal equations lose all digits where mu0 and k mu1 are nearly parallel). The noise-free error at
/// a node is R' = rest + (h - C)^2 + (h1 - mu1 psi)^2 + u1 q1' + u2 q2 with q1' = q1 - psi^2: every term is
/// non-negative, so small errors keep their digits. `weights` is room for n values.
template <class V, class Bulk>
Order<V> linear_part(const Bulk& bulk, const Point<V>& p, const Node* nodes, Index n, V v1, V v2, V* weights) {
  MapSums<V> s{V(0), V(0), V(0), V(0), V(0)};
  V s00(0), s01(0), s0h(0), sh1(0);
  for (Index i = 0; i < n; ++i) {
    const Node& node = nodes[i];
    const V w = V(1) / (p.unit + V(node.u1) * v1 + V(node.u2) * v2);
    weights[i] = w;
    const V a = V(node.u1) * w, b = V(node.u2) * w;
    const V ww = V(node.weight) * w;
    const V wa = V(node.weight) * a, wb = V(node.weight) * b;
    s.e1 += wa;
    s.e2 += wb;
    s.e11 += wa * a;
    s.e12 += wa * b;
    s.e22 += wb * b;
    const V w0 = ww * V(node.mu0);
    s00 += w0 * V(node.mu0);
    s01 += w0 * V(node.kmu1);
    s0h += w0 * V(node.h);
    sh1 += ww * V(node.mu1 * node.h1);
  }
  const MapValue<V> map = map_value(bulk, p, s);
  const SpectralAverages<V>& t = map.bulk;
  const V ratio = p.alpha / p.beta;
  const V ridge_theta = V(1) / (p.alpha * t.y2);
  const V ridge_m = p.inverse_d * ridge_theta;

  // First column: mu0. Second column: k mu1 less its projection.
  const V norm0 = s00 + ridge_m;
  const V inverse0 = simd::select(norm0 > V(0), V(1) / norm0, V(0));  // mu0 = 0: no mean component
  const V slope = s01 * inverse0, m0 = s0h * inverse0;
  V s11(0), s1h(0);
  for (Index i = 0; i < n; ++i) {
    const Node& node = nodes[i];
    const V ww = V(node.weight) * weights[i];
    const V column = V(node.kmu1) - slope * V(node.mu0), target = V(node.h) - m0 * V(node.mu0);
    const V wc = ww * column;
    s11 += wc * column;
    s1h += wc * target;
  }
  Order<V> out;
  out.v1 = v1;
  out.v2 = v2;
  out.theta = (s1h + slope * m0 * ridge_m) / (s11 + slope * slope * ridge_m + ridge_theta);
  out.m = m0 - slope * out.theta;
  const V psi_hat = ratio * sh1;
  out.psi = p.beta * t.y1 * psi_hat;

  V r0(0), r1(0), r2(0), error(0), f1(0), f2(0), u1(0), u2(0), loss(0), scale(0), g0(0), g1(0);
  for (Index i = 0; i < n; ++i) {
    const Node& node = nodes[i];
    const V w = weights[i], omega(node.weight);
    const V e = V(node.h) - V(node.mu0) * out.m - V(node.kmu1) * out.theta;
    const V f = V(node.h1) - V(node.mu1) * out.psi;
    const V r = V(node.rest) + e * e + f * f;
    const V ww = omega * w, w2 = ww * w, noisy = r + p.noise;
    error += omega * r;
    r0 += w2 * noisy;
    const V a = w2 * V(node.u1), b = w2 * V(node.u2);
    f1 += a;
    f2 += b;
    r1 += a * noisy;
    r2 += b * noisy;
    u1 += omega * V(node.u1);
    u2 += omega * V(node.u2);
    loss += ww * noisy;
    scale += ww * (V(node.hh) + p.noise);
    const V we = ww * e;
    g0 += we * V(node.mu0);
    g1 += we * V(node.kmu1);
  }
  // (I - T M)(q1', q2) = T (a' E[u1 R0' w^2], a' E[u2 R0' w^2] + theta_hat^2 beta + ..) + (beta psi_hat^2 t11c, beta psi_hat^2 t12)
  const V inverse_y2 = V(1) / t.y2;
  const V psi_source = p.beta * psi_hat * psi_hat;
  const V n1 = ratio * r1;
  const V n2 = ratio * r2 + (out.theta * out.theta + p.inverse_d * out.m * out.m) * inverse_y2 * inverse_y2 / p.beta;
  V q1c, q2;
  map.solve(t.t11 * n1 + t.t12 * n2 + t.t11c * psi_source, t.t12 * (n1 + psi_source) + t.t22 * n2, q1c, q2);
  out.q1 = q1c + out.psi * out.psi;
  out.q2 = q2;
  out.test_error = error + u1 * q1c + u2 * q2;
  const V train = r0 + f1 * q1c + f2 * q2;
  out.train_error = p.unit * train;

  // Defects, relative: the two nonlinear equations; the stationarity of (m, theta) and the energy identity
  // E[R w^2] + (lam/a') q2 = E[w (hh - C h - h1 mu1 psi)] in units of E[w hh].
  const V energy = loss + out.m * g0 + out.theta * g1 + out.psi * (sh1 - out.psi * s.e1);
  const V defect_energy = simd::abs(out.train_error + p.lam / ratio * q2 - energy);
  const V defect_linear = simd::abs(out.theta * (g1 - out.theta * ridge_theta)) + simd::abs(out.m * (g0 - out.m * ridge_m));
  out.residual = simd::max(simd::max(simd::abs(t.y1 - v1) / v1, simd::abs(t.y2 - v2) / v2),
                           simd::max(defect_energy, defect_linear) / scale);
  return out;
}

}  // namespace srfx
