// Batches of the actual step and of given weights.
#include "srfx/solve/step_gradient.hpp"

namespace srfx {

std::shared_ptr<const ResidualLaw> OneStepSource::law(double noise, double delta, double angle,
                                                      bool folded) const {
  constexpr std::size_t most = 4096;
  const std::lock_guard<std::mutex> lock(laws_->mutex);
  if (laws_->known.size() > most) laws_->known.clear();
  std::shared_ptr<const ResidualLaw>& out = laws_->known[{noise, delta}];
  if (!out) {
    auto made = std::make_shared<ResidualLaw>(
        residual_law(*target_, readout_ * constants_.h0, noise, delta, angle, folded));
    if (made->error + constants_.error <= 1e-10) made->check = ResidualNodes();
    out = std::move(made);
  }
  return out;
}

std::unique_ptr<OneStepSource::Shared> OneStepSource::shared(Index set) const {
  const Parameters& p = sets_[set];
  auto out = std::make_unique<Shared>();
  const bool allow = path_ == Path::automatic;
  if (!labels_.real()) {
    LabelResidual residual(*target_, Labels::of(labels_.kind, p.noise), readout_ * constants_.h0);
    out->step = StepModel(constants_, residual.moments, readout_, p.eta, p.inverse_alpha0, allow);
    out->nodes = std::move(residual.nodes);
    out->nodes_error = out->constants_error = constants_.error;
    return out;
  }
  const ResidualMoments moments = widened(noiseless_, p.noise);
  out->step = StepModel(constants_, moments, readout_, p.eta, p.inverse_alpha0, allow);
  // The law depends on the step by how close to 0 its poles in u come, to a power of 2.
  const double top = std::sqrt(std::max(moments.u[2], 1e-300));
  const double delta =
      std::exp2(std::floor(std::log2(std::clamp(out->step.pole(), 1e-9 * top, 4 * top))));
  const bool even = allow && constants_.h2 == 0 && constants_.b12 == 0;
  const double square = constants_.h2 * constants_.h2 + constants_.hc1;
  const double angle = even || !(square > 0) ? 1.0 : std::sqrt(constants_.hc1 / square);
  const auto shared = law(p.noise, delta, angle, even);
  out->nodes = shared->nodes;
  if (!out->step.stepped) return out;  // a first step's derivative asks for moments
  out->constants_error = constants_.error;
  out->nodes_error = shared->error + constants_.error;
  out->check = shared->check;
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
