// What the points of one step with several readout values share: the step, and the coefficients of
// its groups in k.
#pragma once

#include "srfx/bulk/group_step_bulk.hpp"
#include "srfx/solve/group_levels.hpp"
#include "srfx/solve/group_step.hpp"

#include <memory>

namespace srfx {

/// What all steps of a batch share. One and the same are groups of equal readout values, or for odd
/// sigma of values equal up to sign.
struct GroupStepCommon {
  StepConstants constants;
  MergedGroups merged;
  double mean = 0;  ///< of the readout

  explicit GroupStepCommon(const GroupStepInput& in)
      : constants(step_constants(*in.sigma, *in.derivative)) {
    GroupParameters values;
    values.r = in.readout, values.pi = in.pi, values.c.assign(in.readout.size(), 1.0);
    merged = merge_groups(values, in.sigma->shape().parity == -1, in.merge);
    for (std::size_t g = 0; g < in.readout.size(); ++g) mean += in.pi[g] * in.readout[g];
  }
};

/// One (eta, alpha0, noise).
struct GroupStepParts {
  CoefficientScratch scratch;
  std::unique_ptr<GroupStep> step;
  GroupParameters parameters;  ///< of the distinct groups
  std::unique_ptr<GroupTable> table;
  dense::Matrix turn;  ///< of the directions: the table's axes in those given

  void make(const GroupStepInput& in, const GroupStepCommon& common, Index set) {
    const auto [eta, inverse_alpha0, noise] = in.sets[set];
    step = std::make_unique<GroupStep>(common.constants, in, common.merged.distinct.r,
                                       common.merged.distinct.pi, common.mean, eta, inverse_alpha0,
                                       noise, in.labels);
    GroupParameters& p = parameters;
    p.pi = step->pi, p.gamma = step->gamma, p.alignment = step->alignment;
    for (const StepModel& g : step->groups) p.r.push_back(g.spike.r), p.c.push_back(g.spike.c);
    table = std::make_unique<GroupTable>(*in.sigma, in, p, scratch);
    turn = table->turn();
    step->turn_directions(turn);
    step->find_axes(table->starter());
    // How good the rule for u is, at a few V.
    const int k = step->k(), pairs = k * (k + 1) / 2;
    do {
      double& error = step->nodes_error = 0;
      GroupStepBulk bulk(*step, 1.0);
      for (const double a : {1e-4, 1e-2, 1.0}) {
        Eigen::VectorXd vh = Eigen::VectorXd::Zero(pairs + k);
        for (int g = 0; g < k; ++g) vh(detail::index(k, g, g)) = 1, vh(pairs + g) = a;
        bulk.solve(vh, 0);
        if (!bulk.failed()) error = std::max(error, bulk.compare(step->check));
      }
    } while (step->refine(step->nodes_error));
    step->nodes_error = std::max(step->nodes_error, common.constants.error);
  }
};

}  // namespace srfx
