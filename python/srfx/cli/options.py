"""The options that commands share, each in one place."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import numpy as np

from srfx import _files
from srfx import _validation as check
from srfx.cli.grids import grid_value, list_value, matrix_value, read_grid
from srfx.losses import LABELS, LOSS_NAMES, Huber, Loss, Quantile, as_loss
from srfx.models import MAX_STEPS, AnyTarget, FloatArray, Model, MultiStep, OneStep, SpikedRF
from srfx.targets import ALSO, TARGET_NAMES, Target

#: Options that a network after gradient steps has, and spiked random features.
_STEP, _SPIKE = ("eta", "alpha0"), ("r", "c", "gamma", "spikes", "alignment", "variances")


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
        """Read a count."""
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


def _text(help: str, metavar: str = "GRID") -> dict[str, Any]:
    """Describe an option whose meaning depends on others: `model_of` reads it."""
    return {"metavar": metavar, "help": help}


def _matrix(help: str) -> dict[str, Any]:
    return {"callback": matrix_value, "metavar": "ROWS", "help": help}


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
    "target": {
        "default": "sin",
        "show_default": True,
        "help": "Activation of the target; or product, sign_product (parity) or max of several "
        "directions.",
    },
    "directions": {"type": INTEGER, "help": "How many directions these have.  [default: 2]"},
    "eta": _text("OneStep: learning rate of the step.  [default: 1]"),
    "alpha0": _text("OneStep: samples of the step over d.  [default: 1.5]"),
    "steps": {
        "type": INTEGER,
        "help": "MultiStep: so many steps. Then --eta and --alpha0 have a number or a grid "
        "start:stop:count for each, as in 2,1, or one for all.",
    },
    "r": _grid("SpikedRF: strength of the spike.  [default: 0.9]"),
    "c": _grid("SpikedRF: variance of the bulk.  [default: 1]"),
    "gamma": _text(
        "SpikedRF: alignment of the spike with the target; with each of its several directions, as "
        "in 0.6,-0.7.  [default: 1]"
    ),
    "spikes": _matrix(
        "SpikedRF: several spikes, their strengths in each group of neurons: a row a group, as in "
        "'1,0.3;-0.4,1.2'. Then --r multiplies them and --weights are those of the groups."
    ),
    "alignment": _matrix("With --spikes: a row a direction of the target, a column a spike."),
    "variances": _list("With --spikes: variance of the bulk of each group.  [default: that of c]"),
    "alpha": _grid("Samples of the readout over d.  [required]"),
    "lam": _grid("Ridge penalty.  [required]"),
    "beta": _grid("Width over d.  [default: 1]"),
    "noise": _grid("Variance of the label noise.  [default: 0]"),
    "labels": {
        "type": click.Choice(LABELS),
        "default": "real",
        "show_default": True,
        "help": "Labels: the target and its noise; +1 and -1 by the sign of that; or drawn with "
        "probability 1/(1 + exp(-slope target)).",
    },
    "slope": _grid("With --labels logit: its slope.  [default: 1]"),
    "loss": {
        "callback": lambda ctx, param, text: loss_of(text),
        "default": "square",
        "show_default": True,
        "help": f"Loss of the readout: {', '.join(LOSS_NAMES)}, huber:DELTA or quantile:TAU. Those "
        "of classification need --labels sign or logit.",
    },
    "d": _grid("Input dimension, for the 1/d correction.  [default: the limit]"),
    "x": _grid("Where to compute the density.  [default: 200 points over the support]"),
    "bulk": {
        "default": "isotropic",
        "show_default": True,
        "help": "isotropic; or one_step, multi_step: the bulk as the steps have really made it.",
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
NETWORK = "activation target directions eta alpha0 steps r c gamma spikes alignment variances alpha"


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
    """The numbers given by name, each list or grid along an axis of its own.

    Parameters
    ----------
    given : iterable
        Names that share a value, and the value: the axes of an outer product in their order, of
        which the last varies fastest.
    """

    def __init__(self, given: Iterable[tuple[tuple[str, ...], float | FloatArray]]) -> None:
        given = list(given)
        varying = [names for names, value in given if isinstance(value, np.ndarray)]
        for names, value in given:
            if isinstance(value, np.ndarray):
                after = len(varying) - 1 - varying.index(names)
                value = value.reshape(value.shape + (1,) * after)
            self |= dict.fromkeys(names, value)

    def only(self, *allowed: str) -> None:
        """Refuse lists and grids of other names."""
        for name, value in self.items():
            if name not in allowed and isinstance(value, np.ndarray):
                flags = " and ".join(f"--{x}" for x in allowed)
                raise click.UsageError(
                    f"{flag_of(name)} must be a single number; {flags} may be lists or grids"
                )


def flag_of(name: str) -> str:
    """Name the option that gives a number: --eta of eta2."""
    return "--" + re.sub(r"(?<=^eta)\d+$|(?<=^alpha0)_\d+$", "", name)


def model_of(options: dict[str, Any]) -> tuple[Model, Axes]:
    """Make the model that the options describe; and return all numbers given, those of it too."""
    given = {
        name: options[name] for name in (*_STEP, "steps", *_SPIKE) if options[name] is not None
    }
    stepping = any(name in given for name in (*_STEP, "steps"))
    if stepping == any(name in given for name in _SPIKE):
        names = " and ".join(f"--{name}" for name in given) or "neither"
        raise click.UsageError(
            "give --eta or --alpha0 (the network after one step; after several with --steps), or "
            f"--r, --c, --gamma or --spikes (spiked random features), not both; got {names}"
        )
    target, steps = target_of(options["target"], options["directions"]), given.get("steps")
    if steps is not None:
        check.integer("--steps", steps, 1, MAX_STEPS)
    own = ("readout", "weights", "labels")
    fields = {n: options[n] for n in own if options.get(n) is not None}
    fields |= {n: given[n] for n in ("spikes", "alignment", "variances") if n in given}
    numbers: list[tuple[tuple[str, ...], float | FloatArray]] = []
    for name in (*_STEP, "r", "c", "gamma", "beta", "noise", "slope", "d", "lam", "alpha"):
        value = options.get(name)
        if value is None:
            continue
        if name in _STEP and steps is not None:
            numbers += _of_steps(name, value, steps)
            continue
        value = read_grid(value, f"--{name}") if isinstance(value, str) else value
        if name == "gamma" and isinstance(target, Target):
            fields[name] = np.atleast_1d(value)
        else:
            numbers.append(((name,), value))
    axes = Axes(numbers)
    kind: type[Model] = SpikedRF if not stepping else OneStep if steps is None else MultiStep
    if steps is not None:
        fields |= {
            name: tuple(axes.get(name + middle + str(i), default) for i in range(1, steps + 1))
            for name, middle, default in (("eta", "", 1.0), ("alpha0", "_", 1.5))
        }
    fields |= {name: axes[name] for name in (*kind.numeric_names, "slope") if name in axes}
    return kind(options["activation"], target, **fields), axes


def loss_of(text: Any, where: str = "--loss") -> Loss:
    """Read a loss: a name, huber:0.5 or quantile:0.9."""
    if not isinstance(text, str):
        raise ValueError(f"{where} must be text, as hinge or huber:0.5; got {text!r}")
    name, _, number = text.partition(":")
    kinds: dict[str, type[Huber] | type[Quantile]] = {"huber": Huber, "quantile": Quantile}
    if name not in kinds:
        return as_loss(text)
    try:
        value = float(number)
    except ValueError:
        raise click.UsageError(
            f"{where} must have a number after the colon, as in huber:0.5 or quantile:0.9; got "
            f"{text!r}"
        ) from None
    return kinds[name](value)


def target_of(name: Any, directions: Any, how: str = "--directions") -> AnyTarget:
    """Make a target of its name, and of how many directions it has, where that is given."""
    if name in (*TARGET_NAMES, *ALSO):
        return Target(name, 2 if directions is None else directions)
    if directions is not None:
        raise ValueError(
            f"{how} must be given with one of the targets {', '.join((*TARGET_NAMES, *ALSO))} "
            f"alone; got {directions} with {name!r}"
        )
    return name  # type: ignore[no-any-return]


def _of_steps(name: str, text: str, steps: int) -> list[tuple[tuple[str, ...], float | FloatArray]]:
    """Read an entry for each step, of which an empty one is left out, or one for all."""
    names = [f"{name}{'_' if name == 'alpha0' else ''}{i}" for i in range(1, steps + 1)]
    entries = text.split(",")
    if len(entries) not in (1, steps):
        raise click.UsageError(
            f"--{name} must have an entry for each of the {steps} steps, or one for all; got "
            f"{text!r}"
        )
    if len(entries) == 1:
        return [(tuple(names), read_grid(text, f"--{name}"))]
    return [
        ((n,), read_grid(entry, f"--{name}"))
        for n, entry in zip(names, entries, strict=True)
        if entry.strip()
    ]
