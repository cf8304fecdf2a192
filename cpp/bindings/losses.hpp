// Losses and labels as Python hands them over.
#pragma once

#include "batch.hpp"

#include "srfx/solve/group_losses.hpp"

#include <string>
#include <tuple>

/// kind, kappa, lo, hi, margin
using Numbers = std::tuple<std::string, double, double, double, bool>;

inline srfx::Loss loss_of(const Numbers& loss) {
  srfx::Loss out;
  const auto& [kind, kappa, lo, hi, margin] = loss;
  out.margin = margin;
  if (kind == "logistic") out.kind = srfx::Loss::Kind::logistic;
  else out.kappa = kappa, out.lo = lo, out.hi = hi;
  return out;
}

/// The labels of each set: one law, with a number of the set's own.
inline std::vector<srfx::Labels> laws(const std::string& labels, const Doubles& numbers) {
  std::vector<srfx::Labels> out(numbers.size());
  for (py::ssize_t i = 0; i < numbers.size(); ++i)
    out[i] = srfx::Labels::of(kind_of(labels), numbers.data()[i]);
  return out;
}
