// The coefficients of K groups of neurons on shared rules in k, and how many nodes a point needs
// (THEORY sections 2 and 7).
//
// Several spikes have rules of their own (spike_rules.hpp), in the frame where the target's
// averages separate.
//
// A rule is chosen by the size of V/pi as in levels.hpp, by sums over the groups; since V has K (K
// + 3)/2 numbers, no family of them bounds the error at a point: every solution is probed on a
// denser rule too (groups.hpp).
#pragma once

#include "srfx/solve/group_equations.hpp"
#include "srfx/bulk/group_parameters.hpp"
#include "srfx/gaussian/k_rules.hpp"
#include "srfx/gaussian/spike_rules.hpp"
#include "srfx/data/levels.hpp"

#include <array>
#include <memory>
#include <optional>

namespace srfx {

/// The nodes of a rung: a level for each group, and where they are in the space of the spikes,
/// ordered by the distance from 0. A level's own k is the projection on the spike of its group, in
/// units of that spike's length.
struct GroupRung {
  std::vector<Level> levels;
  int spikes = 1;
  std::vector<double> at;  ///< nodes x spikes

  Index size() const { return levels[0].size(); }
  double radius(Index i) const {
    double square = 0;
    for (int j = 0; j < spikes; ++j) square += at[i * spikes + j] * at[i * spikes + j];
    return std::sqrt(square);
  }
  /// How many are no farther out.
  Index within(double range) const {
    Index n = 0;
    while (n < size() && radius(n) <= range) ++n;
    return n;
  }
};

/// Gathers the first `n` nodes of a rung.
inline GroupNodes gather_nodes(const GroupRung& rung, Index n) {
  GroupNodes out;
  const std::vector<Level>& levels = rung.levels;
  const int k = out.groups = static_cast<int>(levels.size()), n_across = levels[0].n_across;
  out.spikes = rung.spikes, out.directions = 1 + n_across;
  out.pairs = k * (k + 1) / 2, out.packed = out.pairs + k;
  out.stride = (out.packed + 3) / 4 * 4 + 4;
  out.size = n;
  out.e.assign(n * out.stride, 0.0);
  out.mean_e.assign(out.packed, 0.0);
  out.rms_mu0.assign(k, 0.0);
  out.mu0.resize(n * k), out.mu1.resize(n * k), out.kmu1.resize(n * out.n_columns());
  out.k.assign(rung.at.begin(), rung.at.begin() + n * rung.spikes);
  double mass = 0;
  for (Index i = 0; i < n; ++i) mass += levels[0].nodes[i].weight;
  for (Index i = 0; i < n; ++i) {
    const Node& first = levels[0].nodes[i];
    const double weight = first.weight / mass;
    out.weight.push_back(weight);
    out.h.push_back(first.h), out.h1.push_back(first.h1), out.rest.push_back(first.rest);
    const auto across = levels[0].across.begin() + i * n_across;
    out.h1.insert(out.h1.end(), across, across + n_across);
    out.target_square += weight * first.hh;
    double* const e = &out.e[i * out.stride];
    for (int g = 0; g < k; ++g) {
      const Node& node = levels[g].nodes[i];
      out.mu0[i * k + g] = node.mu0, out.mu1[i * k + g] = node.mu1;
      for (int j = 0; j < rung.spikes; ++j)
        out.kmu1[(i * rung.spikes + j) * k + g] = rung.at[i * rung.spikes + j] * node.mu1;
      out.rms_mu0[g] += weight * node.mu0 * node.mu0;
      for (int h = g; h < k; ++h) e[detail::index(k, g, h)] = node.mu1 * levels[h].nodes[i].mu1;
      e[out.pairs + g] = node.u2;
    }
    for (int j = 0; j < out.packed; ++j) out.mean_e[j] += weight * e[j];
  }
  for (double& x : out.rms_mu0) x = std::sqrt(x);

  // The mean functions, made orthonormal one by one, the largest that is left first; what is left
  // of none is dropped.
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

/// The rules in k of one set of groups: trapezoidal rungs, then panels, each denser than the last;
/// of several spikes the rungs of SpikeRules.
class GroupTable {
 public:
  static constexpr int n_rungs = KRules::n_trapezoid + KRules::n_panels, last_checked = n_rungs - 2;

  GroupTable(const Function& sigma, const Function& target, const GroupParameters& p,
             CoefficientScratch& scratch)
      : GroupTable(sigma, BatchTarget{&target}, p, scratch) {}
  /// The target's alignments are those of `p`.
  GroupTable(const Function& sigma, const BatchTarget& target, const GroupParameters& p,
             CoefficientScratch& scratch)
      : pi_(p.pi) {
    const int n_spikes = p.spikes();
    if (n_spikes == 1 && target.directed != nullptr)
      marginal_ = std::make_unique<Marginal>(*target.directed, p.alignment.data());
    // For several spikes the coefficients are those of sigma alone.
    const Function& own = n_spikes > 1 ? sigma : marginal_ ? marginal_->main() : *target.target;
    coefficients_.reserve(p.c.size());
    double scale = infinity;
    for (std::size_t g = 0; g < p.c.size(); ++g) {
      const double r = n_spikes > 1 ? p.rows.row(g).norm() : p.r[g];
      coefficients_.emplace_back(sigma, own, SpikeParameters{r, p.c[g], n_spikes > 1 ? 0 : p.gamma},
                                 scratch, marginal_.get());
      error_ = std::max(error_, coefficients_[g].error());
      scale = std::min(scale, coefficients_[g].sigma_scale());
    }
    if (n_spikes > 1) {
      spike_rules_.emplace(*target.directed, p.alignment, scale);
      rows_ = p.rows.lazyProduct(spike_rules_->directions().turn_spikes);
      first_ = 0, last_checked_ = spike_rules_->n_rungs() - 2;
      return;
    }
    rules_.emplace(coefficients_.data(), coefficients_.size());
    const Coefficients& first = coefficients_[0];
    if (scale < 0.12 || (!first.target_shape().smooth && first.target_scale() < 0.25))
      first_ = KRules::n_trapezoid;
  }

  /// Estimated error of the coefficients.
  double error() const { return error_; }
  const std::vector<Coefficients>& coefficients() const { return coefficients_; }
  /// U and W of directions.hpp, and gamma and rho of each axis.
  dense::Matrix turn() const {
    return spike_rules_ ? spike_rules_->directions().turn
           : marginal_  ? marginal_->turn()
                        : dense::Matrix::Identity(1, 1);
  }
  dense::Matrix turn_spikes() const {
    return spike_rules_ ? spike_rules_->directions().turn_spikes : dense::Matrix::Identity(1, 1);
  }
  std::vector<double> gamma() const {
    if (spike_rules_) return spike_rules_->directions().gamma;
    std::vector<double> out(marginal_ ? marginal_->directions() : 1, 0.0);
    out[0] = coefficients_[0].parameters().gamma;
    return out;
  }
  std::vector<double> rho() const {
    if (spike_rules_) return spike_rules_->directions().rho;
    std::vector<double> out(marginal_ ? marginal_->directions() : 1, 1.0);
    out[0] = coefficients_[0].parameters().rho();
    return out;
  }

  /// A coarse rule, on which V is found well enough to start from.
  const GroupNodes& starter() {
    if (starter_.size == 0)
      starter_ = gather_nodes(rung(first_), std::max<Index>(1, rung(first_).within(7)));
    return starter_;
  }

  /// The starter of one group that stands for all: its feature is their mean, and how they differ
  /// is noise. V1_gh = pi_g pi_h (V1 - V2) + pi_g delta_gh V2 then.
  const GroupNodes& merged_starter() {
    if (merged_.size > 0) return merged_;
    const GroupNodes& of = starter();
    merged_.groups = merged_.pairs = 1, merged_.packed = 2, merged_.stride = 8;
    merged_.size = of.size, merged_.weight = of.weight;
    merged_.e.assign(of.size * merged_.stride, 0.0);
    for (Index i = 0; i < of.size; ++i) {
      double mean = 0, all = 0;
      for (int g = 0; g < of.groups; ++g) {
        const double mu1 = of.mu1[i * of.groups + g];
        mean += pi_[g] * mu1;
        all += pi_[g] * (mu1 * mu1 + of.e[i * of.stride + of.pairs + g]);
      }
      double* const e = &merged_.e[i * merged_.stride];
      e[0] = mean * mean, e[1] = std::max(0.0, all - mean * mean);
    }
    return merged_;
  }

  /// The class of a point: sizes of V2/pi, powers of eight.
  static int class_of(double size) { return srfx::class_of(size, size) / n_shapes; }

  /// The first rung that serves the class as far as sums over the groups tell.
  int rung_of(int cls) {
    int& found = found_[cls];
    if (found >= 0) return found;
    const double tolerance = std::max(3e-14, 3e-12 / (1 + std::pow(8.0, 0.5 * cls) / 16));
    double best = infinity;
    for (int i = first_; i <= last_checked_; ++i) {
      if (last_of_kind(i)) continue;
      const double error = difference(look(i, cls), look(i + 1, cls));
      if (error < best) best = error, found = i;
      if (error <= tolerance) break;
    }
    if (found < 0) found = last_checked_;
    return found;
  }
  /// The rung to try after this one; -1 after the last.
  int next(int i) const { return i >= last_checked_ ? -1 : last_of_kind(i + 1) ? i + 2 : i + 1; }

  /// All nodes of a rung.
  const GroupRung& rung(int i) {
    GroupRung& out = rungs_[i];
    if (!out.levels.empty()) return out;
    out.levels.resize(coefficients_.size());
    if (spike_rules_) {
      fill(i, true, out);
      return out;
    }
    const bool panels = i >= KRules::n_trapezoid;
    out = rung_on(panels ? rules_->panels(i - KRules::n_trapezoid)
                         : rules_->trapezoid(i, 0, KRules::limit));
    return out;
  }
  /// The nodes of a rule in k, beside one spike.
  GroupRung rung_on(const Rule& rule) {
    GroupRung out;
    out.levels.resize(coefficients_.size());
    for (std::size_t g = 0; g < out.levels.size(); ++g)
      coefficients_[g].append(rule, out.levels[g]);
    out.at = out.levels[0].k;
    return out;
  }
  /// A rung beside several spikes, of k and -k.
  GroupRung unfolded(int i) {
    GroupRung out;
    out.levels.resize(coefficients_.size());
    fill(i, false, out);
    return out;
  }
  /// How many rungs there are beside several spikes; 0 beside one.
  int n_spike_rungs() const { return spike_rules_ ? spike_rules_->n_rungs() : 0; }
  /// The nodes of a rung that matter to a class.
  const GroupNodes& nodes(int i, int cls) {
    std::unique_ptr<GroupNodes>& out = nodes_[i * n_sizes + cls];
    if (!out) out = std::make_unique<GroupNodes>(gather_nodes(rung(i), look(i, cls).cut));
    return *out;
  }
  /// Panels a quarter (coarse: half) of their usual width, |k| up to `range`; of several spikes the
  /// last rungs.
  GroupNodes dense(double range, bool coarse) {
    const GroupRung& nodes =
        rung((spike_rules_ ? last_checked_ : KRules::n_trapezoid + 3) + (coarse ? 0 : 1));
    return gather_nodes(nodes, nodes.within(range));
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
    const std::vector<Level>& levels = rung(i).levels;
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

  /// Whether the next rung is of another kind.
  bool last_of_kind(int i) const { return !spike_rules_ && i == KRules::n_trapezoid - 1; }

  /// A rung of several spikes: within the ball of the limit and, where sigma has a parity, on one
  /// side.
  void fill(int i, bool fold_nodes, GroupRung& out) {
    TargetTable table = spike_rules_->rung(i);
    const int q = out.spikes = table.spikes, n_values = table.channels, n_axes = n_values - 2;
    const int parity = coefficients_[0].sigma_shape().parity;
    const bool folded = fold_nodes && parity != 0 && spike_rules_->symmetric();
    std::vector<std::pair<double, Index>> order;
    for (Index node = folded ? table.size / 2 : 0; node < table.size; ++node) {
      double square = 0;
      for (int j = 0; j < q; ++j) square += table.k[node * q + j] * table.k[node * q + j];
      if (square <= SpikeRules::limit * SpikeRules::limit)
        order.emplace_back(std::sqrt(square), node);
    }
    std::sort(order.begin(), order.end());
    const Index n = static_cast<Index>(order.size());
    const auto target_at = [&](Index node, std::vector<double>& across) {
      const double* const v = &table.values[node * n_values];
      TargetMoments at{v[0], v[1], v[n_values - 1] - v[0] * v[0] - v[1] * v[1], across.data()};
      for (int m = 1; m < n_axes; ++m) across[m - 1] = v[m + 1], at.rest -= v[m + 1] * v[m + 1];
      at.rest = std::max(0.0, at.rest);
      return at;
    };
    std::vector<Moments> moments(n);
    std::vector<double> across(n_axes - 1), mirrored(n_axes - 1);
    for (std::size_t g = 0; g < out.levels.size(); ++g) {
      Level& level = out.levels[g];
      level.n_across = g == 0 ? n_axes - 1 : 0;  // the same for all groups, kept once
      const double r = coefficients_[g].parameters().r;
      for (const auto& [radius, node] : order) {
        double along = 0;
        for (int j = 0; j < q; ++j) along += rows_(g, j) * table.k[node * q + j];
        level.k.push_back(r > 0 ? along / r : 0);
      }
      coefficients_[g].sigma_moments(level.k.data(), n, moments.data());
      for (Index x = 0; x < n; ++x) {
        const auto& [radius, node] = order[x];
        Node to;
        to.weight = table.weight[node] * (folded ? 2 : 1);
        const Moments& s = moments[x];
        to.mu0 = s.m0, to.mu1 = s.m1, to.kmu1 = radius * s.m1, to.u1 = s.m1 * s.m1, to.u2 = s.m2;
        TargetMoments at = target_at(node, across);
        if (folded) fold(at, target_at(table.size - 1 - node, mirrored), n_axes - 1, parity);
        set_target(at, n_axes - 1, to);
        if (g == 0) level.across.insert(level.across.end(), at.across, at.across + n_axes - 1);
        level.nodes.push_back(to);
      }
      coefficients_[g].drop_dust(level);
    }
    for (const auto& [radius, node] : order)
      for (int j = 0; j < q; ++j) out.at.push_back(table.k[node * q + j]);
  }

  std::vector<double> pi_;
  std::unique_ptr<Marginal> marginal_;
  std::vector<Coefficients> coefficients_;
  std::optional<KRules> rules_;
  std::optional<SpikeRules> spike_rules_;
  dense::Matrix rows_;  ///< R in the frame of the rules
  double error_ = 0;
  int first_ = 0, last_checked_ = last_checked;
  GroupNodes starter_, merged_;
  std::array<int, n_sizes> found_ = [] {
    std::array<int, n_sizes> none{};
    none.fill(-1);
    return none;
  }();
  std::array<GroupRung, n_rungs> rungs_;
  std::array<std::unique_ptr<GroupNodes>, n_rungs * n_sizes> nodes_;
  std::array<std::unique_ptr<Look>, n_rungs * n_sizes> looks_;
};

}  // namespace srfx
