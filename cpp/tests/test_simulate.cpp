// The experiment against its definition in plain loops on the same draws: weights, gradient step,
// ridge, errors; primal and dual, nested samples, groups, noise; the triangular factor of the
// weights; threads.
#include "srfx/core/random.hpp"
#include "srfx/simulate/simulate.hpp"

#include "check.hpp"

#include <vector>

using namespace srfx;

namespace {

const NamedPointwise tanh_function(ActivationId::tanh), relu_function(ActivationId::relu);

/// A target of one direction.
class Single final : public TargetFunction {
 public:
  explicit Single(ActivationId id) : function_(id) {}
  void evaluate(const double* t, double* y, Index n) const override { function_.value(t, y, n); }

 private:
  NamedPointwise function_;
};
const Single sin_target(ActivationId::sin), tanh_target(ActivationId::tanh);
const NamedTarget product(TargetId::product, 2), maximum(TargetId::max, 3);

struct Weights {
  std::vector<double> w, v, theta;
};
Weights weights_of(const Experiment& e, const Pointwise& sigma, const TargetFunction& target) {
  Interrupt interrupt;
  Weights out;
  out.w.resize(e.p() * e.d), out.v.resize(std::max<Index>(1, e.spikes) * e.d);
  out.theta.resize(e.directions * e.d);
  simulate_weights<double>(e, sigma, target, 1, interrupt, out.w.data(), out.v.data(),
                           out.theta.data());
  return out;
}
template <class T = double>
Errors run(const Experiment& e, const Pointwise& sigma, const TargetFunction& target,
           int threads = 1) {
  Interrupt interrupt;
  return simulate<T>(e, sigma, target, threads, interrupt);
}

double apply(const Pointwise& f, double x) {
  f.value(&x, &x, 1);
  return x;
}
double slope(const Pointwise& f, double x) {
  f.derivative(&x, &x, 1);
  return x;
}
double draw(const Experiment& e, Purpose purpose, Index row, Index column, std::uint64_t step = 0) {
  std::vector<double> x(8 * (column + 1));
  fill_normals<double>({e.seed, e.replicate, purpose, step}, row, 0, column + 1, x.data(), 8);
  return x[8 * column];
}
std::vector<double> sample(const Experiment& e, Purpose purpose, Index row,
                           std::uint64_t step = 0) {
  std::vector<double> x(8 * e.d), out(e.d);
  fill_normals<double>({e.seed, e.replicate, purpose, step}, row, 0, e.d, x.data(), 8);
  for (Index k = 0; k < e.d; ++k) out[k] = x[8 * k];
  return out;
}
double dot(const double* a, const double* b, Index n) {
  double s = 0;
  for (Index k = 0; k < n; ++k) s += a[k] * b[k];
  return s;
}

/// s*(theta_1.x/sqrt d, ..).
double label(const TargetFunction& target, const Weights& net, const std::vector<double>& x) {
  const auto d = static_cast<Index>(x.size());
  std::vector<double> t(target.directions());
  for (Index l = 0; l < target.directions(); ++l)
    t[l] = dot(&net.theta[l * d], x.data(), d) / std::sqrt(static_cast<double>(d));
  double y = 0;
  target.evaluate(t.data(), &y, 1);
  return y;
}

/// min |y - Phi a|^2 + lam |a|^2 and its errors, by Gaussian elimination on the normal equations in
/// long double.
void check_errors(const Experiment& e, const Pointwise& sigma, const TargetFunction& target,
                  double tolerance) {
  const Weights net = weights_of(e, sigma, target);
  const Index p = e.p(), d = e.d;
  const double root_p = std::sqrt(static_cast<double>(p));
  const auto features = [&](const std::vector<double>& x) {
    std::vector<double> phi(p);
    for (Index i = 0; i < p; ++i) phi[i] = apply(sigma, dot(&net.w[i * d], x.data(), d)) / root_p;
    return phi;
  };
  const Errors got = run(e, sigma, target);
  for (std::size_t m = 0; m < e.n.size(); ++m)
    for (std::size_t j = 0; j < e.lam.size(); ++j) {
      const Index n = e.n[m];
      std::vector<std::vector<double>> phi(n);
      std::vector<double> y(n);
      std::vector<std::vector<long double>> a(p, std::vector<long double>(p + 1, 0.0L));
      for (Index s = 0; s < n; ++s) {
        const std::vector<double> x = sample(e, Purpose::train_samples, s);
        phi[s] = features(x);
        y[s] = label(target, net, x);
        if (e.noise > 0) y[s] += std::sqrt(e.noise) * draw(e, Purpose::train_noise, s, 0);
        for (Index i = 0; i < p; ++i) {
          for (Index k = 0; k < p; ++k) a[i][k] += static_cast<long double>(phi[s][i]) * phi[s][k];
          a[i][p] += static_cast<long double>(phi[s][i]) * y[s];
        }
      }
      for (Index i = 0; i < p; ++i) a[i][i] += e.lam[j];
      for (Index c = 0; c < p; ++c)  // positive definite: no pivoting
        for (Index i = 0; i < p; ++i)
          if (i != c) {
            const long double f = a[i][c] / a[c][c];
            for (Index k = c; k <= p; ++k) a[i][k] -= f * a[c][k];
          }
      std::vector<double> readout(p);
      for (Index i = 0; i < p; ++i) readout[i] = static_cast<double>(a[i][p] / a[i][i]);
      double train = 0, test = 0;
      for (Index s = 0; s < n; ++s)
        train += std::pow(y[s] - dot(phi[s].data(), readout.data(), p), 2);
      for (Index s = 0; s < e.n_test; ++s) {
        const std::vector<double> x = sample(e, Purpose::test_samples, s);
        const std::vector<double> f = features(x);
        test += std::pow(label(target, net, x) - dot(f.data(), readout.data(), p), 2);
      }
      const std::size_t at = m * e.lam.size() + j;
      const double expected_train = train / static_cast<double>(n),
                   expected_test = test / static_cast<double>(e.n_test);
      CHECK(std::abs(got.test[at] - expected_test) < tolerance * expected_test, e.literal,
            e.steps.size(), n, e.lam[j], got.test[at], expected_test);
      CHECK(std::abs(got.train[at] - expected_train) < tolerance * (expected_train + 1e-3),
            e.literal, e.steps.size(), n, e.lam[j], got.train[at], expected_train);
    }
}

/// Makes the first layer by steps.
void set_steps(Experiment& e, std::vector<GradientStep> steps, Index directions = 1) {
  e.steps = std::move(steps), e.spikes = 0, e.directions = directions;
  e.theta.assign(directions * directions, 0.0);
  for (Index l = 0; l < directions; ++l) e.theta[l * directions + l] = 1;
}

Experiment base(bool literal) {
  Experiment e;
  e.d = 31, e.n_test = 53;
  e.n = {1, 9, 25, 26, 70};
  e.lam = {0.1, 0.02};
  e.groups = {{11, 0.5, {0.3}, 1.1}, {15, -1.5, {-0.9}, 1.9}};
  e.theta = {0.6, 0.8}, e.noise = 0.2, e.seed = 12, e.replicate = 3, e.literal = literal;
  return e;
}

/// Two spikes and two directions.
Experiment several(bool literal) {
  Experiment e = base(literal);
  e.groups = {{11, 1, {0.3, 1.1}, 1.1}, {15, 1, {-0.9, 0.4}, 1.9}};
  e.spikes = e.directions = 2;
  e.theta = {0.6, 0.0, 0.8, 0.0, 0.0, 0.28, 0.0, 0.96};
  return e;
}

void definitions() {
  for (const bool literal : {false, true}) {
    Experiment e = base(literal);
    check_errors(e, tanh_function, sin_target, 1e-10);
    check_errors(e, relu_function, tanh_target, 1e-10);
    e.lam = {1e-8, 1.0};  // n < p goes to the dual
    e.n = {5, 20, 90};
    check_errors(e, tanh_function, sin_target, 1e-6);
    e = base(literal);
    e.groups = {{60, 1, {0.9}, 1.0}};  // more units than coordinates
    e.n = {4, 200};
    check_errors(e, tanh_function, sin_target, 1e-10);
    e.d = 2;  // no coordinate but the two
    check_errors(e, tanh_function, sin_target, 1e-10);
    e = base(literal);
    set_steps(e, {{40, 1.7}});
    check_errors(e, tanh_function, sin_target, 1e-9);
    e.groups = {{40, 1, {}, 1}};
    e.d = 40, e.n = {300, 900};  // worth the triangular factor, at p = d
    check_errors(e, tanh_function, sin_target, 1e-9);
    e.d = 33;
    check_errors(e, tanh_function, sin_target, 1e-9);
    e.d = 64;
    check_errors(e, tanh_function, sin_target, 1e-9);
    check_errors(several(literal), relu_function, product, 1e-10);
    e = base(literal);
    set_steps(e, {{40, 1.7}, {20, 0.7}, {50, 1.0}}, 3);
    check_errors(e, tanh_function, maximum, 1e-9);
    e.groups = {{40, 1, {}, 1}};  // a panel more for the directions than for the units
    e.d = 50, e.n = {30, 900};
    check_errors(e, tanh_function, maximum, 1e-9);
    e.d = 33;
    check_errors(e, tanh_function, maximum, 1e-9);
  }
}

/// Rows of W0, the spikes and the target's directions are what they should be, to rounding.
void geometry() {
  for (const bool literal : {false, true})
    for (const Experiment& e : {base(literal), several(literal)}) {
      const TargetFunction& target =
          e.directions == 1 ? static_cast<const TargetFunction&>(sin_target) : product;
      const Weights net = weights_of(e, tanh_function, target);
      const double d = static_cast<double>(e.d);
      for (Index j = 0; j < e.spikes; ++j) {
        const double* v = &net.v[j * e.d];
        for (Index i = 0; i < e.spikes; ++i)
          CHECK(std::abs(dot(v, &net.v[i * e.d], e.d) - (i == j ? d : 0)) < 1e-12 * d, i, j);
        for (Index l = 0; l < e.directions; ++l)
          CHECK(std::abs(dot(v, &net.theta[l * e.d], e.d) - e.theta[l * e.own() + j] * d) <
                1e-12 * d);
      }
      for (Index l = 0; l < e.directions; ++l)
        for (Index m = 0; m < e.directions; ++m)
          CHECK(std::abs(dot(&net.theta[l * e.d], &net.theta[m * e.d], e.d) - (l == m ? d : 0)) <
                1e-12 * d);
      for (Index i = 0; i < e.p(); ++i) {
        const UnitGroup& g = e.groups[i < 11 ? 0 : 1];
        double square = 0;
        for (Index k = 0; k < e.d; ++k) {
          double bulk = net.w[i * e.d + k];
          for (Index j = 0; j < e.spikes; ++j) bulk -= g.r[j] * net.v[j * e.d + k] / std::sqrt(d);
          square += bulk * bulk;
        }
        CHECK(std::abs(square - g.c) < 1e-12, literal, i, square);
      }
    }
}

/// Gradient steps, as they are written.
void steps() {
  for (const bool literal : {false, true})
    for (const Index directions : {1, 3}) {
      Experiment e = base(literal);
      e.n = {1}, e.n_test = 1;  // too few samples for the triangular factor
      set_steps(e, {{45, 0.0}}, directions);
      const TargetFunction& target =
          directions == 1 ? static_cast<const TargetFunction&>(sin_target) : maximum;
      const Weights before = weights_of(e, tanh_function, target);
      set_steps(e, {{45, 2.5}, {30, 1.5}, {50, 1.0}}, directions);
      const Weights after = weights_of(e, tanh_function, target);
      const Index p = e.p(), d = e.d;
      std::vector<double> w = before.w, direction;
      for (std::size_t tau = 0; tau < e.steps.size(); ++tau) {
        const GradientStep& step = e.steps[tau];
        const std::vector<double> now = w;
        direction.assign(d, 0.0);
        for (Index s = 0; s < step.n0; ++s) {
          const std::vector<double> x = sample(e, Purpose::step_samples, s, tau);
          double residual = label(target, before, x);
          residual += std::sqrt(e.noise) * draw(e, Purpose::step_noise, s, 0, tau);
          for (Index i = 0; i < p; ++i)
            residual -= (i < 11 ? 0.5 : -1.5) *
                        apply(tanh_function, dot(&now[i * d], x.data(), d)) /
                        static_cast<double>(p);
          for (Index i = 0; i < p; ++i) {
            const double factor = step.eta * (i < 11 ? 0.5 : -1.5) / static_cast<double>(step.n0) *
                                  residual * slope(tanh_function, dot(&now[i * d], x.data(), d));
            for (Index k = 0; k < d; ++k) w[i * d + k] += factor * x[k];
          }
          for (Index k = 0; k < d; ++k) direction[k] += residual * x[k];
        }
      }
      const double length =
          std::sqrt(dot(direction.data(), direction.data(), d) / static_cast<double>(d));
      for (Index i = 0; i < p * d; ++i)
        CHECK(std::abs(w[i] - after.w[i]) < 1e-11, literal, i, w[i], after.w[i]);
      for (Index k = 0; k < d; ++k)
        CHECK(std::abs(direction[k] / length - after.v[k]) < 1e-10, literal, k);
    }
}

/// The triangular factor keeps every scalar product of rows and the overlap with theta.
void triangle() {
  for (const Index d : {20, 27, 40}) {
    Experiment e = base(false);
    e.groups = {{26, 1, {}, 1}};
    e.d = d, e.n = {1}, e.n_test = 1;
    set_steps(e, {{60, 3.0}});
    CHECK(!factorise_step<double>(e), d);
    const Weights plain = weights_of(e, tanh_function, sin_target);
    e.n = {100000};
    CHECK(factorise_step<double>(e), d);
    const Weights factor = weights_of(e, tanh_function, sin_target);
    Index zeros = 0;
    for (Index i = 0; i < 26; ++i) {
      CHECK(plain.w[i * d] == factor.w[i * d], d, i);
      for (Index k = 0; k < d; ++k) zeros += factor.w[i * d + k] == 0;
      for (Index j = 0; j <= i; ++j) {
        const double a = dot(&plain.w[i * d], &plain.w[j * d], d),
                     b = dot(&factor.w[i * d], &factor.w[j * d], d);
        CHECK(std::abs(a - b) < 1e-9, d, i, j, a, b);
      }
    }
    CHECK(zeros >= 170, d, zeros);
  }
}

/// Every thread count the same bits; float the same draws; another seed or replicate other numbers.
void determinism() {
  for (const bool literal : {false, true})
    for (const Index n0 : {0, 300}) {
      Experiment e;
      e.d = 300, e.n_test = 700, e.n = {120, 260, 900}, e.lam = {0.1, 1.0},
      e.groups = {{250, 1, {0.5}, 1}};
      if (n0 > 0) set_steps(e, {{n0, 1.0}, {n0, 0.5}});
      e.noise = 0.1, e.literal = literal;
      const Errors one = run(e, tanh_function, sin_target, 1);
      for (const int threads : {2, 3, 7}) {
        const Errors many = run(e, tanh_function, sin_target, threads);
        for (std::size_t i = 0; i < one.test.size(); ++i) {
          CHECK(one.test[i] == many.test[i], literal, n0, threads, i);
          CHECK(one.train[i] == many.train[i], literal, n0, threads, i);
        }
      }
      const Errors narrow = run<float>(e, tanh_function, sin_target, 2);
      for (std::size_t i = 0; i < one.test.size(); ++i) {
        CHECK(std::abs(narrow.test[i] / one.test[i] - 1) < 1e-4, literal, n0, i, narrow.test[i],
              one.test[i]);
        CHECK(std::abs(narrow.train[i] / one.train[i] - 1) < 1e-3, literal, n0, i, narrow.train[i],
              one.train[i]);
      }
      Experiment other = e;
      other.seed = 1;
      CHECK(run(other, tanh_function, sin_target).test[0] != one.test[0]);
      other = e;
      other.replicate = 1;
      CHECK(run(other, tanh_function, sin_target).test[0] != one.test[0]);
    }
}

/// What a smaller n gives does not depend on the larger ones it is nested in, nor on the way it is
/// solved.
void nesting() {
  Experiment e = base(false);
  const Errors all = run(e, tanh_function, sin_target);
  for (std::size_t m = 0; m < e.n.size(); ++m) {
    Experiment alone = e;
    alone.n = {e.n[m]};
    const Errors one = run(alone, tanh_function, sin_target);
    for (std::size_t j = 0; j < e.lam.size(); ++j) {
      CHECK(std::abs(one.test[j] / all.test[m * 2 + j] - 1) < 1e-10, m, j);
      CHECK(std::abs(one.train[j] / all.train[m * 2 + j] - 1) < 1e-8, m, j);
    }
  }
}

void refusals() {
  Experiment e = base(false);
  const NamedPointwise linear(ActivationId::linear);
  e.groups = {{50, 1, {0.5}, 1}};  // linear features of rank 31
  e.n = {80}, e.lam = {0.0};
  bool thrown = false;
  try {
    run(e, linear, sin_target);
  } catch (const NotPositiveDefinite&) { thrown = true; }
  CHECK(thrown);

  Interrupt interrupt([] { return true; });
  thrown = false;
  try {
    simulate<double>(base(false), tanh_function, sin_target, 1, interrupt);
  } catch (const Cancelled&) { thrown = true; }
  CHECK(thrown);
}

void predictions() {
  Experiment e = base(false);
  Interrupt interrupt;
  Predictions out;
  const Errors errors = simulate<double>(e, tanh_function, sin_target, 2, interrupt, &out);
  for (std::size_t m = 0; m < errors.test.size(); ++m) {
    double sum = 0;
    for (Index s = 0; s < e.n_test; ++s)
      sum += std::pow(std::sin(out.t[s]) - out.f[m * e.n_test + s], 2);
    CHECK(std::abs(sum / static_cast<double>(e.n_test) / errors.test[m] - 1) < 1e-12, m);
  }
}

}  // namespace

int main() {
  definitions();
  geometry();
  steps();
  triangle();
  determinism();
  nesting();
  refusals();
  predictions();
  return srfx::test::report();
}
