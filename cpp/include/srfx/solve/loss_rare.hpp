// Labels so rare that no sample has them (THEORY section 19, Limits): at tiny lam a strong spike makes
// labels against its sense very rare, and g for them large. Theory without them is what samples of n
// show.
#pragma once

#include "srfx/core/scalar.hpp"
#include "srfx/data/losses.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

namespace srfx::detail {

/// The least part of E g^2 that labels have on which a solution may hang.
constexpr double small_part = 1e-2;

/// Whether two solutions show fresh labels what is no longer the same: of theory without rare labels
/// and with them a twentieth. In the few models simulated at d = 500 that parts those that
/// simulations contradict from those that they do not.
inline bool shows(double one, double other) {
  return !(std::abs(other - one) <= 0.05 * std::abs(one));
}

/// The share of labels, the rarest first, of which a sample has less than one: 1/n, n = alpha d or a
/// million at d = inf. 0: nothing hangs on them.
inline double rare_part(const Loss& loss, const Point<double>& p) {
  if (!loss.margin || loss.logistic() || loss.square() || p.lam > 1e-3) return 0;
  return p.inverse_d > 0 ? std::min(p.inverse_d / p.alpha, 0.1) : 1e-6;
}

/// The density below which that share lies, of labels given as (density, probability).
inline double rare_density(std::vector<std::pair<double, double>> labels, double part) {
  std::sort(labels.begin(), labels.end());
  double sum = 0;
  for (const auto& [density, probability] : labels)
    if ((sum += probability) > part) return density;
  return 0;
}

}  // namespace srfx::detail
