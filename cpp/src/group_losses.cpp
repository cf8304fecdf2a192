#include "srfx/solve/group_losses.hpp"

#include "srfx/solve/anisotropic.hpp"
#include "srfx/solve/group_step_loss_map.hpp"
#include "srfx/solve/group_step_set.hpp"
#include "srfx/solve/layers.hpp"
#include "srfx/solve/spike_turn.hpp"

#include <optional>

namespace srfx {

namespace {

/// Spiked models: a coefficient set.
class IsotropicGroupSet {
 public:
  static constexpr bool row_norms = false;

  IsotropicGroupSet(const GroupLossInput& in, Index set)
      : merged(merge_groups(in.sets[set], in.sigma->shape().parity == -1, in.merge)),
        reduced(merged.distinct) {
    const dense::Matrix v = reduce_spikes(reduced);
    table = std::make_unique<GroupTable>(*in.sigma, in, reduced, scratch_);
    turn = SpikeTurn(in.sets[set], v, *table);
  }
  IsotropicGroupLossMap map(const Point<double>& p) const {
    return IsotropicGroupLossMap(reduced, p);
  }
  double error() const { return 0; }
  void describe(const GroupLossOutput&, Index) const {}

  MergedGroups merged;
  GroupParameters reduced;  ///< with spikes turned to the row space
  std::unique_ptr<GroupTable> table;
  SpikeTurn turn;

 private:
  CoefficientScratch scratch_;
};

LayerBulk<std::complex<double>> complex_bulk(const LayerSource::Shared& shared) {
  return LayerBulk<std::complex<double>>(*shared.layer);
}
EmpiricalBulk<std::complex<double>> complex_bulk(const EmpiricalSource::Shared& shared) {
  return EmpiricalBulk<std::complex<double>>(shared.weights());
}

/// One group of a bulk with overlaps, towards any directions: networks after steps, given weights.
template <class Source> class OverlapGroupSet {
  using Shared = typename Source::Shared;
  using Bulk = decltype(complex_bulk(std::declval<const Shared&>()));

 public:
  static constexpr bool row_norms = true;

  OverlapGroupSet(std::unique_ptr<Shared> shared, const GroupLossInput& in)
      : shared_(std::move(shared)) {
    const SpikeParameters& spike = shared_->spike();
    reduced = {{spike.r}, {spike.c}, {1.0}, spike.gamma, {}, {}};
    if (in.directed)
      reduced.alignment =
          Eigen::Map<const dense::Vector>(shared_->alignment(), in.directed->directions());
    merged = merge_groups(reduced, false);
    table = std::make_unique<GroupTable>(*in.sigma, in, reduced, scratch_);
    if (in.directed) shared_->turn(table->turn());
    turn.theta = dense::Matrix::Identity(1, 1), turn.psi = table->turn();
  }
  AnisotropicGroupLossMap<Bulk> map(const Point<double>& p) const {
    return {p, complex_bulk(*shared_), complex_bulk(*shared_)};
  }
  double error() const { return shared_->table_error(); }
  void describe(const GroupLossOutput& out, Index i) const {
    const Index n = std::max<Index>(1, reduced.alignment.rows());
    out.r[i] = reduced.r[0], out.c[i] = reduced.c[0];
    for (Index l = 0; l < n; ++l)
      out.gamma[i * n + l] = reduced.alignment.size() > 0 ? reduced.alignment(l, 0) : reduced.gamma;
  }

  MergedGroups merged;
  GroupParameters reduced;
  std::unique_ptr<GroupTable> table;
  SpikeTurn turn;

 private:
  std::unique_ptr<Shared> shared_;
  CoefficientScratch scratch_;
};

/// Actual steps with several readout values.
class GroupStepLossSet {
 public:
  static constexpr bool row_norms = true;

  GroupStepLossSet(const GroupStepInput& steps, const GroupStepCommon& common, Index set)
      : merged(common.merged) {
    parts_.make(steps, common, set);
    turn.theta = dense::Matrix::Identity(1, 1), turn.psi = parts_.turn;
    reduced = parts_.parameters;
    table = std::move(parts_.table);
  }
  GroupStepLossMap map(const Point<double>& p) const { return {*parts_.step, p}; }
  double error() const { return parts_.step->nodes_error; }
  void describe(const GroupLossOutput& out, Index i) const {
    const int k = merged.given(), directions = out.common.directions;
    for (int g = 0; g < k; ++g) {
      const SpikeParameters& spike = parts_.step->groups[merged.of[g]].spike;
      out.r[i * k + g] = merged.sign[g] * spike.r, out.c[i * k + g] = spike.c;
      if (directions == 1) out.gamma[i * k + g] = reduced.gamma;
    }
    for (int l = 0; l < directions && directions > 1; ++l)
      out.gamma[i * directions + l] = reduced.alignment(l, 0);
  }

  MergedGroups merged;
  GroupParameters reduced;
  std::unique_ptr<GroupTable> table;
  SpikeTurn turn;

 private:
  GroupStepParts parts_;
};

template <class Set>
void store(const Set& set, const GroupLossPoint& solved, const GroupLossInput& in,
           const GroupLossOutput& out, Index i) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const int given = set.merged.given();
  set.describe(out, i);
  for (Index row = 0; out.slopes && row < 8; ++row)
    out.slopes[row * in.n_points + i] =
        solved.slopes.size() > 0 ? solved.slopes(row / 2, row % 2) : nan;
  if (solved.status != Status::converged) {
    detail::store_group_failure(out.common, given, i, solved.status, solved.iterations,
                                solved.residual);
    out.train_loss[i] = out.test_loss[i] = out.classification_error[i] = nan;
    if (out.chi) std::fill_n(out.chi + i * given, given, nan);
    return;
  }
  const GroupLossNodes& nodes = *solved.nodes;
  const GroupLossLayout& l = nodes.layout;
  const dense::Vector m = nodes.to_m.lazyProduct(solved.x.segment(l.m(), l.means));
  // psi of all axes: 0 where there is no z
  std::vector<double> psi;
  int seen = 0;
  for (const double rho : set.table->rho()) {
    for (int g = 0; g < l.groups; ++g)
      psi.push_back(rho > 0 ? solved.x(l.psi() + seen * l.groups + g) : 0);
    seen += rho > 0 ? 1 : 0;
  }
  const double* const x = solved.x.data();
  store_groups(
      set.merged, set.turn,
      {m.data(), x + l.theta(), psi.data(), x, x + l.pairs(), x + l.q(), x + l.q() + l.pairs()},
      out.common, i);
  out.common.test_error[i] = solved.seen.test_error;
  out.common.train_error[i] = solved.seen.train_error;
  out.common.residual[i] = solved.residual;
  out.common.quadrature_error[i] = solved.quadrature_error + set.error();
  out.common.status[i] = static_cast<std::int8_t>(solved.status);
  out.common.iterations[i] = solved.iterations;
  out.train_loss[i] = solved.seen.train_loss, out.test_loss[i] = solved.seen.test_loss;
  out.classification_error[i] = in.loss.margin ? solved.seen.classification_error : nan;
  for (int g = 0; out.chi && g < given; ++g)
    out.chi[i * given + g] =
        set.merged.sign[g] * set.merged.share[g] * x[l.chi() + set.merged.of[g]];
}

/// make(set) makes a Set.
template <class Set, class Make>
void solve_sets(Index n_sets, const GroupLossInput& in, const GroupLossOutput& out,
                Interrupt& interrupt, Make&& make) {
  const PointsBySet by_set(in, n_sets);
  struct State {
    std::mutex mutex;
    std::unique_ptr<Set> set;
    std::unique_ptr<GroupLossRules> rules;
  };
  const int n_threads = std::max(1, in.n_threads);
  const Index chunk = std::min<Index>(n_sets, 16 * n_threads);
  std::vector<PointBlock> blocks;
  for (Index first = 0; first < n_sets; first += chunk) {
    std::vector<State> states(chunk);
    blocks.clear();
    for (Index set = first; set < std::min(first + chunk, n_sets); ++set)
      cut_set(by_set, set, 16, blocks);
    parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index j, int) {
      const PointBlock& block = blocks[j];
      State& state = states[block.set - first];
      {
        const std::lock_guard<std::mutex> lock(state.mutex);
        if (!state.rules) {
          state.set = make(block.set);
          state.rules = std::make_unique<GroupLossRules>(
              GroupLossNodesMaker(*in.sigma, in, state.set->reduced, *state.set->table, in.loss,
                                  in.labels[block.set], Set::row_norms));
        }
      }
      for (Index at = block.begin; at < block.end; ++at) {
        const Index i = by_set.order[at];
        const Point<double> p = point_of(in, i);
        store(*state.set,
              solve_group_loss_point(in.loss, *state.rules, state.set->reduced.pi, p,
                                     out.slopes != nullptr,
                                     [&](const Point<double>& q) { return state.set->map(q); }),
              in, out, i);
      }
    });
  }
}

}  // namespace

void solve_group_losses(const GroupLossInput& in, const GroupLossOutput& out,
                        Interrupt& interrupt) {
  solve_sets<IsotropicGroupSet>(
      static_cast<Index>(in.sets.size()), in, out, interrupt,
      [&](Index set) { return std::make_unique<IsotropicGroupSet>(in, set); });
}

void solve_group_step_losses(const GroupStepInput& steps, const GroupLossInput& in,
                             const GroupLossOutput& out, Interrupt& interrupt) {
  const GroupStepCommon common(steps);
  solve_sets<GroupStepLossSet>(
      static_cast<Index>(steps.sets.size()), in, out, interrupt,
      [&](Index set) { return std::make_unique<GroupStepLossSet>(steps, common, set); });
}

void solve_layer_losses(const LayerSource& source, const GroupLossInput& in,
                        const GroupLossOutput& out, Interrupt& interrupt) {
  solve_sets<OverlapGroupSet<LayerSource>>(source.size(), in, out, interrupt, [&](Index set) {
    return std::make_unique<OverlapGroupSet<LayerSource>>(source.shared(set), in);
  });
}

void solve_weights_losses(const MeasuredWeights& weights, const GroupLossInput& in,
                          const GroupLossOutput& out, Interrupt& interrupt) {
  const EmpiricalSource source(weights);
  solve_sets<OverlapGroupSet<EmpiricalSource>>(
      static_cast<Index>(in.labels.size()), in, out, interrupt, [&](Index set) {
        return std::make_unique<OverlapGroupSet<EmpiricalSource>>(source.shared(set), in);
      });
}

}  // namespace srfx
