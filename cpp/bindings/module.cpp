// Table of contents of the extension module srfx._core.
#include "module.hpp"

PYBIND11_MODULE(_core, m) {
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
