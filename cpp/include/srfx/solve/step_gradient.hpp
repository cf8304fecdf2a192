// Exact derivatives of the errors for bulks that are correlated with the spike and the target: the
// actual one-step network and given weights (anisotropic.hpp), by implicit differentiation at the
// solution.
//
// A parameter p becomes p + i h with h so small that h^2 is nothing: complex arithmetic is then
// that of dual numbers, and Im f/h is f', without differences. At the fixed point (I - T M) dV = dy
// at fixed V, I - T M with all its digits; then the linear part at V + i h dV. The step's own
// constants, its bulk and the coefficients of the spike move likewise.
//
// Label noise also widens the law of the residual u: d/dnoise E f(u) = E f''(u)/2, the heat
// equation. For h infinitesimal the mean of f(u + sqrt(i h)) and f(u - sqrt(i h)) is f(u) + (i h/2)
// f''(u), so each node becomes two.
#pragma once

#include "srfx/solve/anisotropic.hpp"
#include "srfx/solve/gradient.hpp"

namespace srfx {

/// What can be differentiated by here.
enum class StepDirection : std::int8_t {
  lam = 0,
  alpha = 1,
  beta = 2,
  noise = 3,
  eta = 4,
  inverse_alpha0 = 5
};

namespace detail {

using Complex = std::complex<double>;

/// ThreeFeatures with coefficients that move.
struct MovingFeatures {
  struct Set {
    std::vector<NodeValues<Complex>> nodes;
    std::vector<double> weights;
    Complex mean_u1, mean_u2;
    Index size() const { return static_cast<Index>(nodes.size()); }
    double weight(Index i) const { return weights[static_cast<std::size_t>(i)]; }
    int n_across = 0;  ///< the h1 of further directions of the target
    std::vector<Complex> h1_across;
    Complex across(Index i, int m) const {
      return h1_across[static_cast<std::size_t>(i * n_across + m)];
    }
    template <class T> const NodeValues<T>& at(Index i) const {
      return nodes[static_cast<std::size_t>(i)];
    }
  } set;
  std::vector<Complex> muc;
};

/// By how much r, c and gamma move, times h.
struct SpikeMove {
  double r = 0, c = 0, gamma = 0;
  bool still() const { return r == 0 && c == 0 && gamma == 0; }
};

/// The features of a rule, moving with the spike: d mu_c/dr = (k/s) E (z^3 - 3z) sigma/2c, d
/// mu_c/dc = E (z^4 - 6 z^2 + 3) sigma/4c^2.
inline MovingFeatures moving_features(const Coefficients& coefficients,
                                      const ThreeFeatures& features, const Level& level,
                                      const SpikeMove& move) {
  const std::size_t n = features.set.nodes.size();
  NodeSet set = features.set;  // h1 may be replaced where |gamma| is all but 1
  std::vector<NodeTangent> r, c, gamma;
  if (move.r != 0) r = node_tangents(coefficients, level, Direction::r, set);
  if (move.c != 0) c = node_tangents(coefficients, level, Direction::c, set);
  if (move.gamma != 0) gamma = node_tangents(coefficients, level, Direction::gamma, set);
  const SpikeParameters& p = coefficients.parameters();
  std::vector<HigherMoments> norms;
  bool no_norms = true;  // counts as zero: stays zero
  for (double x : features.muc) no_norms = no_norms && x == 0;
  if ((move.r != 0 || move.c != 0) && !no_norms)
    norms = moments_at(coefficients.sigma(), p, level.k.data(), static_cast<Index>(n));
  MovingFeatures out;
  out.set.n_across = set.n_across;
  for (Index i = 0; i < set.size(); ++i)
    for (int m = 0; m < set.n_across; ++m)
      out.set.h1_across.emplace_back(set.across(i, m), move.gamma * set.across_move(i, m));
  out.set.mean_u1 = out.set.mean_u2 = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const Node& node = set.nodes[i];
    NodeTangent t;
    const auto add = [&](const std::vector<NodeTangent>& by, double factor) {
      if (by.empty()) return;
      t.mu0 += factor * by[i].mu0, t.mu1 += factor * by[i].mu1, t.k_mu1 += factor * by[i].k_mu1,
          t.u2 += factor * by[i].u2;
      t.h += factor * by[i].h, t.h1 += factor * by[i].h1, t.rest += factor * by[i].rest;
    };
    add(r, move.r), add(c, move.c), add(gamma, move.gamma);
    double norm = 0;
    if (!norms.empty())
      norm = move.r * level.k[i] / p.sd() * (norms[i].third - norms[i].m1) / (2 * p.c) +
             move.c * norms[i].fourth / (4 * p.c * p.c);
    out.set.weights.push_back(node.weight);
    out.set.nodes.push_back({{node.u1, 2 * node.mu1 * t.mu1},
                             {node.u2, t.u2},
                             {node.mu0, t.mu0},
                             {},
                             {node.kmu1, t.k_mu1},
                             {node.mu1, t.mu1},
                             {node.h, t.h},
                             {node.h1, t.h1},
                             {node.rest, t.rest},
                             {node.mu1h1, node.mu1 * t.h1 + t.mu1 * node.h1}});
    const NodeValues<Complex>& moving = out.set.nodes.back();
    out.set.mean_u1 += node.weight * moving.u1, out.set.mean_u2 += node.weight * moving.u2;
    out.muc.push_back({features.muc[i], norm});
  }
  return out;
}

/// The law of a residual that is being widened.
struct MovingNodes {
  std::vector<Complex> u;
  std::array<std::vector<double>, 3> w;
  Index size() const { return static_cast<Index>(u.size()); }
};

}  // namespace detail

/// One step whose parameters move along a direction: an OneStepSource's set.
class MovingStep {
 public:
  double h = 1e-20;  ///< the size of the move
  detail::SpikeMove spike;

  MovingStep(const OneStepSource& source, Index set, const OneStepSource::Shared& shared,
             StepDirection along) {
    using detail::Complex;
    still_ = along == StepDirection::lam || along == StepDirection::alpha;
    const OneStepSource::Parameters& p = source.parameters(set);
    const StepModel& still = shared.step;
    const bool noisy = along == StepDirection::noise;
    if (noisy && still.stepped)
      h = 1e-8 * std::min(still.moments.u[2], still.pole() * still.pole());
    Complex eta(p.eta), iota(p.inverse_alpha0);
    if (along == StepDirection::eta) eta += Complex(0, h);
    if (along == StepDirection::inverse_alpha0) iota += Complex(0, h);
    BasicResidualMoments<Complex> moments;
    for (std::size_t n = 0; n < moments.u.size(); ++n) {
      moments.u[n] = still.moments.u[n], moments.tu[n] = still.moments.tu[n];
      if (noisy && n >= 2) {
        const double factor = 0.5 * h * static_cast<double>(n * (n - 1));
        moments.u[n] += Complex(0, factor * still.moments.u[n - 2]),
            moments.tu[n] += Complex(0, factor * still.moments.tu[n - 2]);
      }
    }
    step_ = BasicStepModel<Complex>(source.constants(), moments, source.readout(), eta, iota,
                                    source.automatic());
    spike = {step_.r.imag(), step_.c.imag(), step_.gamma.imag()};
    const Complex root = std::sqrt(Complex(0, h));
    for (Index i = 0; i < shared.nodes.size(); ++i) {
      const double u = shared.nodes.u[i];
      for (int part = 0; part < (noisy ? 2 : 1); ++part) {
        nodes_.u.push_back(noisy ? u + (part == 0 ? root : -root) : Complex(u));
        for (std::size_t j = 0; j < 3; ++j)
          nodes_.w[j].push_back(shared.nodes.w[j][i] * (noisy ? 0.5 : 1));
      }
    }
  }

  /// Whether bulk, beta and coefficients stay as they are.
  bool still() const { return still_; }
  OneStepBulk<detail::Complex, detail::Complex, detail::MovingNodes> bulk(
      const OneStepBulk<double>& solved) const {
    OneStepBulk<detail::Complex, detail::Complex, detail::MovingNodes> out(step_, nodes_);
    if (step_.stepped) out.start_from(solved);
    return out;
  }

 private:
  BasicStepModel<detail::Complex> step_;
  detail::MovingNodes nodes_;
  bool still_ = false;
};

/// Given weights do not move.
class MovingWeights {
 public:
  double h = 1e-20;
  detail::SpikeMove spike;

  MovingWeights(const EmpiricalSource&, Index, const EmpiricalSource::Shared& shared, StepDirection)
      : weights_(&shared.weights()) {}
  bool still() const { return true; }
  EmpiricalBulk<detail::Complex> bulk(const EmpiricalBulk<double>&) const {
    return EmpiricalBulk<detail::Complex>(*weights_);
  }

 private:
  const MeasuredWeights* weights_;
};

/// Derivatives of both errors at the solutions (v1, v2) of a batch, along several directions; NaN
/// where there is no solution. `Moving` is MovingStep or MovingWeights, to go with the source.
template <class Moving, class Source>
void anisotropic_gradient(const Source& source, const BatchInput& in, const double* v1,
                          const double* v2, const std::vector<StepDirection>& directions,
                          const GradientOutput& out, Interrupt& interrupt) {
  using detail::Complex;
  const Index n_sets = source.size();
  const PointsBySet by_set(in, n_sets);
  struct State : AnisotropicSet<Source> {
    std::vector<std::unique_ptr<Moving>> moving;
    std::vector<std::array<std::unique_ptr<detail::MovingFeatures>, n_classes>> moving_features;
  };
  const int n_threads = std::max(1, in.n_threads);
  const Index chunk = std::min<Index>(n_sets, 16 * n_threads);
  std::vector<State> states(static_cast<std::size_t>(chunk));
  std::vector<PointBlock> blocks;
  const double nan = std::numeric_limits<double>::quiet_NaN();

  const auto differentiate = [&](State& state, Index set, Index i) {
    const auto fail = [&] {
      for (std::size_t d = 0; d < directions.size(); ++d)
        out.test_error[d][i] = out.train_error[d][i] = nan;
    };
    if (!(v1[i] > 0 && v2[i] > 0 && v1[i] < infinity && v2[i] < infinity)) return fail();
    const Point<double> p = point_of(in, i);
    const int cls = class_of(v1[i], v2[i]);
    const ThreeFeatures& features = state.find(in, cls);
    const auto bulk = state.shared->bulk();

    // I - T M at the solution.
    const auto nothing = [](auto&&...) {};
    const Averages<double> s = averages_at(features.set, p.unit, v1[i], v2[i], nothing);
    const MapValue<double> map = map_value(bulk, p, s);
    const BalancedSystem<double> system(p, map, v1[i], v2[i], s);

    for (std::size_t d = 0; d < directions.size(); ++d) {
      const Moving* moving;
      const detail::MovingFeatures* moved;
      {
        const std::lock_guard<std::mutex> lock(state.mutex);
        if (!state.moving[d])
          state.moving[d] = std::make_unique<Moving>(source, set, *state.shared, directions[d]);
        moving = state.moving[d].get();
        auto& made = state.moving_features[d][static_cast<std::size_t>(cls)];
        if (!made)
          made = std::make_unique<detail::MovingFeatures>(detail::moving_features(
              *state.coefficients.of, features, *state.table->find(cls).level, moving->spike));
        moved = made.get();
      }
      const double h = moving->h;
      const auto at = [&](double value, StepDirection along) {
        return Complex(value, directions[d] == along ? h : 0);
      };
      Point<Complex> q{at(p.alpha, StepDirection::alpha),
                       at(p.beta, StepDirection::beta),
                       at(p.lam, StepDirection::lam),
                       at(p.noise, StepDirection::noise),
                       p.inverse_d,
                       1,
                       p.ratio};
      q.ratio = q.alpha / q.beta;
      const auto moving_bulk = moving->bulk(bulk);
      double dy1, dy2, dv1, dv2;  // of the map at fixed V
      if (moving->still()) {
        const double da = q.lam.imag() + q.ratio.imag() * s.e2, db = q.ratio.imag() * s.e1;
        dy1 = -map.bulk.t11 * db - map.bulk.t12 * da, dy2 = -map.bulk.t12 * db - map.bulk.t22 * da;
      } else {
        const MapSums<Complex> e =
            map_sums(moved->set, Complex(p.unit), Complex(v1[i]), Complex(v2[i]));
        const SpectralAverages<Complex> y =
            moving_bulk.averages(q.lam + q.ratio * e.e2, q.ratio * e.e1, q.beta);
        dy1 = y.y1.imag(), dy2 = y.y2.imag();
      }
      system.solve(dy1, dy2, dv1, dv2);
      std::vector<Complex> work(static_cast<std::size_t>(5 * moved->set.size()));
      const AnisotropicOrder<Complex> slope = anisotropic_part(
          moving_bulk, q, *moved, Complex(v1[i], dv1), Complex(v2[i], dv2), work.data());
      out.test_error[d][i] = slope.test_error.imag() / h;
      out.train_error[d][i] = slope.train_error.imag() / h;
    }
  };
  for (Index first = 0; first < n_sets; first += chunk) {
    blocks.clear();
    for (State& state : states) {
      state.clear();
      state.moving.clear(), state.moving_features.clear();
      state.moving.resize(directions.size()), state.moving_features.resize(directions.size());
    }
    for (Index set = first; set < std::min(first + chunk, n_sets); ++set)
      cut_set(by_set, set, 64, blocks);
    parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index j, int) {
      const PointBlock& block = blocks[static_cast<std::size_t>(j)];
      State& state = states[static_cast<std::size_t>(block.set - first)];
      state.prepare(in, source, block.set);
      for (Index i = block.begin; i < block.end; ++i)
        differentiate(state, block.set, by_set.order[static_cast<std::size_t>(i)]);
    });
  }
}

// Compiled once: cpp/src/anisotropic.cpp.
extern template void anisotropic_gradient<MovingStep>(const OneStepSource&, const BatchInput&,
                                                      const double*, const double*,
                                                      const std::vector<StepDirection>&,
                                                      const GradientOutput&, Interrupt&);
extern template void anisotropic_gradient<MovingWeights>(const EmpiricalSource&, const BatchInput&,
                                                         const double*, const double*,
                                                         const std::vector<StepDirection>&,
                                                         const GradientOutput&, Interrupt&);

}  // namespace srfx
