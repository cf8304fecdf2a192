// Random numbers: published outputs, moments, independence, the same draws in float and double.
#include "srfx/core/random.hpp"

#include "check.hpp"

#include <set>
#include <vector>

using namespace srfx;

namespace {

void published_outputs() {
  using random_detail::threefry;
  // The vectors distributed with Random123 for threefry4x64, 20 rounds.
  const auto zero = threefry<std::uint64_t>({0, 0, 0, 0}, {0, 0, 0, 0});
  CHECK(zero[0] == 0x09218ebde6c85537ULL && zero[1] == 0x55941f5266d86105ULL);
  CHECK(zero[2] == 0x4bd25e16282434dcULL && zero[3] == 0xee29ec846bd2e40bULL);
  // And an independent implementation's (randomgen 2.3, ThreeFry(number=4, width=64)).
  const auto other = threefry<std::uint64_t>({1, 2, 3, 4}, {5, 6, 7, 8});
  CHECK(other[0] == 0xa4d42014247619c6ULL && other[1] == 0x1cb15bd7481b4cc9ULL);
  CHECK(other[2] == 0xa0df3c3685e740cdULL && other[3] == 0xd3585cdd51045663ULL);
}

/// Box and Muller by the standard library, from the generator's words.
double reference_normal(const Stream& stream, Index row, Index column) {
  const auto bits = random_detail::threefry<std::uint64_t>(
      {static_cast<std::uint64_t>(row), static_cast<std::uint64_t>(column / 4), 0, 0},
      stream.key());
  const int pair = static_cast<int>(column % 4) / 2 * 2;
  const long double u = 1 - static_cast<long double>(bits[pair] >> 12) * 0x1p-52L;
  const long double angle =
      6.283185307179586476925286766559L * static_cast<long double>(bits[pair + 1]) * 0x1p-64L;
  const long double radius = std::sqrt(-2 * std::log(u));
  return static_cast<double>(radius * (column % 2 ? std::sin(angle) : std::cos(angle)));
}

void against_the_library() {
  const Stream stream{7, 3, Purpose::train_samples};
  const Index columns = 1003;
  std::vector<double> wide(8 * columns);
  std::vector<float> narrow(8 * columns);
  for (const Index row : {Index(0), Index(5), Index(1) << 40}) {
    fill_normals<double>(stream, row, 0, columns, wide.data(), 8);
    fill_normals<float>(stream, row, 0, columns, narrow.data(), 8);
    for (Index k = 0; k < columns; ++k)
      for (Index i = 0; i < 8; ++i) {
        const double reference = reference_normal(stream, row + i, k);
        CHECK(std::abs(wide[8 * k + i] - reference) < 1e-14, row, i, k, wide[8 * k + i], reference);
        CHECK(std::abs(narrow[8 * k + i] - reference) < 3e-5, row, i, k, narrow[8 * k + i],
              reference);
      }
  }
  // A part of a row is that part.
  std::vector<double> part(8 * 20, 99.0);
  fill_normals<double>(stream, 0, 8, 17, part.data(), 8);
  fill_normals<double>(stream, 0, 0, columns, wide.data(), 8);
  for (Index k = 0; k < 20; ++k)
    for (Index i = 0; i < 8; ++i)
      CHECK(part[8 * k + i] == (k >= 8 && k < 17 ? wide[8 * k + i] : 99.0), k, i);
}

/// N = 1.6e6 draws: each statistic within 5 of its standard deviations.
template <class T> void moments() {
  const Index columns = 4000, blocks = 50;
  const double n = 8.0 * columns * blocks;
  std::vector<T> x(8 * columns), before(8 * columns, T(0));
  double m1 = 0, m2 = 0, m3 = 0, m4 = 0, neighbours = 0, pairs = 0, rows = 0, tail = 0;
  for (Index b = 0; b < blocks; ++b) {
    fill_normals<T>({1, 2, Purpose::weights}, 8 * b, 0, columns, x.data(), 8);
    for (Index k = 0; k < columns; ++k)
      for (Index i = 0; i < 8; ++i) {
        const double z = x[8 * k + i];
        m1 += z, m2 += z * z, m3 += z * z * z, m4 += z * z * z * z;
        if (i > 0) rows += z * x[8 * k + i - 1];
        if (k > 0) neighbours += z * x[8 * (k - 1) + i];
        if (k % 2)
          pairs += (z * z - 1) * (static_cast<double>(x[8 * (k - 1) + i]) * x[8 * (k - 1) + i] - 1);
        tail += std::abs(z) > 3;
      }
  }
  const double root = std::sqrt(n);
  CHECK(std::abs(m1 / root) < 5, m1 / root);
  CHECK(std::abs((m2 / n - 1) * root / std::sqrt(2.0)) < 5, m2 / n);
  CHECK(std::abs(m3 / n * root / std::sqrt(15.0)) < 5, m3 / n);
  CHECK(std::abs((m4 / n - 3) * root / std::sqrt(96.0)) < 5, m4 / n);
  CHECK(std::abs(rows / root) < 5, rows / root);
  CHECK(std::abs(neighbours / root) < 5, neighbours / root);
  CHECK(std::abs(pairs / root / std::sqrt(2.0)) < 5, pairs / root);
  const double expected = 0.0026997960632601866 * n;
  CHECK(std::abs(tail - expected) < 5 * std::sqrt(expected), tail, expected);
}

void streams_differ() {
  std::set<double> seen;
  double x[8];
  Index count = 0;
  for (std::uint64_t seed : {0ULL, 1ULL, 1ULL << 63})
    for (std::uint64_t replicate : {0ULL, 1ULL})
      for (int purpose = 1; purpose <= 8; ++purpose)
        for (Index row : {0, 8}) {
          fill_normals<double>({seed, replicate, static_cast<Purpose>(purpose)}, row, 0, 1, x, 8);
          seen.insert(x, x + 8);
          count += 8;
        }
  CHECK(static_cast<Index>(seen.size()) == count, seen.size(), count);
}

void chi_squares() {
  for (const Index k : {1, 2, 3, 10, 500}) {
    const Index n = 100000;
    const double degrees = static_cast<double>(k), draws = static_cast<double>(n);
    double m1 = 0, m2 = 0;
    for (Index i = 0; i < n; ++i) {
      const double x = ScalarStream({5, 0, Purpose::lengths}, i).chi_square(k);
      CHECK(x > 0, k, i, x);
      m1 += x, m2 += (x - degrees) * (x - degrees);
    }
    // Variance 2k, fourth central moment 12 k^2 + 48 k.
    CHECK(std::abs(m1 / draws - degrees) < 5 * std::sqrt(2 * degrees / draws), k, m1 / draws);
    CHECK(std::abs(m2 / draws - 2 * degrees) <
              5 * std::sqrt((8 * degrees * degrees + 48 * degrees) / draws),
          k, m2 / draws);
  }
}

}  // namespace

int main() {
  published_outputs();
  against_the_library();
  moments<double>();
  moments<float>();
  streams_differ();
  chi_squares();
  return srfx::test::report();
}
