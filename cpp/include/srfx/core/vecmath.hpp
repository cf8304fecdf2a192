// Elementary functions of one real variable, the same code for a scalar (double, float) and for
// SIMD lanes.
//
//   exp(y), y <= 0   e^y = 2^k (1 + p(r)), k = round(y / log 2), r = y - k log 2 (Cody-Waite), p =
//   expm1 a polynomial tanh             -t / (t + 2) with t = expm1(-2|x|) = 2^k p + (2^k - 1):
//   relative accuracy near 0 without a branch erf              |x| < 1.4: x (1 + p(x^2)), above: 1
//   - exp(-|x| (1 + p(|x|))); one polynomial, coefficients chosen by |x| normal tail      Q(a) =
//   exp(-a^2/2) R(a), R rational, a^2 in two parts, since exp turns its rounding into a relative
//   error softplus         max(x, 0) + log1p(e^-|x|), log1p(e) = 2 atanh(e / (2 + e)) sin, cos
//      x = n pi/2 + r, |r| <= pi/4, pi/2 in parts short enough for exact products; +-sin r or +-cos
//      r, one
//                    polynomial with coefficients chosen by n
//
// Methods: J.-M. Muller, Elementary Functions, 3rd edition, 2016. Polynomials: minimax, by
// tools/fit_vecmath.py.
//
// Largest relative errors of 1.1 10^7 random arguments against long double, with fused
// multiply-add, in double (units of 1e-16) and in float (1e-7):
//   value       tanh 3.8 1.9   erf 3.7 1.4   sigmoid 3.3 1.8   gelu 5.0 2.5   silu 3.7 2.0   sin,
//   cos 2.9 1.7   softplus 2.8 1.5 derivative  tanh 4.3 2.2   erf 1.6 1.3   sigmoid 4.2 2.3   gelu
//   4.5 2.5   silu 6.7 3.7
// (gelu' and silu' near their roots: relative to about 0.2, the size of the terms that cancel
// there.) Without it erf 4.6 1.9, erf' 2.1 2.5, gelu 5.6 3.0, the rest at most an eighth more.
//
// Results below the smallest normal number are rounded gradually where the hardware does so. NaN
// propagates, infinities give the limits. Every product that is added to something is an explicit
// fma, so lanes and scalar agree to the last bit.
#pragma once

#include <cmath>
#include <cstddef>
#include <iterator>

#include "srfx/core/simd.hpp"

namespace srfx::vecmath {
namespace detail {

using simd::BitsOf;
using simd::fma;
using simd::ScalarOf;
using simd::select;

// BEGIN coefficients (tools/fit_vecmath.py)
template <class T> struct Coefficients;
template <> struct Coefficients<double> {
  static constexpr double erf_split = 1.375;
  // expm1(r) = r + r^2 q(r), |r| <= log(2)/2; error 1.8e-17
  static constexpr double expm1[] = {
      0.5000000000000006,     0.16666666666666588,    0.04166666666657613,   0.008333333333390152,
      0.0013888888931789629,  0.00019841269717904377, 2.480150498408903e-05, 2.7557408270112195e-06,
      2.7626159725474583e-07, 2.5053644749862416e-08};
  // 2 atanh(s) = 2 s + s z p(z), z = s^2 <= 1/9; error 1.6e-18
  static constexpr double log1p[] = {0.6666666666666661, 0.400000000000657,   0.28571428557732936,
                                     0.2222222342887196, 0.18181761059724627, 0.15386226814335974,
                                     0.1330500957210416, 0.12076362471980771, 0.08461883989436586,
                                     0.16805663381327327};
  // sin(r) = r + r z p(z), z = r^2, |r| <= pi/4; error 2.2e-21
  static constexpr double sin[] = {-0.16666666666666666,    0.008333333333333323,
                                   -0.00019841269841255817, 2.755731921449379e-06,
                                   -2.5052104976295312e-08, 1.6058373610711967e-10,
                                   -7.578998758703626e-13};
  // cos(r) = 1 + z p(z), z = r^2, |r| <= pi/4; error 4.1e-20
  static constexpr double cos[] = {-0.5,
                                   0.04166666666666649,
                                   -0.001388888888886363,
                                   2.480158728477277e-05,
                                   -2.755731326482605e-07,
                                   2.087559827875793e-09,
                                   -1.1353983894073011e-11};
  // erf(a) = a + a p(a^2), a <= 1.375; error 1.2e-17
  static constexpr double erf_small[] = {
      0.12837916709551256,    -0.3761263890318348,     0.11283791670946063,
      -0.02686617064392688,   0.005223977617055111,    -0.0008548326672179321,
      0.00012055323412291678, -1.4925472630474264e-05, 1.6459801922811302e-06,
      -1.634449960341684e-07, 1.4667477631626228e-08,  -1.1651383906045677e-09,
      7.444665325997824e-11,  -2.808363002808806e-12};
  // erfc(a) = exp(-(a + a p(a))), 1.375 <= a <= 5.95; error 2.3e-17
  static constexpr double erf_large[] = {
      0.12837184365743748,    0.6366738752120921,      0.10258646105372286,
      -0.018732665705903744,  -0.0007906746614694971,  0.002320545104044422,
      -0.001093914516250977,  0.00033331665218767193,  -7.419830536558094e-05,
      1.2286870498526534e-05, -1.4830243275696676e-06, 1.2363795391378486e-07,
      -6.369000944859456e-09, 1.5268080992640644e-10};
  // Q(a) = exp(-a^2/2) p(a)/q(a), a <= 39; error 9.2e-19
  static constexpr double normal_tail[] = {0.5,
                                           0.827944986040729,
                                           0.6796416136995767,
                                           0.3573707749302421,
                                           0.1320592263422679,
                                           0.0356723470931654,
                                           0.007124003054513036,
                                           0.0010399143091764295,
                                           0.00010659688734677292,
                                           6.977829909772358e-06,
                                           2.2425367353928764e-07};
  // q(a) = 2.5 a p(a) + rest(a)
  static constexpr double normal_tail_rest[] = {1.0,
                                                1.2037745328843235,
                                                0.7472495777769875,
                                                0.30244197450193944,
                                                0.08674775719745989,
                                                0.01820376874022857,
                                                0.0028081433646243124,
                                                0.00031329437030040876,
                                                2.438366358556603e-05,
                                                1.2686740397629e-06,
                                                4.625097300021955e-08,
                                                1.4864149351007626e-09};
};
template <> struct Coefficients<float> {
  static constexpr float erf_split = 1.25f;
  // expm1(r) = r + r^2 q(r), |r| <= log(2)/2; error 1.3e-8
  static constexpr float expm1[] = {0.49999997f, 0.166665435f, 0.0416672006f, 0.00836658012f,
                                    0.00138824934f};
  // 2 atanh(s) = 2 s + s z p(z), z = s^2 <= 1/9; error 5.3e-9
  static constexpr float log1p[] = {0.666664898f, 0.400181025f, 0.280492127f, 0.278068036f};
  // sin(r) = r + r z p(z), z = r^2, |r| <= pi/4; error 5.2e-12
  static constexpr float sin[] = {-0.166666672f, 0.00833332911f, -0.000198393114f, 2.71811314e-6f};
  // cos(r) = 1 + z p(z), z = r^2, |r| <= pi/4; error 6.4e-11
  static constexpr float cos[] = {-0.5f, 0.0416666195f, -0.00138866808f, 2.43834911e-5f};
  // erf(a) = a + a p(a^2), a <= 1.25; error 2.3e-8
  static constexpr float erf_small[] = {0.128379136f,   -0.376124799f,  0.112821937f,
                                        -0.0268049147f, 0.00510999467f, -0.000742608914f,
                                        6.20243518e-5f};
  // erfc(a) = exp(-(a + a p(a))), 1.25 <= a <= 3.95; error 3.5e-11
  static constexpr float erf_large[] = {0.128820702f,   0.634512007f,   0.107210502f,
                                        -0.0245397557f, 0.00398572348f, -0.000402113277f,
                                        1.87187397e-5f};
  // Q(a) = exp(-a^2/2) p(a)/q(a), a <= 14.7; error 6.1e-9
  static constexpr float normal_tail[] = {0.5f, 0.438696891f, 0.183533385f, 0.0407339036f,
                                          0.00413129013f};
  // q(a) = 2.5 a p(a) + rest(a)
  static constexpr float normal_tail_rest[] = {1.0f,          0.425278753f,    0.106998719f,
                                               0.0114246309f, 0.000276306673f, 2.72669167e-5f};
};
// END coefficients

template <class T> struct Constants;
template <> struct Constants<double> {
  static constexpr int mantissa_bits = 52;
  static constexpr double shifter =
      0x1.8p52;  // adding it rounds to an integer and leaves that in the low bits
  static constexpr int exponent_bias = 1023;
  static constexpr double log2e = 1.44269504088896340736;
  static constexpr double ln2_high = 0x1.62e42fefa38p-1;  // 42 bits: k times it is exact
  static constexpr double ln2_low = 0x1.ef35793c7673p-45;
  // Where a function has reached its limit, to the last bit; arguments are clamped there.
  static constexpr double exp_floor = -752.0;  // y e^y = 0
  static constexpr double tanh_ceiling = 20.0;
  static constexpr double erf_ceiling = 5.95;
  static constexpr double gauss_ceiling = 27.4;    // e^(-x^2) = 0
  static constexpr double normal_ceiling = 38.75;  // x e^(-x^2/2) = 0
  // Up to here the parts of pi suffice.
  static constexpr double sin_limit = 1e5;
  static constexpr double two_over_pi = 0.636619772367581343076;
  static constexpr double half_pi[] = {0x1.921fb5444p+0, 0x1.68c234c4cp-39, 0x1.98a2e03707345p-77};
};
template <> struct Constants<float> {
  static constexpr int mantissa_bits = 23;
  static constexpr float shifter = 0x1.8p23f;
  static constexpr int exponent_bias = 127;
  static constexpr float log2e = 1.44269504f;
  static constexpr float ln2_high = 0x1.62e4p-1f;
  static constexpr float ln2_low = 0x1.7f7d1cp-20f;
  static constexpr float exp_floor = -109.0f;
  static constexpr float tanh_ceiling = 10.0f;
  static constexpr float erf_ceiling = 3.95f;
  static constexpr float gauss_ceiling = 10.25f;
  static constexpr float normal_ceiling = 14.6f;
  static constexpr float sin_limit = 4000.0f;
  static constexpr float two_over_pi = 0.636619772f;
  static constexpr float half_pi[] = {0x1.92p+0f, 0x1.fb4p-12f, 0x1.444p-24f, 0x1.68c234p-39f};
};

/// c(0) + c(1) x + ... + c(n-1) x^(n-1), even and odd powers apart: half the latency of Horner's
/// rule.
template <std::size_t n, class V, class F> SRFX_ALWAYS_INLINE V polynomial(V x, F c) {
  if constexpr (n < 4) {
    V sum = c(n - 1);
    for (std::size_t i = n - 1; i-- > 0;) sum = fma(sum, x, V(c(i)));
    return sum;
  } else {
    const V x2 = x * x;
    V last = c(n - 1), other = c(n - 2);  // the chains that end with c(n-1) and c(n-2)
    for (std::size_t i = n - 2; i-- > 0;) {
      V& chain = (n - 1 - i) % 2 == 0 ? last : other;
      chain = fma(chain, x2, V(c(i)));
    }
    if constexpr (n % 2 == 0) return fma(last, x, other);
    else return fma(other, x, last);
  }
}
template <class V, class T, std::size_t n> SRFX_ALWAYS_INLINE V polynomial(V x, const T (&c)[n]) {
  return polynomial<n>(x, [&](std::size_t i) __attribute__((always_inline)) { return c[i]; });
}
/// (p(x) - c[0]) / x.
template <class V, class T, std::size_t n>
SRFX_ALWAYS_INLINE V polynomial_without_constant(V x, const T (&c)[n]) {
  return polynomial<n - 1>(x,
                           [&](std::size_t i) __attribute__((always_inline)) { return c[i + 1]; });
}
/// p(x) with coefficients c where m, d elsewhere.
template <class V, class T, std::size_t n>
SRFX_ALWAYS_INLINE V polynomial(V x, simd::TruthOf<V> m, const T (&c)[n], const T (&d)[n]) {
  return polynomial<n>(
      x, [&](std::size_t i) __attribute__((always_inline)) { return select(m, V(c[i]), V(d[i])); });
}

/// e^y = scale (1 + p), |p| < 0.42.
template <class V> struct Exponential {
  V p, scale;
};

/// A factor of 2^64 keeps `scale` normal down to where e^y underflows; the caller takes it back
/// with `lifted`, last.
inline constexpr int lift = 64;
template <class T> inline constexpr T lifted = T(0x1p-64);

/// e^(y + low), low << 1, with a factor 2^extra in `scale`. Needs |y| < 752.7 (float 130); extra =
/// lift where e^y may be subnormal.
template <int extra, class V> SRFX_ALWAYS_INLINE Exponential<V> exponential(V y, V low) {
  using T = ScalarOf<V>;
  using C = Constants<T>;
  constexpr T shifter = C::shifter + T(C::exponent_bias + extra);
  const V shifted = fma(y, V(C::log2e), V(shifter));
  const V k = shifted - V(shifter);
  const V r = fma(k, V(-C::ln2_high), y) + fma(k, V(-C::ln2_low), low);
  return {fma(r * r, polynomial(r, Coefficients<T>::expm1), r),
          simd::from_bits<V>(simd::bits(shifted) << C::mantissa_bits)};
}
template <int extra, class V> SRFX_ALWAYS_INLINE Exponential<V> exponential(V y) {
  return exponential<extra>(y, V(0));
}

/// Upper tail of the normal distribution: Q(a) = e^(-a^2/2) p/q, 0 <= a <= normal_ceiling.
template <class V> struct NormalTail {
  V p, q;
};
template <class V> SRFX_ALWAYS_INLINE NormalTail<V> normal_tail(V a) {
  using C = Coefficients<ScalarOf<V>>;
  // The constant terms come last: near 0 each sum is then rounded once.
  const V p = polynomial_without_constant(a, C::normal_tail);
  const V rest = polynomial_without_constant(a, C::normal_tail_rest);
  const V numerator = fma(a, p, V(C::normal_tail[0]));
  return {numerator, fma(a, fma(V(2.5), numerator, rest), V(C::normal_tail_rest[0]))};
}

/// x^2 = high + low.
template <class V> struct Square {
  V high, low;
};
template <class V> SRFX_ALWAYS_INLINE Square<V> square(V x) {
  if constexpr (simd::has_fma) {
    const V high = x * x;
    return {high, fma(x, x, -high)};
  } else {  // the upper half of x squares exactly
    using T = ScalarOf<V>;
    constexpr auto mask = ~((BitsOf<T>(1) << (Constants<T>::mantissa_bits / 2 + 1)) - 1);
    const V upper = simd::from_bits<V>(simd::bits(x) & mask);
    return {upper * upper, (x - upper) * (x + upper)};
  }
}

/// min(x, bound), NaN staying NaN.
template <class V> SRFX_ALWAYS_INLINE V at_most(V x, ScalarOf<V> bound) {
  return simd::min(x, V(bound));
}
template <class V> SRFX_ALWAYS_INLINE V at_least(V x, ScalarOf<V> bound) {
  return simd::max(x, V(bound));
}

/// e = 2^64 e^y and d = 1 + e^y for the functions built on the logistic curve, y = -|x| or -2|x|.
template <class V> struct Logistic {
  V e, d;
};
template <class V> SRFX_ALWAYS_INLINE Logistic<V> logistic(V y) {
  const auto [p, scale] = exponential<lift>(y);
  const V e = fma(scale, p, scale);
  return {e, fma(e, V(lifted<ScalarOf<V>>), V(1))};
}

/// 2^64 e^y / (1 + e^y)^2 = q - q^2 with q = e^y / (1 + e^y): never above its maximum 1/4.
template <class V> SRFX_ALWAYS_INLINE V logistic_density(V y) {
  const auto [e, d] = logistic(y);
  const V q = e / d;
  return fma(q * V(-lifted<ScalarOf<V>>), q, q);
}

// Beyond sin_limit: one element at a time, by the C library in double.
template <class F, class S, class = std::enable_if_t<std::is_floating_point_v<S>>>
S one_by_one(F f, S x) {
  return static_cast<S>(f(static_cast<double>(x)));
}
template <class F, class T, int N>
__attribute__((noinline)) simd::Register<T, N> one_by_one(F f, simd::Register<T, N> x) {
  simd::Register<T, N> out = x;
  for (int i = 0; i < N; ++i) out.set(i, one_by_one(f, x[i]));
  return out;
}

template <class F, class V> SRFX_ALWAYS_INLINE simd::Pair<V> one_by_one(F f, simd::Pair<V> x) {
  return {one_by_one(f, x.a), one_by_one(f, x.b)};
}

/// sin(a + quarter pi/2), a >= 0, quarter 0 or 1.
template <int quarter, class V> SRFX_ALWAYS_INLINE V sin_shifted(V a) {
  using T = ScalarOf<V>;
  using C = Constants<T>;
  using P = Coefficients<T>;
  constexpr T shifter = C::shifter + quarter;
  const V shifted =
      fma(a, V(C::two_over_pi), V(shifter));  // the number of the quadrant in its lowest bits
  const V n = shifted - V(shifter);
  V r = a;
  for (const T part : C::half_pi) r = fma(n, V(-part), r);
  const V z = r * r;
  const BitsOf<V> quadrant = simd::bits(shifted);
  constexpr int top = 8 * static_cast<int>(sizeof(T)) - 1;
  const auto odd = simd::from_bits<V>((quadrant << top) | simd::bits(T(1))) < V(0);
  // r + r z p(z) or 1 + z p(z).
  const V s = fma(select(odd, z, r * z), polynomial(z, odd, P::cos, P::sin), select(odd, V(1), r));
  return simd::from_bits<V>(simd::bits(s) ^ ((quadrant << (top - 1)) & simd::sign_bit<V>));
}

}  // namespace detail

template <class V> SRFX_ALWAYS_INLINE V tanh(V x) {
  using T = simd::ScalarOf<V>;
  const V y = V(-2) * detail::at_most(simd::abs(x), detail::Constants<T>::tanh_ceiling);
  const auto [p, scale] = detail::exponential<0>(y);
  const V t = simd::fma(scale, p, scale - V(1));  // expm1(y)
  return simd::copysign(t / (t + V(2)), x);
}

/// tanh' = 4 e^-2|x| / (1 + e^-2|x|)^2.
template <class V> SRFX_ALWAYS_INLINE V tanh_derivative(V x) {
  using T = simd::ScalarOf<V>;
  const V y = detail::at_least(V(-2) * simd::abs(x), detail::Constants<T>::exp_floor);
  return detail::logistic_density(y) * V(4 * detail::lifted<T>);
}

template <class V> SRFX_ALWAYS_INLINE V erf(V x) {
  using T = simd::ScalarOf<V>;
  using C = detail::Coefficients<T>;
  const V a = detail::at_most(simd::abs(x), detail::Constants<T>::erf_ceiling);
  const auto small = a < V(C::erf_split);
  const V h = simd::fma(
      a, detail::polynomial(simd::select(small, a * a, a), small, C::erf_small, C::erf_large), a);
  const auto [p, scale] = detail::exponential<0>(-h);
  return simd::copysign(simd::select(small, h, simd::fma(-scale, p, V(1) - scale)), x);
}

/// erf' = 2/sqrt(pi) e^(-x^2).
template <class V> SRFX_ALWAYS_INLINE V erf_derivative(V x) {
  using T = simd::ScalarOf<V>;
  const auto [high, low] =
      detail::square(detail::at_most(simd::abs(x), detail::Constants<T>::gauss_ceiling));
  const auto [p, scale] = detail::exponential<detail::lift>(-high, -low);
  constexpr T c = T(1.12837916709551257390);
  return simd::fma(V(c), p, V(c)) * scale * V(detail::lifted<T>);
}

/// For |x| > 1e5 (float 4000) one element at a time, slowly.
template <class V> SRFX_ALWAYS_INLINE V sin(V x) {
  const V a = simd::abs(x);
  V s = detail::sin_shifted<0>(a);
  const auto far = a > V(detail::Constants<simd::ScalarOf<V>>::sin_limit);
  if (__builtin_expect(simd::any(far), 0))
    s = simd::select(far, detail::one_by_one([](double t) { return std::sin(t); }, a), s);
  return simd::from_bits<V>(simd::bits(s) ^ (simd::bits(x) & simd::sign_bit<V>));
}

/// For |x| > 1e5 (float 4000) one element at a time, slowly.
template <class V> SRFX_ALWAYS_INLINE V cos(V x) {
  const V a = simd::abs(x);
  const V c = detail::sin_shifted<1>(a);
  const auto far = a > V(detail::Constants<simd::ScalarOf<V>>::sin_limit);
  if (__builtin_expect(simd::any(far), 0))
    return simd::select(far, detail::one_by_one([](double t) { return std::cos(t); }, a), c);
  return c;
}

template <class V> SRFX_ALWAYS_INLINE V softplus(V x) {
  using T = simd::ScalarOf<V>;
  const auto [p, scale] = detail::exponential<detail::lift>(
      -detail::at_most(simd::abs(x), -detail::Constants<T>::exp_floor));
  const V e = simd::fma(scale, p, scale) * V(detail::lifted<T>);
  const V s = e / (V(2) + e), z = s * s;
  // 2 atanh(s) = 2 s + s z p(z), and 2 s = e - s e.
  const V log1p =
      simd::fma(-s, simd::fma(-z, detail::polynomial(z, detail::Coefficients<T>::log1p), e), e);
  return simd::select(x < V(0), V(0), x) + log1p;
}

template <class V> SRFX_ALWAYS_INLINE V sigmoid(V x) {
  using T = simd::ScalarOf<V>;
  const auto [e, d] =
      detail::logistic(-detail::at_most(simd::abs(x), -detail::Constants<T>::exp_floor));
  return simd::select(x < V(0), e * V(detail::lifted<T>), V(1)) / d;
}

/// sigmoid' = e^-|x| / (1 + e^-|x|)^2.
template <class V> SRFX_ALWAYS_INLINE V sigmoid_derivative(V x) {
  using T = simd::ScalarOf<V>;
  return detail::logistic_density(
             -detail::at_most(simd::abs(x), -detail::Constants<T>::exp_floor)) *
         V(detail::lifted<T>);
}

/// x sigmoid(x); for x < 0 the product x e^x is formed before e^x is rounded.
template <class V> SRFX_ALWAYS_INLINE V silu(V x) {
  using T = simd::ScalarOf<V>;
  const V c = detail::at_least(x, detail::Constants<T>::exp_floor);
  const auto [p, scale] = detail::exponential<detail::lift>(
      -detail::at_most(simd::abs(x), -detail::Constants<T>::exp_floor));
  const V d = simd::fma(simd::fma(scale, p, scale), V(detail::lifted<T>), V(1));
  const auto negative = x < V(0);
  const V q = simd::select(negative, simd::fma(c, p, c) * scale, c) / d;
  return simd::select(negative, q * V(detail::lifted<T>), q);
}

/// With e = e^-a, a = |x|, d = 1 + e: (d + a e) / d^2 for x >= 0 and e (d - a) / d^2 for x < 0.
template <class V> SRFX_ALWAYS_INLINE V silu_derivative(V x) {
  using T = simd::ScalarOf<V>;
  const V a = detail::at_most(simd::abs(x), -detail::Constants<T>::exp_floor);
  const auto [e, d] = detail::logistic(-a);
  const auto negative = x < V(0);
  const V q =
      simd::select(negative, e * (d - a), simd::fma(a * V(detail::lifted<T>), e, d)) / (d * d);
  return simd::select(negative, q * V(detail::lifted<T>), q);
}

/// x Phi(x): x Q(-x) for x < 0, x - x Q(x) above.
template <class V> SRFX_ALWAYS_INLINE V gelu(V x) {
  using T = simd::ScalarOf<V>;
  const V a = detail::at_most(simd::abs(x), detail::Constants<T>::normal_ceiling);
  const auto [high, low] = detail::square(a);
  const auto [p, scale] = detail::exponential<detail::lift>(V(-0.5) * high, V(-0.5) * low);
  const auto [top, bottom] = detail::normal_tail(a);
  const V w = simd::copysign(a, x) * (simd::fma(top, p, top) / bottom * scale);  // 2^64 x Q(|x|)
  const V tiny = V(detail::lifted<T>);
  return simd::select(x < V(0), w * tiny, simd::fma(-w, tiny, x));
}

/// Phi(x) + x phi(x), with D = Q(a) - a phi(a), a = |x|: D for x < 0, 1 - D above.
template <class V> SRFX_ALWAYS_INLINE V gelu_derivative(V x) {
  using T = simd::ScalarOf<V>;
  const V a = detail::at_most(simd::abs(x), detail::Constants<T>::normal_ceiling);
  const auto [high, low] = detail::square(a);
  const auto [p, scale] = detail::exponential<detail::lift>(V(-0.5) * high, V(-0.5) * low);
  const auto [top, bottom] = detail::normal_tail(a);
  const V difference = simd::fma(a, V(T(-0.398942280401432677940)), top / bottom);
  const V d = simd::fma(difference, p, difference) * scale;
  const V tiny = V(detail::lifted<T>);
  return simd::select(x < V(0), d * tiny, simd::fma(-d, tiny, V(1)));
}

}  // namespace srfx::vecmath
