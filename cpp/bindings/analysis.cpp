// Questions asked of solutions: derivatives, spectra, optima.
#include "batch.hpp"
#include "spectrum_dict.hpp"

#include "srfx/solve/gradient.hpp"

namespace {

py::tuple gradient(const Activation& sigma, const py::object& target, const Doubles& r,
                   const Doubles& c, const Doubles& gamma, const Integers& set_index,
                   const Doubles& beta, const Doubles& noise, const Doubles& alpha,
                   const Doubles& lam, const Doubles& inverse_d, const Doubles& v1,
                   const Doubles& v2, const std::vector<int>& directions, int n_threads) {
  const py::ssize_t n = v1.size();
  srfx::BatchInput in;
  in.sets = sets_of(r, c, gamma);
  set_target(in, target, gamma, r.size());
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n, n_threads);
  require_lengths({v2.size()}, n);
  const auto n_directions = static_cast<py::ssize_t>(directions.size());
  py::array_t<double> test({n_directions, n}), train({n_directions, n});
  srfx::GradientOutput out;
  std::vector<srfx::Direction> along;
  for (py::ssize_t i = 0; i < n_directions; ++i) {
    along.push_back(static_cast<srfx::Direction>(directions[static_cast<std::size_t>(i)]));
    out.test_error.push_back(test.mutable_data() + i * n);
    out.train_error.push_back(train.mutable_data() + i * n);
  }
  const double *pv1 = v1.data(), *pv2 = v2.data();
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::gradient_batch(srfx::MarchenkoPastur{}, in, pv1, pv2, along, out, interrupt);
  });
  return py::make_tuple(test, train);
}

/// One spectrum a model; x holds one row a model, or one for all.
py::list spectrum(const Activation& sigma, const Doubles& r, const Doubles& c, const Doubles& alpha,
                  const Doubles& beta, const Doubles& x, int n_threads) {
  const py::ssize_t n = r.size(), n_x = x.size();
  std::vector<srfx::Spectrum> results(static_cast<std::size_t>(n));
  const double *pr = r.data(), *pc = c.data(), *pa = alpha.data(), *pb = beta.data(),
               *px = x.data();
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::parallel_for(n, n_threads, interrupt, [&](srfx::Index i, int) {
      results[static_cast<std::size_t>(i)] =
          srfx::spectrum(*sigma.value, {pr[i], pc[i], 0}, pa[i], pb[i], px, n_x);
    });
  });
  py::list out;
  for (const srfx::Spectrum& s : results) out.append(spectrum_dict(s));
  return out;
}

}  // namespace

void register_analysis(py::module_& m) {
  using py::arg;
  m.def("gradient", &gradient, arg("sigma"), arg("target"), arg("r"), arg("c"), arg("gamma"),
        arg("set_index"), arg("beta"), arg("noise"), arg("alpha"), arg("lam"), arg("inv_d"),
        arg("v1"), arg("v2"), arg("directions"), arg("n_threads"),
        "Derivatives of (test error, training error) at solutions, each of shape (directions, "
        "points). Directions: 0 lam, 1 alpha, "
        "2 beta, 3 noise, 4 r, 5 c, 6 gamma.");
  m.def("spectrum", &spectrum, arg("sigma"), arg("r"), arg("c"), arg("alpha"), arg("beta"),
        arg("x"), arg("n_threads"),
        "The spectral density of Phi^T Phi/p at a vector x, one result a model (isotropic bulk, "
        "one readout value).");
}
