// The linear part for a bulk that is correlated with the spike and the target (THEORY 9 e, 10), and the batch of such solves.
//
// A third feature, mu_c(k) = E[(z^2 - 1) sigma(r k + sqrt(c) z)]/(2 c), carries the spread of the row norms. With e = h - C,
// C = mu0 m + k mu1 theta + mu_c chi, and the hats th = a' E[k mu1 w e], ch = a' E[mu_c w e], ps = a' E[h1 mu1 w]:
//
//   (theta, psi, chi) = (K/B)(th, ps, ch),   E[mu0 w e] = ridge_m m,   ridge_m = B/(c alpha d g_m) (0 in the limit d = inf)
//   (I - T M)(q1, q2) = T (a' E[u1 R0 w^2], a' E[u2 R0 w^2]) + (hat^T (K + s K') hat, -c hat^T K' hat)/B^2 + the mean's
//
// in the unit-bulk convention: mu1 is not divided by sqrt(c), B = a' E[mu1^2 w], D = Omega/c, s = c A/B, K' = dK/ds, delta in
// units where its rows of K carry sqrt(c) each. Below, q1' = q1 - psi^2 keeps small errors free of cancellation, as in
// equations.hpp; its source hat^T (K + s K' - K_z K_z^T) hat is written with rest = 1 - K_zz.
#pragma once

#include "one_step.hpp"
#include "scan.hpp"

#include <Eigen/LU>

#include <memory>

namespace srfx {

/// mu_c at many k.
inline std::vector<double> norm_coefficients(const Function& sigma, const SpikeParameters& p, const double* k, Index n) {
  const GaussianRule rule(sigma.shape(), p.sd(), 2);
  std::vector<double> out(n), x, f;
  Rule own;
  std::vector<Index> first;
  constexpr Index block = 64;
  for (Index i = 0; i < n; i += block) {
    const Index count = std::min(block, n - i);
    own.clear(), first.assign(1, 0);
    if (!rule.shared()) {
      for (Index j = 0; j < count; ++j) rule.at(p.r * k[i + j], own), first.push_back(own.size());
      own.finish();
    }
    x.clear();
    for (Index j = 0; j < count; ++j) {
      const Rule& nodes = rule.shared() ? rule.nodes() : own;
      const Index begin = rule.shared() ? 0 : first[j], end = rule.shared() ? nodes.size() : first[j + 1];
      for (Index q = begin; q < end; ++q) x.push_back(p.r * k[i + j] + p.sd() * nodes.x[q]);
    }
    f.resize(x.size());
    sigma.evaluate(x.data(), f.data(), static_cast<Index>(x.size()));
    Index at = 0;
    for (Index j = 0; j < count; ++j) {
      const Rule& nodes = rule.shared() ? rule.nodes() : own;
      const Index begin = rule.shared() ? 0 : first[j], end = rule.shared() ? nodes.size() : first[j + 1];
      double sum = 0;
      for (Index q = begin; q < end; ++q, ++at) sum += nodes.w[q] * (nodes.x[q] * nodes.x[q] - 1) * f[at];
      out[i + j] = sum / (2 * p.c);
    }
  }
  return out;
}

/// Nodes in k with the third feature.
struct ThreeFeatures {
  NodeSet set;
  std::vector<double> muc;
  double error = 0;

  ThreeFeatures() = default;
  ThreeFeatures(const Function& sigma, const SpikeParameters& p, const Selection& rule)
      : set(rule.nodes), muc(norm_coefficients(sigma, p, rule.level->k.data(), rule.size)), error(rule.error) {
    double top = 0, size = 0, reach = 0;
    for (Index i = 0; i < set.size(); ++i) {
      const auto& node = set.nodes[i];
      top = std::max(top, std::abs(muc[i]));
      size += node.weight * (node.mu0 * node.mu0 + node.u1 + node.u2);
      reach = std::max(reach, std::abs(node.mu0));
    }
    // E (z^2 - 1) sigma carries the rounding errors of sigma itself.
    if (top * p.c < 1e-13 * std::max(std::sqrt(size), reach)) std::fill(muc.begin(), muc.end(), 0.0);
  }
};

/// A solution, with the coefficient of the third feature.
template <class T> struct AnisotropicOrder : Order<T> {
  T chi;
};

/// The linear part at given V, and how well the whole system is satisfied. `bulk` yields averages() and overlaps(). With `exact`,
/// I - T M at the real parts, imaginary parts are infinitesimal: derivatives along a line (step_gradient.hpp).
template <class T, class Bulk, class Features>
AnisotropicOrder<T> anisotropic_part(const Bulk& bulk, const Point<T>& p, const Features& features, T v1, T v2,
                                     const BalancedSystem<double>* exact = nullptr) {
  using std::sqrt;
  const auto& set = features.set;
  const Index n = set.size();
  std::vector<T> weights(n);
  MapSums<T> s;
  T sh1, f0, f1, f2;
  MapValue<T> map;
  T j11, j12, j21, j22, inverse_det, step1, step2;
  AnisotropicOrder<T> out;
  out.amplification = T(1);
  for (int pass = 0;; ++pass) {
    s = {T(0), T(0), T(0), T(0), T(0)};
    sh1 = f0 = f1 = f2 = T(0);
    for (Index i = 0; i < n; ++i) {
      const auto& node = set.nodes[i];
      const T w = T(1) / (p.unit + T(node.u1) * v1 + T(node.u2) * v2), ww = T(node.weight) * w;
      weights[i] = w;
      const T a = T(node.u1) * w, b = T(node.u2) * w, wa = T(node.weight) * a, wb = T(node.weight) * b;
      f0 += ww;
      s.e1 += wa;
      s.e2 += wb;
      f1 += wa * w;
      f2 += wb * w;
      s.e11 += wa * a;
      s.e12 += wa * b;
      s.e22 += wb * b;
      sh1 += ww * T(node.mu1h1);
    }
    map = map_value(bulk, p, s);
    if constexpr (std::is_same_v<T, double>) {
      const BalancedSystem<double> system(p, map, v1, v2, f0, f1, f2);
      j11 = system.j11, j22 = system.j22, j12 = -system.o12, j21 = -system.o21, inverse_det = system.inverse;
      step1 = system.step1, step2 = system.step2;
      out.amplification = std::max(1.0, system.amplification);
    } else {
      j11 = map.j11, j12 = map.j12, j21 = map.j21, j22 = map.j22, inverse_det = T(1) / map.determinant;
      map.solve(map.bulk.y1 - v1, map.bulk.y2 - v2, step1, step2);
    }
    const double step = std::max(magnitude(step1) / magnitude(v1), magnitude(step2) / magnitude(v2));
    if (pass == 4 || exact != nullptr || !(step > 2e-13 && step < 0.1)) break;
    v1 += step1, v2 += step2;
  }
  const double step = std::max(magnitude(step1) / magnitude(v1), magnitude(step2) / magnitude(v2));
  const auto solve = [&](T c1, T c2, T& x1, T& x2) {
    if constexpr (std::is_same_v<T, std::complex<double>>)
      if (exact != nullptr) {
        double r1, r2, i1, i2;
        exact->solve(c1.real(), c2.real(), r1, r2);
        exact->solve(c1.imag() - j11.imag() * r1 - j12.imag() * r2, c2.imag() - j21.imag() * r1 - j22.imag() * r2, i1, i2);
        x1 = {r1, i1}, x2 = {r2, i2};
        return;
      }
    x1 = (j22 * c1 - j12 * c2) * inverse_det;
    x2 = (j11 * c2 - j21 * c1) * inverse_det;
  };
  const SpectralAverages<T>& t = map.bulk;
  const T ratio = p.ratio, big_b = at_least(ratio * s.e1, p.lam + ratio * s.e2);
  const Overlaps<T> k = bulk.overlaps(p.lam + ratio * s.e2, big_b, p.beta);
  const T inverse_b = T(1) / big_b;
  const T ps = ratio * sh1;

  // Orthonormal columns (Gram and Schmidt, twice) of sqrt(weight w) (mu0, k mu1, mu_c): no digit hangs on how parallel they are.
  std::vector<T> root(n), column[3];
  const auto root_of = [&](const T& x) -> T {
    if constexpr (std::is_same_v<T, std::complex<double>>)
      if (exact != nullptr) {
        const double value = sqrt(x.real());
        return {value, 0.5 * x.imag() / value};
      }
    return sqrt(x);
  };
  for (Index i = 0; i < n; ++i) root[i] = root_of(T(set.nodes[i].weight) * weights[i]);
  T r[3][3] = {}, target[3] = {};
  for (int j = 0; j < 3; ++j) {
    column[j].resize(n);
    for (Index i = 0; i < n; ++i) {
      const auto& node = set.nodes[i];
      column[j][i] = root[i] * T(j == 0 ? node.mu0 : j == 1 ? node.kmu1 : features.muc[i]);
    }
    T whole(0);
    for (Index i = 0; i < n; ++i) whole += column[j][i] * column[j][i];
    for (int pass = 0; pass < 2; ++pass)
      for (int q = 0; q < j; ++q) {
        T dot(0);
        for (Index i = 0; i < n; ++i) dot += column[q][i] * column[j][i];
        for (Index i = 0; i < n; ++i) column[j][i] -= dot * column[q][i];
        r[q][j] += dot;
      }
    T square(0);
    for (Index i = 0; i < n; ++i) square += column[j][i] * column[j][i];
    // An infinitesimal column, of a first step, acts in second order only.
    const double size = exact != nullptr ? real_part(square) : magnitude(square);
    const bool empty = !(size > 1e-30 * magnitude(whole)) || !(size > 1e-290);
    r[j][j] = empty ? T(0) : root_of(square);
    const T scale = empty ? T(0) : T(1) / r[j][j];
    for (Index i = 0; i < n; ++i) column[j][i] *= scale;
    for (Index i = 0; i < n; ++i) target[j] += column[j][i] * root[i] * T(set.nodes[i].h);
  }
  // eta = Q^T sqrt(w) e. Of the mean: eta_0 = free (target_0 - r_0f c2), free = ridge_m/(ridge_m + r_00^2); of the others
  // eta_f = target_f - R_f c2, with c2 = (theta, chi) = (a'/B) K2 (r_0f eta_0 + R_f^T eta_f) + K_.z ps/B.
  const T ridge_m = p.inverse_d * big_b / (k.c * p.alpha * k.mean.v);
  const bool no_mean = magnitude(r[0][0]) == 0;
  const T free = no_mean ? T(0) : ridge_m / (ridge_m + r[0][0] * r[0][0]);
  const T kz[2] = {k.k[0][1].v, k.k[2][1].v}, k2[2][2] = {{k.k[0][0].v, k.k[0][2].v}, {k.k[2][0].v, k.k[2][2].v}};
  // Unknown y = R_0f eta_0 + R_f^T eta_f = hats/a'. y = base - N c2, N = free r_0f r_0f^T + R_f^T R_f.
  const T r0[2] = {r[0][1], r[0][2]};
  const T rf[2][2] = {{r[1][1], r[1][2]}, {T(0), r[2][2]}};
  T base[2], normal[2][2];
  for (int i = 0; i < 2; ++i) {
    base[i] = free * r0[i] * target[0] + rf[0][i] * target[1] + rf[1][i] * target[2];
    for (int j = 0; j < 2; ++j) normal[i][j] = free * r0[i] * r0[j] + rf[0][i] * rf[0][j] + rf[1][i] * rf[1][j];
  }
  // (1 + (a'/B) N K2) y = base - N K_.z ps/B
  T m[2][2], rhs[2];
  for (int i = 0; i < 2; ++i) {
    rhs[i] = base[i] - (normal[i][0] * kz[0] + normal[i][1] * kz[1]) * ps * inverse_b;
    for (int j = 0; j < 2; ++j)
      m[i][j] = (i == j ? T(1) : T(0)) + ratio * inverse_b * (normal[i][0] * k2[0][j] + normal[i][1] * k2[1][j]);
  }
  const T det = m[0][0] * m[1][1] - m[0][1] * m[1][0];
  const T y[2] = {(m[1][1] * rhs[0] - m[0][1] * rhs[1]) / det, (m[0][0] * rhs[1] - m[1][0] * rhs[0]) / det};
  T th = ratio * y[0], ch = ratio * y[1];
  out.theta = (k2[0][0] * th + k2[0][1] * ch + kz[0] * ps) * inverse_b;
  out.chi = (k2[1][0] * th + k2[1][1] * ch + kz[1] * ps) * inverse_b;
  out.psi = (kz[0] * th + kz[1] * ch + k.k[1][1].v * ps) * inverse_b;
  out.m = no_mean ? T(0) : r[0][0] / (ridge_m + r[0][0] * r[0][0]) * (target[0] - r0[0] * out.theta - r0[1] * out.chi);
  T mh(0);  // the hat of the mean, where it is one like the others
  const bool crossed = k.crossed && !no_mean;
  const T k_mm = crossed ? p.beta * k.c * k.mean.v / p.inverse_d : T(0);
  if (crossed) {  // given weights: (m, theta, chi) together, in the same way
    using Matrix3 = Eigen::Matrix<T, 3, 3>;
    using Vector3 = Eigen::Matrix<T, 3, 1>;
    Matrix3 full, triangle;
    full << k_mm, k.cross[0].v, k.cross[2].v, k.cross[0].v, k2[0][0], k2[0][1], k.cross[2].v, k2[1][0], k2[1][1];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) triangle(i, j) = r[i][j];
    const Vector3 of_z = Vector3(k.cross[1].v, kz[0], kz[1]) * (ps * inverse_b), aim(target[0], target[1], target[2]);
    const Matrix3 gram = triangle.transpose() * triangle;
    const Matrix3 system = Matrix3::Identity() + (ratio * inverse_b) * gram * full;
    const Vector3 hats = ratio * system.partialPivLu().solve(triangle.transpose() * aim - gram * of_z);
    const Vector3 values = full * hats * inverse_b + of_z;
    mh = hats(0), th = hats(1), ch = hats(2);
    out.m = values(0), out.theta = values(1), out.chi = values(2);
    out.psi = (k.cross[1].v * mh + kz[0] * th + kz[1] * ch + k.k[1][1].v * ps) * inverse_b;
  }

  T r0w(0), r1w(0), r2w(0), error(0), loss(0), g0(0), g1(0), g2(0), explained(0);
  double size_c = 0;
  for (Index i = 0; i < n; ++i) {
    const auto& node = set.nodes[i];
    const T w = weights[i], omega(node.weight), ww = omega * w, w2 = ww * w;
    const T c = T(node.mu0) * out.m + T(node.kmu1) * out.theta + T(features.muc[i]) * out.chi;
    const T e = T(node.h) - c, f = T(node.h1) - T(node.mu1) * out.psi;
    const T rest = T(node.rest) + e * e + f * f, noisy = rest + p.noise;
    error += omega * rest;
    const T w2r = w2 * noisy, we = ww * e;
    r0w += w2r;
    r1w += T(node.u1) * w2r;
    r2w += T(node.u2) * w2r;
    loss += ww * noisy;
    g0 += we * T(node.mu0);
    g1 += we * T(node.kmu1);
    g2 += we * T(features.muc[i]);
    explained += we * c;
    if (exact == nullptr) size_c += magnitude(ww * T(node.h) * c);
  }
  // Sources of (q1', q2); hats in the order v, z, delta.
  const T hat[3] = {th, ps, ch};
  T source1(0), source2(0);
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      const T hh = hat[i] * hat[j] * inverse_b * inverse_b;
      T first;  // (K + s K' - K_z K_z^T)_ij
      if (i == 1 && j == 1) first = k.rest.v * k.k[1][1].v - k.s * k.rest.d;
      else if (i == 1 || j == 1) first = k.rest.v * k.k[i][j].v + k.s * k.k[i][j].d;
      else first = k.k[i][j].v + k.s * k.k[i][j].d - k.k[i][1].v * k.k[1][j].v;
      source1 += first * hh;
      source2 -= k.c * k.k[i][j].d * hh;
    }
  if (crossed) {
    const T scale = inverse_b * inverse_b, k_mm_slope = p.beta * k.c * k.mean.d / p.inverse_d;
    for (int i = 0; i < 3; ++i) {
      const T hh = T(2) * mh * hat[i] * scale;
      const T product = k.cross[1].v * k.k[1][i].v;
      source1 += hh * (i == 1 ? k.rest.v * k.cross[1].v + k.s * k.cross[1].d : k.cross[i].v + k.s * k.cross[i].d - product);
      source2 -= hh * k.c * k.cross[i].d;
    }
    source1 += mh * mh * scale * (k_mm + k.s * k_mm_slope - k.cross[1].v * k.cross[1].v);
    source2 -= mh * mh * scale * k.c * k_mm_slope;
  } else {
    const T mean = p.inverse_d * out.m * out.m / (p.beta * k.mean.v * k.mean.v);
    source1 += mean * (k.mean.v + k.s * k.mean.d) / k.c;
    source2 -= mean * k.mean.d;
  }
  const T n1 = ratio * r1w, n2 = ratio * r2w;
  T q1c;
  solve(t.t11 * n1 + t.t12 * n2 + source1, t.t12 * n1 + t.t22 * n2 + source2, q1c, out.q2);
  if (magnitude(s.e1) == 0) q1c = T(0);  // mu1 = 0: q1 means nothing
  out.q1 = q1c + out.psi * out.psi;
  out.v1 = v1, out.v2 = v2;
  out.test_error = error + T(set.mean_u1) * q1c + T(set.mean_u2) * out.q2;
  out.train_error = p.unit * (r0w + f1 * q1c + f2 * out.q2);

  // Defects: the map, the three hats, the mean, the energy identity.
  const T energy = loss + explained + out.psi * (sh1 - out.psi * s.e1);
  const double size = magnitude(loss) + size_c + magnitude(out.psi * sh1) + magnitude(s.e1 * q1c) + magnitude(s.e2 * out.q2);
  const double defect_energy = magnitude(out.train_error + p.lam / ratio * out.q2 - energy);
  const double defect_linear = magnitude(out.theta * (ratio * g1 - th)) + magnitude(out.chi * (ratio * g2 - ch));
  const double defect_mean = no_mean ? 0.0 : magnitude(out.m * (g0 - (crossed ? mh / ratio : ridge_m * out.m)));
  const double defect_map = std::max(magnitude(t.y1 - v1) / magnitude(v1), magnitude(t.y2 - v2) / magnitude(v2));
  out.residual = T(std::max({defect_map, step, k.defect, defect_energy / size, defect_linear / (magnitude(ratio) * size), defect_mean / size}));
  return out;
}

// --- batches -------------------------------------------------------------------------------------------------------

/// One coefficient set: what its points share. Made when first asked for, under the mutex.
template <class Source> struct AnisotropicSet {
  std::mutex mutex;
  CoefficientScratch scratch;
  std::unique_ptr<typename Source::Shared> shared;
  std::optional<Coefficients> coefficients;
  std::optional<LevelTable> table;
  NodeSet starter;
  std::array<std::unique_ptr<ThreeFeatures>, n_classes> features;

  void clear() {
    for (auto& f : features) f.reset();
    table.reset(), coefficients.reset(), shared.reset();
  }
  void prepare(const BatchInput& in, const Source& source, Index set) {
    const std::lock_guard<std::mutex> lock(mutex);
    if (shared) return;
    auto made = source.shared(set);
    coefficients.emplace(*in.sigma, *in.target, made->spike(), scratch);
    table.emplace(*coefficients);
    starter = table->starter();
    shared = std::move(made);
  }
  const ThreeFeatures& find(const BatchInput& in, int cls) {
    const std::lock_guard<std::mutex> lock(mutex);
    auto& out = features[cls];
    if (!out) out = std::make_unique<ThreeFeatures>(*in.sigma, shared->spike(), table->find(cls));
    return *out;
  }
};

/// What these solves yield beside the rest: the coefficient of the third feature, and the spike the point was solved with.
struct AnisotropicOutput : BatchOutput {
  double *chi, *r, *c, *gamma;
};

/// Solves every point of a batch, lam > 0. A Source yields, for each set, what its bulks share, and from that a bulk a point.
template <class Source>
void solve_anisotropic(const Source& source, const BatchInput& in, const AnisotropicOutput& out, Interrupt& interrupt) {
  const Index n = in.n_points, n_sets = source.size();
  const auto set_of = [&](Index i) { return static_cast<Index>(in.set_index[i * in.set_stride]); };
  std::vector<Index> begin(n_sets + 1, 0), order(n);
  for (Index i = 0; i < n; ++i) ++begin[set_of(i) + 1];
  for (Index s = 0; s < n_sets; ++s) begin[s + 1] += begin[s];
  {
    std::vector<Index> next(begin.begin(), begin.end() - 1);
    for (Index i = 0; i < n; ++i) order[next[set_of(i)]++] = i;
  }
  struct Block {
    Index set, begin, end;
  };
  constexpr Index block_size = 64;
  const int n_threads = std::max(1, in.n_threads);
  const Index chunk = std::min<Index>(n_sets, 16 * n_threads);
  std::vector<AnisotropicSet<Source>> states(chunk);
  std::vector<Block> blocks;

  const auto solve_point = [&](AnisotropicSet<Source>& state, Index i) {
    Point<double> p{in.alpha[i], in.beta[i], in.lam[i], in.noise[i], in.inverse_d[i], 1, in.alpha[i] / in.beta[i]};
    const auto bulk = state.shared->bulk();
    const double start = 1 / p.lam;
    NewtonResult<double> v = newton(bulk, p, state.starter, start, start, {60, 1e-4});
    int iterations = static_cast<int>(v.iterations);
    if (!(v.v1 > 0 && v.v2 > 0 && v.v2 < infinity)) v.v1 = v.v2 = start;
    const ThreeFeatures& features = state.find(in, class_of(v.v1, v.v2));
    v = newton(bulk, p, features.set, v.v1, v.v2);
    iterations += static_cast<int>(v.iterations);
    const AnisotropicOrder<double> x = anisotropic_part(bulk, p, features, v.v1, v.v2);
    const Status status = detail::judge(x);
    if (status == Status::converged && std::isfinite(x.chi)) {
      detail::store(out, i, x, status, iterations, features.error + state.shared->error(bulk));
      out.chi[i] = x.chi;
    } else {
      detail::store_failure(out, i, status == Status::converged ? Status::non_finite : status, iterations, x.residual);
      out.chi[i] = std::numeric_limits<double>::quiet_NaN();
    }
    const SpikeParameters& spike = state.shared->spike();
    out.r[i] = spike.r, out.c[i] = spike.c, out.gamma[i] = spike.gamma;
  };
  for (Index first = 0; first < n_sets; first += chunk) {
    for (auto& state : states) state.clear();
    blocks.clear();
    for (Index set = first; set < std::min(first + chunk, n_sets); ++set)
      for (Index lo = begin[set]; lo < begin[set + 1]; lo += block_size)
        blocks.push_back({set, lo, std::min(lo + block_size, begin[set + 1])});
    parallel_for(static_cast<Index>(blocks.size()), n_threads, interrupt, [&](Index j, int) {
      const Block& block = blocks[j];
      AnisotropicSet<Source>& state = states[block.set - first];
      state.prepare(in, source, block.set);
      for (Index i = block.begin; i < block.end; ++i) solve_point(state, order[i]);
    });
  }
}

/// The sets of actual one-step networks: distinct (eta, alpha0, noise) of one activation and target.
class OneStepSource {
 public:
  struct Parameters {
    double eta, inverse_alpha0, noise;
  };
  enum class Path { automatic, matrix };

  OneStepSource(const Function& sigma, const Function& derivative, const Function& target, double readout, std::vector<Parameters> sets,
                Path path = Path::automatic)
      : constants_(step_constants(sigma, derivative)), target_(&target), readout_(readout), sets_(std::move(sets)), path_(path) {}

  Index size() const { return static_cast<Index>(sets_.size()); }
  const StepConstants& constants() const { return constants_; }
  const Parameters& parameters(Index set) const { return sets_[set]; }
  double readout() const { return readout_; }
  bool automatic() const { return path_ == Path::automatic; }

  class Shared {
   public:
    StepModel step;
    ResidualNodes nodes;
    double nodes_error = 0;      ///< at the poles of any solve, constants included
    double constants_error = 0;
    ResidualNodes check;         ///< kept where some poles are too near the real axis for `nodes`
    const SpikeParameters& spike() const { return step.spike; }
    OneStepBulk<double> bulk() const { return OneStepBulk<double>(step, nodes); }
    /// At the state of a solved point, where what any solve may meet says too little.
    double error(const OneStepBulk<double>& solved) const {
      return check.size() == 0 || solved.failed() ? nodes_error : solved.compare(check) + constants_error;
    }
  };
  std::unique_ptr<Shared> shared(Index set) const {
    const Parameters& p = sets_[set];
    auto out = std::make_unique<Shared>();
    const bool allow = path_ == Path::automatic;
    // A rule good enough for moments tells how close to 0 poles in u may come.
    const ResidualRule plain = residual_rule(*target_, readout_ * constants_.h0, p.noise, 1.0, 1.5, 16);
    const ResidualMoments rough(plain);
    out->step = StepModel(constants_, rough, readout_, p.eta, p.inverse_alpha0, allow);
    if (!out->step.stepped) {
      out->nodes = ResidualNodes(plain, allow && constants_.h2 == 0 && constants_.b12 == 0);  // a first step's derivative asks for moments
      return out;
    }
    const double top = std::sqrt(std::max(rough.u[2], 1e-300));
    const double delta = std::exp2(std::floor(std::log2(std::clamp(out->step.pole(), 1e-9 * top, 4 * top))));
    const double angle = out->step.angle(), ratio = std::clamp(3 * angle, 0.25, 1.5);
    const ResidualRule fine = residual_rule(*target_, readout_ * constants_.h0, p.noise, delta, ratio, 16);
    out->step = StepModel(constants_, ResidualMoments(fine), readout_, p.eta, p.inverse_alpha0, allow);
    const bool folded = out->step.scalar;
    const ResidualNodes all(fine, folded);
    ResidualNodes check(residual_rule(*target_, readout_ * constants_.h0, p.noise, delta, ratio, 20), folded);
    double compression = infinity, before = infinity;
    for (int parts = angle > 0.7 ? 1 : 2; parts <= 8 && compression > 1e-12; parts *= 2) {
      out->nodes = all.size() <= 64 ? all : all.compressed(delta, parts, 14);
      compression = difference(*out, all);
      if (compression > 0.1 * before) break;
      before = compression;
    }
    out->constants_error = constants_.error;
    out->nodes_error = std::max(compression, difference(*out, check)) + constants_.error;
    if (out->nodes_error > 1e-10) out->check = std::move(check);
    return out;
  }

 private:
  /// Largest relative difference of averages over two sets of nodes, at poles that a solve may meet.
  static double difference(const Shared& shared, const ResidualNodes& other) {
    double worst = 0;
    for (double s : {1e-8, 1e-4, 1e-2, 1.0, 1e2})
      for (double beta : {0.5, 2.0}) {
        const OneStepBulk<double> bulk(shared.step, shared.nodes);
        bulk.resolvent(s, beta);
        if (bulk.failed()) continue;
        worst = std::max(worst, bulk.compare(other));
      }
    return worst;
  }

  StepConstants constants_;
  const Function* target_;
  double readout_;
  std::vector<Parameters> sets_;
  Path path_;
};

// --- given weights -------------------------------------------------------------------------------------------------

/// What the theory asks of a first layer W (THEORY 9 f): eigenvalues D_i of Omega = W Pi W^T and, in its eigenbasis, the
/// vectors u_0 = W vhat - r, u_1 = W zhat, u_2 = |Pi w_i|^2 - c and u_3 = (1, .., 1).
struct MeasuredWeights {
  SpikeParameters spike;
  std::vector<double> eigenvalues;
  std::array<std::vector<double>, 4> u;
};

/// The bulk of given weights as a policy. The averages are sums over its eigenvalues.
template <class T> class EmpiricalBulk {
 public:
  explicit EmpiricalBulk(const MeasuredWeights& w) : w_(&w) {}
  const SpikeParameters& spike() const { return w_->spike; }

  SpectralAverages<T> averages(T a, T b, T beta) const {
    using P = detail::Packed<T>;
    using V = typename P::Type;
    using Real = typename P::Real;
    const Real unit(1 / w_->spike.c);
    const V va(a), vb(b);
    V s1(0.0), s2(0.0), s11(0.0), s12(0.0), s22(0.0);
    const Index n = static_cast<Index>(w_->eigenvalues.size()), whole = n - n % P::size;
    const auto add = [&](const Real& d, const Real& one) {
      const V inverse = one / (va + vb * d), first = d * inverse;
      s1 += first;
      s2 += inverse;
      s11 += first * first;
      s12 += first * inverse;
      s22 += inverse * inverse;
    };
    for (Index i = 0; i < whole; i += P::size) add(unit * P::load(&w_->eigenvalues[i]), Real(1.0));
    if (whole < n) {
      double rest[P::size] = {}, one[P::size] = {};
      for (Index i = whole; i < n; ++i) rest[i - whole] = w_->eigenvalues[i], one[i - whole] = 1;
      add(unit * P::load(rest), P::load(one));
    }
    const T y1 = P::total(s1), y2 = P::total(s2), t11 = P::total(s11), t12 = P::total(s12), t22 = P::total(s22);
    const T scale = T(1) / T(static_cast<double>(w_->eigenvalues.size()));
    SpectralAverages<T> out;
    out.y1 = scale * y1, out.y2 = scale * y2;
    out.t11 = scale * t11, out.t12 = scale * t12, out.t22 = scale * t22;
    out.t11c = out.t11 - beta * out.y1 * out.y1;
    return out;
  }

  Overlaps<T> overlaps(T a, T b, T) const {
    using P = detail::Packed<T>;
    using V = typename P::Type;
    using Real = typename P::Real;
    const T c(w_->spike.c), s = c * a / b;
    const V shift(s);
    V value[10], slope[10];
    for (int j = 0; j < 10; ++j) value[j] = slope[j] = V(0.0);
    // The products of the u in pairs (0, 0), (1, 0), (1, 1), .., (3, 3), times the resolvent and its derivative.
    const auto add = [&](const Real& d, const Real& one, const double* const* u) {
      const V inverse = one / (d + shift), square = inverse * inverse;
      const Real w[4] = {P::load(u[0]), P::load(u[1]), P::load(u[2]), P::load(u[3])};
      int pair = 0;
      for (int j = 0; j < 4; ++j) {
        const V first = w[j] * inverse, second = w[j] * square;
        for (int k = 0; k <= j; ++k, ++pair) value[pair] += w[k] * first, slope[pair] += w[k] * second;
      }
    };
    const Index n = static_cast<Index>(w_->eigenvalues.size()), whole = n - n % P::size;
    for (Index i = 0; i < whole; i += P::size) {
      const double* const u[4] = {&w_->u[0][i], &w_->u[1][i], &w_->u[2][i], &w_->u[3][i]};
      add(P::load(&w_->eigenvalues[i]), Real(1.0), u);
    }
    if (whole < n) {
      double rest[5][P::size] = {}, one[P::size] = {};
      for (Index i = whole; i < n; ++i) {
        rest[4][i - whole] = w_->eigenvalues[i], one[i - whole] = 1;
        for (std::size_t j = 0; j < 4; ++j) rest[j][i - whole] = w_->u[j][i];
      }
      const double* const u[4] = {rest[0], rest[1], rest[2], rest[3]};
      add(P::load(rest[4]), P::load(one), u);
    }
    const auto total = [&](int pair) { return Along<T>(P::total(value[pair]), -P::total(slope[pair])); };
    Overlaps<T> out;
    for (int j = 0, pair = 0; j < 3; ++j)
      for (int k = 0; k <= j; ++k, ++pair) out.k[j][k] = total(pair);
    for (int j = 0; j < 3; ++j) out.cross[j] = total(6 + j);
    out.mean = total(9);
    const T root = std::sqrt(w_->spike.c);
    out.crossed = true;
    out.cross[0] = out.cross[0] * Along<T>(root);
    out.cross[1] = out.cross[1] * Along<T>(root);
    out.cross[2] = out.cross[2] * Along<T>(c);
    out.k[2][0] = out.k[2][0] * Along<T>(root);
    out.k[2][1] = out.k[2][1] * Along<T>(root);
    out.k[2][2] = out.k[2][2] * Along<T>(c);
    for (int j = 0; j < 3; ++j)
      for (int k = 0; k < j; ++k) out.k[k][j] = out.k[j][k];
    out.rest = Along<T>(T(1)) - out.k[1][1];
    out.mean = out.mean * Along<T>(T(1.0 / static_cast<double>(w_->eigenvalues.size())));
    out.s = s;
    out.c = c;
    return out;
  }

 private:
  const MeasuredWeights* w_;
};

/// One set: the weights at hand.
class EmpiricalSource {
 public:
  explicit EmpiricalSource(const MeasuredWeights& weights) : weights_(&weights) {}
  Index size() const { return 1; }

  class Shared {
   public:
    explicit Shared(const MeasuredWeights& weights) : weights_(&weights) {}
    const MeasuredWeights& weights() const { return *weights_; }
    const SpikeParameters& spike() const { return weights_->spike; }
    EmpiricalBulk<double> bulk() const { return EmpiricalBulk<double>(*weights_); }
    double error(const EmpiricalBulk<double>&) const { return 0; }

   private:
    const MeasuredWeights* weights_;
  };
  std::unique_ptr<Shared> shared(Index) const { return std::make_unique<Shared>(*weights_); }

 private:
  const MeasuredWeights* weights_;
};

}  // namespace srfx
