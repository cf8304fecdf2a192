"""Where one step beats every kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from srfx import _validation as check
from srfx._style import COLOURS, COLUMN
from srfx.figures import catalogue, layout
from srfx.figures.jobs import Run
from srfx.models import FloatArray, OneStep, label, quiet
from srfx.optima import thresholds
from srfx.theory import linear_floor, solve


def _least(grid: FloatArray, error: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Least error over the penalty, and where: to about 1e-5.

    By a parabola in log(lam) through the three best.
    """
    best = np.clip(error.argmin(-1), 1, grid.size - 2)[..., None]
    low, mid, high = (np.log(np.take_along_axis(error, best + i, -1)[..., 0]) for i in (-1, 0, 1))
    curvature, slope = low + high - 2 * mid, (high - low) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.clip(np.where(curvature > 0, -slope / curvature, 0.0), -1, 1)
    least = np.exp(mid + slope * step + curvature * step**2 / 2)
    return least, grid[best[..., 0]] * (grid[1] / grid[0]) ** step


def _boundary(
    run: Run,
    model: OneStep,
    alpha: float,
    lam: Sequence[float],
    frame: tuple[float, float],
    bulk: str,
) -> FloatArray:
    """Return alpha0 where the least error is the floor, also beyond the frame: the line ends it."""

    def crossed(low: float, high: float) -> FloatArray:
        found = thresholds(
            model,
            alpha=alpha,
            over={"lam": (lam[0], lam[1])},
            crossing={"alpha0": (low, high)},
            bulk=bulk,
            n_threads=run.n_threads,
        )
        return np.asarray(found.alpha0.values)

    inside = crossed(frame[0], 4 * frame[1])
    below = crossed(frame[0] / 4, frame[0])
    return np.where(np.isnan(inside), below, inside)


def _draw(ds: xr.Dataset) -> layout.Figure:
    from matplotlib.colors import TwoSlopeNorm

    figure = layout.new_figure(COLUMN, 2.9)
    ax = figure.subplots()
    gain = np.log10(ds.gain.values)
    norm = TwoSlopeNorm(0, min(gain.min(), -0.01), max(gain.max(), 0.01))
    mesh = ax.pcolormesh(
        ds.alpha0, ds.eta, gain, cmap="PuOr_r", norm=norm, shading="gouraud", rasterized=True
    )
    levels = [x for x in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8) if ds.gain.min() < x < ds.gain.max()]
    thin = [x for x in levels if x != 1]
    ax.contour(ds.alpha0, ds.eta, ds.gain, thin, colors="black", linewidths=0.6)
    # where one step starts to beat every kernel, by root finding
    for name, colour, width, dashes, text in (
        ("boundary", "black", 2.8, "-", "error = floor"),
        ("boundary_isotropic", COLOURS[4], 1.3, (0, (2.5, 1.5)), "the same, isotropic bulk"),
    ):
        if np.isfinite(ds[name]).any():
            ax.plot(ds[name], ds.eta, color=colour, lw=width, ls=dashes, label=text)
    if ax.lines:
        ax.legend(
            loc="lower left",
            fontsize=6.5,
            frameon=True,
            framealpha=0.85,
            edgecolor="none",
            handlelength=2.4,
        )
    ax.set_ylim(float(ds.eta.min()), float(ds.eta.max()))
    ax.set_xlim(float(ds.alpha0.min()), float(ds.alpha0.max()))
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis, values in ((ax.xaxis, ds.alpha0.values), (ax.yaxis, ds.eta.values)):
        low, high = np.log2(values.min()) - 1e-9, np.log2(values.max()) + 1e-9
        layout.ticks(axis, 2.0 ** np.arange(np.ceil(low), np.floor(high) + 1))
    ax.set_xlabel(layout.AXIS["alpha0"])
    ax.set_ylabel(layout.AXIS["eta"])
    ax.set_title(
        f"{layout.subject(ds, 'network')}, {layout.stated(ds, 'alpha', 'beta')}\n"
        r"linear floor / test error at the best $\lambda$"
    )
    bar = figure.colorbar(mesh, ax=ax, ticks=np.log10(levels))
    bar.ax.set_yticklabels([f"{x:g}" for x in levels])
    bar.ax.minorticks_off()
    bar.ax.hlines(
        np.log10(levels), 0, 1, color="black", lw=[2.8 if x == 1 else 0.6 for x in levels]
    )
    return figure


def _consistent(values: dict[str, Any]) -> None:
    for axis in ("alpha0", "eta"):
        values[axis] = tuple(sorted(values[axis]))
        if len(values[axis]) < 2:
            raise ValueError(
                f"{axis} must hold at least two different values, an axis of the plane; got "
                f"{values[axis]}"
            )
    if len(values["lam"]) != 2 or not values["lam"][0] < values["lam"][1]:
        raise ValueError(
            f"lam must be two increasing numbers, the range of the penalty; got {values['lam']}"
        )
    if linear_floor(values["target"]) == 0:
        raise ValueError(
            "target must have a linear floor above zero, with which the error is compared; "
            f"got {label(values['target'])}"
        )


@catalogue.figure(
    "gain over the linear floor in the (alpha0, eta) plane, at the best penalty",
    _draw,
    ranges={"alpha0": check.positive, "eta": check.positive, "lam": check.positive},
    consistent=_consistent,
    meanings={
        "test_error": f"{catalogue.ERROR}, at the best ridge penalty, one_step bulk",
        "lam": "best ridge penalty",
        "gain": "linear floor over test error",
        "boundary": "alpha0 where the test error crosses the linear floor, one_step bulk",
        "boundary_isotropic": "alpha0 where it does with an isotropic bulk, as in the paper",
    },
    keeps=False,
)
def phase(
    run: Run,
    *,
    activation: Any = "tanh",
    target: Any = "sin",
    alpha0: Sequence[float] = tuple(np.geomspace(0.25, 64, 41).tolist()),
    eta: Sequence[float] = tuple(np.geomspace(0.25, 8, 41).tolist()),
    alpha: float = 2.0,
    beta: float = 1.0,
    lam: Sequence[float] = (1e-4, 1e2),
    noise: float = 0.0,
) -> xr.Dataset:
    """Gain of one step over the linear floor in the (alpha0, eta) plane, at the best penalty.

    The ratio of the floor to the test error: above 1 the network beats every kernel method. The
    line where it starts to is found by `srfx.thresholds`, for the bulk of the actual step and for
    the isotropic one (up to four times beyond the frame); the rest has the former. Theory alone, at
    d = inf; ``lam`` is the range of the penalty.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.phase(alpha0=(1, 4, 16), eta=(0.5, 1, 2, 4))
    """
    rates, samples = np.asarray(eta), np.asarray(alpha0)
    plane = OneStep(
        activation,
        target,
        eta=rates[:, None, None],
        alpha0=samples[:, None],
        beta=beta,
        noise=noise,
    )
    grid = np.geomspace(lam[0], lam[1], 61)
    with quiet():  # of what is less than the width of a line
        solution = solve(plane, alpha, grid, bulk="one_step", n_threads=run.n_threads)
        least, best = _least(grid, solution.test_error)
        line = OneStep(activation, target, eta=rates, beta=beta, noise=noise)
        frame = samples.min(), samples.max()
        boundary, boundary_isotropic = (
            _boundary(run, line, alpha, lam, frame, bulk) for bulk in ("one_step", "isotropic")
        )
    floor = linear_floor(plane)
    return xr.Dataset(
        {
            "test_error": (("eta", "alpha0"), least),
            "lam": (("eta", "alpha0"), best),
            "gain": (("eta", "alpha0"), floor / least),
            "boundary": ("eta", boundary),
            "boundary_isotropic": ("eta", boundary_isotropic),
        },
        coords={"eta": rates, "alpha0": samples},
        attrs={"linear_floor": floor, "alpha": alpha, "beta": beta},
    )
