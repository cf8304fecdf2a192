// Conditional Gaussian coefficients of the activation and of the target (THEORY section 2; CPD24,
// section 3).
//
//   k = v.x/sqrt(d) ~ N(0,1). Given k, with z ~ N(0,1):
//     mu0(k) = E sigma(r k + sqrt(c) z)        mu1(k) = E z sigma(..)        mu2(k)^2 = E
//     (sigma(..) - mu0 - mu1 z)^2 h(k)   = E s*(gamma k + rho z)           h1(k)  = E z s*(..)
//          rest(k)  = E (s*(..) - h - h1 z)^2
//   with rho = sqrt(1 - gamma^2). The bulk has unit variance: c appears here and nowhere else. E
//   s*^2 = rest + h^2 + h1^2.
//
// A target of several directions has h1 for each direction that the spike leaves: h1_1 as above, of
// the one with a share of the spike, and h1_m = E across_m(gamma k + rho z) of the others
// (marginal.hpp), Node::across and Level::across in code.
//
// The second moments are centred before they are squared: their difference cancels in the tails of
// k.
//
// Where E sigma(sqrt(c) z) = 0 a small spike leaves a small mu0, which m, without penalty at d =
// inf, makes as important as a large one. Quadrature knows it to 1e-16 rms(sigma) only (hermite2, r
// = 1e-7: to a few percent), so that there
//   mu0(k) = sum_j a_j x^j/sqrt(j!),   mu1(k) = d mu0/dx,   x = r k/sqrt(c),   a_j = E
//   He_j(z)/sqrt(j!) sigma(sqrt(c) z)
// with the a_j that vanish left out: every digit of mu0 is right, however small r is.
#pragma once

#include "srfx/gaussian/marginal.hpp"
#include "srfx/core/simd.hpp"

#include <array>
#include <memory>
#include <optional>

namespace srfx {

/// E f(mean + sd z), E z f and E (f - m0 - m1 z)^2.
struct Moments {
  double m0 = 0, m1 = 0, m2 = 0;
};

/// Moments of one function at many means. Keeps its buffers from call to call.
class MomentEvaluator {
 public:
  /// out[i] = moments at means[i] = side (first + i + 1/2) spacing, side = +-1, for a rule that is
  /// the same for all means.
  ///
  /// The step in z is made a little smaller, so that the arguments mean + sd z of all means lie on
  /// one lattice: with spacing = q e and sd step = m e they are e times (whole or half numbers),
  /// and a few hundred values of f serve all.
  void on_lattice(const Function& f, const GaussianRule& rule, double spacing, Index first,
                  double side, double sd, Index n, Moments* out) {
    if (n == 0) return;
    const Lattice lattice = make_lattice(spacing, sd * rule.step());
    const bool found = lattice.q > 0;
    const double unit = spacing / static_cast<double>(found ? lattice.q : 1);
    const double step = found ? static_cast<double>(lattice.m) * unit / sd : rule.step();
    const Index half = static_cast<Index>(std::ceil(rule.limit() / step)), n_nodes = 2 * half;
    const Index n_values = lattice.q * (n - 1) + lattice.m * (n_nodes - 1) + 1;
    if (!found || f.shape().affine || n_values >= n * n_nodes) {
      means_on_lattice_.resize(n);
      for (Index i = 0; i < n; ++i)
        means_on_lattice_[i] = side * (static_cast<double>(first + i) + 0.5) * spacing;
      return (*this)(f, rule, means_on_lattice_.data(), sd, n, out);
    }
    nodes_.clear();
    nodes_.reserve(n_nodes);
    for (Index j = 0; j < n_nodes; ++j)
      nodes_.push((static_cast<double>(j - half) + 0.5) * step, step);
    nodes_.finish();
    // The values by their phase modulo q: then those of neighbouring means at one node are
    // neighbours.
    const Index stride = (n_values + lattice.q - 1) / lattice.q;
    resize(lattice.q * stride + 2 * V::size);  // lanes beyond the last mean read on
    const double origin = static_cast<double>(lattice.q) * (static_cast<double>(first) + 0.5) -
                          static_cast<double>(lattice.m) * (static_cast<double>(half) - 0.5);
    for (Index phase = 0; phase < lattice.q; ++phase)
      for (int t = 0; t < static_cast<int>(stride); ++t)
        x_[phase * stride + t] =
            side * unit *
            (origin + static_cast<double>(phase) + static_cast<double>(lattice.q) * t);
    f.evaluate(x_.data(), f_.data(), lattice.q * stride);
    place_.resize(n_nodes);
    for (Index j = 0, phase = 0, t = 0; j < n_nodes; ++j) {  // phase + q t = m j
      place_[j] = phase * stride + t;
      for (phase += lattice.m; phase >= lattice.q; phase -= lattice.q) ++t;
    }
    Index inner_begin = 0;
    while (nodes_.x[inner_begin] < -rule.inner_limit()) ++inner_begin;
    for (Index pack = 0; pack < n;) {
      const bool wide = n - pack > V::size;
      const Index last = std::min(n, pack + (wide ? 2 : 1) * V::size) - 1;
      const Index begin =
          rule.inner((static_cast<double>(first + last) + 0.5) * spacing) ? inner_begin : 0;
      const double *z = nodes_.x.data() + begin, *w = nodes_.w.data() + begin,
                   *values = f_.data() + pack;
      const Index* place = place_.data() + begin;
      if (wide) {
        sum_moments<simd::Pair<V>>(
            z, w, n_nodes - 2 * begin,
            [=](Index j) { return simd::Pair<V>::load(values + place[j]); }, out + pack, n - pack);
        pack += 2 * V::size;
      } else {
        sum_moments<V>(
            z, w, n_nodes - 2 * begin, [=](Index j) { return V::load(values + place[j]); },
            out + pack, n - pack);
        pack += V::size;
      }
    }
    if (side < 0)
      for (Index i = 0; i < n; ++i) out[i].m1 = -out[i].m1;  // z stood for -z
  }

  /// out[i] = moments at means[i]. One call of f.evaluate in all if f asks for it, else one for
  /// each few means.
  void operator()(const Function& f, const GaussianRule& rule, const double* means, double sd,
                  Index n, Moments* out) {
    if (f.shape().affine) {
      for (Index i = 0; i < n; ++i)
        out[i] = {f.shape().offset + f.shape().slope * means[i], f.shape().slope * sd, 0.0};
      return;
    }
    // One call at most for a million values or so.
    const Index at_once =
        f.one_call() ? std::max(block, (Index(1) << 20) / rule.typical_size()) : block;
    for (Index i = 0, count; i < n; i += count) {
      count = std::min(at_once, n - i);
      if (rule.shared()) {  // means that take the same nodes
        const bool inner = rule.inner(means[i]);
        for (Index j = 1; j < count; ++j)
          if (rule.inner(means[i + j]) != inner) count = j;
        on_shared_nodes(f, rule, inner, means + i, sd, count, out + i);
      } else {
        on_own_nodes(f, rule, means + i, sd, count, out + i);
      }
    }
  }

 private:
  using V = simd::Lanes<double, 8>;
  static constexpr Index block = 16;

  /// spacing = q e, and m e is at most, but not much less than, `most`; q = 0 if there is no such
  /// lattice worth having.
  struct Lattice {
    Index q = 0, m = 0;
  };
  static Lattice make_lattice(double spacing, double most) {
    Lattice best;
    double best_share = 0;
    for (Index q = 1; q <= 16 && spacing > 0; ++q) {
      const double ratio = static_cast<double>(q) * most / spacing;
      if (!(ratio >= 1)) continue;
      if (ratio > 100) break;  // means so close that one by one is cheaper
      const double m = std::floor(ratio);
      if (m / ratio > best_share) best = {q, static_cast<Index>(m)}, best_share = m / ratio;
      if (best_share > 0.75) break;
    }
    return best;
  }

  /// Lanes are means; x is laid out node by node.
  void on_shared_nodes(const Function& f, const GaussianRule& rule, bool inner, const double* means,
                       double sd, Index n, Moments* out) {
    const Index stride = (n + V::size - 1) / V::size * V::size;
    const auto [begin, end] = rule.range(inner);
    const Index n_nodes = end - begin;
    const double *z = rule.nodes().x.data() + begin, *w = rule.nodes().w.data() + begin;
    resize(stride * n_nodes);
    means_.assign(means, means + n);
    means_.resize(stride, means[n - 1]);
    for (Index j = 0; j < n_nodes; ++j) {
      const V shift(sd * z[j]);
      for (Index pack = 0; pack < stride; pack += V::size)
        (V::load(&means_[pack]) + shift).store(&x_[j * stride + pack]);
    }
    f.evaluate(x_.data(), f_.data(), stride * n_nodes);
    Index pack = 0;
    for (; pack + 2 * V::size <= stride; pack += 2 * V::size) {
      const double* values = &f_[pack];
      sum_moments<simd::Pair<V>>(
          z, w, n_nodes, [=](Index j) { return simd::Pair<V>::load(values + j * stride); },
          out + pack, n - pack);
    }
    if (pack < stride) {
      const double* values = &f_[pack];
      sum_moments<V>(
          z, w, n_nodes, [=](Index j) { return V::load(values + j * stride); }, out + pack,
          n - pack);
    }
  }

  /// The moments of W::size means from the values at(j) at their nodes. The nodes are symmetric:
  /// those at z and -z go together, so that what is odd in z cancels exactly. Each sum is a chain
  /// of dependent additions: two packs side by side take hardly longer than one.
  template <class W, class At>
  static void sum_moments(const double* z, const double* w, Index n_nodes, At at, Moments* out,
                          Index n) {
    W m0(0.0), m1(0.0), m2(0.0);
    for (Index j = 0, mirrored = n_nodes - 1; j < mirrored; ++j, --mirrored) {
      const W left = at(j), right = at(mirrored);
      m0 = simd::fma(W(w[j]), right + left, m0);
      m1 = simd::fma(W(w[j] * z[mirrored]), right - left, m1);
    }
    for (Index j = 0, mirrored = n_nodes - 1; j < mirrored; ++j, --mirrored) {
      const W left = simd::fma(m1, W(z[mirrored]), at(j) - m0),
              right = simd::fma(m1, W(z[j]), at(mirrored) - m0);
      m2 = simd::fma(W(w[j]), simd::fma(left, left, right * right), m2);
    }
    for (int lane = 0; lane < W::size && lane < n; ++lane)
      out[lane] = {m0[lane], m1[lane], m2[lane]};
  }

  /// Each mean has nodes of its own; lanes are nodes.
  void on_own_nodes(const Function& f, const GaussianRule& rule, const double* means, double sd,
                    Index n, Moments* out) {
    first_.assign(1, 0);
    all_.clear();
    for (Index i = 0; i < n; ++i) {
      rule.at(means[i], all_);
      first_.push_back(all_.size());
    }
    all_.finish();
    resize(all_.size());
    for (Index i = 0; i < n; ++i)
      for (Index j = first_[i]; j < first_[i + 1]; j += V::size)
        (V(means[i]) + V(sd) * V::load(&all_.x[j])).store(&x_[j]);
    f.evaluate(x_.data(), f_.data(), all_.size());
    for (Index i = 0; i < n; ++i) {
      V s0(0.0), s1(0.0), s2(0.0);
      for (Index j = first_[i]; j < first_[i + 1]; j += V::size) {
        const V wf = V::load(&all_.w[j]) * V::load(&f_[j]);
        s0 += wf;
        s1 += wf * V::load(&all_.x[j]);
      }
      const double m0 = sum(s0), m1 = sum(s1);
      for (Index j = first_[i]; j < first_[i + 1]; j += V::size) {
        const V e = V::load(&f_[j]) - V(m0) - V(m1) * V::load(&all_.x[j]);
        s2 += V::load(&all_.w[j]) * e * e;
      }
      out[i] = {m0, m1, sum(s2)};
    }
  }

  void resize(Index n) {
    if (static_cast<Index>(x_.size()) < n) x_.resize(n), f_.resize(n);
  }
  static double sum(V v) {
    double total = 0;
    for (int i = 0; i < V::size; ++i) total += v[i];
    return total;
  }

  Rule all_;
  std::vector<Index> first_;
  std::vector<double> means_, means_on_lattice_, x_, f_;
  std::vector<Index> place_;
  Rule nodes_;
};

/// (r, c, gamma) of one spiked random-features model.
struct SpikeParameters {
  double r = 0, c = 1, gamma = 0;
  double sd() const { return std::sqrt(c); }
  double rho() const { return std::sqrt(std::max(0.0, (1 - gamma) * (1 + gamma))); }
};

/// Everything the equations need at one node k. Products odd in k are absent: see Level.
struct Node {
  double weight;  ///< quadrature weight with the density, doubled where k stands for -k too
  double u1, u2;  ///< mu1^2, mu2^2
  double mu0, kmu1, mu1;
  double h, h1, rest;
  double hh;          ///< rest + h^2 + h1^2 of the folded parts, across included
  double mu1h1;       ///< mu1 h1
  double column = 0;  ///< set where nodes are gathered: NodeSet
  double across = 0;  ///< sum over m >= 2 of h1_m^2
};

/// The target's part of a node: h, h1 and rest as in Node, and h1_m of further directions.
struct TargetMoments {
  double h, h1, rest;
  double* across;
};

/// The target's part of a node.
inline void set_target(const TargetMoments& at, int n_across, Node& out) {
  out.h = at.h, out.h1 = at.h1, out.rest = at.rest;
  out.across = 0;
  for (int m = 0; m < n_across; ++m) out.across += at.across[m] * at.across[m];
  out.hh = out.rest + out.h * out.h + out.h1 * out.h1 + out.across;
  out.mu1h1 = out.mu1 * out.h1;
}

/// Folds the target at k with what it is at -k, for a sigma of the parity: only the part of h of
/// that parity meets mu0 and k mu1, only the part of h1 of the other parity meets mu1. What meets
/// nothing goes to the rest.
inline void fold(TargetMoments& at, const TargetMoments& mirrored, int n_across, int parity) {
  const double other = 0.5 * (at.h - parity * mirrored.h),
               other1 = 0.5 * (at.h1 + parity * mirrored.h1);
  at.h = 0.5 * (at.h + parity * mirrored.h);
  at.h1 = 0.5 * (at.h1 - parity * mirrored.h1);
  at.rest = 0.5 * (at.rest + mirrored.rest) + other * other + other1 * other1;
  for (int m = 0; m < n_across; ++m) {
    const double lost = 0.5 * (at.across[m] + parity * mirrored.across[m]);
    at.across[m] = 0.5 * (at.across[m] - parity * mirrored.across[m]);
    at.rest += lost * lost;
  }
}

/// The coefficients on one quadrature rule in k, ordered by |k|.
///
/// If sigma has a parity every integrand can be folded to k > 0: mu0 and k mu1 have that parity p,
/// mu1 has -p, so only the part of h of parity p, the part of h1 of parity -p and the even part of
/// E s*^2 meet them.
struct Level {
  std::vector<double> k;
  std::vector<Node> nodes;
  int n_across = 0;            ///< directions of the target but the first that the spike leaves
  std::vector<double> across;  ///< size x n_across: their h1
  Index size() const { return static_cast<Index>(nodes.size()); }
};

/// Buffers that one set of coefficients leaves to the next.
struct CoefficientScratch {
  MomentEvaluator evaluate;
  std::vector<double> means;
  std::vector<Moments> sigma, target, mirrored, one_side;
  std::vector<std::vector<Moments>> parts, mirrored_parts;  ///< of targets of several directions
  std::vector<double> across, mirrored_across;
};

/// Computes coefficients of one (sigma, target, r, c, gamma) on demand.
class Coefficients {
 public:
  /// A target of several directions is given as its marginal, and its main part as `target`.
  Coefficients(const Function& sigma, const Function& target, SpikeParameters p,
               CoefficientScratch& scratch, const Marginal* marginal = nullptr)
      : sigma_(&sigma),
        target_(&target),
        marginal_(marginal),
        p_(p),
        scratch_(&scratch),
        sigma_rule_(sigma.shape(), p.sd()),
        target_rule_(target.shape(), p.rho()) {
    refine();
    expand();
  }

  const SpikeParameters& parameters() const { return p_; }
  const Shape& sigma_shape() const { return sigma_->shape(); }
  const Shape& target_shape() const { return target_->shape(); }
  /// Scales on which the coefficients change in k: of sigma's Gaussian average, and of the
  /// target's.
  double sigma_scale() const { return p_.r == 0 ? infinity : p_.sd() / std::abs(p_.r); }
  double target_scale() const { return p_.gamma == 0 ? infinity : p_.rho() / std::abs(p_.gamma); }
  /// True if the nodes at k > 0 stand for those at -k too.
  bool folded() const { return sigma_->shape().parity != 0; }
  /// Estimated error of the coefficients, relative to rms(sigma) and rms(target).
  double error() const { return error_; }

  void sigma_moments(const double* k, Index n, Moments* out) {
    means(k, n, p_.r);
    scratch_->evaluate(*sigma_, sigma_rule_, scratch_->means.data(), p_.sd(), n, out);
    if (!series_.empty())
      for (Index i = 0; i < n; ++i) from_series(p_.r / p_.sd() * k[i], out[i]);
  }
  void target_moments(const double* k, Index n, Moments* out) {
    means(k, n, p_.gamma);
    scratch_->evaluate(*target_, target_rule_, scratch_->means.data(), p_.rho(), n, out);
  }

  const Function& sigma() const { return *sigma_; }
  const Function& target() const { return *target_; }
  const GaussianRule& sigma_rule() const { return sigma_rule_; }
  const GaussianRule& target_rule() const { return target_rule_; }

  /// Appends the coefficients at the nodes of a rule in k to a level.
  void append(const Rule& rule, Level& level) {
    const Index n = rule.size();
    const int parity = sigma_->shape().parity, n_across = this->n_across();
    std::vector<Moments>& s = scratch_->sigma;
    std::vector<Moments>& t = scratch_->target;
    std::vector<Moments>& mirrored = scratch_->mirrored;
    s.resize(n);
    on_rule(*sigma_, sigma_rule_, p_.r, p_.sd(), rule, s);
    if (!series_.empty())
      for (Index i = 0; i < n; ++i) from_series(p_.r / p_.sd() * rule.x[i], s[i]);
    on_target(*target_, rule, t, mirrored);
    auto& parts = scratch_->parts;
    auto& mirrored_parts = scratch_->mirrored_parts;
    if (n_across > 0) {
      parts.resize(n_across + 1), mirrored_parts.resize(n_across + 1);
      for (int m = 0; m <= n_across; ++m) on_target(part(m), rule, parts[m], mirrored_parts[m]);
      scratch_->across.resize(n_across), scratch_->mirrored_across.resize(n_across);
    }
    const auto target_at = [&](const std::vector<Moments>& main,
                               const std::vector<std::vector<Moments>>& others, Index i,
                               std::vector<double>& across) {
      TargetMoments out{main[i].m0, main[i].m1, main[i].m2, across.data()};
      for (int m = 0; m < n_across; ++m) {
        const Moments& f = others[m][i];
        across[m] = f.m0;
        out.rest += f.m1 * f.m1 + f.m2;
      }
      if (n_across > 0) out.rest += others[n_across][i].m0;
      return out;
    };
    level.n_across = n_across;
    level.k.insert(level.k.end(), rule.x.begin(), rule.x.end());
    level.nodes.reserve(level.nodes.size() + n);
    for (Index i = 0; i < n; ++i) {
      Node out;
      out.weight = rule.w[i];
      out.mu0 = s[i].m0;
      out.mu1 = s[i].m1;
      out.kmu1 = rule.x[i] * s[i].m1;
      out.u1 = s[i].m1 * s[i].m1;
      out.u2 = s[i].m2;
      TargetMoments at = target_at(t, parts, i, scratch_->across);
      if (folded())
        fold(at, target_at(mirrored, mirrored_parts, i, scratch_->mirrored_across), n_across,
             parity);
      set_target(at, n_across, out);
      level.across.insert(level.across.end(), at.across, at.across + n_across);
      level.nodes.push_back(out);
    }
    drop_dust(level);
  }

  /// Coefficients that vanish exactly come out as rounding errors; a component without penalty
  /// would amplify them. A mu0 that has all its digits counts until its square would leave the
  /// range of numbers.
  void drop_dust(Level& level) const {
    double top0 = 0, top1 = 0, top2 = 0, square = 0, mass = 0;
    for (const Node& node : level.nodes) {
      const double w = node.weight;
      mass += w;
      square += w * (node.mu0 * node.mu0 + node.u1 + node.u2);
      top0 = std::max(top0, std::abs(node.mu0));
      top1 = std::max(top1, std::abs(node.mu1));
      top2 = std::max(top2, node.u2);
    }
    const double size = std::sqrt(square / mass), dust = 1e-13 * size,
                 dust0 = series_.empty() ? dust : 1e-60 * size;
    for (Node& node : level.nodes) {
      if (top0 < dust0) node.mu0 = 0;
      if (top1 < dust) node.mu1 = node.kmu1 = node.u1 = node.mu1h1 = 0;
      if (top2 < dust * dust) node.u2 = 0;
    }
  }

  /// Directions of the target but the first that the spike leaves.
  int n_across() const { return marginal_ != nullptr ? marginal_->directions() - 1 : 0; }
  /// h1 of those directions, then what they leave: functions of which the mean counts.
  const Function& part(int m) const {
    return m < n_across() ? marginal_->across(m) : marginal_->spread();
  }

 private:
  /// Moments of a function of the target's argument at the nodes of a rule and, where nodes are
  /// folded, at their mirror images.
  void on_target(const Function& f, const Rule& rule, std::vector<Moments>& at,
                 std::vector<Moments>& mirrored) {
    const Index n = rule.size();
    const int parity = f.shape().parity;
    at.resize(n);
    on_rule(f, target_rule_, p_.gamma, p_.rho(), rule, at);
    if (!folded()) return;
    mirrored.resize(n);
    if (parity != 0) {
      for (Index i = 0; i < n; ++i) mirrored[i] = {parity * at[i].m0, -parity * at[i].m1, at[i].m2};
    } else if (f.shape().core_parity != 0) {
      for (Index i = 0; i < n; ++i)
        mirrored[i] = mirror(f.shape(), p_.gamma * rule.x[i], p_.rho(), at[i]);
    } else {
      on_rule(f, target_rule_, -p_.gamma, p_.rho(), rule, mirrored);
    }
  }

  /// The moments at -mean from those at mean, for f(x) - offset - slope x of a parity.
  static Moments mirror(const Shape& f, double mean, double sd, const Moments& at) {
    const double line = f.offset + f.slope * mean, mirrored_line = f.offset - f.slope * mean,
                 rise = f.slope * sd;
    return {mirrored_line + f.core_parity * (at.m0 - line), rise - f.core_parity * (at.m1 - rise),
            at.m2};
  }

  /// Moments at the nodes of a rule; of a pair k, -k one is computed and the other follows where
  /// the function allows. The one on the side of negative arguments: there relu and the like
  /// vanish, and a difference would lose what they leave.
  void on_rule(const Function& f, const GaussianRule& in_z, double slope, double sd,
               const Rule& rule, std::vector<Moments>& out) {
    const Index n = rule.size(), n_sides = rule.paired ? 2 : 1, n_each = n / n_sides;
    const bool mirrored = rule.paired && f.shape().core_parity != 0;
    const Index own = mirrored && slope > 0 ? 1 : 0;  // of each pair; k > 0 comes first
    std::vector<double>& at = scratch_->means;
    std::vector<Moments>& found = scratch_->one_side;
    at.resize(n_each), found.resize(n_each);
    for (Index side = own; side < (mirrored ? own + 1 : n_sides); ++side) {
      if (rule.step > 0 && in_z.shared()) {
        const double sign = (side == 0) == (slope >= 0) ? 1.0 : -1.0;
        scratch_->evaluate.on_lattice(f, in_z, std::abs(slope) * rule.step, rule.first, sign, sd,
                                      n_each, found.data());
      } else {
        for (Index i = 0; i < n_each; ++i) at[i] = slope * rule.x[n_sides * i + side];
        scratch_->evaluate(f, in_z, at.data(), sd, n_each, found.data());
      }
      for (Index i = 0; i < n_each; ++i) out[n_sides * i + side] = found[i];
    }
    for (Index i = 0; mirrored && i < n_each; ++i)
      out[2 * i + 1 - own] = mirror(f.shape(), slope * rule.x[2 * i + own], sd, found[i]);
  }

  void means(const double* k, Index n, double slope) {
    scratch_->means.resize(n);
    for (Index i = 0; i < n; ++i) scratch_->means[i] = slope * k[i];
  }

  /// The coefficients of x^j in mu0, if sigma has no mean and the spike is small: series_.
  void expand() {
    constexpr int degree = 32;
    constexpr double reach =
        0.1;  // |x| <= 1.2: terms beyond the degree are below 1e-15 of the first
    if (p_.r == 0 || std::abs(p_.r) > reach * p_.sd() || sigma_->shape().affine) return;
    const GaussianRule rule(sigma_->shape(), p_.sd(), 2 * sigma_rule_.density());
    Rule own;
    if (!rule.shared()) rule.at(0, own), own.finish();
    const Rule& nodes = rule.shared() ? rule.nodes() : own;
    const Index n = nodes.size();
    std::vector<double> x(n), f(n);
    for (Index i = 0; i < n; ++i) x[i] = p_.sd() * nodes.x[i];
    sigma_->evaluate(x.data(), f.data(), n);
    std::array<double, degree + 1> a{};
    double square = 0;
    for (Index i = 0; i < n; ++i) {
      const double z = nodes.x[i], wf = nodes.w[i] * f[i];
      square += wf * f[i];
      double below = 0, here = 1;  // He_j/sqrt(j!)
      for (int j = 0; j <= degree; ++j) {
        a[j] += wf * here;
        const double above =
            (z * here - std::sqrt(static_cast<double>(j)) * below) / std::sqrt(j + 1.0);
        below = here, here = above;
      }
    }
    const double dust = 1e-13 * std::sqrt(square);
    const int parity = sigma_->shape().parity;
    if (!(std::abs(a[0]) < dust || parity < 0)) return;
    double root = 1;  // of j!
    for (int j = 0; j <= degree; ++j) {
      if (j > 0) root *= std::sqrt(static_cast<double>(j));
      const bool absent =
          j == 0 || std::abs(a[j]) < dust || (parity != 0 && parity != (j % 2 == 0 ? 1 : -1));
      series_.push_back(absent ? 0 : a[j] / root);
    }
  }
  void from_series(double x, Moments& out) const {
    out.m0 = out.m1 = 0;
    for (std::size_t j = series_.size(); j-- > 0;) {
      out.m1 = out.m0 + x * out.m1;
      out.m0 = series_[j] + x * out.m0;
    }
  }

  /// Compares the rules in z with rules of twice the density at a few k, and makes them denser
  /// until they agree: for analytic functions by what the exponential convergence of the trapezoid
  /// says is missing, for others by doubling.
  void refine() {
    const std::array<double, 4> probes{0.0, 0.4, 1.3, 3.1};
    constexpr double enough = 2e-14;
    using Values = std::array<Moments, probes.size()>;
    // `size`: of what a function is a part of; one that all but vanishes need not be known any
    // better.
    const auto settle = [&](const Function& f, GaussianRule& rule, double slope, double sd,
                            double size = 0) {
      if (sd == 0) return 0.0;
      means(probes.data(), probes.size(), slope);
      const auto moments = [&](const GaussianRule& on) {
        Values out;
        scratch_->evaluate(f, on, scratch_->means.data(), sd, probes.size(), out.data());
        return out;
      };
      const auto difference = [size](const Values& coarse, const Values& fine) {
        double scale = size, most = 0;
        for (std::size_t i = 0; i < fine.size(); ++i) {
          scale = std::max(
              scale, std::sqrt(fine[i].m0 * fine[i].m0 + fine[i].m1 * fine[i].m1 + fine[i].m2));
          most = std::max({most, std::abs(fine[i].m0 - coarse[i].m0),
                           std::abs(fine[i].m1 - coarse[i].m1),
                           std::abs(std::sqrt(fine[i].m2) - std::sqrt(coarse[i].m2))});
        }
        return scale > 0 ? most / scale : 0;
      };
      Values coarse = moments(rule);
      double error = 0, previous = infinity;
      for (int doubling = 0; doubling < 5; ++doubling) {
        const GaussianRule denser(f.shape(), sd, 2 * rule.density());
        const Values fine = moments(denser);
        error = difference(coarse, fine);
        if (error < enough || error > 0.05 * previous)
          break;  // settled, or not improving like a smooth function
        if (rule.shared() && error < 1e-8) {
          const GaussianRule between(f.shape(), sd,
                                     rule.density() * std::log(1e-16) / std::log(error));
          const double left = difference(moments(between), fine);
          if (left < 0.25 * enough) {
            rule = between;
            return left;
          }
        }
        previous = error;
        rule = denser;
        coarse = fine;
      }
      return error;
    };
    error_ = std::max(
        settle(*sigma_, sigma_rule_, p_.r, p_.sd()),
        settle(*target_, target_rule_, p_.gamma, p_.rho(), marginal_ ? marginal_->rms() : 0));
    if (n_across() == 0) return;
    for (int m = 0; m <= n_across(); ++m)
      error_ = std::max(
          error_, settle(part(m), target_rule_, p_.gamma, p_.rho(),
                         m < n_across() ? marginal_->rms() : marginal_->rms() * marginal_->rms()));
    error_ = std::max(error_, marginal_->error());
  }

  const Function* sigma_;
  const Function* target_;
  const Marginal* marginal_;
  SpikeParameters p_;
  CoefficientScratch* scratch_;
  GaussianRule sigma_rule_, target_rule_;
  std::vector<double> series_;
  double error_ = 0;
};

/// The target of a batch: a function of one variable or, if `directed` is given, one of L
/// directions, with their alignments with the spike, L of each coefficient set. Their length is the
/// gamma of the set.
struct BatchTarget {
  const Function* target = nullptr;
  const TargetFunction* directed = nullptr;
  const double* alignments = nullptr;
};

/// The coefficients of one set of a batch.
struct SetCoefficients {
  std::unique_ptr<Marginal> marginal;  ///< of targets of several directions
  std::optional<Coefficients> of;

  void clear() { of.reset(), marginal.reset(); }
  void make(const Function& sigma, const BatchTarget& target, Index set, const SpikeParameters& p,
            CoefficientScratch& scratch) {
    if (target.directed != nullptr)
      marginal = std::make_unique<Marginal>(
          *target.directed, target.alignments + set * target.directed->directions());
    of.emplace(sigma, marginal ? marginal->main() : *target.target, p, scratch, marginal.get());
  }
};

}  // namespace srfx
