// The equations for K groups of neurons of the isotropic bulk, one for each value of the initial
// readout (THEORY section 7; several spikes k_j and directions z_m: section 13): the map is
// GroupMap's, and
//
//   (m, theta): min E[w (h - mu0.m - sum_j k_j mu1.theta_j)^2] + sum_j theta_j^T (beta a' D)^-1
//               theta_j [finite d: + m^T (alpha d D)^-1 m]
//   psi_m = beta V1 psih_m,   psih_m = a' E[h1_m mu1 w]
//   sources of Q', through T: (sum_j theta_j^2 + sum_m psi_m^2 [+ m^2/d])/(beta V2^2)
#pragma once

#include "srfx/solve/group_solver.hpp"

namespace srfx {

/// Sums that tell two rules in k apart at a given V: those that the equations are made of.
template <class V> struct GroupProbe {
  std::vector<V> sums, scales;
};

/// K groups of the isotropic bulk.
template <class V, int K> class GroupSystem : public GroupSolver<V, GroupMap<V, K>> {
  template <class, int>
  friend class GroupTangent;  // group_gradient.hpp: differentiates what is found here
  using Base = GroupSolver<V, GroupMap<V, K>>;
  using Base::point_, Base::step_, Base::w_, Base::c_, Base::x_, Base::scale_;

 public:
  using Base::map, Base::v;
  explicit GroupSystem(int k) : Base(GroupMap<V, K>(k)), test_(k) {}

  /// Where the iteration starts, lam > 0: V = pi/lam, diagonal.
  void start() {
    for (int i = 0; i < map.pairs; ++i) v[i] = V(0);
    for (int g = 0; g < map.groups; ++g)
      v[map.at(g, g)] = v[map.pairs + g] = map.pi[g] / point_.lam;
  }
  void set_point(const Point<V>& p) { point_ = p, map.beta = p.beta; }

  /// The linear part at v, which it may still improve: theta and, if `finite_d`, m cost their
  /// penalties (THEORY section 5), psi = beta V1 psih.
  void linear_part(const GroupNodes& nodes, bool finite_d, GroupOrder<V, K>& out) {
    for (int pass = 0;; ++pass) {
      this->look(nodes, true);
      const auto worth = (step_ > V(2e-13)) & (step_ < V(0.1));
      if (pass == 3 || !simd::any(worth)) break;
      for (int i = 0; i < map.packed; ++i) v[i] = simd::select(worth, v[i] + x_[i], v[i]);
    }
    const int k = map.groups, n_mean = finite_d ? k : nodes.rank, n_spiked = nodes.n_columns(),
              n_columns = n_mean + n_spiked, n_directions = nodes.directions;
    const double* const mean_columns = finite_d ? nodes.mu0.data() : nodes.basis.data();
    fit(nodes, finite_d, mean_columns, n_mean);
    for (int c = 0; c < n_spiked; ++c) out.theta[c] = solution_[n_mean + c];
    for (int g = 0; g < k; ++g) {
      out.m[g] = V(0);
      if (finite_d) out.m[g] = solution_[g];
      else
        for (int c = 0; c < n_mean; ++c) out.m[g] += V(nodes.to_m[g * n_mean + c]) * solution_[c];
    }
    for (int m = 0; m < n_directions; ++m) {
      for (int g = 0; g < k; ++g) {
        V hat(0);
        for (Index i = 0; i < nodes.size; ++i)
          hat += V(nodes.weight[i] * nodes.mu1[i * k + g] * nodes.h1[i * n_directions + m]) * w_[i];
        test_[g] = point_.ratio * hat;
      }
      for (int g = 0; g < k; ++g) {
        V x(0);
        for (int h = 0; h < k; ++h) x += map.v1[g * k + h] * test_[h];
        out.psi[m * k + g] = point_.beta * x;
      }
    }
    for (int c = 0; c < n_columns; ++c) coefficients_[c] = V(0);
    const auto left = [&](Index i) {
      V e(nodes.h[i]);
      for (int c = 0; c < n_mean; ++c) e -= V(mean_columns[i * n_mean + c]) * solution_[c];
      for (int c = 0; c < n_spiked; ++c) e -= V(nodes.kmu1[i * n_spiked + c]) * out.theta[c];
      return e;
    };
    const typename Base::Misfit r = this->misfit(nodes, out.psi, left, [&](Index i, const V& we) {
      for (int c = 0; c < n_mean; ++c) coefficients_[c] += we * V(mean_columns[i * n_mean + c]);
      for (int c = 0; c < n_spiked; ++c)
        coefficients_[n_mean + c] += we * V(nodes.kmu1[i * n_spiked + c]);
    });
    V defect(0);
    for (int c = 0; c < n_columns; ++c)
      defect += simd::abs(solution_[c] * (coefficients_[c] - penalty_[c] * solution_[c]));
    for (int g = 0; g < k; ++g) {
      const V v2 = v[map.pairs + g];
      V square = out.theta[g] * out.theta[g] + out.psi[g] * out.psi[g];
      for (int c = k + g; c < n_spiked; c += k) square += out.theta[c] * out.theta[c];
      for (int c = k + g; c < n_directions * k; c += k) square += out.psi[c] * out.psi[c];
      if (finite_d) square += point_.inverse_d * out.m[g] * out.m[g];
      c_[map.pairs + g] += square / (point_.beta * v2 * v2);
    }
    this->complete(nodes, r, defect, nullptr, out);
  }

  /// The averages at v that tell a rule from a denser one.
  void probe(const GroupNodes& nodes, GroupProbe<V>& out) {
    this->weigh(nodes);
    const int k = map.groups, n_spiked = nodes.n_columns(), n_directions = nodes.directions,
              n_signed = k + n_spiked + n_directions * k, n_norms = k + n_spiked,
              n_sums = map.packed + n_signed + 5 + n_norms;
    out.sums.assign(n_sums, V(0));
    out.scales.assign(n_sums, V(0));
    V* const cross = &out.sums[map.packed];
    V* const rest = cross + n_signed;
    V* const norms = rest + 5;
    for (Index i = 0; i < nodes.size; ++i) {
      const V w = w_[i], ww = V(nodes.weight[i]) * w;
      const double h = nodes.h[i], other = nodes.rest[i];
      for (int j = 0; j < map.packed; ++j) out.sums[j] += ww * V(nodes.e[i * nodes.stride + j]);
      for (int g = 0; g < k; ++g) {
        const double mu0 = nodes.mu0[i * k + g];
        cross[g] += ww * V(mu0 * h);
        norms[g] += ww * V(mu0 * mu0);
      }
      for (int c = 0; c < n_spiked; ++c) {
        const double kmu1 = nodes.kmu1[i * n_spiked + c];
        cross[k + c] += ww * V(kmu1 * h);
        norms[k + c] += ww * V(kmu1 * kmu1);
      }
      double h1_square = 0;
      for (int m = 0; m < n_directions; ++m) {
        const double h1 = nodes.h1[i * n_directions + m];
        h1_square += h1 * h1;
        for (int g = 0; g < k; ++g) cross[n_norms + m * k + g] += ww * V(nodes.mu1[i * k + g] * h1);
      }
      rest[0] += ww * V(h * h);
      rest[1] += ww * V(h1_square);
      rest[2] += ww * V(other);
      rest[3] += ww * w * V(h * h + h1_square + other);
      rest[4] += ww * w;
    }
    const V target = rest[0] + rest[1] + rest[2];
    for (int g = 0; g < k; ++g)
      for (int h = g; h < k; ++h)
        out.scales[map.at(g, h)] = simd::sqrt(out.sums[map.at(g, g)] * out.sums[map.at(h, h)]);
    V all(0);
    for (int g = 0; g < k; ++g) all += out.sums[map.pairs + g];
    for (int g = 0; g < k; ++g)
      out.scales[map.pairs + g] = simd::max(out.sums[map.pairs + g], V(1e-3) * all);
    for (int c = 0; c < n_signed; ++c) {
      const V size = c < n_norms ? norms[c] : out.sums[map.at(c % k, c % k)];
      out.scales[map.packed + c] =
          simd::max(simd::abs(cross[c]), V(0.01) * simd::sqrt(size * target));
    }
    for (int s = 0; s < 5; ++s) out.scales[map.packed + n_signed + s] = s < 3 ? target : rest[s];
    for (int s = 0; s < n_norms; ++s) out.scales[map.packed + n_signed + 5 + s] = norms[s];
  }
  static V difference(const GroupProbe<V>& a, const GroupProbe<V>& b) {
    V worst(0);
    for (std::size_t s = 0; s < a.sums.size(); ++s)
      worst = simd::max(worst, simd::select(b.scales[s] > V(1e-280),
                                            simd::abs(a.sums[s] - b.sums[s]) / b.scales[s], V(0)));
    return worst;
  }

 private:
  /// The least-squares problem for (m, theta): columns over the nodes, then a row for each penalty.
  /// The factors stay in columns_.
  void fit(const GroupNodes& nodes, bool finite_d, const double* mean_columns, int n_mean) {
    const int k = map.groups, n_nodes = static_cast<int>(nodes.size), n_spiked = nodes.n_columns(),
              n_columns = n_mean + n_spiked, n_rows = n_nodes + n_columns;
    columns_.resize(static_cast<std::size_t>(n_rows) * (n_columns + 1));
    coefficients_.resize(n_columns * (n_columns + 1));
    V* const target = &columns_[static_cast<std::size_t>(n_rows) * n_columns];
    for (int i = 0; i < n_nodes; ++i) {
      const V root = simd::sqrt(V(nodes.weight[i]) * w_[i]);
      for (int c = 0; c < n_mean; ++c)
        columns_[c * n_rows + i] = root * V(mean_columns[i * n_mean + c]);
      for (int c = 0; c < n_spiked; ++c)
        columns_[(n_mean + c) * n_rows + i] = root * V(nodes.kmu1[i * n_spiked + c]);
      target[i] = root * V(nodes.h[i]);
    }
    for (int c = 0; c <= n_columns; ++c)
      for (int i = n_nodes; i < n_rows; ++i) columns_[c * n_rows + i] = V(0);
    penalty_.assign(n_columns, V(0));
    for (int c = 0; c < n_spiked; ++c)
      penalty_[n_mean + c] = V(1) / (point_.alpha * v[map.pairs + c % k]);
    for (int g = 0; finite_d && g < k; ++g) penalty_[g] = point_.inverse_d * penalty_[n_mean + g];
    for (int c = 0; c < n_columns; ++c)
      columns_[c * n_rows + n_nodes + c] = simd::sqrt(penalty_[c]);
    solution_.resize(n_columns);
    least_squares(n_rows, n_columns);
  }

  /// Least squares by modified Gram-Schmidt, the target carried along as one more column.
  void least_squares(int n_rows, int n_columns) {
    for (int c = 0; c < n_columns; ++c) {
      const V* const q = &columns_[static_cast<std::size_t>(c) * n_rows];
      V square(0);
      for (int i = 0; i < n_rows; ++i) square += q[i] * q[i];
      const V inverse = simd::select(square > V(0), V(1) / square, V(0));
      for (int l = c + 1; l <= n_columns; ++l) {
        V* const other = &columns_[static_cast<std::size_t>(l) * n_rows];
        V product(0);
        for (int i = 0; i < n_rows; ++i) product += q[i] * other[i];
        product *= inverse;
        for (int i = 0; i < n_rows; ++i) other[i] -= product * q[i];
        coefficients_[c * (n_columns + 1) + l] = product;
      }
    }
    for (int c = n_columns; c-- > 0;) {
      V x = coefficients_[c * (n_columns + 1) + n_columns];
      for (int l = c + 1; l < n_columns; ++l)
        x -= coefficients_[c * (n_columns + 1) + l] * solution_[l];
      solution_[c] = x;
    }
  }

  typename GroupMap<V, K>::Vector test_;
  std::vector<V> columns_, coefficients_, penalty_, solution_;
};

}  // namespace srfx
