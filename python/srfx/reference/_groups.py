"""Readouts of several values on the spiked model (THEORY section 7), one point at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx._validation import public
from srfx.reference._spiked import K_ORDER, Z_MAX, conditional, gauss_nodes, panel_edges
from srfx.reference._system import (
    Response,
    SystemSolution,
    Table,
    as_function,
    follow,
    groups_of,
    jacobian,
    newton,
    solve_system,
    table,
)

Array = NDArray[Any]


class SpikedBulk:
    """The isotropic bulk with K groups: V2_g = pi_g / (A_g + Gam_gg), V1 = D - beta D Gam D."""

    def __init__(
        self, beta: float, pi: Array, d: float | None, spikes: int = 1, others: int = 1
    ) -> None:
        self.beta, self.pi, self.d = beta, pi, d
        self.spikes, self.others = spikes, others

    def _gamma(self, vh1: Array, v2: Array) -> Array:
        return np.asarray(np.linalg.solve(np.eye(v2.size) + self.beta * vh1 * v2[None, :], vh1))

    def _v2(self, vh1: Array, a: Array) -> Array:
        def defect(v2: Array, vh1: Array, a: Array) -> Array:
            return np.asarray(v2 * (a + np.diag(self._gamma(vh1, v2))) / self.pi - 1.0)

        h, b = vh1.real, a.real
        x = self.pi / (b + np.diag(h))  # from below
        for steps in (50, 500, 5000):
            for _ in range(steps):
                x = self.pi / (b + np.diag(self._gamma(h, x)))
            root, done = newton(lambda y: defect(y, h, b), x, positive=x.size)
            # sticking elsewhere than the plain iteration would lead is refused
            if done and np.all(root >= x * (1.0 - 1e-9)):
                break
        else:
            raise ValueError("V2 of section 7 did not converge")
        if not (np.iscomplexobj(vh1) or np.iscomplexobj(a)):
            return root
        slope = jacobian(lambda y: defect(y, h, b), root)
        return follow(lambda y: defect(y, vh1, a), root, slope)

    def averages(self, vh1: Array, a: Array) -> tuple[Array, Array]:
        v2 = self._v2(vh1, a)
        j = np.linalg.inv(np.eye(v2.size) + self.beta * vh1 * v2[None, :])
        return j.T * v2[None, :], v2

    def response(self, vh1: Array, a: Array) -> Response:
        v1, v2 = self.averages(vh1, a)
        count = v2.size
        blocks = [np.diag(v2)] * self.spikes + [v1] * self.others
        k = np.zeros(((len(blocks) + 1) * count,) * 2, v1.dtype)  # there is no last feature, delta
        for i, block in enumerate(blocks):
            own = slice(i * count, (i + 1) * count)
            k[own, own] = self.beta * block
        mean = None if self.d is None else self.beta * self.d * np.diag(v2)
        return Response(v1, v2, k, mean)


def _spikes(model: Any) -> tuple[Array, Array, Array]:
    """Return r_g, c_g and pi_g."""
    a, pi = groups_of(model)
    r, c = float(model.r) * a, 1.0 + a**2 * (float(model.c) - 1.0)
    if not np.all(c > 0):
        raise ValueError(f"every c_g = 1 + a_g^2 (c - 1) must be positive; got {c.tolist()}")
    return r, c, pi


def _tabulate(model: Any, density: int) -> tuple[Table, Array, Array]:
    r, c, pi = _spikes(model)
    sigma, star = as_function(model.activation), as_function(model.target)
    return table(sigma, star, r, c, float(model.gamma), density), c, pi


@public
def solve_groups(
    model: Any, alpha: float, lam: float, d: float | None = None, *, density: int = 1
) -> SystemSolution:
    """Solve the spiked model with readouts of several values at one point (THEORY section 7).

    Parameters
    ----------
    model : srfx.SpikedRF or anything with its attributes
        activation, target, r, c, gamma, beta, noise, readout, weights; numbers only.
    alpha, lam : float
        Sample complexity and ridge, both > 0.
    d : float or None
        Input dimension; None is the limit.
    density : int
        Multiplies the panels of every rule.

    Returns
    -------
    SystemSolution
        ``chi`` is zero.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> spike = dict(r=0.9, c=1.0, gamma=0.9, beta=1.0, noise=0.0)
    >>> groups = dict(readout=(1.0, 1.0), weights=(0.3, 0.7))  # equal values: one group
    >>> model = SimpleNamespace(activation="tanh", target="sin", **spike, **groups)
    >>> round(solve_groups(model, alpha=1.5, lam=0.1).test_error, 4)
    0.0827
    """
    t, c, pi = _tabulate(model, density)
    bulk = SpikedBulk(float(model.beta), pi, d)
    return solve_system(
        t, bulk, (np.diag(pi) / lam, pi / lam), alpha=float(alpha), beta=float(model.beta),
        lam=float(lam), noise=float(model.noise), unit=np.ones(c.size),
    )  # fmt: skip


def misfit(columns: Array, values: Array, weights: Array, cutoff: float) -> float:
    """Return the least mean square of values less a combination of columns, which are scaled."""
    root = np.sqrt(weights)
    design = (root * columns).T
    norm = np.sqrt(np.sum(design**2, axis=0))
    norm[norm == 0] = 1.0
    x = np.linalg.lstsq(design / norm, root * values, rcond=cutoff)[0]
    return float(np.sum((root * values - design / norm @ x) ** 2))


@public
def lower_bound_groups(model: Any, *, density: int = 1, cutoff: float = 1e-10) -> float:
    """Return the lower bound of the test error with K groups (THEORY sections 6 and 7).

    The least error of mu0.m + mu1.(k theta + psi z), columns scaled, singular values cut at
    `cutoff`.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> spike = dict(r=0.9, c=1.0, gamma=1.0, readout=(1.0,), weights=None)
    >>> model = SimpleNamespace(activation="tanh", target="sin", **spike)
    >>> f"{lower_bound_groups(model):.8f}"
    '0.00166905'
    """
    t, _, _ = _tabulate(model, density)
    fit = misfit(np.concatenate([t.mu0, t.k * t.mu1]), t.h, t.p, cutoff)
    return float(np.sum(t.p * t.hv)) + fit + misfit(t.mu1, t.h1, t.p, cutoff)


@public
def learned_function_groups(
    model: Any, solution: SystemSolution, t: ArrayLike, *, density: int = 1
) -> Array:
    """Return the mean predictor at theta.x/sqrt(d) = t, summed over groups (section 6).

    Parameters
    ----------
    model : srfx.SpikedRF or anything with its attributes
        As in `solve_groups`.
    solution : SystemSolution
        Of `solve_groups` for that model.
    t : array_like
        Where to evaluate.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> spike = dict(r=0.9, c=1.0, gamma=0.9, beta=1.0, noise=0.0, readout=(1.0,), weights=None)
    >>> model = SimpleNamespace(activation="tanh", target="sin", **spike)
    >>> f = learned_function_groups(model, solve_groups(model, 1.5, 0.1), [-1.0, 1.0])
    >>> bool(abs(f[0] + f[1]) < 1e-12)
    True
    """
    r, c, _ = _spikes(model)
    sigma = as_function(model.activation)
    gamma = float(model.gamma)
    rho = math.sqrt((1.0 - gamma) * (1.0 + gamma))
    order = [np.atleast_1d(x) for x in (solution.m, solution.theta, solution.psi)]
    points = np.asarray(t, float)
    out = np.zeros(points.size)
    for i, ti in enumerate(points.ravel()):
        for rg, cg, m, theta, psi in zip(r, c, *order, strict=True):
            g, weight = np.zeros(1), np.ones(1)
            if rho > 0.0:
                turn = abs(rg) * rho
                base = 0.5 if turn == 0.0 else min(0.5, 0.5 * math.sqrt(cg) / turn)
                kinks = sigma.kinks if turn > 0.0 else ()
                centres = [
                    ((kink / rg - gamma * ti) / rho, math.sqrt(cg) / turn / density)
                    for kink in kinks
                ]
                g, weight = gauss_nodes(panel_edges(centres, base / density, Z_MAX), K_ORDER)
                weight = weight / weight.sum()
            k = gamma * ti + rho * g
            mu0, mu1, _ = conditional(sigma, rg * k, math.sqrt(cg), density)
            value = mu0 * m + mu1 * (k * theta + psi * (rho * ti - gamma * g))
            out[i] += float(np.sum(weight * value))
    return out.reshape(points.shape)
