// The weights' side as the solver for other losses takes it (THEORY section 19): from the hats of
// the data's side to the order parameters, with derivatives. It does not know the loss.
//
//   A = lam + Vh2, B = Vh1:   (V1, V2) = (<D/S>, <1/S>)
//   (theta, psi, chi) = (K/B)(thetah, psih, chih);   mh = m B/K_mm, 0 at d = inf
//   (q1, q2) = T (qh1, qh2) + (hat^T (K + s K') hat, -c hat^T K' hat)/B^2
//
// The formulas are templates of the scalar: numbers with an infinitesimal part give the
// derivatives.
#pragma once

#include "srfx/bulk/one_step.hpp"
#include "srfx/data/linear_part.hpp"
#include "srfx/data/loss_sums.hpp"

namespace srfx {

/// The order parameters that hats and m lead to; in the place of m: the hat that m asks for.
struct LossMapValue {
  LossVector value{};
  std::array<LossVector, n_loss_unknowns> by_hat{};  ///< [output][hat]; not of m's hat
  LossVector by_m{};
  double defect = 0;  ///< of the bulk's own equations
};

namespace detail {

template <class T> using HatsOf = std::array<T, n_loss_unknowns>;

inline double slope_of(const Dual<double>& x) { return x.d; }
inline double value_of_any(const Dual<double>& x) { return x.v; }
inline constexpr double infinitesimal = 1e-30;
inline double slope_of(const std::complex<double>& x) { return x.imag() / infinitesimal; }
inline double value_of_any(const std::complex<double>& x) { return x.real(); }
template <class T> T moving(double x) {
  if constexpr (std::is_same_v<T, Dual<double>>) return {x, 1};
  else return {x, infinitesimal * (x != 0 ? std::abs(x) : 1)};
}
/// What a unit of moving() is.
template <class T> double unit_of(double x) {
  if constexpr (std::is_same_v<T, Dual<double>>) return 1;
  else return x != 0 ? std::abs(x) : 1;
}

/// The isotropic bulk: section 4's forms, right down to B = 0.
template <class T>
HatsOf<T> isotropic_map(const SpectralAverages<T>& y, const Point<double>& p, const HatsOf<T>& hat,
                        const T& m) {
  const T beta(p.beta), inverse_d(p.inverse_d);
  const T pull = inverse_d * m / (beta * y.y2);  // beta d mh^2 = pull m/y2
  const T n1 = hat[at_q1] + beta * hat[at_psi] * hat[at_psi],
          n2 = hat[at_q2] + beta * hat[at_theta] * hat[at_theta] + pull * m / y.y2;
  HatsOf<T> out;
  out[at_v1] = y.y1, out[at_v2] = y.y2;
  out[at_m] = pull;
  out[at_theta] = beta * y.y2 * hat[at_theta];
  out[at_psi] = beta * y.y1 * hat[at_psi];
  out[at_chi] = T(0);
  out[at_q1] = y.t11 * n1 + y.t12 * n2;
  out[at_q2] = y.t12 * n1 + y.t22 * n2;
  return out;
}

/// Far from the bulk, at s beyond this, K comes from places before: it is made of differences of
/// numbers of order 1, but vanishes as 1/s.
constexpr double most_s = 4e4;

/// What f(most_s/2^i), i < n, count in f(s), for s^order f(s) a polynomial in 1/s.
template <int n, class T> std::array<T, n> far_weights(const T& s, int order) {
  const T x = T(1) / s;
  std::array<T, n> out;
  for (int i = 0; i < n; ++i) {
    out[i] = T(std::pow(most_s / (1 << i), order));
    for (int j = 0; j < order; ++j) out[i] = out[i] * x;
    for (int j = 0; j < n; ++j)
      if (j != i) out[i] = out[i] * (x * T(most_s) - T(1 << j)) / T((1 << i) - (1 << j));
  }
  return out;
}

/// K + s K' of a bulk. Both are of order 1/s and their sum of order 1/s^2.
template <class T> struct KernelSlopes {
  static constexpr int most = Overlaps<T>::most + 2;
  int size = 0;
  T k[most][most], cross[most], mean;

  KernelSlopes() = default;
  explicit KernelSlopes(const Overlaps<T>& at) : size(at.size()) {
    each(at, [&](T& out, const Along<T>& entry) { out = entry.v + at.s * entry.d; });
  }
  /// `overlaps(s)` are those at another s. Far from the bulk K is put right too.
  template <class At> static KernelSlopes of(Overlaps<T>& at, At&& overlaps) {
    if (!(real_part(at.s) > most_s)) return KernelSlopes(at);
    constexpr int n = 4;
    const auto by_slopes = far_weights<n>(at.s, 2), by_kernel = far_weights<n>(at.s, 1);
    KernelSlopes out;
    out.size = at.size();
    out.each([](T& sum) { sum = T(0); });
    for (int a = 0; a < out.size; ++a)
      for (int b = 0; b < out.size; ++b) at.k[a][b].v = T(0);
    for (int i = 0; i < n; ++i) {
      const Overlaps<T> before = overlaps(most_s / (1 << i));
      const KernelSlopes there(before);
      const T& weight = by_slopes[i];
      for (int a = 0; a < out.size; ++a) {
        for (int b = 0; b < out.size; ++b) {
          at.k[a][b].v = at.k[a][b].v + by_kernel[i] * before.k[a][b].v;
          out.k[a][b] = out.k[a][b] + weight * there.k[a][b];
        }
        out.cross[a] = out.cross[a] + weight * there.cross[a];
      }
      out.mean = out.mean + weight * there.mean;
    }
    return out;
  }
  /// The same without what moves.
  KernelSlopes still() const {
    KernelSlopes out = *this;
    out.each([](T& x) { x = x.real(); });
    return out;
  }

 private:
  template <class Do> void each(Do&& act) {
    for (int i = 0; i < size; ++i) {
      for (int j = 0; j < size; ++j) act(k[i][j]);
      act(cross[i]);
    }
    act(mean);
  }
  template <class Do> void each(const Overlaps<T>& at, Do&& act) {
    for (int i = 0; i < size; ++i) {
      for (int j = 0; j < size; ++j) act(k[i][j], at.k[i][j]);
      act(cross[i], at.crossed ? at.cross[i] : Along<T>(T(0), T(0)));
    }
    act(mean, at.mean);
  }
};

/// What features a bulk with overlaps makes of the hats h of (theta, psi_1, .., psi_L', chi) and of
/// m, in the unit-bulk convention of anisotropic_part.hpp; of m its hat, and sources of (q1, q2).
template <class T> struct FeaturesOfHats {
  T x[KernelSlopes<T>::most], mean, source1, source2;

  FeaturesOfHats(const Overlaps<T>& k, const KernelSlopes<T>& slopes, const Point<double>& p,
                 const T& b, const T* h, const T& m)
      : source1(0),
        source2(0) {
    const int n = slopes.size;
    const T inverse_b = T(1) / b;
    // mh from m = (K_mm mh + sum K_mj hat_j)/B, K_mm = beta c g_m d
    T rest = m * b;
    if (k.crossed)
      for (int j = 0; j < n; ++j) rest = rest - k.cross[j].v * h[j];
    const T per = T(p.inverse_d) / (T(p.beta) * k.c), turned = rest / k.mean.v;
    mean = per * turned;
    const auto add = [&](const T& slope, const Along<T>& entry, const T& product) {
      source1 = source1 + slope * product;
      source2 = source2 - k.c * entry.d * product;
    };
    for (int i = 0; i < n; ++i) {
      x[i] = T(0);
      for (int j = 0; j < n; ++j) {
        x[i] = x[i] + k.k[i][j].v * h[j] * inverse_b;
        add(slopes.k[i][j], k.k[i][j], h[i] * h[j]);
      }
      if (k.crossed) {
        x[i] = x[i] + k.cross[i].v * mean * inverse_b;
        add(slopes.cross[i], k.cross[i], T(2) * h[i] * mean);
      }
    }
    add(slopes.mean, k.mean, mean * turned);
    source1 = source1 * inverse_b * inverse_b, source2 = source2 * inverse_b * inverse_b;
  }
};

/// Bulks with overlaps, beside one spike and direction.
template <class T>
HatsOf<T> anisotropic_map(const SpectralAverages<T>& y, const Overlaps<T>& k,
                          const KernelSlopes<T>& slopes, const Point<double>& p,
                          const HatsOf<T>& hat, const T& m) {
  const T h[3] = {hat[at_theta], hat[at_psi], hat[at_chi]};
  const FeaturesOfHats<T> to(k, slopes, p, hat[at_v1], h, m);
  HatsOf<T> out;
  out[at_v1] = y.y1, out[at_v2] = y.y2;
  out[at_m] = to.mean;
  out[at_theta] = to.x[0], out[at_psi] = to.x[1], out[at_chi] = to.x[2];
  out[at_q1] = y.t11 * hat[at_q1] + y.t12 * hat[at_q2] + to.source1;
  out[at_q2] = y.t12 * hat[at_q1] + y.t22 * hat[at_q2] + to.source2;
  return out;
}

/// Value and derivatives of a map at(hats, m, moved): `moved` is the hat that moves, or -1.
template <class T, class At> LossMapValue differentiated(const LossVector& hat, double m, At&& at) {
  LossMapValue out;
  HatsOf<T> still;
  for (int i = 0; i < n_loss_unknowns; ++i) still[i] = T(hat[i]);
  for (int j = 0; j < n_loss_unknowns; ++j) {
    HatsOf<T> moved = still;
    T mean(m);
    const bool of_m = j == at_m;
    if (of_m) mean = moving<T>(m);
    else moved[j] = moving<T>(hat[j]);
    const double unit = unit_of<T>(of_m ? m : hat[j]);
    const HatsOf<T> value = at(moved, mean, j);
    for (int i = 0; i < n_loss_unknowns; ++i) {
      out.value[i] = value_of_any(value[i]);
      (of_m ? out.by_m[i] : out.by_hat[i][j]) = slope_of(value[i]) / unit;
    }
  }
  return out;
}

}  // namespace detail

/// The isotropic bulk at one point.
class IsotropicLossMap {
 public:
  explicit IsotropicLossMap(const Point<double>& p) : p_(p) {}
  const Point<double>& point() const { return p_; }

  LossMapValue operator()(const LossVector& hat, double m) {
    using T = Dual<double>;
    const MarchenkoPastur bulk;
    const double a = p_.lam + hat[at_v2];
    const SpectralAverages<T> by[2] = {bulk.averages(T(a), T(hat[at_v1], 1), T(p_.beta)),
                                       bulk.averages(T(a, 1), T(hat[at_v1]), T(p_.beta))};
    SpectralAverages<T> still = by[0];
    for (T* x : {&still.y1, &still.y2, &still.t11, &still.t12, &still.t22, &still.t11c}) x->d = 0;
    return detail::differentiated<T>(hat, m,
                                     [&](const detail::HatsOf<T>& hats, const T& mean, int moved) {
                                       return detail::isotropic_map(moved == at_v1   ? by[0]
                                                                    : moved == at_v2 ? by[1]
                                                                                     : still,
                                                                    p_, hats, mean);
                                     });
  }

 private:
  Point<double> p_;
};

/// A bulk with overlaps where B and A are, three times: B moves, A moves, nothing does. `Complex` is
/// the bulk for complex numbers, whose imaginary parts are infinitesimal.
template <class Complex> class MovingBulk {
  using T = std::complex<double>;

 public:
  SpectralAverages<T> y[3];
  Overlaps<T> k[3];
  detail::KernelSlopes<T> slopes[3];

  MovingBulk(Complex by_b, Complex by_a) : bulks_{std::move(by_b), std::move(by_a)} {}

  /// `hat_v2` is A without lam.
  void solve(const Point<double>& p, double b, double hat_v2) {
    const double a = p.lam + hat_v2;
    const T beta(p.beta), ab[2] = {T(a), T(a, detail::infinitesimal * detail::unit_of<T>(hat_v2))},
                          bb[2] = {detail::moving<T>(b), T(b)};
    for (int i = 0; i < 2; ++i) {
      y[i] = bulks_[i].averages(ab[i], bb[i], beta);
      k[i] = bulks_[i].overlaps(ab[i], bb[i], beta);
      slopes[i] = detail::KernelSlopes<T>::of(k[i], [&](double s) {
        return bulks_[i].overlaps(T(a), T(real_part(k[i].c) * a / s), beta);
      });
    }
    y[2] = y[0], k[2] = k[0], slopes[2] = slopes[0].still();
    const auto still = [](T& x) { x = x.real(); };
    for (T* x : {&y[2].y1, &y[2].y2, &y[2].t11, &y[2].t12, &y[2].t22, &k[2].s, &k[2].c,
                 &k[2].mean.v, &k[2].mean.d})
      still(*x);
    for (int i = 0; i < k[2].size(); ++i) {
      for (int j = 0; j < k[2].size(); ++j) still(k[2].k[i][j].v), still(k[2].k[i][j].d);
      still(k[2].cross[i].v), still(k[2].cross[i].d);
    }
  }
  double defect() const { return magnitude(k[0].defect); }

 private:
  Complex bulks_[2];
};

/// A bulk with overlaps at one point.
template <class Complex> class AnisotropicLossMap {
  using T = std::complex<double>;

 public:
  AnisotropicLossMap(const Point<double>& p, Complex by_b, Complex by_a)
      : p_(p),
        bulk_(std::move(by_b), std::move(by_a)) {}
  const Point<double>& point() const { return p_; }

  LossMapValue operator()(LossVector hat, double m) {
    hat[at_v1] = at_least(hat[at_v1], p_.lam + hat[at_v2]);
    bulk_.solve(p_, hat[at_v1], hat[at_v2]);
    LossMapValue out = detail::differentiated<T>(
        hat, m, [&](const detail::HatsOf<T>& hats, const T& mean, int moved) {
          const int i = moved == at_v1 ? 0 : moved == at_v2 ? 1 : 2;
          return detail::anisotropic_map(bulk_.y[i], bulk_.k[i], bulk_.slopes[i], p_, hats, mean);
        });
    out.defect = bulk_.defect();
    return out;
  }

 private:
  Point<double> p_;
  MovingBulk<Complex> bulk_;
};

}  // namespace srfx
