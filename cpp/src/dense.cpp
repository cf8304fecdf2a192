#include "srfx/core/dense.hpp"

#include <Eigen/Eigenvalues>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <algorithm>

namespace srfx::dense {

Matrix inverse(const Matrix& a) { return a.inverse(); }
ComplexMatrix inverse(const ComplexMatrix& a) { return a.inverse(); }

LU::LU() = default;
void LU::compute(const Matrix& a) { lu_.compute(a); }
Matrix LU::solve(const Matrix& b) const { return lu_.solve(b); }
Vector LU::solve(const Vector& b) const { return lu_.solve(b); }

Eigenpairs eigen(const Matrix& symmetric) {
  const Eigen::SelfAdjointEigenSolver<Matrix> solver(symmetric);
  return {solver.eigenvalues(), solver.eigenvectors()};
}
Eigenpairs eigen(const Vector& diagonal, const Vector& off_diagonal) {
  Eigen::SelfAdjointEigenSolver<Matrix> solver;
  solver.computeFromTridiagonal(diagonal, off_diagonal);
  return {solver.eigenvalues(), solver.eigenvectors()};
}

SingularValues singular_values(const Matrix& a) {
  const Eigen::JacobiSVD<Matrix, Eigen::FullPivHouseholderQRPreconditioner> svd(
      a, Eigen::ComputeFullU | Eigen::ComputeFullV);
  return {svd.matrixU(), svd.singularValues(), svd.matrixV()};
}

Triangle triangle(const Matrix& a, const Vector& b) {
  Matrix both(a.rows(), a.cols() + 1);  // the reflections that make a triangular are those of b too
  both << a, b;
  const Eigen::HouseholderQR<Matrix> qr(both);
  const Index rows = std::min(a.rows(), a.cols());
  return {qr.matrixQR().topLeftCorner(rows, a.cols()).triangularView<Eigen::Upper>(),
          qr.matrixQR().col(a.cols()).head(rows)};
}

LeastSquares least_squares(const Matrix& a, const Vector& b, double cutoff) {
  const auto [r, qt_b] = triangle(a, b);  // |b - a x|^2 = |Q^T b - R x|^2, and R is small
  Eigen::JacobiSVD<Matrix, Eigen::NoQRPreconditioner> svd(
      r, Eigen::ComputeFullU | Eigen::ComputeFullV);
  svd.setThreshold(cutoff);
  const Vector x = svd.solve(qt_b);
  return {x, (b - a * x).squaredNorm()};
}

}  // namespace srfx::dense
