// Readouts of every loss: the objective against the minimum of its dual, both computed here in
// plain loops; the square loss against its normal equations; few and many samples; threads; samples
// that cannot be separated.
#include "srfx/simulate/fit.hpp"

#include "check.hpp"

#include <random>

using namespace srfx;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Case {
  const char* name;
  ReadoutLoss loss;
};
std::vector<Case> cases() {
  using K = ReadoutLoss::Kind;
  return {{"square", {K::square, 1, -infinity, infinity, false}},
          {"square on labels", {K::square, 1, -infinity, infinity, true}},
          {"Huber", {K::piecewise, 1, -0.2, 0.2, false}},
          {"absolute", {K::piecewise, 0, -0.5, 0.5, false}},
          {"quantile", {K::piecewise, 0, -0.05, 0.45, false}},
          {"hinge", {K::piecewise, 0, 0, 0.5, true}},
          {"squared hinge", {K::piecewise, 1, 0, infinity, true}},
          {"logistic", {K::logistic, 0, 0, 0, true}}};
}

/// Random features and labels; rows beyond the last sample hold numbers that must not matter.
struct Problem {
  Index n, p;
  Panels<double> phi;
  std::vector<double> real, sign;
  Problem(Index samples, Index units, double noise)
      : n(samples),
        p(units),
        phi(samples, units + 1) {
    std::mt19937_64 generator(7);
    std::normal_distribution<double> normal;
    for (Index s = 0; s < Samples::padded(n); ++s) {
      double t = 0;
      for (Index u = 0; u < p; ++u) {
        phi(s, u) = normal(generator) / std::sqrt(double(p));
        t += (u % 3 == 0 ? 2 : -1) * phi(s, u);
      }
      phi(s, p) = 1e9;
      if (s >= n) continue;
      real.push_back(t + noise * normal(generator));
      sign.push_back(real.back() > 0 ? 1 : -1);
    }
  }
  const std::vector<double>& y(const ReadoutLoss& loss) const { return loss.margin ? sign : real; }
};

/// The loss as textbooks write it.
double textbook(const std::string& name, double y, double f) {
  const double e = std::abs(y - f), gap = std::max(0.0, 1 - y * f);
  if (name == "Huber") return e < 0.2 ? e * e : 0.4 * e - 0.04;
  if (name == "absolute") return e;
  if (name == "quantile") return y > f ? 0.9 * (y - f) : 0.1 * (f - y);
  if (name == "hinge") return gap;
  if (name == "squared hinge") return gap * gap;
  if (name == "logistic") return std::log(1 + std::exp(-y * f));
  return e * e;
}

/// max over g of the dual: 2 g e0 - (conjugate), e0 = y or 1; the logistic conjugate is -(entropy
/// of 2 g).
double dual_term(const ReadoutLoss& loss, double y, double g) {
  if (loss.kind == ReadoutLoss::Kind::logistic) {
    const double p = 2 * g, q = 1 - p;
    return -(p > 0 ? p * std::log(p) : 0.0) - (q > 0 ? q * std::log(q) : 0.0);
  }
  return 2 * g * (loss.margin ? 1 : y) - loss.kappa * g * g;
}

void optimal(const Problem& problem, const Case& c, Index n, double lam, const double* a,
             const double* g, double gap) {
  const std::vector<double>& y = problem.y(c.loss);
  double primal = 0, dual = 0;
  std::vector<double> image(problem.p, 0.0);
  for (Index s = 0; s < n; ++s) {
    double f = 0;
    for (Index u = 0; u < problem.p; ++u) f += problem.phi(s, u) * a[u];
    primal += textbook(c.name, y[s], f);
    dual += dual_term(c.loss, y[s], g[s]);
    CHECK(c.loss.kind != ReadoutLoss::Kind::piecewise || (g[s] >= c.loss.lo && g[s] <= c.loss.hi),
          c.name, g[s]);
    for (Index u = 0; u < problem.p; ++u)
      image[u] += g[s] * (c.loss.margin ? y[s] : 1) * problem.phi(s, u);
  }
  for (Index u = 0; u < problem.p; ++u) {
    primal += lam * a[u] * a[u];
    dual -= image[u] * image[u] / lam;
  }
  CHECK(gap <= 1e-10, c.name, n, lam, gap);
  const double rounding = 1e-14 * double(n);  // of the sums here
  CHECK(primal - dual <= 1.1e-10 * primal + rounding, c.name, n, lam, primal, dual);
  CHECK(primal - dual >= -1e-12 * primal - rounding, c.name, n, lam, primal, dual);
}

void test_every_loss_is_minimised() {
  const Problem problem(150, 60, 0.5);
  for (const Case& c : cases()) {
    std::vector<double> of_one;
    for (const int threads : {1, 3}) {
      Interrupt interrupt;
      Fit fit(c.loss, problem.phi, problem.p, problem.y(c.loss), 55, threads, interrupt);
      std::vector<double> a(problem.p, 0.0), g(problem.n, 0.0);
      for (const Index n : {20, 55, 61, 150})
        for (const double lam : {2.0, 0.05, 1e-4, 1e-7}) {
          const double gap = fit(n, lam, a.data(), g.data());
          optimal(problem, c, n, lam, a.data(), g.data(), gap);
        }
      if (threads == 1) of_one = a;
      else CHECK(a == of_one, c.name);
    }
  }
}

void test_the_square_loss_is_ridge_regression() {
  const Problem problem(40, 25, 0.5);
  const ReadoutLoss square;
  Interrupt interrupt;
  Fit fit(square, problem.phi, problem.p, problem.real, 0, 1, interrupt);
  std::vector<double> a(problem.p, 0.0), g(problem.n, 0.0);
  fit(40, 0.3, a.data(), g.data());
  for (Index u = 0; u < problem.p; ++u) {
    double defect = -0.3 * a[u];
    for (Index s = 0; s < 40; ++s)
      defect += problem.phi(s, u) * (problem.real[s] - fit.predictions()[s]);
    CHECK(std::abs(defect) < 1e-9, u, defect);
  }
}

void test_the_maximum_margin() {
  const ReadoutLoss loss{ReadoutLoss::Kind::max_margin, 0, 0, infinity, true};
  {
    const Problem problem(90, 60, 0.3);
    for (const Index n : {10, 50, 90}) {
      Interrupt interrupt;
      Fit fit(loss, problem.phi, problem.p, problem.sign, 50, 1, interrupt);
      std::vector<double> a(problem.p, 0.0), g(problem.n, 0.0), image(problem.p, 0.0);
      const double gap = fit(n, 1.0, a.data(), g.data());
      CHECK(gap <= 1e-10, n, gap);
      double least = infinity, sum = 0, norm = 0, dual = 0;
      for (Index s = 0; s < n; ++s) {
        double f = 0;
        for (Index u = 0; u < problem.p; ++u) {
          f += problem.phi(s, u) * a[u];
          image[u] += g[s] * problem.sign[s] * problem.phi(s, u);
        }
        least = std::min(least, problem.sign[s] * f), sum += g[s];
      }
      for (Index u = 0; u < problem.p; ++u) norm += a[u] * a[u], dual += image[u] * image[u];
      CHECK(std::abs(least - 1) < 1e-12, n, least);
      CHECK(norm - sum * sum / dual <= 1.1e-10 * norm, n, norm, sum * sum / dual);
    }
  }
  const Problem problem(300, 30, 2);  // noisy labels, ten times as many as units
  Interrupt interrupt;
  Fit fit(loss, problem.phi, problem.p, problem.sign, 0, 1, interrupt);
  std::vector<double> a(problem.p, 0.0), g(problem.n, 0.0);
  bool refused = false;
  try {
    fit(300, 1.0, a.data(), g.data());
  } catch (const NoReadout& error) { refused = error.not_separable; }
  CHECK(refused);
}

void test_a_start_changes_nothing() {
  const Problem problem(100, 40, 0.5);
  for (const Case& c : cases()) {
    Interrupt interrupt;
    Fit fit(c.loss, problem.phi, problem.p, problem.y(c.loss), 0, 1, interrupt);
    std::vector<double> cold(40, 0.0), warm(40, 0.0), g(100, 0.0), h(100, 0.0);
    fit(100, 0.1, cold.data(), g.data());
    fit(80, 1.0, warm.data(), h.data());
    fit(100, 0.1, warm.data(), h.data());
    double distance = 0, size = 0;
    for (Index u = 0; u < 40; ++u)
      distance += (cold[u] - warm[u]) * (cold[u] - warm[u]), size += cold[u] * cold[u];
    // lam |difference|^2 is at most the two gaps.
    CHECK(distance < 1e-8 * size, c.name, distance, size);
  }
}

}  // namespace

int main() {
  test_every_loss_is_minimised();
  test_the_square_loss_is_ridge_regression();
  test_the_maximum_margin();
  test_a_start_changes_nothing();
  return srfx::test::report();
}
