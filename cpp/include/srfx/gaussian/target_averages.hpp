// Averages of a target of several directions, given the spikes (THEORY section 13):
//
//   h(k) = E s*(t),   h1_j(k) = E z'_j s*(t),   hh(k) = E s*(t)^2,   t'_j = gamma_j k'_j + rho_j
//   z'_j   (directions.hpp)
//
// An axis has nodes in t'_j that serve all of its k'_j: what they weigh depends on both, what the
// target is there does not. So the target is evaluated on a product of axes and summed up axis by
// axis, the last first: what is left after each is a function of the outer t' and of the inner k'.
// Where the target has kinks the nodes of an axis depend on the outer ones. Axes with rho = 0 have
// their k' for nodes.
//
// The target is evaluated on big blocks: the nodes are gone through twice, first to list where it
// is needed.
#pragma once

#include "srfx/gaussian/directions.hpp"
#include "srfx/gaussian/quadrature.hpp"

#include <functional>

namespace srfx {

/// The averages at nodes in k', which are products over the spikes: every k'_j may depend on those
/// before it.
struct TargetTable {
  Index size = 0;
  int spikes = 0, channels = 0;
  std::vector<double> k;       ///< size x spikes, in the frame of the axes
  std::vector<double> weight;  ///< with the density
  std::vector<double>
      values;  ///< size x channels: h, then h1 of each axis (0 where rho = 0), then hh
};

class TargetAverages {
 public:
  /// The nodes in k'_j, ascending, with their weights, given edges (of axes with rho = 0 only).
  using SpikeRule = std::function<Rule(int axis, const std::vector<double>& edges)>;

  /// `density` multiplies the number of nodes in z.
  TargetAverages(const TargetFunction& target, const Directions& directions, double density)
      : target_(&target),
        axes_(directions),
        planes_(target, directions.turn),
        smooth_(!planes_.any()),
        density_(density),
        n_axes_(directions.directions()),
        channels_(n_axes_ + 2),
        at_(n_axes_, 0.0) {
    while (n_points_ < n_axes_ && axes_.rho[n_points_] == 0) ++n_points_;
  }

  /// How many values of the target it would take, about, for n_k nodes in every k'.
  double cost(double n_k) const {
    double out = 1;
    for (int j = 0; j < n_axes_; ++j)
      out *= j < n_points_ ? n_k : 2 * reach(j, k_limit) / spacing(j);
    return out;
  }

  TargetTable at(const SpikeRule& rule) {
    const int spikes = axes_.spikes();
    in_k_.assign(std::max(spikes, n_axes_), Rule{});
    below_.assign(n_axes_ + 1, 1);
    fixed_.assign(n_axes_, Axis{});
    room_.assign(n_axes_, Axis{});
    for (int j = n_points_; j < spikes; ++j) in_k_[j] = rule(j, {});
    for (int j = n_axes_; j-- > n_points_;) {
      below_[j] = below_[j + 1] * (seen(j) ? in_k_[j].size() : 1);
      if (smooth_) make_axis(j, fixed_[j]);
    }
    stack_.resize(n_axes_ + 1);
    for (int j = n_points_; j <= n_axes_; ++j) stack_[j].assign(below_[j] * channels_, 0.0);

    // The nodes of the axes without z, then for each of them all k' of the others.
    std::vector<double> outer, outer_weight;
    list_points(0, rule, 1.0, outer, outer_weight);
    const Index n_outer = static_cast<Index>(outer_weight.size()), n_inner = below_[n_points_];
    std::vector<double> sums(n_outer * n_inner * channels_, 0.0);
    if (n_points_ > 0 || n_axes_ == 0) {
      const auto place = [&](Index i) {
        std::copy_n(&outer[i * n_points_], n_points_, at_.begin());
      };
      in_chunks(
          n_outer, [&](Index i) { place(i), list(n_points_); },
          [&](Index i) {
            place(i);
            sum(n_points_, &sums[i * n_inner * channels_]);
          });
    } else {
      const Axis& axis = axis_at(0);
      in_chunks(
          static_cast<Index>(axis.t.size()), [&](Index p) { at_[0] = axis.t[p], list(1); },
          [&](Index p) {
            at_[0] = axis.t[p];
            sum(1, stack_[1].data());
            gather(0, axis, p, stack_[1].data(), sums.data());
          });
    }
    return table(outer, outer_weight, sums);
  }

 private:
  static constexpr double z_limit = 9.5, k_limit = 12, t_limit = 10.5;
  static constexpr Index chunk = Index(1) << 17;

  /// Nodes of one axis, and of each the k' that it counts for: `count` from `first` on, with
  /// weights from `offset` on.
  struct Axis {
    std::vector<double> t;
    std::vector<Index> first, count, offset;
    std::vector<double> w, wz;
    void clear() { t.clear(), first.clear(), count.clear(), offset.clear(), w.clear(), wz.clear(); }
  };

  /// Whether the target has a share of spike j.
  bool seen(int j) const { return j < n_axes_ && axes_.gamma[j] > 0; }
  double spacing(int j) const {  // of nodes in t'
    return axes_.rho[j] * (smooth_ ? 0.4 : 2.9 / 16) / density_;
  }
  /// |t'_j| at most. Beyond t_limit there is no mass, but far from the k' of most.
  double reach(int j, double k) const {
    return std::min(axes_.gamma[j] * k + axes_.rho[j] * z_limit, std::max(t_limit, 1.05 * k));
  }

  void list_points(int j, const SpikeRule& rule, double weight, std::vector<double>& points,
                   std::vector<double>& weights) {
    if (j == n_points_) {
      points.insert(points.end(), at_.begin(), at_.begin() + n_points_);
      weights.push_back(weight);
      return;
    }
    std::vector<double> edges;
    planes_.edges(j, at_.data(), edges);
    const Rule nodes = rule(j, edges);
    for (Index i = 0; i < nodes.size(); ++i) {
      at_[j] = nodes.x[i];
      list_points(j + 1, rule, weight * nodes.w[i], points, weights);
    }
  }

  /// Goes through `n` units: list(i) where the target is needed, its values, then sum(i), a block
  /// of units after the other.
  template <class List, class Sum> void in_chunks(Index n, List&& list_unit, Sum&& sum_unit) {
    for (Index first = 0, last = 0; first < n;) {
      points_.clear();
      while (last < n && static_cast<Index>(points_.size()) < chunk * n_axes_) list_unit(last++);
      evaluate();
      cursor_ = 0;
      for (; first < last; ++first) sum_unit(first);
    }
  }

  void evaluate() {
    const Index n = static_cast<Index>(points_.size()) / n_axes_;
    turned_.resize(points_.size()), values_.resize(n);
    using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Eigen::Map<RowMajor>(turned_.data(), n_axes_, n).noalias() =
        axes_.turn.lazyProduct(Eigen::Map<const dense::Matrix>(points_.data(), n_axes_, n));
    if (n > 0) target_->evaluate(turned_.data(), values_.data(), n);
  }

  /// The nodes of axis j at the outer ones in at_; `weighed`: with what they weigh.
  const Axis& axis_at(int j, bool weighed = true) {
    if (smooth_) return fixed_[j];
    make_axis(j, room_[j], weighed);
    return room_[j];
  }

  void make_axis(int j, Axis& out, bool weighed = true) {
    static const std::vector<double> origin{0.0};
    const double gamma = axes_.gamma[j], rho = axes_.rho[j];
    const std::vector<double>& k = gamma > 0 ? in_k_[j].x : origin;
    const Index n_k = static_cast<Index>(k.size());
    const double limit = reach(j, std::max(std::abs(k.front()), std::abs(k.back())));
    out.clear();
    edges_.clear();
    planes_.edges(j, at_.data(), edges_);
    planes_.smeared_edges(j, at_.data(), edges_);
    // One set of nodes for all k, unless rho is so small that it takes more of them than one set
    // for each.
    Index n_weights = 0;
    const auto add_node = [&](double t, double weight, Index first, Index last) {
      out.t.push_back(t);
      if (!weighed) return;
      out.first.push_back(first), out.count.push_back(last - first);
      out.offset.push_back(n_weights);
      const Index next = n_weights + last - first;
      if (next > static_cast<Index>(z_.size())) z_.resize(2 * next), weights_.resize(2 * next);
      double *const z = &z_[n_weights], *const w = &weights_[n_weights];
      for (Index i = first; i < last; ++i) {
        w[i - first] = weight;
        z[i - first] = (t - gamma * k[i]) / rho;
      }
      n_weights = next;
    };
    if (limit <= static_cast<double>(n_k) * rho * z_limit) {
      nodes_.clear();
      push(nodes_, limit, spacing(j), edges_, 0, 1);
      for (Index p = 0; p < nodes_.size(); ++p) {
        const double t = nodes_.x[p];
        Index first = 0, last = n_k;
        if (gamma > 0) {
          first = std::lower_bound(k.begin(), k.end(), (t - rho * z_limit) / gamma) - k.begin();
          last = std::upper_bound(k.begin(), k.end(), (t + rho * z_limit) / gamma) - k.begin();
        }
        if (first < last) add_node(t, nodes_.w[p] / rho, first, last);
      }
    } else {
      for (Index i = 0; i < n_k; ++i) {
        nodes_.clear();
        push(nodes_, z_limit, spacing(j) / rho, edges_, gamma * k[i], rho);
        for (Index p = 0; p < nodes_.size(); ++p)
          add_node(gamma * k[i] + rho * nodes_.x[p], nodes_.w[p], i, i + 1);
      }
    }
    if (!weighed) return;
    times_normal_density(z_.data(), weights_.data(), n_weights);
    out.w.assign(weights_.begin(), weights_.begin() + n_weights);
    out.wz.resize(n_weights);
    for (Index i = 0; i < n_weights; ++i) out.wz[i] = weights_[i] * z_[i];
  }

  /// Nodes on [-limit, limit] of a variable x, with edges at mean + sd x.
  void push(Rule& out, double limit, double step, const std::vector<double>& edges, double mean,
            double sd) {
    if (smooth_) return out.push_trapezoid(step, limit);
    ends_.assign({-limit, limit});
    for (double edge : edges) {
      const double x = (edge - mean) / sd;
      if (std::abs(x) < limit) ends_.push_back(x);
    }
    std::sort(ends_.begin(), ends_.end());
    for (std::size_t i = 0; i + 1 < ends_.size(); ++i)
      out.push_panels(ends_[i], ends_[i + 1], 16 * step, 16);
  }

  /// Lists the points of the axes from j on.
  void list(int j) {
    if (j == n_axes_) {
      points_.insert(points_.end(), at_.begin(), at_.end());
      return;
    }
    const Axis& axis = axis_at(j, false);
    for (double t : axis.t) {
      at_[j] = t;
      list(j + 1);
    }
  }

  /// The averages over the axes from j on, for all of their k'.
  void sum(int j, double* out) {
    std::fill(out, out + below_[j] * channels_, 0.0);
    if (j == n_axes_) {
      const double value = values_[cursor_++];
      out[0] = value, out[channels_ - 1] = value * value;
      return;
    }
    const Axis& axis = axis_at(j);
    if (j == n_axes_ - 1) return sum_last(axis, out);
    double* const inner = stack_[j + 1].data();
    for (std::size_t p = 0; p < axis.t.size(); ++p) {
      at_[j] = axis.t[p];
      sum(j + 1, inner);
      gather(j, axis, static_cast<Index>(p), inner, out);
    }
  }

  void sum_last(const Axis& axis, double* out) {
    const Index n = below_[n_axes_ - 1];
    totals_.assign(3 * n, 0.0);
    for (std::size_t p = 0; p < axis.t.size(); ++p) {
      const double value = values_[cursor_++], square = value * value;
      const double *const w = &axis.w[axis.offset[p]], *const wz = &axis.wz[axis.offset[p]];
      double *const h = &totals_[axis.first[p]], *const h1 = h + n, *const hh = h1 + n;
      for (Index i = 0; i < axis.count[p]; ++i) {
        h[i] += w[i] * value;
        h1[i] += wz[i] * value;
        hh[i] += w[i] * square;
      }
    }
    for (Index i = 0; i < n; ++i) {
      double* const to = out + i * channels_;
      to[0] = totals_[i], to[n_axes_] = totals_[n + i], to[channels_ - 1] = totals_[2 * n + i];
    }
  }

  /// Adds node p of axis j, where the inner averages are `inner`.
  void gather(int j, const Axis& axis, Index p, const double* inner, double* out) const {
    const Index n = below_[j + 1];
    for (Index i = 0; i < axis.count[p]; ++i) {
      const double w = axis.w[axis.offset[p] + i], wz = axis.wz[axis.offset[p] + i];
      double* const to = out + (axis.first[p] + i) * n * channels_;
      for (Index x = 0; x < n * channels_; ++x) to[x] += w * inner[x];
      for (Index x = 0; x < n; ++x) to[x * channels_ + 1 + j] += wz * inner[x * channels_];
    }
  }

  /// The product with the spikes that the target does not see.
  TargetTable table(const std::vector<double>& outer, const std::vector<double>& outer_weight,
                    const std::vector<double>& sums) const {
    TargetTable out;
    const int spikes = out.spikes = axes_.spikes();
    out.channels = channels_;
    std::vector<double> k(spikes);
    const std::function<void(int, Index, double)> fill = [&](int j, Index place, double weight) {
      if (j == spikes) {
        out.k.insert(out.k.end(), k.begin(), k.end());
        out.weight.push_back(weight);
        out.values.insert(out.values.end(), &sums[place * channels_],
                          &sums[place * channels_] + channels_);
        return;
      }
      const Rule& rule = in_k_[j];
      for (Index i = 0; i < rule.size(); ++i) {
        k[j] = rule.x[i];
        fill(j + 1, seen(j) ? place * rule.size() + i : place, weight * rule.w[i]);
      }
    };
    for (std::size_t i = 0; i < outer_weight.size(); ++i) {
      for (int j = 0; j < std::min(n_points_, spikes); ++j) k[j] = outer[i * n_points_ + j];
      fill(n_points_, static_cast<Index>(i), outer_weight[i]);
    }
    out.size = static_cast<Index>(out.weight.size());
    return out;
  }

  const TargetFunction* target_;
  Directions axes_;
  AxisPlanes planes_;
  bool smooth_;
  double density_;
  int n_axes_, n_points_ = 0, channels_;
  std::vector<double> at_;
  std::vector<Rule> in_k_;
  std::vector<Index> below_;  ///< k' of the axes from j on
  std::vector<Axis> fixed_, room_;
  std::vector<std::vector<double>> stack_;
  std::vector<double> points_, turned_, values_, edges_, ends_, z_, weights_, totals_;
  Rule nodes_;
  Index cursor_ = 0;
};

}  // namespace srfx
