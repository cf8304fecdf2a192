// SIMD lanes: N numbers that move together, one expression for scalar and vector code.
//
// A kernel written once as `template <class V> V f(V x)` runs on a double, a float, a Lanes<double,
// 8> or a Lanes<float, 16>. Lanes is a compiler vector (GCC, Clang), lowered to whatever registers
// the target has: eight doubles are one AVX-512 register or two of AVX2.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if !defined(__GNUC__) && !defined(__clang__)
#error "srfx needs a compiler with vector extensions: GCC >= 9 or Clang >= 12"
#endif

#if defined(__SSE2__)
#include <immintrin.h>
#endif

/// On kernels that loops over arrays must see through: their constants then stay in registers.
#define SRFX_ALWAYS_INLINE __attribute__((always_inline)) inline

namespace srfx::simd {

// The native vectors, spelled out: GCC drops the attribute from a type that depends on a template
// parameter.
template <class T, int N> struct NativeOf;
#define SRFX_NATIVE_VECTOR(T, INT, N)                                   \
  template <> struct NativeOf<T, N> {                                   \
    using Int = INT;                                                    \
    typedef T Vector __attribute__((vector_size(N * sizeof(T))));       \
    typedef INT Integers __attribute__((vector_size(N * sizeof(INT)))); \
    typedef u##INT Bits __attribute__((vector_size(N * sizeof(INT))));  \
  };
using std::int32_t, std::int64_t, std::uint32_t, std::uint64_t;
SRFX_NATIVE_VECTOR(double, int64_t, 2)
SRFX_NATIVE_VECTOR(double, int64_t, 4)
SRFX_NATIVE_VECTOR(double, int64_t, 8)
SRFX_NATIVE_VECTOR(float, int32_t, 4)
SRFX_NATIVE_VECTOR(float, int32_t, 8)
SRFX_NATIVE_VECTOR(float, int32_t, 16)
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
  static constexpr int size = N;
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
  Lanes& operator+=(Lanes b) {
    v += b.v;
    return *this;
  }
  Lanes& operator-=(Lanes b) {
    v -= b.v;
    return *this;
  }
  Lanes& operator*=(Lanes b) {
    v *= b.v;
    return *this;
  }

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
  using Bits = std::conditional_t<std::is_same_v<V, double>, std::uint64_t, std::uint32_t>;
  static constexpr int size = 1;
};
template <class T, int N> struct Traits<Lanes<T, N>> {
  using Scalar = T;
  using Truth = Mask<T, N>;
  using Bits = typename NativeOf<T, N>::Bits;
  static constexpr int size = N;
};
template <class V> using ScalarOf = typename Traits<V>::Scalar;
template <class V> using TruthOf = typename Traits<V>::Truth;
/// The bits of a value as unsigned integers, one a lane: +, -, &, |, ^, << and >> work on them.
template <class V> using BitsOf = typename Traits<V>::Bits;

template <class V> SRFX_ALWAYS_INLINE BitsOf<V> bits(V x) {
  BitsOf<V> out;
  std::memcpy(&out, &x, sizeof out);
  return out;
}
template <class V> SRFX_ALWAYS_INLINE V from_bits(BitsOf<V> b) {
  V out;
  std::memcpy(&out, &b, sizeof out);
  return out;
}
/// The sign bit of every lane of a V, all others clear.
template <class V>
inline constexpr auto sign_bit =
    std::is_same_v<ScalarOf<V>, double> ? BitsOf<ScalarOf<V>>(0x8000000000000000u)
                                        : BitsOf<ScalarOf<V>>(0x80000000u);

/// f on the lower and on the upper half of the lanes: for a vector wider than the registers of the
/// target.
template <class F, class T, int N, class... Rest>
SRFX_ALWAYS_INLINE Lanes<T, N> on_halves(F f, Lanes<T, N> x, Rest... rest) {
  struct Halves {
    Lanes<T, N / 2> lower, upper;
  };
  const auto split = [](Lanes<T, N> whole) {
    Halves h;
    std::memcpy(&h, &whole.v, sizeof h);
    return h;
  };
  const Halves out{f(split(x).lower, split(rest).lower...),
                   f(split(x).upper, split(rest).upper...)};
  Lanes<T, N> joined;
  std::memcpy(&joined.v, &out, sizeof out);
  return joined;
}

// --- truth ---
inline bool any(bool m) { return m; }
inline bool all(bool m) { return m; }
template <class T, int N> SRFX_ALWAYS_INLINE bool any(Mask<T, N> m) {
#if defined(__SSE2__)
  constexpr int bytes = sizeof m.v;
#if defined(__AVX512F__)
  if constexpr (bytes == 64) return _mm512_test_epi64_mask(__m512i(m.v), __m512i(m.v)) != 0;
#endif
#if defined(__AVX__)
  if constexpr (bytes == 32) return _mm256_testz_si256(__m256i(m.v), __m256i(m.v)) == 0;
#endif
  if constexpr (bytes == 16) return _mm_movemask_epi8(__m128i(m.v)) != 0;
#endif
  typename Mask<T, N>::Int acc = 0;
  for (int i = 0; i < N; ++i) acc |= m.v[i];
  return acc != 0;
}
template <class T, int N> bool all(Mask<T, N> m) { return !any(!m); }

// --- select, elementary operations ---
template <class S, class = std::enable_if_t<std::is_arithmetic_v<S>>> S select(bool m, S a, S b) {
  return m ? a : b;
}
template <class T, int N> Lanes<T, N> select(Mask<T, N> m, Lanes<T, N> a, Lanes<T, N> b) {
  return m.v ? a.v : b.v;
}

template <class S, class = std::enable_if_t<std::is_floating_point_v<S>>> S sqrt(S x) {
  return std::sqrt(x);
}
template <class T, int N> Lanes<T, N> sqrt(Lanes<T, N> x) {
  Lanes<T, N> out;
  for (int i = 0; i < N; ++i) out.v[i] = std::sqrt(x.v[i]);
  return out;
}
template <class S, class = std::enable_if_t<std::is_floating_point_v<S>>> S abs(S x) {
  return std::abs(x);
}
template <class T, int N> Lanes<T, N> abs(Lanes<T, N> x) {
  using M = Mask<T, N>;
  typename M::Native bits;
  std::memcpy(&bits, &x.v, sizeof bits);
  bits &= std::is_same_v<T, double> ? typename M::Int(0x7fffffffffffffffLL)
                                    : typename M::Int(0x7fffffff);
  Lanes<T, N> out;
  std::memcpy(&out.v, &bits, sizeof bits);
  return out;
}
template <class V> V min(V a, V b) { return select(b < a, b, a); }
template <class V> V max(V a, V b) { return select(a < b, b, a); }
/// The magnitude of `x` with the sign of `s`, zeros and NaN included.
template <class V> V copysign(V x, V s) {
  return from_bits<V>((bits(x) & ~sign_bit<V>) | (bits(s) & sign_bit<V>));
}

// --- fused multiply-add ---
// Written out where it matters that scalar and lanes round alike: what -ffp-contract fuses is the
// compiler's choice, and it may choose differently for the two. Without the instruction it is a
// product and a sum.
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(FP_FAST_FMA)
inline constexpr bool has_fma = true;
#else
inline constexpr bool has_fma = false;
#endif

/// a b + c, rounded once if has_fma.
template <class S, class = std::enable_if_t<std::is_floating_point_v<S>>>
SRFX_ALWAYS_INLINE S fma(S a, S b, S c) {
  if constexpr (!has_fma) return a * b + c;
  else if constexpr (std::is_same_v<S, float>) return __builtin_fmaf(a, b, c);
  else return __builtin_fma(a, b, c);
}
template <class T, int N>
SRFX_ALWAYS_INLINE Lanes<T, N> fma(Lanes<T, N> a, Lanes<T, N> b, Lanes<T, N> c) {
  if constexpr (!has_fma) {
    return a * b + c;
  } else if constexpr (sizeof a.v > 16) {
    return on_halves([](auto x, auto y, auto z) { return fma(x, y, z); }, a, b, c);
  } else {
    Lanes<T, N> out;
    for (int i = 0; i < N; ++i) out.v[i] = fma(a.v[i], b.v[i], c.v[i]);
    return out;
  }
}

// --- x86: instructions that GCC does not find in the generic forms ---
// min and max return their second operand if either is NaN: min(b, a) is select(b < a, b, a).
#define SRFX_X86_MIN_MAX(T, N, MIN, MAX)                                                       \
  SRFX_ALWAYS_INLINE Lanes<T, N> min(Lanes<T, N> a, Lanes<T, N> b) { return {MIN(b.v, a.v)}; } \
  SRFX_ALWAYS_INLINE Lanes<T, N> max(Lanes<T, N> a, Lanes<T, N> b) { return {MAX(b.v, a.v)}; }
#define SRFX_X86_FMA(T, N, PREFIX, SUFFIX)                                          \
  SRFX_ALWAYS_INLINE Lanes<T, N> fma(Lanes<T, N> a, Lanes<T, N> b, Lanes<T, N> c) { \
    return {PREFIX##_fmadd_##SUFFIX(a.v, b.v, c.v)};                                \
  }
#if defined(__SSE2__)
SRFX_X86_MIN_MAX(double, 2, _mm_min_pd, _mm_max_pd)
SRFX_X86_MIN_MAX(float, 4, _mm_min_ps, _mm_max_ps)
#endif
#if defined(__AVX__)
SRFX_X86_MIN_MAX(double, 4, _mm256_min_pd, _mm256_max_pd)
SRFX_X86_MIN_MAX(float, 8, _mm256_min_ps, _mm256_max_ps)
#endif
#if defined(__AVX512F__)
// The forms with a mask of ones: GCC 12 warns of an uninitialised operand inside its own plain
// ones.
#define SRFX_MASKED(OP, ONES) [](auto x, auto y) { return OP(ONES, x, y); }
SRFX_X86_MIN_MAX(double, 8, SRFX_MASKED(_mm512_maskz_min_pd, 0xff),
                 SRFX_MASKED(_mm512_maskz_max_pd, 0xff))
SRFX_X86_MIN_MAX(float, 16, SRFX_MASKED(_mm512_maskz_min_ps, 0xffff),
                 SRFX_MASKED(_mm512_maskz_max_ps, 0xffff))
#undef SRFX_MASKED
SRFX_X86_FMA(double, 8, _mm512, pd)
SRFX_X86_FMA(float, 16, _mm512, ps)
#endif
#if defined(__FMA__)
SRFX_X86_FMA(double, 2, _mm, pd)
SRFX_X86_FMA(float, 4, _mm, ps)
SRFX_X86_FMA(double, 4, _mm256, pd)
SRFX_X86_FMA(float, 8, _mm256, ps)
#endif
#undef SRFX_X86_MIN_MAX
#undef SRFX_X86_FMA

// --- pairs ---
// Two values that go through the same operations, one after the other: a polynomial is a chain of
// dependent operations, and a processor has room for a few only, so a loop runs faster on two or
// four chains at once. Nest for more: Pair<Pair<V>>.
template <class M> struct PairMask {
  M a, b;
  friend PairMask operator&(PairMask x, PairMask y) { return {x.a & y.a, x.b & y.b}; }
  friend PairMask operator|(PairMask x, PairMask y) { return {x.a | y.a, x.b | y.b}; }
  friend PairMask operator!(PairMask x) { return {!x.a, !x.b}; }
  bool operator[](int i) const { return i < M::size ? a[i] : b[i - M::size]; }
};
template <class B> struct PairBits {
  B a, b;
  friend PairBits operator~(PairBits x) { return {~x.a, ~x.b}; }
  friend PairBits operator&(PairBits x, PairBits y) { return {x.a & y.a, x.b & y.b}; }
  friend PairBits operator|(PairBits x, PairBits y) { return {x.a | y.a, x.b | y.b}; }
  friend PairBits operator^(PairBits x, PairBits y) { return {x.a ^ y.a, x.b ^ y.b}; }
  template <class S> friend PairBits operator&(PairBits x, S s) { return {x.a & s, x.b & s}; }
  template <class S> friend PairBits operator|(PairBits x, S s) { return {x.a | s, x.b | s}; }
  friend PairBits operator<<(PairBits x, int s) { return {x.a << s, x.b << s}; }
};
template <class V> struct Pair {
  static constexpr int size = 2 * Traits<V>::size;
  V a, b;

  Pair() = default;
  Pair(V first, V second) : a(first), b(second) {}
  template <class S, class = std::enable_if_t<std::is_arithmetic_v<S>>>
  Pair(S broadcast) : a(broadcast),
                      b(broadcast) {}

  static Pair load(const ScalarOf<V>* p) { return {V::load(p), V::load(p + Traits<V>::size)}; }
  void store(ScalarOf<V>* p) const {
    a.store(p);
    b.store(p + Traits<V>::size);
  }
  ScalarOf<V> operator[](int i) const {
    return i < Traits<V>::size ? a[i] : b[i - Traits<V>::size];
  }

  friend Pair operator+(Pair x, Pair y) { return {x.a + y.a, x.b + y.b}; }
  friend Pair operator-(Pair x, Pair y) { return {x.a - y.a, x.b - y.b}; }
  friend Pair operator*(Pair x, Pair y) { return {x.a * y.a, x.b * y.b}; }
  friend Pair operator/(Pair x, Pair y) { return {x.a / y.a, x.b / y.b}; }
  friend Pair operator-(Pair x) { return {-x.a, -x.b}; }
  Pair& operator+=(Pair y) {
    a += y.a, b += y.b;
    return *this;
  }
  friend PairMask<TruthOf<V>> operator<=(Pair x, Pair y) { return {x.a <= y.a, x.b <= y.b}; }
  friend PairMask<TruthOf<V>> operator>=(Pair x, Pair y) { return {x.a >= y.a, x.b >= y.b}; }
  friend PairMask<TruthOf<V>> operator<(Pair x, Pair y) { return {x.a < y.a, x.b < y.b}; }
  friend PairMask<TruthOf<V>> operator>(Pair x, Pair y) { return {x.a > y.a, x.b > y.b}; }
  friend PairMask<TruthOf<V>> operator==(Pair x, Pair y) { return {x.a == y.a, x.b == y.b}; }
};
template <class V> struct Traits<Pair<V>> {
  using Scalar = ScalarOf<V>;
  using Truth = PairMask<TruthOf<V>>;
  using Bits = PairBits<BitsOf<V>>;
  static constexpr int size = 2 * Traits<V>::size;
};
template <class M> SRFX_ALWAYS_INLINE bool any(PairMask<M> m) { return any(m.a | m.b); }
template <class M, class V> SRFX_ALWAYS_INLINE Pair<V> select(PairMask<M> m, Pair<V> x, Pair<V> y) {
  return {select(m.a, x.a, y.a), select(m.b, x.b, y.b)};
}
template <class V> SRFX_ALWAYS_INLINE Pair<V> sqrt(Pair<V> x) { return {sqrt(x.a), sqrt(x.b)}; }
template <class V> SRFX_ALWAYS_INLINE Pair<V> abs(Pair<V> x) { return {abs(x.a), abs(x.b)}; }
template <class V> SRFX_ALWAYS_INLINE Pair<V> min(Pair<V> x, Pair<V> y) {
  return {min(x.a, y.a), min(x.b, y.b)};
}
template <class V> SRFX_ALWAYS_INLINE Pair<V> max(Pair<V> x, Pair<V> y) {
  return {max(x.a, y.a), max(x.b, y.b)};
}
template <class V> SRFX_ALWAYS_INLINE Pair<V> fma(Pair<V> x, Pair<V> y, Pair<V> z) {
  return {fma(x.a, y.a, z.a), fma(x.b, y.b, z.b)};
}

}  // namespace srfx::simd
