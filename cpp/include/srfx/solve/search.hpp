// Searches for a minimum along one coordinate: the local minima of a grid, and from each a descent
// on the exact derivative.
#pragma once

#include "srfx/gaussian/quadrature.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace srfx {

/// A coordinate y of a search: a parameter or its logarithm, from low to high, looked at in n
/// places first.
struct SearchAxis {
  double low = 0, high = 1;  ///< of the parameter
  bool logarithmic = false;
  int n = 33;

  double y(int node) const {
    const double a = logarithmic ? std::log(low) : low, b = logarithmic ? std::log(high) : high;
    return node == 0 ? a : node == n - 1 ? b : a + (b - a) * node / (n - 1);
  }
  double cell() const { return (y(n - 1) - y(0)) / (n - 1); }
  /// The parameter, at the ends to the last digit.
  double value(double at) const {
    if (at <= y(0)) return low;
    if (at >= y(n - 1)) return high;
    return logarithmic ? std::min(std::max(std::exp(at), low), high) : at;
  }
  /// d parameter/dy.
  double slope(double parameter) const { return logarithmic ? parameter : 1; }
};

/// At most this many local minima of a grid are followed, the lowest.
inline constexpr int max_candidates = 3;

/// Nodes of local minima.
struct LocalMinima {
  std::array<int, max_candidates> node{};
  int kept = 0;
  int count = 0;  ///< all that were seen
};

namespace detail {

/// Values that differ by what rounding and the choice of a rule leave: neither is lower than the
/// other.
inline bool level_with(double a, double b) {
  return a == b || (std::abs(a - b) < infinity &&
                    std::abs(a - b) <= 3e-11 * std::max(std::abs(a), std::abs(b)));
}

}  // namespace detail

/// Local minima among e[0], e[stride], ..: plateaus count once, infinite values are walls, ends
/// count unless `interior`.
inline LocalMinima local_minima(const double* e, int n, Index stride, bool interior) {
  LocalMinima out;
  const auto at = [&](int i) { return e[i * stride]; };
  bool falling = true;
  for (int i = 0; i < n;) {
    int j = i, best = i;
    while (j + 1 < n && detail::level_with(at(j + 1), at(i))) {
      ++j;
      if (at(j) < at(best)) best = j;
    }
    const bool rising = j + 1 == n || at(j + 1) > at(i);
    if (falling && rising && at(best) < infinity && !(interior && (i == 0 || j + 1 == n))) {
      ++out.count;
      int place = std::min(out.kept, max_candidates - 1);
      if (out.kept < max_candidates || at(best) < at(out.node[place])) {
        out.kept = std::min(out.kept + 1, max_candidates);
        for (; place > 0 && at(out.node[place - 1]) > at(best); --place)
          out.node[place] = out.node[place - 1];
        out.node[place] = best;
      }
    }
    falling = !rising;
    i = j + 1;
  }
  return out;
}

/// From a grid node to the minimum near it, an evaluation at a time: ask at(), answer with seen().
///
/// Downhill from the node cell by cell, as long as that leads lower, until the slope turns or a
/// bound is reached; then Chandrupatla's method on the slope, its first guess the minimum of the
/// cubic through both ends.
class Descent {
 public:
  Descent() = default;
  Descent(const SearchAxis& axis, int node) : axis_(&axis), node_(node), at_(axis.y(node)) {}

  double at() const { return at_; }  ///< where to evaluate; once done, where the search ended
  bool done() const { return done_; }
  bool converged() const { return converged_; }
  bool at_bound() const { return at_bound_; }

  /// Error and slope at at().
  void seen(double error, double slope) {
    if (!std::isfinite(error) || !std::isfinite(slope)) return stop(false);
    const End here{at_, error, slope};
    switch (state_) {
      case State::start:
        near_ = here;
        if (slope == 0) return stop(true);
        step_ = slope < 0 ? 1 : -1;
        return next_cell();
      case State::walk:
        far_ = here;
        if (turned(here)) return enclosed();
        if (above(here)) return halve();  // over a hill
        near_ = far_;
        node_ += step_;
        return next_cell();
      case State::hill:
        if (turned(here)) {
          far_ = here;
          return enclosed();
        }
        (error <= near_.error ? near_ : far_) = here;
        return halve();
      case State::root: return closer(here);
    }
  }

 private:
  enum class State { start, walk, hill, root };
  struct End {
    double y, error, slope;
  };

  bool above(const End& here) const {
    return here.error > near_.error && !detail::level_with(here.error, near_.error);
  }
  /// Whether a minimum lies between near_ and here: a slope of zero may be that of a hilltop.
  bool turned(const End& here) const {
    return here.slope * step_ > 0 || (here.slope == 0 && !above(here));
  }
  void stop(bool converged) { done_ = true, converged_ = converged; }
  void ask(State state, double y) {
    state_ = state, at_ = y;
    if (++count_ > 200) stop(false);
  }
  void next_cell() {
    const int next = node_ + step_;
    if (next < 0 || next >= axis_->n) {
      at_bound_ = true;
      return stop(true);
    }
    ask(State::walk, axis_->y(next));
  }
  void halve() {
    if (std::abs(far_.y - near_.y) < 1e-6 * axis_->cell()) return stop(false);
    ask(State::hill, 0.5 * (near_.y + far_.y));
  }
  /// near_ slopes down to far_, far_ up from it (or is flat).
  void enclosed() {
    if (far_.slope == 0) return stop(true);
    const double width = far_.y - near_.y, a = near_.slope * width, b = far_.slope * width;
    const double s = 3 * (far_.error - near_.error) - a - b,
                 root = std::sqrt(std::max(0.0, s * s - a * b));
    double t = (s + root - a) / (b - a + 2 * root);  // where the cubic's slope vanishes
    if (!(t > 0.01 && t < 0.99)) t = a / (a - b);
    last_ = near_, old_ = far_;
    if (!(t > 0.01 && t < 0.99)) t = t < 0.5 ? 0.01 : 0.99;
    ask(State::root, near_.y + t * width);
    interpolated_ = false;
  }
  /// Chandrupatla (1997): last_ and old_ enclose the root.
  void closer(const End& here) {
    const double moved = std::abs(here.y - last_.y), cell = axis_->cell();
    if (here.slope == 0) return stop(true);
    // The step before this one was by inverse quadratic interpolation and so small that its error
    // is below the tolerance.
    if (interpolated_ && moved < 1e-6 * cell) return stop(true);
    End third;
    if ((here.slope > 0) == (last_.slope > 0)) third = last_;
    else third = old_, old_ = last_;
    last_ = here;
    const double width = old_.y - last_.y, tolerance = 1e-10 * cell / std::abs(width);
    if (tolerance > 0.5) return stop(true);
    const double xi = (last_.y - old_.y) / (third.y - old_.y);
    const double phi = (last_.slope - old_.slope) / (third.slope - old_.slope);
    double t = 0.5;
    interpolated_ = phi * phi < xi && (1 - phi) * (1 - phi) < 1 - xi;
    if (interpolated_) {
      const double f1 = last_.slope, f2 = old_.slope, f3 = third.slope;
      t = f1 / (f2 - f1) * f3 / (f2 - f3) +
          (third.y - last_.y) / width * f1 / (f3 - f1) * f2 / (f3 - f2);
    }
    ask(State::root, last_.y + std::min(std::max(t, tolerance), 1 - tolerance) * width);
  }

  const SearchAxis* axis_ = nullptr;
  int node_ = 0, step_ = 0, count_ = 0;
  double at_ = 0;
  State state_ = State::start;
  bool done_ = false, converged_ = false, at_bound_ = false, interpolated_ = false;
  End near_{}, far_{}, last_{}, old_{};
};

}  // namespace srfx
