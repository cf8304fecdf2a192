#include "srfx/spectrum/spectra.hpp"

namespace srfx {

Spectrum spectrum(const Function& sigma, const SpikeParameters& p, double alpha, double beta,
                  const double* x, Index n) {
  CoefficientScratch scratch;
  Coefficients coefficients(sigma, sigma, {p.r, p.c, 0}, scratch);
  Ladder panels(coefficients, true);
  const PairSystem<IsotropicSpectrum> system(panels, alpha, beta, IsotropicSpectrum(beta));
  return SpectrumSolver(system)(x, n);
}

namespace {

template <class Bulk>
Spectrum correlated_spectrum(std::shared_ptr<const Bulk> bulk, const SpikeParameters& spike,
                             const Function& sigma, double alpha, double beta, const double* x,
                             Index n) {
  CoefficientScratch scratch;
  Coefficients coefficients(sigma, sigma, {spike.r, spike.c, 0}, scratch);
  Ladder panels(coefficients, true);
  const PairSystem<CorrelatedSpectrum<Bulk>> system(panels, alpha, beta,
                                                    {std::move(bulk), sigma, spike, beta});
  return SpectrumSolver(system)(x, n);
}

}  // namespace

Spectrum step_spectrum(const OneStepSource& source, Index set, const Function& sigma, double alpha,
                       double beta, const double* x, Index n) {
  const auto shared = source.shared(set);
  using Bulk = OneStepBulk<Complex>;
  return correlated_spectrum(std::make_shared<const Bulk>(shared->step, shared->nodes),
                             shared->spike(), sigma, alpha, beta, x, n);
}

Spectrum layer_spectrum(const LayerSource& source, Index set, const Function& sigma, double alpha,
                        double beta, const double* x, Index n) {
  const auto layer = source.positive(set);
  using Bulk = LayerBulk<Complex>;
  return correlated_spectrum(std::make_shared<const Bulk>(*layer), layer->spike, sigma, alpha, beta,
                             x, n);
}

Spectrum weights_spectrum(const MeasuredWeights& weights, const Function& sigma, double alpha,
                          double beta, const double* x, Index n) {
  using Bulk = EmpiricalBulk<Complex>;
  return correlated_spectrum(std::make_shared<const Bulk>(weights), weights.spike, sigma, alpha,
                             beta, x, n);
}

Spectrum group_spectrum(const Function& sigma, const GroupParameters& p, double alpha, double beta,
                        const double* x, Index n) {
  GroupParameters alone = merge_groups(p, sigma.shape().parity == -1).distinct;
  alone.alignment = dense::Matrix::Zero(1, alone.spikes());
  reduce_spikes(alone);
  alone.gamma = 0;
  const GroupSpectrum system(sigma, alone, alpha, beta);
  return SpectrumSolver(system)(x, n);
}

}  // namespace srfx
