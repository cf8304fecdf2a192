// Groups of neurons, one for each value of the initial readout, and which of them are one and the
// same (THEORY section 7).
//
// Several spikes, or a target of several directions (THEORY section 13): group g has the row R_g of
// strengths, and only the span of the rows matters. The rest of a spike is a direction like any
// other: what the readout makes of it is in psi.
#pragma once

#include "srfx/core/dense.hpp"

#include <cmath>
#include <vector>

namespace srfx {

/// One coefficient set: K groups with the spike r_g and the bulk variance c_g each.
struct GroupParameters {
  std::vector<double> r, c, pi;
  double gamma = 0;
  dense::Matrix rows = {};       ///< R (K x q); empty: one spike, of strengths r
  dense::Matrix alignment = {};  ///< Gamma (L x q); empty: one spike and one direction, gamma

  int spikes() const { return rows.size() > 0 ? static_cast<int>(rows.cols()) : 1; }
};

/// An orthonormal basis of the row space, in columns, one at least: singular values above 1e-10 of
/// the largest count.
inline dense::Matrix row_space(const dense::Matrix& rows) {
  const dense::SingularValues svd = dense::singular_values(rows);
  Index rank = 0;
  while (rank < svd.values.size() && svd.values(rank) > 1e-10 * svd.values(0)) ++rank;
  return svd.v.leftCols(std::max<Index>(1, rank));
}

/// Turns the spikes to the row space of R and returns V: R becomes R V, Gamma becomes Gamma V
/// (THEORY section 13). One spike is left as r and gamma.
inline dense::Matrix reduce_spikes(GroupParameters& p) {
  if (p.rows.size() == 0) return dense::Matrix::Identity(1, 1);
  const dense::Matrix turn = row_space(p.rows);
  p.rows = p.rows.lazyProduct(turn).eval();
  p.alignment = p.alignment.lazyProduct(turn).eval();
  if (turn.cols() == 1) {
    p.r.assign(p.rows.data(), p.rows.data() + p.rows.rows());
    p.gamma = p.alignment.norm();
    if (p.gamma > 1 - 1e-13) p.gamma = 1;
    p.rows.resize(0, 0);
  }
  return turn;
}

/// Distinct groups, and what became of the given ones.
struct MergedGroups {
  GroupParameters distinct;
  std::vector<int> of;        ///< which distinct group a given one belongs to ...
  std::vector<double> share;  ///< ... what part of it ...
  std::vector<double> sign;   ///< ... and the sign of its m there: -1 if r differs in sign

  int given() const { return static_cast<int>(of.size()); }
  int groups() const { return static_cast<int>(distinct.c.size()); }
};

inline MergedGroups merge_groups(const GroupParameters& p, bool odd, bool merge = true) {
  MergedGroups out;
  out.distinct.gamma = p.gamma, out.distinct.alignment = p.alignment;
  const bool several = p.rows.size() > 0;
  std::vector<dense::Vector> kept;
  for (std::size_t g = 0; g < p.c.size(); ++g) {
    dense::Vector row = several ? dense::Vector(p.rows.row(g)) : dense::Vector::Constant(1, p.r[g]);
    Index first = 0;  // of the numbers that are not zero: its sign is that of the row
    while (first + 1 < row.size() && row(first) == 0) ++first;
    const double sign = odd && row(first) < 0 ? -1 : 1;
    row *= sign;
    std::size_t i = merge ? 0 : kept.size();
    while (i < kept.size() && !(kept[i] == row && out.distinct.c[i] == p.c[g])) ++i;
    if (i == kept.size()) {
      kept.push_back(row);
      out.distinct.r.push_back(several ? 0 : row(0));
      out.distinct.c.push_back(p.c[g]);
      out.distinct.pi.push_back(0);
    }
    out.distinct.pi[i] += p.pi[g];
    out.of.push_back(static_cast<int>(i));
    out.sign.push_back(sign);
  }
  if (several) {
    out.distinct.rows.resize(static_cast<Index>(kept.size()), p.rows.cols());
    for (std::size_t i = 0; i < kept.size(); ++i) out.distinct.rows.row(i) = kept[i].transpose();
  }
  for (std::size_t g = 0; g < p.c.size(); ++g)
    out.share.push_back(p.pi[g] / out.distinct.pi[out.of[g]]);
  return out;
}

}  // namespace srfx
