// The weights' side of K groups as the solver for other losses takes it (THEORY sections 7, 13 and
// 19): from the hats of the data's side to the order parameters, with derivatives. It does not know
// the loss.
//
//   theta_j = beta V2 thetah_j,   psi_m = beta V1 psih_m,   mh = m/(beta d V2), 0 at d = inf
//   Q = T[N1, N2],   N1 = qh1 + beta sum_m psih_m psih_m^T,
//   N2 = qh2 + beta sum_j thetah_j^2 + beta d mh^2
#pragma once

#include "srfx/bulk/group_map.hpp"
#include "srfx/solve/loss_map.hpp"
#include "srfx/solve/group_loss_sums.hpp"

namespace srfx {

/// The order parameters that hats and m lead to; in the place of m: the hats that m asks for.
struct GroupLossMapValue {
  dense::Vector value;
  dense::Matrix by_hat;  ///< [output][hat]; not of m's hats
  dense::Matrix by_m;    ///< [output][m]
  double defect = 0;     ///< of the bulk's own equations
};

/// The isotropic bulk at one point.
class IsotropicGroupLossMap {
 public:
  IsotropicGroupLossMap(const GroupParameters& groups, const Point<double>& p)
      : p_(p),
        real_(static_cast<int>(groups.pi.size())),
        still_(real_.groups),
        moving_(real_.groups) {
    for (int g = 0; g < real_.groups; ++g) {
      real_.pi[g] = groups.pi[g];
      still_.pi[g] = moving_.pi[g] = D(groups.pi[g]);
    }
    real_.beta = p.beta;
    still_.beta = moving_.beta = D(p.beta);
  }
  const Point<double>& point() const { return p_; }

  GroupLossMapValue operator()(const GroupLossLayout& l, const dense::Vector& hat,
                               const dense::Vector& m) {
    const int n = l.size(), k = l.groups;
    real_.set(hat.data(), p_.lam);
    real_.solve();
    std::vector<D> hats(n), means(l.means), out(n);
    for (int i = 0; i < n; ++i) hats[i] = D(hat(i));
    for (int i = 0; i < l.means; ++i) means[i] = D(m(i));
    settle(still_, hats);
    GroupLossMapValue result{dense::Vector(n), dense::Matrix::Zero(n, n),
                             dense::Matrix::Zero(n, l.means), 0};
    outputs(l, still_, hats, means, out);
    for (int i = 0; i < n; ++i) result.value(i) = out[i].v;
    for (int j = 0; j < n; ++j) {
      if (j >= l.m() && j < l.theta()) continue;
      hats[j].d = 1;
      const bool turns = j < l.packed();
      if (turns) settle(moving_, hats);
      outputs(l, turns ? moving_ : still_, hats, means, out);
      for (int i = 0; i < n; ++i) result.by_hat(i, j) = out[i].d;
      hats[j].d = 0;
    }
    for (int g = 0; g < l.means && p_.inverse_d > 0; ++g) {
      means[g].d = 1;
      outputs(l, still_, hats, means, out);
      for (int i = 0; i < n; ++i) result.by_m(i, g) = out[i].d;
      means[g].d = 0;
    }
    static_cast<void>(k);
    return result;
  }

 private:
  using D = Dual<double>;
  using Map = GroupMap<D, dynamic_groups>;

  /// V at hats that move; V2 is known but for its derivative.
  void settle(Map& map, const std::vector<D>& hats) {
    const int k = real_.groups;
    map.set(hats.data(), D(p_.lam));
    for (int g = 0; g < k; ++g) map.v2[g] = D(real_.v2[g]);
    map.resolve(true);
    for (int g = 0; g < k; ++g) {
      double step = 0;
      for (int h = 0; h < k; ++h) step += real_.mx_inverse[g * k + h] * map.misfit[h].d;
      step_.resize(k);
      step_[g] = step;
    }
    for (int g = 0; g < k; ++g) map.v2[g].d = step_[g];
    map.resolve(true);
    map.prepare_traces();
  }

  void outputs(const GroupLossLayout& l, Map& map, const std::vector<D>& hat,
               const std::vector<D>& m, std::vector<D>& out) {
    const int k = l.groups;
    sources_.assign(hat.begin() + l.q(), hat.end());
    for (int g = 0, at = 0; g < k; ++g)
      for (int h = g; h < k; ++h, ++at) {
        out[at] = map.v1[g * k + h];
        for (int j = 0; j < l.across; ++j)
          sources_[at] += map.beta * hat[l.psi() + j * k + g] * hat[l.psi() + j * k + h];
      }
    for (int g = 0; g < k; ++g) {
      out[l.pairs() + g] = map.v2[g];
      D& source = sources_[l.pairs() + g];
      for (int j = 0; j < l.spikes; ++j) {
        const D& theta = hat[l.theta() + j * k + g];
        out[l.theta() + j * k + g] = map.beta * map.v2[g] * theta;
        source += map.beta * theta * theta;
      }
      for (int j = 0; j < l.across; ++j) {
        D psi(0);
        for (int h = 0; h < k; ++h) psi += map.v1[g * k + h] * hat[l.psi() + j * k + h];
        out[l.psi() + j * k + g] = map.beta * psi;
      }
      if (l.norms > 0) out[l.chi() + g] = D(0);
      if (p_.inverse_d > 0 && l.means == k) {
        const D pull = D(p_.inverse_d) * m[g] / (map.beta * map.v2[g]);
        out[l.m() + g] = pull;
        source += pull * m[g] / map.v2[g];
      }
    }
    if (!(p_.inverse_d > 0))
      for (int i = l.m(); i < l.theta(); ++i) out[i] = D(0);
    map.traces(sources_.data(), &out[l.q()]);
  }

  Point<double> p_;
  GroupMap<double, dynamic_groups> real_;
  Map still_, moving_;
  std::vector<D> sources_;
  std::vector<double> step_;
};

/// A bulk with overlaps, of one group beside one spike, and any directions of the target.
template <class Complex> class AnisotropicGroupLossMap {
  using T = std::complex<double>;

 public:
  AnisotropicGroupLossMap(const Point<double>& p, Complex by_b, Complex by_a)
      : p_(p),
        bulk_(std::move(by_b), std::move(by_a)) {}
  const Point<double>& point() const { return p_; }

  GroupLossMapValue operator()(const GroupLossLayout& l, dense::Vector hat,
                               const dense::Vector& m) {
    const int n = l.size();
    hat(0) = at_least(hat(0), p_.lam + hat(1));
    bulk_.solve(p_, hat(0), hat(1));
    GroupLossMapValue out{dense::Vector(n), dense::Matrix::Zero(n, n),
                          dense::Matrix::Zero(n, l.means), bulk_.defect()};
    std::vector<T> hats(hat.data(), hat.data() + n), value(n);
    T mean(l.means > 0 ? m(0) : 0);
    for (int j = 0; j < n; ++j) {
      const bool of_m = j >= l.m() && j < l.theta();
      T& moved = of_m ? mean : hats[j];
      const T still = moved;
      moved = detail::moving<T>(still.real());
      outputs(l, j == 0 ? 0 : j == 1 ? 1 : 2, hats, mean, value);
      const double unit = detail::unit_of<T>(still.real());
      moved = still;
      for (int i = 0; i < n; ++i) {
        out.value(i) = value[i].real();
        (of_m ? out.by_m(i, 0) : out.by_hat(i, j)) = detail::slope_of(value[i]) / unit;
      }
    }
    return out;
  }

 private:
  void outputs(const GroupLossLayout& l, int which, const std::vector<T>& hat, const T& m,
               std::vector<T>& out) {
    const SpectralAverages<T>& y = bulk_.y[which];
    T h[detail::KernelSlopes<T>::most];
    h[0] = hat[l.theta()], h[1 + l.across] = hat[l.chi()];
    for (int j = 0; j < l.across; ++j) h[1 + j] = hat[l.psi() + j];
    const detail::FeaturesOfHats<T> to(bulk_.k[which], bulk_.slopes[which], p_, hat[0], h, m);
    out[0] = y.y1, out[1] = y.y2;
    if (l.means > 0) out[l.m()] = p_.inverse_d > 0 ? to.mean : T(0);
    out[l.theta()] = to.x[0], out[l.chi()] = to.x[1 + l.across];
    for (int j = 0; j < l.across; ++j) out[l.psi() + j] = to.x[1 + j];
    const int q = l.q();
    out[q] = y.t11 * hat[q] + y.t12 * hat[q + 1] + to.source1;
    out[q + 1] = y.t12 * hat[q] + y.t22 * hat[q + 1] + to.source2;
  }

  Point<double> p_;
  MovingBulk<Complex> bulk_;
};

}  // namespace srfx
