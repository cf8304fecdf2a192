"""The system that sections 3 to 5, 7, 9, 10 and 13 to 15 of THEORY share, with K groups.

What differs is the bulk: a function of (Vh1, A), K x K and K, that returns V1 (K x K), V2 (K) and
the response matrices of the features. Here: Newton's method on V, the linear part, the errors.
Every derivative of the bulk is a complex step, exact to rounding: bulks accept complex arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from srfx.reference._spiked import (
    BASE,
    K_ORDER,
    Z_MAX,
    Z_ORDER,
    Function,
    conditional,
    function_of,
    gauss_nodes,
    panel_edges,
)

Array = NDArray[Any]
STEP = 1e-30  # of complex-step derivatives, in units of the argument


def as_function(f: Any) -> Function:
    """Return what a name, a `Function`, a callable or an object with ``fn`` and ``kinks`` means."""
    if hasattr(f, "fn"):
        return Function(f.fn, tuple(f.kinks), f.derivative)
    return function_of(f)


def groups_of(model: Any) -> tuple[Array, Array]:
    """Return the readout values a_g and their probabilities pi_g of a model."""
    a = np.atleast_1d(np.asarray(model.readout, float))
    given = model.weights
    weights = np.ones(a.size) if given is None else np.atleast_1d(np.asarray(given, float))
    return a, weights / weights.sum()


def jacobian(f: Callable[[Array], Array], x: Array) -> Array:
    """Return df_i/dx_j at real `x` by complex steps; `f` is real-analytic."""
    columns = []
    for j in range(x.size):
        step = STEP * max(abs(float(x[j])), 1e-100)
        moved = x.astype(complex)
        moved[j] += 1j * step
        columns.append(f(moved).imag / step)
    return np.stack(columns, axis=1)


def newton(
    f: Callable[[Array], Array], x: Array, positive: int, max_iter: int = 80
) -> tuple[Array, bool]:
    """Return a root of `f` near real `x` and whether it converged.

    The first `positive` unknowns stay positive: steps are halved until they do and until the
    residual, relative to no unit, stops growing wildly.
    """
    extra = 2
    value = f(x)
    for _ in range(max_iter):
        step = np.linalg.solve(jacobian(f, x), value)
        size = 1.0
        size_of = float(np.max(np.abs(value)))
        while True:
            trial = x - size * step
            if np.all(trial[:positive] > 0):
                new = f(trial)
                if np.all(np.isfinite(new)) and np.max(np.abs(new)) <= 2.0 * size_of + 1e-13:
                    break
            size *= 0.5
            if size < 1e-12:
                return x, False
        x, value = trial, new
        if float(np.max(np.abs(value))) < 1e-12:
            extra -= 1
            if extra == 0:
                return x, True
    return x, bool(np.max(np.abs(value)) < 1e-10)


def follow(f: Callable[[Array], Array], at_real: Array, slope: Array) -> Array:
    """Return the root of `f`, whose parameters have infinitesimal imaginary parts.

    `at_real` is the root at their real parts, `slope` the Jacobian there: a chord step is exact.
    """
    x = at_real.astype(complex)
    for _ in range(2):
        x = x - np.linalg.solve(slope, f(x))
    return x


# ------------------------------------------------------------------------------------ coefficients


@dataclass(frozen=True)
class Table:
    """Coefficients on the nodes k of one rule; group axis first, nodes last.

    ``mu1`` in the convention of section 9 if the bulk has its mean c in Omega (divided by
    sqrt(c)), and ``mu_c`` the response to a row norm. With several spikes ``k`` has one row each,
    with several orthogonal directions z of the target ``h1`` has (section 13).
    """

    k: Array
    p: Array
    mu0: Array
    mu1: Array
    u2: Array
    mu_c: Array
    h: Array
    h1: Array
    hv: Array


def second_hermite(f: Function, mean: Array, sd: float, density: float) -> Array:
    """Return E_z (z^2 - 1) f(mean + sd z)."""
    count = math.ceil(2 * Z_MAX * density * max(1.0, sd))
    grid = np.linspace(-Z_MAX, Z_MAX, count + 1)
    kinks = np.asarray(f.kinks, float)
    out = np.empty(mean.size)
    chunk = max(1, 2_000_000 // ((count + kinks.size) * Z_ORDER))
    for i in range(0, mean.size, chunk):
        centre = mean[i : i + chunk, None]
        own = np.clip((kinks - centre) / sd, -Z_MAX, Z_MAX)
        edges = np.concatenate([np.broadcast_to(grid, (centre.shape[0], grid.size)), own], axis=1)
        z, weight = gauss_nodes(np.sort(edges, axis=1), Z_ORDER)
        weight /= weight.sum(axis=1, keepdims=True)
        value = np.asarray(f.value(centre + sd * z), float)
        value = value - np.sum(weight * value, axis=1, keepdims=True)
        out[i : i + chunk] = np.sum(weight * (z * z - 1.0) * value, axis=1)
    return out


def table(
    sigma: Function,
    star: Function,
    r: Array,
    c: Array,
    gamma: float,
    density: float = 1,
    own_bulk: bool = False,
    order: int = K_ORDER,
) -> Table:
    """Return the coefficients of every group (r_g, c_g) on one rule in k.

    `own_bulk`: the convention of section 9, and mu_c. `order`: nodes in a panel.
    """
    rho = math.sqrt(max(0.0, (1.0 - gamma) * (1.0 + gamma)))
    centres: list[tuple[float, float]] = []
    base = 0.5
    for rg, cg in zip(r, c, strict=True):
        if rg != 0.0:
            scale = math.sqrt(cg) / abs(rg)
            centres += [(kink / rg, scale / density) for kink in sigma.kinks]
            base = min(base, BASE * scale)
    if gamma != 0.0:
        for kink in star.kinks:
            scale = rho / abs(gamma) / density
            centres.append((kink / gamma, scale if scale > 0.0 else math.inf))
    k, p = gauss_nodes(panel_edges(centres, base / density, Z_MAX), order)
    p = p / p.sum()
    rows = []
    for rg, cg in zip(r, c, strict=True):
        mu0, mu1, u2 = conditional(sigma, rg * k, math.sqrt(cg), density)
        second = float(np.sum(p * (mu0**2 + mu1**2 + u2)))
        if np.max(np.abs(mu0)) < 1e-13 * math.sqrt(second):
            mu0 = np.zeros_like(mu0)
        if float(np.sum(p * u2)) < 1e-28 * second:
            u2 = np.zeros_like(u2)
        mu_c = np.zeros_like(k)
        if own_bulk:
            mu1 = mu1 / math.sqrt(cg)
            mu_c = second_hermite(sigma, rg * k, math.sqrt(cg), density) / (2.0 * cg)
        rows.append((mu0, mu1, u2, mu_c))
    mu0, mu1, u2, mu_c = (np.stack([row[i] for row in rows]) for i in range(4))
    h, h1, hv = conditional(star, gamma * k, rho, density)
    return Table(k, p, mu0, mu1, u2, mu_c, h, h1, hv)


# --------------------------------------------------------------------------------------- the bulk


@dataclass(frozen=True)
class Response:
    """What a bulk answers at (Vh1, A).

    ``v1`` (K x K), ``v2`` (K); ``k`` (3K x 3K): (theta, psi, chi) = k (theta-, psi-, chi-hats);
    ``k_mean`` (K x K) likewise for m, or None where m is free. Where m responds to the other hats
    too, ``k`` is (4K x 4K), of (theta, psi, chi, m), and ``k_mean`` None. With several spikes or
    directions the theta and the psi are several blocks of K.
    """

    v1: Array
    v2: Array
    k: Array
    k_mean: Array | None


class Bulk(Protocol):
    """A bulk of weights; arguments may have infinitesimal imaginary parts."""

    def averages(self, vh1: Array, a: Array) -> tuple[Array, Array]:
        """Return V1 and V2."""

    def response(self, vh1: Array, a: Array) -> Response:
        """Return V1, V2 and the responses of the features."""


@dataclass(frozen=True)
class SystemSolution:
    """One solved point.

    With one group the order parameters are floats; with K groups ``m``, ``theta``, ``psi``,
    ``chi``, ``q2``, ``v2`` are vectors and ``q1``, ``v1`` matrices. All are those of a bulk of unit
    variance (THEORY section 3), whatever the section they were computed from; ``chi``, the
    component along the row norms, has no such convention. Of several spikes ``theta`` has one row
    each, of several directions ``psi`` has one row for each z of section 13.

    Attributes
    ----------
    test_error, train_error : float
        Noise-free, and on the training set without the penalty (section 6).
    residual : float
        Undamped relative defect of (V1, V2) = map(V1, V2).
    energy : float
        Relative violation of the identity at the end of section 7.
    """

    test_error: float
    train_error: float
    m: Any
    theta: Any
    psi: Any
    chi: Any
    q1: Any
    q2: Any
    v1: Any
    v2: Any
    residual: float
    energy: float
    iterations: int


def solve_system(
    t: Table,
    bulk: Bulk,
    start: tuple[Array, Array],
    *,
    alpha: float,
    beta: float,
    lam: float,
    noise: float,
    unit: Array,
    max_iter: int = 400,
) -> SystemSolution:
    """Solve the whole system for one point; `unit` (K) is what mu1 was divided by."""
    if not (alpha > 0 and beta > 0 and lam > 0 and math.isfinite(alpha)):
        raise ValueError(f"need finite alpha > 0, beta > 0, lam > 0; got {alpha=}, {beta=}, {lam=}")
    count = t.mu1.shape[0]
    ratio = alpha / beta
    rows, columns = np.triu_indices(count)
    twice = np.where(rows == columns, 1.0, 2.0)
    k, h1 = np.atleast_2d(t.k), np.atleast_2d(t.h1)
    spikes, others = count * len(k), count * len(h1)  # how many theta and psi
    e = np.concatenate([t.mu1[rows] * t.mu1[columns], t.u2])  # packed: upper triangle, then u2
    ev = np.concatenate([twice[:, None] * e[: rows.size], t.u2])

    def unpack(x: Array) -> tuple[Array, Array]:
        matrix = np.zeros((count, count), x.dtype)
        matrix[rows, columns] = x[: rows.size]
        matrix[columns, rows] = x[: rows.size]
        return matrix, x[rows.size :]

    def pack(matrix: Array, vector: Array) -> Array:
        return np.concatenate([matrix[rows, columns], vector])

    def mapped(vh: Array) -> Array:
        vh1, vh2 = unpack(vh)
        return pack(*bulk.averages(vh1, lam + vh2))

    # ---- section 3: V
    v = pack(*start)
    extra = 3
    iterations = -1
    for _ in range(max_iter):
        iterations += 1
        w = 1.0 / (1.0 + v @ ev)
        vh = ratio * (e * t.p) @ w
        new = mapped(vh)
        scale = np.sqrt(np.abs(np.diag(unpack(new)[0])))
        size = pack(np.outer(scale, scale), np.abs(new[rows.size :])) + 1e-300
        residual = float(np.max(np.abs(new - v) / size))
        trace = -jacobian(mapped, vh)  # T, packed
        second = ratio * (e * (t.p * w**2)) @ ev.T  # M, packed
        newton_matrix = np.eye(v.size) - trace @ second
        extra -= residual < 1e-13
        if extra <= 0:
            break
        trial = v + np.linalg.solve(newton_matrix, new - v)
        v1, v2 = unpack(trial)
        good = bool(np.all(np.isfinite(trial)) and np.all(v2 > 0) and np.all(np.diag(v1) >= 0))
        good = good and bool(np.all(1.0 + trial @ ev > 0))
        good = good and float(np.min(np.linalg.eigvalsh(v1))) > -1e-12 * float(np.max(np.abs(v1)))
        v = trial if good else new
    if not residual < 1e-10:
        raise ValueError(f"no convergence: residual {residual:.1e} at {alpha=}, {beta=}, {lam=}")

    # ---- section 4: (theta, chi, m) as one least-squares problem, psi beside it
    vh1, vh2 = unpack(vh)
    at = bulk.response(vh1, lam + vh2)
    with_mean = at.k.shape[0] == spikes + others + 2 * count
    # theta and chi, and m where it is coupled
    joint = np.r_[0:spikes, spikes + others : at.k.shape[0]]
    several = joint.size
    middle = np.r_[spikes : spikes + others]  # psi
    psi_hat = (ratio * h1 @ (t.mu1 * (t.p * w)).T).ravel()
    offset = at.k[np.ix_(joint, middle)] @ psi_hat
    own = (k[:, None] * t.mu1).reshape(spikes, -1)
    features = np.concatenate([own, t.mu_c] + [t.mu0] * with_mean)
    k_joint = 0.5 * (at.k[np.ix_(joint, joint)] + at.k[np.ix_(joint, joint)].T)
    unit_k = np.sqrt(np.abs(np.diag(k_joint)))
    unit_k[unit_k == 0] = 1.0
    values: Array
    values, vectors = np.linalg.eigh(k_joint / np.outer(unit_k, unit_k))
    if np.min(values) < -1e-9 * np.max(values):
        raise ValueError("the response matrix of the features is not positive")
    values = np.maximum(values, 0.0)
    factor = unit_k[:, None] * vectors * np.sqrt(values)
    factor_m: Array
    if with_mean:  # among the features
        factor_m = np.zeros((count, 0))
    elif at.k_mean is None:  # free: combinations that the tables can tell apart
        rows_m = t.mu0 * np.sqrt(t.p)
        size_m = np.sqrt(np.sum(rows_m**2, axis=1))
        size_m[size_m == 0] = 1.0
        left, singular, _ = np.linalg.svd(rows_m / size_m[:, None], full_matrices=False)
        apart = singular > 1e-10 * singular[0]
        factor_m = left[:, apart] / singular[apart] / size_m[:, None]
    else:
        factor_m = np.linalg.cholesky(0.5 * (at.k_mean + at.k_mean.T))
    root = np.sqrt(ratio * t.p * w)
    design = np.concatenate([factor.T @ features, factor_m.T @ t.mu0]) * root
    ridge = np.eye(several + factor_m.shape[1])
    if at.k_mean is None:
        ridge = ridge[:several]
    matrix = np.concatenate([design.T, ridge])
    right = np.concatenate([root * (t.h - offset @ features), np.zeros(ridge.shape[0])])
    norm = np.sqrt(np.sum(matrix**2, axis=0))
    norm[norm == 0] = 1.0
    y = np.linalg.lstsq(matrix / norm, right, rcond=1e-15)[0] / norm
    x = offset + factor @ y[:several]
    theta, chi = x[:spikes], x[spikes : spikes + count]
    m = x[spikes + count :] if with_mean else factor_m @ y[several:]
    c_of_k = x @ features if with_mean else m @ t.mu0 + x @ features
    gap = t.h - c_of_k
    direct = ratio * (features * (t.p * w)) @ gap
    solid = values > 1e-10 * np.max(values)
    y_hat = y[:several] / np.sqrt(np.where(solid, values, 1.0))
    hat = np.zeros(at.k.shape[0])
    hat[joint] = vectors @ np.where(solid, y_hat, vectors.T @ (unit_k * direct)) / unit_k
    hat[middle] = psi_hat
    psi = (at.k @ hat)[middle]
    m_hat: Array = np.zeros(count)
    if at.k_mean is not None:
        m_hat = np.linalg.solve(factor_m.T, y[several:])

    # ---- Q
    def energy_of(x: Array) -> Array:
        matrix, vector = unpack(x)
        there = bulk.response(matrix, lam + vector)
        value = hat @ there.k @ hat
        if there.k_mean is not None:
            value = value + m_hat @ there.k_mean @ m_hat
        return np.asarray([value])

    source = -jacobian(energy_of, vh)[0]
    source[: rows.size] /= twice
    mixed = psi.reshape(len(h1), count) @ t.mu1
    linear = np.sum(h1**2, axis=0)
    r0 = noise + t.hv + gap**2 + linear - 2.0 * np.sum(h1 * mixed, axis=0)
    first = ratio * (e * (t.p * w**2)) @ r0
    q = np.linalg.solve(newton_matrix, trace @ first + source)
    risk = r0 + q @ ev
    train = float(np.sum(t.p * w**2 * risk))
    work = float(np.sum(t.p * w * (noise + t.hv + t.h * gap + linear - np.sum(h1 * mixed, axis=0))))
    stored = float(np.sum(t.p * w * (noise + t.hv + t.h**2 + linear)))
    q1, q2 = unpack(q)
    energy = abs(train + lam / ratio * float(np.sum(q2)) - work) / stored
    v1, v2 = unpack(v)
    square = np.outer(unit, unit)

    def out(x: Array) -> Any:
        return float(x.ravel()[0]) if count == 1 else x

    def rows_of(x: Array) -> Any:
        x = x.reshape(-1, count) / unit
        if t.k.ndim == 1:
            return out(x[0])
        return x[:, 0] if count == 1 else x

    return SystemSolution(
        float(np.sum(t.p * (risk - noise))),
        train,
        out(m), rows_of(theta), rows_of(psi), out(chi),
        out(q1 / square), out(q2), out(v1 / square), out(v2),
        residual,
        energy,
        iterations,
    )  # fmt: skip
