"""The points of a batch as the core takes them: vectors, and what few sets of values they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx import _core
from srfx.models import (
    FloatArray,
    Model,
    compiled,
    layout,
    spikes_of,
    target_of,
)
from srfx.targets import Target

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


class SpikeSets(NamedTuple):
    """Distinct coefficient sets in the form that the core wants, and which of them each point has.

    One group beside one spike: r and c of shape (sets,), gamma (sets,) or, for a target of L
    directions, (sets, L). Several groups beside one spike and direction: r and c (sets, K), gamma
    (sets,). All else: r (sets, K, q), c (sets, K), gamma (sets, L, q).
    """

    target: _core.Activation | _core.Target
    r: FloatArray
    c: FloatArray
    gamma: FloatArray
    noise: FloatArray
    of_point: Indices

    @property
    def alone(self) -> bool:
        """Whether it is one group beside one spike."""
        return self.r.ndim == 1


def spike_sets(model: Model, shape: tuple[int, ...], noise: float | FloatArray = 0.0) -> SpikeSets:
    """Distinct coefficient sets of a model, and for each point of ``shape`` which it has.

    With ``noise`` sets are distinct that differ in it.
    """
    rows, c, alignment = spikes_of(model)
    (k, q), count = rows.shape[-2:], alignment.shape[-2]
    values = (
        rows.reshape(*rows.shape[:-2], k * q),
        c,
        alignment.reshape(*alignment.shape[:-2], count * q),
        np.asarray(noise, dtype=np.float64)[..., np.newaxis],
    )
    table, index = distinct([x for v in values for x in np.moveaxis(v, -1, 0)], shape)
    n = len(table)
    flat_r, flat_c, flat_gamma, noises = np.split(table, [k * q, k * q + k, -1], axis=1)
    noises = noises.ravel()
    kind = layout(model)
    target = compiled(model.target) if not isinstance(model.target, Target) else target_of(model)
    if kind == "one" or k * q == 1:
        gamma = flat_gamma if count > 1 else flat_gamma.ravel()
        return SpikeSets(target, flat_r.ravel(), flat_c.ravel(), gamma, noises, index)
    if kind == "groups":
        return SpikeSets(target, flat_r, flat_c, flat_gamma.ravel(), noises, index)
    r, gamma = flat_r.reshape(n, k, q), flat_gamma.reshape(n, count, q)
    return SpikeSets(target_of(model), r, flat_c, gamma, noises, index)


def without_axes_of_one(raw: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Leave out the axes of length one of what the core returns for groups."""
    return {
        name: values.reshape(len(values), *(n for n in values.shape[1:] if n > 1))
        for name, values in raw.items()
    }
