"""``srfx spectrum``: the limiting spectral density of the features."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from srfx import _tables
from srfx.cli.grids import GRIDS
from srfx.cli.optimal import write_dataset
from srfx.cli.options import NETWORK, model_of, options, require
from srfx.cli.output import (
    check_output,
    check_plot,
    new_figure,
    save,
    say,
    say_failures,
    status_name,
    write,
)
from srfx.spectrum import feature_spectrum

if TYPE_CHECKING:
    import xarray as xr

_CHECKS = ("mass_at_zero", "mass", "first_moment", "expected_first_moment")


@click.command("spectrum", epilog=GRIDS)
@options(
    NETWORK,
    gamma="SpikedRF: alignment; it does not matter here.  [default: 1]",
    alpha="Samples over d.  [required]",
)
@options("beta noise labels slope x bulk readout weights n_threads output format plot")
def command(
    output: Path | None, format_: str | None, plot_file: Path | None, x: Any, **options: Any
) -> None:
    """Compute the limiting spectral density of Phi^T Phi/p, Phi the matrix of features."""
    format_ = check_output(output, format_)
    if plot_file is not None:
        check_plot(plot_file)
    require(options, "alpha")
    model, axes = model_of(options)
    settings: dict[str, Any] = {"n_threads": options["n_threads"], "bulk": options["bulk"]}
    if x is None:
        edges = feature_spectrum(model, axes["alpha"], 1.0, **settings).edges.values
        low, high = np.nanmin(edges), np.nanmax(edges)
        low = max(low, 1e-6 * high)  # denser towards the ends, where the density may be steep
        phase = np.cos(np.linspace(0, np.pi, 202)[1:-1])
        x = np.sqrt(low * high) * (low / high) ** (0.5 * phase)
    ds = feature_spectrum(model, axes["alpha"], x, **settings)
    if format_ == "json":
        write(output, lambda file: _write_spectra(ds, file))
    elif format_ == "netcdf":
        write(output, lambda _: None, ds.to_netcdf)
    else:
        write_dataset(
            ds[["density", "density_error", "status"]], model, output, format_, ["status"]
        )
    for check in _CHECKS:
        values = ", ".join(f"{v:.8g}" for v in np.ravel(ds[check].values))
        say(f"{check.replace('_', ' ')}: {values}")
    if plot_file is not None:
        from srfx.plotting import spectrum

        figure = new_figure(4.4)
        spectrum(ds, ax=figure.add_subplot())
        save(figure, plot_file)
    say_failures(int((ds.status != 0).sum()), "points did not converge (nan)")


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
        spectra.append(item | {"status": [status_name(s) for s in one.status.values.tolist()]})
    _tables.write_json({**ds.attrs, "spectra": spectra}, file)
