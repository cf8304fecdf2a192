// Two SIMD vectors side by side, so that the latency of one hides behind the work of the other.
#pragma once

#include "simd.hpp"

namespace srfx::simd {

template <class L> struct TwinMask {
  typename L::MaskType a, b;
  friend TwinMask operator&(TwinMask x, TwinMask y) { return {x.a & y.a, x.b & y.b}; }
  friend TwinMask operator|(TwinMask x, TwinMask y) { return {x.a | y.a, x.b | y.b}; }
  friend TwinMask operator!(TwinMask x) { return {!x.a, !x.b}; }
  bool operator[](int i) const { return i < L::size ? a[i] : b[i - L::size]; }
};

template <class L> struct Twin {
  using Scalar = typename L::Scalar;
  using MaskType = TwinMask<L>;
  static constexpr int size = 2 * L::size;
  L a, b;

  Twin() = default;
  Twin(L x, L y) : a(x), b(y) {}
  template <class S, class = std::enable_if_t<std::is_arithmetic_v<S>>>
  Twin(S broadcast) : a(broadcast), b(broadcast) {}

  static Twin load(const Scalar* p) { return {L::load(p), L::load(p + L::size)}; }
  Scalar operator[](int i) const { return i < L::size ? a[i] : b[i - L::size]; }

  friend Twin operator+(Twin x, Twin y) { return {x.a + y.a, x.b + y.b}; }
  friend Twin operator-(Twin x, Twin y) { return {x.a - y.a, x.b - y.b}; }
  friend Twin operator*(Twin x, Twin y) { return {x.a * y.a, x.b * y.b}; }
  friend Twin operator/(Twin x, Twin y) { return {x.a / y.a, x.b / y.b}; }
  friend Twin operator-(Twin x) { return {-x.a, -x.b}; }
  Twin& operator+=(Twin y) { a += y.a; b += y.b; return *this; }
  friend MaskType operator<(Twin x, Twin y) { return {x.a < y.a, x.b < y.b}; }
  friend MaskType operator>(Twin x, Twin y) { return {x.a > y.a, x.b > y.b}; }
  friend MaskType operator<=(Twin x, Twin y) { return {x.a <= y.a, x.b <= y.b}; }
  friend MaskType operator>=(Twin x, Twin y) { return {x.a >= y.a, x.b >= y.b}; }
};
template <class L> struct Traits<Twin<L>> {
  using Scalar = typename L::Scalar;
  using Truth = typename Twin<L>::MaskType;
  static constexpr int size = Twin<L>::size;
};
template <class L> bool any(TwinMask<L> m) { return any(m.a | m.b); }
template <class L> Twin<L> select(TwinMask<L> m, Twin<L> x, Twin<L> y) { return {select(m.a, x.a, y.a), select(m.b, x.b, y.b)}; }
template <class L> Twin<L> sqrt(Twin<L> x) { return {sqrt(x.a), sqrt(x.b)}; }
template <class L> Twin<L> abs(Twin<L> x) { return {abs(x.a), abs(x.b)}; }

}  // namespace srfx::simd
