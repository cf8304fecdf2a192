// Several readout values in the actual one-step network: the fixed point against its equations
// iterated plainly, derivatives against differences, solutions fed back, copies of one group
// against the code for one value, threads.
#ifndef SRFX_MAX_FIXED_GROUPS
#define SRFX_MAX_FIXED_GROUPS 2
#endif
#include <vector>

#include "check.hpp"
#include "srfx/solve/anisotropic.hpp"
#include "srfx/solve/group_levels.hpp"
#include "srfx/solve/group_step.hpp"
#include "srfx/solve/group_step_solver.hpp"
#include "srfx/gaussian/named.hpp"

using namespace srfx;

namespace {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

struct Functions {
  NamedFunction sigma, slope, target;
  Functions(const char* activation, const char* goal)
      : sigma(activation_from_name(activation)),
        slope(activation_from_name(activation), true),
        target(activation_from_name(goal)) {}

  GroupStep step(std::vector<double> a, std::vector<double> pi, double eta, double alpha0,
                 double noise) const {
    double mean = 0;
    for (std::size_t g = 0; g < a.size(); ++g) mean += a[g] * pi[g];
    return GroupStep(step_constants(sigma, slope), BatchTarget{&target}, std::move(a),
                     std::move(pi), mean, eta, 1 / alpha0, noise);
  }
};

/// (Vh1, A) of a point, packed, unit convention; Vh1 is not diagonal.
Vector averages(int k, double size) {
  Vector out(k * (k + 1) / 2 + k);
  for (int g = 0; g < k; ++g)
    for (int h = g; h < k; ++h)
      out(detail::index(k, g, h)) = g == h ? 0.7 + 0.2 * g : 0.15 - 0.1 * g;
  for (int g = 0; g < k; ++g) out(k * (k + 1) / 2 + g) = size * (1 + 0.5 * g);
  return out;
}

/// The equations at the head of group_step_map.hpp, every block of size 2 K, iterated from V2 =
/// pi/(A + diag Vh1), X = Ah. Packed.
Vector by_plain_iteration(const GroupStep& step, const Vector& vh, double lam, double beta) {
  const int k = step.k(), n = 2 * k, pairs = k * (k + 1) / 2;
  Matrix vv = Matrix::Identity(n, n), x = Matrix::Zero(n, n);
  Vector a(k), v2(k), root_c(k);
  for (int g = 0; g < k; ++g) root_c(g) = std::sqrt(step.groups[g].spike.c);
  for (int g = 0; g < k; ++g) {
    for (int h = g; h < k; ++h)
      vv(g, h) = vv(h, g) = vh(detail::index(k, g, h)) / (root_c(g) * root_c(h));
    a(g) = lam + vh(pairs + g);
    v2(g) = step.pi[g] / (a(g) + vv(g, g));
    x(g, g) = beta * v2(g);
  }
  const Matrix one = Matrix::Identity(n, n);
  for (int iteration = 0; iteration < 20000; ++iteration) {
    const Matrix gm = vv * (one + x * vv).inverse();
    Matrix next = Matrix::Zero(n, n);
    Vector below(k);
    for (int g = 0; g < k; ++g) next(g, g) = beta * v2(g), below(g) = a(g) + gm(g, g);
    for (Index i = 0; i < step.nodes.size(); ++i) {
      const double u = step.nodes.u[i], weight = step.nodes.w[0][i];
      Matrix b = Matrix::Zero(n, n);
      for (int g = 0; g < k; ++g) {
        const StepModel& m = step.groups[g];
        const double f = m.e2 * std::sqrt(beta * v2(g));
        b(g, g) = 2 * beta * m.e2 * v2(g) * u + beta * m.kap * v2(g) * u * u;
        b(g, k + g) = f * u, b(k + g, g) = -f * u;
      }
      const Matrix q = (one + step.iota * b * gm).inverse(), gq = gm * q;
      next += weight * q * b;
      for (int g = 0; g < k; ++g) {
        const StepModel& m = step.groups[g];
        below(g) += weight * (m.kap * u * u * gq(g, g) + 2 * m.e2 * u * gq(g, g));
        if (m.e2 != 0)
          below(g) += weight * m.e2 * m.e2 / (m.e2 * std::sqrt(beta * v2(g))) * u * gq(k + g, g);
      }
    }
    Vector v(k);
    for (int g = 0; g < k; ++g) v(g) = step.pi[g] / below(g);
    const double moved = (v - v2).cwiseQuotient(v).cwiseAbs().maxCoeff() +
                         (next - x).cwiseAbs().maxCoeff() / next.cwiseAbs().maxCoeff();
    v2 = v, x = next;
    if (moved < 1e-15) break;
  }
  const Matrix v1 = x * (one + vv * x).inverse();
  Vector out(pairs + k);
  for (int g = 0; g < k; ++g) {
    for (int h = g; h < k; ++h)
      out(detail::index(k, g, h)) = v1(g, h) / (beta * root_c(g) * root_c(h));
    out(pairs + g) = v2(g);
  }
  return out;
}

void the_fixed_point(const char* activation, const GroupStep& step) {
  for (const double beta : {0.5, 2.0})
    for (const double size : {1e-2, 1.0}) {
      const Vector vh = averages(step.k(), size);
      GroupStepBulk bulk(step, beta);
      bulk.solve(vh, 0.1 * size);
      CHECK(!bulk.failed() && bulk.defect() < 1e-10, activation, beta, size);
      const Vector plain = by_plain_iteration(step, vh, 0.1 * size, beta);
      for (int j = 0; j < bulk.packed; ++j)
        CHECK_ABS(bulk.values()(j), plain(j), 1e-11 * plain.cwiseAbs().maxCoeff(), activation, beta,
                  size, j);
    }
}

/// T = -dV/d(Vh1, A), and the sources -d(hat^T K hat)/d(Vh1, A) with half the weight on each of two
/// equal entries.
void derivatives(const char* activation, const GroupStep& step) {
  const double beta = 1.3, lam = 0.05;
  const int k = step.k();
  const Vector vh = averages(k, 0.3);
  GroupStepBulk bulk(step, beta), moved(step, beta);
  bulk.solve(vh, lam);
  Matrix hats(k, 4);
  for (int g = 0; g < k; ++g)
    for (int c = 0; c < 4; ++c) hats(g, c) = std::cos(1.0 + 2 * g + 3 * c);
  const auto form = [&](const GroupOverlaps<double>& o) {
    const Vector v = hats.col(0), z = hats.col(1), d = hats.col(2), m = hats.col(3);
    return v.dot(o.vv * v) + z.dot(o.zz * z) + d.dot(o.dd * d) + m.dot(o.mean * m) +
           2 * v.dot(o.vz * z) + 2 * d.dot(o.dv * v) + 2 * d.dot(o.dz * z);
  };
  const Vector sources = bulk.sources(hats);
  const double h = 1e-3;
  for (int j = 0; j < bulk.packed; ++j) {
    Vector slope = Vector::Zero(bulk.packed);
    double change = 0;
    for (const auto& [steps, weight] : {std::pair{-2, 1.0}, {-1, -8.0}, {1, 8.0}, {2, -1.0}}) {
      Vector at = vh;
      at(j) += steps * h;
      moved.solve(at, lam);
      slope += weight / (12 * h) * moved.values();
      change += weight / (12 * h) * form(moved.overlaps());
    }
    const double scale = slope.cwiseAbs().maxCoeff();
    for (int i = 0; i < bulk.packed; ++i)
      CHECK_ABS(bulk.traces()(i, j), -slope(i), 1e-8 * scale, activation, i, j);
    CHECK_ABS(sources(j) * bulk.twice[j], -change, 1e-8 * std::abs(change) + 1e-9, activation, j);
  }
}

/// Over other axes of the features everything is the same but for the axes: V1 = L V1' L^T if Vh1'
/// = L^T Vh1 L.
void other_axes(const char* activation, const GroupStep& step) {
  const double beta = 1.3, lam = 0.05, angle = 0.4;
  const int k = step.k();
  Matrix axes(k, k);
  axes << std::cos(angle), -std::sin(angle), std::sin(angle), std::cos(angle);
  const Matrix legs = step.legs(axes);
  const Vector vh = averages(k, 0.3);
  const auto square = [&](const Vector& packed) {
    Matrix out(k, k);
    for (int g = 0; g < k; ++g)
      for (int h = 0; h < k; ++h) out(g, h) = packed(detail::index(k, g, h));
    return out;
  };
  Vector turned = vh;
  const Matrix turned_vh1 = legs.transpose() * square(vh) * legs;
  for (int g = 0; g < k; ++g)
    for (int h = g; h < k; ++h) turned(detail::index(k, g, h)) = turned_vh1(g, h);
  const Matrix twice = axes * axes;  // turned by as much again, and back
  GroupStepBulk bulk(step, beta), other(step, beta, &twice);
  other.turn(axes.transpose());
  bulk.solve(vh, lam), other.solve(turned, lam);
  const auto same = [&](const Matrix& a, const Matrix& b, const char* what) {
    for (Index i = 0; i < a.size(); ++i)
      CHECK_ABS(a.data()[i], b.data()[i], 1e-12 * a.cwiseAbs().maxCoeff() + 1e-13, activation, what,
                i);
  };
  same(square(bulk.values()), legs * square(other.values()) * legs.transpose(), "V1");
  same(bulk.values().tail(k), other.values().tail(k), "V2");
  const GroupOverlaps<double> a = bulk.overlaps(), b = other.overlaps();
  same(a.vv, legs * b.vv * legs.transpose(), "vv"),
      same(a.vz, legs * b.vz * legs.transpose(), "vz"),
      same(a.zz, legs * b.zz * legs.transpose(), "zz");
  same(a.dv, b.dv * legs.transpose(), "dv"), same(a.dz, b.dz * legs.transpose(), "dz"),
      same(a.dd, b.dd, "dd"), same(a.mean, b.mean, "mean");
  // The state stays where it is when the axes are turned.
  other.turn(axes.transpose());
  Vector plain = vh;
  for (int g = 0; g < k; ++g)
    for (int h = g; h < k; ++h)
      plain(detail::index(k, g, h)) /= std::sqrt(step.groups[g].spike.c * step.groups[h].spike.c);
  other.solve(plain, lam);
  const Matrix back = Matrix(step.legs(Matrix::Identity(k, k)));
  same(square(bulk.values()), back * square(other.values()) * back.transpose(), "V1 after a turn");
  other.turn(axes), other.solve(turned, lam);
  // T[N] along the same direction N
  const Matrix change = legs * square(other.traces().col(1)) *
                        legs.transpose();  // along the off-diagonal element of Vh1'
  Matrix direction = Matrix::Zero(k, k);
  direction(0, 1) = direction(1, 0) = 1;
  direction = (legs.transpose().inverse() * direction * legs.inverse()).eval();
  Vector along = Vector::Zero(bulk.packed);
  for (int g = 0; g < k; ++g)
    for (int h = g; h < k; ++h)
      along += direction(g, h) * bulk.traces().col(detail::index(k, g, h));
  same(change, square(along), "T");
}

/// A batch of points, their inputs and everything that comes out.
struct Solved {
  std::vector<double> alpha{0.4, 1, 3, 1}, beta{1, 0.5, 2, 1}, lam{0.1, 1e-6, 1e-3, 2}, noise,
      inverse_d;
  std::vector<double> test, train, m, theta, psi, q1, q2, v1, v2, residual, error, chi, r, c, gamma;
  std::vector<std::int8_t> status;
  std::vector<std::int32_t> iterations;
  std::int64_t zero = 0;
  Index n, k;

  Solved(double label_noise, double d, Index groups)
      : noise(4, label_noise),
        inverse_d(4, 1 / d),
        n(4),
        k(groups) {
    for (auto* x : {&test, &train, &residual, &error}) x->resize(n);
    for (auto* x : {&m, &theta, &psi, &q2, &v2, &chi, &r, &c, &gamma}) x->resize(n * k);
    for (auto* x : {&q1, &v1}) x->resize(n * k * k);
    status.resize(n), iterations.resize(n);
  }
  template <class Input> void fill(Input& in) {
    in.set_index = &zero, in.n_points = n;
    in.alpha = {alpha.data(), 1}, in.beta = {beta.data(), 1}, in.lam = {lam.data(), 1},
    in.noise = {noise.data(), 1};
    in.inverse_d = {inverse_d.data(), 1};
  }
  template <class Output> Output output() {
    Output out{};
    out.test_error = test.data(), out.train_error = train.data(), out.m = m.data(),
    out.theta = theta.data(), out.psi = psi.data();
    out.q1 = q1.data(), out.q2 = q2.data(), out.v1 = v1.data(), out.v2 = v2.data(),
    out.residual = residual.data();
    out.quadrature_error = error.data(), out.status = status.data(),
    out.iterations = iterations.data();
    out.chi = chi.data(), out.r = r.data(), out.c = c.data(), out.gamma = gamma.data();
    return out;
  }
};

Solved groups(const Functions& f, std::vector<double> a, std::vector<double> pi, double eta,
              double alpha0, double noise, double d, int n_threads, bool merge) {
  Solved out(noise, d, static_cast<Index>(a.size()));
  GroupStepInput in;
  in.sigma = &f.sigma, in.derivative = &f.slope, in.target = &f.target, in.readout = std::move(a),
  in.pi = std::move(pi);
  in.sets = {{eta, 1 / alpha0, noise}}, in.n_threads = n_threads, in.merge = merge;
  out.fill(in);
  Interrupt interrupt;
  solve_group_step(in, out.output<GroupStepOutput>(), interrupt);
  return out;
}

Solved one_value(const Functions& f, double a, double eta, double alpha0, double noise, double d) {
  Solved out(noise, d, 1);
  BatchInput in;
  in.sigma = &f.sigma, in.target = &f.target, in.n_threads = 1;
  out.fill(in);
  const OneStepSource source(f.sigma, f.slope, f.target, a, {{eta, 1 / alpha0, noise}},
                             OneStepSource::Path::automatic);
  Interrupt interrupt;
  solve_anisotropic(source, in, out.output<AnisotropicOutput>(), interrupt);
  return out;
}

/// Two copies of one group, kept apart and merged, are what the code for one value gives.
void copies(const char* activation, const char* target, double a, double eta, double alpha0,
            double noise, double d) {
  const Functions f(activation, target);
  const Solved one = one_value(f, a, eta, alpha0, noise, d),
               apart = groups(f, {a, a}, {0.3, 0.7}, eta, alpha0, noise, d, 1, false),
               merged = groups(f, {a, a}, {0.3, 0.7}, eta, alpha0, noise, d, 1, true);
  for (Index i = 0; i < one.n; ++i)
    for (const Solved* two : {&apart, &merged}) {
      const bool kept = two == &apart;
      CHECK(two->status[i] == 0 && two->residual[i] < 1e-11, activation, kept, i, two->residual[i]);
      CHECK_REL(two->test[i], one.test[i], 1e-10, activation, kept, i);
      CHECK_REL(two->train[i], one.train[i], 1e-10, activation, kept, i);
      CHECK_REL(two->v2[2 * i] + two->v2[2 * i + 1], one.v2[i], 1e-10, activation, kept, i);
      CHECK_REL(two->q2[2 * i] + two->q2[2 * i + 1], one.q2[i], 1e-9, activation, kept, i);
      CHECK_ABS(two->psi[2 * i] + two->psi[2 * i + 1], one.psi[i], 1e-9, activation, kept, i);
      CHECK_REL(two->r[2 * i], one.r[i], 1e-12, activation, kept, i);
      CHECK_REL(two->c[2 * i + 1], one.c[i], 1e-12, activation, kept, i);
      double v1 = 0;
      for (int j = 0; j < 4; ++j) v1 += two->v1[4 * i + j];
      CHECK_REL(v1, one.v1[i], 1e-10, activation, kept, i);
    }
}

/// V of a solution, put into w, the averages and the map, comes back; threads change no bit.
void fed_back(const char* activation, const char* target, double eta, double alpha0, double noise,
              double d) {
  const Functions f(activation, target);
  const std::vector<double> a{0.4, 1.5}, pi{0.6, 0.4};
  const Solved x = groups(f, a, pi, eta, alpha0, noise, d, 1, true),
               y = groups(f, a, pi, eta, alpha0, noise, d, 2, true);
  CHECK(x.test == y.test && x.train == y.train && x.m == y.m && x.q1 == y.q1 && x.v1 == y.v1 &&
            x.residual == y.residual,
        activation);
  const GroupStep step = f.step(a, pi, eta, alpha0, noise);
  CoefficientScratch scratch;
  GroupParameters p;
  p.pi = pi, p.gamma = step.gamma;
  for (const StepModel& g : step.groups) p.r.push_back(g.spike.r), p.c.push_back(g.spike.c);
  GroupTable table(f.sigma, f.target, p, scratch);
  for (Index i = 0; i < x.n; ++i) {
    CHECK(x.status[i] == 0 && x.residual[i] < 1e-11 && x.error[i] < 1e-9, activation, i,
          x.residual[i], x.error[i]);
    Vector v(5), vh = Vector::Zero(5);
    v << x.v1[4 * i], x.v1[4 * i + 1], x.v1[4 * i + 3], x.v2[2 * i], x.v2[2 * i + 1];
    CHECK(x.v1[4 * i + 1] == x.v1[4 * i + 2], activation, i);
    const GroupNodes& nodes =
        table.nodes(GroupTable::last_checked, GroupTable::class_of(v.tail(2).maxCoeff()));
    for (Index node = 0; node < nodes.size; ++node) {
      const double* e = &nodes.e[node * nodes.stride];
      const double w =
          1 / (1 + e[0] * v(0) + 2 * e[1] * v(1) + e[2] * v(2) + e[3] * v(3) + e[4] * v(4));
      for (int j = 0; j < 5; ++j) vh(j) += x.alpha[i] / x.beta[i] * nodes.weight[node] * w * e[j];
    }
    GroupStepBulk bulk(step, x.beta[i]);
    bulk.solve(vh, x.lam[i]);
    for (int j = 0; j < 5; ++j)
      CHECK_ABS(bulk.values()(j), v(j), 1e-8 * v.cwiseAbs().maxCoeff(), activation, i, j);
  }
}

}  // namespace

int main() {
  const Functions odd("tanh", "sin"), line("relu", "tanh");
  const GroupStep narrow = odd.step({0.5, 1.5}, {0.4, 0.6}, 3, 0.5, 0),
                  wide = line.step({0.3, 1.7}, {0.4, 0.6}, 2, 1, 0.2);
  CHECK(!narrow.wide && narrow.n() == 2 && wide.wide && wide.n() == 4);
  the_fixed_point("tanh", narrow);
  the_fixed_point("relu", wide);
  the_fixed_point("a value of zero", line.step({0, 1.7}, {0.4, 0.6}, 2, 1, 0.2));
  derivatives("tanh", narrow);
  derivatives("relu", wide);
  other_axes("tanh", narrow);
  other_axes("relu", wide);
  copies("tanh", "sin", 1, 3, 0.25, 0, infinity);
  copies("tanh", "tanh", 0.6, 0.5, 20, 0.1, 600);
  copies("relu", "tanh", 1, 2, 1, 0.2, infinity);
  fed_back("tanh", "sin", 2, 0.5, 0, infinity);
  fed_back("relu", "tanh", 1, 2, 0.1, 600);
  return test::report();
}
