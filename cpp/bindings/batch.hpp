// What every batch of the core takes from Python: two functions and arrays over the points.
#pragma once

#include "functions.hpp"

#include "srfx/solve/scan.hpp"

#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Integers = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

inline srfx::Column column(const Doubles& values) {
  return {values.data(), values.size() == 1 ? 0 : 1};
}

/// Arrays over the points hold one value each, or one for all.
inline void require_lengths(std::initializer_list<py::ssize_t> sizes, py::ssize_t n_points) {
  for (const py::ssize_t size : sizes)
    if (size != 1 && size != n_points)
      throw py::value_error("inputs must have length 1 or n_points");
}

/// One coefficient set an entry; of targets of several directions gamma is the length of their alignment, L numbers a set.
inline std::vector<srfx::SpikeParameters> sets_of(const Doubles& r, const Doubles& c,
                                                  const Doubles& gamma) {
  std::vector<srfx::SpikeParameters> sets(r.size());
  const py::ssize_t n = r.size() > 0 ? gamma.size() / r.size() : 1;
  for (py::ssize_t i = 0; i < r.size(); ++i)
    sets[i] = {r.data()[i], c.data()[i],
               n == 1 ? gamma.data()[i] : srfx::length_of(gamma.data() + i * n, n)};
  return sets;
}

/// The target of a batch: an Activation, or a Target with an alignment of L numbers for each coefficient set. Both must
/// outlive `out`.
inline void set_target(srfx::BatchTarget& out, const py::object& target, const Doubles& alignments,
                       py::ssize_t n_sets) {
  if (py::isinstance<Activation>(target)) {
    out.target = target.cast<const Activation&>().value.get();
    if (alignments.size() != n_sets) throw py::value_error("gamma must have an entry for each set");
    return;
  }
  out.directed = target.cast<const Target&>().value.get();
  out.alignments = alignments.data();
  if (alignments.size() != n_sets * out.directed->directions())
    throw py::value_error("gamma must have L entries for each set");
}

/// The part that the inputs of all batches share; the arrays must outlive `in`.
template <class Input>
void set_points(Input& in, const Activation& sigma, const Integers& set_index, const Doubles& beta, const Doubles& noise,
                const Doubles& alpha, const Doubles& lam, const Doubles& inverse_d,
                py::ssize_t n_points, int n_threads) {
  require_lengths(
      {set_index.size(), beta.size(), noise.size(), alpha.size(), lam.size(), inverse_d.size()},
      n_points);
  in.sigma = sigma.value.get();
  in.set_index = set_index.data();
  in.set_stride = set_index.size() == 1 ? 0 : 1;
  in.alpha = column(alpha), in.beta = column(beta), in.lam = column(lam), in.noise = column(noise),
  in.inverse_d = column(inverse_d);
  in.n_points = n_points;
  in.n_threads = n_threads;
}

/// An array in `out` under `name`, and its data.
inline double* output(py::dict& out, const char* name, std::vector<py::ssize_t> shape) {
  py::array_t<double> values(std::move(shape));
  out[name] = values;
  return values.mutable_data();
}
