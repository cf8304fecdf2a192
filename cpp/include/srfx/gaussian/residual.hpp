// What one gradient step is made of (THEORY sections 9, 10 and 14): Gaussian moments of sigma', and
// the law of the residual.
//
//   sigma'(z) = h1 + h2 z + S(z), S orthogonal to 1 and z;   u = s*(t) + sqrt(noise) eps - E sigma,
//   the residual of the step
//
// t has as many numbers as the target has directions.
#pragma once

#include "srfx/gaussian/coefficients.hpp"
#include "srfx/gaussian/target.hpp"
#include "srfx/core/dense.hpp"
#include "srfx/core/scalar.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <vector>

namespace srfx {

// --- constants of sigma'
// -------------------------------------------------------------------------------------------

/// Gaussian moments of sigma and of S = sigma' - h1 - h2 z, z ~ N(0,1); those below 1e-12
/// rms(sigma') are zero.
struct StepConstants {
  double h0 = 0, variance = 0;  ///< E sigma, E sigma^2 - h0^2
  double h1 = 0, h2 = 0;
  double hc1 = 0, k3 = 0, k4 = 0;   ///< E S^2, E S^3, E S^4
  double b3 = 0, b12 = 0, q2 = 0;   ///< E z^2 S, E z S^2, E z^2 S^2
  double b4 = 0, b22 = 0, b13 = 0;  ///< E z^3 S, E (z^2 - 1) S^2, E z S^3
  double error = 0;                 ///< estimated, relative to rms(sigma')
};

StepConstants step_constants(const Function& sigma, const Function& derivative);
/// The same of sigma(mean + sd z) and sigma'(mean + sd z), at many means.
std::vector<StepConstants> step_constants(const Function& sigma, const Function& derivative,
                                          const std::vector<double>& means, double sd);

// --- the law of the residual u, jointly with t = theta.x/sqrt d
// ------------------------------------------------------

/// A rule for averages of functions of (t, u). The numbers of one t lie together.
struct ResidualRule {
  Index directions = 1;
  std::vector<double> t, u, w;
  Index size() const { return static_cast<Index>(u.size()); }
};

/// Without noise: panels in t, split until u changes over a panel by no more than `ratio` times its
/// distance from 0 or `delta`: functions of u have poles no nearer to 0 than delta, or vary on no
/// smaller scale.
ResidualRule residual_rule(const Function& target, double h0, double delta, double ratio,
                           int order);

/// Points of (t, y) of a target of several directions, y without noise.
ResidualRule target_rule(const TargetFunction& target, double fineness);

/// E u^n and E t u^n. Of several directions t is that along E[t u].
template <class R> struct BasicResidualMoments {
  std::array<R, 7> u{}, tu{};
  R across = 0;  ///< square of E[t u^2] across that direction

  BasicResidualMoments() = default;
  explicit BasicResidualMoments(const ResidualRule& rule) {
    const std::size_t directions = static_cast<std::size_t>(rule.directions);
    std::vector<std::array<R, 7>> by_direction(directions);
    for (auto& moments : by_direction) moments.fill(R(0));
    for (Index i = 0; i < rule.size(); ++i) {
      R power = rule.w[i];
      for (std::size_t n = 0; n < u.size(); ++n) {
        u[n] += power;
        for (std::size_t l = 0; l < directions; ++l)
          by_direction[l][n] += power * rule.t[i * rule.directions + static_cast<Index>(l)];
        power *= rule.u[i];
      }
    }
    if (directions == 1) {
      tu = by_direction[0];
      return;
    }
    R square = 0;
    for (const auto& moments : by_direction) {
      drift.push_back(moments[1]);
      square += moments[1] * moments[1];
    }
    const R length = std::sqrt(square);
    std::vector<R> along(directions, R(0));
    for (std::size_t l = 0; l < directions; ++l)
      along[l] = real_part(length) > 0 ? drift[l] / length : R(l == 0 ? 1 : 0);
    for (std::size_t n = 0; n < tu.size(); ++n)
      for (std::size_t l = 0; l < directions; ++l) tu[n] += along[l] * by_direction[l][n];
    for (std::size_t l = 0; l < directions; ++l) {
      const R rest = by_direction[l][2] - along[l] * tu[2];
      across += rest * rest;
    }
  }

  std::vector<R> drift;  ///< E[t u] of several directions
};
using ResidualMoments = BasicResidualMoments<double>;
/// Of u + sqrt(noise) eps.
ResidualMoments widened(const ResidualMoments& moments, double noise);

/// The law of u on few nodes: w[0] are the weights of E f(u), then come those of E t_l f(u) for
/// each direction, then of E t_l t_m f(u) for l <= m, in the order (0, 0), (0, 1), .., (1, 1), ..;
/// for one direction of E t^i f(u). Padded to whole vectors.
struct ResidualNodes {
  std::vector<double> u;
  std::vector<std::vector<double>> w;

  Index size() const { return static_cast<Index>(u.size()); }
  static Index moments(Index directions) {
    return 1 + directions + directions * (directions + 1) / 2;
  }
  void push(double at, const double* weights) {
    u.push_back(at);
    for (std::size_t j = 0; j < w.size(); ++j) w[j].push_back(weights[j]);
  }
  void pad() {
    const std::vector<double> nothing(w.size(), 0.0);
    while (size() % 8 != 0) push(0, nothing.data());
  }

  explicit ResidualNodes(Index directions = 1) : w(moments(directions)) {}
  Index directions() const {
    Index out = 1;
    while (moments(out) < static_cast<Index>(w.size())) ++out;
    return out;
  }
  /// Every point of a rule; folded: (t, u) and (-t, -u) are one point, for averages of even
  /// functions of (t, u).
  ResidualNodes(const ResidualRule& rule, bool folded) : ResidualNodes(rule.directions) {
    std::vector<double> weights(w.size());
    for (Index i = 0; i < rule.size(); ++i) {
      const double sign = folded && rule.u[i] < 0 ? -1 : 1, w0 = rule.w[i];
      const double* const t = &rule.t[i * rule.directions];
      double* next = weights.data();
      *next++ = w0;
      for (Index l = 0; l < rule.directions; ++l) *next++ = w0 * (sign * t[l]);
      for (Index l = 0; l < rule.directions; ++l)
        for (Index m = l; m < rule.directions; ++m) *next++ = w0 * (sign * t[l]) * (sign * t[m]);
      push(sign * rule.u[i], weights.data());
    }
    pad();
  }

  /// (t, u) and (-t, -u) are one point.
  ResidualNodes folded() const;
  /// The law of u + sd eps, for functions of it with poles no nearer to 0 than delta, off the real
  /// axis; these nodes have to serve functions that vary on the scale of max(sd, delta).
  ///
  /// Next to 0 all nodes share one rule in u: only E[t^i | u] is wanted, which is a sum of normal
  /// densities. What lies beyond ten sd takes the trapezoidal rule in eps.
  ResidualNodes widened(double sd, double delta, double ratio, int order) const;

  /// The Gauss rules of `nodes` points of bins of |u| whose edges are powers of 2^(1/parts) from
  /// delta on. Functions analytic but for poles at |u| >= delta, off the real axis, are polynomials
  /// on each bin; the moments of t given u enter by their projections on the orthogonal polynomials
  /// of the bin. With `sine`, that of the least angle of a pole with the real axis, a bin takes as
  /// many nodes as its mass and the poles around it ask for, `nodes` at most.
  ResidualNodes compressed(double delta, int parts, int nodes, double sine = 0) const {
    std::vector<std::vector<Index>> bins;
    for (Index i = 0; i < size(); ++i) {
      if (w[0][i] == 0) continue;
      const double size_u = std::abs(u[i]);
      Index bin;
      if (size_u <= delta)
        bin = 2 * std::min<Index>(parts - 1, static_cast<Index>(parts * size_u / delta));
      else bin = 2 * (parts + static_cast<Index>(parts * std::log2(size_u / delta)));
      if (u[i] < 0) ++bin;
      if (bin >= static_cast<Index>(bins.size())) bins.resize(bin + 1);
      bins[bin].push_back(i);
    }
    if (parts == 1 && bins.size() > 1) {  // around 0: one bin
      bins[0].insert(bins[0].end(), bins[1].begin(), bins[1].end());
      bins[1].clear();
    }
    ResidualNodes out;
    out.w.resize(w.size());
    const std::size_t more = w.size() - 1;
    std::vector<double> x, mass, below, here, weights(w.size()), shares;
    const int most = nodes;
    const std::array<double, 4> whole = sine > 0 ? even_moments(nullptr) : std::array<double, 4>{};
    for (const std::vector<Index>& bin : bins) {
      const Index n = static_cast<Index>(bin.size());
      if (sine > 0 && n > 1) nodes = enough(bin, whole, delta, sine, most);
      if (n <= nodes) {
        for (Index i : bin) {
          for (std::size_t j = 0; j < w.size(); ++j) weights[j] = w[j][i];
          out.push(u[i], weights.data());
        }
        continue;
      }
      double lo = infinity, hi = -infinity, total = 0;
      for (Index i : bin) lo = std::min(lo, u[i]), hi = std::max(hi, u[i]), total += w[0][i];
      const double middle = 0.5 * (lo + hi), half = std::max(0.5 * (hi - lo), 1e-300);
      // Stieltjes' procedure: orthonormal polynomials on the points of the bin.
      x.resize(n), mass.resize(n), below.assign(n, 0.0), here.assign(n, 1.0);
      for (Index k = 0; k < n; ++k)
        x[k] = (u[bin[k]] - middle) / half, mass[k] = w[0][bin[k]] / total;
      std::vector<double> diagonal, off;
      shares.clear();  // of each polynomial, those of the moments of t
      double previous = 0;
      for (int degree = 0; degree < nodes; ++degree) {
        double a = 0;
        for (Index k = 0; k < n; ++k) a += mass[k] * x[k] * here[k] * here[k];
        diagonal.push_back(a);
        for (std::size_t j = 1; j <= more; ++j) {
          double share = 0;
          for (Index k = 0; k < n; ++k) share += w[j][bin[k]] * here[k];
          shares.push_back(share);
        }
        double norm = 0;
        for (Index k = 0; k < n; ++k) {
          const double above = (x[k] - a) * here[k] - previous * below[k];
          below[k] = here[k];
          here[k] = above;
          norm += mass[k] * above * above;
        }
        norm = std::sqrt(norm);
        if (degree + 1 == nodes || norm < 1e-13) break;
        off.push_back(norm);
        previous = norm;
        for (Index k = 0; k < n; ++k) here[k] /= norm;
      }
      const Index m = static_cast<Index>(diagonal.size());
      const auto [poles, vectors] = dense::eigen(Eigen::Map<Eigen::VectorXd>(diagonal.data(), m),
                                                 Eigen::Map<Eigen::VectorXd>(off.data(), m - 1));
      for (Index k = 0; k < m; ++k) {
        const auto v = vectors.col(k);
        weights[0] = total * v(0) * v(0);
        for (std::size_t i = 0; i < more; ++i) {
          double sum = 0;
          for (Index j = 0; j < m; ++j) sum += shares[j * more + i] * v(j);
          weights[i + 1] = v(0) * sum;
        }
        out.push(middle + half * poles(k), weights.data());
      }
    }
    out.pad();
    return out;
  }

 private:
  /// E u^2j of all nodes, or those of a bin.
  std::array<double, 4> even_moments(const std::vector<Index>* bin) const {
    std::array<double, 4> out{};
    const Index n = bin != nullptr ? static_cast<Index>(bin->size()) : size();
    for (Index i = 0; i < n; ++i) {
      const Index at = bin != nullptr ? (*bin)[i] : i;
      double power = w[0][at];
      for (double& x : out) x += power, power *= u[at] * u[at];
    }
    return out;
  }
  /// How many nodes of a Gauss rule a bin needs: the error falls as rho^-2n, where rho belongs to the
  /// ellipse around the bin on which the next pole lies.
  int enough(const std::vector<Index>& bin, const std::array<double, 4>& whole, double delta,
             double sine, int most) const {
    double lo = infinity, hi = -infinity;
    for (Index i : bin) lo = std::min(lo, u[i]), hi = std::max(hi, u[i]);
    const double middle = 0.5 * (lo + hi), half = std::max(0.5 * (hi - lo), 1e-300),
                 cosine = std::sqrt(std::max(0.0, 1 - sine * sine));
    double slowest = infinity;
    for (double radius = delta; radius < 8 * std::max({-lo, hi, delta}); radius *= 1.25)
      for (const double real : {0.0, cosine * radius, -cosine * radius}) {
        const double imaginary = real == 0 ? radius : sine * radius;
        const std::complex<double> z((real - middle) / half, imaginary / half);
        const std::complex<double> root = std::sqrt(z * z - 1.0);
        slowest = std::min(slowest, std::log(std::max(std::abs(z + root), std::abs(z - root))));
      }
    const std::array<double, 4> here = even_moments(&bin);
    double importance = 0;
    for (std::size_t j = 0; j < here.size(); ++j)
      if (whole[j] > 0) importance = std::max(importance, here[j] / whole[j]);
    const double digits = std::log(std::max(importance, 1e-17) * 1e16);
    return std::clamp(1 + static_cast<int>(std::ceil(digits / (2 * slowest))), 1, most);
  }
};

/// Largest difference of E[t^i u^j/D], i, j <= 2, D = 1 + c1 u + c2 u^2, over two sets of nodes,
/// relative to E|..|, of t to the root of that of 1 and t^2. One direction. even: of even functions
/// of (t, u) only.
double difference(const ResidualNodes& mine, const ResidualNodes& theirs, double c1, double c2,
                  bool even);

/// The law of the residual for all steps whose averages have poles from delta on, off the real axis
/// by an angle of this sine at least. It knows nothing else of the step: all steps of a target may
/// share it.
struct ResidualLaw {
  ResidualNodes nodes;  ///< few
  ResidualNodes check;  ///< another rule, denser
  double error = 0;     ///< at poles at the distance delta and beyond
};
/// `few`: as few nodes as can be, at some cost.
ResidualLaw residual_law(const Function& target, double h0, double noise, double delta,
                         double angle, bool folded, bool few = false);
/// Of a target of several directions, on points the denser the greater `fineness`.
ResidualNodes residual_nodes(const TargetFunction& target, double h0, double noise, double delta,
                             double angle, double fineness);

}  // namespace srfx
