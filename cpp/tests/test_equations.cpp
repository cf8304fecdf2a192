// The equations of one point: spectral averages against the Marchenko-Pastur density, derivatives
// against the complex step, the balanced system and the linear part against the plain formulas in
// long double, lanes against each other.
#include <complex>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "srfx/data/levels.hpp"
#include "srfx/gaussian/named.hpp"
#include "srfx/solve/scan.hpp"

namespace {

using namespace srfx;
using Real = long double;
using Complex = std::complex<Real>;
constexpr Real pi = 3.14159265358979323846264338327950288L;

// --- Marchenko-Pastur ---
/// The eigenvalues of W0 W0^T, |1 + sqrt(beta) e^(i phi)|^2 = (1 - sqrt beta)^2 + 4 sqrt(beta)
/// sin(psi/2)^2 with density (2/pi) sin(psi)^2/x in psi = pi - phi, on panels of log psi: however
/// close to 0 an average looks, some panel is there.
struct Spectrum {
  std::vector<Real> x, w;
  Real at_zero;
  explicit Spectrum(Real beta) : at_zero(beta > 1 ? (beta - 1) / beta : 0) {
    const GaussLegendre& gl = GaussLegendre::order(16);
    const Real root = std::sqrt(beta), edge = (1 - beta) / (1 + root), top = std::log(pi),
               width = 0.4L;
    for (int panel = 0; panel < 200; ++panel)
      for (int i = 0; i < 16; ++i) {
        const Real psi = std::exp(top - width * (panel + (1 - static_cast<Real>(gl.x[i])) / 2));
        const Real half = std::sin(psi / 2), sine = std::sin(psi),
                   value = edge * edge + 4 * root * half * half;
        x.push_back(value);
        w.push_back(static_cast<Real>(gl.w[i]) * width / 2 * psi * 2 / pi * sine * sine / value);
      }
  }
  SpectralAverages<Real> averages(Real a, Real b) const {
    SpectralAverages<Real> out{0, 0, 0, 0, 0, 0};
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Real s = 1 / (a + b * x[i]), ws = w[i] * s;
      out.y1 += ws * x[i], out.y2 += ws;
      out.t11 += ws * s * x[i] * x[i], out.t12 += ws * s * x[i], out.t22 += ws * s;
    }
    if (at_zero > 0) out.y2 += at_zero / a, out.t22 += at_zero / (a * a);
    return out;
  }
};

void test_marchenko_pastur() {
  const MarchenkoPastur bulk;
  Real worst = 0;
  for (const double beta :
       {1e-3, 0.03, 0.4, 0.97, 1 - 1e-9, 1.0, 1 + 1e-6, 1.05, 2.0, 7.0, 100.0, 1e3}) {
    const Spectrum spectrum(beta);
    const SpectralAverages<Real> unit = spectrum.averages(1, 0);
    CHECK_REL(unit.y2, 1, 1e-15, beta);
    CHECK_REL(unit.y1, 1, 1e-15, beta);
    CHECK_REL(unit.t11, 1 + static_cast<Real>(beta), 1e-15, beta);
    for (int i = -10; i <= 10; ++i) {
      for (const double b : {1e-6, 0.7, 2.5e8}) {
        const double a = b * std::pow(10.0, 2 * i);  // from 1e-20 b to 1e20 b
        const SpectralAverages<Real> want = spectrum.averages(a, b);
        const SpectralAverages<double> got = bulk.averages(a, b, beta);
        const Real errors[] = {
            test::relative_error(got.y1, want.y1), test::relative_error(got.y2, want.y2),
            test::relative_error(got.t11, want.t11), test::relative_error(got.t12, want.t12),
            test::relative_error(got.t22, want.t22)};
        for (int q = 0; q < 5; ++q) {
          CHECK_ABS(errors[q], 0, 2e-14, q, a, b, beta);
          worst = std::max(worst, errors[q]);
        }
        const Real centred =
            want.t11 - static_cast<Real>(beta) * want.y1 * want.y1;  // cancels, in long double
        CHECK_ABS(got.t11c, centred, 2e-14 * centred + 3e-17 * want.t11, a, b, beta);
        CHECK(got.t11c > 0, a, b, beta);
      }
    }
    // A = 0 (beta < 1: no eigenvalue is zero) and B = 0.
    const double a = 0.37;
    const SpectralAverages<double> flat = bulk.averages(a, 0.0, beta);
    CHECK_REL(flat.y1, 1 / a, 1e-15, beta);
    CHECK_REL(flat.y2, 1 / a, 1e-15, beta);
    CHECK_REL(flat.t11, (1 + beta) / (a * a), 1e-15, beta);
    CHECK_REL(flat.t12, 1 / (a * a), 1e-15, beta);
    CHECK_REL(flat.t22, 1 / (a * a), 1e-15, beta);
    CHECK_REL(flat.t11c, 1 / (a * a), 1e-15, beta);
    if (beta >= 1) continue;
    const SpectralAverages<double> bare = bulk.averages(0.0, a, beta);
    const Real gap = 1 - static_cast<Real>(beta);
    CHECK_REL(bare.y1, 1 / a, 1e-14, beta);
    CHECK_REL(bare.y2, 1 / (a * gap), 1e-14, beta);
    CHECK_REL(bare.t11, 1 / (static_cast<Real>(a) * a), 1e-14, beta);
    CHECK_REL(bare.t12, 1 / (static_cast<Real>(a) * a * gap), 1e-14, beta);
    CHECK_REL(bare.t22, 1 / (static_cast<Real>(a) * a * gap * gap * gap), 1e-14, beta);
  }
  std::printf("Marchenko-Pastur averages: %.2Lg\n", worst);
}

// --- derivatives by the complex step ---
/// The averages next to the positive axis, on the branch that continues theirs: also for A + B (1 -
/// beta) < 0.
struct ComplexBulk {
  template <class V> SpectralAverages<V> averages(V a, V b, V beta) const {
    const V shift = a + b * (V(1) - beta), product = a * b * beta,
            q = std::sqrt(shift * shift + V(4) * product);
    const V g = std::real(shift) > 0 ? V(2) / (shift + q) : (q - shift) / (V(2) * product);
    return {g / (V(1) + beta * b * g), g, V(0), V(0), V(0), V(0)};
  }
};

struct Case {
  ActivationId sigma, target;
  SpikeParameters spike;
};
const Case cases[] = {{ActivationId::tanh, ActivationId::sin, {0.9, 1, 0.8}},
                      {ActivationId::relu, ActivationId::tanh, {1.3, 0.7, -0.5}},
                      {ActivationId::softplus, ActivationId::hermite2, {0.2, 1.5, 1}},
                      {ActivationId::cos, ActivationId::cos, {0.6, 1, 0.9}}};

NodeSet nodes_of(const Case& c) {
  const NamedFunction sigma(c.sigma), target(c.target);
  CoefficientScratch scratch;
  Coefficients coefficients(sigma, target, c.spike, scratch);
  NodeSet set =
      LevelTable(coefficients).starter();  // any rule will do: its sums are exact to themselves
  // The weights sum to one to the last digit of a long double, whose formulas know nothing of
  // NodeSet's promise: the threshold hangs on it.
  for (int pass = 0; pass < 4; ++pass) {
    Real excess = -1;
    for (const Node& node : set.nodes) excess += node.weight;
    Node* smallest = nullptr;  // that can give it
    for (Node& node : set.nodes)
      if (node.weight > 1e3L * std::abs(excess) &&
          (smallest == nullptr || node.weight < smallest->weight))
        smallest = &node;
    smallest->weight -= static_cast<double>(excess);
  }
  return set;
}

template <class V, class S>
Point<V> point(S alpha, S beta, S lam, S noise = S(0), S inverse_d = S(0), S unit = S(1)) {
  return {V(alpha), V(beta), V(lam), V(noise), V(inverse_d), V(unit), V(alpha) / V(beta)};
}

template <class T> void test_derivatives(T tolerance) {
  using C = std::complex<T>;
  const T h = T(1e-30);
  for (const double beta : {0.05, 0.9, 1.0, 1.3, 40.0})
    for (const double a : {1e-4, 0.3, 20.0})
      for (const double b : {1e-3, 0.6, 50.0}) {
        const SpectralAverages<T> t = MarchenkoPastur{}.averages(T(a), T(b), T(beta));
        const auto compare = [&](const SpectralAverages<C>& along_a,
                                 const SpectralAverages<C>& along_b, const char* which) {
          CHECK_REL(-std::imag(along_b.y1) / h, t.t11, tolerance, which, a, b, beta);
          // Differences of terms y/a, y/b where an atom at 0 rules y2.
          CHECK_ABS(-std::imag(along_a.y1) / h, t.t12, tolerance * (t.t12 + t.y1 / T(a)), which, a,
                    b, beta);
          CHECK_ABS(-std::imag(along_b.y2) / h, t.t12, tolerance * (t.t12 + t.y2 / T(b)), which, a,
                    b, beta);
          CHECK_REL(-std::imag(along_a.y2) / h, t.t22, tolerance, which, a, b, beta);
        };
        const C up_a(T(a), h), up_b(T(b), h);
        if (a + b * (1 - beta) > 0)
          compare(MarchenkoPastur{}.averages(up_a, C(T(b)), C(T(beta))),
                  MarchenkoPastur{}.averages(C(T(a)), up_b, C(T(beta))), "core");
        compare(ComplexBulk{}.averages(up_a, C(T(b)), C(T(beta))),
                ComplexBulk{}.averages(C(T(a)), up_b, C(T(beta))), "branch");
      }
  for (const Case& c : cases) {
    const NodeSet set = nodes_of(c);
    for (const double beta : {0.2, 1.0, 5.0})
      for (const double lam : {1e-3, 1.0})
        for (const double unit : {0.0, 1.0})
          for (const double v1 : {0.01, 0.8, 30.0}) {
            const double alpha = 1.7, v2 = 1.1 * v1 + 0.1;
            const Point<T> p = point<T>(alpha, beta, lam, 0.0, 0.0, unit);
            const Point<C> pc = point<C>(alpha, beta, lam, 0.0, 0.0, unit);
            const MapSums<T> sums = map_sums(set, p.unit, T(v1), T(v2));
            const MapValue<T> map = map_value(MarchenkoPastur{}, p, sums);
            const MapSums<C> s1 = map_sums(set, pc.unit, C(T(v1), h), C(T(v2))),
                             s2 = map_sums(set, pc.unit, C(T(v1)), C(T(v2), h));
            CHECK_REL(-std::imag(s1.e1) / h, sums.e11, tolerance, beta, lam, unit, v1);
            CHECK_REL(-std::imag(s1.e2) / h, sums.e12, tolerance, beta, lam, unit, v1);
            CHECK_REL(-std::imag(s2.e2) / h, sums.e22, tolerance, beta, lam, unit, v1);
            const MapValue<C> m1 = map_value(ComplexBulk{}, pc, s1),
                              m2 = map_value(ComplexBulk{}, pc, s2);
            CHECK_ABS(map.j11, 1 - std::imag(m1.bulk.y1) / h, tolerance, beta, lam, unit, v1);
            CHECK_REL(map.j12, -std::imag(m2.bulk.y1) / h, tolerance, beta, lam, unit, v1);
            CHECK_REL(map.j21, -std::imag(m1.bulk.y2) / h, tolerance, beta, lam, unit, v1);
            CHECK_ABS(map.j22, 1 - std::imag(m2.bulk.y2) / h, tolerance, beta, lam, unit, v1);
            T x1, x2;
            map.solve(T(0.3), T(-2), x1, x2);
            CHECK_ABS(map.j11 * x1 + map.j12 * x2, T(0.3),
                      100 * tolerance * (std::abs(map.j11 * x1) + 1), beta, lam, unit, v1);
            CHECK_ABS(map.j21 * x1 + map.j22 * x2, T(-2),
                      100 * tolerance * (std::abs(map.j22 * x2) + 1), beta, lam, unit, v1);
          }
  }
}

// --- the balanced system, and the linear part, against the plain formulas ---
template <class T> BalancedSystem<T> balanced(const Point<T>& p, const NodeSet& set, T v1, T v2) {
  const Averages<T> s = averages_at(set, p.unit, v1, v2, [](auto&&...) {});
  return {p, map_value(MarchenkoPastur{}, p, s), v1, v2, s};
}

struct Plain {
  Real test_error, train_error, psi, q1, q2, energy_defect, energy_size, stationary_m,
      stationary_theta;
};
/// THEORY section 4, in its order and without any care for cancellation.
Plain plain_linear_part(const Point<Real>& p, const NodeSet& set, const MapValue<Real>& map,
                        Real v1, Real v2, Real m, Real theta) {
  const SpectralAverages<Real>& t = map.bulk;
  Real psi_hat = 0, theta_hat = 0, n1 = 0, n2 = 0, pull_m = 0, pull_theta = 0;
  const auto each = [&](auto body) {
    for (const Node& n : set.nodes)
      body(n, static_cast<Real>(n.weight), 1 / (p.unit + n.u1 * v1 + n.u2 * v2),
           static_cast<Real>(n.mu0) * m + static_cast<Real>(n.kmu1) * theta);
  };
  each([&](const Node& n, Real weight, Real w, Real c) {
    psi_hat += p.ratio * weight * w * n.mu1h1;
    theta_hat += p.ratio * weight * w * n.kmu1 * (n.h - c);
    pull_m += weight * w * n.mu0 * (n.h - c), pull_theta += weight * w * n.kmu1 * (n.h - c);
  });
  Plain out{};
  out.psi = p.beta * t.y1 * psi_hat;
  out.stationary_m = pull_m - m * p.inverse_d / (p.alpha * t.y2);
  out.stationary_theta = pull_theta - theta / (p.alpha * t.y2);
  const auto r0 = [&](const Node& n, Real c) {
    return n.hh + p.noise + c * c - 2 * c * n.h - 2 * out.psi * n.mu1h1;
  };
  each([&](const Node& n, Real weight, Real w, Real c) {
    n1 += p.ratio * weight * w * w * n.u1 * r0(n, c),
        n2 += p.ratio * weight * w * w * n.u2 * r0(n, c);
  });
  n1 += p.beta * psi_hat * psi_hat;
  n2 += p.beta * theta_hat * theta_hat + m * m * p.inverse_d / (p.beta * t.y2 * t.y2);
  map.solve(t.t11 * n1 + t.t12 * n2, t.t12 * n1 + t.t22 * n2, out.q1, out.q2);
  Real energy = 0;
  each([&](const Node& n, Real weight, Real w, Real c) {
    const Real r = r0(n, c) + n.u1 * out.q1 + n.u2 * out.q2;
    out.test_error += weight * r, out.train_error += p.unit * weight * w * w * r;
    energy += weight * w * (n.hh + p.noise - c * n.h - n.mu1h1 * out.psi),
        out.energy_size += weight * w * (n.hh + p.noise);
  });
  out.test_error -= p.noise;
  out.energy_defect = out.train_error + p.lam / p.ratio * out.q2 - energy;
  return out;
}

void test_linear_algebra() {
  Real worst_system = 0, worst_order = 0, worst_energy = 0;
  for (const Case& c : cases) {
    const NodeSet set = nodes_of(c);
    std::vector<Real> weights(set.size());
    std::vector<double> weights_double(set.size());
    for (const double beta : {0.3, 1.0, 6.0})
      for (const double ratio : {0.1, 1 - 1e-5, 1.0, 1 + 1e-7, 1.5, 30.0})
        for (const double lam : {1e-10, 1e-4, 0.2, 100.0})
          for (const double inverse_d : {0.0, 0.002}) {
            const double alpha = ratio * beta, noise = 0.05;
            Point<Real> p = point<Real>(alpha, beta, lam, noise, inverse_d);
            const Point<double> q = point<double>(alpha, beta, lam, noise, inverse_d);
            p.ratio = q.ratio;  // its rounding is amplified like every input's
            const char* name = info(c.sigma).name;
            const NewtonResult<Real> v =
                newton(MarchenkoPastur{}, p, set, 1 / p.lam, 1 / p.lam, {200, 1e-18});
            const Order<Real> order =
                linear_part(MarchenkoPastur{}, p, set, v.v1, v.v2, weights.data());
            CHECK(order.residual < 1e-14, order.residual, name, beta, ratio, lam, inverse_d);
            const MapValue<Real> map =
                map_value(MarchenkoPastur{}, p, map_sums(set, p.unit, order.v1, order.v2));
            const double v1 = static_cast<double>(order.v1), v2 = static_cast<double>(order.v2);

            // 1. I - T M at the fixed point, and its inverse. 1 - .. loses the digits of 1e-19/j11
            // even in long double.
            const BalancedSystem<double> system = balanced(q, set, v1, v2);
            const auto slack = [](Real j) { return 3e-14L + 2e-17L / std::abs(j); };
            const Real determinant_slack =
                3e-14L +
                2e-17L * (std::abs(map.j11) + std::abs(map.j22) + 1) / std::abs(map.determinant);
            CHECK_REL(system.j11, map.j11, slack(map.j11), name, beta, ratio, lam);
            CHECK_REL(system.j22, map.j22, slack(map.j22), name, beta, ratio, lam);
            CHECK_REL(-system.o12, map.j12, 3e-14, name, beta, ratio, lam);
            CHECK_REL(-system.o21, map.j21, 3e-14, name, beta, ratio, lam);
            CHECK_REL(1 / system.inverse, map.determinant, determinant_slack, name, beta, ratio,
                      lam);
            worst_system =
                std::max(worst_system, test::relative_error(1 / system.inverse, map.determinant));
            Real x1, x2;
            double y1, y2;
            map.solve(0.3L, 2, x1, x2);
            system.solve(0.3, 2, y1, y2);
            CHECK_REL(y1, x1, 4 * determinant_slack, name, beta, ratio, lam);
            CHECK_REL(y2, x2, 4 * determinant_slack, name, beta, ratio, lam);

            // 2. Its step: nothing at the fixed point but rounding, and back to it from beside it.
            CHECK(std::abs(system.step1) <= 2e-14 * std::max(1.0, system.amplification) * v1, name,
                  beta, ratio, lam, system.step1 / v1, system.amplification);
            CHECK(std::abs(system.step2) <= 2e-14 * std::max(1.0, system.amplification) * v2, name,
                  beta, ratio, lam, system.step2 / v2, system.amplification);
            for (const double off : {3e-7, -3e-7}) {
              const double w1 = v1 * (1 + off), w2 = v2 * (1 - 0.4 * off);
              const BalancedSystem<double> beside = balanced(q, set, w1, w2);
              const Real left1 = (w1 + beside.step1 - order.v1) / order.v1,
                         left2 = (w2 + beside.step2 - order.v2) / order.v2;
              const Real bound =
                  2e-14L * std::max(1.0, system.amplification) + 1e-4L * std::abs(off);
              CHECK_ABS(left1, 0, bound, name, beta, ratio, lam, off);
              CHECK_ABS(left2, 0, bound, name, beta, ratio, lam, off);
            }

            // 3. The linear part: stationary, energy conserved, equal to the plain formulas; double
            // near long double.
            const Plain plain =
                plain_linear_part(p, set, map, order.v1, order.v2, order.m, order.theta);
            const Real cancel = 1e-17L / std::abs(map.determinant);
            CHECK_ABS(plain.stationary_m, 0, 1e-15, name, beta, ratio, lam, inverse_d);
            CHECK_ABS(plain.stationary_theta, 0, 1e-15, name, beta, ratio, lam, inverse_d);
            CHECK_ABS(plain.energy_defect / plain.energy_size, 0, 1e-15L + 10 * cancel, name, beta,
                      ratio, lam, inverse_d);
            worst_energy =
                std::max(worst_energy, std::abs(plain.energy_defect / plain.energy_size));
            CHECK_REL(order.psi, plain.psi, 1e-15, name, beta, ratio, lam, inverse_d);
            const Real tolerance = 1e-13L + 100 * cancel;
            CHECK_REL(order.q1, plain.q1, tolerance, name, beta, ratio, lam, inverse_d);
            CHECK_REL(order.q2, plain.q2, tolerance, name, beta, ratio, lam, inverse_d);
            CHECK_REL(order.test_error, plain.test_error, tolerance, name, beta, ratio, lam,
                      inverse_d);
            CHECK_REL(order.train_error, plain.train_error,
                      tolerance + 1e-16L * plain.energy_size / order.train_error, name, beta, ratio,
                      lam, inverse_d);
            const Order<double> rounded =
                linear_part(MarchenkoPastur{}, q, set, v1, v2, weights_double.data());
            const Real values[][2] = {{rounded.test_error, order.test_error},
                                      {rounded.train_error, order.train_error},
                                      {rounded.q2, order.q2},
                                      {rounded.q1, order.q1}};
            for (int i = 0; i < 4; ++i) {
              const Real error = test::relative_error(values[i][0], values[i][1]);
              CHECK_ABS(error, 0, 1e-12, i, name, beta, ratio, lam, inverse_d,
                        rounded.amplification);
              worst_order = std::max(worst_order, error);
            }
            CHECK(rounded.residual < 1e-12, rounded.residual, name, beta, ratio, lam, inverse_d);
          }
  }
  std::printf("balanced determinant %.2Lg, order parameters %.2Lg, energy identity %.2Lg\n",
              worst_system, worst_order, worst_energy);
}

// --- lanes ---
template <class V>
Order<V> solve_lanes(const NodeSet& set, const double* alpha, const double* beta, const double* lam,
                     V& iterations) {
  Point<V> p{V::load(alpha), V::load(beta), V::load(lam), V(0.1), V(1e-3), V(1), V(1)};
  p.ratio = p.alpha / p.beta;
  const V start = V(1) / p.lam;
  const NewtonResult<V> v = newton(MarchenkoPastur{}, p, set, start, start);
  iterations = v.iterations;
  std::vector<V> weights(set.size());
  return linear_part(MarchenkoPastur{}, p, set, v.v1, v.v2, weights.data());
}

/// Each lane by its bits alone, whoever sits beside it and wherever it sits; the same numbers as a
/// scalar up to rounding.
template <class V> void test_lanes(const char* kind) {
  std::mt19937_64 generator(7);
  std::uniform_real_distribution<double> uniform;
  const auto log_uniform = [&](double a, double b) {
    return a * std::pow(b / a, uniform(generator));
  };
  for (const Case& c : cases) {
    const NodeSet set = nodes_of(c);
    for (int trial = 0; trial < 12; ++trial) {
      alignas(64) double alpha[V::size], beta[V::size], lam[V::size], a[V::size], b[V::size],
          l[V::size];
      for (int i = 0; i < V::size; ++i) {
        alpha[i] = log_uniform(1e-2, 1e2), beta[i] = i % 3 == 0 ? alpha[i] : log_uniform(1e-2, 1e2),
        lam[i] = log_uniform(1e-12, 10);
      }
      V iterations, others;
      const Order<V> all = solve_lanes<V>(set, alpha, beta, lam, iterations);
      const int chosen = trial % V::size, to = (5 * trial + 3) % V::size;
      for (int company = 0; company < 2;
           ++company) {  // alone, or among strangers elsewhere in the pack
        for (int i = 0; i < V::size; ++i) {
          const bool same = company == 0 || i == to;
          a[i] = same ? alpha[chosen] : log_uniform(1e-2, 1e2),
          b[i] = same ? beta[chosen] : log_uniform(1e-2, 1e2);
          l[i] = same ? lam[chosen] : log_uniform(1e-12, 10);
        }
        const Order<V> again = solve_lanes<V>(set, a, b, l, others);
        const Order<double> x = detail::lane(all, chosen), y = detail::lane(again, to);
        CHECK(std::memcmp(&x, &y, sizeof x) == 0, kind, company, trial, alpha[chosen], beta[chosen],
              lam[chosen], x.v1, y.v1, x.residual, y.residual);
        CHECK(iterations[chosen] == others[to], kind, company, trial, iterations[chosen],
              others[to]);
      }
      const Point<double> p = point<double>(alpha[chosen], beta[chosen], lam[chosen], 0.1, 1e-3);
      std::vector<double> weights(set.size());
      const NewtonResult<double> v = newton(MarchenkoPastur{}, p, set, 1 / p.lam, 1 / p.lam);
      const Order<double> scalar =
                              linear_part(MarchenkoPastur{}, p, set, v.v1, v.v2, weights.data()),
                          lane = detail::lane(all, chosen);
      const double tolerance = 1e-13 * std::max(10.0, scalar.amplification);
      CHECK_REL(lane.v1, scalar.v1, tolerance, kind, p.alpha, p.beta, p.lam);
      CHECK_REL(lane.v2, scalar.v2, tolerance, kind, p.alpha, p.beta, p.lam);
      CHECK_REL(lane.test_error, scalar.test_error, tolerance, kind, p.alpha, p.beta, p.lam);
      CHECK_REL(lane.train_error, scalar.train_error, tolerance, kind, p.alpha, p.beta, p.lam);
    }
  }
}

/// The iteration in twin packs against the same points in packs.
void test_twins() {
  for (const Case& c : cases) {
    const NodeSet set = nodes_of(c);
    alignas(64) double alpha[16], beta[16], lam[16];
    for (int i = 0; i < 16; ++i)
      alpha[i] = 0.2 + 0.3 * i, beta[i] = 3 - 0.15 * i, lam[i] = std::pow(10.0, -9 + 0.6 * i);
    const auto solve = [&](auto kind, int offset) {
      using V = decltype(kind);
      Point<V> p{V::load(alpha + offset),
                 V::load(beta + offset),
                 V::load(lam + offset),
                 V(0),
                 V(0),
                 V(1),
                 V(1)};
      p.ratio = p.alpha / p.beta;
      return newton(MarchenkoPastur{}, p, set, V(1) / p.lam, V(1) / p.lam);
    };
    const NewtonResult<TwinPack> twin = solve(TwinPack(0), 0);
    for (int half = 0; half < 2; ++half) {
      const NewtonResult<Pack> one = solve(Pack(0), 8 * half);
      for (int i = 0; i < 8; ++i) {
        CHECK(one.converged[i] && twin.converged[8 * half + i], i, half);
        CHECK_REL(twin.v1[8 * half + i], one.v1[i], 1e-13, i, half);
        CHECK_REL(twin.v2[8 * half + i], one.v2[i], 1e-13, i, half);
        CHECK(twin.iterations[8 * half + i] == one.iterations[i], i, half);
      }
    }
  }
}

}  // namespace

int main() {
  test_marchenko_pastur();
  test_derivatives<double>(2e-13);
  test_derivatives<long double>(1e-16L);
  test_linear_algebra();
  test_lanes<Pack>("pack");
  test_lanes<simd::Lanes<double, 4>>("lanes of 4");
  test_twins();
  return srfx::test::report();
}
