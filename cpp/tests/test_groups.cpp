// Groups of neurons: the algebra against brute force and complex steps, solutions against the
// one-group path.
#include <Eigen/Dense>
#include <complex>
#include <random>
#include <vector>

#include "check.hpp"
#include "srfx/solve/group_levels.hpp"
#include "srfx/solve/groups.hpp"
#include "srfx/gaussian/named.hpp"

namespace {

using namespace srfx;
using Matrix = Eigen::MatrixXd;

std::mt19937_64 generator(1);
double uniform(double lo, double hi) {
  return std::uniform_real_distribution<double>(lo, hi)(generator);
}

void test_symmetric_inverse() {
  for (int n = 1; n <= 9; ++n) {
    Matrix x = Matrix::Random(n, n + 2);
    const Matrix a = x * x.transpose() + 1e-3 * Matrix::Identity(n, n);
    std::vector<double> b(a.data(), a.data() + n * n);
    CHECK((detail::invert_symmetric<double>(b, n)), n);
    const Matrix product = a * Eigen::Map<Matrix>(b.data(), n, n);
    CHECK_ABS((product - Matrix::Identity(n, n)).cwiseAbs().maxCoeff(), 0.0, 1e-10, n);
    b.assign(a.data(), a.data() + n * n);
    b[0] = -1;
    CHECK(!(detail::invert_symmetric<double>(b, n)), n);
  }
}

void test_elimination() {
  using V = simd::Lanes<double, 8>;
  for (int n = 1; n <= 14; ++n) {
    const int width = n + 2;
    std::vector<V> a(n * width);
    std::vector<Matrix> each;
    for (int lane = 0; lane < V::size; ++lane) {
      each.push_back(Matrix::Random(n, width));
      if (n > 1) each.back()(0, 0) = 0;  // a pivot is needed, in a row of its own for each lane
      for (int i = 0; i < n; ++i)
        for (int j = 0; j < width; ++j) a[i * width + j].set(lane, each.back()(i, j));
    }
    detail::eliminate(a.data(), n, 2);
    for (int lane = 0; lane < V::size; ++lane) {
      const Matrix expected = each[lane].leftCols(n).partialPivLu().solve(each[lane].rightCols(2));
      for (int i = 0; i < n; ++i)
        for (int s = 0; s < 2; ++s)
          CHECK_ABS(a[i * width + n + s][lane], expected(i, s),
                    1e-10 * expected.cwiseAbs().maxCoeff(), n, lane, i, s);
    }
  }
}

/// (Vh1, A) of a random point, packed.
std::vector<double> random_averages(int k) {
  const Matrix x = Matrix::Random(k, k + 2);
  const Matrix vh1 = x * x.transpose();
  std::vector<double> out;
  for (int g = 0; g < k; ++g)
    for (int h = g; h < k; ++h) out.push_back(vh1(g, h));
  for (int g = 0; g < k; ++g) out.push_back(std::pow(10, uniform(-3, 1)));
  return out;
}

template <class V, int K> std::vector<V> packed(const GroupMap<V, K>& map) {
  std::vector<V> out(map.packed);
  for (int g = 0; g < map.groups; ++g) {
    out[map.pairs + g] = map.v2[g];
    for (int h = g; h < map.groups; ++h) out[map.at(g, h)] = map.v1[g * map.groups + h];
  }
  return out;
}

/// T against the derivative of the map by a complex step, which is exact; and the equations of V
/// themselves.
template <int K> void test_traces(int k) {
  using C = std::complex<double>;
  const std::vector<double> vh = random_averages(k);
  GroupMap<double, K> map(k);
  GroupMap<C, K> complex(k);
  const double beta = std::pow(10, uniform(-1, 1));
  double total = 0;
  for (int g = 0; g < k; ++g) total += map.pi[g] = uniform(0.1, 1);
  for (int g = 0; g < k; ++g) complex.pi[g] = map.pi[g] /= total;
  map.beta = beta, complex.beta = beta;
  map.set(vh.data(), 0.0);
  map.solve();
  map.prepare_traces();
  const std::vector<double> v = packed(map);

  Matrix vh1(k, k), d = Matrix::Zero(k, k);
  for (int g = 0; g < k; ++g) {
    d(g, g) = map.v2[g];
    for (int h = 0; h < k; ++h) vh1(g, h) = vh[map.at(g, h)];
  }
  const Matrix j = (Matrix::Identity(k, k) + beta * vh1 * d).inverse(), gam = j * vh1,
               v1 = j.transpose() * d;
  for (int g = 0; g < k; ++g) {
    CHECK_REL(map.v2[g], map.pi[g] / (vh[map.pairs + g] + gam(g, g)), 1e-11, k, g);
    for (int h = 0; h < k; ++h) CHECK_ABS(map.v1[g * k + h], v1(g, h), 1e-11 * v1.norm(), k, g, h);
  }

  std::vector<double> n(map.packed), q(map.packed);
  for (double& x : n) x = uniform(-1, 1);
  map.traces(n.data(), q.data());
  std::vector<C> moved(map.packed);
  for (int i = 0; i < map.packed; ++i) moved[i] = C(vh[i], 1e-30 * n[i]);
  complex.set(moved.data(), C(0));
  for (int g = 0; g < k; ++g) complex.v2[g] = map.v2[g];
  std::vector<C> next(k);
  for (int step = 0; step < 4; ++step) {
    complex.resolve();
    complex.newton(next.data());
    for (int g = 0; g < k; ++g) complex.v2[g] = next[g];
  }
  complex.resolve();
  const std::vector<C> w = packed(complex);
  double scale = 0;
  for (double x : q) scale = std::max(scale, std::abs(x));
  for (int i = 0; i < map.packed; ++i) {
    CHECK_ABS(w[i].real(), v[i],
              1e-11 * std::abs(v[map.packed - 1]) + 1e-11 * std::abs(v[i]) + 1e-11, k, i);
    CHECK_ABS(q[i], -w[i].imag() / 1e-30, 1e-10 * scale, k, i);
  }
}

struct Solved {
  GroupBatchInput in;
  std::vector<double> alpha, beta, lam, noise, inverse_d, test, train, m, theta, psi, q1, q2, v1,
      v2, residual, error;
  std::vector<std::int8_t> status;
  std::vector<std::int32_t> iterations;
  std::int64_t zero = 0;

  Solved(const Function& sigma, const Function& target, const GroupParameters& p, int n,
         int n_threads, bool merge) {
    const Index k = static_cast<Index>(p.r.size());
    std::mt19937_64 local(3);
    const auto random = [&](double lo, double hi) {
      return std::pow(10, std::uniform_real_distribution<double>(lo, hi)(local));
    };
    for (int i = 0; i < n; ++i) {
      alpha.push_back(random(-1, 1)), beta.push_back(random(-1, 1)), lam.push_back(random(-8, 1));
      noise.push_back(random(-3, 0)), inverse_d.push_back(i % 2 == 0 ? 0 : 1e-3);
    }
    in.sigma = &sigma, in.target = &target, in.sets = {p}, in.set_index = &zero, in.n_points = n,
    in.n_threads = n_threads;
    in.merge = merge;
    in.alpha = {alpha.data(), 1}, in.beta = {beta.data(), 1}, in.lam = {lam.data(), 1},
    in.noise = {noise.data(), 1};
    in.inverse_d = {inverse_d.data(), 1};
    for (auto* x : {&test, &train, &residual, &error}) x->resize(n);
    for (auto* x : {&m, &theta, &psi, &q2, &v2}) x->resize(n * k);
    for (auto* x : {&q1, &v1}) x->resize(n * k * k);
    status.resize(n), iterations.resize(n);
    Interrupt interrupt;
    solve_group_batch(
        in,
        {test.data(), train.data(), m.data(), theta.data(), psi.data(), q1.data(), q2.data(),
         v1.data(), v2.data(), residual.data(), error.data(), status.data(), iterations.data()},
        interrupt);
  }
};

/// K copies of one group, kept apart, give what the one-group solver gives; threads change nothing.
void test_copies(const char* name, int k) {
  const NamedFunction sigma(activation_from_name(name), false),
      target(activation_from_name("sin"), false);
  GroupParameters p;
  p.gamma = 0.8;
  for (int g = 0; g < k; ++g) p.r.push_back(0.9), p.c.push_back(1.2), p.pi.push_back(1.0 / k);
  const int n = k > 8 ? 6 : 40;
  const Solved apart(sigma, target, p, n, 2, false), serial(sigma, target, p, n, 1, false),
      merged(sigma, target, p, n, 1, true);
  BatchInput in;
  in.sigma = &sigma, in.target = &target, in.sets = {{0.9, 1.2, 0.8}};
  in.set_index = &apart.zero, in.n_points = n, in.n_threads = 1;
  in.alpha = apart.in.alpha, in.beta = apart.in.beta, in.lam = apart.in.lam,
  in.noise = apart.in.noise, in.inverse_d = apart.in.inverse_d;
  std::vector<double> out(11 * n);
  std::vector<std::int8_t> status(n);
  std::vector<std::int32_t> iterations(n);
  double* o = out.data();
  BatchOutput results{o,          o + n,         o + 2 * n,        o + 3 * n, o + 4 * n,
                      o + 5 * n,  o + 6 * n,     o + 7 * n,        o + 8 * n, o + 9 * n,
                      o + 10 * n, status.data(), iterations.data()};
  Interrupt interrupt;
  solve_batch(MarchenkoPastur{}, in, results, interrupt);
  for (int i = 0; i < n; ++i) {
    CHECK(apart.status[i] == 0 && merged.status[i] == 0, name, k, i, apart.residual[i]);
    CHECK_REL(apart.test[i], out[i], 1e-11, name, k, i, apart.lam[i]);
    CHECK_REL(apart.train[i], out[n + i], 1e-11, name, k, i, apart.lam[i]);
    CHECK_REL(merged.test[i], out[i], 2e-12, name, k, i);
    CHECK(apart.test[i] == serial.test[i] && apart.residual[i] == serial.residual[i], name, k, i);
    double q2 = 0;
    for (int g = 0; g < k; ++g) q2 += apart.q2[i * k + g];
    CHECK_REL(q2, out[6 * n + i], 1e-11, name, k, i);
  }
}

void test_merging() {
  const GroupParameters p{{1, -1, 0, 2, 1}, {2, 2, 1, 2, 3}, {0.1, 0.2, 0.3, 0.2, 0.2}, 0.5};
  const MergedGroups odd = merge_groups(p, true), other = merge_groups(p, false);
  CHECK(odd.groups() == 4 && other.groups() == 5);
  CHECK(odd.of[1] == 0 && odd.sign[1] == -1);
  CHECK_REL(odd.distinct.pi[0], 0.3, 1e-15);
  CHECK_REL(odd.share[1], 2.0 / 3, 1e-15);
}

}  // namespace

int main() {
  test_symmetric_inverse();
  test_elimination();
  for (int repeat = 0; repeat < 5; ++repeat) {
    test_traces<1>(1);
    test_traces<2>(2);
    test_traces<dynamic_groups>(3);
    test_traces<dynamic_groups>(11);
  }
  test_merging();
  test_copies("tanh", 1);
  test_copies("tanh", 2);
  test_copies("relu", 4);
  test_copies("tanh", 7);
  test_copies("softplus", 9);
  return srfx::test::report();
}
