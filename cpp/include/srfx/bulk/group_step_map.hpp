// The bulk that a step with several initial readout values leaves: its fixed point (THEORY 10).
// With D = diag(V2), VV = diag(Vh1, 1), f_g = e2_g sqrt(beta V2_g), blocks of size K, or 2 K if h2
// != 0:
//
//   B(u) = [[2 beta e2 D u + beta kap D u^2, diag(f) u], [-diag(f) u, 0]]
//   Q(u) = (1 + B Gm/alpha0)^-1,   Gm = VV (1 + X VV)^-1
//   X = diag(beta D, 0) + E[Q B],   V1 = [X (1 + VV X)^-1]_11/beta
//   V2_g = pi_g/(A_g + Gm_gg + kap_g [E u^2 Gm Q]_gg + 2 e2_g [E u Gm Q]_gg
//                + (e2_g^2/f_g) [E u Gm Q]_(K+g,g))
//
// It is found by plain steps and Newton's method, whose Jacobian is summed over the same nodes u,
// eight at a time.
#pragma once

#include "srfx/bulk/group_step_model.hpp"
#include "srfx/core/small_matrices.hpp"

namespace srfx {

/// The fixed point of one point, given (Vh1, A). Vh1, V1 and the overlaps' legs of vhat and zhat
/// are over the groups, in the unit convention, or over axes if there are any. VV, X VV and what is
/// made of them are over the axes always; B, Q, X and V2 over the groups.
class GroupStepMap : public GroupSize<dynamic_groups> {
 public:
  using C = std::complex<double>;
  using Packed = GroupArray<double, -1>;
  using Square = Packed;
  static constexpr int n_packed = -1;

  template <class T> struct State {
    Vec<T> v2;
    Mat<T> x;
  };

  GroupStepMap(const GroupStep& step, double beta, const Eigen::MatrixXd* along = nullptr)
      : GroupSize(step.k()),
        twice(packed),
        step_(&step),
        beta_(beta),
        k_(step.k()),
        n_(step.n()),
        pairs_(pairs),
        axes_(Eigen::MatrixXd::Identity(n_, n_)) {
    for (int j = 0; j < packed; ++j) twice[j] = j < pairs ? 2 : 1;
    for (int g = 0; g < groups; ++g) twice[at(g, g)] = 1;
    for (const StepModel& g : step.groups) root_c_.push_back(along ? 1 : std::sqrt(g.spike.c));
    if (along) axes_.topLeftCorner(k_, k_) = *along;
    unknowns_ = k_ + n_ * (n_ + 1) / 2;
    state_.v2.setConstant(k_, std::numeric_limits<double>::quiet_NaN());  // until one is found
    state_.x.setZero(n_, n_);
  }

  Packed twice;  ///< as GroupMap::twice
  int at(int g, int h) const { return detail::index(groups, g, h); }
  Eigen::MatrixXd axes() const { return axes_.topLeftCorner(k_, k_); }
  /// Turns the axes; the state stays.
  void turn(const Eigen::MatrixXd& by) {
    Eigen::MatrixXd all = Eigen::MatrixXd::Identity(n_, n_);
    all.topLeftCorner(k_, k_) = by;
    axes_ = detail::mul(axes_, all);
    if (known_) at_.vv = detail::mul<double>(detail::mul<double>(all.transpose(), at_.vv), all);
  }
  bool failed() const { return failed_; }
  double defect() const { return defect_; }

  /// Largest relative change of the map on another rule for u.
  double compare(const ResidualNodes& other) const {
    const Parameters<double> p = parameters<double>(vh_);
    const Eigen::VectorXd a = pack(evaluate(p, state_, step_->nodes)),
                          b = pack(evaluate(p, state_, other));
    return (a - b).cwiseQuotient(scale()).cwiseAbs().maxCoeff();
  }

 protected:
  static constexpr double tiny = 1e-40;

  template <class T> struct Parameters {
    Mat<T> vv;
    Vec<T> a;
  };
  template <class T> Parameters<T> parameters(const Vec<T>& vh) const {
    Parameters<T> p;
    p.vv.setIdentity(n_, n_);
    p.a.resize(k_);
    for (int g = 0; g < k_; ++g) {
      for (int h = g; h < k_; ++h)
        p.vv(g, h) = p.vv(h, g) = vh(detail::index(k_, g, h)) / (root_c_[g] * root_c_[h]);
      p.a(g) = T(lam_) + vh(pairs_ + g);
    }
    return p;
  }
  Vec<C> shifted(int j) const {
    Vec<C> out = vh_.cast<C>();
    out(j) += C(0, tiny);
    return out;
  }

  double sign(int i) const { return i % n_ < k_ ? 1 : -1; }
  template <class T> Vec<T> pack(const State<T>& s) const {
    Vec<T> out(unknowns_);
    for (int g = 0; g < k_; ++g) out(g) = s.v2(g);
    int at = k_;
    for (int i = 0; i < n_; ++i)
      for (int j = i; j < n_; ++j) out(at++) = 0.5 * (s.x(i, j) + sign(i) * sign(j) * s.x(j, i));
    return out;
  }
  template <class T> State<T> unpack(const Vec<T>& y) const {
    State<T> s;
    s.v2 = y.head(k_);
    s.x.resize(n_, n_);
    int at = k_;
    for (int i = 0; i < n_; ++i)
      for (int j = i; j < n_; ++j, ++at) s.x(i, j) = y(at), s.x(j, i) = sign(i) * sign(j) * y(at);
    return s;
  }
  Eigen::VectorXd scale() const {
    // The lower half of X, of the order of the step and of 1/alpha0, acts beside 1 (VV is 1 there).
    Eigen::VectorXd out(unknowns_);
    out.head(k_) = state_.v2;
    const double upper = 1e-12 * beta_ * state_.v2.maxCoeff();
    const auto size = [&](int i) {
      return std::max(std::abs(state_.x(i, i)), i < k_ ? upper : 1e-3);
    };
    int at = k_;
    for (int i = 0; i < n_; ++i)
      for (int j = i; j < n_; ++j) out(at++) = std::sqrt(size(i) * size(j));
    return out;
  }

  /// From the groups to the axes, and back.
  template <class T> Mat<T> turned(const Mat<T>& a) const {
    return detail::mul<T>(detail::mul<T>(axes_.transpose().cast<T>(), a), axes_.cast<T>());
  }
  template <class T> Mat<T> turned_back(const Mat<T>& a) const {
    return detail::mul<T>(detail::mul<T>(axes_.cast<T>(), a), axes_.transpose().cast<T>());
  }

  /// X over the axes, (1 + X VV)^-1 and (1 + VV X)^-1. Rows of the former, columns of the latter
  /// are as small as the feature is large.
  template <class T> struct Resolvents {
    Mat<T> x, left, right;
  };
  template <class T> Resolvents<T> resolvents(const Parameters<T>& p, const Mat<T>& x) const {
    return over_axes<T>(turned(x), p.vv);
  }
  /// The same of an X over the axes, with a block for each direction of the target.
  template <class T> Resolvents<T> over_axes(const Mat<T>& x, const Mat<T>& vv) const {
    Resolvents<T> out;
    const int n = static_cast<int>(x.rows());
    out.x = x;
    out.left = dense::inverse(Mat<T>(detail::identity<T>(n) + detail::mul(out.x, vv)));
    out.right.resize(n, n);  // = (1 + X^T VV)^-T, and X^T is X but for signs
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) out.right(i, j) = sign(i) * sign(j) * out.left(j, i);
    return out;
  }
  /// (1 + X VV)^-1 X, symmetric but for signs; the row of the larger feature is the exact one.
  template <class T> Mat<T> sandwiched(const Mat<T>& left, const Mat<T>& x) const {
    Mat<T> out = detail::mul(left, x);
    for (int i = 0; i < out.rows(); ++i)
      for (int j = 0; j < i; ++j) out(i, j) = sign(i) * sign(j) * out(j, i);
    return out;
  }

  /// 1 - dmap/dstate, and dmap/d(Vh1, A), packed.
  struct Linear {
    Eigen::MatrixXd state, along;
  };

  /// B(u) at eight u, and Q(u), Y(u) = Q B and, if asked for, H(u) = Gm Q from it: n x n by rows.
  template <class T> struct Node {
    using V = typename detail::Packed<T>::Type;
    int n, k;
    double iota;
    V *b1, *b2, *f, *gm, *work, *diagonal, *beside, *q, *y, *h;

    static int size(int n, int k) { return 6 * n * n + 5 * k; }
    /// B(u) = u B1 + u^2 B2, diagonal but for u f and -u f where n > k.
    Node(const GroupStepMap& bulk, const Vec<T>& v2, const Mat<T>& g, detail::Scratch<V>& scratch)
        : n(bulk.n_),
          k(bulk.k_),
          iota(bulk.step_->iota),
          b1(scratch.take(k)),
          b2(scratch.take(k)),
          f(scratch.take(k)),
          gm(spread(g, scratch)),
          work(scratch.take(2 * n * n)),
          diagonal(scratch.take(k)),
          beside(scratch.take(k)),
          q(scratch.take(n * n)),
          y(scratch.take(n * n)),
          h(scratch.take(n * n)) {
      using std::sqrt;
      for (int i = 0; i < k; ++i) {
        const StepModel& m = bulk.step_->groups[i];
        const T weight = bulk.beta_ * v2(i);
        b1[i] = V(2 * m.e2 * weight), b2[i] = V(m.kap * weight), f[i] = V(m.e2 * sqrt(weight));
      }
    }
    void set(const detail::Eight& u) {
      const detail::Eight scale(iota);
      for (int g = 0; g < k; ++g) diagonal[g] = u * b1[g] + (u * u) * b2[g], beside[g] = u * f[g];
      for (int g = 0; g < k; ++g)
        for (int j = 0; j < n; ++j) {
          V x = diagonal[g] * gm[g * n + j];
          if (n > k)
            x += beside[g] * gm[(k + g) * n + j],
                work[(k + g) * 2 * n + j] = scale * (-(beside[g] * gm[g * n + j]));
          work[g * 2 * n + j] = scale * x;
        }
      for (int i = 0; i < n; ++i) work[i * 2 * n + i] += V(1.0);
      detail::invert_lanes(n, work);
      for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) q[i * n + j] = work[i * 2 * n + n + j];
      times_b(q, y);
    }
    void set_h() { multiply(gm, q, h); }
    void multiply(const V* a, const V* b, V* out) const {
      for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) {
          V sum = a[i * n] * b[j];
          for (int l = 1; l < n; ++l) sum += a[i * n + l] * b[l * n + j];
          out[i * n + j] = sum;
        }
    }
    void times_b(const V* a, V* out) const {
      for (int i = 0; i < n; ++i)
        for (int g = 0; g < k; ++g) {
          V x = diagonal[g] * a[i * n + g];
          if (n > k)
            x = x - beside[g] * a[i * n + k + g], out[i * n + k + g] = beside[g] * a[i * n + g];
          out[i * n + g] = x;
        }
    }
  };
  template <class T, class V> static V* spread(const Mat<T>& a, detail::Scratch<V>& scratch) {
    V* const out = scratch.take(static_cast<int>(a.size()));
    for (Index i = 0; i < a.rows(); ++i)
      for (Index j = 0; j < a.cols(); ++j) out[i * a.cols() + j] = V(a(i, j));
    return out;
  }

  /// The map at a state. Everything in it is a function of H = (Gm^-1 + B/alpha0)^-1, and dH = -H
  /// (dGm^-1 + dB/alpha0) H: dX enters as H dX H, dVh1 as H Gm^-1 dGm Gm^-1 H with dGm = (1 + VV
  /// X)^-1 dVV (1 + X VV)^-1.
  State<double> evaluate(const Parameters<double>& p, const State<double>& s,
                         const ResidualNodes& nodes, Linear* linear = nullptr) const {
    using V = detail::Eight;
    const int n = n_, k = k_;
    const double iota = step_->iota;
    const Resolvents<double> r = resolvents<double>(p, s.x);
    const Mat<double> gm = turned_back<double>(detail::mul(p.vv, r.left));
    const Mat<double> left = detail::mul<double>(r.left, axes_.transpose()),
                      right = detail::mul<double>(
                          axes_, r.right);  // from the groups to the axes, and back
    const int nx = unknowns_ - k;
    const int of_linear = 4 * n * n + 4 * n * k + 2 * nx * k + k * k + (nx + k) * pairs_;
    detail::Scratch<V> scratch(Node<double>::size(n, k) + n * n + 2 * k + (linear ? of_linear : 0));
    Node<double> node(*this, s.v2, gm, scratch);
    // Sums over the nodes: of Y; of what A + Gm lacks in 1/V2; of their derivatives.
    V *const sum_y = scratch.zeros(n * n), *const own = scratch.zeros(k),
             *const cross = scratch.zeros(k);
    using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Rows bh_all, hb_all;
    V *hb = nullptr, *qt = nullptr, *ul = nullptr, *rw = nullptr, *uy = nullptr, *yw = nullptr,
      *left_lanes = nullptr, *right_lanes = nullptr;
    V *vx = nullptr, *xv = nullptr, *vv = nullptr, *xp = nullptr, *vp = nullptr;
    if (linear) {
      bh_all.resize(n * n, nodes.size()), hb_all.resize(n * n, nodes.size());
      hb = scratch.take(n * n), qt = scratch.take(n * n);
      ul = scratch.take(n * k), rw = scratch.take(n * k), uy = scratch.take(n * k),
      yw = scratch.take(n * k);
      left_lanes = spread(left, scratch), right_lanes = spread(right, scratch);
      vx = scratch.zeros(k * nx), xv = scratch.zeros(nx * k), vv = scratch.zeros(k * k);
      xp = scratch.zeros(nx * pairs_), vp = scratch.zeros(k * pairs_);
    }
    for (Index at = 0; at < nodes.size(); at += 8) {
      const V u = V::load(&nodes.u[at]), w = V::load(&nodes.w[0][at]);
      node.set(u);
      node.set_h();
      const V *const q = node.q, *const y = node.y, *const h = node.h;
      for (int i = 0; i < n * n; ++i) sum_y[i] += w * y[i];
      for (int g = 0; g < k; ++g) {
        const StepModel& m = step_->groups[g];
        own[g] += w * (V(m.kap) * (u * u) + V(2 * m.e2) * u) * h[g * n + g];
        if (n > k) cross[g] += w * u * h[(k + g) * n + g];
      }
      if (!linear) continue;
      node.times_b(h, hb);
      for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) {
          V bh =
              i < k ? node.diagonal[i] * h[i * n + j] : -(node.beside[i - k] * h[(i - k) * n + j]);
          if (i < k && n > k) bh += node.beside[i] * h[(k + i) * n + j];
          (w * bh).store(&bh_all(i * n + j, at));
          hb[i * n + j].store(&hb_all(i * n + j, at));
          qt[i * n + j] = V(i == j ? 1.0 : 0.0) - V(iota) * hb[i * n + j];
        }
      // (1 + VV X)^-1 dVV (1 + X VV)^-1 between Y and Y, and between (1 + Gm B/alpha0)^-1 and Q.
      for (int i = 0; i < n; ++i)
        for (int g = 0; g < k; ++g) {
          V a(0.0), b(0.0), c(0.0), d(0.0);
          for (int l = 0; l < n; ++l) {
            a += qt[i * n + l] * right_lanes[l * n + g], b += y[i * n + l] * right_lanes[l * n + g];
            c += left_lanes[g * n + l] * q[l * n + i], d += left_lanes[g * n + l] * y[l * n + i];
          }
          ul[i * k + g] = a, uy[i * k + g] = b, rw[g * n + i] = c, yw[g * n + i] = d;
        }
      for (int o = 0; o < nx; ++o) {
        const auto [row_of, c] = step_->places[o];
        for (int g = 0; g < k; ++g) {
          const V half = V(0.5) * node.beside[g];
          V change = q[row_of * n + g] * node.diagonal[g] * qt[g * n + c];
          if (n > k)
            change += half * (q[row_of * n + g] * qt[(k + g) * n + c] -
                              q[row_of * n + k + g] * qt[g * n + c]);
          xv[o * k + g] += w * change;
          for (int f = g; f < k; ++f) {
            V moved = uy[row_of * k + g] * yw[f * n + c];
            if (f != g) moved += uy[row_of * k + f] * yw[g * n + c];
            xp[o * pairs_ + detail::index(k, g, f)] += w * moved;
          }
        }
      }
      for (int g = 0; g < k; ++g) {
        const StepModel& m = step_->groups[g];
        const V first = w * (V(m.kap) * (u * u) + V(2 * m.e2) * u),
                second = w * u * V(cross_factor(m, s.v2(g)));
        // rows g and K + g of H and of (1 + Gm B/alpha0)^-1 (1 + VV X)^-1, weighted
        const auto row = [&](const V* a, int width, int j) {
          V x = first * a[g * width + j];
          if (n > k) x += second * a[(k + g) * width + j];
          return x;
        };
        for (int d = 0; d < nx; ++d) {
          const auto [i, j] = step_->places[d];
          V x = row(h, n, i) * h[j * n + g];
          if (i != j) x += V(sign(i) * sign(j)) * row(h, n, j) * h[i * n + g];
          vx[g * nx + d] += x;
        }
        for (int f = 0; f < k; ++f) {
          const V half = V(0.5) * node.beside[f];
          V x = row(h, n, f) * node.diagonal[f] * h[f * n + g];
          if (n > k)
            x += half * (row(h, n, f) * h[(k + f) * n + g] - row(h, n, k + f) * h[f * n + g]);
          vv[g * k + f] += x;
          for (int e = f; e < k; ++e) {
            V moved = row(ul, k, f) * rw[e * n + g];
            if (e != f) moved += row(ul, k, e) * rw[f * n + g];
            vp[g * pairs_ + detail::index(k, f, e)] += moved;
          }
        }
      }
    }
    const auto total = [](const V& x) { return detail::Packed<double>::total(x); };
    State<double> out;
    out.x.resize(n, n), out.v2.resize(k);
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) out.x(i, j) = total(sum_y[i * n + j]);
    for (int g = 0; g < k; ++g) {
      out.x(g, g) += beta_ * s.v2(g);
      out.v2(g) = step_->pi[g] / (p.a(g) + gm(g, g) + total(own[g]) +
                                  cross_factor(step_->groups[g], s.v2(g)) * total(cross[g]));
    }
    if (!linear) return out;
    Eigen::MatrixXd& js = linear->state;
    Eigen::MatrixXd& ja = linear->along;
    js.setIdentity(unknowns_, unknowns_), ja.setZero(unknowns_, packed);
    const Eigen::MatrixXd pairings =
        bh_all * hb_all.transpose();  // sum of w (B H)_ki (H B)_jl at (k i, j l)
    for (int o = 0; o < nx; ++o) {
      const auto [row_of, c] = step_->places[o];
      for (int d = 0; d < nx; ++d) {
        const auto [i, j] = step_->places[d];
        double x = pairings(row_of * n + i, j * n + c);
        if (i != j) x += sign(i) * sign(j) * pairings(row_of * n + j, i * n + c);
        js(k + o, k + d) -= iota * x;
      }
      for (int g = 0; g < k; ++g)
        js(k + o, g) -= total(xv[o * k + g]) / s.v2(g) + (row_of == g && c == g ? beta_ : 0.0);
    }
    for (int g = 0; g < k; ++g) {
      const double slope = out.v2(g) * out.v2(g) / step_->pi[g];  // dV2 = -slope d(1/..)
      for (int d = 0; d < nx; ++d) {
        const auto [i, j] = step_->places[d];
        double x = total(vx[g * nx + d]) + gm(g, i) * gm(j, g);
        if (i != j) x += sign(i) * sign(j) * gm(g, j) * gm(i, g);
        js(g, k + d) -= slope * x;
      }
      for (int f = 0; f < k; ++f) js(g, f) -= slope * iota * total(vv[g * k + f]) / s.v2(f);
      js(g, g) -= slope * 0.5 * cross_factor(step_->groups[g], s.v2(g)) * total(cross[g]) / s.v2(g);
      ja(g, pairs_ + g) = -slope;
    }
    for (int f = 0; f < k; ++f)
      for (int e = f; e < k; ++e) {
        const int j = detail::index(k, f, e);
        const double unit = 1 / (root_c_[f] * root_c_[e]);
        for (int o = 0; o < nx; ++o) ja(k + o, j) = -iota * unit * total(xp[o * pairs_ + j]);
        for (int g = 0; g < k; ++g) {
          double x = total(vp[g * pairs_ + j]) + right(g, f) * left(e, g);
          if (e != f) x += right(g, e) * left(f, g);
          ja(g, j) = -out.v2(g) * out.v2(g) / step_->pi[g] * unit * x;
        }
      }
    return out;
  }
  /// What multiplies E u (Gm Q)_(K+g, g).
  double cross_factor(const StepModel& m, double v2) const {
    return m.e2 != 0 ? m.e2 / std::sqrt(beta_ * v2) : 0.0;
  }

  /// Size of the terms that the step adds, against A.
  double coupling() const {
    double most = 0;
    const double u2 = step_->groups[0].moments.u[2];
    for (const StepModel& g : step_->groups)
      most = std::max({most, std::abs(g.kap) * u2, g.e2 * g.e2 * u2});
    return most;
  }

  /// Newton's method from the state, which it leaves where it was unless it settles nearby.
  bool newton(const Parameters<double>& p) {
    const State<double> before = state_;
    double previous = 1e300;
    for (int iteration = 0; iteration < 25; ++iteration) {
      const State<double> next = evaluate(p, state_, step_->nodes, &linear_);
      jacobian_.compute(linear_.state);
      const Eigen::VectorXd step = jacobian_.solve(Eigen::VectorXd(pack(next) - pack(state_)));
      const double size = step.cwiseQuotient(scale()).cwiseAbs().maxCoeff();
      const double moved = std::max(
          step.head(k_).cwiseQuotient(state_.v2).cwiseAbs().maxCoeff(),
          step.tail(unknowns_ - k_).cwiseAbs().maxCoeff() / state_.x.cwiseAbs().maxCoeff());
      if (!std::isfinite(size) || !(moved < (iteration == 0 ? 0.5 : 1.0))) break;
      // Steps to and fro, as of a square root: half of them leads inside.
      const double part = size > 1e-8 && size > 0.3 * previous ? 0.5 : 1;
      state_ = unpack<double>(pack(state_) + part * step);
      if (!(state_.v2.minCoeff() > 0)) break;
      defect_ = size;
      if (size < 1e-14 || (size < 1e-10 && size > 0.5 * previous)) return true;
      previous = size;
    }
    state_ = before;
    return false;
  }

  /// From V2 without the step, by plain iterations as long as they come closer, then Newton's
  /// method.
  bool plainly(const Parameters<double>& p) {
    state_.v2.resize(k_);
    state_.x.setZero(n_, n_);
    const Mat<double> vv = turned_back<double>(p.vv);
    for (int g = 0; g < k_; ++g) {
      state_.v2(g) = step_->pi[g] / (p.a(g) + vv(g, g));
      state_.x(g, g) = beta_ * state_.v2(g);
    }
    double moved = 1;
    for (int plain = 0; plain < 30 && moved > 1e-3; ++plain) {
      const State<double> next = evaluate(p, state_, step_->nodes);
      moved = ((next.v2 - state_.v2).array() / next.v2.array()).abs().maxCoeff();
      if (!(next.v2.minCoeff() > 0) || !next.x.allFinite()) return false;
      state_ = next;
    }
    if (!(moved < 0.1) || !newton(p)) return false;
    at_ = p;
    return true;
  }

  /// Moves the state from at_ to p in steps that Newton's method can take.
  bool follow(const Parameters<double>& p) {
    const Parameters<double> from = at_;
    // A changes by a factor of 20 at most in the first step.
    double done = 0,
           stride = std::min(1.0, 3 / (p.a.array() / from.a.array()).log().abs().maxCoeff());
    for (int tries = 0, steps = 0; tries < 2000 && stride > 1e-7;) {
      const double next = std::min(1.0, done + stride);
      Parameters<double> there = p;
      if (next < 1) {
        there.vv = (1 - next) * from.vv + next * p.vv;
        there.a = (from.a.array().log() * (1 - next) + p.a.array().log() * next).exp().matrix();
      }
      ++tries;
      const State<double> before = state_;
      if (steps > 0) predict(there);
      if (!newton(there)) {
        state_ = before;
        stride *= 0.4;
        continue;
      }
      ++steps;
      at_ = there, done = next, stride *= 2;
      if (done == 1) return true;
    }
    return false;
  }

  /// Moves the state along its derivative at at_, where Newton's method was last.
  void predict(const Parameters<double>& to) {
    Eigen::VectorXd change(packed);
    for (int g = 0; g < k_; ++g) {
      for (int h = g; h < k_; ++h)
        change(detail::index(k_, g, h)) = (to.vv(g, h) - at_.vv(g, h)) * root_c_[g] * root_c_[h];
      change(pairs_ + g) = at_.a(g) * std::log(to.a(g) / at_.a(g));
    }
    const Eigen::VectorXd moved = jacobian_.solve(detail::apply(linear_.along, change)),
                          v2 = state_.v2;
    State<double> next = unpack<double>(pack(state_) + moved);
    next.v2 = (v2.array() * (moved.head(k_).array() / v2.array()).exp()).matrix();
    if (next.v2.allFinite() && next.x.allFinite()) state_ = next;
  }

  /// (V1, V2) packed, unit convention.
  template <class T> Vec<T> values(const Parameters<T>& p, const State<T>& s) const {
    const Resolvents<T> r = resolvents<T>(p, s.x);
    const Mat<T> v1 = sandwiched(r.left, r.x);
    Vec<T> out(packed);
    for (int g = 0; g < k_; ++g) {
      for (int h = g; h < k_; ++h)
        out(detail::index(k_, g, h)) = v1(g, h) / (beta_ * root_c_[g] * root_c_[h]);
      out(pairs_ + g) = s.v2(g);
    }
    return out;
  }

  const GroupStep* step_;
  double beta_, lam_ = 0, defect_ = 0;
  int k_, n_, pairs_, unknowns_ = 0;
  Eigen::MatrixXd axes_;                 ///< n x n: those of the step, and 1
  bool failed_ = false, known_ = false;  ///< known_: state_ solves the equations at at_
  std::vector<double> root_c_;           ///< 1 over the axes, which have it
  Eigen::VectorXd vh_;
  State<double> state_;
  Parameters<double> at_;
  Linear linear_;
  dense::LU jacobian_;  ///< of linear_.state
};

}  // namespace srfx
