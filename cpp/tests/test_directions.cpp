// Targets of several directions: the axes, the planes, the averages given the spikes, the marginal
// beside one spike.
#include "check.hpp"

#include "srfx/gaussian/carriers.hpp"
#include "srfx/gaussian/marginal.hpp"
#include "srfx/gaussian/named.hpp"
#include "srfx/gaussian/spike_rules.hpp"

using namespace srfx;

namespace {

/// sin(t1) + t1 t2 or, with planes, |t1 - t2| + sign(t1).
class Sample final : public TargetFunction {
 public:
  explicit Sample(bool kinked) : kinked_(kinked) {
    shape_.directions = 2;
    if (kinked) shape_.planes = {{{1, -1}, 0}, {{1, 0}, 0}, {{-2, 0}, 0}};
  }
  double at(double a, double b) const {
    return kinked_ ? std::abs(a - b) + (a > 0 ? 1 : -1) : std::sin(a) + a * b;
  }
  void evaluate(const double* t, double* y, Index n) const override {
    for (Index i = 0; i < n; ++i) y[i] = at(t[i], t[n + i]);
  }

 private:
  bool kinked_;
};

/// E f(t), E z_m f(t), E f^2 at t = mean + a z by panels with edges at the kinks of the inner and
/// the outer integral.
struct Plain {
  double h = 0, h1[2] = {0, 0}, hh = 0;
};
Plain plain(const Sample& f, const double mean[2], const dense::Matrix& a, bool kinked) {
  // z1 outer, z2 inner; t_l = mean_l + a_l1 z1 + a_l2 z2
  Rule outer;
  std::vector<double> edges{-9.5, 9.5};
  const double normals[2][2] = {{1, -1}, {1, 0}};
  double n1[2], n2[2], off[2];
  for (int p = 0; p < 2; ++p) {
    n1[p] = normals[p][0] * a(0, 0) + normals[p][1] * a(1, 0);
    n2[p] = normals[p][0] * a(0, 1) + normals[p][1] * a(1, 1);
    off[p] = -(normals[p][0] * mean[0] + normals[p][1] * mean[1]);
  }
  if (kinked) {
    const double slope = n1[0] * n2[1] - n1[1] * n2[0];
    if (std::abs(slope) > 1e-12) edges.push_back((off[0] * n2[1] - off[1] * n2[0]) / slope);
    for (int p = 0; p < 2; ++p)
      if (std::abs(n2[p]) < 1e-12 && std::abs(n1[p]) > 1e-12) edges.push_back(off[p] / n1[p]);
  }
  std::sort(edges.begin(), edges.end());
  for (std::size_t e = 0; e + 1 < edges.size(); ++e)
    outer.push_panels(std::max(-9.5, edges[e]), std::min(9.5, edges[e + 1]), 0.5, 16);
  outer.finish();
  Plain out;
  for (Index i = 0; i < outer.size(); ++i) {
    std::vector<double> inside{-9.5, 9.5};
    for (int p = 0; kinked && p < 2; ++p)
      if (std::abs(n2[p]) > 1e-12) {
        const double edge = (off[p] - n1[p] * outer.x[i]) / n2[p];
        if (std::abs(edge) < 9.5) inside.push_back(edge);
      }
    std::sort(inside.begin(), inside.end());
    Rule inner;
    for (std::size_t e = 0; e + 1 < inside.size(); ++e)
      inner.push_panels(inside[e], inside[e + 1], 0.5, 16);
    inner.finish();
    for (Index j = 0; j < inner.size(); ++j) {
      const double z1 = outer.x[i], z2 = inner.x[j], w = outer.w[i] * inner.w[j];
      const double y =
          f.at(mean[0] + a(0, 0) * z1 + a(0, 1) * z2, mean[1] + a(1, 0) * z1 + a(1, 1) * z2);
      out.h += w * y, out.h1[0] += w * z1 * y, out.h1[1] += w * z2 * y, out.hh += w * y * y;
    }
  }
  return out;
}

void planes_are_eliminated() {
  Sample f(true);
  const AxisPlanes planes(f.shape(), dense::Matrix::Identity(2, 2));
  std::vector<double> edges;
  planes.edges(0, nullptr, edges);
  CHECK(edges.size() == 1 && edges[0] == 0, edges.size());  // t1 = 0, given twice
  edges.clear();
  const double t = 0.7;
  planes.edges(1, &t, edges);
  CHECK(edges.size() == 1);
  CHECK_ABS(edges[0], 0.7, 1e-15);
}

/// The marginal at several a, against plain integrals over the other axis.
void marginal_functions(bool kinked) {
  const Sample f(kinked);
  const double alignment[2] = {0.6, -0.7};
  const Marginal marginal(f, alignment);
  CHECK(marginal.error() < 1e-12, marginal.error());
  const dense::Matrix& u = marginal.turn();
  CHECK_ABS(u(0, 0), 0.6 / std::sqrt(0.85), 1e-15);
  for (double a : {-4.1, -0.3, 0.01, 2.2, 7.0}) {
    const double mean[2] = {u(0, 0) * a, u(1, 0) * a};
    dense::Matrix across = dense::Matrix::Zero(2, 2);
    across.col(1) = u.col(1);
    const Plain expected = plain(f, mean, across, kinked);
    double main, other, spread;
    marginal.main().evaluate(&a, &main, 1);
    marginal.across(0).evaluate(&a, &other, 1);
    marginal.spread().evaluate(&a, &spread, 1);
    const double size = std::sqrt(expected.hh);
    CHECK_ABS(main, expected.h, 4e-13 * size, a);
    CHECK_ABS(other, expected.h1[1], 4e-13 * size, a);
    CHECK_ABS(spread, expected.hh - expected.h * expected.h - expected.h1[1] * expected.h1[1],
              1e-12 * expected.hh, a);
  }
}

/// Averages given two spikes, of several alignments: general, and with one direction or both all
/// spike.
void averages_at_spikes(bool kinked, double first, double second) {
  const Sample f(kinked);
  const double c = std::cos(0.4), s = std::sin(0.4);
  dense::Matrix turn(2, 2), gamma(2, 2), spikes(2, 2);
  turn << c, -s, s, c;
  spikes << std::cos(1.1), std::sin(1.1), -std::sin(1.1), std::cos(1.1);
  gamma = turn * Eigen::Vector2d(first, second).asDiagonal() * spikes;
  const SpikeRules rules(f, gamma, 1.0);
  const TargetTable table = rules.rung(4);
  const Directions& axes = rules.directions();
  double mass = 0, square = 0;
  for (Index i = 0; i < table.size; ++i)
    mass += table.weight[i], square += table.weight[i] * table.values[(i + 1) * 4 - 1];
  CHECK_ABS(mass, 1, 1e-12);
  const double origin[2] = {0, 0};
  CHECK_REL(square, plain(f, origin, dense::Matrix::Identity(2, 2), kinked).hh, 1e-10, first,
            second);
  for (Index i = table.size / 3; i < table.size; i += table.size / 5) {
    const double* const k = &table.k[2 * i];
    if (k[0] * k[0] + k[1] * k[1] > 50) continue;
    double mean[2];
    dense::Matrix a(2, 2);
    for (int l = 0; l < 2; ++l) {
      mean[l] = axes.turn(l, 0) * axes.gamma[0] * k[0] + axes.turn(l, 1) * axes.gamma[1] * k[1];
      for (int j = 0; j < 2; ++j) a(l, j) = axes.turn(l, j) * axes.rho[j];
    }
    const Plain expected = plain(f, mean, a, kinked);
    const double* const v = &table.values[4 * i];
    const double size = std::sqrt(expected.hh);
    CHECK_ABS(v[0], expected.h, 1e-12 * size, k[0], k[1], first, second);
    for (int j = 0; j < 2; ++j)
      CHECK_ABS(v[1 + j], axes.rho[j] > 0 ? expected.h1[j] : 0, 1e-12 * size, j, k[0], k[1]);
    CHECK_REL(v[3], expected.hh, 1e-12, k[0], k[1]);
  }
}

/// More directions than the averages of one axis need: a product of three, given no spike.
void three_directions() {
  const NamedTarget product(TargetId::product, 3), largest(TargetId::max, 3);
  Rule origin;
  origin.push(0, 1);
  const Directions apart(dense::Matrix::Zero(3, 1));
  const auto at = [&](const TargetFunction& f) {
    return TargetAverages(f, apart, 1).at([&](int, const std::vector<double>&) { return origin; });
  };
  const TargetTable a = at(product), b = at(largest);
  CHECK_ABS(a.values[0], 0, 1e-14);
  CHECK_REL(a.values[4], 1, 1e-13);
  CHECK_REL(b.values[0], 3 / (2 * std::sqrt(3.14159265358979323846)), 1e-12);
  double sum = 0;
  for (int j = 0; j < 3; ++j) sum += b.values[1 + j] * b.values[1 + j];
  CHECK_REL(sum, 1.0 / 3, 1e-12);
}

/// A kink nearly across the first axis: what the second axis smears it to is resolved, on any
/// number of nodes.
void steep_kinks() {
  const NamedTarget target(TargetId::sign_product, 2);
  dense::Matrix alignment(2, 2);
  alignment << 0.547, -0.285, -0.130, -0.166;
  const Directions axes(alignment);
  const auto at = [&](double density) {
    return TargetAverages(target, axes, density).at([](int, const std::vector<double>&) {
      Rule rule;
      rule.push(-1.3, 1), rule.push(0.3, 1), rule.push(2.2, 1);
      return rule;
    });
  };
  const TargetTable coarse = at(0.9), fine = at(3);
  for (std::size_t i = 0; i < fine.values.size(); ++i)
    CHECK_ABS(coarse.values[i], fine.values[i], 1e-11);
}

/// Masses that nodes carry: averages of functions with poles at delta from [-1, 1] stay.
void carried_masses() {
  const double delta = 0.2, far = 60;
  Carriers carriers(carrier_edges(-far, far, -1, 1, delta));
  std::vector<double> y;
  for (int i = 0; i < 3000; ++i) y.push_back(far * std::sin(0.7 * i) * std::cos(1.3 * i * i));
  y.push_back(-far), y.push_back(far), y.push_back(0);
  carriers.see(y.data(), static_cast<Index>(y.size()), Lagrange::most);
  carriers.fix(Lagrange::most);
  CHECK(carriers.size() < 800, carriers.size());
  double shares[Lagrange::most];
  for (const double at : {-1.0, 0.3, 1.0}) {
    double worst = 0;
    for (const double x : y) {
      Index first = 0;
      const int count = carriers.shares(x, shares, first);
      double sum = 0, own = (x - at) / delta;
      for (int c = 0; c < count; ++c) {
        const double v = (carriers.x()[first + c] - at) / delta;
        sum += shares[c] / (1 + v * v);
      }
      worst = std::max(worst, std::abs(sum - 1 / (1 + own * own)));
    }
    CHECK_ABS(worst, 0, 1e-13, at);
  }
  // Few points carry themselves.
  const std::vector<double> few{-1, 1, 1, 0, -1};
  Carriers atoms(carrier_edges(-1, 1, -1, 1, 4));
  atoms.see(few.data(), 5, Lagrange::most);
  atoms.fix(Lagrange::most);
  CHECK(atoms.size() == 3 && atoms.x()[0] == -1 && atoms.x()[2] == 1);
}

}  // namespace

int main() {
  steep_kinks();
  carried_masses();
  planes_are_eliminated();
  for (const bool kinked : {false, true}) {
    marginal_functions(kinked);
    averages_at_spikes(kinked, 0.8, 0.5);
    averages_at_spikes(kinked, 1, 0.5);
    averages_at_spikes(kinked, 0.7, 0);
    averages_at_spikes(kinked, 0, 0);
    averages_at_spikes(kinked, 1, 1);
  }
  three_directions();
  return srfx::test::report();
}
