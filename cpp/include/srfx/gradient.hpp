// Exact derivatives of the errors in every parameter, by implicit differentiation at the solution (no differences).
//
// At the fixed point V = y(V, p): (I - T M) dV = dy at fixed V; then the linear part in dual numbers (scalar.hpp) at
// (V, dV). The coefficients are differentiated under the integral: by Stein's lemma every derivative is again a moment of
// sigma itself, e = sigma - mu0 - mu1 z, u2 = E e^2 (kinks and jumps are harmless, no sigma' is needed):
//
//   d/dr:  mu0' = (k/s) mu1            mu1' = (k/s) E (z^2-1) sigma             u2' = (k/s) E z e^2,           s = sqrt(c)
//   d/dc:  mu0' = E (z^2-1) sigma/2c   mu1' = E (z^3-2z) sigma/2c               u2' = E (z^2-1) e^2/2c
//   d/dgamma: h' = (k/rho) h1 - (gamma/rho^2) E (z^2-1) s*, h1' = (k/rho) E (z^2-1) s* - (gamma/rho^2) E (z^3-2z) s*,
//             rest' = (k/rho) E z e^2 - (gamma/rho^2) E (z^2-1) e^2,            e = s* - h - h1 z
//
// h' loses digits like rho^-2: for rho < 0.01 and a smooth target it is k E s*' - gamma E s*'' (heat_slope below). The errors
// depend on h1 through squares only, h1^2 = rho^2 (E s*')^2: at rho = 0 the derivative from the inside is that of a tiny
// h1 = rho E s*'.
#pragma once

#include "scan.hpp"

namespace srfx {

/// What can be differentiated by. The first four leave the coefficients alone.
enum class Direction : std::int8_t { lam = 0, alpha = 1, beta = 2, noise = 3, r = 4, c = 5, gamma = 6 };

/// Derivatives of the coefficients at one node.
struct NodeTangent {
  double mu0 = 0, mu1 = 0, k_mu1 = 0, u2 = 0, h = 0, h1 = 0, rest = 0;
};

/// E (z^2-1) f, E (z^3-2z) f, E z e^2, E (z^2-1) e^2 with e = f - m0 - m1 z, beside the moments themselves.
struct HigherMoments {
  double m0 = 0, m1 = 0, m2 = 0, second = 0, third = 0, skew = 0, spread = 0;
};

/// Higher moments of f(mean + sd z) at many means, in one call of f a block.
inline void higher_moments(const Function& f, const GaussianRule& rule, double sd, const std::vector<double>& means,
                           std::vector<HigherMoments>& out) {
  const Index n = static_cast<Index>(means.size());
  out.assign(n, {});
  const Index block = std::max<Index>(16, (Index(1) << (f.one_call() ? 20 : 13)) / rule.typical_size());
  Rule all;
  std::vector<Index> first;
  std::vector<double> x, values;
  for (Index begin = 0; begin < n; begin += block) {
    const Index count = std::min(block, n - begin);
    first.assign(1, 0);
    all.clear();
    for (Index i = 0; i < count && !rule.shared(); ++i) rule.at(means[begin + i], all), first.push_back(all.size());
    all.finish();
    const Index shared = rule.shared() ? rule.nodes().size() : 0;
    if (rule.shared())
      for (Index i = 0; i < count; ++i) first.push_back((i + 1) * shared);
    x.resize(first.back()), values.resize(first.back());
    for (Index i = 0; i < count; ++i) {
      const double* z = rule.shared() ? rule.nodes().x.data() : all.x.data() + first[i];
      for (Index j = 0; j < first[i + 1] - first[i]; ++j) x[first[i] + j] = means[begin + i] + sd * z[j];
    }
    f.evaluate(x.data(), values.data(), first.back());
    for (Index i = 0; i < count; ++i) {
      const double* z = rule.shared() ? rule.nodes().x.data() : all.x.data() + first[i];
      const double* weights = rule.shared() ? rule.nodes().w.data() : all.w.data() + first[i];
      const double* y = values.data() + first[i];
      const Index size = first[i + 1] - first[i];
      HigherMoments m;
      for (Index j = 0; j < size; ++j) {
        const double wf = weights[j] * y[j];
        m.m0 += wf, m.m1 += wf * z[j];
      }
      for (Index j = 0; j < size; ++j) {
        const double e = y[j] - m.m0 - m.m1 * z[j], we = weights[j] * e, second = z[j] * z[j] - 1;
        m.m2 += we * e;
        m.second += we * second;  // of f and of e they are the same
        m.third += we * z[j] * (second - 1);
        m.skew += we * e * z[j];
        m.spread += we * e * second;
      }
      m.third += m.m1;  // E z (z^3 - 2z) = 1
      out[begin + i] = m;
    }
  }
}

/// E f'(m + rho z) and E f''(m + rho z) of an analytic f at small rho: F(v) = E f''(m + sqrt(v) z) = E (z^2-1) f/v at four larger v,
/// extrapolated to rho^2 by the cubic through them.
inline void heat_slope(const Function& f, double rho, const std::vector<double>& means, std::vector<double>& slope,
                       std::vector<double>& curvature) {
  constexpr int n_widths = 4;
  constexpr double unit = 4e-4;
  slope.assign(means.size(), 0), curvature.assign(means.size(), 0);
  std::vector<HigherMoments> at;
  for (int i = 0; i < n_widths; ++i) {
    const double v = unit * (i + 1), sd = std::sqrt(v);
    double weight = 1;
    for (int j = 0; j < n_widths; ++j)
      if (j != i) weight *= (rho * rho - unit * (j + 1)) / (v - unit * (j + 1));
    higher_moments(f, GaussianRule(f.shape(), sd, 2), sd, means, at);
    for (std::size_t k = 0; k < means.size(); ++k) {
      slope[k] += weight * at[k].m1 / sd;
      curvature[k] += weight * at[k].second / v;
    }
  }
}

namespace detail {

/// The folding of Coefficients::append for the target's part, differentiated.
inline void fold_target(const Coefficients& coefficients, const Dual<double> t[3], const Dual<double> q[3], NodeTangent& out) {
  const double parity = coefficients.sigma_shape().parity;
  const auto half_sum = [](Dual<double> a, Dual<double> b) { return Dual<double>(0.5) * (a + b); };
  const auto half_difference = [](Dual<double> a, Dual<double> b) { return Dual<double>(0.5) * (a - b); };
  const Dual<double> p(parity), q0 = p * q[0], q1 = p * q[1];
  out.h = half_sum(t[0], q0).d;
  out.h1 = half_difference(t[1], q1).d;
  const Dual<double> other = half_difference(t[0], q0), other1 = half_sum(t[1], q1);
  out.rest = (half_sum(t[2], q[2]) + other * other + other1 * other1).d;
}

}  // namespace detail

/// The smallest rho at which the errors can be differentiated in gamma, for a target that is not smooth.
inline constexpr double least_rho = 1e-4;

/// Derivatives of the coefficients of a rule's nodes along r, c or gamma; h1 of the nodes may be replaced (see above).
inline std::vector<NodeTangent> node_tangents(const Coefficients& coefficients, const Level& level, Direction direction, NodeSet& set) {
  const Index n = set.size();
  const SpikeParameters& p = coefficients.parameters();
  std::vector<NodeTangent> out(n);
  std::vector<double> means(n);
  std::vector<HigherMoments> moments;
  if (direction == Direction::r || direction == Direction::c) {
    const double sd = p.sd();
    for (Index i = 0; i < n; ++i) means[i] = p.r * level.k[i];
    higher_moments(coefficients.sigma(), coefficients.sigma_rule(), sd, means, moments);
    bool no_mean = true;  // counts as zero: stays zero
    for (const Node& node : set.nodes) no_mean = no_mean && node.mu0 == 0;
    for (Index i = 0; i < n; ++i) {
      const HigherMoments& m = moments[i];
      const double along = level.k[i] / sd, across = 0.5 / p.c;
      if (direction == Direction::r)
        out[i].mu0 = along * set.nodes[i].mu1, out[i].mu1 = along * m.second, out[i].u2 = along * m.skew;
      else
        out[i].mu0 = across * m.second, out[i].mu1 = across * m.third, out[i].u2 = across * m.spread;
      out[i].k_mu1 = level.k[i] * out[i].mu1;
      if (no_mean) out[i].mu0 = 0;
      if (set.nodes[i].u2 == 0) out[i].u2 = 0;
    }
    return out;
  }
  const double rho = p.rho(), gamma = p.gamma;
  const Shape& shape = coefficients.target_shape();
  const bool narrow = shape.smooth && rho < 0.01;
  if (!narrow && rho < least_rho)
    throw std::domain_error("the derivative in gamma at |gamma| = 1 needs a smooth target");
  const double width = std::max(rho, 1e-8);
  // Moments of the target and their derivatives at slope gamma times k.
  const auto duals = [&](double sign, std::vector<std::array<Dual<double>, 3>>& values) {
    values.resize(n);
    for (Index i = 0; i < n; ++i) means[i] = gamma * sign * level.k[i];
    std::vector<double> slope, curvature;
    if (narrow) heat_slope(coefficients.target(), rho, means, slope, curvature);
    if (rho > 1e-6) {
      higher_moments(coefficients.target(), coefficients.target_rule(), rho, means, moments);
    } else {
      std::vector<double> at(n);
      coefficients.target().evaluate(means.data(), at.data(), n);
      moments.assign(n, {});
      for (Index i = 0; i < n; ++i) moments[i].m0 = at[i];
    }
    for (Index i = 0; i < n; ++i) {
      const HigherMoments& m = moments[i];
      const double k = sign * level.k[i], along = k / width, across = gamma / (width * width);
      std::array<Dual<double>, 3>& v = values[i];
      v[0] = {m.m0, narrow ? k * slope[i] - gamma * curvature[i] : along * m.m1 - across * m.second};
      if (rho > 1e-6) {
        v[1] = {m.m1, along * m.second - across * m.third};
        v[2] = {m.m2, along * m.skew - across * m.spread};
      } else {
        v[1] = {width * slope[i], -gamma / width * slope[i]};
        v[2] = {0, 0};
      }
    }
  };
  std::vector<std::array<Dual<double>, 3>> t, q;
  duals(1, t);
  if (coefficients.folded()) duals(-1, q);
  for (Index i = 0; i < n; ++i) {
    Node& node = set.nodes[i];
    if (coefficients.folded()) {
      detail::fold_target(coefficients, t[i].data(), q[i].data(), out[i]);
      if (rho <= 1e-6) node.h1 = 0.5 * (t[i][1].v - coefficients.sigma_shape().parity * q[i][1].v);
    } else {
      out[i].h = t[i][0].d, out[i].h1 = t[i][1].d, out[i].rest = t[i][2].d;
      if (rho <= 1e-6) node.h1 = t[i][1].v;
    }
    node.mu1h1 = node.mu1 * node.h1;
  }
  return out;
}

/// Values of a pack at a solution and their derivatives along one direction.
template <class V> struct ErrorTangent {
  V test_error, train_error;
};

/// Derivatives along one direction at the solution (v1, v2). `p` carries the derivatives of the parameters, `tangents` those
/// of the coefficients (or none); `weights` is room for one dual value a node.
template <class V, class Bulk>
ErrorTangent<V> errors_along(const Bulk& bulk, const Point<Dual<V>>& p, const NodeSet& set, const NodeTangent* tangents, V v1, V v2,
                             Dual<V>* weights) {
  using D = Dual<V>;
  const Index n = set.size();
  const auto u1_of = [&](Index i) {
    const Node& node = set.nodes[i];
    return D(V(node.u1), V(tangents ? 2 * node.mu1 * tangents[i].mu1 : 0));
  };
  const auto u2_of = [&](Index i) { return D(V(set.nodes[i].u2), V(tangents ? tangents[i].u2 : 0)); };

  // The fixed point: I - T M with all its digits, and dy at fixed V.
  MapSums<V> s{V(0), V(0), V(0), V(0), V(0)};
  V f0(0), f1(0), f2(0), d1(0), d2(0), s00(0), s01(0);
  for (Index i = 0; i < n; ++i) {
    const Node& node = set.nodes[i];
    const V w = V(1) / (p.unit.v + V(node.u1) * v1 + V(node.u2) * v2);
    const V a = V(node.u1) * w, b = V(node.u2) * w, ww = V(node.weight) * w;
    const V wa = V(node.weight) * a, wb = V(node.weight) * b;
    f0 += ww;
    s.e1 += wa, s.e2 += wb;
    f1 += wa * w, f2 += wb * w;
    s.e11 += wa * a, s.e12 += wa * b, s.e22 += wb * b;
    s00 += ww * V(node.mu0 * node.mu0);
    s01 += ww * V(node.mu0 * node.column);
    if (tangents) {
      const V du1(2 * node.mu1 * tangents[i].mu1), du2(tangents[i].u2), dw = ww * (du1 * v1 + du2 * v2);
      d1 += ww * du1 - a * dw;
      d2 += ww * du2 - b * dw;
    }
  }
  if (!(simd::all(p.unit.d == V(0)))) d1 -= p.unit.d * f1, d2 -= p.unit.d * f2;
  const Point<V> at{p.alpha.v, p.beta.v, p.lam.v, p.noise.v, p.inverse_d.v, p.unit.v, p.ratio.v};
  const MapValue<V> map = map_value(bulk, at, s);
  const BalancedSystem<V> system(at, map, v1, v2, f0, f1, f2);
  const auto averages = [&](D e1, D e2) { return bulk.averages(p.lam + p.ratio * e2, p.ratio * e1, p.beta); };
  const SpectralAverages<D> fixed = averages(D(s.e1, d1), D(s.e2, d2));
  V dv1, dv2;
  system.solve(fixed.y1.d, fixed.y2.d, dv1, dv2);
  const D w1(v1, dv1), w2(v2, dv2);

  // The linear part, with the second column kept at k mu1 - lean mu0 for the lean that makes it orthogonal here, penalty
  // included.
  const D ridge0(V(0));
  MapSums<D> m{ridge0, ridge0, ridge0, ridge0, ridge0};
  D g1(V(0)), g2(V(0)), n00(V(0)), n01(V(0)), n11(V(0)), b0(V(0)), b1(V(0)), sh1(V(0)), mean_u1(V(0)), mean_u2(V(0));
  const V ridge_m0 = at.inverse_d / (at.alpha * map.bulk.y2), norm0 = s00 + ridge_m0;
  const V slope = simd::select(s00 > V(0), (s01 - V(set.kappa) * ridge_m0) / norm0, V(0));
  const V lean = simd::select(s00 > V(0), (s01 + V(set.kappa) * s00) / norm0, V(0));
  const auto mu0_of = [&](Index i) { return D(V(set.nodes[i].mu0), V(tangents ? tangents[i].mu0 : 0)); };
  const auto mu1_of = [&](Index i) { return D(V(set.nodes[i].mu1), V(tangents ? tangents[i].mu1 : 0)); };
  const auto h_of = [&](Index i) { return D(V(set.nodes[i].h), V(tangents ? tangents[i].h : 0)); };
  const auto h1_of = [&](Index i) { return D(V(set.nodes[i].h1), V(tangents ? tangents[i].h1 : 0)); };
  const auto column_of = [&](Index i) {  // k d(mu1) - lean d(mu0)
    const Node& node = set.nodes[i];
    const V value = V(node.column) - slope * V(node.mu0);
    return tangents ? D(value, V(tangents[i].k_mu1) - lean * V(tangents[i].mu0)) : D(value);
  };
  for (Index i = 0; i < n; ++i) {
    const V omega(set.nodes[i].weight);
    const D u1 = u1_of(i), u2 = u2_of(i);
    const D w = D(V(1)) / (p.unit + u1 * w1 + u2 * w2);
    weights[i] = w;
    const D a = u1 * w, b = u2 * w, ww = D(omega * w.v, omega * w.d);
    const D wa = u1 * ww, wb = u2 * ww;
    m.e1 += wa, m.e2 += wb;
    g1 += wa * w, g2 += wb * w;
    m.e11 += wa * a, m.e12 += wa * b, m.e22 += wb * b;
    const D mu0 = mu0_of(i), column = column_of(i), h = h_of(i);
    const D c0 = ww * mu0, c1 = ww * column;
    n00 += c0 * mu0, n01 += c0 * column, n11 += c1 * column;
    b0 += c0 * h, b1 += c1 * h;
    sh1 += ww * mu1_of(i) * h1_of(i);
    mean_u1 += D(omega) * u1, mean_u2 += D(omega) * u2;
  }
  const SpectralAverages<D> t = averages(m.e1, m.e2);
  const D ridge_theta = D(V(1)) / (p.alpha * t.y2), ridge_m = p.inverse_d * ridge_theta;
  n00 = n00 + ridge_m;
  n01 = n01 - D(lean) * ridge_m;
  n11 = n11 + D(lean * lean) * ridge_m + ridge_theta;
  // Values, then derivatives, of the two by two system; without a mean component its row is absent.
  const auto has_mean = n00.v > V(0);
  const V inverse00 = simd::select(has_mean, V(1) / n00.v, V(0));
  const V schur = n11.v - n01.v * n01.v * inverse00;
  const auto fit = [&](V r0, V r1, V& x0, V& x1) {
    x1 = (r1 - n01.v * inverse00 * r0) / schur;
    x0 = inverse00 * (r0 - n01.v * x1);
  };
  D x0, theta;
  fit(b0.v, b1.v, x0.v, theta.v);
  fit(b0.d - n00.d * x0.v - n01.d * theta.v, b1.d - n01.d * x0.v - n11.d * theta.v, x0.d, theta.d);
  const D mean = x0 - D(lean) * theta;
  const D psi_hat = p.ratio * sh1, psi = p.beta * t.y1 * psi_hat;

  D r0(V(0)), r1(V(0)), r2(V(0)), error(V(0));
  for (Index i = 0; i < n; ++i) {
    const D omega(V(set.nodes[i].weight)), w = weights[i];
    const D e = h_of(i) - x0 * mu0_of(i) - theta * column_of(i), f = h1_of(i) - mu1_of(i) * psi;
    const D r = D(V(set.nodes[i].rest), V(tangents ? tangents[i].rest : 0)) + e * e + f * f;
    const D w2r = omega * w * w * (r + p.noise);
    error += omega * r;
    r0 += w2r;
    r1 += u1_of(i) * w2r;
    r2 += u2_of(i) * w2r;
  }
  const D psi_source = p.beta * psi_hat * psi_hat;
  const D s1 = p.ratio * r1, s2 = p.ratio * r2 + (theta * theta + p.inverse_d * mean * mean) / (t.y2 * t.y2 * p.beta);
  const D c1 = t.t11 * s1 + t.t12 * s2 + t.t11c * psi_source, c2 = t.t12 * (s1 + psi_source) + t.t22 * s2;
  D q1, q2;
  system.solve(c1.v, c2.v, q1.v, q2.v);
  // d(T M): the derivative of the matrix, whose value the balanced system holds.
  const V l11 = (p.ratio * (t.t11 * m.e11 + t.t12 * m.e12)).d, l12 = (p.ratio * (t.t11 * m.e12 + t.t12 * m.e22)).d;
  const V l21 = (p.ratio * (t.t12 * m.e11 + t.t22 * m.e12)).d, l22 = (p.ratio * (t.t12 * m.e12 + t.t22 * m.e22)).d;
  system.solve(c1.d + l11 * q1.v + l12 * q2.v, c2.d + l21 * q1.v + l22 * q2.v, q1.d, q2.d);
  const V train = (r0 + g1 * q1 + g2 * q2).d, test = (error + mean_u1 * q1 + mean_u2 * q2).d;
  return {test, train};
}

/// Where derivatives go: one column of n_points a direction.
struct GradientOutput {
  std::vector<double*> test_error, train_error;
};

namespace detail {

/// A point that moves along one direction.
template <class V> Point<Dual<V>> moving_point(const Point<V>& p, Direction along) {
  const V one(1), zero(0);
  const auto at = [&](V value, Direction d) { return Dual<V>(value, along == d ? one : zero); };
  Point<Dual<V>> out{at(p.alpha, Direction::alpha), at(p.beta, Direction::beta), at(p.lam, Direction::lam), at(p.noise, Direction::noise),
                     {p.inverse_d}, {p.unit}, {p.ratio}};
  out.ratio.d = (out.alpha / out.beta).d;
  return out;
}

}  // namespace detail

/// The nodes of a rule and, as they are asked for, their derivatives.
struct TangentRule {
  const Level* level = nullptr;
  std::array<NodeSet, 7> nodes;
  std::array<std::vector<NodeTangent>, 7> tangents;

  const NodeTangent* find(const Coefficients& coefficients, const NodeSet& set, Direction along) {
    const auto i = static_cast<std::size_t>(along);
    if (nodes[i].nodes.empty()) {
      nodes[i] = set;
      if (along >= Direction::r) tangents[i] = node_tangents(coefficients, *level, along, nodes[i]);
    }
    return along >= Direction::r ? tangents[i].data() : nullptr;
  }
};

/// Derivatives of both errors at the solutions (v1, v2) of a batch, along several directions. Points whose V is not finite and
/// positive get NaN.
template <class Bulk>
void gradient_batch(const Bulk& bulk, const BatchInput& in, const double* v1, const double* v2, const std::vector<Direction>& directions,
                    const GradientOutput& out, Interrupt& interrupt) {
  const Index n = in.n_points, n_sets = static_cast<Index>(in.sets.size());
  const auto set_of = [&](Index i) { return static_cast<Index>(in.set_index[i * in.set_stride]); };
  std::vector<Index> begin(n_sets + 1, 0), order(n);
  for (Index i = 0; i < n; ++i) ++begin[set_of(i) + 1];
  for (Index s = 0; s < n_sets; ++s) begin[s + 1] += begin[s];
  {
    std::vector<Index> next(begin.begin(), begin.end() - 1);
    for (Index i = 0; i < n; ++i) order[next[set_of(i)]++] = i;
  }
  struct Block {
    Index set, begin, end;
  };
  std::vector<Block> blocks;
  constexpr Index block_size = 16384;
  for (Index set = 0; set < n_sets; ++set)
    for (Index lo = begin[set]; lo < begin[set + 1]; lo += block_size) blocks.push_back({set, lo, std::min(lo + block_size, begin[set + 1])});
  const int n_threads = std::max(1, in.n_threads);
  struct Room {
    CoefficientScratch scratch;
    std::vector<Dual<Pack>> weights;
    std::vector<std::pair<int, Index>> points;
  };
  std::vector<Room> rooms(n_threads);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index which, int thread) {
    const Block& block = blocks[which];
    Room& room = rooms[thread];
    Coefficients coefficients(*in.sigma, *in.target, in.sets[block.set], room.scratch);
    LevelTable table(coefficients);
    room.points.clear();
    for (Index j = block.begin; j < block.end; ++j) {
      const Index i = order[j];
      const bool usable = v1[i] > 0 && v2[i] > 0 && v1[i] < infinity && v2[i] < infinity;
      if (usable) {
        room.points.emplace_back(class_of(v1[i], v2[i]), i);
      } else {
        for (std::size_t d = 0; d < directions.size(); ++d) out.test_error[d][i] = out.train_error[d][i] = nan;
      }
    }
    std::stable_sort(room.points.begin(), room.points.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    for (std::size_t from = 0; from < room.points.size();) {
      std::size_t to = from;
      while (to < room.points.size() && room.points[to].first == room.points[from].first) ++to;
      const Selection& rule = table.find(room.points[from].first);
      TangentRule tangents;
      tangents.level = rule.level;
      if (static_cast<Index>(room.weights.size()) < rule.nodes.size()) room.weights.resize(rule.nodes.size());
      for (std::size_t first = from; first < to; first += Pack::size) {
        Index points[Pack::size];
        const int count = static_cast<int>(std::min<std::size_t>(Pack::size, to - first));
        for (int lane = 0; lane < count; ++lane) points[lane] = room.points[first + lane].second;
        const Point<Pack> p = gather<Pack>(in, points, count);
        const Pack w1 = gather<Pack>(v1, points, count), w2 = gather<Pack>(v2, points, count);
        for (std::size_t d = 0; d < directions.size(); ++d) {
          const NodeTangent* of_nodes = tangents.find(coefficients, rule.nodes, directions[d]);
          const ErrorTangent<Pack> slope = errors_along(bulk, detail::moving_point(p, directions[d]),
                                                        tangents.nodes[static_cast<std::size_t>(directions[d])], of_nodes, w1, w2,
                                                        room.weights.data());
          for (int lane = 0; lane < count; ++lane) {
            out.test_error[d][points[lane]] = slope.test_error[lane];
            out.train_error[d][points[lane]] = slope.train_error[lane];
          }
        }
      }
      from = to;
    }
  });
}

}  // namespace srfx
