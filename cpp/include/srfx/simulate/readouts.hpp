// The readouts of a simulation for a loss other than the square: every n and lam. How each is
// found: fit.hpp.
#pragma once

#include "srfx/simulate/linalg.hpp"
#include "srfx/simulate/loss.hpp"

#include <functional>
#include <stdexcept>

namespace srfx {

/// The duality gap was not reached; or, of the maximum margin, the samples cannot be separated.
struct NoReadout : std::runtime_error {
  explicit NoReadout(bool inseparable)
      : std::runtime_error(inseparable ? "cannot be separated" : "did not converge"),
        not_separable(inseparable) {}
  bool not_separable;
};

/// Takes readout m, j (n[m], lam[j]): a over the units, the predictions f of its samples, the
/// duality gap over the objective.
using TakeReadout =
    std::function<void(Index m, Index j, const double* a, const double* f, double gap)>;

/// Samples are the rows of `phi`, its leading `units` columns the features; n is ascending. A
/// readout starts from that of the n before, or else of the next larger lam. The maximum margin
/// does not know lam: it is found once for each n.
void fit_readouts(const ReadoutLoss& loss, const Panels<double>& phi, Index units,
                  const std::vector<double>& y, const std::vector<Index>& n,
                  const std::vector<double>& lam, int threads, Interrupt& interrupt,
                  const TakeReadout& take);

}  // namespace srfx
