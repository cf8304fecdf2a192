// Spectra of the features: several readout values, the actual one-step network, given weights.
#include "measured.hpp"
#include "batch.hpp"
#include "spectrum_dict.hpp"

#include "srfx/spectrum/spectra.hpp"

namespace {

py::list groups(const Activation& sigma, const Doubles& r, const Doubles& c, const Doubles& pi,
                const Doubles& alpha, const Doubles& beta, const Doubles& x, int n_threads) {
  const py::ssize_t n = alpha.size(), k = pi.size(), n_x = x.size();
  if (r.ndim() != 3 || r.shape(0) != n || r.shape(1) != k || c.size() != n * k || beta.size() != n)
    throw py::value_error("r must have shape (models, groups, spikes), c (models, groups)");
  const py::ssize_t q = r.shape(2);
  const double *pr = r.data(), *pc = c.data(), *pp = pi.data(), *pa = alpha.data(),
               *pb = beta.data(), *px = x.data();
  return each_spectrum(n, n_threads, [&](srfx::Index i) {
    srfx::GroupParameters p{
        std::vector<double>(k, 0.0), {pc + i * k, pc + (i + 1) * k}, {pp, pp + k}, 0};
    p.rows.resize(k, q);
    for (py::ssize_t g = 0; g < k; ++g)
      for (py::ssize_t j = 0; j < q; ++j) p.rows(g, j) = pr[(i * k + g) * q + j];
    return srfx::group_spectrum(*sigma.value, p, pa[i], pb[i], px, n_x);
  });
}

py::list one_step(const Activation& sigma, const Activation& target, double readout,
                  const Doubles& eta, const Doubles& inverse_alpha0, const Doubles& numbers,
                  const std::string& labels, const Doubles& alpha, const Doubles& beta,
                  const Doubles& x, int n_threads) {
  const py::ssize_t n = alpha.size(), n_x = x.size();
  const srfx::Labels law{kind_of(labels)};
  if (!sigma.derivative) throw py::value_error(sigma.name + " has no derivative");
  if (eta.size() != n || inverse_alpha0.size() != n || numbers.size() != n || beta.size() != n)
    throw py::value_error("one entry a model");
  std::vector<srfx::OneStepSource::Parameters> sets(static_cast<std::size_t>(n));
  for (py::ssize_t i = 0; i < n; ++i)
    sets[static_cast<std::size_t>(i)] = {eta.data()[i], inverse_alpha0.data()[i],
                                         numbers.data()[i]};
  const double *pa = alpha.data(), *pb = beta.data(), *px = x.data();
  std::optional<srfx::OneStepSource> source;
  {
    const py::gil_scoped_release release;
    source.emplace(*sigma.value, *sigma.derivative, *target.value, readout, std::move(sets),
                   srfx::OneStepSource::Path::automatic, law);
  }
  return each_spectrum(n, n_threads, [&](srfx::Index i) {
    return srfx::step_spectrum(*source, i, *sigma.value, pa[i], pb[i], px, n_x);
  });
}

py::list empirical(const Activation& sigma, double r, double c, const Doubles& eigenvalues,
                   const Doubles& vectors, double beta, const Doubles& alpha, const Doubles& x,
                   int n_threads) {
  const py::ssize_t n = alpha.size(), n_x = x.size();
  const Doubles gamma(std::vector<py::ssize_t>{vectors.shape(0) - 3});  // of no account here
  const srfx::MeasuredWeights weights = measured(r, c, gamma, eigenvalues, vectors);
  const double *pa = alpha.data(), *px = x.data();
  return each_spectrum(n, n_threads, [&](srfx::Index i) {
    return srfx::weights_spectrum(weights, *sigma.value, pa[i], beta, px, n_x);
  });
}

}  // namespace

void register_spectra(py::module_& m) {
  using py::arg;
  m.def("spectrum_groups", &groups, arg("sigma"), arg("r"), arg("c"), arg("pi"), arg("alpha"),
        arg("beta"), arg("x"), arg("n_threads"),
        "As spectrum, for K groups and q spikes: r of shape (models, K, q), c (models, K).");
  m.def("spectrum_one_step", &one_step, arg("sigma"), arg("target"), arg("readout"), arg("eta"),
        arg("inv_alpha0"), arg("noise"), arg("labels"), arg("alpha"), arg("beta"), arg("x"),
        arg("n_threads"), "As spectrum, for actual one-step networks.");
  m.def("spectrum_empirical", &empirical, arg("sigma"), arg("r"), arg("c"), arg("eigenvalues"),
        arg("vectors"), arg("beta"), arg("alpha"), arg("x"), arg("n_threads"),
        "As spectrum, for given weights.");
}
