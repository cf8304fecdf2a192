// The extension srfx._core_cpu: for which sets the core was compiled, and what this processor lacks
// of each. It runs on any processor and knows neither the core nor pybind11, which costs seconds.
#include <Python.h>

#include "processor.hpp"
#include "sets.hpp"

namespace srfx::processor {
#define SRFX_DECLARED(set) extern const char needs_##set[];
SRFX_SETS(SRFX_DECLARED)
}  // namespace srfx::processor

namespace {

PyObject* lacking(PyObject*, PyObject*) {
  PyObject* out = PyDict_New();
  if (!out) return nullptr;
  const auto add = [out](const char* set, const char* needs) {
    PyObject* words = PyUnicode_FromString(srfx::processor::lacking(needs).c_str());
    const bool done = words && PyDict_SetItemString(out, set, words) == 0;
    Py_XDECREF(words);
    return done;
  };
#define SRFX_ADDED(set) add(#set, srfx::processor::needs_##set) &&
  if (SRFX_SETS(SRFX_ADDED) true) return out;
  Py_DECREF(out);
  return nullptr;
}

PyMethodDef methods[] = {
    {"lacking", lacking, METH_NOARGS,
     "Sets the core was compiled for, the best first, and what this processor lacks of each."},
    {nullptr, nullptr, 0, nullptr}};

PyModuleDef_Slot slots[] = {
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr}};

PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                          "_core_cpu",
                          "What of srfx this processor can run. Private.",
                          0,
                          methods,
                          slots,
                          nullptr,
                          nullptr,
                          nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__core_cpu() { return PyModuleDef_Init(&definition); }
