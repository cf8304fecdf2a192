// The bulk of one step from a table (function_table.hpp), eight points at a time.
//
// Everything that a point asks of the step is a function of b = beta g alone, whatever beta is: nu,
// mu, b omega, tau (one_step.hpp), the overlaps and 1/g_m - s. They are traces and quadratic forms
// of Sigma (1 + b Sigma)^-1 and the like, hence analytic off the negative axis. What is left to a
// point is b (s + nu(b)) = beta, whose left side is concave in b: Newton's method from the left is
// monotone.
#pragma once

#include "srfx/bulk/function_table.hpp"
#include "srfx/bulk/one_step.hpp"

namespace srfx {

/// What a table holds of the overlaps of a target of several directions: the kernel and 1 - K_zz,
/// entries (i, j) with j <= i each, then 1/g_m - s.
struct KernelParts {
  int directions;
  int kernel() const { return (directions + 2) * (directions + 3) / 2; }
  int rest() const { return directions * (directions + 1) / 2; }
  int size() const { return kernel() + rest() + 1; }
  static constexpr int most = 22;  ///< of three directions

  /// entry(i, j, place) of the kernel and rest(i, j, place).
  template <class Entry, class Rest> void each(Entry&& entry, Rest&& left) const {
    int place = 0;
    for (int i = 0; i < directions + 2; ++i)
      for (int j = 0; j <= i; ++j) entry(i, j, place++);
    for (int i = 0; i < directions; ++i)
      for (int j = 0; j <= i; ++j) left(i, j, place++);
  }
};

/// The bulk of one step as a policy (bulk.hpp), for lanes of points. Lanes that are asked for the
/// same s again do not move.
template <class V> class StepTableBulk {
 public:
  static constexpr int n_head = 4;

  /// guess: <1/S>, about.
  StepTableBulk(double c, int directions, const FunctionTable& table, const V& guess, Digits digits)
      : c_(c),
        parts_{directions},
        table_(&table),
        guess_(guess),
        digits_(digits) {}

  /// The error of the table where the points are.
  V error() const { return V::load(place_.error); }

  SpectralAverages<V> averages(V a, V b, V beta) const {
    b = at_least(b, a);
    const V c(c_), s = c * a / b;
    find(b, s, beta);
    const V inverse_b = V(1) / b, product = V(1) / ((s + nu_) * (s + mu_));
    const V g = (s + mu_) * product, inverse = (s + nu_) * product;
    SpectralAverages<V> out;
    out.y1 = g * nu_ * inverse_b;
    out.y2 = c * g * inverse_b;
    const V scale = product * inverse_b * inverse_b;
    out.t22 = c * c * scale;
    out.t12 = c * mu_ * scale;
    out.t11 = g * g * (nu_ * nu_ + s * s * b_omega_ * inverse) * inverse_b * inverse_b;
    out.t11c = out.t11 - beta * out.y1 * out.y1;
    return out;
  }

  Overlaps<V> overlaps(V a, V b, V beta) const {
    const V c(c_), s = c * a / b;
    find(b, s, beta);
    V f[2 * KernelParts::most];
    const int n = parts_.size();
    table_->locate(b_, Digits::all, place_);
    if (parts_.directions == 1) table_->template evaluate<4>(place_, Digits::all, n_head, f);
    for (int i = 0; i < 2 * n && parts_.directions > 1; i += FunctionTable::width)
      table_->template evaluate<1>(place_, Digits::all, n_head + i, f + i);
    const V rate = V(-1) / (s + mu_);  // of log b along s
    const auto entry = [&](int i) { return Along<V>(f[i], f[n + i] * rate); };
    Overlaps<V> out;
    out.directions = parts_.directions;
    parts_.each([&](int i, int j, int at) { out.k[i][j] = out.k[j][i] = entry(at); },
                [&](int i, int j, int at) { out.rest[i][j] = out.rest[j][i] = entry(at); });
    out.mean = Along<V>(V(1)) / (Along<V>(s, V(1)) + entry(n - 1));
    out.defect = step_size_;
    out.s = s;
    out.c = c;
    return out;
  }

 private:
  void find(const V& b, const V& s, const V& beta) const {
    const V tolerance(digits_ == Digits::all ? 1e-14 : digits_ == Digits::nine ? 1e-9 : 1e-5);
    auto active = !(s == s_);
    s_ = s;
    if (!started_) b_ = beta * b * guess_ / V(c_);
    started_ = true;
    V previous(infinity);
    for (int iteration = 0; iteration < 60 && simd::any(active); ++iteration) {
      V head[n_head];
      table_->locate(b_, digits_, place_);
      table_->template evaluate<1>(place_, digits_, 0, head);
      const V &nu = head[0], &mu = head[1], &b_omega = head[2], &tau = head[3];
      // beta - b (s + nu), by whichever of two forms cancels less.
      const V left =
          simd::select(V(2) * b_ * nu < V(1), beta - b_ * (s + nu), (beta - V(1)) + (tau - b_ * s));
      const V step = left / (b_ * (s + mu)), size = simd::abs(step);
      const auto close = (size <= tolerance) | ((size < V(1e-6)) & (size >= V(0.5) * previous));
      const V moved = simd::max(V(1) + step, V(0.1));
      previous = size;
      nu_ = simd::select(active, simd::select(close, nu - b_omega * step, nu), nu_);
      mu_ = simd::select(active, mu, mu_);
      b_omega_ = simd::select(active, b_omega, b_omega_);
      b_ = simd::select(active, b_ * moved, b_);
      step_size_ = simd::select(active, size, step_size_);
      active = active & !close & (b_ < V(infinity));
    }
  }

  double c_;
  KernelParts parts_;
  const FunctionTable* table_;
  V guess_;
  mutable bool started_ = false;
  Digits digits_;
  mutable V b_{}, s_{std::numeric_limits<double>::quiet_NaN()}, nu_{}, mu_{}, b_omega_{},
      step_size_{V(1)};
  mutable FunctionTable::Place<V> place_;
};

/// The table of a bulk of steps: nu, mu, b omega, tau; the kernel, 1 - K_zz and 1/g_m - s; their
/// derivatives by log b. make() yields a bulk, judge(bulk) the error of its nodes at the state at
/// hand.
template <class Make, class Judge>
FunctionTable step_table(int directions, Make make, Judge judge) {
  using Scale = FunctionTable::Scale;
  const KernelParts parts{directions};
  std::vector<Scale> scales{{0, 0}, {1, 1}, {2, 0}, {3, 3}};
  // A kernel much smaller than 1 hardly acts.
  const auto diagonal = [](int first, int i) { return first + i * (i + 3) / 2; };
  for (int half = 0; half < 2; ++half) {
    const int left = 4 + parts.kernel();
    parts.each(
        [&](int i, int j, int) { scales.push_back({diagonal(4, i), diagonal(4, j), 1.0}); },
        [&](int i, int j, int) { scales.push_back({diagonal(left, i), diagonal(left, j), 0.0}); });
    scales.push_back({0, 0, 0.0});  // 1/g_m - s: beside s + nu
  }
  return FunctionTable(scales, [parts, make, judge] {
    auto bulk = std::make_shared<decltype(make())>(make());
    auto worst = std::make_shared<double>(0);
    const auto exact = [parts, bulk, worst, judge](double b, double* values) {
      double head[4];
      Overlaps<double> k;
      if (!bulk->along_b(b, head, k)) return false;
      std::copy(head, head + 4, values);
      const int n = parts.size();
      double finite = values[0];
      const auto put = [&](int at, const Along<double>& entry) {
        values[4 + at] = entry.v, values[4 + n + at] = entry.d;
        finite += entry.v;
      };
      parts.each([&](int i, int j, int at) { put(at, k.k[i][j]); },
                 [&](int i, int j, int at) { put(at, k.rest[i][j]); });
      put(n - 1, k.mean);
      *worst = std::max(*worst, judge(*bulk));
      return std::isfinite(finite);
    };
    return FunctionTable::Maker{exact, [bulk, worst] { return *worst; }};
  });
}

/// The table of one step. `check`, if it is not empty, tells the error of `nodes`.
inline FunctionTable step_table(const StepModel& step, const ResidualNodes& nodes,
                                const ResidualNodes& check) {
  return step_table(
      1, [&step, &nodes] { return OneStepBulk<double>(step, nodes); },
      [&check](const OneStepBulk<double>& bulk) {
        return check.size() > 0 ? bulk.compare(check) : 0.0;
      });
}

}  // namespace srfx
