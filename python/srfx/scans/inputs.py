"""The arguments of a scan: numbers, axes, paired axes with their labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from srfx import _validation as check
from srfx.models import FloatArray, Model, with_fields
from srfx.results import OBSERVABLES

if TYPE_CHECKING:
    import xarray as xr


@dataclasses.dataclass(frozen=True)
class Input:
    """One argument: a number, or values along a dimension."""

    values: FloatArray
    dim: str | None


def read_inputs(
    given: Mapping[str, Any],
) -> tuple[dict[str, Input], dict[str, int], dict[str, Any]]:
    """Values and dimension of each argument; sizes of the dimensions; labels along them."""
    inputs: dict[str, Input] = {}
    dims: dict[str, int] = {}
    owners: dict[str, str] = {}
    labels: dict[str, Any] = {}
    stamps: dict[str, tuple[str, Any]] = {}  # all that came with DataArrays, and with which
    for name, value in given.items():
        allowed = "a number, a non-empty one-dimensional sequence or a DataArray of finite numbers"
        dim: str | None = name
        stamp: Any = None
        if _is_dataarray(value):
            if value.ndim > 1:
                raise ValueError(f"{name} must have one dimension; got dimensions {value.dims}")
            dim = value.dims[0] if value.ndim else None
            if dim is not None and not isinstance(dim, str):
                raise TypeError(f"{name} must have a dimension named by text; got {dim!r}")
            if dim is not None and dim in given and dim != name and not _own_axis(given[dim], dim):
                raise ValueError(
                    f"{name} has the dimension {dim!r}, which is also an argument but not an axis "
                    "of its own: call the dimension something else"
                )
            if (
                dim is not None
                and dim not in given
                and (dim in _RESERVED or dim[:1] in "_." or "/" in dim)
            ):
                raise ValueError(f"{name} must not have a dimension called {dim!r}; rename it")
            if dim is not None and dim in value.coords:
                stamp = _labels(name, dim, value)
                if dim not in given:
                    labels.setdefault(dim, stamp)
                elif stamp.dtype.kind not in "iuf":
                    raise ValueError(
                        f"{name} must be labelled by numbers along {dim!r}, where the values of "
                        f"that axis are the labels; got {_listed(stamp)}: call the dimension "
                        "something else"
                    )
            value = value.values
        array = np.asarray(check.number_or_array(name, value, allowed, lambda x: ~np.isnan(x)))
        if array.ndim == 0:
            dim = None
        elif array.ndim != 1 or array.size == 0:
            raise ValueError(f"{name} must be {allowed}; got shape {array.shape}")
        if dim is not None:
            if dims.setdefault(dim, array.size) != array.size:
                raise ValueError(
                    f"{name} must have as many values as {owners[dim]}, with which it is paired "
                    f"along {dim!r} ({dims[dim]}); got {array.size}"
                )
            owners.setdefault(dim, name)
            if stamp is not None:
                _aligned(name, dim, stamp, *stamps.setdefault(dim, (name, stamp)))
        inputs[name] = Input(array, dim)
    for dim, (name, stamp) in stamps.items():
        if dim in inputs and not (_is_dataarray(given[dim]) and dim in given[dim].coords):
            _aligned(name, dim, stamp, dim, inputs[dim].values)
    for dim in dims:
        _distinct(dim, {name: i.values for name, i in inputs.items() if i.dim == dim})
    return inputs, dims, labels


_RESERVED = (
    *("alpha", "lam", "d", "r", "c", "gamma", "beta", "noise", "slope", "eta"),
    *("alpha0", "replicate"),
    *OBSERVABLES,
)


def _aligned(name: str, dim: str, stamp: Any, other: str, wanted: Any) -> None:
    """Refuse to pair values by place that are labelled as different ones."""
    if not _same(stamp, wanted):
        raise ValueError(
            f"{name} must have the coordinate of {other}, with which it is paired along {dim!r} "
            f"({_listed(wanted)}); got {_listed(stamp)}: align them first, as by reindex_like"
        )


def _same(labels: Any, wanted: Any) -> bool:
    """Whether labels are equal; what is no number (NaN, NaT) is equal to itself."""
    if labels.shape != wanted.shape:
        return False
    return bool(((labels == wanted) | ((labels != labels) & (wanted != wanted))).all())


def _labels(name: str, dim: str, value: xr.DataArray) -> NDArray[Any]:
    """Labels of a DataArray in the one form that memory, stores and files give back alike.

    Numbers and truth values keep their type, in the byte order of the machine; text is of fixed
    width; dates and time differences count nanoseconds.
    """
    import pandas as pd

    def refuse(got: str) -> NoReturn:
        raise TypeError(
            f"{name} must have labels along {dim!r} that are integers, float32, float64, bool, "
            f"text, datetime64 (1678 to 2262) or timedelta64; got {got}: convert them, as by "
            f".assign_coords({dim}=...), or take them off, by .drop_vars({dim!r})"
        )

    index = value.indexes.get(dim)
    if isinstance(index, pd.MultiIndex):
        refuse(f"a MultiIndex of {', '.join(map(repr, index.names))}")
    kept: Any = value[dim].dtype if index is None else index.dtype
    if not isinstance(kept, (np.dtype, pd.StringDtype)):
        refuse(f"dtype {kept}")
    labels = np.asarray(value[dim])
    kind = labels.dtype.kind
    if kind in "OUT":
        labels = labels.astype(object)
        for label in labels:
            if not isinstance(label, str):
                refuse(f"{label!r} of type {type(label).__name__}")
            if "\0" in label or any("\ud800" <= c <= "\udfff" for c in label):
                refuse(f"{label!r}, which files cannot hold")
        return labels.astype(str)
    if kind in "mM":
        fine = labels.astype(f"{kind}8[ns]")
        if not _same(fine.astype(labels.dtype), labels):
            refuse(f"{_listed(labels)}, beyond what counts nanoseconds")
        return fine
    if kind not in "biuf" or labels.dtype.itemsize not in ((4, 8) if kind == "f" else (1, 2, 4, 8)):
        refuse(f"{_listed(labels)} of dtype {labels.dtype}")
    return labels.astype(labels.dtype.newbyteorder("="))


def _listed(values: Any) -> str:
    return ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")


def _is_dataarray(value: object) -> bool:
    return check.of_loaded(value, "xarray", "DataArray")


def _own_axis(value: Any, name: str) -> bool:
    if _is_dataarray(value):
        return bool(value.dims == (name,))
    return np.ndim(value) == 1


def _distinct(dim: str, columns: Mapping[str, FloatArray]) -> None:
    table = np.stack(list(columns.values()), axis=1)
    _, first, inverse = np.unique(table, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.ravel()
    if len(first) == len(table):
        return
    again = int(np.flatnonzero(first[inverse] != np.arange(len(table)))[0])
    names = " and ".join(columns)
    row = ", ".join(f"{float(x):.10g}" for x in table[again])
    raise ValueError(
        f"{names} must hold distinct values along {dim!r}; {row} is at index "
        f"{int(first[inverse[again]])} and again at {again}"
    )


def check_ranges(
    model: Model, inputs: dict[str, Input], simulating: Mapping[str, Any] | None
) -> None:
    """Check ranges by the same doors as `solve` and the models."""
    fields = {n: i.values for n, i in inputs.items() if n in model.numeric_names}
    scalars = {n: float(np.ravel(np.asarray(v))[0]) for n, v in model.numeric.items()}
    for name, values in fields.items():
        with_fields(model, scalars | {name: values})
    check.positive("alpha", inputs["alpha"].values)
    check.non_negative("lam", inputs["lam"].values)
    if "d" in inputs:
        d = inputs["d"].values
        check.dimension("d", d)
        good = (d >= 2) & (d == np.round(d)) & np.isfinite(d)
        if simulating is not None and not good.all():
            bad = float(d[~good][0])
            raise ValueError(f"d must hold integers >= 2 in a simulation; got {bad!r}")
    for name, item in inputs.items() if simulating is not None else ():
        if name.startswith("alpha0") and np.isinf(item.values).any():
            raise ValueError(
                f"{name} must be finite in a simulation, which draws {name} d samples for the "
                "step; got inf"
            )
