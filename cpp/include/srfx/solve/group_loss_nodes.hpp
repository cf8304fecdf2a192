// The nodes of the averages with other losses, of K groups, any spikes and directions (THEORY
// section 19): coefficients at each k, and under each k atoms in z with what the label is there.
//
// In the frame of directions.hpp t'_j = gamma_j k'_j + rho_j z'_j. A line of atoms runs along the
// last axis with a z, given all others. Labels of +1 and -1 change where s* does: along every line
// its zeros are sought.
#pragma once

#include "srfx/data/losses.hpp"
#include "srfx/gaussian/higher_moments.hpp"
#include "srfx/gaussian/labels.hpp"
#include "srfx/solve/group_levels.hpp"

#include <array>
#include <vector>

namespace srfx {

/// Where the unknowns are: V (packed V1, then V2), what the field's mean C is made of (m, theta,
/// chi), psi, and Q as V. Of theta and psi the groups of one spike or direction lie together.
struct GroupLossLayout {
  static constexpr int most_across = 3;
  int groups = 1, spikes = 1, across = 1;
  int means = 0;  ///< features of m: the mu0, or a basis of their span where m is free
  int norms = 0;  ///< chi: K, or none

  int pairs() const { return groups * (groups + 1) / 2; }
  int packed() const { return pairs() + groups; }
  int features() const { return means + spikes * groups + norms; }
  int m() const { return packed(); }
  int theta() const { return m() + means; }
  int chi() const { return theta() + spikes * groups; }
  int psi() const { return m() + features(); }
  int q() const { return psi() + across * groups; }
  int size() const { return q() + packed(); }
};

struct GroupLossNodes {
  GroupLossLayout layout;
  Index size = 0;
  std::vector<double> weight;    ///< sums to one
  std::vector<double> e;         ///< size x packed: mu1_g mu1_h for g <= h, then mu2_g^2
  std::vector<double> features;  ///< size x features: mu0, k_j mu1, mu_c
  std::vector<double> mu1;       ///< size x groups
  std::vector<double> near;      ///< density of k, 1 at 0
  std::vector<double> mean_e;
  dense::Matrix gram;    ///< E of two features
  dense::Matrix to_m;    ///< m = to_m times its unknowns
  dense::Matrix from_m;  ///< and they, given m: by projection of mu0.m on their features
  double error = 0;      ///< of the coefficients

  std::vector<Index> first;          ///< of the atoms of a node, whole vectors; size + 1
  std::vector<double> w;             ///< under one k they sum to one
  std::vector<double> target, sign;  ///< e = target - sign f: s* or 1, and 1 or the label
  std::vector<double> density;       ///< of labels: of z, 1 at 0, times the label's probability
  std::vector<double> z[GroupLossLayout::most_across];
  double label_noise = 0;  ///< variance of e beside that of f
  double field_step = 0.6;
};

/// The unknowns on other nodes of the same set: where m is free each rule has features of its own.
inline dense::Vector carried(const GroupLossNodes& from, const GroupLossNodes& to,
                             const dense::Vector& x) {
  const GroupLossLayout &a = from.layout, &b = to.layout;
  dense::Vector out(b.size());
  out.head(b.m()) = x.head(a.m());
  if (b.means > 0)
    out.segment(b.m(), b.means) =
        to.from_m.lazyProduct(from.to_m.lazyProduct(x.segment(a.m(), a.means)).eval());
  out.tail(b.size() - b.theta()) = x.tail(a.size() - a.theta());
  return out;
}

/// What the nodes of one coefficient set are made from.
class GroupLossNodesMaker {
 public:
  static constexpr int n_rungs_z = 11;
  static constexpr double most_atoms = 1.2e7;
  static constexpr int most_axes = 4;

  /// `sets` has the alignment, unless there is one spike and one direction; `row_norms`: with
  /// mu_c, of one spike.
  GroupLossNodesMaker(const Function& sigma, const BatchTarget& target, const GroupParameters& p,
                      GroupTable& table, const Loss& loss, const Labels& labels, bool row_norms)
      : sigma_(&sigma),
        target_(target),
        parameters_(p),
        table_(&table),
        loss_(loss),
        labels_(labels),
        row_norms_(row_norms),
        turn_(table.turn()),
        rho_(table.rho()),
        gamma_(table.gamma()),
        n_axes_(static_cast<int>(rho_.size())) {
    for (int j = 0; j < n_axes_; ++j)
      if (rho_[j] > 0) across_.push_back(j);
    const std::vector<Coefficients>& of = table.coefficients();
    TargetShape planes;
    double law_scale = infinity, sigma_scale = infinity;
    for (const Coefficients& c : of)
      if (c.sigma_scale() < 0.3 || !c.sigma_shape().smooth)
        sigma_scale = std::min(sigma_scale, c.sigma_scale());
    if (target.directed) {
      planes = target.directed->shape();
      if (p.spikes() == 1 && !of[0].target_shape().smooth) law_scale = of[0].target_scale();
      shape_ = of[0].target_shape();
    } else {
      shape_ = target.target->shape();
      if (labels.width() == 0 && !labels.real()) {
        for (const Turn& turn : turns_of(*target.target, 0)) shape_.kinks.push_back(turn.at);
        std::sort(shape_.kinks.begin(), shape_.kinks.end());
        shape_.kinks.erase(std::unique(shape_.kinks.begin(), shape_.kinks.end()),
                           shape_.kinks.end());
        if (!shape_.kinks.empty()) shape_.smooth = false;
      }
      for (double kink : shape_.kinks) planes.planes.push_back({{1.0}, kink});
      const double gamma = std::abs(gamma_[0]);
      if (gamma > 0 && !shape_.smooth) law_scale = rho_[0] / gamma;
      if (!shape_.smooth || shape_.strip < 0.4 * rho_[0]) panel_ = 0.5 * shape_.panel / rho_[0];
      if (!labels.real() && labels.width() > 0)
        for (const Turn& turn : turns_of(*target.target, labels.width()))
          if (gamma > 0) law_scale = std::min(law_scale, std::max(rho_[0], turn.scale) / gamma);
    }
    planes_ = AxisPlanes(planes, turn_);
    kinked_ = planes_.any();
    if (p.spikes() == 1) {
      rules_ = KRules::of_law(of, shape_, law_scale);
      panels_in_k_ = std::min(sigma_scale, law_scale) < 0.4;
    }
  }

  int n_rungs_k() const {
    if (!rules_) return std::max(2, (table_->n_spike_rungs() + 1) / 2);
    return panels_in_k_ ? 7 : 11;
  }

  /// About how many atoms this takes.
  double cost(int rung_k, int rung_z) const {
    const double in_z = std::pow(2 * reaches_[rung_z] / steps_[rung_z], across_.size()) *
                        (kinked_ ? 4.0 : 1.0) * (labels_.real() ? 1 : 2);
    const double in_k = rules_ ? 25.0 * (rung_k + 1) : 250 * std::pow(1.9, rung_k);
    return in_z * in_k * (across_.size() > 1 || !rules_ ? 0.6 : 1.0);
  }

  /// Which features m has: those of all groups where it is penalised, else a basis of their span;
  /// or, of a part of the line, those of all groups though they may vanish there.
  enum class Means { penalised, free, all };

  GroupLossNodes make(int rung_k, int rung_z, Means means) const {
    GroupRung rung =
        !rules_
            ? table_->unfolded(std::min(2 * rung_k, table_->n_spike_rungs() - 1))
            : table_->rung_on(panels_in_k_ ? rules_->panels(rung_k)
                              : rung_k < 7 ? rules_->trapezoid(2 * rung_k, 0, 4.6 + 0.7 * rung_k)
                                           : rules_->panels(rung_k - 4));
    return make_on(rung, rung_z, means);
  }

  /// Beside one spike: panels in k, of so many nodes.
  bool takes_panels() const { return rules_.has_value(); }
  static constexpr double reach_in_k = 9.6;
  static constexpr int panel_order = 16;
  /// Where panels should begin: at kinks.
  std::vector<double> kinks_in_k() const {
    std::vector<double> out;
    const auto add = [&](const std::vector<double>& kinks, double slope) {
      for (const double kink : kinks)
        if (slope != 0) out.push_back(kink / slope);
    };
    for (const Coefficients& of : table_->coefficients())
      add(of.sigma_shape().kinks, of.parameters().r);
    add(shape_.kinks, gamma_[0]);
    return out;
  }
  /// One panel, its weights not made to sum to one.
  GroupLossNodes make_panel(double lo, double hi, int rung_z) const {
    Rule rule;
    rule.push_panels(lo, hi, hi - lo, panel_order);
    rule.finish();
    double mass = 0;
    for (const double w : rule.w) mass += w;
    GroupRung rung = table_->rung_on(rule);
    GroupLossNodes out = make_on(rung, rung_z, Means::all, mass);
    for (double& w : out.weight) w *= mass;
    return out;
  }
  GroupLossNodes make_panels(const std::vector<std::pair<double, double>>& panels, int rung_z,
                             Means means) const {
    Rule rule;
    for (const auto& [lo, hi] : panels) rule.push_panels(lo, hi, hi - lo, panel_order);
    rule.finish();
    GroupRung rung = table_->rung_on(rule);
    return make_on(rung, rung_z, means);
  }

 private:
  /// `mass`: of the rule in k, whose weights are made to sum to one.
  GroupLossNodes make_on(GroupRung& rung, int rung_z, Means means, double mass = 1) const {
    GroupLossNodes out;
    coefficients(rung, means, out);
    out.label_noise = labels_.real() ? labels_.noise : 0;
    static constexpr double field_steps[n_rungs_z] = {1.1,  0.8, 0.68, 0.6, 0.55, 0.5,
                                                      0.45, 0.4, 0.3,  0.2, 0.1};
    out.field_step = field_steps[rung_z];
    for (Index i = 0; i < out.size; ++i) {
      out.first.push_back(static_cast<Index>(out.w.size()));
      atoms(&rung.at[i * rung.spikes], rung_z, std::min(1e-6, 1e-19 / (mass * out.weight[i])), out);
    }
    out.first.push_back(static_cast<Index>(out.w.size()));
    return out;
  }

  void coefficients(GroupRung& rung, Means means, GroupLossNodes& out) const {
    const GroupNodes nodes = gather_nodes(rung, rung.size());
    GroupLossLayout& l = out.layout;
    const int k = l.groups = nodes.groups;
    l.spikes = nodes.spikes, l.across = static_cast<int>(across_.size());
    l.norms = row_norms_ ? k : 0;
    bool any = false;
    for (double size : nodes.rms_mu0) any = any || size > 0;
    const bool penalised = means != Means::free;
    l.means = !any && means != Means::all ? 0 : penalised ? k : nodes.rank;
    out.to_m = dense::Matrix::Zero(k, l.means);
    out.from_m = dense::Matrix::Zero(l.means, k);
    if (penalised) out.from_m.setIdentity();
    for (int g = 0; g < k; ++g)
      for (int c = 0; c < l.means; ++c)
        out.to_m(g, c) = penalised ? (g == c ? 1.0 : 0.0) : nodes.to_m[g * nodes.rank + c];
    const Index n = out.size = nodes.size;
    out.weight = nodes.weight, out.mu1 = nodes.mu1;
    out.error = table_->error();
    std::vector<std::vector<double>> muc;
    for (int g = 0; row_norms_ && g < k; ++g)
      muc.push_back(norm_coefficients(*sigma_, table_->coefficients()[g].parameters(),
                                      rung.levels[g].k.data(), n));
    const int features = l.features();
    out.gram = dense::Matrix::Zero(features, features);
    out.mean_e = nodes.mean_e;
    for (Index i = 0; i < n; ++i) {
      out.e.insert(out.e.end(), &nodes.e[i * nodes.stride],
                   &nodes.e[i * nodes.stride] + l.packed());
      for (int c = 0; c < l.means; ++c)
        out.features.push_back(penalised ? nodes.mu0[i * k + c] : nodes.basis[i * nodes.rank + c]);
      const double* const own = &nodes.kmu1[i * nodes.n_columns()];
      out.features.insert(out.features.end(), own, own + nodes.n_columns());
      for (const std::vector<double>& of : muc) out.features.push_back(of[i]);
      out.near.push_back(std::exp(-0.5 * rung.radius(i) * rung.radius(i)));
      const double* const f = &out.features[i * features];
      for (int a = 0; a < features; ++a)
        for (int b = 0; b < features; ++b) out.gram(a, b) += out.weight[i] * f[a] * f[b];
      for (int c = 0; c < l.means && !penalised; ++c)
        for (int g = 0; g < k; ++g) out.from_m(c, g) += out.weight[i] * f[c] * nodes.mu0[i * k + g];
    }
  }

  // Each rung of the rules is denser, and reaches farther out.
  static constexpr double reaches_[n_rungs_z] = {4.5, 6, 7, 7.7, 8.3, 8.7, 9, 9, 9, 9, 9};
  static constexpr double steps_[n_rungs_z] = {0.75, 0.55, 0.42,  0.32,  0.24, 0.18,
                                               0.13, 0.1,  0.075, 0.055, 0.04};
  static constexpr double densities_[n_rungs_z] = {1.1, 1.6, 2.2, 3, 4, 5.3, 7, 10, 13, 18, 25};
  static constexpr int orders_[n_rungs_z] = {3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6};

  /// The t' so far along a line, the z of its axes, and its weight.
  struct Line {
    std::array<double, most_axes> t{};
    std::array<double, GroupLossLayout::most_across> z{};
    double weight = 1;
    int n_z = 0, turns = -1;  ///< place of its turns, or none
  };
  using Turns = std::vector<std::vector<Turn>>;

  /// s* at points t' (n x axes).
  std::vector<double> values_at(const std::vector<double>& points) const {
    const Index n = static_cast<Index>(points.size()) / n_axes_;
    std::vector<double> t(points.size()), out(n);
    for (Index i = 0; i < n; ++i)
      for (int l = 0; l < n_axes_; ++l) {
        double sum = 0;
        for (int j = 0; j < n_axes_; ++j) sum += turn_(l, j) * points[i * n_axes_ + j];
        t[l * n + i] = sum;
      }
    if (n == 0) return out;
    if (target_.directed) target_.directed->evaluate(t.data(), out.data(), n);
    else target_.target->evaluate(t.data(), out.data(), n);
    return out;
  }

  /// Sets the turns of lines along axis j; what comes after it is at 0 + gamma k.
  void find_turns(int j, const double* means, double reach, std::vector<Line>& lines,
                  Turns& turns) const {
    if (labels_.real() || (!target_.directed && labels_.width() == 0)) return;
    constexpr int grid = 72;
    const double width = labels_.width(), step = 2 * reach / grid;
    std::vector<double> points;
    const auto add = [&](const Line& line, double z) {
      points.insert(points.end(), line.t.data(), line.t.data() + j);
      points.push_back(means[j] + rho_[j] * z);
      for (int l = j + 1; l < n_axes_; ++l) points.push_back(means[l]);
    };
    for (const Line& line : lines)
      for (int i = 0; i <= grid; ++i) add(line, -reach + step * (i + 0.013));
    std::vector<double> s = values_at(points);
    struct Bracket {
      std::size_t line;
      double lo, hi, slope;
      bool rising;
    };
    std::vector<Bracket> found;
    for (std::size_t x = 0; x < lines.size(); ++x)
      for (int i = 0; i < grid; ++i) {
        const double a = s[x * (grid + 1) + i], b = s[x * (grid + 1) + i + 1];
        if ((a > 0) != (b > 0))
          found.push_back({x, -reach + step * (i + 0.013), -reach + step * (i + 1.013),
                           std::abs(b - a) / step, b > 0});
      }
    for (int pass = 0; pass < 50 && !found.empty(); ++pass) {
      points.clear();
      for (const Bracket& b : found) add(lines[b.line], 0.5 * (b.lo + b.hi));
      s = values_at(points);
      for (std::size_t i = 0; i < found.size(); ++i) {
        Bracket& b = found[i];
        ((s[i] > 0) == b.rising ? b.hi : b.lo) = 0.5 * (b.lo + b.hi);
      }
    }
    // What the axes after this one make of s* within a deviation smooths the turn as noise does.
    std::vector<double> smoothed(found.size(), width);
    for (int l = j + 1; l < n_axes_ && width > 0 && !found.empty(); ++l) {
      std::vector<double> side[2];
      for (int of : {0, 1}) {
        points.clear();
        for (const Bracket& b : found) {
          add(lines[b.line], 0.5 * (b.lo + b.hi));
          points[points.size() - n_axes_ + l] += (2 * of - 1) * rho_[l];
        }
        side[of] = values_at(points);
      }
      for (std::size_t i = 0; i < found.size(); ++i)
        smoothed[i] += 0.5 * std::abs(side[1][i] - side[0][i]);
    }
    for (const Bracket& b : found) {
      int& place = lines[b.line].turns;
      if (place < 0) {
        place = static_cast<int>(turns.size());
        turns.emplace_back();
      }
      turns[place].push_back({0.5 * (b.lo + b.hi), smoothed[&b - found.data()] / b.slope});
    }
  }

  /// Nodes in z on axis j of a line, with the density and a sum of one.
  void rule_on(int j, const double* means, const Line& line, const std::vector<Turn>& turns,
               int rung, Rule& out) const {
    const double reach = reaches_[rung];
    std::vector<double> kinks, edges{-reach, reach};
    planes_.edges(j, line.t.data(), kinks);
    double sharp = infinity;
    const auto add = [&](double z) {
      if (z > -reach && z < reach) edges.push_back(z);
    };
    for (double kink : kinks) add((kink - means[j]) / rho_[j]);
    for (const Turn& turn : turns) sharp = std::min(sharp, turn.scale);
    const double fine = std::min(1.0, 1.6 * sharp);
    out.clear();
    if (!kinked_ && fine > 0.3 && std::isinf(panel_)) {
      out.push_trapezoid(steps_[rung] * fine, reach);
    } else {
      for (const Turn& turn : turns)
        for (double side : {-8.0, 0.0, 8.0})
          if (turn.scale < 0.5) add(turn.at + side * turn.scale);
      std::sort(edges.begin(), edges.end());
      for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
        const double middle = 0.5 * (edges[i] + edges[i + 1]), length = edges[i + 1] - edges[i];
        if (length < 1e-13) continue;
        double scale = std::min(1.0, panel_);
        if (std::abs(means[j] + rho_[j] * middle) > shape_.soft && !std::isinf(shape_.soft))
          scale = 1;
        for (const Turn& turn : turns)
          if (turn.scale > 0 && turn.scale < 0.5 && std::abs(middle - turn.at) < 8 * turn.scale)
            scale = std::min(scale, 0.7 * turn.scale);
        const double asked = length / scale * densities_[rung] + orders_[rung];
        const int panels = std::max(1, static_cast<int>(std::ceil(asked / 24)));
        const int order = std::min(
            32, static_cast<int>(std::ceil(asked / panels)) + (panels > 1 ? orders_[rung] : 0));
        out.push_panels(edges[i], edges[i + 1], length / panels, order);
      }
    }
    out.finish();
    double total = 0;
    for (const double w : out.w) total += w;
    for (double& w : out.w) w /= total;
  }

  /// Adds the atoms at k, of a weight that with that of k is not below `least`.
  void atoms(const double* k, int rung, double least, GroupLossNodes& out) const {
    static const std::vector<Turn> none;
    std::array<double, most_axes> means{};
    const int spikes = parameters_.spikes();
    for (int j = 0; j < n_axes_ && j < spikes; ++j) means[j] = gamma_[j] * k[j];
    std::vector<Line> lines(1), next;
    Turns turns;
    Rule rule, plain;  // the latter where nothing is in the way: the same on all lines
    for (int j = 0; j < n_axes_; ++j) {
      next.clear(), turns.clear(), plain.clear();
      if (rho_[j] > 0) find_turns(j, means.data(), reaches_[rung], lines, turns);
      for (const Line& line : lines) {
        if (rho_[j] == 0) {
          next.push_back(line);
          next.back().t[j] = means[j];
          continue;
        }
        const bool simple = !kinked_ && line.turns < 0;
        if (!simple)
          rule_on(j, means.data(), line, line.turns < 0 ? none : turns[line.turns], rung, rule);
        else if (plain.size() == 0) rule_on(j, means.data(), line, none, rung, plain);
        const Rule& on = simple ? plain : rule;
        for (Index i = 0; i < on.size(); ++i) {
          const double weight = line.weight * on.w[i];
          if (weight < least) continue;
          next.push_back(line);
          Line& last = next.back();
          last.weight = weight, last.turns = -1;
          last.t[j] = means[j] + rho_[j] * on.x[i], last.z[last.n_z++] = on.x[i];
        }
      }
      lines.swap(next);
    }
    std::vector<double> points;
    points.reserve(lines.size() * n_axes_);
    for (const Line& line : lines)
      points.insert(points.end(), line.t.data(), line.t.data() + n_axes_);
    const std::vector<double> s = values_at(points);
    const auto add = [&](const Line* line, double chance, double target, double sign) {
      const double w = line ? line->weight * chance : 0;
      if (line && w < least) return;
      double square = 0;
      out.w.push_back(w), out.target.push_back(target), out.sign.push_back(sign);
      for (std::size_t m = 0; m < across_.size(); ++m) {
        const double z = line ? line->z[m] : 0;
        out.z[m].push_back(z), square += z * z;
      }
      out.density.push_back(chance * std::exp(-0.5 * square));
    };
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const Line* const at = &lines[i];
      if (labels_.real()) {
        add(at, 1, s[i], 1);
      } else {
        add(at, labels_.plus(s[i]), 1, 1);
        add(at, labels_.plus(-s[i]), 1, -1);
      }
    }
    while (out.w.size() % 8 != 0) add(nullptr, 0, labels_.real() ? 0 : 1, 1);
  }

  const Function* sigma_;
  BatchTarget target_;
  GroupParameters parameters_;
  GroupTable* table_;
  Loss loss_;
  Labels labels_;
  bool row_norms_;
  dense::Matrix turn_;
  std::vector<double> rho_, gamma_;
  int n_axes_;
  std::vector<int> across_;
  AxisPlanes planes_;
  bool kinked_ = false, panels_in_k_ = false;
  double panel_ = infinity;
  Shape shape_;
  std::optional<KRules> rules_;
};

}  // namespace srfx
