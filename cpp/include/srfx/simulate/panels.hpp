// Matrices in packed panels: how the dense products and factors of linalg.hpp store them.
//
// One storage serves every operand. Rows come in panels of `mr`; in a panel the columns follow one
// another, each the `mr` numbers of its rows:
//
//   (row, column) of panel row/mr at  column * mr + row % mr
//
// A panel is read as the left operand of the kernel (mr rows at once) and, `nr` rows of it at a
// time, as the right one; the mr x nr result is again a piece of a panel. Nothing is ever repacked,
// a Cholesky factor is computed in place in the form in which its own updates read it, and the
// lower triangle takes half the memory.
#pragma once

#include "srfx/core/types.hpp"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace srfx {

/// Shape of the kernel: `lanes` numbers a register, `mr` = lanes * vectors rows, `nr` columns.
template <class T> struct Tile {
#if defined(__AVX512F__)
  static constexpr int lanes = 64 / sizeof(T), vectors = 3, nr = 8;
#elif defined(__AVX__)
  static constexpr int lanes = 32 / sizeof(T), vectors = 2, nr = 4;
#elif defined(__aarch64__)
  static constexpr int lanes = 16 / sizeof(T), vectors = 4, nr = 4;
#else
  static constexpr int lanes = 16 / sizeof(T), vectors = sizeof(T) == 8 ? 4 : 2,
                       nr = sizeof(T) == 8 ? 2 : 4;
#endif
  static constexpr int mr = lanes * vectors;
  static_assert(mr % nr == 0 && mr % 8 == 0);
  /// Columns of a product summed in one go, and panels per block: nr * depth numbers stay in L1,
  /// block * mr * depth in L2.
  static constexpr Index depth = 256;
  static constexpr Index block = std::max<Index>(1, 1920 / Index(mr * sizeof(T)));
  /// Panels whose columns are factorised together.
  static constexpr Index factor_block = std::max<Index>(1, 240 / mr);
};

inline Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

/// An array aligned to cache lines, not initialised.
template <class T> class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(Index size) : size_(size) {
    if (size > 0) {
      const Index bytes = size * Index(sizeof(T)), page = Index(1) << 21,
                  unit = bytes >= 2 * page ? page : 64;
      data_ = static_cast<T*>(std::aligned_alloc(
          static_cast<std::size_t>(unit), static_cast<std::size_t>(ceil_div(bytes, unit) * unit)));
      if (!data_) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
      if (unit == page)
        madvise(data_, static_cast<std::size_t>(bytes),
                MADV_HUGEPAGE);  // a hint: fewer address translations
#endif
    }
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Buffer() { std::free(data_); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  Index size() const { return size_; }
  T& operator[](Index i) { return data_[i]; }
  const T& operator[](Index i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  Index size_ = 0;
};

/// rows x columns in panels; both are padded, rows to `mr` and columns to `nr`.
template <class T> class Panels {
 public:
  static constexpr Index mr = Tile<T>::mr;

  Panels() = default;
  Panels(Index rows, Index columns)
      : rows_(rows),
        columns_(ceil_div(columns, Tile<T>::nr) * Tile<T>::nr),
        buffer_(ceil_div(rows, mr) * mr * columns_) {}

  Index rows() const { return rows_; }
  Index columns() const { return columns_; }
  Index count() const { return ceil_div(rows_, mr); }
  Index size() const { return buffer_.size(); }
  void set_zero() { std::fill_n(buffer_.data(), buffer_.size(), T(0)); }

  /// Address of column k of panel i.
  T* at(Index i, Index k) { return buffer_.data() + (i * columns_ + k) * mr; }
  const T* at(Index i, Index k) const { return buffer_.data() + (i * columns_ + k) * mr; }
  T& operator()(Index row, Index k) { return at(row / mr, k)[row % mr]; }
  const T& operator()(Index row, Index k) const { return at(row / mr, k)[row % mr]; }

 private:
  Index rows_ = 0, columns_ = 0;
  Buffer<T> buffer_;
};

/// The lower triangle of a square matrix in panels: panel i has (i + 1) mr columns.
template <class T> class PackedLower {
 public:
  static constexpr Index mr = Tile<T>::mr;

  PackedLower() = default;
  explicit PackedLower(Index rows) : rows_(rows), buffer_(offset(ceil_div(rows, mr))) {}
  static Index numbers(Index rows) { return offset(ceil_div(rows, mr)); }

  Index rows() const { return rows_; }
  Index count() const { return ceil_div(rows_, mr); }
  Index size() const { return buffer_.size(); }
  T* data() { return buffer_.data(); }
  const T* data() const { return buffer_.data(); }
  void set_zero() { std::fill_n(buffer_.data(), buffer_.size(), T(0)); }

  T* at(Index i, Index k) { return buffer_.data() + offset(i) + k * mr; }
  const T* at(Index i, Index k) const { return buffer_.data() + offset(i) + k * mr; }
  T& operator()(Index row, Index k) { return at(row / mr, k)[row % mr]; }
  const T& operator()(Index row, Index k) const { return at(row / mr, k)[row % mr]; }

 private:
  static Index offset(Index panel) { return mr * mr * (panel * (panel + 1) / 2); }
  Index rows_ = 0;
  Buffer<T> buffer_;
};

}  // namespace srfx
