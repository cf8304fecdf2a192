// Readouts of several values: K groups of neurons.
#include "batch.hpp"

#include "srfx/solve/groups.hpp"
#include "srfx/data/observables.hpp"

namespace {

/// r and c of shape (sets, groups), gamma (sets,), pi (groups,).
std::vector<srfx::GroupParameters> sets_of(const Doubles& r, const Doubles& c, const Doubles& gamma,
                                           const Doubles& pi) {
  const py::ssize_t n = gamma.size(), k = pi.size();
  if (r.size() != n * k || c.size() != n * k)
    throw py::value_error("r and c must have shape (len(gamma), len(pi))");
  std::vector<srfx::GroupParameters> sets(n);
  for (py::ssize_t i = 0; i < n; ++i) {
    sets[i].r.assign(r.data() + i * k, r.data() + (i + 1) * k);
    sets[i].c.assign(c.data() + i * k, c.data() + (i + 1) * k);
    sets[i].pi.assign(pi.data(), pi.data() + k);
    sets[i].gamma = gamma.data()[i];
  }
  return sets;
}

py::dict solve_groups(const Activation& sigma, const Activation& target, const Doubles& r,
                      const Doubles& c, const Doubles& gamma, const Doubles& pi,
                      const Integers& set_index, const Doubles& beta, const Doubles& noise,
                      const Doubles& alpha, const Doubles& lam, const Doubles& inverse_d,
                      py::ssize_t n_points, int n_threads, bool merge) {
  const py::ssize_t k = pi.size();
  if (k < 1 || k > srfx::max_groups) throw py::value_error("1 to 32 groups");
  srfx::GroupBatchInput in;
  in.sets = sets_of(r, c, gamma, pi);
  in.target = target.value.get();
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  in.merge = merge;

  py::dict out;
  srfx::GroupBatchOutput results{};
  results.test_error = output(out, "test_error", {n_points});
  results.train_error = output(out, "train_error", {n_points});
  results.m = output(out, "m", {n_points, k});
  results.theta = output(out, "theta", {n_points, k});
  results.psi = output(out, "psi", {n_points, k});
  results.q1 = output(out, "q1", {n_points, k, k});
  results.q2 = output(out, "q2", {n_points, k});
  results.v1 = output(out, "v1", {n_points, k, k});
  results.v2 = output(out, "v2", {n_points, k});
  results.residual = output(out, "residual", {n_points});
  results.quadrature_error = output(out, "quadrature_error", {n_points});
  py::array_t<std::int8_t> status(n_points);
  py::array_t<std::int32_t> iterations(n_points);
  results.status = status.mutable_data();
  results.iterations = iterations.mutable_data();
  out["status"] = status;
  out["iterations"] = iterations;
  run_released(
      [&](srfx::Interrupt& interrupt) { srfx::solve_group_batch(in, results, interrupt); });
  return out;
}

py::dict group_bounds(const Activation& sigma, const Activation& target, const Doubles& r,
                      const Doubles& c, const Doubles& gamma, const Doubles& pi, int n_threads) {
  const auto sets = sets_of(r, c, gamma, pi);
  const py::ssize_t n = gamma.size();
  py::dict out;
  double* lower = output(out, "lower", {n});
  double* upper = output(out, "upper", {n});
  double* error = output(out, "error", {n});
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::parallel_for(n, n_threads, interrupt, [&](srfx::Index i, int) {
      const srfx::GroupBounds b = srfx::group_bounds(*sigma.value, *target.value, sets[i]);
      lower[i] = b.lower, upper[i] = b.upper, error[i] = b.error;
    });
  });
  return out;
}

}  // namespace

void register_groups(py::module_& m) {
  using py::arg;
  m.def("solve_groups", &solve_groups, arg("sigma"), arg("target"), arg("r"), arg("c"),
        arg("gamma"), arg("pi"), arg("set_index"), arg("beta"), arg("noise"), arg("alpha"),
        arg("lam"), arg("inv_d"), arg("n_points"), arg("n_threads"), arg("merge") = true,
        "Solves every point for K groups: r and c of shape (sets, K), gamma (sets,), pi (K,); else "
        "as solve. merge=False keeps "
        "identical groups apart.");
  m.def("group_bounds", &group_bounds, arg("sigma"), arg("target"), arg("r"), arg("c"),
        arg("gamma"), arg("pi"), arg("n_threads"),
        "Lower and upper bounds of the test error for K groups, one entry a coefficient set.");
}
