"""What a scan costs, by a fixed rule, and the blocks it is cut into by that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from srfx import _validation as check
from srfx.models import OneStep, SpikedRF, compiled
from srfx.scans.inputs import Input

#: Work in a block, in seconds of one thread; it may be cut short by BLOCK_BYTES.
BLOCK_SECONDS, BLOCK_BYTES = 1.0, 2**25

#: Seconds of one thread: a point, the coefficients of smooth functions, of others.
POINT_COST, SMOOTH_SET_COST, SET_COST = 1.6e-7, 5e-5, 2e-4

#: The same of a point of the actual step with several readout values, over their number cubed.
STEP_GROUP_COST = 3.5e-5

#: Arithmetic of a simulation, operations a second of one thread.
SIMULATION_RATE = 4e10


def dtype_of(name: str) -> np.dtype[Any]:
    """Type that an observable is kept in."""
    return np.dtype({"status": np.int8, "iterations": np.int32}.get(name, np.float64))


def slow_dims(
    model: SpikedRF | OneStep,
    inputs: Mapping[str, Input],
    dims: Mapping[str, int],
    simulating: Mapping[str, Any] | None,
) -> tuple[str, ...]:
    """Dimensions along which new coefficients (a new network, in simulations) are needed."""
    if simulating is None:
        step = ("eta", "alpha0", "noise")  # the noise enters the equivalent of a step
        fields = step if isinstance(model, OneStep) else ("r", "c", "gamma")
        slow = {inputs[name].dim for name in fields}
    else:  # one replicate serves all alpha and lam that are axes of their own
        slow = {i.dim for name, i in inputs.items() if name not in ("alpha", "lam")}
        if inputs["alpha"].dim == inputs["lam"].dim:
            slow.add(inputs["alpha"].dim)
    return tuple(dim for dim in dims if dim in slow)


def _set_cost(model: SpikedRF | OneStep) -> float:
    functions = [compiled(f) for f in (model.activation, model.target)]
    smooth = all(isinstance(f, str) for f in (model.activation, model.target)) and not any(
        f.kinks or f.jump for f in functions
    )
    return SMOOTH_SET_COST if smooth else SET_COST


def seconds_of(
    model: SpikedRF | OneStep,
    inputs: Mapping[str, Input],
    simulating: Mapping[str, Any] | None,
    bulk: Any,
    lengths: Mapping[str, int],
) -> float:
    """Estimated time of one thread for a box; a fixed rule, so that blocks are always the same."""
    slow = slow_dims(
        model, inputs, {d: n for d, n in lengths.items() if d != "replicate"}, simulating
    )
    sets = math.prod(lengths[dim] for dim in slow)
    points = math.prod(lengths.values())
    if simulating is None:
        k, isotropic = len(model.readout), isinstance(bulk, str) and bulk == "isotropic"
        if k > 1:
            point = 1.7 * k * k * POINT_COST if isotropic else k**3 * STEP_GROUP_COST
        else:
            point = POINT_COST * (1 if isotropic else 20)
        return sets * _set_cost(model) * (1 if k == 1 else 2 * k) + points * point
    largest = {name: float(item.values.max()) for name, item in inputs.items()}
    d = largest["d"]
    n, p = largest["alpha"] * d, largest["beta"] * d
    n0 = largest.get("alpha0", 0.0) * d
    n_test = simulating["n_test"] or max(2 * d, 5000)
    fits = points / max(1, sets * lengths.get("replicate", 1))
    work = 2 * p * d * (n0 + n + n_test) + n * p * p + fits * p**3 / 3 + 2e2 * d * (n + p + n_test)
    return sets * lengths.get("replicate", 1) * (1e-3 + work / SIMULATION_RATE)


def chunk_of(
    model: SpikedRF | OneStep,
    inputs: Mapping[str, Input],
    dims: Mapping[str, int],
    order: tuple[str, ...],
    slow: tuple[str, ...],
    kept: tuple[str, ...],
    bulk: Any,
    simulating: Mapping[str, Any] | None,
    block_points: int | None,
) -> dict[str, int]:
    """Size of a block along each dimension: fast dimensions are filled first."""
    most = BLOCK_BYTES // sum(dtype_of(name).itemsize for name in kept)
    if block_points is not None:
        most = check.integer("block_points", block_points, 1)

    def fits(lengths: dict[str, int]) -> bool:
        seconds = seconds_of(model, inputs, simulating, bulk, lengths)
        return math.prod(lengths.values()) <= most and seconds <= BLOCK_SECONDS

    lengths = dict.fromkeys(order, 1)
    for dim in reversed(order):
        if dim == "replicate":
            break  # one record a replicate
        if simulating is not None and dim not in slow:
            lengths[dim] = dims[dim]  # they share the network and its samples
            continue
        lengths[dim] = largest(dim, dims[dim], lengths, fits)
        if lengths[dim] < dims[dim]:
            break
    return lengths


def largest(dim: str, size: int, lengths: dict[str, int], fits: Any) -> int:
    """Largest even cut of a dimension that fits."""
    if fits({**lengths, dim: size}):
        return size
    low, high = 1, size  # low fits (or nothing does), high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits({**lengths, dim: middle}) else (low, middle)
    return -(-size // -(-size // low))
