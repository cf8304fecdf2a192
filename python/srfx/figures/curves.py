"""Test errors along one axis, a line for each model: theories, and simulations as points."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from srfx._style import COLUMN, GREY, PAGE, ordered_colours
from srfx.figures import layout
from srfx.figures.jobs import Job, Run
from srfx.models import FloatArray, Model, MultiStep, OneStep, SpikedRF, label, quiet, with_fields
from srfx.theory import linear_floor, solve

#: What theory's curves are called in a legend.
THEORY = {
    "isotropic": "theory, isotropic bulk, $d = \\infty$ (the paper's)",
    "one_step": "theory, bulk of the step, with its $1/d$ term (ours)",
    "multi_step": "theory, bulk of the steps, with its $1/d$ term (ours)",
    "finite_d": "theory, with its $1/d$ term",
    "limit": "theory in the limit $d = \\infty$",
}


def theories(model: Model, d: int) -> dict[str, dict[str, Any]]:
    """Name the theories of a model, and how each is solved; the last one claims the simulation."""
    for kind, own in ((OneStep, "one_step"), (MultiStep, "multi_step")):
        if isinstance(model, kind):
            return {"isotropic": {}, own: {"bulk": own, "d": d}}
    return {"limit": {}, "finite_d": {"d": d}}


def subject_of(model: Model) -> str:
    """Activation and target of a model in words."""
    what = "features" if isinstance(model, SpikedRF) else "network"
    return f"{label(model.activation)} {what}, {label(model.target)} target"


def error_curves(
    run: Run,
    panels: Sequence[tuple[Sequence[Model], float]],
    line: tuple[str, Sequence[Any]],
    along: tuple[str, Sequence[float]],
    sizes: tuple[int, int, int],
    *,
    alpha: float | None = None,
    beside: Callable[[Model, FloatArray], Mapping[str, FloatArray]] = lambda model, x: {},
    space: Callable[..., FloatArray] = np.linspace,
    count: int = 121,
) -> xr.Dataset:
    """Compute test errors by every theory and by simulation.

    Each panel has a model for each line, and its penalty; ``line`` is what tells the lines apart,
    ``along`` the horizontal axis and where to simulate, both by name and values; ``alpha`` is given
    where it is not the axis; ``sizes`` are d, replicates and seed of the simulation; ``beside``
    gives the fields of a model that vary along the axis too; ``space`` says how the ``count``
    points of the curves are spaced.
    """
    (name, values), (axis, simulate_at) = line, along
    xs = np.asarray(simulate_at, dtype=float)
    low, high = xs.min(), xs.max()
    # a single point has the curve to both sides of it
    x = space(*((low, high) if low < high else (low / 2, 2 * low)), count)
    lines = [(model, lam) for models, lam in panels for model in models]
    # of lines of several kinds the theories have the names that those of the last one have
    kinds = list(theories(lines[-1][0], sizes[0]))
    points = tuple(xs.tolist())
    jobs = [Job(model, axis, points, alpha, lam, *sizes) for model, lam in lines]
    for i, (model, _) in enumerate(lines):
        also = tuple((name, tuple(x.tolist())) for name, x in beside(model, xs).items())
        jobs[i] = dataclasses.replace(jobs[i], beside=also)
    done = run.simulations(jobs)
    shape = len(panels), len(values)
    simulated = np.array([ds.test_error.squeeze(drop=True).values for ds in done])

    def theory(grid: FloatArray) -> FloatArray:
        n: Any = grid if axis == "alpha" else alpha
        errors = []
        with quiet():  # of what is less than the width of a line
            for i in range(len(kinds)):
                for model, lam in lines:
                    fields = {**beside(model, grid), **({} if axis == "alpha" else {axis: grid})}
                    options = list(theories(model, sizes[0]).values())[i]
                    at = with_fields(model, fields)
                    errors.append(solve(at, n, lam, n_threads=run.n_threads, **options).test_error)
        return np.reshape(errors, (len(kinds), *shape, grid.size))

    titles = [subject_of(models[0]) for models, _ in panels]
    if len(panels) > 1:
        titles = [f"{title}, lam = {lam:g}" for title, (_, lam) in zip(titles, panels, strict=True)]
    return xr.Dataset(
        {
            "theory": (("kind", "panel", name, axis), theory(x)),
            "theory_at_simulated": (("kind", "panel", name, f"{axis}_simulated"), theory(xs)),
            "simulated": (
                ("panel", name, f"{axis}_simulated", "replicate"),
                simulated.reshape(*shape, len(xs), -1),
            ),
            "floor": ("panel", [linear_floor(models[0]) for models, _ in panels]),
            "lam": ("panel", [lam for _, lam in panels]),
        },
        coords={
            "kind": kinds,
            "panel": titles,
            name: list(values),
            axis: x,
            f"{axis}_simulated": xs,
        },
        attrs={"line": name, "along": axis, "d": sizes[0], "claims": kinds[-1]},
    )


def draw_error_curves(
    ds: xr.Dataset,
    *,
    deviation: bool = False,
    stated: Sequence[str] = (),
    extra: Callable[[layout.Axes, list[Any]], None] | None = None,
    keys: Sequence[layout.Key] = (),
    words: Mapping[str, str] = THEORY,
) -> layout.Figure:
    """Draw one panel beside the other, all lines of one parameter.

    ``stated`` goes into a line above; ``extra`` is given each panel's axes and the colours, and
    ``keys`` say in the legend what it drew; ``deviation`` draws that in place of standard errors.
    """
    panels = ds.sizes["panel"]
    figure = layout.new_figure(COLUMN if panels == 1 else PAGE, 2.65)
    axes = np.atleast_1d(figure.subplots(1, panels))
    name, along = ds.attrs["line"], ds.attrs["along"]
    colours = ordered_colours(ds.sizes[name])
    kinds = [str(kind) for kind in ds.kind.values][::-1]
    styles = dict(zip(kinds, ("-", ":", "--"), strict=False))
    values = ds.simulated.values
    middle = values.mean(-1)
    bars = values.std(-1, ddof=1) if deviation else layout.standard_error(values)
    for j, ax in enumerate(axes):
        for i, value in enumerate(ds[name].values):
            for kind in reversed(kinds):
                curve = ds.theory.sel(kind=kind).values[j, i]
                width = 1.4 if styles[kind] == "-" else 1.1
                ax.plot(ds[along], curve, styles[kind], color=colours[i], lw=width, zorder=2)
            text = value if isinstance(value, str) else f"{layout.AXIS[name]} = {value:g}"
            x = ds[f"{along}_simulated"]
            layout.error_bars(ax, i, colours[i], x, middle[j, i], bars[j, i], label=text)
        if ds.floor[j] > 0:
            ax.axhline(float(ds.floor[j]), color=GREY, ls="--", lw=0.9, zorder=1)
        ax.set_xlabel(layout.AXIS[along])
        ax.set_title(layout.in_symbols(str(ds.panel.values[j])))
        lowest, highest = middle[j].min(), middle[j].max()
        if lowest > 0 and highest > 30 * lowest:
            ax.set_yscale("log")
        else:
            ax.set_ylim(bottom=0)
        ax.margins(x=0.02)
        if extra is not None:
            extra(ax, colours)
    axes[0].set_ylabel("test error")
    layout.state(figure, ds, *stated)
    said = "one standard deviation" if deviation else "standard error"
    explained: list[layout.Key] = [(words[kind], {"ls": styles[kind]}) for kind in kinds]
    explained.append(layout.simulation_key(ds.attrs["d"], values.shape[-1], said))
    if (ds.floor > 0).any():
        explained.append(("linear floor", {"ls": "--", "lw": 0.9}))
    layout.legend_below(figure, axes[0], [*explained, *keys])
    return figure
