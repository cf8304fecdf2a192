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
  double square = 0;                ///< E g^2
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

/// The share of labels under one k whose sign the field misses.
inline double classification_error(const LossNodes& nodes, const LossNode& at,
                                   const LossField& field) {
  using V = detail::LossLanes;
  const V inverse_s(1 / std::sqrt(field.variance - nodes.label_noise)), mean(field.mean),
      tilt(field.tilt);
  V wrong(0.0);
  for (Index i = at.first; i < at.last; i += 8) {
    const V u = V::load(&nodes.sign[i]) * simd::fma(tilt, V::load(&nodes.z[i]), mean) * inverse_s;
    const NormalPoint<V> p = normal_point(u);
    wrong += V::load(&nodes.w[i]) * simd::select(u > V(0.0), p.tail, V(1.0) - p.tail);
  }
  return detail::lane_total(wrong);
}
/// What a fresh label costs under one k.
inline double fresh_loss(const Loss& loss, const LossNodes& nodes, const LossNode& at,
                         const LossField& field) {
  using V = detail::LossLanes;
  if (loss.logistic() || loss.hard()) return 0;
  const double sd = std::sqrt(field.variance);
  const V mean(field.mean), tilt(field.tilt), s(sd), inverse_s(1 / sd);
  V out(0.0);
  for (Index i = at.first; i < at.last; i += 8) {
    const V f = simd::fma(tilt, V::load(&nodes.z[i]), mean);
    const V m = V::load(&nodes.e[i]) - V::load(&nodes.sign[i]) * f;
    const V cost = loss.kappa > 0
                       ? detail::loss_of(moments_of(loss, loss.kappa, sd, m), s, m, loss.kappa)
                       : detail::piecewise_loss(loss, s, m, inverse_s);
    out += V::load(&nodes.w[i]) * cost;
  }
  return detail::lane_total(out);
}

/// What a fresh label is met by. The logistic loss is not among it.
struct FreshLabel {
  double loss = 0, missed = 0;
};
inline FreshLabel fresh_label(const Loss& loss, const LossNodes& nodes, const LossVector& x) {
  FreshLabel out;
  LabelSeries::Fresh lanes;
  bool served = false;
  for (const LossNode& at : nodes.nodes) {
    const Index index = &at - nodes.nodes.data();
    const int lane = static_cast<int>(index % 8);
    if (nodes.series != nullptr && lane == 0)
      served = nodes.series->fresh(loss, index / 8, fields_at(nodes, index, x), lanes);
    if (served) {
      out.loss += at.weight * lanes.loss[lane], out.missed += at.weight * lanes.missed[lane];
      continue;
    }
    const LossField field = field_at(nodes, at, x);
    out.loss += at.weight * fresh_loss(loss, nodes, at, field);
    if (loss.margin) out.missed += at.weight * classification_error(nodes, at, field);
  }
  return out;
}
inline double classification_error(const LossNodes& nodes, const LossVector& x) {
  Loss none;
  none.kind = Loss::Kind::logistic, none.margin = true;
  return fresh_label(none, nodes, x).missed;
}

/// All but what a fresh label is met by, except for the logistic loss of it.
inline LossObservables loss_observables(const Loss& loss, const LossNodes& nodes,
                                        const LossVector& x) {
  using V = detail::LossLanes;
  const bool labels = loss.margin;
  LossObservables out;
  const LabelSeries* const series =
      loss.logistic() || !loss.bounded_below() ? nullptr : nodes.series.get();
  LabelSeries::Observed lanes;
  bool served = false;
  for (const LossNode& at : nodes.nodes) {
    if (series != nullptr) {
      const Index index = &at - nodes.nodes.data();
      const int lane = static_cast<int>(index % 8);
      if (lane == 0) served = series->observe(loss, index / 8, fields_at(nodes, index, x), lanes);
      if (served) {
        out.train_loss += at.weight * lanes.train_loss[lane];
        out.test_error += at.weight * lanes.test_error[lane];
        out.train_error += at.weight * lanes.train_error[lane];
        out.pull += at.weight * lanes.pull[lane];
        out.square += at.weight * lanes.square[lane];
        continue;
      }
    }
    const LossField field = field_at(nodes, at, x);
    const double s2 = field.variance - nodes.label_noise;  // of the field alone
    const double sd = std::sqrt(field.variance), v = field.v;
    const V mean(field.mean), tilt(field.tilt);
    V train(0.0), test(0.0), error(0.0), fit(0.0), pull(0.0), square(0.0);
    for (Index i = at.first; i < at.last; i += 8) {
      const V z = V::load(&nodes.z[i]), w = V::load(&nodes.w[i]), sign = V::load(&nodes.sign[i]);
      const V e = V::load(&nodes.e[i]), f = simd::fma(tilt, z, mean);
      if (labels) error += w * ((sign - f) * (sign - f) + V(s2));
      if (!loss.logistic()) {
        const V m = e - sign * f;
        const ProximalMoments<V> g = moments_of(loss, loss.kappa + v, sd, m);
        train += w * detail::loss_of(g, V(sd), m, loss.kappa + 2 * v);
        fit +=
            w * (m * m + V(sd * sd) - V(2 * v) * (m * g.g + V(sd * sd) * g.g1) + V(v * v) * g.gg);
        pull += w * (sign * f * g.g - V(s2) * g.g1 + V(v) * g.gg);
        square += w * g.gg;
      }
    }
    if (loss.logistic())
      each_field(nodes, at, field, nodes.field_step, [&](V omega, const V* plus, const V* minus) {
        for (int side = 0; side < 2; ++side) {
          const V w = (side == 0 ? plus : minus)[0], u = side == 0 ? omega : -omega;
          V place;
          const ProximalMoments<V> g = logistic_map(V(v), u, &place);
          train += w * vecmath::softplus(-place);
          test += w * vecmath::softplus(-u);
          fit += w * (V(1.0) - place) * (V(1.0) - place);
          pull += w * g.g * place;
          square += w * g.gg;
        }
      });
    const double w = at.weight;
    out.train_loss += w * detail::lane_total(train);
    out.test_loss += w * detail::lane_total(test);
    const double c = field.mean, s_f = at.h * c + at.h1 * field.tilt;  // E s* f
    out.test_error += w * (labels ? detail::lane_total(error)
                                  : at.hh - 2 * s_f + c * c + field.tilt * field.tilt + s2);
    out.train_error += w * detail::lane_total(fit);
    out.pull += w * detail::lane_total(pull);
    out.square += w * detail::lane_total(square);
  }
  if (loss.hard()) out.train_loss = 0, out.test_loss = std::numeric_limits<double>::infinity();
  return out;
}

}  // namespace srfx
