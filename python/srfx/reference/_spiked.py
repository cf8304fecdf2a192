r"""The theory in plain NumPy and SciPy, slow and obvious: the oracle of tests and benchmarks.

Nothing here is shared with the compiled core: neither code, nor quadrature tables, nor the order of
operations. Formulas and names are those of CPD24 (Cui, Pesce, Dandi, Krzakala, Lu, Zdeborova,
Loureiro, ICML 2024, arXiv 2402.04980) as written in the THEORY page; sections of that page are
cited below.

Two solvers of the same equations:

- `solve_notebook` iterates the seven scalar order parameters with damping and takes every
  expectation by adaptive quadrature, one point at a time;
- `solve` uses one dense panel rule, Newton's method on the only two nonlinear unknowns, and forms
  without cancellation; it broadcasts over ``alpha``, ``lam`` and ``beta``.

Accuracy of `solve`. Coefficients are computed in double precision (absolute error a few 1e-16 of
the scale of the activation), everything after them in ``numpy.longdouble``, which has 64 bits of
mantissa on x86 and may equal double elsewhere. Doubling the node density moves the observables by
less than 2e-12, relative, for lam from 1e-12 to 1e6, alpha and beta from 1e-3 to 1e3 and r/sqrt(c)
up to 20, kinks or not. Two things are worse there. On the interpolation threshold
``alpha = beta`` the problem is ill-conditioned like ``eps / sqrt(lam)``: at ``lam = 1e-12`` that
leaves some 1e-13 (1e-10 in double, ``dtype=float``), and 5e-11 at r/sqrt(c) = 20, where rounding in
mu2^2 weighs in. An order parameter that is zero by symmetry comes out as rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from srfx._validation import public

__all__ = [
    "ACTIVATIONS",
    "Bounds",
    "Coefficients",
    "Function",
    "ReferenceSolution",
    "bounds",
    "coefficients",
    "equivalent",
    "gaussian_mean",
    "learned_function",
    "linear_floor",
    "solve",
    "solve_notebook",
]

Array = NDArray[Any]
Scalar = Callable[[Array], Array]

Z_MAX = 12.0  # the Gaussian weight beyond is 5e-32
Z_ORDER = 16  # Gauss-Legendre nodes in a panel of the inner rule
BASE = 0.7  # width of an outer panel in units of sqrt(c) / |r|, at most
K_ORDER = 24  # and of the outer one
RIDGELESS = 1e-40  # lam = 0 is computed at this multiple of E sigma^2: exact to every digit


# ------------------------------------------------------------------------------------- activations


@dataclass(frozen=True)
class Function:
    """A scalar function with what quadrature must know of it.

    Parameters
    ----------
    value : callable
        Vectorised ``float64 -> float64`` function.
    kinks : tuple of float
        Points where the function or one of its first derivatives jumps.
    derivative : callable or None
        Its derivative (almost everywhere); None if it has none (sign) or it is not needed.

    Examples
    --------
    >>> clipped = Function(lambda x: np.minimum(x, 2.0), kinks=(2.0,))
    >>> float(clipped.value(np.array(3.0)))
    2.0
    """

    value: Scalar
    kinks: tuple[float, ...] = ()
    derivative: Scalar | None = None


def normal(x: Array) -> Array:
    """Return the density of the standard normal law."""
    return np.asarray(np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi))


def _ndtr(x: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(ndtr(x))


def _erf(x: Array) -> Array:
    from scipy.special import erf

    return np.asarray(erf(x))


def _expit(x: Array) -> Array:
    from scipy.special import expit

    return np.asarray(expit(x))


def _hermite(n: int) -> Scalar:
    """Return the probabilists' Hermite polynomial He_n, normalised: E He_n(z)^2 = 1."""
    from numpy.polynomial.hermite_e import hermeval

    series = np.zeros(n + 1)
    series[n] = 1.0 / math.sqrt(math.factorial(n))
    return lambda x: np.asarray(hermeval(x, series))


def _hermite_function(n: int) -> Function:
    lower = _hermite(n - 1)
    return Function(_hermite(n), (), lambda x: math.sqrt(n) * lower(x))


#: The activations known by name.
ACTIVATIONS: dict[str, Function] = {
    "tanh": Function(np.tanh, (), lambda x: 1.0 / np.cosh(x) ** 2),
    "erf": Function(_erf, (), lambda x: 2.0 / math.sqrt(math.pi) * np.exp(-x * x)),
    "sin": Function(np.sin, (), np.cos),
    "cos": Function(np.cos, (), lambda x: -np.sin(x)),
    "relu": Function(lambda x: np.maximum(x, 0.0), (0.0,), lambda x: np.where(x > 0, 1.0, 0.0)),
    "leaky_relu": Function(
        lambda x: np.where(x > 0, x, 0.01 * x), (0.0,), lambda x: np.where(x > 0, 1.0, 0.01)
    ),
    "sign": Function(np.sign, (0.0,), None),
    "abs": Function(np.abs, (0.0,), np.sign),
    "softplus": Function(lambda x: np.logaddexp(0.0, x), (), _expit),
    "sigmoid": Function(_expit, (), lambda x: _expit(x) * _expit(-x)),
    "gelu": Function(lambda x: x * _ndtr(x), (), lambda x: _ndtr(x) + x * normal(x)),
    "silu": Function(lambda x: x * _expit(x), (), lambda x: _expit(x) * (1.0 + x * _expit(-x))),
    "hardtanh": Function(
        lambda x: np.clip(x, -1.0, 1.0), (-1.0, 1.0), lambda x: np.where(np.abs(x) < 1, 1.0, 0.0)
    ),
    "linear": Function(lambda x: 1.0 * x, (), np.ones_like),
    **{f"hermite{n}": _hermite_function(n) for n in range(1, 7)},
}


def function_of(f: str | Function | Scalar) -> Function:
    """Return the `Function` that a name, a `Function` or a smooth callable stands for."""
    if isinstance(f, Function):
        return f
    if isinstance(f, str):
        if f not in ACTIVATIONS:
            raise ValueError(f"unknown activation {f!r}; known: {', '.join(sorted(ACTIVATIONS))}")
        return ACTIVATIONS[f]
    return Function(f)


# -------------------------------------------------------------------------------------- quadrature


@public
def gaussian_mean(f: Scalar, kinks: Sequence[float] = (), density: int = 2) -> float:
    """Return E f(z), z standard normal, to about 1e-14 of the scale of f.

    Composite Gauss-Legendre on [-12, 12], panels of width ``1 / density`` or less with edges at
    `kinks`.

    Parameters
    ----------
    f : callable
        Vectorised function.
    kinks : sequence of float
        Points where `f` is not smooth.
    density : int
        Panels in a unit of length.

    Examples
    --------
    >>> round(gaussian_mean(lambda z: z**4), 12)
    3.0
    >>> abs(gaussian_mean(np.abs, kinks=[0.0]) - math.sqrt(2 / math.pi)) < 1e-14
    True
    """
    grid = np.linspace(-Z_MAX, Z_MAX, int(2 * Z_MAX * density) + 1)
    edges = np.unique(np.concatenate([grid, np.clip(np.asarray(kinks, float), -Z_MAX, Z_MAX)]))
    z, weight = gauss_nodes(edges, Z_ORDER)
    return float(np.sum(weight * f(z)) / np.sum(weight))


def gauss_nodes(edges: Array, order: int) -> tuple[Array, Array]:
    """Return composite Gauss-Legendre nodes and Gaussian weights on the panels between `edges`.

    The last axis of `edges` is the panels' (sorted; panels of no width are harmless); it becomes
    the nodes'.
    """
    x, w = np.polynomial.legendre.leggauss(order)
    half = 0.5 * np.diff(edges)[..., None]
    z = edges[..., :-1, None] + half * (1.0 + x)
    z, weight = (a.reshape(*edges.shape[:-1], -1) for a in (z, half * w * np.ones_like(z)))
    return z, weight * normal(z)


def gauss_hermite(count: int) -> tuple[Array, Array]:
    """Return nodes and node weights, which sum to one, for a standard normal variable.

    NumPy's weights overflow beyond some 370 nodes; SciPy's do not.
    """
    if count > 300:
        from scipy.special import roots_hermitenorm

        x, w = roots_hermitenorm(count)
    else:
        x, w = np.polynomial.hermite_e.hermegauss(count)
    return x, w / w.sum()


def panel_edges(centres: list[tuple[float, float]], base: float, reach: float) -> Array:
    """Return panel edges on [-reach, reach], refined around `centres`.

    Every (position, scale) in `centres` is an edge if it lies inside; panels are at most half a
    scale wide within 12 scales of it (the smoothed kink has Gaussian tails), then widen in
    proportion to the distance, and are never wider than `base`.
    """

    def widest(left: float, right: float) -> float:
        bound = base
        for position, scale in centres:
            distance = max(0.0, position - right, left - position)
            bound = min(bound, max(0.5 * scale, (distance - 10.0 * scale) / 4.0, 1e-14))
        return bound

    inside = {position for position, _ in centres if abs(position) < reach}
    start = sorted(inside | {-reach, reach})
    edges: list[float] = []
    for left, right in itertools.pairwise(start):
        todo = [(left, right)]
        while todo:
            a, b = todo.pop()
            if b - a <= widest(a, b) or (b - a) < 1e-13:
                edges.append(a)
            else:
                middle = 0.5 * (a + b)
                todo += [(middle, b), (a, middle)]
    return np.array([*edges, reach])


# ------------------------------------------------------------------------------------ coefficients


@dataclass(frozen=True)
class Coefficients:
    """Conditional Gaussian coefficients (THEORY section 2), arrays of the shape of ``k``.

    ``mu2_sq`` is the centred second moment; ``hv = E_z (s* - h - h1 z)^2`` likewise, so that
    ``hh = h^2 + h1^2 + hv + noise``.
    """

    k: Array
    mu0: Array
    mu1: Array
    mu2_sq: Array
    h: Array
    h1: Array
    hv: Array

    def hh(self, noise: float = 0.0) -> Array:
        """Return E_z s*^2 + noise."""
        return np.asarray(self.h**2 + self.h1**2 + self.hv + noise)


def conditional(f: Function, mean: Array, sd: float, density: float) -> tuple[Array, Array, Array]:
    """Return E_z f, E_z z f and E_z (f - E f - z E z f)^2 for f(mean + sd z), z standard normal."""
    if sd == 0.0:
        value = np.asarray(f.value(mean), float)
        return value, np.zeros_like(mean), np.zeros_like(mean)
    count = math.ceil(2 * Z_MAX * density * max(1.0, sd))
    grid = np.linspace(-Z_MAX, Z_MAX, count + 1)
    kinks = np.asarray(f.kinks, float)
    out = np.empty((3, mean.size))
    chunk = max(1, 2_000_000 // ((count + kinks.size) * Z_ORDER))
    for i in range(0, mean.size, chunk):
        centre = mean[i : i + chunk, None]
        own = np.clip((kinks - centre) / sd, -Z_MAX, Z_MAX)
        edges = np.concatenate([np.broadcast_to(grid, (centre.shape[0], grid.size)), own], axis=1)
        z, weight = gauss_nodes(np.sort(edges, axis=1), Z_ORDER)
        weight /= weight.sum(axis=1, keepdims=True)
        value = np.asarray(f.value(centre + sd * z), float)
        e0 = np.sum(weight * value, axis=1)
        value = value - e0[:, None]
        e1 = np.sum(weight * z * value, axis=1)
        value -= e1[:, None] * z
        out[:, i : i + chunk] = e0, e1, np.sum(weight * value**2, axis=1)
    return out[0], out[1], out[2]


@public
def coefficients(
    activation: str | Function | Scalar,
    target: str | Function | Scalar,
    r: float,
    c: float,
    gamma: float,
    k: ArrayLike,
    density: int = 1,
) -> Coefficients:
    """Return the coefficients mu0, mu1, mu2^2, h, h1, hv at the points `k`.

    Parameters
    ----------
    activation, target : str, Function or callable
        sigma and sigma*: a name, a `Function`, or a callable without kinks.
    r, c, gamma : float
        Spike strength, bulk variance (> 0), alignment (-1 to 1, both ends included).
    k : array_like
        Where to evaluate.
    density : int
        Panels of the inner rule in a unit of length; 1 is converged for the named activations.

    Examples
    --------
    For sigma = linear: mu0 = r k, mu1 = sqrt(c), mu2 = 0.

    >>> table = coefficients("linear", "sin", 0.5, 4.0, 1.0, [0.0, 1.0])
    >>> np.round(table.mu0 + 1e-15, 12).tolist(), np.round(table.mu1, 12).tolist()
    ([0.0, 0.5], [2.0, 2.0])
    """
    points = np.asarray(k, float)
    flat = points.ravel()
    rho = math.sqrt((1.0 - gamma) * (1.0 + gamma))
    mu = conditional(function_of(activation), r * flat, math.sqrt(c), density)
    h = conditional(function_of(target), gamma * flat, rho, density)
    return Coefficients(points, *(a.reshape(points.shape) for a in (*mu, *h)))


def table_of(
    activation: Function, target: Function, *rest: Any
) -> tuple[Array, Coefficients, float]:
    """Return what `_table_of` does; kept only for functions of srfx: a user's may change."""
    ours = all(any(f is g for g in ACTIVATIONS.values()) for f in (activation, target))
    return (_kept_table_of if ours else _table_of)(activation, target, *rest)


def _table_of(
    activation: Function,
    target: Function,
    r: float,
    c: float,
    gamma: float,
    density: int,
    reach: float,
) -> tuple[Array, Coefficients, float]:
    """Return the outer rule's weights (sum 1), the coefficients at its nodes and E sigma^2.

    ``mu0`` is set to zero where it is quadrature dust: max|mu0| < 1e-13 rms(sigma).
    """
    rho = math.sqrt((1.0 - gamma) * (1.0 + gamma))
    centres: list[tuple[float, float]] = []
    base = 0.5
    if r != 0.0:
        scale = math.sqrt(c) / abs(r)
        centres += [(kink / r, scale / density) for kink in activation.kinks]
        base = min(base, BASE * scale)
    if gamma != 0.0:
        centres += [(kink / gamma, rho / abs(gamma) / density) for kink in target.kinks]
    if rho == 0.0:  # a jump and nothing else: an edge is enough
        centres = [(x, s if s > 0.0 else math.inf) for x, s in centres]
    k, weight = gauss_nodes(panel_edges(centres, base / density, reach), K_ORDER)
    table = coefficients(activation, target, r, c, gamma, k, density)
    weight = weight.astype(np.longdouble)
    weight /= weight.sum()
    second = float(np.sum(weight * (table.mu0**2 + table.mu1**2 + table.mu2_sq)))
    if np.max(np.abs(table.mu0)) < 1e-13 * math.sqrt(second):
        table.mu0[:] = 0.0
    if (
        float(np.sum(weight * table.mu2_sq)) < 1e-28 * second
    ):  # linear: V2 of 1/lam would amplify the dust
        table.mu2_sq[:] = 0.0
    return weight, table, second


_kept_table_of = lru_cache(maxsize=64)(_table_of)


# ------------------------------------------------------------------------ the equations, section 3


def _marchenko_pastur(a: Array, b: Array, beta: Array) -> dict[str, Array]:
    """Return spectral averages with S = a + b D, D Marchenko-Pastur of ratio beta and mean 1.

    As in THEORY section 3 but multiplied through by b, so that b = 0 is allowed. ``excess`` is
    <D^2/S^2> - beta <D/S>^2 in closed form, free of cancellation.
    """
    lower = a + (1.0 - beta) * b
    root = np.sqrt(lower**2 + 4.0 * a * b * beta)
    with np.errstate(divide="ignore", invalid="ignore"):
        inv = np.where(lower > 0, 2.0 / (lower + root), (root - lower) / (2.0 * a * b * beta))
    grow = 1.0 + beta * b * inv
    dinv = inv / grow
    return {
        "1/S": inv,
        "D/S": dinv,
        "1/S2": inv * grow / root,
        "D/S2": inv / (grow * root),
        "D2/S2": dinv * (2.0 * a * (1.0 + beta) + b * (1.0 - beta) ** 2) / (root * (root + a)),
        "excess": dinv / (root * grow**2),
    }


@dataclass(frozen=True)
class ReferenceSolution:
    """Observables and order parameters; every field has the broadcast shape of alpha, lam and beta.

    Attributes
    ----------
    test_error, train_error : ndarray
        E (y - f)^2 without the label noise, and on the training set without the penalty (section
        6).
    m, theta, psi, q1, q2 : ndarray
        Order parameters of section 4.
    v1, v2 : ndarray
        Nonlinear unknowns of section 3; for ``lam = 0`` and alpha below the threshold the limits
        of lam V.
    residual : ndarray
        Undamped relative residual of (V1, V2) = map(V1, V2).
    energy : ndarray
        Relative violation of the energy identity of section 7.
    iterations : ndarray of int
        Iterations of the nonlinear solver.
    """

    test_error: Array
    train_error: Array
    m: Array
    theta: Array
    psi: Array
    q1: Array
    q2: Array
    v1: Array
    v2: Array
    residual: Array
    energy: Array
    iterations: Array


@public
def solve(
    activation: str | Function | Scalar,
    target: str | Function | Scalar,
    *,
    r: float,
    c: float,
    gamma: float,
    beta: ArrayLike,
    alpha: ArrayLike,
    lam: ArrayLike,
    noise: float = 0.0,
    d: float | None = None,
    density: int = 1,
    reach: float = 12.0,
    dtype: DTypeLike = np.longdouble,
    max_iter: int = 200,
) -> ReferenceSolution:
    r"""Solve the asymptotic equations of one spiked random features model.

    Newton's method on (V1, V2) from (1, 1)/lam, then linear algebra (THEORY sections 3 to 6). The
    errors are sums of positive terms: with hv = E_z (s* - h - h1 z)^2,

        R = noise + hv + (h - C)^2 + (h1 - mu1 psi)^2 + mu1^2 (q1 - psi^2) + mu2^2 q2

    and q1 - psi^2 is itself solved for, its source being beta psih^2 (<D^2/S^2> - beta <D/S>^2) in
    the closed form <D/S> / (Q (1 + beta g)^2).

    Parameters
    ----------
    activation, target : str, Function or callable
        sigma and sigma*.
    r, c, gamma : float
        Spike strength, bulk variance (> 0), alignment (-1 to 1).
    beta, alpha, lam : array_like
        Width ratio (> 0), sample complexity (> 0; inf allowed), ridge (>= 0); they broadcast.
    noise : float
        Variance of the label noise.
    d : float or None
        Input dimension: adds the leading 1/d term of section 5. None is the limit.
    density : int
        Multiplies the number of panels of both rules: double it to see convergence.
    reach : float
        Half-width of the outer range of integration, in standard deviations of k.
    dtype : dtype
        Precision after the coefficients.
    max_iter : int
        Newton steps allowed.

    Returns
    -------
    ReferenceSolution

    Raises
    ------
    ValueError
        At lam = 0: on the interpolation threshold, or if the limit below it is infinite or hangs on
        values of k beyond 6 standard deviations (the value moves with the range of k). At any lam:
        if Newton's method did not converge.

    Examples
    --------
    >>> sol = solve("tanh", "sin", r=0.9, c=1.0, gamma=0.9, beta=1.0, alpha=[0.5, 1.5], lam=0.1)
    >>> np.round(sol.test_error, 4).tolist()
    [0.1067, 0.0827]
    """
    sigma, star = function_of(activation), function_of(target)
    shape = np.broadcast_shapes(np.shape(alpha), np.shape(beta), np.shape(lam))
    alphas, betas, lams = (
        np.broadcast_to(np.asarray(x, dtype=dtype), shape).ravel() for x in (alpha, beta, lam)
    )
    if not (c > 0 and abs(gamma) <= 1 and noise >= 0 and math.isfinite(r)):
        raise ValueError(
            f"need c > 0, |gamma| <= 1, noise >= 0; got {c=}, {gamma=}, {noise=}, {r=}"
        )
    if not (np.all(alphas > 0) and np.all(betas > 0) and np.all(lams >= 0)):
        raise ValueError("need alpha > 0, beta > 0, lam >= 0")
    weight, table, second = table_of(sigma, star, float(r), float(c), float(gamma), density, reach)
    threshold = betas if np.any(table.mu2_sq) else np.minimum(1.0, betas)
    ridgeless = (lams == 0) & np.isfinite(alphas)
    if np.any(ridgeless & (alphas == threshold)):
        raise ValueError(
            "lam = 0 at the interpolation threshold: the limit is infinite; take lam > 0"
        )
    below = ridgeless & (alphas < threshold)
    # linear sigma, beta > 1: V2 = inf while m and theta are collinear; keep that resolvable
    tiny = RIDGELESS if np.any(table.mu2_sq) else 1e-14
    lams = np.where(ridgeless, tiny * second, lams)

    def run(p: Array) -> dict[str, Array]:
        parts = []
        size = max(1, 1_000_000 // table.k.size)
        for i in range(0, max(1, alphas.size), size):
            s = slice(i, i + size)
            parts.append(
                _solve_points(p, table, alphas[s], betas[s], lams[s], noise, d, dtype, max_iter)
            )
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    out = run(weight)
    if np.any(below):
        for limit, slack in ((6.0, 1e-3), (0.85 * reach, 1e-9)):
            cut = np.where(np.abs(table.k) <= limit, weight, 0)
            near = run(cut / cut.sum())["test_error"]
            if np.any(below & ~(np.abs(near - out["test_error"]) <= slack * out["test_error"])):
                raise ValueError(
                    "lam = 0 with fewer samples than features: the limit hangs on |k| > 6, which no"
                    " finite sample draws, or is infinite; take lam > 0"
                )
        out["train_error"] = np.where(below, 0.0, out["train_error"])
        for name in ("v1", "v2"):
            out[name] = np.where(below, out[name] * lams, out[name])
    fields = {
        name: value.astype(int if name == "iterations" else float).reshape(shape)[()]
        for name, value in out.items()
    }
    return ReferenceSolution(**fields)


def _solve_points(
    weight: Array,
    table: Coefficients,
    alpha: Array,
    beta: Array,
    lam: Array,
    noise: float,
    d: float | None,
    dtype: DTypeLike,
    max_iter: int,
) -> dict[str, Array]:
    """Solve at one-dimensional arrays of points; see `solve`."""
    p = np.asarray(weight, dtype=dtype)
    k, mu0, mu1, u2, h, h1, hv = (
        np.asarray(a, dtype=dtype)
        for a in (table.k, table.mu0, table.mu1, table.mu2_sq, table.h, table.h1, table.hv)
    )
    u1 = mu1**2
    eps = float(np.finfo(np.dtype(dtype)).eps)
    infinite = np.isinf(
        alpha
    )  # then w = 1, T M and the R0 sources drop out, and alpha/beta is arbitrary
    finite = np.where(infinite, 0, 1).astype(dtype)
    ratio = np.where(infinite, 1.0, alpha / beta).astype(dtype)
    lam = np.where(infinite, 0.0, lam).astype(dtype)

    def mean(x: Array) -> Array:
        return np.asarray(np.sum(p * x, axis=-1))

    # ---- section 3: (V1, V2)
    v1 = np.where(infinite, 1.0, 1.0 / np.where(infinite, 1.0, lam)).astype(dtype)
    v2 = v1.copy()
    iterations = np.zeros(alpha.shape, int)
    extra = np.full(alpha.shape, 3)  # steps still to make once the residual is at rounding level
    residual = np.full(alpha.shape, np.inf)
    for _ in range(max_iter):
        w = 1.0 / (1.0 + finite[:, None] * (v1[:, None] * u1 + v2[:, None] * u2))
        vh1, vh2 = ratio * mean(u1 * w), ratio * mean(u2 * w)
        bulk = _marchenko_pastur(lam + vh2, vh1, beta)
        new1, new2 = bulk["D/S"], bulk["1/S"]
        residual = np.maximum(np.abs(new1 / v1 - 1.0), np.abs(new2 / v2 - 1.0)).astype(float)
        t11, t12, t22 = bulk["D2/S2"], bulk["D/S2"], bulk["1/S2"]
        scale = finite * ratio
        m11, m12, m22 = (scale * mean(x * w**2) for x in (u1 * u1, u1 * u2, u2 * u2))
        j11, j12 = 1.0 - t11 * m11 - t12 * m12, -(t11 * m12 + t12 * m22)
        j21, j22 = -(t12 * m11 + t22 * m12), 1.0 - t12 * m12 - t22 * m22
        det = j11 * j22 - j12 * j21
        extra -= residual < 64 * eps
        if np.all(extra <= 0):
            break
        iterations += extra > 0
        d1, d2 = new1 - v1, new2 - v2
        with np.errstate(divide="ignore", invalid="ignore"):
            try1 = v1 + (j22 * d1 - j12 * d2) / det
            try2 = v2 + (j11 * d2 - j21 * d1) / det
        good = (try1 > 0) & (try2 > 0) & np.isfinite(try1) & np.isfinite(try2)
        v1, v2 = np.where(good, try1, new1), np.where(good, try2, new2)
    if not np.all(residual < 1e5 * eps):
        worst = int(np.argmax(residual))
        raise ValueError(
            f"Newton did not converge: residual {residual[worst]:.1e}"
            f" at alpha={float(alpha[worst])},"
            f" beta={float(beta[worst])}, lam={float(lam[worst])}"
        )

    # ---- section 4: (m, theta) by QR of the weighted design, ridge rows below it
    count = alpha.size
    root = np.sqrt(p * w)
    zero = np.zeros((count, 1), dtype)
    ridge = 1.0 / np.sqrt(ratio * beta * v2)[:, None]
    ridge_m = zero if d is None else ridge / math.sqrt(d)
    column_m = np.concatenate([root * mu0, ridge_m, zero], axis=1)
    column_theta = np.concatenate([root * k * mu1, zero, ridge], axis=1)
    m, theta = _least_squares(
        column_m if np.any(mu0) else np.zeros_like(column_m),
        column_theta,
        np.concatenate([root * h, zero, zero], axis=1),
    )
    theta_hat = theta / (beta * v2)
    psi_hat = ratio * mean(h1 * mu1 * w)
    psi = beta * v1 * psi_hat
    gap = h - m[:, None] * mu0 - theta[:, None] * k * mu1
    miss = h1 - psi[:, None] * mu1
    r0 = noise + hv + gap**2 + miss**2
    n1 = scale * mean(u1 * r0 * w**2)
    n2 = scale * mean(u2 * r0 * w**2) + beta * theta_hat**2
    if d is not None:
        n2 = n2 + m**2 / (beta * d * v2**2)
    s1 = t11 * n1 + t12 * n2 + beta * psi_hat**2 * bulk["excess"]
    s2 = t12 * (n1 + beta * psi_hat**2) + t22 * n2
    x1 = (j22 * s1 - j12 * s2) / det  # q1 - psi^2; the psi^2 of u1 q1 sits in r0
    q2 = (j11 * s2 - j21 * s1) / det
    risk = r0 + x1[:, None] * u1 + q2[:, None] * u2
    train = mean(risk * w**2)
    c_of_k = h - gap
    work = mean(w * (noise + hv + h * gap + h1 * miss))  # E[w (hh - C h - h1 mu1 psi)]
    stored = mean(w * (noise + hv + np.abs(h * gap) + np.abs(h1 * miss) + c_of_k**2))
    energy = np.abs(train + lam / ratio * q2 - work) / np.where(stored > 0, stored, 1.0)
    return {
        "test_error": mean(risk - noise),
        "train_error": train,
        "m": m,
        "theta": theta,
        "psi": psi,
        "q1": x1 + psi**2,
        "q2": q2,
        "v1": v1,
        "v2": v2,
        "residual": residual,
        "energy": np.where(infinite, 0.0, energy),
        "iterations": iterations,
    }


def _least_squares(a: Array, b: Array, y: Array) -> tuple[Array, Array]:
    """Return x, t minimising |y - x a - t b|^2 along the last axis, by modified Gram-Schmidt.

    Every row of `b` is non-zero; a zero row of `a` gives x = 0. Works in any precision, unlike
    LAPACK.
    """
    length = np.sqrt(np.sum(a * a, axis=-1, keepdims=True))
    unit = np.divide(a, length, out=np.zeros_like(a), where=length > 0)
    mix = np.sum(unit * b, axis=-1, keepdims=True)
    b = b - mix * unit
    again = np.sum(unit * b, axis=-1, keepdims=True)
    b, mix = b - again * unit, mix + again
    first = np.sum(unit * y, axis=-1, keepdims=True)
    y = y - first * unit
    t = np.sum(b * y, axis=-1, keepdims=True) / np.sum(b * b, axis=-1, keepdims=True)
    x = np.divide(first - mix * t, length, out=np.zeros_like(length), where=length > 0)
    return x[:, 0], t[:, 0]


# ---------------------------------------------------------------------- the same, as in a notebook


@public
def solve_notebook(
    activation: str | Function | Scalar,
    target: str | Function | Scalar,
    *,
    r: float,
    c: float,
    gamma: float,
    beta: float,
    alpha: float,
    lam: float,
    noise: float = 0.0,
    d: float | None = None,
    damping: float = 0.3,
    tol: float = 1e-10,
    max_iter: int = 5000,
) -> ReferenceSolution:
    """Solve one point by damped iteration of all order parameters with ``scipy.integrate.quad``.

    The slow and simple route of a research notebook: every expectation, over z and over k, is one
    adaptive quadrature; V1, V2, m, theta, psi, q1, q2 are updated together until none moves by
    more than `tol` (relative). Formulas as printed in THEORY sections 3 to 6, none rearranged.
    Needs lam > 0, well away from the interpolation threshold if lam is small; accurate to about
    ten times `tol`.

    Parameters
    ----------
    activation, target, r, c, gamma, beta, alpha, lam, noise, d
        As in `solve`, but numbers only.
    damping : float
        Share of the old value kept in each update, 0 to 1.
    tol : float
        Relative change at which the iteration stops.
    max_iter : int
        Iterations allowed.

    Returns
    -------
    ReferenceSolution
        With zero-dimensional fields.

    Examples
    --------
    >>> point = {"r": 0.5, "c": 1.0, "gamma": 1.0, "beta": 2.0, "alpha": 1.5, "lam": 1.0}
    >>> sol = solve_notebook("linear", "linear", **point, tol=1e-6)
    >>> abs(float(sol.test_error)) < 1e-8  # the free mean component alone fits this target
    True
    """
    from scipy.integrate import quad

    sigma, star = function_of(activation), function_of(target)
    rho = math.sqrt(1.0 - gamma**2)
    spread = math.sqrt(c)
    a_ratio = alpha / beta

    def expect(f: Callable[[float], float], kinks: Sequence[float], width: float = 1.0) -> float:
        points = sorted(x + s * width for x in kinks for s in (-8, -2, 0, 2, 8))
        points = [x for x in points if -10.0 < x < 10.0] or [0.0]
        value, _ = quad(
            lambda z: f(z) * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi),
            -10.0,
            10.0,
            points=sorted(set(points)),
            epsabs=1e-13,
            epsrel=1e-12,
            limit=500,
        )
        return float(value)

    @cache
    def given(k: float) -> tuple[float, float, float, float, float, float]:
        inner = [(kink - r * k) / spread for kink in sigma.kinks]

        def s(z: float) -> float:
            return float(sigma.value(np.asarray(r * k + spread * z)))

        mu0 = expect(s, inner, 0.25)
        mu1 = expect(lambda z: z * s(z), inner, 0.25)
        mu2 = expect(lambda z: (s(z) - mu0 - mu1 * z) ** 2, inner, 0.25)
        if rho == 0.0:
            y = float(star.value(np.asarray(gamma * k)))
            return mu0, mu1, mu2, y, 0.0, y * y + noise
        outer = [(kink - gamma * k) / rho for kink in star.kinks]

        def t(z: float) -> float:
            return float(star.value(np.asarray(gamma * k + rho * z)))

        h = expect(t, outer, 0.25)
        h1 = expect(lambda z: z * t(z), outer, 0.25)
        return mu0, mu1, mu2, h, h1, expect(lambda z: t(z) ** 2, outer, 0.25) + noise

    kinks_k = [kink / r for kink in sigma.kinks] if r != 0.0 else []
    kinks_k += [kink / gamma for kink in star.kinks] if gamma != 0.0 else []
    width = min(spread / abs(r) if r else 1.0, rho / abs(gamma) if gamma and rho else 1.0, 1.0)

    def average(f: Callable[..., float]) -> float:
        return expect(lambda k: f(k, *given(k)), kinks_k, width)

    size = average(lambda k, mu0, mu1, mu2, h, h1, hh: mu0 * mu0 + mu1 * mu1 + mu2)
    no_mean = average(lambda k, mu0, mu1, mu2, h, h1, hh: mu0 * mu0) < 1e-24 * size
    v1 = v2 = 1.0 / lam
    m = theta = psi = 0.0
    q1 = q2 = 1.0
    change = math.inf
    steps = 0
    while change > tol:
        steps += 1
        if steps > max_iter:
            raise ValueError(f"no convergence in {max_iter} iterations: last change {change:.1e}")

        def w(mu1: float, mu2: float, v1: float = v1, v2: float = v2) -> float:
            return 1.0 / (1.0 + mu1 * mu1 * v1 + mu2 * v2)

        def loss(
            k: float, mu0: float, mu1: float, h: float, h1: float, hh: float,
            m: float = m, theta: float = theta, psi: float = psi,
        ) -> float:  # fmt: skip
            mean = mu0 * m + mu1 * k * theta
            return hh + mean * mean - 2.0 * mean * h - 2.0 * mu1 * psi * h1

        vh1 = a_ratio * average(lambda k, mu0, mu1, mu2, h, h1, hh: mu1**2 * w(mu1, mu2))
        vh2 = a_ratio * average(lambda k, mu0, mu1, mu2, h, h1, hh: mu2 * w(mu1, mu2))
        spectrum = _bulk_by_quadrature(lam + vh2, vh1, beta)
        g00 = average(lambda k, mu0, mu1, mu2, h, h1, hh: mu0**2 * w(mu1, mu2))
        g01 = average(lambda k, mu0, mu1, mu2, h, h1, hh: mu0 * mu1 * k * w(mu1, mu2))
        g11 = average(lambda k, mu0, mu1, mu2, h, h1, hh: (mu1 * k) ** 2 * w(mu1, mu2))
        y0 = average(lambda k, mu0, mu1, mu2, h, h1, hh: mu0 * h * w(mu1, mu2))
        y1 = average(lambda k, mu0, mu1, mu2, h, h1, hh: k * mu1 * h * w(mu1, mu2))
        psi_hat = a_ratio * average(lambda k, mu0, mu1, mu2, h, h1, hh: h1 * mu1 * w(mu1, mu2))
        gain = alpha * spectrum["1/S"]
        g00 += 0.0 if d is None else 1.0 / (gain * d)
        new_m = 0.0
        if not no_mean:
            det = g00 * (1.0 + gain * g11) - gain * g01**2
            new_m = (y0 * (1.0 + gain * g11) - gain * g01 * y1) / det
        new_theta = gain * (y1 - g01 * new_m) / (1.0 + gain * g11)
        theta_hat = a_ratio * (y1 - g01 * new_m - g11 * new_theta)
        new_psi = beta * spectrum["D/S"] * psi_hat

        def risk(
            k: float, mu0: float, mu1: float, mu2: float, h: float, h1: float, hh: float,
            q1: float = q1, q2: float = q2, loss: Callable[..., float] = loss,
        ) -> float:  # fmt: skip
            return loss(k, mu0, mu1, h, h1, hh) + mu1**2 * q1 + mu2 * q2

        n1 = beta * psi_hat**2 + a_ratio * average(
            lambda *x: x[2] ** 2 * risk(*x) * w(x[2], x[3]) ** 2
        )
        n2 = beta * theta_hat**2 + a_ratio * average(
            lambda *x: x[3] * risk(*x) * w(x[2], x[3]) ** 2
        )
        if d is not None:
            n2 += new_m**2 / (beta * d * spectrum["1/S"] ** 2)
        new_q1 = spectrum["D2/S2"] * n1 + spectrum["D/S2"] * n2
        new_q2 = spectrum["D/S2"] * n1 + spectrum["1/S2"] * n2
        old = np.array([v1, v2, m, theta, psi, q1, q2])
        new = np.array(
            [spectrum["D/S"], spectrum["1/S"], new_m, new_theta, new_psi, new_q1, new_q2]
        )
        change = float(np.max(np.abs(new - old) / (np.abs(new) + 1e-12)))
        v1, v2, m, theta, psi, q1, q2 = (damping * old + (1.0 - damping) * new).tolist()

    test = average(lambda *x: risk(*x)) - noise
    train = average(lambda *x: risk(*x) * w(x[2], x[3]) ** 2)
    work = average(
        lambda k, mu0, mu1, mu2, h, h1, hh: (
            w(mu1, mu2) * (hh - (mu0 * m + mu1 * k * theta) * h - h1 * mu1 * psi)
        )
    )
    values = (test, train, m, theta, psi, q1, q2, v1, v2, change)
    energy = abs(train + lam / a_ratio * q2 - work) / abs(work)
    arrays = [np.array(x) for x in (*values, energy, steps)]
    return ReferenceSolution(*arrays)


def _bulk_by_quadrature(a: float, b: float, beta: float) -> dict[str, float]:
    """Return spectral averages with S = a + b D by integrating the density of D itself."""
    from scipy.integrate import quad

    low, high = (1.0 - math.sqrt(beta)) ** 2, (1.0 + math.sqrt(beta)) ** 2
    atom = max(0.0, 1.0 - 1.0 / beta)  # D = 0 for the p - d directions outside the row space

    def average(power: int, order: int) -> float:
        # x = centre - radius cos(t): the square-root edges become sin^2, smooth and periodic
        def f(t: float) -> float:
            x = 0.5 * (low + high) - 0.5 * (high - low) * math.cos(t)
            density = (0.5 * (high - low) * math.sin(t)) ** 2 / (2.0 * math.pi * beta)
            return density * x ** (power - 1) / (a + b * x) ** order

        value, _ = quad(f, 0.0, math.pi, epsabs=0.0, epsrel=1e-12, limit=500)
        return float(value) + (atom / a**order if power == 0 else 0.0)

    return {
        "1/S": average(0, 1),
        "D/S": average(1, 1),
        "1/S2": average(0, 2),
        "D/S2": average(1, 2),
        "D2/S2": average(2, 2),
    }


# -------------------------------------------------------------- equivalence map, bounds, predictor


@public
def equivalent(
    activation: str | Function | Scalar,
    target: str | Function | Scalar,
    eta: float,
    alpha0: float,
    noise: float = 0.0,
) -> tuple[float, float, float]:
    """Return (r, c, gamma) equivalent to one gradient step (all readouts 1).

    THEORY section 10, any activation with a derivative; for an odd one this is CPD24's map.

    Parameters
    ----------
    activation, target : str, Function or callable
        sigma, whose `Function.derivative` must be known, and sigma*.
    eta : float
        Normalised learning rate.
    alpha0 : float
        Samples of the step over dimension, 0 (no step) to inf.
    noise : float
        Variance of the label noise.

    Returns
    -------
    r, c, gamma : float
        gamma is 0 by convention where it is irrelevant (no step).

    Examples
    --------
    >>> r, c, gamma = equivalent("linear", "linear", eta=2.0, alpha0=1.0, noise=0.5)
    >>> print(f"{r:.6f} {c:.6f} {gamma:.6f}")  # r = 2 sqrt(1.5 + 1)
    3.162278 1.000000 0.632456
    """
    sigma, star = function_of(activation), function_of(target)
    slope = sigma.derivative
    if slope is None:
        raise ValueError(
            "the activation needs a derivative: pass Function(value, kinks, derivative)"
        )
    if not (alpha0 >= 0 and noise >= 0):
        raise ValueError(f"need alpha0 >= 0 and noise >= 0, got {alpha0=}, {noise=}")
    if alpha0 == 0.0 or eta == 0.0:
        return 0.0, 1.0, 0.0
    h0 = gaussian_mean(sigma.value, sigma.kinks)
    h1 = gaussian_mean(slope, sigma.kinks)
    h2 = gaussian_mean(lambda z: z * (slope(z) - h1), sigma.kinks)
    var = gaussian_mean(lambda z: (slope(z) - h1) ** 2, sigma.kinks)  # h2^2 + hc1
    scale = math.sqrt(gaussian_mean(lambda z: slope(z) ** 2, sigma.kinks))
    h2 = 0.0 if abs(h2) < 1e-12 * scale else h2
    u_mean = gaussian_mean(star.value, star.kinks) - h0
    u2 = gaussian_mean(lambda t: (star.value(t) - h0) ** 2, star.kinks) + noise
    h1_star = gaussian_mean(lambda t: t * star.value(t), star.kinks)
    a = 1.0 + eta * h2 * u_mean
    length = math.hypot(h1_star, math.sqrt(u2 / alpha0))
    if length == 0.0:
        return 0.0, a * a, 0.0
    return eta * h1 * length, a * a + eta**2 * var * u2 / alpha0, h1_star / length


@public
def linear_floor(target: str | Function | Scalar) -> float:
    """Return the linear floor, Var sigma* - E[z sigma*]^2 (THEORY section 1).

    Examples
    --------
    >>> round(linear_floor("sign"), 12) == round(1 - 2 / math.pi, 12)
    True
    """
    star = function_of(target)
    mean = gaussian_mean(star.value, star.kinks)
    slope = gaussian_mean(lambda z: z * star.value(z), star.kinks)
    return gaussian_mean(lambda z: (star.value(z) - mean - slope * z) ** 2, star.kinks)


@dataclass(frozen=True)
class Bounds:
    """Bounds of the test error over all alpha, beta and lam at d = inf, and their minimisers.

    ``lower`` is the least error of m mu0 + mu1 (k theta + psi z), ``upper`` that of ``m_upper``
    mu0 alone.
    """

    lower: float
    upper: float
    m: float
    theta: float
    psi: float
    m_upper: float


@public
def bounds(
    activation: str | Function | Scalar,
    target: str | Function | Scalar,
    *,
    r: float,
    c: float,
    gamma: float,
    density: int = 1,
) -> Bounds:
    """Return the bounds of CPD24 Figure 3 (THEORY section 6) by weighted least squares.

    Columns are scaled to unit norm, then the SVD is cut at 1e-10.

    Parameters
    ----------
    activation, target, r, c, gamma, density
        As in `solve`.

    Examples
    --------
    >>> b = bounds("tanh", "sin", r=0.9, c=1.0, gamma=1.0)
    >>> round(b.lower, 8), round(b.upper, 8)
    (0.00166905, 0.0291049)
    """
    weight, table, _ = table_of(
        function_of(activation),
        function_of(target),
        float(r),
        float(c),
        float(gamma),
        density,
        12.0,
    )
    root = np.sqrt(weight.astype(float))

    def fit(*columns: Array) -> tuple[list[float], float]:
        design = np.stack([root * x for x in columns], axis=1)
        norm = np.sqrt(np.sum(design**2, axis=0))
        norm[norm == 0] = 1.0
        x = np.linalg.lstsq(design / norm, root * table.h, rcond=1e-10)[0]
        return (x / norm).tolist(), float(np.sum((root * table.h - design / norm @ x) ** 2))

    rest = float(np.sum(weight * table.hv))
    (m, theta), miss = fit(table.mu0, table.k * table.mu1)
    (m_upper,), miss_upper = fit(table.mu0)
    power = float(np.sum(weight * table.mu1**2))
    psi = float(np.sum(weight * table.h1 * table.mu1)) / power if power > 0 else 0.0
    orthogonal = float(np.sum(weight * (table.h1 - psi * table.mu1) ** 2))
    unlearned = float(np.sum(weight * table.h1**2))
    return Bounds(rest + miss + orthogonal, rest + miss_upper + unlearned, m, theta, psi, m_upper)


@public
def learned_function(
    activation: str | Function | Scalar,
    *,
    r: float,
    c: float,
    gamma: float,
    m: float,
    theta: float,
    psi: float,
    t: ArrayLike,
    density: int = 1,
) -> Array:
    """Return the mean predictor at theta.x/sqrt(d) = t (CPD24 Figure 1, THEORY section 6).

    f(t) = E_g[mu0(k) m + mu1(k) (k theta + psi (rho t - gamma g))], k = gamma t + rho g, g
    standard normal.

    Parameters
    ----------
    activation, r, c, gamma, density
        As in `solve`.
    m, theta, psi : float
        Order parameters of a solution.
    t : array_like
        Where to evaluate.

    Returns
    -------
    ndarray
        Of the shape of `t`.

    Examples
    --------
    For a linear activation the predictor is linear: slope m r gamma + sqrt(c) (theta gamma + psi
    rho).

    >>> order = {"m": 1.0, "theta": 2.0, "psi": 3.0}
    >>> f = learned_function("linear", r=0.5, c=1.0, gamma=0.6, **order, t=[0.0, 1.0])
    >>> np.round(f + 1e-15, 12).tolist()
    [0.0, 3.9]
    """
    sigma = function_of(activation)
    rho = math.sqrt((1.0 - gamma) * (1.0 + gamma))
    points = np.asarray(t, float)
    out = np.empty(points.size)
    for i, ti in enumerate(points.ravel()):
        if rho == 0.0:
            g, weight = np.zeros(1), np.ones(1)
        else:
            turn = abs(r) * rho
            base = min(0.5, 0.5 * max(1.0, math.sqrt(c)) / turn if turn > 0 else 0.5) / density
            centres = [
                ((kink / r - gamma * ti) / rho, math.sqrt(c) / turn / density)
                for kink in (sigma.kinks if turn > 0 else ())
            ]
            g, weight = gauss_nodes(panel_edges(centres, base, Z_MAX), K_ORDER)
            weight /= weight.sum()
        k = gamma * ti + rho * g
        mu0, mu1, _ = conditional(sigma, r * k, math.sqrt(c), density)
        value = mu0 * m + mu1 * (k * theta + psi * (rho * ti - gamma * g))
        out[i] = np.sum(weight * value)
    return out.reshape(points.shape)
