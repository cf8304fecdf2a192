// Newton's method on (V1, V2), guarded, from V = (1, 1)/lam (THEORY section 3).
//
// Each lane is a point of its own: it stops moving when it has converged, so its digits do not depend on its neighbours.
#pragma once

#include "equations.hpp"

namespace srfx {

/// Where an iteration starts and when it stops.
struct NewtonSettings {
  int max_iterations = 200;
  double step_tolerance = 1e-8;  ///< the last step taken is at most this, relative: the error left is of its square
};

template <class V> struct NewtonResult {
  V v1, v2;
  V iterations;            ///< evaluations of the map
  simd::TruthOf<V> converged;
};

template <class V, class Bulk>
NewtonResult<V> newton(const Bulk& bulk, const Point<V>& p, const Node* nodes, Index n, V v1, V v2,
                       const NewtonSettings& settings = {}) {
  NewtonResult<V> out{v1, v2, V(0), V(0) > V(0)};
  auto active = V(0) <= V(0);
  const V tolerance(settings.step_tolerance);
  for (int iteration = 0; iteration < settings.max_iterations && simd::any(active); ++iteration) {
    const MapValue<V> map = map_value(bulk, p, map_sums(nodes, n, p.unit, out.v1, out.v2));
    V step1, step2;
    map.solve(map.bulk.y1 - out.v1, map.bulk.y2 - out.v2, step1, step2);
    V next1 = out.v1 + step1, next2 = out.v2 + step2;
    // Where Newton leaves the positive axis (or is not finite) take the plain step of the map, which never does.
    const auto inside = (next1 > V(0)) & (next2 > V(0));
    next1 = simd::select(inside, next1, map.bulk.y1);
    next2 = simd::select(inside, next2, map.bulk.y2);
    const auto close = (simd::abs(next1 - out.v1) <= tolerance * next1) & (simd::abs(next2 - out.v2) <= tolerance * next2);
    out.iterations += simd::select(active, V(1), V(0));
    out.v1 = simd::select(active, next1, out.v1);
    out.v2 = simd::select(active, next2, out.v2);
    out.converged = out.converged | (active & close);
    active = active & !(close) & (next1 + next2 < V(infinity));
  }
  return out;
}

}  // namespace srfx
