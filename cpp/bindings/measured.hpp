// Given weights as Python measures them (THEORY 9 f).
#pragma once

#include "batch.hpp"

#include "srfx/solve/anisotropic.hpp"

inline srfx::MeasuredWeights measured(double r, double c, double gamma, const Doubles& eigenvalues,
                                      const Doubles& vectors) {
  const py::ssize_t p = eigenvalues.size();
  if (vectors.ndim() != 2 || vectors.shape(0) != 4 || vectors.shape(1) != p)
    throw py::value_error("vectors must have shape (4, p)");
  srfx::MeasuredWeights out;
  out.spike = {r, c, gamma};
  out.eigenvalues.assign(eigenvalues.data(), eigenvalues.data() + p);
  for (py::ssize_t j = 0; j < 4; ++j) out.u[j].assign(vectors.data(j, 0), vectors.data(j, 0) + p);
  return out;
}
