// What a bulk that is correlated with the spike and the target says of that (THEORY 9 d and 14).
#pragma once

#include "srfx/bulk/bulk.hpp"
#include "srfx/core/scalar.hpp"

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

  Overlaps() = default;
  /// From the overlaps P of (1 + b Sigma)^-1 on the frame (vhat, zhat_1, .., zhat_L', L), by rows.
  Overlaps(int n_directions, const Along<T>& b, const Along<T>* p, const T& c_delta)
      : directions(n_directions) {
    using S = Along<T>;
    const int n = directions + 2, last = n - 1;
    const S& vv = p[0];
    k[0][0] = S(1) / vv - S(1);
    for (int i = 1; i < last; ++i) {
      k[0][i] = k[i][0] = -p[i] / vv;
      for (int j = 1; j < last; ++j) {
        rest[i - 1][j - 1] = p[i * n + j] - p[i] * p[j] / vv;
        k[i][j] = (i == j ? S(1) : S(0)) - rest[i - 1][j - 1];
      }
      k[i][last] = k[last][i] = b * (p[i * n + last] - p[last] * p[i] / vv);
    }
    k[0][last] = k[last][0] = b * p[last] / vv;
    k[last][last] = b * S(c_delta) - b * b * (p[last * n + last] - p[last] * p[last] / vv);
  }
  /// 1 - K_zz from K.
  void set_rest() {
    for (int i = 0; i < directions; ++i)
      for (int j = 0; j < directions; ++j)
        rest[i][j] = Along<T>(T(i == j ? 1 : 0)) - k[1 + i][1 + j];
  }
  /// To the unit-bulk convention, for bulk variance c = root^2.
  void to_unit_bulk(const T& variance, const T& root) {
    const int last = delta();
    for (int i = 0; i < last; ++i) k[i][last] = k[last][i] = k[i][last] * Along<T>(root);
    k[last][last] = k[last][last] * Along<T>(variance);
    c = variance;
  }

  int size() const { return directions + 2; }
  int delta() const { return directions + 1; }
};

}  // namespace srfx
