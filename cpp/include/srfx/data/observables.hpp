// What follows from a solution, or bounds it (THEORY section 6).
#pragma once

#include "srfx/gaussian/coefficients.hpp"
#include "srfx/bulk/group_parameters.hpp"

namespace srfx {

/// Moments of one function under N(0,1).
struct GaussianConstants {
  double mean = 0;           ///< E f
  double second_moment = 0;  ///< E f^2
  double h1 = 0;             ///< E z f
  double error = 0;          ///< estimated, relative to rms(f)
};

GaussianConstants gaussian_constants(const Function& f);

/// Of a derivative sigma' (THEORY 1): h2 = E z sigma', and hc1, the variance of what is left of
/// sigma' without its mean and h2 z.
struct SlopeConstants {
  double h2 = 0, hc1 = 0, error = 0;
};
SlopeConstants slope_constants(const Function& derivative);

/// Coefficients at `n` values of k: those of sigma and of the target, each unfolded. Returns their
/// estimated error.
double coefficients_at(const Function& sigma, const Function& target, const SpikeParameters& p,
                       const double* k, Index n, Moments* of_sigma, Moments* of_target);

/// The bounds of CPD24 (figure 3) on the test error of one spiked model, with the predictors that
/// attain them.
///
///   lower = min over (m, theta, psi) of E (s* - m mu0 - mu1 (k theta + psi z))^2,   upper = min
///   over m of E (s* - m mu0)^2
struct Bounds {
  double lower, upper, lower_m, lower_theta, lower_psi, upper_m;
  double error;
};

Bounds bounds(const Function& sigma, const Function& target, const SpikeParameters& p);

/// The same for groups, with vectors m, theta_j and psi_m of K each (THEORY sections 7 and 13),
/// merged where they are one and the same.
///
/// Columns of unit norm; singular values below 1e-10 of the largest are dropped, so nearly equal
/// groups make `lower` depend on that cutoff. `error` is the change on rules of half the density,
/// relative to E s*^2.
struct GroupBounds {
  double lower, upper, error;
};

GroupBounds group_bounds(const Function& sigma, const BatchTarget& target,
                         const GroupParameters& p);

/// Moments of a target of several directions under N(0, I): E s*, E t_l s*, E s*^2.
struct TargetConstants {
  double mean = 0, second_moment = 0;
  std::vector<double> h1;
  double floor = 0;  ///< E s*^2 - (E s*)^2 - sum_l (E t_l s*)^2
  double error = 0;  ///< estimated, relative to rms(s*)
};

TargetConstants target_constants(const TargetFunction& target);

/// The function learned along theta, E[f(x) | theta.x/sqrt d = t] (CPD24, figure 1), at `n` values
/// of t.
///
/// With U = r rho g + sqrt(c) z = s Z, s^2 = r^2 rho^2 + c, the two Gaussian averages of THEORY
/// section 6 are one:
///   f(t) = m M0 + theta [gamma t (sqrt c/s) M1 + (sqrt c r rho^2/s^2)(M2 - M0)] + psi [rho t (sqrt
///   c/s) M1 - (gamma sqrt c r rho/s^2)(M2 - M0)]
/// where M_i = E Z^i sigma(r gamma t + s Z).
/// A third feature mu_c(k) = E (z^2 - 1) sigma(..)/(2 c) with coefficient chi (THEORY 9) adds chi
/// (M2 - M0)/(2 s^2).
void learned_function(const Function& sigma, const SpikeParameters& p, double m, double theta,
                      double psi, const double* t, Index n, double* out, double chi = 0);

/// The same along the directions of a target, at n points: what a group with feature coefficient m
/// contributes where its argument is mean_i + s Z,
///   out_i = m M0 + first_i M1 + second (M2 - M0)
void learned_points(const Function& sigma, double s, double m, double second, const double* mean,
                    const double* first, Index n, double* out);

}  // namespace srfx
