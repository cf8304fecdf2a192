// The actual one-step network with several initial readout values: K groups of neurons in one anisotropic bulk (THEORY 10).
//
// Group g has learning rate a_g eta: StepModel gives its r_g, c_g, e2_g = a_g eta h2, kap_g, C_delta,g and L_g; the residual u is common.
// With D = diag(V2), VV = diag(Vh1, 1), f_g = e2_g sqrt(beta V2_g), blocks of size K, or 2 K if h2 != 0:
//
//   B(u) = [[2 beta e2 D u + beta kap D u^2, diag(f) u], [-diag(f) u, 0]],   Q(u) = (1 + B Gm/alpha0)^-1,   Gm = VV (1 + X VV)^-1
//   X = diag(beta D, 0) + E[Q B],   V1 = [X (1 + VV X)^-1]_11/beta
//   V2_g = pi_g/(A_g + Gm_gg + kap_g [E u^2 Gm Q]_gg + 2 e2_g [E u Gm Q]_gg + (e2_g^2/f_g) [E u Gm Q]_(K+g,g))
//
// The fixed point is found by plain steps and Newton's method, whose Jacobian is summed over the same nodes u, eight at a time.
// Through it go the derivatives of V and of hat^T K hat along (Vh1, A), by complex steps, exact to rounding. Results are in the
// unit-bulk convention of section 3: Vh1 there is sqrt(c_g c_h) times the one above, V1, theta and psi inversely.
#pragma once

#include "anisotropic.hpp"
#include "group_levels.hpp"
#include "groups.hpp"

#include <Eigen/Cholesky>
#include <Eigen/LU>
#include <Eigen/QR>

#include <array>
#include <cassert>
#include <complex>

namespace srfx {

/// What all points of one (eta, alpha0, noise) share.
struct GroupStep {
  std::vector<double> a, pi;     ///< readout values and probabilities
  std::vector<StepModel> groups;
  StepConstants constants;
  double eta = 0, iota = 0, square = 0;  ///< square: sum pi a^2
  double gamma = 0, l = 1;
  bool wide = false, lean = false, stepped = false;
  ResidualNodes nodes, check;
  double nodes_error = 0;
  Eigen::MatrixXd axes;  ///< K x K, orthogonal: of the features mu1_g/sqrt(c_g), from the largest to the smallest; see find_axes
  std::vector<std::array<int, 2>> places;  ///< of the unknown elements of X: its upper triangle by rows

  int k() const { return static_cast<int>(a.size()); }
  int n() const { return wide ? 2 * k() : k(); }

  GroupStep(const StepConstants& constants_of_sigma, const Function& target, std::vector<double> values, std::vector<double> weights, double mean,
            double learning_rate, double inverse_alpha0, double noise)
      : a(std::move(values)), pi(std::move(weights)), constants(constants_of_sigma), eta(learning_rate), iota(inverse_alpha0) {
    const double offset = mean * constants.h0;
    const auto build = [&](const ResidualMoments& moments) {
      groups.clear();
      for (double x : a) groups.emplace_back(constants, moments, x, eta, iota, false);
    };
    build(ResidualMoments(residual_rule(target, offset, noise, 1.0, 1.5, 16)));
    double closest = infinity, angle = 1;
    for (std::size_t g = 0; g < a.size(); ++g) {
      stepped = stepped || groups[g].stepped;
      wide = wide || groups[g].e2 != 0;
      square += pi[g] * a[g] * a[g];
      if (groups[g].stepped) closest = std::min(closest, groups[g].pole()), angle = std::min(angle, groups[g].angle());
    }
    for (int i = 0; i < n(); ++i)
      for (int j = i; j < n(); ++j) places.push_back({i, j});
    if (!stepped) {
      nodes.push(0, 1, 0, 1);
      nodes.pad();
      check = nodes;
      eta = 0, iota = std::isinf(iota) ? 1 : iota;
      gamma = groups[0].spike.gamma;
      return;
    }
    const double top = std::sqrt(std::max(groups[0].moments.u[2], 1e-300));
    const double delta = std::exp2(std::floor(std::log2(std::clamp(closest, 1e-9 * top, 4 * top))));
    const double ratio = std::clamp(3 * angle, 0.25, 1.5);
    const ResidualRule fine = residual_rule(target, offset, noise, delta, ratio, 16);
    build(ResidualMoments(fine));
    for (const StepModel& g : groups) {
      lean = lean || g.lean;
      if (g.stepped) gamma = g.spike.gamma;
    }
    l = groups[0].l;
    const ResidualNodes all(fine, false);
    check = ResidualNodes(residual_rule(target, offset, noise, delta, ratio, 20), false);
    nodes = all.size() <= 64 ? all : all.compressed(delta, 2, 14);
  }

  /// Groups with nearly parallel features have combinations that hardly act: V is large along those and small along the others, by
  /// 1/lam, and would lose that many digits as a matrix over the groups. Over the principal axes of Vh1 it does not. These are where
  /// a point starts from: the axes without its weights w, which may be quite others.
  void find_axes(const GroupNodes& of) {
    Eigen::MatrixXd second = Eigen::MatrixXd::Zero(k(), k());
    for (int g = 0; g < k(); ++g)
      for (int h = g; h < k(); ++h) {
        const double x = of.mean_e[detail::index(k(), g, h)] / std::sqrt(groups[g].spike.c * groups[h].spike.c);
        second(g, h) = second(h, g) = x;
      }
    axes = principal_axes(second);
  }
  /// Orthogonal, the largest first.
  static Eigen::MatrixXd principal_axes(const Eigen::MatrixXd& symmetric) {
    return Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(symmetric).eigenvectors().rowwise().reverse();
  }
  /// Coefficients of the features along axes, in those of the groups' mu1.
  Eigen::MatrixXd legs(const Eigen::MatrixXd& along) const {
    Eigen::MatrixXd out = along;
    for (int g = 0; g < k(); ++g) out.row(g) /= std::sqrt(groups[g].spike.c);
    return out;
  }
  /// The same nodes with the features along axes in place of mu1.
  GroupNodes turned(const GroupNodes& of, const Eigen::MatrixXd& along) const {
    GroupNodes out = of;
    const Eigen::MatrixXd combination = legs(along);
    std::fill(out.mean_e.begin(), out.mean_e.begin() + out.pairs, 0.0);
    for (Index node = 0; node < out.size; ++node) {
      double *const f = &out.mu1[node * k()], *const kf = &out.kmu1[node * k()], *const e = &out.e[node * out.stride];
      for (int i = 0; i < k(); ++i) {
        f[i] = 0;
        for (int g = 0; g < k(); ++g) f[i] += combination(g, i) * of.mu1[node * k() + g];
        kf[i] = out.k[node] * f[i];
      }
      for (int i = 0; i < k(); ++i)
        for (int j = i; j < k(); ++j) {
          const int at = detail::index(k(), i, j);
          e[at] = f[i] * f[j];
          out.mean_e[at] += out.weight[node] * e[at];
        }
    }
    return out;
  }
};

/// K of (W vhat, W zhat, delta) between the groups, over B, and of the mean over beta d (THEORY 10): K x K each.
template <class T> struct GroupOverlaps {
  Mat<T> vv, vz, zz, dv, dz, dd, mean;
};

// Products and inverses of small matrices, each compiled once a scalar: as expressions they take a minute to compile.
namespace detail {

template <class T> [[gnu::noinline]] Mat<T> mul(const Mat<T>& a, const Mat<T>& b) {
  Mat<T> out(a.rows(), b.cols());
  for (Index j = 0; j < b.cols(); ++j)
    for (Index i = 0; i < a.rows(); ++i) {
      T sum(0);
      for (Index l = 0; l < a.cols(); ++l) sum += a(i, l) * b(l, j);
      out(i, j) = sum;
    }
  return out;
}
[[gnu::noinline]] inline Eigen::VectorXd apply(const Eigen::MatrixXd& a, const Eigen::VectorXd& x) {
  Eigen::VectorXd out = Eigen::VectorXd::Zero(a.rows());
  for (Index j = 0; j < a.cols(); ++j) out += x(j) * a.col(j);
  return out;
}
template <class T> [[gnu::noinline]] Mat<T> inv(const Mat<T>& a) { return a.inverse(); }
template <class T> [[gnu::noinline]] Mat<T> identity(int n) { return Mat<T>::Identity(n, n); }
/// out += f a.
template <class T> [[gnu::noinline]] void add(T f, const Mat<T>& a, Mat<T>& out) { out += f * a; }
template <class T> [[gnu::noinline]] Mat<T> corner(const Mat<T>& a, int k) { return a.topLeftCorner(k, k); }

using Eight = simd::Lanes<double, 8>;

inline void swap_where_larger(const Eight& by, const Eight& than, int n, Eight* a, Eight* b) {
  const auto swap = simd::abs(by) > simd::abs(than);
  for (int j = 0; j < n; ++j) {
    const Eight first = a[j], second = b[j];
    a[j] = simd::select(swap, second, first), b[j] = simd::select(swap, first, second);
  }
}
inline void swap_where_larger(const ComplexLanes& by, const ComplexLanes& than, int n, ComplexLanes* a, ComplexLanes* b) {
  const auto swap = simd::abs(by.re) > simd::abs(than.re);  // imaginary parts are infinitesimal
  for (int j = 0; j < n; ++j) {
    const ComplexLanes first = a[j], second = b[j];
    a[j] = {simd::select(swap, second.re, first.re), simd::select(swap, second.im, first.im)};
    b[j] = {simd::select(swap, first.re, second.re), simd::select(swap, first.im, second.im)};
  }
}
/// Memory of a thread for sums in lanes, taken piece by piece and given back at once.
template <class V> class Scratch {
 public:
  explicit Scratch(int size) {
    static thread_local std::vector<V> pool;
    if (pool.size() < static_cast<std::size_t>(size)) pool.resize(static_cast<std::size_t>(size));
    next_ = pool.data(), end_ = next_ + pool.size();
  }
  V* take(int size) {
    V* const out = next_;
    next_ += size;
    assert(next_ <= end_);
    return out;
  }
  V* zeros(int size) {
    V* const out = take(size);
    for (int i = 0; i < size; ++i) out[i] = V(0.0);
    return out;
  }

 private:
  V *next_, *end_;
};

/// Inverts n x n matrices, one a lane, each with pivots of its own. m holds them by rows, with n columns more for the result.
template <class V> void invert_lanes(int n, V* m) {
  const int row = 2 * n;
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) m[i * row + n + j] = V(i == j ? 1.0 : 0.0);
  for (int c = 0; c < n; ++c) {
    V* const own = m + c * row;
    for (int r = c + 1; r < n; ++r) swap_where_larger(m[r * row + c], own[c], row - c, own + c, m + r * row + c);
    const V inverse = Eight(1.0) / own[c];
    for (int j = c + 1; j < row; ++j) own[j] *= inverse;
    for (int r = 0; r < n; ++r) {
      if (r == c) continue;
      V* const other = m + r * row;
      const V factor = other[c];
      for (int j = c + 1; j < row; ++j) other[j] = other[j] - factor * own[j];
    }
  }
}

}  // namespace detail

/// The map (Vh1, A) -> (V1, V2) of one point, with everything that hangs on it. Vh1, V1 and the overlaps' legs of vhat and zhat are
/// over the groups, in the unit convention, or over axes if there are any. VV, X VV and what is made of them are over the axes
/// always; B, Q, X and V2 over the groups.
class GroupStepBulk {
 public:
  using C = std::complex<double>;
  template <class T> struct State {
    Vec<T> v2;
    Mat<T> x;
  };

  GroupStepBulk(const GroupStep& step, double beta, const Eigen::MatrixXd* along = nullptr)
      : step_(&step), beta_(beta), k_(step.k()), n_(step.n()), pairs_(k_ * (k_ + 1) / 2), axes_(Eigen::MatrixXd::Identity(n_, n_)) {
    for (const StepModel& g : step.groups) root_c_.push_back(along ? 1 : std::sqrt(g.spike.c));
    if (along) axes_.topLeftCorner(k_, k_) = *along;
    unknowns_ = k_ + n_ * (n_ + 1) / 2;
    state_.v2.setConstant(k_, std::numeric_limits<double>::quiet_NaN());  // until one is found
    state_.x.setZero(n_, n_);
  }

  int packed() const { return pairs_ + k_; }
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

  /// Finds the state at packed averages, unit convention, and V there; traces (packed x packed) is T.
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
      v_.setConstant(packed(), std::numeric_limits<double>::quiet_NaN());
      traces_.setConstant(packed(), packed(), std::numeric_limits<double>::quiet_NaN());
      moved_.assign(packed(), State<C>{Vec<C>::Zero(k_), Mat<C>::Zero(n_, n_)});
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
    traces_.resize(packed(), packed());
    moved_.clear();
    for (int j = 0; j < packed(); ++j) {
      Vec<C> y = at.cast<C>();
      for (int i = 0; i < unknowns_; ++i) y(i) += C(0, moves(i, j));
      moved_.push_back(unpack<C>(y));
      const Vec<C> w = values<C>(parameters<C>(shifted(j)), moved_.back());
      traces_.col(j) = -w.imag() / tiny;
    }
  }
  const Eigen::VectorXd& values() const { return v_; }
  const Eigen::MatrixXd& traces() const { return traces_; }
  GroupOverlaps<double> overlaps() const { return overlaps<double>(parameters<double>(vh_), state_); }
  /// -d(hat^T K hat)/d(Vh1, A) at fixed hats (columns v, z, delta, mean of `hats`; the mean scaled by sqrt(beta d)), packed.
  Eigen::VectorXd sources(const Eigen::MatrixXd& hats) const {
    Eigen::VectorXd out(packed());
    const Eigen::VectorXd v = hats.col(0), z = hats.col(1), d = hats.col(2), m = hats.col(3);
    for (int j = 0; j < packed(); ++j) {
      const GroupOverlaps<C> k = overlaps<C>(parameters<C>(shifted(j)), moved_[j]);
      const auto of = [](const Eigen::VectorXd& x, const Mat<C>& matrix, const Eigen::VectorXd& y) { return x.dot(detail::apply(matrix.imag() / tiny, y)); };
      const double change = of(v, k.vv, v) + of(z, k.zz, z) + of(d, k.dd, d) + of(m, k.mean, m) + 2 * of(v, k.vz, z) + 2 * of(d, k.dv, v) + 2 * of(d, k.dz, z);
      out(j) = -change / twice(j);
    }
    return out;
  }
  /// Largest relative change of the map on another rule for u.
  double compare(const ResidualNodes& other) const {
    const Parameters<double> p = parameters<double>(vh_);
    const Eigen::VectorXd a = pack(evaluate(p, state_, step_->nodes)), b = pack(evaluate(p, state_, other));
    return (a - b).cwiseQuotient(scale()).cwiseAbs().maxCoeff();
  }

  double twice(int j) const {
    if (j >= pairs_) return 1;
    for (int g = 0; g < k_; ++g)
      if (detail::index(k_, g, g) == j) return 1;
    return 2;
  }

 private:
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
      for (int h = g; h < k_; ++h) p.vv(g, h) = p.vv(h, g) = vh(detail::index(k_, g, h)) / (root_c_[g] * root_c_[h]);
      p.a(g) = T(lam_) + vh(pairs_ + g);
    }
    return p;
  }
  Vec<C> shifted(int j) const {
    Vec<C> out = vh_.cast<C>();
    out(j) += C(0, tiny);
    return out;
  }

  double sign(int i) const { return i < k_ ? 1 : -1; }
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
    const auto size = [&](int i) { return std::max(std::abs(state_.x(i, i)), i < k_ ? upper : 1e-3); };
    int at = k_;
    for (int i = 0; i < n_; ++i)
      for (int j = i; j < n_; ++j) out(at++) = std::sqrt(size(i) * size(j));
    return out;
  }

  /// From the groups to the axes, and back.
  template <class T> Mat<T> turned(const Mat<T>& a) const { return detail::mul<T>(detail::mul<T>(axes_.transpose().cast<T>(), a), axes_.cast<T>()); }
  template <class T> Mat<T> turned_back(const Mat<T>& a) const { return detail::mul<T>(detail::mul<T>(axes_.cast<T>(), a), axes_.transpose().cast<T>()); }

  /// X over the axes, (1 + X VV)^-1 and (1 + VV X)^-1. Rows of the former, columns of the latter are as small as the feature is large.
  template <class T> struct Resolvents {
    Mat<T> x, left, right;
  };
  template <class T> Resolvents<T> resolvents(const Parameters<T>& p, const Mat<T>& x) const {
    Resolvents<T> out;
    out.x = turned(x);
    out.left = detail::inv<T>(detail::identity<T>(n_) + detail::mul(out.x, p.vv));
    out.right.resize(n_, n_);  // = (1 + X^T VV)^-T, and X^T is X but for signs
    for (int i = 0; i < n_; ++i)
      for (int j = 0; j < n_; ++j) out.right(i, j) = sign(i) * sign(j) * out.left(j, i);
    return out;
  }
  /// (1 + X VV)^-1 X, symmetric but for signs; the row of the larger feature is the exact one.
  template <class T> Mat<T> sandwiched(const Mat<T>& left, const Mat<T>& x) const {
    Mat<T> out = detail::mul(left, x);
    for (int i = 0; i < n_; ++i)
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
    Node(const GroupStepBulk& bulk, const Vec<T>& v2, const Mat<T>& g, detail::Scratch<V>& scratch)
        : n(bulk.n_), k(bulk.k_), iota(bulk.step_->iota), b1(scratch.take(k)), b2(scratch.take(k)), f(scratch.take(k)), gm(spread(g, scratch)),
          work(scratch.take(2 * n * n)), diagonal(scratch.take(k)), beside(scratch.take(k)), q(scratch.take(n * n)), y(scratch.take(n * n)),
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
          if (n > k) x += beside[g] * gm[(k + g) * n + j], work[(k + g) * 2 * n + j] = scale * (-(beside[g] * gm[g * n + j]));
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
          if (n > k) x = x - beside[g] * a[i * n + k + g], out[i * n + k + g] = beside[g] * a[i * n + g];
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

  /// The map at a state. Everything in it is a function of H = (Gm^-1 + B/alpha0)^-1, and dH = -H (dGm^-1 + dB/alpha0) H:
  /// dX enters as H dX H, dVh1 as H Gm^-1 dGm Gm^-1 H with dGm = (1 + VV X)^-1 dVV (1 + X VV)^-1.
  State<double> evaluate(const Parameters<double>& p, const State<double>& s, const ResidualNodes& nodes, Linear* linear = nullptr) const {
    using V = detail::Eight;
    const int n = n_, k = k_;
    const double iota = step_->iota;
    const Resolvents<double> r = resolvents<double>(p, s.x);
    const Mat<double> gm = turned_back<double>(detail::mul(p.vv, r.left));
    const Mat<double> left = detail::mul<double>(r.left, axes_.transpose()), right = detail::mul<double>(axes_, r.right);  // from the groups to the axes, and back
    const int nx = unknowns_ - k;
    const int of_linear = 4 * n * n + 4 * n * k + 2 * nx * k + k * k + (nx + k) * pairs_;
    detail::Scratch<V> scratch(Node<double>::size(n, k) + n * n + 2 * k + (linear ? of_linear : 0));
    Node<double> node(*this, s.v2, gm, scratch);
    // Sums over the nodes: of Y; of what A + Gm lacks in 1/V2; of their derivatives.
    V *const sum_y = scratch.zeros(n * n), *const own = scratch.zeros(k), *const cross = scratch.zeros(k);
    using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Rows bh_all, hb_all;
    V *hb = nullptr, *qt = nullptr, *ul = nullptr, *rw = nullptr, *uy = nullptr, *yw = nullptr, *left_lanes = nullptr, *right_lanes = nullptr;
    V *vx = nullptr, *xv = nullptr, *vv = nullptr, *xp = nullptr, *vp = nullptr;
    if (linear) {
      bh_all.resize(n * n, nodes.size()), hb_all.resize(n * n, nodes.size());
      hb = scratch.take(n * n), qt = scratch.take(n * n);
      ul = scratch.take(n * k), rw = scratch.take(n * k), uy = scratch.take(n * k), yw = scratch.take(n * k);
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
          V bh = i < k ? node.diagonal[i] * h[i * n + j] : -(node.beside[i - k] * h[(i - k) * n + j]);
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
          if (n > k) change += half * (q[row_of * n + g] * qt[(k + g) * n + c] - q[row_of * n + k + g] * qt[g * n + c]);
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
        const V first = w * (V(m.kap) * (u * u) + V(2 * m.e2) * u), second = w * u * V(cross_factor(m, s.v2(g)));
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
          if (n > k) x += half * (row(h, n, f) * h[(k + f) * n + g] - row(h, n, k + f) * h[f * n + g]);
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
      out.v2(g) = step_->pi[g] / (p.a(g) + gm(g, g) + total(own[g]) + cross_factor(step_->groups[g], s.v2(g)) * total(cross[g]));
    }
    if (!linear) return out;
    Eigen::MatrixXd& js = linear->state;
    Eigen::MatrixXd& ja = linear->along;
    js.setIdentity(unknowns_, unknowns_), ja.setZero(unknowns_, packed());
    const Eigen::MatrixXd twice = bh_all * hb_all.transpose();  // sum of w (B H)_ki (H B)_jl at (k i, j l)
    for (int o = 0; o < nx; ++o) {
      const auto [row_of, c] = step_->places[o];
      for (int d = 0; d < nx; ++d) {
        const auto [i, j] = step_->places[d];
        double x = twice(row_of * n + i, j * n + c);
        if (i != j) x += sign(i) * sign(j) * twice(row_of * n + j, i * n + c);
        js(k + o, k + d) -= iota * x;
      }
      for (int g = 0; g < k; ++g) js(k + o, g) -= total(xv[o * k + g]) / s.v2(g) + (row_of == g && c == g ? beta_ : 0.0);
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
  double cross_factor(const StepModel& m, double v2) const { return m.e2 != 0 ? m.e2 / std::sqrt(beta_ * v2) : 0.0; }

  /// Size of the terms that the step adds, against A.
  double coupling() const {
    double most = 0;
    const double u2 = step_->groups[0].moments.u[2];
    for (const StepModel& g : step_->groups) most = std::max({most, std::abs(g.kap) * u2, g.e2 * g.e2 * u2});
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
      const double moved = std::max(step.head(k_).cwiseQuotient(state_.v2).cwiseAbs().maxCoeff(),
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

  /// From V2 without the step, by plain iterations as long as they come closer, then Newton's method.
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
    double done = 0, stride = std::min(1.0, 3 / (p.a.array() / from.a.array()).log().abs().maxCoeff());
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
    Eigen::VectorXd change(packed());
    for (int g = 0; g < k_; ++g) {
      for (int h = g; h < k_; ++h) change(detail::index(k_, g, h)) = (to.vv(g, h) - at_.vv(g, h)) * root_c_[g] * root_c_[h];
      change(pairs_ + g) = at_.a(g) * std::log(to.a(g) / at_.a(g));
    }
    const Eigen::VectorXd moved = jacobian_.solve(detail::apply(linear_.along, change)), v2 = state_.v2;
    State<double> next = unpack<double>(pack(state_) + moved);
    next.v2 = (v2.array() * (moved.head(k_).array() / v2.array()).exp()).matrix();
    if (next.v2.allFinite() && next.x.allFinite()) state_ = next;
  }

  /// (V1, V2) packed, unit convention.
  template <class T> Vec<T> values(const Parameters<T>& p, const State<T>& s) const {
    const Resolvents<T> r = resolvents<T>(p, s.x);
    const Mat<T> v1 = sandwiched(r.left, r.x);
    Vec<T> out(packed());
    for (int g = 0; g < k_; ++g) {
      for (int h = g; h < k_; ++h) out(detail::index(k_, g, h)) = v1(g, h) / (beta_ * root_c_[g] * root_c_[h]);
      out(pairs_ + g) = s.v2(g);
    }
    return out;
  }

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
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = a.s * b.x.data()[i] + b.s * a.x.data()[i] - x.data()[i];
    return {a.s * b.s, x};
  }
  template <class T> static Two<T> inverse(const Two<T>& a, const Mat<T>& vv) {
    const Mat<T> m = a.s * detail::identity<T>(static_cast<int>(vv.rows())) - detail::mul(a.x, vv);
    return {T(1) / a.s, detail::mul(detail::inv(m), a.x) / -a.s};
  }

  template <class T> GroupOverlaps<T> overlaps(const Parameters<T>& p, const State<T>& s) const {
    const GroupStep& step = *step_;
    using detail::add, detail::corner, detail::inv, detail::mul;
    const Mat<T>& vv = p.vv;
    const Mat<T> vh1 = corner(vv, k_), one = detail::identity<T>(k_), unit = detail::identity<T>(n_);
    const Resolvents<T> of_g = resolvents<T>(p, s.x);
    const Mat<T>&x = of_g.x, &left = of_g.left, &right = of_g.right;
    const Mat<T> gm = turned_back<T>(mul(p.vv, left));
    constexpr int top = 7;
    double e0[top] = {}, e1[4] = {};
    const int powers = step.lean ? top : 3, powers1 = step.lean ? 4 : 2;
    using V = typename detail::Packed<T>::Type;
    const int square = n_ * n_;
    detail::Scratch<V> scratch(Node<T>::size(n_, k_) + (top + 4 + 4) * square);
    Node<T> node(*this, s.v2, gm, scratch);
    V *const s0 = scratch.zeros(top * square), *const s1 = scratch.zeros(4 * square), *const s2 = scratch.zeros(square);
    V *const sum_q = scratch.zeros(square), *const sum_gy = scratch.zeros(square), *const gy = scratch.take(square);
    for (Index at = 0; at < step.nodes.size(); at += 8) {
      using Real = detail::Eight;
      const Real u = Real::load(&step.nodes.u[at]), w0 = Real::load(&step.nodes.w[0][at]), w1 = Real::load(&step.nodes.w[1][at]),
                 w2 = Real::load(&step.nodes.w[2][at]);
      node.set(u);
      node.multiply(node.gm, node.y, gy);
      Real power(1.0);
      for (int n = 0; n < powers; ++n, power *= u) {
        const Real a = w0 * power, b = w1 * power;
        for (int i = 0; i < square; ++i) s0[n * square + i] += a * node.y[i];
        e0[n] += detail::Packed<double>::total(a);
        if (n >= powers1) continue;
        for (int i = 0; i < square; ++i) s1[n * square + i] += b * node.y[i];
        e1[n] += detail::Packed<double>::total(b);
      }
      for (int i = 0; i < square; ++i) s2[i] += w2 * node.y[i], sum_q[i] += w0 * node.q[i], sum_gy[i] += w0 * gy[i];
    }
    const auto gathered = [&](const V* sum) {
      Mat<T> out(n_, n_);
      for (int i = 0; i < n_; ++i)
        for (int j = 0; j < n_; ++j) out(i, j) = detail::Packed<T>::total(sum[i * n_ + j]);
      return out;
    };
    std::vector<Mat<T>> y0, y1;
    for (int n = 0; n < top; ++n) y0.push_back(turned<T>(gathered(s0 + n * square)));
    for (int n = 0; n < 4; ++n) y1.push_back(turned<T>(gathered(s1 + n * square)));
    const Mat<T> mean_q = gathered(sum_q);
    const Mat<T> mean_qt = T(e0[0]) * unit - T(step.iota) * gathered(sum_gy);  // (1 + Gm B/alpha0)^-1 = 1 - Gm Y/alpha0
    GroupOverlaps<T> out;
    out.mean = mean(s, gm, mean_q, mean_qt);
    if (!step.stepped) {  // W0 vhat and W0 zhat: V1 without and with vhat taken out
      out.vv = corner(x, k_);
      out.zz = corner(sandwiched(left, x), k_);
      out.vz = out.dv = out.dz = out.dd = Mat<T>::Zero(k_, k_);
      scale_legs(out);
      return out;
    }
    Mat<T> xt = gathered(s2);
    for (int g = 0; g < k_; ++g) xt(g, g) += beta_ * s.v2(g);
    const Resolvents<T> of_t = resolvents<T>(p, xt);
    // g and t: 1 - x VV is `left` of theirs, 1 - VV x is `right`, without the cancellation.
    const Two<T> gme{T(1), sandwiched(left, x)}, tt{T(1), sandwiched(of_t.left, of_t.x)};
    using Polynomial = std::array<double, top>;
    const auto of_q = [&](const Polynomial& f, bool with_t) {
      Two<T> sum{T(0), Mat<T>::Zero(n_, n_)};
      for (int n = 0; n < top; ++n) {
        if (f[n] == 0) continue;
        sum.s += f[n] * (with_t ? e1[n] : e0[n]);
        add<T>(f[n], with_t ? y1[n] : y0[n], sum.x);
      }
      sum.x = mul(sum.x, right);
      sum.x *= T(step.iota);
      return sum;
    };
    const auto of_qt = [&](const Two<T>& q) {
      Mat<T> flipped(n_, n_);
      for (int i = 0; i < n_; ++i)
        for (int j = 0; j < n_; ++j) flipped(i, j) = sign(i) * sign(j) * q.x(j, i);
      return Two<T>{q.s, flipped};
    };
    const auto g_times = [&](const Two<T>& q) { return Two<T>{q.s, q.s * gme.x + mul(left, q.x)}; };
    const auto t_times = [&](const Two<T>& q) { return Two<T>{q.s, q.s * tt.x + mul(of_t.left, q.x)}; };
    const auto times_t = [&](const Two<T>& q) { return Two<T>{q.s, q.s * tt.x + mul(q.x, of_t.right)}; };
    const auto times_t_times = [&](const Two<T>& a, const Two<T>& b) {
      const Mat<T> rest = a.s * unit - mul(a.x, vv);
      return Two<T>{a.s * b.s, b.s * times_t(a).x + mul(rest, mul(of_t.left, b.x))};
    };
    const auto block = [&](const Two<T>& a) { return Two<T>{a.s, corner(a.x, k_)}; };
    const auto product = [](const Polynomial& f, const Polynomial& g) {
      Polynomial out_{};
      for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4 && i + j < top; ++j) out_[i + j] += f[i] * g[j];
      return out_;
    };
    const auto overlap = [&](const Polynomial& f, const Polynomial& g) {
      const Two<T> nf = of_qt(of_q(f, true)), ng = of_q(g, true);
      return block(T(step.iota) * g_times(of_q(product(f, g), false)) + times_t_times(nf, ng));
    };
    const Polynomial fv{0, 1 / step.l};
    const Two<T> pvv = overlap(fv, fv), ptt = block(tt);
    const Two<T> qv = of_q(fv, true);
    const Two<T> ptv = block(t_times(qv)), pvt = block(times_t(of_qt(qv)));
    const double gamma = step.gamma, rho = step.iota > 0 ? std::sqrt(step.groups[0].moments.u[2] * step.iota) / step.l : 0;
    const bool aligned = rho < 1e-7;
    const T inverse_rho(aligned ? 0 : 1 / rho);
    const Two<T> pvz = inverse_rho * (pvt - T(gamma) * pvv), pzv = inverse_rho * (ptv - T(gamma) * pvv);
    const Two<T> pzz = (inverse_rho * inverse_rho) * (ptt - T(gamma) * (ptv + pvt) + T(gamma * gamma) * pvv);
    out.vv = mul(pvv.x, inv<T>(one - mul(vh1, pvv.x)));
    out.vz = mul<T>(one + mul(out.vv, vh1), pvz.x);
    out.zz = pzz.x + mul(mul(pzv.x, vh1), out.vz);
    out.dv = out.dz = out.dd = Mat<T>::Zero(k_, k_);
    for (int g = 0; g < k_; ++g) out.dd(g, g) = beta_ * s.v2(g) * step.groups[g].c_delta;
    if (step.lean) {
      const Two<T> inverse_vv = inverse(pvv, vh1);
      std::vector<Two<T>> lv, vl, lt;
      std::vector<Polynomial> f(k_, Polynomial{});
      for (int g = 0; g < k_; ++g) {
        for (int n = 0; n < 4; ++n) f[g][n] = step.groups[g].la[n] + step.groups[g].lb[n];
        lv.push_back(overlap(f[g], fv)), vl.push_back(overlap(fv, f[g]));
        lt.push_back(block(times_t(of_qt(of_q(f[g], true)))));
      }
      for (int g = 0; g < k_; ++g) {
        const Two<T> with = times(lv[g], inverse_vv, vh1);
        const Two<T> lz = inverse_rho * (lt[g] - T(gamma) * lv[g]) - times(with, pvz, vh1);
        const Mat<T> own = axes_.row(g).head(k_).template cast<T>();
        const auto set_row = [&](const Two<T>& a, Mat<T>& to) {
          const Mat<T> row = mul<T>(own, a.s * one - mul(vh1, a.x));
          for (int h = 0; h < k_; ++h) to(g, h) = beta_ * s.v2(g) * row(0, h);
        };
        set_row(with, out.dv);
        set_row(lz, out.dz);
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
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h) {
        const double both = 1 / (root_c_[g] * root_c_[h]);
        out.vv(g, h) *= both, out.vz(g, h) *= both, out.zz(g, h) *= both;
        out.dv(g, h) /= root_c_[h], out.dz(g, h) /= root_c_[h];
      }
  }
  /// K of the mean over beta d: the step damps the mean row, since f0 contains h1 wbar.x.
  template <class T> Mat<T> mean(const State<T>& s, const Mat<T>& gm, const Mat<T>& q, const Mat<T>& qt) const {
    const GroupStep& step = *step_;
    const StepConstants& c = step.constants;
    const double rate = step.eta * c.h1 * c.h1, eta2 = step.eta * step.eta * c.h1 * c.h1;
    const Mat<T> gq = detail::mul(gm, q), c1 = detail::corner(gq, k_);
    Mat<T> c2 = detail::corner(detail::mul(qt, gq), k_), n = Mat<T>::Zero(k_, k_), y(k_, k_);
    detail::add<T>(step.iota, c1, c2);
    detail::add<T>(-2 * rate + eta2 * step.square * (c.variance - c.h1 * c.h1) * step.iota, c1, n);
    detail::add<T>(rate * rate * step.square, c2, n);
    for (int g = 0; g < k_; ++g) {
      for (int h = 0; h < k_; ++h) y(g, h) = n(g, h) * (step.a[g] * step.a[h] * std::sqrt(step.pi[g] * step.pi[h]));
      y(g, g) += step.pi[g] / s.v2(g);
    }
    Mat<T> out = detail::inv(y);
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h) out(g, h) *= std::sqrt(step.pi[g] * step.pi[h]);
    return out;
  }

  const GroupStep* step_;
  double beta_, lam_ = 0, defect_ = 0;
  int k_, n_, pairs_, unknowns_ = 0;
  Eigen::MatrixXd axes_;  ///< n x n: those of the step, and 1
  bool failed_ = false, known_ = false;  ///< known_: state_ solves the equations at at_
  std::vector<double> root_c_;  ///< 1 over the axes, which have it
  Eigen::VectorXd vh_, v_;
  Eigen::MatrixXd traces_;
  State<double> state_;
  Parameters<double> at_;
  std::vector<State<C>> moved_;
  Linear linear_;
  Eigen::PartialPivLU<Eigen::MatrixXd> jacobian_;  ///< of linear_.state
};

/// A solution of groups in the anisotropic bulk, unit convention.
struct GroupStepOrder {
  double test_error, train_error, residual, amplification;
  Eigen::VectorXd m, theta, psi, chi, q2, v2;
  Eigen::MatrixXd q1, v1;
  int iterations = 0;
};

/// One point, from nodes and with V1 over axes of its own; `linear_part` is in the unit convention again.
class GroupStepSolver {
 public:
  GroupStepSolver(const GroupStep& step, const Point<double>& point)
      : point_(point), bulk_(step, point.beta, &step.axes), step_(&step), k_(step.k()), n_(bulk_.packed()), pairs_(n_ - k_), twice_(n_), v(n_) {
    for (int j = 0; j < n_; ++j) twice_(j) = bulk_.twice(j);
    v.setZero();
    for (int g = 0; g < k_; ++g) {
      v(pairs_ + g) = step.pi[g] / point.lam;
      for (int a = 0; a < k_; ++a)
        for (int b = a; b < k_; ++b) v(detail::index(k_, a, b)) += step.axes(g, a) * step.groups[g].spike.c * v(pairs_ + g) * step.axes(g, b);
    }
  }

  /// Nodes along the axes.
  GroupNodes turned(const GroupNodes& nodes) const { return step_->turned(nodes, bulk_.axes()); }
  /// Turns the axes to the principal ones of Vh1 as it was last.
  void turn() {
    if (!vh_.allFinite()) return;
    const Eigen::MatrixXd by = GroupStep::principal_axes(square(vh_)), v1 = detail::mul<double>(detail::mul<double>(by.transpose(), square(v)), by);
    bulk_.turn(by);
    for (int g = 0; g < k_; ++g)
      for (int h = g; h < k_; ++h) v(detail::index(k_, g, h)) = v1(g, h);
  }

  void newton(const GroupNodes& nodes, const NewtonSettings& settings) {
    double previous = 1e-4;
    for (int iteration = 0; iteration < settings.max_iterations; ++iteration) {
      evaluate(nodes);
      ++iterations;
      if (bulk_.failed() || !v.allFinite()) return;
      Eigen::VectorXd next = v + newton_step();
      if (!inside(next)) next = bulk_.values();
      const double step = (next - v).cwiseQuotient(scale(next)).cwiseAbs().maxCoeff();
      v = next;
      if (step <= settings.tolerance || (step < previous && step * step * step <= settings.tolerance * previous * previous)) return;
      if (step < 1e-6 && step >= 0.5 * previous) return;
      previous = std::min(0.03, step);
    }
  }

  /// The linear part (THEORY 9 e and 10). `muc`: the third feature at the nodes, size x groups.
  GroupStepOrder linear_part(const GroupNodes& nodes, const std::vector<double>& muc) {
    evaluate(nodes);
    const Eigen::VectorXd step = newton_step();
    const double step_size = step.cwiseQuotient(scale(v)).cwiseAbs().maxCoeff();
    const Index n_nodes = nodes.size;
    const double ratio = point_.ratio;
    const bool finite_d = point_.inverse_d > 0;
    const GroupOverlaps<double> k = bulk_.overlaps();
    GroupStepOrder out;
    out.iterations = iterations;

    // Columns: means (their distinguishable combinations where they are free), k mu1, mu_c; made orthonormal.
    const int n_mean = finite_d ? k_ : nodes.rank, n_columns = n_mean + 2 * k_;
    Eigen::MatrixXd design(n_nodes, n_columns);
    Eigen::VectorXd target(n_nodes), ps(k_);
    ps.setZero();
    for (Index i = 0; i < n_nodes; ++i) {
      const double root = std::sqrt(nodes.weight[i] * w_[i]);
      for (int c = 0; c < n_mean; ++c) design(i, c) = root * (finite_d ? nodes.mu0[i * k_ + c] : nodes.basis[i * n_mean + c]);
      for (int g = 0; g < k_; ++g) {
        design(i, n_mean + g) = root * nodes.kmu1[i * k_ + g];
        design(i, n_mean + k_ + g) = root * muc[i * k_ + g];
        ps(g) += ratio * nodes.weight[i] * w_[i] * nodes.mu1[i * k_ + g] * nodes.h1[i];
      }
      target(i) = root * nodes.h[i];
    }
    const Eigen::HouseholderQR<Eigen::MatrixXd> qr(design);
    const Index rows = std::min<Index>(n_nodes, n_columns);
    const Eigen::VectorXd all = qr.householderQ().transpose() * target, b = all.head(rows);
    const Eigen::MatrixXd r = qr.matrixQR().topRows(rows).template triangularView<Eigen::Upper>();
    // x = K a' R^T eta + kz, eta = b - R x: (1 + a' R K R^T) eta = b - R kz. Free means: their rows of eta are zero.
    Eigen::MatrixXd full = Eigen::MatrixXd::Zero(n_columns, n_columns);
    Eigen::VectorXd kz = Eigen::VectorXd::Zero(n_columns);
    const double mean_scale = finite_d ? point_.beta / point_.inverse_d : 0;
    if (finite_d) full.topLeftCorner(k_, k_) = mean_scale * k.mean;
    full.block(n_mean, n_mean, k_, k_) = k.vv;
    full.block(n_mean, n_mean + k_, k_, k_) = k.dv.transpose();
    full.block(n_mean + k_, n_mean, k_, k_) = k.dv;
    full.block(n_mean + k_, n_mean + k_, k_, k_) = k.dd;
    kz.segment(n_mean, k_) = detail::apply(k.vz, ps);
    kz.tail(k_) = detail::apply(k.dz, ps);
    const int skip = finite_d ? 0 : n_mean;
    const Index kept = rows - skip;
    const Eigen::MatrixXd rf = r.bottomRightCorner(kept, n_columns - skip), kf = full.bottomRightCorner(n_columns - skip, n_columns - skip);
    using detail::apply, detail::mul;
    const Eigen::MatrixXd rt = ratio * rf.transpose();
    const Eigen::MatrixXd system = detail::identity<double>(static_cast<int>(kept)) + mul(mul(rf, kf), rt);
    const Eigen::VectorXd eta = solve_dense(system, b.tail(kept) - apply(rf, kz.tail(n_columns - skip)));
    const Eigen::VectorXd y = apply(rt, eta), x = apply(kf, y) + kz.tail(n_columns - skip);
    Eigen::MatrixXd hats = Eigen::MatrixXd::Zero(k_, 4);
    hats.col(0) = y.segment(n_mean - skip, k_), hats.col(1) = ps, hats.col(2) = y.tail(k_);
    Eigen::VectorXd mean;
    if (finite_d) {
      out.m = mean = x.head(k_);
      hats.col(3) = std::sqrt(mean_scale) * y.head(k_);
    } else {
      mean = r.topLeftCorner(n_mean, n_mean).template triangularView<Eigen::Upper>().solve(b.head(n_mean) - apply(r.topRightCorner(n_mean, 2 * k_), x));
      out.m = Eigen::VectorXd::Zero(k_);
      for (int g = 0; g < k_; ++g)
        for (int c = 0; c < n_mean; ++c) out.m(g) += nodes.to_m[g * n_mean + c] * mean(c);
    }
    out.theta = x.segment(n_mean - skip, k_);
    out.chi = x.tail(k_);
    out.psi = apply(k.vz.transpose(), hats.col(0)) + apply(k.dz.transpose(), hats.col(2)) + apply(k.zz, ps);

    double error = 0, loss = 0, loss2 = 0, energy = 0, size = 0;
    Eigen::VectorXd n = Eigen::VectorXd::Zero(n_), pulls = Eigen::VectorXd::Zero(n_columns);
    for (Index i = 0; i < n_nodes; ++i) {
      double e = nodes.h[i], f = nodes.h1[i];
      for (int c = 0; c < n_mean; ++c) e -= (finite_d ? nodes.mu0[i * k_ + c] : nodes.basis[i * n_mean + c]) * mean(c);
      for (int g = 0; g < k_; ++g) {
        e -= nodes.kmu1[i * k_ + g] * out.theta(g) + muc[i * k_ + g] * out.chi(g);
        f -= nodes.mu1[i * k_ + g] * out.psi(g);
      }
      const double ww = nodes.weight[i] * w_[i], part = nodes.rest[i] + e * e + f * f, noisy = part + point_.noise;
      error += nodes.weight[i] * part;
      loss += ww * noisy;
      loss2 += ww * w_[i] * noisy;
      for (int j = 0; j < n_; ++j) n(j) += ratio * nodes.e[i * nodes.stride + j] * ww * w_[i] * noisy;
      energy += ww * ((nodes.h[i] - e) * e + (nodes.h1[i] - f) * f);
      size += ww * (nodes.rest[i] + point_.noise + nodes.h[i] * nodes.h[i] + nodes.h1[i] * nodes.h1[i]);
      for (int g = 0; g < k_; ++g) {
        pulls(n_mean + g) += ww * e * nodes.kmu1[i * k_ + g];
        pulls(n_mean + k_ + g) += ww * e * muc[i * k_ + g];
      }
    }
    double defect_linear = 0;
    for (int g = 0; g < k_; ++g)
      defect_linear += std::abs(out.theta(g) * (pulls(n_mean + g) - hats(g, 0) / ratio)) + std::abs(out.chi(g) * (pulls(n_mean + k_ + g) - hats(g, 2) / ratio));
    Eigen::VectorXd source = bulk_.sources(hats);
    for (int g = 0; g < k_; ++g)
      for (int h = g; h < k_; ++h) source(detail::index(k_, g, h)) -= out.psi(g) * out.psi(h);
    source += apply(bulk_.traces(), n);
    const Eigen::VectorXd q = solve(source, left_vector().dot(source));
    out.q1.resize(k_, k_), out.v1.resize(k_, k_);
    out.q2 = q.tail(k_), out.v2 = v.tail(k_);
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h) {
        out.q1(g, h) = q(detail::index(k_, g, h)) + out.psi(g) * out.psi(h);
        out.v1(g, h) = v(detail::index(k_, g, h));
      }
    out.test_error = error, out.train_error = loss2;
    for (int j = 0; j < n_; ++j) {
      out.test_error += twice_(j) * q(j) * nodes.mean_e[j];
      out.train_error += twice_(j) * q(j) * mean_e_w2_(j);
    }
    const Eigen::VectorXd pushed = apply(bulk_.traces(), vh_);
    const Eigen::VectorXd moved = solve(pushed, std::min(left_vector().dot(pushed), free_ + point_.lam * v.tail(k_).sum()));
    out.amplification = std::max(1.0, moved.cwiseQuotient(scale(v)).cwiseAbs().maxCoeff());
    const double defect_map = (bulk_.values() - v).cwiseQuotient(scale(v)).cwiseAbs().maxCoeff();
    const Eigen::MatrixXd legs = step_->legs(bulk_.axes()), legs_t = legs.transpose();
    out.theta = apply(legs, out.theta), out.psi = apply(legs, out.psi);
    for (Eigen::MatrixXd* matrix : {&out.q1, &out.v1}) {
      const Eigen::MatrixXd back = mul(mul(legs, *matrix), legs_t);
      *matrix = 0.5 * (back + back.transpose());
    }
    const double defect_energy = std::abs(out.train_error + point_.lam / ratio * out.q2.sum() - loss - energy);
    out.residual = std::max({defect_map, step_size, bulk_.defect(), (defect_energy + defect_linear) / size});
    if (bulk_.failed()) out.residual = std::max(out.residual, 1.0);
    return out;
  }

  /// Averages at v on two rules: their largest relative difference.
  double difference(const GroupNodes& a, const GroupNodes& b) const {
    const Eigen::MatrixXd x = probe(a), y = probe(b);
    double worst = 0;
    for (Index i = 0; i < x.rows(); ++i)
      if (y(i, 1) > 1e-280) worst = std::max(worst, std::abs(x(i, 0) - y(i, 0)) / y(i, 1));
    return worst;
  }

 private:
  void weigh(const GroupNodes& nodes, std::vector<double>& w) const {
    w.resize(nodes.size);
    for (Index i = 0; i < nodes.size; ++i) {
      double x = 1;
      for (int j = 0; j < n_; ++j) x += nodes.e[i * nodes.stride + j] * twice_(j) * v(j);
      w[i] = 1 / x;
    }
  }
  Eigen::MatrixXd probe(const GroupNodes& nodes) const {
    std::vector<double> w;
    weigh(nodes, w);
    Eigen::MatrixXd out = Eigen::MatrixXd::Zero(n_ + k_ + 3, 2);
    for (Index i = 0; i < nodes.size; ++i) {
      const double ww = nodes.weight[i] * w[i], square = nodes.h[i] * nodes.h[i] + nodes.h1[i] * nodes.h1[i] + nodes.rest[i];
      for (int j = 0; j < n_; ++j) out(j, 0) += ww * nodes.e[i * nodes.stride + j];
      for (int g = 0; g < k_; ++g) out(n_ + g, 0) += ww * nodes.mu0[i * k_ + g] * nodes.mu0[i * k_ + g];
      out(n_ + k_, 0) += ww * square, out(n_ + k_ + 1, 0) += ww * w[i] * square, out(n_ + k_ + 2, 0) += ww * w[i];
    }
    out.col(1) = out.col(0).cwiseAbs();
    // Vh1 acts beside the inverse of X: what is far below 1/(beta V1) does not matter.
    const auto size = [&](int g) {
      const int j = detail::index(k_, g, g);
      return out(j, 0) + 1 / (point_.alpha * v(j));
    };
    for (int g = 0; g < k_; ++g)
      for (int h = g; h < k_; ++h) out(detail::index(k_, g, h), 1) = std::sqrt(size(g) * size(h));
    return out;
  }

  void evaluate(const GroupNodes& nodes) {
    weigh(nodes, w_);
    vh_ = mean_e_w2_ = Eigen::VectorXd::Zero(n_);
    m_ = Eigen::MatrixXd::Zero(n_, n_);
    double mean_w = 0;
    for (Index i = 0; i < nodes.size; ++i) {
      const double ww = nodes.weight[i] * w_[i], w2 = ww * w_[i];
      const Eigen::Map<const Eigen::VectorXd> e(&nodes.e[i * nodes.stride], n_);
      mean_w += ww;
      vh_ += point_.ratio * ww * e;
      mean_e_w2_ += w2 * e;
      for (int j = 0; j < n_; ++j) m_.col(j) += (point_.ratio * w2 * e(j)) * e;
    }
    free_ = point_.ratio * mean_w;
    bulk_.solve(vh_, point_.lam);
  }
  bool inside(const Eigen::VectorXd& x) const {
    return x.allFinite() && x.tail(k_).minCoeff() > 0 && square(x).llt().info() == Eigen::Success;
  }
  /// What is packed first, as a matrix.
  Eigen::MatrixXd square(const Eigen::VectorXd& x) const {
    Eigen::MatrixXd out(k_, k_);
    for (int g = 0; g < k_; ++g)
      for (int h = 0; h < k_; ++h) out(g, h) = x(detail::index(k_, g, h));
    return out;
  }
  Eigen::VectorXd scale(const Eigen::VectorXd& x) const {
    Eigen::VectorXd out = x;
    for (int g = 0; g < k_; ++g)
      for (int h = g; h < k_; ++h)
        out(detail::index(k_, g, h)) = std::sqrt(std::abs(x(detail::index(k_, g, g)) * x(detail::index(k_, h, h))));
    return out;
  }
  static Eigen::VectorXd solve_dense(const Eigen::MatrixXd& a, const Eigen::VectorXd& b) { return Eigen::PartialPivLU<Eigen::MatrixXd>(a).solve(b); }
  Eigen::VectorXd left_vector() const { return twice_.cwiseProduct(vh_); }
  Eigen::VectorXd newton_step() const {
    const Eigen::VectorXd f = bulk_.values() - v;
    return solve(f, left_vector().dot(f));
  }

  /// (I - T M) x = c with what is known of the near-null vectors (GroupSystem); `along` is Vh.c.
  Eigen::VectorXd solve(const Eigen::VectorXd& c, double along) const {
    const Eigen::MatrixXd& t = bulk_.traces();
    Eigen::VectorXd ones = Eigen::VectorXd::Zero(n_);
    ones.tail(k_).setConstant(point_.lam);
    const Eigen::VectorXd f = bulk_.values() - v, ridge = detail::apply(t, ones), rest = ridge - f, free = point_.ratio * mean_e_w2_;
    const Eigen::VectorXd g = detail::apply(t, free) + rest, l = left_vector();
    const Eigen::VectorXd s = twice_.cwiseProduct(free + detail::apply(m_, twice_.cwiseProduct(rest))), size = scale(v);
    Eigen::MatrixXd b = detail::mul(t, m_);  // becomes 1 - T M + V l^T/(l V), scaled to V
    const double lv = l.dot(v);
    for (int j = 0; j < n_; ++j)
      for (int i = 0; i < n_; ++i) b(i, j) = ((i == j) - b(i, j) * twice_(j) + v(i) * l(j) / lv) * size(j) / size(i);
    const Eigen::PartialPivLU<Eigen::MatrixXd> lu(b);
    const Eigen::VectorXd yc = size.cwiseProduct(Eigen::VectorXd(lu.solve(Eigen::VectorXd(c.cwiseQuotient(size)))));
    const Eigen::VectorXd yg = size.cwiseProduct(Eigen::VectorXd(lu.solve(Eigen::VectorXd(g.cwiseQuotient(size)))));
    const double factor = (along - s.dot(yc)) / (l.dot(g) - s.dot(yg));
    return factor * v + yc - factor * yg;
  }

  Point<double> point_;
  GroupStepBulk bulk_;
  const GroupStep* step_;
  int k_, n_, pairs_;
  Eigen::VectorXd twice_;

 public:
  Eigen::VectorXd v;
  int iterations = 0;

 private:
  std::vector<double> w_;
  Eigen::VectorXd vh_, mean_e_w2_;
  Eigen::MatrixXd m_;
  double free_ = 0;
};

// --- batches -------------------------------------------------------------------------------------------------------

struct GroupStepInput {
  const Function *sigma = nullptr, *derivative = nullptr, *target = nullptr;
  std::vector<double> readout, pi;
  std::vector<std::array<double, 3>> sets;  ///< eta, 1/alpha0, noise
  const std::int64_t* set_index = nullptr;
  Index set_stride = 0;
  Column alpha, beta, lam, noise, inverse_d;
  Index n_points = 0;
  int n_threads = 1;
  bool merge = true;
};

/// As GroupBatchOutput, with chi and what each group's neurons became: K values a point.
struct GroupStepOutput : GroupBatchOutput {
  double *chi, *r, *c, *gamma;
};

namespace detail {

/// One (eta, alpha0, noise): the step, its groups' coefficients in k. Rules are found under the mutex.
struct GroupStepSet {
  std::mutex mutex;
  CoefficientScratch scratch;
  std::unique_ptr<GroupStep> step;
  std::unique_ptr<GroupTable> table;
  std::array<std::unique_ptr<std::vector<double>>, GroupTable::n_rungs * n_sizes> muc;

  const std::vector<double>& norms(const Function& sigma, const GroupNodes& nodes, int rung, int cls) {
    std::unique_ptr<std::vector<double>>& out = muc[rung * n_sizes + cls];
    if (out) return *out;
    const int k = nodes.groups;
    out = std::make_unique<std::vector<double>>(nodes.size * k);
    for (int g = 0; g < k; ++g) {
      const SpikeParameters& p = step->groups[g].spike;
      const std::vector<double> values = norm_coefficients(sigma, p, nodes.k.data(), nodes.size);
      double top = 0, size = 0;
      for (Index i = 0; i < nodes.size; ++i) {
        const double mu0 = nodes.mu0[i * k + g];
        top = std::max(top, std::abs(values[i]));
        size += nodes.weight[i] * mu0 * mu0;
      }
      size += nodes.mean_e[index(k, g, g)] + nodes.mean_e[nodes.pairs + g];
      const bool dust = top * p.c < 1e-13 * std::sqrt(size);
      for (Index i = 0; i < nodes.size; ++i) (*out)[i * k + g] = dust ? 0 : values[i];
    }
    return *out;
  }
};

inline void solve_group_step_point(const GroupStepInput& in, const GroupStepOutput& out, const MergedGroups& merged, GroupStepSet& set, Index i) {
  const Point<double> point{in.alpha[i], in.beta[i], in.lam[i], in.noise[i], in.inverse_d[i], 1, in.alpha[i] / in.beta[i]};
  const int k = merged.given(), distinct = merged.groups();
  GroupStepSolver solver(*set.step, point);
  const GroupNodes* nodes;
  {
    const std::lock_guard<std::mutex> lock(set.mutex);
    nodes = &set.table->starter();
  }
  solver.newton(solver.turned(*nodes), {60, 1e-4});
  solver.turn();
  double size = 0;
  for (int g = 0; g < distinct; ++g) {
    const double ratio = solver.v(solver.v.size() - distinct + g) / set.step->pi[g];
    if (std::isfinite(ratio)) size = std::max(size, ratio);
  }
  const int cls = GroupTable::class_of(size);
  int rung;
  {
    const std::lock_guard<std::mutex> lock(set.mutex);
    rung = set.table->rung_of(cls);
  }
  GroupStepOrder x;
  double error = 0;
  for (;;) {
    const GroupNodes* denser;
    const std::vector<double>* muc;
    {
      const std::lock_guard<std::mutex> lock(set.mutex);
      nodes = &set.table->nodes(rung, cls), denser = &set.table->nodes(rung + 1, cls);
      muc = &set.norms(*in.sigma, *nodes, rung, cls);
    }
    GroupNodes turned = solver.turned(*nodes);
    solver.newton(turned, {});
    x = solver.linear_part(turned, *muc);
    for (int again = 0; again < 2 && !(x.residual <= 1e-13); ++again) {  // the axes may have been those of a poor start
      solver.turn();
      turned = solver.turned(*nodes);
      solver.newton(turned, {});
      const GroupStepOrder next = solver.linear_part(turned, *muc);
      if (!(next.residual < x.residual) && std::isfinite(x.residual)) break;
      x = next;
    }
    error = solver.difference(turned, solver.turned(*denser));
    const int next = GroupTable::next(rung);
    if (next < 0 || !(x.residual <= residual_tolerance) || error <= 3e-14 || error * x.amplification <= 2e-11) break;
    rung = next;
  }
  const bool finite = std::isfinite(x.test_error) && std::isfinite(x.train_error) && std::isfinite(x.residual) && x.theta.allFinite() &&
                      x.m.allFinite() && x.psi.allFinite() && x.chi.allFinite() && x.q1.allFinite() && x.v1.allFinite();
  for (int g = 0; g < k; ++g) {
    const SpikeParameters& spike = set.step->groups[merged.of[g]].spike;
    out.r[i * k + g] = merged.sign[g] * spike.r, out.c[i * k + g] = spike.c, out.gamma[i * k + g] = set.step->gamma;
    out.chi[i * k + g] = std::numeric_limits<double>::quiet_NaN();
  }
  if (!finite) return store_group_failure(out, k, i, Status::non_finite, x.iterations, x.residual);
  if (!(x.residual <= residual_tolerance)) return store_group_failure(out, k, i, Status::max_iterations, x.iterations, x.residual);
  out.test_error[i] = x.test_error, out.train_error[i] = x.train_error, out.residual[i] = x.residual;
  out.quadrature_error[i] = (error + set.table->error() + set.step->nodes_error) * x.amplification;
  out.status[i] = static_cast<std::int8_t>(Status::converged), out.iterations[i] = x.iterations;
  for (int g = 0; g < k; ++g) {
    const int of = merged.of[g];
    const double share = merged.share[g];
    out.m[i * k + g] = merged.sign[g] * share * x.m(of);
    out.theta[i * k + g] = share * x.theta(of);
    out.psi[i * k + g] = share * x.psi(of);
    out.chi[i * k + g] = merged.sign[g] * share * x.chi(of);
    out.q2[i * k + g] = share * x.q2(of);
    out.v2[i * k + g] = share * x.v2(of);
    for (int h = 0; h < k; ++h) {
      const int oh = merged.of[h];
      const double both = share * merged.share[h], own = of == oh ? 1 : 0, self = g == h ? share : 0;
      out.q1[(i * k + g) * k + h] = both * (x.q1(of, oh) - own * x.q2(of)) + self * x.q2(of);
      out.v1[(i * k + g) * k + h] = both * (x.v1(of, oh) - own * x.v2(of)) + self * x.v2(of);
    }
  }
}

}  // namespace detail

/// Solves every point of a batch, lam > 0.
template <class Stop> void solve_group_step(const GroupStepInput& in, const GroupStepOutput& out, Stop& interrupt) {
  const StepConstants constants = step_constants(*in.sigma, *in.derivative);
  // One and the same: equal readout values, or for odd sigma equal up to sign.
  GroupParameters values;
  values.r = in.readout, values.pi = in.pi, values.c.assign(in.readout.size(), 1.0);
  const MergedGroups merged = merge_groups(values, in.sigma->shape().parity == -1, in.merge);
  double mean = 0;
  for (std::size_t g = 0; g < in.readout.size(); ++g) mean += in.pi[g] * in.readout[g];
  std::vector<detail::GroupStepSet> sets(in.sets.size());
  parallel_for(static_cast<Index>(sets.size()), in.n_threads, interrupt, [&](Index s, int) {
    detail::GroupStepSet& set = sets[s];
    const auto [eta, inverse_alpha0, noise] = in.sets[s];
    set.step = std::make_unique<GroupStep>(constants, *in.target, merged.distinct.r, merged.distinct.pi, mean, eta, inverse_alpha0, noise);
    GroupParameters p;
    p.pi = set.step->pi, p.gamma = set.step->gamma;
    for (const StepModel& g : set.step->groups) p.r.push_back(g.spike.r), p.c.push_back(g.spike.c);
    set.table = std::make_unique<GroupTable>(*in.sigma, *in.target, p, set.scratch);
    set.step->find_axes(set.table->starter());
    // How good the rule for u is, at a few V.
    const int k = set.step->k(), pairs = k * (k + 1) / 2;
    set.step->nodes_error = constants.error;
    GroupStepBulk bulk(*set.step, 1.0);
    for (const double a : {1e-4, 1e-2, 1.0}) {
      Eigen::VectorXd vh = Eigen::VectorXd::Zero(pairs + k);
      for (int g = 0; g < k; ++g) vh(detail::index(k, g, g)) = 1, vh(pairs + g) = a;
      bulk.solve(vh, 0);
      if (!bulk.failed()) set.step->nodes_error = std::max(set.step->nodes_error, bulk.compare(set.step->check));
    }
  });
  parallel_for(in.n_points, in.n_threads, interrupt, [&](Index i, int) {
    detail::GroupStepSet& set = sets[in.set_index[i * in.set_stride]];
    detail::solve_group_step_point(in, out, merged, set, i);
  });
}

}  // namespace srfx
