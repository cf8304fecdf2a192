// (Phi^T h Phi + lam) da = r + Phi^T h t for weights h of the samples: the linear system of every
// Newton step of a readout.
//
// With w = h (t - Phi da) it is lam da = r + Phi^T w, and (K_FF + lam/h) w = lam t - Phi r over the
// samples F of positive weight, K = Phi Phi^T. The smaller of the two matrices is factorised, units
// or F. K is kept where samples are fewer than units; where they are more,
// of those that were in F before, with their features side by side.
#pragma once

#include "srfx/simulate/products.hpp"

#include <memory>
#include <vector>

namespace srfx {

class WeightedSystem {
 public:
  /// K is kept for the first `dual` samples.
  WeightedSystem(const Panels<double>& phi, Index units, Index most_samples, Index dual,
                 int threads, Interrupt& interrupt)
      : p_(units),
        dual_(dual),
        threads_(threads),
        interrupt_(interrupt),
        samples_(phi, units, threads, interrupt),
        kernel_(dual),
        place_(static_cast<std::size_t>(most_samples), -1) {
    for (auto* v : {&along_, &work_}) v->assign(padded(most_samples), 0.0);
    for (auto* v : {&image_, &residual_, &gradient_, &direction_}) v->assign(padded(units), 0.0);
    if (dual > 0) {
      kernel_.set_zero();
      rank_update(phi, units, kernel_, threads_, interrupt_);
    }
  }

  static std::size_t padded(Index rows) { return static_cast<std::size_t>(Samples::padded(rows)); }
  Samples& samples() { return samples_; }

  /// The weights of the first n samples; whole panels, zeros beyond n.
  void set(Index n, double lam, const std::vector<double>& h) {
    n_ = n, lam_ = lam, h_ = h;
    active_.clear();
    for (Index s = 0; s < n; ++s)
      if (h[s] > 1e-200) active_.push_back(s);
    ready_ = false;
  }

  /// Solves for da; df = Phi da. False if the matrix is singular to working precision.
  bool solve(const std::vector<double>& r, std::vector<double>& da, std::vector<double>& df) {
    return solve(r, nullptr, nullptr, da, df);
  }

  /// The same with t, and w.
  bool solve(const std::vector<double>& r, const std::vector<double>& t, std::vector<double>& w,
             std::vector<double>& da, std::vector<double>& df) {
    return solve(r, t.data(), w.data(), da, df);
  }

  /// The same to a thirtieth, t = 0, by conjugate gradients with the factor over units that an
  /// earlier system left. False where there is none, or a new one is the better way.
  bool solve_roughly(const std::vector<double>& r, std::vector<double>& da,
                     std::vector<double>& df) {
    if (!kept_ || static_cast<Index>(active_.size()) <= p_) return false;
    constexpr Index mr = Samples::mr;
    constexpr double wanted = 0.03 * 0.03;
    const Index most = std::max<Index>(4, p_ / 64);
    std::fill(da.begin(), da.end(), 0.0);
    std::fill(df.begin(), df.end(), 0.0);
    residual_ = r;
    const double start = dot(r.data(), r.data(), p_);
    double before = 0;
    for (Index k = 0; k < most; ++k) {
      gradient_ = residual_;
      precondition(gradient_.data());
      const double rho = dot(residual_.data(), gradient_.data(), p_);
      const double keep = k == 0 ? 0.0 : rho / before;
      before = rho;
      for (Index u = 0; u < p_; ++u) direction_[u] = gradient_[u] + keep * direction_[u];
      samples_.apply_and_project(n_, direction_.data(), along_.data(), work_.data(), image_.data(),
                                 [&](Index i, const double* f, double* z) {
                                   for (Index q = 0; q < mr; ++q) z[q] = h_[i * mr + q] * f[q];
                                 });
      for (Index u = 0; u < p_; ++u) image_[u] += lam_ * direction_[u];
      const double step = rho / dot(direction_.data(), image_.data(), p_);
      for (Index u = 0; u < p_; ++u) {
        da[u] += step * direction_[u];
        residual_[u] -= step * image_[u];
      }
      for (Index s = 0; s < n_; ++s) df[s] += step * along_[s];
      const double left = dot(residual_.data(), residual_.data(), p_) / start;
      if (left <= wanted) return true;
      // At this rate, would it end in time?
      if (k == 3 && std::pow(left, static_cast<double>(most) / 4) > wanted) return false;
    }
    return false;
  }

  static double dot(const double* x, const double* y, Index n) {
    double sum[4] = {};
    Index i = 0;
    for (; i + 4 <= n; i += 4)
      for (Index k = 0; k < 4; ++k) sum[k] += x[i + k] * y[i + k];
    for (; i < n; ++i) sum[0] += x[i] * y[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }

 private:
  bool solve(const std::vector<double>& r, const double* t, double* w, std::vector<double>& da,
             std::vector<double>& df) {
    if (static_cast<Index>(active_.size()) > p_) {
      if (!ready_ && !factorise_units()) return false;
      over_units(r, t, w, da, df);
    } else {
      if (!ready_ && !factorise_samples()) return false;
      over_samples(r, t, w, da);
      samples_.apply(n_, da.data(), df.data());
    }
    return true;
  }

  void over_samples(const std::vector<double>& r, const double* t, double* w,
                    std::vector<double>& da) {
    const Index m = static_cast<Index>(active_.size());
    const bool apart = n_ > dual_;  // F among the samples that are held
    Samples& samples = apart ? *held_samples_ : samples_;
    const Index rows = apart ? static_cast<Index>(held_list_.size()) : n_;
    const auto row = [&](Index sample) { return apart ? place_[sample] : sample; };
    std::fill(work_.begin(), work_.end(), 0.0);
    if (w) std::fill_n(w, n_, 0.0);
    if (m > 0) {
      samples.apply(rows, r.data(), along_.data());
      std::vector<double> x(padded(m), 0.0);
      for (Index i = 0; i < m; ++i)
        x[i] = (t ? lam_ * t[active_[i]] : 0.0) - along_[row(active_[i])];
      solve_forward(small_, m, x.data());
      solve_transposed(small_, m, x.data(), threads_, interrupt_);
      for (Index i = 0; i < m; ++i) {
        work_[row(active_[i])] = x[i];
        if (w) w[active_[i]] = x[i];
      }
    }
    samples.project(rows, work_.data(), image_.data());
    for (Index u = 0; u < p_; ++u) da[u] = (r[u] + image_[u]) / lam_;
  }

  /// Where h is large, t - Phi da has few digits and w none: what r + Phi^T w - lam da lacks of
  /// zero is solved for again.
  void over_units(const std::vector<double>& r, const double* t, double* w, std::vector<double>& da,
                  std::vector<double>& df) {
    da = r;
    if (t) {
      weigh(t);
      for (Index u = 0; u < p_; ++u) da[u] += image_[u];
    }
    precondition(da.data());
    samples_.apply(n_, da.data(), df.data());
    if (!t) return;
    for (Index s = 0; s < n_; ++s) w[s] = h_[s] * (t[s] - df[s]);
    for (int again = 0; again < 2; ++again) {
      std::copy_n(w, n_, work_.begin());
      std::fill(work_.begin() + n_, work_.end(), 0.0);
      samples_.project(n_, work_.data(), image_.data());
      for (Index u = 0; u < p_; ++u) direction_[u] = r[u] + image_[u] - lam_ * da[u];
      precondition(direction_.data());
      samples_.apply(n_, direction_.data(), along_.data());
      for (Index u = 0; u < p_; ++u) da[u] += direction_[u];
      for (Index s = 0; s < n_; ++s) df[s] += along_[s], w[s] -= h_[s] * along_[s];
    }
  }

  /// image = Phi^T h t.
  void weigh(const double* t) {
    std::fill(work_.begin(), work_.end(), 0.0);
    for (Index s : active_) work_[s] = h_[s] * t[s];
    samples_.project(n_, work_.data(), image_.data());
  }

  void precondition(double* x) {
    solve_forward(units_, p_, x);
    solve_transposed(units_, p_, x, threads_, interrupt_);
  }

  bool factorise_units() {
    constexpr Index mr = Samples::mr, tile = 256;
    const Panels<double>& phi = samples_.phi();
    const Index m = static_cast<Index>(active_.size());
    if (units_.rows() != p_) units_ = PackedLower<double>(p_);
    units_.set_zero();
    kept_ = false;
    Panels<double> part(p_, tile);
    for (Index first = 0; first < m; first += tile) {
      const Index count = std::min(tile, m - first);
      parallel_for(part.count(), threads_, interrupt_, [&](Index i, int) {
        for (Index s = 0; s < count; ++s) {
          const Index sample = active_[first + s];
          const double root = std::sqrt(h_[sample]);
          const double* row = phi.at(sample / mr, i * mr) + sample % mr;
          for (Index r = 0; r < mr; ++r)
            part.at(i, s)[r] = i * mr + r < p_ ? root * row[r * mr] : 0.0;
        }
      });
      rank_update(part, count, units_, threads_, interrupt_);
    }
    for (Index u = 0; u < p_; ++u) units_(u, u) += lam_;
    pad_identity(units_, p_);
    return ready_ = kept_ = cholesky(units_, 0.0, threads_, interrupt_);
  }

  bool factorise_samples() {
    const Index m = static_cast<Index>(active_.size());
    small_ = PackedLower<double>(m);
    if (n_ > dual_) hold_active();
    if (m == 0) return ready_ = true;
    gram_of_active();
    for (Index i = 0; i < m; ++i) small_(i, i) += lam_ / h_[active_[i]];
    pad_identity(small_, m);
    return ready_ = cholesky(small_, 0.0, threads_, interrupt_);
  }

  /// Holds the samples F: their features and K.
  void hold_active() {
    constexpr Index mr = Samples::mr;
    const Index most = std::min(static_cast<Index>(place_.size()), p_ + p_ / 2 + mr);
    if (held_.rows() == 0) {
      held_ = Panels<double>(most, p_);
      held_.set_zero();
      held_kernel_ = PackedLower<double>(most);
      held_samples_ = std::make_unique<Samples>(held_, p_, threads_, interrupt_);
    }
    std::vector<Index> added;
    const auto find_added = [&] {
      for (const Index s : active_)
        if (place_[s] < 0) added.push_back(s);
    };
    find_added();
    if (static_cast<Index>(held_list_.size() + added.size()) > most) {
      std::fill(place_.begin(), place_.end(), -1);
      held_list_.clear(), added.clear();
      find_added();
    }
    if (added.empty()) return;
    const Index first = static_cast<Index>(held_list_.size());
    for (const Index s : added) {
      place_[s] = static_cast<Index>(held_list_.size());
      held_list_.push_back(s);
    }
    const Index count = static_cast<Index>(held_list_.size()), from = first / mr,
                to = ceil_div(count, mr);
    const Panels<double>& phi = samples_.phi();
    parallel_for(to - from, threads_, interrupt_, [&](Index n, int) {
      const Index i = from + n;
      for (Index row = std::max(first, i * mr); row < std::min(count, (i + 1) * mr); ++row)
        for (Index u = 0; u < p_; ++u) held_.at(i, u)[row % mr] = phi(held_list_[row], u);
      std::fill_n(held_kernel_.at(i, 0), (i + 1) * mr * mr, 0.0);
    });
    rank_update(held_, p_, held_kernel_, threads_, interrupt_, from, to);
  }

  /// K of the samples F, from what is kept of it.
  void gram_of_active() {
    constexpr Index mr = Samples::mr;
    const Index m = static_cast<Index>(active_.size());
    const bool apart = n_ > dual_;
    parallel_for(small_.count(), threads_, interrupt_, [&](Index i, int) {
      for (Index j = 0; j < (i + 1) * mr; ++j)
        for (Index r = 0; r < mr; ++r) {
          const Index row = i * mr + r;
          double& out = small_.at(i, j)[r];
          if (row >= m || j > row) {
            out = 0.0;
          } else if (apart) {
            const Index a = place_[active_[row]], b = place_[active_[j]];
            out = held_kernel_(std::max(a, b), std::min(a, b));
          } else {
            out = kernel_(active_[row], active_[j]);
          }
        }
    });
  }

  Index p_, dual_;
  int threads_;
  Interrupt& interrupt_;
  Samples samples_;
  PackedLower<double> kernel_;
  std::vector<Index> place_, held_list_;  ///< of a sample among those held, or -1; and back
  Panels<double> held_;
  PackedLower<double> held_kernel_, units_, small_;
  std::unique_ptr<Samples> held_samples_;
  bool ready_ = false, kept_ = false;
  Index n_ = 0;
  double lam_ = 1;
  std::vector<Index> active_;
  std::vector<double> h_, along_, work_;                         // over samples, in whole panels
  std::vector<double> image_, residual_, gradient_, direction_;  // over units
};

}  // namespace srfx
