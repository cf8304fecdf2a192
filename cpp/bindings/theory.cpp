// Solutions of the asymptotic equations, and what follows from them.
#include "batch.hpp"

#include "srfx/data/observables.hpp"
#include "srfx/solve/scan.hpp"

namespace {

py::dict solve(const Activation& sigma, const py::object& target, const Doubles& r,
               const Doubles& c, const Doubles& gamma, const Integers& set_index,
               const Doubles& beta, const Doubles& noise, const Doubles& alpha, const Doubles& lam,
               const Doubles& inverse_d, py::ssize_t n_points, int n_threads) {
  srfx::BatchInput in;
  in.sets = sets_of(r, c, gamma);
  set_target(in, target, gamma, r.size());
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);

  py::dict out;
  srfx::BatchOutput results{};
  const std::pair<const char*, double**> columns[] = {
      {"test_error", &results.test_error},
      {"train_error", &results.train_error},
      {"m", &results.m},
      {"theta", &results.theta},
      {"psi", &results.psi},
      {"q1", &results.q1},
      {"q2", &results.q2},
      {"v1", &results.v1},
      {"v2", &results.v2},
      {"residual", &results.residual},
      {"quadrature_error", &results.quadrature_error}};
  // Rows of one block: the system hands out few large pages faster than many small ones.
  py::array_t<double> block({static_cast<py::ssize_t>(std::size(columns)), n_points});
  double* row = block.mutable_data();
  for (const auto& [name, data] : columns) {
    out[name] = py::array_t<double>(n_points, row, block);
    *data = row;
    row += n_points;
  }
  py::array_t<std::int8_t> status(n_points);
  py::array_t<std::int32_t> iterations(n_points);
  results.status = status.mutable_data();
  results.iterations = iterations.mutable_data();
  out["status"] = status;
  out["iterations"] = iterations;
  if (in.directed != nullptr)
    results.psi_directions = output(out, "psi", {n_points, in.directed->directions()});
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::solve_batch(srfx::MarchenkoPastur{}, in, results, interrupt);
  });
  return out;
}

py::dict bounds(const Activation& sigma, const Activation& target, const Doubles& r,
                const Doubles& c, const Doubles& gamma, int n_threads) {
  const auto sets = sets_of(r, c, gamma);
  const py::ssize_t n = r.size();
  py::dict out;
  double* lower = output(out, "lower", {n});
  double* upper = output(out, "upper", {n});
  double* lower_m = output(out, "lower_m", {n});
  double* lower_theta = output(out, "lower_theta", {n});
  double* lower_psi = output(out, "lower_psi", {n});
  double* upper_m = output(out, "upper_m", {n});
  double* error = output(out, "error", {n});
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::parallel_for(n, n_threads, interrupt, [&](srfx::Index i, int) {
      const srfx::Bounds b = srfx::bounds(*sigma.value, *target.value, sets[i]);
      lower[i] = b.lower, upper[i] = b.upper, error[i] = b.error;
      lower_m[i] = b.lower_m, lower_theta[i] = b.lower_theta, lower_psi[i] = b.lower_psi,
      upper_m[i] = b.upper_m;
    });
  });
  return out;
}

py::array_t<double> learned_function(const Activation& sigma, const Doubles& r, const Doubles& c,
                                     const Doubles& gamma, const Doubles& m, const Doubles& theta,
                                     const Doubles& psi, const Doubles& t, int n_threads) {
  const auto sets = sets_of(r, c, gamma);
  const py::ssize_t n = r.size(), n_t = t.size();
  py::array_t<double> out({n, n_t});
  double* values = out.mutable_data();
  const double *pm = m.data(), *ptheta = theta.data(), *ppsi = psi.data(), *pt = t.data();
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::parallel_for(n, n_threads, interrupt, [&](srfx::Index i, int) {
      srfx::learned_function(*sigma.value, sets[i], pm[i], ptheta[i], ppsi[i], pt, n_t,
                             values + i * n_t);
    });
  });
  return out;
}

py::dict coefficients(const Activation& sigma, const Activation& target, double r, double c,
                      double gamma, const Doubles& k) {
  const py::ssize_t n = k.size();
  std::vector<srfx::Moments> s(n), t(n);
  py::dict out;
  out["error"] = srfx::coefficients_at(*sigma.value, *target.value, {r, c, gamma}, k.data(), n,
                                       s.data(), t.data());
  double* mu0 = output(out, "mu0", {n});
  double* mu1 = output(out, "mu1", {n});
  double* mu2_squared = output(out, "mu2_squared", {n});
  double* h = output(out, "h", {n});
  double* h1 = output(out, "h1", {n});
  double* hh = output(out, "hh", {n});
  for (py::ssize_t i = 0; i < n; ++i) {
    mu0[i] = s[i].m0, mu1[i] = s[i].m1, mu2_squared[i] = s[i].m2;
    h[i] = t[i].m0, h1[i] = t[i].m1, hh[i] = t[i].m2 + t[i].m0 * t[i].m0 + t[i].m1 * t[i].m1;
  }
  return out;
}

py::dict gaussian_constants(const Activation& activation, bool derivative) {
  const srfx::GaussianConstants value = srfx::gaussian_constants(*activation.value);
  py::dict out;
  out["mean"] = value.mean;
  out["second_moment"] = value.second_moment;
  out["h1"] = value.h1;
  double error = value.error;
  if (derivative) {
    if (!activation.derivative) throw py::value_error(activation.name + " has no derivative");
    const srfx::SlopeConstants slope = srfx::slope_constants(*activation.derivative);
    out["h2"] = slope.h2;
    out["hc1"] = slope.hc1;
    error = std::max(error, slope.error);
  }
  out["error"] = error;
  return out;
}

}  // namespace

void register_theory(py::module_& m) {
  using py::arg;
  m.def("solve", &solve, arg("sigma"), arg("target"), arg("r"), arg("c"), arg("gamma"),
        arg("set_index"), arg("beta"), arg("noise"), arg("alpha"), arg("lam"), arg("inv_d"),
        arg("n_points"), arg("n_threads"),
        "Solves every point; inputs are vectors of length 1 or n_points, (r, c, gamma) one entry a "
        "coefficient set. Of a Target gamma has a row of L numbers a set, and psi one a point.");
  m.def("bounds", &bounds, arg("sigma"), arg("target"), arg("r"), arg("c"), arg("gamma"),
        arg("n_threads"), "Lower and upper bounds of the test error, one entry a coefficient set.");
  m.def("learned_function", &learned_function, arg("sigma"), arg("r"), arg("c"), arg("gamma"),
        arg("m"), arg("theta"), arg("psi"), arg("t"), arg("n_threads"),
        "E[f(x) | theta.x/sqrt d = t], shape (models, len(t)).");
  m.def("coefficients", &coefficients, arg("sigma"), arg("target"), arg("r"), arg("c"),
        arg("gamma"), arg("k"), "mu0, mu1, mu2^2 and h, h1, E s*^2 at a vector k.");
  m.def("gaussian_constants", &gaussian_constants, arg("activation"), arg("derivative"),
        "Moments of an activation under N(0,1); h2 and hc1 of its derivative.");
}
