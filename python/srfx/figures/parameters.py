"""Parameters of figures, checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from srfx import _validation as check
from srfx.figures.recipe import Check, Recipe
from srfx.models import as_function, as_target
from srfx.targets import Target

#: What the numbers of every figure must be, unless its recipe has other ranges.
RANGES: dict[str, Check] = {
    "eta": check.finite,
    "alpha0": check.non_negative,
    "alpha": check.positive,
    "beta": check.positive,
    "lam": check.non_negative,
    "noise": check.non_negative,
    "r": check.finite,
    "c": check.positive,
    "gamma": check.correlation,
    "readout": check.finite,
}

#: Least integers, unless its recipe has others. A standard error needs two networks.
LEAST = {"d": 2, "replicates": 2, "bins": 1, "seed": 0}


def checked(
    recipes: Mapping[str, Recipe], name: str, quick: bool, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Every parameter of a figure, checked: given, of ``quick``, or the default."""
    if not isinstance(quick, (bool, np.bool_)):
        raise TypeError(f"quick must be True or False; got {quick!r}")
    recipe = recipes[name]
    known = recipe.parameters
    for key in given:
        if key not in known:
            others = having(recipes, key)
            elsewhere = f"; figures that have it: {', '.join(others)}" if others else ""
            raise TypeError(
                f"figure {name} has no parameter {key!r}; it has {', '.join(known)}{elsewhere}"
            )
    values = known | (dict(recipe.quick) if quick else {}) | dict(given)
    values = {key: _checked(recipe, key, value, known[key]) for key, value in values.items()}
    recipe.consistent(values)
    return values


def having(recipes: Mapping[str, Recipe], key: str) -> list[str]:
    """Name the figures that have a parameter."""
    return [name for name, recipe in recipes.items() if key in recipe.parameters]


def _checked(recipe: Recipe, name: str, value: Any, default: Any) -> Any:
    """One parameter: of the kind that its default has."""
    if name in LEAST:
        least = recipe.least.get(name, LEAST[name])
        return check.integer(name, value, least, 2**64 - 1 if name == "seed" else None)
    if name in ("activation", "target"):
        # what a figure shows of a target is of one direction, unless its default has several
        return (as_target if isinstance(default, Target) else as_function)(name, value)
    if name == "targets":
        several = _sequence(value, "targets must be a function or a non-empty sequence of them")
        return tuple(as_function(name, item) for item in several)
    if name == "pairs":
        return _pairs(value)
    valid = (RANGES | dict(recipe.ranges))[name]
    if isinstance(default, tuple):
        return _numbers(name, value, valid)
    number = valid(name, value)
    if isinstance(number, np.ndarray):
        raise ValueError(f"{name} must be a single number in figure {recipe.name}; got {value!r}")
    return number


def _numbers(name: str, value: Any, valid: Check) -> tuple[float, ...]:
    """Return a number, or a sequence of them, as a tuple."""
    if isinstance(value, (range, set, frozenset)):
        value = list(value)
    array = np.atleast_1d(valid(name, value))
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"{name} must be a number or a non-empty sequence of numbers; got {value!r}"
        )
    if name != "lam" and np.unique(array).size < array.size:  # lam has one for each panel
        raise ValueError(f"{name} must hold distinct values; got {value!r}")
    return tuple(array.tolist())


def _sequence(value: Any, allowed: str) -> list[Any]:
    """Several functions, or a single one as a list of one."""
    if isinstance(value, str) or callable(value):
        return [value]
    if not isinstance(value, Iterable):
        raise TypeError(f"{allowed}; got {value!r}")
    out = list(value)
    if not out:
        raise ValueError(f"{allowed}; got {value!r}")
    return out


def _pairs(value: Any) -> tuple[tuple[Any, Any], ...]:
    allowed = (
        "pairs must be a non-empty sequence of pairs (activation, target), as in [('tanh', 'sin')]"
    )
    out = []
    for item in _sequence(value, allowed):
        if isinstance(item, str) or not isinstance(item, Sequence):
            raise TypeError(f"{allowed}; got {value!r}")
        if len(item) != 2:
            raise ValueError(f"{allowed}; got {item!r} among them")
        activation, target = item
        out.append(
            (
                as_function("the activation in pairs", activation),
                as_function("the target in pairs", target),
            )
        )
    return tuple(out)
