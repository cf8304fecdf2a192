// K groups of neurons, one for each value of the initial readout: their coefficients on a rule in
// k, and their isotropic bulk, the map (Vh1, A) -> (V1, V2) (THEORY section 7).
//
//   J = (I + beta Vh1 D)^-1,   Gam = J Vh1,   D = diag(V2)
//   V2_g = pi_g/(A_g + Gam_gg),   V1 = J^T D
//
// Algebra alone, for any scalar: double, SIMD lanes (one point a lane), complex or dual numbers.
#pragma once

#include "srfx/bulk/bulk.hpp"
#include "srfx/gaussian/coefficients.hpp"

#include <cstddef>
#include <type_traits>
#include <vector>

namespace srfx {

inline constexpr int dynamic_groups = -1;  ///< K known at run time only
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

/// Sizes. A symmetric matrix is packed as its elements g <= h, row by row; V, like everything it is
/// compared with, as the packed V1 and then V2.
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
  int spikes = 1;      ///< q; k mu1 stands for one column a spike and group
  int directions = 1;  ///< of the target that the spikes leave, each with an h1
  int stride = 0;      ///< of e: packed, and zeros up to a multiple of 4 and beyond
  Index size = 0;
  std::vector<double> k;  ///< size x spikes
  std::vector<double> weight, h, rest;
  std::vector<double> h1;        ///< size x directions
  std::vector<double> e;         ///< size x stride: mu1_g mu1_h for g <= h, then mu2_g^2
  std::vector<double> mean_e;    ///< E e
  std::vector<double> mu0, mu1;  ///< size x groups
  std::vector<double> kmu1;      ///< size x spikes x groups
  /// An orthonormal basis of the span of the mu0_g, as far as they can be told apart (size x rank),
  /// and what coefficients in it are in terms of the mu0_g (groups x rank): without a penalty on m,
  /// nearly parallel mu0_g are to be used no other way.
  int rank = 0;
  std::vector<double> basis, to_m;
  double target_square = 0;  ///< E s*^2, without noise
  std::vector<double> rms_mu0;

  int n_columns() const { return spikes * groups; }  ///< of k mu1
};

namespace detail {

/// Whether |a| > |b|: what a pivot search asks.
template <class V> SRFX_INLINE auto larger(const V& a, const V& b) {
  return simd::abs(a) > simd::abs(b);
}
template <class T> bool larger(const std::complex<T>& a, const std::complex<T>& b) {
  return std::norm(a) > std::norm(b);
}

/// Whether a pivot is positive; complex numbers are judged by nothing here.
template <class V> SRFX_INLINE auto positive(const V& x) { return x > V(0); }
template <class T> bool positive(const std::complex<T>& x) { return x == x; }

// Dual numbers are judged by their values.
template <class V> auto larger(const Dual<V>& a, const Dual<V>& b) {
  return simd::abs(a.v) > simd::abs(b.v);
}
template <class V> auto positive(const Dual<V>& x) { return x.v > V(0); }

inline constexpr int index(int groups, int g, int h) {
  return g <= h ? g * (2 * groups - g - 1) / 2 + h : h * (2 * groups - h - 1) / 2 + g;
}

/// The inverse of a symmetric K x K matrix, in place, by sweeps on the diagonal. True where all
/// pivots are positive.
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

/// Rows that an elimination swapped at a pivot, in some lanes.
template <class V> struct Swap {
  int pivot, row;
  simd::TruthOf<V> where;
};

/// Solves n equations for `rhs` right-hand sides by elimination, rows swapped in each lane as it
/// needs. Row i of `a` holds its n coefficients and then the right-hand sides, which become the
/// solutions. `kept`: the swaps, with which and with what `a` becomes eliminate_again works.
template <class V, class Swaps = std::nullptr_t>
SRFX_INLINE void eliminate(V* a, int n, int rhs, [[maybe_unused]] Swaps kept = nullptr) {
  const int width = n + rhs;
  if constexpr (!std::is_null_pointer_v<Swaps>) kept->clear();
  for (int p = 0; p < n; ++p) {
    V* top = a + p * width;
    for (int i = p + 1; i < n; ++i) {
      V* row = a + i * width;
      const auto swap = larger(row[p], top[p]);
      if (!simd::any(swap)) continue;
      if constexpr (!std::is_null_pointer_v<Swaps>) kept->push_back({p, i, swap});
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

/// The same equations for another right-hand side b, which becomes the solution.
template <class V>
SRFX_INLINE void eliminate_again(const V* a, int n, int width, const std::vector<Swap<V>>& swaps,
                                 V* b) {
  auto next = swaps.begin();
  for (int p = 0; p < n; ++p) {
    for (; next != swaps.end() && next->pivot == p; ++next) {
      const V x = b[p], y = b[next->row];
      b[p] = choose(next->where, y, x), b[next->row] = choose(next->where, x, y);
    }
    const V scaled = b[p] * a[p * width + p];
    for (int i = p + 1; i < n; ++i) b[i] = b[i] - a[i * width + p] * scaled;
  }
  for (int p = n; p-- > 0;) {
    V x = b[p];
    for (int j = p + 1; j < n; ++j) x = x - a[p * width + j] * b[j];
    b[p] = x * a[p * width + p];
  }
}

}  // namespace detail

/// The map (Vh1, A) -> (V1, V2) and its derivative -T, of K groups of the isotropic bulk.
template <class V, int K> class GroupMap : public GroupSize<K> {
 public:
  using Size = GroupSize<K>;
  using Size::groups, Size::packed, Size::pairs;
  static constexpr int n_vector = K, n_square = K < 0 ? -1 : K * K,
                       n_packed = K < 0 ? -1 : K * (K + 3) / 2,
                       n_pairs = K < 0 ? -1 : K * (K + 1) / 2;
  using Vector = GroupArray<V, n_vector>;
  using Square = GroupArray<V, n_square>;
  using Packed = GroupArray<V, n_packed>;

  explicit GroupMap(int k)
      : Size(k),
        pi(k),
        a(k),
        v2(k),
        vh1(k * k),
        v1(k * k),
        j(k * k),
        gam(k * k),
        mx_inverse(k * k),
        misfit(k),
        twice(k * (k + 3) / 2),
        next_(k),
        row_sum_(k),
        product_(k * k),
        squares_(k * (k * (k + 1) / 2)) {
    for (int i = 0; i < packed; ++i) twice[i] = i < pairs ? 2 : 1;
    for (int g = 0; g < groups; ++g) twice[at(g, g)] = 1;
  }

  Vector pi;  ///< probabilities of the groups
  V beta;
  Vector a, v2;
  Square vh1, v1, j, gam, mx_inverse;
  Vector misfit;  ///< pi/V2 - A - diag Gam

  GroupArray<double, n_packed>
      twice;  ///< 2 for the off-diagonal elements of a packed matrix, else 1

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
  /// V1 = (D^-1 + beta Vh1)^-1, J = D^-1 V1. Gam = J Vh1 where beta D Vh1 is small, (D^-1 - D^-1 V1
  /// D^-1)/beta where it is large: neither then cancels. The diagonal of Mx comes from Mx V2 =
  /// pi/V2 - diag(Gam) + diag(J Vh1 J^T), as Gam J^T = J Vh1 J^T: a sum of positive terms
  /// (`solved`: the first two are A).
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

  /// Solves for V2, from below; the plain step pi/(A + diag Gam) wherever Newton's is not to be
  /// trusted. Real scalars.
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
      const auto close =
          (step <= V(3e-16)) |
          (usable & (step < previous) & (step * step * step <= V(1e-15) * previous * previous));
      const auto stalled = (step < V(1e-11)) & (step >= V(0.5) * previous);
      previous = simd::min(V(0.03), step);
      for (int g = 0; g < groups; ++g) v2[g] = simd::select(active, next_[g], v2[g]);
      active = active & !(close | stalled);
      if (!simd::any(active)) break;
    }
    resolve(true);
  }

  /// V at (Vh1, A), packed, and T there: what a solver asks of the bulk of groups. This one always
  /// has an answer.
  void solve_at(const V* vh, const V& lam, V* value) {
    set(vh, lam);
    solve();
    prepare_traces();
    for (int g = 0; g < groups; ++g) {
      value[pairs + g] = v2[g];
      for (int h = g; h < groups; ++h) value[at(g, h)] = v1[g * groups + h];
    }
  }
  static constexpr bool failed() { return false; }

  /// Prepares T: products of J.
  void prepare_traces() {
    for (int i = 0; i < groups; ++i)
      for (int g = 0; g < groups; ++g)
        for (int h = g; h < groups; ++h)
          squares_[i * pairs + at(g, h)] = j[i * groups + g] * j[i * groups + h];
  }

  /// Q = T[N1, N2] = -d(V1, V2)[N1, N2], all packed: Q2 = Mx^-1 (N2 + diag(J N1 J^T)), Q1 = J^T
  /// diag(Q2) J + beta V1 N1 V1.
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
        for (int i = 0; i < k; ++i)
          x = x + product_[g * k + i] * v1[i * k + h] + q2[i] * squares_[i * pairs + at(g, h)];
        q[at(g, h)] = x;
      }
  }

 private:
  Vector next_, row_sum_;
  Square product_;
  GroupArray < V, K<0 ? -1 : K * n_pairs> squares_;
};

}  // namespace srfx
