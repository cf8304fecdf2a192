"""Derivatives of the errors: of a solution by implicit differentiation, or by differences.

The core differentiates the equations wherever it knows how everything moves. What is left, several
steps in what they are made of above all, is taken from solutions beside the one at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from srfx import _core, weights
from srfx import _validation as check
from srfx._points import coefficient_sets, columns, distinct, spike_sets
from srfx.losses import Chosen, chosen
from srfx.models import (
    FloatArray,
    Model,
    MultiStep,
    OneStep,
    SpikedRF,
    compiled,
    group_count,
    groups_of,
    layout,
    probabilities,
    quiet,
    spikes_of,
    step_moments,
    target_of,
    with_fields,
)
from srfx.readouts import is_ridge, solve_readout
from srfx.results import ERRORS, Solution
from srfx.theory import solve

#: Directions of the core, in its order.
_CORE = ("lam", "alpha", "beta", "noise", "r", "c", "gamma")
#: Those for the actual step and given weights.
_STEP = ("lam", "alpha", "beta", "noise", "eta", "inverse alpha0")


def gradient(
    solution: Solution, names: Sequence[str], of: Sequence[str], n_threads: int | None
) -> dict[tuple[str, str], FloatArray]:
    """Differentiate a solution: (error, parameter) -> values; see `Solution.gradient`."""
    model = solution.model
    known = ("lam", "alpha", *model.numeric_names)
    for name in names:
        steps = isinstance(model, MultiStep) and name not in known
        check.one_of("name", name, ("lam", "alpha", "beta") if steps else known)
    known_loss = chosen(solution.loss, model.labels, 1.0)
    ridge = is_ridge(model, known_loss)
    for name in of:
        check.one_of("of", name, ERRORS if ridge else _OF_LOSS[: 4 if known_loss.margin else 3])
    threads = check.thread_count(n_threads)
    if solution.bulk == "empirical":
        for name in names:
            check.one_of("name", name, ("lam", "alpha", "noise"))  # the rest is the weights'
    lam = solution.arguments["lam"]
    if ridge and np.any(np.isinf(solution.v2)):
        raise NotImplementedError(
            "gradient is not available in the ridgeless limit at or below the interpolation "
            f"threshold, where V is infinite; use a small lam > 0; got lam={lam!r}"
        )
    out: dict[tuple[str, str], FloatArray] = {}
    exact = []
    for name in names:
        if _is_exact(solution, name, ridge):
            exact.append(name)
        else:
            out |= _by_differences(solution, name, of, threads)
    if not exact:
        return out
    if not ridge:
        return out | _of_loss(solution, known_loss, exact, of, threads)
    ways = {"one": _along, "groups": _along_groups, "spikes": _along_spikes}
    along = ways[layout(model)]
    if solution.bulk != "isotropic":
        along = _along_step
    raw = along(solution, exact, threads)
    jumps = {name: _jumps(solution, name, threads) for name in exact}
    return out | {
        (error, name): np.where(jumps[name], np.nan, raw[error, name])[()]
        for error in of
        for name in exact
    }


def _is_exact(solution: Solution, name: str, ridge: bool) -> bool:
    """Whether the core differentiates the equations in a parameter."""
    model, bulk = solution.model, solution.bulk
    if not ridge:
        return name in ("lam", "alpha")
    if bulk == "empirical":
        return True
    if bulk == "one_step" and len(model.readout) > 1:
        return False
    if name in ("lam", "alpha", "beta"):
        return True
    if isinstance(model, MultiStep):
        return False
    several = layout(model) == "spikes"
    if several and isinstance(model, OneStep) and name in ("alpha0", "noise"):
        return False  # the spike turns among the directions of the target
    if several and name in ("r", "eta"):
        # groups without a spike have no direction to grow in
        rows, _, _ = spikes_of(model)
        return bool(np.all(np.any(rows != 0, axis=-1)))
    # without a step the layers of several directions have no frame
    assert isinstance(model, (SpikedRF, OneStep))
    framed = bulk == "one_step" and weights.in_layers(model) and name == "eta"
    return not (framed and np.any(np.asarray(model.numeric["eta"]) == 0))


#: Central differences of the first derivative: weights of f(x + j h) - f(x - j h), j = 1, .., by
#: order; and of f(x + j h) + f(x - j h) for what they say of f(x).
EIGHTH, _SIXTH = (4 / 5, -1 / 5, 4 / 105, -1 / 280), (3 / 4, -3 / 20, 1 / 60, 0)
_MIDDLE = (4 / 5, -2 / 5, 4 / 35, -1 / 70)


def _by_differences(
    solution: Solution, name: str, of: Sequence[str], threads: int
) -> dict[tuple[str, str], FloatArray]:
    """Differentiate by differences of eighth order, of steps that shrink until they agree.

    The coordinate is the logarithm of what has to be positive, and the noise itself, from the
    inside where there is little. Where the error at the point is not what lies between those
    beside it, it jumps there.
    """
    here, shape = np.array(solution.inputs[name], dtype=np.float64), solution.shape
    if name.startswith("alpha0") and np.any(here == 0):
        raise ValueError(
            f"{name} must be > 0 for a derivative in it: 0 means no step, which no small value "
            f"comes near; got {solution.arguments[name]!r}"
        )
    positive = name not in ("r", "gamma", "noise") and not name.startswith("eta")
    scale = np.ones(shape) if positive else np.maximum(np.abs(here), 0.3)
    if name == "noise":
        scale = np.maximum(here, np.minimum(0.3, np.asarray(solution.test_error)))
    offsets = np.array([1, 2, 3, 4, -1, -2, -3, -4])
    inside = name == "noise" and bool(np.any(here < 0.2 * scale))
    if inside or (name == "gamma" and bool(np.any(np.abs(here) > 0.8))):
        offsets = np.arange(1, 9)
        scale = -np.copysign(scale, here) if name == "gamma" else scale
    central = offsets[-1] < 0
    ways = (
        [_stencil(EIGHTH), _stencil(_SIXTH)]
        if central
        else [np.concatenate([w, np.zeros(8 - len(w))]) for w in (_one_sided(8), _one_sided(7))]
    )
    power = 4 / 3 if central else 8 / 7  # of its error to that of the other
    lead = (-1, *(1,) * len(shape))
    best: dict[str, FloatArray] = {}
    spread: dict[str, FloatArray] = {}
    jumps: dict[str, NDArray[np.bool_]] = {}
    for h in (0.04, 0.01, 0.0025):
        moves = h * offsets.reshape(lead)
        places = here * np.exp(moves) if positive else here + moves * scale
        with quiet():
            beside = _solved_at(solution, name, places, threads)
        done = True
        for error in of:
            middle = np.asarray(getattr(solution, error))
            values = np.asarray(getattr(beside, error))
            with np.errstate(all="ignore"):
                change = values - middle
                one, other = (np.tensordot(w, change, 1) / h for w in ways)
                # what the better stencil leaves open, and what rounding does
                size = np.abs(middle) + np.abs(one)
                apart = size * (np.abs(one - other) / size) ** power + 1e-13 * size / h
                if central:
                    between = np.tensordot(np.repeat([_MIDDLE], 2, axis=0).ravel(), change, 1)
                    jumps[error] = np.abs(between) > 1e-5 * np.abs(middle)
            apart = np.where(np.isfinite(apart), apart, np.inf)
            better = apart < spread.get(error, np.full(shape, np.inf))
            best[error] = np.where(better, one, best.get(error, np.full(shape, np.nan)))
            spread[error] = np.where(better, apart, spread.get(error, np.inf))
            good = spread[error] <= 1e-9 * size
            done = done and bool(np.all(good | ~np.isfinite(middle)))
        if done:
            break
    slope = np.where(np.isinf(here), np.inf, here) if positive else scale
    out = {}
    for error in of:
        value = np.where(np.isinf(slope), 0.0, best[error] / slope)
        value = np.where(jumps.get(error, False), np.nan, value)
        out[error, name] = np.where(np.isfinite(getattr(solution, error)), value, np.nan)[()]
    return out


def _stencil(half: Sequence[float]) -> FloatArray:
    return np.concatenate([half, np.negative(half)])


def _one_sided(n: int) -> FloatArray:
    """Weights of f(x + j h) - f(x), j = 1, .., n, in h f'(x)."""
    nodes = np.arange(1, n + 1, dtype=np.float64)
    out: FloatArray = np.linalg.solve(
        np.vander(nodes, n + 1, increasing=True)[:, 1:].T, np.eye(n)[0]
    )
    return out


def _solved_at(solution: Solution, name: str, places: FloatArray, threads: int) -> Solution:
    """Solve the same with another value of one parameter, along a new first axis."""
    model, given = solution.model, {k: solution.arguments[k] for k in ("alpha", "lam", "d")}
    if name in given:
        given[name] = places
    else:
        model = with_fields(model, {name: places})
    bulk = solution.bulk if solution.weights is None else solution.weights
    return solve(model, **given, bulk=bulk, loss=solution.loss, n_threads=threads, errors="record")


#: What is differentiated with another loss or labels, in the order of the core.
_OF_LOSS = ("train_loss", "test_loss", "test_error", "classification_error")


def _of_loss(
    solution: Solution, loss: Chosen, names: Sequence[str], of: Sequence[str], threads: int
) -> dict[tuple[str, str], FloatArray]:
    """Differentiate with another loss than the square, or labels, by Newton's Jacobian."""
    directions = ("lam", "alpha")
    bulk = solution.bulk if solution.weights is None else solution.weights
    raw = solve_readout(
        solution.model, bulk, loss, solution.arguments, solution.shape, threads, slopes=True
    )
    slopes = raw["slopes"].reshape(len(_OF_LOSS), len(directions), *solution.shape)
    return {
        (error, name): slopes[_OF_LOSS.index(error), directions.index(name)][()]
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
    model = with_fields(solution.model, {key: at[key] for key in solution.model.numeric_names})
    with quiet():
        beside = solve(
            model, at["alpha"], at["lam"], bulk=solution.bulk, n_threads=threads, errors="record"
        )
    error = np.asarray(solution.test_error)[doubtful]
    moved = np.abs(beside.test_error - error) > 1e-6 * error
    out = np.zeros(solution.shape, dtype=bool)
    out[doubtful] = moved
    return out


def _check_gamma(model: Model, gamma: FloatArray) -> None:
    smooth = gamma[np.abs(gamma) > 1 - 5e-9]
    kinks = target_of(model).kinks if model.directions > 1 else not compiled(model.target).smooth
    if smooth.size and kinks:
        raise NotImplementedError(
            "the derivative in gamma within 5e-9 of |gamma| = 1 needs a target without kinks; got "
            f"gamma={float(smooth.flat[0])!r}, target={model.target!r}"
        )


def _along_spikes(
    solution: Solution, names: Sequence[str], threads: int
) -> dict[tuple[str, str], FloatArray]:
    """Several groups beside several spikes or directions: what moves r moves all by one factor."""
    model, shape, k = solution.model, solution.shape, group_count(solution.model)
    rows, c, alignment = spikes_of(model)
    (q, count), n = (rows.shape[-1], alignment.shape[-2]), len(names)
    own = np.broadcast_shapes(rows.shape[:-2], c.shape[:-1], alignment.shape[:-2], shape)
    moves_r, moves_c, on_point = [], [], []
    for name in names:
        if isinstance(model, SpikedRF) and model.spikes is not None:
            chains: list[dict[str, float | FloatArray]] = [{name: 1.0}] * k
            strength = np.broadcast_to(np.asarray(model.r)[..., np.newaxis], (*own, k))
        else:
            chains = [_chain(model, name, a) for a in model.readout]
            strength = np.broadcast_to(rows[..., 0], (*own, k))
        by = [
            np.stack([np.broadcast_to(x.get(d, 0.0), own) for x in chains], axis=-1)
            for d in ("r", "c")
        ]
        moves_r.append(by[0] / np.where(strength == 0, 1, strength))
        moves_c.append(by[1])
        on_point.append(next((_CORE.index(d) for d in _CORE[:4] if d in chains[0]), -1))
    parts = [(rows, (k, q)), (c, (k,)), (alignment, (count, q))]
    parts += [(x, (k,)) for x in (*moves_r, *moves_c)]
    flat = [np.broadcast_to(x, (*own, *tail)).reshape(*own, -1) for x, tail in parts]
    widths = np.cumsum([x.shape[-1] for x in flat])[:-1]
    table, index = distinct([y for x in flat for y in np.moveaxis(x, -1, 0)], shape)
    pieces = np.split(table, widths, axis=1)
    sets = len(table)
    values = _core.gradient_groups(
        compiled(model.activation),
        target_of(model),
        pieces[0].reshape(sets, k, q),
        pieces[1],
        pieces[2].reshape(sets, count, q),
        np.asarray(probabilities(model)),
        np.stack(pieces[3 : 3 + n]),
        np.stack(pieces[3 + n :]),
        np.zeros((n, sets)),
        on_point,
        index,
        *columns(solution.arguments, shape),
        np.asarray(solution.v1).reshape(-1, k, k),
        np.asarray(solution.v2).reshape(-1, k),
        threads,
    )
    return _named(values, names, shape)


def _named(
    values: Sequence[FloatArray], names: Sequence[str], shape: tuple[int, ...]
) -> dict[tuple[str, str], FloatArray]:
    """Rows of the core, of both errors, by (error, name)."""
    return {
        (error, name): rows[i].reshape(shape)
        for error, rows in zip(ERRORS, values, strict=True)
        for i, name in enumerate(names)
    }


def _along(
    solution: Solution, names: Sequence[str], threads: int
) -> dict[tuple[str, str], FloatArray]:
    """One readout value: derivatives along the directions of the core, then the chain rule."""
    model, shape = solution.model, solution.shape
    chains = {name: _chain(model, name, model.readout[0]) for name in names}
    directions = [d for d in _CORE if any(d in chain for chain in chains.values())]
    sets = spike_sets(model, shape)
    if "gamma" in directions:
        gamma = sets.gamma
        _check_gamma(model, gamma if gamma.ndim == 1 else np.linalg.norm(gamma, axis=-1))
    values = _core.gradient(
        compiled(model.activation),
        sets.target,
        sets.r,
        sets.c,
        sets.gamma,
        sets.of_point,
        *columns(solution.arguments, shape),
        np.ravel(np.asarray(solution.v1)),
        np.ravel(np.asarray(solution.v2)),
        [_CORE.index(d) for d in directions],
        threads,
    )
    raw = _named(values, directions, shape)
    return {
        (error, name): sum((raw[error, d] * factor for d, factor in chain.items()), np.zeros(shape))
        for error in ERRORS
        for name, chain in chains.items()
    }


def _along_step(
    solution: Solution, names: Sequence[str], threads: int
) -> dict[tuple[str, str], FloatArray]:
    """Differentiate the actual step, or given weights, along the directions of the core."""
    model, shape = solution.model, solution.shape
    directions = ["inverse alpha0" if name == "alpha0" else name for name in names]
    if solution.bulk == "empirical":
        values = weights.weights_gradient(solution, [_STEP.index(d) for d in directions], threads)
    elif weights.in_layers(model):
        assert isinstance(model, (OneStep, MultiStep))
        values = weights.layers_gradient(solution, [_STEP.index(d) for d in directions], threads)
    else:
        assert isinstance(model, OneStep)
        if any("gamma" in _chain(model, name, model.readout[0]) for name in names):
            _check_gamma(model, _alignment(model))
        values = weights.step_gradient(solution, [_STEP.index(d) for d in directions], threads)
    out = _named(values, names, shape)
    for key in out:
        if key[1] == "alpha0":
            assert isinstance(model, OneStep)
            alpha0 = np.broadcast_to(np.asarray(model.alpha0), shape)
            still = np.isinf(alpha0) & np.isfinite(solution.v2)
            out[key] = np.where(still, 0.0, -out[key] / alpha0**2)
    return out


def _alignment(model: OneStep) -> FloatArray:
    """Gamma of the step (THEORY section 10), with no word on the isotropic bulk."""
    moments, alpha0 = step_moments(model), np.asarray(model.alpha0)
    stepped = alpha0 > 0
    share = (moments.u2 + model.noise) / np.where(stepped, alpha0, 1)
    length = np.sqrt(moments.target_h1**2 + np.where(stepped, share, 0))
    return np.where(length > 0, moments.target_h1 / np.where(length > 0, length, 1), 0.0)


def _along_groups(
    solution: Solution, names: Sequence[str], threads: int
) -> dict[tuple[str, str], FloatArray]:
    """Several readout values: one direction a name, along which r and c of all groups move."""
    model, shape, k = solution.model, solution.shape, len(solution.model.readout)
    assert not isinstance(model, MultiStep)
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

    sets, index = coefficient_sets((stacked(r, "r"), stacked(c, "c"), gamma), shape)
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
        *columns(solution.arguments, shape),
        np.asarray(solution.v1).reshape(-1, k, k),
        np.asarray(solution.v2).reshape(-1, k),
        threads,
    )
    return _named(values, names, shape)


def _chain(model: Model, name: str, a: float) -> dict[str, float | FloatArray]:
    """Give what a unit of a parameter does to those of the core: direction -> derivative.

    r and c are those of the neurons whose initial readout is a.
    """
    if isinstance(model, SpikedRF):
        return {name: {"r": a, "c": a * a}.get(name, 1.0)}
    if isinstance(model, MultiStep):
        return {name: 1.0}
    if name not in ("eta", "alpha0", "noise"):
        return {name: 1.0}
    assert isinstance(model, OneStep)
    h1, h2, curved, target_h1, u1, noiseless, _ = step_moments(model)
    u2 = noiseless + model.noise
    eta = a * np.asarray(model.eta)
    alpha0 = np.asarray(model.alpha0)
    if name == "alpha0" and np.any(alpha0 == 0):
        raise ValueError(
            "alpha0 must be > 0 for a derivative in it: alpha0 = 0 means no step, which no small "
            f"alpha0 comes near; got alpha0={model.alpha0!r}"
        )
    stepped = alpha0 > 0
    share = np.where(stepped, 1 / np.where(stepped, alpha0, 1.0), 0.0)  # 1/alpha0
    length = np.sqrt(target_h1**2 + u2 * share)
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
    turn = -target_h1 * moved / (2 * safe**3)
    if np.any(turn != 0):
        chain["gamma"] = turn
    if name == "noise":
        chain["noise"] = 1.0
    return chain
