// Batches of the actual step and of given weights.
#include "srfx/solve/step_gradient.hpp"

namespace srfx {

/// Largest relative difference of averages over two sets of nodes, at poles that a solve may meet.
double OneStepSource::difference(const Shared& shared, const ResidualNodes& other) {
  double worst = 0;
  for (double s : {1e-8, 1e-4, 1e-2, 1.0, 1e2})
    for (double beta : {0.5, 2.0}) {
      const OneStepBulk<double> bulk(shared.step, shared.nodes);
      bulk.resolvent(s, beta);
      if (bulk.failed()) continue;
      worst = std::max(worst, bulk.compare(other));
    }
  return worst;
}

std::unique_ptr<OneStepSource::Shared> OneStepSource::shared(Index set) const {
  const Parameters& p = sets_[set];
  auto out = std::make_unique<Shared>();
  const bool allow = path_ == Path::automatic;
  if (!labels_.real()) {
    LabelResidual law(*target_, {labels_.kind, p.noise, labels_.slope}, readout_ * constants_.h0);
    out->step = StepModel(constants_, law.moments, readout_, p.eta, p.inverse_alpha0, allow);
    out->nodes = std::move(law.nodes);
    out->nodes_error = out->constants_error = constants_.error;
    return out;
  }
  // A rule good enough for moments tells how close to 0 poles in u may come.
  const ResidualRule plain =
      residual_rule(*target_, readout_ * constants_.h0, p.noise, 1.0, 1.5, 16);
  const ResidualMoments rough(plain);
  out->step = StepModel(constants_, rough, readout_, p.eta, p.inverse_alpha0, allow);
  if (!out->step.stepped) {
    out->nodes = ResidualNodes(
        plain, allow && constants_.h2 == 0 &&
                   constants_.b12 == 0);  // a first step's derivative asks for moments
    return out;
  }
  const double top = std::sqrt(std::max(rough.u[2], 1e-300));
  const double delta =
      std::exp2(std::floor(std::log2(std::clamp(out->step.pole(), 1e-9 * top, 4 * top))));
  const double angle = out->step.angle(), ratio = std::clamp(3 * angle, 0.25, 1.5);
  const ResidualRule fine =
      residual_rule(*target_, readout_ * constants_.h0, p.noise, delta, ratio, 16);
  out->step =
      StepModel(constants_, ResidualMoments(fine), readout_, p.eta, p.inverse_alpha0, allow);
  const bool folded = out->step.scalar;
  const ResidualNodes all(fine, folded);
  ResidualNodes check(residual_rule(*target_, readout_ * constants_.h0, p.noise, delta, ratio, 20),
                      folded);
  double compression = infinity, before = infinity;
  for (int parts = angle > 0.7 ? 1 : 2; parts <= 8 && compression > 1e-12; parts *= 2) {
    out->nodes = all.size() <= 64 ? all : all.compressed(delta, parts, 14);
    compression = difference(*out, all);
    if (compression > 0.1 * before) break;
    before = compression;
  }
  out->constants_error = constants_.error;
  out->nodes_error = std::max(compression, difference(*out, check)) + constants_.error;
  if (out->nodes_error > 1e-10) out->check = std::move(check);
  return out;
}

template void solve_anisotropic(const OneStepSource&, const BatchInput&, const AnisotropicOutput&,
                                Interrupt&, bool);
template void solve_anisotropic(const EmpiricalSource&, const BatchInput&, const AnisotropicOutput&,
                                Interrupt&, bool);
template void anisotropic_gradient<MovingStep>(const OneStepSource&, const BatchInput&,
                                               const double*, const double*,
                                               const std::vector<StepDirection>&,
                                               const GradientOutput&, Interrupt&);
template void anisotropic_gradient<MovingWeights>(const EmpiricalSource&, const BatchInput&,
                                                  const double*, const double*,
                                                  const std::vector<StepDirection>&,
                                                  const GradientOutput&, Interrupt&);

}  // namespace srfx
