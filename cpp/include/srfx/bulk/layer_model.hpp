// What one gradient step, the first or a later one, makes of a first layer: everything that depends
// neither on s nor on beta (THEORY 14 and 15, one readout value).
//
// A step sees latents x_E = (k, z_1, .., z_L'), components of an input on the frame of the layer
// before it (at the first step: t), and the residual u. With S = sigma' - s1 - s2 z and its moments
// b3, b12, .. as functions of k,
//
//   e = eta u s2/sqrt c,  m = eta^2 u^2 E_z S^2/alpha0,  G = 1 + X^T diag(e) X/n0,  g = v_gc,  gc =
//   eta u b3/(2 c) Sigma' = G Sigma G + X^T diag(m) X/n0 + G L g^T + g L^T G + C_delta g g^T.
//
// Averages are over nodes that stand for the joint law of (x_E, u): points of (k, u), with the
// moments of x_E given (k, u).
#pragma once

#include "srfx/core/dense.hpp"
#include "srfx/core/scalar.hpp"
#include "srfx/gaussian/residual.hpp"
#include "srfx/gaussian/target.hpp"

#include <memory>

namespace srfx {

/// A layer: the network after one step, and `below` it the network before. R: its numbers; complex
/// ones carry derivatives as infinitesimal imaginary parts.
template <class R> struct BasicLayerModel {
  /// The vectors v_f = X^T f/n0 that a step makes: f = u s1, whose part of the new rows is the
  /// spike; la and lb of the row norms; gc.
  enum Vector { spike_vector, la, lb, gc };

  std::shared_ptr<const BasicLayerModel> below;  ///< none: the network at its start
  int directions = 1;                            ///< L, of the target
  int latents = 1;                               ///< D, numbers of x_E
  R iota = 0;                                    ///< 1/alpha0 of the step
  R c_before = 1;

  // The nodes: e and m, and for each product of two latents, of a vector and a latent, of two
  // vectors, its mean given the node times the weight of the node.
  std::vector<R> e, m;
  std::vector<std::vector<R>> rows;
  Index size() const { return static_cast<Index>(e.size()); }
  int vectors() const { return below ? 4 : 3; }
  int steps() const { return below ? 1 + below->steps() : 1; }
  static int packed(int i, int j) { return i >= j ? i * (i + 1) / 2 + j : packed(j, i); }
  int row(int i, int j) const { return 1 + packed(i, j); }  ///< x_i x_j; row 0: 1
  int row_of(int f, int i) const { return 1 + latents * (latents + 1) / 2 + f * latents + i; }
  int row_of_two(int f, int h) const {
    return 1 + latents * (latents + 1) / 2 + vectors() * latents + packed(f, h);
  }
  int n_rows() const { return row_of_two(vectors() - 1, vectors() - 1) + 1; }

  // After the step.
  SpikeParameters spike;       ///< the values of (r, c, length)
  R r = 0, c = 1, length = 0;  ///< length: of one direction gamma, of several |gamma|
  std::vector<R> gamma;        ///< theta_l.vhat, for each direction
  R c_delta = 0;
  /// The frame (vhat, zhat_1, .., zhat_L', L) in terms of (x_E.., spike_vector, la, V, U, gc), by
  /// rows; at the first step without U and gc. V = G Sigma v_lb/sqrt c, U = G L.
  using Matrix = Eigen::Matrix<R, Eigen::Dynamic, Eigen::Dynamic>;
  Matrix frame;
  std::vector<R> lb_mean;  ///< E[lb x_E]
  R lb_sigma = 0;          ///< v_lb Sigma v_lb
  R lb_tilt = 0;           ///< E[lb x_E].L of the layer below
  Matrix sigma;            ///< of this layer: overlaps of Sigma on the frame without L
  std::vector<R> tilt;     ///< and of L on that frame
  double fineness = 1;     ///< of the nodes that were found to serve
  R damping = 0,
    spread = 0;  ///< eta h1^2 and eta Var(sigma)/alpha0: how the first step damps the mean row
};
using LayerModel = BasicLayerModel<double>;

/// The symmetric root A of 1 - gamma gamma^T, or its inverse: t = gamma k + A z.
template <class R>
typename BasicLayerModel<R>::Matrix spread_of(const std::vector<R>& gamma, bool inverse) {
  const Index n = static_cast<Index>(gamma.size());
  R square = 0;
  for (const R& x : gamma) square += x * x;
  const R rho = real_part(square) < 1 ? std::sqrt(1.0 - square) : R(0);
  // 1 + f gamma gamma^T, f = (rho - 1)/square or (1/rho - 1)/square
  const R factor = inverse ? 1.0 / (rho * (1.0 + rho)) : -1.0 / (1.0 + rho);
  typename BasicLayerModel<R>::Matrix out(n, n);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j)
      out(i, j) = (i == j ? 1.0 : 0.0) +
                  factor * gamma[static_cast<std::size_t>(i)] * gamma[static_cast<std::size_t>(j)];
  return out;
}

/// The layer with the zhat of its frame turned: zhat'_m = sum_l turn(l, m) zhat_l.
template <class R>
BasicLayerModel<R> turned(const BasicLayerModel<R>& layer, const dense::Matrix& turn) {
  BasicLayerModel<R> out = layer;
  const Index n = layer.directions;
  for (Index m = 0; m < n; ++m)
    for (Index j = 0; j < layer.frame.cols(); ++j) {
      out.frame(m + 1, j) = 0;
      for (Index l = 0; l < n; ++l) out.frame(m + 1, j) += turn(l, m) * layer.frame(l + 1, j);
    }
  return out;
}

/// What a step is made with: eta times the readout value, 1/alpha0.
template <class R> struct BasicStepSize {
  R eta, iota;
};
using StepSize = BasicStepSize<double>;

template <class R> struct BasicStepNodes;
using StepNodes = BasicStepNodes<double>;

/// The layer after one step, whose nodes are those of layer_nodes.hpp, on the network at its start
/// (below none) or on a layer. The step sees labels less what a network with the initial readout
/// value answers, with which size.eta is multiplied already.
std::shared_ptr<const LayerModel> layer_after(std::shared_ptr<const LayerModel> below,
                                              const StepNodes& nodes, double readout,
                                              const StepSize& size);

/// The layer after several steps; those that do nothing are left out. `error` is an estimate of
/// what quadrature does to its overlaps, relative: the nodes are refined until it is small.
std::shared_ptr<const LayerModel> layers_after(const Function& sigma, const Function& derivative,
                                               const TargetFunction& target, double noise,
                                               double readout, const std::vector<StepSize>& steps,
                                               double& error);

}  // namespace srfx
