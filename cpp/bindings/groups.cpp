// Readouts of several values: K groups of neurons.
#include "batch.hpp"

#include "srfx/solve/groups.hpp"
#include "srfx/data/observables.hpp"

namespace {

py::dict solve_groups(const Activation& sigma, const py::object& target, const Doubles& r,
                      const Doubles& c, const Doubles& gamma, const Doubles& pi,
                      const Integers& set_index, const Doubles& beta, const Doubles& noise,
                      const Doubles& alpha, const Doubles& lam, const Doubles& inverse_d,
                      py::ssize_t n_points, int n_threads, bool merge) {
  const py::ssize_t k = pi.size();
  if (k < 1 || k > srfx::max_groups) throw py::value_error("1 to 32 groups");
  srfx::GroupBatchInput in;
  in.sets = group_sets_of(r, c, gamma, pi);
  set_group_target(in, target, r, gamma);
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  in.merge = merge;

  const GroupResults results(n_points, r, gamma, k);
  run_released(
      [&](srfx::Interrupt& interrupt) { srfx::solve_group_batch(in, results.common, interrupt); });
  return results.dict;
}

py::dict group_bounds(const Activation& sigma, const py::object& target, const Doubles& r,
                      const Doubles& c, const Doubles& gamma, const Doubles& pi, int n_threads) {
  const auto sets = group_sets_of(r, c, gamma, pi);
  const py::ssize_t n = r.shape(0);
  srfx::BatchTarget of;
  set_group_target(of, target, r, gamma);
  py::dict out;
  double* lower = output(out, "lower", {n});
  double* upper = output(out, "upper", {n});
  double* error = output(out, "error", {n});
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::parallel_for(n, n_threads, interrupt, [&](srfx::Index i, int) {
      const srfx::GroupBounds b = srfx::group_bounds(*sigma.value, of, sets[i]);
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
        "identical groups apart. With a Target: r of shape (sets, K, q) and gamma (sets, L, q), "
        "theta (points, K, q), psi (points, K, L).");
  m.def("group_bounds", &group_bounds, arg("sigma"), arg("target"), arg("r"), arg("c"),
        arg("gamma"), arg("pi"), arg("n_threads"),
        "Lower and upper bounds of the test error for K groups, one entry a coefficient set.");
}
