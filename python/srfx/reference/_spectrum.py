"""The spectral density of the features, Phi^T Phi / p (THEORY section 6), one x at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx._validation import public
from srfx.reference._spiked import table_of
from srfx.reference._system import as_function

Array = NDArray[Any]


@public
def feature_spectrum(model: Any, alpha: float, x: ArrayLike, *, density: int = 1) -> Array:
    """Return the limiting density of the eigenvalues of Phi^T Phi / p at `x` > 0.

    Section 3 at lam = -x - i y, with y lowered from far above the spectrum to 0: Im V2 / pi. An
    atom of mass max(0, 1 - alpha/beta) at zero and the outlier of the mean are not part of it. The
    root of the Marchenko-Pastur equation is never chosen: it is solved jointly with the rest.

    Parameters
    ----------
    model : srfx.SpikedRF or anything with its attributes
        One readout; numbers only.
    alpha : float
        Samples over dimension.
    x : array_like
        Where, > 0.
    density : int
        Multiplies the panels of every rule.

    Returns
    -------
    ndarray
        Of the shape of `x`.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> spike = dict(r=0.5, c=1.0, gamma=1.0, beta=0.5, noise=0.0)
    >>> model = SimpleNamespace(activation="tanh", target="sin", **spike)
    >>> inside, outside = feature_spectrum(model, 2.0, [0.5, 50.0]).tolist()
    >>> inside > 0.1, outside < 1e-9
    (True, True)
    """
    weight, coefficients, _ = table_of(
        as_function(model.activation), as_function("linear"), float(model.r), float(model.c), 1.0,
        density, 12.0,
    )  # fmt: skip
    p = weight.astype(float)
    u1, u2 = coefficients.mu1**2, coefficients.mu2_sq
    beta = float(model.beta)
    ratio = float(alpha) / beta
    points = np.asarray(x, float)
    if not (np.all(points > 0) and alpha > 0 and beta > 0):
        raise ValueError("need x > 0, alpha > 0, beta > 0")

    def defect(v: Array, lam: complex) -> tuple[Array, Array]:
        """Return the two equations and their Jacobian."""
        w = 1.0 / (1.0 + u1 * v[0] + u2 * v[1])
        a, b = lam + ratio * np.sum(p * u2 * w), ratio * np.sum(p * u1 * w)
        w2 = p * w * w
        m11, m12, m22 = (-ratio * np.sum(f * w2) for f in (u1 * u1, u1 * u2, u2 * u2))
        da, db = np.array([m12, m22]), np.array([m11, m12])
        g = v[1] * b  # s beta g^2 + (s + 1 - beta) g = 1, s = a / b
        dg = v[1] * db + np.array([0.0, b])
        value = np.array(
            [
                a * beta * v[1] * g + (a + (1.0 - beta) * b) * v[1] - 1.0,
                v[0] * (1.0 + beta * g) / v[1] - 1.0,
            ]
        )
        first = beta * v[1] * (da * g + a * dg) + (da + (1.0 - beta) * db) * v[1]
        first[1] += a * beta * g + a + (1.0 - beta) * b
        second = v[0] * beta * dg / v[1]
        second[0] += (1.0 + beta * g) / v[1]
        second[1] -= v[0] * (1.0 + beta * g) / v[1] ** 2
        return value, np.stack([first, second])

    def newton(v: Array, lam: complex) -> tuple[Array, bool]:
        for _ in range(60):
            value, slope = defect(v, lam)
            step = np.linalg.solve(slope, value)
            v = v - step
            if not np.all(np.isfinite(v)):
                return v, False
            if np.max(np.abs(step) / np.abs(v)) < 1e-13:
                return v, True
        return v, bool(np.max(np.abs(step) / np.abs(v)) < 1e-10)

    top = 100.0 * (1.0 + ratio * float(np.sum(p * (u1 + u2))) * (1.0 + beta))
    out = np.empty(points.size)
    for i, xi in enumerate(points.ravel()):
        y = max(top, 10.0 * xi)
        v, done = newton(np.full(2, 1.0 / complex(-xi, -y)), complex(-xi, -y))
        factor = 0.4
        while True:
            small = y < 1e-9 * xi
            target = 0.0 if small else y * factor
            trial, done = newton(v, complex(-xi, -target))
            jump = float(np.max(np.abs(trial / v - 1.0))) if done else np.inf
            if done and trial[1].imag > -1e-9 * abs(trial[1]) and jump < 0.5:
                v, y = trial, target
                factor = max(0.1, factor * factor)
                if small:
                    break
            else:
                factor = factor**0.5
                if factor > 1.0 - 1e-6 or small:
                    raise ValueError(f"the continuation to x = {xi} failed at height {y}")
        out[i] = max(0.0, float(v[1].imag)) / np.pi
    return out.reshape(points.shape)
