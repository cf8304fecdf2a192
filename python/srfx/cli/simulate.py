"""``srfx simulate``: simulated errors as a table, a file, a picture over the theory."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
import numpy as np

from srfx import _files
from srfx._replicates import DTYPES
from srfx.cli.grids import GRIDS
from srfx.cli.options import INTEGER, NETWORK, model_of, options, require
from srfx.cli.output import check_plot, heading, new_figure, save, say, write, write_columns
from srfx.models import Model
from srfx.simulation import CTRL_C, mean, simulate, standard_error
from srfx.theory import solve
from srfx.weights import own_bulk

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from srfx.losses import Loss
    from srfx.results import Solution

_SUFFIXES = (".nc", ".csv")


@click.command("simulate", epilog=GRIDS)
@options(f"{NETWORK} lam beta noise labels slope loss readout weights")
@click.option("--d", type=INTEGER, default=1000, show_default=True, help="Input dimension.")
@click.option(
    "--replicates", type=INTEGER, default=10, show_default=True, help="Independent networks."
)
@click.option("--n-test", type=INTEGER, help="Fresh points.  [default: max(2 d, 5000)]")
@click.option("--seed", type=INTEGER, default=0, show_default=True, help="0 to 2**64 - 1.")
@click.option(
    "--dtype", type=click.Choice(DTYPES), default="float64", show_default=True, help="Precision."
)
@options("n_threads")
@click.option("--literal", is_flag=True, help="Without the shortcuts that are exact in law.")
@click.option(
    "--keep-finished",
    is_flag=True,
    help="When interrupted, report the finished replicates; -o keeps them in any case.",
)
@options(
    "progress output plot",
    output="Write every replicate to FILE (.nc), or the table (.csv).",
    plot="Draw simulation with error bars over theory with its 1/d term.",
)
def command(output: Path | None, plot_file: Path | None, **options: Any) -> int:
    """Simulate a network: the errors of actual regression or classification on its features.

    With --eta or --alpha0 the network makes its gradient step, with --steps several; with --r, --c
    or --gamma, or --spikes, it has spiked random features.

    \b
    srfx simulate --eta 3 --alpha0 0.25 --alpha 2 --lam 0.1 --d 1000 --replicates 8
    """  # noqa: D301  # click's mark, not an escape
    require(options, "alpha", "lam")
    model, axes = model_of(options)
    axes.only("alpha", "lam")
    if output is not None:
        if output.suffix.lower() not in _SUFFIXES:
            raise click.UsageError(
                f"-o FILE must end in {' or '.join(_SUFFIXES)}; got {str(output)!r}"
            )
        _files.check("-o FILE", output)
    if plot_file is not None:
        check_plot(plot_file)
    ds = simulate(
        model,
        options["alpha"],
        options["lam"],
        loss=options["loss"],
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
        say(f"{said}; finished replicates are kept: {ds.sizes['replicate']}")
    csv = output is not None and output.suffix.lower() == ".csv"
    write(
        output,
        lambda file: _summary(ds).to_csv(file, index=False) if csv else _write_table(ds, file),
        None if csv else ds.to_netcdf,
        f" ({ds.sizes['replicate']} replicates)",
    )
    if plot_file is not None:
        save(_figure(model, ds, options["loss"]), plot_file)
    if not interrupted:
        return 0
    return 130 if interrupted == CTRL_C else 1


def _summary(ds: xr.Dataset) -> pd.DataFrame:
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
    first = ["classification_error", "test_loss", "train_loss", "test_error", "train_error"]
    for name in (name for name in first if name in ds):
        columns[name] = average[name].values.ravel()
        columns[f"{name}_se"] = (
            np.full(alpha.size, np.nan) if spread is None else spread[name].values.ravel()
        )
    return pd.DataFrame(columns)


def _write_table(ds: xr.Dataset, file: IO[Any]) -> None:
    about = ds.attrs
    file.write(
        f"{heading(about)}; "
        + "".join(f"{x} = {about[x]}, " for x in ("labels", "slope", "loss") if x in about)
        + f"d = {about['d']}, p = {about['p']}"
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
    write_columns(cells, file)


def _theory(model: Model, alpha: Any, lam: Any, d: int, loss: Loss) -> tuple[Solution, str]:
    """Theory with its 1/d term: of the network's own bulk where that is known."""
    bulk = own_bulk(model) if np.all(np.asarray(lam) > 0) else "isotropic"
    of = {"isotropic": "", "one_step": " (bulk of the step)", "multi_step": " (bulk of the steps)"}
    name = f"theory{of[bulk]}"
    return solve(model, alpha, lam, d=d, bulk=bulk, loss=loss, errors="record"), name


def _figure(model: Model, ds: xr.Dataset, loss: Loss) -> Any:
    drawn = [("test_error", "o", "test error"), ("train_error", "s", "training error")]
    if "classification_error" in ds:
        drawn = [("classification_error", "o", "classification error")]
    figure = new_figure(4.4)
    ax = figure.add_subplot()
    alpha = ds.alpha.values
    average = mean(ds)
    spread = standard_error(ds) if ds.sizes["replicate"] > 1 else None
    low, high = alpha.min(), alpha.max()
    if low == high:
        low, high = low / 2, high * 2
    grid = np.unique(np.concatenate([np.geomspace(low, high, 100), alpha]))
    try:
        curves, name = _theory(model, grid[:, None], ds.lam.values, ds.attrs["d"], loss)
    except NotImplementedError:  # a model that is simulated but not solved
        curves, name = None, ""
    order = np.argsort(alpha)
    for j, lam in enumerate(ds.lam.values):
        colour = f"C{j % 10}"
        if curves is not None:
            text = name if j == 0 else "_"
            for error, marker, _ in drawn:
                look: dict[str, Any] = (
                    {"lw": 1.6, "label": text} if marker == "o" else {"lw": 1.2, "ls": ":"}
                )
                ax.plot(grid, getattr(curves, error)[:, j], color=colour, **look)
        for error, marker, _ in drawn:
            values = average[error].values[order, j]
            bars = None if spread is None else spread[error].values[order, j]
            label = f"$\\lambda = {lam:.4g}$" if marker == "o" else "_"
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
    for _, marker, name in drawn:
        mfc = "0.4" if marker == "o" else "white"
        ax.plot([], [], marker, color="0.4", mfc=mfc, ms=4, label=name)
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
