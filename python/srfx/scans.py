"""Scans: outer products of named axes, in blocks, on any executor, into a store that resumes."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srfx import _core, _files, simulation
from srfx import _validation as check
from srfx._blocks import Result, Task, fill, pieces, stopped, tasks_of, work
from srfx._plan import Plan, dtype_of, make_plan
from srfx.models import OneStep, SpikedRF, warn_accuracy

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    import xarray as xr

    from srfx import _store
    from srfx._executors import Pool


@check.public
def scan(
    model: SpikedRF | OneStep,
    out: str | os.PathLike[str] | None = None,
    executor: Executor | Any = None,
    resume: bool = True,
    progress: bool | None = None,
    variables: tuple[str, ...] | list[str] | None = None,
    *,
    simulate: Mapping[str, Any] | None = None,
    bulk: Any = "isotropic",
    n_threads: int | None = None,
    block_points: int | None = None,
    max_in_flight: int | None = None,
    **axes: Any,
) -> xr.Dataset:
    """Solve, or simulate, every combination of named axes.

    The points are cut into blocks of about a second's work, rectangles of the outer product, each
    with as few coefficient sets (r, c, gamma) as possible. What is computed for a point is what
    `solve` or `simulate` computes (THEORY sections 3 to 7): the same bits for any executor, number
    of threads, interruption or resumption.

    Parameters
    ----------
    model : SpikedRF or OneStep
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
    n_threads : int, optional
        Threads for a block; None: all that this process may use, one with an executor.
    block_points : int, optional
        At most so many points in a block of a new store. None: by the estimated cost.
    max_in_flight : int, optional
        At most so many blocks, at least 1, are with the executor at a time. None: two for each of
        its workers, or for each processor of this machine where it does not say how many it has
        (as on many clusters: give twice the number of workers). Without an executor of no effect.
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
        model, axes, simulate=simulate, bulk=bulk, variables=variables, block_points=block_points
    )
    most = _executors.in_flight(max_in_flight)
    pool = None if executor is None else _executors.Pool(executor, most)
    threads = 1 if executor is not None and n_threads is None else check.thread_count(n_threads)
    for name, flag in (("resume", resume), ("progress", progress)):
        if not isinstance(flag, (bool, np.bool_)) and not (name == "progress" and flag is None):
            raise TypeError(f"{name} must be True or False; got {flag!r}")
    plan.probe()
    if path is None:
        return _in_memory(plan, pool, threads, progress)
    return _to_store(plan, path, pool, threads, resume, progress)


# --- running ------------------------------------------------------------------------------------


def _run_blocks(
    plan: Plan,
    blocks: list[int],
    pool: Pool | None,
    threads: int,
    store: _store.Store | None,
    memory: dict[str, NDArray[Any]] | None,
    report: Progress,
    interrupted: Callable[[], None],
) -> tuple[int, float]:
    """Compute blocks and put them where they belong; count failures, measure quadrature."""
    from srfx import _store

    run = os.urandom(16).hex()
    simulation._FLAGS[run] = _core.CancelFlag()
    place = None if store is None else (str(store.path), store.identity)
    failed, worst = 0, 0.0
    tasks = tasks_of(plan, blocks, threads, run, place)
    results = (
        _here(tasks, plan, memory) if pool is None else pool.run(work, tasks, lambda: _stop(run))
    )
    try:
        for block, arrays, notes in results:
            interrupted()
            if arrays is not None:
                box = plan.box(block)
                where = tuple(box[dim] for dim in plan.dims)
                if place is not None:
                    _store.write_block(*place, block, where, plan.index(block), arrays, notes)
                elif memory is not None:
                    for name, values in arrays.items():
                        memory[name][where] = values
            failed, worst = failed + notes[0], max(worst, notes[1])
            report.advance(plan.box_points(block))
    finally:
        results.close()
        simulation._FLAGS.pop(run, None)
        stopped.discard(run)
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
                arrays = {name: np.empty(task.shape, dtype_of(name)) for name in task.variables}
                notes = fill(task, arrays)
                if waiting is not None:
                    yield waiting.result()
                waiting = writer.submit(_write, task, arrays, notes)
            if waiting is not None:
                yield waiting.result()
                waiting = None
        finally:
            if waiting is not None:  # interrupted: a finished block is kept
                waiting.exception()


def _write(task: Task, arrays: dict[str, NDArray[Any]], notes: tuple[int, float]) -> Result:
    from srfx import _store

    assert task.store is not None
    arrays = {
        name: np.asarray(values.transpose(task.permutation), order="C")
        for name, values in arrays.items()
    }
    _store.write_block(*task.store, task.block, task.where, task.index, arrays, notes)
    return task.block, None, notes


@contextlib.contextmanager
def _ctrl_c() -> Iterator[Callable[[], None]]:
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


def _stop(run: str) -> None:
    """Tell the threads of this process that work on a run to leave it."""
    stopped.add(run)
    simulation._FLAGS[run].cancel()


def _in_memory(plan: Plan, pool: Pool | None, threads: int, progress: bool | None) -> xr.Dataset:
    check.memory(f"{plan.points} points", plan.bytes, ": give out=, or fewer variables")
    _check_portable(plan, pool)
    template = plan.template()
    shape = tuple(plan.dims.values())
    memory = {name: np.empty(shape, dtype_of(name)) for name in plan.variables}
    blocks = list(range(plan.blocks))
    with Progress(plan, 0, progress) as report, _ctrl_c() as interrupted:
        failed, worst = _run_blocks(plan, blocks, pool, threads, None, memory, report, interrupted)
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
    plan: Plan, path: Path, pool: Pool | None, threads: int, resume: bool, progress: bool | None
) -> xr.Dataset:
    from srfx import _store

    if path.is_symlink() and not path.exists():  # to where there is nothing yet
        path = Path(os.path.realpath(path))
    template, variables = plan.template(), plan.described()
    new = not (path / "zarr.json").exists()
    if new:
        _check_portable(plan, pool)
    if not path.exists():
        _check_disk(path, plan.bytes)
    store = _store.open_store(
        path,
        template,
        variables,
        plan.chunk_shape,
        plan.specification(),
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
        missing = np.flatnonzero(~done).tolist()
        if missing and not store.writable:
            raise PermissionError(
                f"out must be writable: {total - len(missing)} of {total} blocks are in "
                f"{str(path)!r}, which is read only"
            )
        if missing:
            if not new:  # a finished store needs no worker
                _check_portable(plan, pool)
            before = sum(plan.box_points(int(b)) for b in np.flatnonzero(done))
            with Progress(plan, before, progress) as report:
                _guarded(plan, missing, pool, threads, store, report)
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
    missing: list[int],
    pool: Pool | None,
    threads: int,
    store: _store.Store,
    report: Progress,
) -> None:
    """Run, and on whatever ends it say what is in the store and how to go on."""
    try:
        with _ctrl_c() as interrupted:
            _run_blocks(plan, missing, pool, threads, store, None, report, interrupted)
    except BaseException as error:
        total = plan.blocks
        done = store.finished([plan.index(b) for b in range(total)], plan.described(), total)
        error.add_note(
            f"srfx.scan: {int(done.sum())} of {total} blocks are in "
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


class Progress:
    """A bar on a terminal; elsewhere a line for each per cent; or nothing."""

    def __init__(self, plan: Plan, done: int, progress: bool | None) -> None:
        self._total, self._done, self._first = plan.points, done, done
        self._said = 100 * done // max(1, plan.points)
        self._start = time.monotonic()
        self._bar: Any = None
        self._line: Any = None
        terminal = sys.stderr is not None and sys.stderr.isatty()
        if progress is False:
            return
        if terminal:
            from tqdm import tqdm

            self._bar = tqdm(
                total=plan.points, initial=done, desc="scan", unit="point", unit_scale=True
            )
        elif progress:
            self._line = lambda text: print(f"srfx: {text}", file=sys.stderr, flush=True)
        else:
            import logging

            log = logging.getLogger("srfx")
            if log.isEnabledFor(logging.INFO):
                self._line = log.info

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self, points: int) -> None:
        """More points are done."""
        self._done += points
        if self._bar is not None:
            self._bar.update(points)
        percent = 100 * self._done // self._total
        if self._line is None or percent <= self._said:
            return
        self._said = percent
        spent = time.monotonic() - self._start
        rate = (self._done - self._first) / max(spent, 1e-9)
        left = (self._total - self._done) / max(rate, 1e-9)
        self._line(
            f"scan {percent:3d} %, {self._done} of {self._total} points, {rate:.3g} points/s, "
            f"{_duration(left)} left"
        )


def _duration(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


# --- stored scans -------------------------------------------------------------------------------


#: Attributes that are lists, of one number or name often: NetCDF makes a single one of that.
_LISTS = ("readout", "weights", "group_sizes", "srfx_dims")


@check.public
def open_scan(path: str | os.PathLike[str]) -> xr.Dataset:
    """Open a stored scan, or a NetCDF file that srfx wrote; values are read when used.

    Parameters
    ----------
    path : path
        What was ``out`` of `scan`, or a file (.nc) of `export` or of the program.
        ``xarray.open_zarr`` and ``xarray.open_dataset`` open them too; but NetCDF knows no list of
        one, so that there the attribute ``readout`` of ``[1.0]`` comes back as ``1.0``. Here it is
        the list that it was.

    Returns
    -------
    xarray.Dataset
        As `scan` returns it. Blocks that are not computed yet hold NaN, with status -1.

    Raises
    ------
    TypeError, ValueError
        There is no such store or file, or ``path`` is a URL.
    ImportError
        zarr is not installed.

    Examples
    --------
    >>> import srfx, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ds = srfx.scan(srfx.SpikedRF(), folder + "/scan.zarr", alpha=[1, 2], lam=[0.1, 1])
    ...     print(f"{srfx.scans.open_scan(folder + '/scan.zarr').test_error[1, 0].item():.6f}")
    0.033018
    """
    import xarray as xr

    path = _files.local("path", path)
    if path.suffix.lower() == ".nc" and path.is_file():
        with NETCDF:
            ds: xr.Dataset = xr.open_dataset(path)
        ds.attrs = {name: _as_given(str(name), value) for name, value in ds.attrs.items()}
        return ds

    from srfx import _store

    _store.require_zarr()
    if not (path / "zarr.json").is_file():
        raise ValueError(f"path must be a store of srfx.scan; there is none at {str(path)!r}")
    ds = xr.open_zarr(path, chunks=None)
    text = {name: item for name, item in ds.coords.items() if item.dtype.kind in "OT"}
    if text:  # of any width in the store; as it was given, and is in memory
        ds = ds.assign_coords(
            {name: item.astype(object).astype(str) for name, item in text.items()}
        )
    return ds


def _as_given(name: str, value: Any) -> Any:
    """Return an attribute of a NetCDF file as srfx had it: a list or a plain number."""
    value = value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value
    return [value] if name in _LISTS and not isinstance(value, list) else value


@check.public
def export(source: xr.Dataset | str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write a scan to one file: NetCDF (.nc), or a long table in Parquet (.parquet).

    Parameters
    ----------
    source : xarray.Dataset or path
        What `scan` returned, or a store. It is read and written part by part.
    path : path
        The file; an existing one is replaced once the new one is complete. Parquet needs pyarrow.
        `open_scan` reads NetCDF files with their attributes as they were.

    Raises
    ------
    TypeError, ValueError
        ``source`` is neither, the suffix is another, or a path is a URL.
    OSError
        The file cannot be written; before anything is read.
    ImportError
        pyarrow is not installed.

    Examples
    --------
    >>> import srfx, tempfile, xarray
    >>> ds = srfx.scan(srfx.SpikedRF(), alpha=[1, 2], lam=[0.1, 1])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     srfx.scans.export(ds, folder + "/scan.nc")
    ...     print(dict(xarray.load_dataset(folder + "/scan.nc").sizes))
    {'alpha': 2, 'lam': 2}
    """
    import xarray as xr

    target = _files.local("path", path)
    suffix = check.one_of("the suffix of path", target.suffix.lower(), (".nc", ".parquet"))
    if isinstance(source, (str, os.PathLike)):
        ds = open_scan(source)
    elif isinstance(source, xr.Dataset):
        ds = source
    else:
        raise TypeError(f"source must be a Dataset or the path of a store; got {source!r}")

    def write(part: Path) -> None:
        if suffix == ".nc":
            with NETCDF:
                _to_netcdf(ds, part)
        else:
            _to_parquet(ds, part)

    _files.check("path", target)
    _files.write(target, write)


#: Threads of srfx take turns at netCDF files: the library is made for one thread, and xarray's own
#: locks leave out what it does at opening a file.
NETCDF = threading.RLock()

_EXPORT_POINTS = 2**20


def _parts(ds: xr.Dataset) -> Iterator[dict[str, slice]]:
    """Boxes of at most a million points, in C order."""
    lengths = {str(dim): 1 for dim in ds.sizes}
    for dim in reversed(list(ds.sizes)):
        rest = math.prod(lengths.values())
        lengths[str(dim)] = max(1, min(ds.sizes[dim], _EXPORT_POINTS // rest))
        if lengths[str(dim)] < ds.sizes[dim]:
            break
    shape = tuple(ds.sizes.values())
    for place in pieces(shape, tuple(lengths.values())):
        yield dict(zip(lengths, place, strict=True))


def _to_netcdf(ds: xr.Dataset, path: Path) -> None:
    import netCDF4

    from srfx import _store

    names = [str(name) for name in ds.data_vars]
    times = {name: item for name, item in ds.coords.items() if item.dtype.kind in "mM"}
    plain = {name: (item.dims, *_store.plain(item.values)) for name, item in times.items()}
    ds.drop_vars(names).assign_coords(plain).to_netcdf(path)
    with netCDF4.Dataset(path, "a") as file:
        others = " ".join(sorted(str(c) for c in ds.coords if c not in ds.sizes))
        for dim, size in ds.sizes.items():
            if dim not in file.dimensions:
                file.createDimension(str(dim), size)
        for name in names:
            values = ds[name]
            fill = np.nan if values.dtype.kind == "f" else None
            variable = file.createVariable(
                name, values.dtype.str[1:], tuple(map(str, values.dims)), fill_value=fill
            )
            variable.setncatts(
                {k: np.asarray(v) if isinstance(v, list) else v for k, v in values.attrs.items()}
            )
            if others:
                variable.coordinates = others
            for part in _parts(ds):
                box = {dim: part[str(dim)] for dim in values.dims}
                variable[tuple(box.values()) or ...] = values.isel(box).values


def _to_parquet(ds: xr.Dataset, path: Path) -> None:
    try:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("export to Parquet needs pyarrow: pip install pyarrow") from error

    names = [str(name) for name in (*ds.coords, *ds.data_vars)]
    about = {str(k): str(v) for k, v in ds.attrs.items()}
    writer = None
    try:
        for part in _parts(ds):
            some = ds.isel(part).load()
            like = {str(d): some.sizes[d] for d in some.sizes}
            columns = {}
            for name in names:
                item = some[name].transpose(*(d for d in like if d in some[name].dims))
                along = [like[d] if d in item.dims else 1 for d in like]
                values = np.broadcast_to(item.values.reshape(along), tuple(like.values()))
                columns[name] = values.ravel()
            table = pa.table(columns).replace_schema_metadata(about)
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
