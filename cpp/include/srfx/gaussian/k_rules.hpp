// Quadrature rules in k, ever denser: the rungs of a ladder (levels.hpp, groups.hpp).
#pragma once

#include "srfx/gaussian/coefficients.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace srfx {

/// Rungs in k for the coefficients of one or more groups that share a target: the trapezoidal rule,
/// or Gauss-Legendre panels with edges where a coefficient is not smooth and narrow where it
/// changes fast. Nodes are ordered by |k|.
class KRules {
 public:
  static constexpr double limit = 12;         ///< |k| at most
  static constexpr double step_ratio = 0.85;  ///< of the trapezoid, from one rung to the next
  static constexpr int n_trapezoid = 14, n_panels = 8;

  explicit KRules(const Coefficients& coefficients) : KRules(&coefficients, 1) {}
  KRules(const Coefficients* groups, std::size_t n)
      : KRules(groups, n, groups[0].target_shape(),
               groups[0].target_shape().smooth ? infinity : groups[0].target_scale(),
               groups[0].folded()) {}
  /// For another law of the label than the target with noise: its shape in t, the scale in k on
  /// which its average over z changes, and whether k and -k are one.
  KRules(const Coefficients& coefficients, const Shape& law, double scale, bool folded)
      : KRules(&coefficients, 1, law, scale, folded) {
    sigma_scale_ = std::min(sigma_scale_, scale);
  }
  static KRules of_law(const std::vector<Coefficients>& groups, const Shape& law, double scale) {
    KRules out(groups.data(), groups.size(), law, scale, false);
    out.sigma_scale_ = std::min(out.sigma_scale_, scale);
    return out;
  }

  /// The trapezoidal rung `i` on from < |k| <= to.
  Rule trapezoid(int i, double from, double to) const {
    Rule out;
    const double h = 0.68 * std::min(1.0, 1.6 * sigma_scale_) * std::pow(step_ratio, i);
    int first = std::max(0, static_cast<int>(std::ceil(from / h - 0.5)));
    while ((first + 0.5) * h < from) ++first;
    for (int j = first; (j + 0.5) * h < to; ++j) push(out, (j + 0.5) * h, h);
    out.paired = !folded_;
    out.step = h;
    out.first = first;
    out.finish();
    return out;
  }

  /// Rung `i` of panels, |k| <= limit.
  Rule panels(int i) const {
    static constexpr int orders[n_panels] = {8, 12, 16, 16, 16, 16, 16, 16};
    static constexpr double widths[n_panels] = {1, 1, 1, 0.5, 0.25, 0.125, 0.0625, 0.03125};
    Rule out;
    push_graded(out, orders[i], widths[i]);
    out.finish();
    return out;
  }

 private:
  struct Centre {
    double at, scale;
  };

  KRules(const Coefficients* groups, std::size_t n, const Shape& law, double scale, bool folded)
      : folded_(folded) {
    const Coefficients& first = groups[0];
    for (std::size_t g = 0; g < n; ++g) {
      sigma_scale_ = std::min(sigma_scale_, groups[g].sigma_scale());
      add(first.sigma_shape(), groups[g].parameters().r, groups[g].sigma_scale());
    }
    add(law, first.parameters().gamma, scale);
    // The nodes are mirrored: so is each centre.
    const std::size_t n_centres = centres_.size();
    for (std::size_t i = 0; i < n_centres; ++i)
      centres_.push_back({-centres_[i].at, centres_[i].scale});
  }

  void add(const Shape& shape, double slope, double scale) {
    if (slope == 0 || scale > 1) return;
    for (double kink : shape.kinks) centres_.push_back({kink / slope, scale});
    if (shape.kinks.empty() && scale < 1) centres_.push_back({0, scale});
  }

  void push_graded(Rule& out, int order, double width) const {
    const double reach = 9;
    std::vector<double> edges{0.0, limit};
    for (const Centre& c : centres_)
      for (double edge : {c.at, c.at - reach * c.scale, c.at + reach * c.scale})
        if (edge > 0 && edge < limit) edges.push_back(edge);
    std::sort(edges.begin(), edges.end());
    Rule half;
    for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
      const double middle = 0.5 * (edges[i] + edges[i + 1]);
      double local = 1;
      for (const Centre& c : centres_)
        if (c.scale > 0 && std::abs(middle - c.at) < reach * c.scale)
          local = std::min(local, c.scale);
      half.push_panels(edges[i], edges[i + 1], width * local, order);
    }
    for (Index i = 0; i < half.size(); ++i) push(out, half.x[i], half.w[i]);
    out.paired = !folded_;
  }

  /// The node k > 0 that stands for -k too, or both.
  void push(Rule& out, double k, double weight) const {
    if (folded_) out.push(k, 2 * weight);
    else out.push_pair(k, weight);
  }

  bool folded_;
  double sigma_scale_ = infinity;
  std::vector<Centre> centres_;
};

}  // namespace srfx
