// The nodes of a step: the joint law of the latents x_E and of the residual u, at points of (k, u)
// (layer_model.hpp).
//
// Of t' = U^T t, U with the spike's alignment for its first column, only a = t'_1 = gamma k + rho z'
// hangs on k, and y on t' alone. So the points of t' are made once, and the law of y given a, with
// the moments of the other t', is carried by few nodes in y, the same for all a; what k makes of it
// is a sum over a. Noise moves what nodes carry to other nodes. Last, given k, the law of
// u = y - f(k) goes to nodes that are dense around u = 0, where the functions have their poles.
#pragma once

#include "srfx/bulk/layer_model.hpp"

namespace srfx {

/// Nodes of (k, u) with the moments of the latents there.
template <class R> struct BasicStepNodes {
  std::vector<StepConstants> constants;  ///< at each k
  std::vector<R> u;
  std::vector<double> weight;  ///< of E f(k, u)
  std::vector<std::vector<double>> first,
      second;                   ///< of E x_i f, E x_i x_j f: by latent, by packed pair
  std::vector<std::size_t> at;  ///< the constants of each node
  double fineness = 1;
};

class StepView {
 public:
  /// Of a step on `below`, which has to live as long, or on the network at its start; size.eta and
  /// `readout` as for layer_after.
  StepView(const LayerModel* below, const Function& sigma, const Function& derivative,
           const TargetFunction& target, double noise, double readout, const StepSize& size);
  ~StepView();

  /// What the points of t' do to averages, relative, estimated.
  double error() const;
  /// `fineness` multiplies the number of nodes in k, and the digits kept in u.
  StepNodes nodes(double fineness) const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace srfx
