"""What several gradient steps buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from srfx import _validation as check
from srfx.figures import catalogue, layout
from srfx.figures.curves import draw_error_curves, error_curves
from srfx.figures.jobs import Run
from srfx.models import MAX_STEPS, FloatArray, Model, MultiStep, OneStep


def _draw(ds: xr.Dataset) -> layout.Figure:
    return draw_error_curves(ds, stated=("total", "eta", "beta", "lam"))


def step_counts(name: str, value: object) -> float | FloatArray:
    """Accept numbers of gradient steps."""
    allowed = f"integers from 0 to {MAX_STEPS}"
    return check.number_or_array(
        name, value, allowed, lambda x: (x == np.round(x)) & (x >= 0) & (x <= MAX_STEPS)
    )


def _consistent(values: Mapping[str, Any]) -> None:
    if max(values["alpha"]) >= values["total"]:
        raise ValueError(
            "alpha must be less than total, so that samples are left for the steps; got "
            f"alpha={values['alpha']}, total={values['total']}"
        )


def in_words(steps: float) -> str:
    """Name a line."""
    return f"{steps:g} step{'' if steps == 1 else 's'}" if steps else "no step"


def stepped(
    count: int, *functions: Any, eta: float, alpha0: float = 1.0, **fields: Any
) -> OneStep | MultiStep:
    """Make a network of so many steps, all alike."""
    if count < 2:
        return OneStep(*functions, eta=eta, alpha0=count * alpha0, **fields)
    return MultiStep(*functions, eta=(eta,) * count, alpha0=(alpha0,) * count, **fields)


@catalogue.figure(
    "errors after no, one, two and three gradient steps, of the same samples in all",
    _draw,
    quick={"d": 500, "replicates": 12},
    ranges={"lam": check.positive, "steps": step_counts, "total": check.positive},
    consistent=_consistent,
    meanings={"steps": "gradient steps"},
)
def steps(
    run: Run,
    *,
    activation: Any = "tanh",
    target: Any = "sin",
    steps: Sequence[float] = (0, 1, 2, 3),
    total: float = 6.0,
    alpha: Sequence[float] = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0),
    eta: float = 2.0,
    beta: float = 1.0,
    lam: float = 0.1,
    noise: float = 0.0,
    d: int = 1000,
    replicates: int = 10,
    seed: int = 8,
) -> xr.Dataset:
    """Test errors after no, one, two and three gradient steps, of the same samples in all.

    There are ``total d`` samples: the readout is fitted on ``alpha d`` of them, and each of T steps
    is made on an equal share of the others, with learning rate ``eta``. Solid: the bulk that the
    steps have really made (THEORY 9, 10 and 15). Dotted: the isotropic one. Without a step the
    others are not used: read that line at the right end. Whatever alpha is, no kernel method gets
    below the linear floor.

    Examples
    --------
    >>> import srfx
    >>> few = {"steps": (0, 2), "alpha": (1, 3)}
    >>> figure = srfx.figures.steps(d=100, replicates=3, progress=False, **few)
    >>> len(figure.axes)
    1
    """
    models = [
        stepped(int(count), activation, target, eta=eta, beta=beta, noise=noise) for count in steps
    ]

    def beside(model: Model, x: FloatArray) -> dict[str, FloatArray]:
        made = [n for n, v in model.numeric.items() if n.startswith("alpha0") and np.any(v)]
        return {name: (total - x) / len(made) for name in made}

    line, along = ("steps", list(map(in_words, steps))), ("alpha", alpha)
    return error_curves(run, [(models, lam)], line, along, (d, replicates, seed), beside=beside)
