// A readout for any loss: a = argmin sum_mu loss(e_mu) + lam |a|^2, e of y and f = Phi a
// (loss.hpp), to a given duality gap.
//
// With q = -g de/df the gradient is 2 (lam a - Phi^T q) = -2 r, and for any lo <= g <= hi
//
//   objective - minimum <= sum (loss(e) - 2 g e + kappa g^2) + |r|^2/lam,      the duality gap, a
//   sum of terms >= 0.
//
// - Without bends g is half the slope of the loss, which leaves |r|^2/lam. Newton's method,
// semismooth where the second derivative
//   jumps, with a line search that costs nothing, since Phi da is known; far from the end its
//   systems are solved roughly.
// - With bends (kappa = 0) and bounds, the same on the loss less kappa (g - g0)^2, where g0 is the
// last g and kappa falls: g moves less and less, and the loss is met (R. T. Rockafellar, Math. Oper.
// Res. 1 (1976) 97). Its systems are of the samples at bends alone.
// - Where that, or Newton's method, goes from piece to piece for too long, an interior-point method: g
// inside its
//   bounds, e - kappa g = u - v with u, v > 0, u (hi - g) and v (g - lo) driven to zero together, a
//   predictor and a corrector on one factor (S. Mehrotra, SIAM J. Optim. 2 (1992) 575).
// - Maximum margin: hi = inf, so u = 0, and lam = 1. Scaled to the least y f = 1, a is feasible,
// and (sum g)^2/|Phi^T q|^2 is a lower
//   bound of its |a|^2.
#pragma once

#include "srfx/simulate/readouts.hpp"
#include "srfx/simulate/weighted.hpp"

namespace srfx {

class Fit {
 public:
  /// Samples as rows of `phi`, its leading `units` columns; `y` are their labels; the first `dual`
  /// of them are at most as many as units.
  Fit(const ReadoutLoss& loss, const Panels<double>& phi, Index units, const std::vector<double>& y,
      Index dual, int threads, Interrupt& interrupt)
      : loss_(loss),
        y_(y),
        p_(units),
        system_(phi, units, static_cast<Index>(y.size()), dual,
                static_cast<Index>(y.size()) * units < worth_threads ? 1 : threads, interrupt) {
    const std::size_t n = WeightedSystem::padded(static_cast<Index>(y.size())),
                      p = WeightedSystem::padded(units);
    for (auto* v : {&f_, &df_, &q_, &h_, &t_, &w_, &u_, &v_, &dg_, &du_, &dv_}) v->assign(n, 0.0);
    for (auto* v : {&r_, &da_}) v->assign(p, 0.0);
  }

  /// Fewest features that are shared out among threads: a walk through fewer ends before they are
  /// all awake.
  static constexpr Index worth_threads = Index(1) << 19;
  /// The relative duality gap that is reached.
  static constexpr double tolerance = 1e-11;

  /// Fits the first n samples. `a` (units) and `g` (samples) hold a start, zeros where there is
  /// none, and then the answer. Returns the duality gap over the objective.
  double operator()(Index n, double lam, double* a, double* g) {
    n_ = n, lam_ = loss_.kind == ReadoutLoss::Kind::max_margin ? 1.0 : lam, a_ = a, g_ = g;
    for (auto* v : {&f_, &df_, &q_, &h_}) std::fill(v->begin() + n, v->end(), 0.0);
    system_.samples().apply(n, a, f_.data());
    if (!loss_.bent()) return newton();
    double gap = 0;
    return above() && proximal(gap) ? gap : interior_point();
  }

  /// Predictions of the samples by the last readout.
  const std::vector<double>& predictions() const { return f_; }

 private:
  static double dot(const double* x, const double* y, Index n) {
    return WeightedSystem::dot(x, y, n);
  }

  /// r = Phi^T q - lam a with q of g; returns |Phi^T q|^2.
  double link() {
    for (Index s = 0; s < n_; ++s) q_[s] = -g_[s] * loss_.slope(y_[s]);
    system_.samples().project(n_, q_.data(), r_.data());
    const double image = dot(r_.data(), r_.data(), p_);
    for (Index u = 0; u < p_; ++u) r_[u] -= lam_ * a_[u];
    return image;
  }

  void step(double t) {
    for (Index u = 0; u < p_; ++u) a_[u] += t * da_[u];
    for (Index s = 0; s < n_; ++s) f_[s] += t * df_[s];
  }

  // --- losses without bends
  // ------------------------------------------------------------------------------------------

  double newton() {
    const bool piecewise = loss_.kind == ReadoutLoss::Kind::piecewise;
    for (int k = 0; k < (piecewise ? 40 : 300); ++k) {
      double objective = 0;
      for (Index s = 0; s < n_; ++s) {
        const double e = loss_.error(y_[s], f_[s]);
        const ReadoutLoss::Derivatives d = loss_.derivatives(e);
        g_[s] = d.g, h_[s] = d.h, objective += loss_.value(e);
      }
      link();
      objective += lam_ * dot(a_, a_, p_);
      const double gap = dot(r_.data(), r_.data(), p_) / lam_;
      if (gap <= tolerance * objective) return gap / objective;
      system_.set(n_, lam_, h_);
      if (!system_.solve_roughly(r_, da_, df_) && !system_.solve(r_, da_, df_)) break;
      step(line_search([&](Index, double e) { return loss_.derivatives(e).g; }));
    }
    if (piecewise) return interior_point();
    throw NoReadout(false);
  }

  /// Where the slope of the objective along da, which is negative, is a tenth of what it was;
  /// half(sample, e) is half the slope of its loss.
  template <class Half> double line_search(Half&& half) const {
    const double first = dot(a_, da_.data(), p_), second = dot(da_.data(), da_.data(), p_);
    const auto slope = [&](double t) {
      double sum = 0;
      for (Index s = 0; s < n_; ++s) {
        const double e = loss_.error(y_[s], f_[s] + t * df_[s]);
        sum += half(s, e) * loss_.slope(y_[s]) * df_[s];
      }
      return sum + lam_ * (first + t * second);
    };
    const double start = -dot(r_.data(), da_.data(), p_);
    double low = 0, at_low = start, t = 1, now = slope(t);
    while (now < 0.1 * start && t < 1e6) {
      low = t, at_low = now;
      t *= 4;
      now = slope(t);
    }
    if (std::abs(now) <= -0.1 * start) return t;
    double high = t, at_high = now;
    for (int k = 0; k < 100; ++k) {
      // The secant, and now and then the middle.
      t = low - at_low * (high - low) / (at_high - at_low);
      if (k % 3 == 2 || !(t > low && t < high)) t = 0.5 * (low + high);
      now = slope(t);
      if (std::abs(now) <= -0.1 * start || high - low <= 1e-14 * high) break;
      if (now < 0) low = t, at_low = now;
      else high = t, at_high = now;
    }
    return t;
  }

  // --- piecewise quadratic losses
  // ---------------------------------------------------------------------------------------------

  /// True where it gets to the tolerance; g0 is in v_.
  bool proximal(double& gap) {
    double size = 0;
    for (Index s = 0; s < n_; ++s) {
      size += std::abs(loss_.error(y_[s], f_[s]));
      v_[s] = std::clamp(g_[s], loss_.lo, loss_.hi);
    }
    double kappa = std::max(size / static_cast<double>(n_), 1e-300) / (loss_.hi - loss_.lo);
    const auto half = [&](Index s, double e) {
      return std::clamp(v_[s] + e / kappa, loss_.lo, loss_.hi);
    };
    for (int k = 0; k < 80;) {
      double objective = 0, excess = 0;
      for (Index s = 0; s < n_; ++s) {
        const double e = loss_.error(y_[s], f_[s]);
        g_[s] = half(s, e), h_[s] = g_[s] > loss_.lo && g_[s] < loss_.hi ? 1 / kappa : 0.0;
        objective += loss_.value(e), excess += loss_.excess(e, g_[s]);
      }
      link();
      objective += lam_ * dot(a_, a_, p_);
      const double rest = dot(r_.data(), r_.data(), p_) / lam_;
      gap = (excess + rest) / objective;
      if (gap <= tolerance) return true;
      if (rest <= std::max(0.1 * excess, 1e-2 * tolerance * objective)) {
        if (kappa < 1e-12 * size) return false;
        std::copy_n(g_, n_, v_.begin());
        kappa *= 0.5;
        continue;
      }
      system_.set(n_, lam_, h_);
      if (!system_.solve(r_, da_, df_)) return false;
      step(line_search(half));
      ++k;
    }
    return false;
  }

  bool above() const { return loss_.hi < std::numeric_limits<double>::infinity(); }

  double interior_point() {
    const bool margin = loss_.kind == ReadoutLoss::Kind::max_margin;
    start();
    for (int k = 0; k < 200; ++k) {
      double objective = 0, excess = 0, worst = -std::numeric_limits<double>::infinity(), sum = 0,
             complementary = 0;
      for (Index s = 0; s < n_; ++s) {
        const double e = loss_.error(y_[s], f_[s]);
        worst = std::max(worst, e), sum += g_[s];
        if (!margin) objective += loss_.value(e), excess += loss_.excess(e, g_[s]);
        complementary += v_[s] * (g_[s] - loss_.lo) + (above() ? u_[s] * (loss_.hi - g_[s]) : 0.0);
      }
      const double image = link(), norm = dot(a_, a_, p_);
      double gap = excess + dot(r_.data(), r_.data(), p_) / lam_, least = 1;
      objective += lam_ * norm;
      if (margin) {
        least = 1 - worst;
        const double bound = sum * sum / image;
        objective = norm / (least * least), gap = std::max(0.0, objective - bound);
        if (bound * scale() > 1e10) break;
      }
      if (least > 0 && gap <= tolerance * objective) {
        for (Index i = 0; i < p_; ++i) a_[i] /= least;
        for (Index s = 0; s < n_; ++s) f_[s] /= least;
        return gap / objective;
      }
      if (!advance(complementary, 0.02 * tolerance * objective)) break;
    }
    throw NoReadout(margin);
  }

  /// Mean square of a row of Phi.
  double scale() {
    double sum = 0;
    const Index rows = std::min<Index>(n_, 64);
    const Panels<double>& phi = system_.samples().phi();
    for (Index s = 0; s < rows; ++s)
      for (Index u = 0; u < p_; ++u) sum += phi(s, u) * phi(s, u);
    return sum / static_cast<double>(rows);
  }

  /// Moves g away from its bounds and gives e the two parts u and v.
  void start() {
    double size = 0;
    for (Index s = 0; s < n_; ++s) size += std::abs(loss_.error(y_[s], f_[s]));
    size = std::max(size / static_cast<double>(n_), 1e-300);
    const double range = above() ? loss_.hi - loss_.lo : 1.0;
    for (Index s = 0; s < n_; ++s) {
      g_[s] = std::max(g_[s], loss_.lo + 0.1 * range);
      if (above()) g_[s] = std::min(g_[s], loss_.hi - 0.1 * range);
      const double e = loss_.error(y_[s], f_[s]) - loss_.kappa * g_[s];
      u_[s] = above() ? std::max(e, 0.0) + 0.3 * size : 0.0;
      v_[s] = std::max(-e, 0.0) + 0.3 * size;
    }
  }

  /// One step towards u (hi - g) = v (g - lo) = a fraction of their present mean, or what sums to
  /// `least`.
  bool advance(double complementary, double least) {
    const double pairs = static_cast<double>(above() ? 2 * n_ : n_);
    for (Index s = 0; s < n_; ++s)
      h_[s] = 1 / (loss_.kappa + v_[s] / (g_[s] - loss_.lo) +
                   (above() ? u_[s] / (loss_.hi - g_[s]) : 0.0));
    system_.set(n_, lam_, h_);
    if (!towards(0.0, false)) return false;
    const double reach = longest();
    double after = 0;
    for (Index s = 0; s < n_; ++s) {
      after += (v_[s] + reach * dv_[s]) * (g_[s] + reach * dg_[s] - loss_.lo);
      if (above()) after += (u_[s] + reach * du_[s]) * (loss_.hi - g_[s] - reach * dg_[s]);
    }
    const double ratio = after / complementary;
    const double aim = std::max(ratio * ratio * ratio * complementary, least);
    if (!towards(aim / pairs, true)) return false;
    const double t = std::min(1.0, 0.995 * longest());
    step(t);
    for (Index s = 0; s < n_; ++s) g_[s] += t * dg_[s], u_[s] += t * du_[s], v_[s] += t * dv_[s];
    return true;
  }

  /// The direction towards products `aim`; second: less the products of the changes that the first
  /// direction made.
  bool towards(double aim, bool second) {
    for (Index s = 0; s < n_; ++s) {
      const double below = g_[s] - loss_.lo, e = loss_.error(y_[s], f_[s]);
      dv_[s] = (aim - (second ? dv_[s] * dg_[s] : 0.0)) / below;
      double rest = e - loss_.kappa * g_[s] + dv_[s];
      if (above()) {
        du_[s] = (aim + (second ? du_[s] * dg_[s] : 0.0)) / (loss_.hi - g_[s]);
        rest -= du_[s];
      }
      t_[s] = -loss_.slope(y_[s]) * rest;
    }
    if (!system_.solve(r_, t_, w_, da_, df_)) return false;
    for (Index s = 0; s < n_; ++s) {
      dg_[s] = -loss_.slope(y_[s]) * w_[s];
      dv_[s] -= v_[s] * (1 + dg_[s] / (g_[s] - loss_.lo));
      if (above()) du_[s] -= u_[s] * (1 - dg_[s] / (loss_.hi - g_[s]));
    }
    return true;
  }

  /// How far g, u and v can go along their directions.
  double longest() const {
    double t = 1e10;
    const auto limit = [&t](double x, double dx) {
      if (dx < 0) t = std::min(t, -x / dx);
    };
    for (Index s = 0; s < n_; ++s) {
      limit(g_[s] - loss_.lo, dg_[s]);
      limit(v_[s], dv_[s]);
      if (above()) limit(loss_.hi - g_[s], -dg_[s]), limit(u_[s], du_[s]);
    }
    return std::min(t, 1.0);
  }

  const ReadoutLoss& loss_;
  const std::vector<double>& y_;
  Index p_;
  WeightedSystem system_;
  Index n_ = 0;
  double lam_ = 1;
  double *a_ = nullptr, *g_ = nullptr;
  std::vector<double> f_, df_, q_, h_, t_, w_, u_, v_, dg_, du_,
      dv_;                      // over samples, in whole panels
  std::vector<double> r_, da_;  // over units
};

}  // namespace srfx
