"""One replicate of a simulation: the checked request, its run, and what stops it."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srfx import _core, losses
from srfx import _validation as check
from srfx.models import (
    FloatArray,
    Model,
    MultiStep,
    SpikedRF,
    check_model,
    compiled,
    group_count,
    probabilities,
    target_of,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

DTYPES = ("float64", "float32")

#: What simulations know of models beside one direction, one spike and one step: everything.
COVERS = ("directions", "spikes", "steps", "bends")

#: Least penalty that float32 resolves: its rounding errors in the Gram matrix stay well below it.
LEAST_LAM_FLOAT32 = 1e-4


@dataclass(frozen=True)
class Request:
    """A validated request: everything but the replicate."""

    model: Model
    alpha: FloatArray
    lam: FloatArray
    sizes: dict[str, Any]  # arguments of _core.Experiment
    order: NDArray[np.intp]  # position of each alpha among the distinct n
    n: NDArray[np.int64]  # n of each alpha
    single: bool
    loss: losses.Chosen

    def experiment(self, replicate: int) -> _core.Experiment:
        return _core.Experiment(**self.sizes, replicate=replicate)


def dimension(d: object) -> int:
    """Accept the dimension of a network that can be drawn."""
    if isinstance(d, (float, np.floating)) and math.isinf(d):
        raise ValueError(
            "d must be an integer >= 2 in a simulation, which draws inputs of that dimension; got "
            f"{float(d)!r}: the limit is what srfx.solve computes"
        )
    return check.integer("d", d, 2)


def _axis(name: str, value: float | FloatArray) -> FloatArray:
    array = np.atleast_1d(np.asarray(value))
    if array.ndim != 1 or array.size == 0:
        raise ValueError(
            f"{name} must be a number or a non-empty one-dimensional sequence; "
            f"got shape {array.shape}"
        )
    return array


def seed_of(seed: object, rng: Any) -> object:
    """Return the seed that a simulation has: ``seed``, or what ``rng`` stands for."""
    if rng is None:
        return seed
    if not (isinstance(seed, int) and seed == 0):
        raise ValueError(
            f"rng must be left out where seed is given; got seed={seed!r}, rng={rng!r}"
        )
    if isinstance(rng, np.random.SeedSequence):
        return int(rng.generate_state(1, np.uint64)[0])
    if isinstance(rng, np.random.BitGenerator):
        rng = np.random.Generator(rng)
    if isinstance(rng, np.random.Generator):
        return int(rng.integers(0, 2**64 - 1, dtype=np.uint64, endpoint=True))
    if isinstance(rng, int | np.integer) and not isinstance(rng, bool):
        return check.integer("rng", rng, 0, 2**64 - 1)
    raise TypeError(
        "rng must be None, an integer, a numpy.random.SeedSequence, Generator or BitGenerator; got "
        f"{rng!r}"
    )


def check_settings(n_test: object, seed: object, dtype: object, literal: object) -> dict[str, Any]:
    """Check what a simulation depends on beside the model and the point."""
    if isinstance(dtype, type | np.dtype):
        dtype = np.dtype(dtype).name
    return {
        "n_test": None if n_test is None else check.integer("n_test", n_test, 1),
        "seed": check.integer("seed", seed, 0, 2**64 - 1),
        "dtype": check.one_of("dtype", dtype, DTYPES),
        "literal": check.flag("literal", literal),
    }


def request(
    model: Model,
    alpha: object,
    lam: object,
    d: object,
    n_test: object,
    seed: object,
    dtype: object,
    literal: object,
    loss: object = "square",
) -> Request:
    """Check everything the user passed, before any work."""
    check_model(model, labelled=True, covers=COVERS)
    for name, value in model.numeric.items():
        if np.size(value) != 1:
            raise ValueError(
                f"{name} of the model must be a single number in a simulation; got an array of "
                f"shape {np.shape(value)}"
            )
    values = {name: float(np.asarray(field).item()) for name, field in model.numeric.items()}
    alphas = _axis("alpha", check.positive("alpha", alpha))
    lams = _axis("lam", check.non_negative("lam", lam))
    fitted = losses.chosen(loss, model.labels, lams)
    d = dimension(d)
    settings = check_settings(n_test, seed, dtype, literal)
    single = settings.pop("dtype") == "float32"
    settings["n_test"] = settings["n_test"] or max(2 * d, 5000)
    if single and fitted.kind != "square":
        raise ValueError(
            f"dtype must be 'float64' with loss={fitted.label!r}: single precision does not resolve"
            " the duality gap where the search for the minimum ends; got 'float32'"
        )
    if single and lams.min() < LEAST_LAM_FLOAT32:
        raise ValueError(
            f"lam must be at least {LEAST_LAM_FLOAT32:g} in float32, whose rounding errors drown a "
            f'smaller one; got {lams.min():g}: use dtype="float64"'
        )

    p = _rounded("beta", values["beta"], d, "p")
    n = np.array([_rounded("alpha", a, d, "n") for a in alphas], dtype=np.int64)
    distinct, order = np.unique(n, return_inverse=True)
    readout = np.array(model.readout) if _has_readout(model) else np.ones(group_count(model))
    weights = np.array(probabilities(model))
    sizes: dict[str, Any] = {
        "d": d,
        "n": distinct.tolist(),
        "lam": lams.tolist(),
        "sizes": _largest_remainders(weights * p),
        "readout": readout.tolist(),
        "noise": values["noise"],
        "labels": model.labels,
        "slope": values.get("slope", 1.0),
        "loss": fitted.kind,
        **{name: getattr(fitted, name) for name in ("kappa", "lo", "hi")},
        **settings,
    }
    steps = _steps(model, values, d)
    if isinstance(model, SpikedRF):
        sizes |= _spikes(model, values)
    elif steps:
        sizes |= {"r": [[]] * readout.size, "c": [1.0] * readout.size}
        sizes |= {"theta": np.eye(model.directions).tolist()}
    else:  # a spike of no strength, along the first direction
        sizes |= {"r": [[0.0]] * readout.size, "c": [1.0] * readout.size}
        sizes |= {"theta": _frame(np.eye(model.directions)[:, :1])}
    sizes |= {"n0": [n0 for n0, _ in steps], "eta": [eta for _, eta in steps]}
    own = len(sizes["theta"][0])
    if d < own:
        raise ValueError(
            f"d must be at least {own}, the number of spikes and directions of the target; got {d}"
        )
    return Request(model, alphas, lams, sizes, order, n, single, fitted)


def _has_readout(model: Model) -> bool:
    return not isinstance(model, SpikedRF) or model.spikes is None


def _spikes(model: SpikedRF, values: dict[str, float]) -> dict[str, Any]:
    """Strength of the spikes and bulk variance of each group, directions of the target."""
    if model.spikes is not None:
        groups = group_count(model)
        return {
            "r": (values["r"] * model.spikes).tolist(),
            "c": list(model.variances or [values["c"]] * groups),
            "theta": _frame(np.asarray(model.alignment)),
        }
    readout = np.array(model.readout)
    c = 1 + readout**2 * (values["c"] - 1)
    if c.min() < 0:
        raise ValueError(
            f"c must leave every group's bulk variance 1 + a^2 (c - 1) >= 0; got "
            f"c = {values['c']:g} with readout {model.readout}"
        )
    if readout.size == 1 and readout[0] == 1:
        c = np.full_like(readout, values["c"])
    r = (values["r"] * readout)[:, np.newaxis]
    gamma = np.reshape(np.asarray(model.gamma), (model.directions, 1))
    return {"r": r.tolist(), "c": c.tolist(), "theta": _frame(gamma)}


def _frame(alignment: FloatArray) -> list[list[float]]:
    """Directions of the target in a frame of the spikes and one more vector for each direction."""
    directions = len(alignment)
    if alignment.shape == (1, 1):
        gamma = float(alignment[0, 0])
        rest = np.array([[math.sqrt(max(0.0, (1 - gamma) * (1 + gamma)))]])
    else:
        values, vectors = np.linalg.eigh(np.eye(directions) - alignment @ alignment.T)
        rest = vectors * np.sqrt(np.maximum(values, 0.0))
    frame: list[list[float]] = np.hstack([alignment, rest]).tolist()
    return frame


def _steps(model: Model, values: dict[str, float], d: int) -> list[tuple[int, float]]:
    """Return samples and learning rate of the gradient steps that are made."""
    if isinstance(model, SpikedRF):
        return []
    names = [("alpha0", "eta")]
    if isinstance(model, MultiStep):
        names = [(f"alpha0_{i}", f"eta{i}") for i in range(1, model.steps + 1)]
    steps = []
    for name, eta in names:
        alpha0 = values[name]
        if math.isinf(alpha0):
            raise ValueError(
                f"{name} must be finite in a simulation, which draws {name} d samples for the "
                "step; got inf"
            )
        if alpha0 > 0:
            steps.append((_rounded(name, alpha0, d, "n0"), values[eta]))
    return steps


def _rounded(name: str, ratio: float, d: int, size: str) -> int:
    if ratio * d > 2**40:
        raise ValueError(
            f"{name} d = {ratio * d:g} is beyond any simulation; got {name}={ratio:g}, d={d}"
        )
    count = round(ratio * d)
    if count < 1:
        raise ValueError(
            f"{name} must give {size} = round({name} d) >= 1; got {name}={ratio:g}, d={d}"
        )
    return count


def _largest_remainders(shares: FloatArray) -> list[int]:
    """Integers that sum to the total and differ from the shares by less than one."""
    sizes = np.floor(shares + 1e-9).astype(int)
    missing = round(float(shares.sum())) - int(sizes.sum())
    for g in np.argsort(-(shares - sizes), kind="stable")[:missing]:
        sizes[g] += 1
    return [int(size) for size in sizes]


def check_memory(wanted: Request, executor: Executor | None) -> None:
    """Refuse a run that would not fit."""
    workers = int(getattr(executor, "_max_workers", 1) or 1) if executor is not None else 1
    sizes = wanted.sizes
    each = f" with {workers} workers" if workers > 1 else ""
    what = f"d = {sizes['d']}, p = {sum(sizes['sizes'])}, n = {max(sizes['n'])}{each}"
    check.memory(what, memory_estimate(wanted) * workers)


def memory_estimate(wanted: Request) -> float:
    """Peak memory of a replicate in bytes, to within some per cent."""
    return float(wanted.experiment(0).memory(wanted.single))


@dataclass
class Run:
    """A run of this process. Its name goes with the tasks; their threads see what it is told."""

    name: str = field(default_factory=lambda: os.urandom(16).hex())
    flag: _core.CancelFlag = field(default_factory=_core.CancelFlag)
    stopped: bool = False

    def stop(self) -> None:
        """Tell the threads of this process that work on it to leave it."""
        self.stopped = True
        self.flag.cancel()


#: Those going on in this process, by name.
RUNS: dict[str, Run] = {}


class Stopped(RuntimeError):
    """The run of this block was cancelled."""


@contextlib.contextmanager
def started() -> Iterator[Run]:
    """Begin a run, and end it."""
    run = Run()
    RUNS[run.name] = run
    try:
        yield run
    finally:
        del RUNS[run.name]


def halt_if_stopped(run: str) -> None:
    """Leave a run that was told to stop."""
    if run in RUNS and RUNS[run].stopped:
        raise Stopped


def replicate_of(
    wanted: Request, replicate: int, threads: int, run: str | None, with_predictions: bool = False
) -> dict[str, FloatArray]:
    """One replicate: rows are the distinct n."""
    flag = RUNS[run].flag if run in RUNS else None
    try:
        out: dict[str, FloatArray] = _core.simulate(
            wanted.experiment(replicate),
            compiled(wanted.model.activation),
            target_of(wanted.model),
            wanted.single,
            threads,
            flag,
            with_predictions,
        )
    except _core.NoReadout as error:
        what = f"the readout of replicate {replicate} with loss={wanted.loss.label!r} "
        if "separated" in str(error):
            raise np.linalg.LinAlgError(
                f"{what}does not exist: its samples cannot be separated; a smaller alpha, a larger "
                "beta, or a loss such as 'hinge'"
            ) from None
        raise np.linalg.LinAlgError(
            f"{what}was not found to its duality gap (smallest lam = {wanted.lam.min():g}): use a "
            "larger lam"
        ) from None
    except _core.NotPositiveDefinite:
        dtype = DTYPES[wanted.single]
        hint = "a larger lam" if dtype == "float64" else 'a larger lam or dtype="float64"'
        raise np.linalg.LinAlgError(
            f"the regularised feature matrix of replicate {replicate} is singular to working "
            f"precision ({dtype}, smallest lam = {wanted.lam.min():g}): use {hint}"
        ) from None
    return out
