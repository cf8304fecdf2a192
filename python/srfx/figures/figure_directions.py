"""The function learned of a target of two directions, before and after steps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from srfx import _validation as check
from srfx._style import PAGE, function_bands
from srfx.figures import catalogue, layout
from srfx.figures.figure_steps import in_words, step_counts, stepped
from srfx.figures.jobs import Job, Run
from srfx.models import FloatArray, quiet
from srfx.targets import Target
from srfx.theory import learned_function
from srfx.weights import own_bulk


def _staircase(a: FloatArray, b: FloatArray) -> FloatArray:
    return a + a * b


#: Its linear part shows one direction to the first step, and that one shows the other to the next.
STAIRCASE = Target(_staircase, directions=2, name="a + ab")


def _draw(ds: xr.Dataset) -> layout.Figure:
    from matplotlib.ticker import MaxNLocator

    figure = layout.new_figure(PAGE, 3.9)
    count = ds.sizes["steps"]
    axes = figure.subplots(2, count + 1, sharex=True, sharey=True)
    # bands as far as the target goes but for its corners
    low, high = np.quantile(ds.target.values, (0.03, 0.97))
    levels = MaxNLocator(14).tick_values(low, high)
    t, bins = ds.t1.values, ds.bin1.values
    bands = function_bands(axes[0, 0], t, t, ds.target.values, levels)
    target = layout.subject(ds, "network").split(", ")[1].removesuffix(" target")
    axes[0, 0].set_title(f"target {target}")
    for j, text in enumerate(ds.steps.values):
        function_bands(axes[0, j + 1], t, t, ds.theory.values[j], levels)
        function_bands(axes[1, j + 1], bins, bins, ds.simulated.values[j].mean(0), levels)
        axes[0, j + 1].set_title(f"{text}: theory")
        axes[1, j + 1].set_title(f"{ds.attrs['replicates']} networks at $d = {ds.attrs['d']}$")
    axes[1, 0].set_axis_off()
    axes[0, 0].tick_params(labelbottom=True)
    axes[1, 1].tick_params(labelleft=True)
    for ax in (*axes[0, 1:], *axes[1, 2:]):
        ax.set_ylabel("")
    for ax in axes[0, 1:]:
        ax.set_xlabel("")
    bar = figure.colorbar(bands, ax=axes[:, -1], shrink=0.8)
    bar.set_label(layout.AXIS["f"].replace("t)", "t_1, t_2)"))
    values = json.loads(ds.attrs["parameters"])
    readout = ", ".join(f"{a:g}" for a in values["readout"])
    text = layout.stated(ds, "eta", "alpha0", "alpha", "beta", "lam")
    figure.suptitle(f"{values['activation']} network, readout {readout}, {text}", fontsize=7.5)
    return figure


def _consistent(values: dict[str, Any]) -> None:
    target = values["target"]
    if not isinstance(target, Target) or target.directions != 2:
        raise ValueError(f"target must have two directions in figure directions; got {target!r}")


@catalogue.figure(
    "the function learned of a target of two directions, before and after steps",
    _draw,
    quick={"d": 500, "replicates": 10},
    ranges={"lam": check.positive, "steps": step_counts},
    consistent=_consistent,
    meanings={
        "theory": "conditional mean of the prediction given the projections, by the theory",
        "theory_at_simulated": "the theory at the mean projections of each bin",
        "simulated": "mean prediction in bins of the projections, of each simulated network",
        "t_simulated": "mean projections of the points in the bin",
        "steps": "gradient steps",
        "direction": "direction of the target",
        "t1": "projection on the first direction",
        "t2": "projection on the second direction",
        "bin1": "middle of the bin, first direction",
        "bin2": "middle of the bin, second direction",
        "target": "target function of the projections",
    },
)
def directions(
    run: Run,
    *,
    activation: Any = "relu",
    target: Any = STAIRCASE,
    steps: Sequence[float] = (0, 1, 2),
    eta: float = 3.0,
    alpha0: float = 5.0,
    readout: Sequence[float] = (1.0, -1.0),
    beta: float = 1.0,
    alpha: float = 3.0,
    lam: float = 0.3,
    noise: float = 0.0,
    d: int = 1000,
    replicates: int = 10,
    bins: int = 13,
    seed: int = 9,
) -> xr.Dataset:
    """Learned function of a target of two directions, before and after gradient steps.

    ``E[f(x) | t_1, t_2]`` as bands, theory above and simulated networks below. Every step is made
    on ``alpha0 d`` samples of its own. The target ``a + ab`` is a staircase: a first step finds a,
    to which the target is correlated; only with a known does the gradient see b. Two groups of
    neurons, of readout 1 and -1, can tell the two directions apart.

    The theory is that of the bulk that the steps make where it is known, and of the isotropic one
    for several groups of neurons, which have no other here.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.directions(d=60, replicates=2, bins=3, steps=(0, 1), progress=False)
    >>> len(figure.axes)
    7
    """
    edges = np.linspace(-2, 2, bins + 1)
    fields: dict[str, Any] = {"eta": eta, "alpha0": alpha0, "beta": beta, "noise": noise}
    models = [
        stepped(int(count), activation, target, readout=tuple(readout), **fields) for count in steps
    ]
    bounds, sizes = tuple(edges.tolist()), (d, replicates, seed)
    done = run.simulations(
        [Job(model, "alpha", (alpha,), None, lam, *sizes, bounds) for model in models]
    )
    x = np.linspace(-2, 2, 61)
    grid = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1)
    at = np.array([ds.t.values for ds in done])
    curves, claimed = [], []
    with quiet():
        for model, points in zip(models, at, strict=True):
            options: dict[str, Any] = {"bulk": own_bulk(model), "d": d, "n_threads": run.n_threads}
            curves.append(learned_function(model, alpha, lam, grid, **options))
            claimed.append(_filled(model, alpha, lam, points, options))
    words = [in_words(count) for count in steps]
    points = ("steps", "replicate", "bin1", "bin2")
    middles = (edges[1:] + edges[:-1]) / 2
    return xr.Dataset(
        {
            "theory": (("steps", "t1", "t2"), np.array(curves)),
            "theory_at_simulated": (points, np.array(claimed)),
            "simulated": (points, np.array([ds.f.values for ds in done])),
            "t_simulated": ((*points, "direction"), at),
            "target": (("t1", "t2"), target(grid[..., 0], grid[..., 1])),
        },
        coords={
            "steps": words,
            "t1": x,
            "t2": x,
            "bin1": middles,
            "bin2": middles,
            "direction": [1, 2],
        },
        attrs={"d": d, "replicates": replicates},
    )


def _filled(model: Any, alpha: float, lam: float, points: FloatArray, options: Any) -> FloatArray:
    """Return the theory at mean projections; an empty bin has none."""
    known = np.isfinite(points).all(axis=-1)
    values = np.full(known.shape, np.nan)
    values[known] = learned_function(model, alpha, lam, points[known], **options)
    return values
