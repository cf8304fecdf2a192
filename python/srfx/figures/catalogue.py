"""The list of figures, and what a user does with them by name: compute and draw."""

from __future__ import annotations

import inspect
import json
import os
import textwrap
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from srfx import _files, _identity
from srfx import _validation as check
from srfx._style import require_matplotlib, style
from srfx.config import provenance
from srfx.figures.jobs import Run
from srfx.figures.layout import Figure
from srfx.figures.parameters import checked
from srfx.figures.recipe import Recipe
from srfx.targets import Target

#: The figures by name, in the order in which `srfx.figures` imports their files.
RECIPES: dict[str, Recipe] = {}


def figure(
    title: str, picture: Callable[[xr.Dataset], Figure], **options: Any
) -> Callable[[Callable[..., xr.Dataset]], Callable[..., Figure]]:
    """Make a function that computes data into one that computes and draws: a figure of the list.

    Its name is that of the function (of ``figure1`` it is 1), its documentation that of the
    function with the sections that all figures share; ``options`` are those of `Recipe`.
    """

    def decorate(compute_data: Callable[..., xr.Dataset]) -> Callable[..., Figure]:
        name = compute_data.__name__.removeprefix("figure")
        recipe = RECIPES[name] = Recipe(name, title, compute_data, picture, **options)

        def function(*, quick: bool = False, **options: Any) -> Figure:
            return draw(compute(recipe.name, quick=quick, **options))

        for attribute in ("__name__", "__qualname__", "__module__"):
            setattr(function, attribute, getattr(compute_data, attribute))
        function.__doc__ = _documentation(recipe)
        return check.public(function)

    return decorate


def known(name: object) -> str:
    """Name of a figure; the paper's may be given as numbers."""
    text = str(name) if isinstance(name, int) and not isinstance(name, bool) else name
    if isinstance(text, str) and text in RECIPES:
        return text
    raise ValueError(f"name must be one of {', '.join(RECIPES)} or all; got {name!r}")


@check.public
def compute(
    name: str | int,
    *,
    quick: bool = False,
    store: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] | None = None,
    n_threads: int | None = None,
    **parameters: Any,
) -> xr.Dataset:
    """Compute the data of a figure: curves of the theory, simulations with all their replicates.

    Parameters
    ----------
    name : str or int
        One of `NAMES`: "1" to "5", or 1 to 5, for those of CPD24.
    quick : bool
        Simulate at d = 500, in seconds, instead of the size of the paper.
    store : path, optional
        Folder where finished simulations are kept; those it holds are not run again.
    progress : bool, optional
        A progress bar; None: only on a terminal.
    say : callable, optional
        Given one line before the simulations: how many there are, and how long they will take.
    n_threads : int, optional
        Threads, >= 1. None: all processors this process may use. The numbers do not depend on it.
    **parameters
        Parameters of the figure, in place of its defaults; see `figure1` to `figure5`, `readout`,
        `spectrum`, `network`, `phase`, `steps`, `directions` and `classification`. One number
        stands for a sequence of one.

    Returns
    -------
    xarray.Dataset
        Of figures 1, 2, 4, 5, readout, network and steps ``theory``, its first dimension ``kind``
        of theory; ``simulated``, its dimension ``replicate``; and ``theory_at_simulated`` at the
        same points, of every kind (of figure 1 that of the kind which claims them, named in the
        attribute ``claims``). Beside them, of figure 1 ``t_simulated`` (mean projection of each
        bin) and ``target``; of the others ``floor`` and ``lam`` of each panel; of readout
        ``lower``, the bounds.

        Of directions and classification the same three of one kind of theory, of the former with
        ``t_simulated`` and ``target`` too, of the latter with ``lam``, the best penalties.

        Of figure 3 ``upper``, ``lower`` and ``target`` over ``t``. Of spectrum ``theory`` and
        ``simulated``, densities of log x, ``eigenvalues``, ``mass_at_zero`` and ``outlier``. Of
        phase ``test_error``, ``lam`` and ``gain`` over (eta, alpha0), ``boundary`` and
        ``boundary_isotropic`` over eta.

        Each has ``long_name`` and ``units``; ``simulated.attrs["bars"]`` says what error bars of it
        are drawn. The attribute ``parameters`` holds every parameter as JSON.

    Raises
    ------
    ValueError, TypeError
        An unknown figure or parameter, or a parameter out of range or of the wrong type (fewer than
        two ``replicates`` where there are error bars): before any work.
    OSError
        The store cannot be written, before any work.

    Examples
    --------
    >>> import srfx
    >>> ds = srfx.figures.compute("3", r=1.2)
    >>> sorted(ds.data_vars)
    ['lower', 'target', 'upper']
    """
    name = known(name)
    recipe = RECIPES[name]
    values = checked(RECIPES, name, quick, parameters)
    if n_threads is not None:
        check.thread_count(n_threads)
    folder = None if store is None else _files.local("store", store)
    start = time.perf_counter()
    ds = _described(recipe, recipe.compute(Run(folder, progress, say, n_threads), **values))
    ds.attrs |= {
        "figure": name,
        "title": recipe.title,
        "quick": int(quick),
        "parameters": json.dumps(values, default=_identity.recorded),
        "seconds": time.perf_counter() - start,
        "units": "dimensionless",
        **provenance(),
    }
    return ds


@check.public
def draw(ds: xr.Dataset) -> Figure:
    """Draw a figure from its data.

    Parameters
    ----------
    ds : xarray.Dataset
        What `compute` returned, or the NetCDF file that `make` wrote beside a figure.

    Returns
    -------
    matplotlib.figure.Figure
        The figure, in srfx's style.

    Raises
    ------
    ValueError
        Not the data of a figure.
    ImportError
        matplotlib is not installed.

    Examples
    --------
    >>> import srfx
    >>> figure = srfx.figures.draw(srfx.figures.compute("3"))
    >>> len(figure.axes[0].lines)
    3
    """
    name = getattr(ds, "attrs", {}).get("figure")
    if name not in RECIPES:
        raise ValueError(f"ds must be what srfx.figures.compute returned; got figure {name!r}")
    require_matplotlib("figures need matplotlib")
    with style():
        figure = RECIPES[name].draw(ds)
        figure.draw_without_rendering()  # fixes the layout while the style holds
    return figure


def _documentation(recipe: Recipe) -> str:
    """Complete the documentation of a figure by the sections that all share, before its example."""
    text, heading, example = (inspect.getdoc(recipe.compute) or "").partition("Examples\n")
    known = recipe.parameters
    changes = "Changes nothing: there is nothing to simulate."
    if recipe.quick:
        new, old = f"d = {recipe.quick['d']}", f"d = {known['d']}"
        if recipe.quick["replicates"] != known["replicates"]:
            new += f" and {recipe.quick['replicates']} networks"
            old += f" and {known['replicates']}"
        changes = f"{new} instead of {old}."
    listed = ", ".join(f"``{name}={_written(x)}``".replace(" ", "\0") for name, x in known.items())
    options = textwrap.wrap(f"{listed}; and the options of `compute`.", 90, break_on_hyphens=False)
    lines = "\n    ".join(options).replace("\0", " ")
    return f"{text}{_SECTIONS.format(changes=changes, options=lines)}{heading}{example}"


_SECTIONS = """\
Parameters
----------
quick : bool
    {changes}
**options
    {options}

Returns
-------
matplotlib.figure.Figure
    The figure.

Raises
------
ValueError, TypeError, ImportError
    As `compute` and `draw`.

"""


def _written(value: Any) -> str:
    """Write a default; of many numbers the first and the last."""
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Target):
        return repr(value.label)
    if not isinstance(value, tuple):
        return f"{value:g}"
    parts = [_written(x) for x in value]
    if len(parts) > 5:
        parts[1:-1] = ["..."]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


#: Dimensions whose coordinates count from zero.
_COUNTERS = ("replicate", "index")

ERROR = "test error, noise-free"

#: What the variables and coordinates of several figures are.
MEANINGS: dict[str, str] = {
    "theory": f"{ERROR}, by the theory",
    "theory_at_simulated": f"{ERROR}, by the theory at the points of the simulation",
    "simulated": f"{ERROR}, of each simulated network",
    "floor": "linear floor of the test error",
    "lam": "ridge penalty",
    "kind": "theory: limit or finite_d, isotropic or one_step bulk",
    "panel": "panel of the figure",
    "replicate": "simulated network",
    "alpha": "sample complexity n/d",
    "alpha_simulated": "sample complexity n/d of the simulation",
    "alpha0": "sample complexity n0/d of the gradient step",
    "alpha0_simulated": "sample complexity n0/d of the gradient step in the simulation",
    "beta": "width ratio p/d",
    "beta_simulated": "width ratio p/d of the simulation",
    "eta": "normalised learning rate of the gradient step",
    "r": "strength of the spike",
    "t": "projection theta.x/sqrt(d)",
    "target": "target function of the projection",
    "bin": "middle of the bin",
}


def _described(recipe: Recipe, ds: xr.Dataset) -> xr.Dataset:
    """Give every variable and coordinate its meaning and unit, and the bars theirs."""
    ds = ds.assign_coords({dim: np.arange(n) for dim, n in ds.sizes.items() if dim in _COUNTERS})
    meanings = MEANINGS | dict(recipe.meanings)
    for key, variable in ds.variables.items():
        ds[key].attrs = {"long_name": meanings[str(key)], "units": "1"} | variable.attrs
    if "simulated" in ds:
        ds.simulated.attrs["bars"] = recipe.bars
    return ds
