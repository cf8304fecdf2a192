// The losses of a readout (THEORY section 19): a loss is its proximal map and the Gaussian averages
// of that.
//
// The readout minimises sum loss(y, f) + lam |a|^2. With V the resolvent's part at a point and
// omega the field there,
//   x = argmin loss(y, x) + (x - omega)^2/V,   g = -loss'(y, x)/2 = (x - omega)/V,   G' =
//   -dg/domega
#pragma once

#include "srfx/core/types.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace srfx {

/// Piecewise quadratic: max over lo <= g <= hi of 2 g e - kappa g^2, of e = y - f, or, with margin,
/// of e = 1 - y f: then g = clip(e/(kappa + V), lo, hi). Or logistic, log(1 + exp(-y f)).
struct Loss {
  enum class Kind { piecewise, logistic };
  Kind kind = Kind::piecewise;
  double kappa = 1;
  double lo = -std::numeric_limits<double>::infinity();
  double hi = std::numeric_limits<double>::infinity();
  bool margin = false;

  bool logistic() const { return kind == Kind::logistic; }
  bool bounded_below() const { return std::isfinite(lo); }
  bool bounded_above() const { return std::isfinite(hi); }
  /// The square, of real labels and of +-1 alike.
  bool square() const { return !logistic() && kappa > 0 && !bounded_below() && !bounded_above(); }
  /// No slack at all: the limit lam -> 0 of hinge and squared hinge. It knows no scale of lam.
  bool hard() const { return !logistic() && kappa == 0 && !bounded_above(); }
  /// Whether e and -e cost the same.
  bool even() const { return !logistic() && lo == -hi; }
};

}  // namespace srfx
