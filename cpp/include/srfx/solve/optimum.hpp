// Parameter values of least test error, at many points at once: a coarse grid, then the root of the
// exact derivative.
//
// What leaves the coefficients alone (lam, alpha, beta, noise) is the inner search: all points of a
// coefficient set side by side, eight a pack. What changes them (r of spiked features, eta and
// alpha0 of a step) is the outer search, of
//
//   F(x) = min_lam E(x, lam),   dF/dx = dE/dx at the best lam   (the envelope theorem, at a bound
//   of lam too),
//
// or of E itself at given lam. Where two minima in lam change places F has a kink, but a concave
// one: a slope that turns from negative to positive always encloses a minimum. Outer coordinates:
// none, one (bracketed), or two (Newton's method on the exact gradient within the box).
//
// A search has converged if it ended at a minimum or a bound that no other place it looked at
// undercuts (by more than rounding). Else it yields the lowest place it saw, and says so.
#pragma once

#include "srfx/solve/gradient.hpp"

#include <utility>

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

/// What to search, at which points.
struct OptimumInput : BatchTarget {
  const Function* sigma = nullptr;
  CoefficientMap map;
  std::vector<CoefficientMap::Own>
      sets;  ///< the model's own parameters; those searched for are ignored
  const std::int64_t* set_index = nullptr;
  Index set_stride = 0;
  Column alpha, beta, lam, noise, inverse_d;  ///< the one searched for is ignored
  Index n_points = 0;
  int n_threads = 1;

  bool has_line = false;            ///< whether there is an inner search, ...
  Direction line = Direction::lam;  ///< ... along lam, alpha, beta or noise
  SearchAxis line_axis;
  struct Coordinate {
    int own;  ///< 0 or 1: which of the model's own parameters
    SearchAxis axis;
  };
  std::vector<Coordinate> coordinates;  ///< of the outer search, at most two
  double sign = 1;                      ///< -1: the largest error instead
  bool interior = false;                ///< ends of the inner range do not count
};

/// One entry a point. Where the search did not converge: the lowest place seen, or not a number.
struct OptimumOutput {
  double* line = nullptr;
  std::array<double*, 2> coordinates{};
  std::int8_t* status;     ///< converged, or max_iterations
  std::int32_t* n_minima;  ///< local minima seen on the grid, of the outer search if there is one
  std::int32_t* n_failed;  ///< solves of the outermost grid that failed
};

namespace detail {

/// Points of one coefficient set with room for what a solve yields.
class Items {
 public:
  static constexpr int n_inputs = 5, n_outputs = 11;
  BatchInput in;
  BatchOutput out{};

  void resize(Index n) {
    if (n > capacity_) {
      capacity_ = n;
      room_.assign(static_cast<std::size_t>(n * (n_inputs + n_outputs)), 0);
      status_.assign(n, 0), iterations_.assign(n, 0), points_.resize(n);
    }
    double* row = room_.data();
    const auto next = [&] { return std::exchange(row, row + capacity_); };
    for (double** column : {&alpha, &beta, &lam, &noise, &inverse_d}) *column = next();
    in.alpha = {alpha, 1}, in.beta = {beta, 1}, in.lam = {lam, 1}, in.noise = {noise, 1},
    in.inverse_d = {inverse_d, 1};
    for (double** column :
         {&out.test_error, &out.train_error, &out.m, &out.theta, &out.psi, &out.q1, &out.q2,
          &out.v1, &out.v2, &out.residual, &out.quadrature_error})
      *column = next();
    out.status = status_.data(), out.iterations = iterations_.data();
    in.n_points = n;
  }
  /// The indices 0 .. n - 1.
  Index* points() {
    for (Index i = 0; i < in.n_points; ++i) points_[i] = i;
    return points_.data();
  }
  void set(Index i, const Point<double>& p) {
    alpha[i] = p.alpha, beta[i] = p.beta, lam[i] = p.lam, noise[i] = p.noise,
    inverse_d[i] = p.inverse_d;
    out.iterations[i] = 0;
  }
  bool converged(Index i) const {
    return out.status[i] == static_cast<std::int8_t>(Status::converged);
  }

  double *alpha = nullptr, *beta = nullptr, *lam = nullptr, *noise = nullptr, *inverse_d = nullptr;

 private:
  Index capacity_ = 0;
  std::vector<double> room_;
  std::vector<std::int8_t> status_;
  std::vector<std::int32_t> iterations_;
  std::vector<Index> points_;
};

inline void set_along(Point<double>& p, Direction along, double value) {
  (along == Direction::lam     ? p.lam
   : along == Direction::alpha ? p.alpha
   : along == Direction::beta  ? p.beta
                               : p.noise) = value;
}

}  // namespace detail

/// The searches of one thread, with their room.
template <class Bulk> class OptimumSearch {
 public:
  OptimumSearch(const Bulk& bulk, const OptimumInput& in) : bulk_(&bulk), in_(&in) {}

  /// Finds the optima of points order[begin] .. order[end - 1] of one set. `poll` is called every
  /// few hundred solves.
  template <class Poll>
  void run(const PointsBySet& by_set, const PointBlock& block, const OptimumOutput& out,
           Poll&& poll) {
    const OptimumInput& in = *in_;
    const Index n = block.end - block.begin;
    points_.resize(n);
    for (Index j = 0; j < n; ++j) {
      const Index i = by_set.order[block.begin + j];
      points_[j] = {in.alpha[i], in.beta[i], in.lam[i], in.noise[i], in.inverse_d[i], 1, 1};
    }
    const CoefficientMap::Own own = in.sets[block.set];
    set_ = block.set;
    const auto store = [&](Index j, const Best& best, int n_minima, int n_failed) {
      const Index i = by_set.order[block.begin + j];
      if (in.has_line) out.line[i] = best.line;
      for (std::size_t q = 0; q < in.coordinates.size(); ++q)
        out.coordinates[q][i] = in.coordinates[q].axis.value(best.y[q]);
      out.status[i] =
          static_cast<std::int8_t>(best.converged ? Status::converged : Status::max_iterations);
      out.n_minima[i] = n_minima, out.n_failed[i] = n_failed;
    };
    if (in.coordinates.empty()) {
      evaluate(own, points_.data(), n, poll);
      for (Index j = 0; j < n; ++j) {
        const Found& found = found_[j];
        const bool converged = found.error < infinity;
        store(j, {{}, found.error, converged ? found.line : found.lowest_line, converged},
              found.n_minima, found.n_failed);
      }
      return;
    }
    // The grid, whose coefficients serve all points of the block.
    const int first = in.coordinates[0].axis.n,
              second = in.coordinates.size() > 1 ? in.coordinates[1].axis.n : 1;
    grid_.resize(static_cast<std::size_t>(first * second * n));
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    lowest_.assign(n, {{nan, nan}});
    for (int a = 0; a < first; ++a)
      for (int b = 0; b < second; ++b) {
        const std::array<double, 2> y{in.coordinates[0].axis.y(a),
                                      second > 1 ? in.coordinates[1].axis.y(b) : 0};
        evaluate(moved(own, y), points_.data(), n, poll);
        for (Index j = 0; j < n; ++j) {
          grid_[(a * second + b) * n + j] = found_[j].error;
          note(j, y, found_[j]);
        }
      }
    for (Index j = 0; j < n; ++j) {
      int n_failed = 0, n_minima = 0;
      for (int g = 0; g < first * second; ++g) n_failed += !(grid_[g * n + j] < infinity);
      Best best;
      searched_ = j;
      const auto better = [&](const Best& other) {
        if (other.converged ? !best.converged || other.error < best.error
                            : !best.converged && other.error < best.error)
          best = other;
      };
      if (second == 1) {
        const LocalMinima minima = local_minima(grid_.data() + j, first, n, false);
        n_minima = minima.count;
        for (int c = 0; c < minima.kept; ++c)
          better(bracketed(own, points_[j], minima.node[c], poll));
      } else {
        std::array<std::array<int, 2>, max_candidates> starts;
        const int kept = planar_minima(grid_.data() + j, first, second, n, starts, n_minima);
        for (int c = 0; c < kept; ++c) better(newton_in_box(own, points_[j], starts[c], poll));
      }
      store(j, best.converged && !undercut(best.error, lowest_[j].error) ? best : lowest_[j],
            n_minima, n_failed);
    }
  }

 private:
  struct Best {
    std::array<double, 2> y{};
    double error = infinity, line = std::numeric_limits<double>::quiet_NaN();
    bool converged = false;
  };
  /// What an evaluation yields at a point: `sign` times the error (infinite where it failed), the
  /// inner optimum and V there.
  struct Found {
    double error, line, v1, v2;
    int n_minima, n_failed;
    double lowest_error = infinity,
           lowest_line = std::numeric_limits<double>::quiet_NaN();  ///< seen along the line
  };

  static bool undercut(double error, double by) {
    return by < error && !detail::level_with(by, error);
  }
  /// Keeps the lowest place of the outer search of point j.
  void note(Index j, const std::array<double, 2>& y, const Found& found) {
    if (found.error < lowest_[j].error) lowest_[j] = {y, found.error, found.line};
  }

  CoefficientMap::Own moved(CoefficientMap::Own own, const std::array<double, 2>& y) const {
    for (std::size_t q = 0; q < in_->coordinates.size(); ++q)
      own[in_->coordinates[q].own] = in_->coordinates[q].axis.value(y[q]);
    return own;
  }

  /// Errors at points of one set, at their best place along the line if there is one: found_.
  template <class Poll>
  void evaluate(const CoefficientMap::Own& own, const Point<double>* points, Index n, Poll&& poll) {
    poll();
    found_.assign(n, {infinity, std::numeric_limits<double>::quiet_NaN(), 0, 0, 0, 0});
    const SpikeParameters p = in_->map.at(own);
    if (!std::isfinite(p.r) || !(p.c > 0) || !std::isfinite(p.c)) return;
    state_.clear();
    state_.make(*in_->sigma, *in_, set_, p);
    if (in_->has_line) return along_line(points, n, poll);
    items_.resize(n);
    for (Index i = 0; i < n; ++i) items_.set(i, points[i]);
    solve();
    for (Index i = 0; i < n; ++i)
      if (items_.converged(i))
        found_[i] = {in_->sign * items_.out.test_error[i],
                     points[i].lam,
                     items_.out.v1[i],
                     items_.out.v2[i],
                     1,
                     0};
  }

  void solve() {
    solve_block(*bulk_, items_.in, items_.out, 0, {}, state_, items_.points(), items_.in.n_points,
                work_);
  }

  /// The same from the V in items_.out, and from nowhere where that fails.
  void solve_warm() {
    const Index n = items_.in.n_points;
    finish_block(*bulk_, items_.in, items_.out, state_, items_.points(), n, work_);
    retry_.clear();
    for (Index i = 0; i < n; ++i)
      if (!items_.converged(i)) retry_.push_back(i);
    if (!retry_.empty())
      solve_block(*bulk_, items_.in, items_.out, 0, {}, state_, retry_.data(),
                  static_cast<Index>(retry_.size()), work_);
  }

  /// Derivatives of the error at solved items, along the line or (`turn`, the derivatives of r, c
  /// and gamma) with the coefficients. Not a number where it cannot be had.
  const double* slopes(Direction along, const SpikeParameters* turn) {
    const Index n = items_.in.n_points;
    slope_.assign(n, std::numeric_limits<double>::quiet_NaN());
    solved_.clear();
    for (Index i = 0; i < n; ++i)
      if (items_.converged(i) && items_.out.v2[i] < infinity) solved_.push_back(i);
    const Index count = static_cast<Index>(solved_.size());
    Index begin[n_classes + 1];
    order_.resize(count);
    sort_by_class(
        solved_.data(), count,
        [&](Index i) { return class_of(items_.out.v1[i], items_.out.v2[i]); }, keys_, begin,
        order_.data());
    for (int cls = 0; cls < n_classes; ++cls) {
      if (begin[cls] == begin[cls + 1]) continue;
      const Selection& rule = state_.table->find(cls);
      const NodeSet* nodes = &rule.nodes;
      const NodeTangent* tangents = nullptr;
      if (turn) {
        if (!tangents_of(rule, *turn)) continue;
        nodes = &turned_, tangents = tangents_.data();
      }
      if (static_cast<Index>(weights_.size()) < nodes->size()) weights_.resize(nodes->size());
      for (Index from = begin[cls]; from < begin[cls + 1]; from += Pack::size) {
        const Index* at = order_.data() + from;
        const int live = static_cast<int>(std::min<Index>(Pack::size, begin[cls + 1] - from));
        const Point<Pack> p = gather<Pack>(items_.in, at, live);
        const Pack v1 = gather<Pack>(items_.out.v1, at, live),
                   v2 = gather<Pack>(items_.out.v2, at, live);
        const ErrorTangent<Pack> slope =
            errors_along(*bulk_, moving_point(p, turn ? Direction::r : along), *nodes, tangents, v1,
                         v2, weights_.data());
        for (int lane = 0; lane < live; ++lane) slope_[at[lane]] = slope.test_error[lane];
      }
    }
    return slope_.data();
  }

  static Point<Dual<Pack>> moving_point(const Point<Pack>& p, Direction along) {
    return detail::moving_point(p, along);
  }

  /// Derivatives of a rule's coefficients when (r, c, gamma) move along `turn`: turned_ and
  /// tangents_.
  bool tangents_of(const Selection& rule, const SpikeParameters& turn) {
    turned_ = rule.nodes;
    tangents_.assign(turned_.size(), {});
    const std::pair<Direction, double> parts[] = {
        {Direction::r, turn.r}, {Direction::c, turn.c}, {Direction::gamma, turn.gamma}};
    for (const auto& [direction, factor] : parts) {
      if (factor == 0) continue;
      try {
        const std::vector<NodeTangent> part =
            node_tangents(*state_.coefficients.of, *rule.level, direction, turned_);
        if (direction == Direction::gamma)
          for (double& x : turned_.across_moves) x *= factor;
        for (std::size_t i = 0; i < part.size(); ++i) {
          NodeTangent& sum = tangents_[i];
          sum.mu0 += factor * part[i].mu0, sum.mu1 += factor * part[i].mu1,
              sum.k_mu1 += factor * part[i].k_mu1;
          sum.u2 += factor * part[i].u2, sum.h += factor * part[i].h, sum.h1 += factor * part[i].h1,
              sum.rest += factor * part[i].rest;
        }
      } catch (const std::domain_error&) {  // a kinked target at |gamma| = 1
        return false;
      }
    }
    return true;
  }

  /// One descent along the line.
  struct Walker {
    Index point;
    Descent descent;
    double y[2]{0, infinity}, v1[2]{},
        v2[2]{};  ///< the last two places and the logarithms of V there
    double error = infinity;

    void remember(double at, double log_v1, double log_v2) {
      if (at == y[1]) return;
      y[0] = y[1], v1[0] = v1[1], v2[0] = v2[1];
      y[1] = at, v1[1] = log_v1, v2[1] = log_v2;
    }
  };

  /// The best place along the line for points of the set in state_.
  template <class Poll> void along_line(const Point<double>* points, Index n, Poll&& poll) {
    const OptimumInput& in = *in_;
    const SearchAxis& axis = in.line_axis;
    const auto place = [&](Index item, Index point, double y) {
      Point<double> p = points[point];
      const double value = axis.value(y);
      detail::set_along(p, in.line, value);
      items_.set(item, p);
      return value;
    };
    // The grid, a few hundred solves at a time. (A start from the V of the last lam saves little:
    // the first pass is in single precision.)
    line_.resize(static_cast<std::size_t>(3 * axis.n * n));
    double *error = line_.data(), *v1 = error + axis.n * n, *v2 = v1 + axis.n * n;
    const int rows = static_cast<int>(std::max<Index>(1, 512 / n));
    for (int from = 0; from < axis.n; from += rows) {
      poll();
      const int to = std::min(axis.n, from + rows);
      items_.resize((to - from) * n);
      for (int row = from; row < to; ++row)
        for (Index j = 0; j < n; ++j) place((row - from) * n + j, j, axis.y(row));
      solve();
      for (Index i = 0; i < (to - from) * n; ++i) {
        const Index g = from * n + i;
        const bool good = items_.converged(i);
        error[g] = good ? in.sign * items_.out.test_error[i] : infinity;
        v1[g] = items_.out.v1[i], v2[g] = items_.out.v2[i];
        Found& found = found_[g % n];
        if (!good) ++found.n_failed;
        if (error[g] < found.lowest_error && !in.interior)
          found.lowest_error = error[g],
          found.lowest_line = axis.value(axis.y(static_cast<int>(g / n)));
      }
    }
    walkers_.clear();
    for (Index j = 0; j < n; ++j) {
      const LocalMinima minima = local_minima(error + j, axis.n, n, in.interior);
      found_[j].n_minima = minima.count;
      for (int c = 0; c < minima.kept; ++c) {
        Walker walker;
        walker.point = j, walker.descent = Descent(axis, minima.node[c]);
        const int here = minima.node[c],
                  beside = here > 0 && error[(here - 1) * n + j] < infinity ? here - 1 : here;
        for (const int node : {beside, here})
          walker.remember(axis.y(node), std::log(v1[node * n + j]), std::log(v2[node * n + j]));
        walkers_.push_back(walker);
      }
    }
    // All descents in step.
    for (std::size_t active = walkers_.size(); active > 0;) {
      poll();
      items_.resize(static_cast<Index>(active));
      for (std::size_t w = 0; w < active; ++w) {
        const Walker& walker = walkers_[w];
        const double at = walker.descent.at(),
                     apart = walker.y[1] - walker.y[0];  // infinite while one place is known
        place(static_cast<Index>(w), walker.point, at);
        // log V along the last two places, no further than they are apart
        const double t = std::min(std::max((at - walker.y[1]) / apart, -2.0), 1.0);
        items_.out.v1[w] = std::exp(walker.v1[1] + t * (walker.v1[1] - walker.v1[0]));
        items_.out.v2[w] = std::exp(walker.v2[1] + t * (walker.v2[1] - walker.v2[0]));
      }
      solve_warm();
      const double* slope = slopes(in.line, nullptr);
      for (std::size_t w = 0; w < active; ++w) {
        Walker& walker = walkers_[w];
        const double at = walker.descent.at(), value = axis.value(at);
        walker.error = in.sign * items_.out.test_error[w];
        Found& found = found_[walker.point];
        if (walker.error < found.lowest_error && !in.interior)
          found.lowest_error = walker.error, found.lowest_line = value;
        walker.descent.seen(walker.error, in.sign * slope[w] * axis.slope(value));
        walker.remember(at, std::log(items_.out.v1[w]), std::log(items_.out.v2[w]));
        if (walker.descent.done()) finish(walker);
      }
      const auto end = std::remove_if(walkers_.begin(), walkers_.end(),
                                      [](const Walker& w) { return w.descent.done(); });
      walkers_.erase(end, walkers_.end());
      active = walkers_.size();
    }
    for (Found& found : found_)
      if (undercut(found.error, found.lowest_error)) found.error = infinity;
  }

  void finish(const Walker& walker) {
    const Descent& descent = walker.descent;
    Found& best = found_[walker.point];
    if (!descent.converged() || (in_->interior && descent.at_bound()) ||
        !(walker.error < best.error))
      return;
    best.error = walker.error, best.line = in_->line_axis.value(descent.at());
    best.v1 = std::exp(walker.v1[1]), best.v2 = std::exp(walker.v2[1]);
  }

  /// F and its slope in outer coordinate q at one point just evaluated.
  double outer_slope(const CoefficientMap::Own& own, const Point<double>& point, std::size_t q) {
    const auto& [which, axis] = in_->coordinates[q];
    const SpikeParameters turn = in_->map.along(own, which);
    items_.resize(1);
    Point<double> p = point;
    if (in_->has_line) detail::set_along(p, in_->line, found_[0].line);
    items_.set(0, p);
    items_.out.v1[0] = found_[0].v1, items_.out.v2[0] = found_[0].v2;
    items_.out.status[0] = static_cast<std::int8_t>(
        found_[0].error < infinity ? Status::converged : Status::non_finite);
    return in_->sign * *slopes(Direction::r, &turn) * axis.slope(own[which]);
  }

  template <class Poll>
  Best bracketed(const CoefficientMap::Own& own, const Point<double>& point, int node,
                 Poll&& poll) {
    Descent descent(in_->coordinates[0].axis, node);
    Best best;
    while (!descent.done()) {
      best.y[0] = descent.at();
      const CoefficientMap::Own at = moved(own, best.y);
      evaluate(at, &point, 1, poll);
      best.error = found_[0].error, best.line = found_[0].line;
      note(searched_, best.y, found_[0]);
      descent.seen(best.error, outer_slope(at, point, 0));
    }
    best.converged = descent.converged();
    return best;
  }

  /// Local minima of a grid, against the neighbours along each axis.
  static int planar_minima(const double* e, int first, int second, Index stride,
                           std::array<std::array<int, 2>, max_candidates>& starts, int& count) {
    const auto at = [&](int a, int b) {
      return a < 0 || b < 0 || a >= first || b >= second ? infinity : e[(a * second + b) * stride];
    };
    std::vector<std::pair<double, std::array<int, 2>>> all;
    for (int a = 0; a < first; ++a)
      for (int b = 0; b < second; ++b) {
        const double here = at(a, b);
        // of equal neighbours the first counts
        if (here < infinity && here < at(a - 1, b) && here < at(a, b - 1) && here <= at(a + 1, b) &&
            here <= at(a, b + 1))
          all.push_back({here, {a, b}});
      }
    std::sort(all.begin(), all.end());
    count = static_cast<int>(all.size());
    const int kept = std::min(count, max_candidates);
    for (int c = 0; c < kept; ++c) starts[c] = all[c].second;
    return kept;
  }

  /// F and its gradient, in units of the grid's cells.
  struct Local {
    std::array<double, 2> x{}, g{};
    double error = infinity, line = 0;
  };

  /// Newton's method within the box, its matrix from differences of exact gradients; where that
  /// matrix is not positive its eigenvalues count by size, and a step is at most a cell long.
  template <class Poll>
  Best newton_in_box(const CoefficientMap::Own& own, const Point<double>& point,
                     std::array<int, 2> start, Poll&& poll) {
    std::array<double, 2> low, cell, top;
    for (int q = 0; q < 2; ++q) {
      const SearchAxis& axis = in_->coordinates[q].axis;
      low[q] = axis.y(0), cell[q] = axis.cell(), top[q] = axis.n - 1;
    }
    const auto y_of = [&](int q, double x) {
      return x >= top[q] ? in_->coordinates[q].axis.y(in_->coordinates[q].axis.n - 1)
                         : low[q] + cell[q] * x;
    };
    const auto look = [&](std::array<double, 2> x) {
      Local out;
      out.x = x;
      const std::array<double, 2> y{y_of(0, x[0]), y_of(1, x[1])};
      const CoefficientMap::Own at = moved(own, y);
      evaluate(at, &point, 1, poll);
      note(searched_, y, found_[0]);
      out.error = found_[0].error, out.line = found_[0].line;
      for (int q = 0; q < 2; ++q) out.g[q] = outer_slope(at, point, q) * cell[q];
      if (!std::isfinite(out.g[0]) || !std::isfinite(out.g[1])) out.error = infinity;
      return out;
    };
    Local here = look({static_cast<double>(start[0]), static_cast<double>(start[1])});
    bool converged = false;
    for (int iteration = 0; iteration < 60 && here.error < infinity; ++iteration) {
      std::array<bool, 2> open;
      for (int q = 0; q < 2; ++q)
        open[q] = !((here.x[q] <= 0 && here.g[q] >= 0) || (here.x[q] >= top[q] && here.g[q] <= 0));
      double h[2][2] = {{1, 0}, {0, 1}};
      constexpr double apart = 1e-3;
      for (int q = 0; q < 2; ++q) {
        if (!open[q]) continue;
        std::array<double, 2> x = here.x;
        const double step = x[q] + apart <= top[q] ? apart : -apart;
        x[q] += step;
        const Local beside = look(x);
        if (!(beside.error < infinity)) return best_of(here, y_of, false);
        for (int p = 0; p < 2; ++p)
          if (open[p]) h[p][q] = (beside.g[p] - here.g[p]) / step;
      }
      if (open[0] && open[1]) h[0][1] = h[1][0] = 0.5 * (h[0][1] + h[1][0]);
      std::array<double, 2> step = newton_step(h, here.g, open);
      const double size = std::max(std::abs(step[0]), std::abs(step[1]));
      if (size == 0) return best_of(here, y_of, true);
      // What the step can gain: nothing, along a valley without a bottom (eta^2/alpha0, say, may be
      // all that matters).
      const double gain = -0.5 * (here.g[0] * step[0] + here.g[1] * step[1]),
                   level = std::abs(here.error);
      converged = size < 1e-8 || gain <= 1e-16 * level;  // the next place is better by far
      if (size > 1)
        for (double& s : step) s /= size;
      bool lower = false;
      for (double length = 1; length > 1e-4 && !lower; length *= 0.25) {
        std::array<double, 2> x;
        double change = 0;
        for (int q = 0; q < 2; ++q) {
          x[q] = std::min(std::max(here.x[q] + length * step[q], 0.0), top[q]);
          change += here.g[q] * (x[q] - here.x[q]);
        }
        const Local next = look(x);
        // At the bottom rounding decides.
        lower = next.error <= here.error + 1e-4 * change ||
                (size < 1e-4 && detail::level_with(next.error, here.error));
        if (lower) here = next;
      }
      if (!lower) converged = converged || gain <= 1e-12 * level;
      if (converged || !lower) break;
    }
    return best_of(here, y_of, converged);
  }
  template <class YOf> static Best best_of(const Local& at, YOf&& y_of, bool converged) {
    return {{y_of(0, at.x[0]), y_of(1, at.x[1])}, at.error, at.line, converged};
  }

  /// -|H|^-1 g over the open coordinates; |H| has H's eigenvectors and the sizes of its
  /// eigenvalues.
  static std::array<double, 2> newton_step(const double (&h)[2][2], const std::array<double, 2>& g,
                                           const std::array<bool, 2>& open) {
    std::array<double, 2> step{};
    const auto along = [](double slope, double curvature) {
      const double size = std::abs(curvature);
      return slope == 0 ? 0.0 : size > 0 ? -slope / size : slope < 0 ? 1.0 : -1.0;
    };
    if (!(open[0] && open[1])) {
      for (int q = 0; q < 2; ++q)
        if (open[q]) step[q] = along(g[q], h[q][q]);
      return step;
    }
    const double half = 0.5 * (h[0][0] - h[1][1]), angle = 0.5 * std::atan2(h[0][1], half),
                 mean = 0.5 * (h[0][0] + h[1][1]);
    const double radius = std::hypot(half, h[0][1]), c = std::cos(angle), s = std::sin(angle);
    const double floor = 1e-8 * (std::abs(mean) + radius);
    const auto lifted = [&](double x) { return std::max(std::abs(x), floor); };
    const double u = along(c * g[0] + s * g[1], lifted(mean + radius)),
                 v = along(c * g[1] - s * g[0], lifted(mean - radius));
    step[0] = c * u - s * v, step[1] = s * u + c * v;
    return step;
  }

  const Bulk* bulk_;
  const OptimumInput* in_;
  SetState state_;
  Index set_ = 0;  ///< at work
  Workspace work_;
  detail::Items items_;
  std::vector<Point<double>> points_;
  std::vector<Found> found_;
  std::vector<Best> lowest_;
  Index searched_ = 0;  ///< the point whose outer search is under way
  std::vector<Walker> walkers_;
  std::vector<double> line_, grid_, slope_;
  std::vector<Index> retry_, solved_, order_;
  std::vector<std::int8_t> keys_;
  std::vector<Dual<Pack>> weights_;
  NodeSet turned_;
  std::vector<NodeTangent> tangents_;
};

/// Finds the optimum of every point.
template <class Bulk>
void optimum_batch(const Bulk& bulk, const OptimumInput& in, const OptimumOutput& out,
                   Interrupt& interrupt) {
  const PointsBySet by_set(in);
  const int n_threads = std::max(1, in.n_threads);
  // Points of a block share the coefficients of the grid, so that few blocks are best; those of a
  // descent are its own.
  const Index share = (in.n_points + 4 * n_threads - 1) / (4 * n_threads);
  const Index block_size =
      in.coordinates.empty() ? 512 : std::min<Index>(std::max<Index>(share, 1), 256);
  std::vector<PointBlock> blocks;
  for (Index set = 0; set < static_cast<Index>(in.sets.size()); ++set)
    cut_set(by_set, set, block_size, blocks);
  std::deque<OptimumSearch<Bulk>> searches;
  for (int thread = 0; thread < n_threads; ++thread) searches.emplace_back(bulk, in);
  parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index i, int thread) {
    searches[thread].run(by_set, blocks[i], out, [&] {
      if (thread == 0) interrupt.check();
      if (interrupt.cancelled()) throw Cancelled{};
    });
  });
}

// Compiled once: cpp/src/isotropic.cpp.
extern template void optimum_batch(const MarchenkoPastur&, const OptimumInput&,
                                   const OptimumOutput&, Interrupt&);

}  // namespace srfx
