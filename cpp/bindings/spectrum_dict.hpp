// A spectrum as Python sees it.
#pragma once

#include "functions.hpp"

#include "srfx/spectrum/spectrum.hpp"

inline py::dict spectrum_dict(const srfx::Spectrum& s) {
  py::dict item;
  const auto array = [](const auto& values) {
    using T = typename std::decay_t<decltype(values)>::value_type;
    return py::array_t<T>(static_cast<py::ssize_t>(values.size()), values.data());
  };
  item["density"] = array(s.density), item["error"] = array(s.error),
  item["status"] = array(s.status);
  item["edges"] = array(s.edges), item["outliers"] = array(s.outliers);
  item["zero_mass"] = s.zero_mass, item["mass"] = s.mass, item["first_moment"] = s.first_moment;
  item["expected_moment"] = s.expected_moment, item["outlier_rate"] = s.outlier_rate;
  return item;
}

/// One result a model: work(i) on the threads, without the GIL.
template <class Work> inline py::list each_spectrum(py::ssize_t n, int n_threads, Work&& work) {
  std::vector<srfx::Spectrum> results(static_cast<std::size_t>(n));
  run_released([&](srfx::Interrupt& interrupt) {
    srfx::parallel_for(n, n_threads, interrupt,
                       [&](srfx::Index i, int) { results[static_cast<std::size_t>(i)] = work(i); });
  });
  py::list out;
  for (const srfx::Spectrum& s : results) out.append(spectrum_dict(s));
  return out;
}
