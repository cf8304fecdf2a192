"""Pictures of results: functions that take what srfx returns and return matplotlib Axes.

Available as ``srfx.plot``. matplotlib is loaded on first use, and pyplot only when no Axes is
given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from srfx._style import COLOURS as _COLOURS
from srfx._style import function_bands, require_matplotlib
from srfx._validation import finite, one_of, public
from srfx.models import MAX_STEPS, AnyTarget, FloatArray, Model, as_target, label
from srfx.results import Solution
from srfx.targets import Target

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = [
    "boundary", "contours", "curves", "heatmap", "learned_plane", "learning_curve", "optima",
    "spectrum",
]  # fmt: skip

_SYMBOLS = {
    "alpha": r"$\alpha = n/d$",
    "alpha0": r"$\alpha_0$",
    "beta": r"$\beta$",
    "lam": r"$\lambda$",
    "eta": r"$\tilde\eta$",
    "gamma": r"$\gamma$",
    "noise": r"$\Delta$",
    "slope": "slope",
    "r": "$r$",
    "c": "$c$",
    "d": "$d$",
    **{f"eta{i}": rf"$\tilde\eta_{{{i}}}$" for i in range(1, MAX_STEPS + 1)},
    **{f"alpha0_{i}": rf"$\alpha_{{0,{i}}}$" for i in range(1, MAX_STEPS + 1)},
}
_MOST_LABELS = 8

#: Most lines that `curves` draws.
_MOST_LINES = 500


#: What a learning curve can be of, and what goes with it: names of both.
_QUANTITIES = {
    "test_error": ("test error", "training error"),
    "test_loss": ("test loss", "training loss"),
    "classification_error": ("classification error", ""),
}


@public
def learning_curve(
    result: Solution | xr.Dataset,
    ax: Axes | None = None,
    *,
    train: bool = True,
    floor: bool = True,
    quantity: str = "test_error",
) -> Axes:
    """Draw the test error, and the training error, against alpha.

    One colour for each combination of the other varying parameters, named in the legend: solid for
    the test error, dotted for the training error. A dashed line marks the linear floor, the least
    mean squared error that kernel and linear methods reach. Axes are logarithmic where the values
    span more than 1.5 decades (for alpha: if it is also spaced that way). Points that did not
    converge leave gaps.

    Parameters
    ----------
    result : Solution or xarray.Dataset
        What `solve` returned, or its `Solution.to_xarray`. alpha must vary along exactly one
        dimension.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new pyplot figure.
    train : bool
        Whether to draw the training error too.
    floor : bool
        Whether to draw the linear floor, beside errors of real labels.
    quantity : {"test_error", "test_loss", "classification_error"}
        What to draw: the mean squared error with that of training, the loss with that of training,
        or the share of labels that is missed.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    TypeError
        ``result`` is neither a Solution nor a Dataset.
    ValueError
        alpha does not vary, varies along several dimensions, or the result lacks the quantity.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> from matplotlib.figure import Figure
    >>> sol = srfx.solve(srfx.OneStep(), alpha=np.linspace(0.2, 3, 50), lam=0.01)
    >>> ax = srfx.plot.learning_curve(sol, ax=Figure().add_subplot())
    >>> [line.get_label() for line in ax.lines]
    ['test error', 'training error', 'linear floor']
    """
    name_of, train_name = _QUANTITIES[one_of("quantity", quantity, tuple(_QUANTITIES))]
    train_quantity = quantity.replace("test", "train")
    data = _as_dataset(result, quantity)
    along = _dimension_of_alpha(data)
    ax = _new_axes() if ax is None else ax

    others = [str(dim) for dim in data[quantity].dims if dim != along]
    stacked = data.stack(_line=others, create_index=False) if others else data.expand_dims("_line")
    alpha = np.asarray(data.alpha)
    order = np.argsort(alpha)
    varying = [
        str(v)
        for v, x in data.coords.items()
        if v in _SYMBOLS and x.dims and set(x.dims) <= set(others)
    ]
    n_lines = stacked.sizes["_line"]
    labelled = set(np.linspace(0, n_lines - 1, min(n_lines, _MOST_LABELS)).round().astype(int))
    with_train = train and train_name != "" and train_quantity in data
    test_values = []
    for i in range(n_lines):
        line = stacked.isel(_line=i)
        name = ", ".join(f"{_SYMBOLS[v]} = {float(line[v]):.4g}" for v in varying)
        style = {"color": _colour(i, n_lines), "lw": 1.8}
        test = np.asarray(line[quantity])[order]
        test_values.append(test)
        text = name_of if n_lines == 1 else name if i in labelled and name else "_"
        ax.plot(alpha[order], test, label=text, **style)
        if with_train:
            values = np.asarray(line[train_quantity])[order]
            style["lw"] = 1.2
            text = train_name if n_lines == 1 else "_"
            ax.plot(alpha[order], values, ls=":", label=text, **style)
    if n_lines > 1:
        ax.plot([], [], color="0.4", lw=1.8, label=name_of)
        if with_train:
            ax.plot([], [], color="0.4", lw=1.2, ls=":", label=train_name)
    level = data.attrs.get("linear_floor")
    real = quantity == "test_error" and "labels" not in data.attrs
    if floor and real and level is not None and level > 0:
        ax.axhline(level, color="0.4", ls="--", lw=1, label="linear floor")

    if _log_spaced(alpha):
        ax.set_xscale("log")
    errors = np.concatenate(test_values)
    if _decades(errors) > 1.5:
        # a training error near zero must not squeeze the test error
        ax.set_yscale("log")
        lowest = errors[errors > 0].min()
        ax.set_ylim(bottom=max(ax.get_ylim()[0], lowest / 30))
    else:
        ax.set_ylim(bottom=0)
    ax.set_xlabel(_SYMBOLS["alpha"])
    ax.set_ylabel("loss" if quantity == "test_loss" else "error")
    ax.set_title(_title(data), fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    return ax


@public
def heatmap(
    result: Solution | xr.Dataset,
    x: str | None = None,
    y: str | None = None,
    variable: str = "test_error",
    ax: Axes | None = None,
    *,
    best: bool = True,
    colorbar: bool = True,
    log: bool | None = None,
    **kwargs: Any,
) -> Axes:
    """Draw a variable over two parameters in colours.

    Axes whose values are spaced logarithmically over more than 1.5 decades are logarithmic.
    Replicates of simulations are averaged. Points without a value are left blank. An infinite value
    of an axis, as alpha0 = inf, is drawn a step beyond the largest number and labelled so.

    Parameters
    ----------
    result : Solution or xarray.Dataset
        What `solve` or `scan` returned; what varies besides x and y must be selected before.
    x, y : str, optional
        Parameters along the axes. By default the only two that vary, the last one along x.
    variable : str
        What is drawn.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new pyplot figure.
    best : bool
        Whether to mark the least value with a star and name it in a legend.
    colorbar : bool
        Whether to draw a colour bar.
    log : bool, optional
        Logarithmic colours; None: if the values are positive and span more than 1.5 decades.
    **kwargs
        Passed to `matplotlib.axes.Axes.pcolormesh`.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    TypeError
        ``result`` is neither a Solution nor a Dataset.
    ValueError
        x, y or variable are not in it, or something else varies too; the message says what to
        select.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> from matplotlib.figure import Figure
    >>> ds = srfx.scan(srfx.OneStep(), alpha=np.linspace(0.2, 3, 20), lam=np.geomspace(1e-3, 1, 9))
    >>> ax = srfx.plot.heatmap(ds, "alpha", "lam", ax=Figure().add_subplot())
    >>> ax.get_xscale(), ax.get_yscale()
    ('linear', 'log')
    """
    ax, data, xs, ys, values = _plane(result, x, y, variable, ax)
    log = _log_colours(values) if log is None else log
    kwargs.setdefault("cmap", "viridis")
    if log and "norm" not in kwargs:
        from matplotlib.colors import LogNorm

        kwargs["norm"] = LogNorm(
            kwargs.pop("vmin", np.nanmin(values)), kwargs.pop("vmax", np.nanmax(values))
        )
    mesh = ax.pcolormesh(
        _edges(xs.places),
        _edges(ys.places),
        np.ma.masked_invalid(values),
        rasterized=True,
        **kwargs,
    )
    if colorbar:
        ax.figure.colorbar(mesh, ax=ax, label=_name_of(data, variable))
    _finish_plane(ax, data, xs, ys, values, best)
    return ax


@public
def contours(
    result: Solution | xr.Dataset,
    x: str | None = None,
    y: str | None = None,
    variable: str = "test_error",
    ax: Axes | None = None,
    *,
    levels: Any = 12,
    filled: bool = False,
    best: bool = True,
    labels: bool = True,
    **kwargs: Any,
) -> Axes:
    """Draw lines of equal value of a variable over two parameters.

    Parameters
    ----------
    result, x, y, variable, ax, best
        As in `heatmap`.
    levels : int or sequence of float
        The levels, or about how many of them: equally spaced, in the logarithm if the values are
        positive and span more than 1.5 decades.
    filled : bool
        Whether to fill the bands between the lines.
    labels : bool
        Whether to write the levels on the lines.
    **kwargs
        Passed to `matplotlib.axes.Axes.contour` or ``contourf``.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    TypeError, ValueError, ImportError
        As `heatmap`; or fewer than two values along an axis.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> from matplotlib.figure import Figure
    >>> ds = srfx.scan(srfx.OneStep(), alpha=np.linspace(0.2, 3, 20), lam=np.geomspace(1e-3, 1, 9))
    >>> ax = srfx.plot.contours(ds, "alpha", "lam", ax=Figure().add_subplot(), levels=[0.1, 0.2])
    >>> ax.get_yscale(), ax.get_legend().get_texts()[0].get_text()
    ('log', '0.1288 at (3, 0.1778)')
    """
    ax, data, xs, ys, values = _plane(result, x, y, variable, ax)
    if len(xs.values) < 2 or len(ys.values) < 2:
        raise ValueError("result must have at least two values along x and along y for contours")
    if isinstance(levels, (int, np.integer)) and _log_colours(values):
        levels = np.geomspace(np.nanmin(values), np.nanmax(values), int(levels) + 2)[1:-1]
    draw = ax.contourf if filled else ax.contour
    kwargs.setdefault("cmap", "viridis")
    lines = draw(xs.places, ys.places, np.ma.masked_invalid(values), levels, **kwargs)
    if filled:
        ax.figure.colorbar(lines, ax=ax, label=_name_of(data, variable))
    elif labels:
        ax.clabel(lines, fontsize="x-small", fmt="%.3g")
    _finish_plane(ax, data, xs, ys, values, best)
    return ax


@public
def curves(
    result: Solution | xr.Dataset,
    x: str | None = None,
    variable: str = "test_error",
    ax: Axes | None = None,
    *,
    best: bool = True,
    **kwargs: Any,
) -> Axes:
    """Draw a variable against one parameter, a line for each combination of the others.

    Replicates of simulations are averaged, with bars of one standard error. An infinite value along
    the axis is drawn as in `heatmap`.

    Parameters
    ----------
    result, variable, ax
        As in `heatmap`.
    x : str, optional
        The parameter along the axis. By default the only one that varies, or alpha.
    best : bool
        Whether to mark the least value of each line with a dot.
    **kwargs
        Passed to `matplotlib.axes.Axes.plot`.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    TypeError, ValueError, ImportError
        As `heatmap`.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> from matplotlib.figure import Figure
    >>> ds = srfx.scan(srfx.OneStep(), alpha=[0.5, 1, 2], lam=np.geomspace(1e-3, 1, 9))
    >>> ax = srfx.plot.curves(ds, "lam", ax=Figure().add_subplot())
    >>> ax.get_xscale(), len(ax.get_legend().get_texts())
    ('log', 3)
    """
    data, spread = _averaged(_with_variable(result, variable), variable, x)
    if x is None:
        varying = [str(dim) for dim in data[variable].dims]
        x = varying[0] if len(varying) == 1 else "alpha" if "alpha" in varying else None
        if x is None:
            raise ValueError(f"x must be given, one of {', '.join(varying) or 'none that varies'}")
    dim, values = _axis(data, "x", x)
    ax = _new_axes() if ax is None else ax
    others = [str(d) for d in data[variable].dims if d != dim]
    shape = tuple(data.sizes[d] for d in others)
    if math.prod(shape) > _MOST_LINES:
        raise ValueError(
            f"at most {_MOST_LINES} lines are drawn; {' x '.join(others)} make "
            f"{math.prod(shape)}: {_how_to_select(others)}"
        )

    def lines_of(item: xr.DataArray) -> FloatArray:
        table: FloatArray = item.transpose(*others, dim).values.reshape(-1, len(values))
        return table[:, order]

    order = np.argsort(values, kind="stable")
    table = lines_of(data[variable])
    bars = None if spread is None else lines_of(spread)
    along = _Along(x, values[order], _places(values)[order])
    count = len(table)
    labelled = set(np.linspace(0, count - 1, min(count, _MOST_LABELS)).round().astype(int))
    for i, line in enumerate(table):
        at = dict(zip(others, np.unravel_index(i, shape), strict=True)) if others else {}
        spot = data.isel(at)
        text = ", ".join(
            f"{_SYMBOLS.get(str(c), str(c))} = {_shown(spot[c].item())}"
            for c in data.coords
            if data[c].dims and set(data[c].dims) <= set(others) and str(c) != x
        )
        style = {"color": _colour(i, count), "lw": 1.8, **kwargs}
        label = text if text and i in labelled else "_"
        ax.plot(along.places, line, label=label, **style)
        if bars is not None:
            ax.errorbar(along.places, line, bars[i], fmt="none", color=style["color"], capsize=2)
        if best and np.isfinite(line).any():
            j = int(np.nanargmin(line))
            ax.plot(along.places[j], line[j], "o", color=style["color"], ms=5, label="_")
    if _log_spaced(along.places):
        ax.set_xscale("log")
    _label_infinity(ax.xaxis, along)
    if _decades(table[np.isfinite(table)]) > 1.5 and np.nanmin(table) > 0:
        ax.set_yscale("log")
    ax.set_xlabel(_SYMBOLS.get(x, x))
    ax.set_ylabel(_name_of(data, variable))
    ax.set_title(_title(data), fontsize="medium")
    if any(not str(line.get_label()).startswith("_") for line in ax.lines):
        ax.legend(frameon=False, fontsize="small")
    return ax


def _how_to_select(dims: Sequence[str]) -> str:
    where = ", ".join(f"{dim}=..." for dim in dims)
    at = " ".join(f"--at {dim}=..." for dim in dims)
    return f"select values first, as by result.sel({where}, method='nearest') or srfx plot {at}"


def _shown(value: object) -> str:
    """Write a coordinate: a number, or a label in words."""
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


def _with_variable(result: Any, variable: str) -> xr.Dataset:
    if isinstance(result, Solution):
        result = result.to_xarray()
    import xarray as xr

    if not isinstance(result, xr.Dataset):
        raise TypeError(f"result must be an srfx.Solution or an xarray.Dataset; got {type(result)}")
    if variable not in result.data_vars:
        held = ", ".join(map(str, result.data_vars))
        raise ValueError(f"variable must be one of {held}; got {variable!r}")
    return result


def _averaged(
    data: xr.Dataset, variable: str, *kept: str | None
) -> tuple[xr.Dataset, xr.DataArray | None]:
    """Average replicates; give the standard error too. Other axes of length one are dropped."""
    keep = {dim for name in kept if name in data.coords for dim in data[name].dims}
    values = data[[variable]]
    values = values.squeeze([d for d in values.sizes if values.sizes[d] == 1 and d not in keep])
    for c in data.coords:  # a coordinate along a dropped axis is a number now
        if c not in values.coords and data[c].size == 1 and c != "replicate":
            values = values.assign_coords({c: data[c].squeeze(drop=True)})
    if "replicate" not in values[variable].dims:
        return values, None
    count = values.sizes["replicate"]
    spread = values[variable].std("replicate", ddof=1) / np.sqrt(count)
    return values.mean("replicate", keep_attrs=True), spread


def _axis(data: xr.Dataset, role: str, name: str) -> tuple[str, FloatArray]:
    """Find the dimension that a parameter varies along, and its values."""
    varying = [str(c) for c in data.coords if data[c].ndim == 1 and data[c].dtype.kind in "iuf"]
    if name not in varying:
        how = "is not there"
        if name in data.coords:
            how = ("does not vary", "holds words", "varies along several")[min(data[name].ndim, 2)]
        raise ValueError(
            f"{role} must be a parameter that varies along one dimension of result, one of "
            f"{', '.join(varying) or 'none'}; {name!r} {how}"
        )
    values = np.asarray(data[name].values, dtype=float)
    wrong = values[np.isnan(values) | (values == -np.inf)]
    if wrong.size:
        raise ValueError(f"{role} must have a place for every value; {name!r} holds {wrong[0]}")
    return str(data[name].dims[0]), values


class _Along(NamedTuple):
    """A parameter along an axis: its values in order, and where they are drawn."""

    name: str
    values: FloatArray
    places: FloatArray


def _places(values: FloatArray) -> FloatArray:
    """Where values are drawn: where they are, but infinity a step beyond the largest number."""
    finite = values[np.isfinite(values)]
    if finite.size == values.size:
        return values
    if finite.size == 0:
        return np.ones_like(values)
    low, high, steps = finite.min(), finite.max(), max(1, finite.size - 1)
    if _log_spaced(finite):
        beyond = high * (high / low) ** (1 / steps)
    else:
        beyond = high + ((high - low) / steps or abs(high) or 1)
    return np.where(np.isinf(values), beyond, values)


def _label_infinity(axis: Axis, along: _Along) -> None:
    """Say which place is that of infinity; no number has a tick there or beyond."""
    infinite = np.isinf(along.values)
    if not infinite.any():
        return
    from matplotlib.ticker import NullLocator

    low, high = axis.get_view_interval()[0], along.places[~infinite].max(initial=-np.inf)
    ticks = [tick for tick in axis.get_majorticklocs().tolist() if low <= tick <= high]
    labels = axis.get_major_formatter().format_ticks(ticks)
    axis.set_ticks([*ticks, along.places[infinite][0]], [*labels, r"$\infty$"])
    axis.set_minor_locator(NullLocator())


def _plane(
    result: Any, x: str | None, y: str | None, variable: str, ax: Axes | None
) -> tuple[Any, xr.Dataset, _Along, _Along, FloatArray]:
    """Values of a variable, sorted along two parameters: rows are y, columns x."""
    data, _ = _averaged(_with_variable(result, variable), variable, x, y)
    dims = [str(dim) for dim in data[variable].dims]
    if x is None or y is None:
        left = [dim for dim in dims if dim not in (x, y)]
        missing = (x is None) + (y is None)
        if len(left) != missing:
            raise ValueError(
                f"x and y must be given where {len(dims)} parameters vary; here: {', '.join(dims)}"
            )
        x = left.pop() if x is None else x
        y = left.pop() if y is None else y
    x_dim, xs = _axis(data, "x", x)
    y_dim, ys = _axis(data, "y", y)
    if x_dim == y_dim:
        raise ValueError(f"x and y must vary along different dimensions; {x} and {y} do not")
    others = [dim for dim in dims if dim not in (x_dim, y_dim)]
    if others:
        raise ValueError(f"only {x} and {y} may vary: {_how_to_select(others)}")
    across, down = np.argsort(xs), np.argsort(ys)
    values = data[variable].transpose(y_dim, x_dim).values[np.ix_(down, across)].astype(float)
    if not np.isfinite(values).any():
        raise ValueError(f"result must have finite values; {variable} has none")
    ax = _new_axes() if ax is None else ax
    xs, ys = xs[across], ys[down]
    return ax, data, _Along(x, xs, _places(xs)), _Along(y, ys, _places(ys)), values


def _log_colours(values: FloatArray) -> bool:
    finite = values[np.isfinite(values)]
    return bool(finite.min() > 0) and _decades(finite) > 1.5


def _edges(values: FloatArray) -> FloatArray:
    """Edges of the cells around the values: midpoints, in the logarithm where it is the scale."""
    logarithmic = _log_spaced(values)
    points = np.log(values) if logarithmic else values
    if len(points) == 1:
        half = 0.5 * abs(points[0]) or 0.5
        edges = np.array([points[0] - half, points[0] + half])
    else:
        middle = 0.5 * (points[1:] + points[:-1])
        edges = np.concatenate([[2 * points[0] - middle[0]], middle, [2 * points[-1] - middle[-1]]])
    return np.exp(edges) if logarithmic else edges


def _finish_plane(
    ax: Axes,
    data: xr.Dataset,
    xs: _Along,
    ys: _Along,
    values: FloatArray,
    best: bool,
) -> None:
    if _log_spaced(xs.places):
        ax.set_xscale("log")
    if _log_spaced(ys.places):
        ax.set_yscale("log")
    if best:
        j, i = np.unravel_index(int(np.nanargmin(values)), values.shape)
        text = f"{values[j, i]:.4g} at ({xs.values[i]:.4g}, {ys.values[j]:.4g})"
        place = xs.places[i], ys.places[j]
        ax.plot(*place, "*", color="white", mec="black", ms=13, label=text, clip_on=False)
        # across from the star: "best" looks at every cell, half a minute for a big plane
        x, y = ax.transAxes.inverted().transform(ax.transData.transform(place))
        upper, lower = (2, 1), (3, 4)  # left and right, as matplotlib numbers them
        loc = (lower if y > 0.5 else upper)[0 if x > 0.5 else 1]
        ax.legend(fontsize="small", framealpha=0.8, numpoints=1, loc=loc)
    for axis, along in ((ax.xaxis, xs), (ax.yaxis, ys)):
        axis.set_label_text(_SYMBOLS.get(along.name, along.name))
        _label_infinity(axis, along)
    ax.set_title(_title(data), fontsize="medium")


def _name_of(data: xr.Dataset, variable: str) -> str:
    return str(data[variable].attrs.get("long_name", variable))


@public
def spectrum(
    result: xr.Dataset,
    eigenvalues: Any = None,
    ax: Axes | None = None,
    *,
    bins: int = 80,
) -> Axes:
    """Draw a spectral density, with the histogram of simulated eigenvalues if given.

    One line for each model of the result; outliers are marked on the axis. Log-spaced points are
    drawn over a logarithmic axis, as density of ``ln x``.

    Parameters
    ----------
    result : xarray.Dataset
        What `srfx.feature_spectrum` returned.
    eigenvalues : array, optional
        Eigenvalues of ``Phi^T Phi/p``, all p of them, zeros included. They are drawn normalised by
        their number, over the range of ``x``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new pyplot figure.
    bins : int
        Bins of the histogram.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    TypeError, ValueError
        ``result`` is not a Dataset, or holds no density.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> from matplotlib.figure import Figure
    >>> ds = srfx.feature_spectrum(srfx.SpikedRF(), 2.0, np.linspace(0.01, 4, 200))
    >>> ax = srfx.plot.spectrum(ds, ax=Figure().add_subplot())
    >>> ax.get_ylabel()
    'density'
    """
    import xarray as xr

    if not isinstance(result, xr.Dataset):
        raise TypeError(f"result must be the Dataset of srfx.feature_spectrum; got {type(result)}")
    if "density" not in result:
        raise ValueError("result must hold density; got a Dataset without it")
    ax = _new_axes() if ax is None else ax
    x = np.asarray(result.x)
    logarithmic = _log_spaced(x)
    scale = x if logarithmic else np.ones_like(x)
    if eigenvalues is not None:
        values = np.ravel(np.asarray(eigenvalues, dtype=np.float64))
        low, high = x.min(), x.max()
        edges = (np.geomspace if logarithmic else np.linspace)(low, high, bins + 1)
        counts, _ = np.histogram(values, edges)
        width = np.diff(np.log(edges)) if logarithmic else np.diff(edges)
        ax.stairs(counts / (values.size * width), edges, fill=True, color="0.8", label="simulated")
    others = [str(dim) for dim in result.density.dims if dim != "x"]
    kept = ["density"] + (["outliers"] if result.get("outliers", result.density).size else [])
    few = result[kept]
    lines = few.stack(_line=others, create_index=False) if others else few.expand_dims("_line")
    varying = [
        str(v)
        for v, c in result.coords.items()
        if v in _SYMBOLS and c.dims and set(c.dims) <= set(others)
    ]
    order = np.argsort(x)
    n_lines = lines.sizes["_line"]
    for i in range(n_lines):
        line = lines.isel(_line=i)
        name = ", ".join(f"{_SYMBOLS[v]} = {float(line[v]):.4g}" for v in varying) or "theory"
        colour = _colour(i, n_lines)
        ax.plot(
            x[order], (np.asarray(line.density) * scale)[order], color=colour, lw=1.8, label=name
        )
        beside = np.asarray(line.outliers) if "outliers" in line else np.zeros(0)
        beside = beside[np.isfinite(beside)]
        if beside.size:
            ax.plot(beside, np.zeros_like(beside), "v", color=colour, ms=7, clip_on=False)
    if logarithmic:
        ax.set_xscale("log")
    ax.set_ylim(bottom=0)
    ax.set_xlabel(r"eigenvalue of $\Phi^T\Phi/p$")
    ax.set_ylabel(r"density of $\ln x$" if logarithmic else "density")
    ax.set_title(_title(result), fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    return ax


@public
def boundary(result: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw where the linear floor is crossed: one parameter against another.

    The side where the network beats every kernel and linear method is shaded. Both axes are
    logarithmic where their values span more than 1.5 decades.

    Parameters
    ----------
    result : xarray.Dataset
        What `srfx.thresholds` returned for a crossing, with exactly one other parameter varying.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default a new pyplot figure.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    TypeError, ValueError
        ``result`` is not such a Dataset.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import srfx
    >>> from matplotlib.figure import Figure
    >>> model = srfx.OneStep(eta=[1.0, 2.0, 4.0])
    >>> ds = srfx.thresholds(model, alpha=2, lam=0.05, crossing={"alpha0": (0.05, 50.0)})
    >>> ax = srfx.plot.boundary(ds, ax=Figure().add_subplot())
    >>> len(ax.lines)
    1
    """
    import xarray as xr

    if not isinstance(result, xr.Dataset):
        raise TypeError(f"result must be the Dataset of srfx.thresholds; got {type(result)}")
    if "below" not in result:
        raise ValueError("result must be that of srfx.thresholds with a crossing")
    name = next(str(v) for v in result.data_vars if v in _SYMBOLS)
    varying = [str(v) for v, c in result.coords.items() if v in _SYMBOLS and c.dims]
    if result.below.ndim != 1 or len(varying) != 1:
        raise ValueError(f"result must vary along exactly one parameter; got {dict(result.sizes)}")
    ax = _new_axes() if ax is None else ax
    values = np.asarray(result[varying[0]], dtype=float)
    order = np.argsort(values)
    across = np.asarray(result[name])[order]
    along = _Along(varying[0], values[order], _places(values)[order])
    ax.plot(along.places, across, color=_COLOURS[0], lw=1.8, label="error = linear floor")
    if _log_spaced(along.places):
        ax.set_xscale("log")
    _label_infinity(ax.xaxis, along)
    if _decades(across) > 1.5:
        ax.set_yscale("log")
    senses = np.unique(np.asarray(result.below)[np.asarray(result.below) != 0])
    if senses.size == 1:
        low, high = ax.get_ylim()
        side = high if senses[0] == 1 else low
        ax.fill_between(
            along.places, across, side, color=_COLOURS[0], alpha=0.15, lw=0, label="below the floor"
        )
        ax.set_ylim(low, high)
    ax.set_xlabel(_SYMBOLS[varying[0]])
    ax.set_ylabel(_SYMBOLS[name])
    ax.set_title(_title(result), fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    return ax


@public
def optima(
    result: xr.Dataset, x: str | None = None, axes: Sequence[Axes] | None = None
) -> list[Axes]:
    r"""Draw the least test error and, below it, the parameter values that give it.

    Open circles mark values at a bound of their range; a dashed line the linear floor. Searches
    that did not converge leave gaps.

    Parameters
    ----------
    result : xarray.Dataset
        What `srfx.optimal` returned for arrays of parameters.
    x : str, optional
        The parameter along the axis, as in `curves`.
    axes : sequence of matplotlib.axes.Axes, optional
        Where to draw: one for the error and one for each parameter searched. By default new ones.

    Returns
    -------
    list of matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    TypeError, ValueError
        ``result`` is not such a Dataset, or the axes are of another number.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import srfx
    >>> from matplotlib.figure import Figure
    >>> best = srfx.optimal(srfx.OneStep(eta=2), {"lam": (1e-3, 10)}, alpha=[0.5, 1, 2, 4])
    >>> axes = srfx.plot.optima(best, axes=list(Figure().subplots(2, 1, sharex=True)))
    >>> [ax.get_ylabel() for ax in axes]
    ['test error', '$\\lambda$']
    """
    import xarray as xr

    if not isinstance(result, xr.Dataset):
        raise TypeError(f"result must be the Dataset of srfx.optimal; got {type(result)}")
    names = [str(v) for v in result.data_vars if f"{v}_bound" in result]
    if not names:
        raise ValueError("result must be that of srfx.optimal; got a Dataset without optima")
    variables = ["test_error", *names]
    if axes is None:
        first = _new_axes()
        figure = first.figure
        first.remove()
        axes = list(figure.subplots(len(variables), 1, sharex=True))
    if len(axes) != len(variables):
        raise ValueError(f"axes must be {len(variables)}, for {variables}; got {len(axes)}")
    for variable, ax in zip(variables, axes, strict=True):
        curves(result, x, variable, ax, best=False)
        if variable != "test_error":
            low, at_bound = result.attrs[f"{variable}_range"][0], result[f"{variable}_bound"] != 0
            if bool(at_bound.any()):
                marked = result.assign({variable: result[variable].where(at_bound)})
                curves(marked, x, variable, ax, best=False, ls="", marker="o", mfc="none")
            ax.set_yscale("log" if low > 0 else "linear")
            ax.set_ylabel(_SYMBOLS[variable])
            ax.set_title("")
            legend = ax.get_legend()
            if legend is not None:
                legend.remove()
        if ax is not axes[-1]:
            ax.set_xlabel("")
    level = result.attrs.get("linear_floor", 0)
    if level > 0:
        axes[0].axhline(level, color="0.4", ls="--", lw=1)
    return list(axes)


@public
def learned_plane(
    learned: Any,
    t: Any,
    target: AnyTarget | Model,
    axes: Sequence[Axes] | None = None,
    *,
    levels: Any = 12,
) -> list[Axes]:
    """Draw the function that a network learned of a target of two directions, beside the target.

    Filled contours of both at the same levels.

    Parameters
    ----------
    learned : array of shape (n, m)
        What `srfx.learned_function` returned for one network at ``t``.
    t : array of shape (n, m, 2)
        A grid of projections: the first coordinate varies along the first axis alone, the second
        along the second.
    target : str, Target or model
        The target, of two directions, or a model whose target is meant.
    axes : sequence of two matplotlib.axes.Axes, optional
        Where to draw what was learned, and the target; by default new ones.
    levels : int or sequence of float
        The levels, or how many of them: equally spaced over the values of both.

    Returns
    -------
    list of matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    TypeError, ValueError
        Shapes that do not fit, a ``t`` that is no grid, a target of another number of directions.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> from matplotlib.figure import Figure
    >>> model = srfx.OneStep("tanh", "max", eta=3)
    >>> t = np.stack(np.meshgrid(*2 * [np.linspace(-2, 2, 21)], indexing="ij"), axis=-1)
    >>> f = srfx.learned_function(model, alpha=2, lam=0.1, t=t)
    >>> axes = srfx.plot.learned_plane(f, t, model, axes=Figure().subplots(1, 2))
    >>> [ax.get_title() for ax in axes]
    ['learned', 'target max of 2']
    """
    wanted = as_target("target", getattr(target, "target", target))
    if not isinstance(wanted, Target) or wanted.directions != 2:
        raise ValueError(f"target must be one of two directions; got {label(wanted)}")
    points = np.asarray(finite("t", t))
    values = np.asarray(finite("learned", learned))
    if points.ndim != 3 or points.shape[-1] != 2 or min(points.shape[:2]) < 2:
        raise ValueError(
            f"t must be a grid of shape (n, m, 2), n and m 2 or more; got shape {points.shape}"
        )
    if values.shape != points.shape[:2]:
        raise ValueError(
            f"learned must have the shape of the grid, {points.shape[:2]}; got {values.shape}"
        )
    x, y = points[:, 0, 0], points[0, :, 1]
    if not np.array_equal(points, np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)):
        raise ValueError("t must be a grid, as np.meshgrid(x, y, indexing='ij') makes it")
    if axes is None:
        first = _new_axes()
        figure = first.figure
        first.remove()
        axes = figure.subplots(1, 2, sharex=True, sharey=True)
    axes = list(axes)
    if len(axes) != 2:
        raise ValueError(f"axes must be two, for what was learned and the target; got {len(axes)}")
    both = [values, wanted(points[..., 0], points[..., 1])]
    if isinstance(levels, (int, np.integer)):
        levels = np.linspace(np.min(both), np.max(both), int(levels) + 1)
    for ax, z, title in zip(axes, both, ("learned", f"target {label(wanted)}"), strict=True):
        bands = function_bands(ax, x, y, z, levels)
        ax.set_title(title, fontsize="medium")
    axes[1].figure.colorbar(bands, ax=axes)
    return axes


def _as_dataset(result: Any, quantity: str = "test_error") -> xr.Dataset:
    import xarray as xr

    if isinstance(result, Solution):
        result = result.to_xarray()
    if not isinstance(result, xr.Dataset):
        raise TypeError(f"result must be an srfx.Solution or an xarray.Dataset; got {type(result)}")
    missing = [name for name in (quantity, "alpha") if name not in result.variables]
    if missing:
        raise ValueError(f"result must hold {quantity} and alpha; got one without {missing}")
    return result


def _dimension_of_alpha(data: xr.Dataset) -> str:
    dims = data.alpha.dims
    if len(dims) != 1:
        how = "does not vary" if not dims else f"varies along the dimensions {dims}"
        raise ValueError(f"alpha must vary along exactly one dimension of result; here it {how}")
    return str(dims[0])


def _new_axes() -> Axes:
    require_matplotlib("srfx.plot needs matplotlib")
    import matplotlib.pyplot as plt

    _, ax = plt.subplots(layout="constrained")
    return ax


def _colour(i: int, n: int) -> Any:
    if n <= len(_COLOURS):
        return _COLOURS[i]
    from matplotlib import colormaps

    return colormaps["viridis"](0.92 * i / (n - 1))


def _decades(values: FloatArray) -> float:
    positive = values[np.isfinite(values) & (values > 0)]
    return float(np.log10(positive.max() / positive.min())) if positive.size else 0.0


def _log_spaced(alpha: FloatArray) -> bool:
    """Whether alpha spans over 1.5 decades, in steps more equal in log(alpha) than in alpha."""
    if _decades(alpha) <= 1.5 or alpha.size < 3:
        return False

    def unevenness(x: FloatArray) -> float:
        steps = np.diff(np.sort(x))
        return float(steps.std() / steps.mean())

    return unevenness(np.log(alpha)) < unevenness(alpha)


def _title(data: xr.Dataset) -> str:
    """Name the model and the parameters common to all lines."""
    attrs = data.attrs
    words = [f"{attrs['model']}: " if "model" in attrs else ""]
    if "activation" in attrs and "target" in attrs:
        words.append(f"{attrs['activation']} network, {attrs['target']} target")
    fixed = [
        f"{_SYMBOLS[str(name)]} = {float(data[name]):.4g}"
        for name in data.coords
        if name in _SYMBOLS and data[name].ndim == 0 and not _silent(str(name), float(data[name]))
    ]
    return "".join(words) + ("\n" + ", ".join(fixed) if fixed else "")


def _silent(name: str, value: float) -> bool:
    return (name == "noise" and value == 0) or (name == "d" and np.isinf(value))
