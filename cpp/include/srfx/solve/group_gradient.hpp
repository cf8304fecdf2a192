// Exact derivatives of the errors of K groups of neurons, by implicit differentiation at the
// solution (gradient.hpp has the idea, and the derivatives of the coefficients).
//
// A direction moves lam, alpha, beta or noise, and of each coefficient set gamma and all r_g and
// c_g together. At the fixed point (I - T M) dV = dy at fixed V, where dy comes from GroupMap in
// dual numbers. Then, in dual numbers at (V, dV):
//
// Several spikes and directions of the target (THEORY section 13) have more columns; they and their
// alignments stay.
//
//   with X the weighted columns of the least-squares problem, penalties included, and e what it
//   leaves of the target y,
//     dx = X^+ (dy - dX x) + (X^T X)^-1 dX^T e      by the orthogonal factors that found x: X^T X
//     is never formed
//   with N = N' + M Q' all that T acts on at Q':  (I - T M) dQ' = d(T N) at fixed Q'
#pragma once

#include "srfx/solve/gradient.hpp"
#include "srfx/solve/group_levels.hpp"
#include "srfx/solve/scan.hpp"

#include <memory>

namespace srfx {

/// Derivatives of the coefficients of all groups at the nodes of a rung along one direction; empty
/// where they do not move.
struct GroupNodeTangents {
  std::vector<double> mu0, mu1, u2;  ///< nodes x groups
  std::vector<double> h, h1, rest;   ///< nodes
  std::vector<double> h1_value;      ///< replaces h1 where |gamma| is all but 1 (gradient.hpp)
  bool still() const { return mu0.empty() && h.empty(); }
};

/// One pack of solved points, to be differentiated. K is known at run time only: one piece of code
/// serves all.
template <class V, int K> class GroupTangent {
 public:
  using D = Dual<V>;

  explicit GroupTangent(int k, int spikes = 1, int directions = 1)
      : system(k),
        order(k, spikes, directions),
        map_(k),
        n_(k * (k + 3) / 2) {
    for (auto* x : {&q_, &dy_, &dv_, &dq_}) x->assign(n_, V(0));
    for (auto* x : {&vh_, &source_, &traced_, &at_w2_}) x->assign(n_, D(V(0)));
    psi_.assign(directions * k, D(V(0)));
  }

  GroupSystem<V, K> system;  ///< point and V are set by the caller
  GroupOrder<V, K> order;

  /// The values, at system.v.
  void prepare(const GroupNodes& nodes, bool finite_d) {
    system.linear_part(nodes, finite_d, order);
    nodes_ = &nodes, finite_d_ = finite_d;
    const int k = system.map.groups, n = static_cast<int>(nodes.size);
    n_mean_ = finite_d ? k : nodes.rank;
    for (int j = 0; j < n_; ++j) q_[j] = system.x_[j];
    for (int g = 0; g < k; ++g) map_.pi[g] = D(system.map.pi[g]);
    // linear_part leaves orthogonal columns, and what is left of the target, where it put the
    // problem; the triangular factor once more, from those columns.
    const int columns = n_mean_ + nodes.n_columns(), rows = n + columns;
    square_.assign(columns, V(0)), factor_.assign(columns * columns, V(0));
    for (int c = 0; c < columns; ++c) {
      const V* q = &system.columns_[static_cast<std::size_t>(c) * rows];
      V sum(0);
      for (int i = 0; i < rows; ++i) sum += q[i] * q[i];
      square_[c] = simd::select(sum > V(0), V(1) / sum, V(0));
      for (int l = c + 1; l < columns; ++l) {
        V product(0);
        for (int i = 0; i < n; ++i) product += q[i] * root(i) * V(column(i, l));
        factor_[c * columns + l] =
            (product + q[n + l] * simd::sqrt(system.penalty_[l])) * square_[c];
      }
    }
  }

  /// Derivatives along one direction: `p` carries those of the point's parameters.
  ErrorTangent<V> along(const Point<D>& p, const GroupNodeTangents& moved) {
    const GroupNodes& nodes = *nodes_;
    const int k = system.map.groups, n = static_cast<int>(nodes.size), pairs = system.map.pairs,
              n_spiked = nodes.n_columns(), n_psi = nodes.directions * k,
              columns = n_mean_ + n_spiked, rows = n + columns;
    const auto& v = system.v;
    const bool still = moved.mu0.empty();
    const auto mu1 = [&](int i, int g) {
      return D(V(nodes.mu1[i * k + g]), V(still ? 0 : moved.mu1[i * k + g]));
    };
    const auto h = [&](int i) { return D(V(nodes.h[i]), V(moved.h.empty() ? 0 : moved.h[i])); };
    const auto h1 = [&](int i, int m) {  // alignments of one direction alone move
      return D(V(nodes.h1[i * nodes.directions + m]), V(moved.h.empty() ? 0 : moved.h1[i]));
    };
    const auto rest = [&](int i) {
      return D(V(nodes.rest[i]), V(moved.h.empty() ? 0 : moved.rest[i]));
    };
    // e_j at a node, and what it moves by
    element_.assign(n_, 0.0);
    const auto move_elements = [&](int i) {
      if (still) return;
      for (int g = 0; g < k; ++g) {
        for (int l = g; l < k; ++l)
          element_[system.map.at(g, l)] = moved.mu1[i * k + g] * nodes.mu1[i * k + l] +
                                          nodes.mu1[i * k + g] * moved.mu1[i * k + l];
        element_[pairs + g] = moved.u2[i * k + g];
      }
    };

    // dy at fixed V.
    for (int j = 0; j < n_; ++j) vh_[j] = D(system.vh_[j] / p.ratio.v);
    if (!still)
      for (int i = 0; i < n; ++i) {
        move_elements(i);
        const double* e = &nodes.e[i * nodes.stride];
        const V w = system.w_[i], ww = V(nodes.weight[i]) * w;
        V by(0);
        for (int j = 0; j < n_; ++j) by += V(system.map.twice[j] * element_[j]) * v[j];
        by *= ww * w;
        for (int j = 0; j < n_; ++j) vh_[j].d += ww * V(element_[j]) - by * V(e[j]);
      }
    for (int j = 0; j < n_; ++j) vh_[j] = p.ratio * vh_[j];
    map_.beta = p.beta;
    map_.set(vh_.data(), p.lam);
    for (int g = 0; g < k; ++g) map_.v2[g] = D(system.map.v2[g]);
    map_.resolve(true);
    for (int g = 0; g < k; ++g) {
      V step(0);
      for (int l = 0; l < k; ++l) step += map_.mx_inverse[g * k + l].v * map_.misfit[l].d;
      dy_[pairs + g] = step;
    }
    for (int g = 0; g < k; ++g) map_.v2[g].d = dy_[pairs + g];
    map_.resolve(true);
    for (int g = 0; g < k; ++g)
      for (int l = g; l < k; ++l) dy_[system.map.at(g, l)] = map_.v1[g * k + l].d;
    solve(dy_, dv_);

    // The averages at (V, dV).
    weights_.resize(n);
    for (int j = 0; j < n_; ++j) vh_[j] = D(V(0));
    for (int c = 0; c < n_psi; ++c) psi_[c] = D(V(0));
    for (int i = 0; i < n; ++i) {
      move_elements(i);
      const double* e = &nodes.e[i * nodes.stride];
      const V w = system.w_[i], omega(nodes.weight[i]);
      V by(0);
      for (int j = 0; j < n_; ++j) {
        const V twice(system.map.twice[j]);
        by += twice * V(e[j]) * dv_[j];
        if (!still) by += twice * V(element_[j]) * v[j];
      }
      weights_[i] = D(w, -by * w * w);
      const D ww(omega * w, omega * weights_[i].d);
      for (int j = 0; j < n_; ++j) vh_[j] += ww * D(V(e[j]), V(element_[j]));
      for (int m = 0; m < nodes.directions; ++m) {
        const D hat = ww * h1(i, m);
        for (int g = 0; g < k; ++g) psi_[m * k + g] += hat * mu1(i, g);
      }
    }
    for (int j = 0; j < n_; ++j) vh_[j] = p.ratio * vh_[j];
    map_.set(vh_.data(), p.lam);
    for (int g = 0; g < k; ++g) map_.v2[g] = D(v[pairs + g], dv_[pairs + g]);
    map_.resolve(true);
    psi_of_.assign(n_psi, D(V(0)));
    for (int c = 0; c < n_psi; ++c) {
      const int g = c % k, first = c - g;
      for (int l = 0; l < k; ++l) psi_of_[c] += map_.v1[g * k + l] * psi_[first + l];
      psi_of_[c] = p.beta * p.ratio * psi_of_[c];
    }

    // Least squares, differentiated.
    const std::vector<V>& x = system.solution_;
    const V* const left = &system.columns_[static_cast<std::size_t>(rows) * columns];
    const auto column_move = [&](int i, int c) {
      if (still) return 0.0;
      if (c >= n_mean_)
        return nodes.k[i * nodes.spikes + (c - n_mean_) / k] * moved.mu1[i * k + (c - n_mean_) % k];
      if (finite_d_) return moved.mu0[i * k + c];
      double sum = 0;
      for (int g = 0; g < k; ++g) sum += nodes.to_m[g * n_mean_ + c] * moved.mu0[i * k + g];
      return sum;
    };
    right_.assign(rows, V(0)), pull_.assign(columns, V(0)), dx_.assign(columns, V(0));
    moved_columns_.assign(still ? 0 : static_cast<std::size_t>(n) * columns, 0.0);
    for (int i = 0; i < n; ++i) {
      const V r = root(i), slope = V(0.5) * weights_[i].d / system.w_[i] * r;
      V residual(nodes.h[i]), change(h(i).d);
      for (int c = 0; c < columns; ++c) {
        residual -= V(column(i, c)) * x[c];
        if (still) continue;
        const double move = moved_columns_[static_cast<std::size_t>(i) * columns + c] =
            column_move(i, c);
        change -= V(move) * x[c];
      }
      right_[i] = slope * residual + r * change;
      for (int c = 0; c < columns; ++c) {
        V of_column = slope * V(column(i, c));
        if (!still) of_column += r * V(moved_columns_[static_cast<std::size_t>(i) * columns + c]);
        pull_[c] += of_column * left[i];
      }
    }
    for (int c = 0; c < columns; ++c) {
      const V penalty = system.penalty_[c];
      if (!simd::any(penalty > V(0))) continue;
      const int g = c < n_mean_ ? c : (c - n_mean_) % k;
      const D moving =
          (c < n_mean_ ? p.inverse_d : D(V(1))) / (p.alpha * D(v[pairs + g], dv_[pairs + g]));
      const V slope = V(0.5) * moving.d / simd::sqrt(penalty);
      right_[n + c] = -slope * x[c];
      pull_[c] += slope * left[n + c];
    }
    for (int c = 0; c < columns; ++c) {
      const V* q = &system.columns_[static_cast<std::size_t>(c) * rows];
      V product(0);
      for (int i = 0; i < rows; ++i) product += q[i] * right_[i];
      product *= square_[c];
      for (int i = 0; i < rows; ++i) right_[i] -= product * q[i];
      for (int l = 0; l < c; ++l) pull_[c] -= factor_[l * columns + c] * pull_[l];  // R^T z = pull
      dx_[c] = product;
    }
    for (int c = columns; c-- > 0;) {
      V sum = dx_[c] + square_[c] * pull_[c];
      for (int l = c + 1; l < columns; ++l) sum -= factor_[c * columns + l] * dx_[l];
      dx_[c] = sum;
    }

    // Errors and sources.
    D error(V(0)), loss(V(0));
    for (int j = 0; j < n_; ++j) source_[j] = at_w2_[j] = mean_or_zero();
    V mean_moves(0);
    for (int i = 0; i < n; ++i) {
      move_elements(i);
      const double* basis = &nodes.e[i * nodes.stride];
      const D w = weights_[i], omega(V(nodes.weight[i]));
      D e = h(i), bulk(V(0));
      for (int c = 0; c < columns; ++c) {
        const D of_column(V(column(i, c)),
                          V(still ? 0 : moved_columns_[static_cast<std::size_t>(i) * columns + c]));
        e = e - of_column * D(x[c], dx_[c]);
      }
      D r = rest(i) + e * e;
      for (int m = 0; m < nodes.directions; ++m) {
        D f = h1(i, m);
        for (int g = 0; g < k; ++g) f = f - mu1(i, g) * psi_of_[m * k + g];
        r += f * f;
      }
      for (int j = 0; j < n_; ++j) {
        const V twice_q = V(system.map.twice[j]) * q_[j];
        bulk.v += twice_q * V(basis[j]);
        bulk.d += twice_q * V(element_[j]);
      }
      error += omega * r;
      mean_moves += omega.v * bulk.d;
      const D w2 = omega * w * w, all = w2 * (r + p.noise + bulk);
      loss += all;
      for (int j = 0; j < n_; ++j) {
        source_[j] += D(V(basis[j]), V(element_[j])) * all;
        at_w2_[j].v += V(basis[j]) * w2.v;
      }
    }
    for (int j = 0; j < n_; ++j) source_[j] = p.ratio * source_[j];
    for (int g = 0; g < k; ++g) {
      const D v2(v[pairs + g], dv_[pairs + g]);
      D square(V(0));
      for (int c = n_mean_ + g; c < columns; c += k) square += D(x[c], dx_[c]) * D(x[c], dx_[c]);
      for (int c = g; c < n_psi; c += k) square += psi_of_[c] * psi_of_[c];
      if (finite_d_) square += p.inverse_d * D(x[g], dx_[g]) * D(x[g], dx_[g]);
      source_[pairs + g] += square / (p.beta * v2 * v2);
    }
    map_.prepare_traces();
    map_.traces(source_.data(), traced_.data());
    for (int j = 0; j < n_; ++j) dy_[j] = traced_[j].d;
    solve(dy_, dq_);
    V test = error.d + mean_moves, train = loss.d;
    for (int j = 0; j < n_; ++j) {
      const V twice_q = V(system.map.twice[j]) * dq_[j];
      test += twice_q * V(nodes.mean_e[j]);
      train += twice_q * at_w2_[j].v;
    }
    return {test, train};
  }

 private:
  static D mean_or_zero() { return D(V(0)); }
  V root(int i) const { return simd::sqrt(V(nodes_->weight[i]) * system.w_[i]); }
  /// An unweighted column of the least-squares problem at a node.
  double column(int i, int c) const {
    const int k = nodes_->groups;
    if (c >= n_mean_) return nodes_->kmu1[i * nodes_->n_columns() + c - n_mean_];
    return finite_d_ ? nodes_->mu0[i * k + c] : nodes_->basis[i * n_mean_ + c];
  }
  /// (I - T M) x = c
  void solve(const std::vector<V>& c, std::vector<V>& x) {
    V projected(0);
    for (int j = 0; j < n_; ++j) projected += V(system.map.twice[j]) * system.vh_[j] * c[j];
    system.solve(c.data(), projected, x.data());
  }

  GroupMap<D, K> map_;
  int n_, n_mean_ = 0;
  const GroupNodes* nodes_ = nullptr;
  bool finite_d_ = false;
  std::vector<V> q_, dy_, dv_, dq_, square_, factor_, right_, pull_, dx_;
  std::vector<D> vh_, source_, traced_, at_w2_, psi_, psi_of_, weights_;
  std::vector<double> element_, moved_columns_;
};

/// How one coefficient set moves along a direction.
struct GroupMove {
  std::vector<double> r, c;
  double gamma = 0;
};

/// Of sets with several spikes the moves of r are relative: the derivatives of the logarithm of the
/// strengths.
struct GroupGradientInput : BatchTarget {
  const Function* sigma = nullptr;
  std::vector<GroupParameters> sets;
  std::vector<std::vector<GroupMove>> moves;  ///< one a direction, each with one a set
  std::vector<int> point_moves;  ///< one a direction: 0 to 3 as in Direction, else none
  const std::int64_t* set_index = nullptr;
  Index set_stride = 0;
  Column alpha, beta, lam, noise, inverse_d;
  const double *v1 = nullptr, *v2 = nullptr;  ///< the solutions: points x K x K, points x K
  Index n_points = 0;
  int n_threads = 1;
};

namespace detail {

/// One coefficient set in its distinct groups: those that move apart stay apart.
struct MovingGroups {
  GroupParameters distinct;
  std::vector<GroupMove> moves;  ///< of the distinct groups, one a direction
  std::vector<int> of;           ///< which distinct group a given one belongs to

  MovingGroups(const GroupGradientInput& in, Index set) {
    const GroupParameters& given = in.sets[set];
    const std::size_t k = given.c.size(), n_moves = in.moves.size();
    const bool odd = in.sigma->shape().parity == -1;
    moves.resize(n_moves);
    if (given.rows.size() > 0) {  // all strengths move by one factor: what is alike stays alike
      const MergedGroups merged = merge_groups(given, odd);
      distinct = merged.distinct, of = merged.of;
      reduce_spikes(distinct);
      for (std::size_t m = 0; m < n_moves; ++m) {
        const GroupMove& move = in.moves[m][set];
        moves[m] = {std::vector<double>(distinct.c.size()), std::vector<double>(distinct.c.size()),
                    0};
        for (std::size_t g = 0; g < k; ++g) {
          const std::size_t to = static_cast<std::size_t>(of[g]);
          moves[m].r[to] = move.r[g] * (distinct.rows.size() > 0 ? distinct.rows.row(of[g]).norm()
                                                                 : distinct.r[to]);
          moves[m].c[to] = move.c[g];
        }
      }
      return;
    }
    distinct.gamma = given.gamma, distinct.alignment = given.alignment;
    for (std::size_t m = 0; m < n_moves; ++m) moves[m].gamma = in.moves[m][set].gamma;
    for (std::size_t g = 0; g < k; ++g) {
      double sign = 1;  // for odd sigma, r and -r are one
      if (odd) {
        double first = given.r[g];
        for (std::size_t m = 0; m < n_moves && first == 0; ++m) first = in.moves[m][set].r[g];
        if (first < 0) sign = -1;
      }
      const auto same = [&](std::size_t i) {
        bool all = distinct.r[i] == sign * given.r[g] && distinct.c[i] == given.c[g];
        for (std::size_t m = 0; m < n_moves; ++m)
          all = all && moves[m].r[i] == sign * in.moves[m][set].r[g] &&
                moves[m].c[i] == in.moves[m][set].c[g];
        return all;
      };
      std::size_t i = 0;
      while (i < distinct.r.size() && !same(i)) ++i;
      if (i == distinct.r.size()) {
        distinct.r.push_back(sign * given.r[g]), distinct.c.push_back(given.c[g]),
            distinct.pi.push_back(0);
        for (std::size_t m = 0; m < n_moves; ++m)
          moves[m].r.push_back(sign * in.moves[m][set].r[g]),
              moves[m].c.push_back(in.moves[m][set].c[g]);
      }
      distinct.pi[i] += given.pi[g];
      of.push_back(static_cast<int>(i));
    }
  }
};

/// The derivatives of a set's coefficients, rung by rung as they are asked for.
class GroupTangentTable {
 public:
  GroupTangentTable(const Function& sigma, const BatchTarget& target, const MovingGroups& groups,
                    CoefficientScratch& scratch)
      : groups_(&groups),
        table(sigma, target, groups.distinct, scratch),
        rungs_(GroupTable::n_rungs) {}

  const std::vector<GroupNodeTangents>& find(int rung) {
    std::vector<GroupNodeTangents>& out = rungs_[static_cast<std::size_t>(rung)];
    if (!out.empty()) return out;
    const std::vector<Level>& levels = table.rung(rung).levels;
    const std::size_t k = levels.size(), n = static_cast<std::size_t>(levels[0].size());
    out.resize(groups_->moves.size());
    for (std::size_t g = 0; g < k; ++g) {
      const Coefficients& coefficients = table.coefficients()[g];
      NodeSet set(levels[g], levels[g].size());
      const auto add = [&](Direction along, auto&& amount, auto&& store) {
        bool moves = false;
        for (const GroupMove& move : groups_->moves) moves = moves || amount(move) != 0;
        if (!moves) return;
        const std::vector<NodeTangent> by = node_tangents(coefficients, levels[g], along, set);
        for (std::size_t m = 0; m < out.size(); ++m) {
          const double factor = amount(groups_->moves[m]);
          if (factor != 0) store(out[m], by, factor);
        }
      };
      const auto of_sigma = [&](GroupNodeTangents& to, const std::vector<NodeTangent>& by,
                                double factor) {
        for (auto* x : {&to.mu0, &to.mu1, &to.u2}) x->resize(n * k, 0.0);
        for (std::size_t i = 0; i < n; ++i) {
          to.mu0[i * k + g] += factor * by[i].mu0;
          to.mu1[i * k + g] += factor * by[i].mu1;
          to.u2[i * k + g] += factor * by[i].u2;
        }
      };
      add(Direction::r, [g](const GroupMove& m) { return m.r[g]; }, of_sigma);
      add(Direction::c, [g](const GroupMove& m) { return m.c[g]; }, of_sigma);
      if (g > 0) continue;
      add(
          Direction::gamma, [](const GroupMove& m) { return m.gamma; },
          [&](GroupNodeTangents& to, const std::vector<NodeTangent>& by, double factor) {
            for (auto* x : {&to.h, &to.h1, &to.rest}) x->resize(n, 0.0);
            to.h1_value.resize(n);
            for (std::size_t i = 0; i < n; ++i) {
              to.h[i] = factor * by[i].h, to.h1[i] = factor * by[i].h1,
              to.rest[i] = factor * by[i].rest;
              to.h1_value[i] = set.nodes[i].h1;
            }
          });
    }
    return out;
  }

 private:
  const MovingGroups* groups_;

 public:
  GroupTable table;

 private:
  std::vector<std::vector<GroupNodeTangents>> rungs_;
};

/// Differentiates points of one coefficient set.
class GroupGradientBlock {
 public:
  GroupGradientBlock(const GroupGradientInput& in, const MovingGroups& groups,
                     const GradientOutput& out)
      : in_(in),
        groups_(groups),
        out_(out),
        tangent_(static_cast<int>(groups.distinct.c.size()), groups.distinct.spikes(),
                 in.directed != nullptr ? static_cast<int>(in.directed->directions()) : 1) {
    for (std::size_t g = 0; g < groups.distinct.c.size(); ++g)
      tangent_.system.map.pi[static_cast<int>(g)] = Pack(groups.distinct.pi[g]);
  }

  void run(GroupTangentTable& tangents, std::mutex& mutex, const Index* points, Index count) {
    for (Index i = 0; i < count; ++i) add(tangents.table, mutex, points[i]);
    std::vector<std::size_t> where(entries_.size()), again;
    for (std::size_t i = 0; i < where.size(); ++i) where[i] = i;
    while (!where.empty()) {
      std::stable_sort(where.begin(), where.end(), [&](std::size_t a, std::size_t b) {
        return entries_[a].key() < entries_[b].key();
      });
      again.clear();
      for (std::size_t first = 0; first < where.size();) {
        std::size_t last = first + 1;
        while (last < where.size() && last - first < Pack::size &&
               entries_[where[first]].key() == entries_[where[last]].key())
          ++last;
        pack(tangents, mutex, where.data() + first, static_cast<int>(last - first), again);
        first = last;
      }
      where.swap(again);
    }
  }

 private:
  struct Entry {
    Index point;
    int cls, rung;
    bool finite_d;
    std::vector<double> v;  ///< packed, of the distinct groups
    std::array<int, 3> key() const { return {cls, rung, finite_d}; }
  };

  void add(GroupTable& table, std::mutex& mutex, Index i) {
    const auto& map = tangent_.system.map;
    const std::size_t k = groups_.of.size();
    Entry entry{i, 0, 0, in_.inverse_d[i] > 0,
                std::vector<double>(static_cast<std::size_t>(map.packed), 0.0)};
    bool usable = true;
    for (std::size_t g = 0; g < k; ++g) {
      const double v2 = in_.v2[i * k + g];
      usable = usable && v2 > 0 && v2 < infinity;
      entry.v[map.pairs + groups_.of[g]] += v2;
      for (std::size_t h = 0; h < k; ++h) {
        const double v1 = in_.v1[(i * k + g) * k + h];
        usable = usable && std::abs(v1) < infinity;
        if (groups_.of[g] <= groups_.of[h]) entry.v[map.at(groups_.of[g], groups_.of[h])] += v1;
      }
    }
    if (!usable) return fail(i);
    double size = 0;
    for (int g = 0; g < map.groups; ++g)
      size = std::max(size, entry.v[map.pairs + g] / groups_.distinct.pi[g]);
    const std::lock_guard<std::mutex> lock(mutex);
    entry.cls = GroupTable::class_of(size);
    entry.rung = table.rung_of(entry.cls);
    entries_.push_back(std::move(entry));
  }
  void fail(Index i) const {
    for (std::size_t d = 0; d < out_.test_error.size(); ++d)
      out_.test_error[d][i] = out_.train_error[d][i] = std::numeric_limits<double>::quiet_NaN();
  }

  void pack(GroupTangentTable& tangents, std::mutex& mutex, const std::size_t* where, int count,
            std::vector<std::size_t>& again) {
    const Entry& first = entries_[where[0]];
    const GroupNodes *nodes, *denser;
    const std::vector<GroupNodeTangents>* moved;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      nodes = &tangents.table.nodes(first.rung, first.cls);
      denser = &tangents.table.nodes(first.rung + 1, first.cls);
    }
    auto& system = tangent_.system;
    Point<Pack> p{Pack(1), Pack(1), Pack(1), Pack(0), Pack(0), Pack(1), Pack(1)};
    for (int lane = 0; lane < Pack::size; ++lane) {
      const Entry& entry = entries_[where[std::min(lane, count - 1)]];
      const Index i = entry.point;
      p.alpha.set(lane, in_.alpha[i]), p.beta.set(lane, in_.beta[i]), p.lam.set(lane, in_.lam[i]);
      p.noise.set(lane, in_.noise[i]), p.inverse_d.set(lane, in_.inverse_d[i]);
      for (int j = 0; j < system.map.packed; ++j)
        system.v[j].set(lane, entry.v[static_cast<std::size_t>(j)]);
    }
    p.ratio = p.alpha / p.beta;
    system.set_point(p);
    tangent_.prepare(*nodes, first.finite_d);
    const Pack amplification = tangent_.order.amplification, residual = tangent_.order.residual;
    // The rule of the solve: a point whose averages a denser rule changes goes on to that.
    system.probe(*nodes, probe_);
    system.probe(*denser, denser_probe_);
    const Pack moved_by = system.difference(probe_, denser_probe_);
    bool done[Pack::size], any = false;
    const int next = tangents.table.next(first.rung);
    for (int lane = 0; lane < count; ++lane) {
      const double error = moved_by[lane];
      done[lane] = !(next >= 0 && residual[lane] <= residual_tolerance && error > 3e-14 &&
                     !(error * amplification[lane] <= 2e-11));
      any = any || done[lane];
      if (done[lane]) continue;
      Entry& entry = entries_[where[lane]];
      for (int j = 0; j < system.map.packed; ++j)
        entry.v[static_cast<std::size_t>(j)] = system.v[j][lane];
      again.push_back(where[lane]);
    }
    if (any) {
      {
        const std::lock_guard<std::mutex> lock(mutex);
        moved = &tangents.find(first.rung);
      }
      GroupNodes own;
      for (const GroupNodeTangents& t : *moved)
        if (!t.h1_value.empty() && own.size == 0) {
          own = *nodes;
          std::copy(t.h1_value.begin(), t.h1_value.begin() + own.size, own.h1.begin());
        }
      tangent_.prepare(own.size > 0 ? own : *nodes,
                       first.finite_d);  // the probe of the denser rule has replaced w
      for (std::size_t d = 0; d < moved->size(); ++d) {
        const Direction along =
            in_.point_moves[d] < 0 ? Direction::r : static_cast<Direction>(in_.point_moves[d]);
        const ErrorTangent<Pack> slope =
            tangent_.along(detail::moving_point(p, along), (*moved)[d]);
        for (int lane = 0; lane < count; ++lane) {
          if (!done[lane]) continue;
          const Index i = entries_[where[lane]].point;
          const bool good = residual[lane] <= residual_tolerance;
          out_.test_error[d][i] =
              good ? slope.test_error[lane] : std::numeric_limits<double>::quiet_NaN();
          out_.train_error[d][i] =
              good ? slope.train_error[lane] : std::numeric_limits<double>::quiet_NaN();
        }
      }
    }
    for (std::size_t a = again.size(); a-- > 0;) {
      Entry& entry = entries_[again[a]];
      if (entry.rung == first.rung && entry.cls == first.cls && entry.finite_d == first.finite_d)
        entry.rung = next;
    }
  }

  const GroupGradientInput& in_;
  const MovingGroups& groups_;
  const GradientOutput& out_;
  GroupTangent<Pack, dynamic_groups> tangent_;
  GroupProbe<Pack> probe_, denser_probe_;
  std::vector<Entry> entries_;
};

}  // namespace detail

/// Derivatives of both errors at the solutions of a batch, along each direction. Points that have
/// no solution get NaN.
void group_gradient_batch(const GroupGradientInput& in, const GradientOutput& out,
                          Interrupt& interrupt);

}  // namespace srfx
