"""The options that commands share, each in one place."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from srfx import _files
from srfx.cli.grids import grid_value, list_value
from srfx.models import OneStep, SpikedRF

#: Order of the axes of an outer product: the last varies fastest.
AXES = ("eta", "alpha0", "r", "c", "gamma", "beta", "noise", "d", "lam", "alpha")


class Local(click.Path):
    """A path on this machine: absolute, ``~`` expanded, no URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Check a path."""
        name = "a path" if param is None else param.get_error_hint(ctx)
        try:
            path = _files.local(name, value)
        except (TypeError, ValueError) as error:
            raise click.UsageError(str(error)) from None
        super().convert(str(path), param, ctx)
        return path


LOCAL = Local()


class Integer(click.types.IntParamType):
    """An integer in any spelling: 100000 or 1e5."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read one."""
        with contextlib.suppress(ValueError):
            return int(value)
        with contextlib.suppress(ValueError):
            if (number := float(value)).is_integer():
                return int(number)
        name = "a count" if param is None else param.get_error_hint(ctx)
        raise click.UsageError(f"{name} must be an integer; got {value!r}")


INTEGER = Integer()


def _grid(help: str) -> dict[str, Any]:
    return {"callback": grid_value, "metavar": "GRID", "help": help}


def _list(help: str) -> dict[str, Any]:
    return {"callback": list_value, "metavar": "LIST", "help": help}


def _file(help: str) -> dict[str, Any]:
    return {"type": LOCAL, "metavar": "FILE", "help": help}


_FLAGS = {
    "output": ("-o", "--output"),
    "format": ("--format", "format_"),
    "plot": ("--plot", "plot_file"),
    "progress": ("--progress/--no-progress",),
}
_OPTIONS: dict[str, dict[str, Any]] = {
    "activation": {"default": "tanh", "show_default": True, "help": "Activation of the network."},
    "target": {"default": "sin", "show_default": True, "help": "Activation of the target."},
    "eta": _grid("OneStep: learning rate of the step.  [default: 1]"),
    "alpha0": _grid("OneStep: samples of the step over d.  [default: 1.5]"),
    "r": _grid("SpikedRF: strength of the spike.  [default: 0.9]"),
    "c": _grid("SpikedRF: variance of the bulk.  [default: 1]"),
    "gamma": _grid("SpikedRF: alignment of the spike with the target.  [default: 1]"),
    "alpha": _grid("Samples of the readout over d.  [required]"),
    "lam": _grid("Ridge penalty.  [required]"),
    "beta": _grid("Width over d.  [default: 1]"),
    "noise": _grid("Variance of the label noise.  [default: 0]"),
    "d": _grid("Input dimension, for the 1/d correction.  [default: the limit]"),
    "x": _grid("Where to compute the density.  [default: 200 points over the support]"),
    "bulk": {
        "default": "isotropic",
        "show_default": True,
        "help": "isotropic, or one_step: the bulk as the step has really made it.",
    },
    "readout": _list("Values of the initial readout.  [default: 1]"),
    "weights": _list("Their probabilities.  [default: equal]"),
    "n_threads": {"type": INTEGER, "help": "Threads.  [default: all processors]"},
    "progress": {"default": None, "help": "[default: on a terminal]"},
    "output": _file("Write everything to FILE (.csv, .json, .nc)."),
    "format": {
        "type": click.Choice(["table", "csv", "json", "netcdf"]),
        "help": "Format of the output.  [default: a table, or by the suffix of FILE]",
    },
    "plot": _file("Draw to FILE."),
}
#: The first of those that describe a network.
NETWORK = "activation target eta alpha0 r c gamma alpha"


def options(names: str, **changes: Any) -> Callable[[Any], Any]:
    """Add shared options, named in order; ``changes`` are other texts of help, or settings."""

    def add(command: Any) -> Any:
        for name in reversed(names.split()):
            change = changes.get(name, {})
            settings = _OPTIONS[name] | (change if isinstance(change, dict) else {"help": change})
            flags = _FLAGS.get(name, (f"--{name.replace('_', '-')}",))
            command = click.option(*flags, **settings)(command)
        return command

    return add


def require(given: dict[str, Any], *names: str) -> None:
    """Refuse a command without options that it needs."""
    for name in names:
        if given.get(name) is None:
            raise click.UsageError(f"--{name} is required")


class Axes(dict[str, Any]):
    """The numeric options given, each list or grid along an axis of its own."""

    def __init__(self, options: dict[str, Any]) -> None:
        given = {name: options[name] for name in AXES if options.get(name) is not None}
        varying = [name for name, value in given.items() if isinstance(value, np.ndarray)]
        for name, value in given.items():
            if name in varying:
                value = value.reshape(value.shape + (1,) * (len(varying) - 1 - varying.index(name)))
            self[name] = value


def model_of(axes: Axes, options: dict[str, Any]) -> SpikedRF | OneStep:
    """Make the model that the options describe."""
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
