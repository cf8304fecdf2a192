// Conditional Gaussian coefficients of the activation and of the target (THEORY section 2; CPD24, section 3).
//
//   k = v.x/sqrt(d) ~ N(0,1). Given k, with z ~ N(0,1):
//     mu0(k) = E sigma(r k + sqrt(c) z)        mu1(k) = E z sigma(..)        mu2(k)^2 = E (sigma(..) - mu0 - mu1 z)^2
//     h(k)   = E s*(gamma k + rho z)           h1(k)  = E z s*(..)           rest(k)  = E (s*(..) - h - h1 z)^2
//   with rho = sqrt(1 - gamma^2). The bulk has unit variance: c appears here and nowhere else. E s*^2 = rest + h^2 + h1^2.
//
// The second moments are centred before they are squared: their difference cancels in the tails of k.
#pragma once

#include "quadrature.hpp"
#include "simd.hpp"

#include <array>

namespace srfx {

/// E f(mean + sd z), E z f and E (f - m0 - m1 z)^2.
struct Moments {
  double m0 = 0, m1 = 0, m2 = 0;
};

/// Moments of one function at many means, in one evaluation of the function.
class MomentEvaluator {
 public:
  /// out[i] = moments at means[i]. Calls f.evaluate once.
  void operator()(const Function& f, const GaussianRule& rule, const double* means, double sd, Index n, Moments* out) {
    first_.resize(n + 1);
    x_.clear();
    if (!rule.shared()) z_.clear(), w_.clear();
    Rule own;
    for (Index i = 0; i < n; ++i) {
      const Rule& nodes = rule.at(means[i], own);
      first_[i] = static_cast<Index>(x_.size());
      for (double z : nodes.x) x_.push_back(means[i] + sd * z);
      if (!rule.shared()) {
        z_.insert(z_.end(), nodes.x.begin(), nodes.x.end());
        w_.insert(w_.end(), nodes.w.begin(), nodes.w.end());
      }
    }
    first_[n] = static_cast<Index>(x_.size());
    f_.resize(x_.size());
    f.evaluate(x_.data(), f_.data(), static_cast<Index>(x_.size()));
    for (Index i = 0; i < n; ++i) {
      const Rule* nodes = rule.shared() ? &rule.at(means[i], own) : nullptr;
      const double* z = nodes ? nodes->x.data() : z_.data() + first_[i];
      const double* w = nodes ? nodes->w.data() : w_.data() + first_[i];
      out[i] = reduce(f_.data() + first_[i], z, w, first_[i + 1] - first_[i]);
    }
  }

 private:
  using V = simd::Lanes<double, 8>;

  static double sum(V v) {
    double total = 0;
    for (int i = 0; i < V::size; ++i) total += v[i];
    return total;
  }
  static Moments reduce(const double* f, const double* z, const double* w, Index n) {
    V s0(0.0), s1(0.0);
    for (Index i = 0; i < n; i += V::size) {
      const V wf = V::load(w + i) * V::load(f + i);
      s0 += wf;
      s1 += wf * V::load(z + i);
    }
    Moments m{sum(s0), sum(s1), 0};
    V s2(0.0);
    const V m0(m.m0), m1(m.m1);
    for (Index i = 0; i < n; i += V::size) {
      const V e = V::load(f + i) - m0 - m1 * V::load(z + i);
      s2 += V::load(w + i) * e * e;
    }
    m.m2 = sum(s2);
    return m;
  }

  std::vector<Index> first_;
  std::vector<double> x_, z_, w_, f_;
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
  double hh;     ///< rest + h^2 + h1^2 of the folded parts
  double mu1h1;  ///< mu1 h1
};

/// The coefficients on one quadrature rule in k, ordered by |k|.
///
/// If sigma has a parity every integrand can be folded to k > 0: mu0 and k mu1 have that parity p, mu1 has -p, so only
/// the part of h of parity p, the part of h1 of parity -p and the even part of E s*^2 meet them.
struct Level {
  std::vector<double> k;
  std::vector<Node> nodes;
  Index size() const { return static_cast<Index>(nodes.size()); }
};

/// Computes coefficients of one (sigma, target, r, c, gamma) on demand.
class Coefficients {
 public:
  Coefficients(const Function& sigma, const Function& target, SpikeParameters p)
      : sigma_(&sigma), target_(&target), p_(p), sigma_rule_(sigma.shape(), p.sd()), target_rule_(target.shape(), p.rho()) {
    refine();
  }

  const SpikeParameters& parameters() const { return p_; }
  const Shape& sigma_shape() const { return sigma_->shape(); }
  const Shape& target_shape() const { return target_->shape(); }
  /// Scales on which the coefficients change in k: of sigma's Gaussian average, and of the target's.
  double sigma_scale() const { return p_.r == 0 ? infinity : p_.sd() / std::abs(p_.r); }
  double target_scale() const { return p_.gamma == 0 ? infinity : p_.rho() / std::abs(p_.gamma); }
  /// True if the nodes at k > 0 stand for those at -k too.
  bool folded() const { return sigma_->shape().parity != 0; }
  /// Estimated error of the coefficients, relative to rms(sigma) and rms(target).
  double error() const { return error_; }

  void sigma_moments(const double* k, Index n, Moments* out) {
    means(k, n, p_.r);
    evaluator_(*sigma_, sigma_rule_, means_.data(), p_.sd(), n, out);
  }
  void target_moments(const double* k, Index n, Moments* out) {
    means(k, n, p_.gamma);
    evaluator_(*target_, target_rule_, means_.data(), p_.rho(), n, out);
  }

  /// Fills the nodes of a level from its rule in k.
  void fill(const Rule& rule, Level& level) {
    const Index n = rule.size();
    const int parity = sigma_->shape().parity;
    level.k = rule.x;
    level.nodes.resize(n);
    sigma_moments_.resize(n), target_moments_.resize(n), mirrored_.resize(n);
    sigma_moments(rule.x.data(), n, sigma_moments_.data());
    target_moments(rule.x.data(), n, target_moments_.data());
    const int target_parity = target_->shape().parity;
    if (folded()) {
      if (target_parity != 0) {  // h(-k) = p h(k), h1(-k) = -p h1(k)
        for (Index i = 0; i < n; ++i)
          mirrored_[i] = {target_parity * target_moments_[i].m0, -target_parity * target_moments_[i].m1, target_moments_[i].m2};
      } else {
        reflected_.resize(n);
        for (Index i = 0; i < n; ++i) reflected_[i] = -rule.x[i];
        target_moments(reflected_.data(), n, mirrored_.data());
      }
    }
    for (Index i = 0; i < n; ++i) {
      const Moments s = sigma_moments_[i], t = target_moments_[i];
      Node& out = level.nodes[i];
      out.weight = rule.w[i];
      out.mu0 = s.m0;
      out.mu1 = s.m1;
      out.kmu1 = rule.x[i] * s.m1;
      out.u1 = s.m1 * s.m1;
      out.u2 = s.m2;
      if (folded()) {
        const Moments q = mirrored_[i];
        out.h = 0.5 * (t.m0 + parity * q.m0);
        out.h1 = 0.5 * (t.m1 - parity * q.m1);
        const double other = 0.5 * (t.m0 - parity * q.m0), other1 = 0.5 * (t.m1 + parity * q.m1);
        out.rest = 0.5 * (t.m2 + q.m2) + other * other + other1 * other1;
      } else {
        out.h = t.m0, out.h1 = t.m1, out.rest = t.m2;
      }
      out.hh = out.rest + out.h * out.h + out.h1 * out.h1;
      out.mu1h1 = out.mu1 * out.h1;
    }
    drop_dust(level);
  }

 private:
  void means(const double* k, Index n, double slope) {
    means_.resize(n);
    for (Index i = 0; i < n; ++i) means_[i] = slope * k[i];
  }

  /// Coefficients that vanish exactly come out as rounding errors; a component without penalty would amplify them.
  static void drop_dust(Level& level) {
    double top0 = 0, top1 = 0, top2 = 0, square = 0, mass = 0;
    for (const Node& node : level.nodes) {
      const double w = node.weight;
      mass += w;
      square += w * (node.mu0 * node.mu0 + node.u1 + node.u2);
      top0 = std::max(top0, std::abs(node.mu0));
      top1 = std::max(top1, std::abs(node.mu1));
      top2 = std::max(top2, node.u2);
    }
    const double dust = 1e-13 * std::sqrt(square / mass);
    for (Node& node : level.nodes) {
      if (top0 < dust) node.mu0 = 0;
      if (top1 < dust) node.mu1 = node.kmu1 = node.u1 = node.mu1h1 = 0;
      if (top2 < dust * dust) node.u2 = 0;
    }
  }

  /// Compares the rules in z with rules of twice the density at a few k, and doubles them until they agree.
  void refine() {
    const std::array<double, 4> probes{0.0, 0.4, 1.3, 3.1};
    std::array<Moments, 4> coarse, fine;
    const auto settle = [&](const Function& f, GaussianRule& rule, double slope, double sd) {
      double error = 0, previous = infinity;
      means(probes.data(), probes.size(), slope);
      for (int refinement = 0; refinement < 5; ++refinement) {
        if (sd == 0) return 0.0;
        const GaussianRule denser(f.shape(), sd, refinement + 1);
        if (refinement == 0) evaluator_(f, rule, means_.data(), sd, probes.size(), coarse.data());
        evaluator_(f, denser, means_.data(), sd, probes.size(), fine.data());
        double scale = 0;
        error = 0;
        for (std::size_t i = 0; i < probes.size(); ++i) {
          const double size = std::sqrt(fine[i].m0 * fine[i].m0 + fine[i].m1 * fine[i].m1 + fine[i].m2);
          scale = std::max(scale, size);
          error = std::max({error, std::abs(fine[i].m0 - coarse[i].m0), std::abs(fine[i].m1 - coarse[i].m1),
                            std::abs(std::sqrt(fine[i].m2) - std::sqrt(coarse[i].m2))});
        }
        error = scale > 0 ? error / scale : 0;
        if (error < 2e-14 || error > 0.5 * previous) break;  // settled, or no longer improving
        previous = error;
        rule = denser;
        coarse = fine;
      }
      return error;
    };
    error_ = std::max(settle(*sigma_, sigma_rule_, p_.r, p_.sd()), settle(*target_, target_rule_, p_.gamma, p_.rho()));
  }

  const Function* sigma_;
  const Function* target_;
  SpikeParameters p_;
  GaussianRule sigma_rule_, target_rule_;
  double error_ = 0;
  MomentEvaluator evaluator_;
  std::vector<double> means_, reflected_;
  std::vector<Moments> sigma_moments_, target_moments_, mirrored_;
};

}  // namespace srfx
