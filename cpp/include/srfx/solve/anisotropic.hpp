// Batches of solves for bulks that are correlated with the spike and the target: the actual step,
// and given weights (THEORY 9, 10). anisotropic_part.hpp has the equations.
#pragma once

#include "srfx/bulk/step_table.hpp"
#include "srfx/data/anisotropic_part.hpp"
#include "srfx/gaussian/label_residual.hpp"
#include "srfx/solve/scan.hpp"

#include <array>
#include <map>
#include <memory>

namespace srfx {

// --- batches
// -----------------------------------------------------------------------------------------------

/// One coefficient set: what its points share. Made when first asked for, under the mutex.
template <class Source> struct AnisotropicSet {
  std::mutex mutex;
  CoefficientScratch scratch;
  std::unique_ptr<typename Source::Shared> shared;
  SetCoefficients coefficients;
  std::optional<LevelTable> table;
  NodeSet starter;
  std::array<std::unique_ptr<ThreeFeatures>, n_classes> features;

  void clear() {
    for (auto& f : features) f.reset();
    table.reset(), coefficients.clear(), shared.reset();
  }
  void prepare(const BatchInput& in, const Source& source, Index set) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (shared) return;
    auto made = source.shared(set);
    if constexpr (Source::directed) {
      const BatchTarget target{nullptr, in.directed, made->alignment()};
      coefficients.make(*in.sigma, in.directed != nullptr ? target : in, 0, made->spike(), scratch);
      if (coefficients.marginal) made->turn(coefficients.marginal->turn());
    } else {
      coefficients.make(*in.sigma, in, set, made->spike(), scratch);
    }
    table.emplace(*coefficients.of);
    starter = table->starter();
    made->tabulate();
    shared = std::move(made);
  }
  const ThreeFeatures& find(const BatchInput& in, int cls) {
    const std::lock_guard<std::mutex> lock(mutex);
    auto& out = features[cls];
    if (!out) out = std::make_unique<ThreeFeatures>(*in.sigma, shared->spike(), table->find(cls));
    return *out;
  }
};

/// What these solves yield beside the rest: the coefficient of the third feature, and the spike the
/// point was solved with.
struct AnisotropicOutput : BatchOutput {
  double *chi, *r, *c, *gamma;
  double* alignment =
      nullptr;  ///< of a target of L directions: n_points x L, whose lengths are gamma
};

/// Room that one thread reuses from block to block.
struct AnisotropicWorkspace {
  std::vector<Pack> packs;
  std::vector<double> scalars;
  std::vector<Index> by_class, unsolved;
  std::vector<std::int8_t> keys;

  template <class T> static T* room(std::vector<T>& of, Index n) {
    if (static_cast<Index>(of.size()) < n) of.resize(n);
    return of.data();
  }
};

/// One point through the bulk itself: where the table fails.
template <class Source>
void solve_exactly(AnisotropicSet<Source>& state, const BatchInput& in,
                   const AnisotropicOutput& out, Index i, AnisotropicWorkspace& work) {
  const Point<double> p = point_of(in, i);
  const auto bulk = state.shared->bulk();
  const double start = 1 / p.lam;
  NewtonResult<double> v = newton(bulk, p, state.starter, start, start, {60, 1e-4});
  int iterations = static_cast<int>(v.iterations);
  if (!(v.v1 > 0 && v.v2 > 0 && v.v2 < infinity)) v.v1 = v.v2 = start;
  const ThreeFeatures& features = state.find(in, class_of(v.v1, v.v2));
  v = newton(bulk, p, features.set, v.v1, v.v2);
  iterations += static_cast<int>(v.iterations);
  double across[Overlaps<double>::most] = {};
  const AnisotropicOrder<double> x =
      anisotropic_part(bulk, p, features, v.v1, v.v2,
                       AnisotropicWorkspace::room(work.scalars, 5 * features.set.size()), across);
  const Status status = detail::judge(x);
  if (status == Status::converged && std::isfinite(x.chi)) {
    detail::store(out, i, x, status, iterations, features.error + state.shared->error(bulk));
    out.chi[i] = x.chi;
  } else {
    detail::store_failure(out, i, status == Status::converged ? Status::non_finite : status,
                          iterations, x.residual);
    out.chi[i] = std::numeric_limits<double>::quiet_NaN();
  }
  if (out.psi_directions != nullptr) store_psi(state.coefficients, out, &i, 1, x.psi, across);
}

/// Second pass: points of one set and class through the table, from the V of the first. Those that
/// did not converge are noted.
template <class Source>
void solve_tabulated(const AnisotropicSet<Source>& state, const BatchInput& in,
                     const AnisotropicOutput& out, const ThreeFeatures& features,
                     const Index* points, int count, AnisotropicWorkspace& work) {
  const auto& shared = *state.shared;
  const Point<TwinPack> p = gather<TwinPack>(in, points, count);
  const TwinPack v1 = gather<TwinPack>(out.v1, points, count),
                 v2 = gather<TwinPack>(out.v2, points, count);
  const NewtonResult<TwinPack> v =
      newton(shared.tabulated(v2, Digits::nine), p, features.set, v1, v2);
  Pack* const room = AnisotropicWorkspace::room(work.packs, 5 * features.set.size());
  Pack across[Overlaps<Pack>::most];
  for (int half = 0; half * Pack::size < count; ++half) {
    const auto part = [half](const TwinPack& x) { return half == 0 ? x.a : x.b; };
    const Point<Pack> q{part(p.alpha),     part(p.beta), part(p.lam),  part(p.noise),
                        part(p.inverse_d), part(p.unit), part(p.ratio)};
    const auto bulk = shared.tabulated(part(v.v2), Digits::all);
    const AnisotropicOrder<Pack> x =
        anisotropic_part(bulk, q, features, part(v.v1), part(v.v2), room, across);
    const Index* const at = points + half * Pack::size;
    const int live = std::min(Pack::size, count - half * Pack::size);
    const auto good = detail::converged(x) & (simd::abs(x.chi) < Pack(infinity));
    const Pack error = Pack(features.error + shared.table_error()) + bulk.error();
    for (int lane = 0; lane < live; ++lane) {
      const Index i = at[lane];
      out.iterations[i] += static_cast<std::int32_t>(v.iterations[half * Pack::size + lane]);
      if (!good[lane]) {
        work.unsolved.push_back(i);
        continue;
      }
      detail::store(out, i, detail::lane(x, lane), Status::converged, out.iterations[i],
                    error[lane]);
      out.chi[i] = x.chi[lane];
    }
    if (out.psi_directions != nullptr) store_psi(state.coefficients, out, at, live, x.psi, across);
  }
}

/// Solves the points of a block, all of one set. V is found for the isotropic bulk first, then on a
/// coarse rule, which tells the class.
template <class Source>
void solve_block(AnisotropicSet<Source>& state, const BatchInput& in, const AnisotropicOutput& out,
                 const Index* points, Index count, AnisotropicWorkspace& work, bool exact) {
  const SpikeParameters& spike = state.shared->spike();
  for (Index i = 0; i < count; ++i) {
    const Index at = points[i];
    out.r[at] = spike.r, out.c[at] = spike.c, out.gamma[at] = spike.gamma;
    if constexpr (Source::directed) {
      if (out.alignment != nullptr) {
        const Index n = in.directed->directions();
        std::copy_n(state.shared->alignment(), n, out.alignment + at * n);
      }
    }
    if (exact) solve_exactly(state, in, out, at, work);
  }
  if (exact) return;
  Index* const sorted = AnisotropicWorkspace::room(work.by_class, count);
  Index *singles = sorted, *doubles = sorted + count;
  for (Index i = 0; i < count; ++i) {
    if (single_will_do(in, points[i], state.starter)) *singles++ = points[i];
    else *--doubles = points[i];
  }
  const auto in_packs = [](Index n, int size, auto&& each) {
    for (Index i = 0; i < n; i += size) each(i, static_cast<int>(std::min<Index>(size, n - i)));
  };
  in_packs(singles - sorted, TwinFloatPack::size, [&](Index i, int n) {
    start_pack<TwinFloatPack>(MarchenkoPastur{}, in, out, state.starter, sorted + i, n);
  });
  in_packs(sorted + count - doubles, TwinPack::size, [&](Index i, int n) {
    start_pack<TwinPack>(MarchenkoPastur{}, in, out, state.starter, doubles + i, n);
  });
  in_packs(count, TwinPack::size, [&](Index i, int n) {
    const TwinPack v1 = gather<TwinPack>(out.v1, points + i, n),
                   v2 = gather<TwinPack>(out.v2, points + i, n);
    const NewtonResult<TwinPack> v =
        newton(state.shared->tabulated(v2, Digits::six), gather<TwinPack>(in, points + i, n),
               state.starter, v1, v2, {60, 1e-4});
    for (int lane = 0; lane < n; ++lane) {
      const Index at = points[i + lane];
      out.iterations[at] += static_cast<std::int32_t>(v.iterations[lane]);
      if (!(v.v1[lane] > 0 && v.v2[lane] > 0 && v.v2[lane] < infinity)) continue;
      out.v1[at] = v.v1[lane], out.v2[at] = v.v2[lane];
    }
  });
  Index begin[n_classes + 1];
  sort_by_class(
      points, count, [&](Index i) { return class_of(out.v1[i], out.v2[i]); }, work.keys, begin,
      sorted);
  work.unsolved.clear();
  for (int cls = 0; cls < n_classes; ++cls) {
    if (begin[cls] == begin[cls + 1]) continue;
    const ThreeFeatures& features = state.find(in, cls);
    in_packs(begin[cls + 1] - begin[cls], TwinPack::size, [&](Index i, int n) {
      solve_tabulated(state, in, out, features, sorted + begin[cls] + i, n, work);
    });
  }
  for (const Index i : work.unsolved) solve_exactly(state, in, out, i, work);
}

/// Solves every point of a batch, lam > 0. A Source yields, for each set, what its bulks share, and
/// from that a table, and a bulk for a point that the table does not serve. `exact`: the bulk
/// itself for every point.
template <class Source>
void solve_anisotropic(const Source& source, const BatchInput& in, const AnisotropicOutput& out,
                       Interrupt& interrupt, bool exact = false) {
  constexpr Index block_size = 1024;
  const Index n_sets = source.size();
  const PointsBySet by_set(in, n_sets);
  const int n_threads = std::max(1, in.n_threads);
  const Index chunk = std::min<Index>(n_sets, 16 * n_threads);
  std::vector<AnisotropicSet<Source>> states(chunk);
  std::vector<AnisotropicWorkspace> work(n_threads);
  std::vector<PointBlock> blocks;
  for (Index first = 0; first < n_sets; first += chunk) {
    for (auto& state : states) state.clear();
    blocks.clear();
    for (Index set = first; set < std::min(first + chunk, n_sets); ++set)
      cut_set(by_set, set, block_size, blocks);
    parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index j, int thread) {
      const PointBlock& block = blocks[j];
      AnisotropicSet<Source>& state = states[block.set - first];
      state.prepare(in, source, block.set);
      solve_block(state, in, out, by_set.order.data() + block.begin, block.end - block.begin,
                  work[thread], exact);
    });
  }
}

/// The sets of actual one-step networks: distinct (eta, alpha0, noise) of one activation and
/// target.
class OneStepSource {
 public:
  static constexpr bool directed = false;  ///< targets of one direction alone
  struct Parameters {
    double eta, inverse_alpha0, noise;  ///< the last: of "logit" labels their slope
  };
  enum class Path { automatic, matrix };

  OneStepSource(const Function& sigma, const Function& derivative, const Function& target,
                double readout, std::vector<Parameters> sets, Path path = Path::automatic,
                const Labels& labels = {})
      : constants_(step_constants(sigma, derivative)),
        noiseless_(residual_rule(target, readout * constants_.h0, 1.0, 1.5, 16)),
        target_(&target),
        readout_(readout),
        sets_(std::move(sets)),
        path_(path),
        labels_(labels) {}

  Index size() const { return static_cast<Index>(sets_.size()); }
  const StepConstants& constants() const { return constants_; }
  const Parameters& parameters(Index set) const { return sets_[set]; }
  double readout() const { return readout_; }
  bool automatic() const { return path_ == Path::automatic; }

  class Shared {
   public:
    StepModel step;
    ResidualNodes nodes;
    double nodes_error = 0;  ///< at the poles of any solve, constants included
    double constants_error = 0;
    ResidualNodes check;  ///< kept where some poles are too near the real axis for `nodes`
    const SpikeParameters& spike() const { return step.spike; }
    OneStepBulk<double> bulk() const { return OneStepBulk<double>(step, nodes); }
    /// At the state of a solved point, where what any solve may meet says too little.
    double error(const OneStepBulk<double>& solved) const {
      return check.size() == 0 || solved.failed() ? nodes_error
                                                  : solved.compare(check) + constants_error;
    }

    void tabulate() { table_.reset(new FunctionTable(step_table(step, nodes, check))); }
    template <class V> StepTableBulk<V> tabulated(const V& guess, Digits digits) const {
      return {step.spike.c, 1, *table_, guess, digits};
    }
    /// Beside the table's own.
    double table_error() const { return check.size() == 0 ? nodes_error : constants_error; }

   private:
    std::unique_ptr<FunctionTable> table_;
  };
  std::unique_ptr<Shared> shared(Index set) const;

 private:
  /// Laws that the sets share, by (noise, delta): made when first asked for.
  struct Laws {
    std::mutex mutex;
    std::map<std::array<double, 2>, std::shared_ptr<const ResidualLaw>> known;
  };
  std::shared_ptr<const ResidualLaw> law(double noise, double delta, double angle,
                                         bool folded) const;

  std::shared_ptr<Laws> laws_ = std::make_shared<Laws>();
  StepConstants constants_;
  ResidualMoments noiseless_;
  const Function* target_;
  double readout_;
  std::vector<Parameters> sets_;
  Path path_;
  Labels labels_;  ///< of the samples of the step; their noise is that of each set
};

// --- given weights
// -----------------------------------------------------------------------------------------------

/// What the theory asks of a first layer W (THEORY 9 f): eigenvalues D_i of Omega = W Pi W^T and,
/// in its eigenbasis, the vectors W vhat - r, W zhat_m for each direction of the target, |Pi w_i|^2
/// - c and (1, .., 1).
struct MeasuredWeights {
  SpikeParameters spike;
  std::vector<double> eigenvalues;
  std::vector<std::vector<double>> u{4};
  std::vector<double> alignment{};  ///< of vhat with several directions; its length is gamma

  int directions() const { return static_cast<int>(u.size()) - 3; }
  /// The z are to be those of axes of the directions.
  void turn(const dense::Matrix& to) {
    const std::vector<std::vector<double>> before = u;
    for (int m = 0; m < directions(); ++m)
      for (std::size_t i = 0; i < eigenvalues.size(); ++i) {
        double x = 0;
        for (int l = 0; l < directions(); ++l) x += to(l, m) * before[1 + l][i];
        u[1 + m][i] = x;
      }
  }
};

/// The bulk of given weights as a policy. The averages are sums over its eigenvalues.
template <class T> class EmpiricalBulk {
 public:
  explicit EmpiricalBulk(const MeasuredWeights& w) : w_(&w) {}
  const SpikeParameters& spike() const { return w_->spike; }

  SpectralAverages<T> averages(T a, T b, T beta) const {
    using P = detail::Packed<T>;
    using V = typename P::Type;
    using Real = typename P::Real;
    const Real unit(1 / w_->spike.c);
    const V va(a), vb(b);
    V s1(0.0), s2(0.0), s11(0.0), s12(0.0), s22(0.0);
    const Index n = static_cast<Index>(w_->eigenvalues.size()), whole = n - n % P::size;
    const auto add = [&](const Real& d, const Real& one) {
      const V inverse = one / (va + vb * d), first = d * inverse;
      s1 += first;
      s2 += inverse;
      s11 += first * first;
      s12 += first * inverse;
      s22 += inverse * inverse;
    };
    for (Index i = 0; i < whole; i += P::size) add(unit * P::load(&w_->eigenvalues[i]), Real(1.0));
    if (whole < n) {
      double rest[P::size] = {}, one[P::size] = {};
      for (Index i = whole; i < n; ++i) rest[i - whole] = w_->eigenvalues[i], one[i - whole] = 1;
      add(unit * P::load(rest), P::load(one));
    }
    const T y1 = P::total(s1), y2 = P::total(s2), t11 = P::total(s11), t12 = P::total(s12),
            t22 = P::total(s22);
    const T scale = T(1) / T(static_cast<double>(w_->eigenvalues.size()));
    SpectralAverages<T> out;
    out.y1 = scale * y1, out.y2 = scale * y2;
    out.t11 = scale * t11, out.t12 = scale * t12, out.t22 = scale * t22;
    out.t11c = out.t11 - beta * out.y1 * out.y1;
    return out;
  }

  Overlaps<T> overlaps(T a, T b, T) const {
    const int directions = w_->directions();
    return directions == 1   ? overlaps_of<1>(a, b)
           : directions == 2 ? overlaps_of<2>(a, b)
                             : overlaps_of<3>(a, b);
  }

 private:
  template <int directions> Overlaps<T> overlaps_of(T a, T b) const {
    constexpr int n_u = directions + 3, n_pairs = n_u * (n_u + 1) / 2, mean = n_u - 1,
                  delta = n_u - 2;
    using P = detail::Packed<T>;
    using V = typename P::Type;
    using Real = typename P::Real;
    const T c(w_->spike.c), s = c * a / b;
    const V shift(s);
    V value[n_pairs], slope[n_pairs];
    for (int j = 0; j < n_pairs; ++j) value[j] = slope[j] = V(0.0);
    // The products of the u in pairs (0, 0), (1, 0), (1, 1), .., times the resolvent and its
    // derivative.
    const auto add = [&](const Real& d, const Real& one, const double* const* u) {
      const V inverse = one / (d + shift), square = inverse * inverse;
      Real w[n_u];
      for (int j = 0; j < n_u; ++j) w[j] = P::load(u[j]);
      int pair = 0;
      for (int j = 0; j < n_u; ++j) {
        const V first = w[j] * inverse, second = w[j] * square;
        for (int k = 0; k <= j; ++k, ++pair)
          value[pair] += w[k] * first, slope[pair] += w[k] * second;
      }
    };
    const Index n = static_cast<Index>(w_->eigenvalues.size()), whole = n - n % P::size;
    const double* u[n_u];
    for (Index i = 0; i < whole; i += P::size) {
      for (std::size_t j = 0; j < n_u; ++j) u[j] = &w_->u[j][i];
      add(P::load(&w_->eigenvalues[i]), Real(1.0), u);
    }
    if (whole < n) {
      double rest[n_u + 1][P::size] = {}, one[P::size] = {};
      for (Index i = whole; i < n; ++i) {
        rest[n_u][i - whole] = w_->eigenvalues[i], one[i - whole] = 1;
        for (std::size_t j = 0; j < n_u; ++j) rest[j][i - whole] = w_->u[j][i];
      }
      for (std::size_t j = 0; j < n_u; ++j) u[j] = rest[j];
      add(P::load(rest[n_u]), P::load(one), u);
    }
    const T root = std::sqrt(w_->spike.c);
    const T scale(1.0 / static_cast<double>(w_->eigenvalues.size()));
    Overlaps<T> out;
    out.directions = directions;
    for (int j = 0, pair = 0; j < n_u; ++j)
      for (int k = 0; k <= j; ++k, ++pair) {
        Along<T> entry(P::total(value[pair]), -P::total(slope[pair]));
        if (j == mean && k == mean) {
          out.mean = entry * Along<T>(scale);
        } else if (j == mean) {
          out.cross[k] = entry * Along<T>(k == delta ? c : root);
        } else {
          if (j == delta) entry = entry * Along<T>(k == delta ? c : root);
          out.k[j][k] = out.k[k][j] = entry;
        }
      }
    out.crossed = true;
    out.set_rest();
    out.s = s;
    out.c = c;
    return out;
  }

  const MeasuredWeights* w_;
};

/// The bulk of given weights from a table (function_table.hpp), for lanes of points. With S = (B/c)
/// (Omega + s): <1/(Omega + s)^2>, <Omega/..>, <Omega^2/..>, and the kernel with the mean's row.
template <class V> class EmpiricalTableBulk {
 public:
  EmpiricalTableBulk(const MeasuredWeights& w, const FunctionTable& table, Digits digits)
      : w_(&w),
        table_(&table),
        digits_(digits) {}

  V error() const { return V::load(place_.error); }

  SpectralAverages<V> averages(V a, V b, V beta) const {
    b = at_least(b, a);
    const V c(w_->spike.c), inverse = V(1) / b, square = inverse * inverse, s = c * a * inverse;
    V f[4];
    table_->locate(s, digits_, place_);
    table_->template evaluate<1>(place_, digits_, 0, f);
    SpectralAverages<V> out;
    out.t22 = c * c * square * f[0];
    out.t12 = c * square * f[1];
    out.t11 = square * f[2];
    out.y1 = a * out.t12 + b * out.t11;
    out.y2 = a * out.t22 + b * out.t12;
    out.t11c = out.t11 - beta * out.y1 * out.y1;
    return out;
  }

  Overlaps<V> overlaps(V a, V b, V) const {
    const V c(w_->spike.c), s = c * a / b, inverse = V(1) / s;
    const int n_u = w_->directions() + 3, n = n_u * (n_u + 1) / 2;
    V f[most];
    table_->locate(s, Digits::all, place_);
    if (n_u == 4) table_->template evaluate<5>(place_, Digits::all, 4, f);
    for (int i = 0; i < 2 * n && n_u > 4; i += FunctionTable::width)
      table_->template evaluate<1>(place_, Digits::all, 4 + i, f + i);
    Overlaps<V> out;
    out.directions = w_->directions();
    for (int j = 0, pair = 0; j < n_u; ++j)
      for (int k = 0; k <= j; ++k, ++pair) {
        const Along<V> entry(f[pair], f[n + pair] * inverse);
        if (j < n_u - 1) out.k[j][k] = out.k[k][j] = entry;
        else if (k < n_u - 1) out.cross[k] = entry;
        else out.mean = entry;
      }
    out.crossed = true;
    out.set_rest();
    out.s = s;
    out.c = c;
    return out;
  }

 private:
  static constexpr int most = 44;  ///< numbers of three directions, by fours
  const MeasuredWeights* w_;
  const FunctionTable* table_;
  Digits digits_;
  mutable FunctionTable::Place<V> place_;
};

inline FunctionTable weights_table(const MeasuredWeights& weights) {
  using Scale = FunctionTable::Scale;
  const int n_u = weights.directions() + 3, n = n_u * (n_u + 1) / 2;
  std::vector<Scale> scales{{0, 0}, {1, 1}, {2, 2}, {3, 3}};
  const auto diagonal = [](int i) { return 4 + i * (i + 3) / 2; };
  for (int half = 0; half < 2; ++half)
    for (int j = 0; j < n_u; ++j)  // the last are of the mean's row
      for (int k = 0; k <= j; ++k)
        scales.push_back({diagonal(k), diagonal(j), j < n_u - 1 ? 1.0 : 0.0});
  return FunctionTable(scales, [&weights, n_u, n] {
    const auto exact = [&weights, n_u, n](double s, double* values) {
      const EmpiricalBulk<double> bulk(weights);
      const double c = weights.spike.c;
      const SpectralAverages<double> at = bulk.averages(s, c, 1);  // S = Omega + s
      const Overlaps<double> k = bulk.overlaps(s, c, 1);
      values[0] = at.t22, values[1] = c * at.t12, values[2] = c * c * at.t11, values[3] = 0;
      for (int j = 0, pair = 0; j < n_u; ++j)
        for (int i = 0; i <= j; ++i, ++pair) {
          const Along<double>& entry = j < n_u - 1 ? k.k[j][i] : i < n_u - 1 ? k.cross[i] : k.mean;
          values[4 + pair] = entry.v, values[4 + n + pair] = s * entry.d;
        }
      return std::isfinite(values[0] + values[4]);
    };
    return FunctionTable::Maker{exact, [] { return 0.0; }};
  });
}

/// One set: the weights at hand.
class EmpiricalSource {
 public:
  static constexpr bool directed = true;
  explicit EmpiricalSource(const MeasuredWeights& weights) : weights_(&weights) {}
  Index size() const { return 1; }

  class Shared {
   public:
    explicit Shared(const MeasuredWeights& weights) : weights_(weights) {}
    const MeasuredWeights& weights() const { return weights_; }
    const SpikeParameters& spike() const { return weights_.spike; }
    const double* alignment() const { return weights_.alignment.data(); }
    void turn(const dense::Matrix& to) { weights_.turn(to); }
    EmpiricalBulk<double> bulk() const { return EmpiricalBulk<double>(weights_); }
    double error(const EmpiricalBulk<double>&) const { return 0; }
    void tabulate() { table_.reset(new FunctionTable(weights_table(weights_))); }
    template <class V> EmpiricalTableBulk<V> tabulated(const V&, Digits digits) const {
      return {weights_, *table_, digits};
    }
    double table_error() const { return 0; }

   private:
    MeasuredWeights weights_;
    std::unique_ptr<FunctionTable> table_;
  };
  std::unique_ptr<Shared> shared(Index) const { return std::make_unique<Shared>(*weights_); }

 private:
  const MeasuredWeights* weights_;
};

// Compiled once: cpp/src/anisotropic.cpp.
extern template void solve_anisotropic(const OneStepSource&, const BatchInput&,
                                       const AnisotropicOutput&, Interrupt&, bool);
extern template void solve_anisotropic(const EmpiricalSource&, const BatchInput&,
                                       const AnisotropicOutput&, Interrupt&, bool);

}  // namespace srfx
