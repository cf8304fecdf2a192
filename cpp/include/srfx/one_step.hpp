// The first layer of the actual one-step network: constants, the law of the residuals, and the anisotropic bulk that the step
// leaves behind (THEORY sections 9 and 10, one readout value).
//
//   sigma'(z) = h1 + h2 z + S(z), S orthogonal to 1 and z;   u = s*(t) + sqrt(noise) eps - E sigma, the residual of the step
//   rows of the bulk ~ N(0, Sigma/d), Sigma = G^2 + kap M, G = 1 + e2 H, H = X^T diag(u) X/n0, M = X^T diag(u^2) X/n0,
//   e2 = eta h2, kap = eta^2 E S^2/alpha0, iota = 1/alpha0. Omega = W Pi W^T has mean c.
//
// At s = A/B, with b = beta g and g = <1/(Omega + s)>, everything follows from three numbers (tau, om, rho) that solve a fixed
// point of averages over (t, eps). In the basis scaled by (1, sqrt b), where no root of b occurs and om = sqrt(b) w,
//
//   Gm = [[tau, -b w], [w, rho]],  B(u) = [[b kap u^2, b e2 u], [-e2 u, 0]],  Q(u) = (1 + iota B Gm)^-1,
//   det(1 + iota B Gm) = D(u) = 1 + 2 iota b e2 w u + (iota b kap tau + iota^2 b e2^2 (b w^2 + tau rho)) u^2:
//
// so every average is one of t^i u^j/D(u), i <= 2, and a pass over the nodes of u costs one reciprocal a node. Where e2 = 0
// and E z S^2 = 0 (odd sigma) two of the three unknowns drop out: section 9's scalar path.
#pragma once

#include "bulk.hpp"
#include "coefficients.hpp"
#include "scalar.hpp"

#include <Eigen/Eigenvalues>

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>
#include <vector>

namespace srfx {

// --- constants of sigma' -------------------------------------------------------------------------------------------

/// Gaussian moments of sigma and of S = sigma' - h1 - h2 z; those below 1e-12 rms(sigma') are zero.
struct StepConstants {
  double h0 = 0, variance = 0;  ///< E sigma, E sigma^2 - h0^2
  double h1 = 0, h2 = 0;
  double hc1 = 0, k3 = 0, k4 = 0;           ///< E S^2, E S^3, E S^4
  double b3 = 0, b12 = 0, q2 = 0;           ///< E z^2 S, E z S^2, E z^2 S^2
  double b4 = 0, b22 = 0, b13 = 0;          ///< E z^3 S, E (z^2 - 1) S^2, E z S^3
  double error = 0;                         ///< estimated, relative to rms(sigma')
};

namespace detail {

/// Nodes of E f(z) for this function.
inline Rule standard_rule(const Function& f, double density) {
  const GaussianRule rule(f.shape(), 1.0, density);
  if (rule.shared()) return rule.nodes();
  Rule own;
  rule.at(0, own);
  own.finish();
  return own;
}

}  // namespace detail

inline StepConstants step_constants(const Function& sigma, const Function& derivative) {
  const auto at = [&](double density) {
    StepConstants out;
    Rule rule = detail::standard_rule(sigma, density);
    std::vector<double> f(rule.size());
    sigma.evaluate(rule.x.data(), f.data(), rule.size());
    double mean = 0, second = 0, slope_second = 0;
    for (Index i = 0; i < rule.size(); ++i) mean += rule.w[i] * f[i];
    for (Index i = 0; i < rule.size(); ++i) second += rule.w[i] * (f[i] - mean) * (f[i] - mean);
    rule = detail::standard_rule(derivative, density);
    f.resize(rule.size());
    derivative.evaluate(rule.x.data(), f.data(), rule.size());
    for (Index i = 0; i < rule.size(); ++i) {
      const double z = rule.x[i], wf = rule.w[i] * f[i];
      out.h1 += wf;
      out.h2 += wf * z;
      slope_second += wf * f[i];
    }
    for (Index i = 0; i < rule.size(); ++i) {
      const double z = rule.x[i], s = f[i] - out.h1 - out.h2 * z, w = rule.w[i], ws = w * s, ws2 = ws * s;
      out.hc1 += ws2;
      out.k3 += ws2 * s;
      out.k4 += ws2 * s * s;
      out.b3 += ws * z * z;
      out.b12 += ws2 * z;
      out.q2 += ws2 * z * z;
      out.b4 += ws * z * z * z;
      out.b13 += ws2 * s * z;
    }
    out.b22 = out.q2 - out.hc1;
    out.h0 = std::abs(mean) < 1e-13 * std::sqrt(second + mean * mean) ? 0 : mean;
    out.variance = second;
    const double rms = std::sqrt(slope_second);
    double power = rms;
    const auto drop = [&](auto&... x) { ((x = std::abs(x) < 1e-12 * power ? 0 : x), ...); };
    drop(out.h1, out.h2, out.b3, out.b4);
    power = slope_second;
    out.hc1 = out.hc1 < 1e-24 * power ? 0 : out.hc1;  // S = 0: what is left is the square of rounding errors
    drop(out.b12, out.q2, out.b22);
    power = slope_second * rms;
    drop(out.k3, out.b13);
    power = slope_second * slope_second;
    drop(out.k4);
    out.error = rms;
    return out;
  };
  const StepConstants coarse = at(2);
  StepConstants out = at(4);
  const double rms = std::max(out.error, 1e-300), square = rms * rms;
  out.error = std::max({std::abs(coarse.h1 - out.h1) / rms, std::abs(coarse.h2 - out.h2) / rms, std::abs(coarse.b3 - out.b3) / rms,
                        std::abs(coarse.hc1 - out.hc1) / square, std::abs(coarse.q2 - out.q2) / square,
                        std::abs(coarse.k4 - out.k4) / (square * square)});
  return out;
}

// --- the law of the residual u, jointly with t = theta.x/sqrt d ------------------------------------------------------

/// A rule for averages of functions of (t, u).
struct ResidualRule {
  std::vector<double> t, u, w;
  Index size() const { return static_cast<Index>(u.size()); }
};

/// Panels in t, and in eps where there is noise, split until u changes over a panel by no more than `ratio` times its
/// distance from 0 or `delta`: functions of u have poles no nearer to 0 than delta.
inline ResidualRule residual_rule(const Function& target, double h0, double noise, double delta, double ratio, int order) {
  constexpr double limit = 11, limit_eps = 9.5;
  const Shape& shape = target.shape();
  const double sd = std::sqrt(noise);
  const GaussLegendre& gl = GaussLegendre::order(order);
  struct Panel {
    double lo, hi;
    int depth;
  };
  std::vector<Panel> open, next;
  std::vector<double> edges{-limit, limit};
  for (double kink : shape.kinks)
    if (std::abs(kink) < limit) edges.push_back(kink);
  std::sort(edges.begin(), edges.end());
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    const double width = edges[i + 1] - edges[i];
    if (!(width > 0)) continue;
    const int count = static_cast<int>(std::ceil(width / std::min(2.0, shape.panel)));
    for (int j = 0; j < count; ++j) open.push_back({edges[i] + width * j / count, edges[i] + width * (j + 1) / count, 0});
  }
  Rule rule;
  std::vector<double> values;
  const double floor = std::max(delta, sd);
  std::vector<double> x, y;
  while (!open.empty()) {
    x.clear(), next.clear();
    for (const Panel& p : open)
      for (int i = 0; i < order; ++i) x.push_back(0.5 * (p.lo + p.hi) + 0.5 * (p.hi - p.lo) * gl.x[i]);
    y.resize(x.size());
    target.evaluate(x.data(), y.data(), static_cast<Index>(x.size()));
    for (std::size_t k = 0; k < open.size(); ++k) {
      const Panel& p = open[k];
      const double* here = &y[k * order];
      double low = infinity, high = -infinity, least = infinity;
      for (int i = 0; i < order; ++i) {
        low = std::min(low, here[i] - h0), high = std::max(high, here[i] - h0);
        least = std::min(least, std::abs(here[i] - h0));
      }
      if (low < 0 && high > 0) least = 0;
      const double far = std::min(std::abs(p.lo), std::abs(p.hi));  // no need to follow u where there is no mass
      if (p.depth < 40 && high - low > ratio * std::max(least, floor) * (p.lo * p.hi > 0 && far > 6.5 ? 8 : 1)) {
        const double middle = 0.5 * (p.lo + p.hi);
        next.push_back({p.lo, middle, p.depth + 1}), next.push_back({middle, p.hi, p.depth + 1});
        continue;
      }
      for (int i = 0; i < order; ++i) {
        rule.push(x[k * order + i], 0.5 * (p.hi - p.lo) * gl.w[i]);
        values.push_back(here[i] - h0);
      }
    }
    std::swap(open, next);
  }
  rule.finish();
  ResidualRule out;
  if (noise == 0) {
    out.t = rule.x, out.w = rule.w, out.u = values;
    return out;
  }
  constexpr double negligible = 1e-24;
  Rule eps;
  const double pole = delta / sd;  // in units of eps
  const bool analytic = pole >= 1;
  if (analytic) {
    eps.push_trapezoid(std::min(0.5, 6.28318530717958648 * pole / 38), limit_eps);
    eps.finish();
  }
  std::vector<std::array<double, 2>> stack;
  for (Index i = 0; i < rule.size(); ++i) {
    if (rule.w[i] < negligible) continue;
    if (!analytic) {
      eps.clear(), stack.clear();
      const double centre = std::clamp(-values[i] / sd, -limit_eps, limit_eps);
      for (double lo = centre; lo < limit_eps; lo += 2) stack.push_back({lo, std::min(lo + 2, limit_eps)});
      for (double hi = centre; hi > -limit_eps; hi -= 2) stack.push_back({std::max(hi - 2, -limit_eps), hi});
      while (!stack.empty()) {
        const auto [lo, hi] = stack.back();
        stack.pop_back();
        const double a = values[i] + sd * lo, b = values[i] + sd * hi;
        const double least = a < 0 && b > 0 ? 0 : std::min(std::abs(a), std::abs(b));
        if (hi - lo > 1e-9 && b - a > ratio * std::max(least, delta)) {
          stack.push_back({lo, 0.5 * (lo + hi)}), stack.push_back({0.5 * (lo + hi), hi});
          continue;
        }
        for (int j = 0; j < order; ++j) eps.push(0.5 * (lo + hi) + 0.5 * (hi - lo) * gl.x[j], 0.5 * (hi - lo) * gl.w[j]);
      }
      eps.finish();
    }
    for (Index j = 0; j < eps.size(); ++j) {
      const double w = rule.w[i] * eps.w[j];
      if (w < negligible) continue;
      out.t.push_back(rule.x[i]);
      out.u.push_back(values[i] + sd * eps.x[j]);
      out.w.push_back(w);
    }
  }
  return out;
}

/// E u^n and E t u^n.
template <class R> struct BasicResidualMoments {
  std::array<R, 7> u{}, tu{};

  BasicResidualMoments() = default;
  explicit BasicResidualMoments(const ResidualRule& rule) {
    for (Index i = 0; i < rule.size(); ++i) {
      R power = rule.w[i];
      for (std::size_t n = 0; n < u.size(); ++n) {
        u[n] += power;
        tu[n] += power * rule.t[i];
        power *= rule.u[i];
      }
    }
  }
};
using ResidualMoments = BasicResidualMoments<double>;

/// The law of u on few nodes: w[i] are the weights of E t^i f(u). Padded to whole vectors.
struct ResidualNodes {
  std::vector<double> u;
  std::array<std::vector<double>, 3> w;

  Index size() const { return static_cast<Index>(u.size()); }
  void push(double at, double w0, double w1, double w2) {
    u.push_back(at);
    w[0].push_back(w0), w[1].push_back(w1), w[2].push_back(w2);
  }
  void pad() {
    while (size() % 8 != 0) push(0, 0, 0, 0);
  }

  ResidualNodes() = default;
  /// Every point of a rule; folded: (t, u) and (-t, -u) are one point, for averages of even functions of (t, u).
  ResidualNodes(const ResidualRule& rule, bool folded) {
    for (Index i = 0; i < rule.size(); ++i) {
      const double sign = folded && rule.u[i] < 0 ? -1 : 1, t = sign * rule.t[i], w0 = rule.w[i];
      push(sign * rule.u[i], w0, w0 * t, w0 * t * t);
    }
    pad();
  }

  /// The Gauss rules of `nodes` points of bins of |u| whose edges are powers of 2^(1/parts) from delta on. Functions analytic
  /// but for poles at |u| >= delta, off the real axis, are polynomials on each bin; E[t^i|u] enters by its projection on
  /// the orthogonal polynomials of the bin.
  ResidualNodes compressed(double delta, int parts, int nodes) const {
    std::vector<std::vector<Index>> bins;
    for (Index i = 0; i < size(); ++i) {
      if (w[0][i] == 0) continue;
      const double size_u = std::abs(u[i]);
      Index bin;
      if (size_u <= delta)
        bin = 2 * std::min<Index>(parts - 1, static_cast<Index>(parts * size_u / delta));
      else
        bin = 2 * (parts + static_cast<Index>(parts * std::log2(size_u / delta)));
      if (u[i] < 0) ++bin;
      if (bin >= static_cast<Index>(bins.size())) bins.resize(bin + 1);
      bins[bin].push_back(i);
    }
    if (parts == 1 && bins.size() > 1) {  // around 0: one bin
      bins[0].insert(bins[0].end(), bins[1].begin(), bins[1].end());
      bins[1].clear();
    }
    ResidualNodes out;
    std::vector<double> x, mass, below, here;
    for (const std::vector<Index>& bin : bins) {
      const Index n = static_cast<Index>(bin.size());
      if (n <= nodes) {
        for (Index i : bin) out.push(u[i], w[0][i], w[1][i], w[2][i]);
        continue;
      }
      double lo = infinity, hi = -infinity, total = 0;
      for (Index i : bin) lo = std::min(lo, u[i]), hi = std::max(hi, u[i]), total += w[0][i];
      const double middle = 0.5 * (lo + hi), half = std::max(0.5 * (hi - lo), 1e-300);
      // Stieltjes' procedure: orthonormal polynomials on the points of the bin.
      x.resize(n), mass.resize(n), below.assign(n, 0.0), here.assign(n, 1.0);
      for (Index k = 0; k < n; ++k) x[k] = (u[bin[k]] - middle) / half, mass[k] = w[0][bin[k]] / total;
      std::vector<double> diagonal, off, first, second;
      double previous = 0;
      for (int degree = 0; degree < nodes; ++degree) {
        double a = 0, c1 = 0, c2 = 0;
        for (Index k = 0; k < n; ++k) {
          a += mass[k] * x[k] * here[k] * here[k];
          c1 += w[1][bin[k]] * here[k];
          c2 += w[2][bin[k]] * here[k];
        }
        diagonal.push_back(a), first.push_back(c1), second.push_back(c2);
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
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver;
      const Eigen::VectorXd main = Eigen::Map<Eigen::VectorXd>(diagonal.data(), m), side = Eigen::Map<Eigen::VectorXd>(off.data(), m - 1);
      solver.computeFromTridiagonal(main, side);
      for (Index k = 0; k < m; ++k) {
        const auto v = solver.eigenvectors().col(k);
        double w1 = 0, w2 = 0;
        for (Index j = 0; j < m; ++j) w1 += first[j] * v(j), w2 += second[j] * v(j);
        out.push(middle + half * solver.eigenvalues()(k), total * v(0) * v(0), v(0) * w1, v(0) * w2);
      }
    }
    out.pad();
    return out;
  }
};

// --- the step ------------------------------------------------------------------------------------------------------

/// Everything about one step that does not depend on s or beta (THEORY section 10: Map, Row norms). R: its parameters.
template <class R> struct BasicStepModel {
  StepConstants constants;
  BasicResidualMoments<R> moments;
  R eta = 0, iota = 0;           ///< eta times the readout value; iota = 1/alpha0
  R eta_mean = 0;                ///< eta times the square of the readout value: how f0 damps the mean row
  bool stepped = true;           ///< false: eta = 0 or alpha0 = 0, the plain network
  bool scalar = true;            ///< section 9's path
  SpikeParameters spike;         ///< the values of (r, c, gamma)
  R r = 0, c = 1, gamma = 0;
  R l = 1, h1_target = 0, u2 = 1;
  R a = 1, e2 = 0, kap = 0;
  std::array<R, 4> la{}, lb{};       ///< coefficients of u^n
  bool lean = false;                 ///< L is not zero
  R c_delta = 0;

  BasicStepModel() = default;
  BasicStepModel(const StepConstants& k, const BasicResidualMoments<R>& m, double readout, R learning_rate, R inverse_alpha0,
                 bool allow_scalar)
      : constants(k), moments(m), eta(readout * learning_rate), iota(inverse_alpha0), eta_mean(readout * eta) {
    const bool without = std::isinf(real_part(iota));
    if (without) eta = 0, iota = 1;
    h1_target = m.tu[1];
    u2 = m.u[2];
    l = std::sqrt(h1_target * h1_target + u2 * iota);
    if (real_part(iota) == 0 && real_part(l) <= 1e-12 * std::sqrt(real_part(u2))) l = 0.0;  // rounding: the target has no linear part
    stepped = eta != 0.0 && real_part(l) > 0;
    if (!stepped) {  // the direction of the spike does not matter, but to what a first small step would do
      eta = eta_mean = 0;
      spike = {0, 1, without || real_part(l) == 0 ? 0 : std::clamp(real_part(h1_target / l), -1.0, 1.0)};
      return;
    }
    a = 1.0 + eta * k.h2 * m.u[1];
    e2 = eta * k.h2;
    kap = eta * eta * k.hc1 * iota;
    r = eta * k.h1 * l;
    gamma = h1_target / l;
    c = a * a + eta * eta * (k.h2 * k.h2 + k.hc1) * u2 * iota;
    spike = {real_part(r), real_part(c), std::clamp(real_part(gamma), -1.0, 1.0)};
    scalar = allow_scalar && k.h2 == 0 && k.b12 == 0;
    // la = eta b3 u psi + 2 eta^2 iota b12 u^2 chi + eta^3 iota^2 k3 u^3, lb = 2 eta b3 u chi + eta^2 iota b12 u^2,
    // chi = a + x, psi = chi^2 - a^2 = x (2 a + x), x = e2 iota u
    const R x = e2 * iota, eta2 = eta * eta;
    la[2] = 2.0 * eta * k.b3 * a * x + 2.0 * eta2 * iota * k.b12 * a;
    la[3] = eta * k.b3 * x * x + 2.0 * eta2 * iota * k.b12 * x + eta2 * eta * iota * iota * k.k3;
    lb[1] = 2.0 * eta * k.b3 * a;
    lb[2] = 2.0 * eta * k.b3 * x + eta2 * iota * k.b12;
    lean = la[2] != 0.0 || la[3] != 0.0 || lb[1] != 0.0 || lb[2] != 0.0;
    const auto& u = m.u;
    const R k2 = e2 * x * u[2], k3 = e2 * x * x * u[3], k4 = e2 * x * x * x * u[4];
    const R u_chi_psi = 2.0 * a * a * x * u[2] + 3.0 * a * x * x * u[3] + x * x * x * u[4];
    const R u2_psi = 2.0 * a * x * u[3] + x * x * u[4];
    const R u2_chi2 = a * a * u[2] + 2.0 * a * x * u[3] + x * x * u[4];
    const R u3_chi = a * u[3] + x * u[4];
    const R tilt = 2.0 * eta * k.b3 * (a * m.tu[1] + x * m.tu[2]) + eta2 * iota * k.b12 * m.tu[2];
    c_delta = 2.0 * (k4 + 4.0 * a * k3 + k2 * k2 + 4.0 * a * a * k2) + 4.0 * eta * k.b4 * u_chi_psi + 2.0 * eta2 * k.b22 * u2_psi * iota +
              4.0 * eta2 * iota * (k.q2 * u2_chi2 + k.hc1 * k2 * u[2]) + 4.0 * eta2 * eta * iota * iota * k.b13 * u3_chi +
              eta2 * eta2 * iota * iota * iota * u[4] * (k.k4 - k.hc1 * k.hc1) +
              2.0 * eta2 * eta2 * k.hc1 * k.hc1 * u[2] * u[2] * iota * iota + tilt * tilt;
  }

  /// Least distance from 0 of a pole of Q(u), at any s.
  double pole() const {
    const double x = real_part(e2 * iota), closest = real_part(kap * iota) + x * x;
    return closest > 0 ? 1 / std::sqrt(closest) : infinity;
  }
  /// Sine of the angle between a pole and the real axis, about, at worst.
  double angle() const {
    const double square = constants.hc1, with_slope = constants.hc1 + constants.h2 * constants.h2;
    return scalar || !(with_slope > 0) ? 1.0 : std::sqrt(square / with_slope);
  }
};
using StepModel = BasicStepModel<double>;

/// A value and its derivative along one line: here, along s.
template <class T> struct Along {
  T v, d;
  Along() : v(0), d(0) {}
  Along(T value) : v(value), d(0) {}
  Along(T value, T slope) : v(value), d(slope) {}
  template <class S, class = std::enable_if_t<std::is_arithmetic_v<S> && !std::is_same_v<S, T>>> Along(S value) : v(value), d(0) {}
  friend Along operator+(const Along& a, const Along& b) { return {a.v + b.v, a.d + b.d}; }
  friend Along operator-(const Along& a, const Along& b) { return {a.v - b.v, a.d - b.d}; }
  friend Along operator-(const Along& a) { return {-a.v, -a.d}; }
  friend Along operator*(const Along& a, const Along& b) { return {a.v * b.v, a.d * b.v + a.v * b.d}; }
  friend Along operator/(const Along& a, const Along& b) {
    const T q = a.v / b.v;
    return {q, (a.d - q * b.d) / b.v};
  }
  Along& operator+=(const Along& b) { return *this = *this + b; }
};

/// B, or where mu1 = 0 makes it vanish (even sigma without a spike, say) so small a number that B D no longer matters.
template <class T> T at_least(T b, T a) { return magnitude(b) > 1e-30 * magnitude(a) ? b : T(1e-30) * a; }

/// What the linear part wants to know of a bulk at s = A/B (THEORY 9 d, in the unit-bulk convention: rows and columns
/// of delta times sqrt(c)): K_ab = u_a^T (Omega + s)^-1 u_b for u = (W vhat, W zhat, delta), and the mean's g_m.
template <class T> struct Overlaps {
  Along<T> k[3][3];
  Along<T> rest;        ///< 1 - K_zz
  Along<T> mean;        ///< g_m: K_mm = beta d g_m
  Along<T> cross[3];    ///< K of the mean with v, z, delta: of given weights only, zero on average
  bool crossed = false;
  double defect = 0;    ///< relative, of the bulk's own equations
  T s, c;               ///< the derivatives are along s; dA = B/c ds
};

namespace detail {

/// Vectors where the scalar allows it.
template <class T> struct Packed {
  using Type = T;
  using Real = T;
  static constexpr Index size = 1;
  template <class X> static T load(const X* x) { return T(*x); }
  static T total(const T& x) { return x; }
};
template <> struct Packed<double> {
  using Type = simd::Lanes<double, 8>;
  using Real = Type;
  static constexpr Index size = 8;
  static Type load(const double* x) { return Type::load(x); }
  static double total(const Type& x) {
    double sum = 0;
    for (int i = 0; i < 8; ++i) sum += x[i];
    return sum;
  }
};

/// Complex numbers, eight at a time, and what they do with real ones.
struct ComplexLanes {
  using V = simd::Lanes<double, 8>;
  V re, im;
  ComplexLanes() = default;
  ComplexLanes(V real, V imaginary) : re(real), im(imaginary) {}
  explicit ComplexLanes(double x) : re(x), im(0.0) {}
  explicit ComplexLanes(const std::complex<double>& x) : re(x.real()), im(x.imag()) {}
  friend ComplexLanes operator+(const ComplexLanes& a, const ComplexLanes& b) { return {a.re + b.re, a.im + b.im}; }
  friend ComplexLanes operator-(const ComplexLanes& a, const ComplexLanes& b) { return {a.re - b.re, a.im - b.im}; }
  friend ComplexLanes operator-(const ComplexLanes& a) { return {-a.re, -a.im}; }
  friend ComplexLanes operator*(const ComplexLanes& a, const ComplexLanes& b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  }
  friend ComplexLanes operator/(const ComplexLanes& a, const ComplexLanes& b) {
    const V scale = V(1.0) / (b.re * b.re + b.im * b.im);
    return {(a.re * b.re + a.im * b.im) * scale, (a.im * b.re - a.re * b.im) * scale};
  }
  friend ComplexLanes operator+(const V& a, const ComplexLanes& b) { return {a + b.re, b.im}; }
  friend ComplexLanes operator*(const V& a, const ComplexLanes& b) { return {a * b.re, a * b.im}; }
  friend ComplexLanes operator*(const ComplexLanes& a, const V& b) { return b * a; }
  friend ComplexLanes operator/(const V& a, const ComplexLanes& b) {
    const V scale = a / (b.re * b.re + b.im * b.im);
    return {b.re * scale, -b.im * scale};
  }
  ComplexLanes& operator+=(const ComplexLanes& b) { return *this = *this + b; }
  template <class X> ComplexLanes& operator*=(const X& b) { return *this = *this * b; }
};
template <> struct Packed<std::complex<double>> {
  using Type = ComplexLanes;
  using Real = ComplexLanes::V;
  static constexpr Index size = 8;
  static Real load(const double* x) { return Real::load(x); }
  static Type load(const std::complex<double>* x) {
    alignas(64) double re[size], im[size];
    for (Index i = 0; i < size; ++i) re[i] = x[i].real(), im[i] = x[i].imag();
    return {ComplexLanes::V::load(re), ComplexLanes::V::load(im)};
  }
  static std::complex<double> total(const Type& x) { return {Packed<double>::total(x.re), Packed<double>::total(x.im)}; }
};

template <class T> using Matrix2 = std::array<std::array<T, 2>, 2>;
template <class T> Matrix2<T> operator*(const Matrix2<T>& a, const Matrix2<T>& b) {
  Matrix2<T> out;
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) out[i][j] = a[i][0] * b[0][j] + a[i][1] * b[1][j];
  return out;
}
template <class T> Matrix2<T> operator+(const Matrix2<T>& a, const Matrix2<T>& b) {
  return {{{a[0][0] + b[0][0], a[0][1] + b[0][1]}, {a[1][0] + b[1][0], a[1][1] + b[1][1]}}};
}
template <class T> Matrix2<T> scaled(const T& x, const Matrix2<T>& a) {
  return {{{x * a[0][0], x * a[0][1]}, {x * a[1][0], x * a[1][1]}}};
}
template <class T> Matrix2<T> inverse(const Matrix2<T>& a) {
  const T det = a[0][0] * a[1][1] - a[0][1] * a[1][0];
  return {{{a[1][1] / det, -a[0][1] / det}, {-a[1][0] / det, a[0][0] / det}}};
}

}  // namespace detail

namespace detail {

/// Whether a number that is positive for s > 0 may be what it claims; far from the real axis anything may.
inline bool on_its_side(double x, double) { return x > 1e-290; }
inline bool on_its_side(const std::complex<double>& x, const std::complex<double>& s) {
  return s.real() > 0 && std::abs(s.imag()) < 1e-3 * s.real() ? x.real() > 1e-290 : std::norm(x) > 0;
}
/// g(s) = <1/(Omega + s)> has Im g Im s < 0.
inline bool continues(double, double) { return true; }
inline bool continues(const std::complex<double>& g, const std::complex<double>& s) {
  return (s.real() > 0 && std::abs(s.imag()) < 1e-3 * s.real()) || g.imag() * s.imag() <= 0;
}

}  // namespace detail

/// The bulk of one step as a policy (bulk.hpp) with a memory: each solve starts where the last one ended. One object a point.
/// T: of s and beta; R: of the step's parameters, complex where they carry an infinitesimal imaginary part (step_gradient.hpp),
/// then in the nodes too.
template <class T, class R = double, class Nodes = ResidualNodes> class OneStepBulk {
 public:
  OneStepBulk(const BasicStepModel<R>& step, const Nodes& nodes) : step_(&step), nodes_(&nodes) {}

  /// Starts where another solve has ended.
  template <class Bulk> void start_from(const Bulk& other) {
    if (other.failed()) return;
    state_ = {T(other.b()), T(other.tau()), T(other.w()), T(other.rho())};
    s_ = T(std::numeric_limits<double>::quiet_NaN());
    warm_ = true;
  }

  const SpikeParameters& spike() const { return step_->spike; }
  bool failed() const { return failed_; }

  /// Averages over D = Omega/c, S = A + B D (bulk.hpp), with s = c A/B. In terms of nu = (1 - tau)/b and of mu = -dtau/db,
  /// omega = -dnu/db, all positive: g = 1/(s + nu), dg/ds = -g/(s + mu), and nothing cancels.
  SpectralAverages<T> averages(T a, T b, T beta) const {
    b = at_least(b, a);
    const T c(step_->c), s = c * a / b;
    solve(s, beta);
    const T g = g_, inverse_b = T(1) / b, inverse = T(1) / (s + mu_);
    SpectralAverages<T> out;
    out.y1 = g * nu_ * inverse_b;
    out.y2 = c * g * inverse_b;
    out.t22 = c * c * g * inverse * inverse_b * inverse_b;
    out.t12 = c * g * mu_ * inverse * inverse_b * inverse_b;
    out.t11 = g * g * (nu_ * nu_ + s * s * state_.b * omega_ * inverse) * inverse_b * inverse_b;
    out.t11c = out.t11 - beta * out.y1 * out.y1;
    return out;
  }

  Overlaps<T> overlaps(T a, T b, T beta) const {
    const T c(step_->c), s = c * a / b;
    solve(s, beta);
    Overlaps<T> out = step_->stepped ? (step_->scalar ? scalar_overlaps() : matrix_overlaps()) : plain_overlaps();
    const T root(std::sqrt(step_->c));
    for (int i = 0; i < 2; ++i) out.k[i][2] = out.k[2][i] = out.k[i][2] * Along<T>(root);
    out.k[2][2] = out.k[2][2] * Along<T>(c);
    out.s = s;
    out.c = c;
    out.defect = defect_;
    return out;
  }

  /// g and g' = dg/ds at s.
  Along<T> resolvent(T s, T beta) const {
    solve(s, beta);
    return {g_, -g_ / (s + mu_)};
  }
  T tau() const { return state_.tau; }
  T w() const { return state_.w; }
  T rho() const { return state_.rho; }
  T b() const { return state_.b; }

  /// How far averages over other nodes differ at the state at hand, relative to those of absolute values.
  double compare(const ResidualNodes& other) const {
    const double b = real_part(state_.b), x = step_->e2 * step_->iota, w = real_part(state_.w), tau = real_part(state_.tau);
    const double c1 = 2 * x * b * w;
    const double c2 = step_->iota * b * (step_->kap * tau + step_->e2 * x * (b * w * w + tau * real_part(state_.rho)));
    const auto sums = [&](const ResidualNodes& nodes, bool size) {
      std::array<double, 9> out{};
      for (Index i = 0; i < nodes.size(); ++i) {
        const double u = nodes.u[i], q = 1 / (1 + u * (c1 + c2 * u));
        for (std::size_t j = 0; j < 9; ++j) {
          const double power = j % 3 == 0 ? 1 : j % 3 == 1 ? u : u * u;
          const double term = (j < 3 ? nodes.w[0] : j < 6 ? nodes.w[1] : nodes.w[2])[i] * power * q;
          out[j] += size ? std::abs(term) : term;
        }
      }
      return out;
    };
    const auto mine = sums(*nodes_, false), scale = sums(other, true), theirs = sums(other, false);
    double worst = 0;
    for (std::size_t j = 0; j < 9; ++j) {
      // With only even functions of (t, u) in use, E q, E u^2 q, E t u q, E t^2 q and E t^2 u^2 q are.
      if (step_->scalar && (j == 1 || j == 3 || j == 5 || j == 7)) continue;
      if (scale[j] > 0) worst = std::max(worst, std::abs(mine[j] - theirs[j]) / scale[j]);
    }
    return worst;
  }

 private:
  struct State {
    T b, tau, w, rho;
  };
  /// The map (tau, w, rho) -> the right-hand sides, nu, and their derivatives by (tau, w, rho, b).
  struct Evaluation {
    T map[3], nu, dmap[3][4], dnu[4];
  };
  using P = detail::Packed<T>;
  using V = typename P::Type;
  using Real = typename P::Real;

  Evaluation evaluate(const State& x) const { return step_->scalar ? evaluate_scalar(x) : evaluate_matrix(x); }

  Evaluation evaluate_scalar(const State& x) const {
    const T kap(step_->kap), iota(step_->iota), e = x.b * kap * x.tau * iota;
    const V ve(e);
    const Real unit(1.0);
    V j2(0.0), i4(0.0);
    const auto* u = nodes_->u.data();
    const double* w = nodes_->w[0].data();
    if (step_->kap != R(0))
      for (Index i = 0; i < nodes_->size(); i += P::size) {
        const auto at = P::load(u + i), square = at * at;
        const V q = unit / (unit + ve * square), wq = P::load(w + i) * square * q;
        j2 += wq;
        i4 += wq * square * q;
      }
    const T j = P::total(j2), dj = -P::total(i4);  // by e
    Evaluation out{};
    const T y = T(1) + kap * j, f = T(1) / (T(1) + x.b * y);
    out.map[0] = f;
    out.nu = f * y;
    const T de[2] = {x.b * kap * iota, kap * x.tau * iota};  // by tau, b
    for (int k = 0; k < 2; ++k) {
      const int column = 3 * k;
      const T dy = kap * dj * de[k], df = -f * f * (x.b * dy + (k == 1 ? y : T(0)));
      out.dmap[0][column] = df;
      out.dnu[column] = df * y + f * dy;
    }
    return out;
  }

  Evaluation evaluate_matrix(const State& x) const {
    const T kap(step_->kap), iota(step_->iota), e2(step_->e2), x2 = e2 * e2 * iota;  // x2: e2^2/alpha0
    const T c1 = T(2) * x.b * e2 * x.w * iota, det = x.b * x.w * x.w + x.tau * x.rho;
    const T c2 = iota * x.b * (kap * x.tau + x2 * det);
    const V v1(c1), v2(c2);
    const Real unit(1.0);
    V s1(0.0), s2(0.0), s22(0.0), s23(0.0), s24(0.0);
    const auto* u = nodes_->u.data();
    const double* w = nodes_->w[0].data();
    for (Index i = 0; i < nodes_->size(); i += P::size) {
      const auto at = P::load(u + i);
      const V q = unit / (unit + at * (v1 + v2 * at)), uq = at * q, wuq = P::load(w + i) * uq;
      s1 += wuq;
      s2 += wuq * at;
      const V squared = wuq * uq;
      s22 += squared;
      s23 += squared * at;
      s24 += squared * at * at;
    }
    const T j1 = P::total(s1), j2 = P::total(s2), i2 = P::total(s22), i3 = P::total(s23), i4 = P::total(s24);
    const T k = kap + x2 * x.rho;
    const T a1 = T(1) + x.b * k * j2, a2 = T(1) + e2 * j1 + x.b * x2 * x.w * j2, a3 = T(1) + x.b * x2 * x.tau * j2;
    const T d = T(1) / (a1 * a3 + x.b * a2 * a2), inner = a3 * k * j2 + a2 * a2;
    Evaluation out;
    out.map[0] = d * a3, out.map[1] = d * a2, out.map[2] = d * a1;
    out.nu = d * inner;
    const T dc1[4] = {T(0), T(2) * x.b * e2 * iota, T(0), T(2) * e2 * x.w * iota};
    const T dc2[4] = {iota * x.b * (kap + x2 * x.rho), iota * x.b * x2 * T(2) * x.b * x.w, iota * x.b * x2 * x.tau,
                      iota * (kap * x.tau + x2 * (det + x.b * x.w * x.w))};
    for (int q = 0; q < 4; ++q) {
      const T one(1), dtau = q == 0 ? one : T(0), dw = q == 1 ? one : T(0), drho = q == 2 ? one : T(0), db = q == 3 ? one : T(0);
      const T dj1 = -(i2 * dc1[q] + i3 * dc2[q]), dj2 = -(i3 * dc1[q] + i4 * dc2[q]);
      const T dk = x2 * drho, da1 = db * k * j2 + x.b * (dk * j2 + k * dj2);
      const T da2 = e2 * dj1 + x2 * (db * x.w * j2 + x.b * (dw * j2 + x.w * dj2));
      const T da3 = x2 * (db * x.tau * j2 + x.b * (dtau * j2 + x.tau * dj2));
      const T dd = -d * d * (a3 * da1 + a1 * da3 + T(2) * x.b * a2 * da2 + db * a2 * a2);
      out.dmap[0][q] = dd * a3 + d * da3;
      out.dmap[1][q] = dd * a2 + d * da2;
      out.dmap[2][q] = dd * a1 + d * da1;
      out.dnu[q] = dd * inner + d * (da3 * k * j2 + a3 * (dk * j2 + k * dj2) + T(2) * a2 * da2);
    }
    return out;
  }

  /// (1 - dmap/dx)^-1 applied to the defect map - x and to dmap/db.
  void correct(const Evaluation& f, const State& x, T (&defect)[3], T (&along)[3]) const {
    if (step_->scalar) {
      const T inverse = T(1) / (T(1) - f.dmap[0][0]);
      defect[0] = inverse * (f.map[0] - x.tau);
      along[0] = inverse * f.dmap[0][3];
      defect[1] = defect[2] = along[1] = along[2] = T(0);
      return;
    }
    T m[3][3];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) m[i][j] = (i == j ? T(1) : T(0)) - f.dmap[i][j];
    T c[3][3];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        const int i1 = (j + 1) % 3, i2 = (j + 2) % 3, j1 = (i + 1) % 3, j2 = (i + 2) % 3;
        c[i][j] = m[i1][j1] * m[i2][j2] - m[i1][j2] * m[i2][j1];
      }
    const T inverse = T(1) / (m[0][0] * c[0][0] + m[0][1] * c[1][0] + m[0][2] * c[2][0]);
    const T r[3] = {f.map[0] - x.tau, f.map[1] - x.w, f.map[2] - x.rho};
    for (int i = 0; i < 3; ++i) {
      defect[i] = along[i] = T(0);
      for (int j = 0; j < 3; ++j) {
        defect[i] += inverse * c[i][j] * r[j];
        along[i] += inverse * c[i][j] * f.dmap[j][3];
      }
    }
  }

  /// Newton's method on b (s + nu) = beta and the fixed point together, from the state at hand.
  bool iterate(T s, T beta, State x, int limit) const {
    double previous = 1e300;
    bool settled = std::is_same_v<R, double>;  // infinitesimal parts lag one step behind
    for (int iteration = 0; iteration < limit; ++iteration) {
      const Evaluation f = evaluate(x);
      T defect[3], along[3];
      correct(f, x, defect, along);
      const T slope_nu = f.dnu[3] + f.dnu[0] * along[0] + f.dnu[1] * along[1] + f.dnu[2] * along[2];
      const T shift_nu = f.dnu[0] * defect[0] + f.dnu[1] * defect[1] + f.dnu[2] * defect[2];
      const T slope = s + f.nu + x.b * slope_nu;
      T db = (beta - x.b * (s + f.nu + shift_nu)) / slope;
      if (!(std::isfinite(magnitude(db)) && std::isfinite(magnitude(defect[0])))) return false;
      if (real_part(db / x.b) <= -0.9) db = T(-0.9) * x.b;
      // tau and rho fall about like 1/b: what falls is extrapolated as its reciprocal, and stays positive. w/tau moves little.
      const auto moved = [](const T& at, const T& by) { return real_part(by / at) < 0 ? at / (T(1) - by / at) : at + by; };
      State next;
      next.b = x.b + db;
      next.tau = moved(x.tau, defect[0] + along[0] * db);
      const T y = x.w / x.tau;  // not used by the scalar path
      next.w = (y + (defect[1] + along[1] * db - y * (defect[0] + along[0] * db)) / x.tau) * next.tau;
      next.rho = moved(x.rho, defect[2] + along[2] * db);
      if (!detail::on_its_side(next.b, s) || !detail::on_its_side(next.tau, s)) return false;
      double step = magnitude(next.b - x.b) / magnitude(next.b) + magnitude(next.tau - x.tau) / magnitude(next.tau);
      if (!step_->scalar)
        step += magnitude(next.rho - x.rho) / magnitude(next.rho) + magnitude(next.w - x.w) / (magnitude(next.w) + magnitude(next.rho));
      x = next;
      if (step < 1e-13 || (step < 1e-10 && step > 0.5 * previous)) {
        if (!settled) {
          settled = true;
          continue;
        }
        if (!detail::continues(x.b, s)) return false;
        state_ = x;
        defect_ = step;
        nu_ = f.nu + shift_nu + slope_nu * db;
        g_ = T(1) / (s + nu_);
        mu_ = -along[0], omega_ = -slope_nu;
        for (int i = 0; i < 3; ++i) slope_[i] = along[i];
        return true;
      }
      previous = step;
    }
    return false;
  }

  void solve(T s, T beta) const {
    if (warm_ && s == s_ && beta == beta_) return;
    s_ = s, beta_ = beta;
    if (!step_->stepped) {  // Sigma = 1
      State x{state_.b, T(0), T(0), T(0)};
      detail::resolvent_root(s, T(1), beta, g_, x.rho);
      x.b = beta * g_;
      nu_ = T(1) / (T(1) + x.b);
      x.tau = x.w = x.rho = nu_;
      mu_ = omega_ = nu_ * nu_;
      state_ = x;
      slope_[0] = slope_[1] = slope_[2] = -mu_;
      warm_ = true;
      return;
    }
    if (warm_ && iterate(s, beta, state_, 20)) return;
    // From the left of the root: nu <= trace Sigma/d = c.
    const T c(step_->spike.c);
    State x;
    x.b = beta / (s + c);
    x.tau = x.w = x.rho = T(1) / (T(1) + x.b);
    for (int plain = 0; plain < 3; ++plain) relax(x);
    warm_ = iterate(s, beta, x, 60);
    if (!warm_) warm_ = approach(s, beta);
    if (!warm_) {
      failed_ = true;
      const T nan(std::numeric_limits<double>::quiet_NaN());
      g_ = nu_ = mu_ = omega_ = nan;
    }
  }
  /// From a large s down to this one, in steps as long as Newton's method follows.
  bool approach(T s, T beta) const {
    const double c = step_->spike.c;
    double far = 100 * std::max(c, magnitude(s)) / magnitude(s), factor = 8;  // at s far
    State x;
    for (int attempt = 0; attempt < 12; ++attempt, far *= 10) {
      x.b = beta / (T(far) * s + T(c));
      x.tau = x.w = x.rho = T(1) / (T(1) + x.b);
      for (int plain = 0; plain < 30; ++plain) relax(x);
      if (iterate(T(far) * s, beta, x, 60)) break;
      if (attempt == 11) return false;
    }
    for (int attempt = 0; attempt < 400 && factor > 1.001; ++attempt) {
      const double next = std::max(far / factor, 1.0);
      x = state_;
      if (!iterate(T(next) * s, beta, x, 30)) {
        factor = std::sqrt(factor);
        continue;
      }
      if (next == 1) return true;
      far = next;
      factor = std::min(factor * 1.5, 64.0);
    }
    return false;
  }
  void relax(State& x) const {
    const Evaluation f = evaluate(x);
    x.tau = f.map[0], x.w = f.map[1], x.rho = f.map[2];
  }

  // --- overlaps ---

  using S = Along<T>;
  S slope_of(T value, T by_b) const { return {value, -by_b * state_.b / (s_ + mu_)}; }  // db/ds = -b/(s + mu)

  /// E[t^i u^j/D(u)] and its derivative along s, D = 1 + c1 u + c2 u^2; for j up to `top` where i = 0.
  struct Sums {
    S a[3][9];
  };
  template <int top0, int top1> void accumulate(const S& c1, const S& c2, Sums& out) const {
    V value0[top0 + 1], slope0[top0 + 1], value1[top1 + 1], slope1[top1 + 1], value2[3], slope2[3];
    for (int j = 0; j <= top0; ++j) value0[j] = slope0[j] = V(0.0);
    for (int j = 0; j <= top1; ++j) value1[j] = slope1[j] = V(0.0);
    for (int j = 0; j <= 2; ++j) value2[j] = slope2[j] = V(0.0);
    const V v1(c1.v), v2(c2.v), d1(c1.d), d2(c2.d);
    const Real unit(1.0);
    const auto* u = nodes_->u.data();
    for (Index i = 0; i < nodes_->size(); i += P::size) {
      const auto at = P::load(u + i);
      const V q = unit / (unit + at * (v1 + v2 * at)), dq = -(at * (d1 + d2 * at)) * q * q;
      const auto w0 = P::load(&nodes_->w[0][i]), w1 = P::load(&nodes_->w[1][i]), w2 = P::load(&nodes_->w[2][i]);
      V p = w0 * q, dp = w0 * dq;
      for (int j = 0; j <= top0; ++j, p *= at, dp *= at) value0[j] += p, slope0[j] += dp;
      p = w1 * q, dp = w1 * dq;
      for (int j = 0; j <= top1; ++j, p *= at, dp *= at) value1[j] += p, slope1[j] += dp;
      p = w2 * q, dp = w2 * dq;
      for (int j = 0; j <= 2; ++j, p *= at, dp *= at) value2[j] += p, slope2[j] += dp;
    }
    for (int j = 0; j <= top0; ++j) out.a[0][j] = {P::total(value0[j]), P::total(slope0[j])};
    for (int j = 0; j <= top1; ++j) out.a[1][j] = {P::total(value1[j]), P::total(slope1[j])};
    for (int j = 0; j <= 2; ++j) out.a[2][j] = {P::total(value2[j]), P::total(slope2[j])};
  }

  /// g_m = 1/(1/g - tau (1 - om_m)), 1/g = s + nu, om_m from E[Q_11].
  S mean_resolvent(const S& q11) const {
    const T h(step_->eta_mean * step_->constants.h1 * step_->constants.h1);
    const S damped = S(1) - S(h) * q11;
    const S om = damped * damped + S(T(step_->eta_mean * step_->constants.variance * step_->iota) * h) * q11;
    const S tau = slope_of(state_.tau, slope_[0]), nu = slope_of(nu_, -omega_);
    return S(1) / (S(s_, T(1)) + nu - tau * (S(1) - om));
  }

  /// K from the overlaps P of the step's own vectors: v, z, L (THEORY 9 d).
  Overlaps<T> assemble(const S& vv, const S& vz, const S& zz, const S& lv, const S& lz, const S& ll) const {
    const S b = slope_of(state_.b, T(1));
    Overlaps<T> out;
    out.k[0][0] = S(1) / vv - S(1);
    out.k[0][1] = out.k[1][0] = -vz / vv;
    out.rest = zz - vz * vz / vv;
    out.k[1][1] = S(1) - out.rest;
    out.k[0][2] = out.k[2][0] = b * lv / vv;
    out.k[1][2] = out.k[2][1] = b * (lz - lv * vz / vv);
    out.k[2][2] = b * S(T(step_->c_delta)) - b * b * (ll - lv * lv / vv);
    return out;
  }

  Overlaps<T> plain_overlaps() const {
    const S b = slope_of(state_.b, T(1));
    Overlaps<T> out;
    out.k[0][0] = b;
    out.rest = S(1) / (S(1) + b);
    out.k[1][1] = b * out.rest;
    out.mean = {g_, -g_ / (s_ + mu_)};
    return out;
  }

  Overlaps<T> scalar_overlaps() const {
    const BasicStepModel<R>& m = *step_;
    const S b = slope_of(state_.b, T(1)), tau = slope_of(state_.tau, slope_[0]);
    Sums q;
    accumulate<6, 4>(S(0), b * tau * S(T(m.kap * m.iota)), q);  // only even functions of (t, u) are asked for
    const S tt = S(1) / (S(1) + b * (S(1) + S(T(m.kap)) * q.a[2][2]));
    const S d1 = q.a[1][1], d3 = q.a[1][3];
    const R root = std::sqrt(m.iota), root_u2 = std::sqrt(m.u2);
    const S nv = d1 * S(T(1.0 / m.l));
    const S nz = (S(T(m.u2)) + S(T(m.h1_target * m.kap)) * b * tau * d3) * S(T(root / (m.l * root_u2)));
    const R fv = root / m.l, fz = -m.gamma / root_u2;  // times u, and sqrt(iota) included
    const S second = tau * q.a[0][2], fourth = tau * q.a[0][4], sixth = tau * q.a[0][6];
    const R l1 = m.lb[1], l3 = m.la[3];  // L = l1 v_1 + l3 v_3
    const S nl = S(T(l1)) * d1 + S(T(l3)) * d3;
    const S lu = S(T(root)) * (S(T(l1)) * second + S(T(l3)) * fourth);  // tau E[f_L u ..], to be multiplied by f
    const S vv = S(T(fv * fv)) * second + nv * tt * nv;
    const S vz = S(T(fv * fz)) * second + nv * tt * nz;
    const S zz = S(T(fz * fz)) * second + nz * tt * nz;
    const S lv = S(T(fv)) * lu + nl * tt * nv;
    const S lz = S(T(fz)) * lu + nl * tt * nz;
    const S ll = S(T(m.iota)) * (S(T(l1 * l1)) * second + S(T(2.0 * l1 * l3)) * fourth + S(T(l3 * l3)) * sixth) + nl * tt * nl;
    Overlaps<T> out = assemble(vv, vz, zz, lv, lz, ll);
    out.mean = mean_resolvent(q.a[0][0]);
    return out;
  }

  Overlaps<T> matrix_overlaps() const {
    using M = detail::Matrix2<S>;
    using detail::operator*;
    using detail::operator+;
    const BasicStepModel<R>& m = *step_;
    const S b = slope_of(state_.b, T(1)), tau = slope_of(state_.tau, slope_[0]), w = slope_of(state_.w, slope_[1]),
            rho = slope_of(state_.rho, slope_[2]);
    const S iota(T(m.iota)), kap(T(m.kap)), e2(T(m.e2));
    const S c1 = S(2) * iota * b * e2 * w, c2 = iota * b * (kap * tau + iota * e2 * e2 * (b * w * w + tau * rho));
    Sums sums;
    m.lean ? accumulate<8, 5>(c1, c2, sums) : accumulate<4, 3>(c1, c2, sums);
    const M gm{{{tau, -b * w}, {w, rho}}};
    /// f(u) t^i given by coefficients of u^n, n <= 6: E[f t^i u^j/D].
    using Polynomial = std::array<R, 7>;
    const auto average = [&](const Polynomial& f, int i, int j) {
      S out(0);
      for (int n = 0; n < 7; ++n)
        if (f[n] != R(0)) out += S(T(f[n])) * sums.a[i][n + j];
      return out;
    };
    const auto of_q = [&](const Polynomial& f, int i) -> M {
      const S a0 = average(f, i, 0), a1 = average(f, i, 1), a2 = average(f, i, 2);
      return {{{a0 + iota * b * e2 * w * a1, iota * b * (kap * b * w * a2 - e2 * rho * a1)},
               {iota * e2 * tau * a1, a0 + iota * b * (kap * tau * a2 + e2 * w * a1)}}};
    };
    const auto of_qt = [&](const Polynomial& f, int i) -> M {
      const S a0 = average(f, i, 0), a1 = average(f, i, 1), a2 = average(f, i, 2);
      return {{{a0 + iota * b * e2 * w * a1, -iota * b * e2 * tau * a1},
               {iota * (rho * e2 * a1 - w * kap * b * a2), a0 + iota * b * (kap * tau * a2 + e2 * w * a1)}}};
    };
    const auto of_qb = [&](const Polynomial& f, int i) -> M {
      const S a1 = average(f, i, 1), a2 = average(f, i, 2), cross = e2 * a1 + iota * b * e2 * e2 * w * a2;
      return {{{b * (kap + iota * e2 * e2 * rho) * a2, b * cross}, {-cross, iota * b * e2 * e2 * tau * a2}}};
    };
    const Polynomial one{1, 0, 0, 0, 0, 0, 0}, line{0, 1, 0, 0, 0, 0, 0};
    const M tt = detail::inverse(M{{{S(1), b}, {S(-1), S(1)}}} + of_qb(one, 2));
    /// A vector x of the step: sqrt(iota) f_x and the matrices that stand for c_x + E[f_x t Q], c_x + E[f_x t Qt].
    struct Vector {
      Polynomial f;
      M n, nt;
    };
    const R root = std::sqrt(m.iota), root_u2 = std::sqrt(m.u2);
    Vector x[4];  // v, z, la, lb
    x[0].f = {0, root / m.l, 0, 0, 0, 0, 0};
    x[0].n = detail::scaled(S(T(1.0 / m.l)), of_q(line, 1));
    x[0].nt = detail::scaled(S(T(1.0 / m.l)), of_qt(line, 1));
    x[1].f = {0, -m.gamma / root_u2, 0, 0, 0, 0, 0};
    const M tqb = detail::scaled(S(T(m.h1_target)), of_qb(line, 1)), u2{{{S(T(m.u2)), S(0)}, {S(0), S(T(m.u2))}}};
    const S shrink(T(root / (m.l * root_u2)));
    x[1].n = detail::scaled(shrink, u2 + tqb * gm);
    x[1].nt = detail::scaled(shrink, u2 + gm * tqb);
    const int count = m.lean ? 4 : 2;
    for (int i = 2; i < count; ++i) {
      const std::array<R, 4>& f = i == 2 ? m.la : m.lb;
      const Polynomial full{f[0], f[1], f[2], f[3], 0, 0, 0};
      x[i].n = of_q(full, 1), x[i].nt = of_qt(full, 1);
      for (int n = 0; n < 7; ++n) x[i].f[n] = n < 4 ? root * f[n] : R(0);
    }
    const auto p = [&](int i, int j) -> M {
      Polynomial product{};
      for (int n = 0; n < 4; ++n)
        for (int k = 0; k < 4; ++k)
          if (n + k < 7) product[n + k] += x[i].f[n] * x[j].f[k];
      return gm * of_q(product, 0) + x[i].nt * tt * x[j].n;
    };
    const S vv = p(0, 0)[0][0], vz = p(0, 1)[0][0], zz = p(1, 1)[0][0];
    S lv(0), lz(0), ll(0);
    if (m.lean) {
      const auto with = [&](int i) { return p(i, 2)[0][0] - p(i, 3)[0][1] / b; };
      lv = with(0), lz = with(1);
      const BasicResidualMoments<R>& e = m.moments;
      const R lb1 = m.lb[1], lb2 = m.lb[2], tilt = lb1 * e.tu[1] + lb2 * e.tu[2];
      const R square = m.iota * (lb1 * lb1 * e.u[2] + 2.0 * lb1 * lb2 * e.u[3] + lb2 * lb2 * e.u[4]) + tilt * tilt;
      ll = p(2, 2)[0][0] - S(2) * p(2, 3)[0][1] / b + (S(T(square)) - p(3, 3)[1][1]) / b;
    }
    Overlaps<T> out = assemble(vv, vz, zz, lv, lz, ll);
    out.mean = mean_resolvent(sums.a[0][0] + iota * b * e2 * w * sums.a[0][1]);
    return out;
  }

  const BasicStepModel<R>* step_;
  const Nodes* nodes_;
  mutable State state_{};
  mutable T s_{}, beta_{}, g_{}, nu_{}, mu_{}, omega_{}, slope_[3]{};
  mutable double defect_ = 0;
  mutable bool warm_ = false, failed_ = false;
};

}  // namespace srfx
