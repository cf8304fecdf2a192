// The fit of features against the kernel K of a bulk (THEORY 9 e and 10), for any number of kinds
// and groups.
//
// With R the triangular factor of the weighted design and b = Q^T sqrt(w) h, the coefficients x and
// the hats solve
//
//   hats = a' R^T eta,   eta = b - R x,   x = K hats + kz:   (1 + a' R K R^T) eta = b - R kz
//
// The first `skip` features cost nothing (means at d = inf): their rows of eta vanish, and they
// take what the others leave.
#pragma once

#include "srfx/bulk/group_map.hpp"

namespace srfx {

/// r: rows x n, upper triangular, and k: n x n, both by rows. A free feature that vanishes is not
/// used. `work` is room for rows (2 n + 1) numbers.
template <class T>
void fit_against_kernel(int rows, int n, int skip, const T* r, const T* b, const T* k, const T* kz,
                        const T& ratio, T* hats, T* x, T* work) {
  const int kept = rows - skip, width = kept + 1;
  T *const system = work, *const rk = work + kept * width;
  for (int i = 0; i < kept; ++i) {
    const T* const row = r + (skip + i) * n;
    T rest = b[skip + i];
    for (int q = skip; q < n; ++q) {
      T sum(0);
      for (int p = skip + i; p < n; ++p) sum += row[p] * k[p * n + q];
      rk[i * n + q] = sum;
      rest -= row[q] * kz[q];
    }
    system[i * width + kept] = rest;
  }
  for (int i = 0; i < kept; ++i)
    for (int j = 0; j < kept; ++j) {
      T sum(0);
      for (int q = skip + j; q < n; ++q) sum += rk[i * n + q] * r[(skip + j) * n + q];
      system[i * width + j] = (i == j ? T(1) : T(0)) + ratio * sum;
    }
  detail::eliminate(system, kept, 1);
  for (int q = 0; q < n; ++q) {
    hats[q] = T(0);
    for (int i = 0; i < kept && q >= skip; ++i)
      hats[q] += ratio * r[(skip + i) * n + q] * system[i * width + kept];
  }
  for (int q = skip; q < n; ++q) {
    x[q] = kz[q];
    for (int p = skip; p < n; ++p) x[q] += k[q * n + p] * hats[p];
  }
  for (int c = skip; c-- > 0;) {
    T rest = b[c];
    for (int l = c + 1; l < n; ++l) rest -= r[c * n + l] * x[l];
    x[c] = detail::choose(magnitude(r[c * n + c]) > 0, rest / r[c * n + c], T(0));
  }
}

}  // namespace srfx
