// A law on few, fixed points.
//
// Averages of a function that is analytic around an interval are averages of its interpolant there:
// a mass at y goes to the nodes x_j of the interval that y lies in, to each as much as its Lagrange
// polynomial has at y. Whatever rides on the mass goes along. The shares may be negative. Where no
// more points occur than there are nodes, they are the nodes themselves.
#pragma once

#include "srfx/core/types.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace srfx {

/// The shares of the nodes of one interval, by the barycentric formula.
class Lagrange {
 public:
  static constexpr int most = 24;

  /// Chebyshev nodes on [lo, hi].
  Lagrange(double lo, double hi, int n) : n_(n) {
    const std::array<double, 2 * most>& table = chebyshev(n);
    for (int j = 0; j < n; ++j) {
      x_[j] = 0.5 * (lo + hi) + 0.5 * (hi - lo) * table[2 * j];
      factor_[j] = table[2 * j + 1];
    }
  }
  /// Nodes as given, distinct.
  Lagrange(const double* x, int n) : n_(n) {
    for (int j = 0; j < n; ++j) x_[j] = x[j];
    for (int j = 0; j < n; ++j) {
      double product = 1;
      for (int i = 0; i < n; ++i)
        if (i != j) product *= (x_[j] - x_[i]) / (x_[0] == x_[n - 1] ? 1 : x_[n - 1] - x_[0]);
      factor_[j] = 1 / product;
    }
  }

  int size() const { return n_; }
  double node(int j) const { return x_[j]; }

  /// `out` has room for `most`; those beyond size() become 0.
  void shares(double y, double* out) const {
    double sum = 0;
    for (int j = 0; j < most; ++j) {
      out[j] = factor_[j] / (y - x_[j]);
      sum += out[j];
    }
    if (std::isfinite(sum)) {
      const double inverse = 1 / sum;
      for (int j = 0; j < most; ++j) out[j] *= inverse;
    } else {  // on a node
      for (int j = 0; j < most; ++j) out[j] = y == x_[j] ? 1 : 0;
    }
  }

 private:
  static std::array<double, most> absent() {
    std::array<double, most> out;
    out.fill(1e300);
    return out;
  }
  /// Nodes and factors on [-1, 1], ascending.
  static const std::array<double, 2 * most>& chebyshev(int n) {
    static const auto tables = [] {
      std::array<std::array<double, 2 * most>, most + 1> out{};
      for (int order = 1; order <= most; ++order)
        for (int j = 0; j < order; ++j) {
          const double angle = 3.14159265358979323846 * (order - j - 0.5) / order;
          out[order][2 * j] = std::cos(angle);
          out[order][2 * j + 1] = (j % 2 == 0 ? 1 : -1) * std::sin(angle);
        }
      return out;
    }();
    return tables[n];
  }

  int n_;
  std::array<double, most> x_ = absent(), factor_{};
};

/// The nodes of adjoining intervals.
class Carriers {
 public:
  Carriers() = default;
  explicit Carriers(std::vector<double> edges)
      : edges_(std::move(edges)),
        seen_(edges_.size() - 1) {}

  /// To be called with all points, before `fix`.
  void see(const double* y, Index n, int order) {
    for (Index i = 0; i < n; ++i) {
      std::vector<double>& points = seen_[interval(y[i])];
      if (static_cast<int>(points.size()) > order) continue;
      bool known = false;
      for (const double x : points)
        known = known || std::abs(y[i] - x) < 1e-13 * (edges_.back() - edges_.front());
      if (!known) points.push_back(y[i]);
    }
  }
  /// The nodes: of intervals with fewer points than `order` those points; `everywhere`: as if all
  /// had many.
  void fix(int order, bool everywhere = false) {
    for (std::size_t i = 0; i < seen_.size(); ++i) {
      std::vector<double>& points = seen_[i];
      first_.push_back(static_cast<Index>(x_.size()));
      std::sort(points.begin(), points.end());
      const int n = static_cast<int>(points.size());
      if (everywhere) rules_.emplace_back(edges_[i], edges_[i + 1], order);
      else if (n == 0) rules_.emplace_back(edges_[i], edges_[i + 1], 0);
      else if (n <= order) rules_.emplace_back(points.data(), n);
      else rules_.emplace_back(edges_[i], edges_[i + 1], order);
      for (int j = 0; j < rules_.back().size(); ++j) x_.push_back(rules_.back().node(j));
    }
  }

  Index size() const { return static_cast<Index>(x_.size()); }
  const std::vector<double>& x() const { return x_; }

  /// The nodes that carry a point are those from `first` on: how many, and their shares.
  int shares(double y, double* out, Index& first) const {
    const std::size_t i = interval(y);
    first = first_[i];
    rules_[i].shares(y, out);
    return rules_[i].size();
  }

 private:
  std::size_t interval(double y) const {
    const auto above = std::upper_bound(edges_.begin() + 1, edges_.end() - 1, y);
    return static_cast<std::size_t>(above - edges_.begin()) - 1;
  }

  std::vector<double> edges_, x_;
  std::vector<std::vector<double>> seen_;
  std::vector<Lagrange> rules_;
  std::vector<Index> first_;
};

/// Edges of intervals on [low, high] for functions that have poles at a distance of delta, at least,
/// from points of [from, to]: equal ones there, and wider ones farther off.
inline std::vector<double> carrier_edges(double low, double high, double from, double to,
                                         double delta) {
  std::vector<double> out;
  const double left = std::max(low, from - 0.5 * delta), right = std::min(high, to + 0.5 * delta);
  if (left < right) {
    const int n = std::max(1, static_cast<int>(std::ceil((right - left) / delta - 1e-9)));
    for (int i = 0; i <= n; ++i) out.push_back(left + (right - left) * i / n);
  } else {
    out.push_back(left >= high ? high : low);
  }
  const auto grow = [&](double at, double end, double origin, double sign) {
    while (sign * (end - at) > 0) {
      at += sign * std::max(1.25 * delta, 1.5 * sign * (at - origin));
      out.push_back(sign * (end - at) > 0 ? at : end);
    }
  };
  grow(out.back(), high, to, 1);
  std::reverse(out.begin(), out.end());
  grow(out.back(), low, from, -1);
  std::reverse(out.begin(), out.end());
  if (out.size() == 1) out.push_back(out[0] + delta);
  return out;
}

}  // namespace srfx
