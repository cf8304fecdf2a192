// The nodes of a step (layer_nodes.hpp).
#include "srfx/bulk/layer_nodes.hpp"
#include "srfx/gaussian/carriers.hpp"
#include "srfx/gaussian/directions.hpp"

#include <cmath>

namespace srfx {

namespace detail {

constexpr double reach = 9, negligible = 1e-19;

/// The points of t' at given a: those of the other axes, with the density, and y.
struct TargetPoints {
  std::vector<double> across;  ///< size x (L - 1)
  std::vector<double> w, y;
  std::vector<Index> first{0};  ///< of each a

  Index size() const { return static_cast<Index>(w.size()); }

  TargetPoints() = default;
  TargetPoints(const TargetFunction& target, const dense::Matrix& turn, const AxisPlanes& planes,
               const std::vector<double>& a, double width) {
    const Index n = target.directions();
    std::vector<double> at(static_cast<std::size_t>(n));
    for (const double x : a) {
      at[0] = x;
      // The density of a is not among the weights, but makes them negligible.
      list(planes, width, 1, 1.0, negligible * std::exp(0.5 * x * x), at);
      first.push_back(size());
    }
    std::vector<double> t(static_cast<std::size_t>(size() * n));
    for (std::size_t i = 0; i < a.size(); ++i)
      for (Index j = first[i]; j < first[i + 1]; ++j)
        for (Index l = 0; l < n; ++l) {
          double sum = turn(l, 0) * a[i];
          for (Index m = 1; m < n; ++m) sum += turn(l, m) * across[j * (n - 1) + m - 1];
          t[l * size() + j] = sum;
        }
    y.resize(w.size());
    if (size() > 0) target.evaluate(t.data(), y.data(), size());
    if (target.shape().labels) split(n - 1);
  }

 private:
  /// Points with E[y] become points with y, of +1 and of -1.
  void split(Index n_across) {
    TargetPoints out;
    for (std::size_t i = 0; i + 1 < first.size(); ++i) {
      for (Index j = first[i]; j < first[i + 1]; ++j)
        for (const double label : {1.0, -1.0}) {
          const double weight = w[j] * 0.5 * (1 + label * y[j]);
          if (weight == 0) continue;
          const auto from = across.begin() + j * n_across;
          out.across.insert(out.across.end(), from, from + n_across);
          out.w.push_back(weight), out.y.push_back(label);
        }
      out.first.push_back(out.size());
    }
    *this = std::move(out);
  }

  void list(const AxisPlanes& planes, double width, Index j, double weight, double least,
            std::vector<double>& at) {
    if (j == static_cast<Index>(at.size())) {
      across.insert(across.end(), at.begin() + 1, at.end());
      w.push_back(weight);
      return;
    }
    const Rule line = axis(planes, j, at, width, reach);
    for (Index i = 0; i < line.size(); ++i) {
      if (weight * line.w[i] < least) continue;
      at[static_cast<std::size_t>(j)] = line.x[i];
      list(planes, width, j + 1, weight * line.w[i], least, at);
    }
  }

 public:
  /// Nodes on an axis, given those before it, without or with the density.
  static Rule axis(const AxisPlanes& planes, Index j, const std::vector<double>& at, double width,
                   double limit, double mean = 0, double sd = 1, bool density = true) {
    Rule line;
    if (!planes.any()) {
      line.push_trapezoid(0.3 * width, limit);
    } else {
      std::vector<double> edges{-limit, limit}, kinks;
      planes.edges(static_cast<int>(j), at.data(), kinks);
      for (const double x : kinks)
        if (std::abs((x - mean) / sd) < limit) edges.push_back((x - mean) / sd);
      std::sort(edges.begin(), edges.end());
      for (std::size_t i = 0; i + 1 < edges.size(); ++i)
        line.push_panels(edges[i], edges[i + 1], 2 * width, 12);
    }
    if (density) line.finish();
    return line;
  }
};

/// The a that count at one k, from `first` on, with their z' = (a - gamma k)/rho.
struct Section {
  Index first = 0;
  std::vector<double> z, w;

  /// w, w z', w z'^2, one after the other.
  void powers(double* out) const {
    const std::size_t n = z.size();
    for (std::size_t j = 0; j < n; ++j) {
      out[j] = w[j], out[n + j] = w[j] * z[j];
      out[2 * n + j] = out[n + j] * z[j];
    }
  }
};

/// The points for a number of k.
struct Sight {
  std::vector<double> a;
  std::vector<Section> at;

  /// One set of a for all k, or a set for each.
  Sight(const AxisPlanes& planes, const std::vector<double>& k, double gamma, double rho,
        double width, bool shared) {
    const std::vector<double> nothing(1);
    if (shared) {
      const double limit = std::min(reach, gamma * reach + rho * reach);
      const Rule line = TargetPoints::axis(planes, 0, nothing, std::min(1.0, 2 * rho) * width,
                                           limit, 0, 1, false);
      a = line.x;
      for (const double x : k) {
        Section one;
        for (Index i = 0; i < line.size(); ++i) {
          one.z.push_back((line.x[i] - gamma * x) / rho);
          one.w.push_back(line.w[i] / rho);
        }
        times_normal_density(one.z.data(), one.w.data(), line.size());
        at.push_back(std::move(one));
      }
    } else {
      for (const double x : k) {
        const Rule line = TargetPoints::axis(planes, 0, nothing, width, reach, gamma * x, rho);
        Section one;
        one.first = static_cast<Index>(a.size());
        one.z = line.x, one.w = line.w;
        for (const double z : line.x) a.push_back(gamma * x + rho * z);
        at.push_back(std::move(one));
      }
    }
  }
};

/// A step's view of the target: the law of z' and y given k. The nodes of y serve functions with
/// poles at a distance of delta, at least, from [low, high].
class TargetView {
 public:
  TargetView(const TargetFunction& target, const LayerModel* below, double noise, double delta,
             double low, double high)
      : target_(&target),
        n_(target.directions()),
        noise_(noise),
        delta_(delta),
        low_(low),
        high_(high),
        turn_(dense::Matrix::Identity(n_, n_)) {
    if (below) {
      const Directions axes(Eigen::Map<const dense::Vector>(below->gamma.data(), n_));
      gamma_ = axes.gamma[0], rho_ = axes.rho[0];
      turn_ = axes.turn;
      if (axes.turn_spikes(0, 0) < 0) turn_.col(0) *= -1;
    }
    planes_ = AxisPlanes(target, turn_);
  }

  double rho() const { return rho_; }
  bool smooth() const { return !planes_.any(); }
  const dense::Matrix& turn() const { return turn_; }
  /// z'_i, and their products.
  int n_moments() const { return static_cast<int>(1 + n_ + n_ * (n_ + 1) / 2); }

  /// Takes points that leave an error of `tolerance`, or as many as there may be. `count`: of the k
  /// that will be asked for; k, f: some of them, and the answers f(k) there.
  void settle(std::size_t count, const std::vector<double>& k, const std::vector<double>& f,
              double tolerance) {
    shared_ = 2 * reach / (0.3 * std::min(1.0, 2 * rho_)) <
              static_cast<double>(count) * (smooth() ? 40 : 120);
    constexpr double ratio = 0.7;
    std::vector<double> before = probes(k, f, width_);
    do {
      width_ *= ratio;
      std::vector<double> now = probes(k, f, width_);
      error_ = 0;
      for (std::size_t i = 0; i < now.size(); i += 2)
        if (now[i + 1] > 0) error_ = std::max(error_, std::abs(now[i] - before[i]) / now[i + 1]);
      before.swap(now);
      error_ = std::pow(error_, 1 / ratio);  // the rules converge geometrically
    } while (error_ > tolerance && points_ < most_points);
    if (shared_) law_ = law({0.0});
  }
  double error() const { return error_; }

  /// The nodes of y, and for each k their moments in columns: 1, z'_i, z'_i z'_j.
  dense::Matrix given(const std::vector<double>& k, std::vector<double>& y) const {
    const Index n_k = static_cast<Index>(k.size()), n_across = n_ - 1, n_parts = parts();
    const Law own = shared_ ? Law() : law(k);
    const Law& law = shared_ ? law_ : own;
    const Index n_y = law.carriers.size();
    const Sight sight(planes_, k, gamma_, rho_, width_, shared_);
    dense::Matrix sums(law.sums.rows(), 3 * n_k);
    if (shared_) {
      const Index count = law.sums.cols();
      dense::Matrix powers(count, 3 * n_k);
      for (Index i = 0; i < n_k; ++i)
        sight.at[static_cast<std::size_t>(i)].powers(&powers(0, 3 * i));
      sums.noalias() = law.sums * powers;
    } else {
      for (Index i = 0; i < n_k; ++i) {
        const Section& along = sight.at[static_cast<std::size_t>(i)];
        const Index count = static_cast<Index>(along.z.size());
        dense::Matrix powers(count, 3);
        along.powers(powers.data());
        sums.middleCols(3 * i, 3).noalias() = law.sums.middleCols(along.first, count) * powers;
      }
    }
    dense::Matrix out(n_y, n_moments() * n_k);
    Index next = 0;
    for (Index i = 0; i < n_k; ++i) {
      const auto part = [&](Index p, Index power) {
        out.col(next++) = sums.col(3 * i + power).segment(p * n_y, n_y);
      };
      part(0, 0);
      part(0, 1);
      for (Index p = 1; p <= n_across; ++p) part(p, 0);
      part(0, 2);
      for (Index p = 1; p <= n_across; ++p) part(p, 1);
      for (Index p = n_; p < n_parts; ++p) part(p, 0);
    }
    y = law.carriers.x();
    if (noise_ > 0) widen(out, y, law.far);
    return out;
  }

 private:
  static constexpr Index most_points = 1000000;
  static constexpr int order = Lagrange::most;

  /// The parts 1, t'_i, t'_i t'_j of the axes but the first.
  Index parts() const { return n_ + n_ * (n_ - 1) / 2; }

  /// The law of y given a: of each a the parts, and the nodes of each part.
  struct Law {
    Carriers carriers;
    dense::Matrix sums;
    double far = 0;  ///< |y| at most
  };
  Law law(const std::vector<double>& k) const {
    const Sight sight(planes_, k, gamma_, rho_, width_, shared_);
    const TargetPoints points(*target_, turn_, planes_, sight.a, width_);
    Law out;
    for (const double y : points.y) out.far = std::max(out.far, std::abs(y));
    out.far = out.far * (1 + 1e-12) + 1e-300;
    out.carriers = Carriers(
        carrier_edges(-out.far, out.far, low_, high_, std::max(delta_, std::sqrt(noise_))));
    out.carriers.see(points.y.data(), points.size(), order);
    out.carriers.fix(order);
    const Index n_across = n_ - 1, n_parts = parts(), n_a = static_cast<Index>(sight.a.size()),
                n_y = out.carriers.size();
    out.sums = dense::Matrix::Zero(n_y * n_parts, n_a);
    double shares[Lagrange::most];
    std::vector<double> part(static_cast<std::size_t>(n_parts));
    for (Index i = 0; i < n_a; ++i)
      for (Index j = points.first[i]; j < points.first[i + 1]; ++j) {
        const double* const t = &points.across[j * n_across];
        std::size_t next = 0;
        part[next++] = points.w[j];
        for (Index p = 0; p < n_across; ++p) part[next++] = points.w[j] * t[p];
        for (Index p = 0; p < n_across; ++p)
          for (Index q = p; q < n_across; ++q) part[next++] = points.w[j] * t[p] * t[q];
        Index first = 0;
        const int count = out.carriers.shares(points.y[j], shares, first);
        for (Index p = 0; p < n_parts; ++p) {
          double* const to = &out.sums(p * n_y + first, i);
          for (int c = 0; c < count; ++c) to[c] += part[p] * shares[c];
        }
      }
    return out;
  }

  /// Adds noise.
  void widen(dense::Matrix& moments, std::vector<double>& y, double far) const {
    const double sd = std::sqrt(noise_);
    Rule eps;
    eps.push_trapezoid(std::min(0.5, 0.22 * delta_ / sd), reach);
    eps.finish();
    far += sd * (reach + 1);
    Carriers carriers(carrier_edges(-far, far, low_, high_, delta_));
    carriers.fix(order, true);
    dense::Matrix move = dense::Matrix::Zero(carriers.size(), static_cast<Index>(y.size()));
    double shares[Lagrange::most];
    for (std::size_t i = 0; i < y.size(); ++i)
      for (Index j = 0; j < eps.size(); ++j) {
        if (eps.w[j] < negligible) continue;
        Index first = 0;
        const int count = carriers.shares(y[i] + sd * eps.x[j], shares, first);
        double* const to = &move(first, static_cast<Index>(i));
        for (int c = 0; c < count; ++c) to[c] += eps.w[j] * shares[c];
      }
    moments = (move * moments).eval();
    y = carriers.x();
  }

  /// Averages that the nodes have to serve, each with its size.
  std::vector<double> probes(const std::vector<double>& k, const std::vector<double>& f,
                             double width) {
    const Sight sight(planes_, k, gamma_, rho_, width, shared_);
    const TargetPoints points(*target_, turn_, planes_, sight.a, width);
    points_ = points.size();
    const double scale = std::max(delta_, std::sqrt(noise_)), inverse = 1 / scale;
    const Index n_across = n_ - 1;
    std::vector<double> out;
    for (std::size_t i = 0; i < k.size(); ++i) {
      const Section& along = sight.at[i];
      const std::size_t first = out.size(), count = static_cast<std::size_t>(n_ + 1);
      out.resize(first + 6 * count, 0.0);
      double* const sums = &out[first];
      std::vector<double> x(count);
      for (std::size_t j = 0; j < along.z.size(); ++j) {
        const std::size_t at = static_cast<std::size_t>(along.first) + j;
        if (along.w[j] < negligible) continue;
        x[0] = 1, x[1] = along.z[j];
        for (Index p = points.first[at]; p < points.first[at + 1]; ++p) {
          for (Index l = 0; l < n_across; ++l) x[l + 2] = points.across[p * n_across + l];
          const double v = (points.y[p] - f[i]) * inverse, w = along.w[j] * points.w[p],
                       q = w / (1 + v * v);
          for (std::size_t l = 0; l < count; ++l) {
            const double terms[3] = {q * x[l], q * v * x[l], l == 0 ? w * v * v : q * x[l] * x[l]};
            for (int e = 0; e < 3; ++e) {
              sums[6 * l + 2 * e] += terms[e];
              sums[6 * l + 2 * e + 1] += std::abs(terms[e]);
            }
          }
        }
      }
    }
    return out;
  }

  const TargetFunction* target_;
  Index n_;
  double noise_, delta_, low_, high_, gamma_ = 0, rho_ = 1, width_ = 2, error_ = 0;
  dense::Matrix turn_;
  AxisPlanes planes_;
  bool shared_ = true;
  Index points_ = 0;
  Law law_;
};

constexpr Index most_moments = 10;  ///< of three directions

/// The nodes of u at one k, from those of y - f: intervals that widen with the distance from 0, and
/// as many nodes on each as its mass is worth.
class ResidualGrid {
 public:
  ResidualGrid(double delta, double tolerance) : delta_(delta), tolerance_(tolerance) {
    edges_.push_back(0.5 * delta);
  }

  /// emit(u, moments): the nodes. `size`: of u, on which its higher powers are judged.
  template <class Emit>
  void carry(const std::vector<double>& u, const dense::Matrix& moments, double size, Emit&& emit) {
    for (auto& list : lists_) list.clear();
    for (std::size_t i = 0; i < u.size(); ++i) {
      const double far = std::abs(u[i]);
      while (edges_.back() < far)
        edges_.push_back(edges_.back() + std::max(1.25 * delta_, 1.5 * edges_.back()));
      std::size_t at = static_cast<std::size_t>(
          std::lower_bound(edges_.begin(), edges_.end(), far) - edges_.begin());
      at = at == 0 ? 0 : 2 * at - (u[i] > 0 ? 1 : 0);
      if (lists_.size() <= at) lists_.resize(at + 1);
      lists_[at].push_back(static_cast<Index>(i));
    }
    double shares[Lagrange::most];
    for (std::size_t at = 0; at < lists_.size(); ++at) {
      const std::vector<Index>& list = lists_[at];
      if (list.empty()) continue;
      double mass = 0;
      for (const Index i : list) {
        const double v = u[i] / size, v2 = v * v;
        mass += std::abs(moments(i, 0)) * std::max(1.0, v2 * v2);
      }
      const double digits = std::log(mass / tolerance_) / std::log(4.2);
      if (!(digits > -3)) continue;
      const int order = std::clamp(static_cast<int>(std::ceil(digits)) + 1, 2, 22);
      if (static_cast<int>(list.size()) <= order) {
        for (const Index i : list) {
          for (Index m = 0; m < moments.cols(); ++m) row_[m] = moments(i, m);
          emit(u[i], row_);
        }
        continue;
      }
      const std::size_t far = (at + 1) / 2;
      double lo = far == 0 ? -edges_[0] : edges_[far - 1], hi = edges_[far];
      if (far > 0 && at % 2 == 0) std::swap(lo, hi), lo = -lo, hi = -hi;
      const Lagrange rule(lo, hi, order);
      for (Index m = 0; m < moments.cols(); ++m) std::fill(sums_[m], sums_[m] + order, 0.0);
      for (const Index i : list) {
        rule.shares(u[i], shares);
        for (Index m = 0; m < moments.cols(); ++m)
          for (int c = 0; c < order; ++c) sums_[m][c] += shares[c] * moments(i, m);
      }
      for (int c = 0; c < order; ++c) {
        for (Index m = 0; m < moments.cols(); ++m) row_[m] = sums_[m][c];
        emit(rule.node(c), row_);
      }
    }
  }

 private:
  double delta_, tolerance_;
  std::vector<double> edges_;
  std::vector<std::vector<Index>> lists_;
  double row_[most_moments], sums_[most_moments][Lagrange::most];
};

}  // namespace detail

struct StepView::Parts {
  const LayerModel* below;
  const Function *sigma, *derivative;
  bool smooth, folded;
  double readout, r, c;
  double delta = 0;  ///< least distance from 0 of a pole in u
  std::unique_ptr<detail::TargetView> view;

  /// Points of k, (i + 1/2) step: where (k, t, u) and -(k, t, u) are one point, those of k > 0.
  std::vector<double> points(double fineness, double& step) const {
    if (!below) {
      step = 1;
      return {0.0};
    }
    step = 0.35 / std::max(1.0, r / std::sqrt(c));
    if (!smooth) {
      const double gamma = std::min(1.0, std::abs(below->spike.gamma));
      step = std::min(step, 0.8 * std::sqrt((1 - gamma) * (1 + gamma)));
    }
    step /= fineness;
    std::vector<double> out;
    const Index count = static_cast<Index>(std::ceil(8.7 / step));
    for (Index i = folded ? 0 : -count; i < count; ++i)
      out.push_back((static_cast<double>(i) + 0.5) * step);
    return out;
  }
  std::vector<StepConstants> constants(const std::vector<double>& k) const {
    std::vector<double> means(k);
    for (double& x : means) x *= r;
    return step_constants(*sigma, *derivative, means, std::sqrt(c));
  }
};

StepView::StepView(const LayerModel* below, const Function& sigma, const Function& derivative,
                   const TargetFunction& target, double noise, double readout, const StepSize& size)
    : parts_(std::make_unique<Parts>()) {
  Parts& x = *parts_;
  x.below = below, x.sigma = &sigma, x.derivative = &derivative, x.readout = readout;
  x.smooth = target.shape().smooth(), x.folded = sigma.shape().parity == -1;
  x.r = below ? below->spike.r : 0, x.c = below ? below->spike.c : 1;
  double step = 1, closest = 0, low = infinity, high = -infinity;
  std::vector<double> k = x.points(1, step), some_k, some_f;
  const std::vector<StepConstants> constants = x.constants(k);
  for (std::size_t i = 0; i < k.size(); ++i) {
    const StepConstants& at = constants[i];
    closest = std::max(closest, at.hc1 + at.h2 * at.h2 / x.c);
    const double f = readout * at.h0;
    if (std::abs(k[i]) < 5.5) low = std::min(low, f), high = std::max(high, f);
    for (const double wanted : {0.3, -1.1, 2.4})
      if (std::abs(k[i] - wanted) <= 0.5 * step || k.size() == 1) {
        some_k.push_back(k[i]), some_f.push_back(f);
        if (k.size() == 1) break;
      }
  }
  x.delta =
      std::min(4.0, 1 / std::sqrt(std::max(closest * std::pow(size.eta * size.iota, 2), 1e-300)));
  if (x.folded) high = std::max(std::abs(low), std::abs(high)), low = -high;
  x.view = std::make_unique<detail::TargetView>(target, below, noise, x.delta, low, high);
  x.view->settle(k.size() * (x.folded ? 2 : 1), some_k, some_f, 1e-12);
}

StepView::~StepView() = default;

double StepView::error() const { return parts_->view->error(); }

StepNodes StepView::nodes(double fineness) const {
  const Parts& x = *parts_;
  StepNodes out;
  out.fineness = fineness;
  double step = 1;
  std::vector<double> k = x.points(fineness, step), share(k.size(), step), f;
  if (x.below) times_normal_density(k.data(), share.data(), static_cast<Index>(k.size()));
  out.constants = x.constants(k);
  for (const StepConstants& at : out.constants) f.push_back(x.readout * at.h0);
  const Index n_k = static_cast<Index>(k.size());
  const bool mirrored = x.folded && x.below;
  if (mirrored)
    for (Index i = 0; i < n_k; ++i) k.push_back(-k[i]), f.push_back(-f[i]);
  std::vector<double> y;
  const dense::Matrix given = x.view->given(k, y);
  const Index n_y = static_cast<Index>(y.size()), n_moments = x.view->n_moments(),
              n = x.view->turn().rows();

  double square = 0;
  for (Index i = 0; i < n_k; ++i)
    for (Index j = 0; j < n_y; ++j)
      square += share[i] * given(j, i * n_moments) * (y[j] - f[i]) * (y[j] - f[i]);
  const double spread = std::max(std::sqrt(std::abs(square)), 1e-150);

  const int offset = x.below ? 1 : 0;
  const std::size_t latents = static_cast<std::size_t>(n + offset);
  out.first.resize(latents), out.second.resize(latents * (latents + 1) / 2);
  detail::ResidualGrid grid(x.delta, std::exp(-23 * fineness));
  const dense::Matrix& turn = x.view->turn();
  std::vector<double> u;
  dense::Matrix moments(mirrored ? 2 * n_y : n_y, n_moments);
  for (Index i = 0; i < n_k; ++i) {
    u.clear();
    moments.topRows(n_y) = share[i] * given.middleCols(i * n_moments, n_moments);
    for (Index j = 0; j < n_y; ++j) u.push_back(y[j] - f[i]);
    if (mirrored) {
      moments.bottomRows(n_y) = share[i] * given.middleCols((n_k + i) * n_moments, n_moments);
      moments.bottomRows(n_y).middleCols(1, n) *= -1;
      for (Index j = 0; j < n_y; ++j) u.push_back(f[n_k + i] - y[j]);
    } else if (x.folded) {
      for (Index j = 0; j < n_y; ++j)
        if (u[j] < 0) u[j] = -u[j], moments.row(j).segment(1, n) *= -1;
    }
    grid.carry(u, moments, spread, [&](double at, const double* m) {
      out.u.push_back(at), out.weight.push_back(m[0]),
          out.at.push_back(static_cast<std::size_t>(i));
      if (x.below) {
        out.first[0].push_back(k[i] * m[0]);
        out.second[0].push_back(k[i] * k[i] * m[0]);
      }
      // z = U z'
      dense::Matrix pairs(n, n);
      const double* next = m + 1 + n;
      for (Index p = 0; p < n; ++p)
        for (Index q = p; q < n; ++q) pairs(p, q) = pairs(q, p) = *next++;
      const dense::Vector z = turn.lazyProduct(Eigen::Map<const dense::Vector>(m + 1, n));
      const dense::Matrix zz = turn.lazyProduct(pairs).eval().lazyProduct(turn.transpose());
      for (int p = 0; p < n; ++p) {
        out.first[static_cast<std::size_t>(p + offset)].push_back(z(p));
        if (x.below) out.second[LayerModel::packed(p + 1, 0)].push_back(k[i] * z(p));
        for (int q = 0; q <= p; ++q)
          out.second[LayerModel::packed(p + offset, q + offset)].push_back(zz(p, q));
      }
    });
  }
  return out;
}

}  // namespace srfx
