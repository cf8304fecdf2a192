"""What a scan is: axes, their product, and the blocks it is cut into."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from srfx import _identity, _replicates
from srfx import _validation as check
from srfx.config import provenance, version
from srfx.losses import Chosen, Loss, chosen, loss_name
from srfx.models import (
    FloatArray,
    Model,
    check_model,
    group_count,
    structure,
    with_fields,
)
from srfx.results import ERRORS, LOSS_OBSERVABLES, OBSERVABLES, describe, status_flags
from srfx.scans.cost import chunk_of, dtype_of, seconds_of, slow_dims
from srfx.scans.inputs import Input, check_ranges, read_inputs
from srfx.theory import solve
from srfx.weights import EmpiricalBulk, inputs_of

if TYPE_CHECKING:
    import xarray as xr

#: Relative accuracy aimed at; part of what a store is compared by.
TOLERANCE = 1e-10

#: What is kept, in words.
_NAMES = OBSERVABLES | LOSS_OBSERVABLES | {"duality_gap": "duality gap over objective"}

_DEFAULTS = {"n_test": None, "seed": 0, "dtype": "float64", "literal": False}
_SIMULATE = ("d", "replicates", *_DEFAULTS)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A validated scan and its blocks.

    Attributes
    ----------
    model : SpikedRF, OneStep or MultiStep
        With scalar fields.
    inputs : dict
        Every numeric argument by name.
    dims : dict
        Sizes of the dimensions in the order of the result; ``replicate`` is the last.
    labels : dict
        Coordinates that came with DataArrays, by dimension.
    order : tuple of str
        The dimensions in the order of computation: coefficients change slowest.
    variables : tuple of str
        What is kept.
    bulk : object
        As `solve` takes it.
    simulate : dict or None
        Arguments of `simulate`, replicates apart.
    chunk : dict
        Size of a block along each dimension.
    loss : str, Huber or Quantile
        As `solve` takes it.
    """

    model: Model
    inputs: dict[str, Input]
    dims: dict[str, int]
    labels: dict[str, Any]
    order: tuple[str, ...]
    variables: tuple[str, ...]
    bulk: Any
    simulate: dict[str, Any] | None
    chunk: dict[str, int]
    loss: Loss = "square"

    @property
    def points(self) -> int:
        """Number of points, replicates included."""
        return math.prod(self.dims.values())

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return math.prod(self.counts)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks along each dimension, in computing order."""
        return tuple(-(-self.dims[dim] // self.chunk[dim]) for dim in self.order)

    @property
    def bytes(self) -> int:
        """Size of what is kept."""
        return self.points * sum(dtype_of(name).itemsize for name in self.variables)

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        """Size of a block, in the order of the result."""
        return tuple(self.chunk[dim] for dim in self.dims)

    def box(self, block: int) -> dict[str, slice]:
        """Where a block lies."""
        index = np.unravel_index(block, self.counts) if self.order else ()
        return {
            dim: slice(
                int(i) * self.chunk[dim], min((int(i) + 1) * self.chunk[dim], self.dims[dim])
            )
            for dim, i in zip(self.order, index, strict=True)
        }

    def index(self, block: int) -> tuple[int, ...]:
        """Position of a block among the chunks of the result."""
        box = self.box(block)
        return tuple(box[dim].start // self.chunk[dim] for dim in self.dims)

    def box_points(self, block: int) -> int:
        """Points of a block."""
        return math.prod(s.stop - s.start for s in self.box(block).values())

    def resumed(self, chunks: tuple[int, ...], arguments: Mapping[str, FloatArray]) -> Plan:
        """Return the same scan in the blocks of a store, and with its last digits of arguments."""
        kept = {name: Input(values, self.inputs[name].dim) for name, values in arguments.items()}
        chunk = dict(zip(self.dims, chunks, strict=True))
        return dataclasses.replace(self, chunk=chunk, inputs=self.inputs | kept)

    def seconds(self, lengths: Mapping[str, int] | None = None) -> float:
        """Estimated time of one thread for a box of the given lengths: the whole by default."""
        lengths = self.dims if lengths is None else lengths
        return seconds_of(self, lengths)

    def probe(self) -> None:
        """Solve two corners, so that what `solve` refuses or warns of is said before any work."""
        if self.simulate is not None:
            self._probe_simulation()
            return
        corners = {name: item.values for name, item in self.inputs.items()}
        for name, values in corners.items():
            if values.ndim:
                corners[name] = np.array([values.min(), values.max()])
        solution = solve_box(self.model, corners, self.bulk, threads=1, loss=self.loss)
        shapes = {name: np.shape(getattr(solution, name)) for name in solution.observables}
        for name in self.variables:
            if shapes[name] != solution.shape:
                allowed = [n for n, shape in shapes.items() if shape == solution.shape]
                raise ValueError(
                    f"variables must hold one number a point, as {', '.join(allowed)}; got "
                    f"{name!r}, which has one for each of {group_count(self.model)} groups"
                )

    def _probe_simulation(self) -> None:
        """Sizes that round to zero, too small a ridge, too much memory."""
        assert self.simulate is not None
        for pick in (np.min, np.max):
            values = {}
            for name, item in self.inputs.items():
                some = item.values[item.values > 0] if name.startswith("alpha0") else item.values
                values[name] = float(pick(some if some.size else item.values))
            d = values.pop("d")
            plan = _replicates.request(
                with_fields(
                    self.model, {k: v for k, v in values.items() if k not in ("alpha", "lam")}
                ),
                values["alpha"],
                values["lam"],
                int(d),
                loss=self.loss,
                **self.simulate,
            )
            _replicates.check_memory(plan, None)

    def specification(self) -> dict[str, Any]:
        """List what the numbers depend on, in plain values; the count of replicates is not part."""
        model = self.model
        return {
            "kind": "theory" if self.simulate is None else "simulation",
            "model": type(model).__name__,
            "activation": _identity.of_function(model.activation),
            "target": _identity.of_function(model.target),
            **structure(model),
            "weights": None if model.weights is None else list(model.weights),
            "dimensions": [dim for dim in self.dims if dim != "replicate"],
            "variables": list(self.variables),
            "bulk": None if self.simulate is not None else _identity.of_bulk(self.bulk),
            "simulate": None
            if self.simulate is None
            else {k: str(v) for k, v in self.simulate.items()},
            **({} if self.loss == "square" else {"loss": loss_name(self.loss)}),
            "srfx_version": version(),
            "tolerance": TOLERANCE,
            **{n: _identity.of_argument(item.values, item.dim) for n, item in self.inputs.items()},
            **{f"labels of {d}": _identity.of_labels(item, d) for d, item in self.labels.items()},
        }

    def attributes(self) -> dict[str, Any]:
        """Model, setting and origin in plain values, as `Solution.describe` has them."""
        out = describe(self.model, self.bulk) | {
            "units": "dimensionless",
            "srfx_fingerprint": _identity.fingerprint(self.specification()),
            "tolerance": TOLERANCE,
            "srfx_dims": list(self.dims),
            **provenance(),
        }
        if self.loss != "square":
            out["loss"] = loss_name(self.loss)
        if self.simulate is None:
            bulk = self.bulk if isinstance(self.bulk, str) else repr(self.bulk)
            return out | {"bulk": bulk, "method": "theory"}
        del out["bulk"]
        out["method"] = "simulation"
        for key, value in self.simulate.items():
            if value is not None:
                out[key] = int(value) if isinstance(value, bool) else str(value)
        return out

    def template(self) -> xr.Dataset:
        """Coordinates and attributes of the result."""
        try:
            import xarray as xr
        except ImportError as error:
            raise ImportError("srfx.scan needs xarray: pip install 'srfx[scan]'") from error

        coords: dict[str, Any] = {}  # in the order of the dimensions, so that they bear it too
        for dim, size in self.dims.items():
            for name, item in self.inputs.items():
                if item.dim == dim:
                    coords[name] = (dim, item.values)
            if dim in self.labels:
                coords[dim] = (dim, self.labels[dim])
            if dim == "replicate":
                coords[dim] = (dim, np.arange(size))
        single = {name: item.values for name, item in self.inputs.items() if item.dim is None}
        coords |= inputs_of(single, self.bulk)
        return xr.Dataset(coords=coords, attrs=self.attributes())

    def described(self) -> dict[str, tuple[np.dtype[Any], dict[str, Any]]]:
        """Type and attributes of each variable."""
        out = {}
        for name in self.variables:
            attributes: dict[str, Any] = {"long_name": _NAMES[name], "units": "1"}
            if name == "status":
                flags = status_flags()
                attributes["flag_values"] = [-1, *flags["flag_values"].tolist()]
                attributes["flag_meanings"] = f"not_computed {flags['flag_meanings']}"
            out[name] = (dtype_of(name), attributes)
        return out


def make_plan(
    model: Model,
    axes: Mapping[str, Any],
    *,
    simulate: Mapping[str, Any] | None = None,
    bulk: Any = "isotropic",
    variables: Any = None,
    block_points: int | None = None,
    loss: Loss = "square",
) -> Plan:
    """Check everything the user passed and cut the points into blocks."""
    check_model(
        model, labelled=True, covers=_replicates.COVERS
    )  # what theory does not cover, `solve` refuses
    settings, replicates = _simulate_settings(simulate)
    if settings is not None and not (isinstance(bulk, str) and bulk == "isotropic"):
        raise ValueError(
            f"bulk must be left out of a simulation, which samples the weights; got {bulk!r}"
        )
    known = ("alpha", "lam", "d", *model.numeric_names)
    for name in axes:
        check.one_of("an axis", name, known)
    for name in ("alpha", "lam"):
        if name not in axes:
            raise ValueError(f"{name} must be given: a number, a sequence or a DataArray")
    for name, field in model.numeric.items():
        if np.ndim(field) and name not in axes:
            raise ValueError(
                f"{name} of the model must be a single number; got an array of shape "
                f"{np.shape(field)}: give it as an axis, {name}=..."
            )
    given = dict(axes)
    if settings is not None:
        if (given.get("d") is None) == (settings["d"] is None):
            raise ValueError(
                "d must be given once for a simulation, as simulate=dict(d=...) or as an axis; got "
                + ("both" if settings["d"] is not None else "neither")
            )
        if settings["d"] is not None:
            given["d"] = settings["d"]
    elif given.get("d") is None:
        given.pop("d", None)

    inputs, dims, labels = read_inputs(given)
    check_ranges(model, inputs, settings)
    for name, field in model.numeric.items():
        if name not in inputs:
            inputs[name] = Input(np.asarray(float(np.asarray(field).item())), None)
    own = float(bulk.d) if isinstance(bulk, EmpiricalBulk) else math.inf
    inputs.setdefault("d", Input(np.asarray(own), None))
    # names of the inputs in one order, whatever the order of the keywords
    inputs = {name: inputs[name] for name in (*model.numeric_names, "lam", "alpha", "d")}
    scalars = {n: float(i.values.flat[0]) for n, i in inputs.items() if n in model.numeric_names}
    model = with_fields(model, scalars)

    fitted = chosen(loss, model.labels, inputs["lam"].values)
    kept = _variables(variables, settings is not None, fitted)
    first: tuple[str, ...] = ()
    if settings is not None:
        settings.pop("d")
        first, dims = ("replicate",), {**dims, "replicate": replicates}
    plan = Plan(model, inputs, dims, labels, (), kept, bulk, settings, {}, fitted.loss)
    first += slow_dims(plan)
    order = (*first, *(dim for dim in dims if dim not in first))
    plan = dataclasses.replace(plan, order=order)
    return dataclasses.replace(plan, chunk=chunk_of(plan, block_points))


def check_shard(shard: Any) -> tuple[int, int] | None:
    """Check which share of the blocks is asked for: (3, 16), the third of sixteen."""
    if shard is None:
        return None
    allowed = "shard must be None or a pair of integers, as (3, 16): the third of 16 shares"
    if isinstance(shard, str) or not isinstance(shard, (tuple, list)) or len(shard) != 2:
        raise TypeError(f"{allowed}; got {shard!r}")
    count = check.integer("the number of shards", shard[1], 1)
    number = check.integer("shard", shard[0], 1)
    if number > count:
        raise ValueError(f"{allowed}, from 1 to their number; got {number} of {count}")
    return number, count


def share(blocks: int, shard: tuple[int, int] | None) -> range:
    """Blocks of a shard, every so-manieth, so that each has of all parts of the axes."""
    number, count = shard or (1, 1)
    return range(number - 1, blocks, count)


def _simulate_settings(simulate: object) -> tuple[dict[str, Any] | None, int]:
    if simulate is None:
        return None, 0
    if not isinstance(simulate, Mapping):
        raise TypeError(
            f"simulate must be None or a mapping with keys {', '.join(_SIMULATE)}; got {simulate!r}"
        )
    for key in simulate:
        check.one_of("simulate's keys", key, _SIMULATE)
    given = {"d": None, "replicates": 10, **_DEFAULTS, **simulate}
    replicates = check.integer("replicates", given.pop("replicates"), 1)
    d = given.pop("d")
    if d is not None:
        _replicates.dimension(d)
    settings = _replicates.check_settings(**given) | {"d": d}
    return settings, replicates


def _variables(variables: Any, simulating: bool, loss: Chosen) -> tuple[str, ...]:
    known = ERRORS if simulating else tuple(OBSERVABLES)
    more: tuple[str, ...] = ()
    if loss.margin or loss.kind != "square":  # what is known of them beside the squares
        more = ("train_loss", "test_loss")
        if simulating and loss.kind == "max_margin":  # infinite
            more = ()
        more += ("classification_error",) if loss.margin else ()
        more += ("duality_gap",) if simulating and loss.kind != "square" else ()
    if variables is None:
        return (*known, *more) if simulating else (*ERRORS, *more, "status")
    known = (*known, *more)
    if isinstance(variables, str) or not isinstance(variables, (list, tuple)):
        raise TypeError(f"variables must be a sequence of names; got {variables!r}")
    if not variables:
        raise ValueError(f"variables must hold at least one of {', '.join(known)}; got none")
    names = tuple(check.one_of("variables", name, known) for name in variables)
    if len(set(names)) < len(names):
        raise ValueError(f"variables must be distinct; got {list(names)}")
    return names


def values_in(
    inputs: Mapping[str, Input], order: tuple[str, ...], box: Mapping[str, slice]
) -> dict[str, FloatArray]:
    """Values of the arguments in a box, each along its axis in computing order."""
    values = {}
    for name, item in inputs.items():
        values[name] = item.values
        if item.dim is not None:
            along = [-1 if dim == item.dim else 1 for dim in order]
            values[name] = item.values[box[item.dim]].reshape(along)
    return values


def solve_box(
    model: Model,
    values: Mapping[str, FloatArray],
    bulk: Any,
    threads: int,
    loss: Loss = "square",
) -> Any:
    """Solve a box."""
    fields = {name: values[name][()] for name in model.numeric_names}
    return solve(
        with_fields(model, fields),
        values["alpha"][()],
        values["lam"][()],
        d=values["d"][()],
        bulk=bulk,
        loss=loss,
        n_threads=threads,
        errors="record",
    )
