// The fixed point behind the anisotropic bulk that one step leaves (THEORY sections 9 and 10, one
// readout value).
//
// At s = A/B, with b = beta g and g = <1/(Omega + s)>, everything follows from three numbers (tau,
// om, rho) that solve a fixed point of averages over (t, eps). In the basis scaled by (1, sqrt b),
// where no root of b occurs and om = sqrt(b) w,
//
//   Gm = [[tau, -b w], [w, rho]],  B(u) = [[b kap u^2, b e2 u], [-e2 u, 0]],
//   Q(u) = (1 + iota B Gm)^-1,   det(1 + iota B Gm) = D(u)
//   D(u) = 1 + 2 iota b e2 w u + (iota b kap tau + iota^2 b e2^2 (b w^2 + tau rho)) u^2:
//
// so every average is one of t^i u^j/D(u), i <= 2, and a pass over the nodes of u costs one
// reciprocal a node. Where e2 = 0 and E z S^2 = 0 (odd sigma) two of the three unknowns drop out:
// section 9's scalar path.
#pragma once

#include "srfx/bulk/response.hpp"
#include "srfx/bulk/step_model.hpp"
#include "srfx/core/packed.hpp"

#include <array>

namespace srfx {

/// The fixed point of one step. T: of s and beta; R: of the step's parameters, complex where they
/// carry an infinitesimal imaginary part (step_gradient.hpp), then in the nodes too. Own: the bulk
/// that is made of it.
template <class Own, class T, class R, class Nodes>
class OneStepMap : public Response<Own, T, !std::is_same_v<R, double>> {
  using Base = Response<Own, T, !std::is_same_v<R, double>>;
  friend Base;

 public:
  OneStepMap(const BasicStepModel<R>& step, const Nodes& nodes) : step_(&step), nodes_(&nodes) {}

  const SpikeParameters& spike() const { return step_->spike; }

  /// How far averages over other nodes differ at the state at hand, relative to those of absolute
  /// values.
  double compare(const ResidualNodes& other) const {
    const double b = real_part(state_.b), x = step_->e2 * step_->iota, w = real_part(state_.w),
                 tau = real_part(state_.tau);
    const double c1 = 2 * x * b * w;
    const double c2 =
        step_->iota * b *
        (step_->kap * tau + step_->e2 * x * (b * w * w + tau * real_part(state_.rho)));
    return difference(*nodes_, other, c1, c2, step_->scalar);
  }

 protected:
  using Base::state_;
  using typename Base::Evaluation, typename Base::State;
  using P = detail::Packed<T>;
  using V = typename P::Type;
  using Real = typename P::Real;

  Evaluation evaluate(const State& x) const {
    return step_->scalar ? evaluate_scalar(x) : evaluate_matrix(x);
  }

  Evaluation evaluate_scalar(const State& x) const {
    const T kap(step_->kap), iota(step_->iota), e = x.b * kap * x.tau * iota;
    const V ve(e);
    const Real unit(1.0);
    V j2(0.0), i4(0.0);
    const auto* u = nodes_->u.data();
    const double* w = nodes_->w[0].data();
    if (step_->kap != R(0))
      for (Index i = 0; i < nodes_->size(); i += P::size) {
        const auto at = P::load(u + i), square = at * at;
        const V q = unit / (unit + ve * square), wq = P::load(w + i) * square * q;
        j2 += wq;
        i4 += wq * square * q;
      }
    const T j = P::total(j2), dj = -P::total(i4);  // by e
    Evaluation out{};
    const T y = T(1) + kap * j, f = T(1) / (T(1) + x.b * y);
    out.map[0] = f;
    out.nu = f * y;
    const T de[2] = {x.b * kap * iota, kap * x.tau * iota};  // by tau, b
    for (int k = 0; k < 2; ++k) {
      const int column = 3 * k;
      const T dy = kap * dj * de[k], df = -f * f * (x.b * dy + (k == 1 ? y : T(0)));
      out.dmap[0][column] = df;
      out.dnu[column] = df * y + f * dy;
    }
    return out;
  }

  Evaluation evaluate_matrix(const State& x) const {
    const T kap(step_->kap), iota(step_->iota), e2(step_->e2),
        x2 = e2 * e2 * iota;  // x2: e2^2/alpha0
    const T c1 = T(2) * x.b * e2 * x.w * iota, det = x.b * x.w * x.w + x.tau * x.rho;
    const T c2 = iota * x.b * (kap * x.tau + x2 * det);
    const V v1(c1), v2(c2);
    const Real unit(1.0);
    V s1(0.0), s2(0.0), s22(0.0), s23(0.0), s24(0.0);
    const auto* u = nodes_->u.data();
    const double* w = nodes_->w[0].data();
    for (Index i = 0; i < nodes_->size(); i += P::size) {
      const auto at = P::load(u + i);
      const V q = unit / (unit + at * (v1 + v2 * at)), uq = at * q, wuq = P::load(w + i) * uq;
      s1 += wuq;
      s2 += wuq * at;
      const V squared = wuq * uq;
      s22 += squared;
      s23 += squared * at;
      s24 += squared * at * at;
    }
    const T j1 = P::total(s1), j2 = P::total(s2), i2 = P::total(s22), i3 = P::total(s23),
            i4 = P::total(s24);
    const T k = kap + x2 * x.rho;
    const T a1 = T(1) + x.b * k * j2, a2 = T(1) + e2 * j1 + x.b * x2 * x.w * j2,
            a3 = T(1) + x.b * x2 * x.tau * j2;
    const T d = T(1) / (a1 * a3 + x.b * a2 * a2), inner = a3 * k * j2 + a2 * a2;
    Evaluation out;
    out.map[0] = d * a3, out.map[1] = d * a2, out.map[2] = d * a1;
    out.nu = d * inner;
    const T dc1[4] = {T(0), T(2) * x.b * e2 * iota, T(0), T(2) * e2 * x.w * iota};
    const T dc2[4] = {iota * x.b * (kap + x2 * x.rho), iota * x.b * x2 * T(2) * x.b * x.w,
                      iota * x.b * x2 * x.tau, iota * (kap * x.tau + x2 * (det + x.b * x.w * x.w))};
    for (int q = 0; q < 4; ++q) {
      const T one(1), dtau = q == 0 ? one : T(0), dw = q == 1 ? one : T(0),
                      drho = q == 2 ? one : T(0), db = q == 3 ? one : T(0);
      const T dj1 = -(i2 * dc1[q] + i3 * dc2[q]), dj2 = -(i3 * dc1[q] + i4 * dc2[q]);
      const T dk = x2 * drho, da1 = db * k * j2 + x.b * (dk * j2 + k * dj2);
      const T da2 = e2 * dj1 + x2 * (db * x.w * j2 + x.b * (dw * j2 + x.w * dj2));
      const T da3 = x2 * (db * x.tau * j2 + x.b * (dtau * j2 + x.tau * dj2));
      const T dd = -d * d * (a3 * da1 + a1 * da3 + T(2) * x.b * a2 * da2 + db * a2 * a2);
      out.dmap[0][q] = dd * a3 + d * da3;
      out.dmap[1][q] = dd * a2 + d * da2;
      out.dmap[2][q] = dd * a1 + d * da1;
      out.dnu[q] = dd * inner + d * (da3 * k * j2 + a3 * (dk * j2 + k * dj2) + T(2) * a2 * da2);
    }
    return out;
  }

  bool scalar() const { return step_->scalar; }
  bool stepped() const { return step_->stepped; }
  double variance() const { return step_->spike.c; }
  T c() const { return T(step_->c); }

  const BasicStepModel<R>* step_;
  const Nodes* nodes_;
};

}  // namespace srfx
