// What every batch of the core takes from Python: two functions and arrays over the points.
#pragma once

#include "functions.hpp"

#include "srfx/bulk/group_parameters.hpp"
#include "srfx/gaussian/labels.hpp"
#include "srfx/solve/groups.hpp"

#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Integers = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

inline srfx::Column column(const Doubles& values) {
  return {values.data(), values.size() == 1 ? 0 : 1};
}

inline srfx::Labels::Kind kind_of(const std::string& labels) {
  using Kind = srfx::Labels::Kind;
  if (labels == "real") return Kind::real;
  if (labels == "sign") return Kind::sign;
  if (labels == "logit") return Kind::logit;
  throw py::value_error("unknown labels '" + labels + "'");
}

/// Arrays over the points hold one value each, or one for all.
inline void require_lengths(std::initializer_list<py::ssize_t> sizes, py::ssize_t n_points) {
  for (const py::ssize_t size : sizes)
    if (size != 1 && size != n_points)
      throw py::value_error("inputs must have length 1 or n_points");
}

/// One coefficient set an entry; of targets of several directions gamma is the length of their
/// alignment, L numbers a set.
inline std::vector<srfx::SpikeParameters> sets_of(const Doubles& r, const Doubles& c,
                                                  const Doubles& gamma) {
  std::vector<srfx::SpikeParameters> sets(r.size());
  const py::ssize_t n = r.size() > 0 ? gamma.size() / r.size() : 1;
  for (py::ssize_t i = 0; i < r.size(); ++i)
    sets[i] = {r.data()[i], c.data()[i],
               n == 1 ? gamma.data()[i] : srfx::length_of(gamma.data() + i * n, n)};
  return sets;
}

/// Groups: r of shape (sets, groups) with gamma (sets,), or, beside a Target, of shape (sets,
/// groups, spikes) with alignments (sets, directions, spikes) in place of gamma; c of shape (sets,
/// groups), pi (groups,).
inline std::vector<srfx::GroupParameters> group_sets_of(const Doubles& r, const Doubles& c,
                                                        const Doubles& gamma, const Doubles& pi) {
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const bool several = r.ndim() == 3;
  const py::ssize_t n = r.shape(0), k = pi.size(), q = several ? r.shape(2) : 1;
  if (r.size() != n * k * q || c.size() != n * k || gamma.ndim() != (several ? 3 : 1) ||
      gamma.shape(0) != n || (several && gamma.shape(2) != q))
    throw py::value_error(
        "r, c and gamma must have shapes (sets, groups), (sets, groups) and (sets,), or (sets, "
        "groups, spikes), (sets, groups) and (sets, directions, spikes)");
  std::vector<srfx::GroupParameters> sets(n);
  for (py::ssize_t i = 0; i < n; ++i) {
    sets[i].c.assign(c.data() + i * k, c.data() + (i + 1) * k);
    sets[i].pi.assign(pi.data(), pi.data() + k);
    if (several) {
      const py::ssize_t directions = gamma.shape(1);
      sets[i].rows = Eigen::Map<const RowMajor>(r.data() + i * k * q, k, q);
      sets[i].alignment =
          Eigen::Map<const RowMajor>(gamma.data() + i * directions * q, directions, q);
    } else {
      sets[i].r.assign(r.data() + i * k, r.data() + (i + 1) * k);
      sets[i].gamma = gamma.data()[i];
    }
  }
  return sets;
}

/// The target of a batch of groups: an Activation, or a Target if there are several spikes or
/// directions.
inline void set_group_target(srfx::BatchTarget& out, const py::object& target, const Doubles& r,
                             const Doubles& gamma) {
  if (r.ndim() != 3) {
    out.target = target.cast<const Activation&>().value.get();
    return;
  }
  out.directed = target.cast<const Target&>().value.get();
  if (gamma.shape(1) != out.directed->directions())
    throw py::value_error("gamma must have an alignment for each direction of the target");
}

/// The target of a batch: an Activation, or a Target with an alignment of L numbers for each
/// coefficient set. Both must outlive `out`.
inline void set_target(srfx::BatchTarget& out, const py::object& target, const Doubles& alignments,
                       py::ssize_t n_sets) {
  if (py::isinstance<Activation>(target)) {
    out.target = target.cast<const Activation&>().value.get();
    if (alignments.size() != n_sets) throw py::value_error("gamma must have an entry for each set");
    return;
  }
  out.directed = target.cast<const Target&>().value.get();
  out.alignments = alignments.data();
  if (alignments.size() != n_sets * out.directed->directions())
    throw py::value_error("gamma must have L entries for each set");
}

/// The target of a batch whose alignments are its own: an Activation or a Target, which must
/// outlive `out`. Its directions.
inline srfx::Index set_own_target(srfx::BatchTarget& out, const py::object& target) {
  if (py::isinstance<Activation>(target)) {
    out.target = target.cast<const Activation&>().value.get();
    return 1;
  }
  out.directed = target.cast<const Target&>().value.get();
  return out.directed->directions();
}

/// The part that the inputs of all batches share; the arrays must outlive `in`.
template <class Input>
void set_points(Input& in, const Activation& sigma, const Integers& set_index, const Doubles& beta,
                const Doubles& noise, const Doubles& alpha, const Doubles& lam,
                const Doubles& inverse_d, py::ssize_t n_points, int n_threads) {
  require_lengths(
      {set_index.size(), beta.size(), noise.size(), alpha.size(), lam.size(), inverse_d.size()},
      n_points);
  in.sigma = sigma.value.get();
  in.set_index = set_index.data();
  in.set_stride = set_index.size() == 1 ? 0 : 1;
  in.alpha = column(alpha), in.beta = column(beta), in.lam = column(lam), in.noise = column(noise),
  in.inverse_d = column(inverse_d);
  in.n_points = n_points;
  in.n_threads = n_threads;
}

/// The same with a target of one variable.
template <class Input, class... Points>
void set_points(Input& in, const Activation& sigma, const Activation& target,
                const Points&... points) {
  in.target = target.value.get();
  set_points(in, sigma, points...);
}

/// An array in `out` under `name`, and its data.
inline double* output(py::dict& out, const char* name, std::vector<py::ssize_t> shape) {
  py::array_t<double> values(std::move(shape));
  out[name] = values;
  return values.mutable_data();
}

/// The outputs of a batch of groups, and the dictionary that owns them: shapes of order parameters
/// follow those of the inputs r and gamma.
struct GroupResults {
  py::dict dict;
  srfx::GroupBatchOutput common{};

  GroupResults(py::ssize_t n, const Doubles& r, const Doubles& gamma, py::ssize_t k) {
    common.test_error = output(dict, "test_error", {n});
    common.train_error = output(dict, "train_error", {n});
    common.m = output(dict, "m", {n, k});
    if (r.ndim() == 3) {
      common.spikes = static_cast<int>(r.shape(2));
      common.directions = static_cast<int>(gamma.shape(1));
      common.theta = output(dict, "theta", {n, k, r.shape(2)});
      common.psi = output(dict, "psi", {n, k, gamma.shape(1)});
    } else {
      common.theta = output(dict, "theta", {n, k});
      common.psi = output(dict, "psi", {n, k});
    }
    common.q1 = output(dict, "q1", {n, k, k});
    common.q2 = output(dict, "q2", {n, k});
    common.v1 = output(dict, "v1", {n, k, k});
    common.v2 = output(dict, "v2", {n, k});
    common.residual = output(dict, "residual", {n});
    common.quadrature_error = output(dict, "quadrature_error", {n});
    py::array_t<std::int8_t> status(n);
    py::array_t<std::int32_t> iterations(n);
    common.status = status.mutable_data();
    common.iterations = iterations.mutable_data();
    dict["status"] = status;
    dict["iterations"] = iterations;
  }
};
