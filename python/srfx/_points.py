"""The points of a batch as the core takes them: vectors, and what few sets of values they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx.models import FloatArray

Indices: TypeAlias = NDArray[np.int64]


def flat(value: ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """One number for all points, or one for each, as a vector."""
    array = np.asarray(value, dtype=np.float64)
    return array.reshape(1) if array.size == 1 else np.broadcast_to(array, shape).ravel()


def columns(
    arguments: Mapping[str, float | FloatArray], shape: tuple[int, ...]
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Beta, noise, alpha, lam and 1/d of every point."""
    beta, noise, alpha, lam = (
        flat(arguments[name], shape) for name in ("beta", "noise", "alpha", "lam")
    )
    return beta, noise, alpha, lam, flat(1 / np.asarray(arguments["d"]), shape)


def distinct(values: Sequence[FloatArray], shape: tuple[int, ...]) -> tuple[FloatArray, Indices]:
    """Distinct rows of columns that broadcast, and for each point of ``shape`` which it has."""
    own = np.broadcast_shapes(*(np.shape(x) for x in values))
    table = np.stack([np.broadcast_to(x, own).ravel() for x in values], axis=1)
    index = np.zeros(len(table), dtype=np.int64)
    if len(table) > 1:
        table, inverse = np.unique(table, axis=0, return_inverse=True)
        index = np.broadcast_to(inverse.reshape(own), shape).ravel()
    return table, index.astype(np.int64, copy=False)


def coefficient_sets(
    spikes: tuple[FloatArray, FloatArray, FloatArray], shape: tuple[int, ...]
) -> tuple[tuple[FloatArray, FloatArray, FloatArray], Indices]:
    """Distinct (r, c, gamma), and for each point of ``shape`` which of them it has.

    Arrays r and c have groups last. Coefficients are computed once a set: that is where the time
    goes.
    """
    r, c, gamma = spikes
    k = r.shape[-1]
    table, index = distinct([*np.moveaxis(r, -1, 0), *np.moveaxis(c, -1, 0), gamma], shape)
    return (table[:, :k], table[:, k : 2 * k], table[:, -1]), index
