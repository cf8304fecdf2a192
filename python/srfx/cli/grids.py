"""Numbers, lists and grids as they are typed on the command line and in specifications."""

from __future__ import annotations

import click
import numpy as np

from srfx import _validation as check
from srfx.models import FloatArray

#: What is said of them below the options of a command.
GRIDS = (
    "GRID: a number, a list 0.5,1,2, or a grid 0.2:3:50 (50 points from 0.2 to 3, both included) "
    "or log:1e-4:1:30. Several lists or grids: every combination."
)
#: Most points of a grid.
_MOST = 10**8


def grid_value(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> float | FloatArray | None:
    """Convert a number, a list a,b,c, or a grid start:stop:count or log:start:stop:count."""
    return None if value is None else read_grid(value)


def read_grid(text: str, option: str | None = None) -> float | FloatArray:
    """Read the value of an option, the one that click is at or another."""
    try:
        return parse_grid(text.strip())
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} {error}; allowed are a number, a list 0.5,1,2, or a grid 0.2:3:50 or "
            "log:1e-4:1:30",
            param_hint=option and f"'{option}'",
        ) from None


def list_value(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[float, ...] | None:
    """Convert a comma-separated list of numbers."""
    if value is None:
        return None
    try:
        return tuple(_number(part) for part in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"{value!r} {error}; allowed is a list 0.5,1.5") from None


def matrix_value(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> list[list[float]] | None:
    """Convert rows separated by semicolons, of numbers separated by commas."""
    if value is None:
        return None
    try:
        return [[_number(part) for part in row.split(",")] for row in value.split(";")]
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} {error}; allowed are rows of numbers, as in '1,0.3;-0.4,1.2'"
        ) from None


def parse_grid(text: str) -> float | FloatArray:
    """Read a number, a list or a grid, or raise a ValueError that completes "0.2:3 ..."."""
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
    return spaced(start, stop, int(count), logarithmic)


def spaced(start: float, stop: float, count: int, logarithmic: bool) -> FloatArray:
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
