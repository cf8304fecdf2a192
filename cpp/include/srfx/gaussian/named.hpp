// The named activations as functions to integrate.
#pragma once

#include "srfx/gaussian/activation.hpp"
#include "srfx/gaussian/quadrature.hpp"

namespace srfx {

/// What quadrature must know of a named activation, or of its derivative.
inline Shape shape_of(ActivationId id, bool derivative = false) {
  const ActivationInfo& named = info(id);
  Shape shape;
  shape.parity = named.parity == Parity::even ? 1 : named.parity == Parity::odd ? -1 : 0;
  if (derivative) shape.parity = -shape.parity;
  shape.core_parity = shape.parity;
  if (!derivative) {
    switch (id) {
      case ActivationId::sigmoid: shape.core_parity = -1, shape.offset = 0.5; break;
      case ActivationId::relu:
      case ActivationId::softplus:
      case ActivationId::gelu:
      case ActivationId::silu: shape.core_parity = 1, shape.slope = 0.5; break;
      case ActivationId::leaky_relu: shape.core_parity = 1, shape.slope = 0.505; break;
      case ActivationId::linear:
      case ActivationId::hermite1: shape.affine = true, shape.slope = 1; break;
      default: break;
    }
  }
  shape.kinks.assign(named.kinks, named.kinks + named.n_kinks);
  shape.strip = named.strip;
  shape.growth = named.growth;
  shape.smooth = named.n_kinks == 0;
  shape.jump = named.jump;
  // Piecewise polynomials need no narrow panels; sin and cos need them everywhere; the rest flatten
  // beyond 40.
  const bool polynomial = named.n_kinks > 0 || named.growth > 1 || id == ActivationId::linear;
  const bool periodic = id == ActivationId::sin || id == ActivationId::cos;
  shape.soft = polynomial ? 0.0 : periodic ? infinity : 40.0;
  return shape;
}

/// A named activation, or its derivative.
class NamedFunction : public Function {
 public:
  explicit NamedFunction(ActivationId id, bool derivative = false)
      : id_(id),
        derivative_(derivative) {
    shape_ = shape_of(id, derivative);
  }

  void evaluate(const double* x, double* y, Index n) const override {
    if (derivative_) srfx::evaluate_derivative(id_, x, y, n);
    else srfx::evaluate(id_, x, y, n);
  }

 private:
  ActivationId id_;
  bool derivative_;
};

}  // namespace srfx
