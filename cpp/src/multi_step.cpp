#include "srfx/solve/multi_step.hpp"

#include "srfx/gaussian/coefficients.hpp"
#include "srfx/gaussian/spike_rules.hpp"

#include <cmath>

namespace srfx {

namespace {

/// What a step is made of, averaged over k, in the frame of the rules.
struct StepAverages {
  dense::Matrix along;      ///< drift: groups x spikes
  dense::Matrix across;     ///< groups x axes of the target, 0 where the spikes leave none
  dense::Matrix overlap;    ///< E[s1_g s1_h u^2]
  dense::Vector fit, left;  ///< E[s2_g u], E[v2_g u^2]

  explicit StepAverages(Index k, Index q, Index n)
      : along(dense::Matrix::Zero(k, q)),
        across(dense::Matrix::Zero(k, n)),
        overlap(dense::Matrix::Zero(k, k)),
        fit(dense::Vector::Zero(k)),
        left(dense::Vector::Zero(k)) {}

  /// By how much another rule moves them, relative to what they are made of.
  double distance(const StepAverages& other) const {
    const double u2 = std::sqrt(std::max(overlap.diagonal().maxCoeff(), left.maxCoeff()));
    const double size = std::max(u2, 1e-150);
    return std::max({(along - other.along).cwiseAbs().maxCoeff() / size,
                     (across - other.across).cwiseAbs().maxCoeff() / size,
                     (overlap - other.overlap).cwiseAbs().maxCoeff() / (size * size),
                     (fit - other.fit).cwiseAbs().maxCoeff() / size,
                     (left - other.left).cwiseAbs().maxCoeff() / (size * size)});
  }
};

class StepAverager {
 public:
  StepAverager(const MultiStepModel& model, const SpikeState& state, double noise)
      : model_(&model),
        noise_(noise),
        rules_(*model.target, state.alignment, scale(state)),
        rows_(state.rows.lazyProduct(rules_.directions().turn_spikes)) {
    for (Index g = 0; g < rows_.rows(); ++g) {
      const SpikeParameters p{rows_.row(g).norm(), state.c[g], 0};
      values_.emplace_back(*model.sigma, *model.sigma, p, scratch_);
      slopes_.emplace_back(*model.derivative, *model.derivative, p, scratch_);
      error_ = std::max({error_, values_.back().error(), slopes_.back().error()});
    }
  }

  const SpikeRules& rules() const { return rules_; }
  const dense::Matrix& rows() const { return rows_; }

  /// On a rule that agrees with the next, or on the last; `error` is by how much they differ.
  StepAverages settled(double& error) {
    constexpr double enough = 1e-12;
    StepAverages coarse = at(0);
    for (int i = 1;; ++i) {
      const StepAverages fine = at(i);
      const double moved = fine.distance(coarse);
      if (moved < enough || i + 1 == rules_.n_rungs()) {
        error = moved + error_;
        return fine;
      }
      coarse = fine;
    }
  }

 private:
  static double scale(const SpikeState& state) {
    double out = infinity;
    for (Index g = 0; g < state.rows.rows(); ++g)
      if (state.rows.row(g).norm() > 0)
        out = std::min(out, std::sqrt(state.c[g]) / state.rows.row(g).norm());
    return out;
  }

  StepAverages at(int rung) {
    const TargetTable table = rules_.rung(rung);
    const Index n = table.size, k = rows_.rows(), q = table.spikes, axes = table.channels - 2;
    std::vector<std::vector<Moments>> value(k), slope(k);
    std::vector<double> along(n);
    for (Index g = 0; g < k; ++g) {
      const double r = values_[g].parameters().r;
      for (Index i = 0; i < n; ++i) {
        along[i] = 0;
        for (Index j = 0; j < q; ++j) along[i] += rows_(g, j) * table.k[i * q + j];
        along[i] = r > 0 ? along[i] / r : 0;
      }
      value[g].resize(n), slope[g].resize(n);
      values_[g].sigma_moments(along.data(), n, value[g].data());
      slopes_[g].sigma_moments(along.data(), n, slope[g].data());
    }
    double mass = 0;
    for (Index i = 0; i < n; ++i) mass += table.weight[i];
    StepAverages out(k, q, axes);
    for (Index i = 0; i < n; ++i) {
      const double w = table.weight[i] / mass;
      const double* const v = &table.values[i * table.channels];
      double f = 0;
      for (Index g = 0; g < k; ++g) f += model_->pi[g] * model_->readout[g] * value[g][i].m0;
      const double square = model_->target->shape().labels ? 1 : v[axes + 1];
      const double u = v[0] - f, spread = std::max(0.0, square - v[0] * v[0]),
                   uu = spread + u * u + noise_;
      for (Index g = 0; g < k; ++g) {
        const Moments& s = slope[g][i];
        for (Index j = 0; j < q; ++j) out.along(g, j) += w * s.m0 * u * table.k[i * q + j];
        for (Index j = 0; j < axes; ++j) out.across(g, j) += w * s.m0 * v[1 + j];
        for (Index h = 0; h < k; ++h) out.overlap(g, h) += w * s.m0 * slope[h][i].m0 * uu;
        out.fit(g) += w * s.m1 * u;
        out.left(g) += w * (s.m2 + s.m1 * s.m1) * uu;
      }
    }
    return out;
  }

  const MultiStepModel* model_;
  double noise_;
  SpikeRules rules_;
  dense::Matrix rows_;
  CoefficientScratch scratch_;
  std::vector<Coefficients> values_, slopes_;
  double error_ = 0;
};

}  // namespace

SpikeState multi_step(const MultiStepModel& model, const double* eta, const double* inverse_alpha0,
                      int n_steps, double noise) {
  const Index k = static_cast<Index>(model.readout.size()), n = model.target->directions();
  SpikeState state;
  state.rows = dense::Matrix::Zero(k, 1), state.alignment = dense::Matrix::Zero(n, 1);
  state.c.assign(k, 1.0);
  for (int step = 0; step < n_steps; ++step) {
    const double rate = eta[step], inverse = inverse_alpha0[step];
    if (rate == 0 || std::isinf(inverse)) continue;
    StepAverager averager(model, state, noise);
    double error = 0;
    const StepAverages x = averager.settled(error);
    state.error = std::max(state.error, error);
    const Directions& frame = averager.rules().directions();
    const Index q = x.along.cols();
    // R and the directions of the target in the frame (k', z', noise).
    dense::Matrix rows = dense::Matrix::Zero(k, q + n + k),
                  axes = dense::Matrix::Zero(n, q + n + k);
    const dense::Eigenpairs noise_of = dense::eigen(x.overlap * inverse);
    for (Index g = 0; g < k; ++g) {
      const double own = rate * model.readout[g];
      for (Index j = 0; j < q; ++j) rows(g, j) = averager.rows()(g, j) + own * x.along(g, j);
      for (Index j = 0; j < n; ++j) rows(g, q + j) = own * x.across(g, j);
      for (Index j = 0; j < k; ++j)
        if (noise_of.values(j) > 1e-13 * noise_of.values(k - 1))
          rows(g, q + n + j) = own * noise_of.vectors(g, j) * std::sqrt(noise_of.values(j));
      const double bulk = std::sqrt(state.c[g]) + own * x.fit(g);
      state.c[g] = bulk * bulk + own * own * x.left(g) * inverse;
    }
    for (Index l = 0; l < n; ++l)
      for (Index j = 0; j < n; ++j) {
        if (j < q) axes(l, j) = frame.turn(l, j) * frame.gamma[j];
        axes(l, q + j) = frame.turn(l, j) * frame.rho[j];
      }
    dense::Matrix v = row_space(rows);
    for (Index j = 0; j < v.cols(); ++j)  // the first group has positive strengths
      if (rows.row(0).dot(v.col(j)) < 0) v.col(j) *= -1;
    state.rows = rows.lazyProduct(v), state.alignment = axes.lazyProduct(v);
  }
  return state;
}

}  // namespace srfx
