// Derivatives of the errors against central differences of order 8 of solves: groups, the actual
// step.
#include <complex>
#include <vector>

#include "check.hpp"
#include "srfx/solve/group_gradient.hpp"
#include "srfx/gaussian/named.hpp"
#include "srfx/solve/step_gradient.hpp"

using namespace srfx;

namespace {

constexpr int order = 8;
constexpr double offsets[order] = {-4, -3, -2, -1, 1, 2, 3, 4};
constexpr double stencil[order] = {1.0 / 280, -4.0 / 105, 1.0 / 5,   -4.0 / 5,
                                   4.0 / 5,   -1.0 / 5,   4.0 / 105, -1.0 / 280};

/// The eight points of the stencil, one a lane.
void groups_against_differences(const char* activation, bool finite_d) {
  const NamedFunction sigma(activation_from_name(activation)), target(activation_from_name("sin"));
  const GroupParameters p{{0.4, 1.1}, {1.0, 1.3}, {0.3, 0.7}, 0.8};
  const double base[4] = {0.05, 1.5, 0.8, 0.1};  // lam, alpha, beta, noise
  CoefficientScratch scratch;
  GroupTable table(sigma, target, p, scratch);
  const GroupNodes& nodes = table.nodes(KRules::n_trapezoid + 2, 3);
  GroupTangent<Pack, dynamic_groups> tangent(2);
  auto& system = tangent.system;
  for (int g = 0; g < 2; ++g) system.map.pi[g] = Pack(p.pi[static_cast<std::size_t>(g)]);
  const auto point = [&](int along, double step) {
    Pack x[4];
    for (int i = 0; i < 4; ++i) {
      x[i] = Pack(base[i]);
      if (i == along)
        for (int lane = 0; lane < order; ++lane) x[i].set(lane, base[i] + step * offsets[lane]);
    }
    return Point<Pack>{x[1],    x[2],       x[0], x[3], Pack(finite_d ? 1.0 / 500 : 0.0),
                       Pack(1), x[1] / x[2]};
  };
  for (int along = 0; along < 4; ++along) {
    const double step = 4e-3 * base[along];
    system.set_point(point(along, step));
    system.start();
    system.newton(nodes, {});
    system.linear_part(nodes, finite_d, tangent.order);
    double test = 0, train = 0;
    for (int lane = 0; lane < order; ++lane) {
      CHECK(tangent.order.residual[lane] < 1e-11, along, lane);
      test += stencil[lane] * tangent.order.test_error[lane] / step;
      train += stencil[lane] * tangent.order.train_error[lane] / step;
    }
    const Point<Pack> centre = point(-1, 0);
    system.set_point(centre);
    system.start();
    system.newton(nodes, {});
    tangent.prepare(nodes, finite_d);
    const auto slope =
        tangent.along(detail::moving_point(centre, static_cast<Direction>(along)), {});
    CHECK_REL(slope.test_error[0], test, 1e-9, along, finite_d);
    CHECK_REL(slope.train_error[0], train, 1e-9, along, finite_d);
  }
}

/// Solutions of `n` points of a source, and the derivatives at the last of them.
struct Batch {
  std::vector<double> alpha, beta, lam, noise, inverse_d, values[17], slopes[2];
  std::vector<std::int64_t> set;
  std::vector<std::int8_t> status;
  std::vector<std::int32_t> iterations;
  BatchInput in;
  AnisotropicOutput out{};

  Batch(const NamedFunction& sigma, const NamedFunction& target, std::size_t n)
      : alpha(n, 1.5),
        beta(n, 0.8),
        lam(n, 0.05),
        noise(n, 0.1),
        inverse_d(n, 1.0 / 400),
        set(n, 0),
        status(n),
        iterations(n) {
    for (auto& x : values) x.resize(n);
    in.sigma = &sigma, in.target = &target;
    for (std::size_t i = 0; i < n; ++i) set[i] = static_cast<std::int64_t>(i);
    in.set_index = set.data(), in.set_stride = 1;
    in.alpha = {alpha.data(), 1}, in.beta = {beta.data(), 1}, in.lam = {lam.data(), 1},
    in.noise = {noise.data(), 1};
    in.inverse_d = {inverse_d.data(), 1};
    in.n_points = static_cast<Index>(n);
    double** const columns[15] = {&out.test_error,
                                  &out.train_error,
                                  &out.m,
                                  &out.theta,
                                  &out.psi,
                                  &out.q1,
                                  &out.q2,
                                  &out.v1,
                                  &out.v2,
                                  &out.residual,
                                  &out.quadrature_error,
                                  &out.chi,
                                  &out.r,
                                  &out.c,
                                  &out.gamma};
    for (std::size_t j = 0; j < 15; ++j) *columns[j] = values[j].data();
    out.status = status.data(), out.iterations = iterations.data();
    for (auto& x : slopes) x.assign(n, 0);
  }

  void check(const OneStepSource& source, StepDirection along, double step, double tolerance) {
    Interrupt interrupt([] { return false; });
    solve_anisotropic(source, in, out, interrupt);
    GradientOutput gradients;
    gradients.test_error = {slopes[0].data()}, gradients.train_error = {slopes[1].data()};
    anisotropic_gradient<MovingStep>(source, in, out.v1, out.v2, {along}, gradients, interrupt);
    for (std::size_t e = 0; e < 2; ++e) {
      double expected = 0;
      for (std::size_t j = 0; j < order; ++j) {
        CHECK(status[j] == 0, j);
        expected += stencil[j] * values[e][j] / step;
      }
      CHECK_REL(slopes[e][order], expected, tolerance, static_cast<int>(along), e);
    }
  }
};

void step_against_differences(const char* activation, const char* goal) {
  const NamedFunction sigma(activation_from_name(activation)),
      slope(activation_from_name(activation), true), target(activation_from_name(goal));
  const OneStepSource::Parameters base{2.0, 0.8, 0.1};
  for (StepDirection along : {StepDirection::lam, StepDirection::beta, StepDirection::noise,
                              StepDirection::eta, StepDirection::inverse_alpha0}) {
    Batch batch(sigma, target, order + 1);
    std::vector<OneStepSource::Parameters> sets(order + 1, base);
    const double value = along == StepDirection::lam     ? 0.05
                         : along == StepDirection::beta  ? 0.8
                         : along == StepDirection::noise ? 0.1
                         : along == StepDirection::eta   ? base.eta
                                                         : base.inverse_alpha0;
    const double step = 4e-3 * value;
    for (std::size_t j = 0; j < order; ++j) {
      const double moved = value + step * offsets[j];
      if (along == StepDirection::lam) batch.lam[j] = moved;
      if (along == StepDirection::beta) batch.beta[j] = moved;
      if (along == StepDirection::noise) batch.noise[j] = sets[j].noise = moved;
      if (along == StepDirection::eta) sets[j].eta = moved;
      if (along == StepDirection::inverse_alpha0) sets[j].inverse_alpha0 = moved;
    }
    batch.check(OneStepSource(sigma, slope, target, 1.0, sets), along, step, 1e-7);
  }
}

}  // namespace

int main() {
  groups_against_differences("tanh", false);
  groups_against_differences("relu", true);
  step_against_differences("tanh", "sin");
  step_against_differences("relu", "tanh");
  return test::report();
}
