// Other losses than the square, and labels of +1 and -1 (THEORY 19).
#include "losses.hpp"
#include "measured.hpp"

#include "srfx/solve/group_losses.hpp"
#include "srfx/solve/group_step.hpp"
#include "srfx/solve/losses.hpp"

namespace {

/// The outputs of a batch, and the dictionary that owns them.
struct Results {
  py::dict dict;
  srfx::LossOutput out{};

  Results(py::ssize_t n, bool slopes) {
    const std::pair<const char*, double**> columns[] = {
        {"train_loss", &out.train_loss},
        {"test_loss", &out.test_loss},
        {"classification_error", &out.classification_error},
        {"test_error", &out.test_error},
        {"train_error", &out.train_error},
        {"m", &out.m},
        {"theta", &out.theta},
        {"psi", &out.psi},
        {"chi", &out.chi},
        {"q1", &out.q1},
        {"q2", &out.q2},
        {"v1", &out.v1},
        {"v2", &out.v2},
        {"r", &out.r},
        {"c", &out.c},
        {"gamma", &out.gamma},
        {"residual", &out.residual},
        {"quadrature_error", &out.quadrature_error}};
    for (const auto& [name, data] : columns) *data = output(dict, name, {n});
    py::array_t<std::int8_t> status(n);
    py::array_t<std::int32_t> iterations(n);
    out.status = status.mutable_data(), out.iterations = iterations.mutable_data();
    dict["status"] = status, dict["iterations"] = iterations;
    if (slopes) out.slopes = output(dict, "slopes", {4, 2, n});
  }
};

py::dict solve_losses(const Activation& sigma, const Activation& target, const Numbers& loss,
                      const std::string& labels, const Doubles& r, const Doubles& c,
                      const Doubles& gamma, const Doubles& set_noise, const Integers& set_index,
                      const Doubles& beta, const Doubles& noise, const Doubles& alpha,
                      const Doubles& lam, const Doubles& inverse_d, py::ssize_t n_points,
                      int n_threads, bool slopes) {
  srfx::BatchInput in;
  set_points(in, sigma, target, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  std::vector<srfx::SpikeParameters> sets(r.size());
  for (py::ssize_t i = 0; i < r.size(); ++i) sets[i] = {r.data()[i], c.data()[i], gamma.data()[i]};
  const srfx::IsotropicLossSource source(std::move(sets), laws(labels, set_noise));
  const srfx::Loss chosen = loss_of(loss);
  Results results(n_points, slopes);
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::solve_losses(source, chosen, in, results.out, interrupt);
  });
  return results.dict;
}

py::dict solve_losses_one_step(const Activation& sigma, const Activation& target,
                               const Numbers& loss, const std::string& labels, double readout,
                               const Doubles& eta, const Doubles& inverse_alpha0,
                               const Doubles& set_noise, const Integers& set_index,
                               const Doubles& beta, const Doubles& noise, const Doubles& alpha,
                               const Doubles& lam, const Doubles& inverse_d, py::ssize_t n_points,
                               int n_threads, bool slopes) {
  srfx::BatchInput in;
  set_points(in, sigma, target, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  if (!sigma.derivative) throw py::value_error(sigma.name + " has no derivative");
  std::vector<srfx::OneStepSource::Parameters> sets(eta.size());
  for (py::ssize_t i = 0; i < eta.size(); ++i)
    sets[i] = {eta.data()[i], inverse_alpha0.data()[i], set_noise.data()[i]};
  const srfx::Labels law{kind_of(labels)};
  const srfx::Loss chosen = loss_of(loss);
  Results results(n_points, slopes);
  run_released([&](srfx::Interrupt& interrupt) {
    const srfx::OneStepLossSource source(
        {*sigma.value, *sigma.derivative, *target.value, readout, std::move(sets),
         srfx::OneStepSource::Path::automatic, law},
        law);
    srfx::solve_losses(source, chosen, in, results.out, interrupt);
  });
  return results.dict;
}

py::dict solve_losses_empirical(const Activation& sigma, const Activation& target,
                                const Numbers& loss, const std::string& labels, double r, double c,
                                const Doubles& gamma, const Doubles& eigenvalues,
                                const Doubles& vectors, double beta, double inverse_d,
                                const Doubles& set_noise, const Integers& set_index,
                                const Doubles& noise, const Doubles& alpha, const Doubles& lam,
                                py::ssize_t n_points, int n_threads, bool slopes) {
  const srfx::MeasuredWeights weights = measured(r, c, gamma, eigenvalues, vectors);
  const Doubles betas(std::vector<py::ssize_t>{1}, &beta),
      inverse(std::vector<py::ssize_t>{1}, &inverse_d);
  srfx::BatchInput in;
  set_points(in, sigma, target, set_index, betas, noise, alpha, lam, inverse, n_points, n_threads);
  const srfx::EmpiricalLossSource source(weights, laws(labels, set_noise));
  const srfx::Loss chosen = loss_of(loss);
  Results results(n_points, slopes);
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::solve_losses(source, chosen, in, results.out, interrupt);
  });
  return results.dict;
}

py::dict solve_group_losses_empirical(const Activation& sigma, const py::object& target,
                                      const Numbers& loss, const std::string& labels, double r,
                                      double c, const Doubles& gamma, const Doubles& eigenvalues,
                                      const Doubles& vectors, double beta, double inverse_d,
                                      const Doubles& set_noise, const Integers& set_index,
                                      const Doubles& noise, const Doubles& alpha,
                                      const Doubles& lam, py::ssize_t n_points, int n_threads,
                                      bool slopes) {
  const srfx::MeasuredWeights weights = measured(r, c, gamma, eigenvalues, vectors);
  const Doubles betas(std::vector<py::ssize_t>{1}, &beta),
      inverse(std::vector<py::ssize_t>{1}, &inverse_d);
  srfx::GroupLossInput in;
  const py::ssize_t directions = set_own_target(in, target);
  set_points(in, sigma, set_index, betas, noise, alpha, lam, inverse, n_points, n_threads);
  in.loss = loss_of(loss), in.labels = laws(labels, set_noise);
  OverlapResults results(n_points, directions, slopes);
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::solve_weights_losses(weights, in, results.out, interrupt);
  });
  return results.dict;
}

py::dict solve_group_losses(const Activation& sigma, const py::object& target, const Numbers& loss,
                            const std::string& labels, const Doubles& r, const Doubles& c,
                            const Doubles& gamma, const Doubles& pi, const Doubles& set_noise,
                            const Integers& set_index, const Doubles& beta, const Doubles& noise,
                            const Doubles& alpha, const Doubles& lam, const Doubles& inverse_d,
                            py::ssize_t n_points, int n_threads, bool merge, bool slopes) {
  srfx::GroupLossInput in;
  in.sets = group_sets_of(r, c, gamma, pi);
  set_group_target(in, target, r, gamma);
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  in.merge = merge;
  in.loss = loss_of(loss);
  in.labels = laws(labels, set_noise);
  GroupResults results(n_points, r, gamma, pi.size());
  srfx::GroupLossOutput out{results.common, output(results.dict, "train_loss", {n_points}),
                            output(results.dict, "test_loss", {n_points}),
                            output(results.dict, "classification_error", {n_points})};
  if (slopes) out.slopes = output(results.dict, "slopes", {4, 2, n_points});
  run_released([&](srfx::Interrupt& interrupt) { srfx::solve_group_losses(in, out, interrupt); });
  return results.dict;
}

py::dict solve_group_step_losses(const Activation& sigma, const py::object& target,
                                 const Numbers& loss, const std::string& labels,
                                 const std::vector<double>& readout, const std::vector<double>& pi,
                                 const Doubles& eta, const Doubles& inverse_alpha0,
                                 const Doubles& set_noise, const Integers& set_index,
                                 const Doubles& beta, const Doubles& noise, const Doubles& alpha,
                                 const Doubles& lam, const Doubles& inverse_d, py::ssize_t n_points,
                                 int n_threads, bool merge, bool slopes) {
  if (!sigma.derivative) throw py::value_error(sigma.name + " has no derivative");
  srfx::GroupStepInput steps;
  steps.sigma = sigma.value.get(), steps.derivative = sigma.derivative.get();
  steps.readout = readout, steps.pi = pi, steps.merge = merge;
  steps.labels = {kind_of(labels)};
  for (py::ssize_t i = 0; i < eta.size(); ++i)
    steps.sets.push_back({eta.data()[i], inverse_alpha0.data()[i], set_noise.data()[i]});
  srfx::GroupLossInput in;
  const py::ssize_t directions = set_own_target(in, target);
  static_cast<srfx::BatchTarget&>(steps) = in;
  set_points(in, sigma, set_index, beta, noise, alpha, lam, inverse_d, n_points, n_threads);
  in.loss = loss_of(loss), in.labels = laws(labels, set_noise);
  const auto k = static_cast<py::ssize_t>(readout.size());
  const bool directed = in.directed != nullptr;
  const Doubles r(directed ? std::vector<py::ssize_t>{1, k, 1} : std::vector<py::ssize_t>{1, k}),
      gamma(std::vector<py::ssize_t>{1, directions, 1});
  GroupResults results(n_points, r, gamma, k);
  const auto values = [&](const char* name, std::vector<py::ssize_t> shape) {
    return output(results.dict, name, std::move(shape));
  };
  srfx::GroupLossOutput out{results.common,
                            values("train_loss", {n_points}),
                            values("test_loss", {n_points}),
                            values("classification_error", {n_points}),
                            values("r", {n_points, k}),
                            values("c", {n_points, k}),
                            values("gamma", {n_points, directed ? directions : k}),
                            values("chi", {n_points, k})};
  if (slopes) out.slopes = values("slopes", {4, 2, n_points});
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::solve_group_step_losses(steps, in, out, interrupt);
  });
  return results.dict;
}

py::dict label_moments(const Activation& target, const std::string& labels, const Doubles& noise) {
  const py::ssize_t n = noise.size();
  const std::vector<srfx::Labels> of = laws(labels, noise);
  py::dict out;
  double* mean = output(out, "mean", {n});
  double* h1 = output(out, "h1", {n});
  for (py::ssize_t i = 0; i < n; ++i) {
    const srfx::LabelMoments moments = srfx::label_moments(*target.value, of[i]);
    mean[i] = moments.mean, h1[i] = moments.h1;
  }
  return out;
}

}  // namespace

void register_losses(py::module_& m) {
  using py::arg;
  m.def("solve_losses", &solve_losses, arg("sigma"), arg("target"), arg("loss"), arg("labels"),
        arg("r"), arg("c"), arg("gamma"), arg("set_noise"), arg("set_index"), arg("beta"),
        arg("noise"), arg("alpha"), arg("lam"), arg("inv_d"), arg("n_points"), arg("n_threads"),
        arg("slopes") = false,
        "Spiked models with another loss or labels; (r, c, gamma, noise) one entry a set, of logit "
        "labels their slope in the place of noise. slopes: derivatives too, of (train_loss, "
        "test_loss, test_error, classification_error) by (lam, alpha).");
  m.def("solve_losses_one_step", &solve_losses_one_step, arg("sigma"), arg("target"), arg("loss"),
        arg("labels"), arg("readout"), arg("eta"), arg("inv_alpha0"), arg("set_noise"),
        arg("set_index"), arg("beta"), arg("noise"), arg("alpha"), arg("lam"), arg("inv_d"),
        arg("n_points"), arg("n_threads"), arg("slopes") = false,
        "The same of actual one-step networks; (eta, 1/alpha0, noise) one entry a set.");
  m.def("solve_losses_empirical", &solve_losses_empirical, arg("sigma"), arg("target"), arg("loss"),
        arg("labels"), arg("r"), arg("c"), arg("gamma"), arg("eigenvalues"), arg("vectors"),
        arg("beta"), arg("inv_d"), arg("set_noise"), arg("set_index"), arg("noise"), arg("alpha"),
        arg("lam"), arg("n_points"), arg("n_threads"), arg("slopes") = false,
        "The same of given weights; noise one entry a set.");
  m.def("solve_group_losses_empirical", &solve_group_losses_empirical, arg("sigma"), arg("target"),
        arg("loss"), arg("labels"), arg("r"), arg("c"), arg("gamma"), arg("eigenvalues"),
        arg("vectors"), arg("beta"), arg("inv_d"), arg("set_noise"), arg("set_index"), arg("noise"),
        arg("alpha"), arg("lam"), arg("n_points"), arg("n_threads"), arg("slopes") = false,
        "The same towards several directions.");
  m.def("solve_group_losses", &solve_group_losses, arg("sigma"), arg("target"), arg("loss"),
        arg("labels"), arg("r"), arg("c"), arg("gamma"), arg("pi"), arg("set_noise"),
        arg("set_index"), arg("beta"), arg("noise"), arg("alpha"), arg("lam"), arg("inv_d"),
        arg("n_points"), arg("n_threads"), arg("merge") = true, arg("slopes") = false,
        "The same of K groups, any spikes and directions: shapes as in solve_groups, set_noise one "
        "entry a set.");
  m.def("solve_group_step_losses", &solve_group_step_losses, arg("sigma"), arg("target"),
        arg("loss"), arg("labels"), arg("readout"), arg("pi"), arg("eta"), arg("inv_alpha0"),
        arg("set_noise"), arg("set_index"), arg("beta"), arg("noise"), arg("alpha"), arg("lam"),
        arg("inv_d"), arg("n_points"), arg("n_threads"), arg("merge") = true, arg("slopes") = false,
        "The same of actual one-step networks of several readout values: shapes as in "
        "solve_one_step_groups.");
  m.def("label_moments", &label_moments, arg("target"), arg("labels"), arg("noise"),
        "E y and E t y of labels of +1 and -1, one entry a noise; of logit a slope.");
}
