// The overlaps K of (W vhat, W zhat, delta) and of the mean between the groups of a step, for a pack
// of points (THEORY 10, Overlaps), and their derivatives along (Vh1, A): dual numbers through the
// fixed point's.
#pragma once

#include "srfx/bulk/group_step_pack.hpp"

namespace srfx {

/// K over B of one pack, over the axes of vhat and zhat, and of the mean over beta d: K x K each.
template <class T, int K> struct GroupKernel {
  using Block = detail::Square<T, K>;
  Block vv, vz, zz, dv, dz, dd, mean;
  explicit GroupKernel(int k) : vv(k), vz(k), zz(k), dv(k), dz(k), dd(k), mean(k) {}
};

/// Makes K, and how it moves, from (VV, V2, X).
///
/// A pair (s, x) stands for s - L^T x L with L L^T = VV. s is a moment of the residual, and does not
/// move.
template <class V, int K, bool wide> class GroupKernelMaker {
  using T = Dual<V>;
  using Pack = GroupStepPack<V, K, wide>;
  using Matrix = typename Pack::template Matrix<T>;
  using State = typename Pack::template State<T>;
  using Block = detail::Square<T, K>;
  struct Full {
    double s;
    Matrix x;
  };
  struct Two {
    double s;
    Block x;
  };

 public:
  GroupKernelMaker(const Pack& pack, const Matrix& vv, const State& state)
      : pack_(pack),
        shared_(pack.shared()),
        step_(*pack.shared().step),
        n_(pack.side()),
        k_(pack.groups),
        vv_(vv),
        state_(state),
        x_(n_),
        left_(n_),
        xs_(n_),
        gm_(n_),
        vh1_(k_),
        t_left_(n_),
        t_xs_(n_) {}

  /// `finite_d`: whether the mean is wanted.
  void make(bool finite_d, GroupKernel<T, K>& out) {
    pack_.resolvents(vv_, state_.x, x_, left_, xs_);
    Matrix over_axes(n_);
    detail::multiply(vv_, left_, over_axes);
    pack_.turned(over_axes, true, gm_);
    for (int i = 0; i < k_; ++i)
      for (int j = 0; j < k_; ++j) vh1_(i, j) = vv_(i, j);
    gather(finite_d);
    if (finite_d) mean(out.mean);
    for (Block* block : {&out.vz, &out.dv, &out.dz, &out.dd}) block->fill(T(0.0));
    if (!step_.stepped) {  // W0 vhat and W0 zhat: V1 without and with vhat taken out
      out.vv = corner(x_), out.zz = corner(xs_);
      return;
    }
    Matrix xt = at_t_, axes(n_);
    for (int g = 0; g < k_; ++g) xt(g, g) += T(pack_.beta) * state_.v2[g];
    pack_.resolvents(vv_, xt, axes, t_left_, t_xs_);
    const double l = step_.l, gamma = step_.gamma,
                 rho =
                     step_.iota > 0 ? std::sqrt(step_.groups[0].moments.u[2] * step_.iota) / l : 0,
                 inverse_rho = rho < 1e-7 ? 0 : 1 / rho;
    const Full with_u = of_q(1, true);
    const Two ptv = block(scaled(1 / l, t_times(with_u))),
              pvt = block(scaled(1 / l, times_t(flipped(with_u)))),
              pvv = scaled(1 / (l * l), overlap(1, 1)),
              pvz = scaled(inverse_rho, sum(pvt, -gamma, pvv)),
              pzv = scaled(inverse_rho, sum(ptv, -gamma, pvv));
    Two pzz = sum(Two{1, corner(t_xs_)}, -gamma, sum(ptv, 1, pvt));
    pzz = scaled(inverse_rho * inverse_rho, sum(pzz, gamma * gamma, pvv));
    Block work(k_), one_over(k_), half(k_);
    detail::multiply(vh1_, pvv.x, work);
    for (int i = 0; i < k_; ++i)
      for (int j = 0; j < k_; ++j) work(i, j) = T(i == j ? 1.0 : 0.0) - work(i, j);
    detail::invert(work, one_over);
    detail::multiply(pvv.x, one_over, out.vv);
    detail::multiply(out.vv, vh1_, half);
    for (int i = 0; i < k_; ++i) half(i, i) += T(1.0);
    detail::multiply(half, pvz.x, out.vz);
    detail::multiply(pzv.x, vh1_, half);
    detail::multiply(half, out.vz, out.zz);
    for (int i = 0; i < k_ * k_; ++i) out.zz.a[i] += pzz.x.a[i];
    for (int g = 0; g < k_; ++g)
      out.dd(g, g) = times(step_.groups[g].c_delta, T(pack_.beta) * state_.v2[g]);
    if (step_.lean) lean(pvv, pvz, inverse_rho, gamma, out);
  }

 private:
  static constexpr int top = 7;

  /// Averages over the nodes of u: of u^n Y, t u^n Y, t^2 Y, Q.
  void gather(bool finite_d) {
    wanted_.fill(false), wanted_t_.fill(false);
    wanted_[2] = wanted_t_[1] = true;
    for (int a : shared_.powers) {
      wanted_t_[a] = wanted_[a + 1] = true;
      for (int b : shared_.powers) wanted_[a + b] = true;
    }
    y0_.clear(), y1_.clear();
    moment_.fill(0), moment_t_.fill(0);
    Matrix zero(n_);
    zero.fill(T(0.0));
    std::array<int, top> place{}, place_t{};
    for (int n = 0; n < top; ++n) {
      if (wanted_[n]) place[n] = static_cast<int>(y0_.size()), y0_.push_back(zero);
      if (wanted_t_[n]) place_t[n] = static_cast<int>(y1_.size()), y1_.push_back(zero);
    }
    at_t_.fill(T(0.0)), mean_q_.fill(T(0.0));
    typename Pack::template Node<T> node(pack_, state_.v2, gm_);
    const ResidualNodes& nodes = step_.nodes;
    const int elements = n_ * n_;
    for (Index i = 0; i < nodes.size(); ++i) {
      const double u = nodes.u[i], w0 = nodes.w[0][i], w1 = nodes.w[1][i], w2 = nodes.w[2][i];
      if (w0 == 0) continue;
      node.set(u);
      double power = 1;
      for (int n = 0; n < top; ++n, power *= u) {
        moment_[n] += w0 * power, moment_t_[n] += w1 * power;
        if (wanted_[n]) add(w0 * power, node.y, y0_[place[n]]);
        if (wanted_t_[n]) add(w1 * power, node.y, y1_[place_t[n]]);
      }
      add(w2, node.y, at_t_);
      if (!finite_d) continue;
      for (int e = 0; e < elements; ++e) mean_q_.a[e] += times(w0, node.q.a[e]);
    }
    // Over the axes, and times (1 + VV X)^-1/alpha0.
    const auto finish = [&](std::vector<Matrix>& all) {
      Matrix turned(n_);
      for (Matrix& y : all) {
        pack_.turned(y, false, turned);
        for (int i = 0; i < n_; ++i)
          for (int j = 0; j < n_; ++j) {
            T x(0.0);
            for (int l = 0; l < n_; ++l) x += turned(i, l) * right(left_, l, j);
            y(i, j) = times(step_.iota, x);
          }
      }
    };
    finish(y0_), finish(y1_);
    place_ = place, place_t_ = place_t;
  }
  void add(double factor, const Matrix& a, Matrix& to) const {
    for (int e = 0; e < n_ * n_; ++e) to.a[e] += times(factor, a.a[e]);
  }
  double sign(int i) const { return pack_.sign(i); }
  /// (1 + VV X)^-1 from (1 + X VV)^-1.
  T right(const Matrix& left, int i, int j) const { return times(sign(i) * sign(j), left(j, i)); }

  Full of_q(int n, bool with_t) const {
    return with_t ? Full{moment_t_[n], y1_[place_t_[n]]} : Full{moment_[n], y0_[place_[n]]};
  }
  Full flipped(const Full& q) const {
    Full out{q.s, Matrix(n_)};
    for (int i = 0; i < n_; ++i)
      for (int j = 0; j < n_; ++j) out.x(i, j) = right(q.x, i, j);
    return out;
  }
  Full times_left(const Full& q, const Matrix& left, const Matrix& sandwiched) const {
    Full out{q.s, Matrix(n_)};
    detail::multiply(left, q.x, out.x);
    add(q.s, sandwiched, out.x);
    return out;
  }
  Full t_times(const Full& q) const { return times_left(q, t_left_, t_xs_); }
  Full times_t(const Full& q) const {
    Full out{q.s, Matrix(n_)};
    for (int i = 0; i < n_; ++i)
      for (int j = 0; j < n_; ++j) {
        T x = times(q.s, t_xs_(i, j));
        for (int l = 0; l < n_; ++l) x += q.x(i, l) * right(t_left_, l, j);
        out.x(i, j) = x;
      }
    return out;
  }
  Block corner(const Matrix& a) const {
    Block out(k_);
    for (int i = 0; i < k_; ++i)
      for (int j = 0; j < k_; ++j) out(i, j) = a(i, j);
    return out;
  }
  Two block(const Full& a) const { return {a.s, corner(a.x)}; }
  /// Of v_(u^f) and v_(u^g).
  Two overlap(int f, int g) const {
    const Full nf = flipped(of_q(f, true)), ng = of_q(g, true),
               bulk = times_left(of_q(f + g, false), left_, xs_);
    // nf P_tt (its transpose): both factors from the right of nf.
    Matrix rest(n_), through(n_), product(n_);
    detail::multiply(nf.x, vv_, rest);
    for (int i = 0; i < n_; ++i)
      for (int j = 0; j < n_; ++j) rest(i, j) = T(i == j ? nf.s : 0.0) - rest(i, j);
    detail::multiply(t_left_, ng.x, through);
    detail::multiply(rest, through, product);
    add(ng.s, times_t(nf).x, product);
    add(step_.iota, bulk.x, product);
    return {step_.iota * bulk.s + nf.s * ng.s, corner(product)};
  }
  template <class Pair> Pair scaled(double factor, Pair a) const {
    a.s *= factor;
    for (int i = 0; i < a.x.n() * a.x.n(); ++i) a.x.a[i] = times(factor, a.x.a[i]);
    return a;
  }
  Two sum(Two a, double factor, const Two& b) const {
    a.s += factor * b.s;
    for (int i = 0; i < k_ * k_; ++i) a.x.a[i] += times(factor, b.x.a[i]);
    return a;
  }
  /// The product of two pairs.
  Two product(const Two& a, const Two& b) const {
    Two out{a.s * b.s, Block(k_)};
    Block half(k_);
    detail::multiply(a.x, vh1_, half);
    detail::multiply(half, b.x, out.x);
    for (int i = 0; i < k_ * k_; ++i)
      out.x.a[i] = times(a.s, b.x.a[i]) + times(b.s, a.x.a[i]) - out.x.a[i];
    return out;
  }

  /// What the row norms lean on: L_g = sum_n lean[g][n] v_(u^n).
  void lean(const Two& pvv, const Two& pvz, double inverse_rho, double gamma,
            GroupKernel<T, K>& out) const {
    const std::vector<int>& powers = shared_.powers;
    const std::size_t count = powers.size();
    const double l = step_.l;
    // P_vv^-1 = (1/s, -(s - x VV)^-1 x/s)
    Two inverse{1 / pvv.s, Block(k_)};
    Block work(k_), one_over(k_);
    detail::multiply(pvv.x, vh1_, work);
    for (int i = 0; i < k_; ++i)
      for (int j = 0; j < k_; ++j) work(i, j) = T(i == j ? pvv.s : 0.0) - work(i, j);
    detail::invert(work, one_over);
    detail::multiply(one_over, pvv.x, inverse.x);
    for (int i = 0; i < k_ * k_; ++i) inverse.x.a[i] = times(-inverse.s, inverse.x.a[i]);
    std::vector<Two> with, lz, vl;
    for (int n : powers) {
      vl.push_back(scaled(1 / l, overlap(1, n)));
      const Two lv = scaled(1 / l, overlap(n, 1));
      const Two lt = block(times_t(flipped(of_q(n, true))));
      with.push_back(product(lv, inverse));
      lz.push_back(sum(scaled(inverse_rho, sum(lt, -gamma, lv)), -1, product(with.back(), pvz)));
    }
    // Row g of s - Vh1 x, over the axes of the groups.
    const auto rows = [&](const std::vector<Two>& parts, Block& to) {
      Block row(k_);
      for (std::size_t p = 0; p < count; ++p) {
        detail::multiply(vh1_, parts[p].x, row);
        for (int i = 0; i < k_; ++i)
          for (int j = 0; j < k_; ++j) row(i, j) = T(i == j ? parts[p].s : 0.0) - row(i, j);
        for (int g = 0; g < k_; ++g) {
          const double factor = shared_.lean[g][powers[p]];
          if (factor == 0) continue;
          for (int h = 0; h < k_; ++h)
            for (int i = 0; i < k_; ++i) to(g, h) += times(factor * shared_.axis(g, i), row(i, h));
        }
      }
      for (int g = 0; g < k_; ++g)
        for (int h = 0; h < k_; ++h) to(g, h) = T(pack_.beta) * state_.v2[g] * to(g, h);
    };
    rows(with, out.dv), rows(lz, out.dz);
    Block both(k_), half(k_), turned(k_);
    for (std::size_t a = 0; a < count; ++a)
      for (std::size_t b = 0; b < count; ++b) {
        const Two ll = sum(overlap(powers[a], powers[b]), -1, product(with[a], vl[b]));
        detail::multiply(vh1_, ll.x, half);
        detail::multiply(half, vh1_, both);
        for (int i = 0; i < k_ * k_; ++i) both.a[i] = times(ll.s, vh1_.a[i]) - both.a[i];
        for (int g = 0; g < k_; ++g)
          for (int j = 0; j < k_; ++j) {
            T x(0.0);
            for (int i = 0; i < k_; ++i) x += times(shared_.axis(g, i), both(i, j));
            half(g, j) = x;
          }
        for (int g = 0; g < k_; ++g)
          for (int h = 0; h < k_; ++h) {
            const double factor = shared_.lean[g][powers[a]] * shared_.lean[h][powers[b]];
            if (factor == 0) continue;
            T x(0.0);
            for (int j = 0; j < k_; ++j) x += times(shared_.axis(h, j), half(g, j));
            const T size = times(-factor, T(pack_.beta * pack_.beta) * state_.v2[g]);
            out.dd(g, h) += size * state_.v2[h] * x;
          }
      }
  }

  /// K of the mean over beta d: the step damps the mean row, since f0 contains h1 wbar.x.
  void mean(Block& out) const {
    const StepConstants& c = step_.constants;
    const double rate = step_.eta * c.h1 * c.h1, eta2 = step_.eta * step_.eta * c.h1 * c.h1,
                 first = -2 * rate + eta2 * step_.square * (c.variance - c.h1 * c.h1) * step_.iota,
                 second = rate * rate * step_.square;
    Matrix gq(n_), twice(n_);
    detail::multiply(gm_, mean_q_, gq);
    for (int i = 0; i < n_; ++i)
      for (int j = 0; j < n_; ++j) {
        T x(0.0);
        for (int l = 0; l < n_; ++l) x += right(mean_q_, i, l) * gq(l, j);
        twice(i, j) = x;
      }
    Block y(k_);
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h) {
        const double both = step_.a[g] * step_.a[h] * std::sqrt(step_.pi[g] * step_.pi[h]);
        y(g, h) = times(both * (first + second * step_.iota), gq(g, h)) +
                  times(both * second, twice(g, h));
        if (g == h) y(g, g) += T(step_.pi[g]) / state_.v2[g];
      }
    detail::invert(y, out);
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h)
        out(g, h) = times(std::sqrt(step_.pi[g] * step_.pi[h]), out(g, h));
  }

  const Pack& pack_;
  const GroupStepShared& shared_;
  const GroupStep& step_;
  int n_, k_;
  const Matrix& vv_;
  const State& state_;
  Matrix x_, left_, xs_, gm_;
  Block vh1_;
  Matrix t_left_, t_xs_, at_t_{n_}, mean_q_{n_};
  std::array<bool, top> wanted_{}, wanted_t_{};
  std::array<double, top> moment_{}, moment_t_{};
  std::array<int, top> place_{}, place_t_{};
  std::vector<Matrix> y0_, y1_;  ///< times (1 + VV X)^-1/alpha0, over the axes
};

}  // namespace srfx
