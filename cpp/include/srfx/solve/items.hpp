// Points that are solved again and again beside each other, with room for what a solve yields.
#pragma once

#include "srfx/solve/scan.hpp"

#include <utility>
#include <vector>

namespace srfx {

/// Points of one coefficient set with room for what a solve yields.
class Items {
 public:
  static constexpr int n_inputs = 5, n_outputs = 11;
  BatchInput in;
  BatchOutput out{};

  void resize(Index n) {
    if (n > capacity_) {
      capacity_ = n;
      room_.assign(static_cast<std::size_t>(n * (n_inputs + n_outputs)), 0);
      status_.assign(n, 0), iterations_.assign(n, 0), points_.resize(n);
    }
    double* row = room_.data();
    const auto next = [&] { return std::exchange(row, row + capacity_); };
    for (double** column : {&alpha, &beta, &lam, &noise, &inverse_d}) *column = next();
    in.alpha = {alpha, 1}, in.beta = {beta, 1}, in.lam = {lam, 1}, in.noise = {noise, 1},
    in.inverse_d = {inverse_d, 1};
    for (double** column :
         {&out.test_error, &out.train_error, &out.m, &out.theta, &out.psi, &out.q1, &out.q2,
          &out.v1, &out.v2, &out.residual, &out.quadrature_error})
      *column = next();
    out.status = status_.data(), out.iterations = iterations_.data();
    in.n_points = n;
  }
  /// The indices 0 .. n - 1.
  Index* points() {
    for (Index i = 0; i < in.n_points; ++i) points_[i] = i;
    return points_.data();
  }
  void set(Index i, const Point<double>& p) {
    alpha[i] = p.alpha, beta[i] = p.beta, lam[i] = p.lam, noise[i] = p.noise,
    inverse_d[i] = p.inverse_d;
    out.iterations[i] = 0;
  }
  bool converged(Index i) const {
    return out.status[i] == static_cast<std::int8_t>(Status::converged);
  }

  double *alpha = nullptr, *beta = nullptr, *lam = nullptr, *noise = nullptr, *inverse_d = nullptr;

 private:
  Index capacity_ = 0;
  std::vector<double> room_;
  std::vector<std::int8_t> status_;
  std::vector<std::int32_t> iterations_;
  std::vector<Index> points_;
};

}  // namespace srfx
