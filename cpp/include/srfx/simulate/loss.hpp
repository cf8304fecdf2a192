// The losses of a readout, one sample at a time.
//
//   piecewise quadratic   loss(e) = max over lo <= g <= hi of 2 g e - kappa g^2,  e = y - f, or e =
//   1 - y f with labels of +1, -1 logistic              loss(e) = log(1 + exp(e - 1)) of e = 1 - y
//   f maximum margin        kappa = 0, lo = 0, hi = inf: infinite where e > 0
//
// g is half the slope of the loss in e.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

namespace srfx {

struct ReadoutLoss {
  enum class Kind { square, piecewise, logistic, max_margin };
  Kind kind = Kind::square;
  double kappa = 1;
  double lo = -std::numeric_limits<double>::infinity();
  double hi = std::numeric_limits<double>::infinity();
  bool margin = false;  ///< e = 1 - y f

  /// Whether the loss has bends: no slope at e = 0.
  bool bent() const { return kind != Kind::logistic && kappa == 0; }

  /// e of a label and a prediction, and its slope in the prediction.
  double error(double y, double f) const { return margin ? 1 - y * f : y - f; }
  double slope(double y) const { return margin ? -y : -1.0; }

  double value(double e) const {
    if (kind == Kind::logistic) {
      const double x = e - 1;
      return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
    }
    if (kappa == 0) return e > 0 ? 2 * hi * e : e < 0 ? 2 * lo * e : 0.0;
    const double g = std::clamp(e / kappa, lo, hi);
    return (2 * e - kappa * g) * g;
  }

  /// Half the first and half the second derivative of a loss without bends.
  struct Derivatives {
    double g, h;
  };
  Derivatives derivatives(double e) const {
    if (kind == Kind::logistic) {
      const double x = e - 1, small = std::exp(-std::abs(x)), p = 1 / (1 + small), q = small * p;
      return {0.5 * (x > 0 ? p : q), 0.5 * p * q};
    }
    const double u = e / kappa;
    if (u <= lo) return {lo, 0.0};
    if (u >= hi) return {hi, 0.0};
    return {u, 1 / kappa};
  }

  /// loss(e) - 2 g e + kappa g^2 >= 0 of a piecewise quadratic loss: how far g is from being half
  /// its slope at e.
  double excess(double e, double g) const {
    if (kappa == 0) return e > 0 ? 2 * (hi - g) * e : e < 0 ? 2 * (lo - g) * e : 0.0;
    const double best = std::clamp(e / kappa, lo, hi);
    return (best - g) * (2 * e - kappa * (best + g));
  }
};

}  // namespace srfx
