// Table of contents of the extension modules srfx._core_SET, one of which is srfx._core.
#include "module.hpp"

#include "build_text.hpp"

// Nothing here is shared between calls but constants: activations and targets do not change, what a
// Function of the user does is Python's, and a flag is an atomic one. So threads need no lock.
PYBIND11_MODULE(SRFX_MODULE, m, py::mod_gil_not_used()) {
  m.attr("__name__") = "srfx._core";  // of its classes and errors, whatever the set
  m.doc() = "The compiled core of srfx. Private: its callers in srfx validate what they pass.";
  register_config(m);
  register_activation(m);
  register_theory(m);
  register_groups(m);
  register_group_step(m);
  register_simulation(m);
  register_analysis(m);
  register_optimum(m);
  register_group_gradient(m);
  register_step_gradient(m);
  register_spectra(m);
  register_one_step(m);
  register_layers(m);
  register_losses(m);
  register_text(m);
}
