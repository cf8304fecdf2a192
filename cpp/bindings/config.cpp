// How this extension was built, and whether this processor can run it.
#include "module.hpp"

#include "build_text.hpp"

#include "srfx/core/parallel.hpp"

#include <stdexcept>
#include <string>

namespace {

std::string compiler() {
#if defined(__clang__)
  return "Clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

std::string instruction_set() {
#if defined(__AVX512F__)
  return "AVX-512";
#elif defined(__AVX2__)
  return "AVX2";
#elif defined(__ARM_NEON)
  return "NEON";
#else
  return "baseline";
#endif
}

/// An extension compiled for a richer processor than this one would die on its first vector: say so
/// instead.
void refuse_wrong_processor() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  bool fits = true;
#if defined(__AVX512F__)
  fits = fits && __builtin_cpu_supports("avx512f");
#endif
#if defined(__AVX2__)
  fits = fits && __builtin_cpu_supports("avx2");
#endif
#if defined(__FMA__)
  fits = fits && __builtin_cpu_supports("fma");
#endif
  if (!fits)
    throw py::import_error("srfx was compiled for " + instruction_set() +
                           ", which this processor lacks: reinstall it here, or build with "
                           "SRFX_ARCH_FLAGS=baseline for a package that runs anywhere");
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
  refuse_wrong_processor();
  m.def("build_config", &build_config,
        "Version, compiler, flags, Eigen, OpenMP and threads of this build.");
  m.def("default_threads", &srfx::default_threads, "Threads this process may use.");
}
