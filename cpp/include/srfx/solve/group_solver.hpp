// Newton's method for K groups of neurons, and what follows from V once the features are fitted
// (THEORY section 7). Real scalars, one point or a lane each; any bulk of groups.
//
//   V(k) = mu1^T V1 mu1 + sum_g mu2_g^2 V2_g,   w = 1/(unit + V)
//   Vh1 = a' E[mu1 mu1^T w],   A_g = lam + a' E[mu2_g^2 w]
//   the bulk: (Vh1, A) -> (V1, V2), and T = -d(V1, V2)/d(Vh1, A)
//   (I - T M) Q' = T a' E[e R0' w^2] + sources,   R0': what the fit leaves at a node
#pragma once

#include "srfx/bulk/group_map.hpp"
#include "srfx/solve/solver.hpp"

#include <utility>
#include <vector>

namespace srfx {

/// What a solve yields at one point: matrices K x K, vectors K; theta has K for each spike, one
/// spike after the other, psi for each direction of the target that the spikes leave.
template <class V, int K> struct GroupOrder {
  using Map = GroupMap<V, K>;
  V test_error, train_error;
  typename Map::Vector m, q2, v2;
  GroupArray<V, -1> theta, psi;
  typename Map::Square q1, v1;
  V residual, amplification;
  V mean_cost;  ///< sum |m_g| rms(mu0_g)/rms(s*): by how much rounding of mu0 is amplified

  explicit GroupOrder(int k, int spikes = 1, int directions = 1)
      : m(k),
        q2(k),
        v2(k),
        theta(spikes * k),
        psi(directions * k),
        q1(k * k),
        v1(k * k) {}
};

/// One point (or a lane each) of K groups: Newton's method for V, and what follows from V once the
/// features are fitted.
///
/// The bulk is a type with sizes as GroupSize, at(), `twice`, solve_at(), failed(), traces() and
/// the types of its arrays: GroupMap, or GroupStepBulk (group_step_bulk.hpp).
///
/// The Newton system (I - T M) x = c is nearly singular at small lam near the interpolation
/// threshold, and its elements are then too coarse. Both near-null vectors are known, though, and
/// so is what I - T M makes of them (see BalancedSystem): with F = map(V) - V and n = unit a' E[e
/// w^2],
///   (I - T M) V = lam T[0,1] + T n - F =: g,    Vh^T (I - T M) = n + lam M T[0,1] - M F =: s.
/// So x = t V + y with Vh.y = 0, where B = I - T M + V Vh^T/(Vh.V) is well conditioned: B y = c - t
/// g, and the projection on Vh gives t = (Vh.c - s B^-1 c)/(Vh.g - s B^-1 g). For c = F, Vh.F = (1
/// - a') + unit a' E[w] - lam sum map_2 at the threshold.
template <class V, class Bulk> class GroupSolver {
 public:
  using Packed = typename Bulk::Packed;
  using Truth = simd::TruthOf<V>;

  explicit GroupSolver(Bulk bulk)
      : map(std::move(bulk)),
        v(map.packed),
        iterations(0),
        converged(V(0) > V(0)),
        vh_(map.packed),
        n_(map.packed),
        mapped_(map.packed),
        f_(map.packed),
        scale_(map.packed),
        ridge_(map.packed),
        g_(map.packed),
        left_(map.packed),
        c_(map.packed),
        c2_(map.packed),
        x_(map.packed),
        x2_(map.packed),
        test_(map.groups * map.groups),
        m_(map.packed * map.packed),
        b_(map.packed * map.packed),
        matrix_(map.packed * (map.packed + 3)) {}

  Bulk map;
  Packed v;
  V iterations;  ///< evaluations of the map
  Truth converged;

  const Point<V>& point() const { return point_; }

  /// Newton's method, guarded: the plain map wherever a step leaves the positive V2 or the positive
  /// definite V1. `full` > 0: after so many steps the derivatives are kept while they serve.
  void newton(const GroupNodes& nodes, const NewtonSettings& settings, int full = 0) {
    auto active = V(0) <= V(0);
    converged = V(0) > V(0);
    iterations = V(0);
    const V tolerance(settings.tolerance);
    V previous(1e-4);
    for (int iteration = 0; iteration < settings.max_iterations && simd::any(active); ++iteration) {
      if (full > 0 && iteration == full) active = follow(nodes, settings, active, previous);
      if (!simd::any(active)) break;
      evaluate(nodes);
      if (map.failed()) return;
      newton_step();
      const auto inside = propose();
      const V step = step_size();
      V total(0);
      for (int g = 0; g < map.groups; ++g) total += c_[map.pairs + g] + c_[map.at(g, g)];
      const auto close =
          (step <= tolerance) |
          (inside & (step < previous) & (step * step * step <= tolerance * previous * previous));
      const auto stalled = (step < V(1e-6)) & (step >= V(0.5) * previous);
      previous = simd::min(V(0.03), step);
      iterations += simd::select(active, V(1), V(0));
      for (int i = 0; i < map.packed; ++i) v[i] = simd::select(active, c_[i], v[i]);
      converged = converged | (active & close);
      active = active & !(close | stalled) & (total < V(infinity));
    }
  }

 protected:
  /// What a fit leaves at the nodes: R' = rest + (h - C)^2 + sum_m (h1_m - mu1.psi_m)^2, all
  /// positive; Q1' = Q1 - sum_m psi_m psi_m^T. left(i) is h - C, pull(i, weight w (h - C)) gathers
  /// more. c_ becomes a' E[e R0' w^2].
  struct Misfit {
    V error, loss, loss2, energy,
        size;  ///< without the noise of the readout; E[R0' w], E[R0' w^2]; E[w (C h + ..)]; E[w hh]
  };
  template <class Left, class Pull, class Vector>
  Misfit misfit(const GroupNodes& nodes, const Vector& psi, Left&& left, Pull&& pull) {
    const int k = map.groups, n_directions = nodes.directions;
    V error(0), loss(0), loss2(0), energy(0), size(0);
    for (int j = 0; j < map.packed; ++j) c_[j] = V(0);
    for (Index i = 0; i < nodes.size; ++i) {
      const V h(nodes.h[i]), e = left(i);
      V ff(0), explained(0), h1_square(0);
      for (int m = 0; m < n_directions; ++m) {
        const V h1(nodes.h1[i * n_directions + m]);
        V f = h1;
        for (int g = 0; g < k; ++g) f -= V(nodes.mu1[i * k + g]) * psi[m * k + g];
        ff += f * f;
        explained += (h1 - f) * f;
        h1_square += h1 * h1;
      }
      const V omega(nodes.weight[i]), w = w_[i], ww = omega * w;
      const V r = V(nodes.rest[i]) + e * e + ff, noisy = r + point_.noise;
      error += omega * r;
      loss += ww * noisy;
      const V w2r = ww * w * noisy;
      loss2 += w2r;
      const double* const basis = &nodes.e[i * nodes.stride];
      for (int j = 0; j < map.packed; ++j) c_[j] += V(basis[j]) * w2r;
      energy += ww * ((h - e) * e + explained);
      size += ww * (V(nodes.rest[i]) + point_.noise + h * h + h1_square);
      pull(i, ww * e);
    }
    for (int j = 0; j < map.packed; ++j) c_[j] = point_.ratio * c_[j];
    return {error, loss, loss2, energy, size};
  }

  /// Q and the errors from c_, what T acts on, and what the bulk adds to T c_, if anything; the
  /// defects, relative: of the map, and the next step; of the fit; of the energy identity of THEORY
  /// section 7.
  template <class Order>
  void complete(const GroupNodes& nodes, const Misfit& r, const V& defect_fit, const V* added,
                Order& out) {
    const int k = map.groups;
    map.traces(&c_[0], &c2_[0]);
    V along(0), around(0);
    for (int j = 0; j < map.packed; ++j) {
      if (added != nullptr) c2_[j] += added[j];
      along += twice(j) * vh_[j] * c2_[j];
      c_[j] = mapped_[j] - ridge_[j];  // T Vh: what a relative error of the averages adds to F
      around += twice(j) * vh_[j] * c_[j];
    }
    solve(&c2_[0], along, &x_[0], &c_[0], simd::min(around, free_ + ridge_energy_), &x2_[0]);
    out.amplification = V(1);
    V train = r.loss2, test = r.error, energy_q(0), defect_map(0);
    for (int j = 0; j < map.packed; ++j) {
      out.amplification = simd::max(out.amplification, simd::abs(x2_[j]) / scale_[j]);
      train += twice(j) * x_[j] * n_w2_[j];
      test += twice(j) * x_[j] * V(nodes.mean_e[j]);
      defect_map = simd::max(defect_map, simd::abs(f_[j]) / scale_[j]);
    }
    for (int g = 0; g < k; ++g) {
      out.q2[g] = x_[map.pairs + g];
      out.v2[g] = v[map.pairs + g];
      energy_q += out.q2[g];
      for (int h = 0; h < k; ++h) {
        V overlap = out.psi[g] * out.psi[h];
        for (int m = 1; m < nodes.directions; ++m)
          overlap += out.psi[m * k + g] * out.psi[m * k + h];
        out.q1[g * k + h] = x_[map.at(g, h)] + overlap;
        out.v1[g * k + h] = v[map.at(g, h)];
      }
    }
    out.test_error = test;
    out.train_error = point_.unit * train;
    out.mean_cost = V(0);
    for (int g = 0; g < k; ++g) out.mean_cost += simd::abs(out.m[g]) * V(nodes.rms_mu0[g]);
    if (nodes.target_square > 0)
      out.mean_cost = out.mean_cost * V(1 / std::sqrt(nodes.target_square));
    const V defect_energy =
        simd::abs(out.train_error + point_.lam / point_.ratio * energy_q - r.loss - r.energy);
    out.residual =
        simd::max(simd::max(defect_map, step_), simd::max(defect_energy, defect_fit) / r.size);
  }

  /// c_ = v + x_, or what the plain map says where that leaves the allowed; true where it does not.
  Truth propose() {
    for (int i = 0; i < map.packed; ++i) c_[i] = v[i] + x_[i];
    const Truth inside = positive(c_);
    for (int i = 0; i < map.packed; ++i) c_[i] = simd::select(inside, c_[i], mapped_[i]);
    return inside;
  }
  /// How far c_ is from v, in units of c_, which scale_ becomes.
  V step_size() {
    set_scale(c_);
    V step(0);
    for (int i = 0; i < map.packed; ++i)
      step = simd::max(step, simd::abs(c_[i] - v[i]) / scale_[i]);
    return step;
  }

  /// Steps with the derivatives of the last Newton step, as long as each is a tenth of the one
  /// before. Returns the lanes that want more.
  Truth follow(const GroupNodes& nodes, const NewtonSettings& settings, Truth active, V& previous) {
    const int n = map.packed;
    const V tolerance(settings.tolerance);
    auto moving = active & (previous < V(0.01));
    for (int iteration = 0; iteration < 6 && simd::any(moving); ++iteration) {
      average(nodes, false);
      map.solve_at(&vh_[0], point_.lam, &mapped_[0]);
      V projected(0);
      for (int j = 0; j < n; ++j) {
        f_[j] = mapped_[j] - v[j];
        c2_[j] = f_[j] / scale_before_[j];
        projected += twice(j) * vh_[j] * f_[j];
      }
      detail::eliminate_again(&matrix_[0], n, n + 2, swaps_, &c2_[0]);
      V sg(0), sc(0);
      for (int i = 0; i < n; ++i) {
        const V s = left_[i] * scale_before_[i];
        sg += s * matrix_[i * (n + 2) + n];
        sc += s * c2_[i];
      }
      const V t = (projected - sc) / (sigma_ - sg);
      for (int i = 0; i < n; ++i)
        x_[i] = t * v_before_[i] + scale_before_[i] * (c2_[i] - t * matrix_[i * (n + 2) + n]);
      const Truth inside = propose();
      const V step = step_size();
      // An error that falls by this factor again and again ends below the next step times it.
      const auto good = inside & (step < V(0.1) * previous);
      const auto close = good & ((step <= tolerance) | (step * step <= tolerance * previous));
      iterations += simd::select(moving & good, V(1), V(0));
      for (int i = 0; i < n; ++i) v[i] = simd::select(moving & good, c_[i], v[i]);
      previous = simd::select(moving & good, step, previous);
      converged = converged | (moving & close);
      active = active & !(moving & close);
      moving = moving & good & !close;
    }
    previous = simd::min(V(0.03), previous);
    return active;
  }

  /// The averages and the map at v, and the relative step from there.
  void look(const GroupNodes& nodes, bool solved) {
    evaluate(nodes, solved);
    newton_step();
    step_ = V(0);
    for (int i = 0; i < map.packed; ++i) step_ = simd::max(step_, simd::abs(x_[i]) / scale_[i]);
  }

  static constexpr int n_square = Bulk::n_packed < 0 ? -1 : Bulk::n_packed * Bulk::n_packed;
  static constexpr int n_matrix = Bulk::n_packed < 0 ? -1 : Bulk::n_packed * (Bulk::n_packed + 3);

  V twice(int j) const { return V(map.twice[j]); }

  void set_scale(const Packed& x) {
    for (int g = 0; g < map.groups; ++g) {
      scale_[map.pairs + g] = x[map.pairs + g];
      const V root = simd::sqrt(x[map.at(g, g)]);
      for (int h = 0; h < g; ++h) scale_[map.at(h, g)] *= root;
      for (int h = g; h < map.groups; ++h) scale_[map.at(g, h)] = root;
      scale_[map.at(g, g)] *= root;
    }
  }

  /// V2 > 0 and V1 positive definite.
  Truth positive(const Packed& x) {
    const int k = map.groups;
    auto good = V(0) <= V(0);
    for (int g = 0; g < k; ++g) {
      good = good & (x[map.pairs + g] > V(0));
      for (int h = 0; h < k; ++h) test_[g * k + h] = x[map.at(g, h)];
    }
    return good & detail::invert_symmetric<V>(test_, k);
  }

  /// w at the nodes.
  void weigh(const GroupNodes& nodes) {
    if (static_cast<Index>(w_.size()) < nodes.size) w_.resize(nodes.size), w2_.resize(nodes.size);
    for (int j = 0; j < map.packed; ++j) x_[j] = twice(j) * v[j];
    for (Index i = 0; i < nodes.size; ++i) {
      const double* e = &nodes.e[i * nodes.stride];
      V x = point_.unit;
      for (int j = 0; j < map.packed; ++j) x += V(e[j]) * x_[j];
      w_[i] = V(1) / x;
    }
  }

  /// vh_ at v, and E w; with `square` what w^2 is under the average.
  V average(const GroupNodes& nodes, bool square) {
    weigh(nodes);
    const int n = map.packed;
    V mean_w(0);
    for (Index i = 0; i < nodes.size; ++i) {
      const V ww = V(nodes.weight[i]) * w_[i];
      mean_w += ww;
      w2_[i] = ww * w_[i];
    }
    for (int first = 0; first < n; first += 4) {
      V sum[4] = {V(0), V(0), V(0), V(0)}, sum2[4] = {V(0), V(0), V(0), V(0)};
      for (Index i = 0; i < nodes.size; ++i) {
        const double* e = &nodes.e[i * nodes.stride + first];
        const V ww = V(nodes.weight[i]) * w_[i], w2 = w2_[i];
        for (int j = 0; j < 4; ++j) {
          sum[j] += V(e[j]) * ww;
          sum2[j] += V(e[j]) * w2;
        }
      }
      for (int j = 0; j < 4 && first + j < n; ++j) {
        vh_[first + j] = point_.ratio * sum[j];
        if (!square) continue;
        n_w2_[first + j] = sum2[j];
        n_[first + j] = point_.unit * point_.ratio * sum2[j];
      }
    }
    return mean_w;
  }

  /// The averages and the map at v. `solved`: what is left of F is rounding, and would be noise in
  /// g and s.
  void evaluate(const GroupNodes& nodes, bool solved = false) {
    const V mean_w = average(nodes, true);
    const int n = map.packed;
    for (int row = 0; row < n; ++row)
      for (int first = row; first < n; first += 4) {
        V sum[4] = {V(0), V(0), V(0), V(0)};
        for (Index i = 0; i < nodes.size; ++i) {
          const double* e = &nodes.e[i * nodes.stride];
          const V w2e = w2_[i] * V(e[row]);
          for (int j = 0; j < 4; ++j) sum[j] += V(e[first + j]) * w2e;
        }
        for (int j = 0; j < 4 && first + j < n; ++j)
          m_[row * n + first + j] = m_[(first + j) * n + row] = point_.ratio * sum[j];
      }
    map.solve_at(&vh_[0], point_.lam, &mapped_[0]);
    V ridge(0);
    for (int g = 0; g < map.groups; ++g) ridge += mapped_[map.pairs + g];
    for (int j = 0; j < n; ++j) f_[j] = mapped_[j] - v[j];
    set_scale(v);
    free_ = point_.unit * point_.ratio * mean_w;
    ridge_energy_ = point_.lam * ridge;
    prepare_system(solved);
  }

  /// B, g and s of the class comment, in units of `scale_`.
  void prepare_system(bool solved) {
    const int n = map.packed;
    for (int j = 0; j < n; ++j) c_[j] = j < map.pairs ? V(0) : point_.lam;
    map.traces(&c_[0], &ridge_[0]);
    map.traces(&n_[0], &g_[0]);
    size_ = V(0);
    for (int j = 0; j < n; ++j) {
      const V rest = solved ? ridge_[j] : ridge_[j] - f_[j];
      g_[j] = g_[j] + rest;
      c2_[j] = twice(j) * rest;
      x2_[j] = twice(j) * vh_[j];
      size_ += x2_[j] * v[j];
    }
    for (int j = 0; j < n; ++j) inverse_scale_[j] = V(1) / scale_[j];
    const V inverse_size = V(1) / size_;
    sigma_ = V(0);
    for (int i = 0; i < n; ++i) {
      V x = n_[i];
      for (int j = 0; j < n; ++j) x += m_[i * n + j] * c2_[j];
      left_[i] = twice(i) * x;
      sigma_ += x2_[i] * g_[i];
    }
    for (int j = 0; j < n; ++j) {
      for (int i = 0; i < n; ++i) c_[i] = m_[i * n + j];
      map.traces(&c_[0], &c2_[0]);
      const V factor = twice(j);
      const V to = x2_[j] * inverse_size;
      for (int i = 0; i < n; ++i) {
        V x = v[i] * to - factor * c2_[i];
        if (i == j) x += V(1);
        b_[i * n + j] = x * scale_[j] * inverse_scale_[i];
      }
    }
  }

  void newton_step() {
    V projected(0);
    for (int j = 0; j < map.packed; ++j) projected += twice(j) * vh_[j] * f_[j];
    const V excess = V(1) - point_.ratio;
    const auto near_threshold = simd::abs(excess) + free_ + ridge_energy_ < size_;
    const V along = simd::select(near_threshold, excess + free_ - ridge_energy_, projected);
    solve(&f_[0], along, &x_[0]);
  }

  /// Solves (I - T M) x = c; `along` is Vh.c.
  void solve(const V* c, V along, V* x, const V* c2 = nullptr, V along2 = V(0), V* x2 = nullptr) {
    const int n = map.packed, rhs = c2 != nullptr ? 3 : 2, width = n + rhs;
    for (int i = 0; i < n; ++i) {
      V* row = &matrix_[i * width];
      const V inverse = V(1) / scale_[i];
      for (int j = 0; j < n; ++j) row[j] = b_[i * n + j];
      row[n] = g_[i] * inverse;
      row[n + 1] = c[i] * inverse;
      if (rhs == 3) row[n + 2] = c2[i] * inverse;
    }
    if (rhs == 2) {
      detail::eliminate(&matrix_[0], n, rhs, &swaps_);
      for (int i = 0; i < n; ++i) v_before_[i] = v[i], scale_before_[i] = scale_[i];
    } else {
      detail::eliminate(&matrix_[0], n, rhs);
    }
    const auto compose = [&](int column, V projection, V* result) {
      V sg(0), sc(0);
      for (int i = 0; i < n; ++i) {
        const V s = left_[i] * scale_[i];
        sg += s * matrix_[i * width + n];
        sc += s * matrix_[i * width + column];
      }
      const V t = (projection - sc) / (sigma_ - sg);
      for (int i = 0; i < n; ++i)
        result[i] =
            t * v[i] + scale_[i] * (matrix_[i * width + column] - t * matrix_[i * width + n]);
    };
    compose(n + 1, along, x);
    if (rhs == 3) compose(n + 2, along2, x2);
  }

  Point<V> point_;
  Packed vh_, n_, mapped_, f_, scale_, ridge_, g_, left_, c_, c2_, x_, x2_;
  Packed n_w2_{map.packed};  ///< E[e w^2]
  /// Where the system was last solved, for follow().
  Packed v_before_{map.packed}, scale_before_{map.packed};
  Packed inverse_scale_{map.packed};
  std::vector<detail::Swap<V>> swaps_;
  typename Bulk::Square test_;
  V size_, sigma_, free_, ridge_energy_, step_;
  GroupArray<V, n_square> m_, b_;
  GroupArray<V, n_matrix> matrix_;
  std::vector<V> w_, w2_;
};

}  // namespace srfx
