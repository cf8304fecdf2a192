// SIMD lanes: N numbers that move together, one expression for scalar and vector code.
//
// A kernel written once as `template <class V> V f(V x)` runs on a double, a float, a Lanes<double, 8> or a
// Lanes<float, 16>. Lanes is a compiler vector (GCC, Clang), lowered to whatever registers the target has: eight
// doubles are one AVX-512 register or two of AVX2.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if !defined(__GNUC__) && !defined(__clang__)
#error "srfx needs a compiler with vector extensions: GCC >= 9 or Clang >= 12"
#endif

namespace srfx::simd {

// The native vectors, spelled out: GCC drops the attribute from a type that depends on a template parameter.
template <class T, int N> struct NativeOf;
#define SRFX_NATIVE_VECTOR(T, INT, N)                                    \
  template <> struct NativeOf<T, N> {                                    \
    using Int = INT;                                                     \
    typedef T Vector __attribute__((vector_size(N * sizeof(T))));        \
    typedef INT Integers __attribute__((vector_size(N * sizeof(INT))));  \
  };
SRFX_NATIVE_VECTOR(double, std::int64_t, 2)
SRFX_NATIVE_VECTOR(double, std::int64_t, 4)
SRFX_NATIVE_VECTOR(double, std::int64_t, 8)
SRFX_NATIVE_VECTOR(float, std::int32_t, 4)
SRFX_NATIVE_VECTOR(float, std::int32_t, 8)
SRFX_NATIVE_VECTOR(float, std::int32_t, 16)
#undef SRFX_NATIVE_VECTOR

/// Lanes in the widest register of the target: what a loop over an array should step by.
#if defined(__AVX512F__)
inline constexpr int native_bytes = 64;
#elif defined(__AVX__)
inline constexpr int native_bytes = 32;
#else
inline constexpr int native_bytes = 16;
#endif
template <class T> inline constexpr int native_width = native_bytes / static_cast<int>(sizeof(T));

/// A truth value for each lane: all bits set or none.
template <class T, int N> struct Mask {
  using Int = typename NativeOf<T, N>::Int;
  using Native = typename NativeOf<T, N>::Integers;
  Native v;

  friend Mask operator&(Mask a, Mask b) { return {a.v & b.v}; }
  friend Mask operator|(Mask a, Mask b) { return {a.v | b.v}; }
  friend Mask operator^(Mask a, Mask b) { return {a.v ^ b.v}; }
  friend Mask operator!(Mask a) { return {~a.v}; }
  bool operator[](int i) const { return v[i] != 0; }
};

template <class T, int N> struct Lanes {
  static_assert(std::is_floating_point_v<T>);
  using Scalar = T;
  using MaskType = Mask<T, N>;
  static constexpr int size = N;
  using Native = typename NativeOf<T, N>::Vector;
  Native v;

  Lanes() = default;
  Lanes(Native native) : v(native) {}
  Lanes(T broadcast) : v(broadcast - Native{}) {}
  template <class S, class = std::enable_if_t<std::is_arithmetic_v<S> && !std::is_same_v<S, T>>>
  Lanes(S broadcast) : Lanes(static_cast<T>(broadcast)) {}

  static Lanes load(const T* p) {
    Lanes out;
    std::memcpy(&out.v, p, sizeof(Native));
    return out;
  }
  void store(T* p) const { std::memcpy(p, &v, sizeof(Native)); }
  T operator[](int i) const { return v[i]; }
  void set(int i, T x) { v[i] = x; }

  friend Lanes operator+(Lanes a, Lanes b) { return a.v + b.v; }
  friend Lanes operator-(Lanes a, Lanes b) { return a.v - b.v; }
  friend Lanes operator*(Lanes a, Lanes b) { return a.v * b.v; }
  friend Lanes operator/(Lanes a, Lanes b) { return a.v / b.v; }
  friend Lanes operator-(Lanes a) { return -a.v; }
  Lanes& operator+=(Lanes b) { v += b.v; return *this; }
  Lanes& operator-=(Lanes b) { v -= b.v; return *this; }
  Lanes& operator*=(Lanes b) { v *= b.v; return *this; }

  friend MaskType operator<(Lanes a, Lanes b) { return {a.v < b.v}; }
  friend MaskType operator>(Lanes a, Lanes b) { return {a.v > b.v}; }
  friend MaskType operator<=(Lanes a, Lanes b) { return {a.v <= b.v}; }
  friend MaskType operator>=(Lanes a, Lanes b) { return {a.v >= b.v}; }
  friend MaskType operator==(Lanes a, Lanes b) { return {a.v == b.v}; }
};

// --- traits: the scalar behind a value, the truth type of its comparisons, its width ---
template <class V> struct Traits {
  using Scalar = V;
  using Truth = bool;
  static constexpr int size = 1;
};
template <class T, int N> struct Traits<Lanes<T, N>> {
  using Scalar = T;
  using Truth = Mask<T, N>;
  static constexpr int size = N;
};
template <class V> using ScalarOf = typename Traits<V>::Scalar;
template <class V> using TruthOf = typename Traits<V>::Truth;

// --- truth ---
inline bool any(bool m) { return m; }
inline bool all(bool m) { return m; }
template <class T, int N> bool any(Mask<T, N> m) {
  typename Mask<T, N>::Int acc = 0;
  for (int i = 0; i < N; ++i) acc |= m.v[i];
  return acc != 0;
}
template <class T, int N> bool all(Mask<T, N> m) { return !any(!m); }

// --- select, elementary operations ---
template <class S, class = std::enable_if_t<std::is_arithmetic_v<S>>> S select(bool m, S a, S b) { return m ? a : b; }
template <class T, int N> Lanes<T, N> select(Mask<T, N> m, Lanes<T, N> a, Lanes<T, N> b) { return m.v ? a.v : b.v; }

template <class S, class = std::enable_if_t<std::is_floating_point_v<S>>> S sqrt(S x) { return std::sqrt(x); }
template <class T, int N> Lanes<T, N> sqrt(Lanes<T, N> x) {
  Lanes<T, N> out;
  for (int i = 0; i < N; ++i) out.v[i] = std::sqrt(x.v[i]);
  return out;
}
template <class S, class = std::enable_if_t<std::is_floating_point_v<S>>> S abs(S x) { return std::abs(x); }
template <class T, int N> Lanes<T, N> abs(Lanes<T, N> x) {
  using M = Mask<T, N>;
  typename M::Native bits;
  std::memcpy(&bits, &x.v, sizeof bits);
  bits &= std::is_same_v<T, double> ? typename M::Int(0x7fffffffffffffffLL) : typename M::Int(0x7fffffff);
  Lanes<T, N> out;
  std::memcpy(&out.v, &bits, sizeof bits);
  return out;
}
template <class V> V min(V a, V b) { return select(b < a, b, a); }
template <class V> V max(V a, V b) { return select(a < b, b, a); }
/// The magnitude of `x` with the sign of `s`.
template <class V> V copysign(V x, V s) { return select(s < V(0), -abs(x), abs(x)); }

}  // namespace srfx::simd
