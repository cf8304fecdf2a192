// Layers after gradient steps: their nodes, maps and row norms (THEORY 14 and 15).
#include "srfx/solve/layers.hpp"
#include "srfx/bulk/layer_nodes.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

namespace srfx {

namespace {

/// Overlaps of Sigma with itself on the frame, and with L: from (1 + b Sigma)^-1 at small imaginary
/// b = i h. For real b < 0 the averages have poles at large u.
void small_argument(LayerModel& model) {
  const LayerBulk<detail::Complex, true> bulk(model);
  const int n = model.directions + 1;
  const auto at = [&](double h) {
    const detail::Complex b(0, h);
    bulk.answer(b);
    const auto r = bulk.on_frame(Along<detail::Complex>(b, 1));
    dense::ComplexMatrix out(n + 1, n + 1);
    for (int p = 0; p <= n; ++p)
      for (int q = 0; q <= n; ++q) out(p, q) = r(p, q).v;
    return out;
  };
  // b Sigma small, for a Sigma whose spike is its largest part.
  const double first = 1e-6 / (model.spike.c + 1),
               largest = -at(first).topLeftCorner(n, n).imag().diagonal().minCoeff() / first,
               h = 1e-3 / std::max(largest, model.spike.c);
  const dense::ComplexMatrix one = at(h), two = at(2 * h);
  const auto limit = [](double x, double y) { return (4 * x - y) / 3; };
  model.sigma = dense::Matrix(n, n);
  model.tilt.resize(static_cast<std::size_t>(n));
  for (int p = 0; p < n; ++p) {
    for (int q = 0; q < n; ++q)
      model.sigma(p, q) = -limit(one(p, q).imag() / h, two(p, q).imag() / (2 * h));
    model.tilt[static_cast<std::size_t>(p)] = limit(one(p, n).real(), two(p, n).real());
  }
}

/// The nodes of a step with positive weights, for complex arguments near the negative axis, where
/// the functions of u have poles on the real axis: what carries polynomials alone would not do.
/// Points of k at (i + 1/2) step; at each the Gauss rules of the law of u.
StepNodes positive_nodes(const LayerModel* below, const Function& sigma, const Function& derivative,
                         const TargetFunction& target, double noise, double readout,
                         const StepSize& size) {
  constexpr double fineness = 1.5, limit = 9, negligible = 1e-22;
  const bool folded = sigma.shape().parity == -1;
  const double c = below != nullptr ? below->c : 1, root = std::sqrt(c);
  const double length = below != nullptr ? below->length : 0, rho = std::sqrt(1 - length * length);
  std::vector<double> k{0.0}, means;
  double k_step = 1;
  if (below != nullptr) {
    k.clear();
    k_step = std::min(0.35 / std::max(1.0, below->r / root), 0.7 * rho) / fineness;
    const Index count = static_cast<Index>(std::ceil(limit / k_step));
    for (Index i = folded ? 0 : -count; i < count; ++i)
      k.push_back((static_cast<double>(i) + 0.5) * k_step);
  }
  for (const double x : k) means.push_back(below != nullptr ? below->r * x : 0);
  StepNodes out;
  out.constants = step_constants(sigma, derivative, means, root);
  double closest = 0;  // a pole to 0, inverse square
  for (const StepConstants& x : out.constants)
    closest =
        std::max(closest, size.eta * size.eta * size.iota * size.iota * (x.hc1 + x.h2 * x.h2 / c));
  const double top = 4, sd = std::sqrt(noise),
               delta = std::exp2(
                   std::floor(std::log2(std::min(top, 1 / std::sqrt(std::max(closest, 1e-300)))))),
               scale = std::max(delta, sd);
  const ResidualRule rule = target_rule(target, fineness * std::max(1.0, 0.45 / rho));
  const int n = static_cast<int>(rule.directions), latents = n + (below != nullptr ? 1 : 0);
  const dense::Matrix inverse =
      below != nullptr ? spread_of(below->gamma, true) : dense::Matrix::Identity(n, n);
  std::vector<double> gamma(static_cast<std::size_t>(n), 0.0);
  if (below != nullptr) gamma = below->gamma;
  out.first.resize(static_cast<std::size_t>(latents));
  out.second.resize(static_cast<std::size_t>(latents * (latents + 1) / 2));
  std::vector<double> first(static_cast<std::size_t>(n)), raw(static_cast<std::size_t>(n * n));
  for (std::size_t i = 0; i < k.size(); ++i) {
    ResidualRule given;
    given.directions = n;
    for (int side = 0; side < (folded && below ? 2 : 1); ++side)  // -(k, t, u) is the same point
      for (Index j = 0; j < rule.size(); ++j) {
        const double sign = side == 0 ? 1 : -1, *const t = &rule.t[j * n];
        double w = rule.w[j];
        if (below != nullptr) {
          double mean = 0;
          for (int l = 0; l < n; ++l) mean += gamma[l] * t[l];
          const double z = (k[i] - sign * mean) / rho;
          w *= std::exp(-0.5 * z * z) * normal_density_at_0 / rho * k_step;
        }
        if (w < negligible) continue;
        given.w.push_back(w);
        given.u.push_back(sign * rule.u[j] - readout * out.constants[i].h0);
        for (int l = 0; l < n; ++l) given.t.push_back(sign * t[l]);
      }
    if (given.size() == 0) continue;
    ResidualNodes nodes = ResidualNodes(given, false).compressed(scale, 2, 14);
    if (sd > 0) nodes = nodes.widened(sd, delta, 1.5, 16).compressed(delta, 2, 14);
    if (folded && below == nullptr) nodes = nodes.folded();
    for (Index j = 0; j < nodes.size(); ++j) {
      const double w0 = nodes.w[0][j];
      if (w0 == 0) continue;
      out.u.push_back(nodes.u[j]), out.weight.push_back(w0), out.at.push_back(i);
      // The moments of t - gamma k, then those of z.
      std::size_t next = 1;
      for (int l = 0; l < n; ++l) first[l] = nodes.w[next++][j];
      for (int l = 0; l < n; ++l)
        for (int p = l; p < n; ++p) {
          const double gl = gamma[l] * k[i], gp = gamma[p] * k[i];
          raw[l * n + p] = raw[p * n + l] =
              nodes.w[next++][j] - gl * first[p] - gp * first[l] + gl * gp * w0;
        }
      for (int l = 0; l < n; ++l) first[l] -= gamma[l] * k[i] * w0;
      const int own = latents - n;  // the place of z_1: after k, if there is one
      if (own > 0) out.first[0].push_back(k[i] * w0), out.second[0].push_back(k[i] * k[i] * w0);
      for (int a = 0; a < n; ++a) {
        double z = 0;
        for (int l = 0; l < n; ++l) z += inverse(a, l) * first[l];
        out.first[a + own].push_back(z);
        if (own > 0) out.second[LayerModel::packed(a + own, 0)].push_back(k[i] * z);
        for (int b = 0; b <= a; ++b) {
          double zz = 0;
          for (int l = 0; l < n; ++l)
            for (int p = 0; p < n; ++p) zz += inverse(a, l) * raw[l * n + p] * inverse(b, p);
          out.second[LayerModel::packed(a + own, b + own)].push_back(zz);
        }
      }
    }
  }
  return out;
}

/// layer_after, with numbers that may carry derivatives.
template <class R>
std::shared_ptr<const BasicLayerModel<R>> made_layer(
    std::shared_ptr<const BasicLayerModel<R>> below, const BasicStepNodes<R>& nodes, double readout,
    const BasicStepSize<R>& size) {
  using Matrix = typename BasicLayerModel<R>::Matrix;
  auto made = std::make_shared<BasicLayerModel<R>>();
  BasicLayerModel<R>& m = *made;
  m.fineness = nodes.fineness;
  m.below = below;
  m.latents = static_cast<int>(nodes.first.size());
  m.directions = m.latents - (below ? 1 : 0);
  const R eta = size.eta, iota = m.iota = size.iota;
  const R c = m.c_before = below ? below->c : R(1), root = std::sqrt(c),
          r = below ? below->r : R(0);
  const std::size_t latents = static_cast<std::size_t>(m.latents);
  const std::vector<StepConstants>& constants = nodes.constants;

  // Averages over the nodes.
  const std::size_t n = nodes.u.size();
  double mass = 0;
  for (const double w : nodes.weight) mass += w;
  const auto mean = [&](auto&& f) {
    R sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += nodes.weight[i] / mass * f(i);
    return sum;
  };
  const auto mean_with = [&](const std::vector<R>& f) {
    std::vector<R> out(latents, R(0));
    for (std::size_t l = 0; l < latents; ++l)
      for (std::size_t i = 0; i < n; ++i) out[l] += nodes.first[l][i] / mass * f[i];
    return out;
  };
  std::vector<R> e(n), slope(n), f_la(n), f_lb(n), f_gc(n);
  for (std::size_t i = 0; i < n; ++i) e[i] = eta * nodes.u[i] * constants[nodes.at[i]].h2 / root;
  const R a = 1.0 + mean([&](std::size_t i) { return e[i]; });
  const R k2 = iota * mean([&](std::size_t i) { return e[i] * e[i]; });
  const auto cube = [](const R& x) { return x * x * x; };  // std::pow loses infinitesimal parts
  const R k3 = iota * iota * mean([&](std::size_t i) { return cube(e[i]); });
  const R k4 = iota * iota * iota * mean([&](std::size_t i) { return cube(e[i]) * e[i]; });
  const auto chi = [&](std::size_t i) { return a + iota * e[i]; };
  const auto psi = [&](std::size_t i) { return iota * e[i] * (2.0 * a + iota * e[i]); };
  // No part of the new rows lies in one direction: even sigma without a spike, or no step at all.
  // Any direction serves then.
  bool flat = true;
  for (const StepConstants& x : constants) flat = flat && x.h1 == 0;
  const bool silent = mean([&](std::size_t i) { return nodes.u[i] * nodes.u[i]; }) == R(0);
  if (silent && below) return below;
  flat = flat || (!below && (eta == R(0) || silent));
  const R eta2 = eta * eta;
  for (std::size_t i = 0; i < n; ++i) {
    const StepConstants& x = constants[nodes.at[i]];
    const R u = nodes.u[i];
    slope[i] = silent ? R(1) : flat ? u : u * x.h1;
    f_la[i] = eta * c * x.b3 * u * psi(i) + 2.0 * eta2 * root * iota * x.b12 * u * u * chi(i) +
              eta2 * eta * iota * iota * x.k3 * u * u * u;
    f_lb[i] = 2.0 * eta * root * x.b3 * u * chi(i) + eta2 * iota * x.b12 * u * u;
    f_gc[i] = eta * u * x.b3 / (2.0 * c);
  }
  const auto at = [&](std::size_t i) -> const StepConstants& { return constants[nodes.at[i]]; };
  const auto u = [&](std::size_t i) { return nodes.u[i]; };
  const R rho_l =
      a * a + k2 + eta / root * mean([&](std::size_t i) { return u(i) * chi(i) * at(i).b4; }) +
      eta2 * iota / (2.0 * c) * mean([&](std::size_t i) { return u(i) * u(i) * at(i).b22; });
  const R u2v3 = mean([&](std::size_t i) { return u(i) * u(i) * at(i).hc1; });
  m.lb_mean = mean_with(f_lb);
  std::vector<R> tilt(latents, R(0));
  Matrix sigma_below = Matrix::Identity(m.latents, m.latents);
  if (below) tilt = below->tilt, sigma_below = below->sigma;
  R lb_square = 0;
  for (std::size_t i = 0; i < latents; ++i) {
    m.lb_tilt += m.lb_mean[i] * tilt[i];
    for (std::size_t j = 0; j < latents; ++j)
      lb_square +=
          m.lb_mean[i] * sigma_below(static_cast<Index>(i), static_cast<Index>(j)) * m.lb_mean[j];
  }
  m.lb_sigma = c * iota * mean([&](std::size_t i) { return f_lb[i] * f_lb[i]; }) + lb_square;
  const R c_delta_below = below ? below->c_delta : R(0);
  const auto mean_of = [&](auto&& f) { return mean(f); };
  m.c_delta =
      2.0 * c * c * (k4 + 4.0 * a * k3 + k2 * k2 + 4.0 * a * a * k2) +
      4.0 * eta * c * root *
          mean_of([&](std::size_t i) { return at(i).b4 * u(i) * chi(i) * psi(i); }) +
      2.0 * eta2 * c * iota *
          mean_of([&](std::size_t i) { return at(i).b22 * u(i) * u(i) * psi(i); }) +
      4.0 * eta2 * c * iota *
          (mean_of([&](std::size_t i) { return at(i).q2 * u(i) * u(i) * chi(i) * chi(i); }) +
           k2 * u2v3) +
      4.0 * eta2 * eta * root * iota * iota *
          mean_of([&](std::size_t i) { return at(i).b13 * cube(u(i)) * chi(i); }) +
      eta2 * eta2 * iota * iota * iota * mean_of([&](std::size_t i) {
        return cube(u(i)) * u(i) * (at(i).k4 - at(i).hc1 * at(i).hc1);
      }) +
      2.0 * eta2 * eta2 * iota * iota * u2v3 * u2v3 + lb_square / c +
      rho_l * rho_l * c_delta_below + 2.0 * rho_l * m.lb_tilt / root;

  // The spike and the frame.
  const R with_slope = mean([&](std::size_t i) { return u(i) * at(i).h2; });
  m.c = (root + eta * with_slope) * (root + eta * with_slope) +
        eta2 * iota *
            mean([&](std::size_t i) { return u(i) * u(i) * (at(i).h2 * at(i).h2 + at(i).hc1); });
  const R step = flat ? R(1) : eta;  // without a spike the direction is that of E[u x]
  std::vector<R> drift = mean_with(slope);
  for (R& x : drift) x *= step;
  if (below && !flat) drift[0] += r;
  R length = step * step * iota * mean([&](std::size_t i) { return slope[i] * slope[i]; });
  for (const R& x : drift) length += x * x;
  length = std::sqrt(length);
  m.r = flat ? R(0) : length;
  const int total = m.latents + (below ? 5 : 3), directions = m.directions;
  Matrix theta = Matrix::Zero(directions, m.latents);  // theta_l on x_E
  if (below) {
    const Matrix spread = spread_of(below->gamma, false);
    for (int l = 0; l < directions; ++l) {
      theta(l, 0) = below->gamma[l];
      for (int z = 0; z < directions; ++z) theta(l, z + 1) = spread(l, z);
    }
  } else {
    theta = Matrix::Identity(directions, directions);
  }
  m.gamma.assign(static_cast<std::size_t>(directions), R(0));
  R gamma2 = 0;
  for (int l = 0; l < directions; ++l) {
    for (int i = 0; i < m.latents; ++i) m.gamma[l] += theta(l, i) * drift[i] / length;
    gamma2 += m.gamma[l] * m.gamma[l];
  }
  m.length = directions == 1 ? m.gamma[0] : real_part(gamma2) > 0 ? std::sqrt(gamma2) : R(0);
  m.spike = {real_part(m.r), real_part(m.c), real_part(m.length)};
  m.frame = Matrix::Zero(directions + 2, total);
  for (int i = 0; i < m.latents; ++i)
    m.frame(0, i) = (below && !flat && i == 0 ? r : R(0)) / length;
  m.frame(0, m.latents + BasicLayerModel<R>::spike_vector) = step / length;
  const Matrix inverse = spread_of(m.gamma, true);
  for (int z = 0; z < directions; ++z)
    for (int l = 0; l < directions; ++l) {
      for (int i = 0; i < m.latents; ++i) m.frame(z + 1, i) += inverse(z, l) * theta(l, i);
      for (int j = 0; j < total; ++j)
        m.frame(z + 1, j) -= inverse(z, l) * m.gamma[l] * m.frame(0, j);
    }
  m.frame(directions + 1, m.latents + 1) = 1;
  m.frame(directions + 1, m.latents + 2) = 1;
  if (below) {
    m.frame(directions + 1, m.latents + 3) = rho_l;
    m.frame(directions + 1, m.latents + 4) = rho_l * c_delta_below + m.lb_tilt / root;
  }

  // The nodes as the fixed point wants them.
  const std::vector<R>* const functions[4] = {&slope, &f_la, &f_lb, &f_gc};
  m.rows.assign(static_cast<std::size_t>(m.n_rows()), {});
  const std::size_t padded = (n + 7) / 8 * 8;
  m.e = e, m.e.resize(padded, R(0));
  m.m.assign(padded, R(0));
  for (std::size_t i = 0; i < n; ++i) m.m[i] = eta2 * iota * u(i) * u(i) * at(i).hc1;
  for (auto& row : m.rows) row.assign(padded, R(0));
  for (std::size_t i = 0; i < n; ++i) {
    m.rows[0][i] = nodes.weight[i] / mass;
    for (int p = 0; p < m.latents; ++p) {
      for (int q = 0; q <= p; ++q)
        m.rows[m.row(p, q)][i] = nodes.second[BasicLayerModel<R>::packed(p, q)][i] / mass;
      for (int f = 0; f < m.vectors(); ++f)
        m.rows[m.row_of(f, p)][i] = nodes.first[p][i] / mass * (*functions[f])[i];
    }
    for (int f = 0; f < m.vectors(); ++f)
      for (int h = 0; h <= f; ++h)
        m.rows[m.row_of_two(f, h)][i] =
            nodes.weight[i] / mass * (*functions[f])[i] * (*functions[h])[i];
  }
  if (!below) {
    m.damping = eta * readout * constants[0].h1 * constants[0].h1;
    m.spread = eta * readout * constants[0].variance * iota;
  }
  if constexpr (std::is_same_v<R, double>) small_argument(m);
  return made;
}

/// The same layer, of numbers that could carry derivatives.
std::shared_ptr<const BasicLayerModel<detail::Complex>> at_rest(const LayerModel& layer) {
  auto made = std::make_shared<BasicLayerModel<detail::Complex>>();
  BasicLayerModel<detail::Complex>& m = *made;
  if (layer.below) m.below = at_rest(*layer.below);
  m.directions = layer.directions, m.latents = layer.latents, m.iota = layer.iota;
  m.c_before = layer.c_before, m.fineness = layer.fineness;
  m.e.assign(layer.e.begin(), layer.e.end()), m.m.assign(layer.m.begin(), layer.m.end());
  for (const auto& row : layer.rows) m.rows.emplace_back(row.begin(), row.end());
  m.spike = layer.spike, m.r = layer.r, m.c = layer.c, m.length = layer.length;
  m.gamma.assign(layer.gamma.begin(), layer.gamma.end()), m.c_delta = layer.c_delta;
  m.frame = layer.frame.cast<detail::Complex>();
  m.lb_mean.assign(layer.lb_mean.begin(), layer.lb_mean.end());
  m.lb_sigma = layer.lb_sigma, m.lb_tilt = layer.lb_tilt;
  m.sigma = layer.sigma.cast<detail::Complex>();
  m.tilt.assign(layer.tilt.begin(), layer.tilt.end());
  m.damping = layer.damping, m.spread = layer.spread;
  return made;
}

}  // namespace

std::shared_ptr<const LayerModel> layer_after(std::shared_ptr<const LayerModel> below,
                                              const StepNodes& nodes, double readout,
                                              const StepSize& size) {
  return made_layer<double>(std::move(below), nodes, readout, size);
}

namespace {

/// How far two layers are apart, relative to their size, where solves may ask for them.
double difference(const LayerModel& one, const LayerModel& other) {
  const auto off = [](double a, double b) {
    return std::abs(a - b) / std::max({std::abs(a), std::abs(b), 1e-300});
  };
  double worst = std::max(off(one.spike.c, other.spike.c), off(one.c_delta + 1, other.c_delta + 1));
  worst = std::max(worst,
                   std::abs(one.spike.r - other.spike.r) / (std::sqrt(one.spike.c) + one.spike.r));
  for (std::size_t l = 0; l < one.gamma.size(); ++l)
    worst = std::max(worst, std::abs(one.gamma[l] - other.gamma[l]));
  const LayerBulk<double> a(one), b(other);
  for (const double at : {1e-2, 0.3, 3.0, 100.0, 1e4}) {
    const auto x = a.answer(at), y = b.answer(at);
    if (!(std::isfinite(x.nu) && std::isfinite(y.nu))) continue;
    worst = std::max(worst, off(x.nu, y.nu));
    const auto p = a.on_frame(Along<double>(at)), q = b.on_frame(Along<double>(at));
    for (int i = 0; i < p.rows(); ++i)
      for (int j = 0; j <= i; ++j)
        worst = std::max(worst, std::abs(p(i, j).v - q(i, j).v) /
                                    std::max(std::sqrt(std::abs(p(i, i).v * p(j, j).v)), 1e-300));
  }
  return worst;
}

}  // namespace

std::shared_ptr<const LayerModel> layers_after(const Function& sigma, const Function& derivative,
                                               const TargetFunction& target, double noise,
                                               double readout, const std::vector<StepSize>& steps,
                                               double& error) {
  constexpr double factor = 1.5, rounding = 2e-12;
  std::shared_ptr<const LayerModel> out;
  error = rounding;
  const auto take = [&](const StepSize& step) {
    const StepView view(out.get(), sigma, derivative, target, noise, readout, step);
    double fineness = 1, moved = 0;
    std::shared_ptr<const LayerModel> made = layer_after(out, view.nodes(fineness), readout, step);
    for (int pass = 0;; ++pass) {
      fineness *= factor;
      std::shared_ptr<const LayerModel> finer =
          layer_after(out, view.nodes(fineness), readout, step);
      moved = difference(*made, *finer);
      made = std::move(finer);
      if (moved < 1e-7) break;
      if (pass == 6 || made->size() > 400000) {
        error += moved;
        moved = 0;
        break;
      }
    }
    // The rules converge geometrically, nearly: nodes half as many again leave the error to the
    // power 1.25 to 1.5.
    error += std::pow(moved, 1.25) + view.error();
    out = std::move(made);
  };
  for (const StepSize& step : steps)
    if (step.eta != 0 && std::isfinite(step.iota)) take(step);
  if (!out) take({0, 1});
  return out;
}

std::shared_ptr<const LayerModel> LayerSource::positive(Index set) const {
  const Parameters& p = sets_[static_cast<std::size_t>(set)];
  const auto target = seen(set);
  std::shared_ptr<const LayerModel> out;
  const auto take = [&](const StepSize& step) {
    const StepNodes nodes =
        positive_nodes(out.get(), *sigma_, *derivative_, *target, noise(set), readout_, step);
    out = layer_after(out, nodes, readout_, step);
  };
  for (const StepSize& step : p.steps)
    if (step.eta != 0 && std::isfinite(step.iota)) take(step);
  if (!out) take({0, 1});
  return out;
}

std::unique_ptr<LayerSource::Shared> LayerSource::shared(Index set) const {
  const Parameters& p = sets_[static_cast<std::size_t>(set)];
  auto out = std::make_unique<Shared>();
  out->layer = layers_after(*sigma_, *derivative_, *seen(set), noise(set), readout_, p.steps,
                            out->nodes_error);
  return out;
}

std::shared_ptr<const BasicLayerModel<detail::Complex>> LayerSource::moving(Index set,
                                                                            const Shared& shared,
                                                                            StepDirection along,
                                                                            double& h) const {
  const Parameters& p = sets_[static_cast<std::size_t>(set)];
  const LayerModel& layer = *shared.layer;
  const bool moves = along == StepDirection::noise || along == StepDirection::eta ||
                     along == StepDirection::inverse_alpha0;
  // Of several steps what leaves them alone is differentiated by, and the last may have done
  // nothing.
  if (!moves || p.steps.size() != 1 || p.steps[0].eta == 0 || !std::isfinite(p.steps[0].iota))
    return at_rest(layer);
  const StepView view(nullptr, *sigma_, *derivative_, *target_, p.noise, readout_, p.steps[0]);
  const StepNodes still = view.nodes(layer.fineness);
  BasicStepNodes<detail::Complex> nodes{still.constants, {}, {}, {}, {}, {}, still.fineness};
  BasicStepSize<detail::Complex> size{p.steps[0].eta, p.steps[0].iota};
  if (along == StepDirection::eta) size.eta += detail::Complex(0, h * readout_);
  if (along == StepDirection::inverse_alpha0) size.iota += detail::Complex(0, h);
  const std::size_t n = still.u.size();
  int parts = 1;
  detail::Complex root(0);
  if (along == StepDirection::noise) {  // the heat equation: step_gradient.hpp
    const StepConstants& at = still.constants[0];
    const double x = p.steps[0].eta * p.steps[0].iota,
                 closest = x * x * (at.hc1 + at.h2 * at.h2);  // of a pole to 0, squared, inverse
    double u2 = 0, mass = 0;
    for (std::size_t i = 0; i < n; ++i)
      u2 += still.weight[i] * still.u[i] * still.u[i], mass += still.weight[i];
    h = 1e-8 * std::min(u2 / mass, closest > 0 ? 1 / closest : infinity);
    parts = 2, root = std::sqrt(detail::Complex(0, h));
  }
  const double share = 1.0 / parts;
  const auto scaled = [share](double x) { return share * x; };
  nodes.first.resize(still.first.size()), nodes.second.resize(still.second.size());
  for (int part = 0; part < parts; ++part) {
    for (const double u : still.u) nodes.u.push_back(u + (part == 0 ? root : -root));
    std::transform(still.weight.begin(), still.weight.end(), std::back_inserter(nodes.weight),
                   scaled);
    for (std::size_t l = 0; l < still.first.size(); ++l)
      std::transform(still.first[l].begin(), still.first[l].end(),
                     std::back_inserter(nodes.first[l]), scaled);
    for (std::size_t l = 0; l < still.second.size(); ++l)
      std::transform(still.second[l].begin(), still.second[l].end(),
                     std::back_inserter(nodes.second[l]), scaled);
    nodes.at.insert(nodes.at.end(), still.at.begin(), still.at.end());
  }
  const auto moved = made_layer<detail::Complex>(nullptr, nodes, readout_, size);
  return std::make_shared<const BasicLayerModel<detail::Complex>>(
      turned(*moved, shared.turned_by()));
}

template void solve_anisotropic(const LayerSource&, const BatchInput&, const AnisotropicOutput&,
                                Interrupt&, bool);

template void anisotropic_gradient<MovingLayer>(const LayerSource&, const BatchInput&,
                                                const double*, const double*,
                                                const std::vector<StepDirection>&,
                                                const GradientOutput&, Interrupt&);

}  // namespace srfx
