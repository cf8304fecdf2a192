// Solutions of the asymptotic equations, and what follows from them.
#include "batch.hpp"

#include "srfx/data/observables.hpp"
#include "srfx/gaussian/label_target.hpp"
#include "srfx/solve/multi_step.hpp"
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

py::array_t<double> learned_points(const Activation& sigma, const Doubles& s, const Doubles& m,
                                   const Doubles& second, const Doubles& mean, const Doubles& first,
                                   int n_threads) {
  const py::ssize_t n = s.size(), n_t = n > 0 ? mean.size() / n : 0;
  if (m.size() != n || second.size() != n || mean.size() != n * n_t || first.size() != n * n_t)
    throw py::value_error("mean and first must have a row for each s, m and second");
  py::array_t<double> out({n, n_t});
  double* values = out.mutable_data();
  const double *ps = s.data(), *pm = m.data(), *p2 = second.data(), *pmean = mean.data(),
               *p1 = first.data();
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::parallel_for(n, n_threads, interrupt, [&](srfx::Index i, int) {
      srfx::learned_points(*sigma.value, ps[i], pm[i], p2[i], pmean + i * n_t, p1 + i * n_t, n_t,
                           values + i * n_t);
    });
  });
  return out;
}

/// Spikes after several steps, one set of rates, 1/alpha0 and noise a row. Where R has fewer
/// columns than elsewhere zeros follow.
py::dict multi_step(const Activation& sigma, const Target& target, const Doubles& readout,
                    const Doubles& pi, const Doubles& eta, const Doubles& inverse_alpha0,
                    const Doubles& noise, const std::string& labels, int n_threads) {
  if (!sigma.derivative) throw py::value_error(sigma.name + " has no derivative");
  const py::ssize_t n = noise.size(), k = readout.size(), n_steps = n > 0 ? eta.size() / n : 0,
                    count = target.value->directions();
  if (eta.size() != n * n_steps || inverse_alpha0.size() != n * n_steps || pi.size() != k)
    throw py::value_error("eta and inverse_alpha0 must have a row for each noise");
  srfx::MultiStepModel model;
  model.sigma = sigma.value.get(), model.derivative = sigma.derivative.get();
  model.target = target.value.get();
  model.readout.assign(readout.data(), readout.data() + k);
  model.pi.assign(pi.data(), pi.data() + k);
  std::vector<srfx::SpikeState> states(n);
  const double *rate = eta.data(), *inverse = inverse_alpha0.data(), *delta = noise.data();
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::parallel_for(n, n_threads, interrupt, [&](srfx::Index i, int) {
      const srfx::Labels law = srfx::Labels::of(kind_of(labels), delta[i]);
      const auto seen = srfx::seen_by_steps(*model.target, law);
      srfx::MultiStepModel own = model;
      own.target = seen.get();
      states[i] = srfx::multi_step(own, rate + i * n_steps, inverse + i * n_steps,
                                   static_cast<int>(n_steps), law.real() ? delta[i] : 0);
    });
  });
  py::ssize_t q = 1;
  for (const srfx::SpikeState& x : states) q = std::max<py::ssize_t>(q, x.rows.cols());
  py::dict out;
  double* rows = output(out, "rows", {n, k, q});
  double* alignment = output(out, "alignment", {n, count, q});
  double* c = output(out, "c", {n, k});
  double* error = output(out, "error", {n});
  const auto store = [q](const srfx::dense::Matrix& x, double* to) {
    for (srfx::Index i = 0; i < x.rows(); ++i)
      for (py::ssize_t j = 0; j < q; ++j) to[i * q + j] = j < x.cols() ? x(i, j) : 0.0;
  };
  for (py::ssize_t i = 0; i < n; ++i) {
    store(states[i].rows, rows + i * k * q);
    store(states[i].alignment, alignment + i * count * q);
    std::copy(states[i].c.begin(), states[i].c.end(), c + i * k);
    error[i] = states[i].error;
  }
  return out;
}

py::dict target_constants(const Target& target, const std::string& labels, double noise) {
  srfx::TargetConstants value;
  const auto seen = srfx::seen_by_steps(*target.value, srfx::Labels::of(kind_of(labels), noise));
  run_released([&](srfx::Interrupt&) { value = srfx::target_constants(*seen); });
  py::dict out;
  out["mean"] = value.mean;
  out["second_moment"] = value.second_moment;
  out["h1"] = py::array_t<double>(static_cast<py::ssize_t>(value.h1.size()), value.h1.data());
  out["floor"] = value.floor;
  out["error"] = value.error;
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
  m.def("learned_points", &learned_points, arg("sigma"), arg("s"), arg("m"), arg("second"),
        arg("mean"), arg("first"), arg("n_threads"),
        "m M0 + first M1 + second (M2 - M0), M_i = E Z^i sigma(mean + s Z): shape of mean.");
  m.def("multi_step", &multi_step, arg("sigma"), arg("target"), arg("readout"), arg("pi"),
        arg("eta"), arg("inverse_alpha0"), arg("noise"), arg("labels") = "real",
        arg("n_threads") = 1,
        "R (sets, K, q), c (sets, K) and the alignment (sets, L, q) after several steps.");
  m.def("target_constants", &target_constants, arg("target"), arg("labels") = "real",
        arg("noise") = 0.0,
        "Moments of a target of several directions under N(0, I); of labels of +1 and -1, those of "
        "E[y | t].");
  m.def("gaussian_constants", &gaussian_constants, arg("activation"), arg("derivative"),
        "Moments of an activation under N(0,1); h2 and hc1 of its derivative.");
}
