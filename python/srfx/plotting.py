"""Pictures of results: functions that take what srfx returns and return matplotlib Axes.

Available as ``srfx.plot``. matplotlib is loaded on first use, and pyplot only when no Axes is
given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from srfx.models import FloatArray
from srfx.results import Solution

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["learning_curve"]

#: Okabe and Ito's colours, told apart in every form of colour blindness (without its yellow).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

_SYMBOLS = {
    "alpha": r"$\alpha = n/d$",
    "alpha0": r"$\alpha_0$",
    "beta": r"$\beta$",
    "lam": r"$\lambda$",
    "eta": r"$\tilde\eta$",
    "gamma": r"$\gamma$",
    "noise": r"$\Delta$",
    "r": "$r$",
    "c": "$c$",
    "d": "$d$",
}
_MOST_LABELS = 8


def learning_curve(
    result: Solution | xr.Dataset,
    ax: Axes | None = None,
    *,
    train: bool = True,
    floor: bool = True,
) -> Axes:
    """Draw the test error, and the training error, against alpha.

    One colour for each combination of the other varying parameters, named in the legend: solid for
    the test error, dotted for the training error. A dashed line marks the linear floor, the least
    error that kernel and linear methods reach. Axes are logarithmic where the values span more than
    1.5 decades (for alpha: if it is also spaced that way). Points that did not converge leave gaps.

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
        Whether to draw the linear floor.

    Returns
    -------
    matplotlib.axes.Axes
        The Axes drawn on.

    Raises
    ------
    TypeError
        ``result`` is neither a Solution nor a Dataset.
    ValueError
        alpha does not vary, varies along several dimensions, or the Dataset lacks test_error.
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
    data = _as_dataset(result)
    along = _dimension_of_alpha(data)
    if ax is None:
        ax = _new_axes()

    others = [str(dim) for dim in data.test_error.dims if dim != along]
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
    with_train = train and "train_error" in data
    test_values = []
    for i in range(n_lines):
        line = stacked.isel(_line=i)
        name = ", ".join(f"{_SYMBOLS[v]} = {float(line[v]):.4g}" for v in varying)
        style = {"color": _colour(i, n_lines), "lw": 1.8}
        test = np.asarray(line.test_error)[order]
        test_values.append(test)
        text = "test error" if n_lines == 1 else name if i in labelled and name else "_"
        ax.plot(alpha[order], test, label=text, **style)
        if with_train:
            values = np.asarray(line.train_error)[order]
            style["lw"] = 1.2
            text = "training error" if n_lines == 1 else "_"
            ax.plot(alpha[order], values, ls=":", label=text, **style)
    if n_lines > 1:
        ax.plot([], [], color="0.4", lw=1.8, label="test error")
        if with_train:
            ax.plot([], [], color="0.4", lw=1.2, ls=":", label="training error")
    level = data.attrs.get("linear_floor")
    if floor and level is not None and level > 0:
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
    ax.set_ylabel("error")
    ax.set_title(_title(data), fontsize="medium")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _as_dataset(result: Any) -> xr.Dataset:
    if isinstance(result, Solution):
        return result.to_xarray()
    import xarray as xr

    if not isinstance(result, xr.Dataset):
        raise TypeError(f"result must be an srfx.Solution or an xarray.Dataset; got {type(result)}")
    missing = [name for name in ("test_error", "alpha") if name not in result.variables]
    if missing:
        raise ValueError(f"result must hold test_error and alpha; got a Dataset without {missing}")
    return result


def _dimension_of_alpha(data: xr.Dataset) -> str:
    dims = data.alpha.dims
    if len(dims) != 1:
        how = "does not vary" if not dims else f"varies along the dimensions {dims}"
        raise ValueError(f"alpha must vary along exactly one dimension of result; here it {how}")
    return str(dims[0])


def _new_axes() -> Axes:
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("srfx.plot needs matplotlib: pip install 'srfx[plot]'") from error
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
