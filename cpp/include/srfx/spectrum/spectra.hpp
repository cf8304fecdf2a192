// Spectra of the features beyond one group and the isotropic bulk: several readout values, the
// actual one-step network, given weights. spectrum.hpp has the method; here are the equations.
//
// Groups (THEORY section 7 at complex lam): Im V2_g > 0 and Im V1 > 0 (as a matrix) make Vh1 and A
// lie in the lower half plane, the inner equation V2_g = pi_g/(A_g + Gam_gg) maps the upper half
// plane into itself, and so does the outer one: both are unique there. density = Im sum_g V2_g/pi.
// An outlier is where the normal equations of (m, theta) are singular,
//   det [[E mu0 mu0^T w, E mu0 k mu1^T w], [K E k mu1 mu0^T w, 1 + K E k^2 mu1 mu1^T w]] = 0,  K =
//   alpha diag(V2).
//
// Several spikes: k = rho e, and along each ray e the groups have one spike of strengths R_g.e. So
// the rules of one spike serve, a panel of rho moved off the axis as always, with rho^(q-1) beside
// the density; the rays are averaged over half the sphere by a rule that is denser for each tier.
//
// Bulks correlated with the spike (THEORY 9 e): the same with K = (a'/B) K_ab for (k mu1, mu_c),
// from the overlaps.
#pragma once

#include "srfx/solve/anisotropic.hpp"
#include "srfx/solve/group_levels.hpp"
#include "srfx/solve/layers.hpp"
#include "srfx/spectrum/spectrum.hpp"

namespace srfx {

namespace detail {

/// The determinant of a matrix, row by row.
inline double determinant_of(std::vector<double> a, int n) {
  double out = 1;
  const auto at = [&](int i, int j) -> double& { return a[static_cast<std::size_t>(i * n + j)]; };
  for (int p = 0; p < n; ++p) {
    int best = p;
    for (int i = p + 1; i < n; ++i)
      if (std::abs(at(i, p)) > std::abs(at(best, p))) best = i;
    if (at(best, p) == 0) return 0;
    if (best != p) {
      out = -out;
      for (int j = 0; j < n; ++j) std::swap(at(p, j), at(best, j));
    }
    out *= at(p, p);
    for (int i = p + 1; i < n; ++i) {
      const double factor = at(i, p) / at(p, p);
      for (int j = p; j < n; ++j) at(i, j) -= factor * at(p, j);
    }
  }
  return out;
}

}  // namespace detail

// --- bulks correlated with the spike ---

/// A bulk of anisotropic.hpp, for complex A and B, in a spectrum. `norms` yields mu_c at the nodes.
template <class Bulk> class CorrelatedSpectrum {
 public:
  CorrelatedSpectrum(std::shared_ptr<const Bulk> bulk, const Function& sigma,
                     const SpikeParameters& spike, double beta)
      : bulk_(std::move(bulk)),
        sigma_(&sigma),
        spike_(spike),
        beta_(beta) {}

  SpectralAverages<Complex> averages(Complex a, Complex b) const {
    return bulk_->averages(a, b, Complex(beta_));
  }

  double normal_determinant(const SpectrumNodes& nodes, const SpectrumScales& scales,
                            const SpectrumPair& v) const {
    if (norms_.empty())
      norms_ =
          norm_coefficients(*sigma_, spike_, nodes.k.data(), static_cast<Index>(nodes.k.size()));
    double e1 = 0, s[3][3] = {};
    const double v1 = v.v1.real(), v2 = v.v2.real();
    if (!nodes.regular(v1, v2)) return std::numeric_limits<double>::quiet_NaN();
    for (std::size_t i = 0; i < nodes.k.size(); ++i) {
      const double w = nodes.weight[i] / (1 + nodes.u1[i] * v1 + nodes.u2[i] * v2),
                   f[3] = {nodes.mu0[i], nodes.kmu1[i], norms_[i]};
      e1 += w * nodes.u1[i];
      for (int p = 0; p < 3; ++p)
        for (int q = 0; q < 3; ++q) s[p][q] += w * f[p] * f[q];
    }
    // A and B are real up to Im lam; the bulk is asked a little below the axis. <(A + B D)/S> = 1
    // yields A.
    const Complex b(scales.ratio * e1, 0), a((1 - v1 * b.real()) / v2, -1e-9 * b.real());
    const Overlaps<Complex> k = bulk_->overlaps(a, b, Complex(beta_));
    const double factor = scales.ratio / b.real();
    const int delta = k.delta();
    const double pull[2][2] = {{k.k[0][0].v.real(), k.k[0][delta].v.real()},
                               {k.k[delta][0].v.real(), k.k[delta][delta].v.real()}};
    std::vector<double> m(9);
    const double norm = scales.mean_square > 0 ? 1 / scales.mean_square : 0;
    for (std::size_t q = 0; q < 3; ++q) {
      m[q] = norm * s[0][q];
      for (std::size_t p = 0; p < 2; ++p)
        m[3 * (p + 1) + q] =
            (p + 1 == q ? 1 : 0) + factor * (pull[p][0] * s[1][q] + pull[p][1] * s[2][q]);
    }
    if (norm == 0) m[0] = 1;
    return detail::determinant_of(m, 3);
  }

 private:
  std::shared_ptr<const Bulk> bulk_;
  const Function* sigma_;
  SpikeParameters spike_;
  double beta_;
  mutable std::vector<double> norms_;
};

/// The spectrum of one actual one-step network, a set of a source.
Spectrum step_spectrum(const OneStepSource& source, Index set, const Function& sigma, double alpha,
                       double beta, const double* x, Index n);

/// The spectrum of one network after several steps, or with a target of several directions, a set
/// of a source.
Spectrum layer_spectrum(const LayerSource& source, Index set, const Function& sigma, double alpha,
                        double beta, const double* x, Index n);

/// The spectrum of the features of given weights, p = beta d of them.
Spectrum weights_spectrum(const MeasuredWeights& weights, const Function& sigma, double alpha,
                          double beta, const double* x, Index n);

// --- several groups ---

/// The equations of K groups of the isotropic bulk; V packed as in group_map.hpp.
class GroupSpectrum {
 public:
  using State = std::vector<Complex>;

  /// The spikes of `p` are those of the row space of R.
  GroupSpectrum(const Function& sigma, const GroupParameters& p, double alpha, double beta)
      : scales(alpha, beta),
        sigma_(&sigma),
        groups_(p),
        shares_(p.pi),
        map_(static_cast<int>(p.pi.size())) {
    map_.beta = beta;
    for (int g = 0; g < map_.groups; ++g) map_.pi[g] = shares_[static_cast<std::size_t>(g)];
    const GroupNodes& nodes = columns(1).nodes;
    std::vector<double> gram(static_cast<std::size_t>(nodes.groups * nodes.groups), 0.0);
    for (Index i = 0; i < nodes.size; ++i) {
      for (int g = 0; g < nodes.groups; ++g) {
        const double u1 = nodes.mu1[i * nodes.groups + g] * nodes.mu1[i * nodes.groups + g],
                     u2 = nodes.e[i * nodes.stride + nodes.pairs + g];
        const double pi = shares_[static_cast<std::size_t>(g)];
        scales.linear = scales.linear && u2 == 0;
        scales.mean_u += nodes.weight[static_cast<std::size_t>(i)] * pi * (u1 + u2);
        scales.top = std::max(scales.top, u1 + u2);
        for (int h = 0; h < nodes.groups; ++h)
          gram[static_cast<std::size_t>(g * nodes.groups + h)] +=
              nodes.weight[static_cast<std::size_t>(i)] *
              std::sqrt(pi * shares_[static_cast<std::size_t>(h)]) *
              nodes.mu0[i * nodes.groups + g] * nodes.mu0[i * nodes.groups + h];
      }
    }
    scales.mean_square = largest_eigenvalue(gram, nodes.groups);
  }

  SpectrumScales scales;

  static Complex trace(const State& v) {
    Complex sum = 0;
    const int k = groups_of(v.size());
    for (std::size_t g = v.size() - static_cast<std::size_t>(k); g < v.size(); ++g) sum += v[g];
    return sum;
  }
  State start(Complex v) const {
    State out(static_cast<std::size_t>(map_.packed), Complex(0));
    for (int g = 0; g < map_.groups; ++g)
      out[static_cast<std::size_t>(map_.at(g, g))] = out[static_cast<std::size_t>(map_.pairs + g)] =
          shares_[static_cast<std::size_t>(g)] * v;
    return out;
  }

  bool newton(int tier, Complex lam, State& v, int limit) const {
    const Columns& on = columns(tier);
    const std::size_t n = static_cast<std::size_t>(map_.packed);
    const int k = map_.groups;
    detail::SpectrumStop stop(limit);
    for (int iteration = 0; iteration < limit; ++iteration) {
      sums(on, v);
      map_.set(vh_.data(), lam);
      if (!inner(v)) return false;
      for (int g = 0; g < k; ++g) {
        mapped_[static_cast<std::size_t>(map_.pairs + g)] = map_.v2[g];
        for (int h = g; h < k; ++h)
          mapped_[static_cast<std::size_t>(map_.at(g, h))] = map_.v1[g * k + h];
      }
      // (1 - T M) step = map(V) - V
      const std::size_t width = n + 1;
      system_.resize(n * width);
      for (std::size_t j = 0; j < n; ++j) {
        map_.traces(&m_[j * n], column_.data());
        for (std::size_t i = 0; i < n; ++i)
          system_[i * width + j] =
              (i == j ? 1.0 : 0.0) - map_.twice[static_cast<int>(j)] * column_[i];
      }
      for (std::size_t i = 0; i < n; ++i) system_[i * width + n] = mapped_[i] - v[i];
      detail::eliminate(system_.data(), static_cast<int>(n), 1);
      next_ = v;
      for (std::size_t i = 0; i < n; ++i) next_[i] += system_[i * width + n];
      const bool inside = upper(next_);
      if (!inside) {
        if (stop.lost(inside)) return false;
        next_ = mapped_;
      }
      double step = 0;
      for (int g = 0; g < k; ++g)
        for (int i : {map_.pairs + g, map_.at(g, g)}) {
          const auto at = static_cast<std::size_t>(i);
          step = std::max(step, std::abs(next_[at] - v[at]) / std::abs(next_[at]));
        }
      if (!std::isfinite(step)) return false;
      v = next_;
      if (stop.done(step, inside)) return true;
    }
    return false;
  }

  double normal_determinant(const State& v) const {
    const Columns& on = columns(1);
    for (const Segment& half : on.halves)
      for (Index i = half.begin + 1; i < half.filled; ++i)
        if ((real_part_at(on, i, v) > 0) != (real_part_at(on, i - 1, v) > 0))
          return std::numeric_limits<double>::quiet_NaN();
    const GroupNodes& nodes = on.nodes;
    const int k = nodes.groups, n_columns = nodes.n_columns(), size = nodes.rank + n_columns;
    std::vector<double> m(static_cast<std::size_t>(size * size), 0.0);
    for (Index i = 0; i < nodes.size; ++i) {
      double x = 1;
      for (int j = 0; j < nodes.packed; ++j)
        x += map_.twice[j] * nodes.e[i * nodes.stride + j] * v[static_cast<std::size_t>(j)].real();
      const double w = nodes.weight[static_cast<std::size_t>(i)] / x;
      const auto column = [&](int c) {
        return c < nodes.rank ? nodes.basis[i * nodes.rank + c]
                              : nodes.kmu1[i * n_columns + c - nodes.rank];
      };
      for (int p = 0; p < size; ++p)
        for (int q = 0; q < size; ++q)
          m[static_cast<std::size_t>(p * size + q)] += w * column(p) * column(q);
    }
    for (int c = 0; c < n_columns; ++c) {
      const int row = nodes.rank + c;
      const double pull = scales.alpha * v[static_cast<std::size_t>(map_.pairs + c % k)].real();
      for (int q = 0; q < size; ++q) {
        double& entry = m[static_cast<std::size_t>(row * size + q)];
        entry = pull * entry + (q == row ? 1 : 0);
      }
    }
    return detail::determinant_of(m, size);
  }

 private:
  using V = simd::Lanes<double, 8>;

  /// Half a ray: nodes of growing |k|, padded to whole vectors.
  struct Segment {
    Index begin, filled, end;
  };
  /// The nodes of a tier; and by halves in k, as columns padded to whole vectors (SpectrumNodes):
  /// the weights, and each e_j, on the axis and on the shifted line.
  struct Columns {
    GroupNodes nodes;
    Index padded = 0;
    std::vector<Segment> halves;
    std::vector<double> weight, e, weight_re, weight_im, e_re, e_im;
  };
  struct Ray {
    std::vector<double> along;  ///< e
    double weight;
  };

  static int groups_of(std::size_t packed) {
    int k = 1;
    while (static_cast<std::size_t>(k * (k + 3) / 2) < packed) ++k;
    return k;
  }

  static double largest_eigenvalue(const std::vector<double>& a, int n) {
    std::vector<double> x(static_cast<std::size_t>(n), 1.0), y(x);
    double value = 0;
    for (int pass = 0; pass < 2000; ++pass) {
      double norm = 0;
      for (int i = 0; i < n; ++i) {
        y[static_cast<std::size_t>(i)] = 0;
        for (int j = 0; j < n; ++j)
          y[static_cast<std::size_t>(i)] +=
              a[static_cast<std::size_t>(i * n + j)] * x[static_cast<std::size_t>(j)];
        norm += y[static_cast<std::size_t>(i)] * y[static_cast<std::size_t>(i)];
      }
      norm = std::sqrt(norm);
      if (!(norm > 0)) return 0;
      for (int i = 0; i < n; ++i)
        x[static_cast<std::size_t>(i)] = y[static_cast<std::size_t>(i)] / norm;
      if (std::abs(norm - value) < 1e-14 * norm && pass > 2) break;
      value = norm;
    }
    return value;
  }

  /// The rays of a tier; two groups that are R_g.e far apart, in units of their width, are told by
  /// angles that much smaller.
  std::vector<Ray> rays(int tier) const {
    const int q = groups_.spikes();
    if (q == 1) return {{{1.0}, 1.0}};
    double spread = 1;
    for (std::size_t g = 0; g < groups_.c.size(); ++g)
      spread = std::max(spread,
                        groups_.rows.row(static_cast<Index>(g)).norm() / std::sqrt(groups_.c[g]));
    constexpr double of_tier[spectrum_tiers] = {1, 1.5, 2.25}, pi = 3.14159265358979323846;
    const double fineness = of_tier[tier] * std::min(spread, 6.0);
    const int turns = static_cast<int>(std::ceil((q == 2 ? 10 : 6) * fineness));
    std::vector<Ray> out;
    for (int i = 0; i < turns; ++i) {
      const double angle = pi * (i + 0.5) / turns;
      if (q == 2) {
        out.push_back({{std::cos(angle), std::sin(angle)}, std::sqrt(pi / 2) / turns});
        continue;
      }
      const GaussLegendre heights(std::max(4, turns));
      for (std::size_t j = 0; j < heights.x.size(); ++j) {
        const double z = heights.x[j], across = std::sqrt((1 - z) * (1 + z));
        out.push_back(
            {{across * std::cos(angle), across * std::sin(angle), z}, 0.5 * heights.w[j] / turns});
      }
    }
    return out;
  }

  const Columns& columns(int tier) const {
    std::optional<Columns>& out = columns_[static_cast<std::size_t>(tier)];
    if (!out) out = made_columns(tier);
    return *out;
  }

  Columns made_columns(int tier) const {
    const int k = map_.groups, q = groups_.spikes();
    Columns out;
    GroupRung all;
    all.levels.resize(static_cast<std::size_t>(k)), all.spikes = q;
    std::vector<std::vector<double>> e(static_cast<std::size_t>(map_.packed)), e_re(e), e_im(e);
    CoefficientScratch scratch;
    // many rays share what panels have to resolve
    const std::array<int, spectrum_tiers> panels =
        q == 1   ? std::array<int, spectrum_tiers>{spectrum_rungs[0], spectrum_rungs[1],
                                                   spectrum_rungs[2]}
        : q == 2 ? std::array<int, spectrum_tiers>{2, 3, 4}
                 : std::array<int, spectrum_tiers>{2, 2, 3};
    for (const Ray& ray : rays(tier)) {
      GroupParameters p = groups_;
      p.rows.resize(0, 0), p.alignment.resize(0, 0), p.gamma = 0;
      for (int g = 0; q > 1 && g < k; ++g) {
        p.r[static_cast<std::size_t>(g)] = 0;
        for (int j = 0; j < q; ++j)
          p.r[static_cast<std::size_t>(g)] +=
              groups_.rows(g, j) * ray.along[static_cast<std::size_t>(j)];
      }
      GroupTable table(*sigma_, *sigma_, p, scratch);
      const std::vector<Level>& levels = table.rung(KRules::n_trapezoid + panels[tier]).levels;
      const std::vector<double>& at = levels[0].k;
      Index count = 0;
      while (count < levels[0].size() &&
             std::abs(at[static_cast<std::size_t>(count)]) <= spectrum_range)
        ++count;
      const bool paired = at.size() > 1 && at[1] == -at[0];
      const Index stride = paired ? 2 : 1, panel_size = PanelShift::order * stride;
      count = std::min(levels[0].size(), (count + panel_size - 1) / panel_size * panel_size);
      const auto measure = [&](auto x) {  // rho^(q-1) on the ray's half
        return q == 1 ? x * 0.0 + 1.0 : q == 2 ? x : x * x;
      };
      for (Index i = 0; i < count; ++i) {
        const double here = at[static_cast<std::size_t>(i)];
        for (int g = 0; g < k; ++g) {
          Node node = levels[static_cast<std::size_t>(g)].nodes[static_cast<std::size_t>(i)];
          node.weight *= ray.weight * measure(std::abs(here));
          all.levels[static_cast<std::size_t>(g)].nodes.push_back(node);
        }
        for (const double part : ray.along) all.at.push_back(here * part);
      }
      add_halves(levels, stride, count, ray.weight, measure, out, e, e_re, e_im);
    }
    out.nodes = gather_nodes(all, static_cast<Index>(all.at.size()) / q);
    out.padded = static_cast<Index>(out.weight.size());
    // as the weights of the nodes
    double mass = 0;
    for (const double w : out.weight) mass += w;
    for (auto* x : {&out.weight, &out.weight_re, &out.weight_im})
      for (double& w : *x) w /= mass;
    for (std::size_t j = 0; j < e.size(); ++j) {
      out.e.insert(out.e.end(), e[j].begin(), e[j].end());
      out.e_re.insert(out.e_re.end(), e_re[j].begin(), e_re[j].end());
      out.e_im.insert(out.e_im.end(), e_im[j].begin(), e_im[j].end());
    }
    return out;
  }

  /// Appends the halves of a ray, on the axis and on the shifted line.
  template <class Measure>
  void add_halves(const std::vector<Level>& levels, Index stride, Index count, double share,
                  const Measure& measure, Columns& out, std::vector<std::vector<double>>& e,
                  std::vector<std::vector<double>>& e_re,
                  std::vector<std::vector<double>>& e_im) const {
    const std::size_t k = levels.size();
    const std::vector<double>& at = levels[0].k;
    const Index n = count / stride;
    const double shift = PanelShift::size(at.data(), stride, n);
    std::vector<Complex> mu1(k), u2(k);
    for (Index half = 0; half < stride; ++half) {
      const Index begin = static_cast<Index>(out.weight.size());
      for (Index first = 0; first < n; first += PanelShift::order) {
        const PanelShift panel(at.data() + first * stride + half, stride, shift);
        for (Index i = 0; i < PanelShift::order; ++i) {
          const auto node = static_cast<std::size_t>((first + i) * stride + half);
          for (std::size_t g = 0; g < k; ++g) {
            mu1[g] = u2[g] = 0;
            for (Index j = 0; j < PanelShift::order; ++j) {
              const Node& there =
                  levels[g].nodes[static_cast<std::size_t>((first + j) * stride + half)];
              mu1[g] += panel.share[i][j] * there.mu1, u2[g] += panel.share[i][j] * there.u2;
            }
          }
          const double here = std::abs(at[node]), weight = share * levels[0].nodes[node].weight;
          const Complex moved = weight * panel.factor[i] * measure(panel.at(here, shift));
          out.weight.push_back(weight * measure(here));
          out.weight_re.push_back(moved.real()), out.weight_im.push_back(moved.imag());
          const auto put = [&](int j, double x, const Complex& z) {
            const auto to = static_cast<std::size_t>(j);
            e[to].push_back(x), e_re[to].push_back(z.real()), e_im[to].push_back(z.imag());
          };
          for (std::size_t g = 0; g < k; ++g) {
            const Node& own = levels[g].nodes[node];
            for (std::size_t h = g; h < k; ++h)
              put(map_.at(static_cast<int>(g), static_cast<int>(h)),
                  own.mu1 * levels[h].nodes[node].mu1, mu1[g] * mu1[h]);
            put(map_.pairs + static_cast<int>(g), own.u2, u2[g]);
          }
        }
      }
      const Index filled = static_cast<Index>(out.weight.size());
      const auto room = static_cast<std::size_t>((filled + V::size - 1) / V::size * V::size);
      for (auto* x : {&out.weight, &out.weight_re, &out.weight_im}) x->resize(room, 0.0);
      for (auto* columns : {&e, &e_re, &e_im})
        for (std::vector<double>& x : *columns) x.resize(room, 0.0);
      out.halves.push_back({begin, filled, static_cast<Index>(room)});
    }
  }

  /// Re (1 + V) at a node.
  double real_part_at(const Columns& on, Index i, const State& v) const {
    double x = 1;
    for (std::size_t j = 0; j < v.size(); ++j)
      x += map_.twice[static_cast<int>(j)] *
           on.e[j * static_cast<std::size_t>(on.padded) + static_cast<std::size_t>(i)] *
           v[j].real();
    return x;
  }

  /// Vh packed, and M: averages of e_j w and of their products, on the axis or on the side without
  /// zeros.
  void sums(const Columns& on, const State& v) const {
    const std::size_t n = v.size(), padded = static_cast<std::size_t>(on.padded);
    for (auto* x : {&pr_, &pi_, &qr_, &qi_}) x->resize(n * padded);
    vh_.resize(n), m_.resize(n * n), mapped_.resize(n), column_.resize(n);
    for (const Segment& half : on.halves) {
      const int sign = PanelShift::side(half.begin, half.filled,
                                        [&](Index i) { return real_part_at(on, i, v); });
      const V turn(static_cast<double>(sign));
      const std::vector<double>& e_re = sign == 0 ? on.e : on.e_re;
      for (std::size_t i = static_cast<std::size_t>(half.begin);
           i < static_cast<std::size_t>(half.end); i += V::size) {
        V re(1.0), im(0.0);
        for (std::size_t j = 0; j < n; ++j) {
          const V twice(map_.twice[static_cast<int>(j)]),
              er = V::load(&e_re[j * padded + i]) * twice;
          const V ei = sign == 0 ? V(0.0) : turn * V::load(&on.e_im[j * padded + i]) * twice;
          re += er * V(v[j].real()) - ei * V(v[j].imag()),
              im += er * V(v[j].imag()) + ei * V(v[j].real());
        }
        const V inverse = V(1.0) / (re * re + im * im), wr = re * inverse, wi = -im * inverse;
        const V omega_r = V::load(sign == 0 ? &on.weight[i] : &on.weight_re[i]),
                omega_i = turn * V::load(&on.weight_im[i]);
        for (std::size_t j = 0; j < n; ++j) {
          const V er = V::load(&e_re[j * padded + i]),
                  ei = sign == 0 ? V(0.0) : turn * V::load(&on.e_im[j * padded + i]);
          const V pr = er * wr - ei * wi, pi = er * wi + ei * wr;
          pr.store(&pr_[j * padded + i]), pi.store(&pi_[j * padded + i]);
          (omega_r * pr - omega_i * pi).store(&qr_[j * padded + i]),
              (omega_r * pi + omega_i * pr).store(&qi_[j * padded + i]);
        }
      }
    }
    const auto total = [](const V& r, const V& i) {
      double re = 0, im = 0;
      for (int lane = 0; lane < V::size; ++lane) re += r[lane], im += i[lane];
      return Complex(re, im);
    };
    for (std::size_t j = 0; j < n; ++j) {
      V r(0.0), s(0.0);
      for (std::size_t i = 0; i < padded; i += V::size)
        r += V::load(&qr_[j * padded + i]), s += V::load(&qi_[j * padded + i]);
      vh_[j] = scales.ratio * total(r, s);
      for (std::size_t l = j; l < n; ++l) {
        V mr(0.0), mi(0.0);
        for (std::size_t i = 0; i < padded; i += V::size) {
          const V ar = V::load(&qr_[j * padded + i]), ai = V::load(&qi_[j * padded + i]),
                  br = V::load(&pr_[l * padded + i]), bi = V::load(&pi_[l * padded + i]);
          mr += ar * br - ai * bi, mi += ar * bi + ai * br;
        }
        m_[j * n + l] = m_[l * n + j] = scales.ratio * total(mr, mi);
      }
    }
  }

  /// Im V2_g > 0 and Im V1_gg > 0.
  bool upper(const State& v) const {
    for (int g = 0; g < map_.groups; ++g)
      for (int i : {map_.pairs + g, map_.at(g, g)}) {
        const Complex& x = v[static_cast<std::size_t>(i)];
        if (!(x.imag() > 0) || !std::isfinite(std::norm(x))) return false;
      }
    return true;
  }

  /// V2 at (Vh, A), from that of v; the plain step wherever Newton's leaves the half plane.
  bool inner(const State& v) const {
    const int k = map_.groups;
    for (int g = 0; g < k; ++g) map_.v2[g] = v[static_cast<std::size_t>(map_.pairs + g)];
    State next(static_cast<std::size_t>(k));
    double previous = 1e-3;
    for (int iteration = 0; iteration < 500; ++iteration) {
      map_.resolve();
      map_.newton(next.data());
      bool inside = true;
      for (const Complex& x : next) inside = inside && x.imag() > 0 && std::isfinite(std::norm(x));
      double step = 0;
      for (int g = 0; g < k; ++g) {
        Complex& x = next[static_cast<std::size_t>(g)];
        if (!inside) x = map_.pi[g] / (map_.a[g] + map_.gam[g * k + g]);
        step = std::max(step, std::abs(x - map_.v2[g]) / std::abs(x));
        map_.v2[g] = x;
      }
      if (!std::isfinite(step)) return false;
      if (step < 1e-15 ||
          (inside && step < previous && step * step * step < 1e-15 * previous * previous) ||
          (step < 1e-12 && step >= 0.5 * previous)) {
        map_.resolve(true);
        map_.prepare_traces();
        return true;
      }
      previous = std::min(0.03, step);
    }
    return false;
  }

  const Function* sigma_;
  GroupParameters groups_;
  std::vector<double> shares_;
  mutable GroupMap<Complex, dynamic_groups> map_;
  mutable std::array<std::optional<Columns>, spectrum_tiers> columns_;
  mutable std::vector<double> pr_, pi_, qr_, qi_;
  mutable State vh_, m_, mapped_, column_, next_, system_;
};

/// The spectrum of the features of several groups, with one spike or up to three.
Spectrum group_spectrum(const Function& sigma, const GroupParameters& p, double alpha, double beta,
                        const double* x, Index n);

}  // namespace srfx
