// Gaussian averages of the logistic loss's proximal map (THEORY section 19).
//
// Under each k the field omega comes first, on a grid of its own; what the atoms in z leave of it
// is its density with each label, weighted with 1, z and z^2. The map is solved once a grid point.
#pragma once

#include "srfx/data/loss_sums.hpp"

namespace srfx {

/// x of x = u + (V/2) p, p = 1/(1 + exp(x)), and what of the map the averages take, at u = y omega.
///
/// p at -x is 1 - p: with v = max(u, -u - V/2) the root is not negative. The defect is concave
/// there, so Newton's method from below is monotone.
template <class T>
SRFX_ALWAYS_INLINE ProximalMoments<T> logistic_map(T v, T u, T* x_out = nullptr) {
  const T zero(0.0), one(1.0), half = T(0.5) * v;
  const T mirrored_u = -u - half;
  const auto mirrored = mirrored_u > u;
  const T from = simd::max(u, mirrored_u);
  T x = simd::max(zero, from);
  double top = 0;
  for (int i = 0; i < simd::Traits<T>::size; ++i)
    if constexpr (std::is_same_v<T, double>) top = v;
    else top = std::max(top, v[i]);
  if (top > 4) {  // x >= log(V/4) - log(log(V/4) - u)
    const double log_v = std::log(top / 4);
    T start = x;
    for (int i = 0; i < simd::Traits<T>::size; ++i) {
      const double gap = log_v - from[i];
      if (gap > 1) start.set(i, log_v - std::log(gap));
    }
    x = simd::max(x, start);
  }
  // Halley's method, third order; after its last step p moves by a Taylor series.
  T p = zero;
  for (int pass = 0; pass < 60; ++pass) {
    p = vecmath::sigmoid(-x);
    const T bend = p * (one - p), slope = one + half * bend, newton = (x - from - half * p) / slope,
            step = newton / (one + T(0.5) * newton * half * bend * (one - T(2.0) * p) / slope);
    x = x - step;
    if (!simd::any(simd::abs(step) > T(2e-5) * (one + x))) {
      p = p +
          step * bend * (one + step * (T(0.5) * (one - T(2.0) * p) + step * (T(1.0 / 6) - bend)));
      break;
    }
  }
  const T odd = simd::select(mirrored, T(2.0) * p - one, one - T(2.0) * p);  // 1 - 2 p
  const T h = T(0.5) * p * (one - p), inverse = one / (one + v * h);
  p = simd::select(mirrored, one - p, p);
  if (x_out) *x_out = simd::select(mirrored, -x, x);
  ProximalMoments<T> out;
  out.g = T(0.5) * p;
  out.g1 = h * inverse;
  out.gg = out.g * out.g;
  const T cube = inverse * inverse * inverse;
  const T g2 = odd * h * cube;
  out.half_g2 = T(0.5) * g2;
  out.half_g3 = T(-0.5) * cube * inverse * h *
                (T(4.0) * h - odd * odd + T(3.0) * v * odd * odd * h * inverse);
  out.g_g1 = out.g * out.g1;
  out.half_gg2 = out.g1 * out.g1 + out.g * g2;
  out.gg_g1 = out.gg * out.g1;
  return out;
}

/// The density of omega under one k: each(omega, density of +1 (with 1, z, z^2), of -1), lanes.
/// `fine`: the grid's step, in units of the narrowest scale there.
template <class Each>
void each_field(const LossNodes& nodes, const LossNode& at, const LossField& field, double fine,
                Each&& each) {
  using V = detail::LossLanes;
  const double sd = std::sqrt(field.variance), tilt = field.tilt;
  // The scales are that of the field given z and that on which the loss bends. A field wider than
  // any solution's, on the way to one, is not followed so closely.
  constexpr double most = 4096;
  const double reach = 7.6 * std::sqrt(field.variance + tilt * tilt);
  const double step = std::max(fine * sd / std::sqrt(1 + sd * sd), 2 * reach / most);
  const Index count = static_cast<Index>(std::ceil(2 * reach / step / 8)) * 8;
  // By what omega is beside C: where S is far below C a sum of both has lost it.
  const double first = -0.5 * step * static_cast<double>(count - 1);
  const V inverse(1 / sd);
  const double scale = 0.39894228040143267794 * step / sd * vecmath::detail::lifted<double>;
  for (Index j = 0; j < count; j += 8) {
    alignas(64) double grid[8];
    for (int i = 0; i < 8; ++i) grid[i] = first + step * static_cast<double>(j + i);
    const V beside = V::load(grid), omega = V(field.mean) + beside;
    V plus[3] = {V(0.0), V(0.0), V(0.0)}, minus[3] = {V(0.0), V(0.0), V(0.0)};
    double last_z = std::numeric_limits<double>::quiet_NaN();
    V density(0.0);
    for (Index i = at.first; i < at.last; ++i) {
      const double z = nodes.z[i], w = nodes.w[i];
      if (w == 0) continue;
      if (z != last_z) {
        const V d = (beside - V(tilt * z)) * inverse;
        const V y = simd::max(V(-0.5) * d * d, V(-740.0));
        const auto [p, s] = vecmath::detail::exponential<vecmath::detail::lift>(y);
        density = V(scale) * simd::fma(s, p, s);
        last_z = z;
      }
      V* const side = nodes.sign[i] > 0 ? plus : minus;
      const V wd = V(w) * density, wzd = V(z) * wd;
      side[0] += wd, side[1] += wzd, side[2] += V(z) * wzd;
    }
    each(omega, plus, minus);
  }
}

inline AtomSums logistic_sums(const LossNodes& nodes, const LossNode& at, const LossField& field) {
  using V = detail::LossLanes;
  V s[13];
  for (V& x : s) x = V(0.0);
  const V v(field.v);
  each_field(nodes, at, field, nodes.field_step, [&](V omega, const V* plus, const V* minus) {
    for (int side = 0; side < 2; ++side) {
      const V sign(side == 0 ? 1.0 : -1.0);
      const V* w = side == 0 ? plus : minus;
      const ProximalMoments<V> x = logistic_map(v, sign * omega);
      const V w0 = sign * w[0], w1 = sign * w[1];
      s[0] += w0 * x.g, s[1] += w1 * x.g;
      s[2] += w[0] * x.g1, s[3] += w[1] * x.g1, s[4] += w[2] * x.g1;
      s[5] += w[0] * x.gg;
      s[6] += w0 * x.half_g2, s[7] += w1 * x.half_g2;
      s[8] += w[0] * x.half_g3;
      s[9] += w0 * x.g_g1, s[10] += w1 * x.g_g1;
      s[11] += w[0] * x.half_gg2;
      s[12] += w[0] * x.gg_g1;
    }
  });
  double t[13];
  for (int i = 0; i < 13; ++i) t[i] = detail::lane_total(s[i]);
  return {
      {t[0], t[1]}, {t[2], t[3], t[4]}, t[5], {t[6], t[7]}, t[8], {t[9], t[10]}, t[11], t[12], 0};
}

}  // namespace srfx
