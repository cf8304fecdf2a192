// What a step with several initial readout values leaves of its network, whatever lam: r_g, c_g,
// the law of the residual and the axes of the features (THEORY 10).
//
// Group g has learning rate a_g eta: StepModel gives its r_g, c_g, e2_g = a_g eta h2, kap_g,
// C_delta,g and L_g; the residual u is common.
#pragma once

#include "srfx/core/dense.hpp"
#include "srfx/bulk/group_map.hpp"
#include "srfx/bulk/one_step.hpp"

#include <array>

namespace srfx {

/// What all points of one (eta, alpha0, noise) share.
struct GroupStep {
  std::vector<double> a, pi;  ///< readout values and probabilities
  std::vector<StepModel> groups;
  StepConstants constants;
  double eta = 0, iota = 0, square = 0;  ///< square: sum pi a^2
  double gamma = 0, l = 1;
  bool wide = false, lean = false, stepped = false;
  ResidualNodes nodes, check;
  double nodes_error = 0;
  /// K x K, orthogonal: of the features mu1_g/sqrt(c_g), from the largest to the smallest; see
  /// find_axes.
  Eigen::MatrixXd axes;
  std::vector<std::array<int, 2>>
      places;  ///< of the unknown elements of X: its upper triangle by rows

  int k() const { return static_cast<int>(a.size()); }
  int n() const { return wide ? 2 * k() : k(); }

  GroupStep(const StepConstants& constants_of_sigma, const Function& target,
            std::vector<double> values, std::vector<double> weights, double mean,
            double learning_rate, double inverse_alpha0, double noise)
      : a(std::move(values)),
        pi(std::move(weights)),
        constants(constants_of_sigma),
        eta(learning_rate),
        iota(inverse_alpha0) {
    const double offset = mean * constants.h0;
    const auto build = [&](const ResidualMoments& moments) {
      groups.clear();
      for (double x : a) groups.emplace_back(constants, moments, x, eta, iota, false);
    };
    build(widened(ResidualMoments(residual_rule(target, offset, 1.0, 1.5, 16)), noise));
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
      const double one[3] = {1, 0, 1};
      nodes.push(0, one);
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
    // With h2 = 0 and E z S^2 = 0 only even functions of (t, u) are averaged.
    const bool even = !wide && constants.b12 == 0;
    ResidualLaw law = residual_law(target, offset, noise, delta, angle, even, true);
    nodes = std::move(law.nodes), check = std::move(law.check);
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
};

}  // namespace srfx
