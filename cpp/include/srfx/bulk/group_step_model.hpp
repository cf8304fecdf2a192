// What a step with several initial readout values leaves of its network, whatever lam: r_g, c_g,
// the law of the residual and the axes of the features (THEORY 10).
//
// Group g has learning rate a_g eta: StepModel gives its r_g, c_g, e2_g = a_g eta h2, kap_g,
// C_delta,g and L_g; the residual u is common. A target may have several directions (THEORY 14):
// its spike is one, and t_l are those in the frame of axes that the coefficients in k use, of which
// the first has all of the alignment.
#pragma once

#include "srfx/core/dense.hpp"
#include "srfx/bulk/group_map.hpp"
#include "srfx/bulk/one_step.hpp"
#include "srfx/gaussian/label_residual.hpp"
#include "srfx/gaussian/label_target.hpp"

#include <array>
#include <functional>

namespace srfx {

/// What all points of one (eta, alpha0, noise) share. The step sees the labels, whose noise is that
/// of the set.
struct GroupStep {
  std::vector<double> a, pi;  ///< readout values and probabilities
  std::vector<StepModel> groups;
  StepConstants constants;
  double eta = 0, iota = 0, square = 0;  ///< square: sum pi a^2
  double gamma = 0, l = 1;               ///< gamma: its length, of several directions
  dense::Matrix alignment;  ///< L x 1, as the target was given; empty for one direction
  bool wide = false, lean = false, stepped = false;
  ResidualNodes nodes, check;
  double nodes_error = 0;
  /// K x K, orthogonal: of the features mu1_g/sqrt(c_g), from the largest to the smallest; see
  /// find_axes.
  Eigen::MatrixXd axes;
  std::vector<std::array<int, 2>>
      places;  ///< of the unknown elements of X: its upper triangle by rows

  /// Alignment of the spike with each direction of the target.
  void align() {
    const std::vector<double>& drift = groups[0].moments.drift;
    alignment = dense::Matrix::Zero(static_cast<Index>(drift.size()), 1);
    const double length = groups[0].l;
    for (std::size_t j = 0; j < drift.size() && length > 0 && !std::isinf(iota); ++j)
      alignment(static_cast<Index>(j), 0) = drift[j] / length;
  }

  int k() const { return static_cast<int>(a.size()); }
  int n() const { return wide ? 2 * k() : k(); }
  int directions() const { return std::max(1, static_cast<int>(alignment.rows())); }

  GroupStep(const StepConstants& constants_of_sigma, const BatchTarget& target,
            std::vector<double> values, std::vector<double> weights, double mean,
            double learning_rate, double inverse_alpha0, double noise, const Labels& labels = {})
      : a(std::move(values)),
        pi(std::move(weights)),
        constants(constants_of_sigma),
        eta(learning_rate),
        iota(inverse_alpha0) {
    const double offset = mean * constants.h0;
    if (target.directed != nullptr) {
      seen_ = seen_by_steps(*target.directed, Labels::of(labels.kind, noise));
      if (!labels.real()) noise = 0;  // theirs is part of what is seen
    }
    const auto build = [&](const ResidualMoments& moments) {
      groups.clear();
      for (double x : a) groups.emplace_back(constants, moments, x, eta, iota, false);
    };
    if (target.directed != nullptr) {
      double before = infinity;
      for (double fineness = 1; fineness < 4; fineness *= 1.5) {
        ResidualRule rule = target_rule(*seen_, fineness);
        for (double& u : rule.u) u -= offset;
        build(widened(ResidualMoments(rule), noise));
        const double last = groups[0].moments.u[6];
        if (std::abs(last - before) <= 1e-11 * last || rule.size() > 500000) break;
        before = last;
      }
      align();
    } else if (!labels.real()) {
      LabelResidual residual(*target.target, Labels::of(labels.kind, noise), offset);
      build(residual.moments);
      nodes = std::move(residual.nodes);
    } else {
      build(widened(ResidualMoments(residual_rule(*target.target, offset, 1.0, 1.5, 16)), noise));
    }
    double closest = infinity, angle = 1;
    for (std::size_t g = 0; g < a.size(); ++g) {
      stepped = stepped || groups[g].stepped;
      wide = wide || groups[g].e2 != 0;
      square += pi[g] * a[g] * a[g];
      if (groups[g].stepped)
        closest = std::min(closest, groups[g].pole()), angle = std::min(angle, groups[g].angle());
    }
    for (int i = 0; i < n(); ++i)
      for (int j = i; j < n(); ++j) places.push_back({i, j});
    if (!stepped) {
      nodes = ResidualNodes(directions());
      std::vector<double> one(nodes.w.size(), 0.0);
      one[0] = 1;
      for (int j = 0; j < directions(); ++j) one[row_of_two(j, j)] = 1;
      nodes.push(0, one.data());
      nodes.pad();
      check = nodes;
      eta = 0, iota = std::isinf(iota) ? 1 : iota;
      gamma = groups[0].spike.gamma;
      return;
    }
    const double top = std::sqrt(std::max(groups[0].moments.u[2], 1e-300));
    const double delta = std::exp2(std::floor(std::log2(std::clamp(closest, 1e-9 * top, 4 * top))));
    for (const StepModel& g : groups) {
      lean = lean || g.lean;
      if (g.stepped) gamma = g.spike.gamma;
    }
    l = groups[0].l;
    if (!labels.real() && target.directed == nullptr) {  // the two values of u
      check = nodes;
      return;
    }
    if (target.directed != nullptr) {
      finer_ = [of = seen_, offset, noise, delta, angle](double fineness) {
        return residual_nodes(*of, offset, noise, delta, angle, fineness);
      };
      nodes = finer_(1), check = finer_(fineness_);
      return;
    }
    // With h2 = 0 and E z S^2 = 0 only even functions of (t, u) are averaged.
    const bool even = !wide && constants.b12 == 0;
    ResidualLaw law = residual_law(*target.target, offset, noise, delta, angle, even, true);
    nodes = std::move(law.nodes), check = std::move(law.check);
  }
  /// Of several directions, whose nodes were off by this error: those of `check` take their place.
  /// True: there are denser ones to check these with.
  bool refine(double error) {
    if (!finer_) return false;
    nodes = std::move(check), check = ResidualNodes(directions());
    // The rules converge geometrically.
    nodes_error = std::pow(error, 1.4);
    if (error < 1e-9 || std::pow(1.5 * fineness_, directions()) > 12) return false;
    fineness_ *= 1.5;
    check = finer_(fineness_);
    turn_directions(check);
    return true;
  }

  /// Rows of the nodes with the weights of E t_i f(u) and of E t_i t_j f(u).
  static int row_of(int i) { return 1 + i; }
  int row_of_two(int i, int j) const {
    return 1 + directions() + detail::index(directions(), i, j);
  }
  /// Takes the directions to the axes t' = U^T t, once.
  void turn_directions(const dense::Matrix& turn) {
    turn_ = turn;
    for (ResidualNodes* of : {&nodes, &check}) turn_directions(*of);
  }

  /// Groups with nearly parallel features have combinations that hardly act: V is large along those
  /// and small along the others, by 1/lam, and would lose that many digits as a matrix over the
  /// groups. Over the principal axes of Vh1 it does not. These are where a point starts from: the
  /// axes without its weights w, which may be quite others.
  void find_axes(const GroupNodes& of) {
    Eigen::MatrixXd second = Eigen::MatrixXd::Zero(k(), k());
    for (int g = 0; g < k(); ++g)
      for (int h = g; h < k(); ++h) {
        const double x =
            of.mean_e[detail::index(k(), g, h)] / std::sqrt(groups[g].spike.c * groups[h].spike.c);
        second(g, h) = second(h, g) = x;
      }
    axes = principal_axes(second);
  }
  /// Orthogonal, the largest first.
  static Eigen::MatrixXd principal_axes(const Eigen::MatrixXd& symmetric) {
    return dense::eigen(symmetric).vectors.rowwise().reverse();
  }
  /// Coefficients of the features along axes, in those of the groups' mu1.
  Eigen::MatrixXd legs(const Eigen::MatrixXd& along) const {
    Eigen::MatrixXd out = along;
    for (int g = 0; g < k(); ++g) out.row(g) /= std::sqrt(groups[g].spike.c);
    return out;
  }
  /// The same nodes with the features along axes in place of mu1.
  GroupNodes turned(const GroupNodes& of, const Eigen::MatrixXd& along) const {
    GroupNodes out = of;
    const Eigen::MatrixXd combination = legs(along);
    std::fill(out.mean_e.begin(), out.mean_e.begin() + out.pairs, 0.0);
    for (Index node = 0; node < out.size; ++node) {
      double *const f = &out.mu1[node * k()], *const kf = &out.kmu1[node * k()],
                    *const e = &out.e[node * out.stride];
      for (int i = 0; i < k(); ++i) {
        f[i] = 0;
        for (int g = 0; g < k(); ++g) f[i] += combination(g, i) * of.mu1[node * k() + g];
        kf[i] = out.k[node] * f[i];
      }
      for (int i = 0; i < k(); ++i)
        for (int j = i; j < k(); ++j) {
          const int at = detail::index(k(), i, j);
          e[at] = f[i] * f[j];
          out.mean_e[at] += out.weight[node] * e[at];
        }
    }
    return out;
  }

 private:
  void turn_directions(ResidualNodes& of) const {
    const int count = directions();
    if (count == 1 || turn_.size() == 0) return;
    const ResidualNodes before = of;
    for (std::size_t node = 0; node < before.u.size(); ++node)
      for (int x = 0; x < count; ++x) {
        double first = 0;
        for (int i = 0; i < count; ++i) first += turn_(i, x) * before.w[row_of(i)][node];
        of.w[row_of(x)][node] = first;
        for (int y = x; y < count; ++y) {
          double second = 0;
          for (int i = 0; i < count; ++i)
            for (int j = 0; j < count; ++j)
              second += turn_(i, x) * before.w[row_of_two(i, j)][node] * turn_(j, y);
          of.w[row_of_two(x, y)][node] = second;
        }
      }
  }

  std::shared_ptr<const TargetFunction> seen_;  ///< of several directions
  std::function<ResidualNodes(double)> finer_;
  double fineness_ = 1.5;  ///< of `check`
  dense::Matrix turn_;
};

}  // namespace srfx
