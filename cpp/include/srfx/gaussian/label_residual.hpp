// The law of the residual of a step on labels of +1 and -1 (THEORY sections 10 and 19): u = y - a E
// sigma takes two values, with probabilities that depend on t.
#pragma once

#include "srfx/gaussian/labels.hpp"
#include "srfx/gaussian/residual.hpp"

namespace srfx {

/// E y and E t y of a label, t ~ N(0,1).
struct LabelMoments {
  double mean = 0, h1 = 0;
};
LabelMoments label_moments(const Function& target, const Labels& labels);

/// The two values of u, with the averages of 1, t and t^2 over where they occur.
struct LabelResidual {
  ResidualMoments moments;
  ResidualNodes nodes;
  LabelResidual(const Function& target, const Labels& labels, double h0);
};

}  // namespace srfx
