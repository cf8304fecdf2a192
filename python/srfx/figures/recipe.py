"""What a figure is: data about it, how it is computed, how it is drawn."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import xarray as xr

from srfx.figures.layout import Figure
from srfx.models import FloatArray

#: A check of a parameter: its name and value to numbers, as in `srfx._validation`.
Check = Callable[[str, object], "float | FloatArray"]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A figure, as `catalogue.figure` makes it."""

    name: str
    title: str
    #: Given a `jobs.Run` and, by keyword, every parameter: its signature has them and their
    #: defaults. Returns the data.
    compute: Callable[..., xr.Dataset]
    #: The picture from the data alone.
    draw: Callable[[xr.Dataset], Figure]
    #: Parameters that ``quick`` changes.
    quick: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    #: Of numbers, where they are not those of `parameters.RANGES`.
    ranges: Mapping[str, Check] = dataclasses.field(default_factory=dict)
    #: Of integers, where they are not those of `parameters.LEAST`.
    least: Mapping[str, int] = dataclasses.field(default_factory=dict)
    #: Checks, and completes in place, what concerns several parameters or the length of one.
    consistent: Callable[[dict[str, Any]], None] = lambda values: None
    #: What variables and coordinates are, beside or in place of `catalogue.MEANINGS`.
    meanings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    #: What the error bars of ``simulated`` are.
    bars: str = "standard error of the mean over replicate"
    #: Whether it has simulations that a store keeps.
    keeps: bool = True

    @property
    def parameters(self) -> dict[str, Any]:
        """Every parameter with its default."""
        signature = inspect.signature(self.compute)
        return {
            name: parameter.default
            for name, parameter in signature.parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
