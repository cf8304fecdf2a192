// Simulated networks: one call is one replicate.
#include "functions.hpp"

#include "srfx/simulate/simulate.hpp"

namespace {

/// Stops work that another thread started: a thread of an executor never sees Ctrl-C itself.
class CancelFlag {
 public:
  void cancel() { set_.store(true, std::memory_order_relaxed); }
  bool cancelled() const { return set_.load(std::memory_order_relaxed); }

 private:
  std::atomic<bool> set_{false};
};

/// An activation as the simulation wants it: in float and double, with its derivative.
class Adapted final : public srfx::Pointwise {
 public:
  explicit Adapted(const Activation& a) : value_(a.value), derivative_(a.derivative) {
    if (a.id) named_ = std::make_unique<srfx::NamedPointwise>(*a.id);
  }
  void value(const double* x, double* y, srfx::Index n) const override {
    if (named_) named_->value(x, y, n);
    else value_->evaluate(x, y, n);
  }
  void value(const float* x, float* y, srfx::Index n) const override {
    if (named_) named_->value(x, y, n);
    else through_double(*value_, x, y, n);
  }
  void derivative(const double* x, double* y, srfx::Index n) const override {
    if (named_) named_->derivative(x, y, n);
    else derivative_->evaluate(x, y, n);
  }
  void derivative(const float* x, float* y, srfx::Index n) const override {
    if (named_) named_->derivative(x, y, n);
    else through_double(*derivative_, x, y, n);
  }

 private:
  static void through_double(const srfx::Function& f, const float* x, float* y, srfx::Index n) {
    std::vector<double> wide(x, x + n);
    f.evaluate(wide.data(), wide.data(), n);
    for (srfx::Index i = 0; i < n; ++i) y[i] = static_cast<float>(wide[i]);
  }

  std::shared_ptr<srfx::Function> value_, derivative_;
  std::unique_ptr<srfx::NamedPointwise> named_;
};

py::array_t<double> array_of(const std::vector<double>& values, std::vector<py::ssize_t> shape) {
  py::array_t<double> out(std::move(shape));
  std::copy(values.begin(), values.end(), out.mutable_data());
  return out;
}

srfx::ReadoutLoss loss_of(const std::string& name, double kappa, double lo, double hi,
                          bool margin) {
  using Kind = srfx::ReadoutLoss::Kind;
  const Kind kind = name == "logistic"     ? Kind::logistic
                    : name == "max_margin" ? Kind::max_margin
                    : name == "square"     ? Kind::square
                                           : Kind::piecewise;
  return {kind, kappa, lo, hi, margin};
}

/// The readouts of given features phi (n, p), for tests and measurements: a (lam, p), and the
/// duality gap of each.
py::tuple fit_readouts(const py::array_t<double, py::array::c_style | py::array::forcecast>& phi,
                       const std::vector<double>& y, const std::vector<double>& lam,
                       const std::string& name, double kappa, double lo, double hi, bool margin,
                       int threads) {
  const srfx::Index n = phi.shape(0), p = phi.shape(1),
                    count = static_cast<srfx::Index>(lam.size());
  const srfx::ReadoutLoss loss = loss_of(name, kappa, lo, hi, margin);
  py::array_t<double> a({count, p}), gap(count);
  double *pa = a.mutable_data(), *pgap = gap.mutable_data();
  const double* from = phi.data();
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::Panels<double> rows(n, p);
    rows.set_zero();
    for (srfx::Index s = 0; s < n; ++s)
      for (srfx::Index u = 0; u < p; ++u) rows(s, u) = from[s * p + u];
    srfx::fit_readouts(
        loss, rows, p, y, {n}, lam, threads, interrupt,
        [&](srfx::Index, srfx::Index j, const double* readout, const double*, double reached) {
          pgap[j] = reached;
          std::copy_n(readout, p, pa + j * p);
        });
  });
  return py::make_tuple(a, gap);
}

template <class T>
py::dict simulate_as(const srfx::Experiment& e, const Activation& activation, const Target& target,
                     int threads, const std::shared_ptr<CancelFlag>& flag, bool with_predictions) {
  const Adapted sigma(activation);
  srfx::Errors errors;
  srfx::Predictions predictions;
  const auto stopped = [&flag] { return flag && flag->cancelled(); };
  run_released(
      [&](srfx::Interrupt& interrupt) {
        errors = srfx::simulate<T>(e, sigma, *target.value, threads, interrupt,
                                   with_predictions ? &predictions : nullptr);
      },
      stopped);
  const auto n = static_cast<py::ssize_t>(e.n.size()), lam = static_cast<py::ssize_t>(e.lam.size());
  py::dict out;
  out["test_error"] = array_of(errors.test, {n, lam});
  out["train_error"] = array_of(errors.train, {n, lam});
  const std::pair<const char*, const std::vector<double>*> more[] = {
      {"test_loss", &errors.test_loss},
      {"train_loss", &errors.train_loss},
      {"classification_error", &errors.missed},
      {"duality_gap", &errors.gap}};
  for (const auto& [name, values] : more)
    if (!values->empty()) out[name] = array_of(*values, {n, lam});
  if (with_predictions) {
    out["t"] = array_of(predictions.t, {e.directions, e.n_test});
    out["f"] = array_of(predictions.f, {n, lam, e.n_test});
  }
  return out;
}

py::dict simulate(const srfx::Experiment& e, const Activation& activation, const Target& target,
                  bool single, int threads,
                  const std::optional<std::shared_ptr<CancelFlag>>& cancel, bool with_predictions) {
  const std::shared_ptr<CancelFlag> flag = cancel.value_or(nullptr);
  return single ? simulate_as<float>(e, activation, target, threads, flag, with_predictions)
                : simulate_as<double>(e, activation, target, threads, flag, with_predictions);
}

py::tuple simulated_weights(const srfx::Experiment& e, const Activation& activation,
                            const Target& target, bool single, int threads) {
  const Adapted sigma(activation);
  const srfx::TargetFunction& labels = *target.value;
  const srfx::Index spikes = e.stepped() ? 1 : e.spikes;
  py::array_t<double> w({e.p(), e.d}), v({spikes, e.d}), theta({e.directions, e.d});
  double *pw = w.mutable_data(), *pv = v.mutable_data(), *ptheta = theta.mutable_data();
  run_released([&](srfx::Interrupt& interrupt) {
    if (single) srfx::simulate_weights<float>(e, sigma, labels, threads, interrupt, pw, pv, ptheta);
    else srfx::simulate_weights<double>(e, sigma, labels, threads, interrupt, pw, pv, ptheta);
  });
  return py::make_tuple(w, v, theta);
}

}  // namespace

void register_simulation(py::module_& m) {
  using py::arg;
  py::register_exception<srfx::Cancelled>(m, "Cancelled", PyExc_RuntimeError);
  py::register_exception<srfx::NotPositiveDefinite>(m, "NotPositiveDefinite",
                                                    PyExc_ArithmeticError);
  py::register_exception<srfx::NoReadout>(m, "NoReadout", PyExc_ArithmeticError);
  py::class_<CancelFlag, std::shared_ptr<CancelFlag>>(m, "CancelFlag",
                                                      "Stops the simulations it was given to.")
      .def(py::init<>())
      .def("cancel", &CancelFlag::cancel);
  py::class_<srfx::Experiment>(
      m, "Experiment",
      "One replicate of a simulation. n is strictly ascending; r has a row a group and a column a "
      "spike, theta a row a direction in the frame of the spikes and one more vector a direction; "
      "n0 "
      "and eta have an entry a gradient step; kappa, lo and hi are those of a piecewise quadratic "
      "loss.")
      .def(
          py::init([](srfx::Index d, srfx::Index n_test, std::vector<srfx::Index> n,
                      std::vector<double> lam, const std::vector<srfx::Index>& sizes,
                      const std::vector<double>& readout, const std::vector<std::vector<double>>& r,
                      const std::vector<double>& c, const std::vector<std::vector<double>>& theta,
                      double noise, const std::vector<srfx::Index>& n0,
                      const std::vector<double>& eta, std::uint64_t seed, std::uint64_t replicate,
                      bool literal, const std::string& labels, double slope,
                      const std::string& loss, double kappa, double lo, double hi) {
            srfx::Experiment e;
            e.d = d, e.n_test = n_test, e.n = std::move(n), e.lam = std::move(lam);
            if (readout.size() != sizes.size() || r.size() != sizes.size() ||
                c.size() != sizes.size())
              throw py::value_error("sizes, readout, r and c must have one entry a group");
            for (std::size_t g = 0; g < sizes.size(); ++g)
              e.groups.push_back({sizes[g], readout[g], r[g], c[g]});
            e.directions = static_cast<srfx::Index>(theta.size());
            e.spikes = static_cast<srfx::Index>(r[0].size());
            e.theta.clear();
            for (const std::vector<double>& row : theta)
              e.theta.insert(e.theta.end(), row.begin(), row.end());
            if (static_cast<srfx::Index>(e.theta.size()) != e.directions * e.own())
              throw py::value_error("theta must have one column a vector of the frame");
            if (n0.size() != eta.size())
              throw py::value_error("n0 and eta must have one entry a step");
            for (std::size_t i = 0; i < n0.size(); ++i) e.steps.push_back({n0[i], eta[i]});
            e.labels = labels == "sign"    ? srfx::LabelKind::sign
                       : labels == "logit" ? srfx::LabelKind::logit
                                           : srfx::LabelKind::real;
            e.slope = slope;
            e.loss = loss_of(loss, kappa, lo, hi, e.labelled());
            e.noise = noise, e.seed = seed, e.replicate = replicate, e.literal = literal;
            return e;
          }),
          py::kw_only(), arg("d"), arg("n_test"), arg("n"), arg("lam"), arg("sizes"),
          arg("readout"), arg("r"), arg("c"), arg("theta"), arg("noise"), arg("n0"), arg("eta"),
          arg("seed"), arg("replicate"), arg("literal"), arg("labels"), arg("slope"), arg("loss"),
          arg("kappa"), arg("lo"), arg("hi"))
      .def(
          "memory",
          [](const srfx::Experiment& e, bool single) {
            return single ? srfx::memory_bytes<float>(e) : srfx::memory_bytes<double>(e);
          },
          arg("single"), "Peak memory of a run in bytes, to within some per cent.");
  m.def("simulate", &simulate, arg("experiment"), arg("activation"), arg("target"), arg("single"),
        arg("n_threads"), arg("cancel") = std::nullopt, arg("predictions") = false,
        "Errors of one replicate, shape (n, lam).");
  m.def("fit_readouts", &fit_readouts, arg("phi"), arg("y"), arg("lam"), arg("loss"), arg("kappa"),
        arg("lo"), arg("hi"), arg("margin"), arg("n_threads"),
        "Readouts of given features (n, p) for every lam: a (lam, p), and the "
        "duality gaps over the objectives.");
  m.def(
      "simulated_weights", &simulated_weights, arg("experiment"), arg("activation"), arg("target"),
      arg("single"), arg("n_threads"),
      "The first-layer weights of a literal run, v (a row a spike) and theta (a row a direction).");
}
