"""What a scan costs, by a fixed rule, and the blocks it is cut into by that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from srfx import _validation as check
from srfx.models import Model, SpikedRF, compiled, group_count, target_of
from srfx.targets import Target

if TYPE_CHECKING:
    from srfx.scans.plan import Plan

#: Work in a block, in seconds of one thread; it may be cut short by BLOCK_BYTES.
BLOCK_SECONDS, BLOCK_BYTES = 1.0, 2**25

#: Seconds of one thread: a point, the coefficients of smooth functions, of others.
POINT_COST, SMOOTH_SET_COST, SET_COST = 1.6e-7, 5e-5, 2e-4

#: The same of a point of the actual step with several readout values, over their number cubed.
STEP_GROUP_COST = 3.5e-5

#: The same of a point with another loss, or labels of +1 and -1.
LOSS_COST = 2e-4
#: And of one of the actual step with several readout values, over the fifth power of their number.
STEP_GROUP_LOSS_COST = 5e-4

#: Arithmetic of a simulation, operations a second of one thread.
SIMULATION_RATE = 4e10

Fits: TypeAlias = Callable[[dict[str, int]], bool]


def dtype_of(name: str) -> np.dtype[Any]:
    """Type that an observable is kept in."""
    return np.dtype({"status": np.int8, "iterations": np.int32}.get(name, np.float64))


def slow_dims(plan: Plan) -> tuple[str, ...]:
    """Dimensions along which new coefficients (a new network, in simulations) are needed."""
    inputs = plan.inputs
    if plan.simulate is None:
        # the noise enters the equivalent of a step
        fast = ("beta", "noise") if isinstance(plan.model, SpikedRF) else ("beta",)
        slow = {inputs[name].dim for name in plan.model.numeric_names if name not in fast}
    else:  # one replicate serves all alpha and lam that are axes of their own
        slow = {i.dim for name, i in inputs.items() if name not in ("alpha", "lam")}
        if inputs["alpha"].dim == inputs["lam"].dim:
            slow.add(inputs["alpha"].dim)
    return tuple(dim for dim in plan.dims if dim in slow)


def _set_cost(model: Model) -> float:
    target = model.target.fn if isinstance(model.target, Target) else model.target
    smooth = all(isinstance(f, str) for f in (model.activation, target)) and not (
        compiled(model.activation).kinks or target_of(model).kinks
    )
    return SMOOTH_SET_COST if smooth else SET_COST


def seconds_of(plan: Plan, lengths: Mapping[str, int]) -> float:
    """Estimated time of one thread for a box; a fixed rule, so that blocks are always the same."""
    model, simulating = plan.model, plan.simulate
    sets = math.prod(lengths[dim] for dim in slow_dims(plan))
    points = math.prod(lengths.values())
    if simulating is None:
        k, isotropic = group_count(model), plan.bulk == "isotropic"
        if k > 1:
            point = 1.7 * k * k * POINT_COST if isotropic else k**3 * STEP_GROUP_COST
        else:
            point = POINT_COST * (1 if isotropic else 20)
        if plan.loss != "square" or model.labels != "real":
            point = max(point, LOSS_COST if k == 1 or isotropic else k**5 * STEP_GROUP_LOSS_COST)
        return sets * _set_cost(model) * (1 if k == 1 else 2 * k) + points * point
    largest = {name: float(item.values.max()) for name, item in plan.inputs.items()}
    d = largest["d"]
    n, p = largest["alpha"] * d, largest["beta"] * d
    n0 = d * sum(value for name, value in largest.items() if name.startswith("alpha0"))
    n_test = simulating["n_test"] or max(2 * d, 5000)
    fits = points / max(1, sets * lengths.get("replicate", 1))
    work = 2 * p * d * (n0 + n + n_test) + n * p * p + fits * p**3 / 3 + 2e2 * d * (n + p + n_test)
    return sets * lengths.get("replicate", 1) * (1e-3 + work / SIMULATION_RATE)


def chunk_of(plan: Plan, block_points: int | None) -> dict[str, int]:
    """Size of a block along each dimension: fast dimensions are filled first."""
    most = BLOCK_BYTES // sum(dtype_of(name).itemsize for name in plan.variables)
    if block_points is not None:
        most = check.integer("block_points", block_points, 1)

    def fits(lengths: dict[str, int]) -> bool:
        return math.prod(lengths.values()) <= most and seconds_of(plan, lengths) <= BLOCK_SECONDS

    if plan.simulate is None:
        return filled(plan.order, plan.dims, fits)
    slow = slow_dims(plan)  # the others share the network and its samples
    start = {dim: 1 if dim in (*slow, "replicate") else plan.dims[dim] for dim in plan.order}
    return filled(slow, plan.dims, fits, start)  # one record a replicate


def filled(
    order: Sequence[str],
    sizes: Mapping[str, int],
    fits: Fits,
    start: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Largest box that fits: dimensions are filled from the last on, one by an even cut."""
    lengths = dict(start or dict.fromkeys(order, 1))
    for dim in reversed(order):
        lengths[dim] = _largest(dim, sizes[dim], lengths, fits)
        if lengths[dim] < sizes[dim]:
            break
    return lengths


def _largest(dim: str, size: int, lengths: dict[str, int], fits: Fits) -> int:
    """Largest even cut of a dimension that fits."""
    if fits({**lengths, dim: size}):
        return size
    low, high = 1, size  # low fits (or nothing does), high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits({**lengths, dim: middle}) else (low, middle)
    return -(-size // -(-size // low))
