// SIMD lanes: N numbers that move together, one expression for scalar and vector code.
//
// A kernel written once as `template <class V> V f(V x)` runs on a double, a float, a Lanes<double,
// 8> or a Lanes<float, 16>. Lanes fill one register of the target (`Register`, a vector of GCC's or
// Clang's) or are a pair of halves: eight doubles are one AVX-512 register, two of AVX2, four of
// SSE2 or NEON. (A compiler vector wider than the registers would do, but GCC 12 compares, selects
// and converts such lane by lane.)
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

/// Numbers in one register.
template <class T, int N> struct Register {
  static_assert(std::is_floating_point_v<T>);
  using Scalar = T;
  using MaskType = Mask<T, N>;
  static constexpr int size = N;
  using Native = typename NativeOf<T, N>::Vector;
  Native v;

  Register() = default;
  Register(Native native) : v(native) {}
  Register(T broadcast) : v(broadcast - Native{}) {}
  template <class S, class = std::enable_if_t<std::is_arithmetic_v<S> && !std::is_same_v<S, T>>>
  Register(S broadcast) : Register(static_cast<T>(broadcast)) {}

  static Register load(const T* p) {
    Register out;
    std::memcpy(&out.v, p, sizeof(Native));
    return out;
  }
  void store(T* p) const { std::memcpy(p, &v, sizeof(Native)); }
  T operator[](int i) const { return v[i]; }
  void set(int i, T x) { v[i] = x; }

  friend Register operator+(Register a, Register b) { return a.v + b.v; }
  friend Register operator-(Register a, Register b) { return a.v - b.v; }
  friend Register operator*(Register a, Register b) { return a.v * b.v; }
  friend Register operator/(Register a, Register b) { return a.v / b.v; }
  friend Register operator-(Register a) { return -a.v; }
  Register& operator+=(Register b) {
    v += b.v;
    return *this;
  }
  Register& operator-=(Register b) {
    v -= b.v;
    return *this;
  }
  Register& operator*=(Register b) {
    v *= b.v;
    return *this;
  }

  friend MaskType operator<(Register a, Register b) { return {a.v < b.v}; }
  friend MaskType operator>(Register a, Register b) { return {a.v > b.v}; }
  friend MaskType operator<=(Register a, Register b) { return {a.v <= b.v}; }
  friend MaskType operator>=(Register a, Register b) { return {a.v >= b.v}; }
  friend MaskType operator==(Register a, Register b) { return {a.v == b.v}; }
};

// --- traits: the scalar behind a value, the truth type of its comparisons, its width ---
template <class V> struct Traits {
  using Scalar = V;
  using Truth = bool;
  using Bits = std::conditional_t<std::is_same_v<V, double>, std::uint64_t, std::uint32_t>;
  static constexpr int size = 1;
};
template <class T, int N> struct Traits<Register<T, N>> {
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
template <class T, int N> Register<T, N> select(Mask<T, N> m, Register<T, N> a, Register<T, N> b) {
  return m.v ? a.v : b.v;
}

template <class S, class = std::enable_if_t<std::is_floating_point_v<S>>> S sqrt(S x) {
  return std::sqrt(x);
}
template <class T, int N> Register<T, N> sqrt(Register<T, N> x) {
  Register<T, N> out;
  for (int i = 0; i < N; ++i) out.v[i] = std::sqrt(x.v[i]);
  return out;
}
template <class S, class = std::enable_if_t<std::is_floating_point_v<S>>> S abs(S x) {
  return std::abs(x);
}
template <class T, int N> Register<T, N> abs(Register<T, N> x) {
  using M = Mask<T, N>;
  typename M::Native bits;
  std::memcpy(&bits, &x.v, sizeof bits);
  bits &= std::is_same_v<T, double> ? typename M::Int(0x7fffffffffffffffLL)
                                    : typename M::Int(0x7fffffff);
  Register<T, N> out;
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
SRFX_ALWAYS_INLINE Register<T, N> fma(Register<T, N> a, Register<T, N> b, Register<T, N> c) {
  if constexpr (!has_fma) return a * b + c;
  Register<T, N> out;
  for (int i = 0; i < N; ++i) out.v[i] = fma(a.v[i], b.v[i], c.v[i]);
  return out;
}

// --- x86: instructions that GCC does not find in the generic forms ---
// min and max return their second operand if either is NaN: min(b, a) is select(b < a, b, a).
#define SRFX_X86_MIN_MAX(T, N, MIN, MAX)                                      \
  SRFX_ALWAYS_INLINE Register<T, N> min(Register<T, N> a, Register<T, N> b) { \
    return {MIN(b.v, a.v)};                                                   \
  }                                                                           \
  SRFX_ALWAYS_INLINE Register<T, N> max(Register<T, N> a, Register<T, N> b) { \
    return {MAX(b.v, a.v)};                                                   \
  }
#define SRFX_X86_SQRT(T, N, SQRT) \
  SRFX_ALWAYS_INLINE Register<T, N> sqrt(Register<T, N> x) { return {SQRT(x.v)}; }
#define SRFX_X86_FMA(T, N, PREFIX, SUFFIX)                                                      \
  SRFX_ALWAYS_INLINE Register<T, N> fma(Register<T, N> a, Register<T, N> b, Register<T, N> c) { \
    return {PREFIX##_fmadd_##SUFFIX(a.v, b.v, c.v)};                                            \
  }
#if defined(__SSE2__)
SRFX_X86_MIN_MAX(double, 2, _mm_min_pd, _mm_max_pd)
SRFX_X86_MIN_MAX(float, 4, _mm_min_ps, _mm_max_ps)
SRFX_X86_SQRT(double, 2, _mm_sqrt_pd)
SRFX_X86_SQRT(float, 4, _mm_sqrt_ps)
#endif
#if defined(__AVX__)
SRFX_X86_MIN_MAX(double, 4, _mm256_min_pd, _mm256_max_pd)
SRFX_X86_MIN_MAX(float, 8, _mm256_min_ps, _mm256_max_ps)
SRFX_X86_SQRT(double, 4, _mm256_sqrt_pd)
SRFX_X86_SQRT(float, 8, _mm256_sqrt_ps)
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
#define SRFX_MASKED(OP, ONES) [](auto y) { return OP(ONES, y); }
SRFX_X86_SQRT(double, 8, SRFX_MASKED(_mm512_maskz_sqrt_pd, 0xff))
SRFX_X86_SQRT(float, 16, SRFX_MASKED(_mm512_maskz_sqrt_ps, 0xffff))
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
#undef SRFX_X86_SQRT
#undef SRFX_X86_FMA

// --- pairs ---
// Two values that go through the same operations, one after the other: lanes that are wider than a
// register, and what runs faster so. A polynomial is a chain of dependent operations, and a
// processor has room for a few only, so a loop runs faster on two or four chains at once. Nest for
// more: Pair<Pair<V>>.
template <class M> struct PairMask {
  M a, b;
  friend PairMask operator&(PairMask x, PairMask y) { return {x.a & y.a, x.b & y.b}; }
  friend PairMask operator|(PairMask x, PairMask y) { return {x.a | y.a, x.b | y.b}; }
  friend PairMask operator^(PairMask x, PairMask y) { return {x.a ^ y.a, x.b ^ y.b}; }
  friend PairMask operator!(PairMask x) { return {!x.a, !x.b}; }
  bool operator[](int i) const { return i < size / 2 ? a[i] : b[i - size / 2]; }
  static constexpr int size = 2 * M::size;
};
template <class B> struct PairBits {
  B a, b;
  friend PairBits operator~(PairBits x) { return {~x.a, ~x.b}; }
#define SRFX_PAIR_BITS(OP)                                                                 \
  friend PairBits operator OP(PairBits x, PairBits y) { return {x.a OP y.a, x.b OP y.b}; } \
  template <class S, class = std::enable_if_t<std::is_integral_v<S>>>                      \
  friend PairBits operator OP(PairBits x, S s) {                                           \
    return {x.a OP s, x.b OP s};                                                           \
  }                                                                                        \
  template <class Y> PairBits& operator OP## = (const Y& y) { return *this = *this OP y; }
  SRFX_PAIR_BITS(+)
  SRFX_PAIR_BITS(-)
  SRFX_PAIR_BITS(&)
  SRFX_PAIR_BITS(|)
  SRFX_PAIR_BITS(^)
#undef SRFX_PAIR_BITS
  friend PairBits operator<<(PairBits x, int s) { return {x.a << s, x.b << s}; }
  friend PairBits operator>>(PairBits x, int s) { return {x.a >> s, x.b >> s}; }
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
    ScalarOf<V> values[size];
    store(values);
    return values[i];
  }
  void set(int i, ScalarOf<V> x) {
    ScalarOf<V> values[size];
    store(values);
    values[i] = x;
    *this = load(values);
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
  Pair& operator-=(Pair y) {
    a -= y.a, b -= y.b;
    return *this;
  }
  Pair& operator*=(Pair y) {
    a *= y.a, b *= y.b;
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
template <class M> SRFX_ALWAYS_INLINE bool all(PairMask<M> m) { return !any(!m); }
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

template <class V> inline constexpr bool is_pair = false;
template <class V> inline constexpr bool is_pair<Pair<V>> = true;
/// The lanes of a V in which any bit is set.
template <class V> SRFX_ALWAYS_INLINE TruthOf<V> nonzero(const BitsOf<V>& bits) {
  if constexpr (is_pair<V>)
    return {nonzero<decltype(V::a)>(bits.a), nonzero<decltype(V::b)>(bits.b)};
  else return {bits != 0};
}

// --- lanes: one register, or a pair of halves ---
template <class T, int N, bool fits = (N * static_cast<int>(sizeof(T)) <= native_bytes)>
struct LanesOf {
  using Type = Register<T, N>;
};
template <class T, int N> struct LanesOf<T, N, false> {
  using Type = Pair<typename LanesOf<T, N / 2>::Type>;
};
template <class T, int N> using Lanes = typename LanesOf<T, N>::Type;

}  // namespace srfx::simd
