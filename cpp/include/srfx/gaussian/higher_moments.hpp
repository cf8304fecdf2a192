// Gaussian moments of a function beyond those that the equations are made of: derivatives of these
// (Stein's lemma: derivatives are moments of higher order, no f' is needed), and the feature mu_c
// of the row norms.
#pragma once

#include "srfx/gaussian/coefficients.hpp"

namespace srfx {

/// E (z^2-1) f, E (z^3-2z) f, E (z^4-6z^2+3) f, E z e^2, E (z^2-1) e^2 with e = f - m0 - m1 z,
/// beside the moments themselves.
struct HigherMoments {
  double m0 = 0, m1 = 0, m2 = 0, second = 0, third = 0, fourth = 0, skew = 0, spread = 0;
};

/// Higher moments of f(mean + sd z) at many means, in one call of f a block.
inline void higher_moments(const Function& f, const GaussianRule& rule, double sd,
                           const std::vector<double>& means, std::vector<HigherMoments>& out) {
  const Index n = static_cast<Index>(means.size());
  out.assign(n, {});
  const Index block =
      std::max<Index>(16, (Index(1) << (f.one_call() ? 20 : 13)) / rule.typical_size());
  Rule all;
  std::vector<Index> first;
  std::vector<double> x, values;
  for (Index begin = 0; begin < n; begin += block) {
    const Index count = std::min(block, n - begin);
    first.assign(1, 0);
    all.clear();
    for (Index i = 0; i < count && !rule.shared(); ++i)
      rule.at(means[begin + i], all), first.push_back(all.size());
    all.finish();
    const Index shared = rule.shared() ? rule.nodes().size() : 0;
    if (rule.shared())
      for (Index i = 0; i < count; ++i) first.push_back((i + 1) * shared);
    x.resize(first.back()), values.resize(first.back());
    for (Index i = 0; i < count; ++i) {
      const double* z = rule.shared() ? rule.nodes().x.data() : all.x.data() + first[i];
      for (Index j = 0; j < first[i + 1] - first[i]; ++j)
        x[first[i] + j] = means[begin + i] + sd * z[j];
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
        m.fourth += we * (z[j] * z[j] * (second - 5) + 3);
        m.skew += we * e * z[j];
        m.spread += we * e * second;
      }
      m.third += m.m1;  // E z (z^3 - 2z) = 1
      out[begin + i] = m;
    }
  }
}

/// E f'(m + rho z) and E f''(m + rho z) of an analytic f at small rho: F(v) = E f''(m + sqrt(v) z)
/// = E (z^2-1) f/v at four larger v, extrapolated to rho^2 by the cubic through them.
inline void heat_slope(const Function& f, double rho, const std::vector<double>& means,
                       std::vector<double>& slope, std::vector<double>& curvature) {
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

/// Higher moments of sigma(r k + sqrt(c) z) at many k, by a rule of twice the usual density.
inline std::vector<HigherMoments> moments_at(const Function& sigma, const SpikeParameters& p,
                                             const double* k, Index n) {
  std::vector<double> means(k, k + n);
  for (double& x : means) x *= p.r;
  std::vector<HigherMoments> out;
  higher_moments(sigma, GaussianRule(sigma.shape(), p.sd(), 2), p.sd(), means, out);
  return out;
}

/// mu_c(k) = E (z^2 - 1) sigma/2c at many k.
inline std::vector<double> norm_coefficients(const Function& sigma, const SpikeParameters& p,
                                             const double* k, Index n) {
  std::vector<double> out;
  for (const HigherMoments& m : moments_at(sigma, p, k, n)) out.push_back(m.second / (2 * p.c));
  return out;
}

}  // namespace srfx
