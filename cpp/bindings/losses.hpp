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

/// The outputs of a batch of one group of a bulk with overlaps, and the dictionary that owns them.
struct OverlapResults {
  py::dict dict;
  srfx::GroupLossOutput out{};

  OverlapResults(py::ssize_t n, py::ssize_t directions, bool slopes) {
    GroupResults common(n, Doubles(std::vector<py::ssize_t>{1, 1, 1}),
                        Doubles(std::vector<py::ssize_t>{1, directions, 1}), 1);
    dict = common.dict, out.common = common.common;
    const std::pair<const char*, double**> columns[] = {
        {"train_loss", &out.train_loss},
        {"test_loss", &out.test_loss},
        {"classification_error", &out.classification_error},
        {"r", &out.r},
        {"c", &out.c},
        {"chi", &out.chi}};
    for (const auto& [name, data] : columns) *data = output(dict, name, {n});
    out.gamma = output(dict, "gamma", {n, directions});
    if (slopes) out.slopes = output(dict, "slopes", {4, 2, n});
  }
};
