// Batches with a loss that is not the square, or with labels of +1 and -1.
#include "srfx/solve/losses.hpp"

namespace srfx {

template void solve_losses(const IsotropicLossSource&, const Loss&, const BatchInput&,
                           const LossOutput&, Interrupt&);
template void solve_losses(const OneStepLossSource&, const Loss&, const BatchInput&,
                           const LossOutput&, Interrupt&);
template void solve_losses(const EmpiricalLossSource&, const Loss&, const BatchInput&,
                           const LossOutput&, Interrupt&);

}  // namespace srfx
