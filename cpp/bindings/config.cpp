// How this extension was built.
#include "module.hpp"

#include "build_text.hpp"

#include "srfx/core/parallel.hpp"

#include <string>

namespace {

std::string compiler() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

/// The set's name, and the vectors it has.
std::string instruction_set() {
  const std::string set = SRFX_SET;
#if defined(__AVX512F__)
  return set + " (AVX-512)";
#elif defined(__AVX2__)
  return set + " (AVX2)";
#elif defined(__ARM_NEON)
  return set + " (NEON)";
#else
  return set;
#endif
}

py::dict build_config() {
  py::dict out;
  out["version"] = SRFX_VERSION;
  out["compiler"] = compiler();
  out["flags"] = SRFX_COMPILE_FLAGS;
  out["build_type"] = SRFX_BUILD_TYPE;
  out["instruction_set"] = instruction_set();
  out["eigen"] = std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) +
                 "." + std::to_string(EIGEN_MINOR_VERSION);
#ifdef SRFX_HAS_OPENMP
  out["openmp"] = std::to_string(_OPENMP);
#else
  out["openmp"] = py::none();
#endif
  out["threads"] = srfx::default_threads();
  return out;
}

}  // namespace

void register_config(py::module_& m) {
  m.def("build_config", &build_config,
        "Version, compiler, flags, Eigen, OpenMP and threads of this build.");
  m.def("default_threads", &srfx::default_threads, "Threads this process may use.");
}
