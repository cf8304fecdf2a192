// Given weights as Python measures them (THEORY 9 f).
#pragma once

#include "batch.hpp"

#include "srfx/solve/anisotropic.hpp"

/// gamma: one number a direction of the target.
inline srfx::MeasuredWeights measured(double r, double c, const Doubles& gamma,
                                      const Doubles& eigenvalues, const Doubles& vectors) {
  const py::ssize_t p = eigenvalues.size(), n = gamma.size();
  if (vectors.ndim() != 2 || vectors.shape(0) != n + 3 || vectors.shape(1) != p)
    throw py::value_error("vectors must have shape (directions + 3, p)");
  srfx::MeasuredWeights out;
  out.spike = {r, c, n == 1 ? gamma.data()[0] : srfx::length_of(gamma.data(), n)};
  out.alignment.assign(gamma.data(), gamma.data() + n);
  out.eigenvalues.assign(eigenvalues.data(), eigenvalues.data() + p);
  out.u.clear();
  for (py::ssize_t j = 0; j < n + 3; ++j)
    out.u.emplace_back(vectors.data(j, 0), vectors.data(j, 0) + p);
  return out;
}
