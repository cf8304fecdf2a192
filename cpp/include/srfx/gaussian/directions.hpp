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

/// The planes of a target's kinks in the frame of its axes.
class AxisPlanes {
 public:
  AxisPlanes() = default;
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
    return std::any_of(on_.begin(), on_.end(), [](const auto& planes) { return !planes.empty(); });
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
  }

 private:
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
};

}  // namespace srfx
