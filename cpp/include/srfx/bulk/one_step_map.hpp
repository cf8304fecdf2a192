// The fixed point behind the anisotropic bulk that one step leaves (THEORY sections 9 and 10, one
// readout value).
//
// At s = A/B, with b = beta g and g = <1/(Omega + s)>, everything follows from three numbers (tau,
// om, rho) that solve a fixed point of averages over (t, eps). In the basis scaled by (1, sqrt b),
// where no root of b occurs and om = sqrt(b) w,
//
//   Gm = [[tau, -b w], [w, rho]],  B(u) = [[b kap u^2, b e2 u], [-e2 u, 0]],
//   Q(u) = (1 + iota B Gm)^-1,   det(1 + iota B Gm) = D(u)
//   D(u) = 1 + 2 iota b e2 w u + (iota b kap tau + iota^2 b e2^2 (b w^2 + tau rho)) u^2:
//
// so every average is one of t^i u^j/D(u), i <= 2, and a pass over the nodes of u costs one
// reciprocal a node. Where e2 = 0 and E z S^2 = 0 (odd sigma) two of the three unknowns drop out:
// section 9's scalar path.
#pragma once

#include "srfx/bulk/bulk.hpp"
#include "srfx/core/packed.hpp"
#include "srfx/core/scalar.hpp"
#include "srfx/bulk/step_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

namespace srfx {

/// A value and its derivative along one line: here, along s.
template <class T> struct Along {
  T v, d;
  Along() : v(0), d(0) {}
  Along(T value) : v(value), d(0) {}
  Along(T value, T slope) : v(value), d(slope) {}
  template <class S, class = std::enable_if_t<std::is_arithmetic_v<S> && !std::is_same_v<S, T>>>
  Along(S value) : v(value),
                   d(0) {}
  friend Along operator+(const Along& a, const Along& b) { return {a.v + b.v, a.d + b.d}; }
  friend Along operator-(const Along& a, const Along& b) { return {a.v - b.v, a.d - b.d}; }
  friend Along operator-(const Along& a) { return {-a.v, -a.d}; }
  friend Along operator*(const Along& a, const Along& b) {
    return {a.v * b.v, a.d * b.v + a.v * b.d};
  }
  friend Along operator/(const Along& a, const Along& b) {
    const T q = a.v / b.v;
    return {q, (a.d - q * b.d) / b.v};
  }
  Along& operator+=(const Along& b) { return *this = *this + b; }
};

/// B, or where mu1 = 0 makes it vanish (even sigma without a spike, say) so small a number that B D
/// no longer matters.
template <class T> T at_least(T b, T a) {
  return detail::choose(magnitude(b) > 1e-30 * magnitude(a), b, T(1e-30) * a);
}

/// What the linear part wants to know of a bulk at s = A/B (THEORY 9 d and 14, in the unit-bulk
/// convention: rows and columns of delta times sqrt(c)): K_ab = u_a^T (Omega + s)^-1 u_b for u = (W
/// vhat, W zhat_1, .., W zhat_L', delta), and the mean's g_m.
template <class T> struct Overlaps {
  static constexpr int most = 3;  ///< directions of a target, at most
  int directions = 1;             ///< L'
  Along<T> k[most + 2][most + 2];
  Along<T> rest[most][most];  ///< 1 - K_zz
  Along<T> mean;              ///< g_m: K_mm = beta d g_m
  Along<T>
      cross[most + 2];  ///< K of the mean with the others: of given weights only, zero on average
  bool crossed = false;
  T defect = T(0);  ///< relative, of the bulk's own equations
  T s, c;           ///< the derivatives are along s; dA = B/c ds

  int size() const { return directions + 2; }
  int delta() const { return directions + 1; }
};

namespace detail {

/// Whether a number that is positive for s > 0 may be what it claims; far from the real axis
/// anything may.
inline bool on_its_side(double x, double) { return x > 1e-290; }
inline bool on_its_side(const std::complex<double>& x, const std::complex<double>& s) {
  return s.real() > 0 && std::abs(s.imag()) < 1e-3 * s.real() ? x.real() > 1e-290
                                                              : std::norm(x) > 0;
}
/// g(s) = <1/(Omega + s)> has Im g Im s < 0.
inline bool continues(double, double) { return true; }
inline bool continues(const std::complex<double>& g, const std::complex<double>& s) {
  return (s.real() > 0 && std::abs(s.imag()) < 1e-3 * s.real()) || g.imag() * s.imag() <= 0;
}

}  // namespace detail

/// The fixed point, with a memory: each solve starts where the last one ended. T: of s and beta; R:
/// of the step's parameters, complex where they carry an infinitesimal imaginary part
/// (step_gradient.hpp), then in the nodes too.
template <class T, class R = double, class Nodes = ResidualNodes> class OneStepMap {
 public:
  OneStepMap(const BasicStepModel<R>& step, const Nodes& nodes) : step_(&step), nodes_(&nodes) {}

  /// Starts where another solve has ended.
  template <class Bulk> void start_from(const Bulk& other) {
    if (other.failed()) return;
    state_ = {T(other.b()), T(other.tau()), T(other.w()), T(other.rho())};
    s_ = T(std::numeric_limits<double>::quiet_NaN());
    warm_ = true;
  }

  const SpikeParameters& spike() const { return step_->spike; }
  bool failed() const { return failed_; }

  /// g and g' = dg/ds at s.
  Along<T> resolvent(T s, T beta) const {
    solve(s, beta);
    return {g_, -g_ / (s + mu_)};
  }
  T tau() const { return state_.tau; }
  T w() const { return state_.w; }
  T rho() const { return state_.rho; }
  T b() const { return state_.b; }

  /// How far averages over other nodes differ at the state at hand, relative to those of absolute
  /// values.
  double compare(const ResidualNodes& other) const {
    const double b = real_part(state_.b), x = step_->e2 * step_->iota, w = real_part(state_.w),
                 tau = real_part(state_.tau);
    const double c1 = 2 * x * b * w;
    const double c2 =
        step_->iota * b *
        (step_->kap * tau + step_->e2 * x * (b * w * w + tau * real_part(state_.rho)));
    return difference(*nodes_, other, c1, c2, step_->scalar);
  }

 protected:
  struct State {
    T b, tau, w, rho;
  };
  /// The map (tau, w, rho) -> the right-hand sides, nu, and their derivatives by (tau, w, rho, b).
  struct Evaluation {
    T map[3], nu, dmap[3][4], dnu[4];
  };
  using P = detail::Packed<T>;
  using V = typename P::Type;
  using Real = typename P::Real;

  Evaluation evaluate(const State& x) const {
    return step_->scalar ? evaluate_scalar(x) : evaluate_matrix(x);
  }

  Evaluation evaluate_scalar(const State& x) const {
    const T kap(step_->kap), iota(step_->iota), e = x.b * kap * x.tau * iota;
    const V ve(e);
    const Real unit(1.0);
    V j2(0.0), i4(0.0);
    const auto* u = nodes_->u.data();
    const double* w = nodes_->w[0].data();
    if (step_->kap != R(0))
      for (Index i = 0; i < nodes_->size(); i += P::size) {
        const auto at = P::load(u + i), square = at * at;
        const V q = unit / (unit + ve * square), wq = P::load(w + i) * square * q;
        j2 += wq;
        i4 += wq * square * q;
      }
    const T j = P::total(j2), dj = -P::total(i4);  // by e
    Evaluation out{};
    const T y = T(1) + kap * j, f = T(1) / (T(1) + x.b * y);
    out.map[0] = f;
    out.nu = f * y;
    const T de[2] = {x.b * kap * iota, kap * x.tau * iota};  // by tau, b
    for (int k = 0; k < 2; ++k) {
      const int column = 3 * k;
      const T dy = kap * dj * de[k], df = -f * f * (x.b * dy + (k == 1 ? y : T(0)));
      out.dmap[0][column] = df;
      out.dnu[column] = df * y + f * dy;
    }
    return out;
  }

  Evaluation evaluate_matrix(const State& x) const {
    const T kap(step_->kap), iota(step_->iota), e2(step_->e2),
        x2 = e2 * e2 * iota;  // x2: e2^2/alpha0
    const T c1 = T(2) * x.b * e2 * x.w * iota, det = x.b * x.w * x.w + x.tau * x.rho;
    const T c2 = iota * x.b * (kap * x.tau + x2 * det);
    const V v1(c1), v2(c2);
    const Real unit(1.0);
    V s1(0.0), s2(0.0), s22(0.0), s23(0.0), s24(0.0);
    const auto* u = nodes_->u.data();
    const double* w = nodes_->w[0].data();
    for (Index i = 0; i < nodes_->size(); i += P::size) {
      const auto at = P::load(u + i);
      const V q = unit / (unit + at * (v1 + v2 * at)), uq = at * q, wuq = P::load(w + i) * uq;
      s1 += wuq;
      s2 += wuq * at;
      const V squared = wuq * uq;
      s22 += squared;
      s23 += squared * at;
      s24 += squared * at * at;
    }
    const T j1 = P::total(s1), j2 = P::total(s2), i2 = P::total(s22), i3 = P::total(s23),
            i4 = P::total(s24);
    const T k = kap + x2 * x.rho;
    const T a1 = T(1) + x.b * k * j2, a2 = T(1) + e2 * j1 + x.b * x2 * x.w * j2,
            a3 = T(1) + x.b * x2 * x.tau * j2;
    const T d = T(1) / (a1 * a3 + x.b * a2 * a2), inner = a3 * k * j2 + a2 * a2;
    Evaluation out;
    out.map[0] = d * a3, out.map[1] = d * a2, out.map[2] = d * a1;
    out.nu = d * inner;
    const T dc1[4] = {T(0), T(2) * x.b * e2 * iota, T(0), T(2) * e2 * x.w * iota};
    const T dc2[4] = {iota * x.b * (kap + x2 * x.rho), iota * x.b * x2 * T(2) * x.b * x.w,
                      iota * x.b * x2 * x.tau, iota * (kap * x.tau + x2 * (det + x.b * x.w * x.w))};
    for (int q = 0; q < 4; ++q) {
      const T one(1), dtau = q == 0 ? one : T(0), dw = q == 1 ? one : T(0),
                      drho = q == 2 ? one : T(0), db = q == 3 ? one : T(0);
      const T dj1 = -(i2 * dc1[q] + i3 * dc2[q]), dj2 = -(i3 * dc1[q] + i4 * dc2[q]);
      const T dk = x2 * drho, da1 = db * k * j2 + x.b * (dk * j2 + k * dj2);
      const T da2 = e2 * dj1 + x2 * (db * x.w * j2 + x.b * (dw * j2 + x.w * dj2));
      const T da3 = x2 * (db * x.tau * j2 + x.b * (dtau * j2 + x.tau * dj2));
      const T dd = -d * d * (a3 * da1 + a1 * da3 + T(2) * x.b * a2 * da2 + db * a2 * a2);
      out.dmap[0][q] = dd * a3 + d * da3;
      out.dmap[1][q] = dd * a2 + d * da2;
      out.dmap[2][q] = dd * a1 + d * da1;
      out.dnu[q] = dd * inner + d * (da3 * k * j2 + a3 * (dk * j2 + k * dj2) + T(2) * a2 * da2);
    }
    return out;
  }

  /// (1 - dmap/dx)^-1 applied to the defect map - x and to dmap/db.
  void correct(const Evaluation& f, const State& x, T (&defect)[3], T (&along)[3]) const {
    if (step_->scalar) {
      const T inverse = T(1) / (T(1) - f.dmap[0][0]);
      defect[0] = inverse * (f.map[0] - x.tau);
      along[0] = inverse * f.dmap[0][3];
      defect[1] = defect[2] = along[1] = along[2] = T(0);
      return;
    }
    T m[3][3];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) m[i][j] = (i == j ? T(1) : T(0)) - f.dmap[i][j];
    T c[3][3];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        const int i1 = (j + 1) % 3, i2 = (j + 2) % 3, j1 = (i + 1) % 3, j2 = (i + 2) % 3;
        c[i][j] = m[i1][j1] * m[i2][j2] - m[i1][j2] * m[i2][j1];
      }
    const T inverse = T(1) / (m[0][0] * c[0][0] + m[0][1] * c[1][0] + m[0][2] * c[2][0]);
    const T r[3] = {f.map[0] - x.tau, f.map[1] - x.w, f.map[2] - x.rho};
    for (int i = 0; i < 3; ++i) {
      defect[i] = along[i] = T(0);
      for (int j = 0; j < 3; ++j) {
        defect[i] += inverse * c[i][j] * r[j];
        along[i] += inverse * c[i][j] * f.dmap[j][3];
      }
    }
  }

  /// Newton's method on b (s + nu) = beta and the fixed point together, from the state at hand. Or,
  /// for a given b, on the fixed point alone.
  bool iterate(T s, T beta, State x, int limit, bool given_b = false) const {
    double previous = 1e300;
    bool settled = std::is_same_v<R, double>;  // infinitesimal parts lag one step behind
    for (int iteration = 0; iteration < limit; ++iteration) {
      const Evaluation f = evaluate(x);
      T defect[3], along[3];
      correct(f, x, defect, along);
      const T slope_nu = f.dnu[3] + f.dnu[0] * along[0] + f.dnu[1] * along[1] + f.dnu[2] * along[2];
      const T shift_nu = f.dnu[0] * defect[0] + f.dnu[1] * defect[1] + f.dnu[2] * defect[2];
      const T slope = s + f.nu + x.b * slope_nu;
      T db = given_b ? T(0) : (beta - x.b * (s + f.nu + shift_nu)) / slope;
      if (!(std::isfinite(magnitude(db)) && std::isfinite(magnitude(defect[0])))) return false;
      if (real_part(db / x.b) <= -0.9) db = T(-0.9) * x.b;
      // tau and rho fall about like 1/b: what falls is extrapolated as its reciprocal, and stays
      // positive. w/tau moves little.
      const auto moved = [](const T& at, const T& by) {
        return real_part(by / at) < 0 ? at / (T(1) - by / at) : at + by;
      };
      State next;
      next.b = x.b + db;
      next.tau = moved(x.tau, defect[0] + along[0] * db);
      const T y = x.w / x.tau;  // not used by the scalar path
      next.w =
          (y + (defect[1] + along[1] * db - y * (defect[0] + along[0] * db)) / x.tau) * next.tau;
      next.rho = moved(x.rho, defect[2] + along[2] * db);
      if (!detail::on_its_side(next.b, s) || !detail::on_its_side(next.tau, s)) return false;
      double step = magnitude(next.b - x.b) / magnitude(next.b) +
                    magnitude(next.tau - x.tau) / magnitude(next.tau);
      if (!step_->scalar)
        step += magnitude(next.rho - x.rho) / magnitude(next.rho) +
                magnitude(next.w - x.w) / (magnitude(next.w) + magnitude(next.rho));
      x = next;
      if (step < 1e-13 || (step < 1e-10 && step > 0.5 * previous)) {
        if (!settled) {
          settled = true;
          continue;
        }
        if (!detail::continues(x.b, s)) return false;
        state_ = x;
        defect_ = step;
        nu_ = f.nu + shift_nu + slope_nu * db;
        g_ = T(1) / (s + nu_);
        mu_ = -along[0], omega_ = -slope_nu;
        for (int i = 0; i < 3; ++i) slope_[i] = along[i];
        return true;
      }
      previous = step;
    }
    return false;
  }

  void solve(T s, T beta) const {
    if (warm_ && s == s_ && beta == beta_) return;
    s_ = s, beta_ = beta;
    if (!step_->stepped) {  // Sigma = 1
      State x{state_.b, T(0), T(0), T(0)};
      detail::resolvent_root(s, T(1), beta, g_, x.rho);
      x.b = beta * g_;
      nu_ = T(1) / (T(1) + x.b);
      x.tau = x.w = x.rho = nu_;
      mu_ = omega_ = nu_ * nu_;
      state_ = x;
      slope_[0] = slope_[1] = slope_[2] = -mu_;
      warm_ = true;
      return;
    }
    if (warm_ && iterate(s, beta, state_, 20)) return;
    // From the left of the root: nu <= trace Sigma/d = c.
    const T c(step_->spike.c);
    State x;
    x.b = beta / (s + c);
    x.tau = x.w = x.rho = T(1) / (T(1) + x.b);
    for (int plain = 0; plain < 3; ++plain) relax(x);
    warm_ = iterate(s, beta, x, 60);
    if (!warm_) warm_ = approach(s, beta);
    if (!warm_) {
      failed_ = true;
      const T nan(std::numeric_limits<double>::quiet_NaN());
      g_ = nu_ = mu_ = omega_ = nan;
    }
  }
  /// The fixed point at a given b, from that at the last one.
  bool solve_at(T b) const {
    s_ = T(std::numeric_limits<double>::quiet_NaN());
    if (!step_->stepped) {
      nu_ = T(1) / (T(1) + b);
      state_ = {b, nu_, nu_, nu_};
      mu_ = omega_ = nu_ * nu_;
      slope_[0] = slope_[1] = slope_[2] = -mu_;
      return true;
    }
    State x = state_;
    x.b = b;
    if (warm_ && iterate(T(1), T(0), x, 20, true)) return true;
    x.tau = x.w = x.rho = T(1) / (T(1) + b);
    for (int plain = 0; plain < 3; ++plain) relax(x);
    warm_ = iterate(T(1), T(0), x, 60, true);
    for (double far = 1e-3; !warm_ && far > 1e-12; far *= 1e-3) {  // from a small b up to this one
      x.b = T(far) * b / (T(1) + b);
      x.tau = x.w = x.rho = T(1) / (T(1) + x.b);
      for (int plain = 0; plain < 30; ++plain) relax(x);
      while (iterate(T(1), T(0), x, 60, true)) {
        if (magnitude(state_.b) >= magnitude(b)) return warm_ = true;
        x = state_;
        x.b = magnitude(x.b) * 1.5 < magnitude(b) ? T(1.5) * x.b : b;
      }
    }
    return warm_;
  }

  /// From a large s down to this one, in steps as long as Newton's method follows.
  bool approach(T s, T beta) const {
    const double c = step_->spike.c;
    double far = 100 * std::max(c, magnitude(s)) / magnitude(s), factor = 8;  // at s far
    State x;
    for (int attempt = 0; attempt < 12; ++attempt, far *= 10) {
      x.b = beta / (T(far) * s + T(c));
      x.tau = x.w = x.rho = T(1) / (T(1) + x.b);
      for (int plain = 0; plain < 30; ++plain) relax(x);
      if (iterate(T(far) * s, beta, x, 60)) break;
      if (attempt == 11) return false;
    }
    for (int attempt = 0; attempt < 400 && factor > 1.001; ++attempt) {
      const double next = std::max(far / factor, 1.0);
      x = state_;
      if (!iterate(T(next) * s, beta, x, 30)) {
        factor = std::sqrt(factor);
        continue;
      }
      if (next == 1) return true;
      far = next;
      factor = std::min(factor * 1.5, 64.0);
    }
    return false;
  }
  void relax(State& x) const {
    const Evaluation f = evaluate(x);
    x.tau = f.map[0], x.w = f.map[1], x.rho = f.map[2];
  }

  const BasicStepModel<R>* step_;
  const Nodes* nodes_;
  mutable State state_{};
  mutable T s_{}, beta_{}, g_{}, nu_{}, mu_{}, omega_{}, slope_[3]{};
  mutable double defect_ = 0;
  mutable bool warm_ = false, failed_ = false;
};

}  // namespace srfx
