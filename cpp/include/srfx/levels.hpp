// How many nodes in k a point needs.
//
// A ladder of rules in k, each denser than the last, is climbed until the averages that the equations are made of agree
// between a rule and the next. The integrands depend on the point through w(k) = 1/(1 + u1 V1 + u2 V2) alone, and V <=
// 1/lam: so the rule is chosen by the coefficients and by the class of lam (a factor of 8 a class), never by the batch a
// point came in. The difference between the chosen rule and the next is the error estimate that users see.
#pragma once

#include "coefficients.hpp"
#include "equations.hpp"

#include <cmath>
#include <deque>
#include <vector>

namespace srfx {

/// Classes of lam: class j holds 8^-j <= lam < 8^(1-j); class 0 all lam >= 1.
inline constexpr int n_lam_classes = 20;
inline int lam_class(double lam) {
  if (lam >= 1) return 0;
  const int exponent = -std::ilogb(lam);  // lam >= 2^-exponent
  return std::min((exponent + 2) / 3, n_lam_classes - 1);
}

/// A prefix of the nodes of one level.
struct Selection {
  const Level* level = nullptr;
  int rung = 0;
  Index size = 0;
  double error = 0;  ///< estimated relative error of the averages, coefficients included
};

class LevelLadder {
 public:
  static constexpr double tolerance = 1e-12;  ///< of the averages
  static constexpr double tail = 1e-14;       ///< mass of the nodes left out beyond a cut
  static constexpr double limit = 12;         ///< |k| at most

  explicit LevelLadder(Coefficients& coefficients) : coefficients_(&coefficients), panels_(needs_panels()) {}

  /// Builds what points of classes 0 .. top need.
  void build(int top) {
    top_ = top;
    climb();
    if (!panels_ && best_.back().error > tolerance) {  // the trapezoid did not settle: panels do
      panels_ = true;
      levels_.clear();
      climb();
    }
  }

  /// The rule for a class of lam, after build(top >= its class).
  Selection select(int cls) const { return best_[cls]; }
  Index size() const { return static_cast<Index>(levels_.size()); }
  const Level& level(Index i) const { return levels_[i]; }
  bool panels() const { return panels_; }

 private:
  using V = simd::Lanes<double, 8>;
  static constexpr int n_sums = 15;

  /// The averages at one level, for the pairs V = (t, t) and (0, t), t = 8^class: lane 2 class + {0, 1}.
  struct Probe {
    std::vector<std::array<V, n_sums>> sums;
    std::vector<Index> cut;  ///< for each class: nodes beyond it have less than `tail` of every sum
  };

  const SpikeParameters& p() const { return coefficients_->parameters(); }
  double sigma_scale() const { return p().r == 0 ? infinity : std::sqrt(p().c) / std::abs(p().r); }
  double target_scale() const { return p().gamma == 0 ? infinity : p().rho() / std::abs(p().gamma); }

  bool needs_panels() const {
    const bool rough_target = !coefficients_->target_shape().smooth;
    return sigma_scale() < 0.12 || (rough_target && target_scale() < 0.25);
  }

  /// Rung `i` of the ladder.
  Rule rule(int i) const {
    Rule out;
    const bool folded = coefficients_->folded();
    if (!panels_) {
      const double h = 0.62 * std::min(1.0, 1.6 * sigma_scale()) * std::pow(2.0, -0.5 * i);
      out.push_trapezoid(h, limit, true);
    } else {
      static constexpr int orders[] = {8, 12, 16, 16, 16, 16, 16};
      static constexpr double widths[] = {1, 1, 1, 0.5, 0.25, 0.125, 0.0625};
      push_graded(out, orders[i], widths[i]);
    }
    if (!folded && !panels_) {
      Rule both;
      for (Index j = 0; j < out.size(); ++j) both.push(out.x[j], 0.5 * out.w[j]), both.push(-out.x[j], 0.5 * out.w[j]);
      out = both;
    }
    return out;
  }
  int n_rungs() const { return panels_ ? 7 : 9; }

  /// Panels with edges where a coefficient is not smooth, narrow where it changes fast, ordered by |k|.
  void push_graded(Rule& out, int order, double width) const {
    const bool folded = coefficients_->folded();
    struct Centre {
      double at, scale;
    };
    std::vector<Centre> centres;
    const auto add = [&](const Shape& shape, double slope, double scale) {
      if (slope == 0 || scale > 1) return;
      for (double kink : shape.kinks) centres.push_back({kink / slope, scale});
      if (shape.kinks.empty() && scale < 1) centres.push_back({0, scale});
    };
    add(coefficients_->sigma_shape(), p().r, sigma_scale());
    add(coefficients_->target_shape(), p().gamma, coefficients_->target_shape().smooth ? infinity : target_scale());
    if (folded) {  // the mirror image of each centre too
      const std::size_t n = centres.size();
      for (std::size_t i = 0; i < n; ++i) centres.push_back({-centres[i].at, centres[i].scale});
    }
    const double reach = 9;
    std::vector<double> edges{folded ? 0.0 : -limit, limit};
    if (!folded) edges.push_back(0);
    for (const Centre& c : centres)
      for (double edge : {c.at, c.at - reach * c.scale, c.at + reach * c.scale})
        if (edge > (folded ? 0 : -limit) && edge < limit) edges.push_back(edge);
    std::sort(edges.begin(), edges.end());
    for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
      const double middle = 0.5 * (edges[i] + edges[i + 1]);
      double local = 1;
      for (const Centre& c : centres)
        if (c.scale > 0 && std::abs(middle - c.at) < reach * c.scale) local = std::min(local, c.scale);
      out.push_panels(edges[i], edges[i + 1], width * local, order);
    }
    if (folded) {
      for (double& w : out.w) w *= 2;
    } else {
      std::vector<Index> by_size(out.size());
      for (Index i = 0; i < out.size(); ++i) by_size[i] = i;
      std::sort(by_size.begin(), by_size.end(), [&](Index a, Index b) { return std::abs(out.x[a]) < std::abs(out.x[b]); });
      Rule sorted;
      for (Index i : by_size) sorted.push(out.x[i], out.w[i]);
      out = sorted;
    }
  }

  void climb() {
    best_.assign(top_ + 1, Selection{});
    Probe coarse, fine;
    int settled = 0;  // classes below this have their rule
    for (int rung = 0; rung < n_rungs() && settled <= top_; ++rung) {
      if (static_cast<int>(levels_.size()) == rung) {
        levels_.emplace_back();
        coefficients_->fill(rule(rung), levels_.back());
      }
      probe(levels_[rung], fine);
      if (rung > 0) {
        double worst = 0;
        Index cut = 0;
        for (int cls = 0; cls <= top_; ++cls) {
          worst = std::max({worst, difference(coarse, fine, 2 * cls), difference(coarse, fine, 2 * cls + 1)});
          cut = std::max(cut, coarse.cut[cls]);
          if (cls < settled) continue;
          const double error = worst + coefficients_->error();
          if (best_[cls].level == nullptr || error < best_[cls].error) best_[cls] = {&levels_[rung - 1], rung - 1, cut, error};
          if (worst <= tolerance && settled == cls) settled = cls + 1;
        }
      }
      std::swap(coarse, fine);
    }
  }

  void probe(const Level& level, Probe& out) const {
    const int n_packs = (2 * (top_ + 1) + V::size - 1) / V::size;
    out.sums.assign(n_packs, {});
    out.cut.assign(top_ + 1, 0);
    for (int pack = 0; pack < n_packs; ++pack) {
      V v1, v2;
      for (int lane = 0; lane < V::size; ++lane) {
        const double t = std::ldexp(1.0, 3 * ((pack * V::size + lane) / 2));
        v2.set(lane, t);
        v1.set(lane, lane % 2 == 0 ? t : 0.0);
      }
      std::array<V, n_sums>& total = out.sums[pack];
      total.fill(V(0.0));
      std::array<V, n_sums> term;
      for (const Node& node : level.nodes) {
        terms(node, v1, v2, term);
        for (int q = 0; q < n_sums; ++q) total[q] += term[q];
      }
      // Leave out the tail: walk inwards until some sum (the first twelve are positive) would miss it.
      std::array<V, n_sums> missed;
      missed.fill(V(0.0));
      std::array<bool, V::size> open;
      open.fill(true);
      int n_open = V::size;
      for (Index i = level.size(); i-- > 0 && n_open > 0;) {
        terms(level.nodes[i], v1, v2, term);
        auto over = V(0.0) > V(0.0);
        for (int q = 0; q < n_positive; ++q) {
          missed[q] += term[q];
          over = over | (missed[q] > V(tail) * total[q]);
        }
        for (int lane = 0; lane < V::size; ++lane)
          if (open[lane] && over[lane]) {
            open[lane] = false;
            --n_open;
            const int cls = (pack * V::size + lane) / 2;
            if (cls <= top_) out.cut[cls] = std::max(out.cut[cls], i + 1);
          }
      }
    }
  }

  static constexpr int n_positive = 12;
  static void terms(const Node& node, V v1, V v2, std::array<V, n_sums>& out) {
    const V w = V(1) / (V(1) + V(node.u1) * v1 + V(node.u2) * v2);
    const V ww = V(node.weight) * w, w2 = ww * w;
    const V u1(node.u1), u2(node.u2), hh(node.hh);
    out[0] = ww * u1;
    out[1] = ww * u2;
    out[2] = w2 * u1 * u1;
    out[3] = w2 * u2 * u2;
    out[4] = ww * V(node.mu0 * node.mu0);
    out[5] = ww * V(node.kmu1 * node.kmu1);
    out[6] = ww * V(node.h * node.h);
    out[7] = ww * V(node.h1 * node.h1);
    out[8] = ww * V(node.rest);
    out[9] = V(node.weight) * hh;
    out[10] = w2 * u1 * hh;
    out[11] = w2 * u2 * hh;
    out[12] = ww * V(node.mu0 * node.h);
    out[13] = ww * V(node.kmu1 * node.h);
    out[14] = ww * V(node.mu1 * node.h1);
  }

  /// Largest relative difference of the sums in one lane.
  static double difference(const Probe& a, const Probe& b, int index) {
    const auto& x = a.sums[index / V::size];
    const auto& y = b.sums[index / V::size];
    const int lane = index % V::size;
    const auto scale = [&](int q) {
      switch (q) {
        case 7: case 8: return y[6][lane] + y[7][lane] + y[8][lane];
        case 12: return std::sqrt(y[4][lane] * y[6][lane]);
        case 13: return std::sqrt(y[5][lane] * y[6][lane]);
        case 14: return std::sqrt(y[0][lane] * y[7][lane]);
        default: return y[q][lane];
      }
    };
    double worst = 0;
    for (int q = 0; q < n_sums; ++q) {
      const double size = scale(q);
      if (size > 1e-280) worst = std::max(worst, std::abs(x[q][lane] - y[q][lane]) / size);
    }
    return worst;
  }

  Coefficients* coefficients_;
  bool panels_;
  int top_ = 0;
  std::deque<Level> levels_;
  std::vector<Selection> best_;
};

}  // namespace srfx
