// The linear part for a bulk that is correlated with the spike and the target (THEORY 9 e, 10).
//
// A third feature, mu_c(k) = E[(z^2 - 1) sigma(r k + sqrt(c) z)]/(2 c), carries the spread of the
// row norms. With e = h - C, C = mu0 m + k mu1 theta + mu_c chi, and the hats th = a' E[k mu1 w e],
// ch = a' E[mu_c w e], ps = a' E[h1 mu1 w]:
//
//   (theta, psi, chi) = (K/B)(th, ps, ch)
//   E[mu0 w e] = ridge_m m,   ridge_m = B/(c alpha d g_m)   (0 in the limit d = inf)
//   (I - T M)(q1, q2) = T (a' E[u1 R0 w^2], a' E[u2 R0 w^2])
//                       + (hat^T (K + s K') hat, -c hat^T K' hat)/B^2
//
// in the unit-bulk convention: mu1 is not divided by sqrt(c), B = a' E[mu1^2 w], D = Omega/c, s = c
// A/B, K' = dK/ds, delta in units where its rows of K carry sqrt(c) each. The mean is a fourth hat,
// mh = a' E[mu0 w e] with K_mm = beta c d g_m. The source of q1' = q1 - psi^2 is hat^T (K + s K' -
// K_z K_z^T) hat, written with rest = 1 - K_zz.
//
// A target of several directions has a psi_m and its hat for each of them (THEORY 14): K has as
// many rows z, the terms with psi are sums over m.
#pragma once

#include "srfx/gaussian/higher_moments.hpp"
#include "srfx/data/kernel_fit.hpp"
#include "srfx/data/levels.hpp"
#include "srfx/data/linear_part.hpp"
#include "srfx/bulk/one_step.hpp"

namespace srfx {

/// Nodes in k with the third feature.
struct ThreeFeatures {
  NodeSet set;
  std::vector<double> muc;
  double error = 0;

  ThreeFeatures() = default;
  ThreeFeatures(const Function& sigma, const SpikeParameters& p, const Selection& rule)
      : set(rule.nodes),
        muc(norm_coefficients(sigma, p, rule.level->k.data(), rule.size)),
        error(rule.error) {
    double top = 0, size = 0, reach = 0;
    for (Index i = 0; i < set.size(); ++i) {
      const auto& node = set.nodes[i];
      top = std::max(top, std::abs(muc[i]));
      size += node.weight * (node.mu0 * node.mu0 + node.u1 + node.u2);
      reach = std::max(reach, std::abs(node.mu0));
    }
    // E (z^2 - 1) sigma carries the rounding errors of sigma itself.
    if (top * p.c < 1e-13 * std::max(std::sqrt(size), reach))
      std::fill(muc.begin(), muc.end(), 0.0);
  }
};

/// A solution, with the coefficient of the third feature.
template <class T> struct AnisotropicOrder : Order<T> {
  T chi;
};

namespace detail {

template <class T> T root_of(const T& x) { return simd::sqrt(x); }
/// Imaginary parts are infinitesimal.
inline std::complex<double> root_of(const std::complex<double>& x) {
  const double value = std::sqrt(x.real());
  return {value, 0.5 * x.imag() / value};
}

/// E[h1 mu1 w] and E[mu0^2 w]: all that this linear part wants beside the averages.
template <class T> struct SpikeSum {
  T sh1 = T(0), s00 = T(0);
  void add(Index, const NodeValues<T>& node, const T& ww) {
    sh1 += ww * node.mu1h1, s00 += ww * node.mu0 * node.mu0;
  }
};

/// The order in which the features are fitted, in the numbering of hats (v, z, delta, mean). A mean
/// that acts more than it costs is to be first: its K is large. Any other is last: of a small step
/// it is small, but not its slope, and what is made orthogonal to it would carry its rounding.
inline constexpr int mean_first[3] = {3, 0, 2}, mean_last[3] = {0, 2, 3};

/// Q^T of sqrt(weight w) (mu0, k mu1, mu_c | h), the columns in that order, by Gram and Schmidt,
/// twice where need be: no digit hangs on how parallel they are.
template <class T> struct Triangle {
  using Size = std::decay_t<decltype(real_part(T{}))>;
  T r[3][3], target[3];

  /// `work`: room for four numbers a node.
  template <class Features>
  Triangle(const Features& features, const T* weights, const int (&order)[3], T* work) {
    const auto& nodes = features.set;
    const Index n = nodes.size();
    T *column[3] = {work, work + n, work + 2 * n}, *const goal = work + 3 * n;
    const auto dot = [n](const T* a, const T* b) {
      T sum[4] = {T(0), T(0), T(0), T(0)};  // side by side: each is a chain of dependent additions
      Index i = 0;
      for (; i + 4 <= n; i += 4)
        for (int l = 0; l < 4; ++l) sum[l] += a[i + l] * b[i + l];
      for (; i < n; ++i) sum[0] += a[i] * b[i];
      return (sum[0] + sum[1]) + (sum[2] + sum[3]);
    };
    for (auto& row : r)
      for (T& entry : row) entry = T(0);
    for (Index i = 0; i < n; ++i) {
      const NodeValues<T> node = nodes.template at<T>(i);
      const T size = root_of(T(nodes.weight(i)) * weights[i]);
      column[0][i] = size * node.kmu1, column[1][i] = size * T(features.muc[i]);
      column[2][i] = size * node.mu0;
      goal[i] = size * node.h;
    }
    if (order[0] == 3) std::rotate(column, column + 2, column + 3);
    T scale[3];  // the columns are made orthogonal, but keep their sizes
    for (int j = 0; j < 3; ++j) {
      const T whole = dot(column[j], column[j]);
      T square = whole;
      for (int pass = 0; pass < 2 && j > 0; ++pass) {
        // Once is enough for what keeps most of its square.
        const auto again = real_part(square) < Size(0.25) * magnitude(whole);
        if (pass == 1 && !simd::any(again)) break;
        for (int q = 0; q < j; ++q) {
          T shared = dot(column[q], column[j]) * scale[q];
          if (pass == 1) shared = choose(again, shared, T(0));
          r[q][j] += shared;
          shared *= scale[q];
          for (Index i = 0; i < n; ++i) column[j][i] -= shared * column[q][i];
        }
        square = dot(column[j], column[j]);
      }
      // An infinitesimal column, of a first step, acts in second order only.
      const auto there =
          real_part(square) > simd::max(Size(1e-30) * magnitude(whole), Size(1e-290));
      const T root = root_of(square);
      r[j][j] = choose(there, root, T(0));
      scale[j] = choose(there, T(1) / root, T(0));
      target[j] = dot(column[j], goal) * scale[j];
    }
  }
};

/// K of (v, z_1, .., z_L', delta, mean), the mean's for finite d.
template <class T> struct Kernel {
  static constexpr int most = Overlaps<T>::most + 3;
  int size;
  Along<T> k[most][most];
  Kernel(const Overlaps<T>& from, const Point<T>& p) : size(from.size() + 1) {
    const int mean = size - 1;
    for (int i = 0; i < mean; ++i) {
      for (int j = 0; j < mean; ++j) k[i][j] = from.k[i][j];
      if (from.crossed) k[i][mean] = k[mean][i] = from.cross[i];
    }
    const auto finite = magnitude(p.inverse_d) > 0;
    const T cost = choose(finite, p.beta * from.c / p.inverse_d, T(0));
    k[mean][mean] = Along<T>(cost) * from.mean;
  }
  /// The place of a feature in the numbering of one z: v, z, delta, mean.
  int place(int feature) const { return feature < 2 ? feature : feature + size - 4; }
};

/// Coefficients and hats, in the numbering of the kernel.
template <class T> struct Fit {
  T value[Kernel<T>::most], hat[Kernel<T>::most];
};

/// Solves hats = a' E[f w (h - C)], coefficients = (K/B) hats for the features of `x`, given the
/// hats ps of the z; `free`: the mean costs nothing, and is first.
template <class T>
Fit<T> fit_features(const Triangle<T>& x, const int (&order)[3], bool free, const Kernel<T>& kernel,
                    const Point<T>& p, const T& big_b, const T* ps) {
  const T inverse_b = T(1) / big_b;
  const int n_z = kernel.size - 3;
  T k[9], kz[3], hats[3], values[3], work[21];
  for (int i = 0; i < 3; ++i) {
    const auto& row = kernel.k[kernel.place(order[i])];
    kz[i] = row[1].v * ps[0] * inverse_b;
    for (int m = 1; m < n_z; ++m) kz[i] += row[1 + m].v * ps[m] * inverse_b;
    for (int j = 0; j < 3; ++j) k[3 * i + j] = row[kernel.place(order[j])].v * inverse_b;
  }
  fit_against_kernel(3, 3, free ? 1 : 0, &x.r[0][0], x.target, k, kz, p.ratio, hats, values, work);
  Fit<T> out;
  for (int i = 0; i < 3; ++i) {
    const int place = kernel.place(order[i]);
    out.hat[place] = hats[i], out.value[place] = values[i];
  }
  for (int m = 1; m <= n_z; ++m) out.hat[m] = ps[m - 1];
  for (int m = 1; m <= n_z; ++m) {
    out.value[m] = T(0);
    for (int j = 0; j < kernel.size; ++j) out.value[m] += kernel.k[m][j].v * out.hat[j] * inverse_b;
  }
  return out;
}

template <class M, class T> Fit<T> choose(const M& m, const Fit<T>& a, const Fit<T>& b, int size) {
  Fit<T> out;
  for (int i = 0; i < size; ++i) {
    out.value[i] = choose(m, a.value[i], b.value[i]);
    out.hat[i] = choose(m, a.hat[i], b.hat[i]);
  }
  return out;
}

}  // namespace detail

/// The linear part at given V, and how well the whole system is satisfied. `bulk` yields averages()
/// and overlaps(); `work` is room for five numbers a node; `psi_across`, if given, for the psi of
/// the target's directions but the first. Complex numbers carry infinitesimal imaginary parts:
/// derivatives along a line (step_gradient.hpp).
template <class T, class Bulk, class Features>
AnisotropicOrder<T> anisotropic_part(const Bulk& bulk, const Point<T>& p, const Features& features,
                                     const T& v1, const T& v2, T* work, T* psi_across = nullptr) {
  const auto& nodes = features.set;
  T *const weights = work, *const room = work + nodes.size();
  const auto at = settle<detail::SpikeSum<T>>(bulk, p, nodes, v1, v2, weights);
  const Averages<T>& s = at.averages;
  const T ratio = p.ratio, a = p.lam + ratio * s.e2, big_b = at_least(ratio * s.e1, a);
  const Overlaps<T> k = bulk.overlaps(a, big_b, p.beta);
  const detail::Kernel<T> kernel(k, p);
  const auto mean = real_part(at.own.s00);
  using Real = std::decay_t<decltype(mean)>;
  using Truth = simd::TruthOf<Real>;
  const Truth costs = Truth((magnitude(p.inverse_d) > Real(0)) & (mean > Real(1e-290)));
  const int n_z = k.directions, at_delta = k.delta(), at_mean = k.size();
  const Truth acts =
      mean * magnitude(real_part(ratio * kernel.k[at_mean][at_mean].v / big_b)) > Real(1);
  T psi_hats[Overlaps<T>::most];
  psi_hats[0] = ratio * at.own.sh1;
  for (int m = 1; m < n_z; ++m) psi_hats[m] = ratio * across_sum(nodes, weights, m - 1);
  // Lanes may differ in how they are to be fitted.
  detail::Fit<T> fit{};
  const auto fit_where = [&](const Truth& lanes, const int (&order)[3], bool free) {
    if (!simd::any(lanes)) return;
    const detail::Triangle<T> design(features, weights, order, room);
    const detail::Fit<T> found =
        detail::fit_features(design, order, free, kernel, p, big_b, psi_hats);
    fit = detail::choose(lanes, found, fit, kernel.size);
  };
  fit_where(!costs, detail::mean_first, true);
  fit_where(Truth(costs & acts), detail::mean_first, false);
  fit_where(Truth(costs & !acts), detail::mean_last, false);
  AnisotropicOrder<T> out;
  out.theta = fit.value[0], out.psi = fit.value[1], out.chi = fit.value[at_delta],
  out.m = fit.value[at_mean];

  T pull[4] = {T(0), T(0), T(0), T(0)};  // of the features that the hats stand for
  Real size_c(0);
  const auto left = [&](Index i, const NodeValues<T>& node) {
    return node.h - (node.mu0 * out.m + node.kmu1 * out.theta + T(features.muc[i]) * out.chi);
  };
  Misfit<T> r = misfit<T>(
      nodes, weights, p.noise, out.psi, left,
      [&](Index i, const NodeValues<T>& node, const T& e, const T& we) {
        pull[0] += we * node.kmu1, pull[2] += we * T(features.muc[i]), pull[3] += we * node.mu0;
        size_c += magnitude(T(nodes.weight(i)) * weights[i] * node.h * (node.h - e));
      });
  Across<T> across;
  for (int m = 1; m < n_z; ++m) {
    add_across(nodes, weights, m - 1, fit.value[1 + m], psi_hats[m] / ratio, s.e1, across, r);
    if (psi_across != nullptr) psi_across[m - 1] = fit.value[1 + m];
  }
  T source1(0), source2(0);
  for (int i = 0; i < kernel.size; ++i)
    for (int j = 0; j < kernel.size; ++j) {
      const Along<T>& entry = kernel.k[i][j];
      const T hats = fit.hat[i] * fit.hat[j] / (big_b * big_b);
      const bool i_z = i >= 1 && i <= n_z, j_z = j >= 1 && j <= n_z;
      T first;  // (K + s K' - K_z K_z^T)_ij
      if (i_z || j_z) {
        const Along<T>* const rest = k.rest[(i_z ? i : j) - 1];
        const int other = i_z ? j : i;
        first = rest[0].v * kernel.k[1][other].v;
        for (int m = 1; m < n_z; ++m) first += rest[m].v * kernel.k[1 + m][other].v;
        if (i_z && j_z) first -= k.s * rest[j - 1].d;
        else first += k.s * entry.d;
      } else {
        first = entry.v + k.s * entry.d - kernel.k[i][1].v * kernel.k[1][j].v;
        for (int m = 1; m < n_z; ++m) first -= kernel.k[i][1 + m].v * kernel.k[1 + m][j].v;
      }
      source1 += first * hats;
      source2 -= k.c * entry.d * hats;
    }
  FitDefect<T> judged;
  if constexpr (!carries_slope<T>) {
    judged.explained = out.m * pull[3] + out.theta * pull[0] + out.chi * pull[2] + across.explained;
    judged.size = size_c + across.size;
    const T linear = simd::abs(out.theta * (pull[0] - fit.hat[0] / ratio)) +
                     simd::abs(out.chi * (pull[2] - fit.hat[at_delta] / ratio));
    judged.defect = simd::max(linear, simd::abs(out.m * (pull[3] - fit.hat[at_mean] / ratio)));
  }
  complete(p, at, nodes, r, source1, source2, at.own.sh1, judged, out);
  // mu1 = 0: q1' means nothing
  out.q1 = detail::choose(magnitude(s.e1) > Real(0), out.q1, out.psi * out.psi) + across.square;
  if constexpr (!carries_slope<T>) out.residual = simd::max(out.residual, k.defect);
  return out;
}

}  // namespace srfx
