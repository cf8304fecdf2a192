#include "functions.hpp"

#include <algorithm>
#include <cmath>

namespace {

/// Checks what a callable returned for n points and copies it to y; at(i) writes point i.
template <class At>
void take(const py::object& raw, const std::string& role, double* y, srfx::Index n, At&& at) {
  const py::array any = py::array::ensure(raw);
  const char kind = any ? any.dtype().kind() : 'O';
  if (kind != 'f' && kind != 'i' && kind != 'u' && kind != 'b') {
    PyErr_Clear();
    throw py::value_error(role + " must return an array of real numbers; it returned " +
                          (any ? "dtype " + std::string(py::str(any.dtype()))
                               : std::string(py::str(py::type::of(raw)))));
  }
  const auto result = py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(raw);
  if (!result) {
    PyErr_Clear();
    throw py::value_error(role + " must return an array of real numbers; it returned " +
                          std::string(py::str(py::type::of(raw))));
  }
  if (result.ndim() != 1 || result.shape(0) != n)
    throw py::value_error(role + " must return one value for each input: given shape (" +
                          std::to_string(n) + ",) it returned shape " +
                          std::string(py::str(result.attr("shape"))));
  const double* values = result.data();
  for (srfx::Index i = 0; i < n; ++i) {
    if (!std::isfinite(values[i]))
      throw py::value_error(role + " must return finite values; at " + at(i) + " it returned " +
                            std::to_string(values[i]));
    y[i] = values[i];
  }
}

}  // namespace

CallableFunction::CallableFunction(py::object callable, std::vector<double> kinks, std::string role)
    : callable_(std::move(callable)),
      role_(std::move(role)) {
  shape_.kinks = std::move(kinks);
  std::sort(shape_.kinks.begin(), shape_.kinks.end());
  shape_.smooth =
      false;  // nothing is known of it: panels, as fine as for the narrowest named activation
  shape_.growth = 2;
  shape_.panel = 1.0;
  shape_.soft = srfx::infinity;
}

CallableFunction::~CallableFunction() {
  const py::gil_scoped_acquire gil;
  callable_ = py::object();
}

void CallableFunction::evaluate(const double* x, double* y, srfx::Index n) const {
  const py::gil_scoped_acquire gil;
  const py::array_t<double> argument(n, x);  // a copy: the callable may keep it
  take(callable_(argument), role_, y, n, [x](srfx::Index i) { return std::to_string(x[i]); });
}

CallableTarget::CallableTarget(py::object callable, srfx::Index directions,
                               std::vector<srfx::Plane> planes, std::string role)
    : callable_(std::move(callable)),
      role_(std::move(role)) {
  shape_.directions = directions;
  shape_.planes = std::move(planes);
}

CallableTarget::~CallableTarget() {
  const py::gil_scoped_acquire gil;
  callable_ = py::object();
}

void CallableTarget::evaluate(const double* t, double* y, srfx::Index n) const {
  const py::gil_scoped_acquire gil;
  const srfx::Index count = shape_.directions;
  py::tuple arguments(count);
  for (srfx::Index l = 0; l < count; ++l)  // copies: the callable may keep them
    arguments[static_cast<std::size_t>(l)] = py::array_t<double>(n, t + l * n);
  take(callable_(*arguments), role_, y, n, [=](srfx::Index i) {
    std::string at = "(";
    for (srfx::Index l = 0; l < count; ++l)
      at += std::to_string(t[l * n + i]) + (l + 1 < count ? ", " : ")");
    return at;
  });
}

OneDirection::OneDirection(std::shared_ptr<srfx::Function> function)
    : function_(std::move(function)) {
  const srfx::Shape& shape = function_->shape();
  for (const double kink : shape.kinks) shape_.planes.push_back({{1.0}, kink});
  shape_.growth = shape.growth;
  shape_.parity = shape.parity;
}

void register_activation(py::module_& m) {
  py::class_<Activation>(m, "Activation",
                         "A scalar function: a named activation or a vectorised callable.")
      .def(py::init([](const std::string& name) {
             const srfx::ActivationId id = srfx::activation_from_name(name);
             Activation out{name, id, std::make_shared<srfx::NamedFunction>(id, false), nullptr};
             if (!out.value->shape().jump)
               out.derivative = std::make_shared<srfx::NamedFunction>(id, true);
             return out;
           }),
           py::arg("name"))
      .def_static(
          "from_callable",
          [](const py::object& value, const py::object& derivative,
             const std::vector<double>& kinks, const std::string& name) {
            Activation out{name, std::nullopt,
                           std::make_shared<CallableFunction>(value, kinks, "the callable " + name),
                           nullptr};
            if (!derivative.is_none())
              out.derivative = std::make_shared<CallableFunction>(derivative, kinks,
                                                                  "the derivative of " + name);
            return out;
          },
          py::arg("value"), py::arg("derivative"), py::arg("kinks"), py::arg("name") = "fn")
      .def_property_readonly("name", [](const Activation& a) { return a.name; })
      .def_property_readonly("has_derivative",
                             [](const Activation& a) { return a.derivative != nullptr; })
      .def_property_readonly("jump", [](const Activation& a) { return a.value->shape().jump; })
      .def_property_readonly("smooth", [](const Activation& a) { return a.value->shape().smooth; })
      .def_property_readonly("parity", [](const Activation& a) { return a.value->shape().parity; })
      .def_property_readonly("kinks", [](const Activation& a) { return a.value->shape().kinks; });

  py::class_<Target>(m, "Target", "A target of several directions, named or a vectorised callable.")
      .def(py::init([](const std::string& name, srfx::Index directions) {
             return Target{name, std::make_shared<srfx::NamedTarget>(srfx::target_from_name(name),
                                                                     directions)};
           }),
           py::arg("name"), py::arg("directions"))
      .def_static(
          "from_callable",
          [](const py::object& value, srfx::Index directions,
             const std::vector<std::pair<std::vector<double>, double>>& kinks,
             const std::string& name) {
            std::vector<srfx::Plane> planes;
            for (const auto& [normal, offset] : kinks) planes.push_back({normal, offset});
            return Target{name, std::make_shared<CallableTarget>(
                                    value, directions, std::move(planes), "the target " + name)};
          },
          py::arg("value"), py::arg("directions"), py::arg("kinks"), py::arg("name") = "fn")
      .def_static(
          "of",
          [](const Activation& a) {
            return Target{a.name, std::make_shared<OneDirection>(a.value)};
          },
          py::arg("activation"), "The target of one direction.")
      .def_property_readonly("name", [](const Target& t) { return t.name; })
      .def_property_readonly("directions", [](const Target& t) { return t.value->directions(); })
      .def_property_readonly("kinks", [](const Target& t) {
        std::vector<std::pair<std::vector<double>, double>> kinks;
        for (const srfx::Plane& plane : t.value->shape().planes)
          kinks.emplace_back(plane.normal, plane.offset);
        return kinks;
      });
  m.def("target_names", [] {
    return std::vector<std::string>(srfx::target_names.begin(), srfx::target_names.end());
  });
  m.def(
      "evaluate_target",
      [](const Target& target,
         const py::array_t<double, py::array::c_style | py::array::forcecast>& t) {
        if (t.ndim() != 2 || t.shape(0) != target.value->directions())
          throw py::value_error("t must have one row a direction");
        const py::ssize_t n = t.shape(1);
        py::array_t<double> y(n);
        const double* in = t.data();
        double* out = y.mutable_data();
        {
          const py::gil_scoped_release release;
          target.value->evaluate(in, out, n);
        }
        return y;
      },
      py::arg("target"), py::arg("t"), "Values at the columns of t, shape (directions, n).");

  m.def("activation_names", [] {
    std::vector<std::string> names;
    for (int i = 0; i < srfx::n_activations; ++i)
      names.emplace_back(srfx::info(static_cast<srfx::ActivationId>(i)).name);
    return names;
  });
  using Input = py::array_t<double, py::array::c_style | py::array::forcecast>;
  const auto apply = [](const srfx::Function& f, const Input& x) {
    py::array_t<double> y(x.size());
    const double* in = x.data();
    double* out = y.mutable_data();
    const py::ssize_t n = x.size();
    {
      const py::gil_scoped_release release;
      f.evaluate(in, out, n);
    }
    return y;
  };
  m.def(
      "evaluate", [apply](const Activation& a, const Input& x) { return apply(*a.value, x); },
      py::arg("activation"), py::arg("x"), "Values at a vector x.");
  m.def(
      "evaluate_derivative",
      [apply](const Activation& a, const Input& x) {
        if (!a.derivative) throw py::value_error(a.name + " has no derivative");
        return apply(*a.derivative, x);
      },
      py::arg("activation"), py::arg("x"), "Derivatives at a vector x.");
}
