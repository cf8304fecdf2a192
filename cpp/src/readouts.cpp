#include "srfx/simulate/readouts.hpp"

#include "srfx/simulate/fit.hpp"

#include <algorithm>

namespace srfx {

void fit_readouts(const ReadoutLoss& loss, const Panels<double>& phi, Index units,
                  const std::vector<double>& y, const std::vector<Index>& n,
                  const std::vector<double>& lam, int threads, Interrupt& interrupt,
                  const TakeReadout& take) {
  Index few = 0;
  for (Index samples : n)
    if (samples <= units) few = samples;
  Fit fit(loss, phi, units, y, few, threads, interrupt);
  std::vector<std::size_t> order(lam.size());
  for (std::size_t j = 0; j < order.size(); ++j) order[j] = j;
  std::stable_sort(order.begin(), order.end(),
                   [&lam](std::size_t i, std::size_t j) { return lam[i] > lam[j]; });
  std::vector<std::vector<double>> a(lam.size(),
                                     std::vector<double>(static_cast<std::size_t>(units), 0.0)),
      g(lam.size(), std::vector<double>(y.size(), 0.0));
  for (std::size_t m = 0; m < n.size(); ++m) {
    double gap = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
      const std::size_t j = order[i];
      if (m == 0 && i > 0) a[j] = a[order[i - 1]], g[j] = g[order[i - 1]];
      if (i == 0 || loss.kind != ReadoutLoss::Kind::max_margin)
        gap = fit(n[m], lam[j], a[j].data(), g[j].data());
      else a[j] = a[order[0]];
      take(static_cast<Index>(m), static_cast<Index>(j), a[j].data(), fit.predictions().data(),
           gap);
    }
  }
}

}  // namespace srfx
