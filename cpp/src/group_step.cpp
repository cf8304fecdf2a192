#include "srfx/solve/group_step.hpp"

#include "srfx/solve/group_levels.hpp"
#include "srfx/solve/group_step_solver.hpp"
#include "srfx/gaussian/higher_moments.hpp"

#include <memory>

namespace srfx {

namespace detail {

/// One (eta, alpha0, noise): the step, its groups' coefficients in k. Rules are found under the
/// mutex.
struct GroupStepSet {
  std::mutex mutex;
  CoefficientScratch scratch;
  std::unique_ptr<GroupStep> step;
  std::unique_ptr<GroupTable> table;
  dense::Matrix turn;  ///< of the directions: the table's axes in those given
  std::array<std::unique_ptr<std::vector<double>>, GroupTable::n_rungs * n_sizes> muc;

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

inline void solve_group_step_point(const GroupStepInput& in, const GroupStepOutput& out,
                                   const MergedGroups& merged, GroupStepSet& set, Index i) {
  const Point<double> point{in.alpha[i],
                            in.beta[i],
                            in.lam[i],
                            in.noise[i],
                            in.inverse_d[i],
                            1,
                            in.alpha[i] / in.beta[i]};
  const int k = merged.given(), distinct = merged.groups();
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
  if (!finite)
    return store_group_failure(out, k, i, Status::non_finite, solver.all_iterations, x.residual);
  if (!(x.residual <= residual_tolerance))
    return store_group_failure(out, k, i, Status::max_iterations, solver.all_iterations,
                               x.residual);
  out.test_error[i] = x.test_error, out.train_error[i] = x.train_error,
  out.residual[i] = x.residual;
  out.quadrature_error[i] = (error + set.table->error() + set.step->nodes_error) * x.amplification;
  out.status[i] = static_cast<std::int8_t>(Status::converged),
  out.iterations[i] = solver.all_iterations;
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

}  // namespace detail

void solve_group_step(const GroupStepInput& in, const GroupStepOutput& out, Interrupt& interrupt) {
  const StepConstants constants = step_constants(*in.sigma, *in.derivative);
  // One and the same: equal readout values, or for odd sigma equal up to sign.
  GroupParameters values;
  values.r = in.readout, values.pi = in.pi, values.c.assign(in.readout.size(), 1.0);
  const MergedGroups merged = merge_groups(values, in.sigma->shape().parity == -1, in.merge);
  double mean = 0;
  for (std::size_t g = 0; g < in.readout.size(); ++g) mean += in.pi[g] * in.readout[g];
  std::vector<detail::GroupStepSet> sets(in.sets.size());
  parallel_for(static_cast<Index>(sets.size()), in.n_threads, interrupt, [&](Index s, int) {
    detail::GroupStepSet& set = sets[s];
    const auto [eta, inverse_alpha0, noise] = in.sets[s];
    set.step = std::make_unique<GroupStep>(constants, in, merged.distinct.r, merged.distinct.pi,
                                           mean, eta, inverse_alpha0, noise);
    GroupParameters p;
    p.pi = set.step->pi, p.gamma = set.step->gamma, p.alignment = set.step->alignment;
    for (const StepModel& g : set.step->groups) p.r.push_back(g.spike.r), p.c.push_back(g.spike.c);
    set.table = std::make_unique<GroupTable>(*in.sigma, in, p, set.scratch);
    set.turn = set.table->turn();
    set.step->turn_directions(set.turn);
    set.step->find_axes(set.table->starter());
    // How good the rule for u is, at a few V.
    const int k = set.step->k(), pairs = k * (k + 1) / 2;
    do {
      double& error = set.step->nodes_error = 0;
      GroupStepBulk bulk(*set.step, 1.0);
      for (const double a : {1e-4, 1e-2, 1.0}) {
        Eigen::VectorXd vh = Eigen::VectorXd::Zero(pairs + k);
        for (int g = 0; g < k; ++g) vh(detail::index(k, g, g)) = 1, vh(pairs + g) = a;
        bulk.solve(vh, 0);
        if (!bulk.failed()) error = std::max(error, bulk.compare(set.step->check));
      }
    } while (set.step->refine(set.step->nodes_error));
    set.step->nodes_error = std::max(set.step->nodes_error, constants.error);
  });
  parallel_for(in.n_points, in.n_threads, interrupt, [&](Index i, int) {
    detail::GroupStepSet& set = sets[in.set_index[i * in.set_stride]];
    detail::solve_group_step_point(in, out, merged, set, i);
  });
}

}  // namespace srfx
