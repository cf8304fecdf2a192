// Spectra: a closed form, groups and bulks against the case they reduce to, mass and moment of
// each.
#include <complex>
#include <vector>

#include "check.hpp"
#include "srfx/gaussian/named.hpp"
#include "srfx/spectrum/spectra.hpp"

using namespace srfx;

namespace {

void sums_hold(const Spectrum& s, double tolerance) {
  CHECK_ABS(s.mass, 1.0, tolerance);
  CHECK_REL(s.first_moment, s.expected_moment, tolerance);
}

/// He_3 has no linear part: a Wishart matrix of ratio n/p.
void closed_form() {
  const NamedFunction sigma(activation_from_name("hermite3"));
  const double ratio = 2.5, low = (1 - std::sqrt(ratio)) * (1 - std::sqrt(ratio)),
               high = (1 + std::sqrt(ratio)) * (1 + std::sqrt(ratio));
  const double x[3] = {0.5, 2.0, 5.0};
  const Spectrum s = spectrum(sigma, {0, 1, 0}, ratio, 1.0, x, 3);
  for (std::size_t i = 0; i < 3; ++i)
    CHECK_REL(s.density[i],
              std::sqrt((x[i] - low) * (high - x[i])) / (2 * 3.14159265358979323846 * x[i]), 1e-8,
              i);
  CHECK_REL(s.edges.at(0), low, 1e-6);
  CHECK_REL(s.edges.at(1), high, 1e-6);
  sums_hold(s, 1e-6);
}

/// Two groups kept apart though they are one.
void identical_groups() {
  const NamedFunction sigma(activation_from_name("tanh"));
  const double x[3] = {0.05, 0.4, 1.5};
  const Spectrum one = spectrum(sigma, {0.9, 1.2, 0}, 2.0, 1.0, x, 3);
  const GroupParameters p{{0.9, 0.9}, {1.2, 1.2}, {0.4, 0.6}, 0};
  const GroupSpectrum system(sigma, p, 2.0, 1.0);
  SpectrumSolver<GroupSpectrum> solver(system);
  SpectrumPoint<std::vector<Complex>> at;
  for (std::size_t i = 3; i-- > 0;) {
    at = solver.solve(x[i], at);
    CHECK(at.converged, i);
    CHECK_REL(at.density, one.density[i], 1e-8, i);
  }
}

void different_groups() {
  const NamedFunction sigma(activation_from_name("tanh"));
  const double x[1] = {0.3};
  sums_hold(group_spectrum(sigma, {{0.4, 1.2}, {1.0, 1.4}, {0.5, 0.5}, 0}, 2.5, 1.0, x, 1), 1e-6);
}

/// A step too small to matter leaves the isotropic bulk.
void no_step() {
  const NamedFunction sigma(activation_from_name("tanh")),
      slope(activation_from_name("tanh"), true), target(activation_from_name("sin"));
  const double x[3] = {0.05, 0.4, 1.5};
  const Spectrum still = spectrum(sigma, {0, 1, 0}, 2.0, 1.0, x, 3);
  const OneStepSource source(sigma, slope, target, 1.0, {{1e-7, 1.0, 0.0}, {3.0, 1.0, 0.0}});
  const Spectrum moved = step_spectrum(source, 0, sigma, 2.0, 1.0, x, 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK_REL(moved.density[i], still.density[i], 1e-6, i);
  sums_hold(step_spectrum(source, 1, sigma, 2.0, 1.0, x, 1), 1e-6);
}

/// Eigenvalues at the quantiles of Marchenko and Pastur's law: the averages of the isotropic bulk,
/// but for O(1/p).
void quantiles_of_the_isotropic_bulk() {
  const NamedFunction sigma(activation_from_name("tanh"));
  const double beta = 0.5, low = (1 - std::sqrt(beta)) * (1 - std::sqrt(beta)),
               high = (1 + std::sqrt(beta)) * (1 + std::sqrt(beta));
  MeasuredWeights w;
  w.spike = {0.8, 1.0, 0};
  const int p = 400, fine = 200000;
  double mass = 0;
  for (int i = 0; i < fine; ++i) {
    const double y = low + (high - low) * (i + 0.5) / fine;
    mass += (high - low) / fine * std::sqrt((y - low) * (high - y)) /
            (2 * 3.14159265358979323846 * beta * y);
    while (mass * p > static_cast<double>(w.eigenvalues.size()) + 0.5 &&
           static_cast<int>(w.eigenvalues.size()) < p)
      w.eigenvalues.push_back(y);
  }
  while (static_cast<int>(w.eigenvalues.size()) < p) w.eigenvalues.push_back(high);
  for (auto& u : w.u) u.assign(static_cast<std::size_t>(p), 0.0);
  const double x[3] = {0.3, 0.8, 2.0};
  const Spectrum smooth = spectrum(sigma, {0.8, 1.0, 0}, 2.0, beta, x, 3),
                 sampled = weights_spectrum(w, sigma, 2.0, beta, x, 3);
  for (std::size_t i = 0; i < 3; ++i) CHECK_REL(sampled.density[i], smooth.density[i], 5e-3, i);
  sums_hold(sampled, 1e-5);
}

}  // namespace

int main() {
  closed_form();
  identical_groups();
  different_groups();
  no_step();
  quantiles_of_the_isotropic_bulk();
  return test::report();
}
