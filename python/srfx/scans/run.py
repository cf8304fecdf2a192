"""Scans: outer products of named axes, in blocks, on any executor, into a store that resumes."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srfx import _files
from srfx import _validation as check
from srfx._replicates import started
from srfx.losses import Loss
from srfx.models import Model, warn_accuracy
from srfx.scans.blocks import Result, Task, empty, fill, tasks_of, work, write
from srfx.scans.cost import dtype_of
from srfx.scans.formats import open_scan
from srfx.scans.plan import Plan, check_shard, make_plan, share
from srfx.scans.progress import Progress
from srfx.scans.store import SHARD, Store, open_store, write_block

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    import xarray as xr

    from srfx._executors import Pool


@check.public
def scan(
    model: Model,
    out: str | os.PathLike[str] | None = None,
    executor: Executor | Any = None,
    resume: bool = True,
    progress: bool | None = None,
    variables: tuple[str, ...] | list[str] | None = None,
    *,
    simulate: Mapping[str, Any] | None = None,
    bulk: Any = "isotropic",
    loss: Loss = "square",
    n_threads: int | None = None,
    block_points: int | None = None,
    max_in_flight: int | None = None,
    shard: tuple[int, int] | None = None,
    **axes: Any,
) -> xr.Dataset:
    """Solve, or simulate, every combination of named axes.

    The points are cut into blocks of about a second's work, rectangles of the outer product, each
    with as few coefficient sets (r, c, gamma) as possible. What is computed for a point is what
    `solve` or `simulate` computes (THEORY sections 3 to 7): the same bits for any executor, number
    of threads, interruption or resumption.

    Parameters
    ----------
    model : SpikedRF, OneStep or MultiStep
        The model; its numeric fields are single numbers, those given as axes are replaced.
    out : path, optional
        A zarr 3 store (needs ``srfx[scan]``) that blocks are written to as they are finished, and
        that a later call with the same arguments goes on with: a directory of this machine, ``~``
        is expanded. Given weights and callables are the same if their values are, but for rounding
        errors. So are axes and numbers, to a part in 1e13: the store's are then used. None:
        everything in memory.
    executor : concurrent.futures.Executor or dask Client, optional
        Where the blocks run: anything with ``submit`` (PEP 3148) whose workers are not forked, or a
        dask ``Client``. None: one block after the other, each with all threads. Callables of the
        model have to get to the workers, which is tried before any work.
    resume : bool
        Whether to go on with an existing store. False: it is an error if ``out`` exists.
    progress : bool, optional
        True: a bar on a terminal, elsewhere a line for each per cent on stderr. None: a bar on a
        terminal, elsewhere the lines go to the logger ``srfx``. False: nothing.
    variables : sequence of str, optional
        What is kept: names of `Solution`'s arrays that hold one number a point. By default
        test_error, train_error and status; of simulations test_error and train_error.
    simulate : mapping, optional
        Simulate in place of solving; keys as the arguments of `simulate`: d, replicates, n_test,
        seed, dtype, literal. One record a (point, replicate): more replicates later run the new
        ones only.
    bulk : str or EmpiricalBulk
        As in `solve`.
    loss : str, Huber or Quantile
        As in `solve` and `simulate`, part of what a store is known by. With another loss than the
        square, or labels of +1 and -1, ``train_loss``, ``test_loss`` and, of such labels,
        ``classification_error`` are kept too; of simulations also ``duality_gap``.
    n_threads : int, optional
        Threads for a block; None: all that this process may use, one with an executor.
    block_points : int, optional
        At most so many points in a block of a new store. None: by the estimated cost.
    max_in_flight : int, optional
        At most so many blocks, at least 1, are with the executor at a time. None: two for each of
        its workers, or for each processor of this machine where it does not say how many it has
        (as on many clusters: give twice the number of workers). Without an executor of no effect.
    shard : (int, int), optional
        ``(3, 16)``: of the blocks only the third of sixteen equal shares, into a store of its own
        that `merge` puts together with the others. The points of other shards have status -1.
    **axes : float, sequence or DataArray
        alpha and lam, and optionally d and numeric fields of the model. A number is fixed; a
        sequence is an axis of distinct values; DataArrays with one common dimension are paired
        along it instead of crossed. Their labels along it have to agree (NaN agrees with NaN) and
        are kept, in memory and in a store alike: integers, float32, float64, bool, text, dates and
        time differences (both to the nanosecond); others are refused. A dimension that is itself
        an axis has that axis' values for labels. Other coordinates of a DataArray are left out.

    Returns
    -------
    xarray.Dataset
        A dimension for each axis in the order given (and ``replicate`` last, for simulations);
        all inputs are coordinates; ``d = inf`` stands for the limit. With ``out`` it reads from the
        store when used. Points without a solution are NaN, with the reason in ``status``; the
        attribute ``failed_points`` counts them.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of range; an axis is no field, is empty, holds
        non-finite or repeated values; paired axes differ in length or in their labels, or have
        labels of another kind (a MultiIndex, categories, bytes, complex, mixed objects); ``out``
        exists and is not resumed, is a URL, or belongs to another scan (the difference is shown) or
        another writer. Said before any work.
    KeyboardInterrupt
        Ctrl-C. Finished blocks are in the store.
    OSError
        The disk is full or the store cannot be written. Finished blocks are valid.
    ImportError
        A package for ``out`` is not installed.

    Warns
    -----
    AccuracyWarning
        The estimated quadrature error of a point exceeds 1e-8.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> model = srfx.OneStep("tanh", "sin", alpha0=20)
    >>> ds = srfx.scan(model, eta=[1, 3], alpha=np.linspace(0.5, 3, 6), lam=[0.01, 0.1])
    >>> dict(ds.sizes)
    {'eta': 2, 'alpha': 6, 'lam': 2}
    >>> print(f"{ds.test_error.sel(eta=3, alpha=3, lam=0.1).item():.10f}")
    0.0325182080
    """
    from srfx import _executors

    path = None if out is None else _files.local("out", out)
    plan = make_plan(
        model,
        axes,
        simulate=simulate,
        bulk=bulk,
        loss=loss,
        variables=variables,
        block_points=block_points,
    )
    most = _executors.in_flight(max_in_flight)
    pool = None if executor is None else _executors.Pool(executor, most)
    threads = 1 if executor is not None and n_threads is None else check.thread_count(n_threads)
    part = check_shard(shard)
    if part is not None and path is None:
        raise ValueError(f"shard must come with out, the store of that shard; got shard={shard!r}")
    check.flag("resume", resume)
    check.flag("progress", progress is None or progress)
    plan.probe()
    if path is None:
        return _in_memory(plan, pool, threads, progress)
    return _to_store(plan, path, pool, threads, resume, progress, part)


# --- running ------------------------------------------------------------------------------------


def _run_blocks(
    plan: Plan,
    blocks: list[int],
    pool: Pool | None,
    threads: int,
    store: Store | None,
    memory: dict[str, NDArray[Any]] | None,
    report: Progress,
) -> tuple[int, float]:
    """Compute blocks and put them where they belong; count failures, measure quadrature."""
    place = None if store is None else (str(store.path), store.identity)
    failed, worst = 0, 0.0
    with started() as run, ctrl_c() as interrupted:
        tasks = tasks_of(plan, blocks, threads, run.name, place)
        results = _here(tasks, plan, memory) if pool is None else pool.run(work, tasks, run.stop)
        try:
            for block, arrays, notes in results:
                interrupted()
                if arrays is not None:
                    box = plan.box(block)
                    where = tuple(box[dim] for dim in plan.dims)
                    if place is not None:
                        write_block(*place, block, where, plan.index(block), arrays, notes)
                    elif memory is not None:
                        for name, values in arrays.items():
                            memory[name][where] = values
                failed, worst = failed + notes[0], max(worst, notes[1])
                report.advance(plan.box_points(block))
        finally:
            results.close()
    return failed, worst


def _here(
    tasks: Iterator[Task], plan: Plan, memory: dict[str, NDArray[Any]] | None
) -> Generator[Result, None, None]:
    """One block after the other in this thread; the one before is written meanwhile."""
    if memory is not None:
        back = tuple(list(plan.dims).index(dim) for dim in plan.order)
        for task in tasks:
            box = plan.box(task.block)
            place = tuple(box[dim] for dim in plan.order) or ...
            views = {name: values.transpose(back)[place] for name, values in memory.items()}
            yield task.block, None, fill(task, views)
        return
    from concurrent.futures import ThreadPoolExecutor

    waiting: Future[Result] | None = None
    with ThreadPoolExecutor(1, "srfx-writer") as writer:
        try:
            for task in tasks:
                arrays = empty(task)
                notes = fill(task, arrays)
                if waiting is not None:
                    yield waiting.result()
                waiting = writer.submit(write, task, arrays, notes)
            if waiting is not None:
                yield waiting.result()
                waiting = None
        finally:
            if waiting is not None:  # interrupted: a finished block is kept
                waiting.exception()


@contextlib.contextmanager
def ctrl_c() -> Iterator[Callable[[], None]]:
    """Remember Ctrl-C: Python loses a KeyboardInterrupt raised inside a destructor."""
    pressed: list[bool] = []

    def look() -> None:
        if pressed:
            raise KeyboardInterrupt

    def press(*_: object) -> None:
        pressed.append(True)
        raise KeyboardInterrupt

    usual = signal.default_int_handler
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not usual:
        yield look
        return
    signal.signal(signal.SIGINT, press)
    try:
        yield look
    finally:
        if signal.getsignal(signal.SIGINT) is press:  # and nobody's who came meanwhile
            signal.signal(signal.SIGINT, usual)


def _in_memory(plan: Plan, pool: Pool | None, threads: int, progress: bool | None) -> xr.Dataset:
    check.memory(f"{plan.points} points", plan.bytes, ": give out=, or fewer variables")
    _check_portable(plan, pool)
    template = plan.template()
    shape = tuple(plan.dims.values())
    memory = {name: np.empty(shape, dtype_of(name)) for name in plan.variables}
    blocks = list(range(plan.blocks))
    with Progress(plan.points, 0, progress) as report:
        failed, worst = _run_blocks(plan, blocks, pool, threads, None, memory, report)
    _report_accuracy(plan, worst)
    described = plan.described()
    ds = template.assign(
        {name: (list(plan.dims), memory[name], described[name][1]) for name in plan.variables}
    )
    if plan.simulate is None:
        ds.attrs["failed_points"] = failed
    return ds


def _check_portable(plan: Plan, pool: Pool | None) -> None:
    if pool is not None:
        pool.check_portable((plan.model.activation, plan.model.target))


def _report_accuracy(plan: Plan, worst: float) -> None:
    warn_accuracy(worst, "the scan", plan.model.activation, plan.model.target)


def _to_store(
    plan: Plan,
    path: Path,
    pool: Pool | None,
    threads: int,
    resume: bool,
    progress: bool | None,
    shard: tuple[int, int] | None,
) -> xr.Dataset:
    if path.is_symlink() and not path.exists():  # to where there is nothing yet
        path = Path(os.path.realpath(path))
    template, variables = plan.template(), plan.described()
    new = not (path / "zarr.json").exists()
    if new:
        _check_portable(plan, pool)
    if not path.exists():
        _check_disk(path, plan.bytes)
    store = open_store(
        path,
        template,
        variables,
        plan.chunk_shape,
        plan.specification() | ({} if shard is None else {SHARD: "{}/{}".format(*shard)}),
        {name: item.values for name, item in plan.inputs.items()},
        plan.blocks,
        resume,
    )
    try:
        plan = plan.resumed(store.chunks, store.arguments)
        total = plan.blocks
        if plan.simulate is not None and store.writable:
            replicates = plan.dims["replicate"]
            store.extend(variables, replicates, total // replicates)
        done = store.finished([plan.index(b) for b in range(total)], variables, total)
        mine = share(total, shard)
        missing = [block for block in mine if not done[block]]
        if missing and not store.writable:
            raise PermissionError(
                f"out must be writable: {len(mine) - len(missing)} of {len(mine)} blocks are in "
                f"{str(path)!r}, which is read only"
            )
        if missing:
            if not new:  # a finished store needs no worker
                _check_portable(plan, pool)
            points = {block: plan.box_points(block) for block in mine}
            before = sum(points.values()) - sum(points[block] for block in missing)
            with Progress(sum(points.values()), before, progress) as report:
                _guarded(plan, mine, missing, pool, threads, store, report)
        if plan.simulate is None:
            failed, worst = store.summary(total)
            if store.writable:
                store.describe({"failed_points": failed})
            _report_accuracy(plan, worst)
    finally:
        store.close()
    ds = open_scan(path)
    if "replicate" in plan.dims and ds.sizes["replicate"] > plan.dims["replicate"]:
        ds = ds.isel(replicate=slice(plan.dims["replicate"]))
    return ds


def _guarded(
    plan: Plan,
    mine: range,
    missing: list[int],
    pool: Pool | None,
    threads: int,
    store: Store,
    report: Progress,
) -> None:
    """Run, and on whatever ends it say what is in the store and how to go on."""
    try:
        _run_blocks(plan, missing, pool, threads, store, None, report)
    except BaseException as error:
        total = plan.blocks
        done = store.finished([plan.index(b) for b in range(total)], plan.described(), total)
        error.add_note(
            f"srfx.scan: {int(done[mine].sum())} of {len(mine)} blocks are in "
            f"{_files.shown(store.path)!r}; the same call goes on from there"
        )
        raise


def _check_disk(path: Path, needed: int) -> None:
    import shutil

    folder = next(p for p in path.parents if p.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"out would need {needed / 1e9:.3g} GB in {str(folder)!r}, where {free / 1e9:.3g} GB "
            "are free"
        )
