"""Several spikes and targets of several directions, isotropic bulk (THEORY section 13)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx._validation import public
from srfx.reference._groups import SpikedBulk, misfit
from srfx.reference._spiked import (
    BASE,
    K_ORDER,
    Z_MAX,
    conditional,
    gauss_nodes,
    panel_edges,
)
from srfx.reference._system import (
    SystemSolution,
    Table,
    as_function,
    groups_of,
    second_hermite,
    solve_system,
)
from srfx.reference._targets import Directions, directions_of, given_k, hermite, levels_of, nested

Array = NDArray[Any]


@dataclass(frozen=True)
class Spikes:
    """R (K x q), c_g and pi_g of the groups, Gamma (L x q), A with A A^T = I - Gamma Gamma^T."""

    R: Array
    c: Array
    pi: Array
    gamma: Array
    a: Array


def root_of(gamma: Array) -> Array:
    """Return A of section 13: eigenvectors times root eigenvalues, those below 1e-12 dropped."""
    values, vectors = np.linalg.eigh(np.eye(len(gamma)) - gamma @ gamma.T)
    keep = values > 1e-12
    return np.asarray(vectors[:, keep] * np.sqrt(values[keep]))


def spikes_of(model: Any) -> Spikes:
    """Return the spikes of a model, turned to the row space of R."""
    given = getattr(model, "spikes", None)
    if given is None:
        values, pi = groups_of(model)
        R = float(model.r) * values[:, None]
        c = 1.0 + values**2 * (float(model.c) - 1.0)
        gamma = np.asarray(model.gamma, float).reshape(-1, 1)
    else:
        R, gamma = float(model.r) * np.asarray(given, float), np.asarray(model.alignment, float)
        weights = np.ones(len(R)) if model.weights is None else np.asarray(model.weights, float)
        pi = weights / weights.sum()
        own = getattr(model, "variances", None)
        c = np.full(len(R), float(model.c)) if own is None else np.asarray(own, float)
    return turned(R, c, pi, gamma)


def turned(R: Array, c: Array, pi: Array, gamma: Array) -> Spikes:
    """Turn the spikes to the row space of R."""
    if R.shape[1] > 1:
        _, size, rows = np.linalg.svd(R, full_matrices=False)
        keep = rows[: max(1, int(np.sum(size > 1e-10 * max(size[0], 1e-300))))].T
        R, gamma = R @ keep, gamma @ keep
    return Spikes(R, c, pi, gamma, root_of(gamma))


def _nodes(spikes: Spikes, kinks: tuple[float, ...], star: Directions, density: float) -> Any:
    """Return the rule in k: nodes (q, n) and node weights."""
    q = spikes.R.shape[1]
    planes = np.hstack(
        [star.planes[:, :-1] @ np.hstack([spikes.gamma, spikes.a]), star.planes[:, -1:]]
    )
    if q > 1 and len(planes) == 0:
        if q == 2 and np.linalg.norm(spikes.R, axis=1).max() > 2:  # 1/w has zeros near the reals
            return nested(np.zeros((0, 3)), q, round(23 * density), 12)
        return hermite(round({2: 96, 3: 28}[q] * density), q)
    outer = levels_of(planes, q + spikes.a.shape[1])
    if q > 1:
        found = [np.delete(edges, np.s_[q:-1], axis=1) for edges in outer[:q]]
        return nested(np.concatenate(found), q, max(1, round(6 * density)), 12)
    base, centres = 0.5, []
    for (r,), c in zip(spikes.R, spikes.c, strict=True):
        if r != 0.0:
            scale = math.sqrt(c) / abs(r)
            centres += [(kink / r, scale / density) for kink in kinks]
            base = min(base, BASE * scale)
    for plane in planes:
        if abs(plane[0]) > 1e-12:
            scale = float(np.linalg.norm(plane[1:-1])) / abs(plane[0])
            centres.append((plane[-1] / plane[0], scale / density if scale > 0 else math.inf))
    centres += [(float(plane[-1] / plane[0]), math.inf) for plane in outer[0]]
    k, p = gauss_nodes(panel_edges(centres, base / density, Z_MAX), K_ORDER)
    return k[None], p / p.sum()


def table_of_spikes(
    sigma: Any, star: Directions, spikes: Spikes, density: float = 1, own_bulk: bool = False
) -> Table:
    """Return the coefficients of every group on one rule in k (sections 2 and 13).

    `own_bulk`: the convention of section 9, and mu_c.
    """
    k, p = _nodes(spikes, sigma.kinks, star, density)
    rows = []
    for strength, c in zip(spikes.R, spikes.c, strict=True):
        mean, sd = strength @ k, math.sqrt(c)
        mu0, mu1, u2 = conditional(sigma, mean, sd, density)
        second = float(np.sum(p * (mu0**2 + mu1**2 + u2)))
        if np.max(np.abs(mu0)) < 1e-13 * math.sqrt(second):
            mu0 = np.zeros_like(mu0)
        if float(np.sum(p * u2)) < 1e-28 * second:
            u2 = np.zeros_like(u2)
        mu_c = np.zeros_like(mu0)
        if own_bulk:
            mu1, mu_c = mu1 / sd, second_hermite(sigma, mean, sd, density) / (2.0 * c)
        rows.append((mu0, mu1, u2, mu_c))
    mu0, mu1, u2, mu_c = (np.stack([row[i] for row in rows]) for i in range(4))
    h, h1, hv = given_k(star, spikes.gamma, spikes.a, k, density)
    return Table(k, p, mu0, mu1, u2, mu_c, h, h1, hv)


def solve_table(
    t: Table, spikes: Spikes, model: Any, alpha: float, lam: float, d: float | None
) -> SystemSolution:
    """Solve section 13 from coefficients."""
    pi = spikes.pi
    bulk = SpikedBulk(float(model.beta), pi, d, len(t.k), len(t.h1))
    return solve_system(
        t, bulk, (np.diag(pi) / lam, pi / lam), alpha=float(alpha), beta=float(model.beta),
        lam=float(lam), noise=float(model.noise), unit=np.ones(pi.size),
    )  # fmt: skip


@public
def solve_spikes(
    model: Any, alpha: float, lam: float, d: float | None = None, *, density: int = 1
) -> SystemSolution:
    """Solve a model with several spikes or a target of several directions (THEORY section 13).

    Parameters
    ----------
    model : srfx.SpikedRF or anything with its attributes
        activation, target, r, c, beta, noise, weights, and spikes, alignment, variances or readout
        and gamma (one number for each direction); numbers only.
    alpha, lam : float
        Sample complexity and ridge, both > 0.
    d : float or None
        Input dimension; None is the limit.
    density : int
        Multiplies the panels and nodes of every rule.

    Returns
    -------
    SystemSolution
        ``theta`` has a row for each spike left after turning to the row space of R, ``psi`` one for
        each z; ``chi`` is zero.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> model = SimpleNamespace(
    ...     activation="tanh", target=Directions(lambda a, b: np.tanh(a) + a * b, 2,
    ...     np.zeros((0, 3))), r=1.2, c=1.0, gamma=(0.6, -0.7), beta=1.5, noise=0.1,
    ...     readout=(1.0,), weights=None)
    >>> print(f"{solve_spikes(model, alpha=1.5, lam=0.1).test_error:.8f}")
    1.44317136
    """
    sigma, star = as_function(model.activation), directions_of(model.target)
    spikes = spikes_of(model)
    t = table_of_spikes(sigma, star, spikes, density)
    return solve_table(t, spikes, model, alpha, lam, d)


@public
def bounds_spikes(model: Any, *, density: int = 1, cutoff: float = 1e-10) -> tuple[float, float]:
    """Return the lower and the upper bound of the test error (THEORY section 13), noise-free.

    Columns are scaled, singular values cut at `cutoff`.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> spike = dict(r=0.9, c=1.0, gamma=1.0, readout=(1.0,), weights=None)
    >>> lower, upper = bounds_spikes(SimpleNamespace(activation="tanh", target="sin", **spike))
    >>> print(f"{lower:.8f} {upper:.8f}")
    0.00166905 0.02910490
    """
    spikes = spikes_of(model)
    t = table_of_spikes(as_function(model.activation), directions_of(model.target), spikes, density)

    def miss(columns: Array, values: Array) -> float:
        return misfit(columns, values, t.p, cutoff)

    own = (t.k[:, None] * t.mu1).reshape(-1, t.p.size)
    rest = float(np.sum(t.p * t.hv))
    lower = rest + miss(np.concatenate([t.mu0, own]), t.h) + sum(miss(t.mu1, x) for x in t.h1)
    slopes = float(np.sum(t.p * np.sum(t.h1**2, axis=0)))
    return lower, rest + slopes + miss(t.mu0, t.h)


@public
def learned_function_spikes(
    model: Any, solution: SystemSolution, t: ArrayLike, *, nodes: int = 60
) -> Array:
    """Return the mean predictor at t, of shape (..., L) (THEORY section 13).

    Parameters
    ----------
    model : srfx.SpikedRF or anything with its attributes
        As in `solve_spikes`.
    solution : SystemSolution
        Of `solve_spikes` for that model.
    t : array of shape (..., L)
        Where to evaluate.
    nodes : int
        Of Gauss and Hermite's rule, for each spike.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> model = SimpleNamespace(
    ...     activation="tanh", target=Directions(lambda a, b: np.sin(a), 2, np.zeros((0, 3))),
    ...     r=1.0, c=1.0, gamma=(0.9, 0.0), beta=1.0, noise=0.0, readout=(1.0,), weights=None)
    >>> f = learned_function_spikes(model, solve_spikes(model, 1.5, 0.1), [[1.0, 0.5], [-1.0, 2]])
    >>> bool(abs(f[0] + f[1]) < 1e-12)
    True
    """
    spikes, sigma = spikes_of(model), as_function(model.activation)
    q, count = spikes.R.shape[1], spikes.pi.size
    points = np.asarray(t, float)
    flat = points.reshape(-1, len(spikes.gamma)).T
    values, vectors = np.linalg.eigh(np.eye(q) - spikes.gamma.T @ spikes.gamma)
    spread = vectors * np.sqrt(np.maximum(values, 0.0))
    g, p = hermite(nodes, q)
    k = (spikes.gamma.T @ flat)[..., None] + (spread @ g)[:, None]  # (q, points, nodes)
    rest = flat[..., None] - np.tensordot(spikes.gamma, k, axes=(1, 0))
    z = np.tensordot(np.linalg.pinv(spikes.a), rest, axes=(1, 0))
    m = np.atleast_1d(solution.m)
    theta, psi = (np.asarray(x).reshape(-1, count) for x in (solution.theta, solution.psi))
    out = np.zeros(k.shape[1:])
    for i in range(count):
        mean = np.tensordot(spikes.R[i], k, axes=(0, 0))
        mu0, mu1, _ = conditional(sigma, mean.ravel(), math.sqrt(spikes.c[i]), 1)
        linear = np.tensordot(theta[:, i], k, axes=(0, 0)) + np.tensordot(psi[:, i], z, axes=(0, 0))
        out += mu0.reshape(mean.shape) * m[i] + mu1.reshape(mean.shape) * linear
    return np.asarray(out @ (p / p.sum())).reshape(points.shape[:-1])
