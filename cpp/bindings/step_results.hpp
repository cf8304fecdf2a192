// What the solves of correlated bulks and their derivatives hand back to Python.
#pragma once

#include "batch.hpp"

#include "srfx/solve/layers.hpp"

/// The outputs of a batch, and the dictionary that owns them.
struct Results {
  py::dict dict;
  srfx::AnisotropicOutput out{};

  std::vector<double> first_psi,
      length;  ///< of targets of several directions, whose psi and gamma are vectors

  explicit Results(py::ssize_t n, srfx::Index directions = 1) {
    const auto values = [&](const char* name) {
      py::array_t<double> array(n);
      dict[name] = array;
      return array.mutable_data();
    };
    out.test_error = values("test_error"), out.train_error = values("train_error");
    out.m = values("m"), out.theta = values("theta"), out.psi = values("psi"),
    out.chi = values("chi");
    out.r = values("r"), out.c = values("c"), out.gamma = values("gamma");
    out.q1 = values("q1"), out.q2 = values("q2"), out.v1 = values("v1"), out.v2 = values("v2");
    out.residual = values("residual"), out.quadrature_error = values("quadrature_error");
    py::array_t<std::int8_t> status(n);
    py::array_t<std::int32_t> iterations(n);
    out.status = status.mutable_data(), out.iterations = iterations.mutable_data();
    dict["status"] = status, dict["iterations"] = iterations;
    if (directions > 1) {
      first_psi.resize(n), length.resize(n);
      out.psi = first_psi.data(), out.gamma = length.data();
      out.psi_directions = output(dict, "psi", {n, directions});
      out.alignment = output(dict, "gamma", {n, directions});
    }
  }
};

/// Room for the derivatives, and the directions.
struct Slopes {
  py::array_t<double> test, train;
  srfx::GradientOutput out;
  std::vector<srfx::StepDirection> along;

  Slopes(const std::vector<int>& directions, py::ssize_t n)
      : test({static_cast<py::ssize_t>(directions.size()), n}),
        train({static_cast<py::ssize_t>(directions.size()), n}) {
    for (std::size_t d = 0; d < directions.size(); ++d) {
      const auto first = static_cast<py::ssize_t>(d) * n;
      out.test_error.push_back(test.mutable_data() + first),
          out.train_error.push_back(train.mutable_data() + first);
      along.push_back(static_cast<srfx::StepDirection>(directions[d]));
    }
  }
};
