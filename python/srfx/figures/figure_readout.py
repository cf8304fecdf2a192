"""Several values of the initial readout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from srfx.figures import catalogue, layout
from srfx.figures.curves import THEORY, draw_error_curves, error_curves
from srfx.figures.jobs import Run
from srfx.models import SpikedRF, readout_quantiles
from srfx.theory import bounds


def _draw(ds: xr.Dataset) -> layout.Figure:
    look: dict[str, Any] = {"ls": (0, (7, 2, 1.5, 2)), "lw": 0.8}

    def bound_lines(ax: layout.Axes, colours: list[Any]) -> None:
        for colour, level in zip(colours, ds.lower.values, strict=True):
            if np.isfinite(level):
                ax.axhline(level, color=colour, zorder=1, **look)
        layout.log_ticks(ax, ds.alpha_simulated.values)
        ax.set_yscale("log")
        ax.set_ylim(bottom=float(ds.lower.min()) / 2)

    bounded = [str(x) for x in ds.readout.values[np.isfinite(ds.lower.values)]]
    return draw_error_curves(
        ds,
        stated=("r", "c", "gamma", "beta", "lam"),
        extra=bound_lines,
        keys=[(f"lower bounds of {', '.join(bounded)}, $d = \\infty$", look)],
        words=THEORY | {"limit": f"{THEORY['limit']} (not for Gaussian)"},
    )


@catalogue.figure(
    "errors and bounds for an initial readout of several values",
    _draw,
    quick={"d": 500, "replicates": 12},
    meanings={
        "readout": "values of the initial readout",
        "lower": "lower bound of the test error, d = inf; NaN where there is none",
    },
)
def readout(
    run: Run,
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
    """Errors and bounds for initial readouts of one, two, three values, and Gaussian ones.

    Spiked random features against alpha. Dotted: the limit d = inf; of Gaussian readouts it is left
    out, because the quantiles that stand for them have nearly parallel mean features, which the
    limit tells apart and a finite d does not. Levels of dashes and dots: the lower bounds of
    `srfx.bounds`; a Gaussian readout has none above zero.

    The more values, the richer the functions that the features span along the spike (the last
    section of CPD24; THEORY 7).

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.readout(d=100, replicates=3, alpha=(0.5, 2), progress=False)
    """
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
    line, along, sizes = ("readout", list(sets)), ("alpha", alpha), (d, replicates, seed)
    ds = error_curves(run, [(models, lam)], line, along, sizes, space=np.geomspace, count=81)
    # many quantiles stand for a Gaussian at finite d only: their mean features are nearly parallel
    ds["theory"] = ds.theory.where((ds.kind == "finite_d") | (ds.readout != "Gaussian"))
    levels = [float(bounds(model).lower) for model in models[:-1]]
    ds["lower"] = "readout", [*levels, np.nan]
    return ds
