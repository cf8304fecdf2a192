"""What the bridges to other packages have in common: errors and slopes of a batch of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from srfx import _validation as check
from srfx.gradient import gradient
from srfx.models import FloatArray, check_model, with_fields
from srfx.results import ERRORS
from srfx.theory import solve


def given(model: Any, alpha: Any, lam: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Check the names of arguments and put them in one order; fields left out are the model's."""
    check_model(model)
    for name in fields:
        check.one_of("a field", name, model.numeric_names)
    return {"alpha": alpha, "lam": lam, **fields}


def evaluate(
    model: Any,
    settings: Mapping[str, Any],
    arguments: Mapping[str, Any],
    of: Sequence[str],
) -> list[FloatArray]:
    """Solve a batch: both errors, then for each name in ``of`` the slopes of both.

    Parameters
    ----------
    model : SpikedRF or OneStep
        Fields among the arguments are replaced.
    settings : mapping
        ``d``, ``bulk`` and ``n_threads`` of `solve`.
    arguments : mapping
        alpha, lam and fields, of shapes that broadcast.
    of : sequence of str
        Arguments to differentiate in.

    Returns
    -------
    list of array
        Of the common shape of the arguments; NaN where a point did not converge.
    """
    values = {name: np.array(value, dtype=np.float64) for name, value in arguments.items()}
    shape = np.broadcast_shapes(*(value.shape for value in values.values()))
    fields = {name: v[()] for name, v in values.items() if name not in ("alpha", "lam")}
    solution = solve(
        with_fields(model, fields),
        values["alpha"][()],
        values["lam"][()],
        errors="record",
        **settings,
    )
    if solution.shape != shape:
        raise ValueError(
            "model must have single numbers in the fields that are not given; those of "
            f"{model!r} make of arguments of shape {shape} results of shape {solution.shape}"
        )
    slopes = gradient(solution, of, ERRORS, settings["n_threads"]) if of else {}
    out = [getattr(solution, error) for error in ERRORS]
    out += [slopes[error, name] for name in of for error in ERRORS]
    return [np.broadcast_to(np.asarray(value, dtype=np.float64), shape) for value in out]
