// Batches of the isotropic bulk.
#include "srfx/solve/optimum.hpp"

namespace srfx {

template void solve_batch(const MarchenkoPastur&, const BatchInput&, const BatchOutput&,
                          Interrupt&);
template void gradient_batch(const MarchenkoPastur&, const BatchInput&, const double*,
                             const double*, const std::vector<Direction>&, const GradientOutput&,
                             Interrupt&);
template void optimum_batch(const MarchenkoPastur&, const OptimumInput&, const OptimumOutput&,
                            Interrupt&);

}  // namespace srfx
