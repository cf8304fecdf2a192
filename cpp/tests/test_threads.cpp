// Everything that threads: the batches, spectra, simulations. One after the other on one thread,
// and all at once on several, they yield the same bits; cancelled at any moment they yield these or
// Cancelled. Built with the thread sanitizer (preset `tsan`), this program is what it looks
// through.
#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"
#include "srfx/solve/group_gradient.hpp"
#include "srfx/solve/group_step.hpp"
#include "srfx/gaussian/named.hpp"
#include "srfx/data/observables.hpp"
#include "srfx/solve/optimum.hpp"
#include "srfx/simulate/simulate.hpp"
#include "srfx/spectrum/spectra.hpp"
#include "srfx/solve/step_gradient.hpp"

using namespace srfx;

namespace {

using Values = std::vector<double>;

const NamedFunction sigma(ActivationId::tanh), slope(ActivationId::tanh, true),
    target(ActivationId::sin);

/// Points of three coefficient sets, most of the first (so many that several threads share it), and
/// room for what a solve with `k` values a point yields.
struct Points {
  Index n, k;
  std::vector<std::int64_t> set;
  Values alpha, beta, lam, noise, inverse_d, room;
  std::vector<std::int8_t> status;
  std::vector<std::int32_t> iterations;

  const Function* activation;

  explicit Points(Index size, Index groups = 1, const Function& s = sigma)
      : n(size),
        k(groups),
        room(n * (4 + 9 * k + 2 * k * k)),
        status(n),
        iterations(n),
        activation(&s) {
    std::mt19937_64 random(5);
    const auto power = [&](double low, double high) {
      return std::pow(10, std::uniform_real_distribution<double>(low, high)(random));
    };
    for (Index i = 0; i < n; ++i) {
      set.push_back(i % 4 < 3 ? 0 : 1 + i / 4 % 2), alpha.push_back(power(-1, 1)),
          beta.push_back(power(-1, 1)), lam.push_back(power(-4, 1));
      noise.push_back(0.1 * static_cast<double>(i % 2)), inverse_d.push_back(i % 4 == 0 ? 1e-3 : 0);
    }
  }
  template <class Input> Input input(int threads) const {
    Input in;
    in.sigma = activation, in.target = &target, in.set_index = set.data(), in.set_stride = 1,
    in.n_points = n, in.n_threads = threads;
    in.alpha = {alpha.data(), 1}, in.beta = {beta.data(), 1}, in.lam = {lam.data(), 1},
    in.noise = {noise.data(), 1};
    in.inverse_d = {inverse_d.data(), 1};
    return in;
  }
  template <class Output> Output output() {
    Output out{};
    double* next = room.data();
    const auto take = [&](Index values) { return std::exchange(next, next + n * values); };
    for (double** x : {&out.test_error, &out.train_error, &out.residual, &out.quadrature_error})
      *x = take(1);
    for (double** x : {&out.m, &out.theta, &out.psi, &out.q2, &out.v2}) *x = take(k);
    for (double** x : {&out.q1, &out.v1}) *x = take(k * k);
    if constexpr (!std::is_same_v<Output, BatchOutput> && !std::is_same_v<Output, GroupBatchOutput>)
      for (double** x : {&out.chi, &out.r, &out.c, &out.gamma}) *x = take(k);
    out.status = status.data(), out.iterations = iterations.data();
    return out;
  }
  /// What was solved; with derivatives, if any.
  Values values(const Values& more = {}) const {
    Values out = room;
    out.insert(out.end(), status.begin(), status.end());
    out.insert(out.end(), more.begin(), more.end());
    return out;
  }
};

/// Room for the derivatives of both errors in `n` directions.
struct Slopes {
  Values room;
  GradientOutput out;
  Slopes(std::size_t n, Index points) : room(2 * n * static_cast<std::size_t>(points)) {
    for (std::size_t d = 0; d < n; ++d) {
      double* const first = room.data() + 2 * d * static_cast<std::size_t>(points);
      out.test_error.push_back(first), out.train_error.push_back(first + points);
    }
  }
};

const std::vector<SpikeParameters> spikes{{0.9, 1.2, 0.8}, {0, 1, 0}, {2.5, 1, 0.6}};

Values isotropic(int threads, Interrupt& interrupt) {
  Points points(6000);
  BatchInput in = points.input<BatchInput>(threads);
  in.sets = spikes;
  for (Index i = 0; i < points.n; i += 1000) points.lam[i] = 0;
  const BatchOutput out = points.output<BatchOutput>();
  solve_batch(MarchenkoPastur{}, in, out, interrupt);
  Slopes slopes(2, points.n);
  gradient_batch(MarchenkoPastur{}, in, out.v1, out.v2, {Direction::lam, Direction::r}, slopes.out,
                 interrupt);
  return points.values(slopes.room);
}

Values groups(int threads, Interrupt& interrupt) {
  Points points(800, 2);
  GroupBatchInput in = points.input<GroupBatchInput>(threads);
  for (const SpikeParameters& p : spikes)
    in.sets.push_back({{p.r, p.r + 0.5}, {p.c, p.c + 0.2}, {0.4, 0.6}, p.gamma});
  const GroupBatchOutput out = points.output<GroupBatchOutput>();
  solve_group_batch(in, out, interrupt);
  GroupGradientInput moved = points.input<GroupGradientInput>(threads);
  moved.sets = in.sets, moved.v1 = out.v1, moved.v2 = out.v2;
  moved.moves = {std::vector<GroupMove>(3, GroupMove{{0, 0}, {0, 0}, 0}),
                 std::vector<GroupMove>(3, GroupMove{{1, 0}, {0, 0}, 0})};
  moved.point_moves = {0, -1};
  Slopes slopes(2, points.n);
  group_gradient_batch(moved, slopes.out, interrupt);
  return points.values(slopes.room);
}

const std::vector<OneStepSource::Parameters> steps{{2, 1, 0.1}, {0.5, 0.5, 0}, {4, 2, 0}};

Values one_step(int threads, Interrupt& interrupt) {
  Points points(300);
  const BatchInput in = points.input<BatchInput>(threads);
  const AnisotropicOutput out = points.output<AnisotropicOutput>();
  const OneStepSource source(sigma, slope, target, 1.0, steps);
  solve_anisotropic(source, in, out, interrupt);
  Slopes slopes(2, points.n);
  anisotropic_gradient<MovingStep>(source, in, out.v1, out.v2,
                                   {StepDirection::lam, StepDirection::eta}, slopes.out, interrupt);
  return points.values(slopes.room);
}

Values given_weights(int threads, Interrupt& interrupt) {
  Points points(200);
  points.set.assign(points.set.size(), 0);
  MeasuredWeights weights;
  weights.spike = {0.8, 1.1, 0.7};
  for (std::size_t i = 0; i < 50; ++i) {
    weights.eigenvalues.push_back(0.1 + 0.04 * static_cast<double>(i));
    for (std::size_t j = 0; j < 4; ++j)
      weights.u[j].push_back(j == 3 ? 1 : 0.01 * std::cos(static_cast<double>(i * (j + 2))));
  }
  const BatchInput in = points.input<BatchInput>(threads);
  const AnisotropicOutput out = points.output<AnisotropicOutput>();
  const EmpiricalSource source(weights);
  solve_anisotropic(source, in, out, interrupt);
  Slopes slopes(1, points.n);
  anisotropic_gradient<MovingWeights>(source, in, out.v1, out.v2, {StepDirection::lam}, slopes.out,
                                      interrupt);
  return points.values(slopes.room);
}

Values groups_of_the_step(int threads, Interrupt& interrupt) {
  Points points(6, 2);
  GroupStepInput in = points.input<GroupStepInput>(threads);
  in.derivative = &slope, in.readout = {0.5, 1.5}, in.pi = {0.4, 0.6};
  in.sets = {{2, 1, 0.1}, {0.5, 0.5, 0}, {3, 1, 0}};
  solve_group_step(in, points.output<GroupStepOutput>(), interrupt);
  return points.values();
}

Values optimum(int threads, Interrupt& interrupt) {
  Points points(18);
  OptimumInput in = points.input<OptimumInput>(threads);
  in.has_line = true, in.line = Direction::lam, in.line_axis = {1e-3, 10, true, 9};
  in.coordinates = {{0, {0.1, 3, false, 5}}};
  for (const SpikeParameters& p : spikes) in.sets.push_back({p.r, p.c, p.gamma});
  Values found(2 * static_cast<std::size_t>(points.n));
  std::vector<std::int32_t> counts(2 * found.size());
  OptimumOutput out{};
  out.line = found.data(), out.coordinates[0] = found.data() + points.n;
  out.status = points.status.data(), out.n_minima = counts.data(),
  out.n_failed = counts.data() + points.n;
  optimum_batch(MarchenkoPastur{}, in, out, interrupt);
  return found;
}

Values spectra_and_bounds(int threads, Interrupt& interrupt) {
  const double x[1] = {0.3};
  const OneStepSource source(sigma, slope, target, 1.0, steps);
  Values out(9 * 3);
  parallel_for(9, threads, interrupt, [&](Index i, int) {
    const SpikeParameters& p = spikes[static_cast<std::size_t>(i % 3)];
    double* const at = out.data() + 3 * i;
    const auto keep = [at](const Spectrum& s) {
      at[0] = s.density[0], at[1] = s.mass, at[2] = s.first_moment;
    };
    if (i == 0) return keep(spectrum(sigma, p, 2.0, 1.0, x, 1));
    if (i == 1)
      return keep(group_spectrum(sigma, {{0.4, 1.2}, {1.0, 1.4}, {0.5, 0.5}, 0}, 2.5, 1.0, x, 1));
    if (i == 2) return keep(step_spectrum(source, 0, sigma, 2.0, 1.0, x, 1));
    const Bounds b = bounds(sigma, target, p);
    at[0] = b.lower, at[1] = b.upper;
    learned_function(sigma, p, 0.1, 0.5, 0.4, x, 1, at + 2);
  });
  return out;
}

/// Spiked features in double, and the gradient step in float.
Values simulations(int threads, Interrupt& interrupt) {
  const NamedPointwise activation(ActivationId::tanh);
  const NamedTarget labels(TargetId::product, 2);
  Experiment e;
  e.d = 60, e.n_test = 90, e.n = {30, 80}, e.lam = {0.1, 1.0},
  e.groups = {{20, 1, {0.5}, 1}, {30, -1, {0.8}, 1.2}}, e.noise = 0.1;
  e.directions = 2, e.theta = {0.6, 0.8, 0, 0, 0, 1};
  Predictions predictions;
  Errors errors = simulate<double>(e, activation, labels, threads, interrupt, &predictions);
  Values out = errors.test;
  out.insert(out.end(), predictions.f.begin(), predictions.f.end());
  e.steps = {{70, 1}, {40, 0.5}}, e.literal = true;
  errors = simulate<float>(e, activation, labels, threads, interrupt);
  out.insert(out.end(), errors.test.begin(), errors.test.end());
  return out;
}

struct Job {
  const char* name;
  Values (*run)(int threads, Interrupt& interrupt);
};
const Job jobs[] = {{"isotropic", isotropic},
                    {"groups", groups},
                    {"one_step", one_step},
                    {"given_weights", given_weights},
                    {"groups_of_the_step", groups_of_the_step},
                    {"optimum", optimum},
                    {"spectra_and_bounds", spectra_and_bounds},
                    {"simulations", simulations}};
constexpr std::size_t n_jobs = std::size(jobs);

bool same(const Values& a, const Values& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

/// First of all, so that what is made at first use is made by several threads at once.
void all_at_once(std::vector<Values>& found) {
  std::vector<std::thread> callers;
  for (std::size_t j = 0; j < n_jobs; ++j)
    callers.emplace_back([&found, j] {
      Interrupt interrupt([] { return false; });
      found[j] = jobs[j].run(3, interrupt);
    });
  for (std::thread& caller : callers) caller.join();
}

/// A flag set by another thread, as the one that a thread of an executor is given.
void cancelled(const Job& job, const Values& expected, int milliseconds) {
  std::atomic<bool> flag{false};
  Interrupt interrupt([&] { return flag.load(std::memory_order_relaxed); });
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
    flag.store(true, std::memory_order_relaxed);
    if (milliseconds % 2 == 1) interrupt.cancel();
  });
  bool stopped = false;
  Values found;
  try {
    found = job.run(3, interrupt);
  } catch (const Cancelled&) { stopped = true; }
  other.join();
  CHECK(stopped || same(found, expected), job.name, milliseconds);
}

/// tanh until it has been called a few times, by whatever thread.
class Faulty : public Function {
 public:
  explicit Faulty(int calls) : left_(calls) { shape_ = sigma.shape(); }
  void evaluate(const double* x, double* y, Index n) const override {
    if (left_.fetch_sub(1) <= 0) throw std::domain_error("enough");
    sigma.evaluate(x, y, n);
  }

 private:
  mutable std::atomic<int> left_;
};

void errors_of_many_threads() {
  for (const int calls : {0, 1, 7}) {
    const Faulty faulty(calls);
    Points points(60, 1, faulty);
    BatchInput in = points.input<BatchInput>(3);
    in.sets = spikes;
    Interrupt interrupt;
    CHECK_THROWS(solve_batch(MarchenkoPastur{}, in, points.output<BatchOutput>(), interrupt),
                 std::domain_error);
  }
}

}  // namespace

int main() {
  std::vector<Values> found(n_jobs);
  all_at_once(found);
  for (std::size_t j = 0; j < n_jobs; ++j) {
    Interrupt interrupt;
    const auto begin = std::chrono::steady_clock::now();
    const Values alone = jobs[j].run(1, interrupt);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
                          std::chrono::steady_clock::now() - begin)
                          .count();
    std::cout << jobs[j].name << " " << took << " ms\n";
    CHECK(same(found[j], alone), jobs[j].name);
    for (const int milliseconds : {0, 1})
      cancelled(jobs[j], alone, milliseconds + static_cast<int>(took / 2));
  }
  errors_of_many_threads();
  return test::report();
}
