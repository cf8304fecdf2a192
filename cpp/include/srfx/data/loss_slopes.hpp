// Derivatives of what a solution is asked for, by the eight order parameters (THEORY section 19).
//
// All closed, as those of the averages: with respect to the field's mean and variance an average
// moves by that of the first derivative and of half the second. E loss(y, x) is E of the Moreau
// envelope less V E g^2, and the envelope's derivatives are -2 g by omega and -g^2 by V.
#pragma once

#include "srfx/data/loss_observables.hpp"

namespace srfx {

namespace detail {

/// What an observable moves by with the mean C of the field, with its tilts along each z, and with
/// S^2.
template <int across> struct FieldSlopes {
  double c = 0, tilt[across + 1] = {}, s2 = 0;
};

/// The derivatives of what is seen of one node in k, from its atoms: weights w are alone and, after
/// that, with each z.
template <int across> class NodeSlopes {
  using V = LossLanes;
  struct Sums {
    V c[across + 1], s2{0.0};
    Sums() {
      for (V& x : c) x = V(0.0);
    }
    SRFX_ALWAYS_INLINE void add(const V* w, V by_f, V by_s2) {
      for (int i = 0; i <= across; ++i) c[i] += w[i] * by_f;
      s2 += w[0] * by_s2;
    }
    FieldSlopes<across> total() const {
      FieldSlopes<across> out;
      out.c = lane_total(c[0]), out.s2 = lane_total(s2);
      for (int i = 0; i < across; ++i) out.tilt[i] = lane_total(c[1 + i]);
      return out;
    }
  };

 public:
  /// `variance` is that of e, `s2` of the field alone.
  NodeSlopes(const Loss& loss, double variance, double s2)
      : loss_(loss),
        sd_(std::sqrt(variance)),
        s2_(s2) {}

  SRFX_ALWAYS_INLINE void add(const V* w, V f, V sign, V target) {
    const V one(1.0), inverse(1 / std::sqrt(s2_)), u = sign * f * inverse;
    error_.add(w, V(2.0) * (f - (loss_.margin ? sign : target)), one);
    const V density = normal_point(u).density;
    wrong_.add(w, -density * sign * inverse, density * u * V(0.5 / s2_));
    if (loss_.logistic()) return;
    const V m = target - sign * f;
    if (loss_.kappa > 0) {
      const ProximalMoments<V> g = moments_of(loss_, loss_.kappa, sd_, m);
      test_.add(w, V(-2.0) * sign * g.g, g.g1);
    } else if (loss_.bounded_above()) {
      const NormalPoint<V> p = normal_point(m * V(1 / sd_));
      const V above = simd::select(m > V(0.0), one - p.tail, p.tail);
      test_.add(w, V(-2.0) * sign * (V(loss_.lo) + V(loss_.hi - loss_.lo) * above),
                V((loss_.hi - loss_.lo) / sd_) * p.density);
    }
  }
  /// The logistic loss, of a density of the field with one label.
  SRFX_ALWAYS_INLINE void add_field(const V* w, V omega, V sign) {
    const V p = vecmath::sigmoid(-sign * omega);
    test_.add(w, -sign * p, V(0.5) * p * (V(1.0) - p));
  }

  FieldSlopes<across> test_loss() const { return test_.total(); }
  FieldSlopes<across> test_error() const { return error_.total(); }
  FieldSlopes<across> classification_error() const { return wrong_.total(); }

 private:
  const Loss& loss_;
  double sd_, s2_;
  Sums test_, error_, wrong_;
};

}  // namespace detail

struct LossSlopes {
  LossVector train_loss{}, test_loss{}, test_error{}, classification_error{};
};

inline LossSlopes loss_slopes(const Loss& loss, const LossNodes& nodes, const LossVector& x) {
  using V = detail::LossLanes;
  LossSlopes out;
  for (const LossNode& at : nodes.nodes) {
    const LossField field = field_at(nodes, at, x);
    detail::NodeSlopes<1> sums(loss, field.variance, field.variance - nodes.label_noise);
    for (Index i = at.first; i < at.last; i += 8) {
      const V z = V::load(&nodes.z[i]), w = V::load(&nodes.w[i]), with_z[2] = {w, w * z};
      sums.add(with_z, simd::fma(V(field.tilt), z, V(field.mean)), V::load(&nodes.sign[i]),
               V::load(&nodes.e[i]));
    }
    AtomSums s;
    if (loss.logistic()) {
      s = logistic_sums(nodes, at, field);
      each_field(nodes, at, field, nodes.field_step, [&](V omega, const V* plus, const V* minus) {
        sums.add_field(plus, omega, V(1.0)), sums.add_field(minus, omega, V(-1.0));
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
    const auto put_sums = [&](LossVector& to, const detail::FieldSlopes<1>& by) {
      put(to, 0, by.c, by.tilt[0], by.s2);
    };
    put_sums(out.test_loss, sums.test_loss()), put_sums(out.test_error, sums.test_error());
    put_sums(out.classification_error, sums.classification_error());
    const double v = field.v;
    put(out.train_loss, -2 * s.gg + 2 * v * s.gg_g1, -2 * s.g[0] + 2 * v * s.g_g1[0],
        -2 * s.g[1] + 2 * v * s.g_g1[1], s.g1[0] - v * s.half_gg2);
  }
  return out;
}

}  // namespace srfx
