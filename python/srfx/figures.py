"""The figures of the paper, and some it does not have: theory as lines, simulations as points.

Each figure is a function that computes and draws: ``figure1`` to ``figure5`` for those of the
paper, ``readout``, ``spectrum``, ``network`` and ``phase``. `compute` gives its data alone, `draw`
draws them, `make` writes picture, data (NetCDF) and provenance (JSON) beside each other, as does
the command ``srfx figure``. The parameters are those of the captions of CPD24; where a caption is
silent the default is ours, and every parameter can be given.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srfx import _core, _files, _identity, _replicates
from srfx import _validation as check
from srfx._style import (
    COLOURS,
    COLUMN,
    GREY,
    MARKERS,
    PAGE,
    ordered_colours,
    require_matplotlib,
    style,
)
from srfx.config import provenance, version
from srfx.models import (
    FloatArray,
    OneStep,
    SpikedRF,
    as_function,
    compiled,
    label,
    quiet,
    readout_quantiles,
)
from srfx.optima import thresholds
from srfx.scans import open_scan, scan
from srfx.scans.formats import NETCDF
from srfx.scans.store import require_zarr
from srfx.simulation import predictions, sample_weights
from srfx.spectrum import feature_spectrum
from srfx.theory import bounds, learned_function, linear_floor, solve

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "NAMES",
    "compute",
    "draw",
    "figure1",
    "figure2",
    "figure3",
    "figure4",
    "figure5",
    "make",
    "network",
    "phase",
    "readout",
    "spectrum",
]

FORMATS = ("png", "pdf", "svg")

#: What theory's curves are called in a legend.
_THEORY = {
    "isotropic": "theory, isotropic bulk, $d = \\infty$ (the paper's)",
    "one_step": "theory, bulk of the step, with its $1/d$ term (ours)",
    "finite_d": "theory, with its $1/d$ term",
    "limit": "theory in the limit $d = \\infty$",
}
_AXIS = {
    "alpha": r"$\alpha = n/d$",
    "beta": r"$\beta = p/d$",
    "alpha0": r"$\alpha_0$",
    "eta": r"$\tilde\eta$",
    "r": "$r$",
}


# --- simulations, kept and resumed ---------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Job:
    """One simulation: errors along an axis, or (with ``edges``) the function learned at a point."""

    model: SpikedRF | OneStep
    along: str
    values: tuple[float, ...]
    alpha: float | None  # where it is not the axis
    lam: float
    d: int
    replicates: int
    seed: int
    edges: tuple[float, ...] = ()  # of bins in t

    @property
    def n_test(self) -> int:
        return 20_000 if self.edges else max(5000, min(10 * self.d, 20_000))

    @property
    def axes(self) -> dict[str, Any]:
        fixed = {} if self.alpha is None else {"alpha": self.alpha}
        return {self.along: self.values, **fixed, "lam": self.lam}

    @property
    def work(self) -> float:
        """Floating-point operations of the whole job, to within a factor of two."""
        return self.replicates * float(self._works.sum())

    @property
    def _works(self) -> FloatArray:
        """Those of each value, of one replicate."""
        if self.along == "alpha":  # one experiment serves them all
            count = len(self.values)
            return np.full(count, self._work(self.values, {}) / count)
        assert self.alpha is not None
        return np.array([self._work((self.alpha,), {self.along: x}) for x in self.values])

    def kept(self, run: _Run) -> NDArray[np.bool_]:
        """Which values (rows) of which replicates are in the store."""
        none = np.zeros((len(self.values), self.replicates), dtype=bool)
        path = self.path(run)
        if path is None or not path.exists():
            return none
        if self.edges:
            return ~none
        try:
            found = open_scan(path).test_error.values.reshape(len(self.values), -1)
        except (OSError, ValueError, KeyError, AttributeError):  # `scan` says what is wrong
            return none
        found = np.isfinite(found[:, : self.replicates])
        none[:, : found.shape[1]] = found
        return none

    def check(self) -> None:
        """Refuse sizes that round to zero, and too large ones, before anything is simulated."""
        for value in (min(self.values), max(self.values)):
            fields: dict[str, Any] = {} if self.along == "alpha" else {self.along: value}
            at = dataclasses.replace(self.model, **fields)
            alpha = value if self.alpha is None else self.alpha
            _replicates.check_memory(
                _replicates.request(
                    at, alpha, self.lam, self.d, self.n_test, self.seed, "float64", False
                ),
                None,
            )

    def path(self, run: _Run) -> Path | None:
        """Where it is kept."""
        if run.store is None:
            return None
        ending = f"-{self.replicates}.nc" if self.edges else ".zarr"
        return run.store / f"{self.key()}{ending}"

    def _work(self, alphas: tuple[float, ...], fields: dict[str, float]) -> float:
        d, numbers = self.d, self.model.numeric | fields
        p, n = round(float(numbers["beta"]) * d), round(max(alphas) * d)
        flops = 2.0 * d * p * (n + self.n_test) + 1.0 * n * p * min(n, p)
        flops += sum(min(p, round(a * d)) ** 3 / 3 for a in alphas)
        return flops + 4.0 * d * p * d * float(numbers.get("alpha0", 0.0))

    def key(self) -> str:
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
            "axes": {name: _digits(x) for name, x in self.axes.items()},
            "sizes": [self.d, self.n_test, self.seed, _digits(self.edges)],
            "version": version(),
        }
        return _identity.fingerprint(facts)[:20]

    def errors(self, run: _Run) -> xr.Dataset:
        """Scan the axis, in the store if there is one: resumed there replicate by replicate."""
        options = {"d": self.d, "replicates": self.replicates, "seed": self.seed}
        options["n_test"] = self.n_test
        ds = scan(
            self.model,
            self.path(run),
            progress=run.progress,
            simulate=options,
            n_threads=run.n_threads,
            **self.axes,
        )
        return ds.load()

    def learned(self, run: _Run) -> xr.Dataset:
        """Mean prediction in bins of t, for each replicate; kept in the store."""
        path = self.path(run)
        if path is not None and path.exists():
            with open_scan(path) as kept:
                return kept.load()
        out = predictions(
            self.model,
            self.values[0],
            self.lam,
            d=self.d,
            replicates=self.replicates,
            n_test=self.n_test,
            seed=self.seed,
            n_threads=run.n_threads,
        )
        ds = _binned(out, np.array(self.edges))
        if path is not None:
            with NETCDF:
                _files.write(path, ds.to_netcdf)
        return ds


def _digits(values: Any) -> list[str]:
    return [f"{x:.12g}" for x in np.ravel(np.asarray(values, dtype=float))]


def _binned(out: xr.Dataset, edges: FloatArray) -> xr.Dataset:
    """Mean prediction in each bin of t, for each network: the conditional mean E[f | t]."""
    import xarray as xr

    count = edges.size - 1
    f = np.full((out.sizes["replicate"], count), np.nan)
    t = np.full_like(f, np.nan)
    for i in range(len(f)):
        values, projections = out.f.values[i], out.t.values[i]
        which = np.digitize(projections, edges) - 1
        inside = (which >= 0) & (which < count)
        which = which[inside]
        number = np.bincount(which, minlength=count)
        with np.errstate(invalid="ignore"):
            f[i] = np.bincount(which, values[inside], count) / number
            t[i] = np.bincount(which, projections[inside], count) / number
    dims = ("replicate", "bin")
    return xr.Dataset({"f": (dims, f), "t": (dims, t)}, attrs=out.attrs)


@dataclasses.dataclass(frozen=True)
class _Run:
    """How the simulations of a figure are run."""

    store: Path | None = None
    progress: bool | None = None
    say: Callable[[str], None] | None = None
    n_threads: int | None = None

    def simulations(self, jobs: Sequence[_Job]) -> list[xr.Dataset]:
        """Run the jobs, after saying how long that will take; those in the store are read."""
        for job in jobs:
            job.check()
        if self.store is not None:
            _make_writable(self.store, "store")
        if self.say is not None:
            self.say(self._announcement(jobs))
        done = []
        with _bar(len(jobs), self.progress) as bar:
            for job in jobs:
                done.append(job.learned(self) if job.edges else job.errors(self))
                bar.update()
        return done

    def _announcement(self, jobs: Sequence[_Job]) -> str:
        """How much there is, how much of it is in the store, and how long the rest will take."""
        kept = [job.kept(self) for job in jobs]
        total, there = sum(done.size for done in kept), sum(int(done.sum()) for done in kept)
        text = f"{total} simulated errors or functions"
        if there == total:
            return f"{text}, all of them in the store"
        work = sum(float((job._works @ ~done).sum()) for job, done in zip(jobs, kept, strict=True))
        held = f", {there} of them in the store" if there else ""
        rest = "the rest " if there else ""
        return f"{text}{held}, {rest}{_duration(work / _flops_per_second(self.n_threads))}"


def _flops_per_second(n_threads: int | None) -> float:
    """Speed of this machine on a small experiment, measured."""
    job = _Job(OneStep(), "alpha", (0.5, 1.0, 2.0), None, 0.1, d=400, replicates=1, seed=0)
    quiet = _Run(None, False, None, n_threads)
    times = []
    for _ in range(4):  # the first one warms up
        start = time.perf_counter()
        job.errors(quiet)
        times.append(time.perf_counter() - start)
    return job.work / min(times)


def _duration(seconds: float) -> str:
    if seconds < 5:
        return "a few seconds"
    return f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"


def _bar(total: int, progress: bool | None) -> Any:
    from tqdm import tqdm

    disable = {None: None, True: False, False: True}[progress]
    return tqdm(total=total, desc="curves", unit="curve", leave=False, disable=disable)


# --- curves: errors along one axis, theory and simulation ----------------------------------------


@dataclasses.dataclass(frozen=True)
class _Panel:
    """One panel: a model for each line, and the penalty."""

    title: str
    models: Sequence[SpikedRF | OneStep]
    lam: float


def _curves(
    run: _Run,
    panels: Sequence[_Panel],
    line: tuple[str, Sequence[Any]],
    along: str,
    x: FloatArray,
    x_simulated: Sequence[float],
    *,
    alpha: float | None,
    d: int,
    replicates: int,
    seed: int,
    kinds: Mapping[str, dict[str, Any]],
) -> xr.Dataset:
    """Theory of every kind, and simulation, of test errors along ``along``, a line for each model.

    ``kinds`` names the theories and says how each is solved; the last one claims the simulation.
    """
    import xarray as xr

    name, values = line
    xs = np.asarray(x_simulated, dtype=float)
    jobs = [
        _Job(model, along, tuple(xs.tolist()), alpha, panel.lam, d, replicates, seed)
        for panel in panels
        for model in panel.models
    ]
    simulated = np.array(
        [ds.test_error.squeeze(drop=True).values for ds in run.simulations(jobs)]
    ).reshape(len(panels), len(values), len(xs), replicates)

    def theory(grid: FloatArray) -> FloatArray:
        out = np.empty((len(kinds), len(panels), len(values), grid.size))
        for i, options in enumerate(kinds.values()):
            for j, panel in enumerate(panels):
                for k, model in enumerate(panel.models):
                    fields: dict[str, Any] = {} if along == "alpha" else {along: grid}
                    at = dataclasses.replace(model, **fields)
                    n = grid if along == "alpha" else alpha
                    out[i, j, k] = _quietly(
                        solve, at, n, panel.lam, n_threads=run.n_threads, **options
                    ).test_error
        return out

    return xr.Dataset(
        {
            "theory": (("kind", "panel", name, along), theory(x)),
            "theory_at_simulated": (("kind", "panel", name, f"{along}_simulated"), theory(xs)),
            "simulated": (("panel", name, f"{along}_simulated", "replicate"), simulated),
            "floor": ("panel", [linear_floor(panel.models[0]) for panel in panels]),
            "lam": ("panel", [panel.lam for panel in panels]),
        },
        coords={
            "kind": list(kinds),
            "panel": [panel.title for panel in panels],
            name: list(values),
            along: x,
            f"{along}_simulated": xs,
        },
        attrs={"line": name, "along": along, "d": d, "claims": list(kinds)[-1]},
    )


def _quietly(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """Call without the reminders that do not matter to a picture: 1e-8 is less than a line."""
    with quiet():
        return function(*args, **options)


def _draw_curves(
    ds: xr.Dataset,
    *,
    spread: str = "error",
    stated: Sequence[str] = (),
    extra: Callable[[Axes, list[Any]], None] | None = None,
    keys: Sequence[tuple[str, dict[str, Any]]] = (),
    words: Mapping[str, str] = _THEORY,
) -> Figure:
    """One panel beside the other, all lines of one parameter; ``stated`` goes into a line above."""
    panels = ds.sizes["panel"]
    figure = _new_figure(COLUMN if panels == 1 else PAGE, 2.65)
    axes = np.atleast_1d(figure.subplots(1, panels))
    name, along = ds.attrs["line"], ds.attrs["along"]
    colours = ordered_colours(ds.sizes[name])
    kinds = [str(kind) for kind in ds.kind.values]
    styles = {kind: ls for kind, ls in zip(reversed(kinds), ("-", ":", "--"), strict=False)}
    values = ds.simulated.values
    replicates = values.shape[-1]
    middle, bars = values.mean(-1), values.std(-1, ddof=1)
    if spread == "error":
        bars = bars / np.sqrt(replicates)
    for j, ax in enumerate(axes):
        for i, value in enumerate(ds[name].values):
            for kind in kinds:
                curve = ds.theory.sel(kind=kind).values[j, i]
                width = 1.4 if styles[kind] == "-" else 1.1
                ax.plot(ds[along], curve, styles[kind], color=colours[i], lw=width, zorder=2)
            ax.errorbar(
                ds[f"{along}_simulated"],
                middle[j, i],
                yerr=bars[j, i],
                fmt=MARKERS[i % len(MARKERS)],
                color=colours[i],
                mec="white",
                mew=0.4,
                elinewidth=0.9,
                label=value if isinstance(value, str) else f"{_AXIS[name]} = {value:g}",
                zorder=3,
            )
        floor = float(ds.floor[j])
        if floor > 0:
            ax.axhline(floor, color=GREY, ls="--", lw=0.9, zorder=1)
        ax.set_xlabel(_AXIS[along])
        ax.set_title(_in_symbols(str(ds.panel.values[j])))
        lowest, highest = middle[j].min(), middle[j].max()
        if lowest > 0 and highest > 30 * lowest:
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
        ax.margins(x=0.02)
        if extra is not None:
            extra(ax, colours)
    axes[0].set_ylabel("test error")
    handles, labels = _marks(axes[0])
    points = "one standard deviation" if spread == "deviation" else "standard error"
    handles += [_key(color=GREY, ls=styles[kind]) for kind in reversed(kinds)]
    labels += [words[kind] for kind in reversed(kinds)]
    handles.append(_key(color=GREY, ls="", marker="o"))
    labels.append(f"simulation, $d = {ds.attrs['d']}$: mean of {replicates}, bars {points}")
    if (ds.floor > 0).any():
        handles.append(_key(color=GREY, ls="--", lw=0.9))
        labels.append("linear floor")
    for text, look in keys:
        handles.append(_key(color=GREY, **look))
        labels.append(text)
    _state(figure, ds, *stated)
    _legend_below(figure, handles, labels)
    return figure


#: Parameters in the lines above the panels, as in `_AXIS` but without what they are ratios of.
_SYMBOLS = _AXIS | {
    "alpha": r"$\alpha$",
    "beta": r"$\beta$",
    "lam": r"$\lambda$",
    "c": "$c$",
    "gamma": r"$\gamma$",
    "noise": "noise",
}


def _in_symbols(text: str) -> str:
    """Write the penalty of a panel's plain name as its symbol."""
    return text.replace("lam = ", rf"{_SYMBOLS['lam']} = ")


def _stated(ds: xr.Dataset, *names: str) -> str:
    """Name parameters and their values, and the noise where there is any, from the attributes."""
    values = json.loads(ds.attrs["parameters"])
    parts = [f"{_SYMBOLS[name]} = {values[name]:g}" for name in names]
    if values.get("noise", 0) > 0:
        parts.append(f"noise {values['noise']:g}")
    return ", ".join(parts)


def _state(figure: Figure, ds: xr.Dataset, *names: str) -> None:
    """Say above the panels, or in the title of a single one, what the picture does not show."""
    text = _stated(ds, *names)
    if len(figure.axes) > 1:
        figure.suptitle(text, fontsize=7.5)
    else:
        (ax,) = figure.axes
        ax.set_title(f"{ax.get_title()}\n{text}")


def _of(ds: xr.Dataset, what: str) -> str:
    """Activation and target in words."""
    values = json.loads(ds.attrs["parameters"])
    # a callable is recorded by its name and a digest of its values
    activation, target = (
        values[name].split(" with values ")[0] for name in ("activation", "target")
    )
    return f"{activation} {what}, {target} target"


def _marks(ax: Axes) -> tuple[list[Any], list[str]]:
    handles, labels = ax.get_legend_handles_labels()
    return list(handles), list(labels)


def _key(**style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], **style)


def _legend_below(figure: Figure, handles: list[Any], labels: list[str]) -> None:
    """Put the legend under the panels, where it covers no curve."""
    wide = figure.get_figwidth() > COLUMN
    long = [i for i, x in enumerate(labels) if len(x) > 24 or (x == "linear floor" and not wide)]
    short = [i for i in range(len(labels)) if i not in long]
    # the values of the parameter in a row, and what the marks mean in rows below it
    blocks = [(short, min(len(short), 6 if wide else 4)), (long, 2 if wide else 1)]
    blocks = [(rows, columns) for rows, columns in blocks if rows]
    line = 0.155
    height = sum(line * -(-len(rows) // columns) for rows, columns in blocks)
    total = figure.get_figheight() + height + 0.05
    figure.set_figheight(total)
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, (height + 0.05) / total, 1, 1 - (height + 0.05) / total))
    top = height / total
    for rows, columns in blocks:
        legend = figure.legend(
            [handles[i] for i in rows],
            [labels[i] for i in rows],
            loc="upper center",
            bbox_to_anchor=(0.5, top),
            ncols=columns,
            columnspacing=1.2,
            borderaxespad=0,
            borderpad=0.1,
        )
        legend.set_in_layout(False)
        top -= line * -(-len(rows) // columns) / total


def _new_figure(width: float, height: float) -> Figure:
    require_matplotlib("figures need matplotlib")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


# --- figure 1: the function learned --------------------------------------------------------------


def _compute1(
    run: _Run,
    *,
    activation: Any = "tanh",
    target: Any = "tanh",
    eta: float = 2.5,
    alpha0: Sequence[float] = (0, 0.5, 1, 4),
    beta: float = 1.0,
    alpha: float = 2.0,
    lam: float = 0.01,
    noise: float = 0.0,
    d: int = 2000,
    replicates: int = 5,
    bins: int = 22,
    seed: int = 1,
) -> xr.Dataset:
    import xarray as xr

    def model(value: float) -> OneStep:
        return OneStep(activation, target, eta=eta, alpha0=value, beta=beta, noise=noise)

    edges = np.linspace(-2.75, 2.75, bins + 1)
    values = np.atleast_1d(np.asarray(alpha0, dtype=float))
    jobs = [
        _Job(model(value), "alpha", (alpha,), None, lam, d, replicates, seed, tuple(edges.tolist()))
        for value in values.tolist()
    ]
    done = run.simulations(jobs)
    t = np.linspace(-3, 3, 241)
    kinds = _step_kinds(d)
    curves = np.array(
        [
            [
                _quietly(
                    learned_function, model(value), alpha, lam, t, n_threads=run.n_threads, **kind
                )
                for value in values
            ]
            for kind in kinds.values()
        ]
    )
    f = np.array([ds.f.values for ds in done])
    at = np.array([ds.t.values for ds in done])
    claimed = np.array([np.interp(a, t, curve) for a, curve in zip(at, curves[-1], strict=True)])
    return xr.Dataset(
        {
            "theory": (("kind", "alpha0", "t"), curves),
            "theory_at_simulated": (("alpha0", "replicate", "bin"), claimed),
            "simulated": (("alpha0", "replicate", "bin"), f),
            "t_simulated": (("alpha0", "replicate", "bin"), at),
            "target": ("t", _core.evaluate(compiled(model(1.0).target), t)),
        },
        coords={"kind": list(kinds), "alpha0": values, "t": t, "bin": (edges[1:] + edges[:-1]) / 2},
        attrs={"d": d, "replicates": replicates, "claims": list(kinds)[-1]},
    )


def _draw1(ds: xr.Dataset) -> Figure:
    figure = _new_figure(COLUMN, 2.6)
    ax = figure.subplots()
    ax.plot(ds.t, ds.target, color=GREY, ls="--", lw=1.1, zorder=1)
    colours = ordered_colours(ds.sizes["alpha0"])
    for i, value in enumerate(ds.alpha0.values):
        ax.plot(ds.t, ds.theory.sel(kind="one_step")[i], color=colours[i], zorder=2)
        ax.plot(ds.t, ds.theory.sel(kind="isotropic")[i], ":", color=colours[i], lw=1.1, zorder=2)
        values = ds.simulated.values[i]
        ax.errorbar(
            ds.t_simulated.values[i].mean(0),
            values.mean(0),
            yerr=values.std(0, ddof=1) / np.sqrt(len(values)),
            fmt=MARKERS[i % len(MARKERS)],
            ms=3,
            color=colours[i],
            mec="white",
            mew=0.4,
            elinewidth=0.9,
            label=rf"$\alpha_0$ = {value:g}",
            zorder=3,
        )
    ax.set_xlabel(r"$t = \theta\cdot x/\sqrt{d}$")
    ax.set_ylabel(r"$\mathrm{E}\,[f(x)\mid t]$")
    ax.set_title(_of(ds, "network"))
    _state(figure, ds, "eta", "alpha", "beta", "lam")
    ax.margins(x=0.02)
    handles, labels = _marks(ax)
    n = ds.attrs["replicates"]
    handles += [_key(color=GREY), _key(color=GREY, ls=":", lw=1.1)]
    handles += [_key(color=GREY, ls="", marker="o"), _key(color=GREY, ls="--")]
    labels += [
        _THEORY["one_step"],
        _THEORY["isotropic"],
        f"simulation, $d = {ds.attrs['d']}$: mean of {n}, bars standard error",
        r"target $\sigma_*(t)$" + " " * 12,
    ]
    _legend_below(figure, handles, labels)
    return figure


# --- figure 2: errors of the network after one step ----------------------------------------------


def _step_kinds(d: int) -> dict[str, dict[str, Any]]:
    """Theories of a one-step network; the last one claims the simulation."""
    return {"isotropic": {}, "one_step": {"bulk": "one_step", "d": d}}


def _compute2(
    run: _Run,
    *,
    activation: Any = "tanh",
    targets: Sequence[Any] = ("tanh", "sin"),
    eta: float = 1.0,
    alpha0: Sequence[float] = (0, 0.5, 1.5, 5),
    beta: float = 1.0,
    alpha: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0),
    lam: Sequence[float] = (0.01, 0.1),
    noise: float = 0.0,
    d: int = 2000,
    replicates: int = 5,
    seed: int = 2,
) -> xr.Dataset:
    def panel(target: Any, lam: float) -> _Panel:
        models = [
            OneStep(activation, target, eta=eta, alpha0=value, beta=beta, noise=noise)
            for value in alpha0
        ]
        title = f"{label(activation)} network, {label(target)} target, lam = {lam:g}"
        return _Panel(title, models, lam)

    return _curves(
        run,
        [panel(*pair) for pair in zip(targets, lam, strict=True)],
        ("alpha0", alpha0),
        "alpha",
        _grid(alpha),
        alpha,
        alpha=None,
        d=d,
        replicates=replicates,
        seed=seed,
        kinds=_step_kinds(d),
    )


def _ends(points: Sequence[float]) -> tuple[float, float]:
    """Where curves begin and end: at the outer points, or to both sides of a single one."""
    low, high = min(points), max(points)
    return (low, high) if low < high else (low / 2, 2 * low)


def _grid(points: Sequence[float], count: int = 121) -> FloatArray:
    return np.linspace(*_ends(points), count)


# --- figure 3: the functions of the bounds -------------------------------------------------------


def _compute3(
    run: _Run,
    *,
    activation: Any = "tanh",
    target: Any = "sin",
    r: float = 0.9,
    c: float = 1.0,
    gamma: float = 1.0,
) -> xr.Dataset:
    import xarray as xr

    model = SpikedRF(activation, target, r=r, c=c, gamma=gamma)
    t = np.linspace(-6, 6, 481)
    fitted = _bound_parameters(model)
    limits = bounds(model)
    curves = {}
    for name, (m, theta, psi, value) in fitted.items():
        exact = float(getattr(limits, name))
        if abs(value - exact) > 1e-3 * exact + 1e-9:
            raise ValueError(
                "figure 3 needs an activation and a target that a grid resolves to 1e-3, "
                f"without jumps and with moderate r: of {label(activation)} and {label(target)}, "
                f"the function of the {name} bound has error {value:.6g} where the bound is "
                f"{exact:.6g}"
            )
        one = np.ones(1)
        curves[name] = _core.learned_function(
            compiled(model.activation), r * one, c * one, gamma * one, m * one, theta * one,
            psi * one, t, 1,
        )[0]  # fmt: skip
    return xr.Dataset(
        {
            "upper": ("t", curves["upper"], {"error": float(limits.upper)}),
            "lower": ("t", curves["lower"], {"error": float(limits.lower)}),
            "target": ("t", _core.evaluate(compiled(model.target), t)),
        },
        coords={"t": t},
        attrs={"linear_floor": linear_floor(model)},
    )


def _bound_parameters(model: SpikedRF) -> dict[str, tuple[float, float, float, float]]:
    """Fit (m, theta, psi) of both bounds (THEORY 6) in k; with the errors that they give."""
    k = np.linspace(-9, 9, 20001)
    weight = np.exp(-(k**2) / 2)
    weight /= weight.sum()
    c = _core.coefficients(
        compiled(model.activation),
        compiled(model.target),
        float(model.r),
        float(model.c),
        float(model.gamma),
        k,
    )
    mu0, mu1, h, h1, hh = (np.asarray(c[name]) for name in ("mu0", "mu1", "h", "h1", "hh"))
    root = np.sqrt(weight)
    out = {}
    for name, columns in (("upper", [mu0]), ("lower", [mu0, mu1 * k])):
        design = np.stack([column * root for column in columns], axis=1)
        size = np.linalg.norm(design, axis=0)
        solution = np.linalg.lstsq(design, h * root, rcond=1e-10)[0]
        m = float(solution[0]) if size[0] > 1e-13 else 0.0
        theta = float(solution[1]) if name == "lower" else 0.0
        power = float(weight @ mu1**2)
        psi = float(weight @ (mu1 * h1)) / power if name == "lower" and power > 0 else 0.0
        fit = mu0 * m + mu1 * k * theta
        value = float(weight @ (hh - 2 * h * fit + fit**2 - 2 * mu1 * psi * h1 + (mu1 * psi) ** 2))
        out[name] = (m, theta, psi, value)
    return out


def _draw3(ds: xr.Dataset) -> Figure:
    figure = _new_figure(COLUMN, 2.6)
    ax = figure.subplots()
    ax.plot(ds.t, ds.target, color=GREY, ls="--", lw=1.2, label=r"target $\sigma_*(t)$")
    colours = ordered_colours(2)
    for colour, ls, name, what in (
        (colours[1], "-.", "upper", "reached as $\\alpha\\to\\infty$"),
        (colours[0], "-", "lower", "best at any $\\alpha, \\beta, \\lambda$"),
    ):
        error = ds[name].attrs["error"]
        text = f"{name} bound: {what}, error {error:.4f}"
        ax.plot(ds.t, ds[name], ls, color=colour, label=text)
    ax.set_xlabel(r"$t = \theta\cdot x/\sqrt{d}$")
    ax.set_ylabel(r"$\mathrm{E}\,[f(x)\mid t]$")
    ax.set_title(_of(ds, "features"))
    _state(figure, ds, "r", "c", "gamma")
    shown = ds.sel(t=slice(-4, 4))
    highest = max(float(abs(shown[name]).max()) for name in ("target", "lower", "upper"))
    ax.set_xlim(-4, 4)
    ax.set_ylim(-1.1 * highest, 1.1 * highest)
    handles, labels = _marks(ax)
    _legend_below(figure, handles, [f"{text:<26}" for text in labels])
    return figure


# --- figure 4: errors of spiked random features --------------------------------------------------


def _compute4(
    run: _Run,
    *,
    pairs: Sequence[tuple[Any, Any]] = (("sin", "sign"), ("tanh", "tanh")),
    r: Sequence[float] = (0, 0.5, 1, 2),
    c: float = 1.0,
    gamma: float = 1.0,
    beta: float = 1.0,
    alpha: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0),
    lam: float = 0.1,
    noise: float = 0.0,
    d: int = 2000,
    replicates: int = 10,
    seed: int = 4,
) -> xr.Dataset:
    def panel(activation: Any, target: Any) -> _Panel:
        models = [
            SpikedRF(activation, target, r=value, c=c, gamma=gamma, beta=beta, noise=noise)
            for value in r
        ]
        title = f"{label(activation)} features, {label(target)} target, lam = {lam:g}"
        return _Panel(title, models, lam)

    return _curves(
        run,
        [panel(*pair) for pair in pairs],
        ("r", r),
        "alpha",
        _grid(alpha),
        alpha,
        alpha=None,
        d=d,
        replicates=replicates,
        seed=seed,
        kinds={"limit": {}, "finite_d": {"d": d}},
    )


# --- figure 5: errors against the width ----------------------------------------------------------


def _compute5(
    run: _Run,
    *,
    activation: Any = "tanh",
    target: Any = "sin",
    eta: Sequence[float] = (1.0,),
    alpha0: float = 1.5,
    beta: Sequence[float] = (0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 1.75, 2.0),
    alpha: float = 1.2,
    lam: float = 0.1,
    noise: float = 0.0,
    d: int = 5000,
    replicates: int = 20,
    seed: int = 5,
) -> xr.Dataset:
    models = [OneStep(activation, target, eta=value, alpha0=alpha0, noise=noise) for value in eta]
    return _curves(
        run,
        [
            _Panel(
                f"{label(models[0].activation)} network, {label(models[0].target)} target",
                models,
                lam,
            )
        ],
        ("eta", eta),
        "beta",
        _grid(beta),
        beta,
        alpha=alpha,
        d=d,
        replicates=replicates,
        seed=seed,
        kinds=_step_kinds(d),
    )


# --- readout: several values of the initial readout --------------------------------------------


def _compute_readout(
    run: _Run,
    *,
    activation: Any = "tanh",
    target: Any = "sin",
    r: float = 0.9,
    c: float = 1.0,
    gamma: float = 1.0,
    beta: float = 1.0,
    alpha: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    lam: float = 0.01,
    noise: float = 0.0,
    d: int = 1000,
    replicates: int = 10,
    seed: int = 6,
) -> xr.Dataset:
    sets = {
        "{1}": (1.0,),
        "{1, 2}": (1.0, 2.0),
        "{1, 2, 3}": (1.0, 2.0, 3.0),
        "Gaussian": readout_quantiles("gaussian", 16),
    }
    models = [
        SpikedRF(activation, target, r=r, c=c, gamma=gamma, beta=beta, noise=noise, readout=values)
        for values in sets.values()
    ]
    ds = _curves(
        run,
        [
            _Panel(
                f"{label(models[0].activation)} features, {label(models[0].target)} target",
                models,
                lam,
            )
        ],
        ("readout", list(sets)),
        "alpha",
        np.geomspace(*_ends(alpha), 81),
        alpha,
        alpha=None,
        d=d,
        replicates=replicates,
        seed=seed,
        kinds={"limit": {}, "finite_d": {"d": d}},
    )
    # many quantiles stand for a Gaussian at finite d only: their mean features are nearly parallel
    ds["theory"] = ds.theory.where((ds.kind == "finite_d") | (ds.readout != "Gaussian"))
    levels = [float(bounds(model).lower) for model in models[:-1]]
    ds["lower"] = "readout", [*levels, np.nan]
    return ds


def _draw_readout(ds: xr.Dataset) -> Figure:
    look: dict[str, Any] = {"ls": (0, (7, 2, 1.5, 2)), "lw": 0.8}

    def bound_lines(ax: Axes, colours: list[Any]) -> None:
        for colour, level in zip(colours, ds.lower.values, strict=True):
            if np.isfinite(level):
                ax.axhline(level, color=colour, zorder=1, **look)
        _log_ticks(ax, ds.alpha_simulated.values)
        ax.set_yscale("log")
        ax.set_ylim(bottom=float(ds.lower.min()) / 2)

    bounded = [str(x) for x in ds.readout.values[np.isfinite(ds.lower.values)]]
    return _draw_curves(
        ds,
        stated=("r", "c", "gamma", "beta", "lam"),
        extra=bound_lines,
        keys=[(f"lower bounds of {', '.join(bounded)}, $d = \\infty$", look)],
        words=_THEORY | {"limit": f"{_THEORY['limit']} (not for Gaussian)"},
    )


# --- spectrum: the features before and after the step --------------------------------------------


def _compute_spectrum(
    run: _Run,
    *,
    activation: Any = "tanh",
    target: Any = "tanh",
    eta: float = 3.0,
    alpha0: float = 20.0,
    beta: float = 1.0,
    alpha: float = 2.0,
    noise: float = 0.0,
    d: int = 1500,
    replicates: int = 2,
    bins: int = 60,
    seed: int = 8,
) -> xr.Dataset:
    import xarray as xr

    before = OneStep(activation, target, eta=eta, alpha0=0.0, beta=beta, noise=noise)
    after = dataclasses.replace(before, alpha0=alpha0)
    n, p = round(alpha * d), round(beta * d)
    check.memory(  # inputs, preactivations, features, weights, their matrix and its copies
        f"d = {d}, p = {p}, n = {n}", 8.0 * (n * d + 3 * n * p + 2 * p * d + 3 * p * p)
    )
    steps = {"before the step": before, "after the step": after}
    with _bar(len(steps) * replicates, run.progress) as bar:
        values = []
        for model in steps.values():
            for replicate in range(replicates):
                values.append(_eigenvalues(model, alpha, d, seed, replicate, run.n_threads))
                bar.update()
    eigenvalues = np.array(values).reshape(len(steps), replicates, -1)
    # on a logarithmic scale: the density of log x, which is x times that of x
    edges = []
    for model in steps.values():
        own = _quietly(
            feature_spectrum, model, alpha, np.ones(1), n_threads=run.n_threads
        ).edges.values.ravel()
        edges.append(own[np.isfinite(own) & (own > 0)])
    low, high = min(own.min() for own in edges) / 2, max(own.max() for own in edges) * 2
    x = np.geomspace(low, high, 601)
    theory = [
        _quietly(feature_spectrum, model, alpha, x, n_threads=run.n_threads)
        for model in steps.values()
    ]
    outlier = d * np.array([float(ds.outlier_over_d.item()) for ds in theory])
    limits = np.geomspace(low, high, bins + 1)
    width = np.log(limits[1] / limits[0])
    counts = [
        [np.histogram(own, limits)[0] / (own.size * width) for own in each] for each in eigenvalues
    ]
    dims = ("step", "replicate")
    return xr.Dataset(
        {
            "theory": (("step", "x"), np.array([ds.density.values.ravel() * x for ds in theory])),
            "mass_at_zero": ("step", [float(ds.mass_at_zero.item()) for ds in theory]),
            "outlier": ("step", np.where(outlier > high, outlier, np.nan)),
            "simulated": ((*dims, "bin"), np.array(counts)),
            "eigenvalues": ((*dims, "index"), eigenvalues),
        },
        coords={
            "step": list(steps),
            "x": x,
            "bin": np.sqrt(limits[1:] * limits[:-1]),
        },
        attrs={"d": d, "eta": eta, "alpha0": alpha0, "alpha": alpha, "beta": beta},
    )


def _eigenvalues(
    model: OneStep, alpha: float, d: int, seed: int, replicate: int, n_threads: int | None
) -> FloatArray:
    """Spectrum of Phi^T Phi/p of a simulated network, on Gaussian inputs of its own."""
    weights, _, _ = sample_weights(model, d=d, seed=seed, replicate=replicate, n_threads=n_threads)
    x = np.random.default_rng([seed, replicate]).standard_normal((round(alpha * d), d))
    preactivations = x @ weights.T
    features = _core.evaluate(compiled(model.activation), preactivations.ravel())
    features = features.reshape(preactivations.shape)
    return np.asarray(np.linalg.eigvalsh(features.T @ features / len(weights)))


def _draw_spectrum(ds: xr.Dataset) -> Figure:
    figure = _new_figure(PAGE, 2.2)
    axes = figure.subplots(1, 2, sharex=True, sharey=True)
    ratio = float(ds.bin[1] / ds.bin[0])
    colours = ordered_colours(2)
    most = [float(ds.eigenvalues.max()), float(ds.outlier.max())]
    most = [x for x in most if np.isfinite(x)]
    for i, ax in enumerate(axes):
        heights = ds.simulated[i].mean("replicate").values
        starts = ds.bin.values / np.sqrt(ratio)
        ax.bar(
            starts, heights, starts * (ratio - 1), align="edge", color=colours[1], alpha=0.45, lw=0
        )
        ax.plot(ds.x, ds.theory[i], color=colours[0])
        ax.set_title(str(ds.step.values[i]))
        _draw_outlier(ax, ds.isel(step=i), colours)
        ax.set_xlabel(r"eigenvalue of $\Phi^T\Phi/p$")
        ax.set_xscale("log")
        ax.set_xlim(float(ds.x[0]), 2 * max(float(ds.x[-1]) / 2, *most))
    axes[0].set_ylabel("density of its logarithm")
    axes[0].set_ylim(bottom=0)
    figure.suptitle(
        f"{_of(ds, 'network')}, {_stated(ds, 'eta', 'alpha0', 'alpha', 'beta')}", fontsize=7.5
    )
    handles = [_key(color=colours[0]), _key(color=colours[1], alpha=0.45, lw=5)]
    n = ds.sizes["replicate"]
    labels = [
        "theory, isotropic bulk, $d = \\infty$",
        f"simulated networks, $d = {ds.attrs['d']}$: histogram of {n}",
    ]
    if np.isfinite(ds.outlier).any():
        handles += [
            _key(color=colours[0], ls="--", lw=1.1),
            _key(color=colours[1], ls="", marker="v", mec="white", mew=0.4, ms=5),
        ]
        labels += ["outlying eigenvalue, theory: of order $d$", "outlying eigenvalue, simulated"]
    _legend_below(figure, handles, labels)
    return figure


def _draw_outlier(ax: Axes, ds: xr.Dataset, colours: list[Any]) -> None:
    """Mark the eigenvalues beyond the bulk, simulated and of the theory, and say them."""
    beyond = ds.eigenvalues.values[ds.eigenvalues.values > float(ds.x[-1])]
    words = []
    if np.isfinite(ds.outlier):
        ax.axvline(float(ds.outlier), 0, 0.3, color=colours[0], ls="--", lw=1.1)
        words.append(f"theory {float(ds.outlier):.0f}")
    if beyond.size:
        top = ax.get_xaxis_transform()
        height = np.full(beyond.size, 0.04)
        ax.plot(beyond, height, "v", transform=top, color=colours[1], mec="white", mew=0.4, ms=5)
        words.append(f"simulated {beyond.mean():.0f}")
    if words:
        x = float(ds.outlier) if np.isfinite(ds.outlier) else beyond.mean()
        text = "\n".join(["outlier:", *words])
        ax.annotate(text, (x, 0.34), xycoords=ax.get_xaxis_transform(), fontsize=7, ha="center")


# --- network: theories against simulated networks ----------------------------------------------


def _compute_network(
    run: _Run,
    *,
    pairs: Sequence[tuple[Any, Any]] = (("tanh", "sin"), ("relu", "relu")),
    eta: Sequence[float] = (1.0, 2.0, 4.0),
    alpha0: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
    alpha: float = 2.0,
    beta: float = 1.0,
    lam: float = 0.1,
    noise: float = 0.0,
    d: int = 1000,
    replicates: int = 10,
    seed: int = 7,
) -> xr.Dataset:
    def panel(activation: Any, target: Any) -> _Panel:
        models = [OneStep(activation, target, eta=value, beta=beta, noise=noise) for value in eta]
        title = f"{label(activation)} network, {label(target)} target, lam = {lam:g}"
        return _Panel(title, models, lam)

    return _curves(
        run,
        [panel(*pair) for pair in pairs],
        ("eta", eta),
        "alpha0",
        np.geomspace(*_ends(alpha0), 61),
        alpha0,
        alpha=alpha,
        d=d,
        replicates=replicates,
        seed=seed,
        kinds=_step_kinds(d),
    )


def _draw_network(ds: xr.Dataset) -> Figure:
    def logarithmic(ax: Axes, _: list[Any]) -> None:
        _log_ticks(ax, ds.alpha0_simulated.values)

    return _draw_curves(ds, extra=logarithmic, stated=("alpha", "beta"))


def _log_ticks(ax: Axes, values: FloatArray) -> None:
    from matplotlib.ticker import NullLocator

    ax.set_xscale("log")
    ax.set_xticks(values, [f"{x:g}" for x in values])
    ax.xaxis.set_minor_locator(NullLocator())


# --- phase: where one step beats every kernel ----------------------------------------------------


def _compute_phase(
    run: _Run,
    *,
    activation: Any = "tanh",
    target: Any = "sin",
    alpha0: Sequence[float] = tuple(np.geomspace(0.25, 64, 41).tolist()),
    eta: Sequence[float] = tuple(np.geomspace(0.25, 8, 41).tolist()),
    alpha: float = 2.0,
    beta: float = 1.0,
    lam: Sequence[float] = (1e-4, 1e2),
    noise: float = 0.0,
) -> xr.Dataset:
    import xarray as xr

    model = OneStep(
        activation,
        target,
        eta=np.asarray(eta)[:, None, None],
        alpha0=np.asarray(alpha0)[:, None],
        beta=beta,
        noise=noise,
    )
    grid = np.geomspace(lam[0], lam[1], 61)
    error = _quietly(solve, model, alpha, grid, bulk="one_step", n_threads=run.n_threads).test_error
    best = np.clip(error.argmin(-1), 1, grid.size - 2)[..., None]
    # a parabola in log(lam) through the three best: its least value, to about 1e-5
    low, mid, high = (np.log(np.take_along_axis(error, best + i, -1)[..., 0]) for i in (-1, 0, 1))
    curvature, slope = low + high - 2 * mid, (high - low) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.clip(np.where(curvature > 0, -slope / curvature, 0.0), -1, 1)
    least = np.exp(mid + slope * step + curvature * step**2 / 2)
    ratio = grid[1] / grid[0]
    floor = linear_floor(model)
    row = OneStep(activation, target, eta=np.asarray(eta), beta=beta, noise=noise)

    def crossed(bulk: str, low: float, high: float) -> FloatArray:
        found = _quietly(
            thresholds,
            row,
            alpha=alpha,
            over={"lam": (lam[0], lam[1])},
            crossing={"alpha0": (low, high)},
            bulk=bulk,
            n_threads=run.n_threads,
        )
        return np.asarray(found.alpha0.values)

    boundary = {}
    for bulk in ("one_step", "isotropic"):  # and beyond the frame, so that the line reaches it
        inside = crossed(bulk, min(alpha0), 4 * max(alpha0))
        below = crossed(bulk, min(alpha0) / 4, min(alpha0))
        boundary[bulk] = np.where(np.isnan(inside), below, inside)
    return xr.Dataset(
        {
            "test_error": (("eta", "alpha0"), least),
            "lam": (("eta", "alpha0"), grid[best[..., 0]] * ratio**step),
            "gain": (("eta", "alpha0"), floor / least),
            "boundary": ("eta", boundary["one_step"]),
            "boundary_isotropic": ("eta", boundary["isotropic"]),
        },
        coords={"eta": np.asarray(eta), "alpha0": np.asarray(alpha0)},
        attrs={"linear_floor": floor, "alpha": alpha, "beta": beta},
    )


def _draw_phase(ds: xr.Dataset) -> Figure:
    from matplotlib.colors import TwoSlopeNorm

    figure = _new_figure(COLUMN, 2.9)
    ax = figure.subplots()
    gain = np.log10(ds.gain.values)
    norm = TwoSlopeNorm(0, min(gain.min(), -0.01), max(gain.max(), 0.01))
    mesh = ax.pcolormesh(
        ds.alpha0, ds.eta, gain, cmap="PuOr_r", norm=norm, shading="gouraud", rasterized=True
    )
    levels = [x for x in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) if ds.gain.min() < x < ds.gain.max()]
    thin = [x for x in levels if x != 1]
    ax.contour(ds.alpha0, ds.eta, ds.gain, thin, colors="black", linewidths=0.6)
    # where one step starts to beat every kernel, by root finding
    for name, colour, width, dashes, text in (
        ("boundary", "black", 2.8, "-", "error = floor"),
        ("boundary_isotropic", COLOURS[4], 1.3, (0, (2.5, 1.5)), "the same, isotropic bulk"),
    ):
        if np.isfinite(ds[name]).any():
            ax.plot(ds[name], ds.eta, color=colour, lw=width, ls=dashes, label=text)
    if ax.lines:
        ax.legend(
            loc="lower left",
            fontsize=6.5,
            frameon=True,
            framealpha=0.85,
            edgecolor="none",
            handlelength=2.4,
        )
    ax.set_ylim(float(ds.eta.min()), float(ds.eta.max()))
    ax.set_xlim(float(ds.alpha0.min()), float(ds.alpha0.max()))
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis, values in ((ax.xaxis, ds.alpha0.values), (ax.yaxis, ds.eta.values)):
        _powers_of_two(axis, float(values.min()), float(values.max()))
    ax.set_xlabel(_AXIS["alpha0"])
    ax.set_ylabel(_AXIS["eta"])
    ax.set_title(
        f"{_of(ds, 'network')}, {_stated(ds, 'alpha', 'beta')}\n"
        r"linear floor / test error at the best $\lambda$"
    )
    bar = figure.colorbar(mesh, ax=ax, ticks=np.log10(levels))
    bar.ax.set_yticklabels([f"{x:g}" for x in levels])
    bar.ax.minorticks_off()
    bar.ax.hlines(
        np.log10(levels), 0, 1, color="black", lw=[2.8 if x == 1 else 0.6 for x in levels]
    )
    return figure


def _powers_of_two(axis: Any, low: float, high: float) -> None:
    from matplotlib.ticker import NullLocator

    values = 2.0 ** np.arange(np.ceil(np.log2(low) - 1e-9), np.floor(np.log2(high) + 1e-9) + 1)
    axis.set_ticks(values, [f"{x:g}" for x in values])
    axis.set_minor_locator(NullLocator())


# --- the list of figures -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Recipe:
    """How a figure is computed and drawn, and what ``quick`` changes."""

    title: str
    compute: Callable[..., xr.Dataset]
    draw: Callable[[xr.Dataset], Figure]
    quick: dict[str, Any]

    @property
    def parameters(self) -> dict[str, Any]:
        signature = inspect.signature(self.compute)
        return {
            name: parameter.default
            for name, parameter in signature.parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }


_RECIPES: dict[str, _Recipe] = {
    "1": _Recipe(
        "the function learned along theta", _compute1, _draw1, {"d": 500, "replicates": 12}
    ),
    "2": _Recipe(
        "test error against alpha, after one step",
        _compute2,
        functools.partial(_draw_curves, stated=("eta", "beta")),
        {"d": 500, "replicates": 12},
    ),
    "3": _Recipe("the functions that realise the bounds", _compute3, _draw3, {}),
    "4": _Recipe(
        "test error against alpha, spiked random features",
        _compute4,
        functools.partial(_draw_curves, stated=("c", "gamma", "beta")),
        {"d": 500, "replicates": 16},
    ),
    "5": _Recipe(
        "test error against the width, after one step",
        _compute5,
        functools.partial(_draw_curves, spread="deviation", stated=("alpha0", "alpha", "lam")),
        {"d": 500, "replicates": 20},
    ),
    "readout": _Recipe(
        "errors and bounds for an initial readout of several values",
        _compute_readout,
        _draw_readout,
        {"d": 500, "replicates": 12},
    ),
    "spectrum": _Recipe(
        "spectral density of the features before and after the step",
        _compute_spectrum,
        _draw_spectrum,
        {"d": 600, "replicates": 4},
    ),
    "network": _Recipe(
        "both theories against simulated networks, over alpha0 and eta, for tanh and ReLU",
        _compute_network,
        _draw_network,
        {"d": 500, "replicates": 12},
    ),
    "phase": _Recipe(
        "gain over the linear floor in the (alpha0, eta) plane, at the best penalty",
        _compute_phase,
        _draw_phase,
        {},
    ),
}

#: The figures: names that `make` and ``srfx figure`` take, and what each shows.
NAMES: dict[str, str] = {name: recipe.title for name, recipe in _RECIPES.items()}


def _recipe(name: object) -> _Recipe:
    return _RECIPES[_name(name)]


def _name(name: object) -> str:
    """Name of a figure; the paper's may be given as numbers."""
    text = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
    if isinstance(text, str) and text in _RECIPES:
        return text
    raise ValueError(f"name must be one of {', '.join(_RECIPES)} or all; got {name!r}")


# --- what the data are, in words -----------------------------------------------------------------

_ERROR = "test error, noise-free"
_MEANINGS: dict[str, str] = {
    "theory": f"{_ERROR}, by the theory",
    "theory_at_simulated": f"{_ERROR}, by the theory at the points of the simulation",
    "simulated": f"{_ERROR}, of each simulated network",
    "floor": "linear floor of the test error",
    "lam": "ridge penalty",
    "kind": "theory: limit or finite_d, isotropic or one_step bulk",
    "panel": "panel of the figure",
    "replicate": "simulated network",
    "alpha": "sample complexity n/d",
    "alpha_simulated": "sample complexity n/d of the simulation",
    "alpha0": "sample complexity n0/d of the gradient step",
    "alpha0_simulated": "sample complexity n0/d of the gradient step in the simulation",
    "beta": "width ratio p/d",
    "beta_simulated": "width ratio p/d of the simulation",
    "eta": "normalised learning rate of the gradient step",
    "r": "strength of the spike",
    "readout": "values of the initial readout",
    "lower": "lower bound of the test error, d = inf; NaN where there is none",
    "t": "projection theta.x/sqrt(d)",
    "target": "target function of the projection",
    "bin": "middle of the bin",
    "t_simulated": "mean projection of the points in the bin",
}
_OWN_MEANINGS: dict[str, dict[str, str]] = {
    "1": {
        "theory": "conditional mean of the prediction given the projection, by the theory",
        "theory_at_simulated": "the theory at the mean projection of each bin",
        "simulated": "mean prediction in bins of the projection, of each simulated network",
    },
    "3": {
        "upper": "function that realises the upper bound, reached as alpha -> inf",
        "lower": "function that realises the lower bound, best at any alpha, beta and lam",
    },
    "spectrum": {
        "theory": "density of log x by the theory, isotropic bulk, d = inf",
        "simulated": "density of log x in bins, of each simulated network",
        "mass_at_zero": "share of eigenvalues that are zero, by the theory",
        "outlier": "eigenvalue of order d beyond the bulk, by the theory; NaN where there is none",
        "eigenvalues": "eigenvalues of Phi^T Phi/p of each simulated network",
        "step": "before or after the gradient step",
        "x": "eigenvalue of Phi^T Phi/p",
        "index": "position among the ascending eigenvalues",
    },
    "phase": {
        "test_error": f"{_ERROR}, at the best ridge penalty, one_step bulk",
        "lam": "best ridge penalty",
        "gain": "linear floor over test error",
        "boundary": "alpha0 where the test error crosses the linear floor, one_step bulk",
        "boundary_isotropic": "alpha0 where it does with an isotropic bulk, as in the paper",
    },
}


def _described(ds: xr.Dataset, name: str) -> xr.Dataset:
    """Give every variable and coordinate its meaning and unit, and the bars theirs."""
    counters = {dim: np.arange(ds.sizes[dim]) for dim in ("replicate", "index") if dim in ds.sizes}
    ds = ds.assign_coords(counters)
    meanings = _MEANINGS | _OWN_MEANINGS.get(name, {})
    for key, variable in ds.variables.items():
        attributes = {"long_name": meanings[str(key)], "units": "1"}
        ds[key].attrs = attributes | variable.attrs
    if "simulated" in ds:
        bars = {
            "5": "standard deviation over replicate",
            "spectrum": "none: mean over replicate",
        }
        ds.simulated.attrs["bars"] = bars.get(name, "standard error of the mean over replicate")
    return ds


# --- parameters, checked before any work ---------------------------------------------------------

_Range = Callable[[str, object], "float | FloatArray"]

#: What the numbers of every figure must be, and where one figure is stricter.
_RANGES: dict[str, _Range] = {
    "eta": check.finite,
    "alpha0": check.non_negative,
    "alpha": check.positive,
    "beta": check.positive,
    "lam": check.non_negative,
    "noise": check.non_negative,
    "r": check.finite,
    "c": check.positive,
    "gamma": check.correlation,
}
_STRICTER: dict[tuple[str, str], _Range] = {
    ("network", "alpha0"): check.positive,  # its axis is logarithmic
    ("phase", "alpha0"): check.positive,
    ("phase", "eta"): check.positive,
    ("phase", "lam"): check.positive,
    # the bulk of the step is known for these only
    ("1", "lam"): check.positive,
    ("2", "lam"): check.positive,
    ("5", "lam"): check.positive,
    ("network", "lam"): check.positive,
}

#: Least integers. A standard error needs two networks; the histogram of a spectrum has none.
_LEAST = {"d": 2, "replicates": 2, "bins": 1, "seed": 0}
_OWN_LEAST = {("spectrum", "replicates"): 1, ("spectrum", "bins"): 2}


def _parameters(name: str, quick: bool, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every parameter of a figure, checked: given, of ``quick``, or the default."""
    if not isinstance(quick, (bool, np.bool_)):
        raise TypeError(f"quick must be True or False; got {quick!r}")
    recipe = _recipe(name)
    known = recipe.parameters
    for key in given:
        if key not in known:
            others = _having(key)
            elsewhere = f"; figures that have it: {', '.join(others)}" if others else ""
            raise TypeError(
                f"figure {name} has no parameter {key!r}; it has {', '.join(known)}{elsewhere}"
            )
    values = known | (recipe.quick if quick else {}) | dict(given)
    values = {key: _checked(name, key, value, known[key]) for key, value in values.items()}
    return _consistent(name, values)


def _having(key: str) -> list[str]:
    return [name for name, recipe in _RECIPES.items() if key in recipe.parameters]


def _checked(figure: str, name: str, value: Any, default: Any) -> Any:
    """One parameter: of the kind that its default has."""
    if name in _LEAST:
        least = _OWN_LEAST.get((figure, name), _LEAST[name])
        return check.integer(name, value, least, 2**64 - 1 if name == "seed" else None)
    if name in ("activation", "target"):
        return as_function(name, value)
    if name == "targets":
        several = _sequence(value, "targets must be a function or a non-empty sequence of them")
        return tuple(as_function(name, item) for item in several)
    if name == "pairs":
        return _pairs(value)
    valid = _STRICTER.get((figure, name), _RANGES[name])
    if isinstance(default, tuple):
        return _numbers(name, value, valid)
    number = valid(name, value)
    if isinstance(number, np.ndarray):
        raise ValueError(f"{name} must be a single number in figure {figure}; got {value!r}")
    return number


def _numbers(name: str, value: Any, valid: _Range) -> tuple[float, ...]:
    """Return a number, or a sequence of them, as a tuple."""
    if isinstance(value, (range, set, frozenset)):
        value = list(value)
    array = np.atleast_1d(valid(name, value))
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"{name} must be a number or a non-empty sequence of numbers; got {value!r}"
        )
    if name != "lam" and np.unique(array).size < array.size:  # lam has one for each panel
        raise ValueError(f"{name} must hold distinct values; got {value!r}")
    return tuple(array.tolist())


def _sequence(value: Any, allowed: str) -> list[Any]:
    """Several functions, or a single one as a list of one."""
    if isinstance(value, str) or callable(value):
        return [value]
    if not isinstance(value, Iterable):
        raise TypeError(f"{allowed}; got {value!r}")
    out = list(value)
    if not out:
        raise ValueError(f"{allowed}; got {value!r}")
    return out


def _pairs(value: Any) -> tuple[tuple[Any, Any], ...]:
    allowed = (
        "pairs must be a non-empty sequence of pairs (activation, target), as in [('tanh', 'sin')]"
    )
    out = []
    for item in _sequence(value, allowed):
        if isinstance(item, str) or not isinstance(item, Sequence):
            raise TypeError(f"{allowed}; got {value!r}")
        if len(item) != 2:
            raise ValueError(f"{allowed}; got {item!r} among them")
        functions = zip(("activation", "target"), item, strict=True)
        out.append(tuple(as_function(f"the {role} in pairs", f) for role, f in functions))
    return tuple((activation, target) for activation, target in out)


def _consistent(name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Check what concerns several parameters, or the length of one."""
    if name == "2":
        count, lam = len(values["targets"]), values["lam"]
        if len(lam) == 1:
            values["lam"] = lam * count
        elif len(lam) != count:
            raise ValueError(
                "targets and lam must be of one length, unless lam is one number; got "
                f"{count} target{'s' if count > 1 else ''} and lam = {lam}"
            )
    if name == "phase":
        for axis in ("alpha0", "eta"):
            values[axis] = tuple(sorted(values[axis]))
            if len(values[axis]) < 2:
                raise ValueError(
                    f"{axis} must hold at least two different values, an axis of the plane; got "
                    f"{values[axis]}"
                )
        if len(values["lam"]) != 2 or not values["lam"][0] < values["lam"][1]:
            raise ValueError(
                f"lam must be two increasing numbers, the range of the penalty; got {values['lam']}"
            )
        if linear_floor(values["target"]) == 0:
            raise ValueError(
                "target must have a linear floor above zero, with which the error is compared; "
                f"got {label(values['target'])}"
            )
    return values


@check.public
def compute(
    name: str | int,
    *,
    quick: bool = False,
    store: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
    n_threads: int | None = None,
    **parameters: Any,
) -> xr.Dataset:
    """Compute the data of a figure: curves of the theory, simulations with all their replicates.

    Parameters
    ----------
    name : str or int
        One of `NAMES`: "1" to "5", or 1 to 5, for those of CPD24.
    quick : bool
        Simulate at d = 500, in seconds, instead of the size of the paper.
    store : path, optional
        Folder where finished simulations are kept; those it holds are not run again.
    progress : bool, optional
        A progress bar; None: only on a terminal.
    say : callable, optional
        Given one line before the simulations: how many there are, and how long they will take.
    n_threads : int, optional
        Threads, >= 1. None: all processors this process may use. The numbers do not depend on it.
    **parameters
        Parameters of the figure, in place of its defaults; see `figure1` to `figure5`, `readout`,
        `spectrum`, `network` and `phase`. One number stands for a sequence of one.

    Returns
    -------
    xarray.Dataset
        Of figures 1, 2, 4, 5, readout and network ``theory``, its first dimension ``kind`` of
        theory; ``simulated``, its dimension ``replicate``; and ``theory_at_simulated`` at the same
        points, of every kind (of figure 1 that of the kind which claims them, named in the
        attribute ``claims``). Beside them, of figure 1 ``t_simulated`` (mean projection of each
        bin) and ``target``; of the others ``floor`` and ``lam`` of each panel; of readout
        ``lower``, the bounds.

        Of figure 3 ``upper``, ``lower`` and ``target`` over ``t``. Of spectrum ``theory`` and
        ``simulated``, densities of log x, ``eigenvalues``, ``mass_at_zero`` and ``outlier``. Of
        phase ``test_error``, ``lam`` and ``gain`` over (eta, alpha0), ``boundary`` and
        ``boundary_isotropic`` over eta.

        Each has ``long_name`` and ``units``; ``simulated.attrs["bars"]`` says what error bars of it
        are drawn. The attribute ``parameters`` holds every parameter as JSON.

    Raises
    ------
    ValueError, TypeError
        An unknown figure or parameter, or a parameter out of range or of the wrong type (fewer than
        two ``replicates`` where there are error bars): before any work.
    OSError
        The store cannot be written, before any work.

    Examples
    --------
    >>> import srfx
    >>> ds = srfx.figures.compute("3", r=1.2)
    >>> sorted(ds.data_vars)
    ['lower', 'target', 'upper']
    """
    name = _name(name)
    values = _parameters(name, quick, parameters)
    if n_threads is not None:
        check.thread_count(n_threads)
    folder = None if store is None else _files.local("store", store)
    start = time.perf_counter()
    run = _Run(folder, progress, say, n_threads)
    ds = _described(_RECIPES[name].compute(run, **values), name)
    ds.attrs |= {
        "figure": name,
        "title": NAMES[name],
        "quick": int(quick),
        "parameters": json.dumps(values, default=_plain),
        "seconds": time.perf_counter() - start,
        "units": "dimensionless",
        **provenance(),
    }
    return ds


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    return _identity.recorded(value) if callable(value) else str(value)


@check.public
def draw(ds: xr.Dataset) -> Figure:
    """Draw a figure from its data.

    Parameters
    ----------
    ds : xarray.Dataset
        What `compute` returned, or the NetCDF file that `make` wrote beside a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, in srfx's style.

    Raises
    ------
    ValueError
        Not the data of a figure.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.draw(srfx.figures.compute("3"))
    >>> len(figure.axes[0].lines)
    3
    """
    name = getattr(ds, "attrs", {}).get("figure")
    if name not in _RECIPES:
        raise ValueError(f"ds must be what srfx.figures.compute returned; got figure {name!r}")
    require_matplotlib("figures need matplotlib")
    with style():
        figure = _RECIPES[name].draw(ds)
        figure.draw_without_rendering()  # fixes the layout while the style holds
    return figure


def _figure(name: str, options: dict[str, Any]) -> Figure:
    return draw(compute(name, **options))


@check.public
def figure1(*, quick: bool = False, **options: Any) -> Figure:
    r"""Figure 1 of CPD24: the function learned along the target's direction, and its theory.

    ``E[f(x) | theta.x/sqrt(d) = t]`` for several alpha0, 0 (no step) among them. Points: mean
    prediction in bins of t, averaged over networks. Lines: `srfx.learned_function`, solid with the
    bulk of the step, dotted with the paper's; the paper has neither.

    Parameters
    ----------
    quick : bool
        d = 500 and 12 networks instead of d = 2000 and 5.
    **options
        ``activation="tanh"``, ``target="tanh"``, ``eta=2.5``, ``alpha0=(0, 0.5, 1, 4)``,
        ``beta=1``, ``alpha=2``, ``lam=0.01``, ``noise=0``, ``d=2000``, ``replicates=5``,
        ``bins=22``, ``seed=1``; and the options of `compute`. The caption
        gives activations, d, beta, eta, lam and alpha; the rest is ours.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `compute` and `draw`.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.figure1(d=100, replicates=3, progress=False)
    >>> print(figure.axes[0].get_xlabel())
    $t = \theta\cdot x/\sqrt{d}$
    """
    return _figure("1", {"quick": quick} | options)


@check.public
def figure2(*, quick: bool = False, **options: Any) -> Figure:
    """Figure 2 of CPD24: test error of the network after one step against alpha.

    Two targets beside each other, a line for each alpha0, and the linear floor.

    Parameters
    ----------
    quick : bool
        d = 500 and 12 networks instead of d = 2000 and 5.
    **options
        ``activation="tanh"``, ``targets=("tanh", "sin")``, ``eta=1``, ``alpha0=(0, 0.5, 1.5, 5)``,
        ``beta=1``, ``alpha=(0.2, ..., 3)``, ``lam=(0.01, 0.1)``, ``noise=0``, ``d=2000``,
        ``replicates=5``, ``seed=2``; and the options of `compute`. The caption
        gives eta, activations, lam, d and the number of networks; the rest is ours.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `compute` and `draw`.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.figure2(d=100, replicates=3, alpha=(0.5, 2), progress=False)
    >>> len(figure.axes)
    2
    """
    return _figure("2", {"quick": quick} | options)


@check.public
def figure3(*, quick: bool = False, **options: Any) -> Figure:
    """Figure 3 of CPD24: the functions that realise the upper and the lower bound of the error.

    See `srfx.bounds`.

    Parameters
    ----------
    quick : bool
        Changes nothing: there is nothing to simulate.
    **options
        ``activation="tanh"``, ``target="sin"``, ``r=0.9``, ``c=1``, ``gamma=1``: the caption's.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `compute` and `draw`.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.figure3(r=0.5)
    """
    return _figure("3", {"quick": quick} | options)


@check.public
def figure4(*, quick: bool = False, **options: Any) -> Figure:
    """Figure 4 of CPD24: test error of spiked random features against alpha.

    Two pairs of activation and target beside each other, a line for each spike strength r, 0 among
    them.

    Parameters
    ----------
    quick : bool
        d = 500 and 16 networks instead of d = 2000 and 10.
    **options
        ``pairs=(("sin", "sign"), ("tanh", "tanh"))``, ``r=(0, 0.5, 1, 2)``, ``c=1``, ``gamma=1``,
        ``beta=1``, ``alpha=(0.2, ..., 3)``, ``lam=0.1``, ``noise=0``, ``d=2000``,
        ``replicates=10``, ``seed=4``; and the options of `compute`. The
        caption gives lam, d, beta, activations and the number of networks; the rest is ours.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `compute` and `draw`.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.figure4(d=100, replicates=3, alpha=(0.5, 2), progress=False)
    >>> len(figure.axes)
    2
    """
    return _figure("4", {"quick": quick} | options)


@check.public
def figure5(*, quick: bool = False, **options: Any) -> Figure:
    """Figure 5 of CPD24: test error of the network after one step against its width.

    Points are means, their bars one standard deviation over networks.

    Parameters
    ----------
    quick : bool
        d = 500 instead of d = 5000.
    **options
        ``activation="tanh"``, ``target="sin"``, ``eta=(1,)``, ``alpha0=1.5``,
        ``beta=(0.2, ..., 2)``, ``alpha=1.2``, ``lam=0.1``, ``noise=0``, ``d=5000``,
        ``replicates=20``, ``seed=5``; and the options of `compute`. The
        caption gives all but eta and the values of beta.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `compute` and `draw`.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.figure5(d=100, replicates=3, beta=(0.5, 1), progress=False)
    """
    return _figure("5", {"quick": quick} | options)


@check.public
def readout(*, quick: bool = False, **options: Any) -> Figure:
    """Errors and bounds for initial readouts of one, two, three values, and Gaussian ones.

    Spiked random features against alpha. Dotted: the limit d = inf; of Gaussian readouts it is left
    out, because the quantiles that stand for them have nearly parallel mean features, which the
    limit tells apart and a finite d does not. Levels of dashes and dots: the lower bounds of
    `srfx.bounds`; a Gaussian readout has none above zero.

    The more values, the richer the functions that the features span along the spike (the last
    section of CPD24; THEORY 7).

    Parameters
    ----------
    quick : bool
        d = 500 and 12 networks instead of d = 1000 and 10.
    **options
        ``activation="tanh"``, ``target="sin"``, ``r=0.9``, ``c=1``, ``gamma=1``, ``beta=1``,
        ``alpha=(0.25, ..., 8)``, ``lam=0.01``, ``noise=0``, ``d=1000``, ``replicates=10``,
        ``seed=6``; and the options of `compute`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `compute` and `draw`.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.readout(d=100, replicates=3, alpha=(0.5, 2), progress=False)
    """
    return _figure("readout", {"quick": quick} | options)


@check.public
def spectrum(*, quick: bool = False, **options: Any) -> Figure:
    """Spectral density of the features before and after the step, with histograms.

    Lines: `srfx.feature_spectrum`. Bars: eigenvalues of ``Phi^T Phi/p`` of simulated networks. The
    eigenvalue that the spike sends to order d stands apart: a dashed mark where the theory has it
    (``outlier_over_d`` times d), triangles for the simulated networks, and both in figures.

    Parameters
    ----------
    quick : bool
        d = 600 and 4 networks instead of d = 1500 and 2.
    **options
        ``activation="tanh"``, ``target="tanh"``, ``eta=3``, ``alpha0=20``, ``beta=1``, ``alpha=2``,
        ``noise=0``, ``d=1500``, ``replicates=2``, ``bins=60``, ``seed=8``; and the options of
        `compute`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `compute` and `draw`.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.spectrum(d=100, bins=20, progress=False)
    """
    return _figure("spectrum", {"quick": quick} | options)


@check.public
def network(*, quick: bool = False, **options: Any) -> Figure:
    """Both theories against simulated networks over alpha0 and eta, for tanh and ReLU.

    Dotted: the isotropic bulk of the paper. Solid: the bulk of the actual step (THEORY 9 and 10),
    which is verified for alpha0 >= 0.5. The one point where it is visibly off lies outside of that
    range: ReLU with the largest step, eta = 4, from the fewest samples, alpha0 = 0.25, where
    networks lie 5 % below it at d = 500 and 3.7 % at d = 1000.

    Parameters
    ----------
    quick : bool
        d = 500 and 12 networks instead of d = 1000 and 10.
    **options
        ``pairs=(("tanh", "sin"), ("relu", "relu"))``, ``eta=(1, 2, 4)``,
        ``alpha0=(0.25, ..., 16)``, ``alpha=2``, ``beta=1``, ``lam=0.1``, ``noise=0``, ``d=1000``,
        ``replicates=10``, ``seed=7``; and the options of `compute`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `compute` and `draw`.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.network(d=100, replicates=3, alpha0=(0.5, 2), progress=False)
    >>> len(figure.axes)
    2
    """
    return _figure("network", {"quick": quick} | options)


@check.public
def phase(*, quick: bool = False, **options: Any) -> Figure:
    """Gain of one step over the linear floor in the (alpha0, eta) plane, at the best penalty.

    The ratio of the floor to the test error: above 1 the network beats every kernel method. The
    line where it starts to is found by `srfx.thresholds`, for the bulk of the actual step and for
    the isotropic one (up to four times beyond the frame); the rest has the former. Theory alone, at
    d = inf.

    Parameters
    ----------
    quick : bool
        Changes nothing: there is nothing to simulate.
    **options
        ``activation="tanh"``, ``target="sin"``, ``alpha0=(0.25, ..., 64)``, ``eta=(0.25, ..., 8)``,
        ``alpha=2``, ``beta=1``, ``lam=(1e-4, 1e2)`` (the range of the penalty), ``noise=0``.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    ValueError, TypeError, ImportError
        As `compute` and `draw`.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.phase(alpha0=(1, 4, 16), eta=(0.5, 1, 2, 4))
    """
    return _figure("phase", {"quick": quick} | options)


# --- writing -------------------------------------------------------------------------------------


@check.public
def make(
    names: str | int | Iterable[str | int],
    folder: str | os.PathLike[str] = "figures",
    *,
    quick: bool = False,
    formats: str | Sequence[str] = ("png",),
    store: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
    n_threads: int | None = None,
    **parameters: Any,
) -> list[Path]:
    """Compute, draw and write figures, each with its data and its provenance.

    Parameters
    ----------
    names : str, int or iterable of them
        Of `NAMES`, or "all"; the paper's figures may be numbers.
    folder : path
        Where to write ``figure-NAME.png`` (or ``.pdf``, ``.svg``), ``figure-NAME.nc`` and
        ``figure-NAME.json``; made if missing.
    quick : bool
        As in `compute`.
    formats : {"png", "pdf", "svg"} or sequence of them
        Of the pictures.
    store : path, optional
        Where finished simulations are kept, so that an interrupted run is resumed (needs
        ``srfx[scan]``); by default ``simulations`` in ``folder``, and none with ``quick``.
    progress, say, n_threads
        As in `compute`; ``say`` also hears of each file.
    **parameters
        Parameters of the figures, in place of their defaults, as in `compute`. Of several figures
        only those that all of them have, as ``d``, ``replicates`` and ``seed`` of 1, 2, 4 and 5.

    Returns
    -------
    list of Path
        The pictures.

    Raises
    ------
    ValueError, TypeError
        An unknown figure or format, or a parameter that is out of range, of the wrong type, or not
        one of every figure asked for: before any work.
    OSError
        The folder cannot be written, before any work.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import srfx, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in srfx.figures.make(3, folder, r=1.2)]
    ['figure-3.png']
    """
    wanted = _wanted(names)
    if isinstance(formats, str) or not isinstance(formats, Iterable):
        formats = [formats]
    if not formats:
        raise ValueError(f"formats must hold at least one of {', '.join(FORMATS)}; got {formats!r}")
    for suffix in formats:
        check.one_of("formats", suffix, FORMATS)
    _common(wanted, parameters)
    for name in wanted:
        _parameters(name, quick, parameters)
    if n_threads is not None:
        check.thread_count(n_threads)
    require_matplotlib("figures need matplotlib")
    out = _files.local("folder", folder)
    keep = None if quick else out / "simulations"
    if store is not None:
        keep = _files.local("store", store)
    _make_writable(out, "output folder")
    for name in wanted:
        for suffix in (*formats, "nc", "json"):
            _files.check("the output folder's files", out / f"figure-{name}.{suffix}")
    if keep is not None and any(name not in ("3", "phase", "spectrum") for name in wanted):
        require_zarr()
        _make_writable(keep, "store")
    pictures = []
    tell = say or (lambda _: None)
    for name in wanted:
        prefix = f"figure {name}: "

        def about(text: str, prefix: str = prefix) -> None:
            tell(prefix + text)

        ds = compute(
            name,
            quick=quick,
            store=keep,
            progress=progress,
            say=about,
            n_threads=n_threads,
            **parameters,
        )
        figure = draw(ds)
        stem = out / f"figure-{name}"
        files = []
        with style():
            for suffix in dict.fromkeys(formats):
                path = stem.with_suffix(f".{suffix}")
                undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix)
                _files.write(path, lambda p: figure.savefig(p, metadata=undated))  # noqa: B023
                files.append(path)
        with NETCDF:
            _files.write(stem.with_suffix(".nc"), ds.to_netcdf)
        record = _provenance(ds, [path.name for path in files])
        text = json.dumps(record, indent=2) + "\n"
        _files.write_text(stem.with_suffix(".json"), lambda file: file.write(text))  # noqa: B023
        about(f"wrote {', '.join(map(_files.shown, files))}, and its .nc and .json")
        pictures += files
    return pictures


def _wanted(names: Any) -> list[str]:
    if isinstance(names, (str, int)):
        names = [names]
    if not isinstance(names, Iterable):
        raise TypeError(f"names must hold some of {', '.join(_RECIPES)} or all; got {names!r}")
    out: list[str] = []
    for name in names:
        out += list(_RECIPES) if isinstance(name, str) and name == "all" else [_name(name)]
    if not out:
        raise ValueError(f"names must hold at least one of {', '.join(_RECIPES)} or all; got none")
    return list(dict.fromkeys(out))


def _common(wanted: list[str], parameters: Mapping[str, Any]) -> None:
    """Refuse a parameter that only some of several figures have."""
    for key in parameters:
        having = _having(key)
        lacking = [name for name in wanted if name not in having]
        if lacking and len(wanted) > 1:
            others = f"those that do: {', '.join(having)}" if having else "no figure does"
            raise ValueError(
                f"{key} must be a parameter of every figure asked for; {', '.join(lacking)} "
                f"{'has' if len(lacking) == 1 else 'have'} none of that name ({others})"
            )


def _make_writable(folder: Path, what: str) -> None:
    """Make a folder and try to write there, or say plainly what is in the way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(path for path in (folder, *folder.parents) if path.exists())
        below = "" if file == folder else f", so that {str(folder)!r} cannot be made"
        raise NotADirectoryError(f"the {what} is a file: {str(file)!r}{below}") from None
    except OSError as error:
        raise OSError(f"the {what} cannot be made: {error}") from None
    probe = folder / f".srfx-{os.getpid()}"
    try:
        probe.touch()
    except OSError as error:
        raise PermissionError(f"the {what} cannot be written: {error}") from None
    probe.unlink(missing_ok=True)


def _provenance(ds: xr.Dataset, files: list[str]) -> dict[str, Any]:
    config = _core.build_config()
    commit = ds.attrs.get("srfx_commit")
    return {
        "figure": ds.attrs["figure"],
        "title": ds.attrs["title"],
        "quick": bool(ds.attrs["quick"]),
        "parameters": json.loads(ds.attrs["parameters"]),
        "files": files,
        "data": f"figure-{ds.attrs['figure']}.nc",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(float(ds.attrs["seconds"]), 2),
        "srfx": version(),
        **({} if commit is None else {"commit": commit}),
        "build": {key: config[key] for key in ("compiler", "flags", "instruction_set", "eigen")},
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }
