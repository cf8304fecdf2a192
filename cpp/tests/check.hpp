// Checks for C++ tests that are plain executables: each failure prints the expression, the inputs
// named after it and the error; report() gives the exit code.
#pragma once

#include <cmath>
#include <iostream>
#include <limits>
#include <string_view>

namespace srfx::test {

inline long n_checks = 0, n_failures = 0;
inline constexpr long n_printed = 20;  // of the failures

/// Distance between a value and its reference; NaN agrees with NaN, an infinity with itself.
inline long double distance(long double value, long double reference) {
  if (value == reference || (std::isnan(value) && std::isnan(reference))) return 0;
  const long double d = std::abs(value - reference);
  return std::isnan(d) ? std::numeric_limits<long double>::infinity() : d;
}
/// The same relative to the reference.
inline long double relative_error(long double value, long double reference) {
  const long double d = distance(value, reference);
  return d == 0 ? 0 : d / std::abs(reference);
}

inline bool failed(const char* file, int line, const char* expression) {
  if (++n_failures <= n_printed) std::cerr << file << ":" << line << ": " << expression;
  return n_failures <= n_printed;
}
template <class... Inputs> void print_inputs(const char* names, const Inputs&... inputs) {
  std::cerr.precision(21);
  if (sizeof...(inputs) > 0) std::cerr << "   with (" << names << ") =";
  ((std::cerr << " " << inputs), ...);
  std::cerr << "\n";
}

inline int report() {
  std::cout << n_checks << " checks, " << n_failures << " failures\n";
  return n_failures == 0 ? 0 : 1;
}

}  // namespace srfx::test

/// CHECK(condition, inputs...)
#define CHECK(condition, ...)                                               \
  do {                                                                      \
    ++srfx::test::n_checks;                                                 \
    if (!(condition) && srfx::test::failed(__FILE__, __LINE__, #condition)) \
      srfx::test::print_inputs(#__VA_ARGS__, ##__VA_ARGS__);                \
  } while (false)

#define SRFX_CHECK_ERROR(measure, value, reference, tolerance, ...)                               \
  do {                                                                                            \
    ++srfx::test::n_checks;                                                                       \
    const long double value_ = (value), reference_ = (reference),                                 \
                      error_ = srfx::test::measure(value_, reference_);                           \
    if (!(error_ <= (tolerance)) && srfx::test::failed(__FILE__, __LINE__, #value)) {             \
      std::cerr.precision(21);                                                                    \
      std::cerr << " is " << value_ << ", expected " << reference_ << ", " #measure " " << error_ \
                << " > " << (tolerance);                                                          \
      srfx::test::print_inputs(#__VA_ARGS__, ##__VA_ARGS__);                                      \
    }                                                                                             \
  } while (false)

/// CHECK_REL(value, reference, tolerance, inputs...): relative to the reference. CHECK_ABS:
/// absolute.
#define CHECK_REL(value, reference, tolerance, ...) \
  SRFX_CHECK_ERROR(relative_error, value, reference, tolerance, ##__VA_ARGS__)
#define CHECK_ABS(value, reference, tolerance, ...) \
  SRFX_CHECK_ERROR(distance, value, reference, tolerance, ##__VA_ARGS__)

#define CHECK_THROWS(expression, exception)                                               \
  do {                                                                                    \
    ++srfx::test::n_checks;                                                               \
    bool thrown_ = false;                                                                 \
    try {                                                                                 \
      (void)(expression);                                                                 \
    } catch (const exception&) { thrown_ = true; }                                        \
    if (!thrown_ && srfx::test::failed(__FILE__, __LINE__, #expression " did not throw")) \
      srfx::test::print_inputs("");                                                       \
  } while (false)
