// Counter-based random numbers: every number is a function of (seed, replicate, purpose, row,
// column), never of threads.
//
//   bits     Threefry-4x64-20: twenty rounds of add, rotate, exclusive-or under a 256-bit key. J.
//   K. Salmon, M. A. Moraes,
//            R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11 (2011),
//            sections 4 and 5; its rotation and parity constants; written here from that
//            description, checked against published outputs.
//   normals  Box and Muller (1958): two words (a, b) give sqrt(-2 log u) (cos, sin)(2 pi b / 2^64),
//   u in (0, 1] from a. chi      chi^2_k = 2 Gamma(k/2) by rejection: G. Marsaglia, W. W. Tsang,
//   ACM TOMS 26 (2000) 363.
//
// The key is (seed, replicate, purpose, 0) and the counter (row, column/4, 0, 0): one call yields
// four consecutive columns of a row, eight rows at a time. Float and double see the same draws: a
// float normal is the double one to about 1e-6.
#pragma once

#include "srfx/core/simd.hpp"
#include "srfx/core/types.hpp"

#include <array>
#include <cstdint>
#include <cstring>

namespace srfx {

/// What numbers are drawn for. Two purposes never share a number.
enum class Purpose : std::uint64_t {
  weights = 1,        ///< rows of W0
  directions = 2,     ///< the spike and the target's direction
  step_samples = 3,   ///< inputs of the gradient step
  step_noise = 4,     ///< label noise of the gradient step, and what decides its labels
  train_samples = 5,  ///< inputs of the readout's samples
  train_noise = 6,    ///< the same of the readout's samples
  test_samples = 7,   ///< fresh points
  lengths = 8,        ///< chi variables of the triangular form of W0
  test_noise = 9,     ///< label noise of the fresh points, where their labels matter
};

/// One stream of random numbers, indexed by (row, column).
struct Stream {
  std::uint64_t seed = 0;
  std::uint64_t replicate = 0;
  Purpose purpose = Purpose::weights;
  std::uint64_t step = 0;  ///< of several gradient steps

  std::array<std::uint64_t, 4> key() const {
    return {seed, replicate, static_cast<std::uint64_t>(purpose), step};
  }
};

namespace random_detail {

using Double8 = simd::Lanes<double, 8>;
using Float8 = simd::Lanes<float, 8>;
/// Eight independent counters abreast.
using Words = simd::BitsOf<Double8>;

template <class U> U rotate(U x, int by) { return (x << by) | (x >> (64 - by)); }

/// Threefry-4x64-20 on words of type U: std::uint64_t, or a vector of them.
template <class U>
std::array<U, 4> threefry(const std::array<U, 4>& counter, const std::array<U, 4>& key) {
  constexpr int rotation[8][2] = {{14, 16}, {52, 57}, {23, 40}, {5, 37},
                                  {25, 33}, {46, 12}, {58, 22}, {32, 32}};
  const std::uint64_t parity = 0x1BD11BDAA9FC1A22ULL;
  const U k[5] = {key[0], key[1], key[2], key[3], key[0] ^ key[1] ^ key[2] ^ key[3] ^ parity};
  U x0 = counter[0] + k[0], x1 = counter[1] + k[1], x2 = counter[2] + k[2], x3 = counter[3] + k[3];
#pragma GCC unroll 5
  for (int block = 0; block < 5; ++block) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int* by = rotation[(4 * block + i) % 8];
      // Odd rounds swap the partners: the word permutation of the 4-word generator.
      U& y1 = i % 2 ? x3 : x1;
      U& y3 = i % 2 ? x1 : x3;
      x0 += y1;
      y1 = rotate(y1, by[0]) ^ x0;
      x2 += y3;
      y3 = rotate(y3, by[1]) ^ x2;
    }
    const int b = block + 1;
    x0 += k[b % 5];
    x1 += k[(b + 1) % 5];
    x2 += k[(b + 2) % 5];
    x3 += k[(b + 3) % 5] + static_cast<std::uint64_t>(b);
  }
  return {x0, x1, x2, x3};
}

template <class To, class From> To reinterpret(const From& x) {
  static_assert(sizeof(To) == sizeof(From));
  To out;
  std::memcpy(&out, &x, sizeof out);
  return out;
}

/// Integers from 0 to 2^52 - 1 as numbers.
inline Double8 integer(const Words& n) {
  return simd::from_bits<Double8>(n | 0x4330000000000000ULL) - Double8(0x1p52);
}
/// -2 log(2^-e m), for u = 2^-e m in (0, 1] given as a number: the range is reduced to m in [1/sqrt
/// 2, sqrt 2), and log m = 2 artanh s = 2 s (1 + s^2/3 + s^4/5 + ...), s = (m - 1)/(m + 1), |s| <
/// .1716.
inline Double8 minus_two_log(Double8 u) {
  constexpr std::uint64_t bias = 1024;
  const Words bits = simd::bits(u);
  const Words exponent = (bits - 0x3fe6a09e667f3bcdULL + (bias << 52)) >> 52;  // 1/sqrt 2
  const auto m = simd::from_bits<Double8>(bits - (exponent << 52) + (bias << 52));
  const Double8 e = integer(exponent) - Double8(static_cast<double>(bias));
  const Double8 s = (m - Double8(1.0)) / (m + Double8(1.0)), q = s * s;
  Double8 sum(1.0 / 21);
#pragma GCC unroll 9
  for (int k = 19; k >= 3; k -= 2) sum = sum * q + Double8(1.0 / k);
  sum = sum * q * s + s;
  return Double8(-4.0) * sum - Double8(2 * 0.693147180559945309417232) * e;
}
inline Float8 minus_two_log(Float8 u) {
  constexpr std::uint32_t bias = 128;
  const auto bits = simd::bits(u);
  const auto exponent = (bits - 0x3f3504f3U + (bias << 23)) >> 23;
  const auto m = simd::from_bits<Float8>(bits - (exponent << 23) + (bias << 23));
  const Float8 e = simd::from_bits<Float8>(exponent | 0x4b000000U) - Float8(0x1p23f + bias);
  const Float8 s = (m - Float8(1.0f)) / (m + Float8(1.0f)), q = s * s;
  Float8 sum(1.0f / 9);
  sum = sum * q + Float8(1.0f / 7);
  sum = sum * q + Float8(1.0f / 5);
  sum = sum * q + Float8(1.0f / 3);
  sum = sum * q * s + s;
  return Float8(-4.0f) * sum - Float8(2 * 0.69314718f) * e;
}

/// cos and sin of (pi/2) f, |f| <= 1/2, by Taylor's series: next terms below 1e-17 and 2e-8.
template <class V> void quarter_cos_sin(V f, V& c, V& s) {
  using T = simd::ScalarOf<V>;
  constexpr bool wide = sizeof(T) == 8;
  const V x = f * V(T(1.57079632679489661923)), q = x * x;
  if constexpr (wide) {
    c = V(T(1.0 / 20922789888000.0));
    c = c * q - V(T(1.0 / 87178291200.0));
    c = c * q + V(T(1.0 / 479001600.0));
    c = c * q - V(T(1.0 / 3628800.0));
    c = c * q + V(T(1.0 / 40320.0));
    s = V(T(-1.0 / 1307674368000.0));
    s = s * q + V(T(1.0 / 6227020800.0));
    s = s * q - V(T(1.0 / 39916800.0));
    s = s * q + V(T(1.0 / 362880.0));
    s = s * q - V(T(1.0 / 5040.0));
  } else {
    c = V(T(1.0 / 40320.0));
    s = V(T(-1.0 / 5040.0));
  }
  c = c * q - V(T(1.0 / 720.0));
  c = c * q + V(T(1.0 / 24.0));
  c = c * q - V(T(0.5));
  c = c * q + V(T(1.0));
  s = s * q + V(T(1.0 / 120.0));
  s = s * q - V(T(1.0 / 6.0));
  s = s * q * x + x;
}

/// radius (cos, sin) of an angle that is `quarter` quarter turns further than that of (c, s).
template <int top, class V>
void turned(const simd::BitsOf<V>& quarter, V radius, V c, V s, V& first, V& second) {
  const auto odd = simd::nonzero<V>(quarter & 1U);
  const V cc = simd::select(odd, s, c), ss = simd::select(odd, c, s);
  first = radius * simd::from_bits<V>(simd::bits(cc) ^ (((quarter + 1U) & 2U) << (top - 1)));
  second = radius * simd::from_bits<V>(simd::bits(ss) ^ ((quarter & 2U) << (top - 1)));
}

/// Two vectors of normals from the words a (length) and b (angle). The angle is (pi/2)(j + f): j
/// the nearest quarter turn.
inline void normals(const Words& a, const Words& b, Double8& first, Double8& second) {
  const Double8 u =
      Double8(2.0) - simd::from_bits<Double8>((a >> 12) | 0x3ff0000000000000ULL);  // (0, 1]
  const Double8 radius = simd::sqrt(simd::max(minus_two_log(u), Double8(0.0)));
  const Words shifted = b + (1ULL << 61);
  const Words quarter = shifted >> 62;  // nearest of -2, -1, 0, 1, modulo 4
  const Double8 f =
      (integer((shifted - (quarter << 62)) >> 10) - Double8(0x1p51)) * Double8(0x1p-52);
  Double8 c, s;
  quarter_cos_sin(f, c, s);
  turned<63>(quarter, radius, c, s, first, second);
}
inline void normals(const Words& a, const Words& b, Float8& first, Float8& second) {
  // What is converted between 64 and 32 bits is the compiler's vectors.
  typedef std::uint64_t Wide __attribute__((vector_size(64)));
  typedef std::uint32_t Halves __attribute__((vector_size(32)));
  typedef std::int32_t Ints __attribute__((vector_size(32)));
  typedef float Floats __attribute__((vector_size(32)));
  const Halves ha = __builtin_convertvector(reinterpret<Wide>(a) >> 32, Halves),
               hb = __builtin_convertvector(reinterpret<Wide>(b) >> 32, Halves);
  // u = 1 - a/2^32 as the double path has it, kept precise where it is small: the integer 2^32 - a
  // first.
  const Ints tail = reinterpret<Ints>(~ha >> 1);
  const Float8 u = (reinterpret<Float8>(__builtin_convertvector(tail, Floats)) + Float8(0.5f)) *
                   Float8(0x1p-31f);
  const Float8 radius = simd::sqrt(simd::max(minus_two_log(u), Float8(0.0f)));
  const Halves quarter = (hb + (1U << 29)) >> 30;
  const Ints rest = reinterpret<Ints>(hb - (quarter << 30));
  const Float8 f = reinterpret<Float8>(__builtin_convertvector(rest, Floats)) * Float8(0x1p-30f);
  Float8 c, s;
  quarter_cos_sin(f, c, s);
  turned<31>(reinterpret<simd::BitsOf<Float8>>(quarter), radius, c, s, first, second);
}

}  // namespace random_detail

/// Rows handled together by `fill_normals`.
constexpr Index normal_rows = 8;

/// out[k * stride + i] = normal(row + i, k) for i = 0 .. 7 and k = first .. last - 1 (pointer `out`
/// addresses column 0).
///
/// `first` is a multiple of 4.
template <class T>
void fill_normals(const Stream& stream, Index row, Index first, Index last, T* out, Index stride) {
  using namespace random_detail;
  using V = simd::Lanes<T, 8>;
  const std::array<std::uint64_t, 4> scalar_key = stream.key();
  std::array<Words, 4> key, counter;
  for (int i = 0; i < 4; ++i) key[i] = Words{} + scalar_key[i];
  counter[0] = reinterpret<Words>(std::array<std::uint64_t, 8>{0, 1, 2, 3, 4, 5, 6, 7}) +
               static_cast<std::uint64_t>(row);
  counter[2] = counter[3] = Words{};
  for (Index k = first; k < last; k += 4) {
    counter[1] = Words{} + static_cast<std::uint64_t>(k / 4);
    const std::array<Words, 4> bits = threefry(counter, key);
    V z[4];
    normals(bits[0], bits[1], z[0], z[1]);
    normals(bits[2], bits[3], z[2], z[3]);
    const Index m = last - k < 4 ? last - k : 4;
    for (Index j = 0; j < m; ++j) z[j].store(out + (k + j) * stride);
  }
}

/// Numbers one after the other from row `row` of a stream, for what cannot be done eight at a time.
class ScalarStream {
 public:
  ScalarStream(const Stream& stream, Index row)
      : key_(stream.key()),
        row_(static_cast<std::uint64_t>(row)) {}

  /// Uniform on (0, 1).
  double uniform() { return (static_cast<double>(word() >> 12) + 0.5) * 0x1p-52; }

  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double radius = std::sqrt(-2 * std::log(uniform())),
                 angle = 6.28318530717958647693 * uniform();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }

  /// chi^2 with k >= 1 degrees of freedom.
  double chi_square(Index k) {
    if (k == 1) {
      const double z = normal();
      return z * z;
    }
    const double shape = 0.5 * static_cast<double>(k), a = shape - 1.0 / 3,
                 b = 1 / std::sqrt(9 * a);
    for (;;) {
      const double z = normal(), t = 1 + b * z;
      if (t <= 0) continue;
      const double cube = t * t * t;
      if (std::log(uniform()) < 0.5 * z * z + a * (1 - cube + std::log(cube))) return 2 * a * cube;
    }
  }

 private:
  std::uint64_t word() {
    if (used_ == 4) {
      buffer_ = random_detail::threefry<std::uint64_t>({row_, counter_++, 0, 0}, key_);
      used_ = 0;
    }
    return buffer_[used_++];
  }

  std::array<std::uint64_t, 4> key_, buffer_{};
  std::uint64_t row_, counter_ = 0;
  int used_ = 4;
  bool has_spare_ = false;
  double spare_ = 0;
};

}  // namespace srfx
