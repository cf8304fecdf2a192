"""The command ``srfx spectrum`` and the option ``srfx solve --optimal``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from srfx import _files, _tables
from srfx.analysis import feature_spectrum
from srfx.models import OneStep, SpikedRF
from srfx.optima import optimal
from srfx.results import Status

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

#: Ranges searched unless the user says otherwise.
_RANGES = {"lam": (1e-6, 1e2), "eta": (0.05, 20.0), "alpha0": (0.05, 100.0), "r": (0.05, 10.0)}
_CHECKS = ("mass_at_zero", "mass", "first_moment", "expected_first_moment")


def ranges(text: str) -> dict[str, tuple[float, float]]:
    """Read ``lam`` or ``lam=1e-4:10,eta``: parameters, each with its range or the usual one."""
    out = {}
    for part in text.split(","):
        name, _, interval = part.strip().partition("=")
        if not interval and name in _RANGES:
            out[name] = _RANGES[name]
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
            import difflib

            near = difflib.get_close_matches(name, list(_RANGES), n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            known = ", ".join(_RANGES)
            raise click.UsageError(f"--optimal must name some of {known}; got {name!r}{hint}")
    return out


def solve_optimal(
    model: SpikedRF | OneStep,
    axes: Any,
    options: dict[str, Any],
    output: Path | None,
    format_: str,
    plot_file: Path | None,
) -> None:
    """Do ``srfx solve --optimal``: the best parameters as a table, a file, a picture."""
    from srfx import cli as house

    over = ranges(options["optimal"])
    given = [name for name in over if name in axes]
    if given:
        raise click.UsageError(
            f"--{given[0]} must not be given when --optimal searches for it; got both"
        )
    for name in ("alpha", "lam"):
        if name not in axes and name not in over:
            raise click.UsageError(f"--{name} is required")
    along = None
    if plot_file is not None:
        varying = [name for name in house._AXES if name in axes and np.size(axes[name]) > 1]
        if not varying:
            raise click.UsageError(
                "--plot draws optima against a parameter: give one a list or a grid"
            )
        along = "alpha" if "alpha" in varying else varying[0]
        house._check_plot(plot_file)
    best = optimal(
        model,
        over,
        alpha=axes.get("alpha"),
        lam=axes.get("lam"),
        d=axes.get("d"),
        bulk=options["bulk"],
        n_threads=options["n_threads"],
    )
    failed = int((best.status != 0).sum())
    if failed and options["errors"] == "raise":
        raise click.ClickException(
            f"{failed} of {best.status.size} searches did not converge; see --errors record"
        )
    write(best, output, format_, ["n_minima", "n_failed", "status"])
    if plot_file is not None:
        from srfx.plotting import optima

        figure = _new_figure(2.2 + 2 * len(over))
        optima(best, along, axes=list(figure.subplots(1 + len(over), sharex=True)))
        house.save(figure, plot_file)
    if failed:
        house._say(f"warning: {failed} of {best.status.size} searches did not converge (status 1)")


def _new_figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, height), layout="constrained")


def write(ds: xr.Dataset, output: Path | None, format_: str, last: list[str]) -> None:
    """Write a Dataset as a table, CSV or JSON, or to a NetCDF file."""
    frame = None if format_ == "netcdf" else _frame(ds, last)

    def text(file: IO[str]) -> None:
        assert frame is not None
        columns = {str(name): frame[name].to_numpy() for name in frame}
        if format_ == "csv":
            _tables.write_csv(columns, file)
        elif format_ == "json":
            _tables.write_records(ds.attrs, columns, file)
        else:
            fixed = [
                f"{c} = {ds[c].item():.10g}"
                for c in ds.coords
                if not ds[c].dims and not (c == "d" and np.isinf(ds[c].item()))
            ]
            about = f"# {ds.attrs['model']}: {ds.attrs['activation']} network, "
            file.write(about + f"{ds.attrs['target']} target\n")
            file.write(f"# {', '.join(fixed)}\n" if fixed else "")
            shown = frame.drop(columns=[str(c) for c in ds.coords if not ds[c].dims])
            file.write(shown.to_string(index=False, float_format=lambda x: f"{x:.8g}") + "\n")

    _to(output, ds, format_, text)


def _to(output: Path | None, ds: xr.Dataset, format_: str, text: Callable[[IO[str]], None]) -> None:
    """Write to a file, or text to the screen."""
    from srfx import cli as house

    if output is None:
        house.to_screen(text)
        return
    if format_ == "netcdf":
        _files.write(output, ds.to_netcdf)
    else:
        _files.write_text(output, text)
    house._say(f"wrote {_files.shown(output)}")


def _frame(ds: xr.Dataset, last: list[str]) -> pd.DataFrame:
    """Columns: the parameters, what was computed, and ``last``; the status by name."""
    import pandas as pd

    columns = [*map(str, ds.coords), *(str(v) for v in ds.data_vars if v not in last), *last]
    if ds.sizes:
        frame = ds.to_dataframe().reset_index()[columns]
    else:
        frame = pd.DataFrame({name: [ds[name].item()] for name in columns})
    return frame.assign(status=_names(frame["status"]))


def _names(status: Any) -> list[str]:
    return [Status(int(s)).name.lower() for s in np.ravel(status).tolist()]


def _write_spectra(ds: xr.Dataset, file: IO[str]) -> None:
    """Write spectra in JSON: for each model its parameters, its checks, and x with the density."""
    outer = [d for d in ds.status.dims if d != "x"]
    spectra = []
    for place in np.ndindex(*(ds.sizes[d] for d in outer)):
        one = ds.isel(dict(zip(outer, place, strict=True)))
        item = {str(c): one[c].item() for c in one.coords if not one[c].dims}
        item |= {name: one[name].item() for name in (*_CHECKS, "outlier_over_d")}
        for name in ("edges", "outliers"):
            item[name] = one[name].values[np.isfinite(one[name].values)].tolist()
        item |= {name: one[name].values.tolist() for name in ("x", "density", "density_error")}
        spectra.append(item | {"status": _names(one.status)})
    _tables.write_json({**ds.attrs, "spectra": spectra}, file)


def register(group: click.Group) -> None:
    """Add ``spectrum`` to the command line.

    Parameters
    ----------
    group : click.Group
        The group of `srfx.cli`.
    """
    from srfx import cli as house

    grid = house._grid

    @group.command("spectrum", epilog=house._GRIDS)
    @click.option(
        "--activation", default="tanh", show_default=True, help="Activation of the network."
    )
    @click.option("--target", default="sin", show_default=True, help="Activation of the target.")
    @grid("--eta", help="OneStep: learning rate of the step.  [default: 1]")
    @grid("--alpha0", help="OneStep: samples of the step over d.  [default: 1.5]")
    @grid("--r", help="SpikedRF: strength of the spike.  [default: 0.9]")
    @grid("--c", help="SpikedRF: variance of the bulk.  [default: 1]")
    @grid("--gamma", help="SpikedRF: alignment; it does not matter here.  [default: 1]")
    @grid("--alpha", help="Samples over d.  [required]")
    @grid("--beta", help="Width over d.  [default: 1]")
    @grid("--noise", help="Variance of the label noise.  [default: 0]")
    @grid("--x", help="Where to compute the density.  [default: 200 points over the support]")
    @house._bulk_and_readout
    @click.option("--n-threads", type=house.INTEGER, help="Threads.  [default: all processors]")
    @click.option(
        "-o",
        "--output",
        type=house.LOCAL,
        help="Write everything to FILE (.csv, .json, .nc).",
        metavar="FILE",
    )
    @click.option(
        "--format",
        "format_",
        type=click.Choice(["table", "csv", "json", "netcdf"]),
        help="Format of the output.  [default: a table, or by the suffix of FILE]",
    )
    @click.option("--plot", "plot_file", type=house.LOCAL, help="Draw to FILE.", metavar="FILE")
    def spectrum_command(
        output: Path | None, format_: str | None, plot_file: Path | None, x: Any, **options: Any
    ) -> None:
        """Compute the limiting spectral density of Phi^T Phi/p, Phi the matrix of features."""
        format_ = house._check_output(output, format_)
        if plot_file is not None:
            house._check_plot(plot_file)
        if options["alpha"] is None:
            raise click.UsageError("--alpha is required")
        axes = house._Axes({"lam": None, "d": None} | options)
        model = house._model(axes, options)
        settings: dict[str, Any] = {"n_threads": options["n_threads"], "bulk": options["bulk"]}
        if x is None:
            edges = feature_spectrum(model, axes["alpha"], 1.0, **settings).edges.values
            low, high = np.nanmin(edges), np.nanmax(edges)
            low = max(low, 1e-6 * high)  # denser towards the ends, where the density may be steep
            phase = np.cos(np.linspace(0, np.pi, 202)[1:-1])
            x = np.sqrt(low * high) * (low / high) ** (0.5 * phase)
        ds = feature_spectrum(model, axes["alpha"], x, **settings)
        if format_ == "json":
            _to(output, ds, format_, lambda file: _write_spectra(ds, file))
        elif format_ == "netcdf":
            _to(output, ds, format_, lambda _: None)
        else:
            write(ds[["density", "density_error", "status"]], output, format_, ["status"])
        for check in _CHECKS:
            values = ", ".join(f"{v:.8g}" for v in np.ravel(ds[check].values))
            house._say(f"{check.replace('_', ' ')}: {values}")
        if plot_file is not None:
            from srfx.plotting import spectrum

            figure = _new_figure(4.4)
            spectrum(ds, ax=figure.add_subplot())
            house.save(figure, plot_file)
        failed = int((ds.status != 0).sum())
        if failed:
            house._say(f"warning: {failed} points did not converge (nan)")
