// The law of labels of +1 and -1 under each k as a Hermite series in z (THEORY section 19), and
// what it makes of the averages over z: closed forms at the bends of a loss.
//
// Given k the field is omega = C + sqrt(Q) xi, Q = S^2 + tilt^2, and z given xi has mean c xi and
// variance 1 - c^2, c = tilt/sqrt(Q). Where P(+|z) = sum_n a_n He_n(z)/n!, by Mehler's formula
//   p(xi) = E[P|xi] = sum_n a_n c^n He_n(xi)/n!,     p1 = E[P'|xi] = p'/c,   p2 = E[P''|xi].
// With T_j[f](u) = int_{-inf}^u xi^j f phi dxi and the series t(u) that are left of T_0,
//   T_0[p] = a_0 Phi(u) - phi(u) t_p(u),     T_1[p] = c T_0[p1] - p phi,
//   T_2[p] = T_0[p] + c T_1[p1] - u p phi,   E[z P|xi] = c xi p + (1 - c^2) p1,
//   E[z^2 P|xi] = c^2 xi^2 p + 2 c (1 - c^2) xi p1 + (1 - c^2) p + (1 - c^2)^2 p2.
// Lanes are eight nodes k.
#pragma once

#include "srfx/data/piecewise_moments.hpp"
#include "srfx/gaussian/quadrature.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <vector>

namespace srfx {

/// Averages over the atoms of one k of g, its derivatives and products, ProximalMoments; [i] with
/// z^i. What is odd in the label's sign bears it; `level` is E g without it.
template <class T> struct LossSums {
  T g[2], g1[3], gg, half_g2[2], half_g3, g_g1[2], half_gg2, gg_g1, level;
};

/// The fields under eight k: C, tilt, S^2, V.
template <class T> struct LossFields {
  T mean, tilt, variance, v;
};

class LabelSeries {
 public:
  using V = simd::Lanes<double, 8>;
  static constexpr int most = 96;  ///< terms

  /// Series that are never used.
  LabelSeries() = default;

  /// Adds the packs of another, all of whose lanes are nodes.
  void append(const LabelSeries& other) {
    packs_.insert(packs_.end(), other.packs_.begin(), other.packs_.end());
  }

  /// Adds the law under one k: P(+|z) and P(-|z) at nodes z with weights, whole vectors.
  void add(const double* z, const double* w, const double* plus, const double* minus, Index n) {
    double a[most + 3], sum[2] = {0, 0};
    for (Index j = 0; j < n; ++j) sum[0] += w[j] * plus[j], sum[1] += w[j] * minus[j];
    // The rarer label's, which do not cancel.
    const double sign = sum[0] < sum[1] ? 1 : -1;
    const double* const rare = sum[0] < sum[1] ? plus : minus;
    here_.resize(n), below_.resize(n);
    for (Index j = 0; j < n; j += 8) {
      (V::load(w + j) * V::load(rare + j)).store(&here_[j]);
      V(0.0).store(&below_[j]);
    }
    // here = w P He_m/m!
    for (int m = 0; m < most + 3; ++m) {
      V total(0.0);
      const V up(1.0 / (m + 1)), back(m > 0 ? 1.0 / (m + 1) : 0.0);
      for (Index j = 0; j < n; j += 8) {
        const V x = V::load(&here_[j]), next = up * V::load(z + j) * x - back * V::load(&below_[j]);
        total += x;
        x.store(&below_[j]), next.store(&here_[j]);
      }
      a[m] = 0;
      for (int i = 0; i < 8; ++i) a[m] += sign * total[i];
    }
    put(a, sum);
  }

  /// The same of a law of steps: P(+|z) is plus[i] between the edges i - 1 and i.
  void add_steps(const std::vector<double>& edges, const std::vector<double>& plus) {
    const auto tail = [](double z) { return 0.5 * std::erfc(z * 0.70710678118654752440); };
    double a[most + 3] = {}, sum[2] = {0, 0};
    const Index n = static_cast<Index>(edges.size());
    for (Index i = 0; i <= n; ++i) {  // from the side that does not cancel
      const double lo = i > 0 ? edges[i - 1] : -infinity, hi = i < n ? edges[i] : infinity,
                   mass = lo > 0   ? tail(lo) - tail(hi)
                          : hi < 0 ? tail(-hi) - tail(-lo)
                                   : 1 - tail(hi) - tail(-lo);
      sum[0] += plus[i] * mass, sum[1] += (1 - plus[i]) * mass;
    }
    a[0] = sum[0];
    for (Index i = 0; i < n; ++i) {
      const double z = edges[i];
      // of He_m(z) phi(z)/(m + 1)!
      double here = (plus[i + 1] - plus[i]) * normal_density_at_0 * std::exp(-0.5 * z * z),
             below = 0;
      for (int m = 0; m < most + 2; ++m) {
        a[m + 1] += here;
        const double next = (z * here - below * m / (m + 1.0)) / (m + 2);
        below = here, here = next;
      }
    }
    put(a, sum);
  }

  /// After the last add(): how large what is left of a series can be.
  void finish() {
    for (const std::shared_ptr<Pack>& one : packs_) {
      Pack& pack = *one;
      double root = 1, most_left = 0;
      std::array<double, most + 1> size;
      for (int m = 0; m <= most; ++m) {  // of a_m sqrt(m!)
        if (m > 0) root *= std::sqrt(static_cast<double>(m));
        size[m] = 0;
        for (int lane = 0; lane < 8; ++lane)
          size[m] = std::max(size[m], std::abs(pack.a[0][m][lane]) * root);
      }
      for (int m = most; m >= 0; --m)
        pack.left[m] = most_left = std::max(most_left, (m + 1) * (m + 1) * size[m]);
    }
  }

  /// The sums of a piecewise quadratic loss of labels, lo finite, for the fields under the k of one
  /// pack. False where the series would be too long.
  bool sums(const Loss& loss, Index index, const LossFields<V>& field, LossSums<V>& out) const {
    const Frame frame(*packs_[index], loss, field);
    if (frame.terms < 0) return false;
    const V& big_l = frame.big_l;
    if (!loss.bounded_above()) {
      out = wide<false>(loss, frame);
      return true;
    }
    const auto narrow = big_l * V(loss.hi - loss.lo) < V(0.04) * frame.root;
    if (simd::all(narrow)) {
      out = narrow_sums(loss, frame);
      return true;
    }
    out = wide<true>(loss, frame);
    if (simd::any(narrow)) {
      const LossSums<V> other = narrow_sums(loss, frame);
      const auto take = [&](V& to, const V& from) { to = simd::select(narrow, from, to); };
      for (int i = 0; i < 2; ++i) {
        take(out.g[i], other.g[i]), take(out.half_g2[i], other.half_g2[i]);
        take(out.g_g1[i], other.g_g1[i]);
      }
      for (int i = 0; i < 3; ++i) take(out.g1[i], other.g1[i]);
      take(out.level, other.level), take(out.gg, other.gg), take(out.half_g3, other.half_g3);
      take(out.half_gg2, other.half_gg2), take(out.gg_g1, other.gg_g1);
    }
    return true;
  }

  /// What a solution is asked for, eight k at a time; see LossObservables.
  struct Observed {
    V train_loss, test_error, train_error, pull, square;
  };
  bool observe(const Loss& loss, Index index, const LossFields<V>& field, Observed& out) const {
    LossSums<V> s;
    if (!sums(loss, index, field, s)) return false;
    const V two(2.0), &v = field.v;
    const V product = of_error(s, field);
    out.train_loss = two * product - (V(loss.kappa) + two * v) * s.gg;
    out.test_error = square_error(index, field);
    out.train_error = out.test_error - two * v * product + v * v * s.gg;
    out.pull = s.level - product + v * s.gg;
    out.square = s.gg;
    return true;
  }

  /// What a fresh label is met by: the loss, and the share of labels whose sign the field misses.
  /// False where the series would be too long.
  struct Fresh {
    V loss, missed;
  };
  bool fresh(const Loss& loss, Index index, const LossFields<V>& field, Fresh& out) const {
    const Frame frame(*packs_[index], loss, field);
    if (frame.terms < 0) return false;
    const V at_zero = field.mean / frame.root;
    Parts bend[2];
    parts(frame, {-at_zero, at_zero}, bend);
    out.missed = bend[0].t0 + bend[1].t0;
    out.loss = V(0.0);
    if (loss.logistic() || loss.hard()) return true;
    if (loss.square()) {
      out.loss = square_error(index, field);
    } else if (loss.kappa > 0) {
      LossSums<V> s;
      LossFields<V> now = field;
      now.v = V(0.0);
      sums(loss, index, now, s);
      out.loss = V(2.0) * of_error(s, field) - V(loss.kappa) * s.gg;
    } else {
      parts(frame, {frame.from[0] / frame.root, frame.from[1] / frame.root}, bend);
      V rising(0.0);
      for (int side = 0; side < 2; ++side)
        rising += frame.from[side] * bend[side].t0 - frame.root * bend[side].t1;
      out.loss =
          V(2 * loss.lo) * (V(1.0) - aligned(index, field)) + V(2 * (loss.hi - loss.lo)) * rising;
    }
    return true;
  }

 private:
  /// E g e, and E y f.
  static V of_error(const LossSums<V>& s, const LossFields<V>& field) {
    return s.level - field.mean * s.g[0] - field.tilt * s.g[1] + field.variance * s.g1[0];
  }
  /// E e^2.
  V square_error(Index index, const LossFields<V>& field) const {
    return V(1.0) - V(2.0) * aligned(index, field) + field.mean * field.mean + field.variance +
           field.tilt * field.tilt;
  }
  V aligned(Index index, const LossFields<V>& field) const {
    const Pack& pack = *packs_[index];
    return field.mean * (pack.plus - pack.minus) + field.tilt * V(2.0) * pack.a[1][0];
  }

  struct Pack {
    V a[3][most + 1];  ///< of p, p1, p2, without 1/n! beside He_n
    V plus, minus;     ///< E P
    std::array<double, most + 1> left;
    const V& total(int side) const { return side == 0 ? plus : minus; }
  };
  /// What the averages under one pack take: the series' length, c, sqrt(Q), L, and the mean of e
  /// for each label.
  struct Frame {
    const Pack& pack;
    V root, c, big_l, from[2];
    int terms;
    Frame(const Pack& of, const Loss& loss, const LossFields<V>& field)
        : pack(of),
          root(simd::sqrt(field.variance + field.tilt * field.tilt)),
          c(field.tilt / root),
          big_l(V(loss.kappa) + field.v),
          from{V(1.0) - field.mean, V(1.0) + field.mean},
          terms(terms_of(of, c)) {}
  };
  /// At one place of the field: T of p and of E[z P|xi], T_0 of E[z^2 P|xi]; the densities f = p
  /// phi, with z and z^2, and what f and the one with z change by.
  struct Parts {
    V t0, t1, t2, z0, z1, zz0, density, density_z, density_zz, slope, slope_z, curve;
    static Parts nothing() {
      const V o(0.0);
      return {o, o, o, o, o, o, o, o, o, o, o, o};
    }
  };

  /// The inner piece from T at its ends: e = L hi, if that is finite, and e = L lo.
  template <bool above> static LossSums<V> wide(const Loss& loss, const Frame& frame) {
    const V inverse = V(1.0) / frame.root, q = frame.root * frame.root;
    const V lo(loss.lo), hi(above ? loss.hi : 0.0), il = V(1.0) / frame.big_l,
                                                    edge = V(0.5) * il * inverse;
    Parts at[2], below[2] = {Parts::nothing(), Parts::nothing()};
    const auto place = [&](const V& g, Parts(&to)[2]) {
      parts(frame,
            {(frame.from[0] - frame.big_l * g) * inverse,
             (frame.from[1] - frame.big_l * g) * inverse},
            to);
    };
    place(lo, at);
    if (above) place(hi, below);
    LossSums<V> out = no_sums();
    for (int side = 0; side < 2; ++side) {
      const V sign(side == 0 ? 1.0 : -1.0), m0 = frame.from[side];
      const Parts &b = at[side], &a = below[side];
      const V left = frame.pack.total(side) - b.t0, left_z = frame.pack.a[1][0] - b.z0;
      const V t0 = b.t0 - a.t0, t1 = b.t1 - a.t1, t2 = b.t2 - a.t2, z0 = b.z0 - a.z0;
      const V first = (m0 * t0 - frame.root * t1) * il,
              first_z = (m0 * z0 - frame.root * (b.z1 - a.z1)) * il,
              square = (m0 * m0 * t0 - V(2.0) * m0 * frame.root * t1 + q * t2) * il * il;
      const V level = first + hi * a.t0 + lo * left;
      out.level += level, out.g[0] += sign * level;
      out.g[1] += first_z + hi * a.z0 + lo * left_z;
      out.g1[0] += t0 * il, out.g1[1] += sign * z0 * il, out.g1[2] += (b.zz0 - a.zz0) * il;
      out.gg += square + hi * hi * a.t0 + lo * lo * left;
      out.half_g2[0] += sign * edge * (b.density - a.density);
      out.half_g2[1] += edge * (b.density_z - a.density_z);
      out.half_g3 += edge * inverse * (b.slope - a.slope);
      out.g_g1[0] += sign * first * il, out.g_g1[1] += first_z * il;
      out.half_gg2 += t0 * il * il + (lo * b.density - hi * a.density) * il * inverse;
      out.gg_g1 += square * il;
    }
    return out;
  }

  /// An inner piece that is narrow beside the field: means over it, by three nodes of Gauss and
  /// Legendre, which cancel nothing. E g = lo + (hi - lo) <T_0>, E g^2 = lo^2 + 2 (hi - lo) <g T_0>,
  /// E g' = (hi - lo) <f>/sqrt(Q), ..
  static LossSums<V> narrow_sums(const Loss& loss, const Frame& frame) {
    const V inverse = V(1.0) / frame.root;
    const double span = loss.hi - loss.lo;
    LossSums<V> out = no_sums();
    for (int node = -1; node <= 1; ++node) {
      const double weight = span * (node == 0 ? 4.0 / 9 : 5.0 / 18),
                   g = loss.lo + span * 0.5 * (1 + node * 0.77459666924148337704);
      Parts at[2];
      parts(frame,
            {(frame.from[0] - frame.big_l * V(g)) * inverse,
             (frame.from[1] - frame.big_l * V(g)) * inverse},
            at);
      for (int side = 0; side < 2; ++side) {
        const V w(weight), sign(side == 0 ? weight : -weight);
        const Parts& b = at[side];
        out.level += w * b.t0, out.g[0] += sign * b.t0, out.g[1] += w * b.z0;
        out.gg += V(2 * g) * w * b.t0;
        const V wi = w * inverse, si = sign * inverse;
        out.g1[0] += wi * b.density, out.g1[1] += si * b.density_z, out.g1[2] += wi * b.density_zz;
        out.g_g1[0] += V(g) * si * b.density, out.g_g1[1] += V(g) * wi * b.density_z;
        out.gg_g1 += V(g * g) * wi * b.density;
        const V wii = wi * inverse;
        out.half_g2[0] += V(0.5) * si * inverse * b.slope,
            out.half_g2[1] += V(0.5) * wii * b.slope_z;
        out.half_gg2 += V(g) * wii * b.slope;
        out.half_g3 += V(0.5) * wii * inverse * b.curve;
      }
    }
    const V lo(loss.lo), plus = frame.pack.plus, minus = frame.pack.minus;
    out.g[0] += lo * (plus - minus), out.g[1] += lo * V(2.0) * frame.pack.a[1][0];
    out.level += lo * (plus + minus), out.gg += lo * lo * (plus + minus);
    return out;
  }

  static LossSums<V> no_sums() {
    const V o(0.0);
    return {{o, o}, {o, o, o}, o, {o, o}, o, {o, o}, o, o, o};
  }

  void put(const double (&a)[most + 3], const double (&mean)[2]) {
    if (count_ % 8 == 0) packs_.push_back(std::make_shared<Pack>());
    Pack& pack = *packs_.back();
    // Lanes without a node repeat the last.
    for (int lane = static_cast<int>(count_ % 8); lane < 8; ++lane) {
      pack.plus.set(lane, mean[0]), pack.minus.set(lane, mean[1]);
      for (int m = 0; m < most + 1; ++m) {
        pack.a[0][m].set(lane, a[m]);
        pack.a[1][m].set(lane, (m + 1) * a[m + 1]);
        pack.a[2][m].set(lane, (m + 2) * (m + 1.0) * a[m + 2]);
      }
    }
    ++count_;
  }

  /// How many terms sixteen digits take, or -1.
  static int terms_of(const Pack& pack, const V& c) {
    double largest = 0;
    for (int i = 0; i < 8; ++i) largest = std::max(largest, std::abs(c[i]));
    if (!(largest < 0.95)) return -1;
    const double two = largest * largest;
    double power = two;  // p2 has two powers less
    for (int n = 4; n <= most; n += 4, power *= two * two)
      if (power * pack.left[n] < 1e-12) return n;
    return -1;
  }

  /// The parts at u[0] of the label +1 and at u[1] of the label -1, whose field is mirrored.
  static void parts(const Frame& frame, const std::array<V, 2>& u, Parts (&out)[2]) {
    const Pack& pack = frame.pack;
    const V zero(0.0), one(1.0), two(2.0), c = frame.c, square = c * c, rest = one - square;
    // Beyond 38 there is no density.
    const auto inside = [](const V& v) { return simd::max(simd::min(v, V(38.0)), V(-38.0)); };
    const V x[2] = {c * inside(u[0]), -c * inside(u[1])};
    V here[2] = {one, one}, below[2] = {zero, zero};
    V p[2] = {zero, zero}, p1[2] = {zero, zero}, p2[2] = {zero, zero};
    V tp[2] = {zero, zero}, tp1[2] = {zero, zero}, tp2[2] = {zero, zero};
    V a = pack.a[0][0], a1 = pack.a[1][0], a2 = pack.a[2][0];
    V back = zero;
    for (int m = 0; m < frame.terms; ++m) {
      const V next = pack.a[0][m + 1], next1 = pack.a[1][m + 1], next2 = pack.a[2][m + 1];
      for (int i = 0; i < 2; ++i) {
        const V h = here[i];
        p[i] = simd::fma(a, h, p[i]), tp[i] = simd::fma(next, h, tp[i]);
        p1[i] = simd::fma(a1, h, p1[i]), tp1[i] = simd::fma(next1, h, tp1[i]);
        p2[i] = simd::fma(a2, h, p2[i]), tp2[i] = simd::fma(next2, h, tp2[i]);
        here[i] = simd::fma(x[i], h, -back * below[i]);
        below[i] = h;
      }
      a = next, a1 = next1, a2 = next2, back += square;
    }
    for (int i = 0; i < 2; ++i) {
      // The label -1 has the probability 1 - P(+|z), and z of the other sign.
      const V y(i == 0 ? 1.0 : -1.0), mean = pack.total(i), at_u = inside(u[i]);
      const V value = mean + y * (p[i] - pack.a[0][0]), first = p1[i], second = y * p2[i];
      const NormalPoint<V> at = normal_point(at_u);
      const V phi = at.density, mass = simd::select(at_u > zero, one - at.tail, at.tail),
              tail = phi * c;
      const V t0 = mean * mass - tail * tp[i], t0_1 = pack.a[1][0] * mass - y * tail * tp1[i],
              t0_2 = y * pack.a[2][0] * mass - tail * tp2[i];
      const V z = c * at_u * value + rest * first;  // E[z P|u]
      Parts& to = out[i];
      to.density = value * phi;
      to.t0 = t0;
      to.t1 = c * t0_1 - to.density;
      const V t1_1 = c * t0_2 - first * phi;
      to.t2 = t0 + c * t1_1 - at_u * to.density;
      to.z0 = c * to.t1 + rest * t0_1;
      to.z1 = c * to.t2 + rest * t1_1;
      to.zz0 = square * to.t2 + rest * (two * c * t1_1 + t0 + rest * t0_2);
      to.density_z = z * phi;
      to.density_zz =
          (square * at_u * at_u * value + rest * (two * c * at_u * first + value + rest * second)) *
          phi;
      to.slope = (c * first - at_u * value) * phi;
      to.slope_z = (c * (value + c * at_u * first + rest * second) - at_u * z) * phi;
      to.curve = (square * second - two * at_u * c * first + (at_u * at_u - one) * value) * phi;
    }
  }

  std::vector<std::shared_ptr<Pack>> packs_;
  std::vector<double> here_, below_;
  Index count_ = 0;
};

}  // namespace srfx
