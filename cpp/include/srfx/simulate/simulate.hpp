// The experiment itself: a two-layer network, its gradient step, ridge regression on its features,
// its errors.
//
//   spiked random features (CPD24 Def. 3.1)   w_i = sqrt(c_g) w0_i + sum_j r_gj v_j/sqrt(d),  w0_i
//   uniform on the unit sphere gradient steps (CPD24 section 2)          w_i += (eta a_g/n0) sum_mu
//   (y_mu - f(x_mu)) sigma'(w_i.x_mu) x_mu, each on fresh
//                                             samples and with its own eta and n0; f(x) = sum_i
//                                             a_g(i) sigma(w_i.x)/p as it is then
//   readout                                   a = argmin sum_mu (y_mu - a.phi(x_mu))^2 + lam |a|^2,
//   phi = sigma(W x)/sqrt(p) labels                                    y = s*(t_1, .., t_L) +
//   sqrt(noise) eps,  t_l = theta_l.x/sqrt d,  x ~ N(0, I_d)
//                                             or +1 and -1: its sign; or 1 with probability 1/(1 +
//                                             exp(-slope s*)), no noise then
//   other losses                              a = argmin sum_mu loss(y_mu, a.phi(x_mu)) + lam |a|^2
//   (loss.hpp, fit.hpp)
//
// with orthogonal v_j, orthogonal theta_l, all of norm sqrt d. Nothing here knows the theory's
// equations. How it is done: cpp/src/simulate.cpp.
#pragma once

#include "srfx/gaussian/activation.hpp"
#include "srfx/gaussian/target.hpp"
#include "srfx/core/parallel.hpp"
#include "srfx/core/types.hpp"
#include "srfx/simulate/readouts.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

namespace srfx {

/// A function applied to the numbers of an array; x and y may be the same array. May be called from
/// any thread.
class Pointwise {
 public:
  virtual ~Pointwise() = default;
  virtual void value(const double* x, double* y, Index n) const = 0;
  virtual void value(const float* x, float* y, Index n) const = 0;
  virtual void derivative(const double* x, double* y, Index n) const = 0;
  virtual void derivative(const float* x, float* y, Index n) const = 0;
};

/// One of the named activations.
class NamedPointwise final : public Pointwise {
 public:
  explicit NamedPointwise(ActivationId id) : id_(id) {}
  void value(const double* x, double* y, Index n) const override { evaluate<double>(id_, x, y, n); }
  void value(const float* x, float* y, Index n) const override { evaluate<float>(id_, x, y, n); }
  void derivative(const double* x, double* y, Index n) const override {
    evaluate_derivative<double>(id_, x, y, n);
  }
  void derivative(const float* x, float* y, Index n) const override {
    evaluate_derivative<float>(id_, x, y, n);
  }

 private:
  ActivationId id_;
};

/// Units that share a value of the initial readout.
struct UnitGroup {
  Index size = 0;
  double readout = 1;     ///< a_g
  std::vector<double> r;  ///< strength of each spike
  double c = 1;           ///< bulk variance c_g
};

/// A gradient step.
struct GradientStep {
  Index n0 = 0;  ///< its samples
  double eta = 0;
};

/// What y is.
enum class LabelKind { real, sign, logit };

/// One replicate of one experiment. Sizes are trusted: d >= own(), everything else positive, `n`
/// strictly ascending.
///
/// With steps there are no spikes but those that the steps make.
struct Experiment {
  Index d = 0, n_test = 0;
  std::vector<Index> n;
  std::vector<double> lam;
  std::vector<UnitGroup> groups;
  Index spikes = 1, directions = 1;
  /// Row l: theta_l/sqrt d in an orthonormal frame of the spikes v_j/sqrt d and `directions` more
  /// vectors.
  std::vector<double> theta{1, 0};
  double noise = 0;
  LabelKind labels = LabelKind::real;
  double slope = 1;  ///< of LabelKind::logit
  ReadoutLoss loss;
  std::vector<GradientStep> steps;  ///< none: spiked random features
  std::uint64_t seed = 0, replicate = 0;
  bool literal = false;

  Index p() const {
    Index units = 0;
    for (const UnitGroup& g : groups) units += g.size;
    return units;
  }
  bool labelled() const { return labels != LabelKind::real; }
  bool stepped() const { return !steps.empty(); }
  /// Vectors of the frame.
  Index own() const { return spikes + directions; }
};

/// Errors for each n (rows) and lam (columns): mean squares, of fresh points without the noise of
/// real labels; mean losses, label noise included; the share of labels that the sign of the
/// prediction misses; the duality gap of the readout over its objective. Of the ridge on real
/// labels the squares alone, of real labels no misses, of the ridge no gap.
struct Errors {
  std::vector<double> test, train, test_loss, train_loss, missed, gap;
};

/// The test points, on request: all t_1, then all t_2, ..; and the predictions of every (n, lam)
/// one after the other.
struct Predictions {
  std::vector<double> t, f;
};

/// The regularised matrix was not positive definite to working precision.
struct NotPositiveDefinite : std::runtime_error {
  explicit NotPositiveDefinite(double penalty)
      : std::runtime_error("not positive definite"),
        lam(penalty) {}
  double lam;
};

/// Whether W1 is worth a triangular factor: p^2 d + p^3/3 operations in double against those it
/// spares the features.
template <class T> bool factorise_step(const Experiment& e);

/// Peak memory of a run in bytes, to within some per cent. T is float or double, here and below.
template <class T> double memory_bytes(const Experiment& e);

/// Draws the network, makes the step, fits the readouts, measures the errors.
template <class T>
Errors simulate(const Experiment& e, const Pointwise& activation, const TargetFunction& target,
                int threads, Interrupt& interrupt, Predictions* predictions = nullptr);

/// The first-layer weights alone, p rows of d (coordinates that do not matter are zero); v (a row a
/// spike) and theta (a row a direction) with norm sqrt d. After steps v is one row, the direction
/// sum_mu (y_mu - f(x_mu)) x_mu of the last, in the coordinates the steps were made in.
template <class T>
void simulate_weights(const Experiment& e, const Pointwise& activation,
                      const TargetFunction& target, int threads, Interrupt& interrupt, double* w,
                      double* v, double* theta);

}  // namespace srfx
