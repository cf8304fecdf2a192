"""Figure 3: the functions of the bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from srfx import _core
from srfx._style import COLUMN, GREY, ordered_colours
from srfx.figures import catalogue, layout
from srfx.figures.jobs import Run
from srfx.models import SpikedRF, compiled
from srfx.theory import bounds, linear_floor


def _draw(ds: xr.Dataset) -> layout.Figure:
    figure = layout.new_figure(COLUMN, 2.6)
    ax = figure.subplots()
    target = r"target $\sigma_*(t)$".ljust(26)  # in a row of its own
    ax.plot(ds.t, ds.target, color=GREY, ls="--", lw=1.2, label=target)
    colours = ordered_colours(2)
    for colour, ls, name, what in (
        (colours[1], "-.", "upper", "reached as $\\alpha\\to\\infty$"),
        (colours[0], "-", "lower", "best at any $\\alpha, \\beta, \\lambda$"),
    ):
        text = f"{name} bound: {what}, error {ds[name].attrs['error']:.4f}"
        ax.plot(ds.t, ds[name], ls, color=colour, label=text)
    ax.set_xlabel(layout.AXIS["t"])
    ax.set_ylabel(layout.AXIS["f"])
    ax.set_title(layout.subject(ds, "features"))
    layout.state(figure, ds, "r", "c", "gamma")
    shown = ds.sel(t=slice(-4, 4))
    highest = max(float(abs(shown[name]).max()) for name in ("target", "lower", "upper"))
    ax.set_xlim(-4, 4)
    ax.set_ylim(-1.1 * highest, 1.1 * highest)
    layout.legend_below(figure, ax)
    return figure


@catalogue.figure(
    "the functions that realise the bounds",
    _draw,
    meanings={
        "upper": "function that realises the upper bound, reached as alpha -> inf",
        "lower": "function that realises the lower bound, best at any alpha, beta and lam",
    },
    keeps=False,
)
def figure3(
    run: Run,
    *,
    activation: Any = "tanh",
    target: Any = "sin",
    r: float = 0.9,
    c: float = 1.0,
    gamma: float = 1.0,
) -> xr.Dataset:
    """Figure 3 of CPD24: the functions that realise the upper and the lower bound of the error.

    See `srfx.bounds`. The parameters are the caption's.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.figure3(r=0.5)
    """
    model = SpikedRF(activation, target, r=r, c=c, gamma=gamma)
    sigma, sought = compiled(model.activation), compiled(model.target)
    limits = bounds(model)
    spike = np.array([r]), np.array([c]), np.array([gamma])
    # (m, theta, psi) of the best predictors: the upper bound has m alone (THEORY 6)
    best = _core.bounds(sigma, sought, *spike, 1)
    none = np.zeros(1)
    t = np.linspace(-6, 6, 481)
    functions = {}
    for name, m, theta, psi, error in (
        ("upper", best["upper_m"], none, none, limits.upper),
        ("lower", best["lower_m"], best["lower_theta"], best["lower_psi"], limits.lower),
    ):
        curve = _core.learned_function(sigma, *spike, m, theta, psi, t, 1)[0]
        functions[name] = ("t", curve, {"error": float(error)})
    return xr.Dataset(
        {**functions, "target": ("t", _core.evaluate(sought, t))},
        coords={"t": t},
        attrs={"linear_floor": linear_floor(model)},
    )
