// The nodes over (k, z) of the averages with other losses (THEORY section 19): coefficients at each
// k, and under each k atoms in z with what the label is there.
//
// t = gamma k + rho z. Real labels: an atom has the value of the target. Labels of +1 and -1: one
// atom for each label, with its probability in the weight.
#pragma once

#include "srfx/data/label_series.hpp"
#include "srfx/data/losses.hpp"
#include "srfx/gaussian/higher_moments.hpp"
#include "srfx/gaussian/k_rules.hpp"
#include "srfx/gaussian/labels.hpp"

#include <functional>
#include <memory>
#include <vector>

namespace srfx {

/// A node k; its atoms are [first, last) of the arrays, whole vectors.
struct LossNode {
  double weight, k, mu0, kmu1, mu1, u1, u2, muc;
  double h, h1, hh;  ///< of the target, Node
  double density;    ///< of k, 1 at 0
  Index first, last;
};

struct LossNodes {
  std::vector<LossNode> nodes;
  std::vector<double> z, w;     ///< of the atoms of one k the weights sum to one
  std::vector<double> density;  ///< of labels: of z, 1 at 0, times the label's probability
  std::vector<double> e, sign;  ///< e = e - sign f: the target or 1, and 1 or the label
  double label_noise = 0;       ///< variance of e beside that of f
  bool across = true;           ///< false: t is known from k, and f alone is averaged over z
  std::shared_ptr<const LabelSeries> series;  ///< of labels, the same nodes k; may be null
  double field_step = 0.6;                    ///< of the grid of fields of the logistic loss
  double error = 0;                           ///< of the coefficients
  double mean_u1 = 0, mean_u2 = 0;
  double gram[3][3] = {};  ///< of mu0, k mu1, mu_c
  double size0 = 0;        ///< E mu0^2, or 0 where there is no mean

  /// Adds the nodes of other ranges of k, in whole packs where there are series.
  void append(const LossNodes& other) {
    const Index shift = static_cast<Index>(z.size());
    for (LossNode node : other.nodes) {
      node.first += shift, node.last += shift;
      nodes.push_back(node);
    }
    const auto join = [](std::vector<double>& to, const std::vector<double>& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    if (other.series != nullptr) {
      auto joined = std::make_shared<LabelSeries>();
      if (series != nullptr) *joined = *series;
      joined->append(*other.series);
      series = std::move(joined);
    }
    join(density, other.density);
    join(z, other.z), join(w, other.w), join(e, other.e), join(sign, other.sign);
    label_noise = other.label_noise, across = other.across, field_step = other.field_step;
    error = std::max(error, other.error);
    mean_u1 += other.mean_u1, mean_u2 += other.mean_u2;
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) gram[i][j] += other.gram[i][j];
  }
};

/// A field given k and z, of mean C + tilt z and deviation s, and where the loss bends in e = s* - f:
/// what is narrow in z where the target has no noise to speak of.
struct LossBends {
  double mean, tilt, sd;
  double at[2];
  int count;
};
using BendsOf = std::function<LossBends(const LossNode&)>;

/// What the nodes of one coefficient set are made from.
class LossNodesMaker {
 public:
  static constexpr int n_rungs = 11;

  LossNodesMaker(Coefficients& coefficients, const Loss& loss, const Labels& labels, bool row_norms)
      : coefficients_(&coefficients),
        loss_(loss),
        labels_(labels),
        row_norms_(row_norms),
        shape_(coefficients.target_shape()) {
    const SpikeParameters& p = coefficients.parameters();
    const int parity = coefficients.sigma_shape().parity;
    folded_ =
        parity != 0 && shape_.parity == parity && (parity > 0 || !labels.real() || loss.even());
    if (!labels.real()) {
      turns_ = turns_of(coefficients.target(), labels.width());
      const bool step = labels.width() == 0;
      if (step) {
        for (const Turn& turn : turns_) shape_.kinks.push_back(turn.at);
        std::sort(shape_.kinks.begin(), shape_.kinks.end());
        shape_.kinks.erase(std::unique(shape_.kinks.begin(), shape_.kinks.end()),
                           shape_.kinks.end());
        if (!turns_.empty()) shape_.smooth = false;
        turns_.clear();
      }
    }
    for (const Turn& turn : turns_) sharp_ = std::min(sharp_, turn.scale);
    // Over k the label's law changes as its average over z does.
    const double rho = p.rho(), gamma = std::abs(p.gamma);
    law_scale_ = gamma == 0 ? infinity : (shape_.smooth ? std::max(rho, sharp_) : rho) / gamma;
    if (shape_.smooth && std::isinf(sharp_)) law_scale_ = infinity;
    panels_in_k_ = std::min(coefficients.sigma_scale() < 0.3 || !coefficients.sigma_shape().smooth
                                ? coefficients.sigma_scale()
                                : infinity,
                            law_scale_) < 0.4;
  }

  const Labels& labels() const { return labels_; }
  const Loss& loss() const { return loss_; }
  bool panels_in_k() const { return panels_in_k_; }

  /// The rungs of the rules in k and in z.
  LossNodes make(int rung_k, int rung_z) const {
    const KRules rules(*coefficients_, shape_, law_scale_, folded_);
    const Rule in_k =
        panels_in_k_ ? rules.panels(rung_k) : rules.trapezoid(2 * rung_k, 0, reach_of(rung_k));
    double mass = 0;
    for (const double w : in_k.w) mass += w;
    return at(in_k, mass, rung_z);
  }

  /// The labels' series under each k of `nodes`; null where labels are real, or t known from k.
  std::shared_ptr<const LabelSeries> series(const LossNodes& nodes) const {
    const SpikeParameters& p = coefficients_->parameters();
    if (labels_.real() || p.rho() == 0) return nullptr;
    auto out = std::make_shared<LabelSeries>();
    Rule in_z;
    std::vector<double> t, s, minus;
    for (const LossNode& at : nodes.nodes) {
      if (labels_.width() == 0) {
        const std::size_t n = shape_.kinks.size();
        t.resize(n), s.resize(n + 1), minus.resize(n + 1);
        for (std::size_t j = 0; j < n; ++j) t[j] = (shape_.kinks[j] - p.gamma * at.k) / p.rho();
        for (std::size_t j = 0; j <= n; ++j)
          minus[j] = n == 0   ? 0
                     : j == 0 ? shape_.kinks[0] - 1
                     : j == n ? shape_.kinks[n - 1] + 1
                              : 0.5 * (shape_.kinks[j - 1] + shape_.kinks[j]);
        coefficients_->target().evaluate(minus.data(), s.data(), static_cast<Index>(n) + 1);
        for (double& of : s) of = labels_.plus(of);
        out->add_steps(t, s);
        continue;
      }
      in_z.clear();
      rule_in_z(p.gamma * at.k, p.rho(), 5, 12, in_z);
      double total = 0;
      for (const double w : in_z.w) total += w;
      for (double& w : in_z.w) w /= total;
      while (in_z.size() % 8 != 0) in_z.push(0, 0);
      const Index n = in_z.size();
      t.resize(n), s.resize(n), minus.resize(n);
      for (Index j = 0; j < n; ++j) t[j] = p.gamma * at.k + p.rho() * in_z.x[j];
      coefficients_->target().evaluate(t.data(), s.data(), n);
      for (Index j = 0; j < n; ++j) minus[j] = labels_.plus(-s[j]), s[j] = labels_.plus(s[j]);
      out->add(in_z.x.data(), in_z.w.data(), s.data(), minus.data(), n);
    }
    out->finish();
    return out;
  }

  /// One panel in k of Gauss and Legendre; with `bends` nodes in z are dense where these are.
  LossNodes make_panel(double lo, double hi, int rung_z, const BendsOf& bends = {}) const {
    Rule in_k;
    // Whole packs for labels' series.
    in_k.push_panels(lo, hi, hi - lo, labels_.real() ? 10 : 16);
    for (double& w : in_k.w) w *= folded_ ? 2 : 1;
    in_k.finish();
    LossNodes out = at(in_k, 1, rung_z, bends);
    out.series = series(out);
    return out;
  }
  static constexpr double reach_in_k = 9.6;
  bool folded() const { return folded_; }
  /// Where panels in k should begin: at kinks.
  std::vector<double> kinks_in_k() const {
    const SpikeParameters& p = coefficients_->parameters();
    std::vector<double> out;
    const auto add = [&](const std::vector<double>& kinks, double slope) {
      for (const double kink : kinks)
        if (slope != 0) out.push_back(kink / slope);
    };
    add(coefficients_->sigma_shape().kinks, p.r);
    add(shape_.kinks, p.gamma);
    return out;
  }

 private:
  LossNodes at(const Rule& in_k, double mass, int rung_z, const BendsOf& bends = {}) const {
    const SpikeParameters& p = coefficients_->parameters();
    Level level;
    coefficients_->append(in_k, level);
    std::vector<double> muc(level.k.size(), 0.0);
    if (row_norms_)
      muc = norm_coefficients(coefficients_->sigma(), p, level.k.data(),
                              static_cast<Index>(level.k.size()));
    LossNodes out;
    out.error = coefficients_->error();
    out.label_noise = labels_.real() ? labels_.noise : 0;
    out.across = p.rho() > 0;
    static constexpr double field_steps[n_rungs] = {1.1,  0.8, 0.68, 0.6, 0.55, 0.5,
                                                    0.45, 0.4, 0.3,  0.2, 0.1};
    out.field_step = field_steps[rung_z];
    Rule in_z;
    std::vector<double> t, s;
    std::vector<Turn> narrow;
    for (std::size_t i = 0; i < level.k.size(); ++i) {
      const Node& at = level.nodes[i];
      LossNode node{at.weight / mass,
                    level.k[i],
                    at.mu0,
                    at.kmu1,
                    at.mu1,
                    at.u1,
                    at.u2,
                    muc[i],
                    at.h,
                    at.h1,
                    at.hh,
                    std::exp(-0.5 * level.k[i] * level.k[i]),
                    static_cast<Index>(out.z.size()),
                    0};
      const double features[3] = {at.mu0, at.kmu1, muc[i]};
      for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b) out.gram[a][b] += node.weight * features[a] * features[b];
      out.mean_u1 += node.weight * at.u1, out.mean_u2 += node.weight * at.u2;
      in_z.clear();
      const double reach = loss_.hard() ? reaches_[rung_z] : reach_of(rung_z, node.k);
      if (bends) find_bends(bends(node), p.gamma * node.k, p.rho(), reach, narrow);
      rule_in_z(p.gamma * node.k, p.rho(), rung_z, reach, in_z, narrow);
      const Index n = in_z.size();
      t.resize(n), s.resize(n);
      for (Index j = 0; j < n; ++j) t[j] = p.gamma * node.k + p.rho() * in_z.x[j];
      coefficients_->target().evaluate(t.data(), s.data(), n);
      double total = 0;
      for (Index j = 0; j < n; ++j) total += in_z.w[j];
      const auto add = [&](double z, double w, double e, double sign) {
        if (w > 1e-22)
          out.z.push_back(z), out.w.push_back(w), out.e.push_back(e), out.sign.push_back(sign);
      };
      for (Index j = 0; j < n; ++j) {
        const double w = in_z.w[j] / total;
        if (labels_.real()) {
          add(in_z.x[j], w, s[j], 1);
        } else {
          const double plus = labels_.plus(s[j]);
          const double z = in_z.x[j], minus = labels_.plus(-s[j]), near = std::exp(-0.5 * z * z);
          add(z, w * plus, 1, 1);
          out.density.resize(out.z.size(), near * plus);
          add(z, w * minus, 1, -1);
          out.density.resize(out.z.size(), near * minus);
        }
      }
      while (out.z.size() % 8 != 0) {
        out.z.push_back(0), out.w.push_back(0), out.e.push_back(labels_.real() ? 0 : 1);
        out.sign.push_back(1);
      }
      out.density.resize(out.z.size(), 0);
      node.last = static_cast<Index>(out.z.size());
      out.nodes.push_back(node);
    }
    out.size0 = out.gram[0][0];
    return out;
  }

  // Each rung of the rules is denser, and reaches farther out.
  static constexpr double reaches_[n_rungs] = {4.5, 6, 7, 7.7, 8.3, 8.7, 9, 9, 9, 9, 9};
  static constexpr double steps_[n_rungs] = {0.75, 0.55, 0.42,  0.32,  0.24, 0.18,
                                             0.13, 0.1,  0.075, 0.055, 0.04};
  static constexpr double densities_[n_rungs] = {1.1, 1.6, 2.2, 3, 4, 5.3, 7, 10, 13, 18, 25};
  static constexpr int orders_[n_rungs] = {3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6};

  /// How far out a rung in k goes: without slack all may hang on the tails, and a look at them has
  /// to tell.
  double reach_of(int rung_k) const {
    const double all = reaches_[rung_k] + 0.6;
    return loss_.hard() ? all : std::min(all, 7.6);
  }
  /// And one in z at this k: no node where the density of both is below 1e-13. Farther in nothing
  /// may jump from k to k, or the rules in k would see it.
  static double reach_of(int rung_z, double k) {
    return std::min(reaches_[rung_z], std::sqrt(std::max(60 - k * k, 9.0)));
  }

  /// Where e(z) = s*(mean + rho z) - C - tilt z comes to a bend, and over which distance in z the
  /// field's scatter smooths that.
  void find_bends(const LossBends& of, double mean, double rho, double reach,
                  std::vector<Turn>& out) const {
    constexpr Index n = 400;
    out.clear();
    if (rho == 0) return;
    const double h = 2 * reach / (n - 1);
    std::vector<double> t(n), e(n);
    const auto evaluate = [&](std::vector<double>& z, std::vector<double>& into) {
      for (double& x : z) x = mean + rho * x;
      coefficients_->target().evaluate(z.data(), into.data(), static_cast<Index>(z.size()));
      for (std::size_t i = 0; i < z.size(); ++i) {
        z[i] = (z[i] - mean) / rho;
        into[i] -= of.mean + of.tilt * z[i];
      }
    };
    for (Index i = 0; i < n; ++i) t[i] = -reach + h * static_cast<double>(i);
    evaluate(t, e);
    for (int b = 0; b < of.count; ++b) {
      const std::size_t before = out.size();
      std::vector<double> lo, hi, middle, value;
      std::vector<bool> falls;
      for (Index i = 1; i + 2 < n; ++i) {
        const double x = e[i] - of.at[b], y = e[i + 1] - of.at[b], last = e[i - 1] - of.at[b];
        const double bent =
            std::max(std::abs(last - 2 * x + y), std::abs(x - 2 * y + e[i + 2] - of.at[b])) /
            (h * h);
        // Within sd of the bend: by the slope, or by the curvature where it turns back.
        const double turning = std::sqrt(2 * of.sd / std::max(bent, 1e-300));
        if ((x > 0) != (y > 0)) {
          lo.push_back(t[i]), hi.push_back(t[i + 1]), falls.push_back(x > 0);
          out.push_back({0, std::min(turning, of.sd * h / std::max(std::abs(y - x), 1e-300))});
        } else if (std::abs(x) <= std::abs(last) && std::abs(x) < std::abs(y) &&
                   std::abs(x) < 12 * of.sd + bent * h * h) {
          lo.push_back(t[i]), hi.push_back(t[i]), falls.push_back(x > 0);
          out.push_back({0, turning});
        }
      }
      for (int pass = 0; pass < 24 && !lo.empty(); ++pass) {
        middle.resize(lo.size()), value.resize(lo.size());
        for (std::size_t j = 0; j < lo.size(); ++j) middle[j] = 0.5 * (lo[j] + hi[j]);
        evaluate(middle, value);
        for (std::size_t j = 0; j < lo.size(); ++j)
          ((value[j] - of.at[b] > 0) == falls[j] ? lo : hi)[j] = middle[j];
      }
      for (std::size_t j = 0; j < lo.size(); ++j) out[before + j].at = 0.5 * (lo[j] + hi[j]);
    }
  }

  /// Nodes in z at this gamma k, |z| <= reach, with the density; `bends` are places in z.
  void rule_in_z(double mean, double rho, int rung, double reach, Rule& out,
                 const std::vector<Turn>& bends = {}) const {
    if (rho == 0) {
      out.push(0, 1);
      return;
    }
    const double fine = std::min(1.0, 1.6 * sharp_ / rho);
    const bool narrow = shape_.smooth && shape_.strip < 0.4 * rho;
    bool bent = false;
    for (const Turn& bend : bends) bent = bent || bend.scale < 0.5;
    if (shape_.smooth && fine > 0.3 && !narrow && !bent) {
      // Whole vectors of nodes, half of them on either side; the same step at every k.
      const auto fours = [](double x) { return 4 * std::ceil(x / 4 - 1e-9); };
      const double step = reaches_[rung] / fours(reaches_[rung] / (steps_[rung] * fine));
      out.push_trapezoid(step, step * (fours(reach / step) - 0.5));
    } else {
      std::vector<double> edges{-reach, reach};
      const auto add = [&](double z) {
        if (z > -reach && z < reach) edges.push_back(z);
      };
      for (double kink : shape_.kinks) add((kink - mean) / rho);
      for (const Turn& turn : turns_)
        for (double side : {-8.0, 0.0, 8.0}) add((turn.at + side * turn.scale - mean) / rho);
      for (const Turn& bend : bends)
        for (double side : {-8.0, 0.0, 8.0})
          if (bend.scale < 0.5) add(bend.at + side * bend.scale);
      std::sort(edges.begin(), edges.end());
      for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
        if (edges[i + 1] - edges[i] < 1e-14) continue;
        const double middle = mean + rho * 0.5 * (edges[i] + edges[i + 1]);
        double scale = 1;  // a panel of 7 such scales may be one
        if (!shape_.smooth || narrow) scale = std::min(scale, 0.5 * shape_.panel / rho);
        if (std::abs(middle) > shape_.soft && !std::isinf(shape_.soft)) scale = 1;
        for (const Turn& turn : turns_)
          if (std::abs(middle - turn.at) < 8 * turn.scale)
            scale = std::min(scale, 0.7 * turn.scale / rho);
        for (const Turn& bend : bends)
          if (std::abs((middle - mean) / rho - bend.at) < 8 * bend.scale)
            scale = std::min(scale, 0.7 * bend.scale);
        // As many nodes as the length asks for, in panels of 24 at most.
        const double length = edges[i + 1] - edges[i],
                     asked = length / scale * densities_[rung] + orders_[rung];
        const int panels = std::max(1, static_cast<int>(std::ceil(asked / 24)));
        const int order = std::min(
            32, static_cast<int>(std::ceil(asked / panels)) + (panels > 1 ? orders_[rung] : 0));
        out.push_panels(edges[i], edges[i + 1], length / panels, order);
      }
    }
    out.finish();
  }

  Coefficients* coefficients_;
  Loss loss_;
  Labels labels_;
  bool row_norms_;
  Shape shape_;  ///< of the label's law as a function of t
  std::vector<Turn> turns_;
  double sharp_ = infinity, law_scale_ = infinity;
  bool folded_ = false, panels_in_k_ = false;
};

}  // namespace srfx
