"""What a scan is: axes, their product, and the blocks it is cut into."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from srfx import _identity, simulation
from srfx import _validation as check
from srfx.config import provenance, version
from srfx.models import FloatArray, OneStep, SpikedRF, compiled, floor_of, label
from srfx.results import OBSERVABLES, Status
from srfx.theory import solve
from srfx.weights import EmpiricalBulk, inputs_of

if TYPE_CHECKING:
    import xarray as xr

#: Relative accuracy aimed at; part of what a store is compared by.
TOLERANCE = 1e-10

#: Work in a block, in seconds of one thread; it may be cut short by BLOCK_BYTES.
BLOCK_SECONDS, BLOCK_BYTES = 1.0, 2**25

#: Seconds of one thread: a point, the coefficients of smooth functions, of others.
POINT_COST, SMOOTH_SET_COST, SET_COST = 1.6e-7, 5e-5, 2e-4

#: The same of a point of the actual step with several readout values, over their number cubed.
STEP_GROUP_COST = 3.5e-5

#: Arithmetic of a simulation, operations a second of one thread.
SIMULATION_RATE = 4e10

_SIMULATE = ("d", "replicates", "n_test", "seed", "dtype", "literal")
_DEFAULT = ("test_error", "train_error", "status")


@dataclasses.dataclass(frozen=True)
class Input:
    """One argument: a number, or values along a dimension."""

    values: FloatArray
    dim: str | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A validated scan and its blocks.

    Attributes
    ----------
    model : SpikedRF or OneStep
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
    """

    model: SpikedRF | OneStep
    inputs: dict[str, Input]
    dims: dict[str, int]
    labels: dict[str, Any]
    order: tuple[str, ...]
    variables: tuple[str, ...]
    bulk: Any
    simulate: dict[str, Any] | None
    chunk: dict[str, int]

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
        return _seconds(self.model, self.inputs, self.simulate, self.bulk, lengths)

    def probe(self) -> None:
        """Solve two corners, so that what `solve` refuses or warns of is said before any work."""
        if self.simulate is not None:
            self._probe_simulation()
            return
        corners = {
            name: item.values if item.dim is None else _extremes(item.values)
            for name, item in self.inputs.items()
        }
        solution = solve_box(self.model, corners, self.bulk, threads=1)
        shapes = {name: np.shape(getattr(solution, name)) for name in OBSERVABLES}
        for name in self.variables:
            if shapes[name] != solution.shape:
                allowed = [n for n, shape in shapes.items() if shape == solution.shape]
                raise ValueError(
                    f"variables must hold one number a point, as {', '.join(allowed)}; got "
                    f"{name!r}, which has one for each of {len(self.model.readout)} groups"
                )

    def _probe_simulation(self) -> None:
        """Sizes that round to zero, too small a ridge, too much memory."""
        assert self.simulate is not None
        for pick in (np.min, np.max):
            values = {}
            for name, item in self.inputs.items():
                some = item.values[item.values > 0] if name == "alpha0" else item.values
                values[name] = float(pick(some if some.size else item.values))
            d = values.pop("d")
            plan = simulation._validated(
                with_fields(
                    self.model, {k: v for k, v in values.items() if k not in ("alpha", "lam")}
                ),
                values["alpha"],
                values["lam"],
                int(d),
                self.simulate["n_test"],
                self.simulate["seed"],
                self.simulate["dtype"],
                self.simulate["literal"],
            )
            simulation._check_memory(plan, None)

    def specification(self) -> dict[str, Any]:
        """List what the numbers depend on, in plain values; the count of replicates is not part."""
        model = self.model
        return {
            "kind": "theory" if self.simulate is None else "simulation",
            "model": type(model).__name__,
            "activation": _identity.of_function(model.activation),
            "target": _identity.of_function(model.target),
            "readout": list(model.readout),
            "weights": None if model.weights is None else list(model.weights),
            "dimensions": [dim for dim in self.dims if dim != "replicate"],
            "variables": list(self.variables),
            "bulk": None if self.simulate is not None else _identity.of_bulk(self.bulk),
            "simulate": None
            if self.simulate is None
            else {k: str(v) for k, v in self.simulate.items()},
            "srfx_version": version(),
            "tolerance": TOLERANCE,
            **{n: _identity.of_argument(item.values, item.dim) for n, item in self.inputs.items()},
            **{f"labels of {d}": _identity.of_labels(item, d) for d, item in self.labels.items()},
        }

    def attributes(self) -> dict[str, Any]:
        """Model, setting and origin in plain values, as `Solution.describe` has them."""
        model = self.model
        out: dict[str, Any] = {
            "model": type(model).__name__,
            "activation": label(model.activation),
            "target": label(model.target),
            "readout": list(model.readout),
            "weights": list(model.weights or (1 / len(model.readout),) * len(model.readout)),
            "linear_floor": floor_of(model.target),
            "units": "dimensionless",
            "srfx_fingerprint": _identity.fingerprint(self.specification()),
            "tolerance": TOLERANCE,
            "srfx_dims": list(self.dims),
            **provenance(),
        }
        if self.simulate is None:
            out["bulk"] = self.bulk if isinstance(self.bulk, str) else repr(self.bulk)
            out["method"] = "theory"
        else:
            out["method"] = "simulation"
            out |= {
                key: int(value) if isinstance(value, bool) else str(value)
                for key, value in self.simulate.items()
                if value is not None
            }
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
            attributes: dict[str, Any] = {"long_name": OBSERVABLES[name], "units": "1"}
            if name == "status":
                attributes["flag_values"] = [s.value for s in Status]
                attributes["flag_meanings"] = " ".join(s.name.lower() for s in Status)
            out[name] = (dtype_of(name), attributes)
        return out


def with_fields(model: SpikedRF | OneStep, fields: Mapping[str, Any]) -> SpikedRF | OneStep:
    """Replace fields of a model."""
    return dataclasses.replace(model, **fields)


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype({"status": np.int8, "iterations": np.int32}.get(name, np.float64))


def _extremes(values: FloatArray) -> FloatArray:
    return np.array([values.min(), values.max()])


def make_plan(
    model: object,
    axes: Mapping[str, Any],
    *,
    simulate: Mapping[str, Any] | None = None,
    bulk: Any = "isotropic",
    variables: Any = None,
    block_points: int | None = None,
) -> Plan:
    """Check everything the user passed and cut the points into blocks."""
    if not isinstance(model, (SpikedRF, OneStep)):
        raise TypeError(f"model must be an srfx.SpikedRF or an srfx.OneStep; got {model!r}")
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

    inputs, dims, labels = _inputs(given)
    inputs = _in_range(model, inputs, settings)
    for name, field in model.numeric.items():
        if name not in inputs:
            inputs[name] = Input(np.asarray(float(np.asarray(field).item())), None)
    own = float(bulk.d) if isinstance(bulk, EmpiricalBulk) else math.inf
    inputs.setdefault("d", Input(np.asarray(own), None))
    # names of the inputs in one order, whatever the order of the keywords
    inputs = {name: inputs[name] for name in (*model.numeric_names, "lam", "alpha", "d")}
    scalars = {n: float(i.values.flat[0]) for n, i in inputs.items() if n in model.numeric_names}
    model = with_fields(model, scalars)

    kept = _variables(variables, settings is not None)
    slow = slow_dims(model, inputs, dims, settings)
    order = (*slow, *(dim for dim in dims if dim not in slow))
    if settings is not None:
        settings.pop("d")
        dims = {**dims, "replicate": replicates}
        order = ("replicate", *order)
    chunk = _chunk(model, inputs, dims, order, slow, kept, bulk, settings, block_points)
    return Plan(model, inputs, dims, labels, order, kept, bulk, settings, chunk)


def _simulate_settings(simulate: object) -> tuple[dict[str, Any] | None, int]:
    if simulate is None:
        return None, 0
    if not isinstance(simulate, Mapping):
        raise TypeError(
            f"simulate must be None or a mapping with keys {', '.join(_SIMULATE)}; got {simulate!r}"
        )
    for key in simulate:
        check.one_of("simulate's keys", key, _SIMULATE)
    replicates = check.integer("replicates", simulate.get("replicates", 10), 1)
    settings = {
        "d": simulate.get("d"),
        "n_test": simulate.get("n_test"),
        "seed": check.integer("seed", simulate.get("seed", 0), 0, 2**64 - 1),
        "dtype": check.one_of("dtype", simulate.get("dtype", "float64"), simulation.DTYPES),
        "literal": simulate.get("literal", False),
    }
    if settings["d"] is not None:
        simulation._dimension(settings["d"])
    if settings["n_test"] is not None:
        check.integer("n_test", settings["n_test"], 1)
    if not isinstance(settings["literal"], (bool, np.bool_)):
        raise TypeError(f"literal must be True or False; got {settings['literal']!r}")
    settings["literal"] = bool(settings["literal"])
    return settings, replicates


def _inputs(given: Mapping[str, Any]) -> tuple[dict[str, Input], dict[str, int], dict[str, Any]]:
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
    *("alpha", "lam", "d", "r", "c", "gamma", "beta", "noise", "eta", "alpha0", "replicate"),
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


def _in_range(
    model: SpikedRF | OneStep, inputs: dict[str, Input], simulating: Mapping[str, Any] | None
) -> dict[str, Input]:
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
    if simulating is not None and "alpha0" in inputs and np.isinf(inputs["alpha0"].values).any():
        raise ValueError(
            "alpha0 must be finite in a simulation, which draws alpha0 d samples for the step; "
            "got inf"
        )
    return inputs


def _variables(variables: Any, simulating: bool) -> tuple[str, ...]:
    known = ("test_error", "train_error") if simulating else tuple(OBSERVABLES)
    if variables is None:
        return known if simulating else _DEFAULT
    if isinstance(variables, str) or not isinstance(variables, (list, tuple)):
        raise TypeError(f"variables must be a sequence of names; got {variables!r}")
    if not variables:
        raise ValueError(f"variables must hold at least one of {', '.join(known)}; got none")
    names = tuple(check.one_of("variables", name, known) for name in variables)
    if len(set(names)) < len(names):
        raise ValueError(f"variables must be distinct; got {list(names)}")
    return names


# --- blocks -------------------------------------------------------------------------------------


def _coefficient_fields(model: SpikedRF | OneStep) -> tuple[str, ...]:
    """Name what the coefficients depend on: the noise enters the equivalent of a step."""
    return ("eta", "alpha0", "noise") if isinstance(model, OneStep) else ("r", "c", "gamma")


def slow_dims(
    model: SpikedRF | OneStep,
    inputs: Mapping[str, Input],
    dims: Mapping[str, int],
    simulating: Mapping[str, Any] | None,
) -> tuple[str, ...]:
    """Dimensions along which new coefficients (a new network, in simulations) are needed."""
    if simulating is None:
        slow = {inputs[name].dim for name in _coefficient_fields(model)}
    else:  # one replicate serves all alpha and lam that are axes of their own
        slow = {i.dim for name, i in inputs.items() if name not in ("alpha", "lam")}
        if inputs["alpha"].dim == inputs["lam"].dim:
            slow.add(inputs["alpha"].dim)
    return tuple(dim for dim in dims if dim in slow)


def _set_cost(model: SpikedRF | OneStep) -> float:
    functions = [compiled(f) for f in (model.activation, model.target)]
    smooth = all(isinstance(f, str) for f in (model.activation, model.target)) and not any(
        f.kinks or f.jump for f in functions
    )
    return SMOOTH_SET_COST if smooth else SET_COST


def _seconds(
    model: SpikedRF | OneStep,
    inputs: Mapping[str, Input],
    simulating: Mapping[str, Any] | None,
    bulk: Any,
    lengths: Mapping[str, int],
) -> float:
    """Estimated time of one thread for a box; a fixed rule, so that blocks are always the same."""
    slow = slow_dims(
        model, inputs, {d: n for d, n in lengths.items() if d != "replicate"}, simulating
    )
    sets = math.prod(lengths[dim] for dim in slow)
    points = math.prod(lengths.values())
    if simulating is None:
        k, isotropic = len(model.readout), isinstance(bulk, str) and bulk == "isotropic"
        if k > 1:
            point = 1.7 * k * k * POINT_COST if isotropic else k**3 * STEP_GROUP_COST
        else:
            point = POINT_COST * (1 if isotropic else 20)
        return sets * _set_cost(model) * (1 if k == 1 else 2 * k) + points * point
    largest = {name: float(item.values.max()) for name, item in inputs.items()}
    d = largest["d"]
    n, p = largest["alpha"] * d, largest["beta"] * d
    n0 = largest.get("alpha0", 0.0) * d
    n_test = simulating["n_test"] or max(2 * d, 5000)
    fits = points / max(1, sets * lengths.get("replicate", 1))
    work = 2 * p * d * (n0 + n + n_test) + n * p * p + fits * p**3 / 3 + 2e2 * d * (n + p + n_test)
    return sets * lengths.get("replicate", 1) * (1e-3 + work / SIMULATION_RATE)


def _chunk(
    model: SpikedRF | OneStep,
    inputs: Mapping[str, Input],
    dims: Mapping[str, int],
    order: tuple[str, ...],
    slow: tuple[str, ...],
    kept: tuple[str, ...],
    bulk: Any,
    simulating: Mapping[str, Any] | None,
    block_points: int | None,
) -> dict[str, int]:
    """Size of a block along each dimension: fast dimensions are filled first."""
    most = BLOCK_BYTES // sum(dtype_of(name).itemsize for name in kept)
    if block_points is not None:
        most = check.integer("block_points", block_points, 1)

    def fits(lengths: dict[str, int]) -> bool:
        seconds = _seconds(model, inputs, simulating, bulk, lengths)
        return math.prod(lengths.values()) <= most and seconds <= BLOCK_SECONDS

    lengths = dict.fromkeys(order, 1)
    for dim in reversed(order):
        if dim == "replicate":
            break  # one record a replicate
        if simulating is not None and dim not in slow:
            lengths[dim] = dims[dim]  # they share the network and its samples
            continue
        lengths[dim] = largest(dim, dims[dim], lengths, fits)
        if lengths[dim] < dims[dim]:
            break
    return lengths


def largest(dim: str, size: int, lengths: dict[str, int], fits: Any) -> int:
    """Largest even cut of a dimension that fits."""
    if fits({**lengths, dim: size}):
        return size
    low, high = 1, size  # low fits (or nothing does), high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits({**lengths, dim: middle}) else (low, middle)
    return -(-size // -(-size // low))


def solve_box(
    model: SpikedRF | OneStep, values: Mapping[str, FloatArray], bulk: Any, threads: int
) -> Any:
    fields = {name: values[name][()] for name in model.numeric_names}
    return solve(
        with_fields(model, fields),
        values["alpha"][()],
        values["lam"][()],
        d=values["d"][()],
        bulk=bulk,
        n_threads=threads,
        errors="record",
    )
