"""The work of a block, on whatever worker it lands."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srfx import _core
from srfx._replicates import Stopped, halt_if_stopped, replicate_of, request
from srfx.losses import Loss
from srfx.models import Model, quiet, with_fields
from srfx.results import Status
from srfx.scans import store
from srfx.scans.cost import dtype_of, filled, slow_dims
from srfx.scans.inputs import Input
from srfx.scans.plan import Plan, solve_box, values_in

#: Work between two looks at the cancel flag of another thread.
PIECE_SECONDS, PIECE_POINTS = 0.05, 2**18


@dataclasses.dataclass(frozen=True)
class Task:
    """A block as a worker gets it."""

    block: int
    model: Model
    inputs: dict[str, Input]
    order: tuple[str, ...]
    shape: tuple[int, ...]  # in computing order
    piece: tuple[int, ...]
    permutation: tuple[int, ...]  # from computing order to that of the result
    variables: tuple[str, ...]
    bulk: Any
    loss: Loss
    simulate: dict[str, Any] | None
    replicate: int
    slow: int  # dimensions after replicate that need a new network
    threads: int
    run: str
    store: tuple[str, str] | None
    where: tuple[slice, ...]
    index: tuple[int, ...]


def tasks_of(
    plan: Plan, blocks: list[int], threads: int, run: str, store: tuple[str, str] | None
) -> Iterator[Task]:
    """Blocks, one after the other, as workers get them."""
    slow = slow_dims(plan)
    for block in blocks:
        box = plan.box(block)
        shape = tuple(box[dim].stop - box[dim].start for dim in plan.order)
        inputs = {
            name: item
            if item.dim is None
            else Input(np.ascontiguousarray(item.values[box[item.dim]]), item.dim)
            for name, item in plan.inputs.items()
        }
        yield Task(
            block=block,
            model=plan.model,
            inputs=inputs,
            order=plan.order,
            shape=shape,
            piece=_piece(plan, shape, threads),
            permutation=tuple(plan.order.index(dim) for dim in plan.dims),
            variables=plan.variables,
            bulk=plan.bulk,
            loss=plan.loss,
            simulate=plan.simulate,
            replicate=box["replicate"].start if "replicate" in box else 0,
            slow=len(slow),
            threads=threads,
            run=run,
            store=store,
            where=tuple(box[dim] for dim in plan.dims),
            index=plan.index(block),
        )


def _piece(plan: Plan, shape: tuple[int, ...], threads: int) -> tuple[int, ...]:
    """Size of what is handed to the core at once."""
    if plan.simulate is not None:
        return shape
    most = max(PIECE_POINTS, threads * PIECE_POINTS // 4)

    def fits(lengths: dict[str, int]) -> bool:
        small = plan.seconds(lengths) <= PIECE_SECONDS * max(2, threads)
        return small and math.prod(lengths.values()) <= most

    return tuple(filled(plan.order, dict(zip(plan.order, shape, strict=True)), fits).values())


def pieces(shape: tuple[int, ...], piece: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Cut a box into pieces, in C order."""
    starts = (range(0, size, step) for size, step in zip(shape, piece, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(
            slice(low, min(low + step, size))
            for low, step, size in zip(corner, piece, shape, strict=True)
        )


Result = tuple[int, dict[str, NDArray[Any]] | None, tuple[int, float]]


def work(task: Task) -> Result:
    """Compute a block and, where its store is at hand, write it; else hand the numbers back."""
    arrays = empty(task)
    notes = fill(task, arrays)
    if task.store is None or not store.visible(*task.store):
        return task.block, _in_order_of_result(task, arrays), notes
    halt_if_stopped(task.run)
    return write(task, arrays, notes)


def empty(task: Task) -> dict[str, NDArray[Any]]:
    """Room for a block, in computing order."""
    return {name: np.empty(task.shape, dtype_of(name)) for name in task.variables}


def write(task: Task, arrays: Mapping[str, NDArray[Any]], notes: tuple[int, float]) -> Result:
    """Write a block that was computed to its store."""
    assert task.store is not None
    kept = _in_order_of_result(task, arrays)
    store.write_block(*task.store, task.block, task.where, task.index, kept, notes)
    return task.block, None, notes


def _in_order_of_result(task: Task, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {
        name: np.asarray(values.transpose(task.permutation), order="C")
        for name, values in arrays.items()
    }


def fill(task: Task, arrays: Mapping[str, NDArray[Any]]) -> tuple[int, float]:
    """Compute a block into arrays in computing order; count failures, measure quadrature."""
    if task.simulate is not None:
        _fill_simulated(task, arrays)
        return 0, 0.0
    failed, worst = 0, 0.0
    for place in pieces(task.shape, task.piece):
        halt_if_stopped(task.run)
        box = dict(zip(task.order, place, strict=True))
        values = values_in(task.inputs, task.order, box)
        with quiet():
            solution = solve_box(task.model, values, task.bulk, task.threads, task.loss)
        for name in task.variables:
            arrays[name][place] = getattr(solution, name)
        good = np.asarray(solution.status) == Status.CONVERGED
        lost = good.size - int(np.count_nonzero(good))
        failed += lost
        errors = np.asarray(solution.quadrature_error)
        if lost:
            errors = errors[good]
        worst = max(worst, float(np.max(errors, initial=0.0)))
    return failed, worst


def _fill_simulated(task: Task, arrays: Mapping[str, NDArray[Any]]) -> None:
    """One replicate of each network of the block; it serves all its alpha and lam."""
    assert task.simulate is not None
    outer = task.order[1 : 1 + task.slow]
    rest = task.shape[1 + task.slow :]
    swapped = task.order[1 + task.slow :] == (task.inputs["lam"].dim, task.inputs["alpha"].dim)
    for index in np.ndindex(*task.shape[1 : 1 + task.slow]):
        halt_if_stopped(task.run)
        at = dict(zip(outer, index, strict=True))
        values = {
            name: item.values[at[item.dim]] if item.dim in at else item.values
            for name, item in task.inputs.items()
        }
        fields = {name: float(values[name]) for name in task.model.numeric_names}
        plan = request(
            with_fields(task.model, fields),
            values["alpha"],
            values["lam"],
            int(values["d"]),
            loss=task.loss,
            **task.simulate,
        )
        try:
            errors = replicate_of(plan, task.replicate, task.threads, task.run)
        except _core.Cancelled:
            raise Stopped from None
        for name in task.variables:
            table = errors[name][plan.order]  # alpha by lam
            arrays[name][(0, *index)] = (table.T if swapped else table).reshape(rest)
