"""Simulations: the network itself, drawn, trained and measured."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from srfx import _core
from srfx import _validation as check
from srfx._replicates import (
    DTYPES,
    Request,
    check_memory,
    replicate_of,
    request,
    seed_of,
    started,
)
from srfx.config import version
from srfx.losses import Loss
from srfx.models import (
    FloatArray,
    Model,
    MultiStep,
    SpikedRF,
    compiled,
    label,
    structure,
    target_of,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

    import xarray as xr

    from srfx._executors import Pool

#: The attribute ``interrupted`` after Ctrl-C.
CTRL_C = "by Ctrl-C"

#: What ``rng`` may be.
RandomState: TypeAlias = (
    "int | np.random.SeedSequence | np.random.Generator | np.random.BitGenerator | None"
)


@check.public
def simulate(
    model: Model,
    alpha: ArrayLike,
    lam: ArrayLike,
    *,
    loss: Loss = "square",
    d: int = 1000,
    replicates: int = 10,
    n_test: int | None = None,
    seed: int = 0,
    dtype: DTypeLike = "float64",
    n_threads: int | None = None,
    executor: Executor | None = None,
    progress: bool | None = None,
    literal: bool = False,
    keep_finished: bool = False,
    rng: RandomState = None,
) -> xr.Dataset:
    """Run the experiment itself: draw the network, train it, measure its errors.

    For a `SpikedRF` the spiked weights are drawn; for a `OneStep` or `MultiStep` the initial
    weights are drawn and each gradient step is made on ``n0 = round(alpha0 d)`` samples of its own,
    with the residual of the network as it then is. Then the readout is fitted by ridge regression
    on ``n = round(alpha d)`` fresh samples and tested, without label noise, on ``n_test`` more.
    Source: CPD24 section 2 and Definition 3.1; THEORY sections 1, 13 and 15.

    Parameters
    ----------
    model : SpikedRF, OneStep or MultiStep
        The network; its numeric fields are single numbers. With several values of ``readout``,
        group sizes are the weights times p, rounded by largest remainders.
    alpha : float or sequence of float
        Sample complexities n/d of the readout, > 0. One replicate serves them all with nested
        samples: errors at different alpha are correlated within a replicate.
    lam : float or sequence of float
        Ridge penalties, >= 0; in float32 at least 1e-4; > 0 with another loss than the square.
    loss : str, Huber or Quantile
        What the readout is fitted with: "square", "logistic", "hinge", "squared_hinge", "absolute",
        "max_margin", ``srfx.Huber(delta)`` or ``srfx.Quantile(tau)`` (THEORY section 19). The
        readout minimises the sum of losses plus ``lam |a|^2``, to a duality gap of 1e-11 of that
        sum, in float64. The four of classification need a model with labels of +1 and -1.
        "max_margin" is their limit at ``lam = 0`` where samples can be separated: the shortest
        readout with ``y f >= 1``, whatever lam.
    d : int
        Input dimension, >= 2. The width is ``p = round(beta d)``.
    replicates : int
        Independent networks and data, >= 1.
    n_test : int, optional
        Fresh points of each replicate, >= 1; by default ``max(2 d, 5000)``.
    seed : int
        0 to 2**64 - 1. Every random number is a function of (seed, replicate, what it is for, its
        index).
    dtype : {"float64", "float32"} or the NumPy type
        Precision of the experiment; both see the same draws.
    n_threads : int, optional
        Threads, >= 1. None: all processors this process may use, and one with an executor.
    executor : concurrent.futures.Executor, optional
        Runs replicates in parallel; anything with ``submit`` (PEP 3148), or a dask ``Client``.
        Worker processes must be spawned, not forked. Callables of the model have to get to the
        workers, which is tried before any work.
    progress : bool, optional
        A progress bar; None: only on a terminal.
    literal : bool
        Do without the shortcuts that are exact in law (triangular weights, coordinates): slower,
        other numbers, the same distribution. Where the shortcuts pay depends on all sizes, so that
        one alpha alone may give other numbers than beside a larger one; literal ones agree.
    keep_finished : bool
        After Ctrl-C, or a replicate whose feature matrix is singular, return the finished
        replicates, if any, with the attribute ``interrupted``: why, in place of raising.
    rng : int, SeedSequence, Generator or BitGenerator, optional
        In place of ``seed``, as elsewhere in scientific Python (SPEC 7). An integer is the seed
        itself; a `numpy.random.SeedSequence` stands for one, and is not changed; of a generator one
        is drawn, so that the next call gets another. The attribute ``seed`` says which it was.

    Returns
    -------
    xarray.Dataset
        ``test_error`` (noise-free) and ``train_error`` (mean squared residual, with noise, without
        the penalty), dims (alpha, lam, replicate); coordinate ``n`` along alpha. With labels of +1
        and -1 both are means of ``(y - f)^2``, and there is ``classification_error``, the share of
        fresh points whose label the sign of f misses. With those or another loss than the square
        there are ``test_loss`` and ``train_loss``, means with label noise and without the penalty
        (of "max_margin", infinite, neither); with another loss ``duality_gap``, a bound of the
        relative distance of the objective from its minimum. Attributes describe model, sizes, seed
        and build. The same numbers, to the bit, for every thread count
        and executor. See `mean`, `standard_error`, `standard_deviation`.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of range, sizes round to zero, or the run would not
        fit into memory: said before any work.
    numpy.linalg.LinAlgError
        The regularised feature matrix is singular to working precision; or a readout was not found
        to its duality gap, or does not exist since the samples cannot be separated.

    Examples
    --------
    >>> import srfx
    >>> model = srfx.SpikedRF("tanh", "sin", r=0.1, gamma=0.9)
    >>> ds = srfx.simulate(model, alpha=[0.5, 1.5], lam=0.1, d=200, replicates=4)
    >>> dict(ds.sizes)
    {'alpha': 2, 'lam': 1, 'replicate': 4}
    >>> bool(ds.test_error.mean() < 0.5)
    True
    >>> signs = srfx.SpikedRF("tanh", "tanh", gamma=0.9, labels="sign")
    >>> ds = srfx.simulate(signs, alpha=2, lam=0.1, d=200, replicates=4, loss="hinge")
    >>> bool(ds.classification_error.mean() < 0.25), bool(ds.duality_gap.max() < 1e-10)
    (True, True)
    """
    from srfx import _executors

    plan = request(model, alpha, lam, d, n_test, seed_of(seed, rng), dtype, literal, loss)
    replicates = check.integer("replicates", replicates, 1)
    pool = None if executor is None else _executors.Pool(executor, replicates)
    threads = 1 if pool is not None and n_threads is None else check.thread_count(n_threads)
    check_memory(plan, executor)
    if pool is not None:
        pool.check_portable((model.activation, model.target))

    finished: dict[int, dict[str, FloatArray]] = {}
    interrupted = None
    try:
        with _bar(replicates, progress) as bar:
            for replicate, errors in _run_all(plan, replicates, threads, pool):
                finished[replicate] = errors
                bar.update()
    except (KeyboardInterrupt, np.linalg.LinAlgError) as error:
        if not keep_finished or not finished:
            raise
        interrupted = str(error) or CTRL_C
    return _dataset(plan, finished, interrupted)


@check.public
def mean(ds: xr.Dataset) -> xr.Dataset:
    """Mean over replicates.

    Parameters
    ----------
    ds : xarray.Dataset
        What `simulate` returned, or anything with a dimension ``replicate``.

    Returns
    -------
    xarray.Dataset
        Without that dimension.

    Raises
    ------
    ValueError
        No replicates; for `standard_deviation` and `standard_error` fewer than two.

    Examples
    --------
    >>> import srfx
    >>> ds = srfx.simulate(srfx.SpikedRF(), alpha=1, lam=0.1, d=100, replicates=4)
    >>> dict(srfx.simulation.mean(ds).sizes)
    {'alpha': 1, 'lam': 1}
    >>> ratio = srfx.simulation.standard_deviation(ds) / srfx.simulation.standard_error(ds)
    >>> print(f"{ratio.test_error.item():.6f}")
    2.000000
    """
    return _with_replicates(ds, 1).mean("replicate", keep_attrs=True)


@check.public
def standard_deviation(ds: xr.Dataset) -> xr.Dataset:
    """Return the standard deviation over replicates (divided by their number minus one).

    See `mean` for what is taken, returned, raised, and for an example.
    """
    return _with_replicates(ds, 2).std("replicate", ddof=1, keep_attrs=True)


@check.public
def standard_error(ds: xr.Dataset) -> xr.Dataset:
    """Return the standard error of the mean: `standard_deviation` over sqrt(replicates).

    See `mean` for what is taken, returned, raised, and for an example.
    """
    out = standard_deviation(ds)
    for name in out.data_vars:
        out[name] = out[name] / math.sqrt(ds.sizes["replicate"])
    return out


@check.public
def predictions(
    model: Model,
    alpha: float,
    lam: float,
    *,
    loss: Loss = "square",
    d: int = 1000,
    replicates: int = 10,
    n_test: int | None = None,
    seed: int = 0,
    dtype: DTypeLike = "float64",
    n_threads: int | None = None,
    literal: bool = False,
    rng: RandomState = None,
) -> xr.Dataset:
    """Predict fresh points with simulated networks; `learned_function` is the conditional mean.

    Parameters
    ----------
    model, loss, d, replicates, n_test, seed, dtype, n_threads, literal, rng
        As in `simulate`.
    alpha, lam : float
        One sample complexity and one penalty.

    Returns
    -------
    xarray.Dataset
        ``t = theta.x/sqrt(d)`` and ``f = f(x)``, dims (replicate, point); t of several directions
        has a dimension ``direction`` after them.

    Raises
    ------
    TypeError, ValueError, numpy.linalg.LinAlgError
        As `simulate`.

    Examples
    --------
    >>> import srfx
    >>> ds = srfx.simulation.predictions(srfx.SpikedRF(), 2, 0.1, d=100, replicates=2, n_test=50)
    >>> dict(ds.sizes)
    {'replicate': 2, 'point': 50}
    """
    import xarray as xr

    plan = request(model, alpha, lam, d, n_test, seed_of(seed, rng), dtype, literal, loss)
    if plan.alpha.size != 1 or plan.lam.size != 1:
        raise ValueError(
            "alpha and lam must be single numbers: predictions of one readout are returned"
        )
    replicates = check.integer("replicates", replicates, 1)
    threads = check.thread_count(n_threads)
    check_memory(plan, None)
    points = replicates * plan.sizes["n_test"]
    check.memory(f"{points} points of {replicates} replicates", 32.0 * points)
    t, f = [], []
    for replicate in range(replicates):
        out = replicate_of(plan, replicate, threads, None, with_predictions=True)
        t.append(out["t"].T if model.directions > 1 else out["t"][0])
        f.append(out["f"][0, 0])
    dims = ("replicate", "point")
    return xr.Dataset(
        {
            "t": (
                dims if model.directions == 1 else (*dims, "direction"),
                np.array(t),
                {"long_name": "theta.x/sqrt(d)", "units": "1"},
            ),
            "f": (dims, np.array(f), {"long_name": "prediction", "units": "1"}),
        },
        coords={"replicate": np.arange(replicates)},
        attrs=_attributes(plan),
    )


@check.public
def sample_weights(
    model: Model,
    *,
    d: int = 1000,
    seed: int = 0,
    replicate: int = 0,
    dtype: DTypeLike = "float64",
    n_threads: int | None = None,
    rng: RandomState = None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """First-layer weights of one simulated network, with its spike and the target's direction.

    They are those of replicate ``replicate`` of ``simulate(..., literal=True)`` with this seed.

    Parameters
    ----------
    model, d, seed, dtype, n_threads, rng
        As in `simulate`.
    replicate : int
        Which network, >= 0.

    Returns
    -------
    W : array of shape (p, d)
        The weights (after the gradient steps, for a `OneStep` or `MultiStep`).
    v : array of shape (d,), or (q, d)
        The spike, of norm sqrt(d); with ``spikes`` of the model a row each. After one step the
        direction ``sum_mu (y_mu - f0(x_mu)) x_mu`` along which it moves the weights on average;
        after several that of the mean row, of K groups K orthogonal rows that span their mean rows.
        A zero vector without a step.
    theta : array of shape (d,), or (L, d)
        The target's direction, of norm sqrt(d), or its several directions.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of range.

    Examples
    --------
    >>> import srfx
    >>> W, v, theta = srfx.simulation.sample_weights(srfx.SpikedRF(gamma=0.5), d=100)
    >>> print(W.shape, f"{v @ theta / 100:.6f}")
    (100, 100) 0.500000
    """
    plan = request(model, 1.0, 1.0, d, 1, seed_of(seed, rng), dtype, True)
    replicate = check.integer("replicate", replicate, 0)
    p, d = sum(plan.sizes["sizes"]), plan.sizes["d"]
    check.memory(f"weights of shape ({p}, {d})", 16.0 * p * d)
    w, v, theta = _core.simulated_weights(
        plan.experiment(replicate),
        compiled(model.activation),
        target_of(model),
        plan.single,
        check.thread_count(n_threads),
    )
    if isinstance(model, SpikedRF):
        v = v if model.spikes is not None else v[0]
    else:
        v = _spikes_of(w, plan) if len(plan.sizes["n0"]) > 1 else v[0]
        v = v if plan.sizes["n0"] else np.zeros_like(v)
    return w, v, theta if model.directions > 1 else theta[0]


def _spikes_of(w: FloatArray, plan: Request) -> FloatArray:
    """Return the mean rows of the groups of neurons, made orthogonal, of norm sqrt(d)."""
    ends = np.cumsum(plan.sizes["sizes"])
    means = np.array([rows.mean(axis=0) for rows in np.split(w, ends[:-1])])
    basis = np.linalg.svd(means, full_matrices=False)[2]
    basis *= np.where(basis @ means[0] < 0, -1.0, 1.0)[:, np.newaxis] * math.sqrt(w.shape[1])
    return basis if len(basis) > 1 else basis[0]


# --- running --------------------------------------------------------------------------------------


def _run_all(
    plan: Request, replicates: int, threads: int, pool: Pool | None
) -> Iterator[tuple[int, dict[str, FloatArray]]]:
    """Run replicates here, or all that an executor may run, and yield them as they end."""
    if pool is None:
        yield from ((i, replicate_of(plan, i, threads, None)) for i in range(replicates))
        return
    with started() as run:
        results = pool.run(partial(_numbered, plan, threads, run.name), range(replicates), run.stop)
        try:
            yield from results
        finally:
            results.close()


def _numbered(
    plan: Request, threads: int, run: str, replicate: int
) -> tuple[int, dict[str, FloatArray]]:
    return replicate, replicate_of(plan, replicate, threads, run)


def _bar(total: int, progress: bool | None) -> Any:
    """Make a progress bar: None shows it on a terminal only."""
    if progress is False:
        return contextlib.nullcontext(SimpleNamespace(update=lambda: None))
    from tqdm import tqdm

    return tqdm(
        total=total, desc="simulate", unit="replicate", disable=None if progress is None else False
    )


# --- results ------------------------------------------------------------------------------------


def _dataset(
    plan: Request, finished: dict[int, dict[str, FloatArray]], interrupted: str | None
) -> xr.Dataset:
    import xarray as xr

    which = sorted(finished)
    dims = ("alpha", "lam", "replicate")
    noise_free = "noise-free test error" if plan.model.labels == "real" else "test error"
    meaning = {
        "test_error": noise_free,
        "train_error": "training error, without the penalty",
        "test_loss": "test loss",
        "train_loss": "training loss, without the penalty",
        "classification_error": "classification error",
        "duality_gap": "duality gap over objective",
    }
    variables = {
        name: (
            dims,
            np.stack([finished[i][name][plan.order] for i in which], axis=-1),
            {"long_name": text, "units": "1"},
        )
        for name, text in meaning.items()
        if name in finished[which[0]]
    }
    attributes = _attributes(plan)
    if interrupted is not None:
        attributes["interrupted"] = interrupted
    return xr.Dataset(
        variables,
        coords={
            "alpha": ("alpha", plan.alpha, {"long_name": "sample complexity n/d"}),
            "lam": ("lam", plan.lam, {"long_name": "ridge penalty"}),
            "replicate": np.array(which),
            "n": ("alpha", plan.n, {"long_name": "training samples"}),
        },
        attrs=attributes,
    )


def _attributes(plan: Request) -> dict[str, Any]:
    """Model, sizes, seed and build in plain values."""
    model, sizes = plan.model, plan.sizes
    out: dict[str, Any] = {
        "model": type(model).__name__,
        "activation": label(model.activation),
        "target": label(model.target),
    }
    out |= {name: float(np.asarray(field).item()) for name, field in model.numeric.items()}
    out |= {
        **structure(model),
        **({} if plan.loss.kind == "square" else {"loss": plan.loss.label}),
        "group_sizes": sizes["sizes"],
        "d": sizes["d"],
        "p": sum(sizes["sizes"]),
        "n0": sizes["n0"] if isinstance(model, MultiStep) else sum(sizes["n0"]),
        "n_test": sizes["n_test"],
        "seed": str(sizes["seed"]),  # may exceed the integers of a file format
        "dtype": DTYPES[plan.single],
        "literal": int(sizes["literal"]),
        "method": "simulation",
        "srfx_version": version(),
    }
    config = _core.build_config()
    out["build"] = ", ".join(
        f"{key} {config[key]}" for key in ("compiler", "instruction_set", "eigen")
    )
    return out


def _with_replicates(ds: xr.Dataset, least: int) -> xr.Dataset:
    count = ds.sizes.get("replicate", 0)
    if count < least:
        raise ValueError(f"ds must have at least {least} replicates; it has {count}")
    return ds
