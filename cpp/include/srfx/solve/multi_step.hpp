// Several gradient steps, isotropic bulk: the spikes they make (THEORY section 15).
//
// A state is R (K x q), c_g and Gamma (L x q): the rows of group g are sqrt(c_g) w0 + sum_j R_gj
// v_j/sqrt d. A step on fresh samples adds to R a drift along the spikes and along what they leave
// of the target's directions, and noise of its own that the groups share as far as N_gh = E[s1_g
// s1_h u^2]/alpha0 says. The rows then span a new space: their row space.
#pragma once

#include "srfx/bulk/group_parameters.hpp"
#include "srfx/gaussian/target.hpp"
#include "srfx/gaussian/quadrature.hpp"

namespace srfx {

struct MultiStepModel {
  const Function* sigma = nullptr;
  const Function* derivative = nullptr;
  const TargetFunction* target = nullptr;
  std::vector<double> readout, pi;
};

struct SpikeState {
  dense::Matrix rows, alignment;
  std::vector<double> c;
  double error = 0;  ///< estimated, of the averages, relative
};

/// The state after steps of learning rates eta on alpha0 d samples each; inverse_alpha0 = infinity
/// is no step.
SpikeState multi_step(const MultiStepModel& model, const double* eta, const double* inverse_alpha0,
                      int n_steps, double noise);

}  // namespace srfx
