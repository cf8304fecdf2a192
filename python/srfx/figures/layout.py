"""What the pictures share beside the style: sizes, symbols, error bars, statements, legends."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from srfx._style import COLUMN, GREY, MARKERS, require_matplotlib
from srfx.models import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:  # matplotlib is loaded when a figure is drawn
    Axes = Figure = Any

#: Names of axes.
AXIS = {
    "alpha": r"$\alpha = n/d$",
    "beta": r"$\beta = p/d$",
    "alpha0": r"$\alpha_0$",
    "eta": r"$\tilde\eta$",
    "r": "$r$",
    "t": r"$t = \theta\cdot x/\sqrt{d}$",
    "f": r"$\mathrm{E}\,[f(x)\mid t]$",
}

#: Parameters in the lines above the panels, as in `AXIS` but without what they are ratios of.
SYMBOLS = AXIS | {
    "alpha": r"$\alpha$",
    "beta": r"$\beta$",
    "lam": r"$\lambda$",
    "c": "$c$",
    "gamma": r"$\gamma$",
    "noise": "noise",
    "total": "samples over $d$",
}

#: An entry of a legend: its text, and the look of a grey line beside it.
Key = tuple[str, dict[str, Any]]


def new_figure(width: float, height: float) -> Figure:
    """Start a figure, in inches."""
    require_matplotlib("figures need matplotlib")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def error_bars(ax: Axes, i: int, colour: Any, x: Any, y: Any, size: Any, **look: Any) -> None:
    """Draw the points of line i; ``size`` is half the length of their bars."""
    ax.errorbar(
        x,
        y,
        yerr=size,
        fmt=MARKERS[i % len(MARKERS)],
        color=colour,
        mec="white",
        mew=0.4,
        elinewidth=0.9,
        zorder=3,
        **look,
    )


def simulation_key(d: int, replicates: int, bars: str = "standard error") -> Key:
    """Say what the points are."""
    text = f"simulation, $d = {d}$: mean of {replicates}, bars {bars}"
    return text, {"ls": "", "marker": "o"}


def in_symbols(text: str) -> str:
    """Write the penalty of a panel's plain name as its symbol."""
    return text.replace("lam = ", rf"{SYMBOLS['lam']} = ")


def stated(ds: xr.Dataset, *names: str) -> str:
    """Name parameters and their values, and the noise where there is any, from the attributes."""
    values = json.loads(ds.attrs["parameters"])
    parts = [f"{SYMBOLS[name]} = {values[name]:g}" for name in names]
    if values.get("noise", 0) > 0:
        parts.append(f"noise {values['noise']:g}")
    return ", ".join(parts)


def state(figure: Figure, ds: xr.Dataset, *names: str) -> None:
    """Say above the panels, or in the title of a single one, what the picture does not show."""
    text = stated(ds, *names)
    if len(figure.axes) > 1:
        figure.suptitle(text, fontsize=7.5)
    else:
        (ax,) = figure.axes
        ax.set_title(f"{ax.get_title()}\n{text}")


def subject(ds: xr.Dataset, what: str) -> str:
    """Activation and target in words."""
    values = json.loads(ds.attrs["parameters"])
    # a callable is recorded by its name and a digest of its values
    activation, target = (
        values[name].split(" with values ")[0] for name in ("activation", "target")
    )
    return f"{activation} {what}, {target} target"


def log_ticks(ax: Axes, values: FloatArray) -> None:
    """Make the horizontal axis logarithmic, with ticks at these values alone."""
    ax.set_xscale("log")
    ticks(ax.xaxis, values)


def ticks(axis: Any, values: FloatArray) -> None:
    """Put ticks at these values alone."""
    from matplotlib.ticker import NullLocator

    axis.set_ticks(values, [f"{x:g}" for x in values])
    axis.set_minor_locator(NullLocator())


def legend_below(figure: Figure, ax: Axes, keys: Iterable[Key] = ()) -> None:
    """Put the legend of the axes, and more entries, under the panels, where it covers no curve."""
    from matplotlib.lines import Line2D

    handles, labels = map(list, ax.get_legend_handles_labels())
    for text, look in keys:
        grey: dict[str, Any] = {"color": GREY}
        handles.append(Line2D([], [], **(grey | look)))
        labels.append(text)
    wide = figure.get_figwidth() > COLUMN
    long = [i for i, x in enumerate(labels) if len(x) > 24 or (x == "linear floor" and not wide)]
    short = [i for i in range(len(labels)) if i not in long]
    # the values of the parameter in a row, and what the marks mean in rows below it
    blocks = [(short, min(len(short), 6 if wide else 4)), (long, 2 if wide else 1)]
    blocks = [(rows, columns) for rows, columns in blocks if rows]
    line = 0.155
    height = sum(line * -(-len(rows) // columns) for rows, columns in blocks)
    total = figure.get_figheight() + height + 0.05
    figure.set_figheight(total)
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0, (height + 0.05) / total, 1, 1 - (height + 0.05) / total))
    top = height / total
    for rows, columns in blocks:
        legend = figure.legend(
            [handles[i] for i in rows],
            [labels[i] for i in rows],
            loc="upper center",
            bbox_to_anchor=(0.5, top),
            ncols=columns,
            columnspacing=1.2,
            borderaxespad=0,
            borderpad=0.1,
        )
        legend.set_in_layout(False)
        top -= line * -(-len(rows) // columns) / total


def standard_error(values: Any) -> Any:
    """Of the mean over replicates, which come last."""
    return np.std(values, -1, ddof=1) / np.sqrt(np.shape(values)[-1])
