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

Spectrum step_spectrum(const OneStepSource& source, Index set, const Function& sigma, double alpha,
                       double beta, const double* x, Index n) {
  const auto shared = source.shared(set);
  const SpikeParameters spike = shared->spike();
  CoefficientScratch scratch;
  Coefficients coefficients(sigma, sigma, {spike.r, spike.c, 0}, scratch);
  Ladder panels(coefficients, true);
  using Bulk = OneStepBulk<Complex>;
  const PairSystem<CorrelatedSpectrum<Bulk>> system(
      panels, alpha, beta, {Bulk(shared->step, shared->nodes), sigma, spike, beta});
  return SpectrumSolver(system)(x, n);
}

Spectrum weights_spectrum(const MeasuredWeights& weights, const Function& sigma, double alpha,
                          double beta, const double* x, Index n) {
  const SpikeParameters spike = weights.spike;
  CoefficientScratch scratch;
  Coefficients coefficients(sigma, sigma, {spike.r, spike.c, 0}, scratch);
  Ladder panels(coefficients, true);
  using Bulk = EmpiricalBulk<Complex>;
  const PairSystem<CorrelatedSpectrum<Bulk>> system(panels, alpha, beta,
                                                    {Bulk(weights), sigma, spike, beta});
  return SpectrumSolver(system)(x, n);
}

Spectrum group_spectrum(const Function& sigma, const GroupParameters& p, double alpha, double beta,
                        const double* x, Index n) {
  CoefficientScratch scratch;
  GroupParameters alone = merge_groups(p, sigma.shape().parity == -1).distinct;
  alone.gamma = 0;
  GroupTable table(sigma, sigma, alone, scratch);
  const GroupSpectrum system(table, alone, alpha, beta);
  return SpectrumSolver(system)(x, n);
}

}  // namespace srfx
