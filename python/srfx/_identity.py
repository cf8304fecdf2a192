"""What a stored scan is known by: the values that the user gave, and how they are compared.

Arrays and functions that the user gave are kept as a *sketch*: some sixty weighted means of
consecutive values, which a change of any value moves. The last digits of a function depend on the
kind of processor, and so do those of a logarithmic axis. So nothing that has to be found again is
hashed: sketches and numbers are compared, with a tolerance far above rounding errors.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srfx import _core
from srfx.models import Activation, AnyTarget, FloatArray, compiled, label
from srfx.targets import Target, compiled_target

if TYPE_CHECKING:
    from srfx.weights import EmpiricalBulk

#: Means in a sketch.
PARTS = 64

#: Means agree to this, relative to the size of the values: those of a function; of a function with
#: a name, which may be of single precision; of arrays.
FUNCTION, NAMED, ARRAY = 1e-9, 1e-4, 1e-11

#: What a function rises between two points where it is tried, relative to its size, if it is steep.
_STEEP = 0.02

#: Below this the values of a function, that is |x|, count as its middle; a function that varies by
#: less than this part of its mean there varies by little more than rounding errors.
_MIDDLE, _FLAT = 4, 1e-5

#: Single numbers agree to this, relative to the larger one.
NUMBER = 1e-13


#: What labels are, by the kind of their type.
_KINDS = {
    **dict.fromkeys("iuf", "numbers"),
    "b": "truth values",
    "U": "text",
    "M": "dates",
    "m": "time differences",
}


# --- what is known ---


def sketch(values: NDArray[Any], middle: slice | NDArray[np.bool_] = slice(None)) -> dict[str, Any]:
    """Return few numbers that a change of any value moves, whatever the layout in memory.

    Parameters
    ----------
    values : array
        Finite numbers; they count in C order.
    middle : slice or mask
        Of the values, those that give the size which differences are relative to.
    """
    flat = np.ascontiguousarray(values, dtype=np.float64).ravel()
    # From 1/2 to 3/2 in no order, so that values that trade places show.
    weights = 0.5 + (np.arange(flat.size) * ((math.sqrt(5) - 1) / 2)) % 1.0
    weighted = weights * flat
    means = [_short(float(part.mean())) for part in np.array_split(weighted, _parts(flat.size))]
    return {"size": _short(float(np.abs(weighted[middle]).mean())), "means": means}


def _parts(count: int) -> int:
    return min(PARTS, count)


def _short(x: float) -> float:
    return float(f"{x:.15g}")


@functools.cache
def _grid() -> FloatArray:
    """Give the points where functions are tried."""
    return np.linspace(-12.1, 12.3, 2**16 + 1)


@functools.cache
def _far() -> FloatArray:
    """Give the points beyond, where a large r or c leads; dense where they begin."""
    beyond = np.geomspace(12, 200, 2**14)
    return np.concatenate([-beyond[::-1], beyond])


@functools.cache
def _cloud(directions: int) -> FloatArray:
    """Give the points where targets of several directions are tried: they fill a cube evenly."""
    steps = np.sqrt(np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53]))
    places = steps[:directions, np.newaxis] * np.arange(1, 2**15 + 1) % 1.0
    return np.asarray(10 * places - 5)


def _of_target(target: Target) -> str | dict[str, Any]:
    """Return what a target is known by: its name, or for a callable its values and planes."""
    if isinstance(target.fn, str):
        return label(target)
    planes = [x for normal, offset in target.kinks for x in (*normal, offset)]
    known: dict[str, Any] = {"function": label(target), "kinks": planes}
    known["directions"] = target.directions
    if target.name is not None:
        known["name"] = target.name
    values = _core.evaluate_target(compiled_target(target), _cloud(target.directions))
    _set_values(known, values, slice(None))
    return known


def _set_values(known: dict[str, Any], values: FloatArray, middle: Any) -> FloatArray:
    """Note the centre of values, and what they are about it, which is returned."""
    centre = _short(float(values[middle].mean()))
    centred = values - centre  # a large constant would hide the rest, which the network learns by
    known["values"] = sketch(centred, middle)
    size = known["values"]["size"] = max(known["values"]["size"], _FLAT * abs(centre))
    known["centre"] = {"size": max(size, abs(centre)), "means": [centre]}
    return centred


def of_function(function: AnyTarget) -> str | dict[str, Any]:
    """Return what a function is known by: its name, or for a callable its values and kinks."""
    if isinstance(function, str):
        return function
    if isinstance(function, Target):
        return _of_target(function)
    core, grid = compiled(function), _grid()
    middle = np.abs(grid) < _MIDDLE
    known: dict[str, Any] = {"function": label(function), "kinks": list(function.kinks)}
    if function.name is not None:
        known["name"] = function.name
    values = _core.evaluate(core, grid)
    centred = _set_values(known, values, middle)
    centre, size = known["centre"]["means"][0], known["values"]["size"]
    known["steps"] = sketch(_steps(core, values, centred, size))
    known["steps"]["size"] = max(known["steps"]["size"], size / 100)  # where a constant rounds them
    known["far"] = _far_values(function, centre, size)
    if function.derivative is not None:
        known["derivative"] = sketch(_core.evaluate_derivative(core, grid), middle)
    return known


def _far_values(function: Activation, centre: float, size: float) -> dict[str, Any]:
    """Return the sketch of a function far out, where it may overflow: of logarithms, with signs.

    Where it is not defined, which a scan that does not lead there never sees, it counts as zero.
    """
    values = np.zeros(_far().size)
    with np.errstate(all="ignore"), contextlib.suppress(ValueError, ArithmeticError):
        values = np.asarray(function.fn(_far().copy()), dtype=np.float64) - centre
        values = np.nan_to_num(values / (size or 1))
    known = sketch(np.sign(values) * np.log1p(np.abs(values)))
    if size:  # what decays may be nothing but rounding errors out there
        known["size"] = max(known["size"], 1.0)
    return known


def _steps(
    core: _core.Activation, values: FloatArray, centred: FloatArray, size: float
) -> FloatArray:
    """Return where a function steps between points of the grid, which shows in no value at them.

    The place in each interval, as a part of it, times the height; none where it is not steep.
    """
    grid = _grid()
    height = np.abs(np.diff(values))
    height -= _STEEP * np.maximum(size, np.maximum(np.abs(centred[1:]), np.abs(centred[:-1])))
    at = np.flatnonzero(height > 0)
    level = (values[at] + values[at + 1]) / 2
    up = values[at + 1] > values[at]
    low, width = grid[at], np.diff(grid)[at]
    # so many that it does not matter on which side a slope passes the level at the first middle
    for halving in range(1, 37) if at.size else ():
        middle = low + width / 2**halving
        low = np.where((_core.evaluate(core, middle) > level) == up, low, middle)
    places = np.zeros(height.size)
    places[at] = height[at] * (low - grid[at]) / width
    return places


def of_weights(W: FloatArray, v: FloatArray, theta: FloatArray, *made: Any) -> Any:
    """Return what given weights are known by, and a stamp of the numbers made of them."""
    return {"W": sketch(W), "v": sketch(v), "theta": sketch(theta), "stamp": _stamp(*made)}


def of_bulk(bulk: str | EmpiricalBulk) -> str | dict[str, Any]:
    """Return what a bulk is known by: its name, or the weights that it was made of.

    One whose fields were given, or changed since, is known by these.
    """
    if isinstance(bulk, str):
        return bulk
    shape = {"p": bulk.p, "d": bulk.d}
    given = bulk.given
    made = (bulk.r, bulk.c, bulk.gamma, bulk.eigenvalues, bulk.vectors)
    if given is not None and given["stamp"] == _stamp(*made):
        return {"bulk": "weights", **shape, **{key: given[key] for key in ("W", "v", "theta")}}
    return {
        "bulk": "fields",
        **shape,
        **{name: float(getattr(bulk, name)) for name in ("r", "c")},
        "gamma": bulk.gamma if isinstance(bulk.gamma, float) else sketch(bulk.gamma),
        "eigenvalues": sketch(bulk.eigenvalues),
        "vectors": sketch(bulk.vectors),
    }


def of_argument(values: FloatArray, dim: str | None) -> float | dict[str, Any]:
    """Return what an argument is known by. The store has the values of an axis beside it."""
    if dim is None:
        return float(values)
    first, last = (f"{float(v):.10g}" for v in (values[0], values[-1]))
    digest = _stamp(values)
    return {
        "count": int(values.size),
        "first": first,
        "last": last,
        "sha256": digest,
        "dimension": dim,
    }


def of_labels(labels: NDArray[Any], dim: str) -> dict[str, Any]:
    """Return what labels are known by, whatever the width of their type."""
    plain = labels.astype(str) if labels.dtype.kind in "mM" else labels
    return {
        "kind": _KINDS[labels.dtype.kind],
        "count": int(labels.size),
        "first": str(plain[0]),
        "last": str(plain[-1]),
        "sha256": _hashed(plain.tolist()),
        "dimension": dim,
    }


def _stamp(*arrays: Any) -> str:
    return _sha256(b"".join(np.ascontiguousarray(a, dtype="<f8").tobytes() for a in arrays))


def _hashed(plain: Any) -> str:
    import json

    return _sha256(json.dumps(plain, sort_keys=True).encode())


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


# --- names for records ---


def fingerprint(facts: Any) -> str:
    """Hash plain values and what is known of functions and bulks.

    Means are rounded to their tolerance, a million times the rounding errors of a function: equal
    fingerprints mean equal facts, and equal facts have other fingerprints next to never.
    """
    return _hashed(_rounded(facts, FUNCTION))


def _rounded(facts: Any, tolerance: float) -> Any:
    if isinstance(facts, Mapping) and "means" in facts:
        least = facts["size"] or max(map(abs, facts["means"]))  # zero in its middle
        exponents = [math.frexp(max(least, abs(mean)))[1] for mean in (0.0, *facts["means"])]
        steps = [max(tolerance * 2.0**exponent, math.ulp(0.0)) for exponent in exponents[1:]]
        means = zip(facts["means"], steps, strict=True)
        return [exponents, *(round(mean / step) for mean, step in means)]
    if isinstance(facts, Mapping):
        tolerance = NAMED if "name" in facts else tolerance
        known = {key: value for key, value in facts.items() if key != "function"}
        return {key: _rounded(value, tolerance) for key, value in known.items()}
    if isinstance(facts, (list, tuple)):
        return [_rounded(value, tolerance) for value in facts]
    return facts


def recorded(function: AnyTarget) -> str:
    """Name a function for a record; a callable by its values too, since its name says little."""
    if isinstance(function, str) or function.name is not None:
        return label(function)
    return f"{label(function)} with values {fingerprint(of_function(function))[:16]}"


# --- comparisons ---


def close(a: Any, b: Any) -> NDArray[np.bool_]:
    """Tell which values agree, numbers but for their last digits; NaN and NaT with themselves.

    Among numbers of both signs, such as those of ``np.arange(-0.3, 0.4, 0.1)``, zero is nothing but
    last digits of the others.
    """
    a, b = np.asarray(a), np.asarray(b)
    same = np.asarray((a == b) | ((a != a) & (b != b)))
    if "f" not in (kinds := {a.dtype.kind, b.dtype.kind}) or not kinds <= set("iuf"):
        return same
    size = np.maximum(np.abs(a), np.abs(b))
    with np.errstate(invalid="ignore"):  # inf - inf
        near = np.isfinite(size) & (np.abs(a - b) <= NUMBER * size)
    if all(values.size and values.min() < 0 < values.max() for values in (a, b)):
        near |= size <= NUMBER / 100 * np.max(size, where=np.isfinite(size), initial=0.0)
    return np.asarray(near | same)


def differences(
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    values: Mapping[str, tuple[NDArray[Any] | None, NDArray[Any]]],
) -> Iterator[str]:
    """Say in what two specifications differ, and of each thing the first difference.

    Parameters
    ----------
    found, wanted : mapping
        Specifications in plain values: that of a store, and that asked for.
    values : mapping
        For arguments and labels that differ, the values in the store (None: lost) and those
        asked for.
    """
    for key in sorted({*found, *wanted}):
        a, b = found.get(key), wanted.get(key)
        if a == b:
            continue
        if key in values:
            yield from _arguments(key, a, b, *values[key])
        elif key in ("activation", "target"):
            yield from _functions(key, a, b)
        elif key == "bulk":
            yield from _bulks(key, a, b)
        elif isinstance(a, dict) and isinstance(b, dict):  # settings of a simulation
            yield from differences(a, b, {})
        else:
            yield from _plain(key, a, b)


def _both(name: str, found: Any, wanted: Any) -> str:
    return f"{name}: {_said(found)} in the store, {_said(wanted)} asked for"


def _said(value: Any) -> str:
    if isinstance(value, dict) and "count" in value:
        return f"{value['count']} values from {value['first']} to {value['last']}"
    if isinstance(value, dict) and "function" in value:
        return str(value["function"])
    if isinstance(value, dict) and "bulk" in value:
        what = "weights" if value["bulk"] == "weights" else "fields of an EmpiricalBulk"
        return f"{what} with p = {value['p']} and d = {value['d']}"
    if isinstance(value, list):
        return "(" + ", ".join(map(str, value)) + ")"
    if isinstance(value, np.floating):
        return repr(float(value))
    return "nothing" if value is None else str(value)


def _plain(name: str, found: Any, wanted: Any) -> Iterator[str]:
    """Compare lists of numbers by their first difference, everything else as a whole."""
    if not (_are_numbers(found) and _are_numbers(wanted) and len(found) == len(wanted)):
        yield _both(name, found, wanted)
        return
    different = np.flatnonzero(~close(found, wanted))
    if different.size:
        i = int(different[0])
        yield _both(f"{name}[{i}]", found[i], wanted[i])


def _are_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(x, (int, float)) for x in value)


def _arguments(
    name: str, found: Any, wanted: Any, stored: NDArray[Any] | None, asked: NDArray[Any]
) -> Iterator[str]:
    along = [x["dimension"] if isinstance(x, dict) else None for x in (found, wanted)]
    kinds = [x.get("kind") if isinstance(x, dict) else None for x in (found, wanted)]
    if kinds[0] != kinds[1]:
        yield _both(name, *kinds)
    elif stored is None:
        yield _both(name, found, wanted) + ", whose values in the store are lost"
    elif along[0] != along[1] or stored.shape != asked.shape:
        yield _both(name, found, wanted)
    elif not close(stored, asked).all():
        if along[0] is None:
            yield _both(name, float(stored), float(asked))
        else:
            i = int(np.flatnonzero(~close(stored, asked))[0])
            yield _both(f"{name}[{i}]", stored[i], asked[i])


#: What is compared of two functions, and what it is of.
_SKETCHES = {
    "centre": "values",
    "values": "values",
    "steps": "steps",
    "far": "logarithms of values",
    "derivative": "derivatives",
}


def _functions(name: str, found: Any, wanted: Any) -> Iterator[str]:
    if not (isinstance(found, dict) and isinstance(wanted, dict)) or any(
        found.get(key) != wanted.get(key) for key in ("name", "directions")
    ):
        yield _both(name, found, wanted)
        return
    yield from _plain(f"kinks of {name}", found["kinks"], wanted["kinks"])
    tolerance = FUNCTION if found.get("name") is None else NAMED
    for key, what in _SKETCHES.items():
        a, b = found.get(key), wanted.get(key)
        if a is None or b is None:
            if a != b:
                have = ["none" if x is None else "one" for x in (a, b)]
                yield _both(f"derivative of {name}", *have)
            continue
        where = _first(a, b, tolerance)
        if where is not None and "directions" in found:
            yield f"{_both(name, found, wanted)} (of their {what} a mean is {_two(a, b, where)})"
        elif where is not None:
            grid = _far() if key == "far" else _grid()
            grid = grid[np.abs(grid) < _MIDDLE] if key == "centre" else grid
            part = np.array_split(grid, len(a["means"]))[where]
            yield (
                f"{_both(name, found, wanted)} (of their {what} between x = {part[0]:.3g} and "
                f"{part[-1]:.3g} a mean is {_two(a, b, where)})"
            )


def _bulks(name: str, found: Any, wanted: Any) -> Iterator[str]:
    if not (isinstance(found, dict) and isinstance(wanted, dict)) or any(
        found[key] != wanted[key] for key in ("bulk", "p", "d")
    ):
        yield _both(name, found, wanted)
        return
    for key in ("W", "v", "theta", "r", "c", "gamma", "eigenvalues", "vectors"):
        a, b = found.get(key), wanted.get(key)
        if isinstance(a, float) and not close(a, b):
            yield _both(f"{name}: {key}", a, b)
            return
        where = _first(a, b, ARRAY) if isinstance(a, dict) else None
        if where is not None:
            yield f"{name}: a mean of {key}{_place(key, where, found)} is {_two(a, b, where)}"
            return


def _place(key: str, part: int, bulk: Mapping[str, Any]) -> str:
    """Say where a mean begins in what `from_weights` was given."""
    count = {"W": bulk["p"] * bulk["d"], "v": bulk["d"], "theta": bulk["d"]}.get(key)
    if count is None:
        return ""
    first = int(np.array_split(np.arange(count), _parts(count))[part][0])
    row, column = divmod(first, bulk["d"])
    return f" from {f'row {row}, column {column}' if key == 'W' else f'index {first}'} on"


def _first(found: Any, wanted: Any, tolerance: float) -> int | None:
    """Index of the first mean that differs."""
    a, b = np.array(found["means"]), np.array(wanted["means"])
    size = max(found["size"], wanted["size"])
    different = np.abs(a - b) > tolerance * np.maximum(size, np.maximum(np.abs(a), np.abs(b)))
    return int(np.argmax(different)) if different.any() else None


def _two(found: Any, wanted: Any, where: int) -> str:
    return f"{found['means'][where]!r} in the store, {wanted['means'][where]!r} asked for"
