"""Readouts that classify, before and after a gradient step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from srfx import _validation as check
from srfx._style import PAGE, ordered_colours
from srfx.figures import catalogue, layout
from srfx.figures.curves import THEORY
from srfx.figures.jobs import Job, Run
from srfx.models import FloatArray, OneStep, quiet
from srfx.optima import optimal

#: Losses by the names that their lines have.
LOSSES = {"ridge": "square", "logistic": "logistic", "hinge": "hinge"}

#: Where the best penalty is looked for.
RANGE = (1e-4, 1e2)


def _draw(ds: xr.Dataset) -> layout.Figure:
    figure = layout.new_figure(PAGE, 2.65)
    axes = np.atleast_1d(figure.subplots(1, ds.sizes["panel"], sharey=True))
    colours = ordered_colours(ds.sizes["loss"])
    for j, ax in enumerate(axes):
        for i, loss in enumerate(ds.loss.values):
            ax.plot(ds.alpha, ds.theory.values[j, i], color=colours[i], zorder=2)
            values = ds.simulated.values[j, i]
            bars = layout.standard_error(values)
            x = ds.alpha_simulated
            layout.error_bars(ax, i, colours[i], x, values.mean(-1), bars, label=str(loss))
        ax.set_title(f"{layout.subject(ds, 'network')}: {ds.panel.values[j]}")
        ax.set_xlabel(layout.AXIS["alpha"])
        layout.log_ticks(ax, ds.alpha_simulated.values)
        ax.margins(x=0.02)
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel(r"classification error at the best $\lambda$")
    layout.state(figure, ds, "eta", "alpha0", "beta")
    keys = [
        (THEORY["one_step"], {}),
        layout.simulation_key(ds.attrs["d"], ds.sizes["replicate"]),
    ]
    layout.legend_below(figure, axes[0], keys)
    return figure


@catalogue.figure(
    "errors of ridge, logistic and hinge classification before and after one step",
    _draw,
    quick={"d": 500, "replicates": 12},
    ranges={"alpha0": check.positive},
    meanings={
        "theory": "classification error, by the theory",
        "theory_at_simulated": "classification error, by the theory at those of the simulation",
        "simulated": "classification error, of each simulated network",
        "lam": "best ridge penalty, by the theory",
        "loss": "loss that the readout is fitted with",
    },
)
def classification(
    run: Run,
    *,
    activation: Any = "tanh",
    target: Any = "hermite3",
    eta: float = 4.0,
    alpha0: float = 4.0,
    alpha: Sequence[float] = (0.5, 1.0, 2.0, 4.0, 8.0),
    beta: float = 1.0,
    noise: float = 0.0,
    d: int = 1000,
    replicates: int = 10,
    seed: int = 10,
) -> xr.Dataset:
    """Classification errors of ridge, logistic and hinge, before and after one gradient step.

    Labels are the sign of the target. Each readout has the penalty that is best for it, by the
    theory, at every alpha: networks are simulated at that.

    Examples
    --------
    >>> import srfx
    >>> few = {"alpha": (1, 4), "progress": False}
    >>> figure = srfx.figures.classification(d=100, replicates=3, **few)
    >>> len(figure.axes)
    2
    """
    common: dict[str, Any] = {"eta": eta, "beta": beta, "noise": noise, "labels": "sign"}
    panels = {
        "no step": OneStep(activation, target, alpha0=0.0, **common),
        "one step": OneStep(activation, target, alpha0=alpha0, **common),
    }
    xs = np.asarray(alpha, dtype=float)
    low, high = xs.min(), xs.max()
    x = np.geomspace(*((low, high) if low < high else (low / 2, 2 * low)), 25)
    with quiet():
        best = [[_best(run, model, loss, np.append(x, xs), d) for loss in LOSSES.values()]
                for model in panels.values()]  # fmt: skip
    error, lam = (np.array([[pair[i] for pair in row] for row in best]) for i in (0, 1))
    lam_simulated = lam[..., x.size :]
    points = tuple(xs.tolist())
    jobs = [
        Job(
            model,
            "alpha",
            points,
            None,
            float("nan"),
            d,
            replicates,
            seed,
            beside=(("lam", tuple(lam_simulated[j, i].tolist())),),
            loss=loss,
        )
        for j, model in enumerate(panels.values())
        for i, loss in enumerate(LOSSES.values())
    ]
    done = [ds.classification_error.squeeze(drop=True).values for ds in run.simulations(jobs)]
    dims = ("panel", "loss")
    return xr.Dataset(
        {
            "theory": ((*dims, "alpha"), error[..., : x.size]),
            "theory_at_simulated": ((*dims, "alpha_simulated"), error[..., x.size :]),
            "simulated": (
                (*dims, "alpha_simulated", "replicate"),
                np.reshape(done, (len(panels), len(LOSSES), len(xs), -1)),
            ),
            "lam": ((*dims, "alpha_simulated"), lam_simulated),
        },
        coords={"panel": list(panels), "loss": list(LOSSES), "alpha": x, "alpha_simulated": xs},
        attrs={"d": d},
    )


def _best(
    run: Run, model: OneStep, loss: str, alpha: FloatArray, d: int
) -> tuple[FloatArray, FloatArray]:
    """Least classification error, and the penalty that has it."""
    options: dict[str, Any] = {"bulk": "one_step", "d": d, "n_threads": run.n_threads}
    found = optimal(
        model, {"lam": RANGE}, alpha=alpha, loss=loss, of="classification_error", **options
    )
    return found.classification_error.values, found.lam.values
