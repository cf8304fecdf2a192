#include "srfx/gaussian/activation.hpp"

namespace srfx {

template void evaluate(ActivationId, const double*, double*, Index);
template void evaluate(ActivationId, const float*, float*, Index);
template void evaluate_derivative(ActivationId, const double*, double*, Index);
template void evaluate_derivative(ActivationId, const float*, float*, Index);

}  // namespace srfx
