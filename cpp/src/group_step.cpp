#include "srfx/solve/group_step.hpp"

#include "srfx/solve/group_step_pack_solver.hpp"
#include "srfx/solve/group_step_set.hpp"
#include "srfx/solve/group_step_solver.hpp"
#include "srfx/solve/scan.hpp"
#include "srfx/gaussian/higher_moments.hpp"

#include <memory>
#include <optional>

namespace srfx {

namespace detail {

/// Rules are found under the mutex.
struct GroupStepSet : GroupStepParts {
  std::mutex mutex;
  std::array<std::unique_ptr<std::vector<double>>, GroupTable::n_rungs * n_sizes> muc;
  std::array<std::unique_ptr<GroupNodes>, GroupTable::n_rungs * n_sizes> turned;
  std::optional<GroupStepShared> shared;  ///< of packs of points

  /// Nodes over the axes of the step.
  const GroupNodes& over_axes(int rung, int cls) {
    std::unique_ptr<GroupNodes>& out = turned[rung * n_sizes + cls];
    if (!out) out = std::make_unique<GroupNodes>(step->turned(table->nodes(rung, cls), step->axes));
    return *out;
  }
  const std::vector<double>& norms(const Function& sigma, const GroupNodes& nodes, int rung,
                                   int cls) {
    std::unique_ptr<std::vector<double>>& out = muc[rung * n_sizes + cls];
    if (out) return *out;
    const int k = nodes.groups;
    out = std::make_unique<std::vector<double>>(nodes.size * k);
    for (int g = 0; g < k; ++g) {
      const SpikeParameters& p = step->groups[g].spike;
      const std::vector<double> values = norm_coefficients(sigma, p, nodes.k.data(), nodes.size);
      double top = 0, size = 0;
      for (Index i = 0; i < nodes.size; ++i) {
        const double mu0 = nodes.mu0[i * k + g];
        top = std::max(top, std::abs(values[i]));
        size += nodes.weight[i] * mu0 * mu0;
      }
      size += nodes.mean_e[index(k, g, g)] + nodes.mean_e[nodes.pairs + g];
      const bool dust = top * p.c < 1e-13 * std::sqrt(size);
      for (Index i = 0; i < nodes.size; ++i) (*out)[i * k + g] = dust ? 0 : values[i];
    }
    return *out;
  }
};

/// What a solution of the distinct groups is in terms of the given ones.
inline void store_group_step(const GroupStepOutput& out, const MergedGroups& merged,
                             const GroupStepSet& set, Index i, const GroupStepOrder& x,
                             int iterations, double quadrature_error) {
  const int k = merged.given(), distinct = merged.groups();
  bool finite =
      std::isfinite(x.test_error) && std::isfinite(x.train_error) && std::isfinite(x.residual);
  for (const auto* values : {&x.theta, &x.m, &x.psi, &x.chi, &x.q1, &x.v1})
    for (double value : values->values) finite = finite && std::isfinite(value);
  for (int g = 0; g < k; ++g) {
    const SpikeParameters& spike = set.step->groups[merged.of[g]].spike;
    out.r[i * k + g] = merged.sign[g] * spike.r, out.c[i * k + g] = spike.c;
    if (out.directions == 1) out.gamma[i * k + g] = set.step->gamma;
    out.chi[i * k + g] = std::numeric_limits<double>::quiet_NaN();
  }
  for (int l = 0; l < out.directions && out.directions > 1; ++l)
    out.gamma[i * out.directions + l] = set.step->alignment(l, 0);
  if (!finite) return store_group_failure(out, k, i, Status::non_finite, iterations, x.residual);
  if (!(x.residual <= residual_tolerance))
    return store_group_failure(out, k, i, Status::max_iterations, iterations, x.residual);
  out.test_error[i] = x.test_error, out.train_error[i] = x.train_error,
  out.residual[i] = x.residual;
  out.quadrature_error[i] = quadrature_error;
  out.status[i] = static_cast<std::int8_t>(Status::converged), out.iterations[i] = iterations;
  for (int g = 0; g < k; ++g) {
    const int of = merged.of[g];
    const double share = merged.share[g];
    out.m[i * k + g] = merged.sign[g] * share * x.m[of];
    out.theta[i * k + g] = share * x.theta[of];
    for (int l = 0; l < out.directions; ++l) {
      double& psi = out.psi[(i * k + g) * out.directions + l] = 0;
      for (int m = 0; m < out.directions; ++m)
        psi += share * set.turn(l, m) * x.psi[m * distinct + of];
    }
    out.chi[i * k + g] = merged.sign[g] * share * x.chi[of];
    out.q2[i * k + g] = share * x.q2[of];
    out.v2[i * k + g] = share * x.v2[of];
    for (int h = 0; h < k; ++h) {
      const int oh = merged.of[h];
      const double both = share * merged.share[h], own = of == oh ? 1 : 0,
                   self = g == h ? share : 0;
      out.q1[(i * k + g) * k + h] =
          both * (x.q1[of * distinct + oh] - own * x.q2[of]) + self * x.q2[of];
      out.v1[(i * k + g) * k + h] =
          both * (x.v1[of * distinct + oh] - own * x.v2[of]) + self * x.v2[of];
    }
  }
}

/// One point alone, over axes of its own.
inline void solve_group_step_point(const GroupStepInput& in, const GroupStepOutput& out,
                                   const MergedGroups& merged, GroupStepSet& set, Index i) {
  const Point<double> point = point_of(in, i);
  const int distinct = merged.groups();
  GroupStepSolver solver(*set.step, point);
  const GroupNodes* nodes;
  {
    const std::lock_guard<std::mutex> lock(set.mutex);
    nodes = &set.table->starter();
  }
  solver.newton(solver.turned(*nodes), {60, 1e-4});
  solver.turn();
  double size = 0;
  for (int g = 0; g < distinct; ++g) {
    const double ratio = solver.v[solver.map.pairs + g] / set.step->pi[g];
    if (std::isfinite(ratio)) size = std::max(size, ratio);
  }
  const int cls = GroupTable::class_of(size);
  int rung;
  {
    const std::lock_guard<std::mutex> lock(set.mutex);
    rung = set.table->rung_of(cls);
  }
  GroupStepOrder x(distinct, out.directions);
  double error = 0;
  for (;;) {
    const GroupNodes* denser;
    const std::vector<double>* muc;
    {
      const std::lock_guard<std::mutex> lock(set.mutex);
      nodes = &set.table->nodes(rung, cls), denser = &set.table->nodes(rung + 1, cls);
      muc = &set.norms(*in.sigma, *nodes, rung, cls);
    }
    GroupNodes turned = solver.turned(*nodes);
    solver.newton(turned, {});
    x = solver.linear_part(turned, *muc);
    for (int again = 0; again < 2 && !(x.residual <= 1e-13);
         ++again) {  // the axes may have been those of a poor start
      solver.turn();
      turned = solver.turned(*nodes);
      solver.newton(turned, {});
      const GroupStepOrder next = solver.linear_part(turned, *muc);
      if (!(next.residual < x.residual) && std::isfinite(x.residual)) break;
      x = next;
    }
    error = solver.difference(turned, solver.turned(*denser));
    const int next = set.table->next(rung);
    if (next < 0 || !(x.residual <= residual_tolerance) || error <= 3e-14 ||
        error * x.amplification <= 2e-11)
      break;
    rung = next;
  }
  store_group_step(out, merged, set, i, x, solver.all_iterations,
                   (error + set.table->error() + set.step->nodes_error) * x.amplification);
}

/// Points of one set, a pack at a time; what a pack leaves unconverged is solved alone.
template <int K, bool wide> class GroupStepBlock {
  using V = Pack;
  static constexpr int lanes = V::size;

 public:
  GroupStepBlock(const GroupStepInput& in, const GroupStepOutput& out, const MergedGroups& merged,
                 GroupStepSet& set)
      : in_(in),
        out_(out),
        merged_(merged),
        set_(set),
        k_(merged.groups()),
        plain_(k_),
        solver_(*set.shared),
        order_(k_),
        x_(k_) {
    for (int g = 0; g < k_; ++g) plain_.map.pi[g] = V(set.step->pi[g]);
  }

  void solve(const Index* points, Index count) {
    const int n = solver_.map.packed, pairs = solver_.map.pairs;
    points_ = points;
    v_.assign(count * n, 0.0);
    keys_.resize(count), iterations_.assign(count, 0);
    std::vector<Index> where(count), again;
    for (Index i = 0; i < count; ++i) where[i] = i;
    // First pass: V of the isotropic bulk, which tells the class and is where that of the step is
    // looked for.
    for (Index first = 0; first < count; first += lanes) {
      const int in_pack = static_cast<int>(std::min<Index>(lanes, count - first));
      load(where.data() + first, in_pack);
      begin();
      for (int lane = 0; lane < in_pack; ++lane) {
        const Index i = first + lane;
        iterations_[i] = static_cast<int>(plain_.iterations[lane]);
        double size = 0;
        bool usable = true;
        for (int j = 0; j < n; ++j)
          usable = usable && std::isfinite(v_[i * n + j] = solver_.v[j][lane]);
        for (int g = 0; g < k_; ++g) {
          const double ratio = v_[i * n + pairs + g] / set_.step->pi[g];
          usable = usable && ratio > 0;
          size = std::max(size, ratio);
        }
        const std::lock_guard<std::mutex> lock(set_.mutex);
        const int cls = usable ? GroupTable::class_of(size) : 0;
        keys_[i] = {cls, usable ? set_.table->rung_of(cls) : -1, in_.inverse_d[points[i]] > 0};
      }
    }
    // Then by class, rung and kind; points whose rule is found wanting go on to the next.
    while (!where.empty()) {
      std::stable_sort(where.begin(), where.end(),
                       [&](Index a, Index b) { return keys_[a] < keys_[b]; });
      again.clear();
      for (std::size_t first = 0; first < where.size();) {
        std::size_t last = first + 1;
        while (last < where.size() && last - first < lanes &&
               !(keys_[where[first]] < keys_[where[last]]))
          ++last;
        solve_pack(where.data() + first, static_cast<int>(last - first), again);
        first = last;
      }
      where.swap(again);
    }
  }

 private:
  struct Key {
    int cls, rung;  ///< rung < 0: solved alone
    bool finite_d;
    bool operator<(const Key& o) const {
      return cls != o.cls ? cls < o.cls : rung != o.rung ? rung < o.rung : finite_d < o.finite_d;
    }
  };

  void load(const Index* where, int count) {
    Point<V> p{V(1), V(1), V(1), V(0), V(0), V(1), V(1)};
    for (int lane = 0; lane < lanes; ++lane) {
      const Index i = points_[where[std::min(lane, count - 1)]];
      p.alpha.set(lane, in_.alpha[i]), p.beta.set(lane, in_.beta[i]);
      p.lam.set(lane, in_.lam[i]), p.noise.set(lane, in_.noise[i]);
      p.inverse_d.set(lane, in_.inverse_d[i]);
    }
    p.ratio = p.alpha / p.beta;
    plain_.set_point(p), solver_.set_point(p);
  }
  /// V where the bulk is isotropic, over the axes.
  void begin() {
    plain_.start();
    plain_.newton(set_.table->starter(), {60, 1e-4});
    const GroupStepShared& shared = *set_.shared;
    for (int g = 0; g < k_; ++g) {
      const int at = solver_.map.pairs + g;
      solver_.v[at] = plain_.v[at];
      for (int h = g; h < k_; ++h) solver_.v[solver_.map.at(g, h)] = V(0);
    }
    for (int a = 0; a < k_; ++a)
      for (int b = a; b < k_; ++b)
        for (int g = 0; g < k_; ++g)
          for (int h = 0; h < k_; ++h) {
            const double size =
                std::sqrt(set_.step->groups[g].spike.c * set_.step->groups[h].spike.c);
            solver_.v[solver_.map.at(a, b)] +=
                V(shared.axis(g, a) * size * shared.axis(h, b)) * plain_.v[plain_.map.at(g, h)];
          }
  }

  void solve_pack(const Index* where, int count, std::vector<Index>& again) {
    const Key key = keys_[where[0]];
    const int n = solver_.map.packed;
    if (key.rung < 0) {
      for (int lane = 0; lane < count; ++lane)
        solve_group_step_point(in_, out_, merged_, set_, points_[where[lane]]);
      return;
    }
    const GroupNodes *nodes, *denser;
    const std::vector<double>* muc;
    {
      const std::lock_guard<std::mutex> lock(set_.mutex);
      nodes = &set_.over_axes(key.rung, key.cls), denser = &set_.over_axes(key.rung + 1, key.cls);
      muc = &set_.norms(*in_.sigma, set_.table->nodes(key.rung, key.cls), key.rung, key.cls);
    }
    load(where, count);
    for (int lane = 0; lane < lanes; ++lane)
      for (int j = 0; j < n; ++j)
        solver_.v[j].set(lane, v_[where[std::min(lane, count - 1)] * n + j]);
    const bool enough = nodes->size >= (key.finite_d ? k_ : nodes->rank) + 2 * k_;
    V moved(0);
    if (enough) {
      solver_.newton(*nodes, {});
      solver_.linear_part(*nodes, *muc, key.finite_d, order_);
      moved = solver_.difference(*nodes, *denser);
    }
    for (int lane = 0; lane < count; ++lane) {
      const Index i = where[lane];
      const double residual = order_.residual[lane], error = moved[lane],
                   amplification = order_.amplification[lane];
      if (!enough || !settled(lane)) {
        solve_group_step_point(in_, out_, merged_, set_, points_[i]);
        continue;
      }
      iterations_[i] += static_cast<int>(solver_.iterations[lane]);
      const int next = set_.table->next(key.rung);
      if (next >= 0 && residual <= residual_tolerance && error > 3e-14 &&
          !(error * amplification <= 2e-11)) {
        keys_[i].rung = next;
        for (int j = 0; j < n; ++j) v_[i * n + j] = solver_.v[j][lane];
        again.push_back(i);
        continue;
      }
      take(lane);
      store_group_step(out_, merged_, set_, points_[i], x_, iterations_[i],
                       (error + set_.table->error() + set_.step->nodes_error) * amplification);
    }
  }
  /// Whether nothing is left to win over other axes.
  bool settled(int lane) const {
    const double residual = order_.residual[lane];
    double finite = order_.test_error[lane] + order_.train_error[lane];
    for (int g = 0; g < k_; ++g) finite += order_.q2[g][lane] + order_.psi[g][lane];
    return std::isfinite(finite) &&
           (residual <= 1e-13 || residual * order_.amplification[lane] <= 1e-12);
  }
  void take(int lane) {
    const auto copy = [&](const auto& from, auto& to, int size) {
      for (int j = 0; j < size; ++j) to[j] = from[j][lane];
    };
    x_.test_error = order_.test_error[lane], x_.train_error = order_.train_error[lane],
    x_.residual = order_.residual[lane], x_.amplification = order_.amplification[lane];
    copy(order_.m, x_.m, k_), copy(order_.theta, x_.theta, k_), copy(order_.psi, x_.psi, k_);
    copy(order_.chi, x_.chi, k_), copy(order_.q2, x_.q2, k_), copy(order_.v2, x_.v2, k_);
    copy(order_.q1, x_.q1, k_ * k_), copy(order_.v1, x_.v1, k_ * k_);
  }

  const GroupStepInput& in_;
  const GroupStepOutput& out_;
  const MergedGroups& merged_;
  GroupStepSet& set_;
  int k_;
  GroupSystem<V, dynamic_groups> plain_;
  GroupStepPackSolver<V, K, wide> solver_;
  GroupPackOrder<V, K> order_;
  GroupStepOrder x_;
  const Index* points_ = nullptr;
  std::vector<double> v_;
  std::vector<Key> keys_;
  std::vector<int> iterations_;
};

inline void solve_group_step_block(const GroupStepInput& in, const GroupStepOutput& out,
                                   const MergedGroups& merged, GroupStepSet& set,
                                   const Index* points, Index count) {
  const auto solve = [&](auto k, auto wide) {
    constexpr int K = decltype(k)::value;
    const auto block =
        std::make_unique<GroupStepBlock<K, decltype(wide)::value>>(in, out, merged, set);
    block->solve(points, count);
  };
  // Packs know one direction of the target; those of very many groups would take more memory than
  // they are worth.
  constexpr int most = 600;
  const int n = set.step->n();
  if (set.step->directions() > 1 || merged.groups() + n * (n + 1) / 2 > most) {
    for (Index i = 0; i < count; ++i) solve_group_step_point(in, out, merged, set, points[i]);
    return;
  }
  const auto with = [&](auto wide) {
    if (merged.groups() == 2) solve(std::integral_constant<int, 2>{}, wide);
    else solve(std::integral_constant<int, dynamic_groups>{}, wide);
  };
  if (set.step->wide) with(std::true_type{});
  else with(std::false_type{});
}

}  // namespace detail

void solve_group_step(const GroupStepInput& in, const GroupStepOutput& out, Interrupt& interrupt) {
  const GroupStepCommon common(in);
  const MergedGroups& merged = common.merged;
  std::vector<detail::GroupStepSet> sets(in.sets.size());
  parallel_for(static_cast<Index>(sets.size()), in.n_threads, interrupt, [&](Index s, int) {
    sets[s].make(in, common, s);
    sets[s].shared.emplace(*sets[s].step);
  });
  const PointsBySet by_set(in);
  std::vector<PointBlock> blocks;
  const Index share = in.n_points / (4 * std::max(1, in.n_threads)) / Pack::size * Pack::size,
              block_size = std::clamp<Index>(share, Pack::size, 256);
  for (Index set = 0; set < static_cast<Index>(sets.size()); ++set)
    cut_set(by_set, set, block_size, blocks);
  parallel_for(static_cast<Index>(blocks.size()), in.n_threads, interrupt, [&](Index i, int) {
    const PointBlock& block = blocks[i];
    const Index *const points = by_set.order.data() + block.begin, count = block.end - block.begin;
    detail::solve_group_step_block(in, out, merged, sets[block.set], points, count);
  });
}

}  // namespace srfx
