#include "srfx/solve/group_gradient.hpp"

namespace srfx {

void group_gradient_batch(const GroupGradientInput& in, const GradientOutput& out,
                          Interrupt& interrupt) {
  const Index n_sets = static_cast<Index>(in.sets.size());
  const PointsBySet by_set(in);
  struct State {
    std::mutex mutex;
    CoefficientScratch scratch;
    std::unique_ptr<detail::MovingGroups> groups;
    std::unique_ptr<detail::GroupTangentTable> table;
  };
  const int n_threads = std::max(1, in.n_threads);
  const Index chunk = std::min<Index>(n_sets, 16 * n_threads);
  std::vector<State> states(static_cast<std::size_t>(chunk));
  std::vector<PointBlock> blocks;
  for (Index first = 0; first < n_sets; first += chunk) {
    blocks.clear();
    for (Index set = first; set < std::min(first + chunk, n_sets); ++set) {
      State& state = states[static_cast<std::size_t>(set - first)];
      state.table.reset();
      state.groups = std::make_unique<detail::MovingGroups>(in, set);
      cut_set(by_set, set, 64, blocks);
    }
    parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index i, int) {
      const PointBlock& block = blocks[static_cast<std::size_t>(i)];
      State& state = states[static_cast<std::size_t>(block.set - first)];
      {
        const std::lock_guard<std::mutex> lock(state.mutex);
        if (!state.table)
          state.table = std::make_unique<detail::GroupTangentTable>(*in.sigma, in, *state.groups,
                                                                    state.scratch);
      }
      detail::GroupGradientBlock work(in, *state.groups, out);
      work.run(*state.table, state.mutex, by_set.order.data() + block.begin,
               block.end - block.begin);
    });
  }
}

}  // namespace srfx
