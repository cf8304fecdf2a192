// Derivatives of what a solution is asked for, by the eight order parameters (THEORY section 19).
//
// All closed, as those of the averages: with respect to the field's mean and variance an average
// moves by that of the first derivative and of half the second. E loss(y, x) is E of the Moreau
// envelope less V E g^2, and the envelope's derivatives are -2 g by omega and -g^2 by V.
#pragma once

#include "srfx/data/loss_observables.hpp"

namespace srfx {

struct LossSlopes {
  LossVector train_loss{}, test_loss{}, test_error{}, classification_error{};
};

inline LossSlopes loss_slopes(const Loss& loss, const LossNodes& nodes, const LossVector& x) {
  using V = detail::LossLanes;
  LossSlopes out;
  for (const LossNode& at : nodes.nodes) {
    const LossField field = field_at(nodes, at, x);
    const double s2 = field.variance - nodes.label_noise, sd = std::sqrt(field.variance),
                 field_sd = std::sqrt(s2);
    const V mean(field.mean), tilt(field.tilt), zero(0.0), one(1.0);
    /// By C, mu1 psi and S^2.
    struct Sums {
      V c, tilt, s2;
    };
    Sums test{zero, zero, zero}, error = test, wrong = test;
    const auto add = [](Sums& to, V w, V z, V by_f, V by_s2) {
      to.c += w * by_f, to.tilt += w * z * by_f, to.s2 += w * by_s2;
    };
    for (Index i = at.first; i < at.last; i += 8) {
      const V z = V::load(&nodes.z[i]), w = V::load(&nodes.w[i]), sign = V::load(&nodes.sign[i]);
      const V e = V::load(&nodes.e[i]), f = simd::fma(tilt, z, mean);
      add(error, w, z, V(2.0) * (f - (loss.margin ? sign : e)), one);
      const V u = sign * f * V(1 / field_sd);
      const V density = normal_point(u).density;
      add(wrong, w, z, -density * sign * V(1 / field_sd), density * u * V(0.5 / s2));
      if (loss.logistic()) continue;
      const V m = e - sign * f;
      if (loss.kappa > 0) {
        const ProximalMoments<V> g = moments_of(loss, loss.kappa, sd, m);
        add(test, w, z, V(-2.0) * sign * g.g, g.g1);
      } else if (loss.bounded_above()) {
        const NormalPoint<V> p = normal_point(m * V(1 / sd));
        const V above = simd::select(m > zero, one - p.tail, p.tail);
        add(test, w, z, V(-2.0) * sign * (V(loss.lo) + V(loss.hi - loss.lo) * above),
            V((loss.hi - loss.lo) / sd) * p.density);
      }
    }
    AtomSums s;
    if (loss.logistic()) {
      s = logistic_sums(nodes, at, field);
      each_field(nodes, at, field, nodes.field_step, [&](V omega, const V* plus, const V* minus) {
        for (int side = 0; side < 2; ++side) {
          const V* const w = side == 0 ? plus : minus;
          const V sign(side == 0 ? 1.0 : -1.0), p = vecmath::sigmoid(-sign * omega);
          test.c += w[0] * -sign * p, test.tilt += w[1] * -sign * p;
          test.s2 += w[0] * V(0.5) * p * (one - p);
        }
      });
    } else {
      s = detail::piecewise_sums(loss, nodes, at, field);
    }
    const double mu1 = nodes.across ? at.mu1 : 0,
                 spread = nodes.across ? -2 * at.u1 * x[at_psi] : 0;
    const auto put = [&](LossVector& to, double v, double c, double tilted, double by_s2) {
      const double w = at.weight;
      to[at_v1] += w * v * at.u1, to[at_v2] += w * v * at.u2;
      to[at_m] += w * c * at.mu0, to[at_theta] += w * c * at.kmu1, to[at_chi] += w * c * at.muc;
      to[at_psi] += w * (tilted * mu1 + by_s2 * spread);
      to[at_q1] += w * by_s2 * at.u1, to[at_q2] += w * by_s2 * at.u2;
    };
    const auto put_sums = [&](LossVector& to, const Sums& sums) {
      put(to, 0, detail::lane_total(sums.c), detail::lane_total(sums.tilt),
          detail::lane_total(sums.s2));
    };
    put_sums(out.test_loss, test), put_sums(out.test_error, error);
    put_sums(out.classification_error, wrong);
    const double v = field.v;
    put(out.train_loss, -2 * s.gg + 2 * v * s.gg_g1, -2 * s.g[0] + 2 * v * s.g_g1[0],
        -2 * s.g[1] + 2 * v * s.g_g1[1], s.g1[0] - v * s.half_gg2);
  }
  return out;
}

}  // namespace srfx
