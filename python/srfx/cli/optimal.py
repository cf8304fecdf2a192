"""``srfx solve --optimal``: the best parameters as a table, a file, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from srfx._validation import nearest
from srfx.cli.options import flag_of, require
from srfx.cli.output import (
    check_plot,
    heading,
    new_figure,
    save,
    say_failures,
    setting_in_words,
    status_name,
    write,
    write_rows,
)
from srfx.models import Model
from srfx.optima import optimal

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: Ranges searched unless the user says otherwise.
_RANGES = {"lam": (1e-6, 1e2), "eta": (0.05, 20.0), "alpha0": (0.05, 100.0), "r": (0.05, 10.0)}


def ranges(text: str) -> dict[str, tuple[float, float]]:
    """Read ``lam`` or ``lam=1e-4:10,eta``: parameters, each with its range or the usual one."""
    out = {}
    for part in text.split(","):
        name, _, interval = part.strip().partition("=")
        if not interval and (usual := flag_of(name).removeprefix("--")) in _RANGES:
            out[name] = _RANGES[usual]
            continue
        ends = interval.split(":")
        try:
            out[name] = (float(ends[0]), float(ends[1])) if interval else (0.0, 0.0)
            if len(ends) > 2:
                raise ValueError
        except (ValueError, IndexError):
            raise click.UsageError(
                f"--optimal must list parameters as in lam or lam=1e-4:10,eta=0.1:5; got {part!r}"
            ) from None
        if not interval:
            known = ", ".join(_RANGES)
            raise click.UsageError(
                f"--optimal must name some of {known}; got {name!r}{nearest(name, list(_RANGES))}"
            )
    return out


def solve_optimal(
    model: Model,
    axes: Any,
    options: dict[str, Any],
    output: Path | None,
    format_: str,
    plot_file: Path | None,
) -> None:
    """Do ``srfx solve --optimal``: the best parameters as a table, a file, a picture."""
    over = ranges(options["optimal"])
    given = [name for name in over if name in axes]
    if given:
        raise click.UsageError(
            f"{flag_of(given[0])} must not be given when --optimal searches for it; got both"
        )
    require(axes, *(name for name in ("alpha", "lam") if name not in over))
    along = None
    if plot_file is not None:
        varying = [name for name, values in axes.items() if np.size(values) > 1]
        if not varying:
            raise click.UsageError(
                "--plot draws optima against a parameter: give one a list or a grid"
            )
        along = "alpha" if "alpha" in varying else varying[0]
        check_plot(plot_file)
    best = optimal(
        model,
        over,
        alpha=axes.get("alpha"),
        lam=axes.get("lam"),
        d=axes.get("d"),
        bulk=options["bulk"],
        loss=options["loss"],
        of="test_error" if options["labels"] == "real" else "classification_error",
        n_threads=options["n_threads"],
    )
    failed = int((best.status != 0).sum())
    if failed and options["errors"] == "raise":
        raise click.ClickException(
            f"{failed} of {best.status.size} searches did not converge; see --errors record"
        )
    write_dataset(best, model, output, format_, ["n_minima", "n_failed", "status"])
    if plot_file is not None:
        from srfx.plotting import optima

        figure = new_figure(2.2 + 2 * len(over))
        optima(best, along, axes=list(figure.subplots(1 + len(over), sharex=True)))
        save(figure, plot_file)
    say_failures(failed, f"of {best.status.size} searches did not converge (status 1)")


def write_dataset(
    ds: xr.Dataset, model: Model, output: Path | None, format_: str, last: list[str]
) -> None:
    """Write a Dataset as a table, CSV or JSON, or to a NetCDF file."""
    frame = None if format_ == "netcdf" else _frame(ds, last)

    def text(file: IO[str]) -> None:
        assert frame is not None
        if format_ != "table":
            write_rows(frame, ds.attrs, format_, file)
        else:
            fixed = [
                f"{c} = {ds[c].item():.10g}"
                for c in ds.coords
                if not ds[c].dims and not (c == "d" and np.isinf(ds[c].item()))
            ]
            fixed += setting_in_words(model, ds.attrs)
            file.write(f"{heading(ds.attrs)}\n")
            file.write(f"# {', '.join(fixed)}\n" if fixed else "")
            shown = frame.drop(columns=[str(c) for c in ds.coords if not ds[c].dims])
            shown = shown.assign(status=[status_name(s) for s in frame["status"]])
            file.write(shown.to_string(index=False, float_format=lambda x: f"{x:.8g}") + "\n")

    write(output, text, ds.to_netcdf if format_ == "netcdf" else None)


def _frame(ds: xr.Dataset, last: list[str]) -> pd.DataFrame:
    """Columns: the parameters, what was computed, and ``last``."""
    import pandas as pd

    columns = [*map(str, ds.coords), *(str(v) for v in ds.data_vars if v not in last), *last]
    if ds.sizes:
        return ds.to_dataframe().reset_index()[columns]
    return pd.DataFrame({name: [ds[name].item()] for name in columns})
