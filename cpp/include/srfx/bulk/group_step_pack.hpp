// The bulk of a step with several readout values for a pack of points, one a lane: the equations of
// group_step_map.hpp over the axes of the step, solved together with those of V.
//
// Newton's method for V asks for the map (Vh1, A) -> (V1, V2) and its derivative, again and again at
// nearby places. The fixed point behind it, (V2, X), goes along: it moves with (Vh1, A) to first
// order, and takes one Newton step where it arrives. Both errors vanish quadratically. A lane that
// is asked for the same again does not move.
#pragma once

#include "srfx/bulk/group_step_model.hpp"

namespace srfx {

namespace detail {

/// A square matrix of numbers or lanes, by rows; N < 0: of a size known at run time.
template <class T, int N> struct Square {
  static constexpr int elements = N < 0 ? -1 : N * N;
  GroupArray<T, elements> a;
  explicit Square(int n) : a(n * n), size_(n) {}
  int n() const { return N < 0 ? size_ : N; }
  T& operator()(int i, int j) { return a[i * n() + j]; }
  const T& operator()(int i, int j) const { return a[i * n() + j]; }
  void fill(const T& x) {
    for (int i = 0; i < n() * n(); ++i) a[i] = x;
  }
  void set_identity() {
    fill(T(0.0));
    for (int i = 0; i < n(); ++i) (*this)(i, i) = T(1.0);
  }

 private:
  int size_;
};

/// out = a b, where out is neither.
template <class T, int N>
SRFX_INLINE void multiply(const Square<T, N>& a, const Square<T, N>& b, Square<T, N>& out) {
  const int n = out.n();
  for (int i = 0; i < n; ++i)
    for (int j = 0; j < n; ++j) {
      T sum = a(i, 0) * b(0, j);
      for (int l = 1; l < n; ++l) sum += a(i, l) * b(l, j);
      out(i, j) = sum;
    }
}
/// The inverse of `a`, in `out`; `a` is used up.
template <class T, int N> SRFX_INLINE void invert(Square<T, N>& a, Square<T, N>& out) {
  const int n = a.n();
  out.set_identity();
  for (int c = 0; c < n; ++c) {
    for (int r = c + 1; r < n; ++r) {
      const auto swap = larger(a(r, c), a(c, c));
      if (!simd::any(swap)) continue;
      const auto exchange = [&](T& x, T& y) {
        const T first = x, second = y;
        x = choose(swap, second, first), y = choose(swap, first, second);
      };
      for (int j = c; j < n; ++j) exchange(a(c, j), a(r, j));
      for (int j = 0; j < n; ++j) exchange(out(c, j), out(r, j));
    }
    const T inverse = T(1.0) / a(c, c);
    for (int j = c + 1; j < n; ++j) a(c, j) = a(c, j) * inverse;
    for (int j = 0; j < n; ++j) out(c, j) = out(c, j) * inverse;
    for (int r = 0; r < n; ++r) {
      if (r == c) continue;
      const T factor = a(r, c);
      for (int j = c + 1; j < n; ++j) a(r, j) = a(r, j) - factor * a(c, j);
      for (int j = 0; j < n; ++j) out(r, j) = out(r, j) - factor * out(c, j);
    }
  }
}

}  // namespace detail

/// What all points of a step share: its laws and the axes of its features.
struct GroupStepShared {
  const GroupStep* step;
  int k, n;
  std::vector<double> axes;  ///< K x K by rows
  /// L_g = sum_n lean[g][n] v_(u^n); the n that occur.
  std::vector<std::array<double, 4>> lean;
  std::vector<int> powers;

  explicit GroupStepShared(const GroupStep& of) : step(&of), k(of.k()), n(of.n()) {
    for (int g = 0; g < k; ++g)
      for (int a = 0; a < k; ++a) axes.push_back(of.axes(g, a));
    for (const StepModel& g : of.groups) {
      lean.emplace_back();
      for (int i = 0; i < 4; ++i) lean.back()[i] = g.la[i] + g.lb[i];
    }
    for (int i = 0; i < 4; ++i)
      for (int g = 0; g < k; ++g)
        if (lean[g][i] != 0 && (powers.empty() || powers.back() != i)) powers.push_back(i);
  }
  double axis(int g, int a) const { return axes[g * k + a]; }
};

/// The bulk of a pack of points as GroupSolver asks for it. `wide`: h2 is not zero, and matrices
/// are of size 2 K.
template <class V, int K, bool wide> class GroupStepPack : public GroupSize<K> {
 public:
  using Size = GroupSize<K>;
  using Size::groups, Size::packed, Size::pairs;
  using Truth = simd::TruthOf<V>;
  static constexpr int n_side = K < 0  ? -1
                                : wide ? 2 * K
                                       : K,
                       n_x = K < 0 ? -1 : n_side * (n_side + 1) / 2, n_state = K < 0 ? -1 : K + n_x,
                       n_packed = K < 0 ? -1 : K * (K + 3) / 2;
  using Vector = GroupArray<V, K>;
  using Packed = GroupArray<V, n_packed>;
  using Square = GroupArray < V, K<0 ? -1 : K * K>;
  template <class T> using Matrix = detail::Square<T, n_side>;

  /// V2 and X, which is symmetric but for signs.
  template <class T> struct State {
    GroupArray<T, K> v2;
    Matrix<T> x;
    State(int k, int n) : v2(k), x(n) {}
  };

  explicit GroupStepPack(const GroupStepShared& shared)
      : Size(shared.k),
        twice(shared.k * (shared.k + 3) / 2),
        beta(1.0),
        shared_(&shared),
        unknowns_(shared.k + shared.n * (shared.n + 1) / 2),
        a_(shared.k),
        last_a_(shared.k),
        vv_(shared.n),
        last_vv_(shared.n),
        x_axes_(shared.n),
        left_(shared.n),
        xs_(shared.n),
        gm_(shared.n),
        state_(shared.k, shared.n),
        next_(shared.k, shared.n),
        traces_(packed * packed),
        scale_(unknowns_),
        motion_(unknowns_ * packed),
        system_(unknowns_ * (unknowns_ + packed + 1)) {
    for (int j = 0; j < packed; ++j) twice[j] = j < pairs ? 2 : 1;
    for (int g = 0; g < groups; ++g) twice[at(g, g)] = 1;
  }

  GroupArray<double, n_packed> twice;  ///< as GroupMap::twice
  V beta;
  bool exact = false;  ///< whether the fixed point is to be found to all digits

  int at(int g, int h) const { return detail::index(groups, g, h); }
  static constexpr bool failed() { return false; }
  /// Size of the last Newton step of the fixed point, relative.
  const V& defect() const { return defect_; }
  void forget() { known_ = false; }

  void solve_at(const V* vh, const V& lam, V* value) {
    vv_.set_identity();
    for (int g = 0; g < groups; ++g) {
      for (int h = g; h < groups; ++h) vv_(g, h) = vv_(h, g) = vh[at(g, h)];
      a_[g] = lam + vh[pairs + g];
    }
    auto moving = V(0.0) <= V(0.0);
    if (known_) {
      auto same = moving;
      for (int g = 0; g < groups; ++g) {
        same = same & (a_[g] == last_a_[g]);
        for (int h = g; h < groups; ++h) same = same & (vv_(g, h) == last_vv_(g, h));
      }
      moving = !(same & (exact ? defect_ <= V(settled) : defect_ < V(infinity)));
      // Where the step is too long for a derivative the state is found anew.
      auto near = moving;
      for (int g = 0; g < groups; ++g)
        near = near & close_to(a_[g], last_a_[g]) & close_to(vv_(g, g), last_vv_(g, g));
      predict(near & !same);
      start(moving & !near);
    } else {
      start(moving);
    }
    last_a_ = a_, last_vv_ = vv_;
    known_ = true;
    newton(moving);
    resolve(state_.x);
    for (int g = 0; g < groups; ++g) {
      value[pairs + g] = state_.v2[g];
      for (int h = g; h < groups; ++h) value[at(g, h)] = xs_(g, h) / beta;
    }
    differentiate();
  }
  void traces(const V* n, V* q) const {
    for (int i = 0; i < packed; ++i) {
      V x(0.0);
      for (int j = 0; j < packed; ++j) x += traces_[i * packed + j] * n[j];
      q[i] = x;
    }
  }

  const GroupStepShared& shared() const { return *shared_; }
  const Matrix<V>& vv() const { return vv_; }
  const State<V>& state() const { return state_; }
  /// How the state moves along one of (Vh1, A).
  void direction(int j, State<V>& out) const {
    const auto move = [&](int i) { return motion_[i * packed + j]; };
    for (int g = 0; g < groups; ++g) out.v2[g] = move(g);
    int i = groups;
    for (int r = 0; r < side(); ++r)
      for (int c = r; c < side(); ++c, ++i) {
        out.x(r, c) = move(i);
        out.x(c, r) = V(sign(r) * sign(c)) * out.x(r, c);
      }
  }
  int side() const { return K < 0 ? shared_->n : n_side; }
  double sign(int i) const { return !wide || i < groups ? 1 : -1; }

  /// From the groups to the axes, or back.
  template <class T> void turned(const Matrix<T>& from, bool back, Matrix<T>& out) const {
    const int n = side();
    Matrix<T> half(n);
    const auto axis = [&](int i, int j) {
      return back ? shared_->axis(i, j) : shared_->axis(j, i);
    };
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) {
        half(i, j) = from(i, j);
        if (i >= groups) continue;
        half(i, j) = times(axis(i, 0), from(0, j));
        for (int l = 1; l < groups; ++l) half(i, j) += times(axis(i, l), from(l, j));
      }
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < n; ++j) {
        out(i, j) = half(i, j);
        if (j >= groups) continue;
        out(i, j) = times(axis(j, 0), half(i, 0));
        for (int l = 1; l < groups; ++l) out(i, j) += times(axis(j, l), half(i, l));
      }
  }
  /// X over the axes, (1 + X VV)^-1, and (1 + X VV)^-1 X, symmetric but for signs.
  template <class T>
  void resolvents(const Matrix<T>& vv, const Matrix<T>& x, Matrix<T>& x_axes, Matrix<T>& left,
                  Matrix<T>& sandwiched) const {
    const int n = side();
    turned(x, false, x_axes);
    left_of(vv, x_axes, left, sandwiched);
    for (int i = 0; i < n; ++i)
      for (int j = 0; j < i; ++j) sandwiched(i, j) = times(sign(i) * sign(j), sandwiched(j, i));
  }

  /// Q(u) = (1 + B Gm/alpha0)^-1 and Y(u) = Q B at one u.
  template <class T> struct Node {
    const GroupStepPack* pack;
    GroupArray<T, K> b1, b2, f, diagonal, beside;
    Matrix<T> gm, work, q, y;

    Node(const GroupStepPack& of, const GroupArray<T, K>& v2, const Matrix<T>& g)
        : pack(&of),
          b1(of.groups),
          b2(of.groups),
          f(of.groups),
          diagonal(of.groups),
          beside(of.groups),
          gm(g),
          work(of.side()),
          q(of.side()),
          y(of.side()) {
      for (int i = 0; i < of.groups; ++i) {
        const StepModel& m = of.shared_->step->groups[i];
        const T weight = T(of.beta) * v2[i];
        b1[i] = times(2 * m.e2, weight), b2[i] = times(m.kap, weight);
        if (wide) f[i] = times(m.e2, root(weight));
      }
    }
    static V root(const V& x) { return simd::sqrt(x); }
    static Dual<V> root(const Dual<V>& x) {
      const V r = simd::sqrt(x.v);
      return {r, V(0.5) * x.d / r};
    }
    void set(double u) {
      const int n = pack->side(), k = pack->groups;
      const double iota = pack->shared_->step->iota;
      for (int g = 0; g < k; ++g) {
        diagonal[g] = times(u * u, b2[g]);
        if (wide) diagonal[g] += times(u, b1[g]), beside[g] = times(u, f[g]);
      }
      for (int g = 0; g < k; ++g) {
        const T scaled = times(iota, diagonal[g]);
        const T next = wide ? times(iota, beside[g]) : T(0.0);
        for (int j = 0; j < n; ++j) {
          T x = scaled * gm(g, j);
          if (wide) {
            x += next * gm(k + g, j);
            work(k + g, j) = -(next * gm(g, j));
          }
          work(g, j) = x;
        }
      }
      for (int i = 0; i < n; ++i) work(i, i) += T(1.0);
      detail::invert(work, q);
      times_b(q, y);
    }
    void times_b(const Matrix<T>& a, Matrix<T>& out) const {
      const int n = pack->side(), k = pack->groups;
      for (int i = 0; i < n; ++i)
        for (int g = 0; g < k; ++g) {
          T x = diagonal[g] * a(i, g);
          if (wide) x = x - beside[g] * a(i, k + g), out(i, k + g) = beside[g] * a(i, g);
          out(i, g) = x;
        }
    }
  };

 private:
  static constexpr double settled = 1e-12;

  template <class T>
  void left_of(const Matrix<T>& vv, const Matrix<T>& x_axes, Matrix<T>& left,
               Matrix<T>& sandwiched) const {
    Matrix<T> work(side());
    detail::multiply(x_axes, vv, work);
    for (int i = 0; i < side(); ++i) work(i, i) += T(1.0);
    detail::invert(work, left);
    detail::multiply(left, x_axes, sandwiched);
  }
  /// What follows from X: left_ = (1 + X VV)^-1, xs_ = left_ X, gm_ over the groups.
  void resolve(const Matrix<V>& x) {
    resolvents(vv_, x, x_axes_, left_, xs_);
    Matrix<V> over_axes(side());
    detail::multiply(vv_, left_, over_axes);
    turned(over_axes, true, gm_);
  }
  V right(int i, int j) const { return V(sign(i) * sign(j)) * left_(j, i); }  ///< (1 + VV X)^-1
  /// What multiplies E u (Gm Q)_(K+g, g).
  V cross_factor(int g, const V& v2) const {
    const double e2 = shared_->step->groups[g].e2;
    return e2 != 0 ? V(e2) / simd::sqrt(beta * v2) : V(0.0);
  }

  /// From V2 without the step, by plain iterations: each lane as long as it needs.
  void start(Truth moving) {
    if (!simd::any(moving)) return;
    const int n = side();
    turned(vv_, true, gm_);
    for (int i = 0; i < n * n; ++i) state_.x.a[i] = simd::select(moving, V(0.0), state_.x.a[i]);
    for (int g = 0; g < groups; ++g) {
      const V v2 = V(shared_->step->pi[g]) / (a_[g] + gm_(g, g));
      state_.v2[g] = simd::select(moving, v2, state_.v2[g]);
      state_.x(g, g) = simd::select(moving, beta * v2, state_.x(g, g));
    }
    defect_ = simd::select(moving, V(1.0), defect_);
    for (int plain = 0; plain < 30 && simd::any(moving); ++plain) {
      evaluate(nullptr);
      V moved(0.0);
      for (int g = 0; g < groups; ++g)
        moved = simd::max(moved, simd::abs(next_.v2[g] - state_.v2[g]) / next_.v2[g]);
      for (int g = 0; g < groups; ++g)
        state_.v2[g] = simd::select(moving, next_.v2[g], state_.v2[g]);
      for (int i = 0; i < n * n; ++i)
        state_.x.a[i] = simd::select(moving, next_.x.a[i], state_.x.a[i]);
      moving = moving & (moved > V(0.03));
    }
  }
  static Truth close_to(const V& a, const V& b) { return (a < V(2.0) * b) & (b < V(2.0) * a); }

  /// Moves the state along its derivative to where (Vh1, A) are now.
  void predict(const Truth& moving) {
    if (!simd::any(moving)) return;
    Packed change(packed);
    for (int g = 0; g < groups; ++g) {
      for (int h = g; h < groups; ++h) change[at(g, h)] = vv_(g, h) - last_vv_(g, h);
      change[pairs + g] = V(2.0) * (a_[g] - last_a_[g]) * last_a_[g] / (a_[g] + last_a_[g]);
    }
    GroupArray<V, n_state> moves(unknowns_);
    for (int i = 0; i < unknowns_; ++i) {
      V x(0.0);
      for (int j = 0; j < packed; ++j) x += motion_[i * packed + j] * change[j];
      moves[i] = x;
    }
    add(moves, moving, V(1.0));
  }
  /// Adds part of a change to the state, V2 so that it stays positive.
  void add(const GroupArray<V, n_state>& moves, const Truth& where, const V& part) {
    for (int g = 0; g < groups; ++g) {
      const V by = part * moves[g], v2 = state_.v2[g],
              moved = simd::select(by < V(0.0), v2 * v2 / (v2 - by), v2 + by);
      state_.v2[g] = simd::select(where, moved, v2);
    }
    int i = groups;
    for (int r = 0; r < side(); ++r)
      for (int c = r; c < side(); ++c, ++i) {
        state_.x(r, c) = simd::select(where, state_.x(r, c) + part * moves[i], state_.x(r, c));
        state_.x(c, r) = V(sign(r) * sign(c)) * state_.x(r, c);
      }
  }

  /// Newton's method for the state; leaves the derivatives along (Vh1, A) in motion_: each lane's
  /// are from its own last step, however long others go on.
  void newton(Truth moving) {
    const int width = unknowns_ + packed + 1;
    GroupArray<V, n_state> moves(unknowns_);
    V previous(infinity);
    for (int iteration = 0; iteration < 25; ++iteration) {
      set_scale();
      evaluate(&system_[0]);
      detail::eliminate(&system_[0], unknowns_, packed + 1);
      V size(0.0), moved(0.0);
      for (int i = 0; i < unknowns_; ++i) {
        const V relative = system_[i * width + unknowns_ + packed];
        moves[i] = relative * scale_[i];
        for (int j = 0; j < packed; ++j) {
          V& motion = motion_[i * packed + j];
          motion = simd::select(moving, system_[i * width + unknowns_ + j] * scale_[i], motion);
        }
        size = simd::max(size, simd::abs(relative));
        if (i < groups) moved = simd::max(moved, simd::abs(relative));
      }
      size = size + V(0.0) * (moves[0] + moves[unknowns_ - 1]);  // not a number stays so
      // What goes too far, or to and fro, goes half the way.
      const V part =
          simd::select(moved > V(0.5), V(0.5) / moved,
                       simd::select((size > V(1e-8)) & (size > V(0.3) * previous), V(0.5), V(1.0)));
      defect_ = simd::select(moving, size, defect_);
      const auto done =
          exact ? (size <= V(settled)) | ((size < V(1e-10)) & (size > V(0.5) * previous))
                : size < V(0.1);
      // A state that has settled stays where its derivatives are.
      const auto stays = size < V(1e-15);
      add(moves, moving & !stays, part);
      moving = moving & !done & (size < V(infinity));
      previous = size;
      if (!simd::any(moving)) break;
    }
    defect_ = simd::select(moving, V(infinity), defect_);
  }

  void set_scale() {
    // The lower half of X, of the order of the step and of 1/alpha0, acts beside 1 (VV is 1 there).
    V most(0.0);
    for (int g = 0; g < groups; ++g) {
      scale_[g] = state_.v2[g];
      most = simd::max(most, state_.v2[g]);
    }
    const V upper = V(1e-12) * beta * most;
    int at_ = groups;
    for (int i = 0; i < side(); ++i)
      for (int j = i; j < side(); ++j) {
        const auto size = [&](int l) {
          return simd::max(simd::abs(state_.x(l, l)), !wide || l < groups ? upper : V(1e-3));
        };
        scale_[at_++] = i == j ? size(i) : simd::sqrt(size(i) * size(j));
      }
  }

  /// T = -d(V1, V2)/d(Vh1, A): V1 = [(1 + X VV)^-1 X]_11/beta along what moves.
  void differentiate() {
    const int n = side();
    State<V> along(groups, n);
    Matrix<V> dx(n), half(n);
    const V inverse_beta = V(1.0) / beta;
    for (int j = 0; j < packed; ++j) {
      direction(j, along);
      for (int g = 0; g < groups; ++g) traces_[(pairs + g) * packed + j] = -along.v2[g];
      turned(along.x, false, dx);
      detail::multiply(left_, dx, half);
      for (int g = 0; g < groups; ++g)
        for (int h = g; h < groups; ++h) {
          V x(0.0);
          for (int l = 0; l < n; ++l) x += half(g, l) * right(l, h);
          traces_[at(g, h) * packed + j] = -inverse_beta * x;
        }
    }
    for (int e = 0; e < groups; ++e)
      for (int f = e; f < groups; ++f)
        for (int g = 0; g < groups; ++g)
          for (int h = g; h < groups; ++h) {
            V x = xs_(g, e) * xs_(f, h);
            if (e != f) x += xs_(g, f) * xs_(e, h);
            traces_[at(g, h) * packed + at(e, f)] += inverse_beta * x;
          }
  }

  /// The map at the state: next_. With `system`: 1 - dmap/dstate, dmap/d(Vh1, A) and map - state, by
  /// rows and in units of scale_.
  ///
  /// Everything in the map is a function of H = (Gm^-1 + B/alpha0)^-1, and dH = -H (dGm^-1 +
  /// dB/alpha0) H: dX enters as H dX H, dVh1 as H Gm^-1 dGm Gm^-1 H with dGm = (1 + VV X)^-1 dVV (1
  /// + X VV)^-1.
  void evaluate(V* system) {
    const GroupStep& step = *shared_->step;
    const int n = side(), k = groups, width = unknowns_ + packed + 1;
    const double iota = step.iota;
    resolve(state_.x);
    Node<V> node(*this, state_.v2, gm_);
    Matrix<V> h(n), hb(n), bh(n), qt(n), left(n), right_(n), ul(n), uy(n), rw(n), yw(n);
    Vector own(k), cross(k), factor(k);
    next_.x.fill(V(0.0));
    for (int g = 0; g < k; ++g)
      own[g] = cross[g] = V(0.0), factor[g] = cross_factor(g, state_.v2[g]);
    if (system != nullptr) {
      for (int i = 0; i < unknowns_ * width; ++i) system[i] = V(0.0);
      for (int i = 0; i < n; ++i)
        for (int j = 0; j < k; ++j) {  // from the groups to the axes, and back
          V a(0.0), b(0.0);
          if (i >= k) a = left_(j, i), b = right(i, j);
          for (int l = 0; l < k && i < k; ++l)
            a += V(shared_->axis(i, l)) * left_(j, l), b += V(shared_->axis(i, l)) * right(l, j);
          left(j, i) = a, right_(i, j) = b;
        }
    }
    const ResidualNodes& nodes = step.nodes;
    for (Index at_node = 0; at_node < nodes.size(); ++at_node) {
      const double u = nodes.u[at_node], weight = nodes.w[0][at_node];
      if (weight == 0) continue;
      const V w(weight);
      node.set(u);
      detail::multiply(gm_, node.q, h);
      const Matrix<V>&q = node.q, &y = node.y;
      for (int i = 0; i < n * n; ++i) next_.x.a[i] += w * y.a[i];
      for (int g = 0; g < k; ++g) {
        const StepModel& m = step.groups[g];
        own[g] += V(weight * (m.kap * u * u + 2 * m.e2 * u)) * h(g, g);
        if (wide) cross[g] += V(weight * u) * h(k + g, g);
      }
      if (system == nullptr) continue;
      node.times_b(h, hb);
      for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) {
          V x = i < k ? node.diagonal[i] * h(i, j) : -(node.beside[i - k] * h(i - k, j));
          if (wide && i < k) x += node.beside[i] * h(k + i, j);
          bh(i, j) = V(-iota * weight) * x;
          qt(i, j) = V(i == j ? 1.0 : 0.0) - V(iota) * hb(i, j);
        }
      for (int i = 0; i < n; ++i)
        for (int g = 0; g < k; ++g) {
          V a(0.0), b(0.0), c(0.0), d(0.0);
          for (int l = 0; l < n; ++l) {
            a += qt(i, l) * right_(l, g), b += y(i, l) * right_(l, g);
            c += left(g, l) * q(l, i), d += left(g, l) * y(l, i);
          }
          ul(i, g) = a, uy(i, g) = V(-iota * weight) * b, rw(g, i) = c, yw(g, i) = d;
        }
      V* row = system + k * width;
      for (int r = 0; r < n; ++r)
        for (int c = r; c < n; ++c, row += width) {
          V* to = row + k;
          for (int i = 0; i < n; ++i)
            for (int j = i; j < n; ++j, ++to) {
              V x = bh(r, i) * hb(j, c);
              if (i != j) x += V(sign(i) * sign(j)) * bh(r, j) * hb(i, c);
              *to += x;
            }
          for (int g = 0; g < k; ++g) {
            V change = q(r, g) * node.diagonal[g] * qt(g, c);
            if (wide)
              change += V(0.5) * node.beside[g] * (q(r, g) * qt(k + g, c) - q(r, k + g) * qt(g, c));
            row[g] -= w * change;
          }
          to = row + unknowns_;
          for (int g = 0; g < k; ++g)
            for (int f = g; f < k; ++f, ++to) {
              V moved = uy(r, g) * yw(f, c);
              if (f != g) moved += uy(r, f) * yw(g, c);
              *to += moved;
            }
        }
      for (int g = 0; g < k; ++g) {
        const StepModel& m = step.groups[g];
        const V first(weight * (m.kap * u * u + 2 * m.e2 * u)), second = V(weight * u) * factor[g];
        // rows g and K + g of H and of (1 + Gm B/alpha0)^-1 (1 + VV X)^-1, weighted
        const auto row_of = [&](const Matrix<V>& a, int j) {
          V x = first * a(g, j);
          if (wide) x += second * a(k + g, j);
          return x;
        };
        V* const out = system + g * width;
        V* to = out + k;
        for (int i = 0; i < n; ++i)
          for (int j = i; j < n; ++j, ++to) {
            V x = row_of(h, i) * h(j, g);
            if (i != j) x += V(sign(i) * sign(j)) * row_of(h, j) * h(i, g);
            *to += x;
          }
        to = out + unknowns_;
        for (int f = 0; f < k; ++f) {
          V x = row_of(h, f) * node.diagonal[f] * h(f, g);
          if (wide)
            x +=
                V(0.5) * node.beside[f] * (row_of(h, f) * h(k + f, g) - row_of(h, k + f) * h(f, g));
          out[f] += x;
          for (int e = f; e < k; ++e, ++to) {
            V moved = row_of(ul, f) * rw(e, g);
            if (e != f) moved += row_of(ul, e) * rw(f, g);
            *to += moved;
          }
        }
      }
    }
    for (int g = 0; g < k; ++g) {
      next_.x(g, g) += beta * state_.v2[g];
      next_.v2[g] = V(step.pi[g]) / (a_[g] + gm_(g, g) + own[g] + factor[g] * cross[g]);
    }
    if (system == nullptr) return;
    int o = k;
    for (int r = 0; r < n; ++r)
      for (int c = r; c < n; ++c, ++o) {
        V* const row = system + o * width;
        for (int g = 0; g < k; ++g) {
          row[g] = row[g] / state_.v2[g];
          if (r == g && c == g) row[g] -= beta;
        }
        row[width - 1] =
            V(0.5) * (next_.x(r, c) + V(sign(r) * sign(c)) * next_.x(c, r)) - state_.x(r, c);
      }
    for (int g = 0; g < k; ++g) {
      const V slope = next_.v2[g] * next_.v2[g] / V(step.pi[g]);  // dV2 = -slope d(1/..)
      V* const row = system + g * width;
      V* to = row + k;
      for (int i = 0; i < n; ++i)
        for (int j = i; j < n; ++j, ++to) {
          V x = *to + gm_(g, i) * gm_(j, g);
          if (i != j) x += V(sign(i) * sign(j)) * gm_(g, j) * gm_(i, g);
          *to = -(slope * x);
        }
      for (int f = 0; f < k; ++f) row[f] = -(slope * V(iota)) * row[f] / state_.v2[f];
      if (wide) row[g] -= slope * V(0.5) * factor[g] * cross[g] / state_.v2[g];
      to = row + unknowns_;
      for (int f = 0; f < k; ++f)
        for (int e = f; e < k; ++e, ++to) {
          V x = *to + right_(g, f) * left(e, g);
          if (e != f) x += right_(g, e) * left(f, g);
          *to = -(slope * x);
        }
      row[unknowns_ + pairs + g] = -slope;
      row[width - 1] = next_.v2[g] - state_.v2[g];
    }
    for (int i = 0; i < unknowns_; ++i) {
      V* const row = system + i * width;
      row[i] += V(1.0);
      const V inverse = V(1.0) / scale_[i];
      for (int j = 0; j < width; ++j) row[j] *= j < unknowns_ ? inverse * scale_[j] : inverse;
    }
  }

  const GroupStepShared* shared_;
  int unknowns_;
  Vector a_, last_a_;
  Matrix<V> vv_, last_vv_, x_axes_, left_, xs_, gm_;
  State<V> state_, next_;
  GroupArray < V, n_packed<0 ? -1 : n_packed * n_packed> traces_;
  GroupArray<V, n_state> scale_;
  GroupArray < V, n_state<0 ? -1 : n_state * n_packed> motion_;  ///< d(V2, X)/d(Vh1, A)
  GroupArray < V, n_state<0 ? -1 : n_state * (n_state + n_packed + 1)> system_;
  V defect_{1.0};
  bool known_ = false;
};

}  // namespace srfx
