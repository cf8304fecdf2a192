"""The command ``srfx spectrum`` and the option ``srfx solve --optimal``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from srfx.analysis import feature_spectrum
from srfx.models import OneStep, SpikedRF
from srfx.optima import optimal

if TYPE_CHECKING:
    import xarray as xr

#: Ranges searched unless the user says otherwise.
_RANGES = {"lam": (1e-6, 1e2), "eta": (0.05, 20.0), "alpha0": (0.05, 100.0), "r": (0.05, 10.0)}
_SUFFIXES = (".nc", ".csv")


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
    format_: str | None,
) -> None:
    """Do ``srfx solve --optimal``: the best parameters as a table or a file."""
    over = ranges(options["optimal"])
    given = [name for name in over if name in axes]
    if given:
        raise click.UsageError(
            f"--{given[0]} must not be given when --optimal searches for it; got both"
        )
    for name in ("alpha", "lam"):
        if name not in axes and name not in over:
            raise click.UsageError(f"--{name} is required")
    best = optimal(
        model,
        over,
        alpha=axes.get("alpha"),
        lam=axes.get("lam"),
        d=axes.get("d"),
        bulk=options["bulk"],
        n_threads=options["n_threads"],
    )
    if options["errors"] == "raise" and (best.status != 0).any():
        raise click.ClickException(
            f"{int((best.status != 0).sum())} optima did not converge; see --errors record"
        )
    write(best, output, format_, ["n_minima", "status"])


def write(ds: xr.Dataset, output: Path | None, format_: str | None, last: list[str]) -> None:
    """Write a Dataset as a table or CSV, or to a NetCDF file."""
    from srfx import cli as house

    if format_ == "json":
        raise click.UsageError("--format must be table, csv or netcdf here; got 'json'")
    varying = [str(c) for c in ds.coords if ds[c].dims]
    columns = [*varying, *(str(v) for v in ds.data_vars if v not in last), *last]
    if ds.sizes:
        frame = ds.to_dataframe().reset_index()[columns]
    else:
        import pandas as pd

        frame = pd.DataFrame({name: [ds[name].item()] for name in columns})

    def text(file: IO[str]) -> None:
        if format_ == "csv":
            frame.to_csv(file, index=False)
        else:
            fixed = [f"{c} = {ds[c].item():.10g}" for c in ds.coords if not ds[c].dims]
            about = f"# {ds.attrs['model']}: {ds.attrs['activation']} network, "
            file.write(about + f"{ds.attrs['target']} target\n")
            file.write(f"# {', '.join(fixed)}\n" if fixed else "")
            file.write(frame.to_string(index=False, float_format=lambda x: f"{x:.8g}") + "\n")

    if output is None:
        text(sys.stdout)
        return
    with house._replacing(output) as part:
        if format_ == "netcdf":
            ds.to_netcdf(part)
        else:
            with part.open("w", encoding="utf-8", newline="") as file:
                text(file)
    house._say(f"wrote {output}")


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
    @click.option("--n-threads", type=int, help="Threads.  [default: all processors]")
    @click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="Write to FILE (.csv, .nc).",
        metavar="FILE",
    )
    @click.option(
        "--plot", "plot_file", type=click.Path(path_type=Path), help="Draw to FILE.", metavar="FILE"
    )
    def spectrum_command(
        output: Path | None, plot_file: Path | None, x: Any, **options: Any
    ) -> None:
        """Compute the limiting spectral density of Phi^T Phi/p, Phi the matrix of features."""
        format_ = None
        if output is not None:
            if output.suffix.lower() not in _SUFFIXES:
                raise click.UsageError(
                    f"-o FILE must end in {', '.join(_SUFFIXES)}; got {str(output)!r}"
                )
            format_ = "netcdf" if output.suffix.lower() == ".nc" else "csv"
            house._check_writable("-o", output)
        if plot_file is not None:
            house._check_plot(plot_file)
        if options["alpha"] is None:
            raise click.UsageError("--alpha is required")
        axes = house._Axes({"lam": None, "d": None} | options)
        model = house._model(axes, options | {"readout": None, "weights": None})
        threads = options["n_threads"]
        if x is None:
            edges = feature_spectrum(model, axes["alpha"], 1.0, n_threads=threads).edges.values
            low, high = np.nanmin(edges), np.nanmax(edges)
            low = max(low, 1e-6 * high)  # denser towards the ends, where the density may be steep
            phase = np.cos(np.linspace(0, np.pi, 202)[1:-1])
            x = np.sqrt(low * high) * (low / high) ** (0.5 * phase)
        ds = feature_spectrum(model, axes["alpha"], x, n_threads=threads)
        checks = ["mass_at_zero", "mass", "first_moment", "expected_first_moment"]
        if output is not None and format_ == "netcdf":
            write(ds, output, format_, [])
        else:
            write(ds[["density", "status"]], output, format_, ["status"])
        for check in checks:
            values = ", ".join(f"{v:.8g}" for v in np.ravel(ds[check].values))
            house._say(f"{check.replace('_', ' ')}: {values}")
        if plot_file is not None:
            from matplotlib.figure import Figure

            from srfx.plotting import spectrum

            figure = Figure(figsize=(6.4, 4.4), layout="constrained")
            spectrum(ds, ax=figure.add_subplot())
            with house._replacing(plot_file) as part:
                figure.savefig(part, dpi=150)
            house._say(f"drew {plot_file}")
        failed = int((ds.status != 0).sum())
        if failed:
            house._say(f"warning: {failed} points did not converge (nan)")
