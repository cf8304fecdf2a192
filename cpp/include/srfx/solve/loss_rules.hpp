// The rules of a batch with another loss than the square: nodes in k and z on every rung that a
// point asks for.
#pragma once

#include "srfx/data/loss_nodes.hpp"

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
        edges_(maker_.panel_edges()) {}

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

  /// Panels in k that are halved again and again; the first ones have depth 0.
  struct Panel {
    int first, depth;
    long place;  ///< among the 2^depth parts of the first
    std::pair<Panel, Panel> halves() const {
      return {{first, depth + 1, 2 * place}, {first, depth + 1, 2 * place + 1}};
    }
  };
  int first_panels() const { return static_cast<int>(edges_.size()) - 1; }
  const LossNodes& find(const Panel& panel, int rung_z) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<LossNodes>& out = panels_[{panel.first, panel.depth, panel.place, rung_z}];
    if (!out) {
      const double from = edges_[panel.first],
                   width = std::ldexp(edges_[panel.first + 1] - from, -panel.depth);
      out = std::make_unique<LossNodes>(
          maker_.make_panel(from + width * static_cast<double>(panel.place),
                            from + width * static_cast<double>(panel.place + 1), rung_z));
    }
    return *out;
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
