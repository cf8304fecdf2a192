// The bulk of one step: its averages hold together, derivatives along s are right, both paths
// agree, complex s continues real s, the compressed law of the residual integrates like the full
// one.
#include <complex>
#include <vector>

#include "check.hpp"
#include "srfx/solve/anisotropic.hpp"
#include "srfx/gaussian/named.hpp"

using namespace srfx;

namespace {

struct Step {
  NamedFunction sigma, slope, target;
  OneStepSource source;
  std::unique_ptr<OneStepSource::Shared> shared;

  Step(const char* activation, const char* goal, double eta, double alpha0, double noise,
       OneStepSource::Path path = OneStepSource::Path::automatic)
      : sigma(activation_from_name(activation)),
        slope(activation_from_name(activation), true),
        target(activation_from_name(goal)),
        source(sigma, slope, target, 1.0, {{eta, 1 / alpha0, noise}}, path),
        shared(source.shared(0)) {}
};

struct Case {
  const char *activation, *target;
  double eta, alpha0, noise;
};
constexpr Case cases[] = {{"tanh", "sin", 3, 0.25, 0},       {"tanh", "tanh", 8, 20, 0.1},
                          {"hardtanh", "sign", 15, 0.05, 0}, {"relu", "sin", 2, 1, 0},
                          {"gelu", "relu", 5, 0.3, 0.2},     {"silu", "hermite2", 9, 4, 0},
                          {"relu", "tanh", 2, infinity, 0}};

void averages_hold_together(const Case& c) {
  const Step step(c.activation, c.target, c.eta, c.alpha0, c.noise);
  for (double beta : {0.3, 1.0, 4.0})
    for (double a : {1e-6, 1e-2, 1.0, 1e4}) {
      const double b = 0.7;
      const auto bulk = step.shared->bulk();
      const auto at = bulk.averages(a, b, beta);
      CHECK(!bulk.failed(), a, beta);
      // S = A + B D: A <1/S> + B <D/S> = 1, and so on once more.
      CHECK_REL(a * at.y2 + b * at.y1, 1, 1e-12, a, beta);
      CHECK_REL(a * at.t22 + b * at.t12, at.y2, 1e-10, a, beta);
      CHECK_REL(a * at.t12 + b * at.t11, at.y1, 1e-10, a, beta);
      CHECK(at.t11 > 0 && at.t12 > 0 && at.t22 > 0, a, beta);
      // d<1/S>/dA = -<1/S^2>
      const double h = 1e-4 * a;
      const auto value = [&](double x) { return step.shared->bulk().averages(x, b, beta).y2; };
      const double slope =
          (8 * (value(a + h) - value(a - h)) - value(a + 2 * h) + value(a - 2 * h)) / (12 * h);
      CHECK_ABS(-slope, at.t22, 1e-8 * at.t22 + 1e-14 * at.y2 / h, a, beta);
    }
}

void derivatives_along_s(const Case& c) {
  const Step step(c.activation, c.target, c.eta, c.alpha0, c.noise);
  for (double beta : {0.5, 2.0})
    for (double s : {1e-3, 0.3, 50.0}) {
      const double scale = step.shared->spike().c, h = 1e-3 * s;
      const auto at = [&](double x) { return step.shared->bulk().overlaps(x / scale, 1.0, beta); };
      const auto here = at(s), up = at(s + h), down = at(s - h), up2 = at(s + 2 * h),
                 down2 = at(s - 2 * h);
      const auto check = [&](const Along<double>& mid, double p1, double m1, double p2, double m2,
                             double size) {
        const double slope = (8 * (p1 - m1) - p2 + m2) / (12 * h);
        CHECK_ABS(mid.d, slope, 1e-8 * (std::abs(mid.d) + std::abs(mid.v) / s) + 1e-14 * size / h,
                  s, beta);
      };
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
          const double size = std::sqrt(std::abs(here.k[i][i].v * here.k[j][j].v));
          check(here.k[i][j], up.k[i][j].v, down.k[i][j].v, up2.k[i][j].v, down2.k[i][j].v, size);
          CHECK(here.k[i][j].v == here.k[j][i].v, i, j);
        }
      check(here.rest[0][0], up.rest[0][0].v, down.rest[0][0].v, up2.rest[0][0].v,
            down2.rest[0][0].v, 1);
      check(here.mean, up.mean.v, down.mean.v, up2.mean.v, down2.mean.v, here.mean.v);
      CHECK(here.k[0][0].v > 0 && here.k[1][1].v > -1e-12 && here.k[2][2].v > -1e-12, s, beta);
      CHECK(here.k[0][0].d <= 0 && here.mean.d < 0, s, beta);
    }
}

void both_paths_agree(const char* activation, const char* target, double eta, double alpha0,
                      double noise) {
  const Step scalar(activation, target, eta, alpha0, noise),
      matrix(activation, target, eta, alpha0, noise, OneStepSource::Path::matrix);
  CHECK(scalar.shared->step.scalar && !matrix.shared->step.scalar);
  for (double beta : {0.5, 2.0})
    for (double s : {1e-5, 1e-2, 1.0, 100.0}) {
      const auto x = scalar.shared->bulk().overlaps(s, 1.0, beta),
                 y = matrix.shared->bulk().overlaps(s, 1.0, beta);
      for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) {
          const double size = std::sqrt(std::abs(x.k[i][i].v * x.k[j][j].v));
          CHECK_ABS(y.k[i][j].v, x.k[i][j].v, 1e-10 * size, s, beta, i, j);
          CHECK_ABS(y.k[i][j].d, x.k[i][j].d, 1e-9 * size / s, s, beta, i, j);
        }
      CHECK_REL(y.mean.v, x.mean.v, 1e-11, s, beta);
    }
}

void complex_continues_real(const Case& c) {
  using C = std::complex<double>;
  const Step step(c.activation, c.target, c.eta, c.alpha0, c.noise);
  for (double s : {1e-2, 1.0}) {
    const OneStepBulk<double> real(step.shared->step, step.shared->nodes);
    const OneStepBulk<C> complex(step.shared->step, step.shared->nodes);
    const double h = 1e-7 * s;
    const Along<double> g = real.resolvent(s, 1.5);
    const Along<C> at = complex.resolvent(C(s, h), C(1.5));
    CHECK(!complex.failed(), s);
    CHECK_REL(at.v.real(), g.v, 1e-10, s);
    CHECK_REL(at.v.imag() / h, g.d, 1e-7, s);
    const auto x = real.overlaps(s, 1.0, 1.5);
    const auto y =
        OneStepBulk<C>(step.shared->step, step.shared->nodes).overlaps(C(s), C(1.0), C(1.5));
    CHECK_REL(y.k[0][0].v.real(), x.k[0][0].v, 1e-10, s);
    CHECK_REL(y.k[2][2].d.real(), x.k[2][2].d, 1e-8, s);
  }
}

void compression_keeps_averages() {
  const NamedFunction target(activation_from_name("tanh"));
  const double sd = std::sqrt(0.05);
  const ResidualNodes full = ResidualNodes(residual_rule(target, 0.3, sd, 0.5, 16), false)
                                 .compressed(sd, 2, 14)
                                 .widened(sd, 0.125, 0.5, 16);
  const ResidualNodes few = full.compressed(0.125, 2, 14);
  CHECK(few.size() < full.size(), few.size(), full.size());
  for (int i = 0; i < 3; ++i)
    for (double pole : {0.125, 0.2, 1.0, 5.0}) {
      double a = 0, b = 0, size = 0;
      for (Index k = 0; k < full.size(); ++k) {
        const double term = full.w[i][k] / (1 + full.u[k] * full.u[k] / (pole * pole));
        a += term;
        size += std::abs(term);
      }
      for (Index k = 0; k < few.size(); ++k)
        b += few.w[i][k] / (1 + few.u[k] * few.u[k] / (pole * pole));
      CHECK_ABS(b, a, 1e-12 * size, i, pole);
    }
}

/// With Omega = c, a multiple of one, everything is known.
void given_weights_with_a_flat_spectrum() {
  MeasuredWeights w;
  w.spike = {0.5, 2.0, 0.3};
  w.eigenvalues.assign(37, 2.0);
  for (int j = 0; j < 4; ++j)
    for (int i = 0; i < 37; ++i) w.u[j].push_back(std::cos(1.0 + i * (j + 1)));
  const EmpiricalBulk<double> bulk(w);
  const auto at = bulk.averages(0.3, 0.5, 1.0);
  CHECK_REL(at.y1, 1 / 0.8, 1e-14);
  CHECK_REL(at.y2, 1 / 0.8, 1e-14);
  CHECK_REL(at.t12, 1 / 0.64, 1e-14);
  const auto k = bulk.overlaps(0.3, 0.5, 1.0);
  double product = 0;
  for (int i = 0; i < 37; ++i) product += w.u[0][i] * w.u[2][i];
  CHECK_REL(k.k[0][2].v, std::sqrt(2.0) * product / (2.0 + 1.2), 1e-12);
  CHECK_REL(k.k[0][2].d, -std::sqrt(2.0) * product / (3.2 * 3.2), 1e-12);
}

/// 1/(x + D) and its square at any x, whatever D > 0 is; beyond the grid, not a number.
void table_interpolates_resolvents() {
  using V = simd::Lanes<double, 8>;
  const double d[3] = {1e-9, 0.3, 40};
  FunctionTable table({{0, 0}, {1, 1}, {2, 2}, {3, 3}}, [&d] {
    return FunctionTable::Maker{[&d](double x, double* values) {
                                  for (int i = 0; i < 3; ++i) values[i] = 1 / (x + d[i]);
                                  values[3] = values[1] * values[1];
                                  return true;
                                },
                                [] { return 0.0; }};
  });
  FunctionTable::Place<V> place;
  V f[4];
  for (double low : {1e-30, 3e-10, 0.11, 0.9999999, 7.3, 1e40}) {
    V x;
    for (int lane = 0; lane < 8; ++lane) x.set(lane, low * (1 + 0.31 * lane));
    table.locate(x, Digits::all, place);
    table.evaluate<1>(place, Digits::all, 0, f);
    for (int lane = 0; lane < 8; ++lane) {
      for (int i = 0; i < 3; ++i) CHECK_REL(f[i][lane] * (x[lane] + d[i]), 1, 4e-15, low, lane, i);
      const double root = 1 / (x[lane] + d[1]);
      CHECK_REL(f[3][lane], root * root, 1e-14, low, lane);
      CHECK(place.error[lane] < 1e-14, place.error[lane]);
    }
    table.locate(x, Digits::six, place);
    table.evaluate<1>(place, Digits::six, 0, f);
    for (int lane = 0; lane < 8; ++lane) CHECK_REL(f[0][lane] * (x[lane] + d[0]), 1, 3e-6, low);
  }
  for (double beyond : {1e-90, 1e90, -1.0, 0.0, infinity}) {
    table.locate(V(beyond), Digits::all, place);
    table.evaluate<1>(place, Digits::all, 0, f);
    CHECK(std::isnan(f[0][0]), beyond);
  }
}

}  // namespace

int main() {
  for (const Case& c : cases) {
    averages_hold_together(c);
    derivatives_along_s(c);
    complex_continues_real(c);
  }
  both_paths_agree("tanh", "sin", 3, 0.25, 0);
  both_paths_agree("erf", "relu", 12, 0.02, 0);
  both_paths_agree("hardtanh", "sign", 1, 300, 0.4);
  table_interpolates_resolvents();
  compression_keeps_averages();
  given_weights_with_a_flat_spectrum();
  return test::report();
}
