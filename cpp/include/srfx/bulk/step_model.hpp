// One step: everything about it that does not depend on s or beta (THEORY section 10: Map, Row
// norms).
//
//   rows of the bulk ~ N(0, Sigma/d), Sigma = G^2 + kap M,
//   G = 1 + e2 H, H = X^T diag(u) X/n0, M = X^T diag(u^2) X/n0,
//   e2 = eta h2, kap = eta^2 E S^2/alpha0, iota = 1/alpha0. Omega = W Pi W^T has mean c.
#pragma once

#include "srfx/gaussian/residual.hpp"

namespace srfx {

/// Everything about one step that does not depend on s or beta (THEORY section 10: Map, Row norms).
/// R: its parameters.
template <class R> struct BasicStepModel {
  StepConstants constants;
  BasicResidualMoments<R> moments;
  R eta = 0, iota = 0;    ///< eta times the readout value; iota = 1/alpha0
  R eta_mean = 0;         ///< eta times the square of the readout value: how f0 damps the mean row
  bool stepped = true;    ///< false: eta = 0 or alpha0 = 0, the plain network
  bool scalar = true;     ///< section 9's path
  SpikeParameters spike;  ///< the values of (r, c, gamma)
  R r = 0, c = 1, gamma = 0;
  R l = 1, h1_target = 0, u2 = 1;
  R a = 1, e2 = 0, kap = 0;
  std::array<R, 4> la{}, lb{};  ///< coefficients of u^n
  bool lean = false;            ///< L is not zero
  R c_delta = 0;

  BasicStepModel() = default;
  BasicStepModel(const StepConstants& k, const BasicResidualMoments<R>& m, double readout,
                 R learning_rate, R inverse_alpha0, bool allow_scalar)
      : constants(k),
        moments(m),
        eta(readout * learning_rate),
        iota(inverse_alpha0),
        eta_mean(readout * eta) {
    const bool without = std::isinf(real_part(iota));
    if (without) eta = 0, iota = 1;
    h1_target = m.tu[1];
    u2 = m.u[2];
    l = std::sqrt(h1_target * h1_target + u2 * iota);
    if (real_part(iota) == 0 && real_part(l) <= 1e-12 * std::sqrt(real_part(u2)))
      l = 0.0;  // rounding: the target has no linear part
    stepped = eta != 0.0 && real_part(l) > 0;
    // The direction of the spike does not matter then, but to what a first small step would do.
    if (!stepped) {
      eta = eta_mean = 0;
      spike = {0, 1,
               without || real_part(l) == 0 ? 0 : std::clamp(real_part(h1_target / l), -1.0, 1.0)};
      return;
    }
    a = 1.0 + eta * k.h2 * m.u[1];
    e2 = eta * k.h2;
    kap = eta * eta * k.hc1 * iota;
    r = eta * k.h1 * l;
    gamma = h1_target / l;
    c = a * a + eta * eta * (k.h2 * k.h2 + k.hc1) * u2 * iota;
    spike = {real_part(r), real_part(c), std::clamp(real_part(gamma), -1.0, 1.0)};
    scalar = allow_scalar && k.h2 == 0 && k.b12 == 0;
    // la = eta b3 u psi + 2 eta^2 iota b12 u^2 chi + eta^3 iota^2 k3 u^3, lb = 2 eta b3 u chi +
    // eta^2 iota b12 u^2, chi = a + x, psi = chi^2 - a^2 = x (2 a + x), x = e2 iota u
    const R x = e2 * iota, eta2 = eta * eta;
    la[2] = 2.0 * eta * k.b3 * a * x + 2.0 * eta2 * iota * k.b12 * a;
    la[3] = eta * k.b3 * x * x + 2.0 * eta2 * iota * k.b12 * x + eta2 * eta * iota * iota * k.k3;
    lb[1] = 2.0 * eta * k.b3 * a;
    lb[2] = 2.0 * eta * k.b3 * x + eta2 * iota * k.b12;
    lean = la[2] != 0.0 || la[3] != 0.0 || lb[1] != 0.0 || lb[2] != 0.0;
    const auto& u = m.u;
    const R k2 = e2 * x * u[2], k3 = e2 * x * x * u[3], k4 = e2 * x * x * x * u[4];
    const R u_chi_psi = 2.0 * a * a * x * u[2] + 3.0 * a * x * x * u[3] + x * x * x * u[4];
    const R u2_psi = 2.0 * a * x * u[3] + x * x * u[4];
    const R u2_chi2 = a * a * u[2] + 2.0 * a * x * u[3] + x * x * u[4];
    const R u3_chi = a * u[3] + x * u[4];
    const R tilt = 2.0 * eta * k.b3 * (a * m.tu[1] + x * m.tu[2]) + eta2 * iota * k.b12 * m.tu[2];
    c_delta = 2.0 * (k4 + 4.0 * a * k3 + k2 * k2 + 4.0 * a * a * k2) +
              4.0 * eta * k.b4 * u_chi_psi + 2.0 * eta2 * k.b22 * u2_psi * iota +
              4.0 * eta2 * iota * (k.q2 * u2_chi2 + k.hc1 * k2 * u[2]) +
              4.0 * eta2 * eta * iota * iota * k.b13 * u3_chi +
              eta2 * eta2 * iota * iota * iota * u[4] * (k.k4 - k.hc1 * k.hc1) +
              2.0 * eta2 * eta2 * k.hc1 * k.hc1 * u[2] * u[2] * iota * iota + tilt * tilt +
              lb[2] * lb[2] * m.across;
  }

  /// Least distance from 0 of a pole of Q(u), at any s.
  double pole() const {
    const double x = real_part(e2 * iota), closest = real_part(kap * iota) + x * x;
    return closest > 0 ? 1 / std::sqrt(closest) : infinity;
  }
  /// Sine of the angle between a pole and the real axis, about, at worst.
  double angle() const {
    const double square = constants.hc1, with_slope = constants.hc1 + constants.h2 * constants.h2;
    return scalar || !(with_slope > 0) ? 1.0 : std::sqrt(square / with_slope);
  }
};
using StepModel = BasicStepModel<double>;

}  // namespace srfx
