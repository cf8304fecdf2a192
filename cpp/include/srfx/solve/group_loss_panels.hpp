// Rules in k of a point's own, of K groups beside one spike (loss_panels.hpp); and whether a
// solution hangs on labels that no sample has.
#pragma once

#include "srfx/solve/group_loss_solver.hpp"
#include "srfx/solve/loss_panels.hpp"
#include "srfx/solve/loss_rare.hpp"

#include <map>
#include <memory>
#include <mutex>
#include <tuple>

namespace srfx {

/// Nodes of one coefficient set, made when first asked for.
class GroupLossRules {
  using Means = GroupLossNodesMaker::Means;

 public:
  explicit GroupLossRules(GroupLossNodesMaker maker)
      : maker_(std::move(maker)),
        edges_(first_edges(GroupLossNodesMaker::reach_in_k, false,
                           maker_.takes_panels() ? maker_.kinks_in_k() : std::vector<double>{})) {}

  int n_rungs_k() const { return maker_.n_rungs_k(); }
  bool affordable(int rung_k, int rung_z) const {
    return maker_.cost(rung_k, rung_z) < GroupLossNodesMaker::most_atoms;
  }
  const GroupLossNodes& find(int rung_k, int rung_z, bool penalised) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<GroupLossNodes>& out = made_[{rung_k, rung_z, penalised}];
    if (!out)
      out = std::make_unique<GroupLossNodes>(
          maker_.make(rung_k, rung_z, penalised ? Means::penalised : Means::free));
    return *out;
  }

  bool takes_panels() const { return maker_.takes_panels(); }
  int first_panels() const { return static_cast<int>(edges_.size()) - 1; }
  /// On a panel all groups have a mean.
  const GroupLossNodes& find(const LossPanel& panel, int rung_z) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<GroupLossNodes>& out = panels_[{panel.first, panel.depth, panel.place, rung_z}];
    if (!out) {
      const auto [from, to] = panel.ends(edges_);
      out = std::make_unique<GroupLossNodes>(maker_.make_panel(from, to, rung_z));
    }
    return *out;
  }
  std::shared_ptr<const GroupLossNodes> of(const std::vector<LossPanel>& panels, int rung_z,
                                           bool penalised) {
    std::vector<std::pair<double, double>> ends;
    for (const LossPanel& panel : panels) ends.push_back(panel.ends(edges_));
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::make_shared<GroupLossNodes>(
        maker_.make_panels(ends, rung_z, penalised ? Means::penalised : Means::free));
  }

 private:
  std::mutex mutex_;
  GroupLossNodesMaker maker_;
  std::vector<double> edges_;
  std::map<std::tuple<int, int, bool>, std::unique_ptr<GroupLossNodes>> made_;
  std::map<std::tuple<int, int, long, int>, std::unique_ptr<GroupLossNodes>> panels_;
};

/// A solution and the nodes that it was found on.
struct GroupLossFound {
  dense::Vector x, by_lam;
  const GroupLossNodes* nodes = nullptr;
  std::shared_ptr<const GroupLossNodes> adapted;  ///< they, if they are its own
  double residual = infinity, error = 0, tail = 0;
  int iterations = 0, rung_z = 0;
  bool good = false;
};

namespace detail {

/// How far two solutions are apart: V and Q relative, the features in units of the field.
inline double apart(const GroupLossNodes& nodes, const GroupLossSystem& system,
                    const dense::Vector& x, const dense::Vector& y) {
  const GroupLossLayout& l = nodes.layout;
  double out = 0, change = 0;
  for (int i = 0; i < l.features(); ++i)
    for (int j = 0; j < l.features(); ++j)
      change += nodes.gram(i, j) * (x(l.m() + i) - y(l.m() + i)) * (x(l.m() + j) - y(l.m() + j));
  out = std::sqrt(std::max(change, 0.0)) / system.field;
  for (int i = 0; i < l.size(); ++i)
    if (i < l.m() || i >= l.psi()) out = std::max(out, std::abs(x(i) - y(i)) / system.unit(i));
  return out;
}

/// One step of Newton's method; yields how far it moved, or infinity.
template <class Map> double newton_step(const Loss& loss, Map& map, GroupLossFound& at) {
  const GroupLossSystem system(loss, *at.nodes, map, at.x);
  ++at.iterations;
  at.tail = system.tail;
  dense::Vector step;
  if (!(system.size < 3) || !system.newton_step(step)) return infinity;
  at.by_lam = system.solve(system.by_lam);
  const dense::Vector next = moved(*at.nodes, system, at.x, step, 1);
  const double by = apart(*at.nodes, system, next, at.x);
  at.x = next;
  return by;
}

/// Nodes of panels of its own for the solution at x on `nodes`.
inline std::shared_ptr<const GroupLossNodes> adapted_nodes(const Loss& loss, GroupLossRules& rules,
                                                           const GroupLossNodes& nodes, int rung_z,
                                                           const dense::Vector& x,
                                                           const Point<double>& p, double& error) {
  constexpr int judged = 1;
  const GroupLossNodes& whole = rules.find({0, 0, 0}, judged);
  const GroupLossLayout& l = whole.layout;
  const dense::Vector y = carried(nodes, whole, x);
  const int n = l.size(), missed = n, square = n + 2;
  const auto value = [&](const LossPanel& panel) {
    const GroupLossNodes& on = rules.find(panel, judged);
    const GroupLossAverages averages = group_loss_averages(loss, on, y);
    const LossObservables seen = group_loss_observables(loss, on, y, loss.logistic());
    dense::Vector out(n + 3);
    out.head(n) = averages.value;
    out[missed] = seen.classification_error, out[square] = averages.square;
    out[missed + 1] = loss.logistic() || loss.hard() ? 0 : seen.test_loss;
    return out;
  };
  // As for one group: what may vanish has the size of what it stands beside.
  const auto enlarge = [&](dense::Vector& size) {
    const double g = std::sqrt(size[square]);
    for (int i = l.m(); i < l.q(); ++i) size[i] = std::max(size[i], 0.1 * g);
    for (int i = 0; i < l.packed(); ++i) size[i] = std::max(size[i], p.lam / p.ratio);
    size[missed] = 1;
  };
  const bool penalised = p.inverse_d > 0;
  return rules.of(halved_panels(rules.first_panels(), value, enlarge, error), rung_z, penalised);
}

/// On panels of its own, for a point that is all but solved; yields the last move.
template <class Map>
double to_panels(const Loss& loss, GroupLossRules& rules, const Point<double>& p, Map& map,
                 GroupLossFound& at) {
  const double before = at.error;
  double by = infinity;
  for (int round = 0; round < 4; ++round) {
    const std::shared_ptr<const GroupLossNodes> nodes =
        adapted_nodes(loss, rules, *at.nodes, at.rung_z, at.x, p, at.error);
    at.error += before;
    at.x = carried(*at.nodes, *nodes, at.x);
    at.adapted = nodes, at.nodes = nodes.get();
    by = infinity;
    double moved = 0;
    for (int pass = 0; pass < 6 && !(by < 1e-7); ++pass) {
      by = newton_step(loss, map, at), moved += by;
      if (!(by < 3)) break;
    }
    if (!(by < 3) || moved < 1e-3) break;  // else panels are made anew where the solution is
  }
  at.residual = 10 * by * by;
  at.good = by < 1e-7;
  return by;
}

/// From a solution at lam `from`, by powers of lam, where one at `to` is looked for.
inline GroupLossFound ahead(GroupLossFound at, double from, double to) {
  const GroupLossLayout& l = at.nodes->layout;
  const double step = std::log(to / from);
  dense::Vector log = at.by_lam * from;
  for (int block : {0, l.q()}) {
    dense::Vector rate(l.groups);
    for (int g = 0; g < l.groups; ++g) {
      const int i = block + index(l.groups, g, g);
      rate(g) = std::clamp(log(i) / at.x(i), -4.0, 4.0);
    }
    for (int g = 0, i = block; g < l.groups; ++g)
      for (int h = g; h < l.groups; ++h, ++i) at.x(i) *= std::exp(0.5 * (rate(g) + rate(h)) * step);
    for (int i = block + l.pairs(); i < block + l.packed(); ++i)
      at.x(i) *= std::exp(std::clamp(log(i) / at.x(i), -4.0, 4.0) * step);
  }
  for (int i = l.m(); i < l.q(); ++i) {
    const double power = log(i) / at.x(i);
    if (std::abs(power) < 4) at.x(i) *= std::exp(power * step);
  }
  return at;
}

/// As for one group (loss_climb.hpp).
template <class Map> bool hangs_on_rare(const Loss& loss, Map& map, const GroupLossFound& found) {
  const double part = rare_part(loss, map.point());
  if (part == 0) return false;
  const GroupLossNodes& nodes = *found.nodes;
  std::vector<std::pair<double, double>> labels;
  const auto each = [&](auto&& work) {
    for (Index node = 0; node < nodes.size; ++node)
      for (Index i = nodes.first[node]; i < nodes.first[node + 1]; ++i)
        work(node, i, nodes.near[node] * nodes.density[i]);
  };
  each([&](Index node, Index i, double density) {
    labels.emplace_back(density, nodes.weight[node] * nodes.w[i]);
  });
  const double rare = rare_density(std::move(labels), part);
  GroupLossNodes often = nodes;
  each([&](Index, Index i, double density) {
    if (density < rare) often.w[i] = 0;
  });
  const double all = group_loss_averages(loss, *found.nodes, found.x).square;
  if (all - group_loss_averages(loss, often, found.x).square < small_part * all) return false;
  GroupLossFound moved = found;
  moved.nodes = &often;
  double by = 0;
  for (int pass = 0; pass < 3; ++pass) by = newton_step(loss, map, moved);
  const LossObservables with = group_loss_observables(loss, *found.nodes, found.x),
                        without = group_loss_observables(loss, *found.nodes, moved.x);
  return !(by < 3) || shows(with.classification_error, without.classification_error) ||
         shows(with.test_loss, without.test_loss);
}

/// As rare_share: of a loss without slack, the share of E mu1_g^2 g^2 or E mu2_g^2 g^2 that is made
/// where that is a million times its mean.
inline double rare_share(const Loss& loss, const GroupLossNodes& nodes, const dense::Vector& x) {
  using V = LossLanes;
  const GroupLossLayout& l = nodes.layout;
  std::vector<int> squares;
  for (int g = 0; g < l.groups; ++g)
    for (const int i : {index(l.groups, g, g), l.pairs() + g}) squares.push_back(i);
  const dense::Vector mean = group_loss_averages(loss, nodes, x).value.segment(l.q(), l.packed());
  std::vector<double> share(squares.size(), 0.0);
  for (Index node = 0; node < nodes.size; ++node) {
    const GroupLossField field = group_field_at(nodes, node, x);
    const double* const e = &nodes.e[node * l.packed()];
    with_across(l.across, [&](auto count) {
      each_atom<decltype(count)::value>(nodes, node, field, [&](const V* w, V f, V sign, V target) {
        const V gg =
            moments_of(loss, loss.kappa + field.v, std::sqrt(field.variance), target - sign * f).gg;
        for (std::size_t j = 0; j < squares.size(); ++j)
          for (int lane = 0; lane < 8; ++lane)
            if (const double times = e[squares[j]] / mean(squares[j]) * gg[lane]; times > 1e6)
              share[j] += nodes.weight[node] * w[0][lane] * times;
      });
    });
  }
  return *std::max_element(share.begin(), share.end());
}

}  // namespace detail

}  // namespace srfx
