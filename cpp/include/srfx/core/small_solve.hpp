// Linear systems of a size known at compile time, on the stack.
#pragma once

#include <array>
#include <cmath>
#include <utility>

namespace srfx {

/// Solves a x = b for `columns` right-hand sides in place of b, with partial pivoting of rows
/// scaled to their largest entries. False where a is singular.
template <int n, int columns>
bool solve_in_place(std::array<std::array<double, n>, n>& a,
                    std::array<std::array<double, columns>, n>& b) {
  std::array<double, n> scale;
  for (int i = 0; i < n; ++i) {
    scale[i] = 0;
    for (int j = 0; j < n; ++j) scale[i] = std::max(scale[i], std::abs(a[i][j]));
    if (!(scale[i] > 0)) return false;
  }
  for (int c = 0; c < n; ++c) {
    int pivot = c;
    for (int i = c + 1; i < n; ++i)
      if (std::abs(a[i][c]) * scale[pivot] > std::abs(a[pivot][c]) * scale[i]) pivot = i;
    std::swap(a[c], a[pivot]), std::swap(b[c], b[pivot]), std::swap(scale[c], scale[pivot]);
    if (!(std::abs(a[c][c]) > 0)) return false;
    for (int i = c + 1; i < n; ++i) {
      const double f = a[i][c] / a[c][c];
      if (f == 0) continue;
      for (int j = c; j < n; ++j) a[i][j] -= f * a[c][j];
      for (int j = 0; j < columns; ++j) b[i][j] -= f * b[c][j];
    }
  }
  for (int i = n - 1; i >= 0; --i)
    for (int k = 0; k < columns; ++k) {
      for (int j = i + 1; j < n; ++j) b[i][k] -= a[i][j] * b[j][k];
      b[i][k] /= a[i][i];
    }
  return true;
}

}  // namespace srfx
