// Constants of the step and the law of its residual.
#include "srfx/gaussian/residual.hpp"

namespace srfx {

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

StepConstants step_constants(const Function& sigma, const Function& derivative) {
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
      const double z = rule.x[i], s = f[i] - out.h1 - out.h2 * z, w = rule.w[i], ws = w * s,
                   ws2 = ws * s;
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
    return out;
  };
  const StepConstants coarse = at(2);
  StepConstants out = at(4);
  const double rms = std::max(out.error, 1e-300), square = rms * rms;
  out.error = std::max({std::abs(coarse.h1 - out.h1) / rms, std::abs(coarse.h2 - out.h2) / rms,
                        std::abs(coarse.b3 - out.b3) / rms, std::abs(coarse.hc1 - out.hc1) / square,
                        std::abs(coarse.q2 - out.q2) / square,
                        std::abs(coarse.k4 - out.k4) / (square * square)});
  return out;
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
