// (r, c, gamma) as functions of a model's own parameters, and their derivatives.
#pragma once

#include "srfx/gaussian/coefficients.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace srfx {

/// (r, c, gamma) of a model's own parameters: (r, c, gamma) of spiked features with r in units of
/// `readout`, or (eta, alpha0, noise) of a step (THEORY sections 1 and 10).
struct CoefficientMap {
  bool step = false;
  double readout = 1;
  // of a step: h1, h2^2 + hc1 and h2 u_1 of sigma; u_2 without the noise, h1* of the target
  double h1 = 0, curved = 0, tilt = 0, rest = 0, target_h1 = 0;

  using Own = std::array<double, 3>;

  SpikeParameters at(const Own& x) const {
    if (!step) return {readout * x[0], x[1], x[2]};
    if (!(x[1] > 0)) return {0, 1, 0};
    const double eta = readout * x[0], u2 = (rest + x[2]) / x[1],
                 length = std::sqrt(target_h1 * target_h1 + u2), turn = 1 + eta * tilt;
    const double gamma = length > 0 ? target_h1 / length : 0;
    return {eta * h1 * length, turn * turn + eta * eta * curved * u2,
            std::min(std::max(gamma, -1.0), 1.0)};
  }
  /// Derivatives of (r, c, gamma) in x[0] or x[1].
  SpikeParameters along(const Own& x, int which) const {
    if (!step) return {which == 0 ? readout : 0, which == 1 ? 1.0 : 0, 0};
    if (!(x[1] > 0)) return {0, 0, 0};
    const double eta = readout * x[0], u2 = (rest + x[2]) / x[1],
                 length = std::sqrt(target_h1 * target_h1 + u2);
    if (which == 0)
      return {readout * h1 * length, readout * 2 * ((1 + eta * tilt) * tilt + eta * curved * u2),
              0};
    if (!(length > 0) || u2 == 0) return {0, 0, 0};
    const double du2 = -u2 / x[1];
    return {eta * h1 * du2 / (2 * length), eta * eta * curved * du2,
            -target_h1 * du2 / (2 * length * length * length)};
  }
};

}  // namespace srfx
