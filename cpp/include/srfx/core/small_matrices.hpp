// Small matrices: products and inverses that are each compiled once a scalar, and in lanes, a
// matrix each.
#pragma once

#include "srfx/core/dense.hpp"
#include "srfx/core/packed.hpp"

#include <cassert>
#include <complex>

namespace srfx {

// Products and inverses of small matrices, each compiled once a scalar: as expressions they take a
// minute to compile.
namespace detail {

template <class T> [[gnu::noinline]] Mat<T> mul(const Mat<T>& a, const Mat<T>& b) {
  Mat<T> out(a.rows(), b.cols());
  for (Index j = 0; j < b.cols(); ++j)
    for (Index i = 0; i < a.rows(); ++i) {
      T sum(0);
      for (Index l = 0; l < a.cols(); ++l) sum += a(i, l) * b(l, j);
      out(i, j) = sum;
    }
  return out;
}
[[gnu::noinline]] inline Eigen::VectorXd apply(const Eigen::MatrixXd& a, const Eigen::VectorXd& x) {
  Eigen::VectorXd out = Eigen::VectorXd::Zero(a.rows());
  for (Index j = 0; j < a.cols(); ++j) out += x(j) * a.col(j);
  return out;
}
template <class T> [[gnu::noinline]] Mat<T> identity(int n) { return Mat<T>::Identity(n, n); }
/// out += f a.
template <class T> [[gnu::noinline]] void add(T f, const Mat<T>& a, Mat<T>& out) { out += f * a; }
template <class T> [[gnu::noinline]] Mat<T> corner(const Mat<T>& a, int k) {
  return a.topLeftCorner(k, k);
}

using Eight = simd::Lanes<double, 8>;

inline void swap_where_larger(const Eight& by, const Eight& than, int n, Eight* a, Eight* b) {
  const auto swap = simd::abs(by) > simd::abs(than);
  for (int j = 0; j < n; ++j) {
    const Eight first = a[j], second = b[j];
    a[j] = simd::select(swap, second, first), b[j] = simd::select(swap, first, second);
  }
}
inline void swap_where_larger(const ComplexLanes& by, const ComplexLanes& than, int n,
                              ComplexLanes* a, ComplexLanes* b) {
  const auto swap = simd::abs(by.re) > simd::abs(than.re);  // imaginary parts are infinitesimal
  for (int j = 0; j < n; ++j) {
    const ComplexLanes first = a[j], second = b[j];
    a[j] = {simd::select(swap, second.re, first.re), simd::select(swap, second.im, first.im)};
    b[j] = {simd::select(swap, first.re, second.re), simd::select(swap, first.im, second.im)};
  }
}
/// Memory of a thread for sums in lanes, taken piece by piece and given back at once.
template <class V> class Scratch {
 public:
  explicit Scratch(int size) {
    static thread_local std::vector<V> pool;
    if (pool.size() < static_cast<std::size_t>(size)) pool.resize(static_cast<std::size_t>(size));
    next_ = pool.data(), end_ = next_ + pool.size();
  }
  V* take(int size) {
    V* const out = next_;
    next_ += size;
    assert(next_ <= end_);
    return out;
  }
  V* zeros(int size) {
    V* const out = take(size);
    for (int i = 0; i < size; ++i) out[i] = V(0.0);
    return out;
  }

 private:
  V *next_, *end_;
};

/// Inverts n x n matrices, one a lane, each with pivots of its own. m holds them by rows, with n
/// columns more for the result.
template <class V> void invert_lanes(int n, V* m) {
  const int row = 2 * n;
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) m[i * row + n + j] = V(i == j ? 1.0 : 0.0);
  for (int c = 0; c < n; ++c) {
    V* const own = m + c * row;
    for (int r = c + 1; r < n; ++r)
      swap_where_larger(m[r * row + c], own[c], row - c, own + c, m + r * row + c);
    const V inverse = Eight(1.0) / own[c];
    for (int j = c + 1; j < row; ++j) own[j] *= inverse;
    for (int r = 0; r < n; ++r) {
      if (r == c) continue;
      V* const other = m + r * row;
      const V factor = other[c];
      for (int j = c + 1; j < row; ++j) other[j] = other[j] - factor * own[j];
    }
  }
}

}  // namespace detail

}  // namespace srfx
