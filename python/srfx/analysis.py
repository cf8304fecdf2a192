"""What comes after "what is the error": its derivatives, optima, thresholds, spectra."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx import _core, one_step
from srfx import _validation as check
from srfx.models import (
    FloatArray,
    OneStep,
    SpikedRF,
    compiled,
    gaussian_constants,
    groups_of,
    probabilities,
    quiet,
)
from srfx.one_step import EmpiricalBulk
from srfx.results import Solution, describe, dimensions
from srfx.theory import _check_bulk, _check_model, _coefficient_sets, _flat, _groups, solve

if TYPE_CHECKING:
    import xarray as xr

#: Directions of the core, in its order.
_CORE = ("lam", "alpha", "beta", "noise", "r", "c", "gamma")
#: Those for the actual step and given weights.
_STEP = ("lam", "alpha", "beta", "noise", "eta", "inverse alpha0")
_ERRORS = ("test_error", "train_error")


def gradient(
    solution: Solution, names: Sequence[str], of: Sequence[str], n_threads: int | None
) -> dict[tuple[str, str], FloatArray]:
    """Differentiate a solution: (error, parameter) -> values; see `Solution.gradient`."""
    model = solution.model
    known = ("lam", "alpha", *model._numeric_names)
    for name in names:
        check.one_of("name", name, known)
    for name in of:
        check.one_of("of", name, _ERRORS)
    threads = check.thread_count(n_threads)
    if solution.bulk == "one_step" and len(model.readout) > 1:
        raise NotImplementedError(
            "gradient is available for several readout values with bulk='isotropic', and with "
            f"bulk='one_step' for a single one; got readout={model.readout}"
        )
    if solution.bulk == "empirical":
        for name in names:
            check.one_of("name", name, ("lam", "alpha", "noise"))  # the rest is the weights'
    lam = solution.arguments["lam"]
    if np.any(np.isinf(solution.v2)):
        raise NotImplementedError(
            "gradient is not available in the ridgeless limit at or below the interpolation "
            f"threshold, where V is infinite; use a small lam > 0; got lam={lam!r}"
        )
    along = _along_groups if len(model.readout) > 1 else _along
    if solution.bulk != "isotropic":
        along = _along_step
    raw = along(solution, names, threads)
    jumps = {name: _jumps(solution, name, threads) for name in names}
    return {
        (error, name): np.where(jumps[name], np.nan, raw[error, name])[()]
        for error in of
        for name in names
    }


def _jumps(solution: Solution, name: str, threads: int) -> NDArray[np.bool_] | bool:
    """Tell where the error is not continuous in a parameter.

    At d = inf the mean of the features costs no penalty: where it vanishes without a spike, any
    spike makes of it a feature to fit with. Looked at beside r = 0, eta = 0.
    """
    size = {"r": "r", "c": "r", "eta": "eta"}.get(name)
    if size is None:
        return False
    inputs = solution.inputs
    doubtful = (inputs[size] == 0) & np.isinf(inputs["d"]) & np.asarray(solution.success)
    if not np.any(doubtful):
        return False
    at = {key: values[doubtful] for key, values in inputs.items()}
    at[name] = at[name] + 1e-8
    model = _with(solution.model, {key: at[key] for key in solution.model._numeric_names})
    with quiet():
        beside = solve(
            model, at["alpha"], at["lam"], bulk=solution.bulk, n_threads=threads, errors="record"
        )
    error = np.asarray(solution.test_error)[doubtful]
    moved = np.abs(beside.test_error - error) > 1e-6 * error
    out = np.zeros(solution.shape, dtype=bool)
    out[doubtful] = moved
    return out


def _check_gamma(model: SpikedRF | OneStep, gamma: FloatArray) -> None:
    smooth = gamma[np.abs(gamma) > 1 - 5e-9]
    if smooth.size and not compiled(model.target).smooth:
        raise NotImplementedError(
            "the derivative in gamma within 5e-9 of |gamma| = 1 needs a target without kinks; got "
            f"gamma={float(smooth.flat[0])!r}, target={model.target!r}"
        )


_Column = NDArray[np.float64]


def _points(solution: Solution) -> tuple[_Column, _Column, _Column, _Column, _Column]:
    """Beta, noise, alpha, lam and 1/d of every point, as the core takes them."""
    model, arguments, shape = solution.model, solution.arguments, solution.shape
    beta, noise, alpha, lam = (
        _flat(x, shape) for x in (model.beta, model.noise, arguments["alpha"], arguments["lam"])
    )
    return beta, noise, alpha, lam, _flat(1 / np.asarray(arguments["d"]), shape)


def _along(
    solution: Solution, names: Sequence[str], threads: int
) -> dict[tuple[str, str], FloatArray]:
    """One readout value: derivatives along the directions of the core, then the chain rule."""
    model, shape = solution.model, solution.shape
    chains = {name: _chain(model, name, model.readout[0]) for name in names}
    directions = [d for d in _CORE if any(d in chain for chain in chains.values())]
    r, c, gamma = groups_of(model)
    if "gamma" in directions:
        _check_gamma(model, gamma)
    sets, index = _coefficient_sets((r, c, gamma), shape)
    values = _core.gradient(
        compiled(model.activation),
        compiled(model.target),
        sets[0].ravel(),
        sets[1].ravel(),
        sets[2],
        index,
        *_points(solution),
        np.ravel(np.asarray(solution.v1)),
        np.ravel(np.asarray(solution.v2)),
        [_CORE.index(d) for d in directions],
        threads,
    )
    raw = {
        (error, d): rows[i].reshape(shape)
        for error, rows in zip(_ERRORS, values, strict=True)
        for i, d in enumerate(directions)
    }
    return {
        (error, name): sum((raw[error, d] * factor for d, factor in chain.items()), np.zeros(shape))
        for error in _ERRORS
        for name, chain in chains.items()
    }


def _along_step(
    solution: Solution, names: Sequence[str], threads: int
) -> dict[tuple[str, str], FloatArray]:
    """Differentiate the actual step, or given weights, along the directions of the core."""
    model, shape = solution.model, solution.shape
    directions = ["inverse alpha0" if name == "alpha0" else name for name in names]
    if solution.bulk == "empirical":
        values = one_step.weights_gradient(solution, [_STEP.index(d) for d in directions], threads)
    else:
        assert isinstance(model, OneStep)
        if any("gamma" in _chain(model, name, model.readout[0]) for name in names):
            _check_gamma(model, _alignment(model))
        values = one_step.step_gradient(solution, [_STEP.index(d) for d in directions], threads)
    out = {
        (error, name): rows[i].reshape(shape)
        for error, rows in zip(_ERRORS, values, strict=True)
        for i, name in enumerate(names)
    }
    for key in out:
        if key[1] == "alpha0":
            assert isinstance(model, OneStep)
            alpha0 = np.broadcast_to(np.asarray(model.alpha0), shape)
            still = np.isinf(alpha0) & np.isfinite(solution.v2)
            out[key] = np.where(still, 0.0, -out[key] / alpha0**2)
    return out


def _alignment(model: OneStep) -> FloatArray:
    """Gamma of the step (THEORY section 10), with no word on the isotropic bulk."""
    sigma, target = gaussian_constants(model.activation), gaussian_constants(model.target)
    offset = sum(p * v for p, v in zip(probabilities(model), model.readout, strict=True))
    offset *= sigma["mean"]
    u2 = target["second_moment"] - 2 * offset * target["mean"] + offset**2 + model.noise
    alpha0 = np.asarray(model.alpha0)
    stepped = alpha0 > 0
    length = np.sqrt(target["h1"] ** 2 + np.where(stepped, u2 / np.where(stepped, alpha0, 1), 0))
    return np.where(length > 0, target["h1"] / np.where(length > 0, length, 1), 0.0)


def _along_groups(
    solution: Solution, names: Sequence[str], threads: int
) -> dict[tuple[str, str], FloatArray]:
    """Several readout values: one direction a name, along which r and c of all groups move."""
    model, shape, k = solution.model, solution.shape, len(solution.model.readout)
    r, c, gamma = groups_of(model)
    chains = [[_chain(model, name, a) for a in model.readout] for name in names]
    moves_gamma = [np.asarray(chain[0].get("gamma", 0.0)) for chain in chains]
    if any(np.any(move != 0) for move in moves_gamma):
        _check_gamma(model, gamma)
    own = np.broadcast_shapes(
        r.shape[:-1],
        c.shape[:-1],
        gamma.shape,
        *(np.shape(x) for chain in chains for of_group in chain for x in of_group.values()),
    )

    def stacked(values: FloatArray, direction: str) -> FloatArray:
        """Of each set: the values of the groups, then what they move by, then gamma's moves."""
        moves = [
            np.broadcast_to(of_group.get(direction, 0.0), own)
            for chain in chains
            for of_group in chain
        ]
        tails = [np.broadcast_to(move, own) for move in moves_gamma]
        return np.concatenate(
            [np.broadcast_to(values, (*own, k)), np.stack([*moves, *tails], axis=-1)], axis=-1
        )

    sets, index = _coefficient_sets((stacked(r, "r"), stacked(c, "c"), gamma), shape)
    n = len(names)

    def moves_of(columns: FloatArray) -> FloatArray:
        return columns[:, k : k + n * k].reshape(-1, n, k).transpose(1, 0, 2)

    on_point = [next((_CORE.index(d) for d in _CORE[:4] if d in chain[0]), -1) for chain in chains]
    values = _core.gradient_groups(
        compiled(model.activation),
        compiled(model.target),
        sets[0][:, :k],
        sets[1][:, :k],
        sets[2],
        np.asarray(probabilities(model)),
        moves_of(sets[0]),
        moves_of(sets[1]),
        sets[0][:, k + n * k :].T,
        on_point,
        index,
        *_points(solution),
        np.asarray(solution.v1).reshape(-1, k, k),
        np.asarray(solution.v2).reshape(-1, k),
        threads,
    )
    return {
        (error, name): rows[i].reshape(shape)
        for error, rows in zip(_ERRORS, values, strict=True)
        for i, name in enumerate(names)
    }


def _chain(model: SpikedRF | OneStep, name: str, a: float) -> dict[str, float | FloatArray]:
    """Give what a unit of a parameter does to those of the core: direction -> derivative.

    r and c are those of the neurons whose initial readout is a.
    """
    if isinstance(model, SpikedRF):
        return {name: {"r": a, "c": a * a}.get(name, 1.0)}
    if name not in ("eta", "alpha0", "noise"):
        return {name: 1.0}
    sigma = gaussian_constants(model.activation, derivative=True)
    target = gaussian_constants(model.target)
    h1, h2, curved = sigma["h1"], sigma["h2"], sigma["h2"] ** 2 + sigma["hc1"]
    offset = sum(p * v for p, v in zip(probabilities(model), model.readout, strict=True))
    offset *= sigma["mean"]
    u1 = target["mean"] - offset
    u2 = target["second_moment"] - 2 * offset * target["mean"] + offset**2 + model.noise
    eta = a * np.asarray(model.eta)
    alpha0 = np.asarray(model.alpha0)
    if name == "alpha0" and np.any(alpha0 == 0):
        raise ValueError(
            "alpha0 must be > 0 for a derivative in it: alpha0 = 0 means no step, which no small "
            f"alpha0 comes near; got alpha0={model.alpha0!r}"
        )
    stepped = alpha0 > 0
    share = np.where(stepped, 1 / np.where(stepped, alpha0, 1.0), 0.0)  # 1/alpha0
    length = np.sqrt(target["h1"] ** 2 + u2 * share)
    if name == "eta":
        dr = a * h1 * length
        dc = a * (2 * (1 + eta * h2 * u1) * h2 * u1 + 2 * eta * curved * u2 * share)
        return {"r": np.where(stepped, dr, 0.0), "c": np.where(stepped, dc, 0.0)}
    # alpha0 and noise act through u2/alpha0
    moved = -u2 * share**2 if name == "alpha0" else share
    safe = np.where(length > 0, length, 1.0)
    chain: dict[str, float | FloatArray] = {
        "r": eta * h1 * moved / (2 * safe),
        "c": eta**2 * curved * moved,
    }
    turn = -target["h1"] * moved / (2 * safe**3)
    if np.any(turn != 0):
        chain["gamma"] = turn
    if name == "noise":
        chain["noise"] = 1.0
    return chain


@check.public
def feature_spectrum(
    model: SpikedRF | OneStep,
    alpha: ArrayLike,
    x: ArrayLike,
    *,
    bulk: str | EmpiricalBulk = "isotropic",
    n_threads: int | None = None,
) -> xr.Dataset:
    """Compute the limiting spectral density of ``Phi^T Phi/p``, Phi the n x p matrix of features.

    The equations of `solve` at complex ``lam = -x - i0``: ``density = Im V2/pi``, V2 summed over
    groups (THEORY sections 6 and 12). Above the axis their solution in the upper half plane is
    unique, so there is no branch to choose. Each spectrum comes with checks made at run time: its
    total mass, by integration over all of it, should be 1, its first moment ``a' (E u1 + E u2)``.

    Parameters
    ----------
    model : SpikedRF or OneStep
        The model. The target matters only as far as it shapes the step.
    alpha : float or array
        Samples over d, > 0; broadcasts with the numeric fields of the model.
    x : array
        Where to compute the density, > 0 (the mass at zero is reported apart), of one dimension.
        Use log-spaced points where the density reaches far down.
    bulk : {"isotropic", "one_step"} or EmpiricalBulk
        As in `solve`: ``"isotropic"`` treats a OneStep through `OneStep.equivalent`;
        ``"one_step"`` has the anisotropic bulk of the actual step, for a single readout value;
        given weights have their own.
    n_threads : int, optional
        Threads, as in `solve`: one model a thread.

    Returns
    -------
    xarray.Dataset
        ``density`` (NaN where ``status`` is not 0; 0 in gaps), ``density_error``, an estimate, and
        ``status`` over the model's dimensions and ``x``. Over the model's dimensions:
        ``mass_at_zero``; ``mass`` and ``first_moment`` by integration, the former including zero,
        and ``expected_first_moment``; ``edges`` of the bulk, ascending in pairs, and ``outliers``
        beside it, both padded with NaN; ``outlier_over_d``: if the mean feature is not zero one
        eigenvalue of about d times this stands apart, ``alpha E mu0^2`` (of several groups the
        largest of as many as there are independent means).

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of range, or the model contradicts given weights.
    NotImplementedError
        Several readout values with a bulk other than ``"isotropic"``.

    Notes
    -----
    For ``n < p`` and a saturating or growing activation with a spike the density has a tail towards
    small x, made of rare large projections on the spike: log-spaced x show it. Points where rules
    of growing density in k do not agree (``density_error * x`` above 1e-6) are NaN with status 1,
    and ``mass`` falls short of 1 by what was left out.

    Given weights have p numbers for a bulk, and a resolution to match: structure of the density
    finer than their spacing is theirs, not the limit's.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> ds = srfx.feature_spectrum(srfx.SpikedRF(r=0.9), alpha=2, x=np.linspace(0.01, 4, 400))
    >>> print(f"{ds.mass.item():.6f} {ds.edges.values.round(4)}")
    1.000000 [0.0146 3.1638]
    """
    import xarray as xr

    _check_model(model)
    alpha_values = check.positive("alpha", alpha)
    points = np.asarray(check.positive("x", x))
    if points.ndim > 1 or points.size == 0:
        raise ValueError(f"x must be a number or a vector of them; got shape {points.shape}")
    points = np.atleast_1d(points)
    _check_bulk(model, bulk, 1.0)
    if bulk != "isotropic" and len(model.readout) > 1:
        raise NotImplementedError(
            "feature_spectrum is available for several readout values with bulk='isotropic' only; "
            f"got readout={model.readout}, bulk={bulk!r}"
        )
    threads = check.thread_count(n_threads)
    relevant = {k: v for k, v in model.numeric.items() if k not in ("noise", "gamma")}
    if isinstance(model, OneStep):
        relevant = dict(model.numeric)
    if isinstance(bulk, EmpiricalBulk):
        one_step.check_weights(model, bulk)
        relevant = {"r": bulk.r, "c": bulk.c, "beta": bulk.p / bulk.d}
    arguments = {**relevant, "alpha": alpha_values}
    shape = check.common_shape(arguments)
    spectra = math.prod(shape)
    check.memory(f"{spectra} spectra at {points.size} x", 64.0 * spectra * points.size)
    raw = _spectra(model, bulk, alpha_values, shape, points, threads)

    dims, coordinates = dimensions(arguments, shape)

    def rows(name: str) -> NDArray[Any]:
        return np.stack([item[name] for item in raw]).reshape(*shape, points.size)

    def numbers(name: str) -> FloatArray:
        return np.array([item[name] for item in raw], dtype=np.float64).reshape(shape)

    def padded(name: str) -> FloatArray:
        width = max((item[name].size for item in raw), default=0)
        out = np.full((len(raw), width), np.nan)
        for row, item in zip(out, raw, strict=True):
            row[: item[name].size] = item[name]
        return out.reshape(*shape, width)

    variables = {
        "density": ([*dims, "x"], rows("density"), {"long_name": "spectral density"}),
        "density_error": ([*dims, "x"], rows("error"), {"long_name": "estimated error"}),
        "status": ([*dims, "x"], rows("status"), {"long_name": "0 converged, 1 max_iterations"}),
        "mass_at_zero": (dims, numbers("zero_mass"), {"long_name": "mass at zero"}),
        "mass": (dims, numbers("mass"), {"long_name": "total mass, by integration"}),
        "first_moment": (dims, numbers("first_moment"), {"long_name": "by integration"}),
        "expected_first_moment": (dims, numbers("expected_moment"), {"long_name": "exact"}),
        "outlier_over_d": (dims, numbers("outlier_rate"), {"long_name": "alpha E mu0^2"}),
        "edges": ([*dims, "edge"], padded("edges"), {"long_name": "edges of the bulk"}),
        "outliers": ([*dims, "outlier"], padded("outliers"), {"long_name": "outlying eigenvalues"}),
    }
    coords = {**coordinates, "x": ("x", points)}
    return xr.Dataset(variables, coords=coords, attrs=describe(model, bulk))


def _spectra(
    model: SpikedRF | OneStep,
    bulk: str | EmpiricalBulk,
    alpha: float | FloatArray,
    shape: tuple[int, ...],
    x: FloatArray,
    threads: int,
) -> list[Any]:
    """One spectrum of the core a model, in C order."""

    def full(value: float | FloatArray) -> _Column:
        array = np.asarray(value, dtype=np.float64)
        return np.ascontiguousarray(np.broadcast_to(array, shape)).ravel()

    sigma = compiled(model.activation)
    if isinstance(bulk, EmpiricalBulk):
        return _core.spectrum_empirical(
            sigma,
            bulk.r,
            bulk.c,
            bulk.eigenvalues,
            bulk.vectors,
            bulk.p / bulk.d,
            full(alpha),
            x,
            threads,
        )
    if bulk == "one_step":
        assert isinstance(model, OneStep)
        with np.errstate(divide="ignore"):
            inverse_alpha0 = 1 / np.asarray(model.alpha0)
        return _core.spectrum_one_step(
            sigma,
            compiled(model.target),
            model.readout[0],
            full(model.eta),
            full(inverse_alpha0),
            full(model.noise),
            full(alpha),
            full(model.beta),
            x,
            threads,
        )
    r, c, _ = _groups(model)
    k = len(model.readout)
    if k == 1:
        return _core.spectrum(
            sigma, full(r[..., 0]), full(c[..., 0]), full(alpha), full(model.beta), x, threads
        )
    return _core.spectrum_groups(
        sigma,
        np.ascontiguousarray(np.broadcast_to(r, (*shape, k))).reshape(-1, k),
        np.ascontiguousarray(np.broadcast_to(c, (*shape, k))).reshape(-1, k),
        np.asarray(probabilities(model)),
        full(alpha),
        full(model.beta),
        x,
        threads,
    )


def _with(model: SpikedRF | OneStep, values: Mapping[str, Any]) -> SpikedRF | OneStep:
    """Set fields of a model."""
    fields: dict[str, Any] = dict(values)
    return dataclasses.replace(model, **fields) if fields else model
