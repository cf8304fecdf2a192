// Batches of networks after several steps, or after one with a target of several directions (THEORY
// 14 and 15).
#pragma once

#include "srfx/bulk/layer_map.hpp"
#include "srfx/gaussian/label_target.hpp"
#include "srfx/solve/step_gradient.hpp"

namespace srfx {

/// The sets of such networks: distinct steps and noise of one activation, target and readout value.
class LayerSource {
 public:
  static constexpr bool directed = true;
  struct Parameters {
    std::vector<StepSize> steps;
    double noise;
  };

  LayerSource(const Function& sigma, const Function& derivative, const TargetFunction& target,
              double readout, std::vector<Parameters> sets, const Labels& labels = {})
      : sigma_(&sigma),
        derivative_(&derivative),
        target_(&target),
        readout_(readout),
        sets_(std::move(sets)),
        labels_(labels) {}

  Index size() const { return static_cast<Index>(sets_.size()); }

  class Shared {
   public:
    std::shared_ptr<const LayerModel> layer;
    double nodes_error = 0;
    const SpikeParameters& spike() const { return layer->spike; }
    const double* alignment() const { return layer->gamma.data(); }
    /// The z are to be those of the target's coefficients.
    void turn(const dense::Matrix& to) {
      turned_by_ = to;
      layer = std::make_shared<const LayerModel>(turned(*layer, to));
    }
    const dense::Matrix& turned_by() const { return turned_by_; }
    LayerBulk<double> bulk() const { return LayerBulk<double>(*layer); }
    double error(const LayerBulk<double>&) const { return nodes_error; }

    void tabulate() {
      table_.reset(new FunctionTable(step_table(
          layer->directions, [this] { return LayerBulk<double>(*layer); },
          [](const LayerBulk<double>&) { return 0.0; })));
    }
    template <class V> StepTableBulk<V> tabulated(const V& guess, Digits digits) const {
      return {layer->spike.c, layer->directions, *table_, guess, digits};
    }
    double table_error() const { return nodes_error; }

   private:
    std::unique_ptr<FunctionTable> table_;
    dense::Matrix turned_by_;
  };
  std::unique_ptr<Shared> shared(Index set) const;
  /// The layer of a set on nodes with positive weights alone, for spectra.
  std::shared_ptr<const LayerModel> positive(Index set) const;
  /// The same layer moving, by h along a direction: of one step by anything, of several by what
  /// leaves them alone.
  std::shared_ptr<const BasicLayerModel<detail::Complex>> moving(Index set, const Shared& shared,
                                                                 StepDirection along,
                                                                 double& h) const;

 private:
  /// What the steps of a set see, and the variance of the noise beside it.
  std::shared_ptr<const TargetFunction> seen(Index set) const {
    return seen_by_steps(*target_, Labels::of(labels_.kind, sets_[set].noise));
  }
  double noise(Index set) const { return labels_.real() ? sets_[set].noise : 0; }

  const Function *sigma_, *derivative_;
  const TargetFunction* target_;
  double readout_;
  std::vector<Parameters> sets_;
  Labels labels_;  ///< of the samples of the steps; their noise is that of each set
};

/// Layers that move: for anisotropic_gradient.
class MovingLayer {
 public:
  double h = 1e-20;
  detail::SpikeMove spike;

  MovingLayer(const LayerSource& source, Index set, const LayerSource::Shared& shared,
              StepDirection along)
      : layer_(source.moving(set, shared, along, h)),
        still_(along == StepDirection::lam || along == StepDirection::alpha) {
    spike = {layer_->r.imag(), layer_->c.imag(), layer_->length.imag()};
  }
  bool still() const { return still_; }
  LayerBulk<detail::Complex, true, detail::Complex> bulk(const LayerBulk<double>& solved) const {
    LayerBulk<detail::Complex, true, detail::Complex> out(*layer_);
    out.start_from(solved);
    return out;
  }

 private:
  std::shared_ptr<const BasicLayerModel<detail::Complex>> layer_;
  bool still_;
};

// Compiled once: cpp/src/layers.cpp.
extern template void solve_anisotropic(const LayerSource&, const BatchInput&,
                                       const AnisotropicOutput&, Interrupt&, bool);

extern template void anisotropic_gradient<MovingLayer>(const LayerSource&, const BatchInput&,
                                                       const double*, const double*,
                                                       const std::vector<StepDirection>&,
                                                       const GradientOutput&, Interrupt&);

}  // namespace srfx
