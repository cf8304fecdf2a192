"""Figure 2: errors of the network after one step."""

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


def _consistent(values: dict[str, Any]) -> None:
    count, lam = len(values["targets"]), values["lam"]
    if len(lam) == 1:
        values["lam"] = lam * count
    elif len(lam) != count:
        raise ValueError(
            "targets and lam must be of one length, unless lam is one number; got "
            f"{count} target{'s' if count > 1 else ''} and lam = {lam}"
        )


@catalogue.figure(
    "test error against alpha, after one step",
    functools.partial(draw_error_curves, stated=("eta", "beta")),
    quick={"d": 500, "replicates": 12},
    ranges={"lam": check.positive},  # the bulk of the step is known for these only
    consistent=_consistent,
)
def figure2(
    run: Run,
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
    """Figure 2 of CPD24: test error of the network after one step against alpha.

    Two targets beside each other, a line for each alpha0, and the linear floor. The caption gives
    eta, activations, lam, d and the number of networks; the rest is ours.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.figure2(d=100, replicates=3, alpha=(0.5, 2), progress=False)
    >>> len(figure.axes)
    2
    """
    panels = [
        (
            [
                OneStep(activation, target, eta=eta, alpha0=value, beta=beta, noise=noise)
                for value in alpha0
            ],
            penalty,
        )
        for target, penalty in zip(targets, lam, strict=True)
    ]
    return error_curves(run, panels, ("alpha0", alpha0), ("alpha", alpha), (d, replicates, seed))
