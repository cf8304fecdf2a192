"""
The compiled core of srfx. Private: its callers in srfx validate what they pass.
"""
from __future__ import annotations
import collections.abc
import numpy
import numpy.typing
import typing
__all__: list[str] = ['Activation', 'CancelFlag', 'Cancelled', 'Experiment', 'NoReadout', 'NotPositiveDefinite', 'Target', 'activation_names', 'bounds', 'build_config', 'coefficients', 'default_threads', 'evaluate', 'evaluate_derivative', 'evaluate_target', 'fit_readouts', 'gaussian_constants', 'gradient', 'gradient_empirical', 'gradient_groups', 'gradient_layers', 'gradient_one_step', 'group_bounds', 'join_rows', 'label_moments', 'layer_map', 'learned_function', 'learned_function_of_step', 'learned_points', 'multi_step', 'optimum', 'simulate', 'simulated_weights', 'solve', 'solve_empirical', 'solve_group_losses', 'solve_group_losses_empirical', 'solve_group_step_losses', 'solve_groups', 'solve_layer_losses', 'solve_layers', 'solve_losses', 'solve_losses_empirical', 'solve_losses_one_step', 'solve_one_step', 'solve_one_step_groups', 'spectrum', 'spectrum_empirical', 'spectrum_groups', 'spectrum_layers', 'spectrum_one_step', 'step_constants', 'step_map', 'target_constants', 'target_names']
class Activation:
    """
    A scalar function: a named activation or a vectorised callable.
    """
    @staticmethod
    def from_callable(value: typing.Any, derivative: typing.Any, kinks: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], name: str = 'fn') -> Activation:
        ...
    def __init__(self, name: str) -> None:
        ...
    @property
    def has_derivative(self) -> bool:
        ...
    @property
    def jump(self) -> bool:
        ...
    @property
    def kinks(self) -> list[float]:
        ...
    @property
    def name(self) -> str:
        ...
    @property
    def parity(self) -> int:
        ...
    @property
    def smooth(self) -> bool:
        ...
class Target:
    """
    A target of several directions, named or a vectorised callable.
    """
    @staticmethod
    def from_callable(value: typing.Any, directions: typing.SupportsInt | typing.SupportsIndex, kinks: collections.abc.Sequence[tuple[collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], typing.SupportsFloat | typing.SupportsIndex]], name: str = 'fn') -> Target:
        ...
    @staticmethod
    def of(activation: Activation) -> Target:
        """
        The target of one direction.
        """
    def __init__(self, name: str, directions: typing.SupportsInt | typing.SupportsIndex) -> None:
        ...
    @property
    def directions(self) -> int:
        ...
    @property
    def kinks(self) -> list[tuple[list[float], float]]:
        ...
    @property
    def name(self) -> str:
        ...
class Cancelled(RuntimeError):
    pass
class NotPositiveDefinite(ArithmeticError):
    pass
class NoReadout(ArithmeticError):
    pass
class CancelFlag:
    """
    Stops the simulations it was given to.
    """
    def __init__(self) -> None:
        ...
    def cancel(self) -> None:
        ...
class Experiment:
    """
    One replicate of a simulation. n is strictly ascending; r has a row a group and a column a spike, theta a row a direction in the frame of the spikes and one more vector a direction; n0 and eta have an entry a gradient step; kappa, lo and hi are those of a piecewise quadratic loss.
    """
    def __init__(self, *, d: typing.SupportsInt | typing.SupportsIndex, n_test: typing.SupportsInt | typing.SupportsIndex, n: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], lam: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], sizes: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], readout: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], r: collections.abc.Sequence[collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex]], c: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], theta: collections.abc.Sequence[collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex]], noise: typing.SupportsFloat | typing.SupportsIndex, n0: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], eta: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], seed: typing.SupportsInt | typing.SupportsIndex, replicate: typing.SupportsInt | typing.SupportsIndex, literal: bool, labels: str, slope: typing.SupportsFloat | typing.SupportsIndex, loss: str, kappa: typing.SupportsFloat | typing.SupportsIndex, lo: typing.SupportsFloat | typing.SupportsIndex, hi: typing.SupportsFloat | typing.SupportsIndex) -> None:
        ...
    def memory(self, single: bool) -> float:
        """
        Peak memory of a run in bytes, to within some per cent.
        """
def activation_names() -> list[str]:
    ...
def bounds(sigma: Activation, target: Activation, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> dict[str, typing.Any]:
    """
    Lower and upper bounds of the test error, one entry a coefficient set.
    """
def build_config() -> dict[str, typing.Any]:
    """
    Version, compiler, flags, Eigen, OpenMP and threads of this build.
    """
def coefficients(sigma: Activation, target: Activation, r: typing.SupportsFloat | typing.SupportsIndex, c: typing.SupportsFloat | typing.SupportsIndex, gamma: typing.SupportsFloat | typing.SupportsIndex, k: typing.Annotated[numpy.typing.ArrayLike, numpy.float64]) -> dict[str, typing.Any]:
    """
    mu0, mu1, mu2^2 and h, h1, E s*^2 at a vector k.
    """
def default_threads() -> int:
    """
    Threads this process may use.
    """
def evaluate(activation: Activation, x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64]) -> numpy.typing.NDArray[numpy.float64]:
    """
    Values at a vector x.
    """
def evaluate_derivative(activation: Activation, x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64]) -> numpy.typing.NDArray[numpy.float64]:
    """
    Derivatives at a vector x.
    """
def evaluate_target(target: Target, t: typing.Annotated[numpy.typing.ArrayLike, numpy.float64]) -> numpy.typing.NDArray[numpy.float64]:
    """
    Values at the columns of t, shape (directions, n).
    """
def fit_readouts(phi: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], y: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], lam: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], loss: str, kappa: typing.SupportsFloat | typing.SupportsIndex, lo: typing.SupportsFloat | typing.SupportsIndex, hi: typing.SupportsFloat | typing.SupportsIndex, margin: bool, n_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[typing.Any, ...]:
    """
    Readouts of given features (n, p) for every lam: a (lam, p), and the duality gaps over the objectives.
    """
def gaussian_constants(activation: Activation, derivative: bool) -> dict[str, typing.Any]:
    """
    Moments of an activation under N(0,1); h2 and hc1 of its derivative.
    """
def gradient(sigma: Activation, target: typing.Any, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], v1: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], v2: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], directions: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], n_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[typing.Any, ...]:
    """
    Derivatives of (test error, training error) at solutions, each of shape (directions, points). Directions: 0 lam, 1 alpha, 2 beta, 3 noise, 4 r, 5 c, 6 gamma.
    """
def gradient_empirical(sigma: Activation, target: typing.Any, r: typing.SupportsFloat | typing.SupportsIndex, c: typing.SupportsFloat | typing.SupportsIndex, gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], eigenvalues: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], vectors: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], beta: typing.SupportsFloat | typing.SupportsIndex, inv_d: typing.SupportsFloat | typing.SupportsIndex, noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], v1: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], v2: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], directions: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], n_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[typing.Any, ...]:
    """
    The same at solutions of solve_empirical; directions 0, 1 and 3.
    """
def gradient_groups(sigma: Activation, target: typing.Any, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], pi: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], move_r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], move_c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], move_gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], point_moves: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], v1: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], v2: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[typing.Any, ...]:
    """
    Derivatives of (test error, training error) at solutions of solve_groups, each of shape (moves, points). A move says how r, c, gamma of each set change (that of r relative beside a Target), and which of 0 lam, 1 alpha, 2 beta, 3 noise does (-1: none).
    """
def gradient_layers(sigma: Activation, target: typing.Any, readout: typing.SupportsFloat | typing.SupportsIndex, eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], v1: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], v2: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], directions: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], n_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[typing.Any, ...]:
    """
    Derivatives of (test error, training error) at solutions of solve_layers, each of shape (directions, points). Directions: 0 lam, 1 alpha, 2 beta.
    """
def gradient_one_step(sigma: Activation, target: Activation, readout: typing.SupportsFloat | typing.SupportsIndex, eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], v1: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], v2: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], directions: collections.abc.Sequence[typing.SupportsInt | typing.SupportsIndex], n_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[typing.Any, ...]:
    """
    Derivatives of (test error, training error) at solutions of solve_one_step, each of shape (directions, points). Directions: 0 lam, 1 alpha, 2 beta, 3 noise, 4 eta, 5 1/alpha0.
    """
def group_bounds(sigma: Activation, target: typing.Any, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], pi: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> dict[str, typing.Any]:
    """
    Lower and upper bounds of the test error for K groups, one entry a coefficient set.
    """
def join_rows(pieces: collections.abc.Sequence[str], columns: collections.abc.Sequence[typing.Any], first: typing.SupportsInt | typing.SupportsIndex, last: typing.SupportsInt | typing.SupportsIndex, nan: str, infinity: str) -> str:
    """
    Text of rows of numbers, each as repr has it, or of words (places, texts), between the pieces.
    """
def label_moments(target: Activation, labels: str, noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64]) -> dict[str, typing.Any]:
    """
    E y and E t y of labels of +1 and -1, one entry a noise; of logit a slope.
    """
def layer_map(sigma: Activation, target: typing.Any, readout: typing.SupportsFloat | typing.SupportsIndex, eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.SupportsFloat | typing.SupportsIndex) -> dict[str, typing.Any]:
    """
    Spike, bulk variance and alignments after steps, eta and 1/alpha0 of shape (1, steps); C_delta, L and Sigma on the frame (vhat, zhat_1, ..); what quadrature does to them.
    """
def learned_function(sigma: Activation, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], m: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], theta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], psi: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], t: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
    """
    E[f(x) | theta.x/sqrt d = t], shape (models, len(t)).
    """
def learned_function_of_step(sigma: Activation, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], m: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], theta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], psi: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], chi: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], t: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
    """
    learned_function with the feature of the row norms.
    """
def learned_points(sigma: Activation, s: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], m: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], second: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], mean: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], first: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> numpy.typing.NDArray[numpy.float64]:
    """
    m M0 + first M1 + second (M2 - M0), M_i = E Z^i sigma(mean + s Z): shape of mean.
    """
def multi_step(sigma: Activation, target: Target, readout: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], pi: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inverse_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], labels: str = 'real', n_threads: typing.SupportsInt | typing.SupportsIndex = 1) -> dict[str, typing.Any]:
    """
    R (sets, K, q), c (sets, K) and the alignment (sets, L, q) after several steps.
    """
def optimum(sigma: Activation, target: typing.Any, map: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], sets: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, line: collections.abc.Sequence[tuple[typing.SupportsInt | typing.SupportsIndex, tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, bool, typing.SupportsInt | typing.SupportsIndex]]], coordinates: collections.abc.Sequence[tuple[typing.SupportsInt | typing.SupportsIndex, tuple[typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, bool, typing.SupportsInt | typing.SupportsIndex]]], largest: bool, n_threads: typing.SupportsInt | typing.SupportsIndex, alignments: typing.Annotated[numpy.typing.ArrayLike, numpy.float64] = ...) -> dict[str, typing.Any]:
    """
    Where the test error is least (or largest, inside the range): values, one row a parameter searched (that of the line first), status, n_minima, n_failed. line: at most one (direction as in gradient, (low, high, logarithmic, places)); coordinates: up to two (column of sets, axis). map: (readout,) for sets (r, c, gamma), or (readout, h1, h2^2 + hc1, h2 u_1, u_2 less the noise, h1*) for sets (eta, alpha0, noise). Of a Target: alignments of shape (sets, L), of which only the direction counts.
    """
def simulate(experiment: Experiment, activation: Activation, target: Target, single: bool, n_threads: typing.SupportsInt | typing.SupportsIndex, cancel: CancelFlag | None = None, predictions: bool = False) -> dict[str, typing.Any]:
    """
    Errors of one replicate, shape (n, lam).
    """
def simulated_weights(experiment: Experiment, activation: Activation, target: Target, single: bool, n_threads: typing.SupportsInt | typing.SupportsIndex) -> tuple[typing.Any, ...]:
    """
    The first-layer weights of a literal run, v (a row a spike) and theta (a row a direction).
    """
def solve(sigma: Activation, target: typing.Any, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex) -> dict[str, typing.Any]:
    """
    Solves every point; inputs are vectors of length 1 or n_points, (r, c, gamma) one entry a coefficient set. Of a Target gamma has a row of L numbers a set, and psi one a point.
    """
def solve_empirical(sigma: Activation, target: typing.Any, r: typing.SupportsFloat | typing.SupportsIndex, c: typing.SupportsFloat | typing.SupportsIndex, gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], eigenvalues: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], vectors: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], beta: typing.SupportsFloat | typing.SupportsIndex, inv_d: typing.SupportsFloat | typing.SupportsIndex, noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, exact: bool = False) -> dict[str, typing.Any]:
    """
    Given weights: eigenvalues of W Pi W^T and the vectors of an EmpiricalBulk in its eigenbasis; gamma one number a direction of the target, an Activation or a Target. exact: no table.
    """
def solve_group_losses(sigma: Activation, target: typing.Any, loss: tuple[str, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, bool], labels: str, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], pi: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, merge: bool = True, slopes: bool = False) -> dict[str, typing.Any]:
    """
    The same of K groups, any spikes and directions: shapes as in solve_groups, set_noise one entry a set.
    """
def solve_group_losses_empirical(sigma: Activation, target: typing.Any, loss: tuple[str, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, bool], labels: str, r: typing.SupportsFloat | typing.SupportsIndex, c: typing.SupportsFloat | typing.SupportsIndex, gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], eigenvalues: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], vectors: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], beta: typing.SupportsFloat | typing.SupportsIndex, inv_d: typing.SupportsFloat | typing.SupportsIndex, set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, slopes: bool = False) -> dict[str, typing.Any]:
    """
    The same towards several directions.
    """
def solve_group_step_losses(sigma: Activation, target: typing.Any, loss: tuple[str, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, bool], labels: str, readout: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], pi: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, merge: bool = True, slopes: bool = False) -> dict[str, typing.Any]:
    """
    The same of actual one-step networks of several readout values: shapes as in solve_one_step_groups.
    """
def solve_groups(sigma: Activation, target: typing.Any, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], pi: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, merge: bool = True) -> dict[str, typing.Any]:
    """
    Solves every point for K groups: r and c of shape (sets, K), gamma (sets,), pi (K,); else as solve. merge=False keeps identical groups apart. With a Target: r of shape (sets, K, q) and gamma (sets, L, q), theta (points, K, q), psi (points, K, L).
    """
def solve_layer_losses(sigma: Activation, target: typing.Any, loss: tuple[str, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, bool], labels: str, readout: typing.SupportsFloat | typing.SupportsIndex, eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, slopes: bool = False) -> dict[str, typing.Any]:
    """
    The same with another loss than the square, or labels of +1 and -1.
    """
def solve_layers(sigma: Activation, target: typing.Any, readout: typing.SupportsFloat | typing.SupportsIndex, eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex) -> dict[str, typing.Any]:
    """
    Networks after several steps, one readout value; eta and 1/alpha0 of shape (sets, steps). The target is an Activation or a Target; psi and gamma of a Target are of shape (n_points, directions).
    """
def solve_losses(sigma: Activation, target: Activation, loss: tuple[str, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, bool], labels: str, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, slopes: bool = False) -> dict[str, typing.Any]:
    """
    Spiked models with another loss or labels; (r, c, gamma, noise) one entry a set, of logit labels their slope in the place of noise. slopes: derivatives too, of (train_loss, test_loss, test_error, classification_error) by (lam, alpha).
    """
def solve_losses_empirical(sigma: Activation, target: Activation, loss: tuple[str, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, bool], labels: str, r: typing.SupportsFloat | typing.SupportsIndex, c: typing.SupportsFloat | typing.SupportsIndex, gamma: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], eigenvalues: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], vectors: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], beta: typing.SupportsFloat | typing.SupportsIndex, inv_d: typing.SupportsFloat | typing.SupportsIndex, set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, slopes: bool = False) -> dict[str, typing.Any]:
    """
    The same of given weights; noise one entry a set.
    """
def solve_losses_one_step(sigma: Activation, target: Activation, loss: tuple[str, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, typing.SupportsFloat | typing.SupportsIndex, bool], labels: str, readout: typing.SupportsFloat | typing.SupportsIndex, eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, slopes: bool = False) -> dict[str, typing.Any]:
    """
    The same of actual one-step networks; (eta, 1/alpha0, noise) one entry a set.
    """
def solve_one_step(sigma: Activation, target: Activation, readout: typing.SupportsFloat | typing.SupportsIndex, eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, matrix: bool = False, exact: bool = False) -> dict[str, typing.Any]:
    """
    Actual one-step networks, one readout value; (eta, 1/alpha0, noise) one entry a set. matrix: section 10's path for every sigma. exact: no table of the bulk.
    """
def solve_one_step_groups(sigma: Activation, target: typing.Any, readout: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], pi: collections.abc.Sequence[typing.SupportsFloat | typing.SupportsIndex], eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], set_index: typing.Annotated[numpy.typing.ArrayLike, numpy.int64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], lam: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_d: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_points: typing.SupportsInt | typing.SupportsIndex, n_threads: typing.SupportsInt | typing.SupportsIndex, merge: bool = True) -> dict[str, typing.Any]:
    """
    Actual one-step networks of several readout values; (eta, 1/alpha0, noise) one entry a set. merge=False keeps identical groups apart. With a Target: psi (points, K, L), gamma (points, L).
    """
def spectrum(sigma: Activation, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> list[typing.Any]:
    """
    The spectral density of Phi^T Phi/p at a vector x, one result a model (isotropic bulk, one readout value).
    """
def spectrum_empirical(sigma: Activation, r: typing.SupportsFloat | typing.SupportsIndex, c: typing.SupportsFloat | typing.SupportsIndex, eigenvalues: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], vectors: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], beta: typing.SupportsFloat | typing.SupportsIndex, alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> list[typing.Any]:
    """
    As spectrum, for given weights.
    """
def spectrum_groups(sigma: Activation, r: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], c: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], pi: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> list[typing.Any]:
    """
    As spectrum, for K groups and q spikes: r of shape (models, K, q), c (models, K).
    """
def spectrum_layers(sigma: Activation, target: typing.Any, readout: typing.SupportsFloat | typing.SupportsIndex, eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], labels: str, alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> list[typing.Any]:
    """
    As spectrum, for the networks of solve_layers; a row of eta a model.
    """
def spectrum_one_step(sigma: Activation, target: Activation, readout: typing.SupportsFloat | typing.SupportsIndex, eta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], inv_alpha0: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], noise: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], labels: str, alpha: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], beta: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], x: typing.Annotated[numpy.typing.ArrayLike, numpy.float64], n_threads: typing.SupportsInt | typing.SupportsIndex) -> list[typing.Any]:
    """
    As spectrum, for actual one-step networks.
    """
def step_constants(sigma: Activation) -> dict[str, typing.Any]:
    """
    Gaussian moments of sigma' that decide what section 10 covers.
    """
def step_map(sigma: Activation, target: Activation, readout: typing.SupportsFloat | typing.SupportsIndex, eta: typing.SupportsFloat | typing.SupportsIndex, inv_alpha0: typing.SupportsFloat | typing.SupportsIndex, noise: typing.SupportsFloat | typing.SupportsIndex) -> dict[str, typing.Any]:
    """
    Spike, bulk variance, alignment of one step, and the size of the rule for its residuals.
    """
def target_constants(target: Target, labels: str = 'real', noise: typing.SupportsFloat | typing.SupportsIndex = 0.0) -> dict[str, typing.Any]:
    """
    Moments of a target of several directions under N(0, I); of labels of +1 and -1, those of E[y | t].
    """
def target_names() -> list[str]:
    ...
