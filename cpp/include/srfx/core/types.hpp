// Names shared by the whole core: sizes, matrices, the status of a solve.
#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <cstdint>

/// For the few functions whose call would move a dozen vectors through memory.
#define SRFX_INLINE inline __attribute__((always_inline))

namespace srfx {

using Index = std::ptrdiff_t;

template <class T> using Vec = Eigen::Matrix<T, Eigen::Dynamic, 1>;
template <class T> using Mat = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T> using VecRef = Eigen::Ref<Vec<T>>;
template <class T> using MatRef = Eigen::Ref<Mat<T>, 0, Eigen::OuterStride<>>;
template <class T> using ConstMatRef = Eigen::Ref<const Mat<T>, 0, Eigen::OuterStride<>>;

/// How a solve ended. Every number handed to a user carries one.
enum class Status : std::int8_t {
  converged = 0,
  max_iterations = 1,  ///< the iteration stopped before its residual was small
  diverged = 2,        ///< the quantity itself is infinite (a ridgeless limit, say)
  non_finite = 3,      ///< an overflow or a NaN appeared on the way
};

}  // namespace srfx
