// The actual one-step network, and given weights (THEORY 9 and 10).
#include "measured.hpp"
#include "step_results.hpp"

#include "srfx/data/observables.hpp"

namespace {

srfx::BatchInput inputs(const Activation& sigma, const Activation& target,
                        const Integers& set_index, const Doubles& beta, const Doubles& noise,
                        const Doubles& alpha, const Doubles& lam, const Doubles& inverse_d,
                        py::ssize_t n_points, int n_threads) {
  srfx::BatchInput in;
  set_points(in, sigma, target, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  return in;
}

py::dict solve_one_step(const Activation& sigma, const Activation& target, double readout,
                        const Doubles& eta, const Doubles& inverse_alpha0, const Doubles& set_noise,
                        const Integers& set_index, const Doubles& beta, const Doubles& noise,
                        const Doubles& alpha, const Doubles& lam, const Doubles& inverse_d,
                        py::ssize_t n_points, int n_threads, bool matrix, bool exact) {
  const srfx::BatchInput in =
      inputs(sigma, target, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  if (!sigma.derivative) throw py::value_error(sigma.name + " has no derivative");
  std::vector<srfx::OneStepSource::Parameters> sets(eta.size());
  for (py::ssize_t i = 0; i < eta.size(); ++i)
    sets[i] = {eta.data()[i], inverse_alpha0.data()[i], set_noise.data()[i]};
  Results results(n_points);
  const auto path =
      matrix ? srfx::OneStepSource::Path::matrix : srfx::OneStepSource::Path::automatic;
  run_released([&](srfx::Interrupt& interrupt) {
    const srfx::OneStepSource source(*sigma.value, *sigma.derivative, *target.value, readout,
                                     std::move(sets), path);
    srfx::solve_anisotropic(source, in, results.out, interrupt, exact);
  });
  return results.dict;
}

py::dict solve_empirical(const Activation& sigma, const py::object& target, double r, double c,
                         const Doubles& gamma, const Doubles& eigenvalues, const Doubles& vectors,
                         double beta, double inverse_d, const Doubles& noise, const Doubles& alpha,
                         const Doubles& lam, py::ssize_t n_points, int n_threads, bool exact) {
  const srfx::MeasuredWeights weights = measured(r, c, gamma, eigenvalues, vectors);
  const Integers zero(std::vector<py::ssize_t>{1}, std::vector<std::int64_t>{0}.data());
  const Doubles betas(std::vector<py::ssize_t>{1}, &beta),
      inverse(std::vector<py::ssize_t>{1}, &inverse_d);
  srfx::BatchInput in;
  Results results(n_points, set_own_target(in, target));
  set_points(in, sigma, zero, betas, noise, alpha, lam, inverse, n_points, n_threads);
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::solve_anisotropic(srfx::EmpiricalSource(weights), in, results.out, interrupt, exact);
  });
  return results.dict;
}

py::dict step_map(const Activation& sigma, const Activation& target, double readout, double eta,
                  double inverse_alpha0, double noise) {
  if (!sigma.derivative) throw py::value_error(sigma.name + " has no derivative");
  const srfx::OneStepSource source(*sigma.value, *sigma.derivative, *target.value, readout,
                                   {{eta, inverse_alpha0, noise}});
  const auto shared = source.shared(0);
  const srfx::StepModel& step = shared->step;
  py::dict out;
  out["r"] = step.spike.r, out["c"] = step.spike.c, out["gamma"] = step.spike.gamma;
  out["c_delta"] = step.c_delta, out["kap"] = step.kap, out["e2"] = step.e2,
  out["scalar"] = step.scalar;
  out["nodes"] = shared->nodes.size(), out["error"] = shared->nodes_error;
  return out;
}

py::array_t<double> learned_function(const Activation& sigma, const Doubles& r, const Doubles& c,
                                     const Doubles& gamma, const Doubles& m, const Doubles& theta,
                                     const Doubles& psi, const Doubles& chi, const Doubles& t,
                                     int n_threads) {
  const py::ssize_t n = m.size(), n_t = t.size();
  py::array_t<double> out({n, n_t});
  double* values = out.mutable_data();
  const double *pr = r.data(), *pc = c.data(), *pg = gamma.data(), *pm = m.data(),
               *ptheta = theta.data(), *ppsi = psi.data(), *pchi = chi.data(), *pt = t.data();
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::parallel_for(n, n_threads, interrupt, [&](srfx::Index i, int) {
      srfx::learned_function(*sigma.value, {pr[i], pc[i], pg[i]}, pm[i], ptheta[i], ppsi[i], pt,
                             n_t, values + i * n_t, pchi[i]);
    });
  });
  return out;
}

}  // namespace

void register_one_step(py::module_& m) {
  using py::arg;
  m.def("solve_one_step", &solve_one_step, arg("sigma"), arg("target"), arg("readout"), arg("eta"),
        arg("inv_alpha0"), arg("set_noise"), arg("set_index"), arg("beta"), arg("noise"),
        arg("alpha"), arg("lam"), arg("inv_d"), arg("n_points"), arg("n_threads"),
        arg("matrix") = false, arg("exact") = false,
        "Actual one-step networks, one readout value; (eta, 1/alpha0, noise) one entry a set. "
        "matrix: section 10's path for every sigma. exact: no table of the bulk.");
  m.def("solve_empirical", &solve_empirical, arg("sigma"), arg("target"), arg("r"), arg("c"),
        arg("gamma"), arg("eigenvalues"), arg("vectors"), arg("beta"), arg("inv_d"), arg("noise"),
        arg("alpha"), arg("lam"), arg("n_points"), arg("n_threads"), arg("exact") = false,
        "Given weights: eigenvalues of W Pi W^T and the vectors of an EmpiricalBulk in its "
        "eigenbasis; gamma one number a direction of the target, an Activation or a Target. exact: "
        "no table.");
  m.def("step_map", &step_map, arg("sigma"), arg("target"), arg("readout"), arg("eta"),
        arg("inv_alpha0"), arg("noise"),
        "Spike, bulk variance, alignment of one step, and the size of the rule for its residuals.");
  m.def("learned_function_of_step", &learned_function, arg("sigma"), arg("r"), arg("c"),
        arg("gamma"), arg("m"), arg("theta"), arg("psi"), arg("chi"), arg("t"), arg("n_threads"),
        "learned_function with the feature of the row norms.");
}
