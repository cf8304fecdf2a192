// The rules of a batch with another loss than the square: nodes in k and z on every rung that a
// point asks for.
#pragma once

#include "srfx/data/loss_nodes.hpp"
#include "srfx/solve/loss_panels.hpp"

#include <cmath>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>

namespace srfx {

/// Nodes of one coefficient set, made when first asked for.
class LossRules {
 public:
  LossRules(Coefficients& coefficients, const Loss& loss, const Labels& labels, bool row_norms)
      : maker_(coefficients, loss, labels, row_norms),
        edges_(first_edges(LossNodesMaker::reach_in_k, maker_.folded(), maker_.kinks_in_k())) {}

  const LossNodes& find(int rung_k, int rung_z) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<LossNodes>& out = made_[{rung_k, rung_z}];
    if (!out) {
      out = std::make_unique<LossNodes>(maker_.make(rung_k, rung_z));
      // Its own for each rule in k: it knows no rung in z.
      const auto found = series_.find(rung_k);
      out->series =
          found != series_.end() ? found->second : (series_[rung_k] = maker_.series(*out));
    }
    return *out;
  }

  bool atoms = false;  ///< whether more is asked for than series know: derivatives
  bool real() const { return maker_.labels().real(); }
  /// The densest rung in k that is no worse than panels halved where it matters.
  int most_k() const { return maker_.panels_in_k() ? 3 : maker_.labels().real() ? 6 : 9; }

  int first_panels() const { return static_cast<int>(edges_.size()) - 1; }
  const LossNodes& find(const LossPanel& panel, int rung_z) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<LossNodes>& out = panels_[{panel.first, panel.depth, panel.place, rung_z}];
    if (!out) {
      const auto [from, to] = panel.ends(edges_);
      out = std::make_unique<LossNodes>(maker_.make_panel(from, to, rung_z));
    }
    return *out;
  }
  /// Whether the target has so little noise that bends are narrow in z.
  bool narrow_in_z() const { return real() && maker_.labels().noise < 0.03; }
  /// How little a solution may move on panels that were made for it.
  double steady() const { return narrow_in_z() ? 1e-7 : 1e-3; }
  LossNodes make(const LossPanel& panel, int rung_z, const BendsOf& bends) {
    const auto [from, to] = panel.ends(edges_);
    const std::lock_guard<std::mutex> lock(mutex_);
    return maker_.make_panel(from, to, rung_z, bends);
  }

 private:
  std::mutex mutex_;
  LossNodesMaker maker_;
  std::vector<double> edges_;
  std::map<std::pair<int, int>, std::unique_ptr<LossNodes>> made_;
  std::map<int, std::shared_ptr<const LabelSeries>> series_;
  std::map<std::tuple<int, int, long, int>, std::unique_ptr<LossNodes>> panels_;
};

}  // namespace srfx
