// Products, Gram matrices, Cholesky factors and solves against plain loops in long double; the same
// bits on every thread count.
#include "srfx/simulate/linalg.hpp"
#include "srfx/core/random.hpp"

#include "check.hpp"

#include <vector>

using namespace srfx;

namespace {

template <class T> Panels<T> random_panels(Index rows, Index columns, std::uint64_t seed) {
  Panels<T> a(rows, columns);
  a.set_zero();
  std::vector<double> draws(8 * columns);
  for (Index i = 0; i < rows; i += 8) {
    fill_normals<double>({seed, 0, Purpose::weights}, i, 0, columns, draws.data(), 8);
    for (Index r = 0; r < std::min<Index>(8, rows - i); ++r)
      for (Index k = 0; k < columns; ++k) a(i + r, k) = static_cast<T>(draws[8 * k + r]);
  }
  return a;
}

template <class T>
long double dot(const Panels<T>& a, Index i, const Panels<T>& b, Index j, Index columns) {
  long double s = 0;
  for (Index k = 0; k < columns; ++k) s += static_cast<long double>(a(i, k)) * b(j, k);
  return s;
}

template <class T> constexpr double eps = std::numeric_limits<T>::epsilon();

template <class T> void products() {
  Interrupt interrupt;
  for (const auto& [rows, columns, depth] :
       {std::array<Index, 3>{1, 1, 1}, {5, 3, 2}, {130, 61, 700}, {300, 301, 33}}) {
    const Panels<T> a = random_panels<T>(rows, depth, 1), b = random_panels<T>(columns, depth, 2);
    Panels<T> once(rows, columns), twice(rows, columns);
    multiply(a, b, once, depth, false, 1, interrupt);
    multiply(a, b, twice, depth, false, 3, interrupt);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j) {
        const long double exact = dot(a, i, b, j, depth);
        const double bound = 8 * eps<T> * (1 + std::sqrt(static_cast<double>(depth)));
        CHECK(std::abs(once(i, j) - exact) < bound * std::sqrt(static_cast<double>(depth)), rows,
              columns, depth, i, j, once(i, j));
        CHECK(once(i, j) == twice(i, j), rows, columns, depth, i, j);
      }
    multiply(a, b, once, depth, true, 2, interrupt);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j)
        CHECK(std::abs(once(i, j) - 2 * twice(i, j)) <=
                  4 * eps<T> * (std::abs(twice(i, j)) + std::sqrt(static_cast<double>(depth))),
              i, j);
  }
}

/// A A^T + 3 I, its factor, and both solves, with a row of labels below; `rows` is not a multiple
/// of anything.
template <class T> void factors(Index rows) {
  Interrupt interrupt;
  constexpr Index mr = Tile<T>::mr;
  const Index depth = rows + 50;
  const Panels<T> a = random_panels<T>(rows, depth, 3);
  PackedLower<T> g(rows + 1), l(rows + 1), l3(rows + 1);
  g.set_zero();
  rank_update(a, depth, g, 2, interrupt);
  PackedLower<T> again(rows + 1);
  again.set_zero();
  rank_update(a, depth, again, 1, interrupt);
  const double scale = static_cast<double>(depth);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j <= i; ++j) {
      CHECK(std::abs(g(i, j) - dot(a, i, a, j, depth)) < 8 * eps<T> * scale, rows, i, j, g(i, j));
      CHECK(g(i, j) == again(i, j), rows, i, j);
    }
  pad_identity(g, rows);
  std::vector<T> y(rows);
  for (Index j = 0; j < rows; ++j)
    g(rows, j) = y[j] = static_cast<T>(std::cos(0.7 * static_cast<double>(j)));
  g(rows, rows) = T(1e30);
  for (Index i = 0; i < rows; ++i) g(i, i) += 3;
  std::copy_n(g.data(), g.size(), l.data());
  std::copy_n(g.data(), g.size(), l3.data());
  CHECK(cholesky(l, T(0), 1, interrupt), rows);
  CHECK(cholesky(l3, T(0), 3, interrupt), rows);
  for (Index i = 0; i <= rows; ++i)
    for (Index j = 0; j <= i; ++j) CHECK(l(i, j) == l3(i, j), rows, i, j);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j <= i; ++j) {
      long double s = 0;
      for (Index k = 0; k <= j; ++k) s += static_cast<long double>(l(i, k)) * l(j, k);
      CHECK(std::abs(s - g(i, j)) < 16 * eps<T> * scale, rows, i, j, static_cast<double>(s),
            g(i, j));
    }
  // Entries right of the diagonal inside its square are cleared.
  for (Index i = 0; i < rows; ++i)
    for (Index j = i + 1; j < (i / mr + 1) * mr; ++j) CHECK(l(i, j) == T(0), rows, i, j);

  std::vector<T> z(static_cast<std::size_t>(l.count() * mr), T(77));
  for (const Index leading : {rows, rows / 2 + 1}) {
    for (Index j = 0; j < leading; ++j) z[j] = l(rows, j);
    std::vector<T> alone = z;
    solve_transposed(l, leading, z.data(), 3, interrupt);
    solve_transposed(l, leading, alone.data(), 1, interrupt);
    for (Index j = 0; j < leading; ++j) CHECK(z[j] == alone[j], rows, leading, j);
    // (G + 3) x = y on the leading block.
    for (Index i = 0; i < leading; ++i) {
      long double s = 0, size = 0;
      for (Index j = 0; j < leading; ++j) {
        const long double term = static_cast<long double>(i >= j ? g(i, j) : g(j, i)) * z[j];
        s += term, size += std::abs(term);
      }
      CHECK(std::abs(s - y[i]) < 400 * eps<T> * (1 + size), rows, leading, i,
            static_cast<double>(s), y[i]);
    }
  }
  std::vector<double> x(rows);
  for (Index i = 0; i < rows; ++i) x[i] = std::sin(static_cast<double>(i));
  const double form = quadratic_form(g, rows, x.data(), 3, interrupt);
  CHECK(form == quadratic_form(g, rows, x.data(), 1, interrupt), rows);
  long double want = 0, size = 0;
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < rows; ++j) {
      const long double term = static_cast<long double>(i >= j ? g(i, j) : g(j, i)) * x[i] * x[j];
      want += term, size += std::abs(term);
    }
  CHECK(std::abs(want - form) <= 1e-14 * static_cast<double>(size), rows, form);
  // An indefinite matrix is refused wherever the bad pivot is, and a pivot below the threshold too.
  for (const Index bad : {Index(0), rows / 3, rows - 1}) {
    std::copy_n(g.data(), g.size(), l.data());
    l(bad, bad) = T(-1);
    CHECK(!cholesky(l, T(0), 2, interrupt), rows, bad);
  }
  std::copy_n(g.data(), g.size(), l.data());
  CHECK(!cholesky(l, static_cast<T>(1e6 * scale), 2, interrupt), rows);
}

void cancelled() {
  Interrupt interrupt([] { return true; });
  const Panels<double> a = random_panels<double>(600, 50, 1);
  PackedLower<double> g(600);
  g.set_zero();
  bool thrown = false;
  try {
    rank_update(a, 50, g, 1, interrupt);
  } catch (const Cancelled&) { thrown = true; }
  CHECK(thrown);
}

}  // namespace

int main() {
  products<double>();
  products<float>();
  for (const Index rows : {1, 2, 7, 24, 48, 49, 240, 241, 530}) {
    factors<double>(rows);
    factors<float>(rows);
  }
  cancelled();
  return srfx::test::report();
}
