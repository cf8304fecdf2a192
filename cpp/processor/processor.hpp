// What this processor has of what a set may need (needs.cpp). Compiled for any processor.
#pragma once

#include <string>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace srfx::processor {

struct Feature {
  const char* name;
  bool there;
};

/// The words of `needs` that this processor, or its operating system, lacks. What is not known here
/// counts as there.
inline std::string lacking(const std::string& needs) {
#if defined(__x86_64__)
  __builtin_cpu_init();
#define SRFX_FEATURE(name) {name, __builtin_cpu_supports(name) != 0}
  const Feature features[] = {SRFX_FEATURE("sse3"),
                              SRFX_FEATURE("ssse3"),
                              SRFX_FEATURE("sse4.1"),
                              SRFX_FEATURE("sse4.2"),
                              SRFX_FEATURE("popcnt"),
                              SRFX_FEATURE("sse4a"),
                              SRFX_FEATURE("xop"),
                              SRFX_FEATURE("fma4"),
                              SRFX_FEATURE("avx"),
                              SRFX_FEATURE("avx2"),
                              SRFX_FEATURE("fma"),
                              SRFX_FEATURE("bmi"),
                              SRFX_FEATURE("bmi2"),
                              SRFX_FEATURE("avx512f"),
                              SRFX_FEATURE("avx512bw"),
                              SRFX_FEATURE("avx512cd"),
                              SRFX_FEATURE("avx512dq"),
                              SRFX_FEATURE("avx512vl"),
                              SRFX_FEATURE("avx512er"),
                              SRFX_FEATURE("avx512ifma"),
                              SRFX_FEATURE("avx512vbmi"),
                              SRFX_FEATURE("avx512vbmi2"),
                              SRFX_FEATURE("avx512vnni"),
                              SRFX_FEATURE("avx512bitalg"),
                              SRFX_FEATURE("avx512vpopcntdq"),
                              SRFX_FEATURE("gfni")};
#elif defined(__aarch64__) && defined(__linux__)
  const unsigned long one = getauxval(AT_HWCAP), two = getauxval(AT_HWCAP2);
#define SRFX_FEATURE(name, word, bit) {name, (word & (bit)) != 0}
  const Feature features[] = {
      SRFX_FEATURE("lse", one, HWCAP_ATOMICS),  SRFX_FEATURE("fp16", one, HWCAP_ASIMDHP),
      SRFX_FEATURE("rdm", one, HWCAP_ASIMDRDM), SRFX_FEATURE("fcma", one, HWCAP_FCMA),
      SRFX_FEATURE("rcpc", one, HWCAP_LRCPC),   SRFX_FEATURE("dotprod", one, HWCAP_ASIMDDP),
      SRFX_FEATURE("sve", one, HWCAP_SVE),      SRFX_FEATURE("sve2", two, HWCAP2_SVE2),
      SRFX_FEATURE("bf16", two, HWCAP2_BF16),   SRFX_FEATURE("i8mm", two, HWCAP2_I8MM)};
#else
  const Feature features[] = {{"", true}};
#endif
#undef SRFX_FEATURE
  std::string out;
  for (const Feature& feature : features)
    if (!feature.there && needs.find(" " + std::string(feature.name) + " ") != std::string::npos)
      out += (out.empty() ? "" : ", ") + std::string(feature.name);
  return out;
}

}  // namespace srfx::processor
