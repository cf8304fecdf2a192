// The fixed-point equations for K groups of neurons, one for each value of the initial readout (THEORY section 7).
//
//   V(k) = mu1^T V1 mu1 + sum_g mu2_g^2 V2_g,  w = 1/(unit + V),  Vh1 = a' E[mu1 mu1^T w],  A_g = lam + a' E[mu2_g^2 w]
//   J = (I + beta Vh1 D)^-1,  Gam = J Vh1,  D = diag(V2):   V2_g = pi_g/(A_g + Gam_gg),   V1 = J^T D
//
// (m, theta) is one least-squares problem and Q = (Q1, Q2) one linear system after it. GroupMap is algebra alone, for any
// scalar: double, SIMD lanes (one point a lane), complex or dual numbers. GroupSystem iterates and judges, for real ones.
#pragma once

#include "equations.hpp"
#include "scalar.hpp"
#include "solver.hpp"

#include <vector>

namespace srfx {

inline constexpr int dynamic_groups = -1;   ///< K known at run time only
#ifndef SRFX_MAX_FIXED_GROUPS
#define SRFX_MAX_FIXED_GROUPS 8
#endif
inline constexpr int max_fixed_groups = SRFX_MAX_FIXED_GROUPS;  ///< K up to this are compiled
inline constexpr int max_groups = 32;

/// N values on the stack, or as many as asked for if N < 0.
template <class V, int N> struct GroupArray {
  V values[N > 0 ? N : 1];
  explicit GroupArray(int) {}
  V& operator[](int i) { return values[i]; }
  const V& operator[](int i) const { return values[i]; }
};
template <class V> struct GroupArray<V, -1> {
  std::vector<V> values;
  explicit GroupArray(int n) : values(n) {}
  V& operator[](int i) { return values[i]; }
  const V& operator[](int i) const { return values[i]; }
};

/// Sizes. A symmetric matrix is packed as its elements g <= h, row by row; V, like everything it is compared with, as the
/// packed V1 and then V2.
template <int K> struct GroupSize {
  static constexpr int groups = K, pairs = K * (K + 1) / 2, packed = pairs + K;
  explicit GroupSize(int) {}
};
template <> struct GroupSize<dynamic_groups> {
  const int groups, pairs, packed;
  explicit GroupSize(int k) : groups(k), pairs(k * (k + 1) / 2), packed(pairs + k) {}
};

/// The coefficients of all groups on one rule in k. The weights sum to one.
struct GroupNodes {
  int groups = 0, pairs = 0, packed = 0;
  int stride = 0;  ///< of e: packed, and zeros up to a multiple of 4 and beyond
  Index size = 0;
  std::vector<double> k, weight, h, h1, rest;
  std::vector<double> e;               ///< size x stride: mu1_g mu1_h for g <= h, then mu2_g^2
  std::vector<double> mean_e;          ///< E e
  std::vector<double> mu0, mu1, kmu1;  ///< size x groups
  /// An orthonormal basis of the span of the mu0_g, as far as they can be told apart (size x rank), and what coefficients in
  /// it are in terms of the mu0_g (groups x rank): without a penalty on m, nearly parallel mu0_g are to be used no other way.
  int rank = 0;
  std::vector<double> basis, to_m;
  double target_square = 0;      ///< E s*^2, without noise
  std::vector<double> rms_mu0;
};

namespace detail {

/// Elementwise choice, for truth values of lanes and plain ones.
template <class T> SRFX_INLINE T choose(bool m, const T& a, const T& b) { return m ? a : b; }
template <class M, class T> SRFX_INLINE T choose(M m, const T& a, const T& b) { return simd::select(m, a, b); }

/// Whether |a| > |b|: what a pivot search asks.
template <class V> SRFX_INLINE auto larger(const V& a, const V& b) { return simd::abs(a) > simd::abs(b); }
template <class T> bool larger(const std::complex<T>& a, const std::complex<T>& b) { return std::norm(a) > std::norm(b); }

/// Whether a pivot is positive; complex numbers are judged by nothing here.
template <class V> SRFX_INLINE auto positive(const V& x) { return x > V(0); }
template <class T> bool positive(const std::complex<T>& x) { return x == x; }

// Dual numbers are judged by their values.
template <class M, class V> Dual<V> choose(M m, const Dual<V>& a, const Dual<V>& b) { return {simd::select(m, a.v, b.v), simd::select(m, a.d, b.d)}; }
template <class V> auto larger(const Dual<V>& a, const Dual<V>& b) { return simd::abs(a.v) > simd::abs(b.v); }
template <class V> auto positive(const Dual<V>& x) { return x.v > V(0); }

inline constexpr int index(int groups, int g, int h) { return g <= h ? g * (2 * groups - g - 1) / 2 + h : h * (2 * groups - h - 1) / 2 + g; }

/// The inverse of a symmetric K x K matrix, in place, by sweeps on the diagonal. True where all pivots are positive.
template <class V, class Matrix> SRFX_INLINE auto invert_symmetric(Matrix& a, int n) {
  auto definite = positive(V(1));
  for (int p = 0; p < n; ++p) {
    const V pivot = a[p * n + p];
    definite = definite & positive(pivot);
    const V inverse = V(1) / pivot;
    for (int i = 0; i < n; ++i) {
      if (i == p) continue;
      const V factor = a[i * n + p] * inverse;
      for (int j = i; j < n; ++j)
        if (j != p) a[j * n + i] = a[i * n + j] = a[i * n + j] - factor * a[p * n + j];
    }
    for (int i = 0; i < n; ++i)
      if (i != p) a[p * n + i] = a[i * n + p] = a[i * n + p] * inverse;
    a[p * n + p] = -inverse;
  }
  for (int i = 0; i < n * n; ++i) a[i] = -a[i];
  return definite;
}

/// Solves n equations for `rhs` right-hand sides by elimination, rows swapped in each lane as it needs. Row i of `a` holds its
/// n coefficients and then the right-hand sides, which become the solutions.
template <class V> SRFX_INLINE void eliminate(V* a, int n, int rhs) {
  const int width = n + rhs;
  for (int p = 0; p < n; ++p) {
    V* top = a + p * width;
    for (int i = p + 1; i < n; ++i) {
      V* row = a + i * width;
      const auto swap = larger(row[p], top[p]);
      if (simd::any(swap))
        for (int j = p; j < width; ++j) {
          const V x = top[j], y = row[j];
          top[j] = choose(swap, y, x);
          row[j] = choose(swap, x, y);
        }
    }
    const V inverse = V(1) / top[p];
    for (int i = p + 1; i < n; ++i) {
      V* row = a + i * width;
      const V factor = row[p] * inverse;
      for (int j = p + 1; j < width; ++j) row[j] = row[j] - factor * top[j];
    }
    top[p] = inverse;
  }
  for (int p = n; p-- > 0;) {
    V* top = a + p * width;
    for (int s = n; s < width; ++s) {
      V x = top[s];
      for (int j = p + 1; j < n; ++j) x = x - top[j] * a[j * width + s];
      top[s] = x * top[p];
    }
  }
}

}  // namespace detail

/// The map (Vh1, A) -> (V1, V2) and its derivative -T, of K groups of the isotropic bulk.
template <class V, int K> class GroupMap : public GroupSize<K> {
 public:
  using Size = GroupSize<K>;
  using Size::groups, Size::packed, Size::pairs;
  static constexpr int n_vector = K, n_square = K < 0 ? -1 : K * K, n_packed = K < 0 ? -1 : K * (K + 3) / 2, n_pairs = K < 0 ? -1 : K * (K + 1) / 2;
  using Vector = GroupArray<V, n_vector>;
  using Square = GroupArray<V, n_square>;
  using Packed = GroupArray<V, n_packed>;

  explicit GroupMap(int k)
      : Size(k), pi(k), a(k), v2(k), vh1(k * k), v1(k * k), j(k * k), gam(k * k), mx_inverse(k * k), misfit(k), twice(k * (k + 3) / 2), next_(k), row_sum_(k),
        product_(k * k), squares_(k * (k * (k + 1) / 2)) {
    for (int i = 0; i < packed; ++i) twice[i] = i < pairs ? 2 : 1;
    for (int g = 0; g < groups; ++g) twice[at(g, g)] = 1;
  }

  Vector pi;  ///< probabilities of the groups
  V beta;
  Vector a, v2;
  Square vh1, v1, j, gam, mx_inverse;
  Vector misfit;  ///< pi/V2 - A - diag Gam

  GroupArray<double, n_packed> twice;  ///< 2 for the off-diagonal elements of a packed matrix, else 1

  int at(int g, int h) const { return detail::index(groups, g, h); }

  /// Sets (Vh1, A) from packed values.
  void set(const V* vh, V lam) {
    for (int g = 0; g < groups; ++g) {
      for (int h = g; h < groups; ++h) vh1[g * groups + h] = vh1[h * groups + g] = vh[at(g, h)];
      a[g] = lam + vh[pairs + g];
    }
  }
  void start_below() {
    for (int g = 0; g < groups; ++g) v2[g] = pi[g] / (a[g] + vh1[g * groups + g]);
  }

  /// V1, J and Gam at V2, with Mx^-1 and the misfit; true where Mx is positive definite.
  ///
  /// V1 = (D^-1 + beta Vh1)^-1, J = D^-1 V1. Gam = J Vh1 where beta D Vh1 is small, (D^-1 - D^-1 V1 D^-1)/beta where it is
  /// large: neither then cancels. The diagonal of Mx comes from Mx V2 = pi/V2 - diag(Gam) + diag(J Vh1 J^T), as Gam J^T =
  /// J Vh1 J^T: a sum of positive terms (`solved`: the first two are A).
  auto resolve(bool solved = false) {
    const int k = groups;
    V trace(0);
    for (int i = 0; i < k * k; ++i) v1[i] = beta * vh1[i];
    for (int g = 0; g < k; ++g) {
      trace = trace + v1[g * k + g] * v2[g];
      v1[g * k + g] = v1[g * k + g] + V(1) / v2[g];
    }
    detail::invert_symmetric<V>(v1, k);
    for (int g = 0; g < k; ++g) {
      const V inverse = V(1) / v2[g];
      row_sum_[g] = inverse;
      for (int h = 0; h < k; ++h) j[g * k + h] = inverse * v1[g * k + h];
    }
    for (int g = 0; g < k; ++g)
      for (int h = 0; h < k; ++h) {
        V x(0);
        for (int i = 0; i < k; ++i) x = x + j[g * k + i] * vh1[i * k + h];
        product_[g * k + h] = x;
      }
    const auto small = !detail::larger(trace, V(1));
    const V inverse_beta = V(1) / beta;
    for (int g = 0; g < k; ++g)
      for (int h = g; h < k; ++h) {
        const V whole = g == h ? row_sum_[g] : V(0);
        const V other = (whole - j[g * k + h] * row_sum_[h]) * inverse_beta;
        gam[g * k + h] = gam[h * k + g] = detail::choose(small, product_[g * k + h], other);
      }
    for (int g = 0; g < k; ++g) {
      V diagonal(0), off(0);
      for (int h = 0; h < k; ++h) {
        diagonal = diagonal + product_[g * k + h] * j[g * k + h];
        const V square = beta * gam[g * k + h] * gam[g * k + h];
        if (h != g) off = off + square * v2[h];
        mx_inverse[g * k + h] = -square;
      }
      const V missing = pi[g] * row_sum_[g] - gam[g * k + g];
      misfit[g] = missing - a[g];
      mx_inverse[g * k + g] = ((solved ? a[g] : missing) + diagonal + off) * row_sum_[g];
    }
    return detail::invert_symmetric<V>(mx_inverse, k);
  }

  /// V2 after one step of Newton's method, Mx dV2 = misfit, from what resolve() left.
  void newton(V* next) const {
    for (int g = 0; g < groups; ++g) {
      V step(0);
      for (int h = 0; h < groups; ++h) step = step + mx_inverse[g * groups + h] * misfit[h];
      next[g] = v2[g] + step;
    }
  }

  /// Solves for V2, from below; the plain step pi/(A + diag Gam) wherever Newton's is not to be trusted. Real scalars.
  void solve(int max_iterations = 200) {
    start_below();
    auto active = V(0) <= V(0);
    V previous(1e-4);
    for (int iteration = 0; iteration < max_iterations; ++iteration) {
      auto usable = resolve();
      newton(&next_[0]);
      for (int g = 0; g < groups; ++g) usable = usable & (next_[g] > V(0));
      V step(0);
      for (int g = 0; g < groups; ++g) {
        next_[g] = simd::select(usable, next_[g], pi[g] / (a[g] + gam[g * groups + g]));
        step = simd::max(step, simd::abs(next_[g] - v2[g]) / next_[g]);
      }
      const auto close = (step <= V(3e-16)) | (usable & (step < previous) & (step * step * step <= V(1e-15) * previous * previous));
      const auto stalled = (step < V(1e-11)) & (step >= V(0.5) * previous);
      previous = simd::min(V(0.03), step);
      for (int g = 0; g < groups; ++g) v2[g] = simd::select(active, next_[g], v2[g]);
      active = active & !(close | stalled);
      if (!simd::any(active)) break;
    }
    resolve(true);
  }

  /// Prepares T: products of J.
  void prepare_traces() {
    for (int i = 0; i < groups; ++i)
      for (int g = 0; g < groups; ++g)
        for (int h = g; h < groups; ++h) squares_[i * pairs + at(g, h)] = j[i * groups + g] * j[i * groups + h];
  }

  /// Q = T[N1, N2] = -d(V1, V2)[N1, N2], all packed: Q2 = Mx^-1 (N2 + diag(J N1 J^T)), Q1 = J^T diag(Q2) J + beta V1 N1 V1.
  void traces(const V* n, V* q) {
    const int k = groups;
    V* q2 = q + pairs;
    for (int i = 0; i < k; ++i) {
      V x = n[pairs + i];
      const V* squares = &squares_[i * pairs];
      for (int g = 0; g < k; ++g) {
        x = x + squares[at(g, g)] * n[at(g, g)];
        for (int h = g + 1; h < k; ++h) x = x + V(2) * squares[at(g, h)] * n[at(g, h)];
      }
      next_[i] = x;
    }
    for (int i = 0; i < k; ++i) {
      V x(0);
      for (int h = 0; h < k; ++h) x = x + mx_inverse[i * k + h] * next_[h];
      q2[i] = x;
    }
    for (int g = 0; g < k; ++g)
      for (int h = 0; h < k; ++h) {
        V x(0);
        for (int i = 0; i < k; ++i) x = x + v1[g * k + i] * n[at(i, h)];
        product_[g * k + h] = beta * x;
      }
    for (int g = 0; g < k; ++g)
      for (int h = g; h < k; ++h) {
        V x(0);
        for (int i = 0; i < k; ++i) x = x + product_[g * k + i] * v1[i * k + h] + q2[i] * squares_[i * pairs + at(g, h)];
        q[at(g, h)] = x;
      }
  }

 private:
  Vector next_, row_sum_;
  Square product_;
  GroupArray<V, K < 0 ? -1 : K * n_pairs> squares_;
};

/// What a solve yields at one point: matrices K x K, vectors K.
template <class V, int K> struct GroupOrder {
  using Map = GroupMap<V, K>;
  V test_error, train_error;
  typename Map::Vector m, theta, psi, q2, v2;
  typename Map::Square q1, v1;
  V residual, amplification;
  V mean_cost;  ///< sum |m_g| rms(mu0_g)/rms(s*): by how much rounding of mu0 is amplified

  explicit GroupOrder(int k) : m(k), theta(k), psi(k), q2(k), v2(k), q1(k * k), v1(k * k) {}
};

/// Sums that tell two rules in k apart at a given V: those that the equations are made of.
template <class V> struct GroupProbe {
  std::vector<V> sums, scales;
};

/// One point (or a lane each) of K groups: Newton's method for V, then the linear part.
///
/// The Newton system (I - T M) x = c is nearly singular at small lam near the interpolation threshold, and its elements are
/// then too coarse. Both near-null vectors are known, though, and so is what I - T M makes of them (see BalancedSystem): with
/// F = map(V) - V and n = unit a' E[e w^2],
///   (I - T M) V = lam T[0,1] + T n - F =: g,    Vh^T (I - T M) = n + lam M T[0,1] - M F =: s.
/// So x = t V + y with Vh.y = 0, where B = I - T M + V Vh^T/(Vh.V) is well conditioned: B y = c - t g, and the projection on Vh
/// gives t = (Vh.c - s B^-1 c)/(Vh.g - s B^-1 g). For c = F, Vh.F = (1 - a') + unit a' E[w] - lam sum map_2 at the threshold.
template <class V, int K> class GroupSystem {
  template <class, int> friend class GroupTangent;  // group_gradient.hpp: differentiates what is found here

 public:
  using Map = GroupMap<V, K>;
  using Packed = typename Map::Packed;
  using Truth = simd::TruthOf<V>;

  explicit GroupSystem(int k)
      : map(k), v(n_of(k)), iterations(0), converged(V(0) > V(0)), vh_(n_of(k)), n_(n_of(k)), mapped_(n_of(k)), f_(n_of(k)),
        scale_(n_of(k)), ridge_(n_of(k)), g_(n_of(k)), left_(n_of(k)), c_(n_of(k)), c2_(n_of(k)), x_(n_of(k)), x2_(n_of(k)),
        test_(k * k), m_(n_of(k) * n_of(k)), b_(n_of(k) * n_of(k)), matrix_(n_of(k) * (n_of(k) + 3)) {}

  Map map;
  Packed v;
  V iterations;  ///< evaluations of the map
  Truth converged;

  /// Where the iteration starts, lam > 0: V = pi/lam, diagonal.
  void start() {
    for (int i = 0; i < map.pairs; ++i) v[i] = V(0);
    for (int g = 0; g < map.groups; ++g) v[map.at(g, g)] = v[map.pairs + g] = map.pi[g] / point_.lam;
  }
  void set_point(const Point<V>& p) { point_ = p, map.beta = p.beta; }
  const Point<V>& point() const { return point_; }

  /// Newton's method, guarded: the plain map wherever a step leaves the positive V2 or the positive definite V1.
  void newton(const GroupNodes& nodes, const NewtonSettings& settings) {
    auto active = V(0) <= V(0);
    converged = V(0) > V(0);
    iterations = V(0);
    const V tolerance(settings.tolerance);
    V previous(1e-4);
    for (int iteration = 0; iteration < settings.max_iterations && simd::any(active); ++iteration) {
      evaluate(nodes);
      newton_step();
      for (int i = 0; i < map.packed; ++i) c_[i] = v[i] + x_[i];
      const auto inside = positive(c_);
      V step(0), total(0);
      for (int i = 0; i < map.packed; ++i) c_[i] = simd::select(inside, c_[i], mapped_[i]);
      set_scale(c_);
      for (int i = 0; i < map.packed; ++i) step = simd::max(step, simd::abs(c_[i] - v[i]) / scale_[i]);
      for (int g = 0; g < map.groups; ++g) total += c_[map.pairs + g] + c_[map.at(g, g)];
      const auto close = (step <= tolerance) | (inside & (step < previous) & (step * step * step <= tolerance * previous * previous));
      const auto stalled = (step < V(1e-6)) & (step >= V(0.5) * previous);
      previous = simd::min(V(0.03), step);
      iterations += simd::select(active, V(1), V(0));
      for (int i = 0; i < map.packed; ++i) v[i] = simd::select(active, c_[i], v[i]);
      converged = converged | (active & close);
      active = active & !(close | stalled) & (total < V(infinity));
    }
  }

  /// The linear part at v, which it may still improve. `finite_d`: the ridge cost of the mean counts (THEORY section 5).
  void linear_part(const GroupNodes& nodes, bool finite_d, GroupOrder<V, K>& out) {
    const int k = map.groups, n_nodes = static_cast<int>(nodes.size);
    for (int pass = 0;; ++pass) {
      evaluate(nodes, true);
      newton_step();
      step_ = V(0);
      for (int i = 0; i < map.packed; ++i) step_ = simd::max(step_, simd::abs(x_[i]) / scale_[i]);
      const auto worth = (step_ > V(2e-13)) & (step_ < V(0.1));
      if (pass == 3 || !simd::any(worth)) break;
      for (int i = 0; i < map.packed; ++i) v[i] = simd::select(worth, v[i] + x_[i], v[i]);
    }
    const V ratio = point_.ratio, beta = point_.beta;

    // The least-squares problem for (m, theta): columns over the nodes, then a row for each penalty.
    const int n_mean = finite_d ? k : nodes.rank, n_columns = n_mean + k, n_rows = n_nodes + n_columns;
    columns_.resize(static_cast<std::size_t>(n_rows) * (n_columns + 1));
    coefficients_.resize(n_columns * (n_columns + 1));
    V* const target = &columns_[static_cast<std::size_t>(n_rows) * n_columns];
    const double* mean_columns = finite_d ? nodes.mu0.data() : nodes.basis.data();
    for (int i = 0; i < n_nodes; ++i) {
      const V root = simd::sqrt(V(nodes.weight[i]) * w_[i]);
      for (int c = 0; c < n_mean; ++c) columns_[c * n_rows + i] = root * V(mean_columns[i * n_mean + c]);
      for (int g = 0; g < k; ++g) columns_[(n_mean + g) * n_rows + i] = root * V(nodes.kmu1[i * k + g]);
      target[i] = root * V(nodes.h[i]);
    }
    for (int c = 0; c <= n_columns; ++c)
      for (int i = n_nodes; i < n_rows; ++i) columns_[c * n_rows + i] = V(0);
    penalty_.assign(n_columns, V(0));
    for (int g = 0; g < k; ++g) {
      penalty_[n_mean + g] = V(1) / (point_.alpha * v[map.pairs + g]);
      if (finite_d) penalty_[g] = point_.inverse_d * penalty_[n_mean + g];
    }
    for (int c = 0; c < n_columns; ++c) columns_[c * n_rows + n_nodes + c] = simd::sqrt(penalty_[c]);
    solution_.resize(n_columns);
    least_squares(n_rows, n_columns);

    for (int g = 0; g < k; ++g) {
      out.theta[g] = solution_[n_mean + g];
      out.m[g] = V(0);
      if (finite_d) out.m[g] = solution_[g];
      else
        for (int c = 0; c < n_mean; ++c) out.m[g] += V(nodes.to_m[g * n_mean + c]) * solution_[c];
    }
    // psi = beta V1 psih
    for (int g = 0; g < k; ++g) {
      V hat(0);
      for (int i = 0; i < n_nodes; ++i) hat += V(nodes.weight[i] * nodes.mu1[i * k + g] * nodes.h1[i]) * w_[i];
      test_[g] = ratio * hat;
    }
    for (int g = 0; g < k; ++g) {
      V x(0);
      for (int h = 0; h < k; ++h) x += map.v1[g * k + h] * test_[h];
      out.psi[g] = beta * x;
    }

    // Errors before the readout's noise: R' = rest + (h - C)^2 + (h1 - mu1.psi)^2, all positive; Q1' = Q1 - psi psi^T.
    V error(0), loss(0), loss2(0), energy(0), size(0);
    for (int j = 0; j < map.packed; ++j) c_[j] = V(0);
    for (int c = 0; c < n_columns; ++c) coefficients_[c] = V(0);
    for (int i = 0; i < n_nodes; ++i) {
      V e(nodes.h[i]), f(nodes.h1[i]);
      for (int c = 0; c < n_mean; ++c) e -= V(mean_columns[i * n_mean + c]) * solution_[c];
      for (int g = 0; g < k; ++g) {
        e -= V(nodes.kmu1[i * k + g]) * out.theta[g];
        f -= V(nodes.mu1[i * k + g]) * out.psi[g];
      }
      const V omega(nodes.weight[i]), w = w_[i], ww = omega * w;
      const V r = V(nodes.rest[i]) + e * e + f * f, noisy = r + point_.noise;
      error += omega * r;
      loss += ww * noisy;
      const V w2r = ww * w * noisy;
      loss2 += w2r;
      const double* const basis = &nodes.e[i * nodes.stride];
      for (int j = 0; j < map.packed; ++j) c_[j] += V(basis[j]) * w2r;
      const V h(nodes.h[i]), h1(nodes.h1[i]);
      energy += ww * ((h - e) * e + (h1 - f) * f);
      size += ww * (V(nodes.rest[i]) + point_.noise + h * h + h1 * h1);
      const V we = ww * e;
      for (int c = 0; c < n_mean; ++c) coefficients_[c] += we * V(mean_columns[i * n_mean + c]);
      for (int g = 0; g < k; ++g) coefficients_[n_mean + g] += we * V(nodes.kmu1[i * k + g]);
    }
    V defect_linear(0);
    for (int c = 0; c < n_columns; ++c) defect_linear += simd::abs(solution_[c] * (coefficients_[c] - penalty_[c] * solution_[c]));
    for (int j = 0; j < map.packed; ++j) c_[j] = ratio * c_[j];
    for (int g = 0; g < k; ++g) {
      const V v2 = v[map.pairs + g];
      V square = out.theta[g] * out.theta[g] + out.psi[g] * out.psi[g];
      if (finite_d) square += point_.inverse_d * out.m[g] * out.m[g];
      c_[map.pairs + g] += square / (beta * v2 * v2);
    }
    map.traces(&c_[0], &c2_[0]);
    V along(0), around(0);
    for (int j = 0; j < map.packed; ++j) {
      along += twice(j) * vh_[j] * c2_[j];
      c_[j] = mapped_[j] - ridge_[j];  // T Vh: what a relative error of the averages adds to F
      around += twice(j) * vh_[j] * c_[j];
    }
    solve(&c2_[0], along, &x_[0], &c_[0], simd::min(around, free_ + ridge_energy_), &x2_[0]);
    out.amplification = V(1);
    V train = loss2, test = error, energy_q(0);
    for (int j = 0; j < map.packed; ++j) {
      out.amplification = simd::max(out.amplification, simd::abs(x2_[j]) / scale_[j]);
      train += twice(j) * x_[j] * n_w2_[j];
      test += twice(j) * x_[j] * V(nodes.mean_e[j]);
    }
    for (int g = 0; g < k; ++g) {
      out.q2[g] = x_[map.pairs + g];
      out.v2[g] = v[map.pairs + g];
      energy_q += out.q2[g];
      for (int h = 0; h < k; ++h) {
        out.q1[g * k + h] = x_[map.at(g, h)] + out.psi[g] * out.psi[h];
        out.v1[g * k + h] = v[map.at(g, h)];
      }
    }
    out.test_error = test;
    out.train_error = point_.unit * train;
    out.mean_cost = V(0);
    for (int g = 0; g < k; ++g) out.mean_cost += simd::abs(out.m[g]) * V(nodes.rms_mu0[g]);
    if (nodes.target_square > 0) out.mean_cost = out.mean_cost * V(1 / std::sqrt(nodes.target_square));

    // Defects, relative: of the map, and the next step; of the normal equations; of the energy identity of THEORY section 7.
    V defect_map(0);
    for (int j = 0; j < map.packed; ++j) defect_map = simd::max(defect_map, simd::abs(f_[j]) / scale_[j]);
    const V defect_energy = simd::abs(out.train_error + point_.lam / ratio * energy_q - loss - energy);
    out.residual = simd::max(simd::max(defect_map, step_), simd::max(defect_energy, defect_linear) / size);
  }

  /// The averages at v that tell a rule from a denser one.
  void probe(const GroupNodes& nodes, GroupProbe<V>& out) {
    weigh(nodes);
    const int k = map.groups, n_signed = 3 * k, n_sums = map.packed + n_signed + 5 + 2 * k;
    out.sums.assign(n_sums, V(0));
    out.scales.assign(n_sums, V(0));
    V* const cross = &out.sums[map.packed];
    V* const rest = cross + n_signed;
    V* const norms = rest + 5;
    for (Index i = 0; i < nodes.size; ++i) {
      const V w = w_[i], ww = V(nodes.weight[i]) * w;
      const double h = nodes.h[i], h1 = nodes.h1[i], other = nodes.rest[i];
      for (int j = 0; j < map.packed; ++j) out.sums[j] += ww * V(nodes.e[i * nodes.stride + j]);
      for (int g = 0; g < k; ++g) {
        const double mu0 = nodes.mu0[i * k + g], kmu1 = nodes.kmu1[i * k + g];
        cross[g] += ww * V(mu0 * h);
        cross[k + g] += ww * V(kmu1 * h);
        cross[2 * k + g] += ww * V(nodes.mu1[i * k + g] * h1);
        norms[g] += ww * V(mu0 * mu0);
        norms[k + g] += ww * V(kmu1 * kmu1);
      }
      rest[0] += ww * V(h * h);
      rest[1] += ww * V(h1 * h1);
      rest[2] += ww * V(other);
      rest[3] += ww * w * V(h * h + h1 * h1 + other);
      rest[4] += ww * w;
    }
    const V target = rest[0] + rest[1] + rest[2];
    for (int g = 0; g < k; ++g)
      for (int h = g; h < k; ++h) out.scales[map.at(g, h)] = simd::sqrt(out.sums[map.at(g, g)] * out.sums[map.at(h, h)]);
    V all(0);
    for (int g = 0; g < k; ++g) all += out.sums[map.pairs + g];
    for (int g = 0; g < k; ++g) {
      out.scales[map.pairs + g] = simd::max(out.sums[map.pairs + g], V(1e-3) * all);
      const V sizes[3] = {norms[g], norms[k + g], out.sums[map.at(g, g)]};
      for (int s = 0; s < 3; ++s)
        out.scales[map.packed + s * k + g] = simd::max(simd::abs(cross[s * k + g]), V(0.01) * simd::sqrt(sizes[s] * target));
    }
    for (int s = 0; s < 5; ++s) out.scales[map.packed + n_signed + s] = s < 3 ? target : rest[s];
    for (int s = 0; s < 2 * k; ++s) out.scales[map.packed + n_signed + 5 + s] = norms[s];
  }
  static V difference(const GroupProbe<V>& a, const GroupProbe<V>& b) {
    V worst(0);
    for (std::size_t s = 0; s < a.sums.size(); ++s)
      worst = simd::max(worst, simd::select(b.scales[s] > V(1e-280), simd::abs(a.sums[s] - b.sums[s]) / b.scales[s], V(0)));
    return worst;
  }

 private:
  static constexpr int n_square = Map::n_packed < 0 ? -1 : Map::n_packed * Map::n_packed;
  static constexpr int n_matrix = Map::n_packed < 0 ? -1 : Map::n_packed * (Map::n_packed + 3);
  static int n_of(int k) { return k * (k + 3) / 2; }

  V twice(int j) const { return V(map.twice[j]); }

  void set_scale(const Packed& x) {
    for (int g = 0; g < map.groups; ++g) {
      scale_[map.pairs + g] = x[map.pairs + g];
      for (int h = g; h < map.groups; ++h) scale_[map.at(g, h)] = simd::sqrt(x[map.at(g, g)] * x[map.at(h, h)]);
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

  /// The averages and the map at v. `solved`: what is left of F is rounding, and would be noise in g and s.
  void evaluate(const GroupNodes& nodes, bool solved = false) {
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
        n_w2_[first + j] = sum2[j];
        n_[first + j] = point_.unit * point_.ratio * sum2[j];
      }
    }
    for (int row = 0; row < n; ++row)
      for (int first = row; first < n; first += 4) {
        V sum[4] = {V(0), V(0), V(0), V(0)};
        for (Index i = 0; i < nodes.size; ++i) {
          const double* e = &nodes.e[i * nodes.stride];
          const V w2e = w2_[i] * V(e[row]);
          for (int j = 0; j < 4; ++j) sum[j] += V(e[first + j]) * w2e;
        }
        for (int j = 0; j < 4 && first + j < n; ++j) m_[row * n + first + j] = m_[(first + j) * n + row] = point_.ratio * sum[j];
      }
    map.set(&vh_[0], point_.lam);
    map.solve();
    map.prepare_traces();
    V ridge(0);
    for (int g = 0; g < map.groups; ++g) {
      mapped_[map.pairs + g] = map.v2[g];
      ridge += map.v2[g];
      for (int h = g; h < map.groups; ++h) mapped_[map.at(g, h)] = map.v1[g * map.groups + h];
    }
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
        b_[i * n + j] = x * scale_[j] / scale_[i];
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
    detail::eliminate(&matrix_[0], n, rhs);
    const auto compose = [&](int column, V projection, V* result) {
      V sg(0), sc(0);
      for (int i = 0; i < n; ++i) {
        const V s = left_[i] * scale_[i];
        sg += s * matrix_[i * width + n];
        sc += s * matrix_[i * width + column];
      }
      const V t = (projection - sc) / (sigma_ - sg);
      for (int i = 0; i < n; ++i) result[i] = t * v[i] + scale_[i] * (matrix_[i * width + column] - t * matrix_[i * width + n]);
    };
    compose(n + 1, along, x);
    if (rhs == 3) compose(n + 2, along2, x2);
  }

  /// Least squares by modified Gram-Schmidt, the target carried along as one more column.
  void least_squares(int n_rows, int n_columns) {
    for (int c = 0; c < n_columns; ++c) {
      const V* const q = &columns_[static_cast<std::size_t>(c) * n_rows];
      V square(0);
      for (int i = 0; i < n_rows; ++i) square += q[i] * q[i];
      const V inverse = simd::select(square > V(0), V(1) / square, V(0));
      for (int l = c + 1; l <= n_columns; ++l) {
        V* const other = &columns_[static_cast<std::size_t>(l) * n_rows];
        V product(0);
        for (int i = 0; i < n_rows; ++i) product += q[i] * other[i];
        product *= inverse;
        for (int i = 0; i < n_rows; ++i) other[i] -= product * q[i];
        coefficients_[c * (n_columns + 1) + l] = product;
      }
    }
    for (int c = n_columns; c-- > 0;) {
      V x = coefficients_[c * (n_columns + 1) + n_columns];
      for (int l = c + 1; l < n_columns; ++l) x -= coefficients_[c * (n_columns + 1) + l] * solution_[l];
      solution_[c] = x;
    }
  }

  Point<V> point_;
  Packed vh_, n_, mapped_, f_, scale_, ridge_, g_, left_, c_, c2_, x_, x2_;
  Packed n_w2_{map.packed};  ///< E[e w^2]
  typename Map::Square test_;
  V size_, sigma_, free_, ridge_energy_, step_;
  GroupArray<V, n_square> m_, b_;
  GroupArray<V, n_matrix> matrix_;
  std::vector<V> w_, w2_, columns_, coefficients_, penalty_, solution_;
};

}  // namespace srfx
