"""Figure 4: errors of spiked random features."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import xarray as xr

from srfx.figures import catalogue
from srfx.figures.curves import draw_error_curves, error_curves
from srfx.figures.jobs import Run
from srfx.models import SpikedRF


@catalogue.figure(
    "test error against alpha, spiked random features",
    functools.partial(draw_error_curves, stated=("c", "gamma", "beta")),
    quick={"d": 500, "replicates": 16},
)
def figure4(
    run: Run,
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
    """Figure 4 of CPD24: test error of spiked random features against alpha.

    Two pairs of activation and target beside each other, a line for each spike strength r, 0 among
    them. The caption gives lam, d, beta, activations and the number of networks; the rest is ours.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.figure4(d=100, replicates=3, alpha=(0.5, 2), progress=False)
    >>> len(figure.axes)
    2
    """
    panels = [
        ([SpikedRF(*pair, r=x, c=c, gamma=gamma, beta=beta, noise=noise) for x in r], lam)
        for pair in pairs
    ]
    return error_curves(run, panels, ("r", r), ("alpha", alpha), (d, replicates, seed))
