"""Specifications of scans: a TOML file with the arguments of `srfx.scan`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from srfx import _files
from srfx import _validation as check
from srfx.cli.grids import parse_grid, spaced
from srfx.cli.options import loss_of, target_of
from srfx.models import Model, MultiStep, OneStep, SpikedRF
from srfx.targets import Target

_TABLES = ("model", "axes", "simulate", "output")
_OUTPUT = ("path", "variables", "bulk", "loss", "block_points", "max_in_flight")
_GRID = ("start", "stop", "count", "scale")
_MODELS: dict[str, type[Model]] = {
    "OneStep": OneStep,
    "MultiStep": MultiStep,
    "SpikedRF": SpikedRF,
}


def read_specification(path: Path) -> dict[str, Any]:
    """Read a specification file: the arguments of `scan` with ``axes`` as one of them.

    Parameters
    ----------
    path : Path
        A TOML file.

    Raises
    ------
    ValueError
        It is no TOML, or a table or key is unknown (the nearest known one is named) or missing.
    """
    tables = _read_toml(path)
    for name, table in tables.items():
        check.one_of("a table", name, _TABLES)
        if not isinstance(table, dict):
            raise ValueError(f"{name} must be a table, [{name}]; got {table!r}")
    for name in ("model", "axes"):
        if name not in tables:
            raise ValueError(f"the table [{name}] is missing in {str(path)!r}")
    output = tables.get("output", {})
    try:
        model = _model(tables["model"])
        arguments: dict[str, Any] = {"model": model, "axes": _axes(tables["axes"], model)}
        if "path" in output:
            arguments["out"] = _files.local("path in [output]", output["path"])
    except TypeError as error:  # in a file, a wrong type is a wrong value
        raise ValueError(str(error)) from None
    if "simulate" in tables:
        arguments["simulate"] = tables["simulate"]
    for key in output:
        check.one_of("a key of [output]", key, _OUTPUT)
    arguments |= {key: output[key] for key in _OUTPUT if key != "path" and key in output}
    if "loss" in output:
        arguments["loss"] = loss_of(output["loss"], "loss in [output]")
    return arguments


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    data = path.read_bytes()
    if b"\0" in data:  # no text in UTF-8 has it, and most letters of UTF-16 do
        raise ValueError(
            f"{str(path)!r} must be text in UTF-8; it looks like UTF-16 or like no text"
        )
    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # also digits without end, and brackets
        raise ValueError(f"{str(path)!r} is not valid TOML: {error}") from None


def _model(table: dict[str, Any]) -> Model:
    fields = dict(table)
    if "type" not in fields:
        raise ValueError('type is missing in [model]: give "OneStep", "MultiStep" or "SpikedRF"')
    kind = _MODELS[check.one_of("type in [model]", fields.pop("type"), tuple(_MODELS))]
    known = ("type", "directions", *(field.name for field in dataclasses.fields(kind)))
    for key in fields:
        check.one_of("a key of [model]", key, known)
    if "directions" in fields or "target" in fields:
        directions = fields.pop("directions", None)
        fields["target"] = target_of(
            fields.get("target", "sin"), directions, "directions in [model]"
        )
    several = isinstance(fields.get("target"), Target)
    for key in (*kind.numeric_names, "slope"):
        if isinstance(fields.get(key), (list, str, dict)) and not (key == "gamma" and several):
            raise ValueError(
                f"{key} in [model] must be a number; got {fields[key]!r}: grids go to [axes]"
            )
    return kind(**fields)


def _axes(table: dict[str, Any], model: Model) -> dict[str, Any]:
    known = ("alpha", "lam", "d", *model.numeric_names)
    axes = {}
    for name, value in table.items():
        check.one_of("a key of [axes]", name, (*known, "pairs"))
        if name != "pairs":
            axes[name] = _grid(name, value)
    groups = _groups(table.get("pairs", []))
    listed = [name for group in groups for name in group]
    for name in listed:
        if listed.count(name) > 1:
            raise ValueError(f"pairs in [axes] must name an axis once; {name!r} is there twice")
    for group in groups:
        import xarray as xr

        dim = "_".join(group)
        for name in group:
            if name not in axes:
                raise ValueError(f"pairs in [axes] names {name!r}, which is not an axis there")
            allowed = "a number, or a list or grid of them"
            values = check.number_or_array(name, axes[name], allowed, lambda x: ~np.isnan(x))
            if np.ndim(values) != 1:
                raise ValueError(
                    f"pairs in [axes] names {name!r}, which is no list or grid; got {axes[name]!r}"
                )
            axes[name] = xr.DataArray(values, dims=dim)
    return axes


def _groups(value: Any) -> list[list[str]]:
    good = isinstance(value, list) and all(
        isinstance(group, list) and len(group) > 1 and all(isinstance(n, str) for n in group)
        for group in value
    )
    if not good:
        raise ValueError(
            f'pairs in [axes] must be lists of names, [["eta", "alpha"]]; got {value!r}'
        )
    return list(value)


def _grid(name: str, value: Any) -> Any:
    """Read a number, a list, "0.2:3:50", "log:1e-4:1:30", or a table of start, stop and count."""
    if isinstance(value, str):
        try:
            return parse_grid(value.strip())
        except ValueError as error:
            raise ValueError(f"{name} in [axes]: {value!r} {error}") from None
    if not isinstance(value, dict):
        return value
    for key in value:
        check.one_of(f"a key of {name} in [axes]", key, _GRID)
    for key in ("start", "stop", "count"):
        if key not in value:
            raise ValueError(f"{name} in [axes] lacks {key}")
        allowed = int if key == "count" else (int, float)
        if not isinstance(value[key], allowed) or isinstance(value[key], bool):
            what = "an integer" if key == "count" else "a number"
            raise ValueError(f"{key} of {name} in [axes] must be {what}; got {value[key]!r}")
    scale = check.one_of(f"scale of {name}", value.get("scale", "linear"), ("linear", "log"))
    try:
        return spaced(value["start"], value["stop"], value["count"], scale == "log")
    except (ValueError, OverflowError) as error:  # integers beyond float64
        raise ValueError(f"{name} in [axes]: {value!r} {error}") from None
