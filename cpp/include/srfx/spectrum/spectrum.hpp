// The limiting spectral density of Phi^T Phi/p, Phi the n x p matrix of features (THEORY section
// 6).
//
// The equations of the ridge problem at lam = -x - i0: density(x) = Im V2/pi. For Im lam < 0 the
// map V -> (<D/S>, <1/S>) takes the upper half plane squared into itself: Im V > 0 makes Im w < 0,
// so A = lam + a' E[u2 w] and B = a' E[u1 w] lie in the lower half plane, where the root of the
// Marchenko-Pastur law is analytic (bulk.hpp). Hence its fixed point there is unique: whatever
// converges with Im V > 0 is the answer, on no wrong branch. Newton's step is taken while it stays
// there, else the plain map; points are continued in x, and restarted from large Im lam where that
// fails.
//
// In a gap V is real; there a point is known by Im V2 proportional to Im lam. Outliers: with V real
// outside the bulk, x is an eigenvalue where the normal equations of (m, theta) are singular
// (THEORY section 4 at lam = -x),
//   E[mu0^2 w] (1 + K E[u1 k^2 w]) = K E[mu0 mu1 k w]^2,  K = alpha <1/S>     (mu0 = 0: 1 + K E[u1
//   k^2 w] = 0),
// and one more, of order n E[mu0^2], where mu0 is not 0.
#pragma once

#include "srfx/data/levels.hpp"
#include "srfx/core/types.hpp"

#include <algorithm>
#include <complex>
#include <optional>

namespace srfx {

using Complex = std::complex<double>;

/// A point of a spectrum; State holds V.
template <class State> struct SpectrumPoint {
  State v{};
  double density = 0;  ///< Im V2/pi; 0 in a gap
  double error = 0;    ///< |change of V2|/pi on a denser rule
  bool gap = false;
  bool converged = false;
};

struct Spectrum {
  std::vector<double> density, error;
  std::vector<std::int8_t> status;
  double zero_mass = 0;                          ///< mass at zero
  double mass = 0;                               ///< of everything, by integration: 1
  double first_moment = 0, expected_moment = 0;  ///< by integration; a' (E u1 + E u2)
  double outlier_rate = 0;  ///< the outlier of order p is d times this: alpha E mu0^2
  std::vector<double> edges, outliers;
};

/// A panel of nodes in k, moved off the axis to k + i s(k): s = shift k/sqrt(k^2 + 4 shift^2).
struct PanelShift {
  static constexpr int order = 16;  ///< nodes a panel
  /// Value there = sum of shares of the values on the axis, by the polynomial through them.
  Complex share[order][order];
  Complex factor[order];  ///< weight there over weight on the axis

  /// The place on the shifted line.
  static Complex at(double k, double shift) {
    return {k, shift * k / std::sqrt(k * k + 4 * shift * shift)};
  }

  /// k: the nodes, `stride` apart.
  PanelShift(const double* k, Index stride, double shift) {
    const double half =
        0.5 * std::abs(k[(order - 1) * stride] - k[0]) / GaussLegendre::order(order).x[order - 1];
    double barycentric[order];
    for (int i = 0; i < order; ++i) {
      barycentric[i] = 1;
      for (int j = 0; j < order; ++j)
        if (j != i) barycentric[i] /= (k[i * stride] - k[j * stride]) / half;
    }
    for (int i = 0; i < order; ++i) {
      const double x = k[i * stride], root = std::sqrt(x * x + 4 * shift * shift);
      const Complex there = at(x, shift);
      Complex total = 0;
      for (int j = 0; j < order; ++j)
        total += share[i][j] = barycentric[j] / ((there - k[j * stride]) / half);
      for (int j = 0; j < order; ++j) share[i][j] /= total;
      factor[i] = Complex(1, 4 * shift * shift * shift / (root * root * root)) *
                  std::exp(0.5 * (x * x - there * there));
    }
  }

  /// Half the width of the narrowest panel of n nodes: a shift by which the polynomials hold.
  static double size(const double* k, Index stride, Index n) {
    double half = std::numeric_limits<double>::infinity();
    for (Index first = 0; first < n; first += order)
      half = std::min(half, 0.5 * std::abs(k[(first + order - 1) * stride] - k[first * stride]));
    return half / GaussLegendre::order(order).x[order - 1];
  }

  /// Where Re (1 + u1 V1 + u2 V2), at nodes of growing |k|, changes sign there may be a zero, at Im
  /// k of the sign of minus its slope. The side without: 1 for that of s(k), or -1; 0 if there is
  /// none to avoid, or if they lie on both. Value(i): that real part.
  template <class Value> static int side(Index begin, Index end, Value&& value) {
    int sign = 0;
    double before = value(begin);
    for (Index i = begin + 1; i < end; ++i) {
      const double here = value(i);
      if ((here > 0) != (before > 0)) {
        const int turn = here > before ? 1 : -1;
        if (sign != 0 && turn != sign) return 0;
        sign = turn;
      }
      before = here;
    }
    return sign;
  }
};

/// Nodes in k as columns: those at k > 0, then those at k < 0 if they are not the same, each padded
/// to whole vectors with weight 0.
///
/// Where V is all but real 1 + u1 V1 + u2 V2 has zeros next to the real axis, which no rule there
/// resolves: thin tails of the density are made of them. The integrals are then taken along k + i
/// s(k) or k - i s(k), on the side without zeros (PanelShift).
struct SpectrumNodes {
  std::vector<double> weight, u1, u2, mu0, kmu1, k;
  std::vector<double> weight_re, weight_im, u1_re, u1_im, u2_re, u2_im;  ///< on the shifted line
  Index side[3] = {0, 0, 0},
        filled[2] = {0, 0};  ///< where each half begins, and the end; ends without padding

  SpectrumNodes(const NodeSet& set, const double* at, bool paired) {
    const Index stride = paired ? 2 : 1, n = set.size() / stride;
    const double shift = PanelShift::size(at, stride, n);
    for (Index half = 0; half < 2; ++half) {
      for (Index first = 0; half < stride && first < n; first += PanelShift::order) {
        const PanelShift panel(at + first * stride + half, stride, shift);
        const Node* nodes = &set.nodes[static_cast<std::size_t>(first * stride + half)];
        for (Index i = 0; i < PanelShift::order; ++i) {
          const Node& node = nodes[i * stride];
          weight.push_back(node.weight), u1.push_back(node.u1), u2.push_back(node.u2),
              mu0.push_back(node.mu0), kmu1.push_back(node.kmu1);
          k.push_back(at[(first + i) * stride + half]);
          Complex mu1 = 0, other = 0;
          for (Index j = 0; j < PanelShift::order; ++j)
            mu1 += panel.share[i][j] * nodes[j * stride].mu1,
                other += panel.share[i][j] * nodes[j * stride].u2;
          const Complex square = mu1 * mu1, w = node.weight * panel.factor[i];
          weight_re.push_back(w.real()), weight_im.push_back(w.imag());
          u1_re.push_back(square.real()), u1_im.push_back(square.imag());
          u2_re.push_back(other.real()), u2_im.push_back(other.imag());
        }
      }
      filled[half] = size();
      while (weight.size() % 8 != 0)
        for (auto* column : {&weight, &u1, &u2, &mu0, &kmu1, &k, &weight_re, &weight_im, &u1_re,
                             &u1_im, &u2_re, &u2_im})
          column->push_back(0);
      side[half + 1] = size();
    }
  }
  Index size() const { return static_cast<Index>(weight.size()); }

  /// PanelShift::side of a half.
  int way_around(int half, double v1, double v2) const {
    if (side[half] == filled[half] || (v1 > 0 && v2 > 0)) return 0;
    return PanelShift::side(side[half], filled[half], [&](Index i) {
      return 1 + u1[static_cast<std::size_t>(i)] * v1 + u2[static_cast<std::size_t>(i)] * v2;
    });
  }
  /// Whether 1 + u1 V1 + u2 V2 keeps its sign at a real V: it does in a gap, all through.
  bool regular(double v1, double v2) const {
    for (int half = 0; half < 2; ++half)
      for (Index i = side[half] + 1; i < filled[half]; ++i) {
        const auto at = [&](Index j) {
          return 1 + u1[static_cast<std::size_t>(j)] * v1 + u2[static_cast<std::size_t>(j)] * v2 >
                 0;
        };
        if (at(i) != at(i - 1)) return false;
      }
    return true;
  }
};

/// Rules in k of growing density: rungs of panels, |k| up to spectrum_range.
inline constexpr int spectrum_tiers = 3, spectrum_rungs[spectrum_tiers] = {3, 4, 5};
inline constexpr double spectrum_range = 8.6;

/// What a solver needs to know of a system beside V; of several groups, their means.
struct SpectrumScales {
  double alpha, beta, ratio;  ///< ratio: a' = alpha/beta
  double mean_u = 0;          ///< E u1 + E u2
  double mean_square = 0;     ///< E mu0^2
  double top = 0;             ///< largest u1 + u2
  bool linear = true;         ///< u2 = 0

  SpectrumScales(double samples, double width)
      : alpha(samples),
        beta(width),
        ratio(samples / width) {}
};

namespace detail {

/// a/b without the care of the standard's division for overflow.
inline Complex over(const Complex& a, const Complex& b) {
  const double scale = 1 / (b.real() * b.real() + b.imag() * b.imag());
  return {(a.real() * b.real() + a.imag() * b.imag()) * scale,
          (a.imag() * b.real() - a.real() * b.imag()) * scale};
}
/// a b likewise.
inline Complex times(const Complex& a, const Complex& b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

/// Newton's way to stop, and its guard: one object an iteration.
class SpectrumStop {
 public:
  explicit SpectrumStop(int limit) : limit_(limit) {}
  /// Whether a point on its way inside may go on: from near a solution, no more than three steps
  /// may leave the half plane.
  bool lost(bool inside) { return !inside && limit_ <= 20 && ++outside_ > 3; }
  bool done(double step, bool inside) {
    const bool close = step < 1e-13 || (step < 1e-6 && step < previous_ &&
                                        step * step * step < 1e-13 * previous_ * previous_);
    const bool rounded = step < 1e-11 && step >= 0.5 * previous_;
    previous_ = step;
    return inside && (close || rounded);
  }

 private:
  int limit_, outside_ = 0;
  double previous_ = 1;
};

}  // namespace detail

/// V1 and V2 of a single group.
struct SpectrumPair {
  Complex v1, v2;
};

/// The equations of one group for any bulk: a type with averages(A, B) at complex A and B, and
/// normal_determinant.
template <class Bulk> class PairSystem {
 public:
  using State = SpectrumPair;

  PairSystem(Ladder& panels, double alpha, double beta, const Bulk& bulk)
      : scales(alpha, beta),
        ladder_(&panels),
        bulk_(bulk) {
    const SpectrumNodes& nodes = rule(1);
    for (Index i = 0; i < nodes.size(); ++i) {
      const double w = nodes.weight[i], u1 = nodes.u1[i], u2 = nodes.u2[i];
      scales.linear = scales.linear && u2 == 0;
      scales.mean_square += w * nodes.mu0[i] * nodes.mu0[i];
      scales.mean_u += w * (u1 + u2);
      scales.top = std::max(scales.top, u1 + u2);
    }
  }

  SpectrumScales scales;

  static Complex trace(const State& v) { return v.v2; }
  State start(Complex v) const { return {v, v}; }
  double normal_determinant(const State& v) const {
    return bulk_.normal_determinant(rule(1), scales, v);
  }

  /// Newton's method in the upper half plane; true if it converged there.
  bool newton(int tier, Complex lam, State& v, int limit) const {
    using detail::over, detail::times;
    const SpectrumNodes& nodes = rule(tier);
    const double ratio = scales.ratio;
    detail::SpectrumStop stop(limit);
    for (int iteration = 0; iteration < limit; ++iteration) {
      const Sums s = sums(nodes, v.v1, v.v2);
      const SpectralAverages<Complex> t = bulk_.averages(lam + ratio * s.e2, ratio * s.e1);
      const Complex j11 = 1.0 - ratio * (times(t.t11, s.e11) + times(t.t12, s.e12)),
                    j12 = -ratio * (times(t.t11, s.e12) + times(t.t12, s.e22));
      const Complex j21 = -ratio * (times(t.t12, s.e11) + times(t.t22, s.e12)),
                    j22 = 1.0 - ratio * (times(t.t12, s.e12) + times(t.t22, s.e22));
      const Complex f1 = t.y1 - v.v1, f2 = t.y2 - v.v2,
                    inverse = over(1.0, times(j11, j22) - times(j12, j21));
      Complex next1 = v.v1 + times(times(j22, f1) - times(j12, f2), inverse),
              next2 = v.v2 + times(times(j11, f2) - times(j21, f1), inverse);
      const bool inside = next1.imag() > 0 && next2.imag() > 0 && std::isfinite(std::norm(next1)) &&
                          std::isfinite(std::norm(next2));
      if (!inside) {
        if (stop.lost(inside)) return false;
        next1 = t.y1, next2 = t.y2;
      }
      const double step = std::sqrt(std::max(std::norm(next1 - v.v1) / std::norm(next1),
                                             std::norm(next2 - v.v2) / std::norm(next2)));
      if (!std::isfinite(step)) return false;
      v.v1 = next1, v.v2 = next2;
      if (stop.done(step, inside)) return true;
    }
    return false;
  }

 private:
  using V = simd::Lanes<double, 8>;

  struct Sums {
    Complex e1, e2, e11, e12, e22;
  };
  Sums sums(const SpectrumNodes& nodes, Complex v1, Complex v2) const {
    Totals t;
    for (int half = 0; half < 2; ++half) {
      const Index begin = nodes.side[half], end = nodes.side[half + 1];
      const int sign = nodes.way_around(half, v1.real(), v2.real());
      if (sign == 0) along_axis(nodes, begin, end, v1, v2, t);
      else around(nodes, begin, end, v1, v2, sign, t);
    }
    const auto total = [](V r, V i) {
      double re = 0, im = 0;
      for (int lane = 0; lane < V::size; ++lane) re += r[lane], im += i[lane];
      return Complex(re, im);
    };
    return {total(t.e1r, t.e1i), total(t.e2r, t.e2i), total(t.ar, t.ai), total(t.br, t.bi),
            total(t.cr, t.ci)};
  }

  struct Totals {
    V e1r{0.0}, e1i{0.0}, e2r{0.0}, e2i{0.0}, ar{0.0}, ai{0.0}, br{0.0}, bi{0.0}, cr{0.0}, ci{0.0};
  };

  static void along_axis(const SpectrumNodes& nodes, Index begin, Index end, Complex v1, Complex v2,
                         Totals& t) {
    const V v1r(v1.real()), v1i(v1.imag()), v2r(v2.real()), v2i(v2.imag());
    for (Index i = begin; i < end; i += V::size) {
      const V u1 = V::load(&nodes.u1[i]), u2 = V::load(&nodes.u2[i]),
              omega = V::load(&nodes.weight[i]);
      const V re = V(1.0) + u1 * v1r + u2 * v2r, im = u1 * v1i + u2 * v2i;
      const V inverse = V(1.0) / (re * re + im * im), wr = re * inverse, wi = -im * inverse;
      const V o1 = omega * u1, o2 = omega * u2, sr = wr * wr - wi * wi, si = V(2.0) * wr * wi;
      t.e1r += o1 * wr, t.e1i += o1 * wi;
      t.e2r += o2 * wr, t.e2i += o2 * wi;
      const V o11 = o1 * u1, o12 = o1 * u2, o22 = o2 * u2;
      t.ar += o11 * sr, t.ai += o11 * si;
      t.br += o12 * sr, t.bi += o12 * si;
      t.cr += o22 * sr, t.ci += o22 * si;
    }
  }

  /// The same along k + i s(k) or k - i s(k).
  static void around(const SpectrumNodes& nodes, Index begin, Index end, Complex v1, Complex v2,
                     int sign, Totals& t) {
    const V v1r(v1.real()), v1i(v1.imag()), v2r(v2.real()), v2i(v2.imag()),
        turn(static_cast<double>(sign));
    for (Index i = begin; i < end; i += V::size) {
      const V ar = V::load(&nodes.u1_re[i]), ai = turn * V::load(&nodes.u1_im[i]),
              br = V::load(&nodes.u2_re[i]), bi = turn * V::load(&nodes.u2_im[i]);
      const V or_ = V::load(&nodes.weight_re[i]), oi = turn * V::load(&nodes.weight_im[i]);
      const V re = V(1.0) + ar * v1r - ai * v1i + br * v2r - bi * v2i,
              im = ar * v1i + ai * v1r + br * v2i + bi * v2r;
      const V inverse = V(1.0) / (re * re + im * im), wr = re * inverse, wi = -im * inverse;
      const V pr = ar * wr - ai * wi, pi = ar * wi + ai * wr, qr = br * wr - bi * wi,
              qi = br * wi + bi * wr;  // u1 w, u2 w
      const V xr = or_ * pr - oi * pi, xi = or_ * pi + oi * pr, yr = or_ * qr - oi * qi,
              yi = or_ * qi + oi * qr;
      t.e1r += xr, t.e1i += xi;
      t.e2r += yr, t.e2i += yi;
      t.ar += xr * pr - xi * pi, t.ai += xr * pi + xi * pr;
      t.br += xr * qr - xi * qi, t.bi += xr * qi + xi * qr;
      t.cr += yr * qr - yi * qi, t.ci += yr * qi + yi * qr;
    }
  }

  const SpectrumNodes& rule(int tier) const {
    std::optional<SpectrumNodes>& out = rules_[static_cast<std::size_t>(tier)];
    if (!out) {
      const Level& level = ladder_->level(spectrum_rungs[tier]);
      Index count = 0;
      while (count < level.size() &&
             std::abs(level.k[static_cast<std::size_t>(count)]) <= spectrum_range)
        ++count;
      const bool paired = level.size() > 1 && level.k[1] == -level.k[0];
      const Index panel = PanelShift::order * (paired ? 2 : 1);
      count = std::min(level.size(), (count + panel - 1) / panel * panel);
      out.emplace(NodeSet(level, count), level.k.data(), paired);
    }
    return *out;
  }

  Ladder* ladder_;
  Bulk bulk_;
  mutable std::array<std::optional<SpectrumNodes>, spectrum_tiers> rules_;
};

/// The isotropic bulk in a spectrum.
class IsotropicSpectrum {
 public:
  explicit IsotropicSpectrum(double beta)
      : beta_(beta),
        low_((1 - std::sqrt(beta)) * (1 - std::sqrt(beta))),
        high_((1 + std::sqrt(beta)) * (1 + std::sqrt(beta))) {}

  /// As MarchenkoPastur (bulk.hpp), in quick arithmetic.
  SpectralAverages<Complex> averages(Complex a, Complex b) const {
    using detail::over, detail::times;
    const Complex q = times(std::sqrt(a + low_ * b), std::sqrt(a + high_ * b)),
                  rest = a + b * (1 - beta_);
    const Complex g = rest.real() * q.real() + rest.imag() * q.imag() >= 0
                          ? over(2.0, rest + q)
                          : over(q - rest, 2 * beta_ * times(a, b));
    const Complex bg = times(b, g), f = 1.0 + beta_ * bg, inverse = over(1.0, times(f, q));
    const Complex inverse_f = times(q, inverse), inverse_q = times(f, inverse);
    SpectralAverages<Complex> out;
    out.y1 = times(g, inverse_f);
    out.y2 = g;
    out.t22 = times(times(g, f), inverse_q);
    out.t12 = times(out.y1, inverse_q);
    out.t11 = times(out.t12, beta_ * times(a, g) + inverse_f);
    out.t11c = times(times(out.t12, inverse_f), inverse_f);
    return out;
  }

  /// The determinant of the normal equations of (m, theta) at a real V; NaN where V is not that of
  /// a gap.
  static double normal_determinant(const SpectrumNodes& nodes, const SpectrumScales& scales,
                                   const SpectrumPair& v) {
    double s00 = 0, s01 = 0, s11 = 0;
    const double v1 = v.v1.real(), v2 = v.v2.real();
    if (!nodes.regular(v1, v2)) return std::numeric_limits<double>::quiet_NaN();
    for (Index i = 0; i < nodes.size(); ++i) {
      const double w = nodes.weight[i] / (1 + nodes.u1[i] * v1 + nodes.u2[i] * v2);
      s00 += w * nodes.mu0[i] * nodes.mu0[i];
      s01 += w * nodes.mu0[i] * nodes.kmu1[i];
      s11 += w * nodes.kmu1[i] * nodes.kmu1[i];
    }
    const double k = scales.alpha * v2;
    return scales.mean_square > 0 ? (s00 * (1 + k * s11) - k * s01 * s01) / scales.mean_square
                                  : 1 + k * s11;
  }

 private:
  double beta_, low_, high_;
};

/// The spectrum of one model, whose equations a System holds.
template <class System> class SpectrumSolver {
 public:
  using State = typename System::State;
  using Point = SpectrumPoint<State>;

  explicit SpectrumSolver(const System& system) : system_(system), scales_(system.scales) {}

  /// The density at `n` points x > 0, with the checks.
  Spectrum operator()(const double* x, Index n) {
    Spectrum out;
    out.zero_mass = 1 - std::min(1.0, scales_.linear ? std::min(scales_.ratio, 1 / scales_.beta)
                                                     : scales_.ratio);
    out.expected_moment = scales_.ratio * scales_.mean_u;
    out.outlier_rate = scales_.alpha * scales_.mean_square;
    out.density.assign(n, 0), out.error.assign(n, 0), out.status.assign(n, 0);
    if (!(out.expected_moment > 0)) {  // a constant activation: no bulk at all
      out.zero_mass = out.mass = 1;
      return out;
    }
    sweep(out);
    std::vector<Index> order(n);
    for (Index i = 0; i < n; ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](Index a, Index b) { return x[a] > x[b]; });
    Point at;
    for (Index i : order) {
      at = solve(x[i], at);
      out.density[i] = at.converged ? at.density : std::numeric_limits<double>::quiet_NaN();
      out.error[i] = at.converged ? at.error : std::numeric_limits<double>::quiet_NaN();
      out.status[i] =
          static_cast<std::int8_t>(at.converged ? Status::converged : Status::max_iterations);
    }
    return out;
  }

  /// One point, from a solution nearby (or none).
  Point solve(double x, const Point& near) const {
    Point out = near;
    if (near.converged && refine(x, out, !near.gap)) return out;
    // From far above the axis, where the map contracts, down to it.
    out = {};
    out.v = system_.start(Complex(0, 1) / (4 * x));
    for (double height = 4; height > 1e-7; height *= 0.25)
      if (!system_.newton(0, Complex(-x, -height * x), out.v, 200)) return out;
    if (!refine(x, out, false)) out.converged = false;
    return out;
  }

 private:
  static constexpr double above = 1e-9;  ///< Im lam/x in a gap

  /// V at one x on the nodes of a tier, from a guess; false if lost.
  bool settle(int tier, double x, Point& at, bool bulk_first) const {
    const auto in_bulk = [&](State& v) {
      if (!system_.newton(tier, -x, v, 20)) return false;
      const Complex trace = System::trace(v);
      return trace.imag() > 1e-7 * std::abs(trace);
    };
    State a = at.v;
    bool bulk = bulk_first && in_bulk(a);
    if (!bulk) {
      a = at.v;
      if (!system_.newton(tier, Complex(-x, -above * x), a, 60)) return false;
      State b = a;
      bulk = in_bulk(b);
      if (bulk) {
        a = b;
      } else {  // does Im V vanish with Im lam?
        b = a;
        if (!system_.newton(tier, Complex(-x, -0.1 * above * x), b, 60)) return false;
        bulk =
            System::trace(b).imag() >
            0.2 * System::trace(a).imag();  // an edge, or a density too small to tell from Im lam
        if (bulk) a = b;
      }
    }
    at.v = a, at.gap = !bulk;
    return true;
  }

  /// On denser and denser rules, until they agree.
  bool refine(double x, Point& at, bool bulk_first) const {
    if (!settle(0, x, at, bulk_first)) return false;
    for (int tier = 1; tier < spectrum_tiers; ++tier) {
      const Complex before = System::trace(at.v);
      if (!settle(tier, x, at, !at.gap)) return false;
      at.error = std::abs(System::trace(at.v) - before) / pi;
      if (at.error * x < 1e-10) break;
    }
    at.density = at.gap ? 0 : std::max(0.0, System::trace(at.v).imag()) / pi;
    at.converged = at.error * x < tolerance;  // Im V2 x is mass for each unit of ln x
    return true;
  }

  /// Edges, outliers, mass and first moment.
  void sweep(Spectrum& out) const {
    const double wide = (1 + 1 / std::sqrt(scales_.ratio)) * (1 + std::sqrt(scales_.beta));
    double start = 4 * scales_.ratio * wide * wide * std::max(scales_.top, scales_.mean_u);
    const double q = std::pow(10.0, -1.0 / per_decade);
    std::vector<double> xs;
    std::vector<Point> points;
    Point at;
    for (int i = 0; i < 12 && start < 1e12 * out.expected_moment;
         ++i, start *= 10) {  // above everything
      at = solve(start, {});
      if (at.converged && at.gap) break;
    }
    double seen = out.zero_mass, decade = 0;
    for (double x = start; x > 1e-15 * out.expected_moment; x *= q) {
      const Point next = solve(x, at);
      if (next.converged) at = next;
      xs.push_back(x), points.push_back(next);
      const double piece = next.converged ? next.density * x * std::log(1 / q) : 0;
      seen += piece;
      decade = (1 - 1.0 / per_decade) * decade + piece;
      if (seen > 0.97 && decade < 1e-11 && x < out.expected_moment) break;
    }
    out.mass = out.zero_mass;
    struct Interval {
      double lo, hi;
      Point inside;
    };
    std::vector<Interval> bulks;
    const auto in_bulk = [](const Point& p) { return !(p.converged && p.gap); };  // or unknown
    const auto edge = [&](double dark, double light, const Point& inside) {
      Point last = inside;
      while (std::abs(light / dark - 1) > 1e-9) {
        const double middle = std::sqrt(dark * light);
        const Point p = solve(middle, last);
        if (p.converged && !p.gap && p.density > 0) light = middle, last = p;
        else dark = middle;
      }
      return light;
    };
    for (std::size_t i = 0; i < xs.size(); ++i) {
      if (!in_bulk(points[i])) continue;
      std::size_t j = i;
      while (j + 1 < xs.size() && in_bulk(points[j + 1])) ++j;
      Interval b{xs[j], xs[i], points[i]};
      if (i > 0) b.hi = edge(xs[i - 1], xs[i], points[i]);
      if (j + 1 < xs.size()) b.lo = edge(xs[j + 1], xs[j], points[j]);
      else if (j > i) out.mass += below(xs[j], points[j], xs[j - 1], points[j - 1]);
      out.edges.push_back(b.hi), out.edges.push_back(j + 1 < xs.size() ? b.lo : 0);
      bulks.push_back(b);
      i = j;
    }
    std::sort(out.edges.begin(), out.edges.end());
    for (const Interval& b : bulks) integrate(b.lo, b.hi, b.inside, out);
    find_outliers(xs, points, out);
  }

  /// Mass between 0 and x if the density goes on as the power it is between x and y > x.
  static double below(double x, const Point& at_x, double y, const Point& at_y) {
    if (!at_x.converged || !at_y.converged || !(at_x.density > 0) || !(at_y.density > 0)) return 0;
    const double power = std::log(at_x.density / at_y.density) / std::log(x / y);
    return power > -0.999 ? x * at_x.density / (1 + power) : 0;
  }

  /// Adds the mass and first moment of one interval: trapezoid in phi, ln x = middle - half
  /// cos(phi), which suits square-root edges.
  void integrate(double lo, double hi, const Point& inside, Spectrum& out) const {
    const double middle = 0.5 * (std::log(lo) + std::log(hi)),
                 half = 0.5 * (std::log(hi) - std::log(lo));
    double mass = 0, moment = 0, last_mass = -1, last_moment = -1;
    for (int n = 32; n <= 4096; n *= 2) {
      Point at = inside;
      double new_mass = 0, new_moment = 0;
      for (int i = n - 1; i > 0; --i) {
        if (n > 32 && i % 2 == 0) continue;  // seen at the level before
        const double phi = pi * i / n, x = std::exp(middle - half * std::cos(phi));
        const Point next = solve(x, at);
        if (!next.converged) continue;
        at = next;
        const double piece = next.density * x * half * std::sin(phi) * pi;
        new_mass += piece, new_moment += piece * x;
      }
      mass = (n > 32 ? 0.5 * mass : 0) + new_mass / n,
      moment = (n > 32 ? 0.5 * moment : 0) + new_moment / n;
      if (std::abs(mass - last_mass) < 1e-8 &&
          std::abs(moment - last_moment) < 1e-8 * out.expected_moment)
        break;
      last_mass = mass, last_moment = moment;
    }
    out.mass += mass, out.first_moment += moment;
  }

  double determinant(const Point& p) const { return system_.normal_determinant(p.v); }

  void find_outliers(std::vector<double> xs, std::vector<Point> points, Spectrum& out) const {
    for (double e : out.edges) {
      if (e == 0) continue;
      for (double beside : {e * (1 + 1e-5), e * (1 - 1e-5)})
        xs.push_back(beside), points.push_back(solve(beside, {}));
    }
    std::vector<std::size_t> order(xs.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return xs[a] > xs[b]; });
    const auto in_gap = [](const Point& p) { return p.converged && p.gap; };
    for (std::size_t i = 0; i + 1 < order.size(); ++i) {
      const Point &above_it = points[order[i]], &below_it = points[order[i + 1]];
      if (!in_gap(above_it) || !in_gap(below_it)) continue;
      double hi = xs[order[i]], lo = xs[order[i + 1]];
      const double f_hi = determinant(above_it), f_lo = determinant(below_it);
      if (!std::isfinite(f_hi) || !std::isfinite(f_lo) || (f_hi > 0) == (f_lo > 0)) continue;
      Point at = above_it;
      bool smooth = true;
      while (hi / lo - 1 > 1e-12 && smooth) {
        const double x = 0.5 * (hi + lo);
        if (x <= lo || x >= hi) break;
        at = solve(x, at);
        smooth = in_gap(at);
        ((determinant(at) > 0) == (f_hi > 0) ? hi : lo) = x;
      }
      if (smooth && std::abs(determinant(at)) < 1e-3) out.outliers.push_back(0.5 * (hi + lo));
    }
    std::sort(out.outliers.begin(), out.outliers.end());
  }

  static constexpr double pi = 3.14159265358979323846;
  static constexpr int per_decade = 24;
  static constexpr double tolerance = 1e-6;

  const System& system_;
  SpectrumScales scales_;
};

/// The spectrum of one spiked model with an isotropic bulk.
Spectrum spectrum(const Function& sigma, const SpikeParameters& p, double alpha, double beta,
                  const double* x, Index n);

}  // namespace srfx
