// Decompositions of dense matrices whose size is known at run time only, compiled once
// (cpp/src/dense.cpp): as templates they would take most of the time of every file that uses one.
#pragma once

#include "srfx/core/types.hpp"

#include <Eigen/LU>

namespace srfx::dense {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;
using ComplexMatrix = Eigen::MatrixXcd;

Matrix inverse(const Matrix& a);
ComplexMatrix inverse(const ComplexMatrix& a);

/// A square matrix factorised with partial pivoting, for several right-hand sides.
class LU {
 public:
  LU();
  void compute(const Matrix& a);
  Matrix solve(const Matrix& b) const;
  Vector solve(const Vector& b) const;

 private:
  Eigen::PartialPivLU<Matrix> lu_;
};

/// Eigenvalues in increasing order, eigenvectors in columns.
struct Eigenpairs {
  Vector values;
  Matrix vectors;
};
Eigenpairs eigen(const Matrix& symmetric);
Eigenpairs eigen(const Vector& diagonal, const Vector& off_diagonal);

/// a = u diag(values) v^T with square orthogonal u and v; values in decreasing order.
struct SingularValues {
  Matrix u;
  Vector values;
  Matrix v;
};
SingularValues singular_values(const Matrix& a);

/// a = Q R: the upper triangle R, with as many rows as a has columns (or rows, if those are fewer),
/// and as much of Q^T b.
struct Triangle {
  Matrix r;
  Vector qt_b;
};
Triangle triangle(const Matrix& a, const Vector& b);

/// x of least norm among those of least |b - a x|, where singular values below `cutoff` times the
/// largest count as zero.
struct LeastSquares {
  Vector x;
  double misfit;  ///< |b - a x|^2
};
LeastSquares least_squares(const Matrix& a, const Vector& b, double cutoff);

}  // namespace srfx::dense
