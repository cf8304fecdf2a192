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

/// The nodes z of f(mean + sd z) at many means, their weights and the values there, in one call of
/// f a block: each(i, z, w, values, number of nodes), a multiple of eight.
template <class Each>
void on_values(const Function& f, const GaussianRule& rule, double sd,
               const std::vector<double>& means, Each&& each) {
  const Index n = static_cast<Index>(means.size());
  const Index block =
      std::max<Index>(16, (Index(1) << (f.one_call() ? 20 : 13)) / rule.typical_size());
  Rule all;
  if (rule.shared()) {
    all = rule.nodes();
    while (all.size() % 8 != 0) all.push(0, 0);
  }
  std::vector<Index> first;
  std::vector<double> x, values;
  for (Index begin = 0; begin < n; begin += block) {
    const Index count = std::min(block, n - begin);
    first.assign(1, 0);
    if (rule.shared()) {
      for (Index i = 0; i < count; ++i) first.push_back((i + 1) * all.size());
    } else {
      all.clear();
      for (Index i = 0; i < count; ++i) rule.at(means[begin + i], all), first.push_back(all.size());
      all.finish();
    }
    x.resize(first.back()), values.resize(first.back());
    for (Index i = 0; i < count; ++i) {
      const double* z = all.x.data() + (rule.shared() ? 0 : first[i]);
      for (Index j = 0; j < first[i + 1] - first[i]; ++j)
        x[first[i] + j] = means[begin + i] + sd * z[j];
    }
    f.evaluate(x.data(), values.data(), first.back());
    for (Index i = 0; i < count; ++i) {
      const Index from = rule.shared() ? 0 : first[i];
      each(begin + i, all.x.data() + from, all.w.data() + from, values.data() + first[i],
           first[i + 1] - first[i]);
    }
  }
}

/// Higher moments of f(mean + sd z) at many means.
inline void higher_moments(const Function& f, const GaussianRule& rule, double sd,
                           const std::vector<double>& means, std::vector<HigherMoments>& out) {
  out.assign(means.size(), {});
  on_values(f, rule, sd, means,
            [&](Index i, const double* z, const double* weights, const double* y, Index size) {
              HigherMoments m;
              for (Index j = 0; j < size; ++j) {
                const double wf = weights[j] * y[j];
                m.m0 += wf, m.m1 += wf * z[j];
              }
              for (Index j = 0; j < size; ++j) {
                const double e = y[j] - m.m0 - m.m1 * z[j], we = weights[j] * e,
                             second = z[j] * z[j] - 1;
                m.m2 += we * e;
                m.second += we * second;  // of f and of e they are the same
                m.third += we * z[j] * (second - 1);
                m.fourth += we * (z[j] * z[j] * (second - 5) + 3);
                m.skew += we * e * z[j];
                m.spread += we * e * second;
              }
              m.third += m.m1;  // E z (z^3 - 2z) = 1
              out[i] = m;
            });
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

namespace detail {
inline std::vector<double> times(double r, const double* k, Index n) {
  std::vector<double> out(k, k + n);
  for (double& x : out) x *= r;
  return out;
}
}  // namespace detail

/// Higher moments of sigma(r k + sqrt(c) z) at many k, by a rule of twice the usual density.
inline std::vector<HigherMoments> moments_at(const Function& sigma, const SpikeParameters& p,
                                             const double* k, Index n) {
  std::vector<HigherMoments> out;
  higher_moments(sigma, GaussianRule(sigma.shape(), p.sd(), 2), p.sd(), detail::times(p.r, k, n),
                 out);
  return out;
}

/// mu_c(k) = E (z^2 - 1) sigma/2c at many k.
inline std::vector<double> norm_coefficients(const Function& sigma, const SpikeParameters& p,
                                             const double* k, Index n) {
  using V = simd::Lanes<double, 8>;
  std::vector<double> out(n);
  const auto total = [](const V& x) {
    double sum = 0;
    for (int lane = 0; lane < V::size; ++lane) sum += x[lane];
    return sum;
  };
  on_values(sigma, GaussianRule(sigma.shape(), p.sd(), 2), p.sd(), detail::times(p.r, k, n),
            [&](Index i, const double* z, const double* w, const double* y, Index size) {
              V sum0(0.0), sum1(0.0), second(0.0);
              for (Index j = 0; j < size; j += V::size) {
                const V wf = V::load(w + j) * V::load(y + j);
                sum0 += wf, sum1 += wf * V::load(z + j);
              }
              const V m0(total(sum0)), m1(total(sum1));
              for (Index j = 0; j < size; j += V::size) {
                const V at = V::load(z + j), e = V::load(y + j) - m0 - m1 * at;
                second += V::load(w + j) * e * (at * at - V(1.0));
              }
              out[i] = total(second) / (2 * p.c);
            });
  return out;
}

}  // namespace srfx
