#include "functions.hpp"

#include <algorithm>
#include <cmath>

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
  const py::object raw = callable_(argument);
  const py::array any = py::array::ensure(raw);
  const char kind = any ? any.dtype().kind() : 'O';
  if (kind != 'f' && kind != 'i' && kind != 'u' && kind != 'b') {
    PyErr_Clear();
    throw py::value_error(role_ + " must return an array of real numbers; it returned " +
                          (any ? "dtype " + std::string(py::str(any.dtype()))
                               : std::string(py::str(py::type::of(raw)))));
  }
  const auto result = py::array_t<double, py::array::c_style | py::array::forcecast>::ensure(raw);
  if (!result) {
    PyErr_Clear();
    throw py::value_error(role_ + " must return an array of real numbers; it returned " +
                          std::string(py::str(py::type::of(raw))));
  }
  if (result.ndim() != 1 || result.shape(0) != n)
    throw py::value_error(role_ + " must return one value for each input: given shape (" +
                          std::to_string(n) + ",) it returned shape " +
                          std::string(py::str(result.attr("shape"))));
  const double* values = result.data();
  for (srfx::Index i = 0; i < n; ++i) {
    if (!std::isfinite(values[i]))
      throw py::value_error(role_ + " must return finite values; at " + std::to_string(x[i]) +
                            " it returned " + std::to_string(values[i]));
    y[i] = values[i];
  }
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
