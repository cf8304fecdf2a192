// Quadrature against N(0,1): closed forms where they exist, a brute-force long double rule for
// everything.
#include <cstdio>
#include <vector>

#include "check.hpp"
#include "srfx/gaussian/coefficients.hpp"
#include "srfx/data/levels.hpp"
#include "srfx/gaussian/named.hpp"

namespace {

using namespace srfx;
using Real = long double;
constexpr Real pi = 3.14159265358979323846264338327950288L;

Real density(Real x) { return std::exp(-x * x / 2) / std::sqrt(2 * pi); }
Real distribution(Real x) { return std::erfc(-x / std::sqrt(2.0L)) / 2; }

// --- Gauss-Legendre ---
/// The integral of x^j over [-1, 1].
Real monomial(int j) { return j % 2 == 0 ? 2.0L / (j + 1) : 0; }

void test_gauss_legendre() {
  for (int n = 1; n <= 32; ++n) {
    const GaussLegendre& rule = GaussLegendre::order(n);
    CHECK(static_cast<int>(rule.x.size()) == n && static_cast<int>(rule.w.size()) == n, n);
    for (int i = 0; i < n; ++i) {
      CHECK(rule.w[i] > 0 && std::abs(rule.x[i]) < 1, n, i);
      CHECK(i == 0 || rule.x[i] > rule.x[i - 1], n, i);
      CHECK(rule.x[i] == -rule.x[n - 1 - i] && rule.w[i] == rule.w[n - 1 - i], n, i);
    }
    const auto integral = [&](int j) {
      Real sum = 0;
      for (int i = 0; i < n; ++i)
        sum += static_cast<Real>(rule.w[i]) * std::pow(static_cast<Real>(rule.x[i]), j);
      return sum;
    };
    for (int j = 0; j < 2 * n; ++j) CHECK_ABS(integral(j), monomial(j), 3e-16, n, j);
    // Degree 2n is the first that the rule misses, by the square of the norm of the monic Legendre
    // polynomial.
    Real miss = 2.0L / (2 * n + 1);
    for (int j = 1; j <= n; ++j)
      miss *= static_cast<Real>(j) * j / ((2.0L * j - 1) * (2.0L * j - 1));
    CHECK_ABS(monomial(2 * n) - integral(2 * n), miss, 3e-16, n);
  }
}

void test_normal_density() {
  std::vector<double> x;
  for (int i = -1000; i <= 1000; ++i) x.push_back(0.0137 * i);
  for (Index n = 0; n <= 25;
       ++n) {  // every remainder of the vector loop, and nothing beyond the end
    std::vector<double> w(x.size(), 1);
    times_normal_density(x.data(), w.data(), n);
    for (Index i = 0; i < static_cast<Index>(w.size()); ++i) CHECK((i < n) == (w[i] != 1), n, i);
  }
  std::vector<double> w(x.size(), 0.7);
  times_normal_density(x.data(), w.data(), static_cast<Index>(x.size()));
  for (std::size_t i = 0; i < x.size(); ++i)  // rounding x/sqrt 2 costs x^2 eps
    CHECK_REL(w[i], static_cast<Real>(0.7) * density(x[i]), 3e-16 * (3 + x[i] * x[i]), x[i]);
}

// --- moments: E f, E z f and E (f - m0 - m1 z)^2 for f(mean + sd z) ---
struct Expected {
  Real m0, m1, m2;
  Real rms() const { return std::sqrt(m0 * m0 + m1 * m1 + std::max<Real>(m2, 0)); }
};

/// A rule in long double that nobody would wait for: 20 nodes a panel, at most 1/2 in z and 1 in
/// the argument.
struct BruteForce {
  std::vector<Real> node, weight;  // on [-1, 1]
  BruteForce() {
    constexpr int n = 20;
    for (int i = 0; i < n; ++i) {
      Real t = std::cos(pi * (i + 0.75L) / (n + 0.5L)), slope = 1;
      for (int pass = 0; pass < 20; ++pass) {
        Real p = 1, below = 0;
        for (int j = 1; j <= n; ++j) {
          const Real above = ((2 * j - 1) * t * p - (j - 1) * below) / j;
          below = p, p = above;
        }
        slope = n * (t * p - below) / (t * t - 1);
        t -= p / slope;
      }
      node.push_back(t);
      weight.push_back(2 / ((1 - t * t) * slope * slope));
    }
  }
  Expected operator()(const Function& f, double mean, double sd) const {
    if (sd == 0) {
      double y;
      f.evaluate(&mean, &y, 1);
      return {y, 0, 0};
    }
    std::vector<Real> edges{-12.5L, 12.5L}, z, w;
    for (const double kink : f.shape().kinks) {
      const Real at = (static_cast<Real>(kink) - mean) / sd;
      if (std::abs(at) < 12.5L) edges.push_back(at);
    }
    std::sort(edges.begin(), edges.end());
    for (std::size_t e = 0; e + 1 < edges.size(); ++e) {
      const int n_panels =
          static_cast<int>(std::ceil((edges[e + 1] - edges[e]) * std::max<Real>(2, sd)));
      const Real half = (edges[e + 1] - edges[e]) / (2 * n_panels);
      for (int panel = 0; panel < n_panels; ++panel)
        for (std::size_t i = 0; i < node.size(); ++i) {
          z.push_back(edges[e] + half * (2 * panel + 1 + node[i]));
          w.push_back(half * weight[i] * density(z.back()));
        }
    }
    std::vector<double> x(z.size()), y(z.size());
    for (std::size_t i = 0; i < z.size(); ++i) x[i] = static_cast<double>(mean + sd * z[i]);
    f.evaluate(x.data(), y.data(), static_cast<Index>(x.size()));
    Expected out{0, 0, 0};
    for (std::size_t i = 0; i < z.size(); ++i) out.m0 += w[i] * y[i], out.m1 += w[i] * y[i] * z[i];
    for (std::size_t i = 0; i < z.size(); ++i) {
      const Real e = y[i] - out.m0 - out.m1 * z[i];
      out.m2 += w[i] * e * e;
    }
    return out;
  }
};

Expected relu_moments(Real mean, Real sd) {
  if (mean > 0) {  // relu(x) = x + relu(-x)
    const Expected mirrored = relu_moments(-mean, sd);
    return {mean + mirrored.m0, sd - mirrored.m1, mirrored.m2};
  }
  const Real a = mean / sd, cdf = distribution(a), pdf = density(a);
  const Real m0 = mean * cdf + sd * pdf, m1 = sd * cdf;
  return {m0, m1, (mean * mean + sd * sd) * cdf + mean * sd * pdf - m0 * m0 - m1 * m1};
}

/// He_n/sqrt(n!) of mean + sd z: its coefficients c_j = E f He_j(z) are n!/(n-j)! sd^j E
/// He_(n-j)(mean + sd z).
Expected hermite_moments(int n, Real mean, Real sd) {
  std::vector<Real> average{1, mean};  // E He_m(mean + sd z), by recurrence with variance 1 - sd^2
  for (int m = 1; m < n; ++m)
    average.push_back(mean * average[m] - m * (1 - sd) * (1 + sd) * average[m - 1]);
  Real factorial = 1, falling = 1, norm = 1, m[3] = {0, 0, 0};
  for (int j = 1; j <= n; ++j) factorial *= j;
  for (int j = 0; j <= n; ++j) {
    const Real c = falling * std::pow(sd, j) * average[n - j] / std::sqrt(factorial);
    if (j < 2) m[j] = c;
    else m[2] += c * c / norm;
    falling *= n - j, norm *= j + 1;
  }
  return {m[0], m[1], m[2]};
}

/// Closed forms; a negative m2 where only the first two are known. False where there are none.
bool closed_form(ActivationId id, Real mean, Real sd, Expected& out) {
  const Real damping = std::exp(-sd * sd / 2);
  switch (id) {
    case ActivationId::linear: out = {mean, sd, 0}; return true;
    case ActivationId::erf: {
      const Real width = std::sqrt(1 + 2 * sd * sd), a = mean / width;
      out = {std::erf(a), sd * 2 / std::sqrt(pi) * std::exp(-a * a) / width, -1};
      return true;
    }
    case ActivationId::sin:
      out = {damping * std::sin(mean), sd * damping * std::cos(mean), 0};
      out.m2 =
          (1 - std::pow(damping, 4) * std::cos(2 * mean)) / 2 - out.m0 * out.m0 - out.m1 * out.m1;
      return true;
    case ActivationId::cos:
      out = {damping * std::cos(mean), -sd * damping * std::sin(mean), 0};
      out.m2 =
          (1 + std::pow(damping, 4) * std::cos(2 * mean)) / 2 - out.m0 * out.m0 - out.m1 * out.m1;
      return true;
    case ActivationId::relu: out = relu_moments(mean, sd); return true;
    case ActivationId::leaky_relu: {
      const Expected relu = relu_moments(mean, sd);
      out = {0.01L * mean + 0.99L * relu.m0, 0.01L * sd + 0.99L * relu.m1, 0.99L * 0.99L * relu.m2};
      return true;
    }
    case ActivationId::abs: {
      const Expected relu = relu_moments(mean, sd);
      out = {2 * relu.m0 - mean, 2 * relu.m1 - sd, 4 * relu.m2};
      return true;
    }
    case ActivationId::hardtanh: {
      const Expected up = relu_moments(mean + 1, sd), down = relu_moments(mean - 1, sd);
      out = {up.m0 - down.m0 - 1, up.m1 - down.m1, -1};
      return true;
    }
    case ActivationId::sign: {
      const Real a = mean / sd, miss = std::erfc(std::abs(a) / std::sqrt(2.0L)), pdf = density(a);
      out = {std::copysign(1 - miss, a), 2 * pdf, miss * (2 - miss) - 4 * pdf * pdf};
      return true;
    }
    case ActivationId::hermite1:
    case ActivationId::hermite2:
    case ActivationId::hermite3:
    case ActivationId::hermite4:
    case ActivationId::hermite5:
    case ActivationId::hermite6:
      out = hermite_moments(static_cast<int>(id) - static_cast<int>(ActivationId::hermite1) + 1,
                            mean, sd);
      return true;
    default: return false;
  }
}

/// Largest error of three moments relative to the size of the function; that of m2 as the norm of a
/// function, relative to `share` of the size too: what sigma is beyond its linear part may be a
/// small part of it.
Real error_of(const Moments& got, const Expected& want, bool second, Real share, Real floor) {
  const Real size = want.rms() + floor;
  const Real error = std::max(std::abs(got.m0 - want.m0), std::abs(got.m1 - want.m1)) / size;
  if (!second) return error;
  const Real mu2 = std::sqrt(std::max<Real>(want.m2, 0)),
             own = std::abs(std::sqrt(static_cast<Real>(got.m2)) - mu2);
  return std::max(error, own / (mu2 + share * size));
}

void test_moments(const BruteForce& brute_force) {
  const double means[] = {0, 0.37, -1, 2.2, -6.5, 17};
  constexpr int n_means = 6;
  for (int i = 0; i < n_activations; ++i) {
    const auto id = static_cast<ActivationId>(i);
    const char* name = info(id).name;
    const NamedFunction f(id);
    Real worst[2] = {0, 0};
    for (const double sd : {0.0, 0.05, 0.3, 1.0, 5.0, 20.0}) {
      MomentEvaluator evaluate;
      Expected brute[n_means];
      for (int j = 0; j < n_means; ++j) brute[j] = brute_force(f, means[j], sd);
      for (const int refinement : {0, 1}) {
        // The first rule is good to 1e-11 of f. The next one sees mu2 as well, to the rounding of
        // sigma's values.
        const Real share = refinement == 0 ? 1 : 3e-3L,
                   tolerance = refinement == 0 ? 1e-11L : 1e-12L;
        const GaussianRule rule(f.shape(), sd, std::ldexp(1.0, refinement));
        Moments together[n_means];
        evaluate(f, rule, means, sd, n_means, together);
        for (int j = 0; j < n_means; ++j) {
          const double mean = means[j];
          const Moments& got = together[j];
          Moments alone;
          evaluate(f, rule, &mean, sd, 1, &alone);
          CHECK(alone.m0 == got.m0 && alone.m1 == got.m1 && alone.m2 == got.m2, name, sd, mean);
          const Real floor =
              1e-20L * (1 + std::abs(mean) + sd);  // where a function all but vanishes
          const Expected& want = brute[j];
          const Real error = error_of(got, want, true, share, floor);
          CHECK_ABS(error, 0, tolerance, name, sd, mean, refinement, want.m0, got.m0, want.m1,
                    got.m1, want.m2, got.m2);
          worst[refinement] = std::max(worst[refinement], error);
          Expected exact;
          if (sd == 0 || !closed_form(id, mean, sd, exact)) continue;
          const bool second = exact.m2 >= 0 || info(id).growth > 0;  // rounding may leave 0 below 0
          if (!second) exact.m2 = want.m2;
          const Real exact_error = error_of(got, exact, second, share, floor);
          CHECK_ABS(exact_error, 0, tolerance, name, sd, mean, refinement, exact.m0, got.m0,
                    exact.m1, got.m1, exact.m2, got.m2);
        }
      }
    }
    std::printf("%-11s moments %8.2Lg, refined %8.2Lg\n", name, worst[0], worst[1]);
  }
}

/// The derivative's rules too: steps at the kinks of relu, abs and hardtanh; Stein's lemma E z f =
/// sd E f'.
void test_derivatives() {
  for (int i = 0; i < n_activations; ++i) {
    const auto id = static_cast<ActivationId>(i);
    if (info(id).jump) continue;
    const NamedFunction f(id), slope(id, true);
    MomentEvaluator evaluate;
    for (const double sd : {0.05, 0.3, 1.0, 5.0, 20.0})
      for (const double mean : {0.0, 0.37, -1.0, 2.2}) {
        Moments value, derivative;
        evaluate(f, GaussianRule(f.shape(), sd), &mean, sd, 1, &value);
        evaluate(slope, GaussianRule(slope.shape(), sd), &mean, sd, 1, &derivative);
        const double size = std::sqrt(value.m0 * value.m0 + value.m1 * value.m1 + value.m2);
        CHECK_ABS(value.m1, sd * derivative.m0, 2e-13 * size, info(id).name, sd, mean);
      }
  }
}

/// Means on a lattice share values of the function: the same moments as one by one, to the accuracy
/// of the rules.
void test_lattice() {
  constexpr Index n = 21;
  for (int i = 0; i < n_activations; ++i) {
    const auto id = static_cast<ActivationId>(i);
    const NamedFunction f(id);
    MomentEvaluator evaluate;
    for (const double sd : {0.3, 1.0, 2.5}) {
      const GaussianRule rule(f.shape(), sd, 2);
      if (!rule.shared()) continue;
      for (const double spacing : {0.0, 1e-300, 1e-20, 0.004, 0.05, 0.17, 0.6, 1.3, 60.0})
        for (const double side : {1.0, -1.0})
          for (const Index first : {0, 3}) {
            Moments got[n], want[n];
            evaluate.on_lattice(f, rule, spacing, first, side, sd, n, got);
            for (Index j = 0; j < n; ++j) {
              const double mean = side * (static_cast<double>(first + j) + 0.5) * spacing;
              evaluate(f, rule, &mean, sd, 1, &want[j]);
              const double size =
                  std::sqrt(want[j].m0 * want[j].m0 + want[j].m1 * want[j].m1 + want[j].m2);
              const double tolerance = 1e-12 * size + 1e-15 * (1 + std::abs(mean));
              CHECK_ABS(got[j].m0, want[j].m0, tolerance, info(id).name, sd, mean);
              CHECK_ABS(got[j].m1, want[j].m1, tolerance, info(id).name, sd, mean);
              CHECK_ABS(std::sqrt(got[j].m2), std::sqrt(want[j].m2), 3 * tolerance, info(id).name,
                        sd, mean);
            }
          }
    }
  }
}

/// At a jump the rule must split: a node on the wrong side costs a whole weight.
void test_jumps() {
  const NamedFunction sign(ActivationId::sign);
  MomentEvaluator evaluate;
  for (const double sd : {0.05, 0.3, 1.0, 5.0, 20.0}) {
    const GaussianRule rule(sign.shape(), sd);
    for (int j = -400; j <= 400; ++j) {
      const double mean = 0.0217 * j * sd;
      Moments m;
      evaluate(sign, rule, &mean, sd, 1, &m);
      const Real a = static_cast<Real>(mean) / sd;
      CHECK_ABS(m.m0, std::erf(a / std::sqrt(2.0L)), 2e-15, sd, mean);
      CHECK_ABS(m.m1, 2 * density(a), 2e-15, sd, mean);
    }
  }
}

// --- the rules themselves ---
void test_rules() {
  for (int i = 0; i < n_activations; ++i) {
    const Shape shape = shape_of(static_cast<ActivationId>(i));
    for (const double sd : {0.05, 0.3, 1.0, 5.0, 20.0}) {
      Index before = 0;
      for (int refinement = 0; refinement < 3; ++refinement) {
        const GaussianRule rule(shape, sd, std::ldexp(1.0, refinement));
        Rule own;
        rule.at(0.7, own);
        own.finish();
        const Rule& nodes = rule.shared() ? rule.nodes() : own;
        if (!rule.shared()) CHECK(nodes.size() % 8 == 0, i, sd, refinement);
        CHECK(nodes.size() > before, i, sd, refinement);
        before = nodes.size();
        Real moment[9] = {};
        for (Index j = 0; j < nodes.size(); ++j) {
          CHECK(nodes.w[j] >= 0, i, sd, j);
          for (int power = 0; power <= 8; ++power)
            moment[power] +=
                static_cast<Real>(nodes.w[j]) * std::pow(static_cast<Real>(nodes.x[j]), power);
        }
        const Real want[9] = {1, 0, 1, 0, 3, 0, 15, 0, 105};
        for (int power = 0; power <= (refinement == 0 ? 2 : 8); ++power)
          CHECK_ABS(moment[power], want[power], 1e-13 * std::max<Real>(1, want[power]), i, sd,
                    refinement, power);
      }
    }
  }
}

/// Averaged over k the coefficients give back one Gaussian of variance r^2 + c, and the target one
/// of variance 1.
void test_coefficients(const BruteForce& brute_force) {
  const ActivationId pairs[][2] = {
      {ActivationId::tanh, ActivationId::sin},     {ActivationId::relu, ActivationId::tanh},
      {ActivationId::sign, ActivationId::relu},    {ActivationId::cos, ActivationId::sigmoid},
      {ActivationId::gelu, ActivationId::sign},    {ActivationId::hardtanh, ActivationId::hermite3},
      {ActivationId::abs, ActivationId::hermite2}, {ActivationId::softplus, ActivationId::cos}};
  const SpikeParameters all[] = {
      {0, 1, 0.5}, {0.9, 1, 1}, {-1.4, 0.5, 0.9}, {4, 2, -0.3}, {3, 0.0225, 0.999}};
  for (const auto& pair : pairs)
    for (const SpikeParameters& p : all) {
      const NamedFunction sigma(pair[0]), target(pair[1]);
      CoefficientScratch scratch;
      Coefficients coefficients(sigma, target, p, scratch);
      const char *s = info(pair[0]).name, *t = info(pair[1]).name;
      CHECK(coefficients.error() < 1e-12, s, t, p.r, p.c, p.gamma, coefficients.error());
      LevelTable table(coefficients);
      Real mean = 0, square = 0, slope = 0, target_square = 0, target_mean = 0;
      for (const Node& node : table.less_dense().nodes) {
        const Real w = node.weight;
        mean += w * node.mu0, slope += w * node.kmu1,
            square += w * (static_cast<Real>(node.mu0) * node.mu0 + node.u1 + node.u2);
        target_square += w * node.hh, target_mean += w * node.h;
      }
      const double spread = std::sqrt(p.r * p.r + p.c);
      const Expected want = brute_force(sigma, 0, spread), want_target = brute_force(target, 0, 1);
      const Real size = want.rms(), target_size = want_target.rms();
      CHECK_REL(square, size * size, 1e-12, s, t, p.r, p.c, p.gamma);
      CHECK_REL(target_square, target_size * target_size, 1e-12, s, t, p.r, p.c, p.gamma);
      if (info(pair[0]).parity != Parity::odd) {  // folded sums hold the parts of sigma's parity
        CHECK_ABS(mean, want.m0, 1e-12 * size, s, t, p.r, p.c, p.gamma);
        CHECK_ABS(target_mean, want_target.m0, 1e-12 * target_size, s, t, p.r, p.c, p.gamma);
      }
      if (info(pair[0]).parity == Parity::none) {
        // E k z f(r k + sqrt(c) z) = (r sqrt(c)/s^2) E He_2(y) f(s y) = r sqrt(c)/s E y f'(s y)
        const Expected derivative = brute_force(NamedFunction(pair[0], true), 0, spread);
        CHECK_ABS(slope, p.r * p.sd() / spread * derivative.m1, 1e-12 * size, s, t, p.r, p.c,
                  p.gamma);
      }
    }
}

}  // namespace

int main() {
  const BruteForce brute_force;
  test_gauss_legendre();
  test_normal_density();
  test_rules();
  test_moments(brute_force);
  test_derivatives();
  test_lattice();
  test_jumps();
  test_coefficients(brute_force);
  return srfx::test::report();
}
