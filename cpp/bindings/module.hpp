// What the binding files share: one register_* function each, and Ctrl-C.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "srfx/core/parallel.hpp"

namespace py = pybind11;

void register_config(py::module_& m);
void register_activation(py::module_& m);
void register_theory(py::module_& m);
void register_groups(py::module_& m);
void register_group_step(py::module_& m);
void register_simulation(py::module_& m);
void register_analysis(py::module_& m);
void register_optimum(py::module_& m);
void register_group_gradient(py::module_& m);
void register_step_gradient(py::module_& m);
void register_spectra(py::module_& m);
void register_one_step(py::module_& m);
void register_layers(py::module_& m);
void register_losses(py::module_& m);
void register_text(py::module_& m);

/// Runs `work(interrupt)` without the GIL. Ctrl-C, seen from the main thread, cancels it and raises
/// KeyboardInterrupt; stopped() == true, asked now and then, cancels it with srfx::Cancelled.
template <class Work, class Stopped> void run_released(Work&& work, Stopped&& stopped) {
  bool signalled = false;
  srfx::Interrupt interrupt([&] {
    if (stopped()) return true;
    const py::gil_scoped_acquire gil;
    signalled = PyErr_CheckSignals() != 0;
    return signalled;
  });
  try {
    const py::gil_scoped_release release;
    work(interrupt);
  } catch (const srfx::Cancelled&) {
    if (signalled) throw py::error_already_set();
    throw;
  }
}
template <class Work> void run_released(Work&& work) {
  run_released(work, [] { return false; });
}
