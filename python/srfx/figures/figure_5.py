"""Figure 5: errors against the width."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import xarray as xr

from srfx import _validation as check
from srfx.figures import catalogue
from srfx.figures.curves import draw_error_curves, error_curves
from srfx.figures.jobs import Run
from srfx.models import OneStep


@catalogue.figure(
    "test error against the width, after one step",
    functools.partial(draw_error_curves, deviation=True, stated=("alpha0", "alpha", "lam")),
    quick={"d": 500, "replicates": 20},
    ranges={"lam": check.positive},  # the bulk of the step is known for these only
    bars="standard deviation over replicate",
)
def figure5(
    run: Run,
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
    """Figure 5 of CPD24: test error of the network after one step against its width.

    Points are means, their bars one standard deviation over networks. The caption gives all but eta
    and the values of beta.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.figure5(d=100, replicates=3, beta=(0.5, 1), progress=False)
    """
    models = [OneStep(activation, target, eta=value, alpha0=alpha0, noise=noise) for value in eta]
    sizes = d, replicates, seed
    return error_curves(run, [(models, lam)], ("eta", eta), ("beta", beta), sizes, alpha=alpha)
