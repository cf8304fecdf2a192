// Labels of +1 and -1 (THEORY section 19): the probability of +1 given t, as a function of t that
// quadrature knows the shape of.
//
//   sign    y = sign(s*(t) + sqrt(noise) eps), P(+|t) = Phi(s*/sqrt(noise)); without noise a step,
//           1/2 where s* = 0
//   logit   P(+|t) = 1/(1 + exp(-slope s*(t)))
#pragma once

#include "srfx/gaussian/quadrature.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace srfx {

struct Labels {
  enum class Kind { real, sign, logit };
  Kind kind = Kind::real;
  double noise = 0;  ///< of "real" and "sign"
  double slope = 1;  ///< of "logit"

  /// The law of a number: of "logit" the slope, else the noise.
  static Labels of(Kind kind, double number) {
    return kind == Kind::logit ? Labels{kind, 0, number} : Labels{kind, number, 1};
  }
  bool real() const { return kind == Kind::real; }
  /// P(+|t) where the target has the value s.
  double plus(double s) const {
    if (kind == Kind::logit) return 1 / (1 + std::exp(-slope * s));
    if (noise > 0) return 0.5 * std::erfc(-s / std::sqrt(2 * noise));
    return s > 0 ? 1 : s < 0 ? 0 : 0.5;
  }
  /// Over which change of s* the probability changes: 0 for a step.
  double width() const { return kind == Kind::logit ? 1.6 / slope : std::sqrt(noise); }
};

/// A place where the probability of +1 changes fast, and over which distance in t.
struct Turn {
  double at, scale;
};

/// Where s* vanishes or its sign changes, |t| <= 12, with the distance over which it grows to
/// `width`. A scan finds them: two zeros nearer to each other than a hundredth are missed.
inline std::vector<Turn> turns_of(const Function& target, double width) {
  constexpr double reach = 12, spacing = 0.01;
  constexpr Index n = static_cast<Index>(2 * reach / spacing);
  std::vector<double> t(n), s(n);
  for (Index i = 0; i < n; ++i) t[i] = -reach + (static_cast<double>(i) + 0.37) * spacing;
  target.evaluate(t.data(), s.data(), n);
  const auto sign = [](double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; };
  std::vector<double> lo, hi;
  std::vector<int> left;
  std::vector<Turn> out;
  for (Index i = 0; i + 1 < n; ++i) {
    if (sign(s[i]) != sign(s[i + 1])) {
      lo.push_back(t[i]), hi.push_back(t[i + 1]), left.push_back(sign(s[i]));
    } else if (i > 0 && std::abs(s[i]) < std::abs(s[i - 1]) &&
               std::abs(s[i]) < std::abs(s[i + 1]) &&
               std::abs(s[i]) < 4 * width) {  // it comes near 0 and turns back
      out.push_back({t[i], spacing});
    }
  }
  const Index found = static_cast<Index>(lo.size());
  std::vector<double> middle(found), value(found);
  for (int pass = 0; pass < 52 && found > 0; ++pass) {
    for (Index i = 0; i < found; ++i) middle[i] = 0.5 * (lo[i] + hi[i]);
    target.evaluate(middle.data(), value.data(), found);
    for (Index i = 0; i < found; ++i) (sign(value[i]) == left[i] ? lo : hi)[i] = middle[i];
  }
  for (Index i = 0; i < found; ++i) {
    double at = 0.5 * (lo[i] + hi[i]);
    if (std::abs(at) < 1e-14) at = 0;
    for (const double kink : target.shape().kinks)
      if (std::abs(kink - at) < 1e-12) at = kink;
    out.push_back({at, 0});
  }
  for (Turn& turn : out) {  // how far s* stays below the width
    double distance = 0;
    for (Index i = 0; i < n; ++i)
      if (std::abs(s[i]) > width) {
        const double away = std::abs(t[i] - turn.at);
        if (distance == 0 || away < distance) distance = away;
      }
    turn.scale = width > 0 ? std::max(distance, 1e-3) : 0;
  }
  std::sort(out.begin(), out.end(), [](const Turn& a, const Turn& b) { return a.at < b.at; });
  return out;
}

}  // namespace srfx
