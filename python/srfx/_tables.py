"""Tables as CSV and JSON: hundreds of thousands of rows in a fraction of a second."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from srfx import _core

#: Rows that are made into text at once: a few megabytes.
_ROWS = 2**13


class Words(NamedTuple):
    """A column of few distinct values: the place of each row's in a list of them."""

    places: NDArray[Any]
    values: list[Any]


def words(column: Any, name: Callable[[Any], Any] = lambda value: value) -> Words:
    """Take a column apart into its distinct values, each by its name, and their places."""
    distinct, places = np.unique(np.asarray(column), return_inverse=True)
    return Words(places, [name(value) for value in distinct.tolist()])


def write_csv(columns: Mapping[str, Any], file: IO[str]) -> None:
    """Write columns of equal length as CSV, every digit of the numbers; nan is an empty cell.

    Parameters
    ----------
    columns : mapping
        Name to a float array, to `Words`, or to anything else that is an array of few values.
    file : text file
        Where to write.
    """
    file.write(",".join(map(_cell, columns)) + "\n")
    pieces = ["", *[","] * (len(columns) - 1), "\n"]
    for text in _texts(columns, pieces, _cell, "", "inf"):
        file.write(text)


def write_records(about: Mapping[str, Any], columns: Mapping[str, Any], file: IO[str]) -> None:
    """Write strict JSON: what ``about`` holds, and under "points" an object for each row.

    As `write_json` would write them: nan is null, inf a string.
    """
    head = _json({**about, "points": []})
    file.write(head.removesuffix("]\n}") + "\n")
    keys = [f"\n   {json.dumps(name)}: " for name in columns]
    pieces = ["  {" + keys[0], *("," + key for key in keys[1:]), "\n  },\n"]
    before = ""
    for text in _texts(columns, pieces, json.dumps, "null", '"inf"'):
        file.write(before)
        before = text
    file.write(before.removesuffix(",\n") + "\n ]\n}\n")


def write_json(content: Any, file: IO[str]) -> None:
    """Write strict JSON: nan is null, inf a string."""
    file.write(_json(content) + "\n")


def _json(content: Any) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(x) for name, x in value.items()}
        if isinstance(value, list):
            return [plain(x) for x in value]
        if isinstance(value, float) and not np.isfinite(value):
            return None if np.isnan(value) else str(value)
        return value

    return json.dumps(plain(content), indent=1, allow_nan=False)


def _cell(value: Any) -> str:
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if set(text) & set(',"\r\n') else text


def _texts(
    columns: Mapping[str, Any],
    pieces: list[str],
    say: Callable[[Any], str],
    nan: str,
    infinity: str,
) -> Iterator[str]:
    parts: list[Any] = []
    for column in columns.values():
        if isinstance(column, np.ndarray) and column.dtype.kind == "f":
            parts.append(np.ascontiguousarray(column, dtype=np.float64))
            continue
        places, values = column if isinstance(column, Words) else words(column)
        parts.append((places.astype(np.int32), [say(value) for value in values]))
    count = len(parts[0] if isinstance(parts[0], np.ndarray) else parts[0][0])
    for first in range(0, count, _ROWS):
        yield _core.join_rows(pieces, parts, first, min(first + _ROWS, count), nan, infinity)
