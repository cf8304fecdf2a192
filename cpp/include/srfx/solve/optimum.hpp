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

#include "srfx/solve/box_search.hpp"
#include "srfx/solve/coefficient_map.hpp"
#include "srfx/solve/gradient.hpp"
#include "srfx/solve/items.hpp"

namespace srfx {

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
        for (int c = 0; c < kept; ++c) better(in_box(own, points_[j], starts[c], poll));
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

  template <class Poll>
  Best in_box(const CoefficientMap::Own& own, const Point<double>& point, std::array<int, 2> start,
              Poll&& poll) {
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
      BoxPlace out;
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
    const BoxPlace at = newton_in_box(top, start, look);
    return {{y_of(0, at.x[0]), y_of(1, at.x[1])}, at.error, at.line, at.converged};
  }

  const Bulk* bulk_;
  const OptimumInput* in_;
  SetState state_;
  Index set_ = 0;  ///< at work
  Workspace work_;
  Items items_;
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
