"""Simulations of a figure: listed, announced, run, and kept in a store from which they resume."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from srfx import _files, _identity
from srfx.config import version
from srfx.models import FloatArray, Model, OneStep, structure
from srfx.scans import open_scan, scan
from srfx.scans.formats import NETCDF
from srfx.scans.plan import Plan, make_plan
from srfx.simulation import predictions, simulate


@dataclasses.dataclass(frozen=True)
class Job:
    """One simulation: errors along an axis, or (with ``edges``) the function learned at a point.

    With another ``loss`` than the square these are classification errors.
    """

    model: Model
    along: str
    values: tuple[float, ...]
    alpha: float | None  # where it is not the axis
    lam: float
    d: int
    replicates: int
    seed: int
    edges: tuple[float, ...] = ()  # of bins in t
    beside: tuple[tuple[str, tuple[float, ...]], ...] = ()  # what else varies along the axis
    loss: str | None = None  # of a readout that classifies

    @property
    def axes(self) -> dict[str, Any]:
        """As `scan` takes them."""
        fixed = {} if self.alpha is None else {"alpha": self.alpha}
        paired = {name: xr.DataArray(list(x), dims=self.along) for name, x in self.beside}
        return {self.along: self.values, **fixed, "lam": self.lam, **paired}

    @property
    def sizes(self) -> dict[str, Any]:
        """Those of an experiment, as `simulate` and `predictions` take them."""
        n_test = 20_000 if self.edges else max(5000, min(10 * self.d, 20_000))
        sizes = {"d": self.d, "replicates": self.replicates}
        return {**sizes, "seed": self.seed, "n_test": n_test}

    def check(self) -> None:
        """Refuse sizes that round to zero, and too large ones, before anything is simulated."""
        self._plan().probe()

    def run(self, run: Run) -> xr.Dataset:
        """Simulate, or read what the store has."""
        if self.alone:
            return self._kept_alone(run)
        return self._errors(run)

    @property
    def alone(self) -> bool:
        """Whether it is not a scan, and kept as a whole."""
        return bool(self.edges) or self.loss is not None

    def _errors(self, run: Run) -> xr.Dataset:
        """Scan the axis, in the store if there is one: resumed there replicate by replicate."""
        return scan(
            self.model,
            self.path(run),
            progress=run.progress,
            simulate=self.sizes,
            n_threads=run.n_threads,
            **self.axes,
        ).load()

    def _kept_alone(self, run: Run) -> xr.Dataset:
        path = self.path(run)
        if path is not None and path.exists():
            with open_scan(path) as kept:
                return kept.load()
        ds = self._learned(run) if self.edges else self._classified(run)
        if path is not None:
            with NETCDF:
                _files.write(path, ds.to_netcdf)
        return ds

    def _learned(self, run: Run) -> xr.Dataset:
        """Mean prediction in bins of t, for each replicate."""
        (alpha,), threads = self.values, run.n_threads
        out = predictions(self.model, alpha, self.lam, n_threads=threads, **self.sizes)
        return _binned(out, np.array(self.edges))

    def _classified(self, run: Run) -> xr.Dataset:
        """Classification errors, at an alpha and a penalty of its own for each value."""
        lams = dict(self.beside).get("lam", (self.lam,) * len(self.values))
        options: dict[str, Any] = {"progress": False, "n_threads": run.n_threads, **self.sizes}
        done = [
            simulate(self.model, alpha, lam, loss=self.loss or "square", **options)
            for alpha, lam in zip(self.values, lams, strict=True)
        ]
        errors = [ds.classification_error.values[0, 0] for ds in done]
        return xr.Dataset({"classification_error": (("alpha", "replicate"), np.array(errors))})

    def path(self, run: Run) -> Path | None:
        """Where it is kept."""
        if run.store is None:
            return None
        ending = f"-{self.replicates}.nc" if self.alone else ".zarr"
        return run.store / f"{self._key()}{ending}"

    def _key(self) -> str:
        """Name of the job in a store: everything its numbers depend on, except the replicates.

        A callable counts by its values, as in the specification of a scan: its name says nothing.
        Last digits, which depend on the processor, do not count.
        """
        model = self.model
        facts = {
            "model": type(model).__name__,
            "activation": _identity.of_function(model.activation),
            "target": _identity.of_function(model.target),
            "numeric": {name: _digits(x) for name, x in model.numeric.items()},
            "readout": [_digits(model.readout), _digits(model.weights or ())],
            **{
                name: x if isinstance(x, str) else _digits(x)
                for name, x in structure(model).items()
                if name not in ("readout", "weights")
            },
            "axes": {name: _digits(x) for name, x in self.axes.items()},
            "sizes": [self.d, self.sizes["n_test"], self.seed, _digits(self.edges)],
            "version": version(),
            **({} if self.loss is None else {"loss": self.loss}),
        }
        return _identity.fingerprint(facts)[:20]

    def kept(self, run: Run) -> NDArray[np.bool_]:
        """Which values (rows) of which replicates are in the store."""
        none = np.zeros((len(self.values), self.replicates), dtype=bool)
        path = self.path(run)
        if path is None or not path.exists():
            return none
        if self.alone:
            return ~none
        try:
            found = open_scan(path).test_error.values.reshape(len(self.values), -1)
        except (OSError, ValueError, KeyError, AttributeError):  # `scan` says what is wrong
            return none
        found = np.isfinite(found[:, : self.replicates])
        none[:, : found.shape[1]] = found
        return none

    def costs(self) -> FloatArray:
        """Time of one replicate of each value, in seconds by the rule of `scan`."""
        count = len(self.values)
        if self.along == "alpha" and not self.beside:  # one experiment serves them all
            return np.full(count, self._plan().seconds() / (count * self.replicates))
        alone = [
            dataclasses.replace(
                self,
                values=(x,),
                replicates=1,
                beside=tuple((name, (values[i],)) for name, values in self.beside),
            )
            for i, x in enumerate(self.values)
        ]
        return np.array([job._plan().seconds() for job in alone])

    def _plan(self) -> Plan:
        # sizes and rounding are those of ridge regression on real labels
        model = dataclasses.replace(self.model, labels="real", slope=None)
        return make_plan(model, self.axes, simulate=self.sizes)


def _digits(values: Any) -> list[str]:
    """Write numbers so that those written alike are equal to a scan, and -0.0 is 0.0."""
    return [f"{x + 0.0:.14g}" for x in np.ravel(np.asarray(values, dtype=float))]


def _binned(out: xr.Dataset, edges: FloatArray) -> xr.Dataset:
    """Mean prediction in each bin of t, for each network: the conditional mean E[f | t].

    Bins have the same edges along every direction of the target.
    """
    count, several = edges.size - 1, "direction" in out.t.dims
    points = out.t.values if several else out.t.values[..., np.newaxis]
    shape = (count,) * points.shape[-1]
    f = np.full((len(points), count ** len(shape)), np.nan)
    t = np.full((*f.shape, len(shape)), np.nan)
    for i, (values, projections) in enumerate(zip(out.f.values, points, strict=True)):
        which = np.digitize(projections, edges) - 1
        inside = ((which >= 0) & (which < count)).all(axis=1)
        place = np.ravel_multi_index(tuple(which[inside].T), shape)
        number = np.bincount(place, minlength=f.shape[1])
        with np.errstate(invalid="ignore"):
            f[i] = np.bincount(place, values[inside], f.shape[1]) / number
            for j, x in enumerate(projections[inside].T):
                t[i, :, j] = np.bincount(place, x, f.shape[1]) / number
    dims = ("replicate", *([f"bin{j + 1}" for j in range(len(shape))] if several else ["bin"]))
    f = f.reshape(-1, *shape)
    t = t.reshape(*f.shape, len(shape)) if several else t.reshape(f.shape)
    t_dims = (*dims, "direction") if several else dims
    return xr.Dataset({"f": (dims, f), "t": (t_dims, t)}, attrs=out.attrs)


@dataclasses.dataclass(frozen=True)
class Run:
    """How the simulations of a figure are run."""

    store: Path | None = None
    progress: bool | None = None
    say: Callable[[str], None] | None = None
    n_threads: int | None = None

    def simulations(self, jobs: Sequence[Job]) -> list[xr.Dataset]:
        """Run the jobs, after saying how long that will take; those in the store are read."""
        for job in jobs:
            job.check()
        if self.store is not None:
            _files.check_folder("store", self.store)
        if self.say is not None:
            self.say(self._announcement(jobs))
        with self.bar(len(jobs)) as bar:
            done = []
            for job in jobs:
                done.append(job.run(self))
                bar.update()
        return done

    def bar(self, total: int) -> Any:
        """Start a progress bar."""
        from tqdm import tqdm

        disable = {None: None, True: False, False: True}[self.progress]
        return tqdm(total=total, desc="curves", unit="curve", leave=False, disable=disable)

    def _announcement(self, jobs: Sequence[Job]) -> str:
        """How much there is, how much of it is in the store, and how long the rest will take."""
        kept = [job.kept(self) for job in jobs]
        total, there = sum(done.size for done in kept), sum(int(done.sum()) for done in kept)
        text = f"{total} simulated errors or functions"
        if there == total:
            return f"{text}, all of them in the store"
        cost = sum(float((job.costs() @ ~done).sum()) for job, done in zip(jobs, kept, strict=True))
        held = f", {there} of them in the store" if there else ""
        rest = "the rest " if there else ""
        return f"{text}{held}, {rest}{_duration(cost * _slowness(self.n_threads))}"


def _slowness(n_threads: int | None) -> float:
    """Time of a small experiment here, over that by the rule of `scan`."""
    job = Job(OneStep(), "alpha", (0.5, 1.0, 2.0), None, 0.1, d=400, replicates=1, seed=0)
    quiet = Run(None, False, None, n_threads)
    times = []
    for _ in range(4):  # the first one warms up
        start = time.perf_counter()
        job.run(quiet)
        times.append(time.perf_counter() - start)
    return min(times) / float(job.costs().sum())


def _duration(seconds: float) -> str:
    if seconds < 5:
        return "a few seconds"
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
