// What was found for distinct groups in the frame of a table, in terms of the groups, spikes and
// directions that were given (THEORY sections 7 and 13).
#pragma once

#include "srfx/solve/group_levels.hpp"
#include "srfx/solve/groups.hpp"

namespace srfx {

/// What theta and psi, found in the frame of a table, are in terms of the spikes and directions
/// that were given.
///
/// The solution knows the spikes within the row space of R, V W theta. What is left of them is a
/// part of the directions, t - Gamma k = A z: the readout along it is (I - V V^T) Gamma^T U
/// diag(1/rho) psi.
struct SpikeTurn {
  dense::Matrix theta,
      theta_of_psi;   ///< given spikes x spikes, and x directions if there is any left
  dense::Matrix psi;  ///< directions given x directions: U

  SpikeTurn() = default;
  SpikeTurn(const GroupParameters& given, const dense::Matrix& v, const GroupTable& table)
      : theta(v.lazyProduct(table.turn_spikes())),
        psi(table.turn()) {
    if (given.rows.size() == 0 || v.rows() == v.cols()) return;
    const std::vector<double> rho = table.rho();
    dense::Matrix along = given.alignment.transpose().lazyProduct(psi);
    for (Index j = 0; j < along.cols(); ++j) along.col(j) *= rho[j] > 0 ? 1 / rho[j] : 0;
    theta_of_psi = along - v.lazyProduct(v.transpose().lazyProduct(along).eval());
  }
};

/// Order parameters of distinct groups: theta and psi with the groups of one spike or axis
/// together, V1 and Q1 packed.
struct DistinctOrder {
  const double *m, *theta, *psi, *v1, *v2, *q1, *q2;
};

/// Stores them in terms of the groups as they were given. Shares f of a group G have m = f m_G,
/// likewise theta, psi, V2 and Q2, and V1_gh = delta_gh f_g V2_G + f_g f_h (V1_GH - delta_GH V2_G),
/// likewise Q1.
inline void store_groups(const MergedGroups& merged, const SpikeTurn& turn,
                         const DistinctOrder& order, const GroupBatchOutput& out, Index i) {
  const int k = merged.given(), distinct = merged.groups();
  const Index spikes = turn.theta.rows(), directions = turn.psi.rows();
  for (int g = 0; g < k; ++g) {
    const int of = merged.of[g];
    const double share = merged.share[g];
    out.m[i * k + g] = merged.sign[g] * share * order.m[of];
    const auto turned = [&](const dense::Matrix& by, const double* columns, Index row) {
      double x = 0;
      for (Index c = 0; c < by.cols(); ++c) x += by(row, c) * columns[c * distinct + of];
      return share * x;
    };
    for (Index j = 0; j < spikes; ++j) {
      double x = turned(turn.theta, order.theta, j);
      if (turn.theta_of_psi.size() > 0) x += turned(turn.theta_of_psi, order.psi, j);
      out.theta[(i * k + g) * spikes + j] = x;
    }
    for (Index l = 0; l < directions; ++l)
      out.psi[(i * k + g) * directions + l] = turned(turn.psi, order.psi, l);
    out.q2[i * k + g] = share * order.q2[of], out.v2[i * k + g] = share * order.v2[of];
    for (int h = 0; h < k; ++h) {
      const int oh = merged.of[h], at = detail::index(distinct, of, oh);
      const double both = share * merged.share[h];
      const auto expand = [&](double pair, double single) {
        if (g == h && share == 1) return pair;  // no rounding
        return both * (pair - (of == oh ? single : 0)) + (g == h ? share * single : 0);
      };
      out.q1[(i * k + g) * k + h] = expand(order.q1[at], order.q2[of]);
      out.v1[(i * k + g) * k + h] = expand(order.v1[at], order.v2[of]);
    }
  }
}

}  // namespace srfx
