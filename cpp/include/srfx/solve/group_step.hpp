// The actual one-step network with several initial readout values: K groups of neurons in one
// anisotropic bulk (THEORY 10 and 14). Batches of solves; group_step_solver.hpp has one,
// group_step_map.hpp and group_step_bulk.hpp the equations of the bulk.
#pragma once

#include "srfx/gaussian/labels.hpp"
#include "srfx/solve/groups.hpp"

#include <array>

namespace srfx {

/// Alignments with a target of several directions are those of the steps, not of BatchTarget.
struct GroupStepInput : BatchTarget {
  const Function *sigma = nullptr, *derivative = nullptr;
  std::vector<double> readout, pi;
  std::vector<std::array<double, 3>> sets;  ///< eta, 1/alpha0, noise
  Labels labels;                            ///< that the step sees; their noise is that of each set
  const std::int64_t* set_index = nullptr;
  Index set_stride = 0;
  Column alpha, beta, lam, noise, inverse_d;
  Index n_points = 0;
  int n_threads = 1;
  bool merge = true;
};

/// As GroupBatchOutput, with chi and what each group's neurons became: K values a point. gamma of a
/// target of several directions: one value for each of these.
struct GroupStepOutput : GroupBatchOutput {
  double *chi, *r, *c, *gamma;
};

/// Solves every point of a batch, lam > 0.
void solve_group_step(const GroupStepInput& in, const GroupStepOutput& out, Interrupt& interrupt);

}  // namespace srfx
