// Bounds, learned function and Gaussian constants against published digits, closed forms and brute
// force.

#include <vector>

#include "check.hpp"
#include "srfx/gaussian/named.hpp"
#include "srfx/data/observables.hpp"
#include "srfx/solve/scan.hpp"

namespace {

using namespace srfx;
using Real = long double;
constexpr Real pi = 3.14159265358979323846264338327950288L;

Real value_at(const Function& f, Real x) {
  const double in = static_cast<double>(x);
  double out;
  f.evaluate(&in, &out, 1);
  return out;
}

/// Nodes and weights of E f(z): a trapezoid for smooth f (error exp(-2 pi^2/h^2)), and a midpoint
/// rule, good to 1e-5 or so at kinks.
struct Grid {
  Real h;
  int n;
  explicit Grid(Real step) : h(step), n(static_cast<int>(12 / step)) {}
  template <class F> Real mean(F f) const {
    Real sum = 0;
    for (int i = -n; i < n; ++i) {
      const Real z = (i + 0.5L) * h;
      sum += h * std::exp(-z * z / 2) / std::sqrt(2 * pi) * f(z);
    }
    return sum;
  }
};

// --- constants ---
struct Constants {
  ActivationId id;
  Real mean, second_moment, h1;
};

void test_gaussian_constants() {
  using A = ActivationId;
  const Real e = std::exp(1.0L), root = std::sqrt(2 * pi),
             cdf1 = std::erfc(-1 / std::sqrt(2.0L)) / 2, pdf1 = std::exp(-0.5L) / root;
  const Real slope = 0.01L, rise = 1 - slope;
  const Constants all[] = {
      {A::erf, 0, 2 / pi * std::asin(2.0L / 3), 2 / std::sqrt(3 * pi)},
      {A::sin, 0, (1 - 1 / (e * e)) / 2, 1 / std::sqrt(e)},
      {A::cos, 1 / std::sqrt(e), (1 + 1 / (e * e)) / 2, 0},
      {A::relu, 1 / root, 0.5L, 0.5L},
      {A::leaky_relu, rise / root, (1 + slope * slope) / 2, (1 + slope) / 2},
      {A::sign, 0, 1, 2 / root},
      {A::abs, 2 / root, 1, 0},
      {A::gelu, 1 / (2 * std::sqrt(pi)), 1.0L / 3 + 1 / (2 * std::sqrt(3.0L) * pi), 0.5L},
      {A::hardtanh, 0, 2 * cdf1 - 1 - 2 * pdf1 + 2 * (1 - cdf1), 2 * cdf1 - 1},
      {A::linear, 0, 1, 1},
      {A::hermite1, 0, 1, 1},
      {A::hermite2, 0, 1, 0},
      {A::hermite3, 0, 1, 0},
      {A::hermite4, 0, 1, 0},
      {A::hermite5, 0, 1, 0},
      {A::hermite6, 0, 1, 0},
  };
  for (const Constants& c : all) {
    const GaussianConstants got = gaussian_constants(NamedFunction(c.id));
    const char* name = info(c.id).name;
    const Real rms = std::sqrt(c.second_moment);
    CHECK_ABS(got.mean, c.mean, 1e-14 * rms, name);
    CHECK_REL(got.second_moment, c.second_moment, 1e-14, name);
    CHECK_ABS(got.h1, c.h1, 1e-14 * rms, name);
    if (c.mean == 0) CHECK(got.mean == 0, name, got.mean);  // dust would count
    if (c.h1 == 0) CHECK(got.h1 == 0, name, got.h1);
  }
  const Grid grid(0.02L);
  for (int i = 0; i < n_activations; ++i) {
    const auto id = static_cast<ActivationId>(i);
    const NamedFunction f(id);
    const GaussianConstants got = gaussian_constants(f);
    CHECK(got.error < 1e-12, info(id).name, got.error);
    const Real tolerance = f.shape().smooth ? 1e-14L : 1e-4L;
    CHECK_ABS(got.mean, grid.mean([&](Real z) { return value_at(f, z); }), tolerance,
              info(id).name);
    CHECK_ABS(got.second_moment, grid.mean([&](Real z) { return value_at(f, z) * value_at(f, z); }),
              tolerance, info(id).name);
    CHECK_ABS(got.h1, grid.mean([&](Real z) { return z * value_at(f, z); }), tolerance,
              info(id).name);
  }
  for (const A id : {A::sigmoid, A::softplus, A::silu}) {
    const GaussianConstants got = gaussian_constants(NamedFunction(id));
    CHECK_REL(id == A::sigmoid ? got.mean : got.h1, 0.5L, 1e-14, info(id).name);
  }
}

// --- the learned function ---
void test_learned_function() {
  const ActivationId sigmas[] = {ActivationId::tanh, ActivationId::erf,  ActivationId::softplus,
                                 ActivationId::cos,  ActivationId::relu, ActivationId::sign};
  const SpikeParameters all[] = {
      {0.9, 1, 1}, {1.2, 0.7, 0.6}, {-0.8, 1.3, -0.95}, {2, 0.5, 0}, {0, 1, 0.4}};
  const double m = 0.7, theta = -1.3, psi = 0.45, t[] = {-2.1, -0.4, 0, 0.9, 3.3};
  for (const ActivationId id : sigmas) {
    const NamedFunction sigma(id);
    const Grid coarse(sigma.shape().smooth ? 0.1L : 0.02L),
        fine(sigma.shape().smooth ? 0.1L : 0.001L);
    for (const SpikeParameters& p : all) {
      double got[5];
      learned_function(sigma, p, m, theta, psi, t, 5, got);
      const Real rho = std::sqrt(1 - static_cast<Real>(p.gamma) * p.gamma),
                 sd = std::sqrt(static_cast<Real>(p.c));
      for (int i = 0; i < 5; ++i) {
        // THEORY section 6, as it stands: k = gamma t + rho g, and a second Gaussian behind mu0(k)
        // and mu1(k).
        const Grid& grid = rho > 0 ? coarse : fine;
        const auto at = [&](Real g) {
          const Real k = p.gamma * static_cast<Real>(t[i]) + rho * g;
          const Real slope = rho > 0 ? psi * (t[i] - p.gamma * k) / rho : 0;
          const Real mu0 = grid.mean([&](Real z) { return value_at(sigma, p.r * k + sd * z); });
          const Real mu1 = grid.mean([&](Real z) { return z * value_at(sigma, p.r * k + sd * z); });
          return m * mu0 + mu1 * (k * theta + slope);
        };
        if (sigma.shape().smooth || rho == 0) {
          CHECK_ABS(got[i], rho > 0 ? grid.mean(at) : at(0), sigma.shape().smooth ? 2e-13L : 2e-3L,
                    info(id).name, p.r, p.c, p.gamma, t[i]);
        } else {
          CHECK_ABS(got[i], Grid(0.1L).mean(at), 2e-3L, info(id).name, p.r, p.c, p.gamma, t[i]);
        }
      }
    }
  }
  // The case kinked functions get exactly: E relu and E sign in closed form, with m alone.
  const double one = 1.1;
  double got;
  const SpikeParameters p{1.2, 0.7, 0.6};
  const Real s = std::sqrt(1.2L * 1.2L * 0.64L + 0.7L), a = 1.2L * 0.6L * one / s;
  learned_function(NamedFunction(ActivationId::sign), p, 1, 0, 0, &one, 1, &got);
  CHECK_REL(got, std::erf(a / std::sqrt(2.0L)), 1e-14);
  learned_function(NamedFunction(ActivationId::relu), p, 1, 0, 0, &one, 1, &got);
  CHECK_REL(
      got, s * (a * std::erfc(-a / std::sqrt(2.0L)) / 2 + std::exp(-a * a / 2) / std::sqrt(2 * pi)),
      1e-14);
}

// --- bounds ---
void test_published_bounds() {
  const Bounds b =
      bounds(NamedFunction(ActivationId::tanh), NamedFunction(ActivationId::sin), {0.9, 1, 1});
  CHECK_ABS(b.lower, 0.00166905L, 5e-9);
  CHECK_ABS(b.lower_m, 0.05235L, 5e-6);
  CHECK_ABS(b.lower_theta, 1.73091L, 5e-6);
  CHECK_ABS(b.upper, 0.02910490L, 5e-9);
  CHECK_ABS(b.upper_m, 1.40466L, 5e-6);
  CHECK(b.error < 1e-10, b.error);
}

/// E (s* - m mu0(k) - mu1(k)(k theta + psi y))^2 over k and y, where theta.x/sqrt d = gamma k + rho
/// y.
Real misfit(const NamedFunction& sigma, const NamedFunction& target, const SpikeParameters& p,
            Real m, Real theta, Real psi) {
  const Grid grid(0.25L);
  const Real sd = std::sqrt(static_cast<Real>(p.c)),
             rho = std::sqrt(1 - static_cast<Real>(p.gamma) * p.gamma);
  return grid.mean([&](Real k) {
    const Real mu0 = grid.mean([&](Real z) { return value_at(sigma, p.r * k + sd * z); });
    const Real mu1 = grid.mean([&](Real z) { return z * value_at(sigma, p.r * k + sd * z); });
    return grid.mean([&](Real y) {
      const Real e =
          value_at(target, p.gamma * k + rho * y) - m * mu0 - mu1 * (k * theta + psi * y);
      return e * e;
    });
  });
}

void test_bounds() {
  struct Case {
    ActivationId sigma, target;
    SpikeParameters p;
  };
  using A = ActivationId;
  const Case cases[] = {{A::erf, A::sin, {0.9, 1, 0.8}},
                        {A::softplus, A::hermite2, {0.6, 1.2, -0.7}},
                        {A::gelu, A::erf, {0.5, 0.8, 0.95}},
                        {A::cos, A::cos, {0.7, 1, 0.5}}};
  for (const Case& c : cases) {
    const NamedFunction sigma(c.sigma), target(c.target);
    const Bounds b = bounds(sigma, target, c.p);
    const char* name = info(c.sigma).name;
    CHECK_REL(misfit(sigma, target, c.p, b.lower_m, b.lower_theta, b.lower_psi), b.lower, 1e-9,
              name);
    CHECK_REL(misfit(sigma, target, c.p, b.upper_m, 0, 0), b.upper, 1e-9, name);
    CHECK(b.lower <= b.upper, name, b.lower, b.upper);
    for (const Real step : {-1e-3L, 1e-3L}) {  // a minimum
      CHECK(misfit(sigma, target, c.p, b.lower_m + step, b.lower_theta, b.lower_psi) > b.lower,
            name);
      CHECK(misfit(sigma, target, c.p, b.lower_m, b.lower_theta + step, b.lower_psi) > b.lower,
            name);
      CHECK(misfit(sigma, target, c.p, b.lower_m, b.lower_theta, b.lower_psi + step) > b.lower,
            name);
      CHECK(misfit(sigma, target, c.p, b.upper_m + step, 0, 0) > b.upper, name);
    }
    // Any test error is above the lower bound; below the upper one as alpha -> infinity.
    std::vector<double> alpha{0.1, 1, 30, 1e3, 1e6}, beta{1, 0.2, 5, 1e-3, 1e3},
        lam{1e-2, 1e-5, 3, 1e-3, 1e-6}, zero{0}, values(11 * 5);
    std::vector<std::int64_t> set(5, 0);
    std::vector<std::int8_t> status(5);
    std::vector<std::int32_t> iterations(5);
    BatchInput in;
    in.sigma = &sigma, in.target = &target, in.sets = {c.p}, in.set_index = set.data(),
    in.set_stride = 1;
    in.alpha = {alpha.data(), 1}, in.beta = {beta.data(), 1}, in.lam = {lam.data(), 1},
    in.noise = in.inverse_d = {zero.data(), 0};
    in.n_points = 5;
    double* v = values.data();
    const BatchOutput out{v,      v + 5,  v + 10, v + 15, v + 20,        v + 25,           v + 30,
                          v + 35, v + 40, v + 45, v + 50, status.data(), iterations.data()};
    Interrupt interrupt;
    solve_batch(MarchenkoPastur{}, in, out, interrupt);
    for (int i = 0; i < 5; ++i)
      CHECK(status[i] == 0 && v[i] >= b.lower * (1 - 1e-8), name, i, v[i], b.lower);
    CHECK(v[3] <= b.upper * 1.01 && v[3] >= b.upper * 0.9, name, v[3], b.upper);
    CHECK(v[4] < 0.5 * (b.lower + b.upper), name, v[4], b.lower, b.upper);
  }
  // The target is a multiple of the mean component, or of the activation's linear part: nothing is
  // left.
  const Bounds exact = bounds(NamedFunction(A::linear), NamedFunction(A::linear), {0.9, 1, 0.3});
  CHECK_ABS(exact.lower, 0, 1e-14);
  CHECK_ABS(bounds(NamedFunction(A::sin), NamedFunction(A::sin), {1, 0.5, 1}).upper, 0, 1e-13);
  // r = 0: mu0 and mu1 are constants, k theta + psi y fits any direction, and what is left is the
  // linear floor.
  for (const double gamma : {0.0, 0.3, 0.9}) {
    const NamedFunction relu(A::relu), target(A::gelu);
    const GaussianConstants t = gaussian_constants(target);
    const Bounds b = bounds(relu, target, {0, 1, gamma});
    CHECK_REL(b.lower, t.second_moment - t.mean * t.mean - t.h1 * t.h1, 1e-11, gamma);
    CHECK_REL(b.upper, t.second_moment - t.mean * t.mean, 1e-11, gamma);
  }
}

}  // namespace

int main() {
  test_gaussian_constants();
  test_learned_function();
  test_published_bounds();
  test_bounds();
  return srfx::test::report();
}
