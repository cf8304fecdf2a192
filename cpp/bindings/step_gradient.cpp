// Derivatives for the actual one-step network, and for given weights.
#include "measured.hpp"
#include "step_results.hpp"

namespace {

py::tuple gradient_one_step(const Activation& sigma, const Activation& target, double readout,
                            const Doubles& eta, const Doubles& inverse_alpha0,
                            const Doubles& set_noise, const Integers& set_index,
                            const Doubles& beta, const Doubles& noise, const Doubles& alpha,
                            const Doubles& lam, const Doubles& inverse_d, const Doubles& v1,
                            const Doubles& v2, const std::vector<int>& directions, int n_threads) {
  const py::ssize_t n = v1.size();
  require_lengths({v2.size()}, n);
  if (!sigma.derivative) throw py::value_error(sigma.name + " has no derivative");
  srfx::BatchInput in;
  set_points(in, sigma, target, set_index, beta, noise, alpha, lam, inverse_d, n, n_threads);
  std::vector<srfx::OneStepSource::Parameters> sets(eta.size());
  for (py::ssize_t i = 0; i < eta.size(); ++i)
    sets[i] = {eta.data()[i], inverse_alpha0.data()[i], set_noise.data()[i]};
  Slopes slopes(directions, n);
  const double *pv1 = v1.data(), *pv2 = v2.data();
  run_released([&](srfx::Interrupt& interrupt) {
    const srfx::OneStepSource source(*sigma.value, *sigma.derivative, *target.value, readout,
                                     std::move(sets));
    srfx::anisotropic_gradient<srfx::MovingStep>(source, in, pv1, pv2, slopes.along, slopes.out,
                                                 interrupt);
  });
  return py::make_tuple(slopes.test, slopes.train);
}

py::tuple gradient_empirical(const Activation& sigma, const py::object& target, double r, double c,
                             const Doubles& gamma, const Doubles& eigenvalues,
                             const Doubles& vectors, double beta, double inverse_d,
                             const Doubles& noise, const Doubles& alpha, const Doubles& lam,
                             const Doubles& v1, const Doubles& v2,
                             const std::vector<int>& directions, int n_threads) {
  const py::ssize_t n = v1.size();
  require_lengths({noise.size(), alpha.size(), lam.size(), v2.size()}, n);
  const srfx::MeasuredWeights weights = measured(r, c, gamma, eigenvalues, vectors);
  const std::int64_t zero = 0;
  srfx::BatchInput in;
  in.sigma = sigma.value.get();
  set_own_target(in, target);
  in.set_index = &zero;
  in.alpha = column(alpha), in.lam = column(lam), in.noise = column(noise);
  in.beta = {&beta, 0}, in.inverse_d = {&inverse_d, 0};
  in.n_points = n;
  in.n_threads = n_threads;
  Slopes slopes(directions, n);
  const double *pv1 = v1.data(), *pv2 = v2.data();
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::anisotropic_gradient<srfx::MovingWeights>(srfx::EmpiricalSource(weights), in, pv1, pv2,
                                                    slopes.along, slopes.out, interrupt);
  });
  return py::make_tuple(slopes.test, slopes.train);
}

}  // namespace

void register_step_gradient(py::module_& m) {
  using py::arg;
  m.def("gradient_one_step", &gradient_one_step, arg("sigma"), arg("target"), arg("readout"),
        arg("eta"), arg("inv_alpha0"), arg("set_noise"), arg("set_index"), arg("beta"),
        arg("noise"), arg("alpha"), arg("lam"), arg("inv_d"), arg("v1"), arg("v2"),
        arg("directions"), arg("n_threads"),
        "Derivatives of (test error, training error) at solutions of solve_one_step, each of shape "
        "(directions, points). Directions: 0 lam, "
        "1 alpha, 2 beta, 3 noise, 4 eta, 5 1/alpha0.");
  m.def("gradient_empirical", &gradient_empirical, arg("sigma"), arg("target"), arg("r"), arg("c"),
        arg("gamma"), arg("eigenvalues"), arg("vectors"), arg("beta"), arg("inv_d"), arg("noise"),
        arg("alpha"), arg("lam"), arg("v1"), arg("v2"), arg("directions"), arg("n_threads"),
        "The same at solutions of solve_empirical; directions 0, 1 and 3.");
}
