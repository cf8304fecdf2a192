// What the equations may ask of the scalar they are written for: double; std::complex<double> for
// the spectrum, at complex lam; forward-mode dual numbers for exact derivatives. Formulas stay
// analytic: signs, sizes and convergence are judged on the real part alone, and nothing is ever
// conjugated.
#pragma once

#include "srfx/core/simd.hpp"
#include "srfx/core/types.hpp"

#include <cmath>
#include <complex>

namespace srfx {

inline double real_part(double x) { return x; }
template <class T, int N> simd::Register<T, N> real_part(const simd::Register<T, N>& x) {
  return x;
}
template <class V> simd::Pair<V> real_part(const simd::Pair<V>& x) { return x; }
inline double real_part(const std::complex<double>& x) { return x.real(); }

/// Size of a number, for convergence tests.
inline double magnitude(double x) { return std::abs(x); }
template <class T, int N> simd::Register<T, N> magnitude(const simd::Register<T, N>& x) {
  return simd::abs(x);
}
template <class V> simd::Pair<V> magnitude(const simd::Pair<V>& x) { return simd::abs(x); }
inline double magnitude(const std::complex<double>& x) {
  return std::abs(x.real()) + std::abs(x.imag());
}

/// A number and its derivative along one direction: v + d eps with eps^2 = 0. V is a double or SIMD
/// lanes.
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

/// Whether numbers of this kind carry a derivative: they move along with a solution, and are judged
/// by nothing.
template <class V> inline constexpr bool carries_slope = false;
template <class V> inline constexpr bool carries_slope<Dual<V>> = true;
template <class R> inline constexpr bool carries_slope<std::complex<R>> = true;

template <class V> SRFX_INLINE V times(double x, const V& y) { return V(x) * y; }
template <class V> SRFX_INLINE Dual<V> times(double x, const Dual<V>& y) {
  return {V(x) * y.v, V(x) * y.d};
}

namespace detail {

/// Elementwise choice, for truth values of lanes and plain ones. Dual numbers are judged by their
/// values.
template <class M, class T> SRFX_INLINE T choose(M m, const T& a, const T& b) {
  if constexpr (std::is_same_v<M, bool>) return m ? a : b;
  else return simd::select(m, a, b);
}
template <class M, class V> SRFX_INLINE Dual<V> choose(M m, const Dual<V>& a, const Dual<V>& b) {
  return {choose(m, a.v, b.v), choose(m, a.d, b.d)};
}
template <class V> const V& value_of(const V& x) { return x; }
template <class V> const V& value_of(const Dual<V>& x) { return x.v; }

}  // namespace detail

/// One point of parameter space, as every equation reads it.
template <class V> struct Point {
  V alpha, beta, lam, noise, inverse_d;
  V unit;   ///< 1; 0 for the ridgeless limit in v = lam V
  V ratio;  ///< a' = alpha/beta
};

}  // namespace srfx
