// Panels in k that are halved again and again where that moves the averages of a solution: where
// labels change, or a loss bends, between nodes, for a field that is narrow there (THEORY section
// 19). And the way to a large lam on such panels.
#pragma once

#include "srfx/core/scalar.hpp"
#include "srfx/core/types.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace srfx {

/// A part of one of the first panels, which have depth 0.
struct LossPanel {
  int first, depth;
  long place;  ///< among the 2^depth parts of the first
  std::pair<LossPanel, LossPanel> halves() const {
    return {{first, depth + 1, 2 * place}, {first, depth + 1, 2 * place + 1}};
  }
  /// Its ends, where `edges` are those of the first.
  std::pair<double, double> ends(const std::vector<double>& edges) const {
    const double from = edges[first], width = std::ldexp(edges[first + 1] - from, -depth);
    return {from + width * static_cast<double>(place),
            from + width * static_cast<double>(place + 1)};
  }
};

/// Where panels begin between 0 (or -reach) and reach: at `places`, and no farther from each other
/// than functions are smooth.
inline std::vector<double> first_edges(double reach, bool folded,
                                       const std::vector<double>& places) {
  std::vector<double> edges{folded ? 0 : -reach, 0, reach};
  for (const double place : places)
    for (const double k : {place, folded ? -place : place})
      if (k > edges.front() && k < reach) edges.push_back(k);
  std::sort(edges.begin(), edges.end());
  std::vector<double> out{edges.front()};
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    const double width = edges[i + 1] - edges[i];
    const int count = static_cast<int>(std::ceil(width / 1.6));
    for (int j = 1; j <= count && width > 0; ++j) out.push_back(edges[i] + width * j / count);
  }
  return out;
}

/// The panels that `n` first ones come to. value(panel) is a list of sums over it; enlarge(list of
/// their sizes over all panels) makes those larger that may vanish. `error` is what further
/// halvings would have moved, relative.
template <class Value, class Enlarge>
std::vector<LossPanel> halved_panels(int n, Value&& value, Enlarge&& enlarge, double& error) {
  constexpr double enough = 4e-10;
  constexpr std::size_t most = 160;
  using List = decltype(value(LossPanel{}));
  struct Part {
    LossPanel panel;
    List value;
  };
  std::vector<Part> open, next;
  std::vector<LossPanel> leaves;
  for (int i = 0; i < n; ++i) open.push_back({{i, 0, 0}, value(LossPanel{i, 0, 0})});
  List size = open[0].value;
  const Index length = static_cast<Index>(size.size());
  for (Index j = 0; j < length; ++j) {
    size[j] = 0;
    for (const Part& at : open) size[j] += std::abs(at.value[j]);
  }
  enlarge(size);
  error = 0;
  for (; !open.empty(); open.swap(next), next.clear())
    for (const Part& at : open) {
      const auto [left, right] = at.panel.halves();
      const Part halves[2] = {{left, value(left)}, {right, value(right)}};
      double moved = 0;
      for (Index j = 0; j < length; ++j)
        if (size[j] > 0)
          moved = std::max(
              moved, std::abs(halves[0].value[j] + halves[1].value[j] - at.value[j]) / size[j]);
      if (moved > enough && leaves.size() / 2 + open.size() + next.size() < most) {
        next.insert(next.end(), halves, halves + 2);
        continue;
      }
      // The halves are nearer by far where the integrand is resolved, and by a digit where it is
      // not.
      error += 0.1 * moved;
      leaves.push_back(left), leaves.push_back(right);
    }
  return leaves;
}

/// A point at a large lam from one at a smaller: as lam grows the field's scatter vanishes beside
/// the bends of a loss, and no rule is dense enough but where they are. climb(point) solves one from
/// nowhere, ahead(solution, from lam, to lam) is a start, settle(point, start) takes it to panels of
/// its own until it moves by no more than it returns.
template <class Climb, class Ahead, class Settle>
auto from_smaller_lam(const Point<double>& p, Climb&& climb, Ahead&& ahead, Settle&& settle) {
  Point<double> q = p;
  q.lam = std::min(1.0, 0.3 * p.lam);
  auto at = climb(q);
  int iterations = at.iterations;
  while (!at.good && q.lam > 3e-3) {
    q.lam *= 0.3;
    at = climb(q);
    iterations += at.iterations;
  }
  double factor = 2;
  for (int pass = 0; at.good && pass < 80 && q.lam < p.lam; ++pass) {
    Point<double> next = q;
    next.lam = std::min(p.lam, q.lam * factor);
    auto trial = ahead(at, q.lam, next.lam);
    trial.iterations = 0;
    double by = infinity;
    for (int round = 0; round < 8 && !(by < 1e-7); ++round) {
      by = settle(next, trial);
      if (!(by < 3)) break;
    }
    iterations += trial.iterations;
    if (by < 1e-7) at = trial, q = next, factor = std::min(4.0, factor * factor);
    else if ((factor = std::sqrt(factor)) < 1.02) break;
  }
  at.good = at.good && q.lam == p.lam;
  at.iterations = iterations;
  return at;
}

}  // namespace srfx
