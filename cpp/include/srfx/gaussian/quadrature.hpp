// Quadrature against the standard normal density: E f(z), z ~ N(0,1).
//
// Two rules cover everything (THEORY section 2):
//   trapezoid   sum_i h phi(z_i) f(z_i): converges like exp(-2 pi a/h) for f analytic in |Im z| <
//   a. The shortest. panels      composite Gauss-Legendre with edges at the kinks of f: right for
//   sign, ReLU and the rest.
// Gauss-Hermite is not used: it is wrong by several percent at a kink whatever its order.
#pragma once

#include "srfx/core/simd.hpp"
#include "srfx/core/types.hpp"
#include "srfx/core/vecmath.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace srfx {

inline constexpr double infinity = std::numeric_limits<double>::infinity();

inline constexpr double normal_density_at_0 = 0.39894228040143267793994605993438;

/// Multiplies w[i] by the standard normal density at x[i], erf'(x/sqrt 2)/(2 sqrt 2).
inline void times_normal_density(const double* x, double* w, Index n) {
  using V = simd::Lanes<double, 8>;
  const auto density = [](V z) {
    return V(0.35355339059327376220) * vecmath::erf_derivative(z * V(0.70710678118654752440));
  };
  Index i = 0;
  for (; i + V::size <= n; i += V::size) (V::load(w + i) * density(V::load(x + i))).store(w + i);
  if (i < n) {
    alignas(64) double rest[V::size] = {};
    std::copy(x + i, x + n, rest);
    density(V::load(rest)).store(rest);
    for (Index j = i; j < n; ++j) w[j] *= rest[j - i];
  }
}

/// Nodes and weights of Gauss-Legendre quadrature on [-1, 1], by Newton's method on the three-term
/// recurrence.
struct GaussLegendre {
  std::vector<double> x, w;

  explicit GaussLegendre(int n) : x(n), w(n) {
    for (int i = 0; i < (n + 1) / 2; ++i) {
      long double t = std::cos(3.14159265358979323846L * (i + 0.75L) / (n + 0.5L)), slope = 1;
      for (int pass = 0; pass < 100; ++pass) {
        long double p = 1, below = 0;
        for (int j = 1; j <= n; ++j) {
          const long double above = ((2 * j - 1) * t * p - (j - 1) * below) / j;
          below = p;
          p = above;
        }
        slope = n * (t * p - below) / (t * t - 1);
        const long double step = p / slope;
        t -= step;
        if (std::abs(step) < 1e-19L) break;
      }
      x[i] = static_cast<double>(-t);
      x[n - 1 - i] = static_cast<double>(t);
      w[i] = w[n - 1 - i] = static_cast<double>(2 / ((1 - t * t) * slope * slope));
    }
    if (n % 2 == 1) x[n / 2] = 0;
  }

  /// The rule of order n <= 32, made once.
  static const GaussLegendre& order(int n) {
    static const std::vector<GaussLegendre> rules = [] {
      std::vector<GaussLegendre> all;
      for (int m = 1; m <= 32; ++m) all.emplace_back(m);
      return all;
    }();
    return rules.at(n - 1);
  }
};

/// Nodes and weights. The push functions add plain weights; finish() multiplies all by the normal
/// density.
struct Rule {
  std::vector<double> x, w;
  bool paired = false;  ///< the nodes are x, -x, x', -x', ...
  double step = 0;      ///< if positive, the |x| are (first + i + 1/2) step
  Index first = 0;

  void clear() { x.clear(), w.clear(); }
  Index size() const { return static_cast<Index>(x.size()); }
  void push(double node, double weight) { x.push_back(node), w.push_back(weight); }
  void push_pair(double node, double weight) { push(node, weight), push(-node, weight); }

  /// Adds [lo, hi] as equal Gauss-Legendre panels no wider than `width`.
  void push_panels(double lo, double hi, double width, int order) {
    if (!(hi > lo)) return;
    const GaussLegendre& gl = GaussLegendre::order(order);
    const int count = std::max(1, static_cast<int>(std::ceil((hi - lo) / width - 1e-9)));
    const Index begin = size();
    reserve(begin + count * order);
    x.resize(begin + count * order), w.resize(begin + count * order);
    double *at = &x[begin], *weight = &w[begin];
    const double half = 0.5 * (hi - lo) / count, *const node = gl.x.data(),
                 *const share = gl.w.data();
    for (int panel = 0; panel < count; ++panel, at += order, weight += order) {
      const double middle = lo + half * (2 * panel + 1);
      for (int i = 0; i < order; ++i) at[i] = middle + half * node[i], weight[i] = half * share[i];
    }
  }

  /// The trapezoidal rule of step h at (i + 1/2) h on [-limit, limit].
  void push_trapezoid(double h, double limit) {
    const int count = static_cast<int>(std::ceil(limit / h));
    reserve(2 * count + 8);
    for (int i = -count; i < count; ++i) push((i + 0.5) * h, h);
  }

  void finish() { times_normal_density(x.data(), w.data(), size()); }
  void reserve(Index n) {
    if (static_cast<Index>(x.capacity()) < n) x.reserve(2 * n), w.reserve(2 * n);
  }
};

/// What quadrature must know of a function of one real variable.
struct Shape {
  int parity = 0;       ///< 1 even, -1 odd, 0 neither
  int core_parity = 0;  ///< parity of f(x) - offset - slope x, for some
  double offset = 0, slope = 0;
  bool affine = false;        ///< f(x) = offset + slope x
  std::vector<double> kinks;  ///< where it is not smooth, ascending
  double strip = infinity;    ///< it is analytic in |Im x| < strip, apart from the kinks
  int growth = 0;             ///< degree of growth at infinity
  double panel = 2.0;  ///< a 16-node Gauss-Legendre panel of this width is exact to rounding ...
  double soft =
      40.0;  ///< ... needed only within this distance of 0 (beyond, the function is a polynomial)
  bool smooth = true;  ///< no kinks, and known to be analytic: the trapezoidal rule may be used
  bool jump = false;   ///< its value is discontinuous
};

/// A function of one real variable: a named activation or a callable.
class Function {
 public:
  virtual ~Function() = default;
  virtual void evaluate(const double* x, double* y, Index n) const = 0;
  const Shape& shape() const { return shape_; }
  /// True if one call on many points is far cheaper than many calls on few.
  virtual bool one_call() const { return false; }

 protected:
  Shape shape_;
};

/// Rules for E f(mean + sd z) of one function at one sd. Nodes are padded to whole vectors with
/// weight 0.
///
/// `density` multiplies the number of nodes: two densities compared give the error of the coarser.
class GaussianRule {
 public:
  GaussianRule(const Shape& shape, double sd, double density = 1)
      : shape_(shape),
        sd_(sd),
        order_(16),
        density_(density) {
    if (shape.smooth && sd > 0) {
      // Steps that bring the error of E f and E f^2 below exp(-36), for poles at distance strip/sd
      // and for entire functions that grow along the imaginary axis no faster than exp(y^2) (erf)
      // or exp(y) (sin).
      const double pi = 3.14159265358979323846, decay = 36, pole = shape.strip / sd;
      double h = 2 * pi / std::sqrt(4 * decay * (0.5 + (std::isinf(pole) ? 2 * sd * sd : 0)));
      if (std::isinf(pole)) h = std::min(h, 2 * pi / (std::sqrt(2 * decay) + 2 * sd));
      if (pole < 2 * pi / h) h = std::min(h, 2 * pi * pole / (decay + 0.5 * pole * pole));
      if (2 * limit_ / h <= 200) {
        step_ = h / density_;
        shared_.push_trapezoid(step_, limit_);
        shared_.finish();
        inner_.end = shared_.size();
        if (shape.growth <= 1) {
          while (shared_.x[inner_.begin] < -inner_limit_) ++inner_.begin;
          while (shared_.x[inner_.end - 1] > inner_limit_) --inner_.end;
        }
      }
    }
    if (!shared() && std::isinf(shape.soft) && 2 * limit_ * sd * density_ / shape.panel > 4096)
      throw std::domain_error(
          "sqrt(c) = " + std::to_string(sd) +
          " is too large for this activation or target: it may change on the scale of its argument "
          "everywhere, and too many nodes would be needed to follow it");
  }

  /// True if one set of nodes serves every mean.
  bool shared() const { return shared_.size() > 0; }

  const Rule& nodes() const { return shared_; }
  /// Of the shared nodes, which are the trapezoidal rule on |z| <= limit().
  double step() const { return step_; }
  double limit() const { return limit_; }

  /// Whether the inner nodes do for this mean: in the tails of the function, what it does far out
  /// in z rules mu2.
  bool inner(double mean) const { return std::abs(mean) <= 3 * sd_; }
  /// How far the inner nodes reach.
  double inner_limit() const { return shape_.growth <= 1 ? inner_limit_ : limit_; }
  struct Range {
    Index begin = 0, end = 0;
  };
  Range range(bool inner) const { return inner ? inner_ : Range{0, shared_.size()}; }

  double density() const { return density_; }
  /// About how many nodes a mean takes.
  Index typical_size() const {
    if (shared()) return shared_.size();
    const double per_panel =
        std::isinf(shape_.soft) ? std::min(2.5, shape_.panel / std::max(sd_, 1e-300)) : 1.0;
    return static_cast<Index>(order_ * 2 * limit_ * density_ / per_panel) + order_;
  }

  /// Appends the nodes for this mean, without the density.
  void at(double mean, Rule& out) const {
    if (sd_ == 0) {  // a point mass
      out.push(0, 1 / normal_density_at_0);
      pad(out);
      return;
    }
    // Edges: kinks, and the ends of the region where panels are limited in units of the argument.
    std::vector<double> edges{-limit_, limit_};
    const auto add = [&](double u) {
      const double z = (u - mean) / sd_;
      if (z > -limit_ && z < limit_) edges.push_back(z);
    };
    for (double kink : shape_.kinks) add(kink);
    if (std::isfinite(shape_.soft)) add(-shape_.soft), add(shape_.soft);
    std::sort(edges.begin(), edges.end());
    for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
      const double middle = mean + 0.5 * sd_ * (edges[i] + edges[i + 1]);
      const double in_argument = std::abs(middle) < shape_.soft ? shape_.panel / sd_ : infinity;
      out.push_panels(edges[i], edges[i + 1], std::min(2.5, in_argument) / density_, order_);
    }
    pad(out);
  }

 private:
  static void pad(Rule& rule) {
    while (rule.size() % 8 != 0) rule.push(0, 0);
  }

  Shape shape_;
  double sd_;
  int order_;
  double density_;
  double limit_ =
      11;  ///< |z| at most: far enough for 1e-10 of a mu2^2 that is itself 1e-13, far out in k
  double inner_limit_ = 9;
  double step_ = 0;
  Range inner_;
  Rule shared_;
};

}  // namespace srfx
