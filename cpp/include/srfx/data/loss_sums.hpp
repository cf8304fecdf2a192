// The data's side with another loss than the square (THEORY section 19): the averages that the
// equations are made of, with their exact derivatives by the eight unknowns.
//
// Given k and z the field is omega ~ N(C + mu1 psi z, S^2), C = mu0 m + k mu1 theta + mu_c chi, S^2
// = u1 (q1 - psi^2) + u2 q2. Under each k the atoms yield sums of a loss's Gaussian averages,
// weighted with 1, z and z^2; the rest is algebra, the same for every loss.
#pragma once

#include "srfx/data/loss_nodes.hpp"
#include "srfx/data/piecewise_moments.hpp"

#include <array>
#include <vector>

namespace srfx {

/// The unknowns, in this order.
enum LossUnknown { at_v1, at_v2, at_m, at_theta, at_psi, at_chi, at_q1, at_q2, n_loss_unknowns };
using LossVector = std::array<double, n_loss_unknowns>;

/// The averages: E u1 G', E u2 G', E mu0 g, E k mu1 g, E mu1 z g + psi E u1 G', E mu_c g, E u1 g^2,
/// E u2 g^2. Each is the hat of the unknown in the same place, without a'.
struct LossAverages {
  LossVector value{};
  std::array<LossVector, n_loss_unknowns> slope{};  ///< [average][unknown]
  double square = 0;                                ///< E g^2
  LossVector beyond{};  ///< what of them |k| > 6 has, which no sample draws
};

/// The field under one k, and what a loss sees there.
struct LossField {
  double mean, tilt, variance, v;  ///< C, mu1 psi, S^2 with the label's noise, V
};

using AtomSums = LossSums<double>;

namespace detail {

using LossLanes = simd::Lanes<double, 8>;
inline double lane_total(const LossLanes& x) {
  double sum = 0;
  for (int i = 0; i < 8; ++i) sum += x[i];
  return sum;
}

/// Adds `moments(lanes of M)` of the atoms of one node.
template <class Moments>
SRFX_INLINE AtomSums sum_atoms(const LossNodes& nodes, const LossNode& at, const LossField& field,
                               Moments&& moments) {
  using V = LossLanes;
  const V zero(0.0);
  V g0 = zero, gz = zero, d0 = zero, dz = zero, dzz = zero, q0 = zero, h0 = zero, hz = zero,
    h3 = zero, l0 = zero, r0 = zero, rz = zero, t0 = zero, u0 = zero;
  const V mean(field.mean), tilt(field.tilt);
  for (Index i = at.first; i < at.last; i += 8) {
    const V z = V::load(&nodes.z[i]), w = V::load(&nodes.w[i]), sign = V::load(&nodes.sign[i]);
    const V f = simd::fma(tilt, z, mean);
    const ProximalMoments<V> x = moments(V::load(&nodes.e[i]) - sign * f);
    const V ws = w * sign, wz = w * z, wsz = ws * z;
    l0 += w * x.g, g0 += ws * x.g, gz += wsz * x.g;
    d0 += w * x.g1, dz += wz * x.g1, dzz += wz * z * x.g1;
    q0 += w * x.gg;
    h0 += ws * x.half_g2, hz += wsz * x.half_g2;
    h3 += w * x.half_g3;
    r0 += ws * x.g_g1, rz += wsz * x.g_g1;
    t0 += w * x.half_gg2;
    u0 += w * x.gg_g1;
  }
  AtomSums out{};
  out.g[0] = lane_total(g0), out.g[1] = lane_total(gz);
  out.g1[0] = lane_total(d0), out.g1[1] = lane_total(dz), out.g1[2] = lane_total(dzz);
  out.gg = lane_total(q0), out.level = lane_total(l0);
  out.half_g2[0] = lane_total(h0), out.half_g2[1] = lane_total(hz);
  out.half_g3 = lane_total(h3);
  out.g_g1[0] = lane_total(r0), out.g_g1[1] = lane_total(rz);
  out.half_gg2 = lane_total(t0);
  out.gg_g1 = lane_total(u0);
  return out;
}

inline AtomSums piecewise_sums(const Loss& loss, const LossNodes& nodes, const LossNode& at,
                               const LossField& field) {
  using V = LossLanes;
  const double big_l = loss.kappa + field.v, sd = std::sqrt(field.variance);
  const V l(big_l), s(sd);
  const auto sum = [&](auto moments) { return sum_atoms(nodes, at, field, moments); };
  if (loss.bounded_below() && loss.bounded_above()) {
    if ((loss.hi - loss.lo) * big_l < 0.02 * sd)
      return sum([&](V m) __attribute__((always_inline)) { return narrow_moments(loss, l, s, m); });
    return sum([&](V m) __attribute__((always_inline)) {
      return piecewise_moments<true, true>(loss, l, s, m);
    });
  }
  if (loss.bounded_below())
    return sum([&](V m) __attribute__((always_inline)) {
      return piecewise_moments<true, false>(loss, l, s, m);
    });
  return sum([&](V m) __attribute__((always_inline)) {
    return piecewise_moments<false, false>(loss, l, s, m);
  });
}

}  // namespace detail

/// The field at one k.
inline LossField field_at(const LossNodes& nodes, const LossNode& at, const LossVector& x) {
  const double tilt = nodes.across ? at.mu1 * x[at_psi] : 0;
  const double q1 = nodes.across ? x[at_q1] - x[at_psi] * x[at_psi] : x[at_q1];
  const double tiny = 1e-60;  // in the tails
  return {at.mu0 * x[at_m] + at.kmu1 * x[at_theta] + at.muc * x[at_chi], tilt,
          std::max(at.u1 * q1 + at.u2 * x[at_q2], tiny) + nodes.label_noise,
          std::max(at.u1 * x[at_v1] + at.u2 * x[at_v2], tiny)};
}

/// E f^2.
inline double field_square(const LossNodes& nodes, const LossVector& x) {
  double out = nodes.mean_u1 * x[at_q1] + nodes.mean_u2 * x[at_q2];
  const double c[3] = {x[at_m], x[at_theta], x[at_chi]};
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) out += nodes.gram[i][j] * c[i] * c[j];
  return out;
}

/// The fields at eight k from `first` on; those beyond the last repeat it.
inline LossFields<detail::LossLanes> fields_at(const LossNodes& nodes, Index first,
                                               const LossVector& x) {
  LossFields<detail::LossLanes> out;
  const Index last = static_cast<Index>(nodes.nodes.size()) - 1;
  for (int i = 0; i < 8; ++i) {
    const LossField at = field_at(nodes, nodes.nodes[std::min(first + i, last)], x);
    out.mean.set(i, at.mean), out.tilt.set(i, at.tilt);
    out.variance.set(i, at.variance), out.v.set(i, at.v);
  }
  return out;
}

/// The sums of a piecewise quadratic loss, asked for node after node: eight k at a time from the
/// labels' series where that serves.
class PiecewiseSums {
 public:
  PiecewiseSums(const Loss& loss, const LossNodes& nodes, const LossVector& x)
      : loss_(loss),
        nodes_(nodes),
        x_(x),
        series_(loss.bounded_below() ? nodes.series.get() : nullptr) {}

  AtomSums operator()(const LossNode& at, const LossField& field) {
    if (series_ != nullptr) {
      const Index index = &at - nodes_.nodes.data();
      if (index % 8 == 0) load(index);
      if (served_) return lane(static_cast<int>(index % 8));
    }
    return detail::piecewise_sums(loss_, nodes_, at, field);
  }

 private:
  using V = detail::LossLanes;
  void load(Index first) {
    served_ = series_->sums(loss_, first / 8, fields_at(nodes_, first, x_), sums_);
  }
  AtomSums lane(int i) const {
    const LossSums<V>& s = sums_;
    return {{s.g[0][i], s.g[1][i]},
            {s.g1[0][i], s.g1[1][i], s.g1[2][i]},
            s.gg[i],
            {s.half_g2[0][i], s.half_g2[1][i]},
            s.half_g3[i],
            {s.g_g1[0][i], s.g_g1[1][i]},
            s.half_gg2[i],
            s.gg_g1[i],
            s.level[i]};
  }

  const Loss& loss_;
  const LossNodes& nodes_;
  const LossVector& x_;
  const LabelSeries* series_;
  LossSums<V> sums_;
  bool served_ = false;
};

/// The averages at x; sums(node, field) yields AtomSums, asked for in the nodes' order.
template <class Sums>
LossAverages loss_averages(const LossNodes& nodes, const LossVector& x, Sums&& sums) {
  using V = detail::LossLanes;
  V value(0.0), beyond(0.0), slope[n_loss_unknowns];
  for (V& row : slope) row = V(0.0);
  LossAverages out;
  for (const LossNode& at : nodes.nodes) {
    const LossField field = field_at(nodes, at, x);
    const AtomSums s = sums(at, field);
    const double w = at.weight, spread = nodes.across ? -2 * at.u1 * x[at_psi] : 0;
    const double mu1 = nodes.across ? at.mu1 : 0;
    // By the unknowns, of sums whose derivatives by V, C, mu1 psi and S^2 are given.
    const auto by = [&](double v, double c, double tilt, double s2) {
      alignas(64) const double d[8] = {
          v * at.u1,  v * at.u2,  c * at.mu0, c * at.kmu1, tilt * mu1 + s2 * spread,
          c * at.muc, s2 * at.u1, s2 * at.u2};
      return V::load(d);
    };
    const V g = by(-s.g_g1[0], -s.g1[0], -s.g1[1], s.half_g2[0]);
    const V g1 = by(-s.half_gg2, -2 * s.half_g2[0], -2 * s.half_g2[1], s.half_g3);
    const V gg = by(-2 * s.gg_g1, -2 * s.g_g1[0], -2 * s.g_g1[1], s.half_gg2);
    slope[at_v1] += V(w * at.u1) * g1;
    slope[at_v2] += V(w * at.u2) * g1;
    slope[at_m] += V(w * at.mu0) * g;
    slope[at_theta] += V(w * at.kmu1) * g;
    slope[at_chi] += V(w * at.muc) * g;
    slope[at_q1] += V(w * at.u1) * gg;
    slope[at_q2] += V(w * at.u2) * gg;
    double along = 0;
    if (nodes.across) {
      const V gz = by(-s.g_g1[1], -s.g1[1], -s.g1[2], s.half_g2[1]);
      V psi = V(w * mu1) * gz + V(w * at.u1 * x[at_psi]) * g1;
      psi.set(at_psi, psi[at_psi] + w * at.u1 * s.g1[0]);
      slope[at_psi] += psi;
      along = mu1 * s.g[1] + x[at_psi] * at.u1 * s.g1[0];
    }
    alignas(64)
        const double v[8] = {at.u1 * s.g1[0], at.u2 * s.g1[0], at.mu0 * s.g[0], at.kmu1 * s.g[0],
                             along,           at.muc * s.g[0], at.u1 * s.gg,    at.u2 * s.gg};
    value += V(w) * V::load(v);
    if (std::abs(at.k) > 6) beyond += V(w) * V::load(v);
    out.square += w * s.gg;
  }
  value.store(out.value.data());
  beyond.store(out.beyond.data());
  for (int i = 0; i < n_loss_unknowns; ++i) slope[i].store(out.slope[i].data());
  return out;
}

/// The share of E u_i g^2, of a loss of g >= 0 alone, that is made where u_i g^2 is a million times
/// its mean: of labels that contradict a large k, say. No sample of a million need have any.
inline double rare_share(const Loss& loss, const LossNodes& nodes, const LossVector& x,
                         const LossVector& value) {
  using V = detail::LossLanes;
  double share[2] = {};
  for (const LossNode& at : nodes.nodes) {
    const LossField field = field_at(nodes, at, x);
    const V l(loss.kappa + field.v), s(std::sqrt(field.variance));
    const double ratio[2] = {at.u1 / value[at_q1], at.u2 / value[at_q2]};
    for (Index i = at.first; i < at.last; i += 8) {
      const V f = simd::fma(V(field.tilt), V::load(&nodes.z[i]), V(field.mean));
      const V m = V::load(&nodes.e[i]) - V::load(&nodes.sign[i]) * f;
      const V gg = piecewise_moments<true, false>(loss, l, s, m).gg;
      for (int lane = 0; lane < 8; ++lane)
        for (int j = 0; j < 2; ++j)
          if (const double times = ratio[j] * gg[lane]; times > 1e6)
            share[j] += at.weight * nodes.w[i + lane] * times;
    }
  }
  return std::max(share[0], share[1]);
}

}  // namespace srfx
