"""Exact asymptotics: validate, call the compiled core, wrap what it returns."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from srfx import _core, weights
from srfx import _validation as check
from srfx._points import columns, spike_sets, without_axes_of_one
from srfx.losses import Chosen, Loss, chosen
from srfx.models import (
    AnyTarget,
    FloatArray,
    Function,
    Model,
    MultiStep,
    OneStep,
    SpikedRF,
    as_target,
    check_model,
    compiled,
    floor_of,
    group_count,
    probabilities,
    spikes_of,
    warn_accuracy,
)
from srfx.readouts import check_readout, is_ridge, remedy, solve_readout
from srfx.results import LOSS_OBSERVABLES, OBSERVABLES, ConvergenceError, Solution, Status
from srfx.weights import EmpiricalBulk


def covers(bulk: object) -> tuple[str, ...]:
    """Say what a bulk covers of the models with more than one direction, spike or step."""
    everything = ("directions", "spikes", "steps")
    if isinstance(bulk, EmpiricalBulk):
        return everything
    return ("directions", "steps") if bulk in ("one_step", "multi_step") else everything


@check.public
def solve(
    model: Model,
    alpha: ArrayLike,
    lam: ArrayLike,
    *,
    d: ArrayLike | None = None,
    bulk: str | EmpiricalBulk = "isotropic",
    loss: Loss = "square",
    n_threads: int | None = None,
    errors: str = "raise",
) -> Solution:
    """Solve the asymptotic equations of a model: its test and training errors, exact for large d.

    The numeric fields of the model, alpha, lam and d broadcast by NumPy's rules; each point of the
    result is one solution of THEORY sections 3 to 6.

    Parameters
    ----------
    model : SpikedRF, OneStep or MultiStep
        The model; a OneStep or a MultiStep is solved through the map of its ``equivalent``. K
        groups of neurons, of several readout values or rows of ``spikes``, are solved for together
        (THEORY section 7), K up to 32. A target may have several directions, and there may be
        several spikes, whose rows span up to 3 directions (THEORY section 13), with an isotropic
        bulk.
    alpha : float or array
        Sample complexity n/d of the readout, > 0.
    lam : float or array
        Ridge penalty, >= 0: the readout minimises ``sum_mu (y_mu - f(x_mu))^2 + lam |a|^2``, where
        ``f(x) = a.phi(x)/sqrt(p)``. ``lam = 0`` is the ridgeless limit.
    d : float or array, optional
        Input dimension, >= 1: adds the leading 1/d correction (THEORY section 5). None, or inf: the
        limit.
    bulk : {"isotropic", "one_step", "multi_step"} or EmpiricalBulk
        ``"isotropic"``: the bulk of the spiked model, as in CPD24. ``"one_step"``: the anisotropic
        bulk of the actual one-step network and the spread of its row norms (THEORY sections 9 and
        10), for a `OneStep` and lam > 0, with several readout values only if the activation is odd
        or its derivative is ``h1 + h2 z`` plus an odd function (relu, gelu, softplus); test errors
        within about one per cent of simulated networks for alpha0 from 0.5 (less for odd
        activations) and d of some hundreds; even activations, such as abs, and larger steps on
        fewer samples take larger d (docs/accuracy.md). The target may have up to three directions
        then, if alpha0 is finite (THEORY section 14).
        ``"multi_step"``: the same for a `MultiStep`, with one readout value and finite alpha0
        (THEORY section 15); within about two per cent of simulated networks. An `EmpiricalBulk`:
        the very weights given; beta has to be theirs, d defaults to theirs, and the fields of the
        model that the weights supersede (eta and alpha0, or r, c and gamma) are not used.
    loss : str, Huber or Quantile
        What the readout minimises the sum of, beside ``lam |a|^2`` (THEORY section 19): "square",
        "absolute", ``srfx.Huber(delta)`` or ``srfx.Quantile(tau)`` of ``y - f``; for labels of +1
        and -1 (the model's ``labels``) "logistic", "hinge", "squared_hinge", "max_margin" (the
        limit of all three at lam -> 0 where the data are separable: the readout of largest margin,
        whatever lam), "square", "absolute" or ``srfx.Huber``. Any other than "square" with real
        labels takes lam > 0, and at most 32 readout values, 8 with ``bulk="one_step"``.
    n_threads : int, optional
        Threads, >= 1. None: all processors this process may use, and one inside an executor's
        worker. The result does not depend on it.
    errors : {"raise", "record"}
        What to do where no solution was found: raise, or return NaN there and say why in
        ``status``.

    Returns
    -------
    Solution
        Errors, order parameters and status, each of the broadcast shape; floats for scalar inputs.
        With several readout values the order parameters have group axes last.

    Raises
    ------
    ConvergenceError
        A point did not converge (with ``errors="raise"``); the exception carries the whole
        solution.
    TypeError, ValueError
        An argument is of the wrong type or out of range, or shapes do not broadcast.
    NotImplementedError
        Several readout values, directions, spikes or steps with a bulk that does not cover them.

    Warns
    -----
    AccuracyWarning
        The estimated quadrature error of a point exceeds 1e-8.
    ApproximationWarning
        Once per process with the isotropic bulk: see `OneStep.equivalent`.

    Notes
    -----
    With an anisotropic bulk the order parameters keep the unit-bulk convention: ``v1 = <D/S>`` and
    q1 refer to D = Omega/c of unit mean, theta and psi multiply ``k mu1`` and ``mu1`` with mu1 of
    section 2. (Sections 9 and 10 divide mu1 by sqrt(c); their theta and psi are sqrt(c) times
    these, their V1 and q1 c times.) The residual covers the bulk's own equations and the energy
    identity.

    Examples
    --------
    >>> import numpy as np, srfx
    >>> step = srfx.OneStep("tanh", "sin", eta=3, alpha0=0.25)
    >>> print(f"{srfx.solve(step, alpha=2, lam=0.1, bulk='one_step').test_error:.6f}")
    0.355300
    >>> print(f"{srfx.solve(step, alpha=2, lam=0.1).test_error:.6f}")
    0.315049
    >>> model = srfx.OneStep(activation="tanh", target="sin", eta=3, alpha0=20)
    >>> sol = srfx.solve(model, alpha=3, lam=0.1)
    >>> print(f"{sol.test_error:.10f}")
    0.0325182080
    >>> sol = srfx.solve(model, alpha=np.linspace(0.2, 3, 50), lam=np.logspace(-4, 1, 30)[:, None])
    >>> sol.test_error.shape
    (30, 50)
    """
    check_model(model, labelled=True, covers=covers(bulk), bulk=bulk)
    alpha_values = check.positive("alpha", alpha)
    lam_values = check.non_negative("lam", lam)
    readout = check_readout(model, loss, lam_values, bulk)
    d_values = None if d is None else check.dimension("d", d)
    weights.check_bulk(model, bulk, lam_values)
    check.one_of("errors", errors, ("raise", "record"))
    threads = check.thread_count(n_threads)
    if isinstance(bulk, EmpiricalBulk):
        d_values = weights.dimension_of(bulk, d_values)
        weights.check_weights(model, bulk)
    elif d_values is None:
        d_values = np.inf
    numeric = weights.inputs_of(model.numeric, bulk)
    arguments = {**numeric, "lam": lam_values, "alpha": alpha_values, "d": d_values}
    shape = check.common_shape(arguments)
    check_size(shape, group_count(model))
    if not is_ridge(model, readout):
        raw = solve_readout(model, bulk, readout, arguments, shape, threads)
        return _wrap(model, bulk, arguments, shape, raw, errors, readout)
    if bulk != "isotropic":
        raw = weights.solve_bulk(model, bulk, arguments, shape, threads)
        return _wrap(model, bulk, arguments, shape, raw, errors)

    sets = spike_sets(model, shape)
    points = (sets.of_point, *columns(arguments, shape), math.prod(shape), threads)
    functions = (compiled(model.activation), sets.target)
    spikes = (sets.r, sets.c, sets.gamma)
    if sets.alone:
        raw = _core.solve(*functions, *spikes, *points)
    else:
        shares = np.asarray(probabilities(model))
        raw = without_axes_of_one(_core.solve_groups(*functions, *spikes, shares, *points))
    return _wrap(model, bulk, arguments, shape, raw, errors)


def _wrap(
    model: Model,
    bulk: str | EmpiricalBulk,
    arguments: dict[str, float | FloatArray],
    shape: tuple[int, ...],
    raw: dict[str, NDArray[Any]],
    errors: str,
    readout: Chosen | None = None,
) -> Solution:
    """Make a Solution of what the core returned; warn and raise where that is due."""
    results: dict[str, Any] = {
        name: raw[name].reshape(shape + raw[name].shape[1:])[()] for name in OBSERVABLES
    }
    if not shape:
        results["status"] = Status(int(results["status"]))
        results["iterations"] = int(results["iterations"])
    if readout:
        results["loss"] = readout.loss
        results["losses"] = {
            name: raw[name].reshape(shape)[()]
            for name in LOSS_OBSERVABLES
            if name != "classification_error" or readout.margin
        }
    solution = Solution(
        model=model,
        bulk=bulk if isinstance(bulk, str) else "empirical",
        arguments=arguments,
        weights=None if isinstance(bulk, str) else bulk,
        **results,
    )
    converged = raw["status"] == Status.CONVERGED
    accuracy = np.max(raw["quadrature_error"], initial=0.0, where=converged)
    warn_accuracy(float(accuracy), "the solution", model.activation, model.target)
    if errors == "raise" and not np.all(solution.success):
        raise ConvergenceError(_failure_message(solution), solution)
    return solution


def check_size(shape: tuple[int, ...], k: int) -> None:
    """Refuse more points, of k readout values, than fit into memory."""
    points = math.prod(shape)
    check.memory(f"{points} points, of shape {shape},", 8.0 * points * (14 + 5 * k + 2 * k * k))


def _failure_message(solution: Solution) -> str:
    """How many points failed, the first of them, and what to do about it."""
    failed = ~np.ravel(np.asarray(solution.success))
    first = int(np.argmax(failed))
    at = solution.at(first)
    status = Status(int(np.ravel(np.asarray(solution.status))[first]))
    where = ", ".join(f"{k}={v:.10g}" for k, v in at.items() if not (k == "d" and v == np.inf))
    points = "point" if solution.size == 1 else "points"
    return (
        f"{int(failed.sum())} of {solution.size} {points} did not converge; the first, at {where}: "
        f"{status.name.lower()}. "
        f"{_remedy(status, at, solution)}"
    )


def _remedy(status: Status, at: dict[str, float], solution: Solution) -> str:
    model = solution.model
    readout = chosen(solution.loss, model.labels, at["lam"])
    if not is_ridge(model, readout) and status is not Status.NON_FINITE:
        advice = remedy(readout, model, status.name.lower(), at)
        if advice:
            return advice
    activation, several = model.activation, group_count(model) > 1
    ridgeless = at["lam"] == 0 and status in (Status.DIVERGED, Status.NON_FINITE)
    # a linear activation has features of rank min(d, p), any other of rank p
    linear = ridgeless and floor_of(activation) == 0
    threshold = min(1.0, at["beta"]) if linear else at["beta"]
    if ridgeless and at["alpha"] < threshold * (1 - 1e-9):
        return (
            "The ridgeless limit is infinite there: it is dominated by |k| > 6, values of the "
            "projection on the spike which no simulation ever draws. Use lam > 0."
        )
    if ridgeless and at["alpha"] <= threshold * (1 + 1e-9):
        return (
            f"The ridgeless limit diverges at the interpolation threshold alpha = {threshold:g}: "
            "use lam > 0, or move alpha off it."
        )
    if status is Status.NON_FINITE:
        return (
            "Numbers overflowed: rescale the activation or the target to order one (sigma -> s "
            "sigma with lam -> s^2 lam changes nothing), or use less extreme parameters"
            f"{', weights of the readout values among them' if several else ''}."
        )
    groups = "readout values that differ more and weights that differ less, " if several else ""
    size = "a smaller d or d=None, " if at["d"] > 1e9 and at["d"] != np.inf else ""
    return (
        f"Use {size}{groups}a larger lam or less extreme alpha and beta; errors='record' returns "
        "the points that did converge."
    )


class Bounds(NamedTuple):
    """Bounds of the test error; see `bounds`."""

    lower: Any
    upper: Any


@check.public
def bounds(model: Model, *, n_threads: int | None = None) -> Bounds:
    """Bound the test error from below for all alpha, beta and lam, and from above at many samples.

    ``lower`` is ``min over (m, theta, psi) of E (s* - m mu0 - mu1 (k theta + psi z))^2``: at d =
    inf no alpha, beta or lam does better. ``upper`` is ``min over m of E (s* - m mu0)^2``: as alpha
    -> inf the test error does not exceed it. Of several readout values m, theta and psi are
    vectors, and singular values below 1e-10 of the largest are dropped. Source: CPD24 figure 3;
    THEORY sections 6 and 7.

    Parameters
    ----------
    model : SpikedRF, OneStep or MultiStep
        The model; beta does not matter, and noise only as far as it enters `OneStep.equivalent`.
    n_threads : int, optional
        Threads, as in `solve`.

    Returns
    -------
    Bounds
        A named tuple ``(lower, upper)``; each has the shape of r, c and gamma broadcast together
        (for a OneStep: eta, alpha0 and noise).

    Raises
    ------
    TypeError, ValueError, NotImplementedError
        As `solve`.

    Examples
    --------
    >>> import srfx
    >>> lower, upper = srfx.bounds(srfx.SpikedRF("tanh", "sin", r=0.9, gamma=1.0))
    >>> print(f"{lower:.8f} {upper:.8f}")
    0.00166905 0.02910490
    """
    check_model(model, covers=covers("isotropic"))
    threads = check.thread_count(n_threads)
    rows, c, alignment = spikes_of(model)
    shape = np.broadcast_shapes(rows.shape[:-2], c.shape[:-1], alignment.shape[:-2])
    k = group_count(model)
    check_size(shape, k)
    sets = spike_sets(model, shape)
    functions = (compiled(model.activation), sets.target)
    if sets.alone and sets.gamma.ndim == 1:
        activation, target = compiled(model.activation), compiled(model.target)
        raw = _core.bounds(activation, target, sets.r, sets.c, sets.gamma, threads)
    else:
        r, gamma = sets.r, sets.gamma
        if sets.alone:
            r, gamma = r[:, np.newaxis, np.newaxis], gamma[..., np.newaxis]
        shares = np.asarray(probabilities(model))
        raw = _core.group_bounds(*functions, r, sets.c.reshape(-1, k), gamma, shares, threads)
    index = sets.of_point
    error = float(np.max(raw["error"], initial=0.0))
    warn_accuracy(error, "the bounds", model.activation, model.target)
    lower, upper = (
        np.broadcast_to(raw[name][index], math.prod(shape)).reshape(shape).copy()[()]
        for name in ("lower", "upper")
    )
    return Bounds(lower, upper)


@check.public
def linear_floor(target: AnyTarget | Function | Model) -> float:
    """Compute the least test error that kernel and linear methods reach when n is of order d.

    ``E[s*^2] - E[s*]^2 - sum_l E[t_l s*]^2`` with t ~ N(0, I); THEORY sections 1 and 13.

    Parameters
    ----------
    target : str, callable, Activation, Target or model
        The target, or a model whose target is meant.

    Returns
    -------
    float
        The floor, noise-free.

    Raises
    ------
    TypeError, ValueError
        Not a known name or a valid callable.

    Examples
    --------
    >>> import srfx
    >>> print(f"{srfx.linear_floor('sin'):.8f}")
    0.06445292
    """
    if isinstance(target, (SpikedRF, OneStep, MultiStep)):
        target = target.target
    return floor_of(as_target("target", target))


@check.public
def learned_function(
    model: Model,
    alpha: ArrayLike,
    lam: ArrayLike,
    t: ArrayLike,
    *,
    d: ArrayLike | None = None,
    bulk: str | EmpiricalBulk = "isotropic",
    loss: Loss = "square",
    n_threads: int | None = None,
) -> FloatArray:
    """Average the trained network over inputs with given projections on the target's directions.

    ``f(t) = E[f(x) | theta.x/sqrt(d) = t]``: what the network has made of ``sigma*(t)``.
    Source: CPD24 figure 1; THEORY sections 6 and 13. An anisotropic bulk adds the feature of the
    row norms, ``chi E[mu_c]`` (THEORY section 9 e).

    Parameters
    ----------
    model : SpikedRF, OneStep or MultiStep
        The model.
    alpha, lam, d, bulk, loss
        As in `solve`, which is called first.
    t : float or array
        Projections; any finite numbers. For a target of L directions of shape (.., L).
    n_threads : int, optional
        Threads, as in `solve`.

    Returns
    -------
    array
        Of shape ``solution.shape + t.shape``, the axis of directions of t left out.

    Raises
    ------
    ConvergenceError, TypeError, ValueError, NotImplementedError
        As `solve`.

    Examples
    --------
    >>> import srfx
    >>> model = srfx.SpikedRF("tanh", "sin", r=0.9, gamma=1.0)
    >>> srfx.learned_function(model, alpha=[0.5, 5], lam=0.1, t=[0, 1, 2]).round(4).shape
    (2, 3)
    """
    points = np.asarray(check.finite("t", t))
    check_model(model, labelled=True, covers=covers(bulk), bulk=bulk)
    if model.directions > 1:
        count = model.directions
        if points.shape[-1:] != (count,):
            raise ValueError(
                f"t must have one coordinate for each of the {count} directions of the target on "
                f"its last axis; got shape {points.shape}"
            )
        t_shape = points.shape[:-1]
    else:
        t_shape = points.shape
    solution = solve(model, alpha, lam, d=d, bulk=bulk, loss=loss, n_threads=n_threads)
    k, n = group_count(model), math.prod(t_shape)
    check.memory(f"{solution.size} points at {n} t", 16.0 * k * solution.size * n)
    threads = check.thread_count(n_threads)
    if bulk != "isotropic" and model.directions == 1:
        where = (solution.arguments, solution.shape, threads)
        readout = chosen(loss, model.labels, lam)
        if is_ridge(model, readout):
            raw = weights.solve_bulk(model, bulk, *where)
        else:
            raw = solve_readout(model, bulk, readout, *where)
        values = weights.learned(model, raw, points.ravel(), threads)
        return values.reshape(solution.shape + points.shape)[()]
    total = _learned(solution, points.reshape(n, model.directions), threads)
    return total.reshape(solution.shape + t_shape)[()]


def _learned(solution: Solution, t: FloatArray, threads: int) -> FloatArray:
    """Learned function at points t (n, L), of shape (points, n) (THEORY section 13).

    Given t, kap_g = R_g.k and l = theta.k + psi.z are Gaussian, and with sqrt(c) zeta they make one
    Gaussian x = mean + s Z, of which l and zeta have their shares: with E Z^i sigma(x) = M_i,
    ``f = m M_0 + E[l] sqrt(c) M_1/s + sqrt(c) Cov(l, kap) (M_2 - M_0)/s^2``, and after a step whose
    bulk is its own ``chi (M_2 - M_0)/(2 s^2)``.
    """
    model, shape = solution.model, solution.shape
    chi: FloatArray = np.zeros(1)
    if solution.bulk == "isotropic":
        rows, c, alignment = spikes_of(model)
    else:
        bulk = solution.bulk if solution.weights is None else solution.weights
        where = (solution.arguments, shape, threads)
        readout = chosen(solution.loss, model.labels, 1.0)
        if is_ridge(model, readout):
            raw = weights.solve_bulk(model, bulk, *where)
        else:
            raw = solve_readout(model, bulk, readout, *where)
        k = group_count(model)
        rows, c = raw["r"].reshape(*shape, k, 1), raw["c"].reshape(*shape, k)
        alignment, chi = raw["gamma"].reshape(*shape, -1, 1), raw["chi"].reshape(-1, k)
    (k, q), count = rows.shape[-2:], alignment.shape[-2]

    def full(value: FloatArray, *own: int) -> FloatArray:
        return np.broadcast_to(value, (*shape, *own)).reshape(solution.size, *own)

    m = np.reshape(solution.m, (solution.size, k))
    theta = np.reshape(solution.theta, (solution.size, k, q))
    psi = np.reshape(solution.psi, (solution.size, k, count))
    rows, c, alignment = full(rows, k, q), full(c, k), full(alignment, count, q)
    if q > 1:  # only what the rows span of the spikes is read
        _, s, vt = np.linalg.svd(rows, full_matrices=False)
        kept = (s > 1e-10 * s[:, :1]).astype(float)
        span = np.einsum("bsi,bs,bsj->bij", vt, kept, vt)
        alignment, theta = alignment @ span, theta @ span
    # P^(-1/2), where the spikes leave anything of a direction
    values, vectors = np.linalg.eigh(np.eye(count) - alignment @ alignment.transpose(0, 2, 1))
    inverse = np.where(values > 1e-12, 1 / np.sqrt(np.where(values > 1e-12, values, 1)), 0.0)
    across = psi @ ((vectors * inverse[:, np.newaxis]) @ vectors.transpose(0, 2, 1))
    along = theta - across @ alignment
    left = rows - rows @ (alignment.transpose(0, 2, 1) @ alignment)  # R (I - Gamma^T Gamma)
    sd, s = np.sqrt(c), np.sqrt(np.maximum(np.sum(left * rows, axis=-1), 0) + c)
    mean = (rows @ alignment.transpose(0, 2, 1)) @ t.T
    first = ((along @ alignment.transpose(0, 2, 1) + across) @ t.T) * (sd / s)[..., np.newaxis]
    second = (np.sum(along * left, axis=-1) * sd + chi / 2) / s**2
    learned: FloatArray = _core.learned_points(
        compiled(model.activation),
        s.ravel(),
        m.ravel(),
        second.ravel(),
        mean.reshape(solution.size * k, len(t)),
        first.reshape(solution.size * k, len(t)),
        threads,
    )
    total: FloatArray = learned.reshape(solution.size, k, len(t)).sum(axis=1)
    return total
