// A bulk that answers with one number: what it takes to find g = <1/(Omega + s)> of rows with
// covariance Sigma/d at s, where all that is known of Sigma is a fixed point (THEORY sections 9, 10
// and 15).
//
// With b = beta g, tau = <1/(1 + b Sigma)> and nu = (1 - tau)/b: b (s + nu(b)) = beta, and nu comes
// from (tau, w, rho) = map(tau, w, rho; b). The own map is a type's own (one_step_map.hpp,
// layer_map.hpp); Newton's method is here.
#pragma once

#include "srfx/bulk/overlaps.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>

namespace srfx {

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

/// The fixed point, with a memory: each solve starts where the last one ended. T: of s and beta;
/// `lags`: derivatives by parameters ride along as infinitesimal imaginary parts
/// (step_gradient.hpp).
///
/// Own yields evaluate(State) -> Evaluation, scalar() (w and rho are not used), stepped() (else
/// Sigma = 1), variance() = trace Sigma/d and the same as a T, c(); and kernel(), the overlaps in
/// the unit-bulk convention at the state at hand, in place of the mean 1/g_m - s.
template <class Own, class T, bool lags = false> class Response {
 public:
  /// Starts where another solve has ended.
  template <class Bulk> void start_from(const Bulk& other) {
    if (other.failed()) return;
    state_ = {T(other.b()), T(other.tau()), T(other.w()), T(other.rho())};
    s_ = T(std::numeric_limits<double>::quiet_NaN());
    warm_ = true;
  }

  bool failed() const { return failed_; }

  /// g and g' = dg/ds at s.
  Along<T> resolvent(T s, T beta) const {
    solve(s, beta);
    return {g_, -g_ / (s + mu_)};
  }
  /// Averages over D = Omega/c, S = A + B D (bulk.hpp), with s = c A/B. In terms of nu = (1 -
  /// tau)/b and of mu = -dtau/db, omega = -dnu/db, all positive: g = 1/(s + nu), dg/ds = -g/(s +
  /// mu), and nothing cancels.
  SpectralAverages<T> averages(T a, T b, T beta) const {
    b = at_least(b, a);
    const T c = own().c(), s = c * a / b;
    solve(s, beta);
    const T g = g_, inverse_b = T(1) / b, inverse = T(1) / (s + mu_);
    SpectralAverages<T> out;
    out.y1 = g * nu_ * inverse_b;
    out.y2 = c * g * inverse_b;
    out.t22 = c * c * g * inverse * inverse_b * inverse_b;
    out.t12 = c * g * mu_ * inverse * inverse_b * inverse_b;
    out.t11 = g * g * (nu_ * nu_ + s * s * state_.b * omega_ * inverse) * inverse_b * inverse_b;
    out.t11c = out.t11 - beta * out.y1 * out.y1;
    return out;
  }

  /// The fixed point at b, whatever s and beta are, and its slopes: 1 = tau + b nu. NaN: not found.
  struct Answer {
    T tau, nu, tau_slope, nu_slope;
  };
  Answer answer(T b) const {
    if (!(warm_ && b == state_.b && !(s_ == s_)) && !solve_at(b)) {
      const T nan(std::numeric_limits<double>::quiet_NaN());
      return {nan, nan, nan, nan};
    }
    return {state_.tau, nu_, slope_[0], -omega_};
  }

  /// The overlaps (Own::kernel) at s = c A/B, with derivatives along s.
  Overlaps<T> overlaps(T a, T b, T beta) const {
    const T s = own().c() * a / b;
    solve(s, beta);
    rate_ = -state_.b / (s_ + mu_);
    Overlaps<T> out = own().kernel();
    out.mean = Along<T>(T(1)) / (Along<T>(s, T(1)) + out.mean);
    out.s = s;
    out.defect = T(defect_);
    return out;
  }

  /// At a given b: nu, mu, b omega and tau; the overlaps with derivatives along log b, in place of
  /// the mean 1/g_m - s. Whatever s and beta are, nothing else is asked for (step_table.hpp).
  /// False: not found.
  bool along_b(T b, T (&head)[4], Overlaps<T>& out) const {
    if (!solve_at(b)) return false;
    rate_ = b;
    out = own().kernel();
    head[0] = nu_, head[1] = mu_, head[2] = b * omega_, head[3] = state_.tau;
    return true;
  }

  T tau() const { return state_.tau; }
  T w() const { return state_.w; }
  T rho() const { return state_.rho; }
  T b() const { return state_.b; }

 protected:
  struct State {
    T b, tau, w, rho;
  };
  /// The map (tau, w, rho) -> the right-hand sides, nu, and their derivatives by (tau, w, rho, b).
  struct Evaluation {
    T map[3], nu, dmap[3][4], dnu[4];
  };
  /// A function of b at the state at hand.
  Along<T> slope_of(T value, T by_b) const { return {value, by_b * rate_}; }

  /// 1/g_m - s = nu - tau (1 - om_m), for 1/g = s + nu: how the first step damps the mean row; om_m
  /// = (1 - h E Q_11)^2 + spread h E Q_11, h = eta h1^2 (THEORY 10).
  Along<T> damped_mean(const Along<T>& q11, const T& h, const T& spread) const {
    using S = Along<T>;
    const S damped = S(1) - S(h) * q11;
    const S om = damped * damped + S(spread * h) * q11;
    return slope_of(nu_, -omega_) - slope_of(state_.tau, slope_[0]) * (S(1) - om);
  }

  const Own& own() const { return static_cast<const Own&>(*this); }
  Evaluation evaluate(const State& x) const { return own().evaluate(x); }

  /// (1 - dmap/dx)^-1 applied to the defect map - x and to dmap/db.
  void correct(const Evaluation& f, const State& x, T (&defect)[3], T (&along)[3]) const {
    if (own().scalar()) {
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
    bool settled = !lags;  // infinitesimal parts lag one step behind
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
      if (!given_b && (!detail::on_its_side(next.b, s) || !detail::on_its_side(next.tau, s)))
        return false;
      double step = magnitude(next.b - x.b) / magnitude(next.b) +
                    magnitude(next.tau - x.tau) / magnitude(next.tau);
      if (!own().scalar())
        step += magnitude(next.rho - x.rho) / magnitude(next.rho) +
                magnitude(next.w - x.w) / (magnitude(next.w) + magnitude(next.rho));
      x = next;
      if (step < 1e-13 || (step < 1e-10 && step > 0.5 * previous)) {
        if (!settled) {
          settled = true;
          continue;
        }
        // Im nu Im b < 0 as well: nu = <Sigma/(1 + b Sigma)>.
        if (!detail::continues(given_b ? f.nu : x.b, given_b ? x.b : s)) return false;
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
    if (!own().stepped()) {  // Sigma = 1
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
    const T c(own().variance());
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
    if (!own().stepped()) {
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
      x.b = T(far / (1 + magnitude(b))) * b;
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
    const double c = own().variance();
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

  mutable State state_{};
  mutable T s_{}, beta_{}, g_{}, nu_{}, mu_{}, omega_{}, slope_[3]{};
  mutable T rate_{};  ///< of b along what derivatives are along
  mutable double defect_ = 0;
  mutable bool warm_ = false, failed_ = false;
};

}  // namespace srfx
