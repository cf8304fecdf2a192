// What the bulk of a step with several readout values tells a solver: V, its derivative T, and the
// overlaps K of (W vhat, W zhat, delta) and the mean between the groups (THEORY 10, Overlaps).
//
// Derivatives of V and of hat^T K hat along (Vh1, A) are complex steps through the fixed point,
// exact to rounding. Results are in the unit-bulk convention of section 3: Vh1 there is sqrt(c_g
// c_h) times that of section 10, V1, theta and psi inversely.
#pragma once

#include "srfx/bulk/group_step_map.hpp"

namespace srfx {

/// K of (W vhat, W zhat_m, delta) between the groups, over B, and of the mean over beta d (THEORY
/// 10 and 14): K x K each; a block after the other for the directions of the target, zhat_m.
template <class T> struct GroupOverlaps {
  Mat<T> vv, vz, zz, dv, dz, dd, mean;

  /// All but the mean as one symmetric matrix, in the order v, z_1, .., delta.
  [[gnu::noinline]] Mat<T> joint() const {
    const Index n = vv.rows(), z = zz.rows(), d = n + z;
    Mat<T> out(d + n, d + n);
    const auto put = [&](const Mat<T>& block, Index row, Index column) {
      for (Index i = 0; i < block.rows(); ++i)
        for (Index j = 0; j < block.cols(); ++j)
          out(row + i, column + j) = out(column + j, row + i) = block(i, j);
    };
    put(vv, 0, 0), put(vz, 0, n), put(zz, n, n);
    put(dv, d, 0), put(dz, d, n), put(dd, d, d);
    return out;
  }
};

/// The bulk of groups of the step as a policy: what GroupSolver asks for, and overlaps.
class GroupStepBulk : public GroupStepMap {
 public:
  using GroupStepMap::GroupStepMap;

  /// Finds the state at packed averages, unit convention, and V there; traces (packed x packed) is
  /// T.
  void solve(const Eigen::VectorXd& vh, double lam) {
    vh_ = vh, lam_ = lam;
    const Parameters<double> p = parameters<double>(vh);
    failed_ = !(vh.allFinite() && p.a.minCoeff() > 0);
    if (!failed_ && !(known_ && follow(p)) && !plainly(p)) {
      // From A so large that V2 = pi/A: along falling A there is one solution, analytic in lam.
      at_ = p;
      at_.a.array() += 1e3 * p.vv.diagonal().maxCoeff() * (1 + coupling());
      failed_ = !plainly(at_) || !follow(p);
    }
    known_ = !failed_;
    if (failed_) {
      v_.setConstant(packed, std::numeric_limits<double>::quiet_NaN());
      traces_.setConstant(packed, packed, std::numeric_limits<double>::quiet_NaN());
      moved_.assign(packed, State<C>{Vec<C>::Zero(k_), Mat<C>::Zero(n_, n_)});
      return;
    }
    v_ = values<double>(p, state_);
    // T = -dV/d(Vh1, A): the state moves by the implicit function theorem, V by complex steps.
    if (defect_ > 1e-13) {  // else what the last step of Newton's method came from will do
      evaluate(p, state_, step_->nodes, &linear_);
      jacobian_.compute(linear_.state);
    }
    const Eigen::MatrixXd moves = tiny * jacobian_.solve(linear_.along);
    const Vec<double> at = pack(state_);
    traces_.resize(packed, packed);
    moved_.clear();
    for (int j = 0; j < packed; ++j) {
      Vec<C> y = at.cast<C>();
      for (int i = 0; i < unknowns_; ++i) y(i) += C(0, moves(i, j));
      moved_.push_back(unpack<C>(y));
      const Vec<C> w = values<C>(parameters<C>(shifted(j)), moved_.back());
      traces_.col(j) = -w.imag() / tiny;
    }
  }
  /// The same, as GroupSolver asks for it.
  void solve_at(const double* vh, double lam, double* value) {
    solve(Eigen::Map<const Eigen::VectorXd>(vh, packed), lam);
    Eigen::Map<Eigen::VectorXd>(value, packed) = v_;
  }
  void traces(const double* n, double* q) const {
    for (int i = 0; i < packed; ++i) {
      q[i] = 0;
      for (int j = 0; j < packed; ++j) q[i] += traces_(i, j) * n[j];
    }
  }
  using GroupStepMap::values;
  const Eigen::VectorXd& values() const { return v_; }
  const Eigen::MatrixXd& traces() const { return traces_; }
  GroupOverlaps<double> overlaps() const {
    return overlaps<double>(parameters<double>(vh_), state_);
  }
  /// Largest relative change of the map, and of several directions of the overlaps, on another rule
  /// for u.
  double compare(const ResidualNodes& other) const {
    double worst = GroupStepMap::compare(other);
    if (step_->directions() == 1) return worst;
    const Parameters<double> p = parameters<double>(vh_);
    const GroupOverlaps<double> a = overlaps<double>(p, state_),
                                b = overlaps<double>(p, state_, other);
    const auto off = [&](const Mat<double>& x, const Mat<double>& y, const Mat<double>& left,
                         const Mat<double>& right) {
      for (Index i = 0; i < x.rows(); ++i)
        for (Index j = 0; j < x.cols(); ++j) {
          const double size = std::sqrt(std::abs(left(i, i) * right(j, j)));
          if (size > 0) worst = std::max(worst, std::abs(x(i, j) - y(i, j)) / size);
        }
    };
    off(a.vv, b.vv, a.vv, a.vv), off(a.vz, b.vz, a.vv, a.zz), off(a.zz, b.zz, a.zz, a.zz);
    off(a.dv, b.dv, a.dd, a.vv), off(a.dz, b.dz, a.dd, a.zz), off(a.dd, b.dd, a.dd, a.dd);
    return worst;
  }
  /// dK along entry j of (Vh1, A).
  GroupOverlaps<double> slope(int j) const {
    const GroupOverlaps<C> k = overlaps<C>(parameters<C>(shifted(j)), moved_[j]);
    const auto of = [](const Mat<C>& matrix) { return Mat<double>(matrix.imag() / tiny); };
    return {of(k.vv), of(k.vz), of(k.zz), of(k.dv), of(k.dz), of(k.dd), of(k.mean)};
  }
  /// -d(hat^T K hat)/d(Vh1, A) at fixed hats (columns v, z_1, .., delta, mean of `hats`; the mean
  /// scaled by sqrt(beta d)), packed; the first `count` entries.
  Eigen::VectorXd sources(const Eigen::MatrixXd& hats, int count) const {
    Eigen::VectorXd out(count);
    const Index n = hats.size() - k_;
    const Eigen::VectorXd h = Eigen::Map<const Eigen::VectorXd>(hats.data(), n),
                          m = Eigen::Map<const Eigen::VectorXd>(hats.data() + n, k_);
    for (int j = 0; j < count; ++j) {
      const GroupOverlaps<double> k = slope(j);
      out(j) = -(h.dot(detail::apply(k.joint(), h)) + m.dot(detail::apply(k.mean, m))) / twice[j];
    }
    return out;
  }
  Eigen::VectorXd sources(const Eigen::MatrixXd& hats) const { return sources(hats, packed); }

 private:
  // --- overlaps: (s, x) stands for s - L^T x L with L L^T = VV ---

  template <class T> struct Two {
    T s;
    Mat<T> x;
    friend Two operator+(const Two& a, const Two& b) { return {a.s + b.s, a.x + b.x}; }
    friend Two operator-(const Two& a, const Two& b) { return {a.s - b.s, a.x - b.x}; }
    friend Two operator*(const T& f, const Two& a) { return {f * a.s, f * a.x}; }
  };
  template <class T> static Two<T> times(const Two<T>& a, const Two<T>& b, const Mat<T>& vv) {
    Mat<T> x = detail::mul(detail::mul(a.x, vv), b.x);
    for (Index i = 0; i < x.size(); ++i)
      x.data()[i] = a.s * b.x.data()[i] + b.s * a.x.data()[i] - x.data()[i];
    return {a.s * b.s, x};
  }
  template <class T> static Two<T> inverse(const Two<T>& a, const Mat<T>& vv) {
    const Mat<T> m = a.s * detail::identity<T>(static_cast<int>(vv.rows())) - detail::mul(a.x, vv);
    return {T(1) / a.s, detail::mul(dense::inverse(m), a.x) / -a.s};
  }

  // With a part for each direction of the target on one side: s in its space, x a block for each.
  template <class T> struct Wide {
    std::vector<T> s;
    Mat<T> x;
  };
  /// x over all directions: the same for each.
  template <class T> static Mat<T> repeated(const Mat<T>& x, int count) {
    if (count == 1) return x;
    const Index n = x.rows();
    Mat<T> out = Mat<T>::Zero(count * n, count * n);
    for (int l = 0; l < count; ++l)
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < n; ++j) out(l * n + i, l * n + j) = x(i, j);
    return out;
  }
  /// x (s (x) 1) for a column of numbers s, and (s (x) 1) x for a row.
  template <class T> static Mat<T> times_column(const Mat<T>& x, const std::vector<T>& s) {
    const int count = static_cast<int>(s.size());
    const Index n = x.cols() / count;
    Mat<T> out(x.rows(), n);
    for (Index i = 0; i < x.rows(); ++i)
      for (Index j = 0; j < n; ++j) {
        out(i, j) = s[0] * x(i, j);
        for (int l = 1; l < count; ++l) out(i, j) += s[l] * x(i, l * n + j);
      }
    return out;
  }
  template <class T> static Mat<T> row_times(const std::vector<T>& s, const Mat<T>& x) {
    const int count = static_cast<int>(s.size());
    const Index n = x.rows() / count;
    Mat<T> out(n, x.cols());
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < x.cols(); ++j) {
        out(i, j) = s[0] * x(i, j);
        for (int l = 1; l < count; ++l) out(i, j) += s[l] * x(l * n + i, j);
      }
    return out;
  }

  template <class T> GroupOverlaps<T> overlaps(const Parameters<T>& p, const State<T>& s) const {
    return overlaps<T>(p, s, step_->nodes);
  }
  template <class T>
  GroupOverlaps<T> overlaps(const Parameters<T>& p, const State<T>& s,
                            const ResidualNodes& nodes) const {
    const GroupStep& step = *step_;
    const int count = step.directions(), seconds = count * (count + 1) / 2;
    using detail::add, detail::corner, detail::mul;
    const Mat<T>& vv = p.vv;
    const Mat<T> vh1 = corner(vv, k_), one = detail::identity<T>(k_),
                 unit = detail::identity<T>(n_);
    const Resolvents<T> of_g = resolvents<T>(p, s.x);
    const Mat<T>&x = of_g.x, &left = of_g.left, &right = of_g.right;
    const Mat<T> gm = turned_back<T>(mul(p.vv, left));
    constexpr int top = 7;
    double e0[top] = {};
    std::vector<std::array<double, 4>> e1(static_cast<std::size_t>(count));
    const int powers = step.lean ? top : 3, powers1 = step.lean ? 4 : 2;
    using V = typename detail::Packed<T>::Type;
    const int square = n_ * n_;
    detail::Scratch<V> scratch(Node<T>::size(n_, k_) + (top + 4 * count + seconds + 3) * square);
    Node<T> node(*this, s.v2, gm, scratch);
    V *const s0 = scratch.zeros(top * square), *const s1 = scratch.zeros(4 * count * square),
             *const s2 = scratch.zeros(seconds * square);
    V *const sum_q = scratch.zeros(square), *const sum_gy = scratch.zeros(square),
             *const gy = scratch.take(square);
    for (Index at = 0; at < nodes.size(); at += 8) {
      using Real = detail::Eight;
      const Real u = Real::load(&nodes.u[at]), w0 = Real::load(&nodes.w[0][at]);
      node.set(u);
      node.multiply(node.gm, node.y, gy);
      Real power(1.0);
      for (int n = 0; n < powers; ++n, power *= u) {
        const Real a = w0 * power;
        for (int i = 0; i < square; ++i) s0[n * square + i] += a * node.y[i];
        e0[n] += detail::Packed<double>::total(a);
        for (int l = 0; l < count && n < powers1; ++l) {
          const Real b = Real::load(&nodes.w[step.row_of(l)][at]) * power;
          for (int i = 0; i < square; ++i) s1[(4 * l + n) * square + i] += b * node.y[i];
          e1[l][n] += detail::Packed<double>::total(b);
        }
      }
      for (int j = 0; j < seconds; ++j) {
        const Real w2 = Real::load(&nodes.w[1 + count + j][at]);
        for (int i = 0; i < square; ++i) s2[j * square + i] += w2 * node.y[i];
      }
      for (int i = 0; i < square; ++i) sum_q[i] += w0 * node.q[i], sum_gy[i] += w0 * gy[i];
    }
    const auto gathered = [&](const V* sum) {
      Mat<T> out(n_, n_);
      for (int i = 0; i < n_; ++i)
        for (int j = 0; j < n_; ++j) out(i, j) = detail::Packed<T>::total(sum[i * n_ + j]);
      return out;
    };
    std::vector<Mat<T>> y0, y1;
    for (int n = 0; n < top; ++n) y0.push_back(turned<T>(gathered(s0 + n * square)));
    for (int n = 0; n < 4 * count; ++n) y1.push_back(turned<T>(gathered(s1 + n * square)));
    const Mat<T> mean_q = gathered(sum_q);
    const Mat<T> mean_qt =
        T(e0[0]) * unit -
        T(step.iota) * gathered(sum_gy);  // (1 + Gm B/alpha0)^-1 = 1 - Gm Y/alpha0
    GroupOverlaps<T> out;
    out.mean = mean(s, gm, mean_q, mean_qt);
    if (!step.stepped) {  // W0 vhat and W0 zhat: V1 without and with vhat taken out
      out.vv = corner(x, k_);
      out.zz = repeated(corner(sandwiched(left, x), k_), count);
      out.dv = out.dd = Mat<T>::Zero(k_, k_);
      out.vz = out.dz = Mat<T>::Zero(k_, count * k_);
      scale_legs(out);
      return out;
    }
    Mat<T> xt(count * n_, count * n_);
    for (int l = 0; l < count; ++l)
      for (int m = l; m < count; ++m) {
        Mat<T> block = gathered(s2 + detail::index(count, l, m) * square);
        for (int g = 0; g < k_ && l == m; ++g) block(g, g) += beta_ * s.v2(g);
        block = turned(block);
        for (int i = 0; i < n_; ++i)
          for (int j = 0; j < n_; ++j)
            xt(l * n_ + i, m * n_ + j) = xt(m * n_ + i, l * n_ + j) = block(i, j);
      }
    const Mat<T> vv_t = repeated(vv, count);
    const Resolvents<T> of_t = over_axes<T>(xt, vv_t);
    // g and t: 1 - x VV is `left` of theirs, 1 - VV x is `right`, without the cancellation.
    const Two<T> gme{T(1), sandwiched(left, x)};
    const Mat<T> tt = sandwiched(of_t.left, of_t.x);
    using Polynomial = std::array<double, top>;
    const auto of_q = [&](const Polynomial& f) {
      Two<T> sum{T(0), Mat<T>::Zero(n_, n_)};
      for (int n = 0; n < top; ++n) {
        if (f[n] == 0) continue;
        sum.s += f[n] * e0[n];
        add<T>(f[n], y0[n], sum.x);
      }
      sum.x = mul(sum.x, right);
      sum.x *= T(step.iota);
      return sum;
    };
    // E[f t_l Q] one below the other, and E[f t_l Qt] side by side.
    const auto column = [&](const Polynomial& f) {
      Wide<T> out_{std::vector<T>(static_cast<std::size_t>(count)), Mat<T>(count * n_, n_)};
      for (int l = 0; l < count; ++l) {
        Mat<T> sum = Mat<T>::Zero(n_, n_);
        out_.s[l] = T(0);
        for (int n = 0; n < 4; ++n) {
          if (f[n] == 0) continue;
          out_.s[l] += f[n] * e1[l][n];
          add<T>(f[n], y1[4 * l + n], sum);
        }
        sum = mul(sum, right);
        for (int i = 0; i < n_; ++i)
          for (int j = 0; j < n_; ++j) out_.x(l * n_ + i, j) = sum(i, j) * T(step.iota);
      }
      return out_;
    };
    const auto row = [&](const Polynomial& f) {
      const Wide<T> q = column(f);
      Wide<T> out_{q.s, Mat<T>(n_, count * n_)};
      for (int i = 0; i < n_; ++i)
        for (int j = 0; j < count * n_; ++j) out_.x(i, j) = sign(i) * sign(j) * q.x(j, i);
      return out_;
    };
    const auto g_times = [&](const Two<T>& q) { return Two<T>{q.s, q.s * gme.x + mul(left, q.x)}; };
    const auto t_times = [&](const Wide<T>& q) {
      return Wide<T>{q.s, times_column(tt, q.s) + mul(of_t.left, q.x)};
    };
    const auto times_t = [&](const Wide<T>& q) {
      return Wide<T>{q.s, row_times(q.s, tt) + mul(q.x, of_t.right)};
    };
    const auto times_t_times = [&](const Wide<T>& a, const Wide<T>& b) {
      Two<T> out_{T(0), Mat<T>()};
      Mat<T> rest(n_, count * n_);
      const Mat<T> moved = mul(a.x, vv_t);
      for (int l = 0; l < count; ++l) {
        out_.s += a.s[l] * b.s[l];
        for (int i = 0; i < n_; ++i)
          for (int j = 0; j < n_; ++j)
            rest(i, l * n_ + j) = (i == j ? a.s[l] : T(0)) - moved(i, l * n_ + j);
      }
      out_.x = times_column(times_t(a).x, b.s) + mul(rest, mul(of_t.left, b.x));
      return out_;
    };
    const auto block = [&](const Two<T>& a) { return Two<T>{a.s, corner(a.x, k_)}; };
    // The 11 blocks of a row or a column, those of each direction.
    const auto blocks = [&](const Wide<T>& a) {
      std::vector<Two<T>> out_;
      const bool across = a.x.cols() > n_;
      for (int l = 0; l < count; ++l) {
        Mat<T> x_(k_, k_);
        for (int i = 0; i < k_; ++i)
          for (int j = 0; j < k_; ++j) x_(i, j) = across ? a.x(i, l * n_ + j) : a.x(l * n_ + i, j);
        out_.push_back({a.s[l], x_});
      }
      return out_;
    };
    const auto product = [](const Polynomial& f, const Polynomial& g) {
      Polynomial out_{};
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4 && i + j < top; ++j) out_[i + j] += f[i] * g[j];
      return out_;
    };
    const auto overlap = [&](const Polynomial& f, const Polynomial& g) {
      return block(T(step.iota) * g_times(of_q(product(f, g))) + times_t_times(row(f), column(g)));
    };
    const Polynomial fv{0, 1 / step.l};
    const Two<T> pvv = overlap(fv, fv);
    const std::vector<Two<T>> ptv = blocks(t_times(column(fv))), pvt = blocks(times_t(row(fv)));
    const double gamma = step.gamma,
                 rho = step.iota > 0 ? std::sqrt(step.groups[0].moments.u[2] * step.iota) / step.l
                                     : 0;
    const bool aligned = rho < 1e-7;
    const T inverse_rho(aligned ? 0 : 1 / rho);
    // zhat_1 is what vhat leaves of the first axis; the others are as they are.
    const auto across = [&](int m, const Two<T>& of_axis, const Two<T>& of_v) {
      return m == 0 ? inverse_rho * (of_axis - T(gamma) * of_v) : of_axis;
    };
    out.vv = mul(pvv.x, dense::inverse(Mat<T>(one - mul(vh1, pvv.x))));
    out.vz.resize(k_, count * k_), out.zz.resize(count * k_, count * k_);
    const Mat<T> with_v = one + mul(out.vv, vh1);
    std::vector<Two<T>> pvz;
    std::vector<Mat<T>> kvz;
    for (int m = 0; m < count; ++m) {
      pvz.push_back(across(m, pvt[m], pvv));
      kvz.push_back(mul<T>(with_v, pvz[m].x));
      out.vz.block(0, m * k_, k_, k_) = kvz[m];
    }
    for (int l = 0; l < count; ++l)
      for (int m = 0; m < count; ++m) {
        Two<T> pzz{T(l == m ? 1 : 0), Mat<T>(k_, k_)};
        for (int i = 0; i < k_; ++i)
          for (int j = 0; j < k_; ++j) pzz.x(i, j) = tt(l * n_ + i, m * n_ + j);
        if (l == 0 && m == 0)
          pzz = (inverse_rho * inverse_rho) *
                (pzz - T(gamma) * (ptv[0] + pvt[0]) + T(gamma * gamma) * pvv);
        else if (l == 0) pzz = inverse_rho * (pzz - T(gamma) * pvt[m]);
        else if (m == 0) pzz = inverse_rho * (pzz - T(gamma) * ptv[l]);
        out.zz.block(l * k_, m * k_, k_, k_) =
            pzz.x + mul(mul(across(l, ptv[l], pvv).x, vh1), kvz[m]);
      }
    out.dv = out.dd = Mat<T>::Zero(k_, k_), out.dz = Mat<T>::Zero(k_, count * k_);
    for (int g = 0; g < k_; ++g) out.dd(g, g) = beta_ * s.v2(g) * step.groups[g].c_delta;
    if (step.lean) {
      const Two<T> inverse_vv = inverse(pvv, vh1);
      std::vector<Two<T>> lv, vl;
      std::vector<std::vector<Two<T>>> lt;
      std::vector<Polynomial> f(k_, Polynomial{});
      for (int g = 0; g < k_; ++g) {
        for (int n = 0; n < 4; ++n) f[g][n] = step.groups[g].la[n] + step.groups[g].lb[n];
        lv.push_back(overlap(f[g], fv)), vl.push_back(overlap(fv, f[g]));
        lt.push_back(blocks(times_t(row(f[g]))));
      }
      for (int g = 0; g < k_; ++g) {
        const Two<T> with = times(lv[g], inverse_vv, vh1);
        const Mat<T> own = axes_.row(g).head(k_).template cast<T>();
        const auto set_row = [&](const Two<T>& a, Mat<T>& to, int first) {
          const Mat<T> values_g = mul<T>(own, a.s * one - mul(vh1, a.x));
          for (int h = 0; h < k_; ++h) to(g, first + h) = beta_ * s.v2(g) * values_g(0, h);
        };
        set_row(with, out.dv, 0);
        for (int m = 0; m < count; ++m)
          set_row(across(m, lt[g][m], lv[g]) - times(with, pvz[m], vh1), out.dz, m * k_);
        for (int h = 0; h < k_; ++h) {
          const Two<T> ll = overlap(f[g], f[h]) - times(with, vl[h], vh1);
          const Mat<T> other = axes_.row(h).head(k_).transpose().template cast<T>();
          const Mat<T> both = mul<T>(mul<T>(own, ll.s * vh1 - mul(mul(vh1, ll.x), vh1)), other);
          out.dd(g, h) -= beta_ * beta_ * s.v2(g) * s.v2(h) * both(0, 0);
        }
      }
    }
    scale_legs(out);
    return out;
  }
  template <class T> void scale_legs(GroupOverlaps<T>& out) const {
    const int wide = step_->directions() * k_;
    for (int g = 0; g < wide; ++g)
      for (int h = 0; h < wide; ++h) {
        const double both = 1 / (root_c_[g % k_] * root_c_[h % k_]);
        out.zz(g, h) *= both;
        if (g < k_) out.vz(g, h) *= both;
        if (g < k_ && h < k_) out.vv(g, h) *= both;
      }
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < wide; ++h) {
        if (h < k_) out.dv(g, h) /= root_c_[h];
        out.dz(g, h) /= root_c_[h % k_];
      }
  }
  /// K of the mean over beta d: the step damps the mean row, since f0 contains h1 wbar.x.
  template <class T>
  Mat<T> mean(const State<T>& s, const Mat<T>& gm, const Mat<T>& q, const Mat<T>& qt) const {
    const GroupStep& step = *step_;
    const StepConstants& c = step.constants;
    const double rate = step.eta * c.h1 * c.h1, eta2 = step.eta * step.eta * c.h1 * c.h1;
    const Mat<T> gq = detail::mul(gm, q), c1 = detail::corner(gq, k_);
    Mat<T> c2 = detail::corner(detail::mul(qt, gq), k_), n = Mat<T>::Zero(k_, k_), y(k_, k_);
    detail::add<T>(step.iota, c1, c2);
    detail::add<T>(-2 * rate + eta2 * step.square * (c.variance - c.h1 * c.h1) * step.iota, c1, n);
    detail::add<T>(rate * rate * step.square, c2, n);
    for (int g = 0; g < k_; ++g) {
      for (int h = 0; h < k_; ++h)
        y(g, h) = n(g, h) * (step.a[g] * step.a[h] * std::sqrt(step.pi[g] * step.pi[h]));
      y(g, g) += step.pi[g] / s.v2(g);
    }
    Mat<T> out = dense::inverse(y);
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h) out(g, h) *= std::sqrt(step.pi[g] * step.pi[h]);
    return out;
  }

  Eigen::VectorXd v_;
  Eigen::MatrixXd traces_;
  std::vector<State<C>> moved_;  ///< the state along each of (Vh1, A)
};

}  // namespace srfx
