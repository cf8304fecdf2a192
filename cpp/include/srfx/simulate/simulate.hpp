// The experiment itself: a two-layer network, its gradient step, ridge regression on its features, its errors.
//
//   spiked random features (CPD24 Def. 3.1)   w_i = sqrt(c_g) w0_i + r_g v/sqrt(d),  w0_i uniform on the unit sphere
//   one gradient step (CPD24 section 2)       w_i += (eta a_g/n0) sum_mu (y_mu - f0(x_mu)) sigma'(w_i.x_mu) x_mu,
//                                             f0(x) = sum_i a_g(i) sigma(w_i.x)/p
//   readout                                   a = argmin sum_mu (y_mu - a.phi(x_mu))^2 + lam |a|^2, phi = sigma(W x)/sqrt(p)
//   labels                                    y = s*(theta.x/sqrt d) + sqrt(noise) eps,  x ~ N(0, I_d)
//
// with |v|^2 = |theta|^2 = d and v.theta/d = gamma. Nothing here knows the theory's equations. How it is done: cpp/src/simulate.cpp.
#pragma once

#include "srfx/gaussian/activation.hpp"
#include "srfx/core/parallel.hpp"
#include "srfx/core/types.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

namespace srfx {

/// A function applied to the numbers of an array; x and y may be the same array. May be called from any thread.
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
  double readout = 1;  ///< a_g
  double r = 0;        ///< spike strength r_g
  double c = 1;        ///< bulk variance c_g
};

/// One replicate of one experiment. Sizes are trusted: d >= 2, everything else positive, `n` strictly ascending.
struct Experiment {
  Index d = 0, n_test = 0;
  std::vector<Index> n;
  std::vector<double> lam;
  std::vector<UnitGroup> groups;
  double gamma = 1, noise = 0;
  Index n0 = 0;  ///< samples of the gradient step; 0: spiked random features
  double eta = 0;
  std::uint64_t seed = 0, replicate = 0;
  bool literal = false;

  Index p() const {
    Index units = 0;
    for (const UnitGroup& g : groups) units += g.size;
    return units;
  }
  bool one_step() const { return n0 > 0; }
};

/// Errors for each n (rows) and lam (columns).
struct Errors {
  std::vector<double> test, train;
};

/// The test points, on request: theta.x/sqrt d, and the predictions of every (n, lam) one after the other.
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

/// Whether W1 is worth a triangular factor: p^2 d + p^3/3 operations in double against those it spares the features.
template <class T> bool factorise_step(const Experiment& e);

/// Peak memory of a run in bytes, to within some per cent. T is float or double, here and below.
template <class T> double memory_bytes(const Experiment& e);

/// Draws the network, makes the step, fits the readouts, measures the errors.
template <class T>
Errors simulate(const Experiment& e, const Pointwise& activation, const Pointwise& target,
                int threads, Interrupt& interrupt, Predictions* predictions = nullptr);

/// The first-layer weights alone, p rows of d (coordinates that do not matter are zero); v and theta with norm sqrt d. After a
/// step v is the direction sum_mu (y_mu - f0(x_mu)) x_mu, in the coordinates the step was made in.
template <class T>
void simulate_weights(const Experiment& e, const Pointwise& activation, const Pointwise& target,
                      int threads, Interrupt& interrupt, double* w, double* v, double* theta);

}  // namespace srfx
