// Dense products, Gram matrices and Cholesky factors on packed panels, threaded.
//
//   multiply       C (+)= A B^T                        rank-k update  C += A A^T, lower part
//   cholesky       G = L L^T, right-looking by blocks  solves         L z = y, L^T a = z
//
// The kernel is the outer-product scheme of K. Goto, R. A. van de Geijn, ACM TOMS 34 (2008) 12: mr
// x nr sums stay in registers, the right operand's sliver in L1, the left operand's block in L2.
// bench/bench_simulation.py measures it beside NumPy's BLAS.
//
// Sums run in an order fixed by the sizes alone: results do not depend on the number of threads.
#pragma once

#include "srfx/core/parallel.hpp"
#include "srfx/core/simd.hpp"
#include "srfx/core/types.hpp"
#include "srfx/simulate/panels.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace srfx {

namespace linalg_detail {

template <class T> inline void prefetch(const T* p) { __builtin_prefetch(p); }

enum class Mode { set, add, subtract };

/// C[mr x nr] = / += / -= sum over k of a_k b_k^T: column k of `a` at a + k mr, of `b` at b + k mr
/// (nr of its rows).
template <class T, Mode mode>
inline void kernel(Index depth, const T* __restrict a, const T* __restrict b, T* __restrict c) {
  constexpr int lanes = Tile<T>::lanes, vectors = Tile<T>::vectors, mr = Tile<T>::mr,
                nr = Tile<T>::nr;
  using V = simd::Lanes<T, lanes>;
  V sum[nr][vectors];
#pragma GCC unroll 8
  for (int j = 0; j < nr; ++j)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sum[j][v] = V(T(0));
      prefetch(c + j * mr + v * lanes);
    }
  for (Index k = 0; k < depth; ++k) {
    V x[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) x[v] = V::load(a + v * lanes);
#pragma GCC unroll 8
    for (int j = 0; j < nr; ++j) {
      const V y(b[j]);
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[j][v] += x[v] * y;
    }
    a += mr;
    b += mr;
  }
#pragma GCC unroll 8
  for (int j = 0; j < nr; ++j)
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      T* out = c + j * mr + v * lanes;
      if constexpr (mode == Mode::set) sum[j][v].store(out);
      else if constexpr (mode == Mode::add) (V::load(out) + sum[j][v]).store(out);
      else (V::load(out) - sum[j][v]).store(out);
    }
}

}  // namespace linalg_detail

/// One block of C (+)= A B^T on one thread: panels [i0, i1) of A against the row groups [j0, j1)
/// (of nr rows) of B.
///
/// `extent(i, g)` is the number of leading columns of A and B that matter for that piece
/// (triangular operands have fewer); `done(i, j0, j1)` is called when panel i of the block is
/// complete. With `accumulate` C keeps what it had.
template <class T, class A, class B, class C, class Extent, class Done>
void multiply_block(const A& a, const B& b, C& c, Index i0, Index i1, Index j0, Index j1,
                    Index columns, bool accumulate, Extent&& extent, Done&& done) {
  using namespace linalg_detail;
  constexpr Index mr = Tile<T>::mr, nr = Tile<T>::nr, depth = Tile<T>::depth, per_panel = mr / nr;
  for (Index k = 0; k < columns || k == 0; k += depth) {
    const Index stop = std::min(columns, k + depth);
    for (Index g = j0; g < j1; ++g) {
      const T* right = b.at(g / per_panel, k) + (g % per_panel) * nr;
      const Index next = std::min(g + 1, j1 - 1);
      const T* ahead = b.at(next / per_panel, k) + (next % per_panel) * nr;
      for (Index i = i0; i < i1; ++i) {
        // A share of the next sliver of B, on its way from beyond L2 meanwhile.
        for (Index q = (i - i0) * (stop - k) / (i1 - i0); q < (i - i0 + 1) * (stop - k) / (i1 - i0);
             ++q)
          prefetch(ahead + q * mr);
        const Index length = std::min(stop, extent(i, g)) - k;
        T* out = c.at(i, g * nr);
        if (k == 0 && !accumulate)
          kernel<T, Mode::set>(std::max<Index>(length, 0), a.at(i, k), right, out);
        else if (length > 0) kernel<T, Mode::add>(length, a.at(i, k), right, out);
      }
    }
  }
  for (Index i = i0; i < i1; ++i) done(i, j0, j1);
}

/// A rectangle of work: panels [i0, i1), row groups [j0, j1).
struct Piece {
  Index i0, i1, j0, j1;
};

/// Ends of `count` things cut into equal blocks of at most `most`: a short last block would run at
/// a fraction of the speed.
inline std::vector<Index> cuts(Index count, Index most) {
  const Index blocks = std::max<Index>(1, ceil_div(count, most));
  std::vector<Index> out;
  for (Index b = 0; b <= blocks; ++b) out.push_back(b * count / blocks);
  return out;
}

/// Cuts `panels` x `groups` into blocks of at most those sizes, last rows first: in a triangle they
/// are the longest.
inline std::vector<Piece> pieces_of(Index panels, Index groups, Index most_panels,
                                    Index most_groups) {
  const std::vector<Index> rows = cuts(panels, most_panels), columns = cuts(groups, most_groups);
  std::vector<Piece> pieces;
  for (std::size_t i = rows.size() - 1; i > 0; --i)
    for (std::size_t j = columns.size() - 1; j > 0; --j)
      pieces.push_back({rows[i - 1], rows[i], columns[j - 1], columns[j]});
  return pieces;
}

/// C (+)= A B^T for the first `columns` columns; C has A's rows as rows and B's rows as columns.
template <class T>
void multiply(const Panels<T>& a, const Panels<T>& b, Panels<T>& c, Index columns, bool accumulate,
              int threads, Interrupt& interrupt) {
  constexpr Index nr = Tile<T>::nr, block = Tile<T>::block;
  const std::vector<Piece> pieces =
      pieces_of(a.count(), ceil_div(b.rows(), nr), block, block * Tile<T>::mr / nr);
  parallel_for(static_cast<Index>(pieces.size()), threads, interrupt, [&](Index n, int) {
    const Piece& q = pieces[n];
    multiply_block<T>(
        a, b, c, q.i0, q.i1, q.j0, q.j1, columns, accumulate,
        [columns](Index, Index) { return columns; }, [](Index, Index, Index) {});
  });
}

/// G += A A^T, lower triangle, for the first `columns` columns of A: panels first to last of G, all
/// of them where that is -1.
template <class T>
void rank_update(const Panels<T>& a, Index columns, PackedLower<T>& g, int threads,
                 Interrupt& interrupt, Index first = 0, Index last = -1) {
  constexpr Index nr = Tile<T>::nr, mr = Tile<T>::mr, block = Tile<T>::block;
  constexpr Index per_panel = mr / nr;
  const std::vector<Index> rows = cuts(last < 0 ? std::min(a.count(), g.count()) : last, block);
  std::vector<Piece> pieces;
  for (std::size_t i = rows.size() - 1; i > 0 && rows[i] > first; --i)
    for (std::size_t j = 1; j <= i; ++j)
      pieces.push_back(
          {std::max(first, rows[i - 1]), rows[i], rows[j - 1] * per_panel, rows[j] * per_panel});
  parallel_for(static_cast<Index>(pieces.size()), threads, interrupt, [&](Index n, int) {
    const Piece& q = pieces[n];
    const Index j0 = q.j0, j1 = q.j1;
    if (j1 <= q.i0 * per_panel) {
      multiply_block<T>(
          a, a, g, q.i0, q.i1, j0, j1, columns, true, [columns](Index, Index) { return columns; },
          [](Index, Index, Index) {});
    } else {  // a block on the diagonal: nothing to the right of each panel's own square
      multiply_block<T>(
          a, a, g, q.i0, q.i1, j0, j1, columns, true,
          [columns](Index i, Index group) {
            return group < (i + 1) * (Tile<T>::mr / Tile<T>::nr) ? columns : 0;
          },
          [](Index, Index, Index) {});
    }
  });
}

namespace linalg_detail {

/// x L^T = c for an mr x nr piece and the nr x nr triangle `l` (row j at l + j, column k at k mr),
/// diagonal inverted in `inverse`.
template <class T> inline void solve_tile(T* c, const T* l, const T* inverse) {
  constexpr int lanes = Tile<T>::lanes, vectors = Tile<T>::vectors, mr = Tile<T>::mr,
                nr = Tile<T>::nr;
  using V = simd::Lanes<T, lanes>;
  for (int v = 0; v < vectors; ++v) {
    V x[nr];
#pragma GCC unroll 8
    for (int j = 0; j < nr; ++j) {
      V s = V::load(c + j * mr + v * lanes);
      for (int k = 0; k < j; ++k) s -= x[k] * V(l[k * mr + j]);
      x[j] = s * V(inverse[j]);
      x[j].store(c + j * mr + v * lanes);
    }
  }
}

/// Right-looking block Cholesky on a PackedLower, in place.
template <class T> class Factorisation {
 public:
  static constexpr Index mr = Tile<T>::mr, nr = Tile<T>::nr, per_panel = mr / nr;
  static constexpr Index block = Tile<T>::factor_block;

  Factorisation(PackedLower<T>& g, T least)
      : g_(g),
        least_(least),
        inverse_(static_cast<std::size_t>(g.count() * mr)) {}

  /// False if a pivot is not above `least`.
  bool run(int threads, Interrupt& interrupt) {
    const Index panels = g_.count();
    if (!diagonal(0, std::min(block, panels))) return false;
    for (Index p0 = 0; p0 < panels; p0 += block) {
      const Index p1 = std::min(p0 + block, panels), p2 = std::min(p1 + block, panels);
      if (p1 == panels) break;
      constexpr Index strip = 2;
      parallel_for(ceil_div(panels - p1, strip), threads, interrupt, [&](Index n, int) {
        for (Index i = p1 + n * strip; i < std::min(p1 + (n + 1) * strip, panels); ++i)
          for (Index c = p0 * mr; c < p1 * mr; c += nr) solve_group(i, p0, c);
      });
      // The trailing update. Its first piece also factorises the next diagonal block, off
      // everybody's critical path.
      std::vector<Piece> pieces{{p1, p2, p1, p2}};
      constexpr Index half = (block + 1) / 2;
      for (Index j = p1; j < panels; j += block)
        for (Index i = j == p1 ? p2 : j; i < panels; i += half)
          pieces.push_back({i, std::min(i + half, panels), j, std::min(j + block, panels)});
      bool positive = true;
      parallel_for(static_cast<Index>(pieces.size()), threads, interrupt, [&](Index n, int) {
        const Piece& q = pieces[n];
        for (Index group = q.j0 * per_panel; group < q.j1 * per_panel; ++group) {
          const T* right = g_.at(group / per_panel, p0 * mr) + (group % per_panel) * nr;
          const Index next = std::min(group + 1, q.j1 * per_panel - 1), depth = (p1 - p0) * mr,
                      rows = q.i1 - q.i0;
          const T* ahead = g_.at(next / per_panel, p0 * mr) + (next % per_panel) * nr;
          for (Index i = std::max(q.i0, group / per_panel); i < q.i1; ++i) {
            for (Index k = (i - q.i0) * depth / rows; k < (i - q.i0 + 1) * depth / rows; ++k)
              prefetch(ahead + k * mr);
            kernel<T, Mode::subtract>(depth, g_.at(i, p0 * mr), right, g_.at(i, group * nr));
          }
        }
        if (n == 0) positive = diagonal(p1, p2);
      });
      if (!positive) return false;
    }
    return true;
  }

 private:
  /// Columns [c, c + nr) of panel i, given the panel's columns from p0 mr on and the factor's rows
  /// c .. c + nr - 1.
  void solve_group(Index i, Index p0, Index c) {
    const Index owner = c / mr, row = c % mr;
    T* tile = g_.at(i, c);
    if (c > p0 * mr)
      kernel<T, Mode::subtract>(c - p0 * mr, g_.at(i, p0 * mr), g_.at(owner, p0 * mr) + row, tile);
    solve_tile<T>(tile, g_.at(owner, c) + row, inverse_.data() + c);
  }

  /// Factorises the square of panels [p0, p1): left-looking, nr columns at a time.
  bool diagonal(Index p0, Index p1) {
    for (Index c = p0 * mr; c < p1 * mr; c += nr) {
      const Index owner = c / mr, row = c % mr;
      T* tile = g_.at(owner, c);
      if (c > p0 * mr)
        kernel<T, Mode::subtract>(c - p0 * mr, g_.at(owner, p0 * mr), g_.at(owner, p0 * mr) + row,
                                  tile);
      // The nr x nr triangle, then the rest of its panel: rows above the diagonal hold nothing and
      // are cleared.
      T l[nr][nr];
      for (int j = 0; j < nr; ++j) {
        for (int k = 0; k <= j; ++k) {
          T s = tile[k * mr + row + j];
          for (int m = 0; m < k; ++m) s -= l[j][m] * l[k][m];
          if (k < j) {
            l[j][k] = s * inverse_[c + k];
          } else {
            if (!(s > least_) || !(s <= std::numeric_limits<T>::max())) return false;
            l[j][j] = std::sqrt(s);
            inverse_[c + j] = 1 / l[j][j];
          }
        }
      }
      for (int j = 0; j < nr; ++j)
        for (int k = 0; k <= j; ++k) tile[k * mr + row + j] = l[j][k];
      T keep[mr * nr];
      std::copy_n(tile, mr * nr, keep);
      solve_tile<T>(tile, keep + row, inverse_.data() + c);
      for (int k = 0; k < nr; ++k) {
        std::fill_n(tile + k * mr, row + k, T(0));
        for (int j = k; j < nr; ++j) tile[k * mr + row + j] = l[j][k];
      }
      for (Index i = owner + 1; i < p1; ++i) solve_group(i, p0, c);
    }
    return true;
  }

  PackedLower<T>& g_;
  T least_;
  std::vector<T> inverse_;
};

}  // namespace linalg_detail

/// Cholesky factor of G in its place; entries above the diagonal, inside the diagonal squares,
/// become zero. Rows beyond g.rows() must form an identity (see `pad_identity`). False if a pivot
/// (the square of a diagonal entry of the factor) is not above `least`.
template <class T> bool cholesky(PackedLower<T>& g, T least, int threads, Interrupt& interrupt) {
  return linalg_detail::Factorisation<T>(g, least).run(threads, interrupt);
}

/// Makes the rows from `first` to the end of the last panel those of an identity matrix.
template <class T> void pad_identity(PackedLower<T>& g, Index first) {
  constexpr Index mr = Tile<T>::mr;
  for (Index row = first; row < g.count() * mr; ++row)
    for (Index k = 0; k < (row / mr + 1) * mr; ++k) g(row, k) = row == k ? T(1) : T(0);
}

/// Solves L^T x = z in place for the leading `rows` rows of L; z holds ceil(rows/mr) mr numbers,
/// its padding is ignored.
///
/// A few panels at a time from the last on: their square on one thread, then what they take from
/// all earlier z, shared out.
template <class T>
void solve_transposed(const PackedLower<T>& l, Index rows, T* z, int threads,
                      Interrupt& interrupt) {
  constexpr Index mr = Tile<T>::mr, group = 8, chunk = 128;
  constexpr int lanes = Tile<T>::lanes, vectors = Tile<T>::vectors;
  using V = simd::Lanes<T, lanes>;
  // z[k] -= (column k of panel i) . (x of panel i), from <= k < to
  const auto take = [&](Index i, Index from, Index to) {
    V x[vectors];
    for (int v = 0; v < vectors; ++v) x[v] = V::load(z + i * mr + v * lanes);
    const T* p = l.at(i, from);
    for (Index k = from; k < to; ++k, p += mr) {
      V s = V::load(p) * x[0];
      for (int v = 1; v < vectors; ++v) s += V::load(p + v * lanes) * x[v];
      T total = 0;
      for (int q = 0; q < lanes; ++q) total += s[q];
      z[k] -= total;
    }
  };
  for (Index end = ceil_div(rows, mr); end > 0;) {
    const Index begin = std::max<Index>(0, end - group);
    for (Index i = end - 1; i >= begin; --i) {
      T* x = z + i * mr;
      const Index live = std::min(mr, rows - i * mr);
      for (Index r = live; r < mr; ++r) x[r] = 0;
      for (Index r = live - 1; r >= 0; --r) {
        T s = x[r];
        for (Index q = r + 1; q < live; ++q) s -= l.at(i, i * mr + r)[q] * x[q];
        x[r] = s / l.at(i, i * mr + r)[r];
      }
      take(i, begin * mr, i * mr);
    }
    parallel_for(ceil_div(begin * mr, chunk), threads, interrupt, [&](Index c, int) {
      for (Index i = begin; i < end; ++i) take(i, c * chunk, std::min((c + 1) * chunk, begin * mr));
    });
    end = begin;
  }
}

/// x^T G x for a symmetric G of which the lower triangle is stored; sums in double.
template <class T>
double quadratic_form(const PackedLower<T>& g, Index rows, const double* x, int threads,
                      Interrupt& interrupt) {
  constexpr Index mr = Tile<T>::mr;
  const Index panels = ceil_div(rows, mr);
  std::vector<double> part(static_cast<std::size_t>(panels));
  parallel_for(panels, threads, interrupt, [&](Index i, int) {
    const Index live = std::min(mr, rows - i * mr);
    double off[mr] = {}, xi[mr] = {}, sum = 0;
    for (Index r = 0; r < live; ++r) xi[r] = x[i * mr + r];
    const T* p = g.at(i, 0);
    for (Index k = 0; k < i * mr; ++k, p += mr)
      for (Index r = 0; r < mr; ++r) off[r] += static_cast<double>(p[r]) * x[k];
    for (Index c = 0; c < live; ++c, p += mr) {
      sum += static_cast<double>(p[c]) * xi[c] * xi[c];
      for (Index r = c + 1; r < live; ++r) off[r] += static_cast<double>(p[r]) * xi[c];
    }
    for (Index r = 0; r < live; ++r) sum += 2 * off[r] * xi[r];
    part[i] = sum;
  });
  double total = 0;
  for (double p : part) total += p;
  return total;
}

}  // namespace srfx
