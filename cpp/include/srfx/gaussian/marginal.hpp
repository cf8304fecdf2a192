// A target of several directions beside one spike, as functions of one variable (THEORY section 13,
// q = 1).
//
// Of t' (directions.hpp) only a = t'_1 = gamma k + rho z'_1 depends on the spike. Averaged over the
// others,
//   main(a) = E s*,   across_m(a) = E t'_m s*  (m = 2 .. L),   spread(a) = E (s* - main - sum_m
//   across_m t'_m)^2,
// the coefficients of the target are those of functions of one variable, coefficients.hpp:
//   h = E main(gamma k + rho z),   h1_1 = E z main(..),   h1_m = E across_m(..).
//
// The functions are tabulated once, as Chebyshev series on intervals with edges at their kinks,
// halved until the series end.
#pragma once

#include "srfx/gaussian/target_averages.hpp"

#include <memory>

namespace srfx {

/// The gamma of a spike with alignments with L directions: their length.
inline double length_of(const double* alignment, Index n) {
  double square = 0;
  for (Index l = 0; l < n; ++l) square += alignment[l] * alignment[l];
  return square > 1 - 2e-13 ? 1 : std::sqrt(square);  // rounded
}

class Marginal {
 public:
  /// Of the spike's alignments with the directions only their ratios matter.
  Marginal(const TargetFunction& target, const double* alignment)
      : n_(static_cast<int>(target.directions())) {
    dense::Matrix axis = Eigen::Map<const dense::Vector>(alignment, n_);
    if (!(axis.norm() > 0)) axis(0, 0) = 1;
    Directions axes(axis / axis.norm());
    axes.gamma.assign(n_, 0.0), axes.rho.assign(n_, 1.0);
    axes.gamma[0] = 1, axes.rho[0] = 0;
    if (axes.turn_spikes(0, 0) < 0) axes.turn.col(0) *= -1;
    axes.turn_spikes = dense::Matrix::Identity(1, 1);
    turn_ = axes.turn;
    const AxisPlanes planes(target.shape(), axes.turn);
    std::vector<double> edges{-limit, limit};
    planes.edges(0, nullptr, edges);
    planes.smeared_edges(0, nullptr, edges);
    edges.erase(
        std::remove_if(edges.begin(), edges.end(), [](double x) { return std::abs(x) > limit; }),
        edges.end());
    std::sort(edges.begin(), edges.end());
    tabulate(target, axes, edges, settle(target, axes));
    for (int m = 0; m <= n_; ++m) {
      Shape shape;
      const TargetShape& given = target.shape();
      shape.parity = m == n_ ? std::abs(given.parity) : m == 0 ? given.parity : -given.parity;
      shape.core_parity = shape.parity;
      shape.growth = std::max(2, given.growth) * (m == n_ ? 2 : 1);
      shape.smooth = edges.size() == 2;
      shape.strip =
          1.5707963267948966;  // unknown: a guess, which the comparison of two rules corrects
      shape.kinks.assign(edges.begin() + 1, edges.end() - 1);
      shape.panel = 1, shape.soft = infinity;
      functions_.push_back(std::make_unique<Part>(*this, m, shape));
    }
  }
  Marginal(const Marginal&) = delete;
  Marginal& operator=(const Marginal&) = delete;

  int directions() const { return n_; }
  /// U of directions.hpp: its first column is where the spike points.
  const dense::Matrix& turn() const { return turn_; }
  const Function& main() const { return *functions_[0]; }
  const Function& across(int m) const { return *functions_[1 + m]; }  ///< m < L - 1
  const Function& spread() const { return *functions_[n_]; }
  /// Estimated error of the averages, relative to rms(s*) near 0.
  double error() const { return error_; }
  double rms() const { return rms_; }

 private:
  static constexpr double limit = 16.5;  ///< of a: as far as nodes in k and z go
  static constexpr double far = 8;       ///< beyond it fewer digits matter, by exp(-a^2/4)
  static constexpr int order = 20;       ///< Chebyshev points an interval
  static constexpr double most = 4e7;    ///< values of the target
  static constexpr double least_density =
      0.35;  ///< of nodes, where more would be too many: 1e-6 or so

  class Part : public Function {
   public:
    Part(const Marginal& of, int part, Shape shape) : of_(&of), part_(part) { shape_ = shape; }
    void evaluate(const double* x, double* y, Index n) const override {
      double value[lanes];
      for (Index i = 0; i < n; i += lanes) {
        const int count = static_cast<int>(std::min<Index>(lanes, n - i));
        const Places at(*of_, x + i, count);
        of_->values(part_, at, value);
        std::copy_n(value, count, y + i);
        if (part_ < of_->n_) continue;
        for (int m = 0; m < part_; ++m) {
          of_->values(m, at, value);
          for (int lane = 0; lane < count; ++lane) y[i + lane] -= value[lane] * value[lane];
        }
        for (int lane = 0; lane < count; ++lane) y[i + lane] = std::max(0.0, y[i + lane]);
      }
    }

   private:
    const Marginal* of_;
    int part_;
  };

  /// Some points, each in its interval; the recurrences of all of them run side by side.
  static constexpr int lanes = 16;
  struct Places {
    const double* series[lanes];
    double s[lanes];
    Places(const Marginal& of, const double* x, int count) {
      const Index last = static_cast<Index>(of.lo_.size()) - 1;
      for (int lane = 0; lane < lanes; ++lane) {
        const double at = x[std::min(lane, count - 1)];
        Index i = std::upper_bound(of.lo_.begin(), of.lo_.end(), at) - of.lo_.begin() - 1;
        i = std::clamp<Index>(i, 0, last);
        s[lane] = 2 * (at - of.lo_[i]) / (of.hi_[i] - of.lo_[i]) - 1;
        series[lane] = &of.series_[i * (of.n_ + 1) * order];
      }
    }
  };
  void values(int part, const Places& at, double* out) const {
    double above[lanes] = {}, here[lanes] = {};
    for (int j = order; j-- > 1;)
      for (int lane = 0; lane < lanes; ++lane) {
        const double below =
            2 * at.s[lane] * here[lane] - above[lane] + at.series[lane][part * order + j];
        above[lane] = here[lane], here[lane] = below;
      }
    for (int lane = 0; lane < lanes; ++lane)
      out[lane] = at.s[lane] * here[lane] - above[lane] + at.series[lane][part * order];
  }

  TargetTable at(const TargetFunction& target, const Directions& axes, double density,
                 std::vector<double> a) const {
    Rule rule;
    rule.w.assign(a.size(), 1.0);
    rule.x = std::move(a);
    TargetAverages averages(target, axes, density);
    return averages.at([&](int, const std::vector<double>&) { return rule; });
  }

  /// The density of nodes across the spike at which the averages settle.
  double settle(const TargetFunction& target, const Directions& axes) {
    if (n_ == 1) return 1;
    const std::vector<double> probes{0.05, 0.4, -1.3, 3.1};
    const auto affordable = [&](double density) {
      return TargetAverages(target, axes, density).cost(40 * order) <= most;
    };
    double density = 1;
    while (!affordable(density) && density > least_density) density *= 0.8;
    if (!affordable(density))
      throw std::domain_error("target must have fewer directions" +
                              std::string(target.shape().smooth() ? "" : ", or no kinks") +
                              ": averages over " + std::to_string(n_ - 1) +
                              " of them would take more than " +
                              std::to_string(static_cast<Index>(most)) + " values of it");
    TargetTable coarse = at(target, axes, density, probes);
    const int n_values = coarse.channels;
    for (int pass = 0;; ++pass) {
      const double denser = 1.4 * density;
      const TargetTable fine = at(target, axes, denser, probes);
      double scale = 0, moved = 0;
      for (Index i = 0; i < fine.size; ++i) {
        const double* const f = &fine.values[i * n_values];
        const double* const c = &coarse.values[i * n_values];
        const double square = f[n_values - 1];
        scale = std::max(scale, std::sqrt(square));
        for (int m = 0; m + 1 < n_values; ++m) moved = std::max(moved, std::abs(f[m] - c[m]));
        if (square > 0)
          moved = std::max(moved, std::abs(square - c[n_values - 1]) / std::sqrt(square));
      }
      error_ = scale > 0 ? moved / scale : 0;
      if (error_ < 2e-14 || pass == 5 || !affordable(denser)) return density;
      density = denser;
      coarse = fine;
    }
  }

  void tabulate(const TargetFunction& target, const Directions& axes,
                const std::vector<double>& edges, double density) {
    struct Interval {
      double lo, hi;
      int depth;
    };
    std::vector<Interval> open;
    std::vector<double> ends = edges;
    ends.insert(ends.end(), {-far, far});
    std::sort(ends.begin(), ends.end());
    for (std::size_t e = 0; e + 1 < ends.size(); ++e) {
      const double width = ends[e + 1] - ends[e];
      if (!(width > 1e-12)) continue;
      const bool outside = ends[e] >= far || ends[e + 1] <= -far;
      const int count = outside ? 1 : std::max(1, static_cast<int>(std::ceil(width / 1.7)));
      for (int i = 0; i < count; ++i)
        open.push_back({ends[e] + width * i / count, ends[e] + width * (i + 1) / count, 0});
    }
    const double pi = 3.14159265358979323846;
    const int n_parts = n_ + 1;
    double cosines[order * order];
    for (int i = 0; i < order; ++i)
      for (int j = 0; j < order; ++j)
        cosines[i * order + j] =
            (j == 0 ? 1.0 : 2.0) / order * std::cos(pi * j * (i + 0.5) / order);
    std::vector<Interval> done;
    std::vector<double> series;
    double unresolved = 0;
    for (bool first = true; !open.empty(); first = false) {
      std::vector<double> a;
      for (const Interval& x : open)
        for (int i = 0; i < order; ++i)
          a.push_back(0.5 * (x.lo + x.hi) + 0.25 * order * (x.hi - x.lo) * cosines[i * order + 1]);
      const TargetTable table = at(target, axes, density, a);
      if (first) {
        double square = 0;
        for (Index i = 0; i < table.size; ++i)
          if (std::abs(a[i]) < 2) square = std::max(square, table.values[(i + 1) * (n_ + 2) - 1]);
        rms_ = std::sqrt(square);
      }
      std::vector<Interval> again;
      for (std::size_t which = 0; which < open.size(); ++which) {
        const Interval& x = open[which];
        std::vector<double> c(n_parts * order, 0.0);
        double square = 0, left = 0;
        for (int i = 0; i < order; ++i) {
          // Channels of the table: h, h1 of axis 0 (absent), of the others, hh.
          const double* const v = &table.values[(which * order + i) * (n_ + 2)];
          square = std::max(square, v[n_ + 1]);
          for (int m = 0; m < n_parts; ++m)
            for (int j = 0; j < order; ++j)
              c[m * order + j] += v[m == 0 ? 0 : m + 1] * cosines[i * order + j];
        }
        const double root = std::sqrt(square);
        for (int m = 0; m < n_parts; ++m) {
          const double* const tail = &c[m * order + order - 2];
          const double size = std::abs(tail[0]) + std::abs(tail[1]);
          left = std::max(left, m < n_ ? size : root > 0 ? size / root : 0);
        }
        const double nearest = x.lo * x.hi < 0 ? 0 : std::min(std::abs(x.lo), std::abs(x.hi)),
                     enough = 4e-14 * root * (nearest < far ? 1 : std::exp(0.25 * far * far));
        if (left > enough && x.depth < 7) {
          const double middle = 0.5 * (x.lo + x.hi);
          again.push_back({x.lo, middle, x.depth + 1});
          again.push_back({middle, x.hi, x.depth + 1});
        } else {
          if (left > 4e-14 * root)
            unresolved = std::max(unresolved, left * std::exp(-0.5 * nearest * nearest));
          done.push_back(x);
          series.insert(series.end(), c.begin(), c.end());
        }
      }
      open.swap(again);
    }
    if (rms_ > 0) error_ = std::max(error_, unresolved / rms_);
    std::vector<std::size_t> sorted(done.size());
    for (std::size_t i = 0; i < sorted.size(); ++i) sorted[i] = i;
    std::sort(sorted.begin(), sorted.end(),
              [&](std::size_t a, std::size_t b) { return done[a].lo < done[b].lo; });
    for (std::size_t i : sorted) {
      lo_.push_back(done[i].lo), hi_.push_back(done[i].hi);
      const auto from = series.begin() + static_cast<std::ptrdiff_t>(i * n_parts * order);
      series_.insert(series_.end(), from, from + n_parts * order);
    }
  }

  int n_;
  dense::Matrix turn_;
  std::vector<double> lo_, hi_, series_;
  std::vector<std::unique_ptr<Part>> functions_;
  double error_ = 0, rms_ = 0;
};

}  // namespace srfx
