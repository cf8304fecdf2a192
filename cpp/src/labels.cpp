// The law of labels of +1 and -1.
#include "srfx/gaussian/label_residual.hpp"

namespace srfx {

namespace {

/// E t^i P(+|t), i = 0, 1, 2.
std::array<double, 3> plus_moments(const Function& target, const Labels& labels) {
  constexpr double reach = 9;
  std::vector<double> edges{-reach, reach};
  const auto add = [&](double t) {
    if (std::abs(t) < reach) edges.push_back(t);
  };
  const std::vector<Turn> turns = turns_of(target, labels.width());
  for (const double kink : target.shape().kinks) add(kink);
  for (const Turn& turn : turns)
    for (const double side : {-8.0, 0.0, 8.0}) add(turn.at + side * turn.scale);
  std::sort(edges.begin(), edges.end());
  Rule rule;
  for (std::size_t i = 0; i + 1 < edges.size(); ++i) {
    const double middle = 0.5 * (edges[i] + edges[i + 1]);
    double width = std::min(1.5, 0.5 * target.shape().panel);
    for (const Turn& turn : turns)
      if (std::abs(middle - turn.at) < 8 * turn.scale) width = std::min(width, turn.scale);
    rule.push_panels(edges[i], edges[i + 1], width, 16);
  }
  rule.finish();
  std::vector<double> s(rule.size());
  target.evaluate(rule.x.data(), s.data(), rule.size());
  std::array<double, 3> out{};
  for (Index i = 0; i < rule.size(); ++i) {
    const double t = rule.x[i], w = rule.w[i] * labels.plus(s[i]);
    out[0] += w, out[1] += w * t, out[2] += w * t * t;
  }
  return out;
}

/// Rounding errors of E y and E t y are zero.
double settled(double x) { return std::abs(x) < 1e-14 ? 0 : x; }

}  // namespace

LabelMoments label_moments(const Function& target, const Labels& labels) {
  const std::array<double, 3> plus = plus_moments(target, labels);
  return {settled(2 * plus[0] - 1), settled(2 * plus[1])};
}

LabelResidual::LabelResidual(const Function& target, const Labels& labels, double h0) {
  const std::array<double, 3> plus = plus_moments(target, labels);
  const double half = 0.5 * settled(2 * plus[0] - 1), t = 0.5 * settled(2 * plus[1]);
  const double of[2][3] = {{0.5 + half, t, plus[2]}, {0.5 - half, -t, 1 - plus[2]}};
  for (int side = 0; side < 2; ++side) {
    const double u = (side == 0 ? 1 : -1) - h0;
    double power = 1;
    for (std::size_t n = 0; n < moments.u.size(); ++n, power *= u)
      moments.u[n] += of[side][0] * power, moments.tu[n] += of[side][1] * power;
    nodes.push(u, of[side]);
  }
  nodes.pad();
}

}  // namespace srfx
