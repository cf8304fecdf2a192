// A pack of points of a step with several readout values, one a lane: V by Newton's method, then the
// linear part (THEORY 9 e, 10). Over the axes of the step; what they do not suit is left to
// group_step_solver.hpp, a point at a time.
#pragma once

#include "srfx/bulk/group_step_kernel.hpp"
#include "srfx/data/kernel_fit.hpp"
#include "srfx/solve/group_solver.hpp"

namespace srfx {

/// A solution with the coefficients of the third feature, unit convention.
template <class V, int K> struct GroupPackOrder : GroupOrder<V, K> {
  GroupArray<V, -1> chi;
  explicit GroupPackOrder(int k) : GroupOrder<V, K>(k), chi(k) {}
};

template <class V, int K, bool wide>
class GroupStepPackSolver : public GroupSolver<V, GroupStepPack<V, K, wide>> {
  using Pack = GroupStepPack<V, K, wide>;
  using Base = GroupSolver<V, Pack>;
  using Base::point_, Base::step_, Base::w_, Base::x_, Base::scale_;

 public:
  using Base::map, Base::v;
  using Order = GroupPackOrder<V, K>;

  explicit GroupStepPackSolver(const GroupStepShared& shared)
      : Base(Pack(shared)),
        shared_(shared),
        k_(shared.k),
        overlaps_(shared.k) {}

  void set_point(const Point<V>& p) { point_ = p, map.beta = p.beta; }
  void newton(const GroupNodes& nodes, const NewtonSettings& settings) {
    map.forget();
    map.exact = false;
    Base::newton(nodes, settings);
  }

  /// The linear part at v, which it may still improve. `nodes` are over the axes; `muc`: the third
  /// feature, size x groups.
  void linear_part(const GroupNodes& nodes, const std::vector<double>& muc, bool finite_d,
                   Order& out) {
    map.exact = true;
    for (int pass = 0;; ++pass) {
      this->look(nodes, true);
      const auto worth = (step_ > V(2e-13)) & (step_ < V(0.1));
      if (pass == 3 || !simd::any(worth)) break;
      for (int i = 0; i < map.packed; ++i) v[i] = simd::select(worth, v[i] + x_[i], v[i]);
    }
    const int n_mean = finite_d ? k_ : nodes.rank;
    const double* const means = finite_d ? nodes.mu0.data() : nodes.basis.data();
    fit(nodes, muc, finite_d, means, n_mean);
    for (int g = 0; g < k_; ++g) {
      out.theta[g] = x_fit_[n_mean + g], out.psi[g] = psi_[g], out.chi[g] = x_fit_[n_mean + k_ + g];
      out.m[g] = finite_d ? x_fit_[g] : V(0.0);
      for (int c = 0; c < n_mean && !finite_d; ++c)
        out.m[g] += V(nodes.to_m[g * n_mean + c]) * x_fit_[c];
    }
    const auto left = [&](Index i) {
      V e(nodes.h[i]);
      for (int c = 0; c < n_mean; ++c) e -= V(means[i * n_mean + c]) * x_fit_[c];
      for (int g = 0; g < k_; ++g)
        e -= V(nodes.kmu1[i * k_ + g]) * out.theta[g] + V(muc[i * k_ + g]) * out.chi[g];
      return e;
    };
    pulls_.assign(2 * k_, V(0.0));
    const typename Base::Misfit r = this->misfit(nodes, out.psi, left, [&](Index i, const V& we) {
      for (int g = 0; g < k_; ++g)
        pulls_[g] += we * V(nodes.kmu1[i * k_ + g]), pulls_[k_ + g] += we * V(muc[i * k_ + g]);
    });
    V defect(0.0);
    for (int g = 0; g < k_; ++g)
      defect += simd::abs(out.theta[g] * (pulls_[g] - hat_v_[g] / point_.ratio)) +
                simd::abs(out.chi[g] * (pulls_[k_ + g] - hat_d_[g] / point_.ratio));
    sources(finite_d);
    for (int g = 0; g < k_; ++g)
      for (int h = g; h < k_; ++h) source_[map.at(g, h)] -= psi_[g] * psi_[h];
    this->complete(nodes, r, defect, &source_[0], out);
    out.residual = simd::max(out.residual, map.defect());
    turn_back(out);
  }

  /// Averages at v on two rules: their largest relative difference.
  V difference(const GroupNodes& a, const GroupNodes& b) {
    probe(a, probe_);
    probe(b, denser_);
    const int n = map.packed, sums = static_cast<int>(denser_.size());
    V worst(0.0);
    // Vh1 acts beside the inverse of X: what is far below 1/(beta V1) does not matter.
    const auto size = [&](int g) {
      return denser_[map.at(g, g)] + V(1.0) / (point_.alpha * v[map.at(g, g)]);
    };
    for (int i = 0; i < sums; ++i) scales_[i] = simd::abs(denser_[i]);
    for (int g = 0; g < k_; ++g)
      for (int h = g; h < k_; ++h) scales_[map.at(g, h)] = simd::sqrt(size(g) * size(h));
    // Products with the target may vanish, and so may features over axes: beside those of all.
    const V target = denser_[n + 2 * k_];
    V* const cross = &scales_[n + 2 * k_ + 3];
    V norms[3] = {V(0.0), V(0.0), V(0.0)};
    for (int g = 0; g < k_; ++g) {
      norms[0] += denser_[n + g], norms[1] += denser_[n + k_ + g], norms[2] += size(g);
    }
    for (int i = 0; i < 3 * k_; ++i) cross[i] = simd::sqrt(norms[i % 3] * target);
    for (int g = 0; g < k_; ++g) scales_[n + k_ + g] = norms[1];
    cross[3 * k_] = cross[3 * k_ + 1] = target;
    for (int i = 0; i < sums; ++i)
      worst =
          simd::max(worst, simd::select(scales_[i] > V(1e-280),
                                        simd::abs(probe_[i] - denser_[i]) / scales_[i], V(0.0)));
    return worst;
  }

 private:
  /// The least-squares problem against the kernel: columns over the nodes, the target as one more.
  void fit(const GroupNodes& nodes, const std::vector<double>& muc, bool finite_d,
           const double* means, int n_mean) {
    const int n_rows = static_cast<int>(nodes.size), n = n_mean + 2 * k_;
    columns_.resize(static_cast<std::size_t>(n_rows) * (n + 1));
    psi_.assign(k_, V(0.0));
    std::vector<V>& ps = hat_z_;
    ps.assign(k_, V(0.0));
    for (int i = 0; i < n_rows; ++i) {
      const V ww = V(nodes.weight[i]) * w_[i], root = simd::sqrt(ww);
      for (int c = 0; c < n_mean; ++c) columns_[c * n_rows + i] = root * V(means[i * n_mean + c]);
      for (int g = 0; g < k_; ++g) {
        columns_[(n_mean + g) * n_rows + i] = root * V(nodes.kmu1[i * k_ + g]);
        columns_[(n_mean + k_ + g) * n_rows + i] = root * V(muc[i * k_ + g]);
        ps[g] += ww * V(nodes.mu1[i * k_ + g] * nodes.h1[i]);
      }
      columns_[n * n_rows + i] = root * V(nodes.h[i]);
    }
    for (V& x : ps) x = point_.ratio * x;
    triangle(n_rows, n);
    make_kernel(-1, finite_d);
    kernel_.assign(n * n, V(0.0)), kz_.assign(n, V(0.0));
    const auto& kernel = overlaps_;
    const V mean_scale = finite_d ? point_.beta / point_.inverse_d : V(0.0);
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h) {
        const int of_v = n_mean + g, of_d = of_v + k_, to_v = n_mean + h, to_d = to_v + k_;
        if (finite_d) kernel_[g * n + h] = mean_scale * kernel.mean(g, h).v;
        kernel_[of_v * n + to_v] = kernel.vv(g, h).v;
        kernel_[of_d * n + to_d] = kernel.dd(g, h).v;
        kernel_[of_d * n + to_v] = kernel_[to_v * n + of_d] = kernel.dv(g, h).v;
        kz_[of_v] += kernel.vz(g, h).v * ps[h], kz_[of_d] += kernel.dz(g, h).v * ps[h];
      }
    hats_.resize(n), x_fit_.resize(n), work_.resize(n * (2 * n + 1));
    fit_against_kernel(n, n, finite_d ? 0 : n_mean, r_.data(), qt_b_.data(), kernel_.data(),
                       kz_.data(), point_.ratio, hats_.data(), x_fit_.data(), work_.data());
    hat_v_.resize(k_), hat_d_.resize(k_), hat_m_.assign(k_, V(0.0));
    for (int g = 0; g < k_; ++g) {
      hat_v_[g] = hats_[n_mean + g], hat_d_[g] = hats_[n_mean + k_ + g];
      if (finite_d) hat_m_[g] = simd::sqrt(mean_scale) * hats_[g];
    }
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h)
        psi_[g] += kernel.vz(h, g).v * hat_v_[h] + kernel.dz(h, g).v * hat_d_[h] +
                   kernel.zz(g, h).v * ps[h];
  }

  /// R and Q^T b by modified Gram-Schmidt, the target carried along: as good as orthogonal
  /// transformations.
  void triangle(int n_rows, int n) {
    r_.assign(n * n, V(0.0)), qt_b_.assign(n, V(0.0));
    for (int c = 0; c < n; ++c) {
      const V* const q = &columns_[static_cast<std::size_t>(c) * n_rows];
      V square(0.0);
      for (int i = 0; i < n_rows; ++i) square += q[i] * q[i];
      const V root = simd::sqrt(square),
              inverse = simd::select(square > V(1e-290), V(1.0) / square, V(0.0));
      r_[c * n + c] = root;
      for (int l = c + 1; l <= n; ++l) {
        V* const other = &columns_[static_cast<std::size_t>(l) * n_rows];
        V product(0.0);
        for (int i = 0; i < n_rows; ++i) product += q[i] * other[i];
        product *= inverse;
        for (int i = 0; i < n_rows; ++i) other[i] -= product * q[i];
        (l < n ? r_[c * n + l] : qt_b_[c]) = product * root;
      }
    }
  }

  /// overlaps_ at the state, and how they move along one of (Vh1, A), if j >= 0.
  void make_kernel(int j, bool finite_d) {
    using D = Dual<V>;
    const int n = map.side();
    typename Pack::template State<V> along(k_, n);
    typename Pack::template State<D> state(k_, n);
    typename Pack::template Matrix<D> vv(n);
    const auto& at = map.state();
    if (j >= 0) map.direction(j, along);
    const auto moving = [&](const V& x, const V& d) { return D(x, j >= 0 ? d : V(0.0)); };
    for (int g = 0; g < k_; ++g) state.v2[g] = moving(at.v2[g], along.v2[g]);
    for (int i = 0; i < n * n; ++i) {
      state.x.a[i] = moving(at.x.a[i], along.x.a[i]);
      vv.a[i] = {map.vv().a[i], V(0.0)};
    }
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h)
        if (map.at(g, h) == j) vv(g, h).d = V(1.0);
    GroupKernelMaker<V, K, wide>(map, vv, state).make(finite_d, overlaps_);
  }
  /// -d(hat^T K hat)/d(Vh1, A) at fixed hats, packed.
  void sources(bool finite_d) {
    source_.resize(map.packed);
    const auto& kernel = overlaps_;
    for (int j = 0; j < map.packed; ++j) {
      make_kernel(j, finite_d);
      V change(0.0);
      for (int g = 0; g < k_; ++g)
        for (int h = 0; h < k_; ++h) {
          V x =
              hat_v_[g] * (kernel.vv(g, h).d * hat_v_[h] + V(2.0) * kernel.vz(g, h).d * hat_z_[h]);
          x += hat_z_[g] * kernel.zz(g, h).d * hat_z_[h];
          x += hat_d_[g] *
               (kernel.dd(g, h).d * hat_d_[h] +
                V(2.0) * (kernel.dv(g, h).d * hat_v_[h] + kernel.dz(g, h).d * hat_z_[h]));
          if (finite_d) x += hat_m_[g] * kernel.mean(g, h).d * hat_m_[h];
          change += x;
        }
      source_[j] = -change / V(map.twice[j]);
    }
  }

  /// From the axes to the groups, unit convention.
  void turn_back(Order& out) const {
    std::vector<V> leg(k_ * k_), from(k_ * k_), half(k_ * k_);
    for (int g = 0; g < k_; ++g)
      for (int a = 0; a < k_; ++a)
        leg[g * k_ + a] = V(shared_.axis(g, a) / std::sqrt(shared_.step->groups[g].spike.c));
    const auto vector = [&](auto& x) {
      for (int a = 0; a < k_; ++a) from[a] = x[a];
      for (int g = 0; g < k_; ++g) {
        x[g] = V(0.0);
        for (int a = 0; a < k_; ++a) x[g] += leg[g * k_ + a] * from[a];
      }
    };
    const auto matrix = [&](auto& x) {
      for (int g = 0; g < k_; ++g)
        for (int b = 0; b < k_; ++b) {
          half[g * k_ + b] = V(0.0);
          for (int a = 0; a < k_; ++a)
            half[g * k_ + b] += leg[g * k_ + a] * V(0.5) * (x[a * k_ + b] + x[b * k_ + a]);
        }
      for (int g = 0; g < k_; ++g)
        for (int h = g; h < k_; ++h) {
          V sum(0.0);
          for (int b = 0; b < k_; ++b) sum += half[g * k_ + b] * leg[h * k_ + b];
          x[g * k_ + h] = x[h * k_ + g] = sum;
        }
    };
    vector(out.theta), vector(out.psi);
    matrix(out.q1), matrix(out.v1);
  }

  /// E[w e], E[w mu0^2], E[w (k mu1)^2], of the target's square w, w^2, and E w^2; then what the target
  /// has in common with the features (mu0 h, k mu1 h, mu1 h1 of each group) and the parts of its
  /// square: that of a sign is 1, whatever a rule makes of h.
  void probe(const GroupNodes& nodes, std::vector<V>& out) {
    this->weigh(nodes);
    const int n = map.packed;
    out.assign(n + 5 * k_ + 5, V(0.0));
    scales_.resize(out.size());
    V *const features = &out[n], *const rest = features + 2 * k_, *const cross = rest + 3;
    for (Index i = 0; i < nodes.size; ++i) {
      const V w = w_[i], ww = V(nodes.weight[i]) * w;
      const double h = nodes.h[i], h1 = nodes.h1[i];
      const V norm(h * h + h1 * h1 + nodes.rest[i]);
      for (int j = 0; j < n; ++j) out[j] += ww * V(nodes.e[i * nodes.stride + j]);
      for (int g = 0; g < k_; ++g) {
        const double mu0 = nodes.mu0[i * k_ + g], mu1 = nodes.mu1[i * k_ + g],
                     kmu1 = nodes.kmu1[i * k_ + g];
        features[g] += ww * V(mu0 * mu0), features[k_ + g] += ww * V(kmu1 * kmu1);
        cross[3 * g] += ww * V(mu0 * h), cross[3 * g + 1] += ww * V(kmu1 * h);
        cross[3 * g + 2] += ww * V(mu1 * h1);
      }
      rest[0] += ww * norm, rest[1] += ww * w * norm, rest[2] += ww * w;
      cross[3 * k_] += ww * V(h * h), cross[3 * k_ + 1] += ww * V(h1 * h1);
    }
  }

  const GroupStepShared& shared_;
  int k_;
  GroupKernel<Dual<V>, K> overlaps_;
  std::vector<V> columns_, r_, qt_b_, kernel_, kz_, hats_, x_fit_, work_, psi_, pulls_, source_;
  std::vector<V> hat_v_, hat_z_, hat_d_, hat_m_, probe_, denser_, scales_;
};

}  // namespace srfx
