// The coefficients of K groups of neurons on shared rules in k, and how many nodes a point needs (THEORY sections 2 and 7).
//
// A rule is chosen by the size of V/pi as in levels.hpp, by sums over the groups; since V has K (K + 3)/2 numbers, no family of
// them bounds the error at a point: every solution is probed on a denser rule too (groups.hpp).
#pragma once

#include "srfx/solve/group_equations.hpp"
#include "srfx/bulk/group_parameters.hpp"
#include "srfx/gaussian/k_rules.hpp"
#include "srfx/data/levels.hpp"

#include <array>
#include <memory>
#include <optional>

namespace srfx {

/// Gathers the first `n` nodes of the groups' levels.
inline GroupNodes gather_nodes(const std::vector<Level>& levels, Index n) {
  GroupNodes out;
  const int k = out.groups = static_cast<int>(levels.size());
  out.pairs = k * (k + 1) / 2, out.packed = out.pairs + k;
  out.stride = (out.packed + 3) / 4 * 4 + 4;
  out.size = n;
  out.e.assign(n * out.stride, 0.0);
  out.mean_e.assign(out.packed, 0.0);
  out.rms_mu0.assign(k, 0.0);
  out.mu0.resize(n * k), out.mu1.resize(n * k), out.kmu1.resize(n * k);
  double mass = 0;
  for (Index i = 0; i < n; ++i) mass += levels[0].nodes[i].weight;
  for (Index i = 0; i < n; ++i) {
    const Node& first = levels[0].nodes[i];
    const double weight = first.weight / mass;
    out.k.push_back(levels[0].k[i]);
    out.weight.push_back(weight);
    out.h.push_back(first.h), out.h1.push_back(first.h1), out.rest.push_back(first.rest);
    out.target_square += weight * first.hh;
    double* const e = &out.e[i * out.stride];
    for (int g = 0; g < k; ++g) {
      const Node& node = levels[g].nodes[i];
      out.mu0[i * k + g] = node.mu0, out.mu1[i * k + g] = node.mu1, out.kmu1[i * k + g] = node.kmu1;
      out.rms_mu0[g] += weight * node.mu0 * node.mu0;
      for (int h = g; h < k; ++h) e[detail::index(k, g, h)] = node.mu1 * levels[h].nodes[i].mu1;
      e[out.pairs + g] = node.u2;
    }
    for (int j = 0; j < out.packed; ++j) out.mean_e[j] += weight * e[j];
  }
  for (double& x : out.rms_mu0) x = std::sqrt(x);

  // The mean functions, made orthonormal one by one, the largest that is left first; what is left of none is dropped.
  Eigen::MatrixXd left(n, k), combination = Eigen::MatrixXd::Identity(k, k);
  for (Index i = 0; i < n; ++i)
    for (int g = 0; g < k; ++g) left(i, g) = std::sqrt(out.weight[i]) * out.mu0[i * k + g];
  for (int g = 0; g < k; ++g) {
    if (out.rms_mu0[g] == 0) continue;
    left.col(g) /= out.rms_mu0[g];
    combination.col(g) /= out.rms_mu0[g];
  }
  std::vector<int> order;
  std::vector<bool> used(k, false);
  constexpr double distinct = 1e-12;
  while (static_cast<int>(order.size()) < k) {
    int best = -1;
    double most = distinct;
    for (int g = 0; g < k; ++g)
      if (!used[g] && left.col(g).norm() > most) best = g, most = left.col(g).norm();
    if (best < 0) break;
    for (int pass = 0; pass < 2; ++pass)
      for (int j : order) {
        const double overlap = left.col(j).dot(left.col(best));
        left.col(best) -= overlap * left.col(j);
        combination.col(best) -= overlap * combination.col(j);
      }
    const double norm = left.col(best).norm();
    left.col(best) /= norm;
    combination.col(best) /= norm;
    used[best] = true;
    for (int g = 0; g < k; ++g) {
      if (used[g]) continue;
      const double overlap = left.col(best).dot(left.col(g));
      left.col(g) -= overlap * left.col(best);
      combination.col(g) -= overlap * combination.col(best);
    }
    order.push_back(best);
  }
  out.rank = static_cast<int>(order.size());
  out.basis.resize(n * out.rank);
  out.to_m.resize(k * out.rank);
  for (int c = 0; c < out.rank; ++c) {
    for (Index i = 0; i < n; ++i)
      out.basis[i * out.rank + c] = left(i, order[c]) / std::sqrt(out.weight[i]);
    for (int g = 0; g < k; ++g) out.to_m[g * out.rank + c] = combination(g, order[c]);
  }
  return out;
}

/// The rules in k of one set of groups: trapezoidal rungs, then panels, each denser than the last.
class GroupTable {
 public:
  static constexpr int n_rungs = KRules::n_trapezoid + KRules::n_panels, last_checked = n_rungs - 2;

  GroupTable(const Function& sigma, const Function& target, const GroupParameters& p,
             CoefficientScratch& scratch)
      : pi_(p.pi) {
    coefficients_.reserve(p.r.size());
    for (std::size_t g = 0; g < p.r.size(); ++g) {
      coefficients_.emplace_back(sigma, target, SpikeParameters{p.r[g], p.c[g], p.gamma}, scratch);
      error_ = std::max(error_, coefficients_[g].error());
    }
    rules_.emplace(coefficients_.data(), coefficients_.size());
    double scale = infinity;
    for (const Coefficients& c : coefficients_) scale = std::min(scale, c.sigma_scale());
    const Coefficients& first = coefficients_[0];
    if (scale < 0.12 || (!first.target_shape().smooth && first.target_scale() < 0.25))
      first_ = KRules::n_trapezoid;
  }

  /// Estimated error of the coefficients.
  double error() const { return error_; }
  const std::vector<Coefficients>& coefficients() const { return coefficients_; }

  /// A coarse rule, on which V is found well enough to start from.
  const GroupNodes& starter() {
    if (starter_.size == 0) {
      const std::vector<Level>& levels = rung(first_);
      Index n = levels[0].size();
      while (n > 1 && std::abs(levels[0].k[n - 1]) > 7) --n;
      starter_ = gather_nodes(levels, n);
    }
    return starter_;
  }

  /// The class of a point: sizes of V2/pi, powers of eight.
  static int class_of(double size) { return srfx::class_of(size, size) / n_shapes; }

  /// The first rung that serves the class as far as sums over the groups tell.
  int rung_of(int cls) {
    int& found = found_[cls];
    if (found >= 0) return found;
    const double tolerance = std::max(3e-14, 3e-12 / (1 + std::pow(8.0, 0.5 * cls) / 16));
    double best = infinity;
    for (int i = first_; i <= last_checked; ++i) {
      if (i == KRules::n_trapezoid - 1) continue;  // the next is of another kind
      const double error = difference(look(i, cls), look(i + 1, cls));
      if (error < best) best = error, found = i;
      if (error <= tolerance) break;
    }
    if (found < 0) found = last_checked;
    return found;
  }
  /// The rung to try after this one; -1 after the last.
  static int next(int i) {
    return i == KRules::n_trapezoid - 2 ? KRules::n_trapezoid : i < last_checked ? i + 1 : -1;
  }

  /// All nodes of a rung, one level a group.
  const std::vector<Level>& rung(int i) {
    std::vector<Level>& out = rungs_[i];
    if (out.empty()) {
      const bool panels = i >= KRules::n_trapezoid;
      const Rule rule =
          panels ? rules_->panels(i - KRules::n_trapezoid) : rules_->trapezoid(i, 0, KRules::limit);
      out.resize(coefficients_.size());
      for (std::size_t g = 0; g < out.size(); ++g) coefficients_[g].append(rule, out[g]);
    }
    return out;
  }
  /// The nodes of a rung that matter to a class.
  const GroupNodes& nodes(int i, int cls) {
    std::unique_ptr<GroupNodes>& out = nodes_[i * n_sizes + cls];
    if (!out) out = std::make_unique<GroupNodes>(gather_nodes(rung(i), look(i, cls).cut));
    return *out;
  }
  /// Panels a quarter (coarse: half) of their usual width, |k| up to `range`.
  GroupNodes dense(double range, bool coarse) {
    const std::vector<Level>& levels = rung(KRules::n_trapezoid + (coarse ? 3 : 4));
    Index n = 0;
    while (n < levels[0].size() && std::abs(levels[0].k[n]) <= range) ++n;
    return gather_nodes(levels, n);
  }

 private:
  using V = simd::Lanes<double, 8>;
  static constexpr int n_sums = 17;
  static constexpr double tail = 1e-14;

  /// The averages at the corners (V2, V1) = (1, ratio) pi 8^i of a class, V1 diagonal.
  struct Look {
    std::array<V, n_sums> sums;
    Index cut = 0;
  };

  const Look& look(int i, int cls) {
    std::unique_ptr<Look>& out = looks_[i * n_sizes + cls];
    if (out) return *out;
    out = std::make_unique<Look>();
    const std::vector<Level>& levels = rung(i);
    V v2, ratio;
    for (int lane = 0; lane < V::size; ++lane) {
      v2.set(lane, std::ldexp(1.0, 3 * std::max(0, cls - 1 + lane / n_edges)));
      ratio.set(lane, ratio_edge[lane % n_edges]);
    }
    std::array<V, n_sums> term, left;
    out->sums.fill(V(0.0));
    const Index n = levels[0].size();
    for (Index node = 0; node < n; ++node) {
      terms(levels, node, v2, ratio, term);
      for (int q = 0; q < n_sums; ++q) out->sums[q] += term[q];
    }
    for (int q = 0; q < n_sums; ++q) left[q] = V(tail) * out->sums[q];
    out->cut = n;
    while (out->cut > 1) {
      terms(levels, out->cut - 1, v2, ratio, term);
      auto inside = V(0.0) <= V(0.0);
      for (int q = 0; q < n_sums; ++q) {
        left[q] -= term[q];
        inside = inside & (left[q] >= V(0.0));
      }
      if (!simd::all(inside)) break;
      --out->cut;
    }
    return *out;
  }

  void terms(const std::vector<Level>& levels, Index i, V v2, V ratio,
             std::array<V, n_sums>& out) const {
    double u1 = 0, u2 = 0, mean = 0, spike = 0;
    for (std::size_t g = 0; g < levels.size(); ++g) {
      const Node& node = levels[g].nodes[i];
      u1 += pi_[g] * node.u1, u2 += pi_[g] * node.u2;
      mean += pi_[g] * node.mu0 * node.mu0, spike += pi_[g] * node.kmu1 * node.kmu1;
    }
    const Node& node = levels[0].nodes[i];
    const V w = V(1) / (V(1) + v2 * (V(u2) + ratio * V(u1)));
    const V weight(node.weight), ww = weight * w, w2 = ww * w, hh(node.hh);
    out[0] = ww * V(u1), out[1] = ww * V(u2), out[2] = w2 * V(u1 * u1), out[3] = w2 * V(u2 * u2);
    out[4] = ww * V(mean), out[5] = ww * V(spike), out[6] = ww * hh, out[7] = weight * hh;
    out[8] = w2 * hh, out[9] = w2, out[10] = weight * V(u1), out[11] = weight * V(u2);
    out[12] = weight * V(mean), out[13] = weight * V(spike), out[14] = w2 * V((u1 + u2) * mean),
    out[15] = w2 * V((u1 + u2) * spike);
    out[16] = w2 * V(u1 + u2) * hh;
  }

  static double difference(const Look& a, const Look& b) {
    double worst = 0;
    for (int q = 0; q < n_sums; ++q)
      for (int lane = 0; lane < V::size; ++lane)
        if (b.sums[q][lane] > 1e-280)
          worst = std::max(worst, std::abs(a.sums[q][lane] - b.sums[q][lane]) / b.sums[q][lane]);
    return worst;
  }

  std::vector<double> pi_;
  std::vector<Coefficients> coefficients_;
  std::optional<KRules> rules_;
  double error_ = 0;
  int first_ = 0;
  GroupNodes starter_;
  std::array<int, n_sizes> found_ = [] {
    std::array<int, n_sizes> none{};
    none.fill(-1);
    return none;
  }();
  std::array<std::vector<Level>, n_rungs> rungs_;
  std::array<std::unique_ptr<GroupNodes>, n_rungs * n_sizes> nodes_;
  std::array<std::unique_ptr<Look>, n_rungs * n_sizes> looks_;
};

}  // namespace srfx
