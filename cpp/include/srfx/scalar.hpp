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
inline double magnitude(const std::complex<double>& x) { return std::abs(x.real()) + std::abs(x.imag()); }

/// A number and its derivative along one direction: v + d eps with eps^2 = 0. V is a double or SIMD lanes.
template <class V> struct Dual {
  V v, d;

  Dual() = default;
  Dual(V value) : v(value), d(0) {}
  Dual(V value, V derivative) : v(value), d(derivative) {}

  friend Dual operator-(Dual x) { return {-x.v, -x.d}; }
  friend Dual operator+(Dual x, Dual y) { return {x.v + y.v, x.d + y.d}; }
  friend Dual operator-(Dual x, Dual y) { return {x.v - y.v, x.d - y.d}; }
  friend Dual operator*(Dual x, Dual y) { return {x.v * y.v, x.v * y.d + x.d * y.v}; }
  friend Dual operator/(Dual x, Dual y) {
    const V inverse = V(1) / y.v, quotient = x.v * inverse;
    return {quotient, (x.d - quotient * y.d) * inverse};
  }
  Dual& operator+=(Dual y) { return *this = *this + y; }
};

}  // namespace srfx
