"""The best parameter values, and thresholds: where the error peaks and crosses the floor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx import _core
from srfx import _validation as check
from srfx._points import coefficient_sets, columns, spike_sets
from srfx.gradient import EIGHTH, gradient
from srfx.losses import Loss, chosen, loss_name
from srfx.models import (
    FloatArray,
    Model,
    MultiStep,
    OneStep,
    check_model,
    compiled,
    floor_of,
    group_count,
    groups_of,
    layout,
    step_moments,
    target_of,
    with_fields,
)
from srfx.results import ERRORS, Solution, Status, describe, dimensions, status_flags
from srfx.theory import check_size, covers, solve
from srfx.weights import inputs_of

if TYPE_CHECKING:
    import xarray as xr

# --- optima ---

#: Places of the grid along each parameter, at least: of one searched alone or of lam, of two beside
#: lam; and where other bulks and several readout values are searched together.
_PLACES = {1: 33, 2: 13}
_SLOW_GRID = {1: 33, 2: 13, 3: 9, 4: 7}
_CANDIDATES = 3
#: Errors that differ by less, relatively, are the same.
_LEVEL = 1e-10
#: Directions of the core that leave the coefficients alone.
_LINES = {"lam": 0, "alpha": 1}


class _Best(NamedTuple):
    """What a search yields, each of the problem's shape.

    Where it did not converge the values are those of the lowest place seen, or not a number.
    """

    values: list[FloatArray]  # one a parameter
    converged: NDArray[np.bool_]
    n_minima: NDArray[np.int64]
    n_failed: NDArray[np.int64]


class _Problem:
    """The test error as a function of a few coordinates, at every parameter set at once.

    A coordinate is the logarithm of a parameter if its range is positive, else the parameter.
    """

    def __init__(
        self,
        model: Model,
        over: Mapping[str, tuple[float, float]],
        fixed: Mapping[str, float | FloatArray],
        settings: Mapping[str, Any],
        of: str = "test_error",
    ) -> None:
        self.model, self.names, self.fixed, self.settings = model, tuple(over), fixed, settings
        self.of = of
        self.log = np.array([low > 0 for low, _ in over.values()])
        ends = [[np.log(v) if low > 0 else v for v in (low, high)] for low, high in over.values()]
        self.low, self.high = np.array(ends).T
        self.ends = np.array(list(over.values()), dtype=np.float64)
        self.arguments = {
            **inputs_of(
                {k: v for k, v in model.numeric.items() if k not in over}, settings["bulk"]
            ),
            **fixed,
        }
        self.shape = check.common_shape(self.arguments)
        check_size((*self.shape, 3), group_count(model))
        self.lowest: tuple[FloatArray, FloatArray] | None = None  # error and coordinates

    def note(self, y: FloatArray, error: FloatArray) -> None:
        """Keep the lowest of places (k, m, *shape), with errors (m, *shape), and those before."""
        if y.ndim != 2 + len(self.shape):  # no search
            return
        shape = np.broadcast_shapes(error.shape, y.shape[1:], (1, *self.shape))
        error = np.broadcast_to(error, shape)
        best = error.argmin(axis=0)[np.newaxis]
        least = np.take_along_axis(error, best, axis=0)[0]
        at = np.take_along_axis(np.broadcast_to(y, y.shape[:1] + shape), best[np.newaxis], axis=1)
        if self.lowest is None:
            self.lowest = least, at[:, 0]
        else:
            lower = least < self.lowest[0]
            self.lowest = (
                np.where(lower, least, self.lowest[0]),
                np.where(lower, at[:, 0], self.lowest[1]),
            )

    def ridge(self) -> bool:
        """Whether this is ridge regression on real labels."""
        return self.settings.get("loss", "square") == "square" and self.model.labels == "real"

    def isotropic(self) -> bool:
        """Whether the core's own search and derivatives cover it."""
        one = self.settings["bulk"] == "isotropic" and layout(self.model) == "one"
        return one and self.ridge()

    def regular(self) -> bool:
        """Whether slopes exist all over the ranges, for a bulk and a readout that have them."""
        if np.any(np.asarray(self.fixed.get("lam", 1.0)) == 0):
            return False  # the ridgeless limit may have no V
        one = layout(self.model) == "one" and self.model.directions == 1
        if one and "alpha0" in self.names and not compiled(self.model.target).smooth:
            most = float(self.ends[self.names.index("alpha0"), 1])
            gamma = groups_of(with_fields(self.model, {"alpha0": most}))[2]
            return bool(np.all(np.abs(gamma) <= 1 - 5e-9))
        return True

    def compiled(self) -> bool:
        """Whether the core can search: one readout value, isotropic bulk, slopes everywhere."""
        names, steps = set(self.names), isinstance(self.model, MultiStep)
        turning = isinstance(self.model, OneStep) and self.model.directions > 1
        known = names <= {"lam", "alpha", "beta"} if steps else True
        if turning:  # alpha0 and noise turn the spike among the directions
            known = names.isdisjoint({"alpha0", "noise"})
        return known and self.isotropic() and self.regular()

    def differentiable(self) -> bool:
        """Whether `gradient` serves: asked of it at the first parameter set."""
        if not self.regular():
            return False
        if self.isotropic():
            return True
        first = {k: float(np.ravel(v)[0]) for k, v in self.fixed.items()}
        fields = {k: float(np.ravel(v)[0]) for k, v in self.model.numeric.items()}
        model = with_fields(self.model, {k: v for k, v in fields.items() if k not in self.names})
        problem = _Problem(
            model, dict(zip(self.names, self.ends, strict=True)), first, self.settings, self.of
        )
        try:
            problem.slope(0.5 * (self.low + self.high))
        except NotImplementedError:
            return False
        return True

    def axis(self, i: int, least: int, cell: float, most: int) -> tuple[float, float, bool, int]:
        """Range, scale and places of a coordinate, as the core takes them."""
        n = least
        if self.log[i]:
            n = int(np.clip(np.ceil((self.high[i] - self.low[i]) / cell) + 1, least, most))
        return (float(self.ends[i, 0]), float(self.ends[i, 1]), bool(self.log[i]), n)

    def values(self, y: FloatArray) -> list[FloatArray]:
        """Coordinates, first axis of y, to parameters within their ranges."""
        return [
            np.where(v >= top, high, np.clip(np.exp(v) if log else v, low, high))
            for v, top, log, (low, high) in zip(y, self.high, self.log, self.ends, strict=True)
        ]

    def solve_at(self, values: Sequence[FloatArray]) -> Solution:
        searched = dict(zip(self.names, values, strict=True))
        fields = {k: v for k, v in searched.items() if k not in ("lam", "alpha")}
        model = with_fields(self.model, fields)
        point = {**self.fixed, **searched}
        return solve(
            model, point["alpha"], point["lam"], d=point.get("d"), errors="record", **self.settings
        )

    def solve(self, y: FloatArray) -> Solution:
        return self.solve_at(self.values(y))

    def error(self, y: FloatArray) -> FloatArray:
        error = np.asarray(getattr(self.solve(y), self.of))
        error = np.where(np.isfinite(error), error, np.inf)
        self.note(y, error)
        return error

    def slope(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Error and its derivatives in the coordinates, these on the first axis."""
        solution = self.solve(y)
        raw = gradient(solution, self.names, [self.of], self.settings.get("n_threads"))
        slopes = [
            np.asarray(raw[self.of, name]) * (value if log else 1.0)
            for name, value, log in zip(self.names, self.values(y), self.log, strict=True)
        ]
        error = np.asarray(getattr(solution, self.of))
        error = np.where(np.isfinite(error), error, np.inf)
        self.note(y, error)
        return error, np.stack(slopes)

    def least(self) -> FloatArray:
        """Return the least error, not a number where the search failed."""
        best = _minimise(self)
        error = self.solve_at(
            [
                np.where(best.converged, value, low)
                for value, low in zip(best.values, self.ends[:, 0], strict=True)
            ]
        ).test_error
        return np.where(best.converged, error, np.nan)

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


def _search(problem: _Problem, largest: bool = False, places: int | None = None) -> _Best:
    """Search in the core: the least error, or its largest value inside the range."""
    model, names, shape = problem.model, problem.names, problem.shape
    own = [i for i, name in enumerate(names) if name not in _LINES]
    line = [i for i, name in enumerate(names) if name in _LINES]
    inner = [(_LINES[names[i]], problem.axis(i, places or _PLACES[1], 0.6, 400)) for i in line]
    outer_places = _PLACES[max(1, len(own))]
    if isinstance(model, OneStep) and own:
        fields: tuple[str, ...] = ("eta", "alpha0")
        searched = {name for name in fields if name in names}
        eta, alpha0 = (0.0 if n in searched else getattr(model, n) for n in fields)
        sets = (np.asarray(eta), np.asarray(alpha0), np.asarray(model.noise))
        moments = step_moments(model)
        coefficients = [
            model.readout[0],
            moments.h1,
            moments.curved,
            moments.h2 * moments.u1,
            moments.u2,
            moments.target_h1,
        ]
        fields_of = (sets[0][..., np.newaxis], sets[1][..., np.newaxis], sets[2])
        (r, c, gamma), index = coefficient_sets(fields_of, shape)
        table, alignments = np.column_stack([r.ravel(), c.ravel(), gamma]), np.zeros(len(gamma))
        if model.directions > 1:
            alignments = np.tile(moments.direction, (len(gamma), 1))
    else:
        fields = ("r",)
        unit = with_fields(model, {"r": 0.0}) if own else model
        spikes = spike_sets(unit, shape)
        gamma, alignments, index = spikes.gamma, spikes.gamma, spikes.of_point
        if gamma.ndim > 1:
            gamma = np.minimum(np.linalg.norm(gamma, axis=-1), 1.0)
        table = np.column_stack([spikes.r, spikes.c, gamma])
        coefficients = [model.readout[0] if own else 1.0]
    points = {"alpha": 1.0, "lam": 1.0, "d": np.inf, **model.numeric, **problem.fixed}
    raw = _core.optimum(
        compiled(model.activation),
        compiled(model.target) if model.directions == 1 else target_of(model),
        coefficients,
        table,
        index,
        *columns(points, shape),
        int(np.prod(shape, dtype=np.int64)),
        inner,
        [(fields.index(names[i]), problem.axis(i, outer_places, 0.8, 49)) for i in own],
        largest,
        problem.settings["n_threads"],
        alignments,
    )
    rows = dict(zip([*line, *own], raw["values"], strict=True))
    return _Best(
        [rows[i].reshape(shape) for i in range(len(names))],
        (raw["status"] == Status.CONVERGED).reshape(shape),
        raw["n_minima"].reshape(shape),
        raw["n_failed"].reshape(shape),
    )


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
    done = at_end | flat | ~np.isfinite(s_low) | ~np.isfinite(s_high)
    y = np.where(done, np.where(at_end, here, end), 0.5 * (low + high))
    y, converged = _root(
        lambda y: problem.slope(y[np.newaxis])[1][0],
        (low, high),
        (s_low, s_high),
        y,
        done,
        lambda s, width, moved: (width < 1e-11) | (moved < 1e-9) | (s == 0),
    )
    return y, converged | ((at_end | flat) & np.isfinite(slope))


def _root(
    function: Callable[[FloatArray], FloatArray],
    bracket: tuple[FloatArray, FloatArray],
    values: tuple[FloatArray, FloatArray],
    y: FloatArray,
    done: NDArray[np.bool_],
    close: Callable[[FloatArray, FloatArray, FloatArray], NDArray[np.bool_]],
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Find where a function rises through zero; what is ``done`` stays at y. And whether it did.

    ``close`` is asked with the value there, the width of the bracket and the last step.
    """
    (low, high), (w_low, w_high) = bracket, values
    previous, moved = np.zeros_like(low), np.full_like(low, np.inf)
    converged = np.zeros_like(done)
    for iteration in range(60):
        if done.all():
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            guess = (low * w_high - high * w_low) / (w_high - w_low)
        outside = ~((guess > low) & (guess < high)) | (iteration % 6 == 5)
        new = np.where(done, y, np.where(outside, 0.5 * (low + high), guess))
        s = function(new)
        moved, y = np.abs(new - y) if iteration else moved, new
        left, right = (s < 0) & ~done, (s >= 0) & ~done
        # Illinois: the value at an end that stays twice counts half
        w_high = np.where(right, s, np.where(left & (previous < 0), w_high / 2, w_high))
        w_low = np.where(left, s, np.where(right & (previous > 0), w_low / 2, w_low))
        low, high = np.where(left, new, low), np.where(right, new, high)
        previous = np.where(left, -1.0, 1.0)
        lost = ~np.isfinite(s)
        converged = converged | (close(s, high - low, moved) & ~done & ~lost)
        done = done | converged | lost
    return y, converged


def _zoomed(
    problem: _Problem, axis: FloatArray, start: NDArray[np.int64]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Minimise along one coordinate near grid points, where no derivative is to be had.

    Ever finer grids, each one call of the solver, so that what does not change is computed once;
    then the root of the derivative from differences of eighth order over a wide stencil, good to
    some 1e-9. Where they fail finer grids still, to the 1e-7 at which rounding hides the shape.
    """
    low, high = axis[np.maximum(start - 1, 0)], axis[np.minimum(start + 1, axis.size - 1)]
    lead = (-1, *(1,) * low.ndim)

    def narrow(low: FloatArray, high: FloatArray) -> tuple[FloatArray, ...]:
        share = np.linspace(0, 1, 13).reshape(lead)
        y = low + share * (high - low)
        y[-1] = high
        error = problem.error(y[np.newaxis])
        best = error.argmin(axis=0)[np.newaxis]

        def at(i: NDArray[np.int64]) -> FloatArray:
            picked = np.take_along_axis(y, np.clip(i, 0, 12), axis=0)
            return picked.reshape(low.shape)

        return at(best - 1), at(best + 1), at(best), error.min(axis=0)

    for _ in range(3):
        low, high, best, error = narrow(low, high)
    room = np.minimum(best - problem.low[0], problem.high[0] - best)
    inside = room > 0
    h = np.where(inside, np.minimum(0.25 * (axis[1] - axis[0]), 0.2 * room), 0.0)
    polished, good = best, inside
    for _ in range(3):
        y = polished + h * np.arange(-4, 5).reshape(lead)
        e = problem.error(y[np.newaxis])
        with np.errstate(invalid="ignore", divide="ignore"):
            odd = [e[4 + j] - e[4 - j] for j in (1, 2, 3, 4)]
            even = [e[4 + j] + e[4 - j] - 2 * e[4] for j in (1, 2, 3, 4)]
            second = sum(c * x for c, x in zip(_SECOND, even, strict=True))
            step = -h * sum(c * x for c, x in zip(EIGHTH, odd, strict=True)) / second
        good = good & (second > 0) & (np.abs(step) < h)
        polished = polished + np.where(good, step, 0.0)
    at_polished = problem.error(polished[np.newaxis])
    good = good & (at_polished <= error * (1 + 1e-12))
    if not np.all(good | ~inside):
        for _ in range(6):
            low, high, best, error = narrow(low, high)
    return np.where(good, polished, best), np.isfinite(error)


#: Weights of f(x + j h) + f(x - j h) - 2 f(x), j = 1, .., in h^2 f''.
_SECOND = (8 / 5, -1 / 5, 8 / 315, -1 / 560)


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


@check.public
def optimal(
    model: Model,
    over: Mapping[str, tuple[float, float]],
    *,
    alpha: ArrayLike | None = None,
    lam: ArrayLike | None = None,
    d: ArrayLike | None = None,
    bulk: Any = "isotropic",
    loss: Loss = "square",
    of: str = "test_error",
    n_threads: int | None = None,
) -> xr.Dataset:
    """Find the parameter values of least test error, for every set of the others at once.

    A coarse grid over the ranges comes first, so that several local minima are found: 33 places a
    parameter, 13 for eta and alpha0 together, and more for a wide range. The lowest three minima
    are then followed to the root of the exact derivative, by a bracketing method in one parameter,
    by Newton's method within the box in eta and alpha0. Ranges of positive numbers are searched on
    a logarithmic scale. With lam among several parameters the others are searched for the least of
    the error at its best lam, whose derivative is that of the error at this lam.

    Parameters
    ----------
    model : SpikedRF, OneStep or MultiStep
        The model; its fields named in ``over`` are ignored.
    over : mapping
        Parameter -> (lowest, highest): ``"lam"``, of a SpikedRF ``"r"``, of a OneStep ``"eta"`` and
        ``"alpha0"``, of a MultiStep ``"eta1"``, ``"alpha0_1"`` and so on; up to four of them.
        Those of lam and of samples must be positive.
    alpha : float or array
        Samples over d, as in `solve`.
    lam : float or array, optional
        Ridge penalty, unless in ``over``.
    loss : str, Huber or Quantile
        The loss of the readout, as in `solve`.
    of : {"test_error", "test_loss", "classification_error"}
        What is to be least; the last with labels of +1 and -1 alone.
    d, bulk, n_threads
        As in `solve`. For several readout values, another loss, labels of +1 and -1, another bulk
        and ``lam=0`` the search is a slower one, by `Solution.gradient` where that is available;
        else one parameter is searched by ever finer grids and high-order differences, to some
        1e-8, and several are refused.

    Returns
    -------
    xarray.Dataset
        Over the dimensions of the remaining parameters: each optimised parameter, and under
        ``<name>_bound`` -1 or 1 where its optimum is the low or high end of its range, else 0;
        ``test_error`` and ``train_error`` there, with another loss or labels of +1 and -1 also
        ``train_loss``, ``test_loss`` and ``classification_error``; ``n_minima``, how many local
        minima the grid showed (with lam among several parameters, of the error at its best lam);
        ``n_failed``, how many solves of the grid did not converge; and ``status``. It is 0 where
        the search ended at a local minimum or a bound and saw no lower place anywhere. Elsewhere
        the values are those of the lowest place it saw, NaN if nothing was solved.

    Raises
    ------
    TypeError, ValueError
        An unknown parameter, an empty, reversed or invalid range, or another bad argument.
    NotImplementedError
        Several parameters where `Solution.gradient` is not available.

    Notes
    -----
    Without ``d`` the mean of the features costs no penalty, so that an activation with ``E sigma =
    0`` has an error that jumps at ``r = 0``. Where it is least next to the jump the optimum is a
    tiny r, with the limit's error; with ``d`` there is no jump.

    Examples
    --------
    >>> import srfx
    >>> best = srfx.optimal(srfx.OneStep(eta=2), over={"lam": (1e-6, 1e2)}, alpha=[0.5, 1, 2])
    >>> dict(best.sizes), best.lam_bound.values.tolist()
    ({'alpha': 3}, [0, 0, 0])
    """
    check_model(model, labelled=True, covers=covers(bulk), bulk=bulk)
    known = chosen(loss, model.labels, 1.0)
    errors = ("test_error", "test_loss", "classification_error")
    check.one_of("of", of, errors[: 3 if known.margin else 2])
    ranges = _ranges(model, over)
    problem = _problem(model, ranges, alpha, lam, d, bulk, n_threads, loss, of)
    best = _minimise(problem)
    # where nothing was solved any valid value does: what comes of it is left out
    values = [
        np.where(np.isnan(value), low, value)
        for value, low in zip(best.values, problem.ends[:, 0], strict=True)
    ]
    solution = problem.solve_at(values)
    good = ~np.isnan(best.values[0]) & np.asarray(solution.success)
    rows: dict[str, tuple[Any, str]] = {}
    for name, value, ends in zip(problem.names, values, problem.ends, strict=True):
        side = np.where(good, (value == ends[1]).astype(np.int8) - (value == ends[0]), 0)
        rows[name] = np.where(good, value, np.nan), f"best {name}"
        ends_meaning = "-1 at the low end of the range, 1 at the high end, 0 inside"
        rows[f"{name}_bound"] = side.astype(np.int8), ends_meaning
    for name in (*ERRORS, *solution.losses):
        rows[name] = np.where(good, getattr(solution, name), np.nan), name.replace("_", " ")
    rows["n_minima"] = np.asarray(best.n_minima).astype(np.int32), "local minima seen"
    failed = np.asarray(best.n_failed).astype(np.int32)
    rows["n_failed"] = failed, "solves of the grid that failed"
    status = np.where(best.converged, solution.status, Status.MAX_ITERATIONS).astype(np.int8)
    rows["status"] = status, "0 where the search converged"
    ds = _dataset(problem, rows)
    ds.status.attrs.update(status_flags())
    ds.attrs |= {f"{name}_range": list(ends) for name, ends in ranges.items()}
    return ds


def _dataset(problem: _Problem, rows: Mapping[str, tuple[Any, str]]) -> xr.Dataset:
    """Label results, each with its meaning, over the parameters that were not searched for."""
    import xarray as xr

    dims, coordinates = dimensions(problem.arguments, problem.shape)
    return xr.Dataset(
        {
            name: (dims, np.broadcast_to(values, problem.shape).copy(), {"long_name": meaning})
            for name, (values, meaning) in rows.items()
        },
        coords=coordinates,
        attrs=describe(problem.model, problem.settings["bulk"]),
    )


def _ranges(
    model: Model, over: object, role: str = "over", known: Sequence[str] | None = None
) -> dict[str, tuple[float, float]]:
    if known is None:
        own = [name for name in model.numeric_names if name.startswith(("r", "eta", "alpha0"))]
        known = ("lam", *own)
    if not isinstance(over, Mapping):
        raise TypeError(
            f"{role} must map parameters to ranges, as in {{'lam': (1e-6, 1e2)}}; got {over!r}"
        )
    if not over:
        raise ValueError(f"{role} must name at least one of {', '.join(known)}; got {over!r}")
    if len(over) > max(_SLOW_GRID):
        raise ValueError(f"{role} must name at most {max(_SLOW_GRID)} parameters; got {over!r}")
    ranges = {}
    for name, value in over.items():
        check.one_of(f"a parameter in {role}", name, known)
        what = f"{role}[{name!r}]"
        ends = check.vector(what, value, "a pair (lowest, highest) of finite numbers")
        positive = name in ("lam", "alpha", "beta", "c") or name.startswith("alpha0")
        if len(ends) != 2 or not ends[0] < ends[1]:
            raise ValueError(f"{what} must be a pair with lowest < highest; got {value!r}")
        if positive and ends[0] <= 0:
            raise ValueError(f"{what} must hold values > 0 only; got {value!r}")
        if name not in ("lam", "alpha"):
            for end in ends:
                with_fields(model, {name: end})  # refuses what the model refuses
        ranges[name] = (ends[0], ends[1])
    return ranges


def _problem(
    model: Model,
    ranges: Mapping[str, tuple[float, float]],
    alpha: object,
    lam: object,
    d: object,
    bulk: Any,
    n_threads: int | None,
    loss: Loss = "square",
    of: str = "test_error",
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
    # ridge regression's test loss is its test error and the noise
    ridge = loss == "square" and model.labels == "real"
    settings = {"bulk": bulk, "loss": loss, "n_threads": threads}
    problem = _Problem(model, ranges, fixed, settings, "test_error" if ridge else of)
    known = problem.compiled() or problem.differentiable()
    if len(ranges) > 1 and not known:
        raise NotImplementedError(
            "several parameters are optimised together where Solution.gradient is available in all "
            "of them, as for loss='square' on real labels with bulk='isotropic' at lam > 0; got "
            f"over={tuple(ranges)}, loss={loss_name(loss)!r}, labels={model.labels!r}, "
            f"readout={model.readout}, bulk={bulk!r}, lam={lam!r}: optimise over one, along an "
            "array of the others"
        )
    return problem


def _minimise(problem: _Problem) -> _Best:
    """Find the least error."""
    if problem.compiled():
        return _search(problem)
    k = len(problem.names)
    mesh, error = problem.grid(_SLOW_GRID[k])
    start, count = _local_minima(error, k)
    if k == 1:
        find = _bracketed if problem.differentiable() else _zoomed
        found, converged = find(problem, mesh[0], start)
        found = found[np.newaxis]
    else:
        found, converged = _descend(problem, mesh, start)
    value = np.where(converged, problem.error(found), np.inf)
    best = value.argmin(axis=0)[np.newaxis]
    y = np.take_along_axis(found, best[np.newaxis], axis=1)[:, 0]
    failed = np.isinf(error).reshape(-1, *problem.shape).sum(axis=0)
    assert problem.lowest is not None
    least, lowest = problem.lowest
    # what rounding and the choice of a quadrature rule leave does not make a place lower
    good = np.isfinite(least) & (value.min(axis=0) <= least + _LEVEL * np.abs(least))
    y = np.where(good, y, np.where(np.isfinite(least), lowest, np.nan))
    return _Best(problem.values(y), good, count, failed)


# --- thresholds ---


@check.public
def thresholds(
    model: Model,
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
        points. ``status`` is 0 where the search for a peak or a crossing converged, or saw none;
        elsewhere, or where none was seen but parts of the grid failed, it is 1.

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
    check_model(model, covers=covers(bulk), bulk=bulk)
    linear = floor_of(model.activation) == 0
    beta = np.asarray(model.beta)
    threshold = np.minimum(1.0, beta) if linear else beta
    at_threshold = {"interpolation": (threshold, "interpolation threshold in alpha")}
    if crossing is not None:
        problem, found, sign, count, status = _crossings(
            model, crossing, over, alpha, lam, d, bulk, n_threads
        )
        (name,) = problem.names
        rows = {
            name: (found, f"{name} where the linear floor is crossed"),
            "below": (sign, "1: the error is below the floor beyond"),
            "n_crossings": (count, "crossings seen on the grid"),
            "status": (status, "0 where the search converged"),
        }
        return _dataset(problem, rows if name == "beta" else rows | at_threshold)
    if over is not None or alpha is not None:
        raise ValueError("alpha and over belong to a crossing; got no crossing")
    if lam is None:
        import xarray as xr

        dims, coordinates = dimensions({"beta": model.beta}, beta.shape)
        variable = dims, threshold, {"long_name": "interpolation threshold"}
        return xr.Dataset({"interpolation": variable}, coordinates, describe(model, bulk))
    ends = (float(threshold.min()) / 30, float(threshold.max()) * 30)
    problem = _problem(model, {"alpha": ends}, None, lam, d, bulk, n_threads)
    peak, height, status = _peak(problem)
    rows = {
        "peak": (peak, "alpha at the peak of the test error"),
        "peak_error": (height, "test error at the peak"),
        "status": (status, "0 where the search for a peak converged"),
    }
    return _dataset(problem, at_threshold | rows)


class _Negative(_Problem):
    """The same with the sign of the error turned, for maxima."""

    def error(self, y: FloatArray) -> FloatArray:
        error = np.asarray(self.solve(y).test_error)
        return np.where(np.isfinite(error), -error, np.inf)

    def slope(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        error, slopes = super().slope(y)
        return -error, -slopes


def _peak(problem: _Problem) -> tuple[FloatArray, FloatArray, NDArray[np.int8]]:
    """Alpha and error at the largest interior local maximum of the error, NaN if none; status."""
    if problem.compiled():
        best = _search(problem, largest=True, places=241)
        (alpha,), good = best.values, best.converged
        failed = ~good & ((best.n_minima > 0) | (best.n_failed > 0))
    else:
        (ends,) = problem.ends.tolist()
        turned = _Negative(problem.model, {"alpha": ends}, problem.fixed, problem.settings)
        mesh, error = turned.grid(241)
        failed = np.asarray(np.isinf(error).any(axis=0))
        inside = (error[1:-1] < error[:-2]) & (error[1:-1] < error[2:])
        error[[0, -1]] = np.inf  # an end is no peak
        error[1:-1] = np.where(inside, error[1:-1], np.inf)
        start = error.argmin(axis=0)[np.newaxis]
        find = _bracketed if turned.differentiable() else _zoomed
        found, converged = find(turned, mesh[0], start)
        seen = np.isfinite(error.min(axis=0))
        good = converged[0] & seen
        failed = ~good & (failed | seen)
        alpha = np.exp(found[0])
    solution = problem.solve_at([np.where(good, alpha, problem.ends[0, 0])])
    status = np.where(good, solution.status, np.where(failed, Status.MAX_ITERATIONS, 0))
    good = good & np.asarray(solution.success)
    height = np.where(good, solution.test_error, np.nan)
    return np.where(good, alpha, np.nan), height, status.astype(np.int8)


def _crossings(
    model: Model,
    crossing: Mapping[str, tuple[float, float]],
    over: Mapping[str, tuple[float, float]] | None,
    alpha: ArrayLike | None,
    lam: ArrayLike | None,
    d: ArrayLike | None,
    bulk: Any,
    n_threads: int | None,
) -> tuple[_Problem, FloatArray, NDArray[np.int8], NDArray[np.int32], NDArray[np.int8]]:
    """First crossing of the floor along one parameter, its sense, how many there are; status."""
    known = ("alpha", "lam", *model.numeric_names)
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
            changed = with_fields(model, {name: value})
        nested = _Problem(changed, inner, at, outer.settings)
        nested.shape = np.broadcast_shapes(y.shape, nested.shape)
        return nested.least() - floor

    n = 33
    axis = np.linspace(outer.low[0], outer.high[0], n)
    grid = np.stack([np.broadcast_to(excess(np.full(outer.shape, v)), outer.shape) for v in axis])
    known_at = np.isfinite(grid)
    change = ((grid[1:] > 0) != (grid[:-1] > 0)) & known_at[1:] & known_at[:-1]
    count = change.sum(axis=0).astype(np.int32)
    crossed = count > 0
    first = change.argmax(axis=0)
    low, high = axis[first], axis[first + 1]
    f_low = np.take_along_axis(grid, first[np.newaxis], axis=0)[0]
    f_high = np.take_along_axis(grid, first[np.newaxis] + 1, axis=0)[0]
    sense = np.where(crossed, np.where(f_low > 0, 1, -1), 0).astype(np.int8)
    rising = np.where(f_low > 0, -1.0, 1.0)
    middle, converged = _root(
        lambda y: rising * excess(y),
        (low, high),
        (rising * f_low, rising * f_high),
        low,
        ~crossed,
        lambda f, width, moved: (np.abs(f) < 1e-11 * floor) | (width < 1e-11),
    )
    (found,) = outer.values(middle[np.newaxis])
    doubtful = np.where(crossed, ~converged, ~known_at.all(axis=0))
    status = np.where(doubtful, Status.MAX_ITERATIONS, Status.CONVERGED).astype(np.int8)
    return outer, np.where(converged, found, np.nan), sense, count, status
