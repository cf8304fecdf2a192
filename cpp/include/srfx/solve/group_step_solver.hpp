// One point of a step with several readout values: V by Newton's method, then the linear part
// (THEORY 9 e, 10).
#pragma once

#include "srfx/core/dense.hpp"
#include "srfx/solve/group_solver.hpp"
#include "srfx/bulk/group_step_bulk.hpp"
#include "srfx/data/kernel_fit.hpp"

namespace srfx {

/// A solution of groups in the anisotropic bulk, unit convention.
struct GroupStepOrder : GroupOrder<double, dynamic_groups> {
  GroupArray<double, -1> chi;
  explicit GroupStepOrder(int k, int directions = 1) : GroupOrder(k, 1, directions), chi(k) {}
};

/// One point, from nodes and with V1 over axes of its own; `linear_part` is in the unit convention
/// again.
class GroupStepSolver : public GroupSolver<double, GroupStepBulk> {
 public:
  GroupStepSolver(const GroupStep& step, const Point<double>& point)
      : GroupSolver(GroupStepBulk(step, point.beta, &step.axes)),
        step_model_(&step),
        k_(step.k()),
        directions_(step.directions()) {
    point_ = point;
    for (int j = 0; j < map.packed; ++j) v[j] = 0;
    for (int g = 0; g < k_; ++g) {
      v[map.pairs + g] = step.pi[g] / point.lam;
      for (int a = 0; a < k_; ++a)
        for (int b = a; b < k_; ++b)
          v[map.at(a, b)] +=
              step.axes(g, a) * step.groups[g].spike.c * v[map.pairs + g] * step.axes(g, b);
    }
  }

  int all_iterations = 0;

  /// Nodes along the axes.
  GroupNodes turned(const GroupNodes& nodes) const {
    return step_model_->turned(nodes, map.axes());
  }
  /// Turns the axes to the principal ones of Vh1 as it was last.
  void turn() {
    const Eigen::MatrixXd vh1 = square(vh_);
    if (!vh1.allFinite()) return;
    const Eigen::MatrixXd by = GroupStep::principal_axes(vh1),
                          v1 = detail::mul<double>(detail::mul<double>(by.transpose(), square(v)),
                                                   by);
    map.turn(by);
    for (int g = 0; g < k_; ++g)
      for (int h = g; h < k_; ++h) v[map.at(g, h)] = v1(g, h);
  }

  void newton(const GroupNodes& nodes, const NewtonSettings& settings) {
    GroupSolver::newton(nodes, settings);
    all_iterations += static_cast<int>(iterations);
  }

  /// The linear part (THEORY 9 e and 10). `muc`: the third feature at the nodes, size x groups.
  GroupStepOrder linear_part(const GroupNodes& nodes, const std::vector<double>& muc) {
    look(nodes, false);
    const double ratio = point_.ratio;
    const bool finite_d = point_.inverse_d > 0;
    const int n_mean = finite_d ? k_ : nodes.rank;
    const std::vector<double>& means = finite_d ? nodes.mu0 : nodes.basis;
    GroupStepOrder out(k_, directions_);
    const Fit fit = fitted(nodes, muc, finite_d, means, n_mean);
    for (int g = 0; g < k_; ++g) {
      out.theta[g] = fit.theta(g), out.chi[g] = fit.chi(g), out.m[g] = finite_d ? fit.mean(g) : 0;
      for (int c = 0; c < n_mean && !finite_d; ++c)
        out.m[g] += nodes.to_m[g * n_mean + c] * fit.mean(c);
    }
    for (int j = 0; j < directions_ * k_; ++j) out.psi[j] = fit.psi(j);
    const auto left = [&](Index i) {
      double e = nodes.h[i];
      for (int c = 0; c < n_mean; ++c) e -= means[i * n_mean + c] * fit.mean(c);
      for (int g = 0; g < k_; ++g)
        e -= nodes.kmu1[i * k_ + g] * fit.theta(g) + muc[i * k_ + g] * fit.chi(g);
      return e;
    };
    Eigen::MatrixXd pulls = Eigen::MatrixXd::Zero(k_, 2);
    const Misfit r = misfit(nodes, out.psi, left, [&](Index i, double we) {
      for (int g = 0; g < k_; ++g)
        pulls(g, 0) += we * nodes.kmu1[i * k_ + g], pulls(g, 1) += we * muc[i * k_ + g];
    });
    double defect = 0;
    for (int g = 0; g < k_; ++g)
      defect += std::abs(fit.theta(g) * (pulls(g, 0) - fit.hats(g, 0) / ratio)) +
                std::abs(fit.chi(g) * (pulls(g, 1) - fit.hats(g, directions_ + 1) / ratio));
    Eigen::VectorXd source = map.sources(fit.hats);
    for (int g = 0; g < k_; ++g)
      for (int h = g; h < k_; ++h)
        for (int m = 0; m < directions_ * k_; m += k_)
          source(map.at(g, h)) -= fit.psi(m + g) * fit.psi(m + h);
    complete(nodes, r, defect, source.data(), out);
    out.residual = map.failed() ? 1.0 : std::max(out.residual, map.defect());
    turn_back(out);
    return out;
  }

  /// Averages at v on two rules: their largest relative difference.
  double difference(const GroupNodes& a, const GroupNodes& b) {
    const Eigen::MatrixXd x = probe(a), y = probe(b);
    double worst = 0;
    for (Index i = 0; i < x.rows(); ++i)
      if (y(i, 1) > 1e-280) worst = std::max(worst, std::abs(x(i, 0) - y(i, 0)) / y(i, 1));
    return worst;
  }

 private:
  /// Coefficients of the columns of means, of the others (psi: of one direction after the other),
  /// and the hats of v, z_1, .., delta and the mean (scaled by sqrt(beta d)).
  struct Fit {
    Eigen::VectorXd mean, theta, psi, chi;
    Eigen::MatrixXd hats;
  };

  Fit fitted(const GroupNodes& nodes, const std::vector<double>& muc, bool finite_d,
             const std::vector<double>& means, int n_mean) const {
    using detail::apply;
    const Index n_nodes = nodes.size;
    const double ratio = point_.ratio;
    const GroupOverlaps<double> k = map.overlaps();
    // Columns: means (their distinguishable combinations where they are free), k mu1, mu_c; made
    // orthonormal.
    const int n_columns = n_mean + 2 * k_;
    Eigen::MatrixXd design(n_nodes, n_columns);
    Eigen::VectorXd target(n_nodes), ps(directions_ * k_);
    ps.setZero();
    for (Index i = 0; i < n_nodes; ++i) {
      const double root = std::sqrt(nodes.weight[i] * w_[i]);
      for (int c = 0; c < n_mean; ++c) design(i, c) = root * means[i * n_mean + c];
      for (int g = 0; g < k_; ++g) {
        design(i, n_mean + g) = root * nodes.kmu1[i * k_ + g];
        design(i, n_mean + k_ + g) = root * muc[i * k_ + g];
        for (int m = 0; m < directions_; ++m)
          ps(m * k_ + g) += ratio * nodes.weight[i] * w_[i] * nodes.mu1[i * k_ + g] *
                            nodes.h1[i * directions_ + m];
      }
      target(i) = root * nodes.h[i];
    }
    const dense::Triangle fit = dense::triangle(design, target);
    using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Rows r = fit.r;
    const int rows = static_cast<int>(r.rows());
    Rows full = Rows::Zero(n_columns, n_columns);
    Eigen::VectorXd kz = Eigen::VectorXd::Zero(n_columns), y(n_columns), x(n_columns),
                    work(rows * (2 * n_columns + 1));
    const double mean_scale = finite_d ? point_.beta / point_.inverse_d : 0;
    if (finite_d) full.topLeftCorner(k_, k_) = mean_scale * k.mean;
    full.block(n_mean, n_mean, k_, k_) = k.vv;
    full.block(n_mean, n_mean + k_, k_, k_) = k.dv.transpose();
    full.block(n_mean + k_, n_mean, k_, k_) = k.dv;
    full.block(n_mean + k_, n_mean + k_, k_, k_) = k.dd;
    kz.segment(n_mean, k_) = apply(k.vz, ps);
    kz.tail(k_) = apply(k.dz, ps);
    fit_against_kernel(rows, n_columns, finite_d ? 0 : n_mean, r.data(), fit.qt_b.data(),
                       full.data(), kz.data(), ratio, y.data(), x.data(), work.data());
    Fit out;
    const int delta = directions_ + 1;
    out.hats = Eigen::MatrixXd::Zero(k_, delta + 2);
    out.hats.col(0) = y.segment(n_mean, k_), out.hats.col(delta) = y.tail(k_);
    for (int j = 0; j < directions_ * k_; ++j) out.hats(j % k_, 1 + j / k_) = ps(j);
    if (finite_d) out.hats.col(delta + 1) = std::sqrt(mean_scale) * y.head(k_);
    out.mean = x.head(n_mean), out.theta = x.segment(n_mean, k_), out.chi = x.tail(k_);
    out.psi = apply(k.vz.transpose(), out.hats.col(0)) +
              apply(k.dz.transpose(), out.hats.col(delta)) + apply(k.zz, ps);
    return out;
  }

  /// From the axes to the groups, unit convention.
  void turn_back(GroupStepOrder& out) const {
    const Eigen::MatrixXd legs = step_model_->legs(map.axes()), legs_t = legs.transpose();
    const auto turned = [&](double* first) {
      Eigen::Map<Eigen::VectorXd> at(first, k_);
      at = detail::apply(legs, Eigen::VectorXd(at));
    };
    turned(&out.theta[0]);
    for (int m = 0; m < directions_; ++m) turned(&out.psi[m * k_]);
    for (auto* x : {&out.q1, &out.v1}) {
      Eigen::Map<Eigen::MatrixXd> at(&(*x)[0], k_, k_);
      const Eigen::MatrixXd back = detail::mul(detail::mul(legs, Eigen::MatrixXd(at)), legs_t);
      at = 0.5 * (back + back.transpose());
    }
  }

  /// The averages, and what their errors are judged by. Of the target not its square alone: that of
  /// a sign is 1, whatever a rule makes of h.
  Eigen::MatrixXd probe(const GroupNodes& nodes) {
    weigh(nodes);
    const int n = map.packed, rest = n + 2 * k_, cross = rest + 3,
              squares = cross + (2 + directions_) * k_;
    Eigen::MatrixXd out = Eigen::MatrixXd::Zero(squares + 1 + directions_, 2);
    for (Index i = 0; i < nodes.size; ++i) {
      const double w = w_[i], ww = nodes.weight[i] * w, h = nodes.h[i];
      const double* const h1 = &nodes.h1[i * directions_];
      double norm = h * h + nodes.rest[i];
      for (int m = 0; m < directions_; ++m) {
        norm += h1[m] * h1[m];
        out(squares + 1 + m, 0) += ww * h1[m] * h1[m];
      }
      out(squares, 0) += ww * h * h;
      for (int j = 0; j < n; ++j) out(j, 0) += ww * nodes.e[i * nodes.stride + j];
      for (int g = 0; g < k_; ++g) {
        const double mu0 = nodes.mu0[i * k_ + g], kmu1 = nodes.kmu1[i * k_ + g];
        out(n + g, 0) += ww * mu0 * mu0, out(n + k_ + g, 0) += ww * kmu1 * kmu1;
        out(cross + g, 0) += ww * mu0 * h, out(cross + k_ + g, 0) += ww * kmu1 * h;
        for (int m = 0; m < directions_; ++m)
          out(cross + (2 + m) * k_ + g, 0) += ww * nodes.mu1[i * k_ + g] * h1[m];
      }
      out(rest, 0) += ww * norm, out(rest + 1, 0) += ww * w * norm, out(rest + 2, 0) += ww * w;
    }
    out.col(1) = out.col(0).cwiseAbs();
    // Vh1 acts beside the inverse of X: what is far below 1/(beta V1) does not matter.
    const auto size = [&](int g) {
      return out(map.at(g, g), 0) + 1 / (point_.alpha * v[map.at(g, g)]);
    };
    // Products with the target may vanish, and so may features over axes: beside those of all.
    const double target = out(rest, 0);
    double mu1_square = 0;
    for (int g = 0; g < k_; ++g) mu1_square += size(g);
    const auto scale = [&](int first, int count, double norm) {
      out.col(1).segment(first, count).setConstant(std::sqrt(norm * target));
    };
    scale(cross, k_, out.col(0).segment(n, k_).sum());
    const double spike_square = out.col(0).segment(n + k_, k_).sum();
    out.col(1).segment(n + k_, k_).setConstant(spike_square);
    scale(cross + k_, k_, spike_square);
    scale(cross + 2 * k_, directions_ * k_, mu1_square);
    scale(squares, 1 + directions_, target);
    for (int g = 0; g < k_; ++g)
      for (int h = g; h < k_; ++h) out(map.at(g, h), 1) = std::sqrt(size(g) * size(h));
    return out;
  }

  /// What is packed first, as a matrix.
  Eigen::MatrixXd square(const Packed& x) const {
    Eigen::MatrixXd out(k_, k_);
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h) out(g, h) = x[map.at(g, h)];
    return out;
  }

  const GroupStep* step_model_;
  int k_, directions_;
};

}  // namespace srfx
