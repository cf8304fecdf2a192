// The anisotropic bulk after any number of gradient steps, as a policy (THEORY 14 and 15, one
// readout value).
//
// The fixed point of a layer is that of one step (one_step_map.hpp), but that a layer below answers
// with nu(y) in place of 1/(1 + y). In the basis scaled by (1, sqrt b), with averages over the
// nodes of q = 1/D,
//
//   D = 1 + 2 iota b w e + iota b tau m + iota^2 b (b w^2 + tau rho) e^2,
//   a1 = 1 + b E[(m + iota rho e^2) q],  a2 = 1 + E[(e + iota b w e^2) q],  x22 = iota b tau E[e^2
//   q], y = x22 + b a2^2/a1,   tau = (tau(y) + x22 nu(y))/a1,  w = a2 nu(y)/a1,  rho = nu(y),
//   the own nu = (E[(m + iota rho e^2) q] + a2^2 nu(y)/a1)/a1:  sums of positive terms.
#pragma once

#include "srfx/bulk/layer_model.hpp"
#include "srfx/bulk/response.hpp"
#include "srfx/core/packed.hpp"

#include <array>

namespace srfx {

namespace detail {

inline double size_of(double x) { return std::abs(x); }
template <class T> double size_of(const Along<T>& x) { return magnitude(x.v); }

/// A small matrix of any scalar.
template <class S> class Table {
 public:
  static constexpr int most = 9;
  Table() = default;
  Table(int n_rows, int n_cols) : rows_(n_rows), cols_(n_cols) { a_.fill(S(0)); }
  int rows() const { return rows_; }
  int cols() const { return cols_; }
  const S* data() const { return a_.data(); }
  S& operator()(int i, int j) { return a_[static_cast<std::size_t>(i * cols_ + j)]; }
  const S& operator()(int i, int j) const { return a_[static_cast<std::size_t>(i * cols_ + j)]; }
  friend Table operator*(const Table& a, const Table& b) {
    Table out(a.rows_, b.cols_);
    for (int i = 0; i < a.rows_; ++i)
      for (int l = 0; l < a.cols_; ++l)
        for (int j = 0; j < b.cols_; ++j) out(i, j) += a(i, l) * b(l, j);
    return out;
  }
  Table corner(int n_rows, int n_cols) const {
    Table out(n_rows, n_cols);
    for (int i = 0; i < n_rows; ++i)
      for (int j = 0; j < n_cols; ++j) out(i, j) = (*this)(i, j);
    return out;
  }
  /// this^-1 b, by Gauss and Jordan.
  Table solve(Table b) const {
    Table a = *this;
    for (int c = 0; c < rows_; ++c) {
      int pivot = c;
      for (int i = c + 1; i < rows_; ++i)
        if (size_of(a(i, c)) > size_of(a(pivot, c))) pivot = i;
      for (int j = 0; j < cols_; ++j) std::swap(a(c, j), a(pivot, j));
      for (int j = 0; j < b.cols_; ++j) std::swap(b(c, j), b(pivot, j));
      const S inverse = S(1) / a(c, c);
      for (int j = c; j < cols_; ++j) a(c, j) = a(c, j) * inverse;
      for (int j = 0; j < b.cols_; ++j) b(c, j) = b(c, j) * inverse;
      for (int i = 0; i < rows_; ++i) {
        if (i == c) continue;
        const S factor = a(i, c);
        for (int j = c; j < cols_; ++j) a(i, j) = a(i, j) - factor * a(c, j);
        for (int j = 0; j < b.cols_; ++j) b(i, j) = b(i, j) - factor * b(c, j);
      }
    }
    return b;
  }

 private:
  int rows_ = 0, cols_ = 0;
  std::array<S, most * most> a_;
};

}  // namespace detail

/// The bulk of a layer of numbers R. One object a point, or a thread. `lags`: see Response.
template <class T, bool lags = false, class R = double>
class LayerBulk : public Response<LayerBulk<T, lags, R>, T, lags> {
  using Base = Response<LayerBulk<T, lags, R>, T, lags>;
  friend Base;
  using Base::state_, Base::slope_, Base::nu_, Base::omega_;
  using typename Base::State, typename Base::Evaluation;
  using P = detail::Packed<T>;
  using V = typename P::Type;
  using Real = typename P::Real;
  using S = Along<T>;
  using Table = detail::Table<S>;
  using Model = BasicLayerModel<R>;

 public:
  explicit LayerBulk(const Model& model) : model_(&model) {
    if (model.below) below_ = std::make_unique<LayerBulk>(*model.below);
  }
  const SpikeParameters& spike() const { return model_->spike; }

  /// At the state at hand, in place of the mean 1/g_m - s. Of a later step it is not known how it
  /// damps the mean row.
  Overlaps<T> kernel() const {
    const S at = this->slope_of(state_.b, T(1));
    S q11;
    const Table p = on_frame(at, &q11);
    Overlaps<T> out(model_->directions, at, p.data(), T(model_->c_delta));
    out.to_unit_bulk(c(), std::sqrt(c()));
    out.mean = below_ ? this->slope_of(nu_, -omega_)
                      : this->damped_mean(q11, T(model_->damping), T(model_->spread));
    return out;
  }

  /// Overlaps of (1 + b Sigma)^-1 on the frame (vhat, zhat_1, .., zhat_L', L), where the fixed
  /// point holds at b.
  Table on_frame(const S& b, S* q11 = nullptr) const {
    const Model& m = *model_;
    const int latents = m.latents, two = 2 * latents, count = m.vectors();
    const S tau(state_.tau, slope_[0] * b.d), w(state_.w, slope_[1] * b.d),
        rho(state_.rho, slope_[2] * b.d);
    const S iota(T(m.iota));
    gather(S(2) * iota * b * w, iota * iota * b * (b * w * w + tau * rho), iota * b * tau);

    using Block = std::array<std::array<S, 2>, 2>;
    const auto of_q = [&](int row) -> Block {
      const Sums& a = sums_[static_cast<std::size_t>(row)];
      return {{{a.one + iota * b * w * a.e, iota * b * (b * w * a.m - rho * a.e)},
               {iota * tau * a.e, a.one + iota * b * (tau * a.m + w * a.e)}}};
    };
    const auto of_qt = [&](int row) -> Block {
      const Sums& a = sums_[static_cast<std::size_t>(row)];
      return {{{a.one + iota * b * w * a.e, -iota * b * tau * a.e},
               {iota * (rho * a.e - w * b * a.m), a.one + iota * b * (tau * a.m + w * a.e)}}};
    };
    const auto of_qb = [&](int row) -> Block {
      const Sums& a = sums_[static_cast<std::size_t>(row)];
      const S cross = a.e + iota * b * w * a.ee;
      return {{{b * (a.m + iota * rho * a.ee), b * cross}, {-cross, iota * b * tau * a.ee}}};
    };

    // F on (E slot 1, E slot 2, ell); ell is scaled as slot 2.
    const Block qb = of_qb(0);
    const S p = S(1) + qb[0][0], m12 = b + qb[0][1], m21 = qb[1][0] - S(1),
            y = qb[1][1] - m12 * m21 / p;
    Table lower;  // overlaps of the layer below at y
    if (below_) {
      below_->answer(y.v);
      lower = below_->on_frame(y);
    }
    const int size = below_ ? two + 1 : two;
    Table f(size, size);
    const S inverse_p = S(1) / p;
    for (int i = 0; i < latents; ++i)
      for (int j = 0; j < latents; ++j) {
        const S one(i == j ? 1 : 0);
        const S n = below_ ? (one - lower(i, j)) / y : one / (S(1) + y);
        f(i, j) = (one + m12 * m21 * n * inverse_p) * inverse_p;
        f(i, latents + j) = -m12 * n * inverse_p;
        f(latents + i, j) = -m21 * n * inverse_p;
        f(latents + i, latents + j) = n;
      }
    if (below_) {
      for (int i = 0; i < latents; ++i) {
        const S ell = lower(i, latents);
        f(i, two) = -m12 * ell * inverse_p, f(latents + i, two) = ell;
        f(two, i) = -m21 * ell * inverse_p, f(two, latents + i) = ell;
      }
      f(two, two) = -y * lower(latents, latents);
    }
    Table delta(two, two);
    for (int i = 0; i < latents; ++i)
      for (int j = 0; j < latents; ++j) {
        const Block here = of_qb(m.row(i, j));
        for (int a = 0; a < 2; ++a)
          for (int c = 0; c < 2; ++c)
            delta(a * latents + i, c * latents + j) = here[a][c] - (i == j ? qb[a][c] : S(0));
      }
    Table system = f.corner(two, two) * delta;
    for (int i = 0; i < two; ++i) system(i, i) += S(1);
    const Table moved = f.corner(size, two) * delta * system.solve(f.corner(two, size));
    Table pi(size, size);
    for (int i = 0; i < size; ++i)
      for (int j = 0; j < size; ++j) pi(i, j) = f(i, j) - moved(i, j);

    // The vectors: P_Ef, P_f,ell, P_fh.
    const Block gm{{{tau, -b * w}, {w, rho}}};
    std::array<Table, 4> right, left;  // E[Q (x) f x_E], E[Qt (x) f x_E^T] Pi_E.
    std::array<Table, 4> p_right;      // Pi_EE E[Q (x) f x_E]
    for (int g = 0; g < count; ++g) {
      Table to(two, 2), from(2, two);
      for (int i = 0; i < latents; ++i) {
        const Block q = of_q(m.row_of(g, i)), qt = of_qt(m.row_of(g, i));
        for (int a = 0; a < 2; ++a)
          for (int c = 0; c < 2; ++c) {
            to(a * latents + i, c) = q[a][c];
            from(a, c * latents + i) = qt[a][c];
          }
      }
      p_right[g] = pi.corner(two, two) * to;
      left[g] = from * pi.corner(two, size);
      right[g] = to;
    }
    const auto two_vectors = [&](int g, int h) -> Block {
      const Block q = of_q(m.row_of_two(g, h));
      const Table rest = left[g].corner(2, two) * right[h];
      Block out;
      for (int a = 0; a < 2; ++a)
        for (int c = 0; c < 2; ++c)
          out[a][c] = (gm[a][0] * q[0][c] + gm[a][1] * q[1][c]) * iota + rest(a, c);
      return out;
    };

    // Overlaps of R = (1 + b (Sigma' without its last three terms))^-1: of x_E, v_us1, v_la, V [,
    // U, v_gc].
    using L = Model;
    const S inverse_b = S(1) / b, root(T(std::sqrt(m.c_before))), b_root = inverse_b / root;
    const int at_spike = latents, at_la = latents + 1, at_v = latents + 2, at_u = latents + 3,
              at_gc = latents + 4, total = below_ ? latents + 5 : latents + 3;
    Table r(total, total);
    const auto put = [&](int i, int j, const S& value) { r(i, j) = r(j, i) = value; };
    for (int i = 0; i < latents; ++i) {
      for (int j = 0; j < latents; ++j) r(i, j) = pi(i, j);
      put(i, at_spike, p_right[L::spike_vector](i, 0));
      put(i, at_la, p_right[L::la](i, 0));
      put(i, at_v, -p_right[L::lb](i, 1) * b_root);
      if (below_) {
        put(i, at_gc, p_right[L::gc](i, 0));
        put(i, at_u, -pi(i, two) * inverse_b);
      }
    }
    const int places[4] = {at_spike, at_la, -1, at_gc};
    for (int g = 0; g < count; ++g) {
      if (g == L::lb) continue;
      for (int h = 0; h <= g; ++h)
        if (h != L::lb) put(places[g], places[h], two_vectors(g, h)[0][0]);
      put(places[g], at_v, -two_vectors(g, L::lb)[0][1] * b_root);
      if (below_) put(places[g], at_u, -left[g](0, two) * inverse_b);
    }
    const S inverse_c(T(1.0 / m.c_before));
    put(at_v, at_v, (S(T(m.lb_sigma)) - two_vectors(L::lb, L::lb)[1][1]) * inverse_b * inverse_c);
    if (below_) {
      put(at_v, at_u, (S(T(m.lb_tilt)) - left[L::lb](1, two)) * b_root);
      put(at_u, at_u, -pi(two, two) * inverse_b);
      // Woodbury's formula for the last three terms: R' = R - b R W (J + b W^T R W)^-1 W^T R, W =
      // (U, v_gc).
      Table inner(2, 2), w_r(2, total);
      const int places_w[2] = {at_u, at_gc};
      for (int a = 0; a < 2; ++a) {
        for (int c = 0; c < 2; ++c) inner(a, c) = b * r(places_w[a], places_w[c]);
        for (int j = 0; j < total; ++j) w_r(a, j) = r(places_w[a], j);
      }
      inner(0, 0) += S(T(-m.below->c_delta));
      inner(0, 1) += S(1), inner(1, 0) += S(1);
      const Table solved = inner.solve(w_r);
      for (int i = 0; i < total; ++i)
        for (int j = 0; j < total; ++j)
          r(i, j) = r(i, j) - b * (w_r(0, i) * solved(0, j) + w_r(1, i) * solved(1, j));
    }
    if (q11) *q11 = of_q(0)[0][0];

    const int n_frame = static_cast<int>(m.frame.rows());
    Table out(n_frame, n_frame), half(n_frame, total);
    for (int i = 0; i < n_frame; ++i)
      for (int l = 0; l < total; ++l) {
        if (m.frame(i, l) == R(0)) continue;
        const S factor(T(m.frame(i, l)));
        for (int j = 0; j < total; ++j) half(i, j) += factor * r(l, j);
      }
    for (int i = 0; i < n_frame; ++i)
      for (int j = 0; j < n_frame; ++j)
        for (int l = 0; l < total; ++l)
          if (m.frame(j, l) != R(0)) out(i, j) += half(i, l) * S(T(m.frame(j, l)));
    return out;
  }

 private:
  bool scalar() const { return false; }
  bool stepped() const { return true; }
  double variance() const { return model_->spike.c; }
  T c() const { return T(model_->c); }

  Evaluation evaluate(const State& x) const {
    const Model& m = *model_;
    const T iota(m.iota), one(1);
    const T c1 = T(2) * iota * x.b * x.w,
            c2 = iota * iota * x.b * (x.b * x.w * x.w + x.tau * x.rho), c3 = iota * x.b * x.tau;
    const V v1(c1), v2(c2), v3(c3);
    const Real unit(1.0);
    V s1(0.0), s2(0.0), sm(0.0), s11(0.0), s12(0.0), s1m(0.0), s22(0.0), s2m(0.0), smm(0.0);
    const R* const weights = m.rows[0].data();
    for (Index i = 0; i < m.size(); i += P::size) {
      const auto e = P::load(&m.e[i]), mm = P::load(&m.m[i]), e2 = e * e;
      const V q = unit / (unit + e * v1 + e2 * v2 + mm * v3), wq = P::load(weights + i) * q,
              wqq = wq * q;
      const V we = e * wqq, we2 = e2 * wqq, wm = mm * wqq;
      s1 += e * wq, s2 += e2 * wq, sm += mm * wq;
      s11 += e * we, s12 += e * we2, s1m += e * wm, s22 += e2 * we2, s2m += e2 * wm, smm += mm * wm;
    }
    const T j1 = P::total(s1), j2 = P::total(s2), jm = P::total(sm);
    const T j11 = P::total(s11), j12 = P::total(s12), j1m = P::total(s1m), j22 = P::total(s22),
            j2m = P::total(s2m), jmm = P::total(smm);
    const T inner = jm + iota * x.rho * j2, a1 = one + x.b * inner,
            a2 = one + j1 + iota * x.b * x.w * j2, x22 = iota * x.b * x.tau * j2;
    const T ratio = a2 / a1, y = x22 + x.b * a2 * ratio, inverse = one / a1;
    typename Base::Answer at;
    if (below_) at = below_->answer(y);
    else at.tau = at.nu = one / (one + y), at.tau_slope = at.nu_slope = -at.nu * at.nu;
    Evaluation out;
    out.map[0] = (at.tau + x22 * at.nu) * inverse;
    out.map[1] = ratio * at.nu;
    out.map[2] = at.nu;
    out.nu = (inner + a2 * ratio * at.nu) * inverse;
    for (int k = 0; k < 4; ++k) {
      const T dtau = k == 0 ? one : T(0), dw = k == 1 ? one : T(0), drho = k == 2 ? one : T(0),
              db = k == 3 ? one : T(0);
      const T d1 = T(2) * iota * (db * x.w + x.b * dw);
      const T d2 = iota * iota *
                   (db * (x.b * x.w * x.w + x.tau * x.rho) +
                    x.b * (db * x.w * x.w + T(2) * x.b * x.w * dw + dtau * x.rho + x.tau * drho));
      const T d3 = iota * (db * x.tau + x.b * dtau);
      const T dj1 = -(j11 * d1 + j12 * d2 + j1m * d3), dj2 = -(j12 * d1 + j22 * d2 + j2m * d3),
              djm = -(j1m * d1 + j2m * d2 + jmm * d3);
      const T dinner = djm + iota * (drho * j2 + x.rho * dj2), da1 = db * inner + x.b * dinner;
      const T da2 = dj1 + iota * (db * x.w * j2 + x.b * (dw * j2 + x.w * dj2));
      const T dx22 = iota * (db * x.tau * j2 + x.b * (dtau * j2 + x.tau * dj2));
      const T dratio = (da2 - ratio * da1) * inverse;
      const T dy = dx22 + db * a2 * ratio + x.b * (da2 * ratio + a2 * dratio);
      const T dnu = at.nu_slope * dy;
      out.dmap[0][k] = (at.tau_slope * dy + dx22 * at.nu + x22 * dnu - out.map[0] * da1) * inverse;
      out.dmap[1][k] = dratio * at.nu + ratio * dnu;
      out.dmap[2][k] = dnu;
      out.dnu[k] =
          (dinner + da2 * ratio * at.nu + a2 * (dratio * at.nu + ratio * dnu) - out.nu * da1) *
          inverse;
    }
    return out;
  }

  /// Averages of a row times q, e q, e^2 q and m q.
  struct Sums {
    S one, e, ee, m;
  };
  void gather(const S& c1, const S& c2, const S& c3) const {
    const Model& m = *model_;
    const Index packs = m.size() / P::size;
    values_.resize(static_cast<std::size_t>(8 * packs));
    const V v1(c1.v), v2(c2.v), v3(c3.v), d1(c1.d), d2(c2.d), d3(c3.d);
    const Real unit(1.0);
    for (Index k = 0; k < packs; ++k) {
      const auto e = P::load(&m.e[k * P::size]), mm = P::load(&m.m[k * P::size]), e2 = e * e;
      const V q = unit / (unit + e * v1 + e2 * v2 + mm * v3),
              dq = -(e * d1 + e2 * d2 + mm * d3) * q * q;
      V* const to = &values_[static_cast<std::size_t>(8 * k)];
      to[0] = q, to[1] = e * q, to[2] = e2 * q, to[3] = mm * q;
      to[4] = dq, to[5] = e * dq, to[6] = e2 * dq, to[7] = mm * dq;
    }
    sums_.resize(m.rows.size());
    for (std::size_t row = 0; row < m.rows.size(); ++row) {
      const R* const weights = m.rows[row].data();
      V total[8];
      for (V& x : total) x = V(0.0);
      for (Index k = 0; k < packs; ++k) {
        const auto weight = P::load(weights + k * P::size);
        const V* const from = &values_[static_cast<std::size_t>(8 * k)];
        for (int j = 0; j < 8; ++j) total[j] += weight * from[j];
      }
      const auto sum = [&](int j) { return S(P::total(total[j]), P::total(total[j + 4])); };
      sums_[row] = {sum(0), sum(1), sum(2), sum(3)};
    }
  }

  const Model* model_;
  std::unique_ptr<LayerBulk> below_;
  mutable std::vector<V> values_;
  mutable std::vector<Sums> sums_;
};

}  // namespace srfx
