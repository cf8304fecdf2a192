// Batches of solves: they converge, solve the equations on a denser rule, do not depend on company
// or threads, fail with the right status, and allocate nothing while they iterate.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <random>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "srfx/gaussian/named.hpp"
#include "srfx/solve/scan.hpp"

// --- operator new, counted ---
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored \
    "-Wmismatched-new-delete"  // once the compiler inlines one of the pair
#endif
namespace {
std::atomic<long> n_allocations{0};

void* allocate(std::size_t size, std::size_t alignment) {
  n_allocations.fetch_add(1, std::memory_order_relaxed);
  if (size == 0) size = 1;
  if (alignment <= alignof(std::max_align_t)) return std::malloc(size);
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}
void* allocate_or_throw(std::size_t size, std::size_t alignment = 1) {
  if (void* p = allocate(size, alignment)) return p;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t n) { return allocate_or_throw(n); }
void* operator new[](std::size_t n) { return allocate_or_throw(n); }
void* operator new(std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
  return allocate_or_throw(n, static_cast<std::size_t>(a));
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, 1); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, 1); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }

namespace {

using namespace srfx;
using Real = long double;
constexpr int n_values = 11;
const char* const value_names[n_values] = {
    "test_error", "train_error", "m",        "theta",           "psi", "q1", "q2",
    "v1",         "v2",          "residual", "quadrature_error"};

/// Points of some coefficient sets, with room for what comes out.
struct Batch {
  std::vector<SpikeParameters> sets;
  std::vector<std::int64_t> set;
  std::vector<double> alpha, beta, lam, noise, inverse_d;
  std::vector<double> values[n_values];
  std::vector<std::int8_t> status;
  std::vector<std::int32_t> iterations;

  Index size() const { return static_cast<Index>(set.size()); }
  void add(std::int64_t of_set, double a, double b, double l, double n = 0, double inv_d = 0) {
    set.push_back(of_set);
    alpha.push_back(a), beta.push_back(b), lam.push_back(l), noise.push_back(n),
        inverse_d.push_back(inv_d);
  }
  void add(const Batch& other, Index i) {
    add(other.set[i], other.alpha[i], other.beta[i], other.lam[i], other.noise[i],
        other.inverse_d[i]);
  }
  BatchInput input(const Function& sigma, const Function& target, int n_threads) const {
    BatchInput in;
    in.sigma = &sigma, in.target = &target;
    in.sets = sets;
    in.set_index = set.data(), in.set_stride = 1;
    in.alpha = {alpha.data(), 1}, in.beta = {beta.data(), 1}, in.lam = {lam.data(), 1};
    in.noise = {noise.data(), 1}, in.inverse_d = {inverse_d.data(), 1};
    in.n_points = size();
    in.n_threads = n_threads;
    return in;
  }
  BatchOutput output() {
    for (std::vector<double>& v : values) v.assign(set.size(), -77);
    status.assign(set.size(), -77);
    iterations.assign(set.size(), -77);
    std::vector<double>* v = values;
    return {v[0].data(),  v[1].data(),   v[2].data(),      v[3].data(), v[4].data(),
            v[5].data(),  v[6].data(),   v[7].data(),      v[8].data(), v[9].data(),
            v[10].data(), status.data(), iterations.data()};
  }
  void solve(const Function& sigma, const Function& target, int n_threads = 1) {
    Interrupt interrupt;
    const BatchOutput out = output();
    solve_batch(MarchenkoPastur{}, input(sigma, target, n_threads), out, interrupt);
  }
};

bool same_bits(double a, double b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (std::isnan(a) && std::isnan(b));
}
/// Point i of one batch against point j of another, to the last bit.
void check_same(const Batch& a, Index i, const Batch& b, Index j, const char* what) {
  for (int q = 0; q < n_values; ++q)
    CHECK(same_bits(a.values[q][i], b.values[q][j]), what, value_names[q], i, j, a.values[q][i],
          b.values[q][j]);
  CHECK(a.status[i] == b.status[j], what, i, j, int(a.status[i]), int(b.status[j]));
  CHECK(a.iterations[i] == b.iterations[j], what, i, j, a.iterations[i], b.iterations[j]);
}

struct Random {
  std::mt19937_64 generator{20240611};
  double uniform(double a, double b) {
    return a + (b - a) * std::uniform_real_distribution<double>()(generator);
  }
  double log_uniform(double a, double b) { return std::exp(uniform(std::log(a), std::log(b))); }
  int below(int n) { return static_cast<int>(generator() % static_cast<unsigned>(n)); }
};

/// A point anywhere in the range promised, extremes included.
void add_random(Batch& batch, Random& random, std::int64_t set) {
  const double extremes[] = {1e-3, 1, 1e3};
  const double alpha =
      random.below(4) == 0 ? extremes[random.below(3)] : random.log_uniform(1e-3, 1e3);
  double beta = random.below(4) == 0 ? extremes[random.below(3)] : random.log_uniform(1e-3, 1e3);
  if (random.below(6) == 0) beta = alpha;  // the interpolation threshold
  const double lam =
      random.below(5) == 0 ? (random.below(2) == 0 ? 1e-12 : 1e6) : random.log_uniform(1e-12, 1e6);
  const double noise = random.below(2) == 0 ? 0 : random.log_uniform(1e-6, 10);
  batch.add(set, alpha, beta, lam, noise, random.below(2) == 0 ? 0 : random.log_uniform(1e-5, 0.1));
}
SpikeParameters random_spike(Random& random) {
  const double c = random.log_uniform(0.2, 5), ratios[] = {0, 1, 20};
  const double ratio =
      random.below(3) == 0 ? ratios[random.below(3)] : random.log_uniform(1e-3, 20);
  const double gammas[] = {0, 1, -1};
  const double gamma = random.below(2) == 0 ? gammas[random.below(3)] : random.uniform(-1, 1);
  return {(random.below(2) == 0 ? 1 : -1) * ratio * std::sqrt(c), c, gamma};
}

/// Panels of 16 nodes, a quarter of every scale wide, with edges at the kinks: for k > 0 alone
/// where sigma has a parity.
Rule dense_rule(const Coefficients& coefficients) {
  const SpikeParameters& p = coefficients.parameters();
  const bool folded = coefficients.folded();
  const double limit = 12, target_scale = coefficients.target_scale();
  std::vector<double> edges{folded ? 0 : -limit, limit}, centres;
  const auto add = [&](double edge) {
    if (edge > edges[0] && edge < limit) edges.push_back(edge);
  };
  const auto add_kinks = [&](const Shape& shape, double slope, bool target) {
    if (slope == 0) return;
    for (const double kink : shape.kinks)
      for (const double at : {kink / slope, -kink / slope}) {
        add(at);
        if (target) centres.push_back(at), add(at - 10 * target_scale), add(at + 10 * target_scale);
      }
  };
  add_kinks(coefficients.sigma_shape(), p.r, false);
  add_kinks(coefficients.target_shape(), p.gamma, true);
  std::sort(edges.begin(), edges.end());
  Rule out;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    double scale = std::min(1.0, coefficients.sigma_scale());
    for (const double at : centres)
      if (target_scale > 0 && std::abs((edges[i] + edges[i + 1]) / 2 - at) < 10 * target_scale)
        scale = std::min(scale, target_scale);
    out.push_panels(edges[i], edges[i + 1], scale / 4, 16);
  }
  out.finish();
  return out;
}

// --- every point converges, and solves the equations on a rule far denser than its own ---
void test_random_points() {
  const ActivationId pairs[][2] = {
      {ActivationId::tanh, ActivationId::sin},      {ActivationId::relu, ActivationId::tanh},
      {ActivationId::sign, ActivationId::sign},     {ActivationId::erf, ActivationId::hermite3},
      {ActivationId::gelu, ActivationId::relu},     {ActivationId::cos, ActivationId::hermite2},
      {ActivationId::softplus, ActivationId::cos},  {ActivationId::hardtanh, ActivationId::tanh},
      {ActivationId::sin, ActivationId::sign},      {ActivationId::linear, ActivationId::tanh},
      {ActivationId::abs, ActivationId::abs},       {ActivationId::sigmoid, ActivationId::erf},
      {ActivationId::leaky_relu, ActivationId::sin}};
  Random random;
  int n_points = 0, most_iterations = 0;
  Real worst_v = 0, worst_observable = 0;
  for (const auto& pair : pairs) {
    const NamedFunction sigma(pair[0]), target(pair[1]);
    const char *s = info(pair[0]).name, *t = info(pair[1]).name;
    Batch batch;
    for (int set = 0; set < 4; ++set) {
      batch.sets.push_back(random_spike(random));
      for (int i = 0; i < 20; ++i) add_random(batch, random, set);
    }
    batch.solve(sigma, target);
    for (int set = 0; set < 4; ++set) {
      const SpikeParameters& spike = batch.sets[set];
      CoefficientScratch scratch;
      Coefficients coefficients(sigma, target, spike, scratch);
      Level level;
      coefficients.append(dense_rule(coefficients), level);
      const NodeSet dense(level, level.size());
      std::vector<Real> weights(dense.size());
      for (Index i = 0; i < batch.size(); ++i) {
        if (batch.set[i] != set) continue;
        ++n_points;
        const auto value = [&](int q) { return batch.values[q][i]; };
        const double alpha = batch.alpha[i], beta = batch.beta[i], lam = batch.lam[i],
                     noise = batch.noise[i];
#define WHERE s, t, spike.r, spike.c, spike.gamma, alpha, beta, lam, noise, batch.inverse_d[i]
        CHECK(batch.status[i] == 0, int(batch.status[i]), value(9), WHERE);
        if (batch.status[i] != 0) continue;
        for (int q = 0; q < n_values; ++q) CHECK(std::isfinite(value(q)), value_names[q], WHERE);
        CHECK(value(0) >= 0 && value(1) >= 0 && value(6) >= 0 && value(7) > 0 && value(8) > 0,
              WHERE);
        CHECK(value(9) <= residual_tolerance && value(10) <= 1e-8, value(9), value(10), WHERE);
        most_iterations = std::max(most_iterations, int(batch.iterations[i]));
        if (i % 4 != 0) continue;  // the dense rule in long double is slow
        const Point<Real> p{
            alpha, beta, lam, noise, batch.inverse_d[i], 1, static_cast<Real>(alpha) / beta};
        const NewtonResult<Real> v =
            newton(MarchenkoPastur{}, p, dense, Real(value(7)), Real(value(8)), {20, 1e-17});
        const Order<Real> order =
            linear_part(MarchenkoPastur{}, p, dense, v.v1, v.v2, weights.data());
        const Real error_v = std::max(test::relative_error(value(7), order.v1),
                                      test::relative_error(value(8), order.v2));
        CHECK_ABS(error_v, 0, 1e-10, value(10), WHERE);
        // Errors against themselves; the order parameters against the size of what they predict.
        const Real errors[] = {test::relative_error(value(0), order.test_error),
                               test::relative_error(value(1), order.train_error),
                               test::relative_error(value(6), order.q2)};
        for (int q = 0; q < 3; ++q) {
          CHECK_ABS(errors[q], 0, 1e-10, q, value(10), WHERE);
          worst_observable = std::max(worst_observable, errors[q]);
        }
        worst_v = std::max(worst_v, error_v);
      }
    }
  }
  std::printf(
      "%d random points, at most %d iterations; against a dense rule V %.2Lg, errors %.2Lg\n",
      n_points, most_iterations, worst_v, worst_observable);
}

// --- a point depends on itself alone ---
void test_independence() {
  const NamedFunction sigma(ActivationId::tanh), target(ActivationId::relu);
  Random random;
  Batch batch;
  batch.sets = {{0.9, 1, 1}, {0, 1, 0.3}, {1.7, 0.8, -0.6}, {-2.5, 1.3, 0.97}, {0.4, 1, 0}};
  for (int i = 0; i < 6000; ++i) {
    add_random(batch, random, random.below(5));
    if (i % 97 == 0) batch.lam.back() = 0;
  }
  batch.solve(sigma, target);
  Index n_converged = 0;
  for (const std::int8_t status : batch.status) n_converged += status == 0;
  CHECK(n_converged > 5900, n_converged);

  for (const int n_threads : {2, 3, 7}) {
    Batch again = batch;
    again.solve(sigma, target, n_threads);
    for (Index i = 0; i < batch.size(); ++i) check_same(batch, i, again, i, "threads");
  }
  std::vector<Index> order(batch.size());
  for (Index i = 0; i < batch.size(); ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random.generator);
  Batch shuffled;
  shuffled.sets = batch.sets;
  for (const Index i : order) shuffled.add(batch, i);
  shuffled.solve(sigma, target, 2);
  for (Index i = 0; i < batch.size(); ++i) check_same(batch, order[i], shuffled, i, "order");
  for (Index j = 0; j < 40; ++j) {
    const Index i = order[j];
    Batch alone;
    alone.sets = {batch.sets[batch.set[i]]};
    alone.add(batch, i);
    alone.set[0] = 0;
    alone.solve(sigma, target);
    check_same(batch, i, alone, 0, "alone");
  }
}

// --- the ridgeless limit, and failures ---
struct Ending {
  ActivationId sigma;
  double r, c, alpha, beta;
  Status status;
};

void test_endings() {
  using A = ActivationId;
  const Ending endings[] = {
      {A::tanh, 0.5, 1, 2, 1, Status::converged},
      {A::tanh, 0.5, 1, 0.5, 1, Status::converged},
      {A::tanh, 0, 1, 1, 4, Status::converged},
      {A::relu, 0.3, 1, 3, 0.5, Status::converged},
      {A::relu, 0.3, 1, 0.3, 0.5, Status::converged},
      {A::sign, 0.9, 1, 2, 1, Status::converged},
      {A::tanh, 0.5, 1, 1, 1, Status::diverged},
      {A::relu, 0.3, 1, 0.7, 0.7, Status::diverged},
      {A::relu, 1.5, 1, 0.5, 1, Status::diverged},
      {A::relu, 1.5, 1, 2, 1, Status::converged},
      // Linear features span min(d, p) directions: the threshold is min(1, beta).
      {A::linear, 0.9, 1, 2, 0.5, Status::converged},
      {A::linear, 0.9, 1, 0.3, 0.5, Status::converged},
      {A::linear, 0.9, 1, 0.5, 0.5, Status::diverged},
      {A::linear, 0.9, 1, 2, 4, Status::converged},
      {A::linear, 0.9, 1, 0.5, 4, Status::converged},
      {A::linear, 0.9, 1, 1, 4, Status::diverged},
      {A::linear, 0.9, 1, 4, 4, Status::converged},
  };
  for (const Ending& e : endings) {
    const NamedFunction sigma(e.sigma), target(A::tanh);
    Batch batch;
    batch.sets = {{e.r, e.c, 0.8}};
    batch.add(0, e.alpha, e.beta, 0, 0.1);
    for (const double lam : {1e-8, 1e-9}) batch.add(0, e.alpha, e.beta, lam, 0.1);
    batch.solve(sigma, target);
    const char* name = info(e.sigma).name;
    CHECK(batch.status[0] == static_cast<std::int8_t>(e.status), name, e.r, e.alpha, e.beta,
          int(batch.status[0]));
    for (int q = 0; q < 9; ++q)  // nothing unconverged keeps a number
      CHECK(std::isnan(batch.values[q][0]) == (e.status != Status::converged), name, value_names[q],
            batch.values[q][0], e.alpha, e.beta);
    CHECK(std::isnan(batch.values[10][0]) == (e.status != Status::converged), name, e.alpha,
          e.beta);
    if (e.status != Status::converged) continue;
    // The limit of ridge regression: its errors are a line in lam near 0.
    for (const int q : {0, 1}) {
      const double limit = (10 * batch.values[q][2] - batch.values[q][1]) / 9;
      CHECK_ABS(batch.values[q][0], limit, 1e-6, name, value_names[q], e.r, e.alpha, e.beta);
    }
    const double threshold = e.sigma == A::linear ? std::min(1.0, e.beta) : e.beta;
    if (e.alpha < threshold)
      CHECK(batch.values[1][0] == 0 && std::isinf(batch.values[8][0]), name, e.alpha, e.beta);
  }
}

/// A target that throws when asked, or returns what is not a number.
struct Faulty : NamedFunction {
  explicit Faulty(bool throws) : NamedFunction(ActivationId::tanh), throws_(throws) {}
  void evaluate(const double* x, double* y, Index n) const override {
    if (throws_) throw std::domain_error("asked");
    NamedFunction::evaluate(x, y, n);
    for (Index i = 0; i < n; ++i) y[i] = std::numeric_limits<double>::quiet_NaN();
  }
  bool throws_;
};

void test_failures() {
  const NamedFunction tanh(ActivationId::tanh), sin(ActivationId::sin);
  Random random;
  Batch batch;
  for (int set = 0; set < 12; ++set) {
    batch.sets.push_back(random_spike(random));
    for (int i = 0; i < 10; ++i) add_random(batch, random, set);
    batch.lam.back() = 0;
  }
  for (const int n_threads : {1, 3}) {
    CHECK_THROWS(batch.solve(Faulty(true), sin, n_threads), std::domain_error);
    CHECK_THROWS(batch.solve(tanh, Faulty(true), n_threads), std::domain_error);
    Interrupt cancelled, asked([] { return true; });
    cancelled.cancel();
    const BatchOutput out = batch.output();
    CHECK_THROWS(solve_batch(MarchenkoPastur{}, batch.input(tanh, sin, n_threads), out, cancelled),
                 Cancelled);
    for (const std::int8_t status : batch.status)
      CHECK(status == -77, int(status));  // before any work
    CHECK_THROWS(solve_batch(MarchenkoPastur{}, batch.input(tanh, sin, n_threads), out, asked),
                 Cancelled);
    for (const bool target : {false, true}) {
      const Faulty nan(false);
      if (target) batch.solve(tanh, nan, n_threads);
      else batch.solve(nan, sin, n_threads);
      for (Index i = 0; i < batch.size(); ++i) {
        CHECK(batch.status[i] != 0, target, i, int(batch.status[i]));
        for (int q = 0; q < 9; ++q)
          CHECK(std::isnan(batch.values[q][i]), target, value_names[q], i, batch.values[q][i]);
      }
    }
  }
  Batch empty;
  empty.sets = {{0.9, 1, 1}};
  empty.solve(tanh, sin, 3);
  // An overflow on the way is not a solution either.
  Batch overflow;
  overflow.sets = {{0.9, 1, 1}};
  overflow.add(0, 1e300, 1e-300, 1e-300),
      overflow.add(0, 1, 1, std::numeric_limits<double>::quiet_NaN());
  overflow.solve(tanh, sin);
  for (Index i = 0; i < overflow.size(); ++i)
    for (int q = 0; q < 9; ++q)
      CHECK((overflow.status[i] == 0) != std::isnan(overflow.values[q][i]), i,
            int(overflow.status[i]), value_names[q]);
}

// --- no allocation inside the iteration ---
template <class V> void test_iteration_allocates_nothing(const NodeSet& set) {
  const Point<V> p{V(1), V(1), V(1e-12), V(0.1), V(0), V(1), V(1)};
  std::vector<V> weights(set.size());
  const long before = n_allocations;
  const NewtonResult<V> v = newton(MarchenkoPastur{}, p, set, V(1e12), V(1e12));
  const Order<V> order = linear_part(MarchenkoPastur{}, p, set, v.v1, v.v2, weights.data());
  CHECK(n_allocations == before, n_allocations - before);
  if constexpr (std::is_same_v<V, double>)
    CHECK(v.iterations > 10 && order.test_error > 0, v.iterations, order.test_error);
  else CHECK(v.iterations[0] > 10 && order.test_error[0] > 0, v.iterations[0], order.test_error[0]);
}

void test_allocations() {
  {
    const long before = n_allocations;
    std::vector<int> counted(3);
    CHECK(n_allocations == before + 1);
  }
  {
    const long before = n_allocations;
    std::vector<Pack> counted(3);
    CHECK(n_allocations == before + 1);
  }
  const NamedFunction sigma(ActivationId::tanh), target(ActivationId::sin);
  const SpikeParameters spike{0.9, 1, 0.7};
  CoefficientScratch scratch;
  Coefficients coefficients(sigma, target, spike, scratch);
  LevelTable table(coefficients);
  const NodeSet set = table.starter();
  test_iteration_allocates_nothing<double>(set);
  test_iteration_allocates_nothing<Pack>(set);

  // A block through a warmed workspace and known rules: what it allocates does not depend on how
  // long it iterates.
  Batch easy, hard;
  for (int i = 0; i < 300; ++i)
    easy.add(0, 2 + 0.001 * i, 1, 1), hard.add(0, 1 + 1e-7 * i, 1, 1e-12);
  long allocated[2], iterations[2];
  for (int which = 0; which < 2; ++which) {
    Batch& batch = which == 0 ? easy : hard;
    batch.sets = {spike};
    const BatchInput in = batch.input(sigma, target, 1);
    const BatchOutput out = batch.output();
    SetState state;
    Workspace work;
    std::vector<Index> points(batch.size());
    for (Index i = 0; i < batch.size(); ++i) points[i] = i;
    for (int pass = 0; pass < 2; ++pass) {
      const long before = n_allocations;
      solve_block(MarchenkoPastur{}, in, out, 0, spike, state, points.data(), batch.size(), work);
      allocated[which] = n_allocations - before;
    }
    iterations[which] = 0;
    for (Index i = 0; i < batch.size(); ++i) {
      CHECK(batch.status[i] == 0, i);
      iterations[which] += batch.iterations[i];
    }
  }
  std::printf("a warmed block of 300 points: %ld allocations in %ld iterations, %ld in %ld\n",
              allocated[0], iterations[0], allocated[1], iterations[1]);
  CHECK(iterations[1] > 2 * iterations[0], iterations[0], iterations[1]);
  CHECK(allocated[0] == allocated[1] && allocated[0] <= 2, allocated[0], allocated[1]);

  // The same for whole batches, where rules are found anew: as often for one iteration more as for
  // one less.
  const auto whole = [&](Batch& batch) {
    Interrupt interrupt;
    const BatchInput in = batch.input(sigma, target, 1);
    const BatchOutput out = batch.output();
    long before = 0;
    for (int pass = 0; pass < 2; ++pass) {
      before = n_allocations;
      solve_batch(MarchenkoPastur{}, in, out, interrupt);
    }
    return n_allocations - before;
  };
  const long few = whole(hard);
  for (int i = 0; i < 300; ++i) hard.add(hard, i);
  const long many = whole(hard);
  CHECK(few == many, few, many);
}

}  // namespace

int main() {
  test_allocations();
  test_endings();
  test_failures();
  test_independence();
  test_random_points();
  return srfx::test::report();
}
