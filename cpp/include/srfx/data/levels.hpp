// How many nodes in k a point needs.
//
// A ladder of rules in k, each denser than the last, is climbed until the averages that the
// equations are made of agree between a rule and the next. The integrands depend on the point
// through w(k) = 1/(1 + u1 V1 + u2 V2) alone, so points are put into classes of (V2, V1/V2) and
// every class has its rule: what a point gets depends on the point, never on the batch it came in.
// The difference between the chosen rule and the next is the error estimate that users see.
#pragma once

#include "srfx/gaussian/coefficients.hpp"
#include "srfx/data/equations.hpp"
#include "srfx/gaussian/k_rules.hpp"

#include <array>
#include <cmath>
#include <cstring>
#include <deque>
#include <vector>

namespace srfx {

/// Classes of points: size i holds 8^(i-1) < V2 <= 8^i (size 0 all V2 <= 1); shape m the ratios
/// V1/V2, of which (0, 1] is all there is (bulk.hpp: y1 <= y2), from ratio_edge[m + 1] to
/// ratio_edge[m]. A class is a rectangle; a rule serves it if it serves its corners.
inline constexpr int n_sizes = 20, n_shapes = 3, n_classes = n_sizes * n_shapes,
                     n_edges = n_shapes + 1;
inline constexpr double ratio_edge[n_edges] = {1, 0.25, 1.0 / 32, 0};

inline int class_of(double v1, double v2) {
  int size = 0;
  if (v2 > 1) {
    std::int64_t bits;
    std::memcpy(&bits, &v2, sizeof bits);
    size = std::min((static_cast<int>(bits >> 52) - 1023 + 3) / 3, n_sizes - 1);  // of the exponent
  }
  int shape = 0;
  while (shape + 1 < n_shapes && v1 < ratio_edge[shape + 1] * v2) ++shape;
  return size * n_shapes + shape;
}

/// The rule of a class: the first nodes of a rung.
struct Selection {
  const Level* level = nullptr;
  int rung = 0;
  Index size = 0;    ///< nodes of the rung that matter
  double error = 0;  ///< estimated relative error of the averages, coefficients included
  NodeSet nodes;     ///< those nodes
};

/// One kind of rule in k, ever denser: the rungs, and the averages seen on them.
class Ladder {
 public:
  Ladder(Coefficients& coefficients, bool panels)
      : coefficients_(&coefficients),
        panels_(panels),
        rules_(coefficients) {
    // E[u2 C^2] of two polynomials of degree 6 reaches degree 22: 9.5 is far enough for flat or
    // linear functions only.
    if (std::max(coefficients.sigma_shape().growth, coefficients.target_shape().growth) > 1)
      near_ = limit;
  }

  int n_rungs() const { return panels_ ? KRules::n_panels : KRules::n_trapezoid; }

  /// The nodes of a rung, up to |k| = 12 or, where that is far enough, a shorter range.
  const Level& level(int rung, bool full = true) {
    while (static_cast<int>(rungs_.size()) <= rung) rungs_.emplace_back();
    Rung& out = rungs_[rung];
    if (out.reach == 0) {
      const Rule nodes = rule(rung, 0, panels_ ? limit : near_);
      coefficients_->append(nodes, out.level);
      out.near_size = panels_ ? count_within(out.level, near_) : out.level.size();
      out.reach = panels_ ? limit : near_;
    }
    if (full && out.reach < limit) {
      coefficients_->append(rule(rung, near_, limit), out.level);
      out.reach = limit;
    }
    return out.level;
  }

  /// A rung that agrees with the next at every corner of the class, or the next itself; failing
  /// that, the best seen.
  ///
  /// For analytic integrands the error of the trapezoid at step h is close to C exp(-b/h): two
  /// looks tell C and b, and so which rung to look at next, and how much better than a rung the
  /// next is.
  Selection find(int cls, double tolerance) {
    const int last = n_rungs() - 2;
    const auto inverse_step = [](int rung) { return std::pow(step_ratio, -rung); };
    Selection best = look(0, cls), before = best;
    for (int rung = 1; rung <= last && best.error > tolerance;) {
      const Selection here = look(rung, cls);
      if (here.error < best.error) best = here;
      int next = rung + 1;
      if (!panels_ && here.error > tolerance && here.error < 0.7 * before.error) {
        const double b =
            std::log(before.error / here.error) / (inverse_step(rung) - inverse_step(before.rung));
        const double left =
            here.error *
            std::max(1e-3, 3 * std::exp(-b * (inverse_step(rung + 1) - inverse_step(rung))));
        if (left < 0.5 * tolerance) {
          best = finer(here, cls, left);
          break;
        }
        // The rung that has half the tolerance left by this law, less one: the pair from there on
        // will show it.
        const double needed = inverse_step(rung) + std::log(here.error / (0.5 * tolerance)) / b;
        next = static_cast<int>(std::ceil(std::log(needed) / -std::log(step_ratio))) - 1;
      }
      before = here;
      rung = rung == last ? last + 1 : std::clamp(next, rung + 1, std::min(rung + 6, last));
    }
    while (!panels_ && best.rung > 0 && best.error < 0.01 * tolerance) {  // further than needed
      const Selection shorter = look(best.rung - 1, cls);
      if (shorter.error > tolerance) break;
      best = shorter;
    }
    return best;
  }

 private:
  using V = simd::Lanes<double, 8>;
  static_assert(2 * n_edges == V::size && n_sizes % 2 == 0);
  static constexpr int n_sums = 23, n_positive = 20;
  static constexpr double tail =
      1e-14;  ///< share of every average that the nodes beyond a cut may hold
  static constexpr double limit = KRules::limit;  ///< |k| at most ...
  static constexpr int near_size =
      5;  ///< ... and near_ for V2 <= 8^near_size, where the weights w differ by less
  static constexpr double step_ratio = KRules::step_ratio;

  /// The averages at eight corners (V1, V2) = (ratio_edge[m], 1) 8^i: i = 2 pack and 2 pack + 1,
  /// all edges m.
  struct Probe {
    int pack;
    std::array<V, n_sums> sums;
    std::array<Index, V::size> cut;
  };
  struct Rung {
    Level level;
    double reach = 0;          ///< |k| covered so far
    Index near_size = 0;       ///< nodes with |k| <= near_
    std::deque<Probe> probes;  ///< of the packs asked for so far
  };

  static Index count_within(const Level& level, double range) {
    Index n = 0;
    while (n < level.size() && std::abs(level.k[n]) <= range) ++n;
    return n;
  }

  /// Calls f(corner) for each corner of a class.
  template <class F> static void for_corners(int cls, F&& f) {
    const int size = cls / n_shapes, shape = cls % n_shapes;
    for (int i = std::max(0, size - 1); i <= size; ++i)
      for (int m = shape; m <= shape + 1; ++m) f(i * n_edges + m);
  }

  Selection look(int rung, int cls) {
    double error = 0;
    Index cut = 0;
    for_corners(cls, [&](int corner) {
      const Probe& coarse = probe(rung, corner / V::size);
      const Probe& fine = probe(rung + 1, corner / V::size);
      error = std::max(error, difference(coarse, fine, corner % V::size));
      cut = std::max(cut, coarse.cut[corner % V::size]);
    });
    return {&rungs_[rung].level, rung, cut, error, {}};
  }

  /// The rung after one looked at.
  Selection finer(const Selection& looked_at, int cls, double error) {
    const int rung = looked_at.rung + 1;
    Index cut = 0;
    for_corners(cls, [&](int corner) {
      cut = std::max(cut, probe(rung, corner / V::size).cut[corner % V::size]);
    });
    return {&rungs_[rung].level, rung, cut, error, {}};
  }

  /// Rung `i` on from < |k| <= to, ordered by |k|.
  Rule rule(int i, double from, double to) const {
    return panels_ ? rules_.panels(i) : rules_.trapezoid(i, from, to);
  }

  const Probe& probe(int rung, int pack) {
    const bool full = 2 * pack + 1 > near_size;
    const Level& on = level(rung, full);
    std::deque<Probe>& seen = rungs_[rung].probes;
    for (const Probe& probe : seen)
      if (probe.pack == pack) return probe;
    seen.emplace_back();
    Probe& out = seen.back();
    out.pack = pack;
    V v1, v2;
    for (int lane = 0; lane < V::size; ++lane) {
      v2.set(lane, std::ldexp(1.0, 3 * (2 * pack + lane / n_edges)));
      v1.set(lane, ratio_edge[lane % n_edges] * v2[lane]);
    }
    const Index n = full ? on.size() : rungs_[rung].near_size;
    out.sums.fill(V(0.0));
    std::array<V, n_sums> term;
    for (Index i = 0; i < n; ++i) {
      terms(on.nodes[i], v1, v2, term);
      for (int q = 0; q < n_sums; ++q) out.sums[q] += term[q];
    }
    // Leave out the tail: walk inwards until some average (of the positive ones) would miss it.
    std::array<V, n_positive> left;
    for (int q = 0; q < n_positive; ++q) left[q] = V(tail) * out.sums[q];
    auto open = V(0.0) <= V(0.0);
    out.cut.fill(0);
    for (Index i = n; i-- > 0 && simd::any(open);) {
      terms(on.nodes[i], v1, v2, term);
      auto inside = V(0.0) <= V(0.0);
      for (int q = 0; q < n_positive; ++q) {
        left[q] -= term[q];
        inside = inside & (left[q] >= V(0.0));
      }
      const auto closing = open & !inside;
      if (simd::any(closing))
        for (int lane = 0; lane < V::size; ++lane)
          if (closing[lane]) out.cut[lane] = i + 1;
      open = open & inside;
    }
    return out;
  }

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
    out[8] = ww * V(node.rest + node.across);
    out[9] = V(node.weight) * hh;
    out[10] = w2 * u1 * hh;
    out[11] = w2 * u2 * hh;
    out[12] = w2;
    out[13] = V(node.weight * node.u1);  // the test error averages without w
    out[14] = V(node.weight * node.u2);
    out[15] = V(node.weight * node.mu0 * node.mu0);
    out[16] = V(node.weight * node.kmu1 * node.kmu1);
    out[17] = w2 * (u1 + u2) * V(node.mu0 * node.mu0);
    out[18] = w2 * (u1 + u2) * V(node.kmu1 * node.kmu1);
    out[19] = w2 * hh;  // the training error
    out[20] = ww * V(node.mu0 * node.h);
    out[21] = ww * V(node.kmu1 * node.h);
    out[22] = ww * V(node.mu1h1);
  }

  /// Largest relative difference of the averages in one lane.
  static double difference(const Probe& a, const Probe& b, int lane) {
    const auto at = [lane](const Probe& probe, int q) { return probe.sums[q][lane]; };
    const double target = at(b, 6) + at(b, 7) + at(b, 8);  // E[w s*^2]: its parts may vanish
    double worst = 0;
    for (int q = 0; q < n_sums; ++q) {
      double scale = at(b, q);
      if (q == 6 || q == 7 || q == 8) scale = target;
      // Of mixed signs, and small where sigma and the target have little in common: against a part
      // of the norms.
      if (q == 20) scale = std::max(std::abs(scale), 0.01 * std::sqrt(at(b, 4) * target));
      if (q == 21) scale = std::max(std::abs(scale), 0.01 * std::sqrt(at(b, 5) * target));
      if (q == 22) scale = std::max(std::abs(scale), 0.01 * std::sqrt(at(b, 0) * target));
      if (scale > 1e-280) worst = std::max(worst, std::abs(at(a, q) - at(b, q)) / scale);
    }
    return worst;
  }

  Coefficients* coefficients_;
  bool panels_;
  KRules rules_;
  double near_ = 9.5;
  std::deque<Rung> rungs_;  // elements stay where they are
};

/// The rules of one coefficient set, found as they are asked for.
class LevelTable {
 public:
  explicit LevelTable(Coefficients& coefficients)
      : coefficients_(&coefficients),
        trapezoid_(coefficients, false),
        panels_(coefficients, true),
        panels_only_(coefficients.sigma_scale() < 0.12 ||
                     (!coefficients.target_shape().smooth && coefficients.target_scale() < 0.25)) {}

  /// A coarse rule, on which V is found well enough to tell the class of a point and to start from.
  NodeSet starter() {
    const Level& level = first().level(0, false);
    Index n = level.size();
    while (n > 1 && std::abs(level.k[n - 1]) > 7) --n;
    return NodeSet(level, n);
  }

  /// The rule of a class: trapezoid where it settles, else panels.
  const Selection& find(int cls) {
    Selection& out = found_[cls];
    if (out.level != nullptr) return out;
    // The agreement asked for. Large V stand for small lam, where the threshold amplifies errors
    // like lam^(-1/2).
    const double tolerance =
        std::max(3e-14, 3e-12 / (1 + std::pow(8.0, 0.5 * (cls / n_shapes)) / 16));
    out = first().find(cls, tolerance);
    if (!panels_only_ && out.error > tolerance) {
      const Selection other = panels_.find(cls, tolerance);
      if (other.error < out.error) out = other;
    }
    out.error += coefficients_->error();
    out.nodes = NodeSet(*out.level, out.size);
    return out;
  }

  /// Panels of 16 nodes an eighth of their usual width, whatever their cost; and twice that.
  const Level& dense() { return panels_.level(5); }
  const Level& less_dense() { return panels_.level(4); }

 private:
  Ladder& first() { return panels_only_ ? panels_ : trapezoid_; }

  Coefficients* coefficients_;
  Ladder trapezoid_, panels_;
  bool panels_only_;
  std::array<Selection, n_classes> found_;
};

}  // namespace srfx
