"""``srfx solve``: the errors of a network, or its best parameters."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import click
import numpy as np

from srfx.cli.grids import GRIDS
from srfx.cli.optimal import solve_optimal
from srfx.cli.options import NETWORK, model_of, options, require
from srfx.cli.output import (
    check_output,
    check_plot,
    heading,
    new_figure,
    save,
    say_failures,
    setting_in_words,
    status_name,
    write,
    write_columns,
    write_rows,
)
from srfx.models import group_count
from srfx.results import Solution
from srfx.theory import solve

_SOLVE = """Solve for the test and training errors of a network.

With --eta or --alpha0 the network after one gradient step, with --steps after several; with --r,
--c or --gamma, or --spikes, spiked random features. For example:

\b
  srfx solve --eta 1 --alpha0 1.5 --alpha 0.2:3:50 --lam 0.01 --plot curve.png
  srfx solve --steps 2 --eta 2,1 --alpha0 1 --target max --alpha 2 --lam 0.1
"""


@click.command("solve", help=_SOLVE, epilog=GRIDS)
@options(NETWORK, alpha0="OneStep: samples of the step over d; inf is allowed.  [default: 1.5]")
@options("lam beta noise labels slope loss d")
@click.option(
    "--optimal",
    metavar="NAMES",
    help="Find the values of least test error instead: lam, eta, alpha0 or r, or several, with "
    "ranges if need be, as in lam=1e-4:10,eta.",
)
@options("bulk readout weights n_threads")
@click.option(
    "--errors",
    type=click.Choice(["raise", "record"]),
    default="raise",
    show_default=True,
    help="Where nothing converges: stop, or print nan and the status.",
)
@options(
    "output format plot",
    plot="Draw the learning curve, or with --optimal the best values, to FILE.",
)
def command(
    output: Path | None, format_: str | None, plot_file: Path | None, **options: Any
) -> None:
    """Solve for the test and training errors of a network."""
    format_ = check_output(output, format_)
    model, axes = model_of(options)
    if options["optimal"] is not None:
        solve_optimal(model, axes, options, output, format_, plot_file)
        return
    require(options, "alpha", "lam")
    if plot_file is not None:
        if np.size(options["alpha"]) < 2:
            raise click.UsageError("--plot draws errors against alpha: give it a list or a grid")
        check_plot(plot_file)
    solution = solve(
        model,
        alpha=axes["alpha"],
        lam=axes["lam"],
        d=axes.get("d"),
        bulk=options["bulk"],
        loss=options["loss"],
        n_threads=options["n_threads"],
        errors=options["errors"],
    )
    write(
        output,
        lambda file: write_solution(solution, file, format_),
        solution.to_xarray().to_netcdf if format_ == "netcdf" else None,
        f" ({solution.size} points)",
    )
    if plot_file is not None:
        from srfx.plotting import learning_curve

        figure = new_figure(4.4)
        learning_curve(solution, ax=figure.add_subplot(), quantity=quantity_of(solution))
        save(figure, plot_file)
    failed = solution.size - int(np.sum(solution.success))
    say_failures(failed, f"of {solution.size} points did not converge (nan, with their status)")


def quantity_of(solution: Solution) -> str:
    """Name what a picture of a solution shows: of labels +1 and -1 the share that is missed."""
    labelled = "classification_error" in solution.losses
    return "classification_error" if labelled else "test_error"


def write_solution(solution: Solution, file: IO[str], format_: str) -> None:
    """Write a solution as a table, CSV or JSON."""
    if format_ == "table":
        _write_table(solution, file)
    else:
        write_rows(solution.to_dataframe(), solution.describe(), format_, file)


def _write_table(solution: Solution, file: IO[str]) -> None:
    """Write aligned columns: what varies, errors, m, theta, psi, and the status if any failed."""
    about = solution.describe()
    inputs = solution.inputs
    fixed = [
        f"{name} = {value:.10g}"
        for name, value in solution.arguments.items()
        if not isinstance(value, np.ndarray) and not (name == "d" and value == np.inf)
    ]
    fixed += setting_in_words(solution.model, about)
    floor = f"; linear floor {_digits([about['linear_floor']])[0]}"
    file.write(f"{heading(about)}{floor if solution.model.labels == 'real' else ''}\n")
    file.write(f"# {', '.join(fixed)}\n")
    columns = {
        name: [f"{x:.8g}" for x in inputs[name].ravel().tolist()]
        for name in (*solution.model.numeric_names, "d", "lam", "alpha")
        if isinstance(solution.arguments.get(name), np.ndarray)
    }
    # order parameters of many groups would make a line too long to read
    vectors = ("m", "theta", "psi") if group_count(solution.model) <= 4 else ()
    for name in (*reversed(list(solution.losses)), "test_error", "train_error", *vectors):
        for column, values in solution.columns(name).items():
            columns[column] = _digits(values.tolist())
    if not np.all(solution.success):
        columns["status"] = [status_name(s) for s in np.ravel(solution.status).tolist()]
    write_columns(columns, file)


def _digits(values: list[float]) -> list[str]:
    """Format a column with ten digits after the point, and exponents if it has small values."""
    sizes = [abs(x) for x in values if x != 0 and np.isfinite(x)]
    fixed = not sizes or (min(sizes) >= 1e-3 and max(sizes) < 1e6)
    return [f"{x:.10f}" if fixed else f"{x:.10e}" for x in values]
