// Batches of solves for K groups of neurons, one for each value of the initial readout (THEORY
// section 7).
//
// As in scan.hpp: points of one coefficient set share coefficients and rules, a pack of eight is
// solved at a time, and what a point yields depends on the point alone. Groups that are one and the
// same (equal coefficients, or for odd sigma equal up to the sign of r) are merged first. Every
// solution is probed on a denser rule in k, and solved again on that if they disagree.
#pragma once

#include "srfx/bulk/group_parameters.hpp"
#include "srfx/solve/scan.hpp"

namespace srfx {

/// Alignments with a target of several directions stand in the sets, not in BatchTarget.
struct GroupBatchInput : BatchTarget {
  const Function* sigma = nullptr;
  std::vector<GroupParameters> sets;
  const std::int64_t* set_index = nullptr;
  Index set_stride = 0;
  Column alpha, beta, lam, noise, inverse_d;
  Index n_points = 0;
  int n_threads = 1;
  bool merge = true;
};

/// As BatchOutput, with K values a point for m, q2, v2 and K x K for q1 and v1; theta has K times
/// the spikes given, psi K times the directions of the target: along the part of each that the
/// spikes leave (THEORY section 13, A = (I - Gamma Gamma^T)^(1/2)).
struct GroupBatchOutput {
  double *test_error, *train_error, *m, *theta, *psi, *q1, *q2, *v1, *v2, *residual,
      *quadrature_error;
  std::int8_t* status;
  std::int32_t* iterations;
  int spikes = 1, directions = 1;
};

namespace detail {

inline void store_group_failure(const GroupBatchOutput& out, int k, Index i, Status status,
                                int iterations, double residual) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  out.test_error[i] = out.train_error[i] = out.quadrature_error[i] = nan;
  for (double* x : {out.m, out.q2, out.v2}) std::fill(x + i * k, x + (i + 1) * k, nan);
  std::fill_n(out.theta + i * k * out.spikes, k * out.spikes, nan);
  std::fill_n(out.psi + i * k * out.directions, k * out.directions, nan);
  for (double* x : {out.q1, out.v1}) std::fill(x + i * k * k, x + (i + 1) * k * k, nan);
  out.residual[i] = residual;
  out.status[i] = static_cast<std::int8_t>(status);
  out.iterations[i] = iterations;
}

}  // namespace detail

/// Solves every point of a batch.
void solve_group_batch(const GroupBatchInput& in, const GroupBatchOutput& out,
                       Interrupt& interrupt);

}  // namespace srfx
