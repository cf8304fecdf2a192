// Labels of +1 and -1 as gradient steps see them (THEORY 19): a target whose value is E[y | t], told
// apart from others by TargetShape::labels. Averages over y are over its two values, with the
// probabilities (1 + value)/2 and (1 - value)/2.
#pragma once

#include "srfx/gaussian/labels.hpp"
#include "srfx/gaussian/target.hpp"

#include <memory>

namespace srfx {

class LabelTarget final : public TargetFunction {
 public:
  /// `of` has to live as long.
  LabelTarget(const TargetFunction& of, const Labels& labels) : of_(&of), labels_(labels) {
    shape_ = of.shape();
    shape_.growth = 0;
    shape_.labels = true;
    shape_.jumps = labels.width() == 0;
  }

  void evaluate(const double* t, double* y, Index n) const override {
    of_->evaluate(t, y, n);
    for (Index i = 0; i < n; ++i) y[i] = labels_.plus(y[i]) - labels_.plus(-y[i]);
  }
  bool one_call() const override { return of_->one_call(); }

 private:
  const TargetFunction* of_;
  Labels labels_;
};

/// What a step sees of a target, which has to live as long. The noise of labels is part of it.
inline std::shared_ptr<const TargetFunction> seen_by_steps(const TargetFunction& target,
                                                           const Labels& labels) {
  if (labels.real()) return {std::shared_ptr<const TargetFunction>(), &target};
  return std::make_shared<LabelTarget>(target, labels);
}

}  // namespace srfx
