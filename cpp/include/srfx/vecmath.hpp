// Elementary functions of one real variable, for a scalar or for SIMD lanes.
#pragma once

#include <cmath>

#include "srfx/simd.hpp"

namespace srfx::vecmath {

namespace detail {
template <class F, class S, class = std::enable_if_t<std::is_floating_point_v<S>>> S each(F&& f, S x) {
  return static_cast<S>(f(static_cast<long double>(x)));
}
template <class F, class T, int N> simd::Lanes<T, N> each(F&& f, simd::Lanes<T, N> x) {
  simd::Lanes<T, N> out = x;
  for (int i = 0; i < N; ++i) out.set(i, each(f, x[i]));
  return out;
}
}  // namespace detail

using Real = long double;
template <class V> V tanh(V x) { return detail::each([](Real t) { return std::tanh(t); }, x); }
template <class V> V tanh_derivative(V x) {
  return detail::each([](Real t) { return 1 / (std::cosh(t) * std::cosh(t)); }, x);
}
template <class V> V erf(V x) { return detail::each([](Real t) { return std::erf(t); }, x); }
template <class V> V erf_derivative(V x) {
  return detail::each([](Real t) { return 1.128379167095512573896158903121545172L * std::exp(-t * t); }, x);
}
template <class V> V sin(V x) { return detail::each([](Real t) { return std::sin(t); }, x); }
template <class V> V cos(V x) { return detail::each([](Real t) { return std::cos(t); }, x); }
template <class V> V softplus(V x) {
  return detail::each([](Real t) { return (t > 0 ? t : t * 0 == 0 ? 0 : t < 0 ? 0 : t) + std::log1p(std::exp(-std::abs(t))); }, x);
}
template <class V> V sigmoid(V x) { return detail::each([](Real t) { return 1 / (1 + std::exp(-t)); }, x); }
template <class V> V sigmoid_derivative(V x) {
  return detail::each([](Real t) { const Real e = std::exp(-std::abs(t)); return e / ((1 + e) * (1 + e)); }, x);
}
template <class V> V gelu(V x) {
  return detail::each([](Real t) { const Real s = t < -1000 ? -1000 : t; return s * (std::erfc(-s / std::sqrt(Real(2))) / 2); }, x);
}
template <class V> V gelu_derivative(V x) {
  return detail::each([](Real t) {
    const Real s = t < -1000 ? -1000 : t > 1000 ? 1000 : t;
    return std::erfc(-s / std::sqrt(Real(2))) / 2 + s * std::exp(-s * s / 2) * 0.398942280401432677939946059934381868L;
  }, x);
}
template <class V> V silu(V x) {
  return detail::each([](Real t) { const Real s = t < -11000 ? -11000 : t; return s / (1 + std::exp(-s)); }, x);
}
template <class V> V silu_derivative(V x) {
  return detail::each([](Real t) {
    const Real s = t < -11000 ? -11000 : t > 11000 ? 11000 : t, p = 1 / (1 + std::exp(-s)), q = 1 / (1 + std::exp(s));
    return p * (1 + s * q);
  }, x);
}

}  // namespace srfx::vecmath
