// Constants of the step and the law of its residual.
#include "srfx/gaussian/residual.hpp"

#include "srfx/gaussian/directions.hpp"

namespace srfx {

namespace detail {

/// Nodes of E f(mean + sd z) for many means: those of mean i are first[i] .. first[i + 1], and the
/// values of f there.
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

ResidualRule residual_rule(const Function& target, double h0, double delta, double ratio,
                           int order) {
  constexpr double limit = 11;
  const Shape& shape = target.shape();
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
          high - low > ratio * std::max(least, delta) * (p.lo * p.hi > 0 && far > 6.5 ? 8 : 1)) {
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
  out.t = rule.x, out.w = rule.w, out.u = values;
  return out;
}

namespace {

constexpr double limit = 9, negligible = 1e-22;

/// The points of t from axis j on, each with its weight: a trapezoidal rule, or panels of that
/// width with edges on the planes.
void list_points(const AxisPlanes& planes, double width, Index j, double weight,
                 std::vector<double>& at, ResidualRule& out) {
  if (j == out.directions) {
    out.t.insert(out.t.end(), at.begin(), at.end());
    out.w.push_back(weight);
    return;
  }
  Rule line;
  if (!planes.any()) {
    line.push_trapezoid(width, limit);
  } else {
    std::vector<double> edges{-limit, limit}, kinks;
    planes.edges(static_cast<int>(j), at.data(), kinks);
    for (const double x : kinks)
      if (std::abs(x) < limit) edges.push_back(x);
    std::sort(edges.begin(), edges.end());
    for (std::size_t i = 0; i + 1 < edges.size(); ++i)
      line.push_panels(edges[i], edges[i + 1], width, 12);
  }
  line.finish();
  for (Index i = 0; i < line.size(); ++i) {
    if (weight * line.w[i] < negligible) continue;
    at[static_cast<std::size_t>(j)] = line.x[i];
    list_points(planes, width, j + 1, weight * line.w[i], at, out);
  }
}

}  // namespace

ResidualRule target_rule(const TargetFunction& target, double fineness) {
  const Index directions = target.directions();
  const AxisPlanes planes(target, dense::Matrix::Identity(directions, directions));
  ResidualRule out;
  out.directions = directions;
  std::vector<double> at(static_cast<std::size_t>(directions));
  list_points(planes, (planes.any() ? 2.0 : 0.3) / fineness, 0, 1.0, at, out);
  const Index count = static_cast<Index>(out.w.size());
  std::vector<double> by_direction(out.t.size());
  out.u.resize(out.w.size());
  for (Index i = 0; i < count; ++i)
    for (Index l = 0; l < directions; ++l) by_direction[l * count + i] = out.t[i * directions + l];
  target.evaluate(by_direction.data(), out.u.data(), count);
  if (!target.shape().labels) return out;
  ResidualRule labels;  // points with y in place of E[y]
  labels.directions = directions;
  for (Index i = 0; i < count; ++i)
    for (const double y : {1.0, -1.0}) {
      const double weight = out.w[i] * 0.5 * (1 + y * out.u[i]);
      if (weight == 0) continue;
      labels.t.insert(labels.t.end(), &out.t[i * directions], &out.t[i * directions] + directions);
      labels.w.push_back(weight), labels.u.push_back(y);
    }
  return labels;
}

ResidualMoments widened(const ResidualMoments& moments, double noise) {
  ResidualMoments out = moments;
  out.u.fill(0), out.tu.fill(0);
  for (std::size_t n = 0; n < out.u.size(); ++n) {
    double factor = 1;  // of E u^(n - 2 k): n!/((n - 2 k)! k!) (noise/2)^k
    for (std::size_t k = 0; 2 * k <= n; ++k) {
      out.u[n] += factor * moments.u[n - 2 * k];
      out.tu[n] += factor * moments.tu[n - 2 * k];
      factor *= 0.5 * noise * static_cast<double>((n - 2 * k) * (n - 2 * k - 1)) /
                static_cast<double>(k + 1);
      if (n - 2 * k < 2) break;
    }
  }
  return out;
}

ResidualNodes ResidualNodes::folded() const {
  ResidualNodes out = *this;
  const Index count = directions();
  for (std::size_t i = 0; i < u.size(); ++i) {
    if (u[i] >= 0) continue;
    out.u[i] = -u[i];
    for (Index l = 1; l <= count; ++l) out.w[l][i] = -w[l][i];
  }
  return out;
}

ResidualNodes ResidualNodes::widened(double sd, double delta, double ratio, int order) const {
  constexpr double reach = 9.5, near = 10, negligible = 1e-24;
  const bool sharp = delta < 3 * sd;  // eps alone does not resolve the poles
  ResidualNodes out;
  out.w.resize(w.size());
  std::vector<Index> close;
  std::vector<double> weights(w.size());
  Rule eps;
  eps.push_trapezoid(0.5, reach);
  eps.finish();
  double low = 0, high = 0;
  for (Index k = 0; k < size(); ++k) {
    if (!(w[0][k] > negligible)) continue;
    if (sharp && std::abs(u[k]) <= near * sd) {
      close.push_back(k);
      low = std::min(low, u[k] - reach * sd), high = std::max(high, u[k] + reach * sd);
      continue;
    }
    for (Index j = 0; j < eps.size(); ++j) {
      if (w[0][k] * eps.w[j] < negligible) continue;
      for (std::size_t c = 0; c < w.size(); ++c) weights[c] = w[c][k] * eps.w[j];
      out.push(u[k] + sd * eps.x[j], weights.data());
    }
  }
  if (close.empty()) {
    out.pad();
    return out;
  }
  // Panels from 0 outwards, as wide as the poles and the densities allow.
  Rule rule;
  const double widest = 2 * sd;
  for (const double end : {low, high})
    for (double from = 0; from < std::abs(end);) {
      const double to = from + std::min(widest, ratio * std::max(from, delta));
      if (end < 0) rule.push_panels(-to, -from, infinity, order);
      else rule.push_panels(from, to, infinity, order);
      from = to;
    }
  const Index n = rule.size();
  std::vector<std::vector<double>> sums(w.size(), std::vector<double>(n, 0.0));
  std::vector<double> x(n), density(n);
  for (const Index k : close) {
    for (Index j = 0; j < n; ++j) x[j] = (rule.x[j] - u[k]) / sd, density[j] = rule.w[j] / sd;
    times_normal_density(x.data(), density.data(), n);
    for (std::size_t c = 0; c < w.size(); ++c)
      for (Index j = 0; j < n; ++j) sums[c][j] += w[c][k] * density[j];
  }
  for (Index j = 0; j < n; ++j) {
    if (sums[0][j] < negligible) continue;
    for (std::size_t c = 0; c < w.size(); ++c) weights[c] = sums[c][j];
    out.push(rule.x[j], weights.data());
  }
  out.pad();
  return out;
}

double difference(const ResidualNodes& mine, const ResidualNodes& theirs, double c1, double c2,
                  bool even) {
  using V = simd::Lanes<double, 8>;
  struct Sums {
    double value[9], size[9];
  };
  const auto sums = [&](const ResidualNodes& nodes) {
    V value[9], size[9];
    for (int j = 0; j < 9; ++j) value[j] = size[j] = V(0.0);
    for (Index i = 0; i < nodes.size(); i += V::size) {
      const V u = V::load(&nodes.u[i]), q = V(1.0) / (V(1.0) + u * (V(c1) + V(c2) * u));
      for (int j = 0; j < 3; ++j) {
        V term = V::load(&nodes.w[j][i]) * q;
        for (int k = 0; k < 3; ++k, term *= u)
          value[3 * j + k] += term, size[3 * j + k] += simd::abs(term);
      }
    }
    Sums out;
    for (int j = 0; j < 9; ++j) {
      out.value[j] = out.size[j] = 0;
      for (int lane = 0; lane < V::size; ++lane)
        out.value[j] += value[j][lane], out.size[j] += size[j][lane];
    }
    // On few nodes E[t | u] is an average already: its absolute value says nothing.
    for (int j = 3; j < 6; ++j) out.size[j] = std::sqrt(out.size[j - 3] * out.size[j + 3]);
    return out;
  };
  const Sums a = sums(mine), b = sums(theirs);
  double worst = 0;
  for (int j = 0; j < 9; ++j) {
    if (even && j % 2 == 1) continue;
    if (b.size[j] > 0) worst = std::max(worst, std::abs(a.value[j] - b.value[j]) / b.size[j]);
  }
  return worst;
}

ResidualLaw residual_law(const Function& target, double h0, double noise, double delta,
                         double angle, bool folded, bool few) {
  const double sd = std::sqrt(noise), scale = std::max(delta, sd),
               ratio = std::clamp(3 * angle, 0.25, 1.5);
  const auto nodes = [&](int order, int parts) {
    ResidualNodes all(residual_rule(target, h0, scale, ratio, order), false);
    if (sd > 0) all = all.compressed(scale, parts, 14).widened(sd, delta, ratio, order);
    return folded ? all.folded() : all;
  };
  ResidualLaw out;
  out.check = nodes(20, 4);
  const ResidualNodes all = nodes(16, 2);
  // Pairs of poles at any distance, on the imaginary axis and as near to the real one as they come.
  const double sine = std::clamp(angle, 0.05, 1.0), cosine = std::sqrt(1 - sine * sine);
  const auto off = [&](const ResidualNodes& other) {
    double worst = 0;
    for (const double factor : {1.0, 3.0, 30.0, 1000.0})
      for (const double along : {0.0, cosine, -cosine}) {
        if (along != 0 && folded) continue;
        const double inverse = 1 / (factor * delta);
        worst = std::max(
            worst, difference(out.nodes, other, -2 * along * inverse, inverse * inverse, folded));
      }
    return worst;
  };
  double compression = infinity, before = infinity;
  for (int parts = few || angle > 0.7 ? 1 : 2; parts <= 8 && compression > 1e-12; parts *= 2) {
    if (few) out.nodes = all.compressed(delta, parts, 24, sine);
    else out.nodes = all.size() <= 64 ? all : all.compressed(delta, parts, 14);
    compression = off(all);
    if (compression > 0.1 * before) break;
    before = compression;
  }
  out.error = std::max(compression, off(out.check));
  return out;
}

ResidualNodes residual_nodes(const TargetFunction& target, double h0, double noise, double delta,
                             double angle, double fineness) {
  const double sd = std::sqrt(noise), scale = std::max(delta, sd),
               ratio = std::clamp(3 * angle, 0.25, 1.5);
  const int parts = angle > 0.7 ? 2 : 4;
  ResidualRule rule = target_rule(target, fineness);
  for (double& u : rule.u) u -= h0;
  const ResidualNodes all = ResidualNodes(rule, false).compressed(scale, parts, 14);
  if (sd == 0) return all;
  const ResidualNodes noisy = all.widened(sd, delta, ratio, fineness > 1 ? 20 : 16);
  return noisy.compressed(delta, parts, 14);
}

}  // namespace srfx
