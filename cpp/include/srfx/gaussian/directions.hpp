// How a target of several directions meets the spikes (THEORY section 13).
//
//   t = Gamma k + A z,   A A^T = I - Gamma Gamma^T;   Gamma = U diag(gamma) W^T
//
// In the frame of the singular vectors, t' = U^T t and k' = W^T k, every coordinate goes by itself:
//   t'_j = gamma_j k'_j + rho_j z'_j,   rho_j = sqrt(1 - gamma_j^2),   gamma_j = 0 beyond the
//   spikes.
// The coordinates are called axes here. They come with falling gamma, so that those with rho = 0,
// where t'_j is k'_j, are first.
//
// Kinks are planes n.t = b, hence n'.t' = b with n' = U^T n. Integrals over the axes are done from
// the last to the first. What is left after the last has kinks on the planes without it, and where
// two planes cross: on the combination that has no share of it. So every axis has its planes in the
// axes up to it, and edges that depend on those before it.
#pragma once

#include "srfx/core/dense.hpp"
#include "srfx/gaussian/target.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace srfx {

/// The axes of an alignment Gamma (L x q).
struct Directions {
  dense::Matrix turn;              ///< U: t = U t'
  dense::Matrix turn_spikes;       ///< W: k = W k'
  std::vector<double> gamma, rho;  ///< L each

  int directions() const { return static_cast<int>(gamma.size()); }
  int spikes() const { return static_cast<int>(turn_spikes.rows()); }

  Directions() = default;
  explicit Directions(const dense::Matrix& alignment) {
    const dense::SingularValues svd = dense::singular_values(alignment);
    turn = svd.u, turn_spikes = svd.v;
    gamma.assign(alignment.rows(), 0.0);
    for (Index j = 0; j < svd.values.size(); ++j) {
      gamma[j] = std::min(1.0, svd.values(j));
      if (gamma[j] > 1 - 1e-13) gamma[j] = 1;  // rows of unit norm, rounded
    }
    for (double g : gamma) rho.push_back(std::sqrt((1 - g) * (1 + g)));
  }
};

/// The planes of a target's kinks in the frame of its axes, and where on a line it jumps.
class AxisPlanes {
 public:
  AxisPlanes() = default;
  /// The target has to live as long.
  AxisPlanes(const TargetFunction& target, const dense::Matrix& turn)
      : AxisPlanes(target.shape(), turn) {
    if (target.shape().jumps) jumping_ = &target, turn_ = turn;
  }
  AxisPlanes(const TargetShape& shape, const dense::Matrix& turn) {
    const Index n = turn.rows();
    on_.resize(n);
    std::vector<Plane> all;
    for (const Plane& plane : shape.planes) {
      Plane turned{std::vector<double>(n), plane.offset};
      for (Index j = 0; j < n; ++j)
        for (Index l = 0; l < n; ++l) turned.normal[j] += turn(l, j) * plane.normal[l];
      add(turned, all);
    }
    for (Index j = n; j-- > 0;) {
      std::vector<Plane> without;
      for (const Plane& plane : all) {
        if (std::abs(plane.normal[j]) > parallel) on_[j].push_back(plane);
        else add(plane, without);
      }
      for (std::size_t a = 0; a < on_[j].size(); ++a)
        for (std::size_t b = a + 1; b < on_[j].size(); ++b) {
          const double fa = on_[j][b].normal[j], fb = on_[j][a].normal[j];
          Plane crossing{std::vector<double>(n), fa * on_[j][a].offset - fb * on_[j][b].offset};
          for (Index l = 0; l < j; ++l)
            crossing.normal[l] = fa * on_[j][a].normal[l] - fb * on_[j][b].normal[l];
          add(crossing, without);
        }
      all = without;
    }
  }

  bool any() const {
    return jumping_ ||
           std::any_of(on_.begin(), on_.end(), [](const auto& planes) { return !planes.empty(); });
  }

  /// Appends edges around kinks that axis j crosses steeply, given those before it: the averages
  /// over the later ones smear them, but a step of the width 1/s, with s the steepness, is still one
  /// for a panel of unit width.
  void smeared_edges(int j, const double* t, std::vector<double>& out) const {
    const std::size_t own = static_cast<std::size_t>(j);
    for (std::size_t later = own + 1; later < on_.size(); ++later)
      for (const Plane& plane : on_[later]) {
        double square = 0, left = plane.offset;
        for (std::size_t l = own + 1; l < plane.normal.size(); ++l)
          square += plane.normal[l] * plane.normal[l];
        const double along = plane.normal[own], width = std::sqrt(square) / std::abs(along);
        if (!(width <= 0.5)) continue;
        for (std::size_t l = 0; l < own; ++l) left -= plane.normal[l] * t[l];
        for (double distance : {-7, -2, 0, 2, 7}) out.push_back(left / along + distance * width);
      }
  }

  /// Appends the edges on axis j, given those before it.
  void edges(int j, const double* t, std::vector<double>& out) const {
    for (const Plane& plane : on_[j]) {
      double left = plane.offset;
      for (int l = 0; l < j; ++l) left -= plane.normal[l] * t[l];
      out.push_back(left / plane.normal[j]);
    }
    if (!jumping_) return;
    // Along an outer axis: where it jumps whatever the inner ones are, or is symmetric in them.
    jumps(j, t, 0, out);
    if (j + 1 < static_cast<int>(on_.size())) jumps(j, t, 0.37, out);
  }

 private:
  /// Appends where the value changes its sign along axis j, those after it at `beyond`.
  void jumps(int j, const double* t, double beyond, std::vector<double>& out) const {
    constexpr double reach = 13;
    constexpr int grid = 104, parts = 16;
    const Index n = turn_.rows();
    std::vector<double> x, points, s;
    const auto evaluate = [&] {
      const Index count = static_cast<Index>(x.size());
      points.resize(x.size() * static_cast<std::size_t>(n)), s.resize(x.size());
      for (Index l = 0; l < n; ++l) {
        double fixed = 0;
        for (int a = 0; a < j; ++a) fixed += turn_(l, a) * t[a];
        for (Index a = j + 1; a < n; ++a) fixed += turn_(l, a) * beyond;
        for (Index i = 0; i < count; ++i) points[l * count + i] = fixed + turn_(l, j) * x[i];
      }
      if (count > 0) jumping_->evaluate(points.data(), s.data(), count);
    };
    for (int i = 0; i <= grid; ++i) x.push_back(reach * (2 * (i + 0.013) / grid - 1));
    evaluate();
    struct Bracket {
      double lo, hi;
      bool above;  ///< on the left
    };
    std::vector<Bracket> found;
    for (int i = 0; i < grid; ++i)
      if ((s[i] > 0) != (s[i + 1] > 0)) found.push_back({x[i], x[i + 1], s[i] > 0});
    for (int pass = 0; pass < 12 && !found.empty(); ++pass) {
      x.clear();
      for (const Bracket& b : found)
        for (int i = 1; i < parts; ++i) x.push_back(b.lo + (b.hi - b.lo) * i / parts);
      evaluate();
      for (std::size_t b = 0; b < found.size(); ++b) {
        const double lo = found[b].lo, step = (found[b].hi - lo) / parts;
        int at = 0;
        while (at + 1 < parts && (s[b * (parts - 1) + at] > 0) == found[b].above) ++at;
        found[b].lo = lo + step * at, found[b].hi = lo + step * (at + 1);
      }
    }
    for (const Bracket& b : found) out.push_back(0.5 * (b.lo + b.hi));
  }

  static constexpr double parallel = 1e-12;

  /// Adds a plane with a normal of unit length, unless it has none or is there already, up to sign.
  static void add(Plane plane, std::vector<Plane>& to) {
    double norm = 0;
    for (double x : plane.normal) norm += x * x;
    norm = std::sqrt(norm);
    if (norm < parallel) return;
    for (double& x : plane.normal) x /= norm;
    plane.offset /= norm;
    for (const Plane& other : to)
      for (double sign : {1.0, -1.0}) {
        double distance = std::abs(plane.offset - sign * other.offset);
        for (std::size_t l = 0; l < plane.normal.size(); ++l)
          distance += std::abs(plane.normal[l] - sign * other.normal[l]);
        if (distance < parallel) return;
      }
    to.push_back(std::move(plane));
  }

  std::vector<std::vector<Plane>> on_;
  const TargetFunction* jumping_ = nullptr;
  dense::Matrix turn_;
};

}  // namespace srfx
