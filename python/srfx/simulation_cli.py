"""The command ``srfx simulate``: simulated errors as a table, a file, a picture over the theory."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from srfx import _files
from srfx.models import OneStep, SpikedRF
from srfx.simulation import CTRL_C, DTYPES, mean, simulate, standard_error
from srfx.theory import solve

if TYPE_CHECKING:
    import xarray as xr

    from srfx.results import Solution

_SUFFIXES = (".nc", ".csv")


def register(group: click.Group) -> None:
    """Add ``simulate`` to the command line.

    Parameters
    ----------
    group : click.Group
        The group of `srfx.cli`.
    """
    from srfx import cli as house

    grid, number_list = house._grid, house._list_value

    @group.command("simulate", epilog=house._GRIDS)
    @click.option(
        "--activation", default="tanh", show_default=True, help="Activation of the network."
    )
    @click.option("--target", default="sin", show_default=True, help="Activation of the target.")
    @grid("--eta", help="OneStep: learning rate of the step.  [default: 1]")
    @grid("--alpha0", help="OneStep: samples of the step over d.  [default: 1.5]")
    @grid("--r", help="SpikedRF: strength of the spike.  [default: 0.9]")
    @grid("--c", help="SpikedRF: variance of the bulk.  [default: 1]")
    @grid("--gamma", help="SpikedRF: alignment of the spike with the target.  [default: 1]")
    @grid("--alpha", help="Samples of the readout over d.  [required]")
    @grid("--lam", help="Ridge penalty.  [required]")
    @grid("--beta", help="Width over d.  [default: 1]")
    @grid("--noise", help="Variance of the label noise.  [default: 0]")
    @click.option(
        "--readout",
        callback=number_list,
        metavar="LIST",
        help="Values of the initial readout.  [default: 1]",
    )
    @click.option(
        "--weights",
        callback=number_list,
        metavar="LIST",
        help="Their probabilities.  [default: equal]",
    )
    @click.option(
        "--d", type=house.INTEGER, default=1000, show_default=True, help="Input dimension."
    )
    @click.option(
        "--replicates",
        type=house.INTEGER,
        default=10,
        show_default=True,
        help="Independent networks.",
    )
    @click.option("--n-test", type=house.INTEGER, help="Fresh points.  [default: max(2 d, 5000)]")
    @click.option(
        "--seed", type=house.INTEGER, default=0, show_default=True, help="0 to 2**64 - 1."
    )
    @click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="float64",
        show_default=True,
        help="Precision.",
    )
    @click.option("--n-threads", type=house.INTEGER, help="Threads.  [default: all processors]")
    @click.option("--literal", is_flag=True, help="Without the shortcuts that are exact in law.")
    @click.option(
        "--keep-finished",
        is_flag=True,
        help="When interrupted, report the finished replicates; -o keeps them in any case.",
    )
    @click.option("--progress/--no-progress", default=None, help="[default: on a terminal]")
    @click.option(
        "-o",
        "--output",
        type=house.LOCAL,
        metavar="FILE",
        help="Write every replicate to FILE (.nc), or the table (.csv).",
    )
    @click.option(
        "--plot",
        "plot_file",
        type=house.LOCAL,
        metavar="FILE",
        help="Draw simulation with error bars over theory with its 1/d term.",
    )
    def simulate_command(output: Path | None, plot_file: Path | None, **options: Any) -> int:
        """Simulate a network: the errors of actual ridge regression on its features.

        With --eta or --alpha0 the network makes its gradient step; with --r, --c or --gamma it has
        spiked random features.

        \b
        srfx simulate --eta 3 --alpha0 0.25 --alpha 2 --lam 0.1 --d 1000 --replicates 8
        """  # noqa: D301  # click's mark, not an escape
        for name in ("alpha", "lam"):
            if options[name] is None:
                raise click.UsageError(f"--{name} is required")
        for name in ("eta", "alpha0", "r", "c", "gamma", "beta", "noise"):
            if isinstance(options[name], np.ndarray):
                raise click.UsageError(
                    f"--{name} must be a single number; --alpha and --lam may be lists or grids"
                )
        if output is not None:
            if output.suffix.lower() not in _SUFFIXES:
                raise click.UsageError(
                    f"-o FILE must end in {' or '.join(_SUFFIXES)}; got {str(output)!r}"
                )
            _files.check("-o FILE", output)
        if plot_file is not None:
            house._check_plot(plot_file)
        model = house._model(house._Axes(options), options)
        ds = simulate(
            model,
            options["alpha"],
            options["lam"],
            d=options["d"],
            replicates=options["replicates"],
            n_test=options["n_test"],
            seed=options["seed"],
            dtype=options["dtype"],
            n_threads=options["n_threads"],
            literal=options["literal"],
            keep_finished=options["keep_finished"] or output is not None,
            progress=options["progress"],
        )
        interrupted = ds.attrs.get("interrupted")
        if interrupted:
            said = "interrupted" if interrupted == CTRL_C else f"error: {interrupted}"
            house._say(f"{said}; finished replicates are kept: {ds.sizes['replicate']}")
        if output is None:
            with click.open_file("-", "w") as out:
                _write_table(ds, out)
        else:
            if output.suffix.lower() == ".nc":
                _files.write(output, ds.to_netcdf)
            else:
                _files.write_text(output, lambda file: _summary(ds).to_csv(file, index=False))
            house._say(f"wrote {_files.shown(output)} ({ds.sizes['replicate']} replicates)")
        if plot_file is not None:
            house.save(_figure(model, ds), plot_file)
        if not interrupted:
            return 0
        return 130 if interrupted == CTRL_C else 1


def _summary(ds: xr.Dataset) -> Any:
    """Tabulate alpha, lam, n, the mean errors and their standard errors."""
    import pandas as pd

    average = mean(ds)
    several = ds.sizes["replicate"] > 1
    spread = standard_error(ds) if several else None
    lam, alpha = np.meshgrid(ds.lam.values, ds.alpha.values)
    columns: dict[str, Any] = {
        "alpha": alpha.ravel(),
        "lam": lam.ravel(),
        "n": np.repeat(ds.n.values, ds.sizes["lam"]),
    }
    for name in ("test_error", "train_error"):
        columns[name] = average[name].values.ravel()
        columns[f"{name}_se"] = (
            np.full(alpha.size, np.nan) if spread is None else spread[name].values.ravel()
        )
    return pd.DataFrame(columns)


def _write_table(ds: xr.Dataset, file: IO[Any]) -> None:
    about = ds.attrs
    file.write(
        f"# {about['model']}: {about['activation']} network, {about['target']} target; "
        f"d = {about['d']}, p = {about['p']}"
        + (f", n0 = {about['n0']}" if about["n0"] else "")
        + f", {ds.sizes['replicate']} replicates, seed {about['seed']}, {about['dtype']}\n"
    )
    table = _summary(ds)
    cells = {
        name: [
            f"{x:d}" if name == "n" else f"{x:.8g}" if name in ("alpha", "lam") else f"{x:.6f}"
            for x in table[name].tolist()
        ]
        for name in table.columns
    }
    widths = {name: max(len(name), *map(len, column)) for name, column in cells.items()}
    file.write("  ".join(name.rjust(widths[name]) for name in cells) + "\n")
    for row in zip(*cells.values(), strict=True):
        file.write(
            "  ".join(cell.rjust(widths[name]) for name, cell in zip(cells, row, strict=True))
            + "\n"
        )


def _theory(model: SpikedRF | OneStep, alpha: Any, lam: Any, d: int) -> tuple[Solution, str]:
    """Theory with its 1/d term: of the network's own bulk where that is known."""
    if isinstance(model, OneStep):
        try:
            own = solve(model, alpha, lam, d=d, bulk="one_step", errors="record")
        except NotImplementedError:
            pass
        else:
            return own, "theory (bulk of the step)"
    return solve(model, alpha, lam, d=d, errors="record"), "theory"


def _figure(model: SpikedRF | OneStep, ds: xr.Dataset) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    ax = figure.add_subplot()
    alpha = ds.alpha.values
    average = mean(ds)
    spread = standard_error(ds) if ds.sizes["replicate"] > 1 else None
    low, high = alpha.min(), alpha.max()
    if low == high:
        low, high = low / 2, high * 2
    grid = np.unique(np.concatenate([np.geomspace(low, high, 100), alpha]))
    try:
        curves, name = _theory(model, grid[:, None], ds.lam.values, ds.attrs["d"])
    except NotImplementedError:  # a model that is simulated but not solved
        curves, name = None, ""
    order = np.argsort(alpha)
    for j, lam in enumerate(ds.lam.values):
        colour = f"C{j % 10}"
        if curves is not None:
            text = name if j == 0 else "_"
            ax.plot(grid, curves.test_error[:, j], color=colour, lw=1.6, label=text)
            ax.plot(grid, curves.train_error[:, j], color=colour, lw=1.2, ls=":", label="_")
        for error, marker in (("test_error", "o"), ("train_error", "s")):
            values = average[error].values[order, j]
            bars = None if spread is None else spread[error].values[order, j]
            label = f"$\\lambda = {lam:.4g}$" if error == "test_error" else "_"
            ax.errorbar(
                alpha[order],
                values,
                yerr=bars,
                fmt=marker,
                ms=4,
                mfc=colour if marker == "o" else "white",
                color=colour,
                capsize=2,
                label=label,
            )
    ax.plot([], [], "o", color="0.4", ms=4, label="test error")
    ax.plot([], [], "s", color="0.4", mfc="white", ms=4, label="training error")
    ax.set_ylim(bottom=0)
    ax.set_xlabel(r"$\alpha = n/d$")
    ax.set_ylabel("error")
    about = ds.attrs
    ax.set_title(
        f"{about['model']}, {about['activation']} network, {about['target']} target, "
        f"d = {about['d']}, {ds.sizes['replicate']} replicates",
        fontsize="medium",
    )
    ax.legend(frameon=False, fontsize="small")
    return figure
