"""What comes after "what is the error": its derivatives, optima, thresholds, spectra."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx import _core
from srfx import _validation as check
from srfx.config import version
from srfx.models import (
    FloatArray,
    OneStep,
    SpikedRF,
    compiled,
    floor_of,
    gaussian_constants,
    groups_of,
    label,
)
from srfx.results import Solution, Status, dimensions
from srfx.theory import _check_model, _coefficient_sets, _flat, solve

if TYPE_CHECKING:
    import xarray as xr

#: Directions of the core, in its order.
_CORE = ("lam", "alpha", "beta", "noise", "r", "c", "gamma")
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
    if solution.bulk != "isotropic" or len(model.readout) > 1:
        raise NotImplementedError(
            "gradient is available for one readout value and bulk='isotropic'; got readout="
            f"{model.readout}, bulk={solution.bulk!r}"
        )
    lam = solution.arguments["lam"]
    if np.any(np.isinf(solution.v2)):
        raise NotImplementedError(
            "gradient is not available in the ridgeless limit at or below the interpolation "
            f"threshold, where V is infinite; use a small lam > 0; got lam={lam!r}"
        )
    chains = {name: _chain(model, name) for name in names}
    directions = [d for d in _CORE if any(d in chain for chain in chains.values())]
    r, c, gamma = groups_of(model)
    smooth = gamma[np.abs(gamma) > 1 - 5e-9]
    if "gamma" in directions and smooth.size and not compiled(model.target).smooth:
        raise NotImplementedError(
            "the derivative in gamma within 5e-9 of |gamma| = 1 needs a target without kinks; got "
            f"gamma={float(smooth.flat[0])!r}, target={model.target!r}"
        )
    shape = solution.shape
    sets, index = _coefficient_sets((r, c, gamma), shape)
    test, train = _core.gradient(
        compiled(model.activation),
        compiled(model.target),
        sets[0].ravel(),
        sets[1].ravel(),
        sets[2],
        index,
        _flat(model.beta, shape),
        _flat(model.noise, shape),
        _flat(solution.arguments["alpha"], shape),
        _flat(lam, shape),
        _flat(1 / np.asarray(solution.arguments["d"]), shape),
        np.ravel(np.asarray(solution.v1)),
        np.ravel(np.asarray(solution.v2)),
        [_CORE.index(d) for d in directions],
        threads,
    )
    raw = {
        (error, d): values[i].reshape(shape)
        for error, values in zip(_ERRORS, (test, train), strict=True)
        for i, d in enumerate(directions)
    }
    return {
        (error, name): sum(
            (raw[error, d] * factor for d, factor in chain.items()), np.zeros(shape)
        )[()]
        for error in of
        for name, chain in chains.items()
    }


def _chain(model: SpikedRF | OneStep, name: str) -> dict[str, float | FloatArray]:
    """Give what a unit of a parameter does to those of the core: direction -> derivative."""
    (a,) = model.readout
    if isinstance(model, SpikedRF):
        return {name: {"r": a, "c": a * a}.get(name, 1.0)}
    if name not in ("eta", "alpha0", "noise"):
        return {name: 1.0}
    sigma = gaussian_constants(model.activation, derivative=True)
    target = gaussian_constants(model.target)
    h1, h2, curved = sigma["h1"], sigma["h2"], sigma["h2"] ** 2 + sigma["hc1"]
    offset = a * sigma["mean"]
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


def feature_spectrum(
    model: SpikedRF | OneStep, alpha: ArrayLike, x: ArrayLike, *, n_threads: int | None = None
) -> xr.Dataset:
    """Compute the limiting spectral density of ``Phi^T Phi/p``, Phi the n x p matrix of features.

    The equations of `solve` at complex ``lam = -x - i0``: ``density = Im V2/pi`` (THEORY section
    6).
    Above the axis their solution in the upper half plane is unique, so there is no branch to
    choose. Each spectrum comes with checks made at run time: its total mass, by integration over
    all of it, should be 1, its first moment ``a' (E u1 + E u2)``.

    Parameters
    ----------
    model : SpikedRF or OneStep
        The model, with one readout value; a OneStep is treated through `OneStep.equivalent`. The
        target matters only as far as it shapes the step.
    alpha : float or array
        Samples over d, > 0; broadcasts with the numeric fields of the model.
    x : array
        Where to compute the density, > 0 (the mass at zero is reported apart), of one dimension.
        Use log-spaced points where the density reaches far down.
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
        eigenvalue of about d times this stands apart, ``alpha E mu0^2``.

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong type or out of range.
    NotImplementedError
        Several readout values.

    Notes
    -----
    For ``n < p`` and a saturating or growing activation with a spike the density has a tail towards
    small x, made of rare large projections on the spike. Where it is too thin to be resolved
    (``density_error * x`` above 1e-6) points are NaN with status 1, and ``mass`` falls short of 1
    by what was left out.

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
    threads = check.thread_count(n_threads)
    if len(model.readout) > 1:
        raise NotImplementedError(
            f"feature_spectrum is available for one readout value; got readout={model.readout}"
        )
    relevant = {k: v for k, v in model.numeric.items() if k not in ("noise", "gamma")}
    if isinstance(model, OneStep):
        relevant = dict(model.numeric)
    arguments = {**relevant, "alpha": alpha_values}
    r, c, _ = groups_of(model)
    shape = check.common_shape(arguments)
    r_flat, c_flat, alpha_flat, beta_flat = (
        np.ascontiguousarray(np.broadcast_to(v, shape)).ravel()
        for v in (r[..., 0], c[..., 0], alpha_values, model.beta)
    )
    raw = _core.spectrum(
        compiled(model.activation), r_flat, c_flat, alpha_flat, beta_flat, points, threads
    )

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
    return xr.Dataset(variables, coords={**coordinates, "x": ("x", points)}, attrs=_describe(model))


def _with(model: SpikedRF | OneStep, values: Mapping[str, Any]) -> SpikedRF | OneStep:
    """Set fields of a model."""
    fields: dict[str, Any] = dict(values)
    return dataclasses.replace(model, **fields) if fields else model


def _describe(model: SpikedRF | OneStep) -> dict[str, Any]:
    return {
        "model": type(model).__name__,
        "activation": label(model.activation),
        "target": label(model.target),
        "linear_floor": floor_of(model.target),
        "srfx_version": version(),
    }


# --- optima ---

_GRID = {1: 33, 2: 13, 3: 9}
_CANDIDATES = 3


class _Problem:
    """The test error as a function of a few coordinates, at every parameter set at once.

    A coordinate is the logarithm of a parameter if its range is positive, else the parameter.
    """

    def __init__(
        self,
        model: SpikedRF | OneStep,
        over: Mapping[str, tuple[float, float]],
        fixed: Mapping[str, float | FloatArray],
        settings: Mapping[str, Any],
    ) -> None:
        self.model, self.names, self.fixed, self.settings = model, tuple(over), fixed, settings
        self.log = np.array([low > 0 for low, _ in over.values()])
        ends = [[np.log(v) if low > 0 else v for v in (low, high)] for low, high in over.values()]
        self.low, self.high = np.array(ends).T
        self.ends = np.array(list(over.values()), dtype=np.float64)
        self.exact = settings.get("bulk", "isotropic") == "isotropic" and len(model.readout) == 1
        self.arguments = {
            **{k: v for k, v in model.numeric.items() if k not in over},
            **{k: v for k, v in fixed.items() if v is not None},
        }
        self.shape = check.common_shape({k: v for k, v in self.arguments.items() if k != "d"})

    def values(self, y: FloatArray) -> list[FloatArray]:
        """Coordinates, first axis of y, to parameters."""
        return [
            np.clip(np.exp(v) if log else v, *ends)
            for v, log, ends in zip(y, self.log, self.ends, strict=True)
        ]

    def solve(self, y: FloatArray) -> Solution:
        values = dict(zip(self.names, self.values(y), strict=True))
        fields = {k: v for k, v in values.items() if k not in ("lam", "alpha")}
        model = _with(self.model, fields)
        point = {**self.fixed, **values}
        return solve(
            model,
            point["alpha"],
            point["lam"],
            d=point.get("d"),
            errors="record",
            **self.settings,
        )

    def error(self, y: FloatArray) -> FloatArray:
        error = np.asarray(self.solve(y).test_error)
        return np.where(np.isfinite(error), error, np.inf)

    def slope(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Error and its derivatives in the coordinates, these on the first axis."""
        solution = self.solve(y)
        raw = gradient(solution, self.names, ["test_error"], self.settings.get("n_threads"))
        slopes = [
            np.asarray(raw["test_error", name]) * (value if log else 1.0)
            for name, value, log in zip(self.names, self.values(y), self.log, strict=True)
        ]
        error = np.asarray(solution.test_error)
        return np.where(np.isfinite(error), error, np.inf), np.stack(slopes)

    def grid(self, n: int) -> tuple[FloatArray, FloatArray]:
        """Coordinates (k, n, ..., n) of a grid and the errors (n, ..., n, *shape) there."""
        k = len(self.names)
        axes = [np.linspace(lo, hi, n) for lo, hi in zip(self.low, self.high, strict=True)]
        mesh = np.stack(np.meshgrid(*axes, indexing="ij")) if k else np.zeros((0,))
        flat = mesh.reshape(k, -1)
        size = max(1, int(np.prod(self.shape, dtype=np.int64)))
        step = max(1, 400_000 // size)
        error = np.concatenate(
            [
                self.error(flat[:, i : i + step].reshape(k, -1, *(1,) * len(self.shape)))
                for i in range(0, flat.shape[1], step)
            ]
        )
        error = np.broadcast_to(error, (flat.shape[1], *self.shape))
        return mesh, error.reshape((n,) * k + self.shape).copy()


def _local_minima(error: FloatArray, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the best grid points no higher than their neighbours: index (candidate, *shape)."""
    n = error.shape[0]
    lowest = np.isfinite(error)
    for axis in range(k):
        ahead = np.full_like(error, np.inf)
        behind = np.full_like(error, np.inf)
        first = (slice(None),) * axis
        ahead[(*first, slice(0, n - 1))] = error[(*first, slice(1, n))]
        behind[(*first, slice(1, n))] = error[(*first, slice(0, n - 1))]
        lowest &= (error <= ahead) & (error <= behind)
    flat = np.where(lowest, error, np.inf).reshape(n**k, *error.shape[k:])
    count = np.isfinite(flat).sum(axis=0)
    most = int(min(_CANDIDATES, max(1, count.max(initial=1))))
    best = np.argpartition(flat, most - 1, axis=0)[:most]
    good = np.isfinite(np.take_along_axis(flat, best, axis=0))
    top = flat.argmin(axis=0)
    return np.where(good, best, top), count


def _bracketed(
    problem: _Problem, axis: FloatArray, start: NDArray[np.int64]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Minimise along one coordinate near grid points: the root of the derivative, bracketed."""
    n = axis.size
    here = axis[start]
    _, (slope,) = problem.slope(here[np.newaxis])
    ahead, behind = axis[np.minimum(start + 1, n - 1)], axis[np.maximum(start - 1, 0)]
    downhill = slope < 0
    low, high = np.where(downhill, here, behind), np.where(downhill, ahead, here)
    at_end = low == high  # on a bound, with the error rising inwards
    y_other = np.where(downhill, high, low)
    _, (other,) = problem.slope(y_other[np.newaxis])
    s_low, s_high = np.where(downhill, slope, other), np.where(downhill, other, slope)
    # without a change of sign the least is at an end of the bracket, where the error is monotone
    flat = (s_low >= 0) | (s_high <= 0)
    end = np.where(s_high <= 0, high, low)
    w_low, w_high, previous = s_low, s_high, np.zeros_like(low)
    done = at_end | flat | ~np.isfinite(s_low) | ~np.isfinite(s_high)
    y = np.where(done, np.where(at_end, here, end), 0.5 * (low + high))
    converged = (at_end | flat) & np.isfinite(slope)
    for iteration in range(60):
        if done.all():
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            guess = (low * w_high - high * w_low) / (w_high - w_low)
        guess = np.where((guess > low) & (guess < high), guess, 0.5 * (low + high))
        if iteration % 6 == 5:
            guess = 0.5 * (low + high)
        new = np.where(done, y, guess)
        _, (s,) = problem.slope(new[np.newaxis])
        moved = np.abs(new - y)
        y = new
        lost = ~np.isfinite(s) & ~done
        left, right = (s < 0) & ~done, (s >= 0) & ~done
        # Illinois: the slope at an end that stays twice counts half
        w_high = np.where(right, s, np.where(left & (previous < 0), w_high / 2, w_high))
        w_low = np.where(left, s, np.where(right & (previous > 0), w_low / 2, w_low))
        low, high = np.where(left, new, low), np.where(right, new, high)
        previous = np.where(left, -1.0, 1.0)
        small = (high - low < 1e-11) | ((moved < 1e-9) & (iteration > 0)) | (s == 0)
        converged |= small & ~done & ~lost
        done |= small | lost
    return y, converged


def _golden(
    problem: _Problem, axis: FloatArray, start: NDArray[np.int64]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Minimise along one coordinate near grid points by golden section, where no derivative is."""
    n, ratio = axis.size, (np.sqrt(5) - 1) / 2
    low, high = axis[np.maximum(start - 1, 0)], axis[np.minimum(start + 1, n - 1)]
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = problem.error(a[np.newaxis]), problem.error(b[np.newaxis])
    for _ in range(36):
        left = at_a <= at_b
        low, high = np.where(left, low, a), np.where(left, b, high)
        new = np.where(left, high - ratio * (high - low), low + ratio * (high - low))
        at_new = problem.error(new[np.newaxis])
        a, b = np.where(left, new, b), np.where(left, a, new)
        at_a, at_b = np.where(left, at_new, at_b), np.where(left, at_a, at_new)
    middle = np.where(at_a <= at_b, a, b)
    best, error = middle, np.minimum(at_a, at_b)
    for end in (low, high):  # a bound may be better than all that is inside
        at_end = problem.error(end[np.newaxis])
        best, error = np.where(at_end <= error, end, best), np.minimum(error, at_end)
    return best, np.isfinite(error)


def _descend(
    problem: _Problem, mesh: FloatArray, start: NDArray[np.int64]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Minimise along several coordinates: BFGS on exact gradients, projected on the box."""
    k = len(problem.names)
    y = mesh.reshape(k, -1)[:, start]
    shape = (k, *(1,) * start.ndim)
    low, high = problem.low.reshape(shape), problem.high.reshape(shape)
    reach = (high - low) / (mesh.shape[1] - 1)  # a step: one cell of the grid at most
    error, slope = problem.slope(y)
    identity = np.eye(k).reshape(k, k, *(1,) * start.ndim)
    scale = (reach**2).reshape(shape) / np.maximum(np.abs(error), 1e-300)
    inverse = np.broadcast_to(identity * scale[:, np.newaxis], (k, k, *start.shape)).copy()
    done = ~np.isfinite(error)
    converged = np.zeros_like(done)
    length = np.ones_like(error)
    for _ in range(120):
        stuck = ((y <= low) & (slope > 0)) | ((y >= high) & (slope < 0))
        free = np.where(stuck, 0.0, slope)
        # relative change of the error that the remaining slope could bring about
        still = np.max(np.abs(free) * reach, axis=0) <= 1e-9 * np.abs(error)
        converged |= still & ~done
        done |= still
        if done.all():
            break
        mask = np.where(stuck, 0.0, 1.0)
        step = -np.einsum("ij...,j...->i...", inverse, free) * mask
        uphill = np.sum(step * free, axis=0) >= 0
        step = np.where(uphill, -free * scale, step)
        size = np.max(np.abs(step) / reach, axis=0)
        step = step / np.maximum(size, 1.0) * length
        new = np.where(done, y, np.clip(y + step, low, high))
        new_error, new_slope = problem.slope(new)
        moved = new - y
        enough = new_error <= error + 1e-4 * np.sum(slope * moved, axis=0)
        # at the bottom rounding decides: there the slope must fall
        flat = np.abs(new_error - error) <= 1e-13 * np.abs(error)
        good = (enough | flat) & ~done & np.isfinite(new_error)
        turn = np.where(good, new_slope - slope, 0.0)
        moved = np.where(good, moved, 0.0)
        curvature = np.sum(turn * moved, axis=0)
        useful = good & (curvature > 1e-14 * np.sum(np.abs(turn * moved), axis=0)) & (curvature > 0)
        rho = 1 / np.where(useful, curvature, 1.0)
        left = identity - rho * moved[:, np.newaxis] * turn[np.newaxis]
        updated = np.einsum("ij...,jk...,lk...->il...", left, inverse, left)
        updated = updated + rho * moved[:, np.newaxis] * moved[np.newaxis]
        inverse = np.where(useful, updated, inverse)
        y, error = np.where(good, new, y), np.where(good, new_error, error)
        slope = np.where(good, new_slope, slope)
        failed = ~good & ~done
        length = np.where(failed, length / 4, 1.0)
        lost = failed & (length < 1e-9)
        done |= lost
    return y, converged


def optimal(
    model: SpikedRF | OneStep,
    over: Mapping[str, tuple[float, float]],
    *,
    alpha: ArrayLike | None = None,
    lam: ArrayLike | None = None,
    d: ArrayLike | None = None,
    bulk: Any = "isotropic",
    n_threads: int | None = None,
) -> xr.Dataset:
    """Find the parameter values of least test error, for every set of the others at once.

    A coarse grid over the ranges comes first, so that several local minima are found (33 points in
    one parameter, 13 x 13 in two, 9 x 9 x 9 in three); the best three of them are then followed to
    the root of the exact derivative (`Solution.gradient`): in one parameter by a bracketed secant,
    in several by BFGS within the box. Ranges of positive numbers are searched on a logarithmic
    scale.

    Parameters
    ----------
    model : SpikedRF or OneStep
        The model; its fields named in ``over`` are ignored.
    over : mapping
        Parameter -> (lowest, highest): one to three of ``"lam"``, of a SpikedRF ``"r"``, of a
        OneStep ``"eta"`` and ``"alpha0"``. Those of lam and alpha0 must be positive.
    alpha : float or array
        Samples over d, as in `solve`.
    lam : float or array, optional
        Ridge penalty, unless in ``over``.
    d, bulk, n_threads
        As in `solve`. Without exact derivatives (several readout values, another bulk) one
        parameter is searched by golden section, to about 1e-6; several are refused.

    Returns
    -------
    xarray.Dataset
        Over the dimensions of the remaining parameters: each optimised parameter, and under
        ``<name>_bound`` -1 or 1 where its optimum is the low or high end of its range, else 0;
        ``test_error`` and ``train_error`` there; ``n_minima``, how many local minima the grid
        showed; and ``status``, 0 where it converged (elsewhere the rest is NaN).

    Raises
    ------
    TypeError, ValueError
        An unknown parameter, an empty, reversed or invalid range, or another bad argument.
    NotImplementedError
        Several parameters without exact derivatives.

    Examples
    --------
    >>> import srfx
    >>> best = srfx.optimal(srfx.OneStep(eta=2), over={"lam": (1e-6, 1e2)}, alpha=[0.5, 1, 2])
    >>> dict(best.sizes), best.lam_bound.values.tolist()
    ({'alpha': 3}, [0, 0, 0])
    """
    import xarray as xr

    _check_model(model)
    ranges = _ranges(model, over)
    problem = _problem(model, ranges, alpha, lam, d, bulk, n_threads)
    y, converged, count = _minimise(problem)
    solution = problem.solve(y)
    good = converged & np.asarray(solution.success)
    dims, coordinates = dimensions(problem.arguments, problem.shape)
    status = np.where(good, Status.CONVERGED, Status.MAX_ITERATIONS).astype(np.int8)
    variables: dict[str, Any] = {}
    for i, (name, value) in enumerate(zip(problem.names, problem.values(y), strict=True)):
        near = 1e-12 * (problem.high[i] - problem.low[i])
        side = (y[i] >= problem.high[i] - near).astype(np.int8) - (y[i] <= problem.low[i] + near)
        variables[name] = (dims, np.where(good, value, np.nan), {"long_name": f"best {name}"})
        variables[f"{name}_bound"] = (
            dims,
            side.astype(np.int8),
            {"long_name": "-1 at the low end of the range, 1 at the high end, 0 inside"},
        )
    for name in _ERRORS:
        values = np.broadcast_to(getattr(solution, name), problem.shape)
        variables[name] = (dims, np.where(good, values, np.nan), {"long_name": name})
    variables["n_minima"] = (dims, count.astype(np.int32), {"long_name": "local minima seen"})
    variables["status"] = (dims, status, {"long_name": "0 converged, 1 max_iterations"})
    attrs = _describe(model) | {f"{name}_range": list(ends) for name, ends in ranges.items()}
    return xr.Dataset(variables, coords=coordinates, attrs=attrs)


def _ranges(
    model: SpikedRF | OneStep, over: object, role: str = "over", known: Sequence[str] | None = None
) -> dict[str, tuple[float, float]]:
    if known is None:
        known = ("lam", "r") if isinstance(model, SpikedRF) else ("lam", "eta", "alpha0")
    if not isinstance(over, Mapping):
        raise TypeError(
            f"{role} must map parameters to ranges, as in {{'lam': (1e-6, 1e2)}}; got {over!r}"
        )
    if not over:
        raise ValueError(f"{role} must name at least one of {', '.join(known)}; got {over!r}")
    ranges = {}
    for name, value in over.items():
        check.one_of(f"a parameter in {role}", name, known)
        what = f"{role}[{name!r}]"
        ends = check.vector(what, value, "a pair (lowest, highest) of finite numbers")
        positive = name in ("lam", "alpha", "alpha0", "beta", "c")
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise ValueError(f"{what} must be a pair with lowest < highest; got {value!r}")
        if positive and ends[0] <= 0:
            raise ValueError(f"{what} must hold values > 0 only; got {value!r}")
        if name not in ("lam", "alpha"):
            for end in ends:
                _with(model, {name: end})  # refuses what the model refuses
        ranges[name] = (ends[0], ends[1])
    return ranges


def _problem(
    model: SpikedRF | OneStep,
    ranges: Mapping[str, tuple[float, float]],
    alpha: object,
    lam: object,
    d: object,
    bulk: Any,
    n_threads: int | None,
) -> _Problem:
    fixed: dict[str, Any] = {}
    for name, value, door in (("alpha", alpha, check.positive), ("lam", lam, check.non_negative)):
        if name in ranges:
            if value is not None:
                raise ValueError(f"{name} must not be given when it is searched for; got {value!r}")
        else:
            if value is None:
                raise TypeError(f"{name} must be given; got None")
            fixed[name] = door(name, value)
    if d is not None:
        fixed["d"] = check.dimension("d", d)
    threads = check.thread_count(n_threads)
    problem = _Problem(model, ranges, fixed, {"bulk": bulk, "n_threads": threads})
    if "d" in fixed:
        problem.shape = check.common_shape(problem.arguments)
    if len(ranges) > 1 and not problem.exact:
        raise NotImplementedError(
            "several parameters are optimised together for one readout value and bulk='isotropic' "
            f"only; got over={tuple(ranges)}, readout={model.readout}, bulk={bulk!r}"
        )
    return problem


def _minimise(problem: _Problem) -> tuple[FloatArray, NDArray[np.bool_], NDArray[np.int64]]:
    """Coordinates of the least error (k, *shape), whether it converged, and the minima seen."""
    k = len(problem.names)
    mesh, error = problem.grid(_GRID[k])
    start, count = _local_minima(error, k)
    if k == 1:
        find = _bracketed if problem.exact else _golden
        found, converged = find(problem, mesh[0], start)
        found = found[np.newaxis]
    else:
        found, converged = _descend(problem, mesh, start)
    value = np.where(converged, problem.error(found), np.inf)
    best = value.argmin(axis=0)[np.newaxis]
    y = np.take_along_axis(found, best[np.newaxis], axis=1)[:, 0]
    return y, np.take_along_axis(converged, best, axis=0)[0], count


# --- thresholds ---


def thresholds(
    model: SpikedRF | OneStep,
    *,
    alpha: ArrayLike | None = None,
    lam: ArrayLike | None = None,
    over: Mapping[str, tuple[float, float]] | None = None,
    crossing: Mapping[str, tuple[float, float]] | None = None,
    d: ArrayLike | None = None,
    bulk: Any = "isotropic",
    n_threads: int | None = None,
) -> xr.Dataset:
    """Locate the interpolation threshold, its peak, and where the linear floor is crossed.

    The interpolation threshold is ``alpha = beta``, or ``min(1, beta)`` for a linear activation,
    whose features span only min(d, p) directions. With ``crossing`` one parameter is searched for
    the value where the test error, at ``lam`` or at the best values of ``over``, equals the linear
    floor: beyond it one gradient step beats every kernel and linear method.

    Parameters
    ----------
    model : SpikedRF or OneStep
        The model; its fields named in ``crossing`` or ``over`` are ignored.
    alpha : float or array, optional
        Samples over d, for a crossing in another parameter.
    lam : float or array, optional
        Ridge penalty. Given without ``crossing``, the peak is located at it.
    over : mapping, optional
        As in `optimal`: parameters set to their best values in a crossing.
    crossing : mapping, optional
        One parameter and its range: ``"alpha"``, ``"lam"`` or a numeric field of the model.
    d, bulk, n_threads
        As in `solve`.

    Returns
    -------
    xarray.Dataset
        ``interpolation``, alpha at the threshold. With ``lam`` and no crossing ``peak`` and
        ``peak_error``: alpha at the largest local maximum of the test error between a thirtieth and
        thirty times the threshold, NaN where there is none. With ``crossing`` the parameter's value
        at the first crossing in its range, NaN if there is none; ``below``: 1 where the error is
        below the floor after it, -1 where it is above; and ``n_crossings`` seen on a grid of 33
        points.

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As `optimal`.

    Examples
    --------
    >>> import srfx
    >>> ds = srfx.thresholds(srfx.SpikedRF(r=0, beta=[0.5, 1]), lam=1e-4)
    >>> ds.interpolation.values.tolist(), ds.peak.values.round(2).tolist()
    ([0.5, 1.0], [0.5, 1.0])
    """
    import xarray as xr

    _check_model(model)
    linear = floor_of(model.activation) == 0
    beta = np.asarray(model.beta)
    threshold = np.minimum(1.0, beta) if linear else beta
    variables: dict[str, Any] = {}
    if crossing is not None:
        problem, found, sign, count = _crossings(
            model, crossing, over, alpha, lam, d, bulk, n_threads
        )
        (name,) = problem.names
        dims, coordinates = dimensions(problem.arguments, problem.shape)
        variables[name] = (dims, found, {"long_name": f"{name} where the linear floor is crossed"})
        variables["below"] = (dims, sign, {"long_name": "1: the error is below the floor beyond"})
        variables["n_crossings"] = (dims, count, {"long_name": "crossings seen on the grid"})
        if name != "beta":
            variables["interpolation"] = (
                dims,
                np.broadcast_to(threshold, problem.shape),
                {"long_name": "interpolation threshold in alpha"},
            )
        return xr.Dataset(variables, coords=coordinates, attrs=_describe(model))
    if over is not None or alpha is not None:
        raise ValueError("alpha and over belong to a crossing; got no crossing")
    if lam is None:
        dims, coordinates = dimensions({"beta": model.beta}, beta.shape)
        variables["interpolation"] = (dims, threshold, {"long_name": "interpolation threshold"})
        return xr.Dataset(variables, coords=coordinates, attrs=_describe(model))
    ends = (float(threshold.min()) / 30, float(threshold.max()) * 30)
    problem = _problem(model, {"alpha": ends}, None, lam, d, bulk, n_threads)
    peak, height = _peak(problem)
    dims, coordinates = dimensions(problem.arguments, problem.shape)
    variables["interpolation"] = (
        dims,
        np.broadcast_to(threshold, problem.shape),
        {"long_name": "interpolation threshold in alpha"},
    )
    variables["peak"] = (dims, peak, {"long_name": "alpha at the peak of the test error"})
    variables["peak_error"] = (dims, height, {"long_name": "test error at the peak"})
    return xr.Dataset(variables, coords=coordinates, attrs=_describe(model))


class _Negative(_Problem):
    """The same with the sign of the error turned, for maxima."""

    def error(self, y: FloatArray) -> FloatArray:
        error = np.asarray(self.solve(y).test_error)
        return np.where(np.isfinite(error), -error, np.inf)

    def slope(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        error, slopes = super().slope(y)
        return -error, -slopes


def _peak(problem: _Problem) -> tuple[FloatArray, FloatArray]:
    """Find alpha and error at the largest interior local maximum of the error, or NaN."""
    (ends,) = problem.ends.tolist()
    turned = _Negative(problem.model, {"alpha": ends}, problem.fixed, problem.settings)
    turned.shape = problem.shape
    mesh, error = turned.grid(241)
    inside = (error[1:-1] < error[:-2]) & (error[1:-1] < error[2:])
    error[[0, -1]] = np.inf  # an end is no peak
    error[1:-1] = np.where(inside, error[1:-1], np.inf)
    start = error.argmin(axis=0)[np.newaxis]
    found, good = (_bracketed if turned.exact else _golden)(turned, mesh[0], start)
    good = good[0] & np.isfinite(error.min(axis=0))
    height = -turned.error(found[np.newaxis])[0]
    return np.where(good, np.exp(found[0]), np.nan), np.where(good, height, np.nan)


def _crossings(
    model: SpikedRF | OneStep,
    crossing: Mapping[str, tuple[float, float]],
    over: Mapping[str, tuple[float, float]] | None,
    alpha: ArrayLike | None,
    lam: ArrayLike | None,
    d: ArrayLike | None,
    bulk: Any,
    n_threads: int | None,
) -> tuple[_Problem, FloatArray, NDArray[np.int8], NDArray[np.int32]]:
    """First crossing of the floor along one parameter, its sense, and how many there are."""
    known = ("alpha", "lam", *model._numeric_names)
    ranges = _ranges(model, crossing, "crossing", known)
    if len(ranges) != 1:
        raise ValueError(f"crossing must name one parameter; got {tuple(ranges)}")
    inner = _ranges(model, over) if over is not None else {}
    (name,) = ranges
    if name in inner:
        raise ValueError(f"over must not name the parameter of the crossing; got {name!r} in both")
    if "lam" in inner and lam is not None:
        raise ValueError(f"lam must not be given when it is searched for; got {lam!r}")
    outer = _problem(model, ranges, alpha, 1.0 if "lam" in inner else lam, d, bulk, n_threads)
    for key in inner:
        outer.arguments.pop(key, None)
    outer.shape = check.common_shape(outer.arguments)
    floor = floor_of(model.target)

    def excess(y: FloatArray) -> FloatArray:
        """Error above the floor, at coordinates (m, *shape)."""
        if not inner:
            return outer.error(y[np.newaxis]) - floor
        (value,) = outer.values(y[np.newaxis])
        at = {k: v for k, v in outer.fixed.items() if k not in inner}
        changed = model
        if name in ("alpha", "lam"):
            at[name] = value
        else:
            changed = _with(model, {name: value})
        nested = _Problem(changed, inner, at, outer.settings)
        nested.shape = np.broadcast_shapes(y.shape, nested.shape)
        best, good, _ = _minimise(nested)
        return np.where(good, nested.error(best), np.nan) - floor

    n = 33
    axis = np.linspace(outer.low[0], outer.high[0], n)
    grid = np.stack([np.broadcast_to(excess(np.full(outer.shape, v)), outer.shape) for v in axis])
    change = (grid[1:] > 0) != (grid[:-1] > 0)
    change &= np.isfinite(grid[1:]) & np.isfinite(grid[:-1])
    count = change.sum(axis=0).astype(np.int32)
    first = change.argmax(axis=0)
    low, high = axis[first], axis[first + 1]
    f_low = np.take_along_axis(grid, first[np.newaxis], axis=0)[0]
    f_high = np.take_along_axis(grid, first[np.newaxis] + 1, axis=0)[0]
    sense = np.where(count > 0, np.where(f_low > 0, 1, -1), 0).astype(np.int8)
    w_low, w_high = f_low, f_high
    previous = np.zeros_like(low)
    for iteration in range(60):
        with np.errstate(divide="ignore", invalid="ignore"):
            new = (low * w_high - high * w_low) / (w_high - w_low)
        outside = ~((new > low) & (new < high))
        new = np.where(outside | (iteration % 6 == 5), 0.5 * (low + high), new)
        f = np.where(count > 0, excess(new), 0.0)
        same = (f > 0) == (f_low > 0)
        low, high = np.where(same, new, low), np.where(same, high, new)
        w_high = np.where(same, np.where(previous == 1, w_high / 2, w_high), f)
        w_low = np.where(same, f, np.where(previous == -1, w_low / 2, w_low))
        previous = np.where(same, 1, -1)
        middle = new
        if np.all((np.abs(f) < 1e-13) | (high - low < 1e-11) | (count == 0)):
            break
    (found,) = outer.values(middle[np.newaxis])
    return outer, np.where(count > 0, found, np.nan), sense, count
