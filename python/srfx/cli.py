"""The command line: ``srfx solve`` and ``srfx info``.

Exit codes: 0 success, 1 no convergence, 2 bad input (one line on stderr), 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click
import numpy as np

from srfx import _files, _tables, analysis_cli, figures_cli, scan_cli, simulation_cli
from srfx import _validation as check
from srfx._style import require_matplotlib
from srfx.config import show_config, version
from srfx.models import ACTIVATION_NAMES, FloatArray, OneStep, SpikedRF, warnings_to
from srfx.results import ConvergenceError, Solution, Status
from srfx.theory import solve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GRIDS = (
    "GRID: a number, a list 0.5,1,2, or a grid 0.2:3:50 (50 points from 0.2 to 3, both included) "
    "or log:1e-4:1:30. Several lists or grids: every combination."
)
_SOLVE = """Solve for the test and training errors of a network.

With --eta or --alpha0 the network after one gradient step; with --r, --c or --gamma spiked random
features. For example:

\b
  srfx solve --eta 1 --alpha0 1.5 --alpha 0.2:3:50 --lam 0.01 --plot curve.png
"""
_SUFFIXES = {".csv": "csv", ".json": "json", ".nc": "netcdf"}
#: Most points of a grid.
_MOST = 10**8

#: Order of the axes of an outer product: the last varies fastest.
_AXES = ("eta", "alpha0", "r", "c", "gamma", "beta", "noise", "d", "lam", "alpha")


def _grid_value(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> float | FloatArray | None:
    """Convert a number, a list a,b,c, or a grid start:stop:count or log:start:stop:count."""
    if value is None:
        return None
    try:
        return _parse_grid(value.strip())
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} {error}; allowed are a number, a list 0.5,1,2, or a grid 0.2:3:50 or "
            "log:1e-4:1:30"
        ) from None


def _list_value(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Convert a comma-separated list of numbers."""
    if value is None:
        return None
    try:
        return tuple(_number(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}; allowed is a list 0.5,1.5") from None


def _parse_grid(text: str) -> float | FloatArray:
    if ":" not in text:
        values = [_number(part) for part in text.split(",")]
        return values[0] if len(values) == 1 else np.array(values)
    parts = text.split(":")
    logarithmic = parts[0].strip().lower() == "log"
    if logarithmic:
        parts = parts[1:]
    if len(parts) != 3:
        raise ValueError("is not of the form start:stop:count")
    start, stop, count = _number(parts[0]), _number(parts[1]), parts[2].strip()
    if not count.isdecimal() or len(count) > 18:
        raise ValueError(f"has count {count[:30]!r}, which is no integer from 1 to {_MOST}")
    return _spaced(start, stop, int(count), logarithmic)


def _spaced(start: float, stop: float, count: int, logarithmic: bool) -> FloatArray:
    """Return a grid, or raise a ValueError that completes "lam = ..."."""
    if not 1 <= count <= _MOST:
        raise ValueError(f"has count {count}, which is no integer from 1 to {_MOST}")
    if not np.isfinite([start, stop]).all():
        raise ValueError("has an end that is not finite")
    check.memory(f"has too many points: {count}", 8.0 * count)
    if logarithmic and (start <= 0 or stop <= 0):
        raise ValueError("is logarithmic and has an end that is not positive")
    with np.errstate(all="ignore"):
        grid = (np.geomspace if logarithmic else np.linspace)(start, stop, count)
    if not np.isfinite(grid).all():
        raise ValueError("has ends that are too far from each other")
    return grid


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"contains {text!r}, which is not a number") from None


class _Local(click.Path):
    """A path on this machine: absolute, ``~`` expanded, no URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        name = "a path" if param is None else param.get_error_hint(ctx)
        try:
            path = _files.local(name, value)
        except (TypeError, ValueError) as error:
            raise click.UsageError(str(error)) from None
        super().convert(str(path), param, ctx)
        return path


LOCAL = _Local()


class _Integer(click.types.IntParamType):
    """An integer in any spelling: 100000 or 1e5."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        with contextlib.suppress(ValueError):
            return int(value)
        with contextlib.suppress(ValueError):
            if (number := float(value)).is_integer():
                return int(number)
        name = "a count" if param is None else param.get_error_hint(ctx)
        raise click.UsageError(f"{name} must be an integer; got {value!r}")


INTEGER = _Integer()


def _grid(*names: str, help: str) -> Callable[[Any], Any]:
    return click.option(*names, callback=_grid_value, metavar="GRID", help=help)


def _bulk_and_readout(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options --bulk, --readout and --weights."""
    for option in (
        click.option(
            "--weights",
            callback=_list_value,
            metavar="LIST",
            help="Their probabilities.  [default: equal]",
        ),
        click.option(
            "--readout",
            callback=_list_value,
            metavar="LIST",
            help="Values of the initial readout.  [default: 1]",
        ),
        click.option(
            "--bulk",
            default="isotropic",
            show_default=True,
            help="isotropic, or one_step: the bulk as the step has really made it.",
        ),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@click.version_option(version(), prog_name="srfx", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Exact asymptotics of two-layer networks after one large gradient step."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


@cli.command("solve", help=_SOLVE, epilog=_GRIDS)
@click.option("--activation", default="tanh", show_default=True, help="Activation of the network.")
@click.option("--target", default="sin", show_default=True, help="Activation of the target.")
@_grid("--eta", help="OneStep: learning rate of the step.  [default: 1]")
@_grid("--alpha0", help="OneStep: samples of the step over d; inf is allowed.  [default: 1.5]")
@_grid("--r", help="SpikedRF: strength of the spike.  [default: 0.9]")
@_grid("--c", help="SpikedRF: variance of the bulk.  [default: 1]")
@_grid("--gamma", help="SpikedRF: alignment of the spike with the target.  [default: 1]")
@_grid("--alpha", help="Samples of the readout over d.  [required]")
@_grid("--lam", help="Ridge penalty.  [required]")
@_grid("--beta", help="Width over d.  [default: 1]")
@_grid("--noise", help="Variance of the label noise.  [default: 0]")
@_grid("--d", help="Input dimension, for the 1/d correction.  [default: the limit]")
@click.option(
    "--optimal",
    metavar="NAMES",
    help="Find the values of least test error instead: lam, eta, alpha0 or r, or several, with "
    "ranges if need be, as in lam=1e-4:10,eta.",
)
@_bulk_and_readout
@click.option("--n-threads", type=INTEGER, help="Threads.  [default: all processors]")
@click.option(
    "--errors",
    type=click.Choice(["raise", "record"]),
    default="raise",
    show_default=True,
    help="Where nothing converges: stop, or print nan and the status.",
)
@click.option(
    "-o",
    "--output",
    type=LOCAL,
    help="Write everything to FILE (.csv, .json, .nc).",
    metavar="FILE",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "csv", "json", "netcdf"]),
    help="Format of the output.  [default: a table, or by the suffix of FILE]",
)
@click.option(
    "--plot",
    "plot_file",
    type=LOCAL,
    help="Draw the learning curve, or with --optimal the best values, to FILE.",
    metavar="FILE",
)
def solve_command(
    output: Path | None, format_: str | None, plot_file: Path | None, **options: Any
) -> None:
    """Solve for the test and training errors of a network."""
    format_ = _check_output(output, format_)
    axes = _Axes(options)
    model = _model(axes, options)
    if options["optimal"] is not None:
        analysis_cli.solve_optimal(model, axes, options, output, format_, plot_file)
        return
    for name in ("alpha", "lam"):
        if options[name] is None:
            raise click.UsageError(f"--{name} is required")
    if plot_file is not None:
        if np.size(options["alpha"]) < 2:
            raise click.UsageError("--plot draws errors against alpha: give it a list or a grid")
        _check_plot(plot_file)

    solution = solve(
        model,
        alpha=axes["alpha"],
        lam=axes["lam"],
        d=axes.get("d"),
        bulk=options["bulk"],
        n_threads=options["n_threads"],
        errors=options["errors"],
    )
    _write(solution, output, format_)
    if plot_file is not None:
        _draw(solution, plot_file)
    failed = solution.size - int(np.sum(solution.success))
    if failed:
        _say(
            f"warning: {failed} of {solution.size} points did not converge (nan, with their status)"
        )


class _Axes(dict[str, Any]):
    """The numeric options given, each list or grid along an axis of its own."""

    def __init__(self, options: dict[str, Any]) -> None:
        given = {name: options[name] for name in _AXES if options[name] is not None}
        varying = [name for name, value in given.items() if isinstance(value, np.ndarray)]
        for name, value in given.items():
            if name in varying:
                value = value.reshape(value.shape + (1,) * (len(varying) - 1 - varying.index(name)))
            self[name] = value


def _model(axes: _Axes, options: dict[str, Any]) -> SpikedRF | OneStep:
    step = [name for name in ("eta", "alpha0") if name in axes]
    spike = [name for name in ("r", "c", "gamma") if name in axes]
    if bool(step) == bool(spike):
        given = " and ".join(f"--{name}" for name in step + spike) or "neither"
        raise click.UsageError(
            "give --eta or --alpha0 (the network after one step), or --r, --c or --gamma (spiked "
            f"random features), not both; got {given}"
        )
    fields = {name: axes[name] for name in [*step, *spike, "beta", "noise"] if name in axes}
    for name in ("readout", "weights"):
        if options[name] is not None:
            fields[name] = options[name]
    kind = OneStep if step else SpikedRF
    return kind(options["activation"], options["target"], **fields)


# --- output ---


def _check_output(output: Path | None, format_: str | None) -> str:
    """Format of the output, after making sure that the file can be written."""
    if output is None:
        if format_ == "netcdf":
            raise click.UsageError("--format netcdf needs a file: give -o FILE.nc")
        return format_ or "table"
    if format_ is None:
        format_ = _SUFFIXES.get(output.suffix.lower())
        if format_ is None:
            raise click.UsageError(
                f"-o FILE must end in {', '.join(_SUFFIXES)} (or give --format); "
                f"got {str(output)!r}"
            )
    _files.check("-o FILE", output)
    return format_


def _check_plot(path: Path) -> None:
    require_matplotlib("--plot needs matplotlib")
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.filetypes)
    if path.suffix.lower().removeprefix(".") not in known:
        raise click.UsageError(
            f"--plot FILE must end in one of .{', .'.join(known)}; got {str(path)!r}"
        )
    _files.check("--plot FILE", path)


def _write(solution: Solution, output: Path | None, format_: str) -> None:
    if output is None:
        to_screen(lambda file: _write_text(solution, file, format_))
        return
    if format_ == "netcdf":
        _files.write(output, solution.to_xarray().to_netcdf)
    else:
        _files.write_text(output, lambda file: _write_text(solution, file, format_))
    _say(f"wrote {_files.shown(output)} ({solution.size} points)")


def to_screen(write: Callable[[IO[str]], None]) -> None:
    """Call ``write`` with standard output, for as long as that is read."""
    if sys.stdout is None:  # closed by the caller
        return
    try:
        write(sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_text(solution: Solution, file: IO[str], format_: str) -> None:
    if format_ == "table":
        _write_table(solution, file)
        return
    frame = solution.to_dataframe()
    columns: dict[str, Any] = {str(name): frame[name].to_numpy() for name in frame}
    columns["status"] = _tables.words(columns["status"], _status_name)
    if format_ == "csv":
        _tables.write_csv(columns, file)
    else:
        _tables.write_records(solution.describe(), columns, file)


def _status_name(status: int) -> str:
    return Status(status).name.lower()


def _write_table(solution: Solution, file: IO[str]) -> None:
    """Write aligned columns: what varies, errors, m, theta, psi, and the status if any failed."""
    about = solution.describe()
    inputs = solution.inputs
    fixed = [
        f"{name} = {value:.10g}"
        for name, value in solution.arguments.items()
        if not isinstance(value, np.ndarray) and not (name == "d" and value == np.inf)
    ]
    if about["readout"] != [1.0]:
        fixed.append(f"readout = {', '.join(f'{a:g}' for a in about['readout'])}")
        if len(about["readout"]) > 1:
            fixed.append(f"weights = {', '.join(f'{w:g}' for w in about['weights'])}")
    if about["bulk"] != "isotropic":
        fixed.append(f"bulk = {about['bulk']}")
    floor = f"linear floor {_digits([about['linear_floor']])[0]}"
    what = f"{about['activation']} network, {about['target']} target"
    file.write(f"# {about['model']}: {what}; {floor}\n")
    file.write(f"# {', '.join(fixed)}\n")
    columns = {
        name: [f"{x:.8g}" for x in inputs[name].ravel().tolist()]
        for name in _AXES
        if isinstance(solution.arguments.get(name), np.ndarray)
    }
    # order parameters of many groups would make a line too long to read
    vectors = ("m", "theta", "psi") if len(about["readout"]) <= 4 else ()
    for name in ("test_error", "train_error", *vectors):
        for column, values in solution.columns(name).items():
            columns[column] = _digits(values.tolist())
    if not np.all(solution.success):
        columns["status"] = [_status_name(s) for s in np.ravel(solution.status).tolist()]
    widths = {name: max(len(name), *map(len, cells), 0) for name, cells in columns.items()}
    file.write("  ".join(name.rjust(widths[name]) for name in columns) + "\n")
    for row in zip(*columns.values(), strict=True):
        cells = zip(columns, row, strict=True)
        file.write("  ".join(cell.rjust(widths[name]) for name, cell in cells) + "\n")


def _digits(values: list[float]) -> list[str]:
    """Format a column with ten digits after the point, and exponents if it has small values."""
    sizes = [abs(x) for x in values if x != 0 and np.isfinite(x)]
    fixed = not sizes or (min(sizes) >= 1e-3 and max(sizes) < 1e6)
    return [f"{x:.10f}" if fixed else f"{x:.10e}" for x in values]


def _draw(solution: Solution, path: Path) -> None:
    from matplotlib.figure import Figure

    from srfx.plotting import learning_curve

    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    ax: Axes = figure.add_subplot()
    learning_curve(solution, ax=ax)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a picture and say so."""
    _files.write(path, lambda part: figure.savefig(part, dpi=150))
    _say(f"drew {_files.shown(path)}")


@cli.command()
def info() -> None:
    """Show how this srfx was built, and the activations it knows."""
    show_config()
    click.echo(f"activations      {', '.join(ACTIVATION_NAMES)}")


simulation_cli.register(cli)
scan_cli.register(cli)
figures_cli.register(cli)
analysis_cli.register(cli)


# --- the program ---


def _say(message: str) -> None:
    click.echo(f"srfx: {message}", err=True)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@check.public
def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; every expected error is one line on stderr.

    The process may be somebody else's, and this one of its threads.
    """
    said = set()

    def show(message: str) -> None:
        if message not in said:
            said.add(message)
            _say(f"warning: {message}")

    try:
        with warnings_to(show):
            code = cli.main(arguments, prog_name="srfx", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        _say(f"error: {' '.join(error.format_message().split())}")
        return 2
    except (ConvergenceError, np.linalg.LinAlgError) as error:
        _say(f"error: {_one_line(error)}")
        return 1
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        _say(f"error: {_one_line(error)}")
        return 2
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted")
        return 130
    except OSError as error:
        _say(f"error: {_one_line(error)}")
        return 2
    except MemoryError as error:
        _say(f"error: out of memory; ask for fewer points. {_one_line(error)}".rstrip(". "))
        return 2


def main() -> NoReturn:
    """Entry point of the program ``srfx``, to which the process belongs."""
    # It draws to files alone; matplotlib does not even load if the backend named is not installed,
    # as that of a notebook in another environment.
    os.environ.pop("MPLBACKEND", None)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        _say(f"warning: {message}")

    warnings.showwarning = show  # those of other packages, where Python's filters let them pass
    sys.exit(run())
