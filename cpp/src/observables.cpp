#include "srfx/data/observables.hpp"

#include "srfx/core/dense.hpp"
#include "srfx/solve/group_levels.hpp"
#include "srfx/data/levels.hpp"

#include <utility>

namespace srfx {

GaussianConstants gaussian_constants(const Function& f) {
  MomentEvaluator evaluate;
  Moments at[2];
  const double zero = 0;
  for (int i = 0; i < 2; ++i)
    evaluate(f, GaussianRule(f.shape(), 1.0, i == 0 ? 2 : 4), &zero, 1.0, 1, &at[i]);
  GaussianConstants out;
  const Moments& m = at[1];
  out.second_moment = m.m2 + m.m0 * m.m0 + m.m1 * m.m1;
  const double rms = std::sqrt(out.second_moment);
  out.mean = std::abs(m.m0) < 1e-13 * rms ? 0 : m.m0;
  out.h1 = std::abs(m.m1) < 1e-13 * rms ? 0 : m.m1;
  out.error = std::max({std::abs(at[0].m0 - m.m0), std::abs(at[0].m1 - m.m1),
                        std::abs(std::sqrt(at[0].m2) - std::sqrt(m.m2))}) /
              std::max(rms, 1e-300);
  return out;
}

SlopeConstants slope_constants(const Function& derivative) {
  MomentEvaluator evaluate;
  Moments slope;
  const double zero = 0;
  evaluate(derivative, GaussianRule(derivative.shape(), 1.0, 2), &zero, 1.0, 1, &slope);
  const GaussianConstants rough = gaussian_constants(derivative);
  return {rough.h1, slope.m2 < 1e-24 * rough.second_moment ? 0.0 : slope.m2, rough.error};
}

double coefficients_at(const Function& sigma, const Function& target, const SpikeParameters& p,
                       const double* k, Index n, Moments* of_sigma, Moments* of_target) {
  CoefficientScratch scratch;
  Coefficients coefficients(sigma, target, p, scratch);
  coefficients.sigma_moments(k, n, of_sigma);
  coefficients.target_moments(k, n, of_target);
  return coefficients.error();
}

Bounds bounds(const Function& sigma, const Function& target, const SpikeParameters& p) {
  CoefficientScratch scratch;
  Coefficients coefficients(sigma, target, p, scratch);
  LevelTable table(coefficients);
  const double error = table.find(0).error;
  const Level& level = table.dense();
  const Index n = level.size();
  Eigen::MatrixXd design(n, 2);
  Eigen::VectorXd values(n);
  double rest = 0, h1_squared = 0, h_squared = 0, mu1_h1 = 0, u1 = 0, mu0_h = 0, mu0_squared = 0;
  for (Index i = 0; i < n; ++i) {
    const Node& node = level.nodes[i];
    const double w = node.weight, root = std::sqrt(w);
    design(i, 0) = root * node.mu0;
    design(i, 1) = root * node.kmu1;
    values(i) = root * node.h;
    rest += w * node.rest;
    h1_squared += w * node.h1 * node.h1;
    h_squared += w * node.h * node.h;
    mu1_h1 += w * node.mu1 * node.h1;
    u1 += w * node.u1;
    mu0_h += w * node.mu0 * node.h;
    mu0_squared += w * node.mu0 * node.mu0;
  }
  Bounds out{};
  // Columns of unit norm, so that the cutoff means collinearity, not size.
  Eigen::Vector2d norms = design.colwise().norm();
  for (int j = 0; j < 2; ++j)
    if (norms(j) > 0) design.col(j) /= norms(j);
  const auto [fit, misfit] = dense::least_squares(design, values, 1e-10);
  out.lower_m = norms(0) > 0 ? fit(0) / norms(0) : 0;
  out.lower_theta = norms(1) > 0 ? fit(1) / norms(1) : 0;
  out.lower_psi = u1 > 0 ? mu1_h1 / u1 : 0;
  double misfit1 = 0, misfit_upper = 0;
  out.upper_m = mu0_squared > 0 ? mu0_h / mu0_squared : 0;
  for (Index i = 0; i < n; ++i) {
    const Node& node = level.nodes[i];
    const double f = node.h1 - out.lower_psi * node.mu1, e = node.h - out.upper_m * node.mu0;
    misfit1 += node.weight * f * f;
    misfit_upper += node.weight * e * e;
  }
  out.lower = rest + misfit + misfit1;
  out.upper = rest + h1_squared + misfit_upper;
  out.error = error;
  return out;
}

GroupBounds group_bounds(const Function& sigma, const BatchTarget& target,
                         const GroupParameters& p) {
  CoefficientScratch scratch;
  MergedGroups merged = merge_groups(p, sigma.shape().parity == -1);
  reduce_spikes(merged.distinct);
  GroupTable table(sigma, target, merged.distinct, scratch);
  const auto misfit = [](Eigen::MatrixXd design, const Eigen::VectorXd& values) {
    for (Index j = 0; j < design.cols(); ++j) {
      const double norm = design.col(j).norm();
      if (norm > 0) design.col(j) /= norm;
    }
    return dense::least_squares(design, values, 1e-10).misfit;
  };
  GroupBounds out[2];
  double target_square = 0;
  for (const bool coarse : {true, false}) {
    const GroupNodes nodes = table.dense(KRules::limit, coarse);
    const Index n = nodes.size, k = nodes.groups, n_spiked = nodes.n_columns(),
                directions = nodes.directions;
    Eigen::MatrixXd mean(n, k), both(n, k + n_spiked), slope(n, k), h1(n, directions);
    Eigen::VectorXd h(n);
    double rest = 0;
    for (Index i = 0; i < n; ++i) {
      const double root = std::sqrt(nodes.weight[i]);
      for (Index g = 0; g < k; ++g) {
        both(i, g) = mean(i, g) = root * nodes.mu0[i * k + g];
        slope(i, g) = root * nodes.mu1[i * k + g];
      }
      for (Index c = 0; c < n_spiked; ++c) both(i, k + c) = root * nodes.kmu1[i * n_spiked + c];
      h(i) = root * nodes.h[i];
      for (Index m = 0; m < directions; ++m) h1(i, m) = root * nodes.h1[i * directions + m];
      rest += nodes.weight[i] * nodes.rest[i];
    }
    out[coarse].lower = rest + misfit(both, h);
    for (Index m = 0; m < directions; ++m) out[coarse].lower += misfit(slope, h1.col(m));
    out[coarse].upper = rest + misfit(mean, h) + h1.squaredNorm();
    target_square = nodes.target_square;
  }
  const double moved =
      std::max(std::abs(out[0].lower - out[1].lower), std::abs(out[0].upper - out[1].upper));
  out[0].error = table.error() + (target_square > 0 ? moved / target_square : 0);
  return out[0];
}

TargetConstants target_constants(const TargetFunction& target) {
  const int n = static_cast<int>(target.directions());
  const Directions apart(dense::Matrix::Zero(n, 1));
  Rule origin;
  origin.push(0, 1);
  const auto at = [&](double density) {
    TargetAverages averages(target, apart, density);
    if (averages.cost(1) > 2e8)
      throw std::domain_error("target must have fewer directions or kinks for an exact average");
    return averages.at([&](int, const std::vector<double>&) { return origin; }).values;
  };
  TargetConstants out;
  std::vector<double> fine = at(1);
  for (double density = 1.4; density < 8; density *= 1.4) {
    const std::vector<double> coarse = std::exchange(fine, at(density));
    const double rms = std::sqrt(std::max(fine.back(), 1e-300));
    out.error = std::abs(fine.back() - coarse.back()) / (rms * rms);
    for (int j = 0; j <= n; ++j)
      out.error = std::max(out.error, std::abs(fine[j] - coarse[j]) / rms);
    if (out.error < 1e-13 || TargetAverages(target, apart, 1.4 * density).cost(1) > 2e7) break;
  }
  out.mean = fine[0], out.second_moment = fine[n + 1];
  const double dust = 1e-13 * std::sqrt(out.second_moment);
  if (std::abs(out.mean) < dust) out.mean = 0;
  out.floor = fine[n + 1] - fine[0] * fine[0];
  for (int l = 0; l < n; ++l) {
    double h1 = 0;
    for (int j = 0; j < n; ++j) h1 += apart.turn(l, j) * fine[1 + j];
    out.h1.push_back(std::abs(h1) < dust ? 0 : h1);
    out.floor -= h1 * h1;
  }
  if (!(out.floor > 1e-13 * out.second_moment)) out.floor = 0;
  return out;
}

namespace {

/// M_i = E Z^i sigma(mean + s Z): M0, M1, and M2 - M0.
class Smoothed {
 public:
  Smoothed(const Function& sigma, double s) : sigma_(&sigma), s_(s), rule_(sigma.shape(), s, 2) {}

  std::array<double, 3> operator()(double mean) {
    if (!rule_.shared()) own_.clear(), rule_.at(mean, own_), own_.finish();
    const Rule& nodes = rule_.shared() ? rule_.nodes() : own_;
    x_.resize(nodes.size()), f_.resize(nodes.size());
    for (Index j = 0; j < nodes.size(); ++j) x_[j] = mean + s_ * nodes.x[j];
    sigma_->evaluate(x_.data(), f_.data(), nodes.size());
    std::array<double, 3> m{0, 0, 0};
    for (Index j = 0; j < nodes.size(); ++j) {
      const double wf = nodes.w[j] * f_[j], z = nodes.x[j];
      m[0] += wf;
      m[1] += wf * z;
      m[2] += wf * (z * z - 1);
    }
    return m;
  }

 private:
  const Function* sigma_;
  double s_;
  GaussianRule rule_;
  Rule own_;
  std::vector<double> x_, f_;
};

}  // namespace

void learned_function(const Function& sigma, const SpikeParameters& p, double m, double theta,
                      double psi, const double* t, Index n, double* out, double chi) {
  const double rho = p.rho(), sd = p.sd();
  const double s = std::sqrt(p.r * p.r * rho * rho + p.c);
  Smoothed smoothed(sigma, s);
  for (Index i = 0; i < n; ++i) {
    const auto [m0, m1, m2] = smoothed(p.r * p.gamma * t[i]);
    const double first = sd / s * m1, second = sd * p.r * rho / (s * s) * m2;
    out[i] = m * m0 + theta * (p.gamma * t[i] * first + rho * second) +
             psi * (rho * t[i] * first - p.gamma * second) + chi * m2 / (2 * s * s);
  }
}

void learned_points(const Function& sigma, double s, double m, double second, const double* mean,
                    const double* first, Index n, double* out) {
  Smoothed smoothed(sigma, s);
  for (Index i = 0; i < n; ++i) {
    const auto [m0, m1, m2] = smoothed(mean[i]);
    out[i] = m * m0 + first[i] * m1 + second * m2;
  }
}

}  // namespace srfx
