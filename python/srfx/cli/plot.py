"""``srfx plot``: the picture of a stored scan."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray

from srfx import scans
from srfx.cli.options import Local, options
from srfx.cli.output import check_plot, new_figure, save

if TYPE_CHECKING:
    import xarray as xr


@click.command("plot")
@click.argument("store", type=Local(exists=True))
@click.option("--x", help="Parameter along x.  [default: the last that varies]")
@click.option("--y", help="Parameter along y: a plane is drawn. Without: curves.")
@click.option("--variable", default="test_error", show_default=True, help="What is drawn.")
@click.option(
    "--kind",
    type=click.Choice(["heatmap", "contours", "curves"]),
    help="[default: heatmap with --y, else curves]",
)
@click.option(
    "--at",
    "selections",
    multiple=True,
    metavar="NAME=VALUE",
    help="Keep the nearest value of another parameter, or a label; may be repeated.",
)
@options("output", output="The picture.  [default: STORE.png]")
def command(
    store: Path,
    x: str | None,
    y: str | None,
    variable: str,
    kind: str | None,
    selections: tuple[str, ...],
    output: Path | None,
) -> None:
    """Draw a stored scan (or a NetCDF file): a heat map, contour lines or curves.

    \b
    srfx plot scan.zarr --x alpha --y lam --at eta=3
    """  # noqa: D301  # click's mark, not an escape
    if output is None:
        ending = store.suffix if store.suffix in (".zarr", ".nc") else ""
        output = store.with_name(store.name.removesuffix(ending) + ".png")
    check_plot(output)
    from srfx import plotting

    ds = _select(_open(store), selections)
    kind = kind or ("curves" if y is None else "heatmap")
    if kind == "curves" and y is not None:
        raise click.UsageError("--kind curves takes no --y")
    figure = new_figure(4.8)
    ax = figure.add_subplot()
    if kind == "curves":
        plotting.curves(ds, x, variable, ax=ax)
    else:
        draw = plotting.heatmap if kind == "heatmap" else plotting.contours
        draw(ds, x, y, variable, ax=ax)
    save(figure, output)


def _open(store: Path) -> xr.Dataset:
    if store.is_dir() or store.suffix.lower() == ".nc":
        return scans.open_scan(store)
    raise click.UsageError(
        f"STORE must be a store of `srfx scan` or a .nc file; got {str(store)!r}"
    )


def _select(ds: xr.Dataset, selections: tuple[str, ...]) -> xr.Dataset:
    for selection in selections:
        name, equals, text = selection.partition("=")
        varying = [str(c) for c in ds.coords if ds[c].ndim == 1]
        if not equals or name not in varying:
            raise click.UsageError(
                f"--at must be NAME=VALUE with a NAME of {', '.join(varying)}; got {selection!r}"
            )
        try:
            place = _place(ds[name].values, text)
        except ValueError as error:
            raise click.UsageError(f"--at {selection!r}: {error}") from None
        ds = ds.isel({str(ds[name].dims[0]): place})
    return ds


def _place(values: NDArray[Any], text: str) -> int:
    """Find the nearest number, or the very label as it is shown."""
    shown = list(map(str, values))
    if text in shown:  # integers too that are no floating point numbers, and what is not a number
        return shown.index(text)
    if values.dtype.kind in "iuf":
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
        same = values == value  # infinities too
        away = np.where(same, 0.0, np.abs(np.where(same, 0.0, values) - value))
        if np.isfinite(away).any():
            return int(np.nanargmin(away))
    else:
        labels = np.datetime_as_string(values) if values.dtype.kind == "M" else values.astype(str)
        found = labels == text
        if values.dtype.kind == "M":  # 2024-05-01 is short for its midnight
            with contextlib.suppress(ValueError):
                found = values == np.datetime64(text)
        if found.any():
            return int(found.argmax())
    some = ", ".join(shown[:4]) + (", ..." if len(values) > 4 else "")
    raise ValueError(f"no value is near {text!r}; there are {some}")
