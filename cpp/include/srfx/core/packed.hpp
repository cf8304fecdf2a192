// Sums over many numbers, eight at a time where the scalar allows it: double, and complex numbers.
#pragma once

#include "srfx/core/simd.hpp"
#include "srfx/core/types.hpp"

#include <complex>

namespace srfx {

namespace detail {

/// Vectors where the scalar allows it.
template <class T> struct Packed {
  using Type = T;
  using Real = T;
  static constexpr Index size = 1;
  template <class X> static T load(const X* x) { return T(*x); }
  static T total(const T& x) { return x; }
};
template <> struct Packed<double> {
  using Type = simd::Lanes<double, 8>;
  using Real = Type;
  static constexpr Index size = 8;
  static Type load(const double* x) { return Type::load(x); }
  static double total(const Type& x) {
    double sum = 0;
    for (int i = 0; i < 8; ++i) sum += x[i];
    return sum;
  }
};

/// Complex numbers, eight at a time, and what they do with real ones.
struct ComplexLanes {
  using V = simd::Lanes<double, 8>;
  V re, im;
  ComplexLanes() = default;
  ComplexLanes(V real, V imaginary) : re(real), im(imaginary) {}
  explicit ComplexLanes(double x) : re(x), im(0.0) {}
  explicit ComplexLanes(const std::complex<double>& x) : re(x.real()), im(x.imag()) {}
  friend ComplexLanes operator+(const ComplexLanes& a, const ComplexLanes& b) {
    return {a.re + b.re, a.im + b.im};
  }
  friend ComplexLanes operator-(const ComplexLanes& a, const ComplexLanes& b) {
    return {a.re - b.re, a.im - b.im};
  }
  friend ComplexLanes operator-(const ComplexLanes& a) { return {-a.re, -a.im}; }
  friend ComplexLanes operator*(const ComplexLanes& a, const ComplexLanes& b) {
    return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  }
  friend ComplexLanes operator/(const ComplexLanes& a, const ComplexLanes& b) {
    const V scale = V(1.0) / (b.re * b.re + b.im * b.im);
    return {(a.re * b.re + a.im * b.im) * scale, (a.im * b.re - a.re * b.im) * scale};
  }
  friend ComplexLanes operator+(const V& a, const ComplexLanes& b) { return {a + b.re, b.im}; }
  friend ComplexLanes operator*(const V& a, const ComplexLanes& b) { return {a * b.re, a * b.im}; }
  friend ComplexLanes operator*(const ComplexLanes& a, const V& b) { return b * a; }
  friend ComplexLanes operator/(const V& a, const ComplexLanes& b) {
    const V scale = a / (b.re * b.re + b.im * b.im);
    return {b.re * scale, -b.im * scale};
  }
  ComplexLanes& operator+=(const ComplexLanes& b) { return *this = *this + b; }
  template <class X> ComplexLanes& operator*=(const X& b) { return *this = *this * b; }
};
template <> struct Packed<std::complex<double>> {
  using Type = ComplexLanes;
  using Real = ComplexLanes::V;
  static constexpr Index size = 8;
  static Real load(const double* x) { return Real::load(x); }
  static Type load(const std::complex<double>* x) {
    alignas(64) double re[size], im[size];
    for (Index i = 0; i < size; ++i) re[i] = x[i].real(), im[i] = x[i].imag();
    return {ComplexLanes::V::load(re), ComplexLanes::V::load(im)};
  }
  static std::complex<double> total(const Type& x) {
    return {Packed<double>::total(x.re), Packed<double>::total(x.im)};
  }
};

}  // namespace detail

}  // namespace srfx
