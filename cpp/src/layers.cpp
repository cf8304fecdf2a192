// Layers after gradient steps: their nodes, maps and row norms (THEORY 14 and 15).
#include "srfx/solve/layers.hpp"
#include "srfx/bulk/layer_nodes.hpp"

#include <cmath>

namespace srfx {

namespace {

/// Overlaps of Sigma with itself on the frame, and with L: from (1 + b Sigma)^-1 at small b of both
/// signs.
void small_argument(LayerModel& model) {
  const LayerBulk<double> bulk(model);
  const int n = model.directions + 1;
  // b Sigma small, for a Sigma whose spike is its largest part.
  const double h = 1e-3 / (model.spike.c + 1);
  dense::Matrix odd[2], even[2];
  for (int i = 0; i < 2; ++i) {
    const double b = h * (i + 1);
    odd[i] = even[i] = dense::Matrix::Zero(n + 1, n + 1);
    for (const double sign : {1.0, -1.0}) {
      bulk.answer(sign * b);
      const auto r = bulk.on_frame(Along<double>(sign * b, 1));
      for (int p = 0; p <= n; ++p)
        for (int q = 0; q <= n; ++q) {
          even[i](p, q) += 0.5 * r(p, q).v;
          odd[i](p, q) -= 0.5 * sign * r(p, q).v / b;
        }
    }
  }
  model.sigma = ((4.0 * odd[0] - odd[1]) / 3.0).topLeftCorner(n, n);
  const dense::Matrix at_zero = (4.0 * even[0] - even[1]) / 3.0;
  model.tilt.resize(static_cast<std::size_t>(n));
  for (int i = 0; i < n; ++i) model.tilt[i] = at_zero(i, n);
}

}  // namespace

std::shared_ptr<const LayerModel> layer_after(std::shared_ptr<const LayerModel> below,
                                              const StepNodes& nodes, double readout,
                                              const StepSize& size) {
  auto made = std::make_shared<LayerModel>();
  LayerModel& m = *made;
  m.below = below;
  m.latents = static_cast<int>(nodes.first.size());
  m.directions = m.latents - (below ? 1 : 0);
  const double eta = size.eta, iota = m.iota = size.iota;
  const double c = m.c_before = below ? below->spike.c : 1, root = std::sqrt(c),
               r = below ? below->spike.r : 0;
  const std::size_t latents = static_cast<std::size_t>(m.latents);
  const std::vector<StepConstants>& constants = nodes.constants;

  // Averages over the nodes.
  const std::size_t n = nodes.u.size();
  double mass = 0;
  for (const double w : nodes.weight) mass += w;
  const auto mean = [&](auto&& f) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += nodes.weight[i] / mass * f(i);
    return sum;
  };
  const auto mean_with = [&](const std::vector<double>& f) {
    std::vector<double> out(latents);
    for (std::size_t l = 0; l < latents; ++l)
      for (std::size_t i = 0; i < n; ++i) out[l] += nodes.first[l][i] / mass * f[i];
    return out;
  };
  std::vector<double> e(n), slope(n), f_la(n), f_lb(n), f_gc(n);
  for (std::size_t i = 0; i < n; ++i) e[i] = eta * nodes.u[i] * constants[nodes.at[i]].h2 / root;
  const double a = 1 + mean([&](std::size_t i) { return e[i]; });
  const double k2 = iota * mean([&](std::size_t i) { return e[i] * e[i]; });
  const double k3 = iota * iota * mean([&](std::size_t i) { return std::pow(e[i], 3); });
  const double k4 = iota * iota * iota * mean([&](std::size_t i) { return std::pow(e[i], 4); });
  const auto chi = [&](std::size_t i) { return a + iota * e[i]; };
  const auto psi = [&](std::size_t i) { return iota * e[i] * (2 * a + iota * e[i]); };
  // No part of the new rows lies in one direction: even sigma without a spike, or no step at all.
  // Any direction serves then.
  bool flat = true;
  for (const StepConstants& x : constants) flat = flat && x.h1 == 0;
  const bool silent = mean([&](std::size_t i) { return nodes.u[i] * nodes.u[i]; }) == 0;
  if (silent && below) return below;
  flat = flat || (!below && (eta == 0 || silent));
  const double eta2 = eta * eta;
  for (std::size_t i = 0; i < n; ++i) {
    const StepConstants& x = constants[nodes.at[i]];
    const double u = nodes.u[i];
    slope[i] = silent ? 1 : flat ? u : u * x.h1;
    f_la[i] = eta * c * x.b3 * u * psi(i) + 2 * eta2 * root * iota * x.b12 * u * u * chi(i) +
              eta2 * eta * iota * iota * x.k3 * u * u * u;
    f_lb[i] = 2 * eta * root * x.b3 * u * chi(i) + eta2 * iota * x.b12 * u * u;
    f_gc[i] = eta * u * x.b3 / (2 * c);
  }
  const auto at = [&](std::size_t i) -> const StepConstants& { return constants[nodes.at[i]]; };
  const auto u = [&](std::size_t i) { return nodes.u[i]; };
  const double rho_l =
      a * a + k2 + eta / root * mean([&](std::size_t i) { return u(i) * chi(i) * at(i).b4; }) +
      eta2 * iota / (2 * c) * mean([&](std::size_t i) { return u(i) * u(i) * at(i).b22; });
  const double u2v3 = mean([&](std::size_t i) { return u(i) * u(i) * at(i).hc1; });
  m.lb_mean = mean_with(f_lb);
  std::vector<double> tilt(latents, 0.0);
  dense::Matrix sigma_below = dense::Matrix::Identity(m.latents, m.latents);
  if (below) tilt = below->tilt, sigma_below = below->sigma;
  double lb_square = 0;
  for (std::size_t i = 0; i < latents; ++i) {
    m.lb_tilt += m.lb_mean[i] * tilt[i];
    for (std::size_t j = 0; j < latents; ++j)
      lb_square +=
          m.lb_mean[i] * sigma_below(static_cast<Index>(i), static_cast<Index>(j)) * m.lb_mean[j];
  }
  m.lb_sigma = c * iota * mean([&](std::size_t i) { return f_lb[i] * f_lb[i]; }) + lb_square;
  const double c_delta_below = below ? below->c_delta : 0;
  const auto mean_of = [&](auto&& f) { return mean(f); };
  m.c_delta =
      2 * c * c * (k4 + 4 * a * k3 + k2 * k2 + 4 * a * a * k2) +
      4 * eta * c * root *
          mean_of([&](std::size_t i) { return at(i).b4 * u(i) * chi(i) * psi(i); }) +
      2 * eta2 * c * iota *
          mean_of([&](std::size_t i) { return at(i).b22 * u(i) * u(i) * psi(i); }) +
      4 * eta2 * c * iota *
          (mean_of([&](std::size_t i) { return at(i).q2 * u(i) * u(i) * chi(i) * chi(i); }) +
           k2 * u2v3) +
      4 * eta2 * eta * root * iota * iota *
          mean_of([&](std::size_t i) { return at(i).b13 * std::pow(u(i), 3) * chi(i); }) +
      eta2 * eta2 * iota * iota * iota * mean_of([&](std::size_t i) {
        return std::pow(u(i), 4) * (at(i).k4 - at(i).hc1 * at(i).hc1);
      }) +
      2 * eta2 * eta2 * iota * iota * u2v3 * u2v3 + lb_square / c + rho_l * rho_l * c_delta_below +
      2 * rho_l * m.lb_tilt / root;

  // The spike and the frame.
  const double with_slope = mean([&](std::size_t i) { return u(i) * at(i).h2; });
  m.spike.c = (root + eta * with_slope) * (root + eta * with_slope) +
              eta2 * iota * mean([&](std::size_t i) {
                return u(i) * u(i) * (at(i).h2 * at(i).h2 + at(i).hc1);
              });
  const double step = flat ? 1 : eta;  // without a spike the direction is that of E[u x]
  std::vector<double> drift = mean_with(slope);
  for (double& x : drift) x *= step;
  if (below && !flat) drift[0] += r;
  double length = step * step * iota * mean([&](std::size_t i) { return slope[i] * slope[i]; });
  for (const double x : drift) length += x * x;
  length = std::sqrt(length);
  m.spike.r = flat ? 0 : length;
  const int total = m.latents + (below ? 5 : 3), directions = m.directions;
  dense::Matrix theta = dense::Matrix::Zero(directions, m.latents);  // theta_l on x_E
  if (below) {
    const dense::Matrix spread = spread_of(below->gamma, false);
    for (int l = 0; l < directions; ++l) {
      theta(l, 0) = below->gamma[l];
      for (int z = 0; z < directions; ++z) theta(l, z + 1) = spread(l, z);
    }
  } else {
    theta = dense::Matrix::Identity(directions, directions);
  }
  m.gamma.assign(static_cast<std::size_t>(directions), 0);
  double gamma2 = 0;
  for (int l = 0; l < directions; ++l) {
    for (int i = 0; i < m.latents; ++i) m.gamma[l] += theta(l, i) * drift[i] / length;
    gamma2 += m.gamma[l] * m.gamma[l];
  }
  m.spike.gamma = std::sqrt(gamma2);
  m.frame = dense::Matrix::Zero(directions + 2, total);
  for (int i = 0; i < m.latents; ++i) m.frame(0, i) = (below && !flat && i == 0 ? r : 0.0) / length;
  m.frame(0, m.latents + LayerModel::spike_vector) = step / length;
  const dense::Matrix inverse = spread_of(m.gamma, true);
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
  const std::vector<double>* const functions[4] = {&slope, &f_la, &f_lb, &f_gc};
  m.rows.assign(static_cast<std::size_t>(m.n_rows()), {});
  const std::size_t padded = (n + 7) / 8 * 8;
  m.e = e, m.e.resize(padded, 0.0);
  m.m.assign(padded, 0.0);
  for (std::size_t i = 0; i < n; ++i) m.m[i] = eta2 * iota * u(i) * u(i) * at(i).hc1;
  for (auto& row : m.rows) row.assign(padded, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    m.rows[0][i] = nodes.weight[i] / mass;
    for (int p = 0; p < m.latents; ++p) {
      for (int q = 0; q <= p; ++q)
        m.rows[m.row(p, q)][i] = nodes.second[LayerModel::packed(p, q)][i] / mass;
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
  small_argument(m);
  return made;
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
  constexpr double factor = 1.5;
  std::shared_ptr<const LayerModel> out;
  error = 1e-15;
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
    // The rules converge geometrically: nodes half as many again leave the error to the power 1.5.
    error += std::pow(moved, 1.4) + view.error();
    out = std::move(made);
  };
  for (const StepSize& step : steps)
    if (step.eta != 0 && std::isfinite(step.iota)) take(step);
  if (!out) take({0, 1});
  return out;
}

LayerModel turned(const LayerModel& layer, const dense::Matrix& turn) {
  LayerModel out = layer;
  const Index n = layer.directions;
  for (Index m = 0; m < n; ++m)
    for (Index j = 0; j < layer.frame.cols(); ++j) {
      out.frame(m + 1, j) = 0;
      for (Index l = 0; l < n; ++l) out.frame(m + 1, j) += turn(l, m) * layer.frame(l + 1, j);
    }
  return out;
}

std::unique_ptr<LayerSource::Shared> LayerSource::shared(Index set) const {
  const Parameters& p = sets_[static_cast<std::size_t>(set)];
  auto out = std::make_unique<Shared>();
  out->layer =
      layers_after(*sigma_, *derivative_, *target_, p.noise, readout_, p.steps, out->nodes_error);
  return out;
}

template void solve_anisotropic(const LayerSource&, const BatchInput&, const AnisotropicOutput&,
                                Interrupt&, bool);

template void anisotropic_gradient<MovingLayer>(const LayerSource&, const BatchInput&,
                                                const double*, const double*,
                                                const std::vector<StepDirection>&,
                                                const GradientOutput&, Interrupt&);

}  // namespace srfx
