// Shortcuts, all exact in law; `literal` does without them and is their witness:
//
// - Coordinates. The law of x and of W0 is invariant under rotations, so the first coordinate axes
// serve as the frame of spikes
//   and directions (steps: theta_l/sqrt d = e_l; v is what a step makes it).
// - Triangular weights. The other D columns of W0 form a p x D Gaussian matrix before its rows are
// normalised; it is L Q^T with Q
//   orthogonal and L lower triangular, L_ij normal below the diagonal and L_ii^2 ~ chi^2_(D-i)
//   (Bartlett 1933). The coordinates Q^T x are as Gaussian as x: L is drawn directly, and a feature
//   costs half the work at p = D, with min(p, D) normals.
// - After the last gradient step W1 is factorised, W1 W1^T = L L^T outside the target's directions,
// where that pays. - Nested samples. n_1 < n_2 < ...: the first n_1 of the n_2 samples serve n_1
// too. Errors at different n are correlated within
//   a replicate, each of them has its own law unchanged.
//
// Primal or dual. With G = Phi^T Phi (p x p) or K = Phi Phi^T (n x n): a = (G + lam)^-1 Phi^T y =
// Phi^T (K + lam)^-1 y. The labels ride along as one more row of the matrix that is factorised,
// whose factor then holds the forward solution. The dual's factor serves every smaller n by its
// leading block.
#include "srfx/simulate/simulate.hpp"

#include "srfx/simulate/linalg.hpp"
#include "srfx/core/random.hpp"

#include <limits>
#include <type_traits>

namespace srfx {

/// Weights as rows of panels, and a row more for each direction: theta_l/sqrt d.
template <class T> struct Network {
  Panels<T> rows;
  Index units = 0;
  Index inputs = 0;  ///< coordinates of x that matter
  Index dense =
      0;  ///< row i is zero from column dense + i + 1 on (dense = inputs: no zeros are claimed)

  /// Leading columns that matter to the first `count` rows.
  Index extent(Index count) const { return std::min(inputs, dense + count); }
};

/// Which n are solved in the dual: the first `dual` of them.
struct Plan {
  Index dual = 0;
  Index n_dual = 0, n_primal = 0;  ///< the largest n of each kind, 0 if none
};

/// Samples handled together.
template <class T> constexpr Index sample_tile() { return 2 * Tile<T>::block * Tile<T>::mr; }

/// Fewest operations, except that n < p is left to the dual where lam is small: the primal matrix
/// is then singular but for lam.
template <class T> Plan plan_of(const Experiment& e) {
  const Index count = static_cast<Index>(e.n.size());
  const double p = static_cast<double>(e.p()), lams = static_cast<double>(e.lam.size());
  const double smallest = *std::min_element(e.lam.begin(), e.lam.end());
  const bool strict = smallest < (sizeof(T) == 8 ? 1e-6 : 1e-2);
  Plan best;
  double least = std::numeric_limits<double>::infinity();
  for (Index k = 0; k <= count; ++k) {
    if (k > 0 && e.n[k - 1] > e.p()) break;
    if (strict && k < count && e.n[k] < e.p()) continue;
    double cost = 0;
    if (k > 0) {
      const double m = static_cast<double>(e.n[k - 1]);
      cost += m * m * p + lams * m * m * m / 3;
    }
    if (k < count)
      cost += static_cast<double>(e.n.back()) * p * p +
              static_cast<double>(count - k) * lams * p * p * p / 3;
    if (cost < least) {
      least = cost;
      best = {k, k > 0 ? e.n[k - 1] : 0, k < count ? e.n.back() : 0};
    }
  }
  return best;
}

template <class T> bool factorise_step(const Experiment& e) {
  if (e.literal || !e.stepped()) return false;
  const double p = static_cast<double>(e.p()), d = static_cast<double>(e.d);
  const double samples = static_cast<double>(e.n.back() + e.n_test);
  const double spared = samples * (p < d ? 2 * p * d - p * p : 0) + samples * (p < d ? 0 : d * d);
  const double spent = (p * p * d + p * p * p / 3) * (sizeof(T) == 4 ? 2 : 1);
  return spent < 0.8 * spared;
}

template <class T> double memory_bytes(const Experiment& e) {
  const double p = static_cast<double>(e.p() + e.directions), d = static_cast<double>(e.d),
               size = sizeof(T);
  const double tile = static_cast<double>(sample_tile<T>());
  const Plan plan = plan_of<T>(e);
  const double inputs = e.literal || e.stepped() ? d : std::min(d, p + 1);
  const double nd = static_cast<double>(plan.n_dual + 1), all = static_cast<double>(e.n.back());
  const double tiles = size * tile * (p + inputs);
  double readout = size * p * inputs + (plan.n_primal ? size * p * p : 0) +
                   (plan.n_dual ? size * (nd * nd + nd * p) : 0) + tiles;
  if (e.loss.kind != ReadoutLoss::Kind::square) {
    const double few = std::min(p, all);  // two matrices of that order, K, and features held apart
    const double held = std::min(all, 1.5 * p);
    readout = size * (p * inputs + all * p + few * few +
                      (all > p ? held * p + 0.5 * held * held + 0.5 * p * p : 0)) +
              tiles;
  }
  double step = 0;
  if (e.stepped()) {
    step = size * 2 * p * d + tiles + size * tile * d;
    if (factorise_step<T>(e)) step = std::max(step, 2 * size * p * d + 8 * (p * p / 2 + p * 512));
  }
  const double points = 8 * all + size * p * static_cast<double>(e.n.size() * e.lam.size());
  return std::max(readout, step) + points + 16e6;
}

template <class T> class Simulation {
 public:
  Simulation(const Experiment& e, const Pointwise& activation, const TargetFunction& target,
             int threads, Interrupt& interrupt)
      : e_(e),
        activation_(activation),
        target_(target),
        threads_(threads),
        interrupt_(interrupt),
        p_(e.p()),
        directions_(e.directions),
        root_p_(T(1) / std::sqrt(T(p_))) {}

  Errors run(Predictions* predictions = nullptr) {
    network_ = draw_weights();
    make_steps();
    train();
    test(predictions);
    return std::move(errors_);
  }

  void weights(double* w, double* v, double* theta) {
    network_ = draw_weights();
    make_steps();
    const double root_d = std::sqrt(static_cast<double>(e_.d));
    const Index spikes = e_.stepped() ? 1 : e_.spikes;
    const std::vector<double>& from = e_.stepped() ? direction_ : frame_;
    for (Index k = 0; k < spikes * e_.d; ++k) v[k] = root_d * from[k];
    for (Index k = 0; k < e_.d; ++k) {
      const bool matters = k < network_.inputs;
      for (Index l = 0; l < directions_; ++l)
        theta[l * e_.d + k] =
            matters ? root_d * static_cast<double>(network_.rows(p_ + l, k)) : 0.0;
      for (Index i = 0; i < p_; ++i)
        w[i * e_.d + k] = matters ? static_cast<double>(network_.rows(i, k)) : 0.0;
    }
  }

 private:
  static constexpr Index mr = Tile<T>::mr, nr = Tile<T>::nr, per_panel = mr / nr,
                         block = Tile<T>::block;

  Stream stream(Purpose purpose, Index step = 0) const {
    return {e_.seed, e_.replicate, purpose, static_cast<std::uint64_t>(step)};
  }

  template <class Work> void parallel(Index count, Work&& work) {
    parallel_for(count, threads_, interrupt_, work);
  }

  const UnitGroup& group_of(Index unit) const {
    std::size_t g = 0;
    while (unit >= e_.groups[g].size) unit -= e_.groups[g++].size;
    return e_.groups[g];
  }

  // --- weights
  // ---------------------------------------------------------------------------------------------

  /// The frame of spikes and directions, a row a vector: generic orthonormal vectors, or the first
  /// coordinate axes.
  void draw_frame() {
    const Index d = e_.d, own = e_.own();
    frame_.assign(own * d, 0.0);
    if (!e_.literal) {
      for (Index j = 0; j < own; ++j) frame_[j * d + j] = 1;
      return;
    }
    const auto normalise = [d](double* x) {
      double s = 0;
      for (Index k = 0; k < d; ++k) s += x[k] * x[k];
      for (Index k = 0; k < d; ++k) x[k] /= std::sqrt(s);
    };
    std::vector<double> draws(normal_rows * d);
    for (Index j = 0; j < own; ++j) {
      if (j % normal_rows == 0)
        fill_normals<double>(stream(Purpose::directions), j, 0, d, draws.data(), normal_rows);
      double* x = &frame_[j * d];
      for (Index k = 0; k < d; ++k) x[k] = draws[normal_rows * k + j % normal_rows];
      if (j == 0) normalise(x);
      for (int pass = 0; j > 0 && pass < 2; ++pass) {
        for (Index i = 0; i < j; ++i) {
          const double* other = &frame_[i * d];
          double along = 0;
          for (Index k = 0; k < d; ++k) along += other[k] * x[k];
          for (Index k = 0; k < d; ++k) x[k] -= along * other[k];
        }
        normalise(x);
      }
    }
  }

  /// theta_l/sqrt d.
  std::vector<double> direction(Index l) const {
    const Index own = e_.own(), d = e_.d;
    std::vector<double> theta(d, 0.0);
    for (Index j = own; j-- > 0;)
      for (Index k = 0; k < d; ++k) theta[k] += e_.theta[l * own + j] * frame_[j * d + k];
    return theta;
  }

  Network<T> draw_weights() {
    draw_frame();
    Network<T> net;
    net.units = p_;
    // The columns of the frame; then the triangle of the other D.
    const Index own = e_.own(), others = e_.d - own;
    net.inputs = e_.literal ? e_.d : own + std::min(p_, others);
    net.dense = e_.literal ? e_.d : own;
    net.rows = Panels<T>(p_ + directions_, e_.stepped() ? e_.d : net.inputs);
    const Stream normals = stream(Purpose::weights), lengths = stream(Purpose::lengths);
    parallel(net.rows.count(), [&](Index i, int) {
      T* panel = net.rows.at(i, 0);
      std::fill_n(panel, net.rows.columns() * mr, T(0));
      const Index extent = net.extent((i + 1) * mr);
      for (Index row = 0; row < mr; row += normal_rows)
        fill_normals<T>(normals, i * mr + row, 0, extent, panel + row, mr);
      for (Index row = 0; row < mr; ++row) {
        const Index unit = i * mr + row;
        T* w = panel + row;
        if (unit >= p_) {
          for (Index k = 0; k < extent; ++k) w[k * mr] = 0;
          if (unit < p_ + directions_) {
            const std::vector<double> theta = direction(unit - p_);
            for (Index k = 0; k < extent; ++k) w[k * mr] = static_cast<T>(theta[k]);
          }
          continue;
        }
        if (!e_.literal && unit < others) {
          w[(own + unit) * mr] =
              static_cast<T>(std::sqrt(ScalarStream(lengths, unit).chi_square(others - unit)));
          for (Index k = own + unit + 1; k < extent; ++k) w[k * mr] = 0;
        }
        double square = 0;
        for (Index k = 0; k < extent; ++k)
          square += static_cast<double>(w[k * mr]) * static_cast<double>(w[k * mr]);
        const UnitGroup& g = group_of(unit);
        const double scale = (e_.stepped() ? 1.0 : std::sqrt(g.c)) / std::sqrt(square);
        for (Index k = 0; k < extent; ++k) {
          double shift = 0;
          for (Index j = 0; j < e_.spikes; ++j) shift += g.r[j] * frame_[j * e_.d + k];
          w[k * mr] = static_cast<T>(scale * static_cast<double>(w[k * mr]) + shift);
        }
      }
    });
    return net;
  }

  // --- samples and features
  // ------------------------------------------------------------------------------------------

  /// Samples first .. first + count - 1 as rows of x, with their leading `inputs` coordinates.
  void draw_samples(const Stream& normals, Index first, Index count, Index inputs, Panels<T>& x) {
    parallel(ceil_div(count, mr), [&](Index i, int) {
      for (Index row = 0; row < mr; row += normal_rows)
        fill_normals<T>(normals, first + i * mr + row, 0, inputs, x.at(i, 0) + row, mr);
    });
  }

  /// Calls put(s, eps) with the normal that belongs to sample first + s.
  template <class Put>
  void with_normals(const Stream& stream, Index first, Index count, Put&& put) const {
    double eps[8];
    for (Index s = 0; s < count; s += 8) {
      fill_normals<double>(stream, first + s, 0, 1, eps, 8);
      for (Index j = 0; j < std::min<Index>(8, count - s); ++j) put(s + j, eps[j]);
    }
  }

  /// The values y of the target become labels first .. first + count - 1.
  void to_labels(const Stream& noise, Index first, Index count, double* y) const {
    const double sd = std::sqrt(e_.noise);
    if (e_.labels == LabelKind::real) {
      if (sd > 0) with_normals(noise, first, count, [&](Index s, double eps) { y[s] += sd * eps; });
    } else if (e_.labels == LabelKind::sign) {
      with_normals(noise, first, count, [&](Index s, double eps) {
        const double value = y[s] + sd * eps;
        y[s] = value > 0 || (value == 0 && eps > 0) ? 1 : -1;
      });
    } else {
      with_normals(noise, first, count, [&](Index s, double eps) {
        const double uniform = 0.5 * std::erfc(-eps / std::sqrt(2.0));
        y[s] = uniform < 1 / (1 + std::exp(-e_.slope * y[s])) ? 1 : -1;
      });
    }
  }

  void features(T* z, Index count) const {
    activation_.value(z, z, count);
    for (Index i = 0; i < count; ++i) z[i] *= root_p_;
  }

  /// Units as rows: z(i, s) = w_i.x_s for rows up to theta's; `done(i, s0, s1)` once those columns
  /// of panel i are complete.
  template <class Done>
  void preactivations(const Network<T>& net, const Panels<T>& x, Index count, Panels<T>& z,
                      Done&& done) {
    const Index groups = ceil_div(count, nr);
    const std::vector<Piece> pieces = pieces_of(net.rows.count(), groups, block, 30);
    parallel(static_cast<Index>(pieces.size()), [&](Index n, int) {
      const Piece& q = pieces[n];
      multiply_block<T>(
          net.rows, x, z, q.i0, q.i1, q.j0, q.j1, net.extent(q.i1 * mr), false,
          [&](Index i, Index) { return net.extent((i + 1) * mr); },
          [&](Index i, Index j0, Index j1) { done(i, j0 * nr, std::min(j1 * nr, count)); });
    });
  }

  /// Samples as rows: phi(s, i) = sigma(w_i.x_s)/sqrt p in columns i < p of the panels from
  /// `panel0` on, t_l in column p + l.
  void features_of_samples(const Panels<T>& x, Index count, Panels<T>& phi, Index panel0) {
    struct Shifted {
      Panels<T>& base;
      Index first;
      T* at(Index i, Index k) const { return base.at(first + i, k); }
    } out{phi, panel0};
    const Index groups = ceil_div(p_ + directions_, nr);
    std::vector<Piece> order =
        pieces_of(ceil_div(count, mr), groups, block, 40);  // the longest rows of a triangle first
    std::stable_sort(order.begin(), order.end(),
                     [](const Piece& a, const Piece& b) { return a.j0 > b.j0; });
    parallel(static_cast<Index>(order.size()), [&](Index n, int) {
      const Piece& q = order[n];
      multiply_block<T>(
          x, network_.rows, out, q.i0, q.i1, q.j0, q.j1, network_.extent(q.j1 * nr), false,
          [&](Index, Index j) { return network_.extent((j + 1) * nr); },
          [&](Index i, Index j0, Index j1) {
            const Index stop = std::min(j1 * nr, p_);
            if (stop > j0 * nr) features(out.at(i, j0 * nr), (stop - j0 * nr) * mr);
          });
    });
  }

  /// t[l count + s] = theta_l.x_s/sqrt d from a panel of units as rows, if it has any, for s0 <= s
  /// < s1.
  void take_t(const Panels<T>& z, Index panel, Index s0, Index s1, Index count, double* t) const {
    for (Index l = std::max<Index>(0, panel * mr - p_); l < directions_; ++l) {
      if ((p_ + l) / mr != panel) return;
      for (Index s = s0; s < s1; ++s) t[l * count + s] = static_cast<double>(z(p_ + l, s));
    }
  }
  /// The same from samples as rows, the first of them in row `first`.
  void take_t(const Panels<T>& phi, Index first, Index count, double* t) const {
    for (Index l = 0; l < directions_; ++l)
      for (Index s = 0; s < count; ++s)
        t[l * count + s] = static_cast<double>(phi(first + s, p_ + l));
  }

  /// Labels of training samples first .. first + count - 1 from their t.
  void label(const Stream& noise, Index first, Index count, const double* t, double* y) const {
    target_.evaluate(t, y, count);
    to_labels(noise, first, count, y);
  }

  // --- the gradient steps
  // --------------------------------------------------------------------------------------------

  void make_steps() {
    for (Index i = 0; i < static_cast<Index>(e_.steps.size()); ++i) make_step(e_.steps[i], i);
    if (e_.stepped() && factorise_step<T>(e_)) triangularise();
  }

  void make_step(const GradientStep& step, Index index) {
    const Index d = e_.d, n0 = step.n0, tile = std::min(sample_tile<T>(), ceil_div(n0, mr) * mr);
    Panels<T> w1(p_ + directions_, d);
    std::copy_n(network_.rows.at(0, 0), network_.rows.size(), w1.at(0, 0));
    {
      Panels<T> x(tile, d), xt(d, tile), z(p_ + directions_, tile);
      std::vector<double> t(directions_ * tile), residual(tile),
          partial(static_cast<std::size_t>(network_.rows.count() * tile));
      std::vector<T> factor(static_cast<std::size_t>(network_.rows.count() * mr), T(0));
      for (Index i = 0; i < p_; ++i)
        factor[i] = static_cast<T>(step.eta * group_of(i).readout / static_cast<double>(n0));
      direction_.assign(d, 0.0);
      for (Index first = 0; first < n0; first += tile) {
        const Index count = std::min(tile, n0 - first);
        draw_samples(stream(Purpose::step_samples, index), first, count, d, x);
        preactivations(network_, x, count, z, [&](Index i, Index s0, Index s1) {
          take_t(z, i, s0, s1, count, t.data());
          // This panel's share of f.
          Buffer<T> phi((s1 - s0) * mr);
          activation_.value(z.at(i, s0), phi.data(), (s1 - s0) * mr);
          for (Index s = s0; s < s1; ++s) {
            double sum = 0;
            for (Index r = 0; r < mr && i * mr + r < p_; ++r)
              sum += group_of(i * mr + r).readout * static_cast<double>(phi[(s - s0) * mr + r]);
            partial[i * tile + s] = sum;
          }
        });
        label(stream(Purpose::step_noise, index), first, count, t.data(), residual.data());
        for (Index s = 0; s < count; ++s) {
          double f = 0;
          for (Index i = 0; i < network_.rows.count(); ++i) f += partial[i * tile + s];
          residual[s] -= f / static_cast<double>(p_);
        }
        // S(i, s) = (eta a_i/n0) (y_s - f_s) sigma'(w_i.x_s), in place of z.
        parallel(z.count(), [&](Index i, int) {
          activation_.derivative(z.at(i, 0), z.at(i, 0), count * mr);
          for (Index s = 0; s < count; ++s)
            for (Index r = 0; r < mr; ++r)
              z.at(i, s)[r] *= factor[i * mr + r] * static_cast<T>(residual[s]);
        });
        // Coordinates as rows: the right operand of W1 += S X.
        parallel(xt.count(), [&](Index i, int) {
          const Index live = std::min(mr, d - i * mr);
          for (Index s0 = 0; s0 < count; s0 += mr)
            for (Index r = 0; r < mr; ++r)
              for (Index s = s0; s < std::min(s0 + mr, count); ++s)
                xt.at(i, s)[r] = r < live ? x.at(s0 / mr, i * mr + r)[s - s0] : T(0);
          for (Index r = 0; r < live; ++r) {
            double sum = 0;
            for (Index s = 0; s < count; ++s)
              sum += residual[s] * static_cast<double>(xt.at(i, s)[r]);
            direction_[i * mr + r] += sum;
          }
        });
        multiply(z, xt, w1, count, true, threads_, interrupt_);
      }
    }
    double square = 0;
    for (double x : direction_) square += x * x;
    for (double& x : direction_) x /= std::sqrt(square);
    network_.rows = std::move(w1);
    network_.inputs = network_.dense = d;
  }

  /// Replaces W1 by (its columns along the directions, L) with L L^T = W1 W1^T outside them, in
  /// double. Left alone if the factor breaks down.
  void triangularise() {
    constexpr Index wide = Tile<double>::mr;
    const Index own = directions_, others = e_.d - own, rank = std::min(p_, others), tile = 512;
    PackedLower<double> g(p_);
    g.set_zero();
    {
      Panels<double> part(p_, tile);
      for (Index first = 0; first < others; first += tile) {
        const Index count = std::min(tile, others - first);
        parallel(part.count(), [&](Index i, int) {
          for (Index k = 0; k < count; ++k)
            for (Index r = 0; r < wide; ++r)
              part.at(i, k)[r] =
                  i * wide + r < p_
                      ? static_cast<double>(network_.rows(i * wide + r, own + first + k))
                      : 0.0;
        });
        rank_update(part, count, g, threads_, interrupt_);
      }
    }
    pad_identity(g, p_);
    // Columns beyond the rank would have a vanishing pivot and are not needed.
    for (Index i = rank; i < p_; ++i) g(i, i) += 2 * g(i, i) + 1;
    if (!cholesky(g, 0.0, threads_, interrupt_)) return;
    Panels<T> rows(p_ + own, own + rank);
    parallel(rows.count(), [&](Index i, int) {
      std::fill_n(rows.at(i, 0), rows.columns() * mr, T(0));
      for (Index r = 0; r < mr && i * mr + r < p_ + own; ++r) {
        const Index unit = i * mr + r;
        for (Index k = 0; k < own; ++k) rows(unit, k) = network_.rows(unit, k);
        if (unit < p_)
          for (Index k = 0; k < std::min(rank, unit + 1); ++k)
            rows(unit, own + k) = static_cast<T>(g(unit, k));
      }
    });
    network_.rows = std::move(rows);
    network_.inputs = own + rank;
    network_.dense = own;
  }

  // --- the readout
  // ---------------------------------------------------------------------------------------------

  Index lams() const { return static_cast<Index>(e_.lam.size()); }
  Index readouts() const { return static_cast<Index>(e_.n.size()) * lams(); }

  void train() {
    const Plan plan = plan_of<T>(e_);
    for (auto* errors : {&errors_.test, &errors_.train}) errors->assign(readouts(), 0.0);
    if (e_.labelled()) errors_.missed.assign(readouts(), 0.0);
    if (with_losses())
      for (auto* errors : {&errors_.test_loss, &errors_.train_loss})
        errors->assign(readouts(), 0.0);
    readout_ = Panels<T>(readouts(), p_);
    readout_.set_zero();
    y_.assign(e_.n.back(), 0.0);
    if (e_.loss.kind != ReadoutLoss::Kind::square) {
      fit();
      return;
    }
    Panels<T> kept;  // the samples of the dual, reused by the primal
    if (plan.n_dual > 0) dual(plan, kept);
    if (plan.n_primal > 0) primal(plan, kept);
    if (with_losses()) errors_.train_loss = errors_.train;
  }

  /// Losses beside the squares: of the maximum margin they are infinite.
  bool with_losses() const {
    return e_.loss.kind != ReadoutLoss::Kind::max_margin &&
           (e_.labelled() || e_.loss.kind != ReadoutLoss::Kind::square);
  }

  /// Features of the first n training samples as rows, and their labels.
  Panels<T> training_samples(Index n) {
    const Index tile = std::min(sample_tile<T>(), ceil_div(n, mr) * mr);
    Panels<T> phi(n, p_ + directions_), x(tile, network_.inputs);
    std::vector<double> t(directions_ * tile);
    for (Index first = 0; first < n; first += tile) {
      const Index count = std::min(tile, n - first);
      draw_samples(stream(Purpose::train_samples), first, count, network_.inputs, x);
      features_of_samples(x, count, phi, first / mr);
      take_t(phi, first, count, t.data());
      label(stream(Purpose::train_noise), first, count, t.data(), y_.data() + first);
    }
    return phi;
  }

  /// Readouts of other losses, in double.
  void fit() {
    if constexpr (std::is_same_v<T, double>) {
      const Panels<T> phi = training_samples(e_.n.back());
      errors_.gap.assign(readouts(), 0.0);
      fit_readouts(e_.loss, phi, p_, y_, e_.n, e_.lam, threads_, interrupt_,
                   [this](Index m, Index j, const double* a, const double* f, double gap) {
                     const Index which = m * lams() + j;
                     for (Index u = 0; u < p_; ++u) readout_(which, u) = a[u];
                     double squares = 0, losses = 0;
                     for (Index s = 0; s < e_.n[m]; ++s) {
                       const double e = e_.loss.error(y_[s], f[s]);  // +- (y - f)
                       squares += e * e, losses += e_.loss.value(e);
                     }
                     const double n = static_cast<double>(e_.n[m]);
                     errors_.gap[which] = gap, errors_.train[which] = squares / n;
                     if (with_losses()) errors_.train_loss[which] = losses / n;
                   });
    }
  }

  void dual(const Plan& plan, Panels<T>& phi) {
    const Index n = plan.n_dual;
    phi = training_samples(n);
    PackedLower<T> k(n + 1), l(n + 1);
    k.set_zero();
    rank_update(phi, p_, k, threads_, interrupt_);
    pad_identity(k, n);
    for (Index s = 0; s < n; ++s) k(n, s) = static_cast<T>(y_[s]);
    std::vector<T> z(static_cast<std::size_t>(l.count() * mr));
    for (Index j = 0; j < lams(); ++j) {
      factorise(k, l, n, e_.lam[j]);
      for (Index m = 0; m < plan.dual; ++m) {
        const Index rows = e_.n[m];
        for (Index s = 0; s < rows; ++s) z[s] = l(n, s);
        solve_transposed(l, rows, z.data(), threads_, interrupt_);
        double square = 0;
        for (Index s = 0; s < rows; ++s)
          square += static_cast<double>(z[s]) * static_cast<double>(z[s]);
        // y - Phi a = lam (K + lam)^-1 y
        errors_.train[m * lams() + j] = e_.lam[j] * e_.lam[j] * square / static_cast<double>(rows);
        project(phi, rows, z.data(), m * lams() + j);
      }
    }
  }

  /// a = Phi^T z over the first `rows` samples, into readout `which`.
  void project(const Panels<T>& phi, Index rows, const T* z, Index which) {
    constexpr Index chunk = 256;
    constexpr int lanes = Tile<T>::lanes, vectors = Tile<T>::vectors;
    using V = simd::Lanes<T, lanes>;
    parallel(ceil_div(p_, chunk), [&](Index c, int) {
      const Index u0 = c * chunk, u1 = std::min(p_, u0 + chunk);
      double sum[chunk] = {};
      for (Index i = 0; i < ceil_div(rows, mr); ++i) {
        T own[mr] = {};
        std::copy_n(z + i * mr, std::min(mr, rows - i * mr), own);
        V zs[vectors];
        for (int v = 0; v < vectors; ++v) zs[v] = V::load(own + v * lanes);
        for (Index u = u0; u < u1; ++u) {
          const T* column = phi.at(i, u);
          V s = V::load(column) * zs[0];
          for (int v = 1; v < vectors; ++v) s += V::load(column + v * lanes) * zs[v];
          T total = 0;
          for (int q = 0; q < lanes; ++q) total += s[q];
          sum[u - u0] += static_cast<double>(total);
        }
      }
      for (Index u = u0; u < u1; ++u) readout_(which, u) = static_cast<T>(sum[u - u0]);
    });
  }

  /// l = Cholesky factor of `g` with lam on the first `order` diagonal entries; the labels in row
  /// `order` are solved along with it.
  void factorise(const PackedLower<T>& g, PackedLower<T>& l, Index order, double lam) {
    constexpr Index chunk = 1 << 18;
    parallel(ceil_div(g.size(), chunk), [&](Index c, int) {
      const Index first = c * chunk;
      std::copy_n(g.data() + first, std::min(chunk, g.size() - first), l.data() + first);
    });
    T largest = 0;
    for (Index i = 0; i < order; ++i) {
      l(i, i) += static_cast<T>(lam);
      largest = std::max(largest, l(i, i));
    }
    l(order, order) = T(1e30);
    // A pivot at the level of the rounding errors of the matrix would be noise, and so would be the
    // answer.
    const T least = std::numeric_limits<T>::epsilon() * std::sqrt(static_cast<T>(order)) * largest;
    if (!cholesky(l, least, threads_, interrupt_)) throw NotPositiveDefinite(lam);
  }

  void primal(const Plan& plan, const Panels<T>& kept) {
    const Index n = plan.n_primal, tile = std::min(sample_tile<T>(), ceil_div(n, mr) * mr),
                last = p_ / mr;
    PackedLower<T> g(p_ + 1), l(p_ + 1);
    g.set_zero();
    pad_identity(g, p_ + 1);
    Panels<T> x(tile, network_.inputs), phi(p_ + directions_, tile);
    std::vector<double> t(directions_ * tile);
    double squares = 0;
    Index first = 0;
    for (Index m = plan.dual; m < static_cast<Index>(e_.n.size()); ++m) {
      while (first < e_.n[m]) {
        const Index count = std::min(tile, e_.n[m] - first);
        if (first + count <= kept.rows()) {
          transpose(kept, first, count, phi);
        } else {
          draw_samples(stream(Purpose::train_samples), first, count, network_.inputs, x);
          preactivations(network_, x, count, phi, [&](Index i, Index s0, Index s1) {
            take_t(phi, i, s0, s1, count, t.data());
            if (i <= last) features(phi.at(i, s0), (s1 - s0) * mr);
          });
          label(stream(Purpose::train_noise), first, count, t.data(), y_.data() + first);
        }
        // Below the units: the labels, then nothing.
        for (Index s = 0; s < count; ++s) {
          T* column = phi.at(last, s);
          std::fill(column + p_ % mr, column + mr, T(0));
          column[p_ % mr] = static_cast<T>(y_[first + s]);
          squares += y_[first + s] * y_[first + s];
        }
        rank_update(phi, count, g, threads_, interrupt_);
        first += count;
      }
      std::vector<T> z(static_cast<std::size_t>(l.count() * mr));
      std::vector<double> a(p_);
      for (Index j = 0; j < lams(); ++j) {
        factorise(g, l, p_, e_.lam[j]);
        for (Index i = 0; i < p_; ++i) z[i] = l(p_, i);
        solve_transposed(l, p_, z.data(), threads_, interrupt_);
        for (Index i = 0; i < p_; ++i)
          a[i] = static_cast<double>(readout_(m * lams() + j, i) = z[i]);
        // |y - Phi a|^2, second order in the error of a.
        double residual = squares + quadratic_form(g, p_, a.data(), threads_, interrupt_);
        for (Index i = 0; i < p_; ++i) residual -= 2 * a[i] * static_cast<double>(g(p_, i));
        errors_.train[m * lams() + j] = std::max(0.0, residual) / static_cast<double>(e_.n[m]);
      }
    }
  }

  /// Samples first .. first + count - 1 of `kept` (samples as rows) into phi (units as rows).
  void transpose(const Panels<T>& kept, Index first, Index count, Panels<T>& phi) {
    parallel(phi.count(), [&](Index i, int) {
      for (Index r = 0; r < mr; ++r) {
        const Index unit = std::min(i * mr + r, p_);
        for (Index s = 0; s < count; ++s) phi.at(i, s)[r] = kept(first + s, unit);
      }
    });
  }

  // --- fresh points
  // ---------------------------------------------------------------------------------------------

  void test(Predictions* predictions) {
    const Index n = e_.n_test, tile = std::min(sample_tile<T>(), ceil_div(n, mr) * mr),
                count_all = readouts();
    Panels<T> x(tile, network_.inputs), phi(tile, p_ + directions_), f(tile, count_all);
    std::vector<double> t(directions_ * tile), y(tile), drawn(tile);
    // Squares, and where asked for losses and misses, each panel's share for each readout.
    std::vector<std::vector<double>*> kinds{&errors_.test};
    if (with_losses()) kinds.push_back(&errors_.test_loss);
    if (e_.labelled()) kinds.push_back(&errors_.missed);
    const Index share = static_cast<Index>(kinds.size()) * count_all;
    std::vector<double> sums(static_cast<std::size_t>(ceil_div(tile, mr) * share));
    if (predictions) {
      predictions->t.assign(directions_ * n, 0.0);
      predictions->f.assign(n * count_all, 0.0);
    }
    for (Index first = 0; first < n; first += tile) {
      const Index count = std::min(tile, n - first);
      draw_samples(stream(Purpose::test_samples), first, count, network_.inputs, x);
      features_of_samples(x, count, phi, 0);
      take_t(phi, 0, count, t.data());
      target_.evaluate(t.data(), y.data(), count);
      if (e_.labelled() || with_losses()) {
        std::copy_n(y.data(), count, drawn.data());
        to_labels(stream(Purpose::test_noise), first, count, drawn.data());
        if (e_.labelled()) std::copy_n(drawn.data(), count, y.data());
      }
      parallel(ceil_div(count, mr), [&](Index i, int) {
        multiply_block<T>(
            phi, readout_, f, i, i + 1, 0, ceil_div(count_all, nr), p_, false,
            [this](Index, Index) { return p_; }, [](Index, Index, Index) {});
        for (Index m = 0; m < count_all; ++m) {
          const Index live = std::min(mr, count - i * mr);
          double* own = &sums[i * share + m];
          double sum = 0;
          for (Index r = 0; r < live; ++r) {
            const double miss = static_cast<double>(f.at(i, m)[r]) - y[i * mr + r];
            sum += miss * miss;
          }
          *own = sum;
          if (with_losses()) {
            double loss = 0;
            for (Index r = 0; r < live; ++r)
              loss += e_.loss.value(
                  e_.loss.error(drawn[i * mr + r], static_cast<double>(f.at(i, m)[r])));
            *(own += count_all) = loss;
          }
          if (e_.labelled()) {
            double missed = 0;  // f = 0, as where no feature answers, is a coin
            for (Index r = 0; r < live; ++r) {
              const double sign = drawn[i * mr + r] * static_cast<double>(f.at(i, m)[r]);
              missed += sign > 0 ? 0 : sign < 0 ? 1 : 0.5;
            }
            *(own += count_all) = missed;
          }
        }
      });
      for (Index i = 0; i < ceil_div(count, mr); ++i)
        for (std::size_t kind = 0; kind < kinds.size(); ++kind)
          for (Index m = 0; m < count_all; ++m)
            (*kinds[kind])[m] += sums[i * share + static_cast<Index>(kind) * count_all + m];
      if (predictions) {
        for (Index l = 0; l < directions_; ++l)
          std::copy_n(&t[l * count], count, predictions->t.data() + l * n + first);
        for (Index m = 0; m < count_all; ++m)
          for (Index s = 0; s < count; ++s)
            predictions->f[m * n + first + s] = static_cast<double>(f(s, m));
      }
    }
    for (std::vector<double>* kind : kinds)
      for (double& error : *kind) error /= static_cast<double>(n);
  }

  const Experiment& e_;
  const Pointwise& activation_;
  const TargetFunction& target_;
  int threads_;
  Interrupt& interrupt_;
  Index p_, directions_;
  T root_p_;
  Network<T> network_;
  std::vector<double> frame_, direction_, y_;
  Panels<T> readout_;
  Errors errors_;
};

template <class T>
Errors simulate(const Experiment& e, const Pointwise& activation, const TargetFunction& target,
                int threads, Interrupt& interrupt, Predictions* predictions) {
  return Simulation<T>(e, activation, target, threads, interrupt).run(predictions);
}
template <class T>
void simulate_weights(const Experiment& e, const Pointwise& activation,
                      const TargetFunction& target, int threads, Interrupt& interrupt, double* w,
                      double* v, double* theta) {
  Simulation<T>(e, activation, target, threads, interrupt).weights(w, v, theta);
}

#define SRFX_SIMULATE(T)                                                                        \
  template bool factorise_step<T>(const Experiment&);                                           \
  template double memory_bytes<T>(const Experiment&);                                           \
  template Errors simulate<T>(const Experiment&, const Pointwise&, const TargetFunction&, int,  \
                              Interrupt&, Predictions*);                                        \
  template void simulate_weights<T>(const Experiment&, const Pointwise&, const TargetFunction&, \
                                    int, Interrupt&, double*, double*, double*);
SRFX_SIMULATE(float)
SRFX_SIMULATE(double)

}  // namespace srfx
