"""Figure 1: the function learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from srfx import _core
from srfx import _validation as check
from srfx._style import COLUMN, GREY, ordered_colours
from srfx.figures import catalogue, layout
from srfx.figures.curves import THEORY, theories
from srfx.figures.jobs import Job, Run
from srfx.models import OneStep, compiled, quiet
from srfx.theory import learned_function


def _draw(ds: xr.Dataset) -> layout.Figure:
    figure = layout.new_figure(COLUMN, 2.6)
    ax = figure.subplots()
    ax.plot(ds.t, ds.target, color=GREY, ls="--", lw=1.1, zorder=1)
    colours = ordered_colours(ds.sizes["alpha0"])
    for i, value in enumerate(ds.alpha0.values):
        ax.plot(ds.t, ds.theory.sel(kind="one_step")[i], color=colours[i], zorder=2)
        ax.plot(ds.t, ds.theory.sel(kind="isotropic")[i], ":", color=colours[i], lw=1.1, zorder=2)
        x, values = ds.t_simulated.values[i].mean(0), ds.simulated.values[i]
        text = f"{layout.AXIS['alpha0']} = {value:g}"
        bars = layout.standard_error(values.T)
        layout.error_bars(ax, i, colours[i], x, values.mean(0), bars, ms=3, label=text)
    ax.set_xlabel(layout.AXIS["t"])
    ax.set_ylabel(layout.AXIS["f"])
    ax.set_title(layout.subject(ds, "network"))
    layout.state(figure, ds, "eta", "alpha", "beta", "lam")
    ax.margins(x=0.02)
    keys = [
        (THEORY["one_step"], {}),
        (THEORY["isotropic"], {"ls": ":", "lw": 1.1}),
        layout.simulation_key(ds.attrs["d"], ds.attrs["replicates"]),
        (r"target $\sigma_*(t)$" + " " * 12, {"ls": "--"}),
    ]
    layout.legend_below(figure, ax, keys)
    return figure


@catalogue.figure(
    "the function learned along theta",
    _draw,
    quick={"d": 500, "replicates": 12},
    ranges={"lam": check.positive},  # the bulk of the step is known for these only
    meanings={
        "theory": "conditional mean of the prediction given the projection, by the theory",
        "theory_at_simulated": "the theory at the mean projection of each bin",
        "simulated": "mean prediction in bins of the projection, of each simulated network",
        "t_simulated": "mean projection of the points in the bin",
    },
)
def figure1(
    run: Run,
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
    r"""Figure 1 of CPD24: the function learned along the target's direction, and its theory.

    ``E[f(x) | theta.x/sqrt(d) = t]`` for several alpha0, 0 (no step) among them. Points: mean
    prediction in bins of t, averaged over networks. Lines: `srfx.learned_function`, solid with the
    bulk of the step, dotted with the paper's; the paper has neither. The caption gives activations,
    d, beta, eta, lam and alpha; the rest is ours.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.figure1(d=100, replicates=3, progress=False)
    >>> print(figure.axes[0].get_xlabel())
    $t = \theta\cdot x/\sqrt{d}$
    """
    edges = np.linspace(-2.75, 2.75, bins + 1)
    models = [
        OneStep(activation, target, eta=eta, alpha0=value, beta=beta, noise=noise)
        for value in alpha0
    ]
    bounds, sizes = tuple(edges.tolist()), (d, replicates, seed)
    done = run.simulations(
        [Job(model, "alpha", (alpha,), None, lam, *sizes, bounds) for model in models]
    )
    t = np.linspace(-3, 3, 241)
    kinds = theories(models[0], d)
    with quiet():
        curves = [
            [
                learned_function(model, alpha, lam, t, n_threads=run.n_threads, **o)
                for model in models
            ]
            for o in kinds.values()
        ]
    f = np.array([ds.f.values for ds in done])
    at = np.array([ds.t.values for ds in done])
    claimed = np.array([np.interp(a, t, curve) for a, curve in zip(at, curves[-1], strict=True)])
    points = ("alpha0", "replicate", "bin")
    return xr.Dataset(
        {
            "theory": (("kind", "alpha0", "t"), np.array(curves)),
            "theory_at_simulated": (points, claimed),
            "simulated": (points, f),
            "t_simulated": (points, at),
            "target": ("t", _core.evaluate(compiled(models[0].target), t)),
        },
        coords={
            "kind": list(kinds),
            "alpha0": np.asarray(alpha0, dtype=float),
            "t": t,
            "bin": (edges[1:] + edges[:-1]) / 2,
        },
        attrs={"d": d, "replicates": replicates, "claims": list(kinds)[-1]},
    )
