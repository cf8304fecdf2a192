// Functions of one positive number by interpolation: what a bulk is asked at every point of a
// plane.
//
// What a step or given weights do to a point hangs on one number x alone (step_table.hpp,
// weights_table.hpp): s = A/B, or b = beta g(s). All of it is made of averages of 1/(x + D) or
// 1/(1 + x D) over positive D, hence analytic off the negative axis, so that a Chebyshev series on
// [x, (1 + 1/4) x] converges like 17.9^-n at least, whatever the weights are.
//
// The pieces are a fixed grid, the quarters of the octaves of x. A piece is made when a number
// falls into it, from exact values at its Chebyshev nodes, and it is always the same piece: what a
// point gets depends on the point alone.
#pragma once

#include "srfx/core/simd.hpp"
#include "srfx/core/types.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <vector>

namespace srfx {

/// How many digits of a function are wanted: fewer terms of its series do for fewer.
enum class Digits { six, nine, all };

class FunctionTable {
 public:
  static constexpr int n_nodes = 13;
  static constexpr int terms(Digits digits) {
    return digits == Digits::all ? n_nodes : digits == Digits::nine ? 11 : 5;
  }
  static constexpr int width = 4;  ///< functions are stored and evaluated by fours

  /// The functions at x, increasing from call to call within a piece.
  using Exact = std::function<bool(double x, double* values)>;
  /// Makes an Exact for a piece, and the error of its values, asked for at the end.
  struct Maker {
    Exact exact;
    std::function<double()> error;
  };
  /// Of function i: an error of it is judged on the scale of sqrt(f_first f_second). Itself twice,
  /// but for what may vanish; and not below `least`, where so little no longer matters.
  struct Scale {
    int first, second;
    double least = 0;
  };

  FunctionTable(std::vector<Scale> scales, std::function<Maker()> make)
      : scales_(std::move(scales)),
        make_(std::move(make)),
        n_columns_((static_cast<int>(scales_.size()) + width - 1) / width * width),
        pieces_(n_pieces),
        unknown_(*this) {
    std::fill(unknown_.coefficients.begin(), unknown_.coefficients.end(),
              std::numeric_limits<double>::quiet_NaN());
  }

  int n_columns() const { return n_columns_; }

  /// Where numbers lie: their pieces, and the Chebyshev polynomials there.
  template <class V> struct Place {
    static constexpr int size = V::size;
    const double* coefficients[size];  ///< of the piece: n_nodes rows of n_columns
    double error[size];
    alignas(64) double polynomials[n_nodes][size];
  };
  template <class V> void locate(const V& x, Digits digits, Place<V>& out) const {
    constexpr int size = V::size;
    alignas(64) double values[size], t[size];
    x.store(values);
    for (int lane = 0; lane < size; ++lane) {
      std::uint64_t bits;
      std::memcpy(&bits, &values[lane], sizeof bits);
      const Piece& piece = at(static_cast<std::int64_t>(bits >> 50) - first_piece);
      out.coefficients[lane] = piece.coefficients.data();
      out.error[lane] = piece.error;
      // The mantissa, 1 <= m < 2, on its quarter.
      const std::uint64_t mantissa = (bits & 0x000fffffffffffffu) | 0x3ff0000000000000u;
      double m;
      std::memcpy(&m, &mantissa, sizeof m);
      t[lane] = 8 * m - static_cast<double>(9 + 2 * ((bits >> 50) & 3));
    }
    const V at = V::load(t), twice = V(2.0) * at;
    V before(1.0), here = at;
    before.store(out.polynomials[0]);
    here.store(out.polynomials[1]);
    for (int j = 2; j < terms(digits); ++j) {
      const V next = twice * here - before;
      next.store(out.polynomials[j]);
      before = here, here = next;
    }
  }

  /// Functions first .. first + width Packs - 1 there: out[i] is function first + i.
  template <int packs, class V>
  void evaluate(const Place<V>& place, Digits digits, int first, V* out) const {
    using Four = simd::Lanes<double, width>;
    alignas(64) double values[packs * width][V::size];
    for (int lane = 0; lane < V::size; ++lane) {
      const double* row = place.coefficients[lane] + first;
      Four sums[packs];
      for (int q = 0; q < packs; ++q) sums[q] = Four::load(row + q * width);
      for (int j = 1; j < terms(digits); ++j) {
        row += n_columns_;
        const Four polynomial(place.polynomials[j][lane]);
        for (int q = 0; q < packs; ++q)
          sums[q] = simd::fma(polynomial, Four::load(row + q * width), sums[q]);
      }
      for (int q = 0; q < packs; ++q)
        for (int i = 0; i < width; ++i) values[q * width + i][lane] = sums[q][i];
    }
    for (int i = 0; i < packs * width; ++i) out[i] = V::load(values[i]);
  }

 private:
  /// From 2^-256 to 2^256; beyond there is nothing but numbers about to overflow.
  static constexpr std::int64_t first_piece = (1023 - 256) * 4, n_pieces = 512 * 4;

  struct Piece {
    std::vector<double> coefficients;
    double error = 0;
    explicit Piece(const FunctionTable& table) : coefficients(n_nodes * table.n_columns_) {}
  };

  const Piece& at(std::int64_t index) const {
    if (index < 0 || index >= n_pieces) return unknown_;
    const Piece* found = pieces_[index].load(std::memory_order_acquire);
    return found != nullptr ? *found : made(index);
  }
  const Piece& made(std::int64_t index) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (const Piece* found = pieces_[index].load(std::memory_order_acquire)) return *found;
    owned_.push_back(make(index));
    pieces_[index].store(owned_.back().get(), std::memory_order_release);
    return *owned_.back();
  }

  /// cos(j theta_i) at the nodes t_i = cos theta_i, ascending.
  struct Chebyshev {
    double node[n_nodes], polynomial[n_nodes][n_nodes];
    Chebyshev() {
      for (int i = 0; i < n_nodes; ++i)
        for (int j = 0; j < n_nodes; ++j) {
          const double angle = 3.14159265358979323846 * (n_nodes - i - 0.5) / n_nodes;
          polynomial[j][i] = std::cos(j * angle);
          if (j == 1) node[i] = polynomial[j][i];
        }
      node[n_nodes / 2] = 0;
    }
  };

  std::unique_ptr<Piece> make(std::int64_t index) const {
    static const Chebyshev chebyshev;
    // In the middle of two nodes, next to the middle of the piece.
    constexpr double between = 0.12;
    constexpr int checked = n_nodes / 2 + 1;  // the check comes before this node
    auto out = std::make_unique<Piece>(*this);
    const auto bits = static_cast<std::uint64_t>(index + first_piece) << 50;
    double low;
    std::memcpy(&low, &bits, sizeof low);
    const double half = 0.125 * std::ldexp(1.0, static_cast<int>(bits >> 52) - 1023);
    const auto n = static_cast<int>(scales_.size());
    std::vector<double> values(n_nodes * n), check(n), size(n, 0.0), sum(n);
    const Maker maker = make_();
    bool known = true;
    for (int i = 0; i < n_nodes && known; ++i) {
      if (i == checked) known = maker.exact(low + half * (1 + between), check.data());
      known = known && maker.exact(low + half * (1 + chebyshev.node[i]), &values[i * n]);
    }
    if (!known) {
      out->coefficients = unknown_.coefficients;
      return out;
    }
    double before = 1, here = between;
    for (int j = 0; j < n_nodes; ++j) {
      const double polynomial = j == 0 ? before : here;
      double* const row = &out->coefficients[j * n_columns_];
      for (int i = 0; i < n_nodes; ++i)
        for (int f = 0; f < n; ++f) row[f] += chebyshev.polynomial[j][i] * values[i * n + f];
      for (int f = 0; f < n; ++f) {
        row[f] *= (j == 0 ? 1.0 : 2.0) / n_nodes;
        sum[f] += row[f] * polynomial;
      }
      if (j > 0) {
        const double next = 2 * between * here - before;
        before = here, here = next;
      }
    }
    for (int i = 0; i < n_nodes; ++i)
      for (int f = 0; f < n; ++f) size[f] = std::max(size[f], std::abs(values[i * n + f]));
    for (int f = 0; f < n; ++f) {
      const double scale = std::max(
          std::sqrt(size[scales_[f].first]) * std::sqrt(size[scales_[f].second]), scales_[f].least);
      if (scale > 0) out->error = std::max(out->error, std::abs(sum[f] - check[f]) / scale);
    }
    out->error += maker.error();
    return out;
  }

  std::vector<Scale> scales_;
  std::function<Maker()> make_;
  int n_columns_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Piece>> owned_;
  mutable std::vector<std::atomic<const Piece*>> pieces_;
  Piece unknown_;  ///< not a number
};

}  // namespace srfx
