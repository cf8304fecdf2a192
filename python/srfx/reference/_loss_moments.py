"""Losses, and the Gaussian averages of their proximal maps (THEORY section 19)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srfx.reference._labels import normal_below
from srfx.reference._spiked import normal

Array = NDArray[Any]


@dataclass(frozen=True)
class Piecewise:
    """max over lo <= g <= hi of 2 g e - kappa g^2."""

    kappa: float
    lo: float
    hi: float


LOGISTIC = "logistic"


def loss_of(loss: Any) -> Piecewise | str:
    """Return the three numbers of a piecewise quadratic loss, or "logistic"."""
    if hasattr(loss, "delta"):
        return Piecewise(1.0, -float(loss.delta), float(loss.delta))
    if hasattr(loss, "tau"):
        return Piecewise(0.0, -0.5 * (1.0 - float(loss.tau)), 0.5 * float(loss.tau))
    known = {
        "square": Piecewise(1.0, -math.inf, math.inf),
        "absolute": Piecewise(0.0, -0.5, 0.5),
        "hinge": Piecewise(0.0, 0.0, 0.5),
        "squared_hinge": Piecewise(1.0, 0.0, math.inf),
        "max_margin": Piecewise(0.0, 0.0, math.inf),
    }
    if loss == LOGISTIC:
        return LOGISTIC
    if loss not in known:
        raise ValueError(f"loss must be one of {(*known, LOGISTIC)}, or have delta or tau")
    return known[loss]


@dataclass(frozen=True)
class Cut:
    """Of a cut g at a normal e of mean M and deviation S: E g, P(inside)/(kappa + V), E g^2, E g e.

    (THEORY 19, closed averages.)
    """

    g: Array
    slope: Array
    gg: Array
    ge: Array


def cut(loss: Piecewise, v: Array, mean: Array, sd: Array) -> Cut:
    """Return the moments of g = clip(e/(kappa + V), lo, hi)."""
    scale = loss.kappa + v
    low, high = scale * loss.lo, scale * loss.hi
    a, b = (low - mean) / sd, (high - mean) / sd
    below, above = normal_below(a), normal_below(-b)
    inside = np.where(a > 0, normal_below(-a) - above, normal_below(b) - below)
    at_a, at_b = normal(a), normal(b)
    first = mean * inside + sd * (at_a - at_b)
    second = (mean**2 + sd**2) * inside
    lo, hi = (0.0 if math.isinf(x) else x for x in (loss.lo, loss.hi))
    if math.isfinite(loss.lo):
        second = second + sd * (mean + low) * at_a
    if math.isfinite(loss.hi):
        second = second - sd * (mean + high) * at_b
    outside = lo * (mean * below - sd * at_a) + hi * (mean * above + sd * at_b)
    return Cut(
        lo * below + hi * above + first / scale,
        inside / scale,
        lo**2 * below + hi**2 * above + second / scale**2,
        outside + second / scale,
    )


def logistic_point(omega: Array, v: Array) -> Array:
    """Return x = omega + (V/2)/(1 + exp x), for y = 1: bisection, then Newton's method."""
    from scipy.special import expit

    low, high = omega.copy(), omega + 0.5 * v
    x = 0.5 * (low + high)
    for _ in range(200):
        defect = x - omega - 0.5 * v * expit(-x)
        low, high = np.where(defect < 0, x, low), np.where(defect < 0, high, x)
        new = x - defect / (1.0 + 0.5 * v * expit(x) * expit(-x))
        new = np.where((new >= low) & (new <= high), new, 0.5 * (low + high))
        done = float(np.max(np.abs(new - x) / (1.0 + np.abs(x))))
        x = new
        if done < 1e-15:
            break
    return x


CHEBYSHEV = 81  # nodes in the mean of the field


def logistic_moments(mean: Array, sd: Array, v: Array) -> dict[str, Array]:
    """Return the averages over a field y omega of these means (k, nodes), deviations and V (k, 1).

    They are smooth in the mean: for each k polynomials through Chebyshev's points.
    """
    from numpy.polynomial import chebyshev
    from scipy.special import expit

    xi, weight = np.polynomial.hermite_e.hermegauss(40)
    weight = weight / weight.sum()
    low, high = (f(mean, axis=1)[:, None] for f in (np.min, np.max))
    middle, half = 0.5 * (low + high), np.maximum(0.5 * (high - low), 1e-12)
    x = chebyshev.chebpts1(CHEBYSHEV)
    to_series = np.linalg.inv(chebyshev.chebvander(x, CHEBYSHEV - 1))
    omega = (middle + half * x)[..., None] + sd[..., None] * xi
    point = logistic_point(omega, v[..., None] * np.ones_like(omega))
    p = expit(-point)
    h = 0.5 * p * (1.0 - p)
    values = {
        "slope": h / (1.0 + v[..., None] * h), "g": 0.5 * p, "gg": 0.25 * p**2,
        "train": np.logaddexp(0.0, -point), "test": np.logaddexp(0.0, -omega),
        "mse": (1.0 - omega) ** 2, "rest": (1.0 - point) ** 2, "work": 0.5 * p * point,
    }  # fmt: skip
    at = (mean - middle) / half
    series = np.stack([to_series @ (value @ weight).T for value in values.values()], axis=1)
    found = chebyshev.chebval(at, series[..., None], tensor=False)
    return dict(zip(values, found, strict=True))
