// The actual one-step network with several initial readout values.
#include "batch.hpp"

#include "srfx/solve/group_step.hpp"
#include "srfx/gaussian/residual.hpp"

namespace {

py::dict solve_one_step_groups(const Activation& sigma, const py::object& target,
                               const std::vector<double>& readout, const std::vector<double>& pi,
                               const Doubles& eta, const Doubles& inverse_alpha0,
                               const Doubles& set_noise, const Integers& set_index,
                               const Doubles& beta, const Doubles& noise, const Doubles& alpha,
                               const Doubles& lam, const Doubles& inverse_d, py::ssize_t n_points,
                               int n_threads, bool merge) {
  if (!sigma.derivative) throw py::value_error(sigma.name + " has no derivative");
  const auto k = static_cast<py::ssize_t>(readout.size());
  srfx::GroupStepInput in;
  in.derivative = sigma.derivative.get();
  in.readout = readout, in.pi = pi;
  for (py::ssize_t i = 0; i < eta.size(); ++i)
    in.sets.push_back({eta.data()[i], inverse_alpha0.data()[i], set_noise.data()[i]});
  const py::ssize_t directions = set_own_target(in, target);
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  in.merge = merge;
  py::dict out;
  srfx::GroupStepOutput results{};
  results.test_error = output(out, "test_error", {n_points});
  results.train_error = output(out, "train_error", {n_points});
  results.m = output(out, "m", {n_points, k});
  results.theta = output(out, "theta", {n_points, k});
  const bool directed = in.directed != nullptr;
  results.directions = static_cast<int>(directions);
  results.psi =
      directed ? output(out, "psi", {n_points, k, directions}) : output(out, "psi", {n_points, k});
  results.chi = output(out, "chi", {n_points, k});
  results.q1 = output(out, "q1", {n_points, k, k});
  results.q2 = output(out, "q2", {n_points, k});
  results.v1 = output(out, "v1", {n_points, k, k});
  results.v2 = output(out, "v2", {n_points, k});
  results.r = output(out, "r", {n_points, k});
  results.c = output(out, "c", {n_points, k});
  results.gamma = output(out, "gamma", {n_points, directed ? directions : k});
  results.residual = output(out, "residual", {n_points});
  results.quadrature_error = output(out, "quadrature_error", {n_points});
  py::array_t<std::int8_t> status(n_points);
  py::array_t<std::int32_t> iterations(n_points);
  results.status = status.mutable_data(), results.iterations = iterations.mutable_data();
  out["status"] = status, out["iterations"] = iterations;
  run_released([&](srfx::Interrupt& interrupt) { srfx::solve_group_step(in, results, interrupt); });
  return out;
}

py::dict step_constants(const Activation& sigma) {
  if (!sigma.derivative) throw py::value_error(sigma.name + " has no derivative");
  const srfx::StepConstants c = srfx::step_constants(*sigma.value, *sigma.derivative);
  py::dict out;
  out["h1"] = c.h1, out["h2"] = c.h2, out["b3"] = c.b3, out["b12"] = c.b12, out["k3"] = c.k3;
  return out;
}

}  // namespace

void register_group_step(py::module_& m) {
  using py::arg;
  m.def("solve_one_step_groups", &solve_one_step_groups, arg("sigma"), arg("target"),
        arg("readout"), arg("pi"), arg("eta"), arg("inv_alpha0"), arg("set_noise"),
        arg("set_index"), arg("beta"), arg("noise"), arg("alpha"), arg("lam"), arg("inv_d"),
        arg("n_points"), arg("n_threads"), arg("merge") = true,
        "Actual one-step networks of several readout values; (eta, 1/alpha0, noise) one entry a "
        "set. merge=False keeps identical "
        "groups apart. With a Target: psi (points, K, L), gamma (points, L).");
  m.def("step_constants", &step_constants, arg("sigma"),
        "Gaussian moments of sigma' that decide what section 10 covers.");
}
