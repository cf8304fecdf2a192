// The bulk of a step with several readout values as the solver for other losses takes it (THEORY
// sections 10 and 19): as in group_loss_map.hpp, with
//
//   (theta, psi_1, .., chi) = K (their hats),   mh = (beta d)^-1 M^-1 m, M = K of the mean
//   Q = T[qh1, qh2] - d(hat^T K hat)/d(Vh1, A)
//
// T and K come with derivatives, V and the features are exact. What Q changes by with (Vh1, A) is a
// second derivative of the bulk: differences of T[..] - d(hat^T K hat), on both sides of a point.
#pragma once

#include "srfx/bulk/group_step_bulk.hpp"
#include "srfx/solve/group_loss_map.hpp"

namespace srfx {

class GroupStepLossMap {
 public:
  GroupStepLossMap(const GroupStep& step, const Point<double>& p)
      : p_(p),
        directions_(step.directions()),
        bulk_(step, p.beta) {}
  const Point<double>& point() const { return p_; }

  GroupLossMapValue operator()(const GroupLossLayout& l, const dense::Vector& hat,
                               const dense::Vector& m) {
    const int n = l.size(), packed = l.packed(), k = l.groups;
    GroupLossMapValue out{dense::Vector::Zero(n), dense::Matrix::Zero(n, n),
                          dense::Matrix::Zero(n, l.means), 0};
    bulk_.solve(hat.head(packed), p_.lam);
    out.defect = bulk_.failed() ? infinity : bulk_.defect();
    if (bulk_.failed()) return out;
    const Hats hats(*this, l, hat, m);
    const GroupOverlaps<double> overlaps = bulk_.overlaps();
    const dense::Matrix full = overlaps.joint();
    const dense::Vector features = detail::apply(full, hats.h);
    const dense::Matrix pull = pull_of(overlaps);
    const dense::Vector asked = detail::apply(pull, hats.m);
    out.value.head(packed) = bulk_.values();
    out.by_hat.topLeftCorner(packed, packed) = -bulk_.traces();
    for (Index i = 0; i < hats.h.size(); ++i) {
      if (hats.place[i] < 0) continue;
      out.value(hats.place[i]) = features(i);
      for (Index j = 0; j < hats.h.size(); ++j)
        if (hats.place[j] >= 0) out.by_hat(hats.place[i], hats.place[j]) = full(i, j);
    }
    if (hats.finite_d) {
      out.value.segment(l.m(), k) = asked;
      out.by_m.middleRows(l.m(), k) = pull;
    }
    const double scale = hats.finite_d ? p_.beta / p_.inverse_d : 0;
    out.value.tail(packed) = detail::apply(bulk_.traces(), hats.n);
    out.by_hat.bottomRightCorner(packed, packed) = bulk_.traces();
    for (int j = 0; j < packed; ++j) {
      const GroupOverlaps<double> slope = bulk_.slope(j);
      const dense::Vector moved = detail::apply(slope.joint(), hats.h),
                          moved_m = detail::apply(slope.mean, asked);
      const double twice = bulk_.twice[j];
      out.value(l.q() + j) -= (hats.h.dot(moved) + scale * asked.dot(moved_m)) / twice;
      for (Index i = 0; i < hats.h.size(); ++i) {
        if (hats.place[i] < 0) continue;
        out.by_hat(hats.place[i], j) = moved(i);
        out.by_hat(l.q() + j, hats.place[i]) = -2 / twice * moved(i);
      }
      if (hats.finite_d) {
        out.by_hat.block(l.m(), j, k, 1) = -scale * detail::apply(pull, moved_m);
        out.by_m.row(l.q() + j) = (-2 * scale / twice) * detail::apply(pull, moved_m).transpose();
      }
    }
    out.by_hat.block(l.q(), 0, packed, packed) = second(hat.head(packed), hats);
    return out;
  }

 private:
  /// The hats in the order of the bulk, v, z_1, .., delta, and where they are among the unknowns.
  struct Hats {
    dense::Vector h, m, n;  ///< n: (qh1, qh2)
    std::vector<int> place;
    bool finite_d;

    Hats(const GroupStepLossMap& of, const GroupLossLayout& l, const dense::Vector& hat,
         const dense::Vector& means)
        : h(dense::Vector::Zero((of.directions_ + 2) * l.groups)),
          m(dense::Vector::Zero(l.groups)),
          n(hat.segment(l.q(), l.packed())),
          place(static_cast<std::size_t>(h.size()), -1),
          finite_d(of.p_.inverse_d > 0 && l.means == l.groups) {
      const int k = l.groups, hidden = of.directions_ - l.across;  // axes without a z come first
      for (int g = 0; g < k; ++g) {
        place[g] = l.theta() + g;
        for (int j = 0; j < l.across; ++j) place[(1 + hidden + j) * k + g] = l.psi() + j * k + g;
        place[(1 + of.directions_) * k + g] = l.chi() + g;
      }
      for (Index i = 0; i < h.size(); ++i)
        if (place[i] >= 0) h(i) = hat(place[i]);
      if (finite_d) m = means;
    }
  };

  /// The hats that m asks for are this times m.
  dense::Matrix pull_of(const GroupOverlaps<double>& k) const {
    return p_.inverse_d / p_.beta * dense::inverse(k.mean);
  }

  /// The first entries of Q of a bulk at hats and m.
  dense::Vector q_of(const GroupStepBulk& bulk, const Hats& hats, int count) const {
    dense::Matrix columns(hats.m.size(), directions_ + 3);
    Eigen::Map<dense::Vector>(columns.data(), hats.h.size()) = hats.h;
    columns.col(directions_ + 2).setZero();
    if (hats.finite_d)
      columns.col(directions_ + 2) =
          std::sqrt(p_.beta / p_.inverse_d) * detail::apply(pull_of(bulk.overlaps()), hats.m);
    return detail::apply(bulk.traces(), hats.n).head(count) + bulk.sources(columns, count);
  }

  /// dQ/d(Vh1, A) at fixed hats, symmetric but for `twice`. Near where it was taken last it is taken
  /// again as it was: Newton's method asks for no more.
  const dense::Matrix& second(const dense::Vector& vh, const Hats& hats) {
    const int packed = bulk_.packed, k = bulk_.groups;
    const double near = k > 3 ? 0.1 : 1e-3, share = 3e-6;
    const dense::Vector& v = bulk_.values();
    dense::Vector unit(packed);
    for (int g = 0; g < k; ++g) {
      const auto own = [&](int a) { return vh(bulk_.at(a, a)) + 1e-2 / v(bulk_.at(a, a)); };
      for (int h = g; h < k; ++h) unit(bulk_.at(g, h)) = std::sqrt(own(g) * own(h));
      unit(bulk_.pairs + g) = p_.lam + vh(bulk_.pairs + g);
    }
    dense::Vector all(packed + hats.h.size() + hats.m.size() + packed);
    all << vh.cwiseQuotient(unit), hats.h / std::max(hats.h.norm(), 1e-300),
        hats.m / std::max(hats.m.norm(), 1e-300), hats.n / std::max(hats.n.norm(), 1e-300);
    const double size = hats.h.norm() + hats.m.norm() + hats.n.norm();
    if (second_.size() > 0 && (all - at_).cwiseAbs().maxCoeff() < near &&
        std::abs(size - size_) < near * size)
      return second_;
    second_.resize(packed, packed);
    for (int j = 0; j < packed; ++j) {
      dense::Vector side[2];
      for (int s = 0; s < 2; ++s) {
        GroupStepBulk beside = bulk_;
        dense::Vector moved = vh;
        moved(j) += (s == 0 ? share : -share) * unit(j);
        beside.solve(moved, p_.lam);
        side[s] = q_of(beside, hats, j + 1);
      }
      for (int i = 0; i <= j; ++i) {
        second_(i, j) = (side[0](i) - side[1](i)) / (2 * share * unit(j));
        second_(j, i) = second_(i, j) * bulk_.twice[i] / bulk_.twice[j];
      }
    }
    at_ = all, size_ = size;
    return second_;
  }

  Point<double> p_;
  int directions_;
  GroupStepBulk bulk_;
  dense::Matrix second_;
  dense::Vector at_;  ///< of `second`
  double size_ = 0;
};

}  // namespace srfx
