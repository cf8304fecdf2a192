"""What commands say and write: messages, tables, files, pictures."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from srfx import _files, _tables
from srfx._style import require_matplotlib
from srfx.models import Model, group_count, structure
from srfx.results import Status

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SUFFIXES = {".csv": "csv", ".json": "json", ".nc": "netcdf"}


def say(message: str) -> None:
    """Say something on stderr."""
    click.echo(f"srfx: {message}", err=True)


def check_output(output: Path | None, format_: str | None) -> str:
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


def check_plot(path: Path) -> None:
    """Make sure that a picture can be drawn and written."""
    require_matplotlib("--plot needs matplotlib")
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.filetypes)
    if path.suffix.lower().removeprefix(".") not in known:
        raise click.UsageError(
            f"--plot FILE must end in one of .{', .'.join(known)}; got {str(path)!r}"
        )
    _files.check("--plot FILE", path)


def new_figure(height: float) -> Figure:
    """Make an empty figure of the width of a page."""
    from matplotlib.figure import Figure

    return Figure(figsize=(6.4, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a picture and say so."""
    _files.write(path, lambda part: figure.savefig(part, dpi=150))
    say(f"drew {_files.shown(path)}")


def to_screen(write: Callable[[IO[str]], object]) -> None:
    """Call ``write`` with standard output, for as long as that is read."""
    if sys.stdout is None:  # closed by the caller
        return
    try:
        write(sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write(
    output: Path | None,
    text: Callable[[IO[str]], object],
    netcdf: Callable[[Path], object] | None = None,
    points: str = "",
) -> None:
    """Write text to the screen, or a file, by ``netcdf`` if that is given; and say so."""
    if output is None:
        to_screen(text)
        return
    if netcdf is not None:
        _files.write(output, netcdf)
    else:
        _files.write_text(output, text)
    say(f"wrote {_files.shown(output)}{points}")


def write_rows(frame: pd.DataFrame, about: Mapping[str, Any], format_: str, file: IO[str]) -> None:
    """Write a table as CSV or JSON, the status by name."""
    columns: dict[str, Any] = {str(name): frame[name].to_numpy() for name in frame}
    columns["status"] = _tables.words(columns["status"], status_name)
    if format_ == "csv":
        _tables.write_csv(columns, file)
    else:
        _tables.write_records(about, columns, file)


def write_columns(columns: Mapping[str, list[str]], file: IO[str]) -> None:
    """Write columns of text below their names, aligned at the right."""
    widths = {name: max(len(name), *map(len, cells), 0) for name, cells in columns.items()}
    file.write("  ".join(name.rjust(widths[name]) for name in columns) + "\n")
    for row in zip(*columns.values(), strict=True):
        cells = zip(columns, row, strict=True)
        file.write("  ".join(cell.rjust(widths[name]) for name, cell in cells) + "\n")


def heading(about: Mapping[str, Any]) -> str:
    """Say what a table is of, in its first line."""
    return f"# {about['model']}: {about['activation']} network, {about['target']} target"


def setting_in_words(model: Model, described: Mapping[str, Any]) -> list[str]:
    """Say what a model has beside numbers, loss and bulk, where they are not the usual ones."""

    def row(values: Any) -> str:
        return ", ".join(f"{x:g}" for x in values)

    about, shared = structure(model), group_count(model) == 1
    for name, usual in (("readout", about.get("readout") == [1.0]), ("weights", shared)):
        if usual:
            del about[name]
    for name in ("spikes", "alignment"):
        if name in about:
            about[name] = "; ".join(map(row, getattr(model, name)))
    usual_ones = {"loss": "square", "bulk": "isotropic"}
    about |= {
        x: described[x] for x, usual in usual_ones.items() if described.get(x, usual) != usual
    }
    return [
        f"{name} = {row(value) if isinstance(value, list) else value}"
        for name, value in about.items()
    ]


def status_name(status: int) -> str:
    """Name of a status, as written."""
    return Status(status).name.lower()


def say_failures(failed: int, what: str) -> None:
    """Warn of points that did not converge, if there are any."""
    if failed:
        say(f"warning: {failed} {what}")
