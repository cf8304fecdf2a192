// Gaussian averages of a piecewise quadratic loss's proximal map, closed (THEORY section 19).
//
// g = clip(e/L, lo, hi), L = kappa + V, e ~ N(M, s^2); a = (L lo - M)/s, b = (L hi - M)/s.
// Since d/dM E F = E F', d/d(s^2) E F = E F''/2 and dg/dV = -g g' for every loss, these averages
// are all that exact derivatives take.
#pragma once

#include "srfx/core/simd.hpp"
#include "srfx/core/vecmath.hpp"
#include "srfx/data/losses.hpp"

namespace srfx {

/// Averages of g, of its derivatives g', .. by e, and of products.
template <class T> struct ProximalMoments {
  T g, g1, gg;  ///< E g, E g', E g^2
  T half_g2;    ///< E g''/2
  T half_g3;    ///< E g'''/2
  T g_g1;       ///< E g g'
  T half_gg2;   ///< E (g^2)''/2 = E [g'^2 + g g'']
  T gg_g1;      ///< E g^2 g'
};

/// Density and tail of the normal distribution at x: phi(x) and Q(|x|).
template <class T> struct NormalPoint {
  T density, tail;
};
template <class T> SRFX_ALWAYS_INLINE NormalPoint<T> normal_point(T x) {
  const T a = vecmath::detail::at_most(simd::abs(x), 38.0);
  const auto [p, scale] = vecmath::detail::exponential<vecmath::detail::lift>(T(-0.5) * a * a);
  const T e = simd::fma(scale, p, scale) * T(vecmath::detail::lifted<double>);
  const auto tail = vecmath::detail::normal_tail(a);
  return {T(0.39894228040143267794) * e, e * (tail.p / tail.q)};
}

/// The averages at L > 0, s > 0, for lanes of M. A bound that is infinite is never reached.
template <bool below, bool above, class T>
SRFX_ALWAYS_INLINE ProximalMoments<T> piecewise_moments(const Loss& loss, T big_l, T s, T mean) {
  const T zero(0.0), one(1.0), inverse = one / big_l, inverse_s = one / s;
  const T lo(below ? loss.lo : 0.0), hi(above ? loss.hi : 0.0);
  T a = zero, b = zero, pa = zero, pb = zero, low = zero, high = zero, inside = one;
  NormalPoint<T> at_a{zero, zero}, at_b{zero, zero};
  if constexpr (below) {
    a = (big_l * lo - mean) * inverse_s;
    at_a = normal_point(a);
    pa = at_a.density;
    low = simd::select(a < zero, at_a.tail, one - at_a.tail);
  }
  if constexpr (above) {
    b = (big_l * hi - mean) * inverse_s;
    at_b = normal_point(b);
    pb = at_b.density;
    high = simd::select(b > zero, at_b.tail, one - at_b.tail);
  }
  // P(a < u < b), from the side that does not cancel
  if constexpr (below && above) {
    inside =
        simd::select(a > zero, at_a.tail - at_b.tail,
                     simd::select(b < zero, at_b.tail - at_a.tail, one - at_a.tail - at_b.tail));
  } else if constexpr (below) {
    inside = simd::select(a > zero, at_a.tail, one - at_a.tail);
  } else if constexpr (above) {
    inside = simd::select(b < zero, at_b.tail, one - at_b.tail);
  }
  // of e^n on the inner piece, divided by L^n
  const T drop = pa - pb, turn = a * pa - b * pb;
  const T first = (mean * inside + s * drop) * inverse;
  const T square = (mean * mean * inside + T(2.0) * mean * s * drop + s * s * (inside + turn)) *
                   inverse * inverse;
  const T edge = inverse * inverse_s;
  ProximalMoments<T> out;
  out.g = lo * low + hi * high + first;
  out.g1 = inside * inverse;
  out.gg = lo * lo * low + hi * hi * high + square;
  out.half_g2 = T(0.5) * drop * edge;
  out.half_g3 = T(0.5) * turn * edge * inverse_s;
  out.g_g1 = first * inverse;
  out.half_gg2 = inside * inverse * inverse + (lo * pa - hi * pb) * edge;
  out.gg_g1 = square * inverse;
  return out;
}

/// The same where the inner piece is narrow beside the Gaussian, (hi - lo) L << s: its averages by
/// the Taylor series of the density around its middle, which does not cancel.
template <class T>
SRFX_ALWAYS_INLINE ProximalMoments<T> narrow_moments(const Loss& loss, T big_l, T s, T mean) {
  const T zero(0.0), one(1.0), lo(loss.lo), hi(loss.hi), inverse_s = one / s;
  const T w(loss.hi - loss.lo), centre(0.5 * (loss.hi + loss.lo));
  const T a = (big_l * lo - mean) * inverse_s, b = (big_l * hi - mean) * inverse_s;
  const NormalPoint<T> at_a = normal_point(a), at_b = normal_point(b);
  const T low = simd::select(a < zero, at_a.tail, one - at_a.tail),
          high = simd::select(b > zero, at_b.tail, one - at_b.tail);
  const T scale = big_l * inverse_s, u = (big_l * centre - mean) * inverse_s;
  const T density = normal_point(u).density * inverse_s;  // of e
  // density(centre + v) = density (1 + c1 v + c2 v^2 + c3 v^3 + c4 v^4), v of g
  const T uu = u * u, c1 = -u * scale, c2 = T(0.5) * (uu - one) * scale * scale,
          c3 = T(-1.0 / 6) * u * (uu - T(3.0)) * scale * scale * scale,
          c4 = T(1.0 / 24) * (uu * uu - T(6.0) * uu + T(3.0)) * scale * scale * scale * scale;
  const T m2 = w * w * T(1.0 / 12), m4 = w * w * w * w * T(1.0 / 80),
          m6 = m2 * m4 * T(12.0 * 80 / 448);
  const T mass = density * w;
  const T j0 = mass * (one + c2 * m2 + c4 * m4), j1 = mass * (c1 * m2 + c3 * m4),
          j2 = mass * (m2 + c2 * m4 + c4 * m6);
  ProximalMoments<T> out;
  out.g1 = j0;
  out.g_g1 = centre * j0 + j1;
  out.gg_g1 = centre * centre * j0 + T(2.0) * centre * j1 + j2;
  out.g = lo * low + hi * high + big_l * out.g_g1;
  out.gg = lo * lo * low + hi * hi * high + big_l * out.gg_g1;
  // by M: E g'' = d E g'/dM
  const T du = -inverse_s;
  const T d_density = density * u * inverse_s;
  const T d1 = -scale * du, d2 = u * du * scale * scale,
          d3 = T(-0.5) * (uu - one) * du * scale * scale * scale,
          d4 = T(1.0 / 6) * u * (uu - T(3.0)) * du * scale * scale * scale * scale;
  const T g2 = w * (d_density * (one + c2 * m2 + c4 * m4) + density * (d2 * m2 + d4 * m4));
  const T jj1 = w * (d_density * (c1 * m2 + c3 * m4) + density * (d1 * m2 + d3 * m4));
  out.half_g2 = T(0.5) * g2;
  // (E g'')' once more
  const T dd_density = density * (uu - one) * inverse_s * inverse_s;
  const T e2 = du * du * scale * scale,
          e4 = T(0.5) * (uu - one) * du * du * scale * scale * scale * scale;
  const T g3 = w * (dd_density * (one + c2 * m2 + c4 * m4) +
                    T(2.0) * d_density * (d2 * m2 + d4 * m4) + density * (e2 * m2 + e4 * m4));
  out.half_g3 = T(0.5) * g3;
  // E (g^2)''/2 = d E[g g']/dM
  out.half_gg2 = centre * g2 + jj1;
  return out;
}

}  // namespace srfx
