// Batches of solves: points grouped by coefficient set and class of lam, eight to a pack, packs to threads.
//
// What a point yields depends on the point alone: not on its neighbours in the batch, nor on the number of threads.
#pragma once

#include "levels.hpp"
#include "parallel.hpp"
#include "solver.hpp"

#include <memory>

namespace srfx {

/// A read-only input: one value for every point, or one each.
struct Column {
  const double* data = nullptr;
  Index stride = 0;  ///< 0 or 1
  double operator[](Index i) const { return data[i * stride]; }
};

struct BatchInput {
  const Function* sigma = nullptr;
  const Function* target = nullptr;
  std::vector<SpikeParameters> sets;
  const std::int64_t* set_index = nullptr;
  Index set_stride = 0;
  Column alpha, beta, lam, noise, inverse_d;
  Index n_points = 0;
  int n_threads = 1;
};

struct BatchOutput {
  double *test_error, *train_error, *m, *theta, *psi, *q1, *q2, *v1, *v2, *residual, *quadrature_error;
  std::int8_t* status;
  std::int32_t* iterations;
};

/// Room that one thread reuses from pack to pack.
struct Workspace {
  using V = simd::Lanes<double, 8>;
  std::vector<V> weights;
  std::vector<double> scalar_weights;
  std::vector<Node> nodes;
};

/// A solution is called converged when the defect of the whole undamped system is below this.
inline constexpr double residual_tolerance = 1e-9;

namespace detail {

inline void store(const BatchOutput& out, Index i, const Order<double>& x, Status status, int iterations, double quadrature_error) {
  out.test_error[i] = x.test_error, out.train_error[i] = x.train_error;
  out.m[i] = x.m, out.theta[i] = x.theta, out.psi[i] = x.psi;
  out.q1[i] = x.q1, out.q2[i] = x.q2, out.v1[i] = x.v1, out.v2[i] = x.v2;
  out.residual[i] = x.residual;
  out.quadrature_error[i] = quadrature_error;
  out.status[i] = static_cast<std::int8_t>(status);
  out.iterations[i] = iterations;
}

inline void store_failure(const BatchOutput& out, Index i, Status status, int iterations, double residual) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  store(out, i, {nan, nan, nan, nan, nan, nan, nan, nan, nan, residual}, status, iterations, nan);
}

inline bool finite(const Order<double>& x) {
  return std::isfinite(x.test_error) && std::isfinite(x.train_error) && std::isfinite(x.m) && std::isfinite(x.theta) &&
         std::isfinite(x.psi) && std::isfinite(x.q1) && std::isfinite(x.q2) && std::isfinite(x.v1) && std::isfinite(x.v2);
}

inline Status judge(const Order<double>& x, bool stopped) {
  if (!finite(x) || !std::isfinite(x.residual)) return Status::non_finite;
  return stopped && x.residual <= residual_tolerance ? Status::converged : Status::max_iterations;
}

template <class V> Order<double> lane(const Order<V>& x, int i) {
  return {x.test_error[i], x.train_error[i], x.m[i], x.theta[i], x.psi[i], x.q1[i], x.q2[i], x.v1[i], x.v2[i], x.residual[i]};
}

}  // namespace detail

/// Solves up to eight points of one coefficient set and class of lam, lam > 0.
template <class Bulk>
void solve_pack(const Bulk& bulk, const BatchInput& in, const BatchOutput& out, const Selection& rule, const Index* points,
                int count, Workspace& work) {
  using V = Workspace::V;
  Point<V> p;
  for (int lane = 0; lane < V::size; ++lane) {
    const Index i = points[std::min(lane, count - 1)];
    p.alpha.set(lane, in.alpha[i]);
    p.beta.set(lane, in.beta[i]);
    p.lam.set(lane, in.lam[i]);
    p.noise.set(lane, in.noise[i]);
    p.inverse_d.set(lane, in.inverse_d[i]);
  }
  p.unit = V(1);
  const Node* nodes = rule.level->nodes.data();
  const V start = V(1) / p.lam;
  const NewtonResult<V> fixed_point = newton(bulk, p, nodes, rule.size, start, start);
  const Order<V> order = linear_part(bulk, p, nodes, rule.size, fixed_point.v1, fixed_point.v2, work.weights.data());
  for (int lane = 0; lane < count; ++lane) {
    const Order<double> x = detail::lane(order, lane);
    const int iterations = static_cast<int>(fixed_point.iterations[lane]);
    const Status status = detail::judge(x, fixed_point.converged[lane]);
    if (status == Status::converged)
      detail::store(out, points[lane], x, status, iterations, rule.error);
    else
      detail::store_failure(out, points[lane], status, iterations, x.residual);
  }
}

/// Class of lam whose rule serves the ridgeless limit above the threshold, where V is finite but its size unknown.
inline constexpr int ridgeless_class = 12;

/// Solves one point at lam = 0 (THEORY section 3).
template <class Bulk>
void solve_ridgeless(const Bulk& bulk, const BatchInput& in, const BatchOutput& out, const LevelLadder& ladder, Index i,
                     Workspace& work) {
  const Selection rule = ladder.select(ridgeless_class);
  bool linear = true;  // u2 = 0: the features span min(d, p) directions, not p
  for (const Node& node : rule.level->nodes) linear = linear && node.u2 == 0;
  Point<double> p{in.alpha[i], in.beta[i], 0, in.noise[i], in.inverse_d[i], 1};
  const double threshold = linear ? std::min(1.0, p.beta) : p.beta;
  if (p.alpha == threshold) return detail::store_failure(out, i, Status::diverged, 0, infinity);

  int iterations = 0;
  const auto solve = [&](const Level& level, Index size, Order<double>& x) {
    if (static_cast<Index>(work.scalar_weights.size()) < size) work.scalar_weights.resize(size);
    const NewtonResult<double> v = newton(bulk, p, level.nodes.data(), size, 1.0, 1.0);
    iterations += static_cast<int>(v.iterations);
    x = linear_part(bulk, p, level.nodes.data(), size, v.v1, v.v2, work.scalar_weights.data());
    return detail::judge(x, v.converged);
  };
  Order<double> x;
  if (p.alpha > threshold) {
    // With linear features and p > d the null directions of the bulk leave <1/S> = 1/lam: the limit is taken at a lam
    // so small that what is neglected is below rounding.
    if (linear && p.beta > 1) p.lam = 1e-30 * ladder.select(0).level->nodes[0].u1;
    const Status status = solve(*rule.level, rule.size, x);
    if (status != Status::converged) return detail::store_failure(out, i, status, iterations, x.residual);
    return detail::store(out, i, x, status, iterations, rule.error);
  }
  // Below the threshold, in v = lam V. Tails that no sample reaches may rule the averages: the value then moves with the
  // range of k, and the limit is infinite.
  p.unit = 0, p.lam = 1;
  const Level& dense = ladder.level(ladder.size() - 1);
  const Level& coarse = ladder.level(ladder.size() - 2);
  const auto within = [](const Level& level, double range) {
    Index n = 0;
    while (n < level.size() && std::abs(level.k[n]) <= range) ++n;
    return n;
  };
  Order<double> narrow, narrower, check;
  Status status = solve(dense, within(dense, 10), x);
  const auto moved = [&](const Order<double>& y) {
    return std::max(std::abs(y.test_error - x.test_error) / std::abs(x.test_error), std::abs(y.q2 - x.q2) / std::abs(x.q2));
  };
  if (status == Status::converged) status = solve(dense, within(dense, 8.5), narrow);
  if (status == Status::converged) status = solve(dense, within(dense, 7), narrower);
  if (status == Status::converged) status = solve(coarse, within(coarse, 10), check);
  if (status != Status::converged) return detail::store_failure(out, i, status, iterations, x.residual);
  if (!(moved(narrow) < 1e-7) || !(moved(narrower) < 1e-4)) return detail::store_failure(out, i, Status::diverged, iterations, x.residual);
  x.v1 = x.v2 = infinity;
  detail::store(out, i, x, status, iterations, std::max(moved(narrow), moved(check)));
}

/// Solves every point of a batch.
template <class Bulk> void solve_batch(const Bulk& bulk, const BatchInput& in, const BatchOutput& out, Interrupt& interrupt) {
  const Index n = in.n_points, n_sets = static_cast<Index>(in.sets.size());
  constexpr int n_keys = n_lam_classes + 1;  // the last holds lam = 0
  const auto set_of = [&](Index i) { return static_cast<Index>(in.set_index[i * in.set_stride]); };
  const auto key_of = [&](Index i) { return in.lam[i] > 0 ? lam_class(in.lam[i]) : n_lam_classes; };

  // Points by set, then by class of lam: two stable counting sorts.
  std::vector<Index> set_begin(n_sets + 1, 0);
  std::vector<Index> order(n);
  for (Index i = 0; i < n; ++i) ++set_begin[set_of(i) + 1];
  for (Index s = 0; s < n_sets; ++s) set_begin[s + 1] += set_begin[s];
  {
    std::vector<Index> next(set_begin.begin(), set_begin.end() - 1);
    for (Index i = 0; i < n; ++i) order[next[set_of(i)]++] = i;
  }

  const int n_threads = std::max(1, in.n_threads);
  std::vector<Workspace> work(n_threads);
  struct SetState {
    std::unique_ptr<Coefficients> coefficients;
    std::unique_ptr<LevelLadder> ladder;
    Index begin[n_keys + 1];
  };
  struct Piece {
    Index set, begin, end;
    int key;
  };
  const Index chunk = std::min<Index>(n_sets, 32 * n_threads);
  constexpr Index piece_size = 512;
  std::vector<SetState> states(chunk);
  std::vector<Piece> pieces;
  for (Index first = 0; first < n_sets; first += chunk) {
    const Index count = std::min(chunk, n_sets - first);
    parallel_for(count, n_threads, interrupt, [&](Index local, int) {
      SetState& state = states[local];
      const Index lo = set_begin[first + local], hi = set_begin[first + local + 1];
      if (lo == hi) return;
      // Sort this set's points by class.
      Index counts[n_keys] = {};
      for (Index i = lo; i < hi; ++i) ++counts[key_of(order[i])];
      state.begin[0] = lo;
      int top = 0;
      for (int key = 0; key < n_keys; ++key) {
        state.begin[key + 1] = state.begin[key] + counts[key];
        if (counts[key] > 0) top = std::max(top, key == n_lam_classes ? ridgeless_class : key);
      }
      if (counts[key_of(order[lo])] != hi - lo) {
        std::vector<Index> sorted(hi - lo);
        Index next[n_keys];
        std::copy(state.begin, state.begin + n_keys, next);
        for (Index i = lo; i < hi; ++i) sorted[next[key_of(order[i])]++ - lo] = order[i];
        std::copy(sorted.begin(), sorted.end(), order.begin() + lo);
      }
      state.coefficients = std::make_unique<Coefficients>(*in.sigma, *in.target, in.sets[first + local]);
      state.ladder = std::make_unique<LevelLadder>(*state.coefficients);
      state.ladder->build(top);
    });
    pieces.clear();
    for (Index local = 0; local < count; ++local) {
      if (set_begin[first + local] == set_begin[first + local + 1]) continue;
      for (int key = 0; key < n_keys; ++key)
        for (Index lo = states[local].begin[key]; lo < states[local].begin[key + 1]; lo += piece_size)
          pieces.push_back({local, lo, std::min(lo + piece_size, states[local].begin[key + 1]), key});
    }
    parallel_for(static_cast<Index>(pieces.size()), n_threads, interrupt, [&](Index index, int thread) {
      const Piece& piece = pieces[index];
      const LevelLadder& ladder = *states[piece.set].ladder;
      Workspace& own = work[thread];
      if (piece.key == n_lam_classes) {
        for (Index i = piece.begin; i < piece.end; ++i) solve_ridgeless(bulk, in, out, ladder, order[i], own);
        return;
      }
      const Selection rule = ladder.select(piece.key);
      if (static_cast<Index>(own.weights.size()) < rule.size) own.weights.resize(rule.size);
      for (Index i = piece.begin; i < piece.end; i += Workspace::V::size)
        solve_pack(bulk, in, out, rule, order.data() + i, static_cast<int>(std::min<Index>(Workspace::V::size, piece.end - i)), own);
    });
  }
}

}  // namespace srfx
