// What a solution with another loss than the square is asked for (THEORY section 19, Observables).
#pragma once

#include "srfx/data/logistic_moments.hpp"

namespace srfx {

struct LossObservables {
  double train_loss = 0;            ///< E loss(y, x)
  double test_loss = 0;             ///< E loss(y, omega)
  double test_error = 0;            ///< E (s* - omega)^2; of labels E (y - omega)^2
  double train_error = 0;           ///< E (y - x)^2
  double classification_error = 0;  ///< of labels
  double pull = 0;                  ///< E [g x], which is (lam/a') q2
};

namespace detail {

/// E loss(omega) of a piecewise quadratic loss, e ~ N(M, s^2).
template <class T>
SRFX_ALWAYS_INLINE T piecewise_loss(const Loss& loss, T s, T mean, const T& inverse_s) {
  const T u = mean * inverse_s;
  const NormalPoint<T> at = normal_point(u);
  // E max(e, 0), from the side that does not cancel
  const T rising = simd::select(u < T(0.0), s * at.density + mean * at.tail,
                                mean + (s * at.density - mean * at.tail));
  return T(2 * loss.lo) * mean + T(2 * (loss.hi - loss.lo)) * rising;
}

/// E [2 g e - curve g^2] from the averages of g.
template <class T>
SRFX_ALWAYS_INLINE T loss_of(const ProximalMoments<T>& x, T s, T mean, double curve) {
  return T(2.0) * (mean * x.g + s * s * x.g1) - T(curve) * x.gg;
}

}  // namespace detail

/// moments(loss, V, s, M) of a piecewise loss, whatever bounds it has; `curve` is kappa + V.
template <class T>
SRFX_INLINE ProximalMoments<T> moments_of(const Loss& loss, double curve, double sd, T mean) {
  const T l(curve), s(sd);
  if (loss.bounded_below() && loss.bounded_above())
    return (loss.hi - loss.lo) * curve < 0.02 * sd
               ? narrow_moments(loss, l, s, mean)
               : piecewise_moments<true, true>(loss, l, s, mean);
  return loss.bounded_below() ? piecewise_moments<true, false>(loss, l, s, mean)
                              : piecewise_moments<false, false>(loss, l, s, mean);
}

namespace detail {

/// The observables of one node in k, from its atoms: lanes of weights w, of means f of the field, of
/// labels and of targets.
class NodeObservables {
  using V = LossLanes;

 public:
  /// `variance` is that of e, `s2` of the field alone.
  NodeObservables(const Loss& loss, double variance, double s2, double v)
      : loss_(loss),
        sd_(std::sqrt(variance)),
        s2_(s2),
        v_(v),
        inverse_s_(1 / std::sqrt(s2)) {}

  /// To the share of labels whose sign the field misses.
  SRFX_ALWAYS_INLINE void add_sign(V w, V along) {
    const V u = along * inverse_s_;
    const NormalPoint<V> p = normal_point(u);
    wrong_ += w * simd::select(u > V(0.0), p.tail, V(1.0) - p.tail);
  }
  SRFX_ALWAYS_INLINE void add(V w, V f, V sign, V target) {
    const V away = (loss_.margin ? sign : target) - f;
    error_ += w * (away * away + V(s2_));
    if (loss_.logistic()) return;
    const V m = target - sign * f, sd(sd_), v(v_);
    const ProximalMoments<V> g = moments_of(loss_, loss_.kappa + v_, sd_, m);
    train_ += w * loss_of(g, sd, m, loss_.kappa + 2 * v_);
    fit_ += w * (m * m + sd * sd - V(2.0) * v * (m * g.g + sd * sd * g.g1) + v * v * g.gg);
    pull_ += w * (sign * f * g.g - V(s2_) * g.g1 + v * g.gg);
    if (loss_.kappa > 0)
      test_ += w * loss_of(moments_of(loss_, loss_.kappa, sd_, m), sd, m, loss_.kappa);
    else if (loss_.bounded_above()) test_ += w * piecewise_loss(loss_, sd, m, V(1 / sd_));
  }
  /// The logistic loss, of a density of y omega = u.
  SRFX_ALWAYS_INLINE void add_field(V w, V u) {
    V place;
    const ProximalMoments<V> g = logistic_map(V(v_), u, &place);
    train_ += w * vecmath::softplus(-place);
    test_ += w * vecmath::softplus(-u);
    fit_ += w * (V(1.0) - place) * (V(1.0) - place);
    pull_ += w * g.g * place;
  }
  void add_to(LossObservables& out, double weight) const {
    out.train_loss += weight * lane_total(train_);
    out.test_loss += weight * lane_total(test_);
    out.test_error += weight * lane_total(error_);
    out.train_error += weight * lane_total(fit_);
    out.classification_error += weight * lane_total(wrong_);
    out.pull += weight * lane_total(pull_);
  }

 private:
  const Loss& loss_;
  double sd_, s2_, v_;
  V inverse_s_, train_{0.0}, test_{0.0}, error_{0.0}, fit_{0.0}, wrong_{0.0}, pull_{0.0};
};

inline void finish(const Loss& loss, LossObservables& out) {
  if (loss.hard()) out.train_loss = 0, out.test_loss = std::numeric_limits<double>::infinity();
}

}  // namespace detail

inline LossObservables loss_observables(const Loss& loss, const LossNodes& nodes,
                                        const LossVector& x, bool classes_alone = false) {
  using V = detail::LossLanes;
  LossObservables out;
  for (const LossNode& at : nodes.nodes) {
    const LossField field = field_at(nodes, at, x);
    detail::NodeObservables sums(loss, field.variance, field.variance - nodes.label_noise, field.v);
    for (Index i = at.first; i < at.last; i += 8) {
      const V w = V::load(&nodes.w[i]), sign = V::load(&nodes.sign[i]);
      const V f = simd::fma(V(field.tilt), V::load(&nodes.z[i]), V(field.mean));
      if (loss.margin) sums.add_sign(w, sign * f);
      if (!classes_alone) sums.add(w, f, sign, V::load(&nodes.e[i]));
    }
    if (loss.logistic() && !classes_alone)
      each_field(nodes, at, field, nodes.field_step, [&](V omega, const V* plus, const V* minus) {
        sums.add_field(plus[0], omega), sums.add_field(minus[0], -omega);
      });
    sums.add_to(out, at.weight);
  }
  detail::finish(loss, out);
  return out;
}

/// The share of labels whose sign the field misses.
inline double classification_error(const Loss& loss, const LossNodes& nodes, const LossVector& x) {
  return loss_observables(loss, nodes, x, true).classification_error;
}

}  // namespace srfx
