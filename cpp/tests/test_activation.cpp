// The named activations against long double formulas; lanes against scalar, bit by bit.
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "srfx/gaussian/activation.hpp"

namespace {

using namespace srfx;
using Real = long double;
constexpr Real pi = 3.14159265358979323846264338327950288L;
constexpr Real infinity = std::numeric_limits<Real>::infinity();

// --- references ---
/// A value and the size its error is measured against: |value|, or the sum of the terms that cancel
/// in it.
struct Expected {
  Real value, size;
  Expected(Real v) : value(v), size(std::abs(v)) {}
  Expected(Real v, Real s) : value(v), size(s) {}
};
struct Reference {
  Expected (*value)(Real);
  Expected (*derivative)(Real);
};

Real logistic(Real x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
Real logistic_density(Real x) {
  const Real e = std::exp(-std::abs(x));
  return e / ((1 + e) * (1 + e));
}
Real normal_cdf(Real x) { return std::erfc(-x / std::sqrt(2.0L)) / 2; }
Real normal_pdf(Real x) { return std::exp(-x * x / 2) / std::sqrt(2 * pi); }
Real clamped(Real x) {
  return std::isinf(x) ? std::copysign(1e5L, x) : x;
}  // where x e^-|x| is 0 and not inf * 0
Expected step(Real x, Real at, Real below, Real on, Real above) {
  return std::isnan(x) ? x : x < at ? below : x > at ? above : on;
}

/// He_n / sqrt(n!) by recurrence, with the sum of the absolute values of its terms.
Expected hermite(int n, Real x) {
  if (std::isinf(x)) return n == 0 ? 1 : n % 2 == 0 ? infinity : x;
  Real now = 1, before = 0, size = 1, size_before = 0, factorial = 1;
  for (int k = 0; k < n; ++k) {
    const Real next = x * now - static_cast<Real>(k) * before;
    const Real next_size = std::abs(x) * size + static_cast<Real>(k) * size_before;
    before = now, now = next, size_before = size, size = next_size;
    factorial *= static_cast<Real>(k + 1);
  }
  return {now / std::sqrt(factorial), size / std::sqrt(factorial)};
}
template <int n>
constexpr Reference hermite_reference{
    [](Real x) { return hermite(n, x); },
    [](Real x) -> Expected {
      const Expected e = hermite(n - 1, x);
      const Real root = std::sqrt(static_cast<Real>(n));
      return n == 1 && std::isnan(x) ? Expected(x) : Expected(root * e.value, root * e.size);
    }};

const Reference references[n_activations] = {
    {[](Real x) -> Expected { return std::tanh(x); },
     [](Real x) -> Expected { return 4 * logistic_density(2 * x); }},
    {[](Real x) -> Expected { return std::erf(x); },
     [](Real x) -> Expected { return 2 / std::sqrt(pi) * std::exp(-x * x); }},
    {[](Real x) -> Expected { return std::sin(x); },
     [](Real x) -> Expected { return std::cos(x); }},
    {[](Real x) -> Expected { return std::cos(x); },
     [](Real x) -> Expected { return -std::sin(x); }},
    {[](Real x) -> Expected { return x < 0 ? 0 : x; },
     [](Real x) { return step(x, 0, 0, 0.5L, 1); }},
    {[](Real x) -> Expected { return x < 0 ? 0.01L * x : x; },
     [](Real x) { return step(x, 0, 0.01L, 0.505L, 1); }},
    {[](Real x) { return step(x, 0, -1, 0, 1); }, [](Real x) { return step(x, 0, 0, 0, 0); }},
    {[](Real x) -> Expected { return std::abs(x); }, [](Real x) { return step(x, 0, -1, 0, 1); }},
    {[](Real x) -> Expected { return (x < 0 ? 0 : x) + std::log1p(std::exp(-std::abs(x))); },
     [](Real x) -> Expected { return logistic(x); }},
    {[](Real x) -> Expected { return logistic(x); },
     [](Real x) -> Expected { return logistic_density(x); }},
    {[](Real x) -> Expected { return x > 0 ? x * normal_cdf(x) : clamped(x) * normal_cdf(x); },
     [](Real x) -> Expected {
       const Real c = normal_cdf(x), p = clamped(x) * normal_pdf(clamped(x));
       return {c + p, c + std::abs(p)};
     }},
    {[](Real x) -> Expected { return x > 0 ? x * logistic(x) : clamped(x) * logistic(x); },
     [](Real x) -> Expected {
       const Real s = logistic(x), p = clamped(x) * logistic_density(x);
       return {s + p, s + std::abs(p)};
     }},
    {[](Real x) -> Expected { return x < -1  ? -1
                                     : x > 1 ? 1
                                             : x; },
     [](Real x) { return step(std::abs(x), 1, 1, 0.5L, 0); }},
    {[](Real x) -> Expected { return x; }, [](Real x) { return step(x, 0, 1, 1, 1); }},
    hermite_reference<1>,
    hermite_reference<2>,
    hermite_reference<3>,
    hermite_reference<4>,
    hermite_reference<5>,
    hermite_reference<6>,
};

// --- points ---
template <class T> std::vector<T> special_points() {
  using L = std::numeric_limits<T>;
  std::vector<T> points{T(0), L::denorm_min(), L::min(), L::epsilon(), L::max(), L::infinity()};
  for (const double x :
       {1e-30, 1e-8,  1e-4,   0.17,   0.5,     1.0,   1.25,     1.375, 2.0,   3.95,  5.95,
        9.0,   10.25, 14.6,   20.0,   27.4,    38.75, 88.0,     104.0, 109.0, 373.0, 708.0,
        745.0, 752.0, 3999.0, 4001.0, 99999.0, 1e5,   100001.0, 1e9,   1e22})
    for (const T near : {std::nextafter(T(x), T(0)), T(x), std::nextafter(T(x), L::infinity())})
      points.push_back(near);
  for (int k = 1; k < 2000; k += (k < 50 ? 1 : 37))
    points.push_back(T(static_cast<Real>(k) * pi / 2));
  const std::size_t half = points.size();
  for (std::size_t i = 0; i < half; ++i) points.push_back(-points[i]);
  points.push_back(L::quiet_NaN());
  return points;
}
template <class T> std::vector<T> points() {
  std::vector<T> all = special_points<T>();
  std::mt19937_64 generator(20240607);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform(-1, 1);
  for (int i = -20000; i <= 20000; ++i) all.push_back(T(i * 0.002));
  for (int i = 0; i < 20000; ++i) {
    all.push_back(T(1.5 * normal(generator)));
    all.push_back(T(800 * uniform(generator)));
    all.push_back(T(100 * uniform(generator)));
    all.push_back(T(1.2e5 * uniform(generator)));
    all.push_back(T(std::copysign(std::pow(10.0, 30 * uniform(generator)), uniform(generator))));
  }
  return all;
}

template <class T> bool same_bits(T a, T b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}

// --- accuracy ---
template <class T> struct Tolerance {
  double value, derivative;
};
template <class T> Tolerance<T> tolerance(ActivationId id) {
  if (info(id).growth > 1)
    return std::is_same_v<T, float> ? Tolerance<T>{4e-7, 4e-7} : Tolerance<T>{8e-16, 8e-16};
  if (std::is_same_v<T, float>) return {id == ActivationId::gelu ? 3.5e-7 : 2.5e-7, 3e-7};
  if (!simd::has_fma) return {6e-16, 1e-15};
  return {id == ActivationId::gelu ? 5e-16 : 4e-16, 1e-15};
}

template <class T> void test_accuracy(const char* type) {
  using L = std::numeric_limits<T>;
  const std::vector<T> x = points<T>();
  std::vector<T> y(x.size());
  for (int i = 0; i < n_activations; ++i) {
    const auto id = static_cast<ActivationId>(i);
    const char* name = info(id).name;
    Real worst[2] = {0, 0};
    for (const bool derivative : {false, true}) {
      const auto run = derivative ? evaluate_derivative<T> : evaluate<T>;
      run(id, x.data(), y.data(), static_cast<Index>(x.size()));
      const double bound = derivative ? tolerance<T>(id).derivative : tolerance<T>(id).value;
      for (std::size_t j = 0; j < x.size(); ++j) {
        const Expected e = derivative ? references[i].derivative(x[j]) : references[i].value(x[j]);
        if (std::abs(e.value) > static_cast<Real>(L::max()) ||
            e.size > static_cast<Real>(L::max()) / 100) {
          // A polynomial beyond the range of T: any value as large, or infinite, of that sign.
          CHECK(!std::isnan(y[j]) && std::signbit(y[j]) == std::signbit(e.value), name, derivative,
                x[j], y[j]);
          continue;
        }
        // A subnormal result may be off by the spacing of such numbers.
        const Real size = std::max<Real>(e.size, L::min());
        const Real error = test::distance(y[j], e.value) / (std::isnan(size) ? 1 : size);
        CHECK_ABS(error, 0, bound, type, name, derivative, x[j], y[j], e.value);
        worst[derivative] = std::max(worst[derivative], error);
      }
    }
    std::printf("%-7s %-11s value %8.2Lg   derivative %8.2Lg\n", type, name, worst[0], worst[1]);
  }
}

// --- the same bits whatever the width, position and sign ---
template <class V, class T> void test_width(const std::vector<T>& x) {
  constexpr std::size_t width = simd::Traits<V>::size;
  for (int i = 0; i < n_activations; ++i)
    dispatch(static_cast<ActivationId>(i), [&](auto activation) {
      using A = decltype(activation);
      for (std::size_t j = 0; j + width <= x.size(); j += width) {
        T value[width], derivative[width];
        A::value(V::load(&x[j])).store(value);
        A::derivative(V::load(&x[j])).store(derivative);
        for (std::size_t k = 0; k < width; ++k) {
          const T v = A::value(x[j + k]), d = A::derivative(x[j + k]);
          CHECK(same_bits(value[k], v), A::info.name, x[j + k], width, value[k], v);
          CHECK(same_bits(derivative[k], d), A::info.name, x[j + k], width, derivative[k], d);
        }
      }
    });
}
template <class T> void test_widths() {
  std::vector<T> x = special_points<T>();
  const std::vector<T> all = points<T>();
  for (std::size_t i = 0; i < all.size(); i += 7) x.push_back(all[i]);
  constexpr int n = simd::native_width<T>;
  test_width<simd::Lanes<T, n>>(x);
  test_width<simd::Pair<simd::Lanes<T, n>>>(x);
  if constexpr (simd::native_bytes >= 32) test_width<simd::Lanes<T, 32 / sizeof(T)>>(x);
  test_width<simd::Lanes<T, 16 / sizeof(T)>>(x);
}

template <class T> void test_positions() {
  const std::vector<T> all = points<T>();
  std::vector<T> x(all.end() - 64, all.end()), y(64);
  x[5] = T(1e7), x[9] = std::numeric_limits<T>::quiet_NaN(),
  x[20] = -std::numeric_limits<T>::infinity();
  for (int i = 0; i < n_activations; ++i) {
    const auto id = static_cast<ActivationId>(i);
    for (const bool derivative : {false, true}) {
      const auto run = derivative ? evaluate_derivative<T> : evaluate<T>;
      std::vector<T> once(64);
      for (std::size_t j = 0; j < 64; ++j) run(id, &x[j], &once[j], 1);
      for (std::size_t n = 0; n <= 40; ++n)
        for (std::size_t offset = 0; offset < 9; ++offset) {
          std::fill(y.begin(), y.end(), T(-77));
          run(id, &x[offset], &y[offset], static_cast<Index>(n));
          for (std::size_t j = 0; j < 64; ++j) {
            const bool inside = j >= offset && j < offset + n;
            CHECK(same_bits(y[j], inside ? once[j] : T(-77)), info(id).name, derivative, n, offset,
                  j);
          }
        }
      std::vector<T> in_place = x;
      run(id, in_place.data(), in_place.data(), 64);
      for (std::size_t j = 0; j < 64; ++j)
        CHECK(same_bits(in_place[j], once[j]), info(id).name, derivative, j);
    }
  }
}

template <class T> void test_parity() {
  for (int i = 0; i < n_activations; ++i)
    dispatch(static_cast<ActivationId>(i), [&](auto activation) {
      using A = decltype(activation);
      if (A::info.parity == Parity::none) return;
      const bool odd = A::info.parity == Parity::odd;
      for (const T x : points<T>()) {
        const T v = A::value(x), d = A::derivative(x);
        CHECK(same_bits(A::value(-x), odd ? -v : v), A::info.name, x);
        CHECK(same_bits(A::derivative(-x), odd ? d : -d), A::info.name, x);
      }
    });
}

// --- properties ---
template <class T> void test_ranges() {
  for (const T x : points<T>()) {
    if (std::isnan(x)) continue;
    if (!std::isinf(x)) {
      CHECK(std::abs(Sin::value(x)) <= 1, x);
      CHECK(std::abs(Cos::value(x)) <= 1, x);
    }
    CHECK(std::abs(Tanh::value(x)) <= 1, x);
    CHECK(std::abs(Erf::value(x)) <= 1, x);
    CHECK(Sigmoid::value(x) >= 0 && Sigmoid::value(x) <= 1, x);
    CHECK(Softplus::value(x) >= Relu::value(x), x);
    CHECK(Tanh::derivative(x) >= 0 && Tanh::derivative(x) <= 1, x);
    CHECK(Sigmoid::derivative(x) >= 0 && Sigmoid::derivative(x) <= T(0.25), x);
  }
  CHECK(Cos::value(T(0)) == 1);
  CHECK(Sigmoid::value(T(0)) == T(0.5));
  CHECK(Gelu::derivative(T(0)) == T(0.5));
  CHECK(Tanh::derivative(T(0)) == 1);
}

/// E f(z) for z ~ N(0, 1), by the trapezoidal rule: exponentially accurate for entire f.
template <class F> double gaussian_mean(F f) {
  double sum = 0;
  for (int i = -280; i <= 280; ++i) sum += f(i * 0.05) * std::exp(-0.5 * (i * 0.05) * (i * 0.05));
  return sum * 0.05 / std::sqrt(2 * static_cast<double>(pi));
}
template <int n> void test_hermite() {
  using A = Hermite<n>;
  CHECK_ABS(gaussian_mean([](double z) { return A::value(z) * A::value(z); }), 1, 1e-13, n);
  CHECK_ABS(gaussian_mean([](double z) { return A::value(z); }), 0, 1e-13, n);
  CHECK_ABS(gaussian_mean([](double z) { return A::derivative(z) * A::derivative(z); }), n, 1e-12,
            n);
  CHECK_ABS(gaussian_mean([](double z) { return A::value(z) * Hermite<n % 6 + 1>::value(z); }), 0,
            1e-13, n);
}

void test_info() {
  const char* names[] = {"tanh",       "erf",      "sin",      "cos",      "relu",
                         "leaky_relu", "sign",     "abs",      "softplus", "sigmoid",
                         "gelu",       "silu",     "hardtanh", "linear",   "hermite1",
                         "hermite2",   "hermite3", "hermite4", "hermite5", "hermite6"};
  for (int i = 0; i < n_activations; ++i) {
    const auto id = static_cast<ActivationId>(i);
    const ActivationInfo& a = info(id);
    CHECK(std::string_view(a.name) == names[i], i);
    CHECK(activation_from_name(a.name) == id, a.name);
    CHECK(dispatch(id, [](auto activation) { return decltype(activation)::info.name; }) ==
              std::string_view(a.name),
          a.name);
    CHECK(a.strip > 1, a.name);
    dispatch(id, [&](auto activation) {
      using A = decltype(activation);
      // Growth at infinity of the degree stated, on one side at least.
      const double scale = std::pow(1e8, a.growth);
      const double size = std::max(std::abs(A::value(1e8)), std::abs(A::value(-1e8))) / scale;
      CHECK(size > 0.01 && size < 1.01, a.name, size);
      // Just beside each kink the derivative differs by a jump, or the value does.
      for (int k = 0; k < a.n_kinks; ++k) {
        const double left = std::nextafter(a.kinks[k], -9.0),
                     right = std::nextafter(a.kinks[k], 9.0);
        CHECK((std::abs(A::value(right) - A::value(left)) > 0.5) == a.jump, a.name, k);
        if (a.jump) continue;
        CHECK(std::abs(A::derivative(right) - A::derivative(left)) > 0.5, a.name, k);
        CHECK_ABS(A::derivative(a.kinks[k]), 0.5 * (A::derivative(left) + A::derivative(right)),
                  1e-15, a.name, k);
      }
    });
  }
  CHECK_THROWS(activation_from_name("tan"), std::invalid_argument);
  CHECK_THROWS(activation_from_name(""), std::invalid_argument);
  CHECK_THROWS(dispatch(static_cast<ActivationId>(n_activations), [](auto) { return 0; }),
               std::invalid_argument);
}

}  // namespace

int main() {
  test_info();
  test_accuracy<double>("double");
  test_accuracy<float>("float");
  test_widths<double>();
  test_widths<float>();
  test_positions<double>();
  test_positions<float>();
  test_parity<double>();
  test_parity<float>();
  test_ranges<double>();
  test_ranges<float>();
  test_hermite<1>();
  test_hermite<2>();
  test_hermite<3>();
  test_hermite<4>();
  test_hermite<5>();
  test_hermite<6>();
  return srfx::test::report();
}
