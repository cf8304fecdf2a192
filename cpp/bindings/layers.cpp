// Networks after several steps, and after one with a target of several directions (THEORY 14 and
// 15).
#include "losses.hpp"
#include "spectrum_dict.hpp"
#include "step_results.hpp"

#include "srfx/spectrum/spectra.hpp"

namespace {

/// The steps of the sets of a batch, row i of eta and 1/alpha0 those of set i, and the target as
/// they see it: an Activation or a Target, which must outlive this.
class Steps {
 public:
  Steps(const Activation& sigma, const py::object& target, const Doubles& eta,
        const Doubles& inverse_alpha0, const Doubles& noise, double readout)
      : sets_(static_cast<std::size_t>(noise.size())) {
    if (!sigma.derivative) throw py::value_error(sigma.name + " has no derivative");
    if (py::isinstance<Activation>(target)) {
      const auto value = target.cast<const Activation&>().value;
      function_ = value.get();
      seen_ = std::make_shared<OneDirection>(value);
    } else {
      seen_ = target.cast<const Target&>().value;
    }
    if (eta.ndim() != 2 || inverse_alpha0.ndim() != 2 || eta.shape(0) != noise.size() ||
        inverse_alpha0.shape(0) != eta.shape(0) || inverse_alpha0.shape(1) != eta.shape(1))
      throw py::value_error("eta and inv_alpha0 must have shape (n_sets, steps)");
    for (py::ssize_t i = 0; i < noise.size(); ++i) {
      auto& set = sets_[static_cast<std::size_t>(i)];
      set.noise = noise.data()[i];
      for (py::ssize_t j = 0; j < eta.shape(1); ++j)
        set.steps.push_back({readout * *eta.data(i, j), *inverse_alpha0.data(i, j)});
    }
  }

  const srfx::TargetFunction& target() const { return *seen_; }
  void set_target(srfx::BatchTarget& in) const {
    in.target = function_;
    if (function_ == nullptr) in.directed = seen_.get();
  }
  const srfx::LayerSource::Parameters& set(std::size_t i) const { return sets_[i]; }
  srfx::LayerSource source(const Activation& sigma, double readout,
                           const srfx::Labels& labels = {}) const {
    return {*sigma.value, *sigma.derivative, *seen_, readout, sets_, labels};
  }

 private:
  const srfx::Function* function_ = nullptr;
  std::shared_ptr<const srfx::TargetFunction> seen_;
  std::vector<srfx::LayerSource::Parameters> sets_;
};

py::dict solve_layers(const Activation& sigma, const py::object& target, double readout,
                      const Doubles& eta, const Doubles& inverse_alpha0, const Doubles& set_noise,
                      const Integers& set_index, const Doubles& beta, const Doubles& noise,
                      const Doubles& alpha, const Doubles& lam, const Doubles& inverse_d,
                      py::ssize_t n_points, int n_threads) {
  const Steps steps(sigma, target, eta, inverse_alpha0, set_noise, readout);
  srfx::BatchInput in;
  steps.set_target(in);
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  Results results(n_points, steps.target().directions());
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::solve_anisotropic(steps.source(sigma, readout), in, results.out, interrupt);
  });
  return results.dict;
}

py::dict solve_layer_losses(const Activation& sigma, const py::object& target, const Numbers& loss,
                            const std::string& labels, double readout, const Doubles& eta,
                            const Doubles& inverse_alpha0, const Doubles& set_noise,
                            const Integers& set_index, const Doubles& beta, const Doubles& noise,
                            const Doubles& alpha, const Doubles& lam, const Doubles& inverse_d,
                            py::ssize_t n_points, int n_threads, bool slopes) {
  const Steps steps(sigma, target, eta, inverse_alpha0, set_noise, readout);
  srfx::GroupLossInput in;
  steps.set_target(in);
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  in.loss = loss_of(loss), in.labels = laws(labels, set_noise);
  OverlapResults results(n_points, steps.target().directions(), slopes);
  run_released([&](srfx::Interrupt& interrupt) {
    const srfx::Labels law{kind_of(labels)};
    srfx::solve_layer_losses(steps.source(sigma, readout, law), in, results.out, interrupt);
  });
  return results.dict;
}

py::tuple gradient_layers(const Activation& sigma, const py::object& target, double readout,
                          const Doubles& eta, const Doubles& inverse_alpha0,
                          const Doubles& set_noise, const Integers& set_index, const Doubles& beta,
                          const Doubles& noise, const Doubles& alpha, const Doubles& lam,
                          const Doubles& inverse_d, const Doubles& v1, const Doubles& v2,
                          const std::vector<int>& directions, int n_threads) {
  const py::ssize_t n = v1.size();
  require_lengths({v2.size()}, n);
  const Steps steps(sigma, target, eta, inverse_alpha0, set_noise, readout);
  srfx::BatchInput in;
  steps.set_target(in);
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n, n_threads);
  Slopes slopes(directions, n);
  const double *pv1 = v1.data(), *pv2 = v2.data();
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::anisotropic_gradient<srfx::MovingLayer>(steps.source(sigma, readout), in, pv1, pv2,
                                                  slopes.along, slopes.out, interrupt);
  });
  return py::make_tuple(slopes.test, slopes.train);
}

py::list spectrum_layers(const Activation& sigma, const py::object& target, double readout,
                         const Doubles& eta, const Doubles& inverse_alpha0, const Doubles& noise,
                         const std::string& labels, const Doubles& alpha, const Doubles& beta,
                         const Doubles& x, int n_threads) {
  const py::ssize_t n = alpha.size(), n_x = x.size();
  if (noise.size() != n || beta.size() != n) throw py::value_error("one entry a model");
  const Steps steps(sigma, target, eta, inverse_alpha0, noise, readout);
  const srfx::LayerSource source = steps.source(sigma, readout, {kind_of(labels)});
  const double *pa = alpha.data(), *pb = beta.data(), *px = x.data();
  return each_spectrum(n, n_threads, [&](srfx::Index i) {
    return srfx::layer_spectrum(source, i, *sigma.value, pa[i], pb[i], px, n_x);
  });
}

py::dict layer_map(const Activation& sigma, const py::object& target, double readout,
                   const Doubles& eta, const Doubles& inverse_alpha0, double noise) {
  const Doubles noises(std::vector<py::ssize_t>{1}, &noise);
  const Steps steps(sigma, target, eta, inverse_alpha0, noises, readout);
  double error = 0;
  std::shared_ptr<const srfx::LayerModel> layer;
  run_released([&](srfx::Interrupt&) {
    layer = srfx::layers_after(*sigma.value, *sigma.derivative, steps.target(), noise, readout,
                               steps.set(0).steps, error);
  });
  py::dict out;
  out["r"] = layer->spike.r, out["c"] = layer->spike.c, out["gamma"] = layer->gamma;
  out["c_delta"] = layer->c_delta, out["tilt"] = layer->tilt;
  const py::ssize_t n = layer->sigma.rows();
  double* const sigmas = output(out, "sigma", {n, n});
  for (py::ssize_t i = 0; i < n; ++i)
    for (py::ssize_t j = 0; j < n; ++j) sigmas[i * n + j] = layer->sigma(i, j);
  out["steps"] = layer->steps(), out["nodes"] = layer->size(), out["error"] = error;
  return out;
}

}  // namespace

void register_layers(py::module_& m) {
  using py::arg;
  m.def(
      "solve_layers", &solve_layers, arg("sigma"), arg("target"), arg("readout"), arg("eta"),
      arg("inv_alpha0"), arg("set_noise"), arg("set_index"), arg("beta"), arg("noise"),
      arg("alpha"), arg("lam"), arg("inv_d"), arg("n_points"), arg("n_threads"),
      "Networks after several steps, one readout value; eta and 1/alpha0 of shape (sets, steps). "
      "The target is an Activation or a Target; psi and gamma of a Target are of shape (n_points, "
      "directions).");
  m.def("solve_layer_losses", &solve_layer_losses, arg("sigma"), arg("target"), arg("loss"),
        arg("labels"), arg("readout"), arg("eta"), arg("inv_alpha0"), arg("set_noise"),
        arg("set_index"), arg("beta"), arg("noise"), arg("alpha"), arg("lam"), arg("inv_d"),
        arg("n_points"), arg("n_threads"), arg("slopes") = false,
        "The same with another loss than the square, or labels of +1 and -1.");
  m.def("gradient_layers", &gradient_layers, arg("sigma"), arg("target"), arg("readout"),
        arg("eta"), arg("inv_alpha0"), arg("set_noise"), arg("set_index"), arg("beta"),
        arg("noise"), arg("alpha"), arg("lam"), arg("inv_d"), arg("v1"), arg("v2"),
        arg("directions"), arg("n_threads"),
        "Derivatives of (test error, training error) at solutions of solve_layers, each of shape "
        "(directions, points). Directions: 0 lam, 1 alpha, 2 beta.");
  m.def("spectrum_layers", &spectrum_layers, arg("sigma"), arg("target"), arg("readout"),
        arg("eta"), arg("inv_alpha0"), arg("noise"), arg("labels"), arg("alpha"), arg("beta"),
        arg("x"), arg("n_threads"),
        "As spectrum, for the networks of solve_layers; a row of eta a model.");
  m.def("layer_map", &layer_map, arg("sigma"), arg("target"), arg("readout"), arg("eta"),
        arg("inv_alpha0"), arg("noise"),
        "Spike, bulk variance and alignments after steps, eta and 1/alpha0 of shape (1, steps); "
        "C_delta, L and Sigma on the frame (vhat, zhat_1, ..); what quadrature does to them.");
}
