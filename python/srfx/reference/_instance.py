"""The errors of one given network (THEORY sections 9 f, 14, 15): its spectrum and overlaps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx._validation import public
from srfx.reference._spikes import root_of, table_of_spikes, turned
from srfx.reference._system import Response, SystemSolution, as_function, solve_system, table
from srfx.reference._targets import directions_of

Array = NDArray[Any]


class InstanceBulk:
    """Sums over the eigenvalues D of Omega = W Pi W^T.

    The columns of `u` are W v, W z (one for each z), delta and, where the mean pays its cost, 1,
    rotated.
    """

    def __init__(self, eigenvalues: Array, u: Array) -> None:
        self.eigenvalues, self.u = eigenvalues, u

    def averages(self, vh1: Array, a: Array) -> tuple[Array, Array]:
        s = a + vh1[0, 0] * self.eigenvalues
        return np.array([[np.mean(self.eigenvalues / s)]]), np.array([np.mean(1.0 / s)])

    def response(self, vh1: Array, a: Array) -> Response:
        s = a + vh1[0, 0] * self.eigenvalues  # K(A/B)/B = sum u u / (A + B D)
        return Response(*self.averages(vh1, a), self.u.T @ (self.u / s[:, None]), None)


def instance(
    w: ArrayLike, v: ArrayLike, theta: ArrayLike, *, mean: bool
) -> tuple[InstanceBulk, float, float, Array, float]:
    """Return the bulk of given weights, and their r, c, gamma and beta."""
    weights = np.asarray(w, float)
    spikes, stars = (np.atleast_2d(np.asarray(x, float)) for x in (v, theta))
    if weights.ndim != 2 or not spikes.shape[1] == stars.shape[1] == weights.shape[1]:
        raise ValueError(
            "need w (p, d), v (d,) or (q, d), theta (d,) or (L, d); got "
            f"{weights.shape}, {np.shape(v)}, {np.shape(theta)}"
        )
    if not (np.all(np.linalg.norm(spikes, axis=1)) and np.all(np.linalg.norm(stars, axis=1))):
        raise ValueError("v and theta must not vanish")
    p, d = weights.shape
    v_hat = spikes[0] / np.linalg.norm(spikes[0])
    if len(spikes) > 1:  # the mean row, as far as it lies in their span
        v_hat = np.linalg.pinv(spikes) @ (spikes @ weights.mean(axis=0))
        v_hat /= np.linalg.norm(v_hat)
    theta_hat = stars / np.linalg.norm(stars, axis=1, keepdims=True)
    gamma = theta_hat @ v_hat
    z = theta_hat - np.outer(gamma, v_hat)
    if len(stars) == 1:
        rho = float(np.linalg.norm(z))
        gamma, z = (np.sign(gamma), 0.0 * z) if rho < 1e-8 else (gamma, z / rho)
    else:
        z = np.linalg.pinv(root_of(gamma[:, None])) @ z
    along = weights @ v_hat
    r = float(along.mean())
    rest = weights - np.outer(along, v_hat)
    norms = np.sum(rest**2, axis=1)
    c = float(norms.mean())
    eigenvalues, vectors = np.linalg.eigh(rest @ rest.T)
    u = np.stack([along - r, *(z @ weights.T), norms - c] + [np.ones(p)] * mean, axis=1)
    bulk = InstanceBulk(np.maximum(eigenvalues, 0.0), vectors.T @ u)
    return bulk, r, c, gamma, p / d


@public
def solve_instance(
    w: ArrayLike,
    v: ArrayLike,
    theta: ArrayLike,
    activation: Any,
    target: Any,
    alpha: float,
    lam: float,
    *,
    noise: float = 0.0,
    mean: bool = False,
    density: int = 1,
) -> SystemSolution:
    """Solve for given weights at one point.

    Parameters
    ----------
    w : (p, d) array_like
        The first layer: phi(x) = sigma(w x).
    v, theta : (d,), or (q, d) and (L, d), array_like
        Directions of the spike and of the target; norms do not matter. The spike of several is the
        mean row in their span.
    activation, target : str, Function or callable
        sigma and sigma*; a `Directions` of as many as theta has.
    alpha, lam : float
        Sample complexity and ridge, both > 0.
    noise : float
        Variance of the label noise.
    mean : bool
        Whether m is a feature like the others, with K_mf = 1^T (Omega + s)^-1 u_f: it pays its
        ridge cost, and what the rows have in common couples it to theta, psi and chi. Else m is
        free, as in section 9.
    density : int
        Multiplies the panels of every rule.

    Returns
    -------
    SystemSolution
        In the convention of a unit bulk.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> w, theta = rng.standard_normal((60, 80)) / 80**0.5, rng.standard_normal(80)
    >>> sol = solve_instance(w, theta, theta, "tanh", "sin", 1.5, 0.1)
    >>> 0.05 < sol.test_error < 0.4
    True
    """
    bulk, r, c, gamma, beta = instance(w, v, theta, mean=mean)
    sigma = as_function(activation)
    if gamma.size == 1:
        star, one = as_function(target), float(gamma[0])
        t = table(sigma, star, np.array([r]), np.array([c]), one, density, own_bulk=True)
    else:
        spikes = turned(np.array([[r]]), np.array([c]), np.ones(1), gamma[:, None])
        t = table_of_spikes(sigma, directions_of(target), spikes, density, own_bulk=True)
    return solve_system(
        t, bulk, (np.array([[c / lam]]), np.array([1.0 / lam])), alpha=float(alpha), beta=beta,
        lam=float(lam), noise=float(noise), unit=np.array([math.sqrt(c)]),
    )  # fmt: skip
