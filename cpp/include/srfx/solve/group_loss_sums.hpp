// The data's side with another loss, of K groups, any spikes and directions (THEORY section 19):
// the averages that the equations are made of, with their exact derivatives by all unknowns.
//
// Given k and z the field is omega ~ N(C + sum_m tilt_m z_m, S^2), tilt_m = mu1.psi_m, S^2 = mu1^T
// Q1 mu1 + mu2^2.Q2 - sum_m tilt_m^2. An average is a sum over the nodes of what an unknown is
// multiplied with there, times E G' (of V), E g (of C), E z_m g + tilt_m E G' (of psi_m) or E g^2
// (of Q). These depend on the unknowns through V, C, tilt and S^2 alone.
#pragma once

#include "srfx/data/loss_slopes.hpp"
#include "srfx/solve/group_loss_nodes.hpp"

namespace srfx {

/// The field under one k.
struct GroupLossField {
  static constexpr int most = GroupLossLayout::most_across;
  double mean = 0, variance = 0, v = 0;  ///< C, S^2 with the label's noise, V
  double tilt[most] = {};
  double whole = 0;     ///< S^2 + sum tilt^2, without noise
  bool usable = false;  ///< V and S^2 are positive
};

namespace detail {

/// Sums over the atoms of one k; [1 + m] with z_m, and of g1 those with z_m z_l after them.
template <int across> struct GroupAtomSums {
  static constexpr int first = 1 + across, second = first + across * (across + 1) / 2;
  using V = LossLanes;
  V g[first], g1[second], gg, half_g2[first], half_g3, g_g1[first], half_gg2, gg_g1;

  GroupAtomSums() {
    const V zero(0.0);
    for (V& x : g) x = zero;
    for (V& x : g1) x = zero;
    for (V& x : half_g2) x = zero;
    for (V& x : g_g1) x = zero;
    gg = half_g3 = half_gg2 = gg_g1 = zero;
  }
  /// `w`: weights alone, with z_m, with z_m z_l; of terms that turn with the label, `sign` times.
  SRFX_ALWAYS_INLINE void add(const ProximalMoments<V>& x, const V* w, V sign) {
    for (int i = 0; i < first; ++i) {
      const V ws = sign * w[i];
      g[i] += ws * x.g, half_g2[i] += ws * x.half_g2, g_g1[i] += ws * x.g_g1;
    }
    for (int i = 0; i < second; ++i) g1[i] += w[i] * x.g1;
    gg += w[0] * x.gg, half_g3 += w[0] * x.half_g3;
    half_gg2 += w[0] * x.half_gg2, gg_g1 += w[0] * x.gg_g1;
  }
};

/// each(weights as above, fields' means, label, target) for the atoms of a node, in lanes.
template <int across, class Each>
SRFX_ALWAYS_INLINE void each_atom(const GroupLossNodes& nodes, Index node,
                                  const GroupLossField& field, Each&& each) {
  using V = LossLanes;
  for (Index i = nodes.first[node]; i < nodes.first[node + 1]; i += 8) {
    V w[GroupAtomSums<across>::second], z[across + 1];
    w[0] = V::load(&nodes.w[i]);
    V f(field.mean);
    for (int m = 0; m < across; ++m) {
      z[m] = V::load(&nodes.z[m][i]);
      f = simd::fma(V(field.tilt[m]), z[m], f);
      w[1 + m] = w[0] * z[m];
    }
    for (int m = 0, at = 1 + across; m < across; ++m)
      for (int l = m; l < across; ++l) w[at++] = w[1 + m] * z[l];
    each(w, f, V::load(&nodes.sign[i]), V::load(&nodes.target[i]));
  }
}

/// each(omega, densities of label +1, of -1: weights as above) on a grid of the field at one k.
template <int across, class Each>
void each_group_field(const GroupLossNodes& nodes, Index node, const GroupLossField& field,
                      Each&& each) {
  using V = LossLanes;
  constexpr int second = GroupAtomSums<across>::second;
  const double sd = std::sqrt(field.variance);
  constexpr double most = 4096;
  const double reach = 7.6 * std::sqrt(field.whole);
  const double step = std::max(nodes.field_step * std::min(sd, 1.0), 2 * reach / most);
  const Index count = static_cast<Index>(std::ceil(2 * reach / step / 8)) * 8;
  const double start = -0.5 * step * static_cast<double>(count - 1);  // beside C
  const double inverse = 1 / sd;
  const double scale = 0.39894228040143267794 * step * inverse * vecmath::detail::lifted<double>;
  for (Index j = 0; j < count; j += 8) {
    alignas(64) double grid[8];
    for (int i = 0; i < 8; ++i) grid[i] = start + step * static_cast<double>(j + i);
    const V beside = V::load(grid), omega = V(field.mean) + beside;
    V plus[second], minus[second];
    for (int i = 0; i < second; ++i) plus[i] = minus[i] = V(0.0);
    double w[second];
    for (Index i = nodes.first[node]; i < nodes.first[node + 1]; ++i) {
      w[0] = nodes.w[i] * scale;
      if (w[0] == 0) continue;
      double f = 0;
      for (int m = 0; m < across; ++m) f += field.tilt[m] * nodes.z[m][i];
      if (std::abs(grid[0] + 3.5 * step - f) > 9 * sd + 4 * step) continue;
      for (int m = 0; m < across; ++m) w[1 + m] = w[0] * nodes.z[m][i];
      for (int m = 0, at = 1 + across; m < across; ++m)
        for (int l = m; l < across; ++l) w[at++] = w[1 + m] * nodes.z[l][i];
      const V d = (beside - V(f)) * V(inverse);
      const auto [p, s] = vecmath::detail::exponential<vecmath::detail::lift>(
          simd::max(V(-0.5) * d * d, V(-740.0)));
      const V density = simd::fma(s, p, s);
      V* const side = nodes.sign[i] > 0 ? plus : minus;
      for (int x = 0; x < second; ++x) side[x] = simd::fma(V(w[x]), density, side[x]);
    }
    each(omega, plus, minus);
  }
}

template <int across>
SRFX_INLINE GroupAtomSums<across> atom_sums(const Loss& loss, const GroupLossNodes& nodes,
                                            Index node, const GroupLossField& field) {
  using V = LossLanes;
  GroupAtomSums<across> out;
  if (loss.logistic()) {
    each_group_field<across>(nodes, node, field, [&](V omega, const V* plus, const V* minus) {
      out.add(logistic_map(V(field.v), omega), plus, V(1.0));
      out.add(logistic_map(V(field.v), -omega), minus, V(-1.0));
    });
    return out;
  }
  const double curve = loss.kappa + field.v, sd = std::sqrt(field.variance);
  each_atom<across>(nodes, node, field, [&](const V* w, V f, V sign, V target) {
    out.add(moments_of(loss, curve, sd, target - sign * f), w, sign);
  });
  return out;
}

/// work(integral_constant<number of z>).
template <class Work> void with_across(int across, Work&& work) {
  if (across == 0) work(std::integral_constant<int, 0>{});
  else if (across == 1) work(std::integral_constant<int, 1>{});
  else if (across == 2) work(std::integral_constant<int, 2>{});
  else work(std::integral_constant<int, 3>{});
}

}  // namespace detail

/// The field at one k; the tilts of K groups are sums over them.
inline GroupLossField group_field_at(const GroupLossNodes& nodes, Index i, const dense::Vector& x) {
  const GroupLossLayout& l = nodes.layout;
  GroupLossField out;
  const double *const e = &nodes.e[i * l.packed()], *const mu1 = &nodes.mu1[i * l.groups],
                      *const f = &nodes.features[i * l.features()];
  for (int g = 0, at = 0; g < l.groups; ++g)
    for (int h = g; h < l.groups; ++h, ++at) {
      const double twice = g == h ? 1 : 2;
      out.v += twice * e[at] * x(at), out.whole += twice * e[at] * x(l.q() + at);
    }
  for (int at = l.pairs(); at < l.packed(); ++at)
    out.v += e[at] * x(at), out.whole += e[at] * x(l.q() + at);
  for (int j = 0; j < l.features(); ++j) out.mean += f[j] * x(l.m() + j);
  double tilted = 0;
  for (int m = 0; m < l.across; ++m) {
    for (int g = 0; g < l.groups; ++g) out.tilt[m] += mu1[g] * x(l.psi() + m * l.groups + g);
    tilted += out.tilt[m] * out.tilt[m];
  }
  const double tiny = 1e-60;  // in the tails
  out.usable = out.v > -tiny && out.whole - tilted > -1e-13 * out.whole - tiny;
  out.v = std::max(out.v, tiny);
  out.whole = std::max(out.whole, tiny) + nodes.label_noise;
  out.variance = std::max(out.whole - tilted, tiny);
  return out;
}

/// How unknowns act at a node: through V (0), C (1), tilt_m (2 + m) or S^2 (2 + L'), with what
/// factor; and what their averages have there beside the sum of that kind.
struct GroupLossActions {
  std::vector<int> kind;
  std::vector<double> feature, factor;

  explicit GroupLossActions(const GroupLossLayout& l)
      : kind(l.size()),
        feature(l.size()),
        factor(l.size()),
        twice_(l.packed(), 1.0) {
    for (int g = 0, at = 0; g < l.groups; ++g)
      for (int h = g; h < l.groups; ++h, ++at) twice_[at] = g == h ? 1 : 2;
    for (int i = 0; i < l.packed(); ++i) kind[i] = 0, kind[l.q() + i] = 2 + l.across;
    for (int i = l.m(); i < l.psi(); ++i) kind[i] = 1;
    for (int i = l.psi(); i < l.q(); ++i) kind[i] = 2 + (i - l.psi()) / l.groups;
  }
  void go_to(const GroupLossNodes& nodes, Index node) {
    const GroupLossLayout& l = nodes.layout;
    const double *const e = &nodes.e[node * l.packed()],
                        *const f = &nodes.features[node * l.features()],
                        *const mu1 = &nodes.mu1[node * l.groups];
    for (int i = 0; i < l.packed(); ++i) {
      feature[i] = feature[l.q() + i] = e[i];
      factor[i] = factor[l.q() + i] = twice_[i] * e[i];
    }
    for (int i = 0; i < l.features(); ++i) feature[l.m() + i] = factor[l.m() + i] = f[i];
    for (int i = l.psi(); i < l.q(); ++i) feature[i] = factor[i] = mu1[(i - l.psi()) % l.groups];
  }

 private:
  std::vector<double> twice_;
};

/// The averages at x and their derivatives, in the places of the unknowns.
struct GroupLossAverages {
  dense::Vector value, beyond;  ///< the latter: what |k| > 6 has of it, which no sample draws
  dense::Matrix slope;          ///< [average][unknown]
  double square = 0;            ///< E g^2
  bool usable = true;
};

inline GroupLossAverages group_loss_averages(const Loss& loss, const GroupLossNodes& nodes,
                                             const dense::Vector& x) {
  const GroupLossLayout& l = nodes.layout;
  const int n = l.size();
  GroupLossAverages out;
  out.value = out.beyond = dense::Vector::Zero(n);
  out.slope = dense::Matrix::Zero(n, n);
  GroupLossActions at(l);
  constexpr int most = 3 + GroupLossLayout::most_across;
  for (Index node = 0; node < nodes.size; ++node) {
    const GroupLossField field = group_field_at(nodes, node, x);
    out.usable = out.usable && field.usable;
    double average[most] = {}, by[most][most] = {};
    detail::with_across(l.across, [&](auto count) {
      constexpr int across = decltype(count)::value, last = 2 + across;
      const detail::GroupAtomSums<across> sums =
          detail::atom_sums<across>(loss, nodes, node, field);
      const auto total = [](const detail::LossLanes& lanes) { return detail::lane_total(lanes); };
      double g1[detail::GroupAtomSums<across>::second];
      for (int i = 0; i < detail::GroupAtomSums<across>::second; ++i) g1[i] = total(sums.g1[i]);
      double half_g2[across + 1], g_g1[across + 1];
      for (int i = 0; i <= across; ++i)
        half_g2[i] = total(sums.half_g2[i]), g_g1[i] = total(sums.g_g1[i]);
      average[0] = g1[0], average[1] = total(sums.g[0]), average[last] = total(sums.gg);
      by[0][0] = -total(sums.half_gg2), by[0][1] = -2 * half_g2[0],
      by[0][last] = total(sums.half_g3);
      by[1][0] = -g_g1[0], by[1][1] = -g1[0], by[1][last] = half_g2[0];
      by[last][0] = -2 * total(sums.gg_g1), by[last][1] = -2 * g_g1[0], by[last][last] = -by[0][0];
      for (int m = 0; m < across; ++m) {
        by[0][2 + m] = -2 * half_g2[1 + m];
        by[1][2 + m] = -g1[1 + m];
        by[last][2 + m] = -2 * g_g1[1 + m];
      }
      for (int m = 0; m < across; ++m) {
        double* const row = by[2 + m];
        average[2 + m] = total(sums.g[1 + m]) + field.tilt[m] * g1[0];
        row[0] = -g_g1[1 + m] + field.tilt[m] * by[0][0];
        row[1] = -g1[1 + m] + field.tilt[m] * by[0][1];
        row[last] = half_g2[1 + m] + field.tilt[m] * by[0][last];
        for (int h = 0; h < across; ++h) {
          const int a = std::min(m, h), b = std::max(m, h);
          const int pair = 1 + across + a * (2 * across - a + 1) / 2 + b - a;
          row[2 + h] = -g1[pair] + field.tilt[m] * by[0][2 + h] + (m == h ? g1[0] : 0);
        }
      }
      for (int i = 0; i <= last; ++i)  // S^2 falls with tilt^2
        for (int m = 0; m < across; ++m) by[i][2 + m] -= 2 * field.tilt[m] * by[i][last];
    });
    const double w = nodes.weight[node];
    out.square += w * average[2 + l.across];
    at.go_to(nodes, node);
    for (int i = 0; i < n; ++i) {
      const double value = w * at.feature[i] * average[at.kind[i]];
      out.value(i) += value;
      if (nodes.near[node] < 1.5e-8) out.beyond(i) += value;
    }
    for (int j = 0; j < n; ++j) {
      const double wf = w * at.factor[j];
      for (int i = 0; i < n; ++i)
        out.slope(i, j) += wf * at.feature[i] * by[at.kind[i]][at.kind[j]];
    }
  }
  return out;
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

}  // namespace detail

/// What a solution is asked for. `classes_alone`: the classification error only.
inline LossObservables group_loss_observables(const Loss& loss, const GroupLossNodes& nodes,
                                              const dense::Vector& x, bool classes_alone = false) {
  using V = detail::LossLanes;
  LossObservables out;
  for (Index node = 0; node < nodes.size; ++node) {
    const GroupLossField field = group_field_at(nodes, node, x);
    const double s2 = field.variance - nodes.label_noise;
    detail::NodeObservables sums(loss, field.variance, s2, field.v);
    detail::with_across(nodes.layout.across, [&](auto count) {
      constexpr int across = decltype(count)::value;
      detail::each_atom<across>(nodes, node, field, [&](const V* w, V f, V sign, V target) {
        if (loss.margin) sums.add_sign(w[0], sign * f);
        if (!classes_alone) sums.add(w[0], f, sign, target);
      });
      if (loss.logistic() && !classes_alone)
        detail::each_group_field<across>(nodes, node, field,
                                         [&](V omega, const V* plus, const V* minus) {
                                           sums.add_field(plus[0], omega);
                                           sums.add_field(minus[0], -omega);
                                         });
    });
    sums.add_to(out, nodes.weight[node]);
  }
  if (loss.hard()) out.train_loss = 0, out.test_loss = std::numeric_limits<double>::infinity();
  return out;
}

/// Derivatives of train_loss, test_loss, test_error and classification_error, in rows, by the
/// unknowns.
inline dense::Matrix group_loss_slopes(const Loss& loss, const GroupLossNodes& nodes,
                                       const dense::Vector& x) {
  using V = detail::LossLanes;
  const GroupLossLayout& l = nodes.layout;
  dense::Matrix out = dense::Matrix::Zero(4, l.size());
  GroupLossActions at(l);
  for (Index node = 0; node < nodes.size; ++node) {
    const GroupLossField field = group_field_at(nodes, node, x);
    double by[4][3 + GroupLossLayout::most_across] = {};
    detail::with_across(l.across, [&](auto count) {
      constexpr int across = decltype(count)::value, last = 2 + across;
      detail::NodeSlopes<across> sums(loss, field.variance, field.variance - nodes.label_noise);
      detail::each_atom<across>(nodes, node, field, [&](const V* w, V f, V sign, V target) {
        sums.add(w, f, sign, target);
      });
      if (loss.logistic())
        detail::each_group_field<across>(nodes, node, field,
                                         [&](V omega, const V* plus, const V* minus) {
                                           sums.add_field(plus, omega, V(1.0));
                                           sums.add_field(minus, omega, V(-1.0));
                                         });
      const detail::GroupAtomSums<across> s = detail::atom_sums<across>(loss, nodes, node, field);
      const auto total = [](const V& lanes) { return detail::lane_total(lanes); };
      const double v = field.v;
      by[0][0] = -2 * total(s.gg) + 2 * v * total(s.gg_g1);
      by[0][last] = total(s.g1[0]) - v * total(s.half_gg2);
      for (int i = 0; i <= across; ++i)
        by[0][1 + i] = -2 * total(s.g[i]) + 2 * v * total(s.g_g1[i]);
      const detail::FieldSlopes<across> seen[3] = {sums.test_loss(), sums.test_error(),
                                                   sums.classification_error()};
      for (int o = 0; o < 3; ++o) {
        by[1 + o][1] = seen[o].c, by[1 + o][last] = seen[o].s2;
        for (int m = 0; m < across; ++m) by[1 + o][2 + m] = seen[o].tilt[m];
      }
      for (auto& row : by)  // S^2 falls with tilt^2
        for (int m = 0; m < across; ++m) row[2 + m] -= 2 * field.tilt[m] * row[last];
    });
    at.go_to(nodes, node);
    for (int o = 0; o < 4; ++o)
      for (int j = 0; j < l.size(); ++j)
        out(o, j) += nodes.weight[node] * at.factor[j] * by[o][at.kind[j]];
  }
  return out;
}

}  // namespace srfx
