// The linear part: what follows from V by least squares and one linear system (THEORY sections 4
// and 5), and how well the whole system is satisfied there.
//
//   (m, theta) minimise E[w (h - C)^2] + theta^2/(alpha y2) [+ m^2/(alpha d y2)],
//   C = mu0 m + k mu1 theta
//   R' = rest + (h - C)^2 + (h1 - mu1 psi)^2 + u1 q1' + u2 q2,   q1' = q1 - psi^2:
//        the noise-free error at a node;   R0': R' and the noise, without q
//   (I - T M)(q1', q2) = T (a' E[u1 R0' w^2], a' E[u2 R0' w^2]) + sources
//   energy identity: E[R w^2] + (lam/a') q2 = E[w (hh - C h - h1 mu1 psi)]
//
// A target of several directions has a column mu1 z_m, hence psi_m, for each direction that the
// spike leaves (THEORY section 13): psi stands for the first, `Across` has the others. R' gains the
// terms (h1_m - mu1 psi_m)^2, q1' is q1 - sum psi_m^2, and the source of psi is there for each of
// them.
//
// Every term of R' is non-negative, so small errors keep their digits. What all bulks share stands
// first: they differ in how the features are fitted and in the sources (anisotropic_part.hpp has
// the others). All of it is one code for double, SIMD lanes (a point each) and numbers that carry a
// slope: then V moves as the solution does, and so does all that follows.
#pragma once

#include "srfx/data/equations.hpp"

namespace srfx {

/// What a solve yields at one point, in the unit-bulk convention of THEORY section 3.
template <class V> struct Order {
  V test_error, train_error, m, theta, psi, q1, q2, v1, v2;
  V residual;       ///< largest relative defect of the undamped equations, and relative Newton step
  V amplification;  ///< >= 1: how much a relative error of the averages grows in V
};

/// V, the averages there and what is made of them. Own: further sums, with add(i, node, weight w).
template <class V, class Own> struct Settled {
  V v1, v2;
  Averages<V> averages;
  MapValue<V> map;
  BalancedSystem<V> system;
  V step;  ///< the balanced step, relative
  Own own;
};

/// Settles V. The balanced step sees errors of V that cancellation hid from the iteration: it is
/// taken where it is worth it. `weights` receives w of each node. All passes share one piece of
/// code: a second copy may be rounded otherwise, and the other lanes of a pack decide on the
/// passes.
template <class Own, class V, class Bulk, class Nodes>
SRFX_INLINE Settled<V, Own> settle(const Bulk& bulk, const Point<V>& p, const Nodes& nodes,
                                   const V& v1, const V& v2, V* weights) {
  Settled<V, Own> at;
  at.v1 = v1, at.v2 = v2;
  for (int pass = 0;; ++pass) {
    at.own = Own{};
    at.averages = averages_at(nodes, p.unit, at.v1, at.v2,
                              [&](Index i, const NodeValues<V>& node, const V& w, const V& ww) {
                                weights[i] = w;
                                at.own.add(i, node, ww);
                              });
    at.map = map_value(bulk, p, at.averages);
    at.system = BalancedSystem<V>(p, at.map, at.v1, at.v2, at.averages);
    if constexpr (carries_slope<V>) {
      at.step = V(0);
      break;
    } else {
      at.step = simd::max(simd::abs(at.system.step1) / at.v1, simd::abs(at.system.step2) / at.v2);
      const auto worth = (at.step > V(2e-13)) & (at.step < V(0.1));
      if (pass == 4 || !simd::any(worth)) break;
      at.v1 = simd::select(worth, at.v1 + at.system.step1, at.v1);
      at.v2 = simd::select(worth, at.v2 + at.system.step2, at.v2);
    }
  }
  return at;
}

/// Sums over the nodes of R0', with the noise but in `error`.
template <class V> struct Misfit {
  V error;          ///< E R0', without the noise
  V loss;           ///< E[R0' w]; not of numbers that carry a slope
  V loss2, n1, n2;  ///< E[R0' w^2], and with u1, u2
};

/// left(i, node) is h - C; each(i, node, left, weight w left) gathers more.
template <class V, class Nodes, class Left, class Each>
SRFX_INLINE Misfit<V> misfit(const Nodes& nodes, const V* weights, const V& noise, const V& psi,
                             Left&& left, Each&& each) {
  const V zero(0);
  Misfit<V> out{zero, zero, zero, zero, zero};
  for (Index i = 0; i < nodes.size(); ++i) {
    const NodeValues<V> node = nodes.template at<V>(i);
    const V w = weights[i], ww = times(nodes.weight(i), w), w2 = ww * w;
    const V e = left(i, node), f = node.h1 - node.mu1 * psi;
    const V r = node.rest + e * e + f * f, noisy = r + noise;
    out.error += times(nodes.weight(i), r);
    const V w2r = w2 * noisy;
    out.loss2 += w2r;
    out.n1 += node.u1 * w2r;
    out.n2 += node.u2 * w2r;
    if constexpr (!carries_slope<V>) {
      out.loss += ww * noisy;
      each(i, node, e, ww * e);
    }
  }
  return out;
}

/// What the further directions m >= 2 of a target add: psi_m = to_psi psih_m, psih_m = a' E[h1_m
/// mu1 w].
template <class V> struct Across {
  V square = V(0);                  ///< sum psi_m^2
  V hat_square = V(0);              ///< sum psih_m^2
  V explained = V(0), size = V(0);  ///< as in FitDefect: E[w (h1_m - mu1 psi_m) mu1 psi_m]
};

/// E[h1_m mu1 w] of further direction m.
template <class V, class Nodes>
SRFX_INLINE V across_sum(const Nodes& nodes, const V* weights, int m) {
  V sum(0);
  for (Index i = 0; i < nodes.size(); ++i) {
    const NodeValues<V> node = nodes.template at<V>(i);
    sum += times(nodes.weight(i), V(nodes.across(i, m)) * (weights[i] * node.mu1));
  }
  return sum;
}
/// Adds what psi_m = psi leaves of further direction m to the misfit; sum: E[h1_m mu1 w].
template <class V, class Nodes>
SRFX_INLINE void add_across(const Nodes& nodes, const V* weights, int m, const V& psi, const V& sum,
                            const V& e1, Across<V>& out, Misfit<V>& r) {
  out.square += psi * psi;
  if constexpr (!carries_slope<V>) {
    out.explained += psi * (sum - psi * e1);
    out.size += simd::abs(psi * sum);
  }
  for (Index i = 0; i < nodes.size(); ++i) {
    const NodeValues<V> node = nodes.template at<V>(i);
    const V w = weights[i], ww = times(nodes.weight(i), w);
    const V f = V(nodes.across(i, m)) - node.mu1 * psi, ff = f * f, w2f = ww * w * ff;
    r.error += times(nodes.weight(i), ff);
    r.loss2 += w2f;
    r.n1 += node.u1 * w2f;
    r.n2 += node.u2 * w2f;
    if constexpr (!carries_slope<V>) r.loss += ww * ff;
  }
}
/// Finds psi_m, into `found` if it is given, and adds what they leave to the misfit.
template <class V, class Nodes>
SRFX_INLINE Across<V> fit_across(const Nodes& nodes, const V* weights, const Point<V>& p,
                                 const V& to_psi, const V& e1, V* found, Misfit<V>& r) {
  Across<V> out;
  Misfit<V> sum = r;
  for (int m = 0; m < nodes.n_across; ++m) {
    const V hat = across_sum(nodes, weights, m), psi = to_psi * p.ratio * hat;
    if (found != nullptr) found[m] = psi;
    out.hat_square += p.ratio * p.ratio * hat * hat;
    add_across(nodes, weights, m, psi, hat, e1, out, sum);
  }
  r = sum;
  return out;
}

/// How well the features are fitted: E[w (h - C) C]; the defect of the normal equations, and the
/// terms that cancel in them.
template <class V> struct FitDefect {
  V explained, defect, size;
};

/// (q1', q2) and the errors, for the sources that the bulk adds; and the defects, relative: of the
/// two nonlinear equations, of the normal equations and of the energy identity, the last two in
/// units of the terms that cancel there. `sh1` is E[h1 mu1 w].
template <class V, class Own, class Nodes>
SRFX_INLINE void complete(const Point<V>& p, const Settled<V, Own>& at, const Nodes& nodes,
                          const Misfit<V>& r, const V& source1, const V& source2, const V& sh1,
                          const FitDefect<V>& fit, Order<V>& out) {
  const SpectralAverages<V>& t = at.map.bulk;
  const Averages<V>& s = at.averages;
  const V n1 = p.ratio * r.n1, n2 = p.ratio * r.n2;
  V q1, q2;
  at.system.solve(t.t11 * n1 + t.t12 * n2 + source1, t.t12 * n1 + t.t22 * n2 + source2, q1, q2);
  out.v1 = at.v1, out.v2 = at.v2;
  out.q1 = q1 + out.psi * out.psi;
  out.q2 = q2;
  out.test_error = r.error + V(nodes.mean_u1) * q1 + V(nodes.mean_u2) * q2;
  out.train_error = p.unit * (r.loss2 + s.u1w2 * q1 + s.u2w2 * q2);
  out.amplification = V(1), out.residual = V(0);
  if constexpr (!carries_slope<V>) {
    const V energy = r.loss + fit.explained + out.psi * (sh1 - out.psi * s.e1);
    const V defect_energy = simd::abs(out.train_error + p.lam / p.ratio * q2 - energy);
    const V size = r.loss + fit.size + simd::abs(out.psi * sh1) + s.e1 * q1 + s.e2 * q2;
    const V defect_map =
        simd::max(simd::abs(t.y1 - at.v1) / at.v1, simd::abs(t.y2 - at.v2) / at.v2);
    out.amplification = simd::max(V(1), at.system.amplification);
    out.residual =
        simd::max(simd::max(defect_map, at.step), simd::max(defect_energy, fit.defect) / size);
  }
}

/// Of the weighted design (mu0, column): what the two normal equations are made of, and E[h1 mu1
/// w].
template <class V> struct DesignSums {
  V s00 = V(0), s01 = V(0), s11 = V(0), s0h = V(0), s1h = V(0), sh1 = V(0);
  SRFX_INLINE void add(Index, const NodeValues<V>& node, const V& ww) {
    const V w0 = ww * node.mu0, w1 = ww * node.column;
    s00 += w0 * node.mu0;
    s01 += w0 * node.column;
    s0h += w0 * node.h;
    s11 += w1 * node.column;
    s1h += w1 * node.h;
    sh1 += ww * node.mu1h1;
  }
};

/// The linear part of the isotropic bulk, where K is diagonal: V2 = y2 stands for K_theta/B, and
/// psi sees y1.
///
/// The columns mu0 and k mu1 are nearly parallel at small r, where the normal equations would lose
/// all digits: the second column is k mu1 less its projection on mu0 at w = 1 (NodeSet::column),
/// and where the weights w tilt it back, Gram-Schmidt on the node values. `weights` is room for one
/// value a node, `psi_across`, if given, for nodes.n_across results.
template <class V, class Bulk, class Nodes>
Order<V> linear_part(const Bulk& bulk, const Point<V>& p, const Nodes& nodes, const V& v1,
                     const V& v2, V* weights, V* psi_across = nullptr) {
  const Settled<V, DesignSums<V>> at = settle<DesignSums<V>>(bulk, p, nodes, v1, v2, weights);
  const SpectralAverages<V>& t = at.map.bulk;
  const DesignSums<V>& s = at.own;
  const V kappa(nodes.kappa), ridge_theta = V(1) / (p.alpha * t.y2),
                              ridge_m = p.inverse_d * ridge_theta;

  // In terms of m0 = m + lean theta the penalties are those of two columns made orthogonal: mu0,
  // and column - slope mu0 with n11 its square and n1h its product with what mu0 leaves of h.
  const V norm0 = s.s00 + ridge_m;
  const V inverse0 = detail::choose(detail::value_of(norm0) > 0, V(1) / norm0,
                                    V(0));  // mu0 = 0: no mean component
  const V slope = (s.s01 - kappa * ridge_m) * inverse0, m0 = s.s0h * inverse0;
  V n11 = s.s11 - slope * (V(2) * s.s01 - slope * s.s00),
    n1h = s.s1h - slope * s.s0h - m0 * (s.s01 - slope * s.s00);
  const auto tilted = detail::value_of(n11) < detail::value_of(V(1e-2) * s.s11);
  if (simd::any(tilted)) {
    V e11(0), e1h(0);
    for (Index i = 0; i < nodes.size(); ++i) {
      const NodeValues<V> node = nodes.template at<V>(i);
      const V column = node.column - slope * node.mu0;
      const V wc = times(nodes.weight(i), weights[i]) * column;
      e11 += wc * column;
      e1h += wc * (node.h - m0 * node.mu0);
    }
    n11 = detail::choose(tilted, e11, n11);
    n1h = detail::choose(tilted, e1h, n1h);
  }
  Order<V> out;
  const V lean = (s.s01 + kappa * s.s00) * inverse0;  // slope + kappa; m = m0 - lean theta
  out.theta = (n1h + lean * m0 * ridge_m) / (n11 + lean * lean * ridge_m + ridge_theta);
  out.m = m0 - lean * out.theta;
  const V psi_hat = p.ratio * s.sh1;
  out.psi = p.beta * t.y1 * psi_hat;

  V g0(0), g1(0);
  const auto left = [&](Index, const NodeValues<V>& node) {
    return node.h - m0 * node.mu0 - out.theta * (node.column - slope * node.mu0);
  };
  Misfit<V> r = misfit<V>(nodes, weights, p.noise, out.psi, left,
                          [&](Index, const NodeValues<V>& node, const V&, const V& we) {
                            g0 += we * node.mu0;
                            g1 += we * (node.column - slope * node.mu0);
                          });
  const Across<V> across =
      fit_across(nodes, weights, p, V(p.beta * t.y1), at.averages.e1, psi_across, r);
  // T on theta_hat^2 beta + .., and (beta psi_hat^2 t11c, beta psi_hat^2 t12)
  const V pulled = (out.theta * out.theta + p.inverse_d * out.m * out.m) / (t.y2 * t.y2 * p.beta),
          psi_source = p.beta * (psi_hat * psi_hat + across.hat_square);
  FitDefect<V> fit;
  if constexpr (!carries_slope<V>) {
    const V pull_m = out.m * ridge_m;
    fit.explained = m0 * g0 + out.theta * g1 + across.explained;
    fit.defect = simd::abs(m0 * (g0 - pull_m)) +
                 simd::abs(out.theta * (g1 - out.theta * ridge_theta + lean * pull_m));
    fit.size = simd::abs(m0 * s.s0h) + simd::abs(out.theta * n1h) + across.size;
  }
  complete(p, at, nodes, r, t.t12 * pulled + t.t11c * psi_source,
           t.t22 * pulled + t.t12 * psi_source, s.sh1, fit, out);
  out.q1 += across.square;
  return out;
}

}  // namespace srfx
