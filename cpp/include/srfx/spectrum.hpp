// The limiting spectral density of Phi^T Phi/p, Phi the n x p matrix of features (THEORY section 6).
//
// The equations of the ridge problem at lam = -x - i0: density(x) = Im V2/pi. For Im lam < 0 the map V -> (<D/S>, <1/S>) takes the
// upper half plane squared into itself: Im V > 0 makes Im w < 0, so A = lam + a' E[u2 w] and B = a' E[u1 w] lie in the lower half
// plane, where the root of the Marchenko-Pastur law is analytic (bulk.hpp). Hence its fixed point there is unique: whatever
// converges with Im V > 0 is the answer, on no wrong branch. Newton's step is taken while it stays there, else the plain map;
// points are continued in x, and restarted from large Im lam where that fails.
//
// In a gap V is real; there a point is known by Im V2 proportional to Im lam. Outliers: with V real outside the bulk, x is an eigenvalue
// where the normal equations of (m, theta) are singular (THEORY section 4 at lam = -x),
//   E[mu0^2 w] (1 + K E[u1 k^2 w]) = K E[mu0 mu1 k w]^2,  K = alpha <1/S>     (mu0 = 0: 1 + K E[u1 k^2 w] = 0),
// and one more, of order n E[mu0^2], where mu0 is not 0.
#pragma once

#include "levels.hpp"
#include "types.hpp"

#include <algorithm>
#include <complex>
#include <optional>

namespace srfx {

using Complex = std::complex<double>;

struct SpectrumPoint {
  Complex v1, v2;
  double density = 0;  ///< Im V2/pi; 0 in a gap
  double error = 0;    ///< |change of V2|/pi on a denser rule
  bool gap = false;
  bool converged = false;
};

struct Spectrum {
  std::vector<double> density, error;
  std::vector<std::int8_t> status;
  double zero_mass = 0;     ///< mass at zero
  double mass = 0;          ///< of everything, by integration: 1
  double first_moment = 0, expected_moment = 0;  ///< by integration; a' (E u1 + E u2)
  double outlier_rate = 0;  ///< the outlier of order p is d times this: alpha E mu0^2
  std::vector<double> edges, outliers;
};

/// Nodes in k as columns, padded to whole vectors with weight 0.
struct SpectrumNodes {
  std::vector<double> weight, u1, u2, mu0, kmu1;

  explicit SpectrumNodes(const NodeSet& set) {
    for (const Node& node : set.nodes)
      weight.push_back(node.weight), u1.push_back(node.u1), u2.push_back(node.u2), mu0.push_back(node.mu0), kmu1.push_back(node.kmu1);
    while (weight.size() % 8 != 0)
      for (auto* column : {&weight, &u1, &u2, &mu0, &kmu1}) column->push_back(0);
  }
  Index size() const { return static_cast<Index>(weight.size()); }
};

/// The spectrum of one model.
class SpectrumSolver {
 public:
  SpectrumSolver(Ladder& panels, double alpha, double beta) : ladder_(&panels), alpha_(alpha), beta_(beta), ratio_(alpha / beta) {
    const SpectrumNodes& nodes = rule(1);
    linear_ = true;
    for (Index i = 0; i < nodes.size(); ++i) {
      const double w = nodes.weight[i], u1 = nodes.u1[i], u2 = nodes.u2[i];
      linear_ = linear_ && u2 == 0;
      mean_square_ += w * nodes.mu0[i] * nodes.mu0[i];
      mean_u1_ += w * u1, mean_u2_ += w * u2;
      top_ = std::max(top_, u1 + u2);
    }
  }

  /// The density at `n` points x > 0, with the checks.
  Spectrum operator()(const double* x, Index n) {
    Spectrum out;
    out.zero_mass = 1 - std::min(1.0, linear_ ? std::min(ratio_, 1 / beta_) : ratio_);
    out.expected_moment = ratio_ * (mean_u1_ + mean_u2_);
    out.outlier_rate = alpha_ * mean_square_;
    out.density.assign(n, 0), out.error.assign(n, 0), out.status.assign(n, 0);
    if (!(out.expected_moment > 0)) {  // a constant activation: no bulk at all
      out.zero_mass = out.mass = 1;
      return out;
    }
    sweep(out);
    std::vector<Index> order(n);
    for (Index i = 0; i < n; ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](Index a, Index b) { return x[a] > x[b]; });
    SpectrumPoint at;
    for (Index i : order) {
      at = solve(x[i], at);
      out.density[i] = at.converged ? at.density : std::numeric_limits<double>::quiet_NaN();
      out.error[i] = at.converged ? at.error : std::numeric_limits<double>::quiet_NaN();
      out.status[i] = static_cast<std::int8_t>(at.converged ? Status::converged : Status::max_iterations);
    }
    return out;
  }

  /// One point, from a solution nearby (or none).
  SpectrumPoint solve(double x, const SpectrumPoint& near) const {
    SpectrumPoint out = near;
    if (near.converged && refine(x, out, !near.gap)) return out;
    // From far above the axis, where the map contracts, down to it.
    out = {};
    out.v1 = out.v2 = Complex(0, 1) / (4 * x);
    for (double height = 4; height > 1e-7; height *= 0.25)
      if (!newton(rule(0), Complex(-x, -height * x), out.v1, out.v2, 200)) return out;
    if (!refine(x, out, false)) out.converged = false;
    return out;
  }

 private:
  using V = simd::Lanes<double, 8>;
  static constexpr double above = 1e-9;  ///< Im lam/x in a gap

  struct Sums {
    Complex e1, e2, e11, e12, e22;
  };
  Sums sums(const SpectrumNodes& nodes, Complex v1, Complex v2) const {
    V e1r(0.0), e1i(0.0), e2r(0.0), e2i(0.0), ar(0.0), ai(0.0), br(0.0), bi(0.0), cr(0.0), ci(0.0);
    const V v1r(v1.real()), v1i(v1.imag()), v2r(v2.real()), v2i(v2.imag());
    for (Index i = 0; i < nodes.size(); i += V::size) {
      const V u1 = V::load(&nodes.u1[i]), u2 = V::load(&nodes.u2[i]), omega = V::load(&nodes.weight[i]);
      const V re = V(1.0) + u1 * v1r + u2 * v2r, im = u1 * v1i + u2 * v2i;
      const V inverse = V(1.0) / (re * re + im * im), wr = re * inverse, wi = -im * inverse;
      const V o1 = omega * u1, o2 = omega * u2, sr = wr * wr - wi * wi, si = V(2.0) * wr * wi;
      e1r += o1 * wr, e1i += o1 * wi;
      e2r += o2 * wr, e2i += o2 * wi;
      const V o11 = o1 * u1, o12 = o1 * u2, o22 = o2 * u2;
      ar += o11 * sr, ai += o11 * si;
      br += o12 * sr, bi += o12 * si;
      cr += o22 * sr, ci += o22 * si;
    }
    const auto total = [](V r, V i) {
      double re = 0, im = 0;
      for (int lane = 0; lane < V::size; ++lane) re += r[lane], im += i[lane];
      return Complex(re, im);
    };
    return {total(e1r, e1i), total(e2r, e2i), total(ar, ai), total(br, bi), total(cr, ci)};
  }

  /// Newton's method in the upper half plane; true if it converged there.
  bool newton(const SpectrumNodes& nodes, Complex lam, Complex& v1, Complex& v2, int limit) const {
    double previous = 1;
    int outside = 0;
    for (int iteration = 0; iteration < limit; ++iteration) {
      const Sums s = sums(nodes, v1, v2);
      const SpectralAverages<Complex> t =
          MarchenkoPastur{}.averages<Complex>(lam + ratio_ * s.e2, ratio_ * s.e1, Complex(beta_));
      const Complex j11 = 1.0 - ratio_ * (t.t11 * s.e11 + t.t12 * s.e12), j12 = -ratio_ * (t.t11 * s.e12 + t.t12 * s.e22);
      const Complex j21 = -ratio_ * (t.t12 * s.e11 + t.t22 * s.e12), j22 = 1.0 - ratio_ * (t.t12 * s.e12 + t.t22 * s.e22);
      const Complex f1 = t.y1 - v1, f2 = t.y2 - v2, det = j11 * j22 - j12 * j21;
      const Complex step1 = (j22 * f1 - j12 * f2) / det, step2 = (j11 * f2 - j21 * f1) / det;
      Complex next1 = v1 + step1, next2 = v2 + step2;
      const bool inside = next1.imag() > 0 && next2.imag() > 0 && std::isfinite(std::abs(next1)) && std::isfinite(std::abs(next2));
      if (!inside) {
        if (limit <= 20 && ++outside > 3) return false;
        next1 = t.y1, next2 = t.y2;
      }
      const double step = std::max(std::abs(next1 - v1) / std::abs(next1), std::abs(next2 - v2) / std::abs(next2));
      if (!std::isfinite(step)) return false;
      v1 = next1, v2 = next2;
      if (inside && (step < 1e-13 || (step < 1e-6 && step < previous && step * step * step < 1e-13 * previous * previous))) return true;
      if (inside && step < 1e-11 && step >= 0.5 * previous) return true;  // rounding decides
      previous = step;
    }
    return false;
  }

  /// V at one x on given nodes, from a guess; false if lost.
  bool settle(const SpectrumNodes& nodes, double x, SpectrumPoint& at, bool bulk_first) const {
    const auto in_bulk = [&](Complex& v1, Complex& v2) {
      return newton(nodes, -x, v1, v2, 20) && v2.imag() > 1e-7 * std::abs(v2);
    };
    Complex a1 = at.v1, a2 = at.v2;
    bool bulk = bulk_first && in_bulk(a1, a2);
    if (!bulk) {
      a1 = at.v1, a2 = at.v2;
      if (!newton(nodes, Complex(-x, -above * x), a1, a2, 60)) return false;
      Complex b1 = a1, b2 = a2;
      bulk = in_bulk(b1, b2);
      if (bulk) {
        a1 = b1, a2 = b2;
      } else {  // does Im V vanish with Im lam?
        b1 = a1, b2 = a2;
        if (!newton(nodes, Complex(-x, -0.1 * above * x), b1, b2, 60)) return false;
        bulk = b2.imag() > 0.2 * a2.imag();  // an edge, or a density too small to tell from Im lam
        if (bulk) a1 = b1, a2 = b2;
      }
    }
    at.v1 = a1, at.v2 = a2, at.gap = !bulk;
    return true;
  }

  /// On denser and denser rules, until they agree.
  bool refine(double x, SpectrumPoint& at, bool bulk_first) const {
    if (!settle(rule(0), x, at, bulk_first)) return false;
    for (int tier = 1; tier < n_tiers; ++tier) {
      const Complex before = at.v2;
      if (!settle(rule(tier), x, at, !at.gap)) return false;
      at.error = std::abs(at.v2 - before) / pi;
      if (at.error * x < 1e-10) break;
    }
    at.density = at.gap ? 0 : std::max(0.0, at.v2.imag()) / pi;
    at.converged = at.error * x < tolerance;  // Im V2 x is mass for each unit of ln x
    return true;
  }

  const SpectrumNodes& rule(int tier) const {
    static constexpr int rungs[n_tiers] = {3, 4, 5};
    std::optional<SpectrumNodes>& out = rules_[static_cast<std::size_t>(tier)];
    if (!out) {
      const Level& level = ladder_->level(rungs[tier]);
      Index count = 0;
      while (count < level.size() && std::abs(level.k[static_cast<std::size_t>(count)]) <= 8.6) ++count;
      out.emplace(NodeSet(level, count));
    }
    return *out;
  }

  /// Edges, outliers, mass and first moment.
  void sweep(Spectrum& out) const {
    const double wide = (1 + 1 / std::sqrt(ratio_)) * (1 + std::sqrt(beta_));
    const double start = 4 * ratio_ * wide * wide * std::max(top_, mean_u1_ + mean_u2_), q = std::pow(10.0, -1.0 / per_decade);
    std::vector<double> xs;
    std::vector<SpectrumPoint> points;
    SpectrumPoint at;
    double seen = out.zero_mass, decade = 0;
    for (double x = start; x > 1e-15 * out.expected_moment; x *= q) {
      const SpectrumPoint next = solve(x, at);
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
      SpectrumPoint inside;
    };
    std::vector<Interval> bulks;
    const auto in_bulk = [](const SpectrumPoint& p) { return !(p.converged && p.gap); };  // or unknown
    const auto edge = [&](double dark, double light, const SpectrumPoint& inside) {
      SpectrumPoint last = inside;
      while (std::abs(light / dark - 1) > 1e-9) {
        const double middle = std::sqrt(dark * light);
        const SpectrumPoint p = solve(middle, last);
        if (p.converged && !p.gap && p.density > 0)
          light = middle, last = p;
        else
          dark = middle;
      }
      return light;
    };
    for (std::size_t i = 0; i < xs.size(); ++i) {
      if (!in_bulk(points[i])) continue;
      std::size_t j = i;
      while (j + 1 < xs.size() && in_bulk(points[j + 1])) ++j;
      Interval b{xs[j], xs[i], points[i]};
      if (i > 0) b.hi = edge(xs[i - 1], xs[i], points[i]);
      if (j + 1 < xs.size())
        b.lo = edge(xs[j + 1], xs[j], points[j]);
      else if (j > i)
        out.mass += below(xs[j], points[j], xs[j - 1], points[j - 1]);
      out.edges.push_back(b.hi), out.edges.push_back(j + 1 < xs.size() ? b.lo : 0);
      bulks.push_back(b);
      i = j;
    }
    std::sort(out.edges.begin(), out.edges.end());
    for (const Interval& b : bulks) integrate(b.lo, b.hi, b.inside, out);
    find_outliers(xs, points, out);
  }

  /// Mass between 0 and x if the density goes on as the power it is between x and y > x.
  static double below(double x, const SpectrumPoint& at_x, double y, const SpectrumPoint& at_y) {
    if (!at_x.converged || !at_y.converged || !(at_x.density > 0) || !(at_y.density > 0)) return 0;
    const double power = std::log(at_x.density / at_y.density) / std::log(x / y);
    return power > -0.999 ? x * at_x.density / (1 + power) : 0;
  }

  /// Adds the mass and first moment of one interval: trapezoid in phi, ln x = middle - half cos(phi), which suits square-root edges.
  void integrate(double lo, double hi, const SpectrumPoint& inside, Spectrum& out) const {
    const double middle = 0.5 * (std::log(lo) + std::log(hi)), half = 0.5 * (std::log(hi) - std::log(lo));
    double mass = 0, moment = 0, last_mass = -1, last_moment = -1;
    for (int n = 32; n <= 4096; n *= 2) {
      SpectrumPoint at = inside;
      double new_mass = 0, new_moment = 0;
      for (int i = n - 1; i > 0; --i) {
        if (n > 32 && i % 2 == 0) continue;  // seen at the level before
        const double phi = pi * i / n, x = std::exp(middle - half * std::cos(phi));
        const SpectrumPoint next = solve(x, at);
        if (!next.converged) continue;
        at = next;
        const double piece = next.density * x * half * std::sin(phi) * pi;
        new_mass += piece, new_moment += piece * x;
      }
      mass = (n > 32 ? 0.5 * mass : 0) + new_mass / n, moment = (n > 32 ? 0.5 * moment : 0) + new_moment / n;
      if (std::abs(mass - last_mass) < 1e-8 && std::abs(moment - last_moment) < 1e-8 * out.expected_moment) break;
      last_mass = mass, last_moment = moment;
    }
    out.mass += mass, out.first_moment += moment;
  }

  /// The determinant of the normal equations of (m, theta) at a real V.
  double normal_determinant(const SpectrumPoint& p) const {
    double s00 = 0, s01 = 0, s11 = 0;
    const double v1 = p.v1.real(), v2 = p.v2.real();
    const SpectrumNodes& nodes = rule(1);
    for (Index i = 0; i < nodes.size(); ++i) {
      const double w = nodes.weight[i] / (1 + nodes.u1[i] * v1 + nodes.u2[i] * v2);
      s00 += w * nodes.mu0[i] * nodes.mu0[i];
      s01 += w * nodes.mu0[i] * nodes.kmu1[i];
      s11 += w * nodes.kmu1[i] * nodes.kmu1[i];
    }
    const double k = alpha_ * v2;
    return mean_square_ > 0 ? (s00 * (1 + k * s11) - k * s01 * s01) / mean_square_ : 1 + k * s11;
  }

  void find_outliers(std::vector<double> xs, std::vector<SpectrumPoint> points, Spectrum& out) const {
    for (double e : out.edges) {
      if (e == 0) continue;
      for (double beside : {e * (1 + 1e-5), e * (1 - 1e-5)}) xs.push_back(beside), points.push_back(solve(beside, {}));
    }
    std::vector<std::size_t> order(xs.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return xs[a] > xs[b]; });
    const auto in_gap = [](const SpectrumPoint& p) { return p.converged && p.gap; };
    for (std::size_t i = 0; i + 1 < order.size(); ++i) {
      const SpectrumPoint &above_it = points[order[i]], &below_it = points[order[i + 1]];
      if (!in_gap(above_it) || !in_gap(below_it)) continue;
      double hi = xs[order[i]], lo = xs[order[i + 1]];
      const double f_hi = normal_determinant(above_it);
      if ((f_hi > 0) == (normal_determinant(below_it) > 0)) continue;
      SpectrumPoint at = above_it;
      bool smooth = true;
      while (hi / lo - 1 > 1e-12 && smooth) {
        const double x = 0.5 * (hi + lo);
        if (x <= lo || x >= hi) break;
        at = solve(x, at);
        smooth = in_gap(at);
        ((normal_determinant(at) > 0) == (f_hi > 0) ? hi : lo) = x;
      }
      if (smooth && std::abs(normal_determinant(at)) < 1e-3) out.outliers.push_back(0.5 * (hi + lo));
    }
    std::sort(out.outliers.begin(), out.outliers.end());
  }

  static constexpr double pi = 3.14159265358979323846;
  static constexpr int per_decade = 24;

  static constexpr int n_tiers = 3;
  static constexpr double tolerance = 1e-6;

  Ladder* ladder_;
  mutable std::array<std::optional<SpectrumNodes>, n_tiers> rules_;
  double alpha_, beta_, ratio_, mean_u1_ = 0, mean_u2_ = 0, mean_square_ = 0, top_ = 0;
  bool linear_ = true;
};

/// The spectrum of one spiked model with an isotropic bulk.
inline Spectrum spectrum(const Function& sigma, const SpikeParameters& p, double alpha, double beta, const double* x, Index n) {
  CoefficientScratch scratch;
  Coefficients coefficients(sigma, sigma, {p.r, p.c, 0}, scratch);
  Ladder panels(coefficients, true);
  return SpectrumSolver(panels, alpha, beta)(x, n);
}

}  // namespace srfx
