// Newton's method on the order parameters of K groups, any spikes and directions, with another loss
// (THEORY section 19); as loss_solver.hpp does for one group, spike and direction.
#pragma once

#include "srfx/solve/group_loss_map.hpp"
#include "srfx/solve/loss_solver.hpp"

namespace srfx {

/// The system at one x: its defects and its Jacobian, d(x - map)/dx; of m the defect of its hat.
struct GroupLossSystem {
  const GroupLossLayout* layout;
  dense::Vector defect;  ///< map - x
  dense::Matrix jacobian;
  dense::Vector by_lam, by_ratio;  ///< of the defect; the latter by log a'
  dense::Vector unit;              ///< what is large for an unknown
  dense::Vector row_unit;          ///< and for its defect
  double size = 0;                 ///< largest defect, relative
  double field = 0;                ///< rms of the field
  double tail = 0;                 ///< the share of |k| > 6 in what V and Q are made of
  const GroupLossNodes* nodes;

  template <class Map>
  GroupLossSystem(const Loss& loss, const GroupLossNodes& at, Map& map, const dense::Vector& x)
      : layout(&at.layout),
        nodes(&at) {
    const GroupLossLayout& l = at.layout;
    const int n = l.size();
    const GroupLossAverages data = group_loss_averages(loss, at, x);
    const Point<double>& p = map.point();
    const dense::Vector m = x.segment(l.m(), l.means);
    const GroupLossMapValue to = map(l, p.ratio * data.value, m);
    dense::Matrix by = to.by_hat;
    for (int i = l.m(); i < l.theta(); ++i) by(i, i) = -1;
    jacobian = -p.ratio * by.lazyProduct(data.slope);
    defect = to.value;
    by_ratio = p.ratio * by.lazyProduct(data.value);
    by_lam = to.by_hat.middleCols(l.pairs(), l.groups).rowwise().sum();
    for (int i = 0; i < n; ++i) {
      for (int g = 0; g < l.means; ++g) jacobian(i, l.m() + g) -= to.by_m(i, g);
      if (i >= l.m() && i < l.theta()) {
        defect(i) -= p.ratio * data.value(i);
      } else {
        jacobian(i, i) += 1;
        defect(i) -= x(i);
      }
    }
    double resolvent = p.lam / p.ratio;
    for (int g = 0, i = 0; g < l.groups; ++g) {
      resolvent += data.value(i) + data.value(l.pairs() + g);
      i += l.groups - g;
    }
    for (int i = 0; i < l.packed(); ++i) {
      tail = std::max(tail, std::abs(data.beyond(i)) / resolvent);
      if (data.value(l.q() + i) > 0)
        tail = std::max(tail, data.beyond(l.q() + i) / data.value(l.q() + i));
    }
    measure(data, x, p.ratio);
    size = std::max(size, to.defect);
    if (!data.usable || !std::isfinite(defect.sum() + field)) size = infinity;
  }

  /// The solution of jacobian step = right.
  dense::Vector solve(const dense::Vector& right) const {
    const int n = layout->size();
    dense::Matrix a(n, n);
    dense::Vector b(n);
    for (int i = 0; i < n; ++i) {
      b(i) = right(i) / row_unit(i);
      for (int j = 0; j < n; ++j) a(i, j) = jacobian(i, j) * unit(j) / row_unit(i);
    }
    dense::LU lu;
    lu.compute(a);
    dense::Vector step = lu.solve(b);
    for (int i = 0; i < n; ++i) step(i) *= unit(i);
    return step;
  }
  bool newton_step(dense::Vector& step) const {
    step = solve(defect);
    return std::isfinite(step.sum());
  }
  /// V and Q as the map says, the features by their own block of the Jacobian.
  dense::Vector plain_step(const dense::Vector& x) const {
    const GroupLossLayout& l = *layout;
    dense::Vector step = defect;
    const int first = l.m(), count = l.q() - first;
    dense::Matrix a(count, count);
    dense::Vector b(count);
    for (int i = 0; i < count; ++i) {
      b(i) = defect(first + i) / row_unit(first + i);
      for (int j = 0; j < count; ++j)
        a(i, j) = jacobian(first + i, first + j) * unit(first + j) / row_unit(first + i);
    }
    dense::LU lu;
    lu.compute(a);
    const dense::Vector move = lu.solve(b);
    if (std::isfinite(move.sum()))
      for (int i = 0; i < count; ++i) step(first + i) = move(i) * unit(first + i);
    static_cast<void>(x);
    return step;
  }

 private:
  void measure(const GroupLossAverages& data, const dense::Vector& x, double ratio) {
    const GroupLossLayout& l = *layout;
    const int k = l.groups;
    double square = 0;
    for (int g = 0, at = 0; g < k; ++g)
      for (int h = g; h < k; ++h, ++at)
        square += (g == h ? 1 : 2) * nodes->mean_e[at] * x(l.q() + at);
    for (int at = l.pairs(); at < l.packed(); ++at) square += nodes->mean_e[at] * x(l.q() + at);
    const int features = l.features();
    for (int i = 0; i < features; ++i)
      for (int j = 0; j < features; ++j) square += nodes->gram(i, j) * x(l.m() + i) * x(l.m() + j);
    field = std::sqrt(square);
    unit = dense::Vector::Ones(l.size());
    for (int block : {0, l.q()}) {
      for (int g = 0, at = block; g < k; ++g)
        for (int h = g; h < k; ++h, ++at)
          unit(at) = std::sqrt(
              std::abs(x(block + detail::index(k, g, g)) * x(block + detail::index(k, h, h))));
      for (int at = block + l.pairs(); at < block + l.packed(); ++at) unit(at) = std::abs(x(at));
    }
    for (int i = 0; i < features; ++i)
      unit(l.m() + i) = field / std::max(std::sqrt(nodes->gram(i, i)), 1e-300);
    for (int i = l.psi(); i < l.q(); ++i) {
      const int g = (i - l.psi()) % k;
      const double mean = nodes->mean_e[detail::index(k, g, g)];
      unit(i) = field / std::max(std::sqrt(mean), 1e-300);
    }
    row_unit = unit;
    for (int i = 0; i < l.means; ++i)
      row_unit(l.m() + i) = ratio * std::sqrt(nodes->gram(i, i) * data.square) + 1e-300;
    for (int i = 0; i < l.size(); ++i) {
      if (!(unit(i) > 1e-290) || unit(i) > 1e290) unit(i) = row_unit(i) = 1;
      size = std::max(size, std::abs(defect(i)) / row_unit(i));
    }
  }
};

namespace detail {

/// x moved by a share of a step. The diagonals of V and Q move on a log scale, and what is beside
/// them along with these. Steps that would change the field by more than half, or V and Q by more
/// than e^1.5, are shortened.
inline dense::Vector moved(const GroupLossNodes& nodes, const GroupLossSystem& at,
                           const dense::Vector& x, const dense::Vector& step, double share) {
  const GroupLossLayout& l = nodes.layout;
  const int k = l.groups, features = l.features();
  double change = 0, longest = 0, across = 0;
  for (int i = 0; i < features; ++i)
    for (int j = 0; j < features; ++j)
      change += nodes.gram(i, j) * step(l.m() + i) * step(l.m() + j);
  for (int i = l.psi(); i < l.q(); ++i) {
    const int g = (i - l.psi()) % k;
    across += nodes.mean_e[index(k, g, g)] * step(i) * step(i);
  }
  change = std::sqrt(std::max(change, across));
  share *= std::min(1.0, 0.7 * std::max(at.field, 0.02) / std::max(change, 1e-300));
  for (int block : {0, l.q()})
    for (int i = block; i < block + l.packed(); ++i)
      longest = std::max(longest, std::abs(step(i)) / at.unit(i));
  share *= std::min(1.0, 1.5 / std::max(longest, 1e-300));
  dense::Vector out = x + share * step;
  for (int block : {0, l.q()}) {
    std::vector<double> log(k);
    for (int g = 0; g < k; ++g) {
      const int i = block + index(k, g, g), j = block + l.pairs() + g;
      log[g] = share * step(i) / x(i);
      out(j) = x(j) * std::exp(share * step(j) / x(j));
    }
    for (int g = 0, i = block; g < k; ++g)
      for (int h = g; h < k; ++h, ++i) {
        const double both = 0.5 * (log[g] + log[h]);
        out(i) = (x(i) + share * step(i) - x(i) * both) * std::exp(both);
        if (g == h) out(i) = x(i) * std::exp(both);
      }
  }
  // sum_m psi_m psi_m^T < Q1, held to on the diagonal
  double most = 0;
  for (int g = 0; g < k; ++g) {
    double square = 0;
    for (int j = 0; j < l.across; ++j) {
      const double psi = out(l.psi() + j * k + g);
      square += psi * psi;
    }
    most = std::max(most, square / out(l.q() + index(k, g, g)));
  }
  if (k == 1 && most > 0.96) {
    double before = 0;
    for (int j = 0; j < l.across; ++j) before += x(l.psi() + j) * x(l.psi() + j);
    if (before / x(l.q()) < 0.96)
      for (int i = l.psi(); i < l.q(); ++i) out(i) *= std::sqrt(0.96 / most);
  }
  return out;
}

}  // namespace detail

using GroupLossSolution = SolutionOf<dense::Vector>;

template <class Map>
GroupLossSolution group_loss_newton(const Loss& loss, const GroupLossNodes& nodes, Map& map,
                                    const dense::Vector& from, double tolerance, int limit) {
  return damped_newton(
      [&](const dense::Vector& x) { return GroupLossSystem(loss, nodes, map, x); },
      [&](const GroupLossSystem& at, const dense::Vector& x, const dense::Vector& step,
          double share) { return detail::moved(nodes, at, x, step, share); },
      from, tolerance, limit);
}

}  // namespace srfx
