// Batches of solves: points grouped by coefficient set and class of lam, eight to a pack, packs to
// threads.
//
// What a point yields depends on the point alone: not on its neighbours in the batch, nor on the
// number of threads.
#pragma once

#include "srfx/data/levels.hpp"
#include "srfx/core/parallel.hpp"
#include "srfx/solve/solver.hpp"

#include <algorithm>
#include <mutex>
#include <optional>

namespace srfx {

/// A read-only input: one value for every point, or one each.
struct Column {
  const double* data = nullptr;
  Index stride = 0;  ///< 0 or 1
  double operator[](Index i) const { return data[i * stride]; }
};

struct BatchInput : BatchTarget {
  const Function* sigma = nullptr;
  std::vector<SpikeParameters> sets;
  const std::int64_t* set_index = nullptr;
  Index set_stride = 0;
  Column alpha, beta, lam, noise, inverse_d;
  Index n_points = 0;
  int n_threads = 1;
};

/// Point i of a batch of any kind.
template <class Input> Point<double> point_of(const Input& in, Index i) {
  return {in.alpha[i],
          in.beta[i],
          in.lam[i],
          in.noise[i],
          in.inverse_d[i],
          1,
          in.alpha[i] / in.beta[i]};
}

struct BatchOutput {
  double *test_error, *train_error, *m, *theta, *psi, *q1, *q2, *v1, *v2, *residual,
      *quadrature_error;
  std::int8_t* status;
  std::int32_t* iterations;
  double* psi_directions = nullptr;  ///< of a target of L directions: n_points x L, see SetState
};

/// Points per pack of the linear part, and of the iteration (where two packs hide each other's
/// latency).
using Pack = simd::Lanes<double, 8>;
using TwinPack = simd::Pair<Pack>;
/// The same in single precision, for the first pass.
using TwinFloatPack = simd::Pair<simd::Lanes<float, 16>>;

/// Room that one thread reuses from block to block.
struct Workspace {
  std::vector<Pack> weights;
  std::vector<double> scalar_weights;
  std::vector<Index> points;
  std::vector<std::int8_t> keys;
  std::vector<Pack> psi_across;
  std::vector<double> scalar_psi_across, kept_psi_across;

  Pack* weights_for(Index n) {
    if (static_cast<Index>(weights.size()) < n) weights.resize(n);
    return weights.data();
  }
};

/// A solution is called converged when the defect of the whole undamped system (Order::residual) is
/// below this.
inline constexpr double residual_tolerance = 1e-10;

namespace detail {

inline void store(const BatchOutput& out, Index i, const Order<double>& x, Status status,
                  int iterations, double quadrature_error) {
  out.test_error[i] = x.test_error, out.train_error[i] = x.train_error;
  out.m[i] = x.m, out.theta[i] = x.theta, out.psi[i] = x.psi;
  out.q1[i] = x.q1, out.q2[i] = x.q2, out.v1[i] = x.v1, out.v2[i] = x.v2;
  out.residual[i] = x.residual;
  out.quadrature_error[i] = quadrature_error * x.amplification;
  out.status[i] = static_cast<std::int8_t>(status);
  out.iterations[i] = iterations;
}

inline void store_failure(const BatchOutput& out, Index i, Status status, int iterations,
                          double residual) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  store(out, i, {nan, nan, nan, nan, nan, nan, nan, nan, nan, residual, nan}, status, iterations,
        nan);
}

inline bool finite(const Order<double>& x) {
  return std::isfinite(x.test_error) && std::isfinite(x.train_error) && std::isfinite(x.m) &&
         std::isfinite(x.theta) && std::isfinite(x.psi) && std::isfinite(x.q1) &&
         std::isfinite(x.q2) && std::isfinite(x.v1) && std::isfinite(x.v2);
}

inline Status judge(const Order<double>& x) {
  if (!finite(x) || !std::isfinite(x.residual)) return Status::non_finite;
  return x.residual <= residual_tolerance ? Status::converged : Status::max_iterations;
}

/// judge() of every lane: the sum is finite only if all its terms are.
template <class V> simd::TruthOf<V> converged(const Order<V>& x) {
  const V sum = simd::abs(x.test_error) + simd::abs(x.train_error) + simd::abs(x.m) +
                simd::abs(x.theta) + simd::abs(x.psi) + simd::abs(x.q1) + simd::abs(x.q2) +
                simd::abs(x.v1) + simd::abs(x.v2);
  return (sum < V(infinity)) & (x.residual <= V(residual_tolerance));
}

/// Stores the first `count` lanes, all of them converged.
template <class V>
void store_pack(const BatchOutput& out, const Index* points, int count, const Order<V>& x,
                double quadrature_error) {
  alignas(64) double lanes[V::size];
  const auto scatter = [&](const V& value, double* column) {
    value.store(lanes);
    for (int i = 0; i < count; ++i) column[points[i]] = lanes[i];
  };
  scatter(x.test_error, out.test_error), scatter(x.train_error, out.train_error);
  scatter(x.m, out.m), scatter(x.theta, out.theta), scatter(x.psi, out.psi);
  scatter(x.q1, out.q1), scatter(x.q2, out.q2), scatter(x.v1, out.v1), scatter(x.v2, out.v2);
  scatter(x.residual, out.residual),
      scatter(V(quadrature_error) * x.amplification, out.quadrature_error);
  for (int i = 0; i < count; ++i)
    out.status[points[i]] = static_cast<std::int8_t>(Status::converged);
}

template <class V> Order<double> lane(const Order<V>& x, int i) {
  return {x.test_error[i], x.train_error[i], x.m[i],  x.theta[i],    x.psi[i],          x.q1[i],
          x.q2[i],         x.v1[i],          x.v2[i], x.residual[i], x.amplification[i]};
}

}  // namespace detail

/// Points, one a lane; lanes to spare repeat the last one.
template <class V> Point<V> gather(const BatchInput& in, const Index* points, int count) {
  using Scalar = simd::ScalarOf<V>;
  alignas(64) Scalar alpha[V::size], beta[V::size], lam[V::size], noise[V::size],
      inverse_d[V::size];
  for (int lane = 0; lane < V::size; ++lane) {
    const Index i = points[std::min(lane, count - 1)];
    alpha[lane] = static_cast<Scalar>(in.alpha[i]);
    beta[lane] = static_cast<Scalar>(in.beta[i]);
    lam[lane] = static_cast<Scalar>(in.lam[i]);
    noise[lane] = static_cast<Scalar>(in.noise[i]);
    inverse_d[lane] = static_cast<Scalar>(in.inverse_d[i]);
  }
  Point<V> p{V::load(alpha),     V::load(beta), V::load(lam), V::load(noise),
             V::load(inverse_d), V(1),          V(1)};
  p.ratio = p.alpha / p.beta;
  return p;
}

/// One column at the points of a pack.
template <class V> V gather(const double* column, const Index* points, int count) {
  alignas(64) double values[V::size];
  for (int lane = 0; lane < V::size; ++lane)
    values[lane] = column[points[std::min(lane, count - 1)]];
  return V::load(values);
}

/// Whether single precision has range and digits enough to start a point: V is wanted to some 1e-3.
inline bool single_will_do(const BatchInput& in, Index i, const NodeSet& starter) {
  const auto within = [](double x, double size) { return x > 1 / size && x < size; };
  const double scale = std::max(starter.mean_u1, starter.mean_u2);
  return within(scale, 1e4) && in.lam[i] > 1e-6 * scale && in.lam[i] < 1e5 * scale &&
         within(in.alpha[i], 1e3) && within(in.beta[i], 1e3);
}

/// First pass, lam > 0: V on the starter rule, kept in out.v1 and out.v2, and the iterations.
template <class V, class Bulk>
void start_pack(const Bulk& bulk, const BatchInput& in, const BatchOutput& out,
                const NodeSet& starter, const Index* points, int count) {
  const Point<V> p = gather<V>(in, points, count);
  const V start = V(1) / p.lam;
  const NewtonResult<V> found = newton(bulk, p, starter, start, start, {60, 1e-4});
  const auto usable = (found.v1 > V(0)) & (found.v2 > V(0)) & (found.v2 < V(infinity));
  alignas(64) simd::ScalarOf<V> v1[V::size], v2[V::size], iterations[V::size];
  simd::select(usable, found.v1, start).store(v1);
  simd::select(usable, found.v2, start).store(v2);
  found.iterations.store(iterations);
  for (int lane = 0; lane < count; ++lane) {
    const Index i = points[lane];
    out.v1[i] = v1[lane];
    out.v2[i] = v2[lane];
    out.iterations[i] = static_cast<std::int32_t>(iterations[lane]);
  }
}

/// psi of points, along the part of each direction of the target that the spike leaves: P^(1/2) = U
/// diag(rho, 1, ..) U^T is the A of THEORY section 13 that singles out no basis, and U turns what
/// was solved for.
template <class V>
void store_psi(const SetCoefficients& coefficients, const BatchOutput& out, const Index* points,
               int count, const V& psi, const V* across) {
  const dense::Matrix& turn = coefficients.marginal->turn();
  const Index n = turn.rows();
  constexpr int lanes = simd::Traits<V>::size;
  alignas(64) double values[lanes];
  for (Index l = 0; l < n; ++l) {
    V x = V(turn(l, 0)) * psi;
    for (Index m = 1; m < n; ++m) x += V(turn(l, m)) * across[m - 1];
    if constexpr (lanes == 1) values[0] = x;
    else x.store(values);
    for (int lane = 0; lane < count; ++lane) {
      const Index i = points[lane];
      const bool failed = out.status[i] != static_cast<std::int8_t>(Status::converged);
      out.psi_directions[i * n + l] =
          failed ? std::numeric_limits<double>::quiet_NaN() : values[lane];
    }
  }
}

/// One coefficient set while its points are solved. Rules are found when first asked for, under the
/// mutex.
struct SetState {
  std::mutex mutex;
  CoefficientScratch scratch;  ///< outlives the set: the next one in this place uses it
  SetCoefficients coefficients;
  std::optional<LevelTable> table;
  NodeSet starter;

  void clear() { table.reset(), coefficients.clear(); }
  void make(const Function& sigma, const BatchTarget& target, Index set,
            const SpikeParameters& parameters) {
    coefficients.make(sigma, target, set, parameters, scratch);
    table.emplace(*coefficients.of);
    starter = table->starter();
  }

  template <class V>
  void store_psi(const BatchOutput& out, const Index* points, int count, const V& psi,
                 const V* across) const {
    srfx::store_psi(coefficients, out, points, count, psi, across);
  }
};

/// Second pass: points of one coefficient set and class, from the V of the first.
template <class Bulk>
void solve_pack(const Bulk& bulk, const BatchInput& in, const BatchOutput& out,
                const SetState& state, const Selection& rule, const Index* points, int count,
                Workspace& work) {
  const Point<TwinPack> p = gather<TwinPack>(in, points, count);
  const TwinPack v1 = gather<TwinPack>(out.v1, points, count),
                 v2 = gather<TwinPack>(out.v2, points, count);
  const NewtonResult<TwinPack> fixed_point = newton(bulk, p, rule.nodes, v1, v2);
  Pack* weights = work.weights_for(rule.size);
  work.psi_across.resize(rule.nodes.n_across);
  for (int half = 0; half * Pack::size < count; ++half) {
    const auto part = [half](const TwinPack& x) { return half == 0 ? x.a : x.b; };
    const Point<Pack> q{part(p.alpha),     part(p.beta), part(p.lam),  part(p.noise),
                        part(p.inverse_d), part(p.unit), part(p.ratio)};
    const Order<Pack> order = linear_part(bulk, q, rule.nodes, part(fixed_point.v1),
                                          part(fixed_point.v2), weights, work.psi_across.data());
    const Index* at = points + half * Pack::size;
    const int live = std::min(Pack::size, count - half * Pack::size);
    for (int lane = 0; lane < live; ++lane)
      out.iterations[at[lane]] +=
          static_cast<std::int32_t>(fixed_point.iterations[half * Pack::size + lane]);
    if (simd::all(detail::converged(order))) {
      detail::store_pack(out, at, live, order, rule.error);
    } else {
      for (int lane = 0; lane < live; ++lane) {
        const Order<double> x = detail::lane(order, lane);
        const Index i = at[lane];
        const Status status = detail::judge(x);
        if (status == Status::converged)
          detail::store(out, i, x, status, out.iterations[i], rule.error);
        else detail::store_failure(out, i, status, out.iterations[i], x.residual);
      }
    }
    if (out.psi_directions != nullptr)
      state.store_psi(out, at, live, order.psi, work.psi_across.data());
  }
}

/// Class whose rule serves the ridgeless limit above the threshold, where V is finite but its size
/// unknown.
inline constexpr int ridgeless_class = 12 * n_shapes + n_shapes - 1;

/// Solves one point at lam = 0 (THEORY section 3).
template <class Bulk>
void solve_ridgeless(const Bulk& bulk, const BatchInput& in, const BatchOutput& out,
                     SetState& state, Index i, Workspace& work) {
  LevelTable& table = *state.table;
  const Selection& rule = table.find(ridgeless_class);
  bool linear = true;  // u2 = 0: the features span min(d, p) directions, not p
  for (const Node& node : rule.nodes.nodes) linear = linear && node.u2 == 0;
  Point<double> p{
      in.alpha[i], in.beta[i], 0, in.noise[i], in.inverse_d[i], 1, in.alpha[i] / in.beta[i]};
  const double threshold = linear ? std::min(1.0, p.beta) : p.beta;
  if (p.alpha == threshold) return detail::store_failure(out, i, Status::diverged, 0, infinity);

  int iterations = 0;
  const auto solve = [&](const Level& level, Index size, Order<double>& x) {
    if (static_cast<Index>(work.scalar_weights.size()) < size) work.scalar_weights.resize(size);
    const NodeSet set(level, size);
    Status status = Status::max_iterations;
    for (double start : {1.0, 1e3, 1e6, 1e9, 1e12, 1e-3}) {  // V is large just above the threshold
      const NewtonResult<double> v = newton(bulk, p, set, start, start);
      iterations += static_cast<int>(v.iterations);
      work.scalar_psi_across.resize(set.n_across);
      x = linear_part(bulk, p, set, v.v1, v.v2, work.scalar_weights.data(),
                      work.scalar_psi_across.data());
      status = detail::judge(x);
      if (status == Status::converged) break;
    }
    return status;
  };
  Order<double> x;
  const auto keep = [&] {  // of the solution; checks will overwrite it
    work.kept_psi_across = work.scalar_psi_across;
  };
  if (p.alpha > threshold) {
    // With linear features and p >= d the null directions of the bulk leave <1/S> unbounded: the
    // limit is taken at a lam so small that what is neglected is below rounding.
    if (linear && p.beta >= 1) p.lam = 1e-30 * rule.nodes.mean_u1;
    const Status status = solve(*rule.level, rule.size, x);
    keep();
    if (status != Status::converged)
      return detail::store_failure(out, i, status, iterations, x.residual);
    if (p.lam > 0) x.v2 = infinity;
    if (p.lam > 0 && p.beta == 1) x.q2 = infinity;  // the square bulk is singular
    return detail::store(out, i, x, status, iterations, rule.error);
  }
  // Below the threshold, in v = lam V. Tails that no sample reaches may rule the averages: the
  // value then moves with the range of k, and the limit is infinite.
  p.unit = 0, p.lam = 1;
  const Level& dense = table.dense();
  const Level& coarse = table.less_dense();
  const auto within = [](const Level& level, double range) {
    Index n = 0;
    while (n < level.size() && std::abs(level.k[n]) <= range) ++n;
    return n;
  };
  Order<double> narrow, narrower, check;
  Status status = solve(dense, within(dense, 10), x);
  keep();
  const auto moved = [&](const Order<double>& y) {
    return std::max(std::abs(y.test_error - x.test_error) / std::abs(x.test_error),
                    std::abs(y.q2 - x.q2) / std::abs(x.q2));
  };
  if (status == Status::converged) status = solve(dense, within(dense, 8.5), narrow);
  if (status == Status::converged) status = solve(dense, within(dense, 7), narrower);
  if (status == Status::converged) status = solve(coarse, within(coarse, 10), check);
  if (status == Status::max_iterations)
    return detail::store_failure(out, i, status, iterations, x.residual);
  if (status != Status::converged || !(moved(narrow) < 1e-7) || !(moved(narrower) < 1e-4))
    return detail::store_failure(out, i, Status::diverged, iterations, x.residual);
  x.v1 = x.v2 = infinity;
  detail::store(out, i, x, status, iterations, std::max(moved(narrow), moved(check)));
}

/// Points by class, in a stable counting sort: those of class c are order[begin[c]] ..
/// order[begin[c + 1] - 1].
template <class ClassOf>
void sort_by_class(const Index* points, Index count, ClassOf&& class_at,
                   std::vector<std::int8_t>& keys, Index (&begin)[n_classes + 1], Index* order) {
  std::fill(begin, begin + n_classes + 1, 0);
  keys.resize(count);
  for (Index i = 0; i < count; ++i) {
    keys[i] = static_cast<std::int8_t>(class_at(points[i]));
    ++begin[keys[i] + 1];
  }
  for (int cls = 0; cls < n_classes; ++cls) begin[cls + 1] += begin[cls];
  Index next[n_classes];
  std::copy(begin, begin + n_classes, next);
  for (Index i = 0; i < count; ++i) order[next[keys[i]]++] = points[i];
}

/// Second pass over ridge points of one set, whose V is already known well enough to start from: it
/// is in out.v1 and out.v2.
template <class Bulk>
void finish_block(const Bulk& bulk, const BatchInput& in, const BatchOutput& out, SetState& state,
                  const Index* points, Index count, Workspace& work) {
  constexpr int lanes = TwinPack::size;
  Index begin[n_classes + 1];
  work.points.resize(count);
  sort_by_class(
      points, count, [&](Index i) { return class_of(out.v1[i], out.v2[i]); }, work.keys, begin,
      work.points.data());
  for (int cls = 0; cls < n_classes; ++cls) {
    if (begin[cls] == begin[cls + 1]) continue;
    const Selection* rule;
    {
      const std::lock_guard<std::mutex> lock(state.mutex);
      rule = &state.table->find(cls);
    }
    for (Index i = begin[cls]; i < begin[cls + 1]; i += lanes)
      solve_pack(bulk, in, out, state, *rule, work.points.data() + i,
                 static_cast<int>(std::min<Index>(lanes, begin[cls + 1] - i)), work);
  }
}

/// Solves the `count` points listed at `points` (reordered on the way), all of one set.
template <class Bulk>
void solve_block(const Bulk& bulk, const BatchInput& in, const BatchOutput& out, Index set,
                 const SpikeParameters& parameters, SetState& state, Index* points, Index count,
                 Workspace& work) {
  {
    const std::lock_guard<std::mutex> lock(state.mutex);
    if (!state.table) state.make(*in.sigma, in, set, parameters);
  }
  // Ridge points to the front, each with its class.
  const auto ridge = [&](Index i) { return in.lam[i] > 0; };
  const Index n_ridge = std::all_of(points, points + count, ridge)
                            ? count
                            : std::stable_partition(points, points + count, ridge) - points;
  const auto start = [&](auto kind, const Index* from, const Index* to) {
    constexpr Index size = decltype(kind)::size;
    for (; from < to; from += size)
      start_pack<decltype(kind)>(bulk, in, out, state.starter, from,
                                 static_cast<int>(std::min<Index>(size, to - from)));
  };
  work.points.resize(n_ridge);
  Index *singles = work.points.data(), *doubles = singles + n_ridge;
  for (Index i = 0; i < n_ridge; ++i) {
    if (single_will_do(in, points[i], state.starter)) *singles++ = points[i];
    else *--doubles = points[i];
  }
  start(TwinFloatPack{}, work.points.data(), singles);
  start(TwinPack{}, doubles, work.points.data() + n_ridge);
  finish_block(bulk, in, out, state, points, n_ridge, work);
  if (n_ridge < count) {
    const std::lock_guard<std::mutex> lock(state.mutex);
    for (Index i = n_ridge; i < count; ++i) {
      work.kept_psi_across.assign(state.starter.n_across, 0);
      solve_ridgeless(bulk, in, out, state, points[i], work);
      if (out.psi_directions != nullptr)
        state.store_psi(out, &points[i], 1, out.psi[points[i]], work.kept_psi_across.data());
    }
  }
}

/// The points of a batch by coefficient set, in a stable counting sort: those of set s are
/// order[begin[s]] .. order[begin[s + 1] - 1].
struct PointsBySet {
  std::vector<Index> begin, order;

  template <class Input>
  explicit PointsBySet(const Input& in) : PointsBySet(in, static_cast<Index>(in.sets.size())) {}
  template <class Input>
  PointsBySet(const Input& in, Index n_sets) : begin(n_sets + 1, 0),
                                               order(in.n_points) {
    const auto set_of = [&](Index i) {
      return static_cast<Index>(in.set_index[i * in.set_stride]);
    };
    for (Index i = 0; i < in.n_points; ++i) ++begin[set_of(i) + 1];
    for (Index s = 0; s < n_sets; ++s) begin[s + 1] += begin[s];
    std::vector<Index> next(begin.begin(), begin.end() - 1);
    for (Index i = 0; i < in.n_points; ++i) order[next[set_of(i)]++] = i;
  }
};

/// Points order[begin] .. order[end - 1] of a set: what one thread takes at a time.
struct PointBlock {
  Index set, begin, end;
};

/// Appends the points of a set in blocks.
inline void cut_set(const PointsBySet& points, Index set, Index block_size,
                    std::vector<PointBlock>& blocks) {
  for (Index lo = points.begin[set]; lo < points.begin[set + 1]; lo += block_size)
    blocks.push_back({set, lo, std::min(lo + block_size, points.begin[set + 1])});
}

/// Solves every point of a batch.
template <class Bulk>
void solve_batch(const Bulk& bulk, const BatchInput& in, const BatchOutput& out,
                 Interrupt& interrupt) {
  const Index n_sets = static_cast<Index>(in.sets.size());
  PointsBySet by_set(in);
  constexpr Index block_size =
      2048;  // inputs and outputs of a block stay in the second-level cache
  const int n_threads = std::max(1, in.n_threads);
  const Index chunk = std::min<Index>(n_sets, 64 * n_threads);  // sets held in memory at a time
  std::vector<Workspace> work(n_threads);
  std::vector<PointBlock> blocks;
  std::vector<SetState> states(chunk);
  for (Index first = 0; first < n_sets; first += chunk) {
    for (SetState& state : states) state.clear();
    blocks.clear();
    for (Index set = first; set < std::min(first + chunk, n_sets); ++set)
      cut_set(by_set, set, block_size, blocks);
    parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index i, int thread) {
      const PointBlock& block = blocks[i];
      solve_block(bulk, in, out, block.set, in.sets[block.set], states[block.set - first],
                  by_set.order.data() + block.begin, block.end - block.begin, work[thread]);
    });
  }
}

// Compiled once: cpp/src/isotropic.cpp.
extern template void solve_batch(const MarchenkoPastur&, const BatchInput&, const BatchOutput&,
                                 Interrupt&);

}  // namespace srfx
