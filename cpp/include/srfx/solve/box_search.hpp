// Searches for a minimum within a box of two coordinates: the local minima of a grid, and from each
// Newton's method on the exact gradient.
#pragma once

#include "srfx/solve/search.hpp"

#include <utility>
#include <vector>

namespace srfx {

/// Local minima of a grid, against the neighbours along each axis.
inline int planar_minima(const double* e, int first, int second, Index stride,
                         std::array<std::array<int, 2>, max_candidates>& starts, int& count) {
  const auto at = [&](int a, int b) {
    return a < 0 || b < 0 || a >= first || b >= second ? infinity : e[(a * second + b) * stride];
  };
  std::vector<std::pair<double, std::array<int, 2>>> all;
  for (int a = 0; a < first; ++a)
    for (int b = 0; b < second; ++b) {
      const double here = at(a, b);
      // of equal neighbours the first counts
      if (here < infinity && here < at(a - 1, b) && here < at(a, b - 1) && here <= at(a + 1, b) &&
          here <= at(a, b + 1))
        all.push_back({here, {a, b}});
    }
  std::sort(all.begin(), all.end());
  count = static_cast<int>(all.size());
  const int kept = std::min(count, max_candidates);
  for (int c = 0; c < kept; ++c) starts[c] = all[c].second;
  return kept;
}

/// A place in the box, in units of the grid's cells: the function, its gradient, and what the search
/// along a line said there.
struct BoxPlace {
  std::array<double, 2> x{}, g{};
  double error = infinity, line = 0;
  bool converged = false;  ///< of the place where a search ended
};

namespace detail {

/// -|H|^-1 g over the open coordinates; |H| has H's eigenvectors and the sizes of its
/// eigenvalues.
inline std::array<double, 2> newton_step(const double (&h)[2][2], const std::array<double, 2>& g,
                                         const std::array<bool, 2>& open) {
  std::array<double, 2> step{};
  const auto along = [](double slope, double curvature) {
    const double size = std::abs(curvature);
    return slope == 0 ? 0.0 : size > 0 ? -slope / size : slope < 0 ? 1.0 : -1.0;
  };
  if (!(open[0] && open[1])) {
    for (int q = 0; q < 2; ++q)
      if (open[q]) step[q] = along(g[q], h[q][q]);
    return step;
  }
  const double half = 0.5 * (h[0][0] - h[1][1]), angle = 0.5 * std::atan2(h[0][1], half),
               mean = 0.5 * (h[0][0] + h[1][1]);
  const double radius = std::hypot(half, h[0][1]), c = std::cos(angle), s = std::sin(angle);
  const double floor = 1e-8 * (std::abs(mean) + radius);
  const auto lifted = [&](double x) { return std::max(std::abs(x), floor); };
  const double u = along(c * g[0] + s * g[1], lifted(mean + radius)),
               v = along(c * g[1] - s * g[0], lifted(mean - radius));
  step[0] = c * u - s * v, step[1] = s * u + c * v;
  return step;
}

}  // namespace detail

/// Newton's method in the box from 0 to `top`, its matrix from differences of exact gradients; where
/// that matrix is not positive its eigenvalues count by size, and a step is at most a cell long.
/// `look` evaluates a place.
template <class Look>
BoxPlace newton_in_box(const std::array<double, 2>& top, std::array<int, 2> start, Look&& look) {
  BoxPlace here = look({static_cast<double>(start[0]), static_cast<double>(start[1])});
  bool converged = false;
  const auto finish = [&](bool ended) {
    here.converged = ended;
    return here;
  };
  for (int iteration = 0; iteration < 60 && here.error < infinity; ++iteration) {
    std::array<bool, 2> open;
    for (int q = 0; q < 2; ++q)
      open[q] = !((here.x[q] <= 0 && here.g[q] >= 0) || (here.x[q] >= top[q] && here.g[q] <= 0));
    double h[2][2] = {{1, 0}, {0, 1}};
    constexpr double apart = 1e-3;
    for (int q = 0; q < 2; ++q) {
      if (!open[q]) continue;
      std::array<double, 2> x = here.x;
      const double step = x[q] + apart <= top[q] ? apart : -apart;
      x[q] += step;
      const BoxPlace beside = look(x);
      if (!(beside.error < infinity)) return finish(false);
      for (int p = 0; p < 2; ++p)
        if (open[p]) h[p][q] = (beside.g[p] - here.g[p]) / step;
    }
    if (open[0] && open[1]) h[0][1] = h[1][0] = 0.5 * (h[0][1] + h[1][0]);
    std::array<double, 2> step = detail::newton_step(h, here.g, open);
    const double size = std::max(std::abs(step[0]), std::abs(step[1]));
    if (size == 0) return finish(true);
    // What the step can gain: nothing, along a valley without a bottom (eta^2/alpha0, say, may be
    // all that matters).
    const double gain = -0.5 * (here.g[0] * step[0] + here.g[1] * step[1]),
                 level = std::abs(here.error);
    converged = size < 1e-8 || gain <= 1e-16 * level;  // the next place is better by far
    if (size > 1)
      for (double& s : step) s /= size;
    bool lower = false;
    for (double length = 1; length > 1e-4 && !lower; length *= 0.25) {
      std::array<double, 2> x;
      double change = 0;
      for (int q = 0; q < 2; ++q) {
        x[q] = std::min(std::max(here.x[q] + length * step[q], 0.0), top[q]);
        change += here.g[q] * (x[q] - here.x[q]);
      }
      const BoxPlace next = look(x);
      // At the bottom rounding decides.
      lower = next.error <= here.error + 1e-4 * change ||
              (size < 1e-4 && detail::level_with(next.error, here.error));
      if (lower) here = next;
    }
    if (!lower) converged = converged || gain <= 1e-12 * level;
    if (converged || !lower) break;
  }
  return finish(converged);
}

}  // namespace srfx
