// Rules in k for several spikes, ever denser, and the target's averages on them (THEORY section
// 13).
//
// Each k'_j (directions.hpp) has the trapezoidal rule, whose step follows the narrowest of what
// depends on it, or, where t'_j = k'_j and the target has kinks, panels between the edges at the k'
// before it. A rung is their product, |k| <= limit.
#pragma once

#include "srfx/gaussian/target_averages.hpp"

#include <numeric>
#include <string>

namespace srfx {

class SpikeRules {
 public:
  static constexpr double limit = 9.5;  ///< |k| at most
  static constexpr int max_spikes = 3, most_rungs = 14;

  /// `scale`: on which the averages of the activation change in k, at least.
  SpikeRules(const TargetFunction& target, const dense::Matrix& alignment, double scale)
      : target_(&target),
        directions_(alignment) {
    const int spikes = directions_.spikes();
    if (spikes > max_spikes)
      throw std::domain_error("spikes must span at most " + std::to_string(max_spikes) +
                              " directions; these span " + std::to_string(spikes));
    const bool kinked = !target.shape().smooth();
    double nodes = 1;
    for (int j = 0; j < spikes; ++j) {
      const bool seen = j < directions_.directions();
      double own = std::min(1.0, 1.6 * scale);
      edged_.push_back(kinked && seen && directions_.rho[j] == 0);
      if (kinked && seen && directions_.rho[j] > 0)
        own = std::min(own, 1.6 * directions_.rho[j] / directions_.gamma[j]);
      step_.push_back((edged_[j] ? 2.4 : coarsest) * own);
      nodes *= 2 * limit / step_[j] * (edged_[j] ? panel_order + 8 : 1);
    }
    // Of a ball: all but its corners.
    const double share[] = {1, 1, 0.79, 0.53};
    nodes *= share[spikes];
    n_rungs_ = 0;
    while (n_rungs_ < most_rungs && nodes < most_nodes) {
      ++n_rungs_;
      nodes *= std::pow(ratio, -spikes);
    }
    if (n_rungs_ < 2)
      throw std::domain_error(
          "spikes must be weaker beside the bulk, or the target smoother: the coefficients change "
          "on a scale that would take more than " +
          std::to_string(static_cast<int>(most_nodes)) + " nodes");
  }

  int n_rungs() const { return n_rungs_; }
  const Directions& directions() const { return directions_; }
  /// Whether nodes come with their mirror images: node i of a rung is minus node size - 1 - i.
  bool symmetric() const {
    return std::none_of(edged_.begin(), edged_.end(), [](bool x) { return x; });
  }

  /// The product of the rules, corners included.
  TargetTable rung(int i) const {
    const double finer = std::pow(ratio, i);
    // Coarse rungs need no better averages than they are themselves.
    const double density = std::min(0.9 * std::pow(1.06, i), 0.5 * std::pow(1.17, i));
    TargetAverages averages(*target_, directions_, density);
    if (averages.cost(2 * limit / (step_[0] * finer)) > most_values)
      throw std::domain_error(
          "target must have fewer directions or kinks: its averages would take more than " +
          std::to_string(static_cast<int>(most_values)) + " values of it");
    return averages.at([&](int axis, const std::vector<double>& edges) {
      Rule rule;
      const double step = step_[axis] * finer;
      if (!edged_[axis]) {
        rule.push_trapezoid(step, limit);
      } else {
        std::vector<double> ends{-limit, limit};
        for (double edge : edges)
          if (std::abs(edge) < limit) ends.push_back(edge);
        std::sort(ends.begin(), ends.end());
        for (std::size_t e = 0; e + 1 < ends.size(); ++e)
          rule.push_panels(ends[e], ends[e + 1], step, panel_order);
      }
      rule.finish();
      return rule;
    });
  }

 private:
  static constexpr double ratio = 0.85, coarsest = 0.68, most_nodes = 6e4, most_values = 2e8;
  static constexpr int panel_order = 12;

  const TargetFunction* target_;
  Directions directions_;
  std::vector<bool> edged_;
  std::vector<double> step_;
  int n_rungs_;
};

}  // namespace srfx
