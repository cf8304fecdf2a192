// Products of a matrix of samples (rows in panels) with vectors, and the forward solve with a
// Cholesky factor.
//
// Sums are cut into pieces whose number depends on the sizes alone: results do not depend on the
// number of threads.
#pragma once

#include "srfx/simulate/linalg.hpp"

namespace srfx {

/// The leading `units` columns of a matrix of samples, as a factor of products with vectors.
/// Numbers of a vector over samples come in whole panels; what stands there beyond the last sample
/// is up to the caller.
class Samples {
 public:
  static constexpr Index mr = Panels<double>::mr;

  Samples(const Panels<double>& phi, Index units, int threads, Interrupt& interrupt)
      : phi_(phi),
        units_(units),
        threads_(threads),
        interrupt_(interrupt),
        sums_(pieces * units * lanes) {}

  Index units() const { return units_; }
  const Panels<double>& phi() const { return phi_; }
  static Index padded(Index rows) { return ceil_div(rows, mr) * mr; }

  /// f = Phi a over the first `rows` samples.
  void apply(Index rows, const double* a, double* f) const {
    const Index panels = ceil_div(rows, mr);
    parallel_for(pieces, threads_, interrupt_, [&](Index n, int) {
      for (Index i = n * panels / pieces; i < (n + 1) * panels / pieces; ++i)
        forward(i, a, f + i * mr);
    });
  }

  /// out = Phi^T z; z must be zero beyond the last sample.
  void project(Index rows, const double* z, double* out) {
    walk(rows, out, [&](Index i, double* sums) { backward(i, z + i * mr, sums); });
  }

  /// f = Phi a, then z from f, then out = Phi^T z: one walk through the matrix. `make(i, f, z)` is
  /// given the numbers of panel i and has to leave zeros beyond the last sample.
  template <class Make>
  void apply_and_project(Index rows, const double* a, double* f, double* z, double* out,
                         Make&& make) {
    walk(rows, out, [&](Index i, double* sums) {
      forward(i, a, f + i * mr);
      make(i, f + i * mr, z + i * mr);
      backward(i, z + i * mr, sums);
    });
  }

 private:
  static constexpr int lanes = Tile<double>::lanes, vectors = Tile<double>::vectors;
  static constexpr Index pieces = 16;
  using V = simd::Lanes<double, lanes>;

  template <class Work> void walk(Index rows, double* out, Work&& work) {
    const Index panels = ceil_div(rows, mr);
    parallel_for(pieces, threads_, interrupt_, [&](Index n, int) {
      double* sums = sums_.data() + n * units_ * lanes;
      std::fill_n(sums, units_ * lanes, 0.0);
      for (Index i = n * panels / pieces; i < (n + 1) * panels / pieces; ++i) work(i, sums);
    });
    reduce(out);
  }

  void forward(Index i, const double* a, double* f) const {
    constexpr Index depth = 4;
    const double* column = phi_.at(i, 0);
    V sum[depth][vectors];
    for (auto& row : sum)
      for (V& s : row) s = V(0.0);
    Index u = 0;
    for (; u + depth <= units_; u += depth)
#pragma GCC unroll 4
      for (Index q = 0; q < depth; ++q)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v)
          sum[q][v] += V::load(column + (u + q) * mr + v * lanes) * V(a[u + q]);
    for (; u < units_; ++u)
      for (int v = 0; v < vectors; ++v) sum[0][v] += V::load(column + u * mr + v * lanes) * V(a[u]);
    for (int v = 0; v < vectors; ++v)
      ((sum[0][v] + sum[1][v]) + (sum[2][v] + sum[3][v])).store(f + v * lanes);
  }

  void backward(Index i, const double* z, double* sums) const {
    const double* column = phi_.at(i, 0);
    V zs[vectors];
    for (int v = 0; v < vectors; ++v) zs[v] = V::load(z + v * lanes);
    for (Index u = 0; u < units_; ++u) {
      V s = V::load(column + u * mr) * zs[0];
#pragma GCC unroll 4
      for (int v = 1; v < vectors; ++v) s += V::load(column + u * mr + v * lanes) * zs[v];
      (V::load(sums + u * lanes) + s).store(sums + u * lanes);
    }
  }

  void reduce(double* out) const {
    constexpr Index chunk = 64;
    parallel_for(ceil_div(units_, chunk), threads_, interrupt_, [&](Index c, int) {
      for (Index u = c * chunk; u < std::min(units_, (c + 1) * chunk); ++u) {
        V total(0.0);
        for (Index n = 0; n < pieces; ++n)
          total += V::load(sums_.data() + (n * units_ + u) * lanes);
        double sum = 0;
        for (int q = 0; q < lanes; ++q) sum += total[q];
        out[u] = sum;
      }
    });
  }

  const Panels<double>& phi_;
  Index units_;
  int threads_;
  Interrupt& interrupt_;
  Buffer<double> sums_;
};

/// Solves L z = y in place for the leading `rows` rows of a factor; z holds ceil(rows/mr) mr
/// numbers, its padding is ignored.
inline void solve_forward(const PackedLower<double>& l, Index rows, double* z) {
  constexpr Index mr = PackedLower<double>::mr;
  constexpr int lanes = Tile<double>::lanes, vectors = Tile<double>::vectors;
  using V = simd::Lanes<double, lanes>;
  for (Index i = 0; i < ceil_div(rows, mr); ++i) {
    constexpr Index depth = 4;
    V sum[depth][vectors];
    for (auto& row : sum)
      for (V& s : row) s = V(0.0);
    const double* column = l.at(i, 0);
    for (Index k = 0; k < i * mr; k += depth)  // mr is a multiple of 8
#pragma GCC unroll 4
      for (Index q = 0; q < depth; ++q)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v)
          sum[q][v] += V::load(column + (k + q) * mr + v * lanes) * V(z[k + q]);
    double taken[mr];
    for (int v = 0; v < vectors; ++v)
      ((sum[0][v] + sum[1][v]) + (sum[2][v] + sum[3][v])).store(taken + v * lanes);
    for (Index r = 0; r < std::min(mr, rows - i * mr); ++r) {
      double s = z[i * mr + r] - taken[r];
      for (Index q = 0; q < r; ++q) s -= l.at(i, i * mr + q)[r] * z[i * mr + q];
      z[i * mr + r] = s / l.at(i, i * mr + r)[r];
    }
  }
}

}  // namespace srfx
