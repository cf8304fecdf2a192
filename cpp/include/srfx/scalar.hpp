// What the equations may ask of the scalar they are written for: double; std::complex<double> for the spectrum, at complex
// lam; forward-mode dual numbers for exact derivatives. Formulas stay analytic: signs, sizes and convergence are judged on
// the real part alone, and nothing is ever conjugated.
#pragma once

#include <cmath>
#include <complex>

namespace srfx {

inline double real_part(double x) { return x; }
inline double real_part(const std::complex<double>& x) { return x.real(); }

/// Size of a number, for convergence tests.
inline double magnitude(double x) { return std::abs(x); }
inline double magnitude(const std::complex<double>& x) { return std::abs(x); }

}  // namespace srfx
