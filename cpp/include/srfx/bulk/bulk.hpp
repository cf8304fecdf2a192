// Spectral averages of the bulk W0 Pi W0^T of the first layer (THEORY section 3), S = A + B D:
//
//   y1 = <D/S>   y2 = <1/S>   t11 = <D^2/S^2>   t12 = <D/S^2>   t22 = <1/S^2>
//   t11c = t11 - beta y1^2
//
// A bulk is a policy, a type that tells the solver and the linear part what the spectrum of the
// weights does. The concept:
//
//   one group        averages(A, B, beta) -> SpectralAverages, at the scalar of its arguments:
//   double,
//                    SIMD lanes, dual and complex numbers. MarchenkoPastur; OneStepBulk and
//                    EmpiricalBulk, which also have
//                    overlaps(A, B, beta) -> Overlaps: the kernel K_ab(s) of (W vhat, W zhat,
//                    delta) and the mean, with its derivative K' (THEORY 9 d)
//   several groups   solve_at(Vh, lam, V): V at packed (Vh1, Vh2); failed();
//                    traces(N, Q): Q = T N. GroupMap; GroupStepBulk, which also has overlaps(),
//                    and sources(hats) = -d(hat^T K hat)/d(Vh1, A), which adds to T N for (Q1, Q2)
//
// From these alone follow V (solver.hpp, group_solver.hpp), the fit of the features and the errors
// (linear_part.hpp, anisotropic_part.hpp, group_equations.hpp, group_step_solver.hpp), and the
// spectrum of the features at complex lam (spectrum.hpp).
#pragma once

#include "srfx/core/scalar.hpp"
#include "srfx/core/simd.hpp"
#include "srfx/core/types.hpp"

#include <complex>

namespace srfx {

template <class V> struct SpectralAverages {
  V y1, y2, t11, t12, t22, t11c;
};

namespace detail {

/// (G, Q) with A B beta G^2 + b G = 1, b = A + B (1 - beta), Q = sqrt(b^2 + 4 A B beta), G the root
/// that tends to 1/A for B -> 0, by whichever of its two forms does not cancel.
template <class V> SRFX_INLINE void resolvent_root(V a, V bulk, V beta, V& g, V& q) {
  const V b = a + bulk * (V(1) - beta), product = a * bulk * beta;
  q = simd::sqrt(b * b + V(4) * product);
  const auto positive = b > V(0);
  const V numerator = simd::select(positive, V(2), q - b);
  const V denominator = simd::select(positive, b + q, V(2) * product);
  g = numerator / denominator;
}
/// Differentiated: dG = -(G^2 d(A B beta) + G db)/Q, dQ = (b db + 2 d(A B beta))/Q.
template <class V>
SRFX_INLINE void resolvent_root(Dual<V> a, Dual<V> bulk, Dual<V> beta, Dual<V>& g, Dual<V>& q) {
  const Dual<V> b = a + bulk * (Dual<V>(V(1)) - beta), product = a * bulk * beta;
  resolvent_root(a.v, bulk.v, beta.v, g.v, q.v);
  const V inverse = V(1) / q.v;
  g.d = -g.v * (g.v * product.d + b.d) * inverse;
  q.d = (b.v * b.d + V(2) * product.d) * inverse;
}
/// For A and B in the same half plane (or positive). Q^2 = (A + B D-)(A + B D+) with D-+ = (1 -+
/// sqrt beta)^2, the edges of the bulk: the product of the two principal roots is analytic there,
/// and positive for positive A and B.
template <class R>
void resolvent_root(std::complex<R> a, std::complex<R> bulk, std::complex<R> beta,
                    std::complex<R>& g, std::complex<R>& q) {
  const std::complex<R> root = std::sqrt(beta), one(1), two(2);
  q = std::sqrt(a + bulk * (one - root) * (one - root)) *
      std::sqrt(a + bulk * (one + root) * (one + root));
  const std::complex<R> b = a + bulk * (one - beta);
  g = std::real(b * std::conj(q)) >= 0 ? two / (b + q) : (q - b) / (two * a * bulk * beta);
}

}  // namespace detail

/// The isotropic bulk of CPD24: rows uniform on the sphere, spectrum of Marchenko and Pastur with
/// ratio beta = p/d.
///
/// With G = <1/S> the root above for b = A + B (1 - beta), F = 1 + beta B G and Q as there:
///   y1 = G/F   t22 = G F/Q   t12 = G/(F Q)   t11 = y1 (beta A G + 1/F)/Q   t11c = y1/(F^2 Q).
/// Sums of positive terms only. B = 0 needs no special case, nor does A = 0 for beta < 1 (for beta
/// >= 1, <1/S> is infinite then).
struct MarchenkoPastur {
  template <class V> SRFX_INLINE SpectralAverages<V> averages(V a, V b, V beta) const {
    V g, q;
    detail::resolvent_root(a, b, beta, g, q);
    const V f = V(1) + beta * b * g;
    const V inverse = V(1) / (f * q), inverse_f = q * inverse, inverse_q = f * inverse;
    SpectralAverages<V> out;
    out.y1 = g * inverse_f;
    out.y2 = g;
    out.t22 = g * f * inverse_q;
    out.t12 = out.y1 * inverse_q;
    out.t11 = out.t12 * (beta * a * g + inverse_f);
    out.t11c = out.t12 * inverse_f * inverse_f;
    return out;
  }
};

}  // namespace srfx
