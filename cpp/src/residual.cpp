// Constants of the step and the law of its residual.
#include "srfx/gaussian/residual.hpp"

namespace srfx {

namespace detail {

/// Nodes of E f(mean + sd z) for many means: those of mean i are first[i] .. first[i + 1], and the values of f there.
struct ShiftedRule {
  Rule all;
  std::vector<Index> first{0};
  std::vector<double> f;

  ShiftedRule(const Function& function, const std::vector<double>& means, double sd,
              double density) {
    const GaussianRule rule(function.shape(), sd, density);
    for (const double mean : means) {
      if (rule.shared()) {
        all.x.insert(all.x.end(), rule.nodes().x.begin(), rule.nodes().x.end());
        all.w.insert(all.w.end(), rule.nodes().w.begin(), rule.nodes().w.end());
      } else {
        rule.at(mean, all);
      }
      first.push_back(all.size());
    }
    if (!rule.shared()) all.finish();
    std::vector<double> x(all.size());
    f.resize(all.size());
    for (std::size_t i = 0; i < means.size(); ++i)
      for (Index j = first[i]; j < first[i + 1]; ++j) x[j] = means[i] + sd * all.x[j];
    function.evaluate(x.data(), f.data(), all.size());
  }
};

}  // namespace detail

std::vector<StepConstants> step_constants(const Function& sigma, const Function& derivative,
                                          const std::vector<double>& means, double sd) {
  const auto at = [&](double density) {
    const detail::ShiftedRule value(sigma, means, sd, density),
        slope(derivative, means, sd, density);
    std::vector<StepConstants> all(means.size());
    for (std::size_t k = 0; k < means.size(); ++k) {
      StepConstants& out = all[k];
      double mean = 0, second = 0, slope_second = 0;
      for (Index i = value.first[k]; i < value.first[k + 1]; ++i)
        mean += value.all.w[i] * value.f[i];
      for (Index i = value.first[k]; i < value.first[k + 1]; ++i)
        second += value.all.w[i] * (value.f[i] - mean) * (value.f[i] - mean);
      const Index begin = slope.first[k], end = slope.first[k + 1];
      for (Index i = begin; i < end; ++i) {
        const double z = slope.all.x[i], wf = slope.all.w[i] * slope.f[i];
        out.h1 += wf;
        out.h2 += wf * z;
        slope_second += wf * slope.f[i];
      }
      for (Index i = begin; i < end; ++i) {
        const double z = slope.all.x[i], s = slope.f[i] - out.h1 - out.h2 * z, w = slope.all.w[i],
                     ws = w * s, ws2 = ws * s;
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
      out.hc1 = out.hc1 < 1e-24 * power
                    ? 0
                    : out.hc1;  // S = 0: what is left is the square of rounding errors
      drop(out.b12, out.q2, out.b22);
      power = slope_second * rms;
      drop(out.k3, out.b13);
      power = slope_second * slope_second;
      drop(out.k4);
      out.error = rms;
    }
    return all;
  };
  const std::vector<StepConstants> coarse = at(2);
  std::vector<StepConstants> out = at(4);
  for (std::size_t k = 0; k < out.size(); ++k) {
    const double rms = std::max(out[k].error, 1e-300), square = rms * rms;
    const auto off = [&](double StepConstants::* part, double unit) {
      return std::abs(coarse[k].*part - out[k].*part) / unit;
    };
    out[k].error =
        std::max({off(&StepConstants::h1, rms), off(&StepConstants::h2, rms),
                  off(&StepConstants::b3, rms), off(&StepConstants::hc1, square),
                  off(&StepConstants::q2, square), off(&StepConstants::k4, square * square)});
  }
  return out;
}

StepConstants step_constants(const Function& sigma, const Function& derivative) {
  return step_constants(sigma, derivative, {0.0}, 1.0).front();
}

ResidualRule residual_rule(const Function& target, double h0, double noise, double delta,
                           double ratio, int order) {
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
    for (int j = 0; j < count; ++j)
      open.push_back({edges[i] + width * j / count, edges[i] + width * (j + 1) / count, 0});
  }
  Rule rule;
  std::vector<double> values;
  const double floor = std::max(delta, sd);
  std::vector<double> x, y;
  while (!open.empty()) {
    x.clear(), next.clear();
    for (const Panel& p : open)
      for (int i = 0; i < order; ++i)
        x.push_back(0.5 * (p.lo + p.hi) + 0.5 * (p.hi - p.lo) * gl.x[i]);
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
      const double far =
          std::min(std::abs(p.lo), std::abs(p.hi));  // no need to follow u where there is no mass
      if (p.depth < 40 &&
          high - low > ratio * std::max(least, floor) * (p.lo * p.hi > 0 && far > 6.5 ? 8 : 1)) {
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
      for (double lo = centre; lo < limit_eps; lo += 2)
        stack.push_back({lo, std::min(lo + 2, limit_eps)});
      for (double hi = centre; hi > -limit_eps; hi -= 2)
        stack.push_back({std::max(hi - 2, -limit_eps), hi});
      while (!stack.empty()) {
        const auto [lo, hi] = stack.back();
        stack.pop_back();
        const double a = values[i] + sd * lo, b = values[i] + sd * hi;
        const double least = a < 0 && b > 0 ? 0 : std::min(std::abs(a), std::abs(b));
        if (hi - lo > 1e-9 && b - a > ratio * std::max(least, delta)) {
          stack.push_back({lo, 0.5 * (lo + hi)}), stack.push_back({0.5 * (lo + hi), hi});
          continue;
        }
        for (int j = 0; j < order; ++j)
          eps.push(0.5 * (lo + hi) + 0.5 * (hi - lo) * gl.x[j], 0.5 * (hi - lo) * gl.w[j]);
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

}  // namespace srfx
