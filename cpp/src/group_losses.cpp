#include "srfx/solve/group_losses.hpp"

#include "srfx/solve/spike_turn.hpp"

#include <optional>

namespace srfx {

void solve_group_losses(const GroupLossInput& in, const GroupLossOutput& out,
                        Interrupt& interrupt) {
  const Index n_sets = static_cast<Index>(in.sets.size());
  const PointsBySet by_set(in);
  struct State {
    std::mutex mutex;
    CoefficientScratch scratch;
    std::optional<MergedGroups> merged;
    std::unique_ptr<GroupTable> table;
    std::unique_ptr<GroupLossRules> rules;
    SpikeTurn turn;
  };
  const int n_threads = std::max(1, in.n_threads);
  const Index chunk = std::min<Index>(n_sets, 16 * n_threads);
  std::vector<PointBlock> blocks;
  const bool odd = in.sigma->shape().parity == -1;
  for (Index first = 0; first < n_sets; first += chunk) {
    std::vector<State> states(chunk);
    blocks.clear();
    for (Index set = first; set < std::min(first + chunk, n_sets); ++set) {
      states[set - first].merged = merge_groups(in.sets[set], odd, in.merge);
      cut_set(by_set, set, 16, blocks);
    }
    parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index j, int) {
      const PointBlock& block = blocks[j];
      State& state = states[block.set - first];
      const MergedGroups& merged = *state.merged;
      {
        const std::lock_guard<std::mutex> lock(state.mutex);
        if (!state.rules) {
          GroupParameters reduced = merged.distinct;
          const dense::Matrix v = reduce_spikes(reduced);
          state.table = std::make_unique<GroupTable>(*in.sigma, in, reduced, state.scratch);
          state.turn = SpikeTurn(in.sets[block.set], v, *state.table);
          state.rules = std::make_unique<GroupLossRules>(GroupLossNodesMaker(
              *in.sigma, in, reduced, *state.table, in.loss, in.labels[block.set], false));
        }
      }
      for (Index at = block.begin; at < block.end; ++at) {
        const Index i = by_set.order[at];
        const Point<double> p{in.alpha[i],
                              in.beta[i],
                              in.lam[i],
                              in.noise[i],
                              in.inverse_d[i],
                              1,
                              in.alpha[i] / in.beta[i]};
        const GroupLossPoint solved = solve_group_loss_point(
            in.loss, *state.rules, merged.distinct.pi, p,
            [&](const Point<double>& q) { return IsotropicGroupLossMap(merged.distinct, q); });
        const double nan = std::numeric_limits<double>::quiet_NaN();
        if (solved.status != Status::converged) {
          detail::store_group_failure(out.common, merged.given(), i, solved.status,
                                      solved.iterations, solved.residual);
          out.train_loss[i] = out.test_loss[i] = out.classification_error[i] = nan;
          continue;
        }
        const GroupLossNodes& nodes = *solved.nodes;
        const GroupLossLayout& l = nodes.layout;
        const dense::Vector m = nodes.to_m.lazyProduct(solved.x.segment(l.m(), l.means));
        // psi of all axes: 0 where there is no z
        std::vector<double> psi;
        const std::vector<double> rho = state.table->rho();
        for (std::size_t axis = 0, seen = 0; axis < rho.size(); ++axis) {
          for (int g = 0; g < l.groups; ++g)
            psi.push_back(rho[axis] > 0 ? solved.x(l.psi() + static_cast<int>(seen) * l.groups + g)
                                        : 0);
          seen += rho[axis] > 0 ? 1 : 0;
        }
        const double* const x = solved.x.data();
        store_groups(merged, state.turn,
                     {m.data(), x + l.theta(), psi.data(), x, x + l.pairs(), x + l.q(),
                      x + l.q() + l.pairs()},
                     out.common, i);
        out.common.test_error[i] = solved.seen.test_error;
        out.common.train_error[i] = solved.seen.train_error;
        out.common.residual[i] = solved.residual;
        out.common.quadrature_error[i] = solved.quadrature_error;
        out.common.status[i] = static_cast<std::int8_t>(solved.status);
        out.common.iterations[i] = solved.iterations;
        out.train_loss[i] = solved.seen.train_loss, out.test_loss[i] = solved.seen.test_loss;
        out.classification_error[i] = in.loss.margin ? solved.seen.classification_error : nan;
      }
    });
  }
}

}  // namespace srfx
