// The anisotropic bulk that one step leaves behind, as a policy (THEORY sections 9 and 10, one
// readout value): what the solver and the linear part ask of it follows from the fixed point of
// one_step_map.hpp.
#pragma once

#include "srfx/bulk/one_step_map.hpp"

namespace srfx {

namespace detail {

template <class T> using Matrix2 = std::array<std::array<T, 2>, 2>;
template <class T> Matrix2<T> operator*(const Matrix2<T>& a, const Matrix2<T>& b) {
  Matrix2<T> out;
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) out[i][j] = a[i][0] * b[0][j] + a[i][1] * b[1][j];
  return out;
}
template <class T> Matrix2<T> operator+(const Matrix2<T>& a, const Matrix2<T>& b) {
  return {{{a[0][0] + b[0][0], a[0][1] + b[0][1]}, {a[1][0] + b[1][0], a[1][1] + b[1][1]}}};
}
template <class T> Matrix2<T> scaled(const T& x, const Matrix2<T>& a) {
  return {{{x * a[0][0], x * a[0][1]}, {x * a[1][0], x * a[1][1]}}};
}
template <class T> Matrix2<T> inverse(const Matrix2<T>& a) {
  const T det = a[0][0] * a[1][1] - a[0][1] * a[1][0];
  return {{{a[1][1] / det, -a[0][1] / det}, {-a[1][0] / det, a[0][0] / det}}};
}

}  // namespace detail

/// The bulk of one step as a policy (bulk.hpp): averages and overlaps. One object a point.
template <class T, class R = double, class Nodes = ResidualNodes>
class OneStepBulk : public OneStepMap<OneStepBulk<T, R, Nodes>, T, R, Nodes> {
  using Map = OneStepMap<OneStepBulk<T, R, Nodes>, T, R, Nodes>;
  friend Response<OneStepBulk, T, !std::is_same_v<R, double>>;
  using Map::step_, Map::nodes_, Map::state_, Map::nu_, Map::omega_, Map::slope_, Map::slope_of;
  using typename Map::P, typename Map::Real, typename Map::V;

 public:
  using Map::Map;

  /// At the state at hand, in place of the mean 1/g_m - s.
  Overlaps<T> kernel() const {
    Overlaps<T> out =
        step_->stepped ? (step_->scalar ? scalar_overlaps() : matrix_overlaps()) : plain_overlaps();
    out.to_unit_bulk(T(step_->c), T(std::sqrt(step_->c)));
    return out;
  }

 private:
  using S = Along<T>;

  /// E[t^i u^j/D(u)] and its derivative along s, D = 1 + c1 u + c2 u^2; for j up to `top` where i =
  /// 0.
  struct Sums {
    S a[3][9];
  };
  template <int top0, int top1> void accumulate(const S& c1, const S& c2, Sums& out) const {
    V value0[top0 + 1], slope0[top0 + 1], value1[top1 + 1], slope1[top1 + 1], value2[3], slope2[3];
    for (int j = 0; j <= top0; ++j) value0[j] = slope0[j] = V(0.0);
    for (int j = 0; j <= top1; ++j) value1[j] = slope1[j] = V(0.0);
    for (int j = 0; j <= 2; ++j) value2[j] = slope2[j] = V(0.0);
    const V v1(c1.v), v2(c2.v), d1(c1.d), d2(c2.d);
    const Real unit(1.0);
    const auto* u = nodes_->u.data();
    for (Index i = 0; i < nodes_->size(); i += P::size) {
      const auto at = P::load(u + i);
      const V q = unit / (unit + at * (v1 + v2 * at)), dq = -(at * (d1 + d2 * at)) * q * q;
      const auto w0 = P::load(&nodes_->w[0][i]), w1 = P::load(&nodes_->w[1][i]),
                 w2 = P::load(&nodes_->w[2][i]);
      V p = w0 * q, dp = w0 * dq;
      for (int j = 0; j <= top0; ++j, p *= at, dp *= at) value0[j] += p, slope0[j] += dp;
      p = w1 * q, dp = w1 * dq;
      for (int j = 0; j <= top1; ++j, p *= at, dp *= at) value1[j] += p, slope1[j] += dp;
      p = w2 * q, dp = w2 * dq;
      for (int j = 0; j <= 2; ++j, p *= at, dp *= at) value2[j] += p, slope2[j] += dp;
    }
    for (int j = 0; j <= top0; ++j) out.a[0][j] = {P::total(value0[j]), P::total(slope0[j])};
    for (int j = 0; j <= top1; ++j) out.a[1][j] = {P::total(value1[j]), P::total(slope1[j])};
    for (int j = 0; j <= 2; ++j) out.a[2][j] = {P::total(value2[j]), P::total(slope2[j])};
  }

  S mean_resolvent(const S& q11) const {
    return this->damped_mean(q11, T(step_->eta_mean * step_->constants.h1 * step_->constants.h1),
                             T(step_->eta_mean * step_->constants.variance * step_->iota));
  }

  Overlaps<T> plain_overlaps() const {
    const S b = slope_of(state_.b, T(1));
    Overlaps<T> out;
    out.k[0][0] = b;
    out.rest[0][0] = S(1) / (S(1) + b);
    out.k[1][1] = b * out.rest[0][0];
    out.mean = slope_of(nu_, -omega_);
    return out;
  }

  Overlaps<T> scalar_overlaps() const {
    const BasicStepModel<R>& m = *step_;
    const S b = slope_of(state_.b, T(1)), tau = slope_of(state_.tau, slope_[0]);
    Sums q;
    accumulate<6, 4>(S(0), b * tau * S(T(m.kap * m.iota)),
                     q);  // only even functions of (t, u) are asked for
    const S tt = S(1) / (S(1) + b * (S(1) + S(T(m.kap)) * q.a[2][2]));
    const S d1 = q.a[1][1], d3 = q.a[1][3];
    const R root = std::sqrt(m.iota), root_u2 = std::sqrt(m.u2);
    const S nv = d1 * S(T(1.0 / m.l));
    const S nz =
        (S(T(m.u2)) + S(T(m.h1_target * m.kap)) * b * tau * d3) * S(T(root / (m.l * root_u2)));
    const R fv = root / m.l, fz = -m.gamma / root_u2;  // times u, and sqrt(iota) included
    const S second = tau * q.a[0][2], fourth = tau * q.a[0][4], sixth = tau * q.a[0][6];
    const R l1 = m.lb[1], l3 = m.la[3];  // L = l1 v_1 + l3 v_3
    const S nl = S(T(l1)) * d1 + S(T(l3)) * d3;
    const S lu = S(T(root)) *
                 (S(T(l1)) * second + S(T(l3)) * fourth);  // tau E[f_L u ..], to be multiplied by f
    const S vv = S(T(fv * fv)) * second + nv * tt * nv;
    const S vz = S(T(fv * fz)) * second + nv * tt * nz;
    const S zz = S(T(fz * fz)) * second + nz * tt * nz;
    const S lv = S(T(fv)) * lu + nl * tt * nv;
    const S lz = S(T(fz)) * lu + nl * tt * nz;
    const S ll = S(T(m.iota)) * (S(T(l1 * l1)) * second + S(T(2.0 * l1 * l3)) * fourth +
                                 S(T(l3 * l3)) * sixth) +
                 nl * tt * nl;
    const S frame[9] = {vv, vz, lv, vz, zz, lz, lv, lz, ll};
    Overlaps<T> out(1, slope_of(state_.b, T(1)), frame, T(m.c_delta));
    out.mean = mean_resolvent(q.a[0][0]);
    return out;
  }

  Overlaps<T> matrix_overlaps() const {
    using M = detail::Matrix2<S>;
    using detail::operator*;
    using detail::operator+;
    const BasicStepModel<R>& m = *step_;
    const S b = slope_of(state_.b, T(1)), tau = slope_of(state_.tau, slope_[0]),
            w = slope_of(state_.w, slope_[1]), rho = slope_of(state_.rho, slope_[2]);
    const S iota(T(m.iota)), kap(T(m.kap)), e2(T(m.e2));
    const S c1 = S(2) * iota * b * e2 * w,
            c2 = iota * b * (kap * tau + iota * e2 * e2 * (b * w * w + tau * rho));
    Sums sums;
    m.lean ? accumulate<8, 5>(c1, c2, sums) : accumulate<4, 3>(c1, c2, sums);
    const M gm{{{tau, -b * w}, {w, rho}}};
    /// f(u) t^i given by coefficients of u^n, n <= 6: E[f t^i u^j/D].
    using Polynomial = std::array<R, 7>;
    const auto average = [&](const Polynomial& f, int i, int j) {
      S out(0);
      for (int n = 0; n < 7; ++n)
        if (f[n] != R(0)) out += S(T(f[n])) * sums.a[i][n + j];
      return out;
    };
    const auto of_q = [&](const Polynomial& f, int i) -> M {
      const S a0 = average(f, i, 0), a1 = average(f, i, 1), a2 = average(f, i, 2);
      return {{{a0 + iota * b * e2 * w * a1, iota * b * (kap * b * w * a2 - e2 * rho * a1)},
               {iota * e2 * tau * a1, a0 + iota * b * (kap * tau * a2 + e2 * w * a1)}}};
    };
    const auto of_qt = [&](const Polynomial& f, int i) -> M {
      const S a0 = average(f, i, 0), a1 = average(f, i, 1), a2 = average(f, i, 2);
      return {{{a0 + iota * b * e2 * w * a1, -iota * b * e2 * tau * a1},
               {iota * (rho * e2 * a1 - w * kap * b * a2),
                a0 + iota * b * (kap * tau * a2 + e2 * w * a1)}}};
    };
    const auto of_qb = [&](const Polynomial& f, int i) -> M {
      const S a1 = average(f, i, 1), a2 = average(f, i, 2),
              cross = e2 * a1 + iota * b * e2 * e2 * w * a2;
      return {{{b * (kap + iota * e2 * e2 * rho) * a2, b * cross},
               {-cross, iota * b * e2 * e2 * tau * a2}}};
    };
    const Polynomial one{1, 0, 0, 0, 0, 0, 0}, line{0, 1, 0, 0, 0, 0, 0};
    const M tt = detail::inverse(M{{{S(1), b}, {S(-1), S(1)}}} + of_qb(one, 2));
    /// A vector x of the step: sqrt(iota) f_x and the matrices that stand for c_x + E[f_x t Q], c_x
    /// + E[f_x t Qt].
    struct Vector {
      Polynomial f;
      M n, nt;
    };
    const R root = std::sqrt(m.iota), root_u2 = std::sqrt(m.u2);
    Vector x[4];  // v, z, la, lb
    x[0].f = {0, root / m.l, 0, 0, 0, 0, 0};
    x[0].n = detail::scaled(S(T(1.0 / m.l)), of_q(line, 1));
    x[0].nt = detail::scaled(S(T(1.0 / m.l)), of_qt(line, 1));
    x[1].f = {0, -m.gamma / root_u2, 0, 0, 0, 0, 0};
    const M tqb = detail::scaled(S(T(m.h1_target)), of_qb(line, 1)),
            u2{{{S(T(m.u2)), S(0)}, {S(0), S(T(m.u2))}}};
    const S shrink(T(root / (m.l * root_u2)));
    x[1].n = detail::scaled(shrink, u2 + tqb * gm);
    x[1].nt = detail::scaled(shrink, u2 + gm * tqb);
    const int count = m.lean ? 4 : 2;
    for (int i = 2; i < count; ++i) {
      const std::array<R, 4>& f = i == 2 ? m.la : m.lb;
      const Polynomial full{f[0], f[1], f[2], f[3], 0, 0, 0};
      x[i].n = of_q(full, 1), x[i].nt = of_qt(full, 1);
      for (int n = 0; n < 7; ++n) x[i].f[n] = n < 4 ? root * f[n] : R(0);
    }
    const auto p = [&](int i, int j) -> M {
      Polynomial product{};
      for (int n = 0; n < 4; ++n)
        for (int k = 0; k < 4; ++k)
          if (n + k < 7) product[n + k] += x[i].f[n] * x[j].f[k];
      return gm * of_q(product, 0) + x[i].nt * tt * x[j].n;
    };
    const S vv = p(0, 0)[0][0], vz = p(0, 1)[0][0], zz = p(1, 1)[0][0];
    S lv(0), lz(0), ll(0);
    if (m.lean) {
      const auto with = [&](int i) { return p(i, 2)[0][0] - p(i, 3)[0][1] / b; };
      lv = with(0), lz = with(1);
      const BasicResidualMoments<R>& e = m.moments;
      const R lb1 = m.lb[1], lb2 = m.lb[2], tilt = lb1 * e.tu[1] + lb2 * e.tu[2];
      const R square =
          m.iota * (lb1 * lb1 * e.u[2] + 2.0 * lb1 * lb2 * e.u[3] + lb2 * lb2 * e.u[4]) +
          tilt * tilt;
      ll = p(2, 2)[0][0] - S(2) * p(2, 3)[0][1] / b + (S(T(square)) - p(3, 3)[1][1]) / b;
    }
    const S frame[9] = {vv, vz, lv, vz, zz, lz, lv, lz, ll};
    Overlaps<T> out(1, slope_of(state_.b, T(1)), frame, T(m.c_delta));
    out.mean = mean_resolvent(sums.a[0][0] + iota * b * e2 * w * sums.a[0][1]);
    return out;
  }
};

}  // namespace srfx
