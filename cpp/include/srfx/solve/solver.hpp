// Newton's method on (V1, V2), guarded, from V = (1, 1)/lam (THEORY section 3).
//
// Each lane is a point of its own: it stops moving when it has converged, so its digits do not
// depend on its neighbours.
#pragma once

#include "srfx/data/linear_part.hpp"

namespace srfx {

/// When an iteration stops. A step s that follows a step s' leaves an error of about s^3/s'^2
/// (Newton converges quadratically), relative; that, or the step itself, has to be below the
/// tolerance.
struct NewtonSettings {
  int max_iterations = 200;
  double tolerance = 1e-13;
};

template <class V> struct NewtonResult {
  V v1, v2;
  V iterations;  ///< evaluations of the map
  simd::TruthOf<V> converged;
};

template <class V, class Bulk>
NewtonResult<V> newton(const Bulk& bulk, const Point<V>& p, const NodeSet& set, V v1, V v2,
                       const NewtonSettings& settings = {}) {
  NewtonResult<V> out{v1, v2, V(0), V(0) > V(0)};
  auto active = V(0) <= V(0);
  const V tolerance(settings.tolerance);
  V previous(1e-4);  // before the first step: a step below 1e-7 is taken for the last
  for (int iteration = 0; iteration < settings.max_iterations && simd::any(active); ++iteration) {
    const MapValue<V> map = map_value(bulk, p, map_sums(set, p.unit, out.v1, out.v2));
    V step1, step2;
    map.solve(map.bulk.y1 - out.v1, map.bulk.y2 - out.v2, step1, step2);
    V next1 = out.v1 + step1, next2 = out.v2 + step2;
    // Where Newton leaves the positive axis (or is not finite) take the plain step of the map,
    // which never does.
    const auto inside = (next1 > V(0)) & (next2 > V(0));
    next1 = simd::select(inside, next1, map.bulk.y1);
    next2 = simd::select(inside, next2, map.bulk.y2);
    const V step = simd::max(simd::abs(next1 - out.v1) * next2, simd::abs(next2 - out.v2) * next1) /
                   (next1 * next2);
    const auto close =
        (step <= tolerance) |
        (inside & (step < previous) & (step * step * step <= tolerance * previous * previous));
    const auto stalled =
        (step < V(1e-6)) &
        (step >= V(0.5) * previous);  // rounding decides: the linear part sees better
    previous = simd::min(V(0.03), step);
    out.iterations += simd::select(active, V(1), V(0));
    out.v1 = simd::select(active, next1, out.v1);
    out.v2 = simd::select(active, next2, out.v2);
    out.converged = out.converged | (active & close);
    active = active & !(close | stalled) & (next1 + next2 < V(infinity));
  }
  return out;
}

}  // namespace srfx
