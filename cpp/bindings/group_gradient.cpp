// Derivatives for readouts of several values.
#include "batch.hpp"

#include "srfx/solve/group_gradient.hpp"

namespace {

py::tuple gradient_groups(const Activation& sigma, const py::object& target, const Doubles& r,
                          const Doubles& c, const Doubles& gamma, const Doubles& pi,
                          const Doubles& move_r, const Doubles& move_c, const Doubles& move_gamma,
                          const std::vector<int>& point_moves, const Integers& set_index,
                          const Doubles& beta, const Doubles& noise, const Doubles& alpha,
                          const Doubles& lam, const Doubles& inverse_d, const Doubles& v1,
                          const Doubles& v2, int n_threads) {
  const py::ssize_t k = pi.size(), n_sets = r.shape(0),
                    n_moves = static_cast<py::ssize_t>(point_moves.size());
  if (k < 1 || k > srfx::max_groups) throw py::value_error("1 to 32 groups");
  const py::ssize_t n = v2.size() / k;
  if (move_r.size() != n_moves * n_sets * k || move_c.size() != n_moves * n_sets * k ||
      move_gamma.size() != n_moves * n_sets || v1.size() != n * k * k)
    throw py::value_error("moves must have shape (moves, sets, groups)");
  srfx::GroupGradientInput in;
  const auto row = [k](const Doubles& x, py::ssize_t i) {
    return std::vector<double>(x.data() + i * k, x.data() + (i + 1) * k);
  };
  in.sets = group_sets_of(r, c, gamma, pi);
  in.moves.resize(n_moves);
  for (py::ssize_t m = 0; m < n_moves; ++m)
    for (py::ssize_t s = 0; s < n_sets; ++s)
      in.moves[m].push_back({row(move_r, m * n_sets + s), row(move_c, m * n_sets + s),
                             move_gamma.data()[m * n_sets + s]});
  in.point_moves = point_moves;
  set_group_target(in, target, r, gamma);
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n, n_threads);
  in.v1 = v1.data(), in.v2 = v2.data();
  py::array_t<double> test({n_moves, n}), train({n_moves, n});
  srfx::GradientOutput out;
  for (py::ssize_t m = 0; m < n_moves; ++m)
    out.test_error.push_back(test.mutable_data() + m * n),
        out.train_error.push_back(train.mutable_data() + m * n);
  run_released([&](srfx::Interrupt& interrupt) { srfx::group_gradient_batch(in, out, interrupt); });
  return py::make_tuple(test, train);
}

}  // namespace

void register_group_gradient(py::module_& m) {
  using py::arg;
  m.def("gradient_groups", &gradient_groups, arg("sigma"), arg("target"), arg("r"), arg("c"),
        arg("gamma"), arg("pi"), arg("move_r"), arg("move_c"), arg("move_gamma"),
        arg("point_moves"), arg("set_index"), arg("beta"), arg("noise"), arg("alpha"), arg("lam"),
        arg("inv_d"), arg("v1"), arg("v2"), arg("n_threads"),
        "Derivatives of (test error, training error) at solutions of solve_groups, each of shape "
        "(moves, points). A move says how r, c, "
        "gamma of each set change (that of r relative beside a Target), and which of 0 lam, 1 "
        "alpha, 2 beta, 3 noise does (-1: none).");
}
