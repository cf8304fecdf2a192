// The search for optima: its parts on functions whose minima are known, the whole against the
// errors it minimises.

#include <cstring>
#include <random>
#include <vector>

#include "check.hpp"
#include "srfx/gaussian/named.hpp"
#include "srfx/solve/optimum.hpp"

namespace {

using namespace srfx;
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

/// Follows f from a node; how many evaluations it took.
template <class F> int descend(Descent& descent, F&& f) {
  int n = 0;
  while (!descent.done()) {
    const auto [value, slope] = f(descent.at());
    descent.seen(value, slope);
    ++n;
  }
  return n;
}

void test_axis() {
  const SearchAxis axis{1e-6, 1e2, true, 33};
  CHECK(axis.value(axis.y(0)) == 1e-6);
  CHECK(axis.value(axis.y(32)) == 1e2);
  CHECK(axis.value(axis.y(0) - 1) == 1e-6);
  for (int i = 0; i < 33; ++i)
    CHECK_REL(axis.value(axis.y(i)), 1e-6 * std::pow(1e8, i / 32.0), 1e-13, i);
  const SearchAxis flat{-3, 5, false, 5};
  CHECK(flat.value(flat.y(2)) == 1);
  CHECK(flat.slope(2.5) == 1);
  CHECK(axis.slope(2.5) == 2.5);
}

void test_local_minima() {
  const double two[] = {3, 1, 2, 0, 5};
  LocalMinima found = local_minima(two, 5, 1, false);
  CHECK(found.count == 2 && found.kept == 2 && found.node[0] == 3 && found.node[1] == 1,
        found.count);
  const double ends[] = {1, 2, 3, 0.5};
  found = local_minima(ends, 4, 1, false);
  CHECK(found.count == 2 && found.node[0] == 3 && found.node[1] == 0, found.count);
  CHECK(local_minima(ends, 4, 1, true).count == 0);
  const double plateau[] = {2, 1, 1 + 1e-14, 1 - 1e-14, 1, 2};
  found = local_minima(plateau, 6, 1, false);
  CHECK(found.count == 1 && found.node[0] == 3, found.count, found.node[0]);
  const double walls[] = {infinity, infinity, 2, 3, infinity, 1, infinity};
  found = local_minima(walls, 7, 1, false);
  CHECK(found.count == 2 && found.node[0] == 5 && found.node[1] == 2, found.count);
  const double none[] = {infinity, infinity};
  CHECK(local_minima(none, 2, 1, false).kept == 0);
  // The three lowest of five, with a stride.
  const double many[] = {5, 9, 9, 9, 3, 9, 9, 9, 4, 9, 9, 9, 1, 9, 9, 9, 2, 9};
  found = local_minima(many, 9, 2, false);
  CHECK(found.count == 5 && found.kept == 3, found.count);
  CHECK(found.node[0] == 6 && found.node[1] == 8 && found.node[2] == 2, found.node[0],
        found.node[1], found.node[2]);
}

void test_descent() {
  // From every node of a grid to the minimum of a skew well; few evaluations.
  const SearchAxis axis{-4, 6, false, 21};
  const auto well = [](double y) {
    return std::make_pair(std::exp(0.3 * y) + std::exp(-y), 0.3 * std::exp(0.3 * y) - std::exp(-y));
  };
  const double bottom = -std::log(0.3) / 1.3;
  for (int node = 0; node < 21; ++node) {
    Descent descent(axis, node);
    const int n = descend(descent, well);
    CHECK(descent.converged() && !descent.at_bound(), node);
    CHECK_ABS(descent.at(), bottom, 1e-10, node);
    if (std::abs(axis.y(node) - bottom) < 0.5) CHECK(n <= 8, node, n);
  }
  // Bounds.
  for (const double side : {-1.0, 1.0}) {
    Descent descent(axis, 10);
    descend(descent, [&](double y) { return std::make_pair(side * y, side); });
    CHECK(descent.converged() && descent.at_bound(), side);
    CHECK(descent.at() == (side > 0 ? -4 : 6), side, descent.at());
  }
  // A slope that is all there is: values level to the last digit.
  Descent slight(axis, 20);
  descend(slight, [](double y) { return std::make_pair(1.0, 1e-14 * (y - 0.123)); });
  CHECK(slight.converged());
  CHECK_ABS(slight.at(), 0.123, 1e-9);
  // A hill inside the cell: from 0.5 downhill to a minimum at 0.6, with a maximum at 0.8 before the
  // node at 1.
  const SearchAxis wide{0, 2, false, 3};
  Descent hill(wide, 0);
  const auto wave = [](double y) {
    return std::make_pair(std::cos(10 * y) - 0.2 * y, -10 * std::sin(10 * y) - 0.2);
  };
  descend(hill, wave);
  CHECK(hill.converged() && !hill.at_bound());
  CHECK_ABS(wave(hill.at()).second, 0, 1e-7, hill.at());
  CHECK(wave(hill.at() + 0.01).second > 0, hill.at());
  // What cannot be evaluated ends the search.
  Descent lost(axis, 3);
  int calls = 0;
  descend(lost, [&](double y) { return std::make_pair(y * y, ++calls > 2 ? nan_value : 2 * y); });
  CHECK(lost.done() && !lost.converged());
}

void test_map() {
  CoefficientMap map;
  map.step = true, map.readout = -0.7, map.h1 = 0.6, map.curved = 0.3, map.tilt = 0.2,
  map.rest = 0.9, map.target_h1 = 0.5;
  for (const CoefficientMap::Own& own :
       {CoefficientMap::Own{1.3, 0.8, 0.1}, CoefficientMap::Own{4, 20, 0}}) {
    for (int which = 0; which < 2; ++which) {
      const double h = 1e-4 * own[which];
      CoefficientMap::Own up = own, down = own;
      up[which] += h, down[which] -= h;
      const SpikeParameters a = map.at(down), b = map.at(up), slope = map.along(own, which);
      CHECK_ABS(slope.r, (b.r - a.r) / (2 * h), 1e-7, which);
      CHECK_ABS(slope.c, (b.c - a.c) / (2 * h), 1e-7, which);
      CHECK_ABS(slope.gamma, (b.gamma - a.gamma) / (2 * h), 1e-7, which);
    }
  }
  const SpikeParameters none = map.at({2, 0, 0.1}), all = map.at({2, infinity, 0.1});
  CHECK(none.r == 0 && none.c == 1 && none.gamma == 0);
  CHECK_REL(all.r, -0.7 * 2 * 0.6 * 0.5, 1e-15);
  CHECK(all.gamma == 1);
}

/// Parameter sets, and a search.
struct Problem {
  NamedFunction sigma, target;
  std::vector<std::int64_t> set;
  std::vector<double> alpha, beta, lam, noise, inverse_d;
  OptimumInput in;
  std::vector<double> line, first, second;
  std::vector<std::int8_t> status;
  std::vector<std::int32_t> n_minima, n_failed;

  Problem(ActivationId s, ActivationId t) : sigma(s), target(t) {}
  void add(std::int64_t s, double a, double b, double l, double n, double inv_d = 0) {
    set.push_back(s), alpha.push_back(a), beta.push_back(b), lam.push_back(l), noise.push_back(n),
        inverse_d.push_back(inv_d);
  }
  void search(int n_threads = 1) {
    const std::size_t n = set.size();
    in.sigma = &sigma, in.target = &target, in.set_index = set.data(), in.set_stride = 1;
    in.alpha = {alpha.data(), 1}, in.beta = {beta.data(), 1}, in.lam = {lam.data(), 1},
    in.noise = {noise.data(), 1};
    in.inverse_d = {inverse_d.data(), 1};
    in.n_points = static_cast<Index>(n), in.n_threads = n_threads;
    for (auto* values : {&line, &first, &second}) values->assign(n, nan_value);
    status.assign(n, -1), n_minima.assign(n, -1), n_failed.assign(n, -1);
    Interrupt interrupt;
    optimum_batch(MarchenkoPastur{}, in,
                  {line.data(),
                   {first.data(), second.data()},
                   status.data(),
                   n_minima.data(),
                   n_failed.data()},
                  interrupt);
  }
  /// Errors of point i at given (r, c, gamma) and many lam.
  std::vector<double> errors(std::size_t i, SpikeParameters p,
                             const std::vector<double>& at) const {
    BatchInput batch;
    const std::int64_t zero = 0;
    batch.sigma = &sigma, batch.target = &target, batch.sets = {p}, batch.set_index = &zero,
    batch.set_stride = 0;
    batch.alpha = {&alpha[i], 0}, batch.beta = {&beta[i], 0}, batch.lam = {at.data(), 1},
    batch.noise = {&noise[i], 0};
    batch.inverse_d = {&inverse_d[i], 0};
    batch.n_points = static_cast<Index>(at.size());
    std::vector<double> out(11 * at.size());
    std::vector<std::int8_t> codes(at.size());
    std::vector<std::int32_t> iterations(at.size());
    double* v = out.data();
    const auto row = [&](int q) { return v + static_cast<std::size_t>(q) * at.size(); };
    Interrupt interrupt;
    solve_batch(MarchenkoPastur{}, batch,
                {row(0), row(1), row(2), row(3), row(4), row(5), row(6), row(7), row(8), row(9),
                 row(10), codes.data(), iterations.data()},
                interrupt);
    for (std::int8_t code : codes) CHECK(code == 0, int(code));
    out.resize(at.size());
    return out;
  }
  double error(std::size_t i, SpikeParameters p, double at) const { return errors(i, p, {at})[0]; }
};

/// Where the derivative of f vanishes near y, by differences of eighth order and Newton's method.
template <class F> double stationary(F&& f, double y, double h) {
  const double first[] = {4.0 / 5, -1.0 / 5, 4.0 / 105, -1.0 / 280},
               second[] = {8.0 / 5, -1.0 / 5, 8.0 / 315, -1.0 / 560};
  for (int step = 0; step < 4; ++step) {
    double a = 0, b = 0;
    const double here = f(y);
    for (int j = 1; j <= 4; ++j) {
      const double up = f(y + j * h), down = f(y - j * h);
      a += first[j - 1] * (up - down), b += second[j - 1] * (up + down - 2 * here);
    }
    y -= h * a / b;
  }
  return y;
}

/// The best lam: a stationary point, no worse than a scan; whatever company and threads the point
/// has.
void test_lam() {
  Problem p(ActivationId::tanh, ActivationId::sin);
  p.in.sets = {{0.9, 1, 0.7}, {0, 1, 0}, {3, 1.5, 0.9}};
  p.in.has_line = true;
  p.in.line_axis = {1e-6, 1e3, true, 33};
  std::mt19937_64 random(7);
  const auto uniform = [&](double a, double b) {
    return a + (b - a) * std::uniform_real_distribution<double>()(random);
  };
  for (int i = 0; i < 60; ++i)
    p.add(i % 3, std::exp(uniform(-1.5, 2)), std::exp(uniform(-1, 1)), 0, uniform(0.05, 1),
          i % 4 == 0 ? 1e-3 : 0);
  p.search();
  std::vector<double> scan;
  for (int i = 0; i <= 400; ++i) scan.push_back(1e-6 * std::pow(1e9, i / 400.0));
  for (std::size_t i = 0; i < p.set.size(); ++i) {
    const CoefficientMap::Own own = p.in.sets[p.set[i]];
    const SpikeParameters at{own[0], own[1], own[2]};
    CHECK(p.status[i] == 0 && p.n_failed[i] == 0 && p.n_minima[i] >= 1, i, int(p.status[i]),
          p.n_minima[i]);
    const double found = p.error(i, at, p.line[i]);
    const std::vector<double> errors = p.errors(i, at, scan);
    CHECK(found <= *std::min_element(errors.begin(), errors.end()) * (1 + 1e-12), i, p.line[i]);
    if (p.line[i] == 1e-6 || p.line[i] == 1e3) continue;
    if (i % 6 == 0) {
      const double y = stationary([&](double x) { return p.error(i, at, std::exp(x)); },
                                  std::log(p.line[i]), 0.05);
      CHECK_ABS(std::log(p.line[i]), y, 1e-7, i, p.line[i]);
    }
  }
  const std::vector<double> before = p.line;
  p.search(3);
  CHECK(std::memcmp(before.data(), p.line.data(), before.size() * sizeof(double)) == 0);
  Problem alone(ActivationId::tanh, ActivationId::sin);
  alone.in = p.in;
  alone.add(p.set[17], p.alpha[17], p.beta[17], 0, p.noise[17], p.inverse_d[17]);
  alone.search();
  CHECK(alone.line[0] == before[17], alone.line[0], before[17]);
}

/// The peak at the interpolation threshold, along alpha, and none where lam is large.
void test_peak() {
  Problem p(ActivationId::tanh, ActivationId::sin);
  p.in.sets = {{0.5, 1, 0.8}};
  p.in.has_line = true, p.in.line = Direction::alpha, p.in.line_axis = {0.03, 30, true, 121};
  p.in.sign = -1, p.in.interior = true;
  p.add(0, 1, 1, 1e-8, 0.2), p.add(0, 1, 0.5, 1e-3, 0.2), p.add(0, 1, 1, 1e3, 0.2);
  p.search();
  CHECK(p.status[0] == 0 && p.status[1] == 0 && p.status[2] != 0);
  CHECK_REL(p.line[0], 1, 1e-3);
  CHECK_REL(p.line[1], 0.5, 0.1);
}

/// eta with and without lam, and eta with alpha0 and lam, against brute force.
void test_outer() {
  CoefficientMap map;
  // tanh -> sin (E tanh' etc. to a few digits: the map is what it is here)
  map.step = true, map.h1 = 0.6057, map.curved = 0.089, map.rest = 0.4323, map.target_h1 = 0.6065;
  for (const bool with_lam : {false, true}) {
    Problem p(ActivationId::tanh, ActivationId::sin);
    p.in.map = map;
    p.in.sets = {{0, 2, 0.2}, {0, 0.7, 0.1}};
    p.in.coordinates = {{0, {0.05, 20, true, 33}}};
    p.in.has_line = with_lam, p.in.line_axis = {1e-4, 1e2, true, 33};
    p.add(0, 2, 1, 0.1, 0.2), p.add(1, 0.8, 1.5, 0.3, 0.1), p.add(0, 4, 0.7, 0.02, 0.2);
    p.search();
    for (std::size_t i = 0; i < 3; ++i) {
      const CoefficientMap::Own own = p.in.sets[p.set[i]];
      const auto spike = [&](double eta) { return map.at({eta, own[1], own[2]}); };
      const double lam = with_lam ? p.line[i] : p.lam[i];
      CHECK(p.status[i] == 0 && p.n_failed[i] == 0, i);
      const double found = p.error(i, spike(p.first[i]), lam);
      std::vector<double> scan{lam};
      if (with_lam) {
        scan.clear();
        for (int j = 0; j <= 60; ++j) scan.push_back(1e-4 * std::pow(1e6, j / 60.0));
      }
      for (int j = 0; j <= 60; ++j) {
        const std::vector<double> errors = p.errors(i, spike(0.05 * std::pow(400, j / 60.0)), scan);
        CHECK(found <= *std::min_element(errors.begin(), errors.end()) * (1 + 1e-12), i, j);
      }
      if (p.first[i] > 0.05 && p.first[i] < 20) {
        const double y = stationary([&](double x) { return p.error(i, spike(std::exp(x)), lam); },
                                    std::log(p.first[i]), 0.04);
        CHECK_ABS(std::log(p.first[i]), y, 1e-6, i, p.first[i]);
      }
    }
  }
  Problem p(ActivationId::tanh, ActivationId::sin);
  p.in.map = map;
  p.in.sets = {{0, 0, 0.1}};
  p.in.coordinates = {{1, {0.1, 50, true, 9}}, {0, {0.05, 20, true, 9}}};
  p.in.has_line = true, p.in.line_axis = {1e-4, 1e2, true, 33};
  p.add(0, 2, 1, 0, 0.1);
  p.search();
  CHECK(p.status[0] == 0);
  CHECK(p.first[0] == 50, p.first[0]);  // the more samples the better
  const double found = p.error(0, map.at({p.second[0], p.first[0], 0.1}), p.line[0]);
  const double y =
      stationary([&](double x) { return p.error(0, map.at({std::exp(x), 50, 0.1}), p.line[0]); },
                 std::log(p.second[0]), 0.04);
  CHECK_ABS(std::log(p.second[0]), y, 1e-6, p.second[0]);
  const double z =
      stationary([&](double x) { return p.error(0, map.at({p.second[0], 50, 0.1}), std::exp(x)); },
                 std::log(p.line[0]), 0.04);
  CHECK_ABS(std::log(p.line[0]), z, 1e-6, p.line[0]);
  CHECK(found > 0 && found < 1, found);
}

/// Without a linear part of the target eta^2/alpha0 is all that matters: a valley, each of whose
/// points is a minimum.
void test_valley() {
  Problem p(ActivationId::tanh, ActivationId::hermite2);
  p.in.map.step = true, p.in.map.h1 = 0.6057, p.in.map.curved = 0.089, p.in.map.rest = 1;
  p.in.sets = {{0, 0, 0}};
  p.in.coordinates = {{0, {0.05, 10, true, 9}}, {1, {0.1, 50, true, 9}}};
  p.add(0, 2.2, 5.6, 0.004, 0), p.add(0, 3, 0.8, 0.5, 0), p.add(0, 0.7, 2, 0.03, 0);
  p.search();
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(p.status[i] == 0, i, int(p.status[i]), p.first[i], p.second[i]);
    const double found = p.error(i, p.in.map.at({p.first[i], p.second[i], 0}), p.lam[i]);
    for (double eta = 0.05 / std::sqrt(50.0); eta < 10 / std::sqrt(0.1); eta *= 1.02)
      CHECK(found <= p.error(i, p.in.map.at({eta, 1, 0}), p.lam[i]) * (1 + 1e-10), i, eta);
  }
}

}  // namespace

int main() {
  test_axis();
  test_local_minima();
  test_descent();
  test_map();
  test_lam();
  test_peak();
  test_outer();
  test_valley();
  return srfx::test::report();
}
