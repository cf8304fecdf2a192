#include "srfx/solve/groups.hpp"

#include "srfx/solve/spike_turn.hpp"

#include <memory>

namespace srfx {

namespace detail {

inline double lane_of(double x, int) { return x; }
template <class V> double lane_of(const V& x, int lane) { return x[lane]; }
inline void set_lane(double& x, int, double value) { x = value; }
template <class V> void set_lane(V& x, int lane, double value) { x.set(lane, value); }

}  // namespace detail

/// Solves points of one coefficient set whose groups are merged to K.
template <class V, int K> class GroupBlockSolver {
 public:
  static constexpr int lanes = simd::Traits<V>::size;
  static constexpr bool many = K > 2 || K < 0;

  GroupBlockSolver(const GroupBatchInput& in, const GroupBatchOutput& out,
                   const MergedGroups& merged, const SpikeTurn& turn)
      : in_(in),
        out_(out),
        merged_(merged),
        turn_(turn),
        system_(merged.groups()),
        one_(1),
        order_(merged.groups(), static_cast<int>(turn.theta.cols()),
               static_cast<int>(turn.psi.cols())) {
    for (int g = 0; g < merged.groups(); ++g) system_.map.pi[g] = V(merged.distinct.pi[g]);
  }

  /// `lock` guards the table while it finds rules.
  void solve(GroupTable& table, std::mutex& mutex, const Index* points, Index count) {
    const int n = system_.map.packed;
    const GroupNodes* starter;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      starter = many ? &table.merged_starter() : &table.starter();
    }
    std::vector<Index> ridge;
    for (Index i = 0; i < count; ++i)
      if (in_.lam[points[i]] > 0) ridge.push_back(points[i]);
    // First pass: V to about 1e-4 for few groups; that of one group in the place of many, whose
    // iterations cost the same on any rule.
    v_.assign(ridge.size() * n, 0.0);
    key_.resize(ridge.size());
    iterations_.resize(ridge.size());
    std::vector<Index> where(ridge.size());
    for (std::size_t i = 0; i < where.size(); ++i) where[i] = static_cast<Index>(i);
    for (std::size_t first = 0; first < ridge.size(); first += lanes) {
      const int in_pack = static_cast<int>(std::min<std::size_t>(lanes, ridge.size() - first));
      load(ridge.data() + first, in_pack);
      if constexpr (many) {
        start_merged(*starter);
      } else {
        system_.start();
        system_.newton(*starter, {60, 1e-4});
      }
      for (int lane = 0; lane < in_pack; ++lane) {
        const std::size_t i = first + lane;
        iterations_[i] = many ? 0 : static_cast<int>(detail::lane_of(system_.iterations, lane));
        double size = 0;
        bool usable = true;
        for (int j = 0; j < n; ++j)
          usable = usable && std::isfinite(v_[i * n + j] = detail::lane_of(system_.v[j], lane));
        for (int g = 0; g < system_.map.groups && usable; ++g) {
          const double ratio = v_[i * n + system_.map.pairs + g] / merged_.distinct.pi[g];
          usable = ratio > 0;
          size = std::max(size, ratio);
        }
        if (!usable) {
          size = 1 / in_.lam[ridge[i]];
          for (int j = 0; j < system_.map.pairs; ++j) v_[i * n + j] = 0;
          for (int g = 0; g < system_.map.groups; ++g)
            v_[i * n + system_.map.at(g, g)] = v_[i * n + system_.map.pairs + g] =
                merged_.distinct.pi[g] * size;
        }
        const int cls = GroupTable::class_of(size);
        const std::lock_guard<std::mutex> lock(mutex);
        key_[i] = {cls, table.rung_of(cls), in_.inverse_d[ridge[i]] > 0};
      }
    }
    // Then by class, rung and kind; points whose rule is found wanting go on to the next.
    while (!where.empty()) {
      std::stable_sort(where.begin(), where.end(),
                       [&](Index a, Index b) { return key_[a] < key_[b]; });
      std::vector<Index> again;
      for (std::size_t first = 0; first < where.size();) {
        std::size_t last = first + 1;
        while (last < where.size() && last - first < lanes &&
               !(key_[where[first]] < key_[where[last]]))
          ++last;
        solve_pack(table, mutex, ridge, where.data() + first, static_cast<int>(last - first),
                   again);
        first = last;
      }
      where.swap(again);
    }
    for (Index i = 0; i < count; ++i)
      if (!(in_.lam[points[i]] > 0)) {
        const std::lock_guard<std::mutex> lock(mutex);
        solve_ridgeless(table, points[i]);
      }
  }

 private:
  struct Key {
    int cls, rung;
    bool finite_d;
    bool operator<(const Key& o) const {
      return cls != o.cls ? cls < o.cls : rung != o.rung ? rung < o.rung : finite_d < o.finite_d;
    }
  };

  /// V of one group that stands for all (GroupTable::merged_starter), in terms of the groups.
  void start_merged(const GroupNodes& starter) {
    one_.set_point(system_.point());
    one_.map.pi[0] = V(1);
    one_.start();
    one_.newton(starter, {60, 1e-4});
    const V v1 = one_.v[0], v2 = one_.v[1];
    for (int g = 0; g < system_.map.groups; ++g) {
      const V& pi = system_.map.pi[g];
      system_.v[system_.map.pairs + g] = pi * v2;
      for (int h = g; h < system_.map.groups; ++h)
        system_.v[system_.map.at(g, h)] = pi * system_.map.pi[h] * (v1 - v2);
      system_.v[system_.map.at(g, g)] += pi * v2;
    }
  }

  void load(const Index* points, int count) {
    Point<V> p{V(1), V(1), V(1), V(0), V(0), V(1), V(1)};
    for (int lane = 0; lane < lanes; ++lane) {
      const Index i = points[std::min(lane, count - 1)];
      detail::set_lane(p.alpha, lane, in_.alpha[i]);
      detail::set_lane(p.beta, lane, in_.beta[i]);
      detail::set_lane(p.lam, lane, in_.lam[i]);
      detail::set_lane(p.noise, lane, in_.noise[i]);
      detail::set_lane(p.inverse_d, lane, in_.inverse_d[i]);
    }
    p.ratio = p.alpha / p.beta;
    system_.set_point(p);
  }

  void solve_pack(GroupTable& table, std::mutex& mutex, const std::vector<Index>& ridge,
                  const Index* where, int count, std::vector<Index>& again) {
    const Key key = key_[where[0]];
    const GroupNodes *nodes, *denser;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      nodes = &table.nodes(key.rung, key.cls);
      denser = &table.nodes(key.rung + 1, key.cls);
    }
    Index points[lanes];
    for (int lane = 0; lane < count; ++lane) points[lane] = ridge[where[lane]];
    load(points, count);
    const int n = system_.map.packed;
    for (int lane = 0; lane < lanes; ++lane)
      for (int j = 0; j < n; ++j)
        detail::set_lane(system_.v[j], lane, v_[where[std::min(lane, count - 1)] * n + j]);
    system_.newton(*nodes, {}, many ? 2 : 0);
    system_.linear_part(*nodes, key.finite_d, order_);
    system_.probe(*nodes, probe_);
    system_.probe(*denser, denser_probe_);
    const V moved = system_.difference(probe_, denser_probe_);
    for (int lane = 0; lane < count; ++lane) {
      const Index i = where[lane];
      iterations_[i] += static_cast<int>(detail::lane_of(system_.iterations, lane));
      const double residual = detail::lane_of(order_.residual, lane),
                   error = detail::lane_of(moved, lane);
      const double amplification = detail::lane_of(order_.amplification, lane);
      const bool solved = residual <= residual_tolerance && std::isfinite(error);
      const int next = table.next(key.rung);
      if (next >= 0 && solved && error > 3e-14 && !(error * amplification <= 2e-11)) {
        key_[i].rung = next;
        for (int j = 0; j < n; ++j) v_[i * n + j] = detail::lane_of(system_.v[j], lane);
        again.push_back(i);
        continue;
      }
      store(points[lane], lane, iterations_[i], (error + table.error()) * amplification);
    }
  }

  Status judge(int lane) const {
    const int k = system_.map.groups;
    bool finite = std::isfinite(detail::lane_of(order_.test_error, lane)) &&
                  std::isfinite(detail::lane_of(order_.train_error, lane));
    for (int g = 0; g < k; ++g)
      finite = finite && std::isfinite(detail::lane_of(order_.m[g], lane)) &&
               std::isfinite(detail::lane_of(order_.v2[g], lane));
    for (const auto* x : {&order_.theta, &order_.psi})
      for (const V& value : x->values)
        finite = finite && std::isfinite(detail::lane_of(value, lane));
    for (int j = 0; j < k * k; ++j)
      finite = finite && std::isfinite(detail::lane_of(order_.q1[j], lane)) &&
               std::isfinite(detail::lane_of(order_.v1[j], lane));
    const double residual = detail::lane_of(order_.residual, lane);
    if (!finite || !std::isfinite(residual)) return Status::non_finite;
    return residual <= residual_tolerance ? Status::converged : Status::max_iterations;
  }

  /// What one lane holds, in terms of the groups as they were given. Shares f of a group G have m =
  /// f m_G, likewise theta, psi, V2 and Q2, and V1_gh = delta_gh f_g V2_G + f_g f_h (V1_GH -
  /// delta_GH V2_G), likewise Q1.
  void store(Index i, int lane, int iterations, double quadrature_error, bool infinite_v = false) {
    const Status status = judge(lane);
    const int k = merged_.given(), distinct = merged_.groups();
    if (status != Status::converged)
      return detail::store_group_failure(out_, k, i, status, iterations,
                                         detail::lane_of(order_.residual, lane));
    const auto at = [lane](const V& x) { return detail::lane_of(x, lane); };
    out_.test_error[i] = at(order_.test_error), out_.train_error[i] = at(order_.train_error);
    scratch_.clear();
    const auto keep = [&](const auto& values, int count) {
      const std::size_t start = scratch_.size();
      for (int j = 0; j < count; ++j) scratch_.push_back(at(values[j]));
      return start;
    };
    const auto packed = [&](const auto& matrix) {
      const std::size_t start = scratch_.size();
      for (int g = 0; g < distinct; ++g)
        for (int h = g; h < distinct; ++h) scratch_.push_back(at(matrix[g * distinct + h]));
      return start;
    };
    const int n_theta = static_cast<int>(order_.theta.values.size()),
              n_psi = static_cast<int>(order_.psi.values.size());
    const std::size_t places[] = {
        keep(order_.m, distinct),       keep(order_.theta.values, n_theta),
        keep(order_.psi.values, n_psi), packed(order_.v1),
        keep(order_.v2, distinct),      packed(order_.q1),
        keep(order_.q2, distinct)};
    const double* const from = scratch_.data();
    store_groups(merged_, turn_,
                 {from + places[0], from + places[1], from + places[2], from + places[3],
                  from + places[4], from + places[5], from + places[6]},
                 out_, i);
    if (infinite_v) {
      std::fill_n(out_.v2 + i * k, k, infinity);
      std::fill_n(out_.v1 + i * k * k, k * k, infinity);
    }
    out_.residual[i] = at(order_.residual);
    // Rounding of the coefficients, 1e-15 or so, counts as often as m is large.
    out_.quadrature_error[i] = quadrature_error + 1e-15 * at(order_.mean_cost);
    out_.status[i] = static_cast<std::int8_t>(status);
    out_.iterations[i] = iterations;
  }

  /// One point at lam = 0 (THEORY section 3; compare scan.hpp).
  void solve_ridgeless(GroupTable& table, Index i) {
    const int k = merged_.given(), n = system_.map.packed;
    const bool finite_d = in_.inverse_d[i] > 0;
    const GroupNodes wide = table.dense(10, false);
    load(&i, 1);
    Point<V> p = system_.point();
    p.lam = V(0);
    bool linear = true;
    for (int g = 0; g < system_.map.groups; ++g)
      linear = linear && wide.mean_e[wide.pairs + g] == 0;
    const double alpha = in_.alpha[i], beta = in_.beta[i],
                 threshold = linear ? std::min(1.0, beta) : beta;
    if (alpha == threshold)
      return detail::store_group_failure(out_, k, i, Status::diverged, 0, infinity);
    const bool below = alpha < threshold;
    if (below) p.unit = V(0), p.lam = V(1);
    system_.set_point(p);
    int iterations = 0;
    const auto solve = [&](const GroupNodes& nodes) {
      Status status = Status::max_iterations;
      for (double start : {1.0, 1e3, 1e6, 1e9, 1e12, 1e-3}) {
        for (int j = 0; j < n; ++j) system_.v[j] = V(0);
        for (int g = 0; g < system_.map.groups; ++g)
          system_.v[system_.map.at(g, g)] = system_.v[system_.map.pairs + g] =
              V(start) * system_.map.pi[g];
        system_.newton(nodes, {});
        iterations += static_cast<int>(detail::lane_of(system_.iterations, 0));
        system_.linear_part(nodes, finite_d, order_);
        status = judge(0);
        if (status == Status::converged) break;
      }
      return status;
    };
    const GroupNodes ranges[3] = {table.dense(8.5, false), table.dense(7, false),
                                  table.dense(10, true)};
    double moved[3] = {0, 0, 0}, test = 0, norm = 0;
    const auto norm_of = [&] {
      double sum = 0;
      for (int g = 0; g < system_.map.groups; ++g) sum += detail::lane_of(order_.q2[g], 0);
      return sum;
    };
    Status status = solve(wide);
    const double residual = detail::lane_of(order_.residual, 0);
    if (status == Status::converged) {
      test = detail::lane_of(order_.test_error, 0), norm = norm_of();
      for (int s = below ? 0 : 2; s < 3 && status == Status::converged; ++s) {
        status = solve(ranges[s]);
        moved[s] = std::max(std::abs(detail::lane_of(order_.test_error, 0) - test) / std::abs(test),
                            std::abs(norm_of() - norm) / std::abs(norm));
      }
    }
    if (status == Status::max_iterations || (!below && status != Status::converged))
      return detail::store_group_failure(out_, k, i, status, iterations, residual);
    if (status != Status::converged || !(moved[0] < 1e-7) || !(moved[1] < 1e-4))
      return detail::store_group_failure(out_, k, i, Status::diverged, iterations, residual);
    solve(wide);
    store(i, 0, iterations, std::max(moved[0], moved[2]), below);
  }

  const GroupBatchInput& in_;
  const GroupBatchOutput& out_;
  const MergedGroups& merged_;
  const SpikeTurn& turn_;
  GroupSystem<V, K> system_;
  GroupSystem<V, 1> one_;
  GroupOrder<V, K> order_;
  GroupProbe<V> probe_, denser_probe_;
  std::vector<double> v_;
  std::vector<Key> key_;
  std::vector<int> iterations_;
  std::vector<double> scratch_;
};

/// Calls work(integral_constant<K>) for the K compiled, dynamic_groups above.
template <int K = 1, class Work> void with_groups(int k, Work&& work) {
  if constexpr (K > max_fixed_groups) work(std::integral_constant<int, dynamic_groups>{});
  else if (k == K) work(std::integral_constant<int, K>{});
  else with_groups<K + 1>(k, work);
}

void solve_group_batch(const GroupBatchInput& in, const GroupBatchOutput& out,
                       Interrupt& interrupt) {
  const Index n_sets = static_cast<Index>(in.sets.size());
  const PointsBySet by_set(in);
  struct State {
    std::mutex mutex;
    CoefficientScratch scratch;
    std::optional<MergedGroups> merged;
    std::unique_ptr<GroupTable> table;
    SpikeTurn turn;
  };
  const int n_threads = std::max(1, in.n_threads);
  const Index chunk = std::min<Index>(n_sets, 16 * n_threads);
  std::vector<State> states(chunk);
  std::vector<PointBlock> blocks;
  const bool odd = in.sigma->shape().parity == -1;
  for (Index first = 0; first < n_sets; first += chunk) {
    blocks.clear();
    for (Index set = first; set < std::min(first + chunk, n_sets); ++set) {
      State& state = states[set - first];
      state.table.reset();
      state.merged = merge_groups(in.sets[set], odd, in.merge);
      const Index block_size = state.merged->groups() > 8 ? 32 : 256;
      cut_set(by_set, set, block_size, blocks);
    }
    parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index i, int) {
      const PointBlock& block = blocks[i];
      State& state = states[block.set - first];
      {
        const std::lock_guard<std::mutex> lock(state.mutex);
        if (!state.table) {
          GroupParameters reduced = state.merged->distinct;
          const dense::Matrix v = reduce_spikes(reduced);
          state.table = std::make_unique<GroupTable>(*in.sigma, in, reduced, state.scratch);
          state.turn = SpikeTurn(in.sets[block.set], v, *state.table);
        }
      }
      with_groups(state.merged->groups(), [&](auto k) {
        constexpr int K = decltype(k)::value;
        using V = Pack;
        const auto solver =
            std::make_unique<GroupBlockSolver<V, K>>(in, out, *state.merged, state.turn);
        solver->solve(*state.table, state.mutex, by_set.order.data() + block.begin,
                      block.end - block.begin);
      });
    });
  }
}

}  // namespace srfx
