// Groups of neurons, one for each value of the initial readout, and which of them are one and the same (THEORY section 7).
#pragma once

#include <cmath>
#include <vector>

namespace srfx {

/// One coefficient set: K groups with the spike r_g and the bulk variance c_g each.
struct GroupParameters {
  std::vector<double> r, c, pi;
  double gamma = 0;
};

/// Distinct groups, and what became of the given ones.
struct MergedGroups {
  GroupParameters distinct;
  std::vector<int> of;        ///< which distinct group a given one belongs to ...
  std::vector<double> share;  ///< ... what part of it ...
  std::vector<double> sign;   ///< ... and the sign of its m there: -1 if r differs in sign

  int given() const { return static_cast<int>(of.size()); }
  int groups() const { return static_cast<int>(distinct.r.size()); }
};

inline MergedGroups merge_groups(const GroupParameters& p, bool odd, bool merge = true) {
  MergedGroups out;
  out.distinct.gamma = p.gamma;
  for (std::size_t g = 0; g < p.r.size(); ++g) {
    const double r = odd ? std::abs(p.r[g]) : p.r[g];
    std::size_t i = merge ? 0 : out.distinct.r.size();
    while (i < out.distinct.r.size() && !(out.distinct.r[i] == r && out.distinct.c[i] == p.c[g]))
      ++i;
    if (i == out.distinct.r.size()) {
      out.distinct.r.push_back(r);
      out.distinct.c.push_back(p.c[g]);
      out.distinct.pi.push_back(0);
    }
    out.distinct.pi[i] += p.pi[g];
    out.of.push_back(static_cast<int>(i));
    out.sign.push_back(odd && p.r[g] < 0 ? -1 : 1);
  }
  for (std::size_t g = 0; g < p.r.size(); ++g)
    out.share.push_back(p.pi[g] / out.distinct.pi[out.of[g]]);
  return out;
}

}  // namespace srfx
