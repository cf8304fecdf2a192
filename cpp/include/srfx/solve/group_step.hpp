// The actual one-step network with several initial readout values: K groups of neurons in one
// anisotropic bulk (THEORY 10). Batches of solves; group_step_solver.hpp has one,
// group_step_map.hpp and group_step_bulk.hpp the equations of the bulk.
#pragma once

#include "srfx/solve/groups.hpp"

#include <array>

namespace srfx {

struct GroupStepInput {
  const Function *sigma = nullptr, *derivative = nullptr, *target = nullptr;
  std::vector<double> readout, pi;
  std::vector<std::array<double, 3>> sets;  ///< eta, 1/alpha0, noise
  const std::int64_t* set_index = nullptr;
  Index set_stride = 0;
  Column alpha, beta, lam, noise, inverse_d;
  Index n_points = 0;
  int n_threads = 1;
  bool merge = true;
};

/// As GroupBatchOutput, with chi and what each group's neurons became: K values a point.
struct GroupStepOutput : GroupBatchOutput {
  double *chi, *r, *c, *gamma;
};

/// Solves every point of a batch, lam > 0.
void solve_group_step(const GroupStepInput& in, const GroupStepOutput& out, Interrupt& interrupt);

}  // namespace srfx
