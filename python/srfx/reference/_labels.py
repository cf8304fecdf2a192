"""Labels: real ones, or +1 and -1 (THEORY section 19)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srfx.reference._spiked import Function
from srfx.reference._system import as_function
from srfx.reference._targets import Directions, directions_of

Array = NDArray[Any]


def normal_below(x: Array) -> Array:
    """Return the probability that a normal number is below x."""
    from scipy.special import ndtr

    return np.asarray(ndtr(x))


@dataclass(frozen=True)
class Labels:
    """What y is given t; ``width``: how fast the law of y moves."""

    star: Function | Directions
    noise: float
    kind: str
    slope: float

    @staticmethod
    def of(model: Any) -> Labels:
        """Return the labels of a model; real ones unless it says otherwise."""
        several = directions_of(model.target)
        star: Function | Directions = several
        kind, slope = getattr(model, "labels", "real"), getattr(model, "slope", None)
        if several.directions == 1:
            star = as_function(model.target)
            if kind == "sign":
                star = replace(star, kinks=(*star.kinks, *_zeros(star)))
        return Labels(star, float(model.noise), kind, float(1.0 if slope is None else slope))

    @property
    def real(self) -> bool:
        return self.kind == "real"

    @property
    def width(self) -> float:
        """Scale in s* on which the law of y moves; 0: a step, inf: not at all."""
        if self.real:
            return math.inf
        return math.sqrt(self.noise) if self.kind == "sign" else 1.0 / self.slope

    def plus(self, *t: Array) -> Array:
        """Return P(y = 1 | t)."""
        from scipy.special import expit

        s = np.asarray(self.star.value(*t), float)
        if self.kind == "logit":
            return np.asarray(expit(self.slope * s))
        if self.noise > 0:
            return normal_below(s / math.sqrt(self.noise))
        return np.asarray(0.5 * (1.0 + np.sign(s)))

    def mean(self) -> Directions | None:
        """Return E[y | t] of labels of +1 and -1 as a target; None of real ones."""
        if self.real:
            return None
        if isinstance(self.star, Directions):
            count, planes = self.star.directions, self.star.planes
        else:
            count, planes = 1, np.array([(1.0, x) for x in self.star.kinks]).reshape(-1, 2)
        return Directions(lambda *t: 2.0 * self.plus(*t) - 1.0, count, planes)

    def steps(self) -> tuple[Array, Array] | None:
        """Return where P(+|t) steps, ascending, and its values between; None if it varies there."""
        assert isinstance(self.star, Function)
        at = np.unique(np.asarray(self.star.kinks, float))
        if self.kind != "sign" or at.size == 0:
            return None
        ends = np.concatenate([[at[0] - 9.0], at, [at[-1] + 9.0]])
        inside = ends[:-1, None] + np.diff(ends)[:, None] * np.array([0.1, 0.3, 0.6, 0.9])
        values = self.plus(inside)
        return None if np.any(np.ptp(values, axis=1) > 0) else (at, values[:, 0])


def _zeros(star: Function) -> tuple[float, ...]:
    """Return where a function changes sign between -13 and 13, by bisection."""
    from scipy.optimize import brentq

    grid = np.linspace(-13.0, 13.0, 5201) + 1e-4 / math.pi  # no zero of a named function on it
    s = np.asarray(star.value(grid), float)

    def at(t: float) -> float:
        return float(star.value(np.array([t]))[0])

    flips = np.flatnonzero(s[1:] * s[:-1] < 0)
    return tuple(float(brentq(at, grid[i], grid[i + 1], xtol=1e-15)) for i in flips)
